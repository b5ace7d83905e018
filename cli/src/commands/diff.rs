//! `cas diff`: what two versions, or two runs, differ in.

use std::collections::BTreeMap;
use std::io::Write;

use cas_engine::difference::{self, ContentDifference, EntryDifference, Known, ValueDifference};
use cas_engine::explain::{Difference, grouped};
use cas_engine::memo::{self, Memo};
use cas_engine::record::{Drawing, DrawnStep, RunRecord, StepRecord};
use cas_store::{Found, Trace, Version};
use serde::Serialize;

use super::{done, out, runs};
use crate::address::{Ground, Item};
use crate::args::Which;
use crate::failure::{Code, Failure};
use crate::report::{json, words};
use crate::session::World;

/// Show what two versions, or two runs, differ in
///
/// Of two versions: the facts that they were made of, by name, and the content: JSON by value, text by line, folders
/// by entry, anything else by size. VERSION is `step.output`, `step`, or four digits or more of a version's hex.
///
/// Two whole numbers are runs: what differs in how they were started, and the steps that had other versions or other
/// content in the one than in the other, grouped by cause.
///
/// Ends with 1 where there is a difference.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Example:
  $ cas diff train 1f0c5a
  $ cas diff 'train[lr=0.1].metrics' 'train[lr=0.01].metrics'
  $ cas diff 11 12")]
pub(crate) struct DiffArgs {
    /// Compare this, a version or a run
    #[arg(value_name = "A")]
    before: String,
    /// With this
    #[arg(value_name = "B")]
    after: String,
    /// Show so many lines of each content at most
    #[arg(long, value_name = "N", default_value_t = 100)]
    lines: usize,
    #[command(flatten)]
    which: Which,
}

#[derive(Serialize)]
struct Row {
    before: String,
    after: String,
    same: bool,
    facts: Option<Vec<Fact>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<Content>,
}

#[derive(Serialize)]
struct Fact {
    label: String,
    before: Option<String>,
    after: Option<String>,
}

#[derive(Serialize)]
#[serde(tag = "kind", content = "differences", rename_all = "lowercase")]
enum Content {
    Same,
    Absent([bool; 2]),
    Kind([&'static str; 2]),
    Json(Vec<ValueDifference>),
    Text(Vec<String>),
    Folder(Vec<EntryDifference>),
    Bytes([u64; 2]),
    Unknown(String),
}

pub(crate) fn diff(world: &mut World, args: &DiffArgs) -> Result<Code, Failure> {
    if let (Ok(before), Ok(after)) = (args.before.parse::<u64>(), args.after.parse::<u64>()) {
        return of_runs(world, args, before, after);
    }
    let ground = Ground::new(world, &args.which)?;
    let store = ground.store()?.clone();
    let memo = Memo::new(store.clone());
    let names = [args.before.clone(), args.after.clone()];
    let before = ground.find(world, &names[..1])?;
    let after = ground.find(world, &names[1..])?;
    let mut known = Known::default();
    for addressed in [&before, &after] {
        if let Some((plan, resolved)) = &addressed.plan {
            known.extend(memo.known(plan, resolved));
        }
    }
    let step_of = |addressed: &crate::address::Addressed, item: &Item| -> Result<Option<Version>, Failure> {
        if let (Some((plan, resolved)), Some(output)) = (&addressed.plan, item.output) {
            let step = output.step.0 as usize;
            // What is below something that every run makes anew has none before a run: it is looked up by what was left.
            if let Some(version) = resolved.states[step].version.or(plan.versions[step]) {
                return Ok(Some(version));
            }
        }
        let Some(found) = &item.found else { return Ok(None) };
        Ok(store.provenance(&found.trace)?.as_deref().and_then(memo::provenance).map(|made| made.version))
    };
    let pairs = pairs(&names, &before.items, &after.items)?;
    let mut rows = Vec::new();
    let mut texts = Vec::new();
    for (was, is) in pairs {
        let versions = (step_of(&before, was)?, step_of(&after, is)?);
        let facts = match versions {
            (Some(was), Some(is)) => memo.fact_differences(&known, &was, &is)?,
            _ => None,
        };
        let content = match (unstored(was), unstored(is)) {
            (None, None) => {
                let (was, is) = (was.artifact.as_ref(), is.artifact.as_ref());
                Ok(difference::contents(&store, was, is)?)
            }
            (Some(why), _) | (None, Some(why)) => Err(why),
        };
        let same = facts.as_ref().is_some_and(Vec::is_empty)
            && content.as_ref().is_ok_and(ContentDifference::is_same);
        texts.push((
            facts.clone(),
            content.as_ref().map(|content| content.lines(args.lines)).map_err(String::clone),
        ));
        rows.push(Row {
            before: was.name.clone(),
            after: is.name.clone(),
            same,
            facts: facts.map(|facts| facts.into_iter().map(fact).collect()),
            content: Some(content.map_or_else(Content::Unknown, content_of)),
        });
    }
    let same = rows.iter().all(|row| row.same);
    let mut out = out();
    if world.json() {
        json::document(&mut out, "diff", rows)?;
    } else {
        for (row, (facts, content)) in rows.iter().zip(&texts) {
            writeln!(out, "{} → {}", row.before, row.after)?;
            match facts {
                None => writeln!(out, "  what one of them was made of is not on record")?,
                Some(facts) if facts.is_empty() => writeln!(out, "  made of the same")?,
                Some(facts) => grouped(facts).iter().try_for_each(|fact| writeln!(out, "  {fact}"))?,
            }
            match content {
                Ok(lines) if lines.len() == 1 => writeln!(out, "content: {}", lines[0])?,
                Ok(lines) => {
                    writeln!(out, "content:")?;
                    lines.iter().try_for_each(|line| writeln!(out, "  {line}"))?;
                }
                Err(why) => writeln!(out, "content: {why}")?,
            }
        }
    }
    done(out)?;
    Ok(if same { Code::Done } else { Code::Failed })
}

/// Which output of the one is compared with which of the other.
fn pairs<'i>(
    names: &[String; 2],
    before: &'i [Item],
    after: &'i [Item],
) -> Result<Vec<(&'i Item, &'i Item)>, Failure> {
    if let ([was], [is]) = (before, after) {
        return Ok(vec![(was, is)]);
    }
    let one_step = |items: &[Item]| {
        let mut steps = items.iter().map(|item| item.output.map(|output| output.step));
        let first = steps.next();
        first.is_some() && steps.all(|step| Some(step) == first)
    };
    for (name, items) in names.iter().zip([before, after]) {
        if !one_step(items) {
            return Err(Failure::usage(format!("`{name}` is several steps")).hint("name one element of it"));
        }
    }
    let pairs: Vec<_> = before
        .iter()
        .filter_map(|was| Some((was, after.iter().find(|is| is.output_name == was.output_name)?)))
        .collect();
    if pairs.is_empty() {
        return Err(Failure::usage(format!("`{}` and `{}` have no output in common", names[0], names[1]))
            .hint("name an output of each: `step.output`"));
    }
    Ok(pairs)
}

/// Why the content of something cannot be compared, if so.
fn unstored(item: &Item) -> Option<String> {
    let name = &item.name;
    match (&item.found, &item.artifact, item.present) {
        (None, ..) => Some(format!("`{name}` is not stored")),
        (Some(_), Some(_), false) => Some(format!("the bytes of `{name}` are not in the store")),
        (Some(_), None, _) | (Some(_), Some(_), true) => None,
    }
}

fn fact(difference: Difference) -> Fact {
    Fact { label: difference.label, before: difference.before, after: difference.after }
}

fn content_of(difference: ContentDifference) -> Content {
    match difference {
        ContentDifference::Same => Content::Same,
        ContentDifference::Absent { before, after } => Content::Absent([before, after]),
        ContentDifference::Kind(before, after) => Content::Kind([before, after]),
        ContentDifference::Json(values) => Content::Json(values),
        ContentDifference::Text(lines) => Content::Text(lines),
        ContentDifference::Tree(entries) => Content::Folder(entries),
        ContentDifference::Bytes(before, after) => Content::Bytes([before, after]),
    }
}

#[derive(Serialize)]
struct RunRow {
    step: String,
    before: Option<String>,
    after: Option<String>,
    facts: Option<Vec<Fact>>,
    /// Of one version: its content is another.
    other_content: bool,
}

fn of_runs(world: &mut World, args: &DiffArgs, before: u64, after: u64) -> Result<Code, Failure> {
    let (_, store) = world.store_to_read(&args.which)?;
    let memo = store.map_or_else(Memo::empty, Memo::new);
    let (_, was) = runs::run(&memo, before)?;
    let (_, is) = runs::run(&memo, after)?;
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
        let equal = equal - others;
        writeln!(out, "{} with the same version in both", words::count(equal, "step"))?;
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
    /// From the end of the first of the two to that of the second.
    between: std::ops::Range<u64>,
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
        let between = ended[0].min(ended[1])..ended[0].max(ended[1]) + 1;
        Ok(Self { memo, traces, rows: rows.collect(), between })
    }

    /// Whether a step of one version had other content in one of them than in the other, and for what, as far as is known.
    fn other(&self, step: &str) -> Result<Option<&'static str>, Failure> {
        // What was reused stood under this trace then, unless it was made later.
        let stood = self.rows.get(step).filter(|found| found.record.made_ms < self.between.end);
        let [was, is] =
            [0, 1].map(|run| self.traces[run].get(step).copied().or_else(|| stood.map(|found| found.trace)));
        let (Some(was), Some(is)) = (was, is) else { return Ok(None) };
        if was != is {
            return Ok(Some("what it consumes has other content"));
        }
        let replaced = self.memo.other_contents(&is)?;
        let between = replaced.iter().any(|was| !was.lost_race && self.between.contains(&was.at_ms));
        Ok(between.then_some("it was made again with other content"))
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
