//! A backup of this server's instances to one repository.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::prune::PRUNE_KEEPS;
use super::record::{Check, Failed, Good};
use super::trouble::{Trouble, Troubles};
use super::{BackupError, Record, asked_to_end, key, missing};
use crate::agent::reconcile::Agent;
use crate::host::vault::{Access, Checked, Depth, Saved, Snapshot};
use crate::model::Name;
use crate::model::document::{Document, InstanceState, Repository};
use crate::model::report::ErrorReport;

/// After so many backups all data was read back once.
const SHARES: u32 = 14;
/// Between two prunes.
const PRUNE_EVERY_S: i64 = 7 * 86400;

/// What is asked of a backup; nothing: of all instances, without a tag, over the network of this server.
#[derive(Debug, Clone, Default)]
pub struct Errand {
    /// Of these instances only.
    pub only: BTreeSet<Name>,
    /// What the snapshots carry besides: retention may keep them by it.
    pub tags: BTreeSet<Name>,
    /// A local socket that leads to the repository.
    pub through: Option<PathBuf>,
}

/// What became of one instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Outcome {
    pub instance: Name,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub good: Option<Good>,
    /// Files that were gone when they were to be read: normal for files in use.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub vanished: Vec<PathBuf>,
    /// How long nothing of it ran.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub still_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorReport>,
}

/// What became of a whole backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ran {
    pub repository: Name,
    /// The repository is new, and so is its key: it must be written down.
    pub new_key: bool,
    /// What the snapshots were given besides.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub tags: BTreeSet<Name>,
    pub instances: Vec<Outcome>,
    pub check: Check,
    /// Snapshots that no rule keeps any more.
    pub forgotten: usize,
    /// What does not go on as it did before, of these instances or of those that an earlier backup left.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub troubles: Vec<Trouble>,
}

impl Ran {
    pub fn all_good(&self) -> bool {
        let saved = self.instances.iter().all(|outcome| outcome.good.is_some());
        saved && self.check.damage.is_empty() && self.troubles.is_empty()
    }
}

/// Where a backup goes, and what it learns on the way.
pub(super) struct To<'a> {
    pub repository: &'a Name,
    pub access: &'a Access,
    pub document: &'a Document,
    /// Besides those that every snapshot has.
    pub tags: &'a BTreeSet<Name>,
    pub troubles: &'a Troubles,
}

impl Agent {
    /// Saves the instances that are asked for, reads back what was written, and lets go what no rule
    /// keeps. One instance that cannot be saved does not keep the others from it.
    pub async fn back_up(&self, name: &Name, repository: &Repository, errand: &Errand) -> Result<Ran, BackupError> {
        let done = tokio::select! {
            done = self.back_up_to(name, repository, errand) => done,
            () = asked_to_end() => Err(BackupError::CutOff),
        };
        if let Err(BackupError::CutOff) = &done {
            self.wake_after_backup().await?;
        }
        done.map_err(|error| error.of(name, repository))
    }

    async fn back_up_to(&self, name: &Name, repository: &Repository, errand: &Errand) -> Result<Ran, BackupError> {
        let _lock = self.backup_lock(name)?;
        let document = self.document()?;
        let (key, _) = key::read_or_make(&self.state, name, self.random)?;
        let mut access = self.access_with(name, repository, key, None)?;
        access.way.through.clone_from(&errand.through);
        // By the repository: the key may be of a try that did not reach it, when nobody was told of it.
        let new_key = self.vault.make(&access).await?;
        let mut record = Record::load(&self.state, name)?;
        let troubles = Troubles::default();
        troubles.take(self.thaw_left(Some(name)).await?);
        let to = To { repository: name, access: &access, document: &document, tags: &errand.tags, troubles: &troubles };
        let wanted = |instance: &Name| errand.only.is_empty() || errand.only.contains(instance);
        let present = document.instances.iter().filter(|(_, instance)| instance.state != InstanceState::Absent);
        let mut saved = Vec::new();
        for instance in present.map(|(instance, _)| instance).filter(|instance| wanted(instance)) {
            self.host.progress.say(&format!("saving {instance} to {name}"));
            let newest = record.instances.get(instance).and_then(|saved| saved.good.as_ref());
            let newest = newest.map(|good| good.snapshot.clone());
            saved.push((instance.clone(), self.save(&to, (instance, newest)).await));
        }
        let share = Depth::Share { part: record.next_share % SHARES, of: SHARES };
        let mut checked = self.vault.check(&access, share, &*self.host.progress).await?;
        if checked.damage.is_empty() {
            let there = self.vault.snapshots(&access).await?;
            missing::add(&mut checked, &record, &repository.location, &document, &there);
        }
        record.location = Some(repository.location.clone());
        record.next_share = (record.next_share + 1) % SHARES;
        let now = (self.now)();
        let instances =
            saved.into_iter().map(|(instance, saved)| judge(instance, saved, &checked, now, &mut record)).collect();
        let check = Check { at: now, read: checked.read, damage: checked.damage };
        record.check = Some(check.clone());
        record.store(&self.state, name)?;
        // Of a damaged repository nothing is taken away.
        let may_remove = check.damage.is_empty() && !repository.append_only;
        let forgotten = match may_remove {
            true => self.let_go(&access, &repository.keep, &server(self, &document)).await?,
            false => 0,
        };
        if may_remove && record.pruned_at.is_none_or(|at| now.as_second() - at.as_second() >= PRUNE_EVERY_S) {
            self.vault.prune(&access, PRUNE_KEEPS, &*self.host.progress).await?;
            record.pruned_at = Some(now);
            record.store(&self.state, name)?;
        }
        let (tags, troubles) = (errand.tags.clone(), troubles.all());
        Ok(Ran { repository: name.clone(), new_key, tags, instances, check, forgotten, troubles })
    }
}

/// Good is what was saved and is in a repository that was found whole after it.
fn judge(
    instance: Name,
    saved: Result<(Saved, Option<Duration>), BackupError>,
    checked: &Checked,
    now: Timestamp,
    record: &mut Record,
) -> Outcome {
    let known = record.instances.entry(instance.clone()).or_default();
    let mut outcome = Outcome { instance, good: None, vanished: Vec::new(), still_ms: None, error: None };
    if let Ok((_, Some(still))) = &saved {
        outcome.still_ms = Some(still.as_millis().try_into().unwrap_or(u64::MAX));
    }
    match saved.map(|(saved, _)| saved) {
        Ok(saved) if !checked.affected.contains(&saved.snapshot.id) => {
            let Snapshot { id, at, bytes, files, .. } = saved.snapshot;
            outcome.good = Some(Good { snapshot: id, at, bytes, files });
            outcome.vanished = saved.vanished;
            known.good.clone_from(&outcome.good);
            known.failed = None;
        }
        Ok(saved) => outcome.error = Some(damaged(&saved.snapshot, checked)),
        Err(error) => outcome.error = Some(error.report()),
    }
    if let Some(error) = &outcome.error {
        known.failed = Some(Failed { at: now, error: error.clone() });
    }
    outcome
}

fn damaged(snapshot: &Snapshot, checked: &Checked) -> ErrorReport {
    ErrorReport {
        code: "backup.damaged".to_owned(),
        message: format!("the snapshot {} was written, and cannot be read back whole", snapshot.id.0),
        causes: checked.damage.iter().take(4).map(|damage| format!("{}: {}", damage.file, damage.what)).collect(),
        hint: Some("socle agent backup check --all".to_owned()),
    }
}

/// What this server is called: in its document, else by itself (hostname(5)).
pub(super) fn server(agent: &Agent, document: &Document) -> String {
    if let Some(name) = &document.server.name {
        return name.to_string();
    }
    let own = std::fs::read_to_string(agent.host.path("/etc/hostname")).unwrap_or_default();
    let own = own.trim();
    if own.is_empty() { "localhost".to_owned() } else { own.to_owned() }
}
