//! One order, from wherever it stands to a certificate in place (RFC 8555, 7.4).
//!
//! # Guarantees
//!
//! May be dropped or killed at any await and at any write, and run again: it goes on where it was. The state of
//! the order itself is asked of the authority, never remembered. Nothing is put in place that was not checked.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::attempt::Attempt;
use super::error::AttemptError;
use super::proofs;
use super::record::{InProgress, Published};
use super::watch::Act;
use crate::host::authority::{
    Authority, AuthorityError, Authorization, AuthorizationStatus, ChallengeKind, NewOrder, Order, OrderStatus, Refusal,
};
use crate::host::certificates::{Bundle, ChainProblem, chain, key};
use crate::model::certificate::{Challenge, Meta, Origin};

/// What was put in place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    pub generation: u64,
    pub meta: Meta,
}

impl Attempt<'_> {
    /// Brings the order in the record to its end.
    pub(super) async fn carry_out(&mut self, authority: &dyn Authority) -> Result<Committed, AttemptError> {
        let mut order = self.taken_up(authority).await?;
        loop {
            match order.status() {
                OrderStatus::Pending => self.prove(&mut *order).await?,
                OrderStatus::Ready => {
                    self.before(Act::Finalize).await;
                    let progress = self.progress();
                    let csr = key::request(&self.key()?, &progress.names)?;
                    if !progress.finalized {
                        self.change(|record| {
                            if let Some(order) = &mut record.order {
                                order.finalized = true;
                            }
                        })
                        .await?;
                    }
                    order.finalize(&csr).await?;
                    if order.status() == OrderStatus::Ready {
                        // Nothing happened by it: asking on would be asking for ever.
                        self.awaited(&mut *order, OrderStatus::Ready, Act::AwaitCertificate).await?;
                    }
                }
                OrderStatus::Processing => {
                    self.awaited(&mut *order, OrderStatus::Processing, Act::AwaitCertificate).await?;
                }
                OrderStatus::Valid => break,
                OrderStatus::Invalid => return Err(self.invalid(&mut *order).await),
            }
        }
        self.before(Act::Download).await;
        let received = order.certificate().await?;
        self.install(&received).await
    }

    /// The order of the record, asked for if that was not done yet.
    async fn taken_up(&mut self, authority: &dyn Authority) -> Result<Box<dyn Order>, AttemptError> {
        let progress = self.progress();
        if let Some(url) = &progress.url {
            self.before(Act::Resume { url: url.clone() }).await;
            return Ok(authority.order(url).await?);
        }
        self.before(Act::Order { authority: progress.authority.clone() }).await;
        let InProgress { names, profile, replaces, .. } = progress;
        let mut asked = NewOrder { names, profile, replaces };
        let ordered = match authority.new_order(&asked).await {
            Err(error) if asked.replaces.is_some() && minds_replacing(&error) => {
                asked.replaces = None;
                self.change(|record| {
                    if let Some(order) = &mut record.order {
                        order.replaces = None;
                    }
                })
                .await?;
                authority.new_order(&asked).await
            }
            other => other,
        }?;
        let url = ordered.url().to_owned();
        self.change(|record| {
            if let Some(order) = &mut record.order {
                order.url = Some(url);
            }
        })
        .await?;
        Ok(ordered)
    }

    /// Publishes what proves control of the names, and waits until it was looked at.
    async fn prove(&mut self, order: &mut dyn Order) -> Result<(), AttemptError> {
        let kind = ChallengeKind::of(&self.acme.challenge);
        let all = order.authorizations(kind).await?;
        if all.iter().any(|one| one.status == AuthorizationStatus::Dead) {
            return Err(self.dead(&all, order.error()));
        }
        let open: Vec<&Authorization> = all.iter().filter(|one| one.status == AuthorizationStatus::Pending).collect();
        let mut published = Vec::new();
        for one in &open {
            let (authority, domain) = (self.progress().authority, one.domain.clone());
            let proof = one.proof.as_ref().ok_or(AttemptError::NotOffered { authority, kind, domain })?;
            published.push(match &self.acme.challenge {
                Challenge::Http01 => Published::File { token: proof.token.clone() },
                Challenge::Dns01 { provider } => {
                    let (domain, value) = (one.domain.clone(), proof.value.clone());
                    Published::Record { provider: provider.clone(), domain, value }
                }
            });
        }
        // Before anything is published: so that whatever happens, it is withdrawn one day.
        self.change(|record| {
            published.retain(|one| !record.published.contains(one));
            record.published.append(&mut published);
        })
        .await?;
        for one in &open {
            self.before(Act::Publish { domain: one.domain.clone() }).await;
            self.publish(one).await?;
        }
        if let Challenge::Dns01 { .. } = self.acme.challenge {
            for one in &open {
                self.before(Act::Propagate { domain: one.domain.clone() }).await;
                let value = one.proof.as_ref().map(|proof| proof.value.as_str()).unwrap_or_default();
                let seen = self.run.parts.dns.propagated(&one.domain, value, self.run.parts.patience.propagation).await;
                seen.map_err(|source| AttemptError::Publish { domain: one.domain.clone(), source })?;
            }
        }
        for one in &open {
            self.before(Act::Ready { domain: one.domain.clone() }).await;
            order.ready(&one.domain, one.wildcard, kind).await?;
        }
        self.awaited(order, OrderStatus::Pending, Act::AwaitProof).await
    }

    async fn publish(&self, one: &Authorization) -> Result<(), AttemptError> {
        let Some(proof) = &one.proof else { return Ok(()) };
        let domain = || one.domain.clone();
        match &self.acme.challenge {
            Challenge::Http01 => proofs::write(&self.run.parts.challenges, &proof.token, &proof.value)
                .map_err(|source| AttemptError::Write { domain: domain(), source }),
            Challenge::Dns01 { provider } => {
                let described = self.run.settings.providers.get(provider);
                let described = described.ok_or_else(|| AttemptError::UnknownProvider(provider.clone()))?;
                let done = self.run.parts.dns.publish(described, &one.domain, &proof.value).await;
                done.map_err(|source| AttemptError::Publish { domain: domain(), source })
            }
        }
    }

    /// Asks until the order leaves `status`, as long as patience lasts.
    async fn awaited(&self, order: &mut dyn Order, status: OrderStatus, act: Act) -> Result<(), AttemptError> {
        self.before(act).await;
        let patience = &self.run.parts.patience;
        let deadline = Instant::now() + patience.order;
        let (mut wait, mut rest) = (patience.first, patience.first);
        loop {
            sleep(wait).await;
            let told = match order.refresh().await {
                Ok(_) if order.status() != status => return Ok(()),
                Ok(told) => told,
                Err(error) if error.is_transient() && Instant::now() + wait < deadline => error.retry_after_s(),
                Err(error) => return Err(error.into()),
            };
            rest = (rest * 2).min(patience.most);
            wait = match told {
                // Bounded, or the sum below would be beyond all clocks.
                Some(seconds) if seconds > 0 => Duration::from_secs(seconds.min(1 << 30)),
                Some(_) | None => rest,
            };
            if Instant::now() + wait > deadline {
                return Err(AttemptError::Pending { authority: self.progress().authority, retry_after_s: told });
            }
        }
    }

    /// Why the order became invalid: the authorizations know more than the order.
    async fn invalid(&self, order: &mut dyn Order) -> AttemptError {
        let known = order.error();
        match order.authorizations(ChallengeKind::of(&self.acme.challenge)).await {
            Ok(all) => self.dead(&all, known),
            Err(_) => self.dead(&[], known),
        }
    }

    fn dead(&self, all: &[Authorization], order: Option<Refusal>) -> AttemptError {
        let dead = || all.iter().filter(|one| one.status == AuthorizationStatus::Dead);
        let none = || Refusal { kind: String::new(), detail: String::new(), names: Vec::new() };
        let mut refusal = dead().find_map(|one| one.error.clone()).or(order).unwrap_or_else(none);
        let name =
            |one: &Authorization| if one.wildcard { format!("*.{}", one.domain) } else { one.domain.to_string() };
        refusal.names.extend(dead().map(name));
        AttemptError::Invalid { authority: self.progress().authority, refusal }
    }

    /// Checks what came and puts it in place.
    async fn install(&mut self, received: &str) -> Result<Committed, AttemptError> {
        let (progress, now, key) = (self.progress(), self.run.now(), self.key()?);
        let checked = chain::check(received, &key, &progress.names, now);
        let wrong =
            |problems: Vec<ChainProblem>| AttemptError::Chain { authority: progress.authority.clone(), problems };
        let checked = checked.map_err(wrong)?;
        let meta = Meta {
            source: Origin::Acme,
            names: checked.names,
            not_before: checked.not_before,
            not_after: checked.not_after,
            issued_at: now,
            key: progress.key,
            serial: checked.serial,
            authority: Some(progress.authority.clone()),
            profile: progress.profile.clone(),
            renewal_id: checked.renewal_id,
        };
        let (store, name) = (self.run.store.clone(), self.name.clone());
        let present = store.present(&name)?;
        self.before(Act::Commit).await;
        // An interruption right after the commit: it is in place already.
        let generation = match &present {
            Some(present) if present.meta.serial == meta.serial && present.meta.authority == meta.authority => {
                present.generation
            }
            _ => {
                let bundle = Bundle { chain: received.to_owned(), key, meta: meta.clone() };
                let seen = present.map(|present| present.generation);
                super::attempt::aside(move || store.commit(&name, &bundle, seen)).await?
            }
        };
        Ok(Committed { generation, meta })
    }
}

/// RFC 9773, 5: an order is made without `replaces` when the authority does not want it.
fn minds_replacing(error: &AuthorityError) -> bool {
    match error {
        AuthorityError::Refused { refusal, .. } => {
            ["alreadyReplaced", "malformed", "unauthorized", ""].contains(&refusal.kind.as_str())
        }
        AuthorityError::NotFound { .. } | AuthorityError::Nonsense { .. } => true,
        _ => false,
    }
}
