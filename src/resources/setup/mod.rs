//! How far an instance's own state has come: installed, migrated, proven. Named like the instance;
//! kept in `/var/lib/socle/setup/<name>.json`, written before and after each act (like dpkg's
//! status), so an interruption is seen and the same act is done again.

mod apply;
mod diff;
mod files;
pub mod observe;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use crate::host::Host;
use crate::model::Kind;
use crate::model::report::ErrorReport;
use crate::resources::{ApplyError, Diff};
use serde::{Deserialize, Serialize};

use super::release::ReleaseId;
use crate::model::document::Engine;
use crate::model::unit::ServiceUnit;
use crate::model::{Content, Digest};

/// Where the dumps of each instance are.
const DUMPS: &str = "/var/lib/socle/dumps";

/// Where what is kept of the files of an instance is: beside them, so on their file system.
fn kept_of(name: &str) -> String {
    format!("/srv/socle/{name}/kept")
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Desired {
    /// `false`: forgotten (asked for only by a purge).
    pub present: bool,
    pub release: ReleaseId,
    /// First installation.
    pub install: Arc<[Step]>,
    /// From any other installed release to this one. Empty: a release is switched without them.
    pub migrate: Arc<[Step]>,
    /// What is dumped before the first migrating step, the point of no return.
    pub databases: Vec<(Engine, String)>,
    /// Directories whose files are kept before it, absolute; none is in another one.
    pub directories: Vec<String>,
    /// The health gate.
    pub probes: Vec<Probe>,
    /// Everything the gate's answer depends on; a gate passed for the same digest is not repeated.
    pub proof: Digest,
    /// Who the instance is.
    pub identity: Identity,
    /// What gives data that was another's, or of another domain, to this one.
    pub moves: Arc<[Step]>,
    /// Releases whose dumps and files are kept: those a rollback may ask for.
    pub keep_dumps: BTreeSet<String>,
    /// Everything that runs for the instance, by unit name: none of it may run while a backup's data takes the
    /// place of what is there.
    pub units: BTreeSet<String>,
    /// How it stands still for a backup.
    pub quiet: Box<Quiet>,
    /// What a backup saves of its home: directories, relative to it; none is in another one.
    pub saved: Vec<String>,
}

/// How an instance stands still, and goes on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Quiet {
    /// Its units are stopped.
    pub stop: bool,
    /// Before that.
    pub enter: Vec<Command>,
    /// After its units run again. Each may be repeated.
    pub leave: Vec<Command>,
}

impl Quiet {
    /// Whether there is anything to do at all.
    pub fn is_loud(&self) -> bool {
        !self.stop && self.enter.is_empty()
    }
}

/// A program of the application, as a unit of its own with the instance's user and sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    pub name: String,
    pub unit: Box<ServiceUnit>,
    /// Exit codes that mean success.
    pub ok_codes: Vec<i32>,
}

/// Who data believes to belong to: names that an application may have written into it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub name: String,
    pub domain: String,
}

/// One act of an installation or migration. Each may be repeated after an interruption.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// A program, as a unit of its own with the instance's user and sandbox.
    Run {
        name: String,
        unit: Box<ServiceUnit>,
        /// Standard input; may hold secrets.
        stdin: Option<Content>,
        /// Exit codes that mean success.
        ok_codes: Vec<i32>,
    },
    /// Copy what is missing (or everything, with `replace`) from a directory of the release to the
    /// instance's data.
    Seed { from: String, to: String, owner: String, replace: bool },
}

impl Step {
    pub fn name(&self) -> &str {
        match self {
            Step::Run { name, .. } => name,
            Step::Seed { to, .. } => to,
        }
    }
}

/// A question to the instance through the web server, and the answer that means well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// Host header; the request goes to this machine.
    pub host: String,
    pub path: String,
    pub status: Vec<u16>,
    /// The body contains this text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contains: Option<String>,
    /// Seconds until it must have answered so.
    pub within_s: u32,
}

/// What the file says. No file: nothing was ever installed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum State {
    HalfInstalled {
        release: ReleaseId,
    },
    Installed {
        release: ReleaseId,
    },
    /// Migrating steps have begun: the data may be neither old nor new.
    HalfMigrated {
        from: ReleaseId,
        to: ReleaseId,
    },
    /// Files are being put back, then the dump is read back.
    HalfRestored {
        to: ReleaseId,
        /// Where what was there is put; `None`: nobody misses it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        aside: Option<String>,
    },
    /// A backup lies ready, and takes the place of what is there before anything else happens.
    Returned {
        backup: Returned,
    },
}

/// What a backup brought, staged beside what it replaces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Returned {
    /// Whose data it is.
    pub release: ReleaseId,
    pub dumps: Vec<Dump>,
    pub directories: Vec<Staged>,
    /// Whose it was; `None`: this instance's, as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<Identity>,
}

/// A directory that takes the place of another one. Both are on one file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Staged {
    pub from: String,
    pub to: String,
    /// Where what was at `to` waits until the databases are read back.
    pub aside: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Observed {
    #[serde(flatten)]
    pub state: Option<State>,
    /// The digest for which the gate last passed.
    #[serde(default)]
    pub proven: Option<Digest>,
    /// Whose the data was that a backup brought, until it was moved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moved_from: Option<Identity>,
    /// Dumps taken before a migration, by the release whose data they hold.
    #[serde(default)]
    pub dumps: BTreeMap<String, Vec<Dump>>,
    /// Releases whose data may be paused, be it installed or kept to come back to: a backup brought it, which was made
    /// while it paused, and nobody told it to go on.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub paused: BTreeSet<String>,
    /// Copies of directories made before a migration, by the release whose data they hold. Those that were put back
    /// are not copies any more.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub kept: BTreeMap<String, Vec<Kept>>,
    /// What stands where copies are made, and is none that was finished: not recorded, but seen.
    #[serde(skip)]
    pub debris: BTreeSet<String>,
}

impl Observed {
    /// The release whose data it is, if it is whole.
    fn installed(&self) -> Option<&ReleaseId> {
        match &self.state {
            Some(State::Installed { release }) => Some(release),
            _ => None,
        }
    }
}

/// A copy of a directory, on the file system of the original.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    pub of: String,
    pub at: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dump {
    pub engine: Engine,
    pub database: String,
    /// Absolute path of the SQL text.
    pub path: String,
    pub sha256: Digest,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    Install {
        release: ReleaseId,
        steps: Arc<[Step]>,
    },
    /// See, while everything runs, that the files of the installed release can be kept, and copy ahead what would
    /// take long.
    GetReady {
        release: ReleaseId,
        directories: Vec<String>,
    },
    /// Copy the files of the installed release, beside them.
    Keep {
        release: ReleaseId,
        directories: Vec<String>,
    },
    /// Dump the databases of the installed release.
    Dump {
        release: ReleaseId,
        databases: Vec<(Engine, String)>,
    },
    /// The point of no return.
    Migrate {
        from: ReleaseId,
        to: ReleaseId,
        steps: Arc<[Step]>,
    },
    /// No steps: only note that another release is installed.
    Adopt {
        release: ReleaseId,
    },
    /// Dump what is there into this directory before older data takes its place.
    SetAside {
        release: ReleaseId,
        databases: Vec<(Engine, String)>,
        directory: String,
    },
    /// Put the files of this release back and read its dumps back.
    Restore {
        release: ReleaseId,
        dumps: Vec<Dump>,
        kept: Vec<Kept>,
        /// The directory for what is there now; `None`: nobody misses it.
        aside: Option<String>,
    },
    /// Put the data of a backup in place and read its dumps back, while none of the units runs.
    Return {
        returned: Returned,
        units: BTreeSet<String>,
    },
    /// Tell data that was saved while it paused that the pause is over. Programs of the release whose data it is by now.
    GoOn {
        release: ReleaseId,
        leave: Vec<Command>,
    },
    /// Make what was the data of `from` that of `to`.
    Move {
        from: Identity,
        to: Identity,
        steps: Arc<[Step]>,
    },
    Prove {
        probes: Vec<Probe>,
        proof: Digest,
    },
    /// Remove dumps and files of releases that are gone, and what an interruption left.
    DropDumps {
        releases: Vec<String>,
        debris: Vec<String>,
    },
    Forget,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::Install { release, .. } => write!(f, "install {release}"),
            Change::GetReady { release, .. } => write!(f, "get ready to keep the files of {release}"),
            Change::Keep { release, .. } => write!(f, "keep the files of {release}"),
            Change::Dump { release, .. } => write!(f, "dump the databases of {release}"),
            Change::Migrate { from, to, .. } => write!(f, "migrate data from {from} to {to}"),
            Change::Adopt { release } => write!(f, "note {release} as installed"),
            Change::SetAside { release, directory, .. } => write!(f, "dump the data of {release} to {directory}"),
            Change::Restore { release, aside: None, .. } => write!(f, "bring the data of {release} back"),
            Change::Restore { release, aside: Some(aside), .. } => {
                write!(f, "bring the data of {release} back and put the present files into {aside}")
            }
            Change::Return { returned, .. } => {
                write!(f, "put the data of {} from the backup in place", returned.release)
            }
            Change::GoOn { release, .. } => write!(f, "end the pause in which the data of {release} was saved"),
            Change::Move { from, to, .. } if from.domain == to.domain => {
                write!(f, "make the data of {} that of {}", from.name, to.name)
            }
            Change::Move { from, to, .. } => write!(f, "move the data from {} to {}", from.domain, to.domain),
            Change::Prove { probes, .. } => write!(f, "check that the site answers ({} probes)", probes.len()),
            Change::DropDumps { releases, .. } if releases.is_empty() => write!(f, "remove unfinished copies of files"),
            Change::DropDumps { releases, .. } => write!(f, "remove what was kept of {}", releases.join(", ")),
            Change::Forget => write!(f, "forget"),
        }
    }
}

pub use apply::{go_on, prove};

pub struct Setup;

impl crate::resources::Resource for Setup {
    const KIND: Kind = Kind::Setup;
    type Desired = Desired;
    type Observed = Observed;
    type Change = Change;

    async fn list(host: &Host) -> Result<BTreeSet<String>, ErrorReport> {
        observe::list(host).await
    }

    async fn observe(host: &Host, names: &BTreeSet<String>) -> BTreeMap<String, Result<Observed, ErrorReport>> {
        observe::observe(host, names).await
    }

    fn diff(name: &str, desired: Option<&Desired>, observed: &Observed) -> Diff<Change> {
        diff::diff(name, desired, observed)
    }

    async fn apply(host: &Host, name: &str, change: &Change) -> Result<(), ApplyError> {
        apply::apply(host, name, change).await
    }
}
