//! Tokens: of servers that join, and of operators.

use super::App;
use super::auth::{Admin, Authorised, new_token};
use super::error::Failure;
use super::route::{Call, Json, Payload};
use super::types::{IdPath, JoinTokenView, MadeToken, NewToken, Nothing, TokenView};
use crate::controller::new_id;
use crate::controller::store::{ApiToken, JoinToken, NewApiToken};

impl Payload for NewToken {}

pub(super) async fn join_tokens(
    _: Authorised<Admin>,
    call: Call<Nothing, Nothing, Nothing>,
) -> Result<Json<Vec<JoinTokenView>>, Failure> {
    let tokens = call.app.controller.store.join_tokens().await?;
    Ok(Json(tokens.into_iter().map(|token| join_token(&call.app, token)).collect()))
}

fn join_token(app: &App, token: JoinToken) -> JoinTokenView {
    let state = match &token {
        JoinToken { redeemed: Some(_), .. } => "used",
        JoinToken { revoked: Some(_), .. } => "revoked",
        token if token.is_open((app.controller.now)()) => "open",
        _ => "expired",
    };
    JoinTokenView {
        id: token.id.to_string(),
        server: token.server,
        state: state.to_owned(),
        created: token.created,
        created_by: token.created_by,
        expires: token.expires,
    }
}

pub(super) async fn revoke_join_token(
    caller: Authorised<Admin>,
    call: Call<IdPath, Nothing, Nothing>,
) -> Result<Json<Nothing>, Failure> {
    let unknown = || Failure::NotFound { what: "join token", which: call.path.id.escape_debug().to_string() };
    let id = call.path.id.parse().map_err(|_| unknown())?;
    let controller = &call.app.controller;
    controller.store.revoke_join_token(id, &caller.by((controller.now)())).await?;
    Ok(Json(Nothing {}))
}

pub(super) async fn api_tokens(
    _: Authorised<Admin>,
    call: Call<Nothing, Nothing, Nothing>,
) -> Result<Json<Vec<TokenView>>, Failure> {
    let tokens = call.app.controller.store.api_tokens().await?;
    Ok(Json(tokens.into_iter().map(view).collect()))
}

fn view(token: ApiToken) -> TokenView {
    let ApiToken { id, name, scope, digest: _, created, created_by, revoked, last_used } = token;
    TokenView { id: id.to_string(), name, scope, created, created_by, last_used, revoked }
}

pub(super) async fn add_api_token(
    caller: Authorised<Admin>,
    call: Call<Nothing, Nothing, NewToken>,
) -> Result<Json<MadeToken>, Failure> {
    let controller = &call.app.controller;
    let NewToken { name, scope } = call.body;
    let now = (controller.now)();
    let (token, digest) = new_token(controller.random);
    let id = new_id(now, controller.random);
    controller.store.create_api_token(&NewApiToken { id, name: name.clone(), scope, digest }, &caller.by(now)).await?;
    Ok(Json(MadeToken { id: id.to_string(), name, scope, token }))
}

pub(super) async fn revoke_api_token(
    caller: Authorised<Admin>,
    call: Call<IdPath, Nothing, Nothing>,
) -> Result<Json<Nothing>, Failure> {
    let unknown = || Failure::NotFound { what: "API token", which: call.path.id.escape_debug().to_string() };
    let id = call.path.id.parse().map_err(|_| unknown())?;
    let controller = &call.app.controller;
    match controller.store.revoke_api_token(id, &caller.by((controller.now)())).await? {
        true => Ok(Json(Nothing {})),
        false => Err(unknown()),
    }
}
