//! Packs and their index, as they are written
//! (<https://restic.readthedocs.io/en/stable/100_references.html#pack-format>).

use std::collections::HashSet;
use std::num::NonZeroU32;
use std::sync::mpsc::{Receiver, SyncSender};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustic_core::Id;
use rustic_core::repofile::SnapshotSummary;
use serde::Serialize;

use super::Archive;
use crate::host::vault::error::VaultError;
use crate::host::vault::format::{PACK, Repo, hash, raw};
use crate::host::vault::index::{BlobKind, Index};
use crate::host::vault::sealed::{SEAL, Sealer};
use crate::host::vault::store::Kind;

/// An index is written when it names so many blobs, or is so old: what it names need not be stored again by whoever
/// comes after an interruption.
const BLOBS: usize = 50_000;
const AGE: Duration = Duration::from_mins(5);

/// What the head of a pack says of one blob, at most: see [`Pack::close`].
const LINE: usize = 41;

/// Room for the head of a pack, which is longer only where the pack is full of tiny blobs.
const HEAD: usize = 64 << 10;

/// Where what is sealed goes.
pub(super) struct Packer<'a> {
    repo: &'a Repo,
    index: &'a Index,
    level: Option<i32>,
    /// What this backup itself has put, or is about to.
    put: Mutex<HashSet<(BlobKind, Id)>>,
    trees: Mutex<Pack>,
    data: Mutex<Pack>,
    stored: Mutex<Stored>,
}

/// One that is filled.
pub(super) struct Pack {
    kind: BlobKind,
    bytes: Vec<u8>,
    blobs: Vec<Line>,
}

/// What an index says of one blob.
#[derive(Serialize)]
struct Line {
    id: Id,
    #[serde(rename = "type")]
    kind: &'static str,
    offset: u32,
    length: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    uncompressed_length: Option<NonZeroU32>,
}

#[derive(Serialize)]
struct Lines {
    id: Id,
    blobs: Vec<Line>,
}

#[derive(Default, Serialize)]
struct File {
    packs: Vec<Lines>,
}

/// What is stored, and in no index yet.
struct Stored {
    file: File,
    blobs: usize,
    since: Instant,
    sealer: Sealer,
    trees: Sum,
    data: Sum,
}

#[derive(Default, Clone, Copy)]
struct Sum {
    blobs: u64,
    plain: u64,
    packed: u64,
}

impl<'a> Packer<'a> {
    /// `level`: of the compression; `None` where the format knows none.
    pub fn new(repo: &'a Repo, index: &'a Index, level: Option<i32>) -> Self {
        let stored = Stored {
            file: File::default(),
            blobs: 0,
            since: Instant::now(),
            sealer: repo.sealer(level),
            trees: Sum::default(),
            data: Sum::default(),
        };
        Self {
            repo,
            index,
            level,
            put: Mutex::default(),
            trees: Mutex::new(Pack::new(BlobKind::Tree)),
            data: Mutex::new(Pack::new(BlobKind::Data)),
            stored: Mutex::new(stored),
        }
    }

    /// One for each thread.
    pub fn sealer(&self) -> Sealer {
        self.repo.sealer(self.level)
    }

    /// Whether an earlier backup stored it, and no prune means to remove it.
    pub fn has(&self, kind: BlobKind, id: &Id) -> bool {
        self.index.find(kind, id).any(|blob| !self.index.packs[blob.pack as usize].marked)
    }

    /// Puts a blob into a pack, if it is in none.
    pub fn put(
        &self,
        sealer: &mut Sealer,
        kind: BlobKind,
        id: Id,
        plain: &[u8],
        packs: &SyncSender<Pack>,
    ) -> Result<(), VaultError> {
        if self.has(kind, &id) || !self.put.lock().unwrap_or_else(PoisonError::into_inner).insert((kind, id)) {
            return Ok(());
        }
        let (sealed, uncompressed) = sealer.blob(plain)?;
        let full = {
            let mut pack = self.open(kind).lock().unwrap_or_else(PoisonError::into_inner);
            let full = (!pack.has_room(sealed.len())).then(|| std::mem::replace(&mut *pack, Pack::new(kind)));
            pack.add(id, &sealed, uncompressed);
            full
        };
        let mut stored = self.stored.lock().unwrap_or_else(PoisonError::into_inner);
        let sum = stored.sum(kind);
        sum.blobs += 1;
        sum.plain += plain.len() as u64;
        sum.packed += sealed.len() as u64;
        drop(stored);
        // Who takes packs takes them to the end, also after a failure.
        let _ = full.map(|pack| packs.send(pack));
        Ok(())
    }

    fn open(&self, kind: BlobKind) -> &Mutex<Pack> {
        match kind {
            BlobKind::Tree => &self.trees,
            BlobKind::Data => &self.data,
        }
    }

    /// Sends the last packs, full or not.
    pub fn flush(&self, archive: &Archive<'_>, packs: &SyncSender<Pack>) {
        for kind in [BlobKind::Data, BlobKind::Tree] {
            let mut pack = self.open(kind).lock().unwrap_or_else(PoisonError::into_inner);
            if !pack.blobs.is_empty() && !archive.has_failed() {
                // As above.
                let _ = packs.send(std::mem::replace(&mut *pack, Pack::new(kind)));
            }
        }
    }

    /// After the last pack: what the last index names, and the sums.
    pub fn end(self, summary: &mut SnapshotSummary) -> Result<(), VaultError> {
        let mut stored = self.stored.into_inner().unwrap_or_else(PoisonError::into_inner);
        stored.write(self.repo)?;
        let Stored { trees, data, .. } = stored;
        (summary.tree_blobs, summary.data_blobs) = (trees.blobs, data.blobs);
        (summary.data_added_trees, summary.data_added_files) = (trees.plain, data.plain);
        (summary.data_added_trees_packed, summary.data_added_files_packed) = (trees.packed, data.packed);
        summary.data_added = trees.plain + data.plain;
        summary.data_added_packed = trees.packed + data.packed;
        Ok(())
    }

    fn is_stored(&self, lines: Lines) -> Result<(), VaultError> {
        let mut stored = self.stored.lock().unwrap_or_else(PoisonError::into_inner);
        stored.blobs += lines.blobs.len();
        stored.file.packs.push(lines);
        match stored.blobs >= BLOBS || stored.since.elapsed() > AGE {
            true => stored.write(self.repo),
            false => Ok(()),
        }
    }
}

impl Stored {
    fn sum(&mut self, kind: BlobKind) -> &mut Sum {
        match kind {
            BlobKind::Tree => &mut self.trees,
            BlobKind::Data => &mut self.data,
        }
    }

    fn write(&mut self, repo: &Repo) -> Result<(), VaultError> {
        (self.blobs, self.since) = (0, Instant::now());
        let file = std::mem::take(&mut self.file);
        if !file.packs.is_empty() {
            repo.write(Kind::Index, &mut self.sealer, &file)?;
        }
        Ok(())
    }
}

impl Pack {
    fn new(kind: BlobKind) -> Self {
        Self { kind, bytes: Vec::new(), blobs: Vec::new() }
    }

    fn has_room(&self, more: usize) -> bool {
        self.blobs.is_empty() || self.bytes.len() + more <= PACK as usize
    }

    fn add(&mut self, id: Id, sealed: &[u8], uncompressed_length: Option<NonZeroU32>) {
        // All at once: one that grew would be in memory twice.
        if self.blobs.is_empty() {
            self.bytes.reserve_exact(sealed.len().max(PACK as usize) + HEAD);
        }
        let kind = match self.kind {
            BlobKind::Tree => "tree",
            BlobKind::Data => "data",
        };
        // A pack is full long before its offsets are.
        let (offset, length) = (self.bytes.len() as u32, sealed.len() as u32);
        self.bytes.extend_from_slice(sealed);
        self.blobs.push(Line { id, kind, offset, length, uncompressed_length });
    }

    /// Its bytes with the head at the end: for each blob a byte that tells tree and compression apart, its lengths and
    /// its name; sealed, and its length.
    fn close(mut self, sealer: &mut Sealer) -> Result<(Vec<u8>, Vec<Line>), VaultError> {
        let mut head = Vec::with_capacity(self.blobs.len() * LINE + SEAL);
        for line in &self.blobs {
            let tree = u8::from(self.kind == BlobKind::Tree);
            match line.uncompressed_length {
                None => {
                    head.push(tree);
                    head.extend_from_slice(&line.length.to_le_bytes());
                }
                Some(uncompressed) => {
                    head.push(2 + tree);
                    head.extend_from_slice(&line.length.to_le_bytes());
                    head.extend_from_slice(&uncompressed.get().to_le_bytes());
                }
            }
            head.extend_from_slice(&raw(&line.id));
        }
        let head = sealer.seal(&head)?;
        self.bytes.extend_from_slice(&head);
        self.bytes.extend_from_slice(&(head.len() as u32).to_le_bytes());
        Ok((self.bytes, self.blobs))
    }
}

/// Stores packs until no more come.
pub(super) fn store(archive: &Archive<'_>, packs: &Mutex<Receiver<Pack>>) {
    let mut sealer = archive.packer.sealer();
    loop {
        let pack = packs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(pack) = pack else { return };
        // After a failure the rest is only taken, so that nobody waits for us.
        if archive.has_failed() {
            continue;
        }
        let stored = pack.close(&mut sealer).and_then(|(bytes, blobs)| {
            let id = hash(&bytes);
            archive.repo.put(Kind::Pack, &id, Bytes::from(bytes))?;
            archive.packer.is_stored(Lines { id, blobs })
        });
        if let Err(error) = stored {
            archive.fail(error);
        }
    }
}
