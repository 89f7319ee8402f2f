use super::*;
use crate::model::Digest;
use crate::model::document::{Engine, ExistingState};
use crate::resources::release::ReleaseId;
use crate::resources::{database, directory, release, service, setup};

fn id(text: &str) -> ResourceId {
    serde_json::from_value(serde_json::json!(text)).unwrap()
}

fn wanted(name: &str, desired: AnyDesired, needs: &[&str]) -> Wanted {
    Wanted { id: id(name), desired, needs: needs.iter().map(|n| id(n)).collect(), owner: Some("blog".into()) }
}

fn package() -> AnyDesired {
    AnyDesired::Package(package::Desired { present: true })
}

fn unit(text: &str) -> AnyDesired {
    AnyDesired::Service(service::Desired::Own(Box::new(service::Own {
        text: text.into(),
        enabled: true,
        active: Some(true),
        inputs: None,
    })))
}

fn running(text: &str) -> AnyObserved {
    AnyObserved::Service(service::Observed {
        text: Some(text.into()),
        exists: true,
        active: "active".into(),
        enabled: "enabled".into(),
        ..service::Observed::default()
    })
}

fn setup_of(release: &str) -> AnyDesired {
    AnyDesired::Setup(setup::Desired {
        present: true,
        release: ReleaseId(release.into()),
        install: [].into(),
        migrate: [setup::Step::Seed { from: "a".into(), to: "b".into(), owner: "c".into(), replace: true }].into(),
        databases: vec![(Engine::Mariadb, "blog".into())],
        directories: vec!["/srv/socle/blog/data".into()],
        probes: vec![setup::Probe {
            host: "h".into(),
            path: "/".into(),
            status: vec![200],
            contains: None,
            within_s: 1,
        }],
        proof: Digest::of(release),
        identity: setup::Identity { name: "blog".into(), domain: "blog.test".into() },
        moves: [].into(),
        keep_dumps: BTreeSet::new(),
        units: BTreeSet::new(),
        quiet: Box::new(setup::Quiet { stop: true, ..Default::default() }),
        saved: vec!["data".into()],
    })
}

fn installed(release: &str) -> AnyObserved {
    let state = Some(setup::State::Installed { release: ReleaseId(release.into()) });
    AnyObserved::Setup(setup::Observed { state, ..setup::Observed::default() })
}

fn observation(seen: Vec<(&str, AnyObserved)>) -> Observation {
    let seen = seen.into_iter().map(|(name, seen)| (id(name), Ok(seen))).collect();
    Observation { seen, unlisted: BTreeMap::new() }
}

fn told(plan: &Plan) -> Vec<String> {
    let on = |step: &Step| step.on.iter().map(ToString::to_string).collect::<Vec<_>>().join("+");
    plan.steps.iter().map(|step| format!("{:?} {} {}", step.phase, on(step), step.change)).collect()
}

fn failure(code: &str) -> ErrorReport {
    ErrorReport { code: code.into(), message: code.into(), causes: Vec::new(), hint: None }
}

#[test]
fn package_installs_are_one_run() {
    let wanted = [wanted("package:b", package(), &[]), wanted("package:a", package(), &[])];
    let absent = || AnyObserved::Package(package::Observed::Absent { candidate: "1".into() });
    let plan = plan(&wanted, &observation(vec![("package:a", absent()), ("package:b", absent())]));
    assert_eq!(told(&plan), ["Stage package:a+package:b install a b"]);
}

#[test]
fn what_is_needed_comes_first_and_is_waited_for() {
    let desired = |mode| {
        let (owner, group) = ("o".into(), "g".into());
        AnyDesired::Directory(directory::Desired { present: true, owner, group, mode, whole: false })
    };
    let wanted = [wanted("directory:/a", desired(1), &["directory:/z"]), wanted("directory:/z", desired(1), &[])];
    let absent = || AnyObserved::Directory(directory::Observed::Absent);
    let plan = plan(&wanted, &observation(vec![("directory:/a", absent()), ("directory:/z", absent())]));
    assert_eq!(plan.steps[0].on, [id("directory:/z")]);
    assert_eq!(plan.steps[1].needs, [0]);
}

#[test]
fn a_migration_stands_between_stop_and_start() {
    let wanted = [
        wanted("service:socle-blog-php.service", unit("unit"), &["setup:blog"]),
        wanted("setup:blog", setup_of("2"), &[]),
    ];
    let seen = observation(vec![("service:socle-blog-php.service", running("unit")), ("setup:blog", installed("1"))]);
    let plan = plan(&wanted, &seen);
    assert_eq!(
        told(&plan),
        [
            "Stage setup:blog get ready to keep the files of 1",
            "Withdraw service:socle-blog-php.service stop",
            "Withdraw setup:blog dump the databases of 1",
            "Withdraw setup:blog keep the files of 1",
            "Switch setup:blog migrate data from 1 to 2",
            "Switch service:socle-blog-php.service start",
            "Prove setup:blog check that the site answers (1 probes)",
        ]
    );
    for (id, step) in plan.steps.iter().enumerate().skip(1) {
        assert_eq!(step.needs, (0..id).collect::<Vec<_>>(), "{} waits for everything before it", told(&plan)[id]);
    }
}

#[test]
fn an_unknown_database_holds_back_a_release_but_not_a_repair() {
    let database =
        AnyDesired::Database(database::Desired { present: true, owner: "o".into(), extensions: BTreeSet::new() });
    let mut wanted = vec![
        wanted("database:mariadb:blog", database, &[]),
        wanted("service:socle-blog-php.service", unit("unit"), &["database:mariadb:blog"]),
    ];
    let stopped = AnyObserved::Service(service::Observed {
        active: "failed".into(),
        text: Some("unit".into()),
        exists: true,
        enabled: "enabled".into(),
        ..service::Observed::default()
    });
    let mut seen = observation(vec![("service:socle-blog-php.service", stopped)]);
    seen.seen.insert(id("database:mariadb:blog"), Err(failure("mariadb.down")));
    let repair = plan(&wanted, &seen);
    assert_eq!(told(&repair), ["Switch service:socle-blog-php.service start"]);
    assert_eq!(repair.steps[0].blocked_by, None);
    assert!(repair.unknown.contains_key(&id("database:mariadb:blog")));

    let spec = release::Spec { version: "2".parse().unwrap(), source: release::Origin::Empty, links: Vec::new() };
    let current = Some(spec.id());
    let desired = release::Desired { spec: Some(spec.into()), keep: BTreeSet::new(), seen: None };
    wanted.push(self::wanted("release:blog", AnyDesired::Release(desired), &[]));
    let present = current.iter().map(|id| (id.clone(), None)).collect();
    seen.seen.insert(
        id("release:blog"),
        Ok(AnyObserved::Release(release::Observed { present, current: None, debris: BTreeSet::new() })),
    );
    let held = plan(&wanted, &seen);
    let switch = held.steps.iter().find(|step| step.on == [id("release:blog")]).unwrap();
    assert_eq!(switch.blocked_by, Some(id("database:mariadb:blog")));
}

#[test]
fn what_needs_something_refused_is_blocked() {
    let existing = AnyDesired::Service(service::Desired::Existing(ExistingState::Enabled));
    let wanted = [wanted("package:no", package(), &[]), wanted("service:nginx.service", existing, &["package:no"])];
    let seen = observation(vec![
        ("package:no", AnyObserved::Package(package::Observed::Unknown { hint: None })),
        ("service:nginx.service", AnyObserved::Service(service::Observed { exists: true, ..Default::default() })),
    ]);
    let plan = plan(&wanted, &seen);
    assert!(plan.refused.contains_key(&id("package:no")));
    assert!(!plan.steps.is_empty());
    assert!(plan.steps.iter().all(|step| step.blocked_by == Some(id("package:no"))), "{plan:?}");
}

#[test]
fn what_could_not_be_listed_is_said() {
    let mut seen = observation(vec![]);
    seen.unlisted.insert(Kind::Service, failure("files.unreadable"));
    let plan = plan(&[], &seen);
    assert!(!plan.is_empty());
    assert!(plan.unknown.contains_key(&ResourceId::new(Kind::Service, "*")));
}

#[test]
fn many_are_planned_as_few_are() {
    let name = |nth: usize| format!("service:u{nth}.service");
    let of = |nth: usize| match nth {
        0 => wanted("package:nginx", package(), &[]),
        1 => wanted(&name(nth), unit("x"), &["package:nginx"]),
        _ => wanted(&name(nth), unit("x"), &["package:nginx", &name(nth / 2)]),
    };
    let all: Vec<Wanted> = (0..MANY).map(of).collect();
    let mut seen: BTreeMap<_, _> =
        (1..MANY).map(|nth| (id(&name(nth)), Ok(AnyObserved::Service(service::Observed::default())))).collect();
    seen.insert(id("package:nginx"), Ok(AnyObserved::Package(package::Observed::Absent { candidate: "1".into() })));
    seen.insert(id("service:orphan.service"), Ok(running("y")));
    let observation = Observation { seen, unlisted: BTreeMap::new() };
    let beside = plan(&all, &observation);
    assert!(beside.steps.len() > MANY && beside.refused.is_empty() && beside.unknown.is_empty());
    assert_eq!(beside, planned(&all, &observation, || Order::of(&all, &observation)));
}
