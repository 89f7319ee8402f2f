use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::file::{DurableError, read, sync_parent};

/// A file of lines that only grows.
pub struct Appender {
    file: File,
    path: PathBuf,
}

impl Appender {
    /// Begins an empty file (0600), replacing one of the same name.
    pub fn create(path: &Path) -> Result<Self, DurableError> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path)
            .map_err(|error| DurableError::Write(path.to_owned(), error))?;
        sync_parent(path)?;
        Ok(Self { file, path: path.to_owned() })
    }

    /// The line is on disk when this returns, and all before it. `line` must not contain a line break.
    pub fn append(&mut self, line: &str) -> Result<(), DurableError> {
        self.write(line)?;
        self.file.sync_data().map_err(|error| DurableError::Sync(self.path.clone(), error))
    }

    /// The line outlives this process, but a power cut only after the next [`Appender::append`].
    pub fn write(&mut self, line: &str) -> Result<(), DurableError> {
        debug_assert!(!line.contains('\n'));
        let mut bytes = Vec::with_capacity(line.len() + 1);
        bytes.extend_from_slice(line.as_bytes());
        bytes.push(b'\n');
        self.file.write_all(&bytes).map_err(|error| DurableError::Write(self.path.clone(), error))
    }
}

/// The whole lines of a file. A last line without its line break was torn by an interruption and is
/// left out. `None`: no such file.
pub fn read_lines(path: &Path) -> Result<Option<Vec<String>>, DurableError> {
    let Some(bytes) = read(path)? else { return Ok(None) };
    let whole = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
    Ok(Some(String::from_utf8_lossy(&bytes[..whole]).lines().map(str::to_owned).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_last_line_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        assert_eq!(read_lines(&path).unwrap(), None);
        let mut journal = Appender::create(&path).unwrap();
        journal.append("one").unwrap();
        journal.append("two").unwrap();
        std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"thr").unwrap();
        assert_eq!(read_lines(&path).unwrap().unwrap(), ["one", "two"]);
    }
}
