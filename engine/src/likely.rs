//! Two things that explain many misses at once: a solid that was renamed, and one fact that two machines differ in.
//!
//! Both are told, and decide nothing. They look at what the store has of steps that this pipeline does not have, or
//! of those that it has; that is bounded, whatever the store holds.

use std::collections::{BTreeMap, HashSet};

use cas_store::Version;

use crate::error::EngineError;
use crate::graph::StepId;
use crate::memo::Memo;
use crate::plan::Plan;
use crate::resolve::{Resolved, Why};
use crate::version::FactNode;

/// So many steps that a pipeline does not have any longer are looked at.
const GONE: usize = 1000;

/// So many of the steps that would run are compared to find what they have in common.
const SAMPLED: usize = 16;

/// Fewer steps than this are told one by one, and that is enough.
const FEW: usize = 2;

/// A step that the store has and the pipeline does not.
#[derive(Debug)]
pub(crate) struct Gone {
    /// Its name.
    step: String,
    /// What its newest version is made of.
    node: FactNode,
}

impl Memo {
    /// The step whose facts these were under another solid's name, in words: `renamed from X? all else is equal`.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) fn renamed(
        &self,
        plan: &Plan,
        facts: &[(Version, FactNode)],
    ) -> Result<Option<String>, EngineError> {
        let Some((_, own)) = facts.first() else { return Ok(None) };
        let before = |gone: &&Gone| gone.node.kind == own.kind && gone.node.facts == own.facts;
        let gone = self.gone(plan)?;
        Ok(gone.iter().find(before).map(|gone| format!("renamed from `{}`? all else is equal", gone.step)))
    }

    /// Whether the store has steps of this pipeline that it does not have any longer.
    pub(crate) fn may_be_renamed(&self, plan: &Plan) -> bool {
        // What cannot be read is not worth failing for: it is only not told.
        self.gone(plan).is_ok_and(|gone| !gone.is_empty())
    }

    /// The newest versions of the steps that the store has of a pipeline and that are not in its graph: read once.
    fn gone(&self, plan: &Plan) -> Result<std::sync::Arc<Vec<Gone>>, EngineError> {
        self.gone_once(|| {
            let Some(store) = self.store() else { return Ok(Vec::new()) };
            let graph = &plan.graph;
            let known: HashSet<String> = graph.ids().map(|step| graph.step_name(step)).collect();
            let mut moments = Vec::new();
            store.labels(&mut |moment| {
                let step =
                    moment.label.strip_prefix(&graph.pipeline.name).and_then(|rest| rest.strip_prefix('/'));
                if let Some(step) = step.filter(|step| !known.contains(*step)) {
                    moments.push((step.to_owned(), moment.version));
                }
                moments.len() < GONE
            })?;
            let versions: Vec<Version> = moments.iter().map(|(_, version)| *version).collect();
            let nodes = self.facts(&versions)?;
            let with =
                |((step, _), node): ((String, Version), Option<FactNode>)| Some(Gone { step, node: node? });
            Ok(moments.into_iter().zip(nodes).filter_map(with).collect())
        })
    }

    /// Where most of a plan is to run because of one fact of the machine, and the store knows these steps with
    /// another: that fact, in words.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) fn common_cause(
        &self,
        plan: &Plan,
        resolved: &Resolved,
    ) -> Result<Option<String>, EngineError> {
        let missed: Vec<StepId> = plan
            .steps
            .iter()
            .copied()
            .filter(|step| {
                let state = &resolved.states[step.0 as usize];
                state.to_run && matches!(state.why, Some(Why::New | Why::Inputs))
            })
            .collect();
        if missed.len() < FEW || missed.len() * 2 <= plan.steps.len() {
            return Ok(None);
        }
        let every = missed.len().div_ceil(SAMPLED);
        let mut counted: BTreeMap<String, usize> = BTreeMap::new();
        let mut compared = 0;
        for step in missed.iter().step_by(every) {
            let Some(differences) = self.differences_of(plan, &resolved.states, *step)? else { continue };
            compared += 1;
            let facts: HashSet<String> =
                differences.iter().filter_map(|difference| machine_fact(&difference.to_string())).collect();
            for fact in facts {
                *counted.entry(fact).or_default() += 1;
            }
        }
        let common = counted.into_iter().find(|(_, count)| compared >= FEW && *count == compared);
        Ok(common.map(|(fact, _)| {
            format!(
                "{} of {} steps run here because of one fact; the store knows them with another: {fact}",
                missed.len(),
                plan.steps.len()
            )
        }))
    }
}

/// A difference in what machines differ by, without the way to it; `None` for one in what people write.
fn machine_fact(difference: &str) -> Option<String> {
    let fact = ["resource ", "env ", "platform"].iter().filter_map(|kind| {
        let at = difference.find(kind)?;
        let stands_alone = at == 0 || difference[..at].ends_with(": ") || difference[..at].ends_with("… ");
        stands_alone.then(|| &difference[at..])
    });
    fact.min_by_key(|fact| std::cmp::Reverse(fact.len())).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::machine_fact;

    #[test]
    fn facts_of_the_machine_are_told_without_the_way_to_them() {
        let check =
            |text: &str, fact: Option<&str>| assert_eq!(machine_fact(text).as_deref(), fact, "{text}");
        check("resource python: 3.11.2 → 3.11.7", Some("resource python: 3.11.2 → 3.11.7"));
        check("input dog: resource python: 3.11.2 → 3.11.7", Some("resource python: 3.11.2 → 3.11.7"));
        check(
            "input dog: … platform: linux/x86_64 → linux/aarch64",
            Some("platform: linux/x86_64 → linux/aarch64"),
        );
        check("config.tree_species: douglas_fir → red_maple", None);
        check("config.text: a resource → b", None);
    }
}
