//! A directory with its owner and mode. Named by its absolute path.

mod apply;
mod diff;
mod observe;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::host::Host;
use crate::model::Kind;
use crate::model::report::ErrorReport;
use crate::resources::{ApplyError, Diff};
use serde::Serialize;

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Desired {
    /// `false`: removed with everything in it (asked for only by a purge).
    pub present: bool,
    pub owner: String,
    pub group: String,
    pub mode: u32,
    /// What is in it is taken as a whole some day: made as a subvolume where the file system has them. One that is
    /// there stays what it is.
    pub whole: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observed {
    Absent,
    Directory {
        owner: String,
        group: String,
        mode: u32,
    },
    /// Something else is in its place (a file, a symbolic link).
    NotADirectory,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// Missing parents are made 0755 root:root.
    Create {
        owner: String,
        group: String,
        mode: u32,
        whole: bool,
    },
    SetPermissions {
        owner: String,
        group: String,
        mode: u32,
    },
    RemoveAll,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::Create { owner, group, mode, .. } => write!(f, "create, {owner}:{group} {mode:04o}"),
            Change::SetPermissions { owner, group, mode } => write!(f, "set {owner}:{group} {mode:04o}"),
            Change::RemoveAll => write!(f, "remove with everything in it"),
        }
    }
}

pub struct Directory;

impl crate::resources::Resource for Directory {
    const KIND: Kind = Kind::Directory;
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
