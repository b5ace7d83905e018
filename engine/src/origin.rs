//! Whether a result was made by a run of this store, or by one of another store from which it was imported.
//!
//! Where a result came from names its run by number and the store that counted it. Records of before stores were named, and
//! those of a copy of this store, are held against the run that has the number here.

use std::collections::HashMap;

use crate::error::EngineError;
use crate::memo::Memo;
use crate::record::Provenance;

/// Tells it of many results; each run is looked at once.
pub struct Origins<'a> {
    memo: &'a Memo,
    store: String,
    last: Option<u64>,
    runs: HashMap<u64, Option<Ran>>,
}

/// What of a run is told by everything that it made, too.
struct Ran {
    pipeline: String,
    host: String,
    started_ms: u64,
    ended_ms: Option<u64>,
}

impl Ran {
    fn made(&self, made: &Provenance) -> bool {
        self.pipeline == made.pipeline
            && self.host == made.host
            && self.started_ms <= made.started_ms
            && self.ended_ms.is_none_or(|ended| made.started_ms <= ended)
    }
}

impl<'a> Origins<'a> {
    /// Begins with nothing read.
    pub fn new(memo: &'a Memo) -> Self {
        Self { memo, store: memo.store_name(), last: None, runs: HashMap::new() }
    }

    /// What this store is called.
    pub(crate) fn store(&self) -> &str {
        &self.store
    }

    /// Whether it is on record that the run was one of another store: it says so itself, or here its number is another
    /// run's, or there was none of that number yet. Of a run that names no store it is not known where its record is gone,
    /// nor where there is no run at all: the records of all of them may be gone.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn is_elsewhere(&mut self, made: &Provenance) -> Result<bool, EngineError> {
        if !made.store.is_empty() && made.store != self.store {
            return Ok(true);
        }
        let last = match self.last {
            Some(last) => last,
            // The oldest go first, so the last one of all is there if any is.
            None => *self.last.insert(self.memo.runs(None, 1)?.first().map_or(u64::MAX, |(run, _)| *run)),
        };
        if made.run > last {
            return Ok(true);
        }
        if !self.runs.contains_key(&made.run) {
            let found =
                self.memo.runs(made.run.checked_add(1), 1)?.into_iter().find(|(run, _)| *run == made.run);
            let ran = found.map(|(_, record)| Ran {
                pipeline: record.pipeline,
                host: record.host,
                started_ms: record.started_ms,
                ended_ms: record.ended_ms,
            });
            self.runs.insert(made.run, ran);
        }
        Ok(self.runs[&made.run].as_ref().is_some_and(|ran| !ran.made(made)))
    }
}
