//! Names that fail, and how often it is tried.

use std::collections::BTreeSet;

use socle::agent::certificates::Done;

use super::world::{World, hours, name, names};

#[tokio::test]
async fn the_others_get_their_certificate_without_the_one_that_fails() {
    let mut world = World::new().await;
    world.want("blog", &["a.example.org", "b.example.org", "c.example.org"]);
    world.ca.state().bad.insert("c.example.org".into(), "dns");
    let Done::Failed { error, .. } = world.tend().await else { panic!() };
    assert_eq!(error.code, "certificate.refused");
    world.sleep();
    let done = world.tend().await;
    let Done::Committed { meta, .. } = done else { panic!("{done:?}") };
    assert_eq!(meta.names, names(&["a.example.org", "b.example.org"]));
    let standing = world.keeper().standings(&world.settings).remove(0);
    assert_eq!(standing.missing, names(&["c.example.org"]));
    assert!(standing.last_error.unwrap().message.contains("c.example.org") || standing.alert.is_none());
    // The one is tried further, ever more rarely, and the certificate of the others stays.
    let mut waits = Vec::new();
    for _ in 0..4 {
        world.sleep();
        let Done::Failed { next, .. } = world.tend().await else { panic!() };
        waits.push(next.duration_since(world.clock.now()).as_mins());
        assert_eq!(world.present("blog").unwrap().meta.names.len(), 2);
    }
    assert_eq!(waits, [10, 100, 1440, 1440]);
    world.ca.state().bad.clear();
    world.sleep();
    assert!(matches!(world.tend().await, Done::Committed { .. }));
    assert_eq!(world.present("blog").unwrap().meta.names.len(), 3);
    assert_eq!(world.record("blog").failure, None);
}

#[tokio::test]
async fn what_this_server_sees_itself_costs_no_order() {
    let mut world = World::new().await;
    world.want("blog", &["a.example.org", "b.example.org"]);
    *world.check.0.lock().unwrap() = BTreeSet::from(["a.example.org".into(), "b.example.org".into()]);
    let Done::Failed { error, .. } = world.tend().await else { panic!() };
    assert_eq!((error.code.as_str(), error.hint.as_deref()), ("certificate.check", Some("change its A record")));
    assert!(error.message.contains("`a.example.org`") && error.message.contains("`b.example.org`"));
    assert_eq!((world.orders(), world.server.accounts()), (0, 0));
    for _ in 0..6 {
        world.sleep();
        world.tend().await;
    }
    let next = world.keeper().next_due(&world.settings);
    assert!(next <= world.clock.now() + hours(1), "an own look is cheap: hourly");
    // One of the two is right now: it does not wait for the other.
    world.check.0.lock().unwrap().remove("a.example.org");
    world.sleep();
    assert!(matches!(world.tend().await, Done::Committed { .. }));
    assert_eq!(world.present("blog").unwrap().meta.names, names(&["a.example.org"]));
    let orders = world.orders();
    world.sleep();
    world.tend().await;
    assert_eq!(world.orders(), orders, "the other still leads elsewhere: no order");
    world.check.0.lock().unwrap().clear();
    world.sleep();
    assert!(matches!(world.tend().await, Done::Committed { .. }));
    assert_eq!(world.present("blog").unwrap().meta.names.len(), 2);
}

#[tokio::test]
async fn one_ten_a_hundred_minutes_then_daily_and_anew_with_other_names() {
    let mut world = World::new().await;
    world.ca.state().bad.insert("blog.example.org".into(), "connection");
    let mut waits = Vec::new();
    for _ in 0..6 {
        let Done::Failed { next, .. } = world.tend().await else { panic!() };
        waits.push(next.duration_since(world.clock.now()).as_mins());
        world.sleep();
    }
    assert_eq!(waits, [1, 10, 100, 1440, 1440, 1440]);
    world.tend().await;
    world.want("blog", &["new.example.org"]);
    assert!(matches!(world.tend().await, Done::Committed { .. }), "other names begin anew");
    world.want("blog", &["new.example.org", "blog.example.org"]);
    let Done::Failed { next, .. } = world.tend().await else { panic!() };
    assert_eq!(next.duration_since(world.clock.now()).as_mins(), 1);
    assert!(world.present("blog").is_some());
}

#[tokio::test]
async fn what_is_asked_for_is_done_at_once_and_other_processes_are_kept_out() {
    let world = World::new().await;
    assert!(matches!(world.tend().await, Done::Committed { .. }));
    let old = world.present("blog").unwrap();
    assert_eq!(world.tend().await, Done::Fresh);
    let asked = BTreeSet::from([name("blog")]);
    let outcomes = world.keeper().tend_all(&world.settings, &asked).await.unwrap();
    assert!(matches!(outcomes[0].done, Done::Committed { .. }));
    let new = world.present("blog").unwrap();
    assert_eq!(new.generation, old.generation + 1);
    assert!(old.directory.join("privkey.pem").exists(), "the old generation is kept");
    let held = socle::durable::HostLock::take(&world.state().join("tls/lock"), "another").unwrap();
    assert!(world.keeper().tend_all(&world.settings, &asked).await.is_err());
    drop(held);
    world.keeper().revoke(&world.settings, &name("blog"), true).await.unwrap();
    assert!(world.ca.state().issued.iter().any(|issued| issued.revoked && issued.serial == new.meta.serial));
}

#[tokio::test]
async fn damaged_is_said_and_nothing_is_ordered() {
    let mut world = World::new().await;
    world.want("other", &["other.example.org"]);
    std::fs::create_dir_all(world.state().join("tls/blog")).unwrap();
    std::fs::write(world.state().join("tls/blog/record.json"), "{").unwrap();
    let Done::Failed { error, .. } = world.tend().await else { panic!() };
    assert_eq!(error.code, "certificate.damaged");
    assert!(error.hint.unwrap().starts_with("rm "));
    assert_eq!(world.orders(), 1, "the other one");
    assert_eq!(world.keeper().standings(&world.settings)[0].last_error.as_ref().unwrap().code, "certificate.damaged");
}
