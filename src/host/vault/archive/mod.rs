//! Writing what a snapshot is made of, in restic's format.
//!
//! Our own, not the library's: for each file that one makes its tables anew and hands its parts through five queues,
//! which took most of the time of a first backup and nearly all of one that finds nothing new.
//!
//! # The flow
//!
//! [`Walk`] goes through the trees in one thread and reads what an earlier snapshot does not have; parts that
//! belong together go to [`seal`], which compresses and seals them beside it; full packs are stored by threads of
//! their own (`pack`). A directory is finished by `tree` when all in it is known. Queues are short, so memory is a few
//! packs, whatever the size of files.
//!
//! # Guarantees
//!
//! An index names only packs that are stored. The first failure is the answer, and then there is no snapshot; what
//! was stored until then is found again by the next one.

mod chunk;
mod earlier;
mod open;
mod pack;
mod seal;
mod tree;
mod walk;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, PoisonError};

use rustic_core::Id;
use rustic_core::repofile::{ConfigFile, SnapshotSummary};

use super::child::{Tell, Words};
use super::error::VaultError;
use super::format::Repo;
use super::index::{BlobKind, Index};
use super::save::Trees;
use chunk::Cuts;
pub(super) use earlier::{Earlier, newest};
use pack::Packer;
pub(super) use walk::{Faults, Root};
use walk::{Ways, walk};

/// Packs are stored by so many at once: one is hashed while another waits for its storage.
const WRITERS: usize = 2;

/// Directories that may wait for their last file.
const DIRECTORIES: usize = 64;

/// What all threads of a backup share.
struct Archive<'a> {
    repo: &'a Repo,
    packer: Packer<'a>,
    tell: &'a Tell,
    failed: AtomicBool,
    /// The first failure.
    why: Mutex<Option<VaultError>>,
}

impl Archive<'_> {
    fn fail(&self, error: VaultError) {
        self.why.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        self.failed.store(true, Ordering::Release);
    }

    fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }
}

/// What is to be archived, and what goes with it.
pub(super) struct Input<'a> {
    pub config: &'a ConfigFile,
    /// Of the compression; `None`: there is none.
    pub level: Option<i32>,
    pub roots: Vec<Root>,
    pub earlier: Option<Earlier<'a>>,
    pub words: Arc<Words>,
    pub faults: &'a Faults,
    pub at: jiff::Timestamp,
    /// Let go of when all trees were read that stand before the first stream.
    pub trees: Option<Trees>,
}

/// The root of what was written, and what it took.
pub(super) fn archive(
    repo: &Repo,
    index: &Index,
    input: Input<'_>,
    tell: &Tell,
) -> Result<(Id, SnapshotSummary), VaultError> {
    // The moment before the first file is looked at: what changes from then on is read again.
    let summary = SnapshotSummary::default();
    let Input { config, level, roots, earlier, words, faults, at, trees } = input;
    let cuts = Cuts::new(config)?;
    let archive = Archive {
        repo,
        packer: Packer::new(repo, index, level),
        tell,
        failed: AtomicBool::new(false),
        why: Mutex::new(None),
    };
    let sealers = std::thread::available_parallelism().map_or(2, usize::from).clamp(1, 4);
    let (batches, to_seal) = sync_channel(sealers);
    let (directories, to_finish) = sync_channel(DIRECTORIES);
    let (packs, to_store) = sync_channel(0);
    let (to_seal, to_store) = (Mutex::new(to_seal), Mutex::new(to_store));
    let finished = std::thread::scope(|scope| {
        let archive = &archive;
        for _ in 0..WRITERS {
            scope.spawn(|| pack::store(archive, &to_store));
        }
        let sealing: Vec<_> = (0..sealers)
            .map(|_| {
                let packs = packs.clone();
                scope.spawn(|| seal::seal(archive, &to_seal, packs))
            })
            .collect();
        let finishing = {
            let packs = packs.clone();
            scope.spawn(move || tree::finish(archive, &to_finish, &packs, summary))
        };
        let ways = Ways { cuts: &cuts, batches, directories, words: &words, faults, at };
        walk(archive, ways, roots, earlier, trees);
        let finished = finishing.join();
        let sealed = sealing.into_iter().map(|sealer| sealer.join()).collect::<Result<Vec<()>, _>>();
        // A panic of one of them goes on here.
        let finished = sealed.and(finished).unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        archive.packer.flush(archive, &packs);
        drop(packs);
        finished
    });
    if let Some(error) = archive.why.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    let (tree, mut summary) =
        finished.ok_or_else(|| VaultError::Request(std::io::Error::other("there is nothing to save")))?;
    archive.packer.end(&mut summary)?;
    Ok((tree, summary))
}
