//! The document as written. The documentation comments are the descriptions of the published schema.
//!
//! A required field is an `Option` here, and required only in the schema: its absence is reported by
//! `structure`, and the rest of its table is checked all the same.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::certificates::{ChallengeKind, SourceKind};
use super::{DriftPolicy, Engine, InstanceState, keep};
use crate::model::certificate::KeyType;
use crate::model::unit::{Limits, Sandbox};

/// Patterns for editors; the types of `model::id` decide.
pub(super) const NAME: &str = "^[a-z][a-z0-9-]{0,30}$";
pub(super) const DOMAIN: &str = r"^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])?$";
pub(super) const VERSION: &str = "^[a-zA-Z0-9][a-zA-Z0-9.+_~-]{0,63}$";
pub(super) const SHA256: &str = "^[0-9a-f]{64}$";
pub(super) const PROFILE: &str = "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$";
pub(super) const MODE: &str = "^0?[0-7]{3}$";

/// The desired state of one server.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(extend("required" = ["schema"]))]
pub(super) struct Document {
    /// The form of this document. 1 is the only one so far.
    #[schemars(extend("const" = 1, "examples" = [1]))]
    pub schema: Option<i64>,
    pub server: Server,
    /// Installations of recipes, by name.
    #[schemars(extend("propertyNames" = {"pattern": NAME}))]
    pub instances: BTreeMap<String, Instance>,
    /// Units of systemd without a recipe, by name.
    #[schemars(extend("propertyNames" = {"pattern": NAME}))]
    pub services: BTreeMap<String, Service>,
    /// Debian packages: `true` installed, `false` removed.
    pub packages: BTreeMap<String, bool>,
    /// System users, by name.
    #[schemars(extend("propertyNames" = {"pattern": NAME}))]
    pub accounts: BTreeMap<String, Account>,
    /// Files with their whole content, by absolute path.
    #[schemars(extend("propertyNames" = {"pattern": "^/"}))]
    pub files: BTreeMap<String, File>,
    /// Where backups go, by name. Every instance is saved in each of them.
    #[schemars(extend("propertyNames" = {"pattern": NAME}))]
    pub repositories: BTreeMap<String, Repository>,
    /// Databases without a recipe, by name. A `-` of the name is a `_` in the database server.
    #[schemars(extend("propertyNames" = {"pattern": NAME}))]
    pub databases: BTreeMap<String, Database>,
    pub certificates: Certificates,
    /// ACME authorities besides `letsencrypt` and `letsencrypt-staging`, by name.
    #[schemars(extend("propertyNames" = {"pattern": NAME}))]
    pub authorities: BTreeMap<String, Authority>,
    /// How DNS providers are told the records of `dns-01`, by name.
    #[schemars(extend("propertyNames" = {"pattern": NAME}))]
    pub dns: BTreeMap<String, Provider>,
}

/// The server itself.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Server {
    /// For people; the agent does not need it.
    #[schemars(regex(pattern = NAME))]
    pub name: Option<String>,
    /// What the agent does about drift it sees.
    pub drift: DriftPolicy,
}

/// One installation of a recipe.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(extend("required" = ["recipe", "version", "domain"]))]
pub(super) struct Instance {
    /// The recipe's name: `socle catalog list` shows them.
    #[schemars(regex(pattern = NAME), extend("examples" = ["wordpress"]))]
    pub recipe: Option<String>,
    /// The exact version to install.
    #[schemars(regex(pattern = VERSION), extend("examples" = ["6.8.7"]))]
    pub version: Option<String>,
    /// The domain it is served at.
    #[schemars(regex(pattern = DOMAIN), extend("examples" = ["blog.example.org"]))]
    pub domain: Option<String>,
    /// Further domains it is served at.
    #[schemars(inner(regex(pattern = DOMAIN)))]
    pub aliases: Vec<String>,
    /// The member it belongs to.
    #[schemars(regex(pattern = NAME))]
    pub member: Option<String>,
    pub state: InstanceState,
    /// Where to take the release from, instead of what the recipe says.
    pub source: Option<Source>,
    /// Answers to the recipe's questions: `socle catalog show RECIPE` lists them.
    #[schemars(extend("propertyNames" = {"pattern": NAME}))]
    pub params: BTreeMap<String, Param>,
    /// Secrets of the recipe that are not made up on the server but given, sealed to it: `socle fleet seal` makes them.
    #[schemars(extend("propertyNames" = {"pattern": NAME}))]
    pub secrets: BTreeMap<String, String>,
    pub limits: Limits,
    pub certificate: Option<Certificate>,
}

/// A text, a whole number, or `true` or `false`; kept as text.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum Param {
    Text(String),
    Number(i64),
    Switch(bool),
}

/// Where bytes come from and what they must be.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(extend("required" = ["url"]))]
pub(super) struct Source {
    /// `https:`, `http:` (only with `sha256`) or `file:`.
    #[schemars(regex(pattern = "^(https?|file)://"), extend("examples" = ["https://example.org/release.tar.gz"]))]
    pub url: Option<String>,
    /// SHA-256 of the file, 64 hexadecimal digits.
    #[schemars(regex(pattern = SHA256))]
    pub sha256: Option<String>,
}

/// Either a unit of its own (`exec` and what belongs to it), or a unit that exists already (`unit`).
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Service {
    /// An existing unit, by its full name. Only `state` goes with it.
    pub unit: Option<String>,
    /// `running`, `stopped` or `absent` for a unit of its own; `enabled`, `disabled` or `masked` for an
    /// existing one.
    pub state: Option<ServiceState>,
    /// What the unit is, for people. The name if not given.
    pub description: Option<String>,
    /// The program, by its absolute path, and its arguments, one word each.
    pub exec: Option<Vec<String>>,
    /// The system user it runs as. A user made for it alone if not given.
    pub user: Option<String>,
    /// Environment variables. Not for secrets: every user can read them.
    pub environment: Option<BTreeMap<String, String>>,
    pub working_directory: Option<String>,
    /// Runs at these times (systemd.time(7)) instead of always.
    pub on_calendar: Option<String>,
    /// Started by a connection to this port, address and port, or socket path.
    pub listen: Option<String>,
    /// Exceptions from the sandbox every unit has.
    pub sandbox: Option<Sandbox>,
    pub limits: Option<Limits>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum ServiceState {
    /// Its own unit runs, or waits for its time or a connection.
    Running,
    /// Its own unit is there and does not run.
    Stopped,
    /// Its own unit is not there.
    Absent,
    /// The existing unit starts at boot, and runs.
    Enabled,
    /// The existing unit does not start at boot, and does not run.
    Disabled,
    /// The existing unit cannot be started.
    Masked,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Presence {
    #[default]
    Present,
    Absent,
}

/// A system user.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Account {
    /// What it is for, for people.
    pub description: String,
    /// Its home directory. None if not given.
    pub home: Option<String>,
    /// Groups it is a member of, besides its own.
    pub groups: Vec<String>,
    pub state: Presence,
}

/// A file with its whole content.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct File {
    /// The whole content. Needed unless the file is to be absent.
    pub content: Option<String>,
    pub owner: String,
    pub group: String,
    /// Permissions in octal digits, in quotes.
    #[schemars(regex(pattern = MODE))]
    pub mode: String,
    pub state: Presence,
}

impl Default for File {
    fn default() -> Self {
        Self {
            content: None,
            owner: "root".to_owned(),
            group: "root".to_owned(),
            mode: "0644".to_owned(),
            state: Presence::Present,
        }
    }
}

/// A repository of backups, in the format of restic.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(extend("required" = ["location"]))]
pub(super) struct Repository {
    /// As restic writes it: a directory of this server (better: of another disk) by its absolute path,
    /// `sftp://USER@HOST/PATH` (below the user's home; with `//`, from the root), `rest:https://USER@HOST/PATH/`,
    /// or `s3:https://HOST/BUCKET/PREFIX`.
    #[schemars(extend("examples" = ["/srv/backup/socle"]))]
    pub location: Option<String>,
    /// For `sftp:`: the public keys that the server may show, as `ssh-keyscan` prints them after the name.
    pub host_keys: Vec<String>,
    /// For `s3:`: the region of the bucket, `us-east-1` if not given.
    pub region: Option<String>,
    /// For `rest:https:` and `s3:https:`: PEM file of the roots that the certificate of the server is checked against,
    /// instead of the system's.
    #[schemars(regex(pattern = "^/"))]
    pub roots: Option<String>,
    /// Sealed to this server (`socle fleet seal SERVER backup-NAME SECRET`): for `rest:` with a user `password`, for
    /// `s3:` `access-key-id` and `secret-access-key`.
    pub secrets: BTreeMap<String, String>,
    /// The same in files of this server, readable by root only.
    pub secret_files: BTreeMap<String, String>,
    /// Nothing is deleted by this server: somebody else prunes, with a credential of their own.
    pub append_only: bool,
    /// The most KiB a second to the repository.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub limit_upload_kib: Option<u32>,
    /// The most KiB a second from the repository.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub limit_download_kib: Option<u32>,
    /// When backups are made (systemd.time(7)).
    pub on_calendar: String,
    /// The age of the last good backup, in hours, from which it is told as a problem.
    #[schemars(range(min = 1, max = 87_600))]
    pub max_age_hours: u32,
    pub keep: keep::Written,
}

impl Default for Repository {
    fn default() -> Self {
        Self {
            location: None,
            host_keys: Vec::new(),
            region: None,
            roots: None,
            secrets: BTreeMap::new(),
            secret_files: BTreeMap::new(),
            append_only: false,
            limit_upload_kib: None,
            limit_download_kib: None,
            on_calendar: "daily".to_owned(),
            max_age_hours: super::a_day_and_some(),
            keep: keep::Written::default(),
        }
    }
}

/// A database and who may use it.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(extend("required" = ["engine", "owner"]))]
pub(super) struct Database {
    #[schemars(extend("examples" = ["mariadb"]))]
    pub engine: Option<Engine>,
    /// The system user who logs in as its owner, without a password, through the local socket.
    #[schemars(extend("examples" = ["shop"]))]
    pub owner: Option<String>,
    /// Extensions (PostgreSQL only).
    pub extensions: Vec<String>,
}

/// What holds for the certificate of every instance that says nothing else. Certificates are ordered once `contacts`
/// or `authorities` is given; until then sites answer with self-signed ones.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Certificates {
    /// E-mail addresses the authorities write to.
    #[schemars(extend("examples" = [["admin@example.org"]]))]
    pub contacts: Vec<String>,
    /// Asked in this order: `letsencrypt` (if none is given), `letsencrypt-staging`, or names of `[authorities]`.
    #[schemars(inner(regex(pattern = NAME)))]
    pub authorities: Vec<String>,
    /// How control of the names is proven: `http-01` if not given.
    pub challenge: Option<ChallengeKind>,
    /// For `dns-01`: one of `[dns]`.
    #[schemars(regex(pattern = NAME))]
    pub dns: Option<String>,
    /// `p256` if not given.
    pub key_type: Option<KeyType>,
    /// The profile asked for, if the authority has profiles: `tlsserver`, `shortlived`, `classic` …
    #[schemars(regex(pattern = PROFILE))]
    pub profile: Option<String>,
    /// Browsers are told to use nothing but HTTPS: for so many seconds, or a year if `true`.
    pub hsts: Option<Hsts>,
}

/// The certificate of one instance: for its domain and aliases.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Certificate {
    /// Where it comes from. `acme` if authorities are configured, else `self-signed`.
    pub source: Option<SourceKind>,
    /// For `files`: PEM file with the certificate and those of its authorities.
    #[schemars(regex(pattern = "^/"))]
    pub chain: Option<String>,
    /// For `files`: PEM file with the private key.
    #[schemars(regex(pattern = "^/"))]
    pub key: Option<String>,
    /// How control of the names is proven.
    pub challenge: Option<ChallengeKind>,
    /// For `dns-01`: one of `[dns]`.
    #[schemars(regex(pattern = NAME))]
    pub dns: Option<String>,
    /// Also for every name one label below the domain; needs `dns-01`.
    pub wildcard: bool,
    pub key_type: Option<KeyType>,
    /// The profile asked for, if the authority has profiles.
    #[schemars(regex(pattern = PROFILE))]
    pub profile: Option<String>,
    /// Asked in this order.
    #[schemars(inner(regex(pattern = NAME)))]
    pub authorities: Vec<String>,
    /// Browsers are told to use nothing but HTTPS: for so many seconds, or a year if `true`.
    pub hsts: Option<Hsts>,
}

/// A number of seconds, or `true` or `false`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum Hsts {
    Seconds(i64),
    Switch(bool),
}

/// An ACME authority (RFC 8555).
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(extend("required" = ["directory"]))]
pub(super) struct Authority {
    /// The address of its directory.
    #[schemars(regex(pattern = "^https://"), extend("examples" = ["https://acme.example.org/directory"]))]
    pub directory: Option<String>,
    /// PEM file of the roots its address is checked against, instead of the system's.
    #[schemars(regex(pattern = "^/"))]
    pub roots: Option<String>,
    /// E-mail addresses it writes to, instead of those of `[certificates]`.
    pub contacts: Option<Vec<String>>,
    pub binding: Option<Binding>,
    pub limits: AuthorityLimits,
}

/// External account binding (RFC 8555, 7.3.4): the authority knows its customers.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(extend("required" = ["id"]))]
pub(super) struct Binding {
    /// The key identifier it gave.
    pub id: Option<String>,
    /// The HMAC key it gave (base64url), sealed to this server.
    pub key: Option<String>,
    /// A file of this server with the HMAC key, readable by root only.
    #[schemars(regex(pattern = "^/"))]
    pub key_file: Option<String>,
}

/// What the authority allows, as it publishes it: half of it is used. Let's Encrypt's if not given.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct AuthorityLimits {
    /// New orders per account in three hours.
    #[schemars(range(min = 2, max = 1_000_000))]
    pub orders_per_3h: Option<u32>,
    /// Certificates per registered domain in a week.
    #[schemars(range(min = 2, max = 1_000_000))]
    pub certificates_per_domain_7d: Option<u32>,
    /// Certificates with the same names in a week.
    #[schemars(range(min = 2, max = 1_000_000))]
    pub duplicates_7d: Option<u32>,
}

/// A DNS provider.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(extend("required" = ["provider"]))]
pub(super) struct Provider {
    /// `rfc2136`, `ovh`, `exec`, or one that the library `dns-update` knows.
    #[schemars(regex(pattern = NAME), extend("examples" = ["rfc2136"]))]
    pub provider: Option<String>,
    /// What the provider asks for, except secrets.
    pub settings: BTreeMap<String, Param>,
    /// Its secrets, sealed to this server: `socle fleet seal` makes them.
    pub secrets: BTreeMap<String, String>,
    /// Its secrets in files of this server, readable by root only.
    pub secret_files: BTreeMap<String, String>,
    /// For `exec`: the program, by its absolute path, and its arguments.
    pub command: Vec<String>,
}
