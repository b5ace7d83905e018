//! A change of the journal, or several, as a batch of the index.
//!
//! Depends on the index and the change alone, touches no file and no clock: applied when it was decided,
//! after a crash or years later in a rebuild, a change does the same. Keeps the references between results,
//! trees, blobs, rows and facts in step, in the same batch as what makes them.

mod archive;
mod judge;

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::change::{Change, NewBlobs, NewResult, NewRows, NewRun};
use crate::digest::{Digest, Trace, Version};
use crate::error::StoreError;
use crate::index::{Batch, Family, Index};
use crate::journal::Position;
use crate::record::{BlobRecord, Evicted, HashKind, Place, Replacement, ResultRecord};
use crate::tables::{self, BlobRow, OpaqueRow, ProvenanceRow, RunRow, kind, meta, refs};

/// What a change let go of, for whoever removes the files.
#[derive(Debug, Default)]
pub(crate) struct Dropped {
    /// Blobs that are not recorded any longer.
    pub(crate) blobs: Vec<(Digest, BlobRecord)>,
}

/// Applies a change and notes that the index is now at `position`.
///
/// # Errors
///
/// When the index cannot be read or written; then nothing of the change is in it.
pub(crate) fn apply(index: &Index, change: &Change, position: Position) -> Result<Dropped, StoreError> {
    apply_all(index, &[change], position, &[])
}

/// Applies changes as one batch, and notes that the index is now at `position`. What one of them decides by what is in
/// the index must not be what another of them changes: results of different traces, named by different rows, none of
/// which was made from another. `alone` are blobs, in the order of their digests, of which it is known that nothing will name
/// them after these changes: they need not be looked for.
///
/// # Errors
///
/// As for [`apply`]; then nothing of any of them is in it.
pub(crate) fn apply_all(
    index: &Index,
    changes: &[&Change],
    position: Position,
    alone: &[(Digest, BlobRow)],
) -> Result<Dropped, StoreError> {
    let (batch, gone) = (index.batch(), BTreeSet::new());
    let results = changes.iter().all(|change| matches!(change, Change::Result(_)));
    let ahead = if results && changes.len() > 1 { Some(Ahead::read(index, changes)?) } else { None };
    let mut work = Work { index, batch, gone, ahead, alone, counters: None, dropped: Dropped::default() };
    for change in changes {
        work.change(change)?;
    }
    if let Some(counters) = &work.counters {
        let value = index.encode(kind::COUNTERS, counters)?;
        work.batch.put(Family::Meta, meta::COUNTERS, &value);
    }
    work.batch.put(Family::Meta, meta::POSITION, &position.to_bytes());
    let Work { batch, dropped, .. } = work;
    index.write(batch)?;
    Ok(dropped)
}

/// What is in the index of what several results name, read at once.
struct Ahead {
    results: HashMap<Trace, ResultRecord>,
    rows: HashMap<Version, Trace>,
    facts: HashSet<Version>,
}

impl Ahead {
    fn read(index: &Index, changes: &[&Change]) -> Result<Self, StoreError> {
        let results = || {
            changes.iter().filter_map(|change| match change {
                Change::Result(new) => Some(new),
                _ => None,
            })
        };
        let traces: Vec<Trace> = results().map(|new| new.trace).collect();
        let rows: Vec<Version> = results().flat_map(|new| new.rows.iter().copied()).collect();
        let facts = results().flat_map(|new| new.facts.iter().map(|(version, _)| *version));
        let facts: Vec<Version> = facts.collect::<BTreeSet<_>>().into_iter().collect();
        let present = index.get_each(Family::Facts, &facts, &mut |_, _| Ok(()))?;
        let found = traces.iter().zip(index.results(&traces)?);
        let named = rows.iter().zip(index.rows(&rows)?);
        Ok(Self {
            results: found.filter_map(|(trace, found)| Some((*trace, found?))).collect(),
            rows: named.filter_map(|(row, trace)| Some((*row, trace?))).collect(),
            facts: facts.iter().zip(present).filter_map(|(fact, there)| there.map(|()| *fact)).collect(),
        })
    }
}

struct Work<'a> {
    index: &'a Index,
    batch: Batch<'a>,
    /// References that these changes take away: the index still shows them.
    gone: BTreeSet<Vec<u8>>,
    /// What several results have to know of the index.
    ahead: Option<Ahead>,
    /// Blobs that nothing will name after these changes.
    alone: &'a [(Digest, BlobRow)],
    /// As they are to be, once they were asked for.
    counters: Option<tables::Counters>,
    dropped: Dropped,
}

impl Work<'_> {
    fn change(&mut self, change: &Change) -> Result<(), StoreError> {
        let (index, work) = (self.index, self);
        match change {
            Change::Result(new) => work.result(new)?,
            Change::Relink(new) => work.relink(new)?,
            Change::Revived { trace } => work.revived(trace)?,
            Change::Pin(pin) => {
                let value = index.encode(kind::PIN, pin)?;
                work.batch.put(Family::Pins, pin.version.as_bytes(), &value);
            }
            Change::Unpin(version) => work.batch.delete(Family::Pins, version.as_bytes()),
            Change::Run(new) => work.run(new)?,
            Change::Evicted { traces, runs, evicted } => {
                for trace in traces {
                    work.evict(trace, evicted)?;
                }
                for id in runs {
                    work.evict_run(*id)?;
                }
            }
            Change::Removed { traces, runs } => {
                for trace in traces {
                    work.remove(trace)?;
                }
                for id in runs {
                    work.remove_run(*id)?;
                }
            }
            Change::Blobs(new) => work.new_blobs(new)?,
            Change::Unnamed { blobs } => {
                work.drop_unnamed(blobs)?;
            }
            Change::Lost { blobs } => {
                for digest in blobs {
                    work.drop_blob(digest)?;
                }
            }
            Change::Touched { at_ms, traces, reused } => {
                for trace in traces {
                    work.batch.put(Family::Used, trace.as_bytes(), &at_ms.to_be_bytes());
                }
                work.count(|counters| counters.reused = counters.reused.saturating_add(*reused))?;
            }
            Change::Noted { trace, replacement } => work.note(trace, replacement)?,
            Change::Forgotten(new) => work.forgotten(new)?,
            Change::Accepted(new) => work.accepted(new)?,
            Change::Revoked { id, saying } => work.revoked(*id, saying)?,
            Change::Imported(new) => work.imported(new)?,
            Change::ImportPart(new) => work.import_part(new)?,
            Change::ImportDropped { import } => work.import_dropped(import)?,
            Change::Entries { family, entries } => {
                let family = Family::numbered(*family).ok_or_else(|| {
                    index.damaged("a snapshot in the journal", "it names a family that is not known")
                })?;
                for (key, value) in entries {
                    // The position is that of this change, not the one that stood in the snapshot.
                    if !(family == Family::Meta && key == meta::POSITION) {
                        work.batch.put(family, key, value);
                    }
                }
            }
        }
        Ok(())
    }

    fn result(&mut self, new: &NewResult) -> Result<(), StoreError> {
        let trace = &new.trace;
        let old = match &self.ahead {
            Some(ahead) => ahead.results.get(trace).cloned(),
            None => self.index.result(trace)?,
        };
        if let Some(old) = old {
            self.forget_references(trace, &old);
            for parent in self.index.referred_hashes(trace.as_bytes(), refs::PARENT)? {
                self.unlink(refs::key(trace.as_bytes(), refs::PARENT, &parent));
                self.unlink(refs::key(&parent, refs::CHILD, trace.as_bytes()));
            }
            // What was said to be wrong is no other answer to the same question, and what answered for other code neither.
            let answered = !self.is_judged(trace)?;
            let replacement = Replacement {
                at_ms: new.record.made_ms,
                digests: digests(&old),
                made_ms: old.made_ms,
                differs: answered && digests(&old) != digests(&new.record),
                lost_race: false,
            };
            self.note(trace, &replacement)?;
        }
        let value = self.index.encode(kind::RESULT, &new.record)?;
        self.batch.put(Family::Results, trace.as_bytes(), &value);
        let value =
            self.index.encode(kind::PROVENANCE, &ProvenanceRow { provenance: new.provenance.clone() })?;
        self.batch.put(Family::Provenance, trace.as_bytes(), &value);
        self.batch.put(Family::Used, trace.as_bytes(), &new.record.made_ms.to_be_bytes());
        self.new_blobs(&new.blobs)?;
        self.remember_references(trace, &new.record);
        for parent in &new.parents {
            self.link(refs::key(trace.as_bytes(), refs::PARENT, parent.as_bytes()));
            self.link(refs::key(parent.as_bytes(), refs::CHILD, trace.as_bytes()));
        }
        self.rows(trace, &new.rows)?;
        self.facts(trace, &new.facts)?;
        self.history(trace, new.record.made_ms, new.history.as_ref());
        self.mark_anew(trace, &new.parents)?;
        self.count(|counters| counters.made = counters.made.saturating_add(1))
    }

    fn relink(&mut self, new: &NewRows) -> Result<(), StoreError> {
        self.rows(&new.trace, &new.rows)?;
        self.facts(&new.trace, &new.facts)?;
        self.history(&new.trace, new.at_ms, new.history.as_ref());
        self.batch.put(Family::Used, new.trace.as_bytes(), &new.at_ms.to_be_bytes());
        Ok(())
    }

    /// The bytes of an evicted result are there again, because another result has the same.
    fn revived(&mut self, trace: &Trace) -> Result<(), StoreError> {
        let Some(old) = self.index.result(trace)? else { return Ok(()) };
        self.forget_references(trace, &old);
        let record = ResultRecord { evicted: None, ..old };
        let value = self.index.encode(kind::RESULT, &record)?;
        self.batch.put(Family::Results, trace.as_bytes(), &value);
        self.remember_references(trace, &record);
        Ok(())
    }

    fn run(&mut self, new: &NewRun) -> Result<(), StoreError> {
        if let Some(old) = self.index.run(new.id)? {
            for digest in &old.blobs {
                self.unlink(refs::key(digest.as_bytes(), refs::RUN, &new.id.to_be_bytes()));
            }
        }
        self.new_blobs(&new.blobs)?;
        for digest in &new.named {
            self.link(refs::key(digest.as_bytes(), refs::RUN, &new.id.to_be_bytes()));
        }
        let row = RunRow {
            at_ms: new.at_ms,
            record: new.record.clone(),
            blobs: new.named.clone(),
            token: new.token,
        };
        let value = self.index.encode(kind::RUN, &row)?;
        self.batch.put(Family::Runs, &new.id.to_be_bytes(), &value);
        if new.id > self.index.last_run()? {
            self.batch.put(Family::Meta, meta::LAST_RUN, &new.id.to_be_bytes());
        }
        Ok(())
    }

    fn evict(&mut self, trace: &Trace, evicted: &Evicted) -> Result<(), StoreError> {
        let Some(old) = self.index.result(trace)? else { return Ok(()) };
        if old.evicted.is_some() {
            return Ok(());
        }
        self.forget_references(trace, &old);
        let record = ResultRecord { evicted: Some(evicted.clone()), ..old };
        let value = self.index.encode(kind::RESULT, &record)?;
        self.batch.put(Family::Results, trace.as_bytes(), &value);
        self.remember_references(trace, &record);
        self.drop_unnamed(&named_by(&record).into_iter().collect::<Vec<_>>())
    }

    fn evict_run(&mut self, id: u64) -> Result<(), StoreError> {
        let Some(old) = self.index.run(id)? else { return Ok(()) };
        for digest in &old.blobs {
            self.unlink(refs::key(digest.as_bytes(), refs::RUN, &id.to_be_bytes()));
        }
        self.drop_unnamed(&old.blobs)?;
        let row = RunRow { blobs: Vec::new(), ..old };
        let value = self.index.encode(kind::RUN, &row)?;
        self.batch.put(Family::Runs, &id.to_be_bytes(), &value);
        Ok(())
    }

    fn remove(&mut self, trace: &Trace) -> Result<(), StoreError> {
        let Some(old) = self.index.result(trace)? else { return Ok(()) };
        let key = trace.as_bytes();
        self.forget_references(trace, &old);
        for family in [Family::Results, Family::Provenance, Family::Used] {
            self.batch.delete(family, key);
        }
        let mut lines = Vec::new();
        self.index.scan_prefix(Family::Ledger, key, &mut |line, _| {
            lines.push(line.to_vec());
            Ok(true)
        })?;
        for label in self.index.referred(key, refs::LABEL)? {
            self.unlink(refs::key(key, refs::LABEL, &label));
            let Ok(label) = String::from_utf8(label) else { continue };
            let mut moments = Vec::new();
            self.index.scan_prefix(
                Family::History,
                &tables::label_prefix(&label),
                &mut |moment, value| {
                    if value == key.as_slice() {
                        moments.push(moment.to_vec());
                    }
                    Ok(true)
                },
            )?;
            for moment in moments {
                self.batch.delete(Family::History, &moment);
            }
        }
        for line in lines {
            self.batch.delete(Family::Ledger, &line);
        }
        self.unmark(trace)?;
        for row in self.index.referred_hashes(key, refs::ROW)? {
            self.unlink(refs::key(key, refs::ROW, &row));
            self.batch.delete(Family::Rows, &row);
        }
        for fact in self.index.referred_hashes(key, refs::HAS_FACT)? {
            self.unlink(refs::key(key, refs::HAS_FACT, &fact));
            self.unlink(refs::key(&fact, refs::FACT, key));
            if !self.referred_to(&fact, refs::FACT, refs::FACT)? {
                self.batch.delete(Family::Facts, &fact);
            }
        }
        for parent in self.index.referred_hashes(key, refs::PARENT)? {
            self.unlink(refs::key(key, refs::PARENT, &parent));
            self.unlink(refs::key(&parent, refs::CHILD, key));
        }
        self.drop_unnamed(&named_by(&old).into_iter().collect::<Vec<_>>())
    }

    fn remove_run(&mut self, id: u64) -> Result<(), StoreError> {
        self.evict_run(id)?;
        self.batch.delete(Family::Runs, &id.to_be_bytes());
        Ok(())
    }

    fn new_blobs(&mut self, new: &NewBlobs) -> Result<(), StoreError> {
        for (digest, record) in &new.records {
            let value = self.index.encode(kind::BLOB, &BlobRow::of(record))?;
            self.batch.put(Family::Blobs, digest.as_bytes(), &value);
            if let Place::Inline(bytes) = &record.place {
                let value = self.index.encode(kind::INLINE, &OpaqueRow(bytes.clone()))?;
                self.batch.put(Family::Inline, digest.as_bytes(), &value);
            }
        }
        for (tree, files) in &new.trees {
            let value = self.index.encode(kind::TREE, files)?;
            self.batch.put(Family::Trees, tree.as_bytes(), &value);
            for file in files {
                self.link(refs::key(file.as_bytes(), refs::TREE, tree.as_bytes()));
            }
        }
        Ok(())
    }

    /// Drops those of these blobs that nothing will name after this change.
    fn drop_unnamed(&mut self, blobs: &[Digest]) -> Result<(), StoreError> {
        let mut digests = blobs.to_vec();
        digests.sort_unstable();
        digests.dedup();
        let alone = self.alone;
        let row_of = |digest: &Digest| {
            let at = alone.binary_search_by(|(other, _)| other.cmp(digest)).ok()?;
            Some(alone[at].1)
        };
        let known: Vec<(Digest, BlobRow)> = digests
            .extract_if(.., |digest| row_of(digest).is_some())
            .filter_map(|digest| Some((digest, row_of(&digest)?)))
            .collect();
        for (digest, row) in known {
            self.drop_recorded(&digest, row)?;
        }
        // All of them are looked at before any goes: a file of a tree among them goes with the tree, and only there.
        let mut named = vec![false; digests.len()];
        let gone = &self.gone;
        self.index.scan_prefixes(Family::Refs, &digests, &mut |at, key, _| {
            if key.get(32).is_none_or(|tag| *tag > refs::LAST_KEEPER) {
                return Ok(false);
            }
            named[at] = !gone.contains(key);
            Ok(!named[at])
        })?;
        let mut named = named.into_iter();
        digests.retain(|_| !named.next().unwrap_or_default());
        let rows = self.index.blob_rows(&digests)?;
        for (digest, row) in digests.iter().zip(rows) {
            if let Some(row) = row {
                self.drop_recorded(digest, row)?;
            }
        }
        Ok(())
    }

    fn drop_blob(&mut self, digest: &Digest) -> Result<(), StoreError> {
        match self.index.blob_row(digest)? {
            Some(row) => self.drop_recorded(digest, row),
            None => Ok(()),
        }
    }

    fn drop_recorded(&mut self, digest: &Digest, row: BlobRow) -> Result<(), StoreError> {
        self.batch.delete(Family::Blobs, digest.as_bytes());
        if row.inline {
            self.batch.delete(Family::Inline, digest.as_bytes());
        }
        self.dropped.blobs.push((*digest, row.without_bytes()));
        if row.hash == HashKind::Tree {
            self.batch.delete(Family::Trees, digest.as_bytes());
            let files = self.index.tree_files(digest)?;
            for file in &files {
                self.unlink(refs::key(file.as_bytes(), refs::TREE, digest.as_bytes()));
            }
            self.drop_unnamed(&files)?;
        }
        Ok(())
    }

    fn rows(&mut self, trace: &Trace, rows: &[Version]) -> Result<(), StoreError> {
        let named = match &self.ahead {
            Some(ahead) => rows.iter().map(|row| ahead.rows.get(row).copied()).collect(),
            None => self.index.rows(rows)?,
        };
        for (place, (version, old)) in rows.iter().zip(named).enumerate() {
            if let Some(old) = old.filter(|old| old != trace) {
                self.unlink(refs::key(old.as_bytes(), refs::ROW, version.as_bytes()));
            }
            self.batch.put(Family::Rows, version.as_bytes(), &tables::row_value(trace, place));
            self.link(refs::key(trace.as_bytes(), refs::ROW, version.as_bytes()));
        }
        Ok(())
    }

    fn facts(&mut self, trace: &Trace, facts: &[(Version, Vec<u8>)]) -> Result<(), StoreError> {
        let present: Vec<bool> = match &self.ahead {
            Some(ahead) => facts.iter().map(|(version, _)| ahead.facts.contains(version)).collect(),
            None => {
                let versions: Vec<Version> = facts.iter().map(|(version, _)| *version).collect();
                let there = self.index.get_each(Family::Facts, &versions, &mut |_, _| Ok(()))?;
                there.into_iter().map(|there| there.is_some()).collect()
            }
        };
        for ((version, fact), present) in facts.iter().zip(present) {
            if fact.is_empty() && !present {
                // It was named as one that is there, and was collected meanwhile.
                continue;
            }
            if !present {
                let value = self.index.encode(kind::FACT, &OpaqueRow(fact.clone()))?;
                self.batch.put(Family::Facts, version.as_bytes(), &value);
                // Others that are written with this one name it too.
                if let Some(ahead) = &mut self.ahead {
                    ahead.facts.insert(*version);
                }
            }
            self.link(refs::key(version.as_bytes(), refs::FACT, trace.as_bytes()));
            self.link(refs::key(trace.as_bytes(), refs::HAS_FACT, version.as_bytes()));
        }
        Ok(())
    }

    fn history(&mut self, trace: &Trace, at_ms: u64, history: Option<&(String, Version)>) {
        let Some((label, version)) = history else { return };
        let key = tables::history_key(label, at_ms, version);
        self.batch.put(Family::History, &key, trace.as_bytes());
        self.link(refs::key(trace.as_bytes(), refs::LABEL, label.as_bytes()));
    }

    fn note(&mut self, trace: &Trace, replacement: &Replacement) -> Result<(), StoreError> {
        let key = tables::ledger_key(trace, replacement.at_ms, replacement.made_ms);
        let value = self.index.encode(kind::REPLACEMENT, replacement)?;
        self.batch.put(Family::Ledger, &key, &value);
        Ok(())
    }

    fn count(&mut self, change: impl FnOnce(&mut tables::Counters)) -> Result<(), StoreError> {
        let counters = match &mut self.counters {
            Some(counters) => counters,
            unread => unread.insert(self.index.counters()?),
        };
        change(counters);
        Ok(())
    }

    /// What a result refers to, as long as it has this record.
    fn remember_references(&mut self, trace: &Trace, record: &ResultRecord) {
        for key in references(trace, record) {
            self.link(key);
        }
    }

    fn forget_references(&mut self, trace: &Trace, record: &ResultRecord) {
        for key in references(trace, record) {
            self.unlink(key);
        }
    }

    fn link(&mut self, key: Vec<u8>) {
        self.batch.put(Family::Refs, &key, &[]);
        self.gone.remove(&key);
    }

    fn unlink(&mut self, key: Vec<u8>) {
        self.batch.delete(Family::Refs, &key);
        self.gone.insert(key);
    }

    /// Whether any reference from `from` with a tag in this range will be left after this change. (Those
    /// that it makes itself are not looked at: what makes references drops no blob that they name.)
    fn referred_to(&self, from: &[u8; 32], first: u8, last: u8) -> Result<bool, StoreError> {
        let mut found = false;
        self.index.scan(Family::Refs, &refs::key(from, first, &[]), &mut |key, _| {
            if !key.starts_with(from) || key.get(32).is_none_or(|tag| *tag > last) {
                return Ok(false);
            }
            found = !self.gone.contains(key);
            Ok(!found)
        })?;
        Ok(found)
    }
}

/// The references that a result with this record has.
fn references(trace: &Trace, record: &ResultRecord) -> Vec<Vec<u8>> {
    let (output, log) = match record.evicted {
        None => (refs::OUTPUT, Some(refs::LOG)),
        Some(_) => (refs::EVICTED, None),
    };
    let outputs = record.outputs.iter().filter_map(|output| output.artifact.as_ref());
    let mut keys: Vec<Vec<u8>> =
        outputs.map(|artifact| refs::key(artifact.digest.as_bytes(), output, trace.as_bytes())).collect();
    if let (Some(log), Some(tag)) = (record.log, log) {
        keys.push(refs::key(log.as_bytes(), tag, trace.as_bytes()));
    }
    keys
}

/// The digests of the outputs, in order.
pub(crate) fn digests(record: &ResultRecord) -> Vec<Option<Digest>> {
    record.outputs.iter().map(|output| output.artifact.as_ref().map(|artifact| artifact.digest)).collect()
}

/// Everything that a result names, each once.
pub(crate) fn named_by(record: &ResultRecord) -> BTreeSet<Digest> {
    digests(record).into_iter().flatten().chain(record.log).collect()
}
