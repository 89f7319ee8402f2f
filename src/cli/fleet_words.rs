//! Fleets, servers and tokens as text.

use std::fmt::Write as _;

use anstyle::Style;
use jiff::Timestamp;

use super::print::{BAD, BOLD, DIM, GOOD, WARN};
use crate::controller::api::status::Standing;
use crate::controller::api::types::{
    AuditView, FleetStatus, JoinTokenView, RevisionView, ServerStatus, ServerView, TokenView,
};
use crate::model::fleet::Origin;

/// Everything is as wanted, and nothing is to be looked at.
pub fn is_well(status: &FleetStatus) -> bool {
    let well = |server: &ServerStatus| match server.standing {
        Standing::AsWanted => server.connected,
        Standing::Banned | Standing::Evicted => true,
        _ => false,
    };
    status.alarms.is_empty() && status.servers.iter().all(well)
}

pub fn status(status: &FleetStatus) -> String {
    let mut out = String::new();
    let revision = match &status.revision {
        Some(revision) => line_of(revision),
        None => "nothing was applied yet".to_owned(),
    };
    let _ = writeln!(out, "{BOLD}{}{BOLD:#}  {revision}", status.fleet);
    if status.servers.is_empty() {
        let _ = writeln!(out, "no server yet\n{BOLD}hint:{BOLD:#} socle controller server add NAME");
    }
    for server in &status.servers {
        of_server(&mut out, server);
    }
    for alarm in &status.alarms {
        let server = alarm.server.as_ref().map(|server| format!("{server}: ")).unwrap_or_default();
        let times = if alarm.times > 1 { format!(", {} times", alarm.times) } else { String::new() };
        let (text, code) = (&alarm.text, &alarm.code);
        let _ = writeln!(out, "{BAD}alarm{BAD:#} {server}{text} ({code}, {}{times})", minute(alarm.last_at));
        let server = alarm.server.as_ref().map(|server| format!(" --server {server}")).unwrap_or_default();
        let _ =
            writeln!(out, "  {BOLD}hint:{BOLD:#} once it is looked into: socle controller clear-alarm {code}{server}");
    }
    out
}

fn of_server(out: &mut String, server: &ServerStatus) {
    let (style, word) = standing(server.standing);
    let connected = match (server.connected, server.last_seen) {
        (true, _) => "connected".to_owned(),
        (false, Some(at)) => format!("{BAD}not connected{BAD:#} since {}", minute(at)),
        (false, None) => "never connected".to_owned(),
    };
    let generation = match (server.applied, server.wanted) {
        (Some(applied), Some(wanted)) if applied == wanted => format!("  generation {applied}"),
        (Some(applied), Some(wanted)) => format!("  generation {applied} (wanted: {wanted})"),
        (Some(applied), None) => format!("  generation {applied}"),
        (None, Some(wanted)) => format!("  generation none (wanted: {wanted})"),
        (None, None) => String::new(),
    };
    let local = if server.origin == Some(Origin::Local) { ", applied on the server itself" } else { "" };
    let _ = writeln!(out, "{BOLD}{}{BOLD:#}  {style}{word}{style:#}  {connected}{generation}{local}", server.server);
    if let Some(note) = &server.note {
        let _ = writeln!(out, "  {note}");
    }
    for line in &server.failed {
        let instance = line.instance.as_ref().map(|name| format!("{name}: ")).unwrap_or_default();
        let _ = writeln!(out, "  {BAD}problem{BAD:#} {instance}{}: {}", line.resource, line.what);
        // The server's own hint is shown below.
        if let Some(hint) = line.hint.as_ref().filter(|hint| server.hint.as_ref() != Some(*hint)) {
            let _ = writeln!(out, "    {BOLD}hint:{BOLD:#} {hint}");
        }
    }
    if let Some(hint) = &server.hint {
        let _ = writeln!(out, "  {BOLD}hint:{BOLD:#} {hint}");
    }
}

fn standing(standing: Standing) -> (Style, &'static str) {
    match standing {
        Standing::AsWanted => (GOOD, "as wanted"),
        Standing::Applying => (WARN, "at work"),
        Standing::Failing => (BAD, "not as wanted"),
        Standing::Unknown => (BAD, "unknown"),
        Standing::Behind => (WARN, "behind"),
        Standing::LocalBranch => (WARN, "local branch"),
        Standing::Ahead => (WARN, "ahead"),
        Standing::Conflict => (BAD, "conflict"),
        Standing::NoDocument => (WARN, "no document"),
        Standing::NotEnrolled => (DIM, "not enrolled"),
        Standing::Evicted => (DIM, "evicted"),
        Standing::Banned => (DIM, "banned"),
    }
}

fn minute(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M UTC").to_string()
}

fn line_of(revision: &RevisionView) -> String {
    let message =
        if revision.message.is_empty() { String::new() } else { format!(": {}", one_line(&revision.message)) };
    format!("revision {} by {}, {}{message}", revision.number, revision.by, minute(revision.at))
}

/// Written by somebody else: nothing a terminal would act on.
fn one_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().chars().filter(|c| !c.is_control()).collect()
}

pub fn history(revisions: &[RevisionView]) -> String {
    if revisions.is_empty() {
        return "nothing was applied yet\n".to_owned();
    }
    revisions.iter().map(|revision| format!("{}\n", line_of(revision))).collect()
}

pub fn servers(servers: &[ServerView]) -> String {
    let line = |server: &ServerView| {
        let seen = match (server.connected, server.last_seen) {
            (true, _) => "connected".to_owned(),
            (false, Some(at)) => format!("last seen {}", minute(at)),
            (false, None) => "never seen".to_owned(),
        };
        let version = server.agent_version.as_ref().map(|version| format!("  agent {version}")).unwrap_or_default();
        format!("{:<16} {:<9} {seen}{version}  enrolled {}\n", server.server, server.state, minute(server.enrolled))
    };
    servers.iter().map(line).collect()
}

pub fn join_tokens(tokens: &[JoinTokenView]) -> String {
    let line = |token: &JoinTokenView| {
        let JoinTokenView { id, server, state, created, created_by, expires } = token;
        let (created, expires) = (minute(*created), minute(*expires));
        format!("{id}  {server:<16} {state:<8} made {created} by {created_by}, expires {expires}\n")
    };
    tokens.iter().map(line).collect()
}

pub fn api_tokens(tokens: &[TokenView]) -> String {
    let line = |token: &TokenView| {
        let used = token.last_used.map_or("never used".to_owned(), |at| format!("last used {}", minute(at)));
        let state = token.revoked.map_or(used, |at| format!("revoked {}", minute(at)));
        let (id, name, scope) = (&token.id, &token.name, token.scope.as_str());
        format!("{id}  {name:<16} {scope:<6} made {} by {}, {state}\n", minute(token.created), token.created_by)
    };
    tokens.iter().map(line).collect()
}

pub fn audit(entries: &[AuditView]) -> String {
    let line = |entry: &AuditView| {
        format!("{:>6}  {}  {}  {}  {}\n", entry.number, minute(entry.at), entry.who, entry.what, entry.detail)
    };
    entries.iter().map(line).collect()
}
