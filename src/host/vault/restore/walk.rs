//! The directories of a snapshot, made as they are met; its files, handed on in batches.

use std::collections::{BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use rustic_core::Id;
use rustic_core::repofile::{Node, NodeType};
use rustix::fs::{AtFlags, FileType, Mode, linkat, mkdirat, mknodat, readlinkat, statat, symlinkat};

use super::Restore;
use super::place::{Directory, Spot, finish, open_directory, release};
use crate::host::vault::error::VaultError;
use crate::host::vault::sealed::Opener;

/// Small files go together, so that what lies together in a pack is read at once.
const BATCH: u64 = 4 << 20;
const BATCH_FILES: usize = 512;

/// A file to be brought back.
pub struct Job {
    pub spot: Spot,
    pub node: Node,
}

pub type Batch = Vec<Job>;

pub struct Walk<'a, 'b> {
    shared: &'a Restore<'b>,
    opener: Opener,
    send: SyncSender<Batch>,
    batch: Batch,
    size: u64,
    links: Links,
}

impl<'a, 'b> Walk<'a, 'b> {
    pub fn new(shared: &'a Restore<'b>, send: SyncSender<Batch>) -> Self {
        let opener = shared.repo.opener();
        Self { shared, opener, send, batch: Vec::new(), size: 0, links: Links::default() }
    }

    /// The snapshot's own root, into a directory whose permissions and times are not known.
    pub fn root(&mut self, spot: &Spot, tree: Id) -> Result<(), VaultError> {
        let directory = self.directory(spot, None)?;
        self.trees(vec![(directory, tree)])
    }

    pub fn node(&mut self, spot: &Spot, node: Node) -> Result<(), VaultError> {
        let mut below = Vec::new();
        self.one(spot.clone(), node, &mut below)?;
        self.trees(below)
    }

    /// Hands the rest over. What stays to do when all files are there are the hard links.
    pub fn end(mut self) -> Links {
        self.flush();
        self.links
    }

    fn trees(&mut self, mut open: Vec<(Arc<Directory>, Id)>) -> Result<(), VaultError> {
        while let Some((directory, tree)) = open.pop() {
            if self.shared.has_failed() {
                return Ok(());
            }
            let tree = self.shared.repo.tree(self.shared.index, &mut self.opener, &tree)?;
            let mut besides = names(&directory)?;
            let mut below = Vec::new();
            for node in tree.nodes {
                let name = node.name().into_owned();
                if !is_name(&name) {
                    let what = format!("a directory of it holds the name {name:?}");
                    return Err(VaultError::Damaged { file: "tree".to_owned(), what });
                }
                besides.remove(&name);
                self.one(Spot { directory: directory.clone(), name }, node, &mut below)?;
            }
            for name in besides {
                Spot { directory: directory.clone(), name }.clear()?;
            }
            // In their order: neighbours in a snapshot are neighbours in a pack.
            open.extend(below.into_iter().rev());
            release(directory, &self.shared.owners)?;
        }
        Ok(())
    }

    fn one(&mut self, spot: Spot, node: Node, below: &mut Vec<(Arc<Directory>, Id)>) -> Result<(), VaultError> {
        match &node.node_type {
            NodeType::Dir => {
                let tree = *node.subtree.ok_or_else(|| VaultError::Damaged {
                    file: "tree".to_owned(),
                    what: format!("the directory `{}` has no content", spot.path().display()),
                })?;
                below.push((self.directory(&spot, Some(node))?, tree));
            }
            NodeType::File => {
                if let Some(spot) = self.links.first(spot, &node) {
                    self.put(Job { spot, node });
                }
            }
            NodeType::Symlink { .. } => self.link(&spot, &node)?,
            NodeType::Dev { device } => self.special(&spot, &node, FileType::BlockDevice, *device)?,
            NodeType::Chardev { device } => self.special(&spot, &node, FileType::CharacterDevice, *device)?,
            NodeType::Fifo => self.special(&spot, &node, FileType::Fifo, 0)?,
            // Its server makes it.
            NodeType::Socket => {}
        }
        Ok(())
    }

    fn directory(&self, spot: &Spot, node: Option<Node>) -> Result<Arc<Directory>, VaultError> {
        let parent = &spot.directory.fd;
        // Nobody else's until it is finished.
        let make = || mkdirat(parent, &*spot.name, Mode::RWXU);
        match make() {
            Err(rustix::io::Errno::EXIST) if kind(spot)? != Some(FileType::Directory) => {
                spot.clear()?;
                make().map_err(|error| spot.fault(error))?;
            }
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(spot.fault(error)),
        }
        let fd = open_directory(parent, &spot.name).map_err(|error| spot.fault(error))?;
        Ok(Arc::new(Directory { fd, path: spot.path(), node, above: Some(spot.clone()) }))
    }

    fn link(&self, spot: &Spot, node: &Node) -> Result<(), VaultError> {
        let parent = &spot.directory.fd;
        let target = node.node_type.to_link();
        let stands = readlinkat(parent, &*spot.name, Vec::new());
        if !stands.is_ok_and(|stands| stands.to_bytes() == target.as_os_str().as_bytes()) {
            spot.clear()?;
            symlinkat(target, parent, &*spot.name).map_err(|error| spot.fault(error))?;
        }
        finish(parent, &spot.name, None, node, &self.shared.owners).map_err(|error| spot.fault(error))
    }

    fn special(&self, spot: &Spot, node: &Node, kind: FileType, device: u64) -> Result<(), VaultError> {
        use crate::host::vault::node::permissions;
        let parent = &spot.directory.fd;
        spot.clear()?;
        let mode = Mode::from_raw_mode(permissions(node.meta.mode.unwrap_or(0o600)));
        mknodat(parent, &*spot.name, kind, mode, device).map_err(|error| spot.fault(error))?;
        finish(parent, &spot.name, None, node, &self.shared.owners).map_err(|error| spot.fault(error))
    }

    fn put(&mut self, job: Job) {
        self.size += job.node.meta.size;
        self.batch.push(job);
        if self.size >= BATCH || self.batch.len() >= BATCH_FILES {
            self.flush();
        }
    }

    fn flush(&mut self) {
        self.size = 0;
        // Nobody takes it if all writers failed; they told why.
        let _ = self.send.send(std::mem::take(&mut self.batch));
    }
}

/// A name of one thing in a directory: what a hostile repository calls otherwise is not made.
fn is_name(name: &OsStr) -> bool {
    let mut components = Path::new(name).components();
    matches!((components.next(), components.next()), (Some(std::path::Component::Normal(only)), None) if only == name)
        && !name.as_bytes().contains(&0)
}

fn names(directory: &Directory) -> Result<BTreeSet<OsString>, VaultError> {
    let cannot = |error: rustix::io::Errno| VaultError::Target(directory.path.clone(), error.into());
    let mut names = BTreeSet::new();
    for entry in rustix::fs::Dir::read_from(&directory.fd).map_err(cannot)? {
        let entry = entry.map_err(cannot)?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.insert(OsStr::from_bytes(name).to_owned());
        }
    }
    Ok(names)
}

fn kind(spot: &Spot) -> Result<Option<FileType>, VaultError> {
    match statat(&spot.directory.fd, &*spot.name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode))),
        Err(rustix::io::Errno::NOENT) => Ok(None),
        Err(error) => Err(spot.fault(error)),
    }
}

/// Files of several names. The first is brought back, the others are linked to it at the end.
#[derive(Default)]
pub struct Links {
    first: HashMap<(u64, u64), Spot>,
    later: Vec<(Spot, Spot)>,
}

impl Links {
    /// The spot, if it is the first name of its file.
    fn first(&mut self, spot: Spot, node: &Node) -> Option<Spot> {
        let meta = &node.meta;
        if meta.links < 2 || meta.inode == 0 {
            return Some(spot);
        }
        match self.first.get(&(meta.device_id, meta.inode)) {
            Some(first) => {
                self.later.push((first.clone(), spot));
                None
            }
            None => {
                self.first.insert((meta.device_id, meta.inode), spot.clone());
                Some(spot)
            }
        }
    }

    /// Makes the links and lets go of the directories they are in.
    pub fn finish(self, shared: &Restore<'_>) -> Result<(), VaultError> {
        for (first, spot) in self.later {
            let inode = |spot: &Spot| statat(&spot.directory.fd, &*spot.name, AtFlags::SYMLINK_NOFOLLOW);
            let from = inode(&first).map_err(|error| first.fault(error))?;
            let is_linked = inode(&spot).is_ok_and(|to| (to.st_dev, to.st_ino) == (from.st_dev, from.st_ino));
            if !is_linked {
                spot.clear()?;
                let (from, to) = (&first.directory.fd, &spot.directory.fd);
                linkat(from, &*first.name, to, &*spot.name, AtFlags::empty())
                    .map_err(|error| spot.fault(io::Error::from(error)))?;
            }
            shared.files.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            release(first.directory, &shared.owners)?;
            release(spot.directory, &shared.owners)?;
        }
        self.first.into_values().try_for_each(|spot| release(spot.directory, &shared.owners))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_one_thing() {
        for name in ["a", "a b", "..a", ".a", "\u{7f}\n"] {
            assert!(is_name(OsStr::new(name)), "{name:?}");
        }
        for name in ["", ".", "..", "/", "a/b", "/a", "a/", "a\0b"] {
            assert!(!is_name(OsStr::new(name)), "{name:?}");
        }
    }
}
