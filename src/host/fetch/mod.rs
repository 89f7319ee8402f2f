//! Downloads: the port [`crate::host::Fetch`] over HTTP ([`HttpFetch`]).
//!
//! Owns: which URLs may be asked, mirrors, continuing an interrupted download, the digest on the way.
//! Never: believes a server about a size, a type or a redirect. Start reading at [`HttpFetch`], then
//! [`download`].

mod address;
mod download;
mod error;
mod partial;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::Client;

use address::Address;
use error::FetchError;

use crate::host::{Fetch, Fetched, PortResult, Progress};
use crate::model::document::Source;

/// How long to wait for what.
#[derive(Debug, Clone)]
pub struct Patience {
    pub connect: Duration,
    /// Between two pieces of an answer.
    pub idle: Duration,
    /// Waits between tries; one try more than there are waits.
    pub waits: Vec<Duration>,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            idle: Duration::from_secs(30),
            waits: vec![Duration::from_secs(2), Duration::from_secs(8)],
        }
    }
}

/// The port [`Fetch`] over HTTP and files.
pub struct HttpFetch {
    /// A URL that begins with a key is asked from the value instead; the longest key wins.
    mirrors: BTreeMap<String, String>,
    patience: Patience,
    /// Built when first needed: without the system's CA certificates it cannot be built, and a host
    /// that downloads nothing does not need them.
    client: OnceLock<Client>,
}

impl HttpFetch {
    pub fn new(mirrors: BTreeMap<String, String>) -> Self {
        Self { mirrors, patience: Patience::default(), client: OnceLock::new() }
    }

    pub fn with_patience(mut self, patience: Patience) -> Self {
        self.patience = patience;
        self
    }

    fn client(&self) -> Result<&Client, FetchError> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let built = Client::builder()
            .user_agent(concat!("socle/", env!("CARGO_PKG_VERSION")))
            // Bytes as they are: another crate has this library ask for packed ones.
            .no_gzip()
            .no_deflate()
            .connect_timeout(self.patience.connect)
            .read_timeout(self.patience.idle)
            .redirect(reqwest::redirect::Policy::custom(address::follow))
            .build()
            .map_err(FetchError::Client)?;
        Ok(self.client.get_or_init(|| built))
    }
}

/// Whether it may be asked at all.
#[cfg(any(test, feature = "testing"))]
pub(super) fn check(source: &Source) -> PortResult<()> {
    Ok(Address::of(source, &BTreeMap::new()).map(drop)?)
}

#[async_trait]
impl Fetch for HttpFetch {
    async fn fetch(&self, source: &Source, to: &Path, limit: u64, progress: &dyn Progress) -> PortResult<Fetched> {
        let address = Address::of(source, &self.mirrors)?;
        let fetched = match &address {
            Address::File(path) => download::copy(path, source, to, limit).await?,
            Address::Web(url) => {
                let job = download::Job { client: self.client()?, url, source, to, limit, progress };
                job.run(&self.patience.waits).await?
            }
        };
        Ok(fetched)
    }

    async fn size(&self, source: &Source) -> PortResult<Option<u64>> {
        match Address::of(source, &self.mirrors)? {
            Address::File(path) => {
                let meta = tokio::fs::metadata(&path).await.map_err(|error| FetchError::Open(path, error))?;
                Ok(Some(meta.len()))
            }
            Address::Web(url) => {
                let asked = self.client()?.head(url.clone()).send().await;
                let answer = asked.map_err(|error| FetchError::from_client(&url, error))?;
                let length = answer.headers().get(reqwest::header::CONTENT_LENGTH);
                let size = length.and_then(|length| length.to_str().ok()).and_then(|length| length.parse().ok());
                Ok(if answer.status().is_success() { size } else { None })
            }
        }
    }
}
