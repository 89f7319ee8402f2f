//! How the backups stand, from what is known of each repository. Looks; asks no repository.

use jiff::{SignedDuration, Timestamp};

use super::drill::{Drill, Drills};
use super::record::{Record, Saved};
use crate::agent::reconcile::Agent;
use crate::model::Name;
use crate::model::backup::BackupStanding;
use crate::model::document::{Document, InstanceState, Repository};
use crate::model::report::ErrorReport;

impl Agent {
    /// Of every instance that is saved, in every repository. `since`: when the document was accepted, before which
    /// nothing was promised.
    pub fn backup_standings(&self, document: &Document, since: Option<Timestamp>) -> Vec<BackupStanding> {
        let now = (self.now)();
        let mut standings = Vec::new();
        for (name, repository) in &document.repositories {
            let record = Record::load(&self.state, name).map_err(|error| error.report());
            let drills = Drills::load(&self.state, name);
            let wanted = document.instances.iter().filter(|(_, instance)| instance.state != InstanceState::Absent);
            for (instance, _) in wanted {
                let mut standing = standing(instance, (name, repository), record.as_ref(), since, now);
                match &drills {
                    Ok(drills) => standing.drill = drills.of.get(instance).map(Drill::standing),
                    Err(error) => standing.last_error = standing.last_error.or_else(|| Some(error.report())),
                }
                standings.push(standing);
            }
        }
        standings.sort_by(|a, b| a.instance.cmp(&b.instance));
        standings
    }
}

/// Pure. What could not be looked at is its error, and not an absent backup.
fn standing(
    instance: &Name,
    (name, repository): (&Name, &Repository),
    record: Result<&Record, &ErrorReport>,
    since: Option<Timestamp>,
    now: Timestamp,
) -> BackupStanding {
    let mut standing = BackupStanding {
        instance: instance.clone(),
        repository: name.clone(),
        good_at: None,
        bytes: None,
        overdue: false,
        damaged: 0,
        last_error: None,
        drill: None,
    };
    let record = match record {
        Ok(record) => record,
        Err(error) => {
            standing.last_error = Some(error.clone());
            return standing;
        }
    };
    let Saved { good, failed } = record.instances.get(instance).cloned().unwrap_or_default();
    standing.good_at = good.as_ref().map(|good| good.at);
    standing.bytes = good.as_ref().map(|good| good.bytes);
    standing.damaged = record.check.as_ref().map_or(0, |check| check.damage.len());
    standing.last_error = failed.map(|failed| failed.error);
    let promised = SignedDuration::from_hours(repository.max_age_hours.into());
    let youngest = standing.good_at.or(since);
    standing.overdue = youngest.is_some_and(|youngest| now.duration_since(youngest) > promised);
    standing
}

#[cfg(test)]
mod tests {
    use super::super::record::{Check, Failed, Good};
    use super::*;
    use crate::host::vault::{Damage, SnapshotId};

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn an_age_is_held_against_the_promise() {
        let name: Name = "home".parse().unwrap();
        let blog: Name = "blog".parse().unwrap();
        let repository = Repository { max_age_hours: 26, ..Repository::at("/srv/backup".parse().unwrap()) };
        let now = at("2026-11-23T12:00:00Z");
        let saved = |good: Option<&str>, failed: bool| Record {
            instances: [(
                blog.clone(),
                Saved {
                    good: good.map(|time| Good {
                        snapshot: SnapshotId("ab".repeat(32)),
                        at: at(time),
                        bytes: 7,
                        files: 1,
                    }),
                    failed: failed.then(|| Failed {
                        at: now,
                        error: ErrorReport { code: "x".into(), message: "full".into(), causes: vec![], hint: None },
                    }),
                },
            )]
            .into(),
            ..Record::default()
        };
        let seen =
            |record: &Record, since: &str| standing(&blog, (&name, &repository), Ok(record), Some(at(since)), now);
        let yesterday = saved(Some("2026-11-22T10:30:00Z"), false);
        assert!(seen(&yesterday, "2026-01-01T00:00:00Z").is_well());
        let older = seen(&saved(Some("2026-11-22T09:59:00Z"), false), "2026-01-01T00:00:00Z");
        assert_eq!(older.problem().unwrap(), "no backup in `home` is as young as promised");
        // A document that was accepted just now: the first one is still to come, and nothing is wrong.
        let first = seen(&Record::default(), "2026-11-23T11:00:00Z");
        assert_eq!((first.is_well(), first.problem()), (false, None));
        assert!(seen(&Record::default(), "2026-11-20T11:00:00Z").overdue);
        let failed = seen(&saved(Some("2026-11-23T02:00:00Z"), true), "2026-01-01T00:00:00Z");
        assert_eq!(failed.problem().unwrap(), "the last backup to `home` failed: full");
        let damage = vec![Damage { file: "data/ab".into(), what: "it is gone".into() }];
        let check = Some(Check { at: now, read: 0, damage });
        let damaged = seen(&Record { check, ..yesterday }, "2026-01-01T00:00:00Z");
        assert!(damaged.problem().unwrap().contains("is damaged"));
        let unread = ErrorReport { code: "x".into(), message: "cannot".into(), causes: vec![], hint: None };
        assert!(standing(&blog, (&name, &repository), Err(&unread), None, now).problem().unwrap().contains("cannot"));
    }
}
