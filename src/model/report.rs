//! What a pass found and did, for people and for programs. The same type goes to the terminal, to
//! `--json` and (later) to the controller.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::backup::BackupStanding;
use super::certificate::Standing;
use super::{Generation, ResourceId};

/// An error as it leaves the program: a stable code, a sentence, its causes, and an act.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorReport {
    /// Stable, for grouping and tests: `package.unknown`, `service.start` …
    pub code: String,
    pub message: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl ErrorReport {
    /// The error and its chain of sources as text. Display of an error must not repeat its source.
    pub fn of(code: &str, error: &(dyn std::error::Error + 'static), hint: Option<String>) -> Self {
        let mut causes = Vec::new();
        let mut source = error.source();
        while let Some(cause) = source {
            causes.push(cause.to_string());
            source = cause.source();
        }
        Self { code: code.to_owned(), message: error.to_string(), causes, hint }
    }
}

impl std::fmt::Display for ErrorReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)?;
        self.causes.iter().try_for_each(|cause| write!(f, ": {cause}"))
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "status", rename_all = "kebab-case")]
pub enum Status {
    /// Looked at, and as wanted.
    InSync,
    /// Changed in this pass, and as wanted now.
    Changed {
        changes: Vec<String>,
    },
    /// In a plan: would be changed.
    Pending {
        changes: Vec<String>,
    },
    Failed {
        change: String,
        error: ErrorReport,
    },
    /// Not tried, because a step it needs failed or was refused.
    Blocked {
        by: ResourceId,
    },
    /// Will not be done, and why.
    Refused {
        error: ErrorReport,
    },
    /// Could not be looked at.
    Unknown {
        error: ErrorReport,
    },
}

impl Status {
    /// Not as wanted.
    pub fn is_bad(&self) -> bool {
        !matches!(self, Status::InSync | Status::Changed { .. })
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Status::InSync => f.write_str("as wanted"),
            Status::Changed { changes } => write!(f, "changed: {}", changes.join("; ")),
            Status::Pending { changes } => write!(f, "still to do: {}", changes.join("; ")),
            Status::Failed { change, error } => write!(f, "{change} failed: {error}"),
            Status::Blocked { by } => write!(f, "waits for {by}"),
            Status::Refused { error } => write!(f, "refused: {error}"),
            Status::Unknown { error } => write!(f, "could not be looked at: {error}"),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Line {
    pub resource: ResourceId,
    /// The instance it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    #[serde(flatten)]
    pub status: Status,
}

/// The outcome of a pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    pub generation: Generation,
    pub converged: bool,
    /// Acts the pass decided by itself (a release condemned, a last good form brought back).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    pub lines: Vec<Line>,
    /// How the certificates stood after the pass.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub certificates: Vec<Standing>,
    /// How the backups stood after the pass.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub backups: Vec<BackupStanding>,
    pub duration_ms: u64,
}
