//! One agent's connection: says hello, gets its newest document whenever there is one, tells how it goes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};

use super::Controller;
use super::authority::AuthorityError;
use super::hub::{Question, Seat, What};
use super::inbox::{Entry, NotStored};
use super::store::{By, Certificate, Greeting, ItemBody, OutboxItem, Received, Server, ServerState, StoreError};
use crate::model::certificate::{CertifiedName, Source};
use crate::model::fleet::{Mark, Position};
use crate::model::report::{ErrorReport, Status};
use crate::model::{Name, document};
use crate::wire::envelope::{Envelope, EnvelopeError};
use crate::wire::frame::{FrameError, Reader, Writer};
use crate::wire::message::{Certified, FromAgent, Item, MAX_BYTES, Planned, ToAgent};
use crate::wire::tls::{self, Peer, TlsError};

/// The first message must come within this time.
const HELLO: Duration = Duration::from_secs(10);
/// An agent that says nothing is asked this often.
const PING: Duration = Duration::from_secs(30);
/// One that does not answer is let go.
const SILENCE: Duration = Duration::from_secs(75);
/// Messages to an agent that does not read.
const WAITING: usize = 32;

#[derive(Debug, thiserror::Error)]
pub(super) enum SessionError {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("it did not say hello")]
    NoHello,
    #[error("it says what only comes once, or out of turn")]
    OutOfTurn,
    #[error("it was silent for {} s", SILENCE.as_secs())]
    Silent,
    #[error("it does not read")]
    Stuck,
    #[error("a newer connection took its place, or it was banned")]
    Cut,
    #[error("`{0}` is not enrolled, or under another key")]
    NotEnrolled(Name),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    NotStored(#[from] NotStored),
    #[error("a kept document cannot be read")]
    Document(#[from] EnvelopeError),
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Serves a verified agent until its connection ends.
pub(super) async fn run<S>(controller: Arc<Controller>, peer: Peer, stream: S) -> Result<(), SessionError>
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let (read, write) = tokio::io::split(stream);
    let mut reader = Reader::<_, FromAgent>::new(read, MAX_BYTES);
    let (out, queue) = mpsc::channel(WAITING);
    // Its own task: an agent that does not read holds up only what goes to it.
    let writer = tokio::spawn(write_all(Writer::new(write, MAX_BYTES), queue));
    let ended = serve(&controller, &peer, &mut reader, &out).await;
    if let Err(error @ (SessionError::NotEnrolled(_) | SessionError::Cut)) = &ended {
        let error = ErrorReport::of("session.ended", error, None);
        let _ = out.try_send(ToAgent::Bye { error });
    }
    drop(out);
    // What was queued still leaves, if the agent takes it.
    let _ = timeout(Duration::from_secs(2), writer).await;
    ended
}

async fn write_all<S: AsyncWrite + Unpin>(mut writer: Writer<S, ToAgent>, mut queue: mpsc::Receiver<ToAgent>) {
    while let Some(message) = queue.recv().await {
        if writer.send(&message).await.is_err() {
            return;
        }
    }
    let _ = writer.close().await;
}

async fn serve<S: AsyncRead + Unpin>(
    controller: &Controller,
    peer: &Peer,
    reader: &mut Reader<S, FromAgent>,
    out: &mpsc::Sender<ToAgent>,
) -> Result<(), SessionError> {
    let known = may_come_in(controller, peer).await?;
    let hello = timeout(HELLO, reader.next()).await.map_err(|_| SessionError::NoHello)??;
    let FromAgent::Hello { version, position } = hello else { return Err(SessionError::NoHello) };
    let seat = controller.hub.join(&peer.server);
    let number = seat.number;
    let greeting = Greeting { server: peer.server.clone(), agent_version: version, position: position.clone() };
    let greeted = controller.inbox.put(Entry::Greeting(greeting)).await.map_err(SessionError::from);
    let ended = match greeted {
        Ok(()) => Session::new(controller, peer, out, position).run(seat, reader, known.acknowledged).await,
        Err(error) => Err(error),
    };
    if controller.hub.leave(&peer.server, number) {
        controller.inbox.put(Entry::Gone(peer.server.clone())).await?;
    }
    ended
}

/// Asked of the store at every connection: a ban counts at once, whatever the certificate says.
async fn may_come_in(controller: &Controller, peer: &Peer) -> Result<Server, SessionError> {
    let known = controller.store.server(&peer.server).await?.filter(|server| {
        server.state == ServerState::Enrolled
            && server.identity.id() == peer.identity
            && peer.fleet == controller.fleet.id
    });
    known.ok_or_else(|| SessionError::NotEnrolled(peer.server.clone()))
}

struct Session<'a> {
    controller: &'a Controller,
    peer: &'a Peer,
    out: &'a mpsc::Sender<ToAgent>,
    /// Where the server stands, as it said last.
    at: Option<Position>,
    /// The newest document that was sent on this connection.
    sent: Option<Mark>,
    asked: BTreeMap<u64, oneshot::Sender<Planned>>,
    /// The document that it could not take. Of one an alarm may be open, also from before this connection.
    refused: Option<Mark>,
    /// That its passes fail may be an open alarm, also from before this connection.
    failing: bool,
}

/// A server's passes end without a report.
const FAILED: &str = "agent.failed";
const REFUSED: &str = "document.refused";

impl<'a> Session<'a> {
    fn new(controller: &'a Controller, peer: &'a Peer, out: &'a mpsc::Sender<ToAgent>, at: Option<Position>) -> Self {
        Self {
            controller,
            peer,
            out,
            at,
            sent: None,
            asked: BTreeMap::new(),
            refused: Some(Mark::default()),
            failing: true,
        }
    }

    async fn run<S: AsyncRead + Unpin>(
        mut self,
        mut seat: Seat,
        reader: &mut Reader<S, FromAgent>,
        stored: u64,
    ) -> Result<(), SessionError> {
        self.say(ToAgent::Welcome)?;
        // An agent that was set back to an earlier state would number its news like old ones.
        self.say(ToAgent::Stored { sequence: stored })?;
        self.send_newest().await?;
        if let (Some(at), None) = (self.at.as_ref().map(|at| at.mark), self.sent) {
            // It took meanwhile what it had refused.
            self.took(at).await?;
        }
        let mut heard = Instant::now();
        let mut ping = heard + PING;
        loop {
            tokio::select! {
                message = reader.next() => {
                    heard = Instant::now();
                    ping = heard + PING;
                    match message {
                        Ok(message) => self.hear(message).await?,
                        Err(FrameError::Ended) => return Ok(()),
                        Err(error) => return Err(error.into()),
                    }
                }
                () = seat.wake.notified() => {
                    may_come_in(self.controller, self.peer).await?;
                    self.send_newest().await?;
                }
                Some(question) = seat.questions.recv() => self.ask(question)?,
                () = seat.cut.cancelled() => return Err(SessionError::Cut),
                () = sleep_until(ping) => {
                    if heard.elapsed() > SILENCE {
                        return Err(SessionError::Silent);
                    }
                    self.say(ToAgent::Ping)?;
                    ping += PING;
                }
            }
        }
    }

    fn say(&self, message: ToAgent) -> Result<(), SessionError> {
        self.out.try_send(message).map_err(|_| SessionError::Stuck)
    }

    /// Sends the newest document unless the server has it, or one after it.
    async fn send_newest(&mut self) -> Result<(), SessionError> {
        let Some(newest) = self.controller.store.newest(&self.peer.server).await? else { return Ok(()) };
        let known = self.at.as_ref().map(|at| at.mark).max(self.sent);
        if known.is_some_and(|known| known >= newest.mark) {
            return Ok(());
        }
        self.say(ToAgent::Document { envelope: Envelope::from_json(&newest.envelope)? })?;
        self.sent = Some(newest.mark);
        Ok(())
    }

    fn ask(&mut self, question: Question) -> Result<(), SessionError> {
        self.asked.retain(|_, answer| !answer.is_closed());
        self.asked.insert(question.request, question.answer);
        self.say(ToAgent::Plan { request: question.request, envelope: question.envelope })
    }

    async fn hear(&mut self, message: FromAgent) -> Result<(), SessionError> {
        let server = &self.peer.server;
        match message {
            FromAgent::Hello { .. } => return Err(SessionError::OutOfTurn),
            FromAgent::Pong => {}
            FromAgent::Accepted { position } => {
                self.at = Some(position.clone());
                self.controller.hub.tell(server, What::Accepted(position.clone()));
                let accepted = position.mark;
                self.controller.inbox.put(Entry::Position(server.clone(), position)).await?;
                self.took(accepted).await?;
            }
            FromAgent::Refused { mark, error, problems } => {
                // Unread, a document has no number to be told: it is the one that was sent last.
                let mark = if mark == Mark::default() { self.sent.unwrap_or(mark) } else { mark };
                self.controller.hub.tell(server, What::Refused { mark, error: error.clone(), problems });
                let text = format!("document {mark} was refused: {error}");
                let now = (self.controller.now)();
                self.controller.store.raise_alarm(Some(server), REFUSED, &text, now).await?;
                self.refused = self.refused.max(Some(mark));
            }
            FromAgent::Passes { failing: Some(error) } => {
                let text = format!("it cannot do its passes: {error}");
                let now = (self.controller.now)();
                self.controller.store.raise_alarm(Some(server), FAILED, &text, now).await?;
                self.failing = true;
                self.controller.hub.tell(server, What::Failed(error));
            }
            FromAgent::Passes { failing: None } => {
                if std::mem::take(&mut self.failing) {
                    self.clear(FAILED).await?;
                }
            }
            FromAgent::Outbox { items } => self.keep(items).await?,
            FromAgent::Planned { request, plan } => {
                if let Some(answer) = self.asked.remove(&request) {
                    // Whoever asked may have lost patience.
                    let _ = answer.send(plan);
                }
            }
            FromAgent::Progress { event } => self.controller.hub.tell(server, What::Progress(event)),
            FromAgent::Renew { csr } => self.renew(&csr).await?,
            FromAgent::Certify { request, instance, csr } => {
                let outcome = match self.certify_site(&instance, &csr).await? {
                    Ok(pem) => Certified::Chain { pem },
                    Err(error) => Certified::Refused { error: error.report() },
                };
                self.say(ToAgent::Certified { request, outcome })?;
            }
        }
        Ok(())
    }

    /// Stores what the agent must not lose, then says so.
    async fn keep(&mut self, items: Vec<crate::wire::message::OutboxItem>) -> Result<(), SessionError> {
        let (mut reports, mut position, mut stored) = (Vec::new(), None, Vec::new());
        for item in items {
            let (sequence, at) = (item.sequence, item.at);
            let body = match item.item {
                Item::Report { report, position: since } => {
                    position = since.or(position);
                    let json = serde_json::to_string(&report).expect("a report is plain data");
                    let (generation, outcome) = (report.generation, in_words(&report));
                    reports.push(report);
                    ItemBody::Report { generation, outcome, json }
                }
                Item::Alarm { error } => ItemBody::Alarm { code: error.code.clone(), text: error.to_string() },
            };
            stored.push(OutboxItem { sequence, at, body });
        }
        if position.is_some() {
            self.at.clone_from(&position);
        }
        let received = Received { server: self.peer.server.clone(), position, items: stored };
        let sequence = self.controller.inbox.store(received).await?;
        self.say(ToAgent::Stored { sequence })?;
        for report in reports {
            self.controller.hub.tell(&self.peer.server, What::Report(Arc::new(report)));
        }
        Ok(())
    }

    /// Signs for a site of this server, for the names its newest document gives it.
    async fn certify_site(&self, instance: &Name, csr: &[u8]) -> Result<Result<String, SiteError>, SessionError> {
        let (controller, server) = (self.controller, &self.peer.server);
        let Some(newest) = controller.store.newest(server).await? else {
            return Ok(Err(SiteError::NotInternal(instance.clone())));
        };
        let payload = Envelope::from_json(&newest.envelope)?.open(&[controller.keys.document.public()])?;
        let names = match names_of_site(&payload.text, instance) {
            Ok(names) => names,
            Err(error) => return Ok(Err(error)),
        };
        let signed = controller.keys.sites.for_site(csr, &names, controller.serial(), (controller.now)());
        Ok(signed.map_err(SiteError::Authority))
    }

    /// It has this document, or came with it.
    async fn took(&mut self, mark: Mark) -> Result<(), SessionError> {
        match self.refused.take_if(|refused| *refused <= mark) {
            Some(_) => self.clear(REFUSED).await,
            None => Ok(()),
        }
    }

    /// Of itself, an alarm that the server has overcome. Mostly there is none, and nothing is written.
    async fn clear(&self, code: &str) -> Result<(), SessionError> {
        if !self.controller.store.has_open_alarm(Some(&self.peer.server), code).await? {
            return Ok(());
        }
        let by = By::new(format!("server:{}", self.peer.server), (self.controller.now)());
        self.controller.store.clear_alarm(Some(&self.peer.server), code, &by).await?;
        Ok(())
    }

    async fn renew(&self, csr: &[u8]) -> Result<(), SessionError> {
        let controller = self.controller;
        let (certificate, record) = controller.certify(csr, self.peer)?;
        let by = By::new(format!("server:{}", self.peer.server), (controller.now)());
        controller.store.set_certificate(&self.peer.server, &record, &by).await?;
        self.say(ToAgent::Certificate { certificate })
    }
}

impl Controller {
    /// A certificate for a server, and what is recorded of it.
    pub(super) fn certify(&self, csr: &[u8], peer: &Peer) -> Result<(Vec<u8>, Certificate), SessionError> {
        let serial = self.serial();
        let certificate = self.keys.authority.for_agent(csr, peer, serial, (self.now)(), self.agent_life)?;
        let (_, not_after) = tls::validity(&certificate)?;
        let serial = serial.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok((certificate.to_vec(), Certificate { serial, not_after }))
    }

    fn serial(&self) -> [u8; 16] {
        let mut serial = [0; 16];
        (self.random)(&mut serial);
        // RFC 5280: positive.
        serial[0] &= 0x7f;
        serial
    }
}

/// Why a site gets no certificate of the fleet's authority.
#[derive(Debug, thiserror::Error)]
enum SiteError {
    #[error("the newest document asks for no certificate of the fleet's authority for `{0}`")]
    NotInternal(Name),
    #[error("the newest document cannot be read")]
    Document,
    #[error(transparent)]
    Authority(AuthorityError),
}

impl SiteError {
    fn report(&self) -> ErrorReport {
        ErrorReport::of("site.certificate", self, None)
    }
}

/// What is signed for is said by the document, not by whoever asks.
fn names_of_site(document: &str, instance: &Name) -> Result<Vec<CertifiedName>, SiteError> {
    let document = document::parse("document.toml", document).map_err(|_| SiteError::Document)?;
    let mut wanted = document.certificates_wanted();
    let wanted = wanted.remove(instance).filter(|wanted| wanted.source == Source::Internal);
    Ok(wanted.ok_or_else(|| SiteError::NotInternal(instance.clone()))?.names)
}

fn in_words(report: &crate::model::report::Report) -> String {
    if report.converged {
        return "as wanted".to_owned();
    }
    let count = |wanted: fn(&Status) -> bool| report.lines.iter().filter(|line| wanted(&line.status)).count();
    let failed = count(|status| matches!(status, Status::Failed { .. }));
    format!("not as wanted: {} of {} resources, {failed} failed", count(Status::is_bad), report.lines.len())
}
