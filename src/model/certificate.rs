//! Certificates as they are wanted: which names, from whom, proven how. What was obtained and when it is
//! renewed is the agent's business, not the document's.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::report::ErrorReport;
use super::{Domain, Name, Secret};

/// A name in a certificate: a domain, or every name one label below it (RFC 6125, 6.4.3).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum CertifiedName {
    Exact(Domain),
    /// `*.` and the domain.
    Wildcard(Domain),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a domain name, nor `*.` and one")]
pub struct CertifiedNameError(String);

impl CertifiedName {
    /// The name whose control is proven: the domain without `*.` (RFC 8555, 7.1.3).
    pub fn domain(&self) -> &Domain {
        let (Self::Exact(domain) | Self::Wildcard(domain)) = self;
        domain
    }

    pub fn is_wildcard(&self) -> bool {
        matches!(self, Self::Wildcard(_))
    }

    /// Whether a certificate for this name serves the other too (RFC 6125, 6.4.3: a star stands for one label).
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Wildcard(parent), Self::Exact(domain)) => {
                domain.as_str().split_once('.').is_some_and(|(_, rest)| rest == parent.as_str())
            }
            _ => self == other,
        }
    }
}

impl FromStr for CertifiedName {
    type Err = CertifiedNameError;

    fn from_str(text: &str) -> Result<Self, CertifiedNameError> {
        let (domain, make): (_, fn(Domain) -> Self) = match text.strip_prefix("*.") {
            Some(parent) => (parent, Self::Wildcard),
            None => (text, Self::Exact),
        };
        domain.parse().map(make).map_err(|_| CertifiedNameError(text.to_owned()))
    }
}

impl TryFrom<String> for CertifiedName {
    type Error = CertifiedNameError;

    fn try_from(text: String) -> Result<Self, CertifiedNameError> {
        text.parse()
    }
}

impl From<CertifiedName> for String {
    fn from(name: CertifiedName) -> Self {
        name.to_string()
    }
}

impl fmt::Display for CertifiedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(domain) => write!(f, "{domain}"),
            Self::Wildcard(domain) => write!(f, "*.{domain}"),
        }
    }
}

/// The kind of a certificate's private key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum KeyType {
    /// ECDSA on NIST P-256: what every client since 2012 takes.
    #[default]
    P256,
    /// RSA with 2048 bits, for clients that know nothing else.
    Rsa2048,
}

/// One certificate that is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The name of its directory below `tls/`: the instance's.
    pub name: Name,
    /// The first is the site's own; at least one, none twice.
    pub names: Vec<CertifiedName>,
    pub source: Source,
}

/// Where a certificate comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    Acme(Acme),
    /// Files that somebody else brings and replaces.
    Files {
        chain: PathBuf,
        key: PathBuf,
    },
    /// The fleet's own authority, for names that only the fleet's people use.
    Internal,
    /// Made here, trusted by nobody.
    SelfSigned,
}

/// How a certificate is ordered (RFC 8555).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acme {
    /// Asked in this order; the next when the one before cannot. At least one.
    pub authorities: Vec<Name>,
    pub challenge: Challenge,
    pub key: KeyType,
    /// The profile asked for (`classic`, `tlsserver`, `shortlived` …), if the authority has profiles.
    pub profile: Option<String>,
}

/// How control of the names is proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Challenge {
    /// RFC 8555, 8.3: a file served by nginx on port 80.
    Http01,
    /// RFC 8555, 8.4: a record published by this provider, of [`Settings::providers`].
    Dns01 { provider: Name },
}

/// An ACME authority.
#[derive(Clone, PartialEq, Eq)]
pub struct Authority {
    /// The address of its directory (RFC 8555, 7.1.1), `https:`.
    pub directory: String,
    /// PEM file of the roots its own address is checked against, instead of the system's.
    pub roots: Option<PathBuf>,
    /// Addresses the authority writes to, without `mailto:`.
    pub contacts: Vec<String>,
    /// External account binding (RFC 8555, 7.3.4): key identifier and base64url HMAC key.
    pub binding: Option<(String, Secret)>,
    pub limits: Limits,
}

/// What an authority allows, as it publishes it; half of it is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// New orders per account in three hours.
    pub orders_per_3h: u32,
    /// Certificates per registered domain in a week.
    pub certificates_per_domain_7d: u32,
    /// Certificates with exactly the same names in a week.
    pub duplicates_7d: u32,
}

impl Limits {
    /// <https://letsencrypt.org/docs/rate-limits/>
    pub const LETS_ENCRYPT: Self = Self { orders_per_3h: 300, certificates_per_domain_7d: 50, duplicates_7d: 5 };
}

/// How a DNS provider is told what to publish. Its secrets are opened already.
#[derive(Clone, PartialEq, Eq)]
pub struct Provider {
    /// `rfc2136`, `ovh`, `exec`, or one that the `dns-update` library knows.
    pub kind: String,
    /// What the kind asks for: checked by `host::dns` when the provider is made.
    pub settings: BTreeMap<String, String>,
    pub secrets: BTreeMap<String, Secret>,
    /// `exec`: the program and its arguments; the act, the name and the value follow.
    pub command: Vec<String>,
}

/// All that the certificates of one server need.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Settings {
    pub certificates: BTreeMap<Name, Wanted>,
    pub authorities: BTreeMap<Name, Authority>,
    pub providers: BTreeMap<Name, Provider>,
}

/// Where a certificate that is there came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    SelfSigned,
    Acme,
    Files,
    Internal,
}

/// What is kept beside a certificate: enough to decide without reading it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    pub source: Origin,
    /// As they stand in it.
    pub names: Vec<CertifiedName>,
    pub not_before: jiff::Timestamp,
    pub not_after: jiff::Timestamp,
    /// When it was put in place here.
    pub issued_at: jiff::Timestamp,
    pub key: KeyType,
    /// Hexadecimal.
    pub serial: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority: Option<Name>,
    /// The profile it was asked for with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// Its identifier in renewal information (RFC 9773, 4.1), if its issuer says whose key signed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renewal_id: Option<String>,
}

impl Meta {
    pub fn lifetime(&self) -> jiff::SignedDuration {
        self.not_after.duration_since(self.not_before)
    }

    /// Whether every one of these names is in it.
    pub fn covers(&self, names: &[CertifiedName]) -> bool {
        names.iter().all(|name| self.names.iter().any(|given| given.covers(name)))
    }
}

/// How long a renewal is overdue, as parts of the time that was left for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Alert {
    /// Half of it is left.
    Half,
    Third,
    Fifth,
    Expired,
}

impl Alert {
    pub fn words(self) -> &'static str {
        match self {
            Alert::Half => "its renewal is overdue",
            Alert::Third => "its renewal is long overdue",
            Alert::Fifth => "it ends soon and could not be renewed",
            Alert::Expired => "it has expired",
        }
    }
}

/// How a certificate stands, for `status` and the report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Standing {
    pub name: Name,
    #[schemars(with = "Vec<String>")]
    pub names: Vec<CertifiedName>,
    /// Missing: there is none at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Origin>,
    pub authority: Option<Name>,
    #[schemars(with = "Option<String>")]
    pub not_after: Option<jiff::Timestamp>,
    /// When it is renewed, or tried again.
    #[schemars(with = "Option<String>")]
    pub next: Option<jiff::Timestamp>,
    /// Wanted, and not in it.
    #[schemars(with = "Vec<String>")]
    pub missing: Vec<CertifiedName>,
    pub last_error: Option<ErrorReport>,
    pub alert: Option<Alert>,
    /// The URL of an order under way.
    pub order: Option<String>,
    /// What was wrong with what the site served, after the last certificate was put in place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub served: Option<ErrorReport>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_and_without_a_star() {
        for (text, domain, wildcard) in
            [("a.example.org", "a.example.org", false), ("*.example.org", "example.org", true)]
        {
            let name: CertifiedName = text.parse().unwrap();
            assert_eq!((name.domain().as_str(), name.is_wildcard()), (domain, wildcard));
            assert_eq!(name.to_string(), text);
        }
        let covers = |a: &str, b: &str| a.parse::<CertifiedName>().unwrap().covers(&b.parse().unwrap());
        assert!(covers("*.example.org", "a.example.org") && covers("*.example.org", "*.example.org"));
        assert!(covers("example.org", "example.org") && !covers("a.example.org", "*.example.org"));
        assert!(!covers("*.example.org", "example.org") && !covers("*.example.org", "a.b.example.org"));
        for bad in ["*", "*.", "a.*.org", "**.org", "*a.org", ""] {
            assert!(bad.parse::<CertifiedName>().is_err(), "{bad:?}");
        }
    }
}
