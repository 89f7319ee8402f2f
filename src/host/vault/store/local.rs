//! A directory of this machine.
//!
//! # Guarantees
//!
//! A file has its name only when all its bytes are on disk, and the name is on disk when the write returns:
//! temporary file beside it, fsync, length compared, rename, fsync of the directory. An interrupted writer
//! leaves a temporary whose name is no identifier: no reader takes it for a file, [`Store::sweep`] removes it.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;

use super::{Id, Kind, Store, StoreError, StoreFault};

/// A temporary that nobody wrote to for so long is nobody's: a pack is written in seconds.
const ABANDONED: Duration = Duration::from_hours(1);

pub struct LocalStore {
    root: PathBuf,
}

impl LocalStore {
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }

    fn path(&self, kind: Kind, id: &Id) -> PathBuf {
        self.root.join(kind.path(id))
    }

    fn write_file(&self, kind: Kind, id: &Id, content: &[Bytes]) -> io::Result<()> {
        let path = self.path(kind, id);
        let parent = path.parent().unwrap_or(&self.root);
        if kind == Kind::Pack && !parent.is_dir() {
            make_directory(parent)?;
            sync(&self.root.join(Kind::Pack.directory()))?;
        }
        let temporary = temporary(&path)?;
        let written = write_all(&temporary, content).and_then(|()| match kind {
            // The only name that two may want at once.
            Kind::Config => rename_new(&temporary, &path),
            _ => fs::rename(&temporary, &path),
        });
        if written.is_err() {
            // Best effort: what stays is swept later.
            let _ = fs::remove_file(&temporary);
        }
        written.and_then(|()| sync(parent))
    }

    fn entries(&self, directory: &Path, listed: &mut Vec<(Id, u64)>) -> io::Result<()> {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let Some(id) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            match entry.metadata() {
                Ok(metadata) => listed.push((id, metadata.len())),
                // Removed since the directory was read: by another server's prune.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn list_files(&self, kind: Kind) -> io::Result<Vec<(Id, u64)>> {
        let directory = self.root.join(kind.directory());
        let mut listed = Vec::new();
        match kind {
            Kind::Config => match fs::metadata(&directory) {
                Ok(metadata) => listed.push((Id::default(), metadata.len())),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            },
            Kind::Pack => {
                for entry in fs::read_dir(&directory)? {
                    let entry = entry?;
                    if entry.file_type()?.is_dir() {
                        self.entries(&entry.path(), &mut listed)?;
                    }
                }
            }
            _ => self.entries(&directory, &mut listed)?,
        }
        Ok(listed)
    }

    fn sweep_directory(&self, directory: &Path) -> io::Result<()> {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let metadata = match entry.metadata() {
                Ok(metadata) => metadata,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            if metadata.is_dir() {
                self.sweep_directory(&entry.path())?;
            } else if is_temporary(&entry.path())
                && metadata.modified()?.elapsed().is_ok_and(|unused| unused > ABANDONED)
            {
                // Another prune may have been first.
                match fs::remove_file(entry.path()) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

impl Store for LocalStore {
    fn name(&self) -> String {
        self.root.display().to_string()
    }

    fn make(&self) -> Result<(), StoreError> {
        let all = [Kind::Key, Kind::Index, Kind::Snapshot, Kind::Pack, Kind::Lock].map(Kind::directory);
        let make = || {
            make_directory(&self.root)?;
            for name in all {
                make_directory(&self.root.join(name))?;
            }
            sync(&self.root)?;
            self.root.parent().map_or(Ok(()), sync)
        };
        make().map_err(|error| StoreError::io("make", self.name(), &error))
    }

    fn list(&self, kind: Kind) -> Result<Vec<(Id, u64)>, StoreError> {
        self.list_files(kind).map_err(|error| StoreError::io("list", kind.directory(), &error))
    }

    fn read(&self, kind: Kind, id: &Id) -> Result<Bytes, StoreError> {
        fs::read(self.path(kind, id)).map(Bytes::from).map_err(|error| StoreError::io("read", kind.path(id), &error))
    }

    fn read_part(&self, kind: Kind, id: &Id, offset: u64, length: usize) -> Result<Bytes, StoreError> {
        let cannot = |error: io::Error| StoreError::io("read", kind.path(id), &error);
        let file = File::open(self.path(kind, id)).map_err(cannot)?;
        let mut bytes = vec![0; length];
        match file.read_exact_at(&mut bytes, offset) {
            Ok(()) => Ok(bytes.into()),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                let found = file.metadata().map_err(cannot)?.len();
                let wanted = offset + length as u64;
                Err(StoreError::new("read", kind.path(id), StoreFault::Length { found, wanted }))
            }
            Err(error) => Err(cannot(error)),
        }
    }

    fn write(&self, kind: Kind, id: &Id, content: &[Bytes]) -> Result<(), StoreError> {
        self.write_file(kind, id, content).map_err(|error| StoreError::io("write", kind.path(id), &error))
    }

    fn remove(&self, kind: Kind, id: &Id) -> Result<(), StoreError> {
        match fs::remove_file(self.path(kind, id)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(StoreError::io("remove", kind.path(id), &error))
            }
            _ => Ok(()),
        }
    }

    fn sweep(&self) -> Result<(), StoreError> {
        self.sweep_directory(&self.root).map_err(|error| StoreError::io("sweep", self.name(), &error))
    }
}

fn make_directory(path: &Path) -> io::Result<()> {
    match DirBuilder::new().recursive(true).mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Beside `path`, and never the same twice: two servers may write one pack at once.
fn temporary(path: &Path) -> io::Result<PathBuf> {
    let random = getrandom::u64().map_err(|error| io::Error::other(error.to_string()))?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!("-tmp-{random:016x}"));
    Ok(path.with_file_name(name))
}

fn is_temporary(path: &Path) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.contains("-tmp-"))
}

fn write_all(path: &Path, content: &[Bytes]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    for bytes in content {
        file.write_all(bytes)?;
    }
    file.sync_all()?;
    let wanted: u64 = content.iter().map(|bytes| bytes.len() as u64).sum();
    let found = file.metadata()?.len();
    match found == wanted {
        true => Ok(()),
        false => Err(io::Error::other(format!("{found} bytes were written, {wanted} were to be"))),
    }
}

fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE).map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn store() -> (tempfile::TempDir, LocalStore) {
        let directory = tempfile::tempdir().unwrap();
        let store = LocalStore::new(directory.path().join("repository"));
        store.make().unwrap();
        (directory, store)
    }

    #[test]
    fn what_is_written_is_listed_and_read_and_nobody_elses() {
        let (_directory, store) = store();
        let id: Id = "ab".repeat(32).parse().unwrap();
        store.write(Kind::Pack, &id, &[Bytes::from_static(b"one"), Bytes::from_static(b"two")]).unwrap();
        assert_eq!(store.list(Kind::Pack).unwrap(), [(id, 6)]);
        assert_eq!(store.read(Kind::Pack, &id).unwrap(), "onetwo");
        assert_eq!(store.read_part(Kind::Pack, &id, 2, 3).unwrap(), "etw");
        let short = store.read_part(Kind::Pack, &id, 4, 3).unwrap_err();
        assert!(matches!(short.fault, StoreFault::Length { found: 6, wanted: 7 }), "{short}");
        let mode = fs::metadata(store.path(Kind::Pack, &id)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        store.remove(Kind::Pack, &id).unwrap();
        store.remove(Kind::Pack, &id).unwrap();
        assert_eq!(store.list(Kind::Pack).unwrap(), []);
    }

    #[test]
    fn what_cannot_be_looked_into_is_not_empty() {
        let (_directory, store) = store();
        assert_eq!(store.list(Kind::Config).unwrap(), []);
        fs::remove_dir(store.root.join("snapshots")).unwrap();
        assert!(store.list(Kind::Snapshot).unwrap_err().is_absent());
    }

    #[test]
    fn the_second_config_is_refused() {
        let (_directory, store) = store();
        store.write(Kind::Config, &Id::default(), &[Bytes::from_static(b"first")]).unwrap();
        store.write(Kind::Config, &Id::default(), &[Bytes::from_static(b"second")]).unwrap_err();
        assert_eq!(store.read(Kind::Config, &Id::default()).unwrap(), "first");
        assert_eq!(fs::read_dir(&store.root).unwrap().count(), 6);
    }

    #[test]
    fn only_abandoned_temporaries_are_swept() {
        let (_directory, store) = store();
        let [old, new] = ["old", "new"].map(|name| store.root.join("data").join(format!("{name}-tmp-1")));
        for path in [&old, &new] {
            fs::write(path, "x").unwrap();
        }
        let long_ago = std::time::SystemTime::now() - 2 * ABANDONED;
        File::options().write(true).open(&old).unwrap().set_modified(long_ago).unwrap();
        store.sweep().unwrap();
        assert_eq!((old.exists(), new.exists()), (false, true));
    }
}
