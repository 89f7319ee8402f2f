//! A unit of systemd: one we write, or one that exists. Named like the unit, with its suffix.

mod apply;
mod diff;
mod observe;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use crate::host::Host;
use crate::model::Kind;
use crate::model::report::ErrorReport;
use crate::resources::{ApplyError, Diff};
use serde::Serialize;

use crate::model::Digest;
use crate::model::document::ExistingState;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Desired {
    Own(Box<Own>),
    Existing(ExistingState),
    /// A server that others need: it runs, and starts at boot. Unlike a unit the document enables, it is
    /// never unmasked: a mask is the admin's word.
    Needed,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Own {
    /// The whole unit file (model::unit renders it). Shared, like all that is long: a change carries it too.
    pub text: Arc<str>,
    /// Starts at boot (has an `[Install]` section).
    pub enabled: bool,
    /// Runs now; `None`: something else starts and stops it (a timer, a socket).
    pub active: Option<bool>,
    /// For a service with `inputs`: a running process started with others is restarted.
    pub inputs: Option<Digest>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Observed {
    /// Text of `/etc/systemd/system/<name>` if that file exists.
    pub text: Option<String>,
    /// systemd can load it: a file of ours, or of a package.
    pub exists: bool,
    /// `active`, `inactive`, `failed`, `activating` … as systemd says (LoadUnit, ActiveState).
    pub active: String,
    /// `enabled`, `disabled`, `masked`, `static` … (GetUnitFileState); empty if there is no file.
    pub enabled: String,
    /// What the running process was started with ([`crate::model::unit::INPUTS_DIR`]).
    pub inputs: Option<String>,
    /// The loaded unit is older than its files.
    pub need_reload: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    WriteUnit {
        text: Arc<str>,
        replaces: bool,
    },
    Enable,
    Disable,
    Mask,
    Unmask,
    Start,
    Restart,
    Stop,
    RemoveUnit,
    /// Only a reload of systemd's own configuration (a drop-in was edited).
    Reload,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Change::WriteUnit { replaces: false, .. } => "write unit",
            Change::WriteUnit { replaces: true, .. } => "replace unit",
            Change::Enable => "enable at boot",
            Change::Disable => "do not start at boot",
            Change::Mask => "mask",
            Change::Unmask => "unmask",
            Change::Start => "start",
            Change::Restart => "restart",
            Change::Stop => "stop",
            Change::RemoveUnit => "remove unit",
            Change::Reload => "read the changed unit files",
        })
    }
}

pub struct Service;

impl crate::resources::Resource for Service {
    const KIND: Kind = Kind::Service;
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
