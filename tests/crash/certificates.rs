//! A SIGKILL at the requests, writes and switches of a first order and of its installation. Then one pass heals, and no
//! second order is made where the first could be known.

use std::collections::BTreeMap;

use serde_json::Value;

use super::authority::{Authority, visited};
use super::machine::Machine;
use super::{Moment, spread};

/// One request to the authority or the name servers, or one handshake.
const TALKING: &str = "sendto";
/// What is kept for an order: each change is renamed into its place. The certificate is switched to by the last of them.
const KEEPING: &str = "rename";
/// What is on disk by then.
const SYNCING: &str = "fsync";

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

    /// An apply, on one processor: then one thread does all the talking, and one all the writing, whose calls are counted.
    fn traced(&self, options: &[&str]) -> super::machine::Done {
        let apply = ["taskset", "-c", "0", "socle", "agent", "apply", "/root/sites.toml"];
        self.server.run(&[&["strace", "-f", "-qq"][..], options, &apply].concat())
    }

    /// The calls of each name that one thread makes in an undisturbed first order.
    fn calls(&mut self, names: &[&str]) -> Vec<Moment> {
        self.next();
        let trace = format!("trace={}", names.join(","));
        self.traced(&["-o", "/root/calls", "-e", &trace]).expect(0);
        let text = self.server.read("/root/calls");
        let mut seen: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        for line in text.lines().filter(|line| !line.contains("resumed")) {
            let Some((thread, call)) = line.split_once(' ') else { continue };
            let Some((call, _)) = call.trim_start().split_once('(') else { continue };
            *seen.entry((thread, call)).or_default() += 1;
        }
        let most = |name: &str| seen.iter().filter(|((_, call), _)| *call == name).map(|(_, many)| *many).max();
        let all = |name: &&str| {
            let call = (*name).to_owned();
            (1..=most(name).unwrap_or(0)).map(move |nth| Moment { call: call.clone(), nth })
        };
        names.iter().flat_map(all).collect()
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
        let (trace, inject) = (format!("trace={call}"), format!("inject={call}:signal=SIGKILL:when={nth}"));
        let done = self.traced(&["-o", "/dev/null", "-e", &trace, "-e", &inject]);
        let ordered = self.authority.orders() - before;
        let record = self.state_of(number);
        let known = record["order"]["url"].is_string();
        let committed = self.origin_of(number)["source"] == "acme";
        let what = format!(
            "{call} number {nth}, killed: {}, ordered: {ordered}, order known: {known}, certificate there: {committed}",
            done.code != 0
        );
        let healed = self.server.socle(&["agent", "apply", "/root/sites.toml"]);
        assert_eq!(healed.code, 0, "after {what}:\n{}\n{}", healed.stdout, healed.stderr);
        let standing = self.origin_of(number);
        let whole = standing["source"] == "acme" && standing["order"].is_null() && standing["last_error"].is_null();
        assert!(whole && standing["served"].is_null(), "after {what}: {standing}");
        visited(&self.server, &format!("s{number}.example.org"), "127.0.0.1");
        let lost = !known || self.authority.in_vain() > in_vain;
        let more = self.authority.orders() - before - ordered;
        assert!(ordered <= 1, "after {what}");
        assert_eq!(more, usize::from(lost && !committed), "after {what}: a second order");
        let places = ["/run/socle-acme", "/var/lib/socle/tls", "/var/lib/socle/acme"];
        let left = ["-name", "order-key.pem", "-o", "-name", "*.socle-new", "-o", "-path", "/run/socle-acme/*"];
        assert_eq!(self.server.run(&[&["find"][..], &places, &left].concat()).stdout, "", "after {what}");
        println!("{what}");
        known && !committed && more == 0
    }
}

#[test]
fn a_first_order_killed_at_requests_and_writes() {
    let mut sites = Sites::new(if super::full() { 400 } else { 60 });
    let all = sites.calls(&[KEEPING, TALKING, SYNCING]);
    let of = |name: &str| -> Vec<Moment> { all.iter().filter(|moment| moment.call == name).cloned().collect() };
    println!(
        "calls of one thread: {KEEPING} {}, {TALKING} {}, {SYNCING} {}",
        of(KEEPING).len(),
        of(TALKING).len(),
        of(SYNCING).len()
    );
    let moments = [spread(of(KEEPING), 24), spread(of(TALKING), 16), spread(of(SYNCING), 6)].concat();
    assert!(moments.len() >= 20, "too few moments to say anything: {moments:?}");
    let taken_up = moments.iter().filter(|moment| sites.kill(moment)).count();
    println!("{} moments, all healed; {taken_up} orders taken up", moments.len());
    assert!(taken_up >= 5, "orders taken up: {taken_up} of {}", moments.len());
}
