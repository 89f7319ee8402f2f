//! Which earlier steps each step waits for (rules 1 and 2), and what blocks it (rule 3).

use std::collections::BTreeSet;

use rustc_hash::FxHashMap;

use super::graph::{Graph, Lists, Number};
use super::{Loose, StepId};
use crate::model::{Kind, ResourceId};
use crate::resources::Phase;

pub(super) struct Waits<'a> {
    ancestors: &'a Lists,
    loose: &'a [Loose],
    /// The steps of each resource, in order.
    steps: Lists,
    owners: FxHashMap<&'a str, Owner>,
    /// What was refused or could not be looked at, by name.
    bad: Vec<&'a ResourceId>,
    /// The place of each resource in `bad`.
    place_in_bad: Vec<Option<usize>>,
    /// By which step each step was found last.
    found_by: Vec<StepId>,
    /// What was found for the step that is looked at.
    found: Vec<StepId>,
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
    /// What its steps of each class wait for, in order; found for the first of them.
    earlier: [Option<Vec<StepId>>; CLASSES],
}

/// Steps of one owner and class wait for the same steps of that owner.
const CLASSES: usize = 6;

fn class(step: &Loose) -> usize {
    match step.phase {
        Phase::Stage => 0,
        Phase::Withdraw if step.on[0].kind != Kind::Setup => 1,
        Phase::Withdraw => 2,
        Phase::Switch => 3,
        Phase::Prove => 4,
        Phase::Retire => 5,
    }
}

impl Owner {
    /// What its steps like this one wait for on its account.
    fn earlier(&mut self, step: &Loose, loose: &[Loose], steps: &Lists) -> &[StepId] {
        let moving = self.moves && step.phase > Phase::Stage;
        self.earlier[class(step)].get_or_insert_with(|| {
            let mut earlier: Vec<StepId> =
                self.steps.iter().copied().filter(|other| follows(step, &loose[*other])).collect();
            if moving {
                let of_needs = self.needs.iter().flat_map(|needed| steps.of(*needed)).copied();
                earlier.extend(of_needs.filter(|other| loose[*other].phase == Phase::Stage));
                earlier.sort_unstable();
                earlier.dedup();
            }
            earlier
        })
    }
}

impl<'a> Waits<'a> {
    pub fn of(
        graph: &Graph<'a>,
        ancestors: &'a Lists,
        owners_of: &[Option<&'a str>],
        loose: &'a [Loose],
        bad: BTreeSet<&'a ResourceId>,
    ) -> Self {
        let numbers_of = |(id, l): (StepId, &'a Loose)| l.numbers().map(move |number| (number, id));
        let steps = Lists::of_pairs(graph.numbers(), || loose.iter().enumerate().flat_map(numbers_of));
        let mut owners: FxHashMap<&str, Owner> = FxHashMap::default();
        for (id, l) in loose.iter().enumerate() {
            if let Some(owner) = &l.owner {
                let owner = owners.entry(owner).or_default();
                owner.steps.push(id);
                owner.moves |= l.phase > Phase::Stage && matches!(l.on[0].kind, Kind::Release | Kind::Setup);
            }
        }
        for (number, owner) in owners_of.iter().enumerate() {
            if let Some(owner) = owner.and_then(|owner| owners.get_mut(owner)).filter(|owner| owner.moves) {
                owner.own.push(number);
            }
        }
        // By which owner each was met last: cheaper than a set for each.
        let mut met_by = vec![usize::MAX; graph.numbers()];
        for (nth, owner) in owners.values_mut().enumerate() {
            let new = |needed: &&Number| std::mem::replace(&mut met_by[**needed], nth) != nth;
            owner.needs = owner.own.iter().flat_map(|own| ancestors.of(*own)).filter(new).copied().collect();
        }
        let bad: Vec<&ResourceId> = bad.into_iter().collect();
        let mut place_in_bad = vec![None; graph.numbers()];
        for (place, id) in bad.iter().enumerate() {
            graph.number(id).into_iter().for_each(|number| place_in_bad[number] = Some(place));
        }
        let found_by = vec![StepId::MAX; loose.len()];
        Self { ancestors, loose, steps, owners, bad, place_in_bad, found_by, found: Vec::new() }
    }

    /// Rules 1 and 2: earlier steps that this one waits for, in order.
    pub fn needs(&mut self, id: StepId) -> Vec<StepId> {
        let Self { ancestors, loose, steps, owners, found_by, found, .. } = self;
        let me = &loose[id];
        let owner = me.owner.as_deref().and_then(|owner| owners.get_mut(owner));
        let of_owner = owner.map_or(&[][..], |owner| owner.earlier(me, loose, steps));
        let of_owner = &of_owner[..of_owner.partition_point(|other| *other < id)];
        found.clear();
        for number in me.numbers() {
            for needed in std::iter::once(&number).chain(ancestors.of(number)) {
                for other in steps.of(*needed).iter().take_while(|other| **other < id) {
                    if std::mem::replace(&mut found_by[*other], id) != id && of_owner.binary_search(other).is_err() {
                        found.push(*other);
                    }
                }
            }
        }
        if found.is_empty() {
            return of_owner.to_vec();
        }
        found.sort_unstable();
        merged(found, of_owner)
    }

    /// Rule 3. `spared`: what a resource may do without.
    pub fn blocked_by(&self, id: StepId, spared: impl Fn(&ResourceId, &ResourceId) -> bool) -> Option<ResourceId> {
        if self.bad.is_empty() {
            return None;
        }
        let place = |number: &Number| self.place_in_bad[*number];
        let me = &self.loose[id];
        let by_need = me.on.iter().zip(me.numbers()).flat_map(|(on, number)| {
            self.ancestors.of(number).iter().filter_map(place).filter(|place| !spared(on, self.bad[*place]))
        });
        let by_owner = || {
            let owner = self.owners.get(me.owner.as_deref()?)?;
            let moving = owner.moves && me.phase > Phase::Stage;
            moving.then(|| owner.own.iter().chain(&owner.needs).filter_map(place).min()).flatten()
        };
        by_need.min().or_else(by_owner).map(|place| self.bad[place].clone())
    }
}

/// Two ordered lists that share nothing, as one.
fn merged(left: &[StepId], right: &[StepId]) -> Vec<StepId> {
    let mut all = Vec::with_capacity(left.len() + right.len());
    let (mut left, mut right) = (left, right);
    while let ([first, others @ ..], [other, ..]) = (left, right) {
        if first < other {
            all.push(*first);
            left = others;
        } else {
            all.push(*other);
            right = &right[1..];
        }
    }
    all.extend_from_slice(left);
    all.extend_from_slice(right);
    all
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
