//! The coordinator: the one owner of a run's state, from what is settled before anything runs to the loop that
//! hands steps to workers and hears of them.
//!
//! What is decided about a step that opens stands in `opened.rs`, what becomes of one that a worker is done with in
//! `ended.rs`, what is told and kept of all of it in `account.rs`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Instant;

use cas_store::{Staged, Trace, Version};

use super::account::Together;
use super::ended::{absent_above, any_bytes};
use super::grow::AtWork;
use super::noted::RunLog;
use super::together::{Teller, until_look};
use super::{RunOptions, now_ms};

use crate::attempt::{Bench, Several, Task, Told};
use crate::error::EngineError;
use crate::event::{Event, FailureReport, Outcome, Skip};
use crate::execute::{Cause, Failure, Stop};
use crate::forecast::{self, Durations};
use crate::graph::{OutputId, StepId};
use crate::limits::Limits;
use crate::memo::{self, Memo, Names};
use crate::past::Past;
use crate::plan::Plan;
use crate::pool::Turn;
use crate::record::StepRecord;
use crate::resolve::{self, StepState, Targets, Wanted, Why};
use crate::schedule::{Phase, Schedule};

/// What the coordinator knows of a step beside its state.
#[derive(Default)]
pub(super) struct Note {
    /// What became of it, as far as it was told.
    pub(super) outcome: Option<Outcome>,
    /// When that was decided, among all steps.
    pub(super) finished: u64,
    /// It runs whatever is stored: why.
    pub(super) rerun: Option<Why>,
    /// Why it runs this time.
    pub(super) why: Option<Why>,
    /// Whether a result that appears meanwhile is as good as one of its own.
    pub(super) reusable: bool,
    /// The trace under which it got its result in this run, and how.
    pub(super) made: Option<(Trace, Outcome)>,
    /// It is given copies only.
    pub(super) private: bool,
    /// How often its bytes were found damaged in this run.
    pub(super) rebuilds: u32,
    /// Whether what it runs with may have been taken back since it started.
    pub(super) stale: bool,
    /// Its bytes cannot be had for what it publishes.
    pub(super) given_up: bool,
    /// Whether the row of its version was not looked up yet.
    pub(super) unlooked: bool,
    /// Somebody else claimed it when it was to run with others: it is given to a worker that has nothing else.
    pub(super) alone: bool,
    /// When it was put in the queue first; 0 where it was not.
    pub(super) ready_ms: u64,
    /// Which worker had it last.
    pub(super) worker: Option<u32>,
    pub(super) record: Option<Box<StepRecord>>,
}

pub(super) struct Coordinator<'a> {
    pub(super) bench: &'a Bench<'a>,
    /// Makes the bench of a plan that has grown.
    pub(super) bench_of: &'a (dyn Fn(Plan) -> &'a Bench<'a> + 'a),
    /// Something waits for the plan to grow.
    pub(super) due: bool,
    pub(super) wanted: Wanted,
    pub(super) plan: &'a Plan,
    pub(super) memo: &'a Memo,
    pub(super) options: &'a RunOptions,
    pub(super) limits: &'a Limits,
    pub(super) targets: Targets,
    /// With `--only`: the steps that may run.
    pub(super) named: Option<BTreeSet<StepId>>,
    pub(super) states: Vec<StepState>,
    pub(super) notes: Vec<Note>,
    pub(super) finished: u64,
    /// A step failed, and nothing more is started.
    pub(super) failed: bool,
    pub(super) broken: Option<EngineError>,
    /// What the runs before tell: what failed, and how long each step took.
    pub(super) past: Past,
    /// By invocation: how many of its steps are given to a worker together.
    pub(super) paces: Vec<u32>,
    /// The traces that this run computed.
    pub(super) ran: HashMap<Trace, Version>,
    /// Steps whose inputs gave more than one content.
    pub(super) differing: BTreeSet<StepId>,
    /// What was told of solids that used what they were not given.
    pub(super) undeclared: BTreeSet<(String, Vec<String>)>,
    pub(super) logs: Vec<Staged>,
    /// How the run is noted while it goes on.
    pub(super) log: RunLog,
    pub(super) tell: &'a mut dyn FnMut(&Event),
}

/// What is only there while workers are.
pub(super) struct Floor<'a> {
    pub(super) schedule: Schedule,
    pub(super) tasks: Vec<Sender<Given<'a>>>,
    pub(super) idle: Vec<usize>,
    /// By worker: what it has, in the order in which it was given it.
    pub(super) at_work: Vec<Vec<AtWork<'a>>>,
    /// By worker: what it has, where that is more than one.
    pub(super) several: Vec<Option<(Arc<Several>, &'a Bench<'a>)>>,
    /// Which step computes a trace at this moment.
    pub(super) computing: HashMap<Trace, StepId>,
    /// Steps that wait for another one that computes the same trace.
    pub(super) parked: BTreeMap<StepId, Vec<StepId>>,
}

/// What a worker is given.
pub(super) enum Given<'a> {
    One(Box<Task>, &'a Bench<'a>),
    Several(Arc<Several>, &'a Bench<'a>),
}

impl<'a> Coordinator<'a> {
    /// Steps whose content is on record, and whose bytes only steps would need that may turn out unchanged, are
    /// not run for that: whoever really runs takes them back in.
    pub(super) fn only_certain(&mut self) {
        for state in &mut self.states {
            if state.to_run && state.may_be_unchanged && state.why == Some(Why::Bytes) {
                (state.to_run, state.may_be_unchanged, state.why) = (false, false, None);
            }
        }
    }

    /// Tells the steps that have their outcome before anything runs.
    pub(super) fn settled_before(&mut self) {
        let held = self.held();
        let one_by_one = self.options.each_reused || self.options.replay_logs;
        let mut together = vec![Together::default(); self.plan.graph.pipeline.invocations.len()];
        for &step in &self.plan.steps {
            let index = step.0 as usize;
            let state = &self.states[index];
            if state.to_run || !state.settled || held[index] {
                continue;
            }
            if state.skipped {
                self.finish(step, Outcome::Skipped, Some(Skip::below(absent_above())), None);
            } else if state.by_version {
                if !any_bytes(state) {
                    continue;
                }
                let of = &mut together[self.plan.graph.steps[index].invocation as usize];
                if one_by_one {
                    self.finish(step, Outcome::Reused, None, None);
                } else {
                    self.reused_before(step, of);
                }
            } else {
                self.unchanged(step);
            }
        }
        self.tell_together(&together);
    }

    /// The steps that are settled on record, but stand below one that is to run: what they are depends on it.
    pub(super) fn held(&self) -> Vec<bool> {
        forecast::held(self.plan, &self.states)
    }

    /// Lets the rows of a step whose inputs' content is not new name the result that is there.
    pub(super) fn unchanged(&mut self, step: StepId) -> bool {
        let Some(trace) = self.states[step.0 as usize].trace else { return false };
        let names = self.names(step, &self.plan.graph.step_name(step));
        let nodes: Vec<Version> = names.nodes().collect();
        match self.memo.relink(trace, names, now_ms()) {
            Ok(true) => {
                self.bench.wrote(nodes);
                // A twin of a step of this very run is reused; only what had another version came out unchanged.
                let twin = self.ran.get(&trace).copied();
                let twin = twin.is_some() && twin == self.states[step.0 as usize].version;
                let outcome = if twin { Outcome::Reused } else { Outcome::Unchanged };
                self.finish(step, outcome, None, None);
                true
            }
            Ok(false) => false,
            Err(error) => {
                self.broken.get_or_insert(error);
                false
            }
        }
    }

    /// The rows, facts and history of a step whose inputs are settled.
    pub(super) fn names(&self, step: StepId, name: &str) -> Names {
        let Some(version) = self.states[step.0 as usize].version else { return Names::default() };
        let (facts, shared) = self.bench.unwritten(|wanted| {
            self.plan.facts(
                step,
                &self.bench.key,
                &mut |above| self.states[above.0 as usize].version,
                &mut |output| resolve::content(&self.states, output),
                wanted,
            )
        });
        let label = memo::label(&self.plan.graph.pipeline.name, name);
        Names { rows: self.plan.rows(step, &version), facts, shared, history: Some((label, version)) }
    }

    /// Whether nothing more is to be started.
    pub(super) fn stopping(&self) -> bool {
        self.is_broken_off() || self.options.turn.as_ref().is_some_and(Turn::is_over)
    }

    /// Whether something kept the run from its end. That nothing more of a sweep is to be started keeps nobody from it who
    /// is there.
    pub(super) fn is_stopped(&self) -> bool {
        self.is_broken_off() || (self.stopping() && !self.is_done())
    }

    fn is_broken_off(&self) -> bool {
        self.failed || self.broken.is_some() || self.options.cancel.now() > Stop::No
    }

    /// Whether all that was to run did, and nothing failed but what may.
    pub(super) fn is_done(&self) -> bool {
        self.plan.steps.iter().all(|step| match self.notes[step.0 as usize].outcome {
            Some(Outcome::Failed) => self.may_fail(*step),
            Some(Outcome::Cancelled) => false,
            Some(_) => true,
            None => !self.states[step.0 as usize].to_run,
        })
    }

    /// Runs everything that is to run, as far as that can be.
    pub(super) fn execute(&mut self) -> Result<(), EngineError> {
        if self.states.iter().all(|state| !state.to_run) {
            return self.broken.take().map_or(Ok(()), Err);
        }
        let (say, hear) = channel();
        let schedule = self.schedule();
        let workers = self.options.jobs.max(1).min(self.most());
        thread::scope(|scope| {
            let mut tasks = Vec::with_capacity(workers);
            for worker in 0..workers {
                let (task, given) = channel::<Given<'a>>();
                let say = say.clone();
                let work = move || {
                    // The coordinator listens until all that was started is done.
                    let tell = |told: Told| drop(say.send(told));
                    for given in given {
                        match given {
                            Given::One(task, bench) => {
                                let done = bench.work(worker, *task, &tell);
                                tell(Told::All(vec![Told::Done(Box::new(done))], Some(worker)));
                            }
                            Given::Several(several, bench) => bench.work_through(&several, &tell),
                        }
                    }
                };
                if thread::Builder::new().name(format!("worker {worker}")).spawn_scoped(scope, work).is_ok() {
                    tasks.push(task);
                }
            }
            // Where no thread can be had, it is told when the worker is done with its step.
            let teller = |several: Arc<Several>, bench: &'a Bench<'a>| {
                let say = say.clone();
                let work = move || bench.tell_so_far(&several, &|told| drop(say.send(told)));
                drop(thread::Builder::new().name("teller".to_owned()).spawn_scoped(scope, work));
            };
            let idle = (0..tasks.len()).rev().collect();
            let at_work = tasks.iter().map(|_| Vec::new()).collect();
            let several = tasks.iter().map(|_| None).collect();
            let (computing, parked) = (HashMap::new(), BTreeMap::new());
            let mut floor = Floor { schedule, tasks, idle, at_work, several, computing, parked };
            if floor.tasks.is_empty() {
                let source = std::io::Error::other("no thread could be started");
                self.broken = Some(EngineError::Io { action: "start", path: "worker".into(), source });
            }
            self.conduct(&mut floor, &hear, &teller);
            self.unsettled(&floor.schedule);
        });
        self.broken.take().map_or(Ok(()), Err)
    }

    /// How many steps there can be to run, at one time or another: finished ones may be taken back in, and where steps are
    /// mapped, nobody knows how many there will be. A worker that has nothing to do costs a thread that sleeps.
    fn most(&self) -> usize {
        let mut invocations = self.plan.graph.pipeline.invocations.iter();
        let grows = invocations.any(|invocation| invocation.mapped().is_some());
        if grows { usize::MAX } else { self.plan.steps.len().max(1) }
    }

    pub(super) fn schedule(&self) -> Schedule {
        self.schedule_of(forecast::phases(self.plan, &self.states))
    }

    /// A schedule in which each step is where it is said to be.
    pub(super) fn schedule_of(&self, phases: Vec<Phase>) -> Schedule {
        let durations = Durations::of(self.plan, &self.states, &self.past);
        forecast::schedule(self.plan, phases, &durations.weights(), &self.limits.capacity)
    }

    /// The loop.
    pub(super) fn conduct(&mut self, floor: &mut Floor<'a>, hear: &Receiver<Told>, teller: Teller<'_, 'a>) {
        for index in 0..self.states.len() {
            let state = &self.states[index];
            if state.to_run {
                self.notes[index].rerun = match state.why {
                    Some(why @ (Why::Forced | Why::Volatile | Why::Bytes)) => Some(why),
                    // Whether a result is too old is judged when it is found.
                    Some(Why::Expired | Why::New | Why::Inputs) | None => None,
                };
                self.notes[index].reusable = true;
            }
        }
        self.forbidden(floor);
        let mut looked = Instant::now();
        loop {
            self.advance(floor);
            self.dispatch(floor);
            // While there is enough to do, lists that become known are taken on together.
            if self.due && !floor.idle.is_empty() && !self.stopping() {
                self.grow(floor);
                continue;
            }
            // One whose last step was told of may be about to say that it has nothing any more.
            if floor.schedule.running() == 0 && floor.at_work.iter().all(Vec::is_empty) {
                return;
            }
            let look = until_look(floor).map(|time| time.saturating_sub(looked.elapsed()));
            let until = self.log.until_due().into_iter().chain(look).min();
            let told = match until {
                None => hear.recv().map_err(RecvTimeoutError::from),
                Some(time) => hear.recv_timeout(time),
            };
            match told {
                Ok(told) => self.hear(floor, told),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            // What came together is decided together: one lookup for many.
            while let Ok(told) = hear.try_recv() {
                self.hear(floor, told);
            }
            if self.stopping() {
                self.withdraw_all(floor);
            }
            // However much there is to hear: what one worker is held up with is not the others' to wait for.
            if until_look(floor).is_some_and(|time| looked.elapsed() >= time) {
                self.look_after(floor, teller);
                looked = Instant::now();
            }
            self.note_if_due();
        }
    }

    fn note_if_due(&mut self) {
        if self.log.until_due().is_some_and(|time| time.is_zero()) {
            self.note_so_far();
        }
    }

    /// With `--only`: steps that need something that may not run fail before anything runs.
    pub(super) fn forbidden(&mut self, floor: &mut Floor<'a>) {
        if self.named.is_none() {
            return;
        }
        for step in self.plan.graph.ids() {
            if floor.schedule.phase(step.0) == Phase::Outside || !self.states[step.0 as usize].to_run {
                continue;
            }
            let mut missing = None;
            self.plan.graph.each_input(step, &mut |output| {
                let may = self.named.as_ref().is_none_or(|named| named.contains(&output.step));
                if !may && !self.states[output.step.0 as usize].settled {
                    missing.get_or_insert(output);
                }
            });
            if let Some(output) = missing {
                let report = self.not_allowed(output);
                self.fail(floor, step, report);
            }
        }
    }

    pub(super) fn not_allowed(&self, output: OutputId) -> FailureReport {
        let name = self.plan.graph.output_name(output);
        FailureReport::new(Failure {
            cause: Cause::Input,
            message: format!("its input `{name}` is not stored, and nothing upstream may run"),
            hint: Some("run it without `--only`".to_owned()),
        })
    }
}
