//! An instance's files as they were at one moment, read at leisure: where the file system takes them in a moment, an
//! instance stands still no longer than that.
//!
//! # Guarantees
//!
//! What is taken stands in `/srv/socle/<instance>/saving/<repository>`, beside what it is of, and is removed on every
//! way out. What a kill leaves there nobody needs: the next backup to that repository removes it, and `backup wake`,
//! and whoever takes the lock of passes. Who holds the lock of the repository's backups uses it still.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::BackupError;
use super::content::{self, CONFIG, Files};
use super::trouble::Trouble;
use crate::agent::reconcile::{Agent, AgentError};
use crate::durable::LockError;
use crate::host::copies;
use crate::host::{PortError, Taken};
use crate::model::Name;

const SAVING: &str = "saving";

/// What is to be taken when the moment comes.
pub(super) struct Frozen {
    place: PathBuf,
    all: Vec<Taken>,
    /// Where it is read then.
    pub files: Files,
}

impl Agent {
    /// `None`: these are read where they are.
    pub(super) fn freezable(&self, name: &Name, repository: &Name, files: &Files) -> Option<Frozen> {
        // What a recipe makes is some files, and copied.
        let large = files.iter().filter(|(directory, _)| directory != CONFIG);
        let large: Vec<PathBuf> = large.map(|(_, path)| path.clone()).collect();
        if !self.host.snapshots.can(&large) {
            return None;
        }
        let place = self.host.path(content::home(name).join(SAVING).join(repository.as_str()));
        let at = |directory: &str| place.join(content::flat(directory));
        let all = files.iter().map(|(directory, path)| Taken { of: path.clone(), at: at(directory) }).collect();
        let files = files.iter().map(|(directory, _)| (directory.clone(), at(directory))).collect();
        Some(Frozen { place, all, files })
    }

    /// Writes what is still to be written, so that in the moment little is.
    pub(super) async fn flush(&self, frozen: &Frozen) -> Result<(), BackupError> {
        let Some(first) = frozen.all.first().map(|taken| taken.of.clone()) else { return Ok(()) };
        let flushed = tokio::task::spawn_blocking(move || copies::flush(&first)).await.expect("it does not panic");
        flushed.map_err(|error| {
            let hint = error.hint();
            let error = PortError::new("snapshot.flush", error.to_string()).because(error);
            BackupError::Vault(PortError { hint, ..error })
        })
    }

    pub(super) async fn freeze(&self, frozen: &Frozen) -> Result<(), BackupError> {
        Ok(self.host.snapshots.take(&frozen.all).await?)
    }

    pub(super) async fn thaw(&self, name: &Name, frozen: Frozen) -> Option<Trouble> {
        self.remove_snapshots(name, &frozen.place).await
    }

    /// What the dead left. `ours`: of the repository whose lock the caller holds.
    pub(super) async fn thaw_left(&self, ours: Option<&Name>) -> Result<Vec<Trouble>, AgentError> {
        let mut troubles = Vec::new();
        for home in names(&self.host.path("/srv/socle"))? {
            for repository in names(&self.host.path(content::home(&home).join(SAVING)))? {
                let lock = match ours == Some(&repository) {
                    true => None,
                    false => Some(self.backup_lock(&repository)),
                };
                match lock {
                    None | Some(Ok(_)) => {}
                    // Whoever holds it removes it itself.
                    Some(Err(BackupError::Busy(LockError::Held(_)))) => continue,
                    Some(Err(ref error)) => {
                        troubles.push(Trouble { instance: home.clone(), error: error.report() });
                        continue;
                    }
                }
                let place = self.host.path(content::home(&home).join(SAVING).join(repository.as_str()));
                tracing::info!(%home, %repository, "removing what a killed backup left");
                troubles.extend(self.remove_snapshots(&home, &place).await);
            }
        }
        Ok(troubles)
    }

    async fn remove_snapshots(&self, name: &Name, place: &Path) -> Option<Trouble> {
        let removed = self.host.snapshots.remove(place).await;
        if removed.is_ok()
            && let Some(above) = place.parent()
        {
            // Backups to another repository may have theirs in there.
            let _ = std::fs::remove_dir(above);
        }
        removed.err().map(|error| Trouble { instance: name.clone(), error: error.report() })
    }
}

/// Of what a directory holds, what is a name; nothing if there is none.
fn names(directory: &Path) -> Result<Vec<Name>, AgentError> {
    let failed = |error| AgentError::LeftByBackup(directory.to_owned(), error);
    let entries = match std::fs::read_dir(directory) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry.map_err(failed)?.file_name().to_str().and_then(|name| name.parse().ok()));
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_listed_is_not_empty() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(names(&directory.path().join("absent")).unwrap(), []);
        std::fs::create_dir(directory.path().join("blog")).unwrap();
        std::fs::write(directory.path().join(".no-name"), "").unwrap();
        assert_eq!(names(directory.path()).unwrap(), ["blog".parse().unwrap()]);
        let around = directory.path().join("around");
        std::os::unix::fs::symlink(&around, &around).unwrap();
        assert!(names(&around).is_err());
    }
}
