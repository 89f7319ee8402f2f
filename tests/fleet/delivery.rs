//! The agent itself, on a host of stand-ins, between a real controller and its own state directory: documents that
//! come in any order, and a disk that is full.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use socle::agent::enrolment::Identity;
use socle::agent::{Ledger, daemon, link, link_door, real};
use socle::controller::api::status::Standing;
use socle::controller::api::types::{AlarmView, ApplyLine, FleetStatus, Outcome, ServerStatus};
use socle::model::event::Event;
use socle::model::report::ErrorReport;
use socle::wire::Envelope;
use socle::wire::envelope::Payload;
use socle::wire::frame::{Reader, Writer};
use socle::wire::message::{FromAgent, MAX_BYTES, ToAgent};
use tokio::net::UnixStream;

use crate::agent;
use crate::client::Client;
use crate::operators::{app, lines};
use crate::world::{Machine, World, name, now, random, until};

/// The daemon of a joined server. The state is the machine's, all else of the host elsewhere.
struct Running {
    root: tempfile::TempDir,
    state: PathBuf,
}

impl Running {
    fn on(machine: &Machine) -> Self {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("etc")).unwrap();
        let agent = agent::of(machine, root.path());
        let keeper = real::keeper(&agent);
        // On a thread of its own, as it is a process of its own in life: what a pass awaits is not `Send`.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(daemon::run(agent, keeper)).unwrap();
        });
        Self { root, state: machine.path() }
    }

    fn door(&self) -> PathBuf {
        self.root.path().join(link_door::SOCKET.trim_start_matches('/'))
    }

    fn generation(&self) -> u64 {
        Ledger::load(&self.state).unwrap().generation().0
    }

    /// The link as its unit runs it; its own files are not on the agent's disk.
    fn link(&self, world: &World) {
        let mut identity = Identity::load(&self.state).unwrap().unwrap();
        identity.addresses = vec![format!("localhost:{}", world.address.port())];
        let credential = self.root.path().join("credential");
        std::fs::write(&credential, serde_json::to_vec(&identity).unwrap()).unwrap();
        let state = self.root.path().to_owned();
        let config = link::Config { identity: credential, state, agent: self.door(), now, random, status: |_| {} };
        tokio::spawn(async move { link::run(&config).await });
    }
}

/// What is said of the document, and of nothing else.
async fn answer(reader: &mut Reader<tokio::net::unix::OwnedReadHalf, FromAgent>) -> Result<u64, ErrorReport> {
    loop {
        let said = tokio::time::timeout(std::time::Duration::from_secs(20), reader.next()).await;
        match said.expect("an answer").unwrap() {
            FromAgent::Accepted { position } => return Ok(position.mark.generation.0),
            FromAgent::Refused { error, .. } => return Err(error),
            _ => {}
        }
    }
}

/// Whoever carries documents may hold them back, mix them and send them twice.
#[tokio::test(flavor = "multi_thread")]
async fn documents_in_any_order_never_take_a_server_back() {
    let world = World::new().await;
    let machine = world.join("ks1").await;
    let running = Running::on(&machine);
    let mut envelopes = Vec::new();
    for generation in 1..=3 {
        world.push("ks1", &format!("schema = 1\n# {generation}\n")).await;
        envelopes.push(world.newest("ks1").await);
    }
    let stream = until("the door is open", || async { UnixStream::connect(running.door()).await.ok() }).await;
    let (read, write) = stream.into_split();
    let mut reader = Reader::<_, FromAgent>::new(read, MAX_BYTES);
    let mut writer = Writer::<_, ToAgent>::new(write, MAX_BYTES);
    let mut highest = 0;
    for generation in [2, 1, 2, 3, 1, 3, 2, 3] {
        writer.send(&ToAgent::Document { envelope: envelopes[generation as usize - 1].clone() }).await.unwrap();
        let answered = answer(&mut reader).await;
        if generation >= highest {
            assert_eq!(answered, Ok(generation));
            highest = generation;
        } else {
            let error = answered.unwrap_err();
            assert!(error.message.contains("is not newer than"), "{error}");
        }
        assert_eq!(running.generation(), highest);
    }
    assert_eq!(Ledger::load(&running.state).unwrap().accepted.unwrap().text, "schema = 1\n# 3\n");

    // The same number with other words is not the same document, whoever signed it.
    let newest = envelopes[2].open(&[world.controller.keys.document.public()]).unwrap();
    let other = Payload { text: "schema = 1\n# other\n".to_owned(), ..newest };
    let envelope = Envelope::sign(&other, &[&world.controller.keys.document]);
    writer.send(&ToAgent::Document { envelope }).await.unwrap();
    let error = answer(&mut reader).await.unwrap_err();
    assert!(error.message.contains("with other content"), "{error}");
    assert_eq!(Ledger::load(&running.state).unwrap().accepted.unwrap().text, "schema = 1\n# 3\n");
}

fn motd(generation: u64) -> String {
    format!("schema = 1\n[files.\"/etc/motd\"]\ncontent = \"{generation}\\n\"\n")
}

async fn status(world: &World) -> (ServerStatus, Vec<AlarmView>) {
    let mut status: Vec<FleetStatus> = lines(&app(world), "GET", "/v1/fleet/status", Value::Null).await;
    let status = status.remove(0);
    (status.servers.into_iter().next().unwrap(), status.alarms)
}

/// As wanted, with nothing to look at.
async fn is_well(world: &World, generation: u64) -> Option<()> {
    let (server, alarms) = status(world).await;
    let at = server.applied.map(|mark| mark.generation.0);
    (server.standing == Standing::AsWanted && at == Some(generation) && alarms.is_empty()).then_some(())
}

async fn alarm(world: &World, code: &str) -> AlarmView {
    until(code, || async { status(world).await.1.into_iter().find(|alarm| alarm.code == code) }).await
}

/// On a real full file system, in a mount namespace that ends with the process.
#[test]
fn a_full_disk_is_told_and_what_came_meanwhile_is_taken_when_there_is_room() {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: a file system can be mounted by root only");
        return;
    }
    let done = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "--"])
        .arg(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--nocapture", "delivery::on_a_full_disk"])
        .env("SOCLE_TEST_SMALL_DISK", "1")
        .output()
        .unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success() && said.contains("room again"), "{said}");
}

fn fill(directory: &Path) -> PathBuf {
    let filler = directory.join("filler");
    let full = std::fs::write(&filler, vec![0; 4 << 20]).unwrap_err();
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    filler
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "started by a test, in a mount namespace"]
async fn on_a_full_disk() {
    if std::env::var("SOCLE_TEST_SMALL_DISK").is_err() {
        return;
    }
    let (world, machine) = (World::new().await, Machine::blank());
    let flags = nix::mount::MsFlags::empty();
    nix::mount::mount(Some("tmpfs"), &machine.path(), Some("tmpfs"), flags, Some("size=1m,mode=0700")).unwrap();
    machine.join(&world.token("ks1").await).await.unwrap();
    let running = Running::on(&machine);
    until("the door is open", || async { running.door().exists().then_some(()) }).await;
    running.link(&world);
    world.push("ks1", &motd(1)).await;
    until("the first is brought about", || is_well(&world, 1)).await;

    // Nothing can be written, and a document comes; and something to be put back, which would need a journal.
    let filler = fill(&running.state);
    std::fs::write(running.root.path().join("etc/motd"), "by hand\n").unwrap();
    world.push("ks1", &motd(2)).await;
    let refused = alarm(&world, "document.refused").await;
    assert!(refused.text.contains("o space left"), "{}", refused.text);
    let failed = alarm(&world, "agent.failed").await;
    assert!(failed.text.contains("o space left"), "{}", failed.text);
    assert_eq!(std::fs::read_to_string(running.root.path().join("etc/motd")).unwrap(), "by hand\n");
    let (server, _) = status(&world).await;
    assert_eq!((server.standing, server.connected, running.generation()), (Standing::Behind, true, 1));

    // Nobody sends it again, and no connection ended: the agent has it, and takes it when it can.
    std::fs::remove_file(filler).unwrap();
    until("what came meanwhile is brought about, and no alarm is left", || is_well(&world, 2)).await;
    println!("room again");

    // The newest counts, also when an older one waits to be tried again.
    let filler = fill(&running.state);
    world.push("ks1", &motd(3)).await;
    alarm(&world, "document.refused").await;
    std::fs::remove_file(filler).unwrap();
    world.push("ks1", &motd(4)).await;
    until("the newest is brought about", || is_well(&world, 4)).await;
    let history = world.controller.store.history(&name("ks1"), 100).await.unwrap();
    let mut sequences: Vec<u64> = history.iter().map(|item| item.sequence).collect();
    let sent = sequences.len();
    sequences.dedup();
    assert_eq!(sequences.len(), sent, "nothing came twice: {history:?}");
    assert_eq!(running.generation(), 4);
}

/// A pass that leaves no report ends the wait for one.
#[tokio::test(flavor = "multi_thread")]
async fn who_follows_a_push_hears_that_the_pass_failed() {
    let world = World::new().await;
    let (machine, app) = (world.join("ks1").await, app(&world));
    let mut client = Client::hello(&world, &machine, None).await;
    let failing = ErrorReport { code: "journal.error".into(), message: "full".into(), causes: vec![], hint: None };
    let told = failing.clone();
    let agent = tokio::spawn(async move {
        let payload = client.document().await;
        // Of the pass before: it says nothing of this document.
        client.say(FromAgent::Passes { failing: Some(told.clone()) }).await;
        client.accept(&payload).await;
        client.say(FromAgent::Progress { event: Event::Observing { resources: 1 } }).await;
        client.say(FromAgent::Passes { failing: Some(told) }).await;
        client
    });
    let files = serde_json::json!({ "fleet.toml": "schema = 1\nname = \"test\"\n", "servers/ks1.toml": "" });
    let push: Vec<ApplyLine> = lines(&app, "POST", "/v1/fleet/apply", serde_json::json!({ "files": files })).await;
    let progress = push.iter().position(|line| matches!(line, ApplyLine::Progress { .. })).expect("it went on");
    let ended = ApplyLine::Server { server: name("ks1"), outcome: Outcome::Failed { error: failing } };
    assert!(push[progress..].contains(&ended), "{push:?}");
    let mut client = agent.await.unwrap();
    assert_eq!(status(&world).await.1[0].code, "agent.failed");
    client.say(FromAgent::Passes { failing: None }).await;
    until("the alarm is cleared", || async { status(&world).await.1.is_empty().then_some(()) }).await;
}
