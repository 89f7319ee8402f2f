//! A controller in one file: its database and its keys, as a tar archive. With it, a new machine becomes this
//! controller.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::keys;
use super::store::{self, By, Store, StoreUrl};
use crate::durable::{self, DurableError};

const DATABASE: &str = "controller.db";
/// Largest key file that is taken.
const MAX_KEY_BYTES: u64 = 64 << 10;

#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error(transparent)]
    Store(#[from] store::BackupError),
    #[error("cannot put the backup together in `{0}`")]
    Write(PathBuf, #[source] std::io::Error),
    #[error("cannot read the backup `{0}`")]
    Read(PathBuf, #[source] std::io::Error),
    #[error("`{path}` is no backup of a controller: {why}")]
    NotOurs { path: PathBuf, why: String },
    #[error("there are keys in `{0}` already")]
    KeysExist(PathBuf),
    #[error(transparent)]
    File(#[from] DurableError),
}

impl BackupError {
    /// What to do next, if there is something.
    pub fn hint(&self) -> Option<String> {
        match self {
            BackupError::Store(error) => error.hint(),
            BackupError::KeysExist(path) => {
                Some(format!("if they are not of this fleet, move `{}` away and try again", path.display()))
            }
            BackupError::Write(..) | BackupError::File(_) => Some("see `df -h` of that directory".to_owned()),
            BackupError::Read(..) | BackupError::NotOurs { .. } => None,
        }
    }
}

/// The archive as a file without a name, at its beginning. The controller goes on meanwhile.
pub async fn take(store: &Store, home: &Path, by: &By) -> Result<File, BackupError> {
    let copy = home.join(".backup.db");
    store.backup(&copy, by).await?;
    let archive = home.join(".backup.tar");
    let made = put_together(&archive, &copy, home);
    // Without their names they last as long as somebody reads them.
    for path in [&copy, &archive] {
        durable::remove(path)?;
    }
    made.map_err(|error| BackupError::Write(archive, error))
}

fn put_together(archive: &Path, database: &Path, home: &Path) -> std::io::Result<File> {
    let _ = std::fs::remove_file(archive);
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(archive)?;
    let mut tar = tar::Builder::new(file);
    tar.mode(tar::HeaderMode::Deterministic);
    tar.append_path_with_name(database, DATABASE)?;
    let more = keys::MORE_FILES.into_iter().filter(|name| home.join(keys::DIRECTORY).join(name).exists());
    for name in keys::FILES.into_iter().chain(more) {
        tar.append_path_with_name(home.join(keys::DIRECTORY).join(name), format!("{}/{name}", keys::DIRECTORY))?;
    }
    let mut file = tar.into_inner()?;
    file.flush()?;
    file.rewind()?;
    Ok(file)
}

/// Makes `home` the controller of the backup. Keys that are there stay if they are the same, and are an error if
/// not; the database is replaced, after the copy was found sound. Refused while a controller runs.
///
/// `file` is the open backup: who restores may not be who may open it. `backup` only names it.
pub async fn restore(file: File, backup: &Path, url: &StoreUrl, home: &Path) -> Result<(), BackupError> {
    let read = |error| BackupError::Read(backup.to_owned(), error);
    let directory = home.join(keys::DIRECTORY);
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&directory)
        .map_err(|error| BackupError::Write(directory.clone(), error))?;
    let copy = home.join(".restore.db");
    let taken = take_apart(file, &copy).map_err(read)?;
    let done = match taken {
        Ok(found) => put_back(&found, &directory, &copy, url).await,
        Err(why) => Err(BackupError::NotOurs { path: backup.to_owned(), why }),
    };
    durable::remove(&copy)?;
    done
}

async fn put_back(
    found: &BTreeMap<String, Vec<u8>>,
    directory: &Path,
    copy: &Path,
    url: &StoreUrl,
) -> Result<(), BackupError> {
    for (name, bytes) in found {
        if durable::read(&directory.join(name))?.is_some_and(|there| there != *bytes) {
            return Err(BackupError::KeysExist(directory.to_owned()));
        }
    }
    Store::restore(url, copy).await?;
    for (name, bytes) in found {
        durable::write(&directory.join(name), bytes, 0o600)?;
    }
    Ok(())
}

/// The key files by name, and the database into `copy`. Only what a backup holds: anything else is told.
fn take_apart(file: File, copy: &Path) -> std::io::Result<Result<BTreeMap<String, Vec<u8>>, String>> {
    let mut found = BTreeMap::new();
    let mut database = false;
    for entry in tar::Archive::new(file).entries()? {
        let mut entry = entry?;
        let path = entry.path()?.to_string_lossy().into_owned();
        let key = path
            .strip_prefix(&format!("{}/", keys::DIRECTORY))
            .filter(|name| keys::FILES.contains(name) || keys::MORE_FILES.contains(name));
        if !entry.header().entry_type().is_file() {
            return Ok(Err(format!("`{}` in it is no file", path.escape_debug())));
        }
        match key {
            Some(name) if entry.size() <= MAX_KEY_BYTES => {
                let mut bytes = Vec::new();
                entry.read_to_end(&mut bytes)?;
                found.insert(name.to_owned(), bytes);
            }
            None if path == DATABASE => {
                let _ = std::fs::remove_file(copy);
                let mut out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(copy)?;
                std::io::copy(&mut entry, &mut out)?;
                database = true;
            }
            _ => return Ok(Err(format!("`{}` does not belong in one", path.escape_debug()))),
        }
    }
    match keys::FILES.iter().find(|name| !found.contains_key(**name)) {
        Some(missing) => Ok(Err(format!("`{}/{missing}` is missing in it", keys::DIRECTORY))),
        None if !database => Ok(Err(format!("`{DATABASE}` is missing in it"))),
        None => Ok(Ok(found)),
    }
}
