//! Documents that come from the controller: verified here, whoever carried them.

use super::Ledger;
use super::enrolment::{EnrolError, Membership};
use super::ledger::LedgerError;
use super::reconcile::{Agent, AgentError};
use crate::durable::LockError;
use crate::model::fleet::{Mark, Position};
use crate::model::problem::Problem;
use crate::model::report::ErrorReport;
use crate::wire::envelope::{Envelope, EnvelopeError, Payload, Purpose};
use crate::wire::message::{Item, Planned};

#[derive(Debug, thiserror::Error)]
pub enum DeliveryError {
    #[error("this server belongs to no fleet")]
    NoFleet,
    #[error(transparent)]
    Membership(#[from] EnrolError),
    #[error("a document from the controller was refused unread")]
    Envelope(#[from] EnvelopeError),
    #[error("a statement to be planned came as a document, or the other way round")]
    Purpose,
    #[error(transparent)]
    Agent(#[from] AgentError),
}

/// What became of a document.
#[derive(Debug)]
pub enum Delivered {
    /// Durable. To be brought about if it is news.
    Accepted {
        position: Position,
        news: bool,
    },
    Refused {
        mark: Mark,
        error: ErrorReport,
        problems: Vec<Problem>,
    },
    /// Nothing is wrong with it, and it could not be kept. To be tried again.
    NotKept {
        mark: Mark,
        why: NotKept,
    },
}

#[derive(Debug)]
pub enum NotKept {
    /// Another program of ours is at work, and will end.
    Busy,
    /// The disk is full, say: somebody has to look.
    Failed(ErrorReport),
}

impl DeliveryError {
    pub fn report(&self) -> ErrorReport {
        let (code, hint) = match self {
            DeliveryError::Agent(error) => return error.report(),
            DeliveryError::NoFleet => ("fleet.none", "socle agent join --token-file FILE"),
            DeliveryError::Membership(_) => {
                ("fleet.membership", "socle agent join --token-file FILE, with a new token")
            }
            DeliveryError::Envelope(_) | DeliveryError::Purpose => (
                "fleet.envelope",
                "nothing was changed; if the controller was set up anew, enrol again: socle controller server add NAME",
            ),
        };
        ErrorReport::of(code, self, Some(hint.to_owned()))
    }

    /// `None`: it is about the document.
    fn not_kept(&self) -> Option<NotKept> {
        match self {
            DeliveryError::Agent(AgentError::Lock(LockError::Held(_))) => Some(NotKept::Busy),
            DeliveryError::Agent(
                AgentError::Lock(LockError::Open(..))
                | AgentError::State(..)
                | AgentError::Ledger(LedgerError::Read(_) | LedgerError::Write(_)),
            )
            | DeliveryError::Membership(EnrolError::Keep(_)) => Some(NotKept::Failed(self.report())),
            _ => None,
        }
    }

    /// Somebody tries something, or something is broken: worth an alarm at the controller.
    fn is_alarming(&self) -> bool {
        match self {
            DeliveryError::Envelope(_) | DeliveryError::Purpose => true,
            DeliveryError::Agent(AgentError::Ledger(error)) => {
                matches!(error, LedgerError::Equivocation(_) | LedgerError::FarAhead { .. })
            }
            _ => false,
        }
    }
}

impl Agent {
    /// Verifies a document and makes it durable. Brings nothing about. A mark that is not newer, or a document
    /// with problems, changes nothing.
    pub fn deliver(&self, envelope: &Envelope) -> Delivered {
        let mut mark = Mark::default();
        match self.accept(envelope, &mut mark) {
            Ok((position, news)) => Delivered::Accepted { position, news },
            Err(error) => {
                if let Some(why) = error.not_kept() {
                    return Delivered::NotKept { mark, why };
                }
                let report = error.report();
                tracing::warn!(code = report.code, "{report}");
                if error.is_alarming()
                    && let Err(error) = self.alarm(report.clone())
                {
                    tracing::error!("{}", error.report());
                }
                let problems = match error {
                    DeliveryError::Agent(AgentError::Refused(problems)) => problems,
                    _ => Vec::new(),
                };
                Delivered::Refused { mark, error: report, problems }
            }
        }
    }

    /// `mark` is told as soon as it is known, for the answer.
    fn accept(&self, envelope: &Envelope, mark: &mut Mark) -> Result<(Position, bool), DeliveryError> {
        let payload = self.open(envelope, Purpose::Document)?;
        *mark = payload.mark;
        let lock = self.lock("socle agent run")?;
        let mut ledger = Ledger::load(&self.state).map_err(AgentError::Ledger)?;
        let news = ledger.accept_signed(&payload, (self.now)()).map_err(AgentError::Ledger)?;
        if news {
            self.check_with(&ledger, &payload.file, &payload.text)?;
            ledger.store(&self.state, &lock).map_err(AgentError::Ledger)?;
        }
        // Interrupted before this, the next document leads from the old key to the new one once more.
        Membership::believe(&self.state, envelope)?;
        let position = ledger.position().expect("a document was accepted");
        Ok((position, news))
    }

    /// What a document would change here. Changes nothing, not even the mark.
    pub async fn plan_signed(&self, envelope: &Envelope) -> Planned {
        let payload = match self.open(envelope, Purpose::Plan) {
            Ok(payload) => payload,
            Err(error) => return Planned::Failed { error: error.report() },
        };
        match self.plan(&payload.file, &payload.text).await {
            Ok(preview) => Planned::Preview { preview },
            Err(AgentError::Refused(problems)) => Planned::Refused { problems },
            Err(error) => Planned::Failed { error: error.report() },
        }
    }

    fn open(&self, envelope: &Envelope, purpose: Purpose) -> Result<Payload, DeliveryError> {
        let membership = Membership::load(&self.state)?.ok_or(DeliveryError::NoFleet)?;
        let payload = envelope.open(&membership.document_keys)?;
        payload.is_for(membership.fleet, &membership.server, membership.identity)?;
        if payload.purpose == purpose { Ok(payload) } else { Err(DeliveryError::Purpose) }
    }

    fn alarm(&self, error: ErrorReport) -> Result<(), AgentError> {
        let lock = self.lock("socle agent run")?;
        self.outbox().put(Item::Alarm { error }, (self.now)(), &lock).map_err(AgentError::Outbox)
    }

    pub fn position(&self) -> Result<Option<Position>, AgentError> {
        Ok(Ledger::load(&self.state)?.position())
    }
}
