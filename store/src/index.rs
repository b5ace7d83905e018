//! The index: key-value families in RocksDB, which is named in this module alone.
//!
//! Owns the folder `index/` and every option that was chosen for it. Knows keys and values as bytes only
//! (`tables.rs` says what they mean). Writes are atomic batches; each batch carries the journal's position
//! that it brings the index to, so that what the journal has beyond the index can be applied again.
//!
//! RocksDB's own log is off. Instead all families are flushed together (`atomic_flush`), so the files on
//! disk are always the state after some batch, journal position included; the journal holds the rest.
//! `docs/format.md` argues why that loses nothing.
//!
//! **Opened for writing only when there is something to write.** To open for writing RocksDB writes a new manifest and
//! a file with all its options, reads the latter back, and syncs five times, for a process that mostly finds
//! that nothing is to be done. So the files are opened for reading first, and what is written stays over them
//! in memory ([`Overlay`]): the journal has it. They are opened for writing when more than a little was
//! written, or when it is to be on disk ([`Index::thaw`]).

mod batch;
mod failure;
mod family;
mod opening;
mod options;
mod together;
mod walk;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{OnceLock, PoisonError, RwLock, TryLockError};
use std::time::{Duration, Instant};

use rocksdb::{ColumnFamily, DB, FlushOptions, WriteBatch, WriteOptions};

use crate::disk;
use crate::error::{At, StoreError};
use crate::overlay::{self, Overlay};
pub(crate) use batch::Batch;
use batch::{Held, NOTHING, UNKNOWN};
use failure::{failure, not_opened};
pub(crate) use family::Family;
pub(crate) use opening::once_let_go;
use opening::{has_beginning, has_threads, open_to_write};
use options::{For, families, once, options};

/// Is given a key and its value, and says whether to go on.
pub(crate) type Each<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> Result<bool, StoreError>;

/// Is given the place of a key among those that were asked for, and its value.
pub(crate) type Read<'a, T> = &'a mut dyn FnMut(usize, &[u8]) -> Result<T, StoreError>;

/// Is given the place of a key among those that were asked for, and what is on disk under it.
type Take<'a> = &'a mut dyn FnMut(usize, Option<&[u8]>) -> Result<(), StoreError>;

/// The open index.
pub(crate) struct Index {
    /// The files, open for writing, from the moment that something is to be written to them.
    open: OnceLock<DB>,
    /// Until then the files, open for reading.
    ///
    /// Nobody waits for the right to change this, it is only tried for: whoever walks over the index may ask
    /// it again for each thing on the way, and a lock that somebody waits for lets no other reader in.
    unopened: RwLock<Option<Unopened>>,
    /// Whether the files may be written.
    writable: bool,
    /// Whether the process ends when this is closed.
    ends: AtomicBool,
    /// What is known of whether a family holds anything.
    held: Held,
    dir: PathBuf,
    /// The store's folder, for messages.
    root: PathBuf,
}

/// Files that are open for reading, and over them what was written since.
struct Unopened {
    db: DB,
    overlay: Overlay,
    overlay_bytes: AtomicUsize,
    /// With so many bytes over them the files are opened for writing, if they can be.
    enough_bytes: AtomicUsize,
}

impl Unopened {
    fn new(db: DB) -> Self {
        let (overlay_bytes, enough_bytes) = (AtomicUsize::new(0), AtomicUsize::new(OVERLAY_BYTES));
        Self { db, overlay: Overlay::default(), overlay_bytes, enough_bytes }
    }

    fn write(&self, changes: Vec<overlay::Change>, bytes: usize) {
        self.overlay.write(changes);
        self.overlay_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Whether there is so much in memory that it should not grow.
    fn has_enough(&self) -> bool {
        self.overlay_bytes.load(Ordering::Relaxed) > self.enough_bytes.load(Ordering::Relaxed)
    }
}

/// Whether the index's folder may be empty when it is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expect {
    /// A new store, or one whose index is made anew.
    Nothing,
    /// An index: where there is none, it was lost.
    Index,
}

impl Index {
    /// Opens the index in `dir` of the store in `root`, for writing.
    ///
    /// # Errors
    ///
    /// [`StoreError::IndexDamaged`] for everything that making it anew would mend.
    pub(crate) fn open(root: &Path, dir: &Path, expect: Expect) -> Result<Self, StoreError> {
        // RocksDB would make a new, empty index where the file that begins one is gone, and every result
        // would be forgotten without a word.
        if expect == Expect::Index {
            has_beginning(root, dir)?;
        }
        let open = OnceLock::from(open_to_write(root, dir, expect)?);
        let unopened = RwLock::new(None);
        let (dir, root) = (dir.to_owned(), root.to_owned());
        let (ends, held) = (AtomicBool::new(false), Held::default());
        Ok(Self { open, unopened, writable: true, ends, held, dir, root })
    }

    /// Opens an index that is there, for reading until something is to be written to its files.
    ///
    /// # Errors
    ///
    /// As for [`Index::open`].
    pub(crate) fn open_lazily(root: &Path, dir: &Path) -> Result<Self, StoreError> {
        disk::may("open", dir).at("write the index in", root)?;
        match Self::open_to_read(root, dir, true) {
            // A family that is new to it is made when it is opened for writing, and what is wrong with it is
            // told as then.
            Err(StoreError::IndexDamaged { .. } | StoreError::Index { .. }) => {
                Self::open(root, dir, Expect::Index)
            }
            opened => opened,
        }
    }

    /// Opens the index without writing to its files: what is written stays in memory.
    ///
    /// # Errors
    ///
    /// As for [`Index::open`].
    pub(crate) fn open_frozen(root: &Path, dir: &Path) -> Result<Self, StoreError> {
        Self::open_to_read(root, dir, false)
    }

    fn open_to_read(root: &Path, dir: &Path, writable: bool) -> Result<Self, StoreError> {
        has_beginning(root, dir)?;
        has_threads(root)?;
        let options = options(Expect::Index).map_err(|error| failure(root, &error))?;
        let db = DB::open_cf_descriptors_read_only(&options, dir, families(For::Reading), false)
            .map_err(|error| not_opened(root, &error))?;
        let unopened = RwLock::new(Some(Unopened::new(db)));
        let (open, ends) = (OnceLock::new(), AtomicBool::new(false));
        let (dir, root) = (dir.to_owned(), root.to_owned());
        Ok(Self { open, unopened, writable, ends, held: Held::default(), dir, root })
    }

    /// Opens the files for writing, if they are not open and may be, and writes to them what was in memory.
    /// Waits for those who walk over the index: not to be called by one of them.
    ///
    /// # Errors
    ///
    /// As for [`Index::open`].
    pub(crate) fn thaw(&self) -> Result<(), StoreError> {
        while self.writable && self.open.get().is_none() && !self.try_thaw()? {
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// As [`Index::thaw`]; false where somebody walks over the index.
    fn try_thaw(&self) -> Result<bool, StoreError> {
        let mut unopened = match self.unopened.try_write() {
            Ok(unopened) => unopened,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Ok(false),
        };
        let Some(before) = &*unopened else { return Ok(true) };
        let until = Instant::now() + LET_GO;
        let db =
            once_let_go(&|| Instant::now() < until, || open_to_write(&self.root, &self.dir, Expect::Index))?;
        let mut batch = WriteBatch::default();
        before.overlay.each(&mut |family, key, value| {
            add(&db, &mut batch, family, key, value);
        });
        write(&db, &self.root, batch)?;
        // Nobody asks in between: the lock is held.
        let _ = self.open.set(db);
        *unopened = None;
        Ok(true)
    }

    /// Lets `work` ask the files, and what was written over them, if they are not open for writing.
    fn with<T>(&self, work: impl FnOnce(&DB, Option<&Overlay>) -> T) -> T {
        if let Some(db) = self.open.get() {
            return work(db, None);
        }
        let unopened = self.unopened.read().unwrap_or_else(PoisonError::into_inner);
        match &*unopened {
            Some(unopened) => work(&unopened.db, Some(&unopened.overlay)),
            None => work(self.opened(), None),
        }
    }

    /// The files, once they are open for writing.
    fn opened(&self) -> &DB {
        self.open.get().expect("it is one or the other, and changes under the lock")
    }

    /// The process ends when this is closed.
    pub(crate) fn ends_with_the_process(&self) {
        self.ends.store(true, Ordering::Relaxed);
    }

    /// Whether the files can never be written.
    pub(crate) fn is_frozen(&self) -> bool {
        !self.writable
    }

    /// The store's folder, for messages.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The value under a key.
    pub(crate) fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.with(|db, overlay| match overlay.and_then(|overlay| overlay.get(family.number(), key)) {
            Some(changed) => Ok(changed),
            None => db.get_cf(handle(db, family), key).map_err(|error| failure(&self.root, &error)),
        })
    }

    /// The values under many keys, in their order.
    pub(crate) fn get_many<K: AsRef<[u8]>>(
        &self,
        family: Family,
        keys: &[K],
    ) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
        self.get_each(family, keys, &mut |_, value| Ok(value.to_vec()))
    }

    /// What `read` makes of the values under many keys, in the order of the keys; it is given the place of
    /// the key and the value, which is not copied.
    pub(crate) fn get_each<K: AsRef<[u8]>, T>(
        &self,
        family: Family,
        keys: &[K],
        read: Read<'_, T>,
    ) -> Result<Vec<Option<T>>, StoreError> {
        // In the order of the index, neighbours share blocks and a call stays in one region.
        let mut order: Vec<usize> = (0..keys.len()).collect();
        if !keys.is_sorted_by(|a, b| a.as_ref() <= b.as_ref()) {
            order.sort_unstable_by(|a, b| keys[*a].as_ref().cmp(keys[*b].as_ref()));
        }
        let mut values: Vec<Option<T>> = Vec::new();
        values.resize_with(keys.len(), || None);
        self.with(|db, overlay| {
            // Mostly there is nothing, and then it is not asked for each of a hundred thousand keys.
            let overlay = overlay.filter(|overlay| overlay.changes(family.number()));
            let mut take = |at: usize, on_disk: Option<&[u8]>| {
                let changed = overlay.and_then(|overlay| overlay.get(family.number(), keys[at].as_ref()));
                values[at] = match changed {
                    Some(changed) => changed.map(|bytes| read(at, &bytes)).transpose()?,
                    None => on_disk.map(|bytes| read(at, bytes)).transpose()?,
                };
                Ok(())
            };
            let mut close = keys.len() >= WALKED;
            // RocksDB pins the blocks of one call together: bounded calls bound the memory.
            for part in order.chunks(1024) {
                close = close && self.walk_along(db, family, keys, part, &mut take)?;
                if close {
                    continue;
                }
                let sorted = part.iter().map(|at| keys[*at].as_ref());
                let found = db.batched_multi_get_cf(handle(db, family), sorted, true);
                for (at, value) in part.iter().zip(found) {
                    take(*at, value.map_err(|error| failure(&self.root, &error))?.as_deref())?;
                }
            }
            Ok(())
        })?;
        Ok(values)
    }

    /// Gives the values under a part of many keys, which is in the order of the keys, by walking from one to the next:
    /// where a good part of the family is asked for, that takes a sixth of finding each by itself. False where too much
    /// lies between them; then some were given already.
    fn walk_along<K: AsRef<[u8]>>(
        &self,
        db: &DB,
        family: Family,
        keys: &[K],
        part: &[usize],
        take: Take<'_>,
    ) -> Result<bool, StoreError> {
        let Some(first) = part.first() else { return Ok(true) };
        let mut walk = db.raw_iterator_cf(handle(db, family));
        walk.seek(keys[*first].as_ref());
        let mut patience = WALKED;
        for at in part {
            let key = keys[*at].as_ref();
            patience += STEPS_TO_A_KEY;
            while walk.key().is_some_and(|here| here < key) {
                patience -= 1;
                if patience == 0 {
                    return Ok(false);
                }
                walk.next();
            }
            match walk.item() {
                Some((here, value)) => take(*at, Some(value).filter(|_| here == key))?,
                None => {
                    // It ends because there is nothing more, or because that could not be read.
                    walk.status().map_err(|error| failure(&self.root, &error))?;
                    take(*at, None)?;
                }
            }
        }
        Ok(true)
    }

    /// Whether a family holds nothing.
    pub(crate) fn is_empty(&self, family: Family) -> Result<bool, StoreError> {
        let held = self.held.of(family);
        if held.load(Ordering::SeqCst) == NOTHING {
            return Ok(true);
        }
        let mut is_empty = true;
        self.scan(family, &[], &mut |_, _| {
            is_empty = false;
            Ok(false)
        })?;
        if is_empty {
            // Unless somebody is about to put something there, who has said so before.
            let _ = held.compare_exchange(UNKNOWN, NOTHING, Ordering::SeqCst, Ordering::SeqCst);
        }
        Ok(is_empty)
    }

    /// Everything in the index as it is now, scratch aside, while writing goes on. It is to be open for writing
    /// ([`Index::thaw`]).
    pub(crate) fn view(&self) -> View<'_> {
        let db = self.opened();
        View { index: self, db, snapshot: db.snapshot() }
    }

    /// A batch to fill.
    pub(crate) fn batch(&self) -> Batch<'_> {
        Batch::new(self.open.get(), &self.held)
    }

    /// Applies a batch, whole or not at all. It is visible at once, and on disk after [`Index::flush`].
    pub(crate) fn write(&self, batch: Batch<'_>) -> Result<(), StoreError> {
        let Batch { db, sorted, changes, changed_bytes, .. } = batch;
        if let Some(db) = db {
            return write(db, &self.root, sorted.into_batch(db));
        }
        {
            let unopened = self.unopened.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(unopened) = &*unopened {
                unopened.write(changes, changed_bytes);
                if !self.writable || !unopened.has_enough() {
                    return Ok(());
                }
                // Should it not go, the next try is when there is twice as much.
                unopened.enough_bytes.fetch_add(changed_bytes.max(OVERLAY_BYTES), Ordering::Relaxed);
            } else {
                // It was opened since the batch was begun.
                let (db, mut writes) = (self.opened(), WriteBatch::default());
                for overlay::Change { family, key, value } in changes {
                    add(db, &mut writes, family, &key, value.as_deref());
                }
                return write(db, &self.root, writes);
            }
        }
        // What was to be written is, whether this goes or not; what is wrong is told when it has to go.
        let _ = self.try_thaw();
        Ok(())
    }

    /// Puts everything that was written so far on disk, as one.
    pub(crate) fn flush(&self) -> Result<(), StoreError> {
        if self.is_frozen() {
            return Ok(());
        }
        self.thaw()?;
        let db = self.opened();
        let handles: Vec<&ColumnFamily> = Family::ALL.into_iter().map(|family| handle(db, family)).collect();
        let mut options = FlushOptions::default();
        options.set_wait(true);
        db.flush_cfs_opt(&handles.iter().collect::<Vec<_>>(), &options)
            .map_err(|error| failure(&self.root, &error))?;
        disk::flushed(db.path());
        Ok(())
    }

    /// Empties a family. Not journaled: for [`Family::Scratch`] alone.
    pub(crate) fn clear_scratch(&self) -> Result<(), StoreError> {
        // What is sorted there may be larger than memory, and it is written on the way.
        self.thaw()?;
        let Some(db) = self.open.get() else {
            self.with(|_, overlay| overlay.map(|overlay| overlay.clear(Family::Scratch.number())));
            return Ok(());
        };
        let handle = handle(db, Family::Scratch);
        let (from, to) = ([0u8; 1].as_slice(), [0xffu8; 64]);
        db.delete_file_in_range_cf(handle, from, to.as_slice())
            .map_err(|error| failure(&self.root, &error))?;
        let mut batch = WriteBatch::default();
        batch.delete_range_cf(handle, from, to.as_slice());
        write(db, &self.root, batch)
    }
}

fn handle(db: &DB, family: Family) -> &ColumnFamily {
    db.cf_handle(family.name()).expect("every family is opened with the index")
}

/// Adds a change that was kept in memory to a batch for the files.
fn add(db: &DB, batch: &mut WriteBatch, family: u8, key: &[u8], value: Option<&[u8]>) {
    let family = Family::numbered(family).expect("only families are written to");
    match value {
        Some(value) => batch.put_cf(handle(db, family), key, value),
        None => batch.delete_cf(handle(db, family), key),
    }
}

/// Applies a batch to files that are open for writing.
fn write(db: &DB, root: &Path, batch: WriteBatch) -> Result<(), StoreError> {
    let mut options = WriteOptions::default();
    options.disable_wal(true);
    db.write_opt(batch, &options).map_err(|error| failure(root, &error))
}

impl Drop for Index {
    fn drop(&mut self) {
        // Compactions are dropped where they are instead of being waited for: closing is quick, and what
        // they had done is done again.
        if let Some(db) = self.open.get() {
            db.cancel_all_background_work(true);
        } else if *self.ends.get_mut() {
            // Files that are only read are in no need of being closed, and RocksDB's tables and blocks in memory go with
            // the process: it would take them apart one by one, which is a twentieth of a run with nothing to do.
            let unopened = self.unopened.get_mut().unwrap_or_else(PoisonError::into_inner);
            std::mem::forget(unopened.take());
        }
    }
}

/// The index as it was at one moment.
pub(crate) struct View<'a> {
    index: &'a Index,
    db: &'a DB,
    snapshot: rocksdb::Snapshot<'a>,
}

impl View<'_> {
    /// Walks over a whole family.
    pub(crate) fn scan(&self, family: Family, each: Each<'_>) -> Result<(), StoreError> {
        let mut options = once();
        options.set_snapshot(&self.snapshot);
        self.index.scan_of(self.db, None, family, &[], options, each)
    }
}

/// From so many keys on it is tried to walk from one to the next, and so many steps are taken to find out whether they lie
/// close together. Finding a key by itself costs as much as some seven steps.
const WALKED: usize = 32;

/// They do if there are so many steps to a key on the average.
const STEPS_TO_A_KEY: usize = 4;

/// How much is kept in memory before the files are opened for writing: what some 1,000 steps leave.
const OVERLAY_BYTES: usize = 1024 * 1024;

/// How long a process that is ending may hold RocksDB's lock after it gave up the store's.
const LET_GO: Duration = Duration::from_secs(10);
