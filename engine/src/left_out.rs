//! Gathers that go on without elements that failed (`failed: skip`), in a run and afterwards.
//!
//! Afterwards, what such a gather made is found as the run found it: by its trace, with the same elements left out.
//! Invariant: an element counts as left out only if its very version failed in the last run that had it.

use crate::error::EngineError;
use crate::frozen::Frozen;
use crate::graph::{OutputId, StepId, StepInput};
use crate::memo::Memo;
use crate::past::MadeOf;
use crate::pipeline::Source;
use crate::plan::Plan;
use crate::resolve::{Resolved, StepState, Wanted};

/// Whether a step goes on without another that failed: all that it consumes of it, it gathers with `failed: skip`.
pub(crate) fn tolerates(plan: &Plan, reader: StepId, failed: StepId) -> bool {
    let declared = &plan.graph.invocation(reader).inputs;
    if !declared.iter().any(|input| matches!(input.source, Source::Gather { .. })) {
        return false;
    }
    let inputs = &plan.graph.steps[reader.0 as usize].inputs;
    let is = |output: &OutputId| output.step == failed;
    inputs.iter().zip(declared).all(|(input, declared)| match (input, &declared.source) {
        (StepInput::Gather(_), Source::Gather { .. }) => true,
        (StepInput::Gather(elements), _) => !elements.iter().any(|(_, output)| is(output)),
        (StepInput::Output(output) | StepInput::Element { list: output, .. }, _) => !is(output),
        (StepInput::FanIn(outputs) | StepInput::Unknown(outputs), _) => !outputs.iter().any(is),
        (StepInput::Path(_) | StepInput::Value(_) | StepInput::Probe(_), _) => true,
    })
}

/// Why a step cannot go on without what failed, if it cannot: more of a gather failed than may, or were skipped below what
/// failed, as it is told by `skipped`.
pub(crate) fn too_many(
    plan: &Plan,
    states: &[StepState],
    step: StepId,
    skipped: &dyn Fn(StepId) -> bool,
) -> Option<String> {
    let declared = &plan.graph.invocation(step).inputs;
    let inputs = &plan.graph.steps[step.0 as usize].inputs;
    inputs.iter().zip(declared).find_map(|(input, declared)| match (input, &declared.source) {
        (StepInput::Gather(elements), Source::Gather { of, max_failed }) => {
            let left_out = |(_, output): &&(String, OutputId)| states[output.step.0 as usize].is_left_out();
            let count = elements.iter().filter(left_out).count();
            (!max_failed.allows(count, elements.len())).then(|| {
                let below =
                    elements.iter().filter(left_out).filter(|(_, output)| skipped(output.step)).count();
                let (all, failed) = (format!("{} elements of `{}`", elements.len(), of.step), count - below);
                let were = if below == 1 { "was" } else { "were" };
                let what = match (failed, below) {
                    (failed, 0) => format!("{failed} of {all} failed"),
                    (0, below) => format!("{below} of {all} {were} skipped"),
                    (failed, below) => format!("{failed} of {all} failed, {below} {were} skipped"),
                };
                format!("{what}, and `max_failed` is {max_failed}")
            })
        }
        _ => None,
    })
}

impl Memo {
    /// Holds a plan against the store as the last runs left it: what changes with time as it was last, and gathers without
    /// the elements that failed.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn resolve_as_left(&self, plan: &Plan, wanted: &Wanted) -> Result<Resolved, EngineError> {
        let wanted = Wanted { frozen: Frozen::Last, ..wanted.clone() };
        let resolved = self.resolve(plan, &wanted)?;
        let past = self.past(&plan.graph.pipeline.name)?;
        let failed = |step: &StepId| {
            let state = &resolved.states[step.0 as usize];
            !state.settled
                && past
                    .failed(&plan.graph.step_name(*step), state.version)
                    .is_some_and(|failed| failed.made_of == MadeOf::Same)
        };
        let left_out: Vec<StepId> = plan.steps.iter().copied().filter(failed).collect();
        if left_out.is_empty() { Ok(resolved) } else { self.resolve(plan, &Wanted { left_out, ..wanted }) }
    }
}
