use super::*;
use crate::model::certificate::Origin;
use crate::resources::Phase;

/// One made here is made again this long before its end: nobody else would.
const SPARE: jiff::SignedDuration = jiff::SignedDuration::from_hours(30 * 24);

pub fn diff(desired: Option<&Desired>, observed: &Observed) -> Diff<Change> {
    let Some(desired) = desired else { return Diff::IN_SYNC };
    let seen = observed.present.as_ref().map(|(number, _)| *number);
    let present = observed.present.as_ref().map(|(_, meta)| meta);
    let change = match &desired.source {
        Source::BestThereIs if present.is_some_and(|meta| serves(meta, desired)) => return Diff::IN_SYNC,
        Source::BestThereIs => Change::SelfSign { names: desired.names.clone(), now: desired.now, seen },
        Source::Brought(bundle) if present.is_some_and(|meta| same(meta, &bundle.meta)) => return Diff::IN_SYNC,
        Source::Brought(bundle) => Change::Take {
            serial: bundle.meta.serial.clone(),
            not_after: bundle.meta.not_after,
            seen,
            bundle: bundle.clone(),
        },
        Source::Unusable(report) => return Diff::Refused(report.clone()),
    };
    Diff::Changes(vec![(Phase::Stage, change)])
}

/// Whether there is nothing to be made here. One that somebody trusts is left even when it lacks a name or is
/// expired: visitors are better off with it, and to get the next one is the job of whoever got it.
fn serves(present: &Meta, desired: &Desired) -> bool {
    match present.source {
        Origin::SelfSigned => present.covers(&desired.names) && present.not_after > desired.now + SPARE,
        Origin::Acme | Origin::Files | Origin::Internal => true,
    }
}

/// The same certificate; when it was put in place does not matter.
fn same(present: &Meta, brought: &Meta) -> bool {
    let brought = Meta { issued_at: present.issued_at, ..brought.clone() };
    *present == brought
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::certificates::key;
    use crate::model::certificate::KeyType;

    const NOW: &str = "2026-11-23T12:00:00Z";

    fn names(names: &[&str]) -> Vec<CertifiedName> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    fn desired(of: &[&str], source: Source) -> Desired {
        Desired { names: names(of), source, now: NOW.parse().unwrap() }
    }

    fn bundle(of: &[&str], source: Origin) -> Bundle {
        let mut bundle = key::self_signed(&names(of), KeyType::P256, NOW.parse().unwrap()).unwrap();
        bundle.meta.source = source;
        bundle
    }

    fn lines(desired: &Desired, present: Option<Meta>) -> Vec<String> {
        match diff(Some(desired), &Observed { present: present.map(|meta| (7, meta)) }) {
            Diff::Changes(changes) => changes.iter().map(|(phase, change)| format!("{phase:?}: {change}")).collect(),
            Diff::Refused(report) => vec![report.code],
        }
    }

    #[test]
    fn there_is_always_one_and_a_trusted_one_is_left_alone() {
        let wanted = desired(&["a.org", "www.a.org"], Source::BestThereIs);
        let made = ["Stage: make a self-signed certificate for a.org, www.a.org"];
        assert_eq!(lines(&wanted, None), made);
        assert_eq!(lines(&wanted, Some(bundle(&["a.org"], Origin::SelfSigned).meta)), made);
        let ours = bundle(&["a.org", "www.a.org"], Origin::SelfSigned).meta;
        assert!(lines(&wanted, Some(ours.clone())).is_empty());
        assert_eq!(lines(&wanted, Some(Meta { not_after: wanted.now + SPARE, ..ours })), made, "it ends soon");
        let old = Meta { not_after: wanted.now, ..bundle(&["a.org"], Origin::Acme).meta };
        assert!(lines(&wanted, Some(old)).is_empty(), "who got it gets the next");
    }

    #[test]
    fn what_is_brought_is_taken_once() {
        let brought = bundle(&["a.org"], Origin::Files);
        let wanted = desired(&["a.org"], Source::Brought(Box::new(brought.clone())));
        let [line] = &lines(&wanted, Some(bundle(&["a.org"], Origin::Acme).meta))[..] else { panic!() };
        assert!(line.starts_with("Stage: put the brought certificate "), "{line}");
        let later = Meta { issued_at: wanted.now + SPARE, ..brought.meta.clone() };
        assert!(lines(&wanted, Some(later)).is_empty());
        let report = ErrorReport { code: "x".into(), message: String::new(), causes: Vec::new(), hint: None };
        assert_eq!(lines(&desired(&["a.org"], Source::Unusable(report)), Some(brought.meta)), ["x"]);
    }

    #[test]
    fn a_private_key_is_in_no_journal() {
        let brought = bundle(&["a.org"], Origin::Files);
        let wanted = desired(&["a.org"], Source::Brought(Box::new(brought.clone())));
        let Diff::Changes(changes) = diff(Some(&wanted), &Observed::default()) else { panic!() };
        let written = serde_json::to_string(&changes[0].1).unwrap();
        assert!(written.contains(&brought.meta.serial) && !written.contains("PRIVATE"), "{written}");
        assert!(!format!("{wanted:?} {changes:?}").contains("PRIVATE"));
    }
}
