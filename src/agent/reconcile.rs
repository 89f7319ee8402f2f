//! From the accepted document to the host, and back to what was learnt. Read [`bring_about`] first.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::enrolment::{EnrolError, Membership};
use super::learn::tell_earlier;
use super::ledger::{Ledger, LedgerError};
use super::outbox::{Outbox, OutboxError};
use super::relay::Relay;
use super::secrets::SecretError;
use super::target::Checked;
use crate::durable::{DurableError, HostLock, LockError};
use crate::engine::{Events, Plan, consequence, journal::Journal, pass};
use crate::host::Host;
use crate::host::vault::Vault;
use crate::model::Name;
use crate::model::document::DriftPolicy;
use crate::model::problem::Problem;
use crate::model::report::{Report, Status};
use crate::recipe::{Catalog, CompileProblem, Facts};
use crate::wire::message::Item;

/// Everything the agent works with. Time and randomness come from outside.
pub struct Agent {
    pub host: Host,
    /// Where backups are kept.
    pub vault: Arc<dyn Vault>,
    /// `/var/lib/socle`
    pub state: PathBuf,
    pub catalog: Catalog,
    pub facts: Facts,
    /// Where pip takes packages from, if not from where it is configured to.
    pub python_index: Option<String>,
    /// Seconds between two looks of the daemon.
    pub interval_s: u32,
    /// Where the ports' progress goes.
    pub progress: Arc<Relay>,
    pub now: fn() -> jiff::Timestamp,
    pub random: fn(&mut [u8]),
}

#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    #[error("{} problem(s) in the document", .0.len())]
    Refused(Vec<Problem>),
    /// What was accepted once and is refused now: a recipe changed since.
    #[error("the accepted document cannot be brought about: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Uncompilable(Vec<CompileProblem>),
    #[error("no document was accepted yet")]
    NothingAccepted,
    #[error("there is no instance `{0}`")]
    NoSuchInstance(Name),
    #[error("`{0}` is wanted by the accepted document")]
    StillWanted(Name),
    #[error("`{0}` has no earlier good form to go back to")]
    NothingToGoBackTo(Name),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error("cannot keep the journal")]
    Journal(#[source] DurableError),
    #[error("cannot keep the report")]
    Report(#[source] DurableError),
    #[error("cannot take up a restore")]
    Restore(#[source] DurableError),
    #[error("the note `{path}` of a restore is damaged")]
    RestoreDamaged { path: PathBuf, source: serde_json::Error },
    #[error("cannot look in `{0}` for what a backup left")]
    LeftByBackup(PathBuf, #[source] std::io::Error),
    #[error("the note `{path}` of what a backup had stand still is damaged")]
    StillDamaged { path: PathBuf, source: serde_json::Error },
    #[error(transparent)]
    Identity(#[from] EnrolError),
    #[error(transparent)]
    Outbox(#[from] OutboxError),
    #[error("cannot make the state directory `{0}`")]
    State(PathBuf, #[source] std::io::Error),
}

impl Agent {
    pub fn lock(&self, me: &str) -> Result<HostLock, AgentError> {
        use std::os::unix::fs::DirBuilderExt;
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.state)
            .map_err(|error| AgentError::State(self.state.clone(), error))?;
        Ok(HostLock::take(&self.state.join("lock"), &format!("{me}, PID {}", std::process::id()))?)
    }

    /// What an apply of this document would do, as it is shown. Writes nothing.
    pub async fn plan(&self, file: &str, text: &str) -> Result<consequence::Preview, AgentError> {
        let (plan, notes) = self.steps(file, text).await?;
        Ok(consequence::preview(&self.host, &plan, notes).await)
    }

    /// The same, as it would be executed.
    pub async fn steps(&self, file: &str, text: &str) -> Result<(Plan, Vec<String>), AgentError> {
        let mut ledger = Ledger::load(&self.state)?;
        ledger.accept_local(file, text, (self.now)());
        let Checked { target, wanted, .. } = self.check_with(&ledger, file, text)?;
        let plan = pass::preview(&self.host, &wanted).await;
        let notes = target.held_back.iter().map(|(name, why)| format!("{name}: {why}")).collect();
        Ok((plan, notes))
    }

    /// Accepts a document and brings it about.
    pub async fn apply(&self, file: &str, text: &str, events: &dyn Events) -> Result<Report, AgentError> {
        let lock = self.lock("socle agent apply")?;
        let mut notes = self.wake_left(&lock).await?.notes();
        let mut ledger = Ledger::load(&self.state)?;
        notes.extend(self.take_up_restores(&mut ledger, &lock)?);
        let news = ledger.accept_local(file, text, (self.now)());
        let checked = self.check_with(&ledger, file, text)?;
        if news {
            // Durable before anything is done: from here on the document stands, whatever happens.
            ledger.store(&self.state, &lock)?;
        }
        self.bring_about(&mut ledger, checked, notes, &lock, events).await
    }

    /// Brings about what was accepted before.
    pub async fn reconcile(&self, events: &dyn Events) -> Result<Report, AgentError> {
        let lock = self.lock("socle agent run")?;
        let mut notes = self.wake_left(&lock).await?.notes();
        let mut ledger = Ledger::load(&self.state)?;
        notes.extend(self.take_up_restores(&mut ledger, &lock)?);
        let checked = self.checked(&ledger)?;
        self.bring_about(&mut ledger, checked, notes, &lock, events).await
    }

    /// What the daemon does by itself: reconcile; or only look, if the document says `drift = "report"`.
    /// `None`: a failed pass is to be tried again only later, and nothing new happened.
    pub async fn tend(&self, events: &dyn Events, now: bool) -> Result<Option<Report>, AgentError> {
        if !self.left_still()?.is_empty() {
            // Held by a backup that lives: it starts them itself.
            if let Ok(lock) = self.lock("socle agent run") {
                self.wake_left(&lock).await?;
            }
        }
        let ledger = Ledger::load(&self.state)?;
        if !now && ledger.retry.as_ref().is_some_and(|retry| retry.not_before > (self.now)()) {
            return Ok(None);
        }
        let document = self.accepted(&ledger)?;
        if document.server.drift == DriftPolicy::Repair || ledger.brought_about != Some(ledger.generation()) {
            return self.reconcile(events).await.map(Some);
        }
        let Checked { wanted, document, .. } = self.checked(&ledger)?;
        let mut report = pass::look(&self.host, ledger.generation(), &wanted).await;
        report.certificates = self.standings(&document);
        report.backups = self.backup_standings(&document, ledger.accepted.as_ref().map(|accepted| accepted.at));
        self.keep(&report, &ledger, &self.lock("socle agent run")?)?;
        Ok(Some(report))
    }

    /// Condemns the running form of an instance by the admin's word, and brings the last good one back.
    pub async fn rollback(&self, name: &Name, events: &dyn Events) -> Result<Report, AgentError> {
        let lock = self.lock("socle agent rollback")?;
        let notes = self.wake_left(&lock).await?.notes();
        let mut ledger = Ledger::load(&self.state)?;
        let document = self.accepted(&ledger)?;
        let asked = document.instances.get(name).ok_or_else(|| AgentError::NoSuchInstance(name.clone()))?;
        if !ledger.go_back(name, asked, (self.now)()) {
            return Err(AgentError::NothingToGoBackTo(name.clone()));
        }
        ledger.store(&self.state, &lock)?;
        let checked = self.checked(&ledger)?;
        self.bring_about(&mut ledger, checked, notes, &lock, events).await
    }

    /// Passes until nothing new is learnt: a form was condemned and the last good one is to come back; a change
    /// could not be made safe, and what was stopped for it is to run again; or something could only be planned
    /// once its server ran. The first two happen at most once an instance, the third is bounded by [`ROUNDS`].
    async fn bring_about(
        &self,
        ledger: &mut Ledger,
        checked: Checked,
        mut notes: Vec<String>,
        lock: &HostLock,
        events: &dyn Events,
    ) -> Result<Report, AgentError> {
        let Checked { document, mut target, mut wanted } = checked;
        let generation = ledger.generation();
        notes.extend(self.interrupted()?);
        let mut stored = ledger.clone();
        ledger.forget_stale(&document);
        // What earlier rounds changed, for the one report.
        let mut earlier = BTreeMap::new();
        let mut rounds = 0;
        // What could not be made safe, and is not begun again in this pass.
        let mut put_off: BTreeMap<Name, String> = BTreeMap::new();
        loop {
            let pass = pass::Target {
                generation,
                wanted: &wanted,
                notes: notes.clone(),
                journal: &self.state,
                at: (self.now)(),
            };
            let passed = pass::run(&self.host, pass, lock, events).await.map_err(AgentError::Journal)?;
            let go_back = self.learn(ledger, &document, &target, &wanted, &passed, &mut notes);
            let known = put_off.len();
            put_off.extend(passed.put_off.iter().filter_map(|(owner, why)| Some((owner.parse().ok()?, why.clone()))));
            let mut next = ledger.target(generation, &document);
            put_off.retain(|name, why| ledger.put_off(&mut next, name, why));
            rounds += 1;
            if go_back || put_off.len() > known || (passed.unfinished && rounds < ROUNDS) {
                ledger.store(&self.state, lock)?;
                stored = ledger.clone();
                target = next;
                wanted = self.compile(ledger, &target)?;
                for line in passed.report.lines {
                    if let Status::Changed { changes } = line.status {
                        earlier.entry(line.resource).or_insert_with(Vec::new).extend(changes);
                    }
                }
                continue;
            }
            let mut report = passed.report;
            tell_earlier(&mut report, earlier);
            report.notes = notes;
            report.certificates = self.standings(&document);
            report.backups = self.backup_standings(&document, ledger.accepted.as_ref().map(|accepted| accepted.at));
            report.notes.extend(target.held_back.iter().map(|(name, why)| format!("{name}: {why}")));
            ledger.note_outcome(generation, report.converged && put_off.is_empty(), (self.now)());
            if *ledger != stored {
                ledger.store(&self.state, lock)?;
            }
            report.converged &= target.held_back.is_empty();
            self.keep(&report, ledger, lock)?;
            return Ok(report);
        }
    }

    fn interrupted(&self) -> Result<Vec<String>, AgentError> {
        let open = Journal::interrupted(&self.state).map_err(AgentError::Journal)?;
        Ok(open.into_iter().map(|what| format!("the last pass was interrupted at: {what}")).collect())
    }

    pub fn outbox(&self) -> Outbox {
        Outbox::new(&self.state)
    }

    /// The last report, for `status` and the controller. Written only when it says something new.
    fn keep(&self, report: &Report, ledger: &Ledger, lock: &HostLock) -> Result<(), AgentError> {
        let path = self.state.join("report.json");
        let old = crate::durable::read(&path).map_err(AgentError::Report)?;
        let report = Report { duration_ms: 0, ..report.clone() };
        let bytes = serde_json::to_vec_pretty(&report).expect("a report is plain data");
        if old.as_deref() == Some(&bytes[..]) {
            return Ok(());
        }
        // To the controller first: if we end in between, it is told twice, not never.
        if Membership::is_there(&self.state)? {
            self.outbox().put(Item::Report { report, position: ledger.position() }, (self.now)(), lock)?;
        }
        crate::durable::write(&path, &bytes, 0o600).map_err(AgentError::Report)
    }
}

/// Passes of one apply that may follow because more could be planned.
const ROUNDS: u32 = 3;
