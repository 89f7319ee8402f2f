//! Where things are restored to: open directories, owners, permissions, attributes, times.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use nix::unistd::{Group, User};
use rustic_core::repofile::Node;
use rustix::fs::{AtFlags, Gid, Mode, OFlags, Timespec, Timestamps, Uid, chownat, fchmod, openat, unlinkat, utimensat};

use crate::host::vault::Renamed;
use crate::host::vault::error::VaultError;
use crate::host::vault::node::through;
use crate::host::vault::node::{attributes, permissions};

/// An open directory. The last who holds it gives it its permissions and times ([`release`]): then nothing is
/// made in it any more.
pub struct Directory {
    pub fd: OwnedFd,
    /// For messages.
    pub path: PathBuf,
    /// What it is to become; `None` for one that is not ours to change.
    pub node: Option<Node>,
    pub above: Option<Spot>,
}

/// A name in an open directory.
#[derive(Clone)]
pub struct Spot {
    pub directory: Arc<Directory>,
    pub name: OsString,
}

impl Spot {
    /// `path`, whose directory is made if it is not there.
    pub fn outside(path: &Path) -> Result<Self, VaultError> {
        let cannot = |error| VaultError::Target(path.to_owned(), error);
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(cannot(io::Error::new(io::ErrorKind::InvalidInput, "it is no path to restore to")));
        };
        std::fs::create_dir_all(parent).map_err(cannot)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(parent, flags, Mode::empty()).map_err(|error| cannot(error.into()))?;
        let directory = Directory { fd, path: parent.to_owned(), node: None, above: None };
        Ok(Self { directory: Arc::new(directory), name: name.to_owned() })
    }

    pub fn path(&self) -> PathBuf {
        self.directory.path.join(&self.name)
    }

    pub fn fault(&self, error: impl Into<io::Error>) -> VaultError {
        VaultError::Target(self.path(), error.into())
    }

    /// Removes what stands here, with all below it; that there is nothing is fine.
    pub fn clear(&self) -> Result<(), VaultError> {
        remove(&self.directory.fd, &self.name).map_err(|error| self.fault(error))
    }
}

fn remove(parent: &OwnedFd, name: &OsStr) -> io::Result<()> {
    use rustix::io::Errno;
    match unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    // A way down and up again by descriptors: a tree may be deeper than a stack or a path.
    let mut open = vec![(open_directory(parent, name)?, name.to_owned())];
    while let Some((fd, _)) = open.last() {
        let mut below = None;
        for entry in rustix::fs::Dir::read_from(fd)? {
            use std::os::unix::ffi::OsStrExt;
            let entry = entry?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name == "." || name == ".." {
                continue;
            }
            match unlinkat(fd, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(Errno::ISDIR | Errno::PERM) => {
                    below = Some((open_directory(fd, name)?, name.to_owned()));
                    break;
                }
                Err(error) => return Err(error.into()),
            }
        }
        match below {
            Some(below) => open.push(below),
            None => {
                let Some((fd, name)) = open.pop() else { break };
                drop(fd);
                unlinkat(open.last().map_or(parent, |(fd, _)| fd), &name, AtFlags::REMOVEDIR)?;
            }
        }
    }
    Ok(())
}

pub fn open_directory(parent: &OwnedFd, name: &OsStr) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(parent, name, flags, Mode::empty())?)
}

/// Lets go of a directory; the last to do so finishes it, and lets go of the one above it.
pub fn release(directory: Arc<Directory>, owners: &Owners) -> Result<(), VaultError> {
    let mut last = Arc::into_inner(directory);
    while let Some(Directory { fd, path, node, above }) = last {
        let Some(above) = above else { break };
        if let Some(node) = node {
            finish(&above.directory.fd, &above.name, Some(&fd), &node, owners)
                .map_err(|error| VaultError::Target(path, error))?;
        }
        last = Arc::into_inner(above.directory);
    }
    Ok(())
}

/// Owner, permissions, attributes and times. `fd` is what stands at `name`, unless that cannot be opened.
pub fn finish(parent: &OwnedFd, name: &OsStr, fd: Option<&OwnedFd>, node: &Node, owners: &Owners) -> io::Result<()> {
    let (uid, gid) = owners.of(node);
    chownat(parent, name, uid.map(Uid::from_raw), gid.map(Gid::from_raw), AtFlags::SYMLINK_NOFOLLOW)?;
    // After the owner, whose change takes the bits for other users' power away.
    if let Some(fd) = fd {
        // restic leaves out a mode of zeros.
        fchmod(fd, Mode::from_raw_mode(permissions(node.meta.mode.unwrap_or(0))))?;
    }
    set_attributes(parent, name, node)?;
    if let Some(mtime) = node.meta.mtime {
        let times = Timestamps { last_access: time(node.meta.atime.unwrap_or(mtime)), last_modification: time(mtime) };
        utimensat(parent, name, &times, AtFlags::SYMLINK_NOFOLLOW)?;
    }
    Ok(())
}

fn time(at: Timestamp) -> Timespec {
    let (mut seconds, mut nanoseconds) = (at.as_second(), i64::from(at.subsec_nanosecond()));
    if nanoseconds < 0 {
        (seconds, nanoseconds) = (seconds - 1, nanoseconds + 1_000_000_000);
    }
    Timespec { tv_sec: seconds, tv_nsec: nanoseconds }
}

/// Exactly those of the node: a directory's default access list puts its own on what is made in it.
fn set_attributes(parent: &OwnedFd, name: &OsStr, node: &Node) -> io::Result<()> {
    use rustix::fs::{XattrFlags, lremovexattr, lsetxattr};
    let there: BTreeMap<String, Vec<u8>> = attributes(parent, name)?.into_iter().collect();
    let wanted: BTreeMap<&str, &[u8]> = (node.meta.extended_attributes.iter())
        .map(|attribute| (attribute.name.as_str(), attribute.value.as_deref().unwrap_or_default()))
        .collect();
    if there.is_empty() && wanted.is_empty() {
        return Ok(());
    }
    let path = through(parent, name)?;
    for (attribute, value) in &wanted {
        if there.get(*attribute).map(Vec::as_slice) != Some(value) {
            lsetxattr(&path, *attribute, value, XattrFlags::empty())?;
        }
    }
    for attribute in there.keys().filter(|name| !wanted.contains_key(name.as_str())) {
        lremovexattr(&path, attribute.as_str())?;
    }
    Ok(())
}

/// Numbers of owners: by name, because another machine numbers them otherwise, then by number.
pub struct Owners {
    renamed: Renamed,
    users: Mutex<HashMap<String, Option<u32>>>,
    groups: Mutex<HashMap<String, Option<u32>>>,
}

impl Owners {
    pub fn new(renamed: Renamed) -> Self {
        Self { renamed, users: Mutex::default(), groups: Mutex::default() }
    }

    fn of(&self, node: &Node) -> (Option<u32>, Option<u32>) {
        let user = |name: &str| User::from_name(name).ok().flatten().map(|user| user.uid.as_raw());
        let group = |name: &str| Group::from_name(name).ok().flatten().map(|group| group.gid.as_raw());
        let uid = number(&self.users, self.now(node.meta.user.as_deref()), user).or(node.meta.uid);
        let gid = number(&self.groups, self.now(node.meta.group.as_deref()), group).or(node.meta.gid);
        (uid, gid)
    }

    fn now<'a>(&'a self, name: Option<&'a str>) -> Option<&'a str> {
        name.map(|name| self.renamed.get(name).map_or(name, String::as_str))
    }
}

fn number(
    known: &Mutex<HashMap<String, Option<u32>>>,
    name: Option<&str>,
    ask: impl Fn(&str) -> Option<u32>,
) -> Option<u32> {
    let name = name.filter(|name| !name.is_empty())?;
    let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(number) = known.get(name) {
        return *number;
    }
    let number = ask(name);
    known.insert(name.to_owned(), number);
    number
}
