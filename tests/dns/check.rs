//! What is looked at before an order: real names, a real web server, on loopback.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path as Segment, State};
use axum::http::StatusCode;
use axum::response::Redirect;
use axum::routing::get;
use socle::agent::certificates::precheck::Probing;
use socle::agent::certificates::{NameProblem, SelfCheck};
use socle::host::authority::About;
use socle::host::dns::Resolver;
use socle::model::certificate::Challenge;

use crate::bind::{Bind, Zone, port};

const RECORDS: &str = "here A 127.0.0.1\nelsewhere A 127.0.0.3\nsilent A 127.0.0.4\nboth A 127.0.0.1\nboth A 127.0.0.3
moved A 127.0.0.5\nalias CNAME here\nlocked CAA 0 issue \"other.example\"\nfree.locked CAA 0 issue \"ca.example\"
blog.locked A 127.0.0.1\nfree.locked A 127.0.0.1";

struct Place {
    bind: Bind,
    challenges: tempfile::TempDir,
    port: u16,
}

async fn file(State(directory): State<PathBuf>, Segment(token): Segment<String>) -> (StatusCode, Vec<u8>) {
    match std::fs::read(directory.join(token)) {
        Ok(bytes) => (StatusCode::OK, bytes),
        Err(_) => (StatusCode::NOT_FOUND, Vec::new()),
    }
}

async fn listen(ip: &str, port: u16, router: Router) -> u16 {
    let address = SocketAddr::new(ip.parse().unwrap(), port);
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move { axum::serve(listener, router).await });
    port
}

/// At 127.0.0.1 our web server, at .3 another, at .5 one that sends everybody to ours; nobody at .4.
async fn place() -> Place {
    let challenges = tempfile::tempdir().unwrap();
    let files = |directory: &Path| {
        let directory = directory.to_owned();
        Router::new().route("/.well-known/acme-challenge/{token}", get(file)).with_state(directory)
    };
    let port = listen("127.0.0.1", 0, files(challenges.path())).await;
    listen("127.0.0.3", port, files(Path::new("/nowhere"))).await;
    let to = move |Segment(token): Segment<String>| async move {
        Redirect::permanent(&format!("http://127.0.0.1:{port}/.well-known/acme-challenge/{token}"))
    };
    listen("127.0.0.5", port, Router::new().route("/.well-known/acme-challenge/{token}", get(to))).await;
    let bind = Bind::start(crate::bind::port(), &[Zone { name: "a.test", records: RECORDS }]);
    Place { bind, challenges, port }
}

impl Place {
    async fn check(&self, resolver: Resolver, own: &[&str], names: &[&str], challenge: Challenge) -> Vec<NameProblem> {
        let own: BTreeSet<IpAddr> = own.iter().map(|address| address.parse().unwrap()).collect();
        let own = Arc::new(move || Ok(own.clone()));
        let probing = Probing::new(resolver, self.challenges.path().to_owned(), own, self.port);
        let about = About { caa_identities: vec!["ca.example".to_owned()], ..About::default() };
        let names: Vec<_> = names.iter().map(|name| name.parse().unwrap()).collect();
        let problems = probing.check(&names, &challenge, &about).await;
        assert_eq!(std::fs::read_dir(self.challenges.path()).unwrap().count(), 0, "the file is gone");
        problems
    }

    async fn whats(&self, own: &[&str], names: &[&str], challenge: Challenge) -> Vec<String> {
        let problems = self.check(self.bind.resolver(), own, names, challenge).await;
        problems.into_iter().map(|problem| problem.what).collect()
    }
}

#[tokio::test]
async fn each_name_is_looked_at_for_itself() {
    let place = place().await;
    let names = [
        "here.a.test",
        "alias.a.test",
        "moved.a.test",
        "elsewhere.a.test",
        "silent.a.test",
        "both.a.test",
        "nothing.a.test",
    ];
    let whats = place.whats(&["127.0.0.1"], &names, Challenge::Http01).await;
    assert_eq!(
        whats,
        [
            "`elsewhere.a.test` leads to 127.0.0.3, which is not this server",
            "`silent.a.test` leads to 127.0.0.4, which is not this server",
            "`both.a.test` leads to 127.0.0.3, which is not this server",
            "`nothing.a.test` has no address",
        ]
    );
    // Ours by its address, but nobody serves the proof there.
    let whats = place.whats(&["127.0.0.1", "127.0.0.3"], &["elsewhere.a.test"], Challenge::Http01).await;
    assert_eq!(whats, ["`elsewhere.a.test` leads here (127.0.0.3), but the proof is not served: status 404"]);
}

#[tokio::test]
async fn behind_a_translation_the_answer_counts_and_not_the_address() {
    let place = place().await;
    let whats = place.whats(&["10.0.0.7"], &["here.a.test", "silent.a.test"], Challenge::Http01).await;
    assert!(whats.is_empty(), "{whats:?}");
}

#[tokio::test]
async fn the_nearest_caa_records_count() {
    let place = place().await;
    let names = ["blog.locked.a.test", "free.locked.a.test"];
    let expected =
        "`blog.locked.a.test`: the CAA records (`issue`) at `locked.a.test` allow other.example, not ca.example";
    assert_eq!(place.whats(&["127.0.0.1"], &names, Challenge::Http01).await, [expected]);
    let by_record = Challenge::Dns01 { provider: "dns".parse().unwrap() };
    let whats = place.whats(&[], &["*.locked.a.test", "nothing.a.test"], by_record).await;
    assert_eq!(whats, [expected.replace("`blog.", "`*.")]);
}

#[tokio::test]
async fn what_nobody_answers_is_no_problem() {
    let place = place().await;
    let nobody = SocketAddr::new("127.0.0.1".parse().unwrap(), port());
    let resolver = Resolver::at(&[nobody], nobody.port());
    let problems = place.check(resolver, &["127.0.0.1"], &["here.a.test", "elsewhere.a.test"], Challenge::Http01).await;
    assert_eq!(problems, []);
}
