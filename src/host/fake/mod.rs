//! Stateful stand-ins for the real adapters, for tests: what one call does the next one sees.

pub mod accounts;
pub mod contract;
pub mod databases;
pub mod packages;
pub mod units;

pub use accounts::FakeAccounts;
pub use databases::FakeDatabases;
pub use packages::FakePackages;
pub use units::FakeUnits;
