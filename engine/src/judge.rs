//! Forgetting a step's result and accepting an earlier one for changed code: what may be said of which results,
//! and who said what.
//!
//! Accepting is for code that changed where the result did not. What a step is given and its config have to be
//! those of the result that is to answer: those are what results differ by, and nobody's word is taken for them.

use std::collections::{BTreeSet, HashMap};

use cas_store::{Accept, Found, Judged, Judgement, Mark, Said, Saying, Trace};

use crate::attempt::Stored;
use crate::error::EngineError;
use crate::explain::{self, Difference};
use crate::given;
use crate::graph::StepId;
use crate::lineage::Lineage;
use crate::memo::{self, Memo};
use crate::plan::Plan;
use crate::record::Provenance;
use crate::resolve::{self, Resolved, StepState};
use crate::solid::{Declared, Solid};
use crate::version;

/// How many moments of a step are looked through for a result that may answer.
const MOMENTS: usize = 1000;

/// What came of asking that an earlier result be accepted.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "there is one a command, taken apart where it arrives")]
pub enum Accepted {
    /// It answers now.
    Done {
        /// The judgement.
        judgement: Judgement,
        /// When the result that answers was made.
        made_ms: u64,
        /// What differs from the version that it was made under: what was accepted.
        differences: Vec<Difference>,
    },
    /// A result of its own is stored: there is nothing to accept.
    Stored,
    /// It stands below an output that was not produced.
    Absent,
    /// It runs in every run, whatever is stored.
    Volatile,
    /// What it consumes is not known before this step has run, or was accepted.
    Above(String),
    /// No earlier result is on record.
    NoEarlier,
    /// The earlier results were made of something else: this differs from the newest.
    Other(Vec<String>),
    /// This output is to be a list, and the earlier result's is none.
    NoList(String),
    /// Another process was faster.
    Overtaken,
}

impl Memo {
    /// Lets the present result of a step, and what was made from it, count as absent; `None` where none is stored.
    ///
    /// # Errors
    /// The store cannot be read or written.
    pub fn forget(
        &self,
        plan: &Plan,
        resolved: &Resolved,
        step: StepId,
        saying: &Saying,
    ) -> Result<Option<Judgement>, EngineError> {
        let Some(found) = &resolved.states[step.0 as usize].found else { return Ok(None) };
        let label = memo::label(&plan.graph.pipeline.name, &plan.graph.step_name(step));
        self.forget_result(found, &label, saying)
    }

    /// Lets a result, and what was made from it, count as absent. What was made from an earlier result of the same trace,
    /// with other content, is left alone. `None` where it is gone, or counts as absent already.
    ///
    /// # Errors
    /// The store cannot be read or written.
    pub fn forget_result(
        &self,
        found: &Found,
        label: &str,
        saying: &Saying,
    ) -> Result<Option<Judgement>, EngineError> {
        let forget = Lineage::new(self).forgotten_with(found)?;
        Ok(self.open()?.forget(forget, label, saying.clone())?)
    }

    /// Lets the newest earlier result of a step that was made of the same inputs and config answer for it.
    ///
    /// # Errors
    /// The store cannot be read or written.
    pub fn accept(
        &self,
        plan: &Plan,
        resolved: &Resolved,
        step: StepId,
        saying: &Saying,
    ) -> Result<Accepted, EngineError> {
        let states = &resolved.states;
        let state = &states[step.0 as usize];
        let solid = plan.graph.solid(step);
        if matches!(solid.version, Some(Declared::Volatile)) {
            return Ok(Accepted::Volatile);
        }
        if state.skipped {
            return Ok(Accepted::Absent);
        }
        if state.found.is_some() {
            return Ok(Accepted::Stored);
        }
        let (Some(trace), Some(version)) = (state.trace, state.version) else {
            return Ok(Accepted::Above(above(plan, states, step)));
        };
        let label = memo::label(&plan.graph.pipeline.name, &plan.graph.step_name(step));
        let own = self.made_of(plan, states, step);
        let (mut other, mut no_list) = (None, None);
        for (found, made) in self.earlier(plan, step, &label, trace)? {
            let differing = differing(&own, &made);
            if !differing.is_empty() {
                other.get_or_insert(differing);
                continue;
            }
            // What is mapped over it could not be planned.
            if let Some(output) = self.no_list(solid, &found)? {
                no_list.get_or_insert(output);
                continue;
            }
            let facts = plan.facts(
                step,
                &self.secret_key(),
                &mut |above| states[above.0 as usize].version,
                &mut |output| resolve::content(states, output),
                &mut |_| true,
            );
            let differences = self.accepted_differences(&made, &facts)?;
            let encoded = facts
                .iter()
                .filter_map(|(version, node)| Some((*version, crate::record::encode_facts(node).ok()?)));
            let accept = Accept {
                trace,
                from: found.trace,
                rows: plan.rows(step, &version),
                facts: encoded.collect(),
                history: Some((label.clone(), version)),
            };
            let made_ms = found.record.made_ms;
            return Ok(match self.open()?.accept(accept, &label, saying.clone())? {
                Some(judgement) => Accepted::Done { judgement, made_ms, differences },
                None => Accepted::Overtaken,
            });
        }
        Ok(match (no_list, other) {
            (Some(output), _) => Accepted::NoList(output),
            (None, Some(differing)) => Accepted::Other(differing),
            (None, None) => Accepted::NoEarlier,
        })
    }

    /// The first output that is to be a list, and of which the store has none under this result.
    fn no_list(&self, solid: &Solid, found: &Found) -> Result<Option<String>, EngineError> {
        for (at, declared) in (0..).zip(&solid.outputs) {
            if declared.list && self.list(found, at)?.is_none() {
                return Ok(Some(declared.name.clone()));
            }
        }
        Ok(None)
    }

    /// The earlier results of a step, newest first, with where they came from.
    fn earlier(
        &self,
        plan: &Plan,
        step: StepId,
        label: &str,
        trace: Trace,
    ) -> Result<Vec<(Found, Provenance)>, EngineError> {
        let mut seen = BTreeSet::from([trace]);
        let mut traces = Vec::new();
        for moment in self.history(label, MOMENTS)? {
            if seen.insert(moment.trace) {
                traces.push(moment.trace);
            }
        }
        let solid = plan.graph.solid(step);
        let mut earlier = Vec::new();
        for found in self.results(&traces)?.into_iter().flatten() {
            if resolve::fits(solid, &found)
                && let Some(made) = self.provenance(&found.trace)?
                && made.solid == solid.name
            {
                earlier.push((found, made));
            }
        }
        Ok(earlier)
    }

    /// What a step would be made of now: its config and its inputs, by name.
    fn made_of(&self, plan: &Plan, states: &[StepState], step: StepId) -> (String, Vec<(String, String)>) {
        let mut consumes = Vec::new();
        plan.graph.each_input(step, &mut |output| {
            let state = &states[output.step.0 as usize];
            let artifact = state.artifact(output.output).cloned();
            let trace = state.found.as_ref().map(|found| found.trace);
            let made_ms = state.found.as_ref().map(|found| found.record.made_ms);
            consumes.push(Stored { output, artifact, trace, made_ms, left_out: false });
        });
        let inputs = given::inputs(plan, step, &consumes, &[]);
        let inputs = inputs.into_iter().map(|input| (input.name, input.content)).collect();
        (version::shown_config(&plan.graph.config(step), &self.secret_key()).to_string(), inputs)
    }

    /// What differs between the version that a result was made under and the one that it is to answer for, but for
    /// inputs: their content is the same.
    fn accepted_differences(
        &self,
        made: &Provenance,
        facts: &[(cas_store::Version, version::FactNode)],
    ) -> Result<Vec<Difference>, EngineError> {
        let Some(before) = self.facts(&[made.version])?.pop().flatten() else { return Ok(Vec::new()) };
        let Some((_, after)) = facts.first() else { return Ok(Vec::new()) };
        let known: HashMap<_, _> = facts.iter().map(|(version, node)| (*version, node.clone())).collect();
        let mut broken = None;
        let mut differences = explain::differences(&before, after, &mut |version| {
            known.get(version).cloned().or_else(|| match self.facts(&[*version]) {
                Ok(mut nodes) => nodes.pop().flatten(),
                Err(error) => {
                    broken.get_or_insert(error);
                    None
                }
            })
        });
        differences.retain(|difference| !difference.label.starts_with("input "));
        broken.map_or(Ok(differences), Err)
    }

    /// What stands under these traces, also what counts as absent, and what was said of it.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn judged(&self, traces: &[Trace]) -> Result<Vec<Judged>, EngineError> {
        match self.store() {
            Some(store) if !traces.is_empty() => Ok(store.judged(traces)?),
            _ => Ok(traces.iter().map(|_| Judged { found: None, marks: Vec::new() }).collect()),
        }
    }

    /// All judgements of the store, oldest first.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn judgements(&self) -> Result<Vec<Judgement>, EngineError> {
        match self.store() {
            Some(store) => Ok(store.judgements()?),
            None => Ok(Vec::new()),
        }
    }

    /// The steps whose result is one that was accepted, in the order of the plan.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn accepted(
        &self,
        plan: &Plan,
        resolved: &Resolved,
    ) -> Result<Vec<(StepId, Judgement)>, EngineError> {
        self.marked(plan, resolved, Said::Accept, Mark::Accepted)
    }

    /// The steps whose result counts as absent, in the order of the plan.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn forgotten(
        &self,
        plan: &Plan,
        resolved: &Resolved,
    ) -> Result<Vec<(StepId, Judgement)>, EngineError> {
        self.marked(plan, resolved, Said::Forget, Mark::Forgotten)
    }

    fn marked(
        &self,
        plan: &Plan,
        resolved: &Resolved,
        said: Said,
        wanted: Mark,
    ) -> Result<Vec<(StepId, Judgement)>, EngineError> {
        // Nothing was ever said of most stores: then nothing is asked of each step.
        if !self.judgements()?.iter().any(|judgement| judgement.said == said && judgement.revoked.is_none()) {
            return Ok(Vec::new());
        }
        let of = |step: &StepId| {
            let state = &resolved.states[step.0 as usize];
            Some((*step, state.found.as_ref().map(|found| found.trace).or(state.trace)?))
        };
        let (steps, traces): (Vec<StepId>, Vec<Trace>) = plan.steps.iter().filter_map(of).unzip();
        let judged = self.judged(&traces)?;
        let marked = steps.into_iter().zip(judged).filter_map(|(step, judged)| {
            let (_, judgement) = judged.marks.into_iter().find(|(mark, _)| *mark == wanted)?;
            Some((step, judgement))
        });
        Ok(marked.collect())
    }

    /// Why the result of a trace counts as absent, in words, if that is why there is none.
    pub(crate) fn forgotten_in_words(&self, trace: Option<Trace>) -> Result<Option<String>, EngineError> {
        let Some(trace) = trace else { return Ok(None) };
        let Some(judged) = self.judged(&[trace])?.pop() else { return Ok(None) };
        Ok(judged.forgotten().map(|judgement| words(judgement, trace)))
    }
}

/// What is said of the result of a trace because of a judgement.
pub fn words(judgement: &Judgement, trace: Trace) -> String {
    let Judgement { saying, label, said, .. } = judgement;
    let step = label.split_once('/').map_or(label.as_str(), |(_, step)| step);
    match (said, &judgement.revoked) {
        (Said::Forget, _) if judgement.trace == trace => {
            format!("its result was forgotten by {}: {}", saying.by, saying.reason)
        }
        (Said::Forget, _) => {
            format!("it was made from `{step}`, which was forgotten by {}: {}", saying.by, saying.reason)
        }
        (Said::Accept, None) if judgement.trace == trace => {
            format!("accepted by {}: {}", saying.by, saying.reason)
        }
        (Said::Accept, Some(revoked)) if judgement.trace == trace => {
            let reason =
                if revoked.reason.is_empty() { String::new() } else { format!(": {}", revoked.reason) };
            format!("that its result was accepted was taken back by {}{reason}", revoked.by)
        }
        (Said::Accept, _) => format!("it was made from `{step}`, which was accepted by {}", saying.by),
    }
}

/// The names of what one was made of and the other was not.
fn differing(own: &(String, Vec<(String, String)>), made: &Provenance) -> Vec<String> {
    let (config, inputs) = own;
    let mut differing = Vec::new();
    if *config != made.config {
        differing.push("its config".to_owned());
    }
    for (name, content) in inputs {
        match made.inputs.iter().find(|input| input.name == *name) {
            Some(input) if input.content == *content => {}
            Some(_) | None => differing.push(format!("its input `{name}`")),
        }
    }
    let gone = made.inputs.iter().filter(|input| !inputs.iter().any(|(name, _)| *name == input.name));
    differing.extend(gone.map(|input| format!("its input `{}`", input.name)));
    differing
}

/// The first step above because of which it is not known what a step would be given.
fn above(plan: &Plan, states: &[StepState], step: StepId) -> String {
    let mut first = None;
    plan.graph.each_input(step, &mut |output| {
        if !states[output.step.0 as usize].settled {
            first.get_or_insert(output.step);
        }
    });
    plan.graph.step_name(first.unwrap_or(step))
}
