//! `cas gc`: collects by policy.

use std::io::Write;
use std::time::Duration;

use cas_engine::run::now_ms;
use cas_store::{CollectReport, Garbage, Going, Mode, Policy, Store, Version};
use serde::Serialize;

use super::{done, out};
use crate::args::Which;
use crate::failure::{Code, Failure};
use crate::report::{json, words};
use crate::session::World;

/// Remove what nothing names, and what the policy gives up
///
/// What is cheapest to make again per byte, and longest unused, goes first. Its record stays, so that what was made from
/// it is still found. What is pinned, or used by a live run, stays. Bounds that are not given come from the store's
/// config.toml; without any, only what nothing names goes.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Example:
  $ cas gc --max-size 10G --dry-run
  $ cas gc --max-size 10G --keep-last 3 --save")]
pub(crate) struct GcArgs {
    /// Keep at most so many bytes
    #[arg(long, value_name = "SIZE", value_parser = cas_store::config::parse_size, help_heading = "Policy")]
    max_size: Option<u64>,
    /// Give up what was not used for so long
    #[arg(long, value_name = "TIME", value_parser = cas_store::config::parse_age, help_heading = "Policy")]
    max_age: Option<Duration>,
    /// Leave so much free on the disk
    #[arg(long, value_name = "SIZE", value_parser = cas_store::config::parse_size, help_heading = "Policy")]
    min_free: Option<u64>,
    /// Keep the last N results of each step
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), help_heading = "Policy")]
    keep_last: Option<u64>,
    /// Forget records without bytes that were not used for so long
    #[arg(long, value_name = "TIME", value_parser = cas_store::config::parse_age, help_heading = "Policy")]
    max_record_age: Option<Duration>,
    /// Keep these bounds in the store's config.toml
    #[arg(long, help_heading = "Policy")]
    save: bool,
    /// Remove nothing: print what would go
    #[arg(short = 'n', long)]
    dry_run: bool,
    #[command(flatten)]
    which: Which,
}

#[derive(Serialize)]
struct Row<'a> {
    what: &'static str,
    names: &'a [String],
    /// Of its first output, as long as a row names it.
    version: Option<String>,
    id: String,
    why: String,
    bytes: u64,
    cost_ms: u64,
    used_at: Option<String>,
}

pub(crate) fn gc(world: &mut World, args: &GcArgs) -> Result<Code, Failure> {
    let (_, store) = world.store_to_read(&args.which)?;
    let Some(store) = store else { return Ok(Code::Done) };
    let policy = Policy {
        max_size_bytes: args.max_size,
        max_age: args.max_age,
        min_free_bytes: args.min_free,
        keep_last: args.keep_last,
        max_record_age: args.max_record_age,
    };
    let policy = policy.or(&store.config().policy);
    if args.save && !args.dry_run {
        store.save_policy(&policy)?;
    }
    let mode = if args.dry_run { Mode::DryRun } else { Mode::Collect };
    let listed = args.dry_run || world.common.verbose;
    let mut out = out();
    if world.json() {
        let mut rows = Vec::new();
        store.gc(&policy, mode, now_ms(), &mut |going| {
            let version = version(&store, &going);
            rows.push((going, version));
        })?;
        json::document(&mut out, "gc", rows.iter().map(|(going, version)| row(going, *version)))?;
        return done(out);
    }
    let mut written = Ok(());
    let report = store.gc(&policy, mode, now_ms(), &mut |going| {
        if listed && written.is_ok() {
            written = writeln!(out, "{}", line(&going, version(&store, &going)));
        }
    })?;
    written?;
    writeln!(out, "{}", summary(&report, args.dry_run))?;
    if let (folders @ 1.., bytes) = store.scratch_size() {
        let folders = words::count(usize::try_from(folders).unwrap_or(usize::MAX), "scratch folder");
        world.tell(format_args!("{folders} of steps: {}; `cas clean` removes them", words::size(bytes)));
    }
    done(out)
}

/// The version that names a result, of its first output.
fn version(store: &Store, going: &Going) -> Option<Version> {
    match &going.what {
        // What cannot be read is only not shown.
        Garbage::Bytes { trace, .. } | Garbage::Record { trace, .. } => store.rows_of(trace, 1).ok()?.pop(),
        Garbage::RunLogs { .. } | Garbage::Run { .. } | Garbage::Blob { .. } => None,
    }
}

fn row(going: &Going, version: Option<Version>) -> Row<'_> {
    let (what, names, id) = parts(going);
    Row {
        what,
        names,
        version: version.map(|version| version.to_string()),
        id,
        why: going.why.to_string(),
        bytes: going.bytes,
        cost_ms: going.cost_ms,
        used_at: (going.used_ms > 0).then(|| words::moment_utc(going.used_ms)).flatten(),
    }
}

fn parts(going: &Going) -> (&'static str, &[String], String) {
    match &going.what {
        Garbage::Bytes { trace, labels } => ("result", labels, trace.to_string()),
        Garbage::Record { trace, labels } => ("record", labels, trace.to_string()),
        Garbage::RunLogs { id } => ("run-logs", &[], id.to_string()),
        Garbage::Run { id } => ("run", &[], id.to_string()),
        Garbage::Blob { digest } => ("blob", &[], digest.to_string()),
    }
}

fn line(going: &Going, version: Option<Version>) -> String {
    let (what, labels, id) = parts(going);
    let name = match labels {
        [] => id.get(..12).unwrap_or(&id).to_owned(),
        [label] => label.clone(),
        [label, more @ ..] => format!("{label} and {} more", more.len()),
    };
    let rebuild = match going.cost_ms {
        0 => String::new(),
        cost => format!(", {} to rebuild", words::duration_ms(cost)),
    };
    let version = version.map(|version| format!("  {}", version.short())).unwrap_or_default();
    format!("{what:8}  {name}{version}  {}{rebuild}  ({})", words::size(going.bytes), going.why)
}

fn summary(report: &CollectReport, dry_run: bool) -> String {
    let count = |number: u64, noun: &str| words::count(usize::try_from(number).unwrap_or(usize::MAX), noun);
    let mut parts = Vec::new();
    for (number, of, noun) in [
        (report.results, "", "result"),
        (report.records, "", "record"),
        (report.runs, "", "run"),
        (report.run_logs, "logs of ", "run"),
        (report.unnamed, "", "unnamed blob"),
    ] {
        if number > 0 {
            parts.push(format!("{of}{}", count(number, noun)));
        }
    }
    let mut kept = Vec::new();
    for (number, why) in [(report.kept_pinned, "pinned"), (report.kept_in_use, "in use")] {
        if number > 0 {
            kept.push(format!("{} {why}", count(number, "result")));
        }
    }
    let kept = if kept.is_empty() { String::new() } else { format!("; kept: {}", kept.join(", ")) };
    let size =
        format!("{} → {}", words::size(report.size_before_bytes), words::size(report.size_after_bytes()));
    match (parts.is_empty(), dry_run) {
        (true, _) => format!("nothing to collect, {}{kept}", words::size(report.size_before_bytes)),
        (false, true) => format!("would go: {}, {size}{}{kept}", parts.join(", "), rebuild(report)),
        (false, false) => format!("gone: {}, {size}{}{kept}", parts.join(", "), rebuild(report)),
    }
}

fn rebuild(report: &CollectReport) -> String {
    match report.rebuild_ms {
        0 => String::new(),
        cost => format!(", {} to rebuild", words::duration_ms(cost)),
    }
}
