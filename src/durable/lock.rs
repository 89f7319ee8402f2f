use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Proof that this process alone changes the host. Released when dropped, or when the process ends
/// in whatever way (flock(2)), so there is no stale lock to judge.
pub struct HostLock {
    _file: File,
}

#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error("another socle process holds the lock: {0}")]
    Held(String),
    #[error("cannot open the lock `{0}`")]
    Open(PathBuf, #[source] io::Error),
}

impl HostLock {
    /// Takes the lock or says who has it. `me` is told to others ("socle agent apply, PID 812").
    pub fn take(path: &Path, me: &str) -> Result<Self, LockError> {
        let open = |error| LockError::Open(path.to_owned(), error);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(open)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Who holds it is a courtesy: that it is held is what counts.
                let _ = file.read_to_string(&mut holder);
                return Err(LockError::Held(holder.trim().to_owned()));
            }
            Err(std::fs::TryLockError::Error(error)) => return Err(open(error)),
        }
        // A courtesy too: on a full disk the lock is held all the same.
        let _ = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{me}"));
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holder_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let first = HostLock::take(&path, "first").unwrap();
        match HostLock::take(&path, "second") {
            Err(LockError::Held(holder)) => assert_eq!(holder, "first"),
            other => panic!("{:?}", other.err()),
        }
        drop(first);
        HostLock::take(&path, "second").unwrap();
    }
}
