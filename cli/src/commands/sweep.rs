//! `cas run --sweep`: one run for each combination of values, all over one pool of workers.
//!
//! This thread plans one combination after the other and begins it as soon as there is room; each is run by a thread of
//! its own, with the engine's [`Pool`] between them. Invariants: combinations begin in order; with `-j 1` one ends before
//! the next begins, unless it waits for another process; a signal is heard of once, for all.

mod dry;
mod sessions;
mod typed;
mod wrong;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Instant;

use cas_engine::config::RunConfig;
use cas_engine::error::EngineError;
use cas_engine::event::Event;
use cas_engine::execute::{self, Cancel, Stop, orphans};
use cas_engine::memo::{Memo, Wanted};
use cas_engine::pool::Pool;
use cas_engine::run::{RunOptions, RunReport};
use cas_store::Create;

use self::sessions::Sessions;
use self::typed::Setting;
pub(crate) use self::typed::{Sweep, parse};
use self::wrong::Wrong;
use super::run::{self, Planned, RunArgs};
use crate::failure::{Code, Failure};
use crate::otel::Collector;
use crate::report::lines::Detail;
use crate::report::{Report, words};
use crate::session::{Definition, Session, World};
use crate::signals::Watch;

/// What a sweep is made of.
struct Combination {
    /// Its settings, as they are shown.
    name: String,
    config: RunConfig,
}

/// Runs all combinations as one piece of work: `-j` and all limits are theirs together, and what they have in common
/// runs once.
pub(crate) fn sweep(world: &mut World, args: &RunArgs, create: Create) -> Result<Code, Failure> {
    let settings = typed::combinations(&args.sweep)?;
    let definition = world.definition(&args.which)?.ok_or_else(crate::session::no_pipeline)?;
    typed::check(&definition.pipeline, &args.sweep, &args.which.set)?;
    run::warn_of_limits(world, args, &definition.pipeline);
    let (combinations, unfit) = combined(&definition, args, &settings);
    if args.dry_run {
        return dry::each(world, args, &definition, &combinations, unfit, create);
    }
    // What is wrong with one of them is said before any of them runs.
    if !unfit.is_empty() {
        return refused(world, &combinations, &unfit);
    }
    let began = execute::now();
    let names: Vec<String> = combinations.iter().map(|combination| combination.name.clone()).collect();
    let cancel = Arc::new(Cancel::default());
    let collector = run::collector(world, args)?;
    let report = run::report(world, names)?;
    let watch = run::watch(world, &cancel, &report)?;
    let mut sweep = Sweeping {
        world,
        args,
        sessions: Sessions::new(world, &args.which, &definition, create),
        combinations: &combinations,
        report: &report,
        watch: &watch,
        cancel: &cancel,
        collector: collector.as_ref(),
        worst: Code::Done,
        done: 0,
        failed: 0,
        first_failed: None,
        wrong: Wrong::default(),
        broken: None,
    };
    sweep.all();
    orphans::end_all();
    let (code, broken, same, told) =
        (sweep.worst, sweep.broken.take(), sweep.wrong.same(&combinations), sweep.told(began));
    drop(sweep);
    for line in same.into_iter().chain(told.filter(|_| world.detail() > Detail::Quiet)) {
        report.notes().say(line);
    }
    // The watch holds an end of the report's channel, and the report waits for all of them.
    drop(watch);
    let told = report.finish();
    match broken {
        Some(failure) => Err(failure),
        None => run::answered(code, told),
    }
}

/// The combinations, and what is wrong with those of them that the pipeline does not take, by their places.
fn combined(
    definition: &Definition,
    args: &RunArgs,
    all: &[Vec<Setting<'_>>],
) -> (Vec<Combination>, BTreeMap<usize, Failure>) {
    let (mut combinations, mut unfit) = (Vec::with_capacity(all.len()), BTreeMap::new());
    for (place, settings) in all.iter().enumerate() {
        let mut config = definition.config.clone();
        if let Err(failure) = typed::set(definition, args, settings, &mut config) {
            unfit.insert(place, failure);
        }
        let name = typed::name(&definition.pipeline, settings);
        combinations.push(Combination { name, config });
    }
    (combinations, unfit)
}

/// Nothing is run where something of it could not be, as nothing is where a value given to `--set` is wrong.
fn refused(
    world: &World,
    combinations: &[Combination],
    unfit: &BTreeMap<usize, Failure>,
) -> Result<Code, Failure> {
    let mut wrong = Wrong::default();
    for (place, failure) in unfit {
        wrong.tell(world, combinations, *place, failure)?;
    }
    wrong.tell_same(world, combinations);
    Ok(unfit.values().map(|failure| failure.code).max().unwrap_or(Code::Usage))
}

/// A sweep that goes on.
struct Sweeping<'a> {
    world: &'a World,
    args: &'a RunArgs,
    sessions: Sessions<'a>,
    combinations: &'a [Combination],
    report: &'a Report,
    watch: &'a Watch,
    cancel: &'a Arc<Cancel>,
    collector: Option<&'a Collector>,
    worst: Code,
    done: usize,
    failed: usize,
    /// The first of them, until it is told that it ends the others.
    first_failed: Option<usize>,
    wrong: Wrong,
    /// What ends all of them.
    broken: Option<Failure>,
}

/// A combination that can be run.
struct Ready {
    session: Session,
    planned: Planned,
    wanted: Wanted,
}

impl Ready {
    /// Whether a declared file is another one since this was planned: the combination is one of what is there when it
    /// begins.
    fn is_stale(&self) -> bool {
        let plan = &self.planned.plan;
        plan.measures.changed(&plan.graph.pipeline.folder).is_some()
    }
}

/// What came of one.
struct End {
    place: usize,
    memo: Memo,
    ran: Result<RunReport, EngineError>,
}

impl Sweeping<'_> {
    /// Runs all of them.
    fn all(&mut self) {
        let (report, combinations) = (self.report, self.combinations);
        let jobs = run::jobs(self.args);
        let mut pool: Option<Arc<Pool>> = None;
        let (say, ends) = channel::<End>();
        thread::scope(|scope| {
            let mut running = 0;
            // What a probe answers is not planned with before there is room.
            let mut asks = false;
            for (place, Combination { name, .. }) in combinations.iter().enumerate() {
                // One is planned ahead, so that nobody has to wait for that.
                let mut ready = if asks { None } else { self.plan(place) };
                if let Some(ready) = &ready {
                    pool.get_or_insert_with(|| {
                        Pool::new(ready.session.memo.limits(run::own(self.args)).capacity)
                    });
                } else if !asks && !self.is_over() {
                    continue;
                }
                if let Some(pool) = &pool {
                    while !self.is_over() {
                        // Where one ended, so that there is room, it has said what came of it.
                        let has_room = pool.has_room(jobs);
                        while let Ok(end) = ends.try_recv() {
                            running -= 1;
                            self.ended(end, pool);
                        }
                        if has_room {
                            break;
                        }
                    }
                }
                if !self.is_over() && ready.as_ref().is_none_or(Ready::is_stale) {
                    ready = self.plan(place);
                }
                if self.is_over() {
                    self.stopped();
                    break;
                }
                let (Some(pool), Some(Ready { session, planned, wanted })) = (&pool, ready) else { continue };
                asks = planned.plan.measures.has_probes();
                let turn = Some(pool.turn(place, session.choice.dir.clone()));
                let combination = Some(name.clone());
                let options = run::options(self.world, self.args, wanted, Arc::clone(self.cancel));
                let options = RunOptions { combination, turn, ..options };
                let (say, memo) = (say.clone(), session.memo);
                let go = move || {
                    let mut tell = |event: &Event| report.tell(place, event);
                    let ran = cas_engine::run::run(&planned.plan, &memo, &options, &mut tell);
                    // Whoever looks for room once this turn is over finds the end told.
                    let _ = say.send(End { place, memo, ran });
                };
                match thread::Builder::new().name(format!("run {place}")).spawn_scoped(scope, go) {
                    Ok(_) => running += 1,
                    Err(error) => {
                        self.broken = Some(Failure::new(Code::Store, "cannot start a thread").because(error));
                        break;
                    }
                }
            }
            if let Some(pool) = pool.filter(|_| running > 0) {
                if self.is_over() {
                    self.close(&pool);
                }
                drop(say);
                while let Ok(end) = ends.recv() {
                    self.ended(end, &pool);
                }
            }
        });
    }

    /// Plans a combination. What is wrong with it is told, and is no reason to stop the others.
    fn plan(&mut self, place: usize) -> Option<Ready> {
        match self.planned(place) {
            Ok(ready) => Some(ready),
            Err(failure) => {
                self.report.not_to_come();
                self.fail(place, failure);
                None
            }
        }
    }

    fn planned(&mut self, place: usize) -> Result<Ready, Failure> {
        let (world, args) = (self.world, self.args);
        let mut session = self.sessions.of(&self.combinations[place])?;
        let planned = run::planned(world, args, &session)?;
        let wanted = run::wanted(world, args, &session, &planned)?;
        run::ready(world, args, &mut session, &planned.plan, &wanted)?;
        // Before that there may be none.
        self.sessions.keep(&session);
        Ok(Ready { session, planned, wanted })
    }

    /// Takes in what came of one.
    fn ended(&mut self, end: End, pool: &Pool) {
        let End { place, memo, ran } = end;
        // Another one failed, and what this one had not begun by then is not done.
        let was_stopped = self.args.fail_fast
            && self.worst > Code::Done
            && ran.as_ref().is_ok_and(|report| {
                let summary = &report.summary;
                summary.cancelled > 0 && summary.failed == report.allowed && report.differing.is_empty()
            });
        match run::ended(self.world, self.args, &memo, ran, self.collector, self.watch.code()) {
            Ok(Code::Done) => self.done += 1,
            Ok(code) => {
                self.worst = self.worst.max(code);
                let failed = code == Code::Failed && !was_stopped;
                self.failed += usize::from(failed);
                self.first_failed = self.first_failed.or(failed.then_some(place));
            }
            Err(failure) => self.fail(place, failure),
        }
        if self.is_over() {
            self.close(pool);
        }
    }

    /// Nothing more is started, of any. Where a failure is the reason, that is told once it is so.
    fn close(&mut self, pool: &Pool) {
        pool.close();
        let goes_on = self.done + self.failed < self.combinations.len();
        let failed = self.first_failed.take().filter(|_| self.args.fail_fast && goes_on);
        let Some(place) = failed.filter(|_| self.world.detail() > Detail::Quiet) else { return };
        let name = words::on_a_line(&self.combinations[place].name);
        self.report.notes().say(format!("{name} failed: nothing more is started"));
    }

    /// One could not be run. Where the reason concerns all, all are ended.
    fn fail(&mut self, place: usize, failure: Failure) {
        // It was told when the signal came.
        if self.cancel.now() > Stop::No || failure.code >= Code::Interrupted {
            self.worst = self.worst.max(failure.code.max(Code::Interrupted));
            self.cancel.request(Stop::Gently);
            return;
        }
        if failure.code >= Code::Store {
            self.broken.get_or_insert(failure);
            return;
        }
        self.failed += 1;
        self.first_failed.get_or_insert(place);
        self.worst = self.worst.max(failure.code);
        if let Some(told) = self.wrong.note(self.combinations, place, &failure) {
            self.report.notes().say(told);
        }
        if self.world.json() && !failure.problems.is_empty() {
            self.report.document(wrong::json(self.combinations, place, &failure));
        }
    }

    /// Not all were begun: if that is because of a signal, that is what it ends with.
    fn stopped(&mut self) {
        if self.cancel.now() > Stop::No {
            self.worst = self.worst.max(self.watch.code().unwrap_or(Code::Interrupted));
        }
    }

    /// Whether no more of them is begun.
    fn is_over(&self) -> bool {
        self.broken.is_some()
            || self.cancel.now() > Stop::No
            || (self.args.fail_fast && self.worst > Code::Done)
    }

    /// What is said of all of them in the end.
    fn told(&self, began: Instant) -> Option<String> {
        let all = self.combinations.len();
        let rest = all - self.done - self.failed;
        let mut parts = vec![format!("{} done", words::thousands(self.done))];
        if self.failed > 0 {
            parts.push(format!("{} failed", words::thousands(self.failed)));
        }
        if rest > 0 {
            parts.push(format!("{} not done", words::thousands(rest)));
        }
        let time = words::duration_ms(u64::try_from(execute::since(began).as_millis()).unwrap_or(u64::MAX));
        (all > 1).then(|| format!("{}: {}, {time}", words::count(all, "combination"), parts.join(", ")))
    }
}
