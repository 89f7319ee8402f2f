//! Which URLs may be asked.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use reqwest::Url;
use reqwest::redirect::{Action, Attempt};

use super::error::FetchError;
use crate::model::document::Source;

const REDIRECTS: usize = 5;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Address {
    Web(Url),
    File(PathBuf),
}

impl Address {
    /// Where `source` is really asked from.
    pub fn of(source: &Source, mirrors: &BTreeMap<String, String>) -> Result<Self, FetchError> {
        let mirrored = mirrors
            .iter()
            .filter_map(|(prefix, replacement)| Some((prefix.len(), replacement, source.url.strip_prefix(prefix)?)))
            .max_by_key(|(length, _, _)| *length);
        let text = match mirrored {
            Some((_, replacement, rest)) => format!("{replacement}{rest}"),
            None => source.url.clone(),
        };
        let bad = || FetchError::Url(source.url.clone());
        let url = Url::parse(&text).map_err(|_| bad())?;
        match url.scheme() {
            "https" => Ok(Address::Web(url)),
            "http" if source.sha256.is_some() => Ok(Address::Web(url)),
            "http" => Err(FetchError::Insecure(source.url.clone())),
            "file" => url.to_file_path().map(Address::File).map_err(|()| bad()),
            _ => Err(bad()),
        }
    }
}

/// Why a redirect is not followed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    #[error("more than {REDIRECTS} redirects")]
    TooMany,
    #[error("redirected from https to `{0}`")]
    Downgrade(String),
    #[error("redirected to `{0}`")]
    Scheme(String),
    #[error("redirected to the link-local address `{0}`")]
    LinkLocal(String),
}

pub(super) fn follow(attempt: Attempt<'_>) -> Action {
    let secure = attempt.previous().iter().any(|url| url.scheme() == "https");
    match check(attempt.url(), attempt.previous().len(), secure) {
        Ok(()) => attempt.follow(),
        Err(refused) => attempt.error(refused),
    }
}

/// `hops`: how many URLs were asked before. Link-local addresses are where clouds keep an instance's
/// credentials.
fn check(url: &Url, hops: usize, secure: bool) -> Result<(), Refused> {
    let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
    match url.scheme() {
        _ if hops > REDIRECTS => Err(Refused::TooMany),
        "http" if secure => Err(Refused::Downgrade(shown(url))),
        "http" | "https" if host.parse().is_ok_and(is_link_local) => Err(Refused::LinkLocal(host)),
        "http" | "https" => Ok(()),
        _ => Err(Refused::Scheme(shown(url))),
    }
}

fn is_link_local(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(four) => four.is_link_local(),
        IpAddr::V6(six) => six.is_unicast_link_local(),
    }
}

/// Without what may be a credential.
pub(super) fn shown(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{host}{port}{}", url.scheme(), url.path())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Digest;

    fn of(url: &str, sha256: bool, mirrors: &[(&str, &str)]) -> Result<String, String> {
        let source = Source { url: url.to_owned(), sha256: sha256.then(|| Digest::of("")) };
        let mirrors = mirrors.iter().map(|(from, to)| (from.to_string(), to.to_string())).collect();
        match Address::of(&source, &mirrors) {
            Ok(Address::Web(url)) => Ok(url.to_string()),
            Ok(Address::File(path)) => Ok(path.display().to_string()),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn addresses() {
        assert_eq!(of("https://a.example/x", false, &[]).unwrap(), "https://a.example/x");
        assert_eq!(of("http://a.example/x", true, &[]).unwrap(), "http://a.example/x");
        assert!(of("http://a.example/x", false, &[]).unwrap_err().contains("needs a `sha256`"));
        assert_eq!(of("file:///srv/a%20b", false, &[]).unwrap(), "/srv/a b");
        for bad in ["ftp://a.example/x", "x", "file://host/x", "data:,x", ""] {
            assert!(of(bad, true, &[]).is_err(), "{bad}");
        }
        let mirrors = [("https://a.example/", "file:///m/"), ("https://a.example/b/", "https://b.example/")];
        assert_eq!(of("https://a.example/x", false, &mirrors).unwrap(), "/m/x");
        assert_eq!(of("https://a.example/b/x", false, &mirrors).unwrap(), "https://b.example/x");
    }

    #[test]
    fn redirects() {
        let check = |url: &str, hops, secure| check(&Url::parse(url).unwrap(), hops, secure).map_err(|e| e.to_string());
        assert!(check("https://a.example/", 5, true).is_ok());
        assert!(check("http://a.example/", 1, false).is_ok());
        assert!(check("https://a.example/", 6, true).unwrap_err().contains("more than 5"));
        assert!(check("http://a.example/", 1, true).unwrap_err().contains("from https"));
        assert!(check("file:///etc/passwd", 1, true).unwrap_err().contains("file:"));
        for metadata in ["http://169.254.169.254/latest", "http://[fe80::1]/", "http://[::ffff:169.254.169.254]/"] {
            assert!(check(metadata, 1, false).unwrap_err().contains("link-local"), "{metadata}");
        }
    }
}
