//! A pipeline under one mode and run config, taken apart into steps: dense ids, elements, edges, an order.
//! Pure: what it needs of the world was read before.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::RunConfig;
use crate::error::Diagnostic;
use crate::pipeline::Pipeline;
use crate::resource::Resource;
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
    /// For each invocation: the range of its elements among `steps_of`.
    pub steps_of: Vec<Vec<StepId>>,
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
    /// For each axis of the invocation, in order, the index of its point; empty without a matrix.
    pub element: Box<[u32]>,
    /// Its resolved config, matrix values included. Shared by steps where it is equal.
    pub config: Arc<Config>,
    /// Its inputs, in the order of the invocation's.
    pub inputs: Box<[StepInput]>,
}

/// One input of a step, resolved.
#[derive(Debug, Clone, PartialEq)]
pub enum StepInput {
    /// One output.
    Output(OutputId),
    /// Several, in order.
    FanIn(Box<[OutputId]>),
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
    /// Where it is declared.
    pub place: Option<crate::error::Place>,
}

impl Graph {
    /// Takes a pipeline apart under a mode and a run config.
    ///
    /// # Errors
    /// Everything that is wrong with names, references, matrices, config and cycles (shown as their path).
    pub fn new(
        pipeline: Arc<Pipeline>,
        mode: Option<&str>,
        config: &RunConfig,
    ) -> Result<Self, Vec<Diagnostic>> {
        let _ = (pipeline, mode, config);
        todo!()
    }

    /// The name of a step: `train`, `train[lr=0.1,depth=4]`.
    pub fn step_name(&self, step: StepId) -> String {
        let _ = step;
        todo!()
    }

    /// The name of a step output: `train.result`, `train[lr=0.1].model`.
    pub fn output_name(&self, output: OutputId) -> String {
        let _ = output;
        todo!()
    }

    /// The steps that a name or glob as typed selects: `train`, `train[lr=0.1]`, `train@lr=0.1`, `tr*`.
    ///
    /// # Errors
    /// Nothing has that name: says what is near.
    pub fn select(&self, text: &str) -> Result<Vec<StepId>, Diagnostic> {
        let _ = text;
        todo!()
    }

    /// The step outputs that `STEP[.OUTPUT]` as typed selects (`train.model`, `train[*].model`, `train`: all
    /// outputs of all its elements).
    ///
    /// # Errors
    /// Nothing has that name: says what is near.
    pub fn select_outputs(&self, text: &str) -> Result<Vec<OutputId>, Diagnostic> {
        let _ = text;
        todo!()
    }

    /// The steps that consume any output of this one.
    pub fn readers(&self) -> Vec<Vec<StepId>> {
        todo!()
    }

    /// The mode's resources by name.
    pub fn resource(&self, name: &str) -> Option<usize> {
        let _ = name;
        None::<BTreeMap<String, usize>>.and_then(|map| map.get(name).copied())
    }
}
