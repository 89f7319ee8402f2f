//! Certificates that are always there.
//!
//! Owns: what is due when ([`schedule`], pure), one order from its key to its place on disk ([`order`]), which
//! authority is asked ([`attempt`]), and the job over all certificates ([`keeper`]). Never: touches a web server;
//! what was committed is loaded by a pass. Start reading at [`Keeper::tend_all`].

mod attempt;
mod budget;
mod error;
pub mod internal;
pub mod keeper;
mod order;
pub mod precheck;
mod proofs;
pub mod record;
pub mod schedule;
pub mod serving;
mod standing;
pub mod tending;
mod wanted;
pub mod watch;

pub use crate::host::certificates as store;
pub use error::AttemptError;
pub use keeper::{Done, Keeper, KeeperError, Outcome, Parts, Patience};
pub use watch::{Act, NameProblem, SelfCheck, Watch};
