//! The closed list of things that a run can tell, in the order in which the coordinator decided them. They
//! suffice to rebuild the report. `docs/events.md` specifies their JSON form.

use crate::execute::Failure;

/// Something that happened in a run. Times are milliseconds since 1970 (UTC).
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The run began; everything is planned.
    RunStarted {
        /// Its number in the store (0 for a dry run).
        run: u64,
        /// The pipeline.
        pipeline: String,
        /// The mode, if one was chosen.
        mode: Option<String>,
        /// How many steps are in the plan.
        steps: usize,
        /// How many are to be run, as far as is known now.
        to_run: usize,
        /// How many attempts run at once at most.
        jobs: usize,
        /// When.
        at_ms: u64,
    },
    /// An attempt of a step began.
    StepStarted {
        /// The step's name with its element.
        step: String,
        /// Counted from 1.
        attempt: u32,
        /// The first cause why it runs, in words.
        why: Option<String>,
        /// When.
        at_ms: u64,
    },
    /// An attempt failed and the step is tried again.
    StepRetried {
        /// The step.
        step: String,
        /// The attempt that failed.
        attempt: u32,
        /// Why.
        failure: Failure,
    },
    /// A step has its outcome.
    StepFinished {
        /// The step.
        step: String,
        /// What became of it.
        outcome: Outcome,
        /// How long its attempts took; 0 where it did not run.
        elapsed_ms: u64,
        /// How long the run that made its result took, where it was reused.
        saved_ms: u64,
        /// For `failed`: why, and where to look.
        failure: Option<FailureReport>,
        /// When.
        at_ms: u64,
    },
    /// What a step printed, after it ended, where that is wanted.
    StepPrinted {
        /// The step.
        step: String,
        /// Its captured output, as text.
        text: String,
    },
    /// Stored bytes were found wrong or gone; their step runs again.
    Damaged {
        /// The step output.
        output: String,
        /// What was found.
        what: String,
    },
    /// Something was put into the project.
    Published {
        /// Where, relative to the project folder.
        target: String,
        /// The step output.
        output: String,
        /// False if it was there already.
        changed: bool,
    },
    /// Something that a person should know and that changes no outcome.
    Warning {
        /// In words.
        text: String,
    },
    /// The run ended.
    RunFinished {
        /// How.
        summary: Summary,
        /// When.
        at_ms: u64,
    },
}

/// What became of a step in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// Its result was in the store under its version.
    Reused,
    /// Its version was new, the content of its inputs was not.
    Unchanged,
    /// It was executed.
    Ran,
    /// Somebody else was computing it; that result was awaited.
    Joined,
    /// It failed.
    Failed,
    /// Something upstream failed or is absent.
    Skipped,
    /// The run was stopped before it ended.
    Cancelled,
}

/// A failure with where to look.
#[derive(Debug, Clone, PartialEq)]
pub struct FailureReport {
    /// What happened.
    pub failure: Failure,
    /// The last lines that it printed.
    pub log_tail: String,
    /// The kept folder, if any.
    pub folder: Option<std::path::PathBuf>,
    /// How many attempts were made.
    pub attempts: u32,
}

/// How a run ended: how many steps had which outcome, and how long it took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Summary {
    /// Steps with this outcome.
    pub reused: usize,
    /// Steps with this outcome.
    pub unchanged: usize,
    /// Steps with this outcome.
    pub ran: usize,
    /// Steps with this outcome.
    pub joined: usize,
    /// Steps with this outcome.
    pub failed: usize,
    /// Steps with this outcome.
    pub skipped: usize,
    /// Steps with this outcome.
    pub cancelled: usize,
    /// How long the run took.
    pub elapsed_ms: u64,
    /// How long the reused results took to make.
    pub saved_ms: u64,
    /// Whether the run was stopped.
    pub interrupted: bool,
}
