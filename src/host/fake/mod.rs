//! Stateful stand-ins for the real adapters, for tests: what one call does the next one sees.

pub mod accounts;
pub mod contract;
pub mod databases;
pub mod packages;
pub mod probes;
pub mod release;
pub mod snapshots;
pub mod units;
pub mod vault;
pub mod web;

pub use accounts::FakeAccounts;
pub use databases::FakeDatabases;
pub use packages::FakePackages;
pub use probes::FakeProbes;
pub use release::{FakeArchives, FakeBuilds, FakeFetch, FakeTasks};
pub use snapshots::FakeSnapshots;
pub use units::FakeUnits;
pub use vault::FakeVault;
pub use web::FakeWeb;

use std::path::Path;
use std::sync::Arc;

use super::{Host, Quiet};

/// A host of stand-ins, with its files below `root`.
pub fn host(root: &Path) -> Host {
    Host {
        root: root.to_owned(),
        units: Arc::new(FakeUnits::below(root)),
        packages: Arc::new(FakePackages::new()),
        accounts: Arc::new(FakeAccounts::below(root)),
        databases: Arc::new(FakeDatabases::new()),
        web: Arc::new(FakeWeb::new(root)),
        fetch: Arc::new(FakeFetch::default()),
        archives: Arc::new(FakeArchives),
        builds: Arc::new(FakeBuilds::default()),
        tasks: Arc::new(FakeTasks::default()),
        snapshots: Arc::new(FakeSnapshots::default()),
        probes: Arc::new(FakeProbes::new()),
        progress: Arc::new(Quiet),
    }
}
