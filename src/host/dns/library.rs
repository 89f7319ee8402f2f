//! Providers that the `dns-update` library speaks to.

use dns_update::{DnsRecord, DnsRecordType, DnsUpdater, Error};

use super::error::{Act, DnsError, quoted};
use super::kinds::{Kind, Words};
use super::lookup::text_of;
use super::{Place, TTL_S};
use crate::model::Secret;

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
