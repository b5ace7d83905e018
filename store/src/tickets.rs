//! Tickets: what a thread of this process waits to be told about a claim that somebody else has.
//!
//! A ticket's number is known to the host too, which says on the line of this process when its time has come. A ticket
//! that is ended without a word from a host means: ask again.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How often whoever waits is asked whether to go on.
pub(crate) const LOOK: Duration = Duration::from_millis(100);

/// Who waits to be told something.
pub(crate) struct Tickets {
    table: Mutex<HashMap<u64, Option<Option<Vec<u8>>>>>,
    came: Condvar,
    next: AtomicU64,
}

impl Tickets {
    pub(crate) fn new() -> Self {
        let hash = blake3::hash(crate::blob::token().as_bytes());
        let first = hash.as_bytes().first_chunk::<8>().copied().unwrap_or_default();
        Self {
            table: Mutex::default(),
            came: Condvar::new(),
            next: AtomicU64::new(u64::from_le_bytes(first)),
        }
    }

    pub(crate) fn open(&self) -> u64 {
        let ticket = self.number();
        self.table().insert(ticket, None);
        ticket
    }

    /// A number that no other ticket has.
    pub(crate) fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn close(&self, ticket: u64) {
        self.table().remove(&ticket);
    }

    pub(crate) fn deliver(&self, ticket: u64, failure: Option<Vec<u8>>) {
        if let Some(place) = self.table().get_mut(&ticket) {
            *place = Some(failure);
            self.came.notify_all();
        }
    }

    pub(crate) fn end_all(&self) {
        for place in self.table().values_mut() {
            place.get_or_insert(None);
        }
        self.came.notify_all();
    }

    pub(crate) fn wait(&self, ticket: u64, until: Instant) -> Option<Option<Vec<u8>>> {
        let mut table = self.table();
        loop {
            if let Some(ended) = table.get_mut(&ticket).and_then(Option::take) {
                return Some(ended);
            }
            let left = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?;
            table = self.came.wait_timeout(table, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn table(&self) -> MutexGuard<'_, HashMap<u64, Option<Option<Vec<u8>>>>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
