//! All that runs below this process, in whatever group or session, stopped together with it.
//!
//! Found through `/proc` by the token that everything has in its environment that was started here (`guard.rs`). Whoever asked
//! to hear of a stop (a `cas run` that a step started, which has steps of its own to stop and a store to hand over) is told so
//! first, and has a moment to stop itself; meanwhile all that has nothing to do with it is stopped already. What such a run
//! started is its own to tell: so it waits for no longer than whoever waits for it. While it is at it, a thread of it is called
//! [`AT_IT`], and it is given the time that a hand-over may take. Never touches what has another token.
//!
//! Invariant: nothing is told to go on here that was not stopped here.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::proc;

/// How long whoever asked to hear of a stop has until it is stopped as all others are.
const STOPS_WITHIN: Duration = Duration::from_secs(5);

/// How long it has where it says that it is at it: it may wait itself for one below it, and then for the answers that its store
/// still gives.
const HANDS_OVER_WITHIN: Duration = Duration::from_secs(30);

/// How long until it is looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// How often it is looked for what was just being started.
const LOOKS: usize = 20;

/// What a thread is called that stops what its process runs, and then the process.
const AT_IT: &str = "cas-stops";

/// What this thread is called.
const NAME: &str = "/proc/thread-self/comm";

/// What was stopped, or is being.
#[derive(Debug)]
pub(super) struct Below {
    token: &'static str,
    /// Those that are to be told before they are stopped.
    asked: BTreeSet<i32>,
    /// Their groups.
    groups: BTreeSet<i32>,
    stopped: BTreeSet<i32>,
}

impl Below {
    /// Looks for those that asked to hear of it.
    pub(super) fn find(token: &'static str) -> Self {
        let all: BTreeMap<i32, Process> =
            with_token(token).into_iter().map(|process| (process.pid, process)).collect();
        let hear: BTreeSet<i32> =
            all.keys().copied().filter(|pid| !is_stopped(*pid) && catches_stop(*pid)).collect();
        // What a run started that hears of it is that one's to tell.
        let is_told = |process: &Process| {
            let above = std::iter::successors(all.get(&process.parent), |one| all.get(&one.parent));
            // Not looked at all at once, they may seem to be each other's.
            above.take(all.len()).any(|one| one.runs < process.runs && hear.contains(&one.pid))
        };
        let asked: Vec<&Process> =
            hear.iter().filter_map(|pid| all.get(pid)).filter(|process| !is_told(process)).collect();
        let groups = asked.iter().map(|process| process.group).collect();
        let asked = asked.iter().map(|process| process.pid).collect();
        Self { token, asked, groups, stopped: BTreeSet::new() }
    }

    /// Whether nobody in this group, by its leader, is to be told before it is stopped.
    pub(super) fn is_deaf(&self, group: i32) -> bool {
        !self.groups.contains(&group)
    }

    /// Tells those that asked to hear of it, stops at once what has nothing to do with them, and waits until they have stopped
    /// themselves. Those that take too long are stopped.
    pub(super) fn ask(&mut self) {
        self.ask_within(STOPS_WITHIN);
    }

    fn ask_within(&mut self, within: Duration) {
        self.asked.iter().for_each(|pid| send(*pid, Signal::TSTP));
        self.stopped.extend(&self.asked);
        let groups = std::mem::take(&mut self.groups);
        // What a run started that was told is stopped by that one.
        self.stop_those(|process| process.runs == 0 && !groups.contains(&process.group));
        let begin = Instant::now();
        loop {
            let elapsed = begin.elapsed();
            let mut waits = false;
            for pid in self.asked.iter().filter(|pid| !is_stopped(**pid)) {
                if elapsed < within || elapsed < HANDS_OVER_WITHIN && is_at_it(*pid) {
                    waits = true;
                } else {
                    send(*pid, Signal::STOP);
                }
            }
            if !waits {
                return;
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// Stops all others, until there is nobody left who could start another one.
    pub(super) fn stop(&mut self) {
        self.stop_those(|_| true);
    }

    fn stop_those(&mut self, which: impl Fn(&Process) -> bool) {
        for _ in 0..LOOKS {
            let told = self.stopped.len();
            for process in with_token(self.token).into_iter().filter(&which) {
                if !is_stopped(process.pid) {
                    self.stopped.insert(process.pid);
                    send(process.pid, Signal::STOP);
                }
            }
            if self.stopped.len() == told {
                return;
            }
        }
    }

    /// Has them go on, but for those that are gone: their numbers may be others'.
    pub(super) fn go_on(&self) {
        let here = with_token(self.token).into_iter().map(|process| process.pid);
        here.filter(|pid| self.stopped.contains(pid)).for_each(|pid| send(pid, Signal::CONT));
    }
}

/// Says to a run in a step of which this one runs that this thread is stopping what it runs, until it is dropped.
#[derive(Debug)]
pub(super) struct AtIt {
    /// What the thread was called.
    name: Vec<u8>,
}

impl AtIt {
    pub(super) fn begin() -> Self {
        // Where it cannot be said it is waited for as for anybody else.
        let name = fs::read(NAME).unwrap_or_default();
        let _ = fs::write(NAME, AT_IT);
        Self { name }
    }
}

impl Drop for AtIt {
    fn drop(&mut self) {
        let _ = fs::write(NAME, self.name.trim_ascii_end());
    }
}

/// A process with this process's token in its environment.
#[derive(Debug)]
struct Process {
    pid: i32,
    parent: i32,
    group: i32,
    /// How many runs there are between this process and that one, each in a step of the one before.
    runs: usize,
}

fn send(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        // It may just have ended.
        let _ = kill_process(pid, signal);
    }
}

/// The processes with this token in their environment.
fn with_token(token: &str) -> Vec<Process> {
    let found = |pid: i32| {
        let environment = proc::environment(pid);
        let at = environment.windows(token.len()).position(|bytes| bytes == token.as_bytes())?;
        let below = environment[at + token.len()..].split(|byte| *byte == 0).next().unwrap_or_default();
        let runs = below.iter().filter(|byte| **byte == b':').count();
        let (parent, group) = proc::stat(pid).map_or((0, 0), |stat| (stat.parent, stat.group));
        Some(Process { pid, parent, group, runs })
    };
    proc::all().filter_map(found).collect()
}

/// Whether it does nothing: it is stopped, or gone.
fn is_stopped(pid: i32) -> bool {
    proc::stat(pid).is_none_or(|stat| stat.is_stopped())
}

/// Whether it says that it is stopping what it runs.
fn is_at_it(pid: i32) -> bool {
    let threads = fs::read_dir(format!("/proc/{pid}/task"));
    let name = |thread: fs::DirEntry| fs::read(thread.path().join("comm")).unwrap_or_default();
    threads.is_ok_and(|mut threads| {
        threads.any(|thread| thread.is_ok_and(|thread| name(thread).trim_ascii_end() == AT_IT.as_bytes()))
    })
}

/// Whether it does something of its own when it is asked to stop.
fn catches_stop(pid: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let caught = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    caught >> (Signal::TSTP.as_raw() - 1) & 1 == 1
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::os::unix::process::CommandExt as _;
    use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

    use rustix::process::kill_process_group;

    use super::*;
    use crate::execute::guard;

    /// A shell in a group of its own, with this in its environment.
    struct Shell {
        child: Child,
        to: ChildStdin,
        from: BufReader<ChildStdout>,
    }

    impl Drop for Shell {
        fn drop(&mut self) {
            let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
            let _ = self.child.wait();
        }
    }

    impl Shell {
        fn start(line: &str, value: &str) -> Self {
            let mut command = Command::new("/bin/sh");
            command.args(["-c", line]).env_clear().env(guard::VARIABLE, value).process_group(0);
            let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
            let (to, from) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
            let mut shell = Self { child, to, from };
            assert_eq!(shell.hear(), "up");
            shell
        }

        fn pid(&self) -> i32 {
            i32::try_from(self.child.id()).unwrap()
        }

        fn hear(&mut self) -> String {
            let mut line = String::new();
            self.from.read_line(&mut line).unwrap();
            line.trim().to_owned()
        }

        /// Waits until the kernel has stopped it: it was told to.
        fn until_stopped(&self) {
            while !is_stopped(self.pid()) {
                std::thread::yield_now();
            }
        }
    }

    /// Stops itself when it is told to, once it has read a line more.
    const HEARS: &str =
        "trap 'echo told; read -r line; kill -STOP $$' TSTP; echo up; while :; do read -r line; done";

    fn new_token() -> &'static str {
        Box::leak(guard::new_token().into_boxed_str())
    }

    /// It was stopped before it had handed its store over, where it waited for a step of its own.
    #[test]
    fn whoever_says_that_it_is_at_it_is_waited_for_longer() {
        for is_at_it in [true, false] {
            let token = new_token();
            let says = if is_at_it { "echo cas-stops > /proc/$$/comm; " } else { "" };
            let mut hears = Shell::start(&format!("{says}{HEARS}"), token);
            let pid = hears.pid();
            let mut below = Below::find(token);
            assert_eq!((&below.asked, below.is_deaf(pid)), (&BTreeSet::from([pid]), false));
            let stopped = std::thread::scope(|scope| {
                let asking = scope.spawn(|| {
                    below.ask_within(Duration::ZERO);
                    is_stopped(pid)
                });
                if is_at_it {
                    assert_eq!(hears.hear(), "told");
                    assert!(!asking.is_finished());
                    hears.to.write_all(b"\n").unwrap();
                }
                asking.join().unwrap()
            });
            if is_at_it {
                assert!(stopped, "it was waited for");
            }
            hears.until_stopped();
            below.go_on();
            while is_stopped(pid) {
                std::thread::yield_now();
            }
        }
    }

    /// They went on until the last one that had to be told had stopped.
    #[test]
    fn what_has_nothing_to_tell_is_stopped_while_others_are_waited_for() {
        let token = new_token();
        let mut hears = Shell::start(HEARS, token);
        let deaf = Shell::start("echo up; while :; do read -r line; done", token);
        // What a run that hears of it started is that one's to tell; where none does, it is told.
        let below_it = format!("{token}:{}", guard::new_token());
        let alone = Shell::start(HEARS, &below_it);
        let inner = "trap : TSTP; echo up; sleep 1000 & wait; wait";
        let nested = format!("{}={below_it} sh -c '{inner}' & {HEARS}", guard::VARIABLE);
        let mut nests = Shell::start(&nested, token);
        assert_eq!(nests.hear(), "up");
        let told = BTreeSet::from([&hears, &alone, &nests].map(Shell::pid));
        let mut below = Below::find(token);
        assert_eq!(below.asked, told);
        assert!(below.is_deaf(deaf.pid()));
        std::thread::scope(|scope| {
            let asking = scope.spawn(|| below.ask_within(Duration::from_secs(3600)));
            deaf.until_stopped();
            assert!(!asking.is_finished() && !is_stopped(hears.pid()));
            assert_eq!(hears.hear(), "told");
            hears.to.write_all(b"\n").unwrap();
            for shell in [&alone, &nests] {
                send(shell.pid(), Signal::STOP);
            }
            asking.join().unwrap();
        });
        below.stop();
        below.go_on();
    }

    #[test]
    fn a_thread_that_is_at_it_says_so_for_as_long_as_it_is() {
        let own = i32::try_from(std::process::id()).unwrap();
        let before = fs::read(NAME).unwrap();
        let at_it = AtIt::begin();
        assert!(is_at_it(own));
        drop(at_it);
        assert_eq!(fs::read(NAME).unwrap(), before);
    }
}
