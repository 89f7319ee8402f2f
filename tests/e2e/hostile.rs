//! Somebody became root on one server, and speaks to the controller and to another server's agent as no program of ours
//! does; then disks are full, and clocks wrong. Nothing goes back, the sites answer, and `fleet status` says what is wrong.

use std::time::Duration;

use serde_json::Value;

use crate::attacker::{INSTANCE, KEPT, OLDER, OTHERS, VICTIM};
use crate::fleet::{Fleet, LONG, SOON, file};
use crate::machine::{Done, Machine, wait_for};

const SITE: &str = "page.home.arpa";

struct Scene {
    fleet: Fleet,
    ks1: Machine,
    ks2: Machine,
}

impl Scene {
    fn new() -> Self {
        let fleet = Fleet::new();
        let ((ks1, _), (ks2, _)) = (fleet.server("ks1"), fleet.server("ks2"));
        let program = std::env::current_exe().unwrap();
        for machine in [&ks1, &ks2] {
            machine.lab("push", &[program.to_str().unwrap(), "/root/e2e"]);
        }
        Self { fleet, ks1, ks2 }
    }

    fn push(&self, round: &str) -> Done {
        self.write(round);
        self.apply(round)
    }

    fn write(&self, round: &str) {
        let instance = format!(
            "server = \"ks1\"\nrecipe = \"static\"\nversion = \"1\"\ndomain = \"{SITE}\"\n\
             certificate = {{ source = \"internal\" }}\n"
        );
        self.fleet.write(&[
            ("fleet.toml", "schema = 1\nname = \"sol\"\n"),
            ("servers/ks1.toml", &file(&format!("one {round}"))),
            ("servers/ks2.toml", &file(&format!("two {round}"))),
            (&format!("instances/{INSTANCE}.toml"), &instance),
        ]);
    }

    fn apply(&self, message: &str) -> Done {
        self.fleet.socle(&["fleet", "apply", "/root/fleet", "-m", message])
    }

    #[track_caller]
    fn is_at(&self, round: &str) {
        for (machine, name) in [(&self.ks1, "one"), (&self.ks2, "two")] {
            wait_for(round, LONG, || (machine.read("/etc/motd") == format!("{name} {round}\n")).then_some(()));
        }
        self.fleet.converges(LONG);
    }

    /// The site is served as it was put there.
    #[track_caller]
    fn answers(&self) {
        let resolve = format!("{SITE}:443:127.0.0.1");
        let url = format!("https://{SITE}/");
        let page = self.ks1.run(&["curl", "-sSk", "--max-time", "20", "--resolve", &resolve, &url]);
        assert_eq!(page.stdout, "hello\n", "{}", page.stderr);
    }

    /// An alarm with this code, and what it says. `fleet status` shows it.
    #[track_caller]
    fn alarm(&self, server: &str, code: &str) -> String {
        wait_for(code, SOON, || {
            let status = self.fleet.socle(&["fleet", "status", "--json"]).json();
            let alarms = status["alarms"].as_array().cloned().unwrap_or_default();
            let alarm = alarms.into_iter().find(|alarm| alarm["server"] == server && alarm["code"] == code)?;
            Some(alarm["text"].as_str().unwrap().to_owned())
        })
    }

    #[track_caller]
    fn clear(&self, server: &str, code: &str) {
        let clear = ["controller", "clear-alarm", code, "--server", server];
        self.fleet.socle(&clear).expect(0);
    }
}

#[track_caller]
fn attack(machine: &Machine, what: &str) {
    let test = format!("attacker::{what}");
    let done = machine.run(&["/root/e2e", "--ignored", "--exact", &test, "--nocapture"]);
    assert!(done.stdout.contains("1 passed"), "{what}: {}\n{}", done.stdout, done.stderr);
}

fn link(machine: &Machine, verb: &str) {
    machine.run(&["systemctl", verb, "socle-link"]).expect(0);
}

fn pid(machine: &Machine, unit: &str) -> String {
    machine.run(&["systemctl", "show", unit, "-p", "MainPID", "--value"]).expect(0)
}

/// What the server accepted last.
fn accepted(machine: &Machine) -> Value {
    let ledger: Value = serde_json::from_str(&machine.read("/var/lib/socle/ledger.json")).unwrap();
    ledger["accepted"].clone()
}

#[test]
fn attacked_or_with_full_disks_a_fleet_goes_on_and_says_so() {
    let scene = Scene::new();
    assert_eq!(scene.push("first").code, 0);
    scene.is_at("first");
    scene.ks1.write("/srv/socle/page/data/public/index.html", "hello\n");
    scene.answers();
    by_another_server(&scene);
    by_unsigned_documents(&scene);
    under_another_name(&scene);
    with_a_stolen_token(&scene);
    with_full_disks(&scene);
    with_a_wrong_clock(&scene);
    after_more_than_a_week(&scene);
}

/// With a valid certificate of ks2: the controller gives it nothing of ks1.
fn by_another_server(scene: &Scene) {
    let Scene { fleet, ks1, ks2 } = scene;
    let before = (pid(&fleet.controller, "socle-controller"), accepted(ks1));
    link(ks2, "stop");
    ks2.write(VICTIM, &ks1.read("/var/lib/socle/fleet.json"));
    attack(ks2, "keeps_its_document");
    attack(ks2, "speaks_as_another_server");
    assert_eq!(before, (pid(&fleet.controller, "socle-controller"), accepted(ks1)));
    assert_eq!(fleet.server_status("ks1")["connected"], true, "nobody took its place");
    link(ks2, "start");
    scene.is_at("first");
}

/// In place of ks1's link, with documents of its own: the agent takes none, and tells the fleet.
fn by_unsigned_documents(scene: &Scene) {
    let Scene { ks1, ks2, .. } = scene;
    link(ks1, "stop");
    attack(ks1, "keeps_its_document");
    ks1.write(OLDER, &ks1.read(KEPT));
    ks1.write(OTHERS, &ks2.read(KEPT));
    link(ks1, "start");
    assert_eq!(scene.push("second").code, 0);
    scene.is_at("second");

    link(ks1, "stop");
    attack(ks1, "keeps_its_document");
    let before = (pid(ks1, "socle-agent"), accepted(ks1));
    attack(ks1, "hands_over_what_the_controller_did_not_sign");
    assert_eq!(before, (pid(ks1, "socle-agent"), accepted(ks1)));
    assert_eq!(ks1.read("/etc/motd"), "one second\n");
    scene.answers();
    link(ks1, "start");
    let told = scene.alarm("ks1", "fleet.envelope");
    assert!(told.contains("was refused unread"), "{told}");
    assert_eq!(scene.fleet.socle(&["fleet", "status"]).code, 3);
    assert_eq!(scene.push("third").code, 0, "it goes on");
    scene.clear("ks1", "fleet.envelope");
    scene.is_at("third");
}

/// ks2's own programs are told that they are ks1's.
fn under_another_name(scene: &Scene) {
    let Scene { ks1, ks2, .. } = scene;
    let files = ["/var/lib/socle/fleet.json", "/var/lib/socle/identity.json"];
    let own = files.map(|file| ks2.read(file));
    let units = ["systemctl", "restart", "socle-agent", "socle-link"];
    for (file, text) in files.iter().zip(&own) {
        ks2.write(file, &text.replace("\"server\": \"ks2\"", "\"server\": \"ks1\""));
        assert_ne!(ks2.read(file), *text);
    }
    ks2.run(&units).expect(0);
    assert_eq!(scene.push("fourth").code, 3);
    let told = scene.alarm("ks2", "document.refused");
    assert!(told.contains("is for `ks2`, not for this server"), "{told}");
    wait_for("the server itself goes on", LONG, || (ks1.read("/etc/motd") == "one fourth\n").then_some(()));
    assert_eq!(
        (ks2.read("/etc/motd"), scene.fleet.server_status("ks1")["connected"].clone()),
        ("two third\n".into(), true.into())
    );
    for (file, text) in files.iter().zip(&own) {
        ks2.write(file, text);
    }
    ks2.run(&units).expect(0);
    // It says of itself that it saw something, too.
    scene.alarm("ks2", "fleet.envelope");
    scene.clear("ks2", "fleet.envelope");
    scene.is_at("fourth");
}

/// Somebody read a token after it was used.
fn with_a_stolen_token(scene: &Scene) {
    let Scene { fleet, ks2, .. } = scene;
    let token = fleet.socle(&["controller", "server", "add", "ks3", "--json"]).json()["token"].clone();
    ks2.write("/root/token", token.as_str().unwrap());
    let join = |state: &str| ks2.socle(&["--state", state, "agent", "join", "--token-file", "/root/token"]);
    assert_eq!(join("/root/first").code, 0);
    let second = join("/root/second");
    assert_eq!(second.code, 2, "{}{}", second.stdout, second.stderr);
    let status = fleet.socle(&["fleet", "status"]);
    assert!(status.code == 3 && status.stdout.contains("join-token.reused"), "{}", status.stdout);
    scene.clear("ks3", "join-token.reused");
    fleet.socle(&["controller", "server", "evict", "ks3"]).expect(0);
    scene.is_at("fourth");
}

/// Of a machine, to the last block.
fn fill(machine: &Machine) {
    let script = "for size in 1G 100M 10M 1M 100K 4K; do i=0; while fallocate -l $size /filler.$size.$i; do i=$((i + 1)); done; done; sync";
    machine.run(&["sh", "-c", script]);
    assert_ne!(machine.run(&["sh", "-c", "echo full >/probe && sync /probe"]).code, 0, "there is room still");
}

fn empty(machine: &Machine) {
    machine.run(&["sh", "-c", "rm -f /filler.* /probe"]).expect(0);
}

fn with_full_disks(scene: &Scene) {
    let Scene { fleet, ks1, .. } = scene;
    // Of the server.
    let before = accepted(ks1);
    fill(ks1);
    assert_eq!(scene.push("fifth").code, 3);
    let told = scene.alarm("ks1", "document.refused");
    assert!(told.contains("o space left"), "{told}");
    assert_eq!((accepted(ks1), ks1.read("/etc/motd")), (before, "one fourth\n".to_owned()));
    scene.answers();
    empty(ks1);
    // Nobody sends it again, and nobody has to look: it takes it when there is room.
    scene.is_at("fifth");

    // Of the controller.
    // More than the database has room for in the files that it has.
    scene.write(&format!("sixth{}", "!".repeat(900_000)));
    fill(&fleet.controller);
    let refused = scene.apply("sixth");
    assert_eq!(refused.code, 1, "{}{}", refused.stdout, refused.stderr);
    assert!(refused.stderr.contains("no space left"), "{}", refused.stderr);
    scene.answers();
    assert_eq!(ks1.read("/etc/motd"), "one fifth\n");
    empty(&fleet.controller);
    wait_for("there is room again", Duration::from_secs(60), || (scene.push("sixth").code == 0).then_some(()));
    scene.is_at("sixth");
}

/// The machine's services see another time from their next start on. (A machine of the lab has the host's clock.)
fn set_clock(machine: &Machine, units: &[&str], by: &str) {
    let library = "/usr/lib/libfaketime.so.1";
    let fake = glob_one("/usr/lib", "faketime/libfaketime.so.1");
    machine.lab("push", &[&fake, library]);
    for unit in units {
        let environment =
            format!("LD_PRELOAD={library} FAKETIME={by} FAKETIME_DONT_FAKE_MONOTONIC=1 DONT_FAKE_MONOTONIC=1");
        let text = format!("[Service]\nEnvironment={environment}\n");
        machine.write(&format!("/etc/systemd/system/{unit}.service.d/clock.conf"), &text);
    }
    machine.run(&["systemctl", "daemon-reload"]).expect(0);
    machine.run(&[&["systemctl", "restart"], units].concat()).expect(0);
}

/// The library is in a directory that is named by the architecture.
fn glob_one(directory: &str, rest: &str) -> String {
    let below = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path().join(rest));
    below.filter(|path| path.exists()).map(|path| path.to_str().unwrap().to_owned()).next().expect("tests/lab/deps.sh")
}

const AGENT: [&str; 2] = ["socle-agent", "socle-link"];

/// A day before and a day after everybody else's.
fn with_a_wrong_clock(scene: &Scene) {
    for (round, by) in [("seventh", "+1d"), ("eighth", "-1d")] {
        set_clock(&scene.ks1, &AGENT, by);
        // Said by the link that runs now, not by the controller of the one before.
        let said = || scene.ks1.run(&["systemctl", "show", "-p", "StatusText", "socle-link"]).stdout;
        wait_for("it is connected", SOON, || said().contains("connected as").then_some(()));
        let pushed = scene.push(round);
        assert_eq!(pushed.code, 0, "{by}: {}{}", pushed.stdout, pushed.stderr);
        let at: jiff::Timestamp = accepted(&scene.ks1)["at"].as_str().unwrap().parse().unwrap();
        let off = at.duration_since(jiff::Timestamp::now()).as_hours();
        assert!((23..=25).contains(&off.abs()), "its clock is not wrong: {at}");
        scene.is_at(round);
        scene.answers();
    }
}

/// All were off for eight days: every server's certificate has expired, and each comes back by its own key.
fn after_more_than_a_week(scene: &Scene) {
    let Scene { fleet, ks1, ks2 } = scene;
    for machine in [ks1, ks2] {
        link(machine, "stop");
    }
    set_clock(&fleet.controller, &["socle-controller"], "+8d");
    for machine in [ks1, ks2] {
        set_clock(machine, &AGENT, "+8d");
    }
    for (machine, name) in [(ks1, "ks1"), (ks2, "ks2")] {
        wait_for(name, LONG, || (fleet.server_status(name)["connected"] == true).then_some(()));
        let said = machine.run(&["ls", "/var/lib/private/socle-link/recoveries.json"]);
        assert_eq!(said.code, 0, "{name} had no need to recover: {}", said.stderr);
    }
    assert_eq!(scene.push("ninth").code, 0);
    scene.is_at("ninth");
    scene.answers();
}
