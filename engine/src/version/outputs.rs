//! The versions of the outputs of a plan's steps, close together, and what is made of some of them at a time. Pure.

use cas_store::Version;

use super::NOT_KNOWN;
use crate::graph::{Graph, OutputId, StepId};

/// The versions of the outputs of the steps of a plan, in one piece of memory.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outputs {
    /// By step and output; meaningful where the step's version is known.
    versions: Vec<Version>,
    /// For each invocation: where the outputs of its first element stand.
    starts: Vec<usize>,
    /// How many bytes were encoded for the steps: what the work grows with.
    pub(crate) encoded_bytes: u64,
}

impl Outputs {
    pub(super) fn of(graph: &Graph) -> Self {
        let mut starts = Vec::with_capacity(graph.pipeline.invocations.len());
        let mut total = 0;
        for (elements, invocation) in graph.steps_of.iter().zip(&graph.pipeline.invocations) {
            starts.push(total);
            total += elements.len() * invocation.solid.outputs.len();
        }
        Self { versions: vec![NOT_KNOWN; total], starts, encoded_bytes: 0 }
    }

    /// Takes in what was made of steps of one invocation.
    pub(super) fn take(
        &mut self,
        graph: &Graph,
        steps: &[StepId],
        made: &Made,
        versions: &mut [Option<Version>],
    ) {
        self.encoded_bytes += made.encoded_bytes;
        let Some(count) = made.outputs.len().checked_div(steps.len()) else { return };
        for (index, (step, version)) in steps.iter().zip(&made.versions).enumerate() {
            versions[step.0 as usize] = *version;
            let (from, first) = (index * count, self.first(graph, *step));
            self.versions[first..first + count].copy_from_slice(&made.outputs[from..from + count]);
        }
    }

    fn first(&self, graph: &Graph, step: StepId) -> usize {
        let of = &graph.steps[step.0 as usize];
        let count = graph.pipeline.invocations[of.invocation as usize].solid.outputs.len();
        self.starts[of.invocation as usize] + of.element as usize * count
    }

    /// The version of an output of a step whose version is known.
    pub(crate) fn version(&self, graph: &Graph, output: OutputId) -> Version {
        self.versions[self.first(graph, output.step) + output.output as usize]
    }
}

/// What was made of some steps of one invocation.
#[derive(Default)]
pub(super) struct Made {
    /// The version of each.
    pub(super) versions: Vec<Option<Version>>,
    /// Those of its outputs, one step after the other; all zero where its own is not known.
    pub(super) outputs: Vec<Version>,
    pub(super) encoded_bytes: u64,
}
