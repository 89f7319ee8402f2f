//! Files of an instance that take the place of others: copies that are kept before a migration, and what a backup
//! brought. Everything is moved by its name, so each act may be repeated from any point.

use std::path::{Path, PathBuf};

use super::apply::{make_directory, remove_directory};
use super::*;
use crate::durable::{self, DurableError};
use crate::host::copies::{self, CopyError};

#[derive(Debug, thiserror::Error)]
enum FilesError {
    #[error("what was kept of `{of}` is gone: there is no `{at}`")]
    Gone { of: String, at: String },
    #[error("cannot look at `{0}`")]
    Look(PathBuf, #[source] std::io::Error),
    #[error("cannot make sure that `{0}` is on disk")]
    Sync(PathBuf, #[source] std::io::Error),
}

/// When the copies beside it were begun.
const SINCE: &str = "since";

/// While everything runs: what cannot be kept is told before anything is stopped, and what would be copied byte by
/// byte is copied now, so that only what is written meanwhile is left for then.
pub(super) async fn get_ready(
    host: &Host,
    name: &str,
    release: &ReleaseId,
    directories: &[String],
) -> Result<(), ApplyError> {
    let (stage, ahead) = (stage(name, release), ahead(name, release));
    remove(host, &stage).await?;
    remove(host, &ahead).await?;
    let (trees, place) = (directories.iter().map(|path| host.path(path)).collect::<Vec<_>>(), host.path(kept_of(name)));
    let long = blocking(move || copies::check_room(&trees, &place).and_then(|()| copies::takes_long(&place))).await?;
    if !long {
        return Ok(());
    }
    make_directory(&host.path(&stage))?;
    let mark = host.path(format!("{stage}/{SINCE}"));
    blocking(move || copies::Since::now(&mark)).await?;
    for (of, copy) in directories.iter().zip(copies_of(directories)) {
        let (from, to) = (host.path(of), host.path(format!("{stage}/{copy}")));
        if is_there(&from)? {
            blocking(move || copies::make_ahead(&from, &to)).await?;
        }
    }
    durable::rename(&host.path(&stage), &host.path(&ahead)).map_err(not_moved)
}

fn stage(name: &str, release: &ReleaseId) -> String {
    format!("{}/.stage-{release}", kept_of(name))
}

fn ahead(name: &str, release: &ReleaseId) -> String {
    format!("{}/.ahead-{release}", kept_of(name))
}

/// What the copies are called: two directories may end alike.
fn copies_of(directories: &[String]) -> Vec<String> {
    let last = |of: &String| of.rsplit('/').next().unwrap_or_default().to_owned();
    directories.iter().enumerate().map(|(nth, of)| format!("{nth}-{}", last(of))).collect()
}

/// Copies the directories, beside their place, and gives them their name when all of it is on disk. What
/// [`get_ready`] copied is brought up to date.
pub(super) async fn keep(
    host: &Host,
    name: &str,
    release: &ReleaseId,
    directories: &[String],
) -> Result<Vec<Kept>, ApplyError> {
    let place = kept_of(name);
    let (stage, ahead, done) = (stage(name, release), ahead(name, release), format!("{place}/{release}"));
    remove(host, &stage).await?;
    remove(host, &done).await?;
    let mark = host.path(format!("{stage}/{SINCE}"));
    let since = match is_there(&host.path(&ahead))? {
        false => {
            make_directory(&host.path(&stage))?;
            None
        }
        true => {
            durable::rename(&host.path(&ahead), &host.path(&stage)).map_err(not_moved)?;
            let mark = mark.clone();
            Some(blocking(move || copies::Since::of(&mark)).await?)
        }
    };
    let mut kept = Vec::new();
    for (of, copy) in directories.iter().zip(copies_of(directories)) {
        let (from, to) = (host.path(of), host.path(format!("{stage}/{copy}")));
        if !is_there(&from)? {
            remove(host, &format!("{stage}/{copy}")).await?;
            continue;
        }
        blocking(move || match since {
            Some(since) => copies::catch_up(&from, &to, since),
            None => copies::make(&from, &to).map(drop),
        })
        .await?;
        kept.push(Kept { of: of.clone(), at: format!("{done}/{copy}") });
    }
    durable::remove(&mark).map_err(not_moved)?;
    // Names before the one that says that they are all there.
    sync(&host.path(&stage))?;
    durable::rename(&host.path(&stage), &host.path(&done)).map_err(not_moved)?;
    Ok(kept)
}

/// Before anything is put back. `begun`: some of them may be in their places already.
pub(super) fn are_there(host: &Host, kept: &[Kept], begun: bool) -> Result<(), ApplyError> {
    for Kept { of, at } in kept {
        let there = is_there(&host.path(at))? || (begun && is_there(&host.path(of))?);
        if !there {
            let error = FilesError::Gone { of: of.clone(), at: at.clone() };
            let hint = "bring a backup back: `socle agent restore`";
            return Err(ApplyError::host("setup.kept-gone", &error, Some(hint.to_owned())));
        }
    }
    Ok(())
}

/// What is there goes to `aside`, or where [`clear`] removes it.
pub(super) fn put_back(
    host: &Host,
    name: &str,
    release: &ReleaseId,
    kept: &[Kept],
    aside: Option<&str>,
) -> Result<(), ApplyError> {
    let replaced = replaced(name, release);
    let aside = aside.unwrap_or(&replaced);
    for Kept { of, at } in kept {
        let last = at.rsplit('/').next().unwrap_or_default();
        put_in_place(host, &Staged { from: at.clone(), to: of.clone(), aside: format!("{aside}/{last}") })?;
    }
    Ok(())
}

/// After [`put_back`]: what nobody misses, and the directory that held the copies.
pub(super) async fn clear(host: &Host, name: &str, release: &ReleaseId) -> Result<(), ApplyError> {
    remove(host, &replaced(name, release)).await?;
    remove(host, &format!("{}/{release}", kept_of(name))).await
}

fn replaced(name: &str, release: &ReleaseId) -> String {
    format!("{}/.replaced-{release}", kept_of(name))
}

/// May be repeated from any point: what is still at `from` has not got its place yet.
pub(super) fn put_in_place(host: &Host, staged: &Staged) -> Result<(), ApplyError> {
    let [from, to, aside] = [&staged.from, &staged.to, &staged.aside].map(|path| host.path(path));
    if !is_there(&from)? {
        return Ok(());
    }
    make_directory(aside.parent().unwrap_or(Path::new("/")))?;
    if is_there(&to)? {
        // A mounted disk would go with it, and be emptied there.
        copies::refuse_mounts(&to).map_err(not_copied)?;
        // Left by a try that was interrupted before it noted its end: older still than what is there.
        remove_directory(&aside)?;
        durable::rename(&to, &aside).map_err(not_moved)?;
    }
    durable::rename(&from, &to).map_err(not_moved)
}

pub(super) async fn remove(host: &Host, path: &str) -> Result<(), ApplyError> {
    let path = host.path(path);
    blocking(move || copies::remove(&path)).await
}

/// Directories that held nothing but what was staged. What stays is no harm: the next restore uses it.
pub(super) fn tidy(host: &Host, returned: &Returned) {
    for dump in &returned.dumps {
        let _ = durable::remove(&host.path(&dump.path));
    }
    let staged = returned.directories.iter().flat_map(|staged| [&staged.from, &staged.aside]);
    for path in returned.dumps.iter().map(|dump| &dump.path).chain(staged) {
        if let Some(directory) = host.path(path).parent() {
            let _ = std::fs::remove_dir(directory);
        }
    }
}

fn sync(directory: &Path) -> Result<(), ApplyError> {
    let synced = std::fs::File::open(directory).and_then(|directory| directory.sync_all());
    synced.map_err(|error| ApplyError::host("setup.directory", &FilesError::Sync(directory.to_owned(), error), None))
}

/// What cannot be looked at is neither: no files are left out, and none count as moved.
fn is_there(path: &Path) -> Result<bool, ApplyError> {
    path.try_exists()
        .map_err(|error| ApplyError::host("setup.directory", &FilesError::Look(path.to_owned(), error), None))
}

fn not_moved(error: DurableError) -> ApplyError {
    ApplyError::host("setup.directory", &error, None)
}

fn not_copied(error: CopyError) -> ApplyError {
    let code = match &error {
        CopyError::NoRoom { .. } | CopyError::NoInodes { .. } => "setup.no-space",
        CopyError::Mounted(..) => "setup.mounted",
        _ => "setup.keep",
    };
    ApplyError::host(code, &error, error.hint())
}

async fn blocking<T: Send + 'static>(
    act: impl FnOnce() -> Result<T, CopyError> + Send + 'static,
) -> Result<T, ApplyError> {
    tokio::task::spawn_blocking(act).await.expect("copying does not panic").map_err(not_copied)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_looked_at_is_not_absent() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(is_there(file.path()).unwrap());
        assert!(!is_there(&file.path().with_extension("absent")).unwrap());
        let error = is_there(&file.path().join("inside-a-file")).unwrap_err();
        assert!(error.report.message.contains("cannot look at"), "{}", error.report);
    }
}
