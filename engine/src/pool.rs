//! What the runs of one sweep share: they are one piece of work over one pool of workers.
//!
//! Each of them is a run like any other, with a coordinator and workers of its own. But an attempt of theirs executes
//! only while it has a `Slot`: of all that wait for one, the run that stands first in the sweep goes first, so that
//! what was begun ends before more is begun. What one of them made or failed in is not done again by the next.
//!
//! Invariants: what has a slot waits for nothing that another run of the sweep makes, and a slot is asked for under the
//! step's claim; so nobody waits in a circle. Whoever waits is woken when it has what it waits for, and by nobody else: of
//! thousands that wait, what begins or ends concerns a few.

pub(crate) mod slots;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cas_store::Trace;

use crate::error::EngineError;
use crate::execute::{Cancel, Failure, Stop};
use crate::schedule::{Capacity, Need};
use slots::Slots;

/// So many runs that wait for others are begun beside those that can go on.
pub(crate) const HELD_UP: usize = 16;

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
    slots: Slots<Arc<Condvar>>,
    /// The runs that have begun and not ended, by their place.
    runs: BTreeMap<usize, AtWork>,
    closed: bool,
    /// What was made by force, and what failed, each in its store: those of a sweep may have one each.
    made: HashSet<(Arc<Path>, Trace)>,
    failed: HashMap<(Arc<Path>, Trace), Failure>,
}

/// How far a run is, and how many steps its workers have.
#[derive(Debug, Default, Clone, Copy)]
struct AtWork {
    /// Whether it is noted in its store, and told.
    begun: bool,
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

/// Lets a run begin before those after it, until it is dropped.
pub(crate) struct Begins<'a>(&'a Turn);

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
        state.slots.waiting().for_each(|woken| woken.notify_one());
    }

    /// Waits until one more run finds something to do: fewer than `jobs` have, and not too many are held up. False if
    /// that is not so after a while.
    pub fn has_room(&self, jobs: usize) -> bool {
        let full = |state: &mut State| {
            let moving = state.runs.values().filter(|run| run.moves()).count();
            !has_room(jobs, moving, state.runs.len())
        };
        let (mut state, _) =
            self.moved.wait_timeout_while(self.lock(), LOOK, full).unwrap_or_else(PoisonError::into_inner);
        !full(&mut state)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether one more run finds something to do beside so many that can go on, of so many that there are.
pub(crate) fn has_room(jobs: usize, moving: usize, all: usize) -> bool {
    moving < jobs && all < jobs.saturating_add(HELD_UP)
}

impl State {
    /// Gives whoever can go what it waits for.
    fn hand_out(&mut self, capacity: &Capacity) {
        for (_, woken) in self.slots.hand_out(capacity) {
            woken.notify_one();
        }
    }
}

impl Turn {
    /// Whether nothing more is to be started.
    pub(crate) fn is_over(&self) -> bool {
        self.pool.lock().closed
    }

    /// Waits until all runs before this one have begun, so that they are numbered and told in the order of the sweep. What
    /// comes before that (what is there, what has to run) waits for none of them.
    pub(crate) fn begins(&self) -> Begins<'_> {
        let waits = |state: &mut State| state.runs.range(..self.place).any(|(_, run)| !run.begun);
        drop(self.pool.moved.wait_while(self.pool.lock(), waits));
        Begins(self)
    }

    /// Waits for a slot; `None` if the run was stopped meanwhile.
    pub(crate) fn slot(&self, need: &Need, cancel: &Cancel) -> Option<Slot<'_>> {
        let pool = &*self.pool;
        let need = slots::part(&pool.capacity, need);
        let woken = Arc::new(Condvar::new());
        let mut state = pool.lock();
        let key = state.slots.ask(self.place, need.clone(), Arc::clone(&woken));
        state.hand_out(&pool.capacity);
        loop {
            let goes = !state.slots.waits(key);
            if state.closed || cancel.now() > Stop::No {
                if goes {
                    state.slots.give_back(&need);
                } else {
                    state.slots.leave(key);
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

impl Drop for Begins<'_> {
    fn drop(&mut self) {
        if let Some(run) = self.0.pool.lock().runs.get_mut(&self.0.place) {
            run.begun = true;
        }
        self.0.pool.moved.notify_all();
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        let mut state = self.pool.lock();
        state.slots.give_back(&self.need);
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
    use super::*;

    fn turn(pool: &Arc<Pool>, place: usize) -> Turn {
        pool.turn(place, PathBuf::from("store"))
    }

    fn one_core() -> Need {
        Need { cpus: 1, ..Need::default() }
    }

    /// With a large `-j` each step that began or ended woke thousands, and each of those looked at all before it.
    #[test]
    fn who_waits_is_woken_when_it_has_its_slot() {
        const WAITERS: usize = 200;
        let pool = Pool::new(Capacity { cpus: 2, memory: None, limits: BTreeMap::new() });
        let (first, cancel, need) = (turn(&pool, 0), Cancel::default(), one_core());
        let held = [(); 2].map(|()| first.slot(&need, &cancel).expect("it is free"));
        let had = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..WAITERS {
                scope.spawn(|| {
                    let _slot = first.slot(&need, &cancel).expect("nobody stops it");
                    had.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                });
            }
            while pool.lock().slots.waiting().count() < WAITERS {
                std::thread::yield_now();
            }
            drop(held);
        });
        assert_eq!(had.into_inner(), WAITERS);
        let state = pool.lock();
        assert_eq!((state.slots.used().cpus, state.slots.waiting().count()), (0, 0));
    }

    /// Each noted itself when it was ready to, and what came second in a sweep was run 3.
    #[test]
    fn runs_begin_in_their_order_but_for_one_that_ended_before() {
        let pool = Pool::new(Capacity { cpus: 1, memory: None, limits: BTreeMap::new() });
        let mut turns: Vec<Turn> = (0..16).map(|place| turn(&pool, place)).collect();
        let begun = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            let first = turns.remove(0);
            for turn in turns.into_iter().rev() {
                let begun = &begun;
                scope.spawn(move || {
                    let _begins = turn.begins();
                    begun.lock().expect("nobody panics").push(turn.place);
                });
            }
            // It could not be run.
            drop(first);
        });
        assert_eq!(begun.into_inner().expect("nobody panics"), (1..16).collect::<Vec<_>>());
    }

    #[test]
    fn there_is_room_for_another_run_where_one_is_held_up() {
        let pool = Pool::new(Capacity { cpus: 1, memory: None, limits: BTreeMap::new() });
        assert!(pool.has_room(1));
        let first = turn(&pool, 0);
        assert!(!pool.has_room(1));
        let at_work = first.at_work();
        assert!(!pool.has_room(1));
        let held_up = first.held_up();
        assert!(pool.has_room(1));
        let second = turn(&pool, 1);
        drop(held_up);
        drop(at_work);
        drop(first);
        assert!(!pool.has_room(1));
        drop(second);
        assert!(pool.has_room(1));
    }

    #[test]
    fn so_many_are_begun_as_can_go_on_and_a_few_that_wait() {
        let check = |moving: usize, all: usize| has_room(2, moving, all);
        assert_eq!([check(0, 0), check(1, 1), check(2, 2)], [true, true, false]);
        assert_eq!([check(1, 2 + HELD_UP - 1), check(1, 2 + HELD_UP)], [true, false]);
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
        let need = one_core();
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
        assert_eq!(pool.lock().slots.used().cpus, 1);
        pool.close();
        assert!(second.slot(&need, &Cancel::default()).is_none());
        assert!(second.is_over());
        assert_eq!(pool.lock().slots.used().cpus, 1);
    }
}
