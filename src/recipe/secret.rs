//! Secrets a recipe wants made up. Where the random bytes come from is the caller's.

use serde::Deserialize;

use super::Recipe;
use crate::model::{Name, Secret};

/// What a generated secret is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Alphabet {
    /// Lower-case hexadecimal digits.
    #[default]
    Hex,
    /// RFC 4648, without padding.
    Base64,
    /// Letters and digits without those that look alike: people type these.
    Password,
}

/// One secret of an instance: what it is called and how it looks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretSpec {
    pub name: Name,
    pub alphabet: Alphabet,
    pub length: usize,
}

impl Recipe {
    /// Every secret an instance needs, whether it has them or not.
    pub fn secrets(&self) -> Vec<SecretSpec> {
        let specs = self.secrets.iter();
        specs.map(|s| SecretSpec { name: s.name.clone(), alphabet: s.kind, length: s.length }).collect()
    }
}

/// Secrets are root's alone: `<directory>/<instance>/<name>`.
pub const DIRECTORY: &str = "/var/lib/socle/secrets";

/// A secret of `length` characters. `random` fills a buffer with unpredictable bytes.
pub fn generate(alphabet: Alphabet, length: usize, random: &mut dyn FnMut(&mut [u8])) -> Secret {
    let letters: &[u8] = match alphabet {
        Alphabet::Hex => b"0123456789abcdef",
        Alphabet::Base64 => b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/",
        Alphabet::Password => b"abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789",
    };
    // Bytes beyond the largest multiple are drawn again, so that every letter is equally likely.
    let limit = 256 - 256 % letters.len();
    let mut out = String::with_capacity(length);
    let mut bytes = [0; 64];
    while out.len() < length {
        random(&mut bytes);
        let drawn = bytes.iter().map(|b| usize::from(*b)).filter(|b| *b < limit);
        out.extend(drawn.take(length - out.len()).map(|b| char::from(letters[b % letters.len()])));
    }
    Secret::new(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_long_as_asked_and_only_its_letters() {
        let mut next = 0_u8;
        let mut random = |bytes: &mut [u8]| {
            for byte in bytes {
                next = next.wrapping_add(97);
                *byte = next;
            }
        };
        let secret = generate(Alphabet::Password, 100, &mut random);
        assert_eq!(secret.expose().len(), 100);
        assert!(!secret.expose().contains(['l', 'I', 'O', '0', '1', 'o', '+']));
        let hex = generate(Alphabet::Hex, 64, &mut random);
        assert!(hex.expose().len() == 64 && hex.expose().bytes().all(|b| b.is_ascii_hexdigit()));
    }
}
