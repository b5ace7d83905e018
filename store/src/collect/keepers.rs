//! What keeps what: the names of a blob, the pins, labels and children of a result, and when it was used.

use std::collections::BTreeSet;

use crate::digest::{Digest, Trace, Version};
use crate::error::StoreError;
use crate::host::Core;
use crate::index::Family;
use crate::layout::BlobName;
use crate::record::ResultRecord;
use crate::tables::{self, BlobRow, refs};

/// So many blobs are looked at together.
pub(super) const LOOKED_AT: usize = 4096;

/// What is on record of a blob, and everything that keeps it: tags and the rests of the keys.
pub(super) struct Looked {
    pub(super) digest: Digest,
    pub(super) row: Option<BlobRow>,
    pub(super) keepers: Vec<(u8, Vec<u8>)>,
}

/// When a result was used last, of which this is noted.
pub(super) fn last_use(noted: Option<u64>, record: &ResultRecord) -> u64 {
    noted.unwrap_or(record.made_ms).max(record.made_ms)
}

impl Core {
    /// Looks at blobs together, each once, in the order of their digests.
    pub(super) fn look_at(&self, digests: &[Digest]) -> Result<Vec<Looked>, StoreError> {
        let mut digests = digests.to_vec();
        digests.sort_unstable();
        digests.dedup();
        let mut keepers = vec![Vec::new(); digests.len()];
        self.each_keeper(&digests, &mut |at, tag, rest| {
            keepers[at].push((tag, rest.to_vec()));
            true
        })?;
        let rows = self.index.blob_rows_once(&digests)?;
        let looked = digests.into_iter().zip(rows).zip(keepers);
        Ok(looked.map(|((digest, row), keepers)| Looked { digest, row, keepers }).collect())
    }

    /// Everything that keeps a blob: tags and the rests of the keys.
    pub(super) fn keepers(&self, digest: &Digest) -> Result<Vec<(u8, Vec<u8>)>, StoreError> {
        let mut keepers = Vec::new();
        self.each_keeper(std::slice::from_ref(digest), &mut |_, tag, rest| {
            keepers.push((tag, rest.to_vec()));
            true
        })?;
        Ok(keepers)
    }

    /// Gives everything that keeps each of these blobs, which are in the order of their digests: the place of the blob, the
    /// tag, the rest of the key. `each` says whether more that keep the same blob are wanted.
    pub(super) fn each_keeper(
        &self,
        digests: &[Digest],
        each: &mut dyn FnMut(usize, u8, &[u8]) -> bool,
    ) -> Result<(), StoreError> {
        self.index.scan_prefixes(Family::Refs, digests, &mut |at, key, _| {
            let Some((tag, rest)) = key.get(32..).and_then(<[u8]>::split_first) else { return Ok(true) };
            // Those that keep a blob come first.
            Ok(*tag <= refs::LAST_KEEPER && each(at, *tag, rest))
        })
    }

    /// Whether anything keeps a blob.
    pub(crate) fn is_named(&self, digest: &Digest) -> Result<bool, StoreError> {
        Ok(self.named(std::slice::from_ref(digest))?.contains(&true))
    }

    /// Whether anything keeps each of these blobs, which are in the order of their digests.
    pub(super) fn named(&self, digests: &[Digest]) -> Result<Vec<bool>, StoreError> {
        // Those that keep a blob come first.
        let keeps = |tag: Option<u8>| tag.is_some_and(|tag| tag <= refs::LAST_KEEPER);
        Ok(self.index.first_tags(digests)?.into_iter().map(keeps).collect())
    }

    /// Whether a blob is recorded that lies in the file of this name.
    pub(crate) fn is_recorded(&self, name: &BlobName) -> Result<bool, StoreError> {
        let row = self.index.blob_row(&name.digest)?;
        Ok(row.is_some_and(|row| !row.inline && BlobName::of(&name.digest, &row.without_bytes()) == *name))
    }

    pub(super) fn labels_of(&self, trace: &Trace) -> Result<Vec<String>, StoreError> {
        let labels = self.index.referred(trace.as_bytes(), refs::LABEL)?;
        Ok(labels.into_iter().filter_map(|label| String::from_utf8(label).ok()).collect())
    }

    /// Whether a result is among the newest `number` different ones under a label.
    pub(super) fn is_among_last(&self, label: &str, trace: &Trace, number: u64) -> Result<bool, StoreError> {
        let mut newer = BTreeSet::new();
        let mut found = false;
        self.index.scan_prefix(Family::History, &tables::label_prefix(label), &mut |_, value| {
            if value == trace.as_bytes() {
                found = true;
                return Ok(false);
            }
            newer.insert(value.to_vec());
            Ok((newer.len() as u64) < number)
        })?;
        Ok(found)
    }

    pub(super) fn has_live_children(&self, trace: &Trace) -> Result<bool, StoreError> {
        for child in self.index.referred_hashes(trace.as_bytes(), refs::CHILD)? {
            if !self.is_gone(&child)? && self.index.result(&Trace::from_bytes(child))?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub(super) fn last_use(&self, trace: &Trace, record: &ResultRecord) -> Result<u64, StoreError> {
        let used = self.index.used_ms(std::slice::from_ref(trace))?.pop().flatten();
        Ok(last_use(used, record))
    }

    /// Whether a pin that has not run out names a row of this result.
    pub(super) fn is_pinned(&self, trace: &Trace, now_ms: u64) -> Result<bool, StoreError> {
        // Each result is asked of, and most stores have no pins at all.
        if self.index.is_empty(Family::Pins)? {
            return Ok(false);
        }
        for row in self.index.referred_hashes(trace.as_bytes(), refs::ROW)? {
            let pin = self.index.pin(&Version::from_bytes(row))?;
            if pin.is_some_and(|pin| pin.until_ms.is_none_or(|until| until > now_ms)) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
