//! What the job knows of one certificate beside the certificate: `record.json`, 0600, and the key of an order that
//! is under way.
//!
//! # Guarantees
//!
//! Everything an act needs to be taken up again is on disk before the act: the key before the order is asked for,
//! what is published before it is published, the order's URL before anything is done with it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::durable::{self, DurableError};
use crate::host::certificates::Store;
use crate::model::certificate::{CertifiedName, KeyType};
use crate::model::report::ErrorReport;
use crate::model::{Domain, Name};

#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    #[error("cannot keep what is known of the certificate `{0}`")]
    Keep(Name, #[source] DurableError),
    #[error("what is known of the certificate `{name}`, `{path}`, is damaged")]
    Damaged { name: Name, path: PathBuf, source: serde_json::Error },
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Record {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<InProgress>,
    /// Published for an order and not withdrawn yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub published: Vec<Published>,
    /// Since the last success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renewal: Option<Renewal>,
    /// What was wrong with what the site served, after the last certificate was put in place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub served: Option<ErrorReport>,
    /// The names the failures are about: with others it begins anew.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub about: Vec<CertifiedName>,
}

/// An order that is under way. Its key is in a file of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InProgress {
    pub authority: Name,
    /// The authority's address: another one knows nothing of this order.
    pub directory: String,
    pub names: Vec<CertifiedName>,
    pub profile: Option<String>,
    pub replaces: Option<String>,
    pub key: KeyType,
    pub begun: jiff::Timestamp,
    /// Missing until the authority gave it.
    pub url: Option<String>,
    /// A certificate was asked for: it counts, whatever becomes of it.
    #[serde(default)]
    pub finalized: bool,
}

/// What proves control of a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Published {
    File { token: String },
    Record { provider: Name, domain: Domain, value: String },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// In a row.
    pub count: u32,
    /// The last of them.
    pub at: jiff::Timestamp,
    pub error: ErrorReport,
    /// How long the authority wants not to be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_s: Option<u64>,
    /// Nobody but this server was bothered: looking again soon costs nothing.
    #[serde(default)]
    pub own_check: bool,
    /// The names that are to blame, if it is known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blamed: Vec<CertifiedName>,
}

/// What the authority said about renewing one certificate (RFC 9773).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renewal {
    /// Of the certificate.
    pub id: String,
    pub ask_again: jiff::Timestamp,
    /// Missing if it gave none, or none that makes sense.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<(jiff::Timestamp, jiff::Timestamp)>,
    /// In the window; stays the same as long as the window does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chosen: Option<jiff::Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub explanation: Option<String>,
}

/// The record of one certificate on disk.
#[derive(Debug, Clone)]
pub struct Records {
    store: Store,
}

impl Records {
    pub fn new(store: Store) -> Self {
        Self { store }
    }

    /// Nothing is known of a certificate that was never tended.
    pub fn load(&self, name: &Name) -> Result<Record, RecordError> {
        let path = self.path(name);
        let bytes = durable::read(&path).map_err(|error| RecordError::Keep(name.clone(), error))?;
        let Some(bytes) = bytes else { return Ok(Record::default()) };
        serde_json::from_slice(&bytes).map_err(|source| RecordError::Damaged { name: name.clone(), path, source })
    }

    pub fn keep(&self, name: &Name, record: &Record) -> Result<(), RecordError> {
        let bytes = serde_json::to_vec_pretty(record).expect("a record is plain data");
        self.write(name, self.path(name), &bytes)
    }

    /// The key of the order under way, PEM; `None` if there is none.
    pub fn key(&self, name: &Name) -> Result<Option<String>, RecordError> {
        let bytes = durable::read(&self.key_path(name)).map_err(|error| RecordError::Keep(name.clone(), error))?;
        Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    pub fn keep_key(&self, name: &Name, key: &str) -> Result<(), RecordError> {
        self.write(name, self.key_path(name), key.as_bytes())
    }

    pub fn drop_key(&self, name: &Name) -> Result<(), RecordError> {
        durable::remove(&self.key_path(name)).map_err(|error| RecordError::Keep(name.clone(), error))
    }

    fn path(&self, name: &Name) -> PathBuf {
        self.store.directory(name).join("record.json")
    }

    fn key_path(&self, name: &Name) -> PathBuf {
        self.store.directory(name).join("order-key.pem")
    }

    fn write(&self, name: &Name, path: PathBuf, bytes: &[u8]) -> Result<(), RecordError> {
        let keep = |error| RecordError::Keep(name.clone(), error);
        let directory = self.store.directory(name);
        std::fs::create_dir_all(&directory).map_err(|error| keep(DurableError::Write(directory, error)))?;
        durable::write(&path, bytes, 0o600).map_err(keep)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_is_kept_is_read_and_damaged_is_not_unknown() {
        let state = tempfile::tempdir().unwrap();
        let store = Store::new(state.path());
        let records = Records::new(store.clone());
        let name: Name = "blog".parse().unwrap();
        assert_eq!(records.load(&name).unwrap(), Record::default());
        assert_eq!(records.key(&name).unwrap(), None);
        let published = vec![Published::File { token: "t".into() }];
        let record = Record { published, about: vec!["a.org".parse().unwrap()], ..Record::default() };
        records.keep(&name, &record).unwrap();
        records.keep_key(&name, "PEM").unwrap();
        assert_eq!(records.load(&name).unwrap(), record);
        assert_eq!(records.key(&name).unwrap().unwrap(), "PEM");
        for file in ["record.json", "order-key.pem"] {
            let mode = std::fs::metadata(store.directory(&name).join(file)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{file}");
        }
        records.drop_key(&name).unwrap();
        assert_eq!(records.key(&name).unwrap(), None);
        std::fs::write(records.path(&name), "{").unwrap();
        assert!(matches!(records.load(&name), Err(RecordError::Damaged { .. })));
    }
}
