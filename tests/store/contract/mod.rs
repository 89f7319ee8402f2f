//! What the store promises, whichever database it is on.

pub mod documents;
pub mod enrolment;
pub mod operators;
pub mod outbox;
pub mod presence;
pub mod upkeep;
