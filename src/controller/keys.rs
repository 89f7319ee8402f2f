//! The fleet's keys: files of the controller, 0600. Whoever has them is the controller; several controllers on
//! one database have the same.

use std::path::{Path, PathBuf};

use super::authority::{Authority, AuthorityError, AuthorityPem};
use crate::durable::{self, DurableError};
use crate::wire::SigningKey;
use crate::wire::key::KeyError;

pub struct Keys {
    pub authority: Authority,
    /// Signs for sites with private names, and for nothing else.
    pub sites: Authority,
    /// Signs documents.
    pub document: SigningKey,
}

#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    #[error("there are keys in `{0}` already")]
    Exist(PathBuf),
    #[error("cannot make the directory `{0}`")]
    Directory(PathBuf, #[source] std::io::Error),
    #[error(transparent)]
    File(#[from] DurableError),
    #[error("the key file `{0}` is missing")]
    Missing(PathBuf),
    #[error("the key file `{0}` is not text")]
    NotText(PathBuf),
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    #[error("the key in `{0}` cannot be used")]
    Document(PathBuf, #[source] KeyError),
}

const CERTIFICATE: &str = "authority.pem";
const KEY: &str = "authority.key";
const DOCUMENT: &str = "document.key";
/// What people who visit the fleet's private sites may trust.
pub const SITES: &str = "sites.pem";
const SITES_KEY: &str = "sites.key";

/// What to keep safe, below the controller's directory.
pub const DIRECTORY: &str = "keys";
/// The files in it.
pub const FILES: [&str; 5] = [CERTIFICATE, KEY, DOCUMENT, SITES, SITES_KEY];

impl Keys {
    /// Makes the keys of a new fleet. Refuses to replace any.
    pub fn create(
        directory: &Path,
        fleet_name: &str,
        now: jiff::Timestamp,
        random: impl FnOnce(&mut [u8]),
    ) -> Result<Self, KeysError> {
        use std::os::unix::fs::DirBuilderExt;
        if directory.join(KEY).exists() || directory.join(DOCUMENT).exists() {
            return Err(KeysError::Exist(directory.to_owned()));
        }
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(|error| KeysError::Directory(directory.to_owned(), error))?;
        let pem = Authority::create(fleet_name, now)?;
        let sites = Authority::create_for_sites(fleet_name, now)?;
        let document = SigningKey::generate(random);
        durable::write(&directory.join(SITES), sites.certificate.as_bytes(), 0o644)?;
        durable::write(&directory.join(SITES_KEY), sites.key.as_bytes(), 0o600)?;
        durable::write(&directory.join(CERTIFICATE), pem.certificate.as_bytes(), 0o644)?;
        durable::write(&directory.join(DOCUMENT), document.to_base64().as_bytes(), 0o600)?;
        durable::write(&directory.join(KEY), pem.key.as_bytes(), 0o600)?;
        Ok(Self { authority: Authority::load(&pem)?, sites: Authority::load(&sites)?, document })
    }

    pub fn load(directory: &Path) -> Result<Self, KeysError> {
        let pem = AuthorityPem { certificate: read(directory, CERTIFICATE)?, key: read(directory, KEY)? };
        let sites = AuthorityPem { certificate: read(directory, SITES)?, key: read(directory, SITES_KEY)? };
        let document = SigningKey::from_base64(read(directory, DOCUMENT)?.trim())
            .map_err(|error| KeysError::Document(directory.join(DOCUMENT), error))?;
        Ok(Self { authority: Authority::load(&pem)?, sites: Authority::load(&sites)?, document })
    }
}

fn read(directory: &Path, file: &str) -> Result<String, KeysError> {
    let path = directory.join(file);
    let bytes = durable::read(&path)?.ok_or_else(|| KeysError::Missing(path.clone()))?;
    String::from_utf8(bytes).map_err(|_| KeysError::NotText(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn are_made_once_and_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys");
        let made = Keys::create(&path, "test", jiff::Timestamp::UNIX_EPOCH, |seed| seed.fill(3)).unwrap();
        let read = Keys::load(&path).unwrap();
        assert_eq!(made.document.public(), read.document.public());
        assert_eq!(made.authority.certificate(), read.authority.certificate());
        assert_eq!(made.sites.pem(), read.sites.pem());
        assert_ne!(made.sites.pem(), made.authority.pem());
        assert!(matches!(
            Keys::create(&path, "test", jiff::Timestamp::UNIX_EPOCH, |seed| seed.fill(4)),
            Err(KeysError::Exist(_))
        ));
        std::fs::remove_file(path.join(DOCUMENT)).unwrap();
        assert!(matches!(Keys::load(&path), Err(KeysError::Missing(_))));
    }
}
