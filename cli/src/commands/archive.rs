//! `cas export`, `import`: results in one file, from one store to another.

use std::io::Write;
use std::path::{Path, PathBuf};

use cas_engine::archive::{self, Exported};
use cas_engine::frozen::Frozen;
use cas_engine::memo::{Resolved, Wanted};
use cas_engine::run::now_ms;
use cas_engine::select::Selection;
use cas_store::{Archived, Create, Export, StoreError, check_export};
use serde::Serialize;

use super::{done, out};
use crate::args::Which;
use crate::failure::{Code, Failure};
use crate::given_file;
use crate::report::{json, words};
use crate::session::World;

/// Write stored results into a file, for another store
///
/// What is wanted (as for `run`: without STEP, what the pipeline is for) with its bytes, as far as it is stored, and
/// the record of everything above it. Where FILE is imported, all of these are hits: nothing of them runs. But no failure
/// is ever stored: what failed, and was gathered without, is tried again there, as it is here.
///
/// With --since, what another export has is left out; where this one is imported, that one has to be first.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Example:
  $ cas export results.cas
  $ cas export models.cas 'train[*]'
  $ cas export today.cas --since results.cas")]
pub(crate) struct ExportArgs {
    /// The file to write, which must not exist
    #[arg(value_name = "FILE")]
    path: PathBuf,
    /// Export the outputs of these steps
    #[arg(value_name = "STEP")]
    steps: Vec<String>,
    /// Want every output, also those that only other steps consume
    #[arg(long)]
    all: bool,
    /// Leave out what this export has
    #[arg(long, value_name = "FILE")]
    since: Option<PathBuf>,
    #[command(flatten)]
    which: Which,
}

/// Take over the results of an export
///
/// Everything in FILE is checked before anything of it is taken over, and then all of it is, or nothing. What the
/// store has already stays as it is. Importing is trusting: whether a result is what its step would make cannot be
/// seen in a file.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Example:
  $ cas import results.cas")]
pub(crate) struct ImportArgs {
    /// The file
    #[arg(value_name = "FILE")]
    path: PathBuf,
    #[command(flatten)]
    which: Which,
}

/// What is said where what is wanted is not known before a run.
const AS_LEFT: &str =
    "what stands below what changes with time goes along as it was left: `cas run --frozen` takes it";

/// What is said where what is wanted was made without what failed: that it did is known of the runs of this store alone.
const WITHOUT_FAILED: &str = "what was made without what failed goes along: a run there tries that again, and takes it if the same fails";

#[derive(Serialize)]
struct Row {
    file: String,
    #[serde(flatten)]
    archived: Archived,
    missing: Vec<String>,
}

pub(crate) fn export(world: &mut World, args: &ExportArgs) -> Result<Code, Failure> {
    args.since.as_deref().map_or(Ok(()), is_file)?;
    let mut session = world.session(&args.which, Create::Never)?;
    // A list that every run makes anew has the elements that it had last.
    session.name_elements_as_left(world);
    let selection = Selection { steps: args.steps.clone(), exclude: Vec::new() };
    let selected = selection.of(&session.graph)?;
    let plan = session.plan(world, selected.plan.clone())?;
    let wanted = Wanted {
        steps: selected.wanted,
        all: args.all,
        at_ms: now_ms(),
        frozen: session.frozen,
        ..Wanted::default()
    };
    let exported_as = |resolved: &Resolved| archive::exported(&plan, resolved, &wanted);
    let mut exported = exported_as(&session.memo.resolve(&plan, &wanted)?);
    // What is got by its name goes along, too, as it was left. Each is told by itself: it is not taken in one way there.
    if wanted.frozen == Frozen::No && !exported.missing.is_empty() {
        let last = Wanted { frozen: Frozen::Last, ..wanted.clone() };
        add(world, &mut exported, exported_as(&session.memo.resolve(&plan, &last)?), AS_LEFT);
    }
    if !matches!(wanted.frozen, Frozen::Run(_)) && !exported.missing.is_empty() {
        let left = exported_as(&session.memo.resolve_as_left(&plan, &wanted)?);
        add(world, &mut exported, left, WITHOUT_FAILED);
    }
    let store = session.store().filter(|_| exported.results.iter().any(|(_, with_bytes)| *with_bytes));
    let Some(store) = store else {
        return Err(Failure::missing("nothing that is wanted is stored").hint("`cas run` makes it"));
    };
    let program = concat!("cas ", env!("CARGO_PKG_VERSION"));
    let archived = store.export(&Export {
        path: &args.path,
        results: &exported.results,
        since: args.since.as_deref(),
        kept: &exported.kept,
        program,
        at_ms: now_ms(),
    });
    let archived = archived.map_err(|error| match (&error, &args.since) {
        // Nothing is to be imported.
        (StoreError::Archive { path, what }, Some(since)) if path == since => {
            Failure::usage(format!("`{}` is nothing to leave out what it has: {what}", path.display()))
                .hint("name an earlier export with --since")
        }
        _ => error.into(),
    })?;
    for missing in &exported.missing {
        world.warn(format_args!("`{missing}` is not stored: it was left out"));
    }
    let mut out = out();
    if world.json() {
        let file = args.path.display().to_string();
        json::document(&mut out, "export", [Row { file, archived, missing: exported.missing }])?;
    } else {
        writeln!(out, "exported {}", counted(&archived))?;
    }
    done(out)
}

/// Exports what is found in another way, where that is more, and tells how.
fn add(world: &World, exported: &mut Exported, left: Exported, how: &str) {
    if left.missing.len() < exported.missing.len() {
        world.tell(how);
        *exported = left;
    }
}

/// An export is read more than once, and what is no file has no end, or none that can be gone back from.
fn is_file(path: &Path) -> Result<(), Failure> {
    let shown = path.display();
    match given_file::unlike_a_file(path) {
        Some(what) => Err(Failure::usage(format!("`{shown}` is {what}, and an export is a file"))),
        None if path.is_file() => Ok(()),
        None => Err(Failure::usage(format!("there is no file `{shown}`"))),
    }
}

pub(crate) fn import(world: &mut World, args: &ImportArgs) -> Result<Code, Failure> {
    let (choice, _) = world.store_choice(&args.which)?;
    is_file(&args.path)?;
    let mut store = world.open(&choice, &args.which, Create::Never)?;
    if store.is_none() {
        // What is refused leaves no store where there was none.
        check_export(&args.path)?;
        store = world.open(&choice, &args.which, Create::IfAbsent)?;
    }
    let store = store.ok_or_else(|| Failure::missing("there is no store"))?;
    let archived = store.import(&args.path, now_ms())?;
    if archived.differing > 0 {
        let count = words::count(usize::try_from(archived.differing).unwrap_or(usize::MAX), "result");
        world.warn(format_args!(
            "{count} had other content here for the same inputs: what was here stays, the difference is noted"
        ));
    }
    if archived.forgotten > 0 {
        let count = words::count(usize::try_from(archived.forgotten).unwrap_or(usize::MAX), "result");
        world.warn(format_args!("{count} stayed out: forgotten here (`cas forget --list`)"));
    }
    let mut out = out();
    if world.json() {
        let file = args.path.display().to_string();
        json::document(&mut out, "import", [Row { file, archived, missing: Vec::new() }])?;
    } else {
        let known = match archived.known {
            0 => String::new(),
            known => format!(", {known} of them were here already"),
        };
        writeln!(out, "imported {}{known}", counted(&archived))?;
    }
    done(out)
}

fn counted(archived: &Archived) -> String {
    let count = |number: u64, noun| words::count(usize::try_from(number).unwrap_or(usize::MAX), noun);
    format!(
        "{} with {} ({})",
        count(archived.results, "result"),
        count(archived.blobs, "blob"),
        words::size(archived.bytes)
    )
}
