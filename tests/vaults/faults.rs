//! Nothing is called saved that is not.

use std::fs;
use std::io::Write;

use socle::host::Quiet;
use socle::host::vault::{Entry, Source, Vault};

use crate::tree::{noise, plant};
use crate::{Bench, order, tree_order};

/// A stream of `bytes` whose program ended with `word`.
fn stream(bytes: Vec<u8>, word: Option<Result<(), String>>) -> Source {
    let (reader, mut writer) = std::io::pipe().unwrap();
    std::thread::spawn(move || writer.write_all(&bytes));
    let (send, whole) = tokio::sync::oneshot::channel();
    if let Some(word) = word {
        send.send(word).unwrap();
    }
    Source::Stream { from: reader.into(), whole }
}

#[tokio::test]
async fn a_stream_whose_program_failed_is_no_snapshot() {
    let bench = Bench::new().await;
    let words = [Some(Err("mariadb-dump ended with code 2".to_owned())), None];
    for (word, said) in words.into_iter().zip(["ended with code 2", "was given up"]) {
        for length in [0, 100, 2 << 20] {
            let entries = vec![Entry { path: "/dump".into(), from: stream(noise(1, length), word.clone()) }];
            let error = bench.vault.save(&bench.access, order(entries, 0), &Quiet).await.unwrap_err();
            assert_eq!(error.code, "vault.source", "{error}");
            assert!(error.to_string().contains(said), "{error}");
        }
    }
    assert!(bench.vault.snapshots(&bench.access).await.unwrap().is_empty());
    bench.is_sound().await;
}

#[tokio::test]
async fn what_cannot_be_read_is_no_snapshot_and_all_of_it_is_named() {
    let bench = Bench::new().await;
    let from = bench.path("from");
    plant(&from, 1);
    let entries = vec![
        Entry { path: "/data".into(), from: Source::Tree { from, except: vec![] } },
        Entry { path: "/gone".into(), from: Source::Tree { from: "/nonexistent/path".into(), except: vec![] } },
        // Reading its own memory at 0 is an input/output error.
        Entry { path: "/memory".into(), from: Source::Tree { from: "/proc/self/mem".into(), except: vec![] } },
    ];
    let error = bench.vault.save(&bench.access, order(entries, 0), &Quiet).await.unwrap_err();
    assert_eq!(error.code, "vault.source");
    let text = error.to_string();
    assert!(
        text.starts_with("2 of what") && text.contains("/nonexistent/path") && text.contains("/proc/self/mem"),
        "{text}"
    );
    assert!(bench.vault.snapshots(&bench.access).await.unwrap().is_empty());
}

#[tokio::test]
async fn files_that_change_grow_shrink_and_vanish_while_read_are_no_failure() {
    let bench = Bench::new().await;
    let from = bench.path("from");
    plant(&from, 2);
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (busy, until) = (from.clone(), stop.clone());
    let writer = std::thread::spawn(move || {
        for round in 0_u64.. {
            if until.load(std::sync::atomic::Ordering::Relaxed) {
                return;
            }
            fs::write(busy.join("content/page-1.html"), noise(round, (round as usize * 7919) % (1 << 20))).unwrap();
            for number in 0..50 {
                let _ = fs::write(busy.join(format!("content/session-{number}")), "x");
            }
            for number in 0..50 {
                let _ = fs::remove_file(busy.join(format!("content/session-{number}")));
            }
        }
    });
    for second in 0..8 {
        bench.vault.save(&bench.access, tree_order(&from, second), &Quiet).await.unwrap();
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    writer.join().unwrap();
    assert_eq!(bench.vault.snapshots(&bench.access).await.unwrap().len(), 8);
    bench.is_sound().await;
}

#[tokio::test]
async fn a_repository_that_may_only_be_read_is_told_and_brings_back() {
    use nix::mount::{MsFlags, mount, umount};
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: needs root, to mount");
        return;
    }
    let bench = Bench::bare();
    fs::create_dir(bench.repository()).unwrap();
    let place = bench.repository();
    let none: Option<&str> = None;
    if let Err(error) = mount(Some("tmpfs"), &place, Some("tmpfs"), MsFlags::empty(), none) {
        eprintln!("skipped: cannot mount here: {error}");
        return;
    }
    bench.vault.make(&bench.access).await.unwrap();
    let from = bench.path("from");
    plant(&from, 4);
    let saved = bench.save(&from, 0).await;
    mount(none, &place, none, MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY, none).unwrap();
    fs::write(from.join("large"), noise(2, 1 << 20)).unwrap();
    let saving = bench.vault.save(&bench.access, tree_order(&from, 1), &Quiet).await.unwrap_err();
    let forgetting = bench.vault.forget(&bench.access, std::slice::from_ref(&saved.snapshot.id)).await.unwrap_err();
    for error in [saving, forgetting] {
        assert_eq!((error.code, error.retryable), ("vault.read-only", false), "{error}");
    }
    assert_eq!(bench.vault.snapshots(&bench.access).await.unwrap(), std::slice::from_ref(&saved.snapshot));
    bench.is_sound().await;
    fs::write(from.join("large"), noise(4, 9 << 20)).unwrap();
    let to = bench.restore(&saved.snapshot.id, "to").await;
    assert!(fs::read(to.join("large")).unwrap() == noise(4, 9 << 20));
    umount(&place).unwrap();
}

#[tokio::test]
async fn a_full_repository_is_told_and_holds_no_half_snapshot() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: needs root, to mount");
        return;
    }
    let bench = Bench::bare();
    fs::create_dir(bench.repository()).unwrap();
    let options = Some("size=12m");
    let mounted =
        nix::mount::mount(Some("tmpfs"), &bench.repository(), Some("tmpfs"), nix::mount::MsFlags::empty(), options);
    if let Err(error) = mounted {
        eprintln!("skipped: cannot mount here: {error}");
        return;
    }
    bench.vault.make(&bench.access).await.unwrap();
    let from = bench.path("from");
    plant(&from, 3);
    fs::remove_file(from.join("large")).unwrap();
    let small = bench.save(&from, 0).await;
    fs::write(from.join("large"), noise(1, 30 << 20)).unwrap();
    let error = bench.vault.save(&bench.access, tree_order(&from, 1), &Quiet).await.unwrap_err();
    assert_eq!(error.code, "vault.full", "{error}");
    let listed = bench.vault.snapshots(&bench.access).await.unwrap();
    assert_eq!(listed, [small.snapshot]);
    bench.is_sound().await;
    nix::mount::umount(&bench.repository()).unwrap();
}
