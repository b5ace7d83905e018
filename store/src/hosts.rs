//! The hosts of this process: one per store, however often it is opened.
//!
//! The one piece of process-wide state in this crate. The kernel's lock on a store belongs to an open file,
//! so a second one in the same process would wait for the first for ever; the second opener is given the
//! first one's host instead.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use crate::blob::Files;
use crate::error::StoreError;
use crate::folder::Folder;
use crate::frozen;
use crate::host::{self, Core, Host};
use crate::index::Expect;
use crate::layout::Layout;
use crate::lock::HostLock;
use crate::rebuild::{self, RebuildReport};
use crate::reserve;
use crate::work::{self, WorkFolder};

/// A host that is shared by all stores of this process that have its folder open.
pub(crate) struct Hosted {
    /// Present until this is dropped.
    host: Option<Host>,
    core: Arc<Core>,
    slot: Arc<Slot>,
}

impl Hosted {
    /// What answers requests.
    pub(crate) fn core(&self) -> &Core {
        &self.core
    }
}

impl Drop for Hosted {
    fn drop(&mut self) {
        drop(self.host.take());
        self.slot.set(State::Closed);
    }
}

/// How long a process that has given our lock up may take to end.
const LETTING_GO: Duration = Duration::from_secs(10);

/// How to get at a host.
pub(crate) struct Wanted<'a> {
    pub(crate) wait: Duration,
    pub(crate) owner: &'a str,
    pub(crate) on_wait: &'a mut dyn FnMut(&str),
    /// Whether a store that cannot be written is opened to be read.
    pub(crate) to_read: bool,
}

/// The host of a store: the one that this process has, or a new one.
pub(crate) fn open(folder: &Folder, wanted: &mut Wanted<'_>) -> Result<Arc<Hosted>, StoreError> {
    let layout = &folder.layout;
    let slot = slot_of(layout);
    if let Some(hosted) = slot.enter(layout, wanted.wait)? {
        return Ok(hosted);
    }
    let until = Instant::now() + wanted.wait.max(LETTING_GO);
    let opened = match lock(layout, wanted) {
        Ok(lock) => Host::open(layout.clone(), &folder.id, lock, expectation(layout), until),
        Err(error) => match frozen::reason(&error).filter(|_| wanted.to_read) {
            Some(why) => Host::open_frozen(layout, &folder.id, why),
            None => Err(error),
        },
    };
    match opened {
        Ok(host) => {
            let core = Arc::clone(host.core());
            let hosted = Arc::new(Hosted { host: Some(host), core, slot: Arc::clone(&slot) });
            slot.set(State::Open(Arc::downgrade(&hosted)));
            Ok(hosted)
        }
        Err(error) => {
            slot.set(State::Closed);
            Err(error)
        }
    }
}

/// Makes the index of a store anew; nothing in this process may have the store open.
pub(crate) fn rebuild(folder: &Folder, wanted: &mut Wanted<'_>) -> Result<RebuildReport, StoreError> {
    let layout = &folder.layout;
    let slot = slot_of(layout);
    if slot.enter(layout, wanted.wait)?.is_some() {
        let owner = "this process".to_owned();
        return Err(StoreError::InUse { dir: layout.root().to_owned(), owner });
    }
    let result = (|| {
        let lock = lock(layout, wanted)?;
        let mut report = match rebuild::rebuild(layout, &folder.id) {
            Err(StoreError::Io { source, .. })
                if host::is_full(&source) && reserve::release(&layout.reserve()) =>
            {
                rebuild::rebuild(layout, &folder.id)?
            }
            rebuilt => rebuilt?,
        };
        let until = Instant::now() + LETTING_GO;
        let host = Host::open(layout.clone(), &folder.id, lock, Expect::Index, until)?;
        report.unreadable.extend(host.core().warnings.iter().cloned());
        host.core().match_files(&mut report)?;
        Ok(report)
    })();
    slot.set(State::Closed);
    result
}

/// The work folders of a store, of which none is in use then; needs no index.
pub(crate) fn clean(
    folder: &Folder,
    wanted: &mut Wanted<'_>,
    each: &mut dyn FnMut(WorkFolder) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let layout = &folder.layout;
    let _lock = lock(layout, wanted)?;
    // What a killed process was staging is nobody's either.
    Files::new(layout.clone(), 0).sweep_staging()?;
    work::list(layout, "/")?.into_iter().try_for_each(each)
}

fn lock(layout: &Layout, wanted: &mut Wanted<'_>) -> Result<HostLock, StoreError> {
    HostLock::take(layout.root(), &layout.lock(), wanted.owner, wanted.wait, wanted.on_wait)
}

/// An index is expected where there is one, and where a journal says that there was one.
fn expectation(layout: &Layout) -> Expect {
    let has_journal = std::fs::read_dir(layout.journal()).is_ok_and(|mut entries| {
        entries.any(|entry| {
            entry.is_ok_and(|entry| entry.path().extension().is_some_and(|extension| extension == "log"))
        })
    });
    if has_journal || layout.index().join("CURRENT").exists() { Expect::Index } else { Expect::Nothing }
}

static SLOTS: Mutex<BTreeMap<PathBuf, Arc<Slot>>> = Mutex::new(BTreeMap::new());

struct Slot {
    state: Mutex<State>,
    changed: Condvar,
}

enum State {
    Closed,
    /// Somebody in this process is at it.
    Opening,
    /// Open while the pointer leads anywhere; after that, it is being closed.
    Open(Weak<Hosted>),
}

fn slot_of(layout: &Layout) -> Arc<Slot> {
    let mut slots = SLOTS.lock().unwrap_or_else(PoisonError::into_inner);
    let slot = slots
        .entry(layout.root().to_owned())
        .or_insert_with(|| Arc::new(Slot { state: Mutex::new(State::Closed), changed: Condvar::new() }));
    Arc::clone(slot)
}

impl Slot {
    /// The host that is open, or `None` and the right to open one.
    fn enter(&self, layout: &Layout, wait: Duration) -> Result<Option<Arc<Hosted>>, StoreError> {
        // Opening and closing take moments; a caller that does not want to wait for other *processes*
        // does want to wait for these.
        let until = Instant::now() + wait.max(Duration::from_secs(30));
        let mut state = self.state();
        loop {
            match &*state {
                State::Closed => {
                    *state = State::Opening;
                    return Ok(None);
                }
                State::Open(hosted) => {
                    if let Some(hosted) = hosted.upgrade() {
                        return Ok(Some(hosted));
                    }
                }
                State::Opening => {}
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let owner = "another thread of this process".to_owned();
                return Err(StoreError::InUse { dir: layout.root().to_owned(), owner });
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn set(&self, new: State) {
        *self.state() = new;
        self.changed.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
