//! BIND on loopback as the primary, and Knot as a secondary that follows it or does not.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use socle::host::dns::Resolver;

const BIND: &str = "/usr/sbin/named";
const KNOT: &str = "/usr/sbin/knotd";
pub const KEY_NAME: &str = "socle";
/// `printf %s 'a key for tests of thirty-two B.' | base64`
pub const KEY: &str = "YSBrZXkgZm9yIHRlc3RzIG9mIHRoaXJ0eS10d28gQi4=";
const PRIMARY: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 1);
const SECONDARY: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// `example.org`, in which `_acme-challenge.www` is an alias into `example.net`; both take signed updates.
pub struct Servers {
    pub port: u16,
    running: Vec<Running>,
}

struct Running {
    child: Child,
    directory: tempfile::TempDir,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Servers {
    /// `follows`: the secondary is told of changes; otherwise it stays as it was.
    pub async fn start(follows: bool) -> Self {
        let port = free_port();
        let notify = if follows { format!("also-notify {{ {SECONDARY} port {port}; }};") } else { String::new() };
        let update = format!("update-policy {{ grant {KEY_NAME} zonesub TXT; }}; notify explicit; {notify}");
        let primary = |zone: &str| format!("zone \"{zone}\" {{ type primary; file \"{zone}\"; {update} }};\n");
        let zones = ["example.org", "example.net"];
        let servers = vec![bind(port, &zones.map(primary).concat()), knot(port, &zones, follows)];
        let started = Self { port, running: servers };
        for address in [PRIMARY, SECONDARY] {
            let resolver = Resolver::at(&[SocketAddr::from((address, port))], port);
            let begun = Instant::now();
            while resolver
                .addresses(&"ns1.example.org".parse().unwrap())
                .await
                .map_or(true, |found| found.v4.is_empty())
            {
                assert!(begun.elapsed() < Duration::from_secs(30), "{address} does not answer: {}", started.logs());
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        started
    }

    fn logs(&self) -> String {
        let log = |running: &Running| fs::read_to_string(running.directory.path().join("log")).unwrap_or_default();
        self.running.iter().map(log).collect()
    }

    pub fn resolver(&self) -> Resolver {
        Resolver::at(&[self.address()], self.port)
    }

    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((PRIMARY, self.port))
    }

    pub fn secondary(&self) -> SocketAddr {
        SocketAddr::from((SECONDARY, self.port))
    }
}

fn bind(port: u16, zones: &str) -> Running {
    let directory = zone_files();
    let place = directory.path().display();
    let text = format!(
        "options {{ directory \"{place}\"; listen-on port {port} {{ {PRIMARY}; }}; listen-on-v6 {{ none; }}; pid-file none;\n\
         session-keyfile none; lock-file none; recursion no; allow-transfer {{ any; }}; dnssec-validation no; }};\n\
         controls {{ }};\nkey \"{KEY_NAME}\" {{ algorithm hmac-sha256; secret \"{KEY}\"; }};\n{zones}"
    );
    run(BIND, &["-g", "-c"], directory, &text)
}

fn knot(port: u16, zones: &[&str], follows: bool) -> Running {
    let directory = zone_files();
    let place = directory.path().display();
    let zone = |zone: &&str| match follows {
        true => format!("  - domain: {zone}\n    file: {zone}.copy\n    master: primary\n    acl: told\n"),
        false => format!("  - domain: {zone}\n    file: {zone}\n"),
    };
    let text = format!(
        "server:\n    listen: {SECONDARY}@{port}\n    rundir: {place}\ndatabase:\n    storage: {place}\n\
         remote:\n  - id: primary\n    address: {PRIMARY}@{port}\nacl:\n  - id: told\n    address: {PRIMARY}\n    action: notify\n\
         template:\n  - id: default\n    storage: {place}\nzone:\n{}",
        zones.iter().map(zone).collect::<String>()
    );
    run(KNOT, &["-c"], directory, &text)
}

fn zone_files() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let head = |zone: &str| {
        format!(
            "$ORIGIN {zone}.\n$TTL 5\n@ SOA ns1 admin 1 5 5 3600 1\n@ NS ns1\n@ NS ns2\nns1 A {PRIMARY}\nns2 A {SECONDARY}\n"
        )
    };
    let org = "blog A 127.0.0.1\n_acme-challenge.www CNAME www.proofs.example.net.\n";
    fs::write(directory.path().join("example.org"), head("example.org") + org).unwrap();
    fs::write(directory.path().join("example.net"), head("example.net")).unwrap();
    directory
}

/// With its configuration, until it is dropped.
fn run(program: &str, args: &[&str], directory: tempfile::TempDir, text: &str) -> Running {
    let file = directory.path().join("configuration");
    fs::write(&file, text).unwrap();
    let log = fs::File::create(directory.path().join("log")).unwrap();
    let child = Command::new(program)
        .args(args)
        .arg(&file)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap_or_else(|error| panic!("{program}, of tests/lab/deps.sh: {error}"));
    Running { child, directory }
}

/// Free on both addresses, for both kinds of questions.
fn free_port() -> u16 {
    for _ in 0..100 {
        let first = UdpSocket::bind((PRIMARY, 0)).unwrap();
        let port = first.local_addr().unwrap().port();
        let others = UdpSocket::bind((SECONDARY, port)).is_ok()
            && [PRIMARY, SECONDARY].iter().all(|address| TcpListener::bind((*address, port)).is_ok());
        if others {
            return port;
        }
    }
    panic!("no free port");
}
