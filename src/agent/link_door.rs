//! The door for `socle-link`: `/run/socle/link.sock` (0660 root:socle-door).
//!
//! Whoever comes in may hand over signed documents, have signed documents planned, and take what is to be
//! told to the controller. That is all: a program that misuses this door can keep the controller's word from
//! the agent, and cannot put another in its place. One connection; a new one replaces the old.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant;

use super::certificates::internal::{FleetAuthority, FleetError};
use super::outbox::OutboxError;
use super::reconcile::{Agent, AgentError};
use crate::engine::{Event, Events};
use crate::model::Name;
use crate::model::report::ErrorReport;
use crate::wire::door;
use crate::wire::envelope::Envelope;
use crate::wire::frame::{FrameError, Reader, Writer};
use crate::wire::message::{Certified, FromAgent, MAX_BYTES, OUTBOX_BATCH, ToAgent};

/// Where the daemon listens for its link.
pub const SOCKET: &str = "/run/socle/link.sock";
/// Who may come in besides root.
pub const GROUP: &str = "socle-door";

/// Messages that may wait for a link that does not read. Then it is let go; it comes back.
const WAITING: usize = 256;
/// A document that could not be kept is tried again after this time.
const AGAIN: Duration = Duration::from_secs(5);
/// Progress of a download is told this often at most.
const BYTES_EVERY: Duration = Duration::from_millis(500);
/// For the controller to sign for a site.
const CERTIFIED: Duration = Duration::from_secs(30);

#[derive(Debug, thiserror::Error)]
enum LinkError {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Outbox(#[from] OutboxError),
    #[error(transparent)]
    Agent(#[from] AgentError),
    #[error("the link said something that is not for the agent")]
    NotForUs,
    #[error("another connection took its place, or it did not read")]
    Replaced,
}

/// The daemon's side of the door.
#[derive(Clone, Default)]
pub struct Link(Arc<Shared>);

#[derive(Default)]
struct Shared {
    slot: Mutex<Slot>,
    handed_over: Notify,
    /// To the connected link.
    out: Mutex<Option<mpsc::Sender<FromAgent>>>,
    /// What the last pass failed for, if it left no report. `None`: there was no pass yet.
    failing: Mutex<Option<Option<ErrorReport>>>,
    outbox: Notify,
    /// Who waits for a certificate, and the number of the last request.
    certifying: Mutex<(u64, BTreeMap<u64, oneshot::Sender<Certified>>)>,
}

#[derive(Default)]
struct Slot {
    /// The newest document that was handed over and not yet taken.
    newest: Option<Handed>,
    /// Documents that came in.
    count: u64,
}

/// A document of the controller.
#[derive(Debug, Clone)]
pub struct Handed {
    pub envelope: Envelope,
    /// It was tried before.
    pub again: bool,
    number: u64,
}

impl Link {
    /// Lets links in, for ever.
    pub async fn open(self, listener: UnixListener, agent: Arc<Agent>) {
        let mut current: Option<tokio::task::JoinHandle<()>> = None;
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    if let Some(old) = current.take() {
                        old.abort();
                    }
                    let (link, agent) = (self.clone(), agent.clone());
                    current = Some(tokio::spawn(async move {
                        if let Err(error) = link.serve(stream, &agent).await {
                            tracing::info!("the link is gone: {error}");
                        }
                    }));
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot let the link in");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }

    /// The next document. Cancel-safe: it stays until it is returned.
    pub async fn document(&self) -> Handed {
        loop {
            if let Some(handed) = lock(&self.0.slot).newest.take() {
                return handed;
            }
            self.0.handed_over.notified().await;
        }
    }

    /// Gives a document that could not be kept once more, after a while; unless another came since. The controller
    /// sends it once a connection.
    pub fn try_again(&self, handed: Handed) {
        let link = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(AGAIN).await;
            let mut slot = lock(&link.0.slot);
            if slot.count == handed.number {
                slot.newest = Some(Handed { again: true, ..handed });
                link.0.handed_over.notify_one();
            }
        });
    }

    fn hand_over(&self, envelope: Envelope) {
        let mut slot = lock(&self.0.slot);
        slot.count += 1;
        slot.newest = Some(Handed { envelope, again: false, number: slot.count });
        self.0.handed_over.notify_one();
    }

    /// Says something to the controller if it can be reached now.
    pub fn tell(&self, message: FromAgent) {
        let mut out = lock(&self.0.out);
        if let Some(sender) = out.as_ref()
            && sender.try_send(message).is_err()
        {
            *out = None;
        }
    }

    /// The last pass left a report, or failed for this.
    pub fn passes(&self, failing: Option<ErrorReport>) {
        let known = lock(&self.0.failing).replace(failing.clone());
        if known.as_ref() != Some(&failing) {
            self.tell(FromAgent::Passes { failing });
        }
    }

    /// There may be something new in the outbox.
    pub fn outbox_grew(&self) {
        self.0.outbox.notify_one();
    }

    async fn serve(&self, stream: UnixStream, agent: &Arc<Agent>) -> Result<(), LinkError> {
        let (read, write) = stream.into_split();
        let mut reader = Reader::<_, ToAgent>::new(read, MAX_BYTES);
        let mut writer = Writer::<_, FromAgent>::new(write, MAX_BYTES);
        let (sender, mut out) = mpsc::channel(WAITING);
        *lock(&self.0.out) = Some(sender.clone());
        let version = env!("CARGO_PKG_VERSION").to_owned();
        writer.send(&FromAgent::Hello { version, position: agent.position()? }).await?;
        let failing = lock(&self.0.failing).clone();
        if let Some(failing) = failing {
            writer.send(&FromAgent::Passes { failing }).await?;
        }
        // What waits is sent when the controller has said up to where it has everything.
        let mut sent = 0;
        let mut told = false;
        loop {
            tokio::select! {
                message = reader.next() => match message? {
                    ToAgent::Document { envelope } => self.hand_over(envelope),
                    ToAgent::Plan { request, envelope } => {
                        let (agent, sender) = (agent.clone(), sender.clone());
                        tokio::spawn(async move {
                            let plan = agent.plan_signed(&envelope).await;
                            // The link may be gone by now, and with it whoever asked.
                            let _ = sender.send(FromAgent::Planned { request, plan }).await;
                        });
                    }
                    ToAgent::Stored { sequence } => {
                        let outbox = agent.outbox();
                        if outbox.is_behind(sequence)? {
                            outbox.resume(sequence, &agent.lock("socle agent run")?)?;
                            sent = sequence;
                        }
                        outbox.stored(sequence)?;
                        told = true;
                        sent = send_outbox(agent, &mut writer, sent.max(sequence)).await?;
                    }
                    ToAgent::Certified { request, outcome } => {
                        if let Some(answer) = lock(&self.0.certifying).1.remove(&request) {
                            // Whoever asked may have lost patience.
                            let _ = answer.send(outcome);
                        }
                    }
                    ToAgent::Welcome | ToAgent::Certificate { .. } | ToAgent::Ping | ToAgent::Bye { .. } => {
                        return Err(LinkError::NotForUs);
                    }
                },
                message = out.recv() => writer.send(&message.ok_or(LinkError::Replaced)?).await?,
                () = self.0.outbox.notified(), if told => sent = send_outbox(agent, &mut writer, sent).await?,
            }
        }
    }
}

#[async_trait]
impl FleetAuthority for Link {
    async fn certify(&self, instance: &Name, csr: Vec<u8>) -> Result<String, FleetError> {
        let (answer, answered) = oneshot::channel();
        let request = {
            let (last, waiting) = &mut *lock(&self.0.certifying);
            waiting.retain(|_, answer| !answer.is_closed());
            *last += 1;
            waiting.insert(*last, answer);
            *last
        };
        if lock(&self.0.out).is_none() {
            return Err(FleetError::Away);
        }
        self.tell(FromAgent::Certify { request, instance: instance.clone(), csr });
        match tokio::time::timeout(CERTIFIED, answered).await {
            Ok(Ok(Certified::Chain { pem })) => Ok(pem),
            Ok(Ok(Certified::Refused { error })) => Err(FleetError::Refused(error)),
            Ok(Err(_)) => Err(FleetError::Away),
            Err(_) => Err(FleetError::Late(CERTIFIED.as_secs())),
        }
    }
}

type ToLink = Writer<tokio::net::unix::OwnedWriteHalf, FromAgent>;

/// One batch of what was not sent on this connection. The next follows when the controller has stored it.
async fn send_outbox(agent: &Agent, writer: &mut ToLink, sent: u64) -> Result<u64, LinkError> {
    let items = agent.outbox().after(sent, OUTBOX_BATCH)?;
    let Some(last) = items.last().map(|item| item.sequence) else { return Ok(sent) };
    writer.send(&FromAgent::Outbox { items }).await?;
    Ok(last)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Tells the controller how a pass goes on.
pub struct Progress {
    link: Link,
    bytes_told: Mutex<Option<Instant>>,
}

impl Progress {
    pub fn new(link: Link) -> Self {
        Self { link, bytes_told: Mutex::new(None) }
    }
}

impl Events for Progress {
    fn event(&self, event: Event) {
        if matches!(event, Event::Bytes { .. }) {
            let mut told = lock(&self.bytes_told);
            if told.is_some_and(|told| told.elapsed() < BYTES_EVERY) {
                return;
            }
            *told = Some(Instant::now());
        }
        self.link.tell(FromAgent::Progress { event });
    }
}

/// Listens where the agent's doors are: an old socket is ours from an earlier run, since the host lock, not
/// the socket, keeps two agents apart. The group comes with the package; without it only root comes in.
pub fn listen(path: &Path, group: &str) -> std::io::Result<UnixListener> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    door::listen(path, group)
}
