//! The key that signs documents is changed, twice, and one server was off meanwhile.

use std::sync::Arc;

use socle::agent::delivery::Delivered;
use socle::agent::enrolment::Membership;
use socle::agent::reconcile::Agent;
use socle::agent::relay::Relay;
use socle::controller::keys::{Keys, Rotated};
use socle::controller::newcomers;
use socle::host::fake::{self, FakeVault};
use socle::recipe::{Catalog, Facts};
use socle::wire::message::ToAgent;
use socle::wire::{Envelope, PublicKey, SigningKey};

use crate::client::Client;
use crate::world::{Machine, World, name, now, operator, random, until};

/// The agent of a joined server, on a host of stand-ins.
struct Server {
    _root: tempfile::TempDir,
    agent: Agent,
    machine: Machine,
}

impl Server {
    async fn join(world: &World, server: &str) -> Self {
        let (machine, root) = (world.join(server).await, tempfile::tempdir().unwrap());
        let agent = Agent {
            host: fake::host(root.path()),
            vault: Arc::new(FakeVault::default()),
            state: machine.path(),
            catalog: Catalog::built_in(),
            facts: Facts::of_debian(13).unwrap(),
            python_index: None,
            interval_s: 1,
            progress: Arc::new(Relay::default()),
            now,
            random,
        };
        Self { _root: root, agent, machine }
    }

    fn believes(&self) -> Vec<PublicKey> {
        Membership::load(&self.agent.state).unwrap().unwrap().document_keys
    }

    /// Connects, takes what it is sent, and tells the generation it is at then.
    async fn visit(&self, world: &World) -> u64 {
        let position = self.agent.position().unwrap();
        let mut client = Client::hello(world, &self.machine, position).await;
        match client.hear().await {
            ToAgent::Document { envelope } => self.take(&envelope),
            other => panic!("not a document: {other:?}"),
        }
    }

    #[track_caller]
    fn take(&self, envelope: &Envelope) -> u64 {
        match self.agent.deliver(envelope) {
            Delivered::Accepted { position, news: true } => position.mark.generation.0,
            other => panic!("not taken: {other:?}"),
        }
    }
}

async fn push(world: &World, server: &str, text: &str) {
    let texts = [(name(server), text.to_owned())].into();
    world.controller.push(texts, None, &operator()).await.unwrap();
}

async fn newest(world: &World, server: &str) -> Envelope {
    let newest = world.controller.store.newest(&name(server)).await.unwrap().unwrap();
    Envelope::from_json(&newest.envelope).unwrap()
}

/// `socle controller key rotate`, a restart, and what a controller does after its start.
async fn rotated(world: World) -> (World, Rotated) {
    let rotated = Keys::rotate(&world.path().join("keys"), now(), random).unwrap();
    let world = world.restart().await;
    assert_eq!(world.controller.keys.document.public(), rotated.to);
    let giving = tokio::spawn(newcomers::run(world.controller.clone()));
    for server in ["ks1", "ks2"] {
        until("its document is signed anew", || async {
            newest(&world, server).await.open(&[rotated.to]).ok().map(drop)
        })
        .await;
    }
    giving.abort();
    (world, rotated)
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_follow_also_when_they_were_off_and_the_old_key_is_worth_nothing() {
    let world = World::new().await;
    let (here, away) = (Server::join(&world, "ks1").await, Server::join(&world, "ks2").await);
    for (server, machine) in [("ks1", &here), ("ks2", &away)] {
        push(&world, server, "schema = 1\n").await;
        assert_eq!(machine.visit(&world).await, 1);
    }
    let first = world.controller.keys.document.public();
    let stolen = SigningKey::from_base64(&std::fs::read_to_string(world.path().join("keys/document.key")).unwrap());
    let stolen = stolen.unwrap();
    assert_eq!((here.believes(), away.believes()), (vec![first], vec![first]));

    // One is there, and follows at once: the same words, signed anew.
    let (world, second) = rotated(world).await;
    assert_eq!((second.from, here.visit(&world).await), (first, 2));
    assert_eq!((here.believes(), away.believes()), (vec![second.to], vec![first]));

    // A controller of the same fleet that was not started again yet takes what the other signed for good.
    assert!(newest(&world, "ks1").await.open(&[first]).is_ok());

    // Another key comes while the other is still off. When it is back, it follows both steps with one document.
    let (world, third) = rotated(world).await;
    assert_eq!(away.visit(&world).await, 3);
    assert_eq!((away.believes(), third.from), (vec![third.to], second.to));
    assert_eq!(here.visit(&world).await, 3);
    assert_eq!(here.believes(), [third.to]);
    assert!(world.alarms().await.is_empty(), "{:?}", world.alarms().await);

    // Who joins now never hears of the keys before.
    let late = Server::join(&world, "ks3").await;
    assert_eq!(late.believes(), [third.to]);

    // Whoever has the first key orders nothing any more, with or without the way that leads from it.
    let payload = newest(&world, "ks1").await.open(&[third.to]).unwrap();
    let mut forged = payload.clone();
    forged.mark.generation.0 = 9;
    let plain = Envelope::sign(&forged, &[&stolen]);
    let told = [plain.clone(), plain.with_succession(&world.controller.keys.succession)];
    for server in [&here, &away] {
        for envelope in &told {
            let delivered = server.agent.deliver(envelope);
            let Delivered::Refused { error, .. } = delivered else { panic!("{delivered:?}") };
            assert_eq!(error.code, "fleet.envelope");
        }
        assert_eq!((server.believes(), server.agent.position().unwrap().unwrap().mark), (vec![third.to], payload.mark));
    }
    // And the next ordinary document is taken by all.
    push(&world, "ks1", "schema = 1\n# more\n").await;
    assert_eq!(here.visit(&world).await, 4);
}

/// Killed between taking a document and noting whose key signed it: the next one leads there again.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_was_killed_before_it_noted_the_key_follows_once_more() {
    let world = World::new().await;
    let server = Server::join(&world, "ks1").await;
    let _other = Server::join(&world, "ks2").await;
    push(&world, "ks1", "schema = 1\n").await;
    push(&world, "ks2", "schema = 1\n").await;
    assert_eq!(server.visit(&world).await, 1);
    let before = std::fs::read(server.agent.state.join("fleet.json")).unwrap();
    let (world, rotated) = rotated(world).await;
    assert_eq!(server.visit(&world).await, 2);
    std::fs::write(server.agent.state.join("fleet.json"), before).unwrap();
    // The same document once more is no news, and enough.
    let again = server.agent.deliver(&newest(&world, "ks1").await);
    assert!(matches!(again, Delivered::Accepted { news: false, .. }), "{again:?}");
    assert_eq!(server.believes(), [rotated.to]);
}
