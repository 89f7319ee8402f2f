//! While a backup reads the files of an instance, nothing of it runs: what it saves is of one moment.
//!
//! # Guarantees
//!
//! What is stopped is noted before, in `still/<instance>.json` of the agent's state, and started again on every way
//! out. A backup that is killed is followed by its unit's `ExecStopPost=`; whoever else takes the lock of passes next
//! (a pass, the daemon's look, a backup) finds the note too. The lock is held as long as something stands still, so no
//! pass starts it meanwhile, and a note without a holder of the lock is one of the dead.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::BackupError;
use crate::agent::reconcile::{Agent, AgentError};
use crate::durable::{self, HostLock};
use crate::host::PortError;
use crate::model::Name;

/// A pass that is under way is waited for so long: an upgrade.
const PATIENCE: Duration = Duration::from_secs(1800);
const PAUSE: Duration = Duration::from_millis(200);

/// What was stopped, in the order it is started again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Stopped {
    units: Vec<String>,
}

/// An instance that stands still.
pub(super) struct Still {
    name: Name,
    units: Vec<String>,
    since: Instant,
    _lock: HostLock,
}

impl Agent {
    /// What runs of these; services first, then what starts them.
    pub(super) async fn running(&self, units: &BTreeSet<String>) -> Result<Vec<String>, BackupError> {
        let states = self.host.units.states(units).await?;
        let runs = |unit: &&String| {
            // A job of a timer is not begun again: the timer does it.
            states.get(*unit).is_some_and(|state| matches!(&*state.active, "active" | "reloading" | "refreshing"))
        };
        let (services, starters): (Vec<String>, Vec<String>) =
            units.iter().filter(runs).cloned().partition(|unit| unit.ends_with(".service"));
        Ok(services.into_iter().chain(starters).collect())
    }

    /// Stops everything of the instance; `running` is what will be started again.
    pub(super) async fn stand_still(&self, name: &Name, all: &BTreeSet<String>) -> Result<Still, BackupError> {
        let lock = self.patiently_lock().await?;
        self.wake_left(&lock).await?;
        let units = self.running(all).await?;
        let note = serde_json::to_vec(&Stopped { units: units.clone() }).expect("names are plain data");
        super::make_private(&self.notes_of_stopped())?;
        durable::write(&self.note_of_stopped(name), &note, 0o600).map_err(BackupError::Record)?;
        let still = Still { name: name.clone(), units, since: Instant::now(), _lock: lock };
        match self.stop_all(&still.units, all).await {
            Ok(()) => Ok(still),
            Err(error) => {
                self.wake(still).await?;
                Err(error.into())
            }
        }
    }

    /// Timers and sockets first: they would start what is stopped. Then what they had started, too.
    async fn stop_all(&self, running: &[String], all: &BTreeSet<String>) -> Result<(), PortError> {
        for unit in running.iter().rev() {
            self.host.units.stop(unit).await?;
        }
        let states = self.host.units.states(all).await?;
        for unit in all {
            if states.get(unit).is_some_and(|state| !matches!(&*state.active, "inactive" | "failed")) {
                self.host.units.stop(unit).await?;
            }
        }
        Ok(())
    }

    /// Starts what was stopped; how long it stood still.
    pub(super) async fn wake(&self, still: Still) -> Result<Duration, BackupError> {
        self.start_again(&still.name, &still.units).await?;
        Ok(still.since.elapsed())
    }

    /// What a backup that is dead left standing still. The lock is the proof that it is dead.
    pub(in crate::agent) async fn wake_left(&self, _lock: &HostLock) -> Result<Vec<Name>, AgentError> {
        let mut woken = Vec::new();
        for name in self.left_still()? {
            let path = self.note_of_stopped(&name);
            let Some(note) = durable::read(&path).map_err(AgentError::Restore)? else { continue };
            // A note that is damaged says that something stands still; the pass starts what is wanted to run.
            let units = serde_json::from_slice::<Stopped>(&note).map(|stopped| stopped.units).unwrap_or_default();
            if let Err(error) = self.start_again(&name, &units).await {
                // The pass that comes tells it of each unit, and tries again.
                tracing::warn!(%name, %error, "what a backup stopped does not start");
            }
            woken.push(name);
        }
        Ok(woken)
    }

    /// The same, for the unit of a backup that was killed.
    pub async fn wake_after_backup(&self) -> Result<Vec<Name>, BackupError> {
        if self.left_still()?.is_empty() {
            return Ok(Vec::new());
        }
        let lock = self.patiently_lock().await?;
        Ok(self.wake_left(&lock).await?)
    }

    /// Instances with a note.
    pub(in crate::agent) fn left_still(&self) -> Result<Vec<Name>, AgentError> {
        let place = self.notes_of_stopped();
        let failed = |error| AgentError::State(place.clone(), error);
        let entries = match std::fs::read_dir(&place) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(failed)?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let path = entry.map_err(failed)?.path();
            let stem = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse().ok());
            names.extend(stem.filter(|_| path.extension().is_some_and(|end| end == "json")));
        }
        Ok(names)
    }

    /// All are tried; then there is no note any more: what did not start is told, and wanted by the next pass.
    async fn start_again(&self, name: &Name, units: &[String]) -> Result<(), BackupError> {
        let mut failed = None;
        for unit in units {
            if let Err(error) = self.host.units.start(unit).await {
                failed.get_or_insert(error);
            }
        }
        durable::remove(&self.note_of_stopped(name)).map_err(BackupError::Record)?;
        failed.map_or(Ok(()), |error| Err(error.into()))
    }

    async fn patiently_lock(&self) -> Result<HostLock, BackupError> {
        let begun = tokio::time::Instant::now();
        loop {
            match self.lock("socle agent backup") {
                Err(AgentError::Lock(_)) if begun.elapsed() < PATIENCE => tokio::time::sleep(PAUSE).await,
                lock => return Ok(lock?),
            }
        }
    }

    fn notes_of_stopped(&self) -> PathBuf {
        self.state.join("still")
    }

    fn note_of_stopped(&self, name: &Name) -> PathBuf {
        self.notes_of_stopped().join(format!("{name}.json"))
    }
}
