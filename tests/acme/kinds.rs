//! Several names, other challenges, renewals.

use serde_json::json;
use socle::agent::certificates::Done;

use super::ca::{Ari, no};
use super::server::Break::*;
use super::world::{World, name, names};

#[tokio::test]
async fn one_name_that_fails_holds_up_nobody() {
    let mut world = World::new().await;
    for number in 0..20 {
        world.want(&format!("n{number}"), &[&format!("n{number}.example.org")]);
    }
    world.ca.state().bad.insert("n7.example.org".to_owned(), "dns");
    world.server.break_at("new-order", 3, 1, Hang);
    let outcomes = world.keeper().tend_all(&world.settings, &Default::default()).await.unwrap();
    let failed: Vec<_> = outcomes.iter().filter(|outcome| !matches!(outcome.done, Done::Committed { .. })).collect();
    assert_eq!(outcomes.len(), 21);
    assert!(failed.len() == 2 || (failed.len() == 1 && failed[0].name == name("n7")), "{failed:?}");
    assert!(failed.iter().any(|outcome| outcome.name == name("n7")));
}

#[tokio::test]
async fn the_other_kinds_of_challenge_and_key() {
    let mut world = World::new().await;
    world.want("blog", &["example.org", "*.example.org"]);
    world.acme().challenge = socle::model::certificate::Challenge::Dns01 { provider: name("dns") };
    world.acme().key = socle::model::certificate::KeyType::Rsa2048;
    let done = world.tend().await;
    let Done::Committed { meta, .. } = done else { panic!("{done:?}") };
    assert_eq!(
        (meta.names, meta.key),
        (names(&["example.org", "*.example.org"]), socle::model::certificate::KeyType::Rsa2048)
    );
    assert_eq!(world.left_over(), 0);
    // A wildcard cannot be proven by a file.
    world.acme().challenge = socle::model::certificate::Challenge::Http01;
    world.want("blog", &["*.example.net"]);
    let Done::Failed { error, .. } = world.tend().await else { panic!() };
    assert_eq!(error.code, "certificate.challenge");
}

#[tokio::test]
async fn a_provider_that_refuses_leaves_the_order_and_nothing_else() {
    let mut world = World::new().await;
    world.acme().challenge = socle::model::certificate::Challenge::Dns01 { provider: name("dns") };
    world.dns.broken.store(true, std::sync::atomic::Ordering::SeqCst);
    let Done::Failed { error, .. } = world.tend().await else { panic!() };
    assert_eq!((error.code.as_str(), error.hint.as_deref()), ("certificate.publish", Some("look at its key")));
    world.dns.broken.store(false, std::sync::atomic::Ordering::SeqCst);
    world.sleep();
    assert!(matches!(world.tend().await, Done::Committed { .. }));
    assert_eq!((world.orders(), world.left_over()), (1, 0));
}

#[tokio::test]
async fn renewals_say_what_they_replace_and_do_without() {
    for (what, fault, orders) in [
        ("plain", None, 2),
        ("alreadyReplaced", Some(Refuse(no(409, "alreadyReplaced", "it was"))), 2),
        ("not reflected", Some(Set("replaces", json!(null))), 3),
        ("unknown to it", Some(Refuse(no(404, "malformed", "no such certificate"))), 2),
    ] {
        let world = World::new().await;
        world.ca.state().ari = Ari::Window(0.5, 0.6);
        assert!(matches!(world.tend().await, Done::Committed { .. }));
        let old = world.present("blog").unwrap().meta;
        if let Some(how) = &fault {
            world.server.break_at("new-order", 0, 1, how.clone());
        }
        world.clock.set(old.not_before + old.lifetime() * 61 / 100);
        assert!(matches!(world.tend().await, Done::Committed { .. }), "{what}");
        assert_eq!(world.orders(), orders, "{what}");
        let last = world.ca.state().orders.last().unwrap().replaces.clone();
        assert_eq!(last, if fault.is_none() { old.renewal_id.clone() } else { None }, "{what}");
        assert_ne!(world.present("blog").unwrap().meta.serial, old.serial);
    }
}
