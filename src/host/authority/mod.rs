//! ACME authorities (RFC 8555): the port [`Authority`] and its adapter over `instant-acme` ([`AcmeAuthority`]).
//!
//! Owns: the account and its key, the conversation, what an answer means. Never: decides what is ordered, or
//! waits longer than one request. An order is known by its URL and can be taken up again by it.
//!
//! The library speaks JWS, orders and renewal information; HTTP is our own ([`http`]: roots, limits, times), and
//! so are the two acts that bring an account key into use ([`account`]): the library makes such keys itself, and
//! they are to be on disk before anyone else knows them.

mod account;
mod adapter;
mod error;
mod http;
mod jws;

use async_trait::async_trait;

pub use adapter::{AcmeAuthorities, AcmeAuthority};
pub use error::{AuthorityError, AuthorityResult};
pub use http::Patience;

use crate::model::certificate::{self, CertifiedName};
use crate::model::{Domain, Name};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What an authority says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct About {
    /// Names and descriptions; empty if it has no profiles.
    pub profiles: BTreeMap<String, String>,
    /// The identities it looks for in CAA records (RFC 8555, 7.1.1).
    pub caa_identities: Vec<String>,
    /// Whether it gives renewal information (RFC 9773).
    pub renewal_info: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewOrder {
    pub names: Vec<CertifiedName>,
    /// One of [`About::profiles`].
    pub profile: Option<String>,
    /// Identifier of the certificate that is replaced (RFC 9773, 5).
    pub replaces: Option<String>,
}

/// How far an order is (RFC 8555, 7.1.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OrderStatus {
    Pending,
    Ready,
    Processing,
    Valid,
    Invalid,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthorizationStatus {
    Pending,
    Valid,
    /// Invalid, revoked, expired or deactivated: nothing comes of it.
    Dead,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChallengeKind {
    Http01,
    Dns01,
}

impl ChallengeKind {
    pub fn of(challenge: &certificate::Challenge) -> Self {
        match challenge {
            certificate::Challenge::Http01 => Self::Http01,
            certificate::Challenge::Dns01 { .. } => Self::Dns01,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http01 => "http-01",
            Self::Dns01 => "dns-01",
        }
    }
}

/// The proof that is asked for one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authorization {
    pub domain: Domain,
    pub wildcard: bool,
    pub status: AuthorizationStatus,
    /// What is to be published for the kind asked for; `None`: that kind is not offered.
    pub proof: Option<Proof>,
    /// Why it failed, as the authority says.
    pub error: Option<error::Refusal>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// Of the base64url alphabet: safe as a file name.
    pub token: String,
    /// HTTP-01: the content of the file. DNS-01: the value of the record.
    pub value: String,
}

pub use error::Refusal;

/// When the authority wants a certificate renewed (RFC 9773, 4.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenewalInfo {
    pub start: jiff::Timestamp,
    pub end: jiff::Timestamp,
    pub explanation: Option<String>,
    /// When it wants to be asked again, seconds from now.
    pub retry_after_s: u64,
}

/// An account at an ACME authority. The account is made when first needed.
#[async_trait]
pub trait Authority: Send + Sync {
    async fn about(&self) -> AuthorityResult<About>;
    async fn new_order(&self, order: &NewOrder) -> AuthorityResult<Box<dyn Order>>;
    /// An order made before; [`AuthorityError::NotFound`] if it is no more.
    async fn order(&self, url: &str) -> AuthorityResult<Box<dyn Order>>;
    /// `None`: it gives no renewal information, or none for this certificate.
    async fn renewal_info(&self, id: &str) -> AuthorityResult<Option<RenewalInfo>>;
    /// `leaf` is DER. That it was revoked already is fine.
    async fn revoke(&self, leaf: &[u8], key_compromised: bool) -> AuthorityResult<()>;
    /// Replaces the account's key.
    async fn roll_key(&self) -> AuthorityResult<()>;
}

/// One order.
#[async_trait]
pub trait Order: Send {
    fn url(&self) -> &str;
    /// As last seen.
    fn status(&self) -> OrderStatus;
    /// Why it became invalid, as the authority says.
    fn error(&self) -> Option<Refusal>;
    /// Asks again; the time the authority wants to pass before the next question, seconds.
    async fn refresh(&mut self) -> AuthorityResult<Option<u64>>;
    /// Asks for every authorization anew.
    async fn authorizations(&mut self, kind: ChallengeKind) -> AuthorityResult<Vec<Authorization>>;
    /// Says that the proof for this name is published.
    async fn ready(&mut self, domain: &Domain, wildcard: bool, kind: ChallengeKind) -> AuthorityResult<()>;
    async fn finalize(&mut self, csr: &[u8]) -> AuthorityResult<()>;
    /// The chain, PEM, unchecked. The order is valid.
    async fn certificate(&mut self) -> AuthorityResult<String>;
}

/// Opens the account at an authority. Speaks to nobody yet.
pub trait Authorities: Send + Sync {
    fn open(&self, name: &Name, authority: &certificate::Authority) -> Arc<dyn Authority>;
}
