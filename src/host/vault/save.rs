//! Making a snapshot.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use rustic_core::repofile::SnapshotFile;
use rustic_core::{
    BackupOptions, ParentOptions, Progress, ProgressBars, ProgressType, RusticProgress, SnapshotGroupCriterion,
};

use super::child::{Tell, Words};
use super::error::VaultError;
use super::format::{Repo, hex};
use super::source::{Origin, Root, Tally};
use super::store::{Faults, Kind};
use super::upkeep::{Any, refuse_while_in_use};
use super::wire::{From, GO, Item, Line};
use super::{Saved, Snapshot, SnapshotId};

pub(super) struct Wanted {
    pub host: String,
    pub tags: Vec<String>,
    pub at: Timestamp,
    pub entries: Vec<Item>,
    pub parent: Option<String>,
    pub waits: bool,
    pub descriptors: Vec<OwnedFd>,
    pub words: Arc<Words>,
}

pub(super) fn save(repo: &Repo, wanted: Wanted, tell: &Arc<Tell>) -> Result<Saved, VaultError> {
    refuse_while_in_use(repo, Any::Exclusive)?;
    let Wanted { host, tags, at, entries, parent, waits, descriptors, words } = wanted;
    let paths: Vec<PathBuf> = entries.iter().map(|item| item.path.clone()).collect();
    let faults = Arc::new(Faults::default());
    let trees = waits.then(|| Arc::new(Trees(tell.clone())));
    let origin = Origin::new(roots(entries, descriptors)?, words.clone(), faults.clone(), at, trees);
    let counted = origin.tally();

    let tags = tags.join(",").parse();
    let snapshot = SnapshotFile {
        time: at.to_zoned(TimeZone::UTC),
        hostname: host,
        program_version: format!("socle {}", env!("CARGO_PKG_VERSION")),
        tags: tags.map_err(|error| VaultError::Library { act: "take the tags", text: format!("{error}") })?,
        ..SnapshotFile::default()
    };
    let mut same = SnapshotGroupCriterion::new();
    (same.hostname, same.tags) = (true, true);
    let parents: Vec<String> = parent.into_iter().collect();
    let parents = ParentOptions::default().group_by(Some(same)).parents(parents);
    let options = BackupOptions::default().no_scan(true).parent_opts(parents);

    let library = repo.library(faults.clone(), Bars(tell.clone()))?;
    let library = library.to_indexed_ids().map_err(VaultError::library("read the indexes"))?;
    if waits {
        tell.moment(&Line::Ready);
        words.about(GO).map_err(|why| VaultError::Request(std::io::Error::other(why)))?;
    }
    let archived = library.archive(&options, &origin, snapshot, &paths);
    // Why there is no snapshot comes before what the library made of it.
    let errors = faults.errors();
    if !errors.is_empty() {
        return Err(VaultError::Source(errors));
    }
    let snapshot = archived.map_err(VaultError::library("save"))?;
    count(repo, &snapshot, &counted)?;
    let vanished = faults.all_vanished();
    let snapshot = describe(&snapshot);
    Ok(Saved { snapshot, vanished: vanished.iter().map(|path| path.to_string_lossy().into_owned().into()).collect() })
}

/// Held by whatever still has to read of a tree whose writers stand still. With the last of it they may go on.
pub(super) struct Trees(Arc<Tell>);

impl Drop for Trees {
    fn drop(&mut self) {
        self.0.moment(&Line::Read);
    }
}

/// Every file that was read is in the snapshot: the library leaves out what it fails at.
fn count(repo: &Repo, snapshot: &SnapshotFile, tally: &Tally) -> Result<(), VaultError> {
    let read = tally.read();
    let saved = snapshot.summary.as_ref().map_or(0, |summary| summary.total_files_processed);
    if read == saved {
        return Ok(());
    }
    repo.store.remove(Kind::Snapshot, &snapshot.id)?;
    Err(VaultError::Miscounted(read, saved))
}

pub(super) fn describe(snapshot: &SnapshotFile) -> Snapshot {
    let summary = snapshot.summary.as_ref();
    Snapshot {
        id: SnapshotId(hex(&snapshot.id)),
        host: snapshot.hostname.clone(),
        tags: snapshot.tags.iter().cloned().collect(),
        at: snapshot.time.timestamp(),
        bytes: summary.map_or(0, |summary| summary.total_bytes_processed),
        files: summary.map_or(0, |summary| summary.total_files_processed),
        added: summary.map(|summary| summary.data_added_packed),
    }
}

fn roots(entries: Vec<Item>, descriptors: Vec<OwnedFd>) -> Result<Vec<Root>, VaultError> {
    let mut descriptors: Vec<_> = descriptors.into_iter().map(Some).collect();
    let mut roots = Vec::new();
    for Item { path, from } in entries {
        roots.push(match from {
            From::Tree { from, except } => Root::Tree { at: path, from, except: except.into_iter().collect() },
            From::Bytes(text) => Root::Bytes { at: path, bytes: text.into_bytes() },
            From::Stream(number) => {
                let from = descriptors.get_mut(number).and_then(Option::take).ok_or_else(|| {
                    VaultError::Request(std::io::Error::other("a stream came without its descriptor"))
                })?;
                Root::Stream { at: path, from, number }
            }
        });
    }
    Ok(roots)
}

/// The library's progress, told to the parent.
#[derive(Clone)]
struct Bars(Arc<Tell>);

impl std::fmt::Debug for Bars {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Bars")
    }
}

impl ProgressBars for Bars {
    fn progress(&self, kind: ProgressType, _: &str) -> Progress {
        match kind {
            ProgressType::Bytes => Progress::new(self.clone()),
            ProgressType::Spinner | ProgressType::Counter => Progress::hidden(),
        }
    }
}

impl RusticProgress for Bars {
    fn is_hidden(&self) -> bool {
        false
    }

    fn set_length(&self, _: u64) {}

    fn set_title(&self, _: &str) {}

    fn inc(&self, more: u64) {
        self.0.bytes(more, None);
    }

    fn finish(&self) {}
}
