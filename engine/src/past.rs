//! What the last runs of a pipeline tell of its steps: which failed last, and how long each took.

use std::collections::{BTreeSet, HashMap};

use cas_store::{Trace, Version};

use crate::error::EngineError;
use crate::event::Outcome;
use crate::memo::{self, Memo};
use crate::plan::Plan;
use crate::record::RunRecord;
use crate::resolve::StepState;

/// How many of the last runs are asked.
const RUNS: usize = 16;

/// What the last runs tell of the steps of a pipeline, by their names.
#[derive(Debug, Clone, Default)]
pub struct Past {
    failed: HashMap<String, (u64, Option<Version>)>,
    /// In which run a version of a step failed when it was begun last, whatever became of others of its step since.
    failed_as: HashMap<(String, Version), u64>,
    skipped: HashMap<String, Skipped>,
    took_ms: HashMap<String, u64>,
}

/// How a step failed last.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Failed {
    /// In which run.
    pub(crate) run: u64,
    /// What it was made of then.
    pub(crate) made_of: MadeOf,
}

/// What a step that failed was made of, held against what it is made of now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MadeOf {
    /// The same: it had the very version that it has now.
    Same,
    /// Something else.
    Other,
    /// One of the two versions is not known.
    Unknown,
}

/// That a step was not begun, in the last run that had it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// In which run.
    pub run: u64,
    /// What for, in words.
    pub why: String,
}

impl Past {
    /// In which run a step failed, this version of it before others; `None` for one that has had a result since.
    pub(crate) fn failed(&self, step: &str, version: Option<Version>) -> Option<Failed> {
        let run = version.and_then(|version| self.failed_as.get(&(step.to_owned(), version)));
        if let Some(run) = run {
            return Some(Failed { run: *run, made_of: MadeOf::Same });
        }
        let (run, of) = self.failed.get(step)?;
        let made_of = match (of, version) {
            (Some(then), Some(now)) if *then == now => MadeOf::Same,
            (Some(_), Some(_)) => MadeOf::Other,
            _ => MadeOf::Unknown,
        };
        Some(Failed { run: *run, made_of })
    }

    /// What a step was skipped for in the last run that had it, where that was asked for ([`Memo::past_with_skips`]).
    pub fn skipped(&self, step: &str) -> Option<&Skipped> {
        self.skipped.get(step)
    }

    /// How long a step took when it ran last, here or where its newest result was imported from, in milliseconds.
    pub(crate) fn took_ms(&self, step: &str) -> Option<u64> {
        self.took_ms.get(step).copied()
    }

    /// The steps of which it is known how long they took.
    pub(crate) fn durations(&self) -> impl Iterator<Item = (&str, u64)> {
        self.took_ms.iter().map(|(step, took)| (step.as_str(), *took))
    }
}

/// Of so many steps that did not run in the last runs it is looked up how long they took at all.
const LOOKED_UP: usize = 1000;

impl Memo {
    /// What the last runs of the pipeline of a plan tell, and of steps that are to run and did not run in these how long
    /// making the newest result took that is on record of each: one that was imported, or is older.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn past_of(&self, plan: &Plan, states: &[StepState]) -> Result<Past, EngineError> {
        let mut past = self.past(&plan.graph.pipeline.name)?;
        self.add_durations(plan, states, &mut past)?;
        Ok(past)
    }

    /// Adds how long the steps took of which the last runs do not tell it.
    pub(crate) fn add_durations(
        &self,
        plan: &Plan,
        states: &[StepState],
        past: &mut Past,
    ) -> Result<(), EngineError> {
        let unknown = plan.steps.iter().filter(|step| {
            let state = &states[step.0 as usize];
            state.to_run && state.found.is_none()
        });
        let mut newest: Vec<(String, Trace)> = Vec::new();
        let names = unknown.map(|step| plan.graph.step_name(*step));
        for name in names.filter(|name| !past.took_ms.contains_key(name)).take(LOOKED_UP) {
            let label = memo::label(&plan.graph.pipeline.name, &name);
            newest.extend(self.history(&label, 1)?.pop().map(|moment| (name, moment.trace)));
        }
        let traces: Vec<Trace> = newest.iter().map(|(_, trace)| *trace).collect();
        for ((name, _), found) in newest.into_iter().zip(self.results(&traces)?) {
            past.took_ms.extend(found.map(|found| (name, found.record.cost_ms)));
        }
        Ok(())
    }

    /// What the last runs of a pipeline tell, but for what they skipped.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn past(&self, pipeline: &str) -> Result<Past, EngineError> {
        Ok(of_runs(self.last_runs(pipeline)?))
    }

    /// What the last runs of a pipeline tell, also what they skipped: for that, what newer ones reused is read, too.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn past_with_skips(&self, pipeline: &str) -> Result<Past, EngineError> {
        let runs = self.last_runs(pipeline)?;
        let skipped = self.skips(&runs)?;
        Ok(Past { skipped, ..of_runs(runs) })
    }

    /// The last runs that were of a pipeline, newest first.
    fn last_runs(&self, pipeline: &str) -> Result<Vec<(u64, RunRecord)>, EngineError> {
        let mut runs = self.runs(None, RUNS)?;
        runs.retain(|(_, record)| record.pipeline == pipeline);
        Ok(runs)
    }

    /// The steps that the last run which had them did not begin.
    fn skips(&self, runs: &[(u64, RunRecord)]) -> Result<HashMap<String, Skipped>, EngineError> {
        let mut last: HashMap<&str, Option<Skipped>> = HashMap::new();
        for (run, record) in runs {
            for step in record.steps.iter().filter(|step| step.outcome != Outcome::Cancelled) {
                let why = step.why.as_ref().filter(|_| step.outcome == Outcome::Skipped);
                last.entry(&step.step).or_insert_with(|| Some(Skipped { run: *run, why: why?.clone() }));
            }
        }
        let skipped = last.into_iter().filter_map(|(step, skipped)| Some((step.to_owned(), skipped?)));
        let mut skipped: HashMap<String, Skipped> = skipped.collect();
        // What a run reused is not among what it did. Runs that reused the same have one list of it.
        let mut lists = BTreeSet::new();
        for (run, record) in runs {
            let is_older = |skip: &Skipped| skip.run < *run;
            if !skipped.values().any(is_older) {
                break;
            }
            if !record.reused.is_some_and(|list| lists.insert(list)) {
                continue;
            }
            let reused = self.reused(record)?;
            if reused.is_empty() {
                // The list is gone, and nobody knows which steps it had.
                skipped.retain(|_, skip| !is_older(skip));
            }
            for of in reused {
                if skipped.get(&of.step).is_some_and(is_older) {
                    skipped.remove(&of.step);
                }
            }
        }
        Ok(skipped)
    }
}

/// What runs tell, given newest first, but for what they skipped.
fn of_runs(runs: Vec<(u64, RunRecord)>) -> Past {
    let mut last: HashMap<String, Option<(u64, Option<Version>)>> = HashMap::new();
    let mut last_as: HashMap<(String, Version), Option<u64>> = HashMap::new();
    let mut took_ms = HashMap::new();
    for (run, record) in runs {
        for step in record.steps {
            if step.outcome == Outcome::Ran && !took_ms.contains_key(&step.step) {
                // The attempt that made its result: those that failed before it need not come again.
                let took = step.attempts.last().map_or(step.elapsed_ms, |attempt| attempt.elapsed_ms);
                took_ms.insert(step.step.clone(), took);
            }
            let failed = match step.outcome {
                // It was not begun: what it consumes was not there, and nothing else was to run.
                Outcome::Failed if step.attempts.is_empty() => continue,
                Outcome::Failed => Some((run, step.version)),
                Outcome::Ran | Outcome::Joined | Outcome::Unchanged | Outcome::Reused => None,
                // It was not its turn.
                Outcome::Skipped | Outcome::Cancelled => continue,
            };
            if let Some(version) = step.version {
                last_as.entry((step.step.clone(), version)).or_insert(failed.map(|(run, _)| run));
            }
            last.entry(step.step).or_insert(failed);
        }
    }
    let failed = last.into_iter().filter_map(|(step, failed)| Some((step, failed?))).collect();
    let failed_as = last_as.into_iter().filter_map(|(of, failed)| Some((of, failed?))).collect();
    Past { failed, failed_as, skipped: HashMap::new(), took_ms }
}
