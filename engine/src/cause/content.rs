//! What a step consumes, held by its content against what an earlier result of it was made from.

use std::collections::HashMap;

use cas_store::{Artifact, Digest, Found, Moment, Trace};

use super::Compared;
use crate::error::EngineError;
use crate::explain::Difference;
use crate::graph::{OutputId, StepId, StepInput};
use crate::memo::Memo;
use crate::plan::Plan;
use crate::record::ProvenanceInput;

const CONTENT: &str = "what it consumes has other content now";
/// What stands in a provenance in the place of the content of an output that was not produced.
const ABSENT: &str = "absent";

impl Memo {
    /// Which inputs have other content than an earlier result of the same version was made from.
    pub(super) fn content(
        &self,
        plan: &Plan,
        step: StepId,
        before: &Trace,
        now: &dyn Fn(OutputId) -> Option<Digest>,
    ) -> Result<Compared, EngineError> {
        let unknown = || Compared::Content { words: CONTENT.to_owned(), differences: Vec::new() };
        let Some(made) = self.provenance(before)? else { return Ok(unknown()) };
        let consumed: HashMap<String, Consumed<'_>> = consumed(plan, step).into_iter().collect();
        let mut changed = made.inputs.iter().filter_map(|input| {
            let content = match consumed.get(&input.name)? {
                Consumed::Whole(output) => now(*output),
                Consumed::Element { element } => element.map(|element| element.digest),
            };
            let content = content.map_or_else(|| ABSENT.to_owned(), |digest| digest.to_hex());
            (content != input.content).then_some((input, content))
        });
        let Some((first, content)) = changed.next() else { return Ok(unknown()) };
        let mut differences = vec![other_content(first, content)];
        differences.extend(changed.map(|(input, content)| other_content(input, content)));
        let from = first.from.as_ref().map(|from| format!(" (`{from}`)")).unwrap_or_default();
        let more = match differences.len() - 1 {
            0 => String::new(),
            more => format!(" (and {more} more)"),
        };
        let words = format!("input {}{from} has other content than before{more}", first.name);
        Ok(Compared::Content { words, differences })
    }

    /// What differs, but for what came out the same in the end, in kind and codec, too: a step is not run for that. Nothing is
    /// left out where nothing would be left, nor what is not known to be the same.
    pub(super) fn without_same_content(
        &self,
        plan: &Plan,
        step: StepId,
        moment: &Moment,
        differences: Vec<Difference>,
        now: &dyn Fn(OutputId) -> Option<Artifact>,
    ) -> Result<Vec<Difference>, EngineError> {
        let above = |difference: &Difference| {
            let (input, _) = difference.label.strip_prefix("input ")?.split_once(": ")?;
            Some(input.split('[').next().unwrap_or(input).to_owned())
        };
        if differences.len() < 2 || !differences.iter().any(|difference| above(difference).is_some()) {
            return Ok(differences);
        }
        let made_from = self.made_from(&moment.trace)?;
        let then: HashMap<&str, (&ProvenanceInput, Option<&Found>)> =
            made_from.iter().map(|(input, found)| (input.name.as_str(), (input, found.as_ref()))).collect();
        let outputs = consumed(plan, step);
        let is_same = |input: &str| {
            let whole = |name: &str| name.split('/').next() == Some(input);
            let mut of = outputs.iter().filter(|(name, _)| whole(name)).peekable();
            let count = made_from.iter().filter(|(made, _)| whole(&made.name)).count();
            of.peek().is_some()
                && outputs.iter().filter(|(name, _)| whole(name)).count() == count
                && of.all(|(name, consumed)| {
                    // Of an element it is not on record what kind it was.
                    let Consumed::Whole(output) = consumed else { return false };
                    let solid = plan.graph.solid(output.step);
                    let declared = solid.outputs.get(usize::from(output.output));
                    let was = then.get(name.as_str()).zip(declared);
                    let was = was.and_then(|((input, found), declared)| given(input, *found, &declared.name));
                    was.is_some_and(|was| now(*output).as_ref() == Some(was))
                })
        };
        let (same, other): (Vec<Difference>, Vec<Difference>) = differences
            .into_iter()
            .partition(|difference| above(difference).is_some_and(|input| is_same(&input)));
        Ok(if other.is_empty() { same } else { other })
    }
}

/// What an earlier result was given of an output, where the result still stands that this was of.
fn given<'f>(input: &ProvenanceInput, found: Option<&'f Found>, output: &str) -> Option<&'f Artifact> {
    let record = &found?.record;
    if input.made_ms.is_some_and(|made_ms| made_ms != record.made_ms) {
        return None;
    }
    let artifact = record.outputs.iter().find(|of| of.name == output)?.artifact.as_ref();
    artifact.filter(|artifact| artifact.digest.to_hex() == input.content)
}

/// An input whose content is another than an earlier result was made from.
fn other_content(input: &ProvenanceInput, content: String) -> Difference {
    let whole = "input ".len() + input.name.find('/').unwrap_or(input.name.len());
    let label = format!("input {}", input.name);
    let element = if whole < label.len() { whole..label.len() } else { 0..0 };
    Difference {
        label: format!("{label}: content"),
        // That one of the two is not there says something; digests do not.
        opaque: input.content != ABSENT && content != ABSENT,
        before: Some(shortened(&input.content)),
        after: Some(shortened(&content)),
        element,
    }
}

/// A digest as it is told; what is none, as it is.
fn shortened(content: &str) -> String {
    content.parse::<Digest>().map_or_else(|_| content.to_owned(), |digest| digest.short())
}

/// What a step consumes of an output.
enum Consumed<'p> {
    Whole(OutputId),
    /// One of a list; `None` where that has no such element any more.
    Element {
        element: Option<&'p Artifact>,
    },
}

/// What a step consumes of outputs, with what it is called in a provenance.
fn consumed(plan: &Plan, step: StepId) -> Vec<(String, Consumed<'_>)> {
    let declared = &plan.graph.invocation(step).inputs;
    let mut named = Vec::new();
    for (input, declared) in plan.graph.steps[step.0 as usize].inputs.iter().zip(declared) {
        let name = &declared.name;
        let whole = |name: String, output: &OutputId| (name, Consumed::Whole(*output));
        match input {
            StepInput::Output(output) => named.push(whole(name.clone(), output)),
            StepInput::Element { of, at, .. } => {
                let element = of.elements.get(*at as usize).map(|element| &element.artifact);
                named.push((name.clone(), Consumed::Element { element }));
            }
            StepInput::FanIn(outputs) => {
                let each = outputs.iter().enumerate();
                named.extend(each.map(|(at, output)| whole(format!("{name}/{at}"), output)));
            }
            StepInput::Gather(elements) => {
                named.extend(elements.iter().map(|(label, output)| whole(format!("{name}/{label}"), output)));
            }
            StepInput::Unknown(_) | StepInput::Path(_) | StepInput::Value(_) | StepInput::Probe(_) => {}
        }
    }
    named
}
