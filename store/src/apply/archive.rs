//! What an imported archive does to the index: all of it in one batch.

use super::Work;
use crate::change::{NewBlobs, NewImport, NewRecord, NewResult};
use crate::error::StoreError;
use crate::index::Family;
use crate::judge::Mark;
use crate::tables::{self, refs};

impl Work<'_> {
    pub(super) fn imported(&mut self, new: &NewImport) -> Result<(), StoreError> {
        self.new_blobs(&new.blobs)?;
        for NewRecord { record, keep } in &new.records {
            let trace = &record.trace;
            let facts: Vec<_> =
                record.facts.iter().map(|(version, fact)| (*version, fact.0.clone())).collect();
            if *keep {
                self.facts(trace, &facts)?;
            } else {
                self.result(&NewResult {
                    trace: *trace,
                    record: record.record.clone(),
                    provenance: record.provenance.clone(),
                    parents: record.parents.clone(),
                    blobs: NewBlobs::default(),
                    rows: Vec::new(),
                    facts,
                    history: None,
                })?;
                // Whoever imported it wants to use it.
                self.batch.put(Family::Used, trace.as_bytes(), &new.at_ms.to_be_bytes());
                if let Some(judgement) = &record.accepted {
                    self.judgement(judgement)?;
                    self.mark(trace, judgement.id, Mark::Accepted);
                }
            }
            for (version, place) in &record.rows {
                let value = tables::row_value(trace, usize::from(*place));
                self.batch.put(Family::Rows, version.as_bytes(), &value);
                self.link(refs::key(trace.as_bytes(), refs::ROW, version.as_bytes()));
            }
            for (label, at_ms, version) in &record.moments {
                self.history(trace, *at_ms, Some(&(label.clone(), *version)));
            }
        }
        for (trace, replacement) in &new.noted {
            self.note(trace, replacement)?;
        }
        Ok(())
    }
}
