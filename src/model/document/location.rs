//! Where a repository of backups is, in restic's own words, and what a server there is known by.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use reqwest::Url;
use serde::{Deserialize, Serialize};

use super::parse::Wrong;
use super::value;
use crate::model::problem::shown;

/// A location as it is written, and what it says. Holds no secret: it is shown in plans and reports.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RepositoryLocation {
    text: String,
    place: RepositoryPlace,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum RepositoryPlace {
    /// A directory of this server, by its absolute path.
    Directory,
    /// A server that speaks restic's REST protocol; the address has no user in it, and ends with `/`.
    Rest { url: String, user: Option<String> },
    /// `path` is absolute, or below the user's home directory.
    Sftp { user: String, host: String, port: u16, path: String },
    /// A bucket of S3-compatible storage; `prefix` neither begins nor ends with `/`, and may be empty.
    S3 { endpoint: String, bucket: String, prefix: String },
}

impl RepositoryLocation {
    pub(super) fn new(text: &str, place: RepositoryPlace) -> Self {
        Self { text: text.to_owned(), place }
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub fn place(&self) -> &RepositoryPlace {
        &self.place
    }

    /// The same repository, whoever asks for it and however it is written.
    pub fn leads_to(&self, other: &Self) -> bool {
        match (&self.place, &other.place) {
            (RepositoryPlace::Directory, RepositoryPlace::Directory) => self.text == other.text,
            (RepositoryPlace::Rest { url, .. }, RepositoryPlace::Rest { url: theirs, .. }) => url == theirs,
            (
                RepositoryPlace::Sftp { host, port, path, .. },
                RepositoryPlace::Sftp { host: their_host, port: their_port, path: their_path, .. },
            ) => (host, port, path) == (their_host, their_port, their_path),
            (one @ RepositoryPlace::S3 { .. }, other @ RepositoryPlace::S3 { .. }) => one == other,
            _ => false,
        }
    }

    /// Not on this server.
    pub fn is_remote(&self) -> bool {
        self.place != RepositoryPlace::Directory
    }
}

impl RepositoryPlace {
    /// `HOST:PORT` of the server it is on, without brackets; none: it is on this one.
    pub fn server(&self) -> Option<String> {
        let of = |address: &str| {
            let url = Url::parse(address).ok()?;
            let host = url.host_str()?.trim_matches(['[', ']']);
            Some(format!("{host}:{}", url.port_or_known_default()?))
        };
        match self {
            RepositoryPlace::Directory => None,
            RepositoryPlace::Rest { url, .. } => of(url),
            RepositoryPlace::Sftp { host, port, .. } => Some(format!("{host}:{port}")),
            RepositoryPlace::S3 { endpoint, .. } => of(endpoint),
        }
    }

    /// Its server shows a certificate.
    pub fn is_protected(&self) -> bool {
        match self {
            RepositoryPlace::Directory | RepositoryPlace::Sftp { .. } => false,
            RepositoryPlace::Rest { url, .. } => url.starts_with("https:"),
            RepositoryPlace::S3 { endpoint, .. } => endpoint.starts_with("https:"),
        }
    }

    /// The secrets that it cannot be used without, by name.
    pub fn secrets(&self) -> &'static [&'static str] {
        match self {
            RepositoryPlace::Directory | RepositoryPlace::Rest { user: None, .. } | RepositoryPlace::Sftp { .. } => &[],
            RepositoryPlace::Rest { user: Some(_), .. } => &["password"],
            RepositoryPlace::S3 { .. } => &["access-key-id", "secret-access-key"],
        }
    }
}

impl fmt::Display for RepositoryLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What is wrong with a location, in one line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{}", .0.reason, .0.hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default())]
pub struct LocationError(Wrong);

impl FromStr for RepositoryLocation {
    type Err = LocationError;

    fn from_str(text: &str) -> Result<Self, LocationError> {
        value::repository(text).map_err(LocationError)
    }
}

impl TryFrom<String> for RepositoryLocation {
    type Error = LocationError;

    fn try_from(text: String) -> Result<Self, LocationError> {
        text.parse()
    }
}

impl From<RepositoryLocation> for String {
    fn from(location: RepositoryLocation) -> Self {
        location.text
    }
}

/// The public key of an SSH server (RFC 4253, 6.6), as `ssh-keyscan` and `authorized_keys` write it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostKey {
    kind: String,
    key: Vec<u8>,
}

/// The kinds that are used; RSA is not.
const KINDS: [&str; 4] = ["ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521"];

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostKeyError {
    #[error("this is not the public key of an SSH server: a kind, and base64")]
    NotAKey,
    #[error("a key of the kind `{0}` is not used")]
    Kind(String),
}

impl HostKeyError {
    pub fn hint(&self) -> &'static str {
        match self {
            HostKeyError::NotAKey => "`ssh-keyscan -t ed25519 HOST` prints it, after the name of the host",
            HostKeyError::Kind(_) => "name the server's key of the kind `ssh-ed25519`",
        }
    }
}

impl FromStr for HostKey {
    type Err = HostKeyError;

    fn from_str(text: &str) -> Result<Self, HostKeyError> {
        let mut words = text.split_ascii_whitespace();
        let (Some(kind), Some(key)) = (words.next(), words.next()) else { return Err(HostKeyError::NotAKey) };
        let key = BASE64_STANDARD.decode(key).map_err(|_| HostKeyError::NotAKey)?;
        // The key names its kind too, with the length before it.
        let named = key.split_first_chunk::<4>().is_some_and(|(length, rest)| {
            u32::from_be_bytes(*length) as usize == kind.len() && rest.starts_with(kind.as_bytes())
        });
        match named {
            true if KINDS.contains(&kind) && key.len() > 4 + kind.len() => Ok(Self { kind: kind.to_owned(), key }),
            true => Err(HostKeyError::Kind(kind.to_owned())),
            false => Err(HostKeyError::NotAKey),
        }
    }
}

impl fmt::Display for HostKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, BASE64_STANDARD.encode(&self.key))
    }
}

impl From<HostKey> for String {
    fn from(key: HostKey) -> Self {
        key.to_string()
    }
}

impl TryFrom<String> for HostKey {
    type Error = HostKeyError;

    fn try_from(text: String) -> Result<Self, HostKeyError> {
        text.parse()
    }
}

pub(super) fn host_key(text: &str) -> Result<HostKey, Wrong> {
    text.parse().map_err(|error: HostKeyError| {
        let wrong = Wrong::new(error.to_string());
        // A line of `ssh-keyscan` as it is.
        match text.split_once(' ').and_then(|(_, rest)| rest.parse::<HostKey>().ok()) {
            Some(key) => wrong.hint(format!("leave out the name of the host: {}", shown(&key.to_string()))),
            None => wrong.hint(error.hint()),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHOAf2sIyk9rGpTyTSRYL4Y6lYIEvK4+CcQyBpRUqGgM";

    fn place(text: &str) -> RepositoryPlace {
        text.parse::<RepositoryLocation>().unwrap().place().clone()
    }

    #[test]
    fn places_are_written_as_restic_writes_them() {
        assert_eq!(place("/mnt/backup"), RepositoryPlace::Directory);
        let rest =
            |url: &str, user: Option<&str>| RepositoryPlace::Rest { url: url.into(), user: user.map(str::to_owned) };
        assert_eq!(place("rest:https://b.example.org:8000/ks1/"), rest("https://b.example.org:8000/ks1/", None));
        assert_eq!(place("rest:https://ks1@b.example.org/ks1/"), rest("https://b.example.org/ks1/", Some("ks1")));
        assert_eq!(place("rest:http://127.0.0.1:8000/"), rest("http://127.0.0.1:8000/", None));
        let sftp = |port, path: &str| RepositoryPlace::Sftp {
            user: "ks1".into(),
            host: "b.example.org".into(),
            port,
            path: path.into(),
        };
        assert_eq!(place("sftp://ks1@b.example.org:2222/socle"), sftp(2222, "socle"));
        assert_eq!(place("sftp://ks1@b.example.org//srv/socle"), sftp(22, "/srv/socle"));
        let s3 = |prefix: &str| RepositoryPlace::S3 {
            endpoint: "https://s3.example.org".into(),
            bucket: "backup".into(),
            prefix: prefix.into(),
        };
        assert_eq!(place("s3:https://s3.example.org/backup"), s3(""));
        assert_eq!(place("s3:https://s3.example.org/backup/a/ks1"), s3("a/ks1"));
    }

    #[test]
    fn the_server_of_a_place_is_a_host_and_a_port() {
        let server = |text: &str| place(text).server();
        assert_eq!(server("/mnt/backup"), None);
        assert_eq!(server("rest:https://ks1@b.example.org/ks1/").as_deref(), Some("b.example.org:443"));
        assert_eq!(server("rest:http://[::1]:8000/").as_deref(), Some("::1:8000"));
        assert_eq!(server("sftp://ks1@b.example.org/socle").as_deref(), Some("b.example.org:22"));
        assert_eq!(server("sftp://ks1@[2001:db8::1]:2222/socle").as_deref(), Some("2001:db8::1:2222"));
        assert_eq!(server("s3:https://s3.example.org:3900/bucket").as_deref(), Some("s3.example.org:3900"));
        assert!(place("s3:https://s3.example.org/bucket").is_protected());
        assert!(!place("rest:http://127.0.0.1:8000/").is_protected() && !place("sftp://a@b/c").is_protected());
    }

    #[test]
    fn one_place_is_written_in_several_ways() {
        let same = |one: &str, other: &str| {
            one.parse::<RepositoryLocation>().unwrap().leads_to(&other.parse::<RepositoryLocation>().unwrap())
        };
        assert!(same("rest:https://b.example.org/a", "rest:https://ks1@b.example.org/a/"));
        assert!(same("sftp://ks1@b.example.org:22/a", "sftp://root@b.example.org/a"));
        assert!(same("s3:https://b.example.org/bucket/", "s3:https://b.example.org:443/bucket"));
        assert!(!same("sftp://ks1@b.example.org//a", "sftp://ks1@b.example.org/a"));
        assert!(!same("/mnt/a", "/mnt/b") && same("/mnt/a", "/mnt/a"));
        assert!(!same("/mnt/a", "rest:https://b.example.org/a"));
    }

    #[test]
    fn a_host_key_is_read_as_it_is_written() {
        let key: HostKey = KEY.parse().unwrap();
        assert_eq!(key.to_string(), KEY);
        assert_eq!(format!("{KEY} root@backup").parse(), Ok(key));
        for text in ["", "ssh-ed25519", "ssh-ed25519 AAAA", &KEY.replace("ssh-ed25519 ", "ssh-rsa ")] {
            assert_eq!(text.parse::<HostKey>(), Err(HostKeyError::NotAKey), "{text}");
        }
        let rsa = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQC7";
        assert_eq!(rsa.parse::<HostKey>(), Err(HostKeyError::Kind("ssh-rsa".into())));
    }
}
