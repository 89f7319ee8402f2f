//! The local door: `/run/socle/agent.sock` (0660 root:socle). One request a connection, as a line of JSON;
//! events as lines while it is worked on; the outcome as the last line.

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use super::certificates::tending::Ask;
use super::reconcile::{Agent, AgentError};
use crate::engine::{Event, Events};
use crate::model::Name;
use crate::model::certificate::Standing;
use crate::model::problem::Problem;
use crate::model::report::{ErrorReport, Report};

/// Where the daemon listens.
pub const SOCKET: &str = "/run/socle/agent.sock";
/// Who may come in besides root.
pub const GROUP: &str = "socle";

/// A document may be this long, and a request little more.
pub const MAX_REQUEST: u64 = 4 << 20;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case")]
pub enum Request {
    Apply { file: String, text: String },
    Reconcile,
    Rollback { name: Name },
    Purge { name: Name },
}

/// The line of a connection: work for the worker, or something about certificates, which does not wait for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Line {
    Certificates { certificates: Ask },
    Work(Request),
}

impl From<Request> for Line {
    fn from(request: Request) -> Self {
        Line::Work(request)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "kebab-case")]
pub enum Reply {
    Event(Event),
    Report(Report),
    Certificates { certificates: Vec<Standing> },
    Refused { problems: Vec<Problem> },
    Failed { error: ErrorReport },
}

#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    #[error("the connection to the agent broke")]
    Broken(#[source] std::io::Error),
    #[error("the agent ended the connection without an answer")]
    NoAnswer,
    #[error("the agent answered something unreadable")]
    Unreadable(#[source] serde_json::Error),
}

/// Asks the daemon and hands its events on.
pub async fn ask(stream: UnixStream, request: &Line, events: &dyn Events) -> Result<Reply, DoorError> {
    let (read, mut write) = stream.into_split();
    let mut line = serde_json::to_vec(request).expect("a request is plain data");
    line.push(b'\n');
    write.write_all(&line).await.map_err(DoorError::Broken)?;
    let mut lines = BufReader::new(read).lines();
    while let Some(line) = lines.next_line().await.map_err(DoorError::Broken)? {
        match serde_json::from_str(&line).map_err(DoorError::Unreadable)? {
            Reply::Event(event) => events.event(event),
            last => return Ok(last),
        }
    }
    Err(DoorError::NoAnswer)
}

/// Reads the one request of a connection.
pub async fn read_request(stream: &mut UnixStream) -> Result<Line, DoorError> {
    let mut line = Vec::new();
    BufReader::new(stream.take(MAX_REQUEST)).read_until(b'\n', &mut line).await.map_err(DoorError::Broken)?;
    serde_json::from_slice(&line).map_err(DoorError::Unreadable)
}

/// Does what was asked.
pub async fn handle(agent: &Agent, request: Request, events: &dyn Events) -> Reply {
    let outcome = match request {
        Request::Apply { file, text } => agent.apply(&file, &text, events).await,
        Request::Reconcile => agent.reconcile(events).await,
        Request::Rollback { name } => agent.rollback(&name, events).await,
        Request::Purge { name } => agent.purge(&name, events).await,
    };
    match outcome {
        Ok(report) => Reply::Report(report),
        Err(AgentError::Refused(problems)) => Reply::Refused { problems },
        Err(error) => Reply::Failed { error: error.report() },
    }
}

impl AgentError {
    /// For the person who asked: what failed, and what to try.
    pub fn report(&self) -> ErrorReport {
        use super::ledger::LedgerError;
        use crate::durable::LockError;
        let (code, hint) = match self {
            AgentError::Refused(_) => ("document.refused", None),
            AgentError::NothingAccepted => ("agent.nothing-accepted", Some("socle agent apply FILE".to_owned())),
            AgentError::NoSuchInstance(_) => ("agent.no-such-instance", Some("socle agent status".to_owned())),
            AgentError::StillWanted(_) => {
                ("agent.still-wanted", Some("set `state = \"absent\"` in the document and apply it first".to_owned()))
            }
            AgentError::NothingToGoBackTo(_) => ("agent.nothing-to-go-back-to", None),
            AgentError::Ledger(LedgerError::Damaged { path, .. }) => (
                "ledger.damaged",
                Some(format!(
                    "everything that runs keeps running; move `{}` away and apply the document again",
                    path.display()
                )),
            ),
            AgentError::Ledger(LedgerError::Write(_)) => {
                ("ledger.error", Some("see `df -h /var/lib/socle`".to_owned()))
            }
            AgentError::Ledger(_) => ("ledger.error", None),
            AgentError::Lock(LockError::Held(_)) => ("agent.busy", Some("try again when it is done".to_owned())),
            AgentError::Lock(LockError::Open(..)) | AgentError::State(..) | AgentError::LeftByBackup(..) => {
                ("agent.state", Some("run it as root".to_owned()))
            }
            AgentError::Uncompilable(_) => ("document.uncompilable", Some("socle agent check FILE".to_owned())),
            AgentError::Secret(_) => ("secret.unreadable", None),
            AgentError::Journal(_) => ("journal.error", Some("see `df -h /var/lib/socle`".to_owned())),
            AgentError::Identity(_) => {
                ("fleet.identity", Some("socle agent join --token-file FILE, with a new token".to_owned()))
            }
            AgentError::Outbox(_) => ("outbox.error", Some("see `df -h /var/lib/socle`".to_owned())),
            AgentError::Restore(_) => ("restore.error", Some("see `df -h /var/lib/socle`".to_owned())),
            AgentError::RestoreDamaged { path, .. } => {
                ("restore.damaged", Some(format!("remove `{}` and restore again", path.display())))
            }
            AgentError::StillDamaged { .. } => {
                ("still.damaged", Some("see whether the application is still in its maintenance mode".to_owned()))
            }
            AgentError::Report(_) => ("report.error", Some("see `df -h /var/lib/socle`".to_owned())),
        };
        ErrorReport::of(code, self, hint)
    }
}
