use super::*;
use crate::resources::Phase;

pub fn diff(name: &str, desired: Option<&Desired>, observed: &Observed) -> Diff<Change> {
    let Some(desired) = desired else { return Diff::IN_SYNC };
    let Desired { present, owner, group, mode, whole } = desired.clone();
    match observed {
        Observed::NotADirectory => Diff::Refused(in_the_way(name)),
        Observed::Absent if present => {
            Diff::Changes(vec![(Phase::Stage, Change::Create { owner, group, mode, whole })])
        }
        Observed::Absent => Diff::IN_SYNC,
        Observed::Directory { .. } if !present => Diff::Changes(vec![(Phase::Retire, Change::RemoveAll)]),
        Observed::Directory { owner: o, group: g, mode: m } if (o, g, m) == (&owner, &group, &mode) => Diff::IN_SYNC,
        Observed::Directory { .. } => {
            Diff::Changes(vec![(Phase::Stage, Change::SetPermissions { owner, group, mode })])
        }
    }
}

fn in_the_way(name: &str) -> ErrorReport {
    ErrorReport {
        code: "directory.in-the-way".to_owned(),
        message: format!("`{name}` is not a directory but something else"),
        causes: Vec::new(),
        hint: Some(format!("look at it, then move it away: `ls -l {name}`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn desired(present: bool) -> Desired {
        Desired { present, owner: "root".into(), group: "blog".into(), mode: 0o750, whole: false }
    }

    fn seen(group: &str, mode: u32) -> Observed {
        Observed::Directory { owner: "root".into(), group: group.into(), mode }
    }

    fn lines(diff: Diff<Change>) -> Vec<String> {
        match diff {
            Diff::Changes(changes) => changes.iter().map(|(phase, change)| format!("{phase:?} {change}")).collect(),
            Diff::Refused(report) => vec![report.code],
        }
    }

    #[test]
    fn every_pair() {
        let diff = |desired: Option<&Desired>, seen: &Observed| lines(diff("/x", desired, seen));
        let (wanted, unwanted) = (desired(true), desired(false));
        assert_eq!(diff(Some(&wanted), &Observed::Absent), ["Stage create, root:blog 0750"]);
        assert!(diff(Some(&wanted), &seen("blog", 0o750)).is_empty());
        assert_eq!(diff(Some(&wanted), &seen("blog", 0o755)), ["Stage set root:blog 0750"]);
        assert_eq!(diff(Some(&wanted), &seen("root", 0o750)), ["Stage set root:blog 0750"]);
        assert_eq!(diff(Some(&wanted), &Observed::NotADirectory), ["directory.in-the-way"]);
        assert!(diff(Some(&unwanted), &Observed::Absent).is_empty());
        assert_eq!(diff(Some(&unwanted), &seen("blog", 0o750)), ["Retire remove with everything in it"]);
        assert_eq!(diff(Some(&unwanted), &Observed::NotADirectory), ["directory.in-the-way"]);
        assert!(diff(None, &seen("blog", 0o750)).is_empty());
    }
}
