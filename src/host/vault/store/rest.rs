//! The REST protocol of restic (<https://restic.readthedocs.io/en/stable/100_references.html#rest-backend>).
//!
//! Our own, not `rustic_backend`'s: that takes every answer but success for "there is no config", so that a server
//! in trouble looks like one without a repository.

use bytes::Bytes;
use reqwest::header::{ACCEPT, RANGE};
use reqwest::{Method, RequestBuilder, StatusCode, Url};
use serde::Deserialize;

use super::http::{Answer, Http, exactly, part, range, refused};
use super::{Id, Kind, Store, StoreError, StoreFault};
use crate::host::vault::Way;

pub struct RestStore {
    base: Url,
    user: Option<(String, String)>,
    http: Http,
}

/// Of the second version of the listing.
#[derive(Deserialize)]
struct Listed {
    name: String,
    size: u64,
}

impl RestStore {
    pub fn new(url: &str, user: Option<(String, String)>, way: Way) -> Result<Self, StoreError> {
        let cannot = |error: String| StoreError::new("use", url, StoreFault::Other(error));
        let mut base = Url::parse(url).map_err(|error| cannot(error.to_string()))?;
        if !base.path().ends_with('/') {
            base.set_path(&format!("{}/", base.path()));
        }
        Ok(Self { base, user, http: Http::new(way).map_err(cannot)? })
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
        let request = self.http.request(method, url);
        match &self.user {
            Some((name, password)) => request.basic_auth(name, Some(password)),
            None => request,
        }
    }

    fn ask(&self, act: &'static str, file: &str, request: impl Fn() -> RequestBuilder) -> Result<Answer, StoreError> {
        self.http.ask(act, file, request)
    }

    /// The length of a file, if there is one.
    fn length(&self, kind: Kind, id: &Id) -> Result<Option<u64>, StoreError> {
        let file = kind.path(id);
        let answer = self.ask("look for", &file, || self.request(Method::HEAD, self.url(kind, Some(id))))?;
        match answer.status {
            StatusCode::NOT_FOUND => Ok(None),
            status if status.is_success() => Ok(Some(answer.length.unwrap_or(0))),
            status => Err(refused("look for", file, status)),
        }
    }
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
            Answer { status, .. } if status.is_success() => Ok(()),
            Answer { status, .. } => Err(refused("make", "the repository", status)),
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
        let Answer { status, body, .. } = self.ask("list", directory, request)?;
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
        let answer = self.ask("read", &file, || self.request(Method::GET, self.url(kind, Some(id))))?;
        match answer.status.is_success() {
            true => exactly(&file, answer),
            false => Err(refused("read", file, answer.status)),
        }
    }

    fn read_part(&self, kind: Kind, id: &Id, offset: u64, length: usize) -> Result<Bytes, StoreError> {
        let file = kind.path(id);
        let range = range(offset, length);
        let request = || self.request(Method::GET, self.url(kind, Some(id))).header(RANGE, &range);
        part(&file, self.ask("read", &file, request)?, offset, length)
    }

    fn write(&self, kind: Kind, id: &Id, content: &[Bytes]) -> Result<(), StoreError> {
        let file = kind.path(id);
        let body = Bytes::from(content.concat());
        let request = || self.request(Method::POST, self.url(kind, Some(id))).body(body.clone());
        let status = self.ask("write", &file, request)?.status;
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
            Answer { status, .. } if status.is_success() || status == StatusCode::NOT_FOUND => Ok(()),
            // restic's own server answers so if it only takes.
            Answer { status: StatusCode::FORBIDDEN, .. } => Err(StoreError::new("remove", file, StoreFault::ReadOnly)),
            Answer { status, .. } => Err(refused("remove", file, status)),
        }
    }
}
