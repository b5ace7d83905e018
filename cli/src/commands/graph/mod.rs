//! `cas graph`: the DAG with its statuses, as text or as a drawing.

mod drawing;
mod svg;

use std::collections::BTreeMap;
use std::io::{self, Write};

use cas_engine::graph::StepId;
use cas_engine::memo::{Resolved, Status};
use cas_engine::plan::Plan;
use cas_store::Create;
use clap::ValueEnum;
use serde::Serialize;

use super::{done, out};
use crate::args::Which;
use crate::failure::{Code, Failure};
use crate::report::json;
use crate::session::World;

/// Show the steps, what they consume, and their statuses
///
/// A step with a matrix is shown once, with how many of its elements are in which state; --elements shows each.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Example:
  $ cas graph
  $ cas graph --as svg > pipeline.svg")]
pub(crate) struct GraphArgs {
    /// Draw it in this form
    #[arg(long = "as", value_name = "FORM", value_enum, default_value_t = Form::Text)]
    form: Form,
    /// Show each element of a step with a matrix
    #[arg(long)]
    elements: bool,
    #[command(flatten)]
    which: Which,
}

/// The forms of a drawing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    Text,
    Dot,
    Mermaid,
    Svg,
}

/// A step, or all elements of one.
#[derive(Debug, Clone, Serialize)]
struct Node {
    name: String,
    /// How many elements it stands for.
    elements: usize,
    /// How many are in which state; those that are none are left out.
    statuses: Vec<(&'static str, usize)>,
    /// The nodes that it consumes, by index, each once, in order.
    inputs: Vec<usize>,
}

impl Node {
    /// Its state in words: `stored`, or `4 stored, 2 to-be-recomputed`.
    fn state(&self) -> String {
        match self.statuses.as_slice() {
            [(status, 1)] if self.elements == 1 => (*status).to_owned(),
            several => several
                .iter()
                .map(|(status, count)| format!("{count} {status}"))
                .collect::<Vec<_>>()
                .join(", "),
        }
    }

    /// The state that decides its look: what has to run is what people look for.
    fn look(&self) -> &'static str {
        let has = |status: Status| self.statuses.iter().any(|(word, _)| *word == status.word());
        [Status::ToBeRecomputed, Status::Absent, Status::NotNeeded]
            .into_iter()
            .find(|status| has(*status))
            .unwrap_or(Status::Stored)
            .word()
    }
}

pub(crate) fn graph(world: &mut World, args: &GraphArgs) -> Result<Code, Failure> {
    let session = world.session(&args.which, Create::Never)?;
    let (plan, resolved) = session.whole(world)?;
    let nodes = nodes(&plan, &resolved, args.elements);
    let mut out = out();
    if world.json() {
        #[derive(Serialize)]
        struct Row<'a> {
            step: &'a str,
            elements: usize,
            statuses: BTreeMap<&'a str, usize>,
            inputs: Vec<&'a str>,
        }
        let rows = nodes.iter().map(|node| Row {
            step: &node.name,
            elements: node.elements,
            statuses: node.statuses.iter().copied().collect(),
            inputs: node.inputs.iter().map(|input| nodes[*input].name.as_str()).collect(),
        });
        json::document(&mut out, "graph", rows)?;
        return done(out);
    }
    match args.form {
        Form::Text => text(&mut out, &nodes)?,
        Form::Dot => drawing::dot(&mut out, &plan.graph.pipeline.name, &nodes)?,
        Form::Mermaid => drawing::mermaid(&mut out, &nodes)?,
        Form::Svg => svg::svg(&mut out, &nodes)?,
    }
    done(out)
}

/// The nodes, each after what it consumes.
fn nodes(plan: &Plan, resolved: &Resolved, elements: bool) -> Vec<Node> {
    let graph = &plan.graph;
    let mut nodes: Vec<Node> = Vec::new();
    // By step id, the node that stands for it; by invocation, the node of all its elements.
    let mut node_of: BTreeMap<StepId, usize> = BTreeMap::new();
    let mut of_invocation: BTreeMap<u32, usize> = BTreeMap::new();
    for step in &plan.steps {
        let invocation = graph.steps[step.0 as usize].invocation;
        let new = nodes.len();
        let node = if elements { new } else { *of_invocation.entry(invocation).or_insert(new) };
        if node == new {
            let name = if elements { graph.step_name(*step) } else { graph.invocation(*step).name.clone() };
            nodes.push(Node { name, elements: 0, statuses: Vec::new(), inputs: Vec::new() });
        }
        node_of.insert(*step, node);
        let mut inputs = Vec::new();
        graph.each_input(*step, &mut |output| inputs.extend(node_of.get(&output.step).copied()));
        let Node { elements, statuses, inputs: known, .. } = &mut nodes[node];
        *elements += 1;
        let word = resolved.step_status(*step).word();
        match statuses.iter_mut().find(|(status, _)| *status == word) {
            Some((_, count)) => *count += 1,
            None => statuses.push((word, 1)),
        }
        known.extend(inputs);
        known.sort_unstable();
        known.dedup();
    }
    nodes
}

fn text(to: &mut dyn Write, nodes: &[Node]) -> io::Result<()> {
    let label = |node: &Node| match node.elements {
        1 => node.name.clone(),
        many => format!("{} ×{many}", node.name),
    };
    let names = nodes.iter().map(|node| label(node).chars().count()).max().unwrap_or(0);
    let states = nodes.iter().map(|node| node.state().len()).max().unwrap_or(0);
    for node in nodes {
        let inputs: Vec<&str> = node.inputs.iter().map(|input| nodes[*input].name.as_str()).collect();
        let from = if inputs.is_empty() { String::new() } else { format!("  ← {}", inputs.join(", ")) };
        writeln!(to, "{}", format!("{:names$}  {:states$}{from}", label(node), node.state()).trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn example() -> Vec<Node> {
        let node = |name: &str, statuses: &[(&'static str, usize)], inputs: &[usize]| Node {
            name: name.to_owned(),
            elements: statuses.iter().map(|(_, count)| count).sum(),
            statuses: statuses.to_vec(),
            inputs: inputs.to_vec(),
        };
        vec![
            node("load", &[("stored", 1)], &[]),
            node("train", &[("stored", 4), ("to-be-recomputed", 2)], &[0]),
            node("report", &[("to-be-recomputed", 1)], &[0, 1]),
        ]
    }

    pub(super) fn written(write: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> String {
        let mut bytes = Vec::new();
        write(&mut bytes).expect("memory takes it");
        String::from_utf8(bytes).expect("text was written")
    }

    #[test]
    fn text_shows_a_step_a_line_with_what_it_consumes() {
        assert_eq!(
            written(|to| text(to, &example())),
            "load      stored\n\
             train ×6  4 stored, 2 to-be-recomputed  ← load\n\
             report    to-be-recomputed              ← load, train\n"
        );
    }
}
