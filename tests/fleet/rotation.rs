//! The key that signs documents is changed, twice, and one server was off meanwhile.

use socle::agent::delivery::Delivered;
use socle::agent::enrolment::Membership;
use socle::agent::reconcile::Agent;
use socle::controller::keys::{Keys, Rotated};
use socle::controller::newcomers;
use socle::wire::message::ToAgent;
use socle::wire::{Envelope, PublicKey, SigningKey};

use crate::agent;
use crate::client::Client;
use crate::world::{Machine, World, now, random, until};

/// The agent of a joined server, on a host of stand-ins.
struct Server {
    _root: tempfile::TempDir,
    agent: Agent,
    machine: Machine,
}

impl Server {
    async fn join(world: &World, server: &str) -> Self {
        let (machine, root) = (world.join(server).await, tempfile::tempdir().unwrap());
        let agent = agent::of(&machine, root.path());
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

/// `socle controller key rotate`, a restart, and what a controller does after its start.
async fn rotated(world: World) -> (World, Rotated) {
    let rotated = Keys::rotate(&world.path().join("keys"), now(), random).unwrap();
    let world = world.restart().await;
    assert_eq!(world.controller.keys.document.public(), rotated.to);
    let giving = tokio::spawn(newcomers::run(world.controller.clone()));
    for server in ["ks1", "ks2"] {
        until("its document is signed anew", || async {
            world.newest(server).await.open(&[rotated.to]).ok().map(drop)
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
        world.push(server, "schema = 1\n").await;
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
    assert!(world.newest("ks1").await.open(&[first]).is_ok());

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
    let payload = world.newest("ks1").await.open(&[third.to]).unwrap();
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
    world.push("ks1", "schema = 1\n# more\n").await;
    assert_eq!(here.visit(&world).await, 4);
}

/// Killed between taking a document and noting whose key signed it: the next one leads there again.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_was_killed_before_it_noted_the_key_follows_once_more() {
    let world = World::new().await;
    let server = Server::join(&world, "ks1").await;
    let _other = Server::join(&world, "ks2").await;
    world.push("ks1", "schema = 1\n").await;
    world.push("ks2", "schema = 1\n").await;
    assert_eq!(server.visit(&world).await, 1);
    let before = std::fs::read(server.agent.state.join("fleet.json")).unwrap();
    let (world, rotated) = rotated(world).await;
    assert_eq!(server.visit(&world).await, 2);
    std::fs::write(server.agent.state.join("fleet.json"), before).unwrap();
    // The same document once more is no news, and enough.
    let again = server.agent.deliver(&world.newest("ks1").await);
    assert!(matches!(again, Delivered::Accepted { news: false, .. }), "{again:?}");
    assert_eq!(server.believes(), [rotated.to]);
}
