//! A Debian package, installed or not. Named like the package.

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

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Desired {
    /// `false`: removed (never purged: its configuration is the admin's).
    pub present: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observed {
    /// apt knows no such package; with an act that may help.
    Unknown {
        hint: Option<String>,
    },
    Absent {
        candidate: String,
    },
    Installed {
        version: String,
    },
    /// Half-installed, unconfigured …, as dpkg says it. Healed by the same action again.
    Broken {
        state: String,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// All at once: the planner joins the installs of a pass into one run of apt.
    Install {
        names: BTreeSet<String>,
    },
    Remove {
        names: BTreeSet<String>,
    },
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (verb, names) = match self {
            Change::Install { names } => ("install", names),
            Change::Remove { names } => ("remove", names),
        };
        write!(f, "{verb} {}", names.iter().map(String::as_str).collect::<Vec<_>>().join(" "))
    }
}

pub struct Package;

impl crate::resources::Resource for Package {
    const KIND: Kind = Kind::Package;
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
