//! A new index from the journal and the blob files.
//!
//! Built beside the old one and put in its place when it is whole: killed at any point, either the old
//! index is there or none, and then it is done again.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::apply;
use crate::change::{Change, NewBlobs};
use crate::check::Finding;
use crate::crash;
use crate::damage;
use crate::digest::Digest;
use crate::durable::FLUSH_BYTES;
use crate::error::{At, StoreError};
use crate::host::{self, Core};
use crate::index::{Expect, Family, Index};
use crate::journal::{Journal, Unreadable};
use crate::layout::{BlobName, Layout};
use crate::record::HashKind;

/// An index is copied in parts of this size.
const COPY_BYTES: usize = 8 * 1024 * 1024;

/// What a rebuild brought back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RebuildReport {
    /// Changes that were read from the journal.
    pub changes: u64,
    /// Blobs that were found as files alone and are recorded again.
    pub recovered: u64,
    /// Blobs that are recorded and whose files are gone: misses now.
    pub missing: u64,
    /// Places of the journal that could not be read, in words.
    pub unreadable: Vec<String>,
}

/// Makes the index of a store anew. The lock is held, and nothing has the index open.
pub(crate) fn rebuild(layout: &Layout, store_id: &str) -> Result<RebuildReport, StoreError> {
    let mut report = RebuildReport::default();
    let old = layout.index();
    let new = layout.root().join("index.new");
    let aside = layout.root().join("index.old");
    for folder in [&new, &aside] {
        remove_folder(folder)?;
    }
    crash::point("rebuild.begin");
    match fill(layout, store_id, &new, &mut report) {
        Ok(()) => {}
        Err(error) => {
            // What was begun is worth nothing, and on a full disk it is in the way.
            let _ = fs::remove_dir_all(&new);
            return Err(error);
        }
    }
    crash::point("rebuild.replayed");
    crash::point("rebuild.flushed");
    if old.exists() {
        fs::rename(&old, &aside).at("rename", &old)?;
    }
    crash::point("rebuild.old-aside");
    fs::rename(&new, &old).at("rename", &new)?;
    crash::point("rebuild.new-named");
    remove_folder(&aside)?;
    Ok(report)
}

/// Makes the new index, in a folder of its own.
fn fill(layout: &Layout, store_id: &str, new: &Path, report: &mut RebuildReport) -> Result<(), StoreError> {
    let old = layout.index();
    let dir = layout.journal();
    fs::create_dir_all(&dir).at("make", &dir)?;
    let mut unreadable = from_journal(layout, store_id, new, None, &mut report.changes)?;
    if !unreadable.is_empty()
        && let Ok(index) = Index::open(layout.root(), &old, Expect::Index)
    {
        // The journal has holes and the index can be opened: what it has is taken from it.
        remove_folder(new)?;
        let mut changes = 0;
        match from_journal(layout, store_id, new, Some(&index), &mut changes) {
            Ok(_) => report.changes = changes,
            Err(_) => {
                // It could be opened and not be read: the journal alone, then.
                drop(index);
                remove_folder(new)?;
                report.changes = 0;
                unreadable = from_journal(layout, store_id, new, None, &mut report.changes)?;
            }
        }
    }
    for part in unreadable {
        let what =
            format!("`{}` could not be read at byte {}: {}", part.path.display(), part.offset, part.what);
        damage::note(layout, &what)?;
        report.unreadable.push(what);
        if part.is_whole_segment {
            // It would be in the way of every start. It is kept: somebody may know what to do with it.
            let quarantine = layout.quarantine();
            fs::create_dir_all(&quarantine).at("make", &quarantine)?;
            let name = part.path.file_name().unwrap_or_default();
            let to = quarantine.join(format!("journal-{}", name.to_string_lossy()));
            fs::rename(&part.path, &to).at("move", &part.path)?;
        }
    }
    Ok(())
}

/// Fills a new index in `new`: with all that `index` has, if it is given, and with what the journal has
/// beyond that. Gives what cannot be read of the journal.
fn from_journal(
    layout: &Layout,
    store_id: &str,
    new: &Path,
    index: Option<&Index>,
    changes: &mut u64,
) -> Result<Vec<Unreadable>, StoreError> {
    let made = Index::open(layout.root(), new, Expect::Nothing)?;
    host::check_store(&made, store_id)?;
    let mut after = None;
    if let Some(index) = index {
        let view = index.view();
        for family in Family::ALL {
            let mut batch = made.batch();
            view.scan(family, &mut |key, value| {
                batch.put(family, key, value);
                if batch.size() > COPY_BYTES {
                    made.write(std::mem::replace(&mut batch, made.batch()))?;
                    made.flush()?;
                }
                Ok(true)
            })?;
            made.write(batch)?;
        }
        after = index.position()?;
    }
    let (mut unflushed, mut last) = (0, 0);
    let unreadable =
        Journal::replay(layout.root(), &layout.journal(), store_id, after, None, &mut |change, position| {
            apply::apply(&made, change, position)?;
            *changes += 1;
            unflushed += position.offset.saturating_sub(last);
            last = position.offset;
            if unflushed > FLUSH_BYTES {
                made.flush()?;
                unflushed = 0;
            }
            Ok(())
        })?;
    made.flush()?;
    Ok(unreadable)
}

impl Core {
    /// After a rebuild: what the files have that the journal has not, and the other way round.
    pub(crate) fn match_files(&self, report: &mut RebuildReport) -> Result<(), StoreError> {
        let mut names: Vec<BlobName> = Vec::new();
        let mut failed = None;
        self.files.list(&mut |name, _| {
            let wanted = self
                .index
                .blob_row(&name.digest)
                .and_then(|row| Ok(row.is_none() && self.is_named(&name.digest)?));
            match wanted {
                Ok(true) => names.push(name),
                Ok(false) => {}
                Err(error) => failed = Some(error),
            }
            failed.is_none()
        })?;
        if let Some(error) = failed {
            return Err(error);
        }
        for name in names {
            let record = match self.files.identify(&name) {
                Ok(record) => record,
                // It is not what its name says: it stays a file that nothing names.
                Err(error) if error.is_miss() => continue,
                Err(error) => return Err(error),
            };
            let mut trees = Vec::new();
            if name.hash == HashKind::Tree {
                let tree = self.files.tree(&name.digest, &record)?;
                trees.push((name.digest, tree.files()));
            }
            let blobs = NewBlobs { records: vec![(name.digest, record)], trees };
            self.write_one(&Change::Blobs(blobs))?;
            report.recovered += 1;
        }
        let mut after: Option<Digest> = None;
        loop {
            let page = self.blob_page(after, 1024)?;
            let Some((last, _)) = page.last() else { break };
            after = Some(*last);
            for (digest, record) in &page {
                if let Some(Finding::Missing { .. }) = Self::examine(&self.files, digest, record, false)? {
                    self.write_one(&Change::Lost { blobs: vec![*digest] })?;
                    report.missing += 1;
                }
            }
        }
        if !report.unreadable.is_empty() {
            // So that the journal holds all that the index holds, and can be read from its beginning.
            self.snapshot()?;
        }
        Ok(())
    }
}

fn remove_folder(folder: &std::path::Path) -> Result<(), StoreError> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).at("remove", folder),
        _ => Ok(()),
    }
}
