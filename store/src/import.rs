//! Taking over an archive: its parts one by one, which count when the last of them is there.
//!
//! ```text
//! archive ─► some blobs and records ─► host: journal, kept aside ─► … ─► end: all of them become results, in one change
//! ```
//!
//! An archive may be larger than a message, and its bytes larger than the memory, so it is told to the host in parts; its
//! records are all held at its end. A part's blobs are
//! recorded at once and kept by the import that is under way ([`refs::IMPORT`]); its results are kept aside in the
//! index, where no lookup sees them. The last message makes results of them, all in one change, which is decided then:
//! what is there already stays, what counts as absent stays absent, and so does what was made from it. An import that is
//! not ended leaves what the next collection removes, once its process is gone.
//!
//! Invariants: no record of an archive is found by anybody before all are; every message may come twice.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::PoisonError;

use serde::{Deserialize, Serialize};

use crate::apply;
use crate::archive::{Archived, Part, Parts, Record, Told, unreadable};
use crate::change::{Change, NewBlobs, NewImport, NewPart, Taking};
use crate::crash;
use crate::digest::{Digest, Trace};
use crate::error::StoreError;
use crate::host::Core;
use crate::index::{Family, Index};
use crate::processes;
use crate::record::{HashKind, Kind, Place};
use crate::stage::{Bounds, Links, Staged, StagedBlob};
use crate::store::Store;
use crate::tables::{kind, meta};
use crate::wire::{Request, Response};

/// A part is told when it holds so much: far less than a message or a record of the journal may.
const PART_BYTES: usize = 1024 * 1024;

/// So many blobs are in one part at most.
const PART_BLOBS: usize = 1024;

/// What is asked of the host about an import. `import` is its name: what its process calls itself, and a number.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Ask {
    /// Some of it.
    Part { import: String, number: u32, records: Vec<Record>, staged: Vec<StagedBlob> },
    /// That was all, in so many parts.
    End { import: String, parts: u32, at_ms: u64 },
    /// It will not be ended.
    GiveUp { import: String },
}

/// A part as it is kept until its import is ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PartRow {
    /// The blobs that it keeps, also those that were there before.
    pub(crate) held: Vec<Digest>,
    pub(crate) records: Vec<Record>,
}

/// What came of the import that was ended last: for whoever asks twice, because the answer was lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ImportedRow {
    pub(crate) import: String,
    pub(crate) archived: Archived,
}

impl Store {
    /// Takes over the results of an archive, all or none, after everything in it was checked. What is there already
    /// stays; where it has other content, that is noted. `at_ms` is now.
    ///
    /// # Errors
    ///
    /// [`StoreError::Archive`] where it is none, or is not whole; [`StoreError::ArchiveBase`] where it needs another that was not imported.
    pub fn import(&self, path: &Path, at_ms: u64) -> Result<Archived, StoreError> {
        let mut parts = Parts::open(path)?;
        let import = self.files().new_name();
        let imported = self.import_parts(&mut parts, &import, at_ms);
        if imported.is_err() {
            // Whatever it was is told; what cannot be taken away now goes with a later collection.
            let _ = self.told(Ask::GiveUp { import });
        }
        imported
    }

    fn import_parts(&self, parts: &mut Parts, import: &str, at_ms: u64) -> Result<Archived, StoreError> {
        let head = parts.head()?;
        let mut archived = Archived::default();
        let mut sent = 0;
        let mut pending = Pending::default();
        let explained = |parts: &Parts, error: StoreError| match error {
            StoreError::Missing { digest } if head.since.is_some() => parts.lacks(digest),
            StoreError::Missing { digest } => {
                parts.bad(&format!("it names a blob that it does not hold: `{digest}`"))
            }
            error => error,
        };
        let mut tell = |parts: &Parts, pending: &mut Pending| {
            let Pending { records, staged, .. } = std::mem::take(pending);
            let blobs = staged.iter().flat_map(|staged| staged.blobs().iter().cloned()).collect();
            let ask = Ask::Part { import: import.to_owned(), number: sent, records, staged: blobs };
            sent += 1;
            // What the host did not take is removed with `staged`, after this.
            let told = self.told(ask).map(drop).map_err(|error| explained(parts, error));
            drop(staged);
            told
        };
        loop {
            match parts.next()? {
                Part::Head(_) => return Err(parts.bad("it begins twice")),
                Part::Blob { digest, hash, len } => {
                    if archived.results > 0 {
                        return Err(parts.bad("content stands behind results"));
                    }
                    let staged = self.take(parts, digest, hash, len)?;
                    pending.bytes += staged.blobs().iter().map(inline_bytes).sum::<usize>();
                    pending.staged.push(staged);
                    archived.blobs += 1;
                    archived.bytes += len;
                }
                Part::Result(record) => {
                    pending.bytes += parts.len();
                    pending.records.push(*record);
                    archived.results += 1;
                }
                Part::End { results, blobs } => {
                    if (results, blobs) != (archived.results, archived.blobs) {
                        return Err(parts.bad("its end counts other parts than it has"));
                    }
                    parts.ended()?;
                    break;
                }
            }
            if pending.is_enough() {
                tell(parts, &mut pending)?;
            }
        }
        tell(parts, &mut pending)?;
        let ask = Ask::End { import: import.to_owned(), parts: sent, at_ms };
        let counted = self.told(ask).map_err(|error| explained(parts, error))?;
        Ok(Archived { blobs: archived.blobs, bytes: archived.bytes, ..counted })
    }

    fn told(&self, ask: Ask) -> Result<Archived, StoreError> {
        match self.ask(Request::Archive(crate::archive::Ask::Import(ask)))? {
            Response::Archive(Told::Imported(archived)) => Ok(archived),
            other => Err(self.unexpected(&other)),
        }
    }

    /// Stages a blob of an archive, checked.
    fn take(
        &self,
        parts: &mut Parts,
        digest: Digest,
        hash: HashKind,
        len: u64,
    ) -> Result<Staged, StoreError> {
        let files = self.files();
        let bounds = Bounds {
            inline_limit_bytes: files.inline_limit_bytes(),
            known: &|_| false,
            links: Links::Follow,
        };
        let path = parts.path().to_owned();
        let piece = match files.stage_stream(&mut parts.content(len), &path, hash, &bounds) {
            Err(StoreError::Io { action: "read", path: of, source }) if of == path => {
                return Err(StoreError::Archive { path, what: unreadable(&source) });
            }
            piece => piece?,
        };
        if piece.len != len {
            return Err(parts.bad("it ends in the middle of a blob"));
        }
        if piece.digest != digest {
            return Err(parts.bad(&format!("blob `{digest}` does not match its digest")));
        }
        let blobs = piece.blob.into_iter().collect();
        Ok(Staged::new(Kind::File { executable: false }, digest, len, blobs, files.layout().staging()))
    }
}

/// What the next part will hold.
#[derive(Default)]
struct Pending {
    records: Vec<Record>,
    staged: Vec<Staged>,
    bytes: usize,
}

impl Pending {
    fn is_enough(&self) -> bool {
        self.bytes >= PART_BYTES || self.staged.len() >= PART_BLOBS
    }
}

fn inline_bytes(blob: &StagedBlob) -> usize {
    match &blob.record.place {
        Place::Inline(bytes) => bytes.len(),
        Place::File => 0,
    }
}

impl Index {
    /// The parts of an import that is not ended, in order.
    pub(crate) fn parts_of(&self, import: &str) -> Result<Vec<(Vec<u8>, PartRow)>, StoreError> {
        let mut parts = Vec::new();
        self.scan_prefix(Family::Meta, &meta::import_prefix(import), &mut |key, value| {
            parts.push((key.to_vec(), self.decode(kind::IMPORT_PART, "part of an import", key, value)?));
            Ok(true)
        })?;
        Ok(parts)
    }

    /// The imports that are not ended.
    fn open_imports(&self) -> Result<BTreeSet<String>, StoreError> {
        let mut imports = BTreeSet::new();
        self.scan_prefix(Family::Meta, meta::IMPORTS, &mut |key, _| {
            imports.extend(meta::import_of(key));
            Ok(true)
        })?;
        Ok(imports)
    }

    fn last_import(&self) -> Result<Option<ImportedRow>, StoreError> {
        let value = self.get(Family::Meta, meta::IMPORTED)?;
        value.map(|bytes| self.decode(kind::IMPORTED, "import", meta::IMPORTED, &bytes)).transpose()
    }
}

impl Core {
    /// Answers what is asked about imports.
    pub(crate) fn import(&self, connection: u64, ask: Ask) -> Result<Archived, StoreError> {
        self.durable.check(self.root())?;
        match ask {
            Ask::Part { import, number, records, staged } => {
                self.import_part(
                    connection,
                    NewPart {
                        import,
                        number,
                        blobs: NewBlobs::default(),
                        row: PartRow { held: Vec::new(), records },
                    },
                    &staged,
                )?;
                Ok(Archived::default())
            }
            Ask::End { import, parts, at_ms } => self.import_end(connection, import, parts, at_ms),
            Ask::GiveUp { import } => {
                self.drop_import(&import)?;
                Ok(Archived::default())
            }
        }
    }

    fn import_part(
        &self,
        connection: u64,
        mut part: NewPart,
        staged: &[StagedBlob],
    ) -> Result<(), StoreError> {
        if meta::import_of(&meta::import_key(&part.import, part.number)).as_ref() != Some(&part.import) {
            return Err(self.index_error("an import has a name that is none"));
        }
        let _shared = self.gate.read().unwrap_or_else(PoisonError::into_inner);
        part.blobs = self.receive(connection, staged, BTreeSet::new())?;
        crash::point("import.blobs-installed");
        let names = self.sync_large(&part.blobs)?;
        part.row.held = staged.iter().map(|blob| blob.digest).collect();
        let mut journal = self.journal();
        self.write(&mut journal, &Change::ImportPart(Box::new(part)), names)?;
        let end = journal.end();
        drop(journal);
        crash::point("import.part-written");
        self.acknowledge(end)
    }

    fn import_end(
        &self,
        connection: u64,
        import: String,
        parts: u32,
        at_ms: u64,
    ) -> Result<Archived, StoreError> {
        let _shared = self.gate.read().unwrap_or_else(PoisonError::into_inner);
        let rows = self.index.parts_of(&import)?;
        if rows.len() as u64 != u64::from(parts) {
            return match self.index.last_import()? {
                // Told again: the answer was lost with a host.
                Some(last) if last.import == import => Ok(last.archived),
                _ => {
                    Err(self
                        .index_error("the parts of an import were collected before its end: import again"))
                }
            };
        }
        let records: Vec<Record> = rows.into_iter().flat_map(|(_, row)| row.records).collect();
        let whole = records.iter().filter(|record| record.record.evicted.is_none());
        // What this names and does not hold itself is looked for.
        self.receive(connection, &[], whole.flat_map(|record| apply::named_by(&record.record)).collect())?;
        crash::point("import.before-end");
        let mut journal = self.journal();
        let mut archived = Archived::default();
        let mut takings = BTreeMap::new();
        let mut replaced = Vec::new();
        for record in &records {
            archived.results += 1;
            let trace = record.trace;
            let here = self.find(&[trace])?.pop().flatten();
            let taking = match here {
                Some(_) if self.marks.forgotten(&trace) => {
                    archived.forgotten += 1;
                    Taking::LeaveOut
                }
                Some(here)
                    if record.record.evicted.is_some() || (here.whole() && here.record.evicted.is_none()) =>
                {
                    archived.known += 1;
                    archived.differing +=
                        u64::from(apply::digests(&here.record) != apply::digests(&record.record));
                    Taking::KeepOwn
                }
                Some(here) => {
                    replaced.push(here);
                    Taking::Take
                }
                None => Taking::Take,
            };
            takings.entry(trace).or_insert(taking);
        }
        let takings: Vec<(Trace, Taking)> = takings.into_iter().collect();
        let change = Change::Imported(Box::new(NewImport { import, at_ms, takings, archived }));
        self.write(&mut journal, &change, Vec::new())?;
        let end = journal.end();
        drop(journal);
        crash::point("import.ended");
        for found in &replaced {
            self.keep_bytes_of(&found.trace, &found.record);
        }
        self.acknowledge(end)?;
        Ok(archived)
    }

    /// Forgets an import that is not ended, and removes what only it kept.
    fn drop_import(&self, import: &str) -> Result<(), StoreError> {
        let rows = self.index.parts_of(import)?;
        if rows.is_empty() {
            return Ok(());
        }
        self.write_one(&Change::ImportDropped { import: import.to_owned() })?;
        crash::point("import.dropped");
        let held: Vec<Digest> = rows.into_iter().flat_map(|(_, row)| row.held).collect();
        for some in held.chunks(PART_BLOBS) {
            self.remove_unnamed_blobs(some)?;
        }
        Ok(())
    }

    /// Forgets the imports of processes that are gone. What they kept is unnamed from then on.
    pub(crate) fn drop_dead_imports(&self) -> Result<(), StoreError> {
        for import in self.index.open_imports()? {
            let token = import.split_once('-').map_or(import.as_str(), |(token, _)| token);
            if token != self.files.token() && !processes::is_live(&self.layout, token) {
                self.write_one(&Change::ImportDropped { import })?;
            }
        }
        Ok(())
    }
}
