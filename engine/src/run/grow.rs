//! A plan that grows while it is run: a list became known, and what is mapped over it takes the place of its
//! placeholder.
//!
//! ```text
//! a list's step settles ─► its placeholders open ─► nothing else to hand out ─► grow: plan anew, move everything over
//! ```
//!
//! Steps that run go on running: they have everything that they need, and are told by the worker that has them. What
//! was decided of a step stays decided; steps that are new are looked at as any other when they open. Invariant: a
//! placeholder never runs, and neither does an element of a list that is not the one on record.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use cas_store::Trace;

use super::coordinator::{Coordinator, Floor, Note};

use crate::event::{Event, Outcome};
use crate::frozen::Frozen;
use crate::graph::{OutputId, StepId, StepInput};
use crate::grow::{self, Grown};
use crate::left_out;
use crate::plan::Plan;
use crate::resolve::{self, StepState, Why};
use crate::schedule::Phase;
use crate::solid::Declared;

/// What is said of an output that is to be a list, where that cannot be had from the store.
const NO_LIST: &str = "it is no list, or its bytes are gone";

/// Values that are added one by one through a shared reference, and stay where they are.
pub(super) struct Chain<T> {
    first: OnceLock<Box<Link<T>>>,
}

struct Link<T> {
    value: T,
    next: Chain<T>,
}

impl<T> Chain<T> {
    pub(super) fn new() -> Self {
        Self { first: OnceLock::new() }
    }

    /// Adds a value at the end.
    pub(super) fn add(&self, value: T) -> &T {
        let mut last = self;
        while let Some(link) = last.first.get() {
            last = &link.next;
        }
        &last.first.get_or_init(|| Box::new(Link { value, next: Self::new() })).value
    }
}

impl<'a> Coordinator<'a> {
    /// Whether a step stands in the place of elements that may be known by now, or is one of a list that is another
    /// now. Then it waits until the plan has grown.
    pub(super) fn awaits_growth(&self, step: StepId) -> bool {
        !resolve::lists_hold(self.plan, &self.states, step)
    }

    /// Lets the plan grow by every list that is known by now. Of a list that is needed for that and whose bytes are
    /// gone, the step runs again.
    pub(super) fn grow(&mut self, floor: &mut Floor<'a>) {
        self.due = false;
        let lists = match self.memo.lists_known(self.plan, &self.states) {
            Ok(lists) => lists,
            Err(error) => {
                self.broken.get_or_insert(error);
                return;
            }
        };
        let settled = |output: &OutputId| floor.schedule.phase(output.step.0) == Phase::Settled;
        let lists: Vec<_> = lists.into_iter().filter(|(output, _)| settled(output)).collect();
        if lists.is_empty() {
            let gone: Vec<OutputId> = self.plan.graph.pending.iter().copied().filter(settled).collect();
            for output in gone {
                self.lose_list(floor, output);
            }
            return;
        }
        match grow::grown(self.plan, &self.wanted, &lists) {
            Ok(grown) => self.take_on(floor, grown),
            Err(error) => {
                self.broken.get_or_insert(error);
            }
        }
    }

    /// What is to be a list is none, or its bytes are gone: what is there of it is not taken for it again, so that
    /// whoever waits for it does not wait for ever. Its step runs again, or those who wait fail.
    fn lose_list(&mut self, floor: &mut Floor<'a>, output: OutputId) {
        let below: Vec<u32> = floor.schedule.edges().below(output.step.0).to_vec();
        let waits = |reader: &u32| {
            let inputs = &self.plan.graph.steps[*reader as usize].inputs;
            inputs.iter().any(|input| match input {
                StepInput::Unknown(outputs) => outputs.contains(&output),
                _ => false,
            })
        };
        let waiting: Vec<u32> = below.into_iter().filter(waits).collect();
        for reader in waiting {
            let is_over = matches!(floor.schedule.phase(reader), Phase::Outside | Phase::Ended);
            if !is_over && floor.schedule.phase(output.step.0) == Phase::Settled {
                self.lost(floor, StepId(reader), output, NO_LIST.to_owned());
            }
        }
    }

    /// Goes on with a plan that has grown.
    fn take_on(&mut self, floor: &mut Floor<'a>, grown: Grown) {
        let Grown { plan, wanted, moved } = grown;
        let earlier = self.plan;
        let bench = (self.bench_of)(plan);
        let plan = bench.plan;
        self.bench = bench;
        self.plan = plan;
        self.wanted = wanted;
        self.targets = resolve::targets(plan, &self.wanted);
        self.named = self.wanted.only.then(|| self.wanted.steps.iter().copied().collect());
        let count = plan.graph.steps.len();
        let mut planned = vec![false; count];
        plan.steps.iter().for_each(|step| planned[step.0 as usize] = true);

        let mut states: Vec<StepState> = vec![StepState::default(); count];
        let mut notes: Vec<Note> = (0..count).map(|_| Note::default()).collect();
        let mut phases = vec![Phase::Outside; count];
        let mut old = vec![false; count];
        for (before, to) in moved.to.iter().enumerate() {
            let Some(after) = to.map(|step| step.0 as usize) else { continue };
            old[after] = true;
            states[after] = std::mem::take(&mut self.states[before]);
            notes[after] = std::mem::take(&mut self.notes[before]);
            // Rows of a version that was not known before were not looked up.
            notes[after].unlooked |= earlier.versions[before].is_none();
            phases[after] = match floor.schedule.phase(before as u32) {
                Phase::Waiting | Phase::Open | Phase::Ready => Phase::Waiting,
                phase @ (Phase::Outside | Phase::Running | Phase::Settled | Phase::Ended) => phase,
            };
        }
        for &step in &plan.steps {
            let index = step.0 as usize;
            if old[index] {
                continue;
            }
            let may = self.named.as_ref().is_none_or(|named| named.contains(&step));
            let forced = self.wanted.force.contains(&step);
            let volatile = matches!(plan.graph.solid(step).version, Some(Declared::Volatile));
            states[index] = StepState {
                version: plan.versions[index],
                to_run: may,
                may_be_unchanged: may && !forced && !volatile,
                why: Some(Why::Inputs),
                ..StepState::default()
            };
            let rerun = if forced {
                Some(Why::Forced)
            } else if volatile && self.wanted.frozen == Frozen::No {
                Some(Why::Volatile)
            } else {
                None
            };
            notes[index] = Note { rerun, reusable: true, unlooked: true, ..Note::default() };
            if may {
                phases[index] = Phase::Waiting;
            }
        }
        self.states = states;
        self.notes = notes;
        let step = |before: StepId| moved.to.get(before.0 as usize).copied().flatten();
        let computing = std::mem::take(&mut floor.computing);
        floor.computing = computing.into_iter().filter_map(|(trace, of)| Some((trace, step(of)?))).collect();
        self.differing = std::mem::take(&mut self.differing).into_iter().filter_map(step).collect();
        for at_work in floor.at_work.iter_mut().flatten() {
            at_work.step = at_work.step.and_then(step);
        }
        // Those that a worker was given together run in the room of one of them.
        let mut lodgers = Vec::new();
        for at_work in &floor.at_work {
            let mut steps = at_work.iter().filter_map(|at_work| at_work.step);
            let Some(host) = steps.next() else { continue };
            for lodger in steps {
                phases[lodger.0 as usize] = Phase::Outside;
                lodgers.push((lodger, host));
            }
        }
        // They are looked at again, and wait again.
        floor.parked = BTreeMap::new();
        floor.schedule = self.schedule_of(phases);
        lodgers.into_iter().for_each(|(lodger, host)| floor.schedule.lodge(lodger.0, host.0));
        self.spare_all(floor);
        (self.tell)(&Event::PlanGrew {
            steps: plan.steps.len(),
            to_run: plan.steps.iter().filter(|step| self.states[step.0 as usize].to_run).count(),
        });
        self.expect();
    }

    /// The output of this plan that was known by this id to a worker that was given an earlier one.
    pub(super) fn output_now(&self, plan: &Plan, output: OutputId) -> Option<OutputId> {
        if std::ptr::eq(plan, self.plan) {
            return Some(output);
        }
        let moved = self.plan.graph.moved(&plan.graph);
        let step = moved.to.get(output.step.0 as usize).copied().flatten()?;
        Some(OutputId { step, ..output })
    }

    /// Whether a step goes on without another that failed.
    pub(super) fn tolerates(&self, reader: StepId, failed: StepId) -> bool {
        left_out::tolerates(self.plan, reader, failed)
    }

    /// Why a step cannot go on without what failed, if it cannot.
    pub(super) fn too_many_failed(&self, step: StepId) -> Option<String> {
        let skipped = |step: StepId| self.notes[step.0 as usize].outcome == Some(Outcome::Skipped);
        left_out::too_many(self.plan, &self.states, step, &skipped)
    }

    /// Lets those go on without what failed that do so.
    fn spare_all(&self, floor: &mut Floor<'a>) {
        for &step in &self.plan.steps {
            if floor.schedule.phase(step.0) != Phase::Ended {
                continue;
            }
            let below: Vec<u32> = floor.schedule.edges().below(step.0).to_vec();
            for reader in below.into_iter().filter(|reader| self.tolerates(StepId(*reader), step)) {
                floor.schedule.spare(reader);
            }
        }
    }
}

/// A step that a worker has.
pub(super) struct AtWork<'a> {
    /// Which step of the present plan it is; `None` for one that is there no more, or that the worker is done with.
    pub(super) step: Option<StepId>,
    /// The plan that the worker was given.
    pub(super) plan: &'a Plan,
    /// The trace that it was given.
    pub(super) trace: Trace,
}
