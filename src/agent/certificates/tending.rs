//! The keeper beside the worker: an order takes minutes, a pass must not wait for it.
//!
//! Wakes when something is due, when a document was accepted, and when somebody asks. What it put in place is
//! loaded by a pass of the worker, and then the site is asked for what it really serves.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, mpsc, oneshot};

use super::keeper::{Done, Keeper, KeeperError, Outcome};
use super::record::Records;
use super::serving;
use crate::agent::Ledger;
use crate::agent::reconcile::{Agent, AgentError};
use crate::engine::Events;
use crate::model::Name;
use crate::model::certificate::{Settings, Standing};
use crate::model::report::ErrorReport;

/// However far away the next thing is: clocks are set.
const LONGEST: Duration = Duration::from_secs(3600);
/// What is due again at once was not done: it is not tried in a circle.
const SHORTEST: Duration = Duration::from_secs(30);
/// Sites that are asked at the same time for what they serve.
const VISITS: usize = 16;

#[derive(Debug, thiserror::Error)]
pub enum TendError {
    #[error(transparent)]
    Agent(#[from] AgentError),
    #[error(transparent)]
    Keeper(#[from] KeeperError),
    #[error("there is no instance `{0}`")]
    NoSuchInstance(Name),
}

impl TendError {
    pub fn report(&self) -> ErrorReport {
        let (code, hint) = match self {
            Self::Agent(error) => return error.report(),
            Self::NoSuchInstance(_) | Self::Keeper(KeeperError::Unknown(_)) => {
                ("certificate.unknown", Some("socle agent cert list"))
            }
            Self::Keeper(KeeperError::Busy(_)) => ("certificate.busy", Some("try again when it is done")),
            Self::Keeper(KeeperError::NotOrdered(_)) => {
                ("certificate.not-ordered", Some("only what an authority made can be renewed or revoked there"))
            }
            Self::Keeper(KeeperError::Missing(_)) => ("certificate.missing", Some("socle agent cert list")),
            Self::Keeper(KeeperError::UnknownAuthority(_)) => {
                ("certificate.authority", Some("see `[authorities]` in the document"))
            }
            Self::Keeper(KeeperError::Authority(_)) => ("certificate.refused", Some("try again later")),
            Self::Keeper(_) => ("certificate.error", Some("see `df -h /var/lib/socle`")),
        };
        ErrorReport::of(code, self, hint.map(str::to_owned))
    }
}

/// What somebody asks of the keeper.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ask {
    /// Whatever is due.
    Due,
    Renew(Name),
    /// And order another, with a new key.
    Revoke {
        name: Name,
        key_compromised: bool,
    },
}

/// A question, and where the answer goes.
pub type Asked = (Ask, oneshot::Sender<Result<Vec<Standing>, ErrorReport>>);

/// Somebody who brings about what was committed: the worker.
pub type Loads = mpsc::Sender<oneshot::Sender<()>>;

/// Looks after the certificates until it is dropped.
pub async fn tend(
    agent: Arc<Agent>,
    keeper: Keeper,
    wake: Arc<Notify>,
    mut asked: mpsc::Receiver<Asked>,
    loads: Loads,
) {
    // The first pass is the worker's: what proves control of a name is served by what it brings about.
    wake.notified().await;
    let mut rest = Duration::ZERO;
    loop {
        let now = (agent.now)();
        let due = agent.ordered().map(|settings| keeper.next_due(&settings).duration_since(now));
        // One that is past is due at once.
        let wait = due.map_or(LONGEST, |wait| wait.try_into().unwrap_or(Duration::ZERO).min(LONGEST));
        let (ask, answer) = tokio::select! {
            // Each is cancel-safe: a question is taken whole or not at all.
            Some((ask, answer)) = asked.recv() => (ask, Some(answer)),
            () = wake.notified() => (Ask::Due, None),
            () = tokio::time::sleep(wait.max(rest)) => (Ask::Due, None),
        };
        rest = if wait.is_zero() { SHORTEST } else { Duration::ZERO };
        let done = agent.tend_certificates(&keeper, ask, &loads).await;
        if let Err(error) = &done {
            tracing::error!(code = error.code, hint = error.hint, "{error}");
        }
        if let Some(answer) = answer {
            // Whoever asked may have gone.
            let _ = answer.send(done);
        }
    }
}

/// The same without a worker beside it: passes are made here.
pub async fn tend_here(
    agent: &Agent,
    keeper: &Keeper,
    ask: Ask,
    events: &dyn Events,
) -> Result<Vec<Standing>, ErrorReport> {
    let (loads, mut to_load) = mpsc::channel(1);
    let work = agent.tend_certificates(keeper, ask, &loads);
    tokio::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return done,
            Some(loaded) = to_load.recv() => {
                agent.reconcile(events).await.map_err(|error| error.report())?;
                // Whoever asked waits for it: the work above.
                let _ = loaded.send(());
            }
        }
    }
}

impl Agent {
    /// What the accepted document orders. What cannot be ordered for want of a secret is told.
    pub fn ordered(&self) -> Result<Settings, AgentError> {
        let ledger = Ledger::load(&self.state)?;
        let document = match self.accepted(&ledger) {
            Err(AgentError::NothingAccepted) => return Ok(Settings::default()),
            document => document?,
        };
        let (settings, faults) = self.certificate_settings(&document);
        for error in faults.into_iter().map(|fault| fault.error) {
            tracing::error!(code = error.code, hint = error.hint, "{error}");
        }
        Ok(settings)
    }

    /// Does what was asked, has the worker load what is new, and asks the sites for it.
    pub async fn tend_certificates(
        &self,
        keeper: &Keeper,
        ask: Ask,
        loads: &Loads,
    ) -> Result<Vec<Standing>, ErrorReport> {
        let work = async {
            let settings = self.ordered()?;
            let renewed = match &ask {
                Ask::Due => BTreeSet::new(),
                Ask::Renew(name) | Ask::Revoke { name, .. } if !settings.certificates.contains_key(name) => {
                    return Err(TendError::NoSuchInstance(name.clone()));
                }
                Ask::Renew(name) => BTreeSet::from([name.clone()]),
                Ask::Revoke { name, key_compromised } => {
                    keeper.revoke(&settings, name, *key_compromised).await?;
                    BTreeSet::from([name.clone()])
                }
            };
            let outcomes = keeper.tend_all(&settings, &renewed).await?;
            outcomes.iter().for_each(tell);
            let news = outcomes.iter().any(|o| matches!(o.done, Done::Committed { .. } | Done::Failed { .. }));
            if news {
                load(loads).await;
            }
            let committed = outcomes.iter().filter(|o| matches!(o.done, Done::Committed { .. }));
            let committed: Vec<&Name> = committed.map(|outcome| &outcome.name).collect();
            let (store, mut wrong) = (self.certificates(), false);
            for some in committed.chunks(VISITS) {
                let visits = some.iter().map(|name| serving::look(&store, &settings.certificates[*name]));
                for (name, found) in some.iter().zip(join_all(visits).await) {
                    let found = found.err().map(|error| error.report());
                    if let Some(error) = &found {
                        tracing::error!(certificate = %name, code = error.code, hint = error.hint, "{error}");
                    }
                    wrong |= found.is_some();
                    serving::note(&Records::new(store.clone()), name, found).map_err(KeeperError::from)?;
                }
            }
            if wrong {
                // For the report.
                load(loads).await;
            }
            Ok(keeper.standings(&settings))
        };
        work.await.map_err(|error: TendError| error.report())
    }
}

/// A pass of the worker, and its end.
async fn load(loads: &Loads) {
    let (done, ended) = oneshot::channel();
    if loads.send(done).await.is_ok() {
        // The worker is gone when the agent ends: the next start loads it.
        let _ = ended.await;
    }
}

fn tell(outcome: &Outcome) {
    let name = &outcome.name;
    match &outcome.done {
        Done::Fresh | Done::Waiting { .. } => {}
        Done::Committed { generation, meta } => {
            tracing::info!(certificate = %name, generation, not_after = %meta.not_after, "a new certificate is in place");
        }
        Done::Failed { error, next } => {
            tracing::warn!(certificate = %name, code = error.code, hint = error.hint, %next, "{error}");
        }
    }
}
