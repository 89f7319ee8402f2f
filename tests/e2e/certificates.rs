//! Certificates from a real authority (pebble), served by a real nginx.

use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::Value;

use crate::machine::{Machine, Outside, wait_for};

const DOMAIN: &str = "page.example.org";
const ALIAS: &str = "www.page.example.org";
const SOON: Duration = Duration::from_secs(60);

/// An authority in a machine of its own: pebble, which rejects some nonces on purpose, and a name server that sends
/// every name to one server.
struct Authority {
    machine: Machine,
    /// The address of the name server it asks.
    names: String,
}

impl Authority {
    /// All names lead to `server`.
    fn new(server: &Machine) -> Self {
        let authority = Self::asking(server, None);
        let ip = format!("-defaultIPv4={}", server.address());
        let off = ["-http01=", "-https01=", "-tlsalpn01=", "-defaultIPv6=", "-dns01=:53", "-management=:8055"];
        let mut names = vec!["systemd-run", "--unit=names", "pebble-challtestsrv", &ip];
        names.extend(off);
        authority.machine.run(&names).expect(0);
        server.write("/etc/resolv.conf", &format!("nameserver {}\n", authority.machine.address()));
        authority.start();
        authority
    }

    /// Not started yet. `names`: the name server it asks, if not its own.
    fn asking(server: &Machine, names: Option<String>) -> Self {
        let machine = Machine::blank("base-trixie");
        for program in ["pebble", "pebble-challtestsrv"] {
            machine.lab("push", &[&format!("/usr/bin/{program}"), &format!("/usr/bin/{program}")]);
        }
        let made = rcgen::generate_simple_self_signed([machine.address()]).unwrap();
        machine.write("/root/cert.pem", &made.cert.pem());
        machine.write("/root/key.pem", &made.signing_key.serialize_pem());
        let config = serde_json::json!({ "pebble": {
            "listenAddress": "0.0.0.0:14000", "managementListenAddress": "0.0.0.0:15000",
            "certificate": "/root/cert.pem", "privateKey": "/root/key.pem",
            "httpPort": 80, "tlsPort": 443, "ocspResponderURL": "", "externalAccountBindingRequired": false,
        } });
        machine.write("/root/pebble.json", &config.to_string());
        server.write("/etc/socle/pebble.pem", &made.cert.pem());
        Self { machine, names: names.unwrap_or_else(|| "127.0.0.1".to_owned()) }
    }

    fn start(&self) {
        let run = [
            "systemd-run",
            "--unit=pebble",
            "--collect",
            "-E",
            "PEBBLE_VA_NOSLEEP=1",
            "-E",
            "PEBBLE_WFE_NONCEREJECT=5",
        ];
        let names = format!("-dnsserver={}:53", self.names);
        let pebble = ["pebble", "-config=/root/pebble.json", &names];
        self.machine.run(&[&run[..], &pebble].concat()).expect(0);
        wait_for("the authority answers", SOON, || self.ask("/roots/0"));
    }

    fn stop(&self) {
        self.machine.run(&["systemctl", "stop", "pebble.service"]).expect(0);
    }

    /// Something of its management interface.
    fn ask(&self, path: &str) -> Option<String> {
        self.machine.run(&["curl", "-sSfk", &format!("https://127.0.0.1:15000{path}")]).ok()
    }

    /// What browsers would trust, as a file of `server`.
    fn trusted_by(&self, server: &Machine) {
        let root = self.ask("/roots/0").unwrap();
        server.write("/root/trusted.pem", &root);
    }

    fn document(&self, more: &str) -> String {
        let address = self.machine.address();
        format!(
            "schema = 1\n[authorities.pebble]\ndirectory = \"https://{address}:14000/dir\"\nroots = \"/etc/socle/pebble.pem\"\n\
             [certificates]\ncontacts = [\"admin@example.org\"]\nauthorities = [\"pebble\"]\n\
             [instances.page]\nrecipe = \"static\"\nversion = \"1\"\ndomain = \"{DOMAIN}\"\naliases = [\"{ALIAS}\"]\n{more}"
        )
    }
}

fn listed(server: &Machine) -> Value {
    server.socle(&["agent", "cert", "list", "--json"]).json()[0].clone()
}

/// The serial number of what a visitor is given, checked against what browsers would trust.
fn visited(server: &Machine, host: &str, connect: &str) -> String {
    let connect = format!("{connect}:443");
    let named = ["-servername", host, "-verify_hostname", host, "-CAfile", "/root/trusted.pem"];
    let done = server.run(&[&["openssl", "s_client", "-connect", &connect][..], &named].concat());
    assert!(done.stdout.contains("Verify return code: 0 (ok)"), "{}\n{}", done.stdout, done.stderr);
    let from = done.stdout.find("-----BEGIN CERTIFICATE-----").unwrap();
    server.write("/root/visited.pem", &done.stdout[from..]);
    let serial = server.run(&["openssl", "x509", "-in", "/root/visited.pem", "-noout", "-serial"]).expect(0);
    serial.trim().to_ascii_lowercase()
}

fn curl(server: &Machine, url: &str) -> (String, String) {
    let resolve: Vec<String> =
        [DOMAIN, ALIAS].iter().flat_map(|name| [80, 443].map(|port| format!("{name}:{port}:127.0.0.1"))).collect();
    let mut args = vec!["curl", "-sS", "--cacert", "/root/trusted.pem", "-w", "\n%{http_code} %{redirect_url}"];
    for one in &resolve {
        args.extend(["--resolve", one]);
    }
    args.push(url);
    let out = server.run(&args).expect(0);
    let (body, status) = out.rsplit_once('\n').unwrap();
    (status.to_owned(), body.to_owned())
}

#[test]
fn a_site_is_served_by_https_without_anyone_asking() {
    let server = Machine::new("web-trixie");
    let authority = Authority::new(&server);
    server.run(&["systemctl", "enable", "--now", "socle-agent.service"]).expect(0);

    // The authority is away: the site answers all the same, and it is said why it is not trusted.
    authority.stop();
    server.write("/root/page.toml", &authority.document("[instances.page.certificate]\nhsts = true\n"));
    server.socle(&["agent", "apply", "/root/page.toml"]).expect(0);
    server.write("/srv/socle/page/data/public/index.html", "hello");
    assert_eq!(server.get(DOMAIN, "/").0, 200);
    let insecure =
        server.run(&["curl", "-sSk", "--resolve", &format!("{DOMAIN}:443:127.0.0.1"), &format!("https://{DOMAIN}/")]);
    assert_eq!(insecure.code, 0, "{}", insecure.stderr);
    wait_for("the failed order is told", SOON, || {
        let status = server.socle(&["agent", "status"]).stdout;
        (status.contains("self-signed") && status.contains("problem")).then_some(())
    });

    // It is back: asked again, it gives one, and everybody is led to HTTPS.
    authority.start();
    authority.trusted_by(&server);
    let renewed = server.socle(&["agent", "cert", "renew", "page"]);
    assert_eq!(renewed.code, 0, "{}\n{}", renewed.stdout, renewed.stderr);
    let standing = listed(&server);
    assert_eq!((&standing["source"], &standing["authority"]), (&"acme".into(), &"pebble".into()), "{standing}");
    assert!(
        standing["not_after"].is_string() && standing["next"].is_string() && standing["served"].is_null(),
        "{standing}"
    );
    let first = visited(&server, DOMAIN, "127.0.0.1");
    assert_eq!(visited(&server, ALIAS, "[::1]"), first, "IPv6 too, and the alias");
    let https = format!("https://{DOMAIN}/");
    assert_eq!(curl(&server, &https).0, "200 ");
    assert_eq!(curl(&server, &format!("http://{DOMAIN}/a?b")).0, format!("301 https://{DOMAIN}/a?b"));
    assert_eq!(curl(&server, &format!("http://{ALIAS}/a")).0, format!("301 https://{DOMAIN}/a"));
    assert_eq!(curl(&server, &format!("https://{ALIAS}/a")).0, format!("301 https://{DOMAIN}/a"));
    let head = server.run(&[
        "curl",
        "-sSI",
        "--cacert",
        "/root/trusted.pem",
        "--resolve",
        &format!("{DOMAIN}:443:127.0.0.1"),
        &https,
    ]);
    assert!(
        head.stdout.to_ascii_lowercase().contains("strict-transport-security: max-age=31536000"),
        "{}",
        head.stdout
    );
    let old = server.run(&["openssl", "s_client", "-connect", "127.0.0.1:443", "-servername", DOMAIN, "-tls1_1"]);
    assert_ne!(old.code, 0, "TLS 1.1 is refused");

    // The key is nobody else's to read, and in no journal and no report.
    let key = "/var/lib/socle/tls/page/current/privkey.pem";
    assert_eq!(server.run(&["stat", "-Lc", "%a %U", key]).expect(0).trim(), "600 root");
    // By a file: as an argument it would be in the journal.
    let line = server.read(key).lines().nth(1).unwrap().to_owned();
    server.write("/root/line", &line);
    let report = "/var/lib/socle/report.json";
    let leaked = server.run(&["grep", "-rlFf", "/root/line", "/var/log", "/run", report]);
    // 1: looked everywhere and found nothing; 2 would be "could not look".
    assert_eq!((leaked.code, leaked.stdout.as_str()), (1, ""), "{}", leaked.stderr);

    // The authority forgot everything: the account is made anew, and the next certificate comes.
    authority.stop();
    authority.start();
    authority.trusted_by(&server);
    server.socle(&["agent", "cert", "renew", "page"]).expect(0);
    let second = visited(&server, DOMAIN, "127.0.0.1");
    assert_ne!(first, second);
    let shown = server.socle(&["agent", "cert", "show", "page", "--json"]).json();
    assert!(second.ends_with(&shown["present"]["serial"].as_str().unwrap().replace(':', "")), "{second} {shown}");

    // Revoked: the authority knows, and another one is in place.
    let serial = second.rsplit('=').next().unwrap().to_owned();
    server.socle(&["agent", "cert", "revoke", "page"]).expect(3);
    server.socle(&["agent", "cert", "revoke", "page", "--yes"]).expect(0);
    let status = authority.ask(&format!("/cert-status-by-serial/{serial}")).unwrap();
    assert!(status.contains("Revoked"), "{status}");
    assert_ne!(visited(&server, DOMAIN, "127.0.0.1"), second);

    // A check orders nothing unless asked; an order for practice leaves nothing behind.
    let before = server.run(&["ls", "/var/lib/socle/tls/page"]).stdout;
    server.socle(&["agent", "cert", "check", "page"]).expect(0);
    server.socle(&["agent", "cert", "check", "page", "--order", "--authority", "pebble"]).expect(0);
    assert_eq!(server.run(&["ls", "/var/lib/socle/tls/page"]).stdout, before);
    server.socle(&["agent", "cert", "roll-key", "pebble"]).expect(0);
    server.socle(&["agent", "cert", "renew", "page"]).expect(0);

    // It stays after a boot, without anything to be done.
    server.shut_down();
    server.up();
    wait_for("the site answers after a boot", SOON, || server.run(&["curl", "-sSfk", "https://127.0.0.1/"]).ok());
    visited(&server, DOMAIN, "127.0.0.1");
    assert!(server.socle(&["agent", "apply"]).expect(0).contains("nothing to do"));
}

/// `printf %s 'a key for tests of thirty-two B.' | base64`
const KEY: &str = "YSBrZXkgZm9yIHRlc3RzIG9mIHRoaXJ0eS10d28gQi4=";

/// BIND outside the machines, primary of `example.org`: every name leads to one server, and updates with a key are
/// taken.
struct NameServer {
    place: Outside,
    process: std::process::Child,
    directory: tempfile::TempDir,
}

impl NameServer {
    fn new(server: &Machine) -> Self {
        let place = Outside::new();
        let directory = tempfile::tempdir().unwrap();
        let (ours, path) = (place.address(), directory.path().display().to_string());
        let theirs = server.address();
        let zone = format!(
            "$ORIGIN example.org.\n$TTL 5\n@ SOA ns1 admin 1 5 5 3600 1\n@ NS ns1\nns1 A {ours}\npage A {theirs}\n*.page A {theirs}\n"
        );
        let configuration = format!(
            "options {{ directory \"{path}\"; listen-on {{ {ours}; }}; listen-on-v6 {{ none; }}; pid-file none; session-keyfile none;\n\
             lock-file none; recursion no; dnssec-validation no; }};\ncontrols {{ }};\n\
             key \"socle\" {{ algorithm hmac-sha256; secret \"{KEY}\"; }};\n\
             zone \"example.org\" {{ type primary; file \"zone\"; notify no; update-policy {{ grant socle zonesub TXT; }}; }};\n"
        );
        std::fs::write(directory.path().join("zone"), zone).unwrap();
        std::fs::write(directory.path().join("named.conf"), configuration).unwrap();
        let args = ["/usr/sbin/named", "-g", "-c", &format!("{path}/named.conf")];
        let process = place.start(&args, &directory.path().join("log"));
        server.write("/etc/resolv.conf", &format!("nameserver {ours}\n"));
        let names = Self { place, process, directory };
        wait_for("the name server answers", SOON, || server.run(&["getent", "hosts", DOMAIN]).ok());
        names
    }

    /// What it was told, and what it refused.
    fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap()
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn a_wildcard_is_proven_by_the_dns() {
    let server = Machine::new("web-trixie");
    let names = NameServer::new(&server);
    let authority = Authority::asking(&server, Some(names.place.address()));
    authority.start();
    authority.trusted_by(&server);
    server.write("/etc/socle/dns.key", &format!("{KEY}\n"));
    server.run(&["chmod", "0600", "/etc/socle/dns.key"]).expect(0);
    let provider = format!(
        "[instances.page.certificate]\nwildcard = true\nchallenge = \"dns-01\"\ndns = \"ours\"\n\
         [dns.ours]\nprovider = \"rfc2136\"\nsettings = {{ server = \"{}:53\", key_name = \"socle\" }}\n\
         secret_files = {{ key = \"/etc/socle/dns.key\" }}\n",
        names.place.address()
    );
    server.write("/root/page.toml", &authority.document(&provider));
    server.socle(&["agent", "apply", "/root/page.toml"]).expect(0);
    let renewed = server.socle(&["agent", "cert", "renew", "page"]);
    assert_eq!(renewed.code, 0, "{}\n{}\n{}", renewed.stdout, renewed.stderr, names.log());
    let standing = listed(&server);
    assert_eq!(standing["source"], "acme", "{standing}");
    let serial = visited(&server, DOMAIN, "127.0.0.1");
    // A name of the zone below the domain, of which the document says nothing.
    assert_eq!(visited(&server, &format!("anything.{DOMAIN}"), "127.0.0.1"), serial);
    let asked = server.run(&["grep", "-c", "acme-challenge", "/var/log/nginx/access.log"]);
    assert_eq!((asked.code, asked.stdout.trim()), (1, "0"), "nobody comes by port 80 for this: {}", asked.stderr);
    // What was published is taken back, and the key is told to nobody.
    assert!(names.log().contains("adding an RR") && names.log().contains("deleting an RR"), "{}", names.log());
    server.write("/root/line", KEY);
    let leaked = server.run(&["grep", "-rlFf", "/root/line", "/var/log", "/run", "/var/lib/socle"]);
    assert_eq!((leaked.code, leaked.stdout.as_str()), (1, ""), "{}", leaked.stderr);
}

/// Spread over the time a whole renewal takes, whatever the machine's speed.
const CUTS: u32 = 8;

#[test]
fn a_power_cut_during_an_order_leaves_a_whole_certificate() {
    let server = Machine::new("web-trixie");
    let authority = Authority::new(&server);
    authority.trusted_by(&server);
    // More than an authority usually allows for the same names in a week.
    let limits = "limits = { orders_per_3h = 1000, certificates_per_domain_7d = 1000, duplicates_7d = 1000 }";
    let document = authority.document("").replace("[certificates]", &format!("{limits}\n[certificates]"));
    server.write("/root/page.toml", &document);
    // Without the daemon: whoever asks waits for the order, and nobody else makes one.
    server.socle(&["agent", "apply", "/root/page.toml"]).expect(0);
    server.write("/srv/socle/page/data/public/index.html", "hello");
    let renew = ["socle", "agent", "cert", "renew", "page"];
    let begun = Instant::now();
    server.run(&renew).expect(0);
    let whole = begun.elapsed();
    for cut in 0..CUTS {
        let at = whole * (2 * cut + 1) / (2 * CUTS);
        let mut renewal = server.start(&renew);
        let started = Instant::now();
        while started.elapsed() < at && renewal.try_wait().is_ok_and(|done| done.is_none()) {
            std::thread::sleep(Duration::from_millis(5));
        }
        server.power_cut();
        let _: std::io::Result<std::process::Output> = renewal.wait_with_output();
        server.up();
        server.write("/etc/resolv.conf", &format!("nameserver {}\n", authority.machine.address()));
        // What the disk has is a pair, whichever it is.
        wait_for("the site answers after a power cut", SOON, || {
            server.run(&["curl", "-sSfk", "https://127.0.0.1/"]).ok()
        });
        visited(&server, DOMAIN, "127.0.0.1");
        // One pass heals: nothing is left of an order that nobody needs any more.
        let healed = server.socle(&["agent", "apply"]);
        assert_eq!(healed.code, 0, "after {at:?} of {whole:?}: {}\n{}", healed.stdout, healed.stderr);
        let standing = listed(&server);
        assert!(standing["order"].is_null() && standing["last_error"].is_null(), "after {at:?}: {standing}");
        let left =
            server.run(&["find", "/run/socle-acme", "/var/lib/socle/tls", "-type", "f", "-name", "order-key.pem"]);
        assert_eq!(left.stdout, "", "after {at:?}");
    }
    // And the next renewal comes through.
    let before = visited(&server, DOMAIN, "127.0.0.1");
    server.run(&renew).expect(0);
    assert_ne!(visited(&server, DOMAIN, "[::1]"), before);
}

/// An authority of somebody's own, and its certificate.
fn authority() -> (Issuer<'static, KeyPair>, String) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "Our own authority");
    let key = KeyPair::generate().unwrap();
    let root = params.self_signed(&key).unwrap().pem();
    (Issuer::new(params, key), root)
}

/// A chain and a key for `names`.
fn issued(authority: &Issuer<'_, KeyPair>, names: &[&str]) -> (String, String) {
    let params = CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap();
    let key = KeyPair::generate().unwrap();
    (params.signed_by(&key, authority).unwrap().pem(), key.serialize_pem())
}

#[test]
fn one_that_is_brought_is_watched() {
    let server = Machine::new("web-trixie");
    let (authority, root) = authority();
    server.write("/root/trusted.pem", &root);
    let bring = |names: &[&str]| {
        let (chain, key) = issued(&authority, names);
        server.write("/etc/ssl/page.pem", &chain);
        server.write("/etc/ssl/private/page.key", &key);
        server.run(&["chmod", "0600", "/etc/ssl/private/page.key"]).expect(0);
    };
    let document = format!(
        "schema = 1\n[instances.page]\nrecipe = \"static\"\nversion = \"1\"\ndomain = \"{DOMAIN}\"\n\
         [instances.page.certificate]\nsource = \"files\"\nchain = \"/etc/ssl/page.pem\"\nkey = \"/etc/ssl/private/page.key\"\n"
    );
    server.write("/root/page.toml", &document);
    let missing = server.socle(&["agent", "apply", "/root/page.toml"]);
    assert_eq!(missing.code, 2);
    assert!(missing.stderr.contains("there is no file `/etc/ssl/page.pem`"), "{}", missing.stderr);
    bring(&["other.example.org"]);
    let other = server.socle(&["agent", "apply", "/root/page.toml"]);
    assert_eq!(other.code, 2);
    assert!(other.stderr.contains(&format!("the certificate is not for `{DOMAIN}`")), "{}", other.stderr);

    server.run(&["systemctl", "enable", "--now", "socle-agent.service"]).expect(0);
    bring(&[DOMAIN]);
    server.socle(&["agent", "apply", "/root/page.toml"]).expect(0);
    let first = visited(&server, DOMAIN, "127.0.0.1");
    // Replaced by whoever brings it: seen within a minute.
    bring(&[DOMAIN]);
    let second = wait_for("the replaced certificate is served", Duration::from_secs(90), || {
        Some(visited(&server, DOMAIN, "127.0.0.1")).filter(|second| *second != first)
    });
    // One that does not fit is told, and the one before stays.
    server.write("/etc/ssl/private/page.key", "no key");
    let failed = server.socle(&["agent", "apply"]);
    assert_eq!(failed.code, 3, "{}", failed.stdout);
    assert!(failed.stdout.contains("the private key cannot be read"), "{}", failed.stdout);
    assert_eq!(visited(&server, DOMAIN, "127.0.0.1"), second);
}
