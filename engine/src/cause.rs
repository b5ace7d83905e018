//! Why a step runs, or what it was made by, in words: what is behind `explain`, `status` and the line that a
//! run prints for each step that it starts.
//!
//! The facts of a version are compared with those of the earlier versions of the same step, the last eight that
//! are on record; the one with the fewest differences tells what changed. Nothing here decides anything.

mod content;
mod labels;

use std::collections::HashMap;

use cas_store::{Evicted, Found, Judgement, LEFT_OUT, Moment, Replacement, Trace, Version};

use crate::attempt::Task;
use crate::error::EngineError;
use crate::explain::{self, Difference};
use crate::graph::{OutputId, StepId, StepInput};
use crate::memo::{self, Memo};
use crate::past::{Failed, MadeOf, Past, Skipped};
use crate::plan::Plan;
use crate::record::Provenance;
use crate::resolve::{self, Resolved, StepState, Why};
use crate::solid::Declared;
use crate::version::{FactNode, InputContent};

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
    /// Other contents that the same inputs gave, oldest first: it is not deterministic, if there are any.
    pub other_contents: Vec<Replacement>,
    /// Where that came from.
    pub provenance: Option<Provenance>,
    /// Why it would run: from this step up to the first cause. Empty where it would not.
    pub chain: Vec<Because>,
    /// Where it would run: that the last run that had it did not begin it.
    pub skipped: Option<Skipped>,
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
    /// Whether it ever had a result.
    pub ran_before: bool,
    /// It has to run whatever comes of what is above it.
    is_certain: bool,
}

/// Why a step would run, in a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// The first cause, in words.
    pub words: String,
    /// It would run only because something above it does, and may turn out unchanged: it ran before.
    pub may_be_unchanged: bool,
}

/// What an earlier version of a step tells.
enum Compared {
    /// There is none: it never had a result.
    Never,
    /// There is none, and there is one of a step that is not there any longer and was made of the same.
    Renamed(String),
    /// It had a result under this very version, made from other content.
    Content {
        /// What that was.
        words: String,
        /// The inputs whose content is another, each.
        differences: Vec<Difference>,
    },
    /// The nearest one, and what differs from it.
    Nearest { moment: Moment, differences: Vec<Difference> },
    /// There are some, and what they were made of is not on record.
    Unknown,
}

impl Compared {
    fn differences(&self) -> &[Difference] {
        match self {
            Self::Nearest { differences, .. } => differences,
            Self::Never | Self::Renamed(_) | Self::Content { .. } | Self::Unknown => &[],
        }
    }
}

/// Whether a step below one that is to run has to run for itself (see `certain.rs`), and it can be said for what.
fn is_certain(state: &StepState, differences: &[Difference]) -> bool {
    !state.may_be_unchanged && !differences.is_empty()
}

impl Memo {
    /// The first cause why a step would run; `None` for one that would not.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn why(
        &self,
        plan: &Plan,
        resolved: &Resolved,
        past: &Past,
        step: StepId,
    ) -> Result<Option<Cause>, EngineError> {
        let state = &resolved.states[step.0 as usize];
        if !state.to_run {
            return Ok(None);
        }
        let chain = self.chain(plan, resolved, past, step)?;
        let may_be_unchanged = state.may_be_unchanged && chain.first().is_some_and(|link| link.ran_before);
        Ok(chain.into_iter().next_back().map(|last| {
            let words = if last.step == plan.graph.step_name(step) {
                last.words
            } else {
                format!("`{}`: {}", last.step, last.words)
            };
            Cause { words, may_be_unchanged }
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
        past: &Past,
        step: StepId,
    ) -> Result<Explanation, EngineError> {
        let state = &resolved.states[step.0 as usize];
        let made = state.found.clone();
        let provenance = match &made {
            Some(found) => self.provenance(&found.trace)?,
            None => None,
        };
        let chain = if state.to_run { self.chain(plan, resolved, past, step)? } else { Vec::new() };
        let trace = made.as_ref().map(|found| found.trace).or(state.trace);
        let judged = self.judged(trace.as_slice())?.pop();
        let said = judged.map(|judged| judged.marks.into_iter().map(|(_, judgement)| judgement).collect());
        let dated = matches!(plan.graph.solid(step).version, Some(Declared::Volatile | Declared::Every(_)));
        let other_contents = match trace.filter(|_| !dated) {
            Some(trace) => self.other_contents(&trace)?,
            None => Vec::new(),
        };
        Ok(Explanation {
            other_contents,
            trace,
            said: said.unwrap_or_default(),
            step: plan.graph.step_name(step),
            to_run: state.to_run,
            may_be_unchanged: state.may_be_unchanged && chain.first().is_some_and(|link| link.ran_before),
            made,
            provenance,
            chain,
            skipped: past.skipped(&plan.graph.step_name(step)).filter(|_| state.to_run).cloned(),
        })
    }

    /// From a step that is to run up to the first cause. Each link stands above the one before, so it ends.
    fn chain(
        &self,
        plan: &Plan,
        resolved: &Resolved,
        past: &Past,
        step: StepId,
    ) -> Result<Vec<Because>, EngineError> {
        let mut chain = Vec::new();
        let mut next = Some(step);
        while let Some(step) = next {
            let because = self.because(plan, &resolved.states, past, step)?;
            next = match because.why {
                // What it is made of itself is reason enough.
                Why::Inputs if because.is_certain => None,
                Why::Inputs => above(plan, &resolved.states, step, &because.differences),
                Why::Forced | Why::Volatile | Why::Expired | Why::New | Why::Bytes => None,
            };
            chain.push(because);
        }
        Ok(chain)
    }

    fn because(
        &self,
        plan: &Plan,
        states: &[StepState],
        past: &Past,
        step: StepId,
    ) -> Result<Because, EngineError> {
        let state = &states[step.0 as usize];
        let why = state.why.unwrap_or(Why::New);
        let name = plan.graph.step_name(step);
        let compared = match why {
            Why::New | Why::Inputs => self.compare(plan, states, step)?,
            // It has a result, and that is why.
            Why::Forced | Why::Volatile | Why::Expired | Why::Bytes => Compared::Unknown,
        };
        let evicted = state.found.as_ref().and_then(|found| found.record.evicted.clone());
        let failed = past.failed(&name, state.version);
        let forgotten = match why {
            Why::New => self.forgotten_in_words(state.trace)?,
            Why::Forced | Why::Volatile | Why::Expired | Why::Inputs | Why::Bytes => None,
        };
        let is_certain = why == Why::Inputs && is_certain(state, compared.differences());
        let words = match why {
            Why::New if forgotten.is_some() => forgotten.unwrap_or_default(),
            Why::Forced => FORCED.to_owned(),
            Why::Volatile => VOLATILE.to_owned(),
            Why::Expired => EXPIRED.to_owned(),
            Why::Bytes => gone(evicted.as_ref()),
            Why::New => new(&compared, failed, &name),
            Why::Inputs if is_certain => new(&compared, failed, &name),
            Why::Inputs => match above(plan, states, step, &[]) {
                Some(above) => format!("`{}` runs before it", plan.graph.step_name(above)),
                None => "what it consumes is not known yet".to_owned(),
            },
        };
        let ran_before = !matches!(compared, Compared::Never | Compared::Renamed(_));
        let (compared, differences) = match compared {
            Compared::Nearest { moment, differences } => (Some(moment), differences),
            Compared::Content { differences, .. } => (None, differences),
            Compared::Never | Compared::Renamed(_) | Compared::Unknown => (None, Vec::new()),
        };
        Ok(Because { step: name, why, words, compared, differences, evicted, ran_before, is_certain })
    }

    /// Compares a step with its earlier versions.
    fn compare(&self, plan: &Plan, states: &[StepState], step: StepId) -> Result<Compared, EngineError> {
        let state = &states[step.0 as usize];
        let moments = self.moments(plan, &plan.graph.step_name(step))?;
        let row = state.row.or_else(|| moment_of(&moments, state.version));
        if let (Some(before), Some(trace)) = (row, state.trace)
            && before != trace
        {
            let now = |output: OutputId| {
                states[output.step.0 as usize].artifact(output.output).map(|artifact| artifact.digest)
            };
            return self.content(plan, step, &before, &now);
        }
        let earlier: Vec<Moment> =
            moments.iter().filter(|moment| Some(moment.version) != state.version).cloned().collect();
        if earlier.is_empty() {
            let never = moments.is_empty() && state.row.is_none();
            if never && self.may_be_renamed(plan) {
                let renamed = self.renamed(plan, &self.facts_of(plan, states, step))?;
                return Ok(renamed.map_or(Compared::Never, Compared::Renamed));
            }
            return Ok(if never { Compared::Never } else { Compared::Unknown });
        }
        self.against(plan, step, &earlier, self.facts_of(plan, states, step))
    }

    /// What a step is made of now.
    fn facts_of(&self, plan: &Plan, states: &[StepState], step: StepId) -> Vec<(Version, FactNode)> {
        plan.facts(
            step,
            &self.secret_key(),
            &mut |above| states[above.0 as usize].version.or(plan.versions[above.0 as usize]),
            &mut |output| resolve::content(states, output),
            &mut |_| true,
        )
    }

    /// What differs from the nearest earlier version of a step; `None` where there is none.
    pub(crate) fn differences_of(
        &self,
        plan: &Plan,
        states: &[StepState],
        step: StepId,
    ) -> Result<Option<Vec<Difference>>, EngineError> {
        Ok(match self.compare(plan, states, step)? {
            Compared::Nearest { differences, .. } => Some(differences),
            Compared::Never | Compared::Renamed(_) | Compared::Content { .. } | Compared::Unknown => None,
        })
    }

    /// The latest moments of a step.
    fn moments(&self, plan: &Plan, step: &str) -> Result<Vec<Moment>, EngineError> {
        self.history(&memo::label(&plan.graph.pipeline.name, step), MOMENTS)
    }

    fn against(
        &self,
        plan: &Plan,
        step: StepId,
        earlier: &[Moment],
        facts: Vec<(Version, FactNode)>,
    ) -> Result<Compared, EngineError> {
        let versions: Vec<Version> = earlier.iter().map(|moment| moment.version).collect();
        Ok(match self.nearest(earlier, self.facts(&versions)?, facts)? {
            Some((moment, differences)) => {
                Compared::Nearest { moment, differences: labels::named(plan, step, differences) }
            }
            None => Compared::Unknown,
        })
    }

    fn nearest(
        &self,
        moments: &[Moment],
        earlier: Vec<Option<FactNode>>,
        facts: Vec<(Version, FactNode)>,
    ) -> Result<Option<(Moment, Vec<Difference>)>, EngineError> {
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
            None => Ok(nearest.map(|(index, differences)| (kept[index].clone(), differences))),
        }
    }

    /// The first cause why a step is about to run, in words. What cannot be read is not worth failing for.
    /// `unknown`: whether no step like it had a result before.
    pub(crate) fn cause_in_words(
        &self,
        plan: &Plan,
        task: &Task,
        unknown: &dyn Fn() -> bool,
    ) -> Option<String> {
        match task.why {
            Why::Forced => return Some(FORCED.to_owned()),
            Why::Volatile => return Some(VOLATILE.to_owned()),
            Why::Expired => return Some(EXPIRED.to_owned()),
            Why::Bytes => {
                let found = self.results(&[task.trace]).ok().and_then(|mut found| found.pop().flatten());
                return Some(gone(found.and_then(|found| found.record.evicted).as_ref()));
            }
            Why::New | Why::Inputs => {}
        }
        let compared = if task.fresh && unknown() && !self.may_be_renamed(plan) {
            Compared::Never
        } else {
            if let Ok(Some(words)) = self.forgotten_in_words(Some(task.trace)) {
                return Some(words);
            }
            self.compare_task(plan, task).unwrap_or(Compared::Unknown)
        };
        Some(match (compared, task.failed) {
            (Compared::Never, None) => FIRST.to_owned(),
            (compared, failed) => new(&compared, failed, &task.name),
        })
    }

    /// Compares a step that is about to run with its earlier versions.
    fn compare_task(&self, plan: &Plan, task: &Task) -> Result<Compared, EngineError> {
        let content: HashMap<_, _> = task.consumes.iter().map(|stored| (stored.output, stored)).collect();
        let moments = self.moments(plan, &task.name)?;
        let key = resolve::row_key(plan.graph.solid(task.step), &task.version);
        let row = self.rows(&[key])?.pop().flatten().map(|row| row.trace);
        let before = row.or_else(|| moment_of(&moments, Some(task.version)));
        if let Some(before) = before.filter(|before| *before != task.trace) {
            let now = |output: OutputId| Some(content.get(&output)?.artifact.as_ref()?.digest);
            return self.content(plan, task.step, &before, &now);
        }
        let earlier: Vec<Moment> =
            moments.iter().filter(|moment| moment.version != task.version).cloned().collect();
        if earlier.is_empty() {
            if !moments.is_empty() {
                return Ok(Compared::Unknown);
            }
            // Facts are worth making only where there is something to hold them against.
            if !self.may_be_renamed(plan) {
                return Ok(Compared::Never);
            }
        }
        let versions: HashMap<StepId, Version> = task.above.iter().copied().collect();
        let facts = plan.facts(
            task.step,
            &self.secret_key(),
            &mut |above| versions.get(&above).copied().or(plan.versions[above.0 as usize]),
            &mut |output| {
                let stored = content.get(&output)?;
                Some(match &stored.artifact {
                    // What failed and was left out is no part of what it is made of.
                    None if stored.left_out => InputContent::LeftOut,
                    None => InputContent::Absent,
                    Some(artifact) => InputContent::Artifact(artifact),
                })
            },
            &mut |_| true,
        );
        if earlier.is_empty() {
            return Ok(self.renamed(plan, &facts)?.map_or(Compared::Never, Compared::Renamed));
        }
        match self.against(plan, task.step, &earlier, facts)? {
            Compared::Nearest { moment, differences } => {
                let now = |output: OutputId| content.get(&output)?.artifact.clone();
                let differences = self.without_same_content(plan, task.step, &moment, differences, &now)?;
                Ok(Compared::Nearest { moment, differences })
            }
            other => Ok(other),
        }
    }
}

const FORCED: &str = "it was asked to run again";
const VOLATILE: &str = "it runs in every run (`version: volatile`)";
const EXPIRED: &str = "its result is older than `every` allows";
const GONE: &str = "bytes of its result are not in the store";
const NEVER: &str = "it has not run yet";
const FIRST: &str = "for the first time";

/// `evicted 3 days ago by --max-size 10G`, `evicted just now by …`.
fn evicted_in_words(evicted: &Evicted) -> String {
    let seconds = crate::run::now_ms().saturating_sub(evicted.at_ms) / 1000;
    let (count, unit) = match seconds {
        0 if evicted.why == LEFT_OUT => return "imported just now without its bytes".to_owned(),
        0 => return format!("evicted just now by {}", evicted.why),
        1..60 => (seconds, "second"),
        60..3600 => (seconds / 60, "minute"),
        3600..86_400 => (seconds / 3600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    let plural = if count == 1 { "" } else { "s" };
    if evicted.why == LEFT_OUT {
        return format!("imported {count} {unit}{plural} ago without its bytes");
    }
    format!("evicted {count} {unit}{plural} ago by {}", evicted.why)
}

fn gone(evicted: Option<&Evicted>) -> String {
    match evicted {
        Some(evicted) => evicted_in_words(evicted),
        None => GONE.to_owned(),
    }
}

/// Why a step runs for which there is no result.
fn new(compared: &Compared, failed: Option<Failed>, step: &str) -> String {
    match (compared, failed) {
        (_, Some(Failed { run, made_of: MadeOf::Same }))
        | (Compared::Never, Some(Failed { run, made_of: MadeOf::Unknown })) => {
            format!("it failed in run {run} (`cas logs {step}`)")
        }
        // What it was made of then is not kept: it may be the step, or what it is given.
        (Compared::Never, Some(Failed { run, made_of: MadeOf::Other })) => {
            format!("what it is made of was changed since it failed in run {run} (`cas logs {step}`)")
        }
        (Compared::Renamed(words), _) => words.clone(),
        (Compared::Never, None) => NEVER.to_owned(),
        (Compared::Content { words, .. }, _) => words.clone(),
        (Compared::Nearest { differences, .. }, _) => summary(differences),
        (Compared::Unknown, _) => NOT_ON_RECORD.to_owned(),
    }
}

const NOT_ON_RECORD: &str = "its result is not on record any longer";

/// The result that a step of this version had, if one of the moments is of it.
fn moment_of(moments: &[Moment], version: Option<Version>) -> Option<Trace> {
    moments.iter().find(|moment| Some(moment.version) == version).map(|moment| moment.trace)
}

/// The first difference, and how many more there are; one that says something before one that does not.
fn summary(differences: &[Difference]) -> String {
    let first = differences.iter().find(|difference| !difference.opaque).or(differences.first());
    match (first, differences.len()) {
        (None, _) => "what it was made of is not on record".to_owned(),
        (Some(first), 1) => first.to_string(),
        (Some(first), count) => format!("{first} (and {} more)", count - 1),
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
            StepInput::Output(output) | StepInput::Element { list: output, .. } => {
                Box::new(std::iter::once(output.step))
            }
            StepInput::FanIn(outputs) | StepInput::Unknown(outputs) => {
                Box::new(outputs.iter().map(|output| output.step))
            }
            StepInput::Gather(elements) => Box::new(elements.iter().map(|(_, output)| output.step)),
            StepInput::Path(_) | StepInput::Value(_) | StepInput::Probe(_) => Box::new(std::iter::empty()),
        };
        outputs.find(|above| states[above.0 as usize].to_run)
    };
    let named = declared.iter().zip(inputs).filter(|(declared, _)| differs(&declared.name));
    named.map(|(_, input)| input).find_map(to_run).or_else(|| inputs.iter().find_map(to_run))
}
