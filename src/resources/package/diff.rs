use super::*;
use crate::resources::Phase;

pub fn diff(name: &str, desired: Option<&Desired>, observed: &Observed) -> Diff<Change> {
    let Some(desired) = desired else { return Diff::IN_SYNC };
    let names = || BTreeSet::from([name.to_owned()]);
    match (desired.present, observed) {
        (true, Observed::Unknown { hint }) => Diff::Refused(ErrorReport {
            code: "package.unknown".to_owned(),
            message: format!("apt knows no package `{name}`"),
            causes: Vec::new(),
            hint: hint.clone(),
        }),
        (true, Observed::Absent { .. } | Observed::Broken { .. }) => {
            Diff::Changes(vec![(Phase::Stage, Change::Install { names: names() })])
        }
        (false, Observed::Installed { .. } | Observed::Broken { .. }) => {
            Diff::Changes(vec![(Phase::Retire, Change::Remove { names: names() })])
        }
        (true, Observed::Installed { .. }) | (false, Observed::Absent { .. } | Observed::Unknown { .. }) => {
            Diff::IN_SYNC
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair() {
        let lines = |present, observed: &Observed| match diff("nginx", Some(&Desired { present }), observed) {
            Diff::Changes(changes) => changes.iter().map(|(phase, change)| format!("{phase:?} {change}")).collect(),
            Diff::Refused(report) => vec![report.code],
        };
        let unknown = Observed::Unknown { hint: None };
        let absent = Observed::Absent { candidate: "1".into() };
        let installed = Observed::Installed { version: "1".into() };
        let broken = Observed::Broken { state: "unpacked".into() };
        assert_eq!(lines(true, &unknown), ["package.unknown"]);
        assert_eq!(lines(true, &absent), ["Stage install nginx"]);
        assert_eq!(lines(true, &broken), ["Stage install nginx"]);
        assert!(lines(true, &installed).is_empty());
        assert!(lines(false, &unknown).is_empty() && lines(false, &absent).is_empty());
        assert_eq!(lines(false, &installed), ["Retire remove nginx"]);
        assert_eq!(lines(false, &broken), ["Retire remove nginx"]);
        assert_eq!(diff("nginx", None, &installed), Diff::IN_SYNC);
    }
}
