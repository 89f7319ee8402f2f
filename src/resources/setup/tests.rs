use super::diff::diff;
use super::*;

fn id(text: &str) -> ReleaseId {
    ReleaseId(text.to_owned())
}

fn desired(release: &str) -> Desired {
    Desired {
        present: true,
        release: id(release),
        install: [].into(),
        migrate: [Step::Seed { from: "a".into(), to: "b".into(), owner: "c".into(), replace: true }].into(),
        databases: vec![(Engine::Mariadb, "blog".into())],
        directories: vec!["/srv/socle/blog/data".into()],
        probes: vec![Probe { host: "h".into(), path: "/".into(), status: vec![200], contains: None, within_s: 1 }],
        proof: Digest::of(release),
        identity: Identity { name: "blog".into(), domain: "blog.test".into() },
        moves: [].into(),
        keep_dumps: BTreeSet::new(),
        units: BTreeSet::new(),
        quiet: Box::new(Quiet { stop: true, ..Quiet::default() }),
        saved: vec!["data".into()],
    }
}

fn seen(state: Option<State>) -> Observed {
    Observed { state, ..Observed::default() }
}

fn returned(release: &str) -> State {
    State::Returned { backup: Returned { release: id(release), dumps: Vec::new(), directories: Vec::new(), of: None } }
}

fn dumped(state: State, release: &str) -> Observed {
    let dump = Dump { engine: Engine::Mariadb, database: "blog".into(), path: "/d".into(), sha256: Digest::of("d") };
    Observed { state: Some(state), dumps: BTreeMap::from([(release.to_owned(), vec![dump])]), ..Observed::default() }
}

/// The changes as words, with their phases.
fn words(desired: &Desired, observed: &Observed) -> String {
    match diff("blog", Some(desired), observed) {
        Diff::Refused(error) => format!("refused {}", error.code),
        Diff::Changes(changes) => {
            let word = |change: &Change| match change {
                Change::Install { .. } => "install",
                Change::GetReady { .. } => "room",
                Change::Keep { .. } => "keep",
                Change::Dump { .. } => "dump",
                Change::Migrate { .. } => "migrate",
                Change::Adopt { .. } => "adopt",
                Change::SetAside { .. } => "set-aside",
                Change::Restore { .. } => "restore",
                Change::Return { .. } => "return",
                Change::GoOn { .. } => "go-on",
                Change::Move { .. } => "move",
                Change::Prove { .. } => "prove",
                Change::DropDumps { .. } => "drop-dumps",
                Change::Forget => "forget",
            };
            let all: Vec<String> =
                changes.iter().map(|(phase, change)| format!("{}@{phase:?}", word(change))).collect();
            all.join(" ")
        }
    }
}

#[test]
fn from_every_state() {
    let new = desired("2");
    let installed = |release: &str| State::Installed { release: id(release) };
    let half = |from: &str, to: &str| State::HalfMigrated { from: id(from), to: id(to) };
    for (observed, expected) in [
        (seen(None), "install@Switch prove@Prove"),
        (seen(Some(State::HalfInstalled { release: id("1") })), "install@Switch prove@Prove"),
        (seen(Some(installed("1"))), "room@Stage dump@Withdraw keep@Withdraw migrate@Switch prove@Prove"),
        (seen(Some(installed("2"))), "prove@Prove"),
        (Observed { proven: Some(Digest::of("2")), ..seen(Some(installed("2"))) }, ""),
        (dumped(half("1", "2"), "1"), "migrate@Switch prove@Prove"),
        (dumped(half("2", "3"), "2"), "restore@Switch prove@Prove"),
        (dumped(installed("3"), "2"), "restore@Switch prove@Prove"),
        (
            Observed { proven: Some(Digest::of("3")), ..dumped(installed("3"), "2") },
            "set-aside@Withdraw restore@Switch prove@Prove",
        ),
        (dumped(State::HalfRestored { to: id("2"), aside: None }, "2"), "restore@Switch prove@Prove"),
        (dumped(half("1", "3"), "1"), "refused setup.no-dump"),
        (seen(Some(half("1", "3"))), "refused setup.no-dump"),
        // Proven is what comes after it, in a pass that sees what it made of it.
        (seen(Some(returned("1"))), "return@Switch"),
        (seen(Some(returned("2"))), "return@Switch"),
    ] {
        assert_eq!(words(&new, &observed), expected, "{observed:?}");
    }
}

#[test]
fn what_was_anothers_is_moved_before_it_is_proven() {
    let who = |name: &str| Identity { name: name.into(), domain: "blog.test".into() };
    let run = Step::Run {
        name: "blog-move".into(),
        unit: Box::new(super::apply::seed_unit("a", "b", "c", false)),
        stdin: None,
        ok_codes: vec![0],
    };
    let new = Desired { moves: [run].into(), ..desired("2") };
    let returned = |release: &str, of: &str| {
        let State::Returned { backup } = returned(release) else { unreachable!() };
        seen(Some(State::Returned { backup: Returned { of: Some(who(of)), ..backup } }))
    };
    assert_eq!(words(&new, &returned("2", "shop")), "return@Switch move@Switch");
    assert_eq!(words(&new, &returned("2", "blog")), "return@Switch");
    assert_eq!(words(&new, &returned("1", "shop")), "return@Switch", "it is migrated first");
    let moved = |from| Observed { moved_from: Some(who(from)), ..seen(Some(State::Installed { release: id("2") })) };
    assert_eq!(words(&new, &moved("shop")), "move@Switch prove@Prove");
    assert_eq!(words(&new, &moved("blog")), "prove@Prove");
    let migrated = Observed { moved_from: Some(who("shop")), ..seen(Some(State::Installed { release: id("1") })) };
    assert_eq!(words(&new, &migrated), "room@Stage dump@Withdraw keep@Withdraw migrate@Switch move@Switch prove@Prove");
    let Diff::Changes(changes) = diff("blog", Some(&new), &moved("shop")) else { unreachable!() };
    let (_, Change::Move { steps, .. }) = &changes[0] else { panic!("{changes:?}") };
    let Step::Run { stdin: Some(told), .. } = &steps[0] else { panic!("{steps:?}") };
    let told: serde_json::Value = serde_json::from_slice(told.bytes()).unwrap();
    assert_eq!((&told["from"]["name"], &told["to"]["name"]), (&"shop".into(), &"blog".into()));
}

fn pausing(release: &str) -> Desired {
    let unit = Box::new(super::apply::seed_unit("a", "b", "c", false));
    let resume = Command { name: "blog-resume".into(), unit, ok_codes: vec![0] };
    Desired { quiet: Box::new(Quiet { leave: vec![resume], ..Quiet::default() }), ..desired(release) }
}

#[test]
fn what_was_saved_while_it_paused_goes_on_whatever_release_it_is_of() {
    let new = pausing("2");
    assert_eq!(words(&new, &seen(Some(returned("2")))), "return@Switch go-on@Switch");
    assert_eq!(words(&new, &seen(Some(returned("1")))), "return@Switch", "it is migrated first");
    let paused = |release: &str, observed: Observed| Observed { paused: [release.to_owned()].into(), ..observed };
    let installed = |release: &str| seen(Some(State::Installed { release: id(release) }));
    let safe = "room@Stage dump@Withdraw keep@Withdraw migrate@Switch";
    assert_eq!(words(&new, &paused("1", installed("1"))), format!("{safe} go-on@Switch prove@Prove"));
    assert_eq!(words(&new, &installed("1")), format!("{safe} prove@Prove"), "nobody paused it");
    let half = State::HalfMigrated { from: id("1"), to: id("2") };
    assert_eq!(words(&new, &paused("1", seen(Some(half)))), "migrate@Switch go-on@Switch prove@Prove");
    let adopting = Desired { migrate: [].into(), ..new.clone() };
    assert_eq!(words(&adopting, &paused("1", installed("1"))), "adopt@Switch go-on@Switch prove@Prove");
    // Interrupted before it was told.
    assert_eq!(words(&new, &paused("2", installed("2"))), "go-on@Switch prove@Prove");
    // What was kept of it before a migration that failed is as paused.
    let failed = paused("2", dumped(State::HalfMigrated { from: id("2"), to: id("3") }, "2"));
    assert_eq!(words(&new, &failed), "restore@Switch go-on@Switch prove@Prove");
    let other = paused("1", dumped(State::HalfMigrated { from: id("2"), to: id("3") }, "2"));
    assert_eq!(words(&new, &other), "restore@Switch prove@Prove");
    assert_eq!(words(&desired("2"), &paused("2", installed("2"))), "prove@Prove", "there is nothing to be told");
}

#[test]
fn without_migrating_steps_a_release_is_only_noted() {
    let new = Desired { migrate: [].into(), ..desired("2") };
    let observed = seen(Some(State::Installed { release: id("1") }));
    assert_eq!(words(&new, &observed), "adopt@Switch prove@Prove");
}

#[test]
fn dumps_go_when_nobody_can_need_them() {
    let proven = |desired: &Desired| Observed {
        proven: Some(desired.proof),
        ..dumped(State::Installed { release: id("2") }, "1")
    };
    let new = desired("2");
    assert_eq!(words(&new, &proven(&new)), "drop-dumps@Retire");
    let keeping = Desired { keep_dumps: BTreeSet::from(["1".to_owned()]), ..new };
    assert_eq!(words(&keeping, &proven(&keeping)), "");
}

fn kept(observed: Observed, release: &str) -> Observed {
    let copy = Kept { of: "/srv/socle/blog/data".into(), at: "/srv/socle/blog/kept/1/0-data".into() };
    Observed { kept: BTreeMap::from([(release.to_owned(), vec![copy])]), ..observed }
}

/// What a restore does with the files that are there; `None`: nobody misses them.
fn aside_of(desired: &Desired, observed: &Observed) -> Option<String> {
    let Diff::Changes(changes) = diff("blog", Some(desired), observed) else { panic!("refused") };
    let restore = changes.into_iter().find_map(|(_, change)| match change {
        Change::Restore { kept, aside, .. } => Some((kept, aside)),
        _ => None,
    });
    let (kept, aside) = restore.expect("it is restored");
    assert_eq!(kept.is_empty(), observed.kept.is_empty());
    aside
}

#[test]
fn files_come_back_with_the_dump_and_only_what_was_served_is_set_aside() {
    let new = desired("2");
    let half = State::HalfMigrated { from: id("2"), to: id("3") };
    assert_eq!(aside_of(&new, &kept(dumped(half, "2"), "2")), None);
    let failed = dumped(State::Installed { release: id("3") }, "2");
    assert_eq!(aside_of(&new, &kept(failed.clone(), "2")), None, "it never answered");
    let served = Observed { proven: Some(Digest::of("3")), ..failed };
    let aside = Some("/srv/socle/blog/set-aside/3".to_owned());
    assert_eq!(aside_of(&new, &kept(served.clone(), "2")), aside);
    assert_eq!(aside_of(&new, &served), None, "no files of it were kept, so the present ones stay");
    let begun = dumped(State::HalfRestored { to: id("2"), aside: aside.clone() }, "2");
    assert_eq!(aside_of(&new, &kept(begun, "2")), aside, "an interruption forgets nothing");
}

#[test]
fn what_an_interruption_left_goes_and_what_is_kept_stays() {
    let new = Desired { keep_dumps: BTreeSet::from(["1".to_owned()]), ..desired("2") };
    let proven = Observed { proven: Some(new.proof), ..seen(Some(State::Installed { release: id("2") })) };
    assert_eq!(words(&new, &kept(proven.clone(), "1")), "");
    assert_eq!(words(&new, &kept(proven.clone(), "0")), "drop-dumps@Retire");
    let debris = Observed { debris: [".stage-1".to_owned()].into(), ..kept(proven, "1") };
    let Diff::Changes(changes) = diff("blog", Some(&new), &debris) else { panic!("refused") };
    let (_, Change::DropDumps { releases, debris }) = &changes[0] else { panic!("{changes:?}") };
    assert_eq!((releases.len(), &debris[..]), (0, &[".stage-1".to_owned()][..]));
    let unproven = Observed { debris: [".stage-1".to_owned()].into(), ..seen(None) };
    assert_eq!(words(&new, &unproven), "install@Switch prove@Prove");
}

#[test]
fn purged_is_forgotten_once() {
    let gone = Desired { present: false, ..desired("2") };
    assert_eq!(words(&gone, &seen(Some(State::Installed { release: id("2") }))), "forget@Retire");
    assert_eq!(words(&gone, &Observed::default()), "");
}

#[test]
fn the_state_file_reads_back() {
    for observed in [
        Observed::default(),
        dumped(State::HalfMigrated { from: id("1"), to: id("2") }, "1"),
        Observed { proven: Some(Digest::of("x")), ..seen(Some(State::HalfInstalled { release: id("1") })) },
        seen(Some(returned("1"))),
        Observed { paused: ["1".to_owned()].into(), ..seen(Some(returned("1"))) },
        kept(dumped(State::HalfRestored { to: id("1"), aside: Some("/a".into()) }, "1"), "1"),
    ] {
        let text = serde_json::to_string(&observed).unwrap();
        assert_eq!(serde_json::from_str::<Observed>(&text).unwrap(), observed, "{text}");
    }
}
