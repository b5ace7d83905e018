//! `cas lineage`: what something was made from, and what was made from it.

use std::collections::BTreeSet;
use std::io::{self, Write};

use cas_engine::lineage::{Lineage, Making};
use cas_engine::memo::{self, Memo};
use cas_store::Trace;
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
/// has its content, or, where no step made that, what was made from it.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Example:
  $ cas lineage report
  $ cas lineage --down clean
  $ cas lineage --down data/raw.csv
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
    /// That run was one of another store.
    imported: bool,
    made_at: Option<String>,
    trace: Option<String>,
    /// What it is, where it came from outside: a path and its digest, a literal, what a probe printed.
    content: Option<String>,
    /// Its step was run again since, and what stands there now is something else.
    replaced: bool,
    /// Of what was made from something: it read another making of that, with the same content.
    of_another: bool,
    /// It was shown before, with what lies behind it.
    again: bool,
}

pub(crate) fn lineage(world: &mut World, args: &LineageArgs) -> Result<Code, Failure> {
    let ground = Ground::of_names(world, &args.which, &args.versions)?;
    let (mut named, mut sources) = (Vec::new(), Vec::new());
    for name in &args.versions {
        let source = ground.source(name)?;
        // What a step made may have been read as a file, too.
        if source.is_none_or(|(_, made)| made) {
            named.push(name.clone());
        }
        sources.extend(source.map(|(digest, made)| (name, digest, made)));
    }
    let items = match named.as_slice() {
        [] => Vec::new(),
        named => ground.find_or_file(world, named)?.items,
    };
    let memo = Memo::new(ground.store()?.clone());
    let mut lineage = Lineage::new(&memo);
    let mut rows = Vec::new();
    let mut begun = BTreeSet::new();
    for item in &items {
        let Some(found) = &item.found else {
            item.stored()?;
            continue;
        };
        let making = lineage.of(&found.trace)?;
        // Several outputs of one step have one lineage.
        if !begun.insert(key(&making)) {
            continue;
        }
        rows.push(Row { way: "self", ..row(&making, 0, None) });
        if !args.down {
            up(&mut lineage, &making, &mut rows)?;
        }
        if !args.up {
            down(&mut lineage, &making, &mut rows)?;
        }
    }
    for (name, digest, made) in sources {
        if made && args.up {
            continue;
        }
        let readers = lineage.readers_of(&digest)?;
        if made && readers.is_empty() {
            continue;
        }
        if readers.is_empty() {
            return Err(Failure::missing(format!(
                "no result on record has the content of `{name}`, or was made from it"
            ))
            .because(format_args!("its digest is {digest}")));
        }
        rows.push(outside("self", 0, None, format!("{name} {digest}")));
        if !args.up {
            down_from(&mut lineage, sorted(readers, 1), BTreeSet::new(), &mut rows)?;
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

/// What tells one making from another.
fn key(making: &Making) -> (Trace, Option<u64>) {
    (making.trace, making.made_ms)
}

fn row(making: &Making, depth: usize, input: Option<String>) -> Row {
    let made = making.made.as_ref();
    let maker = making.maker.as_ref();
    let pipeline = maker.map(|maker| &maker.pipeline).or(made.map(|made| &made.pipeline));
    let step = maker.map(|maker| &maker.step).or(made.map(|made| &made.step));
    Row {
        way: "up",
        depth,
        input,
        pipeline: pipeline.cloned(),
        step: step.cloned(),
        run: maker.map(|maker| maker.run),
        imported: making.imported,
        made_at: making.made_ms.and_then(words::moment_utc),
        trace: Some(making.trace.to_string()),
        content: None,
        replaced: making.replaced,
        of_another: making.of_another,
        again: false,
    }
}

/// What came from outside.
fn outside(way: &'static str, depth: usize, input: Option<String>, content: String) -> Row {
    Row {
        way,
        depth,
        input,
        pipeline: None,
        step: None,
        run: None,
        imported: false,
        made_at: None,
        trace: None,
        content: Some(content),
        replaced: false,
        of_another: false,
        again: false,
    }
}

/// Walks up, each making once; without recursion, since a chain may be very long.
fn up(lineage: &mut Lineage<'_>, of: &Making, rows: &mut Vec<Row>) -> Result<(), Failure> {
    /// What stands in a line of the answer: an input of a result.
    struct Next {
        making: Option<Making>,
        depth: usize,
        input: String,
        content: String,
    }
    let above = |lineage: &mut Lineage<'_>, making: &Making, depth: usize| -> Result<Vec<Next>, Failure> {
        let inputs = lineage.above(making)?.into_iter();
        let mut inputs: Vec<Next> = inputs
            .map(|(input, making)| Next { making, depth, input: input.name, content: input.content })
            .collect();
        // A stack gives back last what was put on it first.
        inputs.reverse();
        Ok(inputs)
    };
    let mut seen = BTreeSet::from([key(of)]);
    let mut open = above(lineage, of, 1)?;
    while let Some(Next { making, depth, input, content }) = open.pop() {
        let Some(making) = making else {
            rows.push(outside("up", depth, Some(input), content));
            continue;
        };
        let again = !seen.insert(key(&making));
        rows.push(Row { again, ..row(&making, depth, Some(input)) });
        if !again {
            open.extend(above(lineage, &making, depth + 1)?);
        }
    }
    Ok(())
}

/// Walks down, each making once.
fn down(lineage: &mut Lineage<'_>, of: &Making, rows: &mut Vec<Row>) -> Result<(), Failure> {
    let below = sorted(lineage.below(of)?, 1);
    down_from(lineage, below, BTreeSet::from([key(of)]), rows)
}

/// In order, the last first: a stack gives back last what was put on it first.
fn sorted(mut makings: Vec<Making>, depth: usize) -> Vec<(Making, usize)> {
    let name = |making: &Making| making.made.as_ref().map(|made| memo::label(&made.pipeline, &made.step));
    let run = |making: &Making| making.maker.as_ref().map(|maker| maker.run);
    makings.sort_by_key(|making| (name(making), run(making), making.trace));
    makings.into_iter().rev().map(|making| (making, depth)).collect()
}

fn down_from(
    lineage: &mut Lineage<'_>,
    mut open: Vec<(Making, usize)>,
    mut seen: BTreeSet<(Trace, Option<u64>)>,
    rows: &mut Vec<Row>,
) -> Result<(), Failure> {
    while let Some((making, depth)) = open.pop() {
        let again = !seen.insert(key(&making));
        rows.push(Row { way: "down", again, ..row(&making, depth, None) });
        if !again {
            open.extend(sorted(lineage.below(&making)?, depth + 1));
        }
    }
    Ok(())
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
        let of = if row.imported { " of another store" } else { "" };
        let run = match row.run {
            Some(run) => format!("  run {run}{of}"),
            None => "  (what is on record of it is not here)".to_owned(),
        };
        let another = if row.of_another { "  (read another making with this content)" } else { "" };
        let replaced = if row.replaced { "  (replaced since)" } else { "" };
        let again = if row.again { "  (see above)" } else { "" };
        writeln!(
            to,
            "{indent}{}{run}{replaced}{another}{again}",
            words::on_a_line(&format!("{input}{name}"))
        )?;
    }
    Ok(())
}
