//! A file with its whole content. Named by its absolute path.

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

use crate::model::{Content, Digest};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Desired {
    /// `false`: removed.
    pub present: bool,
    pub content: Content,
    pub owner: String,
    pub group: String,
    pub mode: u32,
    pub write: Write,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Write {
    /// Kept equal to the content; a running service may read it, so it changes in Switch.
    Always,
    /// Written when absent, never again, in Stage: generated secrets, files an application takes over.
    Once,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observed {
    Absent,
    File {
        digest: Digest,
        owner: String,
        group: String,
        mode: u32,
    },
    /// Something else is in its place.
    NotAFile,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// Replaced in one step: a reader sees the old bytes or the new ones.
    Write {
        content: Content,
        owner: String,
        group: String,
        mode: u32,
        replaces: bool,
    },
    SetPermissions {
        owner: String,
        group: String,
        mode: u32,
    },
    Remove,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::Write { replaces: false, .. } => write!(f, "write"),
            Change::Write { replaces: true, .. } => write!(f, "replace"),
            Change::SetPermissions { owner, group, mode } => write!(f, "set {owner}:{group} {mode:04o}"),
            Change::Remove => write!(f, "remove"),
        }
    }
}

pub struct File;

impl crate::resources::Resource for File {
    const KIND: Kind = Kind::File;
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
