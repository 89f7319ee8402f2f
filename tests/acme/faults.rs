//! Faults of an authority, each with what is promised about it.

use futures_util::StreamExt;
use serde_json::json;
use socle::agent::certificates::Done;

use super::ca::{Ari, no};
use super::issuing::Wrong;
use super::server::Break::{self, *};
use super::world::{World, hours, name};

/// What is promised.
#[derive(Clone, Copy)]
enum Promise {
    /// The certificate is there after the first attempt.
    Passes,
    /// The first attempt fails with this code; when it is due again, and the fault is over, the certificate comes.
    Heals(&'static str),
    /// The next authority gives the certificate, in the same attempt.
    Other,
}

struct Case {
    what: &'static str,
    promise: Promise,
    /// Orders the first authority has seen in the end.
    orders: usize,
    fault: Box<dyn Fn(&mut World)>,
}

fn case(what: &'static str, promise: Promise, orders: usize, fault: impl Fn(&mut World) + 'static) -> Case {
    Case { what, promise, orders, fault: Box::new(fault) }
}

/// A request that breaks once.
fn once(what: &'static str, promise: Promise, orders: usize, at: &'static str, how: Break) -> Case {
    case(what, promise, orders, move |world| world.server.break_at(at, 0, 1, how.clone()))
}

fn status(status: u16) -> Break {
    Refuse(no(status, "serverInternal", "out of order"))
}

fn limited(seconds: u64) -> Break {
    Refuse(super::ca::No { retry_after_s: Some(seconds), ..no(429, "rateLimited", "too much") })
}

use Promise::{Heals, Other, Passes};
const UNAVAILABLE: Promise = Heals("acme.unavailable");
const UNREACHABLE: Promise = Heals("acme.unreachable");
const TIMEOUT: Promise = Heals("acme.timeout");
const NONSENSE: Promise = Heals("acme.nonsense");
const LIMITED: Promise = Heals("acme.rate-limited");
const REFUSED: Promise = Heals("certificate.refused");
const CHAIN: Promise = Heals("certificate.chain");
const PENDING: Promise = Heals("certificate.pending");

fn before_an_order() -> Vec<Case> {
    vec![
        once("directory: 500", UNAVAILABLE, 1, "directory", status(500)),
        once("directory: 404", NONSENSE, 1, "directory", Refuse(no(404, "malformed", "no"))),
        once("directory: no answer", TIMEOUT, 1, "directory", Hang),
        once("directory: connection closed", UNREACHABLE, 1, "directory", CloseBefore),
        once("directory: truncated", UNREACHABLE, 1, "directory", Truncate),
        once("directory: a page", NONSENSE, 1, "directory", Html),
        once("directory: endless", NONSENSE, 1, "directory", Oversized),
        once("directory: empty", NONSENSE, 1, "directory", Empty),
        once("directory: other JSON", NONSENSE, 1, "directory", WrongJson),
        once("directory: redirected", NONSENSE, 1, "directory", Redirect),
        case("directory: leads to plain HTTP", UNREACHABLE, 1, |world| {
            let plain = world.server.url.replace("https", "http");
            let how = Set("newNonce", json!(format!("{plain}/nonce")));
            world.server.break_at("directory", 0, 1, how);
        }),
        case("directory: it moved between two runs", Passes, 1, |world| {
            world.server.break_at("directory", 0, 9, Set("meta", json!({})));
        }),
        once("nonce: 500", UNAVAILABLE, 1, "nonce", status(500)),
        once("nonce: none", NONSENSE, 1, "nonce", NoNonce),
        once("nonce: no answer", TIMEOUT, 1, "nonce", Hang),
        once("account: 500", UNAVAILABLE, 1, "new-account", status(500)),
        once("account: a bad nonce", Passes, 1, "new-account", Refuse(no(400, "badNonce", "no"))),
        case("account: a storm of bad nonces", UNAVAILABLE, 1, |world| {
            world.server.break_at("new-account", 0, 3, Refuse(no(400, "badNonce", "no")));
        }),
        once("account: no address", NONSENSE, 1, "new-account", NoLocation),
        once("account: made, the answer is lost", UNREACHABLE, 1, "new-account", CloseAfter),
        once(
            "account: refused",
            Heals("acme.refused"),
            1,
            "new-account",
            Refuse(no(403, "userActionRequired", "terms")),
        ),
        once("account: refused, another authority", Other, 0, "new-account", Refuse(no(403, "unauthorized", "no"))),
        case("account: the authority forgot it", Passes, 1, |world| world.server.forget_accounts()),
    ]
}

fn orders() -> Vec<Case> {
    vec![
        once("order: 500", UNAVAILABLE, 1, "new-order", status(500)),
        once("order: 503, with a time", UNAVAILABLE, 1, "new-order", {
            Refuse(super::ca::No { retry_after_s: Some(7200), ..no(503, "serverInternal", "later") })
        }),
        once("order: 429", LIMITED, 1, "new-order", limited(7200)),
        once("order: 429 for ever", LIMITED, 1, "new-order", limited(u64::MAX)),
        once("order: 429, another authority", Other, 0, "new-order", limited(7200)),
        once("order: 500, another authority", Other, 0, "new-order", status(500)),
        once("order: no answer", TIMEOUT, 1, "new-order", Hang),
        once("order: connection closed", UNREACHABLE, 1, "new-order", CloseBefore),
        once("order: made, the answer is lost", UNREACHABLE, 2, "new-order", CloseAfter),
        once("order: made, the answer is truncated", UNREACHABLE, 2, "new-order", Truncate),
        once("order: a page", NONSENSE, 1, "new-order", Html),
        once("order: endless", NONSENSE, 1, "new-order", Oversized),
        once("order: empty", NONSENSE, 1, "new-order", Empty),
        once("order: other JSON", NONSENSE, 1, "new-order", WrongJson),
        once("order: no address", NONSENSE, 2, "new-order", NoLocation),
        once("order: redirected", NONSENSE, 1, "new-order", Redirect),
        once("order: a bad nonce", Passes, 1, "new-order", Refuse(no(400, "badNonce", "no"))),
        case("order: a storm of bad nonces", UNAVAILABLE, 1, |world| {
            world.server.break_at("new-order", 0, 3, Refuse(no(400, "badNonce", "no")));
        }),
        case("order: the name is refused", Other, 0, |world| {
            world.ca.state().rejected.insert("blog.example.org".to_owned(), "rejectedIdentifier");
        }),
        case("order: CAA forbids it", Other, 0, |world| {
            world.ca.state().rejected.insert("blog.example.org".to_owned(), "caa");
        }),
        case("order: an unknown profile", Other, 0, |world| {
            world.acme().profile = Some("shortlived".to_owned());
            world.ca.state().profiles.insert("classic".to_owned(), hours(2160));
        }),
        case("order: no profiles at all", Passes, 1, |world| world.acme().profile = Some("shortlived".to_owned())),
        case("order: the profile is refused", Other, 0, |world| {
            world.acme().profile = Some("gone".to_owned());
            world.server.break_at("directory", 0, 9, Set("meta", json!({ "profiles": { "gone": "was here" } })));
        }),
    ]
}

fn proofs() -> Vec<Case> {
    let token = json!([{ "type": "http-01", "url": "x", "token": "../../etc/cron.d/x", "status": "pending" }]);
    let bad = |kind: &'static str| {
        move |world: &mut World| {
            world.ca.state().bad.insert("blog.example.org".to_owned(), kind);
        }
    };
    vec![
        once("authorization: 500", UNAVAILABLE, 1, "authz", status(500)),
        once("authorization: no answer", TIMEOUT, 1, "authz", Hang),
        once("authorization: truncated", UNREACHABLE, 1, "authz", Truncate),
        once("authorization: a page", NONSENSE, 1, "authz", Html),
        once("authorization: a token that is a path", NONSENSE, 1, "authz", Set("challenges", token)),
        once(
            "authorization: not for a name",
            NONSENSE,
            1,
            "authz",
            Set("identifier", json!({ "type": "ip", "value": "::1" })),
        ),
        once(
            "authorization: no challenge of ours",
            Heals("certificate.challenge"),
            2,
            "authz",
            Set("challenges", json!([])),
        ),
        once("authorization: no challenge, another authority", Other, 1, "authz", Set("challenges", json!([]))),
        once("authorization: withdrawn", REFUSED, 2, "authz", Set("status", json!("deactivated"))),
        once("authorization: a status nobody knows", NONSENSE, 1, "authz", Set("status", json!("sleeping"))),
        once("challenge: 500", UNAVAILABLE, 1, "challenge", status(500)),
        once("challenge: taken, the answer is lost", UNREACHABLE, 1, "challenge", CloseAfter),
        once("challenge: no answer", TIMEOUT, 1, "challenge", Hang),
        once("challenge: a bad nonce", Passes, 1, "challenge", Refuse(no(400, "badNonce", "no"))),
        case("challenge: it cannot connect", REFUSED, 2, bad("connection")),
        case("challenge: no DNS", REFUSED, 2, bad("dns")),
        case("challenge: another page answers", REFUSED, 2, bad("unauthorized")),
        case("challenge: CAA, another authority", Other, 1, bad("caa")),
        case("challenge: pending for ever", PENDING, 1, |world| world.ca.state().polls = 1_000_000),
        once("waiting: 500", Passes, 1, "order", status(500)),
        once("waiting: 503, with a time", Passes, 1, "order", {
            Refuse(super::ca::No { retry_after_s: Some(1), ..no(503, "serverInternal", "later") })
        }),
        once("waiting: connection closed", Passes, 1, "order", CloseBefore),
        once("waiting: truncated", Passes, 1, "order", Truncate),
        once("waiting: a page", NONSENSE, 1, "order", Html),
        once("waiting: come back in an hour", PENDING, 1, "order", RetryAfter("3600")),
        once("waiting: come back at the end of time", PENDING, 1, "order", RetryAfter("18446744073709551615")),
        once("waiting: come back at no time", Passes, 1, "order", RetryAfter("soon")),
        once("waiting: a status nobody knows", NONSENSE, 1, "order", Set("status", json!("paused"))),
        once("waiting: the order became invalid", REFUSED, 2, "order", Set("status", json!("invalid"))),
        once("waiting: the order is no more", Heals("acme.not-found"), 2, "order", Refuse(no(404, "malformed", "no"))),
        case("taking up: the order is no more", UNREACHABLE, 2, |world| {
            world.server.break_at("challenge", 0, 1, CloseAfter);
            world.server.break_at("order", 0, 1, Refuse(no(404, "malformed", "no")));
        }),
        case("taking up: the order is of nobody", UNREACHABLE, 2, |world| {
            world.server.break_at("challenge", 0, 1, CloseAfter);
            world.server.break_at("order", 0, 1, Refuse(no(403, "unauthorized", "not yours")));
        }),
        case("taking up: a bad nonce", UNREACHABLE, 1, |world| {
            world.server.break_at("challenge", 0, 1, CloseAfter);
            world.server.break_at("order", 0, 1, Refuse(no(400, "badNonce", "no")));
        }),
    ]
}

fn certificates() -> Vec<Case> {
    let wrong = |wrong: Wrong| move |world: &mut World| world.ca.state().wrong = wrong;
    vec![
        once("finalize: 500", UNAVAILABLE, 1, "finalize", status(500)),
        once("finalize: no answer", TIMEOUT, 1, "finalize", Hang),
        once("finalize: done, the answer is lost", UNREACHABLE, 1, "finalize", CloseAfter),
        once("finalize: done, the answer is truncated", UNREACHABLE, 1, "finalize", Truncate),
        once("finalize: a bad nonce", Passes, 1, "finalize", Refuse(no(400, "badNonce", "no"))),
        once(
            "finalize: not ready after all",
            Heals("acme.refused"),
            1,
            "finalize",
            Refuse(no(403, "orderNotReady", "no")),
        ),
        once("finalize: the key is refused", Other, 1, "finalize", Refuse(no(400, "badPublicKey", "no"))),
        case("processing for ever", PENDING, 1, |world| {
            // Enough for the proof, not for the certificate.
            world.server.break_at("order", 2, 1, RetryAfter("86400"));
        }),
        once("certificate: 500", UNAVAILABLE, 1, "certificate", status(500)),
        once("certificate: no answer", TIMEOUT, 1, "certificate", Hang),
        once("certificate: truncated", UNREACHABLE, 1, "certificate", Truncate),
        once("certificate: endless", NONSENSE, 1, "certificate", Oversized),
        case("certificate: for another key", CHAIN, 2, wrong(Wrong::OtherKey)),
        case("certificate: for another name", CHAIN, 2, wrong(Wrong::OtherName)),
        case("certificate: without one of the names", CHAIN, 2, |world| {
            world.want("blog", &["blog.example.org", "www.example.org"]);
            world.ca.state().wrong = Wrong::NameMissing;
        }),
        case("certificate: expired", CHAIN, 2, wrong(Wrong::Expired)),
        case("certificate: of next week", CHAIN, 2, wrong(Wrong::NotYet)),
        case("certificate: in the wrong order", CHAIN, 2, wrong(Wrong::Reversed)),
        case("certificate: under another intermediate", CHAIN, 2, wrong(Wrong::ForeignIntermediate)),
        case("certificate: garbage", CHAIN, 2, wrong(Wrong::Garbage)),
        case("certificate: none", CHAIN, 2, wrong(Wrong::Empty)),
        case("certificate: a page", CHAIN, 2, wrong(Wrong::Html)),
        case("certificate: a chain without end", CHAIN, 2, wrong(Wrong::Endless)),
        case("certificate: for another key, another authority", Other, 1, wrong(Wrong::OtherKey)),
    ]
}

/// Renewal information that breaks takes nothing from the certificate.
fn renewal_information() -> Vec<Case> {
    let ari = |ari: Ari| move |world: &mut World| world.ca.state().ari = ari;
    let broken = |how: Break| {
        move |world: &mut World| {
            world.ca.state().ari = Ari::Window(0.5, 0.6);
            world.server.break_at("renewal", 0, 1, how.clone());
        }
    };
    vec![
        case("renewal: 500", Passes, 1, broken(status(500))),
        case("renewal: no answer", Passes, 1, broken(Hang)),
        case("renewal: unknown", Passes, 1, broken(Refuse(no(404, "malformed", "no")))),
        case("renewal: a page", Passes, 1, broken(Html)),
        case("renewal: truncated", Passes, 1, broken(Truncate)),
        case("renewal: ask again in 30 years", Passes, 1, broken(RetryAfter("999999999"))),
        case("renewal: a window in the past", Passes, 1, ari(Ari::Past)),
        case("renewal: a window after the end", Passes, 1, ari(Ari::AfterTheEnd)),
        case("renewal: a window backwards", Passes, 1, ari(Ari::Backwards)),
        case("renewal: a window of years", Passes, 1, ari(Ari::Endless)),
    ]
}

/// Everything that was wrong for good is right again.
fn repair(world: &World) {
    let mut state = world.ca.state();
    (state.wrong, state.polls) = (Wrong::Nothing, 1);
    state.bad.clear();
    for order in &mut state.orders {
        order.hurry();
    }
}

async fn run(case: &Case) {
    let what = case.what;
    let mut world = World::new().await;
    if matches!(case.promise, Other) {
        world.use_both();
    }
    if what == "account: the authority forgot it" {
        // There has to be one to be forgotten.
        world.want("other", &["other.example.org"]);
        let only = std::mem::take(&mut world.settings.certificates);
        world.settings.certificates =
            only.iter().filter(|(key, _)| key.as_str() == "other").map(|(k, v)| (k.clone(), v.clone())).collect();
        world.keeper().tend_all(&world.settings, &Default::default()).await.unwrap();
        world.settings.certificates = only.into_iter().filter(|(key, _)| key.as_str() == "blog").collect();
        world.ca.state().orders.clear();
    }
    (case.fault)(&mut world);
    let before = world.clock.now();
    let first = world.tend().await;
    match (case.promise, &first) {
        (Passes, Done::Committed { meta, .. }) => assert_eq!(meta.authority, Some(name("first")), "{what}"),
        (Other, Done::Committed { meta, .. }) => assert_eq!(meta.authority, Some(name("second")), "{what}"),
        (Heals(code), Done::Failed { error, next }) => {
            assert_eq!(error.code, code, "{what}: {error}");
            assert!(!error.to_string().contains("PRIVATE"), "{what}: {error}");
            assert!(
                *next >= before + jiff::SignedDuration::from_secs(60) && *next <= before + hours(72),
                "{what}: {next}"
            );
            assert_eq!(world.present("blog"), None, "{what}");
            // Before its time nothing is asked.
            let asked = world.server.asked.lock().unwrap().clone();
            assert!(matches!(world.tend().await, Done::Waiting { .. }), "{what}");
            assert_eq!(*world.server.asked.lock().unwrap(), asked, "{what}");
            repair(&world);
            world.sleep();
            assert_eq!(world.clock.now(), *next, "{what}");
            let second = world.tend().await;
            assert!(matches!(second, Done::Committed { .. }), "{what}: {second:?}");
        }
        (_, other) => panic!("{what}: {other:?}"),
    }
    let present = world.present("blog").unwrap();
    assert_eq!(present.meta.names.len(), world.settings.certificates[&name("blog")].names.len(), "{what}");
    assert_eq!(world.orders(), case.orders, "{what}: orders");
    assert_eq!(world.left_over(), 0, "{what}: proofs are left");
    let record = world.record("blog");
    assert_eq!((record.order, record.failure, record.published.len()), (None, None, 0), "{what}");
    assert!(world.server.accounts() <= 2, "{what}: accounts");
    // Whatever was said about renewing: not before tomorrow, not after the back-stop.
    let next = world.keeper().standings(&world.settings)[0].next.unwrap();
    let (begin, end) = (present.meta.not_before, present.meta.not_after);
    assert!(next >= begin + hours(24) && next <= end - end.duration_since(begin) / 3, "{what}: {next}");
}

#[tokio::test]
async fn every_fault_ends_as_promised() {
    let cases: Vec<Case> =
        [before_an_order(), orders(), proofs(), certificates(), renewal_information()].into_iter().flatten().collect();
    assert!(cases.len() >= 100, "{} cases", cases.len());
    let mut running = futures_util::stream::iter(&cases).map(run).buffer_unordered(8);
    while running.next().await.is_some() {}
}
