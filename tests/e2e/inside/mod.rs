//! Real adapters against the real thing. Runs inside a machine, as root.

mod contracts;
mod databases;
mod nginx;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use socle::host::accounts::SystemAccounts;
use socle::host::fake::contract;
use socle::host::process::{self, Command, Exit, run_ok};
use socle::host::systemd::{Apart, Systemd, journal_tail};
use socle::host::tasks::UnitTasks;
use socle::host::{Accounts, Tasks, Units};
use socle::model::Content;
use socle::model::unit::{Ending, Network, Readiness, Sandbox, ServiceUnit};

const DIRECTORY: &str = "/etc/systemd/system";

pub async fn all() {
    let systemd = Systemd::new();
    contract::units(&systemd, Path::new(DIRECTORY)).await;
    failures_carry_the_journal(&systemd).await;
    states_of_all_kinds(&systemd).await;
    many_units_are_cheap(&systemd).await;
    a_bus_restart_is_not_noticed(&systemd).await;
    a_job_survives_a_new_systemd(&systemd).await;
    failures_are_told().await;
    tasks().await;
    programs_apart(&systemd).await;
    an_account_is_described().await;
    what_we_write_is_seen_right(&systemd).await;
    every_sandbox_starts_and_is_tight(&systemd).await;
    contracts::all(&systemd).await;
    databases::all().await;
}

/// A program in a unit of its own: how it ends is told, it outlives who waits for it, and a next one waits for it.
async fn programs_apart(systemd: &Systemd) {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    std::fs::write(&log, "").unwrap();
    let name = "socle-test-apart.service";
    let run = async |script: &str, patience: Duration| {
        let words = ["/bin/sh", "-c", script].map(String::from);
        let environment = ["ONE=1 $TWO %n".to_owned()];
        let apart = Apart { name, description: "Test", words: &words, environment: &environment, log: &log };
        systemd.run_apart(&apart, patience).await.unwrap()
    };
    let long = Duration::from_secs(60);
    assert_eq!(run("echo \"$ONE\"; cat /proc/self/cgroup", long).await, Some(Exit::Code(0)));
    let printed = std::fs::read_to_string(&log).unwrap();
    assert!(printed.starts_with("1 $TWO %n\n") && printed.contains(name), "{printed}");
    assert_eq!(run("echo why >&2; exit 3", long).await, Some(Exit::Code(3)));
    assert_eq!(run("kill -KILL $$", long).await, Some(Exit::Signal(9)));
    assert_eq!(run("sleep 1; echo first", Duration::from_millis(50)).await, None);
    assert_eq!(run("echo second", long).await, Some(Exit::Code(0)));
    assert!(std::fs::read_to_string(&log).unwrap().ends_with("why\nfirst\nsecond\n"));
    assert_eq!(systemd.states(&set([name])).await.unwrap()[name].load, "not-found", "nothing is left");
}

async fn every_sandbox_starts_and_is_tight(systemd: &Systemd) {
    let exec = ["/usr/bin/sleep", "1000"];
    let base = ServiceUnit { readiness: Readiness::Exec, wanted_by: vec!["multi-user.target".into()], ..task(&exec) };
    let with = |sandbox: Sandbox| ServiceUnit { sandbox, ..base.clone() };
    let units = [
        with(Sandbox::default()),
        with(Sandbox { network: Network::None, ..Sandbox::default() }),
        with(Sandbox { network: Network::Loopback, ..Sandbox::default() }),
        with(Sandbox { low_ports: true, ..Sandbox::default() }),
        with(Sandbox { write_execute: true, system_calls: vec!["@resources".into()], ..Sandbox::default() }),
        with(Sandbox { writable: vec!["/var/tmp".into()], ..Sandbox::default() }),
        ServiceUnit { user: None, runtime_directory: Some("socle-test-sandbox".into()), ..base.clone() },
        ServiceUnit { readiness: Readiness::Oneshot, ..task(&["/usr/bin/true"]) },
        ServiceUnit {
            description: "50% \\".into(),
            environment: [("A".into(), "%h $HOME \"q\" \\ \n 'x'".into())].into(),
            exec: [
                "/usr/bin/env",
                "sh",
                "-c",
                "test \"$A\" = \"$1\" && exec sleep 1000",
                "x",
                "%h $HOME \"q\" \\ \n 'x'",
            ]
            .map(String::from)
            .to_vec(),
            ..base.clone()
        },
    ];
    let name = "socle-test-sandbox.service";
    let path = Path::new(DIRECTORY).join(name);
    for unit in units {
        std::fs::write(&path, unit.render(name)).unwrap();
        systemd.start(name).await.unwrap_or_else(|error| panic!("{}\n{}", error.report(), unit.render(name)));
        let state = systemd.states(&set([name])).await.unwrap()[name].active.clone();
        assert_eq!(
            state,
            if unit.readiness == Readiness::Oneshot { "inactive" } else { "active" },
            "{}",
            unit.render(name)
        );
        let path = path.to_str().unwrap();
        let verified = run_ok(Command::new("systemd-analyze").args(["verify", "--man=no", path])).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&verified.stderr), "");
        let security = ["security", "--no-pager", "--offline=true", "--threshold=20", path];
        let said = run("systemd-analyze", &security).await;
        println!("{} ({:?})", said.lines().last().unwrap_or_default(), unit.sandbox);
        systemd.stop(name).await.unwrap();
    }
    std::fs::remove_file(&path).unwrap();
    systemd.daemon_reload().await.unwrap();
}

/// What the port tells of a unit of ours without asking systemd is what systemd says, and enabling leaves
/// no unit in need of a reload.
async fn what_we_write_is_seen_right(systemd: &Systemd) {
    let name = "socle-test-own.service";
    let unit = ServiceUnit { wanted_by: vec!["multi-user.target".into()], ..task(&["/usr/bin/sleep", "1000"]) };
    let unit = ServiceUnit { readiness: Readiness::Exec, ..unit };
    std::fs::write(Path::new(DIRECTORY).join(name), unit.render(name)).unwrap();
    systemd.start(name).await.unwrap();
    for enable in [true, false] {
        if enable {
            systemd.enable(name).await.unwrap()
        } else {
            systemd.disable(name).await.unwrap()
        }
        let seen = systemd.states(&set([name])).await.unwrap()[name].clone();
        // Ends with code 1 when it is disabled.
        let said = process::run(Command::new("systemctl").args(["is-enabled", name])).await;
        assert_eq!(seen.enabled, String::from_utf8(said.unwrap().stdout).unwrap().trim());
        assert_eq!((seen.active.as_str(), seen.need_reload), ("active", false));
    }
    let mark = socle::model::unit::mark_of(&unit.render(name)).unwrap().to_owned();
    let left = std::fs::read_link(Path::new("/run/socle/inputs").join(name)).unwrap();
    assert_eq!(left.to_str(), Some(mark.as_str()));
    systemd.stop(name).await.unwrap();
    std::fs::remove_file(Path::new(DIRECTORY).join(name)).unwrap();
    systemd.daemon_reload().await.unwrap();
}

fn write(name: &str, service: &str) {
    let text = format!("[Unit]\nDescription=Test\n[Service]\n{service}\n[Install]\nWantedBy=multi-user.target\n");
    std::fs::write(Path::new(DIRECTORY).join(name), text).unwrap();
}

fn set(names: impl IntoIterator<Item = impl Into<String>>) -> BTreeSet<String> {
    names.into_iter().map(Into::into).collect()
}

async fn run(program: &str, args: &[&str]) -> String {
    let output = run_ok(Command::new(program).args(args.iter().copied())).await.unwrap();
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

async fn failures_carry_the_journal(systemd: &Systemd) {
    let name = "socle-test-bad.service";
    let _ = std::fs::remove_file("/run/healed");
    write(
        name,
        "Type=oneshot\nExecStart=/bin/sh -c 'test -e /run/healed || { printf \"words \\\\033[31mred\\\\n\"; exit 3; }'",
    );
    let error = systemd.start(name).await.unwrap_err();
    let report = error.report().to_string();
    assert!(report.contains("words \\u{1b}[31mred"), "{report}");
    assert!(report.contains("code 3"), "{report}");
    assert_eq!(error.hint.as_deref(), Some("`journalctl -u socle-test-bad.service`"));
    contract::failing_unit(systemd, name, || std::fs::write("/run/healed", "").unwrap()).await;
    assert!(journal_tail(name, 100).await.unwrap().contains("words"));
    // Only the lines of the last run.
    write(name, "Type=exec\nExecStart=/nonexistent/program");
    let report = systemd.start(name).await.unwrap_err().report().to_string();
    assert!(report.contains("/nonexistent/program") && !report.contains("words"), "{report}");
}

async fn states_of_all_kinds(systemd: &Systemd) {
    systemd.stop("socle-test-transient.service").await.unwrap();
    run("systemd-run", &["--unit=socle-test-transient", "--service-type=exec", "/usr/bin/sleep", "1000"]).await;
    let asked = [
        "dbus.service",
        "dbus-org.freedesktop.login1.service",
        "getty@tty1.service",
        "-.mount",
        "multi-user.target",
        "socle-test-transient.service",
        "systemd-tmpfiles-clean.timer",
        "dbus.socket",
        "no-such-thing@x.service",
        "no-such-thing.service",
        "systemd-journald.service",
        "not a unit name",
    ];
    let states = systemd.states(&set(asked)).await.unwrap();
    assert_eq!(states.len(), asked.len());
    for (name, state) in &states {
        println!("{name}: {} {} {} {:?}", state.load, state.active, state.sub, state.enabled);
    }
    for missing in ["no-such-thing@x.service", "no-such-thing.service", "not a unit name"] {
        assert_eq!(states[missing].load, "not-found", "{missing}");
    }
    assert_eq!(states["dbus-org.freedesktop.login1.service"].enabled, "alias");
    assert_eq!(states["socle-test-transient.service"].enabled, "transient");
    let details = systemd.details(&set(["socle-test-transient.service"])).await.unwrap();
    let details = &details["socle-test-transient.service"];
    assert!(details.main_pid > 1 && details.since_us > 0 && details.fragment.contains("transient"), "{details:?}");
    systemd.stop("socle-test-transient.service").await.unwrap();
}

async fn many_units_are_cheap(systemd: &Systemd) {
    // More than the bus takes questions at once.
    let names: BTreeSet<String> = (0..200).map(|i| format!("socle-many-{i}.service")).collect();
    for name in &names {
        // As we write them.
        let text = task(&["/usr/bin/sleep", "1000"]);
        let text = ServiceUnit { readiness: Readiness::Exec, wanted_by: vec!["multi-user.target".into()], ..text };
        std::fs::write(Path::new(DIRECTORY).join(name), text.render(name)).unwrap();
    }
    systemd.start("socle-many-0.service").await.unwrap();
    let mut fresh = systemd.states(&names).await.unwrap();
    assert_eq!(fresh.remove("socle-many-0.service").unwrap().active, "active");
    assert!(fresh.values().all(|state| state.active == "inactive" && !state.need_reload), "{fresh:?}");
    systemd.stop("socle-many-0.service").await.unwrap();
    run("systemctl", &["daemon-reload"]).await;
    // Each sandbox takes systemd a good part of a second on a slow machine: not all of them.
    let some: BTreeSet<String> = names.iter().take(30).cloned().collect();
    for (part, names) in [("inactive", &names), ("active", &some)] {
        if part == "active" {
            let start: Vec<&str> = ["start"].into_iter().chain(some.iter().map(String::as_str)).collect();
            run("systemctl", &start).await;
        }
        let mut times = Vec::new();
        for _ in 0..11 {
            let begun = Instant::now();
            let states = systemd.states(names).await.unwrap();
            times.push(begun.elapsed());
            assert!(states.values().all(|state| state.active == part && state.enabled == "disabled"));
        }
        times.sort();
        println!("states of {} {part} units: median {:?}, worst {:?}", names.len(), times[5], times[10]);
        assert!(times[5] < Duration::from_millis(100));
    }
    let stop: Vec<&str> = ["stop"].into_iter().chain(some.iter().map(String::as_str)).collect();
    run("systemctl", &stop).await;
    for name in &names {
        std::fs::remove_file(Path::new(DIRECTORY).join(name)).unwrap();
    }
    systemd.daemon_reload().await.unwrap();
}

async fn a_bus_restart_is_not_noticed(systemd: &Systemd) {
    run("systemctl", &["kill", "--signal=KILL", "dbus.service"]).await;
    systemd.states(&set(["dbus.service"])).await.unwrap();
    write("socle-test-run.service", "Type=exec\nExecStart=/usr/bin/sleep 1000");
    systemd.start("socle-test-run.service").await.unwrap();
    systemd.stop("socle-test-run.service").await.unwrap();
}

async fn a_job_survives_a_new_systemd(systemd: &Systemd) {
    write("socle-test-slow.service", "Type=oneshot\nExecStart=/usr/bin/sleep 2");
    let job = tokio::spawn({
        let systemd = systemd.clone();
        async move { systemd.start("socle-test-slow.service").await }
    });
    wait("the job runs", || async {
        systemd.states(&set(["socle-test-slow.service"])).await.unwrap()["socle-test-slow.service"].active
            == "activating"
    })
    .await;
    run("systemctl", &["daemon-reexec"]).await;
    let begun = Instant::now();
    job.await.unwrap().unwrap();
    println!("a start over daemon-reexec ended {:?} after it", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(10));
}

async fn failures_are_told() {
    // After a new systemd, what is failed by then is told again.
    run("systemctl", &["reset-failed"]).await;
    let mut failures = Systemd::new().failures().await;
    let systemd = Systemd::new();
    let name = "socle-test-watch.service";
    let mut next =
        async || tokio::time::timeout(Duration::from_secs(15), failures.next()).await.expect("told").unwrap();
    write(name, "Type=exec\nExecStart=/usr/bin/sleep 1000");
    for reexec in [false, true, false] {
        systemd.start(name).await.unwrap();
        if reexec {
            run("systemctl", &["daemon-reexec"]).await;
        }
        run("systemctl", &["kill", "--signal=KILL", name]).await;
        assert_eq!(next().await, name);
    }
    // A clean end of what should run on is told too; a oneshot's end is not.
    write("socle-test-once.service", "Type=oneshot\nExecStart=/usr/bin/true");
    systemd.start("socle-test-once.service").await.unwrap();
    systemd.start(name).await.unwrap();
    run("systemctl", &["kill", "--signal=TERM", name]).await;
    assert_eq!(next().await, name);
}

async fn wait<F: Future<Output = bool>>(what: &str, mut done: impl FnMut() -> F) {
    let begun = Instant::now();
    while !done().await {
        assert!(begun.elapsed() < Duration::from_secs(20), "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn task(exec: &[&str]) -> ServiceUnit {
    ServiceUnit {
        description: "A task".into(),
        after: vec![],
        readiness: Readiness::Oneshot,
        exec: exec.iter().map(|word| (*word).to_owned()).collect(),
        reload: None,
        user: Some("games".into()),
        environment: Default::default(),
        working_directory: None,
        runtime_directory: None,
        sandbox: Default::default(),
        limits: Default::default(),
        slice: "socle.slice".into(),
        timeout_s: 60,
        ending: Ending::Term,
        wanted_by: vec![],
        stdin: None,
        stdout: None,
        inputs: None,
    }
}

async fn tasks() {
    let units: Arc<dyn Units> = Arc::new(Systemd::new());
    let tasks = Arc::new(UnitTasks::new(Path::new("/"), units.clone()));
    let secret = Content::new("from standard input\n");
    let begun = Instant::now();
    let done = tasks.run("t-cat", &task(&["/usr/bin/cat"]), Some(&secret)).await.unwrap();
    println!("a task took {:?}", begun.elapsed());
    assert_eq!((done.code, done.output.as_str()), (0, "from standard input"));
    let done = tasks.run("t-cat", &task(&["/usr/bin/id", "-un"]), None).await.unwrap();
    assert_eq!(done.output, "games");

    let done =
        tasks.run("t-bad", &task(&["/usr/bin/sh", "-c", "echo it broke $0 100%; echo too >&2; exit 7"]), None).await;
    let done = done.unwrap();
    assert_eq!((done.code, done.output.as_str()), (7, "it broke /usr/bin/sh 100%\ntoo"));
    let done = tasks.run("t-sig", &task(&["/usr/bin/sh", "-c", "kill -9 $$"]), None).await.unwrap();
    assert_eq!(done.code, 137);
    let done = tasks.run("t-none", &task(&["/nonexistent"]), None).await.unwrap();
    assert!(done.code == 203 && done.output.contains("/nonexistent"), "{done:?}");
    let late = ServiceUnit { timeout_s: 1, ..task(&["/usr/bin/sleep", "100"]) };
    assert_eq!(tasks.run("t-late", &late, None).await.unwrap_err().code, "task.timeout");

    // As after a kill of the agent: the task goes on, its files are there, the next run takes over.
    let again = tasks.clone();
    let slow = tokio::spawn(async move { again.run("t-slow", &task(&["/usr/bin/sleep", "1000"]), None).await });
    let running = || async {
        units.states(&set(["socle-task-t-slow.service"])).await.unwrap()["socle-task-t-slow.service"].active
            == "activating"
    };
    wait("the task runs", running).await;
    slow.abort();
    let _ = slow.await;
    assert!(running().await);
    assert_eq!(tasks.run("t-slow", &task(&["/usr/bin/true"]), None).await.unwrap().code, 0);
    for left in ["/run/socle/tasks", "/run/systemd/system"] {
        let left: Vec<_> = std::fs::read_dir(left).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(left.iter().all(|name| !name.to_string_lossy().contains("t-")), "{left:?}");
    }
}

async fn an_account_is_described() {
    let accounts = SystemAccounts::new(Path::new("/"));
    accounts.create("socle-test", "50% \"of\" a:b", "/srv/socle/test/data").await.unwrap();
    assert!(run("getent", &["passwd", "socle-test"]).await.contains(":50% \"of\" a b:"));
    accounts.remove("socle-test").await.unwrap();
    assert!(!std::fs::read_to_string("/etc/group").unwrap().contains("socle-test"));
}
