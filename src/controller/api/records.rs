//! What is kept of the past, and the way to keep it.

use axum::body::Body;
use tokio::io::AsyncReadExt;

use super::auth::{Admin, Authorised, Read, Write};
use super::error::Failure;
use super::fleet::at_most;
use super::route::{Answer, Call, Download, Json, Payload};
use super::types::{AlarmName, AuditView, Limit, Nothing, SitesAuthority};
use crate::controller::backup;
use crate::controller::store::AuditEntry;

impl Payload for AlarmName {}

pub(super) async fn audit(
    _: Authorised<Read>,
    call: Call<Nothing, Limit, Nothing>,
) -> Result<Json<Vec<AuditView>>, Failure> {
    let entries = call.app.controller.store.audit(at_most(&call.query)).await?;
    let view = |entry: AuditEntry| {
        let AuditEntry { number, at, who, what, detail } = entry;
        AuditView { number, at, who, what, detail }
    };
    Ok(Json(entries.into_iter().map(view).collect()))
}

pub(super) async fn clear_alarm(
    caller: Authorised<Write>,
    call: Call<Nothing, Nothing, AlarmName>,
) -> Result<Json<Nothing>, Failure> {
    let controller = &call.app.controller;
    let AlarmName { server, code } = call.body;
    match controller.store.clear_alarm(server.as_ref(), &code, &caller.by((controller.now)())).await? {
        true => Ok(Json(Nothing {})),
        false => Err(Failure::NotFound { what: "open alarm", which: code.escape_debug().to_string() }),
    }
}

pub(super) async fn backup(
    caller: Authorised<Admin>,
    call: Call<Nothing, Nothing, Nothing>,
) -> Result<Download, Failure> {
    let controller = &call.app.controller;
    let by = caller.by((controller.now)());
    let file = backup::take(&controller.store, &call.app.home, &by).await?;
    let file = tokio::fs::File::from_std(file);
    let chunks = futures_util::stream::try_unfold(file, async |mut file| {
        let mut chunk = vec![0; 64 << 10];
        let length = file.read(&mut chunk).await?;
        chunk.truncate(length);
        Ok::<_, std::io::Error>((length > 0).then_some((chunk, file)))
    });
    Ok(Download(Body::from_stream(chunks)))
}

pub(super) async fn sites_authority(
    _: Authorised<Read>,
    call: Call<Nothing, Nothing, Nothing>,
) -> Result<Json<SitesAuthority>, Failure> {
    Ok(Json(SitesAuthority { pem: call.app.controller.keys.sites.pem().to_owned() }))
}

/// A JSON document whose form is OpenAPI's.
pub(super) struct Description(serde_json::Value);

impl Answer for Description {
    const MEDIA: &'static str = "application/json";

    fn schema(generator: &mut schemars::SchemaGenerator) -> Option<schemars::Schema> {
        Some(generator.subschema_for::<serde_json::Map<String, serde_json::Value>>())
    }

    fn into_response(self) -> axum::response::Response {
        Json(self.0).into_response()
    }
}

pub(super) async fn openapi(_: Authorised<Read>, _: Call<Nothing, Nothing, Nothing>) -> Result<Description, Failure> {
    Ok(Description(super::description()))
}
