//! What judgements do to the index: their records, and the marks on traces.

use super::Work;
use crate::change::{NewAccepted, NewForgotten};
use crate::digest::Trace;
use crate::error::StoreError;
use crate::index::Family;
use crate::judge::{self, Judgement, Mark, Said, Saying};
use crate::tables::kind;

impl Work<'_> {
    pub(super) fn forgotten(&mut self, new: &NewForgotten) -> Result<(), StoreError> {
        self.judgement(&new.judgement)?;
        for trace in &new.traces {
            self.mark(trace, new.judgement.id, Mark::Forgotten);
        }
        Ok(())
    }

    pub(super) fn accepted(&mut self, new: &NewAccepted) -> Result<(), StoreError> {
        let trace = &new.result.trace;
        self.result(&new.result)?;
        // It was not made now, but it is used from now on.
        let at_ms = new.judgement.saying.at_ms;
        self.batch.put(Family::Used, trace.as_bytes(), &at_ms.to_be_bytes());
        self.judgement(&new.judgement)?;
        self.mark(trace, new.judgement.id, Mark::Accepted);
        Ok(())
    }

    pub(super) fn revoked(&mut self, id: u64, saying: &Saying) -> Result<(), StoreError> {
        let Some(judgement) = self.index.judgement(id)? else { return Ok(()) };
        let said = judgement.said;
        self.judgement(&Judgement { revoked: Some(saying.clone()), ..judgement })?;
        let mut marked = Vec::new();
        self.index.scan(Family::Marks, &[], &mut |key, value| {
            let (trace, by, _) = self.index.mark(key, value)?;
            if by == id {
                marked.push(trace);
            }
            Ok(true)
        })?;
        for trace in marked {
            match said {
                Said::Forget => self.batch.delete(Family::Marks, &judge::mark_key(&trace, id)),
                // Its bytes may be in use: it stays on record and counts as absent.
                Said::Accept => self.mark(&trace, id, Mark::Forgotten),
            }
        }
        Ok(())
    }

    /// A trace has a new result: what was said of the former one does not hold for it. But one that was made
    /// from what counts as absent by now counts as absent too.
    pub(super) fn mark_anew(&mut self, trace: &Trace, parents: &[Trace]) -> Result<(), StoreError> {
        if self.index.is_empty(Family::Marks)? {
            return Ok(());
        }
        self.unmark(trace)?;
        for parent in parents.iter().filter(|parent| *parent != trace) {
            for id in self.forgotten_by(parent)? {
                self.mark(trace, id, Mark::Forgotten);
            }
        }
        Ok(())
    }

    /// The judgements because of which the present result of a trace counts as absent.
    pub(super) fn forgotten_by(&self, trace: &Trace) -> Result<Vec<u64>, StoreError> {
        let mut by = Vec::new();
        self.index.scan_prefix(Family::Marks, trace.as_bytes(), &mut |key, value| {
            let (_, id, mark) = self.index.mark(key, value)?;
            if mark == Mark::Forgotten {
                by.push(id);
            }
            Ok(true)
        })?;
        Ok(by)
    }

    /// Whether something is said of the present result of a trace: that it was wrong, or that it is another trace's.
    pub(super) fn is_judged(&self, trace: &Trace) -> Result<bool, StoreError> {
        let mut judged = false;
        self.index.scan_prefix(Family::Marks, trace.as_bytes(), &mut |_, _| {
            judged = true;
            Ok(false)
        })?;
        Ok(judged)
    }

    /// Takes all marks off a trace.
    pub(super) fn unmark(&mut self, trace: &Trace) -> Result<(), StoreError> {
        let mut keys = Vec::new();
        self.index.scan_prefix(Family::Marks, trace.as_bytes(), &mut |key, _| {
            keys.push(key.to_vec());
            Ok(true)
        })?;
        for key in keys {
            self.batch.delete(Family::Marks, &key);
        }
        Ok(())
    }

    pub(super) fn mark(&mut self, trace: &Trace, id: u64, mark: Mark) {
        self.batch.put(Family::Marks, &judge::mark_key(trace, id), &[mark.byte()]);
    }

    pub(super) fn judgement(&mut self, judgement: &Judgement) -> Result<(), StoreError> {
        let value = self.index.encode(kind::JUDGEMENT, judgement)?;
        self.batch.put(Family::Judgements, &judgement.id.to_be_bytes(), &value);
        Ok(())
    }
}
