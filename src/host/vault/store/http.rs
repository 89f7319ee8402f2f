//! One request and all of its answer, for stores that are reached over HTTP.

use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{CONTENT_LENGTH, HeaderMap, RETRY_AFTER};
use reqwest::{Certificate, Client, Method, RequestBuilder, Response, StatusCode, Url};
use tokio::runtime::Runtime;

use super::{StoreError, StoreFault};
use crate::host::vault::Way;

const CONNECT: Duration = Duration::from_secs(20);

/// A server that sends nothing for so long does not answer.
const IDLE: Duration = Duration::from_secs(60);

/// How long is waited before each further try of what may succeed by itself.
pub(super) const AGAIN: [Duration; 3] = [Duration::from_millis(500), Duration::from_secs(2), Duration::from_secs(5)];

/// A server that wants us back later than this does not answer.
const LATER: Duration = Duration::from_secs(60);

pub(super) struct Http {
    client: Client,
    through: Option<PathBuf>,
    /// Requests come from threads of the library, which wait.
    runtime: Runtime,
}

pub(super) struct Answer {
    pub status: StatusCode,
    /// What the server said the length is: of a `HEAD`, of what was not sent.
    pub length: Option<u64>,
    pub body: Bytes,
}

impl Http {
    pub fn new(way: Way) -> Result<Self, String> {
        let Way { through, roots } = way;
        let mut builder = Client::builder()
            .user_agent(concat!("socle/", env!("CARGO_PKG_VERSION")))
            // Bytes as they are: another crate has this library ask for packed ones.
            .no_gzip()
            .no_deflate()
            // Credentials are for this server only.
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT)
            .read_timeout(IDLE);
        if let Some(socket) = &through {
            // What is protected still is, up to the server itself.
            builder = builder.unix_socket(socket.as_path());
        }
        if let Some(pem) = &roots {
            let roots = Certificate::from_pem_bundle(pem.as_bytes());
            let roots = roots.map_err(|error| format!("its `roots` cannot be read: {error}"))?;
            if roots.is_empty() {
                return Err("there is no certificate in its `roots`".to_owned());
            }
            builder = builder.tls_certs_only(roots);
        }
        let client = builder.build().map_err(|error| error.to_string())?;
        Ok(Self { client, through, runtime: runtime()? })
    }

    pub fn request(&self, method: Method, url: Url) -> RequestBuilder {
        self.client.request(method, url)
    }

    /// Asks, and asks again while that may help. `request` is called for each try: a signature has its time.
    pub fn ask(
        &self,
        act: &'static str,
        file: &str,
        request: impl Fn() -> RequestBuilder,
    ) -> Result<Answer, StoreError> {
        self.runtime.block_on(async {
            let mut waits = AGAIN.into_iter();
            loop {
                let answered = async { whole(request().send().await?).await };
                let (fault, later) = match answered.await {
                    Ok((answer, headers)) if is_trouble(answer.status) => {
                        (StoreFault::Unreachable(answer.status.to_string()), retry_after(&headers))
                    }
                    Ok((answer, _)) => return Ok(answer),
                    Err(error) => match distrust(&error) {
                        Some(why) => return Err(StoreError::new(act, file, StoreFault::Certificate(why))),
                        None => (StoreFault::Unreachable(self.said(error)), None),
                    },
                };
                match waits.next() {
                    Some(wait) if later.is_none_or(|later| later <= LATER) => {
                        tokio::time::sleep(later.unwrap_or_default().max(wait)).await;
                    }
                    _ => return Err(StoreError::new(act, file, fault)),
                }
            }
        })
    }

    /// With its causes, without the address, which may hold a password or a signature.
    fn said(&self, error: reqwest::Error) -> String {
        let error = error.without_url();
        let causes = std::iter::successors(error.source(), |cause| (*cause).source());
        let said = std::iter::once(error.to_string()).chain(causes.map(ToString::to_string));
        let said = said.collect::<Vec<_>>().join(": ");
        match &self.through {
            Some(socket) => format!("{said} (by way of `{}`)", socket.display()),
            None => said,
        }
    }
}

/// Why the server is not taken for the one it says it is.
fn distrust(error: &reqwest::Error) -> Option<String> {
    let first: &(dyn Error + 'static) = error;
    let mut causes = std::iter::successors(Some(first), |cause| (*cause).source());
    match causes.find_map(of_tls)? {
        error @ rustls::Error::InvalidCertificate(_) => Some(error.to_string()),
        _ => None,
    }
}

/// An `io::Error` is no source of what is in it.
fn of_tls<'a>(cause: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    cause.downcast_ref().or_else(|| of_tls(cause.downcast_ref::<io::Error>()?.get_ref()?))
}

/// For a store whose methods wait.
pub(super) fn runtime() -> Result<Runtime, String> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(1).enable_all().build().map_err(|error| error.to_string())
}

/// What may be over the next time.
fn is_trouble(status: StatusCode) -> bool {
    status == StatusCode::TOO_MANY_REQUESTS
        || status == StatusCode::REQUEST_TIMEOUT
        || (status.is_server_error() && status != StatusCode::INSUFFICIENT_STORAGE)
}

/// In seconds; the other form, a date, is not waited for.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

async fn whole(response: Response) -> Result<(Answer, HeaderMap), reqwest::Error> {
    let (status, headers) = (response.status(), response.headers().clone());
    let length = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    Ok((Answer { status, length, body: response.bytes().await? }, headers))
}

pub(super) fn refused(act: &'static str, file: impl Into<String>, status: StatusCode) -> StoreError {
    let fault = match status {
        StatusCode::NOT_FOUND => StoreFault::Absent,
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => StoreFault::Forbidden(status.to_string()),
        StatusCode::METHOD_NOT_ALLOWED => StoreFault::ReadOnly,
        StatusCode::INSUFFICIENT_STORAGE | StatusCode::PAYLOAD_TOO_LARGE => StoreFault::Full,
        status => StoreFault::Other(format!("the server answers {status}")),
    };
    StoreError::new(act, file, fault)
}

/// The whole body, or that it is shorter than was said.
pub(super) fn exactly(file: &str, answer: Answer) -> Result<Bytes, StoreError> {
    let found = answer.body.len() as u64;
    match answer.length {
        Some(wanted) if wanted != found => Err(StoreError::new("read", file, StoreFault::Length { found, wanted })),
        _ => Ok(answer.body),
    }
}

/// The part that was asked for, of an answer to a range.
pub(super) fn part(file: &str, answer: Answer, offset: u64, length: usize) -> Result<Bytes, StoreError> {
    let end = offset + length as u64;
    let short = |found| StoreError::new("read", file, StoreFault::Length { found, wanted: end });
    match (answer.status, answer.body) {
        (StatusCode::PARTIAL_CONTENT, body) if body.len() == length => Ok(body),
        (StatusCode::PARTIAL_CONTENT, body) => Err(short(offset + body.len() as u64)),
        // A server that knows no ranges sends it all.
        (StatusCode::OK, body) if body.len() as u64 >= end => Ok(body.slice(offset as usize..end as usize)),
        (StatusCode::OK, body) => Err(short(body.len() as u64)),
        (StatusCode::RANGE_NOT_SATISFIABLE, _) => Err(short(0)),
        (status, _) => Err(refused("read", file, status)),
    }
}

/// The header that asks for it.
pub(super) fn range(offset: u64, length: usize) -> String {
    format!("bytes={offset}-{}", (offset + length as u64).saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: StatusCode, body: &'static str, length: Option<u64>) -> Answer {
        Answer { status, length, body: Bytes::from_static(body.as_bytes()) }
    }

    #[test]
    fn what_is_short_is_not_taken() {
        assert_eq!(exactly("f", answer(StatusCode::OK, "abc", Some(3))).unwrap(), "abc");
        let short = exactly("f", answer(StatusCode::OK, "ab", Some(3))).unwrap_err();
        assert!(matches!(short.fault, StoreFault::Length { found: 2, wanted: 3 }), "{short}");
        assert_eq!(part("f", answer(StatusCode::PARTIAL_CONTENT, "bc", None), 1, 2).unwrap(), "bc");
        assert_eq!(part("f", answer(StatusCode::OK, "abcd", None), 1, 2).unwrap(), "bc");
        for (status, body) in [
            (StatusCode::PARTIAL_CONTENT, "b"),
            (StatusCode::PARTIAL_CONTENT, "bcd"),
            (StatusCode::OK, "ab"),
            (StatusCode::RANGE_NOT_SATISFIABLE, ""),
        ] {
            let short = part("f", answer(status, body, None), 1, 2).unwrap_err();
            assert!(matches!(short.fault, StoreFault::Length { .. }), "{short}");
        }
    }

    #[test]
    fn a_server_says_when_it_wants_us_back() {
        let headers = |text: &str| HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]);
        assert_eq!(retry_after(&headers("7")), Some(Duration::from_secs(7)));
        assert_eq!(retry_after(&headers("Fri, 31 Dec 1999 23:59:59 GMT")), None);
        assert_eq!(retry_after(&HeaderMap::new()), None);
    }
}
