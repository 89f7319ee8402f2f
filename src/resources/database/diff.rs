use super::*;
use crate::resources::Phase;

/// Nobody wanting a database changes nothing: see [`super::observe::list`].
pub fn diff(_name: &str, desired: Option<&Desired>, observed: &Observed) -> Diff<Change> {
    let Some(desired) = desired else { return Diff::IN_SYNC };
    let (phase, changes) = match desired.present {
        true => (Phase::Stage, missing(desired, observed)),
        false => (Phase::Retire, left(desired, observed)),
    };
    Diff::Changes(changes.into_iter().map(|change| (phase, change)).collect())
}

fn missing(desired: &Desired, observed: &Observed) -> Vec<Change> {
    let owner = || desired.owner.clone();
    let mut changes = Vec::new();
    if !observed.roles.contains(&desired.owner) {
        changes.push(Change::CreateRole { role: owner() });
    }
    if !observed.database {
        changes.push(Change::CreateDatabase { owner: owner() });
    } else if !observed.owners.contains(&desired.owner) {
        changes.push(Change::Grant { owner: owner() });
    }
    let extensions = desired.extensions.difference(&observed.extensions);
    changes.extend(extensions.map(|extension| Change::CreateExtension { extension: extension.clone() }));
    changes
}

/// The database first: PostgreSQL keeps a role that still owns one.
fn left(desired: &Desired, observed: &Observed) -> Vec<Change> {
    let mut changes = Vec::new();
    if observed.database {
        changes.push(Change::DropDatabase);
    }
    if observed.roles.contains(&desired.owner) {
        changes.push(Change::DropRole { role: desired.owner.clone() });
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn desired(present: bool) -> Desired {
        Desired { present, owner: "socle-blog".into(), extensions: ["pg_trgm".to_owned()].into() }
    }

    fn observed(database: bool, role: bool, owner: bool, extensions: &[&str]) -> Observed {
        let set = |yes: bool| if yes { ["socle-blog".to_owned()].into() } else { BTreeSet::new() };
        let extensions = extensions.iter().map(|e| (*e).to_owned()).collect();
        Observed { database, roles: set(role), owners: set(owner), extensions }
    }

    fn lines(desired: Option<&Desired>, observed: &Observed) -> Vec<String> {
        match diff("postgresql:blog", desired, observed) {
            Diff::Changes(changes) => changes.iter().map(|(phase, change)| format!("{phase:?}: {change}")).collect(),
            Diff::Refused(report) => panic!("{report}"),
        }
    }

    #[test]
    fn only_what_is_missing() {
        let wanted = desired(true);
        let nothing = observed(false, false, false, &[]);
        assert_eq!(
            lines(Some(&wanted), &nothing),
            [
                "Stage: create role socle-blog",
                "Stage: create database owned by socle-blog",
                "Stage: create extension pg_trgm"
            ]
        );
        // An interruption between database and right.
        let half = observed(true, true, false, &["plpgsql", "pg_trgm"]);
        assert_eq!(lines(Some(&wanted), &half), ["Stage: make socle-blog its owner"]);
        assert!(lines(Some(&wanted), &observed(true, true, true, &["plpgsql", "pg_trgm"])).is_empty());
    }

    #[test]
    fn dropped_only_when_asked() {
        let whole = observed(true, true, true, &["pg_trgm"]);
        assert!(lines(None, &whole).is_empty());
        assert_eq!(lines(Some(&desired(false)), &whole), ["Retire: drop database", "Retire: drop role socle-blog"]);
        assert!(lines(Some(&desired(false)), &observed(false, false, false, &[])).is_empty());
    }
}
