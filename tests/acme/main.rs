//! The ordering of certificates against a scripted ACME server (RFC 8555, RFC 9773), and a year of it.
//!
//! [`ca`] is the authority itself: orders, limits, issuing. [`server`] speaks ACME over TLS for it, and breaks where
//! a test says; [`port`] is the same authority as the port, without a wire, for the year. [`contract`] holds both to
//! the same.
#![allow(clippy::disallowed_methods, reason = "tests write files")]

mod account;
mod ca;
mod contract;
mod faults;
mod internal;
mod interruptions;
mod issuing;
mod killed;
mod kinds;
mod names;
mod port;
mod server;
mod signed;
mod wire;
mod world;
mod year;
