//! A copy that is made while the files are in use, and brought up to date when nobody writes: then only what was
//! written meanwhile is copied.
//!
//! What the copy may keep is told by the time of the last change of a file (inode(7), `ctime`), which no application
//! sets: it is older than the beginning of the copy. Length and time of the last write must be the same too, in case
//! somebody set the clock back.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, Stat, openat, statat, unlinkat};
use rustix::io::Errno;

use super::tree::{Copier, Level, directory_flags, finish};
use super::{CopyError, flush};

/// When a copy was begun, by the clock of the file system that is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Since(i64, i64);

impl Since {
    /// Makes an empty file, and takes its time.
    pub fn now(mark: &Path) -> Result<Self, CopyError> {
        File::create(mark).map_err(|error| CopyError::Write(mark.to_owned(), error))?;
        Self::of(mark)
    }

    pub fn of(mark: &Path) -> Result<Self, CopyError> {
        let about = fs::symlink_metadata(mark).map_err(|error| CopyError::Read(mark.to_owned(), error))?;
        Ok(Self(about.ctime(), about.ctime_nsec()))
    }
}

/// Copies `from` to `to`, where nothing stands yet, though files come and go meanwhile.
pub fn make_ahead(from: &Path, to: &Path) -> Result<(), CopyError> {
    Copier::begin(from, to, true)?.copy_all(from, to)?;
    flush(to)
}

/// Makes the copy `to` the same as `from`, which nobody writes to. `since`: when the copy was begun.
pub fn catch_up(from: &Path, to: &Path, since: Since) -> Result<(), CopyError> {
    let mut copier = Copier::begin(from, to, false)?;
    let mut open = vec![copier.level(from, to)?];
    while let Some(level) = open.last_mut() {
        match level.names.pop() {
            Some(name) => {
                let below = one(&mut copier, level, &name, since)?;
                open.extend(below);
            }
            None => {
                if let Some(Level { from, to, at, stat, .. }) = open.pop() {
                    finish(&from, &to, &stat).map_err(|error| copier.unwritable(&at, error))?;
                }
            }
        }
    }
    flush(to)
}

/// One name of either side.
fn one(copier: &mut Copier<'_>, level: &Level, name: &OsStr, since: Since) -> Result<Option<Level>, CopyError> {
    let at = level.at.join(name);
    let look = |directory| match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => Ok(None),
        stat => stat.map(Some).map_err(|error| copier.unreadable(&at, error)),
    };
    let (now, copied) = (look(&level.from)?, look(&level.to)?);
    let kind = |stat: &Stat| FileType::from_raw_mode(stat.st_mode);
    match (now, copied) {
        (None, None) => Ok(None),
        (Some(_), None) => copier.entry(level, name),
        (Some(now), Some(copied)) if kind(&now) == FileType::Directory && kind(&copied) == FileType::Directory => {
            copier.existing(level, name, at).map(Some)
        }
        (Some(now), Some(copied)) if kind(&now) == kind(&copied) && is_as_it_was(&now, &copied, since) => {
            copier.remember(&now, &at);
            Ok(None)
        }
        (now, Some(copied)) => {
            remove(level, name, &copied).map_err(|error| copier.unwritable(&at, error))?;
            if now.is_some() { copier.entry(level, name) } else { Ok(None) }
        }
    }
}

fn is_as_it_was(now: &Stat, copied: &Stat, since: Since) -> bool {
    let written = |stat: &Stat| (stat.st_mtime, stat.st_mtime_nsec);
    let changed = Since(now.st_ctime, i64::try_from(now.st_ctime_nsec).unwrap_or(i64::MAX));
    changed < since && now.st_size == copied.st_size && written(now) == written(copied)
}

/// Of the copy, which nobody else knows.
fn remove(level: &Level, name: &OsStr, copied: &Stat) -> std::io::Result<()> {
    if FileType::from_raw_mode(copied.st_mode) != FileType::Directory {
        return Ok(unlinkat(&level.to, name, AtFlags::empty())?);
    }
    // Its own path, whatever happens above it.
    let directory = openat(&level.to, name, directory_flags(), Mode::empty())?;
    let path = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()));
    for entry in fs::read_dir(&path)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => fs::remove_dir_all(entry.path())?,
            false => fs::remove_file(entry.path())?,
        }
    }
    Ok(unlinkat(&level.to, name, AtFlags::REMOVEDIR)?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::super::tree::tests::told;
    use super::*;

    fn inode(path: &Path) -> u64 {
        fs::symlink_metadata(path).unwrap().ino()
    }

    #[test]
    fn only_what_changed_is_copied_again() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("data"), dir.path().join("copy"));
        fs::create_dir_all(from.join("a/b")).unwrap();
        for name in ["a/same", "a/changed", "a/touched", "a/gone", "a/b/mode", "kind", "linked", "link-to-be"] {
            fs::write(from.join(name), "before").unwrap();
        }
        fs::hard_link(from.join("linked"), from.join("a/linked-too")).unwrap();
        fs::create_dir_all(from.join("dir-gone/deep")).unwrap();
        fs::write(from.join("dir-gone/deep/file"), "x").unwrap();
        symlink("a", from.join("link")).unwrap();
        let old = filetime("2024-01-02T03:04:05Z");
        fs::File::open(from.join("a/changed")).unwrap().set_modified(old).unwrap();

        let since = wait_for_a_tick(&dir.path().join("since"));
        make_ahead(&from, &to).unwrap();
        assert_eq!(told(&to), told(&from));
        let kept = inode(&to.join("a/same"));

        // Of the same length, and with the same time of its last write.
        fs::write(from.join("a/changed"), "AFTER!").unwrap();
        fs::File::open(from.join("a/changed")).unwrap().set_modified(old).unwrap();
        fs::remove_file(from.join("a/gone")).unwrap();
        fs::remove_dir_all(from.join("dir-gone")).unwrap();
        fs::set_permissions(from.join("a/b/mode"), fs::Permissions::from_mode(0o4640)).unwrap();
        fs::remove_file(from.join("kind")).unwrap();
        fs::create_dir(from.join("kind")).unwrap();
        fs::write(from.join("kind/new"), "new").unwrap();
        fs::hard_link(from.join("link-to-be"), from.join("a/b/linked-now")).unwrap();
        fs::remove_file(from.join("link")).unwrap();
        symlink("a/b", from.join("link")).unwrap();
        catch_up(&from, &to, since).unwrap();
        assert_eq!(told(&to), told(&from));
        assert_eq!(fs::read(to.join("a/changed")).unwrap(), b"AFTER!");
        assert_eq!(inode(&to.join("a/same")), kept, "it is not copied again");
        for (one, other) in [("linked", "a/linked-too"), ("link-to-be", "a/b/linked-now")] {
            assert_eq!(inode(&to.join(one)), inode(&to.join(other)), "{one}: one file with two names");
            assert_ne!(inode(&to.join(one)), inode(&from.join(one)));
        }
        let kept = inode(&to.join("linked"));
        catch_up(&from, &to, since).unwrap();
        assert_eq!((told(&to), inode(&to.join("linked"))), (told(&from), kept));
    }

    /// Files of before are older than the mark: the clock of files goes on in ticks.
    fn wait_for_a_tick(mark: &Path) -> Since {
        let first = Since::now(mark).unwrap();
        loop {
            fs::remove_file(mark).unwrap();
            let since = Since::now(mark).unwrap();
            if since > first {
                return since;
            }
        }
    }

    fn filetime(text: &str) -> std::time::SystemTime {
        text.parse::<jiff::Timestamp>().unwrap().into()
    }
}
