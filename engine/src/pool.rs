//! What the runs of one sweep share: they are one piece of work over one pool of workers.
//!
//! Each of them is a run like any other, with a coordinator and workers of its own. But an attempt of theirs executes
//! only while it has a `Slot`: of all that wait for one, the run that stands first in the sweep goes first, so that
//! what was begun ends before more is begun. What one of them made or failed in is not done again by the next.
//!
//! Invariants: what has a slot waits for nothing that another run of the sweep makes, and a slot is asked for under the
//! step's claim; so nobody waits in a circle. Whoever waits for more than is free keeps what is free of it from those
//! behind, so that it is not passed for ever.
//!
//! Whoever waits is woken when it has what it waits for, and by nobody else: of thousands that wait, what begins or ends
//! concerns a few. Handing out looks at no more of them than there are cores, since each of them wants one at least.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cas_store::Trace;

use crate::error::EngineError;
use crate::execute::{Cancel, Failure, Stop};
use crate::schedule::{Capacity, Need};

/// How often whoever waits looks whether the run was stopped.
const LOOK: Duration = Duration::from_millis(100);

/// What runs share.
#[derive(Debug)]
pub struct Pool {
    capacity: Capacity,
    state: Mutex<State>,
    /// A run has begun, ended, or begun or ended to wait for somebody.
    moved: Condvar,
    /// Held while something is put into the project: the last run that did so, those that were done before all others.
    published: Mutex<Option<(bool, usize)>>,
}

#[derive(Debug, Default)]
struct State {
    used: Need,
    /// Who waits for a slot, the first of them first. Who is not here any more has what it waited for.
    waiting: BTreeMap<Key, Waiter>,
    tickets: u64,
    /// The runs that have begun and not ended, by their place.
    runs: BTreeMap<usize, AtWork>,
    closed: bool,
    /// What was made by force, and what failed, each in its store: those of a sweep may have one each.
    made: HashSet<(Arc<Path>, Trace)>,
    failed: HashMap<(Arc<Path>, Trace), Failure>,
}

/// The place of a run, and which of its waiters it is.
type Key = (usize, u64);

/// Somebody who waits for a slot.
#[derive(Debug)]
struct Waiter {
    /// How much of what there is it wants.
    need: Need,
    woken: Arc<Condvar>,
}

/// How many steps the workers of a run have.
#[derive(Debug, Default, Clone, Copy)]
struct AtWork {
    all: usize,
    /// Those of them that wait for somebody who is at the same step.
    held_up: usize,
}

impl AtWork {
    /// Whether it could make use of a slot, now or as soon as its coordinator has looked.
    fn moves(self) -> bool {
        self.all == 0 || self.all > self.held_up
    }
}

/// The place of one run among those that share a pool; it has ended when this is dropped.
#[derive(Debug)]
pub struct Turn {
    pool: Arc<Pool>,
    place: usize,
    store: Arc<Path>,
}

/// Lets an attempt execute until it is dropped.
pub(crate) struct Slot<'a> {
    pool: &'a Pool,
    need: Need,
}

/// Something that a worker does, counted until it is dropped.
pub(crate) struct Counted<'a> {
    turn: &'a Turn,
    count: fn(&mut AtWork) -> &mut usize,
}

impl Pool {
    /// A pool of which so much can be used at once.
    pub fn new(capacity: Capacity) -> Arc<Self> {
        let (state, published) = (Mutex::default(), Mutex::default());
        Arc::new(Self { capacity, state, moved: Condvar::new(), published })
    }

    /// Begins a run on the store in this folder; the lower its place, the sooner it gets what it waits for.
    pub fn turn(self: &Arc<Self>, place: usize, store: PathBuf) -> Turn {
        self.lock().runs.insert(place, AtWork::default());
        Turn { pool: Arc::clone(self), place, store: store.into() }
    }

    /// Starts nothing more: what runs goes on to its end.
    pub fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.waiting.values().for_each(|waiter| waiter.woken.notify_one());
    }

    /// Waits until one more run finds something to do: fewer than `moving` have, and there are fewer than `all`. False
    /// if that is not so after a while.
    pub fn has_room(&self, moving: usize, all: usize) -> bool {
        let full = |state: &mut State| {
            let busy = state.runs.values().filter(|run| run.moves()).count();
            busy >= moving || state.runs.len() >= all
        };
        let (mut state, _) =
            self.moved.wait_timeout_while(self.lock(), LOOK, full).unwrap_or_else(PoisonError::into_inner);
        !full(&mut state)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a step gets that needs this: never more than there is.
    fn of(&self, need: &Need) -> Need {
        let most = |name: &str| self.capacity.limits.get(name).copied().unwrap_or(1);
        Need {
            cpus: need.cpus.clamp(1, self.capacity.cpus.max(1)),
            memory: self.capacity.memory.map_or(0, |there_is| need.memory.min(there_is)),
            limits: need
                .limits
                .iter()
                .map(|(name, amount)| (name.clone(), (*amount).min(most(name))))
                .collect(),
        }
    }
}

impl State {
    /// Who of those that wait can go now: what they want fits beside what is used and what those before them want.
    fn can_go(&self, capacity: &Capacity) -> Vec<Key> {
        let mut wanted = self.used.clone();
        let mut go = Vec::new();
        for (key, waiter) in &self.waiting {
            if wanted.cpus >= capacity.cpus.max(1) {
                break;
            }
            let need = &waiter.need;
            add(&mut wanted, need);
            let fits = wanted.cpus <= capacity.cpus.max(1)
                && capacity.memory.is_none_or(|there_is| wanted.memory <= there_is)
                && need
                    .limits
                    .keys()
                    .all(|name| wanted.limits.get(name) <= Some(capacity.limits.get(name).unwrap_or(&1)));
            go.extend(fits.then_some(*key));
        }
        go
    }

    /// Gives whoever can go what it waits for.
    fn hand_out(&mut self, capacity: &Capacity) {
        for key in self.can_go(capacity) {
            if let Some(Waiter { need, woken }) = self.waiting.remove(&key) {
                add(&mut self.used, &need);
                woken.notify_one();
            }
        }
    }

    fn give(&mut self, need: &Need) {
        self.used.cpus -= need.cpus;
        self.used.memory -= need.memory;
        for (name, amount) in &need.limits {
            if let Some(used) = self.used.limits.get_mut(name) {
                *used -= amount;
            }
        }
    }
}

fn add(sum: &mut Need, need: &Need) {
    sum.cpus = sum.cpus.saturating_add(need.cpus);
    sum.memory = sum.memory.saturating_add(need.memory);
    for (name, amount) in &need.limits {
        let sum = sum.limits.entry(name.clone()).or_default();
        *sum = sum.saturating_add(*amount);
    }
}

impl Turn {
    /// Whether nothing more is to be started.
    pub(crate) fn is_over(&self) -> bool {
        self.pool.lock().closed
    }

    /// Waits for a slot; `None` if the run was stopped meanwhile.
    pub(crate) fn slot(&self, need: &Need, cancel: &Cancel) -> Option<Slot<'_>> {
        let pool = &*self.pool;
        let need = pool.of(need);
        let woken = Arc::new(Condvar::new());
        let mut state = pool.lock();
        state.tickets += 1;
        let key = (self.place, state.tickets);
        state.waiting.insert(key, Waiter { need: need.clone(), woken: Arc::clone(&woken) });
        state.hand_out(&pool.capacity);
        loop {
            let goes = !state.waiting.contains_key(&key);
            if state.closed || cancel.now() > Stop::No {
                if goes {
                    state.give(&need);
                } else {
                    state.waiting.remove(&key);
                }
                // Those behind do not have to wait for it any longer.
                state.hand_out(&pool.capacity);
                return None;
            }
            if goes {
                drop(state);
                return Some(Slot { pool, need });
            }
            (state, _) = woken.wait_timeout(state, LOOK).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// A worker has a step.
    pub(crate) fn at_work(&self) -> Counted<'_> {
        self.count(|run| &mut run.all)
    }

    /// A worker waits for somebody else who is at the same step.
    pub(crate) fn held_up(&self) -> Counted<'_> {
        self.count(|run| &mut run.held_up)
    }

    fn count(&self, count: fn(&mut AtWork) -> &mut usize) -> Counted<'_> {
        if let Some(run) = self.pool.lock().runs.get_mut(&self.place) {
            *count(run) += 1;
        }
        self.pool.moved.notify_all();
        Counted { turn: self, count }
    }

    /// Notes that this was made in this sweep though it was there, because that was asked for.
    pub(crate) fn made(&self, trace: Trace) {
        self.pool.lock().made.insert(self.key(trace));
    }

    /// Whether this was made so in this sweep.
    pub(crate) fn was_made(&self, trace: Trace) -> bool {
        self.pool.lock().made.contains(&self.key(trace))
    }

    /// Notes how this failed, where every run would fail likewise.
    pub(crate) fn failed(&self, trace: Trace, failure: Failure) {
        self.pool.lock().failed.insert(self.key(trace), failure);
    }

    /// How this failed in this sweep.
    pub(crate) fn failure(&self, trace: Trace) -> Option<Failure> {
        self.pool.lock().failed.get(&self.key(trace)).cloned()
    }

    fn key(&self, trace: Trace) -> (Arc<Path>, Trace) {
        (Arc::clone(&self.store), trace)
    }

    /// Puts something into the project, one run at a time, unless a run that comes later in the sweep has done so: in
    /// the end it is the last one's that is there, in whatever order they end. What was done (`whole`) comes after all
    /// that was not; and who could not put all of its own there (`publish` gives what is left) has put nothing.
    pub(crate) fn publish<T>(
        &self,
        whole: bool,
        publish: impl FnOnce() -> Result<Vec<T>, EngineError>,
    ) -> Result<Vec<T>, EngineError> {
        let mut last = self.pool.published.lock().unwrap_or_else(PoisonError::into_inner);
        let own = (whole, self.place);
        if last.is_some_and(|last| last > own) {
            return Ok(Vec::new());
        }
        let left = publish()?;
        if left.is_empty() {
            *last = Some(own);
        }
        Ok(left)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.pool.lock().runs.remove(&self.place);
        self.pool.moved.notify_all();
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        let mut state = self.pool.lock();
        state.give(&self.need);
        state.hand_out(&self.pool.capacity);
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        if let Some(run) = self.turn.pool.lock().runs.get_mut(&self.turn.place) {
            *(self.count)(run) -= 1;
        }
        self.turn.pool.moved.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn turn(pool: &Arc<Pool>, place: usize) -> Turn {
        pool.turn(place, PathBuf::from("store"))
    }

    fn need(cpus: u32, limits: &[(&str, u32)]) -> Need {
        let limits = limits.iter().map(|(name, amount)| ((*name).to_owned(), *amount)).collect();
        Need { cpus, memory: 0, limits }
    }

    fn state(used: &Need, waiting: &[(usize, Need)]) -> State {
        let mut state = State { used: used.clone(), ..State::default() };
        for (ticket, (place, need)) in waiting.iter().enumerate() {
            let waiter = Waiter { need: need.clone(), woken: Arc::default() };
            state.waiting.insert((*place, ticket as u64), waiter);
        }
        state
    }

    /// Of those that wait, as `place: need`, the places of those that can go at once.
    fn check(capacity: &Capacity, used: &Need, waiting: &[(usize, Need)], expected: &[usize]) {
        let can_go = state(used, waiting).can_go(capacity);
        assert_eq!(can_go.into_iter().map(|(place, _)| place).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn the_first_run_goes_first_and_nobody_passes_whom_they_would_keep_waiting() {
        let gpus = BTreeMap::from([("gpu".to_owned(), 1)]);
        let two = Capacity { cpus: 2, memory: None, limits: gpus };
        let (none, one) = (need(0, &[]), need(1, &[]));
        let gpu = need(1, &[("gpu", 1)]);
        check(&two, &none, &[(7, one.clone()), (3, one.clone()), (5, one.clone())], &[3, 5]);
        check(&two, &one, &[(7, one.clone()), (3, one.clone())], &[3]);
        // What wants all waits for it, and those behind wait for that.
        check(&two, &one, &[(1, need(2, &[])), (2, one.clone())], &[]);
        check(&two, &none, &[(1, need(2, &[])), (2, one.clone())], &[1]);
        // A limit that is used up is nothing to those that do not need it, but the cores are there for both.
        check(&two, &gpu, &[(1, gpu.clone()), (2, one.clone())], &[]);
        let three = Capacity { cpus: 3, ..two };
        check(&three, &gpu, &[(1, gpu.clone()), (2, one)], &[2]);
    }

    proptest! {
        /// The rule as it is said: who fits beside what is used and all that those before it want.
        #[test]
        fn who_goes_is_who_fits_beside_all_before_it(
            waiting in prop::collection::vec((0..4_usize, 1..4_u32, 0..3_u64, 0..3_u32), 0..12),
            (cores, memory, gpus) in (1..6_u32, prop::option::of(1..6_u64), 0..4_u32),
            (used, used_gpus) in (0..3_u32, 0..2_u32),
        ) {
            let needs = |cpus, memory, gpu| {
                let limits = if gpu == 0 { BTreeMap::new() } else { BTreeMap::from([("gpu".to_owned(), gpu)]) };
                Need { cpus, memory, limits }
            };
            let waiting: Vec<_> =
                waiting.into_iter().map(|(place, cpus, memory, gpu)| (place, needs(cpus, memory, gpu))).collect();
            let capacity = Capacity { cpus: cores, memory, limits: BTreeMap::from([("gpu".to_owned(), gpus)]) };
            let used = needs(used, 0, used_gpus);
            let mut state = state(&used, &waiting);
            let fits = |(key, own): (&Key, &Waiter)| {
                let sum = |of: &dyn Fn(&Need) -> u64| {
                    let before = state.waiting.range(..*key).map(|(_, waiter)| of(&waiter.need)).sum::<u64>();
                    of(&used) + before + of(&own.need)
                };
                let gpu = |need: &Need| u64::from(need.limits.get("gpu").copied().unwrap_or(0));
                sum(&|need| u64::from(need.cpus)) <= u64::from(cores)
                    && memory.is_none_or(|memory| sum(&|need| need.memory) <= memory)
                    && (gpu(&own.need) == 0 || sum(&gpu) <= u64::from(gpus))
            };
            let expected: Vec<Key> = state.waiting.iter().filter(|one| fits(*one)).map(|(key, _)| *key).collect();
            prop_assert_eq!(state.can_go(&capacity), expected.clone());
            // They have it then, and nobody else can go.
            let count = state.waiting.len();
            state.hand_out(&capacity);
            prop_assert_eq!(state.waiting.len(), count - expected.len());
            prop_assert_eq!(state.can_go(&capacity), vec![]);
        }
    }

    /// With a large `-j` each step that began or ended woke thousands, and each of those looked at all before it.
    #[test]
    fn who_waits_is_woken_when_it_has_its_slot() {
        const WAITERS: usize = 200;
        let pool = Pool::new(Capacity { cpus: 2, memory: None, limits: BTreeMap::new() });
        let (first, cancel, need) = (turn(&pool, 0), Cancel::default(), need(1, &[]));
        let held = [(); 2].map(|()| first.slot(&need, &cancel).expect("it is free"));
        let had = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..WAITERS {
                scope.spawn(|| {
                    let _slot = first.slot(&need, &cancel).expect("nobody stops it");
                    had.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                });
            }
            while pool.lock().waiting.len() < WAITERS {
                std::thread::yield_now();
            }
            drop(held);
        });
        assert_eq!(had.into_inner(), WAITERS);
        let state = pool.lock();
        assert_eq!((state.used.cpus, state.waiting.len()), (0, 0));
    }

    #[test]
    fn no_step_gets_more_than_there_is() {
        let pool = Pool::new(Capacity { cpus: 2, memory: Some(10), limits: BTreeMap::new() });
        let wanted = Need { cpus: 8, memory: 99, limits: BTreeMap::from([("gpu".to_owned(), 3)]) };
        let given = Need { cpus: 2, memory: 10, limits: BTreeMap::from([("gpu".to_owned(), 1)]) };
        assert_eq!(pool.of(&wanted), given);
        assert_eq!(pool.of(&Need::default()).cpus, 1);
    }

    #[test]
    fn there_is_room_for_another_run_where_one_is_held_up() {
        let pool = Pool::new(Capacity { cpus: 1, memory: None, limits: BTreeMap::new() });
        assert!(pool.has_room(1, 2));
        let first = turn(&pool, 0);
        assert!(!pool.has_room(1, 2));
        let at_work = first.at_work();
        assert!(!pool.has_room(1, 2));
        let held_up = first.held_up();
        assert!(pool.has_room(1, 2));
        let second = turn(&pool, 1);
        assert!(!pool.has_room(9, 2));
        drop(held_up);
        drop(at_work);
        drop(first);
        assert!(!pool.has_room(1, 2));
        drop(second);
        assert!(pool.has_room(1, 2));
    }

    #[test]
    fn what_the_last_one_publishes_stays() {
        let pool = Pool::new(Capacity { cpus: 1, memory: None, limits: BTreeMap::new() });
        let turns = [0, 1, 2, 3].map(|place| turn(&pool, place));
        let mut published = Vec::new();
        let mut put = |place: usize, whole, left: Result<Vec<()>, EngineError>| {
            let _ = turns[place].publish(whole, || {
                published.push(place);
                left
            });
        };
        // Who could not put all of its own there keeps nobody from it.
        put(3, true, Ok(vec![()]));
        put(2, true, Err(EngineError::Interrupted));
        put(1, true, Ok(Vec::new()));
        put(0, true, Ok(Vec::new()));
        // Nor does who failed in something.
        put(2, false, Ok(Vec::new()));
        put(2, true, Ok(Vec::new()));
        put(1, true, Ok(Vec::new()));
        assert_eq!(published, [3, 2, 1, 2]);
    }

    #[test]
    fn what_was_made_or_failed_is_so_in_its_store() {
        let pool = Pool::new(Capacity { cpus: 1, memory: None, limits: BTreeMap::new() });
        let (one, same) = (turn(&pool, 0), turn(&pool, 1));
        let other = pool.turn(2, PathBuf::from("other"));
        let trace = Trace::from_bytes([7; 32]);
        let failure =
            Failure { cause: crate::execute::Cause::Exit(3), message: "exit".to_owned(), hint: None };
        one.made(trace);
        one.failed(trace, failure.clone());
        assert_eq!([&one, &same, &other].map(|turn| turn.was_made(trace)), [true, true, false]);
        assert_eq!([&one, &same, &other].map(|turn| turn.failure(trace).is_some()), [true, true, false]);
    }

    #[test]
    fn a_slot_is_waited_for_until_the_run_is_stopped() {
        let pool = Pool::new(Capacity { cpus: 1, memory: None, limits: BTreeMap::new() });
        let (first, second) = (turn(&pool, 0), turn(&pool, 1));
        let cancel = Cancel::default();
        let need = need(1, &[]);
        let slot = first.slot(&need, &cancel).expect("it is free");
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| second.slot(&need, &cancel).is_some());
            drop(slot);
            assert!(waits.join().expect("it does not panic"));
        });
        let _slot = first.slot(&need, &cancel).expect("it is free again");
        // Nobody who was not let go gives back what others use.
        cancel.request(Stop::Gently);
        assert!(second.slot(&need, &cancel).is_none());
        assert_eq!(pool.lock().used.cpus, 1);
        pool.close();
        assert!(second.slot(&need, &Cancel::default()).is_none());
        assert!(second.is_over());
        assert_eq!(pool.lock().used.cpus, 1);
    }
}
