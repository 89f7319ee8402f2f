//! A download that is not complete: the bytes so far (`<name>.part`), and beside them what the server
//! said they were (`<name>.part.json`), so that the rest is asked for only if it is the rest of the
//! same file.

use std::ffi::OsString;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use reqwest::header::{ETAG, HeaderMap, LAST_MODIFIED};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// What identifies the bytes of a URL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    pub url: String,
    /// The value for `If-Range` (RFC 9110, 13.1.5): a strong entity tag, or a date.
    pub validator: String,
}

impl Identity {
    /// `None`: the server gave nothing by which a change would be seen.
    pub fn of(url: &str, headers: &HeaderMap) -> Option<Self> {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let tag = text(ETAG).filter(|tag| tag.starts_with('"'));
        let validator = tag.or_else(|| text(LAST_MODIFIED))?.to_owned();
        Some(Self { url: url.to_owned(), validator })
    }
}

/// Beside `to`, with `end` after its name.
pub(super) fn beside(to: &Path, end: &str) -> PathBuf {
    let mut name = to.file_name().map(OsString::from).unwrap_or_default();
    name.push(end);
    to.with_file_name(name)
}

pub(super) struct Partial {
    pub bytes: PathBuf,
    note: PathBuf,
}

impl Partial {
    pub fn of(to: &Path) -> Self {
        Self { bytes: beside(to, ".part"), note: beside(to, ".part.json") }
    }

    /// What is there to be continued from `url`: its identity, length and the digest so far. Whatever
    /// cannot be read is not continued: it is fetched anew.
    pub fn begun(&self, url: &str) -> Option<(Identity, u64, Sha256)> {
        let identity: Identity = serde_json::from_slice(&std::fs::read(&self.note).ok()?).ok()?;
        if identity.url != url {
            return None;
        }
        let (length, hasher) = hash(&self.bytes).ok()?;
        (length > 0).then_some((identity, length, hasher))
    }

    #[expect(clippy::disallowed_methods, reason = "torn by a crash, it only makes the download start again")]
    pub fn note(&self, identity: Option<&Identity>) -> io::Result<()> {
        match identity {
            // Torn by a crash, it does not parse, and the download starts again.
            Some(identity) => std::fs::write(&self.note, serde_json::to_vec(identity)?),
            None => remove(&self.note),
        }
    }

    pub fn discard(&self) -> io::Result<()> {
        remove(&self.bytes)?;
        remove(&self.note)
    }

    /// Gives the complete bytes their name.
    pub fn complete(&self, to: &Path) -> io::Result<()> {
        std::fs::rename(&self.bytes, to)?;
        remove(&self.note)
    }
}

pub(super) fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

pub(super) fn hash(path: &Path) -> io::Result<(u64, Sha256)> {
    let mut file = std::fs::File::open(path)?;
    let (mut hasher, mut length, mut buffer) = (Sha256::new(), 0, vec![0; 128 * 1024]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok((length, hasher)),
            got => {
                hasher.update(&buffer[..got]);
                length += got as u64;
            }
        }
    }
}
