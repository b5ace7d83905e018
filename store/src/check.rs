//! Looking whether everything is as it should be: [`Stats`], and the findings of a verification.
//!
//! The host cross-checks the index in pages, each from a cursor; blob files are read by whoever asks, in
//! several threads. What a killed process may leave (files that nothing names, work folders) is counted and
//! is no finding, and neither are bytes that are known to be gone.

use std::fmt;
use std::sync::PoisonError;

use serde::{Deserialize, Serialize};

use crate::apply;
use crate::blob::Presence;
use crate::damage;
use crate::digest::{Digest, Trace, Version};
use crate::error::StoreError;
use crate::host::{Core, count};
use crate::index::Family;
use crate::journal::Journal;
use crate::record::{BlobRecord, HashKind};
use crate::tables::{self, refs};
use crate::wire::{CheckCursor, Response};

/// How closely to look.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Depth {
    /// Read and hash every blob.
    Full,
    /// Look at the sizes of files only.
    Quick,
    /// Read and hash a part of the blobs: which, follows from the seed.
    Sample {
        /// From 0 to 1.
        fraction: f64,
        /// Another seed, another part.
        seed: u64,
    },
}

impl Depth {
    /// Whether a blob is to be read.
    pub(crate) fn reads(self, digest: &Digest) -> bool {
        match self {
            Self::Full => true,
            Self::Quick => false,
            Self::Sample { fraction, seed } => {
                let mut hasher = blake3::Hasher::new();
                hasher.update(&seed.to_le_bytes());
                hasher.update(digest.as_bytes());
                let hash = hasher.finalize();
                let first = hash.as_bytes().first_chunk::<4>().copied().unwrap_or_default();
                f64::from(u32::from_le_bytes(first)) < fraction * (f64::from(u32::MAX) + 1.0)
            }
        }
    }
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Finding {
    /// The bytes of a blob are not what its name says. It is in quarantine now, and so a miss.
    Damaged {
        /// Which.
        digest: Digest,
        /// What is wrong.
        what: String,
    },
    /// The file of a blob that should be there is not. It is a miss now.
    Missing {
        /// Which.
        digest: Digest,
    },
    /// A row names a result that is not there.
    Row {
        /// The row.
        version: Version,
        /// What it names.
        trace: Trace,
    },
    /// Something of the journal is lost, or was; it was mended as far as that was possible.
    Journal {
        /// What and where.
        what: String,
    },
    /// The index contradicts itself.
    Index {
        /// How.
        what: String,
    },
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damaged { digest, what } => write!(f, "blob `{digest}` is damaged: {what}"),
            Self::Missing { digest } => write!(f, "the file of blob `{digest}` is missing"),
            Self::Row { version, trace } => {
                write!(f, "row `{version}` names `{}`, which has no result", trace.short())
            }
            Self::Journal { what } => f.write_str(what),
            Self::Index { what } => write!(f, "the index contradicts itself: {what}"),
        }
    }
}

/// What a verification looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifyReport {
    /// Entries of the index that were cross-checked.
    pub entries: u64,
    /// Blobs.
    pub blobs: u64,
    /// Blobs that were read and hashed.
    pub read: u64,
    /// Raw bytes that were hashed.
    pub read_bytes: u64,
    /// Things that are not as they should be.
    pub findings: u64,
    /// Files that nothing names: left by a killed process, and no harm.
    pub unnamed: u64,
}

/// What is in a store.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Rows: versions that name a result.
    pub rows: u64,
    /// Results.
    pub results: u64,
    /// Those of them that gave up their bytes.
    pub evicted: u64,
    /// Blobs.
    pub blobs: u64,
    /// Those of them that live in the index.
    pub inline: u64,
    /// Those of them that are folders.
    pub trees: u64,
    /// Runs.
    pub runs: u64,
    /// Pins.
    pub pins: u64,
    /// Raw bytes of all outputs of all results that have them, counted as often as they are named.
    pub named_bytes: u64,
    /// Raw bytes of all blobs, each once.
    pub raw_bytes: u64,
    /// Bytes that the blobs take.
    pub stored_bytes: u64,
    /// Bytes that index and journal take.
    pub index_bytes: u64,
    /// Bytes in quarantine.
    pub quarantine_bytes: u64,
    /// Scratch folders.
    pub scratch: u64,
    /// Bytes in them.
    pub scratch_bytes: u64,
    /// Free bytes on the store's file system.
    pub free_bytes: u64,
    /// How often a result was reused.
    pub reused: u64,
    /// How often one was made.
    pub made: u64,
}

impl Stats {
    /// How many times smaller sharing equal content makes the store; 1 for an empty one.
    pub fn dedup_ratio(&self) -> f64 {
        ratio(self.named_bytes.max(self.raw_bytes), self.raw_bytes)
    }

    /// How many times smaller compression makes it; 1 for an empty one.
    pub fn compression_ratio(&self) -> f64 {
        ratio(self.raw_bytes, self.stored_bytes)
    }

    /// The share of results that were reused among all that were wanted; 0 before any was.
    pub fn hit_rate(&self) -> f64 {
        match self.reused + self.made {
            0 => 0.0,
            all => to_f64(self.reused) / to_f64(all),
        }
    }
}

fn ratio(large: u64, small: u64) -> f64 {
    if small == 0 { 1.0 } else { to_f64(large) / to_f64(small) }
}

#[expect(clippy::cast_precision_loss, reason = "a ratio for people: 53 bits are plenty")]
fn to_f64(number: u64) -> f64 {
    number as f64
}

// Stages of the cross-check.
const ROWS: u8 = 0;
const RESULTS: u8 = 1;
const BLOBS: u8 = 2;
const REFS: u8 = 3;
const HISTORY: u8 = 4;
const MARKS: u8 = 5;
const STAGES: [u8; 6] = [ROWS, RESULTS, BLOBS, REFS, HISTORY, MARKS];

impl Core {
    /// A page of blobs, in the order of their digests, inline ones with their bytes.
    pub(crate) fn blob_page(
        &self,
        after: Option<Digest>,
        limit: u64,
    ) -> Result<Vec<(Digest, BlobRecord)>, StoreError> {
        let page = self.blob_row_page(after, limit)?;
        let digests: Vec<Digest> = page.iter().map(|(digest, _)| *digest).collect();
        let records = self.index.blobs(&digests)?;
        Ok(page
            .into_iter()
            .zip(records)
            .map(|((digest, row), record)| (digest, record.unwrap_or_else(|| row.without_bytes())))
            .collect())
    }

    /// As [`Core::blob_page`], without what lies in other families.
    pub(crate) fn blob_row_page(
        &self,
        after: Option<Digest>,
        limit: u64,
    ) -> Result<Vec<(Digest, tables::BlobRow)>, StoreError> {
        let mut from = after.map(|digest| digest.as_bytes().to_vec()).unwrap_or_default();
        if after.is_some() {
            from.push(0);
        }
        let mut page = Vec::new();
        self.index.scan_once(Family::Blobs, &from, &mut |key, value| {
            if page.len() >= count(limit) {
                return Ok(false);
            }
            let Ok(bytes) = <[u8; 32]>::try_from(key) else {
                return Err(self.index.damaged("a blob", "has a key of a wrong length"));
            };
            let row: tables::BlobRow = self.index.decode(tables::kind::BLOB, "blob", key, value)?;
            page.push((Digest::from_bytes(bytes), row));
            Ok(true)
        })?;
        Ok(page)
    }

    /// Cross-checks a part of the index.
    pub(crate) fn check_page(&self, after: Option<CheckCursor>, limit: u64) -> Result<Response, StoreError> {
        let cursor = after.unwrap_or(CheckCursor { stage: ROWS, key: Vec::new() });
        let family = match cursor.stage {
            ROWS => Family::Rows,
            RESULTS => Family::Results,
            BLOBS => Family::Blobs,
            REFS => Family::Refs,
            HISTORY => Family::History,
            _ => Family::Marks,
        };
        let mut page = Vec::new();
        self.index.scan(family, &cursor.key, &mut |key, value| {
            page.push((key.to_vec(), value.to_vec()));
            Ok(page.len() < count(limit).max(1))
        })?;
        let mut findings = Vec::new();
        for (key, value) in &page {
            if self.check_entry(cursor.stage, key, value)?.is_none() {
                continue;
            }
            // Others write while it is looked at, and what belongs together is read piece by piece: it is looked at again
            // while nobody does.
            let _writer = self.journal();
            if let Some(value) = self.index.get(family, key)? {
                findings.extend(self.check_entry(cursor.stage, key, &value)?);
            }
        }
        let next = match page.last() {
            Some((last, _)) if page.len() >= count(limit).max(1) => {
                let mut key = last.clone();
                key.push(0);
                Some(CheckCursor { stage: cursor.stage, key })
            }
            _ if STAGES.contains(&(cursor.stage + 1)) => {
                Some(CheckCursor { stage: cursor.stage + 1, key: Vec::new() })
            }
            _ => None,
        };
        Ok(Response::Checked { findings, checked: page.len() as u64, next })
    }

    /// What is wrong with one entry, as far as it can be told while others write.
    fn check_entry(&self, stage: u8, key: &[u8], value: &[u8]) -> Result<Option<Finding>, StoreError> {
        let found = match stage {
            ROWS => self.check_row(key, value),
            RESULTS => self.check_result(key, value),
            BLOBS => self.check_blob(key, value),
            REFS => self.check_reference(key),
            HISTORY => self.index.moment(key, value).map(|_| None),
            _ => self.check_mark(key, value),
        };
        match found {
            // A record that cannot be read is what is being looked for.
            Err(StoreError::IndexDamaged { what, .. }) => Ok(Some(Finding::Index { what })),
            found => found,
        }
    }

    /// Reads the journal whole, if asked to, and tells what of it was ever found lost. What cannot be read
    /// is mended: the index has it, and the journal is written anew.
    pub(crate) fn check_journal(&self, read: bool) -> Result<Response, StoreError> {
        // A collection that compacts the journal would take segments away under the reader.
        let _alone = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        let mut checked = 0;
        if read {
            let end = self.journal().end();
            let (root, dir) = (self.root(), self.layout.journal());
            let unreadable = Journal::replay(root, &dir, &self.store_id, None, Some(end), &mut |_, _| {
                checked += 1;
                Ok(())
            })?;
            for part in &unreadable {
                damage::note(
                    &self.layout,
                    &format!(
                        "`{}` could not be read at byte {} ({}); the index had what stood there, and the \
                         journal was written anew from it",
                        part.path.display(),
                        part.offset,
                        part.what
                    ),
                )?;
            }
            if !unreadable.is_empty() {
                self.snapshot()?;
            }
        }
        let notes = damage::notes(&self.layout)?;
        let findings = notes.into_iter().map(|what| Finding::Journal { what }).collect();
        Ok(Response::Checked { findings, checked, next: None })
    }

    fn check_row(&self, key: &[u8], value: &[u8]) -> Result<Option<Finding>, StoreError> {
        let Ok(bytes) = <[u8; 32]>::try_from(key) else {
            return Ok(Some(Finding::Index { what: "a row has a key of a wrong length".to_owned() }));
        };
        let (version, (trace, _)) = (Version::from_bytes(bytes), self.index.decode_row(key, value)?);
        // Taken away since the page was read?
        if self.index.row(&version)? != Some(trace) {
            return Ok(None);
        }
        if self.index.get(Family::Results, trace.as_bytes())?.is_none() {
            return Ok(Some(Finding::Row { version, trace }));
        }
        if !self.has_reference(trace.as_bytes(), refs::ROW, version.as_bytes())? {
            let what = format!("row `{}` is not among those of its result", version.short());
            return Ok(Some(Finding::Index { what }));
        }
        Ok(None)
    }

    fn check_result(&self, key: &[u8], value: &[u8]) -> Result<Option<Finding>, StoreError> {
        let record = self.index.decode_result(key, value)?;
        let Ok(bytes) = <[u8; 32]>::try_from(key) else {
            return Ok(Some(Finding::Index { what: "a result has a key of a wrong length".to_owned() }));
        };
        let trace = Trace::from_bytes(bytes);
        let tag = if record.evicted.is_some() { refs::EVICTED } else { refs::OUTPUT };
        for digest in apply::digests(&record).into_iter().flatten() {
            if !self.has_reference(digest.as_bytes(), tag, trace.as_bytes())?
                && self.index.result(&trace)?.as_ref() == Some(&record)
            {
                let what = format!("result `{}` does not keep its blob `{}`", trace.short(), digest.short());
                return Ok(Some(Finding::Index { what }));
            }
        }
        Ok(None)
    }

    fn check_blob(&self, key: &[u8], value: &[u8]) -> Result<Option<Finding>, StoreError> {
        let row: tables::BlobRow = self.index.decode(tables::kind::BLOB, "blob", key, value)?;
        let Ok(bytes) = <[u8; 32]>::try_from(key) else {
            return Ok(Some(Finding::Index { what: "a blob has a key of a wrong length".to_owned() }));
        };
        let digest = Digest::from_bytes(bytes);
        if row.hash == HashKind::Tree {
            for file in self.index.tree_files(&digest)? {
                if !self.has_reference(file.as_bytes(), refs::TREE, digest.as_bytes())?
                    && self.index.blob_row(&digest)?.is_some()
                {
                    let what = format!("tree `{}` does not keep its file `{}`", digest.short(), file.short());
                    return Ok(Some(Finding::Index { what }));
                }
            }
        }
        Ok(None)
    }

    fn check_reference(&self, key: &[u8]) -> Result<Option<Finding>, StoreError> {
        let wrong = |what: &str| Ok(Some(Finding::Index { what: what.to_owned() }));
        let Some((from, rest)) = key.split_first_chunk::<32>() else {
            return wrong("a reference is too short");
        };
        let Some((tag, to)) = rest.split_first() else { return wrong("a reference has no kind") };
        let part = [tables::meta::IMPORTS, to].concat();
        let (family, there) = match *tag {
            refs::IMPORT => (Family::Meta, part.as_slice()),
            refs::OUTPUT | refs::LOG | refs::EVICTED => (Family::Results, to),
            refs::TREE => (Family::Blobs, to),
            refs::RUN => (Family::Runs, to),
            refs::ROW => (Family::Rows, to),
            refs::HAS_FACT => (Family::Facts, to),
            refs::FACT => (Family::Facts, from.as_slice()),
            refs::LABEL | refs::PARENT => (Family::Results, from.as_slice()),
            refs::CHILD => (Family::Results, to),
            _ => return wrong("a reference is of a kind that is not known"),
        };
        if self.index.get(family, there)?.is_none() && self.index.get(Family::Refs, key)?.is_some() {
            let digits = tables::digits(there);
            return wrong(&format!("a reference is left of `{digits}…`, which is not there"));
        }
        Ok(None)
    }

    fn check_mark(&self, key: &[u8], value: &[u8]) -> Result<Option<Finding>, StoreError> {
        let (trace, id, _) = self.index.mark(key, value)?;
        let there = self.index.result(&trace)?.is_some() && self.index.judgement(id)?.is_some();
        // Taken away since the page was read?
        if there || self.index.get(Family::Marks, key)?.is_none() {
            return Ok(None);
        }
        let what = format!("a mark of judgement {id} is left of `{}`, which is not there", trace.short());
        Ok(Some(Finding::Index { what }))
    }

    fn has_reference(&self, from: &[u8; 32], tag: u8, to: &[u8]) -> Result<bool, StoreError> {
        Ok(self.index.get(Family::Refs, &refs::key(from, tag, to))?.is_some())
    }

    /// Blob files that no recorded blob has.
    pub(crate) fn unnamed_files(&self) -> Result<u64, StoreError> {
        let mut unnamed = 0;
        let mut failed = None;
        self.files.list(&mut |name, _| {
            match self.is_recorded(&name) {
                Ok(true) => {}
                Ok(false) => unnamed += 1,
                Err(error) => failed = Some(error),
            }
            failed.is_none()
        })?;
        failed.map_or(Ok(unnamed), Err)
    }

    /// Counts and sizes.
    pub(crate) fn stats(&self) -> Result<Stats, StoreError> {
        let counters = self.index.counters()?;
        let (scratch, scratch_bytes) = crate::scratch::size(&self.layout);
        let mut stats = Stats {
            scratch,
            scratch_bytes,
            reused: counters.reused,
            made: counters.made,
            free_bytes: self.free_bytes()?,
            index_bytes: folder_bytes(&self.index_dir()) + folder_bytes(&self.layout.journal()),
            quarantine_bytes: folder_bytes(&self.layout.quarantine()),
            ..Stats::default()
        };
        for (family, number) in [
            (Family::Rows, &mut stats.rows),
            (Family::Runs, &mut stats.runs),
            (Family::Pins, &mut stats.pins),
        ] {
            self.index.scan(family, &[], &mut |_, _| {
                *number += 1;
                Ok(true)
            })?;
        }
        self.index.scan(Family::Results, &[], &mut |key, value| {
            let record = self.index.decode_result(key, value)?;
            stats.results += 1;
            if record.evicted.is_some() {
                stats.evicted += 1;
            } else {
                let artifacts = record.outputs.iter().filter_map(|output| output.artifact.as_ref());
                stats.named_bytes += artifacts.map(|artifact| artifact.len).sum::<u64>();
            }
            Ok(true)
        })?;
        self.index.scan(Family::Blobs, &[], &mut |key, value| {
            let row: tables::BlobRow = self.index.decode(tables::kind::BLOB, "blob", key, value)?;
            stats.blobs += 1;
            stats.inline += u64::from(row.inline);
            stats.trees += u64::from(row.hash == HashKind::Tree);
            stats.raw_bytes += row.len;
            stats.stored_bytes += row.stored_len;
            Ok(true)
        })?;
        Ok(stats)
    }

    /// What is wrong with a blob, if anything; read and hashed if `read`.
    pub(crate) fn examine(
        files: &crate::blob::Files,
        digest: &Digest,
        record: &BlobRecord,
        read: bool,
    ) -> Result<Option<Finding>, StoreError> {
        let finding = match files.presence(digest, record)? {
            Presence::Missing => Some(Finding::Missing { digest: *digest }),
            Presence::Damaged(what) => Some(Finding::Damaged { digest: *digest, what }),
            Presence::Present if read => match files.verify(digest, record) {
                Ok(()) => None,
                Err(StoreError::Missing { .. }) => Some(Finding::Missing { digest: *digest }),
                Err(StoreError::Damaged { what, .. }) => Some(Finding::Damaged { digest: *digest, what }),
                Err(error) => return Err(error),
            },
            Presence::Present => None,
        };
        Ok(finding)
    }
}

/// Bytes of the files directly in a folder; what cannot be seen counts nothing.
fn folder_bytes(dir: &std::path::Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    let lens = entries.flatten().filter_map(|entry| entry.metadata().ok());
    lens.filter(std::fs::Metadata::is_file).map(|metadata| metadata.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_a_fraction_and_the_same_for_the_same_seed() {
        let digests: Vec<Digest> = (0..2000u32).map(|n| Digest::of(&n.to_le_bytes())).collect();
        let sample = |fraction, seed| -> Vec<bool> {
            digests.iter().map(|digest| Depth::Sample { fraction, seed }.reads(digest)).collect()
        };
        let tenth = sample(0.1, 1).into_iter().filter(|read| *read).count();
        assert!((120..280).contains(&tenth), "{tenth} of 2000");
        assert_eq!(sample(0.1, 1), sample(0.1, 1));
        assert_ne!(sample(0.1, 1), sample(0.1, 2));
        assert!(sample(1.0, 3).into_iter().all(|read| read));
        assert!(!sample(0.0, 3).into_iter().any(|read| read));
    }
}
