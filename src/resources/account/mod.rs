//! A system account with a group of the same name. Named like the user.

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
    /// `false`: removed.
    pub present: bool,
    pub description: String,
    pub home: String,
    /// Groups it is a member of, besides its own.
    pub groups: BTreeSet<String>,
    /// Users who are members of *its* group (the web server, to read what it serves).
    pub readers: BTreeSet<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observed {
    Absent,
    Present { home: String, groups: BTreeSet<String>, readers: BTreeSet<String> },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    Create { description: String, home: String },
    SetHome { home: String },
    Join { groups: BTreeSet<String> },
    AddReaders { users: BTreeSet<String> },
    Remove,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |names: &BTreeSet<String>| names.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        match self {
            Change::Create { .. } => write!(f, "create system user"),
            Change::SetHome { home } => write!(f, "set home to {home}"),
            Change::Join { groups } => write!(f, "join {}", list(groups)),
            Change::AddReaders { users } => write!(f, "let {} read its group's files", list(users)),
            Change::Remove => write!(f, "remove user"),
        }
    }
}

pub struct Account;

impl crate::resources::Resource for Account {
    const KIND: Kind = Kind::Account;
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
