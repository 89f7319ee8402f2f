//! How backups stand, as it is told.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Name;
use super::report::ErrorReport;

/// The backups of one instance in one repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BackupStanding {
    pub instance: Name,
    pub repository: Name,
    /// When the last one was made that was read back. Missing: there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub good_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// No good one is as young as promised.
    pub overdue: bool,
    /// Files of the repository that were found damaged when it was read back last.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub damaged: usize,
    /// Why the last try failed, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<ErrorReport>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde asks")]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

impl BackupStanding {
    /// Nothing to be done by anybody.
    pub fn is_well(&self) -> bool {
        self.good_at.is_some() && !self.overdue && self.damaged == 0 && self.last_error.is_none()
    }

    /// What is wrong, in words; none: nothing, or it is only that the first one is still to come.
    pub fn problem(&self) -> Option<String> {
        let repository = &self.repository;
        if self.damaged > 0 {
            return Some(format!("the repository `{repository}` is damaged ({} files)", self.damaged));
        }
        if let Some(error) = &self.last_error {
            return Some(format!("the last backup to `{repository}` failed: {error}"));
        }
        self.overdue.then(|| format!("no backup in `{repository}` is as young as promised"))
    }
}
