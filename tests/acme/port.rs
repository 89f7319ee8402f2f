//! The authority as the port, without a wire.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use socle::host::authority::{
    About, Authorities, Authority, AuthorityError, AuthorityResult, Authorization, AuthorizationStatus, ChallengeKind,
    NewOrder, Order, OrderStatus, Proof, Refusal, RenewalInfo,
};
use socle::host::certificates::chain;
use socle::model::{Domain, Name, certificate};

use super::ca::{self, Ca, No, Status};

pub struct FakeAuthority {
    pub ca: Arc<Ca>,
    /// Answers nothing.
    pub out: AtomicBool,
}

/// By name.
pub struct FakeAuthorities(pub BTreeMap<Name, Arc<FakeAuthority>>);

impl Authorities for FakeAuthorities {
    fn open(&self, name: &Name, _: &certificate::Authority) -> Arc<dyn Authority> {
        self.0[name].clone()
    }
}

fn refused(no: No) -> AuthorityError {
    let (host, names) = ("fake".to_owned(), no.names);
    let refusal = Refusal { kind: no.kind.to_owned(), detail: no.detail, names };
    match no.status {
        429 => AuthorityError::RateLimited { host, refusal, retry_after_s: no.retry_after_s },
        404 => AuthorityError::NotFound { host },
        _ => AuthorityError::Refused { host, refusal },
    }
}

impl FakeAuthority {
    pub fn new(ca: Arc<Ca>) -> Arc<Self> {
        Arc::new(Self { ca, out: AtomicBool::new(false) })
    }

    fn reached(&self) -> AuthorityResult<()> {
        if self.out.load(Ordering::SeqCst) {
            return Err(AuthorityError::Unavailable { host: "fake".to_owned(), status: 503, retry_after_s: None });
        }
        Ok(())
    }

    fn wrap(&self, index: usize) -> Box<dyn Order> {
        let seen = self.ca.state().orders[index].clone();
        Box::new(FakeOrder { ca: self.ca.clone(), index, url: format!("fake:order/{index}"), seen })
    }
}

#[async_trait]
impl Authority for FakeAuthority {
    async fn about(&self) -> AuthorityResult<About> {
        self.reached()?;
        let state = self.ca.state();
        let profiles = state.profiles.keys().map(|name| (name.clone(), "a profile".to_owned())).collect();
        let renewal_info = state.ari != ca::Ari::None;
        Ok(About { profiles, caa_identities: vec!["ca.example.net".to_owned()], renewal_info })
    }

    async fn new_order(&self, order: &NewOrder) -> AuthorityResult<Box<dyn Order>> {
        self.reached()?;
        let names: Vec<String> = order.names.iter().map(ToString::to_string).collect();
        let index = self.ca.new_order(&names, order.profile.as_deref(), order.replaces.as_deref());
        Ok(self.wrap(index.map_err(refused)?))
    }

    async fn order(&self, url: &str) -> AuthorityResult<Box<dyn Order>> {
        self.reached()?;
        let index = url.rsplit('/').next().and_then(|part| part.parse().ok());
        let known = index.filter(|index| self.ca.look(*index).is_some());
        known.map(|index| self.wrap(index)).ok_or(AuthorityError::NotFound { host: "fake".to_owned() })
    }

    async fn renewal_info(&self, id: &str) -> AuthorityResult<Option<RenewalInfo>> {
        self.reached()?;
        let told = |(start, end)| RenewalInfo { start, end, explanation: None, retry_after_s: 21_600 };
        Ok(self.ca.window(id).map(told))
    }

    async fn revoke(&self, leaf: &[u8], _: bool) -> AuthorityResult<()> {
        self.reached()?;
        let text = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, leaf);
        let pem = format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n");
        match self.ca.revoke(&chain::read(&pem).unwrap().serial) {
            Err(no) if no.kind == "alreadyRevoked" => Ok(()),
            other => other.map_err(refused),
        }
    }

    async fn roll_key(&self) -> AuthorityResult<()> {
        self.reached()
    }
}

struct FakeOrder {
    ca: Arc<Ca>,
    index: usize,
    url: String,
    seen: ca::Order,
}

#[async_trait]
impl Order for FakeOrder {
    fn url(&self) -> &str {
        &self.url
    }

    fn status(&self) -> OrderStatus {
        match self.seen.status {
            Status::Pending => OrderStatus::Pending,
            Status::Ready => OrderStatus::Ready,
            Status::Processing => OrderStatus::Processing,
            Status::Valid => OrderStatus::Valid,
            Status::Invalid => OrderStatus::Invalid,
        }
    }

    fn error(&self) -> Option<Refusal> {
        None
    }

    async fn refresh(&mut self) -> AuthorityResult<Option<u64>> {
        self.seen = self.ca.look(self.index).unwrap();
        Ok(None)
    }

    async fn authorizations(&mut self, kind: ChallengeKind) -> AuthorityResult<Vec<Authorization>> {
        self.seen.authz = self.ca.state().orders[self.index].authz.clone();
        let offered = |authz: &ca::Authz| kind == ChallengeKind::Dns01 || !authz.wildcard;
        let read = |authz: &ca::Authz| Authorization {
            domain: authz.domain.parse().unwrap(),
            wildcard: authz.wildcard,
            status: match authz.status {
                Status::Valid => AuthorizationStatus::Valid,
                Status::Invalid => AuthorizationStatus::Dead,
                _ => AuthorizationStatus::Pending,
            },
            proof: offered(authz).then(|| Proof { token: authz.token.clone(), value: format!("{}.fake", authz.token) }),
            error: authz.error.clone().map(|no| Refusal { kind: no.kind.into(), detail: no.detail, names: no.names }),
        };
        Ok(self.seen.authz.iter().map(read).collect())
    }

    async fn ready(&mut self, domain: &Domain, wildcard: bool, kind: ChallengeKind) -> AuthorityResult<()> {
        let all = self.ca.state().orders[self.index].authz.clone();
        let at = all.iter().position(|one| one.domain == domain.as_str() && one.wildcard == wildcard).unwrap();
        self.ca.ready(self.index, at, kind.as_str(), &format!("{}.fake", all[at].token));
        Ok(())
    }

    async fn finalize(&mut self, csr: &[u8]) -> AuthorityResult<()> {
        self.ca.finalize(self.index, csr).map_err(refused)?;
        self.seen = self.ca.state().orders[self.index].clone();
        Ok(())
    }

    async fn certificate(&mut self) -> AuthorityResult<String> {
        Ok(self.seen.chain.clone().unwrap_or_default())
    }
}
