//! The real router on a real store; agents are played at the hub, where their sessions would be.

mod authorisation;
mod doors;
mod pushes;
mod records;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use http_body_util::BodyExt;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::{App, LocalPeer, Patience, new_token, router};
use crate::controller::Controller;
use crate::controller::init::{Answers, init};
use crate::controller::keys::{self, Keys};
use crate::controller::store::{By, NewApiToken, NewJoinToken, Redemption, Scope, Server, Store, StoreUrl};
use crate::model::{Digest, Name};
use crate::recipe::Catalog;
use crate::wire::SigningKey;
use crate::wire::token::TokenId;

pub fn now() -> jiff::Timestamp {
    "2026-11-23T12:00:00Z".parse().unwrap()
}

fn random(bytes: &mut [u8]) {
    getrandom::fill(bytes).unwrap();
}

pub fn by() -> By {
    By::new("test", now())
}

pub struct World {
    pub app: Arc<App>,
    pub router: Router,
    pub home: tempfile::TempDir,
}

impl World {
    pub async fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let url = StoreUrl::sqlite(home.path().join("controller.db"));
        let hosts = vec!["controller.example.org".to_owned()];
        let answers = Answers { fleet: name("sol"), hosts, port: 7443, bootstrap_url: None };
        let made = init(home.path(), &url, &answers, &by(), random).await.unwrap();
        let store = Store::open(&url).await.unwrap();
        let keys = Keys::load(&home.path().join(keys::DIRECTORY)).unwrap();
        let fleet = store.fleet().await.unwrap().unwrap();
        let controller = Arc::new(Controller::new(
            crate::controller::new_id(now(), random),
            store,
            keys,
            fleet,
            made.addresses,
            now,
            random,
        ));
        let app = Arc::new(App {
            controller,
            catalog: Catalog::built_in(),
            home: home.path().to_owned(),
            bootstrap_url: Some("https://packages.example.org/bootstrap.sh".to_owned()),
            repository: None,
            patience: Patience {
                back_within: Duration::from_millis(50),
                look_every: Duration::from_millis(10),
                ..Patience::default()
            },
        });
        Self { router: router(app.clone()), app, home }
    }

    pub fn store(&self) -> &Store {
        &self.app.controller.store
    }

    /// A token with this scope.
    pub async fn token(&self, scope: Scope) -> (String, uuid::Uuid) {
        let (token, digest) = new_token(random);
        let id = crate::controller::new_id(now(), random);
        let new = NewApiToken { id, name: name("ci"), scope, digest };
        self.store().create_api_token(&new, &by()).await.unwrap();
        (token, id)
    }

    pub async fn enrol(&self, server: &str) -> Server {
        let mut id = [0; 8];
        random(&mut id);
        let key = SigningKey::generate(random).public();
        let expires = now() + jiff::SignedDuration::from_hours(4);
        let token = NewJoinToken { id: TokenId(id), server: name(server), public_key: key, expires };
        self.store().create_join_token(&token, &by()).await.unwrap();
        let id = crate::controller::new_id(now(), random);
        let redemption =
            Redemption { token: token.id, id, identity: SigningKey::generate(random).public(), sealing: [7; 32] };
        self.store().redeem(&redemption, now()).await.unwrap()
    }

    /// As the local administrator.
    pub async fn call(&self, method: &str, path: &str, body: Option<Value>) -> (StatusCode, Vec<u8>) {
        let mut request = Request::builder().method(method).uri(path).extension(LocalPeer { uid: 0 });
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        let body = body.map_or(Body::empty(), |body| Body::from(body.to_string()));
        answer(&self.router, request.body(body).unwrap()).await
    }

    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> T {
        self.good("GET", path, None).await
    }

    pub async fn good<T: DeserializeOwned>(&self, method: &str, path: &str, body: Option<Value>) -> T {
        let (status, bytes) = self.call(method, path, body).await;
        assert_eq!(status, StatusCode::OK, "{method} {path}: {}", String::from_utf8_lossy(&bytes));
        serde_json::from_slice(&bytes).unwrap()
    }

    pub async fn lines<T: DeserializeOwned>(&self, method: &str, path: &str, body: Value) -> Vec<T> {
        let (status, bytes) = self.call(method, path, Some(body)).await;
        let text = String::from_utf8(bytes).unwrap();
        assert_eq!(status, StatusCode::OK, "{method} {path}: {text}");
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The code and hint of a failure.
    pub async fn bad(&self, method: &str, path: &str, body: Option<Value>) -> (u16, String) {
        let (status, bytes) = self.call(method, path, body).await;
        let value: Value = serde_json::from_slice(&bytes).unwrap();
        assert!(!status.is_server_error(), "{method} {path}: {value}");
        (status.as_u16(), value["error"]["code"].as_str().unwrap().to_owned())
    }
}

pub async fn answer(router: &Router, request: Request<Body>) -> (StatusCode, Vec<u8>) {
    let response = router.clone().oneshot(request).await.unwrap();
    let status = response.status();
    (status, response.into_body().collect().await.unwrap().to_bytes().to_vec())
}

pub fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// A fleet of two servers with a site each.
pub fn fleet(version: &str) -> Value {
    let site = |server: &str| {
        format!("server = \"{server}\"\nrecipe = \"static\"\nversion = \"1\"\ndomain = \"{server}.example.org\"\n")
    };
    json!({
        "fleet.toml": "schema = 1\nname = \"sol\"\n",
        "servers/ks1.toml": format!("# {version}\n[packages]\nunzip = true\n"),
        "servers/ks2.toml": format!("[files.\"/etc/version\"]\ncontent = \"{version}\"\n"),
        "instances/one.toml": site("ks1"),
        "instances/two.toml": site("ks2"),
    })
}

pub fn digest(text: &str) -> Digest {
    Digest::of(text)
}
