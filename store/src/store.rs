//! The public face of the store: [`Store`].
//!
//! Bytes are staged by whoever has them ([`Store::stage_bytes`], …) and become part of the store when a
//! [`Commit`] names them; everything about the index goes to the host as a message of `wire.rs`.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::blob::Bytes;
use crate::digest::{Digest, Trace, Version};
use crate::error::StoreError;
use crate::record::{Artifact, Found, Moment, Output, Pin, ResultRecord};
use crate::stage::Staged;

/// Whether opening may make a new store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Create {
    /// Make one where there is none.
    IfAbsent,
    /// [`StoreError::Absent`] where there is none.
    Never,
}

/// How to open a store.
pub struct Open<'a> {
    /// Whether to make one.
    pub create: Create,
    /// How long to wait while another process has it.
    pub wait: Duration,
    /// What other processes are told about this one: ``run 12 of `pipeline.yaml` (pid 4711)``.
    pub owner: String,
    /// Told once, with who has the store, when waiting begins.
    pub on_wait: &'a mut dyn FnMut(&str),
}

/// What may be done with a file or folder that is staged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Take {
    /// It is somebody's: copy (reflink) it.
    Copy,
    /// It is left over: it may be moved into the store, where nobody holds it open for writing.
    Adopt,
}

/// What to do where the trace has a result already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// The first wins while its bytes are there; where any of them is gone, as [`Put::Replace`].
    IfAbsent,
    /// The new result replaces all outputs of the old one, whose digests go to the ledger.
    Replace,
}

/// A result and everything that is kept with it, written in one batch or not at all.
#[derive(Debug)]
pub struct Commit {
    /// The key of the result.
    pub trace: Trace,
    /// The rows that name it: one per output, or the one of a result without outputs.
    pub rows: Vec<Version>,
    /// All outputs, in declared order.
    pub outputs: Vec<Output>,
    /// The bytes that `outputs` and `log` name.
    pub staged: Vec<Staged>,
    /// What the execution printed.
    pub log: Option<Digest>,
    /// When.
    pub made_ms: u64,
    /// How long it took.
    pub cost_ms: u64,
    /// Opaque: where this came from. Kept beside the result, replaced with it.
    pub provenance: Vec<u8>,
    /// Opaque nodes under their own key, shared, put if absent: what each version was made of.
    pub facts: Vec<(Version, Vec<u8>)>,
    /// The line of history to add (its `trace` is this one).
    pub history: Option<(String, Version)>,
    /// Where there is one already.
    pub put: Put,
}

/// What became of a commit.
#[derive(Debug)]
pub enum Committed {
    /// The result is the trace's present one.
    New,
    /// Another result was there first and is the trace's present one; `differs` if its content is not ours.
    Adopted {
        /// The present result.
        found: Found,
        /// Whether any output's digest differs.
        differs: bool,
    },
    /// The result took the place of this one.
    Replaced {
        /// What was there.
        old: ResultRecord,
        /// Whether any output's digest differs.
        differs: bool,
    },
}

/// Rows that are to name a result that is there already (its inputs' content was the same), all or none.
#[derive(Debug, Default)]
pub struct Relink {
    /// The key of the result.
    pub trace: Option<Trace>,
    /// The rows.
    pub rows: Vec<Version>,
    /// As in a [`Commit`].
    pub facts: Vec<(Version, Vec<u8>)>,
    /// As in a [`Commit`].
    pub history: Option<(String, Version)>,
    /// When.
    pub at_ms: u64,
}

/// A file or tree that was given to somebody to read.
#[derive(Debug, Clone)]
pub struct Provided {
    /// Where it was put.
    pub path: PathBuf,
    /// The blobs that stand there as links into the store, with what they looked like: they are checked
    /// afterwards with [`Store::recheck`].
    pub links: Vec<Link>,
}

/// A blob that was handed out without a copy.
#[derive(Debug, Clone)]
pub struct Link {
    /// Which.
    pub digest: Digest,
    /// Its file's size and modification time in nanoseconds, when it was handed out.
    pub len: u64,
    /// See `len`.
    pub mtime_ns: i128,
    /// When the file's node last changed in any way, in nanoseconds.
    pub ctime_ns: i128,
    /// The file's node.
    pub inode: u64,
}

/// One execution of a plan, as it is kept.
#[derive(Debug, Clone)]
pub struct Run {
    /// Counted from 1 within a store.
    pub id: u64,
    /// When it began.
    pub at_ms: u64,
    /// Opaque.
    pub record: Vec<u8>,
    /// Blobs that the record names (logs): kept as long as the run is.
    pub blobs: Vec<Digest>,
}

/// An open store. Clones share it; the last one to go closes it.
#[derive(Clone)]
pub struct Store {
    _private: (),
}

#[expect(unused_variables, reason = "signatures first")]
impl Store {
    /// Opens the store in a folder.
    pub fn open(dir: &Path, open: Open<'_>) -> Result<Self, StoreError> {
        todo!()
    }

    /// Whether a folder holds a store, of whatever format; opens nothing.
    pub fn is_at(dir: &Path) -> bool {
        dir.join("format").is_file()
    }

    /// The store's folder, absolute.
    pub fn dir(&self) -> &Path {
        todo!()
    }

    /// A new, empty, private folder below the store's work folder, on the same file system as the blobs.
    pub fn work_folder(&self, label: &str) -> Result<PathBuf, StoreError> {
        todo!()
    }

    // Bytes in.

    /// Hashes and keeps bytes that are in memory.
    pub fn stage_bytes(&self, bytes: &[u8]) -> Result<Staged, StoreError> {
        todo!()
    }

    /// Hashes and keeps what a reader gives; memory does not grow with it.
    pub fn stage_reader(&self, reader: &mut dyn Read) -> Result<Staged, StoreError> {
        todo!()
    }

    /// Hashes and keeps a regular file, with its executable bit.
    pub fn stage_file(&self, path: &Path, take: Take) -> Result<Staged, StoreError> {
        todo!()
    }

    /// Hashes and keeps a folder: files, executable bits, links that stay inside, empty folders.
    pub fn stage_tree(&self, path: &Path, take: Take) -> Result<Staged, StoreError> {
        todo!()
    }

    // The index.

    /// For each version: the result that its row names, if there is one.
    pub fn lookup(&self, versions: &[Version]) -> Result<Vec<Option<Found>>, StoreError> {
        todo!()
    }

    /// The result that a row names, and which of its outputs (by index) the row stands for; 0 for the row of a
    /// result without outputs.
    pub fn row(&self, version: &Version) -> Result<Option<(u16, Found)>, StoreError> {
        todo!()
    }

    /// For each trace: its present result, if there is one.
    pub fn results(&self, traces: &[Trace]) -> Result<Vec<Option<Found>>, StoreError> {
        todo!()
    }

    /// Writes a result, atomically.
    pub fn commit(&self, commit: Commit) -> Result<Committed, StoreError> {
        todo!()
    }

    /// Lets rows name a result that is there; false if it is not there (any longer).
    pub fn relink(&self, relink: Relink) -> Result<bool, StoreError> {
        todo!()
    }

    /// Notes that these results were used now; what is used is collected last.
    pub fn touch(&self, traces: &[Trace], at_ms: u64) -> Result<(), StoreError> {
        todo!()
    }

    /// The facts under these keys.
    pub fn facts(&self, versions: &[Version]) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
        todo!()
    }

    /// The provenance of a result.
    pub fn provenance(&self, trace: &Trace) -> Result<Option<Vec<u8>>, StoreError> {
        todo!()
    }

    /// The latest moments under a label, newest first.
    pub fn history(&self, label: &str, limit: usize) -> Result<Vec<Moment>, StoreError> {
        todo!()
    }

    /// Walks over the latest moment of every label, in the order of the labels.
    pub fn labels(&self, each: &mut dyn FnMut(Moment) -> bool) -> Result<(), StoreError> {
        todo!()
    }

    /// Walks over all rows in key order, each with its result; stops when `each` returns false.
    pub fn rows(&self, each: &mut dyn FnMut(Version, Found) -> bool) -> Result<(), StoreError> {
        todo!()
    }

    /// All versions of rows whose hex begins with this prefix (four digits or more), at most `limit`.
    pub fn with_prefix(&self, hex: &str, limit: usize) -> Result<Vec<Version>, StoreError> {
        todo!()
    }

    /// The results that name this digest as an output, at most `limit`.
    pub fn makers(&self, digest: &Digest, limit: usize) -> Result<Vec<Trace>, StoreError> {
        todo!()
    }

    /// Pins a row. A pin of the same version is replaced.
    pub fn pin(&self, pin: Pin) -> Result<(), StoreError> {
        todo!()
    }

    /// Takes a pin away; false if there was none.
    pub fn unpin(&self, version: &Version) -> Result<bool, StoreError> {
        todo!()
    }

    /// All pins, oldest first.
    pub fn pins(&self) -> Result<Vec<Pin>, StoreError> {
        todo!()
    }

    /// Takes the next run's number and notes the run.
    pub fn begin_run(&self, at_ms: u64, record: Vec<u8>) -> Result<u64, StoreError> {
        todo!()
    }

    /// Replaces the record of a run; `staged` are blobs that it names.
    pub fn note_run(&self, id: u64, record: Vec<u8>, staged: Vec<Staged>) -> Result<(), StoreError> {
        todo!()
    }

    /// Runs, newest first, older than `before` if given.
    pub fn runs(&self, before: Option<u64>, limit: usize) -> Result<Vec<Run>, StoreError> {
        todo!()
    }

    // Bytes out. All of these are a miss (see `StoreError::is_miss`) when bytes are gone or wrong.

    /// Writes a blob's raw bytes, checked as they pass: on an error what was written is to be thrown away.
    pub fn read(&self, digest: &Digest, into: &mut dyn std::io::Write) -> Result<u64, StoreError> {
        todo!()
    }

    /// The raw bytes of a blob, without a copy where it is stored raw.
    pub fn bytes(&self, digest: &Digest) -> Result<Bytes, StoreError> {
        todo!()
    }

    /// The entries of a stored tree.
    pub fn tree(&self, digest: &Digest) -> Result<crate::tree::Tree, StoreError> {
        todo!()
    }

    /// Gives an artifact to a person: writable, never a hard link, whole or not at all. `path` must not exist.
    pub fn materialize(&self, artifact: &Artifact, path: &Path) -> Result<(), StoreError> {
        todo!()
    }

    /// Gives an artifact to a step: read-only, one fixed mtime, without a copy where that can be.
    pub fn provide(&self, artifact: &Artifact, path: &Path) -> Result<Provided, StoreError> {
        todo!()
    }

    /// Which of the blobs that were handed out are not what they were; each of them is in quarantine now.
    pub fn recheck(&self, links: &[Link]) -> Result<Vec<Digest>, StoreError> {
        todo!()
    }
}
