//! A second tree of the same content, made while nobody writes: in constant time and space where the file system
//! can, else byte by byte.
//!
//! | what is copied | how |
//! |---|---|
//! | a subvolume of btrfs with none in it | a snapshot: constant time |
//! | files of btrfs, or of XFS with reflinks | clones: each shares its extents until one of both is written |
//! | anything else | copies; holes stay holes. Made ahead, while the files are in use, and brought up to date ([`catch_up`]) |
//!
//! # Guarantees
//!
//! Content, owners, permissions, access lists, attributes, times and hard links are those of the original, and no file
//! of the copy is a hard link to one of the original. Trees are walked by open directories, never through a link of
//! an application. When [`make`] answers, the copy is on disk. A mount in the tree is an error, not left out.

mod ahead;
mod btrfs;
mod moment;
mod tree;

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::Mode;
use rustix::io::Errno;

pub use ahead::{Since, catch_up, make_ahead};
#[cfg(any(test, feature = "testing"))]
pub(super) use moment::take;
pub use moment::{BtrfsSnapshots, SUBCOMMAND, child_main};

use super::files::mounted_in;

/// What stays free whatever is copied: the server lives on.
const ROOM: u64 = 256 << 20;

#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    #[error("cannot read `{}`", .0.display())]
    Read(PathBuf, #[source] io::Error),
    #[error("cannot write `{}`", .0.display())]
    Write(PathBuf, #[source] io::Error),
    #[error("cannot remove `{}`", .0.display())]
    Remove(PathBuf, #[source] io::Error),
    #[error("`{}` is mounted in `{}`", .1.display(), .0.display())]
    Mounted(PathBuf, PathBuf),
    #[error("`{}` is a device", .0.display())]
    Device(PathBuf),
    #[error("`{}` has {free} bytes free, {needed} are needed for a copy of its files", .path.display())]
    NoRoom { path: PathBuf, free: u64, needed: u64 },
    #[error("the file system of `{}` has room for {free} more files, {needed} are needed", .path.display())]
    NoInodes { path: PathBuf, free: u64, needed: u64 },
}

impl CopyError {
    pub fn hint(&self) -> Option<String> {
        match self {
            CopyError::Mounted(directory, _) => Some(format!(
                "mount the disk above `{}`: what is mounted in there could not be brought back with the rest",
                directory.display()
            )),
            CopyError::NoRoom { path, .. } => Some(format!("free disk space: see `df -h {}`", path.display())),
            CopyError::NoInodes { path, .. } => Some(format!("remove files: see `df -i {}`", path.display())),
            CopyError::Write(path, error) if error.kind() == io::ErrorKind::StorageFull => {
                Some(format!("free disk space: see `df -h {}`", path.display()))
            }
            CopyError::Device(path) => Some(format!("remove it: `{}`", path.display())),
            _ => None,
        }
    }
}

/// How a copy came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Snapshot,
    /// Every file of it.
    Clones,
    Copies,
}

/// Whether the trees can be copied into `place`, a directory that is made (0700) if it is not there, and which is on
/// their file system.
pub fn check_room(trees: &[PathBuf], place: &Path) -> Result<(), CopyError> {
    make_place(place)?;
    for tree in trees {
        refuse_mounts(tree)?;
    }
    let (mut bytes, mut files) = (0, 0);
    if !clones_files(place)? {
        for tree in trees {
            measure(tree, &mut bytes, &mut files)?;
        }
    }
    let free = rustix::fs::statvfs(place).map_err(|error| CopyError::Read(place.to_owned(), error.into()))?;
    let needed = bytes + ROOM;
    let available = free.f_bavail.saturating_mul(free.f_frsize);
    if available < needed {
        return Err(CopyError::NoRoom { path: place.to_owned(), free: available, needed });
    }
    // A file system without a fixed number of files says that it has none.
    if free.f_files > 0 && free.f_favail < files {
        return Err(CopyError::NoInodes { path: place.to_owned(), free: free.f_favail, needed: files });
    }
    Ok(())
}

/// Whether a copy in `place` takes the time and room of its files: then it is made ahead.
pub fn takes_long(place: &Path) -> Result<bool, CopyError> {
    Ok(!clones_files(place)?)
}

/// Copies the directory `from` to `to`, where nothing stands yet, in a directory that is there.
pub fn make(from: &Path, to: &Path) -> Result<Way, CopyError> {
    refuse_mounts(from)?;
    if btrfs::is_plain_subvolume(from) && btrfs::snapshot(from, to, false).is_ok() {
        return Ok(Way::Snapshot);
    }
    let way = tree::copy(from, to)?;
    // One sweep instead of an fsync(2) for each of many files, and it tells the errors of all of them.
    flush(to)?;
    Ok(way)
}

/// Makes the directory `name` in an open one: a subvolume where the file system has them, so that all of it can be
/// taken in a moment later. That it exists is an error.
pub fn make_directory(parent: &File, name: &OsStr) -> io::Result<()> {
    if btrfs::is_on(parent) {
        match btrfs::create(parent, name) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(error),
            // A full tree of subvolumes, a kernel that forbids them: a directory does as well.
            Err(error) => tracing::debug!(%error, "no subvolume is made"),
            Ok(()) => return Ok(()),
        }
    }
    Ok(rustix::fs::mkdirat(parent, name, Mode::RWXU)?)
}

/// Everything of a file system that is still to be written, so that a moment later little is.
pub fn flush(directory: &Path) -> Result<(), CopyError> {
    let written = File::open(directory).and_then(|directory| Ok(rustix::fs::syncfs(directory)?));
    written.map_err(|error| CopyError::Write(directory.to_owned(), error))
}

/// Removes a tree; that there is none is fine. One with a mount in it stays.
pub fn remove(path: &Path) -> Result<(), CopyError> {
    if fs::symlink_metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
        return Ok(());
    }
    refuse_mounts(path)?;
    if destroyed(path) {
        return Ok(());
    }
    // Copies stand in a directory of their own; what cannot be listed is told below.
    for copy in fs::read_dir(path).into_iter().flatten().flatten() {
        destroyed(&copy.path());
    }
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(CopyError::Remove(path.to_owned(), error)),
        _ => Ok(()),
    }
}

/// A subvolume goes in constant time; one that does not go so goes file by file.
fn destroyed(path: &Path) -> bool {
    btrfs::is_plain_subvolume(path) && btrfs::destroy(path).is_ok()
}

/// Nothing is mounted at or below `tree`: a mount would go wherever the tree goes.
pub fn refuse_mounts(tree: &Path) -> Result<(), CopyError> {
    let unreadable = |error| CopyError::Read(tree.to_owned(), error);
    let real = match fs::canonicalize(tree) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        real => real.map_err(unreadable)?,
    };
    match mounted_in(&real).map_err(unreadable)? {
        Some(mounted) => Err(CopyError::Mounted(tree.to_owned(), mounted)),
        None => Ok(()),
    }
}

fn make_place(place: &Path) -> Result<(), CopyError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(place);
    made.map_err(|error| CopyError::Write(place.to_owned(), error))
}

/// Tried on files without names.
fn clones_files(place: &Path) -> Result<bool, CopyError> {
    let failed = |error| CopyError::Write(place.to_owned(), error);
    let (from, to) = (tempfile::tempfile_in(place).map_err(failed)?, tempfile::tempfile_in(place).map_err(failed)?);
    io::Write::write_all(&mut &from, &[0; 4096]).map_err(failed)?;
    match rustix::fs::ioctl_ficlone(&to, &from) {
        Ok(()) => Ok(true),
        Err(Errno::NOTSUP | Errno::INVAL | Errno::XDEV | Errno::NOTTY) => Ok(false),
        Err(error) => Err(failed(error.into())),
    }
}

/// What a copy takes, with some for what is in use and grows.
fn measure(tree: &Path, bytes: &mut u64, files: &mut u64) -> Result<(), CopyError> {
    let mut directories = vec![tree.to_owned()];
    while let Some(directory) = directories.pop() {
        let failed = |error| CopyError::Read(directory.clone(), error);
        let entries = match fs::read_dir(&directory) {
            // It is in use: what was there a moment ago may be gone.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            entries => entries.map_err(failed)?,
        };
        for entry in entries {
            let entry = entry.map_err(failed)?;
            let Ok(about) = entry.metadata() else { continue };
            *files += 1;
            *bytes += about.blocks().saturating_mul(512);
            if about.is_dir() {
                directories.push(entry.path());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_asked_for_before_anything_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("data");
        fs::create_dir(&tree).unwrap();
        let place = dir.path().join("kept");
        check_room(std::slice::from_ref(&tree), &place).unwrap();
        assert_eq!(fs::metadata(&place).unwrap().mode() & 0o777, 0o700);
        assert_eq!(fs::read_dir(&place).unwrap().count(), 0);
        let (mut bytes, mut files) = (0, 0);
        fs::write(tree.join("a"), vec![1; 1 << 20]).unwrap();
        measure(&tree, &mut bytes, &mut files).unwrap();
        assert!(files == 1 && bytes >= 1 << 20, "{files} {bytes}");
        assert!(check_room(&[dir.path().join("gone")], &place).is_ok());
    }

    #[test]
    fn what_is_not_there_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("kept");
        fs::create_dir_all(tree.join("a/b")).unwrap();
        remove(&tree).unwrap();
        remove(&tree).unwrap();
        assert!(!tree.exists());
    }
}
