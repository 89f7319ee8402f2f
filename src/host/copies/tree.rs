//! File by file: clones where the file system can, bytes where it cannot.

use std::collections::{BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, SeekFrom, Stat, StatxAttributes, StatxFlags, Timespec, Timestamps,
    Uid, XattrFlags, chownat, fchmod, fchown, fgetxattr, flistxattr, fsetxattr, fstat, futimens, ioctl_ficlone, linkat,
    mkdirat, mknodat, openat, readlinkat, seek, statat, statx, symlinkat, utimensat,
};
use rustix::io::Errno;

use super::{CopyError, Way};

/// What is copied at once where nothing is cloned.
const PIECE: usize = 1 << 20;

/// Copies the directory `from` to `to`, which is made. Nothing of it is on disk for certain yet.
pub(super) fn copy(from: &Path, to: &Path) -> Result<Way, CopyError> {
    let mut copier = Copier::begin(from, to, false)?;
    copier.copy_all(from, to)?;
    Ok(if copier.all_cloned { Way::Clones } else { Way::Copies })
}

pub(super) fn directory_flags() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC
}

/// A directory on its way.
pub(super) struct Level {
    pub from: OwnedFd,
    pub to: OwnedFd,
    /// Below the roots.
    pub at: PathBuf,
    pub stat: Stat,
    /// What of it was not copied yet.
    pub names: Vec<OsString>,
}

impl Level {
    fn of(from: OwnedFd, to: OwnedFd, at: PathBuf) -> io::Result<Self> {
        let stat = fstat(&from)?;
        let names = names(&from)?.into_iter().collect();
        Ok(Self { from, to, at, stat, names })
    }

    /// Also what only the copy has.
    fn of_both(from: OwnedFd, to: OwnedFd, at: PathBuf) -> io::Result<Self> {
        let (stat, mut all) = (fstat(&from)?, names(&from)?);
        all.append(&mut names(&to)?);
        Ok(Self { from, to, at, stat, names: all.into_iter().collect() })
    }
}

fn names(directory: &OwnedFd) -> io::Result<BTreeSet<OsString>> {
    let mut names = BTreeSet::new();
    for entry in Dir::read_from(directory)? {
        let name = OsStr::from_bytes(entry?.file_name().to_bytes()).to_owned();
        if name != "." && name != ".." {
            names.insert(name);
        }
    }
    Ok(names)
}

pub(super) struct Copier<'a> {
    from: &'a Path,
    root: OwnedFd,
    /// Files come and go while they are copied.
    in_use: bool,
    /// Until the file system says that it cannot.
    clones: bool,
    all_cloned: bool,
    /// Files with several names: where the first of them is.
    links: HashMap<(u64, u64), PathBuf>,
    piece: Vec<u8>,
}

impl<'a> Copier<'a> {
    /// `to` is made if it is not there.
    pub fn begin(from: &'a Path, to: &Path, in_use: bool) -> Result<Self, CopyError> {
        let unwritable = |error: Errno| CopyError::Write(to.into(), error.into());
        let root = match openat(CWD, to, directory_flags(), Mode::empty()) {
            Err(Errno::NOENT) => {
                mkdirat(CWD, to, Mode::RWXU).map_err(unwritable)?;
                openat(CWD, to, directory_flags(), Mode::empty()).map_err(unwritable)?
            }
            root => root.map_err(unwritable)?,
        };
        Ok(Self { from, root, in_use, clones: true, all_cloned: true, links: HashMap::new(), piece: Vec::new() })
    }
}

impl Copier<'_> {
    /// Everything, into nothing.
    pub fn copy_all(&mut self, from: &Path, to: &Path) -> Result<(), CopyError> {
        let level = self.level(from, to)?;
        if !names(&level.to).map_err(|error| self.unwritable(Path::new(""), error))?.is_empty() {
            return Err(CopyError::Write(to.into(), io::ErrorKind::AlreadyExists.into()));
        }
        let mut open = vec![level];
        while let Some(level) = open.last_mut() {
            match level.names.pop() {
                Some(name) => {
                    let below = self.entry(level, &name)?;
                    open.extend(below);
                }
                // After what is in it, whose making changes its times; its default access list is no one's in it.
                None => {
                    if let Some(Level { from, to, at, stat, .. }) = open.pop() {
                        finish(&from, &to, &stat).map_err(|error| self.unwritable(&at, error))?;
                    }
                }
            }
        }
        Ok(())
    }

    /// The roots, with the names of both.
    pub fn level(&self, from: &Path, to: &Path) -> Result<Level, CopyError> {
        let unreadable = |error: io::Error| CopyError::Read(from.into(), error);
        let source = openat(CWD, from, directory_flags(), Mode::empty()).map_err(|error| unreadable(error.into()))?;
        let target = self.root.try_clone().map_err(|error| CopyError::Write(to.into(), error))?;
        Level::of_both(source, target, PathBuf::new()).map_err(unreadable)
    }

    pub fn unreadable(&self, at: &Path, error: impl Into<io::Error>) -> CopyError {
        CopyError::Read(self.from.join(at), error.into())
    }

    pub fn unwritable(&self, at: &Path, error: impl Into<io::Error>) -> CopyError {
        CopyError::Write(self.from.join(at), error.into())
    }

    /// What could not be opened or read: in use, it was replaced or removed, and is no more than not copied.
    fn lost(&self, at: &Path, error: Errno) -> Result<(), CopyError> {
        match error {
            Errno::NOENT | Errno::LOOP | Errno::NOTDIR | Errno::NXIO if self.in_use => Ok(()),
            error => Err(self.unreadable(at, error)),
        }
    }

    /// A directory is to be copied itself. What is gone when its turn comes was removed by hand.
    pub fn entry(&mut self, level: &Level, name: &OsStr) -> Result<Option<Level>, CopyError> {
        let at = level.at.join(name);
        let stat = match statat(&level.from, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(None),
            stat => stat.map_err(|error| self.unreadable(&at, error))?,
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => return self.directory(level, name, at),
            FileType::RegularFile => self.file(level, name, &at)?,
            FileType::Symlink => match link(level, name, &stat) {
                // Gone, or something else by now.
                Err(error)
                    if self.in_use && matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidInput) => {
                }
                linked => linked.map_err(|error| self.unwritable(&at, error))?,
            },
            FileType::Fifo => fifo(level, name, &stat).map_err(|error| self.unwritable(&at, error))?,
            // It lives only as long as its server.
            FileType::Socket => {}
            _ => return Err(CopyError::Device(self.from.join(&at))),
        }
        Ok(None)
    }

    fn directory(&self, level: &Level, name: &OsStr, at: PathBuf) -> Result<Option<Level>, CopyError> {
        let from = match openat(&level.from, name, directory_flags(), Mode::empty()) {
            Err(error) => return self.lost(&at, error).map(|()| None),
            Ok(from) => from,
        };
        self.no_mount(&from, &at)?;
        let to = mkdirat(&level.to, name, Mode::RWXU)
            .and_then(|()| openat(&level.to, name, directory_flags(), Mode::empty()))
            .map_err(|error| self.unwritable(&at, error))?;
        Level::of(from, to, at.clone()).map(Some).map_err(|error| self.unreadable(&at, error))
    }

    /// A directory of both.
    pub fn existing(&self, level: &Level, name: &OsStr, at: PathBuf) -> Result<Level, CopyError> {
        let open = |directory| openat(directory, name, directory_flags(), Mode::empty());
        let from = open(&level.from).map_err(|error| self.unreadable(&at, error))?;
        self.no_mount(&from, &at)?;
        let to = open(&level.to).map_err(|error| self.unwritable(&at, error))?;
        Level::of_both(from, to, at.clone()).map_err(|error| self.unreadable(&at, error))
    }

    fn no_mount(&self, from: &OwnedFd, at: &Path) -> Result<(), CopyError> {
        let about = statx(from, c"", AtFlags::EMPTY_PATH, StatxFlags::TYPE);
        let about = about.map_err(|error| self.unreadable(at, error))?;
        match about.stx_attributes.contains(StatxAttributes::MOUNT_ROOT) {
            true => Err(CopyError::Mounted(self.from.to_owned(), self.from.join(at))),
            false => Ok(()),
        }
    }

    /// A file of the copy that stays: other names of it are links to it.
    pub fn remember(&mut self, stat: &Stat, at: &Path) {
        if stat.st_nlink > 1 {
            self.links.insert((stat.st_dev, stat.st_ino), at.to_owned());
        }
    }

    fn file(&mut self, level: &Level, name: &OsStr, at: &Path) -> Result<(), CopyError> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let from = match openat(&level.from, name, flags, Mode::empty()) {
            Err(error) => return self.lost(at, error),
            Ok(from) => from,
        };
        let stat = fstat(&from).map_err(|error| self.unreadable(at, error))?;
        let several = (stat.st_nlink > 1).then_some((stat.st_dev, stat.st_ino));
        if let Some(first) = several.and_then(|several| self.links.get(&several)) {
            let linked = linkat(&self.root, first, &level.to, name, AtFlags::empty());
            return linked.map_err(|error| self.unwritable(at, error));
        }
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let to = openat(&level.to, name, flags, Mode::RUSR | Mode::WUSR).map_err(|error| self.unwritable(at, error))?;
        let (from, to) = (File::from(from), File::from(to));
        let length = u64::try_from(stat.st_size).unwrap_or(0);
        self.content(&from, &to, length)
            .and_then(|()| finish(&from, &to, &stat))
            .map_err(|error| self.unwritable(at, error))?;
        if let Some(several) = several {
            self.links.insert(several, at.to_owned());
        }
        Ok(())
    }

    fn content(&mut self, from: &File, to: &File, length: u64) -> io::Result<()> {
        if length == 0 {
            return Ok(());
        }
        if self.clones {
            match ioctl_ficlone(to, from) {
                Ok(()) => return Ok(()),
                // Of this file (one without checksums, say), or of the whole file system.
                Err(error @ (Errno::NOTSUP | Errno::INVAL | Errno::XDEV | Errno::NOTTY)) => {
                    self.clones = error == Errno::INVAL;
                }
                Err(error) => return Err(error.into()),
            }
        }
        self.all_cloned = false;
        self.piece.resize(PIECE, 0);
        let mut at = 0;
        while at < length {
            let begin = match seek(from, SeekFrom::Data(at)) {
                Ok(begin) => begin,
                // Nothing but a hole up to the end.
                Err(Errno::NXIO) => break,
                Err(error) => return Err(error.into()),
            };
            let end = match seek(from, SeekFrom::Hole(begin)) {
                Err(Errno::NXIO) if self.in_use => break,
                end => end?.min(length),
            };
            at = begin;
            while at < end {
                let piece = usize::try_from(end - at).unwrap_or(PIECE).min(PIECE);
                match from.read_at(&mut self.piece[..piece], at)? {
                    // It is copied again when nobody writes.
                    0 if self.in_use => return Ok(()),
                    0 => return Err(io::Error::other("it became shorter while it was read")),
                    read => {
                        to.write_all_at(&self.piece[..read], at)?;
                        at += u64::try_from(read).unwrap_or(0);
                    }
                }
            }
        }
        to.set_len(length)
    }
}

/// Owner, attributes, permissions, times: in this order, because a change of the owner takes bits away, an access list
/// changes permissions, and all of it changes times.
pub(super) fn finish(from: &impl AsFd, to: &impl AsFd, stat: &Stat) -> io::Result<()> {
    fchown(to, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    for (name, value) in attributes(from)? {
        fsetxattr(to, &name, &value, XattrFlags::empty())?;
    }
    fchmod(to, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    futimens(to, &times(stat))?;
    Ok(())
}

fn attributes(from: &impl AsFd) -> io::Result<Vec<(OsString, Vec<u8>)>> {
    // Almost no file has any.
    let mut names = vec![0; 512];
    let length = match flistxattr(from, &mut names[..]) {
        Err(Errno::NOTSUP) => 0,
        Err(Errno::RANGE) => {
            names.resize(64 << 10, 0);
            flistxattr(from, &mut names[..])?
        }
        length => length?,
    };
    let mut found = Vec::new();
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let name = OsStr::from_bytes(name);
        let mut value = vec![0; 64 << 10];
        let length = fgetxattr(from, name, &mut value[..])?;
        value.truncate(length);
        found.push((name.to_owned(), value));
    }
    Ok(found)
}

fn link(level: &Level, name: &OsStr, stat: &Stat) -> io::Result<()> {
    let target = readlinkat(&level.from, name, Vec::new())?;
    symlinkat(&target, &level.to, name)?;
    own_and_date(level, name, stat)
}

fn fifo(level: &Level, name: &OsStr, stat: &Stat) -> io::Result<()> {
    mknodat(&level.to, name, FileType::Fifo, Mode::from_raw_mode(stat.st_mode & 0o777), 0)?;
    own_and_date(level, name, stat)
}

fn own_and_date(level: &Level, name: &OsStr, stat: &Stat) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    chownat(&level.to, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    utimensat(&level.to, name, &times(stat), AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(())
}

fn times(stat: &Stat) -> Timestamps {
    let time = |seconds, nanoseconds: u64| Timespec { tv_sec: seconds, tv_nsec: nanoseconds.try_into().unwrap_or(0) };
    Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    /// Everything that stands at and below a path, with what it is.
    pub fn told(root: &Path) -> Vec<String> {
        let mut all = Vec::new();
        let mut open = vec![root.to_owned()];
        while let Some(path) = open.pop() {
            let about = fs::symlink_metadata(&path).unwrap();
            let what = if about.is_dir() {
                open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
                String::new()
            } else if about.is_symlink() {
                fs::read_link(&path).unwrap().display().to_string()
            } else if about.is_file() {
                format!("{} of {:?}", fs::read(&path).unwrap().len(), fs::read(&path).unwrap().iter().find(|b| **b > 0))
            } else {
                "other".to_owned()
            };
            let name = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
            let times = (about.mtime(), about.mtime_nsec());
            all.push(format!("{name} {:o} {}:{} {times:?} {what}", about.mode(), about.uid(), about.gid()));
        }
        all.sort();
        all
    }

    #[test]
    fn the_copy_is_the_same_and_shares_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let from = dir.path().join("data");
        fs::create_dir_all(from.join("a/b")).unwrap();
        fs::write(from.join("a/text"), "text").unwrap();
        fs::write(from.join("a/empty"), "").unwrap();
        fs::hard_link(from.join("a/text"), from.join("a/b/again")).unwrap();
        symlink("/etc/passwd", from.join("a/link")).unwrap();
        fs::set_permissions(from.join("a/text"), fs::Permissions::from_mode(0o4640)).unwrap();
        fs::set_permissions(from.join("a/b"), fs::Permissions::from_mode(0o2710)).unwrap();
        let sparse = File::create(from.join("sparse")).unwrap();
        sparse.write_all_at(b"x", 3 << 20).unwrap();
        sparse.set_len(8 << 20).unwrap();
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::lchown(from.join("a/link"), Some(4242), Some(4343)).unwrap();
            std::os::unix::fs::chown(from.join("a/b"), Some(4242), Some(4343)).unwrap();
        }
        rustix::fs::setxattr(from.join("a/text"), "user.note", b"kept", XattrFlags::empty()).unwrap();
        mknodat(CWD, from.join("pipe"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        let odd = from.join(OsStr::from_bytes(b"not \xff utf-8"));
        fs::write(&odd, "odd").unwrap();

        let to = dir.path().join("copy");
        copy(&from, &to).unwrap();
        assert_eq!(told(&to), told(&from));
        let number = |path: &Path| fs::metadata(path).unwrap().ino();
        assert_eq!(number(&to.join("a/text")), number(&to.join("a/b/again")), "one file with two names");
        assert_ne!(number(&to.join("a/text")), number(&from.join("a/text")));
        let mut value = [0; 16];
        let length = rustix::fs::getxattr(to.join("a/text"), "user.note", &mut value).unwrap();
        assert_eq!(&value[..length], b"kept");
        assert!(fs::metadata(to.join("sparse")).unwrap().blocks() < 1 << 10, "a hole stays a hole");

        fs::write(to.join("a/text"), "changed").unwrap();
        assert_eq!(fs::read(from.join("a/text")).unwrap(), b"text");
        assert!(matches!(copy(&from, &to), Err(CopyError::Write(..))), "nothing may stand there");
    }

    #[test]
    fn a_mount_is_told() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(
            copy(Path::new("/proc/self"), &dir.path().join("x")),
            Err(CopyError::Read(..) | CopyError::Write(..))
        ));
        let error = super::super::refuse_mounts(Path::new("/proc")).unwrap_err();
        assert!(error.hint().unwrap().contains("mount the disk above"), "{error}");
    }
}
