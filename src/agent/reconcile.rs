//! From the accepted document to the host, and back to what was learnt. Read [`bring_about`] first.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use super::ledger::{self, Ledger, LedgerError};
use super::outbox::{Outbox, OutboxError};
use super::secrets::{self, SecretError};
use crate::durable::{DurableError, HostLock, LockError};
use crate::engine::pass::{self, Passed};
use crate::engine::{Event, Events, Plan, consequence, journal::Journal};
use crate::host::{Host, Progress};
use crate::model::document::{self, Document, DriftPolicy, InstanceState};
use crate::model::problem::Problem;
use crate::model::report::{Report, Status};
use crate::model::{Name, ResourceId};
use crate::recipe::{self, Catalog, CompileProblem, Context, Facts, Recipe};
use crate::resources::release::{self, Origin};
use crate::resources::{AnyDesired, AnyObserved, Wanted, setup};
use crate::wire::message::Item;

/// Everything the agent works with. Time and randomness come from outside.
pub struct Agent {
    pub host: Host,
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

    /// A document in all its aspects: its own, what the recipes say to it, and what is installed here.
    pub fn check(&self, file: &str, text: &str) -> Result<Document, AgentError> {
        let mut ledger = Ledger::load(&self.state)?;
        ledger.accept_local(file, text, (self.now)());
        self.check_with(&ledger, file, text)
    }

    pub(super) fn check_with(&self, ledger: &Ledger, file: &str, text: &str) -> Result<Document, AgentError> {
        let document = document::parse(file, text).map_err(AgentError::Refused)?;
        let target = ledger.target(ledger.generation(), &document);
        let mut problems = self.resources(ledger, &target)?.err().unwrap_or_default();
        problems.extend(self.downgrades(ledger, &target));
        match problems.as_slice() {
            [] => Ok(document),
            _ => {
                let place = |path: &[String]| document::position_of(file, text, path);
                let mut problems: Vec<Problem> = problems
                    .into_iter()
                    .map(|p| Problem { at: place(&p.path), reason: p.reason, hint: p.hint })
                    .collect();
                problems.sort();
                Err(AgentError::Refused(problems))
            }
        }
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
        let document = self.check_with(&ledger, file, text)?;
        let target = ledger.target(ledger.generation(), &document);
        let wanted = self.compile(&ledger, &target)?;
        let plan = pass::preview(&self.host, &wanted).await;
        let notes = target.held_back.iter().map(|(name, why)| format!("{name}: {why}")).collect();
        Ok((plan, notes))
    }

    /// Accepts a document and brings it about.
    pub async fn apply(&self, file: &str, text: &str, events: &dyn Events) -> Result<Report, AgentError> {
        let lock = self.lock("socle agent apply")?;
        let mut ledger = Ledger::load(&self.state)?;
        let news = ledger.accept_local(file, text, (self.now)());
        self.check_with(&ledger, file, text)?;
        if news {
            // Durable before anything is done: from here on the document stands, whatever happens.
            ledger.store(&self.state, &lock)?;
        }
        self.bring_about(&mut ledger, &lock, events).await
    }

    /// Brings about what was accepted before.
    pub async fn reconcile(&self, events: &dyn Events) -> Result<Report, AgentError> {
        let lock = self.lock("socle agent run")?;
        let mut ledger = Ledger::load(&self.state)?;
        self.bring_about(&mut ledger, &lock, events).await
    }

    /// What the daemon does by itself: reconcile; or only look, if the document says `drift = "report"`.
    /// `None`: a failed pass is to be tried again only later, and nothing new happened.
    pub async fn tend(&self, events: &dyn Events, now: bool) -> Result<Option<Report>, AgentError> {
        let ledger = Ledger::load(&self.state)?;
        if !now && ledger.retry.as_ref().is_some_and(|retry| retry.not_before > (self.now)()) {
            return Ok(None);
        }
        let document = self.accepted(&ledger)?;
        if document.server.drift == DriftPolicy::Repair || ledger.brought_about != Some(ledger.generation()) {
            return self.reconcile(events).await.map(Some);
        }
        let target = ledger.target(ledger.generation(), &document);
        let wanted = self.compile(&ledger, &target)?;
        let report = pass::look(&self.host, ledger.generation(), &wanted).await;
        self.keep(&report, &ledger, &self.lock("socle agent run")?)?;
        Ok(Some(report))
    }

    /// Condemns the running form of an instance by the admin's word, and brings the last good one back.
    pub async fn rollback(&self, name: &Name, events: &dyn Events) -> Result<Report, AgentError> {
        let lock = self.lock("socle agent rollback")?;
        let mut ledger = Ledger::load(&self.state)?;
        let document = self.accepted(&ledger)?;
        let asked = document.instances.get(name).ok_or_else(|| AgentError::NoSuchInstance(name.clone()))?;
        if !ledger.go_back(name, asked, (self.now)()) {
            return Err(AgentError::NothingToGoBackTo(name.clone()));
        }
        ledger.store(&self.state, &lock)?;
        self.bring_about(&mut ledger, &lock, events).await
    }

    /// Passes until nothing new is learnt: a form was condemned and the last good one is to come back, or
    /// something could only be planned once its server ran. The first happens at most once an instance, the
    /// second is bounded by [`ROUNDS`].
    async fn bring_about(
        &self,
        ledger: &mut Ledger,
        lock: &HostLock,
        events: &dyn Events,
    ) -> Result<Report, AgentError> {
        let document = self.accepted(ledger)?;
        let generation = ledger.generation();
        let mut notes = self.interrupted()?;
        // What earlier rounds changed, for the one report.
        let mut earlier = BTreeMap::new();
        let mut rounds = 0;
        loop {
            ledger.forget_stale(&document);
            let target = ledger.target(generation, &document);
            let wanted = self.compile(ledger, &target)?;
            let pass = pass::Target {
                generation,
                wanted: &wanted,
                notes: notes.clone(),
                journal: &self.state,
                at: (self.now)(),
            };
            let passed = pass::run(&self.host, pass, lock, events).await.map_err(AgentError::Journal)?;
            let before = ledger.clone();
            let go_back = self.learn(ledger, &document, &target, &wanted, &passed, &mut notes);
            rounds += 1;
            if go_back || (passed.unfinished && rounds < ROUNDS) {
                ledger.store(&self.state, lock)?;
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
            report.notes.extend(target.held_back.iter().map(|(name, why)| format!("{name}: {why}")));
            ledger.note_outcome(generation, report.converged, (self.now)());
            if *ledger != before {
                ledger.store(&self.state, lock)?;
            }
            report.converged &= target.held_back.is_empty();
            self.keep(&report, ledger, lock)?;
            return Ok(report);
        }
    }

    /// Good, condemned, seen. True if something was condemned that can be brought back to a good form.
    fn learn(
        &self,
        ledger: &mut Ledger,
        asked: &Document,
        target: &ledger::Target,
        wanted: &[Wanted],
        passed: &Passed,
        notes: &mut Vec<String>,
    ) -> bool {
        let now = (self.now)();
        for w in wanted {
            match (&w.desired, passed.seen.seen.get(&w.id)) {
                (AnyDesired::Setup(desired), Some(Ok(AnyObserved::Setup(seen)))) if proven(desired, seen) => {
                    let instance = w.id.name.parse::<Name>().ok().and_then(|name| {
                        let instance = target.document.instances.get(&name)?;
                        // What stands still was asked nothing, so nothing is known of its form.
                        (instance.state == InstanceState::Running).then_some((name, instance))
                    });
                    if let Some((name, instance)) = instance {
                        ledger.praise(&name, instance, &desired.release, now);
                    }
                }
                (AnyDesired::Release(desired), Some(Ok(AnyObserved::Release(seen)))) => {
                    remember_source(ledger, desired, seen);
                }
                _ => {}
            }
        }
        let mut go_back = false;
        for (owner, reason) in &passed.condemned {
            let Ok(name) = owner.parse::<Name>() else { continue };
            let Some(asked) = asked.instances.get(&name) else { continue };
            if !target.held_back.contains_key(&name) && ledger.condemn(&name, asked, reason, now) {
                notes.push(format!("{name}: version {} failed, going back", asked.version));
                go_back = true;
            }
        }
        go_back
    }

    pub(super) fn accepted(&self, ledger: &Ledger) -> Result<Document, AgentError> {
        let accepted = ledger.accepted.as_ref().ok_or(AgentError::NothingAccepted)?;
        document::parse(&accepted.file, &accepted.text).map_err(AgentError::Refused)
    }

    /// Instances that are asked in an older version than their data, where their recipe says that this cannot
    /// be. Going back to the last good form is another matter: that brings its data back.
    fn downgrades(&self, ledger: &Ledger, target: &ledger::Target) -> Vec<CompileProblem> {
        let asked = target.document.instances.iter().filter(|(name, _)| !target.held_back.contains_key(name));
        asked
            .filter_map(|(name, instance)| {
                let good = ledger.good.get(name).filter(|good| good.instance.recipe == instance.recipe)?;
                let mut problem =
                    self.catalog.get(&instance.recipe)?.refuses(&good.instance.version, &instance.version)?;
                problem.path.splice(0..0, ["instances".to_owned(), name.to_string()]);
                Some(problem)
            })
            .collect()
    }

    /// The resources of a target that was checked before.
    pub(super) fn compile(&self, ledger: &Ledger, target: &ledger::Target) -> Result<Vec<Wanted>, AgentError> {
        self.resources(ledger, target)?.map_err(AgentError::Uncompilable)
    }

    fn resources(
        &self,
        ledger: &Ledger,
        target: &ledger::Target,
    ) -> Result<Result<Vec<Wanted>, Vec<CompileProblem>>, AgentError> {
        let mut secrets = BTreeMap::new();
        for (name, instance) in &target.document.instances {
            let mut of_instance = BTreeMap::new();
            for spec in self.catalog.get(&instance.recipe).map(Recipe::secrets).unwrap_or_default() {
                let value = match secrets::read(&self.state, name, &spec.name)? {
                    Some(value) => value,
                    None => recipe::secret::generate(spec.alphabet, spec.length, &mut |bytes| (self.random)(bytes)),
                };
                of_instance.insert(spec.name, value);
            }
            secrets.insert(name.clone(), of_instance);
        }
        let context = Context {
            facts: &self.facts,
            secrets: &secrets,
            keep: &target.keep,
            seen: &ledger.seen,
            python_index: self.python_index.as_deref(),
        };
        Ok(recipe::compile_document(&target.document, &self.catalog, &context))
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
        if self.state.join("fleet.json").exists() {
            self.outbox().put(Item::Report { report, position: ledger.position() }, (self.now)(), lock)?;
        }
        crate::durable::write(&path, &bytes, 0o600).map_err(AgentError::Report)
    }
}

/// Passes of one apply that may follow because more could be planned.
const ROUNDS: u32 = 3;

/// What an earlier round changed is told as changed, though this one found it in order.
fn tell_earlier(report: &mut Report, earlier: BTreeMap<ResourceId, Vec<String>>) {
    for line in &mut report.lines {
        let Some(before) = earlier.get(&line.resource) else { continue };
        match &mut line.status {
            Status::InSync => line.status = Status::Changed { changes: before.clone() },
            Status::Changed { changes } => changes.splice(0..0, before.iter().cloned()).for_each(drop),
            _ => {}
        }
    }
}

fn proven(desired: &setup::Desired, seen: &setup::Observed) -> bool {
    let installed = matches!(&seen.state, Some(setup::State::Installed { release }) if *release == desired.release);
    desired.present && installed && (desired.probes.is_empty() || seen.proven == Some(desired.proof))
}

/// Trust on first use: what a URL without a digest gave the first time is what it must give for ever.
fn remember_source(ledger: &mut Ledger, desired: &release::Desired, seen: &release::Observed) {
    let Some(spec) = &desired.spec else { return };
    let Origin::Archive { source, .. } = &spec.source else { return };
    if source.sha256.is_some() {
        return;
    }
    if let Some(Some(digest)) = seen.present.get(&spec.id()) {
        ledger.seen.entry(source.url.clone()).or_insert(*digest);
    }
}

/// Hands the ports' progress to whoever listens just now: the terminal, or one client of the door.
#[derive(Default)]
pub struct Relay(Mutex<Option<Arc<dyn Events>>>);

impl Relay {
    /// Until the guard is dropped.
    pub fn to(self: &Arc<Self>, events: Arc<dyn Events>) -> RelayGuard {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(events);
        RelayGuard(self.clone())
    }

    fn tell(&self, event: Event) {
        if let Some(events) = self.0.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            events.event(event);
        }
    }
}

impl Progress for Relay {
    fn say(&self, text: &str) {
        self.tell(Event::Said { text: text.to_owned() });
    }

    fn bytes(&self, done: u64, total: Option<u64>) {
        self.tell(Event::Bytes { done, total });
    }
}

pub struct RelayGuard(Arc<Relay>);

impl Drop for RelayGuard {
    fn drop(&mut self) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
