//! Does the steps of a plan, in order, one outcome each. Decides nothing: a step whose needs did not all
//! succeed is blocked, everything else is tried.

use std::collections::BTreeMap;

use super::event::{Event, Events, Finished};
use super::journal::Journal;
use super::plan::{Plan, Step, StepId};
use crate::durable::DurableError;
use crate::model::ResourceId;
use crate::model::report::ErrorReport;
use crate::resources::{About, AnyChange, ApplyError};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Done,
    Failed { error: ErrorReport, about: About },
    Blocked { by: ResourceId },
}

/// Whoever makes the changes: the host, or a script in tests.
pub trait Hands {
    fn apply(&self, on: &ResourceId, change: &AnyChange) -> impl Future<Output = Result<(), ApplyError>> + Send;
}

/// Fails only if the journal cannot be written: then nothing more is done.
pub async fn execute(
    plan: &Plan,
    hands: &impl Hands,
    journal: &mut Journal,
    events: &dyn Events,
) -> Result<BTreeMap<StepId, Outcome>, DurableError> {
    let mut outcomes = BTreeMap::new();
    for step in &plan.steps {
        let outcome = match blocked(step, plan, &outcomes) {
            Some(by) => Outcome::Blocked { by },
            None => {
                let (on, change) = (names(step), step.change.to_string());
                events.event(Event::Started { step: step.id + 1, of: plan.steps.len(), on, change });
                journal.started(step)?;
                let outcome = match hands.apply(&step.on[0], &step.change).await {
                    Ok(()) => Outcome::Done,
                    Err(ApplyError { report, about }) => Outcome::Failed { error: report, about },
                };
                journal.finished(step.id, told(&outcome))?;
                outcome
            }
        };
        events.event(Event::Finished { step: step.id + 1, on: names(step), outcome: told(&outcome) });
        outcomes.insert(step.id, outcome);
    }
    Ok(outcomes)
}

fn blocked(step: &Step, plan: &Plan, outcomes: &BTreeMap<StepId, Outcome>) -> Option<ResourceId> {
    step.blocked_by.clone().or_else(|| {
        let failed = step.needs.iter().find(|need| outcomes.get(need) != Some(&Outcome::Done))?;
        match outcomes.get(failed) {
            // The first cause, not the last link of the chain.
            Some(Outcome::Blocked { by }) => Some(by.clone()),
            _ => Some(plan.steps[*failed].on[0].clone()),
        }
    })
}

fn names(step: &Step) -> String {
    match step.on.as_slice() {
        [one] => one.to_string(),
        [first, rest @ ..] => format!("{first} and {} more", rest.len()),
        [] => String::new(),
    }
}

fn told(outcome: &Outcome) -> Finished {
    match outcome {
        Outcome::Done => Finished::Done,
        Outcome::Failed { error, .. } => Finished::Failed { error: error.clone() },
        Outcome::Blocked { by } => Finished::Blocked { by: by.to_string() },
    }
}
