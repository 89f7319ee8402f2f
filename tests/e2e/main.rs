//! Real Debian machines, real applications. Run by `scripts/test e2e`.

#![allow(clippy::disallowed_methods, reason = "a test runs programs and writes files")]

mod applications;
mod apt;
mod daemon;
mod faults;
mod isolation;
mod machine;
mod upgrades;
mod web;
mod wordpress;
