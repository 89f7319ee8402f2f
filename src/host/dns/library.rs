//! Providers that the `dns-update` library speaks to.

use std::time::Duration;

use dns_update::{DnsRecord, DnsRecordType, DnsUpdater, Error};

use super::error::{Act, DnsError, quoted};
use super::lookup::text_of;
use super::{Place, TTL_S};
use crate::model::Secret;

/// Of one request; an act is a few.
const REQUEST: Duration = Duration::from_secs(30);

/// What a provider is made of: its settings and secrets, in the order of its [`Kind`].
pub(super) struct Words<'a> {
    pub settings: Vec<Option<&'a str>>,
    pub secrets: Vec<&'a str>,
}

/// A provider the library knows.
pub(super) struct Kind {
    pub name: &'static str,
    pub settings: &'static [(&'static str, Need)],
    pub secrets: &'static [&'static str],
    make: fn(&Words<'_>) -> dns_update::Result<DnsUpdater>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    Required,
    Optional,
}

const fn token(name: &'static str, make: fn(&Words<'_>) -> dns_update::Result<DnsUpdater>) -> Kind {
    Kind { name, settings: &[], secrets: &["token"], make }
}

/// Those that need no more than a few words. The rest of the library's are reached through `exec`.
pub(super) const KINDS: &[Kind] = &[
    token("bunny", |w| DnsUpdater::new_bunny(w.secrets[0], Some(REQUEST))),
    token("cloudflare", |w| DnsUpdater::new_cloudflare(w.secrets[0], Some(REQUEST))),
    token("desec", |w| DnsUpdater::new_desec(w.secrets[0], Some(REQUEST))),
    token("digitalocean", |w| DnsUpdater::new_digitalocean(w.secrets[0], Some(REQUEST))),
    Kind {
        name: "dnsimple",
        settings: &[("account", Need::Required)],
        secrets: &["token"],
        make: |w| DnsUpdater::new_dnsimple(w.secrets[0], w.settings[0].unwrap_or_default(), Some(REQUEST)),
    },
    Kind {
        name: "domeneshop",
        settings: &[],
        secrets: &["token", "secret"],
        make: |w| DnsUpdater::new_domeneshop(w.secrets[0], w.secrets[1], Some(REQUEST)),
    },
    token("gandi", |w| DnsUpdater::new_gandiv5(w.secrets[0], Some(REQUEST))),
    token("gcore", |w| DnsUpdater::new_gcore(w.secrets[0], Some(REQUEST))),
    token("hetzner", |w| DnsUpdater::new_hetzner(w.secrets[0], Some(REQUEST))),
    token("hostingde", |w| DnsUpdater::new_hostingde(w.secrets[0], Some(REQUEST))),
    token("hostinger", |w| DnsUpdater::new_hostinger(w.secrets[0], Some(REQUEST))),
    token("infomaniak", |w| DnsUpdater::new_infomaniak(w.secrets[0], Some(REQUEST))),
    token("ionos", |w| DnsUpdater::new_ionos(w.secrets[0], Some(REQUEST))),
    token("linode", |w| DnsUpdater::new_linode(w.secrets[0], Some(REQUEST))),
    Kind {
        name: "luadns",
        settings: &[("user", Need::Required)],
        secrets: &["token"],
        make: |w| DnsUpdater::new_luadns(w.settings[0].unwrap_or_default(), w.secrets[0], Some(REQUEST)),
    },
    Kind {
        name: "mythicbeasts",
        settings: &[("user", Need::Required)],
        secrets: &["password"],
        make: |w| DnsUpdater::new_mythicbeasts(w.settings[0].unwrap_or_default(), w.secrets[0], Some(REQUEST)),
    },
    Kind {
        name: "netcup",
        settings: &[("customer", Need::Required)],
        secrets: &["key", "password"],
        make: |w| DnsUpdater::new_netcup(w.settings[0].unwrap_or_default(), w.secrets[0], w.secrets[1], Some(REQUEST)),
    },
    token("netlify", |w| DnsUpdater::new_netlify(w.secrets[0], Some(REQUEST))),
    token("ns1", |w| DnsUpdater::new_ns1(w.secrets[0], Some(REQUEST))),
    Kind {
        name: "porkbun",
        settings: &[],
        secrets: &["key", "secret"],
        make: |w| DnsUpdater::new_porkbun(w.secrets[0], w.secrets[1], Some(REQUEST)),
    },
    Kind {
        name: "powerdns",
        settings: &[("endpoint", Need::Required), ("server", Need::Optional)],
        secrets: &["key"],
        make: |w| DnsUpdater::new_pdns(w.secrets[0], w.settings[0], w.settings[1], Some(REQUEST)),
    },
    token("scaleway", |w| DnsUpdater::new_scaleway(w.secrets[0], Some(REQUEST))),
    token("vultr", |w| DnsUpdater::new_vultr(w.secrets[0], Some(REQUEST))),
    Kind {
        name: "zoneeu",
        settings: &[("user", Need::Required)],
        secrets: &["key"],
        make: |w| DnsUpdater::new_zoneeu(w.settings[0].unwrap_or_default(), w.secrets[0], Some(REQUEST)),
    },
];

pub struct Account {
    kind: &'static str,
    updater: DnsUpdater,
    secrets: Vec<Secret>,
    pub(super) zone: Option<super::RecordName>,
}

impl Account {
    pub(super) fn new(
        kind: &'static Kind,
        words: &Words<'_>,
        zone: Option<super::RecordName>,
    ) -> Result<Self, DnsError> {
        let secrets: Vec<_> = words.secrets.iter().map(|secret| Secret::new(*secret)).collect();
        let made = (kind.make)(words);
        let updater = made.map_err(|error| DnsError::Settings(vec![quoted(&error.to_string(), &secrets)]))?;
        Ok(Self { kind: kind.name, updater, secrets, zone })
    }

    pub(super) async fn change(&self, act: Act, place: &Place, value: &str) -> Result<(), DnsError> {
        apply(&self.updater, self.kind, act, place, value, &self.secrets).await
    }
}

pub(super) async fn apply(
    updater: &DnsUpdater,
    provider: &str,
    act: Act,
    place: &Place,
    value: &str,
    secrets: &[Secret],
) -> Result<(), DnsError> {
    let (name, zone) = (text_of(&place.name), text_of(&place.zone));
    let records = vec![DnsRecord::TXT(value.to_owned())];
    let kind = DnsRecordType::TXT;
    let done = match act {
        Act::Publish => updater.add_to_rrset(&name, kind, TTL_S, records, &zone).await,
        Act::Withdraw => updater.remove_from_rrset(&name, kind, records, &zone).await,
    };
    done.map_err(|error| {
        let says = quoted(&error.to_string(), secrets);
        let provider = provider.to_owned();
        match error {
            // An answer that the server does not sign (RFC 8945, 5.3.2): it does not know the key, or another one.
            Error::Client(_) | Error::Protocol(_) if says.contains("truncated HMACs with TSIG") => {
                let says = "the server does not accept the key (TSIG)".to_owned();
                DnsError::Refused { provider, act, name, zone, says }
            }
            // The library tells the failed connection and the provider's refusal apart by words only.
            Error::Client(_) | Error::Protocol(_) => DnsError::NotReached { provider, act, name, says },
            Error::Api(text) if text.starts_with("Failed to send") || text.starts_with("Failed to read") => {
                DnsError::NotReached { provider, act, name, says }
            }
            _ => DnsError::Refused { provider, act, name, zone, says },
        }
    })
}
