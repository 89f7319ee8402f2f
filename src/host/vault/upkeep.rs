//! What is done to a repository besides saving and restoring: making it, its snapshots, its keys, its waste.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::{Span, Timestamp, Zoned};
use rustic_core::repofile::{KeyFile, MasterKey};
use rustic_core::{
    ConfigOptions, Credentials, Id, KeyOptions, PruneOptions, Repository, RepositoryBackends, RepositoryOptions,
};
use serde::Deserialize;

use super::child::Tell;
use super::error::VaultError;
use super::format::{Repo, hex, key_file};
use super::save::describe;
use super::seal_key::{self, Label};
use super::store::{Bridge, Kind, Store};
use super::{KeyInfo, Pace, Pruned, Snapshot};

/// restic refreshes its locks every five minutes and takes one for stale after this time.
const STALE: i64 = 30 * 60;

/// Makes the repository if there is none.
pub(super) fn make(store: &Arc<dyn Store>, password: &str, pace: Pace) -> Result<bool, VaultError> {
    match Repo::open(store.clone(), password, pace) {
        Ok(_) => return Ok(false),
        Err(VaultError::NoRepository(_)) => {}
        Err(error) => return Err(error),
    }
    let bridge = Bridge::new(store.clone(), pace).with_config();
    let backends = RepositoryBackends::new(Arc::new(bridge), None);
    let options = RepositoryOptions::default().no_cache(true);
    let master = MasterKey::new();
    store.make()?;
    // The key first: a config without one would be a repository that nobody can open.
    let label = Label { host: None, user: "root".to_owned(), at: Zoned::now() };
    seal_key::write(&**store, &master, password, label)?;
    let made = Repository::new(&options, &backends)
        .and_then(|repo| repo.init(&Credentials::Masterkey(master), &KeyOptions::default(), &ConfigOptions::default()));
    match (made, Repo::open(store.clone(), password, pace)) {
        (Ok(_), Ok(repo)) => {
            remove_foreign_keys(&repo, password)?;
            Ok(true)
        }
        // Another made it meanwhile.
        (Err(_), Ok(_)) => Ok(false),
        (Err(error), Err(_)) => Err(VaultError::library("make the repository")(error)),
        (Ok(_), Err(error)) => Err(error),
    }
}

/// Keys that our password opens and that are not this repository's: of a making that was broken off before its
/// config. restic would take the first and fail.
fn remove_foreign_keys(repo: &Repo, password: &str) -> Result<(), VaultError> {
    for (id, _) in repo.store.list(Kind::Key)? {
        if id != repo.key && repo.is_foreign(&id, password)? {
            repo.store.remove(Kind::Key, &id)?;
        }
    }
    Ok(())
}

/// All that can be read, oldest first. The absence of another from the list is seen by who made it.
pub(super) fn snapshots(repo: &Repo, tell: &Tell) -> Result<Vec<Snapshot>, VaultError> {
    let all = Mutex::new(Vec::new());
    repo.each_snapshot(tell, |snapshot| {
        all.lock().unwrap_or_else(PoisonError::into_inner).push(describe(&snapshot));
    })?;
    let mut all = all.into_inner().unwrap_or_else(PoisonError::into_inner);
    all.sort_by(|one, other| (one.at, &one.id).cmp(&(other.at, &other.id)));
    Ok(all)
}

pub(super) fn forget(repo: &Repo, snapshots: &[String]) -> Result<(), VaultError> {
    let ids: Result<Vec<Id>, _> =
        snapshots.iter().map(|id| id.parse().map_err(|_| VaultError::NoSnapshot(id.clone()))).collect();
    for id in ids? {
        repo.store.remove(Kind::Snapshot, &id)?;
    }
    Ok(())
}

pub(super) fn prune(repo: &Repo, keep: Duration, tell: &Tell) -> Result<Pruned, VaultError> {
    refuse_while_in_use(repo, Any::Lock)?;
    repo.store.sweep()?;
    let before = pack_bytes(repo)?;
    let keep = Span::new()
        .try_seconds(i64::try_from(keep.as_secs()).unwrap_or(i64::MAX))
        .map_err(|error| VaultError::Library { act: "prune", text: error.to_string() })?;
    let mut options = PruneOptions::default();
    options.keep_delete = keep;
    // Marked first, removed in a later run: a backup of another server that counts on a pack finds it.
    options.instant_delete = false;
    let library = repo.library()?;
    tell.say("looking for what no snapshot needs");
    let plan = library.prune_plan(&options).map_err(VaultError::library("plan the pruning"))?;
    library.prune(&options, plan).map_err(VaultError::library("prune"))?;
    let kept_bytes = pack_bytes(repo)?;
    Ok(Pruned { removed_bytes: before.saturating_sub(kept_bytes), kept_bytes })
}

fn pack_bytes(repo: &Repo) -> Result<u64, VaultError> {
    Ok(repo.store.list(Kind::Pack)?.iter().map(|(_, length)| length).sum())
}

/// Which locks of restic are in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Any {
    /// Those of a restic that removes.
    Exclusive,
    Lock,
}

/// What restic writes while it works.
#[derive(Debug, Deserialize)]
struct Lock {
    time: Timestamp,
    #[serde(default)]
    exclusive: bool,
    #[serde(default)]
    hostname: String,
    #[serde(default)]
    pid: u32,
}

/// Locks of a restic at work are respected; those of one that died are removed, so that nobody has to.
#[expect(clippy::disallowed_methods, reason = "a lock's age is that of the machine's clock")]
pub(super) fn refuse_while_in_use(repo: &Repo, which: Any) -> Result<(), VaultError> {
    let listed = match repo.store.list(Kind::Lock) {
        Err(error) if error.is_absent() => return Ok(()),
        listed => listed?,
    };
    for (id, _) in listed {
        let text = match repo.file(Kind::Lock, &id) {
            Err(VaultError::Store(error)) if error.is_absent() => continue,
            text => text?,
        };
        let lock: Lock = serde_json::from_slice(&text).map_err(|error| VaultError::Damaged {
            file: Kind::Lock.path(&id),
            what: format!("it is no lock: {error}"),
        })?;
        let here = rustix::system::uname();
        let dead = here.nodename().to_str().is_ok_and(|name| name == lock.hostname)
            && !std::path::Path::new(&format!("/proc/{}", lock.pid)).exists();
        if dead || Timestamp::now().as_second() - lock.time.as_second() > STALE {
            repo.store.remove(Kind::Lock, &id)?;
        } else if which == Any::Lock || lock.exclusive {
            return Err(VaultError::InUse(format!("PID {} on {} since {}", lock.pid, lock.hostname, lock.time)));
        }
    }
    Ok(())
}

pub(super) fn keys(repo: &Repo) -> Result<Vec<KeyInfo>, VaultError> {
    let mut keys = Vec::new();
    for (id, _) in repo.store.list(Kind::Key)? {
        keys.push(key_info(repo, &id, key_file(&*repo.store, &id)?));
    }
    keys.sort_by(|one, other| (one.created, &one.id).cmp(&(other.created, &other.id)));
    Ok(keys)
}

fn key_info(repo: &Repo, id: &Id, file: KeyFile) -> KeyInfo {
    KeyInfo {
        id: hex(id),
        host: file.hostname,
        user: file.username,
        created: file.created.map(|at| at.timestamp()),
        ours: *id == repo.key,
    }
}

pub(super) fn add_key(repo: &Repo, password: &str, user: &str) -> Result<KeyInfo, VaultError> {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let label = Label { host: Some(host), user: user.to_owned(), at: Zoned::now() };
    let (id, file) = seal_key::write(&*repo.store, repo.master(), password, label)?;
    Ok(key_info(repo, &id, file))
}

pub(super) fn remove_key(repo: &Repo, id: &str) -> Result<(), VaultError> {
    let wanted: Id = id
        .parse()
        .map_err(|_| VaultError::Damaged { file: format!("keys/{id}"), what: "there is no such key".to_owned() })?;
    match wanted == repo.key {
        true => Err(VaultError::KeyInUse(id.to_owned())),
        false => Ok(repo.store.remove(Kind::Key, &wanted)?),
    }
}
