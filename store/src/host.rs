//! The process that owns the index: it answers every request, its own too.
//!
//! Owns the lock, the index, the journal, claims, shares and leases, and alone renames into or removes from the
//! blob folders. One writer at a time decides, appends to the journal and applies to the index. Commits run
//! beside each other up to that point and share the `gate`; whoever removes blobs takes it alone, in short
//! steps, so that what a commit found present is still there when it is named.
//!
//! Making goes file → journal → index, removing goes index → file.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;

pub(crate) use crate::answers::count;
use crate::apply::{self, Dropped};
use crate::blob::Files;
use crate::change::Change;
use crate::claims::Claims;
use crate::collect::Session;
use crate::config::{Config, Durability};
use crate::crash;
use crate::damage;
use crate::digest::Digest;
use crate::disk;
use crate::durable::{self, Durable, Next};
use crate::error::{At, StoreError};
use crate::frozen;
use crate::guests::Former;
use crate::index::{Expect, Family, Index, once_let_go};
use crate::journal::{self, Journal};
use crate::judge::Marks;
use crate::layout::{BlobName, Layout};
use crate::leases::Connections;
use crate::lock::HostLock;
use crate::processes;
use crate::reserve;
use crate::shares::Shares;
use crate::sync::{Mutex, MutexGuard, RwLock};
use crate::tables::{self, BlobRow};
use crate::tidy::Tidy;

/// The open host; closing it is dropping it.
pub(crate) struct Host {
    core: Arc<Core>,
    threads: Vec<JoinHandle<()>>,
    /// Last: the lock goes after everything that it guards. A store that is only read has none.
    lock: Option<HostLock>,
}

/// What the host's threads share.
pub(crate) struct Core {
    pub(crate) layout: Layout,
    pub(crate) files: Arc<Files>,
    pub(crate) index: Index,
    pub(crate) config: Config,
    pub(crate) store_id: String,
    /// The one writer.
    journal: Mutex<Journal>,
    pub(crate) durable: Durable,
    /// Shared by commits, taken alone by whoever removes blobs.
    pub(crate) gate: RwLock<()>,
    pub(crate) connections: Connections,
    pub(crate) claims: Claims,
    pub(crate) shares: Shares,
    /// Whether somebody whom the former host served is waited for.
    frozen: AtomicBool,
    /// The connection that collects.
    collecting: Mutex<Option<u64>>,
    pub(crate) marks: Marks,
    pub(crate) session: Mutex<Option<Session>>,
    pub(crate) tidy: Tidy,
    pub(crate) former: Former,
    /// What was found lost when the store was opened, in words.
    pub(crate) warnings: Vec<String>,
}

impl Host {
    /// Opens index and journal under a lock that is held already, and waits for what another process may still be
    /// letting go of for as long as `go_on` says.
    ///
    /// # Errors
    ///
    /// [`StoreError::IndexDamaged`] where the index has to be made anew.
    pub(crate) fn open(
        layout: Layout,
        store_id: &str,
        lock: HostLock,
        expect: Expect,
        go_on: &dyn Fn() -> bool,
        files: Arc<Files>,
    ) -> Result<Self, StoreError> {
        let core = match Self::open_core(&layout, store_id, expect, go_on, Arc::clone(&files)) {
            // Not even its journal can be opened: it can still be read.
            Err(StoreError::Io { source, .. }) if is_full(&source) => {
                frozen::open(&layout, store_id, files, "its disk is full")?
            }
            opened => opened?,
        };
        let core = Arc::new(core);
        let mut threads = vec![begin_thread(&core, "cas-store-sync", Core::keep_durable)?];
        if core.config.policy.max_size_bytes.is_some() {
            threads.push(begin_thread(&core, "cas-store-tidy", Core::keep_tidy)?);
        }
        Ok(Self { core, threads, lock: Some(lock) })
    }

    /// Opens a store that cannot be written, for the reason `why`, to be read.
    pub(crate) fn open_frozen(
        layout: &Layout,
        store_id: &str,
        files: Arc<Files>,
        why: &str,
    ) -> Result<Self, StoreError> {
        let core = Arc::new(frozen::open(layout, store_id, files, why)?);
        Ok(Self { core, threads: Vec::new(), lock: None })
    }

    pub(crate) fn open_core(
        layout: &Layout,
        store_id: &str,
        expect: Expect,
        go_on: &dyn Fn() -> bool,
        files: Arc<Files>,
    ) -> Result<Core, StoreError> {
        let config = Config::read(&layout.config())?;
        // First, because it makes room.
        let own = files.token();
        files.sweep_staging(&|token| token == own || processes::is_live(layout, token))?;
        let index = open_index(layout, expect, go_on)?;
        let applied = index.position()?;
        check_store(&index, store_id)?;
        crash::point("host.index-opened");
        let mut flushed = applied;
        let closed_at = damage::journal_end(&layout.journal_end());
        let opened = Journal::open(
            layout.root(),
            &layout.journal(),
            store_id,
            applied,
            closed_at,
            &mut |change, position| {
                apply::apply(&index, change, position)?;
                crash::point("host.change-replayed");
                if position.beyond(flushed) > durable::FLUSH_BYTES {
                    index.flush()?;
                    flushed = Some(position);
                }
                Ok(())
            },
        )?;
        for what in &opened.lost {
            damage::note(layout, what)?;
        }
        if applied.is_none() && index.position()?.is_none() {
            // From here on an index without a journal is one whose journal was lost, not a new one.
            let mut batch = index.batch();
            batch.put(Family::Meta, tables::meta::POSITION, &opened.journal.end().to_bytes());
            index.write(batch)?;
            index.flush()?;
            // The folders of the index and of the journal are new.
            disk::sync_folder(layout.root()).at("sync", layout.root())?;
            damage::set_journal_end(&layout.journal_end(), opened.journal.end());
        }
        // What many processes left, each too little to be flushed, is flushed by one of them.
        let durable = Durable::behind(opened.journal.end().beyond(flushed));
        let mut warnings = opened.lost;
        if index.is_frozen() {
            let root = layout.root().display();
            warnings.push(format!("the disk of `{root}` is full: `cas gc` or `cas clean` makes room"));
        }
        let core = Core::new(files, index, config, store_id, opened.journal, durable, warnings)?;
        core.expect_back(core.files.token())?;
        if opened.incomplete {
            core.snapshot()?;
        }
        reserve::keep(&core.layout.reserve(), core.free_bytes()?);
        Ok(core)
    }

    /// What the connections share.
    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.core.durable.close();
        self.core.tidy.close();
        for thread in self.threads.drain(..) {
            // A panic of that thread was printed when it happened; there is nobody left to tell.
            let _ = thread.join();
        }
        // Nothing can be reported here either. What could not be synced is lost with the machine's power,
        // not with this process.
        if self.core.durable.is_dirty() {
            let _ = self.core.sync(None);
        }
        if self.core.durable.unflushed_bytes() > durable::FLUSH_AT_CLOSE_BYTES {
            let _ = self.core.index.flush();
        }
        if self.lock.is_none() {
            return;
        }
        damage::set_journal_end(&self.core.layout.journal_end(), self.core.journal().end());
        self.core.files.save_marks();
    }
}

/// Begins one of the host's threads.
fn begin_thread(core: &Arc<Core>, name: &str, work: fn(&Core)) -> Result<JoinHandle<()>, StoreError> {
    let in_thread = Arc::clone(core);
    std::thread::Builder::new().name(name.to_owned()).spawn(move || work(&in_thread)).map_err(|source| {
        StoreError::Io { action: "begin a thread for", path: core.layout.root().to_owned(), source }
    })
}

/// Opens the index, once whoever had it has let go of it. On a full disk the reserve makes room.
fn open_index(layout: &Layout, expect: Expect, go_on: &dyn Fn() -> bool) -> Result<Index, StoreError> {
    let open = || {
        // Where room is short it is found out now: what is too little to be opened may be enough for `gc`.
        let lazily = expect == Expect::Index
            && free_bytes(layout.root()).is_ok_and(|free| free >= reserve::PLENTY_BYTES);
        if lazily {
            Index::open_lazily(layout.root(), &layout.index())
        } else {
            Index::open(layout.root(), &layout.index(), expect)
        }
    };
    loop {
        match once_let_go(go_on, open) {
            Err(StoreError::Io { source, .. }) if is_full(&source) && reserve::release(&layout.reserve()) => {
            }
            // The journal needs less room than the index, and what it takes can be kept in memory.
            Err(StoreError::Io { source, .. }) if is_full(&source) => {
                return Index::open_frozen(layout.root(), &layout.index());
            }
            other => return other,
        }
    }
}

/// How much room there is on the store's file system.
pub(crate) fn free_bytes(root: &Path) -> Result<u64, StoreError> {
    let stat = rustix::fs::statvfs(root).at("look at", root)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Whether there is no room, on the disk or in what this user may take of it.
pub(crate) fn is_full(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
}

/// An index that belongs to another store (a folder that was copied together) answers nothing.
pub(crate) fn check_store(index: &Index, store_id: &str) -> Result<(), StoreError> {
    match index.get(Family::Meta, tables::meta::STORE)? {
        Some(id) if id == store_id.as_bytes() => Ok(()),
        Some(_) => Err(index.damaged("its index", "belongs to another store")),
        None => {
            let mut batch = index.batch();
            batch.put(Family::Meta, tables::meta::STORE, store_id.as_bytes());
            index.write(batch)
        }
    }
}

impl Core {
    pub(crate) fn new(
        files: Arc<Files>,
        index: Index,
        config: Config,
        store_id: &str,
        journal: Journal,
        durable: Durable,
        warnings: Vec<String>,
    ) -> Result<Self, StoreError> {
        let marks = Marks::load(&index)?;
        let shares = Shares::new(config.limits.clone());
        Ok(Self {
            layout: files.layout().clone(),
            files,
            index,
            config,
            store_id: store_id.to_owned(),
            journal: Mutex::new(journal),
            durable,
            gate: RwLock::new(()),
            connections: Connections::new(),
            claims: Claims::default(),
            shares,
            frozen: AtomicBool::new(false),
            collecting: Mutex::new(None),
            marks,
            session: Mutex::new(None),
            tidy: Tidy::default(),
            former: Former::new(),
            warnings,
        })
    }

    /// Whether somebody whom the former host served is waited for.
    pub(crate) fn is_frozen(&self) -> bool {
        self.frozen.load(Ordering::SeqCst)
    }

    pub(crate) fn set_frozen(&self, frozen: bool) {
        self.frozen.store(frozen, Ordering::SeqCst);
    }

    /// Makes this connection the one that collects, or says who keeps it from that.
    pub(crate) fn begin_collection(&self, connection: u64) -> Option<String> {
        if self.is_frozen() {
            return Some("a process that is expected back".to_owned());
        }
        let mut collecting = self.collecting.lock().unwrap_or_else(PoisonError::into_inner);
        match *collecting {
            Some(other) if other != connection => Some(self.connections.owner(other)),
            _ => {
                *collecting = Some(connection);
                None
            }
        }
    }

    pub(crate) fn collects(&self, connection: u64) -> bool {
        *self.collecting.lock().unwrap_or_else(PoisonError::into_inner) == Some(connection)
    }

    /// Ends the collection of a connection, if it has one.
    pub(crate) fn abandon_collection(&self, connection: u64) {
        let mut collecting = self.collecting.lock().unwrap_or_else(PoisonError::into_inner);
        if *collecting == Some(connection) {
            *collecting = None;
            *self.session.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }

    /// Appends a change to the journal and applies it; the caller is the one writer.
    pub(crate) fn write(
        &self,
        journal: &mut Journal,
        change: &Change,
        blobs: Vec<BlobName>,
    ) -> Result<Dropped, StoreError> {
        self.write_all(journal, &[change], blobs)
    }

    /// As [`Core::write`], for changes that do not meet (see [`apply::apply_all`]): one append and one batch.
    pub(crate) fn write_all(
        &self,
        journal: &mut Journal,
        changes: &[&Change],
        blobs: Vec<BlobName>,
    ) -> Result<Dropped, StoreError> {
        self.write_knowing(journal, changes, blobs, &[])
    }

    /// As [`Core::write_all`], where it is known of some blobs what they are, and that nothing will name them after these
    /// changes.
    pub(crate) fn write_knowing(
        &self,
        journal: &mut Journal,
        changes: &[&Change],
        blobs: Vec<BlobName>,
        alone: &[(Digest, BlobRow)],
    ) -> Result<Dropped, StoreError> {
        self.durable.check(self.layout.root())?;
        if journal.is_full() {
            self.rotate(journal, 0)?;
        }
        let before = journal.end();
        let end = journal.append(changes)?.pop().unwrap_or(before);
        crash::point("write.journaled");
        let dropped = match apply::apply_all(&self.index, changes, end, alone) {
            Ok(dropped) => dropped,
            Err(error) => {
                // Not applied is not done: what was asked for is answered with an error.
                journal.take_back(before);
                return Err(error);
            }
        };
        crash::point("write.applied");
        for change in changes {
            self.marks.follow(&self.index, change)?;
            self.tidy.note(change);
        }
        // That something was used again is no reason to wake a disk.
        let matters = !changes.iter().all(|change| matches!(change, Change::Touched { .. }));
        self.durable.wrote(end, end.offset - before.offset, blobs, matters);
        Ok(dropped)
    }

    /// Goes on in a new segment of the journal. That the old one could not be synced is final, as for any sync.
    fn rotate(&self, journal: &mut Journal, gap: u64) -> Result<(), StoreError> {
        journal.rotate(gap).inspect_err(|error| {
            if matches!(error, StoreError::Io { action: "sync", .. }) {
                self.durable.poison(error);
            }
        })
    }

    /// As [`Core::write`], for a change on its own, which is acknowledged.
    pub(crate) fn write_one(&self, change: &Change) -> Result<(), StoreError> {
        let mut journal = self.journal();
        self.write(&mut journal, change, Vec::new())?;
        let end = journal.end();
        drop(journal);
        self.acknowledge(end)
    }

    /// Waits until what ends here may be called done.
    pub(crate) fn acknowledge(&self, end: journal::Position) -> Result<(), StoreError> {
        match self.config.durability {
            Durability::Strict => self.sync(Some(end)),
            Durability::Batch if self.durable.may_acknowledge() => Ok(()),
            Durability::Batch => self.sync(Some(end)),
        }
    }

    /// Puts what was written on disk: files, then the journal, then (now and then) the index.
    pub(crate) fn sync(&self, wanted: Option<journal::Position>) -> Result<(), StoreError> {
        let root = self.layout.root();
        self.durable.sync(root, wanted, &|blobs| {
            crash::point("sync.begin");
            self.files.sync(blobs)?;
            crash::point("sync.files");
            let (file, path) = self.journal().file();
            disk::sync_data(&file, &path).at("sync", &path)?;
            journal::sync_folder(&self.layout.journal())?;
            crash::point("sync.journal");
            Ok(())
        })?;
        let unflushed = self.durable.unflushed_bytes();
        if unflushed > durable::FLUSH_BYTES {
            self.index.flush()?;
            crash::point("sync.index");
            self.durable.flushed(unflushed);
        }
        Ok(())
    }

    /// Does what opens the index for writing, where it was only read: on a full disk the reserve makes room for that.
    pub(crate) fn make_room(&self, open: impl Fn() -> Result<(), StoreError>) -> Result<(), StoreError> {
        match open() {
            Err(StoreError::Io { source, .. })
                if is_full(&source) && reserve::release(&self.layout.reserve()) =>
            {
                open()
            }
            opened => opened,
        }
    }

    /// Writes the index into the journal as a snapshot and gives up the segments before it.
    pub(crate) fn snapshot(&self) -> Result<(), StoreError> {
        if self.index.is_frozen() {
            // It is not on disk, so nothing that the journal has can be given up.
            return Ok(());
        }
        self.make_room(|| self.index.thaw())?;
        let (number, view) = {
            let mut journal = self.journal();
            self.rotate(&mut journal, 1)?;
            let mut batch = self.index.batch();
            batch.put(Family::Meta, tables::meta::POSITION, &journal.end().to_bytes());
            self.index.write(batch)?;
            (journal.end().segment - 1, self.index.view())
        };
        crash::point("snapshot.rotated");
        // Only an index that is on disk up to the snapshot can do without what came before it.
        self.index.flush()?;
        crash::point("snapshot.flushed");
        journal::write_snapshot(&self.layout.journal(), &self.store_id, number, &view)
    }

    /// The thread that ends epochs.
    fn keep_durable(&self) {
        loop {
            match self.durable.next() {
                Next::Close => return,
                // A failure is kept by `durable`, and the next write is told.
                Next::Sync => drop(self.sync(None)),
            }
        }
    }

    /// The right to write.
    pub(crate) fn journal(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The store's folder.
    pub(crate) fn root(&self) -> &Path {
        self.layout.root()
    }

    /// Why something cannot be answered, which is no damage.
    pub(crate) fn index_error(&self, what: &str) -> StoreError {
        StoreError::Index { dir: self.root().to_owned(), what: what.to_owned() }
    }

    /// Where RocksDB's files are.
    pub(crate) fn index_dir(&self) -> PathBuf {
        self.layout.index()
    }
}
