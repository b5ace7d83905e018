//! How much there is of what steps use, for one run, and what a step takes of what all runs share. Pure.
//!
//! What a run may use at once is its own: `-j` cores, and of each limit as much as it was told. Within that, cores,
//! memory and every named limit are shared by all runs on one store, through its host: what the store's settings say
//! is there, else what the most generous of those runs says that use it.

use std::collections::BTreeMap;

pub use cas_store::CPUS;
use cas_store::Portion;

use crate::schedule::{Capacity, Need};
use crate::solid::Policy;

/// The name under which memory is shared, in bytes, as [`CPUS`] is that of cores; no limit of a pipeline has one of them.
pub const MEMORY: &str = "memory";

/// Whether this is a limit that has a key of its own, so that no pipeline and no command line can name one like it.
pub fn is_own(name: &str) -> bool {
    name == CPUS || name == MEMORY
}

/// What a run says of itself.
#[derive(Debug, Clone, Default)]
pub struct Own {
    /// How many cores it uses at once at most.
    pub jobs: usize,
    /// How many cores this machine has.
    pub cores: usize,
    /// How much memory this machine has.
    pub memory: Option<u64>,
    /// Of which limit it was told how much there is.
    pub limits: BTreeMap<String, u32>,
}

/// What one run can use.
#[derive(Debug, Clone)]
pub struct Limits {
    own: Own,
    /// What its schedule hands out.
    pub capacity: Capacity,
}

impl Limits {
    /// What there is for a run, where the store's settings say this.
    pub fn new(own: Own, settings: &BTreeMap<String, u64>) -> Self {
        let of_store = |name: &str| settings.get(name).copied();
        let narrow = |amount: u64| u32::try_from(amount).unwrap_or(u32::MAX);
        let cpus = narrow(own.jobs.max(1) as u64);
        let mut limits: BTreeMap<String, u32> =
            settings.iter().map(|(name, amount)| (name.clone(), narrow(*amount))).collect();
        for (name, amount) in &own.limits {
            let there_is = limits.get(name).copied().unwrap_or(u32::MAX);
            limits.insert(name.clone(), (*amount).min(there_is));
        }
        let capacity = Capacity {
            cpus: cpus.min(of_store(CPUS).map_or(u32::MAX, narrow)).max(1),
            memory: match (own.memory, of_store(MEMORY)) {
                (Some(own), Some(store)) => Some(own.min(store)),
                (own, store) => own.or(store),
            },
            limits,
        };
        Self { own, capacity }
    }

    /// What a step of a solid with this policy takes of what all runs share.
    pub(crate) fn portions(&self, policy: &Policy) -> Vec<Portion> {
        let mut portions = vec![Portion {
            name: CPUS.to_owned(),
            amount: u64::from(policy.cpus.clamp(1, self.capacity.cpus)),
            of: Some(self.own.jobs.max(self.own.cores).max(1) as u64),
        }];
        if let (Some(there_is), Some(needed)) =
            (self.capacity.memory, policy.memory.filter(|bytes| *bytes > 0))
        {
            let amount = needed.min(there_is);
            portions.push(Portion { name: MEMORY.to_owned(), amount, of: Some(there_is) });
        }
        for (name, needed) in policy.limits.iter().filter(|(_, needed)| **needed > 0) {
            let there_is = self.capacity.limits.get(name).copied().unwrap_or(1).max(1);
            let of = self.own.limits.get(name).map(|amount| u64::from((*amount).max(1)));
            portions.push(Portion { name: name.clone(), amount: u64::from((*needed).min(there_is)), of });
        }
        portions
    }
}

/// What a step of a solid with this policy uses of what its run has.
pub(crate) fn need(policy: &Policy) -> Need {
    Need { cpus: policy.cpus, memory: policy.memory.unwrap_or(0), limits: policy.limits.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(pairs: &[(&str, u32)]) -> BTreeMap<String, u32> {
        pairs.iter().map(|(name, amount)| ((*name).to_owned(), *amount)).collect()
    }

    fn check(own: &Own, settings: &[(&str, u64)], policy: &Policy, expected: &[&str]) {
        let settings = settings.iter().map(|(name, amount)| ((*name).to_owned(), *amount)).collect();
        let portions = Limits::new(own.clone(), &settings).portions(policy);
        let shown: Vec<String> = portions
            .iter()
            .map(|portion| {
                let of = portion.of.map_or(String::new(), |of| format!(" of {of}"));
                format!("{} {}{of}", portion.name, portion.amount)
            })
            .collect();
        assert_eq!(shown, expected);
    }

    #[test]
    fn a_step_takes_what_it_needs_and_no_more_than_its_run_has() {
        let own = Own { jobs: 2, cores: 8, memory: Some(100), limits: limits(&[("gpu", 2)]) };
        let small = Policy::default();
        let big = Policy {
            cpus: 4,
            memory: Some(1000),
            limits: limits(&[("gpu", 3), ("net", 5)]),
            ..Policy::default()
        };
        check(&own, &[], &small, &["cpus 1 of 8"]);
        check(&own, &[], &big, &["cpus 2 of 8", "memory 100 of 100", "gpu 2 of 2", "net 1"]);
        // More at once than there are cores is what was asked for.
        check(&Own { jobs: 16, cores: 2, ..Own::default() }, &[], &small, &["cpus 1 of 16"]);
        // What the store says is the most there is.
        let settings = [("cpus", 1), ("memory", 50), ("gpu", 1), ("net", 4)];
        check(&own, &settings, &big, &["cpus 1 of 8", "memory 50 of 50", "gpu 1 of 2", "net 4"]);
    }
}
