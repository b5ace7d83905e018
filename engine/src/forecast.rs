//! How long a run will take: what is to run, handed out by the real schedule in thought. Pure.
//!
//! How long a step takes is known best from its own result (which was evicted, or is forced), else from the last run in
//! which it ran, else from the other elements of its step; of the rest it is not known, and the middle of what is known is
//! put in its place. The same durations put the longest path first in a real run.

mod laid_out;
mod outlook;

use std::collections::HashMap;

use crate::graph::StepId;
use crate::limits;
use crate::past::Past;
use crate::plan::Plan;
use crate::resolve::StepState;
use crate::schedule::{Capacity, Edges, Need, Phase, Schedule};
pub use laid_out::ToRun;
use laid_out::{Node, Pace, Took};
pub use outlook::{Going, Outlook, left_ms};

/// How well it is known how long a step will take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// From its own result.
    Same,
    /// From when it ran last, with other content.
    Before,
    /// From other elements of the step.
    Alike,
    /// It is not.
    Not,
}

impl Known {
    /// The word of `docs/events.md`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::Before => "before",
            Self::Alike => "alike",
            Self::Not => "unknown",
        }
    }
}

/// How long each step will take, by step id, as far as that is known.
#[derive(Debug, Clone)]
pub struct Durations {
    of: Vec<Option<(u64, Known)>>,
    /// The middle of what is known.
    typical_ms: Option<u64>,
}

impl Durations {
    /// How long the steps that are to run will take.
    pub fn of(plan: &Plan, states: &[StepState], past: &Past) -> Self {
        let graph = &plan.graph;
        let mut alike: HashMap<&str, Vec<u64>> = HashMap::new();
        for (step, took) in past.durations() {
            if let Some((base, _)) = step.split_once('[') {
                alike.entry(base).or_default().push(took);
            }
        }
        let alike: HashMap<&str, u64> =
            alike.into_iter().filter_map(|(base, took)| Some((base, middle(took)?))).collect();
        let mut of = vec![None; states.len()];
        for &step in plan.steps.iter().filter(|step| states[step.0 as usize].to_run) {
            let state = &states[step.0 as usize];
            let own = state.found.as_ref().map(|found| (found.record.cost_ms, Known::Same));
            of[step.0 as usize] = own.or_else(|| {
                past.durations().next()?;
                let name = graph.step_name(step);
                let before = past.took_ms(&name).map(|took| (took, Known::Before));
                before.or_else(|| {
                    let base = name.split_once('[').map_or(name.as_str(), |(base, _)| base);
                    alike.get(base).map(|took| (*took, Known::Alike))
                })
            });
        }
        let typical_ms = middle(of.iter().flatten().map(|(took, _)| *took).collect());
        Self { of, typical_ms }
    }

    /// How long a step will take, and how well that is known.
    pub fn get(&self, step: StepId) -> Option<(u64, Known)> {
        self.of[step.0 as usize]
    }

    /// The middle of what is known, if anything is.
    pub(crate) fn typical_ms(&self) -> Option<u64> {
        self.typical_ms
    }

    /// What the schedule is told: whole seconds. Those that take less are alike to it, and run in the order of the
    /// plan: by how much they differed last time says nothing.
    pub(crate) fn weights(&self) -> Vec<u64> {
        self.all_ms().into_iter().map(|took| took / 1000).collect()
    }

    /// The same for all, in numbers: the middle of what is known where it is not.
    fn all_ms(&self) -> Vec<u64> {
        let typical = self.typical_ms.unwrap_or(0);
        self.of.iter().map(|of| of.map_or(typical, |(took, _)| took)).collect()
    }
}

/// The middle one of several numbers.
fn middle(mut numbers: Vec<u64>) -> Option<u64> {
    numbers.sort_unstable();
    numbers.get(numbers.len() / 2).copied()
}

/// How long those of these steps are taken to take of which it is not known.
fn typical_ms(steps: &[&Node]) -> Option<u64> {
    middle(steps.iter().filter_map(|step| Some(step.took?.0)).collect())
}

/// How long a run will take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forecast {
    /// How many steps are to run; of those that are one and the same, one.
    pub steps: usize,
    /// How many cores there are for them.
    pub jobs: u32,
    /// From beginning to end; `None` where nothing is known of any of them.
    pub elapsed_ms: Option<u64>,
    /// The same, if all that may turn out unchanged does.
    pub at_least_ms: Option<u64>,
    /// All steps one after the other.
    pub work_ms: Option<u64>,
    /// Of how many it is known from themselves how long they take.
    pub known: usize,
    /// Of how many from other elements of their step.
    pub alike: usize,
    /// Of how many not at all.
    pub unknown: usize,
    /// How many may turn out unchanged, and then take no time.
    pub may_be_unchanged: usize,
    /// How many are elements of a list that is not known yet: as many as the last one had.
    pub by_last_list: usize,
}

impl Forecast {
    /// Foresees the runs of what is to run of these plans, which go on over one pool with this `-j`. What they share is
    /// made once; steps that are mapped over a list that is not known count as one, unless it is known how many there
    /// were last.
    pub fn of(plans: &[ToRun], capacity: &Capacity, jobs: usize) -> Self {
        let steps = laid_out::distinct(plans);
        let count = |wanted: &[Option<Known>]| {
            steps.iter().filter(|step| wanted.contains(&step.took.map(|(_, known)| known))).count()
        };
        let typical = typical_ms(&steps);
        let took = |unchanged: bool| Some(Took { typical_ms: typical?, unchanged, pace: Pace::EVEN });
        let elapsed = |took: Took| laid_out::elapsed_ms(plans, capacity, jobs, took);
        let work = |took: Took| steps.iter().map(|step| took.ms(step)).fold(0, u64::saturating_add);
        Self {
            steps: steps.len(),
            jobs: capacity.cpus,
            elapsed_ms: took(false).map(elapsed),
            at_least_ms: took(true).map(elapsed),
            work_ms: took(false).map(work),
            known: count(&[Some(Known::Same), Some(Known::Before)]),
            alike: count(&[Some(Known::Alike)]),
            unknown: count(&[None]),
            may_be_unchanged: steps.iter().filter(|step| step.may_be_unchanged).count(),
            by_last_list: steps.iter().filter(|step| step.by_last_list).count(),
        }
    }
}

/// The steps that are settled on record, but stand below one that is to run: what they are depends on it.
pub(crate) fn held(plan: &Plan, states: &[StepState]) -> Vec<bool> {
    let mut held = vec![false; states.len()];
    if states.iter().all(|state| !state.to_run) {
        return held;
    }
    for &step in &plan.steps {
        let mut below = false;
        plan.graph.each_input(step, &mut |output| {
            let above = output.step.0 as usize;
            below |= held[above] || states[above].to_run;
        });
        held[step.0 as usize] = below;
    }
    held
}

/// Where each step is before a run begins.
pub(crate) fn phases(plan: &Plan, states: &[StepState]) -> Vec<Phase> {
    let planned = planned(plan);
    let held = held(plan, states);
    (0..plan.graph.steps.len())
        .map(|index| match &states[index] {
            _ if !planned[index] => Phase::Outside,
            state if state.to_run => Phase::Waiting,
            state if state.settled && held[index] => Phase::Waiting,
            state if state.settled => Phase::Settled,
            _ => Phase::Outside,
        })
        .collect()
}

/// A schedule of a plan in which each step is where it is said to be.
pub(crate) fn schedule(plan: &Plan, phases: Vec<Phase>, weights: &[u64], capacity: &Capacity) -> Schedule {
    let graph = &plan.graph;
    let planned = planned(plan);
    let edges = Edges::new(graph.steps.len(), &mut |step, above| {
        if planned[step as usize] {
            graph.each_input(StepId(step), &mut |output| above.push(output.step.0));
        }
    });
    let invocations = &graph.pipeline.invocations;
    let classes: Vec<Need> =
        invocations.iter().map(|invocation| limits::need(&invocation.solid.policy)).collect();
    let needs = graph.steps.iter().map(|step| step.invocation).collect();
    Schedule::new(edges, phases, weights, needs, &classes, capacity)
}

fn planned(plan: &Plan) -> Vec<bool> {
    let mut planned = vec![false; plan.graph.steps.len()];
    plan.steps.iter().for_each(|step| planned[step.0 as usize] = true);
    planned
}
