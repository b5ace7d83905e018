//! Who made what the steps of a run are given: it is written down with what they make.
//!
//! A result under a trace may be made again, here or, before it was imported, elsewhere. So a reader names the making
//! that it read, by when that was made, and who had made it. Of what this run made that is known; of anything else it
//! stands in the store and is asked for once.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use cas_store::Trace;

use super::{Bench, Stored};
use crate::error::EngineError;
use crate::graph::StepId;
use crate::memo::Memo;
use crate::record::Maker;

/// What is known of who made what, of one run.
pub(super) struct Makers {
    store: String,
    known: Mutex<HashMap<(Trace, u64), Known>>,
}

/// Who made a result.
#[derive(Clone)]
enum Known {
    /// This run, and this step of it.
    Own(StepId),
    /// Another run, or one whose record does not say it.
    Other(Option<Box<Maker>>),
}

impl Makers {
    pub(super) fn new(memo: &Memo) -> Self {
        Self { store: memo.store_name(), known: Mutex::new(HashMap::new()) }
    }

    /// What the store of the run is called.
    pub(super) fn store(&self) -> &str {
        &self.store
    }

    fn note(&self, trace: Trace, made_ms: u64, by: Known) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert((trace, made_ms), by);
    }

    fn known(&self, trace: &Trace, made_ms: u64) -> Option<Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&(*trace, made_ms)).cloned()
    }
}

impl Bench<'_> {
    /// Notes that a step of this run made something. Where another process was first, that was made at another time.
    pub(super) fn made(&self, step: StepId, trace: Trace, made_ms: u64) {
        self.makers.note(trace, made_ms, Known::Own(step));
    }

    /// Who made each of these.
    pub(super) fn makers_of(&self, consumes: &[Stored]) -> Result<Vec<Option<Maker>>, EngineError> {
        consumes.iter().map(|stored| self.maker_of(stored)).collect()
    }

    fn maker_of(&self, stored: &Stored) -> Result<Option<Maker>, EngineError> {
        let (Some(trace), Some(made_ms)) = (stored.trace, stored.made_ms) else { return Ok(None) };
        let known = match self.makers.known(&trace, made_ms) {
            Some(known) => known,
            None => {
                let made = self.memo.provenance(&trace)?;
                // What began after that was made has taken its place meanwhile.
                let made = made.filter(|made| made.started_ms <= made_ms);
                let other = Known::Other(made.map(|made| Box::new(made.maker())));
                self.makers.note(trace, made_ms, other.clone());
                other
            }
        };
        Ok(match known {
            Known::Own(step) => Some(Maker {
                store: self.makers.store.clone(),
                run: self.run,
                pipeline: self.plan.graph.pipeline.name.clone(),
                step: self.plan.graph.step_name(step),
            }),
            Known::Other(maker) => maker.map(|maker| *maker),
        })
    }
}
