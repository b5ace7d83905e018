//! Short steps that a worker was given together: it claims them at once, runs one after the other, commits what they
//! made at once and tells of them at once, so that what it costs to hand a step over is paid for many.
//!
//! ```text
//!   left ──► at work ──► said: started, held ──► flush: committed ──► told, in order
//! ```
//!
//! What was said is told after [`TOLD_AFTER`] at the latest, by the worker between two steps or, where one takes long,
//! by a thread that the coordinator begins for that: committing may have to wait for somebody else. The coordinator
//! also takes what is left from a worker that is held up. Invariants: a step is begun by
//! whoever took it off what is left, so once; nothing is told of as made before it is committed; the order in which
//! things were said is that in which they are told; a worker that waits for what somebody else computes has claimed
//! nothing itself.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use cas_store::{ClaimGuard, Share};

use super::share::Shared;
use super::{Bench, Done, End, Ended, Held, Task, Tell, Told, fault};
use crate::error::EngineError;
use crate::execute::Stop;

/// What was said waits no longer than this to be told, as far as somebody is awake.
pub(crate) const TOLD_AFTER: Duration = Duration::from_millis(5);

/// A worker tells between two steps what is older than this.
const OLD: Duration = Duration::from_millis(2);

/// The steps that a worker was given together.
pub(crate) struct Several {
    worker: usize,
    /// Held from taking what was said until it is told, so that it is told in its order whoever does that.
    telling: Mutex<()>,
    state: Mutex<State>,
}

struct State {
    left: VecDeque<Left>,
    said: Vec<Said>,
    /// When the oldest of what was said was said.
    said_since: Instant,
    /// When the step was begun that is at work, and before the first one when they were claimed; `None` until then: what
    /// takes its time there is no step, and whoever got what is left would find it claimed.
    at_work_since: Option<Instant>,
}

/// A step that was not begun.
pub(crate) struct Left {
    place: usize,
    task: Task,
    claim: Option<ClaimGuard>,
}

enum Said {
    Told(Told),
    Held(Box<Done>, Box<Held>),
}

/// How far a worker is.
pub(crate) struct Seen {
    /// Whether steps are left.
    pub(crate) left: bool,
    /// For how long something is not told.
    pub(crate) said: Option<Duration>,
    /// For how long a step is at work.
    pub(crate) at_work: Duration,
}

impl Several {
    pub(crate) fn new(worker: usize, tasks: Vec<Task>) -> Self {
        let left = tasks.into_iter().enumerate().map(|(place, task)| Left { place, task, claim: None });
        let now = Instant::now();
        let state = State { left: left.collect(), said: Vec::new(), said_since: now, at_work_since: None };
        Self { worker, telling: Mutex::default(), state: Mutex::new(state) }
    }

    pub(crate) fn seen(&self) -> Seen {
        let state = self.state();
        Seen {
            left: !state.left.is_empty(),
            said: (!state.said.is_empty()).then(|| state.said_since.elapsed()),
            at_work: state.at_work_since.map(|since| since.elapsed()).unwrap_or_default(),
        }
    }

    /// The right to tell what was said; `None` while somebody tells it.
    pub(crate) fn telling(&self) -> Option<MutexGuard<'_, ()>> {
        match self.telling.try_lock() {
            Ok(telling) => Some(telling),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Takes what was not begun.
    fn withdraw(&self) -> Vec<Left> {
        self.state().left.drain(..).collect()
    }

    fn next(&self) -> Option<Left> {
        let mut state = self.state();
        state.at_work_since = Some(Instant::now());
        state.left.pop_front()
    }

    fn say(&self, said: Said) {
        let mut state = self.state();
        if state.said.is_empty() {
            state.said_since = Instant::now();
        }
        state.said.push(said);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bench<'_> {
    /// Works through steps, which use the same, until none is left.
    pub(crate) fn work_through(&self, several: &Several, tell: Tell<'_>) {
        self.or_broken(several, tell, &mut || self.go_through(several, tell));
    }

    /// Tells what was said so far, for a worker that is held up.
    pub(crate) fn tell_so_far(&self, several: &Several, tell: Tell<'_>) {
        if let Some(_telling) = several.telling() {
            self.or_broken(several, tell, &mut || tell(Told::All(self.flush(several), None)));
        }
    }

    /// Without a word of what a panic leaves undone, the coordinator would wait for ever.
    fn or_broken(&self, several: &Several, tell: Tell<'_>, work: &mut dyn FnMut()) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(work)) {
            let claims = several.withdraw().into_iter().filter_map(|left| left.claim);
            self.memo.release(claims.collect());
            let error = fault(&*panic, "short steps");
            tell(Told::Broken { worker: several.worker, error });
        }
    }

    fn go_through(&self, several: &Several, tell: Tell<'_>) {
        let say = |told: Told| several.say(Said::Told(told));
        let over = |place: usize, end: End| {
            let done = Done { end, ..Done::new(several.worker, place) };
            say(Told::Done(Box::new(done)));
        };
        if let Err(error) = self.claim_left(several) {
            // The first of them says what is wrong.
            let mut error = Some(error);
            for left in several.withdraw() {
                over(left.place, error.take().map_or(End::Cancelled, End::Broken));
            }
        }
        let claimed = Instant::now();
        let mut share: Option<Share> = None;
        while let Some(Left { place, mut task, claim }) = several.next() {
            let Some(claim) = claim else {
                over(place, End::GivenBack { alone: true });
                continue;
            };
            let mut done = Done::new(several.worker, place);
            let mut claim = Some(claim);
            let held = self.guarded(&mut task, &mut done, &mut |task, done| {
                if self.cancel.now() > Stop::No {
                    return Ok(Ended::Over(End::Cancelled));
                }
                if share.is_none() {
                    share = match self.share(task, self.plan.graph.solid(task.step), tell)? {
                        // Runs that share their workers hand nothing out together.
                        Shared::Given(share, _) => share,
                        Shared::Stopped => return Ok(Ended::Over(End::Cancelled)),
                    };
                }
                if let Some(claim) = &mut claim
                    && let Some(end) = self.overtaken(task, claim, claimed)?
                {
                    return Ok(Ended::Over(end));
                }
                match claim.take() {
                    Some(claim) => self.under_claim(task, done, claim, share.as_ref(), &say),
                    None => Ok(Ended::Over(End::Cancelled)),
                }
            });
            let took = done.took;
            let goes_on = held.is_some()
                || matches!(done.end, End::Made { .. } | End::Lost { .. } | End::GivenBack { .. });
            match held {
                Some(held) => several.say(Said::Held(Box::new(done), held)),
                None => say(Told::Done(Box::new(done))),
            }
            if !goes_on {
                // Whether anything more is started is not decided here.
                for told in self.take_back(several) {
                    say(told);
                }
            }
            if took > OLD || several.seen().said.is_some_and(|age| age > OLD) {
                // Whoever has a share waits for nobody, and committing may.
                share = None;
                self.tell_all(several, None, tell);
            }
        }
        drop(share);
        self.tell_all(several, Some(several.worker), tell);
    }

    fn tell_all(&self, several: &Several, free: Option<usize>, tell: Tell<'_>) {
        let _telling = several.telling.lock().unwrap_or_else(PoisonError::into_inner);
        tell(Told::All(self.flush(several), free));
    }

    /// Takes back what was not begun: what is to be told of it.
    pub(crate) fn take_back(&self, several: &Several) -> Vec<Told> {
        let mut claims = Vec::new();
        let mut told = Vec::new();
        for Left { place, claim, .. } in several.withdraw() {
            claims.extend(claim);
            let end = End::GivenBack { alone: false };
            told.push(Told::Done(Box::new(Done { end, ..Done::new(several.worker, place) })));
        }
        self.memo.release(claims);
        told
    }

    /// Commits what is held, and gives all that was said so far, in its order. The caller has the right to tell it.
    pub(crate) fn flush(&self, several: &Several) -> Vec<Told> {
        let said = std::mem::take(&mut several.state().said);
        let mut held = Vec::new();
        let mut told: Vec<Option<Told>> = Vec::with_capacity(said.len());
        for said in said {
            match said {
                Said::Told(one) => told.push(Some(one)),
                Said::Held(done, one) => {
                    held.push((*done, one));
                    told.push(None);
                }
            }
        }
        let settled = if held.is_empty() { Vec::new() } else { self.settle(held) };
        let mut settled = settled.into_iter();
        told.into_iter()
            .filter_map(|told| told.or_else(|| Some(Told::Done(Box::new(settled.next()?)))))
            .collect()
    }

    /// Claims all that is left. What somebody else has is left without a claim.
    fn claim_left(&self, several: &Several) -> Result<(), EngineError> {
        let places: Vec<_> = several.state().left.iter().map(|left| (left.place, left.task.trace)).collect();
        let traces: Vec<_> = places.iter().map(|(_, trace)| *trace).collect();
        let mut claims = self.memo.claim_free(&traces)?;
        let mut state = several.state();
        for left in &mut state.left {
            let at = places.iter().position(|(place, _)| *place == left.place);
            left.claim = at.and_then(|at| claims[at].take());
        }
        state.at_work_since = Some(Instant::now());
        drop(state);
        // Of what was taken back meanwhile.
        self.memo.release(claims.into_iter().flatten().collect());
        Ok(())
    }
}
