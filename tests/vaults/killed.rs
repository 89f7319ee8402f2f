//! Killed at any moment, nothing is lost and nobody is needed.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use socle::host::Quiet;
use socle::host::vault::{RusticVault, Vault};

use crate::tree::{assert_same, look, noise, plant};
use crate::{Bench, tree_order};

/// What is killed, in turn.
const ACTS: [&str; 4] = ["save", "check", "prune", "restore"];

/// After so many rounds a prune may end: else what is read to its end in every round grows and grows.
const WHOLE: u64 = 8;

/// Its multiples fill the unit evenly, wherever one stops.
const GOLDEN: f64 = 0.618_033_988_749_895;

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_moment_nothing_is_lost() {
    let bench = Bench::new().await;
    let from = bench.path("from");
    plant(&from, 20);
    let rounds: u64 = std::env::var("SOCLE_KILLS").map_or(12, |number| number.parse().unwrap());
    let mut good = vec![(bench.save(&from, -1).await.snapshot.id, fs::read(from.join("large")).unwrap())];
    let mut killed = 0;
    // How long each act takes here and now: the shortest seen.
    let mut lasts = [Duration::MAX; ACTS.len()];
    for (act, lasts) in ACTS.iter().zip(&mut lasts) {
        fs::write(from.join("large"), noise(rounds, 9 << 20)).unwrap();
        let ended = kill(&bench, act, &from, &good[0].0, Duration::MAX, -2).await;
        *lasts = ended.expect("nothing killed it");
    }
    for round in 0..rounds {
        fs::write(from.join("large"), noise(round, 9 << 20)).unwrap();
        let turn = (round % 4) as usize;
        let act = ACTS[turn];
        // From before the first byte to a little after the last, evenly and not in order.
        let share = (round / 4 + 1) as f64 * GOLDEN % 1.0;
        let after = lasts[turn].mul_f64(share * 1.1);
        match kill(&bench, act, &from, &good[0].0, after, round as i64).await {
            Some(ended) => lasts[turn] = lasts[turn].min(ended),
            None => killed += 1,
        }
        let listed = bench.vault.snapshots(&bench.access).await.unwrap();
        for (id, _) in &good {
            assert!(listed.iter().any(|snapshot| snapshot.id == *id), "{act} lost {id:?}");
        }
        if act == "restore" {
            // Run again, it completes what is there.
            let to = bench.restore(&good[0].0, "killed").await;
            assert!(fs::read(to.join("large")).unwrap() == good[0].1, "{act}, round {round}");
            assert_eq!(look(&to).len(), look(&from).len());
        }
        // No lock to remove, no index to rebuild: the next act works.
        let saved = bench.save(&from, 1000 + round as i64).await;
        good.push((saved.snapshot.id, fs::read(from.join("large")).unwrap()));
        if good.len() > 3 {
            let (old, _) = good.remove(0);
            bench.vault.forget(&bench.access, &[old]).await.unwrap();
        }
        if round % WHOLE == 0 {
            prune(&bench).await;
        }
        bench.is_sound().await;
    }
    assert!(killed >= rounds / 3, "only {killed} of {rounds} were killed before their end");
    prune(&bench).await;
    bench.is_sound().await;
    let to = bench.restore(&good.last().unwrap().0, "to").await;
    assert_same(&from, &to);
    println!("{killed} of {rounds} were killed before their end");
}

/// Marks, and removes what was marked.
async fn prune(bench: &Bench) {
    for _ in 0..2 {
        bench.vault.prune(&bench.access, Duration::ZERO, &Quiet).await.unwrap();
    }
}

/// How long it took, unless it was killed before its end.
async fn kill(
    bench: &Bench,
    act: &str,
    from: &Path,
    snapshot: &socle::host::vault::SnapshotId,
    after: Duration,
    round: i64,
) -> Option<Duration> {
    let vault: &RusticVault = &bench.vault;
    let access = &bench.access;
    let to = bench.path("killed");
    let act: std::pin::Pin<Box<dyn Future<Output = bool> + Send>> = match act {
        "save" => Box::pin(async move { vault.save(access, tree_order(from, round), &Quiet).await.is_ok() }),
        "check" => {
            Box::pin(async move { vault.check(access, socle::host::vault::Depth::Everything, &Quiet).await.is_ok() })
        }
        "prune" => Box::pin(async move { vault.prune(access, Duration::ZERO, &Quiet).await.is_ok() }),
        _ => Box::pin(async move { vault.restore(access, snapshot, Path::new("/data"), &to, &Quiet).await.is_ok() }),
    };
    let started = Instant::now();
    // Dropping a request kills its child with SIGKILL.
    let ended = tokio::time::timeout(after, act).await.ok()?;
    assert!(ended, "what is not killed succeeds");
    Some(started.elapsed())
}
