//! The job: all certificates of a server, each by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::{Mutex, Semaphore};
use tokio::task::JoinSet;

use super::attempt::{Attempt, Task};
use super::budget::Budget;
use super::error::AttemptError;
use super::internal::FleetAuthority;
use super::proofs;
use super::record::{RecordError, Records};
use super::schedule::{self, Due, Why};
use super::standing::{self, known};
use super::watch::{SelfCheck, Watch};
use crate::durable::{HostLock, LockError};
use crate::host::Dns;
use crate::host::authority::{Authorities, Authority, AuthorityError};
use crate::host::certificates::{Store, StoreError, chain};
use crate::model::Name;
use crate::model::certificate::{Acme, CertifiedName, Meta, Settings, Source, Standing, Wanted};
use crate::model::report::ErrorReport;

/// Orders at the same time.
const WIDTH: usize = 16;
/// A question about renewal, an order, and a question about the new certificate.
const ROUNDS: usize = 4;
/// Without anything to wait for, a look like this is cheap.
const LOOK_AGAIN: jiff::SignedDuration = jiff::SignedDuration::from_hours(12);

#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    #[error("the certificates are being tended by another process")]
    Busy(#[source] LockError),
    #[error("no certificate `{0}` is wanted")]
    Unknown(Name),
    #[error("the certificate `{0}` is not from an authority")]
    NotOrdered(Name),
    #[error("there is no certificate `{0}` yet")]
    Missing(Name),
    #[error("the authority `{0}` is not described")]
    UnknownAuthority(Name),
    #[error("the chain of `{0}` cannot be read")]
    Chain(Name),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error(transparent)]
    Authority(#[from] AuthorityError),
}

/// How long an attempt waits for what.
#[derive(Debug, Clone)]
pub struct Patience {
    /// Before the first look at an order; twice as long before each further one, if the authority says nothing.
    pub first: Duration,
    /// The most between two then.
    pub most: Duration,
    /// For an order to come on, once; then it is taken up at the next attempt.
    pub order: Duration,
    /// For all name servers of a domain to know a record.
    pub propagation: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            // An authority that is near needs some tenths of a second for a proof, and as many for a certificate.
            first: Duration::from_millis(200),
            most: Duration::from_secs(10),
            order: Duration::from_secs(180),
            propagation: Duration::from_secs(600),
        }
    }
}

/// What the keeper works with.
#[derive(Clone)]
pub struct Parts {
    pub authorities: Arc<dyn Authorities>,
    pub fleet: Arc<dyn FleetAuthority>,
    pub dns: Arc<dyn Dns>,
    pub check: Arc<dyn SelfCheck>,
    pub watch: Arc<dyn Watch>,
    pub now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    pub random: Arc<dyn Fn() -> u64 + Send + Sync>,
    /// Where the web server finds the files of HTTP-01.
    pub challenges: PathBuf,
    pub patience: Patience,
}

/// What was done for one certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    pub name: Name,
    pub done: Done,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Done {
    Fresh,
    /// A new generation is in place: the web server is to load it.
    Committed {
        generation: u64,
        meta: Meta,
    },
    /// It is due, but failed lately.
    Waiting {
        until: Timestamp,
        error: Option<ErrorReport>,
    },
    Failed {
        error: ErrorReport,
        next: Timestamp,
    },
}

/// What was seen of a name without ordering anything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckedName {
    pub name: CertifiedName,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// Cheap to clone.
#[derive(Clone)]
pub struct Keeper {
    state: PathBuf,
    parts: Parts,
}

/// What the certificates of one run share.
pub(super) struct Run {
    pub parts: Parts,
    pub settings: Settings,
    pub store: Store,
    pub records: Records,
    /// Where the accounts are.
    pub accounts: PathBuf,
    pub budgets: Mutex<BTreeMap<Name, Budget>>,
    authorities: BTreeMap<Name, Arc<dyn Authority>>,
}

impl Run {
    pub fn now(&self) -> Timestamp {
        (self.parts.now)()
    }

    pub fn authority(&self, name: &Name) -> Result<Arc<dyn Authority>, AttemptError> {
        self.authorities.get(name).cloned().ok_or_else(|| AttemptError::UnknownAuthority(name.clone()))
    }
}

impl Keeper {
    pub fn new(state: &Path, parts: Parts) -> Self {
        Self { state: state.to_owned(), parts }
    }

    /// Asks this one for certificates of the fleet's own authority.
    #[must_use]
    pub fn with_fleet(mut self, fleet: Arc<dyn FleetAuthority>) -> Self {
        self.parts.fleet = fleet;
        self
    }

    pub fn store(&self) -> Store {
        Store::new(&self.state)
    }

    /// Does what is due for every certificate that is ordered, several at a time. One that fails does not hold up
    /// another. `asked` are renewed in any case. May be dropped at any moment and run again.
    pub async fn tend_all(&self, settings: &Settings, asked: &BTreeSet<Name>) -> Result<Vec<Outcome>, KeeperError> {
        let _lock = self.lock()?;
        if let Err(error) = proofs::sweep(&self.parts.challenges, (self.parts.now)()) {
            tracing::warn!("{error}");
        }
        let run = Arc::new(self.run(settings));
        let width = Arc::new(Semaphore::new(WIDTH));
        let mut tasks = JoinSet::new();
        for (name, wanted) in &settings.certificates {
            if matches!(wanted.source, Source::Files { .. } | Source::SelfSigned) {
                continue;
            }
            let (run, width) = (run.clone(), width.clone());
            let (name, wanted, forced) = (name.clone(), wanted.clone(), asked.contains(name));
            tasks.spawn(async move {
                let _turn = width.acquire().await;
                let done = match &wanted.source {
                    Source::Acme(acme) => run.tend(&name, &wanted, acme, forced).await,
                    Source::Internal => run.tend_internal(&name, &wanted, forced).await,
                    Source::Files { .. } | Source::SelfSigned => Done::Fresh,
                };
                Outcome { name, done }
            });
        }
        let mut outcomes = tasks.join_all().await;
        outcomes.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(outcomes)
    }

    /// When [`Keeper::tend_all`] has something to do next.
    pub fn next_due(&self, settings: &Settings) -> Timestamp {
        let (run, now) = (self.run(settings), (self.parts.now)());
        let mut next: Option<Timestamp> = None;
        for (name, wanted) in &settings.certificates {
            // What cannot be read is told by `tend_all`, and not sooner because of it.
            let Ok((present, record)) = known(&run.store, &run.records, name) else { continue };
            let due = match &wanted.source {
                Source::Acme(acme) => schedule::due(&wanted.names, acme, present.as_ref(), &record, now),
                Source::Internal => schedule::due_internal(&wanted.names, present.as_ref(), &record, now),
                Source::Files { .. } | Source::SelfSigned => continue,
            };
            let due = match due {
                Due::Ask { .. } | Due::Order { .. } => now,
                Due::Wait { until, .. } | Due::Nothing { until } => until,
            };
            next = Some(next.map_or(due, |next| next.min(due)));
        }
        next.unwrap_or(now + LOOK_AGAIN)
    }

    /// How every certificate that is wanted stands; what could not be looked at is its error.
    pub fn standings(&self, settings: &Settings) -> Vec<Standing> {
        let (run, now) = (self.run(settings), (self.parts.now)());
        settings.certificates.values().map(|wanted| standing::of(wanted, &run.store, &run.records, now)).collect()
    }

    /// Looks from here whether the names of a certificate can be proven, and orders nothing.
    pub async fn check(&self, settings: &Settings, name: &Name) -> Result<Vec<CheckedName>, KeeperError> {
        let wanted = settings.certificates.get(name).ok_or_else(|| KeeperError::Unknown(name.clone()))?;
        let Source::Acme(acme) = &wanted.source else { return Err(KeeperError::NotOrdered(name.clone())) };
        let run = self.run(settings);
        let authority = acme.authorities.first().ok_or_else(|| KeeperError::NotOrdered(name.clone()))?;
        let port = run.authorities.get(authority).ok_or_else(|| KeeperError::UnknownAuthority(authority.clone()))?;
        let about = port.about().await?;
        let problems = self.parts.check.check(&wanted.names, &acme.challenge, &about).await;
        let of = |name: &CertifiedName| problems.iter().find(|problem| problem.name == *name);
        let checked = wanted.names.iter().map(|name| CheckedName {
            name: name.clone(),
            problem: of(name).map(|problem| problem.what.clone()),
            hint: of(name).map(|problem| problem.hint.clone()),
        });
        Ok(checked.collect())
    }

    /// Revokes the present certificate at the authority that made it. It stays in place until another is there.
    pub async fn revoke(&self, settings: &Settings, name: &Name, key_compromised: bool) -> Result<(), KeeperError> {
        let _lock = self.lock()?;
        let run = self.run(settings);
        let present = run.store.present(name)?.ok_or_else(|| KeeperError::Missing(name.clone()))?;
        let authority = present.meta.authority.clone().ok_or_else(|| KeeperError::NotOrdered(name.clone()))?;
        let pem = run.store.chain(&present).map_err(|error| StoreError::Keep(name.clone(), error))?;
        let leaf = chain::leaf(&String::from_utf8_lossy(&pem)).map_err(|_| KeeperError::Chain(name.clone()))?;
        let port = run.authorities.get(&authority).ok_or(KeeperError::UnknownAuthority(authority))?;
        Ok(port.revoke(&leaf, key_compromised).await?)
    }

    /// Replaces the key of the account at an authority (RFC 8555, 7.3.5).
    pub async fn roll_key(&self, settings: &Settings, authority: &Name) -> Result<(), KeeperError> {
        let _lock = self.lock()?;
        let run = self.run(settings);
        let port = run.authorities.get(authority).ok_or_else(|| KeeperError::UnknownAuthority(authority.clone()))?;
        Ok(port.roll_key().await?)
    }

    fn run(&self, settings: &Settings) -> Run {
        let store = self.store();
        let open = |(name, described): (&Name, _)| (name.clone(), self.parts.authorities.open(name, described));
        Run {
            parts: self.parts.clone(),
            settings: settings.clone(),
            records: Records::new(store.clone()),
            store,
            accounts: self.state.join("acme"),
            budgets: Mutex::default(),
            authorities: settings.authorities.iter().map(open).collect(),
        }
    }

    fn lock(&self) -> Result<HostLock, KeeperError> {
        let directory = self.state.join("tls");
        let made = std::fs::create_dir_all(&directory);
        made.map_err(|error| StoreError::List(directory.clone(), error))?;
        HostLock::take(&directory.join("lock"), &format!("PID {}", std::process::id())).map_err(KeeperError::Busy)
    }
}

impl Run {
    async fn tend(&self, name: &Name, wanted: &Wanted, acme: &Acme, forced: bool) -> Done {
        let mut committed = None;
        let mut forced = forced;
        for _ in 0..ROUNDS {
            let (present, record) = match known(&self.store, &self.records, name) {
                Ok(known) => known,
                Err(error) => return self.look_again(error.report()),
            };
            let due = match std::mem::take(&mut forced) {
                // Who asks wants all names, now.
                true => Due::Order { why: Why::Asked, names: wanted.names.clone(), urgent: true },
                false => schedule::due(&wanted.names, acme, present.as_ref(), &record, self.now()),
            };
            let mut attempt = Attempt { run: self, name, acme, record, present };
            let kept = match due {
                Due::Ask { id } => attempt.ask(&id).await,
                Due::Order { .. } if committed.is_some() => break,
                Due::Order { why, names, urgent } => {
                    match attempt.run(Task { why, names, urgent }, &wanted.names).await {
                        Ok(done) => committed = Some(Done::Committed { generation: done.generation, meta: done.meta }),
                        Err(error) => {
                            let next = attempt.record.failure.as_ref();
                            let next = next.map_or(self.now(), |failure| schedule::next_attempt(failure, urgent));
                            return Done::Failed { error: error.report(), next };
                        }
                    }
                    Ok(())
                }
                Due::Wait { until, .. } => {
                    let error = attempt.record.failure.map(|failure| failure.error);
                    return committed.unwrap_or(Done::Waiting { until, error });
                }
                Due::Nothing { .. } => {
                    let tidied = attempt.tidy().await;
                    if let Err(error) = tidied {
                        return self.look_again(error.report());
                    }
                    break;
                }
            };
            if let Err(error) = kept {
                return self.look_again(AttemptError::from(error).report());
            }
        }
        committed.unwrap_or(Done::Fresh)
    }

    /// The disk failed us, not an authority.
    pub(super) fn look_again(&self, error: ErrorReport) -> Done {
        Done::Failed { error, next: self.now() + LOOK_AGAIN }
    }
}

impl Attempt<'_> {
    /// Nothing is due: nothing is left over either.
    async fn tidy(&mut self) -> Result<(), AttemptError> {
        if self.record.order.is_some() {
            self.give_up().await?;
        } else if self.run.records.key(self.name)?.is_some() {
            // The power went between the end of the order and that of its key.
            self.run.records.drop_key(self.name)?;
        }
        Ok(self.withdraw().await?)
    }
}
