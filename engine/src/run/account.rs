//! What is told and kept of a run: each step's outcome as an event, the record of the run, what is published, and the
//! report at its end.

use std::collections::{BTreeMap, BTreeSet};

use cas_store::{Output, Staged, Trace};

use super::coordinator::{Coordinator, Note};
use super::now_ms;

use crate::attempt;
use crate::error::EngineError;
use crate::event::{Event, FailureReport, Outcome, Skip, Summary};
use crate::execute::Stop;
use crate::graph::{OutputId, StepId, StepNames};
use crate::publish;
use crate::record::{Reused, StepRecord};
use crate::resolve::StepState;
use crate::schedule::{Phase, Schedule};

/// What of an invocation was reused before anything runs.
#[derive(Clone, Default)]
pub(super) struct Together {
    count: usize,
    saved_ms: u64,
}

impl Coordinator<'_> {
    pub(super) fn record(&mut self, step: StepId) -> &mut StepRecord {
        let name = || self.plan.graph.step_name(step);
        self.notes[step.0 as usize].record.get_or_insert_with(|| {
            Box::new(StepRecord {
                step: name(),
                version: None,
                trace: None,
                outcome: Outcome::Cancelled,
                why: None,
                ready_ms: 0,
                started_ms: 0,
                ended_ms: 0,
                elapsed_ms: 0,
                worker: None,
                attempts: Vec::new(),
            })
        })
    }

    /// Tells what became of a step.
    pub(super) fn finish(
        &mut self,
        step: StepId,
        outcome: Outcome,
        skipped: Option<Skip>,
        failure: Option<FailureReport>,
    ) {
        let index = step.0 as usize;
        self.finished += 1;
        self.notes[index].finished = self.finished;
        self.notes[index].outcome = Some(outcome);
        if outcome != Outcome::Reused || self.notes[index].record.is_some() {
            let (version, trace) = (self.states[index].version, self.states[index].trace);
            let Note { ready_ms, worker, .. } = self.notes[index];
            let record = self.record(step);
            (record.ready_ms, record.ended_ms, record.worker) = (ready_ms, now_ms(), worker);
            record.outcome = outcome;
            record.version = version;
            record.trace = trace;
            if let Some(skip) = &skipped {
                record.why = Some(skip.why.clone());
            }
            if let (Some(report), true) = (&failure, record.attempts.is_empty()) {
                record.why.get_or_insert_with(|| report.failure.message.clone());
            }
        }
        self.log.touched();
        self.replay(step, outcome);
        let elapsed_ms = self.notes[index].record.as_ref().map_or(0, |record| record.elapsed_ms);
        let saved_ms = self.saved(step);
        // However it failed: so the record says it, and the exit code.
        let allowed = self.may_fail(step);
        let failure = failure.map(|report| FailureReport { allowed, ..report });
        (self.tell)(&Event::StepFinished {
            step: self.plan.graph.step_name(step),
            outcome,
            elapsed_ms,
            saved_ms,
            failure,
            skipped,
            at_ms: now_ms(),
        });
    }

    /// Notes a step that is reused before anything runs, to be told with others.
    pub(super) fn reused_before(&mut self, step: StepId, together: &mut Together) {
        let note = &mut self.notes[step.0 as usize];
        self.finished += 1;
        (note.finished, note.outcome) = (self.finished, Some(Outcome::Reused));
        together.count += 1;
        together.saved_ms += self.saved(step);
    }

    /// Tells what was reused before anything runs, by invocation.
    pub(super) fn tell_together(&mut self, together: &[Together]) {
        for (invocation, of) in self.plan.graph.pipeline.invocations.iter().zip(together) {
            if of.count > 0 {
                self.log.touched();
                (self.tell)(&Event::StepsReused {
                    step: invocation.name.clone(),
                    count: of.count,
                    saved_ms: of.saved_ms,
                    at_ms: now_ms(),
                });
            }
        }
    }

    /// Tells what a step printed when its result was made, where that is wanted and was kept.
    fn replay(&mut self, step: StepId, outcome: Outcome) {
        if !self.options.replay_logs
            || !matches!(outcome, Outcome::Reused | Outcome::Unchanged | Outcome::Joined)
        {
            return;
        }
        let found = self.states[step.0 as usize].found.as_ref();
        let Some(log) = found.and_then(|found| found.record.log) else { return };
        // A log that is gone is only not replayed.
        if let Some(bytes) = self.memo.kept_bytes(&log) {
            let start = bytes.len().saturating_sub(attempt::PRINTED_BYTES);
            let text = String::from_utf8_lossy(&bytes[start..]).into_owned();
            (self.tell)(&Event::StepPrinted { step: self.plan.graph.step_name(step), text });
        }
    }

    /// How long making the result took once that this step did not have to make.
    pub(super) fn saved(&self, step: StepId) -> u64 {
        match self.notes[step.0 as usize].outcome {
            Some(Outcome::Reused | Outcome::Unchanged | Outcome::Joined) => {
                self.states[step.0 as usize].found.as_ref().map_or(0, |found| found.record.cost_ms)
            }
            Some(Outcome::Ran | Outcome::Failed | Outcome::Skipped | Outcome::Cancelled) | None => 0,
        }
    }

    /// What was taken back in and was not settled again has no outcome yet, whatever was told of it.
    pub(super) fn unsettled(&mut self, schedule: &Schedule) {
        for &step in &self.plan.steps {
            match schedule.phase(step.0) {
                Phase::Waiting | Phase::Open | Phase::Ready | Phase::Running => {
                    self.notes[step.0 as usize].outcome = None;
                    self.states[step.0 as usize].to_run = true;
                }
                Phase::Outside | Phase::Settled | Phase::Ended => {}
            }
        }
    }

    /// Tells the steps that the run did not get to.
    pub(super) fn unfinished(&mut self) {
        for &step in &self.plan.steps {
            let index = step.0 as usize;
            if self.notes[index].outcome.is_none() && self.states[index].to_run {
                // One that gathers could not have gone on either way, and its reason is not that the run was stopped.
                match self.too_many_failed(step) {
                    Some(why) => {
                        self.finish(step, Outcome::Skipped, Some(Skip { why, too_many_failed: true }), None);
                    }
                    None => self.finish(step, Outcome::Cancelled, None, None),
                }
            }
        }
    }

    /// Puts what is published into the project; gives the outputs whose bytes turned out to be gone.
    pub(super) fn publish(&mut self) -> Result<Vec<(OutputId, String)>, EngineError> {
        let mut wanted =
            publish::Wanted { ready: Vec::new(), absent: BTreeSet::new(), overwrite: self.options.overwrite };
        for placed in publish::placed(&self.plan.graph) {
            let state = &self.states[placed.output.step.0 as usize];
            let note = &self.notes[placed.output.step.0 as usize];
            if !state.settled || note.outcome.is_none() || note.given_up {
                continue;
            }
            match state.artifact(placed.output.output) {
                Some(artifact) if !state.skipped => wanted.ready.push((placed, artifact.clone())),
                _ => {
                    wanted.absent.insert(placed.target);
                }
            }
        }
        publish::publish(self.plan, self.memo, &wanted, self.tell)
    }

    pub(super) fn summary(&self) -> Summary {
        let mut summary = Summary { interrupted: self.options.cancel.now() > Stop::No, ..Summary::default() };
        for &step in &self.plan.steps {
            if let Some(outcome) = self.notes[step.0 as usize].outcome {
                summary.count(outcome);
                // What it cost to make may come from an archive, which may say anything.
                summary.saved_ms = summary.saved_ms.saturating_add(self.saved(step));
            }
        }
        summary
    }

    /// What is noted of the run: what was done, what was reused, and the logs to be kept with it.
    pub(super) fn told<'n>(
        &mut self,
        names: &'n StepNames,
    ) -> (Vec<StepRecord>, Vec<Reused<&'n str>>, Vec<Staged>) {
        let mut steps: Vec<(u64, StepRecord)> = Vec::new();
        let mut reused = Vec::new();
        for (&step, name) in self.plan.steps.iter().zip(names.iter()) {
            let note = &mut self.notes[step.0 as usize];
            if let Some(record) = note.record.take() {
                steps.push((note.finished, *record));
            } else if note.outcome == Some(Outcome::Reused)
                && let Some(version) = self.states[step.0 as usize].version
            {
                reused.push(Reused { step: name, version });
            }
        }
        steps.sort_by_key(|(finished, _)| *finished);
        let steps = steps.into_iter().map(|(_, record)| record).collect();
        (steps, reused, std::mem::take(&mut self.logs))
    }

    /// Whether the run is as good without a step as with it.
    pub(super) fn may_fail(&self, step: StepId) -> bool {
        self.plan.graph.solid(step).policy.allow_failure
    }

    /// The steps that failed, and which may.
    pub(super) fn allowed(&self, names: &StepNames) -> Vec<String> {
        let steps = self.plan.steps.iter().zip(names.iter());
        let is_allowed = |step: StepId| {
            self.notes[step.0 as usize].outcome == Some(Outcome::Failed) && self.may_fail(step)
        };
        steps.filter(|(step, _)| is_allowed(**step)).map(|(_, name)| name.to_owned()).collect()
    }

    /// The results that were used without being made.
    pub(super) fn touched(&self) -> Vec<Trace> {
        let used = |step: &&StepId| {
            matches!(
                self.notes[step.0 as usize].outcome,
                Some(Outcome::Reused | Outcome::Unchanged | Outcome::Joined)
            )
        };
        let trace = |step: &StepId| Some(self.states[step.0 as usize].found.as_ref()?.trace);
        self.plan.steps.iter().filter(used).filter_map(trace).collect()
    }

    /// What is left when nobody works any longer.
    pub(super) fn left(self) -> Left {
        Left { states: self.states, notes: self.notes }
    }
}

/// What a run leaves of its steps, by step id.
pub(super) struct Left {
    states: Vec<StepState>,
    notes: Vec<Note>,
}

impl Left {
    /// What became of each step that was looked at, and what there is of each now.
    pub(super) fn report(
        self,
        steps: &[StepId],
    ) -> (BTreeMap<StepId, Outcome>, BTreeMap<StepId, Vec<Output>>) {
        let outcome = |step: &StepId| Some((*step, self.notes[step.0 as usize].outcome?));
        let outcomes = steps.iter().filter_map(outcome).collect();
        let outputs = self
            .states
            .into_iter()
            .enumerate()
            .filter(|(_, state)| state.settled)
            .filter_map(|(index, state)| {
                Some((StepId(u32::try_from(index).ok()?), state.found?.record.outputs))
            })
            .collect();
        (outcomes, outputs)
    }
}
