//! What becomes of a step that a worker is done with: it has its result, it failed, or what it was given turned out
//! to be gone, and its producer is taken back in.

use cas_store::Found;

use super::REBUILDS;
use super::coordinator::{Coordinator, Floor};

use crate::attempt::{Done, End, Told};
use crate::event::{Event, FailureReport, Outcome, Skip};
use crate::execute::{Cause, Failure, Undeclared};
use crate::graph::{OutputId, StepId};
use crate::resolve::{self, StepState, Why};
use crate::schedule::Phase;
use crate::solid::Declared;

impl<'a> Coordinator<'a> {
    pub(super) fn hear(&mut self, floor: &mut Floor<'a>, told: Told) {
        match told {
            Told::Waits { step, limits, by, at_ms } => {
                (self.tell)(&Event::StepWaits { step, limits, by, at_ms });
            }
            Told::Started { step, attempt, worker, why, at_ms } => {
                self.log.started(&step, attempt, worker, why.as_deref(), at_ms);
                (self.tell)(&Event::StepStarted { step, attempt, worker, why, at_ms });
            }
            Told::Retried { step, attempt, failure } => {
                (self.tell)(&Event::StepRetried { step, attempt, failure });
            }
            Told::Printed { step, text } => (self.tell)(&Event::StepPrinted { step, text }),
            Told::Undeclared { step, solid, what } => {
                let Undeclared { refused, used, lines } = what;
                // A thousand elements of one solid mostly use the same.
                if self.undeclared.insert((solid, used.clone())) {
                    (self.tell)(&Event::Undeclared { step, refused, used, lines });
                }
            }
            Told::Done(done) => self.done(floor, *done),
            Told::All(all, free) => {
                all.into_iter().for_each(|told| self.hear(floor, told));
                if let Some(worker) = free {
                    floor.idle.push(worker);
                    floor.at_work[worker].clear();
                    floor.several[worker] = None;
                }
            }
            Told::Broken { worker, error } => {
                self.broken.get_or_insert(error);
                self.log.stopped(worker);
                floor.several[worker] = None;
                for at_work in std::mem::take(&mut floor.at_work[worker]) {
                    if let Some(step) = at_work.step {
                        floor.computing.retain(|_, computing| *computing != step);
                        floor.schedule.park(step.0);
                    }
                }
            }
        }
    }

    pub(super) fn done(&mut self, floor: &mut Floor<'a>, done: Done) {
        let Done { worker, place, took, end, why, started_ms, attempts, logs } = done;
        // Whoever gives back what it did not begin may be at work on what it did.
        if !matches!(end, End::GivenBack { .. }) {
            self.log.stopped(worker);
        }
        self.logs.extend(logs);
        let Some(at_work) = floor.at_work[worker].get_mut(place) else { return };
        let (plan, trace) = (at_work.plan, at_work.trace);
        let Some(step) = at_work.step.take() else {
            // Its list came out otherwise when it was made again. What it made is stored, and nobody asks for it.
            if let End::Broken(error) = end {
                self.broken.get_or_insert(error);
            }
            return;
        };
        let index = step.0 as usize;
        // By the trace that it was given: it may have been recomputed while the step ran.
        if floor.computing.get(&trace) == Some(&step) {
            floor.computing.remove(&trace);
        }
        self.pace(step, took, &end);
        if started_ms > 0 {
            self.notes[index].worker = u32::try_from(worker).ok();
            let record = self.record(step);
            record.why = why;
            if record.started_ms == 0 {
                record.started_ms = started_ms;
            }
            record.elapsed_ms += attempts.iter().map(|attempt| attempt.elapsed_ms).sum::<u64>();
            record.attempts.extend(attempts);
        }
        let mut shared = None;
        match end {
            End::Made { found, outcome, differs } => self.made(floor, step, found, outcome, differs),
            End::Lost { output, what } => {
                floor.schedule.reopen(step.0);
                self.notes[index].private = true;
                match self.output_now(plan, output) {
                    Some(output) => self.lost(floor, step, output, what),
                    None => self.due = true,
                }
                self.skip_if_doomed(floor, step);
            }
            End::GivenBack { alone } => {
                self.notes[index].alone |= alone;
                if self.stopping() {
                    floor.schedule.park(step.0);
                } else if self.notes[index].stale || !floor.schedule.inputs_settled(step.0) {
                    floor.schedule.reopen(step.0);
                    self.skip_if_doomed(floor, step);
                } else {
                    floor.schedule.give_back(step.0);
                }
            }
            End::Failed(report) => {
                shared = Some(report.clone());
                self.fail(floor, step, report);
            }
            End::Cancelled => floor.schedule.park(step.0),
            End::Broken(error) => {
                self.broken.get_or_insert(error);
                floor.schedule.park(step.0);
            }
        }
        for parked in floor.parked.remove(&step).unwrap_or_default() {
            if floor.schedule.phase(parked.0) != Phase::Open {
                continue;
            }
            match &shared {
                Some(report) => {
                    self.fail(floor, parked, FailureReport { attempts: 0, ..report.clone() });
                }
                None => floor.schedule.reopen(parked.0),
            }
        }
    }

    /// A step got its result.
    pub(super) fn made(
        &mut self,
        floor: &mut Floor<'a>,
        step: StepId,
        found: Found,
        outcome: Outcome,
        differs: Option<Vec<String>>,
    ) {
        let index = step.0 as usize;
        // Of a step whose result is good for one run, or for a while, other content is what was asked for.
        let dated =
            matches!(self.plan.graph.solid(step).version, Some(Declared::Volatile | Declared::Every(_)));
        if let Some(differences) = differs.filter(|_| !dated) {
            let name = self.plan.graph.step_name(step);
            let mut text = format!("`{name}` gave other content than before for the same inputs");
            for line in &differences {
                text.push_str("\n  ");
                text.push_str(line);
            }
            (self.tell)(&Event::Warning { text });
            self.differing.insert(step);
        } else if outcome == Outcome::Ran
            && !dated
            && matches!(self.notes[index].why, Some(Why::Forced | Why::Bytes))
            && self.memo.other_contents(&found.trace).is_ok_and(|others| !others.is_empty())
        {
            // It came out the same this time, and did not always.
            self.differing.insert(step);
        }
        let trace = found.trace;
        let outcome = match outcome {
            // What another step of this very run made is no work of somebody else's.
            Outcome::Joined if self.ran.contains_key(&trace) => Outcome::Reused,
            // It was made before this run began, and only its bytes were away: something equal brought them back.
            Outcome::Joined if found.record.made_ms < self.wanted.at_ms => Outcome::Reused,
            outcome => outcome,
        };
        if let (Outcome::Ran, Some(version)) = (outcome, self.states[index].version) {
            self.ran.insert(trace, version);
        }
        let note = &mut self.notes[index];
        note.made = Some((trace, outcome));
        note.rerun = None;
        note.why = None;
        let stale = std::mem::take(&mut note.stale);
        let state = &mut self.states[index];
        state.found = Some(found);
        state.settled = true;
        state.by_version = true;
        state.why = None;
        if self.doomed(floor, step) {
            self.skip(floor, step);
        } else if stale || !floor.schedule.inputs_settled(step.0) {
            floor.schedule.reopen(step.0);
        } else {
            self.states[index].to_run = false;
            self.finish(step, outcome, None, None);
            floor.schedule.settle(step.0);
        }
    }

    /// Bytes that a step consumes were found wrong or gone.
    pub(super) fn lost(&mut self, floor: &mut Floor<'a>, step: StepId, output: OutputId, what: String) {
        let above = output.step.0 as usize;
        (self.tell)(&Event::Damaged { output: self.plan.graph.output_name(output), what: what.clone() });
        if floor.schedule.phase(output.step.0) != Phase::Settled {
            return; // It is run again already.
        }
        self.gone(output);
        self.notes[above].rebuilds += 1;
        let forbidden = self.named.as_ref().is_some_and(|named| !named.contains(&output.step));
        if forbidden {
            let report = self.not_allowed(output);
            self.fail(floor, step, report);
        } else if self.notes[above].rebuilds > REBUILDS {
            let name = self.plan.graph.output_name(output);
            self.fail(
                floor,
                step,
                FailureReport::new(Failure {
                    cause: Cause::Input,
                    message: format!(
                        "its input `{name}` was made {REBUILDS} times more, and each time {what}"
                    ),
                    hint: Some("check the disk, and run `cas verify`".to_owned()),
                }),
            );
        } else {
            self.rebuild(floor, output.step, false);
        }
    }

    pub(super) fn gone(&mut self, output: OutputId) {
        let found = self.states[output.step.0 as usize].found.as_mut();
        if let Some(present) = found.and_then(|found| found.present.get_mut(usize::from(output.output))) {
            *present = false;
        }
    }

    /// Bytes were found gone when they were to be put into the project.
    pub(super) fn lose(&mut self, output: OutputId, what: String) {
        let name = self.plan.graph.output_name(output);
        (self.tell)(&Event::Damaged { output: name.clone(), what: what.clone() });
        self.gone(output);
        let index = output.step.0 as usize;
        if self.states[index].to_run {
            return; // Another place that it is published to was found to lack it.
        }
        self.notes[index].rebuilds += 1;
        let message = if self.named.as_ref().is_some_and(|named| !named.contains(&output.step)) {
            Some(format!("`{name}` cannot be published: {what}, and nothing upstream may run"))
        } else if self.notes[index].rebuilds > REBUILDS {
            Some(format!(
                "`{name}` cannot be published: it was made {REBUILDS} times more, and each time {what}"
            ))
        } else {
            None
        };
        if let Some(message) = message {
            let hint = Some("check the disk, and run `cas verify`".to_owned());
            let failure = Failure { cause: Cause::BadOutput, message, hint };
            self.notes[index].given_up = true;
            self.finish(output.step, Outcome::Failed, None, Some(FailureReport::new(failure)));
            self.failed |= !self.options.keep_going && !self.may_fail(output.step);
            return;
        }
        self.states[index].to_run = true;
        self.states[index].why = Some(Why::Bytes);
        self.notes[index].made = None;
    }

    /// A step failed, and what is below it is skipped.
    pub(super) fn fail(&mut self, floor: &mut Floor<'a>, step: StepId, report: FailureReport) {
        let index = step.0 as usize;
        let rebuilt =
            self.notes[index].rerun == Some(Why::Bytes) || self.notes[index].why == Some(Why::Bytes);
        // A result that could not be rebuilt is still on record.
        self.states[index].settled &= rebuilt;
        self.states[index].to_run = false;
        let why = format!("`{}` failed", self.plan.graph.step_name(step));
        self.finish(step, Outcome::Failed, None, Some(report));
        self.states[index].left_out = true;
        let spared = self.end(floor, step, why);
        // Who gathers without what failed needs its bytes, which are not there.
        self.states[index].settled &= spared.is_empty();
        let enough = |reader: u32| self.too_many_failed(StepId(reader)).is_none();
        let tolerated = !spared.is_empty() && spared.into_iter().all(enough);
        self.failed |= !self.options.keep_going && !tolerated && !self.may_fail(step);
    }

    /// A step ended: so does what is below it, but for steps that gather without what failed. Gives those.
    fn end(&mut self, floor: &mut Floor<'a>, step: StepId, why: String) -> Vec<u32> {
        let mut spares = |reader, above| self.tolerates(StepId(reader), StepId(above));
        let (ended, spared) = floor.schedule.end_sparing(step.0, &mut spares);
        for below in ended.into_iter().map(StepId) {
            self.ended_below(floor, below, why.clone());
        }
        spared
    }

    /// A step that gathers cannot go on without as many as failed.
    pub(super) fn give_up(&mut self, floor: &mut Floor<'a>, step: StepId, why: String) {
        let state = &mut self.states[step.0 as usize];
        (state.settled, state.to_run, state.left_out) = (false, false, true);
        self.finish(step, Outcome::Skipped, Some(Skip { why, too_many_failed: true }), None);
        let why = format!("`{}` was skipped", self.plan.graph.step_name(step));
        self.end(floor, step, why);
    }

    /// A step that ended because something above it failed. Where its own result is on record, for the very
    /// content that is on record above it, it is as good as it was.
    pub(super) fn ended_below(&mut self, floor: &Floor<'a>, step: StepId, why: String) {
        let index = step.0 as usize;
        let mut on_record = !self.states[index].to_run && self.states[index].settled;
        self.plan.graph.each_input(step, &mut |output| {
            let ended = matches!(floor.schedule.phase(output.step.0), Phase::Settled | Phase::Ended);
            on_record &= ended && self.states[output.step.0 as usize].settled;
        });
        let known = self.states[index].found.as_ref().map(|found| found.trace);
        if on_record && known.is_some() && known == resolve::trace_of(self.plan, &self.states, step) {
            if any_bytes(&self.states[index]) {
                self.finish(step, Outcome::Reused, None, None);
            }
            return;
        }
        self.states[index].settled = false;
        self.states[index].to_run = false;
        self.states[index].left_out = true;
        self.finish(step, Outcome::Skipped, Some(Skip::below(why)), None);
    }

    /// What a step consumes that is looked at again may have been taken back meanwhile, and have failed.
    fn skip_if_doomed(&mut self, floor: &mut Floor<'a>, step: StepId) {
        if floor.schedule.phase(step.0) == Phase::Waiting && self.doomed(floor, step) {
            self.skip(floor, step);
        }
    }

    /// Whether something that a step consumes has ended, and it cannot go on without it.
    fn doomed(&self, floor: &Floor<'a>, step: StepId) -> bool {
        let above = floor.schedule.edges().above(step.0).iter();
        above
            .filter(|above| floor.schedule.phase(**above) == Phase::Ended)
            .any(|above| !self.tolerates(step, StepId(*above)))
    }

    /// A step that ran while something above it was taken back, which then failed.
    pub(super) fn skip(&mut self, floor: &mut Floor<'a>, step: StepId) {
        self.states[step.0 as usize].settled = false;
        self.states[step.0 as usize].to_run = false;
        self.states[step.0 as usize].left_out = true;
        let why = "something above it failed".to_owned();
        self.finish(step, Outcome::Skipped, Some(Skip::below(why.clone())), None);
        self.end(floor, step, why);
    }
}

/// Whether anything of a result is there to be reused.
pub(super) fn any_bytes(state: &StepState) -> bool {
    state
        .found
        .as_ref()
        .is_some_and(|found| found.present.is_empty() || found.present.iter().any(|present| *present))
}

pub(super) fn absent_above() -> String {
    "something that it consumes was not produced".to_owned()
}
