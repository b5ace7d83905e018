//! `cas runs`: the runs, and what each of them did.

use std::collections::HashSet;
use std::io::Write;

use cas_engine::event::Outcome;
use cas_engine::memo::Memo;
use cas_engine::record::RunRecord;
use serde::Serialize;
use serde_json::{Map, Value};

use super::{done, out};
use crate::args::Which;
use crate::failure::{Code, Failure};
use crate::report::table::Table;
use crate::report::{json, lines, words};
use crate::session::World;

/// List the runs, or what one of them did
///
/// Newest first. With RUN, every step that was not reused, with its outcome, how long it took and why; with -v, the
/// reused ones, too.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Example:
  $ cas runs
  $ cas runs 12")]
pub(crate) struct RunsArgs {
    /// Show what this run did
    #[arg(value_name = "RUN")]
    run: Option<u64>,
    /// List so many
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..), conflicts_with = "run")]
    limit: u64,
    #[command(flatten)]
    which: Which,
}

#[derive(Serialize)]
struct Row<'a> {
    run: u64,
    pipeline: &'a str,
    file: Option<&'a str>,
    mode: Option<&'a str>,
    command_line: &'a [String],
    /// Of a sweep: the values that it was for.
    combination: Option<&'a str>,
    host: &'a str,
    program: &'a str,
    started_at: Option<String>,
    ended_at: Option<String>,
    /// Null where it has not ended and nobody knows whether its process lives.
    running: Option<bool>,
    #[serde(flatten)]
    counts: Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    steps: Option<Vec<Step<'a>>>,
}

#[derive(Serialize)]
struct Step<'a> {
    step: &'a str,
    outcome: &'static str,
    version: Option<String>,
    why: Option<&'a str>,
    elapsed_ms: u64,
    attempts: usize,
    failure: Option<&'a str>,
    /// It failed, and may.
    allowed: bool,
}

pub(crate) fn runs(world: &mut World, args: &RunsArgs) -> Result<Code, Failure> {
    let (_, store) = world.store_to_read(&args.which)?;
    let memo = store.map_or_else(Memo::empty, Memo::new);
    let mut out = out();
    if let Some(wanted) = args.run {
        let (run, record) = run(&memo, wanted)?;
        let reused = memo.reused(&record)?;
        if world.json() {
            let mut row = row(&memo, run, &record);
            row.steps = Some(steps(&record));
            if let Some(steps) = &mut row.steps {
                steps.extend(reused.iter().map(|reused| Step {
                    step: &reused.step,
                    outcome: "reused",
                    version: Some(reused.version.to_string()),
                    why: None,
                    elapsed_ms: 0,
                    attempts: 0,
                    failure: None,
                    allowed: false,
                }));
            }
            json::document(&mut out, "runs", [row])?;
            return done(out);
        }
        one(&mut out, &memo, run, &record)?;
        if world.common.verbose {
            for reused in &reused {
                writeln!(out, "reused    {}", reused.step)?;
            }
        }
        return done(out);
    }
    let runs = memo.runs(None, usize::try_from(args.limit).unwrap_or(usize::MAX))?;
    if world.json() {
        json::document(&mut out, "runs", runs.iter().map(|(run, record)| row(&memo, *run, record)))?;
        return done(out);
    }
    if runs.is_empty() {
        world.tell("there were no runs");
        return done(out);
    }
    let mut table = Table::new(["RUN", "BEGAN", "PIPELINE", "WHAT CAME OF IT", "COMMAND"]);
    for (run, record) in &runs {
        table.row([
            run.to_string(),
            words::moment(record.started_ms),
            record.pipeline.clone(),
            outcome(&memo, record),
            command(record),
        ]);
    }
    table.write_wrapped(&mut out, words::columns())?;
    done(out)
}

/// The record of one run.
pub(crate) fn run(memo: &Memo, wanted: u64) -> Result<(u64, RunRecord), Failure> {
    if let Some(run) = memo.runs(wanted.checked_add(1), 1)?.into_iter().find(|(run, _)| *run == wanted) {
        return Ok(run);
    }
    let last = memo.runs(None, 1)?.first().map_or(0, |(run, _)| *run);
    Err(match last {
        0 => Failure::usage(format!("there is no run {wanted}: there were none yet")),
        last if wanted == 0 || wanted > last => {
            Failure::usage(format!("there is no run {wanted}")).hint(format!("the last one is run {last}"))
        }
        _ => Failure::missing(format!("there is no record of run {wanted} any longer")),
    })
}

/// The last run of this pipeline, or of any where it had none.
pub(super) fn last(memo: &Memo, pipeline: Option<&str>) -> Result<(u64, RunRecord), Failure> {
    // Page by page: there may be very many runs, and what is looked for is mostly among the last.
    const PAGE: usize = 50;
    let mut before = None;
    let mut newest = None;
    loop {
        let page = memo.runs(before, if pipeline.is_none() { 1 } else { PAGE })?;
        let Some((oldest, _)) = page.last() else { break };
        before = Some(*oldest);
        for (run, record) in page {
            if pipeline.is_none_or(|pipeline| record.pipeline == pipeline) {
                return Ok((run, record));
            }
            newest.get_or_insert((run, record));
        }
    }
    newest.ok_or_else(|| Failure::missing("there were no runs"))
}

fn one(to: &mut dyn Write, memo: &Memo, run: u64, record: &RunRecord) -> std::io::Result<()> {
    let mode = record.mode.as_ref().map(|mode| format!(", mode {mode}")).unwrap_or_default();
    writeln!(
        to,
        "run {run} of {}{mode} on {}, {}",
        record.pipeline,
        record.host,
        words::moment(record.started_ms)
    )?;
    writeln!(to, "{}", command(record))?;
    let allowed = allowed(record);
    for step in &record.steps {
        let time = if step.elapsed_ms > 0 {
            format!("  {}", words::duration_ms(step.elapsed_ms))
        } else {
            String::new()
        };
        // As the run itself told it.
        let (again, attempts) = match (step.attempts.len(), step.outcome) {
            (0 | 1, _) => (String::new(), String::new()),
            (count, Outcome::Failed) => (String::new(), format!(" ({count} attempts)")),
            (count, _) => (format!(", attempt {count}"), String::new()),
        };
        let failure = step.attempts.last().and_then(|attempt| attempt.failure.as_ref());
        let why = match (failure, &step.why) {
            (Some(failure), _) => format!("  {failure}{attempts}"),
            (None, Some(why)) => format!("  {why}"),
            (None, None) => String::new(),
        };
        let allowed = if allowed.contains(step.step.as_str()) { " (allowed)" } else { "" };
        writeln!(to, "{:9} {}{time}{again}{allowed}{why}", step.outcome.word(), step.step)?;
    }
    writeln!(to, "{}", outcome(memo, record))
}

/// The steps that failed, and may.
fn allowed(record: &RunRecord) -> HashSet<&str> {
    record.allowed.iter().map(String::as_str).collect()
}

/// What came of a run, in words.
fn outcome(memo: &Memo, record: &RunRecord) -> String {
    match (record.ended_ms, memo.goes_on(record)) {
        (Some(_), _) => lines::last_line(&record.summary, record.allowed.len()),
        (None, Some(true)) => format!("running since {}", words::moment(record.started_ms)),
        (None, Some(false)) => "was killed".to_owned(),
        (None, None) => "has not ended, or was killed".to_owned(),
    }
}

/// The command line, and of a sweep the combination that this was the run of.
fn command(record: &RunRecord) -> String {
    let words: Vec<&str> = record.command_line.iter().map(String::as_str).collect();
    let command = match words.as_slice() {
        [program, rest @ ..] => {
            let name = program.rsplit('/').next().unwrap_or(program);
            std::iter::once(name).chain(rest.iter().copied()).collect::<Vec<_>>().join(" ")
        }
        [] => String::new(),
    };
    match &record.combination {
        Some(combination) => format!("{command} ({})", words::on_a_line(combination)),
        None => command,
    }
}

fn row<'a>(memo: &Memo, run: u64, record: &'a RunRecord) -> Row<'a> {
    Row {
        run,
        pipeline: &record.pipeline,
        file: record.file.as_deref(),
        mode: record.mode.as_deref(),
        command_line: &record.command_line,
        combination: record.combination.as_deref(),
        host: &record.host,
        program: &record.program,
        started_at: words::moment_utc(record.started_ms),
        ended_at: record.ended_ms.and_then(words::moment_utc),
        running: memo.goes_on(record),
        counts: counts(record),
        steps: None,
    }
}

/// The counts of a run as members, by the names of the outcomes.
fn counts(record: &RunRecord) -> Map<String, Value> {
    let summary = &record.summary;
    let mut members: Map<String, Value> = summary
        .counts()
        .into_iter()
        .map(|(outcome, count)| (outcome.word().to_owned(), count.into()))
        .collect();
    members.insert("allowed".to_owned(), record.allowed.len().into());
    members.insert("elapsed_ms".to_owned(), summary.elapsed_ms.into());
    members.insert("interrupted".to_owned(), summary.interrupted.into());
    members
}

fn steps(run: &RunRecord) -> Vec<Step<'_>> {
    let step = |step: &'_ cas_engine::record::StepRecord| -> (Option<String>, usize) {
        (step.version.map(|version| version.to_string()), step.attempts.len())
    };
    let allowed = allowed(run);
    run.steps
        .iter()
        .map(|record| {
            let (version, attempts) = step(record);
            let failure = record.attempts.last().and_then(|attempt| attempt.failure.as_ref());
            Step {
                step: &record.step,
                outcome: record.outcome.word(),
                version,
                why: record.why.as_deref(),
                elapsed_ms: record.elapsed_ms,
                attempts,
                failure: failure.map(|failure| failure.message.as_str()),
                allowed: allowed.contains(record.step.as_str()),
            }
        })
        .collect()
}
