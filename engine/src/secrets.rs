//! Secrets that steps need and the environment lacks: found before anything runs, so that no hour of work ends at a
//! forgotten variable. Pure.

use std::collections::BTreeMap;

use crate::error::Diagnostic;
use crate::plan::Plan;
use crate::resolve::Resolved;
use crate::source::Environment;

/// The secrets that are not set and that a step which is to run cannot do without, each once, where its solid is
/// declared. A step that may still turn out unchanged does not count: it may never ask for them.
pub fn unset(plan: &Plan, resolved: &Resolved, environment: &Environment) -> Vec<Diagnostic> {
    let mut missing = BTreeMap::new();
    for &step in &plan.steps {
        let state = &resolved.states[step.0 as usize];
        let known_once = state.row.is_some() || plan.versions[step.0 as usize].is_none();
        if !state.to_run || (state.may_be_unchanged && known_once) {
            continue;
        }
        let solid = plan.graph.solid(step);
        for name in solid.secrets.iter().filter(|name| !environment.vars.contains_key(*name)) {
            missing.entry((step_solid(plan, step), name.as_str())).or_insert_with(|| {
                let step = plan.graph.step_name(step);
                Diagnostic::new(format!("`{step}` needs the secret `{name}`, which is not set"))
                    .hint(format!("set the environment variable `{name}`"))
                    .at(solid.place.as_ref())
            });
        }
    }
    missing.into_values().collect()
}

/// What tells that two steps are of one invocation.
fn step_solid(plan: &Plan, step: crate::graph::StepId) -> u32 {
    plan.graph.steps[step.0 as usize].invocation
}
