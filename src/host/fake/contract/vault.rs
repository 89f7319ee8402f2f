use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use crate::host::Quiet;
use crate::host::vault::{Access, Depth, Entry, Location, Moment, Order, Pace, Saved, Source, Vault, Way};
use crate::host::{PortError, PortResult};
use crate::model::Secret;

use super::put;

fn access(location: &Location, key: &str) -> Access {
    let (location, password) = (location.clone(), Secret::new(key));
    Access { location, password, pace: Pace::default(), append_only: false, way: Way::default() }
}

fn order(entries: Vec<Entry>) -> Order {
    let at = "2026-01-02T03:04:05Z".parse().expect("this is a moment");
    Order {
        host: "ks1".into(),
        tags: vec!["socle".into(), "instance:blog".into()],
        at,
        entries,
        parent: None,
        moment: None,
    }
}

fn tree(from: &Path) -> Entry {
    Entry { path: "/data".into(), from: Source::Tree { from: from.to_owned(), except: vec![from.join("cache")] } }
}

/// What a program wrote, and how it ended.
fn stream(text: &str, end: Result<(), String>) -> Entry {
    use std::io::Write;
    let (from, mut to) = std::io::pipe().expect("there are pipes");
    to.write_all(text.as_bytes()).expect("a pipe holds a little");
    let (tell, whole) = tokio::sync::oneshot::channel();
    let _ = tell.send(end);
    Entry { path: "/databases/blog.sql".into(), from: Source::Stream { from: from.into(), whole } }
}

fn code<T>(result: PortResult<T>) -> &'static str {
    match result {
        Ok(_) => "",
        Err(PortError { code, .. }) => code,
    }
}

async fn content(vault: &dyn Vault, access: &Access, saved: &Saved, path: &str) -> PortResult<String> {
    let file = tempfile::NamedTempFile::new().expect("there is room for a file");
    let to = fs::File::options().write(true).open(file.path()).expect("a file just made opens");
    let length = vault.read(access, &saved.snapshot.id, Path::new(path), to).await?;
    let mut text = String::new();
    fs::File::open(file.path())
        .and_then(|mut file| file.read_to_string(&mut text))
        .expect("a file just written is read");
    assert_eq!(length, text.len() as u64);
    Ok(text)
}

/// `location`: where nothing is yet; `scratch`: an empty directory.
pub async fn vault(vault: &dyn Vault, location: &Location, scratch: &Path) {
    let home = access(location, "abcd-efgh");
    assert_eq!(code(vault.snapshots(&home).await), "vault.no-repository");
    assert!(vault.make(&home).await.unwrap());
    assert!(!vault.make(&home).await.unwrap());
    assert_eq!(code(vault.make(&access(location, "other")).await), "vault.wrong-key");
    assert_eq!(code(vault.snapshots(&access(location, "other")).await), "vault.wrong-key");
    assert_eq!(vault.snapshots(&home).await.unwrap(), []);

    let from = scratch.join("from");
    fs::create_dir_all(from.join("inner/empty")).unwrap();
    fs::create_dir(from.join("cache")).unwrap();
    put(&from.join("cache/x"), "not saved");
    put(&from.join("inner/é \"quoted\".txt"), "hello");
    put(&from.join("nothing"), "");
    fs::set_permissions(from.join("inner"), fs::Permissions::from_mode(0o750)).unwrap();
    fs::set_permissions(from.join("nothing"), fs::Permissions::from_mode(0o604)).unwrap();
    symlink("inner", from.join("link")).unwrap();
    let note = || Entry { path: "/manifest.json".into(), from: Source::Bytes(Secret::new("{}")) };

    let first = vault.save(&home, order(vec![tree(&from), stream("the posts", Ok(())), note()]), &Quiet).await.unwrap();
    assert_eq!((first.snapshot.host.as_str(), first.vanished.len()), ("ks1", 0));
    assert_eq!(first.snapshot.at, "2026-01-02T03:04:05Z".parse().unwrap());
    assert_eq!((first.snapshot.files, first.snapshot.bytes), (5, 16));
    assert_eq!(vault.snapshots(&home).await.unwrap(), std::slice::from_ref(&first.snapshot));
    assert_eq!(content(vault, &home, &first, "/databases/blog.sql").await.unwrap(), "the posts");
    assert_eq!(content(vault, &home, &first, "/manifest.json").await.unwrap(), "{}");
    assert_eq!(code(content(vault, &home, &first, "/nothing").await), "vault.no-such-path");

    // What could not be read whole is not saved.
    let half = order(vec![tree(&from), stream("the po", Err("it was killed".into()))]);
    let failed = vault.save(&home, half, &Quiet).await.unwrap_err();
    assert_eq!(failed.code, "vault.source");
    assert!(failed.to_string().contains("it was killed"), "{failed}");
    assert_eq!(vault.snapshots(&home).await.unwrap().len(), 1);

    // What is there besides goes, what is there and other is replaced; twice is like once.
    let to = scratch.join("to");
    fs::create_dir_all(to.join("inner/nothing")).unwrap();
    put(&to.join("link"), "a file");
    put(&to.join("virus"), "bad");
    for _ in 0..2 {
        let restored = vault.restore(&home, &first.snapshot.id, Path::new("/data"), &to, &Quiet).await.unwrap();
        assert_eq!((restored.files, restored.bytes), (2, 5));
        let mut names: Vec<_> = fs::read_dir(&to).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["inner", "link", "nothing"]);
        assert_eq!(fs::read_to_string(to.join("inner/é \"quoted\".txt")).unwrap(), "hello");
        assert_eq!(fs::read_link(to.join("link")).unwrap(), Path::new("inner"));
        assert_eq!(fs::read_dir(to.join("inner/empty")).unwrap().count(), 0);
        assert_eq!(fs::metadata(to.join("inner")).unwrap().mode() & 0o7777, 0o750);
        assert_eq!(fs::metadata(to.join("nothing")).unwrap().mode() & 0o7777, 0o604);
    }
    let missing = vault.restore(&home, &first.snapshot.id, Path::new("/secrets"), &scratch.join("x"), &Quiet).await;
    assert_eq!(code(missing), "vault.no-such-path");

    let second = vault.save(&home, order(vec![tree(&from), note()]), &Quiet).await.unwrap();
    for depth in [Depth::Structure, Depth::Share { part: 0, of: 2 }, Depth::Everything] {
        let checked = vault.check(&home, depth, &Quiet).await.unwrap();
        assert_eq!((checked.damage.len(), checked.affected.len()), (0, 0), "{checked:?}");
        assert!(depth != Depth::Everything || checked.read > 0, "{checked:?}");
    }
    vault.forget(&home, std::slice::from_ref(&first.snapshot.id)).await.unwrap();
    assert_eq!(vault.snapshots(&home).await.unwrap(), std::slice::from_ref(&second.snapshot));
    vault.prune(&home, std::time::Duration::ZERO, &Quiet).await.unwrap();
    assert_eq!(code(content(vault, &home, &first, "/manifest.json").await), "vault.no-snapshot");
    assert_eq!(content(vault, &home, &second, "/manifest.json").await.unwrap(), "{}");

    // Nothing is read before the word, and what stands still is read when it is said so.
    let (moment, moments) = Moment::new();
    let entries = vec![tree(&from), stream("the posts", Ok(())), note()];
    let waits = Order { moment: Some(moment), parent: Some(second.snapshot.id.clone()), ..order(entries) };
    let still = async {
        moments.ready.await.unwrap();
        put(&from.join("nothing"), "late");
        moments.go.send(()).unwrap();
        moments.read.await.unwrap();
        put(&from.join("nothing"), "too late");
    };
    let (saved, ()) = tokio::join!(vault.save(&home, waits, &Quiet), still);
    let saved = saved.unwrap();
    assert_eq!(content(vault, &home, &saved, "/data/nothing").await.unwrap(), "late");
    let (moment, moments) = Moment::new();
    let (failed, ()) =
        tokio::join!(vault.save(&home, Order { moment: Some(moment), ..order(vec![tree(&from)]) }, &Quiet), async {
            drop(moments)
        });
    assert_eq!(code(failed), "vault.given-up");
    vault.forget(&home, std::slice::from_ref(&saved.snapshot.id)).await.unwrap();

    let added = vault.add_key(&home, &Secret::new("ijkl-mnop"), "admin").await.unwrap();
    let other = access(location, "ijkl-mnop");
    assert_eq!(vault.snapshots(&other).await.unwrap().len(), 1);
    let keys = vault.keys(&other).await.unwrap();
    assert_eq!((keys.len(), keys.iter().filter(|key| key.ours).count()), (2, 1));
    let old = keys.iter().find(|key| key.id != added.id).unwrap();
    vault.remove_key(&other, &old.id).await.unwrap();
    assert_eq!(code(vault.snapshots(&home).await), "vault.wrong-key");
    assert_eq!(vault.snapshots(&other).await.unwrap().len(), 1);

    // Where nothing may be taken out, there is more and not less.
    let kept = Access { append_only: true, ..other };
    let third = vault.save(&kept, order(vec![note()]), &Quiet).await.unwrap();
    assert_eq!(code(vault.forget(&kept, std::slice::from_ref(&third.snapshot.id)).await), "vault.read-only");
    assert_eq!(code(vault.remove_key(&kept, &old.id).await), "vault.read-only");
    assert_eq!(vault.snapshots(&kept).await.unwrap().len(), 2);
}
