//! A controller with many agents: `cargo bench --bench fleet [-- 1000 10000]`.
//!
//! Two processes on loopback, real TLS 1.3 with client certificates and real messages: the controller with its
//! SQLite database, and all the agents. Prints what an idle agent costs the controller, and how long a push to
//! all of them takes from the call to each acknowledgement.
#![allow(clippy::disallowed_methods, reason = "a bench measures by the clock and starts a process")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use socle::controller::hub::What;
use socle::controller::keys::Keys;
use socle::controller::store::{By, NewJoinToken, Redemption, Store, StoreUrl};
use socle::controller::{Controller, daemon, new_id};
use socle::model::Name;
use socle::model::fleet::{Origin, Position};
use socle::wire::frame::{Reader, Writer};
use socle::wire::message::{FromAgent, MAX_BYTES, ToAgent};
use socle::wire::tls::{self, Peer};
use socle::wire::token::TokenId;
use socle::wire::{PublicKey, SigningKey};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

/// Pushes that are measured.
const ROUNDS: usize = 5;
/// How long the idle controller is watched.
const IDLE: Duration = Duration::from_secs(30);

fn main() {
    let (_, most) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap();
    nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, most, most).unwrap();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [role, directory, agents] = &arguments[..]
        && role == "controller"
    {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        return runtime.block_on(controller(directory.as_ref(), agents.parse().unwrap()));
    }
    let mut sizes: Vec<usize> = arguments.iter().filter_map(|argument| argument.parse().ok()).collect();
    if sizes.is_empty() {
        sizes.push(1000);
    }
    println!("machine: {} cores, load {}", cores(), std::fs::read_to_string("/proc/loadavg").unwrap().trim());
    for agents in sizes {
        measure(agents);
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(0, usize::from)
}

fn now() -> jiff::Timestamp {
    jiff::Timestamp::now()
}

fn random(bytes: &mut [u8]) {
    getrandom::fill(bytes).unwrap();
}

fn by() -> By {
    By::new("bench", now())
}

fn server(number: usize) -> Name {
    format!("ks{number}").parse().unwrap()
}

// ---------------------------------------------------------------- the controller's process

/// Enrols so many servers, writes their certificates into the directory, and does what standard input says.
async fn controller(directory: &std::path::Path, agents: usize) {
    let keys = Keys::create(&directory.join("keys"), "bench", now(), random).unwrap();
    let store = Store::open(&StoreUrl::sqlite(directory.join("controller.db"))).await.unwrap();
    let fleet = store.create_fleet(new_id(now(), random), &"bench".parse().unwrap(), &by()).await.unwrap();
    let controller = Arc::new(Controller::new(
        new_id(now(), random),
        store,
        keys,
        fleet,
        vec!["localhost:0".to_owned()],
        now,
        random,
    ));
    std::fs::write(directory.join("authority"), controller.keys.authority.certificate()).unwrap();
    let tls = rcgen::KeyPair::generate().unwrap();
    std::fs::write(directory.join("key"), tls.serialize_der()).unwrap();
    std::fs::write(directory.join("document-key"), controller.keys.document.public().0).unwrap();
    let csr = rcgen::CertificateParams::default().serialize_request(&tls).unwrap();
    for number in 0..agents {
        let name = server(number);
        let (mut token, mut seed) = ([0; 8], [0; 32]);
        random(&mut token);
        random(&mut seed);
        let (id, identity) = (TokenId(token), SigningKey::from_seed(seed).public());
        let expires = now() + jiff::SignedDuration::from_hours(1);
        let kept = NewJoinToken { id, server: name.clone(), public_key: identity, expires };
        controller.store.create_join_token(&kept, &by()).await.unwrap();
        let redemption = Redemption { token: id, id: new_id(now(), random), identity, sealing: [0; 32] };
        controller.store.redeem(&redemption, now()).await.unwrap();
        let peer = Peer { fleet: controller.fleet.id, server: name, identity: identity.id() };
        let life = Duration::from_secs(86_400);
        let certificate = controller.keys.authority.for_agent(csr.der(), &peer, [1; 16], now(), life).unwrap();
        std::fs::write(directory.join(format!("certificate-{number}")), &certificate).unwrap();
    }
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let (address, serving) = daemon::open(controller.clone(), any, CancellationToken::new()).await.unwrap();
    tokio::spawn(serving);
    say(&format!("ready {address}"));
    let mut lines = tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(tokio::io::stdin()));
    let mut round = 0;
    while let Some(line) = lines.next_line().await.unwrap() {
        match line.as_str() {
            "usage" => say(&usage()),
            "connected" => say(&controller.hub.connected().len().to_string()),
            "push" => {
                round += 1;
                say(&push(&controller, agents, round).await);
            }
            other => panic!("{other}"),
        }
    }
}

fn say(line: &str) {
    println!("{line}");
    std::io::stdout().flush().unwrap();
}

/// Resident memory in KiB and CPU time in ms of this process (proc(5)).
fn usage() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let resident =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap().split_whitespace().next().unwrap();
    let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF).unwrap();
    let ms = |time: nix::sys::time::TimeVal| time.tv_sec() * 1000 + time.tv_usec() / 1000;
    format!("{resident} {}", ms(usage.user_time()) + ms(usage.system_time()))
}

/// A new document for all; the milliseconds from the call to each acknowledgement.
async fn push(controller: &Arc<Controller>, agents: usize, round: usize) -> String {
    let text = format!("schema = 1\n# {round}\n{}", "# a document of usual length\n".repeat(60));
    let texts: BTreeMap<Name, String> = (0..agents).map(|number| (server(number), text.clone())).collect();
    let mut watch = controller.hub.watch();
    let begun = Instant::now();
    let collect = tokio::spawn(async move {
        let mut times = Vec::with_capacity(agents);
        while times.len() < agents {
            match watch.recv().await {
                Ok(news) if matches!(news.what, What::Accepted(_)) => times.push(begun.elapsed()),
                Ok(_) => {}
                Err(error) => panic!("{error}"),
            }
        }
        times
    });
    controller.push(texts, None, &by()).await.unwrap();
    let durable = begun.elapsed();
    let mut times = collect.await.unwrap();
    times.sort();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1000.0;
    format!("{:.0} {:.0} {:.0} {:.0}", durable.as_secs_f64() * 1000.0, at(0.5), at(0.99), at(1.0))
}

// ---------------------------------------------------------------- the agents' process

fn measure(agents: usize) {
    let directory = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["controller", directory.path().to_str().unwrap(), &agents.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut to = child.stdin.take().unwrap();
    let mut from = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut ask = move |question: &str| {
        if !question.is_empty() {
            writeln!(to, "{question}").unwrap();
        }
        from.next().unwrap().unwrap()
    };
    let ready = ask("");
    let address: SocketAddr = ready.strip_prefix("ready ").unwrap().parse().unwrap();
    let numbers = |line: String| line.split(' ').map(|number| number.parse::<f64>().unwrap()).collect::<Vec<_>>();
    let alone = numbers(ask("usage"));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let begun = Instant::now();
    runtime.block_on(connect_all(directory.path(), address, agents));
    while ask("connected") != agents.to_string() {
        std::thread::sleep(Duration::from_millis(50));
    }
    let connected = begun.elapsed();
    std::thread::sleep(Duration::from_secs(2));
    let before = numbers(ask("usage"));
    std::thread::sleep(IDLE);
    let after = numbers(ask("usage"));
    println!("{agents} agents: all connected after {:.1} s", connected.as_secs_f64());
    println!(
        "  controller: {:.1} MiB alone, {:.1} MiB with all idle: {:.1} KiB an agent; idle CPU {:.2} % of a core",
        alone[0] / 1024.0,
        after[0] / 1024.0,
        (after[0] - alone[0]) / agents as f64,
        (after[1] - before[1]) / IDLE.as_millis() as f64 * 100.0
    );
    for round in 1..=ROUNDS {
        let times = numbers(ask("push"));
        println!(
            "  push {round}: durable after {:.0} ms; acknowledged p50 {:.0} ms, p99 {:.0} ms, last {:.0} ms",
            times[0], times[1], times[2], times[3]
        );
    }
    let pushed = numbers(ask("usage"));
    println!("  controller after the pushes: {:.1} KiB an agent", (pushed[0] - alone[0]) / agents as f64);
    runtime.shutdown_background();
    drop(ask);
    child.kill().unwrap();
    child.wait().unwrap();
}

async fn connect_all(directory: &std::path::Path, address: SocketAddr, agents: usize) {
    let read = |name: &str| std::fs::read(directory.join(name)).unwrap();
    let (authority, key) = (CertificateDer::from(read("authority")), read("key"));
    let trusted = PublicKey(read("document-key").try_into().unwrap());
    let gate = Arc::new(tokio::sync::Semaphore::new(64));
    for number in 0..agents {
        let certificate = CertificateDer::from(read(&format!("certificate-{number}")));
        let key: PrivateKeyDer<'static> = PrivatePkcs8KeyDer::from(key.clone()).into();
        let config = tls::agent_config(authority.clone(), certificate, key).unwrap();
        let permit = gate.clone().acquire_owned().await.unwrap();
        tokio::spawn(async move {
            let stream = TcpStream::connect(address).await.unwrap();
            stream.set_nodelay(true).unwrap();
            let name = ServerName::try_from("localhost").unwrap();
            let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
            let (read, write) = tokio::io::split(stream);
            let mut reader = Reader::<_, ToAgent>::new(read, MAX_BYTES);
            let mut writer = Writer::<_, FromAgent>::new(write, MAX_BYTES);
            writer.send(&FromAgent::Hello { version: "bench".to_owned(), position: None }).await.unwrap();
            drop(permit);
            while let Ok(message) = reader.next().await {
                let answer = match message {
                    ToAgent::Ping => FromAgent::Pong,
                    ToAgent::Document { envelope } => {
                        let payload = envelope.open(&[trusted]).unwrap();
                        let (mark, digest) = (payload.mark, payload.digest());
                        let position = Position { mark, digest, origin: Origin::Controller, brought_about: None };
                        FromAgent::Accepted { position }
                    }
                    _ => continue,
                };
                writer.send(&answer).await.unwrap();
            }
        });
    }
}
