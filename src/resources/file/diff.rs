use super::*;
use crate::resources::Phase;

/// A new file is written in Stage: nothing reads it yet. One that may be read already changes in
/// Switch, together with what reads it.
pub fn diff(name: &str, desired: Option<&Desired>, observed: &Observed) -> Diff<Change> {
    let Some(desired) = desired else { return Diff::IN_SYNC };
    let Desired { present, content, owner, group, mode, write } = desired.clone();
    let (seen_digest, seen_permissions) = match observed {
        Observed::NotAFile => return Diff::Refused(in_the_way(name)),
        Observed::Absent if present => {
            let change = Change::Write { content, owner, group, mode, replaces: false };
            return Diff::Changes(vec![(Phase::Stage, change)]);
        }
        Observed::Absent => return Diff::IN_SYNC,
        Observed::File { .. } if !present => return Diff::Changes(vec![(Phase::Retire, Change::Remove)]),
        Observed::File { digest, owner, group, mode } => (*digest, (owner, group, *mode)),
    };
    let (phase, same_content) = match write {
        Write::Always => (Phase::Switch, seen_digest == content.digest()),
        Write::Once => (Phase::Stage, true),
    };
    if !same_content {
        return Diff::Changes(vec![(phase, Change::Write { content, owner, group, mode, replaces: true })]);
    }
    if seen_permissions != (&owner, &group, mode) {
        return Diff::Changes(vec![(phase, Change::SetPermissions { owner, group, mode })]);
    }
    Diff::IN_SYNC
}

fn in_the_way(name: &str) -> ErrorReport {
    ErrorReport {
        code: "file.in-the-way".to_owned(),
        message: format!("`{name}` is not a file but something else"),
        causes: Vec::new(),
        hint: Some(format!("look at it, then move it away: `ls -ld {name}`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn desired(present: bool, write: Write) -> Desired {
        Desired {
            present,
            content: Content::new("new"),
            owner: "root".into(),
            group: "blog".into(),
            mode: 0o640,
            write,
        }
    }

    fn seen(text: &str, mode: u32) -> Observed {
        Observed::File { digest: Digest::of(text), owner: "root".into(), group: "blog".into(), mode }
    }

    fn lines(desired: &Desired, observed: &Observed) -> Vec<String> {
        match diff("/x", Some(desired), observed) {
            Diff::Changes(changes) => changes.iter().map(|(phase, change)| format!("{phase:?} {change}")).collect(),
            Diff::Refused(report) => vec![report.code],
        }
    }

    #[test]
    fn kept_equal() {
        let wanted = desired(true, Write::Always);
        assert_eq!(lines(&wanted, &Observed::Absent), ["Stage write"]);
        assert_eq!(lines(&wanted, &seen("old", 0o600)), ["Switch replace"]);
        assert_eq!(lines(&wanted, &seen("new", 0o600)), ["Switch set root:blog 0640"]);
        assert!(lines(&wanted, &seen("new", 0o640)).is_empty());
        assert_eq!(lines(&wanted, &Observed::NotAFile), ["file.in-the-way"]);
    }

    #[test]
    fn written_once() {
        let wanted = desired(true, Write::Once);
        assert_eq!(lines(&wanted, &Observed::Absent), ["Stage write"]);
        assert!(lines(&wanted, &seen("taken over", 0o640)).is_empty());
        assert_eq!(lines(&wanted, &seen("taken over", 0o644)), ["Stage set root:blog 0640"]);
    }

    #[test]
    fn unwanted() {
        let unwanted = desired(false, Write::Always);
        assert!(lines(&unwanted, &Observed::Absent).is_empty());
        assert_eq!(lines(&unwanted, &seen("old", 0o640)), ["Retire remove"]);
        assert_eq!(lines(&unwanted, &Observed::NotAFile), ["file.in-the-way"]);
        assert_eq!(diff("/x", None, &seen("old", 0o640)), Diff::IN_SYNC);
    }
}
