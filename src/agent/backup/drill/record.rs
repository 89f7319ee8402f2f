//! What is known of drills, beside the record of backups: the two are written by different programs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::agent::backup::{BackupError, directory, make_private};
use crate::durable;
use crate::host::vault::SnapshotId;
use crate::model::Name;
use crate::model::backup::DrillStanding;
use crate::model::report::ErrorReport;

/// The last drill of each instance from one repository.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Drills {
    #[serde(default)]
    pub of: BTreeMap<Name, Drill>,
}

/// How a drill ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drill {
    pub at: Timestamp,
    /// Of which snapshot; missing if none could be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<SnapshotId>,
    /// Until every health check had its answer, in milliseconds, without what only a drill does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rto_ms: Option<u64>,
    /// Tables whose rows were compared.
    #[serde(default)]
    pub tables: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorReport>,
}

impl Drill {
    pub fn standing(&self) -> DrillStanding {
        DrillStanding { at: self.at, rto_ms: self.rto_ms, error: self.error.clone() }
    }
}

fn path(state: &Path, repository: &Name) -> PathBuf {
    directory(state, repository).join("drills.json")
}

impl Drills {
    /// Empty before the first one.
    pub fn load(state: &Path, repository: &Name) -> Result<Self, BackupError> {
        let path = path(state, repository);
        match durable::read(&path).map_err(BackupError::Record)? {
            None => Ok(Self::default()),
            Some(bytes) => serde_json::from_slice(&bytes).map_err(|source| BackupError::DrillsDamaged { path, source }),
        }
    }

    /// There is one drill at a time, so nobody else writes.
    pub fn store(&self, state: &Path, repository: &Name) -> Result<(), BackupError> {
        make_private(&directory(state, repository))?;
        let bytes = serde_json::to_vec_pretty(self).expect("a record is plain data");
        durable::write(&path(state, repository), &bytes, 0o600).map_err(BackupError::Record)
    }

    /// Whose turn it is: the one that was never drilled, else the one drilled longest ago.
    pub fn due(&self, saved: impl IntoIterator<Item = Name>) -> Option<Name> {
        saved.into_iter().min_by_key(|name| (self.of.get(name).map(|drill| drill.at), name.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everyone_has_a_turn() {
        let name = |text: &str| text.parse::<Name>().unwrap();
        let mut drills = Drills::default();
        let all = || ["a", "b", "c"].map(name);
        let mut turns = Vec::new();
        for day in 1..=5 {
            let due = drills.due(all()).unwrap();
            let at = format!("2026-01-0{day}T00:00:00Z").parse().unwrap();
            let drill = Drill { at, snapshot: None, rto_ms: None, tables: 0, error: None };
            drills.of.insert(due.clone(), drill);
            turns.push(due.to_string());
        }
        assert_eq!(turns, ["a", "b", "c", "a", "b"]);
        assert_eq!(drills.due([]), None);
    }
}
