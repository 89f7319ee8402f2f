//! One snapshot of one instance, of one moment: its databases, its files, and what they belong to.
//!
//! The instance stands still, its files are taken as a snapshot of the file system and the transactions of its
//! databases begin; then it goes on, and both are read at leisure. Where there are no such snapshots its files are read
//! while it stands still: once before, while it runs, so that then only what was written since is read again.

use std::fs::File;
use std::time::Duration;

use tokio::sync::oneshot;

use super::BackupError;
use super::content::{self, FORM, Files, Manifest};
use super::frozen::Frozen;
use super::rows::Counting;
use super::run::{To, server};
use crate::agent::ledger::Ledger;
use crate::agent::reconcile::{Agent, AgentError};
use crate::host::vault::{Entry, Moment, Moments, Order, Saved, SnapshotId, Source};
use crate::host::{DumpStream, PortError};
use crate::model::document::Engine;
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

/// The instance of which a moment is saved.
struct Subject<'a> {
    name: &'a Name,
    /// How far it is set up; it must not change meanwhile.
    state: &'a State,
    wanted: &'a setup::Desired,
    /// Something of it runs that is to stand still.
    runs: bool,
    frozen: Option<&'a Frozen>,
}

impl Agent {
    /// What was saved, and how long the instance stood still for it.
    pub(super) async fn save(
        &self,
        to: &To<'_>,
        (name, newest): (&Name, Option<SnapshotId>),
    ) -> Result<(Saved, Option<Duration>), BackupError> {
        let wanted = self.setup_of(&Ledger::load(&self.state).map_err(AgentError::from)?, name)?;
        let files = content::files(&self.host, name, &wanted.saved);
        let frozen = self.freezable(name, to.repository, &files);
        let saved = self.save_from(to, (name, newest), (&wanted, &files, frozen.as_ref())).await;
        if let Some(frozen) = frozen {
            to.troubles.take(self.thaw(name, frozen).await);
        }
        saved
    }

    async fn save_from(
        &self,
        to: &To<'_>,
        (name, newest): (&Name, Option<SnapshotId>),
        (wanted, files, frozen): (&setup::Desired, &Files, Option<&Frozen>),
    ) -> Result<(Saved, Option<Duration>), BackupError> {
        let To { access, document, .. } = to;
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
            databases: wanted.databases.clone(),
            directories: files.iter().map(|(directory, _)| directory.clone()).collect(),
            seen: ledger.seen.clone(),
        };
        let text = ledger.accepted.as_ref().map(|accepted| accepted.text.as_str()).unwrap_or_default();
        let read = frozen.map_or(files, |frozen| &frozen.files);
        let mut entries = content::entries(&self.host, &manifest, text, read);
        let runs = !wanted.quiet.is_loud() && !self.running(&wanted.units).await?.is_empty();
        let parent = match runs && frozen.is_none() {
            true => Some(self.save_ahead(to, &manifest, files, newest).await?),
            // With a tag of its own it is found by none before it.
            false => newest.filter(|_| !to.tags.is_empty()),
        };
        let (mut rows, mut dumps) = (Counting::default(), Vec::new());
        for (engine, database) in &manifest.databases {
            let (dump, later) = later(*engine, database)?;
            dumps.push(later);
            let dump = rows.count(*engine, database, dump)?;
            let from = Source::Stream { from: dump.from, whole: dump.whole };
            entries.push(Entry { path: content::dump_path(*engine, database), from });
        }
        entries.extend(rows.entries()?);
        let (moment, moments) = Moment::new();
        let order = Order {
            host: manifest.server.clone(),
            tags: content::tags(name).into_iter().chain(to.tags.iter().map(Name::to_string)).collect(),
            at: manifest.at,
            entries,
            parent,
            moment: Some(moment),
        };
        let subject = Subject { name, state: &before, wanted, runs, frozen };
        let at_rest = self.at_rest(to, &subject, dumps, moments);
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
        to: &To<'_>,
        manifest: &Manifest,
        files: &Files,
        newest: Option<SnapshotId>,
    ) -> Result<SnapshotId, BackupError> {
        let order = Order {
            host: manifest.server.clone(),
            tags: content::unfinished(&manifest.instance),
            at: manifest.at,
            entries: content::trees(files).collect(),
            parent: newest,
            moment: None,
        };
        Ok(self.vault.save(to.access, order, &*self.host.progress).await?.snapshot.id)
    }

    /// Whatever happens in here, the instance goes on after it.
    async fn at_rest(
        &self,
        to: &To<'_>,
        subject: &Subject<'_>,
        dumps: Vec<Later>,
        moments: Moments,
    ) -> Result<Option<Duration>, BackupError> {
        let Subject { name, wanted, runs, frozen, .. } = subject;
        let Moments { ready, go, read } = moments;
        if ready.await.is_err() {
            // The vault tells why.
            return Ok(None);
        }
        if let Some(frozen) = frozen {
            self.flush(frozen).await?;
        }
        let still = match runs {
            true => Some(self.stand_still(name, wanted, to.troubles).await?),
            false => None,
        };
        let begun = self.begin(subject, dumps).await;
        let mut go = Some(go);
        if begun.is_ok() && frozen.is_none() {
            // A vault that is gone tells why.
            let _ = go.take().map(|go| go.send(()));
            let _ = read.await;
        }
        let stood = match still {
            Some(still) => Some(self.wake(still, to.troubles).await),
            None => None,
        };
        begun?;
        // What was taken is read when it runs again.
        let _ = go.map(|go| go.send(()));
        Ok(stood)
    }

    async fn begin(&self, subject: &Subject<'_>, dumps: Vec<Later>) -> Result<(), BackupError> {
        if self.settled(subject.name)? != *subject.state {
            return Err(BackupError::Moved(subject.name.clone()));
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
        match subject.frozen {
            Some(frozen) => self.freeze(frozen).await,
            None => Ok(()),
        }
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
