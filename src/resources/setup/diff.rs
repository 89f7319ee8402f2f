use super::*;
use crate::resources::Phase;

/// From any state to "`desired.release` installed and proven".
///
/// | state | changes |
/// |---|---|
/// | none, half installed | install, prove |
/// | installed: this one | prove, if not proven as it is now |
/// | installed: another | see that there is room, dump, keep the files, migrate, prove; or, if a dump of this one exists, set aside what was proven and restore |
/// | half migrated to this one | migrate again, prove |
/// | half migrated away from this one, half restored | restore, prove |
/// | returned | put in place, moved if it was another's; what comes then is planned when that is done |
///
/// Data of a backup was saved while it paused: it is told to go on as soon as it is of this release, so after it was
/// migrated. Data that was another's is moved after that, and before it is proven.
pub fn diff(name: &str, desired: Option<&Desired>, observed: &Observed) -> Diff<Change> {
    let Some(desired) = desired else { return Diff::IN_SYNC };
    if !desired.present {
        let known = observed != &Observed::default();
        return Diff::Changes(known.then_some((Phase::Retire, Change::Forget)).into_iter().collect());
    }
    if let Some(State::Returned { backup }) = &observed.state {
        let put = Change::Return { returned: backup.clone(), units: desired.units.clone() };
        let mut changes = vec![(Phase::Switch, put)];
        // Before anything runs on it; data of another release is migrated first.
        if backup.release == desired.release {
            changes.extend(going_on(desired));
            changes.extend(moving(desired, backup.of.as_ref()));
        }
        return Diff::Changes(changes);
    }
    let mut changes = match towards(name, desired, observed) {
        Ok(changes) => changes,
        Err(refused) => return Diff::Refused(refused),
    };
    if is_paused(desired, observed, &changes) {
        changes.extend(going_on(desired));
    }
    changes.extend(moving(desired, observed.moved_from.as_ref()));
    if !desired.probes.is_empty() && (!changes.is_empty() || observed.proven != Some(desired.proof)) {
        changes.push((Phase::Prove, Change::Prove { probes: desired.probes.clone(), proof: desired.proof }));
    }
    let (releases, debris) = (stale(desired, observed), observed.debris.iter().cloned().collect::<Vec<_>>());
    if changes.is_empty() && !(releases.is_empty() && debris.is_empty()) {
        changes.push((Phase::Retire, Change::DropDumps { releases, debris }));
    }
    Diff::Changes(changes)
}

/// Whether the data is, once these changes made it that of the wanted release.
fn is_paused(desired: &Desired, observed: &Observed, changes: &[(Phase, Change)]) -> bool {
    let from = changes.iter().find_map(|(_, change)| match (change, &observed.state) {
        (Change::Migrate { from, .. }, _) | (Change::Adopt { .. }, Some(State::Installed { release: from })) => {
            Some(from)
        }
        _ => None,
    });
    observed.paused.contains(&from.unwrap_or(&desired.release).0)
}

fn going_on(desired: &Desired) -> Option<(Phase, Change)> {
    let Desired { release, quiet, .. } = desired;
    let go_on = || Change::GoOn { release: release.clone(), leave: quiet.leave.clone() };
    (!quiet.leave.is_empty()).then(|| (Phase::Switch, go_on()))
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
    let restore = |aside: Option<String>| {
        let (release, dumps) = (to.clone(), observed.dumps.get(&to.0)?.clone());
        let kept = observed.kept.get(&to.0).cloned().unwrap_or_default();
        let aside = aside.filter(|_| !kept.is_empty());
        Some(Change::Restore { release, dumps, kept, aside })
    };
    let migrate =
        |from: &ReleaseId| Change::Migrate { from: from.clone(), to: to.clone(), steps: desired.migrate.clone() };
    Ok(match &observed.state {
        None | Some(State::HalfInstalled { .. }) => vec![(Phase::Switch, install())],
        Some(State::Installed { release }) if release == to => Vec::new(),
        Some(State::Installed { release }) => match restore(files_aside(name, release, observed)) {
            Some(restore) => {
                let aside = set_aside(name, release, desired, observed);
                aside.into_iter().map(|change| (Phase::Withdraw, change)).chain([(Phase::Switch, restore)]).collect()
            }
            None if desired.migrate.is_empty() => vec![(Phase::Switch, Change::Adopt { release: to.clone() })],
            None => made_safe(release, desired).into_iter().chain([(Phase::Switch, migrate(release))]).collect(),
        },
        Some(State::HalfMigrated { from, to: begun }) if begun == to => vec![(Phase::Switch, migrate(from))],
        Some(State::HalfRestored { to: begun, aside }) if begun == to => match restore(aside.clone()) {
            Some(restore) => vec![(Phase::Switch, restore)],
            None => return Err(lost(to, observed)),
        },
        Some(State::HalfMigrated { .. } | State::HalfRestored { .. } | State::Returned { .. }) => match restore(None) {
            Some(restore) => vec![(Phase::Switch, restore)],
            None => return Err(lost(to, observed)),
        },
    })
}

/// Before the point of no return: the data as it is, to come back to. Room for it is asked for while everything
/// still runs, the rest happens when nobody writes.
fn made_safe(release: &ReleaseId, desired: &Desired) -> Vec<(Phase, Change)> {
    let Desired { databases, directories, .. } = desired.clone();
    let release = || release.clone();
    let dump = (Phase::Withdraw, Change::Dump { release: release(), databases });
    if directories.is_empty() {
        return vec![dump];
    }
    let room = Change::GetReady { release: release(), directories: directories.clone() };
    vec![(Phase::Stage, room), dump, (Phase::Withdraw, Change::Keep { release: release(), directories })]
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

/// The same for files, which are where they were put, and not copied.
fn files_aside(name: &str, release: &ReleaseId, observed: &Observed) -> Option<String> {
    observed.proven.is_some().then(|| format!("/srv/socle/{name}/set-aside/{release}"))
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

/// Dumps and files nobody can need: the data is installed and proven, and they hold another release than the one
/// a rollback would want. One generation back is kept.
fn stale(desired: &Desired, observed: &Observed) -> Vec<String> {
    let releases: BTreeSet<&String> = observed.dumps.keys().chain(observed.kept.keys()).collect();
    releases.into_iter().filter(|release| !desired.keep_dumps.contains(*release)).cloned().collect()
}
