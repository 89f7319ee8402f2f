use super::*;
use crate::resources::Phase;

/// From any state to "`desired.release` installed and proven".
///
/// | state | changes |
/// |---|---|
/// | none, half installed | install, prove |
/// | installed: this one | prove, if not proven as it is now |
/// | installed: another | dump, migrate, prove; or, if a dump of this one exists, set aside what was proven and restore |
/// | half migrated to this one | migrate again, prove |
/// | half migrated away from this one, half restored | restore, prove |
/// | returned | put in place, moved if it was another's; what comes then is planned when that is done |
///
/// Data that was another's and is installed is moved before it is proven.
pub fn diff(name: &str, desired: Option<&Desired>, observed: &Observed) -> Diff<Change> {
    let Some(desired) = desired else { return Diff::IN_SYNC };
    if !desired.present {
        let known = observed != &Observed::default();
        return Diff::Changes(known.then_some((Phase::Retire, Change::Forget)).into_iter().collect());
    }
    if let Some(State::Returned { backup }) = &observed.state {
        let mut changes =
            vec![(Phase::Switch, Change::Return { returned: backup.clone(), units: desired.units.clone() })];
        // Before anything runs on it; data of another release is migrated first.
        if backup.release == desired.release {
            changes.extend(moving(desired, backup.of.as_ref()));
        }
        return Diff::Changes(changes);
    }
    let mut changes = match towards(name, desired, observed) {
        Ok(changes) => changes,
        Err(refused) => return Diff::Refused(refused),
    };
    changes.extend(moving(desired, observed.moved_from.as_ref()));
    if !desired.probes.is_empty() && (!changes.is_empty() || observed.proven != Some(desired.proof)) {
        changes.push((Phase::Prove, Change::Prove { probes: desired.probes.clone(), proof: desired.proof }));
    }
    let stale = stale_dumps(desired, observed);
    if changes.is_empty() && !stale.is_empty() {
        changes.push((Phase::Retire, Change::DropDumps { releases: stale }));
    }
    Diff::Changes(changes)
}

fn moving(desired: &Desired, from: Option<&Identity>) -> Option<(Phase, Change)> {
    let from = from.filter(|from| **from != desired.identity)?;
    let to = &desired.identity;
    let told = serde_json::json!({ "from": from, "to": to }).to_string();
    let told = |step: &Step| match step.clone() {
        Step::Run { name, unit, ok_codes, .. } => {
            Step::Run { name, unit, stdin: Some(Content::new(told.clone())), ok_codes }
        }
        seed => seed,
    };
    let steps = desired.moves.iter().map(told).collect();
    Some((Phase::Switch, Change::Move { from: from.clone(), to: to.clone(), steps }))
}

fn towards(name: &str, desired: &Desired, observed: &Observed) -> Result<Vec<(Phase, Change)>, ErrorReport> {
    let to = &desired.release;
    let install = || Change::Install { release: to.clone(), steps: desired.install.clone() };
    let restore =
        || observed.dumps.get(&to.0).map(|dumps| Change::Restore { release: to.clone(), dumps: dumps.clone() });
    let migrate =
        |from: &ReleaseId| Change::Migrate { from: from.clone(), to: to.clone(), steps: desired.migrate.clone() };
    Ok(match &observed.state {
        None | Some(State::HalfInstalled { .. }) => vec![(Phase::Switch, install())],
        Some(State::Installed { release }) if release == to => Vec::new(),
        Some(State::Installed { release }) => match restore() {
            Some(restore) => {
                let aside = set_aside(name, release, desired, observed);
                aside.into_iter().map(|change| (Phase::Withdraw, change)).chain([(Phase::Switch, restore)]).collect()
            }
            None if desired.migrate.is_empty() => vec![(Phase::Switch, Change::Adopt { release: to.clone() })],
            None => vec![
                (Phase::Withdraw, Change::Dump { release: release.clone(), databases: desired.databases.clone() }),
                (Phase::Switch, migrate(release)),
            ],
        },
        Some(State::HalfMigrated { from, to: begun }) if begun == to => vec![(Phase::Switch, migrate(from))],
        Some(State::HalfMigrated { .. } | State::HalfRestored { .. } | State::Returned { .. }) => match restore() {
            Some(restore) => vec![(Phase::Switch, restore)],
            None => return Err(lost(to, observed)),
        },
    })
}

/// What was proven was served, so it may hold what people wrote since. What never was is what a failed
/// migration left: nobody misses it, and that it cannot be dumped must not keep the good data from coming back.
fn set_aside(name: &str, release: &ReleaseId, desired: &Desired, observed: &Observed) -> Option<Change> {
    (observed.proven.is_some() && !desired.databases.is_empty()).then(|| Change::SetAside {
        release: release.clone(),
        databases: desired.databases.clone(),
        directory: format!("{DUMPS}/{name}/{release}.set-aside"),
    })
}

/// Data that is neither old nor new, and no dump of what is wanted: going on would destroy it.
fn lost(to: &ReleaseId, observed: &Observed) -> ErrorReport {
    let have: Vec<&str> = observed.dumps.keys().map(String::as_str).collect();
    ErrorReport {
        code: "setup.no-dump".to_owned(),
        message: format!(
            "a migration of the data was interrupted, and there is no dump that {to} could be brought back from"
        ),
        causes: Vec::new(),
        hint: Some(match have.first() {
            Some(release) => format!("ask for the version of {release} again: its dump is there"),
            None => "ask for the version it was being migrated to".to_owned(),
        }),
    }
}

/// Dumps nobody can need: the data is installed and proven, and they hold another release than the one
/// a rollback would want. One generation back is kept.
fn stale_dumps(desired: &Desired, observed: &Observed) -> Vec<String> {
    observed.dumps.keys().filter(|release| !desired.keep_dumps.contains(*release)).cloned().collect()
}
