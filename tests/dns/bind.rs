//! A BIND of a test's own: zones in a temporary directory, a port nobody else has, ended with the test.

use std::io::{self, BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use socle::host::dns::Resolver;

/// Base64 of 32 bytes.
pub const KEY: &str = "c29jbGUtc29jbGUtc29jbGUtc29jbGUtc29jbGUtMTI=";

/// A zone, changed by whoever has [`KEY`].
pub struct Zone<'a> {
    pub name: &'a str,
    pub records: &'a str,
}

pub struct Bind {
    process: Child,
    pub address: SocketAddr,
    _dir: tempfile::TempDir,
}

/// A port that is free now on every loopback address.
pub fn port() -> u16 {
    TcpListener::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port()
}

impl Bind {
    /// Serves these zones, and above them `test`, so that no question leaves the machine.
    pub fn start(port: u16, zones: &[Zone<'_>]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let top = Zone { name: "test", records: "" };
        let text = zones
            .iter()
            .chain([&top])
            .fold(options(dir.path(), address), |text, zone| text + &statement(dir.path(), zone));
        let conf = dir.path().join("named.conf");
        std::fs::write(&conf, text).unwrap();
        let process = Command::new("/usr/sbin/named")
            .arg("-g")
            .arg("-c")
            .arg(&conf)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("bind9 is installed: tests/lab/deps.sh");
        let mut started = Self { process, address, _dir: dir };
        started.wait();
        started
    }

    /// Until it says that it runs. What it says later is read too, or it would wait for a reader.
    fn wait(&mut self) {
        let mut log = BufReader::new(self.process.stderr.take().unwrap());
        let mut said = String::new();
        while !said.ends_with(" running\n") {
            assert!(log.read_line(&mut said).unwrap() > 0, "named ended: {said}");
        }
        std::thread::spawn(move || io::copy(&mut log, &mut io::sink()));
    }

    pub fn resolver(&self) -> Resolver {
        Resolver::at(&[self.address], self.address.port())
    }
}

impl Drop for Bind {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

fn options(dir: &Path, address: SocketAddr) -> String {
    let (dir, ip, port) = (dir.display(), address.ip(), address.port());
    format!(
        r#"options {{
  directory "{dir}"; pid-file none; lock-file none; session-keyfile none;
  listen-on port {port} {{ {ip}; }}; listen-on-v6 {{ none; }};
  recursion no; dnssec-validation no; allow-transfer {{ any; }}; notify explicit; notify-delay 0;
}};
controls {{ }};
key "socle" {{ algorithm hmac-sha256; secret "{KEY}"; }};
"#
    )
}

fn statement(dir: &Path, zone: &Zone<'_>) -> String {
    let name = zone.name;
    let soa = format!("$TTL 1\n@ SOA ns1.{name}. admin.{name}. 1 3600 600 86400 1\n@ NS ns1\nns1 A 127.0.0.1\n");
    std::fs::write(dir.join(name), soa + zone.records + "\n").unwrap();
    format!("zone \"{name}\" {{ type primary; file \"{name}\"; allow-update {{ key socle; }}; }};\n")
}
