//! Archives that are taken, compared with what GNU tar makes of them.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Command;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use socle::host::archive::{Decoder, extract};
use socle::host::{ArchiveLimits, Archives};

use super::build::*;
use super::tree;

/// Path, kind with whether it is executable, content.
type Listing = BTreeMap<String, (char, String)>;

fn listing(root: &Path) -> Listing {
    tree::look(root, None)
        .into_iter()
        .map(|(path, seen)| {
            let kind = match seen.mode & 0o170_000 {
                0o040_000 => 'd',
                0o120_000 => 'l',
                _ if seen.mode & 0o111 != 0 => 'x',
                _ => 'f',
            };
            (path, (kind, seen.content))
        })
        .collect()
}

fn gnu_tar(archive: &Path, into: &Path) -> Result<(), String> {
    let output = Command::new("tar")
        .args(["--no-same-owner", "--no-same-permissions", "--force-local", "-xf"])
        .arg(archive)
        .arg("-C")
        .arg(into)
        .output()
        .unwrap();
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

fn everything() -> Tar {
    let long = "some/quite/deep/".repeat(7) + "file";
    Tar::default()
        .global(&[("comment", b"0123456789abcdef0123456789abcdef01234567")])
        .dir("./")
        .dir("app/")
        .file("./app/index.php", b"<?php\n")
        .entry(Header::new(b"app/run", b'0', 3).mode(0o755), b"#!x")
        .entry(Header::new(b"app/shared", b'5', 0).mode(0o2775), b"")
        .entry(Header::new(b"app/old", 0, 2), b"ab")
        .entry(Header::new(b"in/prefix", b'0', 2).with(345, b"app/some"), b"cd")
        .pax(&[("path", "app/é/ü".as_bytes()), ("mtime", b"1700000000.5"), ("size", b"1")])
        .file("short", b"p")
        .long(b'L', &[long.as_bytes(), b"\0"].concat())
        .entry(Header::new(&long.as_bytes()[..100], b'0', 1).gnu(), b"l")
        .sym("app/link", "index.php")
        .sym("app/shared/up", "../run")
        .sym("dangling", "app/not/there")
        .hard("app/again", "app/index.php")
}

#[tokio::test]
async fn every_packing_gives_the_same_tree_as_gnu_tar() {
    if !super::is_root() {
        return;
    }
    let plain = everything().end();
    let yard = tempfile::tempdir().unwrap();
    let expected = yard.path().join("expected");
    std::fs::create_dir(&expected).unwrap();
    std::fs::write(yard.path().join("plain.tar"), &plain).unwrap();
    gnu_tar(&yard.path().join("plain.tar"), &expected).unwrap();
    let halves = [gzip(&plain[..1000]), gzip(&plain[1000..])].concat();
    let packings = [plain.clone(), gzip(&plain), bzip(&plain), xz(&plain), zst(&plain), halves];
    for (at, packed) in packings.iter().enumerate() {
        let archive = yard.path().join("archive");
        std::fs::write(&archive, packed).unwrap();
        let stage = yard.path().join(format!("stage-{at}"));
        std::fs::create_dir(&stage).unwrap();
        super::child().unpack(&archive, &stage, 0, &ArchiveLimits::default()).await.unwrap();
        assert_eq!(listing(&stage), listing(&expected));
        for (path, seen) in tree::look(&stage, None) {
            assert_eq!(seen.owner, (0, 0), "{path}");
            let modes = [0o040_755, 0o100_755, 0o100_644, 0o120_777];
            assert!(modes.contains(&seen.mode), "{path} {:o}", seen.mode);
        }
    }
}

#[tokio::test]
async fn leading_components_are_dropped() {
    if !super::is_root() {
        return;
    }
    let yard = tempfile::tempdir().unwrap();
    let archive = yard.path().join("archive");
    let bytes =
        Tar::default().file("readme", b"top").dir("app-1.0").file("app-1.0/a/b", b"x").hard("app-1.0/c", "app-1.0/a/b");
    std::fs::write(&archive, bytes.sym("app-1.0/a/l", "../c").end()).unwrap();
    let stage = yard.path().join("stage");
    std::fs::create_dir(&stage).unwrap();
    super::child().unpack(&archive, &stage, 1, &ArchiveLimits::default()).await.unwrap();
    assert_eq!(listing(&stage).into_keys().collect::<Vec<_>>(), ["a", "a/b", "a/l", "c"]);
    let again = super::child().unpack(&archive, &stage, 1, &ArchiveLimits::default()).await.unwrap_err();
    assert_eq!(again.code, "archive.stage");
}

#[tokio::test]
async fn zip_archives_of_honest_programs() {
    if !super::is_root() {
        return;
    }
    let big = b"compressible ".repeat(5000);
    let entries = [
        Entry::dir("app/"),
        Entry::packed("app/index.php", b"<?php\n"),
        Entry { mode: 0o100_755, ..Entry::stored("app/run", b"#!x") },
        Entry { made_by: 0, mode: 0, ..Entry::packed("app/from-dos", &big) },
        Entry { flags: 1 << 11, ..Entry::packed("app/é", b"x") },
        Entry::streamed("app/streamed", &big, true),
        Entry::streamed("app/streamed-without-signature", &big, false),
        Entry { extra: b"UT\x05\0\x01\0\0\0\0".to_vec(), ..Entry::stored("app/dated", b"x") },
        Entry::sym("app/link", b"index.php"),
        // A stored archive brings its own records along.
        Entry::stored("app/inner.zip", &zip(&[Entry::stored("x", b"y")])),
    ];
    let yard = tempfile::tempdir().unwrap();
    let archive = yard.path().join("archive");
    let end = End { comment: b"a comment".to_vec(), ..End::default() };
    std::fs::write(&archive, zip_ended(&entries, &end)).unwrap();
    let stage = yard.path().join("stage");
    std::fs::create_dir(&stage).unwrap();
    super::child().unpack(&archive, &stage, 1, &ArchiveLimits::default()).await.unwrap();
    let seen = listing(&stage);
    assert_eq!(seen.len(), 9);
    assert_eq!(seen["run"].0, 'x');
    assert_eq!(seen["from-dos"].0, 'f');
    assert_eq!(seen["link"], ('l', "index.php".to_owned()));
    assert_eq!(seen["streamed"].1, seen["from-dos"].1);
}

/// The real releases of applications, put into `SOCLE_FIXTURES` (or the lab's cache) by whoever runs
/// the tests. With `SOCLE_REQUIRE_FIXTURES=1` their absence is a failure.
#[tokio::test]
async fn real_releases_unpack_as_gnu_tar_does() {
    if !super::is_root() {
        return;
    }
    let folder = std::env::var_os("SOCLE_FIXTURES")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/lab/cache/fixtures"), PathBuf::from);
    let mut archives: Vec<PathBuf> = std::fs::read_dir(&folder)
        .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default();
    archives.retain(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        [".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".zip"].iter().any(|end| name.ends_with(end))
    });
    if archives.is_empty() {
        println!("skipped: no archive in `{}`", folder.display());
        assert_ne!(std::env::var("SOCLE_REQUIRE_FIXTURES").as_deref(), Ok("1"), "fixtures are required");
        return;
    }
    for archive in archives {
        let yard = tempfile::tempdir().unwrap();
        let (stage, expected) = (yard.path().join("stage"), yard.path().join("expected"));
        std::fs::create_dir(&stage).unwrap();
        std::fs::create_dir(&expected).unwrap();
        let unpacked = super::child().unpack(&archive, &stage, 0, &ArchiveLimits::default()).await;
        unpacked.unwrap_or_else(|error| panic!("{}: {error}", archive.display()));
        if archive.extension().is_some_and(|end| end == "zip") {
            let output = Command::new("unzip").arg("-q").arg(&archive).arg("-d").arg(&expected).output();
            if !output.is_ok_and(|output| output.status.success()) {
                println!("{}: unpacked, not compared (no unzip)", archive.display());
                continue;
            }
        } else {
            gnu_tar(&archive, &expected).unwrap();
        }
        let (ours, theirs) = (listing(&stage), listing(&expected));
        assert!(ours == theirs, "{}: differs from the reference", archive.display());
        println!("{}: {} entries, the same", archive.display(), ours.len());
    }
}

#[derive(Debug, Clone)]
enum Piece {
    File(String, Vec<u8>, bool),
    Dir(String),
    Sym(String, String),
    /// To one of the files before it, if there is one.
    Hard(String, prop::sample::Index),
    PaxFile(String, Vec<u8>),
    LongFile(String, Vec<u8>),
}

fn pieces() -> impl Strategy<Value = Vec<Piece>> {
    // Few enough names to collide at times, and rarely a slash where none belongs.
    let name = "(\\./)?[a-hA-C](/[a-dé]){0,3}";
    let directory = "(\\./)?[a-hA-C](/[a-dé]){0,3}/?";
    let data = proptest::collection::vec(any::<u8>(), 0..1200);
    let piece = prop_oneof![
        4 => (name, data.clone(), any::<bool>()).prop_map(|(n, d, x)| Piece::File(n, d, x)),
        2 => directory.prop_map(Piece::Dir),
        1 => (name, "(\\.\\./){0,2}[ab]{0,2}").prop_map(|(n, t)| Piece::Sym(n, t)),
        1 => (name, any::<prop::sample::Index>()).prop_map(|(n, t)| Piece::Hard(n, t)),
        1 => (name, data.clone()).prop_map(|(n, d)| Piece::PaxFile(n, d)),
        1 => (name, data).prop_map(|(n, d)| Piece::LongFile(n, d)),
    ];
    proptest::collection::vec(piece, 1..8)
}

fn assemble(pieces: &[Piece]) -> Tar {
    let mut files: Vec<&str> = Vec::new();
    pieces.iter().fold(Tar::default(), |tar, piece| match piece {
        Piece::File(name, data, executable) => {
            files.push(name);
            let mode = if *executable { 0o755 } else { 0o644 };
            tar.entry(Header::new(name.as_bytes(), b'0', data.len() as u64).mode(mode), data)
        }
        Piece::Dir(name) => tar.dir(name),
        Piece::Sym(name, target) => tar.sym(name, target),
        Piece::Hard(name, _) if files.is_empty() => tar.hard(name, "none"),
        Piece::Hard(name, target) => tar.hard(name, files[target.index(files.len())]),
        Piece::PaxFile(name, data) => tar.pax(&[("path", name.as_bytes())]).file("other", data),
        Piece::LongFile(name, data) => tar
            .long(b'L', &[name.as_bytes(), b"\0"].concat())
            .entry(Header::new(b"other", b'0', data.len() as u64).gnu(), data),
    })
}

/// Changes bytes, and makes the checksum of the header they are in right again, so that the change
/// reaches the rules behind it.
fn mutate(mut bytes: Vec<u8>, changes: &[(usize, u8)]) -> Vec<u8> {
    for (at, value) in changes {
        let at = at % bytes.len();
        bytes[at] = *value;
        let block = at / 512 * 512;
        let mut header = [0; 512];
        header.copy_from_slice(&bytes[block..block + 512]);
        if &header[257..262] == b"ustar" {
            bytes[block..block + 512].copy_from_slice(&Header(header).sealed());
        }
    }
    bytes
}

/// `None`: we refuse it, so there is nothing to compare.
fn compare(bytes: &[u8]) -> Option<Result<(), String>> {
    let yard = tempfile::tempdir().unwrap();
    let (archive, ours, theirs) = (yard.path().join("a"), yard.path().join("ours"), yard.path().join("theirs"));
    std::fs::write(&archive, bytes).unwrap();
    std::fs::create_dir(&ours).unwrap();
    std::fs::create_dir(&theirs).unwrap();
    let limits = ArchiveLimits { bytes: 1 << 20, entries: 1000, ratio: 1000 };
    let root = OwnedFd::from(File::open(&ours).unwrap());
    extract(File::open(&archive).unwrap(), root, 0, &limits, Decoder::start().unwrap()).ok()?;
    if let Err(error) = gnu_tar(&archive, &theirs) {
        return Some(Err(format!("GNU tar refuses: {error}")));
    }
    let (ours, theirs) = (listing(&ours), listing(&theirs));
    Some(if ours == theirs { Ok(()) } else { Err(format!("ours {ours:#?}\nGNU tar {theirs:#?}")) })
}

/// What we accept, GNU tar accepts and reads in the same way.
#[test]
fn accepted_means_the_same_to_gnu_tar() {
    let config = ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() };
    let changes = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3);
    let accepted = Cell::new(0);
    let outcome = TestRunner::new(config).run(&(pieces(), changes), |(pieces, changes)| {
        let bytes = assemble(&pieces).end();
        let length = bytes.len();
        let changes: Vec<(usize, u8)> = changes.iter().map(|(at, value)| (at.index(length), *value)).collect();
        match compare(&mutate(bytes, &changes)) {
            None => {}
            Some(Ok(())) => accepted.set(accepted.get() + 1),
            Some(Err(difference)) => return Err(TestCaseError::fail(difference)),
        }
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
    println!("{} of 400 accepted", accepted.get());
    assert!(accepted.get() >= 40, "only {} were accepted: nothing is compared", accepted.get());
}
