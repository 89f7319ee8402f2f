//! What a watcher of a pass is told while it runs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::report::ErrorReport;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// Looking at the host.
    Observing {
        resources: usize,
    },
    Planned {
        steps: usize,
    },
    Started {
        step: usize,
        of: usize,
        on: String,
        change: String,
    },
    Finished {
        step: usize,
        on: String,
        outcome: Finished,
    },
    /// A line from a long act.
    Said {
        text: String,
    },
    /// Bytes of a download.
    Bytes {
        done: u64,
        total: Option<u64>,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "result", rename_all = "kebab-case")]
pub enum Finished {
    Done,
    Failed { error: ErrorReport },
    Blocked { by: String },
}
