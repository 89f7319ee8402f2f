//! Where the files of a repository are kept.
//!
//! A store holds files by kind and name and knows nothing of what is in them. One that was written is whole and
//! stays after a loss of power: a store that cannot promise that does not write.

mod bridge;
mod error;
mod http;
mod kept;
mod local;
mod rest;
mod s3;
mod sftp;

use bytes::Bytes;
pub use rustic_core::Id;

pub(super) use bridge::{Bridge, Pacer};
pub(super) use error::{StoreError, StoreFault};
pub(super) use kept::KeptStore;
pub(super) use local::LocalStore;
pub(super) use rest::RestStore;
pub(super) use s3::{S3Place, S3Store};
pub(super) use sftp::{SftpPlace, SftpStore};

/// The kinds of files of restic's repository
/// (<https://restic.readthedocs.io/en/stable/100_references.html#repository-layout>).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// One, whose name is no hash; given here as [`Id::default`].
    Config,
    Key,
    Index,
    Snapshot,
    Pack,
    /// Written by restic while it works; we only read them.
    Lock,
}

impl Kind {
    pub const fn directory(self) -> &'static str {
        match self {
            Kind::Config => "config",
            Kind::Key => "keys",
            Kind::Index => "index",
            Kind::Snapshot => "snapshots",
            Kind::Pack => "data",
            Kind::Lock => "locks",
        }
    }

    /// The file as restic names it, for a message and for a path below the repository.
    pub fn path(self, id: &Id) -> String {
        let name = id.to_hex();
        match self {
            Kind::Config => "config".to_owned(),
            Kind::Pack => format!("data/{}/{}", &name.as_str()[..2], name.as_str()),
            _ => format!("{}/{}", self.directory(), name.as_str()),
        }
    }
}

/// Files by kind and name. Every method may be called from several threads.
pub trait Store: Send + Sync + 'static {
    /// For messages; without credentials.
    fn name(&self) -> String;
    /// Makes the directories of an empty repository; those that are there stay.
    fn make(&self) -> Result<(), StoreError>;
    /// Names and lengths. What is not there is an empty list only where it may be so: a store that cannot be
    /// looked into is an error.
    fn list(&self, kind: Kind) -> Result<Vec<(Id, u64)>, StoreError>;
    fn read(&self, kind: Kind, id: &Id) -> Result<Bytes, StoreError>;
    /// Exactly `length` bytes from `offset`; fewer there are is an error.
    fn read_part(&self, kind: Kind, id: &Id, offset: u64, length: usize) -> Result<Bytes, StoreError>;
    /// All of it or nothing. A config that is there is not replaced.
    fn write(&self, kind: Kind, id: &Id, content: &[Bytes]) -> Result<(), StoreError>;
    /// That it was not there is fine.
    fn remove(&self, kind: Kind, id: &Id) -> Result<(), StoreError>;
    /// Removes what interrupted writers left.
    fn sweep(&self) -> Result<(), StoreError> {
        Ok(())
    }
}
