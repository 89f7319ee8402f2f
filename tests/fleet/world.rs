//! A controller in this process, in a directory that goes away.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use socle::agent::enrolment::{self, EnrolError, Joined};
use socle::controller::keys::Keys;
use socle::controller::push::Pushed;
use socle::controller::store::{By, NewJoinToken, Store, StoreUrl};
use socle::controller::{Controller, daemon, new_id};
use socle::model::Name;
use socle::wire::{Envelope, JoinToken, tls};
use tokio_util::sync::CancellationToken;

pub struct World {
    pub controller: Arc<Controller>,
    pub address: SocketAddr,
    stop: CancellationToken,
    serving: tokio::task::JoinHandle<()>,
    directory: tempfile::TempDir,
}

pub fn now() -> jiff::Timestamp {
    jiff::Timestamp::now()
}

pub fn random(bytes: &mut [u8]) {
    getrandom::fill(bytes).unwrap();
}

pub fn name(text: &str) -> Name {
    text.parse().unwrap()
}

pub fn operator() -> By {
    By::new("test", now())
}

impl World {
    pub async fn new() -> Self {
        Self::with_life(socle::controller::authority::AGENT_LIFE).await
    }

    /// Agents' certificates live as long as said.
    pub async fn with_life(agent_life: Duration) -> Self {
        Self::with(agent_life, now).await
    }

    /// With a clock of its own: to the controller, the servers' clocks are wrong.
    pub async fn with(agent_life: Duration, clock: fn() -> jiff::Timestamp) -> Self {
        let directory = tempfile::tempdir().unwrap();
        Keys::create(&directory.path().join("keys"), "test", clock(), random).unwrap();
        let store = Store::open(&StoreUrl::sqlite(directory.path().join("controller.db"))).await.unwrap();
        store.create_fleet(uuid::Uuid::from_u128(1), &name("test"), &operator()).await.unwrap();
        Self::start(directory, store, agent_life, clock).await
    }

    async fn start(
        directory: tempfile::TempDir,
        store: Store,
        agent_life: Duration,
        clock: fn() -> jiff::Timestamp,
    ) -> Self {
        let keys = Keys::load(&directory.path().join("keys")).unwrap();
        let fleet = store.fleet().await.unwrap().unwrap();
        let mut controller =
            Controller::new(new_id(clock(), random), store, keys, fleet, vec!["localhost:0".to_owned()], clock, random);
        controller.agent_life = agent_life;
        let (controller, stop) = (Arc::new(controller), CancellationToken::new());
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let (address, serving) = daemon::open(controller.clone(), any, stop.clone()).await.unwrap();
        Self { controller, address, stop, serving: tokio::spawn(serving), directory }
    }

    /// Ends the controller's process, as far as one can from within, and starts another on the same files.
    pub async fn restart(self) -> Self {
        let life = self.controller.agent_life;
        self.restart_with_life(life).await
    }

    pub async fn restart_with_life(self, life: Duration) -> Self {
        let clock = self.controller.now;
        self.stop.cancel();
        self.serving.await.unwrap();
        let store = Store::open(self.controller.store.url()).await.unwrap();
        Self::start(self.directory, store, life, clock).await
    }

    /// The controller's directory.
    pub fn path(&self) -> PathBuf {
        self.directory.path().to_owned()
    }

    pub async fn token(&self, server: &str) -> JoinToken {
        self.token_until(server, now() + jiff::SignedDuration::from_hours(4)).await
    }

    pub async fn token_until(&self, server: &str, expires: jiff::Timestamp) -> JoinToken {
        let pin = tls::pin(self.controller.keys.authority.certificate()).unwrap();
        let addresses = vec![format!("localhost:{}", self.address.port())];
        let token = JoinToken::new(name(server), addresses, pin, expires, random);
        let kept = NewJoinToken { id: token.id, server: name(server), public_key: token.key().public(), expires };
        self.controller.store.create_join_token(&kept, &operator()).await.unwrap();
        token
    }

    /// A blank server that joins.
    pub async fn join(&self, server: &str) -> Machine {
        let machine = Machine::blank();
        let joined = machine.join(&self.token(server).await).await.unwrap();
        assert_eq!(joined, Joined::Enrolled { fleet: "test".to_owned(), server: name(server) });
        machine
    }

    pub async fn push(&self, server: &str, text: &str) -> Pushed {
        let texts = [(name(server), text.to_owned())].into();
        self.controller.push(texts, None, &operator()).await.unwrap()
    }

    /// The newest document of a server, as it is sent.
    pub async fn newest(&self, server: &str) -> Envelope {
        let newest = self.controller.store.newest(&name(server)).await.unwrap().unwrap();
        Envelope::from_json(&newest.envelope).unwrap()
    }

    pub async fn alarms(&self) -> Vec<String> {
        self.controller.store.alarms(100).await.unwrap().into_iter().map(|alarm| alarm.code).collect()
    }
}

/// The state directory of an agent.
pub struct Machine(tempfile::TempDir);

impl Machine {
    pub fn blank() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self) -> PathBuf {
        self.0.path().to_owned()
    }

    pub async fn join(&self, token: &JoinToken) -> Result<Joined, EnrolError> {
        enrolment::join(self.0.path(), token, now(), random).await
    }

    /// A disk image taken now.
    pub fn copy(&self) -> Self {
        let copy = Self::blank();
        for entry in std::fs::read_dir(self.path()).unwrap() {
            let from = entry.unwrap().path();
            std::fs::copy(&from, copy.path().join(from.file_name().unwrap())).unwrap();
        }
        copy
    }
}

/// Waits until something is so; a test that waits 20 s in vain has failed.
pub async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut look: impl FnMut() -> F) -> T {
    let end = tokio::time::Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(seen) = look().await {
            return seen;
        }
        assert!(tokio::time::Instant::now() < end, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
