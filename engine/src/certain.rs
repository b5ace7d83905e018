//! Which steps have to run whatever comes of the steps above them.
//!
//! A step below one that is to run may turn out unchanged, as far as a look at what is stored tells. But where nothing on
//! record was made of the same code, config, resources and files, no result can be its own: a node of facts is kept as
//! long as any result that names it. Such a step is certain to run, and its own change is why.

use std::collections::{BTreeMap, HashSet};

use cas_store::Version;

use crate::error::EngineError;
use crate::graph::StepId;
use crate::memo::Memo;
use crate::plan::Plan;
use crate::resolve::{Resolved, StepState, Why};

impl Memo {
    /// Marks the steps that are certain to run as that, for whoever tells what would run and why.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn mark_certain(&self, plan: &Plan, resolved: &mut Resolved) -> Result<(), EngineError> {
        for step in self.certain(plan, &resolved.states, &|_| true)? {
            resolved.states[step.0 as usize].may_be_unchanged = false;
        }
        Ok(())
    }

    /// Of the steps of which this holds, and that are to run for what is above them, those that are certain to run.
    pub(crate) fn certain(
        &self,
        plan: &Plan,
        states: &[StepState],
        of: &dyn Fn(StepId) -> bool,
    ) -> Result<HashSet<StepId>, EngineError> {
        let mut steps: BTreeMap<Version, Vec<StepId>> = BTreeMap::new();
        for &step in &plan.steps {
            let state = &states[step.0 as usize];
            if state.to_run && state.may_be_unchanged && state.why == Some(Why::Inputs) && of(step) {
                for fact in plan.own_facts(step) {
                    steps.entry(fact).or_default().push(step);
                }
            }
        }
        // Those of 10,000 elements are nearly all the same: each is asked for once.
        let facts: Vec<Version> = steps.keys().copied().collect();
        let known = self.facts(&facts)?;
        let unknown = steps.into_values().zip(known).filter(|(_, node)| node.is_none());
        Ok(unknown.flat_map(|(steps, _)| steps).collect())
    }
}
