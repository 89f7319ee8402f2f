//! What went wrong beside a backup that may be good all the same: an instance that does not go on as it was.

use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use crate::model::Name;
use crate::model::report::ErrorReport;

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Trouble {
    pub instance: Name,
    pub error: ErrorReport,
}

/// Gathered on every way through a backup, those that end early too.
#[derive(Default)]
pub(super) struct Troubles(Mutex<Vec<Trouble>>);

impl Troubles {
    pub fn take(&self, more: impl IntoIterator<Item = Trouble>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(more);
    }

    pub fn all(self) -> Vec<Trouble> {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}
