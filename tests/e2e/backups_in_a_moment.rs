//! Backups for which an application stands still for a moment only: by a snapshot of the file system, or because its own
//! commands pause it.

use std::time::Duration;

use crate::machine::{Machine, wait_for};
use crate::writer::{self, DATA, WRITER, agree, fast, goes_on, rows, slow};

const UNIT: &str = "socle-backup@home.service";
const SAVING: &str = "/srv/socle/count/saving";

fn soon(what: &str, is_so: impl Fn() -> bool) {
    wait_for(what, Duration::from_secs(120), || is_so().then_some(()));
}

/// Snapshots of the file system that are read-only: those of backups.
fn snapshots(machine: &Machine) -> String {
    machine.run(&["btrfs", "subvolume", "list", "-r", "/srv"]).expect(0)
}

#[test]
fn on_btrfs_files_are_read_while_the_application_runs() {
    let machine = Machine::new("web-trixie");
    machine.mount("btrfs", "/srv");
    writer::install(&machine, "");
    let number = machine.run(&["stat", "-c", "%i", DATA]).expect(0);
    assert_eq!(number.trim(), "256", "data is made as a subvolume");
    goes_on(&machine);
    // In the walls of its unit, which may take no snapshot by itself.
    machine.run_unit(UNIT);
    assert_eq!((machine.exists(SAVING), snapshots(&machine).as_str()), (false, ""), "nothing stays");
    goes_on(&machine);
    let saved = machine.socle(&["agent", "backup", "now"]).expect(0);
    assert!(saved.contains("it stood still for"), "{saved}");
    print!("{saved}");
    agree(&machine, "a snapshot");
    let number = machine.run(&["stat", "-c", "%i", DATA]).expect(0);
    assert_eq!(number.trim(), "256", "what is brought back is one too");

    // It runs and writes while its files are read.
    let ballast = format!("head -c 500M /dev/urandom >{DATA}/ballast");
    machine.run(&["runuser", "-u", "socle-count", "--", "bash", "-c", &ballast]).expect(0);
    machine.run(&["systemctl", "start", "--no-block", UNIT]).expect(0);
    soon("a snapshot", || machine.exists(&format!("{SAVING}/home/data/ballast")));
    soon("the writer runs", || machine.is_active(WRITER));
    let before = rows(&machine).len();
    soon("rows while it is read", || rows(&machine).len() > before);
    assert!(machine.exists(&format!("{SAVING}/home/data/ballast")), "it is still read");
    // Killed meanwhile: its unit removes the snapshot.
    machine.kill_unit(UNIT);
    soon("its unit clears up", || !machine.exists(SAVING));
    assert_eq!(snapshots(&machine), "");

    // Killed in a terminal: the next one does.
    machine.run(&["systemd-run", "--unit=by-hand", "socle", "agent", "backup", "now"]).expect(0);
    soon("a snapshot", || machine.exists(&format!("{SAVING}/home/data/ballast")));
    soon("the writer runs", || machine.is_active(WRITER));
    machine.kill_unit("by-hand.service");
    assert!(machine.exists(SAVING), "nobody was there to remove it");
    machine.run(&["rm", &format!("{DATA}/ballast")]).expect(0);
    machine.socle(&["agent", "backup", "now"]).expect(0);
    assert_eq!((machine.exists(SAVING), snapshots(&machine).as_str()), (false, ""));
    agree(&machine, "after two kills");
    let again = machine.socle(&["agent", "apply"]).expect(0);
    assert!(again.contains("nothing to do"), "{again}");
}

#[test]
fn an_application_pauses_by_its_own_commands() {
    let machine = Machine::new("web-trixie");
    writer::install(&machine, writer::COMMANDS);
    goes_on(&machine);
    let process = || machine.run(&["systemctl", "show", "--value", "-p", "MainPID", WRITER]).expect(0);
    let before = process();
    machine.run_unit(UNIT);
    let saved = machine.socle(&["agent", "backup", "now"]).expect(0);
    assert!(saved.contains("it stood still for"), "{saved}");
    print!("{saved}");
    goes_on(&machine);
    assert_eq!(process(), before, "it was not stopped");
    // It was saved while it paused, and goes on after it is brought back.
    agree(&machine, "a pause");

    // Killed while it pauses: its unit has it go on.
    slow(&machine);
    machine.run(&["systemctl", "start", "--no-block", UNIT]).expect(0);
    soon("it pauses", || machine.exists(&format!("{DATA}/paused")));
    machine.kill_unit(UNIT);
    soon("its unit has it go on", || !machine.exists(&format!("{DATA}/pause")));
    goes_on(&machine);
    // In a terminal: the next pass does.
    machine.run(&["systemd-run", "--unit=by-hand", "socle", "agent", "backup", "now"]).expect(0);
    soon("it pauses", || machine.exists(&format!("{DATA}/paused")));
    machine.kill_unit("by-hand.service");
    assert!(machine.exists(&format!("{DATA}/pause")), "nobody was there to have it go on");
    machine.socle(&["agent", "apply"]).expect(0);
    goes_on(&machine);
    fast(&machine);

    // That it does not go on is told, and tried again.
    machine.run(&["touch", &format!("{DATA}/stuck")]).expect(0);
    let saved = machine.socle(&["agent", "backup", "now"]);
    assert_eq!(saved.code, 3, "{} {}", saved.stdout, saved.stderr);
    assert!(saved.stdout.contains("saved to home"), "the backup is good: {}", saved.stdout);
    assert!(
        saved.stderr.contains("count does not go on as it did") && saved.stderr.contains("stuck"),
        "{}",
        saved.stderr
    );
    assert_eq!(machine.socle(&["agent", "backup", "wake"]).code, 3);
    machine.run(&["rm", &format!("{DATA}/stuck")]).expect(0);
    let woken = machine.socle(&["agent", "backup", "wake"]).expect(0);
    assert_eq!(woken.trim(), "count  goes on");
    goes_on(&machine);
    machine.socle(&["agent", "backup", "now"]).expect(0);
    agree(&machine, "after all of it");
}

/// Steps that bring its data from one version to another. They must find it as it was saved.
const UPGRADE: &str = r#"[[upgrade]]
name = "upgrade"
[upgrade.run]
argv = ["/usr/bin/touch", "{data}/upgraded"]
"#;

/// Saved while it paused, and brought back when another version is wanted, it goes on.
#[test]
fn a_pause_that_was_saved_ends_in_any_version() {
    let machine = Machine::new("web-trixie");
    writer::install(&machine, writer::COMMANDS);
    goes_on(&machine);
    machine.socle(&["agent", "backup", "now"]).expect(0);
    let saved = machine.socle(&["agent", "backup", "list", "--json"]).json()[0]["id"].as_str().unwrap().to_owned();
    let restore = || machine.socle(&["agent", "restore", "count", "--at", &saved, "--yes"]).expect(0);
    for (version, extra, upgraded) in [("2", "", false), ("3", UPGRADE, true)] {
        writer::apply(&machine, version, &format!("{}{extra}", writer::COMMANDS)).expect(0);
        goes_on(&machine);
        machine.run(&["rm", "-f", &format!("{DATA}/upgraded")]).expect(0);
        restore();
        assert_eq!(machine.exists(&format!("{DATA}/upgraded")), upgraded, "{version}");
        goes_on(&machine);
        assert!(!machine.exists(&format!("{DATA}/pause")), "{version}");
        let status = machine.socle(&["agent", "status", "--json"]).json();
        assert_eq!(status["instances"][0]["running_version"], version);
        let again = machine.socle(&["agent", "apply"]).expect(0);
        assert!(again.contains("nothing to do"), "{again}");
    }
}
