//! A push as its watcher sees it: each server's progress as it comes, until every server has reported or cannot.
//!
//! The push does not depend on its watcher: it is stored before the first line, and goes on when nobody reads.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{broadcast, mpsc};
use tokio::time::{Instant, MissedTickBehavior};

use super::App;
use super::route::Lines;
use super::types::{ApplyLine, Outcome};
use crate::controller::hub::{News, What};
use crate::controller::store::{Server, StoreError};
use crate::model::Name;
use crate::model::fleet::{Mark, Position};
use crate::model::report::Report;

/// Lines that wait for a slow watcher. The push does not wait for it; its task does.
const WAITING: usize = 256;

/// How long a watcher waits for what.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// A connection that ended may come back within this time.
    pub back_within: Duration,
    /// The longest that is watched: a first installation with large downloads takes minutes.
    pub watched: Duration,
    /// How often servers that other controllers hold are looked up.
    pub look_every: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        let [back_within, watched, look_every] = [15, 3600, 2].map(Duration::from_secs);
        Self { back_within, watched, look_every }
    }
}

/// What was pushed, before anything was heard.
pub(super) struct Push {
    pub first: ApplyLine,
    pub marks: BTreeMap<Name, Mark>,
    /// Servers of which nothing is to be heard.
    pub settled: Vec<(Name, Outcome)>,
}

/// `heard` must listen since before the push, so that no answer is missed.
pub(super) fn follow(app: Arc<App>, heard: broadcast::Receiver<News>, push: Push) -> Lines<ApplyLine> {
    let (lines, out) = mpsc::channel(WAITING);
    tokio::spawn(async move {
        let mut following = Following { app, lines, waiting: BTreeMap::new(), converged: true };
        // An error: the watcher is gone.
        let _ = following.run(heard, push).await;
    });
    Lines(Box::pin(futures_util::stream::unfold(out, async |mut out| out.recv().await.map(|line| (line, out)))))
}

struct Waiting {
    mark: Mark,
    accepted: bool,
    /// Since when its connection is missing.
    gone: Option<Instant>,
}

struct Following {
    app: Arc<App>,
    lines: mpsc::Sender<ApplyLine>,
    waiting: BTreeMap<Name, Waiting>,
    converged: bool,
}

/// The watcher is gone.
struct NobodyWatches;

impl Following {
    async fn run(&mut self, mut heard: broadcast::Receiver<News>, push: Push) -> Result<(), NobodyWatches> {
        // Who has not enrolled is not as wanted either.
        self.converged &= !matches!(&push.first, ApplyLine::Pushed { not_enrolled, .. } if !not_enrolled.is_empty());
        self.say(push.first).await?;
        for (server, outcome) in push.settled {
            self.settle(server, outcome).await?;
        }
        for (server, mark) in push.marks {
            self.waiting.insert(server, Waiting { mark, accepted: false, gone: None });
        }
        self.look(&mut heard, true).await?;
        let patience = self.app.patience;
        let end = Instant::now() + patience.watched;
        let mut tick = tokio::time::interval(patience.look_every);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !self.waiting.is_empty() {
            // Each arm is cancel-safe: news or a tick is taken whole or not at all.
            tokio::select! {
                news = heard.recv() => match news {
                    Ok(news) => self.hear(news).await?,
                    Err(broadcast::error::RecvError::Lagged(_)) => self.look(&mut heard, false).await?,
                    Err(broadcast::error::RecvError::Closed) => break,
                },
                _ = tick.tick() => {
                    self.look(&mut heard, false).await?;
                    self.give_up_the_gone().await?;
                }
                () = tokio::time::sleep_until(end) => break,
                () = self.lines.closed() => return Err(NobodyWatches),
            }
        }
        for server in std::mem::take(&mut self.waiting).into_keys() {
            self.settle(server, Outcome::Late).await?;
        }
        let converged = self.converged;
        self.say(ApplyLine::End { converged }).await
    }

    async fn say(&self, line: ApplyLine) -> Result<(), NobodyWatches> {
        self.lines.send(line).await.map_err(|_| NobodyWatches)
    }

    async fn settle(&mut self, server: Name, outcome: Outcome) -> Result<(), NobodyWatches> {
        self.waiting.remove(&server);
        self.converged &= outcome.is_converged();
        self.say(ApplyLine::Server { server, outcome }).await
    }

    async fn hear(&mut self, News { server, what }: News) -> Result<(), NobodyWatches> {
        let Some(waiting) = self.waiting.get_mut(&server) else { return Ok(()) };
        let mark = waiting.mark;
        match what {
            What::Connected => waiting.gone = None,
            What::Gone => waiting.gone = Some(Instant::now()),
            What::Accepted(position) => return self.accepted(server, &position).await,
            What::Refused { mark: refused, error, problems } if refused == mark => {
                return self.settle(server, Outcome::Refused { error, problems }).await;
            }
            What::Refused { .. } => {}
            What::Failed(error) if waiting.accepted => return self.settle(server, Outcome::Failed { error }).await,
            What::Failed(_) => {}
            // Of the pass before, until it has accepted.
            What::Progress(event) if waiting.accepted => return self.say(ApplyLine::Progress { server, event }).await,
            What::Progress(_) => {}
            What::Report(report) => return self.reported(server, &report).await,
        }
        Ok(())
    }

    async fn accepted(&mut self, server: Name, position: &Position) -> Result<(), NobodyWatches> {
        let Some(waiting) = self.waiting.get_mut(&server) else { return Ok(()) };
        let mark = waiting.mark;
        if position.mark > mark {
            return self.settle(server, Outcome::Replaced { mark: position.mark }).await;
        }
        if position.mark == mark && !std::mem::replace(&mut waiting.accepted, true) {
            return self.say(ApplyLine::Accepted { server, mark }).await;
        }
        Ok(())
    }

    async fn reported(&mut self, server: Name, report: &Report) -> Result<(), NobodyWatches> {
        match self.waiting.get(&server) {
            Some(waiting) if report.generation == waiting.mark.generation => {
                self.settle(server, Outcome::Reported { report: report.clone() }).await
            }
            // Of the pass before.
            _ => Ok(()),
        }
    }

    /// What the store knows of those who are waited for: all of them at `first`, and when news were missed; else
    /// what other controllers hold.
    async fn look(&mut self, heard: &mut broadcast::Receiver<News>, first: bool) -> Result<(), NobodyWatches> {
        for name in self.waiting.keys().cloned().collect::<Vec<_>>() {
            if !self.waiting.contains_key(&name) {
                // Settled by what was heard meanwhile.
                continue;
            }
            let found = self.look_up(&name).await;
            // What was told before it was stored is told before it is seen: the end does not overtake the progress.
            while let Ok(news) = heard.try_recv() {
                self.hear(news).await?;
            }
            let here = self.app.controller.hub.is_connected(&name);
            match found {
                Ok(Some((server, report))) => self.seen(name, here, first, server, report).await?,
                Ok(None) if self.waiting.contains_key(&name) => self.settle(name, Outcome::Gone).await?,
                Ok(None) => {}
                // It may answer the next time; what is known stays known.
                Err(error) => tracing::warn!("{}", crate::model::report::ErrorReport::of("store", &error, None)),
            }
        }
        Ok(())
    }

    async fn look_up(&self, name: &Name) -> Result<Option<(Server, Option<Report>)>, StoreError> {
        let store = &self.app.controller.store;
        let Some(server) = store.server(name).await? else { return Ok(None) };
        let report = store.report(name).await?.and_then(|stored| {
            let read = serde_json::from_str(&stored.json);
            read.inspect_err(|error| tracing::error!(server = %name, "the stored report cannot be read: {error}")).ok()
        });
        Ok(Some((server, report)))
    }

    async fn seen(
        &mut self,
        name: Name,
        here: bool,
        first: bool,
        server: Server,
        report: Option<Report>,
    ) -> Result<(), NobodyWatches> {
        let elsewhere = server.connected_to.is_some_and(|instance| instance != self.app.controller.instance);
        if let Some(position) = &server.position {
            self.accepted(name.clone(), position).await?;
            // A report carries no epoch: it is of this document if the server stands at it.
            if let (Some(waiting), Some(report)) = (self.waiting.get(&name), report)
                && position.mark == waiting.mark
            {
                self.reported(name.clone(), &report).await?;
            }
        }
        let Some(waiting) = self.waiting.get_mut(&name) else { return Ok(()) };
        if here || elsewhere {
            waiting.gone = None;
        } else if first && !waiting.accepted {
            self.settle(name, Outcome::NotConnected { last_seen: server.last_seen }).await?;
        } else {
            waiting.gone.get_or_insert_with(Instant::now);
        }
        Ok(())
    }

    async fn give_up_the_gone(&mut self) -> Result<(), NobodyWatches> {
        let back_within = self.app.patience.back_within;
        let lost = |waiting: &Waiting| waiting.gone.is_some_and(|since| since.elapsed() >= back_within);
        let lost: Vec<Name> = self.waiting.iter().filter(|(_, w)| lost(w)).map(|(name, _)| name.clone()).collect();
        for server in lost {
            self.settle(server, Outcome::Gone).await?;
        }
        Ok(())
    }
}
