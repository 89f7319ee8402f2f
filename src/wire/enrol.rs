//! The one call that needs no client certificate: to enrol with a join token, or to come back with the
//! long-lived key after the certificate expired.
//!
//! No secret crosses the wire. Both keys sign the exporter of this very TLS connection (RFC 8446, section
//! 7.5), so what is heard on one cannot be used on another.

use serde::{Deserialize, Serialize};

use super::key::{self, KeyError, PublicKey, SigningKey};
use super::token::TokenId;
use crate::model::report::ErrorReport;
use crate::model::{Digest, Name};

/// A call may be this long, in bytes.
pub const MAX_BYTES: usize = 16 << 10;

/// Label of the exporter.
pub const EXPORTER_LABEL: &[u8] = b"EXPORTER-socle-enrol";

/// What the connection exports, in bytes.
pub type Exporter = [u8; 32];

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Call {
    pub proof: Proof,
    /// The server's long-lived key. It never leaves the server.
    pub identity: PublicKey,
    /// Secrets for this server are sealed to this key (X25519, RFC 9180).
    #[serde(with = "key::bytes")]
    pub sealing: Vec<u8>,
    /// PKCS #10 (RFC 2986), DER. Only its public key is taken.
    #[serde(with = "key::bytes")]
    pub csr: Vec<u8>,
    /// By the identity.
    #[serde(with = "key::bytes")]
    pub signature: Vec<u8>,
    /// The program's version, for people.
    pub version: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "lowercase")]
pub enum Proof {
    /// By the key of a join token.
    Token {
        id: TokenId,
        #[serde(with = "key::bytes")]
        signature: Vec<u8>,
    },
    /// By the identity alone. The number grows by every try; an older one shows a copy of the server.
    Recovery { sequence: u64 },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reply {
    Enrolled(Enrolled),
    Refused { error: ErrorReport },
}

/// What an enrolled server needs to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrolled {
    pub fleet: uuid::Uuid,
    /// For people.
    pub fleet_name: String,
    pub server: Name,
    /// The client certificate, DER.
    #[serde(with = "key::bytes")]
    pub certificate: Vec<u8>,
    /// The controller's authority, DER.
    #[serde(with = "key::bytes")]
    pub authority: Vec<u8>,
    /// `host:port` of the controllers.
    pub addresses: Vec<String>,
    /// Whose documents the server shall believe.
    pub document_keys: Vec<PublicKey>,
}

/// What is signed, apart from the signatures.
#[derive(Serialize)]
struct Statement<'a> {
    exporter: &'a Exporter,
    identity: &'a PublicKey,
    sealing: &'a [u8],
    csr: Digest,
    token: Option<TokenId>,
    sequence: Option<u64>,
}

impl Call {
    pub fn join(
        token: &super::JoinToken,
        identity: &SigningKey,
        sealing: Vec<u8>,
        csr: Vec<u8>,
        over: &Exporter,
    ) -> Self {
        let id = token.id;
        let mut call = Self::unsigned(Proof::Token { id, signature: Vec::new() }, identity, sealing, csr);
        let statement = call.statement(over);
        call.proof = Proof::Token { id, signature: token.key().sign(&statement) };
        call.signature = identity.sign(&statement);
        call
    }

    pub fn recover(sequence: u64, identity: &SigningKey, sealing: Vec<u8>, csr: Vec<u8>, over: &Exporter) -> Self {
        let mut call = Self::unsigned(Proof::Recovery { sequence }, identity, sealing, csr);
        call.signature = identity.sign(&call.statement(over));
        call
    }

    fn unsigned(proof: Proof, identity: &SigningKey, sealing: Vec<u8>, csr: Vec<u8>) -> Self {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        Self { proof, identity: identity.public(), sealing, csr, signature: Vec::new(), version }
    }

    fn statement(&self, exporter: &Exporter) -> Vec<u8> {
        let (token, sequence) = match &self.proof {
            Proof::Token { id, .. } => (Some(*id), None),
            Proof::Recovery { sequence } => (None, Some(*sequence)),
        };
        let (identity, csr) = (&self.identity, Digest::of(&self.csr));
        postcard::to_stdvec(&Statement { exporter, identity, sealing: &self.sealing, csr, token, sequence })
            .expect("a statement is plain data")
    }

    /// That whoever called holds the identity's key.
    pub fn verify_identity(&self, over: &Exporter) -> Result<(), KeyError> {
        self.identity.verify(&self.statement(over), &self.signature)
    }

    /// That whoever called holds the token whose public half is given. False for a recovery.
    pub fn verify_token(&self, token: &PublicKey, over: &Exporter) -> Result<(), KeyError> {
        match &self.proof {
            Proof::Token { signature, .. } => token.verify(&self.statement(over), signature),
            Proof::Recovery { .. } => Err(KeyError::BadSignature(*token)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::JoinToken;

    fn token() -> JoinToken {
        JoinToken::new("ks1".parse().unwrap(), vec![], [0; 32], jiff::Timestamp::UNIX_EPOCH, |bytes| bytes.fill(5))
    }

    #[test]
    fn both_keys_must_fit_and_on_this_connection_only() {
        let (token, identity) = (token(), SigningKey::from_seed([1; 32]));
        let call = Call::join(&token, &identity, vec![3; 32], vec![4; 100], &[1; 32]);
        let public = token.key().public();
        assert!(call.verify_identity(&[1; 32]).is_ok() && call.verify_token(&public, &[1; 32]).is_ok());
        // Relayed over another connection.
        assert!(call.verify_identity(&[2; 32]).is_err() && call.verify_token(&public, &[2; 32]).is_err());
        // With another TLS key, sealing key or identity put in.
        for changed in [
            Call { csr: vec![5; 100], ..call.clone() },
            Call { sealing: vec![9; 32], ..call.clone() },
            Call { identity: SigningKey::from_seed([2; 32]).public(), ..call.clone() },
            Call { proof: Proof::Recovery { sequence: 0 }, ..call.clone() },
        ] {
            assert!(changed.verify_identity(&[1; 32]).is_err());
            assert!(changed.verify_token(&public, &[1; 32]).is_err());
        }
    }

    #[test]
    fn the_token_itself_is_not_in_the_call() {
        let call = Call::join(&token(), &SigningKey::from_seed([1; 32]), vec![], vec![], &[1; 32]);
        let json = serde_json::to_string(&call).unwrap();
        assert!(!json.contains(&token().key().to_base64()));
        assert!(json.len() < MAX_BYTES);
    }
}
