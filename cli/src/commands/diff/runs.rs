//! Two runs: the steps that had other versions or other content in the one than in the other.

use std::collections::BTreeMap;
use std::io::Write;

use cas_engine::difference::Known;
use cas_engine::event::Outcome;
use cas_engine::explain::grouped;
use cas_engine::memo::Memo;
use cas_engine::record::{Drawing, DrawnStep, RunRecord, StepRecord};
use cas_store::{Found, Trace, Version};
use serde::Serialize;

use super::{Fact, fact};
use crate::args::Which;
use crate::commands::{done, out, runs as recorded};
use crate::failure::{Code, Failure};
use crate::report::{json, started, words};
use crate::session::World;

#[derive(Serialize)]
struct RunRow {
    step: String,
    before: Option<String>,
    after: Option<String>,
    facts: Option<Vec<Fact>>,
    /// Of one version: its content is another.
    other_content: bool,
    /// What became of it there, where it has no result.
    unmade_before: Option<String>,
    unmade_after: Option<String>,
}

pub(super) fn diff(world: &mut World, which: &Which, before: u64, after: u64) -> Result<Code, Failure> {
    let (_, store) = world.store_to_read(which)?;
    let memo = store.map_or_else(Memo::empty, Memo::new);
    let (_, was) = recorded::run(&memo, before)?;
    let (_, is) = recorded::run(&memo, after)?;
    let (steps_was, steps_is) = (versions(&memo, &was)?, versions(&memo, &is)?);
    let known = Known::default();
    let contents = Contents::of(&memo, &was, &is)?;
    let unmade = [unmade(before, &was), unmade(after, &is)];
    let mut rows = Vec::new();
    // How many of them are of one version.
    let mut others = 0_usize;
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let names: std::collections::BTreeSet<&String> = steps_was.keys().chain(steps_is.keys()).collect();
    for name in names {
        let (old, new) = (steps_was.get(name), steps_is.get(name));
        let other = match (old, new) {
            (Some(old), Some(new)) if old == new => contents.other(name)?,
            _ => None,
        };
        let unmade = [0, 1].map(|run| unmade[run].get(name.as_str()).cloned());
        if old == new && other.is_none() && unmade[0].is_some() == unmade[1].is_some() {
            continue;
        }
        others += usize::from(old == new);
        let facts = match (old.copied().flatten(), new.copied().flatten()) {
            (Some(old), Some(new)) if old != new => memo.fact_differences(&known, &old, &new)?,
            _ => None,
        };
        let mut causes: Vec<String> = unmade.iter().flatten().cloned().collect();
        match (other, &facts, old, new) {
            (Some(other), ..) => causes.push(other.to_owned()),
            (_, _, None, _) => causes.push(format!("not in run {before}")),
            (_, _, _, None) => causes.push(format!("not in run {after}")),
            (_, Some(facts), ..) if !facts.is_empty() => {
                causes.extend(grouped(facts).iter().map(ToString::to_string));
            }
            _ if causes.is_empty() => causes.push("what it was made of is not on record".to_owned()),
            _ => {}
        }
        let cause = causes.join("; ");
        groups.entry(cause).or_default().push(name.clone());
        let [unmade_before, unmade_after] = unmade;
        let hex = |version: Option<&Option<Version>>| version.copied().flatten().map(|v| v.to_string());
        rows.push(RunRow {
            step: name.clone(),
            before: hex(old),
            after: hex(new),
            facts: facts.map(|facts| facts.into_iter().map(fact).collect()),
            other_content: other.is_some(),
            unmade_before,
            unmade_after,
        });
    }
    let mut out = out();
    let same = rows.is_empty();
    if world.json() {
        json::document(&mut out, "diff", rows)?;
    } else {
        writeln!(out, "run {before} → run {after}")?;
        for [what, was, is] in started::differences(&was, &is) {
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

/// The steps that have no result from a run, each with what became of it there.
fn unmade<'r>(number: u64, run: &'r RunRecord) -> BTreeMap<&'r str, String> {
    let ended = |step: &'r StepRecord| {
        let why = match step.outcome {
            Outcome::Failed => {
                let failure = step.attempts.last().and_then(|attempt| attempt.failure.as_ref());
                failure.map(|failure| &failure.message).or(step.why.as_ref())
            }
            Outcome::Skipped => step.why.as_ref(),
            Outcome::Cancelled => None,
            Outcome::Reused | Outcome::Unchanged | Outcome::Ran | Outcome::Joined => return None,
        };
        let why = why.map_or(String::new(), |why| format!(": {why}"));
        Some((step.step.as_str(), format!("{} in run {number}{why}", step.outcome.word())))
    };
    run.steps.iter().filter_map(ended).collect()
}
