//! The daemon: reconciles what was accepted at start, on a timer, and when a unit of ours fails; and opens
//! the local door.
//!
//! One worker does one thing at a time; connections wait in a bounded queue. It ends between two things if
//! it can, and what it leaves undone the next start takes up.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::io::AsyncWriteExt;
use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::Ledger;
use super::certificates::tending::Asked;
use super::certificates::{Keeper, tending};
use super::delivery::{Delivered, NotKept};
use super::door::{self, Line, Reply, Request};
use super::link_door::{self, Handed, Link, Progress};
use super::reconcile::{Agent, AgentError};
use crate::durable::LockError;
use crate::engine::{Event, Events, Silent};
use crate::host::memory;
use crate::model::report::Report;
use crate::wire::message::FromAgent;

#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    #[error("cannot listen on `{0}`")]
    Listen(String, #[source] std::io::Error),
    #[error("cannot watch for signals")]
    Signals(#[source] std::io::Error),
}

/// Requests that may wait while another is worked on. More are told that the agent is busy.
const WAITING: usize = 8;

/// What is being done when we are asked to end may go on this long. It may never end by itself: a package
/// manager that upgrades us waits for our restart, and we wait for it.
const GRACE: Duration = Duration::from_secs(5);

/// Where requests wait.
#[derive(Clone)]
struct Waiting {
    jobs: mpsc::Sender<Job>,
    /// About certificates.
    questions: mpsc::Sender<Asked>,
}

/// One request on its way to the worker.
struct Job {
    request: Request,
    stream: UnixStream,
}

pub async fn run(agent: Agent, keeper: Keeper) -> Result<(), DaemonError> {
    let stopping = stopping()?;
    let agent = Arc::new(agent);
    let listener = listen(&agent.host.path(door::SOCKET), door::GROUP)?;
    let for_link = listen(&agent.host.path(link_door::SOCKET), link_door::GROUP)?;
    let (jobs, mut queue) = mpsc::channel(WAITING);
    let (questions, asked) = mpsc::channel(WAITING);
    let (loads, mut to_load) = mpsc::channel(1);
    let certificates = Arc::new(Notify::new());
    let link = Link::default();
    let keeper = keeper.with_fleet(Arc::new(link.clone()));
    let tending = tokio::spawn(tending::tend(agent.clone(), keeper, certificates.clone(), asked, loads));
    let door = tokio::spawn(open_door(listener, Waiting { jobs, questions }));
    let link_door = tokio::spawn(link.clone().open(for_link, agent.clone()));

    let mut tick = tokio::time::interval(Duration::from_secs(agent.interval_s.into()));
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut failures = agent.host.units.failures().await;
    notify(&[sd_notify::NotifyState::Ready]);
    let mut ticked = false;
    loop {
        tokio::select! {
            // Each arm is cancel-safe: a tick or a received value is taken whole or not at all.
            () = stopping.cancelled() => break,
            handed = link.document() => {
                until_overdue(&stopping, deliver(&agent, &link, handed)).await;
                certificates.notify_one();
            }
            Some(job) = queue.recv() => {
                until_overdue(&stopping, serve(&agent, job)).await;
                certificates.notify_one();
            }
            Some(loaded) = to_load.recv() => {
                until_overdue(&stopping, look(&agent, &link, true)).await;
                // Whoever asked may have gone.
                let _ = loaded.send(());
            }
            _ = tick.tick() => {
                until_overdue(&stopping, look(&agent, &link, false)).await;
                if !std::mem::replace(&mut ticked, true) {
                    certificates.notify_one();
                }
            }
            Some(unit) = failures.next() => {
                tracing::warn!(unit, "a unit failed");
                until_overdue(&stopping, look(&agent, &link, true)).await;
            }
        }
        link.outbox_grew();
        // Until something happens, all that is needed is what waits.
        if let Err(error) = memory::unmap_code() {
            tracing::debug!(%error, "the code of the last pass stays mapped");
        }
    }
    notify(&[sd_notify::NotifyState::Stopping]);
    // An order that is cut off is taken up by the next start.
    tending.abort();
    door.abort();
    link_door.abort();
    Ok(())
}

/// Cancelled when we are asked to end.
fn stopping() -> Result<CancellationToken, DaemonError> {
    let mut stop = signal(SignalKind::terminate()).map_err(DaemonError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(DaemonError::Signals)?;
    let stopping = CancellationToken::new();
    let told = stopping.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = stop.recv() => {}
            _ = interrupt.recv() => {}
        }
        told.cancel();
    });
    Ok(stopping)
}

/// Does the work to its end, or until [`GRACE`] after we are asked to end. To break it off is less than a
/// kill, which it stands at any instant.
async fn until_overdue(stopping: &CancellationToken, work: impl Future<Output = ()>) {
    let overdue = async {
        stopping.cancelled().await;
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        () = work => {}
        () = overdue => tracing::warn!("ends in the middle of a pass, which the next start takes up"),
    }
}

fn listen(path: &Path, group: &str) -> Result<UnixListener, DaemonError> {
    link_door::listen(path, group).map_err(|error| DaemonError::Listen(path.display().to_string(), error))
}

async fn open_door(listener: UnixListener, waiting: Waiting) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(let_in(stream, waiting.clone()));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                // Out of file descriptors, most likely: give the others time to end.
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

async fn let_in(mut stream: UnixStream, waiting: Waiting) {
    let limit = Duration::from_secs(10);
    let request = match tokio::time::timeout(limit, door::read_request(&mut stream)).await {
        Ok(Ok(request)) => request,
        Ok(Err(error)) => return tracing::warn!(%error, "a bad request"),
        Err(_) => return tracing::warn!("a connection without a request"),
    };
    let mut stream = match request {
        Line::Work(request) => match waiting.jobs.try_send(Job { request, stream }) {
            Ok(()) => return,
            Err(error) => error.into_inner().stream,
        },
        Line::Certificates { certificates } => {
            let (sender, answered) = oneshot::channel();
            if waiting.questions.try_send((certificates, sender)).is_ok() {
                let reply = match answered.await {
                    Ok(Ok(certificates)) => Reply::Certificates { certificates },
                    Ok(Err(error)) => Reply::Failed { error },
                    // The agent ends.
                    Err(_) => return,
                };
                return answer(&mut stream, &reply).await;
            }
            stream
        }
    };
    let error = crate::model::report::ErrorReport {
        code: "agent.busy".to_owned(),
        message: format!("{WAITING} requests are waiting already"),
        causes: Vec::new(),
        hint: Some("try again when they are done".to_owned()),
    };
    answer(&mut stream, &Reply::Failed { error }).await;
}

/// Whoever asked may have gone: what was asked is done all the same.
async fn serve(agent: &Agent, job: Job) {
    let Job { request, mut stream } = job;
    status(match &request {
        Request::Apply { .. } => "applying a document",
        Request::Reconcile => "reconciling",
        Request::Rollback { .. } => "going back",
        Request::Purge { .. } => "purging",
    });
    let (told, mut events) = mpsc::unbounded_channel();
    let told: Arc<dyn Events> = Arc::new(Told(told));
    let working = async {
        let _given = agent.progress.to(told.clone());
        let reply = door::handle(agent, request, &told).await;
        drop(told);
        reply
    };
    tokio::pin!(working);
    let reply = loop {
        tokio::select! {
            biased;
            Some(event) = events.recv() => answer(&mut stream, &Reply::Event(event)).await,
            reply = &mut working => break reply,
        }
    };
    while let Ok(event) = events.try_recv() {
        answer(&mut stream, &Reply::Event(event)).await;
    }
    answer(&mut stream, &reply).await;
    if let Reply::Report(report) = &reply {
        say(report);
    }
}

/// Takes a document of the controller and brings it about. The answer leaves before the pass begins.
async fn deliver(agent: &Agent, link: &Link, handed: Handed) {
    let news = match agent.deliver(&handed.envelope) {
        Delivered::Accepted { position, news } => {
            if news {
                tracing::info!("document {} of the controller is accepted, and brought about now", position.mark);
            }
            link.tell(FromAgent::Accepted { position });
            news
        }
        Delivered::Refused { mark, error, problems } => {
            link.tell(FromAgent::Refused { mark, error, problems });
            false
        }
        Delivered::NotKept { mark, why } => {
            if let (NotKept::Failed(error), false) = (why, handed.again) {
                tracing::error!(code = error.code, hint = error.hint, "{error}");
                status(&format!("a document could not be kept: {error}"));
                link.tell(FromAgent::Refused { mark, error, problems: Vec::new() });
            }
            link.try_again(handed);
            false
        }
    };
    link.outbox_grew();
    if !news {
        return;
    }
    status("applying a document of the controller");
    let told: Arc<dyn Events> = Arc::new(Progress::new(link.clone()));
    let _given = agent.progress.to(told.clone());
    tell(agent.reconcile(&told).await.map(Some), link);
}

/// Events of one request. Unbounded, but a pass makes a few hundred at most.
struct Told(mpsc::UnboundedSender<Event>);

impl Events for Told {
    fn event(&self, event: Event) {
        // The reader is gone only when the request is over.
        let _ = self.0.send(event);
    }
}

async fn answer(stream: &mut UnixStream, reply: &Reply) {
    let mut line = serde_json::to_vec(reply).expect("a reply is plain data");
    line.push(b'\n');
    // A client that went away or does not read must not hold up the worker.
    let _ = tokio::time::timeout(Duration::from_secs(5), stream.write_all(&line)).await;
}

/// Brings about what was accepted, or only looks, as the document's policy says.
async fn look(agent: &Agent, link: &Link, now: bool) {
    match agent.tend(&Silent, now).await {
        Ok(None) | Err(AgentError::NothingAccepted) => {
            if Ledger::load(&agent.state).is_ok_and(|ledger| ledger.accepted.is_none()) {
                status("waiting for a document");
            }
        }
        outcome => tell(outcome, link),
    }
}

/// To the journal and `systemctl status`; what has no report, to the controller.
fn tell(outcome: Result<Option<Report>, AgentError>, link: &Link) {
    match outcome {
        Ok(Some(report)) => {
            link.passes(None);
            say(&report);
        }
        Ok(None) => {}
        Err(error) => {
            let report = error.report();
            tracing::error!(code = report.code, hint = report.hint, "{report}");
            status(&format!("failed: {report}"));
            // Another program of ours at work is no failure.
            if !matches!(error, AgentError::Lock(LockError::Held(_))) {
                link.passes(Some(report));
            }
        }
    }
}

fn say(report: &Report) {
    let bad = report.lines.iter().filter(|line| line.status.is_bad()).count();
    if report.converged {
        status(&format!("generation {} is as wanted ({} resources)", report.generation, report.lines.len()));
    } else {
        status(&format!(
            "generation {} is not as wanted: {bad} of {} resources",
            report.generation,
            report.lines.len()
        ));
    }
    for line in &report.lines {
        match &line.status {
            crate::model::report::Status::Changed { changes } => {
                tracing::info!(resource = %line.resource, "changed: {}", changes.join("; "));
            }
            status if status.is_bad() => tracing::warn!(resource = %line.resource, "{status}"),
            _ => {}
        }
    }
    for note in &report.notes {
        tracing::warn!("{note}");
    }
}

fn status(text: &str) {
    notify(&[sd_notify::NotifyState::Status(text)]);
}

/// Without a service manager there is nobody to tell.
fn notify(states: &[sd_notify::NotifyState]) {
    let _ = sd_notify::notify(states);
}
