//! What the last runs of a pipeline tell of its steps: which failed last, and how long each took.

use std::collections::HashMap;

use cas_store::Version;

use crate::error::EngineError;
use crate::event::Outcome;
use crate::memo::Memo;

/// How many of the last runs are asked.
const RUNS: usize = 16;

/// What the last runs tell of the steps of a pipeline, by their names.
#[derive(Debug, Clone, Default)]
pub struct Past {
    failed: HashMap<String, (u64, Option<Version>)>,
    took_ms: HashMap<String, u64>,
}

/// How a step failed last.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Failed {
    /// In which run.
    pub(crate) run: u64,
    /// Whether it had the very version that it has now.
    pub(crate) same: bool,
}

impl Past {
    /// In which run a step failed; `None` for one that has had a result since.
    pub(crate) fn failed(&self, step: &str, version: Option<Version>) -> Option<Failed> {
        let (run, of) = self.failed.get(step)?;
        Some(Failed { run: *run, same: of.is_some() && version == *of })
    }

    /// How long a step took when it ran last, in milliseconds.
    pub(crate) fn took_ms(&self, step: &str) -> Option<u64> {
        self.took_ms.get(step).copied()
    }

    /// The steps of which it is known how long they took.
    pub(crate) fn durations(&self) -> impl Iterator<Item = (&str, u64)> {
        self.took_ms.iter().map(|(step, took)| (step.as_str(), *took))
    }
}

impl Memo {
    /// What the last runs of a pipeline tell.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn past(&self, pipeline: &str) -> Result<Past, EngineError> {
        let mut last: HashMap<String, Option<(u64, Option<Version>)>> = HashMap::new();
        let mut took_ms = HashMap::new();
        // Newest first.
        for (run, record) in self.runs(None, RUNS)? {
            for step in record.steps.into_iter().filter(|_| record.pipeline == pipeline) {
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
                last.entry(step.step).or_insert(failed);
            }
        }
        let failed = last.into_iter().filter_map(|(step, failed)| Some((step, failed?))).collect();
        Ok(Past { failed, took_ms })
    }
}
