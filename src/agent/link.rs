//! `socle link run`: the connection between the agent of this server and its controller.
//!
//! A process of its own without any power: it carries messages both ways, keeps the TLS certificate fresh, and
//! can neither sign a document nor touch the server. Start reading at [`run`].

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::dial::{self, DialError};
use super::enrolment::{self, EnrolError, Identity};
use crate::durable::{self, DurableError};
use crate::model::report::ErrorReport;
use crate::wire::frame::{FrameError, Reader, Writer};
use crate::wire::message::{FromAgent, MAX_BYTES, ToAgent};
use crate::wire::tls::{self, TlsError};

/// Nothing heard for so long: the connection is dead, whatever TCP thinks. The controller pings more often.
const SILENCE: Duration = Duration::from_secs(90);
/// The first wait after a connection broke is up to this long.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// No wait is longer.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// A connection that stood this long was a good one: the waits begin anew.
const GOOD: Duration = Duration::from_secs(60);
/// Messages on their way to one side.
const WAITING: usize = 64;

#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    #[error("cannot read the identity `{0}`")]
    Identity(PathBuf, #[source] std::io::Error),
    #[error(transparent)]
    Enrolment(#[from] EnrolError),
    #[error("cannot keep the new certificate")]
    Keep(#[source] DurableError),
    #[error("the kept certificate is damaged")]
    Damaged(#[source] serde_json::Error),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error("the agent does not listen at `{0}`")]
    Agent(PathBuf, #[source] std::io::Error),
    #[error("the connection to the agent failed")]
    FromAgent(#[source] FrameError),
    #[error("the connection to the controller failed")]
    FromController(#[source] FrameError),
    #[error("the controller said nothing for {} seconds", SILENCE.as_secs())]
    Silent,
    #[error("the controller let us go: {0}")]
    Bye(ErrorReport),
    #[error("the other side does not take messages any more")]
    Stuck,
}

/// Everything the link works with.
pub struct Config {
    /// `identity.json`, as the unit hands it over.
    pub identity: PathBuf,
    /// Where the renewed certificate is kept.
    pub state: PathBuf,
    /// The agent's door for us.
    pub agent: PathBuf,
    pub now: fn() -> jiff::Timestamp,
    pub random: fn(&mut [u8]),
    /// What the service manager shows.
    pub status: fn(&str),
}

/// A newer certificate than the identity's own.
#[derive(serde::Serialize, serde::Deserialize)]
struct Kept {
    #[serde(with = "crate::wire::key::bytes")]
    tls_key: Vec<u8>,
    #[serde(with = "crate::wire::key::bytes")]
    certificate: Vec<u8>,
}

/// How often this server came back by its long-lived key. Grows before each try.
#[derive(Default, serde::Serialize, serde::Deserialize)]
struct Recoveries {
    sequence: u64,
}

/// Connects, and connects again, for ever.
pub async fn run(config: &Config) {
    let mut tries = Tries::new();
    loop {
        let begun = Instant::now();
        let Err(error) = connect(config, tries.turn).await;
        let text = ErrorReport::of("link", &error, None).to_string();
        let pause = tries.after(begun.elapsed(), fraction(config.random));
        tracing::warn!("{text}; again in {:.1} s", pause.as_secs_f64());
        (config.status)(&format!("not connected: {text}"));
        sleep(pause).await;
    }
}

/// When and where the next connection is tried.
struct Tries {
    /// The longest that the next pause may be.
    wait: Duration,
    /// Which of the addresses comes first.
    turn: usize,
}

impl Tries {
    fn new() -> Self {
        Self { wait: FIRST_WAIT, turn: 0 }
    }

    /// The pause after a connection that stood so long. `fraction` is from 0 to 1.
    fn after(&mut self, stood: Duration, fraction: f64) -> Duration {
        // A controller that lets us in and then can do nothing for us may have a sound one beside it.
        self.turn += 1;
        if stood > GOOD {
            *self = Self::new();
        }
        // Full jitter: servers that lost the same controller do not come back in one moment.
        let pause = self.wait.mul_f64(fraction);
        self.wait = (self.wait * 2).min(LONGEST_WAIT);
        pause
    }
}

/// From 0 to 1.
fn fraction(random: fn(&mut [u8])) -> f64 {
    let mut bytes = [0; 4];
    random(&mut bytes);
    f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX)
}

/// One connection, until it ends. Another address is the first to be tried each turn.
async fn connect(config: &Config, turn: usize) -> Result<std::convert::Infallible, LinkError> {
    let mut identity = identity(config).await?;
    let count = identity.addresses.len().max(1);
    identity.addresses.rotate_left(turn % count);
    let agent =
        UnixStream::connect(&config.agent).await.map_err(|error| LinkError::Agent(config.agent.clone(), error))?;
    let tls = tls::agent_config(identity.authority(), identity.certificate(), identity.tls_key())?;
    let controller = dial::first(&identity.addresses, tls).await?;
    let (from_controller, to_controller) = tokio::io::split(controller);
    let (from_agent, to_agent) = agent.into_split();
    let (up, up_queue) = mpsc::channel(WAITING);
    let (down, down_queue) = mpsc::channel(WAITING);
    let mut relay = Relay { config, identity, up, down, renewal: None, heard: Instant::now() };
    tokio::select! {
        ended = relay.carry(Reader::new(from_agent, MAX_BYTES), Reader::new(from_controller, MAX_BYTES)) => ended,
        error = write(Writer::new(to_controller, MAX_BYTES), up_queue) => Err(LinkError::FromController(error)),
        error = write(Writer::new(to_agent, MAX_BYTES), down_queue) => Err(LinkError::FromAgent(error)),
    }
}

/// Its own future, so that a side that does not read holds up only what goes to it.
async fn write<S, M>(mut writer: Writer<S, M>, mut queue: mpsc::Receiver<M>) -> FrameError
where
    S: tokio::io::AsyncWrite + Unpin,
    M: serde::Serialize,
{
    while let Some(message) = queue.recv().await {
        if let Err(error) = writer.send(&message).await {
            return error;
        }
    }
    FrameError::Ended
}

struct Relay<'a> {
    config: &'a Config,
    identity: Identity,
    up: mpsc::Sender<FromAgent>,
    down: mpsc::Sender<ToAgent>,
    /// The key that a certificate was asked for.
    renewal: Option<Vec<u8>>,
    heard: Instant,
}

impl Relay<'_> {
    async fn carry<A, C>(
        &mut self,
        mut agent: Reader<A, FromAgent>,
        mut controller: Reader<C, ToAgent>,
    ) -> Result<std::convert::Infallible, LinkError>
    where
        A: tokio::io::AsyncRead + Unpin,
        C: tokio::io::AsyncRead + Unpin,
    {
        let mut renew_at = self.renew_at()?;
        loop {
            tokio::select! {
                message = agent.next() => {
                    let message = message.map_err(LinkError::FromAgent)?;
                    self.up.send(message).await.map_err(|_| LinkError::Stuck)?;
                }
                message = controller.next() => {
                    self.heard = Instant::now();
                    if self.answer(message.map_err(LinkError::FromController)?).await? {
                        renew_at = self.renew_at()?;
                    }
                }
                () = sleep_until(self.heard + SILENCE) => return Err(LinkError::Silent),
                () = sleep_until(renew_at) => {
                    let (key, csr) = enrolment::tls_key()?;
                    self.renewal = Some(key);
                    self.up.send(FromAgent::Renew { csr }).await.map_err(|_| LinkError::Stuck)?;
                    // Asked again if no answer comes.
                    renew_at = Instant::now() + Duration::from_secs(3600);
                }
            }
        }
    }

    /// Answers what is for the link, and hands on what is for the agent. True if there is a new certificate.
    async fn answer(&mut self, message: ToAgent) -> Result<bool, LinkError> {
        match message {
            ToAgent::Welcome => (self.config.status)(&format!("connected as {}", self.identity.server)),
            ToAgent::Ping => self.up.send(FromAgent::Pong).await.map_err(|_| LinkError::Stuck)?,
            ToAgent::Bye { error } => return Err(LinkError::Bye(error)),
            ToAgent::Certificate { certificate } => {
                let Some(tls_key) = self.renewal.take() else { return Ok(false) };
                self.identity = keep(&self.config.state, &self.identity, tls_key, certificate)?;
                tracing::info!("the certificate was renewed");
                return Ok(true);
            }
            message => self.down.send(message).await.map_err(|_| LinkError::Stuck)?,
        }
        Ok(false)
    }

    /// Half of the certificate's life, a tenth more or less.
    fn renew_at(&self) -> Result<Instant, LinkError> {
        let (begin, end) = tls::validity(&self.identity.certificate())?;
        let issued = begin.saturating_add(tls::BACKDATED).unwrap_or(begin);
        let life = end.duration_since(issued).as_secs_f64();
        let age = (self.config.now)().duration_since(issued).as_secs_f64();
        let due = life * (0.4 + 0.2 * fraction(self.config.random));
        Ok(Instant::now() + Duration::from_secs_f64((due - age).max(1.0)))
    }
}

/// Who we are, with a certificate that is valid now.
async fn identity(config: &Config) -> Result<Identity, LinkError> {
    let bytes = std::fs::read(&config.identity).map_err(|error| LinkError::Identity(config.identity.clone(), error))?;
    let mut identity = Identity::parse(&bytes)?;
    let kept = durable::read(&config.state.join(KEPT)).map_err(LinkError::Keep)?;
    if let Some(bytes) = kept {
        let kept: Kept = serde_json::from_slice(&bytes).map_err(LinkError::Damaged)?;
        let newer = identity.renewed(kept.tls_key, kept.certificate);
        // After a new enrolment the kept one is of the past.
        let same = tls::Peer::of(&newer.certificate())? == tls::Peer::of(&identity.certificate())?;
        if same && tls::validity(&newer.certificate())?.1 > tls::validity(&identity.certificate())?.1 {
            identity = newer;
        }
    }
    if tls::validity(&identity.certificate())?.1 > (config.now)() {
        return Ok(identity);
    }
    (config.status)("the certificate expired: asking for a new one by the server's own key");
    let sequence = next_recovery(&config.state)?;
    let (tls_key, certificate) = timeout(SILENCE, enrolment::recover(&identity, sequence))
        .await
        .map_err(|_| LinkError::Dial(DialError::Late))??;
    keep(&config.state, &identity, tls_key, certificate)
}

const KEPT: &str = "certificate.json";
const RECOVERIES: &str = "recoveries.json";

fn keep(state: &Path, identity: &Identity, tls_key: Vec<u8>, certificate: Vec<u8>) -> Result<Identity, LinkError> {
    let renewed = identity.renewed(tls_key.clone(), certificate.clone());
    // Usable together, before the old pair is given up.
    tls::agent_config(renewed.authority(), renewed.certificate(), renewed.tls_key())?;
    let bytes = serde_json::to_vec(&Kept { tls_key, certificate }).expect("it is plain data");
    durable::write(&state.join(KEPT), &bytes, 0o600).map_err(LinkError::Keep)?;
    Ok(renewed)
}

fn next_recovery(state: &Path) -> Result<u64, LinkError> {
    let path = state.join(RECOVERIES);
    let mut recoveries: Recoveries = match durable::read(&path).map_err(LinkError::Keep)? {
        Some(bytes) => serde_json::from_slice(&bytes).map_err(LinkError::Damaged)?,
        None => Recoveries::default(),
    };
    recoveries.sequence += 1;
    let bytes = serde_json::to_vec(&recoveries).expect("it is plain data");
    durable::write(&path, &bytes, 0o600).map_err(LinkError::Keep)?;
    Ok(recoveries.sequence)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_waits_double_up_to_a_minute_and_begin_anew_after_a_good_connection() {
        let mut tries = Tries::new();
        let short = Duration::from_secs(2);
        let waits: Vec<u64> = (0..8).map(|_| tries.after(short, 1.0).as_secs()).collect();
        assert_eq!((waits, tries.turn), (vec![1, 2, 4, 8, 16, 32, 60, 60], 8));
        // Any part of it, down to nothing.
        assert_eq!(tries.after(short, 0.5), Duration::from_secs(30));
        assert_eq!(tries.after(short, 0.0), Duration::ZERO);
        assert_eq!(tries.after(GOOD + short, 1.0), FIRST_WAIT);
        assert_eq!((tries.turn, tries.after(short, 1.0)), (0, 2 * FIRST_WAIT));
    }
}
