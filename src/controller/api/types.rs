//! What goes over the wire. Times are RFC 3339; names are those of the documents.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::status::Standing;
use crate::controller::compose::{Difference, Files};
use crate::controller::store::Scope;
use crate::model::event::Event;
use crate::model::fleet::{Mark, Origin, Position};
use crate::model::problem::Problem;
use crate::model::report::{ErrorReport, Report};
use crate::model::{Generation, Name, ResourceId};
use crate::wire::message::Planned;

/// No parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

/// Why a request was not done. `problems` if what was sent is wrong: all of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FailureBody {
    pub error: ErrorReport,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<Problem>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServerPath {
    pub name: Name,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IdPath {
    pub id: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NumberPath {
    pub number: u64,
}

/// How many, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Limit {
    /// 50 if not given, 1000 at most.
    pub limit: Option<u32>,
}

/// Two revisions. Without `to`, the newest; without `from`, the one before `to`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Between {
    pub from: Option<u64>,
    pub to: Option<u64>,
}

/// A fleet's directory: the text of each file by its path below it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FleetPlan {
    pub files: Files,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FleetApply {
    pub files: Files,
    /// Why, for the history.
    #[serde(default)]
    pub message: String,
    /// Refused if the newest revision is another one: somebody else applied meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<u64>,
}

/// A document for one server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServerDocument {
    /// How messages call it.
    pub file: String,
    pub text: String,
}

/// A line of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "line", rename_all = "kebab-case")]
pub enum PlanLine {
    /// First: what differs from the newest revision (none: this program cannot read that one any more), and what may
    /// be wrong on some servers.
    Fleet { difference: Option<Difference>, notes: Vec<Problem> },
    /// What a server says it would do.
    Server { server: Name, plan: ServerPlan },
    /// Last.
    End { changes: bool },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum ServerPlan {
    /// By the server itself.
    Planned { planned: Planned },
    /// It cannot be asked.
    Unknown { error: ErrorReport },
}

/// A line of a push.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "line", rename_all = "kebab-case")]
pub enum ApplyLine {
    /// First: it is stored, signed and on its way. From here on the servers come to it whether anybody watches or
    /// not.
    Pushed {
        /// None: a push for one server alone, or the files of the newest revision again.
        revision: Option<u64>,
        /// By server, the document's mark.
        #[schemars(with = "BTreeMap<String, Mark>")]
        marks: BTreeMap<Name, Mark>,
        /// Servers whose document stays the same.
        unchanged: Vec<Name>,
        /// Servers of the fleet that have not enrolled: they get their document when they do.
        not_enrolled: Vec<Name>,
        notes: Vec<Problem>,
    },
    /// A server has the document and begins.
    Accepted { server: Name, mark: Mark },
    /// Of its pass.
    Progress { server: Name, event: Event },
    /// How it ended, for this watcher.
    Server { server: Name, outcome: Outcome },
    /// Last.
    End { converged: bool },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum Outcome {
    /// The pass ended; whether all is as wanted is in the report.
    Reported { report: Report },
    /// The document is the one it had; how it stands is in `fleet status`.
    Unchanged { as_wanted: bool },
    /// The server did not accept the document.
    Refused { error: ErrorReport, problems: Vec<Problem> },
    /// The server accepted it, and its pass ended without a report. It is tried again.
    Failed { error: ErrorReport },
    /// It gets the document when it connects.
    NotConnected {
        #[schemars(with = "Option<String>")]
        last_seen: Option<Timestamp>,
    },
    /// Its connection ended before it reported.
    Gone,
    /// A newer document took the place of this one.
    Replaced { mark: Mark },
    /// It has not ended within the time the controller watches.
    Late,
}

impl Outcome {
    pub fn is_converged(&self) -> bool {
        match self {
            Outcome::Reported { report } => report.converged,
            Outcome::Unchanged { as_wanted } => *as_wanted,
            _ => false,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FleetStatus {
    pub fleet: Name,
    /// The newest revision.
    pub revision: Option<RevisionView>,
    pub servers: Vec<ServerStatus>,
    /// Open ones.
    pub alarms: Vec<AlarmView>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ServerStatus {
    pub server: Name,
    pub standing: Standing,
    pub connected: bool,
    #[schemars(with = "Option<String>")]
    pub last_seen: Option<Timestamp>,
    pub agent_version: Option<String>,
    /// What secrets for this server are sealed to: an X25519 public key in base64.
    pub sealing_key: Option<String>,
    /// The mark of the newest document.
    pub wanted: Option<Mark>,
    /// What it accepted last, and from where.
    pub applied: Option<Mark>,
    pub origin: Option<Origin>,
    /// What it brought about completely last.
    pub brought_about: Option<Generation>,
    /// Of the last report, what is not as wanted.
    pub failed: Vec<FailedLine>,
    /// In words, if there is something to say.
    pub note: Option<String>,
    /// An act that would help.
    pub hint: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FailedLine {
    pub resource: ResourceId,
    pub instance: Option<String>,
    pub what: String,
    pub hint: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RevisionView {
    pub number: u64,
    #[schemars(with = "String")]
    pub at: Timestamp,
    pub by: String,
    pub message: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RevisionFiles {
    #[serde(flatten)]
    pub revision: RevisionView,
    pub files: Files,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DifferenceBetween {
    pub from: Option<u64>,
    pub to: u64,
    pub difference: Difference,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ServerView {
    pub server: Name,
    /// `enrolled`, `banned` or `evicted`.
    pub state: String,
    pub connected: bool,
    #[schemars(with = "Option<String>")]
    pub last_seen: Option<Timestamp>,
    #[schemars(with = "String")]
    pub enrolled: Timestamp,
    #[schemars(with = "Option<String>")]
    pub certificate_until: Option<Timestamp>,
    pub agent_version: Option<String>,
    pub position: Option<Position>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewServer {
    pub name: Name,
    /// How long the token can be used. 4 if not given, 168 at most.
    pub hours: Option<u32>,
}

/// Shown this once: the token's secret half is kept nowhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Invitation {
    pub server: Name,
    pub id: String,
    pub token: String,
    #[schemars(with = "String")]
    pub expires: Timestamp,
    /// To paste into a root shell of the blank server.
    pub command: String,
    /// For cloud-init, to give to the provider with the order of the server. Needs a bootstrap script.
    pub user_data: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct JoinTokenView {
    pub id: String,
    pub server: Name,
    /// `open`, `used`, `revoked` or `expired`.
    pub state: String,
    #[schemars(with = "String")]
    pub created: Timestamp,
    pub created_by: String,
    #[schemars(with = "String")]
    pub expires: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewToken {
    /// Whose or what for.
    pub name: Name,
    #[schemars(with = "ScopeWord")]
    pub scope: Scope,
}

/// What a token may do; each includes those before it.
#[derive(JsonSchema)]
#[schemars(rename = "Scope", rename_all = "lowercase")]
#[expect(dead_code, reason = "the schema of a type of the store")]
enum ScopeWord {
    Read,
    Write,
    Admin,
}

/// Shown this once: only its digest is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MadeToken {
    pub id: String,
    pub name: Name,
    #[schemars(with = "ScopeWord")]
    pub scope: Scope,
    pub token: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TokenView {
    pub id: String,
    pub name: Name,
    #[schemars(with = "ScopeWord")]
    pub scope: Scope,
    #[schemars(with = "String")]
    pub created: Timestamp,
    pub created_by: String,
    #[schemars(with = "Option<String>")]
    pub last_used: Option<Timestamp>,
    #[schemars(with = "Option<String>")]
    pub revoked: Option<Timestamp>,
}

/// The fleet's authority for sites with private names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SitesAuthority {
    /// Its certificate.
    pub pem: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuditView {
    pub number: u64,
    #[schemars(with = "String")]
    pub at: Timestamp,
    pub who: String,
    pub what: String,
    pub detail: serde_json::Value,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AlarmView {
    /// None: of the fleet as a whole.
    pub server: Option<Name>,
    pub code: String,
    pub text: String,
    #[schemars(with = "String")]
    pub at: Timestamp,
    #[schemars(with = "String")]
    pub last_at: Timestamp,
    pub times: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AlarmName {
    pub server: Option<Name>,
    pub code: String,
}
