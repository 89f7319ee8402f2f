//! The DNS: proofs of control published at a provider, and what the world's name servers answer.
//!
//! Owns: providers and their settings ([`settings`]), questions ([`lookup`]), the wait until every authoritative
//! server knows a record ([`propagation`]). Never: decides whether a name may be ordered. Start reading at
//! [`ProviderDns`].
//!
//! A record's own name is found first, through the aliases at `_acme-challenge` (RFC 8555, 8.4, and the practice
//! of delegating it by CNAME), then its zone: a provider is told both.
//!
//! Rejected: setting the whole record set. A wildcard and its parent need two values at one name, and somebody else
//! may prove the same name at the same time; so values are added and removed one by one.

mod error;
mod exec;
mod kinds;
mod library;
pub mod lookup;
mod ovh;
pub mod propagation;
mod rfc2136;
pub mod settings;

use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Mutex;

pub use error::{Act, DnsError};
pub use lookup::{LookupError, RecordName, Resolver};
use settings::Checked;

use super::{Dns, PortResult};
use crate::model::Domain;
use crate::model::certificate::Provider;

/// How long a record may be held in caches, seconds. It is there for minutes only.
const TTL_S: u32 = 60;

/// Where a value goes.
struct Place {
    name: RecordName,
    zone: RecordName,
}

/// The real port: dispatches to the provider's own way.
pub struct ProviderDns {
    resolver: Resolver,
    /// Some interfaces can only be told the whole set of values, so two writers would undo each other.
    one_at_a_time: Mutex<()>,
}

impl ProviderDns {
    pub fn new(resolver: Resolver) -> Self {
        Self { resolver, one_at_a_time: Mutex::new(()) }
    }

    async fn change(&self, act: Act, provider: &Provider, domain: &Domain, value: &str) -> Result<(), DnsError> {
        let checked = settings::check(provider)?;
        let name = self.resolver.challenge_name(domain).await?;
        let zone = match &checked {
            // The program finds the zone itself.
            Checked::Exec(program) => return program.change(act, &name, value).await,
            other => match other.zone() {
                Some(zone) => zone.clone(),
                None => self.resolver.zone(&name).await?,
            },
        };
        let place = Place { name, zone };
        let _alone = self.one_at_a_time.lock().await;
        match &checked {
            Checked::Rfc2136(server) => server.change(act, &place, value).await,
            Checked::Ovh(account) => account.change(act, &place, value).await,
            Checked::Library(account) => account.change(act, &place, value).await,
            Checked::Exec(_) => unreachable!("done above"),
        }
    }
}

#[async_trait]
impl Dns for ProviderDns {
    async fn publish(&self, provider: &Provider, domain: &Domain, value: &str) -> PortResult<()> {
        Ok(self.change(Act::Publish, provider, domain, value).await?)
    }

    async fn withdraw(&self, provider: &Provider, domain: &Domain, value: &str) -> PortResult<()> {
        Ok(self.change(Act::Withdraw, provider, domain, value).await?)
    }

    async fn propagated(&self, domain: &Domain, value: &str, within: Duration) -> PortResult<()> {
        let name = self.resolver.challenge_name(domain).await.map_err(DnsError::from)?;
        Ok(propagation::await_everywhere(&self.resolver, &name, value, within).await?)
    }
}
