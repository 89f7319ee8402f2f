//! Two controllers as processes on one real PostgreSQL; agents with the real link between, on hosts of stand-ins.
#![expect(clippy::disallowed_methods, reason = "tests write files, run programs and ask the clock")]

mod home;
mod postgres;

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use socle::agent::enrolment::{self, Identity};
use socle::agent::reconcile::Agent;
use socle::agent::relay::Relay;
use socle::agent::{daemon, real};
use socle::controller::store::{LOST_AFTER, Store};
use socle::host::fake::{self, FakeVault};
use socle::model::Name;
use socle::recipe::{Catalog, Facts};
use socle::wire::JoinToken;

use home::{Home, json, said};

const HOSTS: [&str; 2] = ["127.0.0.1", "127.0.0.2"];

/// A server of the fleet: a daemon in this process, its link in another.
struct Joined {
    name: &'static str,
    root: tempfile::TempDir,
    link: Child,
}

impl Drop for Joined {
    fn drop(&mut self) {
        let _ = self.link.kill();
        let _ = self.link.wait();
    }
}

fn random(bytes: &mut [u8]) {
    getrandom::fill(bytes).unwrap();
}

impl Joined {
    /// Joins through `controller`; later it dials `addresses`, in this order.
    async fn to(controller: &Home, name: &'static str, addresses: &[String]) -> Self {
        let root = tempfile::tempdir().unwrap();
        let state = root.path().join("var/lib/socle");
        for directory in ["var/lib/socle", "etc", "link"] {
            std::fs::create_dir_all(root.path().join(directory)).unwrap();
        }
        let invitation = json(controller.controller().args(["server", "add", name]));
        let token: JoinToken = invitation["token"].as_str().unwrap().parse().unwrap();
        enrolment::join(&state, &token, jiff::Timestamp::now(), random).await.unwrap();
        let mut identity = Identity::load(&state).unwrap().unwrap();
        assert_eq!(identity.addresses.len(), 2, "it was told of both");
        identity.addresses = addresses.to_vec();
        let credential = root.path().join("credential");
        std::fs::write(&credential, serde_json::to_vec(&identity).unwrap()).unwrap();
        let agent = Agent {
            host: fake::host(root.path()),
            vault: Arc::new(FakeVault::default()),
            state,
            catalog: Catalog::built_in(),
            facts: Facts::of_debian(13).unwrap(),
            python_index: None,
            interval_s: 60,
            progress: Arc::new(Relay::default()),
            now: jiff::Timestamp::now,
            random,
        };
        let keeper = real::keeper(&agent);
        // On a thread of its own, as it is a process of its own in life: what a pass awaits is not `Send`.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(daemon::run(agent, keeper)).unwrap();
        });
        let link = Command::new(assert_cmd::cargo::cargo_bin("socle"))
            .args(["link", "run", "--agent"])
            .arg(root.path().join("run/socle/link.sock"))
            .env("SOCLE_IDENTITY", &credential)
            .env("STATE_DIRECTORY", root.path().join("link"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(root.path().join("link.log")).unwrap())
            .spawn()
            .unwrap();
        Self { name, root, link }
    }

    fn motd(&self) -> String {
        std::fs::read_to_string(self.root.path().join("etc/motd")).unwrap_or_default()
    }

    fn outbox(&self) -> PathBuf {
        self.root.path().join("var/lib/socle/outbox")
    }

    /// The number of the item it noted last, if the controllers have taken all of them.
    fn told(&self) -> Option<u64> {
        let waiting = std::fs::read_dir(self.outbox()).unwrap().map(|entry| entry.unwrap().file_name());
        let waiting = waiting.filter(|name| name.to_str().unwrap().ends_with(".json")).count();
        let last: Value = serde_json::from_slice(&std::fs::read(self.outbox().join("last")).unwrap()).unwrap();
        (waiting == 0).then(|| last["sequence"].as_u64().unwrap())
    }
}

/// Waits until something is so; gives how long that took.
async fn within<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> (T, Duration) {
    let begun = Instant::now();
    loop {
        if let Some(seen) = look() {
            return (seen, begun.elapsed());
        }
        assert!(begun.elapsed() < limit, "in vain for {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What a controller says of a server.
fn status(controller: &Home, server: &str) -> Value {
    let told = controller.fleet().args(["status", "--json"]).output().unwrap().stdout;
    let told: Value = serde_json::from_slice(&told).unwrap();
    let servers = told["servers"].as_array().unwrap();
    servers.iter().find(|status| status["server"] == server).cloned().unwrap_or_default()
}

fn is_connected(controller: &Home, server: &str, connected: bool) -> Option<()> {
    (status(controller, server)["connected"] == connected).then_some(())
}

/// A directory of the fleet that puts `text` on every server.
fn fleet(directory: &Path, text: &str) {
    std::fs::create_dir_all(directory.join("servers")).unwrap();
    std::fs::write(directory.join("fleet.toml"), "schema = 1\nname = \"sol\"\n").unwrap();
    for server in ["ks1", "ks2", "ks3"] {
        let file = format!("[files.\"/etc/motd\"]\ncontent = \"{text}\\n\"\n");
        std::fs::write(directory.join(format!("servers/{server}.toml")), file).unwrap();
    }
}

/// A port that is free on both addresses.
fn free_port() -> u16 {
    loop {
        let port = home::free_port();
        if HOSTS.iter().all(|host| TcpListener::bind((*host, port)).is_ok()) {
            return port;
        }
    }
}

/// One fleet, two controllers; the keys are copied as an administrator would.
fn made(database: &str, port: u16) -> [Home; 2] {
    let homes = HOSTS.map(|host| {
        let home = Home::new();
        let config = format!("listen = \"{host}:{port}\"\ndatabase = \"{database}\"\n");
        std::fs::write(home.path("controller.toml"), config).unwrap();
        home
    });
    let port = port.to_string();
    let init =
        ["init", "--fleet", "sol", "--bootstrap-url", "", "--port", &port, "--host", HOSTS[0], "--host", HOSTS[1]];
    said(homes[0].controller().args(init));
    std::fs::create_dir_all(homes[1].path("home/keys")).unwrap();
    for entry in std::fs::read_dir(homes[0].path("home/keys")).unwrap() {
        let from = entry.unwrap().path();
        std::fs::copy(&from, homes[1].path("home/keys").join(from.file_name().unwrap())).unwrap();
    }
    homes
}

/// Every item that the server ever noted is there, once and in order.
async fn nothing_is_lost(store: &Store, server: &Joined) {
    let limit = Duration::from_secs(20);
    let (last, _) = within("the outbox is empty", limit, || server.told()).await;
    let name: Name = server.name.parse().unwrap();
    let history = store.history(&name, 1000).await.unwrap();
    let mut sequences: Vec<u64> = history.iter().map(|item| item.sequence).collect();
    sequences.sort_unstable();
    assert_eq!(sequences, (1..=last).collect::<Vec<_>>(), "{name}");
    assert_eq!(store.server(&name).await.unwrap().unwrap().acknowledged, last);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_outlives_one_of_its_two_controllers() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: gives files to users, so it needs root");
        return;
    }
    let Some(postgres) = postgres::Server::start() else { return };
    let database = postgres.database("controllers").await;
    let port = free_port();
    let [a, b] = made(&database, port);
    let (one, _two) = (a.start(), b.start());
    let [at_a, at_b] = HOSTS.map(|host| format!("{host}:{port}"));
    let ks1 = Joined::to(&a, "ks1", &[at_a.clone(), at_b.clone()]).await;
    let ks2 = Joined::to(&b, "ks2", &[at_b, at_a.clone()]).await;
    // As if its way to the second were cut.
    let ks3 = Joined::to(&a, "ks3", &[at_a]).await;
    let soon = Duration::from_secs(20);
    for controller in [&a, &b] {
        for server in ["ks1", "ks2", "ks3"] {
            within("both know who is connected", soon, || is_connected(controller, server, true)).await;
        }
    }

    // Through the first, to the agent on the second as well: nothing but a notice of the database wakes it.
    let directory = a.path("fleet");
    fleet(&directory, "first");
    a.fleet().arg("apply").arg(&directory).assert().success();
    assert_eq!([ks1.motd(), ks2.motd(), ks3.motd()], ["first\n"; 3]);

    // The first is killed when it has said that the push is stored.
    fleet(&directory, "second");
    let mut applying = Command::new(assert_cmd::cargo::cargo_bin("socle"))
        .args(["fleet", "--socket"])
        .arg(a.path("api.sock"))
        .args(["apply", "-m", "the second"])
        .arg(&directory)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(applying.stderr.take().unwrap()).lines();
    assert!(lines.map(Result::unwrap).any(|line| line.contains("revision 2 is stored")));
    let killed = Instant::now();
    one.kill();
    assert!(!applying.wait().unwrap().success());
    let truth = LOST_AFTER + Duration::from_secs(3);
    within("who is left behind is said to be gone", truth, || is_connected(&b, "ks3", false)).await;
    eprintln!("after the kill, that ks3 is gone was said in {:.1} s", killed.elapsed().as_secs_f64());
    within("who moved over is connected", soon, || is_connected(&b, "ks1", true)).await;
    eprintln!("and that ks1 is back in {:.1} s", killed.elapsed().as_secs_f64());
    for server in [&ks1, &ks2] {
        within("what was stored arrives", soon, || (server.motd() == "second\n").then_some(())).await;
    }
    assert!(said(b.fleet().arg("history")).contains("the second"));

    // The one that is left goes on alone.
    fleet(&directory, "third");
    let apply = b.fleet().arg("apply").arg(&directory).output().unwrap();
    assert_eq!(apply.status.code(), Some(3), "ks3 is away: {}", String::from_utf8_lossy(&apply.stderr));
    assert_eq!([ks1.motd(), ks2.motd()], ["third\n"; 2]);

    // The first comes back, and with it whom only it can reach.
    let _one = a.start();
    within("the third server is back", Duration::from_secs(60), || is_connected(&b, "ks3", true)).await;
    within("it gets what it missed", soon, || (ks3.motd() == "third\n").then_some(())).await;
    for controller in [&a, &b] {
        within("all is as wanted", soon, || {
            controller.fleet().arg("status").output().unwrap().status.success().then_some(())
        })
        .await;
    }
    let store = Store::open(&database.parse().unwrap()).await.unwrap();
    for server in [&ks1, &ks2, &ks3] {
        nothing_is_lost(&store, server).await;
    }
}
