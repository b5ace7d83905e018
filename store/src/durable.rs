//! When what was written reaches the disk.
//!
//! Order is all: blob files, then the journal, then the index. What is waiting for the disk is one *epoch*;
//! a thread of the host ends it, and with `strict` every acknowledgement waits for the end of its epoch.
//! The kernel reports a failure to write once and then forgets it, so a failed sync is final: the store
//! takes no more writes in this process.

use std::path::Path;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::StoreError;
use crate::journal::Position;
use crate::layout::BlobName;

/// An epoch that began this long ago is ended by the host's thread.
pub(crate) const EPOCH: Duration = Duration::from_secs(2);

/// No commit is acknowledged while an epoch that is older than this waits: with [`EPOCH`] and the sync
/// itself, what was acknowledged over 5 s ago is on disk.
pub(crate) const OLDEST_EPOCH: Duration = Duration::from_secs(4);

/// So many journal bytes beyond the index on disk, and the index is flushed: a new host applies them again.
pub(crate) const FLUSH_BYTES: u64 = 16 * 1024 * 1024;

/// At the end of a process the same, for less: what some 200 steps leave. Applying it takes the next process
/// 5 ms, and flushing it takes this one 20 ms, beside the second that as many steps take.
pub(crate) const FLUSH_AT_CLOSE_BYTES: u64 = 256 * 1024;

/// What is not on disk yet.
#[derive(Default)]
pub(crate) struct Durable {
    state: Mutex<State>,
    changed: Condvar,
    /// Held by whoever syncs: one at a time, and those who come meanwhile find their work done.
    one: Mutex<()>,
}

#[derive(Default)]
struct State {
    since: Option<Instant>,
    /// As `since`, of the epoch that is being put on disk at this moment.
    syncing_since: Option<Instant>,
    blobs: Vec<BlobName>,
    written: Option<Position>,
    synced: Option<Position>,
    unflushed_bytes: u64,
    poison: Option<String>,
    closing: bool,
}

/// What the thread is to do next.
pub(crate) enum Next {
    /// End the epoch.
    Sync,
    /// Go.
    Close,
}

impl Durable {
    /// Refuses every write from the beginning: `why`.
    pub(crate) fn frozen(why: &str) -> Self {
        let state = State { poison: Some(why.to_owned()), ..State::default() };
        Self { state: Mutex::new(state), ..Self::default() }
    }

    /// With so many bytes that the journal has beyond the index.
    pub(crate) fn behind(unflushed_bytes: u64) -> Self {
        let state = State { unflushed_bytes, ..State::default() };
        Self { state: Mutex::new(state), ..Self::default() }
    }

    /// Refuses where an earlier sync failed.
    pub(crate) fn check(&self, root: &Path) -> Result<(), StoreError> {
        match &self.state().poison {
            Some(what) => Err(StoreError::ReadOnly { dir: root.to_owned(), what: what.clone() }),
            None => Ok(()),
        }
    }

    /// Notes that the journal now ends here. `matters`: whether it is worth a sync of its own.
    pub(crate) fn wrote(&self, end: Position, bytes: u64, blobs: Vec<BlobName>, matters: bool) {
        let mut state = self.state();
        state.written = Some(end);
        state.blobs.extend(blobs);
        state.unflushed_bytes += bytes;
        if matters && state.since.is_none() {
            state.since = Some(Instant::now());
            self.changed.notify_all();
        }
    }

    /// Whether what is written up to here may be acknowledged without a sync.
    pub(crate) fn may_acknowledge(&self) -> bool {
        let state = self.state();
        // Of the two, the one that is being synced is the older.
        state.syncing_since.or(state.since).is_none_or(|since| since.elapsed() < OLDEST_EPOCH)
    }

    /// Waits for something to do.
    pub(crate) fn next(&self) -> Next {
        let mut state = self.state();
        loop {
            if state.closing {
                return Next::Close;
            }
            if state.poison.is_some() {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            state = match state.since {
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(since) => {
                    let Some(left) = EPOCH.checked_sub(since.elapsed()).filter(|left| !left.is_zero()) else {
                        return Next::Sync;
                    };
                    self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// Ends the thread's waiting for good.
    pub(crate) fn close(&self) {
        self.state().closing = true;
        self.changed.notify_all();
    }

    /// Whether anything waits for the disk.
    pub(crate) fn is_dirty(&self) -> bool {
        self.state().since.is_some()
    }

    /// How much the journal has beyond the index on disk.
    pub(crate) fn unflushed_bytes(&self) -> u64 {
        self.state().unflushed_bytes
    }

    /// Notes that the index is on disk.
    pub(crate) fn flushed(&self, bytes: u64) {
        let mut state = self.state();
        state.unflushed_bytes = state.unflushed_bytes.saturating_sub(bytes);
    }

    /// Makes durable what was written so far, or at least up to `wanted`: `sync` is given the blobs.
    pub(crate) fn sync(
        &self,
        root: &Path,
        wanted: Option<Position>,
        sync: &dyn Fn(&[BlobName]) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let _one = self.one.lock().unwrap_or_else(PoisonError::into_inner);
        let (blobs, target) = {
            let mut state = self.state();
            if let Some(what) = &state.poison {
                return Err(StoreError::ReadOnly { dir: root.to_owned(), what: what.clone() });
            }
            if wanted.is_some() && state.synced >= wanted {
                return Ok(());
            }
            state.syncing_since = state.since.take();
            (std::mem::take(&mut state.blobs), state.written)
        };
        if let Err(error) = sync(&blobs) {
            self.poison(&error);
            return Err(error);
        }
        let mut state = self.state();
        state.syncing_since = None;
        state.synced = state.synced.max(target);
        self.changed.notify_all();
        Ok(())
    }

    /// Takes no more writes, because a sync failed: asked again, the kernel would call it done.
    pub(crate) fn poison(&self, error: &StoreError) {
        let mut state = self.state();
        state.since = state.syncing_since.or(state.since);
        state
            .poison
            .get_or_insert_with(|| format!("what was written could not be put on disk ({})", chain(error)));
        self.changed.notify_all();
    }

    /// Lets the epoch have begun so much earlier.
    #[cfg(all(test, not(feature = "schedules")))]
    pub(crate) fn age(&self, by: Duration) {
        let mut state = self.state();
        state.since = state.since.and_then(|since| since.checked_sub(by));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An error with its causes, in a line.
fn chain(error: &StoreError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(offset: u64) -> Position {
        Position { segment: 1, offset }
    }

    fn failing(_: &[BlobName]) -> Result<(), StoreError> {
        Err(StoreError::Io {
            action: "sync",
            path: "journal".into(),
            source: std::io::Error::from_raw_os_error(5),
        })
    }

    #[test]
    fn after_a_failed_sync_nothing_is_written_any_more() {
        let durable = Durable::default();
        let root = Path::new("/s");
        durable.wrote(at(10), 10, Vec::new(), true);
        assert!(durable.check(root).is_ok());
        assert!(durable.sync(root, None, &failing).is_err());
        let error = durable.check(root).expect_err("it is read-only now");
        assert_eq!(
            error.to_string(),
            "the store at `/s` takes no more writes: what was written could not be put on disk \
             (cannot sync `journal`: Input/output error (os error 5))"
        );
        assert!(matches!(durable.sync(root, None, &|_| Ok(())), Err(StoreError::ReadOnly { .. })));
    }

    #[test]
    fn while_an_epoch_is_synced_its_age_still_counts() {
        let durable = Durable::default();
        durable.wrote(at(10), 10, Vec::new(), true);
        let old = Instant::now().checked_sub(OLDEST_EPOCH).expect("the machine is up for some seconds");
        durable.state().since = Some(old);
        assert!(!durable.may_acknowledge());
        let during = durable.sync(Path::new("/s"), None, &|_| {
            durable.wrote(at(20), 10, Vec::new(), true);
            assert!(!durable.may_acknowledge(), "the one that is being synced is too old");
            Ok(())
        });
        during.expect("it syncs");
        assert!(durable.may_acknowledge(), "what came meanwhile is young");
    }

    #[test]
    fn what_is_synced_already_is_not_synced_again() {
        let durable = Durable::default();
        let root = Path::new("/s");
        durable.wrote(at(10), 10, Vec::new(), true);
        durable.sync(root, Some(at(10)), &|_| Ok(())).expect("it syncs");
        durable.sync(root, Some(at(10)), &failing).expect("there is nothing to do");
        assert!(!durable.is_dirty());
        durable.wrote(at(20), 10, Vec::new(), true);
        assert!(durable.is_dirty());
        durable.sync(root, Some(at(20)), &failing).expect_err("there is");
    }
}
