//! What this process has of each store, in one place: the one piece of process-wide state of this crate.
//!
//! Whoever looks for the host of a store, or becomes it, has the slot for itself meanwhile; what was found is left for
//! the others in this process.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::patience::LONGEST_PAUSE;
use super::{Hosted, Member, closed};
use crate::client::Client;
use crate::error::StoreError;
use crate::layout::Layout;
use crate::sys::PerProcess;

static SLOTS: PerProcess<Mutex<BTreeMap<PathBuf, Arc<Slot>>>> = PerProcess::new();

pub(super) struct Slot {
    pub(super) member: Mutex<Weak<Member>>,
    pub(super) clients: Mutex<Vec<Weak<Client>>>,
    /// Whether this process is not to become the host.
    pub(super) hands_over: AtomicBool,
    /// Whether somebody in it is just becoming that: had begun to before it was not to.
    becomes: AtomicBool,
    state: Mutex<State>,
    pub(super) changed: Condvar,
}

pub(super) enum State {
    Closed,
    /// Somebody in this process is at it.
    Opening,
    /// Open while the pointer leads anywhere; after that, it is being closed.
    Open(Weak<Hosted>),
}

pub(super) fn slot_of(layout: &Layout) -> Arc<Slot> {
    let mut slots = SLOTS.get().lock().unwrap_or_else(PoisonError::into_inner);
    let slot = slots.entry(layout.root().to_owned()).or_insert_with(|| {
        Arc::new(Slot {
            member: Mutex::new(Weak::new()),
            clients: Mutex::default(),
            hands_over: AtomicBool::new(false),
            becomes: AtomicBool::new(false),
            state: Mutex::new(State::Closed),
            changed: Condvar::new(),
        })
    });
    Arc::clone(slot)
}

/// The right to look for a host or to become it; what was found is left for the others in this process.
pub(super) struct Opening<'a> {
    pub(super) slot: &'a Slot,
    pub(super) found: State,
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        self.slot.set(std::mem::replace(&mut self.found, State::Closed));
    }
}

/// Somebody may become the host. Made before the [`Opening`], and so dropped after it: what was found is left by then.
pub(super) struct Becoming<'a>(pub(super) &'a Slot);

impl Becoming<'_> {
    /// Begins to, unless the process is not to.
    pub(super) fn begin(&self) -> bool {
        // In this order: either this sees that it is not to, or whoever hands over sees this.
        self.0.becomes.store(true, Ordering::SeqCst);
        let may = !self.0.hands_over.load(Ordering::SeqCst);
        if !may {
            self.end();
        }
        may
    }

    /// It did not.
    pub(super) fn end(&self) {
        self.0.becomes.store(false, Ordering::SeqCst);
        self.0.changed.notify_all();
    }
}

impl Drop for Becoming<'_> {
    fn drop(&mut self) {
        self.end();
    }
}

impl Slot {
    /// Whether this process is the host, or just becoming it.
    pub(super) fn is_host(&self, state: &State) -> bool {
        matches!(state, State::Open(_)) || self.becomes.load(Ordering::SeqCst)
    }

    /// The host that is open, or `None` and the right to open one.
    pub(super) fn enter(
        &self,
        layout: &Layout,
        wait: Duration,
        go_on: &dyn Fn() -> bool,
    ) -> Result<Option<Arc<Hosted>>, StoreError> {
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
                // One that is handed over answers what it was asked, and nothing more: it would never be let go.
                State::Open(hosted) if !self.hands_over.load(Ordering::SeqCst) => {
                    if let Some(hosted) = hosted.upgrade() {
                        return Ok(Some(hosted));
                    }
                }
                State::Open(_) | State::Opening => {}
            }
            let left = until.saturating_duration_since(Instant::now());
            // The time for which a process is stopped does not count.
            if left.is_zero() && !self.hands_over.load(Ordering::SeqCst) {
                let owner = "another thread of this process".to_owned();
                return Err(StoreError::InUse { dir: layout.root().to_owned(), owner });
            }
            if !go_on() {
                return Err(closed(layout));
            }
            let pause = left.clamp(Duration::from_millis(1), LONGEST_PAUSE);
            state = self.changed.wait_timeout(state, pause).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    pub(super) fn set(&self, new: State) {
        *self.state() = new;
        self.changed.notify_all();
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
