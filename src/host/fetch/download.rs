//! One download, in as many tries as it is given.

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::StreamExt;
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, IF_RANGE, LOCATION, RANGE};
use reqwest::{Client, Response, StatusCode, Url};
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncWriteExt;

use super::address::shown;
use super::error::FetchError;
use super::partial::{Identity, Partial, hash, remove};
use crate::host::{Fetched, Progress};
use crate::model::Digest;
use crate::model::document::Source;

pub(super) struct Job<'a> {
    pub client: &'a Client,
    pub url: &'a Url,
    pub source: &'a Source,
    pub to: &'a Path,
    pub limit: u64,
    pub progress: &'a dyn Progress,
}

/// Where a try begins: behind the bytes that are there, or at the beginning.
struct Begun {
    identity: Option<Identity>,
    length: u64,
    hasher: Sha256,
}

impl Begun {
    fn anew() -> Self {
        Self { identity: None, length: 0, hasher: Sha256::new() }
    }
}

impl Job<'_> {
    /// Cancel safe: what was written is continued by the next run.
    pub async fn run(&self, waits: &[Duration]) -> Result<Fetched, FetchError> {
        if let Some(whole) = self.already_there()? {
            return Ok(whole);
        }
        let mut waits = waits.iter();
        loop {
            match self.attempt().await {
                Err(error) if error.is_transient() => {
                    let Some(wait) = waits.next() else { return Err(error) };
                    self.progress.say(&format!("{error}, trying again in {} s", wait.as_secs()));
                    tokio::time::sleep(*wait).await;
                }
                other => return other,
            }
        }
    }

    /// A complete file of an earlier pass is good if its digest says so; without one it is not
    /// believed.
    fn already_there(&self) -> Result<Option<Fetched>, FetchError> {
        if let Some(wanted) = self.source.sha256
            && let Ok((bytes, hasher)) = hash(self.to)
        {
            let sha256 = Digest::from_hasher(hasher);
            if sha256 == wanted {
                return Ok(Some(Fetched { path: self.to.to_owned(), sha256, bytes }));
            }
        }
        remove(self.to).map_err(|source| write_error(self.to, None, source))?;
        Ok(None)
    }

    async fn attempt(&self) -> Result<Fetched, FetchError> {
        let partial = Partial::of(self.to);
        let begun = partial.begun(self.url.as_str()).map(|(identity, length, hasher)| Begun {
            identity: Some(identity),
            length,
            hasher,
        });
        let (answer, begun) = self.ask(begun.unwrap_or_else(Begun::anew)).await?;
        self.refuse_html(answer.headers(), begun.length)?;
        let total = length_of(answer.headers()).map(|rest| rest + begun.length);
        if total.is_some_and(|total| total > self.limit) {
            return Err(self.discarded(&partial, self.too_big()));
        }
        let identity = Identity::of(self.url.as_str(), answer.headers()).or(begun.identity.clone());
        partial.note(identity.as_ref()).map_err(|source| write_error(&partial.bytes, total, source))?;
        let continued = begun.length > 0;
        let (bytes, hasher) = self.receive(answer, begun, total, &partial).await?;
        let found = Digest::from_hasher(hasher);
        if continued && self.source.sha256.is_some_and(|wanted| wanted != found) {
            // The server may have changed the file without changing its validator: once from the beginning.
            return Err(self.discarded(&partial, FetchError::Broken(shown(self.url), None)));
        }
        if let Some(wanted) = self.source.sha256.filter(|wanted| *wanted != found) {
            let error = FetchError::Digest { url: shown(self.url), wanted, found };
            return Err(self.discarded(&partial, error));
        }
        partial.complete(self.to).map_err(|source| write_error(self.to, None, source))?;
        Ok(Fetched { path: self.to.to_owned(), sha256: found, bytes })
    }

    /// Sends the request; what comes back begins where the returned `Begun` ends.
    async fn ask(&self, begun: Begun) -> Result<(Response, Begun), FetchError> {
        let mut request = self.client.get(self.url.clone());
        if let Some(identity) = &begun.identity {
            request = request.header(RANGE, format!("bytes={}-", begun.length)).header(IF_RANGE, &identity.validator);
        }
        let answer = self.send(request).await?;
        match answer.status() {
            StatusCode::OK => Ok((answer, Begun::anew())),
            StatusCode::PARTIAL_CONTENT if continues(answer.headers(), begun.length) => Ok((answer, begun)),
            // Longer than the file is now, or not what was asked for: from the beginning.
            StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE if begun.identity.is_some() => {
                let answer = self.send(self.client.get(self.url.clone())).await?;
                if answer.status() == StatusCode::OK { Ok((answer, Begun::anew())) } else { Err(self.status(&answer)) }
            }
            _ => Err(self.status(&answer)),
        }
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<Response, FetchError> {
        request.send().await.map_err(|error| FetchError::from_client(self.url, error))
    }

    fn status(&self, answer: &Response) -> FetchError {
        if answer.status().is_redirection() {
            // To a scheme the client does not know, or to nowhere.
            let location = answer.headers().get(LOCATION).and_then(|to| to.to_str().ok()).unwrap_or_default();
            let location: String = location.chars().take(200).collect();
            let refused = format!("redirected to `{}`", location.escape_debug());
            return FetchError::Redirect { url: shown(self.url), refused };
        }
        FetchError::Status { url: shown(self.url), status: answer.status() }
    }

    async fn receive(
        &self,
        answer: Response,
        begun: Begun,
        total: Option<u64>,
        partial: &Partial,
    ) -> Result<(u64, Sha256), FetchError> {
        let Begun { length: mut done, mut hasher, .. } = begun;
        let path = &partial.bytes;
        let failed = |done: u64| move |source| write_error(path, total.map(|total| total.saturating_sub(done)), source);
        let mut options = tokio::fs::OpenOptions::new();
        options.create(true).write(true).truncate(done == 0).append(done > 0);
        let mut file = options.mode(0o600).open(path).await.map_err(failed(done))?;
        let mut pieces = answer.bytes_stream();
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(|error| FetchError::Broken(shown(self.url), Some(error.without_url())));
            let piece = match piece {
                Ok(piece) => piece,
                Err(error) => {
                    // What came is kept for the next try.
                    file.flush().await.map_err(failed(done))?;
                    return Err(error);
                }
            };
            if done == 0 && looks_like_html(&piece) && !self.wants_html() {
                return Err(self.discarded(partial, FetchError::Html { url: shown(self.url) }));
            }
            if done + piece.len() as u64 > self.limit {
                return Err(self.discarded(partial, self.too_big()));
            }
            hasher.update(&piece);
            file.write_all(&piece).await.map_err(failed(done))?;
            done += piece.len() as u64;
            self.progress.bytes(done, total);
        }
        file.flush().await.map_err(failed(done))?;
        file.sync_all().await.map_err(failed(done))?;
        if total.is_some_and(|total| total != done) {
            return Err(FetchError::Broken(shown(self.url), None));
        }
        Ok((done, hasher))
    }

    fn too_big(&self) -> FetchError {
        FetchError::TooBig { url: shown(self.url), limit: self.limit }
    }

    /// A file that is a page is told by its name; everything else that comes as a page is an error
    /// page, a login or a portal.
    fn wants_html(&self) -> bool {
        [".html", ".htm"].iter().any(|end| self.url.path().ends_with(end))
    }

    fn refuse_html(&self, headers: &HeaderMap, done: u64) -> Result<(), FetchError> {
        let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let html = kind.starts_with("text/html") || kind.starts_with("application/xhtml");
        if html && done == 0 && !self.wants_html() {
            return Err(FetchError::Html { url: shown(self.url) });
        }
        Ok(())
    }

    /// Nothing of a refused download is kept. That it cannot be removed is said instead.
    fn discarded(&self, partial: &Partial, error: FetchError) -> FetchError {
        match partial.discard() {
            Ok(()) => error,
            Err(source) => write_error(&partial.bytes, None, source),
        }
    }
}

/// Copies a file of this machine, with the same promises.
pub(super) async fn copy(from: &Path, source: &Source, to: &Path, limit: u64) -> Result<Fetched, FetchError> {
    let (from, to, source) = (from.to_owned(), to.to_owned(), source.clone());
    let path = to.clone();
    let copied = tokio::task::spawn_blocking(move || copy_now(&from, &source, &to, limit)).await;
    copied.unwrap_or_else(|panic| Err(write_error(&path, None, std::io::Error::other(panic))))
}

fn copy_now(from: &Path, source: &Source, to: &Path, limit: u64) -> Result<Fetched, FetchError> {
    let partial = Partial::of(to);
    let failed = |source| write_error(&partial.bytes, None, source);
    let opened = std::fs::File::open(from).and_then(|file| Ok((file.metadata()?, file)));
    let (meta, mut file) = opened.map_err(|error| FetchError::Open(from.to_owned(), error))?;
    if meta.len() > limit {
        return Err(FetchError::TooBig { url: source.url.clone(), limit });
    }
    partial.discard().map_err(failed)?;
    let mut copy = std::fs::File::create_new(&partial.bytes).map_err(failed)?;
    std::io::copy(&mut file, &mut copy).map_err(|error| write_error(&partial.bytes, Some(meta.len()), error))?;
    copy.sync_all().map_err(failed)?;
    // The copy is hashed, not the original: it is what will be used.
    let (bytes, hasher) = hash(&partial.bytes).map_err(failed)?;
    let found = Digest::from_hasher(hasher);
    if let Some(wanted) = source.sha256.filter(|wanted| *wanted != found) {
        partial.discard().map_err(failed)?;
        return Err(FetchError::Digest { url: source.url.clone(), wanted, found });
    }
    partial.complete(to).map_err(failed)?;
    Ok(Fetched { path: to.to_owned(), sha256: found, bytes })
}

fn length_of(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// `Content-Range: bytes 100-199/200` begins where we are.
fn continues(headers: &HeaderMap, length: u64) -> bool {
    let range = headers.get(CONTENT_RANGE).and_then(|range| range.to_str().ok());
    let first = range.and_then(|range| range.strip_prefix("bytes ")?.split_once('-'));
    first.is_some_and(|(first, _)| first.parse() == Ok(length))
}

fn looks_like_html(piece: &[u8]) -> bool {
    let text = piece.trim_ascii_start();
    let head = text[..text.len().min(14)].to_ascii_lowercase();
    head.starts_with(b"<!doctype html") || head.starts_with(b"<html")
}

fn write_error(path: &Path, need: Option<u64>, source: std::io::Error) -> FetchError {
    FetchError::Write { path: PathBuf::from(path), need, source }
}
