//! Real Debian machines, real applications. Run by `scripts/test e2e`.

#![allow(clippy::disallowed_methods, reason = "a test runs programs and writes files")]

mod applications;
mod apt;
mod attacker;
mod authority;
mod backups;
mod backups_elsewhere;
mod backups_in_a_moment;
mod backups_of_writers;
mod bootstrap;
mod certificates;
mod daemon;
mod drills;
mod drills_of_rows;
mod faults;
mod fleet;
mod hostile;
#[cfg(feature = "testing")]
mod inside;
mod interrupted_orders;
mod isolation;
mod machine;
mod packages;
mod php;
mod repository;
mod storage;
#[cfg(feature = "testing")]
mod systemd;
mod upgrades;
mod upgrades_files;
mod user_data;
mod web;
mod wordpress;
mod writer;
