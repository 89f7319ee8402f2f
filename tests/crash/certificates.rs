//! A SIGKILL at the requests, writes and switches of a first order and of its installation. Then one pass heals, and no
//! second order is made where the first could be known.

use serde_json::Value;

use super::authority::{Authority, visited};
use super::machine::Machine;
use super::{Moment, spread};

/// Requests and handshakes, what is kept of an order, and the switch to its certificate. Each is held up a little, so that
/// a kill after one of them comes before the next, whichever thread makes it.
const CALLS: &str = "writev,sendto,rename";
const HELD_UP: &str = "inject=writev,sendto,rename:delay_enter=20000";
/// Kills the process once so many calls were made.
const KILLER: &str = "#!/bin/bash\nwhile read -r thread rest; do ((++made != $1)) || kill -KILL \"$thread\"; done\n";

struct Sites {
    server: Machine,
    authority: Authority,
    /// All there are.
    many: usize,
    /// Those that are ordered by now.
    ordered: usize,
}

impl Sites {
    /// Each is somebody's first order when its turn comes: until then it has a certificate made here.
    fn new(many: usize) -> Self {
        let server = Machine::new("web-trixie");
        let authority = Authority::new(&server);
        authority.trusted_by(&server);
        let mut sites = Self { server, authority, many, ordered: 0 };
        sites.write();
        sites.server.socle(&["agent", "apply", "/root/sites.toml"]).expect(0);
        // The account is there before: whoever is cut off while making it is the business of another test.
        sites.next();
        sites.server.socle(&["agent", "apply", "/root/sites.toml"]).expect(0);
        sites
    }

    fn write(&self) {
        let head = self.authority.described();
        let mut text =
            format!("{head}[certificates]\ncontacts = [\"admin@example.org\"]\nauthorities = [\"pebble\"]\n");
        for number in 0..self.many {
            let instance = format!(
                "[instances.s{number}]\nrecipe = \"static\"\nversion = \"1\"\ndomain = \"s{number}.example.org\"\n"
            );
            text.push_str(&instance);
            if number >= self.ordered {
                text.push_str("certificate = { source = \"self-signed\" }\n");
            }
        }
        self.server.write("/root/sites.toml", &text);
    }

    /// One more is wanted from the authority: its number.
    fn next(&mut self) -> usize {
        self.ordered += 1;
        assert!(self.ordered <= self.many, "more moments than sites");
        self.write();
        self.ordered - 1
    }

    /// An apply whose calls are written down by whatever `to` is.
    fn traced(&self, to: &str) -> super::machine::Done {
        let (trace, apply) = (format!("trace={CALLS}"), ["socle", "agent", "apply", "/root/sites.toml"]);
        self.server.run(&[&["strace", "-f", "-qq", "-o", to, "-e", &trace, "-e", HELD_UP][..], &apply].concat())
    }

    /// The calls of an undisturbed first order, with what its passes do before and after it.
    fn calls(&mut self) -> Vec<Moment> {
        self.next();
        self.traced("/root/calls").expect(0);
        let text = self.server.read("/root/calls");
        let call =
            |line: &str| line.split_whitespace().nth(1).and_then(|call| call.split('(').next()).map(str::to_owned);
        let calls = text.lines().enumerate();
        calls.map(|(at, line)| Moment { call: call(line).unwrap_or_default(), nth: at + 1 }).collect()
    }

    fn state_of(&self, number: usize) -> Value {
        let path = format!("{}/var/lib/socle/tls/s{number}/record.json", self.server.root().display());
        std::fs::read(path).map_or(Value::Null, |bytes| serde_json::from_slice(&bytes).unwrap())
    }

    fn origin_of(&self, number: usize) -> Value {
        let all = self.server.socle(&["agent", "cert", "list", "--json"]).json();
        let name = format!("s{number}");
        all.as_array().unwrap().iter().find(|one| one["name"] == *name).unwrap().clone()
    }

    /// Kills a first order at this moment, has one pass heal it, and tells whether the order was taken up.
    fn kill(&mut self, moment: &Moment) -> bool {
        let Moment { call, nth } = moment;
        let (number, before, in_vain) = (self.next(), self.authority.orders(), self.authority.in_vain());
        let done = self.traced(&format!("|/root/kill-after {nth}"));
        let ordered = self.authority.orders() - before;
        let record = self.state_of(number);
        let known = record["order"]["url"].is_string();
        let committed = self.origin_of(number)["source"] == "acme";
        let what = format!(
            "after call {nth}, {call}, killed: {}, ordered: {ordered}, order known: {known}, certificate there: {committed}",
            done.code != 0
        );
        let healed = self.server.socle(&["agent", "apply", "/root/sites.toml"]);
        assert_eq!(healed.code, 0, "{what}:\n{}\n{}", healed.stdout, healed.stderr);
        let standing = self.origin_of(number);
        let whole = standing["source"] == "acme" && standing["order"].is_null() && standing["last_error"].is_null();
        assert!(whole && standing["served"].is_null(), "{what}: {standing}");
        visited(&self.server, &format!("s{number}.example.org"), "127.0.0.1");
        let lost = !known || self.authority.in_vain() > in_vain;
        let more = self.authority.orders() - before - ordered;
        assert!(ordered <= 1, "{what}");
        assert_eq!(more, usize::from(lost && !committed), "{what}: a second order");
        let places = ["/run/socle-acme", "/var/lib/socle/tls", "/var/lib/socle/acme"];
        let left = ["-name", "order-key.pem", "-o", "-name", "*.socle-new", "-o", "-path", "/run/socle-acme/*"];
        let left = self.server.run(&[&["find"][..], &places, &left].concat()).stdout;
        // A file of the check before the order may belong to somebody at work; after an hour it does not.
        let passing =
            |path: &str| path.starts_with("/run/socle-acme/") && (path.contains("check-") || path.ends_with("-new"));
        assert!(left.lines().all(passing), "{what}: {left}");
        let age = ["find", "/run/socle-acme", "-type", "f", "-exec", "touch", "-d", "2 hours ago", "{}", "+"];
        self.server.run(&age);
        println!("{what}");
        known && !committed && more == 0
    }
}

#[test]
fn a_first_order_killed_at_requests_and_writes() {
    let mut sites = Sites::new(if super::full() { 400 } else { 48 });
    sites.server.write("/root/kill-after", KILLER);
    sites.server.run(&["chmod", "0755", "/root/kill-after"]).expect(0);
    let all = sites.calls();
    println!("calls: {}", all.iter().map(|moment| moment.call.as_str()).collect::<Vec<_>>().join(" "));
    let moments = spread(all, 40);
    assert!(moments.len() >= 20, "too few moments to say anything: {moments:?}");
    let taken_up = moments.iter().filter(|moment| sites.kill(moment)).count();
    sites.server.socle(&["agent", "apply"]).expect(0);
    assert_eq!(sites.server.run(&["find", "/run/socle-acme", "-type", "f"]).stdout, "", "nothing stays for ever");
    println!("{} moments, all healed; {taken_up} orders taken up", moments.len());
    assert!(taken_up >= 5, "orders taken up: {taken_up} of {}", moments.len());
}
