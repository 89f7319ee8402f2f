//! Making a snapshot.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use jiff::tz::TimeZone;
use jiff::{Timestamp, Unit, Zoned};
use rustic_core::repofile::{SnapshotFile, SnapshotSummary};

use super::archive::{Earlier, Faults, Input, Root, archive, newest};
use super::child::{Tell, Words};
use super::error::VaultError;
use super::format::{Repo, config, hex};
use super::index::Index;
use super::store::Kind;
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
    let mut snapshot = SnapshotFile {
        time: at.to_zoned(TimeZone::UTC),
        program_version: format!("socle {}", env!("CARGO_PKG_VERSION")),
        ..SnapshotFile::default()
    };
    entries.iter().for_each(|item| snapshot.paths.add(item.path.to_string_lossy().into_owned()));
    tags.iter().for_each(|tag| snapshot.tags.add(tag.clone()));

    let config = config(repo)?;
    let level = config.zstd().map_err(VaultError::library("take the compression"))?;
    let (index, damage) = Index::load(repo)?;
    if let Some(damage) = damage.into_iter().next() {
        return Err(damage);
    }
    let earlier = match parent {
        Some(id) => given(repo, &id, tell)?,
        None => newest(repo, &host, &tags, tell)?,
    };
    snapshot.hostname = host;
    snapshot.parent = earlier.as_ref().map(|earlier| earlier.id);
    let earlier = earlier.map(|earlier| Earlier::new(repo, &index, &earlier, tell));
    if waits {
        tell.moment(&Line::Ready);
        words.about(GO).map_err(|why| VaultError::Request(std::io::Error::other(why)))?;
    }
    let trees = waits.then(|| Trees(tell.clone()));
    let faults = Faults::default();
    let roots = roots(entries, descriptors)?;
    let input = Input { config: &config, level, roots, earlier, words, faults: &faults, at, trees };
    let archived = archive(repo, &index, input, tell);
    // What cannot be read comes before what became of it.
    let (errors, vanished) = faults.take();
    if !errors.is_empty() {
        return Err(VaultError::Source(errors));
    }
    let (tree, mut summary) = archived?;
    snapshot.tree = tree.into();
    end(&mut summary, &snapshot.time);
    snapshot.summary = Some(summary);
    snapshot.id = repo.write(Kind::Snapshot, &mut repo.sealer(level), &snapshot)?.into();
    let snapshot = describe(&snapshot);
    Ok(Saved { snapshot, vanished: vanished.iter().map(|path| path.to_string_lossy().into_owned().into()).collect() })
}

/// The snapshot that is to be compared with. One that is gone or damaged only costs time: more is read.
fn given(repo: &Repo, id: &str, tell: &Tell) -> Result<Option<SnapshotFile>, VaultError> {
    let Ok(parsed) = id.parse() else { return Err(VaultError::NoSnapshot(id.to_owned())) };
    match repo.snapshot(&parsed) {
        Ok(snapshot) => Ok(Some(snapshot)),
        Err(VaultError::Store(error)) if error.is_absent() => Ok(None),
        Err(error @ VaultError::Damaged { .. }) => {
            tell.say(error.to_string());
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn end(summary: &mut SnapshotSummary, at: &Zoned) {
    // Times of the machine's clock, as restic's are. A clock that was set back in between is no reason to fail.
    let now = Zoned::now();
    let since = |begin: &Zoned| now.since(begin).and_then(|span| span.total(Unit::Second)).unwrap_or_default();
    summary.backup_duration = since(&summary.backup_start);
    summary.total_duration = since(at);
    summary.backup_end = now;
}

/// Held by whatever still has to read of a tree whose writers stand still. With the last of it they may go on.
pub(super) struct Trees(Arc<Tell>);

impl Drop for Trees {
    fn drop(&mut self) {
        self.0.moment(&Line::Read);
    }
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
