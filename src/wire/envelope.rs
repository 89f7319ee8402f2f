//! A signed statement of the controller: DSSE (Dead Simple Signing Envelope, v1) with Ed25519.
//!
//! The signature is over the exact bytes and their type; they are parsed only when it fits. So whoever
//! carries the envelope (TLS, `socle-link`, a file) need not be trusted.

use serde::{Deserialize, Serialize};

use super::key::{self, KeyError, PublicKey, SigningKey};
use super::succession::{self, Link};
use crate::model::fleet::Mark;
use crate::model::{Digest, Name};

/// An envelope may be this long as JSON, in bytes: a document of the largest size in base64, and some.
pub const MAX_BYTES: usize = 4 << 20;

/// Signatures that are looked at. More are refused unread.
const MAX_SIGNATURES: usize = 8;

const PAYLOAD_TYPE: &str = "application/vnd.socle.statement+json";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Envelope {
    payload_type: String,
    #[serde(with = "key::bytes")]
    payload: Vec<u8>,
    signatures: Vec<Signature>,
    /// How the key that signed came to be the fleet's; from its first key on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    succession: Vec<Link>,
}

/// More than one may be asked for later (an operator's beside the controller's): the list is part of the
/// format from the start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Signature {
    keyid: Digest,
    #[serde(with = "key::bytes")]
    sig: Vec<u8>,
}

/// What is signed. Everything that must not be changed or carried elsewhere is in here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Payload {
    pub purpose: Purpose,
    pub fleet: uuid::Uuid,
    /// The server it is for, by name and by the identity it enrolled with.
    pub server: Name,
    pub identity: Digest,
    pub mark: Mark,
    pub issued: jiff::Timestamp,
    /// How the document is called in messages.
    pub file: String,
    /// The document as TOML.
    pub text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Purpose {
    /// To be accepted and brought about.
    Document,
    /// To be planned and answered; changes nothing.
    Plan,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    #[error("the envelope is {0} bytes long, more than {MAX_BYTES}")]
    TooLong(usize),
    #[error("the envelope cannot be read: {0}")]
    Malformed(String),
    #[error("the envelope holds `{0}`, not `{PAYLOAD_TYPE}`")]
    OtherType(String),
    #[error("the envelope has {0} signatures, more than {MAX_SIGNATURES}")]
    TooManySignatures(usize),
    #[error("the envelope is not signed by a key this server trusts")]
    NotSigned,
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error("the succession of the controller's keys cannot be followed: {0}")]
    Succession(String),
    #[error("the signed statement cannot be read: {0}")]
    Payload(String),
    #[error("the statement is for {0}, not for this server")]
    Elsewhere(String),
}

impl Envelope {
    pub fn sign(payload: &Payload, keys: &[&SigningKey]) -> Self {
        let payload = serde_json::to_vec(payload).expect("a payload is plain data");
        let message = pre_authentication_encoding(PAYLOAD_TYPE, &payload);
        let signatures =
            keys.iter().map(|key| Signature { keyid: key.public().id(), sig: key.sign(&message) }).collect();
        Self { payload_type: PAYLOAD_TYPE.to_owned(), payload, signatures, succession: Vec::new() }
    }

    /// For whoever knows only a key that came before the one that signs.
    #[must_use]
    pub fn with_succession(mut self, succession: &[Link]) -> Self {
        self.succession = succession.to_vec();
        self
    }

    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("an envelope is plain data")
    }

    pub fn from_json(bytes: &[u8]) -> Result<Self, EnvelopeError> {
        if bytes.len() > MAX_BYTES {
            return Err(EnvelopeError::TooLong(bytes.len()));
        }
        serde_json::from_slice(bytes).map_err(|error| EnvelopeError::Malformed(error.to_string()))
    }

    /// The keys to trust from now on, having trusted these.
    pub fn successors(&self, trusted: &[PublicKey]) -> Result<Vec<PublicKey>, EnvelopeError> {
        succession::follow(&self.succession, trusted)
    }

    /// Verifies, then parses. One fitting signature of a trusted key is needed, or of the last key that follows it; a
    /// signature in the name of a trusted key that does not fit is an error even beside a fitting one.
    pub fn open(&self, trusted: &[PublicKey]) -> Result<Payload, EnvelopeError> {
        if self.payload_type != PAYLOAD_TYPE {
            return Err(EnvelopeError::OtherType(self.payload_type.clone()));
        }
        if self.signatures.len() > MAX_SIGNATURES {
            return Err(EnvelopeError::TooManySignatures(self.signatures.len()));
        }
        let trusted = self.successors(trusted)?;
        let message = pre_authentication_encoding(&self.payload_type, &self.payload);
        let mut fitting = 0;
        for signature in &self.signatures {
            if let Some(key) = trusted.iter().find(|key| key.id() == signature.keyid) {
                key.verify(&message, &signature.sig)?;
                fitting += 1;
            }
        }
        if fitting == 0 {
            return Err(EnvelopeError::NotSigned);
        }
        serde_json::from_slice(&self.payload).map_err(|error| EnvelopeError::Payload(error.to_string()))
    }
}

impl Payload {
    pub fn digest(&self) -> Digest {
        Digest::of(&self.text)
    }

    /// Whether it is meant for this server. Names are not secret; identities cannot be chosen.
    pub fn is_for(&self, fleet: uuid::Uuid, server: &Name, identity: Digest) -> Result<(), EnvelopeError> {
        if self.fleet != fleet {
            return Err(EnvelopeError::Elsewhere(format!("fleet {}", self.fleet)));
        }
        if self.server != *server {
            return Err(EnvelopeError::Elsewhere(format!("`{}`", self.server)));
        }
        if self.identity != identity {
            return Err(EnvelopeError::Elsewhere(format!("another enrolment of `{server}`")));
        }
        Ok(())
    }
}

/// DSSE v1: what is signed binds the type and both lengths.
pub(super) fn pre_authentication_encoding(kind: &str, payload: &[u8]) -> Vec<u8> {
    let mut message = format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len()).into_bytes();
    message.extend(payload);
    message
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Generation;

    fn key(n: u8) -> SigningKey {
        SigningKey::from_seed([n; 32])
    }

    fn payload() -> Payload {
        Payload {
            purpose: Purpose::Document,
            fleet: uuid::Uuid::nil(),
            server: "ks1".parse().unwrap(),
            identity: Digest::of("ks1"),
            mark: Mark { epoch: 0, generation: Generation(3) },
            issued: jiff::Timestamp::UNIX_EPOCH,
            file: "fleet".into(),
            text: "schema = 1\n".into(),
        }
    }

    #[test]
    fn what_was_signed_comes_out() {
        let envelope = Envelope::from_json(&Envelope::sign(&payload(), &[&key(1)]).to_json()).unwrap();
        assert_eq!(envelope.open(&[key(2).public(), key(1).public()]), Ok(payload()));
        assert_eq!(envelope.open(&[key(2).public()]), Err(EnvelopeError::NotSigned));
        assert_eq!(envelope.open(&[]), Err(EnvelopeError::NotSigned));
    }

    #[test]
    fn no_bit_of_an_envelope_can_be_changed() {
        let trusted = [key(1).public()];
        let bytes = Envelope::sign(&payload(), &[&key(1)]).to_json();
        let signed = payload();
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut changed = bytes.clone();
                changed[at] ^= 1 << bit;
                let opened = Envelope::from_json(&changed).and_then(|envelope| envelope.open(&trusted));
                // Base64 and JSON have more than one way to write the same bytes (padding bits, white space).
                assert!(opened.as_ref().map_or(true, |payload| *payload == signed), "byte {at}, bit {bit}: {opened:?}");
            }
        }
    }

    #[test]
    fn tricks_with_signatures_are_refused() {
        let trusted = [key(1).public()];
        let good = Envelope::sign(&payload(), &[&key(1)]);
        let other = Envelope::sign(&payload(), &[&key(2)]);
        let none = Envelope { signatures: Vec::new(), ..good.clone() };
        assert_eq!(none.open(&trusted), Err(EnvelopeError::NotSigned));
        // Another key's signature under the trusted key's name.
        let mut renamed = other.clone();
        renamed.signatures[0].keyid = key(1).public().id();
        assert_eq!(renamed.open(&trusted), Err(EnvelopeError::Key(KeyError::BadSignature(key(1).public()))));
        // A fitting one does not cover for it.
        let mut both = good.clone();
        both.signatures.push(renamed.signatures[0].clone());
        assert!(both.open(&trusted).is_err());
        let many = Envelope { signatures: vec![good.signatures[0].clone(); 9], ..good.clone() };
        assert_eq!(many.open(&trusted), Err(EnvelopeError::TooManySignatures(9)));
        let typed = Envelope { payload_type: "text/plain".into(), ..good.clone() };
        assert!(matches!(typed.open(&trusted), Err(EnvelopeError::OtherType(_))));
        let trailing = [good.to_json(), b"{}".to_vec()].concat();
        assert!(matches!(Envelope::from_json(&trailing), Err(EnvelopeError::Malformed(_))));
        assert!(matches!(Envelope::from_json(&vec![b' '; MAX_BYTES + 1]), Err(EnvelopeError::TooLong(_))));
        let text = String::from_utf8(good.to_json()).unwrap();
        let twice = text.replacen('{', r#"{"payloadType":"text/plain","#, 1);
        assert!(matches!(Envelope::from_json(twice.as_bytes()), Err(EnvelopeError::Malformed(_))));
    }

    #[test]
    fn a_key_that_follows_a_trusted_one_is_trusted_and_the_one_before_is_not() {
        let link = |from: u8, to: u8| Link::sign(&key(from), key(to).public(), jiff::Timestamp::UNIX_EPOCH);
        let links = [link(1, 2), link(2, 3)];
        let by = |n: u8| Envelope::sign(&payload(), &[&key(n)]).with_succession(&links);
        let sent = Envelope::from_json(&by(3).to_json()).unwrap();
        for knew in 1..=3 {
            assert_eq!(sent.open(&[key(knew).public()]), Ok(payload()), "who knew {knew}");
            assert_eq!(sent.successors(&[key(knew).public()]), Ok(vec![key(3).public()]));
            assert_eq!(by(1).open(&[key(knew).public()]), Err(EnvelopeError::NotSigned), "who knew {knew}");
        }
        assert_eq!(sent.open(&[key(4).public()]), Err(EnvelopeError::NotSigned));
        // Without the way to it, the last key is nobody's.
        assert_eq!(Envelope::sign(&payload(), &[&key(3)]).open(&[key(1).public()]), Err(EnvelopeError::NotSigned));
    }

    #[test]
    fn it_is_for_one_server_of_one_fleet() {
        let signed = payload();
        assert!(signed.is_for(signed.fleet, &signed.server, signed.identity).is_ok());
        assert!(signed.is_for(uuid::Uuid::max(), &signed.server, signed.identity).is_err());
        assert!(signed.is_for(signed.fleet, &"ks2".parse().unwrap(), signed.identity).is_err());
        assert!(signed.is_for(signed.fleet, &signed.server, Digest::of("again")).is_err());
    }
}
