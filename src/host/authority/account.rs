//! The account at an authority: `account.json`, 0600.
//!
//! # Guarantees
//!
//! A key is on disk before the authority knows it. A new key is on disk beside the old one before it replaces it,
//! and which of the two counts is asked of the authority after an interruption. So no account is ever lost, or
//! made twice.

use std::path::{Path, PathBuf};

use hyper::header::LOCATION;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::About;
use super::error::{AuthorityError, AuthorityResult};
use super::http::{self, Http};
use super::jws::{self, AccountKey, Signer};
use crate::durable;
use crate::model::certificate::Authority;

/// What is needed of a directory (RFC 8555, 7.1.1).
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Directory {
    new_nonce: String,
    new_account: String,
    key_change: Option<String>,
    renewal_info: Option<String>,
    #[serde(default)]
    meta: DirectoryMeta,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct DirectoryMeta {
    #[serde(default)]
    profiles: std::collections::BTreeMap<String, String>,
    #[serde(default)]
    caa_identities: Vec<String>,
    #[serde(default)]
    external_account_required: bool,
}

impl Directory {
    pub async fn fetch(http: &Http, url: &str) -> AuthorityResult<Self> {
        let answer = http.get(url).await.map_err(|error| match error {
            AuthorityError::NotFound { host } => {
                AuthorityError::Nonsense { host, what: "there is no directory at its address".to_owned() }
            }
            error => error,
        })?;
        serde_json::from_slice(answer.body()).map_err(|error| AuthorityError::Nonsense {
            host: http::host(url),
            what: format!("a directory that cannot be read: {error}"),
        })
    }

    pub fn about(&self) -> About {
        About {
            profiles: self.meta.profiles.clone(),
            caa_identities: self.meta.caa_identities.clone(),
            renewal_info: self.renewal_info.is_some(),
        }
    }
}

/// `account.json`
#[derive(Clone, Serialize, Deserialize)]
struct Kept {
    directory: String,
    /// A secret.
    key: String,
    /// The account's URL; missing until the authority gave it.
    #[serde(default)]
    id: Option<String>,
    /// A secret: the key that is to replace the other, while that is not settled.
    #[serde(default)]
    next_key: Option<String>,
    /// As the authority knows them.
    #[serde(default)]
    contacts: Vec<String>,
}

/// An account the authority knows.
pub struct Account {
    pub id: String,
    pub key: AccountKey,
    /// The authority writes to others than it should.
    pub contacts_differ: bool,
}

/// The file of one account.
pub struct AccountFile {
    path: PathBuf,
}

impl AccountFile {
    pub fn new(directory: &Path) -> Self {
        Self { path: directory.join("account.json") }
    }

    /// The account, made if there is none yet.
    pub async fn open(&self, http: &Http, directory: &Directory, wanted: &Authority) -> AuthorityResult<Account> {
        let mut kept = match self.load()? {
            Some(kept) if kept.directory == wanted.directory => kept,
            other => {
                // At another address the same key makes another account.
                let key = match other {
                    Some(kept) => kept.key,
                    None => AccountKey::generate()?.to_base64(),
                };
                let kept =
                    Kept { directory: wanted.directory.clone(), key, id: None, next_key: None, contacts: Vec::new() };
                self.store(&kept)?;
                kept
            }
        };
        self.settle(&mut kept, http, directory).await?;
        let key = self.key(&kept.key)?;
        let id = match kept.id.clone() {
            Some(id) => id,
            None => {
                let id = register(http, directory, wanted, &key).await?;
                (kept.id, kept.contacts) = (Some(id.clone()), wanted.contacts.clone());
                self.store(&kept)?;
                id
            }
        };
        Ok(Account { id, key, contacts_differ: kept.contacts != wanted.contacts })
    }

    /// The authority was told these.
    pub fn told(&self, contacts: &[String]) -> AuthorityResult<()> {
        self.change(|kept| kept.contacts = contacts.to_vec())
    }

    /// The authority does not know the account: the same key makes it again.
    pub fn forget_id(&self) -> AuthorityResult<()> {
        self.change(|kept| kept.id = None)
    }

    /// Replaces the account's key (RFC 8555, 7.3.5).
    pub async fn roll(&self, http: &Http, directory: &Directory, account: &Account) -> AuthorityResult<()> {
        let host = http::host(&directory.new_account);
        let url = directory.key_change.as_deref();
        let url = url.ok_or(AuthorityError::Nonsense { host, what: "no way to change a key".to_owned() })?;
        let next = AccountKey::generate()?;
        self.change(|kept| kept.next_key = Some(next.to_base64()))?;
        let inner = json!({ "alg": "ES256", "jwk": next.jwk(), "url": url });
        let payload = next.sign(&inner, &json!({ "account": account.id, "oldKey": account.key.jwk() }))?;
        let signer = Signer::Account(&account.key, &account.id);
        jws::post(http, &directory.new_nonce, signer, url, &payload).await?;
        self.change(Kept::adopt)
    }

    /// After an interrupted change of the key: asks which one counts.
    async fn settle(&self, kept: &mut Kept, http: &Http, directory: &Directory) -> AuthorityResult<()> {
        let Some(next) = &kept.next_key else { return Ok(()) };
        let next = self.key(next)?;
        let payload = json!({ "onlyReturnExisting": true });
        let asked = jws::post(http, &directory.new_nonce, Signer::Key(&next), &directory.new_account, &payload).await;
        match asked {
            Ok(_) => kept.adopt(),
            Err(error) if error.refusal().is_some_and(|refusal| refusal.kind == "accountDoesNotExist") => {
                kept.next_key = None;
            }
            Err(error) => return Err(error),
        }
        self.store(kept)
    }

    fn key(&self, text: &str) -> AuthorityResult<AccountKey> {
        AccountKey::from_base64(text).map_err(|_| AuthorityError::Damaged(self.path.clone(), "its key is none".into()))
    }

    fn change(&self, change: impl FnOnce(&mut Kept)) -> AuthorityResult<()> {
        let gone = || AuthorityError::Damaged(self.path.clone(), "it went away".into());
        let mut kept = self.load()?.ok_or_else(gone)?;
        change(&mut kept);
        self.store(&kept)
    }

    fn load(&self) -> AuthorityResult<Option<Kept>> {
        let Some(bytes) = durable::read(&self.path).map_err(AuthorityError::Keep)? else { return Ok(None) };
        // The words of the parser could hold part of the key.
        let damaged = |_| AuthorityError::Damaged(self.path.clone(), "it cannot be read".into());
        serde_json::from_slice(&bytes).map(Some).map_err(damaged)
    }

    fn store(&self, kept: &Kept) -> AuthorityResult<()> {
        let parent = self.path.parent().expect("a file in a directory");
        let made = std::fs::create_dir_all(parent);
        made.map_err(|error| AuthorityError::Keep(durable::DurableError::Write(parent.to_owned(), error)))?;
        let bytes = serde_json::to_vec_pretty(kept).expect("an account is plain data");
        durable::write(&self.path, &bytes, 0o600).map_err(AuthorityError::Keep)
    }
}

impl Kept {
    fn adopt(&mut self) {
        if let Some(next) = self.next_key.take() {
            self.key = next;
        }
    }
}

/// Gives the account's URL. For a key that has an account already: that one's.
async fn register(http: &Http, directory: &Directory, wanted: &Authority, key: &AccountKey) -> AuthorityResult<String> {
    let url = &directory.new_account;
    let contacts: Vec<String> = wanted.contacts.iter().map(|address| format!("mailto:{address}")).collect();
    let mut payload = json!({ "termsOfServiceAgreed": true, "contact": contacts });
    if let Some((id, secret)) = &wanted.binding {
        payload["externalAccountBinding"] = jws::binding(id, secret.expose(), key, url)?;
    } else if directory.meta.external_account_required {
        let kind = "externalAccountRequired".to_owned();
        let detail = "it gives accounts only to customers it knows already".to_owned();
        let refusal = super::Refusal { kind, detail, names: Vec::new() };
        return Err(AuthorityError::Refused { host: http::host(url), refusal });
    }
    let answer = jws::post(http, &directory.new_nonce, Signer::Key(key), url, &payload).await?;
    let location = answer.headers().get(LOCATION).and_then(|location| location.to_str().ok());
    let nonsense = || AuthorityError::Nonsense { host: http::host(url), what: "an account without a URL".to_owned() };
    location.map(str::to_owned).ok_or_else(nonsense)
}
