//! Taking away: rows first, then the files that they let go of; on a full disk, files first.
//!
//! Done alone, while nobody names blobs: what somebody reads, or has come to want, stays.

use std::sync::PoisonError;

use crate::answers::in_parts;
use crate::apply::Dropped;
use crate::change::Change;
use crate::crash;
use crate::digest::{Digest, Trace};
use crate::error::StoreError;
use crate::host::{Core, is_full};
use crate::journal::Position;
use crate::record::BlobRecord;
use crate::tables::{BlobRow, refs};

/// With more files than this several threads remove them.
const FILES_PER_THREAD: usize = 256;

/// Blobs that nothing but what is taken away names, in the order of their digests, as it was found when the journal ended
/// here; `None` where something else was written since.
#[derive(Default)]
pub(super) struct Alone<'a> {
    pub(super) blobs: &'a [(Digest, BlobRow)],
    pub(super) until: Option<Position>,
}

impl Core {
    /// Whether nobody wants a result now, asked while nobody else can come to want it: it may have been pinned
    /// or promised to somebody since the order was made.
    pub(super) fn may_go(&self, trace: &Trace, now_ms: u64) -> Result<bool, StoreError> {
        Ok(!self.is_leased(trace) && !self.is_pinned(trace, now_ms)?)
    }

    /// Removes recorded blobs, as far as nothing names them and nobody reads them.
    pub(crate) fn remove_unnamed_blobs(&self, blobs: &[Digest]) -> Result<(), StoreError> {
        for digest in blobs {
            if !self.is_named(digest)? {
                let change = Change::Unnamed { blobs: vec![*digest] };
                self.take_away(&change, &[*digest], |core| Ok(!core.is_named(digest)?))?;
            }
        }
        Ok(())
    }

    /// Whether somebody reads one of these blobs, or a file of one that is a tree.
    pub(super) fn is_read(&self, blobs: &[Digest]) -> Result<bool, StoreError> {
        // Mostly nobody reads anything that is not named, and then no tree has to be asked for its files.
        if !self.is_anything_leased() {
            return Ok(false);
        }
        for digest in blobs {
            if self.is_any_leased(&[*digest]) || self.is_any_leased(&self.index.tree_files(digest)?) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Writes a change that takes something away, which names `blobs`, then removes the files that it let go
    /// of. `None` if `still` says that it must not be taken away any longer, or somebody reads any of them:
    /// bytes that were promised to whoever reads a replaced result may have no other keeper.
    pub(super) fn take_away(
        &self,
        change: &Change,
        blobs: &[Digest],
        still: impl Fn(&Self) -> Result<bool, StoreError>,
    ) -> Result<Option<u64>, StoreError> {
        self.take_away_knowing(change, blobs, &mut Alone::default(), still)
    }

    /// As [`Core::take_away`], where it was found of some of the blobs that nothing else names them.
    pub(super) fn take_away_knowing(
        &self,
        change: &Change,
        blobs: &[Digest],
        alone: &mut Alone<'_>,
        still: impl Fn(&Self) -> Result<bool, StoreError>,
    ) -> Result<Option<u64>, StoreError> {
        let _alone = self.gate.write().unwrap_or_else(PoisonError::into_inner);
        if !still(self)? || self.is_read(blobs)? {
            return Ok(None);
        }
        let mut journal = self.journal();
        crash::point("collect.before-rows");
        // Whatever comes to name a blob is written to the journal: where that ends as it did, nothing has.
        let stands = alone.until.is_some_and(|until| until == journal.end());
        let known = if stands { alone.blobs } else { &[] };
        let dropped = match self.write_knowing(&mut journal, &[change], Vec::new(), known) {
            Err(StoreError::Io { source, .. }) if is_full(&source) => {
                // Not even taking away fits: first make room. A row without its file is a miss.
                self.remove_files_first(change, blobs)?;
                self.write(&mut journal, change, Vec::new())?
            }
            other => other?,
        };
        // Taking away makes nothing be named.
        alone.until = stands.then(|| journal.end());
        drop(journal);
        crash::point("collect.after-rows");
        self.remove_files(&dropped).map(Some)
    }

    /// Removes the files of many by all cores, each in folders of its own.
    fn remove_files(&self, dropped: &Dropped) -> Result<u64, StoreError> {
        let mut blobs: Vec<&(Digest, BlobRecord)> = dropped.blobs.iter().collect();
        blobs.sort_unstable_by_key(|(digest, _)| *digest);
        let removed = in_parts(FILES_PER_THREAD, &blobs, |part| {
            let remove = |(digest, record): &&(Digest, BlobRecord)| {
                self.files.remove(digest, record)?;
                crash::point("collect.file-removed");
                Ok(record.stored_len)
            };
            part.iter().map(remove).collect()
        })?;
        Ok(removed.into_iter().sum())
    }

    /// Removes the files of blobs that only what `change` takes away names.
    fn remove_files_first(&self, change: &Change, blobs: &[Digest]) -> Result<(), StoreError> {
        let goes = |keeper: &(u8, Vec<u8>)| match change {
            Change::Evicted { traces, runs, .. } | Change::Removed { traces, runs } => match keeper.0 {
                refs::OUTPUT | refs::LOG => {
                    traces.iter().any(|trace| trace.as_bytes() == keeper.1.as_slice())
                }
                refs::RUN => runs.iter().any(|run| run.to_be_bytes() == keeper.1.as_slice()),
                refs::TREE => blobs.iter().any(|tree| tree.as_bytes() == keeper.1.as_slice()),
                _ => false,
            },
            Change::Unnamed { .. } => true,
            _ => false,
        };
        for digest in blobs {
            let mut all = vec![*digest];
            all.extend(self.index.tree_files(digest)?);
            for digest in all {
                if self.keepers(&digest)?.iter().all(goes)
                    && let Some(row) = self.index.blob_row(&digest)?
                    && !row.inline
                {
                    self.files.remove(&digest, &row.without_bytes())?;
                }
            }
        }
        Ok(())
    }
}
