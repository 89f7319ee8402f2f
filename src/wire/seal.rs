//! Secrets sealed to one server: HPKE (RFC 9180) base mode, X25519, HKDF-SHA256, AES-256-GCM.

use rustls::crypto::aws_lc_rs::hpke::DH_KEM_X25519_HKDF_SHA256_AES_256 as SUITE;
use rustls::crypto::hpke::{EncapsulatedSecret, Hpke, HpkePrivateKey, HpkePublicKey};

use crate::model::{Name, Sealed};

const INFO: &[u8] = b"socle sealed secret v1";

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

/// What a secret is for. It opens nowhere else and under no other name.
#[derive(Debug, Clone, Copy)]
pub struct Purpose<'a> {
    pub server: &'a Name,
    pub instance: &'a Name,
    pub secret: &'a Name,
}

pub fn seal(public: &[u8], purpose: Purpose<'_>, value: &[u8]) -> Result<Sealed, SealError> {
    let (EncapsulatedSecret(encapsulated), ciphertext) = SUITE
        .seal(INFO, purpose.bound().as_bytes(), value, &HpkePublicKey(public.to_vec()))
        .map_err(|error| SealError::Seal(purpose.secret.clone(), error))?;
    Ok(Sealed::from_parts(&encapsulated, &ciphertext))
}

pub fn open(private: &[u8], purpose: Purpose<'_>, sealed: &Sealed) -> Result<Vec<u8>, SealError> {
    let (encapsulated, ciphertext) = sealed.parts();
    let encapsulated = EncapsulatedSecret(encapsulated.to_vec());
    let private = HpkePrivateKey::from(private.to_vec());
    SUITE
        .open(&encapsulated, INFO, purpose.bound().as_bytes(), ciphertext, &private)
        .map_err(|error| SealError::Open(purpose.secret.clone(), error))
}

impl Purpose<'_> {
    fn bound(&self) -> String {
        format!("{}/{}/{}", self.server, self.instance, self.secret)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_for_its_purpose_only() {
        let ((public, private), (_, other)) = (generate().unwrap(), generate().unwrap());
        let name = |text: &str| text.parse::<Name>().unwrap();
        let names = [name("ks1"), name("blog"), name("smtp"), name("other")];
        let [server, instance, secret, different] = &names;
        let purpose = Purpose { server, instance, secret };
        let sealed = seal(&public, purpose, b"hunter2").unwrap();
        assert!(!sealed.to_string().contains("hunter2"));
        assert_eq!(sealed.to_string().parse(), Ok(sealed.clone()));
        assert_eq!(open(&private, purpose, &sealed).unwrap(), b"hunter2");
        assert!(open(&other, purpose, &sealed).is_err());
        assert!(open(&private, Purpose { server: different, ..purpose }, &sealed).is_err());
        assert!(open(&private, Purpose { instance: different, ..purpose }, &sealed).is_err());
        assert!(open(&private, Purpose { secret: different, ..purpose }, &sealed).is_err());
        let (encapsulated, ciphertext) = sealed.parts();
        let mut changed = ciphertext.to_vec();
        changed[0] ^= 1;
        assert!(open(&private, purpose, &Sealed::from_parts(encapsulated, &changed)).is_err());
    }
}
