use super::*;
use crate::resources::Phase;

pub fn diff(name: &str, desired: Option<&Desired>, observed: &Observed) -> Diff<Change> {
    match desired {
        None => orphan(observed),
        Some(Desired::Own(own)) => own_unit(name, own, observed),
        Some(Desired::Existing(state)) => existing(name, *state, observed),
    }
}

fn runs(observed: &Observed) -> bool {
    matches!(observed.active.as_str(), "active" | "activating" | "reloading" | "refreshing")
}

fn starts_at_boot(observed: &Observed) -> bool {
    matches!(observed.enabled.as_str(), "enabled" | "enabled-runtime" | "linked" | "alias")
}

fn masked(observed: &Observed) -> bool {
    observed.enabled.starts_with("masked")
}

/// A unit of ours that nobody wants.
fn orphan(observed: &Observed) -> Diff<Change> {
    if observed.text.is_none() {
        return Diff::IN_SYNC;
    }
    let mut changes = Vec::new();
    if runs(observed) || observed.active == "failed" {
        changes.push((Phase::Withdraw, Change::Stop));
    }
    if starts_at_boot(observed) {
        changes.push((Phase::Retire, Change::Disable));
    }
    changes.push((Phase::Retire, Change::RemoveUnit));
    Diff::Changes(changes)
}

fn own_unit(name: &str, own: &Own, observed: &Observed) -> Diff<Change> {
    if masked(observed) {
        return Diff::Refused(refused(
            "service.masked",
            format!("`{name}` is masked by the admin"),
            format!("systemctl unmask {name}"),
        ));
    }
    let mut changes = Vec::new();
    if own.active == Some(false) && runs(observed) {
        changes.push((Phase::Withdraw, Change::Stop));
    }
    let other_text = observed.text.as_ref() != Some(&own.text);
    if other_text {
        let (text, replaces) = (own.text.clone(), observed.text.is_some());
        changes.push((Phase::Switch, Change::WriteUnit { text, replaces }));
    } else if observed.need_reload {
        changes.push((Phase::Switch, Change::Reload));
    }
    match (own.enabled, starts_at_boot(observed)) {
        (true, false) => changes.push((Phase::Switch, Change::Enable)),
        (false, true) => changes.push((Phase::Switch, Change::Disable)),
        _ => {}
    }
    if own.active == Some(true) {
        // A service tells by its inputs what it was started with; of a timer or a socket the text is all.
        let stale = match &own.inputs {
            Some(inputs) => observed.inputs.as_deref() != Some(&inputs.to_string()) || other_text,
            None => other_text,
        };
        match (runs(observed), stale) {
            (false, _) => changes.push((Phase::Switch, Change::Start)),
            (true, true) => changes.push((Phase::Switch, Change::Restart)),
            (true, false) => {}
        }
    }
    Diff::Changes(changes)
}

fn existing(name: &str, state: ExistingState, observed: &Observed) -> Diff<Change> {
    if !observed.exists && !masked(observed) {
        return match state {
            // It cannot run, and that is what is asked for.
            ExistingState::Disabled => Diff::IN_SYNC,
            _ => Diff::Refused(refused(
                "service.unknown-unit",
                format!("there is no unit `{name}`"),
                "systemctl list-unit-files".to_owned(),
            )),
        };
    }
    let mut changes = Vec::new();
    match state {
        ExistingState::Enabled => {
            if masked(observed) {
                changes.push((Phase::Switch, Change::Unmask));
            }
            if matches!(observed.enabled.as_str(), "disabled" | "indirect") || masked(observed) {
                changes.push((Phase::Switch, Change::Enable));
            }
            if !runs(observed) {
                changes.push((Phase::Switch, Change::Start));
            }
        }
        ExistingState::Disabled => {
            if runs(observed) {
                changes.push((Phase::Withdraw, Change::Stop));
            }
            if starts_at_boot(observed) {
                changes.push((Phase::Switch, Change::Disable));
            }
        }
        ExistingState::Masked => {
            if runs(observed) {
                changes.push((Phase::Withdraw, Change::Stop));
            }
            if !masked(observed) {
                changes.push((Phase::Switch, Change::Mask));
            }
        }
    }
    Diff::Changes(changes)
}

fn refused(code: &str, message: String, hint: String) -> ErrorReport {
    ErrorReport { code: code.to_owned(), message, causes: Vec::new(), hint: Some(hint) }
}
