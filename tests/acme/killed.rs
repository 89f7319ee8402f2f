//! SIGKILL at every act of an order and of its installation: of a process of its own, which is this program once more.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};
use socle::agent::certificates::{Act, Done, Keeper, Watch};
use socle::host::authority::{self, AcmeAuthorities};
use socle::model::Name;
use socle::model::certificate::{Authority, Limits, Settings};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use super::ca::Ari;
use super::world::{World, name};

/// Where the process that is killed finds its work, and the number of the act before which it waits for its end.
const WORK: &str = "SOCLE_TEST_WORK";
/// What it says then.
const READY: &str = "kill me before ";

/// Says before which act it is, and waits.
struct WaitAt {
    at: usize,
    seen: std::sync::atomic::AtomicUsize,
}

#[async_trait]
impl Watch for WaitAt {
    async fn before(&self, _: &Name, act: &Act) {
        if self.seen.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == self.at {
            println!("\n{READY}{act:?}");
            std::future::pending().await
        }
    }
}

/// The process that is killed.
#[tokio::test]
#[ignore = "a part of the test below"]
async fn one_that_is_killed() {
    let work: Value = serde_json::from_str(&std::env::var(WORK).expect("started by the test below")).unwrap();
    let text = |key: &str| work[key].as_str().unwrap().to_owned();
    let mut world = World::new().await;
    world.clock.set(text("now").parse().unwrap());
    let authority = Authority {
        directory: text("directory"),
        roots: Some(text("roots").into()),
        contacts: vec!["admin@example.org".to_owned()],
        binding: None,
        limits: Limits::LETS_ENCRYPT,
    };
    let settings = Settings { authorities: [(name("first"), authority)].into(), ..std::mem::take(&mut world.settings) };
    let state = std::path::PathBuf::from(text("state"));
    let at = usize::try_from(work["at"].as_u64().unwrap()).unwrap();
    let real = AcmeAuthorities { state: state.clone(), patience: authority::Patience::default() };
    let mut parts = world.parts(Arc::new(real), Arc::new(WaitAt { at, seen: Default::default() }));
    parts.challenges = text("challenges").into();
    let outcomes = Keeper::new(&state, parts).tend_all(&settings, &BTreeSet::new()).await.unwrap();
    assert!(outcomes.iter().all(|outcome| matches!(outcome.done, Done::Committed { .. })), "{outcomes:?}");
}

/// Runs it until it is before its act number `at`, and kills it; tells the act. `None`: it came to its end.
async fn killed(world: &World, at: usize) -> Option<String> {
    let first = &world.settings.authorities[&name("first")];
    let work = json!({
        "at": at, "now": world.clock.now().to_string(), "state": world.state(), "challenges": world.ca.challenges,
        "directory": first.directory, "roots": first.roots,
    });
    let mut process = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "killed::one_that_is_killed", "--ignored", "--nocapture"])
        .env(WORK, work.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    while let Some(line) = lines.next_line().await.unwrap() {
        if let Some(act) = line.strip_prefix(READY) {
            // SIGKILL, and its end awaited.
            process.kill().await.unwrap();
            return Some(act.to_owned());
        }
    }
    assert!(process.wait().await.unwrap().success(), "it failed by itself, at {at}");
    None
}

async fn everywhere(renewal: bool) -> Vec<String> {
    let mut acts = Vec::new();
    for at in 0.. {
        let world = World::new().await;
        world.ca.state().ari = Ari::Window(0.5, 0.6);
        if renewal {
            assert!(matches!(world.tend().await, Done::Committed { .. }));
            let meta = world.present("blog").unwrap().meta;
            world.clock.set(meta.not_before + meta.lifetime() * 61 / 100);
        }
        let old = world.present("blog").map(|present| present.meta.serial);
        let before = world.orders();
        let Some(act) = killed(&world, at).await else { break };
        // Whatever is there is whole, and one pass more makes it the new one: by the same order.
        world.present("blog");
        world.clock.pass(jiff::SignedDuration::from_mins(7));
        world.tend().await;
        assert_ne!(world.present("blog").map(|present| present.meta.serial), old, "{act}");
        assert_eq!(world.orders(), before + 1, "{act}: a second order");
        assert_eq!((world.left_over(), world.server.accounts()), (0, 1), "{act}");
        let record = world.record("blog");
        assert_eq!((record.order, record.published.len()), (None, 0), "{act}");
        assert!(!world.state().join("tls/blog/order-key.pem").exists(), "{act}: a key is left");
        assert_eq!(world.tend().await, Done::Fresh, "{act}");
        acts.push(act);
    }
    acts
}

/// All acts that an order by file has.
const ACTS: [&str; 11] = [
    "Check",
    "MakeKey",
    "Order",
    "Publish",
    "Ready",
    "AwaitProof",
    "Finalize",
    "AwaitCertificate",
    "Download",
    "Commit",
    "Settle",
];

#[tokio::test]
async fn at_every_act_of_a_first_order() {
    let acts = everywhere(false).await;
    for act in ACTS {
        assert!(acts.iter().any(|seen| seen.starts_with(act)), "{act}: {acts:?}");
    }
}

#[tokio::test]
async fn at_every_act_of_a_renewal() {
    let acts = everywhere(true).await;
    for act in ACTS {
        assert!(acts.iter().any(|seen| seen.starts_with(act)), "{act}: {acts:?}");
    }
}
