//! Changes that become visible together, and what is known of the families that they go to.

use std::sync::atomic::{AtomicU8, Ordering};

use rocksdb::{DB, WriteBatch};

use super::{Family, handle};
use crate::overlay;

/// Changes that become visible together.
pub(crate) struct Batch<'a> {
    /// The files, if they were open for writing when this was begun.
    pub(super) db: Option<&'a DB>,
    held: &'a Held,
    pub(super) writes: WriteBatch,
    /// The same, for files that were not.
    pub(super) changes: Vec<overlay::Change>,
    pub(super) changed_bytes: usize,
}

impl<'a> Batch<'a> {
    /// Nothing yet; `db` are the files, if they are open for writing.
    pub(super) fn new(db: Option<&'a DB>, held: &'a Held) -> Self {
        Self { db, held, writes: WriteBatch::default(), changes: Vec::new(), changed_bytes: 0 }
    }

    /// Puts a value under a key.
    pub(crate) fn put(&mut self, family: Family, key: &[u8], value: &[u8]) {
        let held = self.held.of(family);
        if held.load(Ordering::Relaxed) != SOMETHING {
            held.store(SOMETHING, Ordering::SeqCst);
        }
        match self.db {
            Some(db) => self.writes.put_cf(handle(db, family), key, value),
            None => self.change(family, key, Some(value.to_vec())),
        }
    }

    /// Takes a key away.
    pub(crate) fn delete(&mut self, family: Family, key: &[u8]) {
        match self.db {
            Some(db) => self.writes.delete_cf(handle(db, family), key),
            None => self.change(family, key, None),
        }
    }

    /// How many bytes it holds.
    pub(crate) fn size(&self) -> usize {
        self.writes.size_in_bytes() + self.changed_bytes
    }

    fn change(&mut self, family: Family, key: &[u8], value: Option<Vec<u8>>) {
        self.changed_bytes += key.len() + value.as_ref().map_or(0, Vec::len);
        self.changes.push(overlay::Change { family: family.number(), key: key.to_vec(), value });
    }
}

/// By the number of a family: [`UNKNOWN`] until somebody asked, [`NOTHING`] while nobody put anything there since.
/// Beginning to walk over a family costs as much as writing a result, and each result asks whether there are any marks.
#[derive(Default)]
pub(super) struct Held([AtomicU8; Family::ALL.len()]);

pub(super) const UNKNOWN: u8 = 0;
pub(super) const NOTHING: u8 = 1;
const SOMETHING: u8 = 2;

impl Held {
    pub(super) fn of(&self, family: Family) -> &AtomicU8 {
        &self.0[usize::from(family.number())]
    }
}
