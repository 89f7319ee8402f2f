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

    async fn apply_beside(&self, on: &ResourceId, change: &AnyChange, ready: Ready) -> Result<(), ApplyError> {
        self.say(format!("{} prepares", on.name));
        ready.wait().await;
        self.apply(on, change).await
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
            false => {
                let (owner, group) = (String::new(), String::new());
                AnyChange::Directory(directory::Change::Create { owner, group, mode: 0, whole: false })
            }
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
async fn what_goes_on_beside_is_begun_at_once_and_told_when_it_is_its_turn() {
    let hands = Script::default();
    let plan =
        steps(&[("account", false, &[]), ("file", false, &[]), ("fetch", true, &[0]), ("switch", false, &[0, 1, 2])]);
    let (outcomes, _) = executed(&plan, &hands).await;
    assert!(outcomes.len() == 4 && outcomes.values().all(|outcome| *outcome == Outcome::Done), "{outcomes:?}");
    let story = hands.story();
    let at = |what: &str| story.iter().position(|said| said == what).unwrap();
    assert!(at("fetch prepares") < at("account ends"), "{story:?}");
    assert!(at("account ends") < at("fetch begins") && at("fetch begins") < at("file ends"), "{story:?}");
    assert!(at("fetch ends") < at("switch begins"), "{story:?}");
}

#[tokio::test]
async fn what_was_begun_early_ends_when_what_it_needs_fails() {
    let hands = Script { fails: Some("account"), ..Script::default() };
    let plan = steps(&[("account", false, &[]), ("home", false, &[0]), ("fetch", true, &[1]), ("switch", false, &[2])]);
    let (outcomes, open) = executed(&plan, &hands).await;
    let by = Outcome::Blocked { by: plan.steps[0].on[0].clone() };
    assert_eq!((&outcomes[&1], &outcomes[&2], &outcomes[&3]), (&by, &by, &by));
    assert_eq!(open, Vec::<String>::new());
    let story = hands.story();
    assert!(!story.contains(&"fetch begins".to_owned()), "{story:?}");
}

#[tokio::test]
async fn a_failure_beside_blocks_what_needs_it_and_nothing_else() {
    let hands = Script { fails: Some("fetch"), ..Script::default() };
    let plan = steps(&[("fetch", true, &[]), ("other", false, &[]), ("switch", false, &[0]), ("start", false, &[2])]);
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
