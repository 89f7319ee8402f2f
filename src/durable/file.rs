use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// An act on a state file that failed.
#[derive(Debug, thiserror::Error)]
pub enum DurableError {
    #[error("cannot read `{0}`")]
    Read(PathBuf, #[source] io::Error),
    #[error("cannot write `{0}`")]
    Write(PathBuf, #[source] io::Error),
    #[error("cannot put `{0}` in place")]
    Rename(PathBuf, #[source] io::Error),
    #[error("cannot make sure that `{0}` is on disk")]
    Sync(PathBuf, #[source] io::Error),
    #[error("cannot remove `{0}`")]
    Remove(PathBuf, #[source] io::Error),
}

/// The bytes of `path`; `None` if there is no such file. Every other failure is an error.
pub fn read(path: &Path) -> Result<Option<Vec<u8>>, DurableError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(DurableError::Read(path.to_owned(), error)),
    }
}

/// Replaces `path` in one step. `prepare` may set the owner of the still unnamed file.
pub fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), DurableError> {
    write_new(path, bytes, mode, |_| Ok(()))
}

/// Like [`write`], with `prepare` run on the file before it gets its name: the moment to set its
/// owner.
pub fn write_new(
    path: &Path,
    bytes: &[u8],
    mode: u32,
    prepare: impl FnOnce(&File) -> io::Result<()>,
) -> Result<(), DurableError> {
    let temporary = temporary_beside(path);
    let written = write_temporary(&temporary, bytes, mode, prepare);
    if let Err(error) = written {
        // Best effort: the name is fixed, so the next write replaces what is left.
        let _ = fs::remove_file(&temporary);
        return Err(DurableError::Write(path.to_owned(), error));
    }
    if let Err(error) = fs::rename(&temporary, path) {
        let _ = fs::remove_file(&temporary);
        return Err(DurableError::Rename(path.to_owned(), error));
    }
    sync_parent(path)
}

/// Gives a complete file its name: fsync, rename, fsync of the directory. For what another program or a library
/// wrote; both names are in one directory.
pub fn put_in_place(temporary: &Path, path: &Path) -> Result<(), DurableError> {
    File::open(temporary)
        .and_then(|file| file.sync_all())
        .map_err(|error| DurableError::Sync(temporary.to_owned(), error))?;
    fs::rename(temporary, path).map_err(|error| DurableError::Rename(path.to_owned(), error))?;
    sync_parent(path)
}

/// Gives a file or directory another name on the same file system. At `to` there is nothing yet, or a file that a file
/// replaces.
pub fn rename(from: &Path, to: &Path) -> Result<(), DurableError> {
    fs::rename(from, to).map_err(|error| DurableError::Rename(to.to_owned(), error))?;
    sync_parent(to)?;
    sync_parent(from)
}

/// Removes `path`; that it was not there is fine.
pub fn remove(path: &Path) -> Result<(), DurableError> {
    match fs::remove_file(path) {
        Ok(()) => sync_parent(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(DurableError::Remove(path.to_owned(), error)),
    }
}

/// A fixed name, so that what an interruption leaves is replaced by the next write, not collected.
pub(super) fn temporary_beside(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".socle-new");
    path.with_file_name(name)
}

pub(super) fn sync_parent(path: &Path) -> Result<(), DurableError> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    File::open(parent)
        .and_then(|directory| directory.sync_all())
        .map_err(|error| DurableError::Sync(parent.to_owned(), error))
}

fn write_temporary(
    temporary: &Path,
    bytes: &[u8],
    mode: u32,
    prepare: impl FnOnce(&File) -> io::Result<()>,
) -> io::Result<()> {
    match fs::remove_file(temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // 0600 until the owner is right: a secret is never readable by the wrong user, not even shortly.
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(temporary)?;
    file.write_all(bytes)?;
    prepare(&file)?;
    file.set_permissions(Permissions::from_mode(mode))?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_and_leaves_nothing_beside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        assert_eq!(read(&path).unwrap(), None);
        write(&path, b"one", 0o640).unwrap();
        fs::write(temporary_beside(&path), b"left by a crash").unwrap();
        write(&path, b"two", 0o600).unwrap();
        assert_eq!(read(&path).unwrap().unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        remove(&path).unwrap();
        remove(&path).unwrap();
    }

    #[test]
    fn a_complete_file_gets_its_name_and_a_missing_one_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (path, temporary) = (dir.path().join("state"), dir.path().join("copy"));
        fs::write(&path, b"old").unwrap();
        assert!(matches!(put_in_place(&temporary, &path), Err(DurableError::Sync(..))));
        assert_eq!(read(&path).unwrap().unwrap(), b"old");
        fs::write(&temporary, b"new").unwrap();
        put_in_place(&temporary, &path).unwrap();
        assert_eq!(read(&path).unwrap().unwrap(), b"new");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_failed_preparation_leaves_the_old_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        write(&path, b"old", 0o600).unwrap();
        let failed = write_new(&path, b"new", 0o600, |_| Err(io::Error::other("no")));
        assert!(matches!(failed, Err(DurableError::Write(..))));
        assert_eq!(read(&path).unwrap().unwrap(), b"old");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn unreadable_is_not_absent() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(read(dir.path()), Err(DurableError::Read(..))));
    }
}
