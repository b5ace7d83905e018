//! Which results an export takes along: what is wanted with its bytes, and the records of everything above it. Pure.

use std::collections::{BTreeMap, BTreeSet};

use cas_store::Trace;

use crate::plan::Plan;
use crate::resolve::{self, Resolved, Wanted};

/// What is to be exported.
#[derive(Debug, Default)]
pub struct Exported {
    /// The results, each with whether its bytes go with it; what is consumed before what consumes it.
    pub results: Vec<(Trace, bool)>,
    /// The wanted steps that are not stored.
    pub missing: Vec<String>,
}

/// Says what an export of what is wanted takes along.
pub fn exported(plan: &Plan, resolved: &Resolved, wanted: &Wanted) -> Exported {
    let targets = resolve::targets(plan, wanted);
    let steps: BTreeSet<_> =
        targets.outputs.iter().map(|output| output.step).chain(targets.steps.iter().copied()).collect();
    let mut exported = Exported::default();
    let mut place: BTreeMap<Trace, usize> = BTreeMap::new();
    for &step in &plan.steps {
        let state = &resolved.states[step.0 as usize];
        let is_wanted = steps.contains(&step);
        let found = state.found.as_ref().filter(|_| state.settled);
        if is_wanted && !state.skipped && !found.is_some_and(cas_store::Found::whole) {
            exported.missing.push(plan.graph.step_name(step));
        }
        let Some(found) = found else { continue };
        // Two invocations of one solid may have one result.
        match place.get(&found.trace) {
            Some(&at) => exported.results[at].1 |= is_wanted,
            None => {
                place.insert(found.trace, exported.results.len());
                exported.results.push((found.trace, is_wanted));
            }
        }
    }
    exported
}
