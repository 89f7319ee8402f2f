//! Stateful stand-ins for the real adapters, for tests: what one call does the next one sees.

pub mod packages;

pub use packages::FakePackages;
