//! What is to be saved, walked and read.
//!
//! # Guarantees
//!
//! A tree is walked by open directories: a name is never looked up through a link, and a path may be longer than
//! the kernel takes. Whatever cannot be read is a fault, and then there is no snapshot; what is gone when its
//! turn comes is told and left out.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use rustic_core::repofile::{Node, NodeType};
use rustix::fs::{AtFlags, Mode, OFlags, Stat, statat};

use super::chunk::{Chunks, Cuts};
use super::earlier::{Earlier, Then};
use super::open::{open_directory, open_file};
use super::seal::{Batch, Chunk, Content};
use super::tree::{Listed, Met, Was};
use super::{Archive, BlobKind};
use crate::host::vault::child::Words;
use crate::host::vault::error::VaultError;
use crate::host::vault::node;
use crate::host::vault::save::Trees;

/// Chunks go to be sealed when there are so many bytes of them, or so many.
const BATCH: usize = 1 << 20;
const CHUNKS: usize = 64;

/// One entry of the snapshot, at an absolute path in it.
pub(in super::super) enum Root {
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

/// What could not be read of what is to be saved.
#[derive(Debug, Default)]
pub(in super::super) struct Faults {
    errors: Mutex<Vec<(PathBuf, String)>>,
    vanished: Mutex<Vec<PathBuf>>,
}

impl Faults {
    fn error(&self, path: PathBuf, what: impl Into<String>) {
        self.errors.lock().unwrap_or_else(PoisonError::into_inner).push((path, what.into()));
    }

    fn vanished(&self, path: PathBuf) {
        self.vanished.lock().unwrap_or_else(PoisonError::into_inner).push(path);
    }

    pub fn take(self) -> (Vec<(PathBuf, String)>, Vec<PathBuf>) {
        let Self { errors, vanished } = self;
        (
            errors.into_inner().unwrap_or_else(PoisonError::into_inner),
            vanished.into_inner().unwrap_or_else(PoisonError::into_inner),
        )
    }
}

/// Where what was read goes, and how it is read.
pub(super) struct Ways<'a> {
    pub cuts: &'a Cuts,
    pub batches: SyncSender<Batch>,
    pub directories: SyncSender<Listed>,
    pub words: &'a Words,
    pub faults: &'a Faults,
    pub at: Timestamp,
}

/// Reads all there is. A failure of the archive ends it early; what it sends is complete otherwise.
pub(super) fn walk(
    archive: &Archive<'_>,
    ways: Ways<'_>,
    mut roots: Vec<Root>,
    mut earlier: Option<Earlier<'_>>,
    trees: Option<Trees>,
) {
    roots.sort_by(|one, other| one.at().cmp(other.at()));
    let then = earlier.as_mut().map_or(Ok(None), Earlier::root).unwrap_or_else(|error| {
        archive.fail(error);
        None
    });
    let mut walk = Walk {
        archive,
        ways,
        earlier,
        names: node::Names::default(),
        way: Vec::new(),
        stack: vec![Directory { node: None, all: Vec::new(), then, inside: None }],
        batch: Batch::new(),
        held: 0,
    };
    if let Err(error) = walk.roots(roots, trees) {
        archive.fail(error);
    }
}

/// An open directory, and what of it was met.
struct Directory {
    /// `None`: the root of the snapshot.
    node: Option<Node>,
    all: Vec<Met>,
    then: Option<Then>,
    /// `None`: only on the way to a root, or a mount point.
    inside: Option<Inside>,
}

struct Inside {
    place: Rc<Place>,
    /// Not met yet, the next one last.
    names: Vec<OsString>,
}

/// A directory of the machine.
struct Place {
    fd: OwnedFd,
    from: PathBuf,
    /// Paths below it that are left out.
    except: Rc<BTreeSet<PathBuf>>,
    /// What is looked up here is what the order names: it is there, or the order is wrong. It has not vanished.
    is_first: bool,
}

struct Walk<'a, 'b> {
    archive: &'a Archive<'b>,
    ways: Ways<'a>,
    earlier: Option<Earlier<'a>>,
    names: node::Names,
    /// The open directories that lead to the roots.
    way: Vec<OsString>,
    /// The root, those of the way, and what is open of a tree.
    stack: Vec<Directory>,
    batch: Batch,
    held: usize,
}

impl Walk<'_, '_> {
    fn roots(&mut self, roots: Vec<Root>, mut trees: Option<Trees>) -> Result<(), VaultError> {
        let mut before: Option<PathBuf> = None;
        for root in roots {
            let wrong = |why: &str| VaultError::Source(vec![(root.at().to_owned(), why.to_owned())]);
            let Some(name) = root.at().file_name().map(OsStr::to_owned) else { return Err(wrong("it has no name")) };
            if before.replace(root.at().to_owned()).is_some_and(|before| root.at().starts_with(before)) {
                return Err(wrong("it is in another entry"));
            }
            let way =
                root.at().parent().into_iter().flat_map(Path::components).filter_map(|component| match component {
                    Component::Normal(name) => Some(name.to_owned()),
                    _ => None,
                });
            self.go(&way.collect::<Vec<_>>());
            match root {
                Root::Tree { from, except, .. } => {
                    let depth = self.stack.len();
                    self.begin(&name, from, except);
                    while self.stack.len() > depth && !self.archive.has_failed() {
                        self.step();
                    }
                }
                Root::Bytes { at, bytes } => self.alone(&name, &at, &bytes[..], bytes.len()),
                Root::Stream { at, from, number } => {
                    trees = None;
                    self.alone(&name, &at, File::from(from), 0);
                    // The end of the bytes is not the end of the program: only one that ended well wrote them all.
                    if let Err(why) = self.ways.words.about(number) {
                        self.ways.faults.error(at, why);
                    }
                }
            }
            if self.archive.has_failed() {
                return Ok(());
            }
        }
        drop(trees);
        if before.is_some() {
            self.go(&[]);
            self.leave();
        }
        self.flush();
        Ok(())
    }

    /// Leaves and enters directories until those of `way` are open.
    fn go(&mut self, way: &[OsString]) {
        let common = self.way.iter().zip(way).take_while(|(open, wanted)| open == wanted).count();
        while self.way.len() > common {
            self.way.pop();
            self.leave();
        }
        for name in &way[common..] {
            self.way.push(name.clone());
            self.enter(node::on_the_way(name), None);
        }
    }

    fn enter(&mut self, node: Node, inside: Option<Inside>) {
        let then = self.then(&node).and_then(|then| then.subtree);
        let then = match (then, &mut self.earlier) {
            (Some(id), Some(earlier)) => earlier.directory(&id).unwrap_or_else(|error| {
                self.archive.fail(error);
                None
            }),
            _ => None,
        };
        self.stack.push(Directory { node: Some(node), all: Vec::new(), then, inside });
    }

    fn leave(&mut self) {
        let Some(Directory { node, all, then, .. }) = self.stack.pop() else { return };
        let listed = Listed { all, earlier: then.map(|then| (then.id, then.nodes)) };
        if let Err(TrySendError::Full(listed)) = self.ways.directories.try_send(listed) {
            // It may wait for a chunk that we hold. Who takes these takes them to the end, also after a failure.
            self.flush();
            let _ = self.ways.directories.send(listed);
        }
        if let (Some(node), Some(above)) = (node, self.stack.last_mut()) {
            above.all.push(Met { node, was: Was::Other, read: None });
        }
    }

    /// What stood at the place of `node`, in the directory that is open.
    fn then(&mut self, node: &Node) -> Option<&Node> {
        self.stack.last_mut()?.then.as_mut()?.node(node)
    }

    fn put(&mut self, met: Met) {
        if let Some(directory) = self.stack.last_mut() {
            directory.all.push(met);
        }
    }

    /// A file of ours, 0600 and root's, whose content is never taken for another.
    fn alone(&mut self, name: &OsStr, at: &Path, from: impl Read, length: usize) {
        let node = node::alone(name, self.ways.at);
        let was = self.then(&node).map_or(Was::Absent, |_| Was::Other);
        let read = Some(self.read(from, length, || at.to_owned()));
        self.put(Met { node, was, read });
    }

    fn begin(&mut self, name: &OsStr, from: PathBuf, except: BTreeSet<PathBuf>) {
        let (Some(parent), Some(file)) = (from.parent(), from.file_name()) else {
            return self.ways.faults.error(from, "it is no path of a file or directory");
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match rustix::fs::open(parent, flags, Mode::empty()) {
            Ok(fd) => {
                let place = Place { fd, from: parent.to_owned(), except: Rc::new(except), is_first: true };
                self.meet(&place, file, name);
            }
            Err(error) => self.ways.faults.error(from, io::Error::from(error).to_string()),
        }
    }

    /// The next name of the directory that is open, or its end.
    fn step(&mut self) {
        let inside = self.stack.last_mut().and_then(|directory| directory.inside.as_mut());
        let next = inside.and_then(|inside| Some((inside.names.pop()?, inside.place.clone())));
        match next {
            Some((name, place)) => self.meet(&place, &name, &name),
            None => self.leave(),
        }
    }

    /// One name of a directory, and what it is called in the snapshot.
    fn meet(&mut self, place: &Place, name: &OsStr, called: &OsStr) {
        let Place { fd, from, except, is_first } = place;
        if !except.is_empty() && except.contains(&from.join(name)) {
            return;
        }
        let described = statat(fd, name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(io::Error::from)
            .and_then(|stat| Ok((stat, node::of(fd, name, called, &stat, &self.names)?)));
        let (stat, node) = match described {
            Ok((_, None)) => return,
            Ok((stat, Some(node))) => (stat, node),
            Err(error) => return self.fault(place, name, &error),
        };
        match node.node_type {
            NodeType::Dir => match open_directory(fd, name, *is_first) {
                Ok(opened) => {
                    let inside = opened.map(|(fd, names)| {
                        let place = Place { fd, from: from.join(name), except: except.clone(), is_first: false };
                        Inside { place: Rc::new(place), names }
                    });
                    self.enter(node, inside);
                }
                Err(error) => self.fault(place, name, &error),
            },
            NodeType::File => self.file(place, name, &stat, node),
            _ => {
                let was =
                    self.then(&node).map_or(Was::Absent, |then| if *then == node { Was::Same } else { Was::Other });
                self.put(Met { node, was, read: None });
            }
        }
    }

    fn file(&mut self, place: &Place, name: &OsStr, stat: &Stat, mut node: Node) {
        let Self { earlier, stack, archive, .. } = self;
        let then = stack.last_mut().and_then(|directory| directory.then.as_mut()?.node(&node));
        let was = then.map_or(Was::Absent, |_| Was::Other);
        let same = then.filter(|then| earlier.as_ref().is_some_and(|earlier| earlier.is_same(then, &node)));
        let known = |then: &Node| then.content.iter().flatten().all(|id| archive.packer.has(BlobKind::Data, id));
        if let Some(then) = same.filter(|then| known(then)) {
            node.content.clone_from(&then.content);
            archive.tell.bytes(node.meta.size, None);
            return self.put(Met { node, was: Was::Same, read: None });
        }
        match open_file(&place.fd, name, stat) {
            Ok(file) => {
                let length = usize::try_from(stat.st_size).unwrap_or(usize::MAX);
                let read = Some(self.read(file, length, || place.from.join(name)));
                self.put(Met { node, was, read });
            }
            Err(error) => self.fault(place, name, &error),
        }
    }

    fn read(&mut self, from: impl Read, length: usize, path: impl FnOnce() -> PathBuf) -> (u64, Arc<Content>) {
        let content = Arc::<Content>::default();
        let mut read = 0;
        for chunk in Chunks::new(self.ways.cuts, from, length) {
            match chunk {
                Ok(bytes) => {
                    read += bytes.len() as u64;
                    self.archive.tell.bytes(bytes.len() as u64, None);
                    self.hand(content.chunk(bytes));
                }
                Err(error) => {
                    self.ways.faults.error(path(), error.to_string());
                    break;
                }
            }
            if self.archive.has_failed() {
                break;
            }
        }
        (read, content)
    }

    fn hand(&mut self, chunk: Chunk) {
        self.held += chunk.bytes.len();
        self.batch.push(chunk);
        if self.held >= BATCH || self.batch.len() >= CHUNKS {
            self.flush();
        }
    }

    fn flush(&mut self) {
        self.held = 0;
        if !self.batch.is_empty() {
            // Who takes these takes them to the end, also after a failure.
            let _ = self.ways.batches.send(std::mem::take(&mut self.batch));
        }
    }

    fn fault(&self, place: &Place, name: &OsStr, error: &io::Error) {
        let path = place.from.join(name);
        match error.kind() {
            io::ErrorKind::NotFound if !place.is_first => self.ways.faults.vanished(path),
            _ => self.ways.faults.error(path, error.to_string()),
        }
    }
}
