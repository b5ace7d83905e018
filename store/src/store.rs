//! The public face of the store: [`Store`].
//!
//! Bytes are staged by whoever has them ([`Store::stage_bytes`], …) and become part of the store when a
//! [`Commit`](crate::Commit) names them; everything about the index goes to the host as a message of `wire.rs`.

mod records;

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::blob::{Bytes, Files};
use crate::client::{Answer, Client};
use crate::collect::Policy;
use crate::config::Config;
use crate::digest::{Digest, Trace, Version};
use crate::error::StoreError;
use crate::folder::Folder;
use crate::hosts::{self, HandedOver, Wanted};
use crate::network;
use crate::processes;
use crate::rebuild::RebuildReport;
use crate::record::{Artifact, BlobRecord, Found};
use crate::scratch::{self, Scratch};
use crate::stage::{Staged, StagedBlob};
use crate::times::MOMENT;
use crate::tree::Tree;
use crate::wire::{Request, Response};
use crate::work::{self, WorkFolder};

/// Whether opening may make a new store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Create {
    /// Make one where there is none.
    IfAbsent,
    /// [`StoreError::Absent`] where there is none.
    Never,
}

/// Whether a process may serve others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Hosting {
    /// It becomes the host where there is none: others then go through it, for as long as it has the store
    /// open. That costs a few threads, and memory for the index.
    #[default]
    Willing,
    /// It uses a host that is there, and waits for one where there is none; [`StoreError::NoHost`] if none
    /// comes.
    Declined,
}

/// How to open a store.
pub struct Open<'a> {
    /// Whether to make one.
    pub create: Create,
    /// Whether to serve other processes.
    pub hosting: Hosting,
    /// How long to wait while a process that has it does not answer.
    pub wait: Duration,
    /// What other processes are told about this one: ``run 12 of `pipeline.yaml` (pid 4711)``.
    pub owner: String,
    /// Told once, with who has the store, when waiting begins.
    pub on_wait: &'a mut dyn FnMut(&str),
}

impl Open<'_> {
    /// The host that is wanted for it, as long as it takes; not to read alone.
    pub(crate) fn wanted(&mut self) -> Wanted<'_> {
        Wanted {
            wait: self.wait,
            moment: MOMENT.get(),
            owner: &self.owner,
            hosting: self.hosting,
            on_wait: &mut *self.on_wait,
            to_read: false,
            go_on: &|| true,
        }
    }
}

/// What may be done with a file or folder that is staged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Take {
    /// It is somebody's: copy (reflink) it.
    Copy,
    /// It is left over: it may be moved into the store, where nobody holds it open for writing.
    Adopt,
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

/// An open store. Clones share it; the last one to go closes it.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    client: Arc<Client>,
    warnings: Vec<String>,
    /// Counts what must not happen twice when a request is repeated.
    tokens: AtomicU64,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.client.close();
    }
}

/// A store that is open as long as somebody else keeps it open.
#[derive(Clone)]
pub struct WeakStore(std::sync::Weak<Inner>);

impl WeakStore {
    /// The store, if it is open still.
    pub fn upgrade(&self) -> Option<Store> {
        Some(Store { inner: self.0.upgrade()? })
    }
}

impl std::fmt::Debug for WeakStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WeakStore").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("dir", &self.dir()).finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the store in a folder. The first process to do so serves the others, until it closes it; then
    /// another one does. Opened again in the same process, it is shared. A child of a fork has to open it
    /// anew. A process that serves many others raises its soft limit of open files (up to nine for each of them), which
    /// the programs that it starts later on inherit.
    ///
    /// # Errors
    ///
    /// [`StoreError::Absent`], [`StoreError::NotAStore`], [`StoreError::Format`], [`StoreError::Network`],
    /// [`StoreError::InUse`] where whoever serves it does not answer, [`StoreError::Skew`],
    /// [`StoreError::NoHost`], [`StoreError::Config`], and [`StoreError::IndexDamaged`], which [`Store::rebuild`] mends.
    pub fn open(dir: &Path, mut open: Open<'_>) -> Result<Self, StoreError> {
        network::check(dir)?;
        let folder = Folder::open(dir, open.create)?;
        let member = hosts::join(folder, &open.owner)?;
        let to_read = open.create == Create::Never;
        let client = Client::open(member, &mut Wanted { to_read, ..open.wanted() })?;
        let warnings = client.warnings();
        let first = blake3::hash(crate::blob::token().as_bytes());
        let first = first.as_bytes().first_chunk::<8>().copied().unwrap_or_default();
        let tokens = AtomicU64::new(u64::from_le_bytes(first) | 1);
        Ok(Self { inner: Arc::new(Inner { client, warnings, tokens }) })
    }

    /// Makes the index of a store anew, from its journal and its blob files. It must not be open.
    ///
    /// # Errors
    ///
    /// As for [`Store::open`].
    pub fn rebuild(dir: &Path, mut open: Open<'_>) -> Result<RebuildReport, StoreError> {
        network::check(dir)?;
        let folder = Folder::mend(dir)?;
        hosts::rebuild(&folder, &mut open.wanted())
    }

    /// Hands over every work folder of a store that no live process uses. It needs no index: a store whose disk
    /// is full, or whose index is damaged, has work folders too.
    ///
    /// # Errors
    ///
    /// As for [`Store::open`], and what `each` gives.
    pub fn clean(
        dir: &Path,
        mut open: Open<'_>,
        each: &mut dyn FnMut(WorkFolder) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let folder = Folder::open(dir, Create::Never)?;
        hosts::clean(&folder, &open.wanted(), each)
    }

    /// Whether a folder holds a store, of whatever format; opens nothing.
    pub fn is_at(dir: &Path) -> bool {
        dir.join("format").is_file()
    }

    /// The store's folder, absolute.
    pub fn dir(&self) -> &Path {
        self.client().member().folder.layout.root()
    }

    /// What tells this store from every other: 32 hex digits, for as long as it exists.
    pub fn id(&self) -> &str {
        &self.client().member().folder.id
    }

    /// What this store is called where others may read it, in what is kept of its results and in exports: 16 hex digits. Its
    /// id is not told by that, from which what is secret is hidden with.
    pub fn name(&self) -> String {
        // The journal has no more of the id, from which the format file is written again where the index is lost, too.
        let known = self.id().get(..24).unwrap_or(self.id());
        let name = blake3::derive_key("cas 2026 name of a store 1", known.as_bytes());
        name[..8].iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// What was found lost when the store was opened, in words for a person: to be shown once.
    pub fn warnings(&self) -> &[String] {
        &self.inner.warnings
    }

    /// What the process is called that serves the store now, and whether it is this one.
    pub fn host(&self) -> (String, bool) {
        self.client().host()
    }

    /// Sets who is told, later on, that a host is waited for which does not answer: with who that is.
    pub fn on_wait(&self, tell: impl Fn(&str) + Send + Sync + 'static) {
        self.client().set_teller(Arc::new(tell));
    }

    /// The process ends as soon as this store is closed: what goes with its memory need not be taken apart before. What
    /// is on disk, and what others are told, is as always.
    pub fn ends_with_the_process(&self) {
        self.client().ends_with_the_process();
    }

    /// This store, without keeping it open.
    pub fn downgrade(&self) -> WeakStore {
        WeakStore(Arc::downgrade(&self.inner))
    }

    /// Lets another process serve the store, because this one is about to be stopped (Ctrl-Z). Until the
    /// returned value is dropped this process does not serve; what it claims and leases stays its own, for
    /// 30 s without a sign of it.
    ///
    /// Of limits it keeps what it has begun to use ([`Share::begin`](crate::Share::begin)), for as long as it is stopped, but for
    /// its cores. A [`Share`](crate::Share) that was not begun with is given back, and whoever waits in
    /// [`Store::share_while`] leaves the queue until the returned value is dropped.
    pub fn hand_over(&self) -> HandedOver {
        hosts::hand_over(self.client().member())
    }

    /// The store's settings, as they were when it was opened.
    pub fn config(&self) -> &Config {
        &self.client().member().config
    }

    /// The policy that the store's `config.toml` holds now.
    ///
    /// # Errors
    ///
    /// [`StoreError::Config`] when the file is not understood.
    pub fn policy(&self) -> Result<Policy, StoreError> {
        Ok(Config::read(&self.files().layout().config())?.policy)
    }

    /// Keeps a policy in the store's `config.toml`.
    ///
    /// # Errors
    ///
    /// When the file cannot be understood or written.
    pub fn save_policy(&self, policy: &Policy) -> Result<(), StoreError> {
        Config::save_policy(&self.files().layout().config(), policy)
    }

    /// A new, empty, private folder below the store's work folder, on the same file system as the blobs.
    pub fn work_folder(&self, label: &str) -> Result<PathBuf, StoreError> {
        self.files().work_folder(label)
    }

    /// Takes the scratch folder of this name (a file's), on the same file system as the work folders; `None` while
    /// somebody has it.
    pub fn scratch(&self, name: &str) -> Result<Option<Scratch>, StoreError> {
        scratch::take(self.files().layout(), name)
    }

    /// How many scratch folders there are, and how many bytes are in them.
    pub fn scratch_size(&self) -> (u64, u64) {
        scratch::size(self.files().layout())
    }

    /// The path of a work folder that is yet to be made, or moved there: no other has it.
    pub fn work_path(&self, label: &str) -> PathBuf {
        self.files().work_path(label)
    }

    /// What this process is called among those that have the store open: no other ever is.
    pub fn process(&self) -> &str {
        self.files().token()
    }

    /// Whether a process that is called so has the store open. What cannot be told counts as yes.
    pub fn is_live(&self, process: &str) -> bool {
        process == self.process() || processes::is_live(self.files().layout(), process)
    }

    /// The folders below the store's work folder, by name, and those that were kept of failures
    /// ([`WorkFolder::kept`]).
    pub fn work_folders(&self) -> Result<Vec<WorkFolder>, StoreError> {
        work::list(self.files().layout(), self.files().token())
    }

    /// Removes a folder below the store's work folder, and says how many bytes that freed.
    ///
    /// # Errors
    ///
    /// When it is in use or is none of the store's.
    pub fn remove_work_folder(&self, folder: &WorkFolder) -> Result<u64, StoreError> {
        work::remove(self.files().layout(), folder)
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

    /// Moves a blob out of the way that is not what it should be; it is a miss from now on. False where it is right by
    /// now, or was given up meanwhile.
    pub fn quarantine(&self, digest: &Digest, why: &str) -> Result<bool, StoreError> {
        self.flag(Request::Lost { digest: *digest, why: why.to_owned() })
    }

    // The way to the host.

    pub(crate) fn client(&self) -> &Client {
        &self.inner.client
    }

    pub(crate) fn files(&self) -> &Files {
        &self.client().member().files
    }

    /// A number of this connection's own, for what must not happen twice when a request is repeated.
    pub(crate) fn token(&self) -> u64 {
        self.inner.tokens.fetch_add(2, Ordering::Relaxed)
    }

    pub(crate) fn ask(&self, request: Request) -> Result<Response, StoreError> {
        Ok(self.ask_on(request)?.response)
    }

    /// Asks, and says on which link the answer came.
    pub(crate) fn ask_on(&self, request: Request) -> Result<Answer, StoreError> {
        let answer = self.client().ask(request)?;
        match answer.response {
            Response::Failed(failure) => Err(failure.into_error(self.dir())),
            _ => Ok(answer),
        }
    }

    /// Notes for the next host what this one said is present.
    pub(crate) fn note_found<'a>(&self, found: impl Iterator<Item = &'a Found>) {
        let present = found.filter(|found| found.present.contains(&true));
        self.note_leases(present.map(|found| found.trace));
    }

    /// As [`Store::note_found`], for results that are known to be present.
    pub(crate) fn note_leases(&self, traces: impl Iterator<Item = Trace>) {
        self.client().member().file.lease(traces);
    }

    pub(crate) fn note_lease(&self, trace: Trace) {
        self.note_leases(std::iter::once(trace));
    }

    pub(crate) fn done(&self, request: Request) -> Result<(), StoreError> {
        match self.ask(request)? {
            Response::Done => Ok(()),
            other => Err(self.unexpected(&other)),
        }
    }

    pub(crate) fn flag(&self, request: Request) -> Result<bool, StoreError> {
        match self.ask(request)? {
            Response::Flag(flag) => Ok(flag),
            other => Err(self.unexpected(&other)),
        }
    }

    pub(crate) fn versions(&self, request: Request) -> Result<Vec<Version>, StoreError> {
        match self.ask(request)? {
            Response::Versions(versions) => Ok(versions),
            other => Err(self.unexpected(&other)),
        }
    }

    pub(crate) fn traces(&self, request: Request) -> Result<Vec<Trace>, StoreError> {
        match self.ask(request)? {
            Response::Traces(traces) => Ok(traces),
            other => Err(self.unexpected(&other)),
        }
    }

    /// An answer of another kind than its question's.
    pub(crate) fn unexpected(&self, response: &Response) -> StoreError {
        if matches!(response, Response::TooLong) {
            let what = "its host's answer would be longer than a message may be".to_owned();
            return StoreError::Index { dir: self.dir().to_owned(), what };
        }
        let text = format!("{response:?}");
        let kind = text.split([' ', '(', '{']).next().unwrap_or_default();
        let what = format!("its host gave an answer that does not fit the question: {kind}");
        StoreError::Index { dir: self.dir().to_owned(), what }
    }

    pub(crate) fn records_of(&self, digests: &[Digest]) -> Result<Vec<Option<BlobRecord>>, StoreError> {
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
                Ok(_) | Err(StoreError::ReadOnly { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        result
    }
}

/// How much is asked for at once where all of something is walked over.
pub(crate) const PAGE: u64 = 1024;

pub(crate) fn announced(staged: &[Staged]) -> Vec<StagedBlob> {
    staged.iter().flat_map(|staged| staged.blobs().iter().cloned()).collect()
}
