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
pub(super) async fn of_last_run(bus: &Bus, unit: &str, lines: u32) -> Option<String> {
    // What the process wrote last may still be on its way to the journal.
    let _ = run_ok(Command::new("journalctl").arg("--sync").timeout(PATIENCE)).await;
    let text = match invocation(bus, unit).await {
        // The second field is on systemd's own lines about the unit.
        Some(id) => {
            tail(unit, [format!("_SYSTEMD_INVOCATION_ID={id}"), "+".to_owned(), format!("INVOCATION_ID={id}")], lines)
                .await
        }
        None => tail(unit, [format!("--unit={unit}")], lines).await,
    };
    text.ok().filter(|text| !text.is_empty())
}

async fn invocation(bus: &Bus, unit: &str) -> Option<String> {
    let id = bus
        .ask(String::new, |connection| async move {
            let path = ManagerProxy::new(&connection).await?.load_unit(unit).await?;
            property(&connection, &path, UNIT, "InvocationID").await
        })
        .await
        .ok()?;
    let bytes = Vec::<u8>::try_from(id).ok()?;
    (!bytes.is_empty()).then(|| bytes.iter().map(|byte| format!("{byte:02x}")).collect())
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
