//! Dumps on their way from a snapshot to a database.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::BackupError;
use crate::agent::reconcile::Agent;
use crate::durable;
use crate::host::sql::scan;
use crate::host::vault::{Access, SnapshotId};
use crate::model::Digest;
use crate::model::document::Engine;

impl Agent {
    pub(super) async fn staged_dump(
        &self,
        access: &Access,
        snapshot: &SnapshotId,
        from: &Path,
        to: &str,
        (engine, (was, now)): (Engine, (String, String)),
    ) -> Result<Digest, BackupError> {
        let path = self.host.path(to);
        let staging = |source| BackupError::Stage { path: path.clone(), source };
        let part = path.with_extension("part");
        let file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&part).map_err(staging)?;
        self.vault.read(access, snapshot, from, file).await?;
        let part = if was == now { part } else { self.for_other_role(engine, part, was, now).await? };
        let digest = Digest::from_hasher(hash(&part).map_err(staging)?);
        durable::put_in_place(&part, &path).map_err(BackupError::Record)?;
        Ok(digest)
    }

    /// A dump of one role's becomes one of another's.
    async fn for_other_role(
        &self,
        engine: Engine,
        part: PathBuf,
        was: String,
        now: String,
    ) -> Result<PathBuf, BackupError> {
        let other = part.with_extension("other");
        let staging = |source| BackupError::Stage { path: other.clone(), source };
        let options = || File::options().write(true).create(true).truncate(true).mode(0o600).open(&other);
        let mut to = options().map_err(staging)?;
        let from = part.clone();
        let copying = move || {
            scan::for_other_role(engine, &from, &mut to, &was, &now)?;
            to.sync_all()
        };
        let copied = tokio::task::spawn_blocking(copying).await.expect("copying does not panic");
        copied.map_err(staging)?;
        durable::remove(&part).map_err(BackupError::Record)?;
        Ok(other)
    }
}

fn hash(path: &Path) -> std::io::Result<sha2::Sha256> {
    use sha2::Digest as _;
    use std::io::Read;
    let mut file = File::open(path)?;
    let mut hasher = sha2::Sha256::new();
    let mut piece = vec![0; 1 << 16];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(hasher),
            read => hasher.update(&piece[..read]),
        }
    }
}
