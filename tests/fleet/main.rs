//! A real controller on loopback: real TLS, a real database, the agent's own enrolment; and a client of the
//! protocol in place of the agent, which can say what an agent never would.

#![allow(clippy::disallowed_methods, reason = "tests ask the clock and write files")]

#[cfg(feature = "testing")]
mod agent;
mod client;
#[cfg(feature = "testing")]
mod delivery;
mod enrolment;
mod link;
mod operators;
#[cfg(feature = "testing")]
mod rotation;
mod stream;
mod world;
