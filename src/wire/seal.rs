//! Secrets sealed to one server: HPKE (RFC 9180) base mode, X25519, HKDF-SHA256, AES-256-GCM.

use rustls::crypto::aws_lc_rs::hpke::DH_KEM_X25519_HKDF_SHA256_AES_256 as SUITE;
use rustls::crypto::hpke::{EncapsulatedSecret, Hpke, HpkePrivateKey, HpkePublicKey};
use serde::{Deserialize, Serialize};

use super::key;
use crate::model::Name;

const INFO: &[u8] = b"socle sealed secret v1";

/// Readable only by the server it was sealed for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sealed {
    #[serde(with = "key::bytes")]
    pub encapsulated: Vec<u8>,
    #[serde(with = "key::bytes")]
    pub ciphertext: Vec<u8>,
}

#[derive(Debug, thiserror::Error)]
pub enum SealError {
    #[error("cannot make a key to seal to")]
    Generate(#[source] rustls::Error),
    #[error("cannot seal the secret `{0}`")]
    Seal(Name, #[source] rustls::Error),
    #[error("the secret `{0}` was not sealed for this server under this name")]
    Open(Name, #[source] rustls::Error),
}

/// Public and private half.
pub fn generate() -> Result<(Vec<u8>, Vec<u8>), SealError> {
    let (public, private) = SUITE.generate_key_pair().map_err(SealError::Generate)?;
    Ok((public.0, private.secret_bytes().to_vec()))
}

/// The server and the secret's name are bound in: it opens nowhere else and under no other name.
pub fn seal(public: &[u8], server: &Name, secret: &Name, value: &[u8]) -> Result<Sealed, SealError> {
    let (EncapsulatedSecret(encapsulated), ciphertext) = SUITE
        .seal(INFO, bound(server, secret).as_bytes(), value, &HpkePublicKey(public.to_vec()))
        .map_err(|error| SealError::Seal(secret.clone(), error))?;
    Ok(Sealed { encapsulated, ciphertext })
}

pub fn open(private: &[u8], server: &Name, secret: &Name, sealed: &Sealed) -> Result<Vec<u8>, SealError> {
    let encapsulated = EncapsulatedSecret(sealed.encapsulated.clone());
    let private = HpkePrivateKey::from(private.to_vec());
    SUITE
        .open(&encapsulated, INFO, bound(server, secret).as_bytes(), &sealed.ciphertext, &private)
        .map_err(|error| SealError::Open(secret.clone(), error))
}

fn bound(server: &Name, secret: &Name) -> String {
    format!("{server}/{secret}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_for_its_server_and_name_only() {
        let (public, private) = generate().unwrap();
        let (_, other) = generate().unwrap();
        let name = |text: &str| text.parse::<Name>().unwrap();
        let sealed = seal(&public, &name("ks1"), &name("smtp"), b"hunter2").unwrap();
        assert!(!serde_json::to_string(&sealed).unwrap().contains("hunter2"));
        assert_eq!(open(&private, &name("ks1"), &name("smtp"), &sealed).unwrap(), b"hunter2");
        assert!(open(&other, &name("ks1"), &name("smtp"), &sealed).is_err());
        assert!(open(&private, &name("ks2"), &name("smtp"), &sealed).is_err());
        assert!(open(&private, &name("ks1"), &name("imap"), &sealed).is_err());
        let mut changed = sealed.clone();
        changed.ciphertext[0] ^= 1;
        assert!(open(&private, &name("ks1"), &name("smtp"), &changed).is_err());
    }
}
