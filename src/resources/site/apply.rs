use super::*;
use crate::durable::{self, DurableError};
use crate::host::PortError;
use crate::resources::About;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A change of a site's files that failed.
#[derive(Debug, thiserror::Error)]
enum ApplySite {
    #[error("cannot change the site's files")]
    Durable(#[from] DurableError),
    #[error(transparent)]
    Certificate(#[from] StoreError),
    #[error("cannot change the site's files: `{0}`")]
    Files(PathBuf, #[source] io::Error),
}

/// Guarantees: the running nginx has the old configuration or the new one. The candidate is tested
/// as part of the whole before a live file is touched; if nginx then still does not take it, the old
/// files are put back, so that a restart does not meet what a reload refused. The marker comes last:
/// whatever is cut before it is done again.
pub async fn apply(host: &Host, name: &str, change: &Change) -> Result<(), ApplyError> {
    let text = match change {
        Change::Publish { text, .. } => Some(&**text),
        Change::Reload { digest } => return reload(host, name, digest).await,
        Change::Withdraw => None,
    };
    host.web.test(name, text).await.map_err(about_the_site)?;
    let paths = Paths::of(name);
    // Looked at before the reload: one that comes after this look is loaded by the next pass.
    let certificate = certificate_of(host, name).map_err(|error| about_files(error.into()))?;
    let before = Before::look(host, &paths).map_err(about_files)?;
    let switched = match change {
        Change::Publish { text, .. } => enable(host, &paths, text),
        _ => durable::remove(&host.path(&paths.enabled)).map_err(ApplySite::from),
    };
    switched.map_err(about_files)?;
    if let Err(error) = host.web.reload().await {
        return Err(take_back(host, &paths, &before, error).await);
    }
    match change {
        Change::Publish { digest, .. } => mark(host, &paths, &mark_of(digest, certificate)),
        _ => forget(host, &paths),
    }
    .map_err(about_files)
}

/// Publishes several sites with one test and one reload, an outcome each: a test of some hundred sites, and new
/// workers, take tenths of a second each time.
///
/// Guarantees: those of [`apply`]. If it does not work with all of them, their old files are put back, and they are
/// published one by one: so whoever is to blame is found, and holds up nobody else.
pub async fn apply_together(host: &Host, all: &[(&str, &Change)]) -> Vec<Result<(), ApplyError>> {
    if let Some(done) = at_once(host, all).await {
        return done;
    }
    let mut done = Vec::new();
    for (name, change) in all {
        done.push(apply(host, name, change).await);
    }
    done
}

/// `None`: it does not work, and all is as it was before.
async fn at_once(host: &Host, all: &[(&str, &Change)]) -> Option<Vec<Result<(), ApplyError>>> {
    let text = |change: &Change| match change {
        Change::Publish { text, digest, .. } => Some((text.clone(), *digest)),
        Change::Reload { .. } | Change::Withdraw => None,
    };
    let texts = all.iter().map(|(name, change)| Some((*name, text(change)?))).collect::<Option<Vec<_>>>()?;
    let sites: Vec<(&str, &str)> = texts.iter().map(|(name, (text, _))| (*name, &**text)).collect();
    host.web.test_all(&sites).await.ok()?;
    let mut switched = Vec::new();
    for (name, (text, digest)) in &texts {
        let paths = Paths::of(name);
        let looked = certificate_of(host, name).ok().zip(Before::look(host, &paths).ok());
        let Some((certificate, before)) = looked else { return put_all_back(host, switched) };
        let enabled = enable(host, &paths, text);
        switched.push((paths, before, mark_of(digest, certificate)));
        if enabled.is_err() {
            return put_all_back(host, switched);
        }
    }
    if host.web.reload().await.is_err() {
        return put_all_back(host, switched);
    }
    Some(switched.iter().map(|(paths, _, text)| mark(host, paths, text).map_err(about_files)).collect())
}

/// What cannot be put back is written anew by whoever publishes them one by one, and told there.
fn put_all_back<T>(host: &Host, switched: Vec<(Paths, Before, String)>) -> Option<T> {
    for (paths, before, _) in switched.iter().rev() {
        if let Err(error) = before.put_back(host, paths) {
            tracing::warn!("{}", ErrorReport::of("site.files", &error, None));
        }
    }
    None
}

/// The text stays; nginx reads the files it names again.
async fn reload(host: &Host, name: &str, digest: &Digest) -> Result<(), ApplyError> {
    let certificate = certificate_of(host, name).map_err(|error| about_files(error.into()))?;
    if !reloaded_since(host, &host.path(certificate::current(name))).map_err(about_files)? {
        let before = host.path(RELOADING);
        durable::write(&before, b"", 0o644).map_err(|error| about_files(error.into()))?;
        host.web.reload().await.map_err(about_the_site)?;
        durable::rename(&before, &host.path(RELOADED)).map_err(|error| about_files(error.into()))?;
    }
    mark(host, &Paths::of(name), &mark_of(digest, certificate)).map_err(about_files)
}

/// Whether a reload of ours began after the file's last change: then nginx has read it. Of a hundred certificates
/// that come at once, the first loads them all.
fn reloaded_since(host: &Host, file: &Path) -> Result<bool, ApplySite> {
    use std::os::unix::fs::MetadataExt;
    let changed = |path: &Path| match fs::symlink_metadata(path) {
        Ok(seen) => Ok(Some((seen.ctime(), seen.ctime_nsec()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(ApplySite::Files(path.to_owned(), error)),
    };
    // Written before the reload; a rename changes its time of change, not that of its content.
    let began = match fs::symlink_metadata(host.path(RELOADED)) {
        Ok(seen) => Some((seen.mtime(), seen.mtime_nsec())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(ApplySite::Files(host.path(RELOADED), error)),
    };
    Ok(began.is_some() && began > changed(file)?)
}

fn enable(host: &Host, paths: &Paths, text: &str) -> Result<(), ApplySite> {
    durable::write(&host.path(&paths.available), text.as_bytes(), 0o644)?;
    Ok(durable::swap_link(Path::new(&paths.available), &host.path(&paths.enabled))?)
}

fn mark(host: &Host, paths: &Paths, mark: &str) -> Result<(), ApplySite> {
    let marker = host.path(&paths.marker);
    let directory = marker.parent().unwrap_or(&host.root);
    fs::create_dir_all(directory).map_err(|error| ApplySite::Files(directory.to_owned(), error))?;
    Ok(durable::swap_link(Path::new(mark), &marker)?)
}

/// The file goes last: while it is there, the site is known to be ours.
fn forget(host: &Host, paths: &Paths) -> Result<(), ApplySite> {
    match fs::remove_file(host.path(&paths.marker)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(ApplySite::Files(host.path(&paths.marker), error));
        }
        _ => {}
    }
    Ok(durable::remove(&host.path(&paths.available))?)
}

/// What was there before the switch.
struct Before {
    text: Option<Vec<u8>>,
    link: Option<PathBuf>,
}

impl Before {
    fn look(host: &Host, paths: &Paths) -> Result<Self, ApplySite> {
        let enabled = host.path(&paths.enabled);
        let link = match fs::read_link(&enabled) {
            Ok(target) => Some(target),
            // EINVAL: not a link, so not ours to bring back.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidInput) => None,
            Err(error) => return Err(ApplySite::Files(enabled, error)),
        };
        Ok(Self { text: durable::read(&host.path(&paths.available))?, link })
    }

    /// The file before the link, or the link is gone before the file: no moment in which the link
    /// leads nowhere.
    fn put_back(&self, host: &Host, paths: &Paths) -> Result<(), ApplySite> {
        let (available, enabled) = (host.path(&paths.available), host.path(&paths.enabled));
        if let (Some(text), Some(link)) = (&self.text, &self.link) {
            durable::write(&available, text, 0o644)?;
            return Ok(durable::swap_link(link, &enabled)?);
        }
        durable::remove(&enabled)?;
        match &self.text {
            Some(text) => Ok(durable::write(&available, text, 0o644)?),
            None => Ok(durable::remove(&available)?),
        }
    }
}

/// Says what really happened: also that going back failed.
async fn take_back(host: &Host, paths: &Paths, before: &Before, error: PortError) -> ApplyError {
    let mut failed = about_the_site(error);
    let causes = &mut failed.report.causes;
    match before.put_back(host, paths) {
        Err(error) => {
            let report = ErrorReport::of("site.files", &error, None);
            causes.push(format!("the earlier files could not be put back: {report}"));
        }
        Ok(()) => match host.web.reload().await {
            Ok(()) => causes.push("the earlier configuration is in place again".to_owned()),
            Err(error) => causes.push(format!("nginx does not take the earlier configuration either: {error}")),
        },
    }
    failed
}

/// Only a text nginx refuses speaks about what was released; all else about this server.
fn about_the_site(error: PortError) -> ApplyError {
    let about = if error.code == "site.rejected" { About::Release } else { About::Host };
    ApplyError { report: error.report(), about }
}

fn about_files(error: ApplySite) -> ApplyError {
    ApplyError::host("site.files", &error, None)
}
