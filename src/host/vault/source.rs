//! What is to be saved, read for `rustic_core`.
//!
//! # Guarantees
//!
//! A tree is walked by open directories: a name is never looked up through a link, and a path may be longer than
//! the kernel takes. Whatever cannot be read is a fault, and then there is no snapshot; what is gone when its
//! turn comes is told and left out.

use std::collections::BTreeSet;
use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io::{self, BufReader, Cursor, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use rustic_core::repofile::NodeType;
use rustic_core::{ErrorKind, ReadSource, ReadSourceEntry, ReadSourceOpen, RusticError, RusticResult};
use rustix::fs::{AtFlags, Mode, OFlags, Stat, StatxAttributes, StatxFlags, openat, statat, statx};

use super::child::Words;
use super::node;
use super::save::Trees;
use super::store::Faults;

/// What is read from a file at once: the library itself asks for 4 KiB.
const BUFFER: usize = 256 << 10;

/// One entry of the snapshot, at an absolute path in it.
pub(super) enum Root {
    Tree { at: PathBuf, from: PathBuf, except: BTreeSet<PathBuf> },
    Bytes { at: PathBuf, bytes: Vec<u8> },
    Stream { at: PathBuf, from: OwnedFd, number: usize },
}

impl Root {
    fn at(&self) -> &Path {
        match self {
            Root::Tree { at, .. } | Root::Bytes { at, .. } | Root::Stream { at, .. } => at,
        }
    }
}

/// Files handed to the library, less those that were gone when it opened them.
#[derive(Clone, Default)]
pub(super) struct Tally(Arc<AtomicU64>);

impl Tally {
    pub fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// All entries of a snapshot.
pub(super) struct Origin {
    /// Taken by the one walk there is.
    roots: Mutex<Vec<Root>>,
    shared: Arc<Shared>,
    trees: Mutex<Option<Arc<Trees>>>,
}

pub(super) struct Shared {
    words: Arc<Words>,
    faults: Arc<Faults>,
    tally: Tally,
    at: Timestamp,
    names: node::Names,
}

impl Origin {
    /// `trees`: let go of when all trees were read that stand before the first stream.
    pub fn new(
        mut roots: Vec<Root>,
        words: Arc<Words>,
        faults: Arc<Faults>,
        at: Timestamp,
        trees: Option<Arc<Trees>>,
    ) -> Self {
        // By component, as the library compares with an earlier snapshot; the walk takes them from the end.
        roots.sort_by(|one, other| other.at().cmp(one.at()));
        let shared = Shared { words, faults, tally: Tally::default(), at, names: node::Names::default() };
        Self { roots: Mutex::new(roots), shared: Arc::new(shared), trees: Mutex::new(trees) }
    }

    pub fn tally(&self) -> Tally {
        self.shared.tally.clone()
    }
}

impl ReadSource for Origin {
    type Open = Opening;
    type Iter = Walk;

    fn size(&self) -> RusticResult<Option<u64>> {
        Ok(None)
    }

    fn entries(&self) -> Walk {
        let roots = std::mem::take(&mut *self.roots.lock().unwrap_or_else(PoisonError::into_inner));
        let trees = self.trees.lock().unwrap_or_else(PoisonError::into_inner).take();
        Walk { roots, stack: Vec::new(), shared: self.shared.clone(), trees }
    }
}

/// An open directory and what of it was not yet met.
struct Directory {
    fd: Arc<OwnedFd>,
    /// In the snapshot, and on the machine.
    at: PathBuf,
    from: PathBuf,
    /// The next one last.
    names: Vec<OsString>,
    except: Arc<BTreeSet<PathBuf>>,
}

pub(super) struct Walk {
    roots: Vec<Root>,
    stack: Vec<Directory>,
    shared: Arc<Shared>,
    trees: Option<Arc<Trees>>,
}

type Met = ReadSourceEntry<Opening>;

impl Iterator for Walk {
    type Item = RusticResult<Met>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let met = match self.stack.last_mut() {
                Some(directory) => match directory.names.pop() {
                    Some(name) => {
                        let (fd, except) = (directory.fd.clone(), directory.except.clone());
                        let (at, from) = (directory.at.join(&name), directory.from.join(&name));
                        self.meet(&fd, &name, at, from, except, false)
                    }
                    None => {
                        self.stack.pop();
                        continue;
                    }
                },
                None => match self.next_root()? {
                    Root::Tree { at, from, except } => self.begin(at, from, except),
                    Root::Bytes { at, bytes } => {
                        let size = bytes.len() as u64;
                        self.alone(at, size, Opening::Bytes(bytes))
                    }
                    Root::Stream { at, from, number } => {
                        let opening = Opening::Stream { from, number, path: at.clone(), shared: self.shared.clone() };
                        // Its length is not known before its end, but restic restores no content of a file of
                        // no length.
                        self.alone(at, 1, opening)
                    }
                },
            };
            if let Some(entry) = met {
                if !entry.node.is_dir() {
                    self.shared.tally.0.fetch_add(1, Ordering::Relaxed);
                }
                return Some(Ok(entry));
            }
        }
    }
}

impl Walk {
    fn next_root(&mut self) -> Option<Root> {
        let root = self.roots.pop();
        if matches!(root, None | Some(Root::Stream { .. })) {
            self.trees = None;
        }
        root
    }

    /// A file of ours, 0600 and root's.
    fn alone(&self, at: PathBuf, size: u64, open: Opening) -> Option<Met> {
        let node = node::alone(at.file_name()?, size, self.shared.at);
        Some(ReadSourceEntry { path: at, node, open: Some(open) })
    }

    fn begin(&mut self, at: PathBuf, from: PathBuf, except: BTreeSet<PathBuf>) -> Option<Met> {
        let (parent, name) = match (from.parent(), from.file_name()) {
            (Some(parent), Some(name)) => (parent.to_owned(), name.to_owned()),
            _ => {
                self.shared.faults.error(from, "it is no path of a file or directory");
                return None;
            }
        };
        // What the order names is there, or the order is wrong: not "vanished".
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::open(&parent, flags, Mode::empty());
        match opened.and_then(|fd| statat(&fd, &name, AtFlags::SYMLINK_NOFOLLOW).map(|_| fd)) {
            Ok(fd) => self.meet(&Arc::new(fd), &name, at, from, Arc::new(except), true),
            Err(error) => {
                self.shared.faults.error(from, io::Error::from(error).to_string());
                None
            }
        }
    }

    /// One name of a directory. `None` if nothing of it goes into the snapshot.
    fn meet(
        &mut self,
        parent: &Arc<OwnedFd>,
        name: &OsStr,
        at: PathBuf,
        from: PathBuf,
        except: Arc<BTreeSet<PathBuf>>,
        first: bool,
    ) -> Option<Met> {
        if except.contains(&from) {
            return None;
        }
        let described = statat(&**parent, name, AtFlags::SYMLINK_NOFOLLOW).map_err(io::Error::from).and_then(|stat| {
            Ok((stat, node::of(&**parent, name, at.file_name().unwrap_or(name), &stat, &self.shared.names)?))
        });
        let (stat, node) = match described {
            Ok((_, None)) => return None,
            Ok((stat, Some(node))) => (stat, node),
            Err(error) => return self.fault(from, &error),
        };
        let open = match node.node_type {
            NodeType::File => Some(Opening::File {
                parent: parent.clone(),
                name: name.to_owned(),
                stat: Box::new(stat),
                path: from,
                shared: self.shared.clone(),
                trees: self.trees.clone(),
            }),
            NodeType::Dir => {
                match enter(parent, name, first) {
                    Ok(Some((fd, names))) => {
                        self.stack.push(Directory { fd: Arc::new(fd), at: at.clone(), from, names, except });
                    }
                    // A mount point is there, and empty.
                    Ok(None) => {}
                    Err(error) => return self.fault(from, &error),
                }
                None
            }
            _ => None,
        };
        Some(ReadSourceEntry { path: at, node, open })
    }

    fn fault(&self, path: PathBuf, error: &io::Error) -> Option<Met> {
        match error.kind() {
            io::ErrorKind::NotFound => self.shared.faults.vanished(path),
            _ => self.shared.faults.error(path, error.to_string()),
        }
        None
    }
}

/// Opens a directory and lists it; `None` for a mount point, unless it is the `first`.
fn enter(parent: &OwnedFd, name: &OsStr, first: bool) -> io::Result<Option<(OwnedFd, Vec<OsString>)>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = openat(parent, name, flags, Mode::empty())?;
    if !first {
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

/// What a file's content comes from.
pub(super) enum Opening {
    File {
        parent: Arc<OwnedFd>,
        name: OsString,
        stat: Box<Stat>,
        path: PathBuf,
        shared: Arc<Shared>,
        trees: Option<Arc<Trees>>,
    },
    Bytes(Vec<u8>),
    Stream {
        from: OwnedFd,
        number: usize,
        path: PathBuf,
        shared: Arc<Shared>,
    },
}

impl ReadSourceOpen for Opening {
    type Reader = Reading;

    fn open(self) -> RusticResult<Reading> {
        match self {
            Opening::Bytes(bytes) => Ok(Reading::Bytes(Cursor::new(bytes))),
            Opening::Stream { from, number, path, shared } => {
                Ok(Reading::Stream { from: BufReader::with_capacity(BUFFER, File::from(from)), number, path, shared })
            }
            Opening::File { parent, name, stat, path, shared, trees } => match open_file(&parent, &name, &stat) {
                Ok(file) => {
                    let buffer = usize::try_from(stat.st_size).unwrap_or(BUFFER).clamp(1 << 10, BUFFER);
                    Ok(Reading::File { from: BufReader::with_capacity(buffer, file), path, shared, _trees: trees })
                }
                Err(error) => {
                    match error.kind() {
                        io::ErrorKind::NotFound => {
                            shared.tally.0.fetch_sub(1, Ordering::Relaxed);
                            shared.faults.vanished(path);
                        }
                        _ => shared.faults.error(path, error.to_string()),
                    }
                    Err(RusticError::with_source(ErrorKind::InputOutput, "a file cannot be opened", error))
                }
            },
        }
    }
}

fn open_file(parent: &OwnedFd, name: &OsStr, listed: &Stat) -> io::Result<File> {
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
    match now.st_mode & libc_type() == listed.st_mode & libc_type() {
        true => Ok(File::from(file)),
        false => Err(io::ErrorKind::NotFound.into()),
    }
}

/// The bits of a mode that are the kind of file.
const fn libc_type() -> u32 {
    0o170_000
}

pub(super) enum Reading {
    File { from: BufReader<File>, path: PathBuf, shared: Arc<Shared>, _trees: Option<Arc<Trees>> },
    Bytes(Cursor<Vec<u8>>),
    Stream { from: BufReader<File>, number: usize, path: PathBuf, shared: Arc<Shared> },
}

impl Read for Reading {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Reading::Bytes(from) => from.read(buffer),
            Reading::File { from, path, shared, .. } => {
                from.read(buffer).inspect_err(|error| record(shared, path, error))
            }
            Reading::Stream { from, number, path, shared } => match from.read(buffer) {
                // The end of the bytes is not the end of the program: only one that ended well wrote them all.
                Ok(0) if !buffer.is_empty() => shared.words.about(*number).map(|()| 0).map_err(|why| {
                    let error = io::Error::other(why);
                    record(shared, path, &error);
                    error
                }),
                read => read.inspect_err(|error| record(shared, path, error)),
            },
        }
    }
}

fn record(shared: &Shared, path: &Path, error: &io::Error) {
    // Readers try again by themselves.
    if error.kind() != io::ErrorKind::Interrupted {
        shared.faults.error(path.to_owned(), error.to_string());
    }
}

/// The path of what stands at `name` in an open directory, for calls that take no directory.
pub(super) fn through(parent: impl AsFd, name: &OsStr) -> io::Result<CString> {
    use std::os::fd::AsRawFd;
    let mut path = format!("/proc/self/fd/{}/", parent.as_fd().as_raw_fd()).into_bytes();
    path.extend_from_slice(name.as_bytes());
    CString::new(path).map_err(io::Error::other)
}
