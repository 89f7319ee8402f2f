use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::links::{self, LinkError};
use super::marker::Marker;
use super::place::Places;
use super::*;
use crate::durable::{self, DurableError};
use crate::host::{ArchiveLimits, PortError};
use crate::resources::About;

/// A release is unpacked beside its archive, and the server keeps some room.
const ROOM: u64 = 256 << 20;
/// No application's archive comes near it.
const DOWNLOAD_BYTES: u64 = 4 << 30;

#[derive(Debug, thiserror::Error)]
enum ReleaseError {
    #[error("cannot prepare `{0}`")]
    Prepare(PathBuf, #[source] io::Error),
    #[error("`{path}` has {free} bytes free, {needed} are needed")]
    NoSpace { path: PathBuf, free: u64, needed: u64 },
    #[error("the bytes at `{url}` have changed since they were first fetched: SHA-256 `{found}`, it was `{seen}`")]
    Changed { url: String, seen: Digest, found: Digest },
    #[error("`{0}` is not the name of a single file")]
    FileName(String),
    #[error("cannot make a link inside the release")]
    Link(#[source] LinkError),
    #[error("cannot bring the release to disk")]
    Sync(#[source] io::Error),
    #[error("cannot put the release in place")]
    Place(#[source] io::Error),
    #[error("cannot keep what the release was made of")]
    Marker(#[source] DurableError),
    #[error("cannot switch the link `current`")]
    Switch(#[source] DurableError),
    #[error("the release `{0}` is not there")]
    Missing(ReleaseId),
    #[error("cannot read `{0}`")]
    Read(PathBuf, #[source] io::Error),
    #[error("the release `{0}` was changed since it was unpacked; it is removed and not switched to")]
    Altered(ReleaseId),
    #[error("cannot remove `{0}`")]
    Remove(PathBuf, #[source] io::Error),
    #[error("`{0}` is not the name of a left-over")]
    Debris(String),
}

impl From<ReleaseError> for ApplyError {
    fn from(error: ReleaseError) -> Self {
        let (code, about, hint) = match &error {
            ReleaseError::NoSpace { .. } => {
                ("release.no-space", About::Host, Some("free disk space, then apply again"))
            }
            ReleaseError::Changed { .. } => (
                "release.changed",
                About::Release,
                Some("ask the authors why; if the new bytes are right, write their `sha256` into the document"),
            ),
            ReleaseError::FileName(_) => ("release.file-name", About::Release, None),
            ReleaseError::Link(link) if link.is_content() => ("release.link", About::Release, None),
            ReleaseError::Link(_) => ("release.link", About::Host, None),
            ReleaseError::Prepare(..) | ReleaseError::Place(_) | ReleaseError::Marker(_) => {
                ("release.write", About::Host, None)
            }
            ReleaseError::Sync(_) => ("release.sync", About::Host, Some("look for disk errors in the kernel's log")),
            ReleaseError::Switch(_) => ("release.switch", About::Host, None),
            ReleaseError::Missing(_) => ("release.missing", About::Host, None),
            ReleaseError::Read(..) => ("release.read", About::Host, Some("look for disk errors in the kernel's log")),
            ReleaseError::Altered(_) => (
                "release.altered",
                About::Host,
                Some("apply again: it is fetched anew; ask who writes below `/srv/socle`"),
            ),
            ReleaseError::Remove(..) | ReleaseError::Debris(_) => ("release.remove", About::Host, None),
        };
        let report = ErrorReport::of(code, &error, hint.map(str::to_owned));
        ApplyError { report, about }
    }
}

/// Only what the bytes themselves are speaks about the release: an error page, a missing file and a
/// dead network may be gone in an hour.
fn port(error: PortError) -> ApplyError {
    let content =
        ["archive.refused", "fetch.digest", "fetch.too-big", "fetch.insecure", "fetch.url", "build.requirement"];
    let about = if content.contains(&error.code) { About::Release } else { About::Host };
    ApplyError { report: error.report(), about }
}

pub async fn apply(host: &Host, name: &str, change: &Change) -> Result<(), ApplyError> {
    let places = Places::of(host, name);
    match change {
        Change::Fetch { id, spec, seen } => fetch(host, places, id, spec, *seen).await,
        Change::Activate { to, .. } => {
            let to = to.clone();
            blocking(move || activate(&places, &to)).await
        }
        Change::Remove { id } => {
            let id = id.clone();
            blocking(move || remove(&places, &id)).await
        }
        Change::Sweep { debris } => {
            let debris = debris.clone();
            blocking(move || debris.iter().try_for_each(|name| sweep(&places, name))).await
        }
        Change::Deactivate => blocking(move || durable::remove(&places.current).map_err(ReleaseError::Switch)).await,
    }
}

/// Interrupted anywhere, it leaves a stage, a marker without a release or a part of a download: all
/// of it is seen as a left-over, or continued.
async fn fetch(
    host: &Host,
    places: Places,
    id: &ReleaseId,
    spec: &Spec,
    seen: Option<Digest>,
) -> Result<(), ApplyError> {
    let size = match &spec.source {
        // Only to know beforehand whether there is room: the download tells what is wrong better.
        Origin::Archive { source, .. } => host.fetch.size(source).await.ok().flatten().unwrap_or(0),
        Origin::Venv { .. } | Origin::Empty => 0,
    };
    let (stage, download) = (places.stage(id), places.download(id));
    let (room, empty) = (places.clone(), stage.clone());
    blocking(move || prepare(&room, &empty, size)).await?;
    let sha256 = fill(host, &places, id, spec, seen).await?;
    let (id, spec) = (id.clone(), spec.clone());
    blocking(move || {
        links::make(&stage, &spec.links).map_err(ReleaseError::Link)?;
        let marker = Marker { spec, sha256, tree: Some(finish(&stage)?) };
        commit(&places, &id, &stage, &marker)?;
        remove_file(&download)
    })
    .await
}

fn prepare(places: &Places, stage: &Path, size: u64) -> Result<(), ReleaseError> {
    for directory in [&places.releases, &places.downloads] {
        fs::create_dir_all(directory).map_err(|error| ReleaseError::Prepare(directory.clone(), error))?;
    }
    for (directory, needed) in [(&places.releases, size.saturating_mul(2)), (&places.downloads, size)] {
        let needed = needed.saturating_add(ROOM);
        let free = free_bytes(directory).map_err(|error| ReleaseError::Prepare(directory.clone(), error))?;
        if free < needed {
            return Err(ReleaseError::NoSpace { path: directory.clone(), free, needed });
        }
    }
    remove_tree(stage)?;
    fs::create_dir(stage).map_err(|error| ReleaseError::Prepare(stage.to_owned(), error))
}

fn free_bytes(directory: &Path) -> io::Result<u64> {
    let found = rustix::fs::statvfs(directory)?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

/// Puts the content into the empty stage; the digest of what was fetched.
async fn fill(
    host: &Host,
    places: &Places,
    id: &ReleaseId,
    spec: &Spec,
    seen: Option<Digest>,
) -> Result<Option<Digest>, ApplyError> {
    let (stage, progress) = (places.stage(id), host.progress.as_ref());
    let (source, strip, file) = match &spec.source {
        Origin::Empty => return Ok(None),
        Origin::Venv { requirements, index } => {
            let target = places.target.join(&id.0);
            let built = host.builds.venv(&stage, &target, requirements, index.as_deref(), progress).await;
            return built.map(|()| None).map_err(port);
        }
        Origin::Archive { source, strip, file } => (source, *strip, file),
    };
    let download = places.download(id);
    let fetched = host.fetch.fetch(source, &download, DOWNLOAD_BYTES, progress).await.map_err(port)?;
    if let Some(seen) = seen.filter(|seen| *seen != fetched.sha256) {
        let found = fetched.sha256;
        blocking(move || remove_file(&download)).await?;
        return Err(ReleaseError::Changed { url: source.url.clone(), seen, found }.into());
    }
    match file {
        None => {
            progress.say("unpacking");
            host.archives.unpack(&fetched.path, &stage, strip, &ArchiveLimits::default()).await.map_err(port)?;
        }
        Some(file) => {
            let file = file.clone();
            blocking(move || store(&fetched.path, &stage, &file)).await?;
        }
    }
    Ok(Some(fetched.sha256))
}

fn store(from: &Path, stage: &Path, file: &str) -> Result<(), ReleaseError> {
    use std::os::unix::fs::PermissionsExt;
    if file.is_empty() || file.contains('/') || file.starts_with('.') {
        return Err(ReleaseError::FileName(file.to_owned()));
    }
    let to = stage.join(file);
    fs::copy(from, &to)
        .and_then(|_| fs::set_permissions(&to, fs::Permissions::from_mode(0o644)))
        .map_err(|error| ReleaseError::Prepare(to, error))
}

/// Brings the stage to disk; its digest, taken meanwhile.
///
/// One syncfs(2) instead of an fsync(2) for each file: it waits for exactly the same writes, in one
/// sweep, and (since Linux 5.8) reports the errors of all of them. Ten thousand small files take
/// seconds less.
fn finish(stage: &Path) -> Result<Digest, ReleaseError> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(stage, fs::Permissions::from_mode(0o755)).map_err(ReleaseError::Sync)?;
    let directory = File::open(stage).map_err(ReleaseError::Sync)?;
    std::thread::scope(|scope| {
        let syncing = scope.spawn(|| rustix::fs::syncfs(&directory));
        let digest = tree::digest(stage).map_err(|error| ReleaseError::Read(stage.to_owned(), error));
        syncing.join().expect("a system call does not panic").map_err(|error| ReleaseError::Sync(error.into()))?;
        digest
    })
}

/// Everything is on disk before the release has its name, and its marker too.
fn commit(places: &Places, id: &ReleaseId, stage: &Path, marker: &Marker) -> Result<(), ReleaseError> {
    let release = places.release(id);
    if release.symlink_metadata().is_ok() {
        // A directory of this name without a marker is not a release we made. It becomes a left-over.
        let aside = places.stage(&ReleaseId(format!("{id}.old")));
        remove_tree(&aside)?;
        fs::rename(&release, &aside).map_err(ReleaseError::Place)?;
    }
    let text = serde_json::to_vec_pretty(marker).map_err(|error| ReleaseError::Place(error.into()))?;
    durable::write(&places.marker(id), &text, 0o644).map_err(ReleaseError::Marker)?;
    fs::rename(stage, &release).map_err(ReleaseError::Place)?;
    sync_directory(&places.releases)?;
    remove_tree(&places.stage(&ReleaseId(format!("{id}.old"))))
}

/// What is not as it was staged is never switched to. It goes, so that the next pass fetches it again.
fn activate(places: &Places, to: &ReleaseId) -> Result<(), ReleaseError> {
    let release = places.release(to);
    if !release.is_dir() {
        return Err(ReleaseError::Missing(to.clone()));
    }
    if let Some(staged) = staged(&places.marker(to))? {
        let found = tree::digest(&release).map_err(|error| ReleaseError::Read(release, error))?;
        if found != staged {
            remove(places, to)?;
            return Err(ReleaseError::Altered(to.clone()));
        }
    }
    durable::swap_link(&Path::new("releases").join(&to.0), &places.current).map_err(ReleaseError::Switch)
}

fn staged(marker: &Path) -> Result<Option<Digest>, ReleaseError> {
    let bytes = durable::read(marker).map_err(ReleaseError::Marker)?.unwrap_or_default();
    let marker: Marker = serde_json::from_slice(&bytes).map_err(|error| ReleaseError::Place(error.into()))?;
    Ok(marker.tree)
}

/// Renamed first: a release is there as a whole or not at all.
fn remove(places: &Places, id: &ReleaseId) -> Result<(), ReleaseError> {
    let (release, stage) = (places.release(id), places.stage(id));
    remove_tree(&stage)?;
    match fs::rename(&release, &stage) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(ReleaseError::Remove(release, error)),
        _ => {}
    }
    sync_directory(&places.releases)?;
    remove_file(&places.marker(id))?;
    remove_tree(&stage)
}

fn sweep(places: &Places, name: &str) -> Result<(), ReleaseError> {
    let (below, file) = name.split_once('/').unwrap_or_default();
    let directory = match below {
        "releases" => &places.releases,
        "downloads" => &places.downloads,
        _ => return Err(ReleaseError::Debris(name.to_owned())),
    };
    if file.is_empty() || file.contains('/') || matches!(file, "." | "..") {
        return Err(ReleaseError::Debris(name.to_owned()));
    }
    remove_tree(&directory.join(file))
}

/// Removes a directory with everything in it, or a file; follows no link.
fn remove_tree(path: &Path) -> Result<(), ReleaseError> {
    let failed = |error| ReleaseError::Remove(path.to_owned(), error);
    match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed(error)),
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path).map_err(failed),
        Ok(_) => fs::remove_file(path).map_err(failed),
    }
}

fn remove_file(path: &Path) -> Result<(), ReleaseError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(ReleaseError::Remove(path.to_owned(), error)),
        _ => Ok(()),
    }
}

fn sync_directory(path: &Path) -> Result<(), ReleaseError> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(ReleaseError::Sync)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ReleaseError> + Send + 'static,
) -> Result<T, ApplyError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(ApplyError::from),
        Err(panic) => Err(ApplyError::host("release.write", &panic, None)),
    }
}
