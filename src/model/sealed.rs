//! A secret that only one server can read, as it is written in a document.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};

const PREFIX: &str = "sealed:";
/// An X25519 public key, then at least the tag of AES-256-GCM.
const LEAST: usize = ENCAPSULATED + 16;
const MOST: usize = 8 << 10;
/// Bytes of the encapsulated key that go first.
pub const ENCAPSULATED: usize = 32;

/// `sealed:` and base64. Made and opened by `wire::seal`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Sealed(Vec<u8>);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this is not a sealed secret: `{PREFIX}` and base64, as `socle fleet seal` prints it")]
pub struct SealedError;

impl Sealed {
    pub fn from_parts(encapsulated: &[u8], ciphertext: &[u8]) -> Self {
        Self([encapsulated, ciphertext].concat())
    }

    /// The encapsulated key, and the ciphertext.
    pub fn parts(&self) -> (&[u8], &[u8]) {
        self.0.split_at(ENCAPSULATED)
    }
}

impl FromStr for Sealed {
    type Err = SealedError;

    fn from_str(text: &str) -> Result<Self, SealedError> {
        let bytes = text.strip_prefix(PREFIX).and_then(|text| BASE64_STANDARD.decode(text).ok());
        bytes.filter(|bytes| (LEAST..=MOST).contains(&bytes.len())).map(Self).ok_or(SealedError)
    }
}

impl fmt::Display for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", BASE64_STANDARD.encode(&self.0))
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealed")
    }
}

impl From<Sealed> for String {
    fn from(sealed: Sealed) -> Self {
        sealed.to_string()
    }
}

impl TryFrom<String> for Sealed {
    type Error = SealedError;

    fn try_from(text: String) -> Result<Self, SealedError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_read_as_written_and_nothing_else_is() {
        let sealed = Sealed::from_parts(&[1; 32], &[2; 20]);
        assert_eq!(sealed.to_string().parse(), Ok(sealed.clone()));
        assert_eq!(sealed.parts(), (&[1; 32][..], &[2; 20][..]));
        for text in ["", "sealed:", "hunter2", "sealed:aGk=", "sealed:%%%", &"sealed:AAAA".repeat(9000)] {
            assert_eq!(text.parse::<Sealed>(), Err(SealedError));
        }
    }
}
