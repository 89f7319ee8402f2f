//! The key by which a server is let in where its backups are.

use russh::keys::PrivateKey;
use russh::keys::ssh_key::LineEnding;
use russh::keys::ssh_key::private::{Ed25519Keypair, KeypairData};

use crate::model::Secret;

/// Ed25519, in OpenSSH's form.
pub struct SshKey {
    key: PrivateKey,
}

#[derive(Debug, thiserror::Error)]
#[error("this is not a private key of OpenSSH without a passphrase")]
pub struct SshKeyError;

impl SshKey {
    /// `comment`: whose it is, for the person who reads it at the far end.
    pub fn from_seed(seed: &[u8; 32], comment: &str) -> Result<Self, SshKeyError> {
        let pair = KeypairData::from(Ed25519Keypair::from_seed(seed));
        PrivateKey::new(pair, comment.to_owned()).map(|key| Self { key }).map_err(|_| SshKeyError)
    }

    pub fn from_text(text: &str) -> Result<Self, SshKeyError> {
        let key = PrivateKey::from_openssh(text).map_err(|_| SshKeyError)?;
        if key.is_encrypted() { Err(SshKeyError) } else { Ok(Self { key }) }
    }

    pub fn private(&self) -> Result<Secret, SshKeyError> {
        let text = self.key.to_openssh(LineEnding::LF).map_err(|_| SshKeyError)?;
        Ok(Secret::new(text.as_str()))
    }

    /// A line of `authorized_keys`.
    pub fn public(&self) -> Result<String, SshKeyError> {
        self.key.public_key().to_openssh().map_err(|_| SshKeyError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_as_it_was_written() {
        let key = SshKey::from_seed(&[7; 32], "socle@ks1").unwrap();
        let public = key.public().unwrap();
        assert!(public.starts_with("ssh-ed25519 AAAA") && public.ends_with(" socle@ks1"), "{public}");
        let again = SshKey::from_text(key.private().unwrap().expose()).unwrap();
        assert_eq!(again.public().unwrap(), public);
        assert!(SshKey::from_text("-----BEGIN").is_err());
    }
}
