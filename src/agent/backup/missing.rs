//! Snapshots that are gone. Nothing in a repository says which there were: who made them knows.

use std::collections::BTreeSet;

use super::record::Record;
use crate::host::vault::{Checked, Damage, Snapshot, SnapshotId};
use crate::model::Name;
use crate::model::document::{Document, InstanceState, RepositoryLocation};

/// Adds to what was found the last good snapshot of each instance that is saved, if it is not where it was made. Every
/// rule keeps the newest, whoever prunes.
pub fn add(
    checked: &mut Checked,
    record: &Record,
    location: &RepositoryLocation,
    document: &Document,
    there: &[Snapshot],
) {
    // What was known is of another place, or of a program that did not note the place.
    if !record.location.as_ref().is_some_and(|known| known.leads_to(location)) {
        return;
    }
    let there: BTreeSet<&SnapshotId> = there.iter().map(|snapshot| &snapshot.id).collect();
    let is_saved = |name: &Name| document.instances.get(name).is_some_and(|one| one.state != InstanceState::Absent);
    for (instance, saved) in record.instances.iter().filter(|(name, _)| is_saved(name)) {
        let Some(good) = saved.good.as_ref().filter(|good| !there.contains(&good.snapshot)) else { continue };
        let file = format!("snapshots/{}", good.snapshot.0);
        if checked.damage.iter().all(|known| known.file != file) {
            let what = format!("the last good snapshot of `{instance}` is gone");
            checked.damage.push(Damage { file, what });
        }
        if !checked.affected.contains(&good.snapshot) {
            checked.affected.push(good.snapshot.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::{Good, Saved};
    use super::*;

    #[test]
    fn who_made_it_misses_it() {
        let document =
            "schema = 1\n[instances.page]\nrecipe = \"static\"\nversion = \"1\"\ndomain = \"a.example.org\"\n";
        let document = crate::model::document::parse("d.toml", document).unwrap();
        let (one, other): (RepositoryLocation, RepositoryLocation) =
            ("/mnt/a".parse().unwrap(), "/mnt/b".parse().unwrap());
        let id = |digit: &str| SnapshotId(digit.repeat(64));
        let good = |id| Good { snapshot: id, at: jiff::Timestamp::UNIX_EPOCH, bytes: 0, files: 0 };
        let saved = |id| Saved { good: Some(good(id)), failed: None };
        let instances = [("page".parse().unwrap(), saved(id("a"))), ("old".parse().unwrap(), saved(id("b")))].into();
        let record = Record { instances, location: Some(one.clone()), ..Record::default() };
        let found = |record: &Record, location: &RepositoryLocation, there: &[Snapshot]| {
            let mut checked = Checked::default();
            add(&mut checked, record, location, &document, there);
            checked
        };
        let missed = found(&record, &one, &[]);
        assert_eq!(
            (missed.damage.len(), &missed.affected),
            (1, &vec![id("a")]),
            "no more is said of what nobody wants"
        );
        assert!(missed.damage[0].file.ends_with(&id("a").0) && missed.damage[0].what.contains("`page`"));
        let (host, tags, at) = ("ks1".to_owned(), vec![], jiff::Timestamp::UNIX_EPOCH);
        let there = Snapshot { id: id("a"), host, tags, at, bytes: 0, files: 0, added: None };
        assert_eq!(found(&record, &one, &[there]), Checked::default());
        assert_eq!(found(&record, &other, &[]), Checked::default(), "it is another repository");
    }
}
