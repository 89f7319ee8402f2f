//! `recipe.toml` as types. What a field means is said here; that its values make sense together is
//! checked in [`super::parse`].

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::secret::Alphabet;
use super::version::{Range, Scheme};
use crate::model::document::Engine;
use crate::model::unit::{Network, Readiness};
use crate::model::{Digest, Name, Version};

/// The only version of this form.
pub const SCHEMA: u32 = 1;

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

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Runtime {
    pub php: Option<Php>,
}

/// The PHP of Debian, with a master process of the instance's own.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Php {
    pub range: Range,
    /// Debian packages `php<version>-<extension>`.
    #[serde(default)]
    pub extensions: BTreeSet<String>,
    #[serde(default)]
    pub ini: BTreeMap<String, String>,
    /// Requests served at once, at most.
    #[serde(default = "ten")]
    pub children: u32,
    #[serde(default)]
    pub sandbox: Exceptions,
}

fn ten() -> u32 {
    10
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Apt {
    pub packages: BTreeSet<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Layout {
    pub directory: Vec<Directory>,
    pub link: Vec<Link>,
}

/// A directory of the instance, besides `releases`, `data`, `config` and `recipe`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Directory {
    pub path: String,
    #[serde(default)]
    pub owner: Owner,
    #[serde(default = "mode_directory")]
    pub mode: Mode,
}

fn mode_directory() -> Mode {
    Mode(0o750)
}

/// `path` of a release is a link to `target` of the instance.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    pub path: String,
    pub target: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Owner {
    /// The instance's own user.
    #[default]
    App,
    /// root; the instance's group may read what the mode lets it.
    Root,
}

/// Permission bits, written in octal: `"0640"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Mode(pub u32);

impl TryFrom<String> for Mode {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let bits = u32::from_str_radix(&text, 8).ok().filter(|bits| (3..=4).contains(&text.len()) && *bits <= 0o777);
        match bits {
            Some(bits) if bits & 0o002 == 0 => Ok(Self(bits)),
            Some(_) => Err(format!("`{text}` lets everybody write")),
            None => Err(format!("`{text}` is not a mode like `0640`")),
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Db {
    pub engine: Engine,
    #[serde(default)]
    pub extensions: BTreeSet<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    pub template: String,
    /// Below the instance's directory.
    pub dest: String,
    #[serde(default)]
    pub owner: Owner,
    #[serde(default = "mode_file")]
    pub mode: Mode,
    #[serde(default)]
    pub write: Write,
}

fn mode_file() -> Mode {
    Mode(0o400)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Write {
    #[default]
    Always,
    Once,
}

/// A value that is made up once, on the server.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Secret {
    pub name: Name,
    #[serde(default)]
    pub kind: Alphabet,
    /// Characters of the result.
    #[serde(default = "sixty_four")]
    pub length: usize,
}

fn sixty_four() -> usize {
    64
}

/// One act of an installation or upgrade: exactly one of `run` and `seed`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    pub name: Name,
    pub run: Option<Run>,
    pub seed: Option<Seed>,
}

/// A program, as the instance's user, in its sandbox.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    pub argv: Vec<String>,
    /// Template of its standard input.
    pub stdin: Option<String>,
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    #[serde(default = "zero")]
    pub ok_codes: Vec<i32>,
    #[serde(default = "five_minutes")]
    pub timeout_s: u32,
    #[serde(default)]
    pub sandbox: Exceptions,
}

fn zero() -> Vec<i32> {
    vec![0]
}

fn five_minutes() -> u32 {
    300
}

/// Copy from the release to the data: what is missing, or (`replace`) everything.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seed {
    /// Below the release.
    pub from: String,
    /// Below the instance's directory.
    pub to: String,
    #[serde(default)]
    pub replace: bool,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    pub name: Name,
    pub exec: Vec<String>,
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    #[serde(default)]
    pub readiness: Readiness,
    /// It makes its socket in `{run}`.
    #[serde(default)]
    pub socket: bool,
    #[serde(default = "ninety_seconds")]
    pub timeout_s: u32,
    #[serde(default)]
    pub sandbox: Exceptions,
}

fn ninety_seconds() -> u32 {
    90
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timer {
    pub name: Name,
    pub exec: Vec<String>,
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// systemd.time(7).
    pub on_calendar: String,
    #[serde(default)]
    pub jitter_s: u32,
    #[serde(default = "five_minutes")]
    pub timeout_s: u32,
    #[serde(default)]
    pub sandbox: Exceptions,
}

/// What it may do beyond the default sandbox, which reaches local sockets only and writes nothing
/// but the instance's data. Any exception needs its `why`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Exceptions {
    pub network: Network,
    pub write_execute: bool,
    pub system_calls: Vec<String>,
    pub why: String,
}

impl Default for Exceptions {
    fn default() -> Self {
        Self { network: Network::None, write_execute: false, system_calls: Vec::new(), why: String::new() }
    }
}

impl Exceptions {
    pub fn any(&self) -> bool {
        self.network != Network::None || self.write_execute || !self.system_calls.is_empty()
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Web {
    pub kind: WebKind,
    /// What is served from disk.
    pub root: String,
    /// The same when the instance names an archive of its own (`empty` sources).
    pub root_of_archive: Option<String>,
    /// Template of what stands inside the server block.
    pub locations: String,
    /// For `proxy`: `unix:{run}/name.sock`.
    pub upstream: Option<String>,
    #[serde(default = "body")]
    pub body_max_mb: u32,
}

fn body() -> u32 {
    8
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WebKind {
    PhpFpm,
    Proxy,
    Static,
}

/// A question the finished site must answer so.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Health {
    pub path: String,
    #[serde(default = "ok")]
    pub status: Vec<u16>,
    pub contains: Option<String>,
    #[serde(default = "thirty_seconds")]
    pub within_s: u32,
}

fn ok() -> Vec<u16> {
    vec![200]
}

fn thirty_seconds() -> u32 {
    30
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
