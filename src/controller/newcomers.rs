//! Servers that enrol after their fleet was applied: each is given the document that waits for it.
//!
//! Level-triggered: whoever is enrolled and has no document signed for its present identity gets one, if the newest
//! revision holds it or an earlier enrolment had it. Two controllers may both do it; the newer of two equal
//! documents counts.

use std::sync::Arc;

use super::Controller;
use super::compose;
use super::push::PushError;
use super::store::{By, Changed, Document, Server, ServerState, StoreError};
use crate::model::Name;
use crate::model::report::ErrorReport;
use crate::wire::Envelope;

/// Until the store is gone.
pub async fn run(controller: Arc<Controller>) -> Result<(), StoreError> {
    let mut watch = controller.store.watch().await?;
    all(&controller).await;
    while let Some(changed) = watch.next().await {
        match changed {
            Changed::Server(name) => one(&controller, &name).await,
            Changed::Everything => all(&controller).await,
        }
    }
    Ok(())
}

async fn all(controller: &Controller) {
    match controller.store.servers().await {
        Ok(servers) => {
            for server in servers {
                one(controller, &server.name).await;
            }
        }
        Err(error) => tracing::warn!("{}", ErrorReport::of("store", &error, error.hint())),
    }
}

async fn one(controller: &Controller, name: &Name) {
    match give(controller, name).await {
        Ok(()) => {}
        // It is tried again at its next change, and by the next `fleet apply`.
        Err(error) => tracing::warn!(server = %name, "{}", ErrorReport::of("newcomer", &error, None)),
    }
}

async fn give(controller: &Controller, name: &Name) -> Result<(), PushError> {
    let found = controller.store.server(name).await?;
    let Some(server) = found.filter(|server| server.state == ServerState::Enrolled) else { return Ok(()) };
    let had = controller.store.newest(name).await?;
    if had.as_ref().is_some_and(|document| is_for(controller, document, &server)) {
        return Ok(());
    }
    let revision = controller.store.newest_revision().await?;
    let of_the_fleet = match revision.map(|revision| (revision.number, compose::compose(&revision.files))) {
        Some((number, Err(problems))) => {
            // It was composed once, by an earlier program. What the server had before still stands.
            let problems = problems.len();
            tracing::warn!(server = %name, "revision {number} cannot be composed any more: {problems} problem(s)");
            None
        }
        Some((_, Ok(fleet))) => Some(fleet),
        None => None,
    };
    let of_the_fleet = of_the_fleet.and_then(|mut fleet| fleet.servers.remove(name)).map(|composed| composed.text);
    let Some(text) = of_the_fleet.or(had.map(|document| document.text)) else { return Ok(()) };
    controller.push_anew(name, text, &By::new(format!("server:{name}"), (controller.now)())).await?;
    Ok(())
}

/// Signed for the identity the server has now.
fn is_for(controller: &Controller, document: &Document, server: &Server) -> bool {
    let opened = Envelope::from_json(&document.envelope)
        .and_then(|envelope| envelope.open(&[controller.keys.document.public()]));
    opened.is_ok_and(|payload| payload.is_for(controller.fleet.id, &server.name, server.identity.id()).is_ok())
}
