//! A server block of nginx. Named like the instance; `/etc/nginx/sites-available/socle-<name>.conf`
//! and its link in `sites-enabled`.

mod apply;
mod diff;
mod observe;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use crate::host::Host;
use crate::host::certificates::{Store, StoreError};
use crate::model::Kind;
use crate::model::Name;
use crate::model::report::ErrorReport;
use crate::resources::{ApplyError, Diff, certificate};
use serde::Serialize;

use crate::model::Digest;
use crate::model::unit::INPUTS_DIR;
pub use apply::apply_together;

/// How each file of ours begins.
const HEADER: &str = "# Managed by socle";
const AVAILABLE: &str = "/etc/nginx/sites-available";
const ENABLED: &str = "/etc/nginx/sites-enabled";
/// Below `/run`: gone with the nginx that read the files. Its content is older than the reload it tells of.
const RELOADED: &str = "/run/socle/inputs/nginx.reloaded";
const RELOADING: &str = "/run/socle/inputs/nginx.reloading";
const UNIT: &str = "nginx.service";
/// States of a unit in which nginx serves.
const RUNNING: [&str; 3] = ["active", "reloading", "refreshing"];

fn ours(text: &str) -> bool {
    text.starts_with(HEADER)
}

/// What nginx loads for a site: a text, and the generation of the certificate that the text names.
fn mark_of(text: &Digest, certificate: Option<u64>) -> String {
    format!("{text}-{}", certificate.unwrap_or_default())
}

/// The generation of the certificate that is there now.
fn certificate_of(host: &Host, name: &str) -> Result<Option<u64>, StoreError> {
    // A site of ours is called like an instance; another has no certificate.
    let Ok(name) = name.parse::<Name>() else { return Ok(None) };
    Store::new(&host.path(certificate::STATE)).generation(&name)
}

/// The places of one site on the server.
struct Paths {
    available: String,
    enabled: String,
    /// A link to the mark of what nginx loaded last ([`mark_of`]); gone after a boot.
    marker: String,
}

impl Paths {
    fn of(name: &str) -> Self {
        Self {
            available: format!("{AVAILABLE}/socle-{name}.conf"),
            enabled: format!("{ENABLED}/socle-{name}.conf"),
            marker: format!("{INPUTS_DIR}/nginx-{name}"),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Desired {
    /// The whole configuration file.
    pub text: Arc<str>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Observed {
    pub text: Option<String>,
    /// The link in `sites-enabled` is there and points to our file.
    pub enabled: bool,
    /// The mark of what nginx last loaded from us, if it runs since.
    pub loaded: Option<String>,
    /// The generation of its certificate on disk.
    pub certificate: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// Test the whole configuration with this candidate in it; only then put it in place and reload.
    Publish { text: Arc<str>, digest: Digest, replaces: bool },
    /// Only the certificate it names is another one.
    Reload { digest: Digest },
    /// Take the link away, reload, remove the file.
    Withdraw,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Change::Publish { replaces: false, .. } => "publish, reload nginx",
            Change::Publish { replaces: true, .. } => "replace, reload nginx",
            Change::Reload { .. } => "reload nginx with the new certificate",
            Change::Withdraw => "withdraw, reload nginx",
        })
    }
}

pub struct Site;

impl crate::resources::Resource for Site {
    const KIND: Kind = Kind::Site;
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
