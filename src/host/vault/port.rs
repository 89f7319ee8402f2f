//! What the agent asks of a repository of backups.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::host::{PortResult, Progress};
use crate::model::Secret;

/// How a repository is reached and opened.
#[derive(Clone)]
pub struct Access {
    pub location: Location,
    /// The recovery key: what restic calls the password.
    pub password: Secret,
    pub pace: Pace,
    /// Nothing is taken out of it by us, whatever the credentials would allow.
    pub append_only: bool,
    pub way: Way,
}

/// How the server of a repository is reached and known, besides its address.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Way {
    /// A local socket that leads there, for whoever has no network.
    pub through: Option<PathBuf>,
    /// PEM of the roots that its certificate is checked against, instead of the system's.
    pub roots: Option<String>,
}

/// Where a repository is. Its credentials are opened already.
#[derive(Clone)]
pub enum Location {
    /// A directory of this machine, absolute.
    Directory(PathBuf),
    /// The REST protocol of restic (<https://restic.readthedocs.io/en/stable/100_references.html#rest-backend>).
    Rest { url: String, user: Option<(String, Secret)> },
    /// Let in by `identity`, a private key in OpenSSH's form; the server shows one of `host_keys`. `path` is absolute
    /// or below the user's home directory.
    Sftp { host: String, port: u16, user: String, path: String, identity: Secret, host_keys: Vec<String> },
    /// A bucket of S3-compatible storage, addressed by path.
    S3 { endpoint: String, region: String, bucket: String, prefix: String, key: Secret, secret: Secret },
}

/// Most bytes a second, each way; `None`: as fast as it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Pace {
    pub up: Option<u64>,
    pub down: Option<u64>,
}

/// What goes into one snapshot.
pub struct Order {
    /// The server's name, as restic's host.
    pub host: String,
    /// What finds it again; the newest snapshot of the same host and tags is what it is compared with.
    pub tags: Vec<String>,
    pub at: Timestamp,
    /// In any order; no two overlap.
    pub entries: Vec<Entry>,
    /// The snapshot it is compared with, instead of the newest of the same host and tags.
    pub parent: Option<SnapshotId>,
    pub moment: Option<Moment>,
}

/// For whoever lets those stand still that write into the trees, while these are read. Entries are read in the order
/// of their paths; trees behind the first stream do not count.
pub struct Moment {
    /// Told when the first byte could be read.
    ready: oneshot::Sender<()>,
    /// Waited for then; given up, nothing is saved.
    go: oneshot::Receiver<()>,
    /// Told when the trees were read, or nothing of them will be.
    read: oneshot::Sender<()>,
}

/// The other side of a [`Moment`].
pub struct Moments {
    pub ready: oneshot::Receiver<()>,
    pub go: oneshot::Sender<()>,
    pub read: oneshot::Receiver<()>,
}

impl Moment {
    pub fn new() -> (Self, Moments) {
        let (ready, when_ready) = oneshot::channel();
        let (go, may_go) = oneshot::channel();
        let (read, when_read) = oneshot::channel();
        (Self { ready, go: may_go, read }, Moments { ready: when_ready, go, read: when_read })
    }

    /// Says that everything is ready, and waits. False: it is given up.
    pub async fn come(self) -> Option<oneshot::Sender<()>> {
        // Whoever asked may have gone: then nothing is to be waited for either.
        let _ = self.ready.send(());
        self.go.await.ok().map(|()| self.read)
    }
}

/// One thing of a snapshot, at an absolute path in it.
pub struct Entry {
    pub path: PathBuf,
    pub from: Source,
}

pub enum Source {
    /// A file, or a directory with all below it; never over a mount point, never through a link.
    /// `except`: absolute paths below it that are left out.
    Tree { from: PathBuf, except: Vec<PathBuf> },
    /// A small file, 0600 and root's.
    Bytes(Secret),
    /// What a program writes: read to its end, never held whole. `whole` answers whether the program
    /// ended well, after the end of what it wrote; if not, there is no snapshot.
    Stream { from: std::os::fd::OwnedFd, whole: tokio::sync::oneshot::Receiver<Result<(), String>> },
}

/// The identifier of a snapshot, 64 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SnapshotId(pub String);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    pub id: SnapshotId,
    pub host: String,
    pub tags: Vec<String>,
    pub at: Timestamp,
    /// Bytes and files of what was saved.
    pub bytes: u64,
    pub files: u64,
    /// Bytes the repository grew by; `None` if whoever made it did not say.
    pub added: Option<u64>,
}

/// What was saved, and what was gone when it was to be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    pub snapshot: Snapshot,
    /// Paths that vanished while they were read: normal for files in use, and told.
    pub vanished: Vec<PathBuf>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Restored {
    pub files: u64,
    pub bytes: u64,
}

/// Users and groups, by the name they had.
pub type Renamed = std::collections::BTreeMap<String, String>;

/// How much of a repository is read back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Depth {
    /// Every index, tree and reference, and that every pack is there in its length.
    Structure,
    /// And the content of the share `part` of `of` of all packs; all shares together are all packs.
    Share { part: u32, of: u32 },
    /// And the content of every pack.
    Everything,
}

/// What is wrong with a repository, and which snapshots it takes with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Damage {
    /// The file of the repository, as `data/ab/abcd…`.
    pub file: String,
    pub what: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Checked {
    pub damage: Vec<Damage>,
    /// Snapshots that cannot be restored whole.
    pub affected: Vec<SnapshotId>,
    /// Bytes of packs whose content was read.
    pub read: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Pruned {
    pub removed_bytes: u64,
    pub kept_bytes: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyInfo {
    pub id: String,
    pub host: Option<String>,
    pub user: Option<String>,
    pub created: Option<Timestamp>,
    /// The one this access opened the repository with.
    pub ours: bool,
}

/// A repository of snapshots in restic's format, version 2.
///
/// Codes of errors: `vault.unreachable` (retryable), `vault.in-use` (by restic; retryable), `vault.wrong-key`,
/// `vault.no-repository`, `vault.damaged`, `vault.read-only` (or it only takes), `vault.forbidden` (it refuses our
/// credentials), `vault.host-key` (a server is not the one that was named), `vault.certificate` (nor this one),
/// `vault.full`, `vault.store`; `vault.source` (what was to be saved could not be read),
/// `vault.target` and `vault.target-full` (of a restore), `vault.no-snapshot` (or no such path in it),
/// `vault.key-in-use`, `vault.given-up` (by whoever asked), `vault.library`, `vault.child`.
#[async_trait]
pub trait Vault: Send + Sync {
    /// Makes the repository if there is none at all; `true` if it did. One that is there is opened.
    async fn make(&self, access: &Access) -> PortResult<bool>;
    async fn save(&self, access: &Access, order: Order, progress: &dyn Progress) -> PortResult<Saved>;
    /// All that can be read, oldest first. A damaged one is not among them: [`Vault::check`] names it, and who made
    /// it misses it.
    async fn snapshots(&self, access: &Access) -> PortResult<Vec<Snapshot>>;
    /// What stands at `path` in the snapshot, to `to`: a directory that is made or completed; what is there and
    /// equal is left, what is there besides is removed. Owners by name, then by number.
    async fn restore(
        &self,
        access: &Access,
        snapshot: &SnapshotId,
        path: &Path,
        to: &Path,
        progress: &dyn Progress,
    ) -> PortResult<Restored> {
        self.restore_as(access, snapshot, path, to, &Renamed::new(), progress).await
    }
    /// The same, for other owners: what belonged to a name of `owners` belongs to what it leads to.
    async fn restore_as(
        &self,
        access: &Access,
        snapshot: &SnapshotId,
        path: &Path,
        to: &Path,
        owners: &Renamed,
        progress: &dyn Progress,
    ) -> PortResult<Restored>;
    /// The content of one file, written to `to`, which is then at its end.
    async fn read(&self, access: &Access, snapshot: &SnapshotId, path: &Path, to: File) -> PortResult<u64>;
    async fn check(&self, access: &Access, depth: Depth, progress: &dyn Progress) -> PortResult<Checked>;
    /// Takes snapshots out; their data goes with the next prune.
    async fn forget(&self, access: &Access, snapshots: &[SnapshotId]) -> PortResult<()>;
    /// Removes what no snapshot needs; packs only after having been marked for `keep`, so that a backup of
    /// another server that runs meanwhile loses nothing.
    async fn prune(&self, access: &Access, keep: Duration, progress: &dyn Progress) -> PortResult<Pruned>;
    async fn keys(&self, access: &Access) -> PortResult<Vec<KeyInfo>>;
    async fn add_key(&self, access: &Access, password: &Secret, user: &str) -> PortResult<KeyInfo>;
    async fn remove_key(&self, access: &Access, id: &str) -> PortResult<()>;
}
