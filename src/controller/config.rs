//! `/etc/socle/controller.toml`: what belongs to this machine. What belongs to the fleet is in the database.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::store::StoreUrl;

/// Where agents come in, if nothing else is said.
pub const PORT: u16 = 7443;

#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where agents come in: `[::]:7443`.
    pub listen: Option<SocketAddr>,
    /// `postgres://…`, shared by several controllers. None: a SQLite file in the state directory.
    pub database: Option<String>,
    /// Where operators come in by HTTPS with a token. None: only the local socket.
    pub api_listen: Option<SocketAddr>,
    /// The script that `socle controller server add` prints a line for.
    pub bootstrap_url: Option<String>,
    /// The package repository that script shall use, if not its own.
    pub repository: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read `{path}`")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("`{path}` is not valid")]
    Invalid { path: PathBuf, source: Box<toml::de::Error> },
    #[error("`{path}` is not valid: `database`")]
    Database { path: PathBuf, source: Box<super::store::StoreError> },
}

impl Config {
    /// No file: the defaults.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(source) => return Err(ConfigError::Read { path: path.to_owned(), source }),
        };
        let invalid = |source| ConfigError::Invalid { path: path.to_owned(), source: Box::new(source) };
        let config: Self = toml::from_str(&text).map_err(invalid)?;
        if let Some(url) = &config.database {
            let wrong = |source| ConfigError::Database { path: path.to_owned(), source: Box::new(source) };
            url.parse::<StoreUrl>().map_err(wrong)?;
        }
        Ok(config)
    }

    pub fn listen(&self) -> SocketAddr {
        self.listen.unwrap_or(SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, PORT)))
    }

    /// The database; `state` is the controller's directory.
    pub fn store_url(&self, state: &Path) -> StoreUrl {
        match &self.database {
            // Never another database than the one that was asked for.
            Some(url) => url.parse().expect("`load` refuses what is no address of a database"),
            None => StoreUrl::sqlite(state.join("controller.db")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_and_typos() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("controller.toml");
        assert_eq!(Config::load(&path).unwrap().listen().port(), PORT);
        std::fs::write(&path, "listn = \"[::]:1\"").unwrap();
        assert!(matches!(Config::load(&path), Err(ConfigError::Invalid { .. })));
        std::fs::write(&path, "database = \"mysql://x\"").unwrap();
        assert!(matches!(Config::load(&path), Err(ConfigError::Database { .. })));
    }
}
