//! Repositories through the real child, on real directories, and against Debian's restic.

#![allow(clippy::disallowed_methods, reason = "a test runs programs, writes files and reads the clock")]

mod corrupt;
mod far;
mod faults;
mod hostile;
mod killed;
mod remote;
mod rest;
mod restic;
mod rounds;
mod tree;
mod ways;

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use socle::host::Quiet;
use socle::host::fake::contract;
use socle::host::vault::{
    Access, Checked, Depth, Entry, Location, Order, Pace, RusticVault, Saved, SnapshotId, Source, Vault, Way,
};
use socle::model::Secret;

pub const PASSWORD: &str = "correct-horse-battery-staple";

#[tokio::test]
async fn the_adapter_keeps_the_contract() {
    let directory = tempfile::tempdir().unwrap();
    let scratch = directory.path().join("scratch");
    std::fs::create_dir(&scratch).unwrap();
    contract::vault(&vault(), &Location::Directory(directory.path().join("repository")), &scratch).await;
}

/// A repository in a directory of its own, and what acts on it.
pub struct Bench {
    pub directory: tempfile::TempDir,
    pub vault: RusticVault,
    pub access: Access,
}

impl Bench {
    /// With an empty repository.
    pub async fn new() -> Self {
        let bench = Self::bare();
        assert!(bench.vault.make(&bench.access).await.unwrap());
        bench
    }

    pub fn bare() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let location = Location::Directory(directory.path().join("repository"));
        let password = Secret::new(PASSWORD);
        let access = Access { location, password, pace: Pace::default(), append_only: false, way: Way::default() };
        Self { directory, vault: vault(), access }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn repository(&self) -> PathBuf {
        self.path("repository")
    }

    /// Saves `from` at `/data`.
    pub async fn save(&self, from: &Path, second: i64) -> Saved {
        self.vault.save(&self.access, tree_order(from, second), &Quiet).await.unwrap()
    }

    pub async fn restore(&self, snapshot: &SnapshotId, to: &str) -> PathBuf {
        let to = self.path(to);
        self.vault.restore(&self.access, snapshot, Path::new("/data"), &to, &Quiet).await.unwrap();
        to
    }

    pub async fn check(&self, depth: Depth) -> Checked {
        self.vault.check(&self.access, depth, &Quiet).await.unwrap()
    }

    pub async fn is_sound(&self) {
        let checked = self.check(Depth::Everything).await;
        assert_eq!((checked.damage, checked.affected), (vec![], vec![]));
    }
}

pub fn vault() -> RusticVault {
    RusticVault::new(env!("CARGO_BIN_EXE_socle"))
}

pub fn order(entries: Vec<Entry>, second: i64) -> Order {
    let at = Timestamp::from_second(1_800_000_000 + second).unwrap();
    Order { host: "server".into(), tags: vec!["instance=blog".into()], at, entries, parent: None, moment: None }
}

pub fn tree_order(from: &Path, second: i64) -> Order {
    let from = Source::Tree { from: from.to_owned(), except: vec![] };
    order(vec![Entry { path: "/data".into(), from }], second)
}
