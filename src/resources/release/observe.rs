use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::marker::Marker;
use super::place::{self, Places, STAGE};
use super::*;
use crate::model::backup::SCRATCH;

#[derive(Debug, thiserror::Error)]
enum LookError {
    #[error("cannot look into `{0}`")]
    Look(PathBuf, #[source] io::Error),
    #[error("`{0}` has a name that is not UTF-8")]
    Name(PathBuf),
    #[error("`{0}` is not a link to a release")]
    Current(PathBuf),
    #[error("cannot read the marker `{0}`")]
    Marker(PathBuf, #[source] crate::durable::DurableError),
    #[error("the marker `{0}` is damaged")]
    Damaged(PathBuf, #[source] serde_json::Error),
}

impl LookError {
    fn report(&self) -> ErrorReport {
        let hint = match self {
            LookError::Current(path) => Some(format!("move `{}` away; socle makes the link again", path.display())),
            LookError::Damaged(path, _) => {
                Some(format!("remove `{}`; the release is then fetched again", path.display()))
            }
            LookError::Look(..) | LookError::Name(_) | LookError::Marker(..) => None,
        };
        ErrorReport::of("release.unreadable", self, hint)
    }
}

/// Instances that have a release, or something of one.
pub async fn list(host: &Host) -> Result<BTreeSet<String>, ErrorReport> {
    let host = host.clone();
    blocking(move || {
        let mut names = BTreeSet::new();
        // What a drill has is its own to remove.
        for name in entries(&host.path(place::INSTANCES))?.into_iter().filter(|name| name != SCRATCH) {
            let places = Places::of(&host, &name);
            // An odd `current` is told when it is looked at; here it must not hide the others.
            if !entries(&places.releases)?.is_empty() || !matches!(current(&places.current), Ok(None)) {
                names.insert(name);
            }
        }
        Ok(names)
    })
    .await
}

pub async fn observe(host: &Host, names: &BTreeSet<String>) -> BTreeMap<String, Result<Observed, ErrorReport>> {
    let mut seen = BTreeMap::new();
    for name in names {
        let places = Places::of(host, name);
        seen.insert(name.clone(), blocking(move || look(&places)).await);
    }
    seen
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, LookError> + Send + 'static,
) -> Result<T, ErrorReport> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(|error| error.report()),
        Err(panic) => Err(ErrorReport::of("release.unreadable", &panic, None)),
    }
}

fn look(places: &Places) -> Result<Observed, LookError> {
    let mut observed = Observed { current: current(&places.current)?, ..Observed::default() };
    let files = entries(&places.releases)?;
    for file in &files {
        let marked = file.strip_prefix('.').and_then(|name| name.strip_suffix(".json"));
        match marked {
            _ if file.starts_with(STAGE) => drop(observed.debris.insert(place::in_releases(file))),
            Some(id) if files.contains(id) => {
                let marker = marker(&places.releases.join(file))?;
                observed.present.insert(ReleaseId(id.to_owned()), marker.sha256);
            }
            // Its release is found without it, or is gone.
            Some(_) => drop(observed.debris.insert(place::in_releases(file))),
            None if files.contains(&format!(".{file}.json")) => {}
            None => drop(observed.debris.insert(place::in_releases(file))),
        }
    }
    observed.debris.extend(entries(&places.downloads)?.iter().map(|file| place::in_downloads(file)));
    Ok(observed)
}

fn marker(path: &Path) -> Result<Marker, LookError> {
    let bytes = crate::durable::read(path).map_err(|error| LookError::Marker(path.to_owned(), error))?;
    serde_json::from_slice(&bytes.unwrap_or_default()).map_err(|error| LookError::Damaged(path.to_owned(), error))
}

fn current(link: &Path) -> Result<Option<ReleaseId>, LookError> {
    let target = match fs::read_link(link) {
        Ok(target) => target,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => return Err(LookError::Current(link.to_owned())),
        Err(error) => return Err(LookError::Look(link.to_owned(), error)),
    };
    let id = target.to_str().and_then(|target| target.strip_prefix("releases/"));
    match id {
        Some(id) if !id.is_empty() && !id.contains('/') => Ok(Some(ReleaseId(id.to_owned()))),
        _ => Err(LookError::Current(link.to_owned())),
    }
}

/// The names in a directory; none if it is not there.
fn entries(directory: &Path) -> Result<BTreeSet<String>, LookError> {
    let failed = |error| LookError::Look(directory.to_owned(), error);
    let listed = match fs::read_dir(directory) {
        Ok(listed) => listed,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(BTreeSet::new());
        }
        Err(error) => return Err(failed(error)),
    };
    listed
        .map(|entry| {
            let entry = entry.map_err(failed)?;
            entry.file_name().into_string().map_err(|_| LookError::Name(entry.path()))
        })
        .collect()
}
