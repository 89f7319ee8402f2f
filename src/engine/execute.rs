//! Does the steps of a plan, one outcome each. Decides nothing: a step whose needs did not all succeed is
//! blocked, everything else is tried.
//!
//! Steps are begun in the order of the plan, but what goes on beside the others as soon as what it needs is done. The
//! steps that need it wait for it, and so does the end. Steps that go together and follow each other are tried at once.

use std::collections::BTreeMap;
use std::pin::pin;
use std::slice;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;

use super::event::{Event, Events, Finished};
use super::journal::Journal;
use super::plan::{Plan, Step, StepId};
use crate::durable::DurableError;
use crate::model::ResourceId;
use crate::model::report::ErrorReport;
use crate::resources::{About, AnyChange, ApplyError, goes_together};

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
    let mut run = Run { plan, journal, events, outcomes: BTreeMap::new(), beside: FuturesUnordered::new() };
    let mut kept = run.all(hands).await;
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
}

impl<'a> Run<'a> {
    async fn all(&mut self, hands: &'a impl Hands) -> Result<(), DurableError> {
        let mut ahead = self.plan.steps.iter().filter(|step| step.beside).peekable();
        let mut rest = self.plan.steps.as_slice();
        while let [step, ..] = rest {
            while let Some(early) = ahead.next_if(|early| early.id <= step.id || self.could_begin(early)) {
                self.first(slice::from_ref(early), hands).await?;
            }
            let done = if step.beside { 1 } else { self.first(rest, hands).await? };
            rest = &rest[done..];
        }
        Ok(())
    }

    fn could_begin(&self, step: &Step) -> bool {
        self.beside.len() < BESIDE && step.needs.iter().all(|need| self.outcomes.contains_key(need))
    }

    /// Does the first of these steps, or begins it if it goes on beside the others. Tells how many were done: those
    /// that go together with it are too.
    async fn first(&mut self, steps: &'a [Step], hands: &'a impl Hands) -> Result<usize, DurableError> {
        let step = &steps[0];
        while self.goes_on_for(step) || (step.beside && self.beside.len() >= BESIDE) {
            if let Some((other, outcome)) = self.beside.next().await {
                self.finish(other, outcome)?;
            }
        }
        if let Some(by) = blocked(step, self.plan, &self.outcomes) {
            self.tell(step, &Outcome::Blocked { by: by.clone() });
            self.outcomes.insert(step.id, Outcome::Blocked { by });
            return Ok(1);
        }
        let group = &steps[..self.together(steps)];
        for step in group {
            let (on, change) = (names(step), step.change.to_string());
            self.events.event(Event::Started { step: step.id + 1, of: self.plan.steps.len(), on, change });
            self.journal.started(step)?;
        }
        if step.beside {
            self.beside.push(Box::pin(async move { (step, done(hands, step).await) }));
            return Ok(1);
        }
        let mut doing = pin!(all_done(hands, group));
        let outcomes = loop {
            tokio::select! {
                biased;
                Some((other, outcome)) = self.beside.next() => self.finish(other, outcome)?,
                outcomes = &mut doing => break outcomes,
            }
        };
        group.iter().zip(outcomes).try_for_each(|(step, outcome)| self.finish(step, outcome))?;
        Ok(group.len())
    }

    /// How many of the first of these are tried at once: at least one. Whoever waits for another of them is not.
    fn together(&self, steps: &[Step]) -> usize {
        let free = |step: &&Step| goes_together(&step.change) && blocked(step, self.plan, &self.outcomes).is_none();
        steps.iter().take_while(free).count().max(1)
    }

    /// Something that the step needs is not finished.
    fn goes_on_for(&self, step: &Step) -> bool {
        !self.beside.is_empty() && step.needs.iter().any(|need| !self.outcomes.contains_key(need))
    }

    fn finish(&mut self, step: &Step, outcome: Outcome) -> Result<(), DurableError> {
        let kept = self.journal.finished(step.id, told(&outcome));
        self.tell(step, &outcome);
        self.outcomes.insert(step.id, outcome);
        kept
    }

    fn tell(&self, step: &Step, outcome: &Outcome) {
        self.events.event(Event::Finished { step: step.id + 1, on: names(step), outcome: told(outcome) });
    }
}

async fn done(hands: &impl Hands, step: &Step) -> Outcome {
    outcome(hands.apply(&step.on[0], &step.change).await)
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

    use tokio::sync::Semaphore;

    use super::*;
    use crate::engine::Silent;
    use crate::engine::journal::Entry;
    use crate::model::{Digest, Generation};
    use crate::resources::{Phase, directory, release, site};

    /// Writes down what begins and ends. What is fetched ends when it is let.
    #[derive(Default)]
    struct Script {
        story: Mutex<Vec<String>>,
        most: Mutex<(usize, usize)>,
        go: Option<Semaphore>,
        fails: Option<&'static str>,
    }

    impl Script {
        fn say(&self, text: String) {
            self.story.lock().unwrap().push(text);
        }

        fn story(&self) -> Vec<String> {
            self.story.lock().unwrap().clone()
        }
    }

    impl Hands for Script {
        async fn apply(&self, on: &ResourceId, change: &AnyChange) -> Result<(), ApplyError> {
            self.say(format!("{} begins", on.name));
            if let AnyChange::Release(_) = change {
                {
                    let mut most = self.most.lock().unwrap();
                    most.0 += 1;
                    most.1 = most.1.max(most.0);
                }
                if let Some(go) = &self.go {
                    go.acquire().await.unwrap().forget();
                }
                self.most.lock().unwrap().0 -= 1;
            } else if let Some(go) = &self.go {
                go.add_permits(1);
                tokio::task::yield_now().await;
            }
            self.say(format!("{} ends", on.name));
            match self.fails == Some(on.name.as_str()) {
                true => Err(ApplyError::host("test.failed", &std::io::Error::other("as told"), None)),
                false => Ok(()),
            }
        }

        async fn apply_together(&self, all: &[(&ResourceId, &AnyChange)]) -> Vec<Result<(), ApplyError>> {
            let names: Vec<&str> = all.iter().map(|(on, _)| on.name.as_str()).collect();
            self.say(format!("together: {}", names.join(" ")));
            let mut done = Vec::new();
            for (on, change) in all {
                done.push(self.apply(on, change).await);
            }
            done
        }
    }

    fn steps(all: &[(&str, bool, &[StepId])]) -> Plan {
        let step = |(id, (name, beside, needs)): (usize, &(&str, bool, &[StepId]))| {
            let change = match beside {
                true => AnyChange::Release(release::Change::Deactivate),
                false if name.starts_with("site") => {
                    AnyChange::Site(site::Change::Publish { text: "".into(), digest: Digest::of(""), replaces: false })
                }
                false => AnyChange::Directory(directory::Change::Create {
                    owner: String::new(),
                    group: String::new(),
                    mode: 0,
                }),
            };
            Step {
                id,
                on: vec![ResourceId::new(change.kind(), *name)],
                owner: None,
                phase: Phase::Stage,
                change,
                needs: needs.to_vec(),
                beside: *beside,
                blocked_by: None,
            }
        };
        Plan { steps: all.iter().enumerate().map(step).collect(), ..Plan::default() }
    }

    async fn executed(plan: &Plan, hands: &Script) -> (BTreeMap<StepId, Outcome>, Vec<String>) {
        let directory = tempfile::tempdir().unwrap();
        let opened = Entry::Opened { generation: Generation::default(), at: jiff::Timestamp::UNIX_EPOCH, steps: 0 };
        let mut journal = Journal::open(directory.path(), opened).unwrap();
        let outcomes = execute(plan, hands, &mut journal, &Silent).await.unwrap();
        drop(journal);
        (outcomes, Journal::interrupted(directory.path()).unwrap())
    }

    #[tokio::test]
    async fn what_goes_on_beside_holds_up_only_what_needs_it() {
        // Ends only when another step was begun: one that waited for it would wait for ever.
        let hands = Script { go: Some(Semaphore::new(0)), ..Script::default() };
        let plan = steps(&[("fetch", true, &[]), ("other", false, &[]), ("switch", false, &[0, 1])]);
        let (outcomes, open) = executed(&plan, &hands).await;
        assert!(outcomes.len() == 3 && outcomes.values().all(|outcome| *outcome == Outcome::Done), "{outcomes:?}");
        assert_eq!(open, Vec::<String>::new());
        let story = hands.story();
        let at = |what: &str| story.iter().position(|said| said == what).unwrap();
        assert!(at("other begins") < at("fetch ends"), "{story:?}");
        assert!(at("fetch ends") < at("switch begins"), "{story:?}");
    }

    #[tokio::test]
    async fn what_goes_on_beside_is_begun_as_soon_as_it_can_be() {
        let hands = Script::default();
        let plan = steps(&[
            ("account", false, &[]),
            ("file", false, &[]),
            ("fetch", true, &[0]),
            ("switch", false, &[0, 1, 2]),
        ]);
        let (outcomes, _) = executed(&plan, &hands).await;
        assert!(outcomes.len() == 4 && outcomes.values().all(|outcome| *outcome == Outcome::Done), "{outcomes:?}");
        let begun: Vec<_> = hands.story().into_iter().filter(|said| said.ends_with("begins")).collect();
        assert_eq!(begun[0], "account begins");
        assert!(begun[1..3].contains(&"fetch begins".to_owned()) && begun[3] == "switch begins", "{begun:?}");
        let story = hands.story();
        assert!(
            story.iter().position(|said| said == "fetch begins") < story.iter().position(|said| said == "file ends")
        );
    }

    #[tokio::test]
    async fn a_failure_beside_blocks_what_needs_it_and_nothing_else() {
        let hands = Script { fails: Some("fetch"), ..Script::default() };
        let plan =
            steps(&[("fetch", true, &[]), ("other", false, &[]), ("switch", false, &[0]), ("start", false, &[2])]);
        let (outcomes, _) = executed(&plan, &hands).await;
        assert!(matches!(outcomes[&0], Outcome::Failed { .. }));
        assert_eq!(outcomes[&1], Outcome::Done);
        let by = Outcome::Blocked { by: plan.steps[0].on[0].clone() };
        assert_eq!((&outcomes[&2], &outcomes[&3]), (&by, &by));
    }

    #[tokio::test]
    async fn what_goes_together_is_tried_at_once_unless_it_waits_for_another() {
        let hands = Script { fails: Some("site2"), ..Script::default() };
        let plan = steps(&[
            ("site1", false, &[]),
            ("site2", false, &[]),
            ("site3", false, &[]),
            ("site4", false, &[2]),
            ("other", false, &[]),
            ("site5", false, &[]),
            ("site6", false, &[1]),
            ("fetch", true, &[]),
            ("site7", false, &[7]),
        ]);
        let (outcomes, open) = executed(&plan, &hands).await;
        let story = hands.story();
        let together: Vec<_> = story.iter().filter(|said| said.starts_with("together")).collect();
        assert_eq!(together, ["together: site1 site2 site3"], "{story:?}");
        let by = Outcome::Blocked { by: plan.steps[1].on[0].clone() };
        for (id, outcome) in &outcomes {
            match id {
                1 => assert!(matches!(outcome, Outcome::Failed { .. }), "{outcome:?}"),
                6 => assert_eq!(*outcome, by),
                _ => assert_eq!(*outcome, Outcome::Done, "{id}"),
            }
        }
        assert_eq!((outcomes.len(), open.len()), (9, 0));
    }

    #[tokio::test]
    async fn few_go_on_at_one_time_and_the_end_waits_for_them() {
        let hands = Script::default();
        let plan = steps(&[("a", true, &[]), ("b", true, &[]), ("c", true, &[]), ("d", true, &[])]);
        let (outcomes, open) = executed(&plan, &hands).await;
        assert!(outcomes.len() == 4 && open.is_empty());
        assert!((1..=BESIDE).contains(&hands.most.lock().unwrap().1));
    }
}
