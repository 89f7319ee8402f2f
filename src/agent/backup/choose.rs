//! Which snapshot is meant, and what it says of itself.

use std::collections::BTreeMap;
use std::path::Path;

use jiff::Timestamp;

use super::BackupError;
use super::content::{self, FORM, MANIFEST, Manifest};
use crate::agent::reconcile::Agent;
use crate::host::vault::{Access, Snapshot, SnapshotId};
use crate::model::Name;

impl Agent {
    /// The newest snapshot of each instance.
    pub(super) async fn newest_of_each(
        &self,
        from: &(String, Access),
    ) -> Result<BTreeMap<Name, Snapshot>, BackupError> {
        let mut newest = BTreeMap::new();
        // Oldest first, so the last one stays.
        for snapshot in self.vault.snapshots(&from.1).await? {
            if let Some(name) = content::instance_of(&snapshot.tags) {
                newest.insert(name, snapshot);
            }
        }
        Ok(newest)
    }

    pub(super) async fn snapshot(
        &self,
        repository: &str,
        access: &Access,
        name: &Name,
        at: Option<&str>,
    ) -> Result<Snapshot, BackupError> {
        let tag = content::tag(name);
        let all = self.vault.snapshots(access).await?;
        let all: Vec<Snapshot> = all.into_iter().filter(|snapshot| snapshot.tags.contains(&tag)).collect();
        let missing = || BackupError::NoSnapshot {
            repository: repository.to_owned(),
            instance: name.clone(),
            at: at.map(str::to_owned),
        };
        choose(&all, at).map_err(|choice| match choice {
            Choice::None => missing(),
            Choice::Many => BackupError::Ambiguous { instance: name.clone(), at: at.unwrap_or_default().to_owned() },
        })
    }

    pub(super) async fn manifest(&self, access: &Access, snapshot: &Snapshot) -> Result<Manifest, BackupError> {
        let text = self.text(access, &snapshot.id, MANIFEST).await?;
        let foreign = |source| BackupError::Foreign { id: snapshot.id.0.clone(), source };
        let manifest: Manifest = serde_json::from_str(&text).map_err(|error| foreign(Some(error)))?;
        if manifest.form == FORM { Ok(manifest) } else { Err(foreign(None)) }
    }

    /// A small file of a snapshot.
    pub(super) async fn text(&self, access: &Access, snapshot: &SnapshotId, path: &str) -> Result<String, BackupError> {
        use std::io::{Read, Seek};
        let staging = |source| BackupError::Stage { path: self.state.clone(), source };
        let mut file = tempfile::tempfile_in(&self.state).map_err(staging)?;
        let copy = file.try_clone().map_err(staging)?;
        self.vault.read(access, snapshot, Path::new(path), copy).await?;
        let mut text = String::new();
        file.rewind().and_then(|()| file.take(16 << 20).read_to_string(&mut text)).map_err(staging)?;
        Ok(text)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Choice {
    None,
    Many,
}

/// The newest; the newest that is not after a moment; or the one whose identifier begins so.
fn choose(all: &[Snapshot], at: Option<&str>) -> Result<Snapshot, Choice> {
    let newest = |until: Option<Timestamp>| {
        let in_time = all.iter().filter(|snapshot| until.is_none_or(|until| snapshot.at <= until));
        in_time.max_by_key(|snapshot| snapshot.at).cloned().ok_or(Choice::None)
    };
    let Some(at) = at else { return newest(None) };
    if let Ok(moment) = at.parse::<Timestamp>() {
        return newest(Some(moment));
    }
    let mut meant = all.iter().filter(|snapshot| at.len() >= 4 && snapshot.id.0.starts_with(at));
    match (meant.next(), meant.next()) {
        (Some(one), None) => Ok(one.clone()),
        (Some(_), Some(_)) => Err(Choice::Many),
        (None, _) => Err(Choice::None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(id: &str, at: &str) -> Snapshot {
        let at = at.parse().unwrap();
        Snapshot {
            id: SnapshotId(id.to_owned()),
            host: String::new(),
            tags: Vec::new(),
            at,
            bytes: 0,
            files: 0,
            added: None,
        }
    }

    #[test]
    fn a_snapshot_is_meant_by_moment_or_name() {
        let all = [
            snapshot("abcd1", "2026-01-01T00:00:00Z"),
            snapshot("abcd2", "2026-01-02T00:00:00Z"),
            snapshot("ef011", "2026-01-03T00:00:00Z"),
        ];
        let id = |at: Option<&str>| choose(&all, at).map(|snapshot| snapshot.id.0);
        assert_eq!(id(None).unwrap(), "ef011");
        assert_eq!(id(Some("2026-01-02T12:00:00Z")).unwrap(), "abcd2");
        assert_eq!(id(Some("2025-01-02T12:00:00Z")), Err(Choice::None));
        assert_eq!(id(Some("abcd2")).unwrap(), "abcd2");
        assert_eq!(id(Some("abcd")), Err(Choice::Many));
        assert_eq!(id(Some("ef0")), Err(Choice::None));
        assert_eq!(choose(&[], None), Err(Choice::None));
    }
}
