//! Does the steps of a plan, in order, one outcome each. Decides nothing: a step whose needs did not all
//! succeed is blocked, everything else is tried. Steps that go together and follow each other are tried at once.

use std::collections::BTreeMap;

use super::event::{Event, Events, Finished};
use super::journal::Journal;
use super::plan::{Plan, Step, StepId};
use crate::durable::DurableError;
use crate::model::ResourceId;
use crate::model::report::ErrorReport;
use crate::resources::{About, AnyChange, ApplyError, goes_together};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Done,
    Failed { error: ErrorReport, about: About },
    Blocked { by: ResourceId },
}

/// Whoever makes the changes: the host, or a script in tests.
pub trait Hands {
    fn apply(&self, on: &ResourceId, change: &AnyChange) -> impl Future<Output = Result<(), ApplyError>> + Send;

    /// The same for several that go together, an outcome each, in their order.
    fn apply_together(
        &self,
        all: &[(&ResourceId, &AnyChange)],
    ) -> impl Future<Output = Vec<Result<(), ApplyError>>> + Send;
}

/// Fails only if the journal cannot be written: then nothing more is done.
pub async fn execute(
    plan: &Plan,
    hands: &impl Hands,
    journal: &mut Journal,
    events: &dyn Events,
) -> Result<BTreeMap<StepId, Outcome>, DurableError> {
    let mut outcomes = BTreeMap::new();
    let mut rest = plan.steps.as_slice();
    while let [first, ..] = rest {
        let (group, after) = rest.split_at(together(rest, plan, &outcomes));
        rest = after;
        if let Some(by) = blocked(first, plan, &outcomes) {
            let outcome = Outcome::Blocked { by };
            events.event(Event::Finished { step: first.id + 1, on: names(first), outcome: told(&outcome) });
            outcomes.insert(first.id, outcome);
            continue;
        }
        for step in group {
            let (on, change) = (names(step), step.change.to_string());
            events.event(Event::Started { step: step.id + 1, of: plan.steps.len(), on, change });
            journal.started(step)?;
        }
        let done = match group {
            [one] => vec![hands.apply(&one.on[0], &one.change).await],
            _ => {
                let all: Vec<_> = group.iter().map(|step| (&step.on[0], &step.change)).collect();
                hands.apply_together(&all).await
            }
        };
        for (step, done) in group.iter().zip(done) {
            let outcome = match done {
                Ok(()) => Outcome::Done,
                Err(ApplyError { report, about }) => Outcome::Failed { error: report, about },
            };
            journal.finished(step.id, told(&outcome))?;
            events.event(Event::Finished { step: step.id + 1, on: names(step), outcome: told(&outcome) });
            outcomes.insert(step.id, outcome);
        }
    }
    Ok(outcomes)
}

/// How many of the first of these are tried at once: at least one. Whoever waits for another of them is not.
fn together(steps: &[Step], plan: &Plan, outcomes: &BTreeMap<StepId, Outcome>) -> usize {
    let free = |step: &&Step| goes_together(&step.change) && blocked(step, plan, outcomes).is_none();
    steps.iter().take_while(free).count().max(1)
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

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::engine::journal::Entry;
    use crate::model::{Digest, Generation};
    use crate::resources::{Phase, service, site};

    /// Writes down what it is asked to do, and fails at the sites that are called `bad`.
    #[derive(Default)]
    struct Scripted(Mutex<Vec<String>>);

    impl Scripted {
        fn one(on: &ResourceId) -> Result<(), ApplyError> {
            let error = ErrorReport { code: "x".into(), message: "no".into(), causes: Vec::new(), hint: None };
            if on.name == "bad" { Err(ApplyError { report: error, about: About::Release }) } else { Ok(()) }
        }
    }

    impl Hands for Scripted {
        async fn apply(&self, on: &ResourceId, _: &AnyChange) -> Result<(), ApplyError> {
            self.0.lock().unwrap().push(on.name.clone());
            Self::one(on)
        }

        async fn apply_together(&self, all: &[(&ResourceId, &AnyChange)]) -> Vec<Result<(), ApplyError>> {
            let names: Vec<&str> = all.iter().map(|(on, _)| on.name.as_str()).collect();
            self.0.lock().unwrap().push(names.join("+"));
            all.iter().map(|(on, _)| Self::one(on)).collect()
        }
    }

    struct Quiet;

    impl Events for Quiet {
        fn event(&self, _: Event) {}
    }

    fn step(id: StepId, on: &str, needs: &[StepId]) -> Step {
        let publish = || site::Change::Publish { text: "x".into(), digest: Digest::of("x"), replaces: false };
        let (on, change) = match on.split_once(':') {
            Some(_) => (on.to_owned(), AnyChange::Service(service::Change::Stop)),
            None => (format!("site:{on}"), AnyChange::Site(publish())),
        };
        let on = serde_json::from_value(serde_json::json!(on)).unwrap();
        Step { id, on: vec![on], owner: None, phase: Phase::Switch, change, needs: needs.to_vec(), blocked_by: None }
    }

    #[tokio::test]
    async fn what_goes_together_is_tried_at_once_unless_it_waits_for_another() {
        let steps = [
            ("a", vec![]),
            ("bad", vec![]),
            ("b", vec![]),
            ("c", vec![2]),
            ("service:x.service", vec![]),
            ("d", vec![]),
            ("e", vec![1]),
        ];
        let steps = steps.iter().enumerate().map(|(id, (on, needs))| step(id, on, needs)).collect();
        let plan = Plan { steps, ..Plan::default() };
        let directory = tempfile::tempdir().unwrap();
        let opened =
            Entry::Opened { generation: Generation(1), at: jiff::Timestamp::UNIX_EPOCH, steps: plan.steps.len() };
        let mut journal = Journal::open(directory.path(), opened).unwrap();
        let hands = Scripted::default();
        let outcomes = execute(&plan, &hands, &mut journal, &Quiet).await.unwrap();
        assert_eq!(*hands.0.lock().unwrap(), ["a+bad+b", "c", "x.service", "d"]);
        let is = |outcome: &Outcome| match outcome {
            Outcome::Done => "done".to_owned(),
            Outcome::Failed { .. } => "failed".to_owned(),
            Outcome::Blocked { by } => format!("blocked by {by}"),
        };
        let told: Vec<String> = outcomes.values().map(is).collect();
        assert_eq!(told, ["done", "failed", "done", "done", "done", "done", "blocked by site:bad"]);
        assert_eq!(Journal::interrupted(directory.path()).unwrap(), Vec::<String>::new());
    }
}
