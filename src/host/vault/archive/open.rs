//! Opening what was listed, never through a link and never waiting.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, StatxAttributes, StatxFlags, openat, statx};

/// Opens a directory and lists it; `None` for a mount point, unless it is what the order names.
pub(super) fn open_directory(
    parent: &OwnedFd,
    name: &OsStr,
    is_first: bool,
) -> io::Result<Option<(OwnedFd, Vec<OsString>)>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = openat(parent, name, flags, Mode::empty())?;
    if !is_first {
        let about = statx(&fd, c"", AtFlags::EMPTY_PATH, StatxFlags::TYPE)?;
        if about.stx_attributes.contains(StatxAttributes::MOUNT_ROOT) {
            return Ok(None);
        }
    }
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(&fd)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(OsStr::from_bytes(name).to_owned());
        }
    }
    names.sort_unstable_by(|one, other| other.cmp(one));
    Ok(Some((fd, names)))
}

/// `listed`: what stood there a moment ago.
pub(super) fn open_file(parent: &OwnedFd, name: &OsStr, listed: &Stat) -> io::Result<File> {
    // Another kind of thing may stand there now; a pipe would wait for its writer.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match openat(parent.as_fd(), name, flags | OFlags::NOATIME, Mode::empty()) {
        // Only the owner and root may leave the time of access alone.
        Err(rustix::io::Errno::PERM) => openat(parent.as_fd(), name, flags, Mode::empty())?,
        // A link, a socket: no longer what was listed.
        Err(rustix::io::Errno::LOOP | rustix::io::Errno::NXIO) => return Err(io::ErrorKind::NotFound.into()),
        opened => opened?,
    };
    let now = rustix::fs::fstat(&file)?;
    match FileType::from_raw_mode(now.st_mode) == FileType::from_raw_mode(listed.st_mode) {
        true => Ok(File::from(file)),
        false => Err(io::ErrorKind::NotFound.into()),
    }
}
