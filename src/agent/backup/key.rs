//! The recovery key: what opens a repository when the server is gone. Made on the server, kept in its state
//! (0600), told to root who asks; nowhere else.

use std::path::Path;

use super::{BackupError, directory};
use crate::agent::reconcile::Agent;
use crate::durable;
use crate::host::vault::KeyInfo;
use crate::model::document::Repository;
use crate::model::{Name, Secret};
use crate::recipe::secret::{Alphabet, generate};

const KEY: &str = "key";
/// The one that will be the key, while keys are changed.
const NEXT: &str = "key.next";
/// Characters without the dashes: about 186 bits.
const LENGTH: usize = 32;
/// Characters between two dashes: people copy it by hand.
const GROUP: usize = 4;

/// The key of this repository, if it was made.
pub fn read(state: &Path, repository: &Name) -> Result<Option<Secret>, BackupError> {
    read_file(&directory(state, repository).join(KEY))
}

fn read_file(path: &Path) -> Result<Option<Secret>, BackupError> {
    match durable::read(path).map_err(BackupError::Record)?.map(String::from_utf8) {
        None => Ok(None),
        Some(Ok(text)) => Ok(Some(Secret::new(text.trim()))),
        Some(Err(_)) => Err(BackupError::KeyDamaged(path.to_owned())),
    }
}

/// The key, made if there was none; `true` if it was made now. On disk before it protects anything.
pub fn read_or_make(state: &Path, repository: &Name, random: fn(&mut [u8])) -> Result<(Secret, bool), BackupError> {
    if let Some(key) = read(state, repository)? {
        return Ok((key, false));
    }
    let key = make(random);
    keep(state, repository, &key)?;
    Ok((key, true))
}

fn make(random: fn(&mut [u8])) -> Secret {
    let letters = generate(Alphabet::Password, LENGTH, &mut |bytes| random(bytes));
    let groups: Vec<&str> = (0..LENGTH).step_by(GROUP).map(|at| &letters.expose()[at..at + GROUP]).collect();
    Secret::new(groups.join("-"))
}

/// Keeps a key that somebody brings.
pub fn keep(state: &Path, repository: &Name, key: &Secret) -> Result<(), BackupError> {
    keep_as(state, repository, KEY, key)
}

fn keep_as(state: &Path, repository: &Name, file: &str, key: &Secret) -> Result<(), BackupError> {
    let directory = directory(state, repository);
    super::make_private(&directory)?;
    durable::write(&directory.join(file), format!("{}\n", key.expose()).as_bytes(), 0o600).map_err(BackupError::Record)
}

/// A key that was made, and what the repository calls it.
pub struct Made {
    pub info: KeyInfo,
    pub key: Secret,
}

impl Agent {
    /// Every key that opens the repository.
    pub async fn backup_keys(&self, name: &Name, repository: &Repository) -> Result<Vec<KeyInfo>, BackupError> {
        let keys = self.vault.keys(&self.access(name, repository)?).await;
        keys.map_err(|error| BackupError::from(error).of(name, repository))
    }

    /// One more key that opens the repository, for somebody else. It is kept nowhere here.
    pub async fn add_backup_key(&self, name: &Name, repository: &Repository, label: &str) -> Result<Made, BackupError> {
        let _lock = self.backup_lock(name)?;
        let key = make(self.random);
        let info = self.vault.add_key(&self.access(name, repository)?, &key, label).await;
        Ok(Made { info: info.map_err(|error| BackupError::from(error).of(name, repository))?, key })
    }

    /// A new key of this server's own; the one before opens nothing any more. Whatever interrupts, the key that is
    /// kept here opens the repository, and the same again goes on.
    pub async fn rotate_backup_key(&self, name: &Name, repository: &Repository) -> Result<Made, BackupError> {
        let _lock = self.backup_lock(name)?;
        let of = |error: BackupError| error.of(name, repository);
        let old = self.access(name, repository)?;
        let next = directory(&self.state, name).join(NEXT);
        let known = self.vault.keys(&old).await.map_err(|error| of(error.into()))?;
        let begun = match read_file(&next)? {
            Some(key) => self.opens(name, repository, &key).await.map_err(of)?.map(|info| Made { info, key }),
            None => None,
        };
        let made = match begun {
            Some(made) => made,
            None => {
                let key = make(self.random);
                // On disk before it opens anything.
                keep_as(&self.state, name, NEXT, &key)?;
                let info = self.vault.add_key(&old, &key, "socle").await.map_err(|error| of(error.into()))?;
                Made { info, key }
            }
        };
        keep(&self.state, name, &made.key)?;
        durable::remove(&next).map_err(BackupError::Record)?;
        let new = self.access(name, repository)?;
        for before in known.iter().filter(|key| key.ours && key.id != made.info.id) {
            self.vault.remove_key(&new, &before.id).await.map_err(|error| of(error.into()))?;
        }
        Ok(made)
    }

    /// Makes a key useless. The server's own cannot be taken out.
    pub async fn remove_backup_key(&self, name: &Name, repository: &Repository, id: &str) -> Result<(), BackupError> {
        let _lock = self.backup_lock(name)?;
        let known = self.backup_keys(name, repository).await?;
        let mut meant = known.iter().filter(|key| id.len() >= 4 && key.id.starts_with(id));
        let (Some(key), None) = (meant.next(), meant.next()) else {
            return Err(BackupError::NoSuchKey { repository: name.clone(), id: id.to_owned() });
        };
        let removed = self.vault.remove_key(&self.access(name, repository)?, &key.id).await;
        removed.map_err(|error| BackupError::from(error).of(name, repository))
    }

    /// What the repository calls this key; `None` if it opens nothing.
    async fn opens(&self, name: &Name, repository: &Repository, key: &Secret) -> Result<Option<KeyInfo>, BackupError> {
        let access = self.access_with(name, repository, key.clone(), None)?;
        match self.vault.keys(&access).await {
            Ok(keys) => Ok(keys.into_iter().find(|key| key.ours)),
            Err(error) if error.code == "vault.wrong-key" => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_once_and_kept_to_ourselves() {
        use std::os::unix::fs::PermissionsExt;
        let state = tempfile::tempdir().unwrap();
        let name: Name = "home".parse().unwrap();
        assert!(read(state.path(), &name).unwrap().is_none());
        let counting = |bytes: &mut [u8]| bytes.iter_mut().zip(7_u8..).for_each(|(byte, next)| *byte = next);
        let (key, made) = read_or_make(state.path(), &name, counting).unwrap();
        assert!(made && key.expose().len() == 39 && key.expose().split('-').all(|group| group.len() == 4));
        let (again, made) = read_or_make(state.path(), &name, counting).unwrap();
        assert!(!made && again == key);
        let mode = std::fs::metadata(state.path().join("backup/home/key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
