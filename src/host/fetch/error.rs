use std::error::Error as _;
use std::io;
use std::path::PathBuf;

use reqwest::{StatusCode, Url};

use super::address::{Refused, shown};
use crate::host::PortError;
use crate::host::archive::is_full;
use crate::model::Digest;

#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("`{0}` is not a URL we download from: `https`, `http` or `file`")]
    Url(String),
    #[error("`{0}` is not encrypted and needs a `sha256`")]
    Insecure(String),
    #[error("cannot prepare an HTTP client")]
    Client(#[source] reqwest::Error),
    #[error("cannot reach `{0}`")]
    Reach(String, #[source] reqwest::Error),
    #[error("`{url}` was {refused}, which is not followed")]
    Redirect { url: String, refused: String },
    #[error("`{url}` answered {status}")]
    Status { url: String, status: StatusCode },
    #[error("the download of `{0}` broke off")]
    Broken(String, #[source] Option<reqwest::Error>),
    #[error("`{url}` gave an HTML page instead of a file to install")]
    Html { url: String },
    #[error("`{url}` is bigger than {limit} bytes")]
    TooBig { url: String, limit: u64 },
    #[error("`{url}` has the SHA-256 `{found}`, not `{wanted}`")]
    Digest { url: String, wanted: Digest, found: Digest },
    #[error("cannot open `{0}`")]
    Open(PathBuf, #[source] io::Error),
    #[error("cannot write `{path}`{}", need.map(|need| format!(" ({need} bytes are still to come)")).unwrap_or_default())]
    Write {
        path: PathBuf,
        need: Option<u64>,
        #[source]
        source: io::Error,
    },
}

impl FetchError {
    pub fn from_client(url: &Url, error: reqwest::Error) -> Self {
        let mut cause = error.source();
        while let Some(source) = cause {
            if let Some(refused) = source.downcast_ref::<Refused>() {
                return FetchError::Redirect { url: shown(url), refused: refused.to_string() };
            }
            cause = source.source();
        }
        if error.is_redirect() || error.is_builder() {
            // A scheme the client has no transport for.
            return FetchError::Redirect { url: shown(url), refused: error.without_url().to_string() };
        }
        FetchError::Reach(shown(url), error.without_url())
    }

    /// The same request may succeed in a moment.
    pub fn is_transient(&self) -> bool {
        match self {
            FetchError::Reach(..) | FetchError::Broken(..) => true,
            FetchError::Status { status, .. } => {
                status.is_server_error()
                    || matches!(*status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT)
            }
            FetchError::Url(_)
            | FetchError::Insecure(_)
            | FetchError::Client(_)
            | FetchError::Redirect { .. }
            | FetchError::Html { .. }
            | FetchError::TooBig { .. }
            | FetchError::Digest { .. }
            | FetchError::Open(..)
            | FetchError::Write { .. } => false,
        }
    }
}

impl From<FetchError> for PortError {
    fn from(error: FetchError) -> Self {
        let (code, hint) = match &error {
            FetchError::Url(_) => ("fetch.url", None),
            FetchError::Insecure(_) => ("fetch.insecure", Some("give its `sha256`, or use `https`")),
            FetchError::Client(_) => ("fetch.client", Some("install the package `ca-certificates`")),
            FetchError::Reach(..) => ("fetch.unreachable", None),
            FetchError::Redirect { .. } => ("fetch.redirect", None),
            FetchError::Status { status, .. } if *status == StatusCode::NOT_FOUND => {
                ("fetch.not-found", Some("the version may not exist, or not any more"))
            }
            FetchError::Status { .. } => ("fetch.status", None),
            FetchError::Broken(..) => ("fetch.broken", None),
            FetchError::Html { .. } => {
                ("fetch.html", Some("open the URL in a browser: it may be moved or need a login"))
            }
            FetchError::TooBig { .. } => ("fetch.too-big", None),
            FetchError::Digest { .. } => {
                ("fetch.digest", Some("compare with what the authors publish; somebody may have replaced the file"))
            }
            FetchError::Open(..) => ("fetch.open", None),
            FetchError::Write { source, .. } if is_full(source) => {
                ("fetch.no-space", Some("free disk space, then apply again: the download continues"))
            }
            FetchError::Write { .. } => ("fetch.write", None),
        };
        let content = matches!(
            error,
            FetchError::Url(_) | FetchError::Insecure(_) | FetchError::TooBig { .. } | FetchError::Digest { .. }
        );
        let mut port = PortError::new(code, error.to_string());
        port.hint = hint.map(str::to_owned);
        port.retryable = !content;
        port.source = match error {
            FetchError::Client(source) | FetchError::Reach(_, source) => Some(source.into()),
            FetchError::Broken(_, source) => source.map(Into::into),
            FetchError::Open(_, source) | FetchError::Write { source, .. } => Some(source.into()),
            _ => None,
        };
        port
    }
}
