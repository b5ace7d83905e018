//! The loop of a run: schedule out, results in, commit, tell. The clock is read here and passed on as data.
//!
//! ```text
//!            tasks                       what they tell
//!  coordinator ──────► workers (attempt.rs) ──────► coordinator ──► events, states, schedule
//! ```
//!
//! One thread, the coordinator, owns all state; workers get values and return values over one channel. A step
//! that opens is looked at first: where its inputs' content gives a trace under which a result stands, it is
//! settled without running (early cutoff). Only one that has to run asks for the bytes of its inputs, and
//! takes back in what does not have them. Invariants: a step starts only when its inputs are settled; one trace
//! runs at most once at a time; a run uses one result of each step throughout, and what was settled on the
//! strength of another is looked at again.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use cas_store::{Digest, Found, Output, Staged, Trace, Version};

use crate::attempt::{self, Bench, Done, End, Rubbish, Stored, Task, Told};
use crate::error::EngineError;
use crate::event::{Event, FailureReport, Outcome, Summary};
use crate::execute::blot;
use crate::execute::command::CommandExecutor;
use crate::execute::function::FunctionExecutor;
use crate::execute::{Attempt, Attempted, Cancel, Cause, Execute, Failure, Stop};
use crate::graph::{OutputId, StepId};
use crate::memo::{self, Memo, Names};
use crate::plan::Plan;
use crate::publish;
use crate::record::{Reused, RunRecord, StepRecord};
use crate::resolve::{self, StepState, Targets, Wanted, Why};
use crate::schedule::{Capacity, Edges, Need, Phase, Schedule};
use crate::solid::{Body, Declared};
use crate::source::Environment;
use crate::value::Value;

/// How many times in one run the producer of bytes that were found damaged is run again for them. Bytes that
/// are damaged each time they are written are a failing disk, not an accident.
const REBUILDS: u32 = 3;

/// An attempt that took longer leaves its folder to be removed at once.
const SHORT: Duration = Duration::from_secs(1);

/// How many folders of short attempts wait to be removed together; more than that are not left lying.
const FOLDERS: usize = 4096;

/// How a plan is run.
pub struct RunOptions {
    /// What is wanted.
    pub wanted: Wanted,
    /// How many attempts run at once at most (and the cores that `cpus` are taken from).
    pub jobs: usize,
    /// How much memory there is for steps that say how much they need; `None`: it is not limited.
    pub memory: Option<u64>,
    /// How much there is of each named limit.
    pub limits: BTreeMap<String, u32>,
    /// Whether what does not depend on a failure still runs.
    pub keep_going: bool,
    /// Whether what each step printed is told (`StepPrinted`).
    pub show_output: bool,
    /// Whether files that were not written by an earlier publish may be overwritten.
    pub overwrite: bool,
    /// The environment that steps may be passed variables from.
    pub environment: Environment,
    /// How the run is stopped.
    pub cancel: Arc<Cancel>,
    /// The command line, for the record of the run.
    pub command_line: Vec<String>,
    /// The user's home folder, for what needs it (probes); steps have an empty one.
    pub home: Option<PathBuf>,
}

/// What a run left.
#[derive(Debug, Clone)]
pub struct RunReport {
    /// Its number in the store.
    pub run: u64,
    /// How it ended.
    pub summary: Summary,
    /// The outcome of every step of the plan that was looked at, by step id.
    pub outcomes: BTreeMap<StepId, Outcome>,
    /// The artifacts of every step that has a result now, by step id, in declared order.
    pub outputs: BTreeMap<StepId, Vec<Output>>,
}

/// Now, in milliseconds since 1970 (UTC).
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Runs a plan: executes what is wanted and not stored, commits it, tells what happens.
///
/// # Errors
/// The store or the machine failed. A step that fails is no error: see [`Summary::failed`].
pub fn run(
    plan: &Plan,
    memo: &Memo,
    options: &RunOptions,
    tell: &mut dyn FnMut(&Event),
) -> Result<RunReport, EngineError> {
    let function = FunctionExecutor::new(Arc::clone(&plan.graph));
    run_with(
        plan,
        memo,
        options,
        &Bodies { command: CommandExecutor::new(&options.environment), function },
        tell,
    )
}

/// Runs a plan with an executor of one's own; [`run`] takes the one that each solid's body asks for.
///
/// # Errors
/// As [`run`].
pub fn run_with(
    plan: &Plan,
    memo: &Memo,
    options: &RunOptions,
    executor: &dyn Execute,
    tell: &mut dyn FnMut(&Event),
) -> Result<RunReport, EngineError> {
    let began = Instant::now();
    let started_ms = now_ms();
    let wanted = Wanted { at_ms: started_ms, ..options.wanted.clone() };
    let resolved = memo.resolve(plan, &wanted)?;
    let host = host();
    let mut record = RunRecord {
        pipeline: plan.graph.pipeline.name.clone(),
        file: plan.graph.pipeline.file.as_ref().map(|file| file.to_string_lossy().into_owned()),
        mode: plan.graph.mode.clone(),
        command_line: shown(plan, &options.command_line),
        config: config_digest(plan),
        program: env!("CARGO_PKG_VERSION").to_owned(),
        host: host.clone(),
        started_ms,
        ended_ms: None,
        summary: Summary::default(),
        steps: Vec::new(),
        reused: None,
    };
    let run = memo.begin_run(started_ms, &record)?;
    tell(&Event::RunStarted {
        run,
        pipeline: record.pipeline.clone(),
        mode: record.mode.clone(),
        steps: plan.steps.len(),
        to_run: resolved.states.iter().filter(|state| state.to_run).count(),
        jobs: options.jobs.max(1),
        at_ms: started_ms,
    });
    let (rubbish, to_remove) = channel::<Rubbish>();
    // Folders of short attempts are removed together, not one by one between the steps: on file systems that
    // look for a free inode beside those that were just freed, removing while others are made slows each making
    // down a hundredfold for a minute (measured on ext4 without a journal). Long ones may have left much.
    let remover = thread::Builder::new().name("remover".to_owned()).spawn(move || {
        let mut waiting = Vec::new();
        for Rubbish { folder, took } in to_remove {
            if took > SHORT {
                attempt::discard(&folder);
                continue;
            }
            waiting.push(folder);
            if waiting.len() == FOLDERS {
                waiting.drain(..).for_each(|folder| attempt::discard(&folder));
            }
        }
        waiting.iter().for_each(|folder| attempt::discard(folder));
    });
    let bench = Bench::new(
        plan,
        memo,
        executor,
        &options.environment,
        &options.cancel,
        run,
        &host,
        options.show_output,
        rubbish,
    );
    let mut coordinator = Coordinator {
        bench: &bench,
        plan,
        memo,
        options,
        targets: resolve::targets(plan, &wanted),
        named: wanted.only.then(|| wanted.steps.iter().copied().collect()),
        states: resolved.states,
        notes: plan.graph.steps.iter().map(|_| Note::default()).collect(),
        finished: 0,
        failed: false,
        broken: None,
        ran: HashSet::new(),
        logs: Vec::new(),
        tell,
    };
    coordinator.only_certain();
    coordinator.settled_before();
    let mut published = coordinator.execute();
    // What is put into the project may turn out damaged only then: its step runs again, in the same run.
    for _ in 0..REBUILDS {
        if published.is_err() || coordinator.stopping() {
            break;
        }
        match coordinator.publish() {
            Ok(lost) if lost.is_empty() => break,
            Ok(lost) => {
                lost.into_iter().for_each(|(output, what)| coordinator.lose(output, what));
                published = coordinator.execute();
            }
            Err(error) => published = Err(error),
        }
    }
    coordinator.unfinished();
    let mut summary = coordinator.summary();
    summary.elapsed_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let (steps, reused, logs) = coordinator.told();
    let touched = coordinator.touched();
    let (outcomes, outputs) = coordinator.report();
    drop(bench);
    if let Ok(remover) = remover {
        // It cannot panic, and what it could not remove is left to `cas clean`.
        let _ = remover.join();
    }
    record.ended_ms = Some(now_ms());
    record.summary = summary;
    record.steps = steps;
    let noted =
        memo.touch(&touched, started_ms).and_then(|()| memo.note_run(run, &mut record, &reused, logs));
    // What stopped the run says more than that it could not be noted afterwards.
    published?;
    noted?;
    tell(&Event::RunFinished { summary, at_ms: now_ms() });
    Ok(RunReport { run, summary, outcomes, outputs })
}

/// Runs each solid by what its body is.
struct Bodies {
    command: CommandExecutor,
    function: FunctionExecutor,
}

impl Execute for Bodies {
    fn execute(&self, attempt: &Attempt<'_>) -> Attempted {
        match &attempt.solid.body {
            Body::Command(_) => self.command.execute(attempt),
            Body::Function(_) => self.function.execute(attempt),
        }
    }
}

/// A command line without the secret config values that were given on it.
fn shown(plan: &Plan, words: &[String]) -> Vec<String> {
    let graph = &plan.graph;
    let configs = graph.configs.iter().chain(graph.resources.iter().map(|resource| &resource.config));
    let secrets: Vec<String> = configs
        .flat_map(|config| config.secret.iter().filter_map(|name| config.values.get(name)))
        .map(|value| match value {
            Value::Str(text) => text.clone(),
            other => other.to_string(),
        })
        .collect();
    words.iter().map(|word| blot::hide(word, &secrets)).collect()
}

/// The name of this machine.
fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim_end().to_owned()
}

fn config_digest(plan: &Plan) -> Digest {
    let configs = plan.steps.iter().filter_map(|step| plan.base.configs.get(step.0 as usize));
    Digest::of(&configs.flat_map(|config| *config.as_bytes()).collect::<Vec<u8>>())
}

/// What the coordinator knows of a step beside its state.
#[derive(Default)]
struct Note {
    /// What became of it, as far as it was told.
    outcome: Option<Outcome>,
    /// When that was decided, among all steps.
    finished: u64,
    /// It runs whatever is stored: why.
    rerun: Option<Why>,
    /// Why it runs this time.
    why: Option<Why>,
    /// Whether a result that appears meanwhile is as good as one of its own.
    reusable: bool,
    /// The trace under which it got its result in this run, and how.
    made: Option<(Trace, Outcome)>,
    /// It is given copies only.
    private: bool,
    /// How often its bytes were found damaged in this run.
    rebuilds: u32,
    /// Whether what it runs with may have been taken back since it started.
    stale: bool,
    record: Option<Box<StepRecord>>,
}

struct Coordinator<'a> {
    bench: &'a Bench<'a>,
    plan: &'a Plan,
    memo: &'a Memo,
    options: &'a RunOptions,
    targets: Targets,
    /// With `--only`: the steps that may run.
    named: Option<BTreeSet<StepId>>,
    states: Vec<StepState>,
    notes: Vec<Note>,
    finished: u64,
    /// A step failed, and nothing more is started.
    failed: bool,
    broken: Option<EngineError>,
    /// The traces that this run computed.
    ran: HashSet<Trace>,
    logs: Vec<Staged>,
    tell: &'a mut dyn FnMut(&Event),
}

/// What is only there while workers are.
struct Floor {
    schedule: Schedule,
    tasks: Vec<Sender<Task>>,
    idle: Vec<usize>,
    /// Which step computes a trace at this moment.
    computing: HashMap<Trace, StepId>,
    /// Steps that wait for another one that computes the same trace.
    parked: BTreeMap<StepId, Vec<StepId>>,
}

impl Coordinator<'_> {
    /// Steps whose content is on record, and whose bytes only steps would need that may turn out unchanged, are
    /// not run for that: whoever really runs takes them back in.
    fn only_certain(&mut self) {
        for state in &mut self.states {
            if state.to_run && state.may_be_unchanged && state.why == Some(Why::Bytes) {
                (state.to_run, state.may_be_unchanged, state.why) = (false, false, None);
            }
        }
    }

    /// Tells the steps that have their outcome before anything runs.
    fn settled_before(&mut self) {
        let held = self.held();
        for &step in &self.plan.steps {
            let index = step.0 as usize;
            let state = &self.states[index];
            if state.to_run || !state.settled || held[index] {
                continue;
            }
            if state.skipped {
                self.finish(step, Outcome::Skipped, Some(absent_above()), None);
            } else if state.by_version {
                if any_bytes(state) {
                    self.finish(step, Outcome::Reused, None, None);
                }
            } else {
                self.unchanged(step);
            }
        }
    }

    /// The steps that are settled on record, but stand below one that is to run: what they are depends on it.
    fn held(&self) -> Vec<bool> {
        let mut held = vec![false; self.states.len()];
        if self.states.iter().all(|state| !state.to_run) {
            return held;
        }
        for &step in &self.plan.steps {
            let mut below = false;
            self.plan.graph.each_input(step, &mut |output| {
                let above = output.step.0 as usize;
                below |= held[above] || self.states[above].to_run;
            });
            held[step.0 as usize] = below;
        }
        held
    }

    /// Lets the rows of a step whose inputs' content is not new name the result that is there.
    fn unchanged(&mut self, step: StepId) -> bool {
        let Some(trace) = self.states[step.0 as usize].trace else { return false };
        let names = self.names(step);
        match self.memo.relink(trace, names, now_ms()) {
            Ok(true) => {
                self.finish(step, Outcome::Unchanged, None, None);
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
    fn names(&self, step: StepId) -> Names {
        let Some(version) = self.states[step.0 as usize].version else { return Names::default() };
        let facts = self.bench.unwritten(|wanted| {
            self.plan.facts(
                step,
                &self.bench.key,
                &mut |above| self.states[above.0 as usize].version,
                &mut |output| resolve::content(&self.states, output),
                wanted,
            )
        });
        let label = memo::label(&self.plan.graph.pipeline.name, &self.plan.graph.step_name(step));
        Names { rows: self.plan.rows(step, &version), facts, history: Some((label, version)) }
    }

    /// Whether nothing more is to be started.
    fn stopping(&self) -> bool {
        self.failed || self.broken.is_some() || self.options.cancel.now() > Stop::No
    }

    /// Runs everything that is to run, as far as that can be.
    fn execute(&mut self) -> Result<(), EngineError> {
        if self.states.iter().all(|state| !state.to_run) {
            return self.broken.take().map_or(Ok(()), Err);
        }
        let (say, hear) = channel();
        let schedule = self.schedule();
        let live = self.states.iter().filter(|state| state.to_run).count();
        let workers = self.options.jobs.max(1).min(live.max(1));
        let bench = self.bench;
        thread::scope(|scope| {
            let mut tasks = Vec::with_capacity(workers);
            for worker in 0..workers {
                let (task, given) = channel::<Task>();
                let say = say.clone();
                let work = move || {
                    for task in given {
                        let done = bench.work(worker, task, &say);
                        // The coordinator listens until all that was started is done.
                        let _ = say.send(Told::Done(Box::new(done)));
                    }
                };
                if thread::Builder::new().name(format!("worker {worker}")).spawn_scoped(scope, work).is_ok() {
                    tasks.push(task);
                }
            }
            drop(say);
            let idle = (0..tasks.len()).rev().collect();
            let mut floor =
                Floor { schedule, tasks, idle, computing: HashMap::new(), parked: BTreeMap::new() };
            if floor.tasks.is_empty() {
                let source = std::io::Error::other("no thread could be started");
                self.broken = Some(EngineError::Io { action: "start", path: "worker".into(), source });
            }
            self.conduct(&mut floor, &hear);
            self.unsettled(&floor.schedule);
        });
        self.broken.take().map_or(Ok(()), Err)
    }

    fn schedule(&self) -> Schedule {
        let graph = &self.plan.graph;
        let mut planned = vec![false; graph.steps.len()];
        self.plan.steps.iter().for_each(|step| planned[step.0 as usize] = true);
        let edges = Edges::new(graph.steps.len(), &mut |step, above| {
            if planned[step as usize] {
                graph.each_input(StepId(step), &mut |output| above.push(output.step.0));
            }
        });
        let held = self.held();
        let phases = (0..graph.steps.len())
            .map(|index| match &self.states[index] {
                _ if !planned[index] => Phase::Outside,
                state if state.to_run => Phase::Waiting,
                state if state.settled && held[index] => Phase::Waiting,
                state if state.settled => Phase::Settled,
                _ => Phase::Outside,
            })
            .collect();
        let durations: Vec<u64> = self
            .states
            .iter()
            .map(|state| {
                state.found.as_ref().filter(|_| state.to_run).map_or(0, |found| found.record.cost_ms)
            })
            .collect();
        let classes: Vec<Need> = graph
            .pipeline
            .invocations
            .iter()
            .map(|invocation| &invocation.solid.policy)
            .map(|policy| Need {
                cpus: policy.cpus,
                memory: policy.memory.unwrap_or(0),
                limits: policy.limits.clone(),
            })
            .collect();
        let capacity = Capacity {
            cpus: u32::try_from(self.options.jobs).unwrap_or(u32::MAX).max(1),
            memory: self.options.memory,
            limits: self.options.limits.clone(),
        };
        let needs = graph.steps.iter().map(|step| step.invocation).collect();
        Schedule::new(edges, phases, &durations, needs, &classes, &capacity)
    }

    /// The loop.
    fn conduct(&mut self, floor: &mut Floor, hear: &Receiver<Told>) {
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
        loop {
            self.advance(floor);
            self.dispatch(floor);
            if floor.schedule.running() == 0 {
                return;
            }
            let Ok(told) = hear.recv() else { return };
            self.hear(floor, told);
            // What came together is decided together: one lookup for many.
            while let Ok(told) = hear.try_recv() {
                self.hear(floor, told);
            }
        }
    }

    /// With `--only`: steps that need something that may not run fail before anything runs.
    fn forbidden(&mut self, floor: &mut Floor) {
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

    fn not_allowed(&self, output: OutputId) -> FailureReport {
        let name = self.plan.graph.output_name(output);
        report(Failure {
            cause: Cause::Input,
            message: format!("its input `{name}` is not stored, and nothing upstream may run"),
            hint: Some("run it without `--only`".to_owned()),
        })
    }

    /// Looks at every step that opened, until none is left.
    fn advance(&mut self, floor: &mut Floor) {
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
    fn answers(&self, ask: &[(StepId, Trace)]) -> Result<Vec<(Option<Found>, bool)>, EngineError> {
        let mut answers: Vec<(Option<Found>, bool)> = vec![(None, false); ask.len()];
        let mut keys: Vec<Version> = Vec::new();
        let mut keyed = Vec::new();
        for (index, (step, trace)) in ask.iter().enumerate() {
            let state = &self.states[step.0 as usize];
            answers[index].1 = state.row == Some(*trace);
            if self.plan.versions[step.0 as usize].is_none()
                && let Some(version) = &state.version
            {
                keys.push(resolve::row_key(self.plan.graph.solid(*step), version));
                keyed.push(index);
            }
        }
        for (index, row) in keyed.into_iter().zip(self.memo.rows(&keys)?) {
            if let Some(row) = row.filter(|row| row.trace == ask[index].1) {
                answers[index] = (Some(row), true);
            }
        }
        let open: Vec<usize> = (0..ask.len()).filter(|index| answers[*index].0.is_none()).collect();
        let traces: Vec<Trace> = open.iter().map(|index| ask[*index].1).collect();
        for (index, found) in open.into_iter().zip(self.memo.results(&traces)?) {
            answers[index].0 = found;
        }
        Ok(answers)
    }

    /// Decides about a step whose inputs are settled, or asks the store first.
    fn consider(&mut self, floor: &mut Floor, step: StepId, ask: &mut Vec<(StepId, Trace)>) {
        let index = step.0 as usize;
        if resolve::below_absent(&self.states, &self.plan.graph.steps[index]) {
            let state = &mut self.states[index];
            (state.skipped, state.settled, state.to_run, state.found) = (true, true, false, None);
            self.finish(step, Outcome::Skipped, Some(absent_above()), None);
            floor.schedule.settle(step.0);
            return;
        }
        let version = resolve::version_of(self.plan, &self.states, step);
        let trace = resolve::trace_of(self.plan, &self.states, step);
        let (Some(version), Some(trace)) = (version, trace) else {
            self.fail(
                floor,
                step,
                report(Failure {
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
    fn answered(&mut self, floor: &mut Floor, step: StepId, found: Option<Found>, by_version: bool) {
        let solid = self.plan.graph.solid(step);
        let found = found.filter(|found| resolve::fits(solid, found));
        let state = &mut self.states[step.0 as usize];
        state.settled = found.is_some();
        state.by_version = by_version && found.is_some();
        state.found = found;
        let good = state.found.as_ref().map(|found| resolve::fresh(solid, found, now_ms()));
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
    fn accept(&mut self, floor: &mut Floor, step: StepId) {
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
    fn request(&mut self, floor: &mut Floor, step: StepId, why: Why) {
        if self.stopping() {
            floor.schedule.park(step.0);
            return;
        }
        let index = step.0 as usize;
        self.states[index].to_run = true;
        self.notes[index].why = Some(why);
        let mut missing = Vec::new();
        self.plan.graph.each_input(step, &mut |output| {
            let above = &self.states[output.step.0 as usize];
            if !above.absent(output.output) && !above.has_bytes(output.output) {
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
        if missing.is_empty() {
            floor.schedule.want(step.0);
        }
        // Taking them back lets this step wait for them.
        for output in missing {
            self.rebuild(floor, output.step, true);
        }
    }

    /// A settled step has to run again, because bytes of it are gone.
    fn rebuild(&mut self, floor: &mut Floor, step: StepId, reusable: bool) {
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

    /// Gives ready steps to idle workers.
    fn dispatch(&mut self, floor: &mut Floor) {
        while !self.stopping() && !floor.idle.is_empty() {
            let Some(step) = floor.schedule.start().map(StepId) else { return };
            let index = step.0 as usize;
            let (Some(trace), Some(version)) = (self.states[index].trace, self.states[index].version) else {
                // It was wanted only after both were known.
                floor.schedule.reopen(step.0);
                continue;
            };
            let why = self.notes[index].why.unwrap_or(Why::New);
            if why != Why::Volatile {
                if let Some(&other) = floor.computing.get(&trace) {
                    floor.schedule.park(step.0);
                    floor.parked.entry(other).or_default().push(step);
                    continue;
                }
                floor.computing.insert(trace, step);
            }
            let Some(worker) = floor.idle.pop() else { return };
            self.notes[index].stale = false;
            let task = self.task(step, trace, version, why);
            if floor.tasks[worker].send(task).is_err() {
                let source = std::io::Error::other("a worker is gone");
                self.broken.get_or_insert(EngineError::Io { action: "use", path: "worker".into(), source });
                floor.schedule.park(step.0);
            }
        }
    }

    fn task(&self, step: StepId, trace: Trace, version: Version, why: Why) -> Task {
        let mut consumes = Vec::new();
        let mut above = BTreeMap::new();
        self.plan.graph.each_input(step, &mut |output| {
            let state = &self.states[output.step.0 as usize];
            above.extend(state.version.map(|version| (output.step, version)));
            consumes.push(Stored {
                output,
                artifact: state.artifact(output.output).cloned(),
                trace: state.found.as_ref().map(|found| found.trace),
            });
        });
        let note = &self.notes[step.0 as usize];
        Task {
            step,
            name: self.plan.graph.step_name(step),
            trace,
            version,
            consumes,
            above: above.into_iter().collect(),
            parents: memo::parents(self.plan, &self.states, step),
            names: self.names(step),
            why,
            private: note.private,
            reusable: note.reusable && matches!(why, Why::New | Why::Bytes),
            misfit: false,
        }
    }

    fn hear(&mut self, floor: &mut Floor, told: Told) {
        let name = |step: StepId| self.plan.graph.step_name(step);
        match told {
            Told::Started { step, attempt, why, at_ms } => {
                (self.tell)(&Event::StepStarted { step: name(step), attempt, why, at_ms });
            }
            Told::Retried { step, attempt, failure } => {
                (self.tell)(&Event::StepRetried { step: name(step), attempt, failure });
            }
            Told::Printed { step, text } => (self.tell)(&Event::StepPrinted { step: name(step), text }),
            Told::Done(done) => self.done(floor, *done),
        }
    }

    fn done(&mut self, floor: &mut Floor, done: Done) {
        let Done { worker, step, end, why, started_ms, attempts, logs } = done;
        floor.idle.push(worker);
        self.logs.extend(logs);
        let index = step.0 as usize;
        if let Some(trace) = self.states[index].trace
            && floor.computing.get(&trace) == Some(&step)
        {
            floor.computing.remove(&trace);
        }
        // A trace that was recomputed while the step ran is not the one it stands under there.
        floor.computing.retain(|_, computing| *computing != step);
        if started_ms > 0 {
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
                self.lost(floor, step, output, what);
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
    fn made(&mut self, floor: &mut Floor, step: StepId, found: Found, outcome: Outcome, differs: bool) {
        let index = step.0 as usize;
        // Of a step whose result is good for one run, or for a while, other content is what was asked for.
        let dated =
            matches!(self.plan.graph.solid(step).version, Some(Declared::Volatile | Declared::Every(_)));
        if differs && !dated {
            let name = self.plan.graph.step_name(step);
            let text = format!("`{name}` gave other content than before for the same inputs");
            (self.tell)(&Event::Warning { text });
        }
        let trace = found.trace;
        let outcome = match outcome {
            // What another step of this very run made is no work of somebody else's.
            Outcome::Joined if self.ran.contains(&trace) => Outcome::Reused,
            outcome => outcome,
        };
        if outcome == Outcome::Ran {
            self.ran.insert(trace);
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
        if floor.schedule.hopeless(step.0) {
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
    fn lost(&mut self, floor: &mut Floor, step: StepId, output: OutputId, what: String) {
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
                report(Failure {
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

    fn gone(&mut self, output: OutputId) {
        let found = self.states[output.step.0 as usize].found.as_mut();
        if let Some(present) = found.and_then(|found| found.present.get_mut(usize::from(output.output))) {
            *present = false;
        }
    }

    /// Bytes were found gone when they were to be put into the project.
    fn lose(&mut self, output: OutputId, what: String) {
        (self.tell)(&Event::Damaged { output: self.plan.graph.output_name(output), what });
        self.gone(output);
        let index = output.step.0 as usize;
        self.states[index].to_run = true;
        self.states[index].why = Some(Why::Bytes);
        self.notes[index].made = None;
    }

    /// A step failed, and what is below it is skipped.
    fn fail(&mut self, floor: &mut Floor, step: StepId, report: FailureReport) {
        let index = step.0 as usize;
        let rebuilt =
            self.notes[index].rerun == Some(Why::Bytes) || self.notes[index].why == Some(Why::Bytes);
        // A result that could not be rebuilt is still on record.
        self.states[index].settled &= rebuilt;
        self.states[index].to_run = false;
        let why = Some(format!("`{}` failed", self.plan.graph.step_name(step)));
        self.finish(step, Outcome::Failed, None, Some(report));
        let ended = floor.schedule.end(step.0);
        for below in ended.into_iter().map(StepId) {
            self.ended_below(floor, below, why.clone());
        }
        self.failed |= !self.options.keep_going;
    }

    /// A step that ended because something above it failed. Where its own result is on record, for the very
    /// content that is on record above it, it is as good as it was.
    fn ended_below(&mut self, floor: &Floor, step: StepId, why: Option<String>) {
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
        self.finish(step, Outcome::Skipped, why, None);
    }

    /// A step that ran while something above it was taken back, which then failed.
    fn skip(&mut self, floor: &mut Floor, step: StepId) {
        self.states[step.0 as usize].settled = false;
        let why = Some("something above it failed".to_owned());
        self.finish(step, Outcome::Skipped, why.clone(), None);
        for below in floor.schedule.end(step.0).into_iter().map(StepId) {
            self.ended_below(floor, below, why.clone());
        }
    }

    fn record(&mut self, step: StepId) -> &mut StepRecord {
        let name = || self.plan.graph.step_name(step);
        self.notes[step.0 as usize].record.get_or_insert_with(|| {
            Box::new(StepRecord {
                step: name(),
                version: None,
                trace: None,
                outcome: Outcome::Cancelled,
                why: None,
                started_ms: 0,
                elapsed_ms: 0,
                attempts: Vec::new(),
            })
        })
    }

    /// Tells what became of a step.
    fn finish(
        &mut self,
        step: StepId,
        outcome: Outcome,
        why: Option<String>,
        failure: Option<FailureReport>,
    ) {
        let index = step.0 as usize;
        self.finished += 1;
        self.notes[index].finished = self.finished;
        self.notes[index].outcome = Some(outcome);
        if outcome != Outcome::Reused || self.notes[index].record.is_some() {
            let (version, trace) = (self.states[index].version, self.states[index].trace);
            let record = self.record(step);
            record.outcome = outcome;
            record.version = version;
            record.trace = trace;
            if why.is_some() {
                record.why = why;
            }
            if let (Some(report), true) = (&failure, record.attempts.is_empty()) {
                record.why.get_or_insert_with(|| report.failure.message.clone());
            }
        }
        let elapsed_ms = self.notes[index].record.as_ref().map_or(0, |record| record.elapsed_ms);
        let saved_ms = self.saved(step);
        (self.tell)(&Event::StepFinished {
            step: self.plan.graph.step_name(step),
            outcome,
            elapsed_ms,
            saved_ms,
            failure,
            at_ms: now_ms(),
        });
    }

    /// How long making the result took once that this step did not have to make.
    fn saved(&self, step: StepId) -> u64 {
        match self.notes[step.0 as usize].outcome {
            Some(Outcome::Reused | Outcome::Unchanged | Outcome::Joined) => {
                self.states[step.0 as usize].found.as_ref().map_or(0, |found| found.record.cost_ms)
            }
            Some(Outcome::Ran | Outcome::Failed | Outcome::Skipped | Outcome::Cancelled) | None => 0,
        }
    }

    /// What was taken back in and was not settled again has no outcome yet, whatever was told of it.
    fn unsettled(&mut self, schedule: &Schedule) {
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
    fn unfinished(&mut self) {
        for &step in &self.plan.steps {
            let index = step.0 as usize;
            if self.notes[index].outcome.is_none() && self.states[index].to_run {
                self.finish(step, Outcome::Cancelled, None, None);
            }
        }
    }

    /// Puts what is published into the project; gives the outputs whose bytes turned out to be gone.
    fn publish(&mut self) -> Result<Vec<(OutputId, String)>, EngineError> {
        let placed = publish::placed(&self.plan.graph);
        let mut ready = Vec::with_capacity(placed.len());
        for placed in placed {
            let state = &self.states[placed.output.step.0 as usize];
            let done = state.settled && self.notes[placed.output.step.0 as usize].outcome.is_some();
            if let Some(artifact) = state.artifact(placed.output.output).filter(|_| done) {
                ready.push((placed, artifact.clone()));
            }
        }
        publish::publish(self.plan, self.memo, &ready, self.options.overwrite, self.tell)
    }

    fn summary(&self) -> Summary {
        let mut summary = Summary { interrupted: self.options.cancel.now() > Stop::No, ..Summary::default() };
        for &step in &self.plan.steps {
            if let Some(outcome) = self.notes[step.0 as usize].outcome {
                summary.count(outcome);
                summary.saved_ms += self.saved(step);
            }
        }
        summary
    }

    /// What is noted of the run: what was done, what was reused, and the logs to be kept with it.
    fn told(&mut self) -> (Vec<StepRecord>, Vec<Reused>, Vec<Staged>) {
        let mut steps: Vec<(u64, StepRecord)> = Vec::new();
        let mut reused = Vec::new();
        for &step in &self.plan.steps {
            let note = &mut self.notes[step.0 as usize];
            if let Some(record) = note.record.take() {
                steps.push((note.finished, *record));
            } else if note.outcome == Some(Outcome::Reused)
                && let Some(version) = self.states[step.0 as usize].version
            {
                reused.push(Reused { step: self.plan.graph.step_name(step), version });
            }
        }
        steps.sort_by_key(|(finished, _)| *finished);
        let steps = steps.into_iter().map(|(_, record)| record).collect();
        (steps, reused, std::mem::take(&mut self.logs))
    }

    /// The results that were used without being made.
    fn touched(&self) -> Vec<Trace> {
        let used = |step: &&StepId| {
            matches!(
                self.notes[step.0 as usize].outcome,
                Some(Outcome::Reused | Outcome::Unchanged | Outcome::Joined)
            )
        };
        let trace = |step: &StepId| Some(self.states[step.0 as usize].found.as_ref()?.trace);
        self.plan.steps.iter().filter(used).filter_map(trace).collect()
    }

    fn report(self) -> (BTreeMap<StepId, Outcome>, BTreeMap<StepId, Vec<Output>>) {
        let outcomes = self
            .plan
            .steps
            .iter()
            .filter_map(|step| Some((*step, self.notes[step.0 as usize].outcome?)))
            .collect();
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

/// Whether anything of a result is there to be reused.
fn any_bytes(state: &StepState) -> bool {
    state
        .found
        .as_ref()
        .is_some_and(|found| found.present.is_empty() || found.present.iter().any(|present| *present))
}

fn absent_above() -> String {
    "something that it consumes was not produced".to_owned()
}

/// A failure without an attempt.
fn report(failure: Failure) -> FailureReport {
    FailureReport { failure, log_tail: String::new(), folder: None, attempts: 0 }
}
