//! `cas stats`: how much is in the store, and how much it saves.

use std::io::Write;

use serde::Serialize;

use super::{done, out};
use crate::args::Which;
use crate::failure::{Code, Failure};
use crate::report::{json, words};
use crate::session::World;

/// Show what the store holds and saves
///
/// Which store it is and what chose it; how many versions, results and blobs are in it; how much sharing equal
/// content and compression save; how often results were reused.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Example:
  $ cas stats --store /data/cas")]
pub(crate) struct StatsArgs {
    #[command(flatten)]
    which: Which,
}

#[derive(Serialize)]
struct Row {
    store: String,
    chosen_by: String,
    exists: bool,
    host: Option<String>,
    versions: u64,
    results: u64,
    evicted: u64,
    blobs: u64,
    inline_blobs: u64,
    folders: u64,
    runs: u64,
    pins: u64,
    named_bytes: u64,
    raw_bytes: u64,
    stored_bytes: u64,
    index_bytes: u64,
    quarantine_bytes: u64,
    scratch: u64,
    scratch_bytes: u64,
    free_bytes: u64,
    dedup_ratio: f64,
    compression_ratio: f64,
    reused: u64,
    made: u64,
    hit_rate: f64,
}

pub(crate) fn stats(world: &mut World, args: &StatsArgs) -> Result<Code, Failure> {
    let (choice, store) = world.store_to_read(&args.which)?;
    let stats = match &store {
        Some(store) => store.stats()?,
        None => cas_store::Stats::default(),
    };
    let mut out = out();
    if world.json() {
        let row = Row {
            store: choice.dir.display().to_string(),
            chosen_by: choice.by.to_string(),
            exists: store.is_some(),
            host: store.as_ref().map(|store| store.host().0),
            versions: stats.rows,
            results: stats.results,
            evicted: stats.evicted,
            blobs: stats.blobs,
            inline_blobs: stats.inline,
            folders: stats.trees,
            runs: stats.runs,
            pins: stats.pins,
            named_bytes: stats.named_bytes,
            raw_bytes: stats.raw_bytes,
            stored_bytes: stats.stored_bytes,
            index_bytes: stats.index_bytes,
            quarantine_bytes: stats.quarantine_bytes,
            scratch: stats.scratch,
            scratch_bytes: stats.scratch_bytes,
            free_bytes: stats.free_bytes,
            dedup_ratio: stats.dedup_ratio(),
            compression_ratio: stats.compression_ratio(),
            reused: stats.reused,
            made: stats.made,
            hit_rate: stats.hit_rate(),
        };
        json::document(&mut out, "stats", [row])?;
        return done(out);
    }
    let count = |number: u64| words::thousands(usize::try_from(number).unwrap_or(usize::MAX));
    writeln!(out, "store        {}", choice.dir.display())?;
    writeln!(out, "chosen by    {}", choice.by)?;
    let Some(store) = store else { return done(out) };
    match store.host() {
        (_, true) => writeln!(out, "host         this command itself (pid {})", std::process::id())?,
        (host, false) => writeln!(out, "host         {host}")?,
    }
    writeln!(out, "versions     {}", count(stats.rows))?;
    writeln!(out, "results      {} ({} evicted)", count(stats.results), count(stats.evicted))?;
    writeln!(
        out,
        "blobs        {} ({} small ones in the index, {} folders)",
        count(stats.blobs),
        count(stats.inline),
        count(stats.trees)
    )?;
    writeln!(out, "runs         {}", count(stats.runs))?;
    writeln!(out, "pins         {}", count(stats.pins))?;
    writeln!(out, "outputs      {}, counted as often as they are named", words::size(stats.named_bytes))?;
    writeln!(
        out,
        "raw          {} ({:.1} times smaller, as equal content is kept once)",
        words::size(stats.raw_bytes),
        stats.dedup_ratio()
    )?;
    writeln!(
        out,
        "stored       {} ({:.1} times smaller, by compression)",
        words::size(stats.stored_bytes),
        stats.compression_ratio()
    )?;
    writeln!(out, "index        {}", words::size(stats.index_bytes))?;
    if stats.quarantine_bytes > 0 {
        writeln!(out, "quarantine   {}", words::size(stats.quarantine_bytes))?;
    }
    if stats.scratch > 0 {
        writeln!(
            out,
            "scratch      {} in {} of steps (`cas clean` removes them)",
            words::size(stats.scratch_bytes),
            words::count(usize::try_from(stats.scratch).unwrap_or(usize::MAX), "folder")
        )?;
    }
    writeln!(out, "free         {}", words::size(stats.free_bytes))?;
    writeln!(
        out,
        "reused       {} of {} ({:.0} %)",
        count(stats.reused),
        count(stats.reused + stats.made),
        stats.hit_rate() * 100.0
    )?;
    done(out)
}
