//! What steps use and a run was told to have none of (`--limit gpu=0`): who is not begun for it, and in which words.
//!
//! One rule, asked at two moments. Before a run, of the steps that are certain to run: then nothing of it is begun. And in
//! a run, of each step that turned out to have to run, wherever that came from (its inputs changed, its bytes are damaged,
//! its list grew): then the step fails. Invariant: a step that may turn out unchanged is not refused before it is known
//! that it does not.

use std::collections::BTreeMap;

use crate::error::{Diagnostic, EngineError};
use crate::execute::{Cause, Failure};
use crate::graph::StepId;
use crate::memo::Memo;
use crate::plan::Plan;
use crate::resolve::Resolved;
use crate::solid::Policy;

/// A limit that a step uses and of which there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lack {
    /// Its name.
    pub name: String,
    used: u32,
}

impl Lack {
    /// What a step of a solid with this policy uses, and a run that was told this of its limits has none of: the first,
    /// where there are several.
    pub fn of(policy: &Policy, own: &BTreeMap<String, u32>) -> Option<Self> {
        let mut used = policy.limits.iter().filter(|(_, used)| **used > 0);
        let (name, used) = used.find(|(name, _)| own.get(*name) == Some(&0))?;
        Some(Self { name: name.clone(), used: *used })
    }

    /// How much of which limit: ``1 of `gpu` ``.
    pub fn used(&self) -> String {
        format!("{} of `{}`", self.used, self.name)
    }

    fn message(&self, step: &str) -> String {
        format!("{step} uses {}, and this run was told that there is none", self.used())
    }

    fn hint(&self) -> String {
        format!("give it some (`--limit {}={}`), or leave the step out", self.name, self.used)
    }

    /// What a step fails with that turned out to have to run.
    pub(crate) fn failure(&self) -> Failure {
        Failure { cause: Cause::NotStarted, message: self.message("it"), hint: Some(self.hint()) }
    }
}

impl Memo {
    /// The steps that are certain to run and use what the run has none of, each once for all steps of an invocation, where
    /// its solid is declared.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn lacking(
        &self,
        plan: &Plan,
        resolved: &Resolved,
        own: &BTreeMap<String, u32>,
    ) -> Result<Vec<Diagnostic>, EngineError> {
        let mut lacking = BTreeMap::new();
        let lack = |step: StepId| Lack::of(&plan.graph.solid(step).policy, own);
        let certain = self.certain(plan, &resolved.states, &|step| lack(step).is_some())?;
        for &step in plan.steps.iter().filter(|step| resolved.states[step.0 as usize].to_run) {
            let solid = plan.graph.solid(step);
            let invocation = plan.graph.steps[step.0 as usize].invocation;
            let Some(lack) = lack(step) else { continue };
            let may_be_unchanged = resolved.states[step.0 as usize].may_be_unchanged;
            if lacking.contains_key(&invocation) || (may_be_unchanged && !certain.contains(&step)) {
                continue;
            }
            let message = lack.message(&format!("`{}`", plan.graph.step_name(step)));
            lacking.insert(invocation, Diagnostic::new(message).hint(lack.hint()).at(solid.place.as_ref()));
        }
        Ok(lacking.into_values().collect())
    }
}
