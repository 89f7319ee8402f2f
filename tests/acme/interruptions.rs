//! The keeper ends at every act of an order, as by SIGKILL; the next one goes on where it was.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use socle::agent::certificates::{Act, Done, Watch};
use socle::model::Name;
use socle::model::certificate::Challenge;
use tokio::sync::Notify;

use super::ca::{Ari, Status, no};
use super::world::{World, name};

/// Never returns from the act number `at`.
struct StopAt {
    at: usize,
    seen: AtomicUsize,
    acts: std::sync::Mutex<Vec<Act>>,
    stopped: Notify,
}

#[async_trait]
impl Watch for StopAt {
    async fn before(&self, _: &Name, act: &Act) {
        self.acts.lock().unwrap().push(act.clone());
        if self.seen.fetch_add(1, Ordering::SeqCst) == self.at {
            self.stopped.notify_one();
            std::future::pending().await
        }
    }
}

/// Ends the keeper before its act number `at`, and tells which that was; `None`: it came to its end.
async fn cut(world: &World, at: usize) -> Option<Act> {
    let stop = Arc::new(StopAt { at, seen: AtomicUsize::new(0), acts: Default::default(), stopped: Notify::new() });
    let keeper = world.watched(stop.clone());
    let nobody = BTreeSet::new();
    let stopped = tokio::select! {
        done = keeper.tend_all(&world.settings, &nobody) => { done.unwrap(); false }
        () = stop.stopped.notified() => true,
    };
    let acts = stop.acts.lock().unwrap();
    stopped.then(|| acts.last().cloned().unwrap())
}

/// Interrupts at each act in turn; tells the acts.
async fn everywhere(challenge: Challenge, wanted: &[&str], renewal: bool) -> Vec<Act> {
    let mut acts = Vec::new();
    for at in 0.. {
        let mut world = World::new().await;
        world.ca.state().ari = Ari::Window(0.5, 0.6);
        world.want("blog", wanted);
        world.acme().challenge = challenge.clone();
        if renewal {
            assert!(matches!(world.tend().await, Done::Committed { .. }));
            let meta = world.present("blog").unwrap().meta;
            world.clock.set(meta.not_before + meta.lifetime() * 61 / 100);
        }
        let old = world.present("blog").map(|present| present.meta.serial);
        let before = world.orders();
        let Some(act) = cut(&world, at).await else { break };
        // Whatever is there is whole; what is current is the old one until the commit is done.
        let between = world.present("blog").map(|present| present.meta.serial);
        let committed = matches!(act, Act::Settle | Act::Withdraw) || (matches!(act, Act::AskRenewal { .. }) && at > 2);
        assert_eq!(between != old, committed, "{act:?}");
        world.clock.pass(jiff::SignedDuration::from_mins(7));
        world.tend().await;
        let now = world.present("blog").map(|present| present.meta.serial);
        assert_ne!(now, old, "{act:?}");
        assert_eq!(world.orders(), before + 1, "{act:?}: a second order");
        assert_eq!(world.left_over(), 0, "{act:?}: proofs are left");
        let record = world.record("blog");
        assert_eq!((record.order, record.published.len()), (None, 0), "{act:?}");
        assert!(!world.state().join("tls/blog/order-key.pem").exists(), "{act:?}: a key is left");
        assert_eq!(world.server.accounts(), 1, "{act:?}");
        // Once more, and nothing is done any more.
        assert_eq!(world.tend().await, Done::Fresh, "{act:?}");
        assert_eq!(world.orders(), before + 1, "{act:?}");
        acts.push(act);
    }
    acts
}

#[tokio::test]
async fn by_file() {
    let acts = everywhere(Challenge::Http01, &["blog.example.org"], false).await;
    assert!(acts.len() >= 12, "{acts:?}");
    assert!(acts.iter().any(|act| matches!(act, Act::Commit)) && acts.iter().any(|act| matches!(act, Act::Withdraw)));
}

#[tokio::test]
async fn by_record_with_a_wildcard() {
    let challenge = Challenge::Dns01 { provider: name("dns") };
    let acts = everywhere(challenge, &["example.org", "*.example.org"], false).await;
    assert!(acts.iter().any(|act| matches!(act, Act::Propagate { .. })), "{acts:?}");
}

#[tokio::test]
async fn a_renewal() {
    let acts = everywhere(Challenge::Http01, &["blog.example.org"], true).await;
    assert!(acts.len() >= 12, "{acts:?}");
}

/// A first order that was interrupted before this act.
async fn cut_before(wanted: &Act) -> World {
    for at in 0.. {
        let world = World::new().await;
        let act = cut(&world, at).await.unwrap_or_else(|| panic!("{wanted:?} never came"));
        if act == *wanted {
            return world;
        }
    }
    unreachable!("acts are counted without an end")
}

/// As after a power cut: the authority looked for the proof while nobody could show it.
#[tokio::test]
async fn an_order_that_was_lost_meanwhile_is_made_anew_at_once() {
    let world = cut_before(&Act::AwaitProof).await;
    {
        let mut state = world.ca.state();
        let order = &mut state.orders[0];
        (order.status, order.authz[0].status) = (Status::Invalid, Status::Invalid);
        order.authz[0].error = Some(no(400, "connection", "nobody answered"));
    }
    assert!(matches!(world.tend().await, Done::Committed { .. }));
    assert_eq!((world.orders(), world.left_over(), world.record("blog").failure), (2, 0, None));
    // If it is the name that is wrong, that is found once more, and told.
    let world = cut_before(&Act::Ready { domain: "blog.example.org".parse().unwrap() }).await;
    world.ca.state().bad.insert("blog.example.org".to_owned(), "connection");
    let Done::Failed { error, .. } = world.tend().await else { panic!("not failed") };
    assert_eq!((error.code.as_str(), world.orders()), ("certificate.refused", 2));
    assert!(matches!(world.tend().await, Done::Waiting { .. }), "and then it waits for its time");
    assert_eq!(world.orders(), 2);
}

#[tokio::test]
async fn an_order_whose_key_is_gone_is_not_taken_up() {
    let world = World::new().await;
    let act = cut(&world, 5).await.unwrap();
    assert!(world.record("blog").order.is_some(), "{act:?}");
    std::fs::write(world.state().join("tls/blog/order-key.pem"), "").unwrap();
    assert!(matches!(world.tend().await, Done::Committed { .. }));
    assert_eq!((world.orders(), world.left_over()), (2, 0));
    assert!(world.present("blog").is_some());
}

/// The power goes when the record says that the order is over, and its key is still there.
#[tokio::test]
async fn a_key_whose_order_is_over_does_not_stay() {
    let mut world = World::new().await;
    world.want("blog", &["blog.example.org"]);
    assert!(matches!(world.tend().await, Done::Committed { .. }));
    let key = world.state().join("tls/blog/order-key.pem");
    std::fs::write(&key, "of an order that is over").unwrap();
    assert_eq!(world.tend().await, Done::Fresh);
    assert!(!key.exists());
}
