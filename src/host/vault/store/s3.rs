//! S3-compatible storage, in restic's layout. The crate `rusty_s3` signs and reads lists, our client speaks.
//!
//! # Guarantees
//!
//! An object is there whole or not at all: that is the protocol's own. Its length is asked for after it was
//! written. A bucket that is not there is an error and never an empty repository.

use std::time::Duration;

use bytes::Bytes;
use reqwest::header::RANGE;
use reqwest::{Method, RequestBuilder, StatusCode, Url};
use rusty_s3::actions::ListObjectsV2;
use rusty_s3::{Bucket, Credentials, S3Action, UrlStyle};

use super::http::{Answer, Http, exactly, part, range, refused};
use super::{Id, Kind, Store, StoreError, StoreFault};
use crate::host::vault::Way;

/// How long a request may be under way; a pack over a slow line is.
const SIGNED_FOR: Duration = Duration::from_hours(1);

/// Most pages of a list: a thousand names each.
const PAGES: usize = 100_000;

pub struct S3Store {
    bucket: Bucket,
    /// Empty, or ends with `/`.
    prefix: String,
    credentials: Credentials,
    http: Http,
}

/// Where the objects are.
pub struct S3Place {
    pub endpoint: String,
    pub region: String,
    pub bucket: String,
    pub prefix: String,
    pub way: Way,
}

impl S3Store {
    pub fn new(place: S3Place, key: String, secret: String) -> Result<Self, StoreError> {
        let S3Place { endpoint, region, bucket, prefix, way } = place;
        let cannot = |error: String| StoreError::new("use", format!("{endpoint}/{bucket}"), StoreFault::Other(error));
        let url: Url = endpoint.parse().map_err(|error| cannot(format!("{error}")))?;
        let opened = Bucket::new(url, UrlStyle::Path, bucket.clone(), region);
        let prefix = if prefix.is_empty() { prefix } else { format!("{}/", prefix.trim_matches('/')) };
        Ok(Self {
            bucket: opened.map_err(|error| cannot(error.to_string()))?,
            prefix,
            credentials: Credentials::new(key, secret),
            http: Http::new(way).map_err(cannot)?,
        })
    }

    fn object(&self, kind: Kind, id: &Id) -> String {
        format!("{}{}", self.prefix, kind.path(id))
    }

    fn request(&self, method: Method, url: Url) -> RequestBuilder {
        self.http.request(method, url)
    }

    /// All objects whose names begin so, and their lengths.
    fn objects(&self, act: &'static str, file: &str, prefix: &str) -> Result<Vec<(String, u64)>, StoreError> {
        let mut objects = Vec::new();
        let mut next: Option<String> = None;
        for _ in 0..PAGES {
            let request = || {
                let mut list = self.bucket.list_objects_v2(Some(&self.credentials));
                list.with_prefix(prefix);
                if let Some(next) = &next {
                    list.with_continuation_token(next);
                }
                self.request(Method::GET, list.sign(SIGNED_FOR))
            };
            let Answer { status, body, .. } = self.http.ask(act, file, request)?;
            if !status.is_success() {
                return Err(self.refused(act, file, status));
            }
            let other = |why: String| StoreError::new(act, file, StoreFault::Other(why));
            let text = std::str::from_utf8(&body).map_err(|error| other(error.to_string()))?;
            let page = ListObjectsV2::parse_response(text).map_err(|error| other(error.to_string()))?;
            for object in page.contents {
                let length = object.size.ok_or_else(|| other(format!("`{}` has no length", object.key)))?;
                objects.push((object.key, length));
            }
            match page.next_continuation_token {
                None => return Ok(objects),
                token if token == next => return Err(other("the list does not end".to_owned())),
                token => next = token,
            }
        }
        Err(StoreError::new(act, file, StoreFault::Other("the list does not end".to_owned())))
    }

    /// Of what belongs to the bucket and not to one object.
    fn refused(&self, act: &'static str, file: &str, status: StatusCode) -> StoreError {
        match status {
            StatusCode::NOT_FOUND => {
                let why = format!("there is no bucket `{}`", self.bucket.name());
                StoreError::new(act, file, StoreFault::Other(why))
            }
            status => refused(act, file, status),
        }
    }

    fn length(&self, kind: Kind, id: &Id) -> Result<Option<u64>, StoreError> {
        let (file, object) = (kind.path(id), self.object(kind, id));
        let request = || {
            let head = self.bucket.head_object(Some(&self.credentials), &object);
            self.request(Method::HEAD, head.sign(SIGNED_FOR))
        };
        let answer = self.http.ask("look for", &file, request)?;
        match answer.status {
            StatusCode::NOT_FOUND => Ok(None),
            status if status.is_success() => Ok(answer.length),
            status => Err(refused("look for", file, status)),
        }
    }

    fn get(&self, kind: Kind, id: &Id, part: Option<(u64, usize)>) -> Result<Answer, StoreError> {
        let (file, object) = (kind.path(id), self.object(kind, id));
        let request = || {
            let get = self.bucket.get_object(Some(&self.credentials), &object);
            let request = self.request(Method::GET, get.sign(SIGNED_FOR));
            match part {
                Some((offset, length)) => request.header(RANGE, range(offset, length)),
                None => request,
            }
        };
        self.http.ask("read", &file, request)
    }
}

impl Store for S3Store {
    fn name(&self) -> String {
        format!("s3:{}{}", self.bucket.base_url(), self.prefix)
    }

    /// There are no directories; that the bucket is there is looked at.
    fn make(&self) -> Result<(), StoreError> {
        self.objects("make", "the repository", &format!("{}config", self.prefix)).map(|_| ())
    }

    fn list(&self, kind: Kind) -> Result<Vec<(Id, u64)>, StoreError> {
        let directory = kind.directory();
        let below = format!("{}{directory}", self.prefix);
        if kind == Kind::Config {
            // By a list: of one object the answer is the same if the bucket is not there.
            let found = self.objects("list", directory, &below)?;
            let found = found.into_iter().filter(|(name, _)| *name == below);
            return Ok(found.map(|(_, length)| (Id::default(), length)).collect());
        }
        let listed = self.objects("list", directory, &format!("{below}/"))?;
        let id = |name: &str| name.rsplit('/').next()?.parse::<Id>().ok();
        let found = listed.iter().filter_map(|(name, length)| Some((id(name)?, name, *length)));
        // Only what stands where it is looked for.
        Ok(found.filter(|(id, name, _)| **name == self.object(kind, id)).map(|(id, _, length)| (id, length)).collect())
    }

    fn read(&self, kind: Kind, id: &Id) -> Result<Bytes, StoreError> {
        let (file, answer) = (kind.path(id), self.get(kind, id, None)?);
        match answer.status.is_success() {
            true => exactly(&file, answer),
            false => Err(refused("read", file, answer.status)),
        }
    }

    fn read_part(&self, kind: Kind, id: &Id, offset: u64, length: usize) -> Result<Bytes, StoreError> {
        part(&kind.path(id), self.get(kind, id, Some((offset, length)))?, offset, length)
    }

    fn write(&self, kind: Kind, id: &Id, content: &[Bytes]) -> Result<(), StoreError> {
        let (file, object) = (kind.path(id), self.object(kind, id));
        let body = Bytes::from(content.concat());
        if kind == Kind::Config && self.length(kind, id)?.is_some() {
            return Err(StoreError::new("write", file, StoreFault::Other("there is one".to_owned())));
        }
        let request = || {
            let mut put = self.bucket.put_object(Some(&self.credentials), &object);
            if kind == Kind::Config {
                // Where the storage knows no conditions, two makings at once are told apart by what is read after.
                put.headers_mut().insert("if-none-match", "*");
            }
            let request = self.request(Method::PUT, put.sign(SIGNED_FOR)).body(body.clone());
            if kind == Kind::Config { request.header("if-none-match", "*") } else { request }
        };
        let status = self.http.ask("write", &file, request)?.status;
        if status == StatusCode::PRECONDITION_FAILED || status == StatusCode::CONFLICT {
            // A first try whose answer was lost, or another's.
            return match self.read(kind, id)? == body {
                true => Ok(()),
                false => Err(StoreError::new("write", file, StoreFault::Other("there is one".to_owned()))),
            };
        }
        if !status.is_success() {
            return Err(self.refused("write", &file, status));
        }
        let wanted = body.len() as u64;
        match self.length(kind, id)? {
            Some(found) if found == wanted => Ok(()),
            found => {
                let fault = StoreFault::Length { found: found.unwrap_or(0), wanted };
                Err(StoreError::new("write", file, fault))
            }
        }
    }

    fn remove(&self, kind: Kind, id: &Id) -> Result<(), StoreError> {
        let (file, object) = (kind.path(id), self.object(kind, id));
        let request = || {
            let delete = self.bucket.delete_object(Some(&self.credentials), &object);
            self.request(Method::DELETE, delete.sign(SIGNED_FOR))
        };
        match self.http.ask("remove", &file, request)?.status {
            status if status.is_success() || status == StatusCode::NOT_FOUND => Ok(()),
            // A key that may only add.
            StatusCode::FORBIDDEN => Err(StoreError::new("remove", file, StoreFault::ReadOnly)),
            status => Err(refused("remove", file, status)),
        }
    }
}
