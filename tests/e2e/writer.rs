//! An application that never stops writing: a row and a file that belong together, again and again.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::machine::{Done, Machine, wait_for};

const DOMAIN: &str = "count.example.org";
pub const WRITER: &str = "socle-count-writer.service";
pub const DATA: &str = "/srv/socle/count/data";
const FILES: &str = "/srv/socle/count/data/files";

/// Asked to end, it ends the pair it has begun.
const PROGRAM: &str = r#"import os, signal, subprocess, sys, time
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
    while os.path.exists(f"{sys.argv[2]}/../pause") and not ended:
        open(f"{sys.argv[2]}/../paused", "w").close()
        time.sleep(0.02)
client.stdin.close()
client.wait()
if os.path.exists(f"{sys.argv[2]}/../slow"):
    with open(f"{sys.argv[2]}/../ballast", "wb") as file:
        for _ in range(100):
            file.write(os.urandom(1 << 20))
"#;

/// Asks the writer to pause, or to go on; told to be slow it writes something before it ends, and `stuck` it fails.
const PAUSE: &str = r#"import os, sys, time
data, word = sys.argv[1:]
at = lambda name: os.path.join(data, name)
if word == "on":
    open(at("pause"), "w").close()
    while not os.path.exists(at("paused")):
        time.sleep(0.02)
    if os.path.exists(at("slow")):
        with open(at("ballast"), "wb") as file:
            for _ in range(100):
                file.write(os.urandom(1 << 20))
else:
    if os.path.exists(at("stuck")):
        sys.exit("stuck")
    for name in ["pause", "paused"]:
        if os.path.exists(at(name)):
            os.remove(at(name))
"#;

/// Commands that pause it, in its recipe.
pub const COMMANDS: &str = r#"[[backup.enter]]
name = "pause"
argv = ["/usr/bin/python3", "{recipe}/pause.py", "{data}", "on"]
[[backup.leave]]
name = "resume"
argv = ["/usr/bin/python3", "{recipe}/pause.py", "{data}", "off"]
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
[[file]]
template = "pause.py"
dest = "recipe/pause.py"
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

const PLACE: &str = "/etc/socle/recipes/writer";

/// `extra`: more of its recipe.
pub fn install(machine: &Machine, extra: &str) {
    machine.write(&format!("{PLACE}/writer.py"), &format!("{{% raw %}}{PROGRAM}{{% endraw %}}"));
    machine.write(&format!("{PLACE}/pause.py"), PAUSE);
    machine.write(&format!("{PLACE}/nginx.conf"), "location = / {\n    return 200 counting;\n}\n");
    apply(machine, "1", extra).expect(0);
}

/// Another version, of a recipe that may say more.
pub fn apply(machine: &Machine, version: &str, extra: &str) -> Done {
    machine.write(&format!("{PLACE}/recipe.toml"), &format!("{RECIPE}{extra}"));
    let document = format!(
        "schema = 1\n[instances.count]\nrecipe = \"writer\"\nversion = \"{version}\"\ndomain = \"{DOMAIN}\"\n\
         [repositories.home]\nlocation = \"/srv/backup\"\n"
    );
    machine.write("/root/count.toml", &document);
    machine.socle(&["agent", "apply", "/root/count.toml"])
}

pub fn rows(machine: &Machine) -> BTreeSet<u64> {
    let all = machine.run(&["mariadb", "-N", "count", "-e", "select n from pairs"]).expect(0);
    all.split_whitespace().map(|n| n.parse().unwrap()).collect()
}

pub fn files(machine: &Machine) -> BTreeSet<u64> {
    let all = machine.run(&["bash", "-c", &format!("cd {FILES} && grep -c . -r . | sed 's,./,,'")]).expect(0);
    let full = all.lines().filter_map(|line| line.trim().strip_suffix(":1"));
    full.map(|n| n.parse().unwrap()).collect()
}

pub fn goes_on(machine: &Machine) {
    let begun = rows(machine).len();
    wait_for("the writer goes on", Duration::from_secs(60), || (rows(machine).len() > begun).then_some(()));
    assert_eq!(machine.get(DOMAIN, "/"), (200, "counting".to_owned()));
}

/// What the newest backup brings back, before anything is written to it.
pub fn restored(machine: &Machine) -> (BTreeSet<u64>, BTreeSet<u64>) {
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
pub fn agree(machine: &Machine, what: &str) {
    let (rows, files) = restored(machine);
    assert!(rows.len() > 50, "{what}: {} rows say nothing", rows.len());
    let differ: Vec<&u64> = rows.symmetric_difference(&files).take(9).collect();
    assert!(differ.is_empty(), "{what}: {} rows and {} files, and {differ:?} are not in both", rows.len(), files.len());
    println!("{what}: {} rows and as many files", rows.len());
    goes_on(machine);
}

pub fn inactive(machine: &Machine) {
    wait_for("the backup stops the writer", Duration::from_secs(240), || {
        (machine.run(&["systemctl", "is-active", WRITER]).stdout.trim() == "inactive").then_some(())
    });
}

/// From now on so much is written last that the backup reads for seconds while the writer stands still.
pub fn slow(machine: &Machine) {
    machine.run(&["runuser", "-u", "socle-count", "--", "touch", &format!("{DATA}/slow")]).expect(0);
}

pub fn fast(machine: &Machine) {
    machine.run(&["rm", "-f", &format!("{DATA}/slow"), &format!("{DATA}/ballast")]).expect(0);
}
