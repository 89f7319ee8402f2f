use super::*;
use crate::resources::Phase;

/// Groups and readers somebody else added are left alone.
pub fn diff(_name: &str, desired: Option<&Desired>, observed: &Observed) -> Diff<Change> {
    let Some(desired) = desired else { return Diff::IN_SYNC };
    if !desired.present {
        return match observed {
            Observed::Absent => Diff::IN_SYNC,
            Observed::Present { .. } => Diff::Changes(vec![(Phase::Retire, Change::Remove)]),
        };
    }
    let mut changes = Vec::new();
    let none = BTreeSet::new();
    let (groups, readers) = match observed {
        Observed::Absent => {
            let (description, home) = (desired.description.clone(), desired.home.clone());
            changes.push(Change::Create { description, home });
            (&none, &none)
        }
        Observed::Present { home, groups, readers } => {
            if *home != desired.home {
                changes.push(Change::SetHome { home: desired.home.clone() });
            }
            (groups, readers)
        }
    };
    let missing = |wanted: &BTreeSet<String>, seen| wanted.difference(seen).cloned().collect::<BTreeSet<_>>();
    let (groups, users) = (missing(&desired.groups, groups), missing(&desired.readers, readers));
    if !groups.is_empty() {
        changes.push(Change::Join { groups });
    }
    if !users.is_empty() {
        changes.push(Change::AddReaders { users });
    }
    Diff::Changes(changes.into_iter().map(|change| (Phase::Stage, change)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn desired(present: bool) -> Desired {
        Desired {
            present,
            description: "Blog".into(),
            home: "/srv/socle/blog/data".into(),
            groups: set(&["ssl-cert"]),
            readers: set(&["www-data"]),
        }
    }

    fn seen(home: &str, groups: &[&str], readers: &[&str]) -> Observed {
        Observed::Present { home: home.into(), groups: set(groups), readers: set(readers) }
    }

    fn lines(desired: Option<&Desired>, observed: &Observed) -> Vec<String> {
        match diff("socle-blog", desired, observed) {
            Diff::Changes(changes) => changes.iter().map(|(phase, change)| format!("{phase:?} {change}")).collect(),
            Diff::Refused(report) => vec![report.code],
        }
    }

    #[test]
    fn every_pair() {
        let (wanted, unwanted) = (desired(true), desired(false));
        let home = "/srv/socle/blog/data";
        assert_eq!(
            lines(Some(&wanted), &Observed::Absent),
            ["Stage create system user", "Stage join ssl-cert", "Stage let www-data read its group's files"]
        );
        assert!(lines(Some(&wanted), &seen(home, &["ssl-cert", "adm"], &["www-data", "backup"])).is_empty());
        assert_eq!(
            lines(Some(&wanted), &seen("/x", &["ssl-cert"], &["www-data"])),
            [format!("Stage set home to {home}")]
        );
        assert_eq!(lines(Some(&wanted), &seen(home, &[], &["www-data"])), ["Stage join ssl-cert"]);
        assert_eq!(
            lines(Some(&wanted), &seen(home, &["ssl-cert"], &[])),
            ["Stage let www-data read its group's files"]
        );
        assert_eq!(lines(Some(&unwanted), &seen(home, &[], &[])), ["Retire remove user"]);
        assert!(lines(Some(&unwanted), &Observed::Absent).is_empty());
        for observed in [Observed::Absent, seen(home, &[], &[])] {
            assert!(lines(None, &observed).is_empty());
        }
    }
}
