//! Accounts: made once, by a key that is on disk, and kept.

use std::os::unix::fs::PermissionsExt;

use serde_json::json;
use socle::agent::certificates::Done;
use socle::model::Secret;

use super::ca::no;
use super::server::Break::*;
use super::world::{World, name};

fn key_of(world: &World) -> String {
    let text = std::fs::read_to_string(world.state().join("acme/first/account.json")).unwrap();
    serde_json::from_str::<serde_json::Value>(&text).unwrap()["key"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn one_account_for_all_names_at_once() {
    let mut world = World::new().await;
    for number in 0..30 {
        world.want(&format!("n{number}"), &[&format!("n{number}.example.org")]);
    }
    let outcomes = world.keeper().tend_all(&world.settings, &Default::default()).await.unwrap();
    let committed = outcomes.iter().filter(|outcome| matches!(outcome.done, Done::Committed { .. })).count();
    // Half of what the authority allows for one domain in a week, and no more.
    assert_eq!((outcomes.len(), committed), (31, 25));
    assert_eq!((world.server.accounts(), world.server.contacts()), (1, vec![json!(["mailto:admin@example.org"])]));
    let file = world.state().join("acme/first/account.json");
    assert_eq!(std::fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(world.ca.state().limited.is_empty());
}

#[tokio::test]
async fn a_lost_answer_makes_no_second_account() {
    let world = World::new().await;
    world.server.break_at("new-account", 0, 1, CloseAfter);
    assert!(matches!(world.tend().await, Done::Failed { .. }));
    let key = key_of(&world);
    world.sleep();
    assert!(matches!(world.tend().await, Done::Committed { .. }));
    assert_eq!((world.server.accounts(), key_of(&world)), (1, key));
}

#[tokio::test]
async fn contacts_follow_the_document() {
    let mut world = World::new().await;
    world.tend().await;
    world.settings.authorities.get_mut(&name("first")).unwrap().contacts = vec!["new@example.org".into()];
    world.want("blog", &["blog.example.org", "www.example.org"]);
    assert!(matches!(world.tend().await, Done::Committed { .. }));
    assert_eq!((world.server.accounts(), world.server.contacts()), (1, vec![json!(["mailto:new@example.org"])]));
}

#[tokio::test]
async fn an_authority_that_forgot_everything_is_asked_anew() {
    let mut world = World::new().await;
    world.tend().await;
    let key = key_of(&world);
    world.server.forget_accounts();
    world.want("blog", &["blog.example.org", "www.example.org"]);
    assert!(matches!(world.tend().await, Done::Committed { .. }));
    assert_eq!((world.server.accounts(), key_of(&world)), (2, key));
}

#[tokio::test]
async fn accounts_for_customers_only() {
    let mut world = World::new().await;
    *world.server.eab.lock().unwrap() = Some(("customer-7".into(), b"a shared secret".to_vec()));
    let Done::Failed { error, .. } = world.tend().await else { panic!() };
    assert_eq!((error.code.as_str(), world.server.asked("new-account")), ("acme.refused", 0));
    assert!(error.hint.unwrap().contains("binding"));
    for (secret, code) in [("not base64 !", "acme.account"), ("d3Jvbmc", "acme.refused")] {
        let bound = Some(("customer-7".to_owned(), Secret::new(secret)));
        world.settings.authorities.get_mut(&name("first")).unwrap().binding = bound;
        world.sleep();
        let Done::Failed { error, .. } = world.tend().await else { panic!() };
        assert_eq!(error.code, code);
        assert!(!error.to_string().contains(secret));
    }
    let bound = Some(("customer-7".to_owned(), Secret::new("YSBzaGFyZWQgc2VjcmV0")));
    world.settings.authorities.get_mut(&name("first")).unwrap().binding = bound;
    world.sleep();
    let done = world.tend().await;
    assert!(matches!(done, Done::Committed { .. }), "{done:?}");
}

#[tokio::test]
async fn a_key_is_changed_whatever_interrupts() {
    let mut world = World::new().await;
    world.tend().await;
    let mut aliases = vec!["blog.example.org".to_owned()];
    let faults =
        [(None, true), (Some(CloseAfter), true), (Some(CloseBefore), false), (Some(Refuse(no(403, "x", "no"))), false)];
    for (round, (fault, changes)) in faults.into_iter().enumerate() {
        let (before, known) = (key_of(&world), world.server.account_key(0));
        let good = fault.is_none();
        if let Some(how) = fault {
            world.server.break_at("key-change", 0, 1, how);
        }
        let rolled = world.keeper().roll_key(&world.settings, &name("first")).await;
        assert_eq!(rolled.is_ok(), good, "{round}: {rolled:?}");
        // Which key counts is found out by the next order.
        aliases.push(format!("www{round}.example.org"));
        world.want("blog", &aliases.iter().map(String::as_str).collect::<Vec<_>>());
        let done = world.tend().await;
        assert!(matches!(done, Done::Committed { .. }), "{round}: {done:?}");
        assert_eq!(key_of(&world) != before, changes, "{round}");
        assert_eq!(world.server.account_key(0) != known, changes, "{round}");
        assert_eq!(world.server.accounts(), 1, "{round}");
        let text = std::fs::read_to_string(world.state().join("acme/first/account.json")).unwrap();
        assert!(text.contains("\"next_key\": null"), "{round}");
    }
}

#[tokio::test]
async fn a_damaged_account_is_not_replaced_silently() {
    let world = World::new().await;
    world.tend().await;
    let file = world.state().join("acme/first/account.json");
    std::fs::write(&file, "{\"key\": \"c2VjcmV0\"").unwrap();
    let mut world = world;
    world.want("blog", &["new.example.org"]);
    let Done::Failed { error, .. } = world.tend().await else { panic!() };
    assert_eq!(error.code, "acme.account");
    assert!(error.hint.unwrap().starts_with("mv ") && !error.causes.concat().contains("c2VjcmV0"));
    assert_eq!(world.server.accounts(), 1);
}
