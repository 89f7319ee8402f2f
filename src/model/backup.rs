//! How backups stand, as it is told.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Name;
use super::report::ErrorReport;

/// What a drill restores into. No instance and no database of a document may be called so.
pub const SCRATCH: &str = "socle-drill";

/// The tag that every snapshot of ours carries.
pub const TAG: &str = "socle";

/// One that somebody may give a snapshot besides ours. Those with a colon are no names.
pub fn is_free_tag(tag: &Name) -> bool {
    tag.as_str() != TAG
}

/// A rehearsed restore.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DrillStanding {
    #[schemars(with = "String")]
    pub at: Timestamp,
    /// From the beginning until every health check had its answer, in milliseconds: the time a restore takes. Missing:
    /// it never came so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rto_ms: Option<u64>,
    /// Why it failed, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorReport>,
}

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
    /// The last drill, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drill: Option<DrillStanding>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde asks")]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

impl BackupStanding {
    /// Nothing to be done by anybody.
    pub fn is_well(&self) -> bool {
        self.good_at.is_some()
            && !self.overdue
            && self.damaged == 0
            && self.last_error.is_none()
            && !self.drill_failed()
    }

    /// The last drill found that a restore does not work.
    pub fn drill_failed(&self) -> bool {
        self.drill.as_ref().is_some_and(|drill| drill.error.is_some())
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
        if let Some(error) = self.drill.as_ref().and_then(|drill| drill.error.as_ref()) {
            return Some(format!("the last drill of `{}` from `{repository}` failed: {error}", self.instance));
        }
        self.overdue.then(|| format!("no backup in `{repository}` is as young as promised"))
    }
}
