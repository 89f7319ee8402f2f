#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests write files and run programs"))]
//! Socle: the free base under the servers of a small hosting association.
//!
//! One binary. `socle agent` brings one Debian server to its desired state and keeps it there;
//! `socle controller` holds the desired state of several and pushes it to them.
//!
//! # The map
//!
//! A module uses only what stands below it (`tests/layers.rs` checks this table).
//!
//! ```text
//! 5  main -> cli                  parse, call, print, exit code
//! 4  agent | controller           the two programs: ledger, reconciler, link | store, compose, push, API
//! 3  engine · wire                one pass: observe, plan (pure), execute, journal | messages, signatures, TLS
//! 2  resources · recipe           kinds: words, observe, diff (pure), apply · instance + recipe -> resources (pure)
//! 1  host                         ports and their real adapters: the only code with effects
//! 0  model · durable              pure types and validation | fsync, rename, generation directory + symlink swap, lock
//! ```
//!
//! # The flow
//!
//! A document (TOML) becomes valid in [`model::document`], resources in [`recipe`], a plan in
//! `engine::plan`, and effects in `engine::execute`. `engine::pass` reads top to bottom as the whole
//! of it: target, observe, plan, execute, observe and plan again, learn, report.

pub mod agent;
pub mod cli;
pub mod controller;
pub mod durable;
pub mod engine;
pub mod host;
pub mod model;
pub mod recipe;
pub mod resources;
pub mod telemetry;
pub mod wire;
