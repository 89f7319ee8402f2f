//! A repository out of which nothing is taken by us, whatever the credentials would allow.

use std::sync::Arc;

use bytes::Bytes;

use super::{Id, Kind, Store, StoreError, StoreFault};

pub struct KeptStore(pub Arc<dyn Store>);

impl Store for KeptStore {
    fn name(&self) -> String {
        self.0.name()
    }

    fn make(&self) -> Result<(), StoreError> {
        self.0.make()
    }

    fn list(&self, kind: Kind) -> Result<Vec<(Id, u64)>, StoreError> {
        self.0.list(kind)
    }

    fn read(&self, kind: Kind, id: &Id) -> Result<Bytes, StoreError> {
        self.0.read(kind, id)
    }

    fn read_part(&self, kind: Kind, id: &Id, offset: u64, length: usize) -> Result<Bytes, StoreError> {
        self.0.read_part(kind, id, offset, length)
    }

    fn write(&self, kind: Kind, id: &Id, content: &[Bytes]) -> Result<(), StoreError> {
        self.0.write(kind, id, content)
    }

    /// A lock that a dead restic left is no part of the repository: servers that only take let go of it too.
    fn remove(&self, kind: Kind, id: &Id) -> Result<(), StoreError> {
        match kind {
            Kind::Lock => self.0.remove(kind, id),
            _ => Err(StoreError::new("remove", kind.path(id), StoreFault::ReadOnly)),
        }
    }
}
