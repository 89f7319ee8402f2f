use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::future::try_join_all;
use tokio::time::Instant;

use super::*;
use crate::durable::{self, DurableError};
use crate::host::{PortError, ProbeAnswer};
use crate::model::unit::{Ending, Limits, Network, Readiness, Sandbox};
use crate::resources::About;

/// How long to wait between two tries of a probe.
const PROBE_PAUSE: Duration = Duration::from_millis(200);
/// One try of a probe.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
enum SetupError {
    #[error("cannot record how far `{name}` is set up")]
    Record { name: String, source: DurableError },
    #[error("cannot make the directory `{path}`")]
    Directory { path: PathBuf, source: std::io::Error },
    #[error("the step `{step}` of `{name}` ended with code {code}; its last words: {output}")]
    Step { name: String, step: String, code: i32, output: String },
    #[error("`{host}{path}` does not answer as it must: {why}")]
    Probe { host: String, path: String, why: String },
    #[error("the dump `{path}` is not what was dumped: its digest differs")]
    DumpDamaged { path: String },
    #[error("cannot read the dump `{path}`")]
    DumpUnreadable { path: String, source: std::io::Error },
}

pub async fn apply(host: &Host, name: &str, change: &Change) -> Result<(), ApplyError> {
    let record = Record::of(host, name)?;
    match change {
        Change::Install { release, steps } => {
            let record = record.note(State::HalfInstalled { release: release.clone() })?;
            run_steps(host, name, steps).await?;
            record.note(State::Installed { release: release.clone() })?;
        }
        Change::Dump { release, databases } => {
            let dumps = dump(host, &format!("{DUMPS}/{name}/{release}"), databases).await?;
            record.update(|seen| {
                seen.dumps.insert(release.0.clone(), dumps);
            })?;
        }
        Change::Migrate { from, to, steps } => {
            let record = record.note(State::HalfMigrated { from: from.clone(), to: to.clone() })?;
            run_steps(host, name, steps).await?;
            record.update(|seen| {
                // What is kept of the other is as paused as this.
                if seen.paused.contains(&from.0) {
                    seen.paused.insert(to.0.clone());
                }
                install(seen, to);
            })?;
        }
        Change::Adopt { release } => {
            record.update(|seen| {
                let was = seen.installed().cloned();
                if was.is_some_and(|was| seen.paused.remove(&was.0)) {
                    seen.paused.insert(release.0.clone());
                }
                install(seen, release);
            })?;
        }
        Change::SetAside { databases, directory, .. } => {
            dump(host, directory, databases).await?;
        }
        Change::GetReady { release, directories } => files::get_ready(host, name, release, directories).await?,
        Change::Keep { release, directories } => {
            // What was kept of an earlier try is of an earlier moment.
            let record = record.update(|seen| drop(seen.kept.remove(&release.0)))?;
            let kept = files::keep(host, name, release, directories).await?;
            record.update(|seen| drop(seen.kept.insert(release.0.clone(), kept)))?;
        }
        Change::Restore { release, dumps, kept, aside } => {
            let begun = matches!(&record.seen.state, Some(State::HalfRestored { to, .. }) if to == release);
            files::are_there(host, kept, begun)?;
            let record = record.note(State::HalfRestored { to: release.clone(), aside: aside.clone() })?;
            files::put_back(host, name, release, kept, aside.as_deref())?;
            restore(host, name, dumps).await?;
            record.update(|seen| {
                seen.state = Some(State::Installed { release: release.clone() });
                // They are no copies any more.
                seen.kept.remove(&release.0);
            })?;
            files::clear(host, name, release).await?;
        }
        Change::Return { returned, units } => {
            stop(host, units).await?;
            for staged in &returned.directories {
                files::put_in_place(host, staged)?;
            }
            restore(host, name, &returned.dumps).await?;
            record.update(|seen| {
                seen.moved_from.clone_from(&returned.of);
                seen.paused.insert(returned.release.0.clone());
                install(seen, &returned.release);
            })?;
            for staged in &returned.directories {
                files::remove(host, &staged.aside).await?;
            }
            files::tidy(host, returned);
        }
        Change::GoOn { release, leave } => {
            go_on(host, name, leave).await?;
            record.update(|seen| {
                seen.paused.remove(&release.0);
            })?;
        }
        Change::Move { steps, .. } => {
            run_steps(host, name, steps).await?;
            record.update(|seen| seen.moved_from = None)?;
        }
        Change::Prove { probes, proof } => {
            // Side by side: most of an answer is the application's own work, on more than one processor.
            try_join_all(probes.iter().map(|probe| prove(host, probe, None))).await?;
            record.update(|seen| {
                seen.proven = Some(*proof);
                // With commands it was told before; without any there is nothing to be told.
                if let Some(release) = seen.installed().cloned() {
                    seen.paused.remove(&release.0);
                }
            })?;
        }
        Change::DropDumps { releases, debris } => {
            for release in releases {
                remove_directory(&host.path(format!("{DUMPS}/{name}/{release}")))?;
            }
            for place in releases.iter().chain(debris) {
                files::remove(host, &format!("{}/{place}", kept_of(name))).await?;
            }
            record.update(|seen| {
                seen.dumps.retain(|release, _| !releases.contains(release));
                seen.kept.retain(|release, _| !releases.contains(release));
                seen.paused.retain(|release| !releases.contains(release));
            })?;
        }
        Change::Forget => {
            remove_directory(&host.path(format!("{DUMPS}/{name}")))?;
            durable::remove(&observe::path(host, name))
                .map_err(|source| failed("setup.record", SetupError::Record { name: name.to_owned(), source }))?;
        }
    }
    Ok(())
}

fn failed(code: &str, error: SetupError) -> ApplyError {
    ApplyError::host(code, &error, None)
}

fn port(error: PortError) -> ApplyError {
    ApplyError { report: error.report(), about: About::Host }
}

/// The state file of one instance, written before and after each act.
struct Record<'a> {
    host: &'a Host,
    name: &'a str,
    seen: Observed,
}

impl<'a> Record<'a> {
    fn of(host: &'a Host, name: &'a str) -> Result<Self, ApplyError> {
        let seen = observe::read(host, name).map_err(|error| ApplyError::host("setup.damaged", &error, None))?;
        Ok(Self { host, name, seen })
    }

    fn note(self, state: State) -> Result<Self, ApplyError> {
        self.update(|seen| become_now(seen, state))
    }

    fn update(mut self, change: impl FnOnce(&mut Observed)) -> Result<Self, ApplyError> {
        change(&mut self.seen);
        let path = observe::path(self.host, self.name);
        make_directory(path.parent().unwrap_or(Path::new("/")))?;
        let bytes = serde_json::to_vec_pretty(&self.seen).expect("a state is plain data");
        durable::write(&path, &bytes, 0o600)
            .map_err(|source| failed("setup.record", SetupError::Record { name: self.name.to_owned(), source }))?;
        Ok(self)
    }
}

/// What was proven was other data.
fn become_now(seen: &mut Observed, state: State) {
    seen.state = Some(state);
    seen.proven = None;
}

fn install(seen: &mut Observed, release: &ReleaseId) {
    become_now(seen, State::Installed { release: release.clone() });
}

/// Tells the application that its pause is over.
pub async fn go_on(host: &Host, name: &str, leave: &[Command]) -> Result<(), ApplyError> {
    for Command { name: task, unit, ok_codes } in leave {
        run(host, name, task, unit, None, ok_codes).await?;
    }
    Ok(())
}

async fn run_steps(host: &Host, name: &str, steps: &[Step]) -> Result<(), ApplyError> {
    for (nth, step) in steps.iter().enumerate() {
        match step {
            Step::Run { name: task, unit, stdin, ok_codes } => {
                run(host, name, task, unit, stdin.as_ref(), ok_codes).await?;
            }
            Step::Seed { from, to, owner, replace } => {
                let unit = seed_unit(from, to, owner, *replace);
                run(host, name, &format!("{name}-seed-{nth}"), &unit, None, &[0]).await?;
            }
        }
    }
    Ok(())
}

async fn run(
    host: &Host,
    name: &str,
    task: &str,
    unit: &ServiceUnit,
    stdin: Option<&Content>,
    ok_codes: &[i32],
) -> Result<(), ApplyError> {
    let done = host.tasks.run(task, unit, stdin).await.map_err(port)?;
    if ok_codes.contains(&done.code) {
        return Ok(());
    }
    let (name, step) = (name.to_owned(), task.to_owned());
    let error = SetupError::Step { name, step, code: done.code, output: done.output };
    Err(ApplyError::release("setup.step", &error, None))
}

/// Copies as the instance's own user: its data may hold links of its making, which root must not follow.
pub(super) fn seed_unit(from: &str, to: &str, owner: &str, replace: bool) -> ServiceUnit {
    let mode = if replace { "--remove-destination" } else { "--no-clobber" };
    let copy = ["/usr/bin/cp", "--recursive", "--no-target-directory", mode, from, to];
    ServiceUnit {
        description: format!("socle: copy into {to}"),
        after: Vec::new(),
        readiness: Readiness::Oneshot,
        exec: copy.map(str::to_owned).to_vec(),
        reload: None,
        user: Some(owner.to_owned()),
        environment: BTreeMap::new(),
        working_directory: None,
        runtime_directory: None,
        sandbox: Sandbox {
            writable: vec![Path::new(to).parent().unwrap_or(Path::new(to)).display().to_string()],
            network: Network::None,
            ..Sandbox::default()
        },
        limits: Limits::default(),
        slice: "socle.slice".to_owned(),
        timeout_s: 1800,
        ending: Ending::Term,
        wanted_by: Vec::new(),
        stdin: None,
        stdout: None,
        inputs: None,
    }
}

/// Those that run. What comes after it starts them again.
async fn stop(host: &Host, units: &BTreeSet<String>) -> Result<(), ApplyError> {
    let states = host.units.states(units).await.map_err(port)?;
    let running =
        |unit: &&String| states.get(*unit).is_some_and(|state| !matches!(&*state.active, "inactive" | "failed"));
    // Timers and sockets first: they would start what is stopped.
    let (services, starters): (Vec<&String>, Vec<&String>) =
        units.iter().filter(running).partition(|unit| unit.ends_with(".service"));
    for unit in starters.into_iter().chain(services) {
        host.units.stop(unit).await.map_err(port)?;
    }
    Ok(())
}

async fn dump(host: &Host, directory: &str, databases: &[(Engine, String)]) -> Result<Vec<Dump>, ApplyError> {
    make_directory(&host.path(directory))?;
    let mut dumps = Vec::new();
    for (engine, database) in databases {
        let path = format!("{directory}/{}-{database}.sql", engine.as_str());
        let sha256 = host.databases.dump(*engine, database, &host.path(&path)).await.map_err(port)?;
        dumps.push(Dump { engine: *engine, database: database.clone(), path, sha256 });
    }
    Ok(dumps)
}

async fn restore(host: &Host, name: &str, dumps: &[Dump]) -> Result<(), ApplyError> {
    for dump in dumps {
        let path = host.path(&dump.path);
        let digest = digest_of(&path).map_err(|source| {
            failed("setup.dump-unreadable", SetupError::DumpUnreadable { path: dump.path.clone(), source })
        })?;
        if digest != dump.sha256 {
            return Err(failed("setup.dump-damaged", SetupError::DumpDamaged { path: dump.path.clone() }));
        }
        let owner = format!("socle-{name}");
        host.databases.restore(dump.engine, &dump.database, &owner, &path).await.map_err(port)?;
    }
    Ok(())
}

/// `socket`: of another web server than the one of the machine. Asks until the answer is as it must be, or the time is over. A right answer ends it at once.
pub async fn prove(host: &Host, probe: &Probe, socket: Option<&Path>) -> Result<(), ApplyError> {
    let begun = Instant::now();
    let limit = Duration::from_secs(probe.within_s.into());
    loop {
        let answer = match socket {
            None => host.probes.get(&probe.host, &probe.path, PROBE_TIMEOUT).await,
            Some(socket) => host.probes.get_at(socket, &probe.host, &probe.path, PROBE_TIMEOUT).await,
        };
        let why = match answer {
            Ok(answer) => match wrong(probe, &answer) {
                None => return Ok(()),
                Some(why) => why,
            },
            Err(error) => error.report().to_string(),
        };
        if begun.elapsed() >= limit {
            let error = SetupError::Probe { host: probe.host.clone(), path: probe.path.clone(), why };
            let hint =
                socket.is_none().then(|| format!("curl -i -H 'Host: {}' http://127.0.0.1{}", probe.host, probe.path));
            return Err(ApplyError::release("setup.probe", &error, hint));
        }
        tokio::time::sleep(PROBE_PAUSE).await;
    }
}

fn wrong(probe: &Probe, answer: &ProbeAnswer) -> Option<String> {
    if !probe.status.contains(&answer.status) {
        return Some(format!("status {} instead of {:?}", answer.status, probe.status));
    }
    match &probe.contains {
        Some(text) if !answer.body.contains(text.as_str()) => Some(format!("its body does not contain `{text}`")),
        _ => None,
    }
}

pub(super) fn make_directory(path: &Path) -> Result<(), ApplyError> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| failed("setup.directory", SetupError::Directory { path: path.to_owned(), source }))
}

pub(super) fn remove_directory(path: &Path) -> Result<(), ApplyError> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(failed("setup.directory", SetupError::Directory { path: path.to_owned(), source: error }))
        }
        _ => Ok(()),
    }
}

fn digest_of(path: &Path) -> std::io::Result<Digest> {
    use sha2::Digest as _;
    let mut file = std::fs::File::open(path)?;
    let mut hasher = sha2::Sha256::new();
    let mut piece = [0; 1 << 16];
    loop {
        match std::io::Read::read(&mut file, &mut piece)? {
            0 => return Ok(Digest::from_hasher(hasher)),
            read => hasher.update(&piece[..read]),
        }
    }
}
