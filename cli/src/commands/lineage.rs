//! `cas lineage`: what something was made from, and what was made from it.

use std::collections::BTreeSet;
use std::io::{self, Write};

use cas_engine::memo::{self, Memo};
use cas_engine::record::Provenance;
use cas_store::{Found, Store, Trace};
use serde::Serialize;

use super::{done, out};
use crate::address::Ground;
use crate::args::Which;
use crate::failure::{Code, Failure};
use crate::report::{json, words};
use crate::session::World;

/// Show what something was made from, and what was made from it
///
/// Up to the files and values that it began with, and down to everything that consumed it, in every pipeline that
/// uses the store, also where the pipeline is another by now. VERSION may also be the path of a file: then it is what
/// has its content.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Example:
  $ cas lineage report
  $ cas lineage --down clean
  $ cas lineage figures/model.png")]
pub(crate) struct LineageArgs {
    /// Begin with these
    #[arg(value_name = "VERSION", required = true)]
    versions: Vec<String>,
    /// Show only what it was made from
    #[arg(long, conflicts_with = "down")]
    up: bool,
    /// Show only what was made from it
    #[arg(long)]
    down: bool,
    #[command(flatten)]
    which: Which,
}

/// A result, or something that came from outside, in its place.
#[derive(Serialize)]
struct Row {
    /// `self`, `up` or `down`.
    way: &'static str,
    /// How many results lie between.
    depth: usize,
    /// The input that it was, of what stands a level nearer.
    input: Option<String>,
    pipeline: Option<String>,
    step: Option<String>,
    run: Option<u64>,
    made_at: Option<String>,
    trace: Option<String>,
    /// What it is, where it came from outside: a path and its digest, a literal, what a probe printed.
    content: Option<String>,
    /// It was shown before, with what lies behind it.
    again: bool,
}

/// How many results that were made from one are followed.
const CHILDREN: usize = 100_000;

pub(crate) fn lineage(world: &mut World, args: &LineageArgs) -> Result<Code, Failure> {
    let ground = Ground::of_names(world, &args.which, &args.versions)?;
    let items = ground.find_or_file(world, &args.versions)?.items;
    let store = ground.store()?;
    let memo = Memo::new(store.clone());
    let mut rows = Vec::new();
    let mut begun = BTreeSet::new();
    for item in &items {
        let Some(found) = &item.found else {
            item.stored()?;
            continue;
        };
        // Several outputs of one step have one lineage.
        if !begun.insert(found.trace) {
            continue;
        }
        let made = memo.provenance(&found.trace)?;
        rows.push(Row { way: "self", ..row(&found.trace, Some(found), made.as_ref(), 0, None) });
        if !args.down {
            up(&memo, &found.trace, made, &mut BTreeSet::from([found.trace]), &mut rows)?;
        }
        if !args.up {
            down(store, &memo, &found.trace, &mut BTreeSet::from([found.trace]), &mut rows)?;
        }
    }
    let mut out = out();
    if world.json() {
        json::document(&mut out, "lineage", rows)?;
    } else {
        write(&mut out, &rows)?;
    }
    done(out)
}

fn row(
    trace: &Trace,
    found: Option<&Found>,
    made: Option<&Provenance>,
    depth: usize,
    input: Option<String>,
) -> Row {
    Row {
        way: "up",
        depth,
        input,
        pipeline: made.map(|made| made.pipeline.clone()),
        step: made.map(|made| made.step.clone()),
        run: made.map(|made| made.run),
        made_at: found.and_then(|found| words::moment_utc(found.record.made_ms)),
        trace: Some(trace.to_string()),
        content: None,
        again: false,
    }
}

/// Walks up, each result once; without recursion, since a chain may be very long.
fn up(
    memo: &Memo,
    trace: &Trace,
    made: Option<Provenance>,
    seen: &mut BTreeSet<Trace>,
    rows: &mut Vec<Row>,
) -> Result<(), Failure> {
    /// What stands in a line of the answer: an input of a result.
    struct Next {
        trace: Option<Trace>,
        depth: usize,
        input: String,
        content: String,
    }
    let below = |trace: &Trace, depth: usize| -> Result<Vec<Next>, Failure> {
        let mut inputs: Vec<Next> = memo
            .made_from(trace)?
            .into_iter()
            .map(|(input, _)| Next { trace: input.trace, depth, input: input.name, content: input.content })
            .collect();
        // A stack gives back last what was put on it first.
        inputs.reverse();
        Ok(inputs)
    };
    let mut open = if made.is_some() { below(trace, 1)? } else { Vec::new() };
    while let Some(Next { trace, depth, input, content }) = open.pop() {
        let Some(trace) = trace else {
            let outside = Row {
                way: "up",
                depth,
                input: Some(input),
                pipeline: None,
                step: None,
                run: None,
                made_at: None,
                trace: None,
                content: Some(content),
                again: false,
            };
            rows.push(outside);
            continue;
        };
        let found = memo.judged(&[trace])?.pop().and_then(|judged| judged.found);
        let made = memo.provenance(&trace)?;
        let again = !seen.insert(trace);
        rows.push(Row { again, ..row(&trace, found.as_ref(), made.as_ref(), depth, Some(input)) });
        if !again {
            open.extend(below(&trace, depth + 1)?);
        }
    }
    Ok(())
}

/// Walks down, each result once.
fn down(
    store: &Store,
    memo: &Memo,
    trace: &Trace,
    seen: &mut BTreeSet<Trace>,
    rows: &mut Vec<Row>,
) -> Result<(), Failure> {
    let mut open: Vec<(Trace, usize)> = vec![(*trace, 0)];
    let mut first = true;
    while let Some((trace, depth)) = open.pop() {
        let again = !first && !seen.insert(trace);
        if !first {
            let found = memo.judged(&[trace])?.pop().and_then(|judged| judged.found);
            let made = memo.provenance(&trace)?;
            rows.push(Row { way: "down", again, ..row(&trace, found.as_ref(), made.as_ref(), depth, None) });
        }
        first = false;
        if !again {
            let own = memo.provenance(&trace)?;
            let mut children = store.children(&trace, CHILDREN)?;
            let mut named: Vec<(Option<String>, Trace)> = Vec::with_capacity(children.len());
            while let Some(child) = children.pop() {
                let made = memo.provenance(&child)?;
                // What a run keeps of a result for `--frozen=RUN`: nothing is made from itself.
                if made.as_ref().zip(own.as_ref()).is_some_and(|(made, own)| is_copy(made, own)) {
                    children.extend(store.children(&child, CHILDREN)?);
                    continue;
                }
                named.push((made.map(|made| memo::label(&made.pipeline, &made.step)), child));
            }
            named.sort();
            open.extend(named.into_iter().rev().map(|(_, child)| (child, depth + 1)));
        }
    }
    Ok(())
}

/// Whether both came from executions of one and the same step.
fn is_copy(made: &Provenance, own: &Provenance) -> bool {
    (&made.pipeline, &made.step, made.version) == (&own.pipeline, &own.step, own.version)
}

fn write(to: &mut dyn Write, rows: &[Row]) -> io::Result<()> {
    let mut way = "";
    for row in rows {
        if row.way != way && row.way != "self" {
            writeln!(to, "{}", if row.way == "up" { "made from" } else { "used by" })?;
        }
        way = row.way;
        let indent = "  ".repeat(row.depth);
        let input = row.input.as_ref().map(|input| format!("{input}: ")).unwrap_or_default();
        if let Some(content) = &row.content {
            writeln!(to, "{indent}{}", words::on_a_line(&format!("{input}{content}")))?;
            continue;
        }
        let name = match (&row.pipeline, &row.step) {
            (Some(pipeline), Some(step)) => memo::label(pipeline, step),
            _ => row.trace.clone().unwrap_or_default(),
        };
        let run = row.run.map(|run| format!("  run {run}")).unwrap_or_default();
        let again = if row.again { "  (see above)" } else { "" };
        writeln!(to, "{indent}{}{run}{again}", words::on_a_line(&format!("{input}{name}")))?;
    }
    Ok(())
}
