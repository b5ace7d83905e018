//! `cas logs --follow`: what a step prints, while it runs.
//!
//! Reads the log in the folder of the attempt that is running, and opens no store: the process that runs the step has
//! it. Secrets are blotted out of it here as they are of the kept log when the attempt has ended.

use std::ffi::OsStr;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cas_engine::execute::blotted;
use cas_engine::execute::folder::{is_retried, retry_label, safe_label};
use cas_engine::prepare;

use super::{done, out};
use crate::args::Which;
use crate::failure::{Code, Failure};
use crate::session::World;

/// How often it is looked whether there is more.
const PAUSE: Duration = Duration::from_millis(50);

/// How long after a step has ended its log is waited for where none was made: whoever reads its pipe does that at once.
const LATE: Duration = Duration::from_secs(1);

/// How much of a step's name is in the name of its folder (see `docs/format.md`).
const NAME_LEN: usize = 64;

pub(super) fn follow(world: &mut World, names: &[String], which: &Which) -> Result<Code, Failure> {
    let session = world.graph(which)?;
    let [name] = names else {
        return Err(Failure::usage("name one step to follow"));
    };
    let steps = session.graph.select(name)?;
    let [step] = steps.as_slice() else {
        return Err(Failure::usage(format!("`{name}` is {} steps", steps.len()))
            .hint(format!("name one: {}", session.graph.step_name(steps[0]))));
    };
    let name = session.graph.step_name(*step);
    let secrets = prepare::secrets(&session.graph, *step, &world.environment).map_err(|missing| {
        Failure::usage(format!("what `{name}` prints may hold its secret `{missing}`, which is not set here"))
            .hint(format!("set the environment variable `{missing}`, so that it can be blotted out"))
    })?;
    let work = session.choice.dir.join("work");
    let Some(mut attempt) = running(&work, &name) else {
        return Err(Failure::missing(format!("`{name}` does not run now"))
            .hint(format!("`{} logs {name}` prints what it printed", world.name)));
    };
    let mut out = out();
    loop {
        if print(&mut out, &attempt, &secrets)? {
            return done(out);
        }
        // Where it failed and is attempted again, that goes on elsewhere.
        match following(&work, &name, &attempt) {
            Some(next) => attempt = next,
            None => return done(out),
        }
    }
}

/// Prints a log until its attempt has ended; true where nobody listens any longer.
fn print(out: &mut dyn Write, attempt: &Path, secrets: &[String]) -> Result<bool, Failure> {
    let log = attempt.join("log");
    let Some(mut file) = begun(&log, attempt)? else { return Ok(false) };
    let mut waiting: Vec<u8> = Vec::new();
    loop {
        // Asked before reading: what was written until then is read.
        let runs = is_written(&log, attempt);
        let read = file.read_to_end(&mut waiting)?;
        // Only whole lines, so that no secret is printed in two halves.
        let whole = match (runs, waiting.iter().rposition(|byte| *byte == b'\n')) {
            (false, _) => waiting.len(),
            (true, Some(end)) => end + 1,
            (true, None) => 0,
        };
        let shown = blotted(&waiting[..whole], secrets);
        waiting.drain(..whole);
        if let Err(error) = out.write_all(&shown).and_then(|()| out.flush()) {
            return if error.kind() == std::io::ErrorKind::BrokenPipe { Ok(true) } else { Err(error.into()) };
        }
        if !runs {
            return Ok(false);
        }
        if read == 0 {
            std::thread::sleep(PAUSE);
        }
    }
}

/// The log of an attempt, which is made with the first byte that the step prints: it is waited for while the step runs.
/// `None` where the attempt ended, or its folder went, without any.
fn begun(log: &Path, attempt: &Path) -> Result<Option<fs::File>, Failure> {
    let mut over = None;
    loop {
        // Asked before opening: what was printed until then is there to be opened.
        let runs = is_written(log, attempt);
        if !runs {
            over.get_or_insert_with(Instant::now);
        }
        // What the step printed last may still be in the pipe that it printed to.
        let is_late = over.is_some_and(|over: Instant| over.elapsed() > LATE) || !attempt.exists();
        match fs::File::open(log) {
            Ok(file) => return Ok(Some(file)),
            Err(error) if error.kind() == ErrorKind::NotFound && !runs && is_late => return Ok(None),
            Err(error) if error.kind() == ErrorKind::NotFound => std::thread::sleep(PAUSE),
            Err(error) => return Err(error.into()),
        }
    }
}

/// The attempt that follows one that ended. While the step may be attempted again, it is waited for.
fn following(work: &Path, name: &str, ended: &Path) -> Option<PathBuf> {
    let (token, number) = made_by(&label_of(&safe_label(name)), ended.file_name()?)?;
    let tried = label_of(&retry_label(&safe_label(name)));
    loop {
        // Asked before looking: what began until then is there to be found.
        let may_follow = folders(work, &tried).any(|(folder, by, _)| by == token && is_retried(&folder));
        let next = folders(work, &label_of(&safe_label(name)))
            .filter(|(folder, by, later)| *by == token && *later > number && !is_ready(folder))
            .min_by_key(|(.., later)| *later);
        match next {
            Some((next, ..)) => return Some(next),
            None if may_follow => std::thread::sleep(PAUSE),
            None => return None,
        }
    }
}

/// Whether an attempt is only being prepared: nothing of it runs yet, and nothing was printed.
fn is_ready(attempt: &Path) -> bool {
    let log = attempt.join("log");
    !log.exists() && !is_written(&log, attempt)
}

/// What folders with a label are called, but for who made them.
fn label_of(label: &str) -> String {
    label
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '=') { c } else { '_' })
        .take(NAME_LEN)
        .collect()
}

/// Which process made a folder with this label, and as which of its own.
fn made_by(label: &str, folder: &OsStr) -> Option<(String, u64)> {
    let (token, number) = folder.to_str()?.strip_prefix(label)?.strip_prefix('-')?.split_once('-')?;
    let is_token = token.bytes().all(|byte| byte.is_ascii_hexdigit());
    Some((token.to_owned(), number.parse().ok().filter(|_| is_token)?))
}

/// The folders with a label, each with who made it.
fn folders(work: &Path, label: &str) -> impl Iterator<Item = (PathBuf, String, u64)> {
    fs::read_dir(work).into_iter().flatten().flatten().filter_map(move |entry| {
        let (token, number) = made_by(label, &entry.file_name())?;
        Some((entry.path(), token, number))
    })
}

/// The folder of the attempt of a step that runs now: the newest, if there are several.
fn running(work: &Path, name: &str) -> Option<PathBuf> {
    let mut folders: Vec<(std::time::SystemTime, PathBuf)> = folders(work, &label_of(&safe_label(name)))
        .filter_map(|(folder, ..)| Some((folder.metadata().ok()?.modified().ok()?, folder)))
        .collect();
    folders.sort();
    folders.into_iter().rev().map(|(_, folder)| folder).find(|folder| is_written(&folder.join("log"), folder))
}

/// Whether a process runs in the attempt's folder, or puts into the log what one that ran there has printed.
fn is_written(log: &Path, attempt: &Path) -> bool {
    let own = std::process::id().to_string();
    let Ok(processes) = fs::read_dir("/proc") else { return false };
    let is_process = |name: &OsStr| name.to_string_lossy().bytes().all(|byte| byte.is_ascii_digit());
    let others: Vec<PathBuf> = processes
        .flatten()
        .filter(|process| process.file_name() != OsStr::new(&own) && is_process(&process.file_name()))
        .map(|process| process.path())
        .collect();
    let runs = |process: &PathBuf| fs::read_link(process.join("cwd")).is_ok_and(|to| to.starts_with(attempt));
    // What was printed goes through a pipe: whoever reads that may have more to write when nothing of the step is left.
    others.iter().any(runs) || others.iter().any(|process| has_to_write(process, log))
}

/// Whether a process has a file open to write: who follows it, too, has it open to read.
fn has_to_write(process: &Path, file: &Path) -> bool {
    let open = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
    open.filter(|open| fs::read_link(open.path()).is_ok_and(|to| to == file)).any(|open| {
        let info = fs::read_to_string(process.join("fdinfo").join(open.file_name())).unwrap_or_default();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
        flags
            .and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok())
            .is_some_and(|flags| flags & 0o3 != 0)
    })
}
