//! One pass, top to bottom.
//!
//! # Guarantees
//!
//! Nothing is changed without an entry in the journal before. Success is said only after looking again.
//! A pass may be interrupted anywhere; the next one observes and plans anew.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use super::event::{Event, Events};
use super::execute::{Hands, Outcome, execute};
use super::journal::{Entry, Journal};
use super::observe::{Observation, observe, observe_only};
use super::plan::{Plan, Step, StepId, plan};
use crate::durable::{DurableError, HostLock};
use crate::host::Host;
use crate::model::report::{ErrorReport, Line, Report, Status};
use crate::model::{Generation, Kind, ResourceId};
use crate::resources::{self, About, AnyChange, ApplyError, Phase, Ready, Wanted};

/// What a pass is to bring about, and where it keeps its journal.
pub struct Target<'a> {
    pub generation: Generation,
    pub wanted: &'a [Wanted],
    /// Said in the report: what was decided before the pass.
    pub notes: Vec<String>,
    pub journal: &'a Path,
    pub at: jiff::Timestamp,
}

/// The outcome of a pass, with what the agent learns from.
pub struct Passed {
    pub report: Report,
    /// What was seen at the end.
    pub seen: Observation,
    /// Owners whose release was shown to be bad, and by what.
    pub condemned: BTreeMap<String, String>,
    /// Owners that were stopped for a change of their data which could not be made safe, and why: nothing was
    /// changed.
    pub put_off: BTreeMap<String, String>,
    /// Something is left to do that could not be planned before (a database whose server did not run),
    /// and nothing failed: another pass at once gets further.
    pub unfinished: bool,
}

struct HostHands<'a>(&'a Host);

impl Hands for HostHands<'_> {
    async fn apply(&self, on: &ResourceId, change: &AnyChange) -> Result<(), ApplyError> {
        resources::apply(self.0, &on.name, change).await
    }

    async fn apply_beside(&self, on: &ResourceId, change: &AnyChange, ready: Ready) -> Result<(), ApplyError> {
        resources::apply_beside(self.0, &on.name, change, ready).await
    }

    async fn apply_together(&self, all: &[(&ResourceId, &AnyChange)]) -> Vec<Result<(), ApplyError>> {
        let all: Vec<(&str, &AnyChange)> = all.iter().map(|(on, change)| (on.name.as_str(), *change)).collect();
        resources::apply_together(self.0, &all).await
    }
}

/// Looks and plans, and changes nothing.
pub async fn preview(host: &Host, wanted: &[Wanted]) -> Plan {
    plan(wanted, &observe(host, wanted).await)
}

/// Looks, and reports what differs without changing it.
pub async fn look(host: &Host, generation: Generation, wanted: &[Wanted]) -> Report {
    let begun = Instant::now();
    let seen = observe(host, wanted).await;
    let left = plan(wanted, &seen);
    Report {
        generation,
        converged: left.is_empty(),
        notes: Vec::new(),
        lines: lines(wanted, &seen, &Plan::default(), &BTreeMap::new(), &left),
        certificates: Vec::new(),
        backups: Vec::new(),
        duration_ms: begun.elapsed().as_millis().try_into().unwrap_or(u64::MAX),
    }
}

/// The lock is the proof that no other pass runs.
pub async fn run(
    host: &Host,
    target: Target<'_>,
    _lock: &HostLock,
    events: &dyn Events,
) -> Result<Passed, DurableError> {
    let begun = Instant::now();
    events.event(Event::Observing { resources: target.wanted.len() });
    let before = observe(host, target.wanted).await;
    let first = plan(target.wanted, &before);
    events.event(Event::Planned { steps: first.steps.len() });

    let (outcomes, left, seen) = if first.steps.is_empty() {
        (BTreeMap::new(), first.clone(), before)
    } else {
        let opened = Entry::Opened { generation: target.generation, at: target.at, steps: first.steps.len() };
        let mut journal = Journal::open(target.journal, opened)?;
        let outcomes = execute(&first, &HostHands(host), &mut journal, events).await?;
        let after = observe(host, target.wanted).await;
        let left = plan(target.wanted, &after);
        journal.closed(left.is_empty())?;
        (outcomes, left, after)
    };

    let condemned = condemned(&first, &outcomes);
    let put_off = put_off(&first, &outcomes);
    let failed = outcomes.values().any(|outcome| matches!(outcome, Outcome::Failed { .. }));
    let got_further = outcomes.values().any(|outcome| *outcome == Outcome::Done);
    let unfinished = got_further && !failed && left.steps.iter().any(|step| step.blocked_by.is_none());
    let report = Report {
        generation: target.generation,
        converged: left.is_empty(),
        notes: target.notes,
        lines: lines(target.wanted, &seen, &first, &outcomes, &left),
        certificates: Vec::new(),
        backups: Vec::new(),
        duration_ms: begun.elapsed().as_millis().try_into().unwrap_or(u64::MAX),
    };
    Ok(Passed { report, seen, condemned, put_off, unfinished })
}

/// Brings about what nobody else sees, looking at nothing else: what is not among `wanted` stays as it is. The
/// journal is its own, so no other pass is in its way.
pub async fn apart(
    host: &Host,
    wanted: &[Wanted],
    journal: &Path,
    at: jiff::Timestamp,
    events: &dyn Events,
) -> Result<Result<(), ErrorReport>, DurableError> {
    for _ in 0..APART_ROUNDS {
        let plan = plan(wanted, &observe_only(host, wanted).await);
        if let Some(error) = plan.unknown.values().chain(plan.refused.values()).next() {
            return Ok(Err(error.clone()));
        }
        if plan.steps.is_empty() {
            return Ok(Ok(()));
        }
        let opened = Entry::Opened { generation: Generation::default(), at, steps: plan.steps.len() };
        let mut journal = Journal::open(journal, opened)?;
        let outcomes = execute(&plan, &HostHands(host), &mut journal, events).await?;
        let failed = outcomes.into_values().find_map(|outcome| match outcome {
            Outcome::Failed { error, .. } => Some(error),
            Outcome::Done | Outcome::Blocked { .. } => None,
        });
        if let Some(error) = failed {
            return Ok(Err(error));
        }
    }
    Ok(Err(ErrorReport {
        code: "pass.endless".to_owned(),
        message: format!("it is not as wanted after {APART_ROUNDS} rounds"),
        causes: Vec::new(),
        hint: None,
    }))
}

/// Data of a backup is put in place in the first, and nothing is left to do in the last.
const APART_ROUNDS: u32 = 4;

/// Owners for which a step failed in a way that speaks about their release.
fn condemned(plan: &Plan, outcomes: &BTreeMap<StepId, Outcome>) -> BTreeMap<String, String> {
    let failed = plan.steps.iter().filter_map(|step| match (outcomes.get(&step.id), &step.owner) {
        (Some(Outcome::Failed { error, about: About::Release }), Some(owner)) => {
            Some((owner.clone(), format!("{}: {error}", step.on[0])))
        }
        _ => None,
    });
    failed.collect()
}

/// Owners whose setup failed after its services were stopped and before its data was touched.
fn put_off(plan: &Plan, outcomes: &BTreeMap<StepId, Outcome>) -> BTreeMap<String, String> {
    let before = plan.steps.iter().filter(|step| step.phase == Phase::Withdraw && step.on[0].kind == Kind::Setup);
    let failed = before.filter_map(|step| match (outcomes.get(&step.id), &step.owner) {
        (Some(Outcome::Failed { error, .. }), Some(owner)) => Some((owner.clone(), format!("{}: {error}", step.on[0]))),
        _ => None,
    });
    failed.collect()
}

/// One line a resource: what happened to it, and what is left.
fn lines(
    wanted: &[Wanted],
    seen: &Observation,
    first: &Plan,
    outcomes: &BTreeMap<StepId, Outcome>,
    left: &Plan,
) -> Vec<Line> {
    let owners: BTreeMap<&ResourceId, &Option<String>> = wanted.iter().map(|w| (&w.id, &w.owner)).collect();
    let mut ids: Vec<&ResourceId> = owners.keys().copied().chain(seen.seen.keys()).collect();
    ids.extend(first.steps.iter().flat_map(|step| &step.on));
    ids.extend(left.unknown.keys());
    ids.sort();
    ids.dedup();
    ids.into_iter()
        .filter_map(|id| {
            let owner = owners.get(id).and_then(|owner| (*owner).clone());
            let status = status(id, first, outcomes, left);
            // An orphan that needed nothing (a foreign account, say) is nobody's news.
            let news = owners.contains_key(id) || status != Status::InSync;
            news.then(|| Line { resource: id.clone(), owner, status })
        })
        .collect()
}

fn status(id: &ResourceId, first: &Plan, outcomes: &BTreeMap<StepId, Outcome>, left: &Plan) -> Status {
    if let Some(error) = left.unknown.get(id) {
        return Status::Unknown { error: error.clone() };
    }
    if let Some(error) = left.refused.get(id) {
        return Status::Refused { error: error.clone() };
    }
    let mine = || first.steps.iter().filter(|step| step.on.contains(id));
    for step in mine() {
        if let Some(Outcome::Failed { error, .. }) = outcomes.get(&step.id) {
            return Status::Failed { change: step.told_of_each(), error: error.clone() };
        }
    }
    for step in mine() {
        if let Some(Outcome::Blocked { by }) = outcomes.get(&step.id) {
            return Status::Blocked { by: by.clone() };
        }
    }
    let pending: Vec<String> = left.steps.iter().filter(|step| step.on.contains(id)).map(Step::told_of_each).collect();
    if !pending.is_empty() {
        return Status::Pending { changes: pending };
    }
    let done: Vec<String> = mine().map(Step::told_of_each).collect();
    if done.is_empty() { Status::InSync } else { Status::Changed { changes: done } }
}
