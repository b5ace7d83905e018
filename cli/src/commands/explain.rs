//! `cas explain`: why a step would run, or by what run and when its result was made.

use std::borrow::Cow;
use std::io::{self, Write};

use cas_engine::Skipped;
use cas_engine::cause::{Because, Explanation};
use cas_engine::explain::{self, grouped};
use cas_engine::memo::Status;
use cas_engine::origin::Origins;
use cas_engine::resolve::Why;
use cas_store::Create;
use serde::Serialize;

use super::{done, out};
use crate::args::Which;
use crate::failure::{Code, Failure};
use crate::report::{elements, json, words};
use crate::session::World;

/// Explain why a step would run, or how its result was made
///
/// For a step that would run: what differs from the nearest earlier version of it, by name, and so on upwards to the
/// first cause. For one that is stored: the run that made it, when, and in what time. Elements of a step of which the same
/// is told are told together; with -v, each.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Example:
  $ cas explain emit_sentence
  emit_sentence would run: `emit_tree` runs before it
    compared with the version of 2026-03-01 14:05:09
  emit_tree would run: config.tree_species: douglas_fir → red_maple
    compared with the version of 2026-03-01 14:05:09
  it may turn out unchanged: what it consumes is made anew, and may come out
  the same")]
pub(crate) struct ExplainArgs {
    /// Explain these
    #[arg(value_name = "STEP", required = true)]
    steps: Vec<String>,
    #[command(flatten)]
    which: Which,
}

#[derive(Serialize)]
struct Row {
    step: String,
    status: &'static str,
    may_be_unchanged: bool,
    run: Option<u64>,
    imported: bool,
    made_at: Option<String>,
    cost_ms: Option<u64>,
    judgements: Vec<u64>,
    other_contents: usize,
    skipped: Option<NotBegun>,
    chain: Vec<Link>,
}

/// That the last run that had the step did not begin it.
#[derive(Serialize)]
struct NotBegun {
    run: u64,
    why: String,
}

#[derive(Serialize)]
struct Link {
    step: String,
    why: String,
    compared_at: Option<String>,
    differences: Vec<Difference>,
}

#[derive(Serialize)]
struct Difference {
    label: String,
    before: Option<String>,
    after: Option<String>,
}

pub(crate) fn explain(world: &mut World, args: &ExplainArgs) -> Result<Code, Failure> {
    let session = world.session(&args.which, Create::Never)?;
    let mut steps = Vec::new();
    for name in &args.steps {
        for step in session.graph.select(name)? {
            if !steps.contains(&step) {
                steps.push(step);
            }
        }
    }
    let (plan, resolved) = session.whole_with_causes(world)?;
    let mut rows = Vec::new();
    let mut out = out();
    let past = session.memo.past_with_skips(&plan.graph.pipeline.name)?;
    let mut origins = Origins::new(&session.memo);
    let mut all = Vec::new();
    for step in steps {
        let explanation = session.memo.explain(&plan, &resolved, &past, step)?;
        let status = resolved.step_status(step);
        let imported = match &explanation.provenance {
            Some(made) => origins.is_elsewhere(made)?,
            None => false,
        };
        if world.json() {
            rows.push(row(explanation, status, imported));
        } else {
            all.push(told(&explanation, status, imported));
        }
    }
    if world.json() {
        json::document(&mut out, "explain", rows)?;
    } else {
        write(&mut out, &all, world.common.verbose)?;
    }
    done(out)
}

/// What is told of one step.
struct Told {
    step: String,
    lines: Vec<Line>,
}

/// A line that is told. What differs between elements that have one cause stands apart.
#[derive(Clone)]
enum Line {
    /// In words, and how far what does not fit is indented.
    Words(String, usize),
    /// When what the step was compared with was made.
    Compared(u64),
    /// When and in what time its result was made, by what, as which step, and on which machine.
    Made { at_ms: u64, cost_ms: u64, by: String, step: String, host: String },
}

impl Told {
    /// What is the same for all elements of its step that have its cause.
    fn key(&self) -> Vec<String> {
        let line = |line: &Line| match line {
            Line::Words(words, _) => elements::of_any(&self.step, words).into_owned(),
            Line::Compared(_) => String::new(),
            Line::Made { by, host, .. } => format!("{by}\0{host}"),
        };
        self.lines.iter().map(line).collect()
    }

    fn write(&self, to: &mut dyn Write) -> io::Result<()> {
        for line in &self.lines {
            let (line, indent) = match line {
                Line::Words(words, indent) => (Cow::Borrowed(words.as_str()), *indent),
                Line::Compared(at_ms) => {
                    (format!("  compared with the version of {}", words::moment(*at_ms)).into(), 4)
                }
                Line::Made { at_ms, cost_ms, by, step, host } => {
                    let made = words::moment(*at_ms);
                    let took = words::duration_ms(*cost_ms);
                    let by =
                        if by.is_empty() { String::new() } else { format!("{by}, as {step}, on {host}") };
                    writeln!(to, "  made on {made} in {took}{by}")?;
                    continue;
                }
            };
            writeln!(to, "{}", words::wrapped(&line, indent, words::columns()))?;
        }
        Ok(())
    }
}

/// Several elements of a step of which the same is told, told once.
fn write_group(to: &mut dyn Write, group: &[&Told]) -> io::Result<()> {
    let (Some(first), count) = (group.first(), group.len()) else { return Ok(()) };
    let Some((base, _)) = elements::parts(&first.step) else { return Ok(()) };
    let whole = format!("{base} ({})", words::count(count, "element"));
    let between = |at: usize| {
        let moments = group.iter().filter_map(|told| match told.lines.get(at)? {
            Line::Compared(at_ms) | Line::Made { at_ms, .. } => Some(*at_ms),
            Line::Words(..) => None,
        });
        let (from, until) = moments.fold((u64::MAX, 0), |(from, until), at| (from.min(at), until.max(at)));
        (words::moment(from), words::moment(until))
    };
    for (at, line) in first.lines.iter().enumerate() {
        let (from, until) = between(at);
        let (line, indent) = match line {
            Line::Words(words, indent) => {
                let words = elements::of_any(&first.step, words);
                let words = words.replacen(&format!("{base}{}", elements::ANY), &whole, 1);
                (words.replacen(&format!("{whole} is "), &format!("{whole} are "), 1), *indent)
            }
            Line::Compared(_) if from == until => (format!("  compared with the versions of {from}"), 4),
            Line::Compared(_) => (format!("  compared with the versions of {from} to {until}"), 4),
            Line::Made { by, host, .. } => {
                let made =
                    if from == until { format!("on {from}") } else { format!("from {from} to {until}") };
                let by = if by.is_empty() { String::new() } else { format!("{by}, on {host}") };
                (format!("  made {made}{by}"), 4)
            }
        };
        writeln!(to, "{}", words::wrapped(&line, indent, words::columns()))?;
    }
    Ok(())
}

/// Writes what is told of each step; of elements of which the same is told, once, but where each is wanted.
fn write(to: &mut dyn Write, all: &[Told], each: bool) -> io::Result<()> {
    let groups = elements::grouped(all, |told| &told.step, |told| (!each).then(|| told.key()));
    for (index, group) in groups.iter().enumerate() {
        if index > 0 {
            writeln!(to)?;
        }
        match group.as_slice() {
            [one] => one.write(to)?,
            several => write_group(to, several)?,
        }
    }
    Ok(())
}

fn told(explanation: &Explanation, status: Status, imported: bool) -> Told {
    let Explanation { step, chain, may_be_unchanged, .. } = explanation;
    let mut lines = Vec::new();
    let mut say = |words: String, indent: usize| lines.push(Line::Words(words, indent));
    match status {
        Status::ToBeRecomputed => {}
        Status::Stored => say(format!("{step} is stored"), 2),
        Status::NotNeeded => say(
            format!("{step} is not needed: its bytes are absent, and nothing that is wanted needs them"),
            2,
        ),
        Status::Absent => {
            say(format!("{step} is absent: an optional output was not produced, or it stands below one"), 2);
        }
    }
    if let (Some(found), true) = (&explanation.made, chain.is_empty()) {
        let record = &found.record;
        let provenance = explanation.provenance.as_ref();
        let by = provenance.map(|made| {
            let attempt =
                if made.attempt > 1 { format!(", attempt {}", made.attempt) } else { String::new() };
            let from = if imported { ", imported from another store" } else { "" };
            format!(" by run {} of {}{from}{attempt}", made.run, made.pipeline)
        });
        lines.push(Line::Made {
            at_ms: record.made_ms,
            cost_ms: record.cost_ms,
            by: by.unwrap_or_default(),
            step: provenance.map_or_else(String::new, |made| made.step.clone()),
            host: provenance.map_or_else(String::new, |made| made.host.clone()),
        });
        if let (Some(evicted), false) = (&record.evicted, status == Status::Stored) {
            let moment = words::moment(evicted.at_ms);
            lines.push(Line::Words(format!("  its bytes were evicted on {moment} ({})", evicted.why), 4));
        }
    }
    let mut say = |words: String, indent: usize| lines.push(Line::Words(words, indent));
    if let Some(last) = explanation.other_contents.last() {
        let count = words::count(explanation.other_contents.len(), "time");
        let moment = words::moment(last.at_ms);
        say(
            format!(
                "  it is not deterministic: the same inputs gave other content {count}, last on {moment}"
            ),
            4,
        );
    }
    for judgement in &explanation.said {
        let words = cas_engine::judge::words(judgement, explanation.trace.unwrap_or(judgement.trace));
        let moment = words::moment(judgement.saying.at_ms);
        say(format!("  {words} (on {moment}, judgement {})", judgement.id), 4);
    }
    for link in chain {
        lines.push(Line::Words(format!("{} would run: {}", link.step, link.words), 2));
        // What is the whole cause is told already.
        let told = |difference: &explain::Difference| link.words.contains(&difference.to_string());
        let is_told = match link.differences.as_slice() {
            [] => true,
            [only] => link.why != Why::New || link.compared.is_none() || told(only),
            [_, _, ..] => false,
        };
        if !is_told {
            let differences = grouped(&link.differences);
            lines.extend(differences.iter().map(|difference| Line::Words(format!("  {difference}"), 4)));
        }
        lines.extend(link.compared.as_ref().map(|compared| Line::Compared(compared.at_ms)));
    }
    if let Some(skipped) = &explanation.skipped {
        lines.push(Line::Words(format!("in run {} it was skipped: {}", skipped.run, skipped.why), 2));
    }
    if *may_be_unchanged {
        let line = "it may turn out unchanged: what it consumes is made anew, and may come out the same";
        lines.push(Line::Words(line.to_owned(), 0));
    }
    Told { step: step.clone(), lines }
}

fn row(explanation: Explanation, status: Status, imported: bool) -> Row {
    let made = explanation.made.as_ref().map(|found| &found.record);
    Row {
        status: status.word(),
        may_be_unchanged: explanation.may_be_unchanged,
        run: explanation.provenance.as_ref().map(|made| made.run),
        imported,
        made_at: made.and_then(|made| words::moment_utc(made.made_ms)),
        cost_ms: made.map(|made| made.cost_ms),
        other_contents: explanation.other_contents.len(),
        skipped: explanation.skipped.map(|Skipped { run, why }| NotBegun { run, why }),
        judgements: explanation.said.iter().map(|judgement| judgement.id).collect(),
        chain: explanation.chain.into_iter().map(link).collect(),
        step: explanation.step,
    }
}

fn link(because: Because) -> Link {
    let differences = because.differences.into_iter().map(|difference| Difference {
        label: difference.label,
        before: difference.before,
        after: difference.after,
    });
    Link {
        step: because.step,
        why: because.words,
        compared_at: because.compared.as_ref().and_then(|moment| words::moment_utc(moment.at_ms)),
        differences: differences.collect(),
    }
}
