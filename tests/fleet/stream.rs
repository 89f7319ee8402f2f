use std::time::Duration;

use socle::controller::hub::What;
use socle::model::Generation;
use socle::model::fleet::Origin;
use socle::model::report::{ErrorReport, Report};
use socle::wire::message::{FromAgent, Item, OutboxItem, Planned, ToAgent};
use socle::wire::{Purpose, tls};

use crate::client::{Client, at, position};
use crate::world::{World, name, now, until};

fn item(sequence: u64, item: Item) -> OutboxItem {
    OutboxItem { sequence, at: now(), item }
}

fn report(generation: u64) -> Item {
    let report = Report {
        generation: Generation(generation),
        converged: true,
        notes: vec![],
        lines: vec![],
        certificates: vec![],
        backups: vec![],
        duration_ms: 0,
    };
    Item::Report { report, position: Some(at(generation, "x", Origin::Controller)) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_reaches_its_server_and_no_other() {
    let world = World::new().await;
    let (one, two) = (world.join("ks1").await, world.join("ks2").await);
    let (mut one, mut two) = (Client::hello(&world, &one, None).await, Client::hello(&world, &two, None).await);
    let mut watch = world.controller.hub.watch();
    world.push("ks1", "schema = 1\n").await;
    let payload = one.document().await;
    assert_eq!((payload.purpose, payload.text.as_str()), (Purpose::Document, "schema = 1\n"));
    one.accept(&payload).await;
    until("the acceptance is told", || {
        let told = matches!(watch.try_recv(), Ok(news) if matches!(news.what, What::Accepted(_)));
        async move { told.then_some(()) }
    })
    .await;
    let known = until("the position is stored", || async {
        world.controller.store.server(&name("ks1")).await.unwrap().unwrap().position
    })
    .await;
    assert_eq!(known, position(&payload, Origin::Controller));
    world.push("ks2", "schema = 1\n[packages]\n").await;
    assert_eq!(two.document().await.text, "schema = 1\n[packages]\n", "the first thing it hears");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_away_gets_the_newest_and_who_has_it_gets_nothing() {
    let world = World::new().await;
    let machine = world.join("ks1").await;
    world.push("ks1", "one").await;
    world.push("ks1", "two").await;
    assert_eq!(world.push("ks1", "two").await.unchanged, [name("ks1")]);
    let mut client = Client::hello(&world, &machine, None).await;
    let newest = client.document().await;
    assert_eq!((newest.mark.generation, newest.text.as_str()), (Generation(2), "two"));

    // Killed between the acknowledgement and anything else, it comes back and is told nothing old.
    drop(client);
    let mut client = Client::hello(&world, &machine, Some(position(&newest, Origin::Controller))).await;
    world.push("ks1", "three").await;
    assert_eq!(client.document().await.text, "three");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_that_forgot_does_not_send_a_server_back() {
    let world = World::new().await;
    let machine = world.join("ks1").await;
    world.push("ks1", "old").await;
    // The database came back from a backup: the server is at 50, the database at 1.
    let mut client = Client::hello(&world, &machine, Some(at(50, "newer", Origin::Controller))).await;
    until("the position is stored", || async {
        world.controller.store.server(&name("ks1")).await.unwrap().unwrap().position
    })
    .await;
    let pushed = world.push("ks1", "old").await;
    assert_eq!(pushed.marks[&name("ks1")].generation, Generation(51), "and the owner's word is heard again");
    let payload = client.document().await;
    assert_eq!((payload.mark.generation, payload.text.as_str()), (Generation(51), "old"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_local_change_stands_until_the_owner_says_otherwise() {
    let world = World::new().await;
    let machine = world.join("ks1").await;
    world.push("ks1", "fleet").await;
    let mut client = Client::hello(&world, &machine, Some(at(2, "local", Origin::Local))).await;
    until("the position is stored", || async {
        world.controller.store.server(&name("ks1")).await.unwrap().unwrap().position
    })
    .await;
    // Nothing came of itself; the next push does.
    world.push("ks1", "fleet").await;
    let payload = client.document().await;
    assert_eq!((payload.mark.generation, payload.text.as_str()), (Generation(3), "fleet"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_acknowledged_is_stored_also_over_a_restart() {
    let world = World::new().await;
    let machine = world.join("ks1").await;
    let mut client = Client::hello(&world, &machine, None).await;
    let alarm = ErrorReport { code: "disk.full".into(), message: "full".into(), causes: vec![], hint: None };
    let items = vec![item(1, report(4)), item(2, Item::Alarm { error: alarm })];
    client.say(FromAgent::Outbox { items: items.clone() }).await;
    assert_eq!(client.hear().await, ToAgent::Stored { sequence: 2 });

    let world = world.restart().await;
    assert_eq!(world.controller.store.report(&name("ks1")).await.unwrap().unwrap().generation, Generation(4));
    assert_eq!(world.alarms().await, ["disk.full"]);
    // Its answer was lost: said again, it is not stored again.
    let mut client = Client::hello(&world, &machine, None).await;
    assert_eq!(client.stored, 2);
    client.say(FromAgent::Outbox { items }).await;
    assert_eq!(client.hear().await, ToAgent::Stored { sequence: 2 });
    assert_eq!(world.controller.store.history(&name("ks1"), 100).await.unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_is_what_the_server_says() {
    let world = World::new().await;
    let machine = world.join("ks1").await;
    let mut client = Client::hello(&world, &machine, None).await;
    let error = ErrorReport { code: "x".into(), message: "as I said".into(), causes: vec![], hint: None };
    let answer = Planned::Failed { error };
    let ks1 = name("ks1");
    let asked = world.controller.plan(&ks1, "schema = 1\n", Duration::from_secs(20));
    let (planned, ()) = tokio::join!(asked, async {
        let ToAgent::Plan { request, envelope } = client.hear().await else { panic!("not asked for a plan") };
        assert_eq!(client.open(&envelope).purpose, Purpose::Plan);
        client.say(FromAgent::Planned { request, plan: answer.clone() }).await;
    });
    assert_eq!(planned.unwrap(), answer);
    let slow = world.controller.plan(&ks1, "schema = 1\n", Duration::from_millis(50)).await;
    assert!(slow.unwrap_err().to_string().contains("did not answer"));
    let absent = world.controller.plan(&name("ks9"), "schema = 1\n", Duration::from_secs(1)).await;
    assert!(absent.unwrap_err().to_string().contains("no server `ks9`"));
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_renewed_on_the_stream() {
    let world = World::new().await;
    let machine = world.join("ks1").await;
    let mut client = Client::hello(&world, &machine, None).await;
    let (_, csr) = socle::agent::enrolment::tls_key().unwrap();
    client.say(FromAgent::Renew { csr }).await;
    let ToAgent::Certificate { certificate } = client.hear().await else { panic!("no certificate") };
    let peer = tls::Peer::of(&certificate.into()).unwrap();
    assert_eq!((peer.server, peer.identity), (name("ks1"), client.membership.identity));
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_ends_the_connection_and_nothing_else() {
    use tokio::io::AsyncWriteExt;
    let world = World::new().await;
    let (machine, other) = (world.join("ks1").await, world.join("ks2").await);
    let mut bystander = Client::hello(&world, &other, None).await;
    let identity = socle::agent::enrolment::Identity::load(&machine.path()).unwrap().unwrap();
    let config = || tls::agent_config(identity.authority(), identity.certificate(), identity.tls_key()).unwrap();
    let mut huge = u32::MAX.to_be_bytes().to_vec();
    huge.extend([b'x'; 100]);
    for said in [&huge[..], b"\0\0\0\x02{}", b"\0\0\0\x10{\"say\":\"hello\"  ", b"GET / HTTP/1.1\r\n\r\n"] {
        let mut stream = crate::client::dial(&world, config()).await.unwrap();
        stream.write_all(said).await.unwrap();
        let mut reader = socle::wire::frame::Reader::<_, ToAgent>::new(stream, 1 << 20);
        let heard = tokio::time::timeout(Duration::from_secs(20), reader.next()).await.unwrap();
        assert!(heard.is_err(), "{said:?}: {heard:?}");
    }
    // A hello comes once.
    let mut twice = Client::hello(&world, &machine, None).await;
    twice.say(FromAgent::Hello { version: "x".into(), position: None }).await;
    assert!(twice.try_hear().await.is_err());
    world.push("ks2", "schema = 1\n").await;
    assert_eq!(bystander.document().await.text, "schema = 1\n");
}
