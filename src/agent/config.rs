//! `/etc/socle/agent.toml`: what belongs to this machine rather than to its desired state.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// URL prefixes fetched from somewhere else (a mirror of the association).
    pub mirrors: BTreeMap<String, String>,
    /// Where Python packages come from, instead of pip's own default.
    pub python_index: Option<String>,
    /// Seconds between two looks of the daemon when nothing happens.
    pub interval_s: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self { mirrors: BTreeMap::new(), python_index: None, interval_s: 60 }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read `{path}`")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("`{path}` is not valid")]
    Invalid { path: PathBuf, source: Box<toml::de::Error> },
}

impl Config {
    /// No file: the defaults.
    pub fn load(path: PathBuf) -> Result<Self, ConfigError> {
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(source) => return Err(ConfigError::Read { path, source }),
        };
        toml::from_str(&text).map_err(|source| ConfigError::Invalid { path, source: Box::new(source) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_and_typos() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.toml");
        assert_eq!(Config::load(path.clone()).unwrap(), Config::default());
        std::fs::write(&path, "intervall_s = 3").unwrap();
        assert!(matches!(Config::load(path), Err(ConfigError::Invalid { .. })));
    }
}
