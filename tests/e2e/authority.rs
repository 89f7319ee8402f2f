//! Pebble, a real authority, in a machine of its own, and what visitors of a site see. It rejects some nonces on purpose.

#![allow(dead_code, reason = "shared by the test programs, of which none uses all")]

use std::time::Duration;

use serde_json::{Value, json};

use crate::machine::{Machine, wait_for};

pub const SOON: Duration = Duration::from_secs(60);
/// What a customer is known by, where only customers get certificates.
pub const CUSTOMER: &str = "customer-7";
/// `printf %s 'a key for tests of thirty-two B.' | base64`, without its padding.
pub const CUSTOMER_KEY: &str = "YSBrZXkgZm9yIHRlc3RzIG9mIHRoaXJ0eS10d28gQi4";

pub struct Authority {
    pub machine: Machine,
    /// The address of the name server it asks.
    names: String,
}

impl Authority {
    /// With a name server that sends every name to `server`.
    pub fn new(server: &Machine) -> Self {
        let authority = Self::asking(server, None, json!({}));
        let ip = format!("-defaultIPv4={}", server.address());
        let off = ["-http01=", "-https01=", "-tlsalpn01=", "-defaultIPv6=", "-dns01=:53", "-management=:8055"];
        let mut names = vec!["systemd-run", "--unit=names", "pebble-challtestsrv", &ip];
        names.extend(off);
        authority.machine.run(&names).expect(0);
        authority.name(server);
        authority.start();
        authority
    }

    /// Not started yet. `names`: the name server it asks, if not its own. `more`: settings of pebble.
    pub fn asking(server: &Machine, names: Option<String>, more: Value) -> Self {
        let machine = Machine::blank("base-trixie");
        for program in ["pebble", "pebble-challtestsrv"] {
            machine.lab("push", &[&format!("/usr/bin/{program}"), &format!("/usr/bin/{program}")]);
        }
        let made = rcgen::generate_simple_self_signed([machine.address()]).unwrap();
        machine.write("/root/cert.pem", &made.cert.pem());
        machine.write("/root/key.pem", &made.signing_key.serialize_pem());
        let mut config = json!({
            "listenAddress": "0.0.0.0:14000", "managementListenAddress": "0.0.0.0:15000",
            "certificate": "/root/cert.pem", "privateKey": "/root/key.pem",
            "httpPort": 80, "tlsPort": 443, "ocspResponderURL": "", "externalAccountBindingRequired": false,
        });
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        machine.write("/root/pebble.json", &json!({ "pebble": config }).to_string());
        server.write("/etc/socle/pebble.pem", &made.cert.pem());
        Self { machine, names: names.unwrap_or_else(|| "127.0.0.1".to_owned()) }
    }

    /// Settings for an authority that knows one customer.
    pub fn for_customers() -> Value {
        json!({ "externalAccountBindingRequired": true, "externalAccountMACKeys": { CUSTOMER: CUSTOMER_KEY } })
    }

    /// Has `server` ask our name server; again after every boot.
    pub fn name(&self, server: &Machine) {
        server.write("/etc/resolv.conf", &format!("nameserver {}\n", self.machine.address()));
    }

    pub fn start(&self) {
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

    pub fn stop(&self) {
        self.machine.run(&["systemctl", "stop", "pebble.service"]).expect(0);
    }

    /// It takes connections, and answers nothing until [`Authority::thaw`].
    pub fn freeze(&self) {
        self.machine.run(&["systemctl", "kill", "--signal=SIGSTOP", "pebble.service"]).expect(0);
    }

    pub fn thaw(&self) {
        self.machine.run(&["systemctl", "kill", "--signal=SIGCONT", "pebble.service"]).expect(0);
    }

    /// Something of its management interface.
    pub fn ask(&self, path: &str) -> Option<String> {
        self.machine.run(&["curl", "-sSfk", &format!("https://127.0.0.1:15000{path}")]).ok()
    }

    /// How many orders it ever took.
    pub fn orders(&self) -> usize {
        self.said("Added order")
    }

    /// How many proofs it ever looked for in vain.
    pub fn in_vain(&self) -> usize {
        self.said("set INVALID by completed challenge")
    }

    fn said(&self, words: &str) -> usize {
        let said = self.machine.run(&["journalctl", "--unit=pebble", "--output=cat", "--no-pager"]).expect(0);
        said.lines().filter(|line| line.contains(words)).count()
    }

    /// What browsers would trust, as a file of `server`.
    pub fn trusted_by(&self, server: &Machine) {
        let root = self.ask("/roots/0").unwrap();
        server.write("/root/trusted.pem", &root);
    }

    /// The head of a document that describes it as `pebble`. More than an authority usually allows is allowed.
    pub fn described(&self) -> String {
        let address = self.machine.address();
        format!(
            "schema = 1\n[authorities.pebble]\ndirectory = \"https://{address}:14000/dir\"\nroots = \"/etc/socle/pebble.pem\"\n\
             limits = {{ orders_per_3h = 1000, certificates_per_domain_7d = 1000, duplicates_7d = 1000 }}\n"
        )
    }
}

/// The serial number of what a visitor is given, checked against what browsers would trust.
pub fn visited(server: &Machine, host: &str, connect: &str) -> String {
    let connect = format!("{connect}:443");
    let named = ["-servername", host, "-verify_hostname", host, "-CAfile", "/root/trusted.pem"];
    let done = server.run(&[&["openssl", "s_client", "-connect", &connect][..], &named].concat());
    assert!(done.stdout.contains("Verify return code: 0 (ok)"), "{}\n{}", done.stdout, done.stderr);
    let from = done.stdout.find("-----BEGIN CERTIFICATE-----").unwrap();
    server.write("/root/visited.pem", &done.stdout[from..]);
    let serial = server.run(&["openssl", "x509", "-in", "/root/visited.pem", "-noout", "-serial"]).expect(0);
    serial.trim().to_ascii_lowercase()
}
