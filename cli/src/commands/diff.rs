//! `cas diff`: what two versions differ in, and (in `runs.rs`) two runs.

mod runs;

use std::io::Write;

use cas_engine::difference::{self, ContentDifference, EntryDifference, Known, ValueDifference};
use cas_engine::explain::{Difference, grouped};
use cas_engine::memo::{self, Memo};
use cas_store::Version;
use serde::Serialize;

use super::{done, out};
use crate::address::{Ground, Item};
use crate::args::Which;
use crate::failure::{Code, Failure};
use crate::report::json;
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
        return runs::diff(world, &args.which, before, after);
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
