//! What was made from a file that no step made: found by what each result is on record to have been given.

use std::collections::BTreeSet;

use cas_store::{Digest, Moment, Trace};

use super::{Lineage, Making};
use crate::error::EngineError;
use crate::record::ProvenanceInput;

/// So many of the last versions of a step are asked for at first: few steps have had more.
const MOMENTS: usize = 64;

impl Lineage<'_> {
    /// What steps of any pipeline made that were given a file or folder with this content by its path.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn readers_of(&mut self, content: &Digest) -> Result<Vec<Making>, EngineError> {
        let store = self.memo.open()?;
        let mut labels = Vec::new();
        store.labels(&mut |moment| {
            // What runs keep has no `/`.
            if moment.label.contains('/') {
                labels.push(moment.label);
            }
            true
        })?;
        let hex = content.to_hex();
        let is_read = |input: &ProvenanceInput| {
            // A path, and its digest.
            let given = input.content.rsplit_once(' ').map(|(_, digest)| digest);
            input.trace.is_none() && given == Some(hex.as_str())
        };
        let mut seen: BTreeSet<Trace> = BTreeSet::new();
        let mut readers = Vec::new();
        for label in labels {
            for moment in self.whole_history(&label)? {
                if !seen.insert(moment.trace) {
                    continue;
                }
                let made = self.memo.provenance(&moment.trace)?;
                if made.is_some_and(|made| made.inputs.iter().any(is_read)) {
                    readers.push(self.of(&moment.trace)?);
                }
            }
        }
        Ok(readers)
    }

    /// All versions that a step has had; twice as many are asked for each time that there are more.
    fn whole_history(&self, label: &str) -> Result<Vec<Moment>, EngineError> {
        let mut limit = MOMENTS;
        loop {
            let moments = self.memo.history(label, limit)?;
            if moments.len() < limit {
                return Ok(moments);
            }
            limit = limit.saturating_mul(2);
        }
    }
}
