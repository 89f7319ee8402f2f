//! Ed25519 keys (RFC 8032): who signs documents, who redeems a token, who a server is.

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};

use crate::model::Digest;

/// The public half, written in base64.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicKey(pub [u8; 32]);

/// The private half: a seed of 32 bytes. Neither printed nor compared.
pub struct SigningKey {
    seed: [u8; 32],
    pair: Ed25519KeyPair,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("this is not an Ed25519 key: 32 bytes in base64")]
    Malformed,
    #[error("the signature of key {} does not fit", .0.id().short())]
    BadSignature(PublicKey),
}

impl PublicKey {
    /// What a key is called: the SHA-256 of its 32 bytes.
    pub fn id(&self) -> Digest {
        Digest::of(self.0)
    }

    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), KeyError> {
        UnparsedPublicKey::new(&ED25519, &self.0).verify(message, signature).map_err(|_| KeyError::BadSignature(*self))
    }
}

impl SigningKey {
    pub fn from_seed(seed: [u8; 32]) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).expect("32 bytes are an Ed25519 seed");
        Self { seed, pair }
    }

    pub fn generate(random: impl FnOnce(&mut [u8])) -> Self {
        let mut seed = [0; 32];
        random(&mut seed);
        Self::from_seed(seed)
    }

    /// For where it is kept; goes nowhere else.
    pub fn seed(&self) -> &[u8; 32] {
        &self.seed
    }

    /// The seed as it is kept in files.
    pub fn to_base64(&self) -> String {
        BASE64_STANDARD.encode(self.seed)
    }

    pub fn from_base64(text: &str) -> Result<Self, KeyError> {
        Ok(Self::from_seed(decode(text)?))
    }

    pub fn public(&self) -> PublicKey {
        PublicKey(self.pair.public_key().as_ref().try_into().expect("an Ed25519 public key has 32 bytes"))
    }

    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.pair.sign(message).as_ref().to_vec()
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SigningKey({})", self.public().id().short())
    }
}

impl std::fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PublicKey({})", String::from(*self))
    }
}

impl From<PublicKey> for String {
    fn from(key: PublicKey) -> Self {
        BASE64_STANDARD.encode(key.0)
    }
}

impl TryFrom<String> for PublicKey {
    type Error = KeyError;

    fn try_from(text: String) -> Result<Self, KeyError> {
        decode(&text).map(Self)
    }
}

fn decode(text: &str) -> Result<[u8; 32], KeyError> {
    BASE64_STANDARD.decode(text).ok().and_then(|bytes| bytes.try_into().ok()).ok_or(KeyError::Malformed)
}

/// Bytes in JSON as base64 (RFC 4648, section 4).
pub mod bytes {
    use base64::Engine as _;
    use base64::prelude::BASE64_STANDARD;
    use serde::{Deserialize, Deserializer, Serializer, de};

    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64_STANDARD.encode(bytes))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        BASE64_STANDARD.decode(String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8032, section 7.1, test 2.
    #[test]
    fn signs_as_the_rfc_does() {
        let hex = |text: &str| -> Vec<u8> {
            (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
        };
        let seed = hex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb");
        let key = SigningKey::from_seed(seed.try_into().unwrap());
        assert_eq!(key.public().0[..], hex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"));
        let signature = key.sign(&[0x72]);
        assert!(key.public().verify(&[0x72], &signature).is_ok());
        assert_eq!(key.public().verify(&[0x73], &signature), Err(KeyError::BadSignature(key.public())));
        assert!(!format!("{key:?}").contains(&key.to_base64()));
    }
}
