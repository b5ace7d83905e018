//! Which results an export takes along: what is wanted with its bytes, and the records of everything above it. Pure.

use std::collections::{BTreeMap, BTreeSet};

use cas_store::{Standing, Trace};

use crate::memo;
use crate::plan::Plan;
use crate::resolve::{self, Resolved, Wanted};

/// What is to be exported.
#[derive(Debug, Default)]
pub struct Exported {
    /// The results, each with whether its bytes go with it; what is consumed before what consumes it.
    pub results: Vec<(Trace, bool)>,
    /// What a given run keeps of results that may be others by now, and what they are exported as.
    pub kept: BTreeMap<Trace, Standing>,
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
        if let (Some(_), Some(trace), Some(version)) =
            (wanted.frozen.run_of(plan.graph.solid(step)), state.trace, state.version)
            && trace != found.trace
        {
            let label = memo::label(&plan.graph.pipeline.name, &plan.graph.step_name(step));
            let standing = Standing { trace, rows: plan.rows(step, &version), history: (label, version) };
            exported.kept.insert(found.trace, standing);
        }
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
