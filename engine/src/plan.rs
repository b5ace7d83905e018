//! A graph with every version computed: what can be said before anything runs.

use std::sync::Arc;

use cas_store::Version;

use crate::graph::{Graph, OutputId, StepId};
use crate::source::Measures;

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
}
