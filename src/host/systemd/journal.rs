//! The journal, read through journalctl(1): its file format is private to systemd.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
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
/// Lines at the end of the journal that are looked through.
const AT_THE_END: u32 = 200;
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
/// that wrote it may be gone by then. And the time is compared here, over the journal's end as it is: lines of a
/// process are dated when they are read, those of systemd when they are sent, so the journal is not in the order
/// of its dates, and journalctl (seen with systemd 252) then does not find all that `--since` and a unit ask for.
pub(super) async fn of_last_run(bus: &Bus, unit: &str, lines: u32) -> Option<String> {
    let since = begun(bus, unit).await.unwrap_or_default();
    let until = Instant::now() + ON_ITS_WAY;
    let mut said = loop {
        let _ = run_ok(Command::new("journalctl").arg("--sync").timeout(PATIENCE)).await;
        let said = Said::of_unit(unit, lines, since).await;
        if said.iter().any(|line| line.by_the_unit) || Instant::now() >= until {
            break said;
        }
        tokio::time::sleep(PAUSE).await;
    };
    let last = said.split_off(said.len().saturating_sub(lines as usize));
    let text: Vec<String> = last.into_iter().map(|line| line.text).collect();
    Some(text.join("\n")).filter(|text| !text.is_empty())
}

/// A line of the journal.
struct Said {
    text: String,
    /// By a process of the unit; else by systemd, about it.
    by_the_unit: bool,
}

/// A line as journalctl prints it (`--output=json`, see journalctl(1)): numbers are texts, and a text with control
/// characters is its bytes.
#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "__CURSOR")]
    cursor: String,
    #[serde(rename = "__REALTIME_TIMESTAMP")]
    at_us: String,
    #[serde(rename = "MESSAGE", default)]
    message: Value,
    #[serde(rename = "_SYSTEMD_UNIT", default)]
    of: Value,
    #[serde(rename = "UNIT", default)]
    about: Value,
    #[serde(rename = "_UID", default)]
    user: Value,
}

impl Said {
    /// What the index finds of the unit, and what the end of the journal shows: in the order of their dates.
    async fn of_unit(unit: &str, lines: u32, since_us: u64) -> Vec<Self> {
        let mut found = BTreeMap::new();
        for (most, matches) in [(lines, about(unit).to_vec()), (AT_THE_END, Vec::new())] {
            let command = Command::new("journalctl")
                .args(["--quiet", "--no-pager", "--output=json", "--output-fields=MESSAGE,_SYSTEMD_UNIT,UNIT,_UID"])
                .arg(format!("--lines={most}"))
                .args(matches)
                .timeout(PATIENCE)
                .tail(BYTES * 16);
            let Ok(output) = run_ok(command).await else { continue };
            for entry in output.stdout.split(|byte| *byte == b'\n') {
                // A first line that was cut off is none.
                let Ok(entry) = serde_json::from_slice::<Entry>(entry) else { continue };
                let at_us = entry.at_us.parse::<u64>().unwrap_or_default();
                if let Some(said) = entry.said(unit).filter(|_| at_us >= since_us) {
                    found.insert((at_us, entry.cursor), said);
                }
            }
        }
        found.into_values().collect()
    }
}

impl Entry {
    /// As root: anybody may write of a unit.
    fn said(&self, unit: &str) -> Option<Said> {
        let by_the_unit = self.of == unit;
        let by_systemd = self.about == unit && self.user == "0";
        let text = match &self.message {
            Value::String(text) => printable(text.as_bytes()),
            Value::Array(bytes) => {
                let bytes = bytes.iter().filter_map(|byte| byte.as_u64()?.try_into().ok());
                printable(&bytes.collect::<Vec<u8>>())
            }
            _ => String::new(),
        };
        (by_the_unit || by_systemd).then_some(Said { text, by_the_unit })
    }
}

/// When the last run began, Unix microseconds.
async fn begun(bus: &Bus, unit: &str) -> Option<u64> {
    let timestamps = bus
        .ask(String::new, |connection| async move {
            let path = ManagerProxy::new(&connection).await?.load_unit(unit).await?;
            let left_rest = property(&connection, &path, UNIT, "InactiveExitTimestamp").await?;
            Ok((left_rest, property(&connection, &path, UNIT, "ConditionTimestamp").await?))
        })
        .await
        .ok()?;
    let [left_rest, judged] = [timestamps.0, timestamps.1].map(|at| u64::try_from(at).unwrap_or_default());
    began(left_rest, judged)
}

/// systemd notes that a unit left its rest after it has started the process, which may have spoken before (seen 0.5 ms
/// before, on a busy machine). The unit's conditions are judged just before that.
fn began(left_rest: u64, judged: u64) -> Option<u64> {
    let before = Some(judged).filter(|judged| (1..=left_rest).contains(judged));
    before.or(Some(left_rest)).filter(|at| *at > 0)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_begins_before_its_process_speaks() {
        assert_eq!(began(1_000_500, 1_000_000), Some(1_000_000));
        assert_eq!(began(1_000_500, 0), Some(1_000_500), "no condition was judged");
        assert_eq!(began(1_000_500, 2_000_000), Some(1_000_500), "the conditions of a start that came to nothing");
        assert_eq!(began(0, 0), None);
    }

    #[test]
    fn lines_are_of_the_unit_or_of_systemd_about_it() {
        let said = |json: &str| {
            let entry: Entry = serde_json::from_str(json).unwrap();
            entry.said("a.service").map(|said| (said.text, said.by_the_unit))
        };
        let head = r#""__CURSOR":"c","__REALTIME_TIMESTAMP":"7""#;
        let own = format!(r#"{{{head},"MESSAGE":[119,27,91],"_SYSTEMD_UNIT":"a.service","_UID":"998"}}"#);
        assert_eq!(said(&own), Some(("w\\u{1b}[".to_owned(), true)));
        let about =
            format!(r#"{{{head},"MESSAGE":"it ended","_SYSTEMD_UNIT":"init.scope","UNIT":"a.service","_UID":"0"}}"#);
        assert_eq!(said(&about), Some(("it ended".to_owned(), false)));
        assert_eq!(said(&about.replace(r#""_UID":"0""#, r#""_UID":"1000""#)), None, "anybody may write of a unit");
        assert_eq!(said(&own.replace("a.service", "b.service")), None);
    }
}
