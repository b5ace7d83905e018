//! `cas run --sweep`: one run for each combination of values, all over one pool of workers.
//!
//! This thread plans one combination after the other and begins it as soon as there is room; each is run by a thread of
//! its own, with the engine's [`Pool`] between them. Invariants: combinations begin in order; with `-j 1` one ends before
//! the next begins, unless it waits for another process; a signal is heard of once, for all.

mod dry;
mod sessions;
mod wrong;

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Instant;

use cas_engine::config::RunConfig;
use cas_engine::error::EngineError;
use cas_engine::event::Event;
use cas_engine::execute::{Cancel, HIDDEN, Stop, orphans};
use cas_engine::file;
use cas_engine::graph::Graph;
use cas_engine::memo::{Memo, Wanted};
use cas_engine::pool::Pool;
use cas_engine::run::{RunOptions, RunReport};
use cas_store::Create;

use self::sessions::Sessions;
use self::wrong::Wrong;
use super::run::{self, Planned, RunArgs};
use crate::failure::{Code, Failure};
use crate::otel::Collector;
use crate::report::lines::Detail;
use crate::report::{Report, words};
use crate::session::{Definition, Session, World};
use crate::signals::Watch;

/// More combinations than this are a mistake in the command line.
const COMBINATIONS: usize = 10_000;

/// One key with the values that it is given in turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sweep {
    key: String,
    values: Vec<String>,
}

/// A key, which of its values it is given, and that value.
type Setting<'s> = (&'s str, usize, &'s str);

/// Reads a sweep as it is typed: `train.lr=0.1,0.01`, `train.depth=4..8`.
pub(crate) fn parse(text: &str) -> Result<Sweep, String> {
    let wrong = || "give a key and its values: train.lr=0.1,0.01 or train.depth=4..8".to_owned();
    let (key, values) = text.split_once('=').ok_or_else(wrong)?;
    if key.trim().is_empty() {
        return Err(wrong());
    }
    let mut all = Vec::new();
    for value in split(values) {
        let value = value.trim();
        if value.is_empty() {
            return Err(wrong());
        }
        match value
            .split_once("..")
            .and_then(|(from, to)| Some((from.parse::<i64>().ok()?, to.parse().ok()?)))
        {
            Some((from, to)) if from > to => return Err(format!("{from} is larger than {to}")),
            Some((from, to)) => {
                if to.abs_diff(from) >= COMBINATIONS as u64 {
                    return Err(format!("{value} is more than {COMBINATIONS} values"));
                }
                all.extend((from..=to).map(|number| number.to_string()));
            }
            None => all.push(value.to_owned()),
        }
    }
    Ok(Sweep { key: key.trim().to_owned(), values: all })
}

/// Splits at commas that stand in no quotes and no brackets.
fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut depth, mut quote) = (Vec::new(), 0, 0_u32, None);
    for (at, char) in text.char_indices() {
        match (char, quote) {
            ('"' | '\'', None) => quote = Some(char),
            (char, Some(open)) if char == open => quote = None,
            (_, Some(_)) => {}
            ('[' | '{', None) => depth += 1,
            (']' | '}', None) => depth = depth.saturating_sub(1),
            (',', None) if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

/// Whether each key is given once: of two that set the same, one would be for nothing.
fn given_once(definition: &Definition, sweeps: &[Sweep]) -> Result<(), Failure> {
    for (index, sweep) in sweeps.iter().enumerate() {
        let key = &sweep.key;
        let same = |before: &&Sweep| file::sets_the_same(&definition.pipeline, &before.key, key);
        if let Some(before) = sweeps[..index].iter().find(same) {
            let also = if before.key == *key { String::new() } else { format!(", as `{}`", before.key) };
            return Err(Failure::usage(format!("`{key}` is given to --sweep twice{also}"))
                .hint(format!("give all its values at once: --sweep {key}=1,2,3")));
        }
    }
    Ok(())
}

/// Every combination, the last key changing fastest: each key with its value, and which of its values that is.
fn combinations(sweeps: &[Sweep]) -> Result<Vec<Vec<Setting<'_>>>, Failure> {
    let count = sweeps.iter().try_fold(1_usize, |count, sweep| count.checked_mul(sweep.values.len()));
    if count.is_none_or(|count| count > COMBINATIONS) {
        return Err(Failure::usage(format!("that is more than {COMBINATIONS} combinations")));
    }
    let mut all = vec![Vec::new()];
    for Sweep { key, values } in sweeps {
        all = all
            .into_iter()
            .flat_map(|begun: Vec<Setting<'_>>| {
                values.iter().enumerate().map(move |(index, value)| {
                    let mut next = begun.clone();
                    next.push((key.as_str(), index + 1, value.as_str()));
                    next
                })
            })
            .collect();
    }
    Ok(all)
}

/// What a sweep is made of.
struct Combination {
    /// Its settings, as they are shown.
    name: String,
    config: RunConfig,
}

/// Runs all combinations as one piece of work: `-j` and all limits are theirs together, and what they have in common
/// runs once.
pub(crate) fn sweep(world: &mut World, args: &RunArgs, create: Create) -> Result<Code, Failure> {
    let settings = combinations(&args.sweep)?;
    let definition = world.definition(&args.which)?.ok_or_else(crate::session::no_pipeline)?;
    given_once(&definition, &args.sweep)?;
    run::warn_of_limits(world, args, &definition.pipeline);
    // What is wrong with one of them is said before any of them runs.
    let combinations = settings
        .iter()
        .map(|settings| combination(&definition, args, settings))
        .collect::<Result<Vec<_>, _>>()?;
    if args.dry_run {
        return dry::each(world, args, &definition, &combinations, create);
    }
    let began = Instant::now();
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

/// The run config of one combination, and whether the pipeline takes it.
fn combination(
    definition: &Definition,
    args: &RunArgs,
    settings: &[Setting<'_>],
) -> Result<Combination, Failure> {
    let mut config = definition.config.clone();
    for (key, _, value) in settings {
        let value = file::without_quotes(&definition.pipeline, key, value);
        file::set(&definition.pipeline, &format!("{key}={value}"), &mut config)?;
    }
    Graph::new(Arc::clone(&definition.pipeline), args.which.mode.as_deref(), &config)
        .map_err(|diagnostics| definition.texts.explain(EngineError::Definition(diagnostics)))?;
    let shown = |(key, number, value): &Setting<'_>| match file::sets_a_secret(&definition.pipeline, key) {
        true => format!("{key}={HIDDEN}{number}"),
        false => format!("{key}={value}"),
    };
    let name = settings.iter().map(shown).collect::<Vec<_>>().join(" ");
    Ok(Combination { name, config })
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
        let time = words::duration_ms(u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX));
        (all > 1).then(|| format!("{}: {}, {time}", words::count(all, "combination"), parts.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_and_ranges_are_read_as_typed() {
        let values = |text: &str| parse(text).map(|sweep| sweep.values.join(" "));
        assert_eq!(values("a.b=0.1,0.01"), Ok("0.1 0.01".to_owned()));
        assert_eq!(values("a.b=4..8"), Ok("4 5 6 7 8".to_owned()));
        assert_eq!(values("a.b=-1..1,9"), Ok("-1 0 1 9".to_owned()));
        assert_eq!(values("a.b=[1,2],{x: 1,y: 2},'a,b'"), Ok("[1,2] {x: 1,y: 2} 'a,b'".to_owned()));
        assert_eq!(values("a.b=x..y"), Ok("x..y".to_owned()));
        for wrong in ["a.b", "=1", "a.b=", "a.b=1,,2", "a.b=8..4", "a.b=0..99999999"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn combinations_are_all_of_them_in_order() {
        let sweeps = [parse("a=1,2").expect("it is one"), parse("b=x,y").expect("it is one")];
        let shown = |one: &Vec<Setting<'_>>| {
            one.iter().map(|(key, _, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ")
        };
        let all: Vec<String> = combinations(&sweeps).expect("they are few").iter().map(shown).collect();
        assert_eq!(all, ["a=1 b=x", "a=1 b=y", "a=2 b=x", "a=2 b=y"]);
        let many = [parse("a=1..200").expect("it is one"), parse("b=1..200").expect("it is one")];
        assert!(combinations(&many).is_err());
    }
}
