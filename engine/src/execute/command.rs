//! Runs a command in a clean folder: prepares the folder, runs the process group to its end, collects what was
//! declared, and says in its own words what went wrong.
//!
//! Reads no store and no environment: what a step is given stands in its [`Attempt`]. `folder.rs` says what
//! lies where; `line.rs` what the command line and the environment are; `produced.rs` what counts as an output.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::line::{CommandLine, Facts, InputFact, InputForm, LINE_LIMIT_BYTES};
use super::orphans::Whose;
use super::process::{self, End, Ended, Process, Sink, Spawner};
use super::program::{self, NoProgram};
use super::sandbox::advice::advice;
use super::sandbox::{Rules, Sandbox};
use super::scratch::Scratch;
use super::{Attempt, Attempted, Cause, Content, Execute, Failure, GivenWhat, Produced, Stop, Undeclared};
use super::{blot, folder, mounts, produced, repeat};
use crate::file::quote;
use crate::solid::{Body, Command};
use crate::source::Environment;

/// The file, in the attempt's folder, of a shell line that is too long to be an argument.
pub(crate) const LONG_LINE: &str = "line";

/// What a step's PATH is where this process has none.
pub(crate) const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How long a step may take to end when it is asked to, before it is killed.
const GRACE: Duration = Duration::from_secs(10);

/// Runs commands. One is shared by all threads of a run.
#[derive(Debug)]
pub struct CommandExecutor {
    path: String,
    grace: Duration,
    spawner: Spawner,
    /// Where programs were found, by name and PATH: a run of many steps looks along PATH once.
    programs: Mutex<HashMap<(String, String), PathBuf>>,
}

impl CommandExecutor {
    /// Takes PATH, and nothing else, from an environment.
    pub fn new(environment: &Environment) -> Self {
        let path = environment.vars.get("PATH").cloned().unwrap_or_else(|| DEFAULT_PATH.to_owned());
        Self { path, grace: GRACE, spawner: Spawner::new(), programs: Mutex::default() }
    }

    /// Lets steps have this long to end when they are asked to.
    #[must_use]
    pub fn grace(self, grace: Duration) -> Self {
        Self { grace, ..self }
    }

    /// Prepares the folder of an attempt without running anything: for a person who wants to look around in
    /// it. Gives where the command would run, and its environment.
    ///
    /// # Errors
    /// As an attempt would fail before its command is started.
    pub fn prepare(&self, attempt: &Attempt<'_>) -> Result<(PathBuf, Vec<(String, String)>), Failure> {
        let facts = facts(attempt);
        folder::prepare(attempt, &facts.config_json()).map_err(|error| unprepared(&error))?;
        for scratch in &attempt.solid.policy.scratch {
            let at = folder::step(attempt.folder).join(&scratch.at);
            let empty = fs::create_dir_all(&at).and_then(|()| Ok(fs::read_dir(&at)?.next().is_none()));
            if !empty.map_err(|error| unscratched(&scratch.at, &error))? {
                return Err(unscratched(&scratch.at, &io::ErrorKind::DirectoryNotEmpty.into()));
            }
        }
        let env = facts.environment(attempt.folder, &self.path, attempt.path, attempt.env);
        Ok((folder::step(attempt.folder), env))
    }

    fn attempt(&self, attempt: &Attempt<'_>) -> Result<Started, Failure> {
        let Body::Command(command) = &attempt.solid.body else {
            return Err(not_started("it is a function, not a command".to_owned(), None));
        };
        if attempt.cancel.now() > Stop::No {
            return Err(Failure { cause: Cause::Cancelled, message: "stopped".to_owned(), hint: None });
        }
        let line = facts(attempt).command_line().map_err(|what| not_started(what, None))?;
        let (step, env) = self.prepare(attempt)?;
        if let Some(scratch) = attempt.scratch {
            scratch
                .bring(&attempt.solid.outputs)
                .map_err(|error| unscratched(&scratch.paths().join(", "), &error))?;
        }
        let path = env.iter().find(|(name, _)| name == "PATH").map_or("", |(_, path)| path.as_str());
        let program = self.program(&line.program, path, &step)?;
        let arguments = arguments(attempt.folder, &line)?;
        if let Some(text) =
            arguments.iter().chain(env.iter().map(|(_, value)| value)).find(|text| !process::passable(text))
        {
            let start: String = text.chars().take(20).filter(|char| !char.is_control()).collect();
            let what = format!("`{start}…` holds a zero byte, which cannot be passed to a program");
            return Err(not_started(what, None));
        }
        let stdout = stdout(attempt, command, &step)?;
        if given_executables(attempt, &step) {
            self.spawner.settle();
        }
        let sandbox = attempt.sandbox.map(|confinement| Sandbox {
            rules: Arc::new(Rules::of(attempt, confinement, path)),
            refuses: confinement.refuses,
        });
        if let Some(sandbox) = &sandbox {
            startable(&program, &line.program, &step, sandbox)?;
        }
        let mounts = mounts::changes();
        let ended = self.spawner.run(Process {
            program: &program,
            name: &line.program,
            arguments: &arguments,
            env: &env,
            folder: &step,
            stdout,
            stderr: Sink::Log(attempt.log),
            timeout: attempt.timeout,
            grace: attempt.grace.unwrap_or(self.grace),
            cancel: attempt.cancel,
            sandbox: sandbox.as_ref(),
            whose: Some(Whose::Attempt(attempt.folder)),
            inherits: attempt.scratch.map(Scratch::lock),
            meanwhile: attempt.meanwhile,
        });
        // Nobody writes to it any more, and nobody has read it.
        let blotted = blot::blot_file(attempt.log, attempt.secrets);
        let ended = ended.map_err(|error| unspawned(&line, &error))?;
        // One that failed is told by how it failed: that its log is not whole may have the same reason.
        if let (End::Exited(0), Err(error)) = (ended.end, &ended.captured) {
            return Err(uncaptured(attempt.log, error));
        }
        if let Err(error) = blotted {
            // What cannot be shown to be clean is not kept.
            let _ = fs::remove_file(attempt.log);
            let what = format!("its captured output could not be freed of secrets: {error}");
            return Err(not_started(what, None));
        }
        Ok(Started { ended, step, mounts })
    }

    /// Finds a program, as `program.rs` does.
    fn program(&self, name: &str, path: &str, step: &Path) -> Result<PathBuf, Failure> {
        let programs = || self.programs.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (name.to_owned(), path.to_owned());
        let known = programs().get(&key).cloned();
        // It may have gone since; then it is looked for again.
        if let Some(known) = known.filter(|known| program::is_program(known)) {
            return Ok(known);
        }
        let program = program::find_program(name, path, step).map_err(|why| no_program(name, &why))?;
        // One that is in the step's own folder, or beside a folder that is named from there, is this step's.
        if path.split(':').all(|entry| entry.starts_with('/')) && program.is_absolute() {
            programs().insert(key, program.clone());
        }
        Ok(program)
    }
}

/// A command that was started, and has ended.
struct Started {
    ended: Ended,
    step: PathBuf,
    /// See [`mounts::changes`]: before it was started.
    mounts: Option<u64>,
}

impl Execute for CommandExecutor {
    fn execute(&self, attempt: &Attempt<'_>) -> Attempted {
        let started = match self.attempt(attempt) {
            Ok(started) => started,
            Err(failure) => return Attempted::new(Err(failure), Duration::ZERO),
        };
        let mut attempted = Attempted::new(outcome(attempt, &started), started.ended.elapsed);
        let Some(confinement) = attempt.sandbox else { return attempted };
        let seen = started.ended.seen.as_ref();
        let undeclared = seen.and_then(|seen| advice(seen, attempt, confinement));
        if confinement.refuses
            && let Err(failure) = &mut attempted.outcome
        {
            tell_refused(failure, undeclared.as_ref(), seen.is_some());
        }
        Attempted { undeclared, ..attempted }
    }

    fn keep(&self, attempt: &Attempt<'_>) -> io::Result<()> {
        let facts = facts(attempt);
        let env = facts.environment(attempt.folder, &self.path, attempt.path, attempt.env);
        repeat::keep(attempt, &facts, &env)
    }
}

/// Says so where the program itself is what a step may not use: it would be told as not permitted, and no more.
fn startable(program: &Path, name: &str, step: &Path, sandbox: &Sandbox) -> Result<(), Failure> {
    let Ok(whole) = step.join(program).canonicalize() else { return Ok(()) };
    if !sandbox.refuses || sandbox.rules.may_read(&whole, false) {
        return Ok(());
    }
    let hint = "name it in a resource that the solid needs: its `probe` (`tool --version`), or the folder in its `path`";
    Err(not_started(
        format!("`{}`, which is `{name}` on PATH, was not given to it (sandbox: deny)", whole.display()),
        Some(hint.to_owned()),
    ))
}

/// Adds to how a step failed what it was refused, which may be why.
fn tell_refused(failure: &mut Failure, undeclared: Option<&Undeclared>, heard: bool) {
    const NAMED: usize = 3;
    if !matches!(failure.cause, Cause::Exit(_) | Cause::Signal(_) | Cause::MissingOutput) {
        return;
    }
    if let Some(undeclared) = undeclared {
        let named = undeclared.used.iter().take(NAMED).map(|used| {
            let (how, path) = used.split_once(' ').unwrap_or(("", used));
            let verb = match how {
                "listed" => "list ",
                "read" => "read ",
                "ran" => "run ",
                "removed" => "remove ",
                _ => "write to ",
            };
            format!("{verb}`{}`", path.split_once(" (").map_or(path, |(path, _)| path))
        });
        let mut refused: Vec<String> = named.collect();
        if undeclared.used.len() > NAMED {
            refused.push(format!("{} more", undeclared.used.len() - NAMED));
        }
        failure.message =
            format!("{}; it was not allowed to {} (sandbox: deny)", failure.message, refused.join(", "));
        failure.hint.get_or_insert_with(|| {
            "declare what it needs; what it writes belongs into its outputs or TMPDIR".to_owned()
        });
    } else if !heard {
        failure.hint.get_or_insert_with(|| {
            "under `sandbox: deny` it sees only what is declared; a \"Permission denied\" of its own may be that"
                .to_owned()
        });
    }
}

/// What the line and the environment of an attempt are made of.
fn facts<'a>(attempt: &Attempt<'a>) -> Facts<'a> {
    let inputs = attempt.inputs.iter().map(|given| InputFact {
        name: &given.name,
        file_name: &given.file_name,
        form: match &given.content {
            Content::FanIn(count) => InputForm::FanIn(*count),
            Content::Gather(_) | Content::Many(_) => InputForm::Gather,
            Content::Absent => InputForm::Absent,
            Content::File
            | Content::Project { .. }
            | Content::Value(_)
            | Content::Bytes(_)
            | Content::Path(_) => InputForm::One,
        },
    });
    Facts {
        solid: attempt.solid,
        config: attempt.config,
        inputs: inputs.collect(),
        resources: attempt.resources.iter().map(|given| (given.name.as_str(), &given.config)).collect(),
        cpus: attempt.cpus,
        hide: false,
    }
}

/// The arguments of the program; a shell line that is too long is put into a file.
fn arguments(folder: &Path, line: &CommandLine) -> Result<Vec<String>, Failure> {
    let mut arguments = line.arguments.clone();
    let Some(text) = &line.line else { return Ok(arguments) };
    if text.len() <= LINE_LIMIT_BYTES {
        arguments.push(text.clone());
        return Ok(arguments);
    }
    if arguments.pop().as_deref() != Some("-c") {
        let what = format!("its command line has {} bytes", text.len());
        let hint = "only a shell whose last argument is `-c` can be given so long a line, through a file";
        return Err(not_started(what, Some(hint.to_owned())));
    }
    let file = folder.join(LONG_LINE);
    fs::write(&file, text).map_err(|error| {
        not_started(format!("its command line cannot be written to `{}`: {error}", file.display()), None)
    })?;
    arguments.push(file.to_string_lossy().into_owned());
    Ok(arguments)
}

/// Where standard output goes, if it is one of the outputs.
fn stdout(attempt: &Attempt<'_>, command: &Command, step: &Path) -> Result<Option<File>, Failure> {
    let output = command
        .stdout
        .as_ref()
        .and_then(|name| attempt.solid.outputs.iter().find(|output| output.name == *name));
    let Some(output) = output else { return Ok(None) };
    let at = step.join(&output.at);
    let made = at.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| File::create(&at));
    made.map(Some).map_err(|error| uncaptured(&at, &error))
}

fn uncaptured(at: &Path, error: &io::Error) -> Failure {
    not_started(format!("its output cannot be captured in `{}`: {error}", at.display()), None)
}

/// Whether the attempt was given files that it may execute.
fn given_executables(attempt: &Attempt<'_>, step: &Path) -> bool {
    let executable = |path: PathBuf| {
        path.metadata().is_ok_and(|there| there.is_file() && there.permissions().mode() & 0o111 != 0)
    };
    attempt.files.iter().any(|file| file.what == GivenWhat::File { executable: true })
        || attempt.inputs.iter().any(|given| match given.content {
            Content::File | Content::Project { .. } => executable(step.join("inputs").join(&given.file_name)),
            // They are not looked at one by one, and waiting costs little.
            Content::FanIn(_) | Content::Gather(_) => true,
            Content::Value(_) | Content::Absent | Content::Bytes(_) | Content::Many(_) | Content::Path(_) => {
                false
            }
        })
}

/// What came of a command that was started.
fn outcome(attempt: &Attempt<'_>, started: &Started) -> Result<Vec<Produced>, Failure> {
    let (cause, message, hint) = match started.ended.end {
        End::Exited(0) => return produced::collect(attempt, &started.step, started.mounts),
        End::Exited(status) => (Cause::Exit(status), format!("exit status {status}"), status_hint(status)),
        End::Signalled(signal) => (
            Cause::Signal(signal),
            format!("ended by {}", process::signal_name(signal)),
            signal_hint(signal).map(str::to_owned),
        ),
        End::TimedOut => (
            Cause::Timeout,
            format!("timed out after {}", duration_in_words(attempt.timeout.unwrap_or_default())),
            Some("give it a longer `timeout`, or none".to_owned()),
        ),
        End::Cancelled => (Cause::Cancelled, "stopped".to_owned(), None),
    };
    Err(Failure { cause, message, hint })
}

fn status_hint(status: i32) -> Option<String> {
    match status {
        126 => Some("a program was found but could not be executed: is it executable, and a program?".into()),
        127 => Some(
            "a program was not found: is it on PATH, or in a resource's `path`, or a script that is not \
             declared under `code`?"
                .into(),
        ),
        129..=159 => {
            let signal = status - 128;
            let name = process::signal_name(signal);
            let more = signal_hint(signal).map(|hint| format!("; {hint}")).unwrap_or_default();
            Some(format!("a shell says so when a program was ended by {name}{more}"))
        }
        _ => None,
    }
}

fn signal_hint(signal: i32) -> Option<&'static str> {
    match signal {
        9 => Some("the system does that when there is no memory left"),
        24 => Some("a limit of processor time was reached (`ulimit -t`)"),
        25 => Some("a limit of file size was reached (`ulimit -f`)"),
        _ => None,
    }
}

fn unscratched(folder: &str, error: &io::Error) -> Failure {
    let hint = match error.kind() {
        io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => {
            Some(
                "a file that is declared lies there: name a folder that only the command writes to"
                    .to_owned(),
            )
        }
        _ => None,
    };
    not_started(format!("its scratch folder `{folder}` cannot be laid in its folder: {error}"), hint)
}

fn not_started(message: String, hint: Option<String>) -> Failure {
    Failure { cause: Cause::NotStarted, message, hint }
}

fn unprepared(error: &folder::Unlaid) -> Failure {
    let path = error.path.display();
    if error.source.kind() == io::ErrorKind::NotFound {
        let message = format!("`{path}` is not there any more");
        return Failure { cause: Cause::SourceChanged, message, hint: None };
    }
    not_started(
        format!("its folder cannot be prepared: `{path}`: {}", error.source),
        of_used_up_files(&error.source),
    )
}

/// What to do where no more files can be opened.
fn of_used_up_files(error: &io::Error) -> Option<String> {
    let used_up = [rustix::io::Errno::MFILE, rustix::io::Errno::NFILE];
    let is = used_up.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()));
    is.then(|| "raise the limit of open files: `ulimit -n 1024`".to_owned())
}

fn no_program(name: &str, why: &NoProgram) -> Failure {
    match why {
        NoProgram::NowhereOnPath(path) => not_started(
            format!("there is no program `{name}` on PATH ({path})"),
            Some(
                "install it, name its folder in a resource's `path`, or write a script's path with a `/`: `./x`"
                    .to_owned(),
            ),
        ),
        NoProgram::NotInFolder => not_started(
            format!("there is no `{name}` in the step's folder"),
            Some(format!("only what is declared is there: add `{name}` to its `code`")),
        ),
        NoProgram::NotAFile => not_started(format!("`{name}` is not a file"), None),
        NoProgram::NotExecutable => {
            not_started(format!("`{name}` is not executable"), Some(format!("chmod +x {}", quote(name))))
        }
    }
}

fn unspawned(line: &CommandLine, error: &io::Error) -> Failure {
    let name = &line.program;
    match error.kind() {
        io::ErrorKind::ArgumentListTooLong => not_started(
            format!(
                "its command line and environment are longer than the system takes ({} bytes of arguments)",
                line.words().map(|word| word.len() + 1).sum::<usize>()
            ),
            Some("pass long lists through a file: every input is one".to_owned()),
        ),
        // The program was found a moment ago: what is missing is what its first line names.
        io::ErrorKind::NotFound => not_started(
            format!("`{name}` could not be started: the interpreter that it names is not there"),
            Some("see its first line (`#!…`)".to_owned()),
        ),
        _ if error.raw_os_error() == Some(rustix::io::Errno::NOEXEC.raw_os_error()) => not_started(
            format!(
                "`{name}` could not be started: it is no program for this machine, and names no interpreter"
            ),
            Some("a script begins with a line such as `#!/bin/sh`".to_owned()),
        ),
        _ => not_started(format!("`{name}` could not be started: {error}"), of_used_up_files(error)),
    }
}

/// A duration as it is written in a pipeline file: `10m`, `1h30m`, `1.5s`, `20ms`.
pub(crate) fn duration_in_words(duration: Duration) -> String {
    let (seconds, millis) = (duration.as_secs(), duration.subsec_millis());
    if seconds == 0 {
        return format!("{millis}ms");
    }
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let mut words = String::new();
    for (count, unit) in [(hours, "h"), (minutes, "m")] {
        if count > 0 {
            words.push_str(&format!("{count}{unit}"));
        }
    }
    if millis > 0 {
        let tail = format!("{rest}.{millis:03}");
        words.push_str(tail.trim_end_matches('0'));
        words.push('s');
    } else if rest > 0 {
        words.push_str(&format!("{rest}s"));
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_told_as_they_are_written() {
        let check = |millis, words: &str| assert_eq!(duration_in_words(Duration::from_millis(millis)), words);
        check(20, "20ms");
        check(1500, "1.5s");
        check(90_000, "1m30s");
        check(600_000, "10m");
        check(5_400_000, "1h30m");
        check(3_600_000, "1h");
        check(60_050, "1m0.050s".replace("0.050", "0.05").as_str());
    }
}
