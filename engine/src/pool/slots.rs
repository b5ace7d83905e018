//! Who has a slot of a pool, and who waits for one. Pure: a sweep goes by it, and so does what foresees one.
//!
//! Invariant: whoever waits for more than is free keeps what is free of it from those behind, so that it is not passed for
//! ever. Handing out looks at no more of those that wait than there are cores, since each of them wants one at least.

use std::collections::BTreeMap;

use crate::schedule::{Capacity, Need};

/// The place of a run, and which of its waiters it is.
pub(crate) type Key = (usize, u64);

/// What is used, and who (a `W`) waits for some of it.
#[derive(Debug)]
pub(crate) struct Slots<W> {
    used: Need,
    /// The first of them first. Who is not here any more has what it waited for.
    waiting: BTreeMap<Key, (Need, W)>,
    tickets: u64,
}

impl<W> Default for Slots<W> {
    fn default() -> Self {
        Self { used: Need::default(), waiting: BTreeMap::new(), tickets: 0 }
    }
}

impl<W> Slots<W> {
    /// Waits for a slot, for the run at this place.
    pub(crate) fn ask(&mut self, place: usize, need: Need, who: W) -> Key {
        self.tickets += 1;
        let key = (place, self.tickets);
        self.waiting.insert(key, (need, who));
        key
    }

    /// Those that wait.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = &W> {
        self.waiting.values().map(|(_, who)| who)
    }

    /// Whether this one waits still.
    pub(crate) fn waits(&self, key: Key) -> bool {
        self.waiting.contains_key(&key)
    }

    /// This one waits no longer.
    pub(crate) fn leave(&mut self, key: Key) {
        self.waiting.remove(&key);
    }

    /// Gives all that can go what they wait for: who they are, in order.
    pub(crate) fn hand_out(&mut self, capacity: &Capacity) -> Vec<(Key, W)> {
        let mut gone = Vec::new();
        for key in self.can_go(capacity) {
            if let Some((need, who)) = self.waiting.remove(&key) {
                add(&mut self.used, &need);
                gone.push((key, who));
            }
        }
        gone
    }

    /// Takes back what was given.
    pub(crate) fn give_back(&mut self, need: &Need) {
        self.used.cpus -= need.cpus;
        self.used.memory -= need.memory;
        for (name, amount) in &need.limits {
            if let Some(used) = self.used.limits.get_mut(name) {
                *used -= amount;
            }
        }
    }

    /// Who of those that wait can go now: what they want fits beside what is used and what those before them want.
    fn can_go(&self, capacity: &Capacity) -> Vec<Key> {
        let mut wanted = self.used.clone();
        let mut go = Vec::new();
        for (key, (need, _)) in &self.waiting {
            if wanted.cpus >= capacity.cpus.max(1) {
                break;
            }
            add(&mut wanted, need);
            let fits = wanted.cpus <= capacity.cpus.max(1)
                && capacity.memory.is_none_or(|there_is| wanted.memory <= there_is)
                && need
                    .limits
                    .keys()
                    .all(|name| wanted.limits.get(name) <= Some(capacity.limits.get(name).unwrap_or(&1)));
            go.extend(fits.then_some(*key));
        }
        go
    }

    #[cfg(test)]
    pub(super) fn used(&self) -> &Need {
        &self.used
    }
}

/// What a step gets that needs this: never more than there is.
pub(crate) fn part(capacity: &Capacity, need: &Need) -> Need {
    let most = |name: &str| capacity.limits.get(name).copied().unwrap_or(1);
    Need {
        cpus: need.cpus.clamp(1, capacity.cpus.max(1)),
        memory: capacity.memory.map_or(0, |there_is| need.memory.min(there_is)),
        limits: need.limits.iter().map(|(name, amount)| (name.clone(), (*amount).min(most(name)))).collect(),
    }
}

fn add(sum: &mut Need, need: &Need) {
    sum.cpus = sum.cpus.saturating_add(need.cpus);
    sum.memory = sum.memory.saturating_add(need.memory);
    for (name, amount) in &need.limits {
        let sum = sum.limits.entry(name.clone()).or_default();
        *sum = sum.saturating_add(*amount);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn need(cpus: u32, limits: &[(&str, u32)]) -> Need {
        let limits = limits.iter().map(|(name, amount)| ((*name).to_owned(), *amount)).collect();
        Need { cpus, memory: 0, limits }
    }

    fn slots(used: &Need, waiting: &[(usize, Need)]) -> Slots<()> {
        let mut slots = Slots { used: used.clone(), ..Slots::default() };
        for (place, need) in waiting {
            slots.ask(*place, need.clone(), ());
        }
        slots
    }

    /// Of those that wait, as `place: need`, the places of those that can go at once.
    fn check(capacity: &Capacity, used: &Need, waiting: &[(usize, Need)], expected: &[usize]) {
        let can_go = slots(used, waiting).can_go(capacity);
        assert_eq!(can_go.into_iter().map(|(place, _)| place).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn the_first_run_goes_first_and_nobody_passes_whom_they_would_keep_waiting() {
        let gpus = BTreeMap::from([("gpu".to_owned(), 1)]);
        let two = Capacity { cpus: 2, memory: None, limits: gpus };
        let (none, one) = (need(0, &[]), need(1, &[]));
        let gpu = need(1, &[("gpu", 1)]);
        check(&two, &none, &[(7, one.clone()), (3, one.clone()), (5, one.clone())], &[3, 5]);
        check(&two, &one, &[(7, one.clone()), (3, one.clone())], &[3]);
        // What wants all waits for it, and those behind wait for that.
        check(&two, &one, &[(1, need(2, &[])), (2, one.clone())], &[]);
        check(&two, &none, &[(1, need(2, &[])), (2, one.clone())], &[1]);
        // A limit that is used up is nothing to those that do not need it, but the cores are there for both.
        check(&two, &gpu, &[(1, gpu.clone()), (2, one.clone())], &[]);
        let three = Capacity { cpus: 3, ..two };
        check(&three, &gpu, &[(1, gpu.clone()), (2, one)], &[2]);
    }

    proptest! {
        /// The rule as it is said: who fits beside what is used and all that those before it want.
        #[test]
        fn who_goes_is_who_fits_beside_all_before_it(
            waiting in prop::collection::vec((0..4_usize, 1..4_u32, 0..3_u64, 0..3_u32), 0..12),
            (cores, memory, gpus) in (1..6_u32, prop::option::of(1..6_u64), 0..4_u32),
            (used, used_gpus) in (0..3_u32, 0..2_u32),
        ) {
            let needs = |cpus, memory, gpu| {
                let limits = if gpu == 0 { BTreeMap::new() } else { BTreeMap::from([("gpu".to_owned(), gpu)]) };
                Need { cpus, memory, limits }
            };
            let waiting: Vec<_> =
                waiting.into_iter().map(|(place, cpus, memory, gpu)| (place, needs(cpus, memory, gpu))).collect();
            let capacity = Capacity { cpus: cores, memory, limits: BTreeMap::from([("gpu".to_owned(), gpus)]) };
            let used = needs(used, 0, used_gpus);
            let mut slots = slots(&used, &waiting);
            let fits = |(key, (own, ())): (&Key, &(Need, ()))| {
                let sum = |of: &dyn Fn(&Need) -> u64| {
                    let before = slots.waiting.range(..*key).map(|(_, (need, ()))| of(need)).sum::<u64>();
                    of(&used) + before + of(own)
                };
                let gpu = |need: &Need| u64::from(need.limits.get("gpu").copied().unwrap_or(0));
                sum(&|need| u64::from(need.cpus)) <= u64::from(cores)
                    && memory.is_none_or(|memory| sum(&|need| need.memory) <= memory)
                    && (gpu(own) == 0 || sum(&gpu) <= u64::from(gpus))
            };
            let expected: Vec<Key> = slots.waiting.iter().filter(|one| fits(*one)).map(|(key, _)| *key).collect();
            prop_assert_eq!(slots.can_go(&capacity), expected.clone());
            // They have it then, and nobody else can go.
            let gone: Vec<Key> = slots.hand_out(&capacity).into_iter().map(|(key, ())| key).collect();
            prop_assert_eq!(gone, expected);
            prop_assert_eq!(slots.can_go(&capacity), vec![]);
        }
    }

    #[test]
    fn no_step_gets_more_than_there_is() {
        let capacity = Capacity { cpus: 2, memory: Some(10), limits: BTreeMap::new() };
        let wanted = Need { cpus: 8, memory: 99, limits: BTreeMap::from([("gpu".to_owned(), 3)]) };
        let given = Need { cpus: 2, memory: 10, limits: BTreeMap::from([("gpu".to_owned(), 1)]) };
        assert_eq!(part(&capacity, &wanted), given);
        assert_eq!(part(&capacity, &Need::default()).cpus, 1);
    }
}
