//! Every damage of a repository is found and named, and what it does not touch comes back.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use socle::host::Quiet;
use socle::host::vault::{Depth, SnapshotId, Vault};

use crate::Bench;
use crate::tree::{assert_same, noise, plant};

/// How a file is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Harm {
    Flip,
    Truncate,
    Empty,
    Delete,
    /// It gets the content of another of its kind.
    Swap,
}

const HARMS: [Harm; 5] = [Harm::Flip, Harm::Truncate, Harm::Empty, Harm::Delete, Harm::Swap];

/// Packs are most of a repository.
const KINDS: [&str; 6] = ["data", "index", "snapshots", "keys", "config", "data"];

/// What is done, and to what, at each number: every harm to every kind in thirty.
fn chosen(seed: usize) -> (&'static str, Harm) {
    let kind = KINDS[seed % 6];
    let how = HARMS[(seed / 6 + seed) % 5];
    // There is one config: nothing to swap it with.
    (kind, if kind == "config" && how == Harm::Swap { Harm::Flip } else { how })
}

/// The files of one kind, sorted.
fn files(repository: &Path, kind: &str) -> Vec<PathBuf> {
    let root = repository.join(kind);
    if root.is_file() {
        return vec![root];
    }
    let mut found = Vec::new();
    let mut open = vec![root];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let entry = entry.unwrap();
            match entry.file_type().unwrap().is_dir() {
                true => open.push(entry.path()),
                false => found.push(entry.path()),
            }
        }
    }
    found.sort();
    found
}

fn harm(files: &[PathBuf], number: usize, harm: Harm, seed: usize) {
    let path = &files[number];
    let mut bytes = fs::read(path).unwrap();
    match harm {
        Harm::Flip => {
            let at = (seed * 7919) % bytes.len();
            bytes[at] ^= 1 << (seed % 8);
        }
        Harm::Truncate => bytes.truncate(bytes.len() - 1 - (seed * 104_729) % (bytes.len() - 1)),
        Harm::Empty => bytes.clear(),
        // One of two keys that is gone was removed.
        Harm::Delete if path.parent().is_some_and(|parent| parent.ends_with("keys")) => {
            return files.iter().for_each(|key| fs::remove_file(key).unwrap());
        }
        Harm::Delete => return fs::remove_file(path).unwrap(),
        Harm::Swap => bytes = fs::read(&files[(number + 1) % files.len()]).unwrap(),
    }
    fs::write(path, bytes).unwrap();
}

/// Two instances of which nothing is common, each with two snapshots.
async fn bench() -> (Bench, Vec<(PathBuf, SnapshotId)>) {
    let bench = Bench::new().await;
    let mut snapshots = Vec::new();
    for (number, name) in ["one", "other"].into_iter().enumerate() {
        for round in 0..2 {
            let from = bench.path(&format!("{name}-{round}"));
            plant(&from, number as u64 + 10);
            fs::write(from.join("news"), noise(round + 50 * number as u64, 50_000)).unwrap();
            let saved = bench.save(&from, snapshots.len() as i64).await;
            snapshots.push((from, saved.snapshot.id));
        }
    }
    (bench, snapshots)
}

async fn one(bench: &Bench, snapshots: &[(PathBuf, SnapshotId)], kind: &str, how: Harm, seed: usize) {
    let all = files(&bench.repository(), kind);
    let number = seed % all.len();
    let path = all[number].clone();
    let named = path.strip_prefix(bench.repository()).unwrap().display().to_string();
    let before: Vec<_> = all.iter().map(|path| fs::read(path).unwrap()).collect();
    harm(&all, number, how, seed);
    let context = format!("{how:?} of {named}, {seed}");
    let checked = bench.vault.check(&bench.access, Depth::Everything, &Quiet).await;
    let lost = match (kind, how) {
        // Nothing in a repository says which snapshots there were: who made them knows.
        ("snapshots", Harm::Delete) => {
            assert_eq!(checked.unwrap().damage, [], "{context}");
            let left = bench.vault.snapshots(&bench.access).await.unwrap();
            let left: BTreeSet<_> = left.into_iter().map(|snapshot| snapshot.id).collect();
            let lost: Vec<_> = snapshots.iter().map(|(_, id)| id.clone()).filter(|id| !left.contains(id)).collect();
            assert_eq!(lost.len(), 1, "{context}");
            lost
        }
        // Nothing can be looked at at all.
        ("config" | "keys", Harm::Delete) if checked.is_err() => {
            let error = checked.unwrap_err();
            let (code, named) =
                if kind == "config" { ("vault.damaged", "`config`") } else { ("vault.wrong-key", "key") };
            assert_eq!(error.code, code, "{context}: {error}");
            assert!(error.to_string().contains(named), "{context}: {error}");
            snapshots.iter().map(|(_, id)| id.clone()).collect()
        }
        _ => {
            let checked = checked.unwrap();
            let found: Vec<_> = checked.damage.iter().map(|damage| damage.file.as_str()).collect();
            // The blobs of a lost index are missed where they are needed.
            let wanted = if (kind, how as u8) == ("index", Harm::Delete as u8) { "index" } else { &named };
            assert!(found.contains(&wanted), "{context}: {found:?}");
            checked.affected
        }
    };
    for (number, (from, id)) in snapshots.iter().enumerate() {
        let to = bench.path("restored");
        let _ = fs::remove_dir_all(&to);
        let restored = bench.vault.restore(&bench.access, id, Path::new("/data"), &to, &Quiet).await;
        match lost.contains(id) {
            true => {
                // Keys and configs stop everything, a pack what is in it; nothing comes back wrong.
                if restored.is_ok() {
                    assert_same(from, &to);
                }
            }
            false => {
                restored.unwrap_or_else(|error| panic!("{context}: {number}: {error}"));
                assert_same(from, &to);
            }
        }
    }
    for (path, bytes) in all.iter().zip(before) {
        fs::write(path, bytes).unwrap();
    }
}

#[test]
fn every_harm_is_done_to_every_kind() {
    let done: BTreeSet<(&str, Harm)> = (0..30).map(chosen).collect();
    let kinds: BTreeSet<&str> = KINDS.into_iter().collect();
    let all: BTreeSet<_> = kinds.into_iter().flat_map(|kind| HARMS.map(|how| (kind, how))).collect();
    let missing: Vec<_> = all.difference(&done).collect();
    assert_eq!(missing, [&("config", Harm::Swap)]);
}

#[tokio::test]
async fn every_damage_is_found_and_what_is_whole_comes_back() {
    let (bench, snapshots) = bench().await;
    bench.vault.add_key(&bench.access, &socle::model::Secret::new("other"), "other").await.unwrap();
    bench.is_sound().await;
    let all: usize = std::env::var("SOCLE_CORRUPTIONS").map_or(12, |number| number.parse().unwrap());
    for seed in 0..all {
        let (kind, how) = chosen(seed);
        one(&bench, &snapshots, kind, how, seed).await;
    }
    bench.is_sound().await;
}
