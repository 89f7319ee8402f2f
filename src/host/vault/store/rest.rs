//! The REST protocol of restic (<https://restic.readthedocs.io/en/stable/100_references.html#rest-backend>).
//!
//! Our own, not `rustic_backend`'s: that takes every answer but success for "there is no config", so that a server
//! in trouble looks like one without a repository.

use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{ACCEPT, CONTENT_LENGTH, RANGE};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode, Url};
use serde::Deserialize;
use tokio::runtime::Runtime;

use super::{Id, Kind, Store, StoreError, StoreFault};

const CONNECT: Duration = Duration::from_secs(20);

/// A server that sends nothing for so long does not answer.
const IDLE: Duration = Duration::from_secs(60);

/// How long is waited before each further try of what may succeed by itself.
const AGAIN: [Duration; 3] = [Duration::from_millis(500), Duration::from_secs(2), Duration::from_secs(5)];

pub struct RestStore {
    base: Url,
    user: Option<(String, String)>,
    client: Client,
    /// Requests come from threads of the library, which wait.
    runtime: Runtime,
}

/// Of the second version of the listing.
#[derive(Deserialize)]
struct Listed {
    name: String,
    size: u64,
}

impl RestStore {
    pub fn new(url: &str, user: Option<(String, String)>) -> Result<Self, StoreError> {
        let cannot = |error: String| StoreError::new("use", url, StoreFault::Other(error));
        let mut base = Url::parse(url).map_err(|error| cannot(error.to_string()))?;
        if !base.path().ends_with('/') {
            base.set_path(&format!("{}/", base.path()));
        }
        let client = Client::builder()
            .user_agent(concat!("socle/", env!("CARGO_PKG_VERSION")))
            // Bytes as they are: another crate has this library ask for packed ones.
            .no_gzip()
            .no_deflate()
            .connect_timeout(CONNECT)
            .read_timeout(IDLE)
            .build()
            .map_err(|error| cannot(error.to_string()))?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(|error| cannot(error.to_string()))?;
        Ok(Self { base, user, client, runtime })
    }

    /// Packs have no directories of two digits here.
    fn url(&self, kind: Kind, id: Option<&Id>) -> Url {
        let mut url = self.base.clone();
        let path = match (kind, id) {
            (Kind::Config, _) => "config".to_owned(),
            (kind, None) => format!("{}/", kind.directory()),
            (kind, Some(id)) => format!("{}/{}", kind.directory(), id.to_hex().as_str()),
        };
        url.set_path(&format!("{}{path}", self.base.path()));
        url
    }

    fn request(&self, method: Method, url: Url) -> RequestBuilder {
        let request = self.client.request(method, url);
        match &self.user {
            Some((name, password)) => request.basic_auth(name, Some(password)),
            None => request,
        }
    }

    /// One request and all of its answer, tried again while that may help.
    fn ask(
        &self,
        act: &'static str,
        file: &str,
        request: impl Fn() -> RequestBuilder,
    ) -> Result<(StatusCode, Option<u64>, Bytes), StoreError> {
        self.runtime.block_on(async {
            let mut waits = AGAIN.into_iter();
            loop {
                let answered = async { whole(request().send().await?).await };
                let fault = match answered.await {
                    Ok((status, ..)) if status.is_server_error() && status != StatusCode::INSUFFICIENT_STORAGE => {
                        StoreFault::Unreachable(status.to_string())
                    }
                    Ok(answer) => return Ok(answer),
                    Err(error) => StoreFault::Unreachable(said(error)),
                };
                match waits.next() {
                    Some(wait) => tokio::time::sleep(wait).await,
                    None => return Err(StoreError::new(act, file, fault)),
                }
            }
        })
    }

    /// The length of a file, if there is one.
    fn length(&self, kind: Kind, id: &Id) -> Result<Option<u64>, StoreError> {
        let file = kind.path(id);
        let answer = self.ask("look for", &file, || self.request(Method::HEAD, self.url(kind, Some(id))))?;
        match answer {
            (StatusCode::NOT_FOUND, ..) => Ok(None),
            (status, length, _) if status.is_success() => Ok(Some(length.unwrap_or(0))),
            (status, ..) => Err(refused("look for", file, status)),
        }
    }
}

async fn whole(response: Response) -> Result<(StatusCode, Option<u64>, Bytes), reqwest::Error> {
    let status = response.status();
    let length = response.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    Ok((status, length, response.bytes().await?))
}

/// With its causes, without the address, which may hold a password.
fn said(error: reqwest::Error) -> String {
    let error = error.without_url();
    let causes = std::iter::successors(std::error::Error::source(&error), |cause| (*cause).source());
    std::iter::once(error.to_string()).chain(causes.map(ToString::to_string)).collect::<Vec<_>>().join(": ")
}

fn refused(act: &'static str, file: impl Into<String>, status: StatusCode) -> StoreError {
    let fault = match status {
        StatusCode::NOT_FOUND => StoreFault::Absent,
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => StoreFault::Forbidden(status.to_string()),
        StatusCode::METHOD_NOT_ALLOWED => StoreFault::ReadOnly,
        StatusCode::INSUFFICIENT_STORAGE | StatusCode::PAYLOAD_TOO_LARGE => StoreFault::Full,
        StatusCode::TOO_MANY_REQUESTS => StoreFault::Unreachable(status.to_string()),
        status => StoreFault::Other(format!("the server answers {status}")),
    };
    StoreError::new(act, file, fault)
}

impl Store for RestStore {
    fn name(&self) -> String {
        let mut url = self.base.clone();
        // Fails only for an address without a host, which has none.
        let _ = url.set_password(None);
        format!("rest:{url}")
    }

    fn make(&self) -> Result<(), StoreError> {
        let mut url = self.base.clone();
        url.set_query(Some("create=true"));
        match self.ask("make", "the repository", || self.request(Method::POST, url.clone()))? {
            (status, ..) if status.is_success() => Ok(()),
            (status, ..) => Err(refused("make", "the repository", status)),
        }
    }

    fn list(&self, kind: Kind) -> Result<Vec<(Id, u64)>, StoreError> {
        if kind == Kind::Config {
            let length = self.length(kind, &Id::default())?;
            return Ok(length.map(|length| (Id::default(), length)).into_iter().collect());
        }
        let directory = kind.directory();
        let version = "application/vnd.x.restic.rest.v2";
        let request = || self.request(Method::GET, self.url(kind, None)).header(ACCEPT, version);
        let (status, _, body) = self.ask("list", directory, request)?;
        if !status.is_success() {
            return Err(refused("list", directory, status));
        }
        // A null is an empty list.
        let listed: Option<Vec<Listed>> = serde_json::from_slice(&body)
            .map_err(|error| StoreError::new("list", directory, StoreFault::Other(error.to_string())))?;
        let listed = listed.unwrap_or_default().into_iter();
        Ok(listed.filter_map(|file| Some((file.name.parse().ok()?, file.size))).collect())
    }

    fn read(&self, kind: Kind, id: &Id) -> Result<Bytes, StoreError> {
        let file = kind.path(id);
        let (status, length, body) = self.ask("read", &file, || self.request(Method::GET, self.url(kind, Some(id))))?;
        match status.is_success() {
            true => exactly(&file, body, length),
            false => Err(refused("read", file, status)),
        }
    }

    fn read_part(&self, kind: Kind, id: &Id, offset: u64, length: usize) -> Result<Bytes, StoreError> {
        let file = kind.path(id);
        let end = offset + length as u64;
        let range = format!("bytes={offset}-{}", end.saturating_sub(1));
        let request = || self.request(Method::GET, self.url(kind, Some(id))).header(RANGE, &range);
        let short = |found| StoreError::new("read", file.clone(), StoreFault::Length { found, wanted: end });
        match self.ask("read", &file, request)? {
            (StatusCode::PARTIAL_CONTENT, _, body) if body.len() == length => Ok(body),
            (StatusCode::PARTIAL_CONTENT, _, body) => Err(short(offset + body.len() as u64)),
            // A server that knows no ranges sends it all.
            (StatusCode::OK, _, body) if body.len() as u64 >= end => Ok(body.slice(offset as usize..end as usize)),
            (StatusCode::OK, _, body) => Err(short(body.len() as u64)),
            (StatusCode::RANGE_NOT_SATISFIABLE, ..) => Err(short(0)),
            (status, ..) => Err(refused("read", file, status)),
        }
    }

    fn write(&self, kind: Kind, id: &Id, content: &[Bytes]) -> Result<(), StoreError> {
        let file = kind.path(id);
        let body = Bytes::from(content.concat());
        let request = || self.request(Method::POST, self.url(kind, Some(id))).body(body.clone());
        let (status, ..) = self.ask("write", &file, request)?;
        if status.is_success() {
            return Ok(());
        }
        // A first try whose answer was lost: an append-only server takes nothing twice. A config is another's.
        if kind != Kind::Config && self.length(kind, id)? == Some(body.len() as u64) {
            return Ok(());
        }
        Err(refused("write", file, status))
    }

    fn remove(&self, kind: Kind, id: &Id) -> Result<(), StoreError> {
        let file = kind.path(id);
        match self.ask("remove", &file, || self.request(Method::DELETE, self.url(kind, Some(id))))? {
            (status, ..) if status.is_success() || status == StatusCode::NOT_FOUND => Ok(()),
            // restic's own server answers so if it only takes.
            (StatusCode::FORBIDDEN, ..) => Err(StoreError::new("remove", file, StoreFault::ReadOnly)),
            (status, ..) => Err(refused("remove", file, status)),
        }
    }
}

fn exactly(file: &str, body: Bytes, length: Option<u64>) -> Result<Bytes, StoreError> {
    match length {
        Some(wanted) if wanted != body.len() as u64 => {
            Err(StoreError::new("read", file, StoreFault::Length { found: body.len() as u64, wanted }))
        }
        _ => Ok(body),
    }
}
