//! What can be run once more from the same inputs, only to be compared with what is stored.
//!
//! Invariant: nothing runs for it that is meant to change with time, neither for its own sake nor because its bytes are
//! gone; and nothing is held against what other code made.

use std::collections::BTreeSet;

use crate::error::EngineError;
use crate::frozen;
use crate::graph::StepId;
use crate::memo::{Memo, Status, Wanted};
use crate::plan::Plan;

/// Of what was asked for: what can be reproduced, and what is left alone.
#[derive(Debug, Clone, Default)]
pub struct Reproducible {
    /// Those that are stored and meant to give the same each time.
    pub steps: Vec<StepId>,
    /// Those that change with time, and those that would need one of them to run because its bytes are gone.
    pub dated: Vec<StepId>,
    /// Those whose result is one that other code made, and that was accepted.
    pub accepted: Vec<StepId>,
}

impl Memo {
    /// Says what of the steps that are named (of all, where none is) can be reproduced. What changes with time has to be
    /// wanted as it was left ([`Wanted::frozen`]).
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn reproducible(&self, plan: &Plan, wanted: &Wanted) -> Result<Reproducible, EngineError> {
        let resolved = self.resolve(plan, wanted)?;
        let accepted: BTreeSet<StepId> =
            self.accepted(plan, &resolved)?.into_iter().map(|(step, _)| step).collect();
        let is_dated = |step: StepId| frozen::is_dated(plan.graph.solid(step));
        let mut reproducible = Reproducible::default();
        let named = |step: &StepId| wanted.steps.is_empty() || wanted.steps.contains(step);
        for step in plan.steps.iter().copied().filter(named) {
            let stored = resolved.step_status(step) == Status::Stored;
            match step {
                step if is_dated(step) => reproducible.dated.push(step),
                step if stored && accepted.contains(&step) => reproducible.accepted.push(step),
                step if stored => reproducible.steps.push(step),
                _ => {}
            }
        }
        // What is stored may stand on bytes that are gone, and that only a step would bring back which changes with time.
        let steps = reproducible.steps.clone();
        let again = Wanted { force: steps.clone(), steps, all: false, ..wanted.clone() };
        let states = self.resolve(plan, &again)?.states;
        let runs = |step: &StepId| is_dated(*step) && states[step.0 as usize].to_run;
        let run: BTreeSet<StepId> = plan.steps.iter().copied().filter(runs).collect();
        if !run.is_empty() {
            let stands = |step: &StepId| plan.graph.closure(&[*step]).iter().any(|above| run.contains(above));
            let (left, steps) = reproducible.steps.into_iter().partition(stands);
            reproducible.steps = steps;
            reproducible.dated.extend::<Vec<StepId>>(left);
        }
        Ok(reproducible)
    }
}
