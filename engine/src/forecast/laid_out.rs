//! Runs laid out in thought: what is to run of each plan, handed out by its schedule, and over all of them by the rules of
//! the pool that the runs of a sweep share. Pure.
//!
//! Invariants: what several would make of equal versions in one store is made once, and the others wait for it, as in a
//! real sweep; runs begin in order, when there is room.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, HashSet};
use std::ops::Range;
use std::path::{Path, PathBuf};

use cas_store::Version;

use super::{Durations, Known, phases};
use crate::graph::StepId;
use crate::limits;
use crate::past::Past;
use crate::plan::Plan;
use crate::pool;
use crate::pool::slots::{self, Slots};
use crate::resolve::StepState;
use crate::schedule::{Capacity, Edges, Need, Phase, Schedule};
use crate::solid::Declared;

/// So many edges between elements that are only likely to be there are laid out.
const MANY: u64 = 1_000_000;

/// What is to run of a plan, without the plan: many are kept while all of them are foreseen.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ToRun {
    store: PathBuf,
    /// Between those steps only.
    edges: Edges,
    nodes: Vec<Node>,
    /// What a step of each invocation uses.
    classes: Vec<Need>,
}

/// A step that is to run, or is held up by one that is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Node {
    class: u32,
    runs: bool,
    pub(super) may_be_unchanged: bool,
    /// How long it takes, as far as that is known.
    pub(super) took: Option<(u64, Known)>,
    /// It is one of as many as the last list had, of which this one is not known yet.
    pub(super) by_last_list: bool,
    /// Whoever has one of this version takes it for this one; `None` for what each makes for itself, or of which it is not
    /// known yet what it will be.
    version: Option<Version>,
}

impl ToRun {
    /// What is to run of a plan that was held against the store in this folder. `lengths` is how many elements there are
    /// likely to be in the place of a step that stands for those of a list which is not known yet
    /// ([`crate::memo::Memo::last_lengths`]).
    pub fn of(
        store: &Path,
        plan: &Plan,
        states: &[StepState],
        past: &Past,
        lengths: &BTreeMap<StepId, usize>,
    ) -> Self {
        Self::placed(store, plan, states, past, lengths).0
    }

    /// The same, and where the nodes of each step begin, and how many it has.
    pub(super) fn placed(
        store: &Path,
        plan: &Plan,
        states: &[StepState],
        past: &Past,
        lengths: &BTreeMap<StepId, usize>,
    ) -> (Self, Vec<Option<(u32, u32)>>) {
        let graph = &plan.graph;
        let durations = Durations::of(plan, states, past);
        let phases = phases(plan, states);
        let mut places: Vec<Option<(u32, u32)>> = vec![None; phases.len()];
        let mut nodes = Vec::new();
        let mut steps = Vec::new();
        for step in graph.ids().filter(|step| phases[step.0 as usize] == Phase::Waiting) {
            let index = step.0 as usize;
            let length = lengths.get(&step);
            let count = length.map_or(1, |length| u32::try_from(*length).unwrap_or(u32::MAX));
            places[index] = u32::try_from(nodes.len()).ok().map(|first| (first, count));
            let is_volatile = matches!(graph.solid(step).version, Some(Declared::Volatile));
            for nth in 0..count {
                steps.push((step, nth));
                nodes.push(Node {
                    class: graph.steps[index].invocation,
                    runs: states[index].to_run,
                    may_be_unchanged: states[index].may_be_unchanged,
                    took: durations.get(step),
                    by_last_list: length.is_some(),
                    version: plan.versions[index].filter(|_| !is_volatile),
                });
            }
        }
        let edges = Edges::new(nodes.len(), &mut |place, above| {
            let (step, nth) = steps[place as usize];
            let own = places[step.0 as usize].map_or(0, |(_, count)| count);
            graph.each_input(step, &mut |output| {
                let Some((first, count)) = places[output.step.0 as usize] else { return };
                let is_one_of_many = lengths.contains_key(&step) && lengths.contains_key(&output.step);
                above.extend(match is_one_of_many {
                    // Elements of one list meet one by one.
                    true if count == own => first + nth..first + nth + 1,
                    // Very many that read very many each wait for the last.
                    true if u64::from(count) * u64::from(own) > MANY => {
                        first + count.saturating_sub(1)..first + count
                    }
                    _ => first..first + count,
                });
            });
        });
        let invocations = &graph.pipeline.invocations;
        let classes = match nodes.is_empty() {
            true => Vec::new(),
            false => invocations.iter().map(|invocation| limits::need(&invocation.solid.policy)).collect(),
        };
        (Self { store: store.to_owned(), edges, nodes, classes }, places)
    }

    /// Steps of which this is known: how long each takes, and which of those before it it consumes.
    pub(super) fn known(steps: &[(u64, &[u32])]) -> Self {
        let node = |(took, _): &(u64, &[u32])| Node {
            class: 0,
            runs: true,
            may_be_unchanged: false,
            took: Some((*took, Known::Same)),
            by_last_list: false,
            version: None,
        };
        let edges =
            Edges::new(steps.len(), &mut |step, above| above.extend_from_slice(steps[step as usize].1));
        let nodes = steps.iter().map(node).collect();
        Self { store: PathBuf::new(), edges, nodes, classes: vec![Need { cpus: 1, ..Need::default() }] }
    }

    /// Takes what is not known to take as long as the middle of what is.
    pub(super) fn fill_in(&mut self) {
        let typical = super::typical_ms(&distinct(std::slice::from_ref(self)));
        for node in &mut self.nodes {
            node.took = node.took.or(typical.map(|took| (took, Known::Not)));
        }
    }

    /// How many there are, with those that are held up.
    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// How long those of these that are to run take one after the other, as far as that is known.
    pub(super) fn work_ms(&self, nodes: Range<u32>) -> u64 {
        let end = self.nodes.len().min(nodes.end as usize);
        let nodes = self.nodes[end.min(nodes.start as usize)..end].iter().filter(|node| node.runs);
        nodes.filter_map(|node| Some(node.took?.0)).fold(0, u64::saturating_add)
    }

    /// How many steps are to run.
    pub fn steps(&self) -> usize {
        self.nodes.iter().filter(|node| node.runs).count()
    }
}

/// What is to run of all of them, each once.
pub(super) fn distinct(plans: &[ToRun]) -> Vec<&Node> {
    let mut seen = HashSet::new();
    let mut distinct = Vec::new();
    for plan in plans {
        for node in plan.nodes.iter().filter(|node| node.runs) {
            if node.version.is_none_or(|version| seen.insert((plan.store.as_path(), version))) {
                distinct.push(node);
            }
        }
    }
    distinct
}

/// How long steps are taken to take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Took {
    /// Those of which it is not known.
    pub(super) typical_ms: u64,
    /// Whether those that may turn out unchanged do, and take no time.
    pub(super) unchanged: bool,
    /// How long they take for how long they are expected to.
    pub(super) pace: Pace,
}

/// How long something took in the place of how long it was expected to take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pace {
    pub(super) took_ms: u64,
    pub(super) expected_ms: u64,
}

impl Pace {
    /// As expected.
    pub(super) const EVEN: Self = Self { took_ms: 1, expected_ms: 1 };

    /// Of both together.
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            took_ms: self.took_ms.saturating_add(other.took_ms),
            expected_ms: self.expected_ms.saturating_add(other.expected_ms),
        }
    }

    fn of(self, ms: u64) -> u64 {
        let paced = u128::from(ms) * u128::from(self.took_ms) / u128::from(self.expected_ms.max(1));
        u64::try_from(paced).unwrap_or(u64::MAX)
    }
}

impl Took {
    pub(super) fn ms(self, node: &Node) -> u64 {
        self.pace.of(match node.took {
            _ if self.unchanged && node.may_be_unchanged => 0,
            Some((took, _)) => took,
            None => self.typical_ms,
        })
    }
}

/// A plan of which some has been done.
#[derive(Debug, Clone, Copy)]
pub(super) struct Begun<'a> {
    pub(super) plan: &'a ToRun,
    /// By node, whether it has ended; none has where this is empty.
    pub(super) ended: &'a [bool],
    /// Those that run, in order, each with for how long, in milliseconds.
    pub(super) running: &'a [(u32, u64)],
}

/// When the last step of all these ends, if each takes so long.
pub(super) fn elapsed_ms(plans: &[ToRun], capacity: &Capacity, jobs: usize, took: Took) -> u64 {
    let plans: Vec<Begun<'_>> = plans.iter().map(|plan| Begun { plan, ended: &[], running: &[] }).collect();
    Floor::new(&plans, capacity, jobs, took).last_end()
}

/// The same for what is left of plans all of which have begun.
pub(super) fn left_ms(plans: &[Begun<'_>], capacity: &Capacity, took: Took) -> u64 {
    let mut floor = Floor::new(plans, capacity, plans.len(), took);
    for (place, begun) in plans.iter().enumerate() {
        for step in (0..).zip(begun.ended).filter_map(|(step, ended)| ended.then_some(step)) {
            if let Some(key) = floor.key(place, step) {
                floor.made.insert(key, Making::Made);
            }
        }
    }
    // Who runs has what it needs: before anything else is handed out.
    (0..plans.len()).for_each(|place| floor.begin(place));
    floor.give_slots();
    (0..plans.len()).for_each(|place| floor.go_on(place));
    floor.last_end()
}

/// How far one version is.
enum Making {
    /// These wait for it.
    Goes(Vec<(usize, u32)>),
    Made,
}

/// A run that has begun and not ended.
struct AtWork {
    schedule: Schedule,
    /// How many of its steps wait for others that make the same.
    held_up: usize,
}

/// All runs at one moment.
struct Floor<'a> {
    plans: &'a [Begun<'a>],
    capacity: &'a Capacity,
    jobs: usize,
    took: Took,
    now: u64,
    /// How many runs have begun.
    begun: usize,
    /// By their places in the sweep.
    runs: BTreeMap<usize, AtWork>,
    /// Which steps wait for one, and what those have that run.
    slots: Slots<u32>,
    made: HashMap<(&'a Path, Version), Making>,
    /// Those that have one, the first to end first.
    running: BinaryHeap<Reverse<(u64, usize, u32)>>,
}

impl<'a> Floor<'a> {
    fn new(plans: &'a [Begun<'a>], capacity: &'a Capacity, jobs: usize, took: Took) -> Self {
        Self {
            plans,
            capacity,
            jobs: jobs.max(1),
            took,
            now: 0,
            begun: 0,
            runs: BTreeMap::new(),
            slots: Slots::default(),
            made: HashMap::new(),
            running: BinaryHeap::new(),
        }
    }

    /// Lets all go on to their end, and says when that is.
    fn last_end(mut self) -> u64 {
        loop {
            while self.begun < self.plans.len() && self.has_room() {
                let place = self.begun;
                self.begin(place);
                self.go_on(place);
            }
            self.give_slots();
            let Some(Reverse((end, place, step))) = self.running.pop() else { return self.now };
            self.now = end;
            self.ended(place, step);
        }
    }

    fn has_room(&self) -> bool {
        let moving = self.runs.values().filter(|run| run.schedule.running() > run.held_up).count();
        pool::has_room(self.jobs, moving, self.runs.len())
    }

    /// Begins a run: what runs of it already asks for its slot.
    fn begin(&mut self, place: usize) {
        self.begun = self.begun.max(place + 1);
        let Begun { plan, ended, running } = self.plans[place];
        // What the schedule of a run is told: whole seconds, and nothing of what may turn out.
        let told = Took { unchanged: false, pace: Pace::EVEN, ..self.took };
        let weights: Vec<u64> = plan.nodes.iter().map(|node| told.ms(node) / 1000).collect();
        let needs = plan.nodes.iter().map(|node| node.class).collect();
        let mut phases = vec![Phase::Waiting; plan.nodes.len()];
        for (phase, _) in phases.iter_mut().zip(ended).filter(|(_, ended)| **ended) {
            *phase = Phase::Settled;
        }
        running.iter().for_each(|(step, _)| phases[*step as usize] = Phase::Running);
        let edges = plan.edges.clone();
        let schedule = Schedule::new(edges, phases, &weights, needs, &plan.classes, self.capacity);
        let mut run = AtWork { schedule, held_up: 0 };
        for (step, _) in running {
            self.start(place, *step, &mut run);
        }
        self.runs.insert(place, run);
    }

    /// Hands out what is next in a run; it has ended when nothing of it runs.
    fn go_on(&mut self, place: usize) {
        let Some(mut run) = self.runs.remove(&place) else { return };
        loop {
            while let Some(step) = run.schedule.opened() {
                let is_made = self
                    .key(place, step)
                    .is_some_and(|key| matches!(self.made.get(&key), Some(Making::Made)));
                if self.node(place, step).runs && !is_made {
                    run.schedule.want(step);
                } else {
                    run.schedule.settle(step);
                }
            }
            let Some(step) = run.schedule.start() else { break };
            self.start(place, step, &mut run);
        }
        if run.schedule.running() > 0 {
            self.runs.insert(place, run);
        }
    }

    /// A worker has this step: somebody has made it, somebody makes it, or it waits for its slot.
    fn start(&mut self, place: usize, step: u32, run: &mut AtWork) {
        if let Some(key) = self.key(place, step) {
            match self.made.get_mut(&key) {
                Some(Making::Made) => return run.schedule.settle(step),
                Some(Making::Goes(waiting)) => {
                    waiting.push((place, step));
                    run.held_up += 1;
                    return;
                }
                None => self.made.insert(key, Making::Goes(Vec::new())),
            };
        }
        self.slots.ask(place, self.need(place, step), step);
    }

    fn give_slots(&mut self) {
        for ((place, _), step) in self.slots.hand_out(self.capacity) {
            // How long it took may come from an archive, which may say anything.
            let took = self.took.ms(self.node(place, step)).saturating_sub(self.so_far(place, step));
            let end = self.now.saturating_add(took);
            self.running.push(Reverse((end, place, step)));
        }
    }

    fn ended(&mut self, place: usize, step: u32) {
        self.slots.give_back(&self.need(place, step));
        let made = self.key(place, step).and_then(|key| self.made.insert(key, Making::Made));
        let waiting = match made {
            Some(Making::Goes(waiting)) => waiting,
            Some(Making::Made) | None => Vec::new(),
        };
        if let Some(run) = self.runs.get_mut(&place) {
            run.schedule.settle(step);
        }
        for (place, step) in &waiting {
            if let Some(run) = self.runs.get_mut(place) {
                run.held_up -= 1;
                run.schedule.settle(*step);
            }
        }
        self.go_on(place);
        for (place, _) in waiting {
            self.go_on(place);
        }
    }

    /// For how long a step has run already: those that have stand in order.
    fn so_far(&self, place: usize, step: u32) -> u64 {
        let running = self.plans[place].running;
        running.binary_search_by_key(&step, |(step, _)| *step).map_or(0, |at| running[at].1)
    }

    fn node(&self, place: usize, step: u32) -> &'a Node {
        &self.plans[place].plan.nodes[step as usize]
    }

    fn key(&self, place: usize, step: u32) -> Option<(&'a Path, Version)> {
        let plan = self.plans[place].plan;
        Some((plan.store.as_path(), plan.nodes[step as usize].version?))
    }

    fn need(&self, place: usize, step: u32) -> Need {
        let class = self.node(place, step).class as usize;
        slots::part(self.capacity, &self.plans[place].plan.classes[class])
    }
}
