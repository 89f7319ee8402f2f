//! The directory an archive is unpacked into. Everything is opened below it by `openat2`, never by a
//! text path, and created exclusively: what is there already was put there by this unpacking.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::name;
use super::refusal::{Reason, UnpackError, from_reader};
use crate::host::ArchiveLimits;

/// Stays below the root, follows no link of any kind, enters no other mount.
pub(crate) const BENEATH: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const NEW_FILE: OFlags =
    OFlags::WRONLY.union(OFlags::CREATE).union(OFlags::EXCL).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Opens the directory `path` (`""`: the root itself) below `root`.
pub(crate) fn open_directory(root: impl AsFd, path: &str) -> rustix::io::Result<OwnedFd> {
    let path = if path.is_empty() { "." } else { path };
    rustix::fs::openat2(root, path, DIRECTORY, Mode::empty(), BENEATH)
}

/// What was unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Tally {
    /// Entries read and directories made on the way.
    pub entries: u64,
    pub files: u64,
    pub bytes: u64,
}

pub(super) struct Stage<'a> {
    root: OwnedFd,
    limits: &'a ArchiveLimits,
    strip: usize,
    tally: Tally,
    /// Symbolic links, by path. Made last, when nothing is written any more.
    links: BTreeMap<String, String>,
    /// The directory of the last entry: archives list directory by directory.
    last: Option<(String, OwnedFd)>,
}

/// Where an entry goes: a path below the root, checked and stripped.
pub(super) struct Place {
    path: String,
}

impl Place {
    fn split(&self) -> (&str, &str) {
        self.path.rsplit_once('/').unwrap_or(("", &self.path))
    }
}

impl<'a> Stage<'a> {
    pub fn new(root: OwnedFd, strip: u32, limits: &'a ArchiveLimits) -> Self {
        Self { root, limits, strip: strip as usize, tally: Tally::default(), links: BTreeMap::new(), last: None }
    }

    pub fn limits(&self) -> &ArchiveLimits {
        self.limits
    }

    /// Counts one header, whatever it is for.
    pub fn count(&mut self) -> Result<(), UnpackError> {
        self.tally.entries += 1;
        if self.tally.entries > self.limits.entries {
            return Err(Reason::Entries(self.limits.entries).into());
        }
        Ok(())
    }

    /// Checks a name. `None`: the root, or nothing is left of it after stripping; it is not unpacked.
    pub fn place(&self, raw: &[u8], directory: bool) -> Result<Option<Place>, UnpackError> {
        let name = name::check(raw)?;
        if name.slash && !directory {
            return Err(Reason::NameOfDirectory.into());
        }
        if name.components.len() <= self.strip {
            return Ok(None);
        }
        let path = name.components[self.strip..].join("/");
        if self.links.contains_key(&path) {
            return Err(Reason::Clash.into());
        }
        self.not_below_link(&path)?;
        Ok(Some(Place { path }))
    }

    pub fn directory(&mut self, place: &Place) -> Result<(), UnpackError> {
        self.enter(&place.path)
    }

    /// Writes exactly `size` bytes of `content`.
    pub fn file(
        &mut self,
        place: &Place,
        executable: bool,
        size: u64,
        content: &mut impl Read,
    ) -> Result<(), UnpackError> {
        self.tally.bytes = self.tally.bytes.saturating_add(size);
        if self.tally.bytes > self.limits.bytes {
            return Err(Reason::Bytes(self.limits.bytes).into());
        }
        let (parent, name) = place.split();
        self.enter(parent)?;
        let mode = Mode::from_raw_mode(if executable { 0o755 } else { 0o644 });
        let opened = rustix::fs::openat2(self.directory_of(parent), name, NEW_FILE, mode, BENEATH);
        let mut file = match opened {
            Ok(fd) => File::from(fd),
            Err(Errno::EXIST) => return Err(self.occupied(place, FileType::RegularFile)),
            Err(error) => return Err(write_error(place, error)),
        };
        self.tally.files += 1;
        copy(content, &mut file, size, place)
    }

    /// Remembers a symbolic link.
    pub fn link(&mut self, place: Place, target: &[u8]) -> Result<(), UnpackError> {
        let target = name::check_link(&place.path, target)?;
        let (parent, name) = place.split();
        self.enter(parent)?;
        match rustix::fs::statat(self.directory_of(parent), name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => return Err(Reason::Clash.into()),
            Err(Errno::NOENT) => {}
            Err(error) => return Err(write_error(&place, error)),
        }
        self.links.insert(place.path, target);
        Ok(())
    }

    /// A second name for a file of this archive. Both names are one inode: a release is never written
    /// to again, so this is not seen.
    pub fn hard_link(&mut self, place: &Place, target: &[u8]) -> Result<(), UnpackError> {
        let target = match self.place(target, false) {
            Ok(Some(target)) => target,
            Ok(None) => return Err(Reason::HardLink.into()),
            // A pending symbolic link is no file.
            Err(UnpackError::Refused { reason: Reason::Clash | Reason::BelowLink, .. }) => {
                return Err(Reason::HardLink.into());
            }
            Err(other) => return Err(other),
        };
        let (directory, file) = target.split();
        let from = open_directory(&self.root, directory).map_err(|_| Reason::HardLink)?;
        match rustix::fs::statat(&from, file, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => {}
            _ => return Err(Reason::HardLink.into()),
        }
        let (parent, name) = place.split();
        self.enter(parent)?;
        match rustix::fs::linkat(&from, file, self.directory_of(parent), name, AtFlags::empty()) {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) => Err(self.occupied(place, FileType::RegularFile)),
            Err(error) => Err(write_error(place, error)),
        }
    }

    /// Makes the symbolic links.
    pub fn finish(mut self) -> Result<Tally, UnpackError> {
        if self.tally.files == 0 && self.links.is_empty() {
            return Err(Reason::Empty.into());
        }
        for (path, target) in std::mem::take(&mut self.links) {
            let place = Place { path };
            let (parent, name) = place.split();
            self.enter(parent)?;
            match rustix::fs::symlinkat(target.as_str(), self.directory_of(parent), name) {
                Ok(()) => {}
                Err(Errno::EXIST) => return Err(UnpackError::from(Reason::Clash).at(place.path.as_bytes())),
                Err(error) => return Err(write_error(&place, error)),
            }
            self.alone_in_any_case(parent, name).map_err(|error| error.at(place.path.as_bytes()))?;
        }
        Ok(self.tally)
    }

    /// On a file system that folds case, `A/x` would be written through the link `a`. Ours does not,
    /// but a link that has such a neighbour is a trick.
    fn alone_in_any_case(&self, parent: &str, name: &str) -> Result<(), UnpackError> {
        let folded = name.to_lowercase();
        let listed = |error: Errno| UnpackError::Write(parent.to_owned(), error.into());
        for entry in Dir::read_from(self.directory_of(parent)).map_err(listed)? {
            let entry = entry.map_err(listed)?;
            let other = String::from_utf8_lossy(entry.file_name().to_bytes());
            if other != name && other.to_lowercase() == folded {
                return Err(Reason::CaseOfLink.into());
            }
        }
        Ok(())
    }

    fn not_below_link(&self, path: &str) -> Result<(), UnpackError> {
        if self.links.is_empty() {
            return Ok(());
        }
        let mut above = path;
        while let Some((parent, _)) = above.rsplit_once('/') {
            if self.links.contains_key(parent) {
                return Err(Reason::BelowLink.into());
            }
            above = parent;
        }
        Ok(())
    }

    /// Makes the directory `path` and what is missing above it, and keeps it open. Recursion is at
    /// most [`name::DEPTH`] deep.
    fn enter(&mut self, path: &str) -> Result<(), UnpackError> {
        if path.is_empty() || self.last.as_ref().is_some_and(|(last, _)| last == path) {
            return Ok(());
        }
        let fd = match open_directory(&self.root, path) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => {
                let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
                self.enter(parent)?;
                self.count()?;
                let made = rustix::fs::mkdirat(self.directory_of(parent), name, Mode::from_raw_mode(0o755));
                made.and_then(|()| open_directory(&self.root, path))
                    .map_err(|error| UnpackError::Write(path.to_owned(), error.into()))?
            }
            Err(Errno::NOTDIR | Errno::LOOP) => return Err(self.not_a_directory(path)),
            Err(error) => return Err(UnpackError::Write(path.to_owned(), error.into())),
        };
        self.last = Some((path.to_owned(), fd));
        Ok(())
    }

    /// The open directory that [`Self::enter`] was called with last.
    fn directory_of(&self, path: &str) -> &OwnedFd {
        match &self.last {
            Some((last, fd)) if last == path => fd,
            _ => &self.root,
        }
    }

    fn not_a_directory(&self, path: &str) -> UnpackError {
        match rustix::fs::statat(&self.root, path, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Reason::Clash.into(),
            Err(_) => Reason::BelowFile.into(),
        }
    }

    fn occupied(&self, place: &Place, wanted: FileType) -> UnpackError {
        let (parent, name) = place.split();
        match rustix::fs::statat(self.directory_of(parent), name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == wanted => Reason::Twice.into(),
            Ok(_) => Reason::Clash.into(),
            Err(error) => write_error(place, error),
        }
    }
}

fn copy(content: &mut impl Read, file: &mut File, size: u64, place: &Place) -> Result<(), UnpackError> {
    let mut buffer = [0; 64 * 1024];
    let mut left = size;
    while left > 0 {
        let want = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let got = match content.read(&mut buffer[..want]) {
            Ok(0) => return Err(Reason::Truncated.into()),
            Ok(got) => got,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(from_reader(error)),
        };
        file.write_all(&buffer[..got]).map_err(|error| UnpackError::Write(place.path.clone(), error))?;
        left -= got as u64;
    }
    Ok(())
}

fn write_error(place: &Place, error: Errno) -> UnpackError {
    UnpackError::Write(place.path.clone(), error.into())
}
