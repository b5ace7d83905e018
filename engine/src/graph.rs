//! A pipeline under one mode and run config, taken apart into steps: dense ids, elements, edges, an order.
//! Pure: what it needs of the world was read before.
//!
//! ```text
//! invocations ──(order, matrices)──► steps 0…n, each after what it consumes; elements of one stand together
//! ```
//!
//! A step holds no name, no map and no config of its own: a million of them are planned in memory that a laptop
//! has. Names are made when somebody reads them.

mod build;
mod edge;
mod elements;
mod fill;
mod grow;
mod mapped;
mod needs;
mod select;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

pub(crate) use grow::Moved;

use crate::config::RunConfig;
use crate::error::Diagnostic;
use crate::list::List;
use crate::pipeline::{Axis, Invocation, Pipeline, Point, Source};
use crate::resource::Resource;
use crate::solid::{Declared, Solid, Template};
use crate::value::{Config, Value};

/// A step of a graph; dense, in an order in which every step comes after what it consumes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StepId(pub u32);

/// One output of a step: its index among the declared outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OutputId {
    /// The step.
    pub step: StepId,
    /// The index among the solid's declared outputs.
    pub output: u16,
}

/// The steps of a pipeline under one mode and run config.
#[derive(Debug, Clone)]
pub struct Graph {
    /// What it was made from.
    pub pipeline: Arc<Pipeline>,
    /// The mode, if one was chosen.
    pub mode: Option<String>,
    /// The resources of that mode with their config, each after what it needs.
    pub resources: Vec<ResolvedResource>,
    /// For each invocation of the pipeline: the resources that its solid needs directly, as indices.
    pub needs: Vec<Vec<usize>>,
    /// The steps.
    pub steps: Vec<Step>,
    /// For each invocation: the ids of its elements, in the order of the axes' points (the last axis fastest).
    pub steps_of: Vec<std::ops::Range<u32>>,
    /// For each invocation: what tells its elements apart.
    pub(crate) elements: Vec<elements::Elements>,
    /// The lists that steps are mapped over and that are known.
    pub(crate) mapped_lists: Vec<(OutputId, Arc<List>)>,
    /// The lists that steps are mapped over and that are not known: each of a step that is no placeholder.
    pub(crate) pending: Vec<OutputId>,
    /// The lists that it was made with.
    pub(crate) lists: Lists,
    /// The run config that it was made with.
    pub(crate) run_config: Arc<RunConfig>,
    /// For each invocation: its resolved config without matrix values; see [`Graph::config`]. Shared where equal.
    pub configs: Vec<Arc<Config>>,
    /// What has to be measured for `path:` inputs, each once: (expanded path, external).
    pub paths: Vec<PathInput>,
    /// What has to be asked for `probe:` inputs, each once: the expanded command.
    pub probes: Vec<ProbeInput>,
}

/// A resource with its config.
#[derive(Debug, Clone)]
pub struct ResolvedResource {
    /// Its definition in this mode.
    pub definition: Arc<Resource>,
    /// Its resolved config.
    pub config: Arc<Config>,
    /// The resources that it needs, as indices into [`Graph::resources`].
    pub needs: Vec<usize>,
}

/// One step.
#[derive(Debug, Clone)]
pub struct Step {
    /// The index of its invocation.
    pub invocation: u32,
    /// Which element of the invocation it is; 0 without a matrix. See [`Graph::points`].
    pub element: u32,
    /// Its inputs, in the order of the invocation's.
    pub inputs: Box<[StepInput]>,
}

/// One input of a step, resolved.
#[derive(Debug, Clone, PartialEq)]
pub enum StepInput {
    /// One output.
    Output(OutputId),
    /// An element of a list that a step yielded, which is known.
    Element {
        /// The output that is the list.
        list: OutputId,
        /// What it holds.
        of: Arc<List>,
        /// Which element of it.
        at: u32,
    },
    /// Some of these, or what will stand in their place: a list is not known.
    Unknown(Arc<[OutputId]>),
    /// Several, in order.
    FanIn(Arc<[OutputId]>),
    /// Elements with their labels, in order (labels are over the axes that this step lacks).
    Gather(Arc<[(String, OutputId)]>),
    /// An index into [`Graph::paths`].
    Path(u32),
    /// A literal or a default.
    Value(Arc<Value>),
    /// An index into [`Graph::probes`].
    Probe(u32),
}

/// A `path:` input with its templates filled in.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PathInput {
    /// The path or pattern; relative to the project folder unless absolute (external).
    pub path: String,
    /// Whether it may be linked and keeps its mtime.
    pub external: bool,
    /// Where it is declared.
    pub place: Option<crate::error::Place>,
}

/// A `probe:` input with its templates filled in.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ProbeInput {
    /// The shell line.
    pub command: String,
    /// For how long an answer is good; `None`: for one command.
    pub every: Option<Duration>,
    /// What tells it from others.
    pub(crate) key: String,
    /// Where it is declared.
    pub place: Option<crate::error::Place>,
}

/// Lists that are known: by the name of the step that yielded it, and the index of its output.
pub(crate) type Lists = Arc<HashMap<(String, u16), Arc<List>>>;

/// The readers of every step, in one piece of memory.
#[derive(Debug, Clone, Default)]
pub struct Readers {
    starts: Vec<usize>,
    readers: Vec<StepId>,
}

impl Readers {
    /// The steps that consume any output of this one, in order, each once.
    pub fn of(&self, step: StepId) -> &[StepId] {
        let step = step.0 as usize;
        &self.readers[self.starts[step]..self.starts[step + 1]]
    }
}

/// The names of many steps, in one piece of memory.
pub(crate) struct StepNames {
    text: String,
    ends: Vec<usize>,
}

impl StepNames {
    /// The names, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &str> {
        let mut from = 0;
        self.ends.iter().map(move |end| &self.text[std::mem::replace(&mut from, *end)..*end])
    }
}

impl Graph {
    /// Takes a pipeline apart under a mode and a run config. The mode is the one that is named, else `default`,
    /// else the only one, else none: the definitions at the top.
    ///
    /// # Errors
    /// Everything that is wrong with names, references, matrices, config and cycles (shown as their path).
    pub fn new(
        pipeline: Arc<Pipeline>,
        mode: Option<&str>,
        config: &RunConfig,
    ) -> Result<Self, Vec<Diagnostic>> {
        build::build(&pipeline, mode, &Arc::new(config.clone()), Lists::default())
    }

    /// The name of a step: `train`, `train[lr=0.1,depth=4]`; `train[*]` for one that stands in the place of elements
    /// that are not known yet.
    pub fn step_name(&self, step: StepId) -> String {
        let of = &self.steps[step.0 as usize];
        let invocation = of.invocation as usize;
        mapped::name(&self.pipeline.invocations[invocation].name, &self.elements[invocation], of.element)
    }

    /// The names of steps, one after the other in one text.
    pub(crate) fn step_names(&self, steps: &[StepId]) -> StepNames {
        let mut names = StepNames { text: String::new(), ends: Vec::with_capacity(steps.len()) };
        for step in steps {
            let of = &self.steps[step.0 as usize];
            let invocation = of.invocation as usize;
            let name = &self.pipeline.invocations[invocation].name;
            mapped::write_name(name, &self.elements[invocation], of.element, &mut names.text);
            names.ends.push(names.text.len());
        }
        names
    }

    /// Whether a step stands in the place of elements of a list that is not known yet.
    pub fn is_placeholder(&self, step: StepId) -> bool {
        let of = &self.steps[step.0 as usize];
        self.elements[of.invocation as usize].is_placeholder(of.element)
    }

    /// The list whose elements a step stands in the place of, where it is that list that is not known yet.
    pub(crate) fn unknown_list(&self, step: StepId) -> Option<OutputId> {
        let of = &self.steps[step.0 as usize];
        let inputs = &self.pipeline.invocations[of.invocation as usize].inputs;
        let at = inputs.iter().position(|input| matches!(input.source, Source::Element(_)))?;
        match of.inputs.get(at)? {
            StepInput::Unknown(lists) if self.is_placeholder(step) => lists.first().copied(),
            _ => None,
        }
    }

    /// The name of a step output: `train.result`, `train[lr=0.1].model`.
    pub fn output_name(&self, output: OutputId) -> String {
        let declared = &self.solid(output.step).outputs[output.output as usize];
        format!("{}.{}", self.step_name(output.step), declared.name)
    }

    /// The steps that a name or glob as typed selects: `train`, `train[lr=0.1]`, `train@lr=0.1`, `tr*`. In order.
    ///
    /// # Errors
    /// Nothing has that name: says what is near.
    pub fn select(&self, text: &str) -> Result<Vec<StepId>, Diagnostic> {
        self.steps_called(text)
    }

    /// The same, for what is to be made: where a name has no elements, because a list is empty, the steps that yield the
    /// list are meant.
    ///
    /// # Errors
    /// As [`Graph::select`].
    pub fn wanted(&self, text: &str) -> Result<Vec<StepId>, Diagnostic> {
        let steps = self.steps_called(text)?;
        if steps.is_empty() { self.lists_of(text) } else { Ok(steps) }
    }

    /// The step outputs that `STEP[.OUTPUT]` as typed selects (`train.model`, `train[*].model`, `train`: all
    /// outputs of all its elements). In order.
    ///
    /// # Errors
    /// Nothing has that name: says what is near.
    pub fn select_outputs(&self, text: &str) -> Result<Vec<OutputId>, Diagnostic> {
        self.outputs_called(text)
    }

    /// For every step, the steps that consume any output of it, in order, each once.
    pub fn readers(&self) -> Readers {
        // Counted, then filled in: two walks over the edges and no list per step. A reader that consumes several
        // outputs of one step is met in one go, so remembering the last reader of each step keeps it single.
        const NOBODY: u32 = u32::MAX;
        let mut last = vec![NOBODY; self.steps.len()];
        let mut starts = vec![0_usize; self.steps.len() + 1];
        for reader in self.ids() {
            self.each_input(reader, &mut |output| {
                let producer = output.step.0 as usize;
                if last[producer] != reader.0 {
                    last[producer] = reader.0;
                    starts[producer + 1] += 1;
                }
            });
        }
        for step in 1..starts.len() {
            starts[step] += starts[step - 1];
        }
        let mut readers = vec![StepId(0); starts.last().copied().unwrap_or(0)];
        let mut next = starts.clone();
        last.fill(NOBODY);
        for reader in self.ids() {
            self.each_input(reader, &mut |output| {
                let producer = output.step.0 as usize;
                if last[producer] != reader.0 {
                    last[producer] = reader.0;
                    readers[next[producer]] = reader;
                    next[producer] += 1;
                }
            });
        }
        Readers { starts, readers }
    }

    /// All steps, in order.
    pub fn ids(&self) -> impl Iterator<Item = StepId> + use<> {
        (0..u32::try_from(self.steps.len()).unwrap_or(u32::MAX)).map(StepId)
    }

    /// Steps that are in order, by their invocations.
    pub(crate) fn by_invocation<'s>(&self, steps: &'s [StepId]) -> impl Iterator<Item = &'s [StepId]> {
        let of = |step: &StepId| self.steps[step.0 as usize].invocation;
        steps.chunk_by(move |a, b| of(a) == of(b))
    }

    /// The invocation of a step.
    pub fn invocation(&self, step: StepId) -> &Invocation {
        &self.pipeline.invocations[self.steps[step.0 as usize].invocation as usize]
    }

    /// The solid of a step.
    pub fn solid(&self, step: StepId) -> &Solid {
        &self.invocation(step).solid
    }

    /// The outputs that a step consumes, with repetitions, in the order of its inputs.
    pub fn each_input(&self, step: StepId, each: &mut dyn FnMut(OutputId)) {
        for input in &self.steps[step.0 as usize].inputs {
            match input {
                StepInput::Output(output) | StepInput::Element { list: output, .. } => each(*output),
                StepInput::FanIn(outputs) | StepInput::Unknown(outputs) => {
                    outputs.iter().copied().for_each(&mut *each);
                }
                StepInput::Gather(elements) => elements.iter().for_each(|(_, output)| each(*output)),
                StepInput::Path(_) | StepInput::Value(_) | StepInput::Probe(_) => {}
            }
        }
    }

    /// The axes of a step with the point of each that this element has, in the order of the axes.
    pub fn points(&self, step: StepId) -> Vec<(&Axis, &Point)> {
        self.each_point(step).collect()
    }

    fn each_point(&self, step: StepId) -> impl Iterator<Item = (&Axis, &Point)> {
        let axes = &self.elements[self.steps[step.0 as usize].invocation as usize].axes;
        axes.iter().zip(self.point_indices(step)).map(|(axis, point)| (axis, &axis.points[point as usize]))
    }

    /// The index of the point that a step's element has on one of its axes.
    pub(crate) fn point_on(&self, step: StepId, axis: usize) -> u32 {
        self.point_indices(step).nth(axis).unwrap_or(0)
    }

    /// For each axis of a step, in order, the index of the point that this element has.
    fn point_indices(&self, step: StepId) -> impl Iterator<Item = u32> {
        let of = &self.steps[step.0 as usize];
        self.elements[of.invocation as usize].points(of.element)
    }

    /// How this element is called among those of its invocation: `0.1`, with several axes `lr=0.1,depth=4`;
    /// empty without a matrix. Gathers and published folders name their files by it.
    pub fn label(&self, step: StepId) -> String {
        let axes = self.elements[self.steps[step.0 as usize].invocation as usize].axes.len();
        self.each_point(step)
            .fold(String::new(), |label, (axis, point)| edge::join(&label, &axis.name, &point.label, axes))
    }

    /// The resolved config of a step, matrix values included.
    pub fn config(&self, step: StepId) -> Arc<Config> {
        let shared = &self.configs[self.steps[step.0 as usize].invocation as usize];
        if self.invocation(step).matrix.is_empty() {
            return Arc::clone(shared);
        }
        let mut config = Config::clone(shared);
        // Where an element of a list lies is nothing that a step sees: only its matrix is config.
        for (axis, point) in self.each_point(step).take(self.invocation(step).matrix.len()) {
            config.values.insert(axis.name.clone(), point.value.clone());
        }
        Arc::new(config)
    }

    /// Fills a template of a step's solid with config and matrix values: what `env` sets.
    ///
    /// # Errors
    /// It asks for a value that is not there.
    pub fn fill(&self, step: StepId, template: &Template) -> Result<String, Diagnostic> {
        let points = self.point_indices(step).collect::<Vec<_>>();
        let config = &self.configs[self.steps[step.0 as usize].invocation as usize];
        fill::fill(fill::Of::Text, template, config, &self.invocation(step).matrix, &points)
    }

    /// Fills the probe of a resource with its config: each value is one word for the shell.
    ///
    /// # Errors
    /// It asks for a value that is not there.
    pub fn fill_probe(&self, resource: usize, template: &Template) -> Result<String, Diagnostic> {
        fill::fill(fill::Of::ShellLine, template, &self.resources[resource].config, &[], &[])
    }

    /// Fills a template of a resource with its config: what it sets in the environment.
    ///
    /// # Errors
    /// It asks for a value that is not there.
    pub fn fill_resource(&self, resource: usize, template: &Template) -> Result<String, Diagnostic> {
        fill::fill(fill::Of::Text, template, &self.resources[resource].config, &[], &[])
    }

    /// All resources that an invocation needs, directly or in turn, each after what it needs, otherwise by name:
    /// the order in which they are opened and in which they set the environment (a later one wins). It depends on
    /// nothing but these resources, so it needs no place in a version.
    pub fn resources_of(&self, invocation: u32) -> Vec<usize> {
        fn visit(graph: &Graph, resource: usize, order: &mut Vec<usize>) {
            if order.contains(&resource) {
                return;
            }
            for need in by_name(graph, &graph.resources[resource].needs) {
                visit(graph, need, order);
            }
            order.push(resource);
        }
        fn by_name(graph: &Graph, needs: &[usize]) -> Vec<usize> {
            let mut needs = needs.to_vec();
            needs.sort_by_key(|need| &graph.resources[*need].definition.name);
            needs
        }
        let mut order = Vec::new();
        for need in by_name(self, &self.needs[invocation as usize]) {
            visit(self, need, &mut order);
        }
        order
    }

    /// Whether a step's outputs enter the versions below it by content, because it runs again and again.
    pub fn is_volatile(&self, step: StepId) -> bool {
        matches!(self.solid(step).version, Some(Declared::Volatile | Declared::Every(_)))
    }

    /// These steps and everything that they need, in order.
    pub fn closure(&self, targets: &[StepId]) -> Vec<StepId> {
        let mut needed = vec![false; self.steps.len()];
        targets.iter().for_each(|step| needed[step.0 as usize] = true);
        // Backwards once: what a step needs stands before it. A gather that many share is walked once.
        let mut walked = HashSet::new();
        for step in (0..self.steps.len()).rev() {
            if needed[step] {
                for input in &self.steps[step].inputs {
                    input.each_once(&mut walked, &mut |output| needed[output.step.0 as usize] = true);
                }
            }
        }
        self.ids().filter(|step| needed[step.0 as usize]).collect()
    }

    /// These steps and everything that needs them, in order (`step+`).
    pub fn below(&self, steps: &[StepId]) -> Vec<StepId> {
        let mut reached = vec![false; self.steps.len()];
        steps.iter().for_each(|step| reached[step.0 as usize] = true);
        for step in self.ids() {
            if !reached[step.0 as usize] {
                let mut reads = false;
                self.each_input(step, &mut |output| reads |= reached[output.step.0 as usize]);
                reached[step.0 as usize] = reads;
            }
        }
        self.ids().filter(|step| reached[step.0 as usize]).collect()
    }

    /// The index of a resource that some step needs, by name.
    pub fn resource(&self, name: &str) -> Option<usize> {
        self.resources.iter().position(|resource| resource.definition.name == name)
    }
}

impl StepInput {
    /// The outputs in it, but of a list that was walked before, none.
    fn each_once(&self, walked: &mut HashSet<usize>, each: &mut dyn FnMut(OutputId)) {
        match self {
            Self::Output(output) | Self::Element { list: output, .. } => each(*output),
            Self::FanIn(outputs) | Self::Unknown(outputs) => {
                if walked.insert(Arc::as_ptr(outputs).cast::<u8>().addr()) {
                    outputs.iter().copied().for_each(&mut *each);
                }
            }
            Self::Gather(elements) => {
                if walked.insert(Arc::as_ptr(elements).cast::<u8>().addr()) {
                    elements.iter().for_each(|(_, output)| each(*output));
                }
            }
            Self::Path(_) | Self::Value(_) | Self::Probe(_) => {}
        }
    }
}
