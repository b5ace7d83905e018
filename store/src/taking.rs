//! Who of this process takes shares of limits, and a stop of the process (Ctrl-Z) in the middle of that.
//!
//! Somebody who is stopped begins with nothing. So whoever waits for a share leaves the queue before, and what was given and
//! is not begun with is given back, so that others have it meanwhile. It is taken anew afterwards.
//!
//! Invariant: once nobody asks any more ([`Taking::over`]), all shares that this process was given are noted with their users.

use std::collections::BTreeSet;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The shares that one user of a store is taking.
#[derive(Default)]
pub(crate) struct Taking {
    table: Mutex<Table>,
    changed: Condvar,
}

#[derive(Default)]
struct Table {
    /// Whether the process is about to be stopped.
    stopping: bool,
    /// The tickets under which a share is asked for, or waited for.
    asked: BTreeSet<u64>,
}

/// A share is being asked for.
pub(crate) struct Asking<'a> {
    taking: &'a Taking,
    ticket: u64,
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.taking.table().asked.remove(&self.ticket);
        self.taking.changed.notify_all();
    }
}

impl Taking {
    /// Begins to ask for a share; `None` while the process is about to be stopped.
    pub(crate) fn ask(&self, ticket: u64) -> Option<Asking<'_>> {
        let mut table = self.table();
        if table.stopping {
            return None;
        }
        table.asked.insert(ticket);
        Some(Asking { taking: self, ticket })
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.table().stopping
    }

    /// Waits, while the process is about to be stopped, for no longer than this.
    pub(crate) fn rest(&self, time: Duration) {
        let table = self.table();
        let rested = self.changed.wait_timeout_while(table, time, |table| table.stopping);
        drop(rested.unwrap_or_else(PoisonError::into_inner));
    }

    /// The process is about to be stopped: gives the tickets of those who ask for a share, and are to be told.
    pub(crate) fn stop(&self) -> Vec<u64> {
        let mut table = self.table();
        table.stopping = true;
        table.asked.iter().copied().collect()
    }

    /// Waits until nobody asks any more, or until then.
    pub(crate) fn over(&self, until: Instant) {
        let left = until.saturating_duration_since(Instant::now());
        let table = self.table();
        let over = self.changed.wait_timeout_while(table, left, |table| !table.asked.is_empty());
        drop(over.unwrap_or_else(PoisonError::into_inner));
    }

    /// It goes on.
    pub(crate) fn go_on(&self) {
        self.table().stopping = false;
        self.changed.notify_all();
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
