//! The beginning of a fleet: its keys, its database, what is known of it.

use std::path::Path;

use serde::Serialize;

use super::keys::{self, Keys, KeysError};
use super::store::{By, Fleet, FleetError, Store, StoreError, StoreUrl};
use crate::model::{Digest, Name};
use crate::wire::tls::{self, TlsError};

/// Keys of the fleet's settings.
pub mod setting {
    /// `HOST:PORT` of every controller, with a space between: where agents are told to dial.
    pub const ADDRESSES: &str = "addresses";
    pub const BOOTSTRAP_URL: &str = "bootstrap_url";
    /// The name of the key that signs documents, once it was changed: for the audit.
    pub const DOCUMENT_KEY: &str = "document_key";
}

/// What only a person knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answers {
    pub fleet: Name,
    /// Names or addresses under which servers reach the controller.
    pub hosts: Vec<String>,
    pub port: u16,
    /// The script a blank server runs.
    pub bootstrap_url: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum InitError {
    #[error("`{0}` is neither a host name nor an address")]
    Host(String),
    #[error("no name is given under which servers reach the controller")]
    NoHost,
    #[error("`{0}` is no address of a script: it begins with `https://`")]
    BootstrapUrl(String),
    #[error("the database already holds the fleet `{0}`")]
    Exists(Name),
    #[error(transparent)]
    Keys(#[from] KeysError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Made {
    pub fleet: Name,
    pub addresses: Vec<String>,
    /// SHA-256 of the authority's public key: what operators' programs and join tokens know the controller by.
    pub fingerprint: String,
}

impl Answers {
    /// `HOST:PORT` of each, or what is wrong.
    pub fn addresses(&self) -> Result<Vec<String>, InitError> {
        if self.hosts.is_empty() {
            return Err(InitError::NoHost);
        }
        self.hosts.iter().map(|host| address(host, self.port)).collect()
    }

    fn check(&self) -> Result<(), InitError> {
        match &self.bootstrap_url {
            Some(url) if !url.starts_with("https://") && !url.starts_with("http://") => {
                Err(InitError::BootstrapUrl(url.clone()))
            }
            _ => Ok(()),
        }
    }
}

fn address(host: &str, port: u16) -> Result<String, InitError> {
    match host.parse::<std::net::IpAddr>() {
        Ok(std::net::IpAddr::V6(address)) => Ok(format!("[{address}]:{port}")),
        Ok(address) => Ok(format!("{address}:{port}")),
        Err(_) => match host.parse::<crate::model::Domain>() {
            Ok(domain) => Ok(format!("{domain}:{port}")),
            Err(_) => Err(InitError::Host(host.to_owned())),
        },
    }
}

/// Makes the fleet: keys into `home`, the rest into the database. After an interruption it may be run again, with the
/// same name; keys that are there are kept.
pub async fn init(
    home: &Path,
    url: &StoreUrl,
    answers: &Answers,
    by: &By,
    random: impl Fn(&mut [u8]),
) -> Result<Made, InitError> {
    answers.check()?;
    let addresses = answers.addresses()?;
    let store = Store::open(url).await?;
    match store.fleet().await? {
        Some(fleet) if fleet.name != answers.fleet || is_complete(&store).await? => {
            return Err(InitError::Exists(fleet.name));
        }
        _ => {}
    }
    let keys = the_keys(home, answers, by, &random)?;
    let fleet = the_fleet(&store, answers, by, &random).await?;
    if let Some(url) = &answers.bootstrap_url {
        store.set_setting(setting::BOOTSTRAP_URL, Some(url), by).await?;
    }
    // The last: with it the fleet is complete.
    store.set_setting(setting::ADDRESSES, Some(&addresses.join(" ")), by).await?;
    store.close().await;
    Ok(Made { fleet: fleet.name, addresses, fingerprint: fingerprint(&keys)? })
}

async fn is_complete(store: &Store) -> Result<bool, StoreError> {
    Ok(store.setting(setting::ADDRESSES).await?.is_some())
}

/// Those of an interrupted run are kept.
fn the_keys(home: &Path, answers: &Answers, by: &By, random: impl Fn(&mut [u8])) -> Result<Keys, KeysError> {
    let directory = home.join(keys::DIRECTORY);
    match Keys::load(&directory) {
        Err(KeysError::Missing(_)) => Keys::create(&directory, answers.fleet.as_str(), by.now, random),
        loaded => loaded,
    }
}

async fn the_fleet(store: &Store, answers: &Answers, by: &By, random: impl Fn(&mut [u8])) -> Result<Fleet, InitError> {
    let mut id = [0; 16];
    random(&mut id);
    match store.create_fleet(uuid::Builder::from_random_bytes(id).into_uuid(), &answers.fleet, by).await {
        Ok(fleet) => Ok(fleet),
        // Of the interrupted run.
        Err(FleetError::Exists(name)) => store.fleet().await?.ok_or(InitError::Exists(name)),
        Err(FleetError::Store(error)) => Err(error.into()),
        Err(FleetError::LastEpoch) => Err(StoreError::NoFleet.into()),
    }
}

/// `sha256:` and 64 hexadecimal digits.
pub fn fingerprint(keys: &Keys) -> Result<String, TlsError> {
    let pin = tls::pin(keys.authority.certificate())?;
    Ok(format!("sha256:{}", pin.iter().map(|byte| format!("{byte:02x}")).collect::<String>()))
}

/// The pin a fingerprint stands for.
pub fn pin_of(fingerprint: &str) -> Option<[u8; 32]> {
    let digest: Digest = fingerprint.strip_prefix("sha256:").unwrap_or(fingerprint).parse().ok()?;
    Some(*digest.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers() -> Answers {
        Answers {
            fleet: "sol".parse().unwrap(),
            hosts: vec!["controller.example.org".into(), "10.0.0.1".into(), "fd00::1".into()],
            port: 7443,
            bootstrap_url: Some("https://packages.example.org/bootstrap.sh".into()),
        }
    }

    fn by() -> By {
        By::new("uid:0", "2026-11-23T12:00:00Z".parse().unwrap())
    }

    #[tokio::test]
    async fn once_and_then_never_again() {
        let home = tempfile::tempdir().unwrap();
        let url = StoreUrl::sqlite(home.path().join("controller.db"));
        let made = init(home.path(), &url, &answers(), &by(), |bytes| bytes.fill(7)).await.unwrap();
        assert_eq!(made.addresses, ["controller.example.org:7443", "10.0.0.1:7443", "[fd00::1]:7443"]);
        assert_eq!(
            pin_of(&made.fingerprint).unwrap(),
            tls::pin(Keys::load(&home.path().join(keys::DIRECTORY)).unwrap().authority.certificate()).unwrap()
        );
        let again = init(home.path(), &url, &answers(), &by(), |bytes| bytes.fill(8)).await;
        assert!(matches!(again, Err(InitError::Exists(_))), "{again:?}");
    }

    #[tokio::test]
    async fn an_interrupted_one_is_finished() {
        let home = tempfile::tempdir().unwrap();
        let url = StoreUrl::sqlite(home.path().join("controller.db"));
        let store = Store::open(&url).await.unwrap();
        store.create_fleet(uuid::Uuid::nil(), &"sol".parse().unwrap(), &by()).await.unwrap();
        let keys = Keys::create(&home.path().join(keys::DIRECTORY), "sol", by().now, |bytes| bytes.fill(7)).unwrap();
        let made = init(home.path(), &url, &answers(), &by(), |bytes| bytes.fill(8)).await.unwrap();
        assert_eq!(made.fingerprint, fingerprint(&keys).unwrap());
        assert_eq!(store.fleet().await.unwrap().unwrap().id, uuid::Uuid::nil());
        let other = Answers { fleet: "lune".parse().unwrap(), ..answers() };
        assert!(matches!(init(home.path(), &url, &other, &by(), |_| ()).await, Err(InitError::Exists(_))));
    }

    #[test]
    fn bad_answers_are_refused() {
        for host in ["", "a b", "-", "http://x"] {
            let answers = Answers { hosts: vec![host.into()], ..answers() };
            assert!(matches!(answers.addresses(), Err(InitError::Host(_))), "{host}");
        }
        assert!(matches!(Answers { hosts: Vec::new(), ..answers() }.addresses(), Err(InitError::NoHost)));
        let script = Answers { bootstrap_url: Some("bootstrap.sh".into()), ..answers() };
        assert!(matches!(script.check(), Err(InitError::BootstrapUrl(_))));
    }
}
