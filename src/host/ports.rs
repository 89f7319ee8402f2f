//! The ports: what a pass asks of a machine, in at most ten methods each.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::BoxStream;

use crate::model::certificate::Provider;
use crate::model::document::{Engine, Source};
use crate::model::unit::ServiceUnit;
use crate::model::{Content, Digest, Domain};

/// What a port answers when it could not do its work. The message names the thing; `hint` is an act
/// for the admin, if there is one; `code` is stable (`dpkg.locked`, `systemd.job-failed` …).
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct PortError {
    pub code: &'static str,
    pub message: String,
    pub hint: Option<String>,
    /// The same act may succeed later without anybody changing anything.
    pub retryable: bool,
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl PortError {
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None, retryable: false, source: None }
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub fn retryable(mut self) -> Self {
        self.retryable = true;
        self
    }

    pub fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    pub fn report(&self) -> crate::model::report::ErrorReport {
        crate::model::report::ErrorReport::of(self.code, self, self.hint.clone())
    }
}

pub type PortResult<T> = Result<T, PortError>;

/// What systemd says of one unit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UnitState {
    /// `loaded`, `not-found`, `masked`, `bad-setting`, `error`.
    pub load: String,
    pub active: String,
    pub sub: String,
    /// Result of its last run: `success`, `exit-code`, `timeout` …; empty if it has none.
    pub result: String,
    /// `GetUnitFileState`; empty if there is no unit file.
    pub enabled: String,
    pub need_reload: bool,
    /// Since when it runs, or is in this state; Unix microseconds; 0 if never.
    pub since_us: u64,
    /// `MemoryCurrent`, bytes.
    pub memory: Option<u64>,
    pub main_pid: u32,
    /// How its main process ended last: its exit code, or 128 and the signal that killed it.
    pub exit: i32,
    pub fragment: String,
    pub drop_ins: Vec<String>,
}

/// systemd. Jobs are awaited; a failed start carries the unit's last journal lines.
#[async_trait]
pub trait Units: Send + Sync {
    /// All of `names` in one question. Unknown states stay text. Cheap: only `load`, `active`,
    /// `sub`, `enabled` and `need_reload` are certain to be filled.
    async fn states(&self, names: &BTreeSet<String>) -> PortResult<BTreeMap<String, UnitState>>;
    /// Like `states`, with every field filled.
    async fn details(&self, names: &BTreeSet<String>) -> PortResult<BTreeMap<String, UnitState>> {
        self.states(names).await
    }
    /// Starts and waits for the job's end; reloads systemd's configuration first if the unit's files
    /// changed since it was loaded.
    async fn start(&self, name: &str) -> PortResult<()>;
    async fn restart(&self, name: &str) -> PortResult<()>;
    async fn reload(&self, name: &str) -> PortResult<()>;
    async fn stop(&self, name: &str) -> PortResult<()>;
    /// Like the next three: systemd reads its unit files again before the next question or start.
    async fn enable(&self, name: &str) -> PortResult<()>;
    async fn disable(&self, name: &str) -> PortResult<()>;
    async fn mask(&self, name: &str) -> PortResult<()>;
    async fn unmask(&self, name: &str) -> PortResult<()>;
    /// Reads the unit files again.
    async fn daemon_reload(&self) -> PortResult<()>;
    /// Names of units of ours (`socle-*`) as they fail or stop by themselves, over a restart of systemd or
    /// of the bus. Ends never.
    async fn failures(&self) -> BoxStream<'static, String>;
}

/// What dpkg and apt say of one package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PackageState {
    /// apt knows no such package; with a name that may be meant, or packages that provide it.
    Unknown {
        hint: Option<String>,
    },
    /// `candidate` is empty while apt's lists are missing or old: an install reads them first.
    Absent {
        candidate: String,
    },
    Installed {
        version: String,
    },
    Broken {
        state: String,
    },
}

/// apt and dpkg.
#[async_trait]
pub trait Packages: Send + Sync {
    async fn states(&self, names: &BTreeSet<String>) -> PortResult<BTreeMap<String, PackageState>>;
    /// Waits for a held lock and tells who holds it; heals an interrupted dpkg by the same action.
    async fn install(&self, names: &BTreeSet<String>, progress: &dyn Progress) -> PortResult<()>;
    async fn remove(&self, names: &BTreeSet<String>, progress: &dyn Progress) -> PortResult<()>;
    /// Bytes an install of these would download.
    async fn download_size(&self, names: &BTreeSet<String>) -> PortResult<u64>;
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountState {
    pub uid: u32,
    pub gid: u32,
    pub home: String,
    /// Groups the user is a member of, besides its own.
    pub groups: BTreeSet<String>,
    /// Members of the group of the same name, besides itself.
    pub readers: BTreeSet<String>,
}

/// System users and groups.
#[async_trait]
pub trait Accounts: Send + Sync {
    async fn states(&self, names: &BTreeSet<String>) -> PortResult<BTreeMap<String, Option<AccountState>>>;
    /// A system user with a group of the same name, no login, no password.
    async fn create(&self, name: &str, description: &str, home: &str) -> PortResult<()>;
    async fn set_home(&self, name: &str, home: &str) -> PortResult<()>;
    async fn join(&self, user: &str, group: &str) -> PortResult<()>;
    async fn remove(&self, name: &str) -> PortResult<()>;
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DatabaseState {
    pub exists: bool,
    /// Roles that own it (PostgreSQL) or have all privileges on it (MariaDB).
    pub owners: BTreeSet<String>,
    pub extensions: BTreeSet<String>,
}

/// A dump while it is taken.
pub struct DumpStream {
    /// What the dump's file would hold, for whoever reads it to its end.
    pub from: std::os::fd::OwnedFd,
    /// Answers after the end whether that was all.
    pub whole: tokio::sync::oneshot::Receiver<Result<(), String>>,
}

/// MariaDB and PostgreSQL through their Unix sockets, as their own superuser.
#[async_trait]
pub trait Databases: Send + Sync {
    /// The state of these databases, and which of these roles exist.
    async fn states(
        &self,
        engine: Engine,
        databases: &BTreeSet<String>,
    ) -> PortResult<(BTreeMap<String, DatabaseState>, BTreeSet<String>)>;
    async fn create_role(&self, engine: Engine, role: &str) -> PortResult<()>;
    async fn create_database(&self, engine: Engine, name: &str, owner: &str) -> PortResult<()>;
    async fn grant(&self, engine: Engine, name: &str, owner: &str) -> PortResult<()>;
    async fn create_extension(&self, engine: Engine, name: &str, extension: &str) -> PortResult<()>;
    async fn drop_database(&self, engine: Engine, name: &str) -> PortResult<()>;
    async fn drop_role(&self, engine: Engine, role: &str) -> PortResult<()>;
    /// A consistent dump as SQL text into a new file (0600), fsynced; its digest.
    async fn dump(&self, engine: Engine, name: &str, to: &Path) -> PortResult<Digest>;
    /// The same, to be read while it is taken: held nowhere. What is written after it answers is not in it.
    async fn dump_stream(&self, engine: Engine, name: &str) -> PortResult<DumpStream>;
    /// How many rows each table has, by the name its dump gives it.
    async fn rows(&self, engine: Engine, name: &str) -> PortResult<BTreeMap<String, u64>>;
    /// Empties the database and reads the dump back. May be repeated after an interruption.
    async fn restore(&self, engine: Engine, name: &str, owner: &str, from: &Path) -> PortResult<()>;
}

/// nginx.
#[async_trait]
pub trait WebServer: Send + Sync {
    /// Tests the whole configuration as it would be with `text` as the site `name` (None: without
    /// it). An error tells `file:line`, and whether the configuration is broken without us too.
    async fn test(&self, name: &str, text: Option<&str>) -> PortResult<()>;
    /// Whether it takes all these sites, name and text, at once. Whose fault it is if not, [`WebServer::test`] tells.
    async fn test_all(&self, sites: &[(&str, &str)]) -> PortResult<()>;
    /// Reloads and waits until new workers run; starts it if it does not run.
    async fn reload(&self) -> PortResult<()>;
}

/// What a finished download is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    pub path: PathBuf,
    pub sha256: Digest,
    pub bytes: u64,
}

/// One directory, and where it stands as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    pub of: PathBuf,
    pub at: PathBuf,
}

/// Directories as they were at one moment, to be read at leisure.
#[async_trait]
pub trait Snapshots: Send + Sync {
    /// Whether all of these are taken in a moment, whatever they hold. What cannot be found out is not.
    fn can(&self, directories: &[PathBuf]) -> bool;
    /// Directories above each `at` are made, 0700; at `at` itself nothing stands yet. One that is not taken in a
    /// moment is copied: let it be small. After an error, some may be there.
    async fn take(&self, all: &[Taken]) -> PortResult<()>;
    /// Everything at `place` and one level below it. That there is nothing is fine.
    async fn remove(&self, place: &Path) -> PortResult<()>;
}

/// Downloads. https, http (with a digest) and file.
#[async_trait]
pub trait Fetch: Send + Sync {
    /// Streams to `to` (a partial file of an earlier try is continued when the server still has the
    /// same bytes), hashed on the way. Wrong digest, size over `limit` bytes, an HTML page in place
    /// of an archive: refused, and nothing is left at `to`.
    async fn fetch(&self, source: &Source, to: &Path, limit: u64, progress: &dyn Progress) -> PortResult<Fetched>;
    /// The size the server announces, for a plan; None if it does not say.
    async fn size(&self, source: &Source) -> PortResult<Option<u64>>;
}

/// Limits of an unpacking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveLimits {
    pub bytes: u64,
    pub entries: u64,
    /// Unpacked bytes per packed byte.
    pub ratio: u64,
}

impl Default for ArchiveLimits {
    fn default() -> Self {
        Self { bytes: 8 << 30, entries: 500_000, ratio: 1000 }
    }
}

/// Unpacking of hostile archives, in a child without root's powers.
#[async_trait]
pub trait Archives: Send + Sync {
    /// Unpacks into the empty directory `stage`, dropping `strip` leading components. Regular files,
    /// directories and symbolic links only, all inside. Afterwards everything belongs to root,
    /// 0755 or 0644. It is on disk only when the caller brings it there.
    async fn unpack(&self, archive: &Path, stage: &Path, strip: u32, limits: &ArchiveLimits) -> PortResult<()>;
}

/// Builds that need an ecosystem's own tool.
#[async_trait]
pub trait Builds: Send + Sync {
    /// A Python virtual environment at `stage` that works when moved to `target`.
    async fn venv(
        &self,
        stage: &Path,
        target: &Path,
        requirements: &[String],
        index: Option<&str>,
        progress: &dyn Progress,
    ) -> PortResult<()>;
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskOutput {
    pub code: i32,
    /// Last lines of what it printed, at most 64 KiB, control characters escaped.
    pub output: String,
}

/// Programs of an application, each run to its end as a unit of its own.
#[async_trait]
pub trait Tasks: Send + Sync {
    /// `name` becomes `socle-task-<name>.service`. If that task still runs from an earlier pass it is
    /// stopped first.
    async fn run(&self, name: &str, unit: &ServiceUnit, stdin: Option<&Content>) -> PortResult<TaskOutput>;
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeAnswer {
    pub status: u16,
    /// At most 1 MiB.
    pub body: String,
}

/// Questions to a site through this machine's web server.
#[async_trait]
pub trait Probes: Send + Sync {
    async fn get(&self, host: &str, path: &str, timeout: Duration) -> PortResult<ProbeAnswer>;
    /// The same question to a web server behind a socket that nobody else reaches.
    async fn get_at(&self, socket: &Path, host: &str, path: &str, timeout: Duration) -> PortResult<ProbeAnswer>;
}

/// Records that prove control of a domain (RFC 8555, 8.4). `domain` is the one proven: the record's own name is
/// `_acme-challenge.` and it, or what that is an alias of.
#[async_trait]
pub trait Dns: Send + Sync {
    /// Adds the value; others at the same name stay. Twice is once.
    async fn publish(&self, provider: &Provider, domain: &Domain, value: &str) -> PortResult<()>;
    /// Removes the value; that it was not there is fine.
    async fn withdraw(&self, provider: &Provider, domain: &Domain, value: &str) -> PortResult<()>;
    /// Waits until every authoritative server of the record answers with the value.
    async fn propagated(&self, domain: &Domain, value: &str, within: Duration) -> PortResult<()>;
}

/// Where long acts tell how far they are. Never fails, never blocks.
pub trait Progress: Send + Sync {
    /// A line worth showing now ("waiting for the dpkg lock held by unattended-upgr (PID 812)").
    fn say(&self, text: &str);
    /// Bytes done of all, if known.
    fn bytes(&self, done: u64, total: Option<u64>);
}

/// Says nothing.
pub struct Quiet;

impl Progress for Quiet {
    fn say(&self, _: &str) {}
    fn bytes(&self, _: u64, _: Option<u64>) {}
}
