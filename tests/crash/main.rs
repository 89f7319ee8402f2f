//! Kills, full disks and power cuts at every kind of moment; then one `apply` must converge. Run by
//! `scripts/test crash`; `SOCLE_CRASH_FULL=1` takes every moment instead of a sample.

#![allow(clippy::disallowed_methods, reason = "a test runs programs and writes files")]

#[path = "../e2e/authority.rs"]
mod authority;
mod certificates;
#[path = "../e2e/machine.rs"]
mod machine;

use std::process::Output;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use machine::Machine;

const DOMAIN: &str = "blog.example.org";

/// What is interrupted: from which image, and which document.
#[derive(Clone, Copy)]
struct Scene {
    image: &'static str,
    document: &'static str,
    version: &'static str,
}

fn document(version: &str) -> String {
    format!(
        "schema = 1\n[instances.blog]\nrecipe = \"wordpress\"\nversion = \"{version}\"\ndomain = \"{DOMAIN}\"\n\
         [instances.blog.params]\ntitle = \"Les amis\"\nadmin-email = \"admin@example.org\"\n"
    )
}

/// From packages to a first installation.
fn installation() -> Scene {
    Scene { image: "web-trixie", document: "/root/new.toml", version: "6.8.7" }
}

/// From WordPress 6.1.9 to 6.8.7, in place.
fn upgrade() -> Scene {
    const IMAGE: &str = "wp619-trixie";
    if !machine::project().join("target/lab/pool/images/wp619-trixie.ext4").exists() {
        let machine = Machine::new("web-trixie");
        machine.write("/root/old.toml", &document("6.1.9"));
        machine.socle(&["agent", "apply", "/root/old.toml"]).expect(0);
        machine.commit(IMAGE);
    }
    Scene { image: IMAGE, document: "/root/new.toml", version: "6.8.7" }
}

impl Scene {
    fn machine(&self) -> Machine {
        let machine = Machine::new(self.image);
        machine.write(self.document, &document(self.version));
        machine
    }

    fn strace(&self, machine: &Machine, injection: &str) -> machine::Done {
        let calls = injection.split(':').next().unwrap();
        let (trace, inject) = (format!("trace={calls}"), format!("inject={injection}"));
        machine.run(&[
            "strace",
            "-o",
            "/dev/null",
            "-e",
            &trace,
            "-e",
            &inject,
            "socle",
            "agent",
            "apply",
            self.document,
        ])
    }

    /// The promise: one apply, everything as wanted, it answers, and nothing is left over.
    fn must_converge(&self, machine: &Machine, what: &str) {
        let done = machine.socle(&["agent", "apply", self.document]);
        assert_eq!(done.code, 0, "after {what}:\n{}\n{}", done.stdout, done.stderr);
        let (status, body) = machine.get(DOMAIN, "/");
        assert!(status == 200 && body.contains("Les amis"), "after {what}: {status}\n{body}");
        let again = machine.socle(&["agent", "apply", self.document]);
        assert!(again.stdout.contains("nothing to do"), "after {what}:\n{}", again.stdout);
        let left = left_overs(machine);
        assert!(left.is_empty(), "after {what}: left over: {left:?}");
    }
}

/// Stage directories, partial downloads, temporary files of ours.
fn left_overs(machine: &Machine) -> Vec<String> {
    let found = machine
        .run(&[
            "find",
            "/srv/socle",
            "/var/lib/socle",
            "/var/cache/socle",
            "/etc/nginx",
            "/etc/systemd/system",
            "/run/systemd/system",
            "-name",
            ".stage-*",
            "-o",
            "-name",
            "*.socle-new",
            "-o",
            "-name",
            "*.part",
            "-o",
            "-name",
            "socle-task-*",
        ])
        .stdout;
    found.lines().map(str::to_owned).collect()
}

fn full() -> bool {
    std::env::var("SOCLE_CRASH_FULL").is_ok_and(|full| !full.is_empty())
}

/// One call among those of a run: the `nth` of its name, as strace counts them.
#[derive(Debug, Clone)]
struct Moment {
    call: String,
    nth: usize,
}

/// Every moment of a full run, or about `sample` of them spread evenly.
fn spread(all: Vec<Moment>, sample: usize) -> Vec<Moment> {
    let stride = if full() { 1 } else { all.len().div_ceil(sample).max(1) };
    all.into_iter().step_by(stride).collect()
}

/// Runs each moment on a machine of its own, two at a time.
fn sweep(scene: Scene, moments: &[Moment], one: impl Fn(&Machine, &Moment) -> String + Sync) {
    let next = AtomicUsize::new(0);
    let hit = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(moment) = moments.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let machine = scene.machine();
                    let what = one(&machine, moment);
                    scene.must_converge(&machine, &what);
                    hit.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    println!("{} moments, all converged", hit.load(Ordering::Relaxed));
    assert_eq!(hit.load(Ordering::Relaxed), moments.len());
    assert!(moments.len() >= 5, "too few moments to say anything: {}", moments.len());
}

/// The calls of these names an undisturbed apply makes, in their order.
fn calls(scene: Scene, names: &str) -> Vec<Moment> {
    let machine = scene.machine();
    let trace = format!("trace={names}");
    machine
        .run(&["strace", "-qq", "-o", "/root/calls", "-e", &trace, "socle", "agent", "apply", scene.document])
        .expect(0);
    let mut seen = std::collections::BTreeMap::new();
    let text = machine.read("/root/calls");
    let made = text.lines().filter(|line| !line.contains("+++") && !line.contains("---"));
    made.filter_map(|line| line.split_once('('))
        .map(|(call, _)| {
            let nth = seen.entry(call.to_owned()).or_insert(0);
            *nth += 1;
            Moment { call: call.to_owned(), nth: *nth }
        })
        .collect()
}

/// The journal alone uses fdatasync, once before each step.
fn killed_at_journal_entries(scene: Scene) {
    let all = calls(scene, "fdatasync");
    let entries = spread(all.clone(), 12);
    sweep(scene, &entries, |machine, entry| {
        let done = scene.strace(machine, &format!("fdatasync:signal=SIGKILL:when={}", entry.nth));
        assert_ne!(done.code, 0, "the apply was not killed at entry {}", entry.nth);
        format!("a kill at journal entry {} of {}", entry.nth, all.len())
    });
}

const MUTATING: &str =
    "write,rename,renameat,renameat2,unlink,unlinkat,mkdir,mkdirat,symlink,symlinkat,fsync,fchown,fchmod";

fn killed_at_calls(scene: Scene) {
    let moments = spread(calls(scene, MUTATING), 10);
    sweep(scene, &moments, |machine, Moment { call, nth }| {
        scene.strace(machine, &format!("{call}:signal=SIGKILL:when={nth}"));
        format!("a kill at {call} number {nth}")
    });
}

/// Not `write`: it would also fail for what is no file (tokio's own wake-ups, the terminal). A disk that is
/// really full is one of the e2e tests.
const FILLING: &str = "rename,renameat,renameat2,mkdir,mkdirat,symlink,symlinkat,fsync,fdatasync";

fn disk_full_at_calls(scene: Scene) {
    let moments = spread(calls(scene, FILLING), 8);
    sweep(scene, &moments, |machine, Moment { call, nth }| {
        let done = scene.strace(machine, &format!("{call}:error=ENOSPC:when={nth}+"));
        assert_ne!(done.code, 101, "a panic:\n{}", done.stderr);
        format!("a full disk from {call} number {nth} on")
    });
}

fn power_cuts(scene: Scene, how_many: u32) {
    let begun = Instant::now();
    let whole = {
        let machine = scene.machine();
        let begun = Instant::now();
        machine.socle(&["agent", "apply", scene.document]).expect(0);
        begun.elapsed()
    };
    let moments: Vec<Moment> = (0..how_many as usize).map(|nth| Moment { call: "cut".into(), nth }).collect();
    // Not random but spread: the same share of the run at each turn, whatever the machine's speed.
    sweep(scene, &moments, |machine, moment| {
        let at = whole * (2 * moment.nth as u32 + 1) / (2 * how_many);
        let mut apply = machine.start(&["socle", "agent", "apply", scene.document]);
        let started = Instant::now();
        while started.elapsed() < at && apply.try_wait().is_ok_and(|done| done.is_none()) {
            std::thread::sleep(Duration::from_millis(5));
        }
        machine.power_cut();
        let _: std::io::Result<Output> = apply.wait_with_output();
        machine.up();
        machine.run(&["systemctl", "start", "mariadb", "nginx"]);
        format!("a power cut after {at:?} of {whole:?}")
    });
    println!("{how_many} power cuts in {:?}", begun.elapsed());
}

#[test]
fn installation_killed_at_journal_entries() {
    killed_at_journal_entries(installation());
}

#[test]
fn upgrade_killed_at_journal_entries() {
    killed_at_journal_entries(upgrade());
}

#[test]
fn installation_killed_at_mutating_calls() {
    killed_at_calls(installation());
}

#[test]
fn upgrade_killed_at_mutating_calls() {
    killed_at_calls(upgrade());
}

#[test]
fn installation_on_a_full_disk() {
    disk_full_at_calls(installation());
}

#[test]
fn upgrade_on_a_full_disk() {
    disk_full_at_calls(upgrade());
}

#[test]
fn installation_with_power_cuts() {
    power_cuts(installation(), if full() { 100 } else { 20 });
}

#[test]
fn upgrade_with_power_cuts() {
    power_cuts(upgrade(), if full() { 100 } else { 10 });
}
