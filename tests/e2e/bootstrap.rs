//! The bootstrap script on blank machines: the line to paste, a first boot, cut at every line, cut by power.
//!
//! All is real where the server ends up connected (`a_first_boot` here, and `fleet`). What is about the script alone, and runs it
//! a hundred times, has no controller: a program before `socle` in the search path stands for `socle agent join` and notes the token
//! that it was given. The packages, apt and systemd are real there too.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::fleet::Fleet;
use crate::machine::{Done, Machine, wait_for};
use crate::repository::{self, Served};
use crate::user_data::left_on;

const TOKEN: &str = "socle1_canary-0123456789abcdefghijklmnopqrstuvwxyz";
/// Finds the token, but not in the arguments of who looks for it.
const PATTERN: &str = "socle1_can[a]ry";
const JOIN: &str = r#"#!/bin/sh
[ "$1 $2 $3" = "agent join --token-file" ] || exec /usr/bin/socle "$@"
/usr/bin/socle --version || exit 1
if [ -e /var/lib/socle/identity.json ]; then echo "already enrolled"; exit 0; fi
if [ "$4" = - ]; then cat; else cat "$4"; fi >/root/joined && sync /root/joined
[ ! -e /root/unreachable ] || exit 1
echo '{}' >/var/lib/socle/identity.json
"#;

struct Blank {
    machine: Machine,
    served: Served,
    script: String,
}

impl Blank {
    fn new(image: &str) -> Self {
        let machine = Machine::blank(image);
        machine.lab("localapt", &[]);
        machine.write("/usr/local/bin/socle", JOIN);
        machine.run(&["chmod", "0755", "/usr/local/bin/socle"]).expect(0);
        let script = std::fs::read_to_string(repository::made().join("one/bootstrap.sh")).unwrap();
        let served = Served::to(&machine);
        let script = script.replace("http://packages.example.org/socle", &served.repository("one"));
        machine.write("/root/bootstrap.sh", &script);
        Self { machine, served, script }
    }

    fn give_token(&self) {
        let _ = std::fs::remove_file(self.machine.root().join("root/joined"));
        let _ = std::fs::remove_file(self.machine.root().join("var/lib/socle/identity.json"));
        self.machine.write("/root/token", &format!("{TOKEN}\n"));
        self.machine.run(&["chmod", "0600", "/root/token"]).expect(0);
    }

    fn run(&self, script: &str) -> Done {
        self.machine.run(&["sh", script, "--token-file", "/root/token"])
    }

    /// The whole script enrols the server, and the token is gone.
    #[track_caller]
    fn enrols(&self, after: &str) {
        let done = self.run("/root/bootstrap.sh");
        assert_eq!(done.code, 0, "after {after}: {}{}", done.stdout, done.stderr);
        self.is_enrolled(after);
        assert!(!self.machine.root().join("root/token").exists(), "after {after}");
        let again = self.run("/root/bootstrap.sh");
        assert!(again.code == 0 && again.stdout.contains("enrolled already"), "{}{}", again.stdout, again.stderr);
    }

    #[track_caller]
    fn is_enrolled(&self, after: &str) {
        assert_eq!(self.machine.read("/root/joined").trim(), TOKEN, "after {after}");
        assert_eq!(self.machine.run(&["systemctl", "is-active", "socle-agent.service"]).stdout.trim(), "active");
        assert_eq!(self.machine.run(&["dpkg", "--audit"]).expect(0), "", "after {after}");
    }

    /// A blank server again.
    fn purge(&self) {
        self.machine.run(&["apt-get", "purge", "-y", "-qq", "socle", "socle-agent"]).expect(0);
        self.machine.run(&[
            "rm",
            "-rf",
            "/usr/share/keyrings/socle-archive-keyring.gpg",
            "/etc/apt/sources.list.d/socle.sources",
        ]);
        self.machine.write("/usr/local/bin/socle", JOIN);
        self.machine.run(&["chmod", "0755", "/usr/local/bin/socle"]).expect(0);
    }
}

/// What `socle controller server add` prints. The token is seen in no argument and no environment of any program.
#[test]
fn the_line_to_paste() {
    let blank = Blank::new("base-trixie");
    let machine = &blank.machine;
    let url = format!("{}/bootstrap.sh", blank.served.repository("one"));
    let repository = blank.served.repository("one");
    let line = format!(
        "s=$(curl -fsSL {url} || wget -qO- {url}) && printf '%s\\n' '{TOKEN}' | sh -c \"$s\" bootstrap --repository {repository}\n"
    );
    machine.write("/root/line", &line);
    let watch =
        format!("while :; do grep -la '{PATTERN}' /proc/[0-9]*/cmdline /proc/[0-9]*/environ >>/root/seen; done");
    machine.run(&["systemd-run", "--unit=watch", "sh", "-c", &watch]).expect(0);
    let first = machine.run(&["bash", "/root/line"]);
    assert_eq!(first.code, 0, "{}{}", first.stdout, first.stderr);
    blank.is_enrolled("the line");
    let again = machine.run(&["bash", "/root/line"]);
    assert_eq!(again.code, 0, "{}", again.stderr);
    assert!(again.stdout.contains("already enrolled"), "{}", again.stdout);
    assert_eq!(machine.read("/root/seen"), "", "a program had the token among its words");
    // That the watch sees at all.
    machine.run(&["bash", "-c", "exec -a socle1_canary sleep 2"]).expect(0);
    wait_for("the watch sees an argument", Duration::from_secs(20), || {
        machine.read("/root/seen").contains("/cmdline").then_some(())
    });
}

/// What any first boot has of the user data that the controller prints, then a boot, while another apt has the lock. With a real
/// controller; afterwards the server is connected, and what cloud-init would have kept of the token is unreadable. (The real
/// cloud-init: `user_data`.)
#[test]
fn a_first_boot() {
    let fleet = Fleet::new();
    let machine = Machine::blank("base-bookworm");
    machine.lab("localapt", &[]);
    let made = fleet.socle(&["controller", "server", "add", "ks1", "--json"]).json();
    let (token, user_data) = (made["token"].as_str().expect("a token"), made["user_data"].as_str().expect("user data"));
    let files = write_files(user_data);
    assert_eq!(files.len(), 2, "{user_data}");
    for (path, content) in &files {
        machine.write(path, content);
    }
    for copy in ["user-data.txt", "obj.pkl", "scripts/part-001"] {
        let path = format!("/var/lib/cloud/instances/i-1/{copy}");
        machine.write(&path, &format!("\0binary\0 content: {token}\n"));
    }
    machine.write("/var/lib/cloud/instances/i-1/boot-finished", "1\n");
    let hold =
        "import fcntl,time\nf=open('/var/lib/dpkg/lock-frontend','w')\nfcntl.lockf(f,fcntl.LOCK_EX)\ntime.sleep(4)";
    machine.write("/root/hold.py", hold);
    let other = "[Unit]\nBefore=socle-first-boot.service\n[Service]\nType=exec\nExecStart=/usr/bin/python3 /root/hold.py\n\
                 [Install]\nWantedBy=multi-user.target\n";
    machine.write("/etc/systemd/system/other.service", other);
    machine.run(&["systemctl", "enable", "-q", "socle-first-boot.service", "other.service"]).expect(0);
    machine.shut_down();
    machine.up();
    wait_for("the server is connected", Duration::from_secs(120), || {
        fleet.server_status("ks1")["connected"].as_bool().filter(|connected| *connected)
    });
    let ended = || machine.run(&["systemctl", "show", "-p", "Result,SubState", "socle-first-boot.service"]).stdout;
    wait_for("the unit is done", Duration::from_secs(30), || ended().contains("SubState=dead").then_some(()));
    assert!(ended().contains("Result=success"), "{}", ended());
    assert_eq!(left_on(&machine), "", "the token is left behind");
    assert!(machine.root().join("var/lib/cloud/instances/i-1/boot-finished").exists(), "other files are kept");
    // Every boot after it has nothing to do.
    machine.run(&["systemctl", "start", "socle-first-boot.service"]).expect(0);
    assert!(
        machine.run(&["systemctl", "show", "-p", "ConditionResult", "socle-first-boot.service"]).stdout.contains("=no")
    );
}

/// The entries of `write_files`, as this one file has them.
fn write_files(user_data: &str) -> Vec<(String, String)> {
    let entry = |text: &str| {
        let (path, rest) = text.split_once('\n').unwrap();
        let content = rest.split_once("    content: |\n").unwrap().1;
        let lines = content.lines().take_while(|line| line.is_empty() || line.starts_with("      "));
        let lines: Vec<&str> = lines.map(|line| line.get(6..).unwrap_or_default()).collect();
        (path.to_owned(), lines.join("\n") + "\n")
    };
    user_data.split("  - path: ").skip(1).map(entry).collect()
}

/// The script ends before each of its lines in turn (every second one, without `--full`); the next run, whole, enrols
/// the server.
#[test]
fn cut_at_every_line() {
    let every = std::env::var_os("SOCLE_CRASH_FULL").is_some();
    let blank = Blank::new("base-trixie");
    let lines: Vec<&str> = blank.script.lines().collect();
    let (mut places, mut cuts, mut hit) = (0, 0, 0);
    for at in 0..lines.len() {
        let mut cut = lines.clone();
        cut.insert(at, "kill -KILL $$");
        let cut = cut.join("\n");
        if lines[at].trim().is_empty() || lines[at].trim_start().starts_with('#') || !parses(&cut) {
            continue;
        }
        places += 1;
        // Half of them unless all are asked for: a cut and what heals it take ten seconds.
        if !every && places % 2 == 0 {
            continue;
        }
        // To begin from nothing each time takes long; what differs is what stands at the ends of the phases.
        if every || cuts % 8 == 0 && cuts > 0 {
            blank.purge();
        }
        blank.give_token();
        blank.machine.write("/root/cut.sh", &cut);
        cuts += 1;
        if blank.run("/root/cut.sh").code != 0 {
            hit += 1;
            blank.enrols(&format!("a cut before line {}: {}", at + 1, lines[at]));
        }
    }
    assert!(places > 30 && hit * 2 > cuts, "{hit} of {cuts}, {places} places");
}

fn parses(script: &str) -> bool {
    let path = std::env::temp_dir().join(format!("socle-bootstrap-{}", std::process::id()));
    std::fs::write(&path, script).unwrap();
    let good = Command::new("sh").arg("-n").arg(&path).stderr(std::process::Stdio::null()).status().unwrap().success();
    std::fs::remove_file::<&Path>(&path).unwrap();
    good
}

/// Half a download does nothing, whatever half it is.
#[test]
fn half_a_script_does_nothing() {
    let blank = Blank::new("base-bookworm");
    blank.give_token();
    let length = blank.script.len();
    for end in (1..40).map(|part| length * part / 40).filter(|end| blank.script.is_char_boundary(*end)) {
        blank.machine.write("/root/half.sh", &blank.script[..end]);
        blank.run("/root/half.sh");
    }
    for absent in
        ["etc/apt/sources.list.d/socle.sources", "usr/share/keyrings/socle-archive-keyring.gpg", "usr/bin/socle"]
    {
        assert!(!blank.machine.root().join(absent).exists(), "{absent}");
    }
    blank.enrols("all the halves");
}

/// Power goes while dpkg unpacks; and a controller that is not there keeps the token for the next try.
#[test]
fn cut_by_power() {
    let blank = Blank::new("base-trixie");
    let machine = &blank.machine;
    blank.give_token();
    let mut child = machine.start(&["sh", "/root/bootstrap.sh", "--token-file", "/root/token"]);
    wait_for("dpkg is at work", Duration::from_secs(60), || machine.run(&["pgrep", "-x", "dpkg"]).ok());
    machine.power_cut();
    child.wait().unwrap();
    machine.up();
    machine.write("/root/unreachable", "");
    let alone = blank.run("/root/bootstrap.sh");
    assert_ne!(alone.code, 0, "{}", alone.stderr);
    assert_eq!(machine.read("/root/token").trim(), TOKEN);
    std::fs::remove_file(machine.root().join("root/unreachable")).unwrap();
    blank.enrols("a power cut");
}
