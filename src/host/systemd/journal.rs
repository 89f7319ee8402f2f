//! The journal, read through journalctl(1): its file format is private to systemd.

use std::time::Duration;

use systemd_zbus::ManagerProxy;

use super::SystemdError;
use super::bus::{Bus, UNIT, property};
use crate::host::process::{Command, printable, run_ok};
use crate::host::{PortError, PortResult};

/// Most bytes of a tail: a line may be long.
const BYTES: usize = 16 << 10;
const PATIENCE: Duration = Duration::from_secs(10);

/// The last `lines` of the unit's journal, control characters escaped.
pub async fn journal_tail(unit: &str, lines: u32) -> PortResult<String> {
    let lines = tail(unit, [format!("--unit={unit}")], lines).await;
    lines.map_err(PortError::from)
}

/// The last lines of the unit's last run. Best effort, for an error that is told with or without.
///
/// By time and not by invocation: journald looks the invocation up when it reads a line, and the process
/// that wrote it may be gone by then.
pub(super) async fn of_last_run(bus: &Bus, unit: &str, lines: u32) -> Option<String> {
    // What the process wrote last may still be on its way to the journal.
    let _ = run_ok(Command::new("journalctl").arg("--sync").timeout(PATIENCE)).await;
    let since = begun(bus, unit).await.map(|us| format!("--since=@{}.{:06}", us / 1_000_000, us % 1_000_000));
    let text = tail(unit, since.into_iter().chain([format!("--unit={unit}")]), lines).await;
    text.ok().filter(|text| !text.is_empty())
}

/// When the unit left its rest last, Unix microseconds.
async fn begun(bus: &Bus, unit: &str) -> Option<u64> {
    let us = bus
        .ask(String::new, |connection| async move {
            let path = ManagerProxy::new(&connection).await?.load_unit(unit).await?;
            property(&connection, &path, UNIT, "InactiveExitTimestamp").await
        })
        .await
        .ok()?;
    u64::try_from(us).ok().filter(|us| *us > 0)
}

async fn tail(unit: &str, matches: impl IntoIterator<Item = String>, lines: u32) -> Result<String, SystemdError> {
    let command = Command::new("journalctl")
        .args(["--quiet", "--no-pager", "--output=cat"])
        .arg(format!("--lines={lines}"))
        .args(matches)
        .timeout(PATIENCE)
        .tail(BYTES);
    let output = run_ok(command).await.map_err(|source| SystemdError::Journal { unit: unit.to_owned(), source })?;
    Ok(printable(&output.stdout).trim_end().to_owned())
}
