//! What a store answers when it could not do its work.

use std::io;

/// An act on a file of a repository that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {act} `{file}`: {fault}")]
pub struct StoreError {
    pub act: &'static str,
    /// As restic names it: `data/ab/abcd…`.
    pub file: String,
    pub fault: StoreFault,
}

/// Why.
#[derive(Debug, thiserror::Error)]
pub enum StoreFault {
    #[error("there is none")]
    Absent,
    #[error("it is {found} bytes long, {wanted} were wanted")]
    Length { found: u64, wanted: u64 },
    #[error("the storage is full")]
    Full,
    #[error("the storage may not be written to")]
    ReadOnly,
    #[error("the storage refuses our credentials: {0}")]
    Forbidden(String),
    #[error("the server shows a key that is none of its `host_keys`: {0}")]
    Stranger(String),
    #[error("the certificate of the server is not trusted: {0}")]
    Certificate(String),
    #[error("the storage does not answer: {0}")]
    Unreachable(String),
    #[error("{0}")]
    Other(String),
}

impl StoreError {
    pub fn new(act: &'static str, file: impl Into<String>, fault: StoreFault) -> Self {
        Self { act, file: file.into(), fault }
    }

    pub fn io(act: &'static str, file: impl Into<String>, error: &io::Error) -> Self {
        use io::ErrorKind as Kind;
        let fault = match error.kind() {
            Kind::NotFound => StoreFault::Absent,
            Kind::StorageFull | Kind::QuotaExceeded | Kind::FileTooLarge => StoreFault::Full,
            Kind::ReadOnlyFilesystem => StoreFault::ReadOnly,
            Kind::PermissionDenied => StoreFault::Forbidden(error.to_string()),
            Kind::TimedOut
            | Kind::ConnectionRefused
            | Kind::ConnectionReset
            | Kind::ConnectionAborted
            | Kind::NotConnected
            | Kind::BrokenPipe
            | Kind::HostUnreachable
            | Kind::NetworkUnreachable
            | Kind::StaleNetworkFileHandle => StoreFault::Unreachable(error.to_string()),
            _ => StoreFault::Other(error.to_string()),
        };
        Self::new(act, file, fault)
    }

    pub fn is_absent(&self) -> bool {
        matches!(self.fault, StoreFault::Absent)
    }
}
