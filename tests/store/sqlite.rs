//! What only SQLite has: a file, its copies, its disk.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use socle::controller::store::{BackupError, NewDocuments, PutError, Store, StoreError, StoreUrl};

use crate::contract::outbox::{report, send};
use crate::place::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_taken_during_writes_is_whole() {
    let place = Place::sqlite();
    let store = place.fleet(3).await;
    let stop = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn({
        let (store, stop) = (store.clone(), stop.clone());
        async move {
            let mut sequence = 0;
            while !stop.load(Ordering::Relaxed) {
                let new = NewDocuments {
                    texts: texts([("s0", "text of s0"), ("s1", "text of s1"), ("s2", "text of s2")]),
                    revision: Some(revision("push")),
                };
                put(&store, &new).await;
                sequence += 1;
                send(&store, "s0", [report(sequence, "done")]).await;
            }
            sequence
        }
    });
    let copies = tempfile::tempdir().unwrap();
    let mut pushes = Vec::new();
    for round in 0..5 {
        let copy = copies.path().join(format!("{round}.db"));
        store.backup(&copy, &by(20)).await.unwrap();
        assert_eq!(std::fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
        let copied = Store::open(&StoreUrl::sqlite(&copy)).await.unwrap();
        assert_eq!(copied.integrity().await.unwrap(), [""; 0]);
        let marks = copied.newest_marks().await.unwrap();
        assert!(marks.windows(2).all(|two| two[0].mark == two[1].mark), "half a push: {marks:?}");
        let revision = copied.newest_revision().await.unwrap().map_or(0, |revision| revision.number);
        assert_eq!(revision, marks.first().map_or(0, |newest| newest.mark.generation.0));
        pushes.push(revision);
        copied.close().await;
    }
    stop.store(true, Ordering::Relaxed);
    assert!(writer.await.unwrap() >= *pushes.last().unwrap());
    assert!(pushes.windows(2).all(|two| two[0] <= two[1]) && pushes[0] < pushes[4], "nothing was written: {pushes:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_is_put_back_while_nobody_has_the_database_open() {
    let place = Place::sqlite();
    let store = place.fleet(1).await;
    put(&store, &direct([("s0", "kept")])).await;
    let directory = tempfile::tempdir().unwrap();
    let copy = directory.path().join("copy.db");
    store.backup(&copy, &by(20)).await.unwrap();
    put(&store, &direct([("s0", "lost")])).await;

    let refused = Store::restore(&place.url, &copy).await.unwrap_err();
    assert!(matches!(refused, BackupError::Store(StoreError::InUse(_))), "{refused:?}");
    store.close().await;
    drop(store);

    let bad = directory.path().join("bad");
    std::fs::write(&bad, []).unwrap();
    let refused = Store::restore(&place.url, &bad).await.unwrap_err();
    assert!(
        refused.to_string().ends_with("is no sound copy of a controller's database: there is no fleet in it"),
        "{refused}"
    );
    std::fs::write(&bad, vec![0x55; 8192]).unwrap();
    let refused = Store::restore(&place.url, &bad).await.unwrap_err();
    assert!(matches!(refused, BackupError::Store(StoreError::Damaged { .. })), "{refused:?}");
    let refused = Store::restore(&place.url, &directory.path().join("absent")).await.unwrap_err();
    assert!(matches!(refused, BackupError::Store(StoreError::Open { .. })), "{refused:?}");
    let store = place.open().await;
    assert_eq!(store.newest(&name("s0")).await.unwrap().unwrap().text, "lost", "a refused restore changes nothing");
    store.close().await;
    drop(store);

    Store::restore(&place.url, &copy).await.unwrap();
    let store = place.open().await;
    assert_eq!(store.newest(&name("s0")).await.unwrap().unwrap().text, "kept");
    // The agent knows more than the database now: the next mark is above both.
    store.note_positions(&[(name("s0"), position(mark(0, 2)))], at(30)).await.unwrap();
    assert_eq!(put(&store, &direct([("s0", "new")])).await.marks[&name("s0")], mark(0, 3));
    let beside: Vec<_> = listing(directory.path()).into_iter().filter(|name| name.starts_with('.')).collect();
    assert_eq!(beside, [""; 0], "left behind");
    let beside = listing(place.directory.as_ref().unwrap().path());
    assert!(beside.iter().all(|name| name.starts_with("controller.db")), "left behind: {beside:?}");
}

fn listing(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

#[tokio::test]
async fn the_file_is_nobody_elses_to_read() {
    let place = Place::sqlite();
    let store = place.fleet(1).await;
    for name in listing(place.directory.as_ref().unwrap().path()) {
        let path = place.directory.as_ref().unwrap().path().join(&name);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o077, 0, "{name}");
    }
    store.close().await;
    assert_eq!(
        std::collections::BTreeSet::from_iter(listing(place.directory.as_ref().unwrap().path())),
        ["controller.db", "controller.db.lock"].map(str::to_owned).into()
    );
}

#[tokio::test]
async fn a_file_that_is_no_database_is_said_to_be_none() {
    let place = Place::sqlite();
    std::fs::write(place.url.path().unwrap(), vec![0x55; 4096]).unwrap();
    let refused = Store::open(&place.url).await.err().unwrap();
    assert!(matches!(refused, StoreError::Open { .. }), "{refused:?}");
    assert!(std::error::Error::source(&refused).unwrap().to_string().contains("not a database"), "{refused:?}");
}

/// On a real full file system, in a mount namespace that ends with the process.
#[test]
fn a_full_disk_is_told_and_nothing_half() {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: a file system can be mounted by root only");
        return;
    }
    let done = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "--"])
        .arg(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--nocapture", "sqlite::on_a_small_disk"])
        .env("SOCLE_TEST_SMALL_DISK", "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(
        done.status.success() && said.contains("refused as full"),
        "{said}{}",
        String::from_utf8_lossy(&done.stderr)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "started by a test, in a mount namespace"]
async fn on_a_small_disk() {
    if std::env::var("SOCLE_TEST_SMALL_DISK").is_err() {
        return;
    }
    let place = Place::sqlite();
    let disk = place.directory.as_ref().unwrap().path();
    let flags = nix::mount::MsFlags::empty();
    nix::mount::mount(Some("tmpfs"), disk, Some("tmpfs"), flags, Some("size=3m,mode=0700")).unwrap();
    let store = place.fleet(2).await;
    let text = "x".repeat(50_000);
    let new =
        NewDocuments { texts: texts([("s0", text.as_str()), ("s1", text.as_str())]), revision: Some(revision("big")) };
    let mut puts = 0;
    let refused = loop {
        match store.put_documents(&new, &by(10), |_| vec![7; 50_000]).await {
            Ok(put) => puts = put.marks[&name("s0")].generation.0,
            Err(refused) => break refused,
        }
    };
    assert!(matches!(refused, PutError::Store(StoreError::Full { .. })), "{refused:?}");
    println!("refused as full after {puts} puts: {refused}");
    assert!(refused.to_string().contains("no space left"), "{refused}");
    let newest: Vec<_> = store.newest_marks().await.unwrap().iter().map(|newest| newest.mark).collect();
    assert_eq!(newest, [mark(0, puts), mark(0, puts)], "half a push");
    assert_eq!(store.newest_revision().await.unwrap().unwrap().number, puts);
    assert_eq!(store.integrity().await.unwrap(), [""; 0]);
    let refused = store.backup(&disk.join("copy.db"), &by(11)).await.unwrap_err();
    assert!(matches!(refused, BackupError::Store(StoreError::Full { .. })), "{refused:?}");
    assert!(!listing(disk).iter().any(|name| name.contains("copy")), "{:?}", listing(disk));

    // Room again: it goes on by itself.
    nix::mount::mount(None::<&str>, disk, None::<&str>, nix::mount::MsFlags::MS_REMOUNT, Some("size=30m")).unwrap();
    assert_eq!(put(&store, &direct([("s0", "small")])).await.marks[&name("s0")], mark(0, puts + 1));
    store.close().await;
}
