//! A graph with every version computed: what can be said before anything runs.

use std::sync::Arc;

use cas_store::{Trace, Version};

use crate::graph::{Graph, OutputId, StepId};
use crate::source::Measures;
use crate::version::{Base, FactNode, InputContent};

/// Every step that is needed for what is wanted, with its version.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The steps.
    pub graph: Arc<Graph>,
    /// What was measured for them.
    pub measures: Arc<Measures>,
    /// The steps of this plan in order: all, or what the targets need.
    pub steps: Vec<StepId>,
    /// By step id: its version; `None` for one outside the plan or not known before its inputs are.
    pub versions: Vec<Option<Version>>,
    /// What of versions and traces is known before inputs are.
    pub base: Base,
}

impl Plan {
    /// Versions of the given steps. Pure.
    pub fn new(graph: Arc<Graph>, measures: Arc<Measures>, steps: Vec<StepId>) -> Self {
        let _ = (&graph, &measures, &steps);
        todo!()
    }

    /// The version of an output, if its step's is known.
    pub fn output_version(&self, output: OutputId) -> Option<Version> {
        let _ = output;
        todo!()
    }

    /// The keys of the rows of a step of this version: one per declared output in order; of a step without
    /// outputs the version itself.
    pub fn rows(&self, step: StepId, version: &Version) -> Vec<Version> {
        let _ = (step, version);
        todo!()
    }

    /// The trace of a step of this plan, from the content of its inputs. Allocates nothing per input.
    pub fn trace<'a>(&self, step: StepId, content: &mut dyn FnMut(OutputId) -> InputContent<'a>) -> Trace {
        let _ = (step, content);
        todo!()
    }

    /// The version of a step whose version could not be known before something above it ran: outputs of volatile
    /// steps enter by their content, all others by `version` of their step. `None` while any of these is not known.
    pub fn version_by_content<'a>(
        &self,
        step: StepId,
        version: &mut dyn FnMut(StepId) -> Option<Version>,
        content: &mut dyn FnMut(OutputId) -> Option<InputContent<'a>>,
    ) -> Option<Version> {
        let _ = (step, version, content);
        todo!()
    }

    /// What the version of a step is made of: its node, and those of its solid, config, resources and inputs, but
    /// not of the steps above it. `version` and `content` as in [`Plan::version_by_content`]; `wanted` says
    /// whether a node is to be made at all (the same solid need not be written 10,000 times).
    /// Empty where the version is not known.
    pub fn facts<'a>(
        &self,
        step: StepId,
        version: &mut dyn FnMut(StepId) -> Option<Version>,
        content: &mut dyn FnMut(OutputId) -> Option<InputContent<'a>>,
        wanted: &mut dyn FnMut(&Version) -> bool,
    ) -> Vec<(Version, FactNode)> {
        let _ = (step, version, content, wanted);
        todo!()
    }
}
