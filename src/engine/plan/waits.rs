//! Which earlier steps each step waits for (rules 1 and 2), and what blocks it (rule 3).

use std::collections::{BTreeSet, HashMap};

use super::graph::{Graph, Number};
use super::{Loose, StepId};
use crate::model::{Kind, ResourceId};
use crate::resources::Phase;

pub(super) struct Waits<'a> {
    graph: &'a Graph<'a>,
    loose: &'a [Loose],
    /// The steps of each resource, in order.
    steps: Vec<Vec<StepId>>,
    owners: HashMap<&'a str, Owner>,
    /// What was refused or could not be looked at, by name.
    bad: Vec<&'a ResourceId>,
    /// The place of each resource in `bad`.
    place_in_bad: Vec<Option<usize>>,
    /// By which step each step was found last.
    found_by: Vec<StepId>,
}

#[derive(Default)]
struct Owner {
    /// In order.
    steps: Vec<StepId>,
    /// Its release or its data is about to change.
    moves: bool,
    /// Of one that moves: its resources, and all that they need.
    own: Vec<Number>,
    needs: Vec<Number>,
}

impl<'a> Waits<'a> {
    pub fn of(
        graph: &'a Graph<'a>,
        owners_of: &[Option<&'a str>],
        loose: &'a [Loose],
        bad: BTreeSet<&'a ResourceId>,
    ) -> Self {
        let mut steps = vec![Vec::new(); graph.numbers()];
        let mut owners: HashMap<&str, Owner> = HashMap::new();
        for (id, l) in loose.iter().enumerate() {
            l.numbers.iter().for_each(|number| steps[*number].push(id));
            if let Some(owner) = &l.owner {
                let owner = owners.entry(owner).or_default();
                owner.steps.push(id);
                owner.moves |= l.phase > Phase::Stage && matches!(l.on[0].kind, Kind::Release | Kind::Setup);
            }
        }
        for (number, owner) in owners_of.iter().enumerate() {
            if let Some(owner) = owner.and_then(|owner| owners.get_mut(owner)).filter(|owner| owner.moves) {
                owner.own.push(number);
                owner.needs.extend(graph.ancestors(number));
            }
        }
        for owner in owners.values_mut() {
            owner.needs.sort_unstable();
            owner.needs.dedup();
        }
        let bad: Vec<&ResourceId> = bad.into_iter().collect();
        let mut place_in_bad = vec![None; graph.numbers()];
        for (place, id) in bad.iter().enumerate() {
            graph.number(id).into_iter().for_each(|number| place_in_bad[number] = Some(place));
        }
        let found_by = vec![StepId::MAX; loose.len()];
        Self { graph, loose, steps, owners, bad, place_in_bad, found_by }
    }

    /// The owner, if its release or data is about to change and this step is part of that.
    fn moving(&self, id: StepId) -> Option<&Owner> {
        let me = &self.loose[id];
        let owner = self.owners.get(me.owner.as_deref()?)?;
        (owner.moves && me.phase > Phase::Stage).then_some(owner)
    }

    /// Rules 1 and 2: earlier steps that this one waits for.
    pub fn needs(&mut self, id: StepId) -> BTreeSet<StepId> {
        let mut found_by = std::mem::take(&mut self.found_by);
        let mut found = Vec::new();
        let mut find = |other: StepId| {
            if std::mem::replace(&mut found_by[other], id) != id {
                found.push(other);
            }
        };
        let me = &self.loose[id];
        let earlier = |steps: &'_ [StepId]| steps.iter().copied().take_while(|other| *other < id).collect::<Vec<_>>();
        for number in &me.numbers {
            for needed in std::iter::once(number).chain(self.graph.ancestors(*number)) {
                self.steps[*needed].iter().copied().take_while(|other| *other < id).for_each(&mut find);
            }
        }
        if let Some(owner) = me.owner.as_deref().and_then(|owner| self.owners.get(owner)) {
            earlier(&owner.steps).into_iter().filter(|other| follows(me, &self.loose[*other])).for_each(&mut find);
        }
        if let Some(owner) = self.moving(id) {
            let steps = owner.needs.iter().flat_map(|needed| self.steps[*needed].iter().copied());
            steps.filter(|other| *other < id && self.loose[*other].phase == Phase::Stage).for_each(&mut find);
        }
        self.found_by = found_by;
        found.sort_unstable();
        found.into_iter().collect()
    }

    /// Rule 3. `spared`: what a resource may do without.
    pub fn blocked_by(&self, id: StepId, spared: impl Fn(&ResourceId, &ResourceId) -> bool) -> Option<ResourceId> {
        if self.bad.is_empty() {
            return None;
        }
        let place = |number: &Number| self.place_in_bad[*number];
        let by_need = self.loose[id].on.iter().zip(&self.loose[id].numbers).flat_map(|(on, number)| {
            self.graph.ancestors(*number).iter().filter_map(place).filter(|place| !spared(on, self.bad[*place]))
        });
        let by_owner = || self.moving(id)?.own.iter().chain(&self.moving(id)?.needs).filter_map(place).min();
        by_need.min().or_else(by_owner).map(|place| self.bad[place].clone())
    }
}

/// Whether a step of an owner waits for another of the same owner because of their phases.
fn follows(me: &Loose, other: &Loose) -> bool {
    match me.phase {
        Phase::Stage => false,
        Phase::Withdraw => {
            other.phase == Phase::Stage || (me.on[0].kind == Kind::Setup && other.phase == Phase::Withdraw)
        }
        Phase::Switch => other.phase < Phase::Switch,
        Phase::Prove | Phase::Retire => other.phase < me.phase,
    }
}
