//! From what is wanted and what was seen to the steps of a pass. Pure, total, deterministic.
//!
//! Cross-kind rules live here and only here:
//!
//! 1. A step waits for the steps of everything its resource needs, and for the earlier steps of its own
//!    resource.
//! 2. Nothing of an instance is withdrawn or switched before all of its staging succeeded; it is proven
//!    after all of its switching; nothing of it is retired before it is proven. If its release or its data
//!    is about to change, its staging is also that of everything it shares with others (packages).
//! 3. What a resource needs but could not be looked at, or was refused, blocks it. If the release or the
//!    data of an instance is about to change, anything unknown or refused in the instance, or that
//!    something in it needs, blocks that. But a database that could not be looked at does not block what
//!    serves: what was set up before may run again, and what was not waits for its setup.
//! 4. While data is migrated or brought back, the instance's services stand still: they are stopped in
//!    Withdraw, timers and sockets before what they start, and started again in Switch.
//! 5. The package installations of a pass are one run of apt.
//! 6. Units are enabled behind the rest of the Switch: from then on systemd takes every unit for changed, and
//!    one reading of its files serves all.
//! 7. A release is fetched beside the steps that do not need it, its download from the first moment on: it waits for
//!    the network and the disk, and touches nothing but its own directory.

use std::collections::{BTreeMap, BTreeSet, btree_map};
use std::iter::Peekable;
use std::thread;

use serde::Serialize;

use super::Observation;
use crate::model::report::ErrorReport;
use crate::model::{Kind, ResourceId};
use crate::resources::{self, AnyChange, AnyDesired, AnyObserved, Diff, Phase, Wanted};
use crate::resources::{package, release, service, setup};

mod graph;
#[cfg(test)]
mod tests;
mod waits;

use graph::{Graph, Lists, Number};
use waits::Waits;

pub type StepId = usize;

/// One change, and what it waits for.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Step {
    pub id: StepId,
    /// One resource; several only for packages installed together.
    pub on: Vec<ResourceId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    pub phase: Phase,
    pub change: AnyChange,
    /// Steps that must have succeeded, in order.
    pub needs: Vec<StepId>,
    /// The steps that do not need it go on meanwhile.
    #[serde(skip)]
    pub beside: bool,
    /// Something it needs was refused or could not be looked at: it will not be tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blocked_by: Option<ResourceId>,
}

impl Step {
    /// The change as it is told of one of the resources: an installation names all packages it brings.
    pub fn told_of_each(&self) -> String {
        match &self.change {
            AnyChange::Package(package::Change::Install { .. }) if self.on.len() > 1 => "install".to_owned(),
            change => change.to_string(),
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Plan {
    pub steps: Vec<Step>,
    pub refused: BTreeMap<ResourceId, ErrorReport>,
    pub unknown: BTreeMap<ResourceId, ErrorReport>,
}

impl Plan {
    /// Nothing to do, and everything could be looked at.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty() && self.refused.is_empty() && self.unknown.is_empty()
    }
}

/// From so many resources on, who needs whom is found beside the changes, on another core: it takes as long as they do.
const MANY: usize = 4000;

pub fn plan(wanted: &[Wanted], observation: &Observation) -> Plan {
    thread::scope(|scope| {
        let order = || Order::of(wanted, observation);
        let beside = (wanted.len() >= MANY).then(|| scope.spawn(order));
        // What a thread panics with is a fault of ours, as it would be here.
        let order = || beside.map_or_else(order, |beside| beside.join().expect("a graph is made of what is wanted"));
        planned(wanted, observation, order)
    })
}

/// `order` is asked for only if there is something to put into it.
fn planned<'a>(wanted: &'a [Wanted], observation: &'a Observation, order: impl FnOnce() -> Order<'a>) -> Plan {
    let mut draft = Draft::default();
    // On a blank server each has a step or two. Room that is not used costs nothing.
    draft.loose.reserve(wanted.len());
    let standing_still = owners_standing_still(wanted, observation);
    let mut seen = Seen::of(observation);
    for (number, w) in wanted.iter().enumerate() {
        draft.consider(number, w, seen.get(&w.id), &standing_still);
    }
    for (kind, error) in &observation.unlisted {
        draft.unknown.insert(ResourceId::new(*kind, "*"), error.clone());
    }
    // Most passes: nothing is to be done, so nothing is to be ordered.
    if draft.has_no_steps() && seen.all_met() {
        return Plan { steps: Vec::new(), refused: draft.refused, unknown: draft.unknown };
    }
    let mut order = order();
    if !seen.all_met() {
        draft.consider_orphans(observation, &mut order.graph);
    }
    draft.join_package_installs();
    draft.into_plan(&order, wanted)
}

/// Who needs whom, and what follows from it.
struct Order<'a> {
    graph: Graph<'a>,
    ranks: Vec<usize>,
    ancestors: Lists,
}

impl<'a> Order<'a> {
    fn of(wanted: &'a [Wanted], observation: &'a Observation) -> Self {
        let graph = Graph::of(wanted);
        let (ranks, ancestors) = (graph.ranks(observation.seen.keys()), graph.ancestors());
        Self { graph, ranks, ancestors }
    }
}

/// A step before it has its number.
struct Loose {
    on: Vec<ResourceId>,
    /// The same by number: the first, and the others.
    number: Number,
    more: Vec<Number>,
    owner: Option<String>,
    phase: Phase,
    change: AnyChange,
}

impl Loose {
    fn of(number: Number, on: &ResourceId, owner: Option<&str>, (phase, change): (Phase, AnyChange)) -> Self {
        Self { on: vec![on.clone()], number, more: Vec::new(), owner: owner.map(str::to_owned), phase, change }
    }

    fn numbers(&self) -> impl Iterator<Item = Number> {
        std::iter::once(self.number).chain(self.more.iter().copied())
    }
}

type Looked = Result<AnyObserved, ErrorReport>;

/// What was seen, asked for in the order of names; any other order costs more.
struct Seen<'a> {
    all: &'a BTreeMap<ResourceId, Looked>,
    ahead: Peekable<btree_map::Iter<'a, ResourceId, Looked>>,
    met: usize,
}

impl<'a> Seen<'a> {
    fn of(observation: &'a Observation) -> Self {
        Self { all: &observation.seen, ahead: observation.seen.iter().peekable(), met: 0 }
    }

    fn get(&mut self, id: &ResourceId) -> Option<&'a Looked> {
        while self.ahead.next_if(|(next, _)| *next < id).is_some() {}
        match self.ahead.next_if(|(next, _)| *next == id) {
            Some((_, seen)) => {
                self.met += 1;
                Some(seen)
            }
            None => self.all.get(id),
        }
    }

    /// Everything that was seen was asked for.
    fn all_met(&self) -> bool {
        self.met == self.all.len()
    }
}

#[derive(Default)]
struct Draft {
    loose: Vec<Loose>,
    /// Packages to install: what brings them, and their names.
    installs: Vec<(ResourceId, Number)>,
    install: BTreeSet<String>,
    refused: BTreeMap<ResourceId, ErrorReport>,
    unknown: BTreeMap<ResourceId, ErrorReport>,
}

/// Rule 4: owners whose setup will migrate or restore data in this pass.
fn owners_standing_still(wanted: &[Wanted], observation: &Observation) -> BTreeSet<String> {
    let moves_data = |change: &AnyChange| {
        matches!(
            change,
            AnyChange::Setup(
                setup::Change::Migrate { .. } | setup::Change::Restore { .. } | setup::Change::Return { .. }
            )
        )
    };
    wanted
        .iter()
        .filter(|w| w.id.kind == Kind::Setup)
        .filter_map(|w| {
            let Some(Ok(seen)) = observation.seen.get(&w.id) else { return None };
            match resources::diff(&w.id.name, Some(&w.desired), seen) {
                Diff::Changes(changes) if changes.iter().any(|(_, c)| moves_data(c)) => w.owner.clone(),
                _ => None,
            }
        })
        .collect()
}

impl Draft {
    fn has_no_steps(&self) -> bool {
        self.loose.is_empty() && self.installs.is_empty()
    }

    fn consider(&mut self, number: Number, w: &Wanted, seen: Option<&Looked>, standing_still: &BTreeSet<String>) {
        let seen = match seen {
            Some(Ok(seen)) => seen,
            Some(Err(error)) => {
                self.unknown.insert(w.id.clone(), error.clone());
                return;
            }
            None => {
                let error = ErrorReport {
                    code: "plan.not-observed".to_owned(),
                    message: format!("`{}` was not looked at", w.id),
                    causes: Vec::new(),
                    hint: None,
                };
                self.unknown.insert(w.id.clone(), error);
                return;
            }
        };
        let still = w.owner.as_ref().is_some_and(|owner| standing_still.contains(owner));
        match (still, stop_first(w, seen)) {
            (true, Some(stopped)) => {
                self.add(number, w, Phase::Withdraw, AnyChange::Service(service::Change::Stop));
                self.diff(number, w, &stopped);
            }
            _ => self.diff(number, w, seen),
        }
    }

    fn diff(&mut self, number: Number, w: &Wanted, seen: &AnyObserved) {
        match resources::diff(&w.id.name, Some(&w.desired), seen) {
            Diff::Refused(error) => {
                self.refused.insert(w.id.clone(), error);
            }
            Diff::Changes(changes) => {
                for (phase, change) in changes {
                    self.add(number, w, phase, change);
                }
            }
        }
    }

    fn add(&mut self, number: Number, w: &Wanted, phase: Phase, change: AnyChange) {
        match change {
            AnyChange::Package(package::Change::Install { names }) => {
                self.installs.push((w.id.clone(), number));
                self.install.extend(names);
            }
            change => {
                self.loose.push(Loose::of(number, &w.id, w.owner.as_deref(), (phase, change)));
            }
        }
    }

    /// What is ours and nobody wants. What could not be looked at stays untouched and is said.
    fn consider_orphans<'a>(&mut self, observation: &'a Observation, graph: &mut Graph<'a>) {
        for (id, seen) in &observation.seen {
            if graph.wants(id) {
                continue;
            }
            let number = graph.give_number(id);
            match seen.as_ref().map(|seen| resources::diff(&id.name, None, seen)) {
                Err(error) => {
                    self.unknown.insert(id.clone(), error.clone());
                }
                Ok(Diff::Refused(error)) => {
                    self.refused.insert(id.clone(), error);
                }
                Ok(Diff::Changes(changes)) => {
                    self.loose.extend(changes.into_iter().map(|change| Loose::of(number, id, None, change)));
                }
            }
        }
    }

    /// Rule 5.
    fn join_package_installs(&mut self) {
        if self.installs.is_empty() {
            return;
        }
        self.installs.sort();
        let (on, mut more): (_, Vec<_>) = std::mem::take(&mut self.installs).into_iter().unzip();
        let number = more.remove(0);
        let change = AnyChange::Package(package::Change::Install { names: std::mem::take(&mut self.install) });
        self.loose.push(Loose { on, number, more, owner: None, phase: Phase::Stage, change });
    }

    fn into_plan(mut self, order: &Order<'_>, wanted: &[Wanted]) -> Plan {
        let Order { graph, ranks, ancestors } = order;
        // Orphans come before what is wanted; what is withdrawn, before what it needs.
        let place = |l: &Loose| {
            let id = &l.on[0];
            // Of packages that are installed together, any will do.
            let rank = ranks.get(l.number).map_or((0, orphan_order(id)), |rank| match l.phase {
                Phase::Withdraw => (1, usize::MAX - rank),
                _ => (1, *rank),
            });
            let last = match l.phase {
                // Rule 4: a dump waits for the instance's services to stand still.
                Phase::Withdraw => id.kind == Kind::Setup,
                // Rule 6.
                Phase::Switch => matches!(l.change, AnyChange::Service(service::Change::Enable)),
                Phase::Stage | Phase::Prove | Phase::Retire => false,
            };
            (l.phase, last, rank)
        };
        // Stable: the changes of one resource stay in their order, and orphans in that of their names.
        self.loose.sort_by_cached_key(place);

        let bad = self.refused.keys().chain(self.unknown.keys()).collect();
        let owners: Vec<Option<&str>> = wanted.iter().map(|w| w.owner.as_deref()).collect();
        let mut waits = Waits::of(graph, ancestors, &owners, &self.loose, bad);
        let spared = |on: &ResourceId, bad: &ResourceId| {
            matches!(on.kind, Kind::Service | Kind::Site)
                && bad.kind == Kind::Database
                && self.unknown.contains_key(bad)
        };
        let waited: Vec<_> = (0..self.loose.len()).map(|id| (waits.needs(id), waits.blocked_by(id, spared))).collect();
        drop(waits);
        let steps = self.loose.into_iter().zip(waited).enumerate().map(|(id, (l, (needs, blocked_by)))| {
            let Loose { on, owner, phase, change, .. } = l;
            // Rule 7.
            let beside = matches!(change, AnyChange::Release(release::Change::Fetch { .. }));
            Step { id, on, owner, phase, change, needs, beside, blocked_by }
        });
        Plan { steps: steps.collect(), refused: self.refused, unknown: self.unknown }
    }
}

/// Sites before what serves them, timers and sockets before what they start.
fn orphan_order(id: &ResourceId) -> usize {
    match id.kind {
        Kind::Site => 0,
        Kind::Service if !id.name.ends_with(".service") => 1,
        _ => 2,
    }
}

/// The observation of a service of ours as it will be once stopped; `None` for everything that is not one,
/// and for one that stands still already. What a timer or socket starts may have been started since.
fn stop_first(w: &Wanted, seen: &AnyObserved) -> Option<AnyObserved> {
    let (AnyDesired::Service(service::Desired::Own(own)), AnyObserved::Service(seen)) = (&w.desired, seen) else {
        return None;
    };
    let running = matches!(seen.active.as_str(), "active" | "activating" | "reloading" | "refreshing");
    let may_run = running || (own.active.is_none() && seen.text.is_some());
    may_run.then(|| AnyObserved::Service(service::Observed { active: "inactive".to_owned(), ..seen.clone() }))
}
