//! Changes that become visible together, and what is known of the families that they go to.

use std::ops::Range;
use std::sync::atomic::{AtomicU8, Ordering};

use rocksdb::{DB, WriteBatch};

use super::{Family, handle};
use crate::overlay;

/// Changes that become visible together.
pub(crate) struct Batch<'a> {
    /// The files, if they were open for writing when this was begun.
    pub(super) db: Option<&'a DB>,
    held: &'a Held,
    /// What is to be written to them.
    pub(super) sorted: Sorted,
    /// The same, for files that were not.
    pub(super) changes: Vec<overlay::Change>,
    pub(super) changed_bytes: usize,
}

impl<'a> Batch<'a> {
    /// Nothing yet; `db` are the files, if they are open for writing.
    pub(super) fn new(db: Option<&'a DB>, held: &'a Held) -> Self {
        Self { db, held, sorted: Sorted::default(), changes: Vec::new(), changed_bytes: 0 }
    }

    /// Puts a value under a key.
    pub(crate) fn put(&mut self, family: Family, key: &[u8], value: &[u8]) {
        let held = self.held.of(family);
        if held.load(Ordering::Relaxed) != SOMETHING {
            held.store(SOMETHING, Ordering::SeqCst);
        }
        match self.db {
            Some(_) => self.sorted.add(family, key, Some(value)),
            None => self.change(family, key, Some(value.to_vec())),
        }
    }

    /// Takes a key away.
    pub(crate) fn delete(&mut self, family: Family, key: &[u8]) {
        match self.db {
            Some(_) => self.sorted.add(family, key, None),
            None => self.change(family, key, None),
        }
    }

    /// How many bytes it holds.
    pub(crate) fn size(&self) -> usize {
        self.sorted.bytes.len() + self.changed_bytes
    }

    fn change(&mut self, family: Family, key: &[u8], value: Option<Vec<u8>>) {
        self.changed_bytes += key.len() + value.as_ref().map_or(0, Vec::len);
        self.changes.push(overlay::Change { family: family.number(), key: key.to_vec(), value });
    }
}

/// Changes of keys, to be written family by family in the order of their keys: each is then looked for from where the one
/// before it was put (see `HINT` in `options.rs`), which is half of what inserting the keys of many results costs.
#[derive(Default)]
pub(super) struct Sorted {
    /// Keys and values, one behind the other.
    bytes: Vec<u8>,
    changes: Vec<Place>,
}

/// Where in [`Sorted::bytes`] a change stands: key, and value unless the key is taken away.
struct Place {
    family: Family,
    key: Range<usize>,
    value: Option<Range<usize>>,
}

impl Sorted {
    fn add(&mut self, family: Family, key: &[u8], value: Option<&[u8]>) {
        let key = self.keep(key);
        let value = value.map(|value| self.keep(value));
        self.changes.push(Place { family, key, value });
    }

    fn keep(&mut self, bytes: &[u8]) -> Range<usize> {
        let from = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        from..self.bytes.len()
    }

    pub(super) fn into_batch(self, db: &DB) -> WriteBatch {
        let Self { bytes, mut changes } = self;
        // Of two changes of one key the later one stays the later one.
        changes.sort_by(|a, b| {
            let keys = || bytes[a.key.clone()].cmp(&bytes[b.key.clone()]);
            a.family.number().cmp(&b.family.number()).then_with(keys)
        });
        let mut batch = WriteBatch::default();
        for part in changes.chunk_by(|a, b| a.family == b.family) {
            let handle = handle(db, part[0].family);
            for Place { key, value, .. } in part {
                match value {
                    Some(value) => batch.put_cf(handle, &bytes[key.clone()], &bytes[value.clone()]),
                    None => batch.delete_cf(handle, &bytes[key.clone()]),
                }
            }
        }
        batch
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::{Expect, Index};

    #[test]
    fn a_batch_is_written_in_the_order_of_its_keys_and_what_came_last_counts() {
        let dir = tempfile::tempdir().expect("a folder");
        let index = Index::open(dir.path(), &dir.path().join("index"), Expect::Nothing).expect("it opens");
        let mut batch = index.batch();
        for (key, value) in [(b"b", b"1"), (b"a", b"1"), (b"c", b"1"), (b"a", b"2")] {
            batch.put(Family::Rows, key, value);
            batch.put(Family::Refs, key, value);
        }
        batch.delete(Family::Rows, b"c");
        batch.delete(Family::Refs, b"d");
        assert_eq!(batch.size(), 18);
        index.write(batch).expect("it writes");
        let mut seen = Vec::new();
        for family in [Family::Rows, Family::Refs] {
            index
                .scan(family, &[], &mut |key, value| {
                    seen.push([key[0], value[0]]);
                    Ok(true)
                })
                .expect("it reads");
        }
        assert_eq!(seen, [*b"a2", *b"b1", *b"a2", *b"b1", *b"c1"]);
    }
}
