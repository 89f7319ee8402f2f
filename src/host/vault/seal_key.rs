//! A key file of our own making: the library's ask for four times the memory and time of restic's to be opened, and ours
//! is opened by every act. What a long derivation protects is a password that can be guessed; a recovery key cannot.

use aes256ctr_poly1305aes::aead::AeadInPlace;
use aes256ctr_poly1305aes::{Aes256CtrPoly1305Aes, Key};
use bytes::Bytes;
use jiff::Zoned;
use rustic_core::Id;
use rustic_core::repofile::{KeyFile, MasterKey};

use super::error::VaultError;
use super::format::hash;
use super::sealed::SEAL;
use super::store::{Kind, Store};

/// As restic's own: 2^15, 8, 1, which is 32 MiB and a tenth of a second.
const LOG_N: u8 = 15;
const R: u32 = 8;
const P: u32 = 1;

/// Whose key it is, as the list of keys tells.
pub(super) struct Label {
    pub host: Option<String>,
    pub user: String,
    pub at: Zoned,
}

/// Writes a key file that opens the repository of this master key with the password.
pub(super) fn write(
    store: &dyn Store,
    master: &MasterKey,
    password: &str,
    label: Label,
) -> Result<(Id, KeyFile), VaultError> {
    let file = seal(master, password, label)?;
    let text = serde_json::to_vec(&file).map_err(failed)?;
    let id = hash(&text);
    store.write(Kind::Key, &id, &[Bytes::from(text)])?;
    Ok((id, file))
}

fn seal(master: &MasterKey, password: &str, label: Label) -> Result<KeyFile, VaultError> {
    let (mut salt, mut nonce) = (vec![0; 64], [0; SEAL / 2]);
    getrandom::fill(&mut salt).map_err(failed)?;
    getrandom::fill(&mut nonce).map_err(failed)?;
    let mut derived = Key::default();
    let terms = scrypt::Params::new(LOG_N, R, P).map_err(failed)?;
    scrypt::scrypt(password.as_bytes(), &salt, &terms, &mut derived).map_err(failed)?;
    let mut sealed = serde_json::to_vec(master).map_err(failed)?;
    let tag = Aes256CtrPoly1305Aes::new(&derived)
        .encrypt_in_place_detached((&nonce).into(), &[], &mut sealed)
        .map_err(failed)?;
    let Label { host: hostname, user, at } = label;
    Ok(KeyFile {
        hostname,
        username: Some(user),
        created: Some(at),
        kdf: "scrypt".to_owned(),
        n: 1 << LOG_N,
        r: R,
        p: P,
        data: [&nonce[..], &sealed, &tag[..]].concat(),
        salt,
    })
}

fn failed(error: impl std::fmt::Display) -> VaultError {
    VaultError::Library { act: "make the key", text: error.to_string() }
}
