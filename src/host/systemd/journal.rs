//! The journal, read through journalctl(1): its file format is private to systemd.

use std::time::Duration;

use systemd_zbus::ManagerProxy;
use tokio::time::Instant;

use super::SystemdError;
use super::bus::{Bus, UNIT, property};
use crate::host::process::{Command, printable, run_ok};
use crate::host::{PortError, PortResult};

/// Most bytes of a tail: a line may be long.
const BYTES: usize = 16 << 10;
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the words of a process are waited for. They come to the journal by another way than systemd's own,
/// and a sync does not always wait for them (seen with systemd 252). Most of what fails says why; what does not
/// is told this much later.
const ON_ITS_WAY: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(20);

/// The last `lines` of the unit's journal, control characters escaped.
pub async fn journal_tail(unit: &str, lines: u32) -> PortResult<String> {
    let lines = tail(unit, about(unit), lines).await;
    lines.map_err(PortError::from)
}

/// What the unit's processes wrote, and what systemd wrote about it (as root: anybody may write of a unit).
/// `--unit=` would leave out what a child of systemd says that could not become the program.
fn about(unit: &str) -> [String; 4] {
    [format!("_SYSTEMD_UNIT={unit}"), "+".to_owned(), format!("UNIT={unit}"), "_UID=0".to_owned()]
}

/// The last lines of the unit's last run. Best effort, for an error that is told with or without.
///
/// By time and not by invocation: journald looks the invocation up when it reads a line, and the process
/// that wrote it may be gone by then.
pub(super) async fn of_last_run(bus: &Bus, unit: &str, lines: u32) -> Option<String> {
    let since = begun(bus, unit).await.map(|us| format!("--since=@{}.{:06}", us / 1_000_000, us % 1_000_000));
    let until = Instant::now() + ON_ITS_WAY;
    loop {
        let _ = run_ok(Command::new("journalctl").arg("--sync").timeout(PATIENCE)).await;
        let said = tail(unit, since.iter().cloned().chain([format!("_SYSTEMD_UNIT={unit}")]), 1).await;
        if said.map_or(true, |said| !said.is_empty()) || Instant::now() >= until {
            break;
        }
        tokio::time::sleep(PAUSE).await;
    }
    let text = tail(unit, since.into_iter().chain(about(unit)), lines).await;
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
