//! `cas verify`: re-hashes and cross-checks, or makes the index anew.

use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use cas_store::{Create, Depth, Finding, Store};
use serde::Serialize;

use super::{done, out};
use crate::args::{self, Which};
use crate::failure::{Code, Failure};
use crate::report::{json, words};
use crate::session::World;

/// Check that the store holds what it says
///
/// Reads and hashes every blob, and cross-checks the index. Damaged content is put into quarantine, and its step runs
/// again when it is needed. Ends with 1 if anything was found; what a crash may leave is not damage.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Example:
  $ cas verify --sample 1%
  $ cas verify --rebuild        the index is lost or damaged")]
pub(crate) struct VerifyArgs {
    /// Look at the sizes of files only
    #[arg(long, conflicts_with_all = ["sample", "rebuild"])]
    quick: bool,
    /// Read and hash a part of the blobs, another one each time
    #[arg(long, value_name = "PART", value_parser = args::fraction, conflicts_with = "rebuild")]
    sample: Option<f64>,
    /// Make the index anew from the journal and the files
    #[arg(long)]
    rebuild: bool,
    #[command(flatten)]
    which: Which,
}

#[derive(Serialize)]
struct Row {
    what: &'static str,
    id: Option<String>,
    text: String,
}

pub(crate) fn verify(world: &mut World, args: &VerifyArgs) -> Result<Code, Failure> {
    if args.rebuild {
        return rebuild(world, args);
    }
    let (_, store) = world.store_to_read(&args.which)?;
    let mut out = out();
    let Some(store) = store else {
        if world.json() {
            json::document(&mut out, "verify", Vec::<Row>::new())?;
        }
        return done(out);
    };
    let depth = match (args.quick, args.sample) {
        (true, _) => Depth::Quick,
        (false, Some(fraction)) => Depth::Sample { fraction, seed: seed() },
        (false, None) => Depth::Full,
    };
    let mut findings = Vec::new();
    let mut told = Ok(());
    let json = world.json();
    let report = store.verify(depth, &mut |finding| {
        if json {
            findings.push(row(&finding));
        } else if told.is_ok() {
            told = writeln!(out, "{finding}");
        }
    })?;
    told?;
    if json {
        json::document(&mut out, "verify", findings)?;
    } else {
        let count =
            |number: u64, noun: &str| words::count(usize::try_from(number).unwrap_or(usize::MAX), noun);
        let found = match report.findings {
            0 => "nothing is wrong".to_owned(),
            number => count(number, "finding"),
        };
        writeln!(
            out,
            "{found}: checked {} and {}, {} read",
            count(report.entries, "record"),
            count(report.blobs, "blob"),
            words::size(report.read_bytes)
        )?;
    }
    done(out)?;
    Ok(if report.findings == 0 { Code::Done } else { Code::Failed })
}

fn rebuild(world: &mut World, args: &VerifyArgs) -> Result<Code, Failure> {
    let (choice, _) = world.store_choice(&args.which)?;
    let report = world.with_open(&args.which, Create::Never, |open| Store::rebuild(&choice.dir, open))?;
    let mut out = out();
    let count = |number: u64, noun: &str| words::count(usize::try_from(number).unwrap_or(usize::MAX), noun);
    if world.json() {
        #[derive(Serialize)]
        struct Rebuilt<'a> {
            changes: u64,
            recovered_blobs: u64,
            missing_blobs: u64,
            unreadable: &'a [String],
        }
        let row = Rebuilt {
            changes: report.changes,
            recovered_blobs: report.recovered,
            missing_blobs: report.missing,
            unreadable: &report.unreadable,
        };
        json::document(&mut out, "verify", [row])?;
        return done(out);
    }
    for place in &report.unreadable {
        world.warn(format_args!("could not be read: {place}"));
    }
    writeln!(
        out,
        "rebuilt the index: {} from the journal, {} found again, {} missing",
        count(report.changes, "change"),
        count(report.recovered, "blob"),
        count(report.missing, "blob")
    )?;
    done(out)
}

fn row(finding: &Finding) -> Row {
    let (what, id) = match finding {
        Finding::Damaged { digest, .. } => ("damaged", Some(digest.to_string())),
        Finding::Missing { digest } => ("missing", Some(digest.to_string())),
        Finding::Row { version, .. } => ("row", Some(version.to_string())),
        Finding::Journal { .. } => ("journal", None),
        Finding::Index { .. } => ("index", None),
    };
    Row { what, id, text: finding.to_string() }
}

/// Another part of the blobs each time.
fn seed() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| u64::from(since.subsec_nanos()) ^ since.as_secs())
}
