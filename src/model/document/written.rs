//! The document as written. The JSON Schema that is published is made from these types, and the text is
//! checked against it, so the two cannot differ. Comments here are read by users: they become the
//! descriptions of the schema.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{DriftPolicy, Engine, ExistingState, InstanceState};
use crate::model::unit::{Limits, Sandbox};

pub type Map<T> = BTreeMap<String, T>;

/// The desired state of one server.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Document {
    /// The version of this format: 1.
    #[schemars(range(min = 1, max = 1))]
    #[expect(dead_code, reason = "the schema allows one value only; it is read from there")]
    pub schema: u32,
    #[serde(default)]
    pub server: Server,
    /// Applications, by name.
    #[serde(default)]
    pub instances: Map<Instance>,
    /// systemd units without a recipe, by name.
    #[serde(default)]
    pub services: Map<Service>,
    /// Debian packages: `true` installed, `false` removed.
    #[serde(default)]
    pub packages: Map<bool>,
    /// System accounts, by user name.
    #[serde(default)]
    pub accounts: Map<Account>,
    /// Files, by absolute path.
    #[serde(default)]
    pub files: Map<File>,
    /// Databases, by name.
    #[serde(default)]
    pub databases: Map<Database>,
}

/// The server itself.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// Its name, for people.
    pub name: Option<String>,
    /// What to do when something was changed by hand.
    #[serde(default)]
    pub drift: DriftPolicy,
}

/// One installation of a recipe.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Instance {
    /// Which application (`socle catalog list`).
    pub recipe: String,
    /// Which version of it.
    pub version: String,
    /// The name it is served under.
    pub domain: String,
    /// Further names it is served under.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// The organisation it belongs to.
    pub member: Option<String>,
    #[serde(default)]
    pub state: InstanceState,
    /// Answers to the recipe's parameters (`socle catalog show RECIPE`).
    #[serde(default)]
    pub params: Map<Param>,
    #[serde(default)]
    pub limits: Limits,
    /// Where to take the release from, instead of what the recipe says.
    pub source: Option<Source>,
}

/// A text, a whole number, or true or false.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Param {
    Text(String),
    Number(i64),
    Bool(bool),
}

/// Where bytes come from.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// `https://…`, `file:///…`, or `http://…` together with `sha256`.
    pub url: String,
    /// The SHA-256 they must have, 64 hexadecimal digits.
    pub sha256: Option<String>,
}

/// A unit the agent writes (`exec`), or one that exists already (`unit`).
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// The full name of a unit that exists, like `ssh.service`.
    pub unit: Option<String>,
    /// Program and arguments; the program is an absolute path.
    pub exec: Option<Vec<String>>,
    pub description: Option<String>,
    /// The user it runs as; without it, a user made for the time it runs.
    pub user: Option<String>,
    #[serde(default)]
    pub environment: Map<String>,
    pub working_directory: Option<String>,
    #[serde(default)]
    pub sandbox: Sandbox,
    #[serde(default)]
    pub limits: Limits,
    /// When it runs, as systemd.time(7) writes it; without it, always.
    pub on_calendar: Option<String>,
    /// A port (`127.0.0.1:9000`) or a socket (`/run/x.sock`) whose first connection starts it.
    pub listen: Option<String>,
    /// Of an own unit: `running`, `stopped`, `absent`; of one that exists: `enabled`, `disabled`, `masked`.
    pub state: Option<ServiceState>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ServiceState {
    Running,
    Stopped,
    Absent,
    Enabled,
    Disabled,
    Masked,
}

impl ServiceState {
    pub fn own(self) -> Option<InstanceState> {
        match self {
            ServiceState::Running => Some(InstanceState::Running),
            ServiceState::Stopped => Some(InstanceState::Stopped),
            ServiceState::Absent => Some(InstanceState::Absent),
            _ => None,
        }
    }

    pub fn existing(self) -> Option<ExistingState> {
        match self {
            ServiceState::Enabled => Some(ExistingState::Enabled),
            ServiceState::Disabled => Some(ExistingState::Disabled),
            ServiceState::Masked => Some(ExistingState::Masked),
            _ => None,
        }
    }
}

/// A system account.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Account {
    #[serde(default)]
    pub description: String,
    /// Its home directory, an absolute path.
    pub home: Option<String>,
    /// Further groups it is a member of.
    #[serde(default)]
    pub groups: Vec<String>,
    #[serde(default)]
    pub state: Presence,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Presence {
    #[default]
    Present,
    Absent,
}

/// A file with its whole content.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct File {
    #[serde(default)]
    pub content: String,
    #[serde(default = "root")]
    pub owner: String,
    #[serde(default = "root")]
    pub group: String,
    /// Permission bits as octal digits in quotes, like `"0644"`.
    #[serde(default = "mode")]
    pub mode: String,
    #[serde(default)]
    pub state: Presence,
}

fn root() -> String {
    "root".to_owned()
}

fn mode() -> String {
    "0644".to_owned()
}

/// A database and its owner, a system user who logs in through the local socket.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Database {
    pub engine: Engine,
    pub owner: String,
    /// Extensions to create (PostgreSQL only).
    #[serde(default)]
    pub extensions: Vec<String>,
}
