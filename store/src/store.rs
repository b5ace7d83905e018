//! The public face of the store: [`Store`].
//!
//! Bytes are staged by whoever has them ([`Store::stage_bytes`], …) and become part of the store when a
//! [`Commit`] names them; everything about the index goes to the host as a message of `wire.rs`.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::blob::{Bytes, Files};
use crate::check::{Depth, Finding, Stats, VerifyReport};
use crate::collect::{CollectReport, Going, Mode, Policy};
use crate::config::Config;
use crate::digest::{Digest, Trace, Version};
use crate::error::StoreError;
use crate::folder::Folder;
use crate::host::Core;
use crate::hosts::{self, Hosted, Wanted};
use crate::rebuild::RebuildReport;
use crate::record::{Artifact, BlobRecord, Found, Moment, Output, Pin, Replacement, ResultRecord};
use crate::stage::{Staged, StagedBlob};
use crate::tree::Tree;
use crate::wire::{CommitMessage, Opaque, RelinkMessage, Request, Response};
use crate::work::{self, WorkFolder};

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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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
    /// The rows that name it: one per output, in their order, or the one of a result without outputs.
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
    /// The results that this one was made from: their records are kept as long as this one's.
    pub parents: Vec<Trace>,
    /// Opaque nodes under their own key, shared, put if absent: what each version was made of. An empty one
    /// only names a node that was put before: it is kept as long as any result that names it.
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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

/// What became of an attempt to claim a trace.
#[derive(Debug)]
pub enum Claim {
    /// The caller is to compute it; nobody else will, as long as the guard lives.
    Granted(ClaimGuard),
    /// Somebody else was computing it, and this is the result.
    Stored(Found),
    /// Somebody else was computing it, and this is how it failed, in their words.
    Failed(Vec<u8>),
}

/// A claim on a trace. Dropped, it is given back: whoever waits for it finds the result, or goes on.
#[must_use = "dropped, the claim is given back at once"]
pub struct ClaimGuard {
    store: Store,
    trace: Trace,
    claim: u64,
    present: Option<Found>,
    failure: Option<Vec<u8>>,
}

impl ClaimGuard {
    /// What is claimed.
    pub fn trace(&self) -> Trace {
        self.trace
    }

    /// The present result of the trace when the claim was granted: somebody may have been faster.
    pub fn present(&self) -> Option<&Found> {
        self.present.as_ref()
    }

    /// Gives the claim back; those who wait are told that it failed, and how.
    pub fn fail(mut self, failure: Vec<u8>) {
        self.failure = Some(failure);
    }
}

impl Drop for ClaimGuard {
    fn drop(&mut self) {
        let failure = self.failure.take().map(Opaque);
        // A host that is gone has given the claim back already.
        let _ = self.store.ask(Request::Release { trace: self.trace, claim: self.claim, failure });
    }
}

impl std::fmt::Debug for ClaimGuard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClaimGuard").field("trace", &self.trace).finish_non_exhaustive()
    }
}

/// An open store. Clones share it; the last one to go closes it.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    hosted: Arc<Hosted>,
    connection: u64,
    /// Counts what must not happen twice when a request is repeated.
    tokens: AtomicU64,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.hosted.core().disconnect(self.connection);
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("dir", &self.dir()).finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the store in a folder. Opened again in the same process, it is shared.
    ///
    /// # Errors
    ///
    /// [`StoreError::Absent`], [`StoreError::NotAStore`], [`StoreError::Format`], [`StoreError::InUse`],
    /// [`StoreError::Config`], and [`StoreError::IndexDamaged`], which [`Store::rebuild`] mends.
    pub fn open(dir: &Path, open: Open<'_>) -> Result<Self, StoreError> {
        let folder = Folder::open(dir, open.create)?;
        let to_read = open.create == Create::Never;
        let mut wanted = Wanted { wait: open.wait, owner: &open.owner, on_wait: open.on_wait, to_read };
        let hosted = hosts::open(&folder, &mut wanted)?;
        let connection = hosted.core().connect(&open.owner);
        let first = blake3::hash(crate::blob::token().as_bytes());
        let first = first.as_bytes().first_chunk::<8>().copied().unwrap_or_default();
        let tokens = AtomicU64::new(u64::from_le_bytes(first) | 1);
        Ok(Self { inner: Arc::new(Inner { hosted, connection, tokens }) })
    }

    /// Makes the index of a store anew, from its journal and its blob files. It must not be open.
    ///
    /// # Errors
    ///
    /// As for [`Store::open`].
    pub fn rebuild(dir: &Path, open: Open<'_>) -> Result<RebuildReport, StoreError> {
        let folder = Folder::mend(dir)?;
        let mut wanted =
            Wanted { wait: open.wait, owner: &open.owner, on_wait: open.on_wait, to_read: false };
        hosts::rebuild(&folder, &mut wanted)
    }

    /// Hands over every work folder of a store that nobody has open. It needs no index: a store whose disk is
    /// full, or whose index is damaged, has work folders too.
    ///
    /// # Errors
    ///
    /// As for [`Store::open`], and what `each` gives.
    pub fn clean(
        dir: &Path,
        open: Open<'_>,
        each: &mut dyn FnMut(WorkFolder) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let folder = Folder::open(dir, Create::Never)?;
        let mut wanted =
            Wanted { wait: open.wait, owner: &open.owner, on_wait: open.on_wait, to_read: false };
        hosts::clean(&folder, &mut wanted, each)
    }

    /// Whether a folder holds a store, of whatever format; opens nothing.
    pub fn is_at(dir: &Path) -> bool {
        dir.join("format").is_file()
    }

    /// The store's folder, absolute.
    pub fn dir(&self) -> &Path {
        self.core().root()
    }

    /// What tells this store from every other: 32 hex digits, for as long as it exists.
    pub fn id(&self) -> &str {
        &self.core().store_id
    }

    /// What was found lost when the store was opened, in words for a person: to be shown once.
    pub fn warnings(&self) -> &[String] {
        &self.core().warnings
    }

    /// The store's settings, as they were when it was opened.
    pub fn config(&self) -> &Config {
        &self.core().config
    }

    /// The policy that the store's `config.toml` holds now.
    ///
    /// # Errors
    ///
    /// [`StoreError::Config`] when the file is not understood.
    pub fn policy(&self) -> Result<Policy, StoreError> {
        Ok(Config::read(&self.core().layout.config())?.policy)
    }

    /// Keeps a policy in the store's `config.toml`.
    ///
    /// # Errors
    ///
    /// When the file cannot be understood or written.
    pub fn save_policy(&self, policy: &Policy) -> Result<(), StoreError> {
        Config::save_policy(&self.core().layout.config(), policy)
    }

    /// A new, empty, private folder below the store's work folder, on the same file system as the blobs.
    pub fn work_folder(&self, label: &str) -> Result<PathBuf, StoreError> {
        self.files().work_folder(label)
    }

    /// The folders below the store's work folder, by name, and those that were kept of failures
    /// ([`WorkFolder::kept`]).
    pub fn work_folders(&self) -> Result<Vec<WorkFolder>, StoreError> {
        work::list(&self.core().layout, self.files().token())
    }

    /// Removes a folder below the store's work folder, and says how many bytes that freed.
    ///
    /// # Errors
    ///
    /// When it is in use or is none of the store's.
    pub fn remove_work_folder(&self, folder: &WorkFolder) -> Result<u64, StoreError> {
        work::remove(&self.core().layout, folder)
    }

    /// As [`Store::remove_work_folder`], for a folder that [`Store::clean`] handed over.
    ///
    /// # Errors
    ///
    /// When it is none of the store's.
    pub fn remove_work_folder_of(dir: &Path, folder: &WorkFolder) -> Result<u64, StoreError> {
        work::remove(&Folder::open(dir, Create::Never)?.layout, folder)
    }

    // Bytes in.

    /// Hashes and keeps bytes that are in memory.
    pub fn stage_bytes(&self, bytes: &[u8]) -> Result<Staged, StoreError> {
        self.files().stage_bytes(bytes)
    }

    /// Hashes and keeps what a reader gives; memory does not grow with it.
    pub fn stage_reader(&self, reader: &mut dyn Read) -> Result<Staged, StoreError> {
        self.files().stage_reader(reader)
    }

    /// Hashes and keeps a regular file, with its executable bit.
    pub fn stage_file(&self, path: &Path, take: Take) -> Result<Staged, StoreError> {
        self.files().stage_file(path, take)
    }

    /// Hashes and keeps a folder: files, executable bits, links that stay inside, empty folders.
    pub fn stage_tree(&self, path: &Path, take: Take) -> Result<Staged, StoreError> {
        self.files().stage_tree(path, take)
    }

    // The index.

    /// For each version: the result that its row names, if there is one. What is found present is kept
    /// from collection as long as this store is open.
    pub fn lookup(&self, versions: &[Version]) -> Result<Vec<Option<Found>>, StoreError> {
        match self.ask(Request::Lookup(versions.to_vec()))? {
            Response::Found(found) => Ok(found),
            other => Err(self.unexpected(&other)),
        }
    }

    /// The result that a row names, and which of its outputs (by index) the row stands for; 0 for the row of a
    /// result without outputs.
    pub fn row(&self, version: &Version) -> Result<Option<(u16, Found)>, StoreError> {
        match self.ask(Request::Row(*version))? {
            Response::Row(row) => Ok(row),
            other => Err(self.unexpected(&other)),
        }
    }

    /// For each trace: its present result, if there is one.
    pub fn results(&self, traces: &[Trace]) -> Result<Vec<Option<Found>>, StoreError> {
        match self.ask(Request::Results(traces.to_vec()))? {
            Response::Found(found) => Ok(found),
            other => Err(self.unexpected(&other)),
        }
    }

    /// Writes a result, atomically.
    ///
    /// # Errors
    ///
    /// [`StoreError::Missing`] names a blob that is neither staged with it nor in the store.
    pub fn commit(&self, commit: Commit) -> Result<Committed, StoreError> {
        let message = CommitMessage {
            trace: commit.trace,
            rows: commit.rows,
            outputs: commit.outputs,
            staged: announced(&commit.staged),
            log: commit.log,
            made_ms: commit.made_ms,
            cost_ms: commit.cost_ms,
            provenance: Opaque(commit.provenance),
            parents: commit.parents,
            facts: opaque(commit.facts),
            history: commit.history,
            put: commit.put,
        };
        // `commit.staged` lives until here: what the host did not take is removed with it.
        match self.ask(Request::Commit(Box::new(message)))? {
            Response::New => Ok(Committed::New),
            Response::Adopted { found, differs } => Ok(Committed::Adopted { found, differs }),
            Response::Replaced { old, differs } => Ok(Committed::Replaced { old, differs }),
            other => Err(self.unexpected(&other)),
        }
    }

    /// Lets rows name a result that is there; false if it is not there (any longer).
    pub fn relink(&self, relink: Relink) -> Result<bool, StoreError> {
        let Some(trace) = relink.trace else { return Ok(false) };
        let message = RelinkMessage {
            trace,
            rows: relink.rows,
            facts: opaque(relink.facts),
            history: relink.history,
            at_ms: relink.at_ms,
        };
        self.flag(Request::Relink(Box::new(message)))
    }

    /// Claims a trace before computing it: granted, or what became of it once somebody else is done.
    pub fn claim(&self, trace: Trace) -> Result<Claim, StoreError> {
        loop {
            if let Some(claim) = self.claim_within(trace, Duration::from_secs(60))? {
                return Ok(claim);
            }
        }
    }

    /// As [`Store::claim`], but gives up after a while: `None` if somebody else is at it still.
    pub fn claim_within(&self, trace: Trace, wait: Duration) -> Result<Option<Claim>, StoreError> {
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).min(10 * 60 * 1000);
        match self.ask(Request::Claim { trace, wait_ms })? {
            Response::Granted { claim, present } => Ok(Some(Claim::Granted(ClaimGuard {
                store: self.clone(),
                trace,
                claim,
                present,
                failure: None,
            }))),
            Response::Stored(found) => Ok(Some(Claim::Stored(found))),
            Response::ClaimantFailed(failure) => Ok(Some(Claim::Failed(failure.0))),
            Response::Held { .. } => Ok(None),
            other => Err(self.unexpected(&other)),
        }
    }

    /// Notes that these results were used now; what is used is collected last.
    pub fn touch(&self, traces: &[Trace], at_ms: u64) -> Result<(), StoreError> {
        self.done(Request::Touch { traces: traces.to_vec(), at_ms })
    }

    /// The facts under these keys.
    pub fn facts(&self, versions: &[Version]) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
        match self.ask(Request::Facts(versions.to_vec()))? {
            Response::Facts(facts) => Ok(facts.into_iter().map(|fact| fact.map(|fact| fact.0)).collect()),
            other => Err(self.unexpected(&other)),
        }
    }

    /// The provenance of a result.
    pub fn provenance(&self, trace: &Trace) -> Result<Option<Vec<u8>>, StoreError> {
        match self.ask(Request::Provenance(*trace))? {
            Response::Provenance(provenance) => Ok(provenance.map(|provenance| provenance.0)),
            other => Err(self.unexpected(&other)),
        }
    }

    /// Other contents that the same trace had or gave, oldest first: what shows that it is not deterministic.
    pub fn ledger(&self, trace: &Trace) -> Result<Vec<Replacement>, StoreError> {
        match self.ask(Request::Ledger(*trace))? {
            Response::Ledger(ledger) => Ok(ledger),
            other => Err(self.unexpected(&other)),
        }
    }

    /// The latest moments under a label, newest first.
    pub fn history(&self, label: &str, limit: usize) -> Result<Vec<Moment>, StoreError> {
        match self.ask(Request::History { label: label.to_owned(), limit: limit as u64 })? {
            Response::Moments(moments) => Ok(moments),
            other => Err(self.unexpected(&other)),
        }
    }

    /// Walks over the latest moment of every label, in the order of the labels.
    pub fn labels(&self, each: &mut dyn FnMut(Moment) -> bool) -> Result<(), StoreError> {
        let mut after = None;
        loop {
            let moments = match self.ask(Request::Labels { after, limit: PAGE })? {
                Response::Moments(moments) => moments,
                other => return Err(self.unexpected(&other)),
            };
            let Some(last) = moments.last() else { return Ok(()) };
            after = Some(last.label.clone());
            for moment in moments {
                if !each(moment) {
                    return Ok(());
                }
            }
        }
    }

    /// Walks over all rows in key order, each with its result; stops when `each` returns false.
    pub fn rows(&self, each: &mut dyn FnMut(Version, Found) -> bool) -> Result<(), StoreError> {
        let mut after = None;
        loop {
            let (rows, last) = match self.ask(Request::Rows { after, limit: PAGE })? {
                Response::Rows { rows, last } => (rows, last),
                other => return Err(self.unexpected(&other)),
            };
            for (version, found) in rows {
                if !each(version, found) {
                    return Ok(());
                }
            }
            if last.is_none() {
                return Ok(());
            }
            after = last;
        }
    }

    /// The rows that name a result, at most `limit`.
    pub fn rows_of(&self, trace: &Trace, limit: usize) -> Result<Vec<Version>, StoreError> {
        self.versions(Request::RowsOf { trace: *trace, limit: limit as u64 })
    }

    /// All versions of rows whose hex begins with this prefix (four digits or more), at most `limit`.
    pub fn with_prefix(&self, hex: &str, limit: usize) -> Result<Vec<Version>, StoreError> {
        self.versions(Request::WithPrefix { hex: hex.to_owned(), limit: limit as u64 })
    }

    /// The results that name this digest as an output, at most `limit`; those whose bytes were given up last.
    pub fn makers(&self, digest: &Digest, limit: usize) -> Result<Vec<Trace>, StoreError> {
        self.traces(Request::Makers { digest: *digest, limit: limit as u64 })
    }

    /// The results that were made from this one, at most `limit`.
    pub fn children(&self, trace: &Trace, limit: usize) -> Result<Vec<Trace>, StoreError> {
        self.traces(Request::Children { trace: *trace, limit: limit as u64 })
    }

    /// Pins a row. A pin of the same version is replaced.
    pub fn pin(&self, pin: Pin) -> Result<(), StoreError> {
        self.done(Request::Pin(pin))
    }

    /// Takes a pin away; false if there was none.
    pub fn unpin(&self, version: &Version) -> Result<bool, StoreError> {
        self.flag(Request::Unpin(*version))
    }

    /// All pins, oldest first.
    pub fn pins(&self) -> Result<Vec<Pin>, StoreError> {
        match self.ask(Request::Pins)? {
            Response::Pins(pins) => Ok(pins),
            other => Err(self.unexpected(&other)),
        }
    }

    /// Takes the next run's number and notes the run.
    pub fn begin_run(&self, at_ms: u64, record: Vec<u8>) -> Result<u64, StoreError> {
        let token = self.token();
        match self.ask(Request::BeginRun { at_ms, record: Opaque(record), token })? {
            Response::Number(id) => Ok(id),
            other => Err(self.unexpected(&other)),
        }
    }

    /// Replaces the record of a run; `staged` are blobs that it names, besides those that it named before.
    pub fn note_run(&self, id: u64, record: Vec<u8>, staged: Vec<Staged>) -> Result<(), StoreError> {
        let named = staged.iter().map(Staged::digest).collect();
        self.done(Request::NoteRun { id, record: Opaque(record), named, staged: announced(&staged) })
    }

    /// Runs, newest first, older than `before` if given.
    pub fn runs(&self, before: Option<u64>, limit: usize) -> Result<Vec<Run>, StoreError> {
        match self.ask(Request::Runs { before, limit: limit as u64 })? {
            Response::Runs(runs) => Ok(runs),
            other => Err(self.unexpected(&other)),
        }
    }

    // Bytes out. All of these are a miss (see `StoreError::is_miss`) when bytes are gone or wrong.

    /// Writes a blob's raw bytes, checked as they pass: on an error what was written is to be thrown away.
    pub fn read(&self, digest: &Digest, into: &mut dyn Write) -> Result<u64, StoreError> {
        let record = self.record_of(digest)?;
        self.checked(self.files().read(digest, &record, into))
    }

    /// The raw bytes of a blob, without a copy where it is stored raw.
    pub fn bytes(&self, digest: &Digest) -> Result<Bytes, StoreError> {
        let record = self.record_of(digest)?;
        self.checked(self.files().bytes(digest, &record))
    }

    /// The bytes of a blob, for a step; where they are not a copy, with what [`Store::recheck`] is to be asked
    /// about afterwards.
    pub fn lend(&self, digest: &Digest) -> Result<(Bytes, Option<Link>), StoreError> {
        let record = self.record_of(digest)?;
        let (bytes, stamp) = self.checked(self.files().lend(digest, &record))?;
        Ok((bytes, stamp.map(|stamp| stamp.link(*digest))))
    }

    /// The entries of a stored tree.
    pub fn tree(&self, digest: &Digest) -> Result<Tree, StoreError> {
        let record = self.record_of(digest)?;
        self.checked(self.files().tree(digest, &record))
    }

    /// Gives an artifact to a person: writable, never a hard link, whole or not at all. `path` must not exist.
    pub fn materialize(&self, artifact: &Artifact, path: &Path) -> Result<(), StoreError> {
        self.checked(self.files().materialize(artifact, path, &|digests| self.records_of(digests)))
    }

    /// Gives an artifact to a step: read-only, one fixed mtime, without a copy where that can be.
    pub fn provide(&self, artifact: &Artifact, path: &Path) -> Result<Provided, StoreError> {
        self.checked(self.files().provide(artifact, path, &|digests| self.records_of(digests)))
    }

    /// As [`Store::provide`], but never a link into the store: for a second attempt, after what was lent did
    /// not stay as it was.
    pub fn provide_copy(&self, artifact: &Artifact, path: &Path) -> Result<(), StoreError> {
        self.checked(self.files().provide_copy(artifact, path, &|digests| self.records_of(digests)))
    }

    /// Which of the blobs that were handed out are not what they were; each of them is in quarantine now.
    pub fn recheck(&self, links: &[Link]) -> Result<Vec<Digest>, StoreError> {
        let mut wrong = Vec::new();
        for (digest, why) in self.files().recheck(links)? {
            self.quarantine(&digest, &why)?;
            wrong.push(digest);
        }
        Ok(wrong)
    }

    /// Moves a blob out of the way that is not what it should be; it is a miss from now on.
    pub fn quarantine(&self, digest: &Digest, why: &str) -> Result<(), StoreError> {
        self.done(Request::Lost { digest: *digest, why: why.to_owned() })
    }

    // Maintenance.

    /// Collects garbage, or says what would go; `each` is told of everything that goes, in order. A policy
    /// that asks for nothing lets only go what nothing names. `now_ms` is what ages are counted to.
    pub fn gc(
        &self,
        policy: &Policy,
        mode: Mode,
        now_ms: u64,
        each: &mut dyn FnMut(Going),
    ) -> Result<CollectReport, StoreError> {
        let begin = Request::CollectBegin { policy: policy.clone(), now_ms, mode };
        let session = match self.ask(begin)? {
            Response::Number(session) => session,
            other => return Err(self.unexpected(&other)),
        };
        loop {
            match self.ask(Request::CollectNext { session, limit: PAGE })? {
                Response::Collected { going, done, report } => {
                    going.into_iter().for_each(&mut *each);
                    if done {
                        return Ok(report);
                    }
                }
                other => return Err(self.unexpected(&other)),
            }
        }
    }

    /// Re-hashes blobs and cross-checks the index; `each` is told of everything that is not as it should
    /// be. Damaged blobs go to quarantine; those and missing ones are misses from then on.
    pub fn verify(&self, depth: Depth, each: &mut dyn FnMut(Finding)) -> Result<VerifyReport, StoreError> {
        let mut report = VerifyReport::default();
        let mut after = None;
        loop {
            let page = match self.ask(Request::BlobPage { after, limit: PAGE })? {
                Response::BlobPage(page) => page,
                other => return Err(self.unexpected(&other)),
            };
            let Some((last, _)) = page.last() else { break };
            after = Some(*last);
            self.verify_blobs(depth, &page, &mut report, each)?;
        }
        let mut cursor = None;
        loop {
            match self.ask(Request::CheckPage { after: cursor, limit: 4 * PAGE })? {
                Response::Checked { findings, checked, next } => {
                    report.entries += checked;
                    report.findings += findings.len() as u64;
                    findings.into_iter().for_each(&mut *each);
                    if next.is_none() {
                        break;
                    }
                    cursor = next;
                }
                other => return Err(self.unexpected(&other)),
            }
        }
        match self.ask(Request::CheckJournal { read: depth != Depth::Quick })? {
            Response::Checked { findings, checked, .. } => {
                report.entries += checked;
                report.findings += findings.len() as u64;
                findings.into_iter().for_each(&mut *each);
            }
            other => return Err(self.unexpected(&other)),
        }
        match self.ask(Request::Unnamed)? {
            Response::Number(unnamed) => report.unnamed = unnamed,
            other => return Err(self.unexpected(&other)),
        }
        Ok(report)
    }

    fn verify_blobs(
        &self,
        depth: Depth,
        page: &[(Digest, BlobRecord)],
        report: &mut VerifyReport,
        each: &mut dyn FnMut(Finding),
    ) -> Result<(), StoreError> {
        let files = self.files();
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(16);
        let next = std::sync::atomic::AtomicUsize::new(0);
        let work = || -> Result<Vec<(usize, Finding)>, StoreError> {
            let mut found = Vec::new();
            // Blobs differ in size: whoever is free takes the next.
            while let Some((digest, record)) = page.get(next.fetch_add(1, Ordering::Relaxed)) {
                if let Some(finding) = Core::examine(files, digest, record, depth.reads(digest))? {
                    let at = page.partition_point(|(other, _)| other < digest);
                    found.push((at, finding));
                }
            }
            Ok(found)
        };
        let mut found = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            let mut all = Vec::new();
            for worker in workers {
                match worker.join() {
                    Ok(found) => all.extend(found?),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            Ok::<_, StoreError>(all)
        })?;
        found.sort_by_key(|(at, _)| *at);
        report.blobs += page.len() as u64;
        for (_, record) in page.iter().filter(|(digest, _)| depth.reads(digest)) {
            report.read += 1;
            report.read_bytes += record.len;
        }
        for (_, finding) in found {
            match &finding {
                Finding::Damaged { digest, what } => self.quarantine(digest, what)?,
                Finding::Missing { digest } => self.quarantine(digest, "its file is missing")?,
                Finding::Row { .. } | Finding::Journal { .. } | Finding::Index { .. } => {}
            }
            report.findings += 1;
            each(finding);
        }
        Ok(())
    }

    /// Counts and sizes.
    pub fn stats(&self) -> Result<Stats, StoreError> {
        match self.ask(Request::Stats)? {
            Response::Stats(stats) => Ok(stats),
            other => Err(self.unexpected(&other)),
        }
    }

    /// Writes the journal anew, as a snapshot of the index. Collecting does this by itself where it pays.
    pub fn compact(&self) -> Result<(), StoreError> {
        self.done(Request::Compact)
    }

    /// Puts everything that was acknowledged so far on disk.
    ///
    /// # Errors
    ///
    /// When the disk refuses; from then on the store takes no more writes.
    pub fn sync(&self) -> Result<(), StoreError> {
        self.done(Request::Sync)
    }

    // The way to the host.

    fn core(&self) -> &Core {
        self.inner.hosted.core()
    }

    fn files(&self) -> &Files {
        &self.core().files
    }

    /// A number of this connection's own, for what must not happen twice when a request is repeated.
    pub(crate) fn token(&self) -> u64 {
        self.inner.tokens.fetch_add(2, Ordering::Relaxed)
    }

    pub(crate) fn ask(&self, request: Request) -> Result<Response, StoreError> {
        match self.core().serve(self.inner.connection, request) {
            Response::Failed(failure) => Err(failure.into_error(self.dir())),
            response => Ok(response),
        }
    }

    fn done(&self, request: Request) -> Result<(), StoreError> {
        match self.ask(request)? {
            Response::Done => Ok(()),
            other => Err(self.unexpected(&other)),
        }
    }

    fn flag(&self, request: Request) -> Result<bool, StoreError> {
        match self.ask(request)? {
            Response::Flag(flag) => Ok(flag),
            other => Err(self.unexpected(&other)),
        }
    }

    fn versions(&self, request: Request) -> Result<Vec<Version>, StoreError> {
        match self.ask(request)? {
            Response::Versions(versions) => Ok(versions),
            other => Err(self.unexpected(&other)),
        }
    }

    fn traces(&self, request: Request) -> Result<Vec<Trace>, StoreError> {
        match self.ask(request)? {
            Response::Traces(traces) => Ok(traces),
            other => Err(self.unexpected(&other)),
        }
    }

    /// An answer of another kind than its question's.
    pub(crate) fn unexpected(&self, response: &Response) -> StoreError {
        let text = format!("{response:?}");
        let kind = text.split([' ', '(', '{']).next().unwrap_or_default();
        let what = format!("its host gave an answer that does not fit the question: {kind}");
        StoreError::Index { dir: self.dir().to_owned(), what }
    }

    fn records_of(&self, digests: &[Digest]) -> Result<Vec<Option<BlobRecord>>, StoreError> {
        match self.ask(Request::Blobs(digests.to_vec()))? {
            Response::Blobs(records) => Ok(records),
            other => Err(self.unexpected(&other)),
        }
    }

    fn record_of(&self, digest: &Digest) -> Result<BlobRecord, StoreError> {
        let record = self.records_of(std::slice::from_ref(digest))?.pop().flatten();
        record.ok_or(StoreError::Missing { digest: *digest })
    }

    /// Passes a result on; a blob that turned out to be wrong goes to quarantine.
    fn checked<T>(&self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        if let Err(StoreError::Damaged { digest, what }) = &result {
            match self.quarantine(digest, what) {
                // It is as wrong in a store that cannot be written.
                Ok(()) | Err(StoreError::ReadOnly { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        result
    }
}

/// How much is asked for at once where all of something is walked over.
const PAGE: u64 = 1024;

fn announced(staged: &[Staged]) -> Vec<StagedBlob> {
    staged.iter().flat_map(|staged| staged.blobs().iter().cloned()).collect()
}

fn opaque(facts: Vec<(Version, Vec<u8>)>) -> Vec<(Version, Opaque)> {
    facts.into_iter().map(|(version, fact)| (version, Opaque(fact))).collect()
}
