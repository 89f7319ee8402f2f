//! What a pass teaches: which form of an instance is good, which is condemned, what a URL gave first.

use std::collections::BTreeMap;

use super::ledger::{self, Ledger};
use super::reconcile::Agent;
use crate::engine::pass::Passed;
use crate::model::document::{Document, InstanceState};
use crate::model::report::{Report, Status};
use crate::model::{Name, ResourceId};
use crate::resources::release::{self, Origin};
use crate::resources::{AnyDesired, AnyObserved, Wanted, setup};

impl Agent {
    /// Good, condemned, seen. True if something was condemned that can be brought back to a good form.
    pub(super) fn learn(
        &self,
        ledger: &mut Ledger,
        asked: &Document,
        target: &ledger::Target,
        wanted: &[Wanted],
        passed: &Passed,
        notes: &mut Vec<String>,
    ) -> bool {
        let now = (self.now)();
        for w in wanted {
            match (&w.desired, passed.seen.seen.get(&w.id)) {
                (AnyDesired::Setup(desired), Some(Ok(AnyObserved::Setup(seen)))) if proven(desired, seen) => {
                    let instance = w.id.name.parse::<Name>().ok().and_then(|name| {
                        let instance = target.document.instances.get(&name)?;
                        // What stands still was asked nothing, so nothing is known of its form.
                        (instance.state == InstanceState::Running).then_some((name, instance))
                    });
                    if let Some((name, instance)) = instance {
                        ledger.praise(&name, instance, &desired.release, now);
                    }
                }
                (AnyDesired::Release(desired), Some(Ok(AnyObserved::Release(seen)))) => {
                    remember_source(ledger, desired, seen);
                }
                _ => {}
            }
        }
        let mut go_back = false;
        for (owner, reason) in &passed.condemned {
            let Ok(name) = owner.parse::<Name>() else { continue };
            let Some(asked) = asked.instances.get(&name) else { continue };
            if !target.held_back.contains_key(&name) && ledger.condemn(&name, asked, reason, now) {
                notes.push(format!("{name}: version {} failed, going back", asked.version));
                go_back = true;
            }
        }
        go_back
    }
}

/// What an earlier round changed is told as changed, though this one found it in order.
pub(super) fn tell_earlier(report: &mut Report, earlier: BTreeMap<ResourceId, Vec<String>>) {
    for line in &mut report.lines {
        let Some(before) = earlier.get(&line.resource) else { continue };
        match &mut line.status {
            Status::InSync => line.status = Status::Changed { changes: before.clone() },
            Status::Changed { changes } => changes.splice(0..0, before.iter().cloned()).for_each(drop),
            _ => {}
        }
    }
}

fn proven(desired: &setup::Desired, seen: &setup::Observed) -> bool {
    let installed = matches!(&seen.state, Some(setup::State::Installed { release }) if *release == desired.release);
    desired.present && installed && (desired.probes.is_empty() || seen.proven == Some(desired.proof))
}

/// Trust on first use: what a URL without a digest gave the first time is what it must give for ever.
fn remember_source(ledger: &mut Ledger, desired: &release::Desired, seen: &release::Observed) {
    let Some(spec) = &desired.spec else { return };
    let Origin::Archive { source, .. } = &spec.source else { return };
    if source.sha256.is_some() {
        return;
    }
    if let Some(Some(digest)) = seen.present.get(&spec.id()) {
        ledger.seen.entry(source.url.clone()).or_insert(*digest);
    }
}
