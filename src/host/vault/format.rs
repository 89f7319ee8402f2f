//! Restic's repository: keys, sealed files, indexes, blobs. Our own reader, because what is read to prove a backup or
//! to bring one back has to name every damage, and to fit into little memory
//! (<https://restic.readthedocs.io/en/stable/100_references.html>).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use aes256ctr_poly1305aes::Key;
use bytes::Bytes;
use rustic_core::repofile::{ConfigFile, KeyFile, MasterKey, SnapshotFile, Tree};
use rustic_core::{Credentials, Id, NoProgressBars, OpenStatus, Repository, RepositoryBackends, RepositoryOptions};
use sha2::{Digest as _, Sha256};

use super::Pace;
use super::child::Tell;
use super::error::VaultError;
use super::index::{Blob, BlobKind, Index};
use super::sealed::{Opener, Sealer};
use super::store::{Bridge, Kind, Pacer, Store};

/// Most bytes a key may ask of the memory for its derivation; restic's own take 32 MiB.
const DERIVATION: u64 = 512 << 20;

/// Files are read by so many at once where each is an answer of a server to wait for.
const READERS: usize = 4;

/// Size of the packs we write. A few are in memory at once, on their way.
pub(super) const PACK: u32 = 8 << 20;

pub(super) fn hash(bytes: &[u8]) -> Id {
    Id::new(Sha256::digest(bytes).into())
}

/// The 64 hexadecimal digits.
pub(super) fn hex(id: &Id) -> String {
    id.to_hex().as_str().to_owned()
}

/// The 32 bytes, which the library shows only as digits.
pub(super) fn raw(id: &Id) -> [u8; 32] {
    let digits = id.to_hex();
    std::array::from_fn(|at| u8::from_str_radix(&digits.as_str()[2 * at..2 * at + 2], 16).unwrap_or_default())
}

/// An opened repository.
pub(super) struct Repo {
    pub store: Arc<dyn Store>,
    /// The key file that opened it.
    pub key: Id,
    pub pace: Pace,
    pub down: Pacer,
    up: Pacer,
    master: MasterKey,
    sealed: Key,
}

/// What it opens with, or why not.
struct Opened {
    id: Id,
    master: MasterKey,
    sealed: Key,
}

impl Repo {
    pub fn open(store: Arc<dyn Store>, password: &str, pace: Pace) -> Result<Self, VaultError> {
        if store.list(Kind::Config)?.is_empty() {
            return Err(match is_empty(&*store)? {
                true => VaultError::NoRepository(store.name()),
                false => VaultError::Damaged { file: "config".into(), what: "it is missing".into() },
            });
        }
        let config = store.read(Kind::Config, &Id::default())?;
        let mut damaged = None;
        let mut opened = None;
        for (id, _) in store.list(Kind::Key)? {
            match open_key(&*store, &id, password) {
                // A making that was broken off leaves a key of another repository behind.
                Ok(Some(key)) if Opener::new(key.sealed).file(&config).is_ok() => {
                    return Ok(Self::with(store, key, pace));
                }
                Ok(Some(key)) => opened = Some(key.id),
                Ok(None) => {}
                Err(error) => damaged = Some(error),
            }
        }
        Err(match (opened, damaged) {
            (Some(_), _) => VaultError::Damaged { file: "config".into(), what: "its seal is broken".into() },
            (None, Some(error)) => error,
            (None, None) => VaultError::WrongKey(store.name()),
        })
    }

    fn with(store: Arc<dyn Store>, Opened { id, master, sealed }: Opened, pace: Pace) -> Self {
        Self { store, key: id, pace, down: Pacer::new(pace.down), up: Pacer::new(pace.up), master, sealed }
    }

    pub fn master(&self) -> &MasterKey {
        &self.master
    }

    pub fn opener(&self) -> Opener {
        Opener::new(self.sealed)
    }

    /// The same repository, for what `rustic_core` does.
    pub fn library(&self) -> Result<Repository<OpenStatus>, VaultError> {
        let bridge = Bridge::new(self.store.clone(), self.pace);
        let backends = RepositoryBackends::new(Arc::new(bridge), None);
        let options = RepositoryOptions::default().no_cache(true);
        let mut library = Repository::new_with_progress(&options, &backends, NoProgressBars)
            .and_then(|repo| repo.open(&Credentials::Masterkey(self.master.clone())))
            .map_err(VaultError::library("open the repository"))?;
        let mut size = rustic_core::ConfigOptions::default();
        size.set_datapack_size = PACK.to_string().parse().ok();
        (size.set_datapack_growfactor, size.set_treepack_growfactor) = (Some(0), Some(0));
        // For this process only: the library takes the sizes over before it writes the config, which our store
        // refuses. A config that is written is one that may be lost.
        if library.apply_config(&size).is_ok() || library.config().datapack_size != Some(PACK) {
            let text = "it does not take the size of packs".to_owned();
            return Err(VaultError::Library { act: "set up the repository", text });
        }
        Ok(library)
    }

    /// Whether a key opens with the password and is of another repository.
    pub fn is_foreign(&self, id: &Id, password: &str) -> Result<bool, VaultError> {
        let config = self.store.read(Kind::Config, &Id::default())?;
        let key = open_key(&*self.store, id, password)?;
        Ok(key.is_some_and(|key| Opener::new(key.sealed).file(&config).is_err()))
    }

    /// A file that is named by its hash, opened. Bytes that are not those of its name are damage.
    pub fn file(&self, kind: Kind, id: &Id) -> Result<Vec<u8>, VaultError> {
        let raw = self.store.read(kind, id)?;
        self.down.pass(raw.len());
        let damaged = |what: &str| VaultError::Damaged { file: kind.path(id), what: what.into() };
        if hash(&raw) != *id {
            return Err(damaged("its content is not what its name says"));
        }
        self.opener().file(&raw).map_err(|what| damaged(&what))
    }

    /// Reads all files of a kind, some at once, in any order. The first error of `take` ends it.
    pub fn each(
        &self,
        kind: Kind,
        take: impl Fn(Id, Result<Vec<u8>, VaultError>) -> Result<(), VaultError> + Sync,
    ) -> Result<(), VaultError> {
        let listed = self.store.list(kind)?;
        let next = AtomicUsize::new(0);
        let failed = Mutex::new(None);
        let read = || {
            while let Some((id, _)) = listed.get(next.fetch_add(1, Ordering::Relaxed)) {
                if let Err(error) = take(*id, self.file(kind, id)) {
                    failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                    next.store(listed.len(), Ordering::Relaxed);
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..READERS.min(listed.len()) {
                scope.spawn(read);
            }
            read();
        });
        failed.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }

    /// All snapshots that can be read, in any order. One that cannot is said: the check names it.
    pub fn each_snapshot(&self, tell: &Tell, take: impl Fn(SnapshotFile) + Sync) -> Result<(), VaultError> {
        self.each(Kind::Snapshot, |id, read| match read.and_then(|text| self.as_snapshot(id, &text)) {
            Ok(snapshot) => {
                take(snapshot);
                Ok(())
            }
            // Forgotten since it was listed.
            Err(VaultError::Store(error)) if error.is_absent() => Ok(()),
            Err(error @ VaultError::Damaged { .. }) => {
                tell.say(error.to_string());
                Ok(())
            }
            Err(error) => Err(error),
        })
    }

    /// Stores a file under its hash.
    pub fn put(&self, kind: Kind, id: &Id, bytes: Bytes) -> Result<(), VaultError> {
        self.up.pass(bytes.len());
        Ok(self.store.write(kind, id, &[bytes])?)
    }

    /// Seals an index or a snapshot and stores it.
    pub fn write(&self, kind: Kind, sealer: &mut Sealer, file: &impl serde::Serialize) -> Result<Id, VaultError> {
        let sealed = sealer.file(file)?;
        let id = hash(&sealed);
        self.put(kind, &id, sealed.into())?;
        Ok(id)
    }

    /// `level`: of the compression; `None`: there is none, as in version 1 of the format.
    pub fn sealer(&self, level: Option<i32>) -> Sealer {
        Sealer::new(self.sealed, level)
    }

    pub fn snapshot(&self, id: &Id) -> Result<SnapshotFile, VaultError> {
        self.as_snapshot(*id, &self.file(Kind::Snapshot, id)?)
    }

    pub fn as_snapshot(&self, id: Id, text: &[u8]) -> Result<SnapshotFile, VaultError> {
        let mut snapshot: SnapshotFile = serde_json::from_slice(text).map_err(|error| VaultError::Damaged {
            file: Kind::Snapshot.path(&id),
            what: format!("it is no snapshot: {error}"),
        })?;
        snapshot.id = id.into();
        Ok(snapshot)
    }

    /// One blob, from any of the packs that hold it.
    pub fn blob(&self, index: &Index, opener: &mut Opener, kind: BlobKind, id: &Id) -> Result<Vec<u8>, VaultError> {
        let mut last = None;
        for blob in index.find(kind, id) {
            let pack = index.pack(blob);
            let read = self.store.read_part(Kind::Pack, pack, u64::from(blob.offset), blob.length as usize);
            let opened = match read {
                Ok(sealed) => {
                    self.down.pass(sealed.len());
                    opener.blob(&sealed, blob, id)
                }
                Err(error) if matches!(error.fault, super::store::StoreFault::Unreachable(_)) => {
                    return Err(error.into());
                }
                Err(error) => Err(error.fault.to_string()),
            };
            match opened {
                Ok(plain) => return Ok(plain),
                Err(what) => last = Some(VaultError::Damaged { file: Kind::Pack.path(pack), what }),
            }
        }
        Err(last.unwrap_or_else(|| VaultError::Damaged {
            file: "index".into(),
            what: format!("no pack is known that holds {}", hex(id)),
        }))
    }

    pub fn tree(&self, index: &Index, opener: &mut Opener, id: &Id) -> Result<Tree, VaultError> {
        let text = self.blob(index, opener, BlobKind::Tree, id)?;
        serde_json::from_slice(&text).map_err(|error| VaultError::Damaged {
            file: format!("tree {}", hex(id)),
            what: format!("it is no directory: {error}"),
        })
    }
}

/// Whether nothing that was ever saved is there.
pub(super) fn is_empty(store: &dyn Store) -> Result<bool, VaultError> {
    for kind in [Kind::Snapshot, Kind::Index, Kind::Pack] {
        match store.list(kind) {
            Ok(listed) if listed.is_empty() => {}
            Err(error) if error.is_absent() => {}
            Ok(_) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(true)
}

/// `None`: the password is not this key's.
fn open_key(store: &dyn Store, id: &Id, password: &str) -> Result<Option<Opened>, VaultError> {
    let file = key_file(store, id)?;
    let Ok(derived) = file.key_from_password(&password) else { return Ok(None) };
    let (encrypt, k, r) = derived.to_keys();
    let mut sealed = Key::default();
    for (part, bytes) in [(0..32, &encrypt), (32..48, &k), (48..64, &r)] {
        sealed[part].copy_from_slice(bytes);
    }
    let text = |bytes: &[u8]| base64::Engine::encode(&base64::engine::general_purpose::STANDARD, bytes);
    let master = serde_json::json!({ "mac": { "k": text(&k), "r": text(&r) }, "encrypt": text(&encrypt) });
    let master = serde_json::from_value(master)
        .map_err(|error| VaultError::Library { act: "take the key over", text: error.to_string() })?;
    Ok(Some(Opened { id: *id, master, sealed }))
}

/// A key's file, whole and with a derivation that this machine can bear.
pub(super) fn key_file(store: &dyn Store, id: &Id) -> Result<KeyFile, VaultError> {
    let damaged = |what: String| VaultError::Damaged { file: Kind::Key.path(id), what };
    let raw = store.read(Kind::Key, id)?;
    if hash(&raw) != *id {
        return Err(damaged("its content is not what its name says".into()));
    }
    let file: KeyFile = serde_json::from_slice(&raw).map_err(|error| damaged(format!("it is no key: {error}")))?;
    let memory = 128 * u64::from(file.n) * u64::from(file.r);
    match file.n.is_power_of_two() && memory <= DERIVATION && file.p <= 64 {
        true => Ok(file),
        false => Err(damaged("its derivation asks for too much".into())),
    }
}

/// The config's own number, as far as it is one we know.
pub(super) fn config(repo: &Repo) -> Result<ConfigFile, VaultError> {
    let damaged = |what: String| VaultError::Damaged { file: "config".into(), what };
    let raw = repo.store.read(Kind::Config, &Id::default())?;
    let text = repo.opener().file(&raw).map_err(damaged)?;
    serde_json::from_slice(&text).map_err(|error| damaged(format!("it is no config: {error}")))
}

/// A part of what was read at once.
pub(super) fn part(read: &Bytes, start: u64, blob: &Blob) -> Result<Bytes, String> {
    let from = u64::from(blob.offset).checked_sub(start).and_then(|from| usize::try_from(from).ok());
    from.and_then(|from| Some(from..from.checked_add(blob.length as usize)?))
        .filter(|range| range.end <= read.len())
        .map(|range| read.slice(range))
        .ok_or_else(|| "its index points beyond its end".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_its_bytes() {
        assert_eq!(raw(&hash(b"x"))[..], Sha256::digest(b"x")[..]);
    }
}
