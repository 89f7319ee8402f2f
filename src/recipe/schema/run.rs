//! What runs, with which powers: the runtime, the steps of an installation, services, timers.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::model::Name;
use crate::model::unit::{Network, Readiness};
use crate::recipe::version::Range;

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

/// How an instance stands still for the moment that a backup is of.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Backup {
    /// Its units are stopped. Missing: unless commands do it. Only what never writes a file and a row (or two files)
    /// that belong together may do without both.
    pub stop: Option<bool>,
    /// Run before, in this order; each ends only when what it asks for is so.
    pub enter: Vec<Command>,
    /// Run after it on every way out, and on data that is brought back. Each may be run when nothing was entered.
    pub leave: Vec<Command>,
}

impl Backup {
    pub fn stops(&self) -> bool {
        self.stop.unwrap_or(self.enter.is_empty())
    }
}

/// A program, as the instance's user, in its sandbox. It is told nothing but its arguments: it is noted in clear.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Command {
    pub name: Name,
    pub argv: Vec<String>,
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    #[serde(default = "zero")]
    pub ok_codes: Vec<i32>,
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
