//! How a run is stopped: a level that only rises, told to threads that wait on a condition and to those that
//! wait in the kernel for something else too (the end of a process).

use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};

/// How a run is stopped: asked once, what runs is ended in order; asked again, at once. Waiters wake up.
#[derive(Debug, Default)]
pub struct Cancel {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    stop: Stop,
    /// Readable once the level is above `No`, and above `Gently`; made when first asked for.
    fds: [Option<Arc<OwnedFd>>; 2],
}

/// How urgently a run is to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Stop {
    /// It is not.
    #[default]
    No,
    /// Start nothing more; ask what runs to end (SIGTERM), then make it (SIGKILL) after a grace period.
    Gently,
    /// At once (SIGKILL).
    Now,
}

impl Cancel {
    /// Raises the urgency; it never falls.
    pub fn request(&self, stop: Stop) {
        let mut state = self.lock();
        state.stop = state.stop.max(stop);
        for (than, fd) in [Stop::No, Stop::Gently].into_iter().zip(&state.fds) {
            if let Some(fd) = fd
                && state.stop > than
            {
                ring(fd);
            }
        }
        self.changed.notify_all();
    }

    /// How urgent it is now.
    pub fn now(&self) -> Stop {
        self.lock().stop
    }

    /// Waits until it is more urgent than `than`, or the time is over; gives what it is then.
    pub fn wait(&self, than: Stop, time: Duration) -> Stop {
        let (state, _) = self
            .changed
            .wait_timeout_while(self.lock(), time, |state| state.stop <= than)
            .unwrap_or_else(PoisonError::into_inner);
        state.stop
    }

    /// A descriptor that becomes, and stays, readable once it is more urgent than `than`, for `poll`.
    ///
    /// # Errors
    /// No descriptor is free; whoever waits then has to look from time to time.
    pub fn fd(&self, than: Stop) -> std::io::Result<Option<Arc<OwnedFd>>> {
        let slot = match than {
            Stop::No => 0,
            Stop::Gently => 1,
            Stop::Now => return Ok(None),
        };
        let mut state = self.lock();
        if let Some(fd) = &state.fds[slot] {
            return Ok(Some(Arc::clone(fd)));
        }
        let fd = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        if state.stop > than {
            ring(&fd);
        }
        state.fds[slot] = Some(Arc::clone(&fd));
        Ok(Some(fd))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes an eventfd readable. It can only fail where the count is at its limit: then it is readable.
fn ring(fd: &OwnedFd) {
    let _ = rustix::io::write(fd, &1_u64.to_ne_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, poll};
    use rustix::time::Timespec;

    fn readable(fd: &OwnedFd) -> bool {
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut [PollFd::new(fd, PollFlags::IN)], Some(&at_once)).unwrap() == 1
    }

    #[test]
    fn the_urgency_only_rises() {
        let cancel = Cancel::default();
        assert_eq!(cancel.now(), Stop::No);
        cancel.request(Stop::Now);
        cancel.request(Stop::Gently);
        assert_eq!(cancel.now(), Stop::Now);
        assert_eq!(cancel.wait(Stop::Gently, Duration::from_secs(3600)), Stop::Now);
    }

    #[test]
    fn a_descriptor_tells_what_was_asked_before_and_after_it_was_made() {
        let cancel = Cancel::default();
        let gently = cancel.fd(Stop::No).unwrap().unwrap();
        assert!(!readable(&gently));
        cancel.request(Stop::Gently);
        assert!(readable(&gently));
        let now = cancel.fd(Stop::Gently).unwrap().unwrap();
        assert!(!readable(&now));
        cancel.request(Stop::Now);
        assert!(readable(&now));
        let late = cancel.fd(Stop::No).unwrap().unwrap();
        assert!(readable(&late));
        assert!(cancel.fd(Stop::Now).unwrap().is_none());
    }
}
