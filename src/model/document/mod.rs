//! The desired state of one server.
//!
//! Two types, two stages: a text as written becomes a [`Document`] only through [`parse`], which
//! collects every problem with its place. The planner accepts nothing but the valid type, so no
//! later stage asks again whether a name is a name.
//!
//! How a text becomes valid, in order; each step goes on with what the one before left whole, so that
//! one run names every problem:
//!
//! 1. `syntax`: TOML, with the place of every key and value kept.
//! 2. `structure`: fields, types, ranges, against the published JSON Schema ([`schema()`]), which is
//!    derived from the types in `written`. What is wrong is reported and cut out.
//! 3. `check`: what one value must be, and what several values must be to each other.
//!
//! A name of `[databases]` may hold `-`, as every name; in the database server it is written `_`.

mod certificates;
mod check;
mod keep;
mod location;
mod parse;
mod schema;
mod structure;
mod syntax;
mod value;
mod written;

pub use certificates::{
    AcmeAuthority, AcmeWish, BUILT_IN, Binding, Certificate, CertificateSource, Certificates, ChallengeKind,
    DnsProvider, SecretSource, SourceKind,
};
pub use keep::Keep;
pub use location::{HostKey, HostKeyError, LocationError, RepositoryLocation, RepositoryPlace};
pub use parse::{Found, Judged, MAX_BYTES, Wrong, name, parse, place_of, position_of, read_as, values};
pub use schema::{schema, without_null};

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::unit::{Limits, Sandbox};
use super::{Digest, Domain, Name, Sealed, Version};

/// The whole valid document.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Document {
    pub server: Server,
    pub instances: BTreeMap<Name, Instance>,
    pub services: BTreeMap<Name, Service>,
    /// Debian packages wanted (`true`) or unwanted (`false`).
    pub packages: BTreeMap<String, bool>,
    pub accounts: BTreeMap<Name, Account>,
    /// By absolute path.
    pub files: BTreeMap<String, File>,
    pub databases: BTreeMap<Name, Database>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub repositories: BTreeMap<Name, Repository>,
    #[serde(default, skip_serializing_if = "Certificates::says_nothing")]
    pub certificates: Certificates,
    /// Besides those that are built in ([`certificates::BUILT_IN`]).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub authorities: BTreeMap<Name, AcmeAuthority>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub dns: BTreeMap<Name, DnsProvider>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Server {
    /// For people; the agent does not need it.
    pub name: Option<Name>,
    /// What the agent does about drift it sees (`repair` by default).
    pub drift: DriftPolicy,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DriftPolicy {
    /// Put it back.
    #[default]
    Repair,
    /// Say so and leave it.
    Report,
}

/// One installation of a recipe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    pub recipe: Name,
    pub version: Version,
    pub domain: Domain,
    pub aliases: BTreeSet<Domain>,
    pub member: Option<Name>,
    pub state: InstanceState,
    /// Answers to the recipe's `[[param]]`, as text; the recipe checks them.
    pub params: BTreeMap<Name, String>,
    /// Secrets of the recipe that are given instead of made up.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<Name, Sealed>,
    pub limits: Limits,
    /// Where to take the release from, instead of what the recipe says.
    pub source: Option<Source>,
    #[serde(default, skip_serializing_if = "Certificate::says_nothing")]
    pub certificate: Certificate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum InstanceState {
    #[default]
    Running,
    Stopped,
    /// Not served and not running; its data is kept until it is purged.
    Absent,
}

/// Where bytes come from and what they must be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// `https`, `http` (only with `sha256`) or `file`.
    pub url: String,
    pub sha256: Option<Digest>,
}

/// A systemd unit without a recipe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Service {
    /// A unit the agent writes: `socle-<name>.service`, with a timer or a socket when one is given.
    Own(Box<OwnService>),
    /// A unit that exists already (of a Debian package), by its full name.
    Existing(ExistingUnit),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnService {
    pub description: String,
    /// Argument vector; the first is an absolute path.
    pub exec: Vec<String>,
    /// An existing user, or one of `[accounts]`. None: a dynamic user.
    pub user: Option<String>,
    pub environment: BTreeMap<String, String>,
    pub working_directory: Option<String>,
    pub sandbox: Sandbox,
    pub limits: Limits,
    pub state: InstanceState,
    /// `OnCalendar=` of a timer that starts the service (systemd.time(7)).
    pub on_calendar: Option<String>,
    /// `ListenStream=` of a socket that starts it (systemd.socket(5)).
    pub listen: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExistingUnit {
    /// `ssh.service`, `apt-daily.timer` …
    pub unit: String,
    pub state: ExistingState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExistingState {
    /// Starts at boot, and runs.
    Enabled,
    /// Does not start at boot, and does not run.
    Disabled,
    /// Cannot be started.
    Masked,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    pub description: String,
    /// Home directory; none: `/nonexistent`.
    pub home: Option<String>,
    /// Further groups it is a member of.
    pub groups: BTreeSet<String>,
    /// `false`: the account is removed.
    pub present: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    pub content: String,
    pub owner: String,
    pub group: String,
    /// Permission bits, 0o000 to 0o777.
    pub mode: u32,
    /// `false`: the file is removed.
    pub present: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    Mariadb,
    Postgresql,
}

impl Engine {
    pub fn as_str(self) -> &'static str {
        match self {
            Engine::Mariadb => "mariadb",
            Engine::Postgresql => "postgresql",
        }
    }
}

/// Where backups go, when, and how many stay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repository {
    pub location: RepositoryLocation,
    /// What an SSH server may show; not empty for one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub host_keys: Vec<HostKey>,
    /// Of S3-compatible storage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// PEM file of the roots that the certificate of its server is checked against, instead of the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roots: Option<String>,
    /// By name: [`RepositoryPlace::secrets`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<Name, SecretSource>,
    /// The agent deletes nothing: somebody else prunes, with another credential.
    #[serde(default)]
    pub append_only: bool,
    /// KiB a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_upload_kib: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_download_kib: Option<u32>,
    /// systemd.time(7).
    pub on_calendar: String,
    /// The last good backup is never older than this.
    #[serde(default = "a_day_and_some")]
    pub max_age_hours: u32,
    pub keep: Keep,
}

impl Repository {
    /// With nothing said but where it is.
    pub fn at(location: RepositoryLocation) -> Self {
        Self {
            location,
            host_keys: Vec::new(),
            region: None,
            roots: None,
            secrets: BTreeMap::new(),
            append_only: false,
            limit_upload_kib: None,
            limit_download_kib: None,
            on_calendar: "daily".to_owned(),
            max_age_hours: a_day_and_some(),
            keep: Keep::default(),
        }
    }
}

/// A daily backup, with room for its random delay and for how long it takes.
const fn a_day_and_some() -> u32 {
    30
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Database {
    pub engine: Engine,
    /// The system user who may log in as the owner through the socket.
    pub owner: String,
    /// Extensions created by the superuser (PostgreSQL).
    pub extensions: BTreeSet<String>,
}
