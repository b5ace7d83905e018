//! What is taken as it was left, instead of asking anew: the answers and results that are good for one run or for a
//! while only. Pure.
//!
//! A run keeps what it took of them under keys of its own, so that a later one can be given the same: a copy of each
//! such result, by the run, the step's name and its version, and each answer, by the run and what was asked. Neither
//! has a row, so nothing but a run that asks for that very run is ever given one.

use cas_store::{Digest, Trace, Version};

use crate::graph::StepId;
use crate::plan::Plan;
use crate::resolve::StepState;
use crate::solid::{Declared, Solid};

/// The contexts of the keys: none of them is ever the trace of a step.
const RESULT: &str = "cas 2026 result of a run 1";
const ANSWER: &str = "cas 2026 answer of a run 1";
/// The context of labels.
const COPIES: &str = "cas 2026 copies of a step 1";

/// Whether what is good for one run or for a while only is taken as it was left, however old it is (`--frozen`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Frozen {
    /// It is made and asked anew when its time is over.
    #[default]
    No,
    /// As it was left last; what there is none of is made.
    Last,
    /// As this run had it; what that run does not know is an error.
    Run(u64),
}

impl Frozen {
    /// The run whose result a step takes, if it takes one of a given run.
    pub(crate) fn run_of(self, solid: &Solid) -> Option<u64> {
        match self {
            Self::Run(run) if is_dated(solid) => Some(run),
            Self::Run(_) | Self::No | Self::Last => None,
        }
    }
}

/// Whether the results of a solid are good for one run, or for a while only.
pub(crate) fn is_dated(solid: &Solid) -> bool {
    matches!(solid.version, Some(Declared::Volatile | Declared::Every(_)))
}

/// The version under which a run keeps the result that it had of a step: that of the plan, where it is known, because
/// what was left out above it is not known to who asks for it.
pub(crate) fn version(plan: &Plan, states: &[StepState], step: StepId) -> Option<Version> {
    let index = step.0 as usize;
    plan.versions[index].or(states[index].version)
}

/// Where a run keeps the result that it had of a step.
pub(crate) fn result_key(run: u64, step: &str, version: &Version) -> Trace {
    key_of(RESULT, &[&run.to_le_bytes(), step.as_bytes(), version.as_bytes()])
}

/// The label under which the copies of a step's results stand in the history, so that `--keep-last` counts them, and the
/// version under which that of a run does: of those made at one time, that of the newest run is the first. No label of
/// a step is like it: it has no `/`.
pub(crate) fn copy_label(run: u64, pipeline: &str, step: &str, key: &Trace) -> (String, Version) {
    let of = key_of(COPIES, &[pipeline.as_bytes(), step.as_bytes()]);
    let mut version = *key.as_bytes();
    version[..8].copy_from_slice(&(u64::MAX - run).to_be_bytes());
    (format!("taken {of}"), Version::from_bytes(version))
}

/// The label under which what runs were answered to one question stands in the history, and the version under which that
/// of a run does; as with copies, so that `--keep-last` counts them.
pub(crate) fn answer_label(run: u64, pipeline: &str, question: &Digest) -> (String, Version) {
    let of = key_of(COPIES, &[pipeline.as_bytes(), question.as_bytes()]);
    let mut version = *answer_key(run, question).as_bytes();
    version[..8].copy_from_slice(&(u64::MAX - run).to_be_bytes());
    (format!("answered {of}"), Version::from_bytes(version))
}

/// The label under which the last answers to a probe's line stand, asked in one environment or another.
pub(crate) fn asked_label(line: &str, key: &Trace) -> (String, Version) {
    let of = key_of(COPIES, &[line.as_bytes()]);
    (format!("asked {of}"), Version::from_bytes(*key.as_bytes()))
}

/// Where a run keeps what a probe answered.
pub(crate) fn answer_key(run: u64, question: &Digest) -> Trace {
    key_of(ANSWER, &[&run.to_le_bytes(), question.as_bytes()])
}

fn key_of(context: &str, parts: &[&[u8]]) -> Trace {
    let mut hasher = blake3::Hasher::new_derive_key(context);
    for part in parts {
        // A length before each part, so that no two lists of parts are one.
        hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
    }
    Trace::from_bytes(*hasher.finalize().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_runs_steps_or_versions_share_a_key() {
        let version = |byte| Version::from_bytes([byte; 32]);
        let mut keys = vec![
            result_key(1, "a", &version(0)),
            result_key(2, "a", &version(0)),
            result_key(1, "b", &version(0)),
            result_key(1, "a", &version(1)),
            answer_key(1, &Digest::of(b"a")),
            answer_key(1, &Digest::of(b"b")),
            answer_key(2, &Digest::of(b"a")),
        ];
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), 7);
    }

    #[test]
    fn copies_of_one_step_stand_together_the_newest_run_first() {
        let copy = |run, step: &str| {
            copy_label(run, "p", step, &result_key(run, step, &Version::from_bytes([0; 32])))
        };
        assert_eq!(copy(1, "a").0, copy(2, "a").0);
        assert_ne!(copy(1, "a").0, copy(1, "b").0);
        assert!(copy(2, "a").1 < copy(1, "a").1 && copy(300, "a").1 < copy(299, "a").1);
        assert!(!copy(1, "a/b").0.contains('/'));
    }
}
