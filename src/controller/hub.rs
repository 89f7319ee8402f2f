//! Who is connected, and what they say just now. In memory: what must last is in the store.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Notify, broadcast, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::model::Name;
use crate::model::event::Event;
use crate::model::fleet::{Mark, Position};
use crate::model::problem::Problem;
use crate::model::report::{ErrorReport, Report};
use crate::wire::envelope::Envelope;
use crate::wire::message::Planned;

/// What a watcher that is slow may miss before it is told so.
const BACKLOG: usize = 4096;
/// Plans that one agent is asked for at once.
const PLANS: usize = 8;

/// Something an agent just said or did.
#[derive(Debug, Clone)]
pub struct News {
    pub server: Name,
    pub what: What,
}

#[derive(Debug, Clone)]
pub enum What {
    Connected,
    Gone,
    /// The document is durable there; the pass follows.
    Accepted(Position),
    Refused {
        mark: Mark,
        error: ErrorReport,
        problems: Vec<Problem>,
    },
    /// A pass ended without a report. Another is tried by itself.
    Failed(ErrorReport),
    Progress(Event),
    /// The outcome of a pass. Stored.
    Report(Arc<Report>),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    #[error("`{0}` is not connected")]
    NotConnected(Name),
    #[error("`{0}` has too many questions waiting")]
    Busy(Name),
    #[error("the connection to `{0}` ended before it answered")]
    Gone(Name),
}

pub struct Hub {
    agents: Mutex<BTreeMap<Name, Connected>>,
    news: broadcast::Sender<News>,
    next: AtomicU64,
}

/// The hub's hold on a session.
struct Connected {
    number: u64,
    wake: Arc<Notify>,
    questions: mpsc::Sender<Question>,
    cut: CancellationToken,
}

/// A plan that an agent is asked for.
pub(super) struct Question {
    pub request: u64,
    pub envelope: Envelope,
    pub answer: oneshot::Sender<Planned>,
}

/// A session's hold on the hub.
pub(super) struct Seat {
    pub number: u64,
    /// There may be a newer document.
    pub wake: Arc<Notify>,
    pub questions: mpsc::Receiver<Question>,
    /// The session is to end: banned, or replaced by a newer connection.
    pub cut: CancellationToken,
}

impl Default for Hub {
    fn default() -> Self {
        Self { agents: Mutex::default(), news: broadcast::Sender::new(BACKLOG), next: AtomicU64::new(1) }
    }
}

impl Hub {
    /// A new connection of a server takes the place of an old one.
    pub(super) fn join(&self, server: &Name) -> Seat {
        let (asking, questions) = mpsc::channel(PLANS);
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (wake, cut) = (Arc::new(Notify::new()), CancellationToken::new());
        let connected = Connected { number, wake: wake.clone(), questions: asking, cut: cut.clone() };
        if let Some(old) = self.agents().insert(server.clone(), connected) {
            old.cut.cancel();
        }
        self.tell(server, What::Connected);
        Seat { number, wake, questions, cut }
    }

    /// True if the seat was still the server's.
    pub(super) fn leave(&self, server: &Name, seat: u64) -> bool {
        let mut agents = self.agents();
        let mine = agents.get(server).is_some_and(|connected| connected.number == seat);
        if mine {
            agents.remove(server);
            drop(agents);
            self.tell(server, What::Gone);
        }
        mine
    }

    /// There may be a newer document for a server.
    pub fn wake(&self, server: &Name) {
        if let Some(connected) = self.agents().get(server) {
            connected.wake.notify_one();
        }
    }

    pub fn wake_all(&self) {
        self.agents().values().for_each(|connected| connected.wake.notify_one());
    }

    /// Ends the session of a server, if it has one.
    pub fn cut(&self, server: &Name) {
        if let Some(connected) = self.agents().get(server) {
            connected.cut.cancel();
        }
    }

    pub fn is_connected(&self, server: &Name) -> bool {
        self.agents().contains_key(server)
    }

    pub fn connected(&self) -> Vec<Name> {
        self.agents().keys().cloned().collect()
    }

    /// Asks a server for its plan of a signed document. However long it takes: the caller has the patience.
    pub async fn plan(&self, server: &Name, envelope: Envelope) -> Result<Planned, AskError> {
        let questions = match self.agents().get(server) {
            Some(connected) => connected.questions.clone(),
            None => return Err(AskError::NotConnected(server.clone())),
        };
        let (answer, answered) = oneshot::channel();
        let request = self.next.fetch_add(1, Ordering::Relaxed);
        questions.try_send(Question { request, envelope, answer }).map_err(|_| AskError::Busy(server.clone()))?;
        answered.await.map_err(|_| AskError::Gone(server.clone()))
    }

    /// What agents say from now on.
    pub fn watch(&self) -> broadcast::Receiver<News> {
        self.news.subscribe()
    }

    pub(super) fn tell(&self, server: &Name, what: What) {
        // Nobody watching is fine.
        let _ = self.news.send(News { server: server.clone(), what });
    }

    fn agents(&self) -> std::sync::MutexGuard<'_, BTreeMap<Name, Connected>> {
        self.agents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_newer_connection_takes_the_place_of_the_old() {
        let (hub, server) = (Hub::default(), "ks1".parse().unwrap());
        let mut watch = hub.watch();
        let old = hub.join(&server);
        let new = hub.join(&server);
        assert!(old.cut.is_cancelled() && !new.cut.is_cancelled());
        assert!(!hub.leave(&server, old.number), "the old one leaves without taking the new one along");
        assert!(hub.is_connected(&server));
        assert!(hub.leave(&server, new.number));
        let mut said = Vec::new();
        while let Ok(news) = watch.try_recv() {
            said.push(matches!(news.what, What::Connected));
        }
        assert_eq!(said, [true, true, false]);
    }

    #[tokio::test]
    async fn who_is_not_there_is_not_asked_and_who_leaves_does_not_answer() {
        let (hub, server): (Hub, Name) = (Hub::default(), "ks1".parse().unwrap());
        let payload = r#"{"payloadType":"x","payload":"","signatures":[]}"#;
        let envelope = Envelope::from_json(payload.as_bytes()).unwrap();
        let absent = hub.plan(&server, envelope.clone()).await;
        assert_eq!(absent.unwrap_err(), AskError::NotConnected(server.clone()));
        let seat = hub.join(&server);
        let (asked, ()) = tokio::join!(hub.plan(&server, envelope), async move {
            let mut seat = seat;
            drop(seat.questions.recv().await);
        });
        assert_eq!(asked.unwrap_err(), AskError::Gone(server));
    }
}
