//! The Debian packages: installed, upgraded, removed and purged on both Debians, and what stays.

use std::process::Command;
use std::time::Duration;

use crate::machine::{Done, Machine, wait_for};
use crate::repository::{self, FIRST, NEEDS_SECOND, SECOND, Served};
use crate::wordpress;

const BLOG: &str = "blog.example.org";
const AGENT: &str = "socle-agent.service";
const INSTALL: [&str; 5] = ["apt-get", "install", "-y", "-qq", "--no-install-recommends"];

/// A blank Debian that knows the lab's packages and ours.
fn blank(image: &str) -> (Machine, Served) {
    let machine = Machine::blank(image);
    machine.lab("localapt", &[]);
    let served = Served::to(&machine);
    served.trust(&machine, "one");
    (machine, served)
}

fn install(machine: &Machine, packages: &[&str]) -> Done {
    machine.run(&[&INSTALL, packages].concat())
}

/// `installed 1.0`
fn version(machine: &Machine, package: &str) -> String {
    let said = machine.run(&["dpkg", "--status", package]).stdout;
    let field = |name| said.lines().find_map(|line: &str| line.strip_prefix(name)).unwrap_or_default();
    format!("{} {}", field("Status: install ok "), field("Version: "))
}

fn active(machine: &Machine, unit: &str) -> String {
    machine.run(&["systemctl", "is-active", unit]).stdout.trim().to_owned()
}

fn main_pid(machine: &Machine) -> String {
    machine.run(&["systemctl", "show", AGENT, "-p", "MainPID", "--value"]).expect(0).trim().to_owned()
}

/// As wanted, says the agent.
#[track_caller]
fn content(machine: &Machine) {
    wait_for("the agent is content", Duration::from_secs(120), || {
        let status = machine.run(&["systemctl", "show", AGENT, "-p", "StatusText", "--value"]).stdout;
        status.contains("as wanted").then_some(())
    });
}

/// From a blank machine, with the agent in the sandbox of its unit: everything that a real application needs is
/// installed, set up and served. Then the life of the packages; the site goes through it all.
fn lives(image: &str) {
    let (machine, served) = blank(image);
    install(&machine, &["socle-agent", "socle-controller"]).expect(0);
    assert_eq!(active(&machine, AGENT), "active");
    for waits in ["socle-link.service", "socle-controller.service"] {
        let shown =
            machine.run(&["systemctl", "show", waits, "-p", "ActiveState,ConditionResult,UnitFileState"]).stdout;
        for expected in ["ActiveState=inactive", "ConditionResult=no", "UnitFileState=enabled"] {
            assert!(shown.contains(expected), "{waits}: {shown}");
        }
    }
    machine.run(&["id", "socle-controller"]).expect(0);
    let state = machine.run(&["stat", "-c", "%a %U", "/var/lib/socle-controller", "/var/lib/socle"]).stdout;
    assert_eq!(state, "700 socle-controller\n700 root\n");
    machine.run(&["bash", "-c", ". /usr/share/bash-completion/completions/socle && complete -p socle"]).expect(0);

    // The administrator's own configuration.
    let config = std::fs::read_to_string(crate::machine::project().join("tests/lab/agent.toml")).unwrap();
    machine.write("/etc/socle/agent.toml", &config);
    machine.run(&["systemctl", "restart", AGENT]).expect(0);
    machine.write("/root/blog.toml", &wordpress::document("6.8.7"));
    let applied = machine.socle(&["agent", "apply", "/root/blog.toml"]);
    assert_eq!(applied.code, 0, "{}\n{}", applied.stdout, applied.stderr);
    assert_eq!(machine.get(BLOG, "/").0, 200);
    let journal = machine.run(&["journalctl", "-u", AGENT, "--no-pager"]).stdout;
    assert!(!journal.contains("weaker confinement"), "the sandbox is in the way of another: {journal}");

    let before = main_pid(&machine);
    served.trust(&machine, "two");
    machine.run(&["apt-get", "upgrade", "-y", "-qq", "-o", "Dpkg::Options::=--force-confold"]).expect(0);
    for package in ["socle", "socle-agent", "socle-controller"] {
        assert_eq!(version(&machine, package), format!("installed {SECOND}"));
    }
    assert_eq!(active(&machine, AGENT), "active");
    assert_ne!(main_pid(&machine), before, "the new program runs");
    assert_eq!(machine.read("/etc/socle/agent.toml"), config);
    content(&machine);
    assert_eq!(machine.get(BLOG, "/").0, 200);

    machine.run(&["apt-get", "remove", "-y", "-qq", "socle", "socle-agent", "socle-controller"]).expect(0);
    assert!(!machine.root().join("usr/bin/socle").exists());
    assert_eq!(active(&machine, AGENT), "inactive");
    machine.reboot();
    wait_for("the site answers without the agent", Duration::from_secs(60), || {
        (machine.get(BLOG, "/").0 == 200).then_some(())
    });

    let purged = machine.run(&["apt-get", "purge", "-y", "-qq", "socle", "socle-agent", "socle-controller"]);
    assert_eq!(purged.code, 0, "{}", purged.stderr);
    // apt mixes both streams of dpkg.
    for kept in ["/srv/socle", "/var/lib/socle"] {
        assert!(purged.stdout.contains(&format!("kept {kept}:")), "{}", purged.stdout);
    }
    assert!(!purged.stdout.contains("/var/lib/socle-controller"), "there was nothing in it: {}", purged.stdout);
    assert!(machine.root().join("var/lib/socle/secrets/blog/admin-password").exists());
    assert!(!machine.root().join("etc/socle").exists());
    assert_eq!(machine.get(BLOG, "/").0, 200);

    // And back: what stayed is taken up again.
    install(&machine, &["socle-agent"]).expect(0);
    content(&machine);
    assert_eq!(machine.get(BLOG, "/").0, 200);
}

#[test]
fn installed_upgraded_removed_and_purged_on_debian_13() {
    lives("base-trixie");
}

#[test]
fn installed_upgraded_removed_and_purged_on_debian_12() {
    lives("base-bookworm");
}

/// A document makes apt upgrade the agent that asked for it: dpkg is not broken off, and the new agent ends the work.
#[test]
fn the_agent_survives_the_upgrade_that_it_asked_for() {
    let (machine, served) = blank("base-trixie");
    install(&machine, &["socle-agent"]).expect(0);
    let before = main_pid(&machine);
    served.trust(&machine, "two");
    machine.write("/root/packages.toml", &format!("schema = 1\n[packages]\n{NEEDS_SECOND} = true\n"));
    // The connection ends with the agent that answers it, so the exit code says nothing here.
    machine.socle(&["agent", "apply", "/root/packages.toml"]);
    wait_for("a new agent", Duration::from_secs(60), || {
        (active(&machine, AGENT) == "active" && main_pid(&machine) != before).then_some(())
    });
    content(&machine);
    for (package, expected) in [("socle-agent", SECOND), ("socle", SECOND), (NEEDS_SECOND, "1")] {
        assert_eq!(version(&machine, package), format!("installed {expected}"));
    }
    assert_eq!(machine.run(&["dpkg", "--audit"]).expect(0), "");
    assert_eq!(machine.run(&["systemctl", "is-failed", "socle-apt.service"]).stdout.trim(), "inactive");
    let said = machine.run(&["journalctl", "-b", "-u", AGENT, "--no-pager"]).stdout;
    assert!(!said.contains("SIGKILL"), "it ended by itself: {said}");
    assert_ne!(FIRST, SECOND);
}

/// apt refuses what another key signed.
#[test]
fn a_repository_of_somebody_else_is_refused() {
    let (machine, served) = blank("base-bookworm");
    let other = machine.run(&["curl", "-fsS", &format!("{}/dists/stable/Release", served.repository("two"))]).expect(0);
    assert!(other.contains("Valid-Until:"), "{other}");
    machine
        .run(&["dd", "if=/dev/urandom", "of=/usr/share/keyrings/socle-archive-keyring.gpg", "bs=300", "count=1"])
        .expect(0);
    let update = machine.run(&["apt-get", "update"]);
    assert!(update.stderr.contains("GPG error"), "{}", update.stderr);
}

const LINTIAN: [&str; 4] = ["lintian", "--fail-on", "error,warning", "--allow-root"];

fn packages() -> Vec<std::path::PathBuf> {
    let pool = repository::made().join("one/pool");
    std::fs::read_dir(pool).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn lintian_has_nothing_to_say() {
    let said = repository::run(Command::new(LINTIAN[0]).args(&LINTIAN[1..]).args(packages()));
    assert_eq!(said.trim(), "");
}

/// The host's may be of another Debian.
#[test]
fn lintian_of_debian_13_has_nothing_to_say() {
    let machine = Machine::blank("cloud-trixie");
    let there = |path: &std::path::Path| format!("/root/{}", path.file_name().unwrap().to_str().unwrap());
    for package in packages() {
        machine.lab("push", &[package.to_str().unwrap(), &there(&package)]);
    }
    let names: Vec<String> = packages().iter().map(|package| there(package)).collect();
    let said = machine.run(&[&LINTIAN[..], &names.iter().map(String::as_str).collect::<Vec<_>>()].concat());
    assert_eq!((said.code, said.stdout.trim()), (0, ""), "{}", said.stderr);
}
