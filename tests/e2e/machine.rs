//! A machine of the lab for one test. Destroyed when dropped.

#![allow(dead_code, reason = "shared by the test programs, of which none uses all")]

use std::fs::{File, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// The lab's network; the last byte of a machine's address is its number.
const NETWORK: &str = "10.77.0";
/// In the claim of a machine that outlives its test.
const KEPT: &[u8] = b"kept\n";

pub struct Machine {
    name: String,
    image: String,
    number: u8,
    /// Locked while the machine lives, so that no other test takes its number.
    claim: File,
}

#[derive(Debug)]
pub struct Done {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Done {
    /// The standard output of a program that must have ended with `code`.
    #[track_caller]
    pub fn expect(self, code: i32) -> String {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self.stdout
    }

    /// The standard output, if the program succeeded.
    pub fn ok(self) -> Option<String> {
        (self.code == 0).then_some(self.stdout)
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {}\n{}", self.stdout, self.stderr))
    }
}

pub fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn lab_home() -> PathBuf {
    std::env::var_os("LAB_HOME").map_or_else(|| project().join("target/lab"), PathBuf::from)
}

fn lab(args: &[&str]) -> Output {
    Command::new(project().join("tests/lab/lab.sh")).args(args).stdin(Stdio::null()).output().expect("lab.sh runs")
}

#[track_caller]
fn lab_ok(args: &[&str]) {
    let done = lab(args);
    assert!(done.status.success(), "lab.sh {args:?}: {}", String::from_utf8_lossy(&done.stderr));
}

/// The program under test.
pub fn binary() -> PathBuf {
    std::env::var_os("SOCLE_BIN").map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_socle")), PathBuf::from)
}

/// An image with the program in it, made once for each build: a program of a quarter of a gigabyte copied into each machine
/// is what a slow disk would be busy with.
fn with_program(image: &str) -> String {
    let files = [
        (binary(), "/usr/bin/socle"),
        (project().join("units/systemd/socle-agent.service"), "/etc/systemd/system/socle-agent.service"),
        (project().join("units/systemd/socle-backup@.service"), "/etc/systemd/system/socle-backup@.service"),
        (
            project().join("units/systemd/socle-backup-remote@.service"),
            "/etc/systemd/system/socle-backup-remote@.service",
        ),
        (project().join("units/systemd/socle-drill@.service"), "/etc/systemd/system/socle-drill@.service"),
        (project().join("units/tmpfiles.d/socle-agent.conf"), "/usr/lib/tmpfiles.d/socle-agent.conf"),
        (project().join("units/sysusers.d/socle-agent.conf"), "/usr/lib/sysusers.d/socle-agent.conf"),
        (project().join("tests/lab/agent.toml"), "/etc/socle/agent.toml"),
    ];
    let base = PathBuf::from(done(lab(&["image", image])).expect(0).trim());
    let mut version = DefaultHasher::new();
    for file in files.iter().map(|(from, _)| from).chain([&base]) {
        let file = std::fs::metadata(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        (file.len(), file.modified().unwrap()).hash(&mut version);
    }
    let layer = format!("{image}-{:08x}", version.finish() as u32);
    let mut args = vec!["layer", image, &layer];
    args.extend(files.iter().flat_map(|(from, to)| [from.to_str().unwrap(), to]));
    lab_ok(&args);
    layer
}

impl Machine {
    /// A machine as it is rented, without the program.
    pub fn blank(image: &str) -> Self {
        let (number, claim) = claim();
        let machine = Self { name: format!("t{number}"), image: image.to_owned(), number, claim };
        let _ = lab(&["rm", &machine.name]);
        // Of a program on the switch whose test was killed.
        let _ = lab(&["in", "ip", "address", "del", &format!("{}/24", machine.address()), "dev", "br0"]);
        machine.up();
        machine
    }

    /// A machine with the program, the lab's mirrors configured.
    pub fn new(image: &str) -> Self {
        Self::blank(&with_program(image))
    }

    pub fn up(&self) {
        lab_ok(&["up", &self.name, &format!("{NETWORK}.{}", self.number), &self.image]);
    }

    pub fn address(&self) -> String {
        format!("{NETWORK}.{}", self.number)
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs a program as a unit of the machine's own systemd.
    pub fn run(&self, args: &[&str]) -> Done {
        let mut all = vec!["exec", &self.name];
        all.extend(args);
        done(lab(&all))
    }

    /// Like [`Machine::run`], without waiting for the end.
    pub fn start(&self, args: &[&str]) -> std::process::Child {
        Command::new(project().join("tests/lab/lab.sh"))
            .arg("exec")
            .arg(&self.name)
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("lab.sh runs")
    }

    pub fn socle(&self, args: &[&str]) -> Done {
        let mut all = vec!["socle"];
        all.extend(args);
        self.run(&all)
    }

    /// The file's bytes go straight to the machine's disk, where a power cut leaves them.
    pub fn write(&self, path: &str, text: &str) {
        let path = self.root().join(path.trim_start_matches('/'));
        let directory = path.parent().unwrap();
        std::fs::create_dir_all(directory).unwrap();
        let mut file = File::create(&path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file.sync_all().unwrap();
        File::open(directory).unwrap().sync_all().unwrap();
    }

    pub fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.root().join(path.trim_start_matches('/'))).unwrap()
    }

    pub fn root(&self) -> PathBuf {
        lab_home().join("mnt").join(&self.name)
    }

    /// What the disk had not received is lost; the machine is off.
    pub fn power_cut(&self) {
        lab_ok(&["kill", &self.name]);
    }

    pub fn shut_down(&self) {
        lab_ok(&["down", &self.name]);
    }

    /// Restarts the machine from inside and waits until it is another boot and ready. Nothing is run in there on its way
    /// down: a machine that stops its processes also stops who waits for them here, and then never ends.
    pub fn reboot(&self) {
        let before = self.leader().expect("the machine is up");
        self.run(&["systemctl", "--no-block", "reboot"]);
        wait_for("another boot", Duration::from_secs(120), || self.leader().filter(|now| *now != before));
        wait_for("a ready system", Duration::from_secs(60), || {
            let state = self.run(&["systemctl", "is-system-running"]).stdout;
            ["running", "degraded"].contains(&state.trim()).then_some(())
        });
    }

    /// The process that is PID 1 in there: a child of `systemd-nspawn`, a child of what starts it again after a reboot.
    fn leader(&self) -> Option<String> {
        let launcher = std::fs::read_to_string(lab_home().join("run").join(&self.name).join("launcher")).ok()?;
        let child = |pid: &str| {
            let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", pid.trim())).ok()?;
            children.split_whitespace().next().map(str::to_owned)
        };
        child(&child(&launcher)?)
    }

    /// Unplugs the network cable.
    pub fn cut(&self) {
        self.lab("cut", &[]);
    }

    pub fn heal(&self) {
        self.lab("heal", &[]);
    }

    /// Plugs in an empty disk; it is `/dev/{device}` there.
    pub fn disk(&self, size: &str, device: &str) {
        self.lab("disk", &[size, device]);
    }

    pub fn lab(&self, verb: &str, rest: &[&str]) {
        let mut all = vec![verb, &self.name];
        all.extend(rest);
        lab_ok(&all);
    }

    /// Keeps the machine's disk as an image.
    pub fn commit(&self, image: &str) {
        lab_ok(&["commit", &self.name, image]);
    }

    pub fn is_active(&self, unit: &str) -> bool {
        self.run(&["systemctl", "is-active", unit]).code == 0
    }

    /// Starts a unit that runs to its end.
    #[track_caller]
    pub fn run_unit(&self, unit: &str) {
        let started = self.run(&["systemctl", "start", unit]);
        let journal = self.run(&["journalctl", "--no-pager", "--unit", unit]).stdout;
        assert_eq!(started.code, 0, "{journal}");
    }

    /// Kills a unit that must be at work.
    #[track_caller]
    pub fn kill_unit(&self, unit: &str) {
        self.run(&["systemctl", "kill", "--signal=KILL", unit]).expect(0);
        let result = || self.run(&["systemctl", "show", "--value", "-p", "Result", unit]).stdout;
        wait_for("it is killed", Duration::from_secs(60), || (result().trim() != "success").then_some(()));
        assert_eq!(result().trim(), "signal", "{unit} was over before it was killed");
    }

    pub fn exists(&self, path: &str) -> bool {
        self.run(&["test", "-e", path]).code == 0
    }

    /// A disk of its own with this file system, mounted at `at`.
    pub fn mount(&self, file_system: &str, at: &str) {
        let disk = lab_home().join(format!("pool/disks/{}.vdb", self.name));
        assert!(Command::new("truncate").args(["-s", "6G"]).arg(&disk).status().unwrap().success());
        let made = Command::new(format!("mkfs.{file_system}")).args(["-q"]).arg(&disk).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        self.disk("6G", "vdb");
        self.run(&["mount", "-t", file_system, "/dev/vdb", at]).expect(0);
    }

    /// The same files at the same place of another machine.
    pub fn copy_to(&self, other: &Machine, path: &str) {
        let [from, to] = [self, other].map(|machine| machine.root().join(path.trim_start_matches('/')));
        assert!(Command::new("cp").arg("-a").args([&from, &to]).status().unwrap().success());
    }

    /// Turns one bit of a file around.
    pub fn flip(&self, path: &str) {
        let path = self.root().join(path.trim_start_matches('/'));
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&path, bytes).unwrap();
    }

    /// Asks the machine's web server for a site.
    pub fn get(&self, host: &str, path: &str) -> (u16, String) {
        let url = format!("http://{host}{path}");
        let resolve = format!("{host}:80:127.0.0.1");
        let args = ["curl", "-sS", "--max-time", "20", "--resolve", &resolve, "-w", "\n%{http_code}", &url];
        let done = self.run(&args);
        let (body, status) = done.stdout.rsplit_once('\n').unwrap_or(("", "0"));
        (status.parse().unwrap_or(0), body.to_owned())
    }
}

/// An address on the lab's switch for programs of the host, as a part of the world outside the machines.
pub struct Outside {
    number: u8,
    _claim: File,
}

impl Outside {
    pub fn new() -> Self {
        let (number, claim) = claim();
        let outside = Self { number, _claim: claim };
        let _ = lab(&["in", "ip", "address", "del", &outside.on_switch(), "dev", "br0"]);
        lab_ok(&["in", "ip", "address", "add", &outside.on_switch(), "dev", "br0"]);
        outside
    }

    pub fn address(&self) -> String {
        format!("{NETWORK}.{}", self.number)
    }

    fn on_switch(&self) -> String {
        format!("{}/24", self.address())
    }

    /// A program of the host, reachable by every machine; to be ended by whoever started it.
    pub fn start(&self, args: &[&str], log: &Path) -> std::process::Child {
        let log = File::create(log).unwrap();
        Command::new(project().join("tests/lab/lab.sh"))
            .arg("in")
            .args(args)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("lab.sh runs")
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        let _ = lab(&["in", "ip", "address", "del", &self.on_switch(), "dev", "br0"]);
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::env::var_os("SOCLE_LAB_KEEP").is_none() {
            let _ = lab(&["rm", &self.name]);
        } else {
            // The lock goes with this process; the word stays for as long as the machine does.
            let _ = self.claim.write_all(KEPT);
            eprintln!("kept: tests/lab/lab.sh shell {}", self.name);
        }
    }
}

fn done(output: Output) -> Done {
    Done {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// A number nobody else has: the lock goes when this process ends, in whatever way.
fn claim() -> (u8, File) {
    let claims = lab_home().join("claims");
    std::fs::create_dir_all(&claims).unwrap();
    for number in 201..=249 {
        let path = claims.join(number.to_string());
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path).unwrap();
        if file.try_lock().is_err() {
            continue;
        }
        let kept = std::fs::read(&path).unwrap() == KEPT && lab_home().join(format!("run/t{number}")).exists();
        if !kept {
            file.set_len(0).unwrap();
            return (number, file);
        }
    }
    panic!("all machines of the lab are taken");
}

/// Asks until the answer is there, or the limit is over.
#[track_caller]
pub fn wait_for<T>(what: &str, limit: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(begun.elapsed() < limit, "{what}: not within {limit:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
