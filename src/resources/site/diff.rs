use super::*;
use crate::resources::Phase;

/// An unwanted site stops being served before anything below it is touched.
pub fn diff(name: &str, desired: Option<&Desired>, observed: &Observed) -> Diff<Change> {
    let foreign = observed.text.as_ref().is_some_and(|text| !ours(text));
    let Some(desired) = desired else {
        let there = observed.text.is_some() || observed.enabled;
        return match there && !foreign {
            true => Diff::Changes(vec![(Phase::Withdraw, Change::Withdraw)]),
            false => Diff::IN_SYNC,
        };
    };
    if foreign {
        return Diff::Refused(ErrorReport {
            code: "site.foreign".to_owned(),
            message: format!("`{}` was not written by socle", Paths::of(name).available),
            causes: Vec::new(),
            hint: Some("move it away".to_owned()),
        });
    }
    let text = whole(&desired.text);
    let digest = Digest::of(text.as_bytes());
    let same = observed.text.as_deref() == Some(&*text);
    if same && observed.enabled {
        if observed.loaded == Some(mark_of(&digest, observed.certificate)) {
            return Diff::IN_SYNC;
        }
        if observed.loaded.as_ref().is_some_and(|mark| mark.starts_with(&format!("{digest}-"))) {
            return Diff::Changes(vec![(Phase::Switch, Change::Reload { digest })]);
        }
    }
    let replaces = observed.text.is_some();
    Diff::Changes(vec![(Phase::Switch, Change::Publish { text, digest, replaces })])
}

/// With our first line, by which an unwanted site is known to be ours.
fn whole(text: &Arc<str>) -> Arc<str> {
    if ours(text) { text.clone() } else { format!("{HEADER}.\n{text}").into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# Managed by socle.\nserver {}\n";

    fn observed(text: Option<&str>, enabled: bool, loaded: Option<&str>) -> Observed {
        let loaded = loaded.map(|text| mark_of(&Digest::of(text), Some(3)));
        Observed { text: text.map(str::to_owned), enabled, loaded, certificate: Some(3) }
    }

    fn lines(desired: Option<&str>, observed: &Observed) -> Vec<String> {
        let desired = desired.map(|text| Desired { text: text.into() });
        match diff("blog", desired.as_ref(), observed) {
            Diff::Changes(changes) => changes.iter().map(|(phase, change)| format!("{phase:?}: {change}")).collect(),
            Diff::Refused(report) => vec![report.code],
        }
    }

    #[test]
    fn in_sync_is_written_enabled_and_loaded() {
        assert!(lines(Some(TEXT), &observed(Some(TEXT), true, Some(TEXT))).is_empty());
        assert!(
            lines(Some("server {}\n"), &observed(Some(TEXT), true, Some(TEXT))).is_empty(),
            "our first line is added"
        );
        let replace = ["Switch: replace, reload nginx"];
        assert_eq!(lines(Some(TEXT), &observed(None, false, None)), ["Switch: publish, reload nginx"]);
        assert_eq!(lines(Some(TEXT), &observed(Some(TEXT), false, Some(TEXT))), replace);
        assert_eq!(lines(Some(TEXT), &observed(Some(TEXT), true, None)), replace, "written, then interrupted");
        assert_eq!(lines(Some(TEXT), &observed(Some("# Managed by socle.\n"), true, Some(TEXT))), replace);
    }

    #[test]
    fn a_new_certificate_is_loaded() {
        let renewed = Observed { certificate: Some(4), ..observed(Some(TEXT), true, Some(TEXT)) };
        assert_eq!(lines(Some(TEXT), &renewed), ["Switch: reload nginx with the new certificate"]);
        let both = Observed { certificate: Some(4), ..observed(Some(TEXT), true, Some("# Managed by socle.\n")) };
        assert_eq!(lines(Some(TEXT), &both), ["Switch: replace, reload nginx"]);
    }

    #[test]
    fn what_others_wrote_is_left_alone() {
        let foreign = observed(Some("server { listen 80; }\n"), true, None);
        assert_eq!(lines(Some(TEXT), &foreign), ["site.foreign"]);
        assert!(lines(None, &foreign).is_empty());
    }

    #[test]
    fn an_unwanted_one_is_withdrawn_first() {
        let withdraw = ["Withdraw: withdraw, reload nginx"];
        assert_eq!(lines(None, &observed(Some(TEXT), true, Some(TEXT))), withdraw);
        assert_eq!(lines(None, &observed(Some(TEXT), false, None)), withdraw, "interrupted before the file went");
        assert_eq!(lines(None, &observed(None, true, None)), withdraw, "a link that leads nowhere");
        assert!(lines(None, &observed(None, false, None)).is_empty());
    }
}
