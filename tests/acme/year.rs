//! A year of 200 names, twelve hours at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use socle::agent::certificates::internal::NoFleet;
use socle::agent::certificates::watch::Journal;
use socle::agent::certificates::{Keeper, Parts, Patience};
use socle::host::certificates::{CHAIN, KEY, Store, chain};
use socle::model::Name;
use socle::model::certificate::{Acme, Authority, Challenge, KeyType, Limits, Settings, Source, Wanted};

use super::ca::{Ari, Ca, Clock};
use super::port::{FakeAuthorities, FakeAuthority};
use super::world::{FakeDns, ToldCheck, hours, name, names};

const DAY: i64 = 24;
/// Of 6.67 days, as `shortlived` certificates are.
const SHORT: i64 = 160;
/// Days in which the first authority answers nothing.
const OUTAGES: [(i64, i64); 6] = [(30, 44), (150, 164), (230, 244), (262, 276), (296, 310), (331, 345)];
/// The second one has its own.
const OUTAGES_OF_THE_SECOND: [(i64, i64); 1] = [(200, 204)];

fn is_out(outages: &[(i64, i64)], day: i64) -> bool {
    outages.iter().any(|(from, to)| (*from..*to).contains(&day))
}

fn settings() -> Settings {
    let authority = Authority {
        directory: "https://ca.example.net/directory".to_owned(),
        roots: None,
        contacts: vec![],
        binding: None,
        limits: Limits::LETS_ENCRYPT,
    };
    let mut settings = Settings::default();
    for which in ["first", "second"] {
        settings.authorities.insert(name(which), authority.clone());
    }
    for number in 0..200 {
        // Every fifth is short-lived, and so needs a second authority; thirty are under one domain.
        let short = number % 5 == 0;
        let domain = if number % 7 == 1 { format!("n{number}.shared.org") } else { format!("www.n{number}.org") };
        let acme = Acme {
            authorities: if short { vec![name("first"), name("second")] } else { vec![name("first")] },
            challenge: Challenge::Http01,
            key: KeyType::P256,
            profile: short.then(|| "shortlived".to_owned()),
        };
        let certificate = name(&format!("n{number}"));
        let wanted = Wanted { name: certificate.clone(), names: names(&[&domain]), source: Source::Acme(acme) };
        settings.certificates.insert(certificate, wanted);
    }
    settings
}

/// Whole, in its time, and for its key.
fn look(store: &Store, certificate: &Name, clock: &Clock, known: &mut BTreeMap<Name, u64>) -> bool {
    let Some(present) = store.present(certificate).unwrap() else { return false };
    assert!(present.meta.not_after > clock.now(), "{certificate} expired at {}", present.meta.not_after);
    if known.insert(certificate.clone(), present.generation) != Some(present.generation) {
        let read = |file: &str| std::fs::read_to_string(present.directory.join(file)).unwrap();
        chain::check(&read(CHAIN), &read(KEY), &present.meta.names, clock.now()).unwrap();
    }
    true
}

#[tokio::test(start_paused = true)]
async fn no_certificate_expires_and_no_limit_is_reached() {
    // On a file system in memory: hundreds of thousands of writes, each brought to disk.
    let memory = std::path::Path::new("/dev/shm");
    let dir = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
    let clock = Clock::at("2026-11-23T00:00:00Z");
    let begin = clock.now();
    let challenges = dir.path().join("challenges");
    let (first, second) = (Ca::new(clock.clone(), challenges.clone()), Ca::new(clock.clone(), challenges.clone()));
    for ca in [&first, &second] {
        ca.state().profiles.insert("shortlived".into(), hours(SHORT));
        ca.state().ari = Ari::Window(0.6, 0.65);
    }
    let ports: BTreeMap<Name, Arc<FakeAuthority>> = [("first", &first), ("second", &second)]
        .map(|(which, ca)| (name(which), FakeAuthority::new(ca.clone())))
        .into();
    let (now, random) = (clock.clone(), AtomicU64::new(99));
    let parts = Parts {
        authorities: Arc::new(FakeAuthorities(ports.clone())),
        fleet: Arc::new(NoFleet),
        dns: Arc::new(FakeDns::default()),
        check: Arc::new(ToldCheck::default()),
        watch: Arc::new(Journal),
        now: Arc::new(move || now.now()),
        random: Arc::new(move || random.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::SeqCst) >> 7),
        challenges,
        patience: Patience::default(),
    };
    let (settings, state) = (settings(), dir.path().join("state"));
    let (keeper, store) = (Keeper::new(&state, parts), Store::new(&state));
    let mut known = BTreeMap::new();
    for tick in 0..365 * 2 {
        clock.set(begin + hours(12 * tick));
        let day = tick / 2;
        // 90 days, then 64, then 45; renewal information comes and goes.
        first.state().life = hours(DAY * [90, 64, 45][usize::from(day >= 90) + usize::from(day >= 210)]);
        let without = (120..180).contains(&day) || day >= 215;
        first.state().ari = if without { Ari::None } else { Ari::Window(0.6, 0.65) };
        ports[&name("first")].out.store(is_out(&OUTAGES, day), Ordering::SeqCst);
        ports[&name("second")].out.store(is_out(&OUTAGES_OF_THE_SECOND, day), Ordering::SeqCst);
        keeper.tend_all(&settings, &BTreeSet::new()).await.unwrap();
        let there = settings.certificates.keys().filter(|one| look(&store, one, &clock, &mut known)).count();
        // The first 24 names of the shared domain, then as many as half of the limit allows, a week later.
        assert!(there == 200 || day < 8, "day {day}: {there}");
    }
    for (ca, which) in [(&first, "first"), (&second, "second")] {
        let state = ca.state();
        assert_eq!(state.limited, Vec::<String>::new(), "{which}");
        eprintln!("{which}: {} orders, {} certificates", state.orders.len(), state.issued.len());
        assert_eq!(state.orders.len(), state.issued.len(), "{which}: no order came to nothing");
    }
    let all = first.state().issued.len() + second.state().issued.len();
    // 160 with some six renewals, 40 with some ninety.
    assert!((160 * 5 + 40 * 70..160 * 11 + 40 * 130).contains(&all), "{all} certificates");
}
