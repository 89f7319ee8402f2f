use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::fchown;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, fchmod, fstat, mkdirat, openat, readlinkat, statat};
use rustix::io::Errno;

use super::FilesError;
use crate::durable::{self, DurableError};
use crate::host::copies;

/// The kernel's own limit (path_resolution(7)).
const MOST_LINKS: usize = 40;

/// One name in one open directory. Everything done through it is done in that directory, even if
/// somebody moves it or puts a link in its way meanwhile.
#[derive(Debug)]
pub struct Place {
    directory: OwnedFd,
    name: OsString,
    shown: PathBuf,
}

/// What stands at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    pub kind: FileType,
    pub uid: u32,
    pub gid: u32,
    pub mode: u32,
}

impl From<&Stat> for Standing {
    fn from(stat: &Stat) -> Self {
        Self {
            kind: FileType::from_raw_mode(stat.st_mode),
            uid: stat.st_uid,
            gid: stat.st_gid,
            mode: stat.st_mode & 0o7777,
        }
    }
}

impl Place {
    pub(super) fn find(root: &Path, absolute: &str, make: bool) -> Result<Option<Self>, FilesError> {
        let shown = PathBuf::from(absolute);
        let mut names = Vec::new();
        for component in shown.components() {
            match component {
                Component::RootDir => {}
                Component::Normal(name) => names.push(name.to_owned()),
                _ => return Err(FilesError::NotAPath(shown)),
            }
        }
        let Some(name) = names.pop().filter(|_| shown.is_absolute()) else { return Err(FilesError::NotAPath(shown)) };
        let Some(directory) = Walk::begin(root, make)?.go(names)? else { return Ok(None) };
        Ok(Some(Self { directory, name, shown }))
    }

    /// `None`: nothing is there. A symbolic link is itself, not its target.
    pub fn look(&self) -> Result<Option<Standing>, FilesError> {
        match statat(&self.directory, &self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(Standing::from(&stat))),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(FilesError::Look(self.shown.clone(), error.into())),
        }
    }

    /// The regular file here, opened for reading, and what it is; `None` if something else is here.
    pub fn open_file(&self) -> Result<Option<(File, Standing)>, FilesError> {
        // NONBLOCK: a pipe put in the file's place must not hold us.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        self.open(flags, FileType::RegularFile).map_err(|error| FilesError::Look(self.shown.clone(), error))
    }

    fn open(&self, flags: OFlags, kind: FileType) -> io::Result<Option<(File, Standing)>> {
        let opened = match openat(&self.directory, &self.name, flags, Mode::empty()) {
            Ok(opened) => opened,
            // A link, a socket, a file where a directory is asked for.
            Err(Errno::LOOP | Errno::NXIO | Errno::NOTDIR) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let standing = Standing::from(&fstat(&opened)?);
        Ok((standing.kind == kind).then(|| (File::from(opened), standing)))
    }

    /// Replaces what is here by a file in one step, durably.
    pub fn write(&self, bytes: &[u8], uid: u32, gid: u32, mode: u32) -> Result<(), FilesError> {
        let written = durable::write_new(&self.path(), bytes, mode, |file| fchown(file, Some(uid), Some(gid)));
        written.map_err(|error| FilesError::Write(self.shown.clone(), cause(error)))
    }

    /// Makes a directory, or gives the one that is here this owner and mode; durably. `whole`: it is taken as a whole
    /// some day, so it is a subvolume where the file system has them.
    pub fn make_directory(&self, uid: u32, gid: u32, mode: u32, whole: bool) -> Result<(), FilesError> {
        let failed = |error: io::Error| FilesError::MakeDirectory(self.shown.clone(), error);
        let made = match whole {
            false => mkdirat(&self.directory, &self.name, Mode::RWXU).map_err(io::Error::from),
            true => readable(&self.directory).and_then(|above| copies::make_directory(&above, &self.name)),
        };
        match made {
            // That it exists by now is fine: an earlier try was interrupted after this line.
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
            _ => {}
        }
        self.set_permissions(FileType::Directory, uid, gid, mode)?;
        self.sync().map_err(failed)
    }

    /// Sets owner and mode of the file or directory here, durably; never through a link.
    pub fn set_permissions(&self, kind: FileType, uid: u32, gid: u32, mode: u32) -> Result<(), FilesError> {
        let failed = |error| FilesError::SetPermissions(self.shown.clone(), error);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let changed = || io::Error::other("something else is in its place now");
        let (file, _) = self.open(flags, kind).map_err(failed)?.ok_or_else(|| failed(changed()))?;
        // The owner first: changing it clears set-user-ID bits.
        fchown(&file, Some(uid), Some(gid)).map_err(failed)?;
        fchmod(&file, Mode::from_raw_mode(mode)).map_err(|error| failed(error.into()))?;
        file.sync_all().map_err(failed)
    }

    /// Removes the file here; that there is none is fine.
    pub fn remove_file(&self) -> Result<(), FilesError> {
        durable::remove(&self.path()).map_err(|error| FilesError::Remove(self.shown.clone(), cause(error)))
    }

    /// Removes the directory here with everything in it; that there is none is fine. Links are
    /// removed, not followed; a directory with a mount in it is left alone.
    pub fn remove_all(&self) -> Result<(), FilesError> {
        let failed = |error| FilesError::Remove(self.shown.clone(), error);
        let real = match std::fs::canonicalize(self.path()) {
            Ok(real) => real,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(failed(error)),
        };
        if let Some(mounted) = mounted_in(&real).map_err(failed)? {
            return Err(FilesError::Mounted(self.shown.clone(), mounted));
        }
        match std::fs::remove_dir_all(self.path()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(error)),
            _ => self.sync().map_err(failed),
        }
    }

    /// A path that leads here whatever happens to the directories above.
    fn path(&self) -> PathBuf {
        Path::new("/proc/self/fd").join(self.directory.as_raw_fd().to_string()).join(&self.name)
    }

    fn sync(&self) -> io::Result<()> {
        sync_directory(&self.directory)
    }
}

/// Opens again: of a directory opened only as a path, little may be asked.
fn readable(directory: &OwnedFd) -> io::Result<File> {
    Ok(openat(directory, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?.into())
}

fn sync_directory(directory: &OwnedFd) -> io::Result<()> {
    readable(directory)?.sync_all()
}

fn cause(error: DurableError) -> io::Error {
    match error {
        DurableError::Read(_, error)
        | DurableError::Write(_, error)
        | DurableError::Rename(_, error)
        | DurableError::Sync(_, error)
        | DurableError::Remove(_, error) => error,
    }
}

/// A mount point at or below `directory`, if there is one (proc_pid_mountinfo(5)).
pub(in crate::host) fn mounted_in(directory: &Path) -> io::Result<Option<PathBuf>> {
    let mounts = std::fs::read("/proc/self/mountinfo")?;
    Ok(mounts
        .split(|b| *b == b'\n')
        .filter_map(|line| line.split(|b| *b == b' ').nth(4))
        .map(unescape)
        .find(|mount| mount.starts_with(directory)))
}

/// mountinfo writes blanks and backslashes as three octal digits.
fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, after @ ..] = rest {
        let octal = after.get(..3).filter(|_| *first == b'\\').and_then(|digits| {
            digits.iter().try_fold(0_u8, |value, digit| {
                matches!(digit, b'0'..=b'7').then(|| value.wrapping_mul(8).wrapping_add(digit - b'0'))
            })
        });
        bytes.push(octal.unwrap_or(*first));
        rest = if octal.is_some() { &after[3..] } else { after };
    }
    PathBuf::from(OsString::from_vec(bytes))
}

/// On the way to a directory.
struct Walk {
    /// The directories passed, the root first: where `..` in a link's target leads.
    passed: Vec<OwnedFd>,
    shown: Vec<OsString>,
    make: bool,
}

impl Walk {
    fn begin(root: &Path, make: bool) -> Result<Self, FilesError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root =
            rustix::fs::open(root, flags, Mode::empty()).map_err(|error| FilesError::Walk("/".into(), error.into()))?;
        Ok(Self { passed: vec![root], shown: Vec::new(), make })
    }

    fn go(mut self, names: Vec<OsString>) -> Result<Option<OwnedFd>, FilesError> {
        let mut ahead = VecDeque::from(names);
        let mut links = 0;
        while let Some(name) = ahead.pop_front() {
            match self.enter(&name)? {
                Entered::Directory => {}
                Entered::Nothing => return Ok(None),
                Entered::Link(target) => {
                    links += 1;
                    if links > MOST_LINKS {
                        return Err(FilesError::Walk(self.path(&name), Errno::LOOP.into()));
                    }
                    self.turn(&target, &mut ahead);
                }
            }
        }
        Ok(self.passed.pop())
    }

    fn enter(&mut self, name: &OsStr) -> Result<Entered, FilesError> {
        if name == ".." {
            // At the root `..` is the root.
            if self.passed.len() > 1 {
                self.passed.pop();
                self.shown.pop();
            }
            return Ok(Entered::Directory);
        }
        let here = self.passed.last().expect("the root is never popped");
        let cannot = |error: Errno| FilesError::Walk(self.path(name), error.into());
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = match openat(here, name, flags, Mode::empty()) {
            Err(Errno::NOENT) if self.make => self.make(here, name)?,
            Err(Errno::NOENT) => return Ok(Entered::Nothing),
            opened => opened.map_err(cannot)?,
        };
        let stat = fstat(&opened).map_err(cannot)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {}
            FileType::Symlink if stat.st_uid == 0 || stat.st_uid == rustix::process::geteuid().as_raw() => {
                let target = readlinkat(&opened, "", Vec::new()).map_err(cannot)?;
                return Ok(Entered::Link(OsStr::from_bytes(target.to_bytes()).into()));
            }
            FileType::Symlink => return Err(FilesError::ForeignLink(self.path(name))),
            _ => return Err(FilesError::NotADirectory(self.path(name))),
        }
        self.passed.push(opened);
        self.shown.push(name.to_owned());
        Ok(Entered::Directory)
    }

    fn make(&self, here: &OwnedFd, name: &OsStr) -> Result<OwnedFd, FilesError> {
        let made = || -> io::Result<OwnedFd> {
            match mkdirat(here, name, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let made = openat(here, name, flags, Mode::empty())?;
            // Whatever the umask is.
            fchmod(&made, Mode::from_raw_mode(0o755))?;
            sync_directory(here)?;
            Ok(made)
        };
        made().map_err(|error| FilesError::MakeDirectory(self.path(name), error))
    }

    fn turn(&mut self, target: &Path, ahead: &mut VecDeque<OsString>) {
        if target.is_absolute() {
            self.passed.truncate(1);
            self.shown.clear();
        }
        for component in target.components().rev() {
            match component {
                Component::Normal(name) => ahead.push_front(name.to_owned()),
                Component::ParentDir => ahead.push_front("..".into()),
                Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
            }
        }
    }

    fn path(&self, name: &OsStr) -> PathBuf {
        let mut path = PathBuf::from("/");
        path.extend(&self.shown);
        path.join(name)
    }
}

enum Entered {
    Directory,
    Nothing,
    Link(PathBuf),
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown, symlink};

    fn place(root: &Path, path: &str) -> Place {
        Place::find(root, path, true).unwrap().unwrap()
    }

    fn me() -> (u32, u32) {
        (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
    }

    #[test]
    fn looks_without_making_and_makes_parents_when_asked() {
        let dir = tempfile::tempdir().unwrap();
        let (uid, gid) = me();
        assert!(Place::find(dir.path(), "/a/b/c", false).unwrap().is_none());
        assert!(!dir.path().join("a").exists());
        let place = place(dir.path(), "/a/b/c");
        assert_eq!(place.look().unwrap(), None);
        place.make_directory(uid, gid, 0o2750, false).unwrap();
        place.make_directory(uid, gid, 0o2750, false).unwrap();
        assert_eq!(place.look().unwrap().unwrap().mode, 0o2750);
        assert_eq!(fs::metadata(dir.path().join("a/b")).unwrap().mode() & 0o7777, 0o755);
    }

    #[test]
    fn writes_sets_and_removes() {
        let dir = tempfile::tempdir().unwrap();
        let (uid, gid) = me();
        let place = place(dir.path(), "/etc/x.conf");
        for text in ["one", "two"] {
            place.write(text.as_bytes(), uid, gid, 0o640).unwrap();
            assert_eq!(fs::read_to_string(dir.path().join("etc/x.conf")).unwrap(), text);
        }
        place.set_permissions(FileType::RegularFile, uid, gid, 0o600).unwrap();
        assert_eq!(place.open_file().unwrap().unwrap().1.mode, 0o600);
        assert_eq!(fs::read_dir(dir.path().join("etc")).unwrap().count(), 1);
        place.remove_file().unwrap();
        place.remove_file().unwrap();
        assert_eq!(place.look().unwrap(), None);
    }

    #[test]
    fn sets_an_owner() {
        let dir = tempfile::tempdir().unwrap();
        if me().0 != 0 {
            return;
        }
        let place = place(dir.path(), "/etc/secret");
        place.write(b"s", 4242, 4343, 0o640).unwrap();
        let seen = place.look().unwrap().unwrap();
        assert_eq!((seen.uid, seen.gid, seen.mode), (4242, 4343, 0o640));
    }

    #[test]
    fn follows_links_of_root_only() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("disk/srv")).unwrap();
        symlink("/disk/srv", dir.path().join("srv")).unwrap();
        symlink("../disk/../srv", dir.path().join("disk/round")).unwrap();
        let (uid, gid) = me();
        place(dir.path(), "/srv/a").write(b"a", uid, gid, 0o644).unwrap();
        assert!(dir.path().join("disk/srv/a").exists());
        place(dir.path(), "/disk/round/b").write(b"b", uid, gid, 0o644).unwrap();
        assert!(dir.path().join("disk/srv/b").exists());
        if uid == 0 {
            lchown(dir.path().join("srv"), Some(4242), None).unwrap();
            let refused = Place::find(dir.path(), "/srv/a", true);
            assert!(
                matches!(refused, Err(FilesError::ForeignLink(ref path)) if path == Path::new("/srv")),
                "{refused:?}"
            );
        }
    }

    #[test]
    fn loops_and_files_on_the_way_are_errors() {
        let dir = tempfile::tempdir().unwrap();
        symlink("loop", dir.path().join("loop")).unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        assert!(matches!(Place::find(dir.path(), "/loop/x", false), Err(FilesError::Walk(..))));
        assert!(matches!(Place::find(dir.path(), "/file/x", false), Err(FilesError::NotADirectory(_))));
        for bad in ["", "/", "a/b", "/a/../b", "/.."] {
            assert!(matches!(Place::find(dir.path(), bad, false), Err(FilesError::NotAPath(_))), "{bad}");
        }
    }

    #[test]
    fn the_last_name_is_never_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (uid, gid) = me();
        fs::write(dir.path().join("target"), "kept").unwrap();
        fs::set_permissions(dir.path().join("target"), fs::Permissions::from_mode(0o644)).unwrap();
        symlink("target", dir.path().join("link")).unwrap();
        let link = place(dir.path(), "/link");
        assert_eq!(link.look().unwrap().unwrap().kind, FileType::Symlink);
        assert!(link.open_file().unwrap().is_none());
        assert!(link.set_permissions(FileType::RegularFile, uid, gid, 0o600).is_err());
        assert!(link.make_directory(uid, gid, 0o700, true).is_err());
        link.write(b"new", uid, gid, 0o600).unwrap();
        assert_eq!(fs::read_to_string(dir.path().join("target")).unwrap(), "kept");
        assert_eq!(fs::metadata(dir.path().join("target")).unwrap().mode() & 0o777, 0o644);
    }

    #[test]
    fn removing_all_leaves_what_links_point_to() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("data/deep")).unwrap();
        fs::write(dir.path().join("data/deep/file"), "").unwrap();
        fs::create_dir(dir.path().join("other")).unwrap();
        fs::write(dir.path().join("other/kept"), "").unwrap();
        symlink("../other", dir.path().join("data/link")).unwrap();
        let data = place(dir.path(), "/data");
        data.remove_all().unwrap();
        data.remove_all().unwrap();
        assert!(!dir.path().join("data").exists() && dir.path().join("other/kept").exists());
    }

    #[test]
    fn mount_points_are_seen() {
        assert!(mounted_in(Path::new("/proc")).unwrap().is_some());
        assert_eq!(mounted_in(Path::new("/nonexistent")).unwrap(), None);
        assert_eq!(unescape(b"/a\\040b\\134c\\09"), Path::new("/a b\\c\\09"));
    }
}
