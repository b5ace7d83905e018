//! Asks probes: shell lines whose answers are ingredients of versions. All at once, each once, for ten seconds
//! at most, in the project folder with a step's environment and the real HOME.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cas_store::{Digest, Trace};
use rustix::fs::{MemfdFlags, memfd_create};

use crate::error::{Diagnostic, Place};
use crate::execute::orphans::Whose;
use crate::execute::process::{End, Process, Sink, Spawner, signal_name};
use crate::execute::program::find_program;
use crate::execute::{Cancel, blot, blotted};
use crate::fork;

/// How long a probe may take.
pub(super) const TIMEOUT: Duration = Duration::from_secs(10);

/// How long it may take to end when that is over.
const GRACE: Duration = Duration::from_secs(1);

/// The most that an answer may have: it stands in every version and record of its steps.
const ANSWER_LIMIT_BYTES: u64 = 1024 * 1024;

/// How much of what it complained is told.
const TAIL_BYTES: usize = 2000;

/// How many run at once: they mostly wait.
const AT_ONCE: usize = 64;

/// Counts the probes that this process asked: their numbers are in no answer's key.
static ASKED: AtomicU64 = AtomicU64::new(0);

/// The context of the keys of answers: none of them is ever the trace of a step.
const CONTEXT: &str = "cas 2026 probe answer 1";
/// The context of what is asked of a given run.
const QUESTION: &str = "cas 2026 probe question 1";

/// A probe.
#[derive(Debug, Clone)]
pub(super) struct Probe {
    /// What it is of, for messages: ``the probe of resource `python` ``.
    pub(super) of: String,
    /// The shell line.
    pub(super) command: String,
    /// Its whole environment.
    pub(super) env: Vec<(String, String)>,
    /// The part of it that the pipeline declares: the same on every machine, but for what is hashed.
    pub(super) declared: Vec<(String, String)>,
    /// Values that are not to be shown.
    pub(super) secrets: Vec<String>,
    /// Where it is declared.
    pub(super) place: Option<Place>,
    /// Whether its answer is kept: it is an input's. A tool may change at any time, and is always asked.
    pub(super) kept: bool,
    /// For how long an answer is good.
    pub(super) every: Option<Duration>,
}

impl Probe {
    /// The key under which its answer is kept: everything that it sees and is told.
    pub(super) fn key(&self, folder: &Path) -> Trace {
        Trace::from_bytes(hashed(
            CONTEXT,
            &[self.command.as_bytes(), folder.as_os_str().as_bytes()],
            &self.env,
        ))
    }

    /// The shell line in a message.
    pub(super) fn shown(&self) -> String {
        shown(&blot::hide(&self.command, &self.secrets))
    }

    /// What is asked, for a run that is to be answered as another was: in whatever folder, on whatever machine.
    pub(super) fn question(&self) -> Digest {
        Digest::from_bytes(hashed(QUESTION, &[self.command.as_bytes()], &self.declared))
    }
}

fn hashed(context: &str, texts: &[&[u8]], env: &[(String, String)]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key(context);
    let mut text = |bytes: &[u8]| {
        // A length before each text, so that no two lists of texts are one.
        hasher.update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
    };
    texts.iter().for_each(|bytes| text(bytes));
    for (name, value) in env {
        text(name.as_bytes());
        text(value.as_bytes());
    }
    *hasher.finalize().as_bytes()
}

/// Asks all of them; gives the answers in their order, each without its final newline. `timeout` is for each.
pub(super) fn ask_all(
    probes: &[&Probe],
    folder: &Path,
    timeout: Duration,
    cancel: &Cancel,
) -> Vec<Result<String, Diagnostic>> {
    let spawner = Spawner::new();
    let ask = |probe: &Probe| ask(probe, folder, timeout, &spawner, cancel);
    let mut answers = Vec::with_capacity(probes.len());
    for probes in probes.chunks(AT_ONCE) {
        if let &[probe] = probes {
            answers.push(ask(probe));
            continue;
        }
        std::thread::scope(|scope| {
            let ask = &ask;
            let running: Vec<_> =
                probes.iter().map(|probe| (probe, fork::begin(scope, move || ask(probe)))).collect();
            answers.extend(running.into_iter().map(|(probe, running)| match running {
                Some(running) => fork::join(running),
                None => ask(probe),
            }));
        });
    }
    answers
}

fn ask(
    probe: &Probe,
    folder: &Path,
    timeout: Duration,
    spawner: &Spawner,
    cancel: &Cancel,
) -> Result<String, Diagnostic> {
    let failed = |what: String, hint: Option<String>| Diagnostic {
        message: format!("{} {what}: `{}`", probe.of, probe.shown()),
        place: probe.place.clone(),
        excerpt: None,
        hint,
    };
    let broken = |error: io::Error| failed(format!("cannot be run ({error})"), None);
    let path = probe.env.iter().find(|(name, _)| name == "PATH").map_or("", |(_, path)| path.as_str());
    let Ok(shell) = find_program("sh", path, folder) else {
        return Err(failed(format!("cannot be run (there is no `sh` on PATH, {path})"), None));
    };
    // Files in memory, not pipes: nobody has to read along, and they have no end to be left open.
    let file = |name: &str| memfd_create(name, MemfdFlags::CLOEXEC).map(File::from);
    let mut stdout = file("probe").map_err(|error| broken(error.into()))?;
    let mut stderr = file("probe").map_err(|error| broken(error.into()))?;
    let ended = spawner
        .run(Process {
            program: &shell,
            name: "sh",
            arguments: &["-e".to_owned(), "-c".to_owned(), probe.command.clone()],
            env: &probe.env,
            folder,
            stdout: Some(stdout.try_clone().map_err(broken)?),
            stderr: Sink::File(stderr.try_clone().map_err(broken)?),
            timeout: Some(timeout),
            grace: GRACE,
            cancel,
            sandbox: None,
            inherits: None,
            whose: Some(Whose::Probe(ASKED.fetch_add(1, Ordering::Relaxed))),
            meanwhile: &|| {},
        })
        .map_err(broken)?;
    let what = match ended.end {
        End::Exited(0) => return answer(&mut stdout).map_err(|what| failed(what, None)),
        End::Exited(status) => format!("failed with exit status {status}"),
        End::Signalled(signal) => format!("was ended by {}", signal_name(signal)),
        End::TimedOut => format!("took longer than {} s", timeout.as_secs_f64()),
        End::Cancelled => "was stopped".to_owned(),
    };
    let complaint = tail(&mut stderr, &probe.secrets).filter(|complaint| !complaint.is_empty());
    Err(failed(what, complaint.map(|complaint| format!("it said: {complaint}"))))
}

fn answer(stdout: &mut File) -> Result<String, String> {
    let len = stdout.metadata().map_err(|error| format!("gave nothing to read ({error})"))?.len();
    if len > ANSWER_LIMIT_BYTES {
        return Err(format!("printed {len} bytes, and an answer may have {ANSWER_LIMIT_BYTES}"));
    }
    let mut bytes = Vec::new();
    let read = stdout.rewind().and_then(|()| stdout.read_to_end(&mut bytes));
    read.map_err(|error| format!("gave nothing to read ({error})"))?;
    let mut text = String::from_utf8(bytes).map_err(|_| "printed what is not UTF-8".to_owned())?;
    if text.ends_with('\n') {
        text.pop();
    }
    Ok(text)
}

/// The end of what was written to standard error.
fn tail(stderr: &mut File, secrets: &[String]) -> Option<String> {
    let mut bytes = Vec::new();
    stderr.rewind().and_then(|()| stderr.take(ANSWER_LIMIT_BYTES).read_to_end(&mut bytes)).ok()?;
    let text = String::from_utf8_lossy(&blotted(&bytes, secrets)).trim().to_owned();
    let start = (text.len().saturating_sub(TAIL_BYTES)..text.len()).find(|at| text.is_char_boundary(*at));
    start.map(|start| text[start..].to_owned())
}

/// A command in a message: its first line.
fn shown(command: &str) -> String {
    match command.trim().split_once('\n') {
        Some((first, _)) => format!("{first} …"),
        None => command.trim().to_owned(),
    }
}
