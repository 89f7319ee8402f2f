//! The join token: one line that lets one named server enrol once.
//!
//! Self-describing: where the controller is, which authority it must show (so that nobody else is told
//! anything), and a seed whose public half is all the controller keeps.
//!
//! `socle1_` + base64url (RFC 4648, section 5) of the fields and the first four bytes of their SHA-256,
//! which tell a truncated paste from a wrong token.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use super::SigningKey;
use crate::model::{Digest, Name};

pub(crate) const PREFIX: &str = "socle1_";

/// Holds a secret (the seed): printed whole only by `Display`, for the person who asked for it.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    pub id: TokenId,
    seed: [u8; 32],
    /// SHA-256 of the SubjectPublicKeyInfo of the controller's authority (as in RFC 7469).
    pub pin: [u8; 32],
    /// `host:port` of the controller, tried in order.
    pub addresses: Vec<String>,
    pub server: Name,
    /// Seconds since the epoch. Told to the person who pastes too late; the controller judges by its own.
    pub expires: i64,
}

/// Names a token in lists; no secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TokenId(pub [u8; 8]);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("this is not a join token: it begins with `{PREFIX}`")]
    NotAToken,
    #[error("the join token is damaged or cut off: copy the whole line again")]
    Damaged,
    #[error("`{0}` is not the name of a token: 16 hexadecimal digits")]
    NotAnId(String),
}

/// As it is encoded.
#[derive(Serialize, Deserialize)]
struct Fields(TokenIdBytes, [u8; 32], [u8; 32], Vec<String>, String, i64);
type TokenIdBytes = [u8; 8];

impl JoinToken {
    pub fn new(
        server: Name,
        addresses: Vec<String>,
        pin: [u8; 32],
        expires: jiff::Timestamp,
        random: impl Fn(&mut [u8]),
    ) -> Self {
        let (mut id, mut seed) = ([0; 8], [0; 32]);
        random(&mut id);
        random(&mut seed);
        Self { id: TokenId(id), seed, pin, addresses, server, expires: expires.as_second() }
    }

    /// What proves that one has the token, without showing it.
    pub fn key(&self) -> SigningKey {
        SigningKey::from_seed(self.seed)
    }
}

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let server = self.server.to_string();
        let fields = Fields(self.id.0, self.seed, self.pin, self.addresses.clone(), server, self.expires);
        let mut bytes = postcard::to_stdvec(&fields).expect("a token is plain data");
        bytes.extend(checksum(&bytes));
        write!(f, "{PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl FromStr for JoinToken {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let encoded = text.trim().strip_prefix(PREFIX).ok_or(TokenError::NotAToken)?;
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(encoded).map_err(|_| TokenError::Damaged)?;
        let (fields, sum) = bytes.split_last_chunk::<4>().ok_or(TokenError::Damaged)?;
        if checksum(fields) != *sum {
            return Err(TokenError::Damaged);
        }
        let Fields(id, seed, pin, addresses, server, expires) =
            postcard::from_bytes(fields).map_err(|_| TokenError::Damaged)?;
        let server = server.parse().map_err(|_| TokenError::Damaged)?;
        Ok(Self { id: TokenId(id), seed, pin, addresses, server, expires })
    }
}

fn checksum(bytes: &[u8]) -> [u8; 4] {
    Digest::of(bytes).as_bytes()[..4].try_into().expect("four of 32 bytes")
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinToken({} for {})", self.id, self.server)
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for TokenId {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let wrong = || TokenError::NotAnId(text.to_owned());
        if text.len() != 16 || !text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(wrong());
        }
        u64::from_str_radix(text, 16).map(|n| Self(n.to_be_bytes())).map_err(|_| wrong())
    }
}

impl From<TokenId> for String {
    fn from(id: TokenId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for TokenId {
    type Error = TokenError;

    fn try_from(text: String) -> Result<Self, TokenError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> JoinToken {
        let addresses = vec!["controller.example.org:7443".to_owned()];
        JoinToken::new("ks1".parse().unwrap(), addresses, [7; 32], jiff::Timestamp::UNIX_EPOCH, |bytes| bytes.fill(9))
    }

    #[test]
    fn says_what_it_was_made_with() {
        let text = token().to_string();
        assert!(text.len() < 220, "{} characters", text.len());
        assert_eq!(format!("  {text}\n").parse(), Ok(token()));
        assert_eq!("0909090909090909".parse(), Ok(token().id));
    }

    #[test]
    fn any_changed_or_missing_character_is_noticed() {
        let text = token().to_string();
        for at in PREFIX.len()..text.len() {
            assert_eq!(text[..at].parse::<JoinToken>(), Err(TokenError::Damaged), "cut at {at}");
            let mut other = text.clone().into_bytes();
            other[at] = if other[at] == b'A' { b'B' } else { b'A' };
            assert!(String::from_utf8(other).unwrap().parse::<JoinToken>().is_err(), "changed at {at}");
        }
        assert_eq!("hello".parse::<JoinToken>(), Err(TokenError::NotAToken));
    }

    #[test]
    fn debug_does_not_show_it() {
        let shown = format!("{:?}", token());
        assert_eq!(shown, "JoinToken(0909090909090909 for ks1)");
    }
}
