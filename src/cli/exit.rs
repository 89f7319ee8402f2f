//! Exit codes, and nothing else.

use std::process::{ExitCode, Termination};

use crate::model::report::Report;

/// How the program ended. Documented in `--help`; scripts rely on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Everything is as wanted.
    Converged = 0,
    Unexpected = 1,
    /// The arguments or the document are wrong; nothing was changed.
    BadInput = 2,
    /// A plan has changes, or an apply could not bring about everything.
    NotConverged = 3,
}

impl Exit {
    pub fn of(report: &Report) -> Self {
        if report.converged { Exit::Converged } else { Exit::NotConverged }
    }
}

impl Termination for Exit {
    fn report(self) -> ExitCode {
        ExitCode::from(self as u8)
    }
}
