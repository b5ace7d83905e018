//! Who is computing what: at most one at a time per trace.
//!
//! Lives in the host's memory alone. A claim belongs to a connection; when that goes, so do its claims.
//! Whoever wants a claimed trace waits here until it is given back, and is told a failure that came of it.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::digest::Trace;

/// All claims of one host.
#[derive(Default)]
pub(crate) struct Claims {
    held: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    last: u64,
    held: HashMap<Trace, Arc<Held>>,
}

struct Held {
    number: u64,
    connection: u64,
    owner: String,
    end: Mutex<End>,
    ended: Condvar,
}

#[derive(Clone)]
enum End {
    NotYet,
    GivenBack,
    Failed(Vec<u8>),
}

/// What became of an attempt to claim.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Attempt {
    /// The claim is the caller's, under this number.
    Granted(u64),
    /// Another had it and gave it back: there may be a result, or it may be claimed now.
    GivenBack,
    /// Another had it, and this is how it failed.
    Failed(Vec<u8>),
    /// Another has it still.
    Held(String),
}

impl Claims {
    /// Claims a trace, or waits until whoever has it gives it back, but not beyond `until`.
    pub(crate) fn attempt(&self, connection: u64, owner: &str, trace: Trace, until: Instant) -> Attempt {
        let held = {
            let mut table = lock(&self.held);
            match table.held.get(&trace) {
                Some(held) => Arc::clone(held),
                None => {
                    table.last += 1;
                    let number = table.last;
                    let held = Held {
                        number,
                        connection,
                        owner: owner.to_owned(),
                        end: Mutex::new(End::NotYet),
                        ended: Condvar::new(),
                    };
                    table.held.insert(trace, Arc::new(held));
                    return Attempt::Granted(number);
                }
            }
        };
        let mut end = lock(&held.end);
        loop {
            match &*end {
                End::GivenBack => return Attempt::GivenBack,
                End::Failed(failure) => return Attempt::Failed(failure.clone()),
                End::NotYet => {}
            }
            let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
            else {
                return Attempt::Held(held.owner.clone());
            };
            end = held.ended.wait_timeout(end, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Gives a claim back; those who wait for it are told the failure, if there was one. A claim that is
    /// not held (any longer) is passed over.
    pub(crate) fn release(&self, trace: &Trace, number: u64, failure: Option<Vec<u8>>) {
        let mut table = lock(&self.held);
        if table.held.get(trace).is_some_and(|held| held.number == number)
            && let Some(held) = table.held.remove(trace)
        {
            held.finish(failure);
        }
    }

    /// Gives back all claims of a connection that is gone.
    pub(crate) fn disconnect(&self, connection: u64) {
        lock(&self.held).held.retain(|_, held| {
            let stays = held.connection != connection;
            if !stays {
                held.finish(None);
            }
            stays
        });
    }
}

impl Held {
    fn finish(&self, failure: Option<Vec<u8>>) {
        *lock(&self.end) = failure.map_or(End::GivenBack, End::Failed);
        self.ended.notify_all();
    }
}

/// A table that a panicking thread left behind is still whole: each change of it is one assignment.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const T: Trace = Trace::from_bytes([1; 32]);

    fn now() -> Instant {
        Instant::now()
    }

    #[test]
    fn a_trace_is_claimed_once() {
        let claims = Claims::default();
        assert_eq!(claims.attempt(1, "run 1", T, now()), Attempt::Granted(1));
        assert_eq!(claims.attempt(2, "run 2", T, now()), Attempt::Held("run 1".to_owned()));
        assert_eq!(claims.attempt(1, "run 1", T, now()), Attempt::Held("run 1".to_owned()));
        claims.release(&T, 1, None);
        assert_eq!(claims.attempt(2, "run 2", T, now()), Attempt::Granted(2));
    }

    #[test]
    fn a_claim_that_was_handed_on_is_not_given_back_by_its_first_owner() {
        let claims = Claims::default();
        assert_eq!(claims.attempt(1, "run 1", T, now()), Attempt::Granted(1));
        claims.disconnect(1);
        assert_eq!(claims.attempt(2, "run 2", T, now()), Attempt::Granted(2));
        claims.release(&T, 1, None);
        assert_eq!(claims.attempt(3, "run 3", T, now()), Attempt::Held("run 2".to_owned()));
    }

    #[test]
    fn those_who_wait_are_told_the_failure() {
        let claims = Claims::default();
        assert_eq!(claims.attempt(1, "run 1", T, now()), Attempt::Granted(1));
        let long = now() + Duration::from_secs(600);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| claims.attempt(2, "run 2", T, long));
            // Whether it waits already or comes late: with the failure it is told, without it is granted.
            // Give it the claim back only once it holds on to the same entry.
            while lock(&claims.held).held.get(&T).is_some_and(|held| Arc::strong_count(held) < 2) {
                std::thread::yield_now();
            }
            claims.release(&T, 1, Some(b"exit 1".to_vec()));
            assert_eq!(waiting.join().expect("it does not panic"), Attempt::Failed(b"exit 1".to_vec()));
        });
        assert_eq!(claims.attempt(3, "run 3", T, now()), Attempt::Granted(2));
    }
}
