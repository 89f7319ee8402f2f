//! HTTP as an authority is spoken to: its own roots, `https:` only, no redirects, every answer bounded in size and
//! time. A refusal becomes an [`AuthorityError`] here, where its headers are still known.

use std::collections::HashMap;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::Bytes;
use hyper::header::{DATE, HeaderMap, LOCATION, RETRY_AFTER};
use hyper::http::{Method, Request, Response, StatusCode};
use instant_acme::{BodyWrapper, BytesResponse, HttpClient};
use reqwest::{Certificate, Client};

use super::error::{AuthorityError, AuthorityResult, Refusal};

/// A chain of ten certificates is a tenth of it.
const MOST_BYTES: usize = 512 << 10;
/// Renewal information without `Retry-After` is asked for again after this (RFC 9773, 4.3.2 says six hours).
const RENEWAL_INFO_AGAIN_S: u64 = 21_600;
/// Longer than anything that is waited for.
const LONGEST_S: u64 = 365 * 86_400;
const PREFIX: &str = "urn:ietf:params:acme:error:";

/// How long to wait for what.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    pub connect: Duration,
    /// For one answer, whole.
    pub answer: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { connect: Duration::from_secs(10), answer: Duration::from_secs(45) }
    }
}

/// Cheap to clone.
#[derive(Clone)]
pub struct Http(Arc<Inner>);

struct Inner {
    roots: Option<PathBuf>,
    patience: Patience,
    /// Built when first needed: without the system's CA certificates it cannot be.
    client: OnceLock<Client>,
    /// By URL, since the last look: the library keeps to itself what it read of it.
    retry_after: Mutex<HashMap<String, u64>>,
}

/// An answer that is no refusal.
pub type Answer = Response<Bytes>;

impl Http {
    pub fn new(roots: Option<PathBuf>, patience: Patience) -> Self {
        Self(Arc::new(Inner { roots, patience, client: OnceLock::new(), retry_after: Mutex::default() }))
    }

    pub async fn get(&self, url: &str) -> AuthorityResult<Answer> {
        self.exchange(Method::GET, url, HeaderMap::new(), Bytes::new()).await
    }

    pub async fn exchange(
        &self,
        method: Method,
        url: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> AuthorityResult<Answer> {
        let host = host(url);
        let request = self.client()?.request(method.clone(), url).headers(headers).body(body);
        let failed = |error: reqwest::Error| self.failed(&host, error);
        let mut answer = request.send().await.map_err(failed)?;
        let (status, mut headers) = (answer.status(), std::mem::take(answer.headers_mut()));
        let mut bytes = Vec::new();
        while let Some(piece) = answer.chunk().await.map_err(failed)? {
            if bytes.len() + piece.len() > MOST_BYTES {
                let what = format!("an answer of more than {MOST_BYTES} bytes");
                return Err(AuthorityError::Nonsense { host, what });
            }
            bytes.extend_from_slice(&piece);
        }
        refuse(&host, status, &headers, &bytes)?;
        self.note_retry_after(&method, url, &mut headers);
        let mut response = Response::new(Bytes::from(bytes));
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        Ok(response)
    }

    /// What the last answer from this URL said about asking again, seconds; told once.
    pub fn take_retry_after(&self, url: &str) -> Option<u64> {
        self.0.retry_after.lock().expect("nothing panics while it is held").remove(url)
    }

    /// Keeps what an answer says about asking again, and makes it safe for the library: that adds any number of
    /// seconds to its clock, which panics, and takes the lack of it for an error.
    fn note_retry_after(&self, method: &Method, url: &str, headers: &mut HeaderMap) {
        let told = retry_after_s(headers);
        if let Some(seconds) = told
            && method == Method::POST
        {
            let mut known = self.0.retry_after.lock().expect("nothing panics while it is held");
            known.insert(url.to_owned(), seconds);
        }
        let safe = told.unwrap_or(if method == Method::GET { RENEWAL_INFO_AGAIN_S } else { 0 });
        headers.insert(RETRY_AFTER, safe.min(LONGEST_S).into());
    }

    fn client(&self) -> AuthorityResult<&Client> {
        if let Some(client) = self.0.client.get() {
            return Ok(client);
        }
        let mut builder = Client::builder()
            .user_agent(concat!("socle/", env!("CARGO_PKG_VERSION")))
            // Bytes as they are: another crate has this library ask for packed ones.
            .no_gzip()
            .no_deflate()
            .connect_timeout(self.0.patience.connect)
            .timeout(self.0.patience.answer)
            .https_only(true)
            .redirect(reqwest::redirect::Policy::none());
        if let Some(path) = &self.0.roots {
            let unusable = |error: Box<dyn std::error::Error + Send + Sync>| AuthorityError::Roots(path.clone(), error);
            let pem = std::fs::read(path).map_err(|error| unusable(error.into()))?;
            let roots = Certificate::from_pem_bundle(&pem).map_err(|error| unusable(error.into()))?;
            if roots.is_empty() {
                return Err(unusable("it holds no certificate".into()));
            }
            builder = builder.tls_certs_only(roots);
        }
        let built = builder.build().map_err(|error| AuthorityError::Client(error.into()))?;
        Ok(self.0.client.get_or_init(|| built))
    }

    fn failed(&self, host: &str, error: reqwest::Error) -> AuthorityError {
        let host = host.to_owned();
        if error.is_timeout() {
            return AuthorityError::Timeout { host, seconds: self.0.patience.answer.as_secs() };
        }
        AuthorityError::Unreachable { host, source: error.without_url().into() }
    }
}

impl HttpClient for Http {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, instant_acme::Error>> + Send>> {
        let http = self.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let Ok(body) = body.collect().await;
            let mut headers = parts.headers;
            // Ours is set by the client.
            headers.remove(hyper::header::USER_AGENT);
            let answer = http.exchange(parts.method, &parts.uri.to_string(), headers, body.to_bytes()).await;
            let (parts, body) = answer.map_err(|error| instant_acme::Error::Other(error.into()))?.into_parts();
            Ok(BytesResponse { parts, body: Box::new(body) })
        })
    }
}

/// The host of a URL, for messages.
pub fn host(url: &str) -> String {
    let host = reqwest::Url::parse(url).ok().and_then(|url| url.host_str().map(str::to_owned));
    host.unwrap_or_else(|| shown(url))
}

/// Words of others, safe to show: one line, no control characters, not endless.
pub fn shown(text: &str) -> String {
    const MOST: usize = 400;
    let safe: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MOST).collect();
    if text.chars().count() > MOST { format!("{safe} …") } else { safe }
}

/// Anything but success is an error; except a bad nonce, which the library answers itself.
fn refuse(host: &str, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> AuthorityResult<()> {
    let host = host.to_owned();
    if status.is_success() {
        return Ok(());
    }
    if status.is_redirection() || status.is_informational() {
        let to = headers.get(LOCATION).and_then(|to| to.to_str().ok()).unwrap_or_default();
        return Err(AuthorityError::Nonsense { host, what: format!("status {status}, to `{}`", shown(to)) });
    }
    let refusal = refusal(status, body);
    let retry_after_s = retry_after_s(headers);
    Err(match (status.as_u16(), refusal.kind.as_str()) {
        (400, "badNonce") => return Ok(()),
        (429, _) | (_, "rateLimited") => AuthorityError::RateLimited { host, refusal, retry_after_s },
        (500.., _) => AuthorityError::Unavailable { host, status: status.as_u16(), retry_after_s },
        (404, _) => AuthorityError::NotFound { host },
        _ => AuthorityError::Refused { host, refusal },
    })
}

fn refusal(status: StatusCode, body: &[u8]) -> Refusal {
    match serde_json::from_slice::<instant_acme::Problem>(body) {
        Ok(problem) if problem.r#type.is_some() || problem.detail.is_some() => read(&problem),
        _ => Refusal { kind: String::new(), detail: format!("status {status}"), names: Vec::new() },
    }
}

pub fn read(problem: &instant_acme::Problem) -> Refusal {
    let kind = problem.r#type.as_deref().unwrap_or_default();
    let names = problem.subproblems.iter().filter_map(|problem| match problem.identifier.as_ref()? {
        instant_acme::Identifier::Dns(name) => Some(shown(name)),
        _ => None,
    });
    let names: Vec<String> = names.collect();
    let mut detail = shown(problem.detail.as_deref().unwrap_or_default());
    for part in &problem.subproblems {
        if let Some(text) = &part.detail {
            detail = shown(&format!("{detail}; {text}"));
        }
    }
    // What is wrong with a name is said by the parts; the whole is only `compound` or the first of them.
    let mut parts = problem.subproblems.iter().filter_map(|part| part.r#type.as_deref());
    let kind = if kind.ends_with(":compound") { parts.next_back().unwrap_or(kind) } else { kind };
    Refusal { kind: shown(kind.strip_prefix(PREFIX).unwrap_or(kind)), detail, names }
}

/// RFC 9110, 10.2.3: seconds, or a date; a date is taken against the one of the answer itself.
pub fn retry_after_s(headers: &HeaderMap) -> Option<u64> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let wanted = text(RETRY_AFTER)?.trim();
    if let Ok(seconds) = wanted.parse() {
        return Some(seconds);
    }
    let date = |text: &str| jiff::fmt::rfc2822::parse(text).ok().map(|date| date.timestamp().as_second());
    Some((date(wanted)? - date(text(DATE)?)?).max(0).unsigned_abs())
}

/// What went wrong inside the library, in our words.
pub fn from_library(host: &str, error: instant_acme::Error) -> AuthorityError {
    use instant_acme::Error;
    let nonsense = |what: String| AuthorityError::Nonsense { host: host.to_owned(), what: shown(&what) };
    match error {
        Error::Other(inner) => match inner.downcast::<AuthorityError>() {
            Ok(error) => *error,
            Err(other) => nonsense(other.to_string()),
        },
        Error::Api(problem) => {
            let refusal = read(&problem);
            if refusal.kind == "badNonce" {
                // Three in a row: its servers do not agree with each other.
                return AuthorityError::Unavailable { host: host.to_owned(), status: 400, retry_after_s: None };
            }
            AuthorityError::Refused { host: host.to_owned(), refusal }
        }
        Error::Json(error) => nonsense(format!("JSON that cannot be read: {error}")),
        Error::Str(what) => nonsense(what.to_owned()),
        Error::Unsupported(what) => nonsense(format!("no {what}")),
        Error::InvalidUri(_) | Error::Http(_) => nonsense("an address that is none".to_owned()),
        Error::Crypto | Error::KeyRejected => AuthorityError::Key,
        other => AuthorityError::Request(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn waiting_is_told_in_seconds_or_by_a_date() {
        let date = ("date", "Mon, 23 Nov 2026 12:00:00 GMT");
        for (given, seconds) in [
            (headers(&[("retry-after", "120")]), Some(120)),
            (headers(&[date, ("retry-after", "Mon, 23 Nov 2026 13:00:00 GMT")]), Some(3600)),
            (headers(&[date, ("retry-after", "Mon, 23 Nov 2020 13:00:00 GMT")]), Some(0)),
            (headers(&[("retry-after", "Mon, 23 Nov 2026 13:00:00 GMT")]), None),
            (headers(&[("retry-after", "soon")]), None),
            (headers(&[("retry-after", "-5")]), None),
            (headers(&[]), None),
        ] {
            assert_eq!(retry_after_s(&given), seconds, "{given:?}");
        }
    }

    #[test]
    fn a_refusal_is_read_whole_and_made_safe() {
        let body = br#"{"type":"urn:ietf:params:acme:error:compound","detail":"two\nnames","subproblems":[
            {"type":"urn:ietf:params:acme:error:caa","detail":"not us","identifier":{"type":"dns","value":"a.org"}},
            {"type":"urn:ietf:params:acme:error:dns","detail":"NXDOMAIN","identifier":{"type":"dns","value":"b.org"}}]}"#;
        let refusal = refusal(StatusCode::FORBIDDEN, body);
        assert_eq!((refusal.kind.as_str(), refusal.names.len()), ("dns", 2));
        assert_eq!(refusal.detail, "two names; not us; NXDOMAIN");
        assert!(refusal.blames_the_names());
        assert_eq!(super::refusal(StatusCode::FORBIDDEN, b"<html>").detail, "status 403 Forbidden");
        assert!(shown(&"x".repeat(9999)).len() < 500);
    }

    #[test]
    fn every_status_has_a_meaning() {
        let none = HeaderMap::new();
        let refused = |status: u16, kind: &str| {
            let body = format!(r#"{{"type":"urn:ietf:params:acme:error:{kind}","detail":"d"}}"#);
            refuse("h", StatusCode::from_u16(status).unwrap(), &none, body.as_bytes())
        };
        assert!(refused(200, "x").is_ok() && refused(400, "badNonce").is_ok());
        for (status, kind, code) in [
            (301, "x", "acme.nonsense"),
            (400, "malformed", "acme.refused"),
            (403, "rateLimited", "acme.rate-limited"),
            (404, "malformed", "acme.not-found"),
            (429, "x", "acme.rate-limited"),
            (503, "rateLimited", "acme.rate-limited"),
            (500, "serverInternal", "acme.unavailable"),
        ] {
            assert_eq!(refused(status, kind).unwrap_err().code(), code, "{status} {kind}");
        }
    }
}
