//! Whether there is room for a drill, before anything of it is written.
//!
//! | where | what |
//! |---|---|
//! | `/srv/socle` | the files of the snapshot, once |
//! | `/var/lib` | its dumps, and what a database server makes of them |
//!
//! A snapshot that does not tell how long its dumps are may be all dumps, or all files.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::agent::backup::BackupError;
use crate::agent::backup::content::{Manifest, SIZES};
use crate::agent::backup::restore::RestorePlan;
use crate::agent::backup::rows::AllSizes;
use crate::agent::reconcile::Agent;
use crate::host::vault::Access;

/// For the release, and so that the server lives on.
const SPARE: u64 = 512 << 20;
/// A dump as it is read, and a database with its indexes and its log of what was written.
const OF_A_DUMP: u64 = 1 + 2;

/// Bytes, besides what is to spare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Need {
    files: u64,
    databases: u64,
}

/// `dumps`: how many of the bytes of a snapshot are those of its dumps, if it tells.
fn need(bytes: u64, dumps: Option<u64>) -> Need {
    match dumps {
        Some(dumps) => Need { files: bytes.saturating_sub(dumps), databases: dumps.saturating_mul(OF_A_DUMP) },
        None => Need { files: bytes, databases: bytes.saturating_mul(OF_A_DUMP) },
    }
}

impl Agent {
    pub(super) async fn room(
        &self,
        access: &Access,
        plan: &RestorePlan,
        manifest: &Manifest,
    ) -> Result<(), BackupError> {
        let Need { files, databases } = need(plan.bytes, self.dumps(access, plan, manifest).await?);
        let (srv, lib) = (self.host.path("/srv/socle"), self.host.path("/var/lib"));
        let (of_srv, of_lib) = (device(&srv)?, device(&lib)?);
        if of_srv == of_lib {
            return enough(srv, files.saturating_add(databases));
        }
        enough(srv, files)?;
        enough(lib, databases)
    }

    async fn dumps(
        &self,
        access: &Access,
        plan: &RestorePlan,
        manifest: &Manifest,
    ) -> Result<Option<u64>, BackupError> {
        if manifest.databases.is_empty() {
            return Ok(Some(0));
        }
        match self.text(access, &plan.snapshot, SIZES).await {
            Ok(text) => {
                let sizes: AllSizes = serde_json::from_str(&text)
                    .map_err(|source| BackupError::Foreign { id: plan.snapshot.0.clone(), source: Some(source) })?;
                Ok(Some(sizes.values().sum()))
            }
            // Made before they were told.
            Err(BackupError::Vault(error)) if error.code == "vault.no-such-path" => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn device(path: &Path) -> Result<u64, BackupError> {
    let about = std::fs::metadata(path).map_err(|source| BackupError::Stage { path: path.to_owned(), source })?;
    Ok(about.dev())
}

fn enough(path: PathBuf, needed: u64) -> Result<(), BackupError> {
    let needed = needed.saturating_add(SPARE);
    let found = rustix::fs::statvfs(&path);
    let found = found.map_err(|error| BackupError::Stage { path: path.clone(), source: error.into() })?;
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    if free < needed { Err(BackupError::NoRoom { path, needed, free }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_need_their_room_once() {
        assert_eq!(need(1000, Some(0)), Need { files: 1000, databases: 0 });
        assert_eq!(need(1000, Some(100)), Need { files: 900, databases: 300 });
        assert_eq!(need(1000, None), Need { files: 1000, databases: 3000 });
        assert_eq!(need(10, Some(20)), Need { files: 0, databases: 60 }, "of a snapshot that counts otherwise");
    }
}
