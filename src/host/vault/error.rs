//! What the child answers when it could not do its work, and how it reaches the parent.

use std::error::Error;
use std::io;
use std::path::PathBuf;

use rustic_core::RusticError;
use serde::{Deserialize, Serialize};

use super::store::{StoreError, StoreFault};
use crate::host::PortError;

/// An act on a repository that failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum VaultError {
    #[error("the request cannot be read")]
    Request(#[source] io::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("cannot {act}: {text}")]
    Library { act: &'static str, text: String },
    #[error("no key of the repository `{0}` opens with this recovery key")]
    WrongKey(String),
    #[error("there is no repository at `{0}`")]
    NoRepository(String),
    #[error("`{file}` of the repository is damaged: {what}")]
    Damaged { file: String, what: String },
    #[error("{} of what is to be saved cannot be read: {}", .0.len(), first(.0))]
    Source(Vec<(PathBuf, String)>),
    #[error("cannot write `{}`", .0.display())]
    Target(PathBuf, #[source] io::Error),
    #[error("there is no `{path}` in the snapshot {snapshot}")]
    NoPath { snapshot: String, path: String },
    #[error("there is no snapshot {0}")]
    NoSnapshot(String),
    #[error("the repository is in use by restic: {0}")]
    InUse(String),
    #[error("the key {0} is the one in use")]
    KeyInUse(String),
}

fn first(faults: &[(PathBuf, String)]) -> String {
    let told: Vec<_> = faults.iter().take(3).map(|(path, what)| format!("`{}`: {what}", path.display())).collect();
    let more = if faults.len() > told.len() { ", …" } else { "" };
    told.join(", ") + more
}

impl VaultError {
    /// What the library says, or what our store told it.
    pub fn library(act: &'static str) -> impl FnOnce(Box<RusticError>) -> Self {
        move |error| {
            let mut source = error.source();
            while let Some(cause) = source {
                if let Some(ours) = cause.downcast_ref::<StoreError>() {
                    return Self::Library { act, text: ours.to_string() }.or_store(ours);
                }
                source = cause.source();
            }
            Self::Library { act, text: error.display_log() }
        }
    }

    /// The store's own error, whose kind is known, instead of the library's text.
    fn or_store(self, ours: &StoreError) -> Self {
        let fault = match &ours.fault {
            StoreFault::Absent => StoreFault::Absent,
            StoreFault::Length { found, wanted } => StoreFault::Length { found: *found, wanted: *wanted },
            StoreFault::Full => StoreFault::Full,
            StoreFault::ReadOnly => StoreFault::ReadOnly,
            StoreFault::Forbidden(text) => StoreFault::Forbidden(text.clone()),
            StoreFault::Stranger(text) => StoreFault::Stranger(text.clone()),
            StoreFault::Certificate(text) => StoreFault::Certificate(text.clone()),
            StoreFault::Unreachable(text) => StoreFault::Unreachable(text.clone()),
            StoreFault::Other(_) => return self,
        };
        Self::Store(StoreError::new(ours.act, ours.file.clone(), fault))
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Store(StoreError { fault, .. }) => match fault {
                StoreFault::Absent | StoreFault::Length { .. } => "vault.damaged",
                StoreFault::Full => "vault.full",
                StoreFault::ReadOnly => "vault.read-only",
                StoreFault::Forbidden(_) => "vault.forbidden",
                StoreFault::Stranger(_) => "vault.host-key",
                StoreFault::Certificate(_) => "vault.certificate",
                StoreFault::Unreachable(_) => "vault.unreachable",
                StoreFault::Other(_) => "vault.store",
            },
            Self::WrongKey(_) => "vault.wrong-key",
            Self::NoRepository(_) => "vault.no-repository",
            Self::Damaged { .. } => "vault.damaged",
            Self::Source(_) => "vault.source",
            Self::Target(_, error) if error.kind() == io::ErrorKind::StorageFull => "vault.target-full",
            Self::Target(..) => "vault.target",
            Self::NoPath { .. } => "vault.no-such-path",
            Self::NoSnapshot(_) => "vault.no-snapshot",
            Self::InUse(_) => "vault.in-use",
            Self::KeyInUse(_) => "vault.key-in-use",
            Self::Library { .. } => "vault.library",
            Self::Request(_) => "vault.child",
        }
    }

    fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Damaged { .. } => Some("`socle agent backup check` names all that is damaged"),
            Self::Store(error) if error.is_absent() => Some("`socle agent backup check` names all that is damaged"),
            Self::Store(StoreError { fault: StoreFault::Stranger(_), .. }) => {
                Some("ask whoever runs it whether its key was changed; only then change `host_keys`")
            }
            Self::Store(StoreError { fault: StoreFault::Certificate(_), .. }) => {
                Some("if an authority of your own signed it, name its certificate: `roots = \"/etc/socle/…\"`")
            }
            Self::Store(StoreError { fault: StoreFault::ReadOnly, .. }) => {
                Some("if the storage only takes, who may delete brings it along: `--credentials FILE`")
            }
            Self::WrongKey(_) => Some("`socle agent backup key` lists the keys of a repository"),
            Self::NoSnapshot(_) => Some("`socle agent backup list` shows the snapshots there are"),
            _ => None,
        }
    }

    /// Whether the same act may succeed later by itself.
    fn is_retryable(&self) -> bool {
        match self {
            Self::Store(error) => matches!(error.fault, StoreFault::Unreachable(_)),
            Self::InUse(_) => true,
            Self::Request(_)
            | Self::Library { .. }
            | Self::WrongKey(_)
            | Self::NoRepository(_)
            | Self::Damaged { .. }
            | Self::Source(_)
            | Self::Target(..)
            | Self::NoPath { .. }
            | Self::NoSnapshot(_)
            | Self::KeyInUse(_) => false,
        }
    }
}

/// A [`VaultError`] on its way to the parent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Failure {
    pub code: String,
    pub message: String,
    pub hint: Option<String>,
    pub retryable: bool,
    pub causes: Vec<String>,
}

/// The codes a child may answer; see [`super::Vault`].
const CODES: [&str; 19] = [
    "vault.certificate",
    "vault.forbidden",
    "vault.host-key",
    "vault.unreachable",
    "vault.wrong-key",
    "vault.no-repository",
    "vault.damaged",
    "vault.read-only",
    "vault.full",
    "vault.source",
    "vault.child",
    "vault.store",
    "vault.target",
    "vault.target-full",
    "vault.no-snapshot",
    "vault.no-such-path",
    "vault.in-use",
    "vault.key-in-use",
    "vault.library",
];

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Causes(String);

impl Failure {
    pub fn of(error: &VaultError) -> Self {
        let causes = std::iter::successors(error.source(), |cause| (*cause).source());
        Self {
            code: error.code().to_owned(),
            message: error.to_string(),
            hint: error.hint().map(str::to_owned),
            retryable: error.is_retryable(),
            causes: causes.map(ToString::to_string).collect(),
        }
    }

    pub fn into_port(self) -> PortError {
        let code = CODES.iter().find(|code| **code == self.code).unwrap_or(&"vault.child");
        let mut error = PortError::new(code, self.message);
        error.hint = self.hint;
        error.retryable = self.retryable;
        if !self.causes.is_empty() {
            error = error.because(Causes(self.causes.join(": ")));
        }
        error
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stores_error_is_found_in_the_librarys() {
        let store = StoreError::new("write", "data/ab/abcd", StoreFault::Full);
        let library = RusticError::with_source(rustic_core::ErrorKind::Backend, "cannot", store);
        let error = VaultError::library("save")(library);
        let port = Failure::of(&error).into_port();
        assert_eq!((port.code, port.retryable), ("vault.full", false));
        assert_eq!(port.message, "cannot write `data/ab/abcd`: the storage is full");
    }

    #[test]
    fn every_code_reaches_the_parent() {
        let io = || io::Error::from(io::ErrorKind::StorageFull);
        let fault = |fault| VaultError::Store(StoreError::new("read", "index/ab", fault));
        let all = [
            VaultError::Request(io()),
            fault(StoreFault::Absent),
            fault(StoreFault::Full),
            fault(StoreFault::ReadOnly),
            fault(StoreFault::Forbidden("x".into())),
            fault(StoreFault::Stranger("x".into())),
            fault(StoreFault::Certificate("x".into())),
            fault(StoreFault::Unreachable("x".into())),
            fault(StoreFault::Other("x".into())),
            VaultError::Library { act: "save", text: "x".into() },
            VaultError::WrongKey("x".into()),
            VaultError::NoRepository("x".into()),
            VaultError::Source(vec![("/x".into(), "y".into())]),
            VaultError::Target("/x".into(), io()),
            VaultError::Target("/x".into(), io::ErrorKind::NotADirectory.into()),
            VaultError::NoPath { snapshot: "x".into(), path: "y".into() },
            VaultError::NoSnapshot("x".into()),
            VaultError::InUse("x".into()),
            VaultError::KeyInUse("x".into()),
        ];
        let reached: std::collections::BTreeSet<_> =
            all.iter().map(|error| Failure::of(error).into_port()).map(|port| port.code).collect();
        assert_eq!(reached, CODES.into_iter().collect());
    }
}
