//! What a step is given, input by input, as it is recorded with its result. Pure.

use crate::attempt::Stored;
use crate::graph::{StepId, StepInput};
use crate::plan::Plan;
use crate::record::{Maker, ProvenanceInput};
use crate::value::Value;

/// The inputs of a step, in order; `consumes` are the outputs among them, with repetitions, and `makers` says of each who
/// made it, as far as that is known.
pub(crate) fn inputs(
    plan: &Plan,
    step: StepId,
    consumes: &[Stored],
    makers: &[Option<Maker>],
) -> Vec<ProvenanceInput> {
    let graph = &plan.graph;
    let mut consumes = consumes.iter().enumerate();
    let mut inputs = Vec::new();
    let mut stored = |name: String, inputs: &mut Vec<ProvenanceInput>| {
        let Some((at, stored)) = consumes.next() else { return };
        let content = stored.artifact.as_ref().map(|artifact| artifact.digest.to_hex());
        inputs.push(ProvenanceInput {
            name,
            from: Some(graph.output_name(stored.output)),
            trace: stored.trace,
            content: content.unwrap_or_else(|| "absent".to_owned()),
            made_ms: stored.made_ms,
            maker: makers.get(at).cloned().flatten(),
        });
    };
    let given = |name: &str, content: String| ProvenanceInput {
        name: name.to_owned(),
        from: None,
        trace: None,
        content,
        made_ms: None,
        maker: None,
    };
    let declared = &graph.invocation(step).inputs;
    for (input, declared) in graph.steps[step.0 as usize].inputs.iter().zip(declared) {
        let name = &declared.name;
        match input {
            StepInput::Output(_) => stored(name.clone(), &mut inputs),
            StepInput::Element { of, at, .. } => {
                stored(name.clone(), &mut inputs);
                if let (Some(element), Some(last)) = (of.elements.get(*at as usize), inputs.last_mut()) {
                    last.content = element.artifact.digest.to_hex();
                }
            }
            StepInput::Unknown(_) => {}
            StepInput::FanIn(outputs) => {
                (0..outputs.len()).for_each(|index| stored(format!("{name}/{index}"), &mut inputs));
            }
            StepInput::Gather(elements) => {
                elements.iter().for_each(|(label, _)| stored(format!("{name}/{label}"), &mut inputs));
            }
            StepInput::Path(path) => {
                let measured = plan.measures.paths.get(*path as usize).and_then(Option::as_ref);
                let digest = measured.map(|measured| measured.digest.to_hex()).unwrap_or_default();
                inputs.push(given(name, format!("{} {digest}", graph.paths[*path as usize].path)));
            }
            StepInput::Value(value) => inputs.push(given(name, value.to_string())),
            StepInput::Probe(probe) => {
                let printed = plan.measures.probes.get(*probe as usize).cloned().flatten();
                inputs.push(given(name, Value::Str(printed.unwrap_or_default()).to_string()));
            }
        }
    }
    inputs
}
