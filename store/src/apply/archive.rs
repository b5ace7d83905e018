//! What imports do to the index: their parts are kept aside, and become results in one batch.

use std::collections::{BTreeMap, BTreeSet};

use super::{Work, digests};
use crate::archive::Record;
use crate::change::{NewBlobs, NewImport, NewPart, NewResult, Taking};
use crate::digest::Trace;
use crate::error::StoreError;
use crate::import::ImportedRow;
use crate::index::Family;
use crate::judge::Mark;
use crate::record::Replacement;
use crate::tables::{self, kind, meta, refs};

impl Work<'_> {
    pub(super) fn import_part(&mut self, new: &NewPart) -> Result<(), StoreError> {
        self.new_blobs(&new.blobs)?;
        let key = meta::import_key(&new.import, new.number);
        let part = &key[meta::IMPORTS.len()..];
        for digest in &new.row.held {
            self.link(refs::key(digest.as_bytes(), refs::IMPORT, part));
        }
        let value = self.index.encode(kind::IMPORT_PART, &new.row)?;
        self.batch.put(Family::Meta, &key, &value);
        Ok(())
    }

    /// Takes the parts of an import away, and gives their records. What they alone kept is unnamed then.
    fn take_parts(&mut self, import: &str) -> Result<Vec<Record>, StoreError> {
        let mut records = Vec::new();
        for (key, row) in self.index.parts_of(import)? {
            for digest in &row.held {
                self.unlink(refs::key(digest.as_bytes(), refs::IMPORT, &key[meta::IMPORTS.len()..]));
            }
            self.batch.delete(Family::Meta, &key);
            records.extend(row.records);
        }
        Ok(records)
    }

    pub(super) fn import_dropped(&mut self, import: &str) -> Result<(), StoreError> {
        self.take_parts(import).map(drop)
    }

    pub(super) fn imported(&mut self, new: &NewImport) -> Result<(), StoreError> {
        let takings: BTreeMap<Trace, Taking> = new.takings.iter().copied().collect();
        let mut taken: BTreeMap<Trace, Vec<Trace>> = BTreeMap::new();
        let mut judgement = self.index.last_judgement()?;
        let mut seen = BTreeSet::new();
        for record in self.take_parts(&new.import)? {
            if !seen.insert(record.trace) {
                continue;
            }
            match takings.get(&record.trace) {
                Some(Taking::Take) => {
                    self.take(&record, new.at_ms, &mut judgement)?;
                    taken.insert(record.trace, record.parents.clone());
                }
                Some(Taking::KeepOwn) => self.keep_own(&record, new.at_ms)?,
                Some(Taking::LeaveOut) | None => continue,
            }
            self.name(&record)?;
        }
        self.mark_descendants(&taken)?;
        let row = ImportedRow { import: new.import.clone(), archived: new.archived };
        let value = self.index.encode(kind::IMPORTED, &row)?;
        self.batch.put(Family::Meta, meta::IMPORTED, &value);
        Ok(())
    }

    /// The result of an archive becomes its trace's present one.
    fn take(&mut self, record: &Record, at_ms: u64, judgement: &mut u64) -> Result<(), StoreError> {
        let trace = &record.trace;
        self.result(&NewResult {
            trace: *trace,
            record: record.record.clone(),
            provenance: record.provenance.clone(),
            parents: record.parents.clone(),
            blobs: NewBlobs::default(),
            rows: Vec::new(),
            facts: facts(record),
            history: None,
        })?;
        // Whoever imported it wants to use it.
        self.batch.put(Family::Used, trace.as_bytes(), &at_ms.to_be_bytes());
        if let Some(accepted) = &record.accepted {
            *judgement += 1;
            self.judgement(&crate::judge::Judgement { id: *judgement, ..accepted.clone() })?;
            self.mark(trace, *judgement, Mark::Accepted);
        }
        Ok(())
    }

    /// The store's own result stays; that another store has other content for the same trace is noted.
    fn keep_own(&mut self, record: &Record, at_ms: u64) -> Result<(), StoreError> {
        self.facts(&record.trace, &facts(record))?;
        let own = self.index.result(&record.trace)?;
        if own.is_some_and(|own| digests(&own) != digests(&record.record)) {
            let replacement = Replacement {
                at_ms,
                digests: digests(&record.record),
                made_ms: record.record.made_ms,
                differs: true,
                lost_race: true,
            };
            self.note(&record.trace, &replacement)?;
        }
        Ok(())
    }

    /// The rows and moments of a result of an archive.
    fn name(&mut self, record: &Record) -> Result<(), StoreError> {
        let trace = &record.trace;
        for (version, place) in &record.rows {
            // A row that names something here is as good, and may be newer.
            if self.index.row(version)?.is_some_and(|known| known != *trace) {
                continue;
            }
            let value = tables::row_value(trace, usize::from(*place));
            self.batch.put(Family::Rows, version.as_bytes(), &value);
            self.link(refs::key(trace.as_bytes(), refs::ROW, version.as_bytes()));
        }
        for (label, at_ms, version) in &record.moments {
            self.history(trace, *at_ms, Some(&(label.clone(), *version)));
        }
        Ok(())
    }

    /// Of the results that were taken over, those that were made from one that counts as absent here count as absent
    /// too, at any distance and in whatever order they came; and so does what is here and was made from them.
    /// (What [`Work::result`] sees of marks is what was there before this batch.)
    fn mark_descendants(&mut self, taken: &BTreeMap<Trace, Vec<Trace>>) -> Result<(), StoreError> {
        if self.index.is_empty(Family::Marks)? {
            return Ok(());
        }
        let mut children: BTreeMap<Trace, Vec<Trace>> = BTreeMap::new();
        let mut reached: BTreeMap<Trace, BTreeSet<u64>> = BTreeMap::new();
        let mut open = Vec::new();
        for (trace, parents) in taken {
            for parent in parents.iter().filter(|parent| *parent != trace) {
                children.entry(*parent).or_default().push(*trace);
                // One that was taken over has no marks but those that it gets here.
                let by = if taken.contains_key(parent) { Vec::new() } else { self.forgotten_by(parent)? };
                if !by.is_empty() {
                    reached.entry(*trace).or_default().extend(by);
                    open.push(*trace);
                }
            }
        }
        while let Some(trace) = open.pop() {
            let by = reached.get(&trace).cloned().unwrap_or_default();
            let mut made_from = children.get(&trace).cloned().unwrap_or_default();
            for child in self.index.referred_hashes(trace.as_bytes(), refs::CHILD)? {
                let child = Trace::from_bytes(child);
                if !taken.contains_key(&child) && self.index.result(&child)?.is_some() {
                    made_from.push(child);
                }
            }
            for child in made_from {
                let known = reached.entry(child).or_default();
                let before = known.len();
                known.extend(&by);
                if known.len() > before {
                    open.push(child);
                }
            }
        }
        for (trace, by) in &reached {
            for id in by {
                self.mark(trace, *id, Mark::Forgotten);
            }
        }
        Ok(())
    }
}

fn facts(record: &Record) -> Vec<(crate::digest::Version, Vec<u8>)> {
    record.facts.iter().map(|(version, fact)| (*version, fact.0.clone())).collect()
}
