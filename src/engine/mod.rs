//! One pass: observe, plan (pure), execute, observe again, report.
//!
//! Owns: order across kinds, execution, the journal. Never: names a kind outside [`plan`]'s cross-kind
//! rules; knows the ledger (the agent does). Start reading at [`pass::run`]: it is the whole flow.

pub mod consequence;
pub mod event;
pub mod execute;
pub mod journal;
pub mod observe;
pub mod pass;
pub mod plan;

pub use event::{Event, Events, Silent};
pub use observe::Observation;
pub use plan::{Plan, Step, StepId};
