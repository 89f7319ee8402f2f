//! A [`Store`] as `rustic_core` wants its backends, and what it may not do with it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustic_core::{BytesList, ErrorKind, FileType, ReadBackend, RusticError, RusticResult, WriteBackend};

use super::{Id, Kind, Store, StoreError, StoreFault};
use crate::host::vault::Pace;

/// Bytes a second, as the order of what waits.
pub struct Pacer {
    rate: Option<u64>,
    free_at: Mutex<Option<Instant>>,
}

impl Pacer {
    pub fn new(rate: Option<u64>) -> Self {
        Self { rate, free_at: Mutex::new(None) }
    }

    /// Returns when `bytes` more may have gone.
    #[expect(clippy::disallowed_methods, reason = "the wait is what is asked for")]
    pub fn pass(&self, bytes: usize) {
        let Some(rate) = self.rate.filter(|rate| *rate > 0) else { return };
        let now = Instant::now();
        let until = {
            let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
            let start = free_at.map_or(now, |at| at.max(now));
            let until = start + Duration::from_secs_f64(bytes as f64 / rate as f64);
            *free_at = Some(until);
            until
        };
        std::thread::sleep(until.saturating_duration_since(now));
    }
}

pub struct Bridge {
    store: Arc<dyn Store>,
    /// The config is made once and never written again.
    config: bool,
    up: Pacer,
    down: Pacer,
}

impl Bridge {
    pub fn new(store: Arc<dyn Store>, pace: Pace) -> Self {
        Self { store, config: false, up: Pacer::new(pace.up), down: Pacer::new(pace.down) }
    }

    /// For the making of a repository.
    pub fn with_config(mut self) -> Self {
        self.config = true;
        self
    }
}

impl ReadBackend for Bridge {
    fn location(&self) -> String {
        self.store.name()
    }

    fn list_with_size(&self, tpe: FileType) -> RusticResult<Vec<(Id, u32)>> {
        let listed = self.store.list(kind(tpe)).map_err(foreign)?;
        // The format knows no file of 4 GiB: one that is so long is not what it says it is.
        Ok(listed.into_iter().map(|(id, length)| (id, u32::try_from(length).unwrap_or(u32::MAX))).collect())
    }

    fn read_full(&self, tpe: FileType, id: &Id) -> RusticResult<Bytes> {
        let bytes = self.store.read(kind(tpe), id).map_err(foreign)?;
        self.down.pass(bytes.len());
        Ok(bytes)
    }

    fn read_partial(&self, tpe: FileType, id: &Id, _: bool, offset: u32, length: u32) -> RusticResult<Bytes> {
        self.down.pass(length as usize);
        self.store.read_part(kind(tpe), id, u64::from(offset), length as usize).map_err(foreign)
    }

    fn warmup_path(&self, tpe: FileType, id: &Id) -> String {
        kind(tpe).path(id)
    }
}

impl WriteBackend for Bridge {
    fn create(&self) -> RusticResult<()> {
        self.store.make().map_err(foreign)
    }

    fn write_bytes(&self, tpe: FileType, id: &Id, _: bool, content: BytesList) -> RusticResult<()> {
        let kind = kind(tpe);
        let refuse = |why: &str| Err(foreign(StoreError::new("write", kind.path(id), StoreFault::Other(why.into()))));
        if kind == Kind::Config && !self.config {
            return refuse("the config of a repository is not changed");
        }
        self.up.pass(content.size());
        self.store.write(kind, id, content.slice()).map_err(foreign)
    }

    fn remove(&self, tpe: FileType, id: &Id, _: bool) -> RusticResult<()> {
        self.store.remove(kind(tpe), id).map_err(foreign)
    }
}

fn kind(tpe: FileType) -> Kind {
    match tpe {
        FileType::Config => Kind::Config,
        FileType::Index => Kind::Index,
        FileType::Key => Kind::Key,
        FileType::Snapshot => Kind::Snapshot,
        FileType::Pack => Kind::Pack,
    }
}

/// Found again by its type in the chain of sources.
fn foreign(error: StoreError) -> Box<RusticError> {
    RusticError::with_source(ErrorKind::Backend, error.to_string(), error)
}
