//! What every authority does, on a wire or not.

use std::sync::Arc;

use socle::host::authority::{
    Authorities, Authority, AuthorityError, AuthorizationStatus, ChallengeKind, NewOrder, Order, OrderStatus,
};
use socle::host::certificates::{chain, key};
use socle::model::certificate::KeyType;

use super::ca::Ari;
use super::port::FakeAuthority;
use super::world::{World, hours, name, names};

async fn until(order: &mut dyn Order, status: OrderStatus) {
    for _ in 0..10 {
        if order.status() == status {
            return;
        }
        order.refresh().await.unwrap();
    }
    panic!("it is {:?} and not {status:?}", order.status());
}

async fn holds(authority: Arc<dyn Authority>, world: &World) {
    let about = authority.about().await.unwrap();
    assert!(about.renewal_info && about.profiles.contains_key("classic"));
    assert_eq!(about.caa_identities, ["ca.example.net"]);
    let wanted = names(&["a.example.org", "*.example.org"]);
    let asked = NewOrder { names: wanted.clone(), profile: Some("classic".into()), replaces: None };
    let mut order = authority.new_order(&asked).await.unwrap();
    assert_eq!(order.status(), OrderStatus::Pending);

    // A file proves no wildcard; a record does.
    let by_file = order.authorizations(ChallengeKind::Http01).await.unwrap();
    let offered: Vec<_> = by_file.iter().map(|one| (one.wildcard, one.proof.is_some())).collect();
    assert_eq!(offered, [(false, true), (true, false)]);
    let open = order.authorizations(ChallengeKind::Dns01).await.unwrap();
    assert!(open.iter().all(|one| one.status == AuthorizationStatus::Pending));
    for one in &open {
        let value = one.proof.clone().unwrap().value;
        world.ca.records.lock().unwrap().entry(one.domain.to_string()).or_default().insert(value);
        order.ready(&one.domain, one.wildcard, ChallengeKind::Dns01).await.unwrap();
    }
    until(&mut *order, OrderStatus::Ready).await;

    // It is the same order by its URL, and what is not there is not found.
    let mut order = authority.order(order.url()).await.unwrap();
    assert_eq!(order.status(), OrderStatus::Ready);
    let elsewhere = order.url().replace("/0", "/77");
    assert!(matches!(authority.order(&elsewhere).await, Err(AuthorityError::NotFound { .. })));

    let pem = key::generate(KeyType::P256).unwrap();
    let other = key::request(&pem, &wanted[..1]).unwrap();
    let refused = order.finalize(&other).await.unwrap_err();
    assert_eq!(refused.refusal().unwrap().kind, "badCSR");
    order.finalize(&key::request(&pem, &wanted).unwrap()).await.unwrap();
    assert!(order.finalize(&key::request(&pem, &wanted).unwrap()).await.is_err());
    until(&mut *order, OrderStatus::Valid).await;
    let chain = order.certificate().await.unwrap();
    let checked = chain::check(&chain, &pem, &wanted, world.clock.now()).unwrap();

    let id = checked.renewal_id.unwrap();
    let told = authority.renewal_info(&id).await.unwrap().unwrap();
    assert!(told.start < told.end && told.end < checked.not_after);
    assert_eq!(authority.renewal_info("QUFB.QUJD").await.unwrap(), None);
    let again = NewOrder { replaces: Some(id), ..asked.clone() };
    authority.new_order(&again).await.unwrap();
    let unknown = NewOrder { profile: Some("unheard".into()), ..asked };
    assert_eq!(authority.new_order(&unknown).await.err().unwrap().refusal().unwrap().kind, "invalidProfile");

    let leaf = chain::leaf(&chain).unwrap();
    authority.revoke(&leaf, false).await.unwrap();
    authority.revoke(&leaf, true).await.unwrap();
    assert!(world.ca.state().issued[0].revoked);
    authority.roll_key().await.unwrap();
    authority.new_order(&again).await.unwrap();

    // A name that cannot be proven makes the order invalid, and says why.
    world.ca.state().bad.insert("b.example.org".into(), "dns");
    let bad = NewOrder { names: names(&["b.example.org"]), profile: None, replaces: None };
    let mut order = authority.new_order(&bad).await.unwrap();
    order.authorizations(ChallengeKind::Http01).await.unwrap();
    order.ready(&"b.example.org".parse().unwrap(), false, ChallengeKind::Http01).await.unwrap();
    until(&mut *order, OrderStatus::Invalid).await;
    let dead = order.authorizations(ChallengeKind::Http01).await.unwrap().remove(0);
    assert_eq!((dead.status, dead.error.unwrap().kind.as_str()), (AuthorizationStatus::Dead, "dns"));
}

async fn world() -> World {
    let world = World::new().await;
    {
        let mut state = world.ca.state();
        state.ari = Ari::Window(0.5, 0.6);
        state.profiles.insert("classic".into(), hours(90 * 24));
    }
    world
}

#[tokio::test]
async fn the_fake_keeps_the_contract() {
    let world = world().await;
    holds(FakeAuthority::new(world.ca.clone()), &world).await;
}

#[tokio::test]
async fn the_adapter_keeps_the_contract() {
    let world = world().await;
    let authority = world.real_authorities().open(&name("first"), &world.settings.authorities[&name("first")]);
    holds(authority, &world).await;
}
