//! The document as written. The documentation comments are the descriptions of the published schema.
//!
//! A required field is an `Option` here, and required only in the schema: its absence is reported by
//! `structure`, and the rest of its table is checked all the same.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{DriftPolicy, Engine, InstanceState, Keep};
use crate::model::unit::{Limits, Sandbox};

/// Patterns for editors; the types of `model::id` decide.
pub(super) const NAME: &str = "^[a-z][a-z0-9-]{0,30}$";
pub(super) const DOMAIN: &str = r"^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])?$";
pub(super) const VERSION: &str = "^[a-zA-Z0-9][a-zA-Z0-9.+_~-]{0,63}$";
pub(super) const SHA256: &str = "^[0-9a-f]{64}$";
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
    /// A directory of this server (better: of another disk), by its absolute path.
    #[schemars(extend("examples" = ["/srv/backup/socle"]))]
    pub location: Option<String>,
    /// When backups are made (systemd.time(7)).
    pub on_calendar: String,
    pub keep: Keep,
}

impl Default for Repository {
    fn default() -> Self {
        Self { location: None, on_calendar: "daily".to_owned(), keep: Keep::default() }
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
