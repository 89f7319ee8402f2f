//! What a document says of certificates, and what that comes to for each instance. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Document, Instance, InstanceState};
use crate::model::certificate::{Acme, CertifiedName, Challenge, KeyType, Limits, Source, Wanted};
use crate::model::{Name, Sealed};

/// Authorities that need no description: name and directory.
pub const BUILT_IN: [(&str, &str); 2] = [
    ("letsencrypt", "https://acme-v02.api.letsencrypt.org/directory"),
    ("letsencrypt-staging", "https://acme-staging-v02.api.letsencrypt.org/directory"),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SourceKind {
    /// Ordered from an ACME authority and renewed by the agent.
    Acme,
    /// From two files that somebody else brings and replaces.
    Files,
    /// From the fleet's own authority.
    Internal,
    /// Made here; no browser trusts it.
    SelfSigned,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ChallengeKind {
    /// By a file served on port 80.
    #[serde(rename = "http-01")]
    Http01,
    /// By a record in the DNS.
    #[serde(rename = "dns-01")]
    Dns01,
}

/// How certificates are ordered; what is missing is said by the server's defaults, or built in.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct AcmeWish {
    pub authorities: Vec<Name>,
    pub challenge: Option<ChallengeKind>,
    /// One of `[dns]`.
    pub dns: Option<Name>,
    pub key_type: Option<KeyType>,
    pub profile: Option<String>,
}

/// The defaults of a server.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Certificates {
    /// Without `mailto:`.
    pub contacts: Vec<String>,
    #[serde(flatten)]
    pub acme: AcmeWish,
    /// Seconds.
    pub hsts: Option<u32>,
}

/// Of one instance.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Certificate {
    pub source: Option<CertificateSource>,
    #[serde(flatten)]
    pub acme: AcmeWish,
    pub wildcard: bool,
    /// Seconds.
    pub hsts: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CertificateSource {
    Acme,
    Files { chain: PathBuf, key: PathBuf },
    Internal,
    SelfSigned,
}

/// Where a secret is; never the secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SecretSource {
    Sealed(Sealed),
    File(PathBuf),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcmeAuthority {
    pub directory: String,
    pub roots: Option<PathBuf>,
    /// None: those of the server.
    pub contacts: Option<Vec<String>>,
    pub binding: Option<Binding>,
    pub limits: Limits,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    pub id: String,
    pub key: SecretSource,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsProvider {
    pub kind: String,
    pub settings: BTreeMap<String, String>,
    pub secrets: BTreeMap<String, SecretSource>,
    pub command: Vec<String>,
}

impl Certificates {
    pub fn says_nothing(&self) -> bool {
        *self == Self::default()
    }
}

impl Certificate {
    pub fn says_nothing(&self) -> bool {
        *self == Self::default()
    }
}

impl Document {
    /// The certificates of all instances that are served.
    pub fn certificates_wanted(&self) -> BTreeMap<Name, Wanted> {
        let served = self.instances.iter().filter(|(_, instance)| instance.state != InstanceState::Absent);
        served.map(|(name, instance)| (name.clone(), self.certificate_of(name, instance))).collect()
    }

    pub fn certificate_of(&self, name: &Name, instance: &Instance) -> Wanted {
        Wanted { name: name.clone(), names: names_of(instance), source: self.source_of(instance) }
    }

    /// Of an instance, in seconds; none: browsers are told nothing.
    pub fn hsts_of(&self, instance: &Instance) -> Option<u32> {
        instance.certificate.hsts.or(self.certificates.hsts).filter(|seconds| *seconds > 0)
    }

    fn source_of(&self, instance: &Instance) -> Source {
        let (own, defaults) = (&instance.certificate, &self.certificates);
        let configured =
            !own.acme.authorities.is_empty() || !defaults.acme.authorities.is_empty() || !defaults.contacts.is_empty();
        match &own.source {
            Some(CertificateSource::Files { chain, key }) => Source::Files { chain: chain.clone(), key: key.clone() },
            Some(CertificateSource::Internal) => Source::Internal,
            Some(CertificateSource::SelfSigned) => Source::SelfSigned,
            Some(CertificateSource::Acme) => Source::Acme(self.acme_of(&own.acme)),
            None if configured => Source::Acme(self.acme_of(&own.acme)),
            None => Source::SelfSigned,
        }
    }

    fn acme_of(&self, own: &AcmeWish) -> Acme {
        let defaults = &self.certificates.acme;
        let authorities = [&own.authorities, &defaults.authorities].into_iter().find(|names| !names.is_empty());
        let lets_encrypt = || BUILT_IN[0].0.parse().expect("a built-in name is a name");
        // Who says how, says it whole: an instance's `http-01` does not meet the server's provider.
        let provider =
            own.dns.as_ref().or(defaults.dns.as_ref()).filter(|_| self.challenge_of(own) == ChallengeKind::Dns01);
        Acme {
            authorities: authorities.cloned().unwrap_or_else(|| vec![lets_encrypt()]),
            challenge: match provider {
                Some(provider) => Challenge::Dns01 { provider: provider.clone() },
                None => Challenge::Http01,
            },
            key: own.key_type.or(defaults.key_type).unwrap_or_default(),
            profile: own.profile.clone().or_else(|| defaults.profile.clone()),
        }
    }

    fn challenge_of(&self, own: &AcmeWish) -> ChallengeKind {
        own.challenge.or(self.certificates.acme.challenge).unwrap_or(ChallengeKind::Http01)
    }
}

/// The domain, what is below it if asked for, and the aliases that this does not cover.
fn names_of(instance: &Instance) -> Vec<CertifiedName> {
    let domain = instance.domain.clone();
    let mut names = vec![CertifiedName::Exact(domain.clone())];
    if instance.certificate.wildcard {
        names.push(CertifiedName::Wildcard(domain));
    }
    let aliases: BTreeSet<_> = instance.aliases.iter().cloned().map(CertifiedName::Exact).collect();
    for alias in aliases {
        if !names.iter().any(|name| name.covers(&alias)) {
            names.push(alias);
        }
    }
    names
}
