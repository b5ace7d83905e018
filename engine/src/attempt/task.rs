//! What a worker is given and what it tells: a [`Task`] with everything in it, and a [`Done`].

use std::path::PathBuf;
use std::time::Duration;

use cas_store::{Artifact, ClaimGuard, Found, Staged, Trace, Version};

use crate::error::EngineError;
use crate::event::{FailureReport, Outcome};
use crate::execute::{Failure, Undeclared};
use crate::graph::{OutputId, StepId};
use crate::memo::{Names, Staging};
use crate::past::Failed;
use crate::record::AttemptRecord;
use crate::resolve::Why;
use crate::run::now_ms;

/// One step to be run, with everything that is known of it.
pub(crate) struct Task {
    pub(crate) step: StepId,
    /// Its name with its element.
    pub(crate) name: String,
    pub(crate) trace: Trace,
    pub(crate) version: Version,
    /// What it consumes, with repetitions, in the order of its inputs.
    pub(crate) consumes: Vec<Stored>,
    /// The versions of the steps that it consumes something of.
    pub(crate) above: Vec<(StepId, Version)>,
    /// The results that it consumes something of.
    pub(crate) parents: Vec<Trace>,
    /// The rows and facts to be written with its result.
    pub(crate) names: Names,
    /// Why it runs.
    pub(crate) why: Why,
    /// How it failed last, if it has not had a result since.
    pub(crate) failed: Option<Failed>,
    /// Whether it is to be given copies only, because a link was spoilt before.
    pub(crate) private: bool,
    /// Whether a result that is there by now is as good as one of its own.
    pub(crate) reusable: bool,
    /// Whether its version had no row when that was looked up, and it had no result in this run.
    pub(crate) fresh: bool,
    /// Whether it runs only to be compared with its result, which stays.
    pub(crate) reproduces: bool,
    /// What stands under its trace is no result of this solid: a damaged record, which is replaced.
    pub(crate) misfit: bool,
}

/// An output that a step consumes.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub(crate) output: OutputId,
    /// `None` where it was not produced.
    pub(crate) artifact: Option<Artifact>,
    /// The result that it is of.
    pub(crate) trace: Option<Trace>,
    /// When that was made.
    pub(crate) made_ms: Option<u64>,
    /// It failed in this run, and who gathers goes on without it.
    pub(crate) left_out: bool,
}

/// What a worker tells while it works on a step.
pub(crate) enum Told {
    /// It waits for something that other runs use, or, where that is nothing, for one that makes it.
    Waits { step: String, limits: Vec<String>, by: String, at_ms: u64 },
    /// An attempt begins.
    Started { step: String, attempt: u32, worker: usize, why: Option<String>, at_ms: u64 },
    /// An attempt failed, and another follows.
    Retried { step: String, attempt: u32, failure: Failure },
    /// What an attempt printed.
    Printed { step: String, text: String },
    /// What an attempt used that it was not given.
    Undeclared { step: String, solid: String, what: Undeclared },
    /// The worker is done with the step.
    Done(Box<Done>),
    /// All this, in this order; with the worker, if it has nothing any more.
    All(Vec<Told>, Option<usize>),
    /// A fault of ours: nothing more is to be heard of what the worker had.
    Broken { worker: usize, error: EngineError },
}

/// Takes what a worker tells.
pub(crate) type Tell<'a> = &'a dyn Fn(Told);

/// What came of a task.
pub(crate) struct Done {
    pub(crate) worker: usize,
    /// Which of the steps that the worker was given it is.
    pub(crate) place: usize,
    /// How long its attempts took.
    pub(crate) took: Duration,
    pub(crate) end: End,
    pub(crate) why: Option<String>,
    pub(crate) started_ms: u64,
    pub(crate) attempts: Vec<AttemptRecord>,
    /// The logs of attempts that failed, to be kept with the run.
    pub(crate) logs: Vec<Staged>,
}

/// How it ended.
pub(crate) enum End {
    /// It has a result.
    Made { found: Found, outcome: Outcome, differs: Option<Vec<String>> },
    /// What it consumes could not be had as it was hashed: its producer has to run again, and then this step.
    Lost { output: OutputId, what: String },
    /// It failed.
    Failed(FailureReport),
    /// The run was stopped.
    Cancelled,
    /// It was not begun: another worker is to have it; `alone`, because somebody else claims it.
    GivenBack { alone: bool },
    /// The store or the machine failed.
    Broken(EngineError),
}

/// How a task stands when its attempts are over.
pub(super) enum Ended {
    Over(End),
    /// It succeeded, and is yet to be committed.
    Made(Box<Held>),
}

/// What a step made, staged: it counts once it is committed.
pub(crate) struct Held {
    pub(super) step: StepId,
    /// Its trace, where it was forced: what else is forced in a sweep asks for that.
    pub(super) forced: Option<Trace>,
    pub(super) staging: Staging,
    /// The nodes of facts that are written with it.
    pub(super) nodes: Vec<Version>,
    pub(super) folder: PathBuf,
    pub(super) elapsed: Duration,
    /// When its attempt began.
    pub(super) at_ms: u64,
    /// Given back once the result stands; none for what runs in every run.
    pub(super) claim: Option<ClaimGuard>,
}

impl Told {
    /// A step waits for limits of which somebody uses what there is, or for somebody who makes it.
    pub(super) fn waits(task: &Task, limits: &[String], by: &str) -> Self {
        let (step, limits, by) = (task.name.clone(), limits.to_vec(), by.to_owned());
        Self::Waits { step, limits, by, at_ms: now_ms() }
    }
}

impl Done {
    /// Of a task that nothing is known of yet.
    pub(super) fn new(worker: usize, place: usize) -> Self {
        Self {
            worker,
            place,
            took: Duration::ZERO,
            end: End::Cancelled,
            why: None,
            started_ms: 0,
            attempts: Vec::new(),
            logs: Vec::new(),
        }
    }
}

/// What a panic, which is a fault of ours, ends with.
pub(super) fn panicked(panic: &(dyn std::any::Any + Send), step: &str) -> End {
    End::Broken(fault(panic, step))
}

pub(super) fn fault(panic: &(dyn std::any::Any + Send), step: &str) -> EngineError {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    let what = text.unwrap_or("it says nothing").to_owned();
    EngineError::Panicked { step: step.to_owned(), what }
}
