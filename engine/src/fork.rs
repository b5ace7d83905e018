//! Pure work on many things, shared by the cores: what comes of it is what one core would have made of it alone, in the
//! same order. So what only asks here is still pure: there is nothing that two threads could meet in.

use std::thread::{self, Scope, ScopedJoinHandle};

/// Of fewer things for each core, beginning a thread would cost more than it saves.
const PART: usize = 4096;

/// No more threads than this, however many cores there are.
const THREADS_MAX: usize = 8;

/// Whether there are so many that several cores share them.
pub(crate) fn pays(count: usize) -> bool {
    count / PART > 1
}

/// What `work` makes of consecutive parts of these items, in their order.
pub(crate) fn parts<T: Sync, R: Send>(items: &[T], work: impl Fn(&[T]) -> R + Sync) -> Vec<R> {
    let threads = match pays(items.len()) {
        true => {
            thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX).min(items.len() / PART)
        }
        false => 1,
    };
    in_threads(items, threads, &work)
}

fn in_threads<T: Sync, R: Send>(items: &[T], threads: usize, work: &(impl Fn(&[T]) -> R + Sync)) -> Vec<R> {
    if threads < 2 {
        return vec![work(items)];
    }
    let mut parts = items.chunks(items.len().div_ceil(threads).max(1));
    let Some(own) = parts.next() else { return vec![work(items)] };
    thread::scope(|scope| {
        let others: Vec<_> = parts.map(|part| (part, begin(scope, || work(part)))).collect();
        let mut made = Vec::with_capacity(others.len() + 1);
        made.push(work(own));
        made.extend(others.into_iter().map(|(part, other)| match other {
            Some(other) => join(other),
            None => work(part),
        }));
        made
    })
}

/// Begins a thread where one is to be had (a container may have a limit of processes); else who asked does it itself.
pub(crate) fn begin<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    work: impl FnOnce() -> T + Send + 'scope,
) -> Option<ScopedJoinHandle<'scope, T>> {
    let builder = thread::Builder::new().name("fork".to_owned());
    // No machine has room for such a stack, so that it is the system that refuses.
    #[cfg(test)]
    let builder = if tests::are_refused() { builder.stack_size(1 << 60) } else { builder };
    builder.spawn_scoped(scope, work).ok()
}

/// Waits for a thread; its panic is one of who waits.
pub(crate) fn join<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

#[cfg(test)]
pub(crate) mod tests {
    use std::cell::Cell;

    use super::*;

    thread_local! {
        static REFUSED: Cell<bool> = const { Cell::new(false) };
    }

    /// Does this where no thread is to be had.
    pub(crate) fn without_threads<T>(work: impl FnOnce() -> T) -> T {
        REFUSED.set(true);
        let done = work();
        REFUSED.set(false);
        done
    }

    pub(super) fn are_refused() -> bool {
        REFUSED.get()
    }

    #[test]
    fn parts_come_in_order_and_are_all_there() {
        for count in [0, 1, 7, PART, 3 * PART + 1] {
            let items: Vec<usize> = (0..count).collect();
            for threads in [1, 2, 3, 8] {
                let made = in_threads(&items, threads, &|part: &[usize]| part.to_vec());
                assert!(made.len() <= threads);
                assert_eq!(made.concat(), items, "{count} in {threads} threads");
                let alone = without_threads(|| in_threads(&items, threads, &|part: &[usize]| part.to_vec()));
                assert_eq!(alone, made, "{count} in {threads} parts");
            }
            assert_eq!(parts(&items, <[usize]>::to_vec).concat(), items);
        }
    }

    #[test]
    #[should_panic(expected = "of the second part")]
    fn a_panic_of_a_part_is_one_of_the_whole() {
        let items = [1, 2];
        in_threads(&items, 2, &|part: &[i32]| assert!(part[0] == 1, "of the second part"));
    }
}
