//! Processes that left the group of the step or probe that started them (`setsid`, a daemon), ended with it.
//!
//! Whoever leaves its group and loses its parent is given to the nearest process above that has asked for orphans
//! (`PR_SET_CHILD_SUBREAPER`), else to the system's first. A program that runs steps and starts nothing else
//! asks for them ([`adopt`]); it is the program that decides, because it concerns all of its process. Then such a process is a
//! child of ours, of which one small file of the kernel tells, and which it belongs to is told by its TMPDIR or its
//! folder: both are the attempt's own. A probe has neither, but a number in its environment. One that shed them, while other steps run beside its own, is ended with the run
//! (but not where this process had children of another's when it asked: their orphans come here too).
//!
//! Invariant: a child that was started here is never reaped or ended here; `Started` knows them.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, getpid, kill_process, pidfd_open, set_child_subreaper, waitpid,
};
use rustix::time::Timespec;

use super::guard;
use super::proc;
use super::process::STARTING;

/// Whether this process is given orphans.
static ADOPTS: AtomicBool = AtomicBool::new(false);

/// Whether this process had children before that: what theirs leave is given to us too, and is none of a step's.
static HAS_OTHERS: AtomicBool = AtomicBool::new(false);

/// The processes that were started here and have not been waited for, or were here before. A number may be given to
/// the next one before it is taken out, so each is counted.
static STARTED: Mutex<BTreeMap<i32, u32>> = Mutex::new(BTreeMap::new());

/// The variable with the number of a probe, which all that it starts has as well.
const PROBE: &str = "CAS_PROBE";

/// How long killed processes may take to be gone.
const GONE_WITHIN: Duration = Duration::from_secs(10);

/// Has this process given all orphans below it, so that what leaves the group of a step is ended with it too. For a
/// program whose only children, while it runs steps, are these steps'. False where the system cannot.
pub fn adopt() -> bool {
    if ADOPTS.load(Ordering::Relaxed) {
        return true;
    }
    let before = strangers();
    HAS_OTHERS.store(!before.is_empty(), Ordering::Relaxed);
    before.into_iter().for_each(|child| *started().entry(child).or_default() += 1);
    let adopts = set_child_subreaper(Some(getpid())).is_ok();
    ADOPTS.store(adopts, Ordering::Relaxed);
    adopts
}

/// Ends what is left of all steps, when none runs any more; only of a program that has [`adopt`]ed. What stands by to end
/// them ends.
pub fn end_all() {
    if ADOPTS.load(Ordering::Relaxed) && !HAS_OTHERS.load(Ordering::Relaxed) {
        end(&|_| true);
    }
    guard::end();
}

/// What tells what a process started, wherever that went.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Whose<'a> {
    /// The folder of its attempt.
    Attempt(&'a Path),
    /// The number of the probe. It has no folder of its own.
    Probe(u64),
}

/// A process that was started here, until it has been waited for.
#[derive(Debug)]
pub(super) struct Started(i32);

impl Started {
    /// Notes a child. Nobody may look for orphans between its start and this: see `process.rs`.
    pub(super) fn note(child: Pid) -> Self {
        let child = child.as_raw_nonzero().get();
        *started().entry(child).or_default() += 1;
        Self(child)
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let mut started = started();
        match started.get_mut(&self.0) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(started.remove(&self.0)),
        }
    }
}

fn started() -> MutexGuard<'static, BTreeMap<i32, u32>> {
    STARTED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether there may be processes that left a group: one look, for each step or probe that ends.
pub(super) fn may_be_left() -> bool {
    ADOPTS.load(Ordering::Relaxed) && !strangers().is_empty()
}

/// Ends what left the group of a process of this attempt or probe.
pub(super) fn end_those_of(whose: Whose<'_>) {
    // Of whom else should it be?
    let alone = || started().is_empty() && !HAS_OTHERS.load(Ordering::Relaxed);
    end(&|pid| alone() || whose.has(pid));
}

/// Ends and reaps the children that were not started here and of which this holds, and theirs, until none is left.
fn end(which: &dyn Fn(i32) -> bool) {
    let until = Instant::now() + GONE_WITHIN;
    loop {
        let (reaped, killed) = {
            // Until a child that is being started has been noted, it is taken for a stranger. Not held while they are waited
            // for, which may take long: whoever is to start something, or to stop everything, needs it.
            let _starting = STARTING.write().unwrap_or_else(PoisonError::into_inner);
            kill(which)
        };
        for process in &killed {
            let left = Timespec::try_from(until.saturating_duration_since(Instant::now())).ok();
            let _ = poll(&mut [PollFd::new(process, PollFlags::IN)], left.as_ref());
        }
        // What they had started is ours now.
        if (!reaped && killed.is_empty()) || Instant::now() >= until {
            return;
        }
    }
}

/// Reaps those that are dead, and kills the others of which this holds: whether there were any of the former, and what tells of
/// the end of the latter.
fn kill(which: &dyn Fn(i32) -> bool) -> (bool, Vec<OwnedFd>) {
    let (mut reaped, mut killed) = (false, Vec::new());
    for stranger in strangers() {
        let Some(pid) = Pid::from_raw(stranger) else { continue };
        // One that is dead has no folder any more; it is nobody's, and is reaped for whoever it was.
        if matches!(waitpid(Some(pid), WaitOptions::NOHANG), Ok(Some(_))) {
            reaped = true;
        } else if which(stranger) {
            let _ = kill_process(pid, Signal::KILL);
            killed.extend(pidfd_open(pid, PidfdFlags::empty()));
        }
    }
    (reaped, killed)
}

/// Our children that were not started here: orphans are given to the main thread.
fn strangers() -> Vec<i32> {
    let own = getpid().as_raw_nonzero();
    let Ok(children) = fs::read_to_string(format!("/proc/self/task/{own}/children")) else {
        return Vec::new();
    };
    let mut children: Vec<i32> =
        children.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect();
    if !children.is_empty() {
        let started = started();
        children.retain(|child| !started.contains_key(child) && !guard::is(*child));
    }
    children
}

impl Whose<'_> {
    /// What such a process has in its environment besides what it is given.
    pub(super) fn variable(self) -> Option<(&'static str, String)> {
        match self {
            Self::Attempt(_) => None,
            Self::Probe(number) => Some((PROBE, number.to_string())),
        }
    }

    /// Whether a process is of it: it has the TMPDIR of the attempt, or is in its folder, or has the number of the probe.
    fn has(self, pid: i32) -> bool {
        match self {
            Self::Attempt(folder) => {
                let is_in = |place: &Path| place.starts_with(folder);
                fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|place| is_in(&place))
                    || has_variable(pid, "TMPDIR", |tmp| {
                        let tmp = Path::new(OsStr::from_bytes(tmp));
                        tmp != folder && is_in(tmp)
                    })
            }
            Self::Probe(number) => has_variable(pid, PROBE, |value| value == number.to_string().as_bytes()),
        }
    }
}

/// Whether a variable of a process is one of which this holds.
fn has_variable(pid: i32, name: &str, which: impl Fn(&[u8]) -> bool) -> bool {
    let environment = proc::environment(pid);
    let value = |variable: &[u8]| variable.strip_prefix(name.as_bytes())?.strip_prefix(b"=").map(&which);
    environment.split(|byte| *byte == 0).any(|variable| value(variable) == Some(true))
}
