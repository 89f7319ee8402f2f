//! Every route with every kind of caller. Who may not is told so before anything of the body is read.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::body::Body;
use axum::http::Request;
use serde_json::Value;

use super::{World, answer, by};
use crate::controller::api::{LocalPeer, routes};
use crate::controller::store::Scope;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Caller {
    Nobody,
    Garbage,
    Unknown,
    Revoked,
    Basic,
    Token(Scope),
    Socket,
}

const CALLERS: [Caller; 9] = [
    Caller::Nobody,
    Caller::Garbage,
    Caller::Unknown,
    Caller::Revoked,
    Caller::Basic,
    Caller::Token(Scope::Read),
    Caller::Token(Scope::Write),
    Caller::Token(Scope::Admin),
    Caller::Socket,
];

/// A body that notes that it was asked for, and never ends.
fn watched(read: &Arc<AtomicBool>) -> Body {
    let read = read.clone();
    Body::from_stream(futures_util::stream::poll_fn(move |_| {
        read.store(true, Ordering::SeqCst);
        std::task::Poll::Ready(Some(Err::<Vec<u8>, _>(std::io::Error::other("cut"))))
    }))
}

#[tokio::test]
async fn every_route_admits_whom_it_names_and_nobody_else() {
    let world = World::new().await;
    let (revoked, id) = world.token(Scope::Admin).await;
    assert!(world.store().revoke_api_token(id, &by()).await.unwrap());
    let mut tokens = std::collections::BTreeMap::new();
    for scope in [Scope::Read, Scope::Write, Scope::Admin] {
        tokens.insert(scope, world.token(scope).await.0);
    }
    let unknown = format!("socle_{}", "A".repeat(43));
    let mut seen = 0;
    for route in routes() {
        let path = route.path.replace("{number}", "1").replace("{name}", "ks1").replace("{id}", "x");
        for caller in CALLERS {
            let read = Arc::new(AtomicBool::new(false));
            let mut request = Request::builder()
                .method(route.method.clone())
                .uri(&path)
                .header("content-type", "application/json")
                .header("content-length", "1000000000");
            let bearer = |token: &str| format!("Bearer {token}");
            request = match caller {
                Caller::Nobody => request,
                Caller::Garbage => request.header("authorization", bearer("\u{7f}")),
                Caller::Unknown => request.header("authorization", bearer(&unknown)),
                Caller::Revoked => request.header("authorization", bearer(&revoked)),
                Caller::Basic => request.header("authorization", "Basic dXNlcjpwYXNz"),
                Caller::Token(scope) => request.header("authorization", bearer(&tokens[&scope])),
                Caller::Socket => request.extension(LocalPeer { uid: 0 }),
            };
            // A request that cannot be made is refused by the parser of HTTP already.
            let Ok(request) = request.body(watched(&read)) else { continue };
            let (status, body) = answer(&world.router, request).await;
            let what = format!("{} {path} by {caller:?}: {status}", route.method);
            let admitted = match caller {
                Caller::Socket => true,
                Caller::Token(scope) => scope >= route.scope,
                _ => false,
            };
            if admitted {
                assert!(status != 401 && status != 403, "{what}");
            } else {
                let expected = if matches!(caller, Caller::Token(_)) { 403 } else { 401 };
                assert_eq!(status.as_u16(), expected, "{what}");
                assert!(!read.load(Ordering::SeqCst), "{what}: the body was read");
                let told: Value = serde_json::from_slice(&body).unwrap();
                assert!(told["error"]["hint"].is_string(), "{what}: {told}");
            }
            seen += 1;
        }
    }
    assert!(seen >= routes().len() * (CALLERS.len() - 1), "{seen}");
}

#[tokio::test]
async fn what_is_not_there_tells_nobody_anything() {
    let world = World::new().await;
    assert_eq!(world.bad("GET", "/v1/nothing", None).await, (404, "api.no-such-route".to_owned()));
    assert_eq!(world.bad("GET", "/", None).await, (404, "api.no-such-route".to_owned()));
    assert_eq!(world.bad("DELETE", "/v1/fleet/status", None).await, (405, "api.no-such-method".to_owned()));
}

#[tokio::test]
async fn what_is_malformed_is_told() {
    let world = World::new().await;
    for (method, path, body) in [
        ("GET", "/v1/audit?limit=many", None),
        ("GET", "/v1/audit?limt=1", None),
        ("GET", "/v1/fleet/revisions/one", None),
        ("POST", "/v1/servers", Some(serde_json::json!({ "name": "Not A Name" }))),
        ("POST", "/v1/servers", Some(serde_json::json!({ "name": "ks1", "hours": 1000 }))),
        ("POST", "/v1/servers", Some(serde_json::json!({ "nmae": "ks1" }))),
        ("POST", "/v1/fleet/plan", Some(serde_json::json!({}))),
    ] {
        assert_eq!(world.bad(method, path, body).await, (400, "api.malformed".to_owned()), "{method} {path}");
    }
    assert_eq!(world.bad("POST", "/v1/servers", None).await, (415, "api.malformed".to_owned()));
    let long = serde_json::json!({ "name": "x".repeat(100_000) });
    assert_eq!(world.bad("POST", "/v1/servers", Some(long)).await, (413, "api.too-long".to_owned()));
}
