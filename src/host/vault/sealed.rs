//! Sealing and opening: AES-256 in counter mode with Poly1305-AES, and what is compressed before
//! (<https://restic.readthedocs.io/en/stable/100_references.html#keys-encryption-and-mac>).

use std::num::NonZeroU32;

use aes256ctr_poly1305aes::aead::AeadInPlace;
use aes256ctr_poly1305aes::{Aes256CtrPoly1305Aes, Key};
use rustic_core::Id;

use super::error::VaultError;
use super::format::{hash, hex};
use super::index::Blob;

/// A sealed text is so much longer than what is in it: nonce and tag.
pub(super) const SEAL: usize = 32;

/// Most bytes of an index or a snapshot; restic's are a few MiB.
const FILE: u64 = 1 << 30;

/// What is longer is looked at in pieces of this size before it is compressed: photographs, archives and films are
/// most of what people keep, and no smaller for it.
const SAMPLE: usize = 4 << 10;

/// Opens what is sealed. One for each thread: it keeps its tables for decompression.
pub(super) struct Opener {
    key: Key,
    zstd: Option<zstd::bulk::Decompressor<'static>>,
}

impl Opener {
    pub fn new(key: Key) -> Self {
        Self { key, zstd: zstd::bulk::Decompressor::new().ok() }
    }

    /// Nonce, text, tag.
    fn open(&self, sealed: &[u8]) -> Result<Vec<u8>, String> {
        let Some(length) = sealed.len().checked_sub(SEAL) else { return Err("it is too short".into()) };
        let (nonce, rest) = sealed.split_at(SEAL / 2);
        let (text, tag) = rest.split_at(length);
        let mut text = text.to_vec();
        Aes256CtrPoly1305Aes::new(&self.key)
            .decrypt_in_place_detached(nonce.into(), &[], &mut text, tag.into())
            .map_err(|_| "its seal is broken")?;
        Ok(text)
    }

    /// A config, an index or a snapshot: JSON, or a 2 and compressed JSON.
    pub fn file(&self, sealed: &[u8]) -> Result<Vec<u8>, String> {
        use std::io::Read;
        let text = self.open(sealed)?;
        match text.first() {
            Some(b'{' | b'[') => Ok(text),
            Some(2) => {
                let mut plain = Vec::new();
                let limited = zstd::stream::read::Decoder::new(&text[1..]).map(|decoder| decoder.take(FILE));
                limited
                    .and_then(|mut decoder| decoder.read_to_end(&mut plain))
                    .map_err(|error| format!("it cannot be decompressed: {error}"))?;
                Ok(plain)
            }
            _ => Err("it is of an unknown format".into()),
        }
    }

    /// A blob, and that it is the one.
    pub fn blob(&mut self, sealed: &[u8], blob: &Blob, id: &Id) -> Result<Vec<u8>, String> {
        let mut plain = self.open(sealed)?;
        if blob.compressed {
            let zstd = self.zstd.as_mut().ok_or("there is no memory to decompress")?;
            plain = zstd
                .decompress(&plain, blob.plain as usize)
                .map_err(|error| format!("it cannot be decompressed: {error}"))?;
        }
        match hash(&plain) == *id {
            true => Ok(plain),
            false => Err(format!("it does not hold the blob {}", hex(id))),
        }
    }
}

/// Seals what is written. One for each thread: it keeps its tables for compression.
pub(super) struct Sealer {
    key: Key,
    level: Option<i32>,
    zstd: Option<zstd::bulk::Compressor<'static>>,
}

impl Sealer {
    /// `level`: of the compression; `None`: there is none, as in version 1 of the format.
    pub fn new(key: Key, level: Option<i32>) -> Self {
        Self { key, level, zstd: None }
    }

    /// Nonce, text, tag.
    pub fn seal(&self, text: &[u8]) -> Result<Vec<u8>, VaultError> {
        let mut sealed = Vec::with_capacity(text.len() + SEAL);
        sealed.resize(SEAL / 2, 0);
        sealed.extend_from_slice(text);
        self.close(sealed)
    }

    /// The room for the nonce, then the text.
    fn close(&self, mut sealed: Vec<u8>) -> Result<Vec<u8>, VaultError> {
        let failed = |text: String| VaultError::Library { act: "seal what is to be written", text };
        let (nonce, text) = sealed.split_at_mut(SEAL / 2);
        getrandom::fill(nonce).map_err(|error| failed(error.to_string()))?;
        let tag = Aes256CtrPoly1305Aes::new(&self.key)
            .encrypt_in_place_detached((&*nonce).into(), &[], text)
            .map_err(|error| failed(error.to_string()))?;
        sealed.extend_from_slice(&tag);
        Ok(sealed)
    }

    /// JSON, behind a 2 and compressed where the format knows that.
    pub fn file(&mut self, file: &impl serde::Serialize) -> Result<Vec<u8>, VaultError> {
        let failed = |error: serde_json::Error| VaultError::Library { act: "write a file", text: error.to_string() };
        let text = serde_json::to_vec(file).map_err(failed)?;
        match self.compressed(&text, &[2])? {
            Some(sealed) => self.close(sealed),
            None => self.seal(&text),
        }
    }

    /// A blob, and its length if it was compressed.
    pub fn blob(&mut self, plain: &[u8]) -> Result<(Vec<u8>, Option<NonZeroU32>), VaultError> {
        if let Some(length) = u32::try_from(plain.len()).ok().and_then(NonZeroU32::new)
            && self.may_shrink(plain)?
            && let Some(sealed) = self.compressed(plain, &[])?
            && sealed.len() < plain.len()
        {
            return Ok((self.close(sealed)?, Some(length)));
        }
        Ok((self.seal(plain)?, None))
    }

    /// Whether one of three pieces does.
    fn may_shrink(&mut self, plain: &[u8]) -> Result<bool, VaultError> {
        if plain.len() < 16 * SAMPLE {
            return Ok(true);
        }
        for start in [0, plain.len() / 2, plain.len() - SAMPLE] {
            let piece = &plain[start..start + SAMPLE];
            if self.compressed(piece, &[])?.is_some_and(|shorter| shorter.len() < SAMPLE - SAMPLE / 32) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The room for the nonce, `first`, then the text compressed.
    fn compressed(&mut self, plain: &[u8], first: &[u8]) -> Result<Option<Vec<u8>>, VaultError> {
        let failed = |error: std::io::Error| VaultError::Library { act: "compress", text: error.to_string() };
        let Some(level) = self.level else { return Ok(None) };
        let zstd = match &mut self.zstd {
            Some(zstd) => zstd,
            none => none.insert(zstd::bulk::Compressor::new(level).map_err(failed)?),
        };
        let head = SEAL / 2 + first.len();
        let mut sealed = vec![0; head + zstd::zstd_safe::compress_bound(plain.len()) + SEAL / 2];
        sealed[SEAL / 2..head].copy_from_slice(first);
        let length = zstd.compress_to_buffer(plain, &mut sealed[head..]).map_err(failed)?;
        sealed.truncate(head + length);
        Ok(Some(sealed))
    }
}

#[cfg(test)]
mod tests {
    use sha2::{Digest as _, Sha256};

    use super::*;

    #[test]
    fn what_is_sealed_opens_and_only_what_shrinks_is_compressed() {
        let key = Key::from([7; 64]);
        let noise: Vec<u8> = (0..3000u32).flat_map(|number| Sha256::digest(number.to_le_bytes())).collect();
        let text = "The same again. ".repeat(6000).into_bytes();
        // Noise, with text where none of the samples is.
        let mixed = [&noise[..40_000], &text[..8000], &noise[48_000..]].concat();
        let short = &text[..100];
        let few = &noise[..100];
        for (plain, is_compressed) in
            [(&noise[..], false), (&text, true), (&mixed, false), (short, true), (few, false), (&[], false)]
        {
            for level in [Some(0), None] {
                let mut sealer = Sealer::new(key, level);
                let (sealed, length) = sealer.blob(plain).unwrap();
                let wanted = (is_compressed && level.is_some()).then_some(plain.len() as u32);
                assert_eq!(length.map(NonZeroU32::get), wanted);
                let plain_length = plain.len() as u32;
                let (length, compressed) = (sealed.len() as u32, length.is_some());
                let blob = Blob { pack: 0, offset: 0, length, plain: plain_length, compressed };
                assert!(Opener::new(key).blob(&sealed, &blob, &hash(plain)).unwrap() == plain);
                assert!(Opener::new(key).blob(&sealed, &blob, &hash(b"x")).is_err());
            }
        }
    }

    #[test]
    fn files_open_with_and_without_compression() {
        for level in [Some(0), None] {
            let mut sealer = Sealer::new(Key::from([7; 64]), level);
            let sealed = sealer.file(&serde_json::json!({ "packs": [] })).unwrap();
            assert_eq!(Opener::new(Key::from([7; 64])).file(&sealed).unwrap(), br#"{"packs":[]}"#);
        }
    }
}
