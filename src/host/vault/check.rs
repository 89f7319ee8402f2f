//! Whether everything that is in a repository can be read back, and what cannot.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustic_core::Id;
use rustic_core::repofile::{NodeType, Tree};

use super::child::Tell;
use super::error::VaultError;
use super::format::{Repo, config, hash, hex, key_file, part};
use super::index::{Blob, BlobKind, Index};
use super::sealed::Opener;
use super::store::{Kind, Store};
use super::{Checked, Damage, Depth, Pace, SnapshotId};

/// Packs read at once; each is in memory whole.
const READERS: usize = 2;

pub(super) fn check(
    store: Arc<dyn Store>,
    password: &str,
    pace: Pace,
    depth: Depth,
    tell: &Tell,
) -> Result<Checked, VaultError> {
    let mut found = Found::default();
    let keys = found.names(&*store, Kind::Key)?;
    for id in &keys {
        found.take(key_file(&*store, id).map(drop))?;
    }
    let snapshots = found.names(&*store, Kind::Snapshot)?;
    let repo = match Repo::open(store, password, pace) {
        Ok(repo) => repo,
        // Without its config or its key nothing of it can be read.
        Err(error) if matches!(error, VaultError::Damaged { .. }) || !found.damage.is_empty() => {
            if let error @ VaultError::Damaged { .. } = error {
                found.add(&error);
            }
            return Ok(found.checked(snapshots, 0));
        }
        Err(error) => return Err(error),
    };
    found.take(config(&repo).map(drop))?;
    let index = found.index(&repo)?;
    let mut lost = found.packs(&repo, &index)?;
    let read = match depth {
        Depth::Structure => 0,
        _ => {
            let chosen: Vec<usize> = (0..index.packs.len())
                .filter(|number| !lost.packs.contains(&(*number as u32)))
                .filter(|number| is_chosen(&index.packs[*number].id, depth))
                .collect();
            contents(&repo, &index, &chosen, &mut lost, &mut found, tell)?
        }
    };
    let affected =
        Trees { repo: &repo, index: &index, lost: &lost, read: HashMap::new() }.affected(&snapshots, &mut found)?;
    Ok(found.checked(affected, read))
}

/// All shares together are all packs, whatever is added meanwhile.
fn is_chosen(id: &Id, depth: Depth) -> bool {
    match depth {
        Depth::Structure => false,
        Depth::Share { part, of } => id.as_u32() % of.max(1) == part % of.max(1),
        Depth::Everything => true,
    }
}

/// What was found so far.
#[derive(Default)]
struct Found {
    damage: Vec<Damage>,
}

impl Found {
    fn put(&mut self, file: impl Into<String>, what: impl Into<String>) {
        let damage = Damage { file: file.into(), what: what.into() };
        if !self.damage.iter().any(|known| known.file == damage.file) {
            self.damage.push(damage);
        }
    }

    fn add(&mut self, error: &VaultError) {
        match error {
            VaultError::Damaged { file, what } => self.put(file.clone(), what.clone()),
            VaultError::Store(error) => self.put(error.file.clone(), error.fault.to_string()),
            other => self.put("", other.to_string()),
        }
    }

    /// Damage is what we are here for; a storage that does not answer ends the check.
    fn take<T>(&mut self, result: Result<T, VaultError>) -> Result<Option<T>, VaultError> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(error @ VaultError::Damaged { .. }) => {
                self.add(&error);
                Ok(None)
            }
            Err(VaultError::Store(error)) if error.is_absent() => {
                self.put(error.file, "it is missing");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn names(&mut self, store: &dyn Store, kind: Kind) -> Result<Vec<Id>, VaultError> {
        let listed = self.take(store.list(kind).map_err(VaultError::from))?;
        Ok(listed.unwrap_or_default().into_iter().map(|(id, _)| id).collect())
    }

    fn index(&mut self, repo: &Repo) -> Result<Index, VaultError> {
        let Some((index, damage)) = self.take(Index::load(repo))? else { return Ok(Index::default()) };
        damage.iter().for_each(|error| self.add(error));
        Ok(index)
    }

    /// That every pack the indexes speak of is there in its length.
    fn packs(&mut self, repo: &Repo, index: &Index) -> Result<Lost, VaultError> {
        let listed = self.take(repo.store.list(Kind::Pack).map_err(VaultError::from))?;
        let there: HashMap<Id, u64> = listed.unwrap_or_default().into_iter().collect();
        let mut lost = Lost::default();
        for (number, pack) in index.packs.iter().enumerate() {
            let what = match there.get(&pack.id) {
                Some(length) if *length == pack.size => continue,
                Some(length) => format!("it is {length} bytes long, not {}", pack.size),
                None => "it is missing".to_owned(),
            };
            lost.packs.insert(number as u32);
            // One that is to go, and that nobody needs, may be gone.
            if !pack.marked {
                self.put(Kind::Pack.path(&pack.id), what);
            }
        }
        Ok(lost)
    }

    fn checked(mut self, affected: Vec<Id>, read: u64) -> Checked {
        self.damage.sort_by(|one, other| one.file.cmp(&other.file));
        Checked { damage: self.damage, affected: affected.iter().map(|id| SnapshotId(hex(id))).collect(), read }
    }
}

/// Packs and blobs that cannot be read.
#[derive(Default)]
struct Lost {
    packs: HashSet<u32>,
    blobs: HashSet<(u32, Id)>,
}

impl Lost {
    fn has(&self, index: &Index, kind: BlobKind, id: &Id) -> bool {
        let is_lost = |blob: &Blob| self.packs.contains(&blob.pack) || self.blobs.contains(&(blob.pack, *id));
        index.find(kind, id).all(is_lost)
    }
}

/// Reads packs whole: their bytes are those of their name, and every blob comes out as what it is.
fn contents(
    repo: &Repo,
    index: &Index,
    chosen: &[usize],
    lost: &mut Lost,
    found: &mut Found,
    tell: &Tell,
) -> Result<u64, VaultError> {
    let blobs = index.by_pack();
    let total: u64 = chosen.iter().map(|number| index.packs[*number].size).sum();
    let next = AtomicUsize::new(0);
    let results = Mutex::new((Vec::new(), 0));
    let work = || -> Result<(), VaultError> {
        let mut opener = repo.opener();
        while let Some(number) = chosen.get(next.fetch_add(1, Ordering::Relaxed)) {
            let pack = &index.packs[*number];
            let bad = content(repo, &mut opener, &pack.id, &blobs[*number])?;
            tell.bytes(pack.size, Some(total));
            let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
            results.1 += pack.size;
            if let Some(bad) = bad {
                results.0.push((*number, bad));
            }
        }
        Ok(())
    };
    let ended: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..READERS).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(std::thread::ScopedJoinHandle::join).collect()
    });
    for thread in ended {
        thread.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
    }
    let (bad, read) = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    for (number, Bad { what, blobs }) in bad {
        let number_u32 = number as u32;
        match blobs {
            Some(blobs) => lost.blobs.extend(blobs.into_iter().map(|id| (number_u32, id))),
            None => _ = lost.packs.insert(number_u32),
        }
        found.put(Kind::Pack.path(&index.packs[number].id), what);
    }
    Ok(read)
}

/// What is wrong with one pack: some blobs, or all.
struct Bad {
    what: String,
    blobs: Option<Vec<Id>>,
}

fn content(repo: &Repo, opener: &mut Opener, id: &Id, blobs: &[(Id, Blob)]) -> Result<Option<Bad>, VaultError> {
    let bytes = match repo.store.read(Kind::Pack, id) {
        Ok(bytes) => bytes,
        Err(error) if error.is_absent() => return Ok(Some(Bad { what: "it is missing".into(), blobs: None })),
        Err(error) => return Err(error.into()),
    };
    repo.down.pass(bytes.len());
    let named = hash(&bytes) == *id;
    let mut bad: Vec<Id> = Vec::new();
    let mut why = None;
    for (blob_id, blob) in blobs {
        let opened = part(&bytes, 0, blob).and_then(|sealed| opener.blob(&sealed, blob, blob_id));
        if let Err(what) = opened {
            bad.push(*blob_id);
            why.get_or_insert(what);
        }
    }
    Ok(match (named, why) {
        (true, None) => None,
        (false, None) => {
            Some(Bad { what: "its content is not what its name says; all blobs are well".into(), blobs: Some(bad) })
        }
        (_, Some(why)) => {
            let what = format!("{} of {} blobs cannot be read: {why}", bad.len(), blobs.len());
            Some(Bad { what, blobs: Some(bad) })
        }
    })
}

/// Every directory of every snapshot, each read once.
struct Trees<'a> {
    repo: &'a Repo,
    index: &'a Index,
    lost: &'a Lost,
    /// Whether all a directory holds itself is there, and the directories below it.
    read: HashMap<Id, (bool, Vec<Id>)>,
}

impl Trees<'_> {
    fn affected(mut self, snapshots: &[Id], found: &mut Found) -> Result<Vec<Id>, VaultError> {
        let mut roots = Vec::new();
        let mut affected = Vec::new();
        for id in snapshots {
            match self.repo.snapshot(id) {
                Ok(snapshot) => roots.push((*id, *snapshot.tree)),
                // Forgotten since it was listed.
                Err(VaultError::Store(error)) if error.is_absent() => {}
                Err(error @ VaultError::Damaged { .. }) => {
                    found.add(&error);
                    affected.push(*id);
                }
                Err(error) => return Err(error),
            }
        }
        let mut unknown = HashSet::new();
        let mut opener = self.repo.opener();
        let mut open: Vec<Id> = roots.iter().map(|(_, tree)| *tree).collect();
        while let Some(id) = open.pop() {
            if self.read.contains_key(&id) {
                continue;
            }
            let (whole, below) = self.tree(&id, &mut opener, &mut unknown, found)?;
            open.extend(&below);
            self.read.insert(id, (whole, below));
        }
        if !unknown.is_empty() {
            found.put("index", format!("{} blobs that snapshots need are in no index that can be read", unknown.len()));
        }
        if self.read.values().any(|(whole, _)| !whole) {
            affected.extend(roots.iter().filter(|(_, tree)| !self.is_whole(tree)).map(|(id, _)| id));
        }
        Ok(affected)
    }

    fn tree(
        &self,
        id: &Id,
        opener: &mut Opener,
        unknown: &mut HashSet<Id>,
        found: &mut Found,
    ) -> Result<(bool, Vec<Id>), VaultError> {
        if self.index.find(BlobKind::Tree, id).next().is_none() {
            unknown.insert(*id);
            return Ok((false, Vec::new()));
        }
        let Some(tree) = found.take(self.repo.tree(self.index, opener, id))? else { return Ok((false, Vec::new())) };
        Ok(self.nodes(&tree, unknown, found))
    }

    fn nodes(&self, tree: &Tree, unknown: &mut HashSet<Id>, found: &mut Found) -> (bool, Vec<Id>) {
        let mut whole = true;
        let mut below = Vec::new();
        for node in &tree.nodes {
            match (&node.node_type, node.subtree) {
                (NodeType::Dir, Some(subtree)) => below.push(*subtree),
                (NodeType::Dir, None) => whole = false,
                _ => {}
            }
            for id in node.content.iter().flatten() {
                if !self.lost.has(self.index, BlobKind::Data, id) {
                    continue;
                }
                whole = false;
                match self.index.find(BlobKind::Data, id).next() {
                    None => _ = unknown.insert(**id),
                    Some(blob) => found.put(Kind::Pack.path(self.index.pack(blob)), "it is missing"),
                }
            }
        }
        (whole, below)
    }

    fn is_whole(&self, root: &Id) -> bool {
        let mut seen = HashSet::new();
        let mut open = vec![root];
        while let Some(id) = open.pop() {
            if !seen.insert(id) {
                continue;
            }
            match self.read.get(id) {
                Some((true, below)) => open.extend(below),
                _ => return false,
            }
        }
        true
    }
}
