//! Which pack holds which blob.

use std::sync::{Mutex, PoisonError};

use rustic_core::Id;
use rustic_core::repofile::{BlobType, IndexFile};

use super::error::VaultError;
use super::format::Repo;
use super::sealed::SEAL;
use super::store::Kind;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum BlobKind {
    Tree,
    Data,
}

/// Where a blob is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Blob {
    pub pack: u32,
    pub offset: u32,
    /// In the pack, sealed.
    pub length: u32,
    /// What comes out.
    pub plain: u32,
    pub compressed: bool,
}

pub(super) struct Pack {
    pub id: Id,
    pub size: u64,
    /// A prune marked it: it goes when nothing needs it for a while.
    pub marked: bool,
}

/// All indexes of a repository. 60 bytes a blob, sorted, and no tree around it: a million of them, about 1 TB of
/// data, are 60 MB.
#[derive(Default)]
pub(super) struct Index {
    pub packs: Vec<Pack>,
    blobs: Vec<(BlobKind, Id, Blob)>,
}

impl Index {
    /// What can be read of them, and what is wrong with the rest.
    pub fn load(repo: &Repo) -> Result<(Self, Vec<VaultError>), VaultError> {
        let found = Mutex::new((Self::default(), Vec::new()));
        let read = repo.each(Kind::Index, |id, read| {
            let read = read.and_then(|text| {
                serde_json::from_slice::<IndexFile>(&text).map_err(|error| VaultError::Damaged {
                    file: Kind::Index.path(&id),
                    what: format!("it is no index: {error}"),
                })
            });
            let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
            match read {
                Ok(file) => found.0.add(file),
                Err(error @ VaultError::Damaged { .. }) => found.1.push(error),
                Err(error) => return Err(error),
            }
            Ok(())
        });
        match read {
            Ok(()) => {}
            // Another's prune replaced it after it was listed: what it held stands in its successor.
            Err(VaultError::Store(error)) if error.is_absent() => return Self::load(repo),
            Err(error) => return Err(error),
        }
        let (mut index, damage) = found.into_inner().unwrap_or_else(PoisonError::into_inner);
        let packs = &index.packs;
        index.blobs.sort_unstable_by_key(|(kind, id, blob)| (*kind, *id, packs[blob.pack as usize].marked));
        Ok((index, damage))
    }

    fn add(&mut self, file: IndexFile) {
        let marked = file.packs_to_delete.into_iter().map(|pack| (pack, true));
        for (pack, marked) in file.packs.into_iter().map(|pack| (pack, false)).chain(marked) {
            let number = self.packs.len() as u32;
            self.packs.push(Pack { id: *pack.id, size: u64::from(pack.pack_size()), marked });
            for blob in &pack.blobs {
                let kind = match blob.tpe {
                    BlobType::Tree => BlobKind::Tree,
                    BlobType::Data => BlobKind::Data,
                };
                let (length, plain) = (blob.location.length, blob.location.uncompressed_length);
                let place = Blob {
                    pack: number,
                    offset: blob.location.offset,
                    length,
                    plain: plain.map_or(length.saturating_sub(SEAL as u32), std::num::NonZeroU32::get),
                    compressed: plain.is_some(),
                };
                self.blobs.push((kind, *blob.id, place));
            }
        }
    }

    /// Every place of a blob; first those that stay.
    pub fn find(&self, kind: BlobKind, id: &Id) -> impl Iterator<Item = &Blob> {
        let from = self.blobs.partition_point(|(other, blob, _)| (other, blob) < (&kind, id));
        self.blobs[from..]
            .iter()
            .take_while(move |(other, blob, _)| *other == kind && blob == id)
            .map(|(_, _, blob)| blob)
    }

    pub fn pack(&self, blob: &Blob) -> &Id {
        &self.packs[blob.pack as usize].id
    }

    /// All blobs by pack: the number of the pack, then places with what should be there.
    pub fn by_pack(&self) -> Vec<Vec<(Id, Blob)>> {
        let mut packs: Vec<Vec<(Id, Blob)>> = (0..self.packs.len()).map(|_| Vec::new()).collect();
        for (_, id, blob) in &self.blobs {
            packs[blob.pack as usize].push((*id, *blob));
        }
        packs
    }
}
