//! What goes in comes out.

use std::fs;
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::time::Duration;

use socle::host::Quiet;
use socle::host::vault::{Depth, Entry, Source, Vault};
use socle::model::Secret;

use crate::tree::{assert_same, look, noise, plant};
use crate::{Bench, order, tree_order};

#[tokio::test]
async fn a_tree_comes_back_as_it_was_and_the_second_snapshot_costs_nothing() {
    let bench = Bench::new().await;
    assert!(!bench.vault.make(&bench.access).await.unwrap());
    let from = bench.path("from");
    plant(&from, 1);
    let first = bench.save(&from, 0).await;
    let second = bench.save(&from, 60).await;
    assert_eq!((first.snapshot.files, first.vanished.len()), (42, 0));
    assert!(first.snapshot.added.unwrap() > 9 << 20, "{first:?}");
    assert_eq!(second.snapshot.added, Some(0));
    assert_eq!(second.snapshot.bytes, first.snapshot.bytes);
    let to = bench.restore(&second.snapshot.id, "to").await;
    assert_same(&from, &to);
    let listed = bench.vault.snapshots(&bench.access).await.unwrap();
    assert_eq!(listed, [first.snapshot, second.snapshot]);
    bench.is_sound().await;
}

#[tokio::test]
async fn a_restore_completes_what_is_there() {
    let bench = Bench::new().await;
    let from = bench.path("from");
    plant(&from, 2);
    let saved = bench.save(&from, 0).await;
    let to = bench.restore(&saved.snapshot.id, "to").await;
    let kept = inode(&to.join("large"));
    // What is in the way, what is besides, what differs in a byte only, what is another kind of thing.
    fs::remove_dir_all(to.join("content/2026")).unwrap();
    fs::write(to.join("content/2026"), "a file").unwrap();
    fs::create_dir_all(to.join("besides/deep/er")).unwrap();
    fs::write(to.join("besides/deep/er/file"), "x").unwrap();
    let page = to.join("content/page-3.html");
    let text = fs::read(&page).unwrap();
    let mtime = fs::metadata(&page).unwrap().modified().unwrap();
    fs::write(&page, [b"X", &text[1..]].concat()).unwrap();
    fs::File::open(&page).unwrap().set_modified(mtime).unwrap();
    fs::remove_file(to.join("nothing")).unwrap();
    std::os::unix::fs::symlink("/etc", to.join("nothing")).unwrap();
    fs::remove_dir(to.join("empty")).unwrap();
    std::os::unix::fs::symlink("/etc", to.join("empty")).unwrap();
    bench.restore(&saved.snapshot.id, "to").await;
    assert_same(&from, &to);
    assert_eq!(inode(&to.join("large")), kept, "what is equal is left");
    assert!(Path::new("/etc/passwd").exists());
}

#[tokio::test]
async fn only_what_changed_is_read_again() {
    let bench = Bench::new().await;
    let from = bench.path("from");
    plant(&from, 1);
    let first = bench.save(&from, 0).await;
    fs::write(from.join("content/page-3.html"), "another text").unwrap();
    fs::remove_file(from.join("content/page-4.html")).unwrap();
    fs::write(from.join("content/page-3a.html"), "a new text").unwrap();
    let second = bench.save(&from, 60).await;
    assert_eq!(second.snapshot.files, first.snapshot.files);
    assert!(second.snapshot.added.unwrap() < 32 << 10, "{second:?}");
    let to = bench.restore(&second.snapshot.id, "to").await;
    assert_same(&from, &to);
    bench.is_sound().await;
}

#[tokio::test]
async fn entries_that_overlap_are_refused() {
    let bench = Bench::new().await;
    let from = bench.path("from");
    plant(&from, 1);
    let tree = |path: &str| Entry { path: path.into(), from: Source::Tree { from: from.clone(), except: vec![] } };
    for (one, other) in [("/a", "/a/b"), ("/a", "/a")] {
        let error = bench.vault.save(&bench.access, order(vec![tree(one), tree(other)], 0), &Quiet).await.unwrap_err();
        assert!(error.to_string().contains("it is in another entry"), "{error}");
    }
    bench.vault.save(&bench.access, order(vec![tree("/a/b"), tree("/a/c"), tree("/ab")], 1), &Quiet).await.unwrap();
    bench.is_sound().await;
}

fn inode(path: &Path) -> u64 {
    std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).unwrap())
}

#[tokio::test]
async fn bytes_streams_and_trees_stand_in_one_snapshot() {
    let bench = Bench::new().await;
    let from = bench.path("from");
    plant(&from, 3);
    let dump = noise(7, 3 << 20);
    let (reader, mut writer) = std::io::pipe().unwrap();
    let bytes = dump.clone();
    let feed = std::thread::spawn(move || writer.write_all(&bytes).unwrap());
    let (send, whole) = tokio::sync::oneshot::channel();
    send.send(Ok(())).unwrap();
    let entries = vec![
        Entry {
            path: "/z/files".into(),
            from: Source::Tree { from: from.clone(), except: vec![from.join("content")] },
        },
        Entry { path: "/a/dump".into(), from: Source::Stream { from: reader.into(), whole } },
        Entry { path: "/a/secret".into(), from: Source::Bytes(Secret::new("hush")) },
    ];
    let saved = bench.vault.save(&bench.access, order(entries, 0), &Quiet).await.unwrap();
    feed.join().unwrap();
    let read = async |path: &str| {
        let mut file = tempfile::tempfile().unwrap();
        let to = file.try_clone().unwrap();
        let length = bench.vault.read(&bench.access, &saved.snapshot.id, Path::new(path), to).await.unwrap();
        let mut bytes = Vec::new();
        file.rewind().unwrap();
        file.read_to_end(&mut bytes).unwrap();
        assert_eq!(length, bytes.len() as u64);
        bytes
    };
    assert_eq!(read("/a/secret").await, b"hush");
    assert!(read("/a/dump").await == dump);
    assert_eq!(read("/z/files/nothing").await, b"");
    let to = bench.path("to");
    bench.vault.restore(&bench.access, &saved.snapshot.id, Path::new("/"), &to, &Quiet).await.unwrap();
    let names: Vec<String> = look(&to).keys().map(|path| path.display().to_string()).collect();
    assert_eq!(
        names,
        ["", "a", "a/dump", "a/secret", "z", "z/files", "z/files/empty", "z/files/large", "z/files/nothing"]
    );
    let missing =
        bench.vault.read(&bench.access, &saved.snapshot.id, Path::new("/a/none"), tempfile::tempfile().unwrap());
    assert_eq!(missing.await.unwrap_err().code, "vault.no-such-path");
    bench.is_sound().await;
}

#[tokio::test]
async fn what_is_forgotten_goes_with_the_second_prune() {
    let bench = Bench::new().await;
    let from = bench.path("from");
    plant(&from, 4);
    let first = bench.save(&from, 0).await;
    fs::remove_file(from.join("large")).unwrap();
    let second = bench.save(&from, 60).await;
    bench.vault.forget(&bench.access, std::slice::from_ref(&first.snapshot.id)).await.unwrap();
    let marked = bench.vault.prune(&bench.access, Duration::ZERO, &Quiet).await.unwrap();
    assert_eq!(marked.removed_bytes, 0, "packs are marked first");
    bench.is_sound().await;
    let pruned = bench.vault.prune(&bench.access, Duration::ZERO, &Quiet).await.unwrap();
    assert!(pruned.removed_bytes > 8 << 20, "{pruned:?}");
    bench.is_sound().await;
    let to = bench.restore(&second.snapshot.id, "to").await;
    assert_same(&from, &to);
    let gone = bench.vault.restore(&bench.access, &first.snapshot.id, Path::new("/"), &to, &Quiet).await;
    assert_eq!(gone.unwrap_err().code, "vault.no-snapshot");
}

#[tokio::test]
async fn keys_are_added_listed_used_and_removed() {
    let bench = Bench::new().await;
    let added = bench.vault.add_key(&bench.access, &Secret::new("second"), "sigrid").await.unwrap();
    assert_eq!((added.user.as_deref(), added.ours), (Some("sigrid"), false));
    let keys = bench.vault.keys(&bench.access).await.unwrap();
    assert_eq!(keys.iter().filter(|key| key.ours).count(), 1);
    assert_eq!(keys.len(), 2);
    let mut other = bench.access.clone();
    other.password = Secret::new("second");
    let ours = bench.vault.keys(&other).await.unwrap().into_iter().find(|key| key.ours).unwrap();
    assert_eq!(ours.id, added.id);
    assert_eq!(bench.vault.remove_key(&other, &ours.id).await.unwrap_err().code, "vault.key-in-use");
    bench.vault.remove_key(&bench.access, &added.id).await.unwrap();
    assert_eq!(bench.vault.keys(&other).await.unwrap_err().code, "vault.wrong-key");
}

#[tokio::test]
async fn no_repository_a_wrong_key_and_an_unreadable_one_are_told_apart() {
    let bench = Bench::bare();
    let none = bench.vault.snapshots(&bench.access).await.unwrap_err();
    assert_eq!(none.code, "vault.no-repository");
    bench.vault.make(&bench.access).await.unwrap();
    let mut wrong = bench.access.clone();
    wrong.password = Secret::new("wrong");
    for error in [bench.vault.snapshots(&wrong).await.unwrap_err(), bench.vault.make(&wrong).await.unwrap_err()] {
        assert_eq!(error.code, "vault.wrong-key", "{error}");
    }
    let from = bench.path("from");
    plant(&from, 5);
    bench.save(&from, 0).await;
    fs::remove_file(bench.repository().join("config")).unwrap();
    let lost = bench.vault.make(&bench.access).await.unwrap_err();
    assert_eq!((lost.code, lost.retryable), ("vault.damaged", false));
    assert!(lost.to_string().contains("`config`"), "{lost}");
}

#[tokio::test]
async fn shares_are_everything_together() {
    let bench = Bench::new().await;
    let from = bench.path("from");
    plant(&from, 6);
    for number in 0..6 {
        fs::write(from.join("large"), noise(number, 9 << 20)).unwrap();
        bench.save(&from, number as i64).await;
    }
    let all = bench.check(Depth::Everything).await.read;
    let mut shares = 0;
    for part in 0..3 {
        shares += bench.check(Depth::Share { part, of: 3 }).await.read;
    }
    assert_eq!(shares, all);
    assert_eq!(bench.check(Depth::Structure).await.read, 0);
    assert!(all > 50 << 20);
}

fn holds_a_pack(data: &Path) -> bool {
    let entries = |directory: &Path| fs::read_dir(directory).into_iter().flatten().map(|entry| entry.unwrap().path());
    entries(data).any(|directory| entries(&directory).any(|file| file.file_name().unwrap().len() == 64))
}

/// While one server's dump takes its time, others save, check, prune and restore; and what it has written by then is
/// neither waste nor damage to them.
#[tokio::test(flavor = "multi_thread")]
async fn servers_at_one_repository_do_not_wait_for_each_other() {
    let bench = Bench::new().await;
    let from = bench.path("from");
    plant(&from, 9);
    let dump = noise(10, 24 << 20);
    let (reader, mut writer) = std::io::pipe().unwrap();
    let (send, whole) = tokio::sync::oneshot::channel();
    let entries = vec![Entry { path: "/data/dump".into(), from: Source::Stream { from: reader.into(), whole } }];
    let slow = bench.vault.save(&bench.access, order(entries, 0), &Quiet);
    let others = async {
        let [first, rest] = [&dump[..20 << 20], &dump[20 << 20..]].map(<[u8]>::to_vec);
        let written = tokio::task::spawn_blocking(move || writer.write_all(&first).map(|()| writer));
        let mut writer = written.await.unwrap().unwrap();
        while !holds_a_pack(&bench.repository().join("data")) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let saved = bench.save(&from, 1).await;
        bench.is_sound().await;
        bench.vault.prune(&bench.access, Duration::from_secs(3600), &Quiet).await.unwrap();
        assert_same(&from, &bench.restore(&saved.snapshot.id, "meanwhile").await);
        tokio::task::spawn_blocking(move || writer.write_all(&rest)).await.unwrap().unwrap();
        send.send(Ok(())).unwrap();
        saved.snapshot.id
    };
    let (slow, other) = tokio::join!(slow, others);
    bench.is_sound().await;
    // What the prune marked is needed since.
    for _ in 0..2 {
        bench.vault.prune(&bench.access, Duration::ZERO, &Quiet).await.unwrap();
    }
    bench.is_sound().await;
    let to = bench.restore(&slow.unwrap().snapshot.id, "slow").await;
    assert!(fs::read(to.join("dump")).unwrap() == dump);
    assert_same(&from, &bench.restore(&other, "other").await);
}

#[tokio::test]
async fn a_dropped_request_ends_its_child() {
    let bench = Bench::new().await;
    let (reader, writer) = std::io::pipe().unwrap();
    let (_send, whole) = tokio::sync::oneshot::channel();
    let entries = vec![Entry { path: "/dump".into(), from: Source::Stream { from: reader.into(), whole } }];
    let saving = bench.vault.save(&bench.access, order(entries, 0), &Quiet);
    assert!(tokio::time::timeout(Duration::from_millis(500), saving).await.is_err(), "the stream has no end");
    // The child held the reading end: a write fails when it is gone.
    let gone = tokio::task::spawn_blocking(move || {
        let mut writer = writer;
        while writer.write_all(&[0; 65536]).is_ok() {}
    });
    tokio::time::timeout(Duration::from_secs(10), gone).await.unwrap().unwrap();
    assert!(bench.vault.snapshots(&bench.access).await.unwrap().is_empty());
    let from = bench.path("from");
    plant(&from, 8);
    bench.vault.save(&bench.access, tree_order(&from, 1), &Quiet).await.unwrap();
    bench.is_sound().await;
}
