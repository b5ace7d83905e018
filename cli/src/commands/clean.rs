//! `cas clean`: removes work folders and kept failures.

use std::io::Write;

use cas_store::{Create, Store, WorkFolder};
use serde::Serialize;

use super::{done, out};
use crate::args::Which;
use crate::failure::{Code, Failure};
use crate::report::{json, words};
use crate::session::World;

/// Remove kept folders of failed steps, scratch folders, leftovers
///
/// The folders in which failed steps ran are kept, so that you can look at them. This removes them, the scratch folders
/// that no attempt has at the moment, and what killed processes left behind. No result goes.
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
    modified_at: Option<String>,
    /// What its removal freed; unknown before.
    bytes: Option<u64>,
}

pub(crate) fn clean(world: &mut World, args: &CleanArgs) -> Result<Code, Failure> {
    let (choice, definition) = world.store_choice(&args.which)?;
    let mut rows = Vec::new();
    let mut row = |folder: &WorkFolder, bytes| {
        let path = crate::session::shown(&folder.path).display().to_string();
        rows.push(Row { path, modified_at: words::moment_utc(folder.modified_ms), bytes });
    };
    match world.open_to_read(&choice, &args.which, definition.as_ref()) {
        Ok(store) => {
            let Some(store) = store else { return finish(world, args, rows) };
            for folder in store.work_folders()?.into_iter().filter(|folder| !folder.in_use) {
                let bytes = if args.dry_run { None } else { Some(store.remove_work_folder(&folder)?) };
                row(&folder, bytes);
            }
        }
        // An index that cannot be opened is no reason to keep rubbish: on a full disk that is what is to go.
        Err(failure) => {
            let dir = &choice.dir;
            let cleaned = world.with_open(&args.which, Create::Never, |open| {
                Store::clean(dir, open, &mut |folder| {
                    let bytes =
                        if args.dry_run { None } else { Some(Store::remove_work_folder_of(dir, &folder)?) };
                    row(&folder, bytes);
                    Ok(())
                })
            });
            if cleaned.is_err() {
                return Err(failure);
            }
        }
    }
    finish(world, args, rows)
}

fn finish(world: &World, args: &CleanArgs, rows: Vec<Row>) -> Result<Code, Failure> {
    let mut out = out();
    if world.json() {
        json::document(&mut out, "clean", rows)?;
        return done(out);
    }
    if args.dry_run || world.common.verbose {
        for Row { path, .. } in &rows {
            writeln!(out, "{path}")?;
        }
    }
    let freed: u64 = rows.iter().filter_map(|row| row.bytes).sum();
    match (rows.len(), args.dry_run) {
        (0, _) => writeln!(out, "nothing to clean")?,
        (number, true) => writeln!(out, "would go: {}", words::count(number, "folder"))?,
        (number, false) => writeln!(out, "gone: {}, {}", words::count(number, "folder"), words::size(freed))?,
    }
    done(out)
}
