//! Which step is next: Waiting, Open, Ready, Running, then settled or ended. Pure.
//!
//! ```text
//!            inputs settled        want           start
//!  Waiting ────────────────► Open ──────► Ready ─────────► Running
//!     ▲                       │ settle                        │ settle       end
//!     │  take_back            ▼                               ▼         (it and what is below)
//!     └──────────────────── Settled ◄─────────────────────────┘ ───────────► Ended
//! ```
//!
//! A schedule knows which steps wait for which, what each uses while it runs and how much there is of it. It
//! never knows why a step has to run: whoever drives it looks at each step that *opens* and either settles it
//! (what it makes is on record) or wants it run.
//!
//! Invariants: a step opens only when everything that it consumes is settled; it runs only from Ready; what
//! runs never uses more than there is (a step that wants more than there is gets all of it, and so runs
//! alone); a step that was taken back takes back everything that was settled on the strength of it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// What one step uses while it runs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Need {
    /// Cores.
    pub cpus: u32,
    /// Bytes.
    pub memory: u64,
    /// So much of each of these limits.
    pub limits: BTreeMap<String, u32>,
}

/// How much there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capacity {
    /// Cores; at least one.
    pub cpus: u32,
    /// Bytes, where memory is limited.
    pub memory: Option<u64>,
    /// Of each named limit; there is one of a limit that is not named here.
    pub limits: BTreeMap<String, u32>,
}

/// Where a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// It takes no part.
    Outside,
    /// Something that it consumes is not settled.
    Waiting,
    /// Everything that it consumes is settled: it is to be looked at.
    Open,
    /// It is to run as soon as there is room.
    Ready,
    /// It runs.
    Running,
    /// What it makes is known.
    Settled,
    /// It failed, or something above it did.
    Ended,
}

/// The edges between steps, both ways, without one vector per step.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Edges {
    above: Lists,
    below: Lists,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Lists {
    /// There may be more edges than 2^32: many that read all of many.
    starts: Vec<usize>,
    items: Vec<u32>,
}

impl Lists {
    fn of(&self, step: u32) -> &[u32] {
        let step = step as usize;
        &self.items[self.starts[step]..self.starts[step + 1]]
    }
}

impl Edges {
    /// Takes the edges of `steps` steps: `above(step, out)` appends the steps that `step` consumes, each of
    /// which comes before it; one that is named twice counts once.
    pub fn new(steps: usize, above: &mut dyn FnMut(u32, &mut Vec<u32>)) -> Self {
        let count = u32::try_from(steps).expect("step ids are u32");
        let mut lists = Lists { starts: Vec::with_capacity(steps + 1), items: Vec::new() };
        lists.starts.push(0);
        let mut below_counts = vec![0_usize; steps + 1];
        let mut buffer = Vec::new();
        for step in 0..count {
            buffer.clear();
            above(step, &mut buffer);
            buffer.sort_unstable();
            buffer.dedup();
            for &producer in &buffer {
                assert!(producer < step, "a step comes after what it consumes");
                below_counts[producer as usize + 1] += 1;
            }
            lists.items.extend_from_slice(&buffer);
            lists.starts.push(lists.items.len());
        }
        for index in 1..below_counts.len() {
            below_counts[index] += below_counts[index - 1];
        }
        let mut below = Lists { starts: below_counts, items: vec![0; lists.items.len()] };
        let mut next = below.starts.clone();
        for step in 0..count {
            for &producer in lists.of(step) {
                let slot = &mut next[producer as usize];
                below.items[*slot] = step;
                *slot += 1;
            }
        }
        Self { above: lists, below }
    }

    /// How many steps there are.
    pub fn len(&self) -> usize {
        self.above.starts.len().saturating_sub(1)
    }

    /// Whether there is no step.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The steps that this one consumes, each once, in order.
    pub fn above(&self, step: u32) -> &[u32] {
        self.above.of(step)
    }

    /// The steps that consume this one, each once, in order.
    pub fn below(&self, step: u32) -> &[u32] {
        self.below.of(step)
    }
}

/// The state of all steps of a run.
#[derive(Debug)]
pub struct Schedule {
    edges: Edges,
    phases: Vec<Phase>,
    /// For each step: how many of those that it consumes are not settled.
    pending: Vec<u32>,
    /// For each step: its own weight and that of the heaviest path below it.
    weights: Vec<u64>,
    class_of: Vec<u32>,
    classes: Vec<Class>,
    free: Free,
    opened: BTreeSet<u32>,
    running: usize,
    /// For each step: the one whose room it runs in; itself, where it has room of its own.
    lodges: Vec<u32>,
    /// For each step: how many others run in its room.
    lodgers: Vec<u32>,
}

/// Steps that use the same.
#[derive(Debug)]
struct Class {
    uses: Uses,
    /// Heaviest path first, then in order.
    ready: BTreeSet<(Reverse<u64>, u32)>,
}

/// What a step really gets: never more than there is.
#[derive(Debug, Clone)]
struct Uses {
    cpus: u32,
    memory: u64,
    /// By index into [`Free::limits`].
    limits: Vec<(usize, u32)>,
}

#[derive(Debug, Clone)]
struct Free {
    cpus: u32,
    memory: u64,
    limits: Vec<u32>,
}

impl Free {
    fn fits(&self, uses: &Uses) -> bool {
        uses.cpus <= self.cpus
            && uses.memory <= self.memory
            && uses.limits.iter().all(|&(limit, amount)| amount <= self.limits[limit])
    }

    fn take(&mut self, uses: &Uses) {
        self.cpus = self.cpus.saturating_sub(uses.cpus);
        self.memory = self.memory.saturating_sub(uses.memory);
        for &(limit, amount) in &uses.limits {
            self.limits[limit] = self.limits[limit].saturating_sub(amount);
        }
    }

    fn give(&mut self, uses: &Uses) {
        self.cpus += uses.cpus;
        self.memory += uses.memory;
        for &(limit, amount) in &uses.limits {
            self.limits[limit] += amount;
        }
    }
}

impl Schedule {
    /// Makes a schedule. `phases` says of each step whether it is [`Phase::Settled`], [`Phase::Outside`] or to
    /// be looked at ([`Phase::Waiting`]), or, where a run goes on, [`Phase::Running`] or [`Phase::Ended`]; `durations` how long each takes, as far as that is known; `needs`
    /// what each uses (an index into `classes`).
    pub fn new(
        edges: Edges,
        phases: Vec<Phase>,
        durations: &[u64],
        needs: Vec<u32>,
        classes: &[Need],
        capacity: &Capacity,
    ) -> Self {
        let count = u32::try_from(edges.len()).expect("step ids are u32");
        let (free, uses) = room(classes, capacity);
        let mut weights = vec![0_u64; edges.len()];
        for step in (0..count).rev() {
            if phases[step as usize] == Phase::Waiting {
                let heaviest = edges.below(step).iter().map(|&below| weights[below as usize]).max();
                // A duration of 0 still counts as one, so that among unknown ones the longer path wins.
                weights[step as usize] =
                    durations[step as usize].max(1).saturating_add(heaviest.unwrap_or(0));
            }
        }
        let mut schedule = Self {
            pending: vec![0; edges.len()],
            weights,
            class_of: needs,
            classes: uses.into_iter().map(|uses| Class { uses, ready: BTreeSet::new() }).collect(),
            free,
            opened: BTreeSet::new(),
            running: 0,
            lodges: (0..count).collect(),
            lodgers: vec![0; edges.len()],
            phases,
            edges,
        };
        for step in 0..count {
            if schedule.phase(step) == Phase::Running {
                let class = schedule.class_of[step as usize] as usize;
                schedule.free.take(&schedule.classes[class].uses);
                schedule.running += 1;
            }
            let above = schedule.edges.above(step);
            let settled = |producer: &&u32| schedule.phases[**producer as usize] == Phase::Settled;
            let pending = above.len() - above.iter().filter(settled).count();
            schedule.pending[step as usize] = u32::try_from(pending).expect("step ids are u32");
            if pending == 0 && schedule.phase(step) == Phase::Waiting {
                schedule.open(step);
            }
        }
        schedule
    }

    /// The edges.
    pub fn edges(&self) -> &Edges {
        &self.edges
    }

    /// Where a step is.
    pub fn phase(&self, step: u32) -> Phase {
        self.phases[step as usize]
    }

    /// How many steps run.
    pub fn running(&self) -> usize {
        self.running
    }

    /// Whether everything that this step consumes is settled.
    pub fn inputs_settled(&self, step: u32) -> bool {
        self.pending[step as usize] == 0
    }

    /// The first step, in order, that is open and was not given yet.
    pub fn opened(&mut self) -> Option<u32> {
        self.opened.pop_first()
    }

    /// Lets an open step run as soon as there is room.
    pub fn want(&mut self, step: u32) {
        assert_eq!(self.phase(step), Phase::Open, "only an open step can be wanted");
        self.opened.remove(&step);
        self.phases[step as usize] = Phase::Ready;
        let key = (Reverse(self.weights[step as usize]), step);
        self.classes[self.class_of[step as usize] as usize].ready.insert(key);
    }

    /// Starts the ready step with the heaviest path below it for which there is room. A heavier one for which
    /// there is none keeps what it needs from those behind it, so that it is never passed by for ever.
    pub fn start(&mut self) -> Option<u32> {
        let mut heads: Vec<((Reverse<u64>, u32), usize)> = self
            .classes
            .iter()
            .enumerate()
            .filter_map(|(index, class)| class.ready.first().map(|&head| (head, index)))
            .collect();
        heads.sort_unstable();
        let mut free = self.free.clone();
        for (head, index) in heads {
            let class = &mut self.classes[index];
            if free.fits(&class.uses) {
                class.ready.remove(&head);
                self.free.take(&class.uses);
                self.phases[head.1 as usize] = Phase::Running;
                self.running += 1;
                return Some(head.1);
            }
            free.take(&class.uses);
            if free.cpus == 0 {
                break;
            }
        }
        None
    }

    /// Starts the step that would be next, behind one that runs, in the room of that one: whoever has both runs one
    /// after the other. `None` where what is next uses something else.
    pub fn start_behind(&mut self, step: u32) -> Option<u32> {
        let index = self.class_of[step as usize] as usize;
        let head = *self.classes[index].ready.first()?;
        if self.classes.iter().filter_map(|class| class.ready.first()).any(|other| *other < head) {
            return None;
        }
        self.classes[index].ready.remove(&head);
        self.lodge(head.1, step);
        Some(head.1)
    }

    /// How many steps are ready that use what this one does.
    pub fn ready_as(&self, step: u32) -> usize {
        self.classes[self.class_of[step as usize] as usize].ready.len()
    }

    /// A step that takes no part yet runs in the room of another.
    pub fn lodge(&mut self, step: u32, with: u32) {
        let host = self.lodges[with as usize];
        self.lodges[step as usize] = host;
        self.lodgers[host as usize] += 1;
        self.phases[step as usize] = Phase::Running;
        self.running += 1;
    }

    /// A step that was started was not begun: it is ready as before.
    pub fn give_back(&mut self, step: u32) {
        assert_eq!(self.phase(step), Phase::Running, "only what was started is given back");
        self.leave(step);
        self.phases[step as usize] = Phase::Open;
        self.want(step);
    }

    /// What the step makes is known: what waited only for it opens.
    pub fn settle(&mut self, step: u32) {
        self.leave(step);
        self.phases[step as usize] = Phase::Settled;
        for index in 0..self.edges.below(step).len() {
            let below = self.edges.below(step)[index];
            self.pending[below as usize] -= 1;
            if self.pending[below as usize] == 0 && self.phase(below) == Phase::Waiting {
                self.open(below);
            }
        }
    }

    /// A step that is open, ready or running is to be looked at again, once everything that it consumes is
    /// settled (which may be now).
    pub fn reopen(&mut self, step: u32) {
        self.leave(step);
        self.await_inputs(step);
    }

    /// Keeps an open, ready or running step open without giving it by [`Schedule::opened`] until it is
    /// reopened: it waits for something that is no edge.
    pub fn park(&mut self, step: u32) {
        self.leave(step);
        self.phases[step as usize] = Phase::Open;
    }

    /// What a settled step makes is not to be had as it was known: it opens again, and everything that was
    /// settled, open or ready on the strength of it waits. Gives the steps that were settled, this one first.
    pub fn take_back(&mut self, step: u32) -> Vec<u32> {
        assert_eq!(self.phase(step), Phase::Settled, "only a settled step can be taken back");
        self.phases[step as usize] = Phase::Waiting;
        let mut taken = vec![step];
        let mut next = 0;
        while next < taken.len() {
            let producer = taken[next];
            next += 1;
            for index in 0..self.edges.below(producer).len() {
                let below = self.edges.below(producer)[index];
                self.pending[below as usize] += 1;
                match self.phase(below) {
                    Phase::Settled => {
                        self.phases[below as usize] = Phase::Waiting;
                        taken.push(below);
                    }
                    Phase::Open | Phase::Ready => {
                        self.leave(below);
                        self.phases[below as usize] = Phase::Waiting;
                    }
                    Phase::Outside | Phase::Waiting | Phase::Running | Phase::Ended => {}
                }
            }
        }
        self.await_inputs(step);
        taken
    }

    /// The step failed: it ends, and so does everything below it that neither runs nor has ended. Gives those,
    /// in order.
    pub fn end(&mut self, step: u32) -> Vec<u32> {
        self.end_sparing(step, &mut |_, _| false).0
    }

    /// The same, but for steps that are spared because they can do without: `spares` is asked with such a step and the
    /// one above it that ended. Gives the steps that ended, and those that were spared, in order.
    pub fn end_sparing(
        &mut self,
        step: u32,
        spares: &mut dyn FnMut(u32, u32) -> bool,
    ) -> (Vec<u32>, Vec<u32>) {
        let mut spared = BTreeSet::new();
        self.leave(step);
        self.phases[step as usize] = Phase::Ended;
        let mut ended = BTreeSet::new();
        let mut stack = vec![step];
        while let Some(producer) = stack.pop() {
            for index in 0..self.edges.below(producer).len() {
                let below = self.edges.below(producer)[index];
                match self.phase(below) {
                    Phase::Outside | Phase::Ended => {}
                    _ if spares(below, producer) => {
                        spared.insert(below);
                        self.spare(below);
                    }
                    Phase::Waiting | Phase::Open | Phase::Ready | Phase::Settled => {
                        self.leave(below);
                        self.phases[below as usize] = Phase::Ended;
                        ended.insert(below);
                        stack.push(below);
                    }
                    Phase::Running => {}
                }
            }
        }
        (ended.into_iter().collect(), spared.into_iter().collect())
    }

    /// Something that a step consumes ended, and the step does without: it counts as settled for it.
    pub fn spare(&mut self, step: u32) {
        // One that was settled on the strength of it is taken back only by whoever knows that it has to be.
        let pending = &mut self.pending[step as usize];
        *pending = pending.saturating_sub(1);
        if *pending == 0 && self.phase(step) == Phase::Waiting {
            self.open(step);
        }
    }

    /// Whether something that this step consumes has ended, so that it can never be settled.
    pub fn hopeless(&self, step: u32) -> bool {
        self.edges.above(step).iter().any(|&above| self.phase(above) == Phase::Ended)
    }

    fn open(&mut self, step: u32) {
        self.phases[step as usize] = Phase::Open;
        self.opened.insert(step);
    }

    fn await_inputs(&mut self, step: u32) {
        if self.inputs_settled(step) {
            self.open(step);
        } else {
            self.phases[step as usize] = Phase::Waiting;
        }
    }

    /// Undoes what the phase of a step holds.
    fn leave(&mut self, step: u32) {
        let class = &mut self.classes[self.class_of[step as usize] as usize];
        match self.phases[step as usize] {
            Phase::Open => {
                self.opened.remove(&step);
            }
            Phase::Ready => {
                class.ready.remove(&(Reverse(self.weights[step as usize]), step));
            }
            Phase::Running => {
                self.running -= 1;
                let host = std::mem::replace(&mut self.lodges[step as usize], step);
                // The last one to leave a room gives it back.
                match &mut self.lodgers[host as usize] {
                    0 => self.free.give(&class.uses),
                    others => *others -= 1,
                }
            }
            Phase::Outside | Phase::Waiting | Phase::Settled | Phase::Ended => {}
        }
    }
}

/// What there is, and what steps of each class get of it.
fn room(classes: &[Need], capacity: &Capacity) -> (Free, Vec<Uses>) {
    let names: BTreeSet<&str> =
        classes.iter().flat_map(|need| need.limits.keys().map(String::as_str)).collect();
    let names: Vec<&str> = names.into_iter().collect();
    // A limit of which nobody said how much there is protects something of which there is one. There is never
    // less than one: a step that could never run would be a definition error, not a schedule.
    let limits: Vec<u32> =
        names.iter().map(|name| capacity.limits.get(*name).copied().unwrap_or(1).max(1)).collect();
    let free = Free { cpus: capacity.cpus.max(1), memory: capacity.memory.unwrap_or(u64::MAX), limits };
    let uses = classes
        .iter()
        .map(|need| Uses {
            cpus: need.cpus.clamp(1, free.cpus),
            memory: if capacity.memory.is_some() { need.memory.min(free.memory) } else { 0 },
            limits: need
                .limits
                .iter()
                .filter_map(|(name, amount)| {
                    let limit = names.binary_search(&name.as_str()).ok()?;
                    Some((limit, (*amount).min(free.limits[limit])))
                })
                .collect(),
        })
        .collect();
    (free, uses)
}
