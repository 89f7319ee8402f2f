use super::*;
use crate::resources::Phase;

pub fn diff(_name: &str, desired: Option<&Desired>, observed: &Observed) -> Diff<Change> {
    let Some(desired) = desired else { return Diff::IN_SYNC };
    let (home, groups, readers) = match (desired.present, observed) {
        (false, Observed::Absent) => return Diff::IN_SYNC,
        (false, Observed::Present { .. }) => return Diff::Changes(vec![(Phase::Retire, Change::Remove)]),
        (true, Observed::Absent) => (None, BTreeSet::new(), BTreeSet::new()),
        (true, Observed::Present { home, groups, readers }) => (Some(home), groups.clone(), readers.clone()),
    };
    let mut changes = Vec::new();
    match home {
        None => {
            let (description, home) = (desired.description.clone(), desired.home.clone());
            changes.push((Phase::Stage, Change::Create { description, home }));
        }
        Some(home) if *home != desired.home => {
            changes.push((Phase::Stage, Change::SetHome { home: desired.home.clone() }));
        }
        Some(_) => {}
    }
    // Further memberships are the admin's: they stay.
    let missing: BTreeSet<String> = desired.groups.difference(&groups).cloned().collect();
    if !missing.is_empty() {
        changes.push((Phase::Stage, Change::Join { groups: missing }));
    }
    let missing: BTreeSet<String> = desired.readers.difference(&readers).cloned().collect();
    if !missing.is_empty() {
        changes.push((Phase::Stage, Change::AddReaders { users: missing }));
    }
    Diff::Changes(changes)
}
