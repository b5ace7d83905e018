//! What of a plan is on record, and what has to run for what is wanted. Pure: the rows were looked up before,
//! and results are asked for through a function that is given.
//!
//! Two walks. `settle` goes forwards: a step is settled when the content of everything that it consumes is
//! on record (bytes are not needed for that), so that its trace is known, and a result stands under that
//! trace. A row under its version is a short cut: it counts only if the trace that it names is that very
//! trace. `walk_back` goes backwards from what is wanted and stops wherever it meets content whose bytes are
//! there.
//!
//! Invariant: nothing is called settled on the strength of a row alone. In doubt, it is a miss.

use std::collections::{BTreeMap, BTreeSet};

use cas_store::{Artifact, Found, Trace, Version};

use crate::error::EngineError;
use crate::fork;
use crate::frozen::{self, Frozen};
use crate::graph::{OutputId, Step, StepId, StepInput};
use crate::grow::Asking;
use crate::left_out;
use crate::plan::Plan;
use crate::publish;
use crate::solid::{Declared, Solid};
use crate::version::{self, Buffers, InputContent};

/// The status of a step output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    /// A valid result is in the store, bytes included.
    Stored,
    /// It will run.
    ToBeRecomputed,
    /// Its bytes are absent and nothing that is wanted needs them.
    NotNeeded,
    /// Recorded as not produced, or below such an output.
    Absent,
}

impl Status {
    /// The word that is printed: `stored`, `to-be-recomputed`, `not-needed`, `absent`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::ToBeRecomputed => "to-be-recomputed",
            Self::NotNeeded => "not-needed",
            Self::Absent => "absent",
        }
    }
}

/// What is wanted of a plan.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// The steps that were named; empty: the pipeline's ends, published outputs and steps without outputs.
    pub steps: Vec<StepId>,
    /// Every output of the plan is wanted (`--all`).
    pub all: bool,
    /// Steps that run whatever is stored (`--force`).
    pub force: Vec<StepId>,
    /// Nothing upstream of the named steps may run (`--only`).
    pub only: bool,
    /// Now, in milliseconds since 1970 (`run::now_ms`): results of `version: {every: …}` are judged by it. With
    /// 0 they all count as too old.
    pub at_ms: u64,
    /// Whether what is good for one run or for a while only is taken as it was left (`--frozen`).
    pub frozen: Frozen,
    /// Steps that failed in the last run: gathers that may go on without them do (`Memo::resolve_as_left`).
    pub left_out: Vec<StepId>,
    /// How to ask the same of a plan that has grown by a list; without it, whatever stands in the place of a wanted
    /// step is wanted.
    pub again: Option<Asking>,
}

/// A plan held against the store: for each step id what is on record, and what has to be done.
#[derive(Debug, Clone, Default)]
pub struct Resolved {
    /// By step id.
    pub states: Vec<StepState>,
}

/// Why a step cannot be answered from the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// It was asked for.
    Forced,
    /// It runs in every run.
    Volatile,
    /// Its result was good for a while, and the while is over.
    Expired,
    /// No result is on record for what it would be given.
    New,
    /// What it would be given is not known before something above it has run.
    Inputs,
    /// Its result is on record, but bytes that are needed are not in the store.
    Bytes,
}

/// What is known of one step before a run.
#[derive(Debug, Clone, Default)]
pub struct StepState {
    /// Its version, where that is known: the plan's, or one by content that is on record.
    pub version: Option<Version>,
    /// Its trace, where the content of all its inputs is on record.
    pub trace: Option<Trace>,
    /// The present result of that trace; of a step that runs in every run, its newest.
    pub found: Option<Found>,
    /// The trace that the row under its version names, whether or not that is its trace.
    pub row: Option<Trace>,
    /// Whether its own version's row named that result (`false`: found through the trace, so `unchanged`).
    pub by_version: bool,
    /// Whether the content of its outputs is known (their bytes may be gone).
    pub settled: bool,
    /// Whether it has to run for what is wanted.
    pub to_run: bool,
    /// It is to run only because something above it does: its inputs' content may turn out the same.
    pub may_be_unchanged: bool,
    /// It stands below an output that was recorded as not produced, so it is not run.
    pub skipped: bool,
    /// It failed in this run, or something above it did: a gather that may goes on without it.
    pub left_out: bool,
    /// Why it cannot be answered from the store, if so.
    pub why: Option<Why>,
}

impl StepState {
    /// What is known of an output; `None` where its content is not known or it was not produced.
    pub fn artifact(&self, output: u16) -> Option<&Artifact> {
        self.found.as_ref()?.record.outputs.get(usize::from(output))?.artifact.as_ref()
    }

    /// Whether the bytes of an output are in the store, or it has none because it was not produced.
    pub fn has_bytes(&self, output: u16) -> bool {
        self.skipped
            || self
                .found
                .as_ref()
                .is_some_and(|found| found.present.get(usize::from(output)).copied().unwrap_or(false))
    }

    /// Whether a gather that may goes on without it: what it makes is not known, and will not be in this run.
    pub(crate) fn is_left_out(&self) -> bool {
        self.left_out && !self.settled
    }

    /// Whether an output is known as not produced.
    pub fn absent(&self, output: u16) -> bool {
        self.settled && self.artifact(output).is_none()
    }
}

impl Resolved {
    /// The status of an output.
    pub fn status(&self, output: OutputId) -> Status {
        let state = &self.states[output.step.0 as usize];
        if state.skipped {
            Status::Absent
        } else if state.to_run {
            Status::ToBeRecomputed
        } else if !state.settled {
            Status::NotNeeded
        } else if state.absent(output.output) {
            Status::Absent
        } else if state.has_bytes(output.output) {
            Status::Stored
        } else {
            Status::NotNeeded
        }
    }

    /// The status of a step as a whole: stored if all its outputs that were produced are.
    pub fn step_status(&self, step: StepId) -> Status {
        let state = &self.states[step.0 as usize];
        if state.skipped {
            Status::Absent
        } else if state.to_run {
            Status::ToBeRecomputed
        } else if state.settled && state.found.as_ref().is_some_and(Found::whole) {
            Status::Stored
        } else {
            Status::NotNeeded
        }
    }

    /// What is stored of an output, if anything is on record (its bytes may be gone).
    pub fn artifact(&self, output: OutputId) -> Option<&Artifact> {
        self.states[output.step.0 as usize].artifact(output.output)
    }
}

/// Whether a step consumes an output that was recorded as not produced. A gather leaves such elements out.
pub(crate) fn below_absent(states: &[StepState], step: &Step) -> bool {
    let absent = |output: &OutputId| states[output.step.0 as usize].absent(output.output);
    step.inputs.iter().any(|input| match input {
        StepInput::Output(output) => absent(output),
        StepInput::FanIn(outputs) => outputs.iter().any(absent),
        // A list that was not produced is an empty one.
        StepInput::Element { .. } | StepInput::Unknown(_) => false,
        StepInput::Gather(_) | StepInput::Path(_) | StepInput::Value(_) | StepInput::Probe(_) => false,
    })
}

/// What a settled output holds, for a trace; `None` where it is not settled.
pub(crate) fn content(states: &[StepState], output: OutputId) -> Option<InputContent<'_>> {
    let state = &states[output.step.0 as usize];
    if state.is_left_out() {
        return Some(InputContent::LeftOut);
    }
    if !state.settled {
        return None;
    }
    Some(match state.artifact(output.output) {
        Some(artifact) => InputContent::Artifact(artifact),
        None => InputContent::Absent,
    })
}

/// The trace of a step; `None` where an input of it is not settled, or something of it was not measured.
pub(crate) fn trace_of(plan: &Plan, states: &[StepState], step: StepId) -> Option<Trace> {
    trace_in(plan, states, step, &mut Buffers::default())
}

fn trace_in(plan: &Plan, states: &[StepState], step: StepId, buffers: &mut Buffers) -> Option<Trace> {
    if !lists_hold(plan, states, step) {
        return None;
    }
    plan.trace_in(step, buffers, &mut |output| content(states, output))
}

/// As [`trace_of`], of many steps of one invocation.
fn traces_of(plan: &Plan, states: &[StepState], steps: &[StepId]) -> Vec<Option<Trace>> {
    let parts = fork::parts(steps, |part| {
        let mut buffers = Buffers::default();
        part.iter().map(|step| trace_in(plan, states, *step, &mut buffers)).collect::<Vec<_>>()
    });
    parts.concat()
}

/// The version of a step whose inputs are all settled: the plan's, or else the one by content, where something above
/// it is not what the plan takes it for: it was left out, or was made without something that was.
pub(crate) fn version_of(plan: &Plan, states: &[StepState], step: StepId) -> Option<Version> {
    let as_planned = || !leaves_out(plan, states, step) && !below_left_out(plan, states, step);
    let whole = plan.versions[step.0 as usize].filter(|_| as_planned());
    whole.or_else(|| {
        plan.version_by_content(step, &mut |above| states[above.0 as usize].version, &mut |output| {
            content(states, output)
        })
    })
}

/// Whether the list that a step is given an element of is still the one that holds it.
pub(crate) fn lists_hold(plan: &Plan, states: &[StepState], step: StepId) -> bool {
    plan.graph.steps[step.0 as usize].inputs.iter().all(|input| match input {
        StepInput::Element { list, of, .. } => of.is(states[list.step.0 as usize].artifact(list.output)),
        StepInput::Unknown(_) => false,
        _ => true,
    })
}

/// Whether something that a step gathers is left out.
fn leaves_out(plan: &Plan, states: &[StepState], step: StepId) -> bool {
    plan.graph.steps[step.0 as usize].inputs.iter().any(|input| match input {
        StepInput::Gather(elements) => {
            elements.iter().any(|(_, output)| states[output.step.0 as usize].is_left_out())
        }
        _ => false,
    })
}

/// Whether something that a step consumes has another version than the plan's, because something was left out above.
fn below_left_out(plan: &Plan, states: &[StepState], step: StepId) -> bool {
    let mut below = false;
    plan.graph.each_input(step, &mut |output| {
        let above = output.step.0 as usize;
        below |= states[above].version.is_some() && states[above].version != plan.versions[above];
    });
    below
}

/// The key of the row by which a step is found: its first output's, or its own where it has none.
pub(crate) fn row_key(solid: &Solid, version: &Version) -> Version {
    match solid.outputs.first() {
        Some(output) => version::output_version(version, &output.name),
        None => *version,
    }
}

/// Whether a record is one that this solid could have left. A trace makes sure of it; this makes a damaged
/// record a miss instead of a panic.
pub(crate) fn fits(solid: &Solid, found: &Found) -> bool {
    let outputs = &found.record.outputs;
    outputs.len() == solid.outputs.len()
        && found.present.len() == outputs.len()
        && outputs.iter().zip(&solid.outputs).all(|(output, declared)| {
            output.name == declared.name && (declared.optional || output.artifact.is_some())
        })
}

/// Whether a result of a step that is good for a while is still good. One from the future is not: a clock went
/// back, and nobody knows how old it is.
pub(crate) fn fresh(solid: &Solid, found: &Found, at_ms: u64, frozen: Frozen) -> bool {
    match &solid.version {
        _ if frozen != Frozen::No => true,
        Some(Declared::Every(time)) => {
            at_ms.checked_sub(found.record.made_ms).is_some_and(|age| u128::from(age) < time.as_millis())
        }
        Some(Declared::Volatile) => false,
        None | Some(Declared::Text(_)) => true,
    }
}

/// Gives, for each trace, its present result.
pub(crate) type Results<'a> = dyn FnMut(&[Trace]) -> Result<Vec<Option<Found>>, EngineError> + 'a;

/// How far the forward walk has come with a step.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mark {
    /// Not in the plan.
    Outside,
    /// Its state says all there is to say.
    Decided,
    /// Its trace is known; its result is asked for in this wave.
    Asked,
    /// Something above it is asked for.
    Behind,
}

struct Settling<'a> {
    plan: &'a Plan,
    wanted: &'a Wanted,
    forced: BTreeSet<StepId>,
    /// By step id: what the row under its version names.
    rows: Vec<Option<Found>>,
    marks: Vec<Mark>,
    states: Vec<StepState>,
    buffers: Buffers,
}

/// Settles the steps of a plan forwards. `rows` has, by step id, what was found under the row key of each step of the
/// plan.
pub(crate) fn settle(
    plan: &Plan,
    wanted: &Wanted,
    rows: Vec<Option<Found>>,
    results: &mut Results<'_>,
) -> Result<Vec<StepState>, EngineError> {
    let count = plan.graph.steps.len();
    let mut settling = Settling {
        plan,
        wanted,
        forced: wanted.force.iter().copied().collect(),
        rows,
        marks: vec![Mark::Outside; count],
        states: vec![StepState::default(); count],
        buffers: Buffers::default(),
    };
    for step in &wanted.left_out {
        settling.states[step.0 as usize].left_out = true;
    }
    let mut asked = Vec::new();
    let mut behind = Vec::new();
    for steps in plan.graph.by_invocation(&plan.steps) {
        // None of them consumes another of them, so all that their traces are made of is decided.
        let traces = fork::pays(steps.len()).then(|| traces_of(plan, &settling.states, steps));
        for (index, &step) in steps.iter().enumerate() {
            match settling.decide(step, traces.as_ref().map(|traces| traces[index])) {
                Mark::Asked => asked.push(step),
                Mark::Behind => behind.push(step),
                Mark::Decided | Mark::Outside => {}
            }
        }
    }
    settling.waves(asked, &behind, results)?;
    Ok(settling.states)
}

impl Settling<'_> {
    /// Says of a step all that can be said from what is known of the steps above it. `trace` is its trace by that, where
    /// it was looked at already.
    fn decide(&mut self, step: StepId, trace: Option<Option<Trace>>) -> Mark {
        let mark = self.decided(step, trace);
        self.marks[step.0 as usize] = mark;
        mark
    }

    fn decided(&mut self, id: StepId, trace: Option<Option<Trace>>) -> Mark {
        let index = id.0 as usize;
        let graph = &self.plan.graph;
        let solid = graph.solid(id);
        let mut settled = true;
        let mut behind = false;
        let mut without = false;
        graph.each_input(id, &mut |output| {
            let above = output.step.0 as usize;
            match self.marks[above] {
                Mark::Asked | Mark::Behind => behind = true,
                Mark::Decided | Mark::Outside => {
                    let goes_on =
                        self.states[above].is_left_out() && left_out::tolerates(self.plan, id, output.step);
                    without |= self.states[above].is_left_out();
                    settled &= self.states[above].settled || goes_on;
                }
            }
        });
        if behind {
            return Mark::Behind;
        }
        if without {
            settled &= left_out::too_many(self.plan, &self.states, id, &|_| false).is_none();
            // What failed leaves nothing below it but for gathers that go on without.
            self.states[index].left_out |= !settled;
        }
        let row = self.rows[index].take().filter(|row| fits(solid, row));
        let rerun = self.rerun(solid, id);
        let state = &mut self.states[index];
        state.version = self.plan.versions[index];
        state.row = row.as_ref().map(|row| row.trace);
        if let Some(mark) = self.taken(id, settled) {
            return mark;
        }
        let state = &mut self.states[index];
        if !settled {
            // What a volatile step left last is what `cat` shows, whatever it would be given now.
            state.found = row.filter(|_| matches!(solid.version, Some(Declared::Volatile)));
            state.by_version = state.found.is_some();
            state.why = Some(rerun.unwrap_or(Why::Inputs));
            return Mark::Decided;
        }
        if below_absent(&self.states, &graph.steps[index]) {
            let state = &mut self.states[index];
            state.skipped = true;
            state.settled = true;
            return Mark::Decided;
        }
        let trace = trace.unwrap_or_else(|| trace_in(self.plan, &self.states, id, &mut self.buffers));
        let Some(trace) = trace else {
            self.states[index].why = Some(Why::Inputs);
            return Mark::Decided;
        };
        let version = version_of(self.plan, &self.states, id);
        let state = &mut self.states[index];
        state.version = version;
        state.trace = Some(trace);
        let newest = matches!(solid.version, Some(Declared::Volatile));
        match row {
            Some(row) if row.trace == trace || newest => {
                self.answer(id, Some(row), true);
                Mark::Decided
            }
            _ if rerun == Some(Why::Volatile) => {
                self.answer(id, None, false);
                Mark::Decided
            }
            _ => Mark::Asked,
        }
    }

    /// The run that a step takes its result of, if it takes one of a given run.
    fn of_run(&self, step: StepId) -> Option<u64> {
        self.wanted.frozen.run_of(self.plan.graph.solid(step)).filter(|_| !self.forced.contains(&step))
    }

    /// What is to be asked for a step that takes its result of a given run: it is the one of its version, whatever is
    /// on record above it. `None` for any other step.
    fn taken(&mut self, step: StepId, settled: bool) -> Option<Mark> {
        let index = step.0 as usize;
        self.of_run(step)?;
        if settled && below_absent(&self.states, &self.plan.graph.steps[index]) {
            return None;
        }
        if settled {
            self.states[index].version = version_of(self.plan, &self.states, step);
            self.states[index].trace = trace_of(self.plan, &self.states, step);
        }
        self.states[index].version.is_some().then_some(Mark::Asked)
    }

    /// Where the result of a step stands whose mark is [`Mark::Asked`].
    fn key(&self, step: StepId) -> Option<Trace> {
        let state = &self.states[step.0 as usize];
        match self.of_run(step) {
            Some(run) => {
                let name = self.plan.graph.step_name(step);
                let version = frozen::version(self.plan, &self.states, step);
                version.map(|version| frozen::result_key(run, &name, &version))
            }
            None => state.trace,
        }
    }

    /// Why a step runs whatever is stored, if it does.
    fn rerun(&self, solid: &Solid, step: StepId) -> Option<Why> {
        if self.forced.contains(&step) {
            Some(Why::Forced)
        } else if matches!(solid.version, Some(Declared::Volatile)) && self.wanted.frozen == Frozen::No {
            Some(Why::Volatile)
        } else {
            None
        }
    }

    /// Takes what the store answered for a step whose trace is known.
    fn answer(&mut self, step: StepId, found: Option<Found>, by_version: bool) {
        let solid = self.plan.graph.solid(step);
        let rerun = self.rerun(solid, step);
        let state = &mut self.states[step.0 as usize];
        state.found = found.filter(|found| fits(solid, found));
        state.by_version = by_version && state.found.is_some();
        state.why = rerun.or(match &state.found {
            None => Some(Why::New),
            Some(found) if !fresh(solid, found, self.wanted.at_ms, self.wanted.frozen) => Some(Why::Expired),
            Some(_) => None,
        });
        state.settled = state.why.is_none();
        self.marks[step.0 as usize] = Mark::Decided;
    }

    /// Asks for results wave by wave, each wave in one message, until no step is left undecided.
    fn waves(
        &mut self,
        mut asked: Vec<StepId>,
        behind: &[StepId],
        results: &mut Results<'_>,
    ) -> Result<(), EngineError> {
        // Who waits for whom, among the few that wait at all: what keeps a long chain from being walked whole
        // in every wave.
        let mut waiting: BTreeMap<StepId, BTreeSet<StepId>> = BTreeMap::new();
        let mut readers: BTreeMap<StepId, Vec<StepId>> = BTreeMap::new();
        for &step in behind {
            let mut above = BTreeSet::new();
            self.plan.graph.each_input(step, &mut |output| {
                if matches!(self.marks[output.step.0 as usize], Mark::Asked | Mark::Behind) {
                    above.insert(output.step);
                }
            });
            for producer in &above {
                readers.entry(*producer).or_default().push(step);
            }
            waiting.insert(step, above);
        }
        while !asked.is_empty() {
            let traces: Vec<Trace> = asked.iter().filter_map(|step| self.key(*step)).collect();
            let answers = results(&traces)?;
            let mut decided: BTreeSet<StepId> = BTreeSet::new();
            for (step, answer) in asked.drain(..).zip(answers) {
                let taken = self.of_run(step).is_some();
                self.answer(step, answer, taken);
                decided.insert(step);
            }
            while let Some(step) = decided.pop_first() {
                for reader in readers.remove(&step).unwrap_or_default() {
                    let Some(above) = waiting.get_mut(&reader) else { continue };
                    above.remove(&step);
                    if above.is_empty() {
                        waiting.remove(&reader);
                        match self.decide(reader, None) {
                            Mark::Asked => asked.push(reader),
                            Mark::Decided | Mark::Behind | Mark::Outside => {
                                decided.insert(reader);
                            }
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

/// The outputs that are wanted, and the steps that are wanted for what they do.
pub(crate) struct Targets {
    /// By step id and output.
    pub(crate) outputs: BTreeSet<OutputId>,
    /// Steps without outputs, and those that are forced.
    pub(crate) steps: BTreeSet<StepId>,
}

/// What is wanted of a plan, taken apart.
pub(crate) fn targets(plan: &Plan, wanted: &Wanted) -> Targets {
    let graph = &plan.graph;
    let mut targets = Targets { outputs: BTreeSet::new(), steps: wanted.force.iter().copied().collect() };
    let whole = |steps: &[StepId], targets: &mut Targets| {
        for &step in steps {
            let outputs = graph.solid(step).outputs.len();
            if outputs == 0 {
                targets.steps.insert(step);
            }
            targets.outputs.extend(every_output(step, outputs));
        }
    };
    if wanted.all {
        whole(&plan.steps, &mut targets);
    } else if !wanted.steps.is_empty() {
        whole(&wanted.steps, &mut targets);
    } else {
        // For each step, which of its outputs some step consumes.
        let mut read: Vec<Vec<u16>> = vec![Vec::new(); graph.steps.len()];
        for step in graph.ids() {
            graph.each_input(step, &mut |output| {
                let read = &mut read[output.step.0 as usize];
                if !read.contains(&output.output) {
                    read.push(output.output);
                }
            });
        }
        // A set is made faster of many that are there than by adding one after the other.
        let mut ends = Vec::with_capacity(plan.steps.len());
        for &step in &plan.steps {
            let outputs = graph.solid(step).outputs.len();
            if outputs == 0 {
                targets.steps.insert(step);
            }
            let read = &read[step.0 as usize];
            if read.len() < outputs {
                ends.extend(every_output(step, outputs).filter(|output| !read.contains(&output.output)));
            }
        }
        ends.extend(publish::placed(graph).into_iter().map(|placed| placed.output));
        targets.outputs = ends.into_iter().collect();
    }
    targets
}

fn every_output(step: StepId, outputs: usize) -> impl Iterator<Item = OutputId> {
    // A solid with more than 65,536 outputs cannot be declared.
    (0..outputs).filter_map(move |output| Some(OutputId { step, output: u16::try_from(output).ok()? }))
}

/// Marks what has to run for what is wanted.
pub(crate) fn walk_back(plan: &Plan, wanted: &Wanted, targets: &Targets, states: &mut [StepState]) {
    let named: BTreeSet<StepId> = wanted.steps.iter().copied().collect();
    // Steps to mark, each with whether it is certain that they run.
    let mut stack: Vec<(StepId, bool)> = Vec::new();
    for output in &targets.outputs {
        let state = &states[output.step.0 as usize];
        if !state.settled || !(state.absent(output.output) || state.has_bytes(output.output)) {
            stack.push((output.step, true));
        }
    }
    stack.extend(targets.steps.iter().filter(|step| !states[step.0 as usize].settled).map(|s| (*s, true)));
    let planned: BTreeSet<StepId> = if stack.is_empty() {
        return;
    } else {
        plan.steps.iter().copied().collect()
    };
    while let Some((step, certain)) = stack.pop() {
        if !planned.contains(&step) || (wanted.only && !named.contains(&step)) {
            continue;
        }
        let state = &mut states[step.0 as usize];
        let certain = match state.why {
            Some(Why::Inputs) => false,
            Some(Why::Forced | Why::Volatile | Why::Expired | Why::New) => true,
            None | Some(Why::Bytes) => {
                state.why = Some(Why::Bytes);
                certain
            }
        };
        if state.to_run && (!state.may_be_unchanged || !certain) {
            continue;
        }
        state.to_run = true;
        state.may_be_unchanged = !certain;
        plan.graph.each_input(step, &mut |output| {
            let above = &states[output.step.0 as usize];
            if !above.settled || !(above.absent(output.output) || above.has_bytes(output.output)) {
                stack.push((output.step, certain));
            }
        });
    }
}
