//! The bootstrap script on blank machines: the line to paste, a first boot, cut at every line, cut by power.
//!
//! What `socle agent join` does has tests of its own. Here a program before it in the search path stands for it, which notes the
//! token that it was given, as a server that was enrolled would; the packages, apt and systemd are real.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::machine::{Done, Machine, wait_for};
use crate::repository::{self, Served};

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

/// A unit of the image, while another apt of the first boot has the lock; and what cloud-init would have kept is gone.
#[test]
fn a_first_boot() {
    let blank = Blank::new("base-bookworm");
    let machine = &blank.machine;
    let unit = std::fs::read_to_string(repository::made().join("one/socle-first-boot.service")).unwrap();
    let unit = unit.replace("http://packages.example.org/socle", &blank.served.repository("one"));
    // The script in the repository names its own address.
    let unit = unit.replace("--token-file", &format!("--repository {} --token-file", blank.served.repository("one")));
    machine.write("/etc/systemd/system/socle-first-boot.service", &unit);
    machine.write("/var/lib/socle-first-boot/token", &format!("{TOKEN}\n"));
    let copies = ["instances/i-1/user-data.txt", "instances/i-1/obj.pkl", "instances/i-1/scripts/part-001"];
    for copy in copies {
        machine.write(&format!("/var/lib/cloud/{copy}"), &format!("\0binary\0 content: {TOKEN}\n"));
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
    let ended = || machine.run(&["systemctl", "show", "-p", "Result,SubState", "socle-first-boot.service"]).stdout;
    wait_for("the server is enrolled", Duration::from_secs(90), || {
        (machine.root().join("root/joined").exists() && ended().contains("SubState=dead")).then_some(())
    });
    assert!(ended().contains("Result=success"), "{}", ended());
    blank.is_enrolled("a first boot");
    std::fs::remove_file(machine.root().join("root/joined")).unwrap();
    let left =
        machine.run(&["grep", "-rlaE", PATTERN, "/etc", "/home", "/opt", "/root", "/run", "/srv", "/tmp", "/var"]);
    assert_eq!((left.code, left.stdout.as_str()), (1, ""), "the token is left behind");
    assert!(machine.root().join("var/lib/cloud/instances/i-1/boot-finished").exists(), "other files are kept");
    // Every boot after it has nothing to do.
    machine.run(&["systemctl", "start", "socle-first-boot.service"]).expect(0);
    assert!(!machine.root().join("root/joined").exists());
}

/// The script ends before each of its lines in turn; the next run, whole, enrols the server.
#[test]
fn cut_at_every_line() {
    let every = std::env::var_os("SOCLE_CRASH_FULL").is_some();
    let blank = Blank::new("base-trixie");
    let lines: Vec<&str> = blank.script.lines().collect();
    let (mut cuts, mut hit) = (0, 0);
    for at in 0..lines.len() {
        let mut cut = lines.clone();
        cut.insert(at, "kill -KILL $$");
        let cut = cut.join("\n");
        if lines[at].trim().is_empty() || lines[at].trim_start().starts_with('#') || !parses(&cut) {
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
    assert!(cuts > 30 && hit * 2 > cuts, "{hit} of {cuts}");
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
