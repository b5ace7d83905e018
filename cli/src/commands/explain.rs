//! `cas explain`: why a step would run, or by what run and when its result was made.

use std::io::{self, Write};

use cas_engine::cause::{Because, Explanation};
use cas_engine::explain::grouped;
use cas_engine::memo::Status;
use cas_engine::origin::Origins;
use cas_store::Create;
use serde::Serialize;

use super::{done, out};
use crate::args::Which;
use crate::failure::{Code, Failure};
use crate::report::{json, words};
use crate::session::World;

/// Explain why a step would run, or how its result was made
///
/// For a step that would run: what differs from the nearest earlier version of it, by name, and so on upwards to the
/// first cause. For one that is stored: the run that made it, when, and in what time.
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
    chain: Vec<Link>,
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
    let (plan, resolved) = session.whole(world)?;
    let mut rows = Vec::new();
    let mut out = out();
    let several = steps.len() > 1;
    let past = session.memo.past(&plan.graph.pipeline.name)?;
    let mut origins = Origins::new(&session.memo);
    for (index, step) in steps.into_iter().enumerate() {
        let explanation = session.memo.explain(&plan, &resolved, &past, step)?;
        let status = resolved.step_status(step);
        let imported = match &explanation.provenance {
            Some(made) => origins.is_elsewhere(made)?,
            None => false,
        };
        if world.json() {
            rows.push(row(explanation, status, imported));
        } else {
            if several && index > 0 {
                writeln!(out)?;
            }
            write(&mut out, &explanation, status, imported)?;
        }
    }
    if world.json() {
        json::document(&mut out, "explain", rows)?;
    }
    done(out)
}

fn write(to: &mut dyn Write, explanation: &Explanation, status: Status, imported: bool) -> io::Result<()> {
    let Explanation { step, chain, may_be_unchanged, .. } = explanation;
    match status {
        Status::ToBeRecomputed => {}
        Status::Stored => writeln!(to, "{step} is stored")?,
        Status::NotNeeded => {
            writeln!(
                to,
                "{step} is not needed: its bytes are absent, and nothing that is wanted needs them"
            )?;
        }
        Status::Absent => {
            writeln!(to, "{step} is absent: an optional output was not produced, or it stands below one")?
        }
    }
    if let (Some(found), true) = (&explanation.made, chain.is_empty()) {
        let record = &found.record;
        let by = explanation.provenance.as_ref().map(|made| {
            let attempt =
                if made.attempt > 1 { format!(", attempt {}", made.attempt) } else { String::new() };
            let from = if imported { ", imported from another store" } else { "" };
            format!(
                " by run {} of {}{from}{attempt}, as {}, on {}",
                made.run, made.pipeline, made.step, made.host
            )
        });
        writeln!(
            to,
            "  made on {} in {}{}",
            words::moment(record.made_ms),
            words::duration_ms(record.cost_ms),
            by.unwrap_or_default()
        )?;
        if let (Some(evicted), false) = (&record.evicted, status == Status::Stored) {
            writeln!(to, "  its bytes were evicted on {} ({})", words::moment(evicted.at_ms), evicted.why)?;
        }
    }
    if let Some(last) = explanation.other_contents.last() {
        let count = words::count(explanation.other_contents.len(), "time");
        writeln!(
            to,
            "  it is not deterministic: the same inputs gave other content {count}, last on {}",
            words::moment(last.at_ms)
        )?;
    }
    for judgement in &explanation.said {
        writeln!(
            to,
            "  {} (on {}, judgement {})",
            cas_engine::judge::words(judgement, explanation.trace.unwrap_or(judgement.trace)),
            words::moment(judgement.saying.at_ms),
            judgement.id
        )?;
    }
    for link in chain {
        let line = format!("{} would run: {}", link.step, link.words);
        writeln!(to, "{}", words::wrapped(&line, 2, words::columns()))?;
        if link.differences.len() > 1 {
            for difference in &grouped(&link.differences) {
                writeln!(to, "{}", words::wrapped(&format!("  {difference}"), 4, words::columns()))?;
            }
        }
        if let Some(compared) = &link.compared {
            writeln!(to, "  compared with the version of {}", words::moment(compared.at_ms))?;
        }
    }
    if *may_be_unchanged {
        let line = "it may turn out unchanged: what it consumes is made anew, and may come out the same";
        writeln!(to, "{}", words::wrapped(line, 0, words::columns()))?;
    }
    Ok(())
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
