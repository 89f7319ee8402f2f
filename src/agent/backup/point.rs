//! One snapshot of one instance, of one moment: its databases, its files, and what they belong to.
//!
//! Files are read while nothing of the instance runs. So that this is short they are read once before, while it runs:
//! then only what was written since is read again. The databases' own transactions begin while it stands still, and
//! are read on when it runs again.

use std::collections::BTreeSet;
use std::fs::File;
use std::time::Duration;

use tokio::sync::oneshot;

use super::BackupError;
use super::content::{self, FORM, Manifest};
use super::rows::Counting;
use super::run::server;
use super::still::Still;
use crate::agent::ledger::Ledger;
use crate::agent::reconcile::{Agent, AgentError};
use crate::host::vault::{Access, Entry, Moment, Moments, Order, Saved, SnapshotId, Source};
use crate::host::{DumpStream, PortError};
use crate::model::document::{Document, Engine};
use crate::model::{Kind, Name, ResourceId};
use crate::resources::AnyDesired;
use crate::resources::setup::{self, State};

/// A dump that begins when its instance stands still.
struct Later {
    engine: Engine,
    database: String,
    to: File,
    tell: oneshot::Sender<Result<(), String>>,
}

impl Agent {
    /// What was saved, and how long the instance stood still for it.
    pub(super) async fn save(
        &self,
        access: &Access,
        document: &Document,
        (name, newest): (&Name, Option<SnapshotId>),
        tags: &BTreeSet<Name>,
    ) -> Result<(Saved, Option<Duration>), BackupError> {
        let ledger = Ledger::load(&self.state).map_err(AgentError::from)?;
        let before = self.settled(name)?;
        let State::Installed { release } = &before else { return Err(BackupError::Unsettled(name.clone())) };
        let asked = document.instances.get(name).ok_or_else(|| AgentError::NoSuchInstance(name.clone()))?;
        let good = ledger.good.get(name).filter(|good| good.release == *release);
        let wanted = self.setup_of(&ledger, name)?;
        let manifest = Manifest {
            form: FORM,
            server: server(self, document),
            instance: name.clone(),
            wanted: good.map_or(asked, |good| &good.instance).clone(),
            release: release.clone(),
            at: (self.now)(),
            databases: wanted.databases,
            seen: ledger.seen.clone(),
        };
        let text = ledger.accepted.as_ref().map(|accepted| accepted.text.as_str()).unwrap_or_default();
        let mut entries = content::entries(&self.host, &manifest, text);
        let stops = if wanted.stands_still { wanted.units } else { BTreeSet::new() };
        let stops = if self.running(&stops).await?.is_empty() { BTreeSet::new() } else { stops };
        let parent = match stops.is_empty() {
            // With a tag of its own it is found by none before it.
            true => newest.filter(|_| !tags.is_empty()),
            false => Some(self.save_ahead(access, &manifest, newest).await?),
        };
        let (mut rows, mut dumps) = (Counting::default(), Vec::new());
        for (engine, database) in &manifest.databases {
            let (dump, later) = later(*engine, database)?;
            dumps.push(later);
            let dump = rows.count(*engine, database, dump)?;
            let from = Source::Stream { from: dump.from, whole: dump.whole };
            entries.push(Entry { path: content::dump_path(*engine, database), from });
        }
        entries.extend(rows.entry()?);
        let (moment, moments) = Moment::new();
        let order = Order {
            host: manifest.server.clone(),
            tags: content::tags(name).into_iter().chain(tags.iter().map(Name::to_string)).collect(),
            at: manifest.at,
            entries,
            parent,
            moment: Some(moment),
        };
        let at_rest = self.at_rest(name, &before, &stops, dumps, moments);
        let (saved, stood) = tokio::join!(self.vault.save(access, order, &*self.host.progress), at_rest);
        // Why it was given up comes before that it was.
        let stood = stood?;
        let saved = saved?;
        if self.settled(name)? != before {
            // Where nothing is taken out it stays, and is not what counts: the next one is newer.
            if !access.append_only {
                self.vault.forget(access, std::slice::from_ref(&saved.snapshot.id)).await?;
            }
            return Err(BackupError::Moved(name.clone()));
        }
        Ok((saved, stood))
    }

    /// The files, while they are written to: never a backup of the instance, only what one is compared with. It goes
    /// with what no rule keeps.
    async fn save_ahead(
        &self,
        access: &Access,
        manifest: &Manifest,
        newest: Option<SnapshotId>,
    ) -> Result<SnapshotId, BackupError> {
        let order = Order {
            host: manifest.server.clone(),
            tags: content::unfinished(&manifest.instance),
            at: manifest.at,
            entries: content::files(&self.host, &manifest.instance),
            parent: newest,
            moment: None,
        };
        Ok(self.vault.save(access, order, &*self.host.progress).await?.snapshot.id)
    }

    /// Whatever happens in here, the instance runs again after it.
    async fn at_rest(
        &self,
        name: &Name,
        before: &State,
        stops: &BTreeSet<String>,
        dumps: Vec<Later>,
        moments: Moments,
    ) -> Result<Option<Duration>, BackupError> {
        let Moments { ready, go, read } = moments;
        if ready.await.is_err() {
            // The vault tells why.
            return Ok(None);
        }
        let still = match stops.is_empty() {
            true => None,
            false => Some(self.stand_still(name, stops).await?),
        };
        let begun = self.begin(name, before, dumps).await;
        if begun.is_ok() {
            // A vault that is gone tells why.
            let _ = go.send(());
            let _ = read.await;
        } else {
            drop(go);
        }
        let stood = self.woken(still).await?;
        begun.map(|()| stood)
    }

    async fn woken(&self, still: Option<Still>) -> Result<Option<Duration>, BackupError> {
        match still {
            None => Ok(None),
            Some(still) => self.wake(still).await.map(Some),
        }
    }

    async fn begin(&self, name: &Name, before: &State, dumps: Vec<Later>) -> Result<(), BackupError> {
        if self.settled(name)? != *before {
            return Err(BackupError::Moved(name.clone()));
        }
        for Later { engine, database, mut to, tell } in dumps {
            let DumpStream { from, whole } = self.host.databases.dump_stream(engine, &database).await?;
            let mut from = File::from(from);
            tokio::spawn(async move {
                let copied = tokio::task::spawn_blocking(move || std::io::copy(&mut from, &mut to)).await;
                let ended = match (copied, whole.await) {
                    (Ok(Ok(_)), Ok(ended)) => ended,
                    (Ok(Err(error)), _) => Err(error.to_string()),
                    (Err(error), _) => Err(error.to_string()),
                    (_, Err(error)) => Err(error.to_string()),
                };
                // Whoever read it may have gone.
                let _ = tell.send(ended);
            });
        }
        Ok(())
    }

    /// How far the instance is set up.
    fn settled(&self, name: &Name) -> Result<State, BackupError> {
        let seen = setup::observe::read(&self.host, name.as_str())
            .map_err(|error| PortError::new("setup.unreadable", error.to_string()).hint("socle agent status"))?;
        seen.state.ok_or_else(|| BackupError::Unsettled(name.clone()))
    }

    /// What its recipe wants of the instance's data.
    fn setup_of(&self, ledger: &Ledger, name: &Name) -> Result<setup::Desired, BackupError> {
        let wanted = self.checked(ledger)?.wanted;
        let id = ResourceId::new(Kind::Setup, name.as_str());
        let setup = wanted.into_iter().find(|wanted| wanted.id == id).map(|wanted| wanted.desired);
        match setup {
            Some(AnyDesired::Setup(desired)) => Ok(desired),
            _ => Err(AgentError::NoSuchInstance(name.clone()).into()),
        }
    }
}

/// A stream whose dump is begun later. One that never is ends, and is not whole.
fn later(engine: Engine, database: &str) -> Result<(DumpStream, Later), BackupError> {
    let path = content::dump_path(engine, database);
    let (from, to) = std::io::pipe().map_err(|source| BackupError::Stage { path, source })?;
    let (tell, whole) = oneshot::channel();
    let to = File::from(std::os::fd::OwnedFd::from(to));
    let dump = DumpStream { from: from.into(), whole };
    Ok((dump, Later { engine, database: database.to_owned(), to, tell }))
}
