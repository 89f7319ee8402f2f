//! A backup of this server's instances to one repository.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::Serialize;

use super::content::{self, FORM, Manifest};
use super::prune::PRUNE_KEEPS;
use super::record::{Check, Failed, Good};
use super::rows::Counting;
use super::{BackupError, Record, key};
use crate::agent::ledger::Ledger;
use crate::agent::reconcile::{Agent, AgentError};
use crate::host::vault::{Access, Checked, Depth, Entry, Order, Snapshot, Source};
use crate::model::document::{Document, Engine, InstanceState, Repository};
use crate::model::report::ErrorReport;
use crate::model::{Kind, Name, ResourceId};
use crate::resources::AnyDesired;
use crate::resources::setup::{self, State};

/// After so many backups all data was read back once.
const SHARES: u32 = 14;
/// Between two prunes.
const PRUNE_EVERY_S: i64 = 7 * 86400;

/// What became of one instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Outcome {
    pub instance: Name,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub good: Option<Good>,
    /// Files that were gone when they were to be read: normal for files in use.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub vanished: Vec<std::path::PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorReport>,
}

/// What became of a whole backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ran {
    pub repository: Name,
    /// The repository is new, and so is its key: it must be written down.
    pub new_key: bool,
    pub instances: Vec<Outcome>,
    pub check: Check,
    /// Snapshots that no rule keeps any more.
    pub forgotten: usize,
}

impl Ran {
    pub fn all_good(&self) -> bool {
        self.instances.iter().all(|outcome| outcome.good.is_some()) && self.check.damage.is_empty()
    }
}

impl Agent {
    /// Saves the instances (`only`; all if it is empty), reads back what was written, and lets go what no rule
    /// keeps. One instance that cannot be saved does not keep the others from it.
    pub async fn back_up(
        &self,
        name: &Name,
        repository: &Repository,
        only: &BTreeSet<Name>,
    ) -> Result<Ran, BackupError> {
        self.back_up_to(name, repository, only).await.map_err(|error| error.of(name, repository))
    }

    async fn back_up_to(
        &self,
        name: &Name,
        repository: &Repository,
        only: &BTreeSet<Name>,
    ) -> Result<Ran, BackupError> {
        let _lock = self.backup_lock(name)?;
        let document = self.document()?;
        let (key, _) = key::read_or_make(&self.state, name, self.random)?;
        let access = self.access_with(name, repository, key, None)?;
        // By the repository: the key may be of a try that did not reach it, when nobody was told of it.
        let new_key = self.vault.make(&access).await?;
        let mut record = Record::load(&self.state, name)?;
        let wanted = |instance: &Name| only.is_empty() || only.contains(instance);
        let present = document.instances.iter().filter(|(_, instance)| instance.state != InstanceState::Absent);
        let mut saved = Vec::new();
        for instance in present.map(|(instance, _)| instance).filter(|instance| wanted(instance)) {
            self.host.progress.say(&format!("saving {instance} to {name}"));
            saved.push((instance.clone(), self.save(&access, &document, instance).await));
        }
        let share = Depth::Share { part: record.next_share % SHARES, of: SHARES };
        let checked = self.vault.check(&access, share, &*self.host.progress).await?;
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
            true => self.let_go(&access, repository.keep, &server(self, &document)).await?,
            false => 0,
        };
        if may_remove && record.pruned_at.is_none_or(|at| now.as_second() - at.as_second() >= PRUNE_EVERY_S) {
            self.vault.prune(&access, PRUNE_KEEPS, &*self.host.progress).await?;
            record.pruned_at = Some(now);
            record.store(&self.state, name)?;
        }
        Ok(Ran { repository: name.clone(), new_key, instances, check, forgotten })
    }

    /// One snapshot of one instance, at one point: its release did not change meanwhile.
    async fn save(
        &self,
        access: &Access,
        document: &Document,
        name: &Name,
    ) -> Result<crate::host::vault::Saved, BackupError> {
        let ledger = Ledger::load(&self.state).map_err(AgentError::from)?;
        let before = self.settled(name)?;
        let State::Installed { release } = &before else { return Err(BackupError::Unsettled(name.clone())) };
        let asked = document.instances.get(name).ok_or_else(|| AgentError::NoSuchInstance(name.clone()))?;
        let good = ledger.good.get(name).filter(|good| good.release == *release);
        let manifest = Manifest {
            form: FORM,
            server: server(self, document),
            instance: name.clone(),
            wanted: good.map_or(asked, |good| &good.instance).clone(),
            release: release.clone(),
            at: (self.now)(),
            databases: self.databases(&ledger, name)?,
            seen: ledger.seen.clone(),
        };
        let text = ledger.accepted.as_ref().map(|accepted| accepted.text.as_str()).unwrap_or_default();
        let mut entries = content::entries(&self.host, &manifest, text);
        let mut rows = Counting::default();
        for (engine, database) in &manifest.databases {
            let dump = self.host.databases.dump_stream(*engine, database).await?;
            let dump = rows.count(*engine, database, dump)?;
            let from = Source::Stream { from: dump.from, whole: dump.whole };
            entries.push(Entry { path: content::dump_path(*engine, database), from });
        }
        entries.extend(rows.entry()?);
        let order = Order { host: manifest.server.clone(), tags: content::tags(name), at: manifest.at, entries };
        let saved = self.vault.save(access, order, &*self.host.progress).await?;
        if self.settled(name)? != before {
            // Where nothing is taken out it stays, and is not what counts: the next one is newer.
            if !access.append_only {
                self.vault.forget(access, std::slice::from_ref(&saved.snapshot.id)).await?;
            }
            return Err(BackupError::Moved(name.clone()));
        }
        Ok(saved)
    }

    /// How far the instance is set up.
    fn settled(&self, name: &Name) -> Result<State, BackupError> {
        let seen = setup::observe::read(&self.host, name.as_str()).map_err(|error| {
            crate::host::PortError::new("setup.unreadable", error.to_string()).hint("socle agent status")
        })?;
        seen.state.ok_or_else(|| BackupError::Unsettled(name.clone()))
    }

    /// The databases of the instance, as its recipe names them.
    fn databases(&self, ledger: &Ledger, name: &Name) -> Result<Vec<(Engine, String)>, BackupError> {
        let wanted = self.checked(ledger)?.wanted;
        let id = ResourceId::new(Kind::Setup, name.as_str());
        let setup = wanted.into_iter().find(|wanted| wanted.id == id).map(|wanted| wanted.desired);
        match setup {
            Some(AnyDesired::Setup(desired)) => Ok(desired.databases),
            _ => Err(AgentError::NoSuchInstance(name.clone()).into()),
        }
    }
}

/// Good is what was saved and is in a repository that was found whole after it.
fn judge(
    instance: Name,
    saved: Result<crate::host::vault::Saved, BackupError>,
    checked: &Checked,
    now: Timestamp,
    record: &mut Record,
) -> Outcome {
    let known = record.instances.entry(instance.clone()).or_default();
    let mut outcome = Outcome { instance, good: None, vanished: Vec::new(), error: None };
    match saved {
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
