//! Secrets generated on this server: 0600, one file each, below `secrets/<instance>/`.
//!
//! A missing one is made up in memory; the pass writes it (as a file resource, in Stage) before anything
//! uses it. So a plan writes nothing, and a crash before the write loses nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::durable::{self, DurableError};
use crate::model::{Name, Secret};

#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    #[error("cannot read a secret of `{instance}`")]
    Read { instance: Name, source: DurableError },
    #[error("the secret `{path}` is not text")]
    NotText { path: PathBuf },
}

/// The secret's value on disk, if it is there.
pub fn read(state: &Path, instance: &Name, secret: &Name) -> Result<Option<Secret>, SecretError> {
    let path = state.join("secrets").join(instance.as_str()).join(secret.as_str());
    let bytes =
        durable::read(&path).map_err(|source| SecretError::Read { instance: instance.clone(), source })?;
    match bytes.map(String::from_utf8) {
        None => Ok(None),
        Some(Ok(text)) => Ok(Some(Secret::new(text))),
        Some(Err(_)) => Err(SecretError::NotText { path }),
    }
}

/// What a generated secret is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alphabet {
    /// Lower-case hexadecimal digits.
    Hex,
    /// Letters and digits without those that look alike: people type these.
    Password,
}

/// A secret of `length` characters. `random` fills a buffer with unpredictable bytes.
pub fn generate(alphabet: Alphabet, length: usize, random: &mut dyn FnMut(&mut [u8])) -> Secret {
    const PASSWORD: &[u8; 56] = b"abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789";
    let letters: &[u8] = match alphabet {
        Alphabet::Hex => b"0123456789abcdef",
        Alphabet::Password => PASSWORD,
    };
    // Bytes beyond the largest multiple are drawn again, so that every letter is equally likely.
    let limit = 256 - 256 % letters.len();
    let mut out = String::with_capacity(length);
    let mut bytes = [0; 64];
    while out.len() < length {
        random(&mut bytes);
        for byte in bytes.iter().map(|b| usize::from(*b)).filter(|b| *b < limit) {
            if out.len() < length {
                out.push(char::from(letters[byte % letters.len()]));
            }
        }
    }
    Secret::new(out)
}

/// All secrets of an instance by name.
pub type Secrets = BTreeMap<Name, Secret>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_long_as_asked_and_only_its_letters() {
        let mut next = 0u8;
        let mut random = |bytes: &mut [u8]| {
            for byte in bytes {
                next = next.wrapping_add(97);
                *byte = next;
            }
        };
        let secret = generate(Alphabet::Password, 40, &mut random);
        assert_eq!(secret.expose().len(), 40);
        assert!(!secret.expose().contains(['l', 'I', 'O', '0', '1', 'o']));
        let hex = generate(Alphabet::Hex, 64, &mut random);
        assert!(hex.expose().bytes().all(|b| b.is_ascii_hexdigit()));
    }
}
