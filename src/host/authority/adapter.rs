use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use instant_acme::{
    CertificateIdentifier, ChallengeStatus, ChallengeType, Identifier, RevocationReason, RevocationRequest,
};
use rustls::pki_types::CertificateDer;
use tokio::sync::Mutex;

use super::account::{Account, AccountFile, Directory};
use super::error::{AuthorityError, AuthorityResult, Refusal};
use super::http::{self, Http, Patience};
use super::{
    About, Authorities, Authority, Authorization, AuthorizationStatus, ChallengeKind, NewOrder, Order, OrderStatus,
    Proof, RenewalInfo,
};
use crate::model::certificate;
use crate::model::{Domain, Name};

/// Accounts below `acme/` of a state directory.
pub struct AcmeAuthorities {
    pub state: PathBuf,
    pub patience: Patience,
}

impl Authorities for AcmeAuthorities {
    fn open(&self, name: &Name, authority: &certificate::Authority) -> Arc<dyn Authority> {
        let directory = self.state.join("acme").join(name.as_str());
        Arc::new(AcmeAuthority::new(&directory, authority.clone(), self.patience))
    }
}

/// The port over `instant-acme`. Reads the authority's directory once in its life: it is to be short.
pub struct AcmeAuthority {
    wanted: certificate::Authority,
    host: String,
    file: AccountFile,
    http: Http,
    directory: Mutex<Option<Directory>>,
    connected: Mutex<Option<Arc<Connected>>>,
}

struct Connected {
    account: Account,
    library: instant_acme::Account,
}

impl AcmeAuthority {
    /// `directory` is where the account is kept.
    pub fn new(directory: &Path, wanted: certificate::Authority, patience: Patience) -> Self {
        Self {
            host: http::host(&wanted.directory),
            file: AccountFile::new(directory),
            http: Http::new(wanted.roots.clone(), patience),
            wanted,
            directory: Mutex::new(None),
            connected: Mutex::new(None),
        }
    }

    async fn directory(&self) -> AuthorityResult<Directory> {
        let mut known = self.directory.lock().await;
        if let Some(directory) = &*known {
            return Ok(directory.clone());
        }
        let directory = Directory::fetch(&self.http, &self.wanted.directory).await?;
        Ok(known.insert(directory).clone())
    }

    /// One caller makes the account, the others wait for it.
    async fn connected(&self) -> AuthorityResult<Arc<Connected>> {
        let mut connected = self.connected.lock().await;
        if let Some(connected) = &*connected {
            return Ok(connected.clone());
        }
        let directory = self.directory().await?;
        let account = self.file.open(&self.http, &directory, &self.wanted).await?;
        let builder = instant_acme::Account::builder_with_http(Box::new(self.http.clone()));
        let library = builder.from_parts(account.id.clone(), account.key.der(), self.wanted.directory.clone()).await;
        let library = library.map_err(|error| self.failed(error))?;
        if account.contacts_differ {
            let contacts: Vec<String> = self.wanted.contacts.iter().map(|at| format!("mailto:{at}")).collect();
            let contacts: Vec<&str> = contacts.iter().map(String::as_str).collect();
            match library.update_contacts(&contacts).await.map_err(|error| self.failed(error)) {
                Ok(()) => self.file.told(&self.wanted.contacts)?,
                // What it wants of the account now is found out by the order.
                Err(error) if is_unknown_account(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(connected.insert(Arc::new(Connected { account, library })).clone())
    }

    /// The authority was set up anew: the account is made again with the next request.
    async fn forget(&self) -> AuthorityResult<()> {
        self.file.forget_id()?;
        *self.connected.lock().await = None;
        Ok(())
    }

    fn failed(&self, error: instant_acme::Error) -> AuthorityError {
        http::from_library(&self.host, error)
    }

    fn nonsense(&self, what: &str) -> AuthorityError {
        AuthorityError::Nonsense { host: self.host.clone(), what: what.to_owned() }
    }

    fn wrap(&self, inner: instant_acme::Order) -> Box<dyn Order> {
        Box::new(AcmeOrder::new(self.host.clone(), self.http.clone(), inner))
    }

    async fn try_new_order(&self, order: &NewOrder) -> AuthorityResult<Box<dyn Order>> {
        let connected = self.connected().await?;
        let names: Vec<Identifier> = order.names.iter().map(|name| Identifier::Dns(name.to_string())).collect();
        let mut asked = instant_acme::NewOrder::new(&names);
        if let Some(profile) = &order.profile {
            asked = asked.profile(profile);
        }
        if let Some(id) = &order.replaces {
            asked = asked.replaces(identifier(id).ok_or_else(|| self.nonsense("a certificate without identifier"))?);
        }
        let made = connected.library.new_order(&asked).await.map_err(|error| self.failed(error))?;
        Ok(self.wrap(made))
    }
}

fn is_unknown_account(error: &AuthorityError) -> bool {
    error.refusal().is_some_and(|refusal| refusal.kind == "accountDoesNotExist")
}

fn identifier(text: &str) -> Option<CertificateIdentifier<'_>> {
    let (authority, serial) = text.split_once('.')?;
    Some(CertificateIdentifier { authority_key_identifier: authority.into(), serial: serial.into() })
}

#[async_trait]
impl Authority for AcmeAuthority {
    async fn about(&self) -> AuthorityResult<About> {
        Ok(self.directory().await?.about())
    }

    async fn new_order(&self, order: &NewOrder) -> AuthorityResult<Box<dyn Order>> {
        match self.try_new_order(order).await {
            Err(error) if is_unknown_account(&error) => {
                self.forget().await?;
                self.try_new_order(order).await
            }
            other => other,
        }
    }

    async fn order(&self, url: &str) -> AuthorityResult<Box<dyn Order>> {
        let connected = self.connected().await?;
        match connected.library.order(url.to_owned()).await.map_err(|error| self.failed(error)) {
            Ok(order) => Ok(self.wrap(order)),
            // An account that is no more has no orders.
            Err(error) if is_unknown_account(&error) => {
                self.forget().await?;
                Err(AuthorityError::NotFound { host: self.host.clone() })
            }
            // RFC 8555 leaves open what is said about an order of nobody, or of another account.
            Err(AuthorityError::Refused { host, refusal })
                if ["malformed", "unauthorized", ""].contains(&refusal.kind.as_str()) =>
            {
                Err(AuthorityError::NotFound { host })
            }
            Err(error) => Err(error),
        }
    }

    async fn renewal_info(&self, id: &str) -> AuthorityResult<Option<RenewalInfo>> {
        if !self.about().await?.renewal_info {
            return Ok(None);
        }
        let connected = self.connected().await?;
        let id = identifier(id).ok_or_else(|| self.nonsense("a certificate without identifier"))?;
        let (info, again) = match connected.library.renewal_info(&id).await.map_err(|error| self.failed(error)) {
            Ok(told) => told,
            Err(AuthorityError::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let window = info.suggested_window;
        let time = |second| jiff::Timestamp::from_second(second).map_err(|_| self.nonsense("a time beyond all dates"));
        Ok(Some(RenewalInfo {
            start: time(window.start.unix_timestamp())?,
            end: time(window.end.unix_timestamp())?,
            explanation: info.explanation_url.map(|url| http::shown(&url)),
            retry_after_s: again.as_secs(),
        }))
    }

    async fn revoke(&self, leaf: &[u8], key_compromised: bool) -> AuthorityResult<()> {
        let connected = self.connected().await?;
        let certificate = CertificateDer::from(leaf);
        let reason = if key_compromised { RevocationReason::KeyCompromise } else { RevocationReason::Unspecified };
        let request = RevocationRequest { certificate: &certificate, reason: Some(reason) };
        match connected.library.revoke(&request).await.map_err(|error| self.failed(error)) {
            Err(error) if error.refusal().is_some_and(|refusal| refusal.kind == "alreadyRevoked") => Ok(()),
            other => other,
        }
    }

    async fn roll_key(&self) -> AuthorityResult<()> {
        let (directory, connected) = (self.directory().await?, self.connected().await?);
        let rolled = self.file.roll(&self.http, &directory, &connected.account).await;
        // Whichever key counts now is found out by the next request.
        *self.connected.lock().await = None;
        rolled
    }
}

struct AcmeOrder {
    host: String,
    http: Http,
    inner: instant_acme::Order,
    /// The authorizations were not read since the order was.
    fresh: bool,
    status: OrderStatus,
    error: Option<Refusal>,
}

impl AcmeOrder {
    fn new(host: String, http: Http, inner: instant_acme::Order) -> Self {
        let mut order = Self { host, http, inner, fresh: true, status: OrderStatus::Pending, error: None };
        order.look();
        order
    }

    /// Takes over what the library saw last.
    fn look(&mut self) {
        let state = self.inner.state();
        self.status = match state.status {
            instant_acme::OrderStatus::Pending => OrderStatus::Pending,
            instant_acme::OrderStatus::Ready => OrderStatus::Ready,
            instant_acme::OrderStatus::Processing => OrderStatus::Processing,
            instant_acme::OrderStatus::Valid => OrderStatus::Valid,
            instant_acme::OrderStatus::Invalid => OrderStatus::Invalid,
        };
        self.error = state.error.as_ref().map(http::read);
    }

    fn failed(&self, error: instant_acme::Error) -> AuthorityError {
        http::from_library(&self.host, error)
    }

    fn nonsense(&self, what: impl Into<String>) -> AuthorityError {
        AuthorityError::Nonsense { host: self.host.clone(), what: what.into() }
    }
}

fn library_kind(kind: ChallengeKind) -> ChallengeType {
    match kind {
        ChallengeKind::Http01 => ChallengeType::Http01,
        ChallengeKind::Dns01 => ChallengeType::Dns01,
    }
}

/// Tokens become file names: RFC 8555, 8.3, allows no others.
fn is_token(token: &str) -> bool {
    let safe = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=256).contains(&token.len()) && token.bytes().all(safe)
}

fn domain_of(identifier: &Identifier) -> Option<Domain> {
    match identifier {
        Identifier::Dns(name) => name.strip_prefix("*.").unwrap_or(name).parse().ok(),
        _ => None,
    }
}

/// What one authorization is for us; an error is what is wrong with it.
fn read_authorization<'a>(
    handle: &'a mut instant_acme::AuthorizationHandle<'a>,
    kind: ChallengeKind,
) -> Result<Authorization, &'static str> {
    let (domain, wildcard) = {
        let identifier = handle.identifier();
        (domain_of(identifier.identifier).ok_or("an authorization for what is no domain")?, identifier.wildcard)
    };
    let status = match handle.status {
        instant_acme::AuthorizationStatus::Pending => AuthorizationStatus::Pending,
        instant_acme::AuthorizationStatus::Valid => AuthorizationStatus::Valid,
        instant_acme::AuthorizationStatus::Invalid
        | instant_acme::AuthorizationStatus::Revoked
        | instant_acme::AuthorizationStatus::Expired
        | instant_acme::AuthorizationStatus::Deactivated => AuthorizationStatus::Dead,
    };
    let error = handle.challenges.iter().find_map(|challenge| challenge.error.as_ref()).map(http::read);
    let challenge = handle.challenge(library_kind(kind));
    let proof = match challenge {
        Some(challenge) if !is_token(&challenge.token) => return Err("a token that is none"),
        Some(challenge) => {
            let authorization = challenge.key_authorization();
            let value = match kind {
                ChallengeKind::Http01 => authorization.as_str().to_owned(),
                ChallengeKind::Dns01 => authorization.dns_value(),
            };
            Some(Proof { token: challenge.token.clone(), value })
        }
        None => None,
    };
    Ok(Authorization { domain, wildcard, status, proof, error })
}

#[async_trait]
impl Order for AcmeOrder {
    fn url(&self) -> &str {
        self.inner.url()
    }

    fn status(&self) -> OrderStatus {
        self.status
    }

    fn error(&self) -> Option<Refusal> {
        self.error.clone()
    }

    async fn refresh(&mut self) -> AuthorityResult<Option<u64>> {
        let refreshed = self.inner.refresh().await.map(drop);
        let again = self.http.take_retry_after(self.inner.url());
        refreshed.map_err(|error| self.failed(error))?;
        self.fresh = true;
        self.look();
        Ok(again)
    }

    async fn authorizations(&mut self, kind: ChallengeKind) -> AuthorityResult<Vec<Authorization>> {
        let fresh = std::mem::replace(&mut self.fresh, false);
        let (mut found, mut wrong) = (Vec::new(), None);
        let failed = {
            let mut all = self.inner.authorizations();
            loop {
                let Some(next) = all.next().await else { break None };
                let mut handle = match next {
                    Ok(handle) => handle,
                    Err(error) => break Some(error),
                };
                if !fresh && let Err(error) = handle.refresh().await {
                    break Some(error);
                }
                match read_authorization(&mut handle, kind) {
                    Ok(authorization) => found.push(authorization),
                    Err(what) => wrong = Some(what),
                }
            }
        };
        match (failed, wrong) {
            (Some(error), _) => Err(self.failed(error)),
            (None, Some(what)) => Err(self.nonsense(what)),
            (None, None) => Ok(found),
        }
    }

    async fn ready(&mut self, domain: &Domain, wildcard: bool, kind: ChallengeKind) -> AuthorityResult<()> {
        let done = {
            let mut all = self.inner.authorizations();
            loop {
                let Some(next) = all.next().await else { break Ok(false) };
                let mut handle = match next {
                    Ok(handle) => handle,
                    Err(error) => break Err(error),
                };
                let is_it = {
                    let identifier = handle.identifier();
                    domain_of(identifier.identifier).as_ref() == Some(domain) && identifier.wildcard == wildcard
                };
                if !is_it {
                    continue;
                }
                let Some(mut challenge) = handle.challenge(library_kind(kind)) else { break Ok(false) };
                // After an interruption it may have been said already.
                if challenge.status != ChallengeStatus::Pending {
                    break Ok(true);
                }
                break challenge.set_ready().await.map(|()| true);
            }
        };
        match done.map_err(|error| self.failed(error))? {
            true => Ok(()),
            false => Err(self.nonsense(format!("no challenge for `{domain}`"))),
        }
    }

    async fn finalize(&mut self, csr: &[u8]) -> AuthorityResult<()> {
        let finalized = self.inner.finalize_csr(csr).await;
        finalized.map_err(|error| self.failed(error))?;
        self.fresh = true;
        self.look();
        Ok(())
    }

    async fn certificate(&mut self) -> AuthorityResult<String> {
        let chain = self.inner.certificate().await.map_err(|error| self.failed(error))?;
        chain.ok_or_else(|| self.nonsense("an order that is valid, and is not"))
    }
}
