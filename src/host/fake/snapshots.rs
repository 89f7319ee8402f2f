//! Snapshots of files on any file system: copies.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;

use crate::host::copies::{self, CopyError};
use crate::host::{PortError, PortResult, Snapshots, Taken};

/// Takes nothing in a moment until it is told to.
#[derive(Default)]
pub struct FakeSnapshots {
    able: AtomicBool,
}

impl FakeSnapshots {
    /// From now on every directory that is there can be taken in a moment, or none.
    pub fn able(&self, able: bool) {
        self.able.store(able, Ordering::Relaxed);
    }
}

fn failed(error: CopyError) -> PortError {
    PortError::new("snapshot.failed", "cannot take or remove a snapshot of files").because(error)
}

#[async_trait]
impl Snapshots for FakeSnapshots {
    fn can(&self, directories: &[PathBuf]) -> bool {
        let able = self.able.load(Ordering::Relaxed) && !directories.is_empty();
        able && directories.iter().all(|directory| directory.is_dir())
    }

    async fn take(&self, all: &[Taken]) -> PortResult<()> {
        all.iter().try_for_each(|taken| copies::take(&taken.of, &taken.at)).map_err(failed)
    }

    async fn remove(&self, place: &Path) -> PortResult<()> {
        copies::remove(place).map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::contract;

    #[tokio::test]
    async fn keeps_the_contract() {
        let scratch = tempfile::tempdir().unwrap();
        let (whole, small) = (scratch.path().join("data"), scratch.path().join("config"));
        std::fs::create_dir(&whole).unwrap();
        std::fs::create_dir(&small).unwrap();
        let fake = FakeSnapshots::default();
        assert!(!fake.can(std::slice::from_ref(&whole)));
        fake.able(true);
        contract::snapshots(&fake, &whole, &small, &scratch.path().join("saving/home")).await;
    }
}
