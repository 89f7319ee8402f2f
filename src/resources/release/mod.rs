//! The unpacked versions of an instance's application, and which is current. Named like the
//! instance; lives in `/srv/socle/<instance>/releases/<id>`, `current` is a symbolic link to one.

mod apply;
mod diff;
mod lend;
mod links;
mod marker;
mod observe;
mod place;
#[cfg(test)]
mod tests;
mod tree;

pub use apply::apply_beside;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use crate::host::Host;
use crate::model::Kind;
use crate::model::report::ErrorReport;
use crate::resources::{ApplyError, Diff};
use serde::{Deserialize, Serialize};

use crate::model::document::Source;
use crate::model::{Digest, Version};

/// One version from one source, built one way: `<version>-<8 hex digits of its inputs>`. Two
/// releases with the same id have the same content.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ReleaseId(pub String);

impl fmt::Display for ReleaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Everything that decides the content of a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    pub version: Version,
    pub source: Origin,
    /// Links made inside the release to what persists outside.
    pub links: Vec<Link>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// An archive, unpacked; or a single file.
    Archive {
        source: Source,
        /// Leading path components to drop.
        strip: u32,
        /// A single file is stored under this name instead of being unpacked.
        file: Option<String>,
    },
    /// A Python virtual environment with these requirements (`radicale==3.9.0`) installed by pip.
    Venv { requirements: Vec<String>, index: Option<String> },
    /// Nothing to fetch: an empty directory (a static site whose files are data).
    Empty,
}

/// `path` inside the release becomes a symbolic link to `target` (relative to the instance's
/// directory). What the release ships at `path` is kept beside it as `<path>.dist`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    pub path: String,
    pub target: String,
}

impl Spec {
    pub fn id(&self) -> ReleaseId {
        let inputs = serde_json::to_vec(self).expect("a spec is plain data");
        ReleaseId(format!("{}-{}", self.version, &Digest::of(inputs).to_string()[..8]))
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Desired {
    /// `None`: no release is current and none is kept (asked for only by a purge).
    pub spec: Option<Arc<Spec>>,
    /// Others to keep: the last good one.
    pub keep: BTreeSet<ReleaseId>,
    /// The digest the bytes had when this source was first fetched, if it carries none of its own.
    pub seen: Option<Digest>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Observed {
    /// Complete releases with the SHA-256 of what they were unpacked from.
    pub present: BTreeMap<ReleaseId, Option<Digest>>,
    pub current: Option<ReleaseId>,
    /// Left by something that was interrupted: stage directories, partial downloads of other
    /// versions.
    pub debris: BTreeSet<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// Download (resumed if begun), check, unpack beside the others, build, link, fsync, rename.
    Fetch {
        id: ReleaseId,
        spec: Arc<Spec>,
        seen: Option<Digest>,
    },
    /// Swap the `current` link.
    Activate {
        from: Option<ReleaseId>,
        to: ReleaseId,
    },
    Remove {
        id: ReleaseId,
    },
    Sweep {
        debris: BTreeSet<String>,
    },
    Deactivate,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::Fetch { spec, .. } => match &spec.source {
                Origin::Archive { source, .. } => write!(f, "fetch {} and unpack", source.url),
                Origin::Venv { requirements, .. } => {
                    write!(f, "build virtual environment with {}", requirements.join(" "))
                }
                Origin::Empty => write!(f, "create"),
            },
            Change::Activate { from: None, to } => write!(f, "make {to} current"),
            Change::Activate { from: Some(from), to } => write!(f, "switch from {from} to {to}"),
            Change::Remove { id } => write!(f, "remove {id}"),
            Change::Sweep { debris } => write!(f, "remove {} left-over(s)", debris.len()),
            Change::Deactivate => write!(f, "remove the `current` link"),
        }
    }
}

pub use lend::{LendError, lend};

pub struct Release;

impl crate::resources::Resource for Release {
    const KIND: Kind = Kind::Release;
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
