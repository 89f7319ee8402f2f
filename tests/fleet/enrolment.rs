use socle::agent::enrolment::{EnrolError, Identity, Joined, recover};
use socle::wire::tls;

use crate::client::{Client, dial};
use crate::world::{Machine, World, name, now, operator, until};

fn refused(outcome: Result<Joined, EnrolError>) -> String {
    match outcome {
        Err(EnrolError::Refused(error)) => error.code,
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_enrols_one_server_once() {
    let world = World::new().await;
    let token = world.token("ks1").await;
    let machine = Machine::blank();
    assert!(matches!(machine.join(&token).await.unwrap(), Joined::Enrolled { .. }));
    assert!(matches!(machine.join(&token).await.unwrap(), Joined::Already { .. }), "run twice");

    assert_eq!(refused(Machine::blank().join(&token).await), "enrol.token-used");
    assert_eq!(world.alarms().await, ["join-token.reused"]);
    // The first one is not disturbed.
    Client::hello(&world, &machine, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_was_lost_is_asked_for_again() {
    let world = World::new().await;
    let mut token = world.token("ks1").await;
    let good = std::mem::replace(&mut token.addresses, vec!["localhost:1".to_owned()]);
    let machine = Machine::blank();
    assert!(matches!(machine.join(&token).await, Err(EnrolError::Dial(_))), "the keys are made, nobody is reached");
    token.addresses = good;
    let before_the_answer = machine.copy();
    machine.join(&token).await.unwrap();
    before_the_answer.join(&token).await.unwrap();
    let identity = |machine: &Machine| Identity::load(&machine.path()).unwrap().unwrap().key().unwrap().public();
    assert_eq!(identity(&machine), identity(&before_the_answer));
    assert_eq!(world.alarms().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn late_revoked_and_unknown_tokens_enrol_nobody() {
    let world = World::new().await;
    let open = world.token("other").await;
    let late = world.token_until("ks1", now() - jiff::SignedDuration::from_secs(1)).await;
    assert_eq!(refused(Machine::blank().join(&late).await), "enrol.token-expired");
    let revoked = world.token("ks1").await;
    world.controller.store.revoke_join_token(revoked.id, &operator()).await.unwrap();
    assert_eq!(refused(Machine::blank().join(&revoked).await), "enrol.token-revoked");
    let mut unknown = open.clone();
    unknown.id.0[0] ^= 1;
    assert_eq!(refused(Machine::blank().join(&unknown).await), "enrol.token-unknown");
    assert!(world.controller.store.servers().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn another_authority_is_told_nothing() {
    let (world, impostor) = (World::new().await, World::new().await);
    let mut token = world.token("ks1").await;
    // Somebody enrols there too, so the door is open.
    impostor.token("ks1").await;
    token.addresses = vec![format!("localhost:{}", impostor.address.port())];
    let outcome = Machine::blank().join(&token).await;
    assert!(matches!(outcome, Err(EnrolError::Dial(_))), "{outcome:?}");
    assert!(impostor.controller.store.servers().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_open_token_there_is_no_such_door() {
    let world = World::new().await;
    let pin = tls::pin(world.controller.keys.authority.certificate()).unwrap();
    assert!(dial(&world, tls::enrol_config(pin).unwrap()).await.is_err());
    let token = world.token("ks1").await;
    assert!(dial(&world, tls::enrol_config(pin).unwrap()).await.is_ok());
    world.controller.store.revoke_join_token(token.id, &operator()).await.unwrap();
    assert!(dial(&world, tls::enrol_config(pin).unwrap()).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_comes_in_without_a_certificate_of_the_fleet() {
    let (world, other) = (World::new().await, World::new().await);
    let machine = other.join("ks1").await;
    world.join("ks1").await;
    let identity = Identity::load(&machine.path()).unwrap().unwrap();
    // The other fleet's certificate, on this fleet's port. TLS 1.3 tells the client at its first read.
    let authority = world.controller.keys.authority.certificate().clone();
    let config = tls::agent_config(authority.clone(), identity.certificate(), identity.tls_key()).unwrap();
    let (read, _write) = tokio::io::split(dial(&world, config).await.unwrap());
    let mut reader = socle::wire::frame::Reader::<_, socle::wire::message::ToAgent>::new(read, 1 << 20);
    assert!(reader.next().await.is_err());

    let mut none = tls::enrol_config(tls::pin(&authority).unwrap()).unwrap();
    none.alpn_protocols = vec![tls::AGENT.to_vec()];
    let (read, _write) = tokio::io::split(dial(&world, none.clone()).await.unwrap());
    let mut reader = socle::wire::frame::Reader::<_, socle::wire::message::ToAgent>::new(read, 1 << 20);
    assert!(reader.next().await.is_err());

    none.alpn_protocols = vec![b"h2".to_vec()];
    assert!(dial(&world, none).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_banned_server_is_cut_off_and_stays_out() {
    let world = World::new().await;
    let machine = world.join("ks1").await;
    let mut client = Client::hello(&world, &machine, None).await;
    world.controller.store.ban(&name("ks1"), &operator()).await.unwrap();
    let last = client.hear().await;
    assert!(matches!(last, socle::wire::message::ToAgent::Bye { .. }), "{last:?}");
    assert!(client.try_hear().await.is_err());

    let mut again = Client::connect(&world, &machine).await.unwrap();
    assert!(matches!(again.hear().await, socle::wire::message::ToAgent::Bye { .. }));
    let mut identity = Identity::load(&machine.path()).unwrap().unwrap();
    identity.addresses = world.token("other").await.addresses;
    assert!(matches!(recover(&identity, 1).await, Err(EnrolError::Refused(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_evicted_server_enrols_again_by_a_new_token_only() {
    let world = World::new().await;
    let machine = world.join("ks1").await;
    let token = world.token("ks1").await;
    assert_eq!(refused(Machine::blank().join(&token).await), "enrol.already-enrolled");
    world.controller.store.evict(&name("ks1"), &operator()).await.unwrap();
    let mut old = Client::connect(&world, &machine).await.unwrap();
    assert!(matches!(old.hear().await, socle::wire::message::ToAgent::Bye { .. }));
    let blank = Machine::blank();
    blank.join(&world.token("ks1").await).await.unwrap();
    Client::hello(&world, &blank, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_server_comes_back_by_its_own_key_and_a_copy_does_not() {
    let world = World::with_life(std::time::Duration::ZERO).await;
    let machine = world.join("ks1").await;
    until("the certificate expired, to the second", async || {
        let mut client = Client::connect(&world, &machine).await.unwrap();
        let short = std::time::Duration::from_millis(500);
        matches!(tokio::time::timeout(short, client.reader.next()).await, Ok(Err(_))).then_some(())
    })
    .await;
    let mut identity = Identity::load(&machine.path()).unwrap().unwrap();
    identity.addresses = vec![format!("localhost:{}", world.address.port())];
    assert!(recover(&identity, 1).await.is_ok());
    assert!(recover(&identity, 3).await.is_ok(), "a try whose answer was lost counts");
    match recover(&identity, 2).await {
        Err(EnrolError::Refused(error)) => assert_eq!(error.code, "enrol.recovery-outdated"),
        other => panic!("{:?}", other.map(|_| ())),
    }
    assert_eq!(world.alarms().await, ["recovery.outdated"], "a copy of the server is told");
}
