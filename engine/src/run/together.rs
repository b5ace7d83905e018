//! Handing ready steps to workers: one by one, or, where they are short functions, many at once; and looking after those
//! that have many.
//!
//! Invariant: of what is handed out together each step could have been handed out by itself now, and what a long one
//! among them holds up is taken back and given to others.

use std::sync::Arc;
use std::time::Duration;

use super::coordinator::{Coordinator, Floor, Given};
use super::grow::AtWork;

use crate::attempt::{Bench, End, Several, TOLD_AFTER, Task};
use crate::error::EngineError;
use crate::graph::StepId;
use crate::resolve::Why;
use crate::solid::Body;

/// So many steps are handed out together at most.
const MOST: u32 = 64;

/// A function that took longer is handed out by itself: what handing it over costs is little beside that.
const SHORT: Duration = Duration::from_micros(200);

/// What is left behind a step that is at work for so long is taken back, whoever has time for it: it is claimed, and
/// another run may want it.
const HELD_UP: Duration = Duration::from_millis(50);

/// Where a step is at work for long already, it is looked after more rarely: after so much of that time,
const PART: u32 = 8;

/// and at least so often.
const RARELY: Duration = Duration::from_secs(1);

/// Begins a thread that tells what a worker said so far.
pub(super) type Teller<'t, 'a> = &'t dyn Fn(Arc<Several>, &'a Bench<'a>);

impl<'a> Coordinator<'a> {
    /// Gives ready steps to idle workers.
    pub(super) fn dispatch(&mut self, floor: &mut Floor<'a>) {
        while !self.stopping() && !floor.idle.is_empty() {
            let Some(step) = floor.schedule.start().map(StepId) else { return };
            let Some(first) = self.begin(floor, step) else { continue };
            let Some(worker) = floor.idle.pop() else { return };
            let count = if self.may_be_together(&first) { self.together(floor, step) } else { 1 };
            let mut tasks = vec![first];
            while tasks.len() < count {
                let Some(next) = floor.schedule.start_behind(step.0).map(StepId) else { break };
                if !self.is_paced(next) {
                    floor.schedule.give_back(next.0);
                    break;
                }
                let Some(task) = self.begin(floor, next) else { continue };
                tasks.push(task);
            }
            let at_work = |task: &Task| AtWork { step: Some(task.step), plan: self.plan, trace: task.trace };
            floor.at_work[worker] = tasks.iter().map(at_work).collect();
            let given = match (tasks.len(), tasks.pop()) {
                (1, Some(task)) => Given::One(Box::new(task), self.bench),
                (_, last) => {
                    tasks.extend(last);
                    let several = Arc::new(Several::new(worker, tasks));
                    floor.several[worker] = Some((Arc::clone(&several), self.bench));
                    Given::Several(several, self.bench)
                }
            };
            if floor.tasks[worker].send(given).is_err() {
                let source = std::io::Error::other("a worker is gone");
                self.broken.get_or_insert(EngineError::Io { action: "use", path: "worker".into(), source });
                floor.several[worker] = None;
                for at_work in std::mem::take(&mut floor.at_work[worker]) {
                    at_work.step.into_iter().for_each(|step| floor.schedule.park(step.0));
                }
            }
        }
    }

    /// What a worker needs for a step that was started; `None` where it is not begun now.
    fn begin(&mut self, floor: &mut Floor<'a>, step: StepId) -> Option<Task> {
        let index = step.0 as usize;
        let (Some(trace), Some(version)) = (self.states[index].trace, self.states[index].version) else {
            // It was wanted only after both were known.
            floor.schedule.reopen(step.0);
            return None;
        };
        let why = self.notes[index].why.unwrap_or(Why::New);
        if why != Why::Volatile {
            if let Some(&other) = floor.computing.get(&trace) {
                floor.schedule.park(step.0);
                floor.parked.entry(other).or_default().push(step);
                return None;
            }
            floor.computing.insert(trace, step);
        }
        self.notes[index].stale = false;
        Some(self.task(step, trace, version, why))
    }

    /// Whether a step is one of those that are handed out together when they are short.
    fn is_paced(&self, step: StepId) -> bool {
        let solid = self.plan.graph.solid(step);
        let note = &self.notes[step.0 as usize];
        let is_new = matches!(note.why, None | Some(Why::New | Why::Inputs));
        let simple = solid.policy.retries.times == 0 && solid.policy.scratch.is_empty();
        let of_sweep = self.options.turn.is_some();
        matches!(solid.body, Body::Function(_))
            && simple
            && is_new
            && !of_sweep
            && !note.alone
            && !note.private
    }

    fn may_be_together(&self, task: &Task) -> bool {
        self.is_paced(task.step) && !task.reproduces
    }

    /// How many steps are handed out behind this one and with it.
    fn together(&self, floor: &Floor<'a>, step: StepId) -> usize {
        let pace = self.paces[self.plan.graph.steps[step.0 as usize].invocation as usize];
        // The others get as many.
        let share = (floor.schedule.ready_as(step.0) + 1).div_ceil(floor.tasks.len().max(1));
        share.min(pace as usize)
    }

    /// Notes how long a step took: with each short one, one more is handed out together, until one takes long.
    pub(super) fn pace(&mut self, step: StepId, took: Duration, end: &End) {
        if !self.is_paced(step) {
            return;
        }
        let pace = &mut self.paces[self.plan.graph.steps[step.0 as usize].invocation as usize];
        match end {
            End::Made { .. } if took <= SHORT => *pace = (*pace + 1).min(MOST),
            End::Made { .. } | End::Failed(_) => *pace = 1,
            End::Lost { .. } | End::Cancelled | End::GivenBack { .. } | End::Broken(_) => {}
        }
    }

    /// Tells what workers that have many steps did so far, and takes from those that are held up what others can do.
    /// The former is begun by `teller`, which waits for nobody.
    pub(super) fn look_after(&mut self, floor: &mut Floor<'a>, teller: Teller<'_, 'a>) {
        for worker in 0..floor.several.len() {
            let Some((several, bench)) = floor.several[worker].clone() else { continue };
            let seen = several.seen();
            // Who tells it already is not joined by another.
            if seen.said.is_some_and(|age| age >= TOLD_AFTER) && several.telling().is_some() {
                teller(Arc::clone(&several), bench);
            }
            let patience = if floor.idle.is_empty() { HELD_UP } else { TOLD_AFTER };
            if seen.left && seen.at_work >= patience {
                bench.take_back(&several).into_iter().for_each(|told| self.hear(floor, told));
            }
        }
    }

    /// Takes back all that was handed out and not begun.
    pub(super) fn withdraw_all(&mut self, floor: &mut Floor<'a>) {
        for worker in 0..floor.several.len() {
            if let Some((several, bench)) = floor.several[worker].clone() {
                bench.take_back(&several).into_iter().for_each(|told| self.hear(floor, told));
            }
        }
    }
}

/// How long until somebody who has many steps is to be looked after.
pub(super) fn until_look(floor: &Floor<'_>) -> Option<Duration> {
    let until = |several: &Several| {
        let seen = several.seen();
        let waits = seen.left || seen.said.is_some();
        waits.then(|| (seen.at_work / PART).clamp(TOLD_AFTER, RARELY))
    };
    floor.several.iter().flatten().filter_map(|(several, _)| until(several)).min()
}
