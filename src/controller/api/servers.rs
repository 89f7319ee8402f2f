//! Single servers: let in, put out, give a document.

use std::collections::BTreeMap;

use jiff::SignedDuration;

use super::App;
use super::auth::{Admin, Authorised, Read, Write};
use super::error::Failure;
use super::fleet::{ask, is_connected, unchanged};
use super::invitation;
use super::rollout::{self, Push};
use super::route::{Call, Json, Lines, Payload};
use super::types::{ApplyLine, Invitation, NewServer, Nothing, ServerDocument, ServerPath, ServerPlan, ServerView};
use crate::controller::store::{NewJoinToken, Server, ServerState};
use crate::model::document;
use crate::model::problem::{Position, Problem};
use crate::recipe::{Facts, check_document};
use crate::wire::tls;
use crate::wire::token::JoinToken;

impl Payload for NewServer {}

impl Payload for ServerDocument {
    const MAX_BYTES: usize = 2 * document::MAX_BYTES + (64 << 10);
}

/// Hours a join token lives, if nothing is said; and at most.
const TOKEN_HOURS: u32 = 4;
const MOST_TOKEN_HOURS: u32 = 7 * 24;

pub(super) async fn list(
    _: Authorised<Read>,
    call: Call<Nothing, Nothing, Nothing>,
) -> Result<Json<Vec<ServerView>>, Failure> {
    let servers = call.app.controller.store.servers().await?;
    Ok(Json(servers.into_iter().map(|server| view(&call.app, server)).collect()))
}

fn view(app: &App, server: Server) -> ServerView {
    ServerView {
        connected: is_connected(app, &server),
        state: server.state.as_str().to_owned(),
        last_seen: server.last_seen,
        enrolled: server.enrolled_at,
        certificate_until: server.certificate.map(|certificate| certificate.not_after),
        agent_version: server.agent_version,
        position: server.position,
        server: server.name,
    }
}

pub(super) async fn add(
    caller: Authorised<Admin>,
    call: Call<Nothing, Nothing, NewServer>,
) -> Result<Json<Invitation>, Failure> {
    let controller = &call.app.controller;
    let NewServer { name, hours } = call.body;
    let hours = hours.unwrap_or(TOKEN_HOURS);
    if !(1..=MOST_TOKEN_HOURS).contains(&hours) {
        return Err(Failure::Malformed(format!("`hours` is 1 to {MOST_TOKEN_HOURS}")));
    }
    if controller.store.server(&name).await?.is_some_and(|server| server.state == ServerState::Enrolled) {
        return Err(Failure::Enrolled(name));
    }
    let now = (controller.now)();
    let expires = now.saturating_add(SignedDuration::from_hours(hours.into())).unwrap_or(jiff::Timestamp::MAX);
    let pin = tls::pin(controller.keys.authority.certificate())?;
    let token = JoinToken::new(name.clone(), controller.addresses.clone(), pin, expires, controller.random);
    let kept = NewJoinToken { id: token.id, server: name.clone(), public_key: token.key().public(), expires };
    controller.store.create_join_token(&kept, &caller.by(now)).await?;
    let (id, token) = (token.id.to_string(), token.to_string());
    let command = invitation::command(&call.app, &token);
    let user_data = invitation::user_data(&call.app, &token);
    Ok(Json(Invitation { server: name, id, token, expires, command, user_data }))
}

pub(super) async fn ban(
    caller: Authorised<Admin>,
    call: Call<ServerPath, Nothing, Nothing>,
) -> Result<Json<Nothing>, Failure> {
    let controller = &call.app.controller;
    controller.store.ban(&call.path.name, &caller.by((controller.now)())).await?;
    controller.hub.cut(&call.path.name);
    Ok(Json(Nothing {}))
}

pub(super) async fn evict(
    caller: Authorised<Admin>,
    call: Call<ServerPath, Nothing, Nothing>,
) -> Result<Json<Nothing>, Failure> {
    let controller = &call.app.controller;
    controller.store.evict(&call.path.name, &caller.by((controller.now)())).await?;
    controller.hub.cut(&call.path.name);
    Ok(Json(Nothing {}))
}

/// A document in all its aspects that the controller can judge.
async fn judged(app: &App, path: &ServerPath, sent: &ServerDocument) -> Result<Server, Failure> {
    let found = app.controller.store.server(&path.name).await?;
    let server = found.filter(|server| server.state == ServerState::Enrolled);
    let server = server.ok_or_else(|| Failure::NotFound { what: "server", which: path.name.to_string() })?;
    let ServerDocument { file, text } = sent;
    let document = document::parse(file, text).map_err(Failure::Refused)?;
    let at = |path: &[String]| document::position_of(file, text, path);
    let problem = |at: Position, reason: String, hint: Option<String>| Problem { at, reason, hint };
    if let Some(other) = document.server.name.as_ref().filter(|name| **name != path.name) {
        let at = at(&["server".to_owned(), "name".to_owned()]);
        let reason = format!("this is the document of `{other}`, not of `{}`", path.name);
        return Err(Failure::Refused(vec![problem(at, reason, None)]));
    }
    // What every Debian refuses. The agent knows its own, and has the last word.
    let debians = [12, 13].into_iter().filter_map(Facts::of_debian);
    let mut refused = debians.map(|facts| check_document(&document, &app.catalog, &facts));
    let first = refused.next().unwrap_or_default();
    let everywhere = refused.fold(first, |left, right| left.into_iter().filter(|p| right.contains(p)).collect());
    if everywhere.is_empty() {
        return Ok(server);
    }
    Err(Failure::Refused(everywhere.into_iter().map(|p| problem(at(&p.path), p.reason, p.hint)).collect()))
}

pub(super) async fn put_document(
    caller: Authorised<Write>,
    call: Call<ServerPath, Nothing, ServerDocument>,
) -> Result<Lines<ApplyLine>, Failure> {
    let Call { app, path, body, .. } = call;
    let server = judged(&app, &path, &body).await?;
    let heard = app.controller.hub.watch();
    let texts = BTreeMap::from([(path.name.clone(), body.text)]);
    let pushed = app.controller.push(texts, None, &caller.by((app.controller.now)())).await?;
    let settled = unchanged(&app, &pushed.unchanged, &BTreeMap::from([(path.name, server)])).await?;
    let first = ApplyLine::Pushed {
        revision: None,
        marks: pushed.marks.clone(),
        unchanged: pushed.unchanged,
        not_enrolled: Vec::new(),
        notes: Vec::new(),
    };
    Ok(rollout::follow(app, heard, Push { first, marks: pushed.marks, settled }))
}

pub(super) async fn plan_document(
    _: Authorised<Write>,
    call: Call<ServerPath, Nothing, ServerDocument>,
) -> Result<Json<ServerPlan>, Failure> {
    judged(&call.app, &call.path, &call.body).await?;
    Ok(Json(ask(&call.app, &call.path.name, &call.body.text).await))
}
