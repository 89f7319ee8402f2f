use super::place::{in_downloads, in_releases};
use super::*;
use crate::resources::Phase;

/// What nobody wants stays: removing a release is asked for by a purge (`spec: None`).
pub fn diff(_name: &str, desired: Option<&Desired>, observed: &Observed) -> Diff<Change> {
    match desired {
        None => Diff::IN_SYNC,
        Some(Desired { spec: Some(spec), keep, seen }) => toward(spec, keep, *seen, observed),
        Some(Desired { spec: None, keep, .. }) => purge(keep, observed),
    }
}

/// Left-overs go first: they may be what fills the disk. What `current` still points to goes last,
/// and a download of the wanted release is continued.
fn toward(spec: &Arc<Spec>, keep: &BTreeSet<ReleaseId>, seen: Option<Digest>, observed: &Observed) -> Diff<Change> {
    let id = spec.id();
    let fetch = !observed.present.contains_key(&id);
    let (early, late) = debris(observed, fetch.then_some(&id));
    let mut changes = Vec::new();
    changes.extend(early.map(|debris| (Phase::Stage, Change::Sweep { debris })));
    if fetch {
        changes.push((Phase::Stage, Change::Fetch { id: id.clone(), spec: spec.clone(), seen }));
    }
    if observed.current.as_ref() != Some(&id) {
        changes.push((Phase::Switch, Change::Activate { from: observed.current.clone(), to: id.clone() }));
    }
    changes.extend(
        observed
            .present
            .keys()
            .filter(|present| **present != id && !keep.contains(present))
            .map(|present| (Phase::Retire, Change::Remove { id: present.clone() })),
    );
    changes.extend(late.map(|debris| (Phase::Retire, Change::Sweep { debris })));
    Diff::Changes(changes)
}

fn purge(keep: &BTreeSet<ReleaseId>, observed: &Observed) -> Diff<Change> {
    let mut changes = Vec::new();
    if observed.current.is_some() {
        changes.push((Phase::Retire, Change::Deactivate));
    }
    let unkept = observed.present.keys().filter(|id| !keep.contains(id));
    changes.extend(unkept.map(|id| (Phase::Retire, Change::Remove { id: id.clone() })));
    if !observed.debris.is_empty() {
        changes.push((Phase::Retire, Change::Sweep { debris: observed.debris.clone() }));
    }
    Diff::Changes(changes)
}

/// Left-overs to remove now, and those to remove after the switch.
fn debris(observed: &Observed, fetched: Option<&ReleaseId>) -> (Option<BTreeSet<String>>, Option<BTreeSet<String>>) {
    let of_fetched = |name: &String| {
        fetched.is_some_and(|id| {
            let download = in_downloads(&id.0);
            let ends = ["", ".part", ".part.json"];
            ends.iter().any(|end| *name == format!("{download}{end}"))
                // A release without its marker: replaced by the fetch.
                || *name == in_releases(&id.0)
        })
    };
    let in_use = |name: &String| observed.current.as_ref().is_some_and(|id| *name == in_releases(&id.0));
    let removed = observed.debris.iter().filter(|name| !of_fetched(name)).cloned();
    let (late, early): (BTreeSet<String>, BTreeSet<String>) = removed.partition(in_use);
    (Some(early).filter(|set| !set.is_empty()), Some(late).filter(|set| !set.is_empty()))
}
