//! What all steps of an invocation have in common: the order in which their parts are hashed, and their literals. Pure.

use cas_store::Version;

use super::hashed;
use super::kind::Kind;
use super::walk::literal_facts;
use crate::graph::{Graph, StepInput};
use crate::solid::Body;

/// The order in which the parts of an invocation's steps are hashed.
#[derive(Debug, Clone, Default)]
pub(super) struct Shape {
    /// Its axes, by name.
    pub(super) axes: Vec<usize>,
    /// Its resources, by name.
    pub(super) resources: Vec<usize>,
    /// Its inputs: by name as the step sees them; for a function, which is given them in order, as declared.
    pub(super) inputs: Vec<usize>,
    /// For each input that is a literal, its version.
    pub(super) literals: Vec<Option<Version>>,
    /// Whether its inputs are a function's.
    pub(super) ordered: bool,
}

impl Shape {
    pub(super) fn of(graph: &Graph, index: usize) -> Self {
        let invocation = &graph.pipeline.invocations[index];
        let ordered = matches!(invocation.solid.body, Body::Function(_));
        let mut axes = (0..invocation.matrix.len()).collect::<Vec<_>>();
        axes.sort_by_key(|axis| &invocation.matrix[*axis].name);
        let mut resources = graph.needs[index].clone();
        resources.sort_by_key(|resource| &graph.resources[*resource].definition.name);
        let mut inputs = (0..invocation.inputs.len()).collect::<Vec<_>>();
        if !ordered {
            inputs.sort_by_key(|input| &invocation.inputs[*input].file_name);
        }
        // A literal is the same for all elements, so the first one's is hashed for all of them.
        let first =
            graph.steps_of[index].clone().next().map_or(&[][..], |step| &graph.steps[step as usize].inputs);
        let literal = |input: &StepInput| match input {
            StepInput::Value(value) => Some(hashed(Kind::Input, |to| literal_facts(to, value))),
            StepInput::Output(_)
            | StepInput::Element { .. }
            | StepInput::Unknown(_)
            | StepInput::FanIn(_)
            | StepInput::Gather(_)
            | StepInput::Path(_)
            | StepInput::Probe(_) => None,
        };
        // Most invocations have none, and then nothing is kept of it.
        let some = first.iter().any(|input| matches!(input, StepInput::Value(_)));
        let literals = if some { first.iter().map(literal).collect() } else { Vec::new() };
        Self { axes, resources, inputs, literals, ordered }
    }
}
