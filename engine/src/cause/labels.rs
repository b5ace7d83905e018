//! Elements that a step gathers, named as their steps are where a difference is told: `input w[n=2]`. In the facts stands
//! the label alone, which for one axis is only its value. Pure.

use std::collections::HashMap;

use crate::explain::Difference;
use crate::graph::{OutputId, StepId, StepInput};
use crate::plan::Plan;

/// The differences of a step, in which elements of what it gathers are called what they are called everywhere.
pub(super) fn named(plan: &Plan, step: StepId, differences: Vec<Difference>) -> Vec<Difference> {
    let mut gathers: HashMap<&str, HashMap<&str, OutputId>> = HashMap::new();
    let inputs = &plan.graph.steps[step.0 as usize].inputs;
    if differences.iter().any(|difference| !difference.element.is_empty()) {
        for (declared, input) in plan.graph.invocation(step).inputs.iter().zip(inputs) {
            if let StepInput::Gather(elements) = input {
                let labels = elements.iter().map(|(label, output)| (label.as_str(), *output));
                gathers.insert(&declared.name, labels.collect());
            }
        }
    }
    let element = |difference: &Difference| {
        let input = difference.label.get(..difference.element.start)?.strip_prefix("input ")?;
        let of = difference.label.get(difference.element.clone())?;
        let output = gathers.get(input)?.get(of.strip_prefix('[')?.strip_suffix(']')?)?;
        let name = plan.graph.step_name(output.step);
        Some(name.get(name.find('[')?..)?.to_owned())
    };
    let told = |mut difference: Difference| {
        if let Some(element) = element(&difference) {
            let start = difference.element.start;
            difference.label.replace_range(difference.element.clone(), &element);
            difference.element = start..start + element.len();
        }
        difference
    };
    differences.into_iter().map(told).collect()
}
