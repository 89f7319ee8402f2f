//! The files of HTTP-01, where the web server reads them.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use jiff::{SignedDuration, Timestamp};

use crate::durable::{self, DurableError};

/// How the names of the files begin that are asked for before an order.
pub(super) const CHECK: &str = "check-";
/// No process that still runs needs one of its own for so long.
const ABANDONED: SignedDuration = SignedDuration::from_hours(1);

pub(super) fn write(directory: &Path, token: &str, value: &str) -> Result<(), DurableError> {
    let made = std::fs::create_dir_all(directory);
    // Whatever the umask: the web server reads there.
    let made = made.and_then(|()| std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o755)));
    made.map_err(|error| DurableError::Write(directory.to_owned(), error))?;
    durable::write(&directory.join(token), value.as_bytes(), 0o644)
}

/// Removes what killed processes left: files of their checks, and halves of files. Whole proofs are in a record, and
/// are withdrawn with their order.
pub(super) fn sweep(directory: &Path, now: Timestamp) -> Result<(), DurableError> {
    let failed = |error| DurableError::Read(directory.to_owned(), error);
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        // Halves have the names of `durable`, which begin with a dot; no token does.
        let ours = name.starts_with(CHECK) || name.starts_with('.');
        // Another process may have removed its own meanwhile.
        let Ok(seen) = entry.metadata() else { continue };
        if ours && seen.is_file() && seen.mtime() < (now - ABANDONED).as_second() {
            durable::remove(&entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_will_remove_is_swept_away_after_an_hour() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("acme");
        sweep(&path, Timestamp::UNIX_EPOCH).unwrap();
        for name in ["check-0123", ".check-4567.socle-new", ".token.socle-new", "a-token"] {
            write(&path, name, "x").unwrap();
        }
        let left = || {
            let all = std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
            all.collect::<std::collections::BTreeSet<_>>()
        };
        let written = Timestamp::from_second(std::fs::metadata(path.join("a-token")).unwrap().mtime()).unwrap();
        sweep(&path, written + SignedDuration::from_mins(59)).unwrap();
        assert_eq!(left().len(), 4, "somebody may be at work with them");
        sweep(&path, written + SignedDuration::from_mins(62)).unwrap();
        assert_eq!(left(), ["a-token".to_owned()].into());
    }
}
