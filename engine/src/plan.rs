//! A graph with every version computed: what can be said before anything runs. Pure.

use std::sync::Arc;

use cas_store::{Trace, Version};

use crate::graph::{Graph, OutputId, StepId};
use crate::source::Measures;
use crate::version::{Asked, Base, Buffers, FactNode, FactsOf, InputContent, Outputs, output_version};

/// Every step that is needed for what is wanted, with its version.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The steps.
    pub graph: Arc<Graph>,
    /// What was measured for them.
    pub measures: Arc<Measures>,
    /// The steps of this plan in order: all, or what the targets need.
    pub steps: Vec<StepId>,
    /// By step id: its version; `None` for one outside the plan, or below a volatile step: the latter is known when
    /// content is, see [`Plan::version_by_content`].
    pub versions: Vec<Option<Version>>,
    /// What of versions and traces is known before inputs are.
    pub base: Base,
    outputs: Outputs,
}

impl Plan {
    /// Computes the versions of the given steps, each with all that it needs (see [`Graph::closure`]).
    pub fn new(graph: Arc<Graph>, measures: Arc<Measures>, steps: Vec<StepId>) -> Self {
        let mut steps = steps;
        steps.sort_unstable();
        steps.dedup();
        let base = Base::new(&graph, &measures, &steps);
        let (versions, outputs) = base.versions(&graph, &steps);
        Self { graph, measures, steps, versions, base, outputs }
    }

    /// The version of an output, if its step's is known.
    pub fn output_version(&self, output: OutputId) -> Option<Version> {
        self.versions[output.step.0 as usize].map(|_| self.outputs.version(&self.graph, output))
    }

    /// How many bytes were encoded for the versions of the steps; it grows with the steps and what they read.
    pub fn encoded_bytes(&self) -> u64 {
        self.outputs.encoded_bytes
    }

    /// The keys of the rows of a step of this version: one per declared output in order; of a step without
    /// outputs the version itself.
    pub fn rows(&self, step: StepId, version: &Version) -> Vec<Version> {
        let outputs = &self.graph.solid(step).outputs;
        if outputs.is_empty() {
            return vec![*version];
        }
        if self.versions[step.0 as usize] == Some(*version) {
            let outputs = (0_u16..).zip(outputs);
            return outputs
                .filter_map(|(output, _)| self.output_version(OutputId { step, output }))
                .collect();
        }
        outputs.iter().map(|output| output_version(version, &output.name)).collect()
    }

    /// The trace of a step of this plan, from the content of its inputs. Allocates nothing per input. `None` where
    /// something that it is made of was not measured, or what an input holds is not known.
    pub fn trace<'a>(
        &self,
        step: StepId,
        content: &mut dyn FnMut(OutputId) -> Option<InputContent<'a>>,
    ) -> Option<Trace> {
        self.trace_in(step, &mut Buffers::default(), content)
    }

    /// As [`Plan::trace`], with buffers that are used again.
    pub(crate) fn trace_in<'a>(
        &self,
        step: StepId,
        buffers: &mut Buffers,
        content: &mut dyn FnMut(OutputId) -> Option<InputContent<'a>>,
    ) -> Option<Trace> {
        self.base.trace(&self.graph, step, buffers, content)
    }

    /// The version of a step whose version could not be known before something above it ran: outputs of volatile
    /// steps enter by their content, all others by `version` of their step. `None` while any of these is not known.
    pub fn version_by_content<'a>(
        &self,
        step: StepId,
        version: &mut dyn FnMut(StepId) -> Option<Version>,
        content: &mut dyn FnMut(OutputId) -> Option<InputContent<'a>>,
    ) -> Option<Version> {
        self.base.version_by_content(&self.graph, step, version, content)
    }

    /// The nodes of facts that a step has whatever comes of the steps above it: its config, solid, resources, and the
    /// inputs that are no outputs, as far as they were measured. Whatever was made of the same has them too.
    pub fn own_facts(&self, step: StepId) -> Vec<Version> {
        self.base.own_facts(&self.graph, step)
    }

    /// What the version of a step is made of: its node, and those of its solid, config, resources and inputs, but
    /// not of the steps above it. `version` and `content` as in [`Plan::version_by_content`]; `wanted` says
    /// whether a node is to be made at all (the same solid need not be written 10,000 times); `key` is that of the
    /// digests of secrets (see [`crate::version::secret_key`]). Empty where the version is not known.
    pub fn facts<'a>(
        &self,
        step: StepId,
        key: &[u8; 32],
        version: &mut dyn FnMut(StepId) -> Option<Version>,
        content: &mut dyn FnMut(OutputId) -> Option<InputContent<'a>>,
        wanted: &mut dyn FnMut(&Version) -> bool,
    ) -> Vec<(Version, FactNode)> {
        let of = FactsOf { graph: &self.graph, measures: &self.measures, step, key };
        self.base.facts(&of, &mut Asked { version, content, wanted })
    }
}
