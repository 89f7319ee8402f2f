//! The fleet as a whole: its status, its history, plans and pushes of a whole directory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use futures_util::StreamExt;

use super::App;
use super::auth::{Authorised, Read, Write};
use super::error::Failure;
use super::rollout::{self, Push};
use super::route::{Call, Json, Lines, Payload};
use super::status::{LastReport, Standing, failed};
use super::types::{
    AlarmView, ApplyLine, Between, DifferenceBetween, FleetApply, FleetPlan, FleetStatus, Limit, Nothing, NumberPath,
    Outcome, PlanLine, RevisionFiles, RevisionView, ServerPlan, ServerStatus,
};
use crate::controller::compose::{self, Documents, Files, Fleet};
use crate::controller::push::PlanError;
use crate::controller::store::{
    Alarm, NewRevision, Newest, Revision, RevisionSummary, Server, ServerState, StoreError,
};
use crate::model::Name;
use crate::model::problem::{Position, Problem};
use crate::model::report::ErrorReport;
use crate::wire::message::Planned;

/// A fleet as JSON: its bytes, and room for escapes.
const FILES_BYTES: usize = 2 * compose::MAX_BYTES + (1 << 20);

impl Payload for FleetPlan {
    const MAX_BYTES: usize = FILES_BYTES;
}

impl Payload for FleetApply {
    const MAX_BYTES: usize = FILES_BYTES;
}

/// How long an agent may take to compute a plan: sizes of downloads are asked for on the way.
pub(super) const PLAN_WITHIN: Duration = Duration::from_secs(120);
/// Plans that are waited for at once.
const PLANS: usize = 64;

pub(super) async fn status(
    _: Authorised<Read>,
    call: Call<Nothing, Nothing, Nothing>,
) -> Result<Json<FleetStatus>, Failure> {
    let controller = &call.app.controller;
    let store = &controller.store;
    let servers = store.servers().await?;
    let newest: BTreeMap<_, _> = store.newest_marks().await?.into_iter().map(|n| (n.server.clone(), n)).collect();
    let reports = reports(&call.app).await?;
    let revision = store.newest_revision().await?;
    let known: BTreeSet<_> = servers.iter().map(|server| server.name.clone()).collect();
    let mut statuses: Vec<_> = servers
        .iter()
        .map(|server| server_status(&call.app, server, newest.get(&server.name), last(&reports, &server.name)))
        .collect();
    let in_the_fleet = revision.iter().flat_map(|revision| servers_of(&revision.files));
    statuses.extend(in_the_fleet.filter(|name| !known.contains(name)).map(not_enrolled));
    statuses.sort_by(|left, right| left.server.cmp(&right.server));
    let alarms = store.alarms(100).await?.into_iter().filter(|alarm| alarm.cleared.is_none()).map(alarm_view);
    Ok(Json(FleetStatus {
        fleet: controller.fleet.name.clone(),
        revision: revision.map(|revision| view(&summary(&revision))),
        servers: statuses,
        alarms: alarms.collect(),
    }))
}

/// The last report of each server that has reported.
async fn reports(app: &App) -> Result<BTreeMap<Name, LastReport>, StoreError> {
    let stored = app.controller.store.reports().await?;
    Ok(stored.into_iter().map(|stored| (stored.server, LastReport::parse(&stored.json))).collect())
}

fn last<'a>(reports: &'a BTreeMap<Name, LastReport>, server: &Name) -> &'a LastReport {
    reports.get(server).unwrap_or(&LastReport::Missing)
}

pub(super) fn is_connected(app: &App, server: &Server) -> bool {
    let elsewhere = server.connected_to.is_some_and(|instance| instance != app.controller.instance);
    elsewhere || app.controller.hub.is_connected(&server.name)
}

fn server_status(app: &App, server: &Server, newest: Option<&Newest>, report: &LastReport) -> ServerStatus {
    let connected = is_connected(app, server);
    let position = server.position.as_ref();
    let standing = match server.state {
        ServerState::Enrolled => Standing::of(newest.map(|newest| (newest.mark, newest.digest)), position, report),
        ServerState::Banned => Standing::Banned,
        ServerState::Evicted => Standing::Evicted,
    };
    let (note, hint) = standing.words(server.name.as_str(), connected);
    let failed = match standing {
        Standing::AsWanted | Standing::Evicted | Standing::Banned => Vec::new(),
        _ => report.read().map(failed).unwrap_or_default(),
    };
    let hint = hint.or_else(|| failed.iter().find_map(|line| line.hint.clone()));
    ServerStatus {
        server: server.name.clone(),
        standing,
        connected,
        last_seen: server.last_seen,
        agent_version: server.agent_version.clone(),
        sealing_key: Some(BASE64_STANDARD.encode(server.sealing)),
        wanted: newest.map(|newest| newest.mark),
        applied: position.map(|position| position.mark),
        origin: position.map(|position| position.origin),
        brought_about: position.and_then(|position| position.brought_about),
        failed,
        note,
        hint,
    }
}

fn not_enrolled(server: Name) -> ServerStatus {
    let (note, hint) = Standing::NotEnrolled.words(server.as_str(), false);
    ServerStatus {
        server,
        standing: Standing::NotEnrolled,
        connected: false,
        last_seen: None,
        agent_version: None,
        sealing_key: None,
        wanted: None,
        applied: None,
        origin: None,
        brought_about: None,
        failed: Vec::new(),
        note,
        hint,
    }
}

/// By the names of their files: a revision was composed once, so they are names.
fn servers_of(files: &Files) -> impl Iterator<Item = Name> {
    files.keys().filter_map(|path| path.strip_prefix("servers/")?.strip_suffix(".toml")?.parse().ok())
}

pub(super) fn alarm_view(alarm: Alarm) -> AlarmView {
    let Alarm { server, code, text, at, last_at, times, cleared: _ } = alarm;
    AlarmView { server, code, text, at, last_at, times }
}

fn view(revision: &RevisionSummary) -> RevisionView {
    let RevisionSummary { number, at, by, message } = revision.clone();
    RevisionView { number, at, by, message }
}

fn summary(revision: &Revision) -> RevisionSummary {
    let Revision { number, at, by, message, files: _ } = revision.clone();
    RevisionSummary { number, at, by, message }
}

pub(super) fn at_most(limit: &Limit) -> u32 {
    limit.limit.unwrap_or(50).min(1000)
}

pub(super) async fn revisions(
    _: Authorised<Read>,
    call: Call<Nothing, Limit, Nothing>,
) -> Result<Json<Vec<RevisionView>>, Failure> {
    let revisions = call.app.controller.store.revisions(at_most(&call.query)).await?;
    Ok(Json(revisions.iter().map(view).collect()))
}

pub(super) async fn revision(
    _: Authorised<Read>,
    call: Call<NumberPath, Nothing, Nothing>,
) -> Result<Json<RevisionFiles>, Failure> {
    let revision = find(&call.app, call.path.number).await?;
    Ok(Json(RevisionFiles { revision: view(&summary(&revision)), files: revision.files }))
}

async fn find(app: &App, number: u64) -> Result<Revision, Failure> {
    let found = app.controller.store.revision(number).await?;
    found.ok_or_else(|| Failure::NotFound { what: "revision", which: number.to_string() })
}

pub(super) async fn diff(
    _: Authorised<Read>,
    call: Call<Nothing, Between, Nothing>,
) -> Result<Json<DifferenceBetween>, Failure> {
    let to = match call.query.to {
        Some(number) => find(&call.app, number).await?,
        None => {
            let newest = call.app.controller.store.newest_revision().await?;
            newest.ok_or_else(|| Failure::NotFound { what: "revision", which: "newest".to_owned() })?
        }
    };
    let from = match call.query.from.unwrap_or(to.number - 1) {
        // Before the first there was nothing.
        0 => None,
        number => Some(find(&call.app, number).await?),
    };
    let old = from.as_ref().map(documents).transpose()?.unwrap_or_default();
    let difference = compose::diff(&old, &documents(&to)?, &call.app.catalog);
    Ok(Json(DifferenceBetween { from: from.map(|from| from.number), to: to.number, difference }))
}

/// Of a revision, which was composed when it was applied; another program may judge otherwise.
fn documents(revision: &Revision) -> Result<Documents, Failure> {
    let composed = compose::compose(&revision.files);
    composed.map(|fleet| fleet.documents()).map_err(|_| Failure::OldRevision(revision.number))
}

/// A fleet in all its aspects, or all that is wrong with it.
fn judged(app: &App, files: &Files) -> Result<(Fleet, Vec<Problem>), Failure> {
    let fleet = compose::compose(files).map_err(Failure::Refused)?;
    let ours = &app.controller.fleet.name;
    if fleet.name != *ours {
        let at = Position::of("fleet.toml", files.get("fleet.toml").map_or("", String::as_str), 0);
        let reason = format!("this is the fleet `{}`, and the controller is of the fleet `{ours}`", fleet.name);
        let hint = Some(format!("write `name = \"{ours}\"`, or ask the other fleet's controller"));
        return Err(Failure::Refused(vec![Problem { at, reason, hint }]));
    }
    let checked = compose::check_recipes(&fleet, files, &app.catalog);
    if checked.problems.is_empty() { Ok((fleet, checked.notes)) } else { Err(Failure::Refused(checked.problems)) }
}

async fn enrolled(app: &App) -> Result<BTreeMap<Name, Server>, Failure> {
    let servers = app.controller.store.servers().await?;
    let enrolled = servers.into_iter().filter(|server| server.state == ServerState::Enrolled);
    Ok(enrolled.map(|server| (server.name.clone(), server)).collect())
}

pub(super) async fn plan(
    _: Authorised<Write>,
    call: Call<Nothing, Nothing, FleetPlan>,
) -> Result<Lines<PlanLine>, Failure> {
    let app = call.app;
    let (fleet, notes) = judged(&app, &call.body.files)?;
    let newest = app.controller.store.newest_revision().await?;
    // That an old revision cannot be read any more does not keep the servers from being asked.
    let old = newest.map_or(Some(Documents::new()), |revision| documents(&revision).ok());
    let difference = old.map(|old| compose::diff(&old, &fleet.documents(), &app.catalog));
    let first = PlanLine::Fleet { difference, notes };
    let asked = futures_util::stream::iter(fleet.servers)
        .map(move |(server, composed)| {
            let app = app.clone();
            async move {
                let plan = ask(&app, &server, &composed.text).await;
                PlanLine::Server { server, plan }
            }
        })
        .buffer_unordered(PLANS);
    // The last line says whether any server has something to do.
    let lines = futures_util::stream::once(async { first }).chain(asked).map(Some);
    let lines = lines.chain(futures_util::stream::once(async { None })).scan(false, |changes, line| {
        *changes |= line.as_ref().is_some_and(has_changes);
        let line = line.unwrap_or(PlanLine::End { changes: *changes });
        std::future::ready(Some(line))
    });
    Ok(Lines(Box::pin(lines)))
}

/// What is not known to be nothing counts as a change.
fn has_changes(line: &PlanLine) -> bool {
    match line {
        PlanLine::Server { plan: ServerPlan::Planned { planned: Planned::Preview { preview } }, .. } => {
            !preview.is_empty()
        }
        PlanLine::Server { .. } => true,
        PlanLine::Fleet { .. } | PlanLine::End { .. } => false,
    }
}

pub(super) async fn ask(app: &App, server: &Name, text: &str) -> ServerPlan {
    match app.controller.plan(server, text, PLAN_WITHIN).await {
        Ok(planned) => ServerPlan::Planned { planned },
        Err(error) => {
            let hint = match &error {
                PlanError::NoSuchServer(name) => Some(format!("socle controller server add {name}")),
                PlanError::Ask(_) | PlanError::Late { .. } => Some("socle fleet status".to_owned()),
                PlanError::Store(error) => error.hint(),
            };
            ServerPlan::Unknown { error: ErrorReport::of("server.no-plan", &error, hint) }
        }
    }
}

pub(super) async fn apply(
    caller: Authorised<Write>,
    call: Call<Nothing, Nothing, FleetApply>,
) -> Result<Lines<ApplyLine>, Failure> {
    let app = call.app;
    let FleetApply { files, message, expect } = call.body;
    let (fleet, notes) = judged(&app, &files)?;
    let newest = app.controller.store.newest_revision().await?;
    let number = newest.as_ref().map_or(0, |revision| revision.number);
    if let Some(expected) = expect.filter(|expected| *expected != number) {
        return Err(Failure::Overtaken { expected, newest: number });
    }
    let here = enrolled(&app).await?;
    let mut texts: BTreeMap<Name, String> =
        fleet.servers.into_iter().map(|(name, composed)| (name, composed.text)).collect();
    let not_enrolled: Vec<Name> = texts.keys().filter(|name| !here.contains_key(*name)).cloned().collect();
    texts.retain(|name, _| here.contains_key(name));
    // Before the push: an agent may answer before this task goes on.
    let heard = app.controller.hub.watch();
    // The same files again are no new revision: somebody may apply every hour.
    let is_new = newest.is_none_or(|newest| newest.files != files);
    let revision = is_new.then_some(NewRevision { message, files });
    let pushed = app.controller.push(texts, revision, &caller.by((app.controller.now)())).await?;
    let settled = unchanged(&app, &pushed.unchanged, &here).await?;
    let first = ApplyLine::Pushed {
        revision: pushed.revision,
        marks: pushed.marks.clone(),
        unchanged: pushed.unchanged,
        not_enrolled,
        notes,
    };
    Ok(rollout::follow(app, heard, Push { first, marks: pushed.marks, settled }))
}

/// How the servers stand whose document stays the same.
pub(super) async fn unchanged(
    app: &Arc<App>,
    names: &[Name],
    servers: &BTreeMap<Name, Server>,
) -> Result<Vec<(Name, Outcome)>, Failure> {
    let newest: BTreeMap<_, _> =
        app.controller.store.newest_marks().await?.into_iter().map(|n| (n.server.clone(), n)).collect();
    let reports = reports(app).await?;
    let as_wanted = |name: &Name| {
        let newest = newest.get(name).map(|newest| (newest.mark, newest.digest));
        let position = servers.get(name).and_then(|server| server.position.as_ref());
        Standing::of(newest, position, last(&reports, name)).is_as_wanted()
    };
    Ok(names.iter().map(|name| (name.clone(), Outcome::Unchanged { as_wanted: as_wanted(name) })).collect())
}
