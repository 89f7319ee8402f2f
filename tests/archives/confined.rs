//! The child really gives its powers away, and survives being asked nonsense.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use socle::host::archive::{SUBCOMMAND, UNPACK_USER, UnpackChild};
use socle::host::{ArchiveLimits, Archives};

use super::build::*;

fn child(stage: &Path, archive: &Path, user: u32) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_socle"));
    command.arg(SUBCOMMAND).arg(stage);
    // user, strip, CPU seconds, bytes, entries, ratio
    command.args([user.to_string().as_str(), "0", "60", "8000000000", "500000", "100000"]);
    command.stdin(File::open(archive).unwrap()).stdout(Stdio::piped());
    command
}

fn field<'a>(status: &'a str, name: &str) -> &'a str {
    status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim()
}

#[test]
fn the_child_has_no_powers_while_it_reads() {
    if !super::is_root() {
        return;
    }
    let yard = tempfile::tempdir().unwrap();
    let (stage, archive) = (yard.path().join("stage"), yard.path().join("archive"));
    fs::create_dir(&stage).unwrap();
    std::os::unix::fs::chown(&stage, Some(UNPACK_USER), Some(UNPACK_USER)).unwrap();
    // Something that takes a while.
    fs::write(&archive, gzip(&Tar::default().file("zeros", &vec![0; 160 << 20]).end())).unwrap();
    let running = child(&stage, &archive, UNPACK_USER).spawn().unwrap();
    let proc = Path::new("/proc").join(running.id().to_string());
    let limit = Instant::now() + Duration::from_secs(20);
    while !stage.join("zeros").exists() {
        assert!(Instant::now() < limit, "nothing was unpacked");
        std::thread::yield_now();
    }
    let limits = fs::read_to_string(proc.join("limits")).unwrap();
    let network = fs::read_link(proc.join("ns/net")).unwrap();
    let id = UNPACK_USER.to_string();
    // One reads and writes, one decodes.
    let threads: Vec<_> = fs::read_dir(proc.join("task")).unwrap().map(|thread| thread.unwrap().path()).collect();
    assert_eq!(threads.len(), 2);
    for thread in threads {
        let status = fs::read_to_string(thread.join("status")).unwrap();
        for name in ["Uid:", "Gid:"] {
            assert_eq!(field(&status, name).split_whitespace().collect::<Vec<_>>(), [id.as_str(); 4], "{status}");
        }
        assert_eq!(field(&status, "Groups:"), "");
        for name in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
            assert_eq!(field(&status, name), "0000000000000000", "{name}");
        }
        assert_eq!(field(&status, "NoNewPrivs:"), "1");
    }
    for (name, value) in
        [("Max processes", "0"), ("Max core file size", "0"), ("Max open files", "64"), ("Max cpu time", "60")]
    {
        let words: Vec<&str> = field(&limits, name).split_whitespace().take(2).collect();
        assert_eq!(words, [value; 2], "{name}");
    }
    assert_ne!(network, fs::read_link("/proc/self/ns/net").unwrap());
    let output = running.wait_with_output().unwrap();
    let answer = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{answer}");
    // The notes name the confinement this kernel lacks.
    println!("{answer}");
    assert!(!answer.contains("no landlock") && !answer.contains("no network namespace"), "{answer}");
}

#[test]
fn nonsense_is_refused_before_anything_is_read() {
    let yard = tempfile::tempdir().unwrap();
    let archive = yard.path().join("archive");
    fs::write(&archive, Tar::new().end()).unwrap();
    let bare = Command::new(env!("CARGO_BIN_EXE_socle")).arg(SUBCOMMAND).output().unwrap();
    assert!(!bare.status.success() && String::from_utf8_lossy(&bare.stdout).contains("failed"));
    let missing = child(&yard.path().join("missing"), &archive, UNPACK_USER).output().unwrap();
    assert!(String::from_utf8_lossy(&missing.stdout).contains("archive.stage"));
    std::os::unix::fs::symlink("/", yard.path().join("link")).unwrap();
    let link = child(&yard.path().join("link"), &archive, UNPACK_USER).output().unwrap();
    assert!(String::from_utf8_lossy(&link.stdout).contains("archive.stage"));
    if super::is_root() {
        let stage = yard.path().join("stage");
        fs::create_dir(&stage).unwrap();
        let as_root = child(&stage, &archive, 0).output().unwrap();
        assert!(String::from_utf8_lossy(&as_root.stdout).contains("archive.confine"));
        assert_eq!(fs::read_dir(&stage).unwrap().count(), 0);
    }
}

#[tokio::test]
async fn a_child_that_does_not_answer_is_an_error_about_the_host() {
    if !super::is_root() {
        return;
    }
    let yard = tempfile::tempdir().unwrap();
    let (stage, archive) = (yard.path().join("stage"), yard.path().join("archive"));
    fs::create_dir(&stage).unwrap();
    fs::write(&archive, gzip(&Tar::default().file("zeros", &vec![0; 100 << 20]).end())).unwrap();
    let limits = ArchiveLimits { ratio: 100_000, ..ArchiveLimits::default() };
    for (program, code) in
        [("/bin/true", "archive.child"), ("/bin/echo", "archive.child"), ("/does/not/exist", "archive.child")]
    {
        let error = UnpackChild::new(program).unpack(&archive, &stage, 0, &limits).await.unwrap_err();
        assert_eq!((error.code, error.retryable), (code, true), "{program}");
    }
    let hasty = super::child().with_time(Duration::from_millis(1));
    let error = hasty.unpack(&archive, &stage, 0, &limits).await.unwrap_err();
    assert_eq!((error.code, error.retryable), ("archive.timeout", true));
}
