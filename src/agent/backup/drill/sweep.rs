//! Clearing away everything of a drill, from whatever point it was left at. All of it has fixed names, so nothing
//! has to be remembered but in which database servers it was.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use super::{PREFIX, RUNNING, TASKS, database, scratch};
use crate::agent::backup::BackupError;
use crate::agent::backup::restore::make;
use crate::agent::reconcile::Agent;
use crate::durable;
use crate::model::document::Engine;
use crate::model::unit::INPUTS_DIR;

impl Agent {
    /// Where a drill keeps its journal, and notes what it uses.
    pub(super) fn drill_state(&self) -> PathBuf {
        self.state.join("drill")
    }

    /// On disk before anything is in a database server.
    pub(super) fn note_engines(&self, engines: &BTreeSet<Engine>) -> Result<(), BackupError> {
        make(&self.drill_state(), 0o700)?;
        let bytes = serde_json::to_vec(engines).expect("names are plain data");
        durable::write(&self.drill_state().join("engines.json"), &bytes, 0o600).map_err(BackupError::Record)
    }

    /// Everything is tried; the first failure is told, and the note stays for the next time.
    pub(super) async fn sweep(&self) -> Result<(), BackupError> {
        let mut first = self.stop_drill().await.err();
        let mut keep = |done: Result<(), BackupError>| {
            if let Err(error) = done {
                tracing::warn!(%error, "a drill is not cleared away");
                first.get_or_insert(error);
            }
        };
        keep(self.drop_databases().await);
        let name = scratch();
        for directory in [
            self.host.path(format!("/srv/socle/{name}")),
            self.host.path(format!("/var/cache/socle/downloads/{name}")),
            self.host.path(format!("/var/lib/socle/dumps/{name}")),
            self.state.join("secrets").join(name.as_str()),
            self.state.join("restore").join(format!("{name}.secrets")),
        ] {
            keep(remove_tree(&directory));
        }
        let record = crate::resources::setup::observe::path(&self.host, name.as_str());
        keep(durable::remove(&record).map_err(BackupError::Record));
        // After its files: until then its number must not be given to somebody else.
        keep(self.remove_account().await);
        match first {
            Some(error) => Err(error),
            None => remove_tree(&self.drill_state()),
        }
    }

    async fn stop_drill(&self) -> Result<(), BackupError> {
        let place = self.host.path(RUNNING);
        let left = names(&place)?;
        let ours = |name: &&String| name.starts_with(PREFIX) || name.starts_with(TASKS);
        let (units, drop_ins): (Vec<_>, Vec<_>) = left.iter().filter(ours).partition(|name| name.ends_with(".service"));
        for unit in &units {
            self.host.units.stop(unit).await?;
        }
        for unit in &units {
            durable::remove(&place.join(unit)).map_err(BackupError::Record)?;
        }
        for directory in &drop_ins {
            remove_tree(&place.join(directory))?;
        }
        let marks = self.host.path(INPUTS_DIR);
        for mark in names(&marks)?.iter().filter(|name| name.starts_with(PREFIX)) {
            durable::remove(&marks.join(mark)).map_err(BackupError::Record)?;
        }
        if !units.is_empty() || !drop_ins.is_empty() {
            self.host.units.daemon_reload().await?;
        }
        Ok(())
    }

    async fn drop_databases(&self) -> Result<(), BackupError> {
        let note = durable::read(&self.drill_state().join("engines.json")).map_err(BackupError::Record)?;
        let Some(engines) = note.map(|bytes| serde_json::from_slice::<BTreeSet<Engine>>(&bytes)) else { return Ok(()) };
        // A note that cannot be read: both are asked.
        let engines = engines.unwrap_or_else(|_| [Engine::Mariadb, Engine::Postgresql].into());
        let (database, role) = (database(), format!("socle-{}", scratch()));
        for engine in engines {
            let (states, roles) = self.host.databases.states(engine, &[database.clone()].into()).await?;
            if states.get(&database).is_some_and(|state| state.exists) {
                self.host.databases.drop_database(engine, &database).await?;
            }
            if roles.contains(&role) {
                self.host.databases.drop_role(engine, &role).await?;
            }
        }
        Ok(())
    }

    async fn remove_account(&self) -> Result<(), BackupError> {
        let user = format!("socle-{}", scratch());
        let known = self.host.accounts.states(&[user.clone()].into()).await?;
        match known.get(&user) {
            Some(Some(_)) => Ok(self.host.accounts.remove(&user).await?),
            _ => Ok(()),
        }
    }
}

fn remove_tree(path: &Path) -> Result<(), BackupError> {
    match std::fs::remove_dir_all(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(BackupError::Sweep { path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

/// What a directory holds; nothing if there is none.
fn names(directory: &Path) -> Result<Vec<String>, BackupError> {
    let cannot = |source| BackupError::Sweep { path: directory.to_owned(), source };
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(cannot)?,
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry.map_err(cannot)?.file_name().into_string().ok());
    }
    Ok(names)
}
