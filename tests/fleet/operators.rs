//! The operators' API in front of real sessions: what an operator asks reaches the agents, and what they answer
//! reaches the operator.

use std::sync::Arc;

use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use socle::controller::api::types::{ApplyLine, FleetStatus, Outcome, PlanLine};
use socle::controller::api::{App, LocalPeer, Patience, router};
use socle::controller::newcomers;
use socle::model::fleet::{Mark, Origin};
use socle::model::preview::Preview;
use socle::model::report::{ErrorReport, Report};
use socle::recipe::Catalog;
use socle::wire::message::{FromAgent, Item, OutboxItem, Planned, ToAgent};
use tower::ServiceExt;

use crate::client::{Client, position};
use crate::world::{World, name, now, until};

pub fn app(world: &World) -> Arc<App> {
    Arc::new(App {
        controller: world.controller.clone(),
        catalog: Catalog::built_in(),
        home: world.path(),
        bootstrap_url: None,
        repository: None,
        patience: Patience::default(),
    })
}

pub async fn lines<T: DeserializeOwned>(app: &Arc<App>, method: &str, path: &str, body: Value) -> Vec<T> {
    let request = Request::builder().method(method).uri(path).extension(LocalPeer { uid: 0 });
    let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
    let request = request.header("content-type", "application/json").body(body).unwrap();
    let response = router(app.clone()).oneshot(request).await.unwrap();
    let status = response.status();
    let text = String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap();
    assert_eq!(status, 200, "{text}");
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn files() -> Value {
    json!({
        "fleet.toml": "schema = 1\nname = \"test\"\n",
        "servers/ks1.toml": "[packages]\nunzip = true\n",
    })
}

/// Answers one plan, then accepts one document and reports.
async fn serve(mut client: Client, converged: bool) {
    loop {
        match client.hear().await {
            ToAgent::Plan { request, envelope } => {
                client.open(&envelope);
                let preview = Preview { steps: vec![], refused: vec![], unknown: vec![], notes: vec![] };
                client.say(FromAgent::Planned { request, plan: Planned::Preview { preview } }).await;
            }
            ToAgent::Document { envelope } => {
                let payload = client.open(&envelope);
                client.accept(&payload).await;
                let generation = payload.mark.generation;
                let report = Report {
                    generation,
                    converged,
                    notes: vec![],
                    lines: vec![],
                    certificates: vec![],
                    backups: vec![],
                    duration_ms: 1,
                };
                let mut position = position(&payload, Origin::Controller);
                position.brought_about = converged.then_some(generation);
                let item = Item::Report { report, position: Some(position) };
                client.say(FromAgent::Outbox { items: vec![OutboxItem { sequence: 1, at: now(), item }] }).await;
            }
            ToAgent::Stored { sequence } => {
                assert_eq!(sequence, 1);
                // Stays connected: the status is asked next.
                let _ = client.try_hear().await;
                return;
            }
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_and_a_push_go_to_the_agent_and_back() {
    let world = World::new().await;
    let app = app(&world);
    let machine = world.join("ks1").await;
    let agent = tokio::spawn(serve(Client::hello(&world, &machine, None).await, true));
    let plan: Vec<PlanLine> = lines(&app, "POST", "/v1/fleet/plan", json!({ "files": files() })).await;
    assert_eq!(plan.last(), Some(&PlanLine::End { changes: false }), "{plan:?}");
    let push: Vec<ApplyLine> = lines(&app, "POST", "/v1/fleet/apply", json!({ "files": files() })).await;
    assert_eq!(push.last(), Some(&ApplyLine::End { converged: true }), "{push:?}");
    let reported = |line: &ApplyLine| matches!(line, ApplyLine::Server { outcome: Outcome::Reported { .. }, .. });
    assert!(push.iter().any(reported), "{push:?}");
    let status: Vec<FleetStatus> = lines(&app, "GET", "/v1/fleet/status", Value::Null).await;
    let server = &status[0].servers[0];
    assert!(server.standing.is_as_wanted() && server.connected, "{server:?}");
    agent.abort();
}

/// A server that cannot even open its document (it takes itself for another, say) does not know its number.
#[tokio::test(flavor = "multi_thread")]
async fn a_document_that_is_refused_unread_is_told_to_who_pushed_it() {
    let world = World::new().await;
    let app = app(&world);
    let machine = world.join("ks1").await;
    let mut client = Client::hello(&world, &machine, None).await;
    let error = ErrorReport { code: "fleet.envelope".into(), message: "unread".into(), causes: vec![], hint: None };
    let told = error.clone();
    let agent = tokio::spawn(async move {
        let payload = client.document().await;
        client.say(FromAgent::Refused { mark: Mark::default(), error: told, problems: vec![] }).await;
        (client, payload)
    });
    let push: Vec<ApplyLine> = lines(&app, "POST", "/v1/fleet/apply", json!({ "files": files() })).await;
    let ended = ApplyLine::Server { server: name("ks1"), outcome: Outcome::Refused { error, problems: vec![] } };
    assert!(push.contains(&ended), "{push:?}");
    let (mut client, payload) = agent.await.unwrap();
    let alarms = || async {
        let status: Vec<FleetStatus> = lines(&app, "GET", "/v1/fleet/status", Value::Null).await;
        status[0].alarms.iter().map(|alarm| alarm.text.clone()).collect::<Vec<_>>()
    };
    let told = [format!("document {} was refused: unread", payload.mark)];
    until("the alarm is raised", || async { (alarms().await == told).then_some(()) }).await;
    // It was mended, and took the document: on this connection, on the next, or between the two.
    client.accept(&payload).await;
    until("the alarm is cleared", || async { alarms().await.is_empty().then_some(()) }).await;
    for position in [None, Some(position(&payload, Origin::Controller))] {
        let error = ErrorReport { code: "ledger".into(), message: "full".into(), causes: vec![], hint: None };
        client.say(FromAgent::Refused { mark: payload.mark, error, problems: vec![] }).await;
        until("the alarm is raised", || async { (alarms().await.len() == 1).then_some(()) }).await;
        client = Client::hello(&world, &machine, position.clone()).await;
        if position.is_none() {
            client.document().await;
            client.accept(&payload).await;
        }
        until("the alarm is cleared", || async { alarms().await.is_empty().then_some(()) }).await;
    }
}

/// Pasted after the fleet was applied, the line of `server add` is all there is to do.
#[tokio::test(flavor = "multi_thread")]
async fn who_joins_later_is_given_its_document() {
    let world = World::new().await;
    let app = app(&world);
    let push: Vec<ApplyLine> = lines(&app, "POST", "/v1/fleet/apply", json!({ "files": files() })).await;
    assert!(matches!(&push[0], ApplyLine::Pushed { not_enrolled, .. } if not_enrolled == &[name("ks1")]), "{push:?}");
    let giving = tokio::spawn(newcomers::run(world.controller.clone()));
    let machine = world.join("ks1").await;
    let mut client = Client::hello(&world, &machine, None).await;
    assert!(client.document().await.text.contains("unzip = true"));
    until("it is told", || async {
        let status: Vec<FleetStatus> = lines(&app, "GET", "/v1/fleet/status", Value::Null).await;
        status[0].servers.first().filter(|server| server.wanted.is_some()).map(|_| ())
    })
    .await;
    giving.abort();
}
