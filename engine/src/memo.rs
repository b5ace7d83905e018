//! The only file of the engine that holds a store: what is stored of a plan, what has to run, and the commit
//! of what ran.

use cas_store::{Artifact, Found, Store, Trace, Version};
use serde::{Deserialize, Serialize};

use crate::error::EngineError;
use crate::graph::{OutputId, StepId};
use crate::plan::Plan;

/// A store as the engine uses it; without one, nothing is stored.
#[derive(Clone)]
pub struct Memo {
    store: Option<Store>,
}

/// The status of a step output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    /// A valid result is in the store, bytes included.
    Stored,
    /// It will run.
    ToBeRecomputed,
    /// Its bytes are absent and nothing that is wanted needs them.
    NotNeeded,
    /// Recorded as not produced, or below such an output.
    Absent,
}

impl Status {
    /// The word that is printed: `stored`, `to-be-recomputed`, `not-needed`, `absent`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::ToBeRecomputed => "to-be-recomputed",
            Self::NotNeeded => "not-needed",
            Self::Absent => "absent",
        }
    }
}

/// What is wanted of a plan.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// The steps that were named; empty: the pipeline's ends, published outputs and steps without outputs.
    pub steps: Vec<StepId>,
    /// Every output of the plan is wanted (`--all`).
    pub all: bool,
    /// Steps that run whatever is stored (`--force`).
    pub force: Vec<StepId>,
    /// Nothing upstream of the named steps may run (`--only`).
    pub only: bool,
}

/// A plan held against the store: for each step id what is on record, and what has to be done.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// By step id.
    pub states: Vec<StepState>,
}

/// What is known of one step before a run.
#[derive(Debug, Clone, Default)]
pub struct StepState {
    /// Its trace, where the content of all its inputs is on record.
    pub trace: Option<Trace>,
    /// The present result of that trace (or of its row, where they agree).
    pub found: Option<Found>,
    /// Whether its own version's row named that result (`false`: found through the trace, so `unchanged`).
    pub by_version: bool,
    /// Whether it has to run for what is wanted.
    pub to_run: bool,
    /// It is to run only because something above it does: its inputs' content may turn out the same.
    pub may_be_unchanged: bool,
    /// It stands below an output that was recorded as not produced, so it is not run.
    pub skipped: bool,
}

impl Resolved {
    /// The status of an output.
    pub fn status(&self, plan: &Plan, output: OutputId) -> Status {
        let _ = (plan, output);
        todo!()
    }

    /// What is stored of an output, if anything is on record (its bytes may be gone).
    pub fn artifact(&self, output: OutputId) -> Option<&Artifact> {
        let _ = output;
        todo!()
    }
}

/// Where a result came from: kept beside it, for `show`, `runs`, `lineage`. No secret is in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    /// The run that made it.
    pub run: u64,
    /// The pipeline's name.
    pub pipeline: String,
    /// The step's name with its element.
    pub step: String,
    /// The solid's name.
    pub solid: String,
    /// The step's version when it was made.
    pub version: Version,
    /// The command as it was run, placeholders filled in; empty for a function.
    pub command: String,
    /// The environment that was declared, without secrets.
    pub env: Vec<(String, String)>,
    /// The resolved config as JSON, secrets as keyed digests.
    pub config: String,
    /// Its inputs: name, the output it came from as (trace, output name) if it is one, and its digest or text.
    pub inputs: Vec<ProvenanceInput>,
    /// The machine's name.
    pub host: String,
    /// `linux/x86_64`.
    pub platform: String,
    /// The version of this program.
    pub program: String,
    /// When the attempt began.
    pub started_ms: u64,
    /// How long it took.
    pub elapsed_ms: u64,
    /// Which attempt it was, from 1.
    pub attempt: u32,
}

/// An input in a provenance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProvenanceInput {
    /// Its name as the step saw it, with `/0`, `/<label>` for one of several.
    pub name: String,
    /// The step output it came from, by name, if it is one.
    pub from: Option<String>,
    /// The result it came from, if it is an output.
    pub trace: Option<Trace>,
    /// A digest, or a literal as JSON.
    pub content: String,
}

impl Memo {
    /// Uses this store.
    pub fn new(store: Store) -> Self {
        Self { store: Some(store) }
    }

    /// Finds nothing stored: where there is no store yet and none is to be made.
    pub fn empty() -> Self {
        Self { store: None }
    }

    /// The store, if there is one.
    pub fn store(&self) -> Option<&Store> {
        self.store.as_ref()
    }

    /// Holds a plan against the store: settles coherence forwards, then walks back from what is wanted.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn resolve(&self, plan: &Plan, wanted: &Wanted) -> Result<Resolved, EngineError> {
        let _ = (plan, wanted);
        todo!()
    }
}
