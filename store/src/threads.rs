//! Threads that share one piece of work. Where no more of them are to be had (a limit of processes, as containers have
//! one), who asked is told so and does the work itself: it takes longer, and the same comes of it.
//!
//! Never touches what the work is. In the crate's own tests threads can be made scarce.

use std::error::Error;
use std::io;
use std::sync::mpsc::sync_channel;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::thread::{Builder, Scope, ScopedJoinHandle};

use rayon_core::ThreadPoolBuilder;

/// Begins a thread, where one is to be had.
pub(crate) fn begin<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    work: impl FnOnce() -> T + Send + 'scope,
) -> Option<ScopedJoinHandle<'scope, T>> {
    builder().spawn_scoped(scope, work).ok()
}

/// Begins a thread that works with this, which comes back where no thread is to be had.
pub(crate) fn begin_with<'scope, S: Send + 'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    given: S,
    work: impl FnOnce(S) -> T + Send + 'scope,
) -> Result<ScopedJoinHandle<'scope, T>, S> {
    let (give, arriving) = sync_channel(1);
    // Whoever cannot be given it has begun no thread, and never gets here.
    let begun =
        begin(scope, move || work(arriving.recv().expect("it is given as soon as the thread has begun")));
    match begun {
        Some(thread) => give.send(given).map(|()| thread).map_err(|back| back.0),
        None => Err(given),
    }
}

/// Waits for a thread; its panic is one of who waits.
pub(crate) fn join<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Whether so many threads are to be had at once; the error is the system's.
pub(crate) fn are_to_be_had(count: usize) -> io::Result<()> {
    let all_begun = Mutex::new(());
    let held = all_begun.lock().unwrap_or_else(PoisonError::into_inner);
    std::thread::scope(|scope| {
        // In here, so that it is let go of before those that have begun are waited for.
        let _held = held;
        for _ in 0..count {
            let begun = || drop(all_begun.lock());
            builder().spawn_scoped(scope, begun)?;
        }
        Ok(())
    })
}

/// Hashes what comes next with all cores, or with one where no threads are to be had for the others.
pub fn hash_together(hasher: &mut blake3::Hasher, bytes: &[u8]) {
    // Whoever merely uses the pool panics where it cannot be made. Somebody else's will do, which is no error with a cause.
    static POOL: LazyLock<bool> = LazyLock::new(|| match ThreadPoolBuilder::new().build_global() {
        Ok(()) => true,
        Err(error) => error.source().is_none(),
    });
    match *POOL {
        true => hasher.update_rayon(bytes),
        false => hasher.update(bytes),
    };
}

fn builder() -> Builder {
    #[cfg(test)]
    if !scarce::take_one() {
        // No machine has room for such a stack, so that it is the system that refuses.
        return Builder::new().stack_size(1 << 60);
    }
    Builder::new()
}

/// Threads made scarce for what a test does in its own thread.
#[cfg(test)]
pub(crate) mod scarce {
    use std::cell::Cell;

    thread_local! {
        static LEFT: Cell<Option<usize>> = const { Cell::new(None) };
    }

    /// Does this while only so many threads are to be had.
    pub(crate) fn with<T>(threads: usize, work: impl FnOnce() -> T) -> T {
        LEFT.set(Some(threads));
        let done = work();
        LEFT.set(None);
        done
    }

    pub(super) fn take_one() -> bool {
        let left = LEFT.get();
        LEFT.set(left.map(|left| left.saturating_sub(1)));
        left != Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_to_be_given_to_a_thread_that_is_not_to_be_had_comes_back() {
        let given = String::from("this");
        std::thread::scope(|scope| {
            let refused = scarce::with(0, || begin_with(scope, given, |given| given + " there"));
            let given = refused.map(join).expect_err("no thread is to be had");
            assert_eq!(given, "this");
            assert!(scarce::with(0, || begin(scope, || ())).is_none());
            let begun = scarce::with(1, || begin_with(scope, given, |given| given + " there"));
            assert_eq!(begun.map(join), Ok("this there".to_owned()));
        });
    }

    #[test]
    fn it_is_told_whether_so_many_are_to_be_had_at_once() {
        assert!(scarce::with(4, || are_to_be_had(4)).is_ok());
        assert!(scarce::with(3, || are_to_be_had(4)).is_err());
        assert!(are_to_be_had(0).is_ok());
    }

    #[test]
    fn what_is_hashed_together_has_the_plain_hash() {
        let bytes = vec![7; 3_000_000];
        let mut hasher = blake3::Hasher::new();
        hash_together(&mut hasher, &bytes);
        assert_eq!(hasher.finalize(), blake3::hash(&bytes));
    }
}
