//! systemd over D-Bus: the port [`Units`].
//!
//! Jobs are followed to their end by their `JobRemoved` signal; a failed one comes back with the last
//! journal lines of that very run. Nothing here runs `systemctl`, nothing waits a fixed time. Start
//! reading at [`Systemd`].
//!
//! Rejected: the typed lists of `systemd_zbus`, whose enums know neither `alias` nor `generated` (see
//! [`bus`]).

mod apart;
mod bus;
mod job;
mod journal;
mod links;
mod state;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use systemd_zbus::ManagerProxy;

pub use self::apart::Apart;
use self::bus::Bus;
use self::job::Act;
pub use self::journal::journal_tail;
use super::{PortError, PortResult, UnitState, Units, listeners};
use crate::host::process::ProcessError;

/// systemd of this machine. Cheap to clone; connects when first asked.
#[derive(Clone, Default)]
pub struct Systemd {
    bus: Arc<Bus>,
    /// We enabled or masked something since systemd read its unit files: it takes every unit for changed on
    /// disk. It reads them before the next question or start, once for all that was enabled.
    unread: Arc<AtomicBool>,
}

/// An act on systemd that failed.
#[derive(Debug, thiserror::Error)]
pub enum SystemdError {
    #[error("cannot reach systemd")]
    Connect(#[source] zbus::Error),
    #[error("systemd refused to {act}")]
    Call { act: String, source: zbus::Error },
    #[error("cannot {act}: systemd knows no such unit")]
    NoUnit { act: String },
    #[error("cannot {act}: it is masked")]
    Masked { act: String },
    #[error("`{unit}` did not {act}: {why}")]
    Job { act: &'static str, unit: String, why: String, fault: Fault, source: Option<LastLines> },
    #[error("`{unit}` did not {act} within {} s", .limit.as_secs())]
    Late { act: &'static str, unit: String, limit: Duration },
    #[error("cannot read the units in `/etc/systemd/system`")]
    Links(#[source] std::io::Error),
    #[error("cannot read the journal of `{unit}`")]
    Journal { unit: String, source: ProcessError },
}

/// Whose fault a failed job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// What the unit runs.
    Unit,
    /// A unit it needs.
    Dependency,
    /// Another job took its place.
    Replaced,
}

/// The end of a unit's journal, as a cause.
#[derive(Debug, thiserror::Error)]
#[error("its last lines:\n{0}")]
pub struct LastLines(pub String);

impl SystemdError {
    fn of_call(act: String, source: zbus::Error) -> Self {
        let zbus::Error::MethodError(name, ..) = &source else { return SystemdError::Call { act, source } };
        match name.as_str() {
            "org.freedesktop.systemd1.NoSuchUnit" | "org.freedesktop.DBus.Error.FileNotFound" => {
                SystemdError::NoUnit { act }
            }
            "org.freedesktop.systemd1.UnitMasked" => SystemdError::Masked { act },
            _ => SystemdError::Call { act, source },
        }
    }
}

/// The code of a failure that speaks about what the unit runs.
pub const JOB_FAILED: &str = "systemd.job-failed";

impl From<SystemdError> for PortError {
    fn from(error: SystemdError) -> PortError {
        let text = error.to_string();
        match error {
            SystemdError::Connect(source) => PortError::new("systemd.connect", text)
                .hint("look at systemd itself: `systemctl is-system-running`")
                .retryable()
                .because(source),
            SystemdError::Call { source, .. } => PortError::new("systemd.call", text).retryable().because(source),
            SystemdError::NoUnit { .. } => PortError::new("systemd.no-unit", text),
            SystemdError::Masked { .. } => PortError::new("systemd.masked", text),
            SystemdError::Job { unit, fault, source, .. } => {
                let (code, retryable) = match fault {
                    Fault::Unit => (JOB_FAILED, false),
                    Fault::Dependency => ("systemd.dependency", true),
                    Fault::Replaced => ("systemd.job-replaced", true),
                };
                let mut port = PortError::new(code, text).hint(format!("`journalctl -u {unit}`"));
                port.retryable = retryable;
                match source {
                    Some(lines) => port.because(lines),
                    None => port,
                }
            }
            SystemdError::Late { unit, .. } => {
                PortError::new("systemd.late", text).hint(format!("`systemctl status {unit}`")).retryable()
            }
            SystemdError::Links(source) => PortError::new("systemd.links", text).because(source),
            SystemdError::Journal { source, .. } => PortError::new("systemd.journal", text).because(source),
        }
    }
}

impl Systemd {
    /// Connects at the first question.
    pub fn new() -> Self {
        Self::default()
    }

    async fn manage<T, F>(
        &self,
        act: impl Fn() -> String,
        ask: impl Fn(ManagerProxy<'static>) -> F,
    ) -> Result<T, SystemdError>
    where
        F: Future<Output = Result<T, zbus::Error>>,
    {
        let ask = &ask;
        let with = move |connection| async move { ask(ManagerProxy::new(&connection).await?).await };
        self.bus.ask(act, with).await
    }

    async fn read_files(&self) -> Result<(), SystemdError> {
        self.unread.store(false, Ordering::Relaxed);
        let act = || "read its unit files again".to_owned();
        let read = self.manage(act, |manager| async move { manager.reload().await }).await;
        if read.is_err() {
            self.unread.store(true, Ordering::Relaxed);
        }
        read
    }

    async fn catch_up(&self) -> Result<(), SystemdError> {
        if self.unread.load(Ordering::Relaxed) { self.read_files().await } else { Ok(()) }
    }
}

#[async_trait]
impl Units for Systemd {
    async fn states(&self, names: &BTreeSet<String>) -> PortResult<BTreeMap<String, UnitState>> {
        self.catch_up().await?;
        Ok(state::states(&self.bus, names).await?)
    }

    async fn details(&self, names: &BTreeSet<String>) -> PortResult<BTreeMap<String, UnitState>> {
        self.catch_up().await?;
        Ok(state::details(&self.bus, names).await?)
    }

    async fn start(&self, name: &str) -> PortResult<()> {
        self.catch_up().await?;
        job::run(self, Act::Start, name).await.map_err(|error| listeners::explain(error.into()))
    }

    async fn restart(&self, name: &str) -> PortResult<()> {
        self.catch_up().await?;
        job::run(self, Act::Restart, name).await.map_err(|error| listeners::explain(error.into()))
    }

    async fn reload(&self, name: &str) -> PortResult<()> {
        Ok(job::run(self, Act::Reload, name).await?)
    }

    async fn stop(&self, name: &str) -> PortResult<()> {
        Ok(job::run(self, Act::Stop, name).await?)
    }

    async fn enable(&self, name: &str) -> PortResult<()> {
        let act = || format!("enable `{name}`");
        self.manage(act, |manager| async move { manager.enable_unit_files(&[name], false, false).await }).await?;
        self.unread.store(true, Ordering::Relaxed);
        Ok(())
    }

    async fn disable(&self, name: &str) -> PortResult<()> {
        let act = || format!("disable `{name}`");
        let disable = |manager: ManagerProxy<'static>| async move { manager.disable_unit_files(&[name], false).await };
        match self.manage(act, disable).await {
            Ok(_) => self.unread.store(true, Ordering::Relaxed),
            // What does not exist is not started at boot.
            Err(SystemdError::NoUnit { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    async fn mask(&self, name: &str) -> PortResult<()> {
        let act = || format!("mask `{name}`");
        self.manage(act, |manager| async move { manager.mask_unit_files(&[name], false, false).await }).await?;
        self.unread.store(true, Ordering::Relaxed);
        Ok(())
    }

    async fn unmask(&self, name: &str) -> PortResult<()> {
        let act = || format!("unmask `{name}`");
        self.manage(act, |manager| async move { manager.unmask_unit_files(&[name], false).await }).await?;
        self.unread.store(true, Ordering::Relaxed);
        Ok(())
    }

    async fn daemon_reload(&self) -> PortResult<()> {
        Ok(self.read_files().await?)
    }

    async fn failures(&self) -> BoxStream<'static, String> {
        watch::failures().await
    }
}
