//! What every kind of repository elsewhere must do, and what it must not take for something else.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use socle::host::Quiet;
use socle::host::fake::contract;
use socle::host::vault::{Access, Depth, Location, Vault};
use socle::model::Secret;

use crate::far::{self, BUCKET, S3_KEY, S3_SECRET};
use crate::tree::{assert_same, noise, plant};
use crate::{Bench, PASSWORD, tree_order, vault};

async fn keeps_the_contract(bench: &Bench, access: &Access) {
    let scratch = bench.path("scratch");
    std::fs::create_dir(&scratch).unwrap();
    contract::vault(&vault(), &access.location, &scratch).await;
}

#[tokio::test]
async fn rest_keeps_the_contract() {
    let bench = Bench::bare();
    let server = far::rest(&bench.repository(), &[]).await;
    keeps_the_contract(&bench, &far::over_rest(&bench, server.port, "hush")).await;
}

#[tokio::test]
async fn sftp_keeps_the_contract() {
    let bench = Bench::bare();
    let sshd = far::sshd(bench.directory.path()).await;
    keeps_the_contract(&bench, &sshd.access(&bench)).await;
}

#[tokio::test]
async fn s3_keeps_the_contract() {
    let bench = Bench::bare();
    let port = far::s3(&bench).await;
    keeps_the_contract(&bench, &far::over_s3(&bench, port, S3_SECRET)).await;
}

/// Saves, changes, forgets, prunes, and brings back.
async fn everything_works(bench: &Bench) {
    assert!(bench.vault.make(&bench.access).await.unwrap());
    assert!(!bench.vault.make(&bench.access).await.unwrap());
    let from = bench.path("from");
    plant(&from, 1);
    let first = bench.save(&from, 0).await;
    std::fs::write(from.join("large"), noise(5, 9 << 20)).unwrap();
    let second = bench.save(&from, 1).await;
    assert_eq!(bench.vault.snapshots(&bench.access).await.unwrap(), [first.snapshot.clone(), second.snapshot.clone()]);
    bench.is_sound().await;
    bench.vault.forget(&bench.access, &[first.snapshot.id]).await.unwrap();
    bench.vault.prune(&bench.access, Duration::ZERO, &Quiet).await.unwrap();
    let pruned = bench.vault.prune(&bench.access, Duration::ZERO, &Quiet).await.unwrap();
    assert!(pruned.removed_bytes > 8 << 20, "{pruned:?}");
    bench.is_sound().await;
    let to = bench.restore(&second.snapshot.id, "to").await;
    assert_same(&from, &to);
}

/// Debian's restic finds what we wrote whole, and brings it back.
fn restic_reads(bench: &Bench, repository: &[&str], environment: &[(&str, &str)]) {
    let restic = |arguments: &[&str]| {
        let output = Command::new("restic")
            .args(["--no-cache"])
            .args(repository)
            .args(arguments)
            .env("RESTIC_PASSWORD", PASSWORD)
            .envs(environment.iter().copied())
            .output()
            .expect("restic is installed: `apt install restic`");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{arguments:?}: {said}{}", String::from_utf8_lossy(&output.stderr));
        said
    };
    let checked = restic(&["check", "--read-data"]);
    assert!(checked.contains("no errors were found"), "{checked}");
    let to = bench.path("by-restic");
    restic(&["restore", "latest", "--target", to.to_str().unwrap()]);
    assert_same(&bench.path("from"), &to.join("data"));
}

#[tokio::test]
async fn everything_works_over_rest() {
    let mut bench = Bench::bare();
    let server = far::rest(&bench.repository(), &[]).await;
    bench.access = far::over_rest(&bench, server.port, "hush");
    everything_works(&bench).await;
    restic_reads(&bench, &["--repo", &format!("rest:http://blog:hush@127.0.0.1:{}/blog", server.port)], &[]);
}

#[tokio::test]
async fn everything_works_over_sftp() {
    let mut bench = Bench::bare();
    let sshd = far::sshd(bench.directory.path()).await;
    bench.access = sshd.access(&bench);
    everything_works(&bench).await;
    let ssh = format!(
        "sftp.command=ssh -p {} -i {} -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null {}@127.0.0.1 -s sftp",
        sshd.server.port,
        sshd.identity_file.display(),
        sshd.user
    );
    let repository = format!("sftp:{}@127.0.0.1:{}", sshd.user, bench.repository().display());
    restic_reads(&bench, &["-o", &ssh, "--repo", &repository], &[]);
}

/// restic waits for answers, so it needs threads of its own.
#[tokio::test(flavor = "multi_thread")]
async fn everything_works_over_s3() {
    let mut bench = Bench::bare();
    let port = far::s3(&bench).await;
    bench.access = far::over_s3(&bench, port, S3_SECRET);
    everything_works(&bench).await;
    let keys = [("AWS_ACCESS_KEY_ID", S3_KEY), ("AWS_SECRET_ACCESS_KEY", S3_SECRET), ("AWS_DEFAULT_REGION", "garage")];
    let repository = format!("s3:http://127.0.0.1:{port}/{BUCKET}/backups/ks1");
    tokio::task::block_in_place(|| restic_reads(&bench, &["--repo", &repository], &keys));
}

async fn error_of_making(bench: &Bench, access: &Access) -> (&'static str, bool, String) {
    let error = bench.vault.make(access).await.unwrap_err();
    (error.code, error.retryable, error.to_string())
}

#[tokio::test]
async fn a_server_with_another_key_is_told_nothing() {
    let bench = Bench::bare();
    let sshd = far::sshd(bench.directory.path()).await;
    let mut access = sshd.access(&bench);
    let Location::Sftp { host_keys, .. } = &mut access.location else { unreachable!() };
    *host_keys = vec![far::key_pair(9).1];
    let (code, retryable, text) = error_of_making(&bench, &access).await;
    assert_eq!((code, retryable), ("vault.host-key", false), "{text}");
    assert!(text.contains("ssh-ed25519 SHA256:"), "{text}");
    // Known by a kind of key that it has not.
    let Location::Sftp { host_keys, .. } = &mut access.location else { unreachable!() };
    *host_keys = vec![
        "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBGsX0fLhLEJH+Lzm5WOkQPJ3A32BLeszoPShO\
         UXYmMKWT+NC4v4af5uO5+tKfA+eFivOM1drMV7Oy7ZAaDe/UfU="
            .into(),
    ];
    let (code, retryable, text) = error_of_making(&bench, &access).await;
    assert_eq!((code, retryable), ("vault.host-key", false), "{text}");
    assert!(!bench.repository().exists());
}

#[tokio::test]
async fn credentials_that_open_nothing_are_told() {
    let bench = Bench::bare();
    let sshd = far::sshd(bench.directory.path()).await;
    let mut access = sshd.access(&bench);
    let Location::Sftp { identity, .. } = &mut access.location else { unreachable!() };
    *identity = far::key_pair(9).0;
    let (code, retryable, text) = error_of_making(&bench, &access).await;
    assert_eq!((code, retryable), ("vault.forbidden", false), "{text}");
    let s3 = far::s3(&bench).await;
    let (code, retryable, text) = error_of_making(&bench, &far::over_s3(&bench, s3, "wrong")).await;
    assert_eq!((code, retryable), ("vault.forbidden", false), "{text}");
    assert!(!text.contains("wrong") && !text.contains("X-Amz"), "{text}");
    assert!(!bench.repository().exists());
}

#[tokio::test]
async fn a_storage_that_is_busy_is_asked_again() {
    let mut bench = Bench::bare();
    let port = far::busy_s3(&bench, 2).await;
    bench.access = far::over_s3(&bench, port, S3_SECRET);
    assert!(bench.vault.make(&bench.access).await.unwrap());
    let mut bench = Bench::bare();
    let port = far::busy_s3(&bench, usize::MAX).await;
    bench.access = far::over_s3(&bench, port, S3_SECRET);
    let (code, retryable, text) = error_of_making(&bench, &bench.access).await;
    assert_eq!((code, retryable), ("vault.unreachable", true), "{text}");
}

#[tokio::test]
async fn a_bucket_that_is_not_there_is_no_empty_repository() {
    let bench = Bench::bare();
    let port = far::s3(&bench).await;
    let mut access = far::over_s3(&bench, port, S3_SECRET);
    let Location::S3 { bucket, .. } = &mut access.location else { unreachable!() };
    *bucket = "another".into();
    let (code, retryable, text) = error_of_making(&bench, &access).await;
    assert_eq!((code, retryable), ("vault.store", false), "{text}");
    assert!(text.contains("there is no bucket `another`"), "{text}");
}

#[tokio::test]
async fn a_place_where_nobody_answers_is_told() {
    let bench = Bench::bare();
    let sshd = far::sshd(bench.directory.path()).await;
    for access in [sshd.over(&bench, far::free_port()), far::over_s3(&bench, far::free_port(), S3_SECRET)] {
        let (code, retryable, text) = error_of_making(&bench, &access).await;
        assert_eq!((code, retryable), ("vault.unreachable", true), "{text}");
    }
}

/// The repository of `bench`, reached by ways that break: one break is gone over, a way that breaks each time is an
/// error, and both leave a sound repository.
async fn survives_cuts(bench: &Bench, broken: impl Fn(u16) -> Access, port: u16, ends: usize) {
    bench.vault.make(&bench.access).await.unwrap();
    let from = bench.path("from");
    plant(&from, 1);
    std::fs::write(from.join("large"), noise(5, 12 << 20)).unwrap();
    let way = far::fragile(port, ends, 3 << 20).await;
    let saved = bench.vault.save(&broken(way), tree_order(&from, 0), &Quiet).await.unwrap();
    bench.is_sound().await;
    let to = bench.restore(&saved.snapshot.id, "to").await;
    assert_same(&from, &to);

    std::fs::write(from.join("large"), noise(6, 12 << 20)).unwrap();
    let way = far::fragile(port, usize::MAX, 3 << 20).await;
    let error = bench.vault.save(&broken(way), tree_order(&from, 1), &Quiet).await.unwrap_err();
    assert_eq!((error.code, error.retryable), ("vault.unreachable", true), "{error}");
    assert_eq!(bench.vault.snapshots(&bench.access).await.unwrap(), [saved.snapshot]);
    bench.is_sound().await;
    bench.save(&from, 2).await;
    bench.is_sound().await;
}

#[tokio::test]
async fn a_connection_that_is_cut_loses_nothing_over_sftp() {
    let mut bench = Bench::bare();
    let sshd = far::sshd(bench.directory.path()).await;
    bench.access = sshd.access(&bench);
    survives_cuts(&bench, |way| sshd.over(&bench, way), sshd.server.port, 1).await;
}

#[tokio::test]
async fn a_connection_that_is_cut_loses_nothing_over_rest() {
    let mut bench = Bench::bare();
    let server = far::rest(&bench.repository(), &[]).await;
    bench.access = far::over_rest(&bench, server.port, "hush");
    survives_cuts(&bench, |way| far::over_rest(&bench, way, "hush"), server.port, 2).await;
}

#[tokio::test]
async fn a_connection_that_is_cut_loses_nothing_over_s3() {
    let mut bench = Bench::bare();
    let port = far::s3(&bench).await;
    bench.access = far::over_s3(&bench, port, S3_SECRET);
    survives_cuts(&bench, |way| far::over_s3(&bench, way, S3_SECRET), port, 2).await;
}

#[tokio::test]
async fn a_place_that_is_slow_loses_nothing() {
    let mut bench = Bench::bare();
    let sshd = far::sshd(bench.directory.path()).await;
    let server = far::rest(&bench.path("rest"), &[]).await;
    let s3 = far::s3(&bench).await;
    let way = async |port| far::slow(port, 16 << 10, Duration::from_millis(5)).await;
    for (number, access) in [
        sshd.over(&bench, way(sshd.server.port).await),
        far::over_rest(&bench, way(server.port).await, "hush"),
        far::over_s3(&bench, way(s3).await, S3_SECRET),
    ]
    .into_iter()
    .enumerate()
    {
        bench.access = access;
        assert!(bench.vault.make(&bench.access).await.unwrap());
        let from = bench.path("from");
        plant(&from, number as u64);
        let saved = bench.save(&from, number as i64).await;
        bench.is_sound().await;
        let to = bench.restore(&saved.snapshot.id, "to").await;
        assert_same(&from, &to);
    }
}

fn packs(directory: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(packs(&path)) } else { found.push(path) }
    }
    found
}

/// A pack that is shorter than it was is named, and brings nothing back.
async fn notices_what_is_short(bench: &Bench, repository: &Path) {
    bench.vault.make(&bench.access).await.unwrap();
    let from = bench.path("from");
    plant(&from, 1);
    std::fs::write(from.join("large"), noise(5, 5 << 20)).unwrap();
    let saved = bench.save(&from, 0).await;
    let packs = packs(&repository.join("data"));
    let pack = packs.iter().max_by_key(|path| std::fs::metadata(path).unwrap().len()).unwrap();
    let half = std::fs::metadata(pack).unwrap().len() / 2;
    std::fs::File::options().write(true).open(pack).unwrap().set_len(half).unwrap();
    let name = pack.file_name().unwrap().to_str().unwrap();
    let checked = bench.check(Depth::Structure).await;
    assert!(checked.damage.iter().any(|damage| damage.file.contains(name)), "{checked:?}");
    assert_eq!(checked.affected, std::slice::from_ref(&saved.snapshot.id));
    let to = bench.path("to");
    let error =
        bench.vault.restore(&bench.access, &saved.snapshot.id, Path::new("/data"), &to, &Quiet).await.unwrap_err();
    assert_eq!((error.code, error.retryable), ("vault.damaged", false), "{error}");
    assert!(error.to_string().contains(name), "{error}");
}

#[tokio::test]
async fn a_short_pack_is_named_over_every_kind() {
    let mut bench = Bench::bare();
    let sshd = far::sshd(bench.directory.path()).await;
    bench.access = sshd.access(&bench);
    notices_what_is_short(&bench, &bench.repository()).await;
    let mut bench = Bench::bare();
    let server = far::rest(&bench.repository(), &[]).await;
    bench.access = far::over_rest(&bench, server.port, "hush");
    notices_what_is_short(&bench, &bench.repository().join("blog")).await;
    let mut bench = Bench::bare();
    let port = far::s3(&bench).await;
    bench.access = far::over_s3(&bench, port, S3_SECRET);
    notices_what_is_short(&bench, &bench.path("s3").join(BUCKET).join("backups/ks1")).await;
}

#[tokio::test]
async fn a_far_end_that_is_full_is_told_and_keeps_what_it_has() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let mut bench = Bench::bare();
    let repository = bench.repository();
    std::fs::create_dir(&repository).unwrap();
    // A small disk that only this server sees.
    let script = format!("mount -t tmpfs -o size=6m none '{}' && exec \"$@\"", repository.display());
    let sshd = far::sshd_by(bench.directory.path(), &["unshare", "--mount", "sh", "-c", &script, "sh"]).await;
    bench.access = sshd.access(&bench);
    bench.vault.make(&bench.access).await.unwrap();
    let from = bench.path("from");
    std::fs::create_dir(&from).unwrap();
    std::fs::write(from.join("small"), noise(1, 1 << 20)).unwrap();
    let saved = bench.save(&from, 0).await;
    std::fs::write(from.join("large"), noise(2, 20 << 20)).unwrap();
    let error = bench.vault.save(&bench.access, tree_order(&from, 1), &Quiet).await.unwrap_err();
    assert_eq!((error.code, error.retryable), ("vault.full", false), "{error}");
    assert_eq!(bench.vault.snapshots(&bench.access).await.unwrap(), [saved.snapshot]);
    bench.is_sound().await;
}

#[tokio::test]
async fn a_pace_is_kept() {
    let mut bench = Bench::bare();
    let sshd = far::sshd(bench.directory.path()).await;
    bench.access = sshd.access(&bench);
    bench.access.pace.up = Some(4 << 20);
    bench.vault.make(&bench.access).await.unwrap();
    let from = bench.path("from");
    std::fs::create_dir(&from).unwrap();
    std::fs::write(from.join("large"), noise(2, 8 << 20)).unwrap();
    let begun = std::time::Instant::now();
    bench.save(&from, 0).await;
    let took = begun.elapsed();
    assert!(took > Duration::from_millis(1800), "8 MiB at 4 MiB a second took {took:?}");
}

/// What somebody sees who reads all that is told of a failure.
#[tokio::test]
async fn no_credential_is_in_what_is_told() {
    let bench = Bench::bare();
    let sshd = far::sshd(bench.directory.path()).await;
    let port = far::s3(&bench).await;
    let mut wrong_key = sshd.access(&bench);
    wrong_key.password = Secret::new("the-recovery-key");
    assert!(bench.vault.make(&sshd.access(&bench)).await.unwrap());
    for access in
        [wrong_key, far::over_s3(&bench, port, "not-the-secret"), far::over_rest(&bench, far::free_port(), "hush-hush")]
    {
        let error = bench.vault.snapshots(&access).await.unwrap_err();
        let told = format!("{error:?} {error} {}", error.report());
        for secret in ["the-recovery-key", "not-the-secret", "hush-hush", "OPENSSH PRIVATE", "Signature"] {
            assert!(!told.contains(secret), "{told}");
        }
    }
}
