//! What the application is, where it comes from, and what whoever installs it may say.

use std::collections::BTreeSet;

use serde::Deserialize;

use crate::model::{Digest, Name, Version};
use crate::recipe::version::{Range, Scheme};

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct App {
    pub id: Name,
    pub name: String,
    pub homepage: String,
    /// SPDX expression.
    pub license: String,
    /// Sentences a plan shows to who installs it.
    #[serde(default)]
    pub notices: Vec<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Platform {
    /// Debian releases it was seen working on. Empty: any.
    pub debian: BTreeSet<u32>,
}

/// Which versions exist, beyond the listed `[[release]]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Versions {
    pub scheme: Scheme,
    /// Versions that are not listed are accepted in this range only.
    pub range: Option<Range>,
}

/// What is known of one version.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Release {
    pub version: Version,
    pub url: Option<String>,
    pub sha256: Option<Digest>,
}

/// Where releases come from.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    pub kind: SourceKind,
    /// For `archive` and `file`.
    pub url: Option<String>,
    /// Leading path components of an archive to drop.
    #[serde(default)]
    pub strip: u32,
    /// For `file`: the name it is stored under.
    pub name: Option<String>,
    /// For `venv`: what pip installs.
    #[serde(default)]
    pub requirements: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceKind {
    Archive,
    File,
    Venv,
    /// Nothing, unless the instance names an archive.
    Empty,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Param {
    pub name: Name,
    #[serde(rename = "type")]
    pub kind: ParamKind,
    pub default: Option<String>,
    #[serde(default)]
    pub required: bool,
    /// Accepted values of an `enum`.
    #[serde(default)]
    pub values: BTreeSet<String>,
    /// `text` only: line breaks are allowed.
    #[serde(default)]
    pub multiline: bool,
    /// For people.
    #[serde(default)]
    pub help: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ParamKind {
    Text,
    Email,
    Bool,
    Int,
    Enum,
    /// Text that is never shown; only files closed to others may hold it.
    Secret,
}

/// What an upgrade must respect.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Rule {
    /// Its data cannot go back to an older version.
    NoDowngrade {},
    /// Versions in `to` need this PHP.
    Requires { to: Range, php: Range },
}
