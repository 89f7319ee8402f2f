//! What needs what, by number: a thousand instances are some thirty thousand resources.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use rustc_hash::FxHashMap;

use crate::model::ResourceId;
use crate::resources::Wanted;

/// A resource's place in [`Graph`]; what is wanted comes first, in the order given.
pub(super) type Number = usize;

pub(super) struct Graph<'a> {
    numbers: FxHashMap<&'a ResourceId, Number>,
    wanted: &'a [Wanted],
    /// What each wanted resource needs directly.
    needs: Lists,
}

impl<'a> Graph<'a> {
    pub fn of(wanted: &'a [Wanted]) -> Self {
        let mut numbers: FxHashMap<&ResourceId, Number> = FxHashMap::default();
        numbers.reserve(wanted.len());
        numbers.extend(wanted.iter().enumerate().map(|(n, w)| (&w.id, n)));
        let mut needs = Lists::with_capacity(wanted.len());
        for w in wanted {
            for need in &w.needs {
                let next = numbers.len();
                needs.all.push(*numbers.entry(need).or_insert(next));
            }
            needs.end();
        }
        Self { numbers, wanted, needs }
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

    /// The place of each wanted resource in an order that puts what is needed first, and else goes by name.
    /// Members of a cycle (a recipe cannot make one) come last. `named`: what was looked at, by name.
    pub fn ranks<'b>(&self, named: impl Iterator<Item = &'b ResourceId>) -> Vec<usize> {
        let wanted = self.wanted.len();
        let mut by_name: Vec<Number> =
            named.filter_map(|id| self.number(id)).filter(|number| *number < wanted).collect();
        // Something was not looked at: it has its place too.
        if by_name.len() < wanted {
            by_name = (0..wanted).collect();
            by_name.sort_by_key(|number| &self.wanted[*number].id);
        }
        let mut place = vec![0; wanted];
        by_name.iter().enumerate().for_each(|(nth, number)| place[*number] = nth);

        let needs_of = |number| self.needs.of(number).iter().copied().filter(|need| *need < wanted);
        let mut waiting: Vec<usize> = (0..wanted).map(|number| needs_of(number).count()).collect();
        let dependants =
            Lists::of_pairs(wanted, || (0..wanted).flat_map(|number| needs_of(number).map(move |need| (need, number))));
        let mut ready: BinaryHeap<Reverse<usize>> =
            (0..wanted).filter(|number| waiting[*number] == 0).map(|number| Reverse(place[number])).collect();
        let mut ranks = vec![None; wanted];
        let mut next = 0..;
        while let Some(Reverse(nth)) = ready.pop() {
            let number = by_name[nth];
            ranks[number] = next.next();
            for dependant in dependants.of(number) {
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

    /// What each wanted resource needs, directly or not.
    pub fn ancestors(&self) -> Lists {
        // By whom each was met last: cheaper than a set for each.
        let mut met_by = vec![Number::MAX; self.numbers.len()];
        let mut ancestors = Lists::with_capacity(self.wanted.len());
        for number in 0..self.wanted.len() {
            let begun = ancestors.all.len();
            let mut next = begun;
            let mut list = number;
            loop {
                for need in self.needs.of(list) {
                    if std::mem::replace(&mut met_by[*need], number) != number {
                        ancestors.all.push(*need);
                    }
                }
                let Some(one) = ancestors.all.get(next) else { break };
                (list, next) = (*one, next + 1);
            }
            ancestors.end();
        }
        ancestors
    }
}

/// A list for each number, one behind the other in one allocation; of a number beyond the last, an empty one.
pub(super) struct Lists {
    all: Vec<usize>,
    /// Where each ends.
    ends: Vec<usize>,
}

impl Lists {
    fn with_capacity(lists: usize) -> Self {
        Self { all: Vec::new(), ends: Vec::with_capacity(lists) }
    }

    /// Lists made of pairs of a list's number and a member, which stay in their order.
    pub fn of_pairs<I: Iterator<Item = (Number, usize)>>(lists: usize, pairs: impl Fn() -> I) -> Self {
        let mut ends = vec![0; lists];
        pairs().for_each(|(list, _)| ends[list] += 1);
        let mut next = 0;
        for end in &mut ends {
            // Where it begins, until its members are in: each moves it on.
            next += std::mem::replace(end, next);
        }
        let mut all = vec![0; next];
        for (list, member) in pairs() {
            all[ends[list]] = member;
            ends[list] += 1;
        }
        Self { all, ends }
    }

    /// What was pushed since the last end is the next list.
    fn end(&mut self) {
        self.ends.push(self.all.len());
    }

    pub fn of(&self, number: Number) -> &[usize] {
        let Some(end) = self.ends.get(number) else { return &[] };
        let begin = number.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.all[begin..*end]
    }
}
