//! Stopping what runs together with this process (Ctrl-Z), and having it go on with it.
//!
//! A step has a process group of its own, so that a terminal's stop does not reach it: it would go on, with nobody to
//! look after it. Whoever stops this process stops the groups that it started first. The time that they are stopped for
//! is nobody's: the clock in here, by which steps are timed, stands still meanwhile. In a program that has asked for a guard,
//! what left its group is stopped, too (`below.rs`). Where this process is killed while it is stopped, so are they: see `guard.rs`.
//!
//! Invariants: while there is a [`Pause`] nothing is started; a group is told only while its leader has not been reaped.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, RwLockWriteGuard};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use super::below::{AtIt, Below};
use super::guard;
use super::process::STARTING;

/// The leaders of the groups that were started here and have not been reaped.
static GROUPS: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());

static CLOCK: Mutex<Clock> = Mutex::new(Clock { stopped: Duration::ZERO, since: None });

/// How many pauses there are or are about to be, and how many attempts are just beginning.
static BEGINNING: (Mutex<(usize, usize)>, Condvar) = (Mutex::new((0, 0)), Condvar::new());

/// How long a pause waits for what is just beginning: to lay out what a command is given may take longer.
const BEGINS_WITHIN: Duration = Duration::from_secs(1);

/// Stops every process that this one started to run a step or to ask a probe, until the returned value is dropped;
/// nothing is started meanwhile. For a program that is about to be stopped itself: a second one waits for the first to end.
///
/// What has begun to use its limits is let begin before, as far as that is soon: it would keep from others what
/// nothing of it uses.
pub fn pause() -> Pause {
    let at_it = AtIt::begin();
    let (begins, changed) = &BEGINNING;
    let mut count = begins.lock().unwrap_or_else(PoisonError::into_inner);
    count.0 += 1;
    let begun = changed.wait_timeout_while(count, BEGINS_WITHIN, |(_, beginning)| *beginning > 0);
    drop(begun.unwrap_or_else(PoisonError::into_inner));
    let starting = STARTING.write().unwrap_or_else(PoisonError::into_inner);
    let mut below = guard::token().map(Below::find);
    clock().stop(Instant::now());
    // What is told before has its time: nobody else computes meanwhile.
    tell(Signal::STOP, |group| below.as_ref().is_none_or(|below| below.is_deaf(group)));
    if let Some(below) = &mut below {
        below.ask();
        tell(Signal::STOP, |_| true);
        below.stop();
    }
    Pause { below, _at_it: at_it, _nothing_starts: starting }
}

/// While this lives, what runs is stopped.
#[must_use = "dropped, everything goes on"]
#[derive(Debug)]
pub struct Pause {
    /// What left its group, and what a run that a step started runs itself.
    below: Option<Below>,
    /// Whoever runs this process in a step waits until it has stopped itself.
    _at_it: AtIt,
    _nothing_starts: RwLockWriteGuard<'static, ()>,
}

impl Drop for Pause {
    fn drop(&mut self) {
        clock().go_on(Instant::now());
        tell(Signal::CONT, |_| true);
        if let Some(below) = &self.below {
            below.go_on();
        }
        let (begins, changed) = &BEGINNING;
        begins.lock().unwrap_or_else(PoisonError::into_inner).0 -= 1;
        changed.notify_all();
    }
}

/// Until this is over a [`Pause`] waits: an attempt has begun to use its limits, and its process is about to be started.
#[derive(Debug, Default)]
pub(crate) struct Beginning(AtomicBool);

/// Begins that, once there is no pause and none is about to be.
pub(crate) fn beginning() -> Beginning {
    let (begins, changed) = &BEGINNING;
    let count = begins.lock().unwrap_or_else(PoisonError::into_inner);
    let unpaused = changed.wait_while(count, |(pauses, _)| *pauses > 0);
    unpaused.unwrap_or_else(PoisonError::into_inner).1 += 1;
    Beginning::default()
}

impl Beginning {
    /// It runs.
    pub(crate) fn over(&self) {
        if !self.0.swap(true, Ordering::Relaxed) {
            let (begins, changed) = &BEGINNING;
            begins.lock().unwrap_or_else(PoisonError::into_inner).1 -= 1;
            changed.notify_all();
        }
    }
}

impl Drop for Beginning {
    fn drop(&mut self) {
        self.over();
    }
}

/// Now, by the clock that steps are timed by: it stands still while they are stopped by a [`Pause`].
pub fn now() -> Instant {
    clock().at(Instant::now())
}

/// How long ago that was, by the same clock.
pub fn since(then: Instant) -> Duration {
    now().saturating_duration_since(then)
}

/// A group that was started here, until its leader is about to be reaped.
#[derive(Debug)]
pub(super) struct Group {
    leader: i32,
    /// Where the guard finds it.
    line: Option<usize>,
}

impl Group {
    /// Notes a group, by its leader. No pause may begin between the start of that and this: see `process.rs`.
    pub(super) fn note(leader: Pid) -> Self {
        let leader = leader.as_raw_nonzero().get();
        groups().insert(leader);
        Self { leader, line: guard::begins(leader) }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        groups().remove(&self.leader);
        guard::ends(self.line);
    }
}

/// A clock that can be stopped: how long it stood still, and since when it does.
#[derive(Debug)]
struct Clock {
    stopped: Duration,
    since: Option<Instant>,
}

impl Clock {
    fn stop(&mut self, now: Instant) {
        self.since.get_or_insert(now);
    }

    fn go_on(&mut self, now: Instant) {
        if let Some(since) = self.since.take() {
            self.stopped += now.saturating_duration_since(since);
        }
    }

    /// What it shows at this time.
    fn at(&self, now: Instant) -> Instant {
        let now = self.since.map_or(now, |since| since.min(now));
        // It has not stood still since before the system's own clock began.
        now.checked_sub(self.stopped).unwrap_or(now)
    }
}

/// Tells the groups of which this is true.
fn tell(signal: Signal, which: impl Fn(i32) -> bool) {
    for leader in groups().iter().copied().filter(|group| which(*group)).filter_map(Pid::from_raw) {
        // Its last member may just have ended.
        let _ = kill_process_group(leader, signal);
    }
}

fn groups() -> MutexGuard<'static, BTreeSet<i32>> {
    GROUPS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn clock() -> MutexGuard<'static, Clock> {
    CLOCK.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_stands_still_while_it_is_stopped() {
        let begin = Instant::now();
        let after = |seconds| begin + Duration::from_secs(seconds);
        let mut clock = Clock { stopped: Duration::ZERO, since: None };
        assert_eq!(clock.at(after(1)), after(1));
        clock.stop(after(10));
        assert_eq!(clock.at(after(12)), after(10));
        // One that comes late was stopped at the first word.
        clock.stop(after(12));
        // What was looked at before is not later than that.
        assert_eq!(clock.at(after(9)), after(9));
        clock.go_on(after(20));
        clock.go_on(after(21));
        assert_eq!(clock.at(after(22)), after(12));
        clock.stop(after(30));
        clock.go_on(after(35));
        assert_eq!(clock.at(after(40)), after(25));
    }
}
