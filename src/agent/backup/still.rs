//! For the moment that a backup is of, an instance stands still as its recipe says: commands of the application are
//! run, and its units are stopped.
//!
//! # Guarantees
//!
//! What is to be done after it is noted before, in `still/<instance>.json` of the agent's state, and done on every way
//! out. A backup that is killed is followed by its unit's `ExecStopPost=`; whoever else takes the lock of passes next
//! (a pass, the daemon's look, a backup) finds the note too. The lock is held as long as something stands still, so no
//! pass starts it meanwhile, and a note without a holder of the lock is one of the dead.
//!
//! A unit that does not start again is told, and wanted by the next pass. A command that fails is told, and its note
//! stays: whoever finds it tries again.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::BackupError;
use super::trouble::{Trouble, Troubles};
use crate::agent::reconcile::{Agent, AgentError};
use crate::durable::{self, HostLock};
use crate::host::PortError;
use crate::model::Name;
use crate::model::report::ErrorReport;
use crate::resources::setup::{self, Command};

/// A pass that is under way is waited for so long: an upgrade.
const PATIENCE: Duration = Duration::from_secs(1800);
const PAUSE: Duration = Duration::from_millis(200);

/// What is to be done when it goes on, in this order.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
struct After {
    /// Commands that may still be at work, of a backup that was killed while it ran them: they end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    entering: Vec<String>,
    /// Stopped, and to be started.
    units: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    leave: Vec<Command>,
}

/// An instance that stands still.
pub(super) struct Still {
    name: Name,
    after: After,
    since: Instant,
    _lock: HostLock,
}

/// What was found standing still, and goes on.
#[derive(Debug, Default)]
pub struct Woken {
    pub names: Vec<Name>,
    pub troubles: Vec<Trouble>,
}

impl Woken {
    /// For the report of a pass.
    pub(in crate::agent) fn notes(&self) -> Vec<String> {
        let told = |trouble: &Trouble| format!("{}: after a backup: {}", trouble.instance, trouble.error);
        self.troubles.iter().map(told).collect()
    }
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

    /// Has everything of the instance stand still.
    pub(super) async fn stand_still(
        &self,
        name: &Name,
        wanted: &setup::Desired,
        troubles: &Troubles,
    ) -> Result<Still, BackupError> {
        let lock = self.patiently_lock().await?;
        troubles.take(self.wake_left(&lock).await?.troubles);
        let units = if wanted.quiet.stop { self.running(&wanted.units).await? } else { Vec::new() };
        let entering = wanted.quiet.enter.iter().map(|command| command.name.clone()).collect();
        let after = After { entering, units, leave: wanted.quiet.leave.clone() };
        self.note(name, &after)?;
        let still = Still { name: name.clone(), after, since: Instant::now(), _lock: lock };
        match self.quieten(&still, wanted).await {
            Ok(()) => Ok(still),
            Err(error) => {
                self.wake(still, troubles).await;
                Err(error)
            }
        }
    }

    async fn quieten(&self, still: &Still, wanted: &setup::Desired) -> Result<(), BackupError> {
        for command in &wanted.quiet.enter {
            self.carry_out(&still.name, command).await?;
        }
        match wanted.quiet.stop {
            true => Ok(self.stop_all(&still.after.units, &wanted.units).await?),
            false => Ok(()),
        }
    }

    async fn carry_out(&self, name: &Name, command: &Command) -> Result<(), BackupError> {
        let done = self.host.tasks.run(&command.name, &command.unit, None).await?;
        if command.ok_codes.contains(&done.code) {
            return Ok(());
        }
        let (instance, command) = (name.clone(), command.name.clone());
        Err(BackupError::Command { instance, command, code: done.code, output: done.output })
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

    /// Has it go on; how long it stood still.
    pub(super) async fn wake(&self, still: Still, troubles: &Troubles) -> Duration {
        let wrong = self.go_on(&still.name, &still.after).await;
        troubles.take(wrong.into_iter().map(|error| Trouble { instance: still.name.clone(), error }));
        still.since.elapsed()
    }

    /// What a backup that is dead left standing still, and its snapshots of files. The lock is the proof that it is
    /// dead.
    pub(in crate::agent) async fn wake_left(&self, _lock: &HostLock) -> Result<Woken, AgentError> {
        let mut woken = Woken::default();
        for name in self.left_still()? {
            let Some(note) = durable::read(&self.note_of_still(&name)).map_err(AgentError::Restore)? else { continue };
            let after = match serde_json::from_slice::<After>(&note) {
                Ok(after) => after,
                // Something stands still, and what is not known: the pass starts what is wanted to run, and no more.
                Err(source) => {
                    let error = AgentError::StillDamaged { path: self.note_of_still(&name), source }.report();
                    woken.troubles.push(Trouble { instance: name.clone(), error });
                    After::default()
                }
            };
            for error in self.go_on(&name, &after).await {
                tracing::warn!(%name, %error, "what a backup had stand still does not go on");
                woken.troubles.push(Trouble { instance: name.clone(), error });
            }
            woken.names.push(name);
        }
        woken.troubles.extend(self.thaw_left(None).await?);
        Ok(woken)
    }

    /// The same, for the unit of a backup that was killed.
    pub async fn wake_after_backup(&self) -> Result<Woken, BackupError> {
        if self.left_still()?.is_empty() {
            return Ok(Woken { names: Vec::new(), troubles: self.thaw_left(None).await? });
        }
        let lock = self.patiently_lock().await?;
        Ok(self.wake_left(&lock).await?)
    }

    /// Instances with a note.
    pub(in crate::agent) fn left_still(&self) -> Result<Vec<Name>, AgentError> {
        let place = self.notes_of_still();
        let failed = |error| AgentError::LeftByBackup(place.clone(), error);
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

    /// All of it is tried; what went wrong.
    async fn go_on(&self, name: &Name, after: &After) -> Vec<ErrorReport> {
        let mut wrong = Vec::new();
        for command in &after.entering {
            if let Err(error) = self.host.units.stop(&format!("socle-task-{command}.service")).await {
                wrong.push(error.report());
            }
        }
        for unit in &after.units {
            if let Err(error) = self.host.units.start(unit).await {
                wrong.push(error.report());
            }
        }
        let mut left = After::default();
        for command in &after.leave {
            if let Err(error) = self.carry_out(name, command).await {
                wrong.push(error.report());
                left.leave.push(command.clone());
            }
        }
        let noted = match left == After::default() {
            true => durable::remove(&self.note_of_still(name)).map_err(BackupError::Record),
            false => self.note(name, &left),
        };
        wrong.extend(noted.err().map(|error| error.report()));
        wrong
    }

    fn note(&self, name: &Name, after: &After) -> Result<(), BackupError> {
        let note = serde_json::to_vec(after).expect("names and units are plain data");
        super::make_private(&self.notes_of_still())?;
        durable::write(&self.note_of_still(name), &note, 0o600).map_err(BackupError::Record)
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

    fn notes_of_still(&self) -> PathBuf {
        self.state.join("still")
    }

    fn note_of_still(&self, name: &Name) -> PathBuf {
        self.notes_of_still().join(format!("{name}.json"))
    }
}
