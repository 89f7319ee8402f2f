//! Certificates from a real authority (pebble), served by a real nginx.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::Value;

use crate::authority::{Authority, CUSTOMER, CUSTOMER_KEY, SOON, visited};
use crate::machine::{Machine, Outside, wait_for};

const DOMAIN: &str = "page.example.org";
const ALIAS: &str = "www.page.example.org";
/// A server is its own visitor, by both families of addresses.
const VISITORS: [&str; 2] = ["127.0.0.1", "[::1]"];

/// The page below the description of its authority; the page's own settings come last.
fn document(head: &str, more: &str) -> String {
    format!(
        "{head}[certificates]\ncontacts = [\"admin@example.org\"]\nauthorities = [\"pebble\"]\n\
         [instances.page]\nrecipe = \"static\"\nversion = \"1\"\ndomain = \"{DOMAIN}\"\naliases = [\"{ALIAS}\"]\n{more}"
    )
}

fn listed(server: &Machine) -> Value {
    server.socle(&["agent", "cert", "list", "--json"]).json()[0].clone()
}

/// Status and redirect, and the body.
fn curl(server: &Machine, at: &str, url: &str) -> (String, String) {
    let resolve: Vec<String> =
        [DOMAIN, ALIAS].iter().flat_map(|name| [80, 443].map(|port| format!("{name}:{port}:{at}"))).collect();
    let mut args = vec!["curl", "-sS", "--cacert", "/root/trusted.pem", "-w", "\n%{http_code} %{redirect_url}"];
    for one in &resolve {
        args.extend(["--resolve", one]);
    }
    args.push(url);
    let out = server.run(&args).expect(0);
    let (body, status) = out.rsplit_once('\n').unwrap();
    (status.to_owned(), body.to_owned())
}

/// The headers of the page, in small letters.
fn headers(server: &Machine, at: &str) -> String {
    let resolve = format!("{DOMAIN}:443:{at}");
    let url = format!("https://{DOMAIN}/");
    server.run(&["curl", "-sSI", "--cacert", "/root/trusted.pem", "--resolve", &resolve, &url]).expect(0).to_lowercase()
}

/// What a client of TLS says when it knocks with these options.
fn knocked(server: &Machine, at: &str, options: &[&str]) -> crate::machine::Done {
    let connect = format!("{at}:443");
    let named = ["openssl", "s_client", "-connect", &connect, "-servername", DOMAIN, "-CAfile", "/root/trusted.pem"];
    server.run(&[&named[..], options].concat())
}

/// The certificates of a text, one after the other.
fn certificates(text: &str) -> Vec<String> {
    const END: &str = "-----END CERTIFICATE-----";
    let all = text.split("-----BEGIN CERTIFICATE-----").skip(1);
    all.map(|rest| rest.split(END).next().unwrap().split_whitespace().collect()).collect()
}

#[test]
fn a_site_is_served_by_https_without_anyone_asking() {
    let server = Machine::new("web-trixie");
    let authority = Authority::new(&server);
    server.run(&["systemctl", "enable", "--now", "socle-agent.service"]).expect(0);

    // The authority is away: the site answers all the same, and it is said why it is not trusted.
    authority.stop();
    server.write("/root/page.toml", &document(&authority.described(), "[instances.page.certificate]\nhsts = true\n"));
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
    let chain = certificates(&server.read("/var/lib/socle/tls/page/current/fullchain.pem"));
    assert!(chain.len() >= 2, "a certificate and its authority's: {}", chain.len());
    for at in VISITORS {
        let expect = |url: &str, status: &str| assert_eq!(curl(&server, at, url).0, status, "{url} at {at}");
        assert_eq!(curl(&server, at, &format!("https://{DOMAIN}/")), ("200 ".to_owned(), "hello".to_owned()), "{at}");
        expect(&format!("http://{DOMAIN}/a?b"), &format!("301 https://{DOMAIN}/a?b"));
        expect(&format!("http://{ALIAS}/a"), &format!("301 https://{DOMAIN}/a"));
        expect(&format!("https://{ALIAS}/a"), &format!("301 https://{DOMAIN}/a"));
        assert!(headers(&server, at).contains("strict-transport-security: max-age=31536000"), "{at}");
        let seen = knocked(&server, at, &["-showcerts", "-verify_return_error"]);
        assert_eq!((seen.code, certificates(&seen.stdout)), (0, chain.clone()), "{at}: {}", seen.stderr);
        for version in ["-tls1_2", "-tls1_3"] {
            assert_eq!(knocked(&server, at, &[version]).code, 0, "{version} at {at}");
        }
        assert_ne!(knocked(&server, at, &["-tls1_1"]).code, 0, "TLS 1.1 is refused at {at}");
    }
    // No OCSP: its authority names no responder, so nothing is stapled, nobody is asked, and nginx has nothing to say.
    let leaf = ["openssl", "x509", "-in", "/root/visited.pem", "-noout", "-ocsp_uri"];
    assert_eq!(server.run(&leaf).expect(0), "", "this authority is one without OCSP");
    let asked = knocked(&server, "127.0.0.1", &["-status"]);
    assert!(asked.stdout.contains("OCSP response: no response sent"), "{}", asked.stdout);
    let tested = server.run(&["nginx", "-t"]);
    assert!(tested.code == 0 && !tested.stderr.contains("[warn]"), "{}", tested.stderr);
    let stapling = server.run(&["grep", "-rliE", "stapl|ocsp", "/etc/nginx/sites-enabled/", "/var/log/nginx"]);
    assert_eq!((stapling.code, stapling.stdout.as_str()), (1, ""), "{}", stapling.stderr);

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

    // What is served is looked at, not only what lies there: here nginx did not hear of a change.
    let chain = "/var/lib/socle/tls/page/current/fullchain.pem";
    let present = server.read(chain);
    // The present one and the two before it are kept; the one made here at first is gone by now.
    let kept =
        server.run(&["find", "/var/lib/socle/tls/page", "-mindepth", "1", "-type", "d", "-printf", "%f "]).expect(0);
    let mut kept: Vec<u32> = kept.split_whitespace().map(|number| number.parse().unwrap()).collect();
    kept.sort_unstable();
    assert_eq!(kept, [2, 3, 4]);
    server.write(chain, &server.read("/var/lib/socle/tls/page/3/fullchain.pem"));
    let differs = server.socle(&["agent", "cert", "check", "page"]);
    assert_eq!(differs.code, 3, "{}", differs.stdout);
    assert!(differs.stdout.contains("does not serve the certificate that is in place"), "{}", differs.stdout);
    server.write(chain, &present);

    // A check orders nothing unless asked; an order for practice leaves nothing behind, and goes to the authority for
    // that unless another is named.
    let state = || server.run(&["find", "/var/lib/socle/tls", "/var/lib/socle/acme", "/run/socle"]).stdout;
    let (before, orders) = (state(), authority.orders());
    server.socle(&["agent", "cert", "check", "page"]).expect(0);
    assert_eq!(authority.orders(), orders);
    server.socle(&["agent", "cert", "check", "page", "--order", "--authority", "pebble"]).expect(0);
    assert_eq!(authority.orders(), orders + 1);
    let dry = server.socle(&["agent", "cert", "check", "page", "--dry-run"]);
    assert_eq!(dry.code, 3, "{}", dry.stdout);
    assert!(dry.stdout.contains("letsencrypt-staging"), "nobody gets there from here: {}", dry.stdout);
    assert_eq!((state(), authority.orders()), (before, orders + 1));
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
    // An authority for customers only, and a key of the other type.
    let authority = Authority::asking(&server, Some(names.place.address()), Authority::for_customers());
    authority.start();
    authority.trusted_by(&server);
    for (file, secret) in [("/etc/socle/dns.key", KEY), ("/etc/socle/customer.key", CUSTOMER_KEY)] {
        server.write(file, &format!("{secret}\n"));
        server.run(&["chmod", "0600", file]).expect(0);
    }
    let described = authority.described();
    let head = format!("{described}binding = {{ id = \"{CUSTOMER}\", key_file = \"/etc/socle/customer.key\" }}\n");
    let provider = format!(
        "[instances.page.certificate]\nwildcard = true\nchallenge = \"dns-01\"\ndns = \"ours\"\nkey_type = \"rsa2048\"\n\
         [dns.ours]\nprovider = \"rfc2136\"\nsettings = {{ server = \"{}:53\", key_name = \"socle\" }}\n\
         secret_files = {{ key = \"/etc/socle/dns.key\" }}\n",
        names.place.address()
    );
    // Without a word on who the customer is, there is no account, and it is said what is missing.
    server.write("/root/page.toml", &document(&described, &provider));
    let unknown = server.socle(&["agent", "apply", "/root/page.toml"]).stdout;
    assert!(unknown.contains("binding"), "{unknown}");
    server.write("/root/page.toml", &document(&head, &provider));
    server.socle(&["agent", "apply", "/root/page.toml"]);
    let renewed = server.socle(&["agent", "cert", "renew", "page"]);
    assert_eq!(renewed.code, 0, "{}\n{}\n{}", renewed.stdout, renewed.stderr, names.log());
    let standing = listed(&server);
    assert_eq!(standing["source"], "acme", "{standing}");
    let serial = visited(&server, DOMAIN, "127.0.0.1");
    // A name of the zone below the domain, of which the document says nothing.
    assert_eq!(visited(&server, &format!("anything.{DOMAIN}"), "127.0.0.1"), serial);
    let leaf = server.run(&["openssl", "x509", "-in", "/root/visited.pem", "-noout", "-text"]).expect(0);
    assert!(leaf.contains("rsaEncryption") && leaf.contains("(2048 bit)"), "{leaf}");
    // Visitors are told to come back by HTTPS only where the document says so.
    assert!(!headers(&server, "127.0.0.1").contains("strict-transport-security"));
    let asked = server.run(&["grep", "-rlF", "acme-challenge", "/var/log/nginx"]);
    assert_eq!((asked.code, asked.stdout.as_str()), (1, ""), "nobody comes by port 80 for this: {}", asked.stderr);
    // What was published is taken back, and the key is told to nobody.
    assert!(names.log().contains("adding an RR") && names.log().contains("deleting an RR"), "{}", names.log());
    for secret in [KEY, CUSTOMER_KEY] {
        server.write("/root/line", secret);
        let leaked = server.run(&["grep", "-rlFf", "/root/line", "/var/log", "/run", "/var/lib/socle"]);
        assert_eq!((leaked.code, leaked.stdout.as_str()), (1, ""), "{}", leaked.stderr);
    }
}

/// An authority of somebody's own, and its certificate.
pub fn authority() -> (Issuer<'static, KeyPair>, String) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "Our own authority");
    let key = KeyPair::generate().unwrap();
    let root = params.self_signed(&key).unwrap().pem();
    (Issuer::new(params, key), root)
}

/// A chain and a key for `names`, of a life of ninety days of which so many are over.
pub fn issued(authority: &Issuer<'_, KeyPair>, names: &[&str], over: u64) -> (String, String) {
    let mut params = CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap();
    let today = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() / 86_400;
    let day = |day: u64| rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(day * 86_400);
    // From the middle of today's day on, the same whenever it is asked.
    (params.not_before, params.not_after) = (day(today - over), day(today - over + 90));
    let key = KeyPair::generate().unwrap();
    (params.signed_by(&key, authority).unwrap().pem(), key.serialize_pem())
}

#[test]
fn one_that_is_brought_is_watched() {
    let server = Machine::new("web-trixie");
    let (authority, root) = authority();
    server.write("/root/trusted.pem", &root);
    let bring = |names: &[&str], over: u64| {
        let (chain, key) = issued(&authority, names, over);
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
    bring(&["other.example.org"], 0);
    let other = server.socle(&["agent", "apply", "/root/page.toml"]);
    assert_eq!(other.code, 2);
    assert!(other.stderr.contains(&format!("the certificate is not for `{DOMAIN}`")), "{}", other.stderr);

    server.run(&["systemctl", "enable", "--now", "socle-agent.service"]).expect(0);
    bring(&[DOMAIN], 0);
    server.socle(&["agent", "apply", "/root/page.toml"]).expect(0);
    let first = visited(&server, DOMAIN, "127.0.0.1");
    // Replaced by whoever brings it: seen within a minute.
    bring(&[DOMAIN], 0);
    let second = wait_for("the replaced certificate is served", Duration::from_secs(90), || {
        Some(visited(&server, DOMAIN, "127.0.0.1")).filter(|second| *second != first)
    });
    // One that does not fit is told, and the one before stays.
    server.write("/etc/ssl/private/page.key", "no key");
    let failed = server.socle(&["agent", "apply"]);
    assert_eq!(failed.code, 3, "{}", failed.stdout);
    assert!(failed.stdout.contains("the private key cannot be read"), "{}", failed.stdout);
    assert_eq!(visited(&server, DOMAIN, "127.0.0.1"), second);
    // One that nobody replaces in time is told ever more urgently. Of thirty days in which it should be, so many are left:
    for (left, alert, words) in [
        (20, None, "as wanted"),
        (13, Some("half"), "overdue"),
        (8, Some("third"), "long overdue"),
        (4, Some("fifth"), "ends soon"),
    ] {
        bring(&[DOMAIN], 90 - left);
        let told = server.socle(&["agent", "apply"]);
        assert!(told.code == 0 && told.stdout.contains(words), "{left} days left: {}", told.stdout);
        let report: Value = serde_json::from_str(&server.read("/var/lib/socle/report.json")).unwrap();
        let expected = alert.map_or(Value::Null, Value::from);
        assert_eq!(report["certificates"][0]["alert"], expected, "{left} days left: {report}");
        assert_eq!(listed(&server)["alert"], expected);
        let status = server.socle(&["agent", "status"]).stdout;
        assert!(alert.is_none() || status.contains(words), "{left} days left: {status}");
    }
}
