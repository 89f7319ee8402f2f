//! The fleet's keys: files of the controller, 0600. Whoever has them is the controller; several controllers on
//! one database have the same.

use std::path::{Path, PathBuf};

use super::authority::{Authority, AuthorityError, AuthorityPem};
use crate::durable::{self, DurableError};
use crate::wire::key::KeyError;
use crate::wire::succession::{self, Link};
use crate::wire::{Envelope, Payload, PublicKey, SigningKey};

pub struct Keys {
    pub authority: Authority,
    /// Signs for sites with private names, and for nothing else.
    pub sites: Authority,
    /// Signs documents.
    pub document: SigningKey,
    /// How it came to be the fleet's.
    pub succession: Vec<Link>,
}

/// One key for documents followed another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotated {
    pub from: PublicKey,
    pub to: PublicKey,
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
    #[error("`{0}` is damaged")]
    Damaged(PathBuf, #[source] serde_json::Error),
    #[error("the key for documents was being changed, and the new one cannot be read")]
    Next(#[source] Box<KeysError>),
    #[error("the keys that `{0}` names do not lead to the one that signs documents")]
    Succession(PathBuf),
    #[error("the key for documents was changed {} times, and that is enough", succession::MAX_LINKS)]
    Exhausted,
}

const CERTIFICATE: &str = "authority.pem";
const KEY: &str = "authority.key";
const DOCUMENT: &str = "document.key";
/// Which key for documents followed which.
const SUCCESSION: &str = "succession.json";
/// The key that is to follow, until it has the other's name.
const NEXT: &str = "document.next.key";
/// What people who visit the fleet's private sites may trust.
pub const SITES: &str = "sites.pem";
const SITES_KEY: &str = "sites.key";

/// What to keep safe, below the controller's directory.
pub const DIRECTORY: &str = "keys";
/// The files in it.
pub const FILES: [&str; 5] = [CERTIFICATE, KEY, DOCUMENT, SITES, SITES_KEY];
/// Those that are there only after the key for documents was changed.
pub const MORE_FILES: [&str; 2] = [SUCCESSION, NEXT];

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
        Ok(Self {
            authority: Authority::load(&pem)?,
            sites: Authority::load(&sites)?,
            document,
            succession: Vec::new(),
        })
    }

    pub fn load(directory: &Path) -> Result<Self, KeysError> {
        let pem = AuthorityPem { certificate: read(directory, CERTIFICATE)?, key: read(directory, KEY)? };
        let sites = AuthorityPem { certificate: read(directory, SITES)?, key: read(directory, SITES_KEY)? };
        let (document, succession) = for_documents(directory)?;
        Ok(Self { authority: Authority::load(&pem)?, sites: Authority::load(&sites)?, document, succession })
    }

    /// Signs a statement, for every server whatever key it knows.
    pub fn envelope(&self, payload: &Payload) -> Envelope {
        Envelope::sign(payload, &[&self.document]).with_succession(&self.succession)
    }

    /// Makes a new key for documents, which counts from the next start on. The old one names it as its successor, and
    /// is gone.
    ///
    /// Guarantees: whatever interrupts, one of the two is there and the succession leads to it. It counts once the
    /// succession names it.
    pub fn rotate(
        directory: &Path,
        now: jiff::Timestamp,
        random: impl FnOnce(&mut [u8]),
    ) -> Result<Rotated, KeysError> {
        let (old, mut succession) = for_documents(directory)?;
        if succession.len() >= succession::MAX_LINKS {
            return Err(KeysError::Exhausted);
        }
        // What an interruption left is finished first: the key that counts has the name of the one that is kept.
        durable::write(&directory.join(DOCUMENT), old.to_base64().as_bytes(), 0o600)?;
        let new = SigningKey::generate(random);
        durable::write(&directory.join(NEXT), new.to_base64().as_bytes(), 0o600)?;
        succession.push(Link::sign(&old, new.public(), now));
        let text = serde_json::to_vec_pretty(&succession).expect("it is plain data");
        durable::write(&directory.join(SUCCESSION), &text, 0o600)?;
        durable::rename(&directory.join(NEXT), &directory.join(DOCUMENT))?;
        Ok(Rotated { from: old.public(), to: new.public() })
    }
}

/// The key that signs documents, and what leads to it.
fn for_documents(directory: &Path) -> Result<(SigningKey, Vec<Link>), KeysError> {
    let key = |file: &str| {
        SigningKey::from_base64(read(directory, file)?.trim())
            .map_err(|error| KeysError::Document(directory.join(file), error))
    };
    let path = directory.join(SUCCESSION);
    let succession: Vec<Link> = match durable::read(&path)? {
        Some(bytes) => serde_json::from_slice(&bytes).map_err(|error| KeysError::Damaged(path.clone(), error))?,
        None => Vec::new(),
    };
    let present = key(DOCUMENT)?;
    if succession::leads_to(&succession, present.public()) {
        return Ok((present, succession));
    }
    // Interrupted before it got its name.
    match key(NEXT) {
        Ok(next) if succession::leads_to(&succession, next.public()) => Ok((next, succession)),
        Ok(_) | Err(KeysError::Missing(_)) => Err(KeysError::Succession(path)),
        Err(error) => Err(KeysError::Next(Box::new(error))),
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

    fn made(seed: u8) -> (tempfile::TempDir, PathBuf, PublicKey) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys");
        let made = Keys::create(&path, "test", jiff::Timestamp::UNIX_EPOCH, |bytes| bytes.fill(seed)).unwrap();
        (directory, path, made.document.public())
    }

    fn rotate_at(path: &Path) -> Result<Rotated, KeysError> {
        Keys::rotate(path, jiff::Timestamp::UNIX_EPOCH, |bytes| bytes.fill(9))
    }

    fn rotate(path: &Path, seed: u8) -> Rotated {
        Keys::rotate(path, jiff::Timestamp::UNIX_EPOCH, |bytes| bytes.fill(seed)).unwrap()
    }

    #[test]
    fn a_key_for_documents_names_the_one_that_follows_it() {
        let (_directory, path, first) = made(3);
        let second = rotate(&path, 4);
        let third = rotate(&path, 5);
        assert_eq!((second.from, third.from), (first, second.to));
        let read = Keys::load(&path).unwrap();
        assert_eq!((read.document.public(), read.succession.len()), (third.to, 2));
        assert_eq!(succession::follow(&read.succession, &[first]), Ok(vec![third.to]));
        assert!(!path.join(NEXT).exists());
        // Without the way from the first key, or with another key at its end, nothing is signed.
        let kept = std::fs::read(path.join(DOCUMENT)).unwrap();
        std::fs::write(path.join(DOCUMENT), SigningKey::from_seed([9; 32]).to_base64()).unwrap();
        assert!(matches!(Keys::load(&path), Err(KeysError::Succession(_))));
        std::fs::write(path.join(DOCUMENT), kept).unwrap();
        std::fs::write(path.join(SUCCESSION), "[").unwrap();
        assert!(matches!(Keys::load(&path), Err(KeysError::Damaged(..))));
    }

    #[test]
    fn a_change_of_the_key_that_is_interrupted_has_happened_or_has_not() {
        let (_directory, path, first) = made(3);
        let old = std::fs::read(path.join(DOCUMENT)).unwrap();
        let second = rotate(&path, 4);
        // Before the new key got its name.
        std::fs::rename(path.join(DOCUMENT), path.join(NEXT)).unwrap();
        std::fs::write(path.join(DOCUMENT), &old).unwrap();
        assert_eq!(Keys::load(&path).unwrap().document.public(), second.to);
        // A new key that is there and cannot be read is told as that, and not as one that nobody named.
        let next = std::fs::read(path.join(NEXT)).unwrap();
        std::fs::write(path.join(NEXT), "torn").unwrap();
        for told in [Keys::load(&path).err().unwrap(), rotate_at(&path).unwrap_err()] {
            let KeysError::Next(cause) = told else { panic!("{told}") };
            assert!(matches!(&*cause, KeysError::Document(of, _) if *of == path.join(NEXT)), "{cause}");
        }
        std::fs::remove_file(path.join(NEXT)).unwrap();
        assert!(matches!(Keys::load(&path), Err(KeysError::Succession(_))));
        std::fs::create_dir(path.join(NEXT)).unwrap();
        let told = Keys::load(&path).err().unwrap();
        assert!(matches!(&told, KeysError::Next(cause) if matches!(**cause, KeysError::File(_))), "{told}");
        std::fs::remove_dir(path.join(NEXT)).unwrap();
        std::fs::write(path.join(NEXT), next).unwrap();
        // Another change goes on from there.
        assert_eq!(rotate(&path, 5).from, second.to);
        assert_eq!(Keys::load(&path).unwrap().succession.len(), 2);
        // Before the succession was written.
        let (_directory, path, first_of_another) = made(3);
        assert_eq!(first, first_of_another);
        std::fs::write(path.join(NEXT), SigningKey::from_seed([4; 32]).to_base64()).unwrap();
        assert_eq!(Keys::load(&path).unwrap().document.public(), first);
        assert_eq!(rotate(&path, 6).from, first);
    }
}
