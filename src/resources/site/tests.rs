//! Sites on real files below a temporary root, with a stand-in for nginx.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use std::sync::Arc;

use super::*;
use crate::host::fake::{self, FakeWeb};
use crate::host::*;
use crate::resources::{About, Resource};
use futures_util::stream::BoxStream;

const OLD: &str = "# Managed by socle.\nserver { old }\n";
const NEW: &str = "# Managed by socle.\nserver { new }\n";

/// nginx runs since `since_us`; nothing else is asked of these ports.
struct Only {
    since_us: u64,
}

#[async_trait::async_trait]
impl Units for Only {
    async fn states(&self, names: &BTreeSet<String>) -> PortResult<BTreeMap<String, UnitState>> {
        let active = if self.since_us > 0 { "active" } else { "inactive" }.to_owned();
        let state = UnitState { active, ..UnitState::default() };
        Ok(names.iter().map(|name| (name.clone(), state.clone())).collect())
    }
    async fn details(&self, names: &BTreeSet<String>) -> PortResult<BTreeMap<String, UnitState>> {
        let states = Units::states(self, names).await?.into_iter();
        Ok(states.map(|(name, state)| (name, UnitState { since_us: self.since_us, ..state })).collect())
    }
    async fn start(&self, _: &str) -> PortResult<()> {
        unreachable!()
    }
    async fn restart(&self, _: &str) -> PortResult<()> {
        unreachable!()
    }
    async fn reload(&self, _: &str) -> PortResult<()> {
        unreachable!()
    }
    async fn stop(&self, _: &str) -> PortResult<()> {
        unreachable!()
    }
    async fn enable(&self, _: &str) -> PortResult<()> {
        unreachable!()
    }
    async fn disable(&self, _: &str) -> PortResult<()> {
        unreachable!()
    }
    async fn mask(&self, _: &str) -> PortResult<()> {
        unreachable!()
    }
    async fn unmask(&self, _: &str) -> PortResult<()> {
        unreachable!()
    }
    async fn daemon_reload(&self) -> PortResult<()> {
        unreachable!()
    }
    async fn failures(&self) -> BoxStream<'static, String> {
        Box::pin(futures_util::stream::empty())
    }
}

#[async_trait::async_trait]
impl Accounts for Only {
    async fn states(&self, _: &BTreeSet<String>) -> PortResult<BTreeMap<String, Option<AccountState>>> {
        unreachable!()
    }
    async fn create(&self, _: &str, _: &str, _: &str) -> PortResult<()> {
        unreachable!()
    }
    async fn set_home(&self, _: &str, _: &str) -> PortResult<()> {
        unreachable!()
    }
    async fn join(&self, _: &str, _: &str) -> PortResult<()> {
        unreachable!()
    }
    async fn remove(&self, _: &str) -> PortResult<()> {
        unreachable!()
    }
}

struct Server {
    root: tempfile::TempDir,
    web: Arc<FakeWeb>,
    host: Host,
}

impl Server {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        for directory in [AVAILABLE, ENABLED] {
            fs::create_dir_all(root.path().join(&directory[1..])).unwrap();
        }
        let web = Arc::new(FakeWeb::new(root.path()));
        let host = Host {
            units: Arc::new(Only { since_us: 1 }),
            accounts: Arc::new(Only { since_us: 1 }),
            web: web.clone(),
            ..fake::host(root.path())
        };
        Self { root, web, host }
    }

    /// nginx runs since that moment (Unix microseconds); 0: it does not run.
    async fn look(&mut self, since_us: u64) -> Observed {
        self.host.units = Arc::new(Only { since_us });
        Site::observe(&self.host, &["blog".to_owned()].into()).await.remove("blog").unwrap().unwrap()
    }

    fn file(&self, path: &str) -> std::path::PathBuf {
        self.root.path().join(&path[1..])
    }

    async fn publish(&self, text: &str) -> Result<(), ApplyError> {
        let change = Change::Publish { text: text.into(), digest: Digest::of(text), replaces: true };
        Site::apply(&self.host, "blog", &change).await
    }

    fn served(&self) -> Option<String> {
        self.web.served().remove("socle-blog.conf")
    }

    fn text(&self) -> Option<String> {
        fs::read_to_string(self.file(&Paths::of("blog").available)).ok()
    }
}

#[tokio::test]
async fn published_replaced_withdrawn() {
    let server = Server::new();
    for text in [OLD, NEW, NEW] {
        server.publish(text).await.unwrap();
        assert_eq!((server.served().as_deref(), server.text().as_deref()), (Some(text), Some(text)));
        let marker = fs::read_link(server.file(&Paths::of("blog").marker)).unwrap();
        assert_eq!(marker, Path::new(&mark_of(&Digest::of(text), None)));
    }
    assert_eq!(Site::list(&server.host).await.unwrap(), ["blog".to_owned()].into());
    for _ in 0..2 {
        Site::apply(&server.host, "blog", &Change::Withdraw).await.unwrap();
        assert_eq!((server.served(), server.text()), (None, None));
    }
    assert!(Site::list(&server.host).await.unwrap().is_empty());
    assert!(fs::read_link(server.file(&Paths::of("blog").marker)).is_err());
}

#[tokio::test]
async fn what_nginx_refuses_never_goes_live() {
    let server = Server::new();
    server.publish(OLD).await.unwrap();
    let error = server.publish("# Managed by socle.\nbogus\n").await.unwrap_err();
    assert_eq!((error.report.code.as_str(), error.about), ("site.rejected", About::Release));
    fs::write(server.file(ENABLED).join("legacy"), "bogus").unwrap();
    let error = server.publish(NEW).await.unwrap_err();
    assert_eq!((error.report.code.as_str(), error.about), ("nginx.broken", About::Host));
    assert_eq!((server.served().as_deref(), server.text().as_deref()), (Some(OLD), Some(OLD)));
}

#[tokio::test]
async fn a_failed_reload_puts_the_old_files_back() {
    let server = Server::new();
    server.web.fail_reload(PortError::new("nginx.reload", "no"));
    let error = server.publish(OLD).await.unwrap_err();
    assert!(error.report.causes.iter().any(|cause| cause.contains("in place again")), "{error:?}");
    assert_eq!((server.served(), server.text()), (None, None));
    assert!(fs::symlink_metadata(server.file(&Paths::of("blog").enabled)).is_err(), "no link that leads nowhere");

    server.publish(OLD).await.unwrap();
    for change in [Change::Publish { text: NEW.into(), digest: Digest::of(NEW), replaces: true }, Change::Withdraw] {
        server.web.fail_reload(PortError::new("nginx.reload", "no"));
        Site::apply(&server.host, "blog", &change).await.unwrap_err();
        assert_eq!((server.served().as_deref(), server.text().as_deref()), (Some(OLD), Some(OLD)));
        assert!(server.file(&Paths::of("blog").enabled).is_symlink());
    }
}

#[tokio::test]
async fn only_ours_are_listed() {
    let server = Server::new();
    let available = server.file(AVAILABLE);
    fs::write(available.join("default"), "server {}").unwrap();
    fs::write(available.join("socle-hand.conf"), "server {} # by hand").unwrap();
    fs::write(available.join("socle-shop.conf"), OLD).unwrap();
    // The file was removed by hand; the link that is left keeps nginx from starting.
    symlink(Paths::of("gone").available, server.file(&Paths::of("gone").enabled)).unwrap();
    let listed = Site::list(&server.host).await.unwrap();
    assert_eq!(listed, ["gone".to_owned(), "shop".to_owned()].into());
}

#[tokio::test]
async fn loaded_is_what_nginx_serves() {
    let mut server = Server::new();
    let mark = Some(mark_of(&Digest::of(OLD), None));
    assert_eq!(server.look(1).await, Observed::default());
    server.publish(OLD).await.unwrap();
    let seen = server.look(1).await;
    assert_eq!(seen, Observed { text: Some(OLD.into()), enabled: true, loaded: mark.clone(), certificate: None });
    assert_eq!(Site::diff("blog", Some(&Desired { text: OLD.into() }), &seen), Diff::IN_SYNC);
    assert_eq!(server.look(0).await.loaded, None, "nginx does not run");
    // After a boot the marker is gone. A start after the last change of the files has read them.
    fs::remove_file(server.file(&Paths::of("blog").marker)).unwrap();
    assert_eq!(server.look(1).await.loaded, None);
    assert_eq!(server.look(u64::MAX).await.loaded, mark);
}

#[tokio::test]
async fn a_new_certificate_is_loaded_by_a_reload() {
    let mut server = Server::new();
    let directory = server.file(&certificate::current("blog")).parent().unwrap().to_owned();
    fs::create_dir_all(&directory).unwrap();
    for generation in 1..=3 {
        let _ = fs::remove_file(directory.join("current"));
        symlink(generation.to_string(), directory.join("current")).unwrap();
        let seen = server.look(1).await;
        let Diff::Changes(changes) = Site::diff("blog", Some(&Desired { text: OLD.into() }), &seen) else { panic!() };
        let [(_, change)] = &changes[..] else { panic!("{changes:?}") };
        assert_eq!(matches!(change, Change::Reload { .. }), generation > 1, "{change}");
        Site::apply(&server.host, "blog", change).await.unwrap();
        let seen = server.look(1).await;
        assert_eq!(seen.loaded, Some(mark_of(&Digest::of(OLD), Some(generation))));
        assert_eq!(Site::diff("blog", Some(&Desired { text: OLD.into() }), &seen), Diff::IN_SYNC);
    }
}

#[tokio::test]
async fn many_new_certificates_are_loaded_by_one_reload() {
    let server = Server::new();
    let names: BTreeSet<String> = ["blog", "shop", "wiki"].map(str::to_owned).into();
    let point = |name: &String, generation: &str| {
        let directory = server.file(&certificate::current(name)).parent().unwrap().to_owned();
        fs::create_dir_all(&directory).unwrap();
        let _ = fs::remove_file(directory.join("current"));
        symlink(generation, directory.join("current")).unwrap();
    };
    let desired = Desired { text: OLD.into() };
    let mut reloads = Vec::new();
    for generation in ["1", "2", "3"] {
        names.iter().for_each(|name| point(name, generation));
        // The clock of files is coarse: what is as old as the reload is reloaded once more.
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        for (name, seen) in Site::observe(&server.host, &names).await {
            let Diff::Changes(changes) = Site::diff(&name, Some(&desired), &seen.unwrap()) else { panic!() };
            Site::apply(&server.host, &name, &changes[0].1).await.unwrap();
        }
        for (name, seen) in Site::observe(&server.host, &names).await {
            assert_eq!(Site::diff(&name, Some(&desired), &seen.unwrap()), Diff::IN_SYNC, "{name}");
        }
        reloads.push(server.web.calls().iter().filter(|call| *call == "reload").count());
    }
    assert_eq!(reloads, [3, 4, 5]);
}

fn publication(text: &str) -> Change {
    Change::Publish { text: text.into(), digest: Digest::of(text), replaces: false }
}

#[tokio::test]
async fn many_are_published_by_one_reload() {
    let server = Server::new();
    let change = publication(OLD);
    let done = apply_together(&server.host, &[("blog", &change), ("shop", &change), ("wiki", &change)]).await;
    assert!(done.len() == 3 && done.iter().all(Result::is_ok), "{done:?}");
    assert_eq!(server.web.calls(), ["test blog, shop, wiki together", "reload"]);
    assert_eq!(server.web.served().len(), 3);
    let names = ["blog", "shop", "wiki"].map(str::to_owned).into();
    for (name, seen) in Site::observe(&server.host, &names).await {
        assert_eq!(Site::diff(&name, Some(&Desired { text: OLD.into() }), &seen.unwrap()), Diff::IN_SYNC, "{name}");
    }
}

#[tokio::test]
async fn one_that_is_refused_holds_up_none_that_was_to_be_published_with_it() {
    let server = Server::new();
    server.publish(OLD).await.unwrap();
    let (new, bad) = (publication(NEW), publication("# Managed by socle.\nbogus\n"));
    let done = apply_together(&server.host, &[("blog", &bad), ("shop", &new), ("wiki", &new)]).await;
    let codes: Vec<_> = done.iter().map(|done| done.as_ref().map_err(|error| error.report.code.as_str())).collect();
    assert_eq!(codes, [Err("site.rejected"), Ok(&()), Ok(&())]);
    assert_eq!((server.served().as_deref(), server.text().as_deref()), (Some(OLD), Some(OLD)));
    assert_eq!(server.web.served().len(), 3);
}

#[tokio::test]
async fn a_failed_reload_of_many_is_tried_one_by_one_from_where_it_was() {
    let server = Server::new();
    server.publish(OLD).await.unwrap();
    let new = publication(NEW);
    server.web.fail_reload(PortError::new("nginx.reload", "no"));
    let done = apply_together(&server.host, &[("blog", &new), ("shop", &new)]).await;
    assert!(done.iter().all(Result::is_ok), "{done:?}");
    let after = ["test blog, shop together", "reload", "test blog", "reload", "test shop", "reload"];
    assert!(server.web.calls().ends_with(&after.map(str::to_owned)), "{:?}", server.web.calls());
    assert_eq!(server.served().as_deref(), Some(NEW));
}
