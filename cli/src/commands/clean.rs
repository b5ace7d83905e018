//! `cas clean`: removes work folders and kept failures.

use serde::Serialize;

use super::{done, out};
use crate::args::Which;
use crate::failure::{Code, Failure};
use crate::report::{json, words};
use crate::session::World;
use std::io::Write;

/// Remove the kept folders of failed steps, and leftovers
///
/// The folders in which failed steps ran are kept, so that you can look at them. This removes them, and what killed
/// processes left behind. No result goes.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Example:
  $ cas clean --dry-run")]
pub(crate) struct CleanArgs {
    /// Remove nothing: print what would go
    #[arg(short = 'n', long)]
    dry_run: bool,
    #[command(flatten)]
    which: Which,
}

#[derive(Serialize)]
struct Row {
    path: String,
    bytes: u64,
}

pub(crate) fn clean(world: &mut World, args: &CleanArgs) -> Result<Code, Failure> {
    let (_, store) = world.store_to_read(&args.which)?;
    let mut rows = Vec::new();
    if let Some(store) = store {
        for left in store.leftovers()? {
            if !args.dry_run {
                store.remove_leftover(&left)?;
            }
            rows.push(Row { path: crate::session::shown(&left.path).display().to_string(), bytes: left.bytes });
        }
    }
    let mut out = out();
    if world.json() {
        json::document(&mut out, "clean", rows)?;
        return done(out);
    }
    let bytes: u64 = rows.iter().map(|row| row.bytes).sum();
    if args.dry_run || world.common.verbose {
        for Row { path, bytes } in &rows {
            writeln!(out, "{path}  {}", words::size(*bytes))?;
        }
    }
    let verb = if args.dry_run { "would go" } else { "gone" };
    match rows.len() {
        0 => writeln!(out, "nothing to clean")?,
        number => writeln!(out, "{verb}: {}, {}", words::count(number, "folder"), words::size(bytes))?,
    }
    done(out)
}
