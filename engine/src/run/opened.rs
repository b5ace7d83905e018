//! What is decided about a step that opens: whether a result on record settles it, or it has to run, and with what.
//!
//! Invariants: a step is wanted by the schedule only when the bytes of everything that it consumes are there; whatever
//! runs was let by `request`, so that what may not run fails there.

use std::collections::BTreeMap;

use cas_store::{Found, Trace, Version};

use super::coordinator::{Coordinator, Floor};
use super::ended::absent_above;
use super::now_ms;

use crate::attempt::{Stored, Task};
use crate::error::EngineError;
use crate::event::{FailureReport, Outcome, Skip};
use crate::execute::{Cause, Failure};
use crate::frozen;
use crate::graph::{OutputId, StepId};
use crate::lack::Lack;
use crate::memo;
use crate::resolve::{self, Why};
use crate::schedule::Phase;

impl<'a> Coordinator<'a> {
    /// Looks at every step that opened, until none is left.
    pub(super) fn advance(&mut self, floor: &mut Floor<'a>) {
        loop {
            let mut ask = Vec::new();
            while let Some(step) = floor.schedule.opened() {
                self.consider(floor, StepId(step), &mut ask);
            }
            if ask.is_empty() {
                return;
            }
            match self.answers(&ask) {
                Ok(answers) => {
                    for ((step, _), (found, by_version)) in ask.into_iter().zip(answers) {
                        // An earlier answer may have taken back what this one stands on.
                        if floor.schedule.phase(step.0) == Phase::Open {
                            self.answered(floor, step, found, by_version);
                        }
                    }
                }
                Err(error) => {
                    self.broken.get_or_insert(error);
                    return;
                }
            }
        }
    }

    /// Asks the store for what stands under these traces, rows first where they are not known yet.
    pub(super) fn answers(&self, ask: &[(StepId, Trace)]) -> Result<Vec<(Option<Found>, bool)>, EngineError> {
        let mut answers: Vec<(Option<Found>, bool)> = vec![(None, false); ask.len()];
        let mut keys: Vec<Version> = Vec::new();
        let mut keyed = Vec::new();
        for (index, (step, trace)) in ask.iter().enumerate() {
            let state = &self.states[step.0 as usize];
            if self.of_run(*step).is_some() {
                answers[index].1 = true;
                continue;
            }
            answers[index].1 = state.row == Some(*trace);
            let known = self.plan.versions[step.0 as usize];
            if (known.is_none() || known != state.version || self.notes[step.0 as usize].unlooked)
                && let Some(version) = &state.version
            {
                keys.push(resolve::row_key(self.plan.graph.solid(*step), version));
                keyed.push(index);
            }
        }
        for (&index, row) in keyed.iter().zip(self.memo.rows(&keys)?) {
            if let Some(row) = row.filter(|row| row.trace == ask[index].1) {
                answers[index] = (Some(row), true);
            }
        }
        let open: Vec<usize> = (0..ask.len()).filter(|index| answers[*index].0.is_none()).collect();
        let traces: Vec<Trace> = open.iter().map(|index| self.key(ask[*index].0, ask[*index].1)).collect();
        for (index, found) in open.into_iter().zip(self.memo.results(&traces)?) {
            answers[index].0 = found;
        }
        // What stands there by now under the version that it had all along was made meanwhile by another run, and is not
        // there because its inputs came out the same.
        let late: Vec<usize> = (0..ask.len())
            .filter(|index| {
                // The places in `keyed` rise.
                !answers[*index].1 && answers[*index].0.is_some() && keyed.binary_search(index).is_err()
            })
            .collect();
        if self.options.turn.is_some() && !late.is_empty() {
            let keys: Vec<Version> = late
                .iter()
                .filter_map(|index| {
                    let step = ask[*index].0;
                    let version = self.states[step.0 as usize].version.as_ref()?;
                    Some(resolve::row_key(self.plan.graph.solid(step), version))
                })
                .collect();
            for (index, row) in late.into_iter().zip(self.memo.rows(&keys)?) {
                answers[index].1 = row.is_some_and(|row| row.trace == ask[index].1);
            }
        }
        Ok(answers)
    }

    /// The run that a step takes its result of, if it takes one of a given run.
    fn of_run(&self, step: StepId) -> Option<u64> {
        let forced = |step| self.wanted.force.contains(step);
        self.wanted.frozen.run_of(self.plan.graph.solid(step)).filter(|_| !forced(&step))
    }

    /// Where the result of a step stands: under its trace, or where a given run kept what it took.
    fn key(&self, step: StepId, trace: Trace) -> Trace {
        match self.of_run(step).zip(frozen::version(self.plan, &self.states, step)) {
            Some((run, version)) => frozen::result_key(run, &self.plan.graph.step_name(step), &version),
            None => trace,
        }
    }

    /// What a step fails with that was to take its result of a given run, or something that needs it.
    fn not_of_run(&self, run: u64, step: StepId) -> FailureReport {
        let what = vec![format!("the result of `{}`", self.plan.graph.step_name(step))];
        FailureReport::new(Failure {
            cause: Cause::Input,
            message: EngineError::NotOfRun { run, what }.to_string(),
            hint: None,
        })
    }

    /// Decides about a step whose inputs are settled, or asks the store first.
    pub(super) fn consider(&mut self, floor: &mut Floor<'a>, step: StepId, ask: &mut Vec<(StepId, Trace)>) {
        let index = step.0 as usize;
        if resolve::below_absent(&self.states, &self.plan.graph.steps[index]) {
            let state = &mut self.states[index];
            (state.skipped, state.settled, state.to_run, state.found) = (true, true, false, None);
            self.finish(step, Outcome::Skipped, Some(Skip::below(absent_above())), None);
            floor.schedule.settle(step.0);
            return;
        }
        if self.awaits_growth(step) {
            self.due = true;
            floor.schedule.park(step.0);
            return;
        }
        if let Some(why) = self.too_many_failed(step) {
            self.give_up(floor, step, why);
            return;
        }
        let version = resolve::version_of(self.plan, &self.states, step);
        let trace = resolve::trace_of(self.plan, &self.states, step);
        let (Some(version), Some(trace)) = (version, trace) else {
            self.fail(
                floor,
                step,
                FailureReport::new(Failure {
                    cause: Cause::Input,
                    message: "its version cannot be derived from what it consumes".to_owned(),
                    hint: None,
                }),
            );
            return;
        };
        let state = &mut self.states[index];
        state.skipped = false;
        state.version = Some(version);
        state.trace = Some(trace);
        let known = state.settled && state.found.as_ref().is_some_and(|found| found.trace == trace);
        let made = self.notes[index].made.is_some_and(|(made, _)| made == trace);
        match self.notes[index].rerun {
            Some(why @ (Why::Forced | Why::Volatile)) => self.request(floor, step, why),
            Some(why) if known => self.request(floor, step, why),
            _ if known && (made || !self.states[index].to_run || self.states[index].why.is_none()) => {
                self.accept(floor, step);
            }
            _ => {
                self.notes[index].rerun = None;
                ask.push((step, trace));
            }
        }
    }

    /// Takes the store's answer for a step that is open.
    pub(super) fn answered(
        &mut self,
        floor: &mut Floor<'a>,
        step: StepId,
        found: Option<Found>,
        by_version: bool,
    ) {
        let solid = self.plan.graph.solid(step);
        let found = found.filter(|found| resolve::fits(solid, found));
        let state = &mut self.states[step.0 as usize];
        state.settled = found.is_some();
        state.by_version = by_version && found.is_some();
        state.found = found;
        let good = state
            .found
            .as_ref()
            .map(|found| resolve::fresh(solid, found, now_ms(), self.options.wanted.frozen));
        match good {
            None => self.request(floor, step, Why::New),
            Some(false) => {
                self.notes[step.0 as usize].reusable = false;
                self.request(floor, step, Why::Expired);
            }
            Some(true) => self.accept(floor, step),
        }
    }

    /// Settles an open step whose result is on record, unless bytes of it are wanted that are not there.
    pub(super) fn accept(&mut self, floor: &mut Floor<'a>, step: StepId) {
        let index = step.0 as usize;
        let wanted = OutputId { step, output: 0 }..=OutputId { step, output: u16::MAX };
        let state = &self.states[index];
        let there = |output: &OutputId| state.absent(output.output) || state.has_bytes(output.output);
        if !self.targets.outputs.range(wanted).all(there) {
            self.request(floor, step, Why::Bytes);
            return;
        }
        let trace = state.trace;
        match self.notes[index].made {
            Some((made, outcome)) if Some(made) == trace => self.finish(step, outcome, None, None),
            _ if state.by_version => self.finish(step, Outcome::Reused, None, None),
            _ => {
                if !self.unchanged(step) {
                    if self.broken.is_none() {
                        // It went in this very moment.
                        self.states[index].settled = false;
                        self.request(floor, step, Why::New);
                    }
                    return;
                }
            }
        }
        self.states[index].to_run = false;
        floor.schedule.settle(step.0);
    }

    /// Lets an open step run, as soon as the bytes of everything that it consumes are there.
    pub(super) fn request(&mut self, floor: &mut Floor<'a>, step: StepId, why: Why) {
        if self.stopping() {
            floor.schedule.park(step.0);
            return;
        }
        if let Some(run) = self.of_run(step) {
            let report = self.not_of_run(run, step);
            self.fail(floor, step, report);
            return;
        }
        let index = step.0 as usize;
        self.states[index].to_run = true;
        self.notes[index].why = Some(why);
        // Before anything is made again for it.
        if let Some(lack) = Lack::of(&self.plan.graph.solid(step).policy, &self.options.limits) {
            self.fail(floor, step, FailureReport::new(lack.failure()));
            return;
        }
        let mut missing = Vec::new();
        self.plan.graph.each_input(step, &mut |output| {
            let above = &self.states[output.step.0 as usize];
            if !above.is_left_out() && !above.absent(output.output) && !above.has_bytes(output.output) {
                missing.push(output);
            }
        });
        for output in &missing {
            if self.named.as_ref().is_some_and(|named| !named.contains(&output.step)) {
                let report = self.not_allowed(*output);
                self.fail(floor, step, report);
                return;
            }
        }
        for output in &missing {
            if let Some(run) = self.of_run(output.step) {
                let report = self.not_of_run(run, output.step);
                self.fail(floor, step, report);
                return;
            }
        }
        if missing.is_empty() {
            if self.notes[index].ready_ms == 0 {
                self.notes[index].ready_ms = now_ms();
            }
            floor.schedule.want(step.0);
        }
        // Taking them back lets this step wait for them.
        for output in missing {
            self.rebuild(floor, output.step, true);
        }
    }

    /// A settled step has to run again, because bytes of it are gone.
    pub(super) fn rebuild(&mut self, floor: &mut Floor<'a>, step: StepId, reusable: bool) {
        let note = &mut self.notes[step.0 as usize];
        note.rerun = Some(Why::Bytes);
        note.reusable = reusable;
        note.made = None;
        self.states[step.0 as usize].to_run = true;
        self.states[step.0 as usize].why = Some(Why::Bytes);
        if floor.schedule.phase(step.0) == Phase::Settled {
            for taken in floor.schedule.take_back(step.0) {
                for &below in floor.schedule.edges().below(taken) {
                    self.notes[below as usize].stale = true;
                }
            }
        }
    }

    pub(super) fn task(&self, step: StepId, trace: Trace, version: Version, why: Why) -> Task {
        let mut consumes = Vec::new();
        let mut above = BTreeMap::new();
        self.plan.graph.each_input(step, &mut |output| {
            let state = &self.states[output.step.0 as usize];
            if state.is_left_out() {
                consumes.push(Stored { output, artifact: None, trace: None, made_ms: None, left_out: true });
                return;
            }
            above.extend(state.version.map(|version| (output.step, version)));
            consumes.push(Stored {
                output,
                artifact: state.artifact(output.output).cloned(),
                trace: state.found.as_ref().map(|found| found.trace),
                made_ms: state.found.as_ref().map(|found| found.record.made_ms),
                left_out: false,
            });
        });
        let note = &self.notes[step.0 as usize];
        let name = self.plan.graph.step_name(step);
        Task {
            step,
            trace,
            version,
            consumes,
            above: above.into_iter().collect(),
            parents: memo::parents(self.plan, &self.states, step),
            names: self.names(step, &name),
            why,
            failed: self.past.failed(&name, Some(version)),
            name,
            private: note.private,
            // In the place of one that is too old, a result of another run is as good as one of its own.
            reusable: why == Why::Expired || (note.reusable && matches!(why, Why::New | Why::Bytes)),
            misfit: false,
            fresh: self.plan.versions[step.0 as usize] == Some(version)
                && !note.unlooked
                && note.made.is_none()
                && self.states[step.0 as usize].row.is_none(),
            reproduces: self.options.reproduce && why == Why::Forced,
        }
    }
}
