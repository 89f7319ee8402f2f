//! Stateful stand-ins for the real adapters, for tests: what one call does the next one sees.

pub mod accounts;
pub mod contract;
pub mod databases;
pub mod packages;
pub mod probes;
pub mod release;
pub mod web;
pub mod units;

pub use accounts::FakeAccounts;
pub use databases::FakeDatabases;
pub use packages::FakePackages;
pub use probes::FakeProbes;
pub use release::{FakeArchives, FakeBuilds, FakeFetch, FakeTasks};
pub use web::FakeWeb;
pub use units::FakeUnits;
