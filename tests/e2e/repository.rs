//! Our packages in signed repositories, made once for all tests, and a web server for them on the lab's switch.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::SystemTime;

use crate::machine::{Machine, binary, project};

/// What the packages are called that the second repository has beside those of the first.
pub const FIRST: &str = "1.0";
pub const SECOND: &str = "1.1";
/// A package without content that needs the second version.
pub const NEEDS_SECOND: &str = "needs-second";
/// The lab's switch, as every machine reaches it.
const GATEWAY: &str = "10.77.0.1";
const KEYRING: &str = "usr/share/keyrings/socle-archive-keyring.gpg";

/// A directory with the repositories `one` and `two`.
pub fn made() -> PathBuf {
    let directory = project().join("target/e2e-packages");
    std::fs::create_dir_all(&directory).unwrap();
    // Tests run as processes beside each other: the first makes, the others wait.
    let lock = File::create(directory.join("lock")).unwrap();
    lock.lock().unwrap();
    let (stamp, wanted) = (directory.join("stamp"), inputs());
    if std::fs::read_to_string(&stamp).is_ok_and(|made| made == wanted) {
        return directory;
    }
    for repository in ["one", "two"] {
        let _ = std::fs::remove_dir_all(directory.join(repository));
    }
    // The program of the tests has symbols of a hundred megabytes.
    let program = directory.join("socle");
    run(Command::new("strip").arg("-o").arg(&program).arg(binary()));
    release(&program, &directory.join("one"), FIRST);
    let pool = directory.join("two/pool");
    std::fs::create_dir_all(&pool).unwrap();
    empty_package(&directory.join("empty"), &pool);
    release(&program, &directory.join("two"), SECOND);
    std::fs::write(stamp, wanted).unwrap();
    directory
}

/// Of everything the packages are made from, when it was last changed.
fn inputs() -> String {
    let changed = |path: &Path| path.metadata().and_then(|of| of.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
    let mut newest = changed(&binary());
    let mut left: Vec<PathBuf> =
        ["packaging", "units", "scripts/release", "scripts/bootstrap.sh"].map(|part| project().join(part)).to_vec();
    while let Some(path) = left.pop() {
        newest = newest.max(changed(&path));
        if path.is_dir() {
            left.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    format!("{newest:?} {}", binary().display())
}

fn release(program: &Path, out: &Path, version: &str) {
    let mut command = Command::new(project().join("scripts/release"));
    command.args(["--url", "http://packages.example.org/socle", "--version", version]).arg("--program").arg(program);
    run(command.arg("--out").arg(out).env("FAST", "1"));
}

fn empty_package(work: &Path, to: &Path) {
    std::fs::create_dir_all(work.join("DEBIAN")).unwrap();
    let control = format!(
        "Package: {NEEDS_SECOND}\nVersion: 1\nArchitecture: all\nMaintainer: Nobody <nobody@example.org>\n\
         Depends: socle-agent (>= {SECOND})\nDescription: needs the second version\n"
    );
    std::fs::write(work.join("DEBIAN/control"), control).unwrap();
    run(Command::new("dpkg-deb").args(["--root-owner-group", "--build"]).arg(work).arg(to));
}

#[track_caller]
pub fn run(command: &mut Command) -> String {
    let done = command.stdin(Stdio::null()).output().expect("the program starts");
    let said = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "{command:?}: {said}");
    said
}

/// Serves [`made`] to one machine. Ends when dropped.
pub struct Served {
    server: Child,
    url: String,
}

impl Served {
    pub fn to(machine: &Machine) -> Self {
        let directory = made();
        let mut command = Command::new(project().join("tests/lab/lab.sh"));
        // The time limit is for a test that is killed and cannot end it. Port 0: one that nobody has.
        command.args(["in", "timeout", "1200", "python3", "-u", "-m", "http.server", "--bind", GATEWAY, "--directory"]);
        command.arg(directory).arg("0").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut server = command.process_group(0).spawn().expect("lab.sh runs");
        let mut said = String::new();
        BufReader::new(server.stdout.take().unwrap()).read_line(&mut said).unwrap();
        let port = said.split_once(" port ").and_then(|(_, rest)| rest.split(' ').next()).expect("it says its port");
        let url = format!("http://{GATEWAY}:{port}");
        machine.run(&["curl", "-fsS", "-o", "/dev/null", &format!("{url}/one/socle.sources")]).expect(0);
        Self { server, url }
    }

    /// The address of one of the two.
    pub fn repository(&self, which: &str) -> String {
        format!("{}/{which}", self.url)
    }

    /// As an administrator would, from what `scripts/release` left there.
    pub fn trust(&self, machine: &Machine, which: &str) {
        let made = made().join(which);
        let keyring = made.join("socle-archive-keyring.gpg");
        machine.lab("push", &[keyring.to_str().unwrap(), &format!("/{KEYRING}")]);
        let sources = std::fs::read_to_string(made.join("socle.sources")).unwrap();
        let sources = sources.replace("http://packages.example.org/socle", &self.repository(which));
        machine.write("/etc/apt/sources.list.d/socle.sources", &sources);
        machine.run(&["apt-get", "update", "-qq"]).expect(0);
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let group = nix::unistd::Pid::from_raw(i32::try_from(self.server.id()).unwrap());
        let _ = nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL);
        let _ = self.server.wait();
    }
}
