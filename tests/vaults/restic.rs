//! Debian's restic reads what we wrote, and we read what it wrote.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use socle::host::Quiet;
use socle::host::vault::Vault;

use crate::tree::{assert_same, noise, plant, plant_hostile};
use crate::{Bench, PASSWORD};

/// Runs restic on the repository. Needs the package `restic`.
fn restic(bench: &Bench, arguments: &[&str]) -> String {
    let output = Command::new("restic")
        .args(["--no-cache", "--repo"])
        .arg(bench.repository())
        .args(arguments)
        .env("RESTIC_PASSWORD", PASSWORD)
        .output()
        .expect("restic is installed: `apt install restic`");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{arguments:?}: {said}{}", String::from_utf8_lossy(&output.stderr));
    said
}

fn plant_all(from: &Path) {
    plant(from, 1);
    if nix::unistd::geteuid().is_root() {
        plant_hostile(from);
        // restic 0.14 keeps of a link only a target that is UTF-8.
        for name in [&b"to caf\xe9"[..], b"to \xff\xfe"] {
            fs::remove_file(from.join("names").join(std::ffi::OsStr::from_bytes(name))).unwrap();
        }
    }
}

#[tokio::test]
async fn restic_lists_checks_and_restores_what_we_wrote() {
    let bench = Bench::new().await;
    let from = bench.path("from");
    plant_all(&from);
    let saved = bench.save(&from, 0).await;
    let listed: serde_json::Value = serde_json::from_str(&restic(&bench, &["snapshots", "--json"])).unwrap();
    assert_eq!(listed[0]["id"], saved.snapshot.id.0);
    assert_eq!((&listed[0]["hostname"], &listed[0]["tags"][0]), (&"server".into(), &"instance=blog".into()));
    let checked = restic(&bench, &["check", "--read-data"]);
    assert!(checked.contains("no errors were found"), "{checked}");
    let to = bench.path("to");
    restic(&bench, &["restore", &saved.snapshot.id.0, "--target", to.to_str().unwrap()]);
    assert_same(&from, &to.join("data"));
    // Cut where restic cuts: it finds every chunk there.
    let said = restic(&bench, &["backup", "--json", from.to_str().unwrap()]);
    let summary: serde_json::Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    assert_eq!((&summary["message_type"], &summary["data_blobs"]), (&"summary".into(), &0.into()), "{summary}");
}

#[tokio::test]
async fn we_read_check_go_on_and_prune_what_restic_wrote() {
    let bench = Bench::bare();
    let from = bench.path("from");
    plant_all(&from);
    restic(&bench, &["init", "--repository-version", "2"]);
    restic(&bench, &["backup", "--host", "server", "--tag", "instance=blog", from.to_str().unwrap()]);
    assert!(!bench.vault.make(&bench.access).await.unwrap());
    bench.is_sound().await;
    let listed = bench.vault.snapshots(&bench.access).await.unwrap();
    assert_eq!(
        (listed.len(), listed[0].host.as_str(), &listed[0].tags[..]),
        (1, "server", &["instance=blog".to_owned()][..])
    );
    let to = bench.path("to");
    bench.vault.restore(&bench.access, &listed[0].id, &from, &to, &Quiet).await.unwrap();
    assert_same(&from, &to);
    // The content is known already, whoever wrote it.
    let saved = bench.save(&from, 400_000_000).await;
    // Only directories: a chunk of the large file is longer than this.
    assert!(saved.snapshot.added.unwrap() < 256 << 10, "{saved:?}");
    fs::write(from.join("large"), noise(99, 9 << 20)).unwrap();
    restic(&bench, &["backup", from.to_str().unwrap()]);
    bench.vault.forget(&bench.access, &[listed[0].id.clone()]).await.unwrap();
    for _ in 0..2 {
        bench.vault.prune(&bench.access, Duration::ZERO, &Quiet).await.unwrap();
    }
    let checked = restic(&bench, &["check", "--read-data"]);
    assert!(checked.contains("no errors were found"), "{checked}");
    assert_eq!(fs::read_dir(bench.repository().join("locks")).unwrap().count(), 0);
    bench.is_sound().await;
}

#[tokio::test]
async fn a_restic_at_work_is_respected_and_a_dead_ones_lock_is_removed() {
    let bench = Bench::new().await;
    let from = bench.path("from");
    plant(&from, 1);
    // A backup that does not end: its standard input stays open.
    let mut working = Command::new("restic")
        .args(["--no-cache", "--repo"])
        .arg(bench.repository())
        .args(["backup", "--stdin"])
        .env("RESTIC_PASSWORD", PASSWORD)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let locks = bench.repository().join("locks");
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    while fs::read_dir(&locks).unwrap().count() == 0 {
        assert!(std::time::Instant::now() < deadline, "restic took no lock");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    bench.save(&from, 0).await;
    let error = bench.vault.prune(&bench.access, Duration::ZERO, &Quiet).await.unwrap_err();
    assert_eq!((error.code, error.retryable), ("vault.in-use", true));
    assert!(error.to_string().contains(&working.id().to_string()), "{error}");
    working.kill().unwrap();
    working.wait().unwrap();
    assert_eq!(fs::read_dir(&locks).unwrap().count(), 1, "restic leaves its lock when it is killed");
    bench.vault.prune(&bench.access, Duration::ZERO, &Quiet).await.unwrap();
    assert_eq!(fs::read_dir(&locks).unwrap().count(), 0);
    bench.is_sound().await;
}
