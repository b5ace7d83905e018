//! What a run took that is good for one run or for a while only, kept for a run that is to have the same
//! (`--frozen=RUN`): a copy of each such result, and each answer of a probe.
//!
//! A copy names the bytes of the result, so that they stay when a newer one takes its place, for as long as the
//! policy lets them; and the result itself, so that forgetting that one forgets it too.

use cas_store::{Commit, Digest, Put, StoreError, Trace};

use super::{Answer, Memo};
use crate::error::EngineError;
use crate::frozen::{self, Frozen};
use crate::graph::StepId;
use crate::plan::Plan;
use crate::resolve::{StepState, Wanted, Why};

impl Memo {
    /// Keeps what a run took. What is gone by now (a store that is collected meanwhile) is not known of it later.
    pub(crate) fn keep_taken(
        &self,
        run: u64,
        plan: &Plan,
        states: &[StepState],
        at_ms: u64,
    ) -> Result<(), EngineError> {
        let graph = &plan.graph;
        for (question, answer) in plan.measures.questions.iter().zip(&plan.measures.probes) {
            if let (Some(question), Some(text)) = (question, answer) {
                let key = frozen::answer_key(run, question);
                let history = frozen::answer_label(run, &graph.pipeline.name, question);
                self.keep_answer(key, &Answer { text: text.clone(), at_ms }, history);
            }
        }
        for &step in plan.steps.iter().filter(|step| frozen::is_dated(graph.solid(**step))) {
            let state = &states[step.0 as usize];
            if !state.settled || state.skipped {
                continue;
            }
            if let (Some(found), Some(version)) = (&state.found, frozen::version(plan, states, step)) {
                let making = (found.trace, found.record.made_ms);
                let provenance = self.open()?.provenances(&[making])?.pop().flatten().unwrap_or_default();
                let record = found.record.clone();
                let name = graph.step_name(step);
                let key = frozen::result_key(run, &name, &version);
                let committed = self.open()?.commit(Commit {
                    trace: key,
                    rows: Vec::new(),
                    outputs: record.outputs,
                    staged: Vec::new(),
                    log: record.log,
                    made_ms: record.made_ms,
                    cost_ms: record.cost_ms,
                    provenance,
                    parents: vec![found.trace],
                    facts: Vec::new(),
                    history: Some(frozen::copy_label(run, &graph.pipeline.name, &name, &key)),
                    put: Put::Replace,
                });
                match committed {
                    Ok(_) | Err(StoreError::Missing { .. }) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    /// What a given run was answered to these questions.
    pub(crate) fn answers_of(
        &self,
        run: u64,
        questions: &[Digest],
    ) -> Result<Vec<Option<String>>, EngineError> {
        let keys: Vec<Trace> = questions.iter().map(|question| frozen::answer_key(run, question)).collect();
        Ok(self.answers(&keys)?.into_iter().map(|answer| answer.map(|answer| answer.text)).collect())
    }
}

/// What would have to be made that was to be taken of a given run.
///
/// # Errors
/// There is something: that run does not know it, or its bytes are gone.
pub(super) fn all_known(plan: &Plan, wanted: &Wanted, states: &[StepState]) -> Result<(), EngineError> {
    let Frozen::Run(run) = wanted.frozen else { return Ok(()) };
    let unknown = |step: &&StepId| {
        let state = &states[step.0 as usize];
        frozen::is_dated(plan.graph.solid(**step))
            && state.to_run
            && matches!(state.why, Some(Why::New | Why::Bytes | Why::Expired | Why::Volatile))
    };
    let result = |step: &StepId| format!("the result of `{}`", plan.graph.step_name(*step));
    let what: Vec<String> = plan.steps.iter().filter(unknown).map(result).collect();
    if what.is_empty() { Ok(()) } else { Err(EngineError::NotOfRun { run, what }) }
}
