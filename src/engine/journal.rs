//! What a pass started and finished. That a step was started is on disk before its effect; that it finished
//! goes there with the next step: without that word it is taken for interrupted, and looked at anyway.
//!
//! Never replayed: recovery observes and plans again. The journal only tells what was in flight when
//! something was interrupted. One file a pass; the previous one is kept.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::event::Finished;
use super::plan::Step;
use crate::durable::{Appender, DurableError, read_lines};
use crate::model::Generation;
use crate::resources::Phase;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "entry", rename_all = "kebab-case")]
pub enum Entry {
    Opened { generation: Generation, at: jiff::Timestamp, steps: usize },
    Started { step: usize, phase: Phase, on: Vec<String>, change: String },
    Finished { step: usize, outcome: Finished },
    Closed { converged: bool },
}

pub struct Journal {
    file: Appender,
}

fn line(entry: &Entry) -> String {
    serde_json::to_string(entry).expect("an entry is plain data")
}

impl Journal {
    fn path(directory: &Path) -> PathBuf {
        directory.join("journal.jsonl")
    }

    /// Begins the journal of a pass; the last one becomes `journal.previous.jsonl`.
    pub fn open(directory: &Path, opened: Entry) -> Result<Self, DurableError> {
        let path = Self::path(directory);
        match std::fs::rename(&path, directory.join("journal.previous.jsonl")) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(DurableError::Rename(path, error));
            }
            _ => {}
        }
        let mut journal = Self { file: Appender::create(&path)? };
        journal.append(&opened)?;
        Ok(journal)
    }

    pub fn started(&mut self, step: &Step) -> Result<(), DurableError> {
        self.append(&Entry::Started {
            step: step.id,
            phase: step.phase,
            on: step.on.iter().map(ToString::to_string).collect(),
            change: step.change.to_string(),
        })
    }

    pub fn finished(&mut self, step: usize, outcome: Finished) -> Result<(), DurableError> {
        self.file.write(&line(&Entry::Finished { step, outcome }))
    }

    pub fn closed(&mut self, converged: bool) -> Result<(), DurableError> {
        self.append(&Entry::Closed { converged })
    }

    fn append(&mut self, entry: &Entry) -> Result<(), DurableError> {
        self.file.append(&line(entry))
    }

    /// What the last pass had started and not finished when it was interrupted.
    pub fn interrupted(directory: &Path) -> Result<Vec<String>, DurableError> {
        let mut open = Vec::new();
        for line in read_lines(&Self::path(directory))?.unwrap_or_default() {
            match serde_json::from_str(&line) {
                Ok(Entry::Started { step, on, change, .. }) => {
                    open.push((step, format!("{}: {change}", on.join(", "))))
                }
                Ok(Entry::Finished { step, .. }) => open.retain(|(started, _)| *started != step),
                // Of another version of socle: nothing can be said of it, nothing depends on it.
                Ok(Entry::Opened { .. } | Entry::Closed { .. }) | Err(_) => {}
            }
        }
        Ok(open.into_iter().map(|(_, what)| what).collect())
    }
}
