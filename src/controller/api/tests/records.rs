//! Servers, tokens, the audit, the backup, the description.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use sqlx::Connection;

use super::{World, name, now};
use crate::controller::api::types::{Invitation, MadeToken};
use crate::controller::api::{description, routes};
use crate::controller::backup;
use crate::controller::inbox::Entry;
use crate::controller::keys::{self, Keys};
use crate::controller::store::{Greeting, Received, Scope, Server, Store, StoreUrl};
use crate::wire::token::JoinToken;

#[tokio::test]
async fn a_server_is_invited_and_put_out() {
    let world = World::new().await;
    let made: Invitation = world.good("POST", "/v1/servers", Some(json!({ "name": "ks1" }))).await;
    let token: JoinToken = made.token.parse().unwrap();
    assert_eq!(
        (&token.server, token.addresses.as_slice()),
        (&name("ks1"), &["controller.example.org:7443".to_owned()][..])
    );
    assert_eq!(made.expires, now() + jiff::SignedDuration::from_hours(4));
    assert!(
        made.command.starts_with("s=$(curl -fsSL https://packages.example.org/bootstrap.sh) && printf '%s\\n' socle1_")
    );
    let user_data = made.user_data.unwrap();
    let lines = [
        &format!("      {}", made.token),
        "      [Unit]",
        "      ExecStart=/usr/lib/apt/apt-helper download-file https://packages.example.org/bootstrap.sh /run/socle-first-boot/bootstrap.sh",
        "  - [systemctl, enable, --now, --no-block, socle-first-boot.service]",
    ];
    assert!(user_data.starts_with("#cloud-config\n") && !user_data.contains('@'), "{user_data}");
    for line in lines {
        assert!(user_data.lines().any(|said| said == line), "{line}: {user_data}");
    }
    let listed: Vec<Value> = world.get("/v1/join-tokens").await;
    assert_eq!((&listed[0]["id"], &listed[0]["state"]), (&json!(made.id), &json!("open")));
    assert!(!listed[0].to_string().contains("socle1_"));
    let _: Value = world.good("DELETE", &format!("/v1/join-tokens/{}", made.id), None).await;
    let listed: Vec<Value> = world.get("/v1/join-tokens").await;
    assert_eq!(listed[0]["state"], "revoked");
    assert_eq!(world.bad("DELETE", "/v1/join-tokens/0000000000000000", None).await.0, 404);
    assert_eq!(world.bad("DELETE", "/v1/join-tokens/x", None).await.0, 404);

    world.enrol("ks1").await;
    assert_eq!(
        world.bad("POST", "/v1/servers", Some(json!({ "name": "ks1" }))).await,
        (409, "server.enrolled".to_owned())
    );
    let _: Value = world.good("POST", "/v1/servers/ks1/evict", None).await;
    let _: Invitation = world.good("POST", "/v1/servers", Some(json!({ "name": "ks1" }))).await;
    let _: Value = world.good("POST", "/v1/servers/ks1/ban", None).await;
    let listed: Vec<Value> = world.get("/v1/servers").await;
    assert_eq!(listed[0]["state"], "banned");
    assert_eq!(
        world.bad("POST", "/v1/servers", Some(json!({ "name": "ks1" }))).await,
        (409, "server.banned".to_owned())
    );
    assert_eq!(world.bad("POST", "/v1/servers/ks9/ban", None).await, (404, "api.not-found".to_owned()));

    let audit: Vec<Value> = world.get("/v1/audit?limit=100").await;
    let what: BTreeSet<_> = audit.iter().map(|entry| entry["what"].as_str().unwrap()).collect();
    for expected in ["join-token.create", "join-token.revoke", "server.evict", "server.ban"] {
        assert!(what.contains(expected), "{what:?}");
    }
}

#[tokio::test]
async fn an_operators_token_is_shown_once_and_can_be_revoked() {
    let world = World::new().await;
    let made: MadeToken = world.good("POST", "/v1/api-tokens", Some(json!({ "name": "ci", "scope": "read" }))).await;
    assert!(made.token.starts_with("socle_"));
    let (_, listed) = world.call("GET", "/v1/api-tokens", None).await;
    assert!(!String::from_utf8(listed).unwrap().contains(&made.token));
    let raw = std::fs::read(world.home.path().join("controller.db")).unwrap();
    assert!(!raw.windows(made.token.len()).any(|part| part == made.token.as_bytes()));
    let path = format!("/v1/api-tokens/{}", made.id);
    let _: Value = world.good("DELETE", &path, None).await;
    assert_eq!(world.bad("DELETE", &path, None).await, (404, "api.not-found".to_owned()));
}

#[tokio::test]
async fn an_alarm_is_shown_until_it_is_cleared() {
    let world = World::new().await;
    world.store().raise_alarm(Some(&name("ks1")), "join-token.reused", "twice", now()).await.unwrap();
    let status: Value = world.get("/v1/fleet/status").await;
    assert_eq!(status["alarms"][0]["code"], "join-token.reused");
    let alarm = json!({ "server": "ks1", "code": "join-token.reused" });
    let _: Value = world.good("POST", "/v1/alarms/clear", Some(alarm.clone())).await;
    let status: Value = world.get("/v1/fleet/status").await;
    assert_eq!(status["alarms"], json!([]));
    assert_eq!(world.bad("POST", "/v1/alarms/clear", Some(alarm)).await.0, 404);
}

/// Waits until what is stored of `ks1` is so.
async fn until(world: &World, so: impl Fn(&Server) -> bool) {
    let wait = async {
        let mut look = tokio::time::interval(Duration::from_millis(10));
        while !so(&world.store().server(&name("ks1")).await.unwrap().unwrap()) {
            look.tick().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait).await.expect("it is stored in time");
}

#[tokio::test]
async fn that_a_server_is_gone_is_stored_when_the_store_works_again() {
    let world = World::new().await;
    world.enrol("ks1").await;
    let inbox = &world.app.controller.inbox;
    let greeting = Greeting { server: name("ks1"), agent_version: "1".to_owned(), position: None };
    inbox.put(Entry::Greeting(greeting)).await.unwrap();
    until(&world, |server| server.connected_to.is_some()).await;

    let database = format!("sqlite:{}", world.home.path().join("controller.db").display());
    let mut store = sqlx::AnyConnection::connect(&database).await.unwrap();
    let mut sql = async |text: &'static str| sqlx::raw_sql(text).execute(&mut store).await.map(drop).unwrap();
    sql("ALTER TABLE servers RENAME TO away").await;
    inbox.put(Entry::Gone(name("ks1"))).await.unwrap();
    // In order: when this was not stored, the other was tried too.
    let items = Received { server: name("ks1"), position: None, items: Vec::new() };
    inbox.store(items).await.unwrap_err();
    sql("ALTER TABLE away RENAME TO servers").await;
    until(&world, |server| server.connected_to.is_none()).await;
}

async fn restore(file: &Path, url: &StoreUrl, home: &Path) -> Result<(), backup::BackupError> {
    backup::restore(std::fs::File::open(file).unwrap(), file, url, home).await
}

#[tokio::test]
async fn a_backup_makes_a_new_machine_the_same_controller() {
    let world = World::new().await;
    world.enrol("ks1").await;
    world.token(Scope::Read).await;
    // What leads from the fleet's first key for documents to the present one is in it too.
    let keys = world.home.path().join(keys::DIRECTORY);
    let rotated = Keys::rotate(&keys, jiff::Timestamp::UNIX_EPOCH, |seed| seed.fill(9)).unwrap();
    let (status, bytes) = world.call("POST", "/v1/backup", None).await;
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&bytes));
    let left: Vec<_> = std::fs::read_dir(world.home.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(!left.iter().any(|file| file.to_string_lossy().starts_with(".backup")), "{left:?}");

    let other = tempfile::tempdir().unwrap();
    let file = other.path().join("backup.tar");
    std::fs::write(&file, &bytes).unwrap();
    let home = other.path().join("home");
    std::fs::create_dir(&home).unwrap();
    let url = StoreUrl::sqlite(home.join("controller.db"));
    restore(&file, &url, &home).await.unwrap();
    let restored = Store::open(&url).await.unwrap();
    assert_eq!(restored.servers().await.unwrap().len(), 1);
    assert_eq!(restored.fleet().await.unwrap(), world.store().fleet().await.unwrap());
    let keys = Keys::load(&home.join(keys::DIRECTORY)).unwrap();
    assert_eq!((keys.document.public(), keys.succession.len()), (rotated.to, 1));
    assert_eq!(rotated.from, world.app.controller.keys.document.public());
    restored.close().await;
    drop(restored);
    // Again is fine; over the keys of another fleet it is not.
    restore(&file, &url, &home).await.unwrap();
    let another = World::new().await;
    let refused = restore(&file, &StoreUrl::sqlite(another.home.path().join("x.db")), another.home.path()).await;
    assert!(matches!(refused, Err(backup::BackupError::KeysExist(_))), "{refused:?}");
}

#[tokio::test]
async fn what_is_no_backup_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("backup.tar");
    let url = StoreUrl::sqlite(dir.path().join("controller.db"));
    let archive = |entries: &[(&str, &str)]| {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, text) in entries {
            let mut header = tar::Header::new_gnu();
            header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
            header.set_size(text.len() as u64);
            header.set_entry_type(tar::EntryType::Regular);
            header.set_cksum();
            tar.append(&header, text.as_bytes()).unwrap();
        }
        tar.into_inner().unwrap()
    };
    let keys = [("keys/authority.pem", "x"), ("keys/authority.key", "x"), ("keys/document.key", "x")];
    let cases = [
        archive(&[]),
        archive(&[("../../etc/passwd", "x")]),
        archive(&[("keys/../other", "x")]),
        archive(&keys),
        archive(&[keys[0], keys[1], keys[2], ("controller.db", "no database")]),
        b"no archive".to_vec(),
    ];
    for (number, bytes) in cases.into_iter().enumerate() {
        std::fs::write(&file, bytes).unwrap();
        let refused = restore(&file, &url, dir.path()).await;
        assert!(refused.is_err(), "case {number}");
        assert!(!dir.path().join("controller.db").exists(), "case {number}");
        assert!(!dir.path().join("keys/authority.key").exists(), "case {number}");
    }
}

#[test]
fn the_published_description_is_current_and_whole() {
    let description = description();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("schema/openapi.json");
    let text = format!("{}\n", serde_json::to_string_pretty(&description).unwrap());
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap_or_default(), text, "UPDATE=1 writes it");

    let mut operations = BTreeSet::new();
    for route in routes() {
        let operation = &description["paths"][route.path][route.method.as_str().to_lowercase()];
        assert_eq!(operation["x-scope"], route.scope.as_str(), "{}", route.path);
        assert!(operations.insert(operation["operationId"].as_str().unwrap().to_owned()), "{}", route.path);
        for part in route.path.split('/').filter_map(|part| part.strip_prefix('{')) {
            let name = part.trim_end_matches('}');
            let listed = operation["parameters"].as_array().unwrap();
            assert!(listed.iter().any(|p| p["name"] == name && p["in"] == "path" && p["required"] == true), "{name}");
        }
    }
    let mut references = 0;
    every_reference(&description, &mut |reference| {
        references += 1;
        let found = description.pointer(reference.strip_prefix('#').unwrap());
        assert!(found.is_some(), "{reference} leads nowhere");
    });
    assert!(references > 40, "{references}");
}

fn every_reference(value: &Value, found: &mut impl FnMut(&str)) {
    match value {
        Value::Array(parts) => parts.iter().for_each(|part| every_reference(part, found)),
        Value::Object(fields) => {
            if let Some(Value::String(reference)) = fields.get("$ref") {
                found(reference);
            }
            fields.values().for_each(|part| every_reference(part, found));
        }
        _ => {}
    }
}
