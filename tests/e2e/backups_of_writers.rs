//! Backups of an application that never stops writing: a row and a file that belong together, again and again.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::machine::{Machine, wait_for};

const DOMAIN: &str = "count.example.org";
const WRITER: &str = "socle-count-writer.service";
const FILES: &str = "/srv/socle/count/data/files";

/// Asked to end, it ends the pair it has begun.
const PROGRAM: &str = r#"import os, signal, subprocess, sys
ended = False
def end(*_):
    global ended
    ended = True
signal.signal(signal.SIGTERM, end)
client = subprocess.Popen(["/usr/bin/mariadb", "--unbuffered", "--batch", "--skip-column-names", sys.argv[1]], text=True, bufsize=1,
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM]))
def ask(sql):
    client.stdin.write(sql + "\n")
    return int(client.stdout.readline())
n = ask("create table if not exists pairs (n int primary key) engine = innodb; select coalesce(max(n), 0) from pairs;")
while not ended:
    n += 1
    ask(f"insert into pairs values ({n}); select {n};")
    with open(f"{sys.argv[2]}/{n}", "w") as file:
        file.write(str(n))
client.stdin.close()
client.wait()
if os.path.exists(f"{sys.argv[2]}/../slow"):
    with open(f"{sys.argv[2]}/../ballast", "wb") as file:
        for _ in range(100):
            file.write(os.urandom(1 << 20))
"#;

const RECIPE: &str = r#"schema = 1
[app]
id = "writer"
name = "Writer"
homepage = "https://www.example.org"
license = "EUPL-1.2"
[versions]
scheme = "any"
[source]
kind = "empty"
[[db]]
engine = "mariadb"
[layout]
directory = [{ path = "data/files" }]
[[file]]
template = "writer.py"
dest = "recipe/writer.py"
owner = "root"
mode = "0440"
[[service]]
name = "writer"
exec = ["/usr/bin/python3", "{recipe}/writer.py", "{db}", "{data}/files"]
[web]
kind = "static"
root = "{data}"
locations = "nginx.conf"
[[health]]
path = "/"
contains = "counting"
"#;

fn counting(extra: &str) -> Machine {
    let machine = Machine::new("web-trixie");
    let place = "/etc/socle/recipes/writer";
    machine.write(&format!("{place}/recipe.toml"), &format!("{RECIPE}{extra}"));
    machine.write(&format!("{place}/writer.py"), &format!("{{% raw %}}{PROGRAM}{{% endraw %}}"));
    machine.write(&format!("{place}/nginx.conf"), "location = / {\n    return 200 counting;\n}\n");
    let document = format!(
        "schema = 1\n[instances.count]\nrecipe = \"writer\"\nversion = \"1\"\ndomain = \"{DOMAIN}\"\n\
         [repositories.home]\nlocation = \"/srv/backup\"\n"
    );
    machine.write("/root/count.toml", &document);
    machine.socle(&["agent", "apply", "/root/count.toml"]).expect(0);
    machine
}

fn rows(machine: &Machine) -> BTreeSet<u64> {
    let all = machine.run(&["mariadb", "-N", "count", "-e", "select n from pairs"]).expect(0);
    all.split_whitespace().map(|n| n.parse().unwrap()).collect()
}

fn files(machine: &Machine) -> BTreeSet<u64> {
    let all = machine.run(&["bash", "-c", &format!("cd {FILES} && grep -c . -r . | sed 's,./,,'")]).expect(0);
    let full = all.lines().filter_map(|line| line.trim().strip_suffix(":1"));
    full.map(|n| n.parse().unwrap()).collect()
}

fn goes_on(machine: &Machine) {
    let begun = rows(machine).len();
    wait_for("the writer goes on", Duration::from_secs(60), || (rows(machine).len() > begun).then_some(()));
    assert_eq!(machine.get(DOMAIN, "/"), (200, "counting".to_owned()));
}

/// What the newest backup brings back, before anything is written to it.
fn restored(machine: &Machine) -> (BTreeSet<u64>, BTreeSet<u64>) {
    // It may start, and write nothing.
    machine.write(
        &format!("/etc/systemd/system/{WRITER}.d/still.conf"),
        "[Service]\nExecStart=\nExecStart=/usr/bin/sleep infinity\n",
    );
    machine.run(&["systemctl", "daemon-reload"]).expect(0);
    machine.socle(&["agent", "restore", "count", "--yes"]).expect(0);
    let found = (rows(machine), files(machine));
    machine.run(&["rm", "-r", &format!("/etc/systemd/system/{WRITER}.d")]).expect(0);
    machine.run(&["systemctl", "daemon-reload"]).expect(0);
    machine.run(&["systemctl", "restart", WRITER]).expect(0);
    found
}

#[track_caller]
fn agree(machine: &Machine, what: &str) {
    let (rows, files) = restored(machine);
    assert!(rows.len() > 50, "{what}: {} rows say nothing", rows.len());
    let differ: Vec<&u64> = rows.symmetric_difference(&files).take(9).collect();
    assert!(differ.is_empty(), "{what}: {} rows and {} files, and {differ:?} are not in both", rows.len(), files.len());
    println!("{what}: {} rows and as many files", rows.len());
    goes_on(machine);
}

fn inactive(machine: &Machine) {
    wait_for("the backup stops the writer", Duration::from_secs(240), || {
        let state = machine.run(&["systemctl", "is-active", WRITER]).stdout;
        (state.trim() == "inactive").then_some(())
    });
}

#[test]
fn rows_and_files_agree_whatever_becomes_of_the_backup() {
    let machine = counting("");
    goes_on(&machine);
    for nth in 1..=3 {
        let saved = machine.socle(&["agent", "backup", "now"]).expect(0);
        assert!(saved.contains("it stood still for"), "{saved}");
        print!("{saved}");
        goes_on(&machine);
        agree(&machine, &format!("backup {nth}"));
    }
    machine.run(&["systemctl", "start", "socle-backup@home.service"]).expect(0);
    agree(&machine, "by its unit");
    assert_eq!(machine.run(&["bash", "-c", "ls -A /var/lib/socle/still"]).stdout, "");

    // Killed while the writer stands still: its unit starts it again.
    slow(&machine);
    machine.run(&["systemctl", "start", "--no-block", "socle-backup@home.service"]).expect(0);
    inactive(&machine);
    machine.run(&["systemctl", "kill", "--signal=KILL", "socle-backup@home.service"]).expect(0);
    wait_for("its unit starts the writer", Duration::from_secs(60), || {
        (machine.run(&["systemctl", "is-active", WRITER]).code == 0).then_some(())
    });
    was_killed(&machine, "socle-backup@home.service");
    goes_on(&machine);

    // Killed in a terminal: the next pass starts it.
    machine.run(&["systemd-run", "--unit=by-hand", "socle", "agent", "backup", "now"]).expect(0);
    inactive(&machine);
    machine.run(&["systemctl", "kill", "--signal=KILL", "by-hand.service"]).expect(0);
    was_killed(&machine, "by-hand.service");
    assert_ne!(machine.run(&["systemctl", "is-active", WRITER]).code, 0, "nobody was there to start it");
    machine.socle(&["agent", "apply"]).expect(0);
    goes_on(&machine);
    fast(&machine);
    agree(&machine, "after two kills");

    // Ended politely: by itself.
    slow(&machine);
    machine.run(&["systemd-run", "--unit=by-hand-too", "socle", "agent", "backup", "now"]).expect(0);
    inactive(&machine);
    machine.run(&["systemctl", "kill", "--signal=TERM", "by-hand-too.service"]).expect(0);
    wait_for("it starts the writer itself", Duration::from_secs(60), || {
        (machine.run(&["systemctl", "is-active", WRITER]).code == 0).then_some(())
    });
    fast(&machine);
    machine.socle(&["agent", "backup", "now"]).expect(0);
    agree(&machine, "after all of it");
    let again = machine.socle(&["agent", "apply"]).expect(0);
    assert!(again.contains("nothing to do"), "{again}");
    let listed = machine.socle(&["agent", "backup", "list", "--json"]).json();
    let unfinished = listed.as_array().unwrap().iter().filter(|snapshot| snapshot["instance"].is_null()).count();
    assert_eq!(unfinished, 0, "what was read ahead is let go: {listed}");
}

/// From now on so much is written last that the backup reads for seconds while the writer stands still.
fn slow(machine: &Machine) {
    machine.run(&["runuser", "-u", "socle-count", "--", "touch", &format!("{FILES}/../slow")]).expect(0);
}

fn fast(machine: &Machine) {
    machine.run(&["rm", "-f", &format!("{FILES}/../slow"), &format!("{FILES}/../ballast")]).expect(0);
}

fn was_killed(machine: &Machine, unit: &str) {
    let result = machine.run(&["systemctl", "show", "--value", "-p", "Result", unit]).stdout;
    assert_eq!(result.trim(), "signal", "{unit} was over before it was killed");
}

/// That the test sees it: without standing still, a row is saved without its file, or a file without its row.
#[test]
fn without_standing_still_they_differ() {
    let machine = counting("[backup]\nstop = false\n");
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
