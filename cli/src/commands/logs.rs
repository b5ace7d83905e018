//! `cas logs`: what steps printed.

use std::collections::BTreeSet;
use std::io::{self, BufWriter, IsTerminal as _, Write};

use cas_engine::memo::{self, Memo, Provenance};
use cas_engine::origin::Origins;
use cas_engine::record::StepRecord;
use cas_store::{Digest, Found, Store};
use serde::Serialize;

use super::{done, follow, out, runs};
use crate::address::Ground;
use crate::args::Which;
use crate::failure::{Code, Failure};
use crate::report::json;
use crate::session::World;

/// Print what a step printed
///
/// For each STEP, its attempts in the last run that executed it, failed ones too; if no run that is kept did, what
/// is stored with its result. Without STEP, all steps that the last run executed.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Example:
  $ cas logs train
  $ cas logs --follow train
  $ cas logs --run 12")]
pub(crate) struct LogsArgs {
    /// Print what these printed
    #[arg(value_name = "STEP")]
    steps: Vec<String>,
    /// Look at this run
    #[arg(long, value_name = "RUN")]
    run: Option<u64>,
    /// Print what STEP prints now, until it ends
    #[arg(long, requires = "steps", conflicts_with = "run")]
    follow: bool,
    #[command(flatten)]
    which: Which,
}

/// What one attempt printed.
struct Printed {
    step: String,
    run: Option<u64>,
    /// Whether that was one of another store.
    imported: bool,
    attempt: usize,
    failure: Option<String>,
    log: Option<Digest>,
}

#[derive(Serialize)]
struct Row {
    step: String,
    run: Option<u64>,
    /// That run was one of another store.
    imported: bool,
    attempt: usize,
    failure: Option<String>,
    text: Option<String>,
}

pub(crate) fn logs(world: &mut World, args: &LogsArgs) -> Result<Code, Failure> {
    if args.follow {
        if world.json() {
            return Err(Failure::usage("what is followed is printed as it is: there is no JSON of it"));
        }
        return follow::follow(world, &args.steps, &args.which);
    }
    let (store, printed) = if args.steps.is_empty() {
        let (_, store) = world.store_to_read(&args.which)?;
        let store = store.ok_or_else(|| Failure::missing("there is no store: there were no runs"))?;
        let printed = of_run(&Memo::new(store.clone()), args.run, None)?;
        (store, printed)
    } else {
        of_steps(world, args)?
    };
    if world.json() {
        let mut out = out();
        let mut rows = Vec::new();
        for printed in printed {
            let text = match &printed.log {
                Some(log) => Some(String::from_utf8_lossy(&store.bytes(log)?).into_owned()),
                None => None,
            };
            let Printed { step, run, imported, attempt, failure, .. } = printed;
            rows.push(Row { step, run, imported, attempt, failure, text });
        }
        json::document(&mut out, "logs", rows)?;
        return done(out);
    }
    let mut out = out_as_printed();
    let several = printed.len() > 1;
    for Printed { step, run, imported, attempt, failure, log } in printed {
        let of = if imported { " of another store" } else { "" };
        let run = run.map(|run| format!(", run {run}{of}")).unwrap_or_default();
        let attempt = if attempt > 1 { format!(", attempt {attempt}") } else { String::new() };
        let failure = failure.map(|failure| format!(": {failure}")).unwrap_or_default();
        if several || !failure.is_empty() {
            // In order with what follows it, where both go to one place.
            out.flush()?;
            world.tell(format_args!("== {step}{run}{attempt}{failure}"));
        }
        match log {
            Some(log) => drop(store.read(&log, &mut out)?),
            None => world.tell(format_args!("{step} printed nothing")),
        }
    }
    done(out)
}

/// Where what steps printed goes: byte by byte into a file or a pipe. A terminal takes text alone, coloured if that is
/// wanted.
fn out_as_printed() -> Box<dyn Write> {
    const BYTES: usize = 1 << 16;
    match io::stdout().is_terminal() {
        true => Box::new(Text {
            to: BufWriter::with_capacity(BYTES, anstream::stdout().lock()),
            rest: Vec::new(),
        }),
        false => Box::new(BufWriter::with_capacity(BYTES, io::stdout().lock())),
    }
}

/// Writes bytes as text, with `�` where they are none.
struct Text<W: Write> {
    to: W,
    /// What may be the beginning of a character.
    rest: Vec<u8>,
}

impl<W: Write> Write for Text<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.rest.extend_from_slice(bytes);
        let mut known = 0;
        for chunk in self.rest.utf8_chunks() {
            let ends = known + chunk.valid().len() + chunk.invalid().len();
            self.to.write_all(chunk.valid().as_bytes())?;
            known += chunk.valid().len();
            let is_whole =
                std::str::from_utf8(chunk.invalid()).is_err_and(|error| error.error_len().is_some());
            if ends == self.rest.len() && !is_whole {
                break;
            }
            if !chunk.invalid().is_empty() {
                self.to.write_all("\u{fffd}".as_bytes())?;
            }
            known = ends;
        }
        self.rest.drain(..known);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.rest.is_empty() {
            self.rest.clear();
            self.to.write_all("\u{fffd}".as_bytes())?;
        }
        self.to.flush()
    }
}

/// The attempts of these steps, or of all, in a run: the given one, else the last one that has any.
fn of_run(memo: &Memo, run: Option<u64>, steps: Option<&BTreeSet<String>>) -> Result<Vec<Printed>, Failure> {
    let wanted = |step: &&StepRecord| {
        !step.attempts.is_empty() && steps.is_none_or(|steps| steps.contains(&step.step))
    };
    let of = |id: u64, steps: &[StepRecord]| -> Vec<Printed> {
        let attempts = steps.iter().filter(wanted).flat_map(|step| {
            step.attempts.iter().enumerate().map(move |(index, attempt)| Printed {
                step: step.step.clone(),
                run: Some(id),
                imported: false,
                attempt: index + 1,
                failure: attempt.failure.as_ref().map(ToString::to_string),
                log: attempt.log,
            })
        });
        attempts.collect()
    };
    if let Some(run) = run {
        let (id, record) = runs::run(memo, run)?;
        return Ok(of(id, &record.steps));
    }
    // Page by page: there may be very many runs, and what is looked for is mostly in the last.
    const PAGE: usize = 50;
    let mut before = None;
    loop {
        let page = memo.runs(before, PAGE)?;
        let Some((oldest, _)) = page.last() else { return Ok(Vec::new()) };
        before = Some(*oldest);
        for (id, record) in &page {
            let found = of(*id, &record.steps);
            if !found.is_empty() {
                return Ok(found);
            }
        }
    }
}

fn of_steps(world: &mut World, args: &LogsArgs) -> Result<(Store, Vec<Printed>), Failure> {
    let ground = Ground::new(world, &args.which)?;
    let store = ground.store()?.clone();
    let memo = Memo::new(store.clone());
    let mut origins = Origins::new(&memo);
    let mut printed = Vec::new();
    for name in &args.steps {
        let steps = match &ground.session {
            Some(session) => session.graph.select(name).ok().map(|steps| (session, steps)),
            None => None,
        };
        // By name first: a step that failed has no version in the store.
        if let Some((session, steps)) = steps {
            let before = printed.len();
            for step in steps {
                let name = session.graph.step_name(step);
                let found = of_run(&memo, args.run, Some(&BTreeSet::from([name.clone()])))?;
                if found.is_empty() && args.run.is_none() {
                    let items = ground.find(world, std::slice::from_ref(&name))?.items;
                    let found = items.first().and_then(|item| item.found.as_ref());
                    let Some(found) = found else {
                        return Err(Failure::missing(format!("`{name}` has not run, as far as is known")));
                    };
                    let made = memo.provenance(&found.trace)?;
                    printed.push(of_result(name, made.as_ref(), found, &mut origins)?);
                } else {
                    printed.extend(found);
                }
            }
            // What is stored may be of any other run.
            if let Some(run) = args.run.filter(|_| printed.len() == before) {
                let failure = Failure::missing(format!("run {run} did not execute `{name}`"));
                return Err(failure.hint(format!("`cas logs {name}` shows what it printed last")));
            }
            continue;
        }
        for item in ground.find(world, std::slice::from_ref(name))?.items {
            let Some(found) = &item.found else {
                item.stored()?;
                continue;
            };
            let made = store.provenance(&found.trace)?.as_deref().and_then(memo::provenance);
            let step = made.as_ref().map_or_else(|| item.name.clone(), |made| made.step.clone());
            printed.push(of_result(step, made.as_ref(), found, &mut origins)?);
        }
    }
    Ok((store, printed))
}

/// What is stored with a result.
fn of_result(
    step: String,
    made: Option<&Provenance>,
    found: &Found,
    origins: &mut Origins<'_>,
) -> Result<Printed, Failure> {
    let imported = made.map_or(Ok(false), |made| origins.is_elsewhere(made))?;
    let run = made.map(|made| made.run);
    Ok(Printed { step, run, imported, attempt: 1, failure: None, log: found.record.log })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_no_text_are_shown_as_such_wherever_they_are_cut() {
        let bytes = b"a\xffb \xe6\x97\xa5 c\xe6\x97";
        for at in 0..bytes.len() {
            let mut text = Text { to: Vec::new(), rest: Vec::new() };
            for part in [&bytes[..at], &bytes[at..]] {
                text.write_all(part).expect("memory takes it");
            }
            text.flush().expect("memory takes it");
            assert_eq!(String::from_utf8_lossy(&text.to), "a\u{fffd}b 日 c\u{fffd}", "{at}");
        }
    }
}
