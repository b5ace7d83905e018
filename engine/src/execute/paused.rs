//! Stopping what runs together with this process (Ctrl-Z), and having it go on with it.
//!
//! A step has a process group of its own, so that a terminal's stop does not reach it: it would go on, with nobody to
//! look after it. Whoever stops this process stops the groups that it started first. The time that they are stopped for
//! is nobody's: the clock in here, by which steps are timed, stands still meanwhile. What left its group (`setsid`)
//! goes on. Where this process is killed while it is stopped, so are they: see `guard.rs`.
//!
//! Invariants: while there is a [`Pause`] nothing is started; a group is told only while its leader has not been reaped.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError, RwLockWriteGuard};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use super::guard;
use super::process::STARTING;

/// The leaders of the groups that were started here and have not been reaped.
static GROUPS: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());

static CLOCK: Mutex<Clock> = Mutex::new(Clock { stopped: Duration::ZERO, since: None });

/// Stops every process that this one started to run a step or to ask a probe, until the returned value is dropped;
/// nothing is started meanwhile. For a program that is about to be stopped itself: a second one waits for the first to end.
pub fn pause() -> Pause {
    let starting = STARTING.write().unwrap_or_else(PoisonError::into_inner);
    clock().stop(Instant::now());
    tell(Signal::STOP);
    Pause { _nothing_starts: starting }
}

/// While this lives, what runs is stopped.
#[must_use = "dropped, everything goes on"]
#[derive(Debug)]
pub struct Pause {
    _nothing_starts: RwLockWriteGuard<'static, ()>,
}

impl Drop for Pause {
    fn drop(&mut self) {
        clock().go_on(Instant::now());
        tell(Signal::CONT);
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
pub(super) struct Group(i32);

impl Group {
    /// Notes a group, by its leader. No pause may begin between the start of that and this: see `process.rs`.
    pub(super) fn note(leader: Pid) -> Self {
        let leader = leader.as_raw_nonzero().get();
        groups().insert(leader);
        guard::begins(leader);
        Self(leader)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        groups().remove(&self.0);
        guard::ends(self.0);
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

fn tell(signal: Signal) {
    for leader in groups().iter().copied().filter_map(Pid::from_raw) {
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
