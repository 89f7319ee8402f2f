//! Plans and pushes, with agents that answer, are away, refuse, or go.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::{World, by, digest, fleet, name, now};
use crate::controller::Controller;
use crate::controller::api::status::Standing;
use crate::controller::api::types::{ApplyLine, DifferenceBetween, FleetStatus, Outcome, PlanLine, ServerPlan};
use crate::controller::hub::What;
use crate::controller::newcomers;
use crate::controller::store::{Greeting, ItemBody, OutboxItem, Received};
use crate::model::event::Event;
use crate::model::fleet::{Mark, Origin, Position};
use crate::model::preview::Preview;
use crate::model::report::{ErrorReport, Line, Report, Status};
use crate::model::{Generation, Kind, Name, ResourceId};
use crate::wire::message::Planned;

/// What a played agent does with a document.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Play {
    Converges,
    Fails,
    Refuses,
    /// Accepts, and its connection ends.
    Goes,
}

fn position(mark: Mark, text: &str, origin: Origin, done: bool) -> Position {
    Position { mark, digest: digest(text), origin, brought_about: done.then_some(mark.generation) }
}

fn report(generation: Generation, converged: bool) -> Report {
    let failed = Line {
        resource: ResourceId::new(Kind::Package, "unzip"),
        owner: None,
        status: Status::Failed {
            change: "install".to_owned(),
            error: ErrorReport {
                code: "package.unknown".to_owned(),
                message: "there is no package `unzip`".to_owned(),
                causes: Vec::new(),
                hint: Some("apt update".to_owned()),
            },
        },
    };
    let lines = if converged { Vec::new() } else { vec![failed] };
    Report {
        generation,
        converged,
        notes: Vec::new(),
        lines,
        certificates: Vec::new(),
        backups: Vec::new(),
        duration_ms: 5,
    }
}

/// Plays the agent of `server` at the hub until the test ends.
async fn play(controller: &Arc<Controller>, server: &str, play: Play) {
    let name = name(server);
    let mut seat = controller.hub.join(&name);
    let greeting = Greeting { server: name.clone(), agent_version: "test".to_owned(), position: None };
    controller.store.connected(&[greeting], controller.instance, now()).await.unwrap();
    let controller = controller.clone();
    let mut sequence = 0;
    // As the session does it: the wake-ups of the store become the hub's.
    let mut watch = controller.store.watch().await.unwrap();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                changed = watch.next() => {
                    let Some(document) = controller.store.newest(&name).await.unwrap() else { continue };
                    if changed != Some(crate::controller::store::Changed::Server(name.clone())) { continue }
                    let (mark, tell) = (document.mark, |what| controller.hub.tell(&name, what));
                    if play == Play::Refuses {
                        let error = report(mark.generation, false).lines.remove(0);
                        let Status::Failed { error, .. } = error.status else { unreachable!() };
                        tell(What::Refused { mark, error, problems: Vec::new() });
                        continue;
                    }
                    let accepted = position(mark, &document.text, Origin::Controller, false);
                    controller.store.note_positions(&[(name.clone(), accepted.clone())], now()).await.unwrap();
                    tell(What::Accepted(accepted));
                    tell(What::Progress(Event::Planned { steps: 1 }));
                    if play == Play::Goes {
                        assert!(controller.hub.leave(&name, seat.number));
                        controller.store.disconnected(std::slice::from_ref(&name), controller.instance, now()).await.unwrap();
                        return;
                    }
                    let converged = play == Play::Converges;
                    let report = report(mark.generation, converged);
                    sequence += 1;
                    let json = serde_json::to_string(&report).unwrap();
                    let body = ItemBody::Report { generation: mark.generation, outcome: "x".to_owned(), json };
                    let items = vec![OutboxItem { sequence, at: now(), body }];
                    let position = Some(position(mark, &document.text, Origin::Controller, converged));
                    controller.store.take_outboxes(&[Received { server: name.clone(), position, items }], now()).await.unwrap();
                    tell(What::Report(Arc::new(report)));
                }
                Some(question) = seat.questions.recv() => {
                    let preview = Preview { steps: Vec::new(), refused: Vec::new(), unknown: Vec::new(), notes: Vec::new() };
                    question.answer.send(Planned::Preview { preview }).unwrap();
                }
            }
        }
    });
}

async fn apply(world: &World, files: Value) -> Vec<ApplyLine> {
    let lines = world.lines("POST", "/v1/fleet/apply", json!({ "files": files, "message": "why" }));
    tokio::time::timeout(Duration::from_secs(60), lines).await.expect("the push ends in time")
}

fn outcome<'l>(lines: &'l [ApplyLine], of: &str) -> &'l Outcome {
    let found = lines.iter().find_map(|line| match line {
        ApplyLine::Server { server, outcome } if server.as_str() == of => Some(outcome),
        _ => None,
    });
    found.unwrap_or_else(|| panic!("nothing of {of} in {lines:?}"))
}

async fn standing(world: &World, of: &str) -> (Standing, Option<String>) {
    let status: FleetStatus = world.get("/v1/fleet/status").await;
    let found = status.servers.into_iter().find(|server| server.server.as_str() == of).unwrap();
    (found.standing, found.hint)
}

#[tokio::test]
async fn a_fleet_is_pushed_and_every_server_is_heard() {
    let world = World::new().await;
    for server in ["ks1", "ks2"] {
        world.enrol(server).await;
        play(&world.app.controller, server, Play::Converges).await;
    }
    let lines = apply(&world, fleet("a")).await;
    let ApplyLine::Pushed { revision, marks, unchanged, not_enrolled, .. } = &lines[0] else { panic!("{lines:?}") };
    assert_eq!((*revision, marks.len(), unchanged.len(), not_enrolled.len()), (Some(1), 2, 0, 0));
    for server in ["ks1", "ks2"] {
        assert!(matches!(outcome(&lines, server), Outcome::Reported { report } if report.converged));
        let accepted =
            lines.iter().position(|l| matches!(l, ApplyLine::Accepted { server: s, .. } if s.as_str() == server));
        let progress =
            lines.iter().position(|l| matches!(l, ApplyLine::Progress { server: s, .. } if s.as_str() == server));
        assert!(accepted.unwrap() < progress.unwrap(), "{lines:?}");
        assert_eq!(standing(&world, server).await, (Standing::AsWanted, None));
    }
    assert_eq!(lines.last(), Some(&ApplyLine::End { converged: true }));

    // The first server's file has another comment, the second's another content: one new document.
    let lines = apply(&world, fleet("b")).await;
    let ApplyLine::Pushed { marks, unchanged, .. } = &lines[0] else { panic!("{lines:?}") };
    assert_eq!(unchanged, &[name("ks1")]);
    assert_eq!(marks, &[(name("ks2"), Mark { epoch: 0, generation: Generation(2) })].into());
    assert_eq!(outcome(&lines, "ks1"), &Outcome::Unchanged { as_wanted: true });
    assert_eq!(lines.last(), Some(&ApplyLine::End { converged: true }));

    let between: DifferenceBetween = world.get("/v1/fleet/diff?from=1&to=2").await;
    assert_eq!(between.difference.to_string(), "ks2\n  files./etc/version.content changed\n");
    let first: DifferenceBetween = world.get("/v1/fleet/diff?to=1").await;
    assert_eq!(first.from, None);
    assert!(first.difference.to_string().contains("one: added: static 1 at ks1.example.org"), "{}", first.difference);
    let history: Vec<Value> = world.get("/v1/fleet/revisions?limit=1").await;
    assert_eq!((history.len(), &history[0]["by"], &history[0]["message"]), (1, &json!("uid:0"), &json!("why")));
    let files: Value = world.get("/v1/fleet/revisions/1").await;
    assert_eq!(files["files"], fleet("a"));
}

#[tokio::test]
async fn a_report_that_cannot_be_read_is_not_taken_for_a_good_one() {
    let world = World::new().await;
    for server in ["ks1", "ks2"] {
        world.enrol(server).await;
        play(&world.app.controller, server, Play::Converges).await;
    }
    apply(&world, fleet("a")).await;
    let json = json!({ "of": "another version" }).to_string();
    let body = ItemBody::Report { generation: Generation(1), outcome: "x".to_owned(), json };
    let items = vec![OutboxItem { sequence: 9, at: now(), body }];
    let received = Received { server: name("ks1"), position: None, items };
    world.store().take_outboxes(&[received], now()).await.unwrap();
    let (standing_now, hint) = standing(&world, "ks1").await;
    assert_eq!(standing_now, Standing::Unknown);
    assert!(hint.unwrap().contains("ssh ks1 socle agent status"));
    let lines = apply(&world, fleet("a")).await;
    assert_eq!(outcome(&lines, "ks1"), &Outcome::Unchanged { as_wanted: false });
    assert_eq!(standing(&world, "ks2").await.0, Standing::AsWanted);
}

#[tokio::test]
async fn who_fails_is_away_refuses_or_is_not_enrolled_is_told_and_holds_nobody_back() {
    let world = World::new().await;
    for server in ["ks1", "ks2"] {
        world.enrol(server).await;
    }
    let controller = &world.app.controller;
    play(controller, "ks1", Play::Fails).await;
    let mut files = fleet("a");
    files["servers/ks3.toml"] = json!("");
    let lines = apply(&world, files).await;
    assert!(matches!(&lines[0], ApplyLine::Pushed { not_enrolled, .. } if not_enrolled == &[name("ks3")]));
    assert!(matches!(outcome(&lines, "ks1"), Outcome::Reported { report } if !report.converged));
    assert_eq!(outcome(&lines, "ks2"), &Outcome::NotConnected { last_seen: None });
    assert_eq!(lines.last(), Some(&ApplyLine::End { converged: false }));
    assert_eq!(standing(&world, "ks1").await, (Standing::Failing, Some("apt update".to_owned())));
    assert_eq!(standing(&world, "ks2").await.0, Standing::Behind);
    assert_eq!(
        standing(&world, "ks3").await,
        (Standing::NotEnrolled, Some("socle controller server add ks3".to_owned()))
    );

    play(controller, "ks2", Play::Refuses).await;
    let lines = apply(&world, fleet("b")).await;
    assert!(matches!(outcome(&lines, "ks2"), Outcome::Refused { error, .. } if error.code == "package.unknown"));
    assert_eq!(outcome(&lines, "ks1"), &Outcome::Unchanged { as_wanted: false });
}

#[tokio::test]
async fn who_goes_in_the_middle_is_waited_for_a_while() {
    let world = World::new().await;
    world.enrol("ks1").await;
    play(&world.app.controller, "ks1", Play::Goes).await;
    let lines: Vec<ApplyLine> = world
        .lines(
            "PUT",
            "/v1/servers/ks1/document",
            json!({ "file": "x.toml", "text": "schema = 1\n[packages]\nhtop = true\n" }),
        )
        .await;
    assert!(matches!(lines[0], ApplyLine::Pushed { revision: None, .. }), "{lines:?}");
    assert!(matches!(lines[1], ApplyLine::Accepted { .. }), "{lines:?}");
    assert_eq!(outcome(&lines, "ks1"), &Outcome::Gone);
}

#[tokio::test]
async fn a_local_branch_is_told_and_stays_until_the_next_apply() {
    let world = World::new().await;
    world.enrol("ks1").await;
    play(&world.app.controller, "ks1", Play::Converges).await;
    let mut files = fleet("a");
    files.as_object_mut().unwrap().retain(|path, _| !path.contains("ks2") && !path.contains("two"));
    apply(&world, files.clone()).await;
    let local = position(Mark { epoch: 0, generation: Generation(2) }, "mine", Origin::Local, true);
    world.store().note_positions(&[(name("ks1"), local)], now()).await.unwrap();
    let (standing_now, hint) = standing(&world, "ks1").await;
    assert_eq!(standing_now, Standing::LocalBranch);
    assert!(hint.unwrap().contains("socle fleet apply"));
    // The same text, and yet a new document: above the branch. The files are no new revision.
    let lines = apply(&world, files).await;
    let ApplyLine::Pushed { marks, revision: None, .. } = &lines[0] else { panic!("{lines:?}") };
    assert_eq!(marks[&name("ks1")].generation, Generation(3));
    assert_eq!(standing(&world, "ks1").await.0, Standing::AsWanted);
}

#[tokio::test]
async fn a_plan_is_the_servers_own_and_changes_nothing() {
    let world = World::new().await;
    world.enrol("ks1").await;
    play(&world.app.controller, "ks1", Play::Converges).await;
    let lines: Vec<PlanLine> = world.lines("POST", "/v1/fleet/plan", json!({ "files": fleet("a") })).await;
    assert!(
        matches!(&lines[0], PlanLine::Fleet { difference: Some(difference), .. } if difference.servers.len() == 2),
        "{lines:?}"
    );
    let plan = |of: &str| {
        let found = lines.iter().find_map(|line| match line {
            PlanLine::Server { server, plan } if server.as_str() == of => Some(plan),
            _ => None,
        });
        found.unwrap()
    };
    assert!(matches!(plan("ks1"), ServerPlan::Planned { planned: Planned::Preview { .. } }));
    assert!(matches!(plan("ks2"), ServerPlan::Unknown { error } if error.hint.is_some()));
    assert_eq!(lines.last(), Some(&PlanLine::End { changes: true }));
    assert_eq!(world.store().revisions(9).await.unwrap(), []);
    assert_eq!(world.store().newest(&name("ks1")).await.unwrap(), None);
    let alone: ServerPlan =
        world.good("POST", "/v1/servers/ks1/plan", Some(json!({ "file": "x", "text": "schema = 1\n" }))).await;
    assert!(matches!(alone, ServerPlan::Planned { .. }));
}

#[tokio::test]
async fn what_is_wrong_is_refused_whole() {
    let world = World::new().await;
    world.enrol("ks1").await;
    let problems = async |method: &str, path: &str, body: Value| {
        let (status, bytes) = world.call(method, path, Some(body)).await;
        assert_eq!(status, 422);
        let told: Value = serde_json::from_slice(&bytes).unwrap();
        let lines = told["problems"].as_array().unwrap().iter();
        lines.map(|p| format!("{}:{}:{}", p["file"].as_str().unwrap(), p["line"], p["column"])).collect::<Vec<_>>()
    };
    let mut files = fleet("a");
    files["instances/one.toml"] =
        json!("server = \"ks1\"\nrecipe = \"statik\"\nversion = \"1\"\ndomain = \"a.example.org\"\n");
    for path in ["/v1/fleet/plan", "/v1/fleet/apply"] {
        assert_eq!(problems("POST", path, json!({ "files": files })).await, ["instances/one.toml:2:10"]);
    }
    files["fleet.toml"] = json!("schema = 1\nname = \"lune\"\n");
    assert_eq!(problems("POST", "/v1/fleet/apply", json!({ "files": files })).await, ["fleet.toml:1:1"]);
    let put =
        async |text: &str| problems("PUT", "/v1/servers/ks1/document", json!({ "file": "f", "text": text })).await;
    assert_eq!(put("schema = 1\n[server]\nname = \"ks2\"\n").await, ["f:3:8"]);
    assert_eq!(put("schema = 1\n[pakages]\n").await, ["f:2:2"]);
    assert_eq!(world.store().newest(&name("ks1")).await.unwrap(), None);
    let document = Some(json!({ "file": "f", "text": "schema = 1\n" }));
    assert_eq!(world.bad("PUT", "/v1/servers/ks9/document", document).await, (404, "api.not-found".to_owned()));
    let late = Some(json!({ "files": fleet("a"), "expect": 7 }));
    assert_eq!(world.bad("POST", "/v1/fleet/apply", late).await, (409, "fleet.overtaken".to_owned()));
}

#[tokio::test]
async fn who_enrols_later_gets_what_waits_for_it_and_who_enrols_anew_gets_it_again() {
    let world = World::new().await;
    apply(&world, fleet("a")).await;
    let running = tokio::spawn(newcomers::run(world.app.controller.clone()));
    let mut watch = world.store().watch().await.unwrap();
    let first = world.enrol("ks1").await;
    let document = until_document(&world, &mut watch, 1).await;
    assert!(document.text.contains("[instances.one]"));
    world.store().evict(&first.name, &by()).await.unwrap();
    let second = world.enrol("ks1").await;
    assert_ne!(first.identity, second.identity);
    let again = until_document(&world, &mut watch, 2).await;
    assert_eq!(again.text, document.text);
    let payload = crate::wire::Envelope::from_json(&again.envelope).unwrap();
    let payload = payload.open(&[world.app.controller.keys.document.public()]).unwrap();
    assert_eq!(payload.identity, second.identity.id());
    // A server that is in no revision gets nothing, and nobody a second time.
    world.enrol("ks9").await;
    apply(&world, fleet("a")).await;
    assert_eq!(world.store().newest(&name("ks9")).await.unwrap(), None);
    assert_eq!(world.store().newest(&name("ks1")).await.unwrap().unwrap().mark.generation, Generation(2));
    running.abort();
}

async fn until_document(
    world: &World,
    watch: &mut crate::controller::store::Watch,
    generation: u64,
) -> crate::controller::store::Document {
    let server: Name = name("ks1");
    let wait = async {
        loop {
            if let Some(document) = world.store().newest(&server).await.unwrap()
                && document.mark.generation == Generation(generation)
            {
                return document;
            }
            watch.next().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait).await.expect("the document comes in time")
}
