//! Who made what the steps of a run are given: it is written down with what they make.
//!
//! A result under a trace may be made again, here or, before it was imported, elsewhere. So a reader names the making
//! that it read, by when that was made, and who had made it. Of what this run made that is known; of anything else it
//! stands in the store and is asked for once, of all that a step is given at once, and before the step begins: nothing that
//! it has done hangs on what is only told of it.

use std::collections::{BTreeSet, HashMap};
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

    fn note(&self, making: (Trace, u64), by: Known) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(making, by);
    }

    fn known(&self, making: &(Trace, u64)) -> Option<Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(making).cloned()
    }

    /// Those of these makings of which it is not known who made them.
    fn unknown(&self, makings: &BTreeSet<(Trace, u64)>) -> Vec<(Trace, u64)> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        makings.iter().filter(|making| !known.contains_key(making)).copied().collect()
    }
}

impl Bench<'_> {
    /// Notes that a step of this run made something. Where another process was first, that was made at another time.
    pub(super) fn made(&self, step: StepId, trace: Trace, made_ms: u64) {
        self.makers.note((trace, made_ms), Known::Own(step));
    }

    /// Who made each of these. What is not known of them is asked for at once: a list may be gathered from thousands.
    pub(super) fn makers_of(&self, consumes: &[Stored]) -> Result<Vec<Option<Maker>>, EngineError> {
        let making = |stored: &Stored| stored.trace.zip(stored.made_ms);
        let makings: BTreeSet<(Trace, u64)> = consumes.iter().filter_map(making).collect();
        let unknown = self.makers.unknown(&makings);
        if !unknown.is_empty() {
            for (making, maker) in unknown.iter().zip(self.memo.makers(&unknown)?) {
                self.makers.note(*making, Known::Other(maker.map(Box::new)));
            }
        }
        let maker = |stored: &Stored| match self.makers.known(&making(stored)?)? {
            Known::Own(step) => Some(Maker {
                store: self.makers.store.clone(),
                run: self.run,
                pipeline: self.plan.graph.pipeline.name.clone(),
                step: self.plan.graph.step_name(step),
            }),
            Known::Other(maker) => maker.map(|maker| *maker),
        };
        Ok(consumes.iter().map(maker).collect())
    }
}
