//! What is known of each repository: when each instance was saved last, and whether that was read back.

use std::collections::BTreeMap;
use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{BackupError, directory};
use crate::durable;
use crate::host::vault::{Damage, SnapshotId};
use crate::model::Name;
use crate::model::document::RepositoryLocation;
use crate::model::report::ErrorReport;

/// Of one repository. Kept by the agent; what is true is in the repository itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Record {
    /// Where it was when this was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<RepositoryLocation>,
    #[serde(default)]
    pub instances: BTreeMap<Name, Saved>,
    /// The last time it was looked through, and what was wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<Check>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pruned_at: Option<Timestamp>,
    /// The share of the data that is read back next.
    #[serde(default)]
    pub next_share: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Saved {
    /// The last snapshot that was read back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub good: Option<Good>,
    /// Why the last try failed, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<Failed>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Good {
    pub snapshot: SnapshotId,
    pub at: Timestamp,
    pub bytes: u64,
    pub files: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    pub at: Timestamp,
    pub error: ErrorReport,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    pub at: Timestamp,
    /// Bytes of data that were read back.
    pub read: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub damage: Vec<Damage>,
}

impl Record {
    /// An empty one if nothing was saved yet.
    pub fn load(state: &Path, repository: &Name) -> Result<Self, BackupError> {
        let path = directory(state, repository).join("record.json");
        match durable::read(&path).map_err(BackupError::Record)? {
            None => Ok(Self::default()),
            Some(bytes) => serde_json::from_slice(&bytes).map_err(|source| BackupError::RecordDamaged { path, source }),
        }
    }

    pub fn store(&self, state: &Path, repository: &Name) -> Result<(), BackupError> {
        let path = directory(state, repository).join("record.json");
        let bytes = serde_json::to_vec_pretty(self).expect("a record is plain data");
        durable::write(&path, &bytes, 0o600).map_err(BackupError::Record)
    }
}
