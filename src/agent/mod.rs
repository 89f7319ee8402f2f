//! The agent: what it accepted, the loop that brings it about, and the local door.
//!
//! Owns: the ledger, tasks and shutdown. Never: contains a rule about a resource. Start reading at
//! [`reconcile::bring_about`].

pub mod backup;
pub mod certificates;
pub mod config;
pub mod daemon;
pub mod delivery;
mod dial;
pub mod door;
pub mod enrolment;
mod learn;
pub mod ledger;
pub mod link;
pub mod link_door;
pub mod outbox;
mod purge;
pub mod real;
pub mod reconcile;
pub mod relay;
pub mod secrets;
pub mod status;
mod target;
pub mod user_data;

pub use ledger::Ledger;
