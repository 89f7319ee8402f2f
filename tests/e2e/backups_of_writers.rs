//! Backups of an application that never stops writing, which is stopped for them.

use std::time::Duration;

use crate::machine::{Machine, wait_for};
use crate::writer::{self, WRITER, agree, fast, goes_on, inactive, restored, slow};

const UNIT: &str = "socle-backup@home.service";

#[test]
fn rows_and_files_agree_whatever_becomes_of_the_backup() {
    let machine = Machine::new("web-trixie");
    writer::install(&machine, "");
    goes_on(&machine);
    for nth in 1..=3 {
        let saved = machine.socle(&["agent", "backup", "now"]).expect(0);
        assert!(saved.contains("it stood still for"), "{saved}");
        print!("{saved}");
        goes_on(&machine);
        agree(&machine, &format!("backup {nth}"));
    }
    machine.run_unit(UNIT);
    agree(&machine, "by its unit");
    assert_eq!(machine.run(&["bash", "-c", "ls -A /var/lib/socle/still"]).stdout, "");

    // Killed while the writer stands still: its unit starts it again.
    slow(&machine);
    machine.run(&["systemctl", "start", "--no-block", UNIT]).expect(0);
    inactive(&machine);
    machine.kill_unit(UNIT);
    wait_for("its unit starts the writer", Duration::from_secs(60), || machine.is_active(WRITER).then_some(()));
    goes_on(&machine);

    // Killed in a terminal: the next pass starts it.
    machine.run(&["systemd-run", "--unit=by-hand", "socle", "agent", "backup", "now"]).expect(0);
    inactive(&machine);
    machine.kill_unit("by-hand.service");
    assert!(!machine.is_active(WRITER), "nobody was there to start it");
    machine.socle(&["agent", "apply"]).expect(0);
    goes_on(&machine);
    fast(&machine);
    agree(&machine, "after two kills");

    // Ended politely: by itself.
    slow(&machine);
    machine.run(&["systemd-run", "--unit=by-hand-too", "socle", "agent", "backup", "now"]).expect(0);
    inactive(&machine);
    machine.run(&["systemctl", "kill", "--signal=TERM", "by-hand-too.service"]).expect(0);
    wait_for("it starts the writer itself", Duration::from_secs(60), || machine.is_active(WRITER).then_some(()));
    fast(&machine);
    machine.socle(&["agent", "backup", "now"]).expect(0);
    agree(&machine, "after all of it");
    let again = machine.socle(&["agent", "apply"]).expect(0);
    assert!(again.contains("nothing to do"), "{again}");
    let listed = machine.socle(&["agent", "backup", "list", "--json"]).json();
    let unfinished = listed.as_array().unwrap().iter().filter(|snapshot| snapshot["instance"].is_null()).count();
    assert_eq!(unfinished, 0, "what was read ahead is let go: {listed}");
}

/// That the test sees it: without standing still, a row is saved without its file, or a file without its row.
#[test]
fn without_standing_still_they_differ() {
    let machine = Machine::new("web-trixie");
    writer::install(&machine, "[backup]\nstop = false\n");
    goes_on(&machine);
    let differs = (0..5).any(|_| {
        let saved = machine.socle(&["agent", "backup", "now"]).expect(0);
        assert!(!saved.contains("it stood still"), "{saved}");
        let (rows, files) = restored(&machine);
        goes_on(&machine);
        rows != files
    });
    assert!(differs);
}
