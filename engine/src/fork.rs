//! Pure work on many things, shared by the cores: what comes of it is what one core would have made of it alone, in the
//! same order. So what only asks here is still pure: there is nothing that two threads could meet in.

use std::thread;

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
        let others: Vec<_> = parts
            .map(|part| {
                (part, thread::Builder::new().name("fork".to_owned()).spawn_scoped(scope, || work(part)))
            })
            .collect();
        let mut made = Vec::with_capacity(others.len() + 1);
        made.push(work(own));
        made.extend(others.into_iter().map(|(part, other)| match other {
            Ok(other) => other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            // Where no thread can be had, this one does it.
            Err(_) => work(part),
        }));
        made
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_come_in_order_and_are_all_there() {
        for count in [0, 1, 7, PART, 3 * PART + 1] {
            let items: Vec<usize> = (0..count).collect();
            for threads in [1, 2, 3, 8] {
                let made = in_threads(&items, threads, &|part: &[usize]| part.to_vec());
                assert!(made.len() <= threads);
                assert_eq!(made.concat(), items, "{count} in {threads} threads");
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
