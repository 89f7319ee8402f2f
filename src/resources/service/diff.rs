use super::*;
use crate::model::unit::mark_of;
use crate::resources::Phase;

pub fn diff(name: &str, desired: Option<&Desired>, observed: &Observed) -> Diff<Change> {
    match desired {
        Some(Desired::Own(own)) => own_unit(name, own, observed),
        Some(Desired::Existing(state)) => Diff::Changes(existing(*state, observed)),
        Some(Desired::Needed) if is_masked(observed) => Diff::Refused(masked(name)),
        Some(Desired::Needed) => Diff::Changes(existing(ExistingState::Enabled, observed)),
        None => Diff::Changes(orphan(observed)),
    }
}

fn own_unit(name: &str, own: &Own, seen: &Observed) -> Diff<Change> {
    if is_masked(seen) && (own.enabled || own.active != Some(false)) {
        return Diff::Refused(masked(name));
    }
    let rewrite = seen.text.as_deref() != Some(&*own.text);
    let running = is_running(seen);
    let mut changes = Vec::new();
    // What ran all the time and is run by a timer from now on: as long as it runs, the timer does nothing.
    let ends = own.active.is_none() && keeps_running(&own.text) == Some(false);
    let ran_on = seen.text.as_deref().and_then(keeps_running) == Some(true);
    if running && (own.active == Some(false) || (ends && ran_on)) {
        changes.push((Phase::Withdraw, Change::Stop));
    }
    if is_masked(seen) {
        return Diff::Changes(changes);
    }
    if rewrite {
        let change = Change::WriteUnit { text: own.text.clone(), replaces: seen.text.is_some() };
        changes.push((Phase::Switch, change));
    }
    if !own.enabled && seen.enabled.starts_with("enabled") {
        changes.push((Phase::Switch, Change::Disable));
    }
    // A timer or socket has no process that could carry a mark.
    let plain = name.ends_with(".timer") || name.ends_with(".socket");
    let stale = rewrite || if plain { seen.need_reload } else { other_mark(own, seen) };
    let run = match own.active {
        Some(true) if !running => Some(Change::Start),
        Some(true) if stale => Some(Change::Restart),
        // What starts it must not start the old text; what is stopped is read when it is started.
        Some(true) if seen.need_reload => Some(Change::Reload),
        None if (rewrite && seen.text.is_some()) || seen.need_reload => Some(Change::Reload),
        Some(_) | None => None,
    };
    changes.extend(run.map(|change| (Phase::Switch, change)));
    // Its socket starts it again, with the new text.
    if own.active.is_none() && running && keeps_running(&own.text) == Some(true) && other_mark(own, seen) {
        changes.push((Phase::Switch, Change::Stop));
    }
    if own.enabled && seen.enabled != "enabled" {
        changes.push((Phase::Switch, Change::Enable));
    }
    Diff::Changes(changes)
}

/// A service with this text runs until it is stopped: only those leave a mark. `None`: no service of ours.
fn keeps_running(text: &str) -> Option<bool> {
    text.contains("\n[Service]\n").then(|| mark_of(text).is_some())
}

/// It runs, but was started with another text or other inputs.
fn other_mark(own: &Own, seen: &Observed) -> bool {
    let wanted = mark_of(&own.text).map(str::to_owned).or(own.inputs.map(|inputs| inputs.to_string()));
    wanted.is_some() && seen.inputs != wanted
}

/// In the phase of packages and databases: a database needs its server running. A unit that does not
/// exist yet may come with a package of the same plan, so it is not refused here; enabling tells.
fn existing(state: ExistingState, seen: &Observed) -> Vec<(Phase, Change)> {
    let running = is_running(seen);
    let mut changes = Vec::new();
    match state {
        ExistingState::Enabled => {
            if is_masked(seen) {
                changes.push(Change::Unmask);
            }
            // `static`, `indirect`, `generated` … have nothing to enable.
            if matches!(seen.enabled.as_str(), "disabled" | "enabled-runtime" | "") || is_masked(seen) {
                changes.push(Change::Enable);
            }
            if !running {
                changes.push(Change::Start);
            }
        }
        ExistingState::Disabled => {
            if seen.enabled.starts_with("enabled") {
                changes.push(Change::Disable);
            }
            if running {
                changes.push(Change::Stop);
            }
        }
        ExistingState::Masked => {
            if running {
                changes.push(Change::Stop);
            }
            if seen.enabled != "masked" {
                changes.push(Change::Mask);
            }
        }
    }
    changes.into_iter().map(|change| (Phase::Stage, change)).collect()
}

/// Ours, and nobody wants it.
fn orphan(seen: &Observed) -> Vec<(Phase, Change)> {
    if seen.text.is_none() {
        return Vec::new();
    }
    let mut changes = Vec::new();
    if seen.active != "inactive" {
        changes.push((Phase::Withdraw, Change::Stop));
    }
    if seen.enabled.starts_with("enabled") {
        changes.push((Phase::Retire, Change::Disable));
    }
    changes.push((Phase::Retire, Change::RemoveUnit));
    changes
}

fn is_running(seen: &Observed) -> bool {
    matches!(seen.active.as_str(), "active" | "activating" | "reloading" | "refreshing")
}

fn is_masked(seen: &Observed) -> bool {
    seen.enabled.starts_with("masked")
}

fn masked(name: &str) -> ErrorReport {
    ErrorReport {
        code: "service.masked".to_owned(),
        message: format!("`{name}` was masked by hand and is left so"),
        causes: Vec::new(),
        hint: Some(format!("`systemctl unmask {name}`, or `state = \"stopped\"` in the document")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Digest;

    fn own(enabled: bool, active: Option<bool>) -> Desired {
        Desired::Own(Box::new(Own { text: "new".into(), enabled, active, inputs: Some(Digest::of("i")) }))
    }

    fn seen(text: Option<&str>, active: &str, enabled: &str) -> Observed {
        Observed {
            text: text.map(str::to_owned),
            exists: text.is_some(),
            active: active.into(),
            enabled: enabled.into(),
            inputs: Some(Digest::of("i").to_string()),
            need_reload: false,
        }
    }

    fn lines(name: &str, desired: Option<&Desired>, observed: &Observed) -> Vec<String> {
        match diff(name, desired, observed) {
            Diff::Changes(changes) => changes.iter().map(|(phase, change)| format!("{phase:?} {change}")).collect(),
            Diff::Refused(report) => vec![report.code],
        }
    }

    fn service(desired: &Desired, observed: &Observed) -> Vec<String> {
        lines("socle-a.service", Some(desired), observed)
    }

    #[test]
    fn a_unit_of_ours_that_runs() {
        let wanted = own(true, Some(true));
        assert_eq!(
            service(&wanted, &seen(None, "inactive", "")),
            ["Switch write unit", "Switch start", "Switch enable at boot"]
        );
        for running in ["active", "activating", "reloading", "refreshing"] {
            assert!(service(&wanted, &seen(Some("new"), running, "enabled")).is_empty(), "{running}");
        }
        for still in ["inactive", "failed", "deactivating", "maintenance", "some-new-word"] {
            assert_eq!(service(&wanted, &seen(Some("new"), still, "enabled")), ["Switch start"], "{still}");
        }
        assert_eq!(
            service(&wanted, &seen(Some("old"), "active", "enabled")),
            ["Switch replace unit", "Switch restart"]
        );
        assert_eq!(service(&wanted, &seen(Some("new"), "active", "disabled")), ["Switch enable at boot"]);
        assert_eq!(service(&wanted, &seen(None, "inactive", "masked")), ["service.masked"]);
    }

    #[test]
    fn a_restart_is_never_lost() {
        let wanted = own(true, Some(true));
        for inputs in [None, Some("other".to_owned())] {
            let other = Observed { inputs, ..seen(Some("new"), "active", "enabled") };
            assert_eq!(service(&wanted, &other), ["Switch restart"]);
        }
        // The mark in the text counts before the inputs.
        let text = "ExecStartPost=-+/usr/bin/ln -sfn abc /run/socle/inputs/socle-a.service\n";
        let marked = Desired::Own(Box::new(Own { text: text.into(), enabled: true, active: Some(true), inputs: None }));
        let same = Observed { inputs: Some("abc".into()), ..seen(Some(text), "active", "enabled") };
        assert!(service(&marked, &same).is_empty());
        let other = Observed { inputs: Some("abd".into()), ..same };
        assert_eq!(service(&marked, &other), ["Switch restart"]);
    }

    #[test]
    fn a_changed_drop_in_is_read_and_restarts_nothing() {
        let edited = Observed { need_reload: true, ..seen(Some("new"), "active", "enabled") };
        assert_eq!(service(&own(true, Some(true)), &edited), ["Switch read the changed unit files"]);
        assert_eq!(lines("socle-a.timer", Some(&own(true, Some(true))), &edited), ["Switch restart"]);
    }

    #[test]
    fn a_unit_of_ours_that_something_else_starts() {
        let wanted = own(false, None);
        for active in ["inactive", "active", "failed"] {
            assert!(service(&wanted, &seen(Some("new"), active, "static")).is_empty(), "{active}");
        }
        assert_eq!(service(&wanted, &seen(None, "inactive", "")), ["Switch write unit"], "systemd has no old text");
        assert_eq!(
            service(&wanted, &seen(Some("old"), "active", "static")),
            ["Switch replace unit", "Switch read the changed unit files"]
        );
    }

    #[test]
    fn what_a_timer_or_socket_starts_does_not_go_on_with_the_old_text() {
        let text = |mark: &str| format!("\n[Service]\nExecStartPost=-+/usr/bin/ln -sfn {mark} /run/socle/inputs/x\n");
        let own = |text: String| {
            Desired::Own(Box::new(Own { text: text.into(), enabled: false, active: None, inputs: None }))
        };
        let by_socket = Observed { inputs: Some("a".into()), ..seen(Some(&text("a")), "active", "static") };
        assert!(service(&own(text("a")), &by_socket).is_empty());
        assert_eq!(
            service(&own(text("b")), &by_socket),
            ["Switch replace unit", "Switch read the changed unit files", "Switch stop"]
        );
        // Cut off before the stop: its mark tells.
        let written = Observed { text: Some(text("b")), ..by_socket.clone() };
        assert_eq!(service(&own(text("b")), &written), ["Switch stop"]);
        assert_eq!(
            service(&own("\n[Service]\nType=oneshot\n".to_owned()), &by_socket),
            ["Withdraw stop", "Switch replace unit", "Switch read the changed unit files"]
        );
    }

    #[test]
    fn a_unit_of_ours_that_stands_still() {
        let wanted = own(false, Some(false));
        assert_eq!(
            service(&wanted, &seen(Some("old"), "active", "enabled")),
            ["Withdraw stop", "Switch replace unit", "Switch do not start at boot"]
        );
        for still in ["inactive", "failed"] {
            assert!(service(&wanted, &seen(Some("new"), still, "disabled")).is_empty());
        }
        assert!(service(&wanted, &seen(None, "inactive", "masked")).is_empty());
    }

    #[test]
    fn an_orphan_goes() {
        let gone = |observed: &Observed| lines("socle-a.service", None, observed);
        assert_eq!(
            gone(&seen(Some("old"), "active", "enabled")),
            ["Withdraw stop", "Retire do not start at boot", "Retire remove unit"]
        );
        assert_eq!(gone(&seen(Some("old"), "failed", "disabled")), ["Withdraw stop", "Retire remove unit"]);
        assert_eq!(gone(&seen(Some("old"), "inactive", "static")), ["Retire remove unit"]);
        assert!(gone(&seen(None, "active", "enabled")).is_empty());
    }

    #[test]
    fn a_unit_of_a_package() {
        let existing = |state, observed: &Observed| lines("nginx.service", Some(&Desired::Existing(state)), observed);
        use ExistingState::*;
        assert!(existing(Enabled, &seen(None, "active", "enabled")).is_empty());
        assert!(existing(Enabled, &seen(None, "active", "static")).is_empty());
        assert_eq!(existing(Enabled, &seen(None, "inactive", "")), ["Stage enable at boot", "Stage start"]);
        assert_eq!(
            existing(Enabled, &seen(None, "inactive", "masked")),
            ["Stage unmask", "Stage enable at boot", "Stage start"]
        );
        assert!(existing(Disabled, &seen(None, "inactive", "disabled")).is_empty());
        assert!(existing(Disabled, &seen(None, "failed", "masked")).is_empty());
        assert_eq!(existing(Disabled, &seen(None, "active", "enabled")), ["Stage do not start at boot", "Stage stop"]);
        assert!(existing(Masked, &seen(None, "inactive", "masked")).is_empty());
        assert_eq!(existing(Masked, &seen(None, "active", "enabled")), ["Stage stop", "Stage mask"]);
    }
}
