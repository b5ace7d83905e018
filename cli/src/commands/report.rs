//! `cas report`: a run as a page to look at, or as a trace for a viewer of traces.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use cas_engine::chronicle::Chronicle;
use cas_engine::memo::Memo;
use cas_engine::run::now_ms;
use clap::ValueEnum;
use serde::Serialize;

use super::{done, out, runs};
use crate::args::Which;
use crate::failure::{Code, Failure};
use crate::report::{json, words};
use crate::session::World;
use crate::{page, trace};

/// Write a page that shows a run: graph, timeline, causes, changes
///
/// Without RUN, the last one of the pipeline at hand, else of the store. The page is one file that needs nothing else and asks nothing of the network. It shows the
/// graph, when each step ran and why, what it took and what was reused, how it differs from the run before, and what
/// failed; of a run that goes on, how far it is.
///
/// With `--as trace` it is a file for viewers of traces, such as Perfetto's or the one in Chromium.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Example:
  $ cas report -o report.html
  $ cas report 12 --as trace -o run-12.json")]
pub(crate) struct ReportArgs {
    /// Show this run
    #[arg(value_name = "RUN")]
    run: Option<u64>,
    /// Write it to FILE
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write it in this form
    #[arg(long = "as", value_name = "FORM", value_enum, default_value_t = Form::Html)]
    form: Form,
    #[command(flatten)]
    which: Which,
}

/// The forms of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    Html,
    Trace,
}

#[derive(Serialize)]
struct Row {
    run: u64,
    path: String,
    bytes: u64,
}

pub(crate) fn report(world: &mut World, args: &ReportArgs) -> Result<Code, Failure> {
    let (choice, definition) = world.store_choice(&args.which)?;
    let store = world.open_to_read(&choice, &args.which, definition.as_ref())?;
    let memo = store.map_or_else(Memo::empty, Memo::new);
    let (run, record) = match args.run {
        Some(run) => runs::run(&memo, run)?,
        None => {
            // A pipeline that cannot be read has runs all the same.
            let here = definition.or_else(|| world.definition(&args.which).ok().flatten());
            runs::last(&memo, here.as_ref().map(|here| here.pipeline.name.as_str()))?
        }
    };
    let chronicle = memo.chronicle(run, record)?;
    let mut out = out();
    let Some(path) = &args.output else {
        if world.json() {
            json::document(&mut out, "report", [page::data(&memo, &chronicle, now_ms())])?;
            return done(out);
        }
        if std::io::stdout().is_terminal() {
            return Err(Failure::usage("a report is no text for a terminal")
                .hint("-o report.html writes it to a file"));
        }
        out.write_all(text(&memo, &chronicle, args.form).as_bytes())?;
        return done(out);
    };
    let text = text(&memo, &chronicle, args.form);
    write(path, &text)?;
    let bytes = text.len() as u64;
    if world.json() {
        let row = Row { run, path: path.to_string_lossy().into_owned(), bytes };
        json::document(&mut out, "report", [row])?;
    } else {
        writeln!(
            out,
            "{}: run {run} of {}, {}",
            path.display(),
            chronicle.record.pipeline,
            words::size(bytes)
        )?;
    }
    done(out)
}

fn text(memo: &Memo, chronicle: &Chronicle, form: Form) -> String {
    match form {
        Form::Html => page::page(memo, chronicle, now_ms()),
        Form::Trace => trace::trace(chronicle),
    }
}

/// Writes a file whole or not at all.
pub(super) fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let failed = |error: std::io::Error| {
        Failure::new(Code::Failed, format!("cannot write `{}`", path.display())).because(error)
    };
    // A pipe or a device is written as it is.
    if path.metadata().is_ok_and(|there| !there.is_file()) {
        return std::fs::write(path, text).map_err(failed);
    }
    let mut name = path.file_name().map(std::ffi::OsStr::to_os_string).unwrap_or_default();
    name.push(format!(".{}", std::process::id()));
    let beside = path.with_file_name(name);
    let written = std::fs::write(&beside, text).and_then(|()| std::fs::rename(&beside, path));
    if written.is_err() {
        // What is left of it is of no use; that it cannot go either changes nothing.
        let _ = std::fs::remove_file(&beside);
    }
    written.map_err(failed)
}
