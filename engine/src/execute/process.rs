//! One process and everything it starts, from its spawning to the moment when none of it is left.
//!
//! A process is made the leader of a group of its own. It is waited for in the kernel (a pidfd, together with
//! the descriptor of [`Cancel`]): no thread, no signal handler and no busy loop. The group is ended while its
//! dead leader has not been reaped, because until then nobody else can be given that number. What has left
//! its group (`setsid`) is ended after it, where orphans are given to this process: see `orphans.rs`.
//!
//! What it prints comes through a pipe, and is put into its log by the thread that waits for it: a step that
//! prints nothing, as most do, makes no file.
//!
//! Nothing here forks: without `pre_exec`, and with a program that is a path, the standard library uses
//! `posix_spawn`, which costs the same however much memory this process has.

mod capture;

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process_group, pidfd_open, test_kill_process_group,
    waitid,
};
use rustix::time::Timespec;

use super::guard::{self, Guard};
use super::orphans::{self, Started, Whose};
use super::paused::{self, Group};
use super::proc;
use super::sandbox::{Sandbox, Seen, Watch};
use super::{Cancel, Stop};
use capture::Capture;

/// How long to look for an end where the kernel cannot tell of it (no descriptor is free).
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// How long a program that we wrote may be held open by a child that is being started. The kernel lets the parent
/// go on before it closes the child's copies of our descriptors, so [`Spawner::settle`] makes this rare and no more,
/// and nothing tells of its end.
const BUSY_WITHIN: Duration = Duration::from_secs(2);

/// How long until it is tried again.
const BUSY_PAUSE: Duration = Duration::from_millis(1);

/// How long killed processes may take to be gone: one that hangs in the kernel (a dead network disk) may stay
/// for ever, and there is nothing that it could still write.
const GONE_WITHIN: Duration = Duration::from_secs(10);

/// A process to be run.
pub(crate) struct Process<'a> {
    /// What is executed: absolute, or with a `/` in it and relative to `folder`.
    pub(crate) program: &'a Path,
    /// What it is told that it was called.
    pub(crate) name: &'a str,
    /// Its arguments.
    pub(crate) arguments: &'a [String],
    /// Its whole environment.
    pub(crate) env: &'a [(String, String)],
    /// Where it runs.
    pub(crate) folder: &'a Path,
    /// What tells what it started and what left its group; `None` where that may go on.
    pub(crate) whose: Option<Whose<'a>>,
    /// Its standard output, where that does not go the way of its standard error.
    pub(crate) stdout: Option<File>,
    /// Its standard error.
    pub(crate) stderr: Sink<'a>,
    /// After how long it is ended.
    pub(crate) timeout: Option<Duration>,
    /// How long it may take to end when it is asked to.
    pub(crate) grace: Duration,
    /// Asks it to end.
    pub(crate) cancel: &'a Cancel,
    /// What it is confined to, if anything.
    pub(crate) sandbox: Option<&'a Sandbox>,
    /// A descriptor that it, and all that it starts, holds too.
    pub(crate) inherits: Option<BorrowedFd<'a>>,
    /// Done once it runs, before it is waited for.
    pub(crate) meanwhile: &'a (dyn Fn() + Sync),
}

/// Where standard error goes.
pub(crate) enum Sink<'a> {
    /// Through a pipe to the end of this file, which is made with the first byte.
    Log(&'a Path),
    /// Into this file.
    File(File),
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// With this status.
    Exited(i32),
    /// By this signal, which was not ours.
    Signalled(i32),
    /// It was ended because its time was over.
    TimedOut,
    /// It was ended because the run was stopped.
    Cancelled,
}

/// A process that has ended, and its group with it.
#[derive(Debug)]
pub(crate) struct Ended {
    /// How.
    pub(crate) end: End,
    /// How long it took, from before it was started.
    pub(crate) elapsed: Duration,
    /// Whether everything that it printed stands in its log.
    pub(crate) captured: io::Result<()>,
    /// What it used beyond what it is confined to; `None` where that could not be heard.
    pub(crate) seen: Option<Seen>,
}

/// Held for reading while a process is being started; see [`Spawner::settle`] and `paused.rs`. There is one for this process,
/// because what it guards, the table of descriptors, is the process's: two runs in one program share it.
pub(super) static STARTING: RwLock<()> = RwLock::new(());

/// Starts processes; shared by all threads that do.
#[derive(Debug)]
pub(crate) struct Spawner {
    /// The umask of this process, which children inherit.
    umask: Option<u32>,
}

/// The umask that every step has.
const UMASK: u32 = 0o022;

impl Spawner {
    /// Looks up this process's umask, in the one way that does not set it (for all threads).
    pub(crate) fn new() -> Self {
        let umask = std::fs::read_to_string("/proc/self/status").ok().and_then(|status| {
            let line = status.lines().find_map(|line| line.strip_prefix("Umask:"))?;
            u32::from_str_radix(line.trim(), 8).ok()
        });
        Self { umask }
    }

    /// Waits until every process that is being started now has been. Until a child has executed its program
    /// it holds a copy of every descriptor, among them those of files that other threads are writing; a file
    /// that somebody holds open for writing cannot be executed ("text file busy"). So whoever is to execute a
    /// file that this process wrote, calls this between closing it and starting.
    pub(crate) fn settle(&self) {
        drop(STARTING.write().unwrap_or_else(PoisonError::into_inner));
    }

    /// Runs a process to its end, and ends what it leaves behind.
    ///
    /// # Errors
    /// It could not be started.
    pub(crate) fn run(&self, process: Process<'_>) -> io::Result<Ended> {
        let guard = Guard::stand_by();
        let begun = paused::now();
        let (mut capture, stderr) = match process.stderr {
            Sink::Log(log) => {
                Capture::begin(log).map(|(capture, end)| (Some(capture), OwnedFd::from(end)))?
            }
            Sink::File(file) => (None, OwnedFd::from(file)),
        };
        let mut command = self.command(process.program, process.name, process.arguments);
        command
            .current_dir(process.folder)
            .env_clear()
            .envs(process.env.iter().map(|(name, value)| (name, value)))
            // Of nobody's choosing, and in no version: it is another one in each run.
            .envs(guard::value().map(|value| (guard::VARIABLE, value)))
            .envs(process.whose.and_then(Whose::variable))
            .stdin(Stdio::null())
            .stdout(match process.stdout {
                Some(file) => Stdio::from(file),
                None => Stdio::from(stderr.try_clone()?),
            })
            .stderr(stderr)
            .process_group(0);
        let (started, group, mut child, watch) = loop {
            let start = |command: &mut Command| match process.sandbox {
                None => command.spawn().map(|child| (child, None)),
                Some(sandbox) => sandbox.spawn(command),
            };
            // Noted before the lock is given back: whoever looks for orphans, or stops all that runs, holds it alone.
            let start = |command: &mut Command| {
                start(command).map(|(child, watch)| {
                    let pid = Pid::from_child(&child);
                    (Started::note(pid), Group::note(pid), child, watch)
                })
            };
            let spawned = match process.inherits {
                None => {
                    let _starting = STARTING.read().unwrap_or_else(PoisonError::into_inner);
                    start(&mut command)
                }
                Some(fd) => {
                    // Alone: what is started at the same time must not get it.
                    let _starting = STARTING.write().unwrap_or_else(PoisonError::into_inner);
                    fcntl_setfd(fd, FdFlags::empty())?;
                    let spawned = start(&mut command);
                    fcntl_setfd(fd, FdFlags::CLOEXEC)?;
                    spawned
                }
            };
            match spawned {
                Err(error)
                    if error.kind() == io::ErrorKind::ExecutableFileBusy
                        && paused::since(begun) < BUSY_WITHIN =>
                {
                    std::thread::sleep(BUSY_PAUSE);
                }
                spawned => break spawned?,
            }
        };
        // The descriptors that the child was given are closed here.
        drop(command);
        (process.meanwhile)();
        let mut waiting = Waiting {
            deadline: process.timeout.and_then(|timeout| begun.checked_add(timeout)),
            grace: process.grace,
            cancel: process.cancel,
            capture: &mut capture,
            guard,
        };
        let waited = waiting.wait(&mut child, group, begun);
        if waited.is_err() {
            // It cannot be watched, so it may not go on.
            let _ = kill_process_group(Pid::from_child(&child), Signal::KILL);
            let _ = child.wait();
        }
        // Reaped: another process may be given its number.
        drop(started);
        Self::end_orphans(process.whose);
        match waited {
            Ok((end, elapsed)) => Ok(Ended {
                end,
                elapsed,
                captured: capture.map_or(Ok(()), Capture::end),
                seen: watch.map(Watch::finish),
            }),
            Err(error) => Err(error),
        }
    }

    /// Ends what left the group of a process that has ended.
    fn end_orphans(whose: Option<Whose<'_>>) {
        if let Some(whose) = whose.filter(|_| orphans::may_be_left()) {
            orphans::end_those_of(whose);
        }
    }

    fn command(&self, program: &Path, name: &str, arguments: &[String]) -> Command {
        if self.umask == Some(UMASK) {
            let mut command = Command::new(program);
            command.arg0(name).args(arguments);
            return command;
        }
        // A shell in between, because neither setting our own umask (it is every thread's) nor a hook in the
        // child (it would have to be forked) will do.
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "umask 022; exec \"$@\"", "sh"]);
        if name.contains('/') {
            command.arg(name)
        } else {
            command.arg(program)
        };
        command.args(arguments);
        command
    }
}

/// What may cut a process short, and what it prints until then.
struct Waiting<'a, 'b> {
    deadline: Option<Instant>,
    grace: Duration,
    cancel: &'a Cancel,
    capture: &'a mut Option<Capture<'b>>,
    guard: Guard,
}

/// How far the ending of a process has come.
#[derive(Clone, Copy)]
enum Stage {
    /// It runs.
    Running,
    /// It was asked to end, and will be made to at this time.
    Asked { why: End, kill_at: Instant },
    /// It was killed.
    Killed { why: End },
}

impl Waiting<'_, '_> {
    fn wait(&mut self, child: &mut Child, noted: Group, begun: Instant) -> io::Result<(End, Duration)> {
        let group = Pid::from_child(child);
        let leader = pidfd_open(group, PidfdFlags::empty()).ok();
        let mut stage = Stage::Running;
        // Looked at before anything is due: this process may have been stopped since, and the other one ended in time.
        while !self.ended(leader.as_ref(), group, stage)? {
            stage = self.advance(stage, group);
        }
        let elapsed = paused::since(begun);
        // What is left of a group that was asked to end may take its time too: it was asked with its leader.
        while let Stage::Asked { kill_at, .. } = stage {
            let Some(member) = members(group).into_iter().find(|member| *member != group) else { break };
            let member = pidfd_open(member, PidfdFlags::empty()).ok();
            self.sleep(member.as_ref(), stage)?;
            stage = self.advance(stage, group);
            if paused::now() >= kill_at {
                break;
            }
        }
        // Before the leader is reaped: until then its number, which is the group's, is not given to others.
        let _ = kill_process_group(group, Signal::KILL);
        drop(noted);
        let status = child.wait()?;
        gone(group);
        let end = match stage {
            Stage::Asked { why, .. } | Stage::Killed { why } => why,
            Stage::Running => match (status.code(), status.signal()) {
                (Some(code), _) => End::Exited(code),
                (None, signal) => End::Signalled(signal.unwrap_or_default()),
            },
        };
        Ok((end, elapsed))
    }

    /// Does what is due.
    fn advance(&self, stage: Stage, group: Pid) -> Stage {
        let now = paused::now();
        let level = self.cancel.now();
        let why = match stage {
            Stage::Running if level > Stop::No => End::Cancelled,
            Stage::Running if self.deadline.is_some_and(|deadline| now >= deadline) => End::TimedOut,
            Stage::Asked { why, kill_at } if level == Stop::Now || now >= kill_at => {
                let _ = kill_process_group(group, Signal::KILL);
                return Stage::Killed { why };
            }
            Stage::Running | Stage::Asked { .. } | Stage::Killed { .. } => return stage,
        };
        if level == Stop::Now {
            let _ = kill_process_group(group, Signal::KILL);
            return Stage::Killed { why };
        }
        let _ = kill_process_group(group, Signal::TERM);
        // One that was stopped gets the other signal only when it is continued.
        let _ = kill_process_group(group, Signal::CONT);
        Stage::Asked { why, kill_at: now.checked_add(self.grace).unwrap_or(now) }
    }

    /// Waits for the leader, or until something is due; whether the leader has ended. It is not reaped.
    fn ended(&mut self, leader: Option<&OwnedFd>, group: Pid, stage: Stage) -> io::Result<bool> {
        if leader.is_some() {
            return self.sleep(leader, stage);
        }
        self.sleep(None, stage)?;
        let how = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        Ok(waitid(WaitId::Pid(group), how)?.is_some())
    }

    /// Sleeps until the process ends (which it then says), it has printed something (which is taken), the run is
    /// stopped (more urgently), the next thing is due, or nobody stands by any more (somebody does again).
    fn sleep(&mut self, process: Option<&OwnedFd>, stage: Stage) -> io::Result<bool> {
        let (due, cancel) = match stage {
            Stage::Running => (self.deadline, self.cancel.fd(Stop::No)),
            Stage::Asked { kill_at, .. } => (Some(kill_at), self.cancel.fd(Stop::Gently)),
            Stage::Killed { .. } => (None, Ok(None)),
        };
        let blind = process.is_none() || cancel.is_err();
        let cancel = cancel.ok().flatten();
        let mut time = due.map(|due| due.saturating_duration_since(paused::now()));
        if blind {
            time = Some(time.unwrap_or(LOOK_AGAIN).min(LOOK_AGAIN));
        }
        let mut fds = Vec::with_capacity(4);
        fds.extend(process.map(|fd| PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN)));
        fds.extend(cancel.as_ref().map(|fd| PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN)));
        let guard = self.guard.end().map(|fd| (fds.len(), fd));
        fds.extend(guard.map(|(_, fd)| PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN)));
        // It is the last one, where it is there.
        let pipe = self.capture.as_ref().and_then(Capture::pipe);
        let pipe = pipe.map(|pipe| PollFd::new(pipe, PollFlags::IN));
        let captures = pipe.is_some();
        fds.extend(pipe);
        // Longer than the kernel counts is as good as for ever.
        let time = time.and_then(|time| Timespec::try_from(time).ok());
        match poll(&mut fds, time.as_ref()) {
            Ok(_) => {
                let rings = |fd: Option<&PollFd<'_>>| fd.is_some_and(|fd| !fd.revents().is_empty());
                let ended = process.is_some() && rings(fds.first());
                let printed = captures && rings(fds.last());
                let unguarded = guard.is_some_and(|(place, _)| rings(fds.get(place)));
                drop(fds);
                if unguarded {
                    self.guard.keep();
                }
                if let Some(capture) = self.capture.as_mut().filter(|_| printed) {
                    capture.take();
                }
                Ok(ended)
            }
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// Waits until nothing of a killed group runs any more. Its leader was reaped.
fn gone(group: Pid) {
    let until = Instant::now() + GONE_WITHIN;
    // Nearly always there was nobody else, and this is all. (A zombie that its new parent does not reap
    // counts as a member here, but not below.)
    while test_kill_process_group(group).is_ok() && Instant::now() < until {
        let Some(member) = members(group).into_iter().next() else { return };
        let Ok(member) = pidfd_open(member, PidfdFlags::empty()) else { continue };
        let left = Timespec::try_from(until.saturating_duration_since(Instant::now())).ok();
        let _ = poll(&mut [PollFd::new(&member, PollFlags::IN)], left.as_ref());
    }
}

/// The processes of a group that are not dead.
fn members(group: Pid) -> Vec<Pid> {
    let is_member = |stat: proc::Stat| !stat.is_dead() && stat.group == group.as_raw_nonzero().get();
    proc::all().filter(|pid| proc::stat(*pid).is_some_and(is_member)).filter_map(Pid::from_raw).collect()
}

/// The name of a signal: `SIGSEGV`, or its number.
pub(crate) fn signal_name(signal: i32) -> String {
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
        "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
        "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
    ];
    usize::try_from(signal)
        .ok()
        .and_then(|number| NAMES.get(number.checked_sub(1)?))
        .map_or_else(|| format!("signal {signal}"), |name| format!("SIG{name}"))
}

/// Whether a name is text that the system can take as an argument or a variable: it holds no zero byte.
pub(crate) fn passable(text: &str) -> bool {
    !OsStr::new(text).as_bytes().contains(&0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(line: &str, timeout: Option<Duration>, grace: Duration, cancel: &Cancel) -> (Ended, String) {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        let env = [("PATH".to_owned(), "/usr/bin:/bin".to_owned())];
        let ended = Spawner::new()
            .run(Process {
                program: Path::new("/bin/sh"),
                name: "sh",
                arguments: &["-c".to_owned(), line.to_owned()],
                env: &env,
                folder: folder.path(),
                stdout: None,
                stderr: Sink::Log(&out),
                timeout,
                grace,
                cancel,
                sandbox: None,
                inherits: None,
                whose: None,
                meanwhile: &|| {},
            })
            .unwrap();
        assert!(ended.captured.is_ok());
        (ended, std::fs::read_to_string(out).unwrap_or_default())
    }

    const LONG: Duration = Duration::from_secs(3600);

    #[test]
    fn an_end_is_told_as_what_it_was() {
        let check = |line: &str, end: End| {
            assert_eq!(run(line, Some(LONG), LONG, &Cancel::default()).0.end, end, "{line}");
        };
        check("exit 0", End::Exited(0));
        check("exit 3", End::Exited(3));
        check("kill -SEGV $$", End::Signalled(11));
        check("kill -TERM 0", End::Signalled(15));
    }

    #[test]
    fn the_umask_is_022_whatever_ours_is() {
        let (_, out) = run("umask", None, LONG, &Cancel::default());
        assert_eq!(out.trim_start_matches('0').trim(), "22");
        let other = Spawner { umask: Some(0o077) };
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        other
            .run(Process {
                program: Path::new("/bin/sh"),
                name: "sh",
                arguments: &["-c".to_owned(), "umask; echo \"$1\"".to_owned(), "x".into(), "a  b".into()],
                env: &[],
                folder: folder.path(),
                stdout: None,
                stderr: Sink::Log(&out),
                timeout: None,
                grace: LONG,
                cancel: &Cancel::default(),
                sandbox: None,
                inherits: None,
                whose: None,
                meanwhile: &|| {},
            })
            .unwrap();
        let out = std::fs::read_to_string(out).unwrap();
        assert_eq!(out.trim_start_matches('0'), "22\na  b\n");
    }

    #[test]
    fn what_ignores_the_request_to_end_is_killed_after_the_grace() {
        let grace = Duration::from_millis(50);
        let line = "trap '' TERM; while :; do sleep 1000; done";
        let (ended, _) = run(line, Some(Duration::from_millis(50)), grace, &Cancel::default());
        assert_eq!(ended.end, End::TimedOut);
    }

    #[test]
    fn what_ends_in_order_within_the_grace_is_not_killed() {
        // The leader ends at once; its child takes the request, and writes a word before it goes.
        let line = "(trap 'echo in order; exit' TERM; while :; do sleep 0.01; done) & wait";
        let (ended, out) = run(line, Some(Duration::from_millis(200)), LONG, &Cancel::default());
        assert_eq!(ended.end, End::TimedOut);
        assert!(out.ends_with("in order\n"), "{out}");
    }

    #[test]
    fn a_run_that_is_stopped_at_once_kills_at_once() {
        let cancel = Cancel::default();
        cancel.request(Stop::Now);
        let (ended, _) = run("trap '' TERM; sleep 1000; sleep 1000", None, LONG, &cancel);
        assert_eq!(ended.end, End::Cancelled);
    }

    #[test]
    fn nothing_of_the_group_is_left_when_it_returns() {
        let line = "sleep 1000 & (trap '' HUP TERM; sleep 1000 & sleep 1000) & echo $$";
        let (ended, out) = run(line, None, LONG, &Cancel::default());
        assert_eq!(ended.end, End::Exited(0));
        let group = Pid::from_raw(out.trim().parse().unwrap()).unwrap();
        assert_eq!(members(group), []);
    }

    #[test]
    fn everything_that_is_printed_is_captured_in_order_and_nothing_makes_no_file() {
        let many = "i=0; while [ $i -lt 20000 ]; do echo out $i; echo err $i >&2; i=$((i+1)); done";
        let (_, out) = run(many, None, LONG, &Cancel::default());
        let expected: String = (0..20000).map(|i| format!("out {i}\nerr {i}\n")).collect();
        assert!(out == expected, "{} of {} bytes", out.len(), expected.len());
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let process = |line: &str, stdout, log| {
            let arguments = ["-c".to_owned(), line.to_owned()];
            let process = Process {
                program: Path::new("/bin/sh"),
                name: "sh",
                arguments: &arguments,
                env: &[],
                folder: folder.path(),
                stdout,
                stderr: Sink::Log(log),
                timeout: None,
                grace: LONG,
                cancel: &Cancel::default(),
                sandbox: None,
                inherits: None,
                whose: None,
                meanwhile: &|| {},
            };
            Spawner::new().run(process).unwrap()
        };
        assert!(process("exit 3", None, &log).captured.is_ok());
        assert!(!log.exists());
        let file = File::create(folder.path().join("out")).unwrap();
        assert!(process("echo to a file; echo told >&2", Some(file), &log).captured.is_ok());
        assert_eq!(std::fs::read_to_string(&log).unwrap(), "told\n");
        assert_eq!(std::fs::read_to_string(folder.path().join("out")).unwrap(), "to a file\n");
        // A log that cannot be written is told, and the process still goes its way.
        let nowhere = folder.path().join("missing/log");
        let ended = process("head -c 300000 /dev/zero; exit 7", None, &nowhere);
        assert_eq!(ended.end, End::Exited(7));
        assert!(ended.captured.is_err());
    }

    #[test]
    fn what_leaves_its_group_and_goes_on_printing_is_not_waited_for() {
        // It holds the pipe open for as long as it lives.
        let (ended, out) = run("setsid sleep 1000 & echo $!", None, LONG, &Cancel::default());
        assert_eq!(ended.end, End::Exited(0));
        let left = Pid::from_raw(out.trim().parse().unwrap()).unwrap();
        let _ = rustix::process::kill_process(left, Signal::KILL);
    }

    /// This process had been stopped since the start of the other one, which ended in time, and its time was over when it
    /// was looked at.
    #[test]
    fn what_has_ended_is_not_told_as_timed_out_however_late_that_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let (out, told) = (folder.path().join("out"), folder.path().join("told"));
        rustix::fs::mknodat(rustix::fs::CWD, &told, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        let waits = || {
            let pid = std::fs::read_to_string(&told).unwrap();
            let pid = Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
            waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).unwrap();
        };
        let ended = Spawner::new().run(Process {
            program: Path::new("/bin/sh"),
            name: "sh",
            arguments: &["-c".to_owned(), "echo $$ > told; exit 3".to_owned()],
            env: &[],
            folder: folder.path(),
            stdout: None,
            stderr: Sink::Log(&out),
            timeout: Some(Duration::ZERO),
            grace: LONG,
            cancel: &Cancel::default(),
            sandbox: None,
            inherits: None,
            whose: None,
            meanwhile: &waits,
        });
        assert_eq!(ended.unwrap().end, End::Exited(3));
    }

    #[test]
    fn signals_have_their_names() {
        assert_eq!(signal_name(9), "SIGKILL");
        assert_eq!(signal_name(15), "SIGTERM");
        assert_eq!(signal_name(31), "SIGSYS");
        assert_eq!(signal_name(40), "signal 40");
    }
}
