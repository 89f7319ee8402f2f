//! What is taken out of a repository: snapshots that no rule keeps, and then the data that no snapshot needs.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Serialize;

use super::run::server;
use super::{BackupError, Brought, Record, content, keep};
use crate::agent::reconcile::Agent;
use crate::host::vault::{Access, Depth, Pruned, Snapshot};
use crate::model::document::{Document, Keep, Repository};
use crate::model::{Name, Secret};

/// Packs are deleted only this long after they were marked: longer than any backup of another server to the same
/// repository takes.
pub(super) const PRUNE_KEEPS: Duration = Duration::from_secs(48 * 3600);

/// What was taken out of a repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tidied {
    pub repository: Name,
    /// Snapshots that no rule keeps any more.
    pub forgotten: usize,
    #[serde(flatten)]
    pub pruned: Pruned,
}

impl Agent {
    /// Lets go what no rule keeps, and gives its room back: packs are marked first, and deleted two days later.
    /// Where this server deletes nothing, only with what was brought by somebody who may.
    pub async fn prune_backup(
        &self,
        name: &Name,
        repository: &Repository,
        brought: Option<&Brought>,
    ) -> Result<Tidied, BackupError> {
        if repository.append_only && brought.is_none() {
            return Err(BackupError::AppendOnly(name.clone()));
        }
        let _lock = self.backup_lock(name)?;
        let access = self.access_by(name, repository, brought)?;
        let mut record = Record::load(&self.state, name)?;
        let tidied = self.tidy((name, repository), access, &server(self, &self.document()?)).await?;
        record.pruned_at = Some((self.now)());
        record.store(&self.state, name)?;
        Ok(tidied)
    }

    /// The same for another server, by a document of its owner's: whoever has broken into that server has no say in
    /// what is kept, and sees no credential that may delete.
    pub async fn prune_for(
        &self,
        document: &Document,
        name: &Name,
        password: Secret,
        brought: Option<&Brought>,
    ) -> Result<Tidied, BackupError> {
        let repository =
            document.repositories.get(name).ok_or_else(|| BackupError::NoRepository(Some(name.clone())))?;
        let server = document.server.name.as_ref().ok_or(BackupError::NoServer)?;
        super::make_private(&self.state)?;
        let access = self.access_with(name, repository, password, brought)?;
        self.tidy((name, repository), access, server.as_str()).await
    }

    async fn tidy(
        &self,
        (name, repository): (&Name, &Repository),
        access: Access,
        server: &str,
    ) -> Result<Tidied, BackupError> {
        let access = Access { append_only: false, ..access };
        let tidied = async {
            let checked = self.vault.check(&access, Depth::Structure, &*self.host.progress).await?;
            if !checked.damage.is_empty() {
                return Err(BackupError::Damaged(name.clone()));
            }
            let forgotten = self.let_go(&access, &repository.keep, server).await?;
            let pruned = self.vault.prune(&access, PRUNE_KEEPS, &*self.host.progress).await?;
            Ok(Tidied { repository: name.clone(), forgotten, pruned })
        };
        tidied.await.map_err(|error: BackupError| error.of(name, repository))
    }

    /// Forgets what no rule keeps, of one server only, each instance for itself; and what a backup read ahead.
    pub(super) async fn let_go(&self, access: &Access, rules: &Keep, server: &str) -> Result<usize, BackupError> {
        let all = self.vault.snapshots(access).await?;
        let mut unneeded = Vec::new();
        let mine = |snapshot: &&Snapshot| snapshot.host == server;
        let instances: BTreeSet<Name> =
            all.iter().filter(mine).filter_map(|snapshot| content::instance_of(&snapshot.tags)).collect();
        for instance in instances {
            let tag = content::tag(&instance);
            let of_it: Vec<&Snapshot> =
                all.iter().filter(mine).filter(|snapshot| snapshot.tags.contains(&tag)).collect();
            let known: Vec<_> = of_it.iter().map(|snapshot| (snapshot.at, &snapshot.tags[..])).collect();
            unneeded.extend(keep::unneeded(&known, rules).into_iter().map(|at| of_it[at].id.clone()));
        }
        let forgotten = unneeded.len();
        unneeded
            .extend(all.iter().filter(mine).filter(|one| content::is_unfinished(&one.tags)).map(|one| one.id.clone()));
        if !unneeded.is_empty() {
            self.vault.forget(access, &unneeded).await?;
        }
        Ok(forgotten)
    }
}
