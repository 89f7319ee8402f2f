//! The recovery key: what opens a repository when the server is gone. Made on the server, kept in its state
//! (0600), told to root who asks; nowhere else.

use std::path::Path;

use super::{BackupError, directory};
use crate::durable;
use crate::model::{Name, Secret};
use crate::recipe::secret::{Alphabet, generate};

/// Characters without the dashes: about 186 bits.
const LENGTH: usize = 32;
/// Characters between two dashes: people copy it by hand.
const GROUP: usize = 4;

/// The key of this repository, if it was made.
pub fn read(state: &Path, repository: &Name) -> Result<Option<Secret>, BackupError> {
    let path = directory(state, repository).join("key");
    match durable::read(&path).map_err(BackupError::Record)?.map(String::from_utf8) {
        None => Ok(None),
        Some(Ok(text)) => Ok(Some(Secret::new(text.trim()))),
        Some(Err(_)) => Err(BackupError::KeyDamaged(path)),
    }
}

/// The key, made if there was none; `true` if it was made now. On disk before it protects anything.
pub fn read_or_make(state: &Path, repository: &Name, random: fn(&mut [u8])) -> Result<(Secret, bool), BackupError> {
    if let Some(key) = read(state, repository)? {
        return Ok((key, false));
    }
    let letters = generate(Alphabet::Password, LENGTH, &mut |bytes| random(bytes));
    let groups: Vec<&str> = (0..LENGTH).step_by(GROUP).map(|at| &letters.expose()[at..at + GROUP]).collect();
    let key = Secret::new(groups.join("-"));
    keep(state, repository, &key)?;
    Ok((key, true))
}

/// Keeps a key that somebody brings.
pub fn keep(state: &Path, repository: &Name, key: &Secret) -> Result<(), BackupError> {
    let directory = directory(state, repository);
    super::make_private(&directory)?;
    durable::write(&directory.join("key"), format!("{}\n", key.expose()).as_bytes(), 0o600).map_err(BackupError::Record)
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
