//! Packages on a blank Debian: installed from nothing, respectful of what the admin and the
//! distribution decided, and healed after any interruption.

use std::time::{Duration, Instant};

use crate::machine::{Done, Machine, wait_for};

/// A machine as rented, whose apt knows the lab's packages once it has read their list.
fn blank() -> Machine {
    let machine = Machine::new("base-trixie");
    machine.lab("localapt", &[]);
    machine
}

fn apply(machine: &Machine, packages: &str) -> Done {
    machine.write("/root/packages.toml", &format!("schema = 1\n[packages]\n{packages}\n"));
    machine.socle(&["agent", "apply", "/root/packages.toml"])
}

fn said(done: &Done) -> String {
    format!("{}{}", done.stdout, done.stderr)
}

/// Whether dpkg has all of the package in order.
fn installed(machine: &Machine, package: &str) -> bool {
    machine.run(&["dpkg", "--status", package]).stdout.contains("\nStatus: install ok installed\n")
}

#[test]
fn installs_from_nothing_and_removes() {
    let machine = blank();
    let first = apply(&machine, "nginx-light = true");
    assert_eq!(first.code, 0, "{}", said(&first));
    assert!(installed(&machine, "nginx-light"));
    let log = machine.read("/var/log/dpkg.log").len();
    let again = apply(&machine, "nginx-light = true");
    assert_eq!(again.code, 0, "{}", said(&again));
    assert_eq!(machine.read("/var/log/dpkg.log").len(), log, "the second time nothing was done");
    let removed = apply(&machine, "nginx-light = false");
    assert_eq!(removed.code, 0, "{}", said(&removed));
    assert!(!installed(&machine, "nginx-light"));
}

#[test]
fn a_hold_is_respected() {
    let machine = blank();
    machine.run(&["apt-get", "update", "-qq"]).expect(0);
    machine.run(&["apt-mark", "hold", "unzip"]).expect(0);
    let refused = apply(&machine, "unzip = true");
    assert_eq!(refused.code, 3, "{}", said(&refused));
    assert!(said(&refused).contains("apt-mark unhold unzip"), "{}", said(&refused));
    assert!(!installed(&machine, "unzip"));
    machine.run(&["apt-mark", "unhold", "unzip"]).expect(0);
    let done = apply(&machine, "unzip = true");
    assert_eq!(done.code, 0, "{}", said(&done));
}

#[test]
fn policy_rc_d_is_the_admins_veto() {
    let machine = blank();
    machine.write("/usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n");
    machine.run(&["chmod", "0755", "/usr/sbin/policy-rc.d"]).expect(0);
    let done = apply(&machine, "nginx-light = true");
    assert_eq!(done.code, 0, "{}", said(&done));
    assert!(installed(&machine, "nginx-light"));
    assert_eq!(machine.run(&["systemctl", "is-active", "nginx.service"]).stdout.trim(), "inactive");
}

#[test]
fn nothing_else_is_removed() {
    let machine = blank();
    machine.run(&["apt-get", "update", "-qq"]).expect(0);
    machine.run(&["apt-get", "install", "-y", "-qq", "--no-install-recommends", "nginx-light"]).expect(0);
    let refused = apply(&machine, "nginx-common = false");
    assert_eq!(refused.code, 3, "{}", said(&refused));
    assert!(said(&refused).contains("would also remove") && said(&refused).contains("`nginx`"), "{}", said(&refused));
    assert!(installed(&machine, "nginx-common"));
}

/// Kills dpkg, apt and the agent at moments spread over an install; each time one more apply must
/// bring everything in order.
#[test]
fn heals_after_a_kill_at_any_moment() {
    let moments: u32 = if std::env::var_os("SOCLE_CRASH_FULL").is_some() { 60 } else { 8 };
    let machine = blank();
    let began = Instant::now();
    let first = apply(&machine, "nginx-light = true");
    assert_eq!(first.code, 0, "{}", said(&first));
    let whole = began.elapsed();
    let mut hit = 0;
    for moment in 0..moments {
        machine.run(&["apt-get", "purge", "-y", "-qq", "--autoremove", "nginx-light"]).expect(0);
        let mut child = machine.start(&["socle", "agent", "apply", "/root/packages.toml"]);
        wait_for("dpkg is at work", Duration::from_secs(60), || {
            let working = machine.run(&["pgrep", "-x", "dpkg"]).code == 0;
            (working || child.try_wait().unwrap().is_some()).then_some(())
        });
        std::thread::sleep(whole.mul_f64(0.6) * moment / moments);
        let killed = machine.run(&["pkill", "-KILL", "-x", "dpkg|dpkg-deb|apt-get|socle"]).code == 0;
        child.wait().unwrap();
        if killed {
            hit += 1;
        }
        let healed = apply(&machine, "nginx-light = true");
        assert_eq!(healed.code, 0, "moment {moment}: {}", said(&healed));
        assert!(installed(&machine, "nginx-light"), "moment {moment}");
        assert_eq!(machine.run(&["dpkg", "--audit"]).expect(0), "", "moment {moment}");
    }
    assert!(hit > moments / 3, "only {hit} of {moments} installs were hit");
}

/// A kill while a package is unpacked over itself leaves one that apt tries to configure for ever.
#[test]
fn heals_what_dpkg_wants_unpacked_again() {
    let machine = blank();
    let first = apply(&machine, "nginx-light = true");
    assert_eq!(first.code, 0, "{}", said(&first));
    for (package, state) in
        [("nginx-light", "unpacked"), ("nginx-light", "half-installed"), ("nginx", "half-configured")]
    {
        let status = machine.read("/var/lib/dpkg/status");
        let (before, after) =
            status.split_once(&format!("Package: {package}\nStatus: install ok installed\n")).unwrap();
        let torn = format!("{before}Package: {package}\nStatus: install reinstreq {state}\n{after}");
        machine.write("/var/lib/dpkg/status", &torn);
        let healed = apply(&machine, "nginx-light = true");
        assert_eq!(healed.code, 0, "{package} {state}: {}", said(&healed));
        assert!(installed(&machine, package), "{package} {state}");
        assert_eq!(machine.run(&["dpkg", "--audit"]).expect(0), "", "{package} {state}");
    }
}
