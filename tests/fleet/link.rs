//! The link as a process would run it, between a controller and an agent's door.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use socle::agent::enrolment::Identity;
use socle::agent::link::{self, Config};
use socle::controller::authority::AGENT_LIFE;
use socle::host::certificates;
use socle::model::certificate::{CertifiedName, KeyType};
use socle::model::fleet::Origin;
use socle::wire::frame::{Reader, Writer};
use socle::wire::message::{Certified, FromAgent, MAX_BYTES, ToAgent};
use socle::wire::tls;
use tokio::net::UnixListener;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use crate::client::{Client, position};
use crate::world::{Machine, World, name, now, random, until};

/// Where the agent would be: its door, and what comes in.
struct Door {
    listener: UnixListener,
}

impl Door {
    fn open(machine: &Machine) -> Self {
        Self { listener: UnixListener::bind(machine.path().join("link.sock")).unwrap() }
    }

    /// Of the next link that is still there: one whose controller let go at once may be gone before it is greeted.
    async fn hello(&self) -> (Reader<OwnedReadHalf, ToAgent>, Writer<OwnedWriteHalf, FromAgent>) {
        loop {
            let (stream, _) = self.listener.accept().await.unwrap();
            let (read, write) = stream.into_split();
            let mut writer = Writer::new(write, MAX_BYTES);
            let hello = FromAgent::Hello { version: "test".to_owned(), position: None };
            if writer.send(&hello).await.is_ok() {
                return (Reader::new(read, MAX_BYTES), writer);
            }
        }
    }
}

/// Runs until the test ends. The identity names the port of this world.
fn start(world: &World, machine: &Machine) -> tokio::task::JoinHandle<()> {
    start_with(vec![format!("localhost:{}", world.address.port())], machine)
}

fn start_with(addresses: Vec<String>, machine: &Machine) -> tokio::task::JoinHandle<()> {
    let mut identity = Identity::load(&machine.path()).unwrap().unwrap();
    identity.addresses = addresses;
    let path = machine.path().join("credential");
    std::fs::write(&path, serde_json::to_vec(&identity).unwrap()).unwrap();
    let (state, agent) = (machine.path(), machine.path().join("link.sock"));
    let config = Config { identity: path, state, agent, now, random, status: |_| {} };
    tokio::spawn(async move { link::run(&config).await })
}

fn renewed(state: &Path) -> bool {
    state.join("certificate.json").exists()
}

async fn connected(world: &World) {
    until("the link is connected", async || world.controller.hub.is_connected(&name("ks1")).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn carries_both_ways_and_connects_again() {
    let world = World::new().await;
    let machine = world.join("ks1").await;
    let door = Door::open(&machine);
    let _running = start(&world, &machine);
    let (mut reader, mut writer) = door.hello().await;
    assert_eq!(reader.next().await.unwrap(), ToAgent::Stored { sequence: 0 });
    world.push("ks1", "schema = 1\n").await;
    let ToAgent::Document { envelope } = reader.next().await.unwrap() else { panic!("no document") };
    let payload = envelope.open(&[world.controller.keys.document.public()]).unwrap();
    let position = position(&payload, Origin::Controller);
    writer.send(&FromAgent::Accepted { position: position.clone() }).await.unwrap();
    until("the position is stored", async || {
        let known = world.controller.store.server(&name("ks1")).await.unwrap().unwrap().position;
        known.filter(|known| *known == position)
    })
    .await;
    // The agent restarts, then the controller lets go: the link comes back by itself each time.
    drop((reader, writer));
    let (mut reader, _writer) = door.hello().await;
    reader.next().await.unwrap();
    world.controller.hub.cut(&name("ks1"));
    let (_reader, _writer) = door.hello().await;
    connected(&world).await;
    assert!(!renewed(&machine.path()), "the certificate is fresh");
}

/// As one whose database is away: it shows who it is, and then can do nothing for the agent.
async fn one_that_lets_go(world: &World) -> std::net::SocketAddr {
    let authority = &world.controller.keys.authority;
    let (chain, key) = authority.for_controller(&["localhost".to_owned()], now()).unwrap();
    let config = tls::controller_config(&[authority.certificate().clone()], chain, key).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            drop(acceptor.accept(stream).await);
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_that_lets_go_at_once_does_not_keep_its_agents_from_another() {
    let world = World::new().await;
    let machine = world.join("ks1").await;
    let door = Door::open(&machine);
    let addresses = [one_that_lets_go(&world).await, world.address];
    let _running = start_with(addresses.map(|address| format!("localhost:{}", address.port())).to_vec(), &machine);
    let agent = tokio::spawn(async move {
        loop {
            // Held until the link is gone.
            let (mut reader, _writer) = door.hello().await;
            while reader.next().await.is_ok() {}
        }
    });
    connected(&world).await;
    agent.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_gets_a_certificate_for_the_names_of_its_document_and_for_no_others() {
    let world = World::new().await;
    let machine = world.join("ks1").await;
    let door = Door::open(&machine);
    let _running = start(&world, &machine);
    let (mut reader, mut writer) = door.hello().await;
    reader.next().await.unwrap();
    let key = certificates::key::generate(KeyType::P256).unwrap();
    let elsewhere: Vec<CertifiedName> = vec!["bank.example.org".parse().unwrap()];
    let csr = certificates::key::request(&key, &elsewhere).unwrap();
    let mut request = 0;
    let mut ask = async |instance: &str| {
        request += 1;
        writer.send(&FromAgent::Certify { request, instance: name(instance), csr: csr.clone() }).await.unwrap();
        loop {
            if let ToAgent::Certified { request: about, outcome } = reader.next().await.unwrap() {
                assert_eq!(about, request);
                return outcome;
            }
        }
    };
    let Certified::Refused { error } = ask("inside").await else { panic!("without a document") };
    assert_eq!(error.code, "site.certificate");
    let site = |name: &str, source: &str| {
        format!(
            "[instances.{name}]\nrecipe = \"static\"\nversion = \"1\"\ndomain = \"{name}.home.arpa\"\ncertificate = {{ source = \"{source}\" }}\n"
        )
    };
    let text = format!("schema = 1\n{}{}", site("inside", "internal"), site("public", "acme"));
    world.push("ks1", &text).await;
    let Certified::Chain { pem } = ask("inside").await else { panic!("no certificate") };
    let inside: Vec<CertifiedName> = vec!["inside.home.arpa".parse().unwrap()];
    assert_eq!(certificates::chain::check(&pem, &key, &inside, now()).unwrap().names, inside);
    assert!(pem.ends_with(world.controller.keys.sites.pem()));
    for other in ["public", "nobody"] {
        assert!(matches!(ask(other).await, Certified::Refused { .. }), "{other}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_certificate_is_replaced_by_the_servers_own_key() {
    let world = World::with_life(Duration::ZERO).await;
    let machine = world.join("ks1").await;
    until("the certificate expired, to the second", async || {
        let mut client = Client::connect(&world, &machine).await.unwrap();
        let short = Duration::from_millis(500);
        matches!(tokio::time::timeout(short, client.reader.next()).await, Ok(Err(_))).then_some(())
    })
    .await;
    let world = World::restart_with_life(world, AGENT_LIFE).await;
    let door = Door::open(&machine);
    let _running = start(&world, &machine);
    let (_reader, _writer) = door.hello().await;
    connected(&world).await;
    assert!(renewed(&machine.path()));
    let server = world.controller.store.server(&name("ks1")).await.unwrap().unwrap();
    assert_eq!(server.recovery_sequence, 1);
    let end = server.certificate.unwrap().not_after;
    assert!(end.duration_since(now()) > jiff::SignedDuration::from_hours(24 * 6));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_renewed_at_half_its_life_by_itself() {
    let world = World::with_life(Duration::from_secs(4)).await;
    let machine = world.join("ks1").await;
    let door = Door::open(&machine);
    let _running = start(&world, &machine);
    let (_reader, _writer) = door.hello().await;
    connected(&world).await;
    until("it is renewed", async || renewed(&machine.path()).then_some(())).await;
    let first = Identity::load(&machine.path()).unwrap().unwrap();
    let kept: serde_json::Value =
        serde_json::from_slice(&std::fs::read(machine.path().join("certificate.json")).unwrap()).unwrap();
    assert_ne!(kept["certificate"], serde_json::to_value(&first).unwrap()["certificate"]);
    assert!(world.controller.hub.is_connected(&name("ks1")), "on the same connection");
}

fn a_day_later() -> jiff::Timestamp {
    now() + jiff::SignedDuration::from_hours(24)
}

fn a_day_earlier() -> jiff::Timestamp {
    now() - jiff::SignedDuration::from_hours(24)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_wrong_by_a_day_keeps_nobody_out() {
    for clock in [a_day_later, a_day_earlier] {
        let world = World::with(AGENT_LIFE, clock).await;
        let expires = clock() + jiff::SignedDuration::from_hours(4);
        let machine = Machine::blank();
        machine.join(&world.token_until("ks1", expires).await).await.unwrap();
        let door = Door::open(&machine);
        let _running = start(&world, &machine);
        let (_reader, _writer) = door.hello().await;
        connected(&world).await;
        let identity = Identity::load(&machine.path()).unwrap().unwrap();
        let (begin, end) = tls::validity(&identity.certificate()).unwrap();
        assert!(begin < now() && now() < end);
    }
}
