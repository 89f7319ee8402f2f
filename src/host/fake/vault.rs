//! Repositories of backups in memory.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use crate::host::vault::{
    Access, Checked, Damage, Depth, KeyInfo, Location, Order, Pruned, Renamed, Restored, Saved, Snapshot, SnapshotId,
    Source, Vault,
};
use crate::host::{PortError, PortResult, Progress};
use crate::model::Secret;

/// Repositories by their directory. What was saved is kept as it was read; owners are not.
#[derive(Default)]
pub struct FakeVault {
    repositories: Mutex<BTreeMap<PathBuf, Repository>>,
}

#[derive(Default)]
struct Repository {
    keys: Vec<(String, String)>,
    snapshots: Vec<(Snapshot, BTreeMap<PathBuf, Node>)>,
    made: usize,
    damage: Vec<Damage>,
    unreachable: bool,
}

#[derive(Clone)]
enum Node {
    Directory(u32),
    File(u32, Vec<u8>),
    Link(PathBuf),
}

impl FakeVault {
    /// From now on a check finds this, and every snapshot is affected.
    pub fn damage(&self, location: &Path, file: &str) {
        let damage = Damage { file: file.to_owned(), what: "its content is not what its name says".to_owned() };
        self.lock().entry(location.to_owned()).or_default().damage.push(damage);
    }

    /// Somebody deletes all of it.
    pub fn delete(&self, location: &Path) {
        let mut all = self.lock();
        let repository = all.entry(location.to_owned()).or_default();
        (repository.keys, repository.snapshots) = (Vec::new(), Vec::new());
    }

    /// It does not answer, or answers again.
    pub fn unreachable(&self, location: &Path, unreachable: bool) {
        self.lock().entry(location.to_owned()).or_default().unreachable = unreachable;
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<PathBuf, Repository>> {
        self.repositories.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(&self, access: &Access, act: impl FnOnce(&mut Repository) -> PortResult<T>) -> PortResult<T> {
        let mut all = self.lock();
        let place = place(access);
        let repository = all.get_mut(&place).filter(|repository| repository.unreachable || !repository.keys.is_empty());
        let repository = repository.ok_or_else(|| {
            PortError::new("vault.no-repository", format!("there is no repository in `{}`", place.display()))
        })?;
        if repository.unreachable {
            let message = format!("the repository `{}` does not answer", place.display());
            return Err(PortError::new("vault.unreachable", message).retryable());
        }
        if !repository.keys.iter().any(|(_, key)| key == access.password.expose()) {
            return Err(PortError::new("vault.wrong-key", "the key does not open the repository"));
        }
        act(repository)
    }
}

fn place(access: &Access) -> PathBuf {
    match &access.location {
        Location::Directory(path) => path.clone(),
        Location::Rest { url, .. } => url.into(),
        Location::Sftp { host, path, .. } => Path::new(host).join(path.trim_start_matches('/')),
        Location::S3 { endpoint, bucket, prefix, .. } => format!("{endpoint}/{bucket}/{prefix}").into(),
    }
}

fn unreadable(path: &Path) -> impl Fn(std::io::Error) -> PortError {
    let message = format!("cannot read `{}`", path.display());
    move |error| PortError::new("vault.source", message.clone()).because(error)
}

fn read(from: &Path, at: &Path, except: &[PathBuf], nodes: &mut BTreeMap<PathBuf, Node>) -> PortResult<()> {
    if except.iter().any(|path| path == from) {
        return Ok(());
    }
    let metadata = fs::symlink_metadata(from).map_err(unreadable(from))?;
    let mode = metadata.mode() & 0o7777;
    if metadata.is_symlink() {
        nodes.insert(at.to_owned(), Node::Link(fs::read_link(from).map_err(unreadable(from))?));
    } else if metadata.is_dir() {
        nodes.insert(at.to_owned(), Node::Directory(mode));
        for entry in fs::read_dir(from).map_err(unreadable(from))? {
            let entry = entry.map_err(unreadable(from))?;
            read(&entry.path(), &at.join(entry.file_name()), except, nodes)?;
        }
    } else {
        nodes.insert(at.to_owned(), Node::File(mode, fs::read(from).map_err(unreadable(from))?));
    }
    Ok(())
}

fn no_such_path(path: &Path) -> PortError {
    PortError::new("vault.no-such-path", format!("there is no `{}` in the snapshot", path.display()))
}

impl Repository {
    fn nodes(&self, id: &SnapshotId) -> PortResult<&BTreeMap<PathBuf, Node>> {
        let found = self.snapshots.iter().find(|(snapshot, _)| snapshot.id == *id);
        found.map(|(_, nodes)| nodes).ok_or_else(|| PortError::new("vault.no-snapshot", "there is no such snapshot"))
    }
}

#[async_trait]
impl Vault for FakeVault {
    async fn make(&self, access: &Access) -> PortResult<bool> {
        let fresh = self.lock().entry(place(access)).or_default().keys.is_empty();
        if fresh {
            let key = access.password.expose().to_owned();
            self.lock().entry(place(access)).or_default().keys.push(("1".to_owned(), key));
        }
        self.with(access, |_| Ok(fresh))
    }

    async fn save(&self, access: &Access, order: Order, _: &dyn Progress) -> PortResult<Saved> {
        self.with(access, |_| Ok(()))?;
        let mut nodes = BTreeMap::new();
        let mut read_all = match order.moment {
            None => None,
            Some(moment) => {
                let given_up = || PortError::new("vault.given-up", "the backup was given up");
                Some(moment.come().await.ok_or_else(given_up)?)
            }
        };
        let (trees, others): (Vec<_>, Vec<_>) =
            order.entries.into_iter().partition(|entry| matches!(entry.from, Source::Tree { .. }));
        let count = trees.len();
        for (nth, entry) in trees.into_iter().chain(others).enumerate() {
            if nth == count {
                // Whoever waited may have gone.
                let _ = read_all.take().map(|read: tokio::sync::oneshot::Sender<()>| read.send(()));
            }
            match entry.from {
                Source::Tree { from, except } => read(&from, &entry.path, &except, &mut nodes)?,
                Source::Bytes(text) => {
                    nodes.insert(entry.path, Node::File(0o600, text.expose().as_bytes().to_vec()));
                }
                Source::Stream { from, whole } => {
                    // Whoever writes may need this thread.
                    let reading = tokio::task::spawn_blocking(move || {
                        let mut bytes = Vec::new();
                        fs::File::from(from).read_to_end(&mut bytes).map(|_| bytes)
                    });
                    let bytes = reading.await.expect("reading does not panic").map_err(unreadable(&entry.path))?;
                    let whole = whole.await.unwrap_or_else(|_| Err("nobody says so".to_owned()));
                    whole.map_err(|why| PortError::new("vault.source", format!("not whole: {why}")))?;
                    nodes.insert(entry.path, Node::File(0o600, bytes));
                }
            }
        }
        let sizes = nodes.values().filter_map(|node| match node {
            Node::File(_, bytes) => Some(bytes.len() as u64),
            Node::Link(_) => Some(0),
            Node::Directory(_) => None,
        });
        let (files, bytes) = sizes.fold((0, 0), |(files, sum), size| (files + 1, sum + size));
        self.with(access, |repository| {
            repository.made += 1;
            let snapshot = Snapshot {
                id: SnapshotId(format!("{:064x}", repository.made)),
                host: order.host,
                tags: order.tags,
                at: order.at,
                bytes,
                files,
                added: Some(bytes),
            };
            repository.snapshots.push((snapshot.clone(), nodes));
            Ok(Saved { snapshot, vanished: Vec::new() })
        })
    }

    async fn snapshots(&self, access: &Access) -> PortResult<Vec<Snapshot>> {
        self.with(access, |repository| {
            let mut all: Vec<Snapshot> = repository.snapshots.iter().map(|(snapshot, _)| snapshot.clone()).collect();
            all.sort_by_key(|snapshot| snapshot.at);
            Ok(all)
        })
    }

    async fn restore_as(
        &self,
        access: &Access,
        snapshot: &SnapshotId,
        path: &Path,
        to: &Path,
        _: &Renamed,
        _: &dyn Progress,
    ) -> PortResult<Restored> {
        let nodes = self.with(access, |repository| repository.nodes(snapshot).cloned())?;
        if !nodes.contains_key(path) {
            return Err(no_such_path(path));
        }
        let write = |error| PortError::new("vault.target", format!("cannot write `{}`", to.display())).because(error);
        fs::remove_dir_all(to).or_else(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Ok(()),
            _ => Err(write(error)),
        })?;
        let mut restored = Restored::default();
        for (at, node) in nodes.range(path.to_owned()..) {
            let Ok(below) = at.strip_prefix(path) else { continue };
            let target = if below.as_os_str().is_empty() { to.to_owned() } else { to.join(below) };
            match node {
                Node::Directory(mode) => fs::create_dir_all(&target)
                    .and_then(|()| fs::set_permissions(&target, fs::Permissions::from_mode(*mode)))
                    .map_err(write)?,
                Node::File(mode, bytes) => {
                    crate::durable::write(&target, bytes, *mode)
                        .map_err(|error| PortError::new("vault.target", "cannot write").because(error))?;
                    restored.files += 1;
                    restored.bytes += bytes.len() as u64;
                }
                Node::Link(to) => symlink(to, &target).map_err(write)?,
            }
        }
        Ok(restored)
    }

    async fn read(&self, access: &Access, snapshot: &SnapshotId, path: &Path, mut to: fs::File) -> PortResult<u64> {
        let nodes = self.with(access, |repository| repository.nodes(snapshot).cloned())?;
        let Some(Node::File(_, bytes)) = nodes.get(path) else { return Err(no_such_path(path)) };
        to.write_all(bytes).map_err(|error| PortError::new("vault.target", "cannot write").because(error))?;
        Ok(bytes.len() as u64)
    }

    async fn check(&self, access: &Access, depth: Depth, _: &dyn Progress) -> PortResult<Checked> {
        self.with(access, |repository| {
            let damage = repository.damage.clone();
            let all = repository.snapshots.iter().map(|(snapshot, _)| snapshot);
            let affected = match damage.is_empty() {
                true => Vec::new(),
                false => all.clone().map(|snapshot| snapshot.id.clone()).collect(),
            };
            let read = if depth == Depth::Structure { 0 } else { all.map(|snapshot| snapshot.bytes).sum() };
            Ok(Checked { damage, affected, read })
        })
    }

    async fn forget(&self, access: &Access, snapshots: &[SnapshotId]) -> PortResult<()> {
        self.with(access, |repository| {
            only_with_leave(access)?;
            repository.snapshots.retain(|(snapshot, _)| !snapshots.contains(&snapshot.id));
            Ok(())
        })
    }

    async fn prune(&self, access: &Access, _: Duration, _: &dyn Progress) -> PortResult<Pruned> {
        self.with(access, |_| Ok(Pruned::default()))
    }

    async fn keys(&self, access: &Access) -> PortResult<Vec<KeyInfo>> {
        self.with(access, |repository| Ok(repository.keys.iter().map(|(id, key)| info(id, key, access)).collect()))
    }

    async fn add_key(&self, access: &Access, password: &Secret, _: &str) -> PortResult<KeyInfo> {
        self.with(access, |repository| {
            let id = (repository.keys.len() + 1).to_string();
            repository.keys.push((id.clone(), password.expose().to_owned()));
            Ok(info(&id, password.expose(), access))
        })
    }

    async fn remove_key(&self, access: &Access, id: &str) -> PortResult<()> {
        self.with(access, |repository| {
            only_with_leave(access)?;
            repository.keys.retain(|(known, _)| known != id);
            Ok(())
        })
    }
}

fn only_with_leave(access: &Access) -> PortResult<()> {
    match access.append_only {
        true => Err(PortError::new("vault.read-only", "nothing is taken out of this repository")),
        false => Ok(()),
    }
}

fn info(id: &str, key: &str, access: &Access) -> KeyInfo {
    KeyInfo { id: id.to_owned(), host: None, user: None, created: None, ours: key == access.password.expose() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::contract;

    #[tokio::test]
    async fn the_fake_keeps_the_contract() {
        let scratch = tempfile::tempdir().unwrap();
        let location = Location::Directory(scratch.path().join("repository"));
        contract::vault(&FakeVault::default(), &location, scratch.path()).await;
    }
}
