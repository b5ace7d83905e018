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

mod account;
mod coordinator;
mod ended;
mod expected;
mod grow;
mod noted;
mod opened;
mod together;

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use cas_store::{Digest, Output};

use crate::attempt::{Bench, Folders};
use crate::error::EngineError;
use crate::event::{Event, Outcome, Summary};
use crate::execute::command::CommandExecutor;
use crate::execute::function::FunctionExecutor;
use crate::execute::{self, Attempt, Attempted, Cancel, Execute, blot, guard, sandbox};
use crate::graph::{Graph, OutputId, StepId};
use crate::limits::{Limits, Own};
use crate::memo::Memo;
use crate::past::Past;
use crate::plan::Plan;
use crate::pool::Turn;
use crate::publish;
use crate::record::RunRecord;
use crate::resolve::{self, Resolved, Wanted};
use crate::secrets;
use crate::solid::{Body, Sandbox};
use crate::source::Environment;
use crate::value::Config;
use coordinator::{Coordinator, Note};
use grow::Chain;
use noted::RunLog;

/// How many times in one run the producer of bytes that were found damaged is run again for them. Bytes that
/// are damaged each time they are written are a failing disk, not an accident.
const REBUILDS: u32 = 3;

/// Noting a run that took so long is noted once more: it would be seen in its last line.
const LATE_MS: u64 = 50;

/// So many results are noted as used beside noting the run.
const MANY: usize = 4096;

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
    /// Whether cores, memory and limits are shared with all other runs on the store. A run that a step started
    /// does not: it lives on what that step was given.
    pub shared: bool,
    /// Whether what does not depend on a failure still runs.
    pub keep_going: bool,
    /// Whether what each step printed is told (`StepPrinted`).
    pub show_output: bool,
    /// Whether what was kept of what reused steps printed is told (`StepPrinted`).
    pub replay_logs: bool,
    /// Whether each step that is reused before anything runs is told by itself (`StepFinished`); else it is only told how
    /// many elements of a step are (`StepsReused`). With `replay_logs` each is told.
    pub each_reused: bool,
    /// Whether it is told how long each step that is to run is expected to take (`StepsExpected`).
    pub each_expected: bool,
    /// Whether what is forced (`Wanted::force`) runs only to be compared with its result, which stays.
    pub reproduce: bool,
    /// Whether files that were not written by an earlier publish may be overwritten.
    pub overwrite: bool,
    /// The environment that steps may be passed variables from.
    pub environment: Environment,
    /// How the run is stopped.
    pub cancel: Arc<Cancel>,
    /// The command line, for the record of the run.
    pub command_line: Vec<String>,
    /// Of a sweep: the values that this run is for, without secrets, for its record.
    pub combination: Option<String>,
    /// The user's home folder, for what needs it (probes); steps have an empty one.
    pub home: Option<PathBuf>,
    /// Its place among the runs that it shares a pool of workers with, where it does.
    pub turn: Option<Turn>,
}

impl RunOptions {
    /// What there is for the run.
    pub fn limits(&self, memo: &Memo) -> Limits {
        memo.limits(Own { jobs: self.jobs, cores: cores(), memory: self.memory, limits: self.limits.clone() })
    }
}

/// The cores that this process may use.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// What a run left.
#[derive(Debug, Clone)]
pub struct RunReport {
    /// Its number in the store.
    pub run: u64,
    /// The graph as it was in the end: it grows where steps are mapped over lists. Step ids are of this one.
    pub graph: Arc<Graph>,
    /// How it ended.
    pub summary: Summary,
    /// How many of the failed steps may fail.
    pub allowed: usize,
    /// The outcome of every step of the plan that was looked at, by step id.
    pub outcomes: BTreeMap<StepId, Outcome>,
    /// The steps that gave other content than on record for the same inputs, in this run or before.
    pub differing: Vec<StepId>,
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
    // By the clock that stands still while the run is stopped: that time is nobody's.
    let began = execute::now();
    let started_ms = now_ms();
    let wanted = Wanted { at_ms: started_ms, ..options.wanted.clone() };
    publish::check(plan, Some(memo.open()?.dir())).map_err(EngineError::Definition)?;
    let mut resolved = memo.resolve(plan, &wanted)?;
    let (grown, mut given) = (OnceCell::new(), plan);
    let mut wanted = wanted;
    if !plan.graph.pending.is_empty() {
        let all;
        (all, wanted, resolved) = memo.resolve_grown(plan.clone(), wanted)?;
        given = grown.get_or_init(|| all);
    }
    let plan = given;
    let unset = secrets::unset(plan, &resolved, &options.environment);
    if !unset.is_empty() {
        return Err(EngineError::Definition(unset));
    }
    let lacking = memo.lacking(plan, &resolved, &options.limits)?;
    if !lacking.is_empty() {
        return Err(EngineError::Definition(lacking));
    }
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
        drawing: None,
        jobs: u32::try_from(options.jobs.max(1)).unwrap_or(u32::MAX),
        noted_ms: started_ms,
        running: Vec::new(),
        process: memo.process(),
        combination: options.combination.clone(),
        allowed: Vec::new(),
    };
    // Read before this run is noted: it is about those before.
    let past = match resolved.states.iter().any(|state| state.to_run) {
        true => memo.past_of(plan, &resolved.states)?,
        false => Past::default(),
    };
    let begins = options.turn.as_ref().map(Turn::begins);
    let begun = memo.begin_run(started_ms, &record)?;
    let run = begun.id();
    tell(&Event::RunStarted {
        run,
        pipeline: record.pipeline.clone(),
        mode: record.mode.clone(),
        steps: plan.steps.len(),
        to_run: resolved.states.iter().filter(|state| state.to_run).count(),
        jobs: options.jobs.max(1),
        at_ms: started_ms,
    });
    drop(begins);
    if let Some(text) = memo.common_cause(plan, &resolved)? {
        tell(&Event::Warning { text });
    }
    for text in unconfined(plan, &resolved) {
        tell(&Event::Warning { text });
    }
    let plans: Chain<Plan> = Chain::new();
    let folders = Arc::new(Folders::new(memo));
    let limits = options.limits(memo);
    let benches: Chain<Bench<'_>> = Chain::new();
    let new_bench = |plan| {
        benches.add(Bench::new(
            plan,
            memo,
            executor,
            &options.environment,
            &options.cancel,
            run,
            &host,
            options.show_output,
            options.shared.then_some(&limits),
            options.turn.as_ref(),
            Arc::clone(&folders),
        ))
    };
    let bench_of = |grown: Plan| new_bench(plans.add(grown));
    let bench = new_bench(plan);
    let mut coordinator = Coordinator {
        bench,
        bench_of: &bench_of,
        due: false,
        plan,
        memo,
        options,
        limits: &limits,
        targets: resolve::targets(plan, &wanted),
        named: wanted.only.then(|| wanted.steps.iter().copied().collect()),
        wanted,
        states: resolved.states,
        notes: plan.graph.steps.iter().map(|_| Note::default()).collect(),
        finished: 0,
        failed: false,
        broken: None,
        past,
        paces: vec![1; plan.graph.pipeline.invocations.len()],
        ran: HashMap::new(),
        differing: BTreeSet::new(),
        undeclared: BTreeSet::new(),
        logs: Vec::new(),
        log: RunLog::new(run, record.clone()),
        tell,
    };
    coordinator.only_certain();
    coordinator.settled_before();
    coordinator.expect();
    let mut published = coordinator.execute();
    // What is put into the project may turn out damaged only then: its step runs again, in the same run.
    while published.is_ok() && !coordinator.is_stopped() {
        let told = match &options.turn {
            Some(turn) => turn.publish(coordinator.is_done(), || coordinator.publish()),
            None => coordinator.publish(),
        };
        published = match told {
            Ok(lost) if lost.is_empty() => break,
            Ok(lost) => {
                lost.into_iter().for_each(|(output, what)| coordinator.lose(output, what));
                coordinator.execute()
            }
            Err(error) => Err(error),
        };
    }
    coordinator.unfinished();
    record.summary = coordinator.summary();
    let taken = memo.keep_taken(run, coordinator.plan, &coordinator.states, now_ms());
    let names = coordinator.plan.graph.step_names(&coordinator.plan.steps);
    let (steps, reused, mut logs) = coordinator.told(&names);
    record.allowed = coordinator.allowed(&names);
    let touched = coordinator.touched();
    let differing: Vec<StepId> = std::mem::take(&mut coordinator.differing).into_iter().collect();
    let graph = Arc::clone(&coordinator.plan.graph);
    let drawing = noted::drawing(coordinator.plan, &names);
    let in_the_end = coordinator.plan.steps.clone();
    let left = coordinator.left();
    drop(benches);
    // The folders of all attempts are gone when it is.
    drop(folders);
    record.steps = steps;
    // What the run has taken so far, and all that is left to be done of it is to note that.
    let end = |record: &mut RunRecord| {
        record.noted_ms = now_ms();
        record.ended_ms = Some(record.noted_ms);
        record.summary.elapsed_ms = u64::try_from(execute::since(began).as_millis()).unwrap_or(u64::MAX);
    };
    let touch = || memo.touch(&touched, started_ms);
    let (noted, (outcomes, outputs)) = thread::scope(|scope| {
        // Of many, beside the other; where no thread can be had, or for a few, before it.
        let begun = match touched.len() {
            0..MANY => None,
            _ => thread::Builder::new().name("touch".to_owned()).spawn_scoped(scope, touch).ok(),
        };
        let touched_before = if begun.is_none() { touch() } else { Ok(()) };
        end(&mut record);
        let noted =
            touched_before.and_then(|()| memo.note_run(run, &mut record, &reused, &drawing, &mut logs));
        // What is given back is put together while the other is at it.
        let reported = left.report(&in_the_end);
        let touched = begun
            .map_or(Ok(()), |begun| begun.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        (noted.and(touched), reported)
    });
    // Where noting it took its time (a disk that is busy), that is the run's as well, in its record as on the screen.
    let before = (record.noted_ms, record.ended_ms, record.summary);
    end(&mut record);
    let is_late = record.summary.elapsed_ms.saturating_sub(before.2.elapsed_ms) >= LATE_MS;
    if noted.is_err() || !is_late || memo.note_run(run, &mut record, &reused, &drawing, &mut logs).is_err() {
        (record.noted_ms, record.ended_ms, record.summary) = before;
    }
    // Until here nothing of it is collected, also where an error ends it before.
    drop(begun);
    let (summary, allowed) = (record.summary, record.allowed.len());
    // What stopped the run says more than that it could not be noted afterwards.
    published?;
    noted?;
    taken?;
    if !differing.is_empty() {
        const NAMED: usize = 5;
        let mut names: Vec<String> =
            differing.iter().take(NAMED).map(|step| format!("`{}`", graph.step_name(*step))).collect();
        if differing.len() > NAMED {
            names.push(format!("{} more", differing.len() - NAMED));
        }
        let text = format!("not deterministic: {} (the same inputs, other content)", names.join(", "));
        tell(&Event::Warning { text });
    }
    if guard::was_missed() {
        let text = "nobody stood by to end what ran, had this process been killed: no shell could be started";
        tell(&Event::Warning { text: text.to_owned() });
    }
    tell(&Event::RunFinished { summary, allowed, at_ms: now_ms() });
    Ok(RunReport { run, graph, summary, allowed, outcomes, differing, outputs })
}

/// What a run says once, where steps are to be watched or refused files and this machine cannot.
fn unconfined(plan: &Plan, resolved: &Resolved) -> Vec<String> {
    let to_run = plan.steps.iter().filter(|step| resolved.states[step.0 as usize].to_run);
    let asked: BTreeSet<bool> = to_run
        .map(|step| plan.graph.solid(*step).sandbox)
        .filter(|sandbox| *sandbox != Sandbox::Off)
        .map(|sandbox| sandbox == Sandbox::Deny)
        .collect();
    let mut texts = Vec::new();
    let refuses = asked.contains(&true) && plan.measures.confines;
    if asked.contains(&true) && !refuses {
        texts.push(
            "this kernel cannot refuse files to a step (it has no Landlock): `sandbox: deny` is as `off`, \
             and results are not those of a machine that can"
                .to_owned(),
        );
    }
    if (refuses || asked.contains(&false)) && !sandbox::hears() {
        let then =
            if refuses { "what `sandbox: deny` refuses has no name" } else { "`sandbox: warn` is as `off`" };
        texts.push(format!(
            "what a step opens cannot be heard of here (another program does, or the kernel cannot): {then}"
        ));
    }
    texts
}

/// With `--only`: an output that is not stored, that a step which is to run consumes, and that may not be made.
pub fn needed_above(plan: &Plan, resolved: &Resolved, wanted: &Wanted) -> Option<OutputId> {
    let mut needed = None;
    for &step in wanted.steps.iter().filter(|step| resolved.states[step.0 as usize].to_run) {
        plan.graph.each_input(step, &mut |output| {
            if wanted.only && !wanted.steps.contains(&output.step) {
                let above = &resolved.states[output.step.0 as usize];
                // What a volatile step left last is on record, and is not what this run would use.
                if !above.settled || !(above.absent(output.output) || above.has_bytes(output.output)) {
                    needed.get_or_insert(output);
                }
            }
        });
    }
    needed
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

    fn keep(&self, attempt: &Attempt<'_>) -> std::io::Result<()> {
        match &attempt.solid.body {
            Body::Command(_) => self.command.keep(attempt),
            Body::Function(_) => self.function.keep(attempt),
        }
    }
}

/// A command line without the secret config values that were given on it: neither the value that a secret's name
/// is set to, however it is written, nor its text anywhere else.
fn shown(plan: &Plan, words: &[String]) -> Vec<String> {
    let graph = &plan.graph;
    let configs: Vec<&Config> = graph
        .configs
        .iter()
        .chain(graph.resources.iter().map(|resource| &resource.config))
        .map(|config| &**config)
        .collect();
    let values: Vec<String> = configs.iter().flat_map(|config| config.secrets()).collect();
    let mut names: BTreeSet<&str> =
        configs.iter().flat_map(|config| config.secret.iter().map(String::as_str)).collect();
    // A secret field may take what the pipeline's own config is set to, under another name.
    let declared = graph.pipeline.invocations.iter().map(|invocation| &invocation.solid.config);
    for field in declared.flat_map(|schema| schema.fields.values()).filter(|field| field.secret) {
        names.extend(field.from_pipeline.as_deref());
    }
    let without = |word: &String| {
        // `KEY=VALUE`, or `--set=KEY=VALUE`.
        let (before, rest) = match word.strip_prefix("--set=") {
            Some(rest) => ("--set=", rest),
            None => ("", word.as_str()),
        };
        match rest.split_once('=') {
            Some((key, _)) if key.rsplit('.').next().is_some_and(|name| names.contains(name)) => {
                format!("{before}{key}={}", blot::HIDDEN)
            }
            _ => blot::hide(word, &values),
        }
    };
    words.iter().map(without).collect()
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
