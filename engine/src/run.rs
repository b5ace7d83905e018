//! The loop of a run: schedule out, results in, commit, tell. The clock is read here and passed on as data.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::error::EngineError;
use crate::event::{Event, Summary};
use crate::execute::Cancel;
use crate::memo::{Memo, Wanted};
use crate::plan::Plan;
use crate::source::Environment;

/// How a plan is run.
pub struct RunOptions {
    /// What is wanted.
    pub wanted: Wanted,
    /// How many attempts run at once at most (and the cores that `cpus` are taken from).
    pub jobs: usize,
    /// How much there is of each named limit.
    pub limits: BTreeMap<String, u32>,
    /// Whether what does not depend on a failure still runs.
    pub keep_going: bool,
    /// Whether what each step printed is told (`StepPrinted`).
    pub show_output: bool,
    /// Whether files that were not written by an earlier publish may be overwritten.
    pub overwrite: bool,
    /// The environment that steps may be passed variables from.
    pub environment: Environment,
    /// How the run is stopped.
    pub cancel: Arc<Cancel>,
    /// The command line, for the record of the run.
    pub command_line: Vec<String>,
    /// The user's home folder, for what needs it (probes); steps have an empty one.
    pub home: Option<std::path::PathBuf>,
}

/// What a run left.
#[derive(Debug, Clone)]
pub struct RunReport {
    /// Its number in the store.
    pub run: u64,
    /// How it ended.
    pub summary: Summary,
    /// The outcome of every step of the plan that was looked at, by step id.
    pub outcomes: BTreeMap<crate::graph::StepId, crate::event::Outcome>,
    /// The artifacts of every step that has a result now, by step id, in declared order.
    pub outputs: BTreeMap<crate::graph::StepId, Vec<cas_store::Output>>,
}

/// Runs a plan: executes what is wanted and not stored, commits it, tells what happens.
///
/// # Errors
/// The store or the machine failed. A step that fails is no error: see [`Summary::failed`].
pub fn run(
    plan: &Plan,
    memo: &Memo,
    options: &RunOptions,
    tell: &mut dyn FnMut(&Event),
) -> Result<RunReport, EngineError> {
    let _ = (plan, memo, options, tell);
    todo!()
}
