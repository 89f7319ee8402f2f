//! A release that one instance of this server has, for another: copied, or cloned where the file system can, instead of
//! fetched again.

use std::fs;
use std::path::{Path, PathBuf};

use super::marker::Marker;
use super::place::{INSTANCES, Places};
use super::{Origin, ReleaseId};
use crate::durable::{self, DurableError};
use crate::host::Host;
use crate::host::copies::{self, CopyError};

#[derive(Debug, thiserror::Error)]
pub enum LendError {
    #[error(transparent)]
    Copy(#[from] CopyError),
    #[error("cannot make `{0}`")]
    Make(PathBuf, #[source] std::io::Error),
    #[error("cannot put the release in place")]
    Place(#[source] DurableError),
}

/// Whether there was one. What is copied is looked at before anything is switched to it, like what is fetched.
pub async fn lend(host: &Host, id: &ReleaseId, to: &str) -> Result<bool, LendError> {
    let (places, instances, id) = (Places::of(host, to), host.path(INSTANCES), id.clone());
    tokio::task::spawn_blocking(move || match whose(&instances, &id) {
        Some((release, marker)) => put(&release, &marker, &places, &id).map(|()| true),
        None => Ok(false),
    })
    .await
    .expect("copying does not panic")
}

/// A complete one and its marker. An environment works only where it was built.
fn whose(instances: &Path, id: &ReleaseId) -> Option<(PathBuf, Vec<u8>)> {
    let homes = fs::read_dir(instances).ok()?.flatten();
    homes.map(|home| home.path().join("releases")).find_map(|releases| {
        let marker = durable::read(&releases.join(format!(".{id}.json"))).ok()??;
        let release = releases.join(&id.0);
        let known: Marker = serde_json::from_slice(&marker).ok()?;
        let moves = matches!(known.spec.source, Origin::Archive { .. } | Origin::Empty);
        (moves && known.tree.is_some() && release.is_dir()).then_some((release, marker))
    })
}

/// In the order of a fetch: all of it on disk, the marker, the name.
fn put(from: &Path, marker: &[u8], places: &Places, id: &ReleaseId) -> Result<(), LendError> {
    let (stage, release) = (places.stage(id), places.release(id));
    if release == from {
        return Ok(());
    }
    fs::create_dir_all(&places.releases).map_err(|error| LendError::Make(places.releases.clone(), error))?;
    copies::remove(&stage)?;
    copies::make(from, &stage)?;
    durable::write(&places.marker(id), marker, 0o644).map_err(LendError::Place)?;
    durable::rename(&stage, &release).map_err(LendError::Place)
}
