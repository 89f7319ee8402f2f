//! Backup, unchanged backup, restore and full check of the same data in the same run by us, by Debian's `restic` and
//! `borg`: `cargo bench --bench vault [-- DIRECTORY]`. Needs `restic`, `borgbackup`, `time`; 8 GB in DIRECTORY.
//!
//! Data: 1.2 GB that does not compress in files of 20 KB to 12 MB, and text and code of this machine, 20,000 files
//! together. Every tool takes its turn in every round; the best of the rounds is printed, with the peak of memory.
#![allow(clippy::disallowed_methods, reason = "a bench runs programs and writes files")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use socle::host::Quiet;
use socle::host::vault::{Access, Depth, Entry, Location, Order, Pace, RusticVault, SnapshotId, Source, Vault, Way};
use socle::model::Secret;

const ROUNDS: usize = 2;
const PASSWORD: &str = "bench";
const VERBS: [&str; 4] = ["first", "unchanged", "restore", "check"];

fn main() {
    let directory = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let root = PathBuf::from(directory.unwrap_or_else(|| "/var/tmp".into())).join("socle-bench-vault");
    let data = root.join("data");
    if !data.join("made").exists() {
        make(&data);
    }
    let (files, bytes) = count(&data);
    println!("{files} files, {} MB; seconds and peak MB, best of {ROUNDS}", bytes >> 20);
    let mut best: BTreeMap<(&str, &str), (f64, u64)> = BTreeMap::new();
    for _ in 0..ROUNDS {
        for tool in ["socle", "restic", "borg"] {
            let work = root.join(tool);
            let _ = fs::remove_dir_all(&work);
            fs::create_dir_all(&work).unwrap();
            let ran = match tool {
                "socle" => socle(&work, &data),
                "restic" => restic(&work, &data),
                _ => borg(&work, &data),
            };
            for (verb, (seconds, peak)) in VERBS.into_iter().zip(ran) {
                let best = best.entry((tool, verb)).or_insert((f64::MAX, 0));
                *best = (best.0.min(seconds), best.1.max(peak));
            }
            fs::remove_dir_all(&work).unwrap();
        }
    }
    for verb in VERBS {
        let told = ["socle", "restic", "borg"].map(|tool| {
            let (seconds, peak) = best[&(tool, verb)];
            format!("{tool} {seconds:6.2} s {:4} MB", peak >> 10)
        });
        println!("{verb:>10}: {}", told.join(" | "));
    }
}

/// Wall clock seconds and peak KiB.
type Ran = Vec<(f64, u64)>;

fn timed(work: &Path, command: &[&str]) -> (f64, u64) {
    let log = work.join("time");
    let output = Command::new("/usr/bin/time")
        .args(["-f", "%e %M", "-o"])
        .arg(&log)
        .args(command)
        .env("RESTIC_PASSWORD", PASSWORD)
        .env("BORG_PASSPHRASE", PASSWORD)
        .env("BORG_BASE_DIR", work)
        .current_dir(work)
        .output()
        .unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    figures(&log)
}

fn figures(log: &Path) -> (f64, u64) {
    let text = fs::read_to_string(log).unwrap();
    let (seconds, peak) = text.trim().split_once(' ').unwrap();
    (seconds.parse().unwrap(), peak.parse().unwrap())
}

fn restic(work: &Path, data: &Path) -> Ran {
    let (repository, data) = (work.join("repository"), data.to_str().unwrap());
    let run = |arguments: &[&str]| {
        timed(work, &[&["restic", "--no-cache", "--repo", repository.to_str().unwrap()], arguments].concat())
    };
    run(&["init", "--repository-version", "2"]);
    let first = run(&["backup", data]);
    let unchanged = run(&["backup", data]);
    let restore = run(&["restore", "latest", "--target", "to"]);
    vec![first, unchanged, restore, run(&["check", "--read-data"])]
}

fn borg(work: &Path, data: &Path) -> Ran {
    let (repository, data) = (work.join("repository"), data.to_str().unwrap());
    let repository = repository.to_str().unwrap();
    timed(work, &["borg", "init", "--encryption", "repokey", repository]);
    let first = timed(work, &["borg", "create", "--compression", "zstd", &format!("{repository}::one"), data]);
    let unchanged = timed(work, &["borg", "create", "--compression", "zstd", &format!("{repository}::two"), data]);
    fs::create_dir(work.join("to")).unwrap();
    let to = work.join("to");
    let inside =
        ["env", "-C", to.to_str().unwrap(), "borg", "extract", &format!("{repository}::two")].map(str::to_owned);
    let restore = timed(work, &inside.iter().map(String::as_str).collect::<Vec<_>>());
    vec![first, unchanged, restore, timed(work, &["borg", "check", "--verify-data", repository])]
}

#[tokio::main(flavor = "current_thread")]
async fn socle(work: &Path, data: &Path) -> Ran {
    // The child under the same clock as the others.
    let (log, wrapper) = (work.join("time"), work.join("child"));
    let script = format!(
        "#!/bin/sh\nexec /usr/bin/time -f '%e %M' -o {} {} \"$@\"\n",
        log.display(),
        env!("CARGO_BIN_EXE_socle")
    );
    fs::write(&wrapper, script).unwrap();
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).unwrap();
    let vault = RusticVault::new(&wrapper);
    let location = Location::Directory(work.join("repository"));
    let (password, pace) = (Secret::new(PASSWORD), Pace::default());
    let access = Access { location, password, pace, append_only: false, way: Way::default() };
    vault.make(&access).await.unwrap();
    let mut ran = Vec::new();
    let mut saved = None;
    for second in 0..2 {
        let from = Source::Tree { from: data.to_owned(), except: vec![] };
        let order = Order {
            host: "bench".into(),
            tags: vec![],
            at: jiff::Timestamp::from_second(1_800_000_000 + second).unwrap(),
            entries: vec![Entry { path: "/data".into(), from }],
            parent: None,
            moment: None,
        };
        saved = Some(vault.save(&access, order, &Quiet).await.unwrap());
        ran.push(figures(&log));
    }
    let id: SnapshotId = saved.unwrap().snapshot.id;
    vault.restore(&access, &id, Path::new("/data"), &work.join("to"), &Quiet).await.unwrap();
    ran.push(figures(&log));
    let checked = vault.check(&access, Depth::Everything, &Quiet).await.unwrap();
    assert!(checked.damage.is_empty(), "{checked:?}");
    ran.push(figures(&log));
    ran
}

fn make(data: &Path) {
    println!("making the data");
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut files = 0;
    let mut left: u64 = 1200 << 20;
    while left > 0 {
        // Many small, few large: the cube of an even distribution.
        let part = (next() % 1000) as f64 / 1000.0;
        let length = (20_000.0 + part.powi(3) * 11_980_000.0) as u64;
        let length = length.min(left);
        let directory = data.join(format!("pictures/{:03}", files / 40));
        fs::create_dir_all(&directory).unwrap();
        let words = length.div_ceil(8);
        let bytes: Vec<u8> = (0..words).flat_map(|_| next().to_le_bytes()).collect();
        fs::write(directory.join(format!("{files}.jpg")), &bytes[..length as usize]).unwrap();
        (left, files) = (left - length, files + 1);
    }
    let mut open = ["/usr/share", "/usr/lib/python3", "/usr/include"].map(PathBuf::from).to_vec();
    let mut text: u64 = 0;
    while let Some(directory) = open.pop() {
        let Ok(entries) = fs::read_dir(&directory) else { continue };
        for entry in entries.flatten() {
            let Ok(kind) = entry.file_type() else { continue };
            let Ok(length) = entry.metadata().map(|metadata| metadata.len()) else { continue };
            if kind.is_dir() {
                open.push(entry.path());
            } else if kind.is_file() && (1..2 << 20).contains(&length) && files < 20_000 && text < 400 << 20 {
                let to = data.join("text").join(entry.path().strip_prefix("/usr").unwrap());
                fs::create_dir_all(to.parent().unwrap()).unwrap();
                fs::copy(entry.path(), to).unwrap();
                (files, text) = (files + 1, text + length);
            }
        }
    }
    fs::write(data.join("made"), "").unwrap();
}

fn count(directory: &Path) -> (u64, u64) {
    let (mut files, mut bytes) = (0, 0);
    for entry in fs::read_dir(directory).unwrap().flatten() {
        let metadata = entry.metadata().unwrap();
        if metadata.is_dir() {
            let (more, bigger) = count(&entry.path());
            (files, bytes) = (files + more, bytes + bigger);
        } else {
            (files, bytes) = (files + 1, bytes + metadata.len());
        }
    }
    (files, bytes)
}
