//! Bringing a snapshot back.
//!
//! # Guarantees
//!
//! A file gets its name when all its bytes are there and each was verified against its name in the snapshot; what
//! is there and equal, byte for byte, is left. So one that was interrupted is run again, and one over a live
//! directory changes what differs. No name is looked up through a link. A directory's own times and permissions
//! come after all that is in it.
//!
//! Memory: a few windows of [`content::WINDOW`] bytes, whatever the size of files.

mod content;
mod place;
mod walk;

use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Mutex, PoisonError};

use rustic_core::Id;
use rustic_core::repofile::{Node, NodeType};

use super::child::Tell;
use super::error::VaultError;
use super::format::Repo;
use super::index::{BlobKind, Index};
use super::{Renamed, Restored};
use place::{Owners, Spot, release};
use walk::{Batch, Walk};

/// Files are brought back by so many at once: one reads while another writes.
const WRITERS: usize = 3;

/// What all threads of a restore share.
struct Restore<'a> {
    repo: &'a Repo,
    index: &'a Index,
    owners: Owners,
    tell: &'a Tell,
    files: AtomicU64,
    bytes: AtomicU64,
    /// The first failure; the others stop at it.
    failed: Mutex<Option<VaultError>>,
}

impl Restore<'_> {
    fn fail(&self, error: VaultError) {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    }

    fn has_failed(&self) -> bool {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }
}

pub(super) fn restore(
    repo: &Repo,
    snapshot: &str,
    path: &Path,
    to: &Path,
    owners: Renamed,
    tell: &Tell,
) -> Result<Restored, VaultError> {
    let (index, _) = Index::load(repo)?;
    let found = find(repo, &index, snapshot, path)?;
    // Modes of what is made are as given.
    rustix::process::umask(rustix::fs::Mode::empty());
    let shared = Restore {
        repo,
        index: &index,
        owners: Owners::new(owners),
        tell,
        files: AtomicU64::new(0),
        bytes: AtomicU64::new(0),
        failed: Mutex::new(None),
    };
    let spot = Spot::outside(to)?;
    let (send, receive) = sync_channel::<Batch>(WRITERS);
    let receive = Mutex::new(receive);
    let links = std::thread::scope(|scope| {
        let shared = &shared;
        for _ in 0..WRITERS {
            scope.spawn(|| content::write_batches(shared, &receive));
        }
        let mut walk = Walk::new(shared, send);
        let walked = match found {
            Found::Root(tree) => walk.root(&spot, tree),
            Found::Node(node) => walk.node(&spot, *node),
        };
        if let Err(error) = walked {
            shared.fail(error);
        }
        walk.end()
    });
    if !shared.has_failed()
        && let Err(error) = links.finish(&shared)
    {
        shared.fail(error);
    }
    if let Some(error) = shared.failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    rustix::fs::syncfs(&spot.directory.fd).map_err(|error| VaultError::Target(to.to_owned(), error.into()))?;
    release(spot.directory, &shared.owners)?;
    Ok(Restored { files: shared.files.load(Ordering::Relaxed), bytes: shared.bytes.load(Ordering::Relaxed) })
}

/// The content of one file.
pub(super) fn read(repo: &Repo, snapshot: &str, path: &Path, to: File) -> Result<u64, VaultError> {
    use std::io::Write;
    let (index, _) = Index::load(repo)?;
    let nothing = || VaultError::NoPath { snapshot: snapshot.to_owned(), path: path.display().to_string() };
    let Found::Node(node) = find(repo, &index, snapshot, path)? else { return Err(nothing()) };
    if node.node_type != NodeType::File {
        return Err(nothing());
    }
    let mut opener = repo.opener();
    let mut to = std::io::BufWriter::new(to);
    let mut written = 0;
    for id in node.content.iter().flatten() {
        let plain = repo.blob(&index, &mut opener, BlobKind::Data, id)?;
        to.write_all(&plain).map_err(|error| VaultError::Target(path.to_owned(), error))?;
        written += plain.len() as u64;
    }
    to.flush().map_err(|error| VaultError::Target(path.to_owned(), error))?;
    Ok(written)
}

/// What stands at a path of a snapshot.
enum Found {
    /// The snapshot's own directory, of which nothing is known but what is in it.
    Root(Id),
    Node(Box<Node>),
}

fn find(repo: &Repo, index: &Index, snapshot: &str, path: &Path) -> Result<Found, VaultError> {
    let unknown = || VaultError::NoSnapshot(snapshot.to_owned());
    let id: Id = snapshot.parse().map_err(|_| unknown())?;
    let file = repo.snapshot(&id).map_err(|error| match error {
        VaultError::Store(error) if error.is_absent() => unknown(),
        other => other,
    })?;
    let nothing = || VaultError::NoPath { snapshot: snapshot.to_owned(), path: path.display().to_string() };
    let mut opener = repo.opener();
    let mut found = Found::Root(*file.tree);
    for component in path.components() {
        let name = match component {
            Component::RootDir | Component::CurDir => continue,
            Component::Normal(name) => name,
            Component::ParentDir | Component::Prefix(_) => return Err(nothing()),
        };
        let tree = match &found {
            Found::Root(tree) => *tree,
            Found::Node(node) => *node.subtree.ok_or_else(nothing)?,
        };
        let tree = repo.tree(index, &mut opener, &tree)?;
        let node = tree.nodes.into_iter().find(|node| node.name().as_bytes() == name.as_bytes()).ok_or_else(nothing)?;
        found = Found::Node(Box::new(node));
    }
    Ok(found)
}
