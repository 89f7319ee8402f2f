//! Takes over a tree that an unprivileged process wrote: looks at all of it and gives it to root with
//! plain modes. Nothing the process said is believed.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Uid};

use super::name;
use super::refusal::{Reason, shown};
use super::stage::{BENEATH, open_directory};

/// One more than an archive may have, for the directories of a build.
const DEPTH: usize = name::DEPTH + 64;

#[derive(Debug, thiserror::Error)]
pub enum SettleError {
    #[error("cannot take over `{path}`")]
    Io { path: String, source: io::Error },
    #[error("`{0}` is neither a file, a directory nor a symbolic link")]
    Kind(String),
    #[error("`{0}` does not belong to the user who unpacked it")]
    Foreign(String),
    #[error("`{path}` is a link out of the tree")]
    Link { path: String, source: Reason },
    #[error("the tree has more than {0} entries or is too deep")]
    TooBig(u64),
    #[error("`{0}` has a name that no archive may have")]
    Name(String),
}

/// Which symbolic links may be in the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Links {
    /// Relative ones that stay inside.
    Inside,
    /// Any: a virtual environment points to the system's interpreter.
    Anywhere,
}

/// Whose tree it was, whose it becomes, and what may be in it.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// Everything in the tree must belong to this user.
    pub from: u32,
    /// User and group it is given to.
    pub to: u32,
    pub links: Links,
    pub entries: u64,
}

/// Everything below `root`, and `root` itself, belongs to `terms.to` afterwards, directories 0755,
/// files 0755 if executable and 0644 if not. Bringing it to disk is left to who gives it its name.
///
/// Assumes that no process of `terms.from` runs any more; what one could have changed meanwhile is
/// caught by opening every file without following links and changing only what is open.
pub fn settle(root: &OwnedFd, terms: &Terms) -> Result<(), SettleError> {
    let mut walk = Walk { terms, left: terms.entries, given: HashSet::new() };
    walk.directory(root, "", 0)?;
    give(root, terms.to, 0o755).map_err(|source| io_error("", source))
}

struct Walk<'a> {
    terms: &'a Terms,
    left: u64,
    /// Files with several names that were given away under one of them.
    given: HashSet<u64>,
}

impl Walk<'_> {
    fn directory(&mut self, directory: &OwnedFd, path: &str, depth: usize) -> Result<(), SettleError> {
        if depth > DEPTH {
            return Err(SettleError::TooBig(self.terms.entries));
        }
        for entry in Dir::read_from(directory).map_err(|error| io_error(path, error))? {
            let entry = entry.map_err(|error| io_error(path, error))?;
            let raw = entry.file_name().to_bytes();
            if matches!(raw, b"." | b"..") {
                continue;
            }
            let name = std::str::from_utf8(raw).map_err(|_| SettleError::Name(shown(raw)))?;
            let path = if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") };
            self.left = self.left.checked_sub(1).ok_or(SettleError::TooBig(self.terms.entries))?;
            self.entry(directory, name, &path, depth)?;
        }
        Ok(())
    }

    fn entry(&mut self, parent: &OwnedFd, name: &str, path: &str, depth: usize) -> Result<(), SettleError> {
        let failed = |error| io_error(path, error);
        let seen = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
        self.check_owner(&seen, path)?;
        match FileType::from_raw_mode(seen.st_mode) {
            FileType::Directory => {
                let fd = open_directory(parent, name).map_err(failed)?;
                self.directory(&fd, path, depth + 1)?;
                give(&fd, self.terms.to, 0o755).map_err(failed)
            }
            FileType::RegularFile => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
                let fd = rustix::fs::openat2(parent, name, flags, Mode::empty(), BENEATH).map_err(failed)?;
                let open = rustix::fs::fstat(&fd).map_err(failed)?;
                self.check_owner(&open, path)?;
                if FileType::from_raw_mode(open.st_mode) != FileType::RegularFile {
                    return Err(SettleError::Kind(path.to_owned()));
                }
                if open.st_nlink > 1 {
                    self.given.insert(open.st_ino);
                }
                give(&fd, self.terms.to, if open.st_mode & 0o111 == 0 { 0o644 } else { 0o755 }).map_err(failed)
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(parent, name, Vec::new()).map_err(failed)?;
                if self.terms.links == Links::Inside {
                    name::check_link(path, target.to_bytes())
                        .map_err(|source| SettleError::Link { path: path.to_owned(), source })?;
                }
                let (uid, gid) = (Uid::from_raw(self.terms.to), Gid::from_raw(self.terms.to));
                rustix::fs::chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).map_err(failed)
            }
            _ => Err(SettleError::Kind(path.to_owned())),
        }
    }

    fn check_owner(&self, stat: &Stat, path: &str) -> Result<(), SettleError> {
        let ours = stat.st_uid == self.terms.from || self.given.contains(&stat.st_ino);
        if ours { Ok(()) } else { Err(SettleError::Foreign(path.to_owned())) }
    }
}

fn give(fd: impl AsFd, to: u32, mode: u32) -> rustix::io::Result<()> {
    rustix::fs::fchown(&fd, Some(Uid::from_raw(to)), Some(Gid::from_raw(to)))?;
    rustix::fs::fchmod(&fd, Mode::from_raw_mode(mode))
}

fn io_error(path: &str, error: rustix::io::Errno) -> SettleError {
    SettleError::Io { path: if path.is_empty() { ".".to_owned() } else { path.to_owned() }, source: error.into() }
}
