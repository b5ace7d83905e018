//! `cas run`: executes what is not stored.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{ErrorKind, IsTerminal, Write};
use std::sync::Arc;

use cas_engine::error::EngineError;
use cas_engine::execute::{Cancel, orphans};
use cas_engine::forecast::{Forecast, ToRun};
use cas_engine::frozen::Frozen;
use cas_engine::graph::StepId;
use cas_engine::limits::Own;
use cas_engine::memo::{Memo, Resolved, Wanted};
use cas_engine::pipeline::Pipeline;
use cas_engine::plan::Plan;
use cas_engine::reproduce::Reproducible;
use cas_engine::run::{self, RunOptions, RunReport};
use cas_engine::select::{Selected, Selection};
use cas_engine::value::listed;
use cas_store::{Create, Digest};

use super::{done, out, status, sweep, watch};
use crate::args::{self, Which};
use crate::failure::{Code, Failure, MORE_FILES, MORE_THREADS};
use crate::otel::Collector;
use crate::report::lines::Detail;
use crate::report::{Look, Report, words};
use crate::session::{Session, World};
use crate::signals::Watch;

/// Execute what is not stored
///
/// Without STEP, what the pipeline is for: every output that no step consumes, every published one, and steps
/// without outputs. With STEP, the outputs of the steps that are named, and all that they need.
///
/// A STEP is the name of a step, `train[lr=0.1]` (or `train@lr=0.1`) for one element of it, or a glob (`tr*`).
/// `step+` means the step and all below it.
///
/// The last line counts the steps: reused, unchanged (its inputs came out the same), ran, joined (another process
/// made it), failed, skipped, cancelled, and how long it took. It is all that goes to stdout; with `--format json`
/// it is one event a line instead.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Example:
  $ cas run                                  all that the pipeline is for
  $ cas run -c maryland.yaml 'train[*]'      all elements of one step
  $ cas run --set train.lr=0.01 report       with another value
  $ cas run -n                               what would run, why and how long")]
pub(crate) struct RunArgs {
    /// Run these steps, and what they need
    #[arg(value_name = "STEP")]
    steps: Vec<String>,
    /// Run once for each of these values, and each combination (may be repeated)
    ///
    /// `train.lr=0.1,0.01` or `train.depth=4..8`, both ends included. KEY is as for --set. The combinations share `-j` and
    /// all limits, and what they have in common runs once; `cas table` compares the results.
    #[arg(long, value_name = "KEY=VALUES", value_parser = sweep::parse, help_heading = "Steps")]
    pub(crate) sweep: Vec<sweep::Sweep>,
    /// When a combination of a sweep fails, start nothing more of any
    #[arg(long, requires = "sweep", conflicts_with = "dry_run", help_heading = "Steps")]
    pub(crate) fail_fast: bool,
    /// Run nothing upstream of STEP: it has to be stored
    #[arg(long, requires = "steps", help_heading = "Steps")]
    only: bool,
    /// Leave out these steps and all below them (may be repeated)
    #[arg(long, value_name = "STEP", help_heading = "Steps")]
    exclude: Vec<String>,
    /// Want every output, also those that only other steps consume
    #[arg(long, help_heading = "Steps")]
    all: bool,
    /// Run STEP (or all) again, whatever is stored
    #[arg(long, help_heading = "Steps")]
    force: bool,
    /// Run stored steps again, and compare: what is stored stays
    ///
    /// Each STEP (or all) that is stored and not meant to change with time runs once more from the same inputs. Where
    /// its content differs, the difference is shown and noted, and cas ends with 1.
    #[arg(long, conflicts_with_all = ["force", "only"], help_heading = "Steps")]
    reproduce: bool,
    /// Of the steps to reproduce, take a part: 5%
    #[arg(long, value_name = "PART", value_parser = args::fraction, requires = "reproduce", help_heading = "Steps")]
    sample: Option<f64>,
    /// After a failure, go on with all that does not depend on it
    #[arg(short, long, help_heading = "Execution")]
    keep_going: bool,
    /// Run nothing: print what would run, why, and how long it would take
    ///
    /// The time is that of the last runs, laid out as a run with this `-j` would do it; it is said of how many steps
    /// nothing is known.
    #[arg(short = 'n', long, help_heading = "Execution")]
    pub(crate) dry_run: bool,
    /// Run so many steps at once [default: the cores there are]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65_536), help_heading = "Execution")]
    jobs: Option<u32>,
    /// Give a named limit that steps take from (may be repeated)
    #[arg(long, value_name = "NAME=N", value_parser = args::limit, help_heading = "Execution")]
    limit: Vec<(String, u32)>,
    /// Print what each step printed, after it ended
    #[arg(long, help_heading = "Execution")]
    show_output: bool,
    /// Print what each step printed, of reused ones what they printed when they ran
    #[arg(long, help_heading = "Execution")]
    replay_logs: bool,
    /// Write a trace of the run to FILE, for a viewer of traces
    ///
    /// What `cas report --as trace` gives, written when the run has ended. Perfetto's viewer reads it, and the one in
    /// Chromium.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["dry_run", "sweep"], help_heading = "Execution")]
    trace: Option<std::path::PathBuf>,
    /// Send a trace of the run to a collector of OpenTelemetry, at URL
    ///
    /// When the run has ended, over OTLP and HTTP. Without URL, to where the variables of OpenTelemetry say
    /// (OTEL_EXPORTER_OTLP_ENDPOINT), else to http://localhost:4318. In a program that was built with it.
    #[arg(long, value_name = "URL", num_args = 0..=1, require_equals = true, conflicts_with = "dry_run", help_heading = "Execution")]
    otel: Option<Option<String>>,
    /// Run, and run again whenever something that is declared changes
    ///
    /// The pipeline file, the run configs, code, inputs, files of resources: what the plan is made of. A mistake in the
    /// pipeline is told and waited out. Ctrl-C ends it; while nothing runs, with the code of the last run.
    #[arg(long, conflicts_with_all = ["dry_run", "sweep", "reproduce", "force", "trace"], help_heading = "Execution")]
    watch: bool,
    /// Let `publish` replace files that cas did not write
    #[arg(long, help_heading = "Execution")]
    overwrite: bool,
    #[command(flatten)]
    pub(crate) which: Which,
}

pub(crate) fn run(world: &mut World, args: &RunArgs) -> Result<Code, Failure> {
    // Before anything that may take its time: what it ends with does not depend on how far it was.
    world.interrupts.listen();
    if args.watch {
        return watch::watch(world, args);
    }
    // With `--only` a store is made only once it is known that something can run.
    let create = if args.dry_run || args.only { Create::Never } else { Create::IfAbsent };
    if !args.sweep.is_empty() {
        return sweep::sweep(world, args, create);
    }
    let definition = world.definition(&args.which)?.ok_or_else(crate::session::no_pipeline)?;
    warn_of_limits(world, args, &definition.pipeline);
    let mut session = world.session_of(definition, &args.which, create)?;
    let planned = planned(world, args, &session)?;
    let mut left = None;
    let code = run_planned(world, args, &mut session, &planned, &mut left, &mut || Ok(None));
    // The process ends: that a plan of many steps, and what is left of it, be taken apart piece by piece, nobody waits for.
    if let Some(store) = session.store() {
        store.ends_with_the_process();
    }
    std::mem::forget((planned, session.graph.clone(), left));
    code
}

/// Says which limits of the command line no solid takes from: a name that is written in another way limits nothing.
pub(super) fn warn_of_limits(world: &World, args: &RunArgs, pipeline: &Pipeline) {
    let there_are: BTreeSet<&str> = pipeline
        .invocations
        .iter()
        .flat_map(|invocation| invocation.solid.policy.limits.keys().map(String::as_str))
        .collect();
    for (name, _) in args.limit.iter().filter(|(name, _)| !there_are.contains(name.as_str())) {
        let names: Vec<String> = there_are.iter().map(|name| (*name).to_owned()).collect();
        let known = match names.as_slice() {
            [] => "none takes from any".to_owned(),
            names => format!("there is {}", listed(names)),
        };
        world.warn(format_args!("`--limit`: no solid takes from `{name}`: {known}"));
    }
}

/// A plan with what the command line asks for of it.
pub(super) struct Planned {
    pub(super) plan: Plan,
    selection: Selection,
    selected: Selected,
}

/// Plans what the command line asks for.
pub(super) fn planned(world: &World, args: &RunArgs, session: &Session) -> Result<Planned, Failure> {
    let selection = Selection { steps: args.steps.clone(), exclude: args.exclude.clone() };
    let selected = selection.of(&session.graph)?;
    let plan = session.plan(world, selected.plan.clone())?;
    Ok(Planned { plan, selection, selected })
}

/// What is wanted of what was planned.
pub(super) fn wanted(
    world: &World,
    args: &RunArgs,
    session: &Session,
    planned: &Planned,
) -> Result<Wanted, Failure> {
    let Planned { plan, selection, selected } = planned;
    let force = match (args.force, selected.wanted.is_empty()) {
        (false, _) => Vec::new(),
        (true, false) => selected.wanted.clone(),
        (true, true) => selected.plan.clone(),
    };
    let mut wanted = Wanted {
        steps: selected.wanted.clone(),
        all: args.all,
        force,
        only: args.only,
        at_ms: run::now_ms(),
        frozen: session.frozen,
        left_out: Vec::new(),
        again: Some(selection.asking(args.force)),
    };
    if args.reproduce {
        // What changes with time is neither run nor made anew for it, and nothing else is asked for.
        wanted.frozen = match session.frozen {
            Frozen::No => Frozen::Last,
            frozen => frozen,
        };
        let steps = reproduced(world, args, &session.memo, plan, &wanted)?;
        (wanted.steps, wanted.force, wanted.all, wanted.again) = (steps.clone(), steps, false, None);
    }
    Ok(wanted)
}

/// Runs what was planned, and puts into `left` what a run left that came to its end. Once the run hears of signals itself,
/// `before` is asked for one that came until then.
pub(super) fn run_planned(
    world: &World,
    args: &RunArgs,
    session: &mut Session,
    planned: &Planned,
    left: &mut Option<RunReport>,
    before: &mut dyn FnMut() -> std::io::Result<Option<i32>>,
) -> Result<Code, Failure> {
    let plan = &planned.plan;
    let wanted = wanted(world, args, session, planned)?;
    if args.dry_run {
        return dry(world, args, session, plan, &wanted)?.write(world, None);
    }
    ready(world, args, session, plan, &wanted)?;
    let collector = collector(world, args)?;
    let cancel = Arc::new(Cancel::default());
    let report = report(world, Vec::new())?;
    let watch = watch(world, &cancel, &report)?;
    if let Ok(Some(signal)) = before() {
        watch.came(signal);
    }
    let options = options(world, args, wanted, cancel);
    let ran = run::run(plan, &session.memo, &options, &mut |event| report.tell(0, event));
    orphans::end_all();
    let stopped = watch.code();
    // The watch holds an end of the report's channel, and the report waits for all of them.
    drop(watch);
    let told = report.finish();
    let code = match ran {
        Ok(report) => {
            let report = left.insert(report);
            code_of(world, args, &session.memo, report, collector.as_ref(), stopped)?
        }
        Err(error) => failed(error, stopped)?,
    };
    answered(code, told)
}

/// What would run of a plan.
pub(super) struct Dry {
    counts: status::Counts,
    rows: Vec<status::ToRun>,
    forecast: Forecast,
    pub(super) to_run: ToRun,
}

/// Which combination of a sweep.
pub(super) struct Nth<'a> {
    pub(super) number: usize,
    pub(super) of: usize,
    pub(super) name: &'a str,
}

/// Finds out what would run of a plan.
pub(super) fn dry(
    world: &World,
    args: &RunArgs,
    session: &Session,
    plan: &Plan,
    wanted: &Wanted,
) -> Result<Dry, Failure> {
    let mut resolved = session.memo.resolve(plan, wanted)?;
    can_run(plan, &resolved, wanted)?;
    session.memo.mark_certain(plan, &mut resolved)?;
    let lacking = session.memo.lacking(plan, &resolved, &limits(args))?;
    if !lacking.is_empty() {
        return Err(EngineError::Definition(lacking).into());
    }
    status::warn_of_secrets(world, plan, &resolved);
    let past = session.memo.past_of(plan, &resolved.states)?;
    let rows = status::to_run(&session.memo, plan, &resolved, &past, &limits(args))?;
    let lengths = session.memo.last_lengths(plan)?;
    let to_run = ToRun::of(&session.choice.dir, plan, &resolved.states, &past, &lengths);
    let limits = session.memo.limits(own(args));
    let forecast = Forecast::of(std::slice::from_ref(&to_run), &limits.capacity, jobs(args));
    Ok(Dry { counts: status::counts(plan, &resolved), rows, forecast, to_run })
}

impl Dry {
    /// Says so; of a sweep, for which combination.
    pub(super) fn write(&self, world: &World, of: Option<&Nth<'_>>) -> Result<Code, Failure> {
        let mut out = out();
        if let Some(Nth { number, of, name }) = of.filter(|_| !world.json()) {
            // Where the answer goes: in a file, too, one sees what is whose.
            writeln!(out, "sweep {number} of {of}: {}", words::on_a_line(name))?;
        }
        let combination = of.map(|nth| nth.name);
        let Self { counts, rows, forecast, .. } = self;
        status::write(world, &mut out, "run", counts, rows, Some(forecast), combination)?;
        done(out)
    }
}

/// What comes of a run whose report was told to its end, or not.
pub(super) fn answered(code: Code, told: std::io::Result<()>) -> Result<Code, Failure> {
    match told {
        Ok(()) => Ok(code),
        // Whoever waits for the answer is not to take what came of it for the whole.
        Err(error) => Err(Failure { code: code.max(Code::Failed), ..Failure::from(error) }),
    }
}

/// Sees to what a run needs before it begins: a store.
pub(super) fn ready(
    world: &World,
    args: &RunArgs,
    session: &mut Session,
    plan: &Plan,
    wanted: &Wanted,
) -> Result<(), Failure> {
    if session.store().is_none() {
        can_run(plan, &session.memo.resolve(plan, wanted)?, wanted)?;
        session.create(world, &args.which)?;
    }
    Ok(())
}

/// Where a trace is sent to, if it is. What is wrong with that is said before anything runs.
pub(super) fn collector(world: &World, args: &RunArgs) -> Result<Option<Collector>, Failure> {
    match &args.otel {
        Some(address) => Collector::new(address.as_deref(), &world.environment.vars),
        None => Ok(None),
    }
}

/// Begins to tell a run, or several by these names.
pub(super) fn report(world: &World, names: Vec<String>) -> Result<Report, Failure> {
    Report::start(look(world), world.detail(), names)
        .map_err(|error| Failure::new(Code::Store, "cannot start a thread").because(error).hint(MORE_THREADS))
}

/// Begins to watch for signals.
pub(super) fn watch(world: &World, cancel: &Arc<Cancel>, report: &Report) -> Result<Watch, Failure> {
    Watch::start(Arc::clone(cancel), report.notes(), &world.interrupts).map_err(|error| {
        let hint = if error.kind() == ErrorKind::WouldBlock { MORE_THREADS } else { MORE_FILES };
        Failure::new(Code::Store, "cannot watch for signals").because(error).hint(hint)
    })
}

/// How a run is run, as the command line asks for it.
pub(super) fn options(world: &World, args: &RunArgs, wanted: Wanted, cancel: Arc<Cancel>) -> RunOptions {
    RunOptions {
        wanted,
        jobs: jobs(args),
        memory: memory(),
        limits: limits(args),
        // What a step started has its part already, in what the step was given.
        shared: !world.environment.vars.contains_key("CAS_STEP"),
        keep_going: args.keep_going,
        show_output: args.show_output || args.replay_logs,
        replay_logs: args.replay_logs,
        each_expected: look(world) == Look::Live,
        each_reused: look(world) == Look::Json || world.detail() == Detail::Verbose,
        reproduce: args.reproduce,
        overwrite: args.overwrite,
        environment: world.environment.clone(),
        cancel,
        command_line: world.command_line.clone(),
        home: world.home(),
        combination: None,
        turn: None,
    }
}

/// What a run ended with, when its trace is where it is to go.
pub(super) fn ended(
    world: &World,
    args: &RunArgs,
    memo: &Memo,
    ran: Result<RunReport, EngineError>,
    collector: Option<&Collector>,
    stopped: Option<Code>,
) -> Result<Code, Failure> {
    match ran {
        Ok(report) => code_of(world, args, memo, &report, collector, stopped),
        Err(error) => failed(error, stopped),
    }
}

/// What comes of a run that could not go on.
fn failed(error: EngineError, stopped: Option<Code>) -> Result<Code, Failure> {
    match error {
        EngineError::Interrupted => Ok(stopped.unwrap_or(Code::Interrupted)),
        error => Err(error.into()),
    }
}

fn code_of(
    world: &World,
    args: &RunArgs,
    memo: &Memo,
    report: &RunReport,
    collector: Option<&Collector>,
    stopped: Option<Code>,
) -> Result<Code, Failure> {
    if args.trace.is_some() || collector.is_some() {
        let (run, record) = super::runs::run(memo, report.run)?;
        let chronicle = memo.chronicle(run, record)?;
        if let Some(path) = &args.trace {
            super::report::write(path, &crate::trace::trace(&chronicle))?;
        }
        if let Some(Err(what)) = collector.map(|collector| collector.send(&chronicle)) {
            world.warn(format_args!("the trace of this run was not sent: {what}"));
        }
    }
    let summary = report.summary;
    Ok(match (summary.interrupted, summary.failed - report.allowed) {
        (true, _) => stopped.unwrap_or(Code::Interrupted),
        (false, 0) if args.reproduce && !report.differing.is_empty() => Code::Failed,
        // What was wanted and not got to is not done, whatever kept the run from it.
        (false, 0) if summary.cancelled == 0 => Code::Done,
        (false, _) => Code::Failed,
    })
}

/// Whether what `--only` names has all that it needs.
fn can_run(plan: &Plan, resolved: &Resolved, wanted: &Wanted) -> Result<(), Failure> {
    let Some(output) = run::needed_above(plan, resolved, wanted) else { return Ok(()) };
    let name = plan.graph.output_name(output);
    Err(Failure::missing(format!("`{name}` is not stored, and nothing upstream may run"))
        .hint("run it without `--only`"))
}

/// The steps that are run again to be compared, or the part of them that was asked for.
fn reproduced(
    world: &World,
    args: &RunArgs,
    memo: &Memo,
    plan: &Plan,
    wanted: &Wanted,
) -> Result<Vec<StepId>, Failure> {
    let Reproducible { steps: stored, dated, accepted } = memo.reproducible(plan, wanted)?;
    let of = |(steps, why): (Vec<StepId>, &str)| {
        let names: Vec<String> =
            steps.iter().map(|step| format!("`{}`", plan.graph.step_name(*step))).collect();
        (!names.is_empty()).then(|| format!("{} ({why})", words::several(&names)))
    };
    let with_time = if dated.len() == 1 { "changes with time" } else { "change with time" };
    let left: Vec<String> = [(dated, with_time), (accepted, "accepted")].into_iter().filter_map(of).collect();
    let left = left.join(", ");
    if stored.is_empty() {
        let failure = Failure::missing("nothing is stored that could be reproduced");
        return Err(match left.as_str() {
            "" => failure.hint("`cas run` makes it"),
            left => failure.because(format_args!("left alone: {left}")),
        });
    }
    if !left.is_empty() {
        world.tell(format_args!("left alone: {left}"));
    }
    let Some(part) = args.sample else { return Ok(stored) };
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a part of a count"
    )]
    let count = ((stored.len() as f64 * part).ceil() as usize).clamp(1, stored.len());
    let all = stored.len();
    // Other ones each time, in no order that anybody chose.
    let seed = run::now_ms().to_le_bytes();
    let mut drawn: Vec<(Digest, StepId)> = stored
        .into_iter()
        .map(|step| (Digest::of(&[&seed[..], &step.0.to_le_bytes()[..]].concat()), step))
        .collect();
    drawn.sort_unstable_by_key(|(drawn, _)| *drawn);
    let mut sample: Vec<StepId> = drawn.into_iter().take(count).map(|(_, step)| step).collect();
    sample.sort_unstable();
    let names: Vec<String> = sample.iter().map(|step| plan.graph.step_name(*step)).collect();
    world.tell(format_args!(
        "reproducing {} of {}: {}",
        words::thousands(count),
        words::count(all, "stored step"),
        words::several(&names)
    ));
    Ok(sample)
}

/// What the command line and this machine say that there is for a run.
pub(super) fn own(args: &RunArgs) -> Own {
    Own { jobs: jobs(args), cores: run::cores(), memory: memory(), limits: limits(args) }
}

/// How many attempts run at once at most: one per core where nothing is said.
pub(super) fn jobs(args: &RunArgs) -> usize {
    args.jobs.map_or_else(run::cores, |jobs| jobs as usize)
}

/// Of which limits the command line says how much there is.
fn limits(args: &RunArgs) -> BTreeMap<String, u32> {
    args.limit.iter().cloned().collect()
}

/// How much memory there is for steps that say how much they need.
fn memory() -> Option<u64> {
    let system = rustix::system::sysinfo();
    u64::from(system.mem_unit).checked_mul(system.totalram)
}

fn look(world: &World) -> Look {
    if world.json() {
        return Look::Json;
    }
    // CI services show what they are given line by line, also where they give a terminal.
    let var = |name: &str| world.environment.vars.get(name).map_or("", String::as_str);
    let dumb = var("TERM") == "dumb" || !matches!(var("CI"), "" | "false");
    if std::io::stderr().is_terminal() && !dumb { Look::Live } else { Look::Lines }
}
