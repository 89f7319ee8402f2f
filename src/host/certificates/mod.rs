//! Certificates on this server's disk.
//!
//! ```text
//! tls/<name>/<generation>/{privkey.pem 0600, fullchain.pem, meta.json}
//! tls/<name>/current -> <generation>
//! ```
//!
//! Owns: the layout, keys and self-signed certificates ([`key`]), and whether a chain may be used at all
//! ([`chain`]). Never: decides when a certificate is renewed. Start reading at [`Store`].

pub mod chain;
pub mod key;

use std::path::{Path, PathBuf};

pub use chain::{ChainProblem, Checked};

use crate::durable::generation_dir::{self, Member};
use crate::durable::{self, DurableError, HostLock, LockError};
use crate::model::Name;
use crate::model::certificate::{CertifiedName, Meta, Origin};

pub const KEY: &str = "privkey.pem";
pub const CHAIN: &str = "fullchain.pem";
const META: &str = "meta.json";
/// Old generations kept: to go back to by hand, and for whoever still reads one.
const OLD: usize = 2;

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("cannot read or keep the certificate `{0}`")]
    Keep(Name, #[source] DurableError),
    #[error("`{path}` is damaged")]
    Damaged { path: PathBuf, source: serde_json::Error },
    #[error("cannot list `{0}`")]
    List(PathBuf, #[source] std::io::Error),
    #[error("the certificate `{0}` is being changed by another process")]
    Busy(Name, #[source] LockError),
    #[error("the certificate `{0}` was changed meanwhile")]
    Changed(Name),
}

/// The certificate that counts now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Present {
    pub generation: u64,
    pub directory: PathBuf,
    pub meta: Meta,
}

/// A certificate to be put in place: checked by [`chain::check`].
#[derive(Clone, PartialEq, Eq)]
pub struct Bundle {
    /// PEM, the leaf first.
    pub chain: String,
    /// PEM. Never shown.
    pub key: String,
    pub meta: Meta,
}

impl std::fmt::Debug for Bundle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bundle").field("meta", &self.meta).finish_non_exhaustive()
    }
}

impl Bundle {
    /// What somebody else brought, if it can be used for `names` now; all its problems if not.
    pub fn brought(
        chain: String,
        key: String,
        names: &[CertifiedName],
        now: jiff::Timestamp,
    ) -> Result<Self, Vec<ChainProblem>> {
        let checked = chain::check(&chain, &key, names, now)?;
        let meta = Meta {
            source: Origin::Files,
            names: checked.names,
            not_before: checked.not_before,
            not_after: checked.not_after,
            issued_at: now,
            key: checked.key.unwrap_or_default(),
            serial: checked.serial,
            authority: None,
            profile: None,
            renewal_id: None,
        };
        Ok(Self { chain, key, meta })
    }
}

/// The certificates below a state directory.
#[derive(Debug, Clone)]
pub struct Store {
    directory: PathBuf,
}

impl Store {
    pub fn new(state: &Path) -> Self {
        Self { directory: state.join("tls") }
    }

    /// Of all that belongs to one certificate.
    pub fn directory(&self, name: &Name) -> PathBuf {
        self.directory.join(name.as_str())
    }

    /// The path a web server is told: it stays the same over renewals.
    pub fn current(&self, name: &Name) -> PathBuf {
        self.directory(name).join("current")
    }

    /// The number of the generation that counts. One readlink(2).
    pub fn generation(&self, name: &Name) -> Result<Option<u64>, StoreError> {
        let found = generation_dir::current(&self.directory(name));
        Ok(found.map_err(|error| StoreError::Keep(name.clone(), error))?.map(|(number, _)| number))
    }

    pub fn present(&self, name: &Name) -> Result<Option<Present>, StoreError> {
        let keep = |error| StoreError::Keep(name.clone(), error);
        let Some((generation, directory)) = generation_dir::current(&self.directory(name)).map_err(keep)? else {
            return Ok(None);
        };
        let path = directory.join(META);
        // A generation is there whole: that its description is not cannot come from an interruption.
        let bytes = durable::read(&path).map_err(keep)?.unwrap_or_default();
        let meta = serde_json::from_slice(&bytes).map_err(|source| StoreError::Damaged { path, source })?;
        Ok(Some(Present { generation, directory, meta }))
    }

    /// The chain of the present certificate, PEM.
    pub fn chain(&self, present: &Present) -> Result<Vec<u8>, DurableError> {
        Ok(durable::read(&present.directory.join(CHAIN))?.unwrap_or_default())
    }

    /// The names of all certificates that are here, wanted or not.
    pub fn names(&self) -> Result<Vec<Name>, StoreError> {
        let failed = |error| StoreError::List(self.directory.clone(), error);
        let entries = match std::fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(failed)?;
            if entry.file_type().map_err(failed)?.is_dir() {
                names.extend(entry.file_name().to_str().and_then(|name| name.parse::<Name>().ok()));
            }
        }
        names.sort();
        Ok(names)
    }

    /// Puts a certificate in place as a whole, if the present generation is still `seen`, and gives the new one.
    /// Two old ones are kept.
    pub fn commit(&self, name: &Name, bundle: &Bundle, seen: Option<u64>) -> Result<u64, StoreError> {
        let keep = |error| StoreError::Keep(name.clone(), error);
        let directory = self.directory(name);
        std::fs::create_dir_all(&directory).map_err(|error| StoreError::List(directory.clone(), error))?;
        let me = format!("PID {}", std::process::id());
        let _lock =
            HostLock::take(&directory.join("lock"), &me).map_err(|error| StoreError::Busy(name.clone(), error))?;
        if self.generation(name)? != seen {
            return Err(StoreError::Changed(name.clone()));
        }
        let meta = serde_json::to_vec_pretty(&bundle.meta).expect("a description is plain data");
        let files = [
            Member { name: KEY, bytes: bundle.key.as_bytes(), mode: 0o600 },
            Member { name: CHAIN, bytes: bundle.chain.as_bytes(), mode: 0o644 },
            Member { name: META, bytes: &meta, mode: 0o644 },
        ];
        let number = generation_dir::commit(&directory, &files).map_err(keep)?;
        generation_dir::retire(&directory, OLD).map_err(keep)?;
        Ok(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::certificate::KeyType;

    fn bundle(now: jiff::Timestamp) -> Bundle {
        key::self_signed(&["blog.example.org".parse().unwrap()], KeyType::P256, now).unwrap()
    }

    #[test]
    fn what_is_committed_is_present_and_nothing_is_overwritten_unseen() {
        let state = tempfile::tempdir().unwrap();
        let store = Store::new(state.path());
        let name: Name = "blog".parse().unwrap();
        let now = "2026-11-23T12:00:00Z".parse().unwrap();
        assert_eq!(store.present(&name).unwrap(), None);
        assert_eq!(store.names().unwrap(), []);
        let first = bundle(now);
        assert_eq!(store.commit(&name, &first, None).unwrap(), 1);
        let present = store.present(&name).unwrap().unwrap();
        assert_eq!((present.generation, &present.meta), (1, &first.meta));
        assert_eq!(store.chain(&present).unwrap(), first.chain.as_bytes());
        assert!(matches!(store.commit(&name, &bundle(now), None), Err(StoreError::Changed(_))));
        for number in 2..=5 {
            assert_eq!(store.commit(&name, &bundle(now), Some(number - 1)).unwrap(), number);
        }
        assert_eq!(store.names().unwrap(), std::slice::from_ref(&name));
        assert_eq!(store.generation(&name).unwrap(), Some(5));
        // Three generations, the link and the lock.
        assert_eq!(std::fs::read_dir(store.directory(&name)).unwrap().count(), 5);
        std::fs::write(store.current(&name).join("meta.json"), "{").unwrap();
        assert!(matches!(store.present(&name), Err(StoreError::Damaged { .. })));
    }

    #[test]
    fn a_held_lock_is_said() {
        let state = tempfile::tempdir().unwrap();
        let store = Store::new(state.path());
        let name: Name = "blog".parse().unwrap();
        std::fs::create_dir_all(store.directory(&name)).unwrap();
        let _held = HostLock::take(&store.directory(&name).join("lock"), "another").unwrap();
        let refused = store.commit(&name, &bundle(jiff::Timestamp::UNIX_EPOCH), None);
        assert!(matches!(refused, Err(StoreError::Busy(..))));
    }
}
