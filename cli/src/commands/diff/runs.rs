//! Two runs: the steps that had other versions or other content in the one than in the other.

use std::collections::BTreeMap;
use std::io::Write;

use cas_engine::difference::Known;
use cas_engine::explain::grouped;
use cas_engine::memo::Memo;
use cas_engine::record::{Drawing, DrawnStep, RunRecord, StepRecord};
use cas_store::{Found, Trace, Version};
use serde::Serialize;

use super::{Fact, fact};
use crate::args::Which;
use crate::commands::{done, out, runs as recorded};
use crate::failure::{Code, Failure};
use crate::report::{json, words};
use crate::session::World;

#[derive(Serialize)]
struct RunRow {
    step: String,
    before: Option<String>,
    after: Option<String>,
    facts: Option<Vec<Fact>>,
    /// Of one version: its content is another.
    other_content: bool,
}

pub(super) fn diff(world: &mut World, which: &Which, before: u64, after: u64) -> Result<Code, Failure> {
    let (_, store) = world.store_to_read(which)?;
    let memo = store.map_or_else(Memo::empty, Memo::new);
    let (_, was) = recorded::run(&memo, before)?;
    let (_, is) = recorded::run(&memo, after)?;
    let (steps_was, steps_is) = (versions(&memo, &was)?, versions(&memo, &is)?);
    let known = Known::default();
    let contents = Contents::of(&memo, &was, &is)?;
    let mut rows = Vec::new();
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let names: std::collections::BTreeSet<&String> = steps_was.keys().chain(steps_is.keys()).collect();
    for name in names {
        let (old, new) = (steps_was.get(name), steps_is.get(name));
        let other = match (old, new) {
            (Some(old), Some(new)) if old == new => contents.other(name)?,
            _ => None,
        };
        if old == new && other.is_none() {
            continue;
        }
        let facts = match (old.copied().flatten(), new.copied().flatten()) {
            (Some(old), Some(new)) => memo.fact_differences(&known, &old, &new)?,
            _ => None,
        };
        let cause = match (other, &facts, old, new) {
            (Some(other), ..) => other.to_owned(),
            (_, _, None, _) => format!("not in run {before}"),
            (_, _, _, None) => format!("not in run {after}"),
            (_, Some(facts), ..) if !facts.is_empty() => {
                grouped(facts).iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
            }
            _ => "what it was made of is not on record".to_owned(),
        };
        groups.entry(cause).or_default().push(name.clone());
        let hex = |version: Option<&Option<Version>>| version.copied().flatten().map(|v| v.to_string());
        rows.push(RunRow {
            step: name.clone(),
            before: hex(old),
            after: hex(new),
            facts: facts.map(|facts| facts.into_iter().map(fact).collect()),
            other_content: other.is_some(),
        });
    }
    let started = started(&was, &is);
    let mut out = out();
    let same = rows.is_empty();
    let others = rows.iter().filter(|row| row.other_content).count();
    if world.json() {
        json::document(&mut out, "diff", rows)?;
    } else {
        writeln!(out, "run {before} → run {after}")?;
        for (what, was, is) in &started {
            writeln!(out, "  {what}: {was} → {is}")?;
        }
        for (cause, steps) in &groups {
            writeln!(out, "{}: {cause}", words::several(steps))?;
        }
        let equal = steps_is.iter().filter(|(name, version)| steps_was.get(*name) == Some(version)).count();
        let (equal, what) = match others {
            0 => (equal, "the same version"),
            others => (equal - others, "the same version and content"),
        };
        writeln!(out, "{} with {what} in both", words::count(equal, "step"))?;
    }
    done(out)?;
    Ok(if same { Code::Done } else { Code::Failed })
}

/// What is known of the contents that the steps of two runs had.
struct Contents<'a> {
    memo: &'a Memo,
    /// Under which traces the steps that each of the runs did not reuse have their results.
    traces: [BTreeMap<&'a str, Trace>; 2],
    /// Those of the steps that one of them reused, as it is now.
    rows: BTreeMap<String, Found>,
    /// When each of the runs ended.
    ended: [u64; 2],
}

impl<'a> Contents<'a> {
    fn of(memo: &'a Memo, was: &'a RunRecord, is: &'a RunRecord) -> Result<Self, Failure> {
        let traces = [was, is].map(|run| {
            let trace = |step: &'a StepRecord| Some((step.step.as_str(), step.trace?));
            run.steps.iter().filter_map(trace).collect::<BTreeMap<_, _>>()
        });
        let mut reused = memo.reused(was)?;
        reused.extend(memo.reused(is)?);
        let drawings = [memo.drawing(was)?, memo.drawing(is)?];
        let first_output = |drawing: &Drawing| -> BTreeMap<String, String> {
            let of = |step: &DrawnStep| {
                let outputs = &drawing.invocations.get(step.invocation as usize)?.outputs;
                Some((step.name.clone(), outputs.first()?.clone()))
            };
            drawing.steps.iter().filter_map(of).collect()
        };
        let outputs: BTreeMap<String, String> = drawings.iter().flatten().flat_map(first_output).collect();
        let keys: Vec<(Version, Option<&str>)> = reused
            .iter()
            .map(|reused| (reused.version, outputs.get(&reused.step).map(String::as_str)))
            .collect();
        let found = memo.results_by_version(&keys)?;
        let rows = reused.into_iter().zip(found).filter_map(|(reused, found)| Some((reused.step, found?)));
        let ended = [was, is].map(|run| run.ended_ms.unwrap_or(run.noted_ms));
        Ok(Self { memo, traces, rows: rows.collect(), ended })
    }

    /// Whether a step of one version had other content in one of them than in the other, and for what, as far as is known.
    fn other(&self, step: &str) -> Result<Option<&'static str>, Failure> {
        let (Some(was), Some(is)) = (self.trace(0, step)?, self.trace(1, step)?) else { return Ok(None) };
        if was != is {
            return Ok(Some("what it consumes has other content"));
        }
        // What the earlier of the two made itself, even as it ended, it had.
        let between = self.ended[0].min(self.ended[1]) + 1..self.ended[0].max(self.ended[1]) + 1;
        let gave_way = self.memo.other_contents(&is)?;
        let again = gave_way.iter().any(|was| !was.lost_race && between.contains(&was.at_ms));
        Ok(again.then_some("it was made again with other content"))
    }

    /// The trace of a step's result in one of the runs. What a run reused is taken to have stood where the version's result
    /// stands now, if that had one by then: the present one, or one that gave way to it later.
    fn trace(&self, run: usize, step: &str) -> Result<Option<Trace>, Failure> {
        if let Some(trace) = self.traces[run].get(step) {
            return Ok(Some(*trace));
        }
        let Some(found) = self.rows.get(step) else { return Ok(None) };
        let ended = self.ended[run];
        let stood = found.record.made_ms <= ended
            || self
                .memo
                .other_contents(&found.trace)?
                .iter()
                .any(|was| !was.lost_race && was.made_ms <= ended);
        Ok(stood.then_some(found.trace))
    }
}

/// The version that each step had in a run.
fn versions(memo: &Memo, run: &RunRecord) -> Result<BTreeMap<String, Option<Version>>, Failure> {
    let mut versions: BTreeMap<String, Option<Version>> =
        run.steps.iter().map(|step| (step.step.clone(), step.version)).collect();
    versions.extend(memo.reused(run)?.into_iter().map(|reused| (reused.step, Some(reused.version))));
    Ok(versions)
}

/// What differs in how two runs were started.
fn started(was: &RunRecord, is: &RunRecord) -> Vec<(&'static str, String, String)> {
    let of = |run: &RunRecord| {
        let mode = run.mode.clone().unwrap_or_else(|| "-".to_owned());
        let words = run.command_line.iter().skip(1).cloned().collect::<Vec<_>>().join(" ");
        [
            ("pipeline", run.pipeline.clone()),
            ("command", words),
            ("combination", run.combination.clone().unwrap_or_else(|| "-".to_owned())),
            ("mode", mode),
            ("machine", run.host.clone()),
            ("program", run.program.clone()),
        ]
    };
    let pairs = of(was).into_iter().zip(of(is));
    pairs.filter(|((_, was), (_, is))| was != is).map(|((what, was), (_, is))| (what, was, is)).collect()
}
