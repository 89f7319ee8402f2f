//! One of the providers that the library speaks to, whole: an API of PowerDNS as its documentation describes it, on
//! loopback. The others differ in their words only, which `settings` looks at.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use socle::host::Dns;
use socle::host::dns::ProviderDns;
use socle::model::Domain;
use socle::model::certificate::Provider;

use crate::provider;
use crate::servers::Servers;

const KEY: &str = "a-key-of-the-api";

/// Sets of records of `example.org`, by name, as it holds them: each text in quotes.
type Zone = Arc<Mutex<BTreeMap<String, Vec<String>>>>;

fn allowed(headers: &HeaderMap, zone: &str) -> Result<(), (StatusCode, Json<Value>)> {
    let key = headers.get("x-api-key").and_then(|key| key.to_str().ok()).unwrap_or_default();
    match (key == KEY, zone.trim_end_matches('.')) {
        (false, _) => Err((StatusCode::UNAUTHORIZED, Json(json!({ "error": format!("{key} is no key") })))),
        (true, "example.org") => Ok(()),
        (true, other) => Err((StatusCode::NOT_FOUND, Json(json!({ "error": format!("no zone {other}") })))),
    }
}

async fn read(State(zone): State<Zone>, Path(name): Path<String>, headers: HeaderMap) -> (StatusCode, Json<Value>) {
    if let Err(refused) = allowed(&headers, &name) {
        return refused;
    }
    let set = |(name, values): (&String, &Vec<String>)| {
        let records: Vec<Value> = values.iter().map(|value| json!({ "content": value, "disabled": false })).collect();
        json!({ "name": name, "type": "TXT", "ttl": 60, "records": records })
    };
    let sets: Vec<Value> = zone.lock().unwrap().iter().map(set).collect();
    (StatusCode::OK, Json(json!({ "name": "example.org.", "rrsets": sets })))
}

async fn change(
    State(zone): State<Zone>,
    Path(name): Path<String>,
    headers: HeaderMap,
    Json(asked): Json<Value>,
) -> (StatusCode, Json<Value>) {
    if let Err(refused) = allowed(&headers, &name) {
        return refused;
    }
    for set in asked["rrsets"].as_array().unwrap() {
        let (name, records) = (set["name"].as_str().unwrap().to_owned(), set["records"].as_array());
        match set["changetype"].as_str() {
            Some("REPLACE") => {
                let values = records.unwrap().iter().map(|record| record["content"].as_str().unwrap().to_owned());
                zone.lock().unwrap().insert(name, values.collect());
            }
            Some("DELETE") => drop(zone.lock().unwrap().remove(&name)),
            other => panic!("{other:?}"),
        }
    }
    (StatusCode::NO_CONTENT, Json(Value::Null))
}

async fn api(zone: Zone) -> SocketAddr {
    let router = Router::new().route("/api/v1/servers/localhost/zones/{zone}", get(read).patch(change));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router.with_state(zone)).await });
    address
}

fn at(address: SocketAddr, key: &str) -> Provider {
    provider("powerdns", &[("endpoint", &format!("http://{address}"))], &[("key", key)], &[])
}

#[tokio::test]
async fn values_come_and_go_one_by_one() {
    let servers = Servers::start(true).await;
    let (dns, zone) = (ProviderDns::new(servers.resolver()), Zone::default());
    let ours = at(api(zone.clone()).await, KEY);
    let blog: Domain = "blog.example.org".parse().unwrap();
    let held = || zone.lock().unwrap().values().flatten().cloned().collect::<Vec<_>>();
    for value in ["one", "two", "one"] {
        dns.publish(&ours, &blog, value).await.unwrap();
    }
    assert_eq!(zone.lock().unwrap().keys().collect::<Vec<_>>(), ["_acme-challenge.blog.example.org."]);
    assert_eq!(held(), ["\"one\"", "\"two\""]);
    for value in ["one", "one", "never published"] {
        dns.withdraw(&ours, &blog, value).await.unwrap();
    }
    assert_eq!(held(), ["\"two\""]);
    dns.withdraw(&ours, &blog, "two").await.unwrap();
    assert_eq!(held(), Vec::<String>::new());
}

#[tokio::test]
async fn a_refusal_is_told_without_the_key_and_nobody_is_told_apart() {
    let servers = Servers::start(true).await;
    let (dns, zone) = (ProviderDns::new(servers.resolver()), Zone::default());
    let blog: Domain = "blog.example.org".parse().unwrap();
    let address = api(zone.clone()).await;
    let error = dns.publish(&at(address, "another-key"), &blog, "proof").await.unwrap_err();
    let said = error.report().to_string();
    assert!(said.contains("powerdns") && !said.contains("another-key"), "{said}");
    assert!(zone.lock().unwrap().is_empty());
    let nobody = SocketAddr::new(address.ip(), crate::bind::port());
    let error = dns.publish(&at(nobody, KEY), &blog, "proof").await.unwrap_err();
    assert!(error.retryable && !error.report().to_string().contains(KEY), "{}", error.report());
}
