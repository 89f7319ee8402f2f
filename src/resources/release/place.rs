//! Where a release and what belongs to it is.
//!
//! ```text
//! /srv/socle/<instance>/current -> releases/<id>
//!                       releases/<id>/          a complete release
//!                       releases/.<id>.json     its marker: what it was made of
//!                       releases/.stage-<id>    being made, or left by an interruption
//! /var/cache/socle/downloads/<instance>/<id>    a download, with .part and .part.json while it is not complete
//! ```
//!
//! The marker lies beside the release and not in it: no web server serves it and no archive can bring
//! one. It is on disk before the release gets its name, so a named release always has one; a marker
//! without a release is a left-over.

use std::path::PathBuf;

use super::ReleaseId;
use crate::host::Host;

pub(super) const INSTANCES: &str = "/srv/socle";
pub(super) const DOWNLOADS: &str = "/var/cache/socle/downloads";
pub(super) const STAGE: &str = ".stage-";

#[derive(Clone)]
pub(super) struct Places {
    pub releases: PathBuf,
    pub downloads: PathBuf,
    pub current: PathBuf,
    /// `releases` as it is on the server, for what is built to work there.
    pub target: PathBuf,
}

impl Places {
    pub fn of(host: &Host, name: &str) -> Self {
        let target = PathBuf::from(INSTANCES).join(name).join("releases");
        let instance = host.path(INSTANCES).join(name);
        Self {
            releases: instance.join("releases"),
            current: instance.join("current"),
            downloads: host.path(DOWNLOADS).join(name),
            target,
        }
    }

    pub fn release(&self, id: &ReleaseId) -> PathBuf {
        self.releases.join(&id.0)
    }

    pub fn stage(&self, id: &ReleaseId) -> PathBuf {
        self.releases.join(format!("{STAGE}{id}"))
    }

    pub fn marker(&self, id: &ReleaseId) -> PathBuf {
        self.releases.join(format!(".{id}.json"))
    }

    pub fn download(&self, id: &ReleaseId) -> PathBuf {
        self.downloads.join(&id.0)
    }
}

/// Left-overs are named `releases/<file>` or `downloads/<file>`, below the instance.
pub(super) fn in_releases(file: &str) -> String {
    format!("releases/{file}")
}

pub(super) fn in_downloads(file: &str) -> String {
    format!("downloads/{file}")
}
