//! What happened in a run and when, read off its chronicle: what traces of every form are made from. Pure.

use cas_engine::chronicle::{Chronicle, ChronicleStep};
use cas_engine::event::Outcome;
use cas_engine::execute::Failure;

/// One thing that happened with a step.
pub(crate) struct Entry<'a> {
    /// The step's place among those of the chronicle.
    pub(crate) index: usize,
    /// The step.
    pub(crate) step: &'a ChronicleStep,
    /// The worker that had it, if one had.
    pub(crate) worker: Option<u32>,
    /// What it was.
    pub(crate) what: What<'a>,
}

/// What can happen with a step. Times are milliseconds since 1970.
pub(crate) enum What<'a> {
    /// An attempt that had not ended when the run was noted last.
    Running { from_ms: u64, until_ms: u64 },
    /// Everything that it consumes was there, and it waited: for a worker, or for another process that made it.
    Waits { from_ms: u64, until_ms: u64, joined: bool },
    /// An attempt, the first being 1.
    Attempt { number: usize, from_ms: u64, elapsed_ms: u64, failure: Option<&'a Failure>, outcome: Outcome },
    /// It had its outcome without an attempt.
    Settled { at_ms: u64, outcome: Outcome },
}

/// Everything that happened, step by step in the order of the chronicle.
pub(crate) fn timeline(chronicle: &Chronicle) -> Vec<Entry<'_>> {
    let record = &chronicle.record;
    let ended_ms = record.ended_ms.unwrap_or(record.noted_ms);
    let mut entries = Vec::new();
    for (index, step) in chronicle.steps.iter().enumerate() {
        let worker = worker(step);
        let mut add = |worker, what| entries.push(Entry { index, step, worker, what });
        if let (Some(running), None) = (&step.running, record.ended_ms) {
            add(worker, What::Running { from_ms: running.started_ms, until_ms: ended_ms });
            continue;
        }
        let (Some(noted), Some(outcome)) = (&step.record, step.outcome) else {
            if let Some(outcome) = step.outcome {
                add(None, What::Settled { at_ms: record.started_ms, outcome });
            }
            continue;
        };
        let first = noted.attempts.iter().map(|attempt| attempt.started_ms).find(|at_ms| *at_ms > 0);
        let until_ms = first.or((outcome == Outcome::Joined).then_some(noted.ended_ms)).unwrap_or(0);
        if noted.ready_ms > 0 && until_ms >= noted.ready_ms {
            add(worker, What::Waits { from_ms: noted.ready_ms, until_ms, joined: first.is_none() });
        }
        for (number, attempt) in noted.attempts.iter().enumerate() {
            if attempt.started_ms > 0 {
                let what = What::Attempt {
                    number: number + 1,
                    from_ms: attempt.started_ms,
                    elapsed_ms: attempt.elapsed_ms,
                    failure: attempt.failure.as_ref(),
                    outcome,
                };
                add(worker, what);
            }
        }
        if first.is_none() {
            add(worker, What::Settled { at_ms: noted.ended_ms, outcome });
        }
    }
    entries
}

/// The worker that has, or had, a step.
pub(crate) fn worker(step: &ChronicleStep) -> Option<u32> {
    let running = step.running.as_ref().map(|running| running.worker);
    running.or_else(|| step.record.as_ref().and_then(|record| record.worker))
}
