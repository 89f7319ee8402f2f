//! Where the database is.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::StoreError;

/// `sqlite:/PATH` or a `postgres://` URL (libpq's form). Shown without the password.
#[derive(Clone, PartialEq, Eq)]
pub struct StoreUrl(pub(super) Place);

#[derive(Clone, PartialEq, Eq)]
pub(super) enum Place {
    Sqlite(PathBuf),
    Postgres(String),
}

impl StoreUrl {
    /// A file on this machine; it is made if it is not there.
    pub fn sqlite(path: impl Into<PathBuf>) -> Self {
        Self(Place::Sqlite(path.into()))
    }

    /// The file, if the database is one.
    pub fn path(&self) -> Option<&Path> {
        match &self.0 {
            Place::Sqlite(path) => Some(path),
            Place::Postgres(_) => None,
        }
    }

    /// What the driver reads.
    pub(super) fn for_driver(&self) -> String {
        match &self.0 {
            Place::Postgres(url) => url.clone(),
            // The driver decodes `%XX`; these four would end or change the path.
            Place::Sqlite(path) => {
                let mut url = "sqlite://".to_owned();
                for character in path.to_string_lossy().chars() {
                    match character {
                        '%' => url.push_str("%25"),
                        '?' => url.push_str("%3F"),
                        '#' => url.push_str("%23"),
                        '\\' => url.push_str("%5C"),
                        other => url.push(other),
                    }
                }
                url
            }
        }
    }
}

impl FromStr for StoreUrl {
    type Err = StoreError;
    fn from_str(text: &str) -> Result<Self, StoreError> {
        let refused = || StoreError::Url(without_password(text));
        if let Some(path) = text.strip_prefix("sqlite:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return if path.starts_with('/') { Ok(Self::sqlite(path)) } else { Err(refused()) };
        }
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            return Ok(Self(Place::Postgres(with_tls(text))));
        }
        Err(refused())
    }
}

/// Over a network the server shows a certificate that fits its name, unless the URL says otherwise (`sslmode=`;
/// `sslrootcert=` for an authority of one's own). The driver's own default would go on without, and tell nobody.
fn with_tls(url: &str) -> String {
    let (address, query) = url.split_once('?').unwrap_or((url, ""));
    let parameter = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    let authority = address.split_once("://").map_or("", |(_, rest)| rest.split('/').next().unwrap_or_default());
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let host = parameter("hostaddr").or(parameter("host")).unwrap_or(host);
    let of_this_machine = ["localhost", "127.0.0.1", "[::1]", "::1"]
        .iter()
        .any(|name| host.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with(':')));
    let is_socket = host.is_empty() || host.starts_with('/') || host.starts_with("%2F") || host.starts_with("%2f");
    if of_this_machine || is_socket || parameter("sslmode").or(parameter("ssl-mode")).is_some() {
        return url.to_owned();
    }
    format!("{url}{}sslmode=verify-full", if url.contains('?') { '&' } else { '?' })
}

/// `postgres://user:secret@host/db?password=secret` with both secrets taken out.
fn without_password(url: &str) -> String {
    let (url, query) = url.split_once('?').map_or((url, None), |(url, query)| (url, Some(query)));
    let mut shown = match url.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = rest.split_once('/').map_or((rest, None), |(a, p)| (a, Some(p)));
            let authority = match authority.rsplit_once('@') {
                Some((user, host)) => format!("{}@{host}", user.split(':').next().unwrap_or_default()),
                None => authority.to_owned(),
            };
            format!("{scheme}://{authority}{}", path.map(|path| format!("/{path}")).unwrap_or_default())
        }
        None => url.to_owned(),
    };
    let kept: Vec<&str> = query.iter().flat_map(|q| q.split('&')).filter(|p| !p.starts_with("password=")).collect();
    if !kept.is_empty() {
        shown.push('?');
        shown.push_str(&kept.join("&"));
    }
    shown
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Place::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Place::Postgres(url) => f.write_str(&without_password(url)),
        }
    }
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_never_shown() {
        for url in [
            "postgres://socle:hunter2@db.example.org:5432/socle?sslmode=require",
            "postgresql://socle:hun@ter2@db/socle",
            "postgres:///socle?host=/run/postgresql&password=hunter2",
        ] {
            let shown = format!("{} {:?}", url.parse::<StoreUrl>().unwrap(), url.parse::<StoreUrl>().unwrap());
            assert!(!shown.contains("ter2"), "{shown}");
            assert!(shown.contains("/socle"), "{shown}");
        }
        let refused = "mysql://socle:hunter2@db/socle".parse::<StoreUrl>().unwrap_err();
        assert_eq!(
            refused.to_string(),
            "`mysql://socle@db/socle` names no database: `sqlite:/PATH` or `postgres://USER@HOST/DATABASE`"
        );
    }

    #[test]
    fn a_server_on_the_network_has_to_show_who_it_is() {
        for (url, added) in [
            ("postgres://socle@db.example.org/socle", "?sslmode=verify-full"),
            ("postgres://socle:p%40ss@192.0.2.1:5433/socle?application_name=x", "&sslmode=verify-full"),
            ("postgres://localhost.example.org/socle", "?sslmode=verify-full"),
            ("postgres:///socle?host=db.example.org", "&sslmode=verify-full"),
            ("postgres://socle@db.example.org/socle?sslmode=disable", ""),
            ("postgres://socle@localhost:5433/socle", ""),
            ("postgres://[::1]:5433/socle", ""),
            ("postgres:///socle", ""),
            ("postgres:///socle?host=/run/postgresql", ""),
            ("postgres://socle@%2Frun%2Fpostgresql/socle", ""),
        ] {
            assert_eq!(with_tls(url), format!("{url}{added}"));
        }
    }

    #[test]
    fn a_file_is_named_by_an_absolute_path() {
        let url: StoreUrl = "sqlite:/var/lib/socle controller/50%.db".parse().unwrap();
        assert_eq!(url.path(), Some(Path::new("/var/lib/socle controller/50%.db")));
        assert_eq!(url.for_driver(), "sqlite:///var/lib/socle controller/50%25.db");
        assert_eq!("sqlite:///a".parse::<StoreUrl>().unwrap(), StoreUrl::sqlite("/a"));
        for bad in ["sqlite:a", "sqlite::memory:", "sqlite:", "/a", ""] {
            assert!(bad.parse::<StoreUrl>().is_err(), "{bad}");
        }
    }
}
