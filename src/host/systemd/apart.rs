//! Programs that go on without us, each as a transient unit of systemd (org.freedesktop.systemd1(5),
//! `StartTransientUnit`): outside our control group, so that our end, or a restart of our unit, does not
//! end them; and outside our sandbox.

use std::path::Path;
use std::time::Duration;

use nix::libc;
use systemd_zbus::{ManagerProxy, Mode};
use tokio::time::Instant;
use zbus::zvariant::{OwnedObjectPath, Value};
use zbus::{Connection, Error, MessageStream};

use super::bus::{self, MANAGER, properties};
use super::job::{follow, reset_failed};
use super::state::take;
use super::{Fault, Systemd, SystemdError};
use crate::host::process::Exit;

/// Between two looks whether an earlier run of the same name is over.
const LOOK: Duration = Duration::from_millis(200);
/// A shutdown waits this long for the program, then ends it.
const SHUTDOWN: Duration = Duration::from_secs(300);

/// What to run.
pub struct Apart<'a> {
    /// The unit, with `.service`. One of a name runs at a time.
    pub name: &'a str,
    pub description: &'a str,
    /// The program by its absolute path, and its arguments.
    pub words: &'a [String],
    /// `NAME=value`; systemd adds its own defaults to it.
    pub environment: &'a [String],
    /// An existing file that gets both streams, at its end.
    pub log: &'a Path,
}

impl Systemd {
    /// Runs a program to its end. `None`: it still runs after `patience`, and is left alone.
    ///
    /// An earlier run of that name (of an agent that is gone) is waited for first. Dropping the future
    /// leaves the program running.
    pub async fn run_apart(&self, apart: &Apart<'_>, patience: Duration) -> Result<Option<Exit>, SystemdError> {
        let until = Instant::now() + patience;
        let (job, stream) = loop {
            if let Some(begun) = self.begin(apart).await? {
                break begun;
            }
            // It failed and nobody asked how, or it is still at work.
            reset_failed(self, apart.name).await?;
            if Instant::now() >= until {
                return Ok(None);
            }
            tokio::time::sleep(LOOK).await;
        };
        match follow(self, &job, stream, until.duration_since(Instant::now())).await? {
            None => Ok(None),
            Some(Some(done)) if done == "done" => Ok(Some(Exit::Code(0))),
            Some(_) => {
                let exit = self.exit_of(apart.name).await;
                reset_failed(self, apart.name).await?;
                exit.map(Some)
            }
        }
    }

    /// Starts it. `None`: there is a unit of that name.
    async fn begin(&self, apart: &Apart<'_>) -> Result<Option<(OwnedObjectPath, MessageStream)>, SystemdError> {
        let act = || format!("run `{}`", apart.name);
        // Before the job is queued: it may end before its number is known here.
        let listen = |connection: Connection| async move {
            let stream = bus::signals(&connection, MANAGER, "JobRemoved", None).await?;
            Ok((ManagerProxy::new(&connection).await?, stream))
        };
        let (manager, stream) = self.bus.ask(act, listen).await?;
        // Once, over the connection that has just worked: asked a second time, it would run a second time.
        match manager.start_transient_unit(apart.name, Mode::Fail, &apart.properties(), &[]).await {
            Ok(job) => Ok(Some((job, stream))),
            Err(error) if exists_already(&error) => Ok(None),
            Err(error) => Err(SystemdError::of_call(act(), error)),
        }
    }

    /// How the last run ended of a unit that has failed or is not there any more: systemd forgets what
    /// succeeded.
    async fn exit_of(&self, name: &str) -> Result<Exit, SystemdError> {
        let say = || format!("tell how `{name}` ended");
        let ask = |connection: Connection| async move {
            let path = ManagerProxy::new(&connection).await?.load_unit(name).await?;
            properties(&connection, &path, "org.freedesktop.systemd1.Service").await
        };
        let mut known = self.bus.ask(say, ask).await?;
        let status = take::<i32>(&mut known, "ExecMainStatus").unwrap_or_default();
        let result = take::<String>(&mut known, "Result").unwrap_or_default();
        // The `si_code` of waitid(2); 0: no program was started.
        match take::<i32>(&mut known, "ExecMainCode") {
            Some(libc::CLD_EXITED) => Ok(Exit::Code(status)),
            Some(libc::CLD_KILLED | libc::CLD_DUMPED) => Ok(Exit::Signal(status)),
            _ if result == "success" => Ok(Exit::Code(0)),
            _ => Err(SystemdError::Job {
                act: "start",
                unit: name.to_owned(),
                why: format!("systemd says `{result}`"),
                fault: Fault::Unit,
                source: None,
            }),
        }
    }
}

impl Apart<'_> {
    fn properties(&self) -> [(&'static str, Value<'_>); 11] {
        let log = self.log.to_string_lossy().into_owned();
        let program = self.words.first().cloned().unwrap_or_default();
        // Else systemd takes every `$` for a variable.
        let exec = vec![(program, self.words.to_vec(), vec!["no-env-expand"])];
        let shutdown = u64::try_from(SHUTDOWN.as_micros()).unwrap_or(u64::MAX);
        [
            ("Description", self.description.into()),
            ("Type", "oneshot".into()),
            ("ExecStartEx", exec.into()),
            ("Environment", self.environment.to_vec().into()),
            ("StandardOutputFileToAppend", log.clone().into()),
            ("StandardErrorFileToAppend", log.into()),
            ("TimeoutStartUSec", u64::MAX.into()),
            ("TimeoutStopUSec", shutdown.into()),
            // To be stopped is to be waited for: what this is used for must not be broken off.
            ("KillMode", "process".into()),
            ("KillSignal", libc::SIGCONT.into()),
            ("UMask", 0o022_u32.into()),
        ]
    }
}

fn exists_already(error: &Error) -> bool {
    matches!(error, Error::MethodError(name, ..) if name.as_str() == "org.freedesktop.systemd1.UnitExists")
}
