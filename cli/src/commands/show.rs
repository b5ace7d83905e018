//! `cas show`: one record whole, with the command line and environment that repeat it.

use std::io::{self, Write};

use cas_engine::memo::{self, Memo, Provenance};
use cas_engine::origin::Origins;
use cas_store::{Judgement, Kind};
use serde::Serialize;

use super::{done, out};
use crate::address::{Ground, Item};
use crate::args::Which;
use crate::failure::{Code, Failure};
use crate::report::{json, words};
use crate::session::World;

/// Show all that is on record of an output
///
/// What it is, when and by which run it was made, from which inputs and config, and the command line and environment
/// that make it again. VERSION may also be a file or folder: then it is shown what made its content, in any pipeline
/// that uses the store.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Example:
  $ cas show emit_tree
  $ cas show 1f0c
  $ cas show figures/model.png")]
pub(crate) struct ShowArgs {
    /// Show these
    #[arg(value_name = "VERSION", required = true)]
    versions: Vec<String>,
    #[command(flatten)]
    which: Which,
}

#[derive(Serialize)]
struct Shown {
    output: String,
    version: Option<String>,
    state: &'static str,
    kind: Option<&'static str>,
    codec: Option<String>,
    digest: Option<String>,
    bytes: Option<u64>,
    trace: Option<String>,
    made_at: Option<String>,
    cost_ms: Option<u64>,
    log: Option<String>,
    evicted_at: Option<String>,
    evicted_why: Option<String>,
    said: Vec<SaidOf>,
    made_by: Option<Provenance>,
    /// The run that made it was one of another store.
    imported: bool,
}

#[derive(Serialize)]
struct SaidOf {
    judgement: u64,
    text: String,
    at: Option<String>,
    #[serde(skip)]
    at_ms: u64,
}

pub(crate) fn show(world: &mut World, args: &ShowArgs) -> Result<Code, Failure> {
    let ground = Ground::of_names(world, &args.which, &args.versions)?;
    let mut items = ground.find_or_file(world, &args.versions)?.items;
    let store = ground.store()?;
    let memo = Memo::new(store.clone());
    let mut origins = Origins::new(&memo);
    let mut shown = Vec::new();
    for item in &mut items {
        unforget(item);
        let Some(found) = &item.found else {
            // Nothing at all is on record: that is what `stored` says best.
            item.stored()?;
            continue;
        };
        let made_by = store.provenance(&found.trace)?.as_deref().and_then(memo::provenance);
        let imported = match &made_by {
            Some(made) => origins.is_elsewhere(made)?,
            None => false,
        };
        shown.push(Shown { imported, ..shown_of(item, made_by) });
    }
    let mut out = out();
    if world.json() {
        json::document(&mut out, "show", shown)?;
        return done(out);
    }
    for (index, shown) in shown.iter().enumerate() {
        if index > 0 {
            writeln!(out)?;
        }
        write(&mut out, shown, items[index].found.as_ref().map_or(0, |found| found.record.made_ms))?;
    }
    done(out)
}

/// What counts as absent is shown like everything that is on record, and said to be that.
fn unforget(item: &mut Item) {
    let Some(found) =
        item.judged.as_ref().filter(|_| item.found.is_none()).and_then(|judged| judged.found.clone())
    else {
        return;
    };
    let index = match &item.output_name {
        Some(name) => found.record.outputs.iter().position(|output| output.name == *name),
        None => (!found.record.outputs.is_empty()).then_some(0),
    };
    if let Some(index) = index {
        item.artifact = found.record.outputs[index].artifact.clone();
        item.present = found.present.get(index) == Some(&true);
    }
    item.found = Some(found);
}

fn shown_of(item: &Item, made_by: Option<Provenance>) -> Shown {
    let record = item.found.as_ref().map(|found| &found.record);
    // What was evicted and is there again, because another result has the same bytes, is only stored.
    let evicted = record.filter(|_| !item.present).and_then(|record| record.evicted.as_ref());
    Shown {
        output: item.name.clone(),
        version: item.version.map(|version| version.to_string()),
        state: match (&item.artifact, item.present, evicted) {
            _ if item.judged.as_ref().is_some_and(|judged| judged.forgotten().is_some()) => "forgotten",
            (None, ..) => "absent",
            (_, true, _) => "stored",
            (_, false, Some(_)) => "evicted",
            (_, false, None) => "gone",
        },
        kind: item.artifact.as_ref().map(|artifact| match artifact.kind {
            Kind::File { executable: false } => "file",
            Kind::File { executable: true } => "executable file",
            Kind::Tree => "folder",
        }),
        codec: item.artifact.as_ref().map(|artifact| artifact.codec.clone()),
        digest: item.artifact.as_ref().map(|artifact| artifact.digest.to_string()),
        bytes: item.artifact.as_ref().map(|artifact| artifact.len),
        trace: item.found.as_ref().map(|found| found.trace.to_string()),
        made_at: record.and_then(|record| words::moment_utc(record.made_ms)),
        cost_ms: record.map(|record| record.cost_ms),
        log: record.and_then(|record| record.log).map(|log| log.to_string()),
        evicted_at: evicted.and_then(|evicted| words::moment_utc(evicted.at_ms)),
        evicted_why: evicted.map(|evicted| evicted.why.clone()),
        said: said_of(item),
        made_by,
        imported: false,
    }
}

fn said_of(item: &Item) -> Vec<SaidOf> {
    let Some(judged) = &item.judged else { return Vec::new() };
    let trace = judged.found.as_ref().map(|found| found.trace);
    let said = |judgement: &Judgement| SaidOf {
        judgement: judgement.id,
        text: cas_engine::judge::words(judgement, trace.unwrap_or(judgement.trace)),
        at: words::moment_utc(judgement.saying.at_ms),
        at_ms: judgement.saying.at_ms,
    };
    judged.marks.iter().map(|(_, judgement)| said(judgement)).collect()
}

fn write(to: &mut dyn Write, shown: &Shown, made_ms: u64) -> io::Result<()> {
    let mut line = |label: &str, text: &str| -> io::Result<()> {
        let mut lines = text.lines();
        writeln!(to, "{label:9} {}", lines.next().unwrap_or(""))?;
        lines.try_for_each(|more| writeln!(to, "{:9} {more}", ""))
    };
    line("output", &shown.output)?;
    line("version", shown.version.as_deref().unwrap_or("-"))?;
    match (&shown.kind, &shown.evicted_why) {
        (Some(kind), _) if shown.state == "stored" => {
            line("content", &format!("{kind}, {}", words::size(shown.bytes.unwrap_or(0))))?;
        }
        (_, Some(why)) => line("content", &format!("evicted ({why})"))?,
        (_, None) => line("content", shown.state)?,
    }
    for said in &shown.said {
        line(
            "said",
            &format!("{} (on {}, judgement {})", said.text, words::moment(said.at_ms), said.judgement),
        )?;
    }
    if let Some(digest) = &shown.digest {
        line("digest", digest)?;
    }
    line(
        "made",
        &format!("{} in {}", words::moment(made_ms), words::duration_ms(shown.cost_ms.unwrap_or(0))),
    )?;
    let Some(made) = &shown.made_by else { return Ok(()) };
    line(
        "by",
        &format!(
            "run {} of {}{}, step {} (solid {}), attempt {}, on {} ({}), cas {}",
            made.run,
            made.pipeline,
            if shown.imported { ", imported from another store" } else { "" },
            made.step,
            made.solid,
            made.attempt,
            made.host,
            made.platform,
            made.program
        ),
    )?;
    if made.config != "{}" && !made.config.is_empty() {
        line("config", &made.config)?;
    }
    for input in &made.inputs {
        let from = input.from.as_ref().map(|from| format!("from {from}, ")).unwrap_or_default();
        line("input", &words::on_a_line(&format!("{}  {from}{}", input.name, input.content)))?;
    }
    for (name, value) in &made.env {
        line("env", &words::on_a_line(&format!("{name}={value}")))?;
    }
    if !made.command.is_empty() {
        line("command", &made.command)?;
    }
    Ok(())
}
