//! Collection by itself: a store whose `config.toml` bounds its size is collected when it passes that bound.
//!
//! Done by a thread of the host, in short steps, beside whatever goes on. Nothing is collected before
//! something was added: whoever opened the store has then looked up, and so holds on to, what it needs.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::change::{Change, NewBlobs};
use crate::collect::Mode;
use crate::error::StoreError;
use crate::host::Core;
use crate::index::Family;
use crate::tables;
use crate::wire::Response;

/// So many things go in one step, between which others have their turn.
const STEP: u64 = 4;

/// No connection has this number.
const ITSELF: u64 = 0;

/// How long others have their turn.
const PAUSE: Duration = Duration::from_millis(1);

/// How much was added since it was last looked at.
#[derive(Default)]
pub(crate) struct Tidy {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    added_bytes: u64,
    closing: bool,
}

impl Tidy {
    /// Notes what a change adds to the store.
    pub(crate) fn note(&self, change: &Change) {
        let sum = |blobs: &NewBlobs| blobs.records.iter().map(|(_, record)| record.stored_len).sum();
        let bytes: u64 = match change {
            Change::Result(new) => sum(&new.blobs),
            Change::Run(new) => sum(&new.blobs),
            Change::Blobs(blobs) => sum(blobs),
            Change::ImportPart(new) => sum(&new.blobs),
            Change::Relink(_)
            | Change::Revived { .. }
            | Change::Pin(_)
            | Change::Unpin(_)
            | Change::Evicted { .. }
            | Change::Removed { .. }
            | Change::Unnamed { .. }
            | Change::Lost { .. }
            | Change::Touched { .. }
            | Change::Noted { .. }
            | Change::Entries { .. }
            | Change::Forgotten(_)
            | Change::Accepted(_)
            | Change::Revoked { .. }
            | Change::Imported(_)
            | Change::ImportDropped { .. } => 0,
        };
        if bytes > 0 {
            self.state().added_bytes += bytes;
            self.changed.notify_all();
        }
    }

    /// Ends the thread, after the step that it is at.
    pub(crate) fn close(&self) {
        self.state().closing = true;
        self.changed.notify_all();
    }

    /// Waits until something was added, and says how much; `None` when it is time to go.
    fn added(&self) -> Option<u64> {
        let mut state = self.state();
        loop {
            if state.closing {
                return None;
            }
            if state.added_bytes > 0 {
                return Some(std::mem::take(&mut state.added_bytes));
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Gives others their turn; whether to go on.
    fn pause(&self) -> bool {
        let state = self.state();
        if state.closing {
            return false;
        }
        let waited = self.changed.wait_timeout(state, PAUSE);
        !waited.unwrap_or_else(PoisonError::into_inner).0.closing
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Core {
    /// Collects whenever the store is a twentieth larger than it may be: the thread's whole work. Nobody is told
    /// of a failure here; whoever collects by hand, or writes, meets the same one and is.
    pub(crate) fn keep_tidy(&self) {
        let Some(max) = self.config.policy.max_size_bytes else { return };
        let slack = max / 20;
        let mut size = None;
        let mut bound = max.saturating_add(slack);
        while let Some(added) = self.tidy.added() {
            // Counted once; after that, what is added is added to it.
            let now = match size {
                None => self.stored_bytes(),
                Some(size) => Ok(u64::saturating_add(size, added)),
            };
            let Ok(mut now) = now else { return };
            if now > bound {
                // Where it failed, perhaps for want of room, the next results begin another.
                if let Ok(Some(left)) = self.collect_by_itself() {
                    now = left;
                }
                // Where too much is in use or pinned, trying again at once would do no better.
                bound = max.max(now).saturating_add(slack);
            }
            size = Some(now);
        }
    }

    /// One collection by the policy of `config.toml`; gives the size afterwards, or `None` where somebody else
    /// collects.
    fn collect_by_itself(&self) -> Result<Option<u64>, StoreError> {
        if self.begin_collection(ITSELF).is_some() {
            return Ok(None);
        }
        let left = self.collect_in_steps();
        self.abandon_collection(ITSELF);
        left
    }

    fn collect_in_steps(&self) -> Result<Option<u64>, StoreError> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        let number = self.collect_begin(self.config.policy.clone(), now_ms, Mode::Collect)?;
        loop {
            match self.collect_next(number, STEP)? {
                Response::Collected { done: true, report, .. } => return Ok(Some(report.size_after_bytes())),
                Response::Collected { .. } if self.tidy.pause() => {}
                _ => return Ok(None),
            }
        }
    }

    /// All stored bytes together.
    fn stored_bytes(&self) -> Result<u64, StoreError> {
        let mut bytes = 0;
        self.index.scan(Family::Blobs, &[], &mut |key, value| {
            let row: tables::BlobRow = self.index.decode(tables::kind::BLOB, "blob", key, value)?;
            bytes += row.stored_len;
            Ok(true)
        })?;
        Ok(bytes)
    }
}
