//! One attempt to get one certificate: which authority is asked, what a failure means, what is cleaned up.

use super::budget::{Asked, Budget};
use super::error::{After, AttemptError};
use super::keeper::Run;
use super::order::Committed;
use super::record::{Failure, InProgress, Published, Record, RecordError};
use super::schedule::{self, Why};
use super::watch::Act;
use crate::durable;
use crate::host::authority::{About, Authority, AuthorityError};
use crate::host::certificates::key;
use crate::model::Name;
use crate::model::certificate::{Acme, CertifiedName, Limits, Meta, Origin};

/// An order that came to no end in this time is given up for another authority.
const STALE: jiff::SignedDuration = jiff::SignedDuration::from_hours(2);

pub(super) struct Attempt<'a> {
    pub run: &'a Run,
    pub name: &'a Name,
    pub acme: &'a Acme,
    pub record: Record,
    pub present: Option<Meta>,
}

/// What is ordered, and why.
#[derive(Debug, Clone)]
pub(super) struct Task {
    pub why: Why,
    pub names: Vec<CertifiedName>,
    pub urgent: bool,
}

/// Runs what blocks beside the others.
pub(super) async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

impl Attempt<'_> {
    pub async fn before(&self, act: Act) {
        self.run.parts.watch.before(self.name, &act).await;
    }

    /// The order under way.
    pub fn progress(&self) -> InProgress {
        self.record.order.clone().expect("an order is in the record before it is carried out")
    }

    /// The key of the order under way.
    pub fn key(&self) -> Result<String, RecordError> {
        Ok(self.run.records.key(self.name)?.unwrap_or_default())
    }

    /// Changes the record, on disk first for whatever follows.
    pub async fn change(&mut self, change: impl FnOnce(&mut Record)) -> Result<(), RecordError> {
        change(&mut self.record);
        let (records, name, record) = (self.run.records.clone(), self.name.clone(), self.record.clone());
        aside(move || records.keep(&name, &record)).await
    }

    /// Tries to get the certificate, and notes how it went. `wanted` are all names that are.
    pub async fn run(&mut self, task: Task, wanted: &[CertifiedName]) -> Result<Committed, AttemptError> {
        match self.try_all(&task, wanted).await {
            Ok(committed) => {
                self.before(Act::Settle).await;
                let whole = committed.meta.covers(wanted);
                self.change(|record| {
                    record.order = None;
                    if whole {
                        (record.failure, record.about) = (None, Vec::new());
                    }
                })
                .await?;
                self.run.records.drop_key(self.name)?;
                self.withdraw().await?;
                Ok(committed)
            }
            Err(error) => {
                self.note_failure(&error, wanted).await?;
                if self.record.order.is_none() {
                    self.withdraw().await?;
                }
                Err(error)
            }
        }
    }

    async fn try_all(&mut self, task: &Task, wanted: &[CertifiedName]) -> Result<Committed, AttemptError> {
        let mut authorities = self.acme.authorities.clone();
        let mut last = None;
        if let Some(order) = &self.record.order {
            let authority = order.authority.clone();
            if self.can_be_taken_up(order, task, wanted)? {
                match self.go_on(task).await {
                    Ok(committed) => return Ok(committed),
                    // The order is no more: a new one, at the same authority.
                    Err((None, error)) => last = Some(error),
                    Err((Some(After::Next), error)) => {
                        authorities.retain(|other| *other != authority);
                        last = Some(error);
                    }
                    Err((Some(After::Keep | After::Drop), error)) => return Err(error),
                }
            } else {
                self.give_up().await?;
            }
        }
        for authority in authorities {
            match self.try_one(&authority, task).await {
                Ok(committed) => return Ok(committed),
                Err((After::Next, error)) => {
                    tracing::info!(certificate = %self.name, "{error}");
                    last = Some(error);
                }
                Err((After::Keep | After::Drop, error)) => return Err(error),
            }
        }
        Err(last.unwrap_or_else(|| AttemptError::UnknownAuthority(self.name.clone())))
    }

    fn can_be_taken_up(&self, order: &InProgress, task: &Task, wanted: &[CertifiedName]) -> Result<bool, RecordError> {
        let described = self.run.settings.authorities.get(&order.authority);
        let same = |names: &[CertifiedName]| {
            names.len() == order.names.len() && names.iter().all(|name| order.names.contains(name))
        };
        // A certificate for a key that is gone helps nobody.
        let key = self.run.records.key(self.name)?;
        Ok(self.acme.authorities.contains(&order.authority)
            && described.is_some_and(|authority| authority.directory == order.directory)
            && order.key == self.acme.key
            && key.is_some_and(|key| key::request(&key, &order.names).is_ok())
            && (same(wanted) || same(&task.names)))
    }

    /// Takes the order of the record up again. `None` in the error: it is lost, and another one is to be made now. The
    /// authority does not know it any more; or it looked for the proof while nobody here could show it, as after a power
    /// cut, and what it found says nothing about the names.
    async fn go_on(&mut self, task: &Task) -> Result<Committed, (Option<After>, AttemptError)> {
        let order = self.progress();
        let result = match self.run.authority(&order.authority) {
            Ok(authority) => self.carry_out(&*authority).await,
            Err(error) => Err(error),
        };
        let error = match result {
            Ok(committed) => return Ok(committed),
            Err(error) => error,
        };
        let lost =
            matches!(&error, AttemptError::Authority(AuthorityError::NotFound { .. }) | AttemptError::Invalid { .. });
        let after = self.after(&error, task);
        if lost || after != After::Keep {
            self.give_up().await.map_err(|error| (Some(After::Keep), error))?;
        }
        Err((if lost { None } else { Some(after) }, error))
    }

    async fn try_one(&mut self, authority: &Name, task: &Task) -> Result<Committed, (After, AttemptError)> {
        let began = self.begin(authority, task).await;
        let result = match began {
            Ok(port) => self.carry_out(&*port).await,
            Err(error) => Err(error),
        };
        let error = match result {
            Ok(committed) => return Ok(committed),
            Err(error) => error,
        };
        let after = self.after(&error, task);
        if after != After::Keep && self.record.order.is_some() {
            self.give_up().await.map_err(|error| (After::Keep, error))?;
        }
        Err((after, error))
    }

    fn after(&self, error: &AttemptError, task: &Task) -> After {
        let url = self.record.order.as_ref().filter(|order| order.url.is_some());
        let others = self.acme.authorities.len() > 1;
        let old = url.is_some_and(|order| order.begun + STALE < self.run.now());
        match error.after(url.is_some()) {
            After::Keep if url.is_some() && others && (task.urgent || old) => After::Next,
            After::Keep if old && matches!(error, AttemptError::Pending { .. }) => After::Next,
            after => after,
        }
    }

    /// Checks, and writes down what is about to be ordered.
    async fn begin(&mut self, name: &Name, task: &Task) -> Result<std::sync::Arc<dyn Authority>, AttemptError> {
        let described = self.run.settings.authorities.get(name);
        let described = described.ok_or_else(|| AttemptError::UnknownAuthority(name.clone()))?;
        let authority = self.run.authority(name)?;
        let about = authority.about().await?;
        let profile = self.profile(name, &about)?;
        let names = self.checked(task, &about).await?;
        let replaces = self.replaces(name, &names, &about);
        let asked = Asked { names: &names, exempt: replaces.is_some(), urgent: task.urgent };
        let begun = self.run.spend(name, asked, &described.limits).await?;
        self.before(Act::MakeKey).await;
        let kind = self.acme.key;
        let pem = aside(move || key::generate(kind)).await?;
        self.run.records.keep_key(self.name, &pem)?;
        let order = InProgress {
            authority: name.clone(),
            directory: described.directory.clone(),
            names,
            profile,
            replaces,
            key: kind,
            begun,
            url: None,
            finalized: false,
        };
        self.change(|record| record.order = Some(order)).await?;
        Ok(authority)
    }

    fn profile(&self, authority: &Name, about: &About) -> Result<Option<String>, AttemptError> {
        match &self.acme.profile {
            Some(profile) if about.profiles.is_empty() => {
                tracing::info!(%authority, "has no profiles, `{profile}` is not asked for");
                Ok(None)
            }
            Some(profile) if !about.profiles.contains_key(profile) => {
                let known = about.profiles.keys().map(|known| format!("`{known}`")).collect::<Vec<_>>().join(", ");
                Err(AttemptError::Profile { authority: authority.clone(), profile: profile.clone(), known })
            }
            profile => Ok(profile.clone()),
        }
    }

    /// The names that can be proven as far as this server can see.
    async fn checked(&self, task: &Task, about: &About) -> Result<Vec<CertifiedName>, AttemptError> {
        self.before(Act::Check).await;
        let problems = self.run.parts.check.check(&task.names, &self.acme.challenge, about).await;
        if problems.is_empty() {
            return Ok(task.names.clone());
        }
        let bad = |name: &CertifiedName| problems.iter().any(|problem| problem.name == *name);
        let rest: Vec<CertifiedName> = task.names.iter().filter(|name| !bad(name)).cloned().collect();
        let trusted = self.present.as_ref().filter(|meta| meta.source == Origin::Acme);
        let better = task.why != Why::Names || !trusted.is_some_and(|meta| meta.covers(&rest));
        if rest.is_empty() || !better { Err(AttemptError::Check(problems)) } else { Ok(rest) }
    }

    /// The certificate that is replaced, if this authority wants to know.
    fn replaces(&self, authority: &Name, names: &[CertifiedName], about: &About) -> Option<String> {
        let meta = self.present.as_ref().filter(|meta| meta.authority.as_ref() == Some(authority))?;
        let shared = meta.names.iter().any(|name| names.contains(name));
        meta.renewal_id.clone().filter(|_| about.renewal_info && shared)
    }

    async fn note_failure(&mut self, error: &AttemptError, wanted: &[CertifiedName]) -> Result<(), RecordError> {
        let now = self.run.now();
        let before = self.record.failure.take().filter(|_| self.record.about == wanted);
        let mut blamed = error.blamed(wanted);
        if blamed.is_empty()
            && let Some(before) = &before
        {
            blamed.clone_from(&before.blamed);
        }
        let failure = Failure {
            count: before.map_or(0, |before| before.count) + 1,
            at: now,
            error: error.report(),
            retry_after_s: error.retry_after_s(now),
            own_check: matches!(error, AttemptError::Check(_) | AttemptError::Full { .. }),
            blamed,
        };
        self.change(|record| (record.failure, record.about) = (Some(failure), wanted.to_vec())).await
    }

    /// Forgets the order under way. What it published is withdrawn later, or with the next one.
    pub async fn give_up(&mut self) -> Result<(), AttemptError> {
        if let Some(order) = self.record.order.clone().filter(|order| !order.finalized) {
            self.run.refund(&order).await?;
        }
        self.change(|record| record.order = None).await?;
        Ok(self.run.records.drop_key(self.name)?)
    }

    /// Withdraws what proved control of the names. What cannot be withdrawn now stays noted.
    pub async fn withdraw(&mut self) -> Result<(), RecordError> {
        if self.record.published.is_empty() {
            return Ok(());
        }
        self.before(Act::Withdraw).await;
        let mut left = Vec::new();
        for one in self.record.published.clone() {
            if let Err(why) = self.withdraw_one(&one).await {
                tracing::warn!(certificate = %self.name, "a proof could not be withdrawn: {why}");
                left.push(one);
            }
        }
        if left == self.record.published {
            return Ok(());
        }
        self.change(|record| record.published = left).await
    }

    async fn withdraw_one(&self, one: &Published) -> Result<(), String> {
        match one {
            Published::File { token } => {
                durable::remove(&self.run.parts.challenges.join(token)).map_err(|error| error.to_string())
            }
            Published::Record { provider, domain, value } => {
                // A provider that is not described any more cannot be told, today or ever.
                let Some(described) = self.run.settings.providers.get(provider) else { return Ok(()) };
                self.run.parts.dns.withdraw(described, domain, value).await.map_err(|error| error.report().to_string())
            }
        }
    }

    /// Asks when the present certificate is to be renewed.
    pub async fn ask(&mut self, id: &str) -> Result<(), RecordError> {
        let Some(meta) = self.present.clone() else { return Ok(()) };
        let Some(name) = meta.authority.clone() else { return Ok(()) };
        self.before(Act::AskRenewal { authority: name.clone() }).await;
        let told = match self.run.authority(&name) {
            Ok(authority) => authority.renewal_info(id).await.map_err(AttemptError::from),
            Err(error) => Err(error),
        };
        let (now, old) = (self.run.now(), self.record.renewal.as_ref());
        let renewal = match told {
            Ok(told) => schedule::take(old, &meta, told.as_ref(), now, (self.run.parts.random)()),
            Err(error) => {
                tracing::info!(certificate = %self.name, "cannot ask when to renew: {error}");
                schedule::not_told(old, &meta, now)
            }
        };
        self.change(|record| record.renewal = Some(renewal)).await
    }
}

impl Run {
    /// Writes an order down before it is made, if the limits allow it, and gives the time it is known by. One caller
    /// at a time.
    pub async fn spend(&self, name: &Name, asked: Asked<'_>, limits: &Limits) -> Result<jiff::Timestamp, AttemptError> {
        let now = self.now();
        self.change_budget(name, |budget| {
            budget.allows(asked, limits, now).map_err(|full| AttemptError::Full { authority: name.clone(), full })?;
            budget.note(asked, now);
            Ok(now)
        })
        .await
    }

    async fn refund(&self, order: &InProgress) -> Result<(), AttemptError> {
        self.change_budget(&order.authority, |budget| {
            budget.came_to_nothing(&order.names, order.begun);
            Ok(())
        })
        .await
    }

    async fn change_budget<T>(
        &self,
        name: &Name,
        change: impl FnOnce(&mut Budget) -> Result<T, AttemptError>,
    ) -> Result<T, AttemptError> {
        let mut budgets = self.budgets.lock().await;
        let directory = self.accounts.join(name.as_str());
        let mut budget = match budgets.get(name) {
            Some(budget) => Budget::clone(budget),
            None => Budget::load(&directory, name)?,
        };
        let changed = change(&mut budget)?;
        let (kept, owner) = (budget.clone(), name.clone());
        aside(move || kept.keep(&directory, &owner)).await?;
        budgets.insert(name.clone(), budget);
        Ok(changed)
    }
}
