//! Plans that grow: what is mapped over a list is planned when the list is known.
//!
//! ```text
//! plan ─► resolve ─► which lists are on record? ─► the graph with them ─► plan ─► resolve ─► … until none is new
//! ```
//!
//! The same happens in a run, whenever lists became known by steps that ran. Nothing is measured again: elements
//! differ in nothing that is, so what was measured for their placeholder is theirs.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::error::{Diagnostic, EngineError};
use crate::graph::{Graph, Moved, OutputId, StepId};
use crate::list::List;
use crate::memo::{self, Memo, Resolved, StepState, Wanted};
use crate::plan::Plan;
use crate::resolve;
use crate::source::Measures;

/// How many times a plan grows before anything runs: the depth of lists within lists, which nobody writes so deep.
const ROUNDS: usize = 64;

/// Steps as they were asked for, so that the same can be asked of a graph that has grown.
#[derive(Clone)]
pub struct Asking(Arc<Ask>);

type Ask = dyn Fn(&Graph) -> Result<Asked, Diagnostic> + Send + Sync;

/// The steps of one graph that are asked for.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    /// Those that are wanted; see [`Wanted::steps`].
    pub steps: Vec<StepId>,
    /// Those that run whatever is stored; see [`Wanted::force`].
    pub force: Vec<StepId>,
    /// All that are planned.
    pub plan: Vec<StepId>,
}

impl Asking {
    /// Asks like this.
    pub fn new(ask: impl Fn(&Graph) -> Result<Asked, Diagnostic> + Send + Sync + 'static) -> Self {
        Self(Arc::new(ask))
    }
}

impl fmt::Debug for Asking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Asking")
    }
}

/// A plan that has grown.
pub(crate) struct Grown {
    pub(crate) plan: Plan,
    pub(crate) wanted: Wanted,
    /// Which of its steps are those of the plan before.
    pub(crate) moved: Moved,
}

/// Plans the same with these lists known. What was planned stays planned.
pub(crate) fn grown(
    plan: &Plan,
    wanted: &Wanted,
    lists: &[(OutputId, Arc<List>)],
) -> Result<Grown, EngineError> {
    let graph = Arc::new(plan.graph.grown(lists).map_err(EngineError::Definition)?);
    let moved = graph.moved(&plan.graph);
    let all = plan.steps.len() == plan.graph.steps.len();
    let (wanted, mut steps) = match &wanted.again {
        Some(asking) => {
            let Asked { steps, force, plan } = (asking.0)(&graph)?;
            (Wanted { steps, force, ..wanted.clone() }, plan)
        }
        None => {
            let grown = |before: &[StepId]| {
                let mut of = vec![false; plan.graph.steps.len()];
                before.iter().for_each(|step| of[step.0 as usize] = true);
                let came =
                    |step: &StepId| moved.from[step.0 as usize].is_some_and(|before| of[before.0 as usize]);
                graph.ids().filter(came).collect::<Vec<_>>()
            };
            let steps = if all { graph.ids().collect() } else { grown(&plan.steps) };
            let (wanted_steps, force) = (grown(&wanted.steps), grown(&wanted.force));
            (Wanted { steps: wanted_steps, force, ..wanted.clone() }, steps)
        }
    };
    steps.extend(plan.steps.iter().filter_map(|step| moved.to[step.0 as usize]));
    let steps = graph.closure(&steps);
    let measures = Arc::new(plan.measures.moved(&plan.graph, &graph));
    Ok(Grown { plan: Plan::new(graph, measures, steps), wanted, moved })
}

impl Memo {
    /// Holds a plan against the store as [`Memo::resolve`] does, and lets it grow by every list that is on record.
    ///
    /// # Errors
    /// The store cannot be read, or the elements of lists do not meet as the pipeline has it.
    pub fn resolve_grown(&self, plan: Plan, wanted: Wanted) -> Result<(Plan, Wanted, Resolved), EngineError> {
        let (mut plan, mut wanted) = (plan, wanted);
        let mut resolved = self.resolve(&plan, &wanted)?;
        for _ in 0..ROUNDS {
            let lists = self.lists_known(&plan, &resolved.states)?;
            if lists.is_empty() {
                break;
            }
            let grown = grown(&plan, &wanted, &lists)?;
            (plan, wanted) = (grown.plan, grown.wanted);
            resolved = self.resolve(&plan, &wanted)?;
        }
        Ok((plan, wanted, resolved))
    }

    /// The graph with every list that is on record, so that elements can be named. `measure` measures what the steps
    /// need that yield lists; where that cannot be, or the store cannot answer, the graph stays as it is.
    pub fn graph_grown(
        &self,
        graph: Arc<Graph>,
        wanted: &Wanted,
        measure: &mut dyn FnMut(&Graph, &[StepId]) -> Option<Measures>,
    ) -> Arc<Graph> {
        let mut graph = graph;
        for _ in 0..ROUNDS {
            let yielding: Vec<StepId> = graph.pending.iter().map(|output| output.step).collect();
            if yielding.is_empty() {
                break;
            }
            let steps = graph.closure(&yielding);
            let Some(measures) = measure(&graph, &steps) else { break };
            let plan = Plan::new(Arc::clone(&graph), Arc::new(measures), steps);
            let wanted = Wanted { steps: yielding, ..wanted.clone() };
            let grown = self.resolve(&plan, &wanted).and_then(|resolved| {
                let lists = self.lists_known(&plan, &resolved.states)?;
                if lists.is_empty() {
                    return Ok(None);
                }
                Ok(Some(graph.grown(&lists).map_err(EngineError::Definition)?))
            });
            // What is wrong is told by whoever needs it.
            let Ok(Some(grown)) = grown else { break };
            graph = Arc::new(grown);
        }
        graph
    }

    /// How many elements the last list had, by the steps that stand in the place of those of a list which is not known
    /// yet. Of lists within such a list, nobody knows even how many there will be.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn last_lengths(&self, plan: &Plan) -> Result<BTreeMap<StepId, usize>, EngineError> {
        let graph = &plan.graph;
        let mut known: BTreeMap<OutputId, Option<usize>> = BTreeMap::new();
        let mut lengths = BTreeMap::new();
        for &step in plan.steps.iter().filter(|step| graph.is_placeholder(**step)) {
            let list = graph.unknown_list(step).filter(|list| !graph.is_placeholder(list.step));
            let Some(list) = list else { continue };
            let length = match known.get(&list) {
                Some(length) => *length,
                None => self.last_length(plan, list)?,
            };
            known.insert(list, length);
            lengths.extend(length.map(|length| (step, length)));
        }
        Ok(lengths)
    }

    /// How many elements an output had that is a list, when its step had a result last.
    fn last_length(&self, plan: &Plan, list: OutputId) -> Result<Option<usize>, EngineError> {
        let graph = &plan.graph;
        let label = memo::label(&graph.pipeline.name, &graph.step_name(list.step));
        let Some(moment) = self.history(&label, 1)?.pop() else { return Ok(None) };
        let solid = graph.solid(list.step);
        let found = self.rows(&[resolve::row_key(solid, &moment.version)])?.pop().flatten();
        let Some(found) = found.filter(|found| resolve::fits(solid, found)) else { return Ok(None) };
        Ok(self.list(&found, list.output)?.map(|list| list.elements.len()))
    }

    /// The lists that are on record by now and that the graph of a plan does not know, or knows otherwise.
    pub(crate) fn lists_known(
        &self,
        plan: &Plan,
        states: &[StepState],
    ) -> Result<Vec<(OutputId, Arc<List>)>, EngineError> {
        let graph = &plan.graph;
        let other = graph.mapped_lists.iter().filter(|(output, list)| {
            let state = &states[output.step.0 as usize];
            state.settled && !list.is(state.artifact(output.output))
        });
        let unknown = graph.pending.iter().chain(other.map(|(output, _)| output));
        let mut known = Vec::new();
        for &output in unknown {
            let state = &states[output.step.0 as usize];
            let list = match &state.found {
                _ if !state.settled => None,
                Some(found) => self.list(found, output.output)?,
                None => Some(List::absent()),
            };
            known.extend(list.map(|list| (output, Arc::new(list))));
        }
        Ok(known)
    }
}
