//! Data to standard output, the rest to standard error. Colour only on a terminal and without
//! `NO_COLOR` (anstream looks).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;

use anstyle::{AnsiColor, Style};
use serde::Serialize;

use crate::agent::status::{InstanceStatus, State, Status};
use crate::engine::consequence::{Consequence, Preview, PreviewStep};
use crate::model::backup::BackupStanding;
use crate::model::certificate::Standing;
use crate::model::problem::Problem;
use crate::model::report::{ErrorReport, Line, Report, Status as LineStatus};

/// A line to standard error. That nobody can read it (a closed pipe, a full disk behind it) does not stop
/// the work; `eprintln!` would panic.
macro_rules! tell {
    ($($arg:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(anstream::stderr(), $($arg)*);
    }};
}
pub(super) use tell;

pub(super) const GOOD: Style = AnsiColor::Green.on_default();
pub(super) const BAD: Style = AnsiColor::Red.on_default().bold();
pub(super) const WARN: Style = AnsiColor::Yellow.on_default();
pub(super) const DIM: Style = Style::new().dimmed();
pub(super) const BOLD: Style = Style::new().bold();

pub fn json(value: &impl Serialize) -> anyhow::Result<()> {
    let mut text = serde_json::to_vec_pretty(value)?;
    text.push(b'\n');
    raw(&text)
}

pub fn raw(bytes: &[u8]) -> anyhow::Result<()> {
    let mut out = anstream::stdout().lock();
    out.write_all(bytes)?;
    out.flush()?;
    Ok(())
}

pub fn error(message: &str, hint: Option<&str>) {
    tell!("{BAD}error:{BAD:#} {message}");
    if let Some(hint) = hint {
        tell!("{BOLD}hint:{BOLD:#} {hint}");
    }
}

pub fn error_report(report: &ErrorReport) {
    error(&report.message, None);
    for cause in &report.causes {
        tell!("  because: {cause}");
    }
    if let Some(hint) = &report.hint {
        tell!("{BOLD}hint:{BOLD:#} {hint}");
    }
}

pub fn problems(problems: &[Problem]) {
    for problem in problems {
        tell!("{BAD}error:{BAD:#} {problem}");
    }
    let count = problems.len();
    tell!("{count} problem{} found, nothing was changed", if count == 1 { "" } else { "s" });
}

/// Of what follows it, on standard output.
pub fn heading(text: &str) -> anyhow::Result<()> {
    raw(format!("{BOLD}{text}{BOLD:#}\n").as_bytes())
}

/// What is no problem here, and may be one on a server.
pub fn problem_notes(notes: &[Problem]) {
    for note in notes {
        tell!("{WARN}note:{WARN:#} {note}");
    }
}

pub fn preview(preview: &Preview) -> anyhow::Result<()> {
    let mut out = String::new();
    for note in &preview.notes {
        writeln!(out, "{WARN}note:{WARN:#} {note}")?;
    }
    if preview.is_empty() {
        writeln!(out, "nothing to do")?;
    }
    let mut by_owner: BTreeMap<&str, Vec<&PreviewStep>> = BTreeMap::new();
    for step in &preview.steps {
        by_owner.entry(step.owner.as_deref().unwrap_or("server")).or_default().push(step);
    }
    for (owner, steps) in by_owner {
        writeln!(out, "{BOLD}{owner}{BOLD:#}")?;
        for step in steps {
            let on: Vec<String> = step.on.iter().map(ToString::to_string).collect();
            let on = if on.len() > 1 { format!("{} packages", on.len()) } else { on.concat() };
            writeln!(out, "  {on}: {}{}", step.change, consequences(&step.consequences))?;
            if let Some(by) = &step.blocked_by {
                writeln!(out, "    {WARN}will wait for{WARN:#} {by}")?;
            }
        }
    }
    for (id, error) in &preview.refused {
        said(&mut out, "refused", &id.to_string(), error)?;
    }
    for (id, error) in &preview.unknown {
        said(&mut out, "could not look", &id.to_string(), error)?;
    }
    if !preview.steps.is_empty() {
        writeln!(out, "{} change(s)", preview.steps.len())?;
    }
    raw(out.as_bytes())
}

fn consequences(consequences: &[Consequence]) -> String {
    let words: Vec<String> = consequences
        .iter()
        .map(|consequence| match consequence {
            Consequence::Download { bytes: Some(0) } => "nothing to download".to_owned(),
            Consequence::Download { bytes: Some(bytes) } => format!("download {}", size(*bytes)),
            Consequence::Download { bytes: None } => "download of unknown size".to_owned(),
            Consequence::Restart => "restart".to_owned(),
            Consequence::Downtime => "not served until it is started again".to_owned(),
            Consequence::PointOfNoReturn => "point of no return, after a dump".to_owned(),
            Consequence::Destroys => "destroys data".to_owned(),
        })
        .collect();
    if words.is_empty() { String::new() } else { format!(" {WARN}[{}]{WARN:#}", words.join(", ")) }
}

pub fn report(report: &Report, verbose: bool) -> anyhow::Result<()> {
    let mut out = String::new();
    for note in &report.notes {
        writeln!(out, "{WARN}note:{WARN:#} {note}")?;
    }
    for line in &report.lines {
        report_line(&mut out, line, verbose)?;
    }
    for standing in report.certificates.iter().filter(|standing| verbose || !super::cert::is_well(standing)) {
        writeln!(out, "{BOLD}certificate {}{BOLD:#}", standing.name)?;
        super::cert::lines(&mut out, standing)?;
    }
    let changed = report.lines.iter().filter(|line| matches!(line.status, LineStatus::Changed { .. })).count();
    let seconds = format!("{:.1} s", report.duration_ms as f64 / 1000.0);
    let total = report.lines.len();
    if report.converged && changed == 0 {
        writeln!(out, "{GOOD}nothing to do{GOOD:#}: {total} resources are as wanted ({seconds})")?;
    } else if report.converged {
        writeln!(out, "{GOOD}done{GOOD:#}: {changed} of {total} resources changed, all are as wanted ({seconds})")?;
    } else {
        writeln!(out, "{BAD}not as wanted yet{BAD:#}: see above ({seconds})")?;
    }
    raw(out.as_bytes())
}

fn report_line(out: &mut String, line: &Line, verbose: bool) -> std::fmt::Result {
    let id = line.resource.to_string();
    match &line.status {
        LineStatus::InSync if verbose => writeln!(out, "{DIM}ok{DIM:#}       {id}"),
        LineStatus::InSync => Ok(()),
        LineStatus::Changed { changes } => writeln!(out, "{GOOD}changed{GOOD:#}  {id}: {}", changes.join("; ")),
        LineStatus::Pending { changes } => writeln!(out, "{WARN}pending{WARN:#}  {id}: {}", changes.join("; ")),
        LineStatus::Failed { change, error } => said(out, "failed", &format!("{id}: {change}"), error),
        LineStatus::Blocked { by } => writeln!(out, "{WARN}blocked{WARN:#}  {id}: waits for {by}"),
        LineStatus::Refused { error } => said(out, "refused", &id, error),
        LineStatus::Unknown { error } => said(out, "unknown", &id, error),
    }
}

fn said(out: &mut String, word: &str, what: &str, error: &ErrorReport) -> std::fmt::Result {
    writeln!(out, "{BAD}{word}{BAD:#} {what}: {}", error.message)?;
    for cause in &error.causes {
        writeln!(out, "    because: {cause}")?;
    }
    if let Some(hint) = &error.hint {
        writeln!(out, "    {BOLD}hint:{BOLD:#} {hint}")?;
    }
    Ok(())
}

pub fn status(status: &Status) -> anyhow::Result<()> {
    let mut out = String::new();
    match (status.accepted_at, status.converged) {
        (None, _) => writeln!(out, "no document was accepted yet\n{BOLD}hint:{BOLD:#} socle agent apply FILE")?,
        (Some(at), converged) => {
            let word = match converged {
                Some(true) => format!("{GOOD}as wanted{GOOD:#}"),
                Some(false) => format!("{BAD}not as wanted{BAD:#}"),
                None => "not brought about yet".to_owned(),
            };
            writeln!(out, "generation {} of {}: {word}", status.generation, at.strftime("%Y-%m-%d %H:%M UTC"))?;
        }
    }
    for instance in &status.instances {
        let certificate = status.certificates.iter().find(|standing| standing.name == instance.name);
        instance_status(&mut out, instance, certificate)?;
        for backup in status.backups.iter().filter(|backup| backup.instance == instance.name) {
            backup_line(&mut out, backup)?;
        }
    }
    for unit in &status.services {
        writeln!(out, "{BOLD}{}{BOLD:#}  {} ({})", unit.unit, unit.active, unit.sub)?;
    }
    for problem in &status.problems {
        writeln!(out, "{BAD}problem{BAD:#} {problem}")?;
    }
    raw(out.as_bytes())
}

fn backup_line(out: &mut String, backup: &BackupStanding) -> std::fmt::Result {
    let repository = &backup.repository;
    match (backup.good_at, backup.bytes) {
        (Some(at), bytes) => {
            let bytes = bytes.map(|bytes| format!(", {}", size(bytes))).unwrap_or_default();
            writeln!(out, "  {GOOD}backup{GOOD:#} of {} in `{repository}`{bytes}", time(at))?;
        }
        (None, _) => writeln!(out, "  {WARN}no backup yet{WARN:#} in `{repository}`")?,
    }
    if let Some(drill) = &backup.drill
        && let Some(ms) = drill.rto_ms
    {
        let seconds = std::time::Duration::from_millis(ms).as_secs_f64();
        writeln!(out, "  {GOOD}drill{GOOD:#} of {}: back in {seconds:.1} s", time(drill.at))?;
    }
    if let Some(problem) = backup.problem() {
        let act = if backup.drill_failed() { "drill" } else { "now" };
        writeln!(out, "  {BAD}problem{BAD:#} {problem}")?;
        writeln!(out, "  {BOLD}hint:{BOLD:#} socle agent backup {act} {} --repository {repository}", backup.instance)?;
    }
    Ok(())
}

fn instance_status(out: &mut String, instance: &InstanceStatus, certificate: Option<&Standing>) -> std::fmt::Result {
    let (style, word) = match instance.state {
        State::Running => (GOOD, "running"),
        State::Stopped => (DIM, "stopped"),
        State::Failed => (BAD, "failed"),
        State::Absent => (DIM, "absent"),
        State::Unknown => (WARN, "unknown"),
    };
    let version = match &instance.running_version {
        Some(running) if *running == instance.wanted_version => running.clone(),
        Some(running) => format!("{running} (wanted: {})", instance.wanted_version),
        None => format!("not installed (wanted: {})", instance.wanted_version),
    };
    let since = instance.since.map(|at| format!(" since {}", at.strftime("%Y-%m-%d %H:%M UTC"))).unwrap_or_default();
    let (name, recipe, domain) = (&instance.name, &instance.recipe, &instance.domain);
    writeln!(out, "{BOLD}{name}{BOLD:#}  {style}{word}{style:#}{since}  {recipe} {version}  {domain}")?;
    for unit in &instance.units {
        let memory = unit.memory_bytes.map(|bytes| format!(", {}", size(bytes))).unwrap_or_default();
        writeln!(out, "  {} {} ({}{memory})", unit.unit, unit.active, unit.sub)?;
    }
    if let Some(standing) = certificate {
        super::cert::lines(out, standing)?;
    }
    for problem in &instance.problems {
        writeln!(out, "  {BAD}problem{BAD:#} {problem}")?;
    }
    if let Some(next) = &instance.next {
        writeln!(out, "  {BOLD}hint:{BOLD:#} {next}")?;
    }
    Ok(())
}

/// A moment, to the minute.
pub fn time(at: jiff::Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M UTC").to_string()
}

/// A size in IEC units with one decimal.
pub fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            return if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}

#[cfg(test)]
mod tests {
    #[test]
    fn sizes() {
        assert_eq!(super::size(0), "0 B");
        assert_eq!(super::size(1023), "1023 B");
        assert_eq!(super::size(22_354_772), "21.3 MiB");
        assert_eq!(super::size(u64::MAX), "16777216.0 TiB");
    }
}
