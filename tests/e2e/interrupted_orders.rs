//! Orders that are interrupted by the power, and passes that no order holds up.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::authority::{Authority, SOON, visited};
use crate::machine::{Machine, wait_for};

const DOMAIN: &str = "page.example.org";

/// Spread over the time a whole renewal takes, whatever the machine's speed.
const CUTS: u32 = 8;
/// The same for first orders.
const FIRST_CUTS: u32 = 8;

fn document(authority: &Authority, instances: &str) -> String {
    let head = authority.described();
    format!("{head}[certificates]\ncontacts = [\"admin@example.org\"]\nauthorities = [\"pebble\"]\n{instances}")
}

fn instance(name: &str, domain: &str, more: &str) -> String {
    format!("[instances.{name}]\nrecipe = \"static\"\nversion = \"1\"\ndomain = \"{domain}\"\n{more}")
}

/// Sites of their own, `s0`, `s1` …; those from `ordered` on are served with certificates made here.
fn sites(authority: &Authority, many: u32, ordered: u32) -> String {
    let site = |number: u32| {
        let own = "certificate = { source = \"self-signed\" }\n";
        let more = if number < ordered { "" } else { own };
        instance(&format!("s{number}"), &format!("s{number}.example.org"), more)
    };
    document(authority, &(0..many).map(site).collect::<String>())
}

fn listed(server: &Machine, name: &str) -> Value {
    let all = server.socle(&["agent", "cert", "list", "--json"]).json();
    all.as_array().unwrap().iter().find(|one| one["name"] == name).unwrap().clone()
}

/// Starts a program and cuts the power after `at`, or when the program ended before.
fn cut_after(server: &Machine, program: &[&str], at: Duration) {
    let mut running = server.start(program);
    let started = Instant::now();
    while started.elapsed() < at && running.try_wait().is_ok_and(|done| done.is_none()) {
        std::thread::sleep(Duration::from_millis(5));
    }
    server.power_cut();
    let _: std::io::Result<std::process::Output> = running.wait_with_output();
}

/// Nothing is left of an order that nobody needs any more.
fn nothing_is_left(server: &Machine, name: &str, what: &str) {
    let standing = listed(server, name);
    assert!(standing["order"].is_null() && standing["last_error"].is_null(), "after {what}: {standing}");
    let left = server.run(&["find", "/run/socle-acme", "/var/lib/socle/tls", "-type", "f", "-name", "order-key.pem"]);
    assert_eq!(left.stdout, "", "after {what}");
    let proofs = server.run(&["find", "/run/socle-acme", "-type", "f"]).stdout;
    assert_eq!(proofs, "", "after {what}");
}

#[test]
fn a_power_cut_during_an_order_leaves_a_whole_certificate() {
    let server = Machine::new("web-trixie");
    let authority = Authority::new(&server);
    authority.trusted_by(&server);
    server.write("/root/page.toml", &document(&authority, &instance("page", DOMAIN, "")));
    // Without the daemon: whoever asks waits for the order, and nobody else makes one.
    server.socle(&["agent", "apply", "/root/page.toml"]).expect(0);
    server.write("/srv/socle/page/data/public/index.html", "hello");
    let renew = ["socle", "agent", "cert", "renew", "page"];
    let begun = Instant::now();
    server.run(&renew).expect(0);
    let whole = begun.elapsed();
    for cut in 0..CUTS {
        let at = whole * (2 * cut + 1) / (2 * CUTS);
        cut_after(&server, &renew, at);
        server.up();
        authority.name(&server);
        // What the disk has is a pair, whichever it is.
        wait_for("the site answers after a power cut", SOON, || {
            server.run(&["curl", "-sSfk", "https://127.0.0.1/"]).ok()
        });
        visited(&server, DOMAIN, "127.0.0.1");
        // One pass heals.
        let healed = server.socle(&["agent", "apply"]);
        let what = format!("a cut at {at:?} of {whole:?}");
        assert_eq!(healed.code, 0, "after {what}: {}\n{}", healed.stdout, healed.stderr);
        nothing_is_left(&server, "page", &what);
    }
    // And the next renewal comes through.
    let before = visited(&server, DOMAIN, "127.0.0.1");
    server.run(&renew).expect(0);
    assert_ne!(visited(&server, DOMAIN, "[::1]"), before);
}

#[test]
fn a_first_order_is_taken_up_again_after_a_power_cut() {
    let server = Machine::new("web-trixie");
    let authority = Authority::new(&server);
    authority.trusted_by(&server);
    let apply = ["socle", "agent", "apply", "/root/sites.toml"];
    let order = |ordered: u32| server.write("/root/sites.toml", &sites(&authority, FIRST_CUTS + 1, ordered));
    order(0);
    server.run(&apply).expect(0);
    // How long the first one takes, account and all.
    order(1);
    let begun = Instant::now();
    server.run(&apply).expect(0);
    let whole = begun.elapsed();
    let mut taken_up = 0;
    for number in 1..=FIRST_CUTS {
        let (name, domain) = (format!("s{number}"), format!("s{number}.example.org"));
        let at = whole * (2 * number - 1) / (2 * FIRST_CUTS);
        let (before, in_vain) = (authority.orders(), authority.in_vain());
        order(number + 1);
        cut_after(&server, &apply, at);
        let ordered = authority.orders() - before;
        assert!(ordered <= 1, "{ordered} orders at once");
        server.up();
        authority.name(&server);
        // What the disk kept of the order, before anybody reads it.
        let record = format!("{}/var/lib/socle/tls/{name}/record.json", server.root().display());
        let record = std::fs::read(record).map_or(Value::Null, |bytes| serde_json::from_slice(&bytes).unwrap());
        let known = record["order"]["url"].is_string();
        let committed = listed(&server, &name)["source"] == "acme";
        let what = format!("a cut at {at:?} of {whole:?}, order known: {known}, certificate there: {committed}");
        let healed = server.run(&apply);
        assert_eq!(healed.code, 0, "after {what}: {}\n{}", healed.stdout, healed.stderr);
        assert_eq!(listed(&server, &name)["source"], "acme", "after {what}");
        visited(&server, &domain, "127.0.0.1");
        visited(&server, &domain, "[::1]");
        nothing_is_left(&server, &name, &what);
        // The same order, whenever this server could still know of it, and its proof was there when it was looked for.
        let more = authority.orders() - before - ordered;
        let lost = !known || authority.in_vain() > in_vain;
        assert_eq!(more, usize::from(lost && !committed), "after {what}, lost: {lost}, on top of {ordered}");
        println!("{what}, orders: {ordered} + {more}");
        taken_up += u32::from(known);
    }
    assert!(
        taken_up > 0,
        "no cut hit an order that could be taken up: more of them, {whole:?} were cut {FIRST_CUTS} times"
    );
}

/// Longer than any apply of a page, shorter than our patience with an authority that does not answer.
const BUSY: Duration = Duration::from_secs(30);

#[test]
fn no_pass_waits_for_an_order() {
    let server = Machine::new("web-trixie");
    let authority = Authority::new(&server);
    authority.trusted_by(&server);
    server.run(&["systemctl", "enable", "--now", "socle-agent.service"]).expect(0);
    authority.freeze();
    let begun = Instant::now();
    let apply = |more: &str| {
        server.write("/root/page.toml", &document(&authority, &format!("{}{more}", instance("page", DOMAIN, ""))));
        server.socle(&["agent", "apply", "/root/page.toml"]).expect(0);
    };
    // Our end of the one conversation with the authority.
    let ordering = || {
        let to = format!("{}:14000", authority.machine.address());
        let seen = server.run(&["ss", "-Htn", "state", "established", "dst", &to]).expect(0);
        seen.split_whitespace().nth(2).map(str::to_owned)
    };
    apply("");
    let first = wait_for("an order is under way", SOON, ordering);
    // Passes go on, by whoever asks for them, and the order with them.
    for number in 1..=3 {
        let name = format!("other{number}");
        let asked = Instant::now();
        apply(&instance(&name, &format!("{name}.example.org"), "certificate = { source = \"self-signed\" }\n"));
        println!("an apply beside an order: {:?}", asked.elapsed());
        server.write(&format!("/srv/socle/{name}/data/public/index.html"), &name);
        assert_eq!(server.get(&format!("{name}.example.org"), "/"), (200, name), "what was applied is served");
        assert_eq!(ordering().as_ref(), Some(&first), "the order waited on, and the apply did not");
    }
    server.socle(&["agent", "status"]);
    assert!(begun.elapsed() < BUSY, "the order's own patience was not over: {:?}", begun.elapsed());
    authority.thaw();
    let (resolve, url) = (format!("{DOMAIN}:443:127.0.0.1"), format!("https://{DOMAIN}/"));
    let visit = ["curl", "-sS", "--cacert", "/root/trusted.pem", "--resolve", &resolve, &url];
    wait_for("the certificate comes all the same, and a pass loads it", Duration::from_secs(180), || {
        server.run(&visit).ok()
    });
    assert_eq!(listed(&server, "page")["source"], "acme");
    visited(&server, DOMAIN, "127.0.0.1");
}
