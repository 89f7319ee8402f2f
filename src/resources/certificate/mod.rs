//! The certificate a site is served with. Named like the instance; below `/var/lib/socle/tls/<name>/`.
//!
//! Owns: that there always is one: made here until a better one is there, or taken from files that somebody else
//! brings. Never: orders one; that takes minutes and is not a pass's business (`agent::certificates`).

mod apply;
mod diff;
mod observe;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::Timestamp;
use serde::Serialize;

use crate::host::Host;
use crate::host::certificates::{Bundle, Store};
use crate::model::Kind;
use crate::model::certificate::{CertifiedName, Meta};
use crate::model::report::ErrorReport;
use crate::resources::{ApplyError, Diff};

/// Where everything about certificates is: nginx is told paths below it.
pub const STATE: &str = "/var/lib/socle";

/// The link nginx reads a certificate and its key through.
pub fn current(name: &str) -> String {
    format!("{STATE}/tls/{name}/current")
}

fn store(host: &Host) -> Store {
    Store::new(&host.path(STATE))
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Desired {
    /// At least one.
    pub names: Vec<CertifiedName>,
    pub source: Source,
    /// What is expired at this time is of no use.
    pub now: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Source {
    /// Whatever is trusted and there; until then one made here.
    #[default]
    BestThereIs,
    /// From files, checked.
    Brought(Box<Bundle>),
    /// From files that cannot be used, and why. What is there stays.
    Unusable(ErrorReport),
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Observed {
    /// The present generation's number and what it is.
    pub present: Option<(u64, Meta)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// Make one that nobody trusts, so that the site answers.
    SelfSign { names: Vec<CertifiedName>, now: Timestamp, seen: Option<u64> },
    /// Put what was brought in place.
    Take {
        serial: String,
        not_after: Timestamp,
        seen: Option<u64>,
        /// With the private key: not for the journal.
        #[serde(skip)]
        bundle: Box<Bundle>,
    },
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::SelfSign { names, .. } => {
                let names: Vec<String> = names.iter().map(ToString::to_string).collect();
                write!(f, "make a self-signed certificate for {}", names.join(", "))
            }
            Change::Take { serial, not_after, .. } => {
                write!(f, "put the brought certificate {serial} in place, valid until {not_after}")
            }
        }
    }
}

pub struct Certificate;

impl crate::resources::Resource for Certificate {
    const KIND: Kind = Kind::Certificate;
    type Desired = Desired;
    type Observed = Observed;
    type Change = Change;

    /// Nobody's: what an absent instance leaves is used again when it comes back, and removed by a purge.
    async fn list(_: &Host) -> Result<BTreeSet<String>, ErrorReport> {
        Ok(BTreeSet::new())
    }

    async fn observe(host: &Host, names: &BTreeSet<String>) -> BTreeMap<String, Result<Observed, ErrorReport>> {
        observe::observe(host, names).await
    }

    fn diff(_: &str, desired: Option<&Desired>, observed: &Observed) -> Diff<Change> {
        diff::diff(desired, observed)
    }

    async fn apply(host: &Host, name: &str, change: &Change) -> Result<(), ApplyError> {
        apply::apply(host, name, change).await
    }
}
