//! Stateful stand-ins for the real adapters, for tests: what one call does the next one sees.

pub mod databases;
pub mod packages;

pub use databases::FakeDatabases;
pub use packages::FakePackages;
