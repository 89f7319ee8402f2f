//! What an agent and a controller say to each other on the one long-lived stream.
//!
//! Level-triggered: the controller sends the whole newest document, the agent says where it stands. Every
//! message may come twice. Unknown messages are an error: both ends are of one project, and the older one
//! says its version first.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::envelope::Envelope;
use super::key;
use crate::model::Name;
use crate::model::event::Event;
use crate::model::fleet::{Mark, Position};
use crate::model::preview::Preview;
use crate::model::problem::Problem;
use crate::model::report::{ErrorReport, Report};

/// A message may be this long as JSON, in bytes.
pub const MAX_BYTES: usize = super::envelope::MAX_BYTES + (64 << 10);

/// Items sent before an acknowledgement is waited for.
pub const OUTBOX_BATCH: usize = 32;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "kebab-case")]
pub enum FromAgent {
    /// First, once.
    Hello {
        version: String,
        position: Option<Position>,
    },
    /// A document was made durable; the pass follows.
    Accepted {
        position: Position,
    },
    /// A document was not accepted. It changed nothing.
    Refused {
        mark: Mark,
        error: ErrorReport,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        problems: Vec<Problem>,
    },
    /// Whether passes can be done and their outcomes kept: at the beginning if it is known, and when it changes.
    /// Without that there is no report to say so.
    Passes {
        failing: Option<ErrorReport>,
    },
    /// From the durable outbox, in order.
    Outbox {
        items: Vec<OutboxItem>,
    },
    Planned {
        request: u64,
        plan: Planned,
    },
    /// Of the pass that runs. Lost when nobody listens.
    Progress {
        event: Event,
    },
    /// A new TLS key asks for a certificate. PKCS #10, DER.
    Renew {
        #[serde(with = "key::bytes")]
        csr: Vec<u8>,
    },
    /// A site asks for a certificate of the fleet's authority. PKCS #10, DER; only its key counts.
    Certify {
        request: u64,
        instance: Name,
        #[serde(with = "key::bytes")]
        csr: Vec<u8>,
    },
    Pong,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "kebab-case")]
pub enum ToAgent {
    /// Answers the hello.
    Welcome,
    Document {
        envelope: Envelope,
    },
    Plan {
        request: u64,
        envelope: Envelope,
    },
    /// Everything up to this number is stored.
    Stored {
        sequence: u64,
    },
    /// DER.
    Certificate {
        #[serde(with = "key::bytes")]
        certificate: Vec<u8>,
    },
    Certified {
        request: u64,
        outcome: Certified,
    },
    Ping,
    /// The last word before the connection is closed.
    Bye {
        error: ErrorReport,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum Planned {
    Preview { preview: Preview },
    Refused { problems: Vec<Problem> },
    Failed { error: ErrorReport },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum Certified {
    /// PEM, the leaf first.
    Chain {
        pem: String,
    },
    Refused {
        error: ErrorReport,
    },
}

/// What must not be lost between an agent and its controller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutboxItem {
    /// Grows by one.
    pub sequence: u64,
    pub at: jiff::Timestamp,
    pub item: Item,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "item", rename_all = "kebab-case")]
pub enum Item {
    /// The outcome of a pass, and where the server stands since.
    Report { report: Report, position: Option<Position> },
    /// Something to look at: a document refused, a copy of this server seen …
    Alarm { error: ErrorReport },
}
