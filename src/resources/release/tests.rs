use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::host::fetch::HttpFetch;
use crate::host::*;
use crate::resources::{About, Phase, Resource};

struct World {
    root: tempfile::TempDir,
    host: Host,
}

impl World {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let host = Host { fetch: Arc::new(HttpFetch::new(BTreeMap::new())), ..crate::host::fake::host(root.path()) };
        Self { root, host }
    }

    fn instance(&self) -> std::path::PathBuf {
        self.root.path().join("srv/socle/blog")
    }

    fn source(&self, name: &str, bytes: &[u8]) -> Source {
        let path = self.root.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        Source { url: format!("file://{}", path.display()), sha256: None }
    }

    fn archive(&self, version: &str) -> Spec {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, text) in [("app/index.php", version), ("app/data/readme", "shipped")] {
            let mut header = tar::Header::new_ustar();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(0);
            tar.append_data(&mut header, name, text.as_bytes()).unwrap();
        }
        let source = self.source(&format!("app-{version}.tar"), &tar.into_inner().unwrap());
        Spec {
            version: version.parse().unwrap(),
            source: Origin::Archive { source, strip: 1, file: None },
            links: vec![
                Link { path: "data".into(), target: "data".into() },
                Link { path: "etc/app/config.php".into(), target: "config/config.php".into() },
            ],
        }
    }

    async fn look(&self) -> Observed {
        let names = BTreeSet::from(["blog".to_owned()]);
        Release::observe(&self.host, &names).await.remove("blog").unwrap().unwrap()
    }

    /// One pass; how many changes it took.
    async fn pass(&self, desired: &Desired) -> Result<usize, ApplyError> {
        let Diff::Changes(changes) = Release::diff("blog", Some(desired), &self.look().await) else { panic!() };
        for (_, change) in &changes {
            Release::apply(&self.host, "blog", change).await?;
        }
        Ok(changes.len())
    }

    /// A pass that changes something, then one that does not.
    async fn converge(&self, desired: &Desired) {
        assert_ne!(self.pass(desired).await.unwrap(), 0);
        assert_eq!(self.pass(desired).await.unwrap(), 0, "{:?}", self.look().await);
    }

    fn files(&self, below: &str) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(self.root.path().join(below))
            .map(|entries| entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect())
            .unwrap_or_default();
        names.sort();
        names
    }
}

fn want(spec: Spec) -> Desired {
    Desired { spec: Some(spec.into()), keep: BTreeSet::new(), seen: None }
}

#[tokio::test]
async fn installs_upgrades_keeps_and_purges() {
    let world = World::new();
    let (one, two) = (world.archive("1.0"), world.archive("2.0"));
    assert!(Release::list(&world.host).await.unwrap().is_empty());
    world.converge(&want(one.clone())).await;
    let current = world.instance().join("current");
    assert_eq!(std::fs::read_to_string(current.join("index.php")).unwrap(), "1.0");
    assert_eq!(std::fs::read_to_string(current.join("data.dist/readme")).unwrap(), "shipped");
    std::fs::create_dir(world.instance().join("data")).unwrap();
    std::fs::write(world.instance().join("data/mine"), "kept").unwrap();
    assert_eq!(std::fs::read_to_string(current.join("data/mine")).unwrap(), "kept");
    assert_eq!(
        std::fs::read_link(current.join("etc/app/config.php")).unwrap(),
        Path::new("../../../../config/config.php")
    );
    assert_eq!(Release::list(&world.host).await.unwrap(), BTreeSet::from(["blog".to_owned()]));
    assert!(world.files("var/cache/socle/downloads/blog").is_empty());

    let keep = BTreeSet::from([one.id()]);
    world.converge(&Desired { keep, ..want(two.clone()) }).await;
    assert_eq!(std::fs::read_to_string(current.join("index.php")).unwrap(), "2.0");
    assert_eq!(world.look().await.present.len(), 2);
    // Going back needs no download.
    let back = Release::diff(
        "blog",
        Some(&Desired { keep: BTreeSet::from([two.id()]), ..want(one.clone()) }),
        &world.look().await,
    );
    assert_eq!(back, Diff::Changes(vec![(Phase::Switch, Change::Activate { from: Some(two.id()), to: one.id() })]));
    world.converge(&want(two.clone())).await;
    assert_eq!(world.look().await.present.into_keys().collect::<Vec<_>>(), [two.id()]);

    assert_eq!(Release::diff("blog", None, &world.look().await), Diff::IN_SYNC);
    world.converge(&Desired { spec: None, keep: BTreeSet::new(), seen: None }).await;
    assert!(world.files("srv/socle/blog/releases").is_empty());
    assert_eq!(std::fs::read_to_string(world.instance().join("data/mine")).unwrap(), "kept");
}

#[tokio::test]
async fn what_is_here_already_is_lent() {
    let world = World::new();
    let spec = world.archive("1");
    let id = spec.id();
    assert!(!lend(&world.host, &id, "drill").await.unwrap(), "nobody has it");
    world.converge(&want(spec.clone())).await;
    // From now on it could not be fetched again.
    let Origin::Archive { source, .. } = &spec.source else { panic!() };
    std::fs::remove_file(source.url.trim_start_matches("file://")).unwrap();
    assert!(lend(&world.host, &id, "drill").await.unwrap());
    let names = BTreeSet::from(["drill".to_owned()]);
    let seen = Release::observe(&world.host, &names).await.remove("drill").unwrap().unwrap();
    assert!(seen.present.contains_key(&id), "{seen:?}");
    let Diff::Changes(changes) = Release::diff("drill", Some(&want(spec)), &seen) else { panic!() };
    for (_, change) in &changes {
        assert!(matches!(change, Change::Activate { .. }), "{change}");
        Release::apply(&world.host, "drill", change).await.unwrap();
    }
    assert!(world.root.path().join("srv/socle/drill/current/index.php").exists());
}

#[tokio::test]
async fn single_files_and_empty_releases() {
    let world = World::new();
    let source = world.source("tool.phar", b"phar");
    let file = |name: &str| Spec {
        version: "1".parse().unwrap(),
        source: Origin::Archive { source: source.clone(), strip: 0, file: Some(name.to_owned()) },
        links: Vec::new(),
    };
    world.converge(&want(file("index.php"))).await;
    assert_eq!(std::fs::read_to_string(world.instance().join("current/index.php")).unwrap(), "phar");
    for bad in ["../x", "", ".htaccess"] {
        let error = world.pass(&want(file(bad))).await.unwrap_err();
        assert_eq!((error.report.code.as_str(), error.about), ("release.file-name", About::Release));
    }
    let empty = Spec { version: "1".parse().unwrap(), source: Origin::Empty, links: Vec::new() };
    world.converge(&want(empty)).await;
    assert!(world.files("srv/socle/blog/current").is_empty());
}

#[tokio::test]
async fn bytes_that_changed_since_they_were_first_seen_are_refused() {
    let world = World::new();
    let desired = Desired { seen: Some(Digest::of("other")), ..want(world.archive("1.0")) };
    let error = world.pass(&desired).await.unwrap_err();
    assert_eq!((error.report.code.as_str(), error.about), ("release.changed", About::Release));
    assert!(error.report.hint.is_some());
    assert!(world.files("var/cache/socle/downloads/blog").is_empty());
    assert_eq!(world.look().await.current, None);
    world.converge(&want(world.archive("1.0"))).await;
}

#[tokio::test]
async fn what_fails_says_about_what() {
    let world = World::new();
    let with =
        |source: Source| Spec { source: Origin::Archive { source, strip: 0, file: None }, ..world.archive("1.0") };
    let mut wrong = world.source("a.tar", b"x");
    wrong.sha256 = Some(Digest::of("y"));
    let mut missing = world.source("b.tar", b"x");
    missing.url.push_str(".not-there");
    let cases = [
        (wrong, "fetch.digest", About::Release),
        (missing, "fetch.open", About::Host),
        (world.source("c.tar", b"<html>"), "archive.refused", About::Release),
        (Source { url: "http://a.example/x".into(), sha256: None }, "fetch.insecure", About::Release),
    ];
    for (source, code, about) in cases {
        let error = world.pass(&want(with(source))).await.unwrap_err();
        assert_eq!((error.report.code.as_str(), error.about), (code, about));
    }
    let taken = Link { path: "index.php".into(), target: "x".into() };
    let mut twice = world.archive("3.0");
    twice.links = vec![taken.clone(), taken];
    twice.links.push(Link { path: "index.php".into(), target: "x".into() });
    let error = world.pass(&want(twice)).await.unwrap_err();
    assert_eq!((error.report.code.as_str(), error.about), ("release.link", About::Release));
    for bad in ["../x", "/x", "a/../b", "", "index.php/x"] {
        let mut spec = world.archive("4.0");
        spec.links = vec![Link { path: bad.into(), target: "x".into() }];
        assert_eq!(world.pass(&want(spec)).await.unwrap_err().report.code, "release.link", "{bad}");
    }
    assert_eq!(world.look().await.present.len(), 0);
    world.converge(&want(world.archive("1.0"))).await;
}

#[tokio::test]
async fn what_was_changed_between_stage_and_switch_is_not_switched_to() {
    let index = |release: &Path| release.join("index.php");
    type Tamper = fn(&Path);
    let tampers: [(&str, Tamper); 5] = [
        ("a byte", |release| std::fs::write(release.join("index.php"), "2.1").unwrap()),
        ("a mode", |release| {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o666);
            std::fs::set_permissions(release.join("index.php"), mode).unwrap();
        }),
        ("a file more", |release| std::fs::write(release.join("shell.php"), "").unwrap()),
        ("a file less", |release| std::fs::remove_file(release.join("data.dist/readme")).unwrap()),
        ("a link", |release| {
            std::fs::remove_file(release.join("data")).unwrap();
            symlink("/etc", release.join("data")).unwrap();
        }),
    ];
    for (what, tamper) in tampers {
        let world = World::new();
        let (old, new) = (world.archive("1.0"), world.archive("2.0"));
        world.converge(&want(old.clone())).await;
        let wanted = Desired { keep: BTreeSet::from([old.id()]), ..want(new.clone()) };
        let Diff::Changes(changes) = Release::diff("blog", Some(&wanted), &world.look().await) else { panic!() };
        let (staged, switched): (Vec<_>, Vec<_>) = changes.iter().partition(|(phase, _)| *phase == Phase::Stage);
        for (_, change) in staged {
            Release::apply(&world.host, "blog", change).await.unwrap();
        }
        let release = world.instance().join("releases").join(&new.id().0);
        assert_eq!(std::fs::read_to_string(index(&release)).unwrap(), "2.0");
        tamper(&release);
        let error = Release::apply(&world.host, "blog", &switched[0].1).await.unwrap_err();
        assert_eq!((error.report.code.as_str(), error.about), ("release.altered", About::Host), "{what}");
        let current = index(&world.instance().join("current"));
        assert_eq!(std::fs::read_to_string(&current).unwrap(), "1.0", "{what}");
        world.converge(&wanted).await;
        assert_eq!(std::fs::read_to_string(&current).unwrap(), "2.0", "{what}");
        // Going back is a switch too.
        tamper(&world.instance().join("releases").join(&old.id().0));
        let back = Desired { keep: BTreeSet::from([new.id()]), ..want(old.clone()) };
        assert_eq!(world.pass(&back).await.unwrap_err().report.code, "release.altered", "{what}");
        world.converge(&back).await;
        assert_eq!(std::fs::read_to_string(&current).unwrap(), "1.0", "{what}");
    }
}

/// Every state an interruption can leave, made by hand.
#[tokio::test]
async fn what_an_interruption_leaves_is_swept_and_the_release_arrives() {
    for at in 0..9 {
        let world = World::new();
        let (old, new) = (world.archive("1.0"), world.archive("2.0"));
        world.converge(&want(old.clone())).await;
        let releases = world.instance().join("releases");
        let downloads = world.root.path().join("var/cache/socle/downloads/blog");
        let (id, old_id) = (new.id(), old.id());
        match at {
            0 => std::fs::write(downloads.join(format!("{id}.part")), "half").unwrap(),
            1 => std::fs::write(downloads.join("0.9-00000000.part"), "half").unwrap(),
            2 => std::fs::write(downloads.join(&id.0), "whole").unwrap(),
            3 => std::fs::create_dir(releases.join(format!(".stage-{id}"))).unwrap(),
            4 => {
                std::fs::create_dir(releases.join(format!(".stage-{id}"))).unwrap();
                std::fs::write(releases.join(format!(".{id}.json")), "{}").unwrap();
            }
            5 => std::fs::write(releases.join(format!("..{id}.json.socle-new")), "{").unwrap(),
            6 => std::fs::create_dir(releases.join(&id.0)).unwrap(),
            // The removal of the old release, and of its marker.
            7 => std::fs::rename(releases.join(&old_id.0), releases.join(format!(".stage-{old_id}"))).unwrap(),
            // `current` switched, nothing removed.
            _ => symlink("releases/x", world.instance().join(".current.socle-new")).unwrap(),
        }
        world.converge(&want(new)).await;
        assert_eq!(std::fs::read_to_string(world.instance().join("current/index.php")).unwrap(), "2.0", "{at}");
        assert_eq!(world.files("srv/socle/blog/releases"), [format!(".{id}.json"), id.0.clone()], "{at}");
        assert_eq!(world.files("srv/socle/blog"), ["current", "releases"], "{at}");
        assert!(world.files("var/cache/socle/downloads/blog").is_empty(), "{at}");
    }
}

#[tokio::test]
async fn a_current_release_without_its_marker_is_replaced() {
    let world = World::new();
    let spec = world.archive("1.0");
    world.converge(&want(spec.clone())).await;
    std::fs::remove_file(world.instance().join(format!("releases/.{}.json", spec.id()))).unwrap();
    world.converge(&want(spec.clone())).await;
    // And one that is to be left stays until the switch.
    std::fs::remove_file(world.instance().join(format!("releases/.{}.json", spec.id()))).unwrap();
    let next = world.archive("2.0");
    let Diff::Changes(changes) = Release::diff("blog", Some(&want(next.clone())), &world.look().await) else {
        panic!()
    };
    let sweeps: Vec<Phase> =
        changes.iter().filter(|(_, change)| matches!(change, Change::Sweep { .. })).map(|(phase, _)| *phase).collect();
    assert_eq!(sweeps, [Phase::Retire]);
    world.converge(&want(next)).await;
}

#[tokio::test]
async fn what_cannot_be_read_is_not_absent() {
    let world = World::new();
    let spec = world.archive("1.0");
    world.converge(&want(spec.clone())).await;
    let names = BTreeSet::from(["blog".to_owned()]);
    let look = async || Release::observe(&world.host, &names).await.remove("blog").unwrap();
    let marker = world.instance().join(format!("releases/.{}.json", spec.id()));
    let whole = std::fs::read(&marker).unwrap();
    std::fs::write(&marker, "{").unwrap();
    assert!(look().await.unwrap_err().hint.unwrap().contains("remove"));
    std::fs::write(&marker, whole).unwrap();
    let current = world.instance().join("current");
    for odd in ["/etc", "releases/a/b", "../x"] {
        std::fs::remove_file(&current).unwrap();
        symlink(odd, &current).unwrap();
        assert_eq!(look().await.unwrap_err().code, "release.unreadable", "{odd}");
    }
    std::fs::remove_file(&current).unwrap();
    std::fs::create_dir(&current).unwrap();
    assert!(look().await.is_err());
    assert!(Release::list(&world.host).await.is_ok());
}

#[test]
fn diffs() {
    let spec = Spec { version: "2".parse().unwrap(), source: Origin::Empty, links: Vec::new() };
    let (id, old, older) = (spec.id(), ReleaseId("1-aaaaaaaa".into()), ReleaseId("0-bbbbbbbb".into()));
    let observed = |present: &[&ReleaseId], current: Option<&ReleaseId>, debris: &[&str]| Observed {
        present: present.iter().map(|id| ((*id).clone(), None)).collect(),
        current: current.cloned(),
        debris: debris.iter().map(|name| name.to_string()).collect(),
    };
    let sweep = |names: &[&str]| Change::Sweep { debris: names.iter().map(|name| name.to_string()).collect() };
    let fetch = Change::Fetch { id: id.clone(), spec: spec.clone().into(), seen: None };
    let activate = |from: Option<&ReleaseId>| Change::Activate { from: from.cloned(), to: id.clone() };
    let part = format!("downloads/{id}.part");
    let desired = Desired { keep: BTreeSet::from([old.clone()]), ..want(spec.clone()) };
    let cases = [
        (observed(&[&id], Some(&id), &[]), vec![]),
        (observed(&[], None, &[]), vec![(Phase::Stage, fetch.clone()), (Phase::Switch, activate(None))]),
        (observed(&[&id, &old], Some(&old), &[]), vec![(Phase::Switch, activate(Some(&old)))]),
        (observed(&[&older, &old, &id], Some(&id), &[]), vec![(Phase::Retire, Change::Remove { id: older.clone() })]),
        (
            observed(&[&older], Some(&older), &["releases/.stage-x", &part]),
            vec![
                (Phase::Stage, sweep(&["releases/.stage-x"])),
                (Phase::Stage, fetch),
                (Phase::Switch, activate(Some(&older))),
                (Phase::Retire, Change::Remove { id: older.clone() }),
            ],
        ),
        (observed(&[&id], Some(&id), &[&part]), vec![(Phase::Stage, sweep(&[&part]))]),
    ];
    for (seen, changes) in cases {
        assert_eq!(Release::diff("blog", Some(&desired), &seen), Diff::Changes(changes), "{seen:?}");
    }
    let purge = Desired { spec: None, keep: BTreeSet::new(), seen: None };
    let seen = observed(&[&id], Some(&id), &[&part]);
    let Diff::Changes(changes) = Release::diff("blog", Some(&purge), &seen) else { panic!() };
    assert!(changes.iter().all(|(phase, _)| *phase == Phase::Retire) && changes.len() == 3);
    assert_eq!(Release::diff("blog", Some(&purge), &Observed::default()), Diff::IN_SYNC);
}
