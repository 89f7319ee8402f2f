//! What needs what, by number: a thousand instances are some thirty thousand resources.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use crate::model::ResourceId;
use crate::resources::Wanted;

/// A resource's place in [`Graph`]; what is wanted comes first, in the order given.
pub(super) type Number = usize;

pub(super) struct Graph<'a> {
    numbers: HashMap<&'a ResourceId, Number>,
    wanted: &'a [Wanted],
    /// What each wanted resource needs directly.
    needs: Vec<Vec<Number>>,
    /// What each wanted resource needs, directly or not.
    ancestors: Vec<Vec<Number>>,
}

impl<'a> Graph<'a> {
    pub fn of(wanted: &'a [Wanted]) -> Self {
        let mut numbers: HashMap<&ResourceId, Number> = wanted.iter().enumerate().map(|(n, w)| (&w.id, n)).collect();
        let mut needs = Vec::with_capacity(wanted.len());
        for w in wanted {
            let number = |need| {
                let next = numbers.len();
                *numbers.entry(need).or_insert(next)
            };
            needs.push(w.needs.iter().map(number).collect());
        }
        let ancestors = ancestors(&needs, numbers.len());
        Self { numbers, wanted, needs, ancestors }
    }

    pub fn wants(&self, id: &ResourceId) -> bool {
        self.number(id).is_some_and(|number| number < self.wanted.len())
    }

    pub fn number(&self, id: &ResourceId) -> Option<Number> {
        self.numbers.get(id).copied()
    }

    /// The number of what is not wanted too.
    pub fn give_number(&mut self, id: &'a ResourceId) -> Number {
        let next = self.numbers.len();
        *self.numbers.entry(id).or_insert(next)
    }

    pub fn numbers(&self) -> usize {
        self.numbers.len()
    }

    pub fn ancestors(&self, number: Number) -> &[Number] {
        self.ancestors.get(number).map_or(&[], Vec::as_slice)
    }

    /// The place of each wanted resource in an order that puts what is needed first, and else goes by name.
    /// Members of a cycle (a recipe cannot make one) come last.
    pub fn ranks(&self) -> Vec<usize> {
        let wanted = self.wanted.len();
        let mut by_name: Vec<Number> = (0..wanted).collect();
        by_name.sort_by_key(|number| &self.wanted[*number].id);
        let mut place = vec![0; wanted];
        by_name.iter().enumerate().for_each(|(nth, number)| place[*number] = nth);

        let mut waiting = vec![0; wanted];
        let mut dependants = vec![Vec::new(); wanted];
        for (number, needs) in self.needs.iter().enumerate() {
            for need in needs.iter().filter(|need| **need < wanted) {
                waiting[number] += 1;
                dependants[*need].push(number);
            }
        }
        let mut ready: BinaryHeap<Reverse<usize>> =
            (0..wanted).filter(|number| waiting[*number] == 0).map(|number| Reverse(place[number])).collect();
        let mut ranks = vec![None; wanted];
        let mut next = 0..;
        while let Some(Reverse(nth)) = ready.pop() {
            let number = by_name[nth];
            ranks[number] = next.next();
            for dependant in &dependants[number] {
                waiting[*dependant] -= 1;
                if waiting[*dependant] == 0 {
                    ready.push(Reverse(place[*dependant]));
                }
            }
        }
        for number in by_name {
            ranks[number] = ranks[number].or_else(|| next.next());
        }
        ranks.into_iter().map(Option::unwrap_or_default).collect()
    }
}

fn ancestors(needs: &[Vec<Number>], numbers: usize) -> Vec<Vec<Number>> {
    // By whom each was met last: cheaper than a set for each.
    let mut met_by = vec![usize::MAX; numbers];
    let mut open = Vec::new();
    let of = |number: Number| {
        let mut all = Vec::new();
        open.extend_from_slice(&needs[number]);
        while let Some(next) = open.pop() {
            if met_by[next] != number {
                met_by[next] = number;
                all.push(next);
                open.extend(needs.get(next).into_iter().flatten());
            }
        }
        all
    };
    (0..needs.len()).map(of).collect()
}
