//! A server of stand-ins with the real agent on it, driven by one command a line. Files, ledger, journal
//! and releases are real, below a temporary directory; systemd, apt, databases and the rest are not.
//!
//! | command | what it does |
//! |---|---|
//! | `check FILE` | whether the document is accepted |
//! | `plan FILE` | the steps, as they would be executed |
//! | `apply FILE` | accepts and brings about; tells every line that is news |
//! | `given FILE` | the same; tells only how it ended |
//! | `cut TASK FILE` | applies, and ends the agent while this task runs |
//! | `run`, `tend` | a pass by itself: as asked to, as the daemon does |
//! | `status`, `rollback NAME`, `purge NAME`, `plan-purge NAME` | as on the command line |
//! | `package NAME WORD` | `unknown`, `absent`, `installed`, or what dpkg calls it when it is broken |
//! | `unit NAME ENABLED ACTIVE` | a unit of a package |
//! | `active NAME WORD`, `start UNIT` | as a unit ends, or is started, without the agent; with a database server its databases |
//! | `mask UNIT`, `fail UNIT CODE`, `heal UNIT` | by hand; its starts fail, or succeed again |
//! | `task NAME CODE` | from now on this task ends so |
//! | `probe HOST STATUS`, `probe HOST silent` | from now on the site answers so |
//! | `lose URL` | from now on this URL answers 404 |
//! | `down ENGINE`, `up ENGINE` | the database server |
//! | `write ENGINE DATABASE TEXT`, `read ENGINE DATABASE` | what the application keeps there |
//! | `edit PATH TEXT`, `append PATH TEXT`, `remove PATH`, `mode PATH OCTAL` | files by hand |
//! | `moments`, `no-moments` | from now on files can be taken in a moment, or not |
//! | `wake` | what a killed backup left |
//! | `backup`, `snapshots`, `check-backup` | of every instance, to every repository |
//! | `restore NAME`, `recover LOCATION [CREDENTIALS]` | the newest snapshot; with the key the server has, or had |
//! | `prune NAME`, `prune-for NAME FILE` | of this server; by somebody else, with this document |
//! | `beside NAME OTHER DOMAIN` | the newest snapshot of NAME as OTHER |
//! | `fed` | the accepted document is taken over by a controller |
//! | `drill NAME`, `sweep` | a restore is rehearsed; what is left of one is cleared away |
//! | `burn` | the server is gone, and a blank one takes its place |
//! | `damage LOCATION`, `unreachable LOCATION`, `reachable LOCATION` | the repository |
//! | `show PATH`, `list PATH` | a file, a directory |
#![expect(clippy::disallowed_methods, reason = "edits files as a hand does")]

mod apt;
mod backups;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use socle::agent::reconcile::{Agent, AgentError};
use socle::agent::relay::Relay;
use socle::engine::consequence::{self, Consequence};
use socle::engine::{Plan, Silent};
use socle::host::fake::{
    self, FakeAccounts, FakeDatabases, FakeFetch, FakeProbes, FakeSnapshots, FakeTasks, FakeUnits, FakeVault,
};
use socle::host::{Host, Units};
use socle::model::document::{self, Engine};
use socle::model::report::{Report, Status};
use socle::model::{Name, Secret};
use socle::recipe::{Catalog, Facts};

use apt::Apt;

/// What every site says unless told otherwise: a word of each recipe's health gate.
const BODY: &str = "</html> loginform \"namespaces\" DokuWiki Radicale";

pub struct Server {
    root: tempfile::TempDir,
    /// Where the documents of the commands are.
    documents: PathBuf,
    units: Arc<FakeUnits>,
    packages: Arc<Apt>,
    databases: Arc<FakeDatabases>,
    tasks: Arc<FakeTasks>,
    probes: Arc<FakeProbes>,
    fetch: Arc<FakeFetch>,
    vault: Arc<FakeVault>,
    files: Arc<FakeSnapshots>,
    /// The recovery key, when somebody wrote it down.
    key: Mutex<Option<Secret>>,
    /// Sites that were told what to answer.
    told: Mutex<BTreeSet<String>>,
    pub agent: Agent,
}

/// Files are given to users, which only root may do.
pub fn skipped() -> bool {
    let skipped = !rustix::process::geteuid().is_root();
    if skipped {
        eprintln!("skipped: gives files to users, so it needs root");
    }
    skipped
}

impl Server {
    pub fn new(documents: &Path, debian: u32) -> Self {
        let root = tempfile::tempdir().unwrap();
        for directory in ["etc/systemd/system", "etc/nginx/sites-available", "etc/nginx/sites-enabled"] {
            std::fs::create_dir_all(root.path().join(directory)).unwrap();
        }
        let units = Arc::new(FakeUnits::below(root.path()));
        let databases = Arc::new(FakeDatabases::new());
        let servers = databases.clone();
        units.when_started(move |unit| {
            if let Some(engine) = served_by(unit) {
                servers.set_down(engine, false);
            }
        });
        let packages = Arc::new(Apt::new(units.clone()));
        let (tasks, probes, fetch) = (Arc::<FakeTasks>::default(), Arc::<FakeProbes>::default(), Arc::default());
        let files = Arc::<FakeSnapshots>::default();
        let host = Host {
            units: units.clone(),
            packages: packages.clone(),
            accounts: Arc::new(FakeAccounts::below(root.path()).known(["www-data"])),
            databases: databases.clone(),
            fetch: Arc::clone(&fetch) as Arc<_>,
            tasks: tasks.clone(),
            snapshots: files.clone(),
            probes: probes.clone(),
            ..fake::host(root.path())
        };
        let vault = Arc::new(FakeVault::default());
        let agent = Agent {
            host,
            vault: vault.clone(),
            state: root.path().join("var/lib/socle"),
            catalog: Catalog::built_in(),
            facts: Facts::of_debian(debian).unwrap(),
            python_index: None,
            interval_s: 60,
            progress: Arc::new(Relay::default()),
            now: || "2026-01-02T03:04:05Z".parse().unwrap(),
            random: |bytes| bytes.fill(7),
        };
        let documents = documents.to_owned();
        let (told, key) = (Mutex::default(), Mutex::default());
        Self { root, documents, units, packages, databases, tasks, probes, fetch, vault, files, key, told, agent }
    }

    /// Does one command; what it says.
    pub async fn tell(&self, command: &str) -> String {
        let words: Vec<&str> = command.split_whitespace().collect();
        // The third word and what follows it, as written.
        let rest = || command.splitn(3, ' ').nth(2).unwrap_or_default().replace("\\n", "\n");
        match words.as_slice() {
            ["check", file] => match self.agent.check(file, &self.document(file)) {
                Ok(_) => "no problem found\n".to_owned(),
                Err(error) => self.wrong(&error),
            },
            ["plan", file] => self.plan(file).await,
            ["apply", file] => self.report(self.apply(file).await, true),
            ["given", file] => self.report(self.apply(file).await, false),
            ["cut", task, file] => {
                self.tasks.hold(task, true);
                tokio::select! {
                    report = self.apply(file) => panic!("`{task}` did not run: {}", self.report(report, true)),
                    () = self.tasks.held() => self.tasks.hold(task, false),
                }
                String::new()
            }
            ["run"] => self.report(self.agent.reconcile(&Silent).await, true),
            ["tend"] => match self.agent.tend(&Silent, false).await.transpose() {
                Some(report) => self.report(report, true),
                None => "waits before it tries again\n".to_owned(),
            },
            ["status"] => self.status().await,
            ["rollback", name] => self.report(self.agent.rollback(&named(name), &Silent).await, true),
            ["purge", name] => self.report(self.agent.purge(&named(name), &Silent).await, true),
            ["plan-purge", name] => match self.agent.plan_purge(&named(name)).await {
                Ok(preview) => preview.steps.iter().map(|step| format!("{}: {}\n", step.on[0], step.change)).collect(),
                Err(error) => self.wrong(&error),
            },
            ["backup", tags @ ..] => self.back_up(tags).await,
            ["wake"] => self.wake().await,
            ["check-backup"] => self.check_backup().await,
            ["snapshots"] => self.snapshots().await,
            ["restore", name] => self.restore(&named(name)).await,
            ["beside", name, other, domain] => self.beside(&named(name), &named(other), domain).await,
            ["drill", name] => self.drill(&named(name)).await,
            ["fed"] => self.fed(),
            ["sweep"] => self.sweep().await,
            ["recover", location] => self.recover(location, "").await,
            ["recover", location, ..] => self.recover(location, &rest()).await,
            ["prune", name] => self.prune(&named(name)).await,
            ["prune-for", name, file] => self.prune_for(&named(name), &self.document(file)).await,
            ["read", engine, database] => {
                let content = self.databases.content(engine_of(engine), database);
                format!("{}\n", content.unwrap_or_else(|| "there is no such database".to_owned()))
            }
            ["show", path] => std::fs::read_to_string(self.path(path)).unwrap_or_else(|error| format!("{error}\n")),
            ["list", path] => self.list(path),
            _ => {
                self.by_hand(&words, &rest()).await;
                String::new()
            }
        }
    }

    async fn by_hand(&self, words: &[&str], rest: &str) {
        match words {
            ["package", name, state] => self.packages.set(name, state),
            ["unit", name, enabled, active] => self.units.set(name, enabled, active),
            ["active", name, word] => {
                self.units.set_active(name, word);
                if let Some(engine) = served_by(name) {
                    self.databases.set_down(engine, *word != "active");
                }
            }
            ["mask", name] => {
                let file = self.path(&format!("/etc/systemd/system/{name}"));
                drop(std::fs::remove_file(&file));
                self.units.mask(name).await.unwrap();
            }
            ["fail", name, code] => self.units.fail(name, code.parse().unwrap()),
            ["start", name] => self.units.start(name).await.unwrap(),
            ["heal", name] => self.units.heal(name),
            ["task", name, code] => self.tasks.end(name, code.parse().unwrap()),
            ["probe", host, status] => {
                self.told.lock().unwrap().insert((*host).to_owned());
                match status.parse() {
                    Ok(status) => self.probes.answer(host, status, BODY),
                    Err(_) => self.probes.silence(host),
                }
            }
            ["moments"] => self.files.able(true),
            ["no-moments"] => self.files.able(false),
            ["burn"] => self.burn(),
            ["damage", location] => self.vault.damage(&self.path(location), "data/ab/abcd"),
            ["delete", location] => self.vault.delete(&self.path(location)),
            ["unreachable", location] => self.vault.unreachable(&self.path(location), true),
            ["reachable", location] => self.vault.unreachable(&self.path(location), false),
            ["lose", url] => self.fetch.lose(url),
            ["down", engine] => self.databases.set_down(engine_of(engine), true),
            ["up", engine] => self.databases.set_down(engine_of(engine), false),
            ["write", engine, database, ..] => {
                let text = rest.split_once(' ').unwrap_or_default().1;
                self.databases.write(engine_of(engine), database, text);
            }
            ["edit", path, ..] => {
                let path = self.path(path);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, format!("{rest}\n")).unwrap();
            }
            ["append", path, ..] => {
                let old = std::fs::read_to_string(self.path(path)).unwrap();
                std::fs::write(self.path(path), format!("{old}{rest}\n")).unwrap();
            }
            ["remove", path] => {
                let path = self.path(path);
                if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) }.unwrap();
            }
            ["mode", path, mode] => {
                let mode = u32::from_str_radix(mode, 8).unwrap();
                std::fs::set_permissions(self.path(path), PermissionsExt::from_mode(mode)).unwrap();
            }
            _ => panic!("no such command: {words:?}"),
        }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.agent.host.path(path)
    }

    fn list(&self, path: &str) -> String {
        let Ok(entries) = std::fs::read_dir(self.path(path)) else { return "there is no such directory\n".to_owned() };
        let names: BTreeSet<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.into_iter().map(|name| name + "\n").collect()
    }

    /// A document; its sites answer well unless they were told something else.
    fn document(&self, file: &str) -> String {
        let text = std::fs::read_to_string(self.documents.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        for instance in document::parse(file, &text).iter().flat_map(|document| document.instances.values()) {
            let host = instance.domain.to_string();
            if !self.told.lock().unwrap().contains(&host) {
                self.probes.answer(&host, 200, BODY);
            }
        }
        text
    }

    async fn apply(&self, file: &str) -> Result<Report, AgentError> {
        self.agent.apply(file, &self.document(file), &Silent).await
    }

    /// The steps of a plan, what is not done and why, and what was decided before.
    pub async fn plan(&self, file: &str) -> String {
        let (plan, notes) = match self.agent.steps(file, &self.document(file)).await {
            Ok(planned) => planned,
            Err(error) => return self.wrong(&error),
        };
        let preview = consequence::preview(&self.agent.host, &plan, notes.clone()).await;
        let mut out = String::new();
        for note in notes {
            let _ = writeln!(out, "note: {note}");
        }
        if plan.is_empty() {
            out.push_str("nothing to do\n");
        }
        for (step, shown) in plan.steps.iter().zip(&preview.steps) {
            let on = match step.on.as_slice() {
                [one] => one.to_string(),
                more => format!("{} packages", more.len()),
            };
            let phase = format!("{:?}", step.phase).to_lowercase();
            let _ = write!(out, "{:>2} {phase:<8} {on}: {}", step.id, step.change);
            let _ = writeln!(out, "{}", costs(&shown.consequences));
            if !step.needs.is_empty() {
                let _ = writeln!(out, "            needs {}", ranges(&step.needs));
            }
            if let Some(by) = &step.blocked_by {
                let _ = writeln!(out, "            blocked by {by}");
            }
        }
        out + &self.not_done(&plan)
    }

    fn not_done(&self, plan: &Plan) -> String {
        let mut out = String::new();
        for (word, errors) in [("refused", &plan.refused), ("unknown", &plan.unknown)] {
            for (id, error) in errors {
                let _ = writeln!(out, "{word} {id}: {} ({error})", error.code);
                if let Some(hint) = &error.hint {
                    let _ = writeln!(out, "            hint: {hint}");
                }
            }
        }
        self.without_root(&out)
    }

    pub fn report(&self, report: Result<Report, AgentError>, news: bool) -> String {
        let report = match report {
            Ok(report) => report,
            Err(error) => return self.wrong(&error),
        };
        let mut out = String::new();
        for note in &report.notes {
            let _ = writeln!(out, "note: {note}");
        }
        for line in report.lines.iter().filter(|line| line.status != Status::InSync) {
            if news || line.status.is_bad() {
                let _ = writeln!(out, "{}: {}", line.resource, line.status);
            }
        }
        let changed = report.lines.iter().filter(|line| matches!(line.status, Status::Changed { .. })).count();
        let _ = match report.converged {
            true => writeln!(out, "as wanted, {changed} changed"),
            false => writeln!(out, "not as wanted, {changed} changed"),
        };
        self.without_root(&out)
    }

    fn wrong(&self, error: &AgentError) -> String {
        let mut out = String::new();
        if let AgentError::Refused(problems) = error {
            problems.iter().for_each(|problem| out.push_str(&format!("{problem}\n")));
        } else {
            let report = error.report();
            let _ = writeln!(out, "error {}: {report}", report.code);
            report.hint.iter().for_each(|hint| out.push_str(&format!("  hint: {hint}\n")));
        }
        self.without_root(&out)
    }

    async fn status(&self) -> String {
        let status = match self.agent.status().await {
            Ok(status) => status,
            Err(error) => return self.wrong(&error),
        };
        let mut out = format!("generation {}, as wanted: {:?}\n", status.generation.0, status.converged);
        for i in &status.instances {
            let running = i.running_version.as_deref().unwrap_or("none");
            let _ = writeln!(out, "{}: {:?}, runs {running}, wanted {}", i.name, i.state, i.wanted_version);
            for unit in &i.units {
                let _ = writeln!(out, "  {} {}", unit.unit, unit.active);
            }
            i.problems.iter().for_each(|problem| out.push_str(&format!("  problem: {problem}\n")));
            i.next.iter().for_each(|next| out.push_str(&format!("  next: {next}\n")));
        }
        for unit in &status.services {
            let _ = writeln!(out, "{} {}", unit.unit, unit.active);
        }
        status.problems.iter().for_each(|problem| out.push_str(&format!("problem: {problem}\n")));
        self.without_root(&out)
    }

    /// Text that does not depend on where the test runs.
    fn without_root(&self, text: &str) -> String {
        text.replace(&self.root.path().display().to_string(), "")
    }
}

fn named(name: &str) -> Name {
    name.parse().unwrap()
}

fn engine_of(word: &str) -> Engine {
    serde_json::from_value(word.into()).unwrap()
}

fn served_by(unit: &str) -> Option<Engine> {
    match unit {
        "mariadb.service" => Some(Engine::Mariadb),
        "postgresql.service" => Some(Engine::Postgresql),
        _ => None,
    }
}

/// Of these, only what does not depend on the sizes the stand-ins make up.
fn costs(consequences: &[Consequence]) -> String {
    let words = consequences.iter().filter_map(|consequence| match consequence {
        Consequence::Download { .. } => None,
        Consequence::Restart => Some(" [restart]"),
        Consequence::Downtime => Some(" [downtime]"),
        Consequence::PointOfNoReturn => Some(" [point of no return]"),
        Consequence::Destroys => Some(" [destroys data]"),
    });
    words.collect()
}

/// `0-4 7`
fn ranges(steps: &[usize]) -> String {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for step in steps {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == *step => *last = *step,
            _ => ranges.push((*step, *step)),
        }
    }
    let words = ranges.iter().map(|(first, last)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    });
    words.collect::<Vec<_>>().join(" ")
}
