//! What a watcher of a pass is told while it runs: the terminal, or a client of the local door.

use serde::{Deserialize, Serialize};

use crate::model::report::ErrorReport;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "kebab-case")]
pub enum Finished {
    Done,
    Failed { error: ErrorReport },
    Blocked { by: String },
}

/// Receives events. Must not block for long: the pass waits for it.
pub trait Events: Send + Sync {
    fn event(&self, event: Event);
}

/// Receives and drops.
pub struct Silent;

impl Events for Silent {
    fn event(&self, _: Event) {}
}

impl<E: Events + ?Sized> Events for std::sync::Arc<E> {
    fn event(&self, event: Event) {
        (**self).event(event);
    }
}
