//! Why a step runs, or what it was made by, in words: what is behind `explain`, `status` and the line that a
//! run prints for each step that it starts.
//!
//! The facts of a version are compared with those of the earlier versions of the same step, the last eight that
//! are on record; the one with the fewest differences tells what changed. Nothing here decides anything.

use std::collections::HashMap;

use cas_store::{Evicted, Found, Judgement, Moment, Trace, Version};

use crate::attempt::Task;
use crate::error::EngineError;
use crate::explain::{self, Difference};
use crate::graph::{StepId, StepInput};
use crate::memo::{self, Memo};
use crate::plan::Plan;
use crate::record::Provenance;
use crate::resolve::{self, Resolved, StepState, Why};
use crate::version::FactNode;

/// How many earlier versions of a step are compared.
const MOMENTS: usize = 8;

/// Why a step would run, or what its result was made by.
#[derive(Debug, Clone)]
pub struct Explanation {
    /// The step.
    pub step: String,
    /// Whether it would run.
    pub to_run: bool,
    /// It would run only because something above it does, and may turn out unchanged.
    pub may_be_unchanged: bool,
    /// Its result, if one is on record.
    pub made: Option<Found>,
    /// The key that its result stands under, where that is known.
    pub trace: Option<Trace>,
    /// What was said of the result and stands: that it counts as absent, or was accepted.
    pub said: Vec<Judgement>,
    /// Where that came from.
    pub provenance: Option<Provenance>,
    /// Why it would run: from this step up to the first cause. Empty where it would not.
    pub chain: Vec<Because>,
}

/// One link of the chain: why one step would run.
#[derive(Debug, Clone)]
pub struct Because {
    /// The step.
    pub step: String,
    /// The kind of the cause.
    pub why: Why,
    /// The cause in words.
    pub words: String,
    /// The earlier version that it was compared with.
    pub compared: Option<Moment>,
    /// What differs from that.
    pub differences: Vec<Difference>,
    /// Its bytes were given up on purpose.
    pub evicted: Option<Evicted>,
}

/// What differs from the nearest earlier version of a step.
struct Compared {
    moment: Moment,
    differences: Vec<Difference>,
}

impl Memo {
    /// The first cause why a step would run, in words; `None` for one that would not.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn why(&self, plan: &Plan, resolved: &Resolved, step: StepId) -> Result<Option<String>, EngineError> {
        if !resolved.states[step.0 as usize].to_run {
            return Ok(None);
        }
        Ok(self.chain(plan, resolved, step)?.pop().map(|last| {
            if last.step == plan.graph.step_name(step) {
                last.words
            } else {
                format!("`{}`: {}", last.step, last.words)
            }
        }))
    }

    /// Explains a step: why it would run, down to the first cause, or what its result was made by.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn explain(
        &self,
        plan: &Plan,
        resolved: &Resolved,
        step: StepId,
    ) -> Result<Explanation, EngineError> {
        let state = &resolved.states[step.0 as usize];
        let made = state.found.clone();
        let provenance = match &made {
            Some(found) => self.provenance(&found.trace)?,
            None => None,
        };
        let trace = made.as_ref().map(|found| found.trace).or(state.trace);
        let judged = self.judged(trace.as_slice())?.pop();
        let said = judged.map(|judged| judged.marks.into_iter().map(|(_, judgement)| judgement).collect());
        Ok(Explanation {
            trace,
            said: said.unwrap_or_default(),
            step: plan.graph.step_name(step),
            to_run: state.to_run,
            may_be_unchanged: state.may_be_unchanged,
            made,
            provenance,
            chain: if state.to_run { self.chain(plan, resolved, step)? } else { Vec::new() },
        })
    }

    /// From a step that is to run up to the first cause. Each link stands above the one before, so it ends.
    fn chain(&self, plan: &Plan, resolved: &Resolved, step: StepId) -> Result<Vec<Because>, EngineError> {
        let mut chain = Vec::new();
        let mut next = Some(step);
        while let Some(step) = next {
            let because = self.because(plan, &resolved.states, step)?;
            next = match because.why {
                Why::Inputs => above(plan, &resolved.states, step, &because.differences),
                Why::Forced | Why::Volatile | Why::Expired | Why::New | Why::Bytes => None,
            };
            chain.push(because);
        }
        Ok(chain)
    }

    fn because(&self, plan: &Plan, states: &[StepState], step: StepId) -> Result<Because, EngineError> {
        let state = &states[step.0 as usize];
        let why = state.why.unwrap_or(Why::New);
        let compared = match why {
            Why::New | Why::Inputs => self.compare(plan, states, step)?,
            Why::Forced | Why::Volatile | Why::Expired | Why::Bytes => None,
        };
        let evicted = state.found.as_ref().and_then(|found| found.record.evicted.clone());
        let forgotten = match why {
            Why::New => self.forgotten_in_words(state.trace)?,
            Why::Forced | Why::Volatile | Why::Expired | Why::Inputs | Why::Bytes => None,
        };
        let words =
            forgotten.unwrap_or_else(|| words(plan, states, step, why, compared.as_ref(), evicted.as_ref()));
        let (compared, differences) = match compared {
            Some(Compared { moment, differences }) => (Some(moment), differences),
            None => (None, Vec::new()),
        };
        Ok(Because { step: plan.graph.step_name(step), why, words, compared, differences, evicted })
    }

    /// Compares a step with the nearest of its earlier versions; `None` where there is none, or its own is not
    /// known yet.
    fn compare(
        &self,
        plan: &Plan,
        states: &[StepState],
        step: StepId,
    ) -> Result<Option<Compared>, EngineError> {
        let label = memo::label(&plan.graph.pipeline.name, &plan.graph.step_name(step));
        let moments = self.history(&label, MOMENTS)?;
        let own = states[step.0 as usize].version;
        let moments: Vec<Moment> = moments.into_iter().filter(|moment| Some(moment.version) != own).collect();
        if moments.is_empty() {
            return Ok(None);
        }
        let facts = plan.facts(
            step,
            &self.secret_key(),
            &mut |above| states[above.0 as usize].version.or(plan.versions[above.0 as usize]),
            &mut |output| resolve::content(states, output),
            &mut |_| true,
        );
        let versions: Vec<Version> = moments.iter().map(|moment| moment.version).collect();
        self.nearest(&moments, self.facts(&versions)?, facts)
    }

    fn nearest(
        &self,
        moments: &[Moment],
        earlier: Vec<Option<FactNode>>,
        facts: Vec<(Version, FactNode)>,
    ) -> Result<Option<Compared>, EngineError> {
        let Some(after) = facts.first().map(|(_, node)| node.clone()) else { return Ok(None) };
        let mut nodes: HashMap<Version, Option<FactNode>> =
            facts.into_iter().map(|(version, node)| (version, Some(node))).collect();
        let (candidates, kept): (Vec<FactNode>, Vec<&Moment>) =
            earlier.into_iter().zip(moments).filter_map(|(node, moment)| Some((node?, moment))).unzip();
        let mut broken = None;
        let nearest = explain::nearest(&candidates, &after, &mut |version| {
            nodes
                .entry(*version)
                .or_insert_with(|| match self.facts(&[*version]) {
                    Ok(mut nodes) => nodes.pop().flatten(),
                    Err(error) => {
                        broken.get_or_insert(error);
                        None
                    }
                })
                .clone()
        });
        match broken {
            Some(error) => Err(error),
            None => {
                Ok(nearest.map(|(index, differences)| Compared { moment: kept[index].clone(), differences }))
            }
        }
    }

    /// The first cause why a step is about to run, in words. What cannot be read is not worth failing for.
    pub(crate) fn cause_in_words(&self, plan: &Plan, task: &Task) -> Option<String> {
        let label = memo::label(&plan.graph.pipeline.name, &task.name);
        match task.why {
            Why::Forced => return Some(FORCED.to_owned()),
            Why::Volatile => return Some(VOLATILE.to_owned()),
            Why::Expired => return Some(EXPIRED.to_owned()),
            Why::Bytes => return Some(GONE.to_owned()),
            Why::New | Why::Inputs => {}
        }
        if let Ok(Some(words)) = self.forgotten_in_words(Some(task.trace)) {
            return Some(words);
        }
        let moments = self.history(&label, MOMENTS).ok()?;
        let moments: Vec<Moment> =
            moments.into_iter().filter(|moment| moment.version != task.version).collect();
        if moments.is_empty() {
            return None;
        }
        let content: HashMap<_, _> =
            task.consumes.iter().map(|stored| (stored.output, stored.artifact.as_ref())).collect();
        let versions: HashMap<StepId, Version> = task.above.iter().copied().collect();
        let facts = plan.facts(
            task.step,
            &self.secret_key(),
            &mut |above| versions.get(&above).copied().or(plan.versions[above.0 as usize]),
            &mut |output| {
                Some(match content.get(&output)? {
                    Some(artifact) => crate::version::InputContent::Artifact(artifact),
                    None => crate::version::InputContent::Absent,
                })
            },
            &mut |_| true,
        );
        let earlier: Vec<Version> = moments.iter().map(|moment| moment.version).collect();
        let compared = self.nearest(&moments, self.facts(&earlier).ok()?, facts).ok()??;
        Some(summary(&compared.differences))
    }
}

const FORCED: &str = "it was asked to run again";
const VOLATILE: &str = "it runs in every run (`version: volatile`)";
const EXPIRED: &str = "its result is older than `every` allows";
const GONE: &str = "bytes of its result are not in the store";

/// The first difference, and how many more there are; one that says something before one that does not.
fn summary(differences: &[Difference]) -> String {
    let first = differences.iter().find(|difference| !difference.opaque).or(differences.first());
    match (first, differences.len()) {
        (None, _) => "what it was made of is not on record".to_owned(),
        (Some(first), 1) => first.to_string(),
        (Some(first), count) => format!("{first} (and {} more)", count - 1),
    }
}

fn words(
    plan: &Plan,
    states: &[StepState],
    step: StepId,
    why: Why,
    compared: Option<&Compared>,
    evicted: Option<&Evicted>,
) -> String {
    match why {
        Why::Forced => FORCED.to_owned(),
        Why::Volatile => VOLATILE.to_owned(),
        Why::Expired => EXPIRED.to_owned(),
        Why::Bytes => match evicted {
            Some(evicted) => format!("its bytes were given up: {}", evicted.why),
            None => GONE.to_owned(),
        },
        Why::New => match compared {
            Some(compared) => summary(&compared.differences),
            None if states[step.0 as usize].row.is_some() => {
                "what it consumes has other content now".to_owned()
            }
            None => "it has not run yet".to_owned(),
        },
        Why::Inputs => match above(plan, states, step, &[]) {
            Some(above) => format!("`{}` runs before it", plan.graph.step_name(above)),
            None => "what it consumes is not known yet".to_owned(),
        },
    }
}

/// The step above because of which this one runs: one whose input is named among the differences, if there is
/// one, else the first that is to run.
fn above(plan: &Plan, states: &[StepState], step: StepId, differences: &[Difference]) -> Option<StepId> {
    let declared = &plan.graph.invocation(step).inputs;
    let inputs = &plan.graph.steps[step.0 as usize].inputs;
    let differs = |name: &str| {
        differences.iter().any(|difference| {
            let label = difference.label.strip_prefix("input ");
            label.is_some_and(|label| label.split([':', '/', '[']).next() == Some(name))
        })
    };
    let to_run = |input: &StepInput| {
        let mut outputs: Box<dyn Iterator<Item = StepId> + '_> = match input {
            StepInput::Output(output) => Box::new(std::iter::once(output.step)),
            StepInput::FanIn(outputs) => Box::new(outputs.iter().map(|output| output.step)),
            StepInput::Gather(elements) => Box::new(elements.iter().map(|(_, output)| output.step)),
            StepInput::Path(_) | StepInput::Value(_) | StepInput::Probe(_) => Box::new(std::iter::empty()),
        };
        outputs.find(|above| states[above.0 as usize].to_run)
    };
    let named = declared.iter().zip(inputs).filter(|(declared, _)| differs(&declared.name));
    named.map(|(_, input)| input).find_map(to_run).or_else(|| inputs.iter().find_map(to_run))
}
