//! Does the steps of a plan, one outcome each. Decides nothing: a step whose needs did not all succeed is
//! blocked, everything else is tried.
//!
//! Steps are begun in the order of the plan. Those that go on beside the others are begun before it is their turn, and
//! told when what they need is done; the steps that need them wait for them, and so does the end. Steps that go together
//! and follow each other are tried at once.

use std::collections::BTreeMap;
use std::pin::pin;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::oneshot;

use super::event::{Event, Events, Finished};
use super::journal::Journal;
use super::plan::{Plan, Step, StepId};
use crate::durable::DurableError;
use crate::model::ResourceId;
use crate::model::report::ErrorReport;
use crate::resources::{About, AnyChange, ApplyError, Ready, goes_together};

/// Steps that go on beside the others at one time: each may keep a core busy with unpacking.
const BESIDE: usize = 2;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Done,
    Failed { error: ErrorReport, about: About },
    Blocked { by: ResourceId },
}

/// Whoever makes the changes: the host, or a script in tests.
pub trait Hands: Sync {
    fn apply(&self, on: &ResourceId, change: &AnyChange) -> impl Future<Output = Result<(), ApplyError>> + Send;

    /// The same for one that goes on beside others. It is dropped if what it needs cannot be had.
    fn apply_beside(
        &self,
        on: &ResourceId,
        change: &AnyChange,
        ready: Ready,
    ) -> impl Future<Output = Result<(), ApplyError>> + Send;

    /// The same for several that go together, an outcome each, in their order.
    fn apply_together(
        &self,
        all: &[(&ResourceId, &AnyChange)],
    ) -> impl Future<Output = Vec<Result<(), ApplyError>>> + Send;
}

/// Fails only if the journal cannot be written: then nothing more is begun. Nothing goes on when it returns.
pub async fn execute(
    plan: &Plan,
    hands: &impl Hands,
    journal: &mut Journal,
    events: &dyn Events,
) -> Result<BTreeMap<StepId, Outcome>, DurableError> {
    let (outcomes, beside) = (BTreeMap::new(), FuturesUnordered::new());
    let mut run = Run { plan, journal, events, outcomes, beside, early: Vec::new() };
    let mut kept = run.all(hands).await;
    // What still waits for its turn will not have it.
    run.early.clear();
    while let Some((step, outcome)) = run.beside.next().await {
        kept = kept.and(run.finish(step, outcome));
    }
    kept.map(|()| run.outcomes)
}

struct Run<'a> {
    plan: &'a Plan,
    journal: &'a mut Journal,
    events: &'a dyn Events,
    outcomes: BTreeMap<StepId, Outcome>,
    beside: FuturesUnordered<BoxFuture<'a, (&'a Step, Outcome)>>,
    /// Those of them that wait for what they need.
    early: Vec<(&'a Step, oneshot::Sender<Turn>)>,
}

/// What a step learns when it is its turn: that it may go on, or what blocks it.
type Turn = Result<(), ResourceId>;

impl<'a> Run<'a> {
    async fn all(&mut self, hands: &'a impl Hands) -> Result<(), DurableError> {
        let mut ahead = self.plan.steps.iter().filter(|step| step.beside).peekable();
        let mut rest = self.plan.steps.as_slice();
        while let [step, ..] = rest {
            while let Some(early) = ahead.next_if(|early| early.id <= step.id || self.beside.len() < BESIDE) {
                self.begin(early, hands).await?;
            }
            let done = if step.beside { 1 } else { self.first(rest, hands).await? };
            rest = &rest[done..];
        }
        Ok(())
    }

    /// Begins a step that goes on beside the others.
    async fn begin(&mut self, step: &'a Step, hands: &'a impl Hands) -> Result<(), DurableError> {
        // What is under way needs only steps before this one, and whoever must wait here has done those.
        while self.beside.len() >= BESIDE {
            self.next_beside().await?;
        }
        if let Some(by) = self.blocked(step) {
            self.skip(step, by);
            return Ok(());
        }
        self.start(step)?;
        let (turn, told) = oneshot::channel();
        self.early.push((step, turn));
        self.beside.push(Box::pin(async move { (step, done_beside(hands, step, told).await) }));
        self.call_up();
        Ok(())
    }

    /// Does the first of these steps. Tells how many were done: those that go together with it are too.
    async fn first(&mut self, steps: &'a [Step], hands: &'a impl Hands) -> Result<usize, DurableError> {
        let step = &steps[0];
        while !self.beside.is_empty() && self.waits(step) {
            self.next_beside().await?;
        }
        if let Some(by) = self.blocked(step) {
            self.skip(step, by);
            return Ok(1);
        }
        let group = &steps[..self.together(steps)];
        group.iter().try_for_each(|step| self.start(step))?;
        let mut doing = pin!(all_done(hands, group));
        let mut kept = Ok(());
        let outcomes = loop {
            tokio::select! {
                biased;
                Some((other, outcome)) = self.beside.next() => kept = kept.and(self.finish(other, outcome)),
                // Whatever becomes of the journal: what was begun is not broken off.
                outcomes = &mut doing => break outcomes,
            }
        };
        kept?;
        group.iter().zip(outcomes).try_for_each(|(step, outcome)| self.finish(step, outcome))?;
        Ok(group.len())
    }

    fn start(&mut self, step: &Step) -> Result<(), DurableError> {
        let (on, change) = (names(step), step.change.to_string());
        self.events.event(Event::Started { step: step.id + 1, of: self.plan.steps.len(), on, change });
        self.journal.started(step)
    }

    async fn next_beside(&mut self) -> Result<(), DurableError> {
        match self.beside.next().await {
            Some((step, outcome)) => self.finish(step, outcome),
            None => Ok(()),
        }
    }

    /// How many of the first of these are tried at once: at least one. Whoever waits for another of them is not.
    fn together(&self, steps: &[Step]) -> usize {
        let free = |step: &&Step| goes_together(&step.change) && !self.waits(step) && self.blocked(step).is_none();
        steps.iter().take_while(free).count().max(1)
    }

    /// Something that the step needs is not finished.
    fn waits(&self, step: &Step) -> bool {
        step.needs.iter().any(|need| !self.outcomes.contains_key(need))
    }

    /// What failed of that which the step needs: the first cause, not the last link of the chain.
    fn blocked(&self, step: &Step) -> Option<ResourceId> {
        step.blocked_by.clone().or_else(|| {
            step.needs.iter().find_map(|need| match self.outcomes.get(need)? {
                Outcome::Done => None,
                Outcome::Blocked { by } => Some(by.clone()),
                Outcome::Failed { .. } => Some(self.plan.steps[*need].on[0].clone()),
            })
        })
    }

    /// Tells those that were begun early and wait no more.
    fn call_up(&mut self) {
        for (step, turn) in std::mem::take(&mut self.early) {
            if self.waits(step) {
                self.early.push((step, turn));
            } else {
                // One that failed before its turn does not listen.
                let _ = turn.send(self.blocked(step).map_or(Ok(()), Err));
            }
        }
    }

    fn skip(&mut self, step: &Step, by: ResourceId) {
        let outcome = Outcome::Blocked { by };
        self.tell(step, &outcome);
        self.outcomes.insert(step.id, outcome);
        self.call_up();
    }

    fn finish(&mut self, step: &Step, outcome: Outcome) -> Result<(), DurableError> {
        let kept = self.journal.finished(step.id, told(&outcome));
        self.tell(step, &outcome);
        self.outcomes.insert(step.id, outcome);
        self.call_up();
        kept
    }

    fn tell(&self, step: &Step, outcome: &Outcome) {
        self.events.event(Event::Finished { step: step.id + 1, on: names(step), outcome: told(outcome) });
    }
}

async fn done(hands: &impl Hands, step: &Step) -> Outcome {
    outcome(hands.apply(&step.on[0], &step.change).await)
}

async fn done_beside(hands: &impl Hands, step: &Step, turn: oneshot::Receiver<Turn>) -> Outcome {
    let (go, ready) = Ready::channel();
    let mut doing = pin!(hands.apply_beside(&step.on[0], &step.change, ready));
    tokio::select! {
        turn = turn => match turn {
            // One that does not listen has no need to wait.
            Ok(Ok(())) => drop(go.send(())),
            Ok(Err(by)) => return Outcome::Blocked { by },
            // Nothing more is begun.
            Err(_) => return Outcome::Blocked { by: step.on[0].clone() },
        },
        done = &mut doing => return outcome(done),
    }
    outcome(doing.await)
}

async fn all_done(hands: &impl Hands, group: &[Step]) -> Vec<Outcome> {
    if let [one] = group {
        return vec![done(hands, one).await];
    }
    let all: Vec<_> = group.iter().map(|step| (&step.on[0], &step.change)).collect();
    hands.apply_together(&all).await.into_iter().map(outcome).collect()
}

fn outcome(done: Result<(), ApplyError>) -> Outcome {
    match done {
        Ok(()) => Outcome::Done,
        Err(ApplyError { report, about }) => Outcome::Failed { error: report, about },
    }
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
mod tests;
