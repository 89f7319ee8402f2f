//! Jobs of systemd, followed to their end.

use std::time::Duration;

use futures_util::StreamExt;
use systemd_zbus::{ManagerProxy, Mode};
use tokio::time::{Instant, timeout};
use zbus::zvariant::OwnedObjectPath;
use zbus::{Connection, Error, MessageStream};

use super::bus::{self, MANAGER, UNIT, is_gone, properties, property};
use super::state::{interface_of, take};
use super::{Fault, LastLines, Systemd, SystemdError, journal};

/// Added to the unit's own limits: the job may wait for others first.
const MARGIN: Duration = Duration::from_secs(60);
/// For units without a limit of their own (`TimeoutStartSec=infinity`).
const NO_LIMIT: Duration = Duration::from_secs(3600);
/// How often we ask whether the job still exists, in case its signal was lost (systemd re-executed, the
/// connection replaced).
const RECHECK: Duration = Duration::from_secs(5);
/// Lines of the journal a failure carries.
const LINES: u32 = 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    Start,
    Restart,
    Reload,
    Stop,
}

impl Act {
    fn word(self) -> &'static str {
        match self {
            Act::Start => "start",
            Act::Restart => "restart",
            Act::Reload => "reload",
            Act::Stop => "stop",
        }
    }

    async fn queue(self, manager: &ManagerProxy<'_>, unit: &str) -> Result<OwnedObjectPath, Error> {
        match self {
            Act::Start => manager.start_unit(unit, Mode::Replace).await,
            Act::Restart => manager.restart_unit(unit, Mode::Replace).await,
            Act::Reload => manager.reload_unit(unit, Mode::Replace).await,
            Act::Stop => manager.stop_unit(unit, Mode::Replace).await,
        }
    }
}

/// How a job ended, in systemd's words; `None`: it is gone and nobody heard how.
pub(super) type Ended = Option<String>;

/// Runs one job to its end.
///
/// Guarantees: an error of [`Fault::Unit`] is about what the unit runs, never about the bus. Dropping the
/// future leaves the job to systemd, which ends it.
pub(super) async fn run(systemd: &Systemd, act: Act, unit: &str) -> Result<(), SystemdError> {
    let Some(loaded) = prepare(systemd, act, unit).await? else { return Ok(()) };
    let say = || format!("{} `{unit}`", act.word());
    let (job, stream) = systemd
        .bus
        .ask(say, |connection| async move {
            // Before the job is queued: it may end before its number is known here.
            let stream = bus::signals(&connection, MANAGER, "JobRemoved", None).await?;
            let job = act.queue(&ManagerProxy::new(&connection).await?, unit).await?;
            Ok((job, stream))
        })
        .await?;
    let ended = follow(systemd, &job, stream, loaded.limit).await?;
    let Some(ended) = ended else {
        return Err(SystemdError::Late { act: act.word(), unit: unit.to_owned(), limit: loaded.limit });
    };
    judge(systemd, act, unit, ended).await
}

struct Loaded {
    limit: Duration,
}

/// Makes systemd see the unit as its files are now, and forget earlier failures that would refuse a
/// start. `None`: there is nothing to stop.
async fn prepare(systemd: &Systemd, act: Act, unit: &str) -> Result<Option<Loaded>, SystemdError> {
    let mut seen = look(systemd, act, unit).await?;
    let starts = matches!(act, Act::Start | Act::Restart);
    if act == Act::Stop && seen.load == "not-found" && seen.active == "inactive" {
        return Ok(None);
    }
    if starts && (seen.need_reload || seen.load != "loaded") {
        systemd.read_files().await?;
        seen = look(systemd, act, unit).await?;
    }
    if starts && seen.active == "failed" {
        reset_failed(systemd, unit).await?;
    }
    Ok(Some(Loaded { limit: seen.limit }))
}

/// Forgets a failure, and with it the count that limits starts.
pub(super) async fn reset_failed(systemd: &Systemd, unit: &str) -> Result<(), SystemdError> {
    let say = || format!("forget the failure of `{unit}`");
    let done = systemd.manage(say, |manager| async move { manager.reset_failed_unit(unit).await }).await;
    match done {
        // Not loaded: nothing is remembered.
        Err(SystemdError::NoUnit { .. }) => Ok(()),
        done => done,
    }
}

struct Seen {
    load: String,
    active: String,
    need_reload: bool,
    limit: Duration,
}

async fn look(systemd: &Systemd, act: Act, unit: &str) -> Result<Seen, SystemdError> {
    let say = || format!("{} `{unit}`", act.word());
    systemd
        .bus
        .ask(say, |connection| async move {
            let path = ManagerProxy::new(&connection).await?.load_unit(unit).await?;
            let mut known = properties(&connection, &path, UNIT).await?;
            Ok(Seen {
                load: take(&mut known, "LoadState").unwrap_or_default(),
                active: take(&mut known, "ActiveState").unwrap_or_default(),
                need_reload: take(&mut known, "NeedDaemonReload").unwrap_or(false),
                limit: limit(&connection, &path, unit).await?,
            })
        })
        .await
}

/// What the unit's own limits allow, and a margin.
async fn limit(connection: &Connection, path: &OwnedObjectPath, unit: &str) -> Result<Duration, Error> {
    if !unit.ends_with(".service") {
        return Ok(Duration::from_secs(90) + MARGIN);
    }
    let Some(interface) = interface_of(unit) else { return Ok(NO_LIMIT) };
    let mut sum = MARGIN;
    for name in ["TimeoutStartUSec", "TimeoutStopUSec"] {
        match u64::try_from(property(connection, path, interface, name).await?)? {
            u64::MAX => return Ok(NO_LIMIT),
            us => sum += Duration::from_micros(us),
        }
    }
    Ok(sum)
}

/// Waits for the end of `job`. `None`: not within `limit`.
pub(super) async fn follow(
    systemd: &Systemd,
    job: &OwnedObjectPath,
    mut stream: MessageStream,
    limit: Duration,
) -> Result<Option<Ended>, SystemdError> {
    let until = Instant::now() + limit;
    loop {
        let Some(left) = until.checked_duration_since(Instant::now()) else { return Ok(None) };
        match timeout(left.min(RECHECK), stream.next()).await {
            Ok(Some(Ok(message))) => {
                let removed: Result<(u32, OwnedObjectPath, String, String), _> = message.body().deserialize();
                match removed {
                    Ok((_, path, _, result)) if path == *job => return Ok(Some(Some(result))),
                    _ => continue,
                }
            }
            // The connection broke, or systemd may have changed its address.
            Ok(Some(Err(_)) | None) | Err(_) => stream = follow_anew(systemd).await?,
        }
        if !exists(systemd, job).await? {
            // Its signal may be in the queue since.
            return Ok(Some(drain(&mut stream, job).await));
        }
    }
}

async fn follow_anew(systemd: &Systemd) -> Result<MessageStream, SystemdError> {
    let say = || "tell the end of jobs".to_owned();
    let signals = |connection| async move { bus::signals(&connection, MANAGER, "JobRemoved", None).await };
    systemd.bus.ask(say, signals).await
}

async fn exists(systemd: &Systemd, job: &OwnedObjectPath) -> Result<bool, SystemdError> {
    let say = || format!("tell of the job `{}`", job.as_str());
    systemd
        .bus
        .ask(say, |connection| async move {
            match property(&connection, job, "org.freedesktop.systemd1.Job", "State").await {
                Ok(_) => Ok(true),
                Err(error) if is_gone(&error) => Ok(false),
                Err(error) => Err(error),
            }
        })
        .await
}

async fn drain(stream: &mut MessageStream, job: &OwnedObjectPath) -> Ended {
    while let Ok(Some(Ok(message))) = timeout(Duration::ZERO, stream.next()).await {
        if let Ok((_, path, _, result)) = message.body().deserialize::<(u32, OwnedObjectPath, String, String)>()
            && path == *job
        {
            return Some(result);
        }
    }
    None
}

async fn judge(systemd: &Systemd, act: Act, unit: &str, ended: Ended) -> Result<(), SystemdError> {
    let (fault, ended) = match ended.as_deref() {
        Some("done" | "skipped") => {
            if act == Act::Stop {
                // A stop that had to kill leaves `failed`, which would look like a crash.
                reset_failed(systemd, unit).await?;
            }
            return Ok(());
        }
        Some("dependency") => (Fault::Dependency, "a unit it needs failed"),
        Some("canceled" | "collected" | "once") => (Fault::Replaced, "another job took its place"),
        Some(_) => (Fault::Unit, ""),
        // Nobody heard how it ended; the unit tells.
        None => {
            let active = look(systemd, act, unit).await?.active;
            let fine = if act == Act::Stop { active == "inactive" } else { active != "failed" };
            if fine {
                return Ok(());
            }
            (Fault::Unit, "")
        }
    };
    let why = if fault == Fault::Unit { result(systemd, unit).await } else { ended.to_owned() };
    let source = match fault {
        Fault::Unit => journal::of_last_run(&systemd.bus, unit, LINES).await.map(LastLines),
        Fault::Dependency | Fault::Replaced => None,
    };
    Err(SystemdError::Job { act: act.word(), unit: unit.to_owned(), why, fault, source })
}

/// `exit-code`, `timeout` … with the exit code, as far as systemd still knows. Best effort: the failure is
/// reported with or without.
async fn result(systemd: &Systemd, unit: &str) -> String {
    let unknown = || "it failed".to_owned();
    let Some(interface) = interface_of(unit) else { return unknown() };
    let known = systemd
        .bus
        .ask(String::new, |connection| async move {
            let path = ManagerProxy::new(&connection).await?.load_unit(unit).await?;
            properties(&connection, &path, interface).await
        })
        .await;
    let Ok(mut known) = known else { return unknown() };
    let status = take::<i32>(&mut known, "ExecMainStatus").filter(|status| *status != 0);
    match (take::<String>(&mut known, "Result"), status) {
        (Some(result), Some(status)) if result == "exit-code" => format!("it ended with code {status}"),
        (Some(result), Some(status)) if result == "signal" || result == "core-dump" => {
            format!("it was killed by signal {status}")
        }
        (Some(result), _) if !result.is_empty() && result != "success" => format!("systemd says `{result}`"),
        _ => unknown(),
    }
}
