//! Reads the directory of a fleet into memory, as far as it may belong to one.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::controller::compose::{Files, MAX_BYTES, MAX_FILES, is_ignored};
use crate::model::problem::{Position, Problem};
use crate::model::report::ErrorReport;

#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("cannot read `{0}`")]
    Read(PathBuf, #[source] std::io::Error),
    /// No text, or a name that is none.
    #[error("{} problem(s) in the fleet's directory", .0.len())]
    Refused(Vec<Problem>),
}

impl ReadError {
    pub fn report(&self) -> ErrorReport {
        let hint = match self {
            ReadError::Read(_, error) if error.kind() == ErrorKind::PermissionDenied => {
                "make it readable for the user who runs this"
            }
            _ => "give the directory that holds `fleet.toml`",
        };
        ErrorReport::of("fleet.unreadable", self, Some(hint.to_owned()))
    }
}

/// The text of every file below `directory` that is neither hidden nor documentation. Stops reading where no
/// fleet is that large; `compose` then says so.
pub fn read(directory: &Path) -> Result<Files, ReadError> {
    let mut files = Files::new();
    let mut problems = Vec::new();
    let mut bytes = 0;
    let mut next = vec![String::new()];
    while let Some(below) = next.pop() {
        let inner = if below.is_empty() { directory.to_owned() } else { directory.join(&below) };
        let failed = |error| ReadError::Read(inner.clone(), error);
        for entry in std::fs::read_dir(&inner).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
                problems.push(problem(&path, "the name of this file is no text"));
                continue;
            };
            let relative = if below.is_empty() { name.to_owned() } else { format!("{below}/{name}") };
            if is_ignored(&relative) {
                continue;
            }
            if path.is_dir() {
                next.push(relative);
                continue;
            }
            let content = std::fs::read(&path).map_err(|error| ReadError::Read(path.clone(), error))?;
            bytes += content.len();
            match String::from_utf8(content) {
                Ok(text) => drop(files.insert(relative, text)),
                Err(_) => problems.push(problem(&path, "this file is no text (UTF-8)")),
            }
            if files.len() > MAX_FILES || bytes > MAX_BYTES {
                return Ok(files);
            }
        }
    }
    if problems.is_empty() { Ok(files) } else { Err(ReadError::Refused(problems)) }
}

/// The places of problems as paths that lead there from where the user is.
pub fn below(directory: &Path, problems: Vec<Problem>) -> Vec<Problem> {
    let place = |at: Position| Position { file: directory.join(&at.file).display().to_string(), ..at };
    problems.into_iter().map(|problem| Problem { at: place(problem.at), ..problem }).collect()
}

fn problem(path: &Path, reason: &str) -> Problem {
    let file = path.display().to_string().escape_debug().to_string();
    let hint = Some("take it out of the fleet's directory, or hide it (`.NAME`)".to_owned());
    Problem { at: Position { file, line: 1, column: 1 }, reason: reason.to_owned(), hint }
}
