use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::links::{self, LinkError};
use super::marker::Marker;
use super::place::Places;
use super::*;
use crate::durable::{self, DurableError};
use crate::host::{ArchiveLimits, Fetched, PortError};
use crate::resources::{About, Ready};

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
        Change::Fetch { id, spec, seen } => fetch(host, places, id, spec, *seen, Ready::at_once()).await,
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

/// The same for a release that is fetched beside other changes.
pub async fn apply_beside(host: &Host, name: &str, change: &Change, ready: Ready) -> Result<(), ApplyError> {
    match change {
        Change::Fetch { id, spec, seen } => fetch(host, Places::of(host, name), id, spec, *seen, ready).await,
        change => {
            ready.wait().await;
            apply(host, name, change).await
        }
    }
}

/// Until it is ready, only a download is made: the instance's own directory may not be there.
///
/// Interrupted anywhere, it leaves a stage, a marker without a release or a part of a download: all
/// of it is seen as a left-over, or continued.
async fn fetch(
    host: &Host,
    places: Places,
    id: &ReleaseId,
    spec: &Spec,
    seen: Option<Digest>,
    ready: Ready,
) -> Result<(), ApplyError> {
    let size = match &spec.source {
        // Only to know beforehand whether there is room: the download tells what is wrong better.
        Origin::Archive { source, .. } => host.fetch.size(source).await.ok().flatten().unwrap_or(0),
        Origin::Venv { .. } | Origin::Empty => 0,
    };
    let (stage, archive) = (places.stage(id), places.download(id));
    let (room, empty, directories) = (places.clone(), stage.clone(), places.clone());
    blocking(move || check_room(&room, size)).await?;
    let fetched = download(host, &places, id, spec, seen).await?;
    ready.wait().await;
    blocking(move || prepare(&directories, &empty)).await?;
    fill(host, &places, id, spec, fetched.as_ref()).await?;
    let sha256 = fetched.map(|fetched| fetched.sha256);
    let (id, spec) = (id.clone(), spec.clone());
    blocking(move || {
        links::make(&stage, &spec.links).map_err(ReleaseError::Link)?;
        let marker = Marker { spec, sha256, tree: Some(finish(&stage)?) };
        commit(&places, &id, &stage, &marker)?;
        remove_file(&archive)
    })
    .await
}

fn check_room(places: &Places, size: u64) -> Result<(), ReleaseError> {
    for (directory, needed) in [(&places.releases, size.saturating_mul(2)), (&places.downloads, size)] {
        let needed = needed.saturating_add(ROOM);
        let free = free_bytes(directory).map_err(|error| ReleaseError::Prepare(directory.clone(), error))?;
        if free < needed {
            return Err(ReleaseError::NoSpace { path: directory.clone(), free, needed });
        }
    }
    Ok(())
}

/// Where the directory is, or will be.
fn free_bytes(directory: &Path) -> io::Result<u64> {
    let mut ancestors = directory.ancestors();
    loop {
        let Some(path) = ancestors.next() else { return Err(io::ErrorKind::NotFound.into()) };
        match rustix::fs::statvfs(path) {
            Err(rustix::io::Errno::NOENT) => {}
            found => return found.map(|found| found.f_bavail.saturating_mul(found.f_frsize)).map_err(io::Error::from),
        }
    }
}

fn prepare(places: &Places, stage: &Path) -> Result<(), ReleaseError> {
    fs::create_dir_all(&places.releases).map_err(|error| ReleaseError::Prepare(places.releases.clone(), error))?;
    remove_tree(stage)?;
    fs::create_dir(stage).map_err(|error| ReleaseError::Prepare(stage.to_owned(), error))
}

/// Nothing for what is not made of an archive.
async fn download(
    host: &Host,
    places: &Places,
    id: &ReleaseId,
    spec: &Spec,
    seen: Option<Digest>,
) -> Result<Option<Fetched>, ApplyError> {
    let Origin::Archive { source, .. } = &spec.source else { return Ok(None) };
    let downloads = places.downloads.clone();
    blocking(move || fs::create_dir_all(&downloads).map_err(|error| ReleaseError::Prepare(downloads, error))).await?;
    let to = places.download(id);
    let fetched = host.fetch.fetch(source, &to, DOWNLOAD_BYTES, host.progress.as_ref()).await.map_err(port)?;
    if let Some(seen) = seen.filter(|seen| *seen != fetched.sha256) {
        let found = fetched.sha256;
        blocking(move || remove_file(&to)).await?;
        return Err(ReleaseError::Changed { url: source.url.clone(), seen, found }.into());
    }
    Ok(Some(fetched))
}

/// Puts the content into the empty stage.
async fn fill(
    host: &Host,
    places: &Places,
    id: &ReleaseId,
    spec: &Spec,
    fetched: Option<&Fetched>,
) -> Result<(), ApplyError> {
    let (stage, progress) = (places.stage(id), host.progress.as_ref());
    match (&spec.source, fetched) {
        (Origin::Venv { requirements, index }, _) => {
            let target = places.target.join(&id.0);
            host.builds.venv(&stage, &target, requirements, index.as_deref(), progress).await.map_err(port)
        }
        (Origin::Archive { strip, file: None, .. }, Some(fetched)) => {
            progress.say("unpacking");
            host.archives.unpack(&fetched.path, &stage, *strip, &ArchiveLimits::default()).await.map_err(port)
        }
        (Origin::Archive { file: Some(file), .. }, Some(fetched)) => {
            let (file, from) = (file.clone(), fetched.path.clone());
            blocking(move || store(&from, &stage, &file)).await
        }
        (Origin::Empty, _) | (Origin::Archive { .. }, None) => Ok(()),
    }
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
