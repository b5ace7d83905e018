//! Walking over the keys of a family in their order: over the files, and over what was written over them since as over one
//! with them.

use std::ops::Bound;

use rocksdb::{DB, Direction, IteratorMode, ReadOptions};

use super::failure::failure;
use super::options::once;
use super::{Each, Family, Index, handle};
use crate::error::StoreError;
use crate::overlay::Overlay;

impl Index {
    /// Walks over the keys from `from` on (itself included) in their order, until `each` says no more. Each is seen once
    /// where nothing is written meanwhile; of what is, it may see some, and over an index that is only read a changed
    /// key twice.
    pub(crate) fn scan(&self, family: Family, from: &[u8], each: Each<'_>) -> Result<(), StoreError> {
        self.scan_with(family, from, ReadOptions::default(), each)
    }

    /// As [`Index::scan`], and what is read is not kept in memory: a walk over everything would push out what is in use.
    pub(crate) fn scan_once(&self, family: Family, from: &[u8], each: Each<'_>) -> Result<(), StoreError> {
        self.scan_with(family, from, once(), each)
    }

    /// As [`Index::scan`], over the keys that begin with `prefix`.
    pub(crate) fn scan_prefix(
        &self,
        family: Family,
        prefix: &[u8],
        each: Each<'_>,
    ) -> Result<(), StoreError> {
        self.scan(family, prefix, &mut |key, value| {
            if key.starts_with(prefix) { each(key, value) } else { Ok(false) }
        })
    }

    /// Walks over the keys before `before` (all, if `None`) from the last to the first.
    pub(crate) fn scan_back(
        &self,
        family: Family,
        before: Option<&[u8]>,
        each: Each<'_>,
    ) -> Result<(), StoreError> {
        let mode = match before {
            Some(key) => IteratorMode::From(key, Direction::Reverse),
            None => IteratorMode::End,
        };
        let changed =
            |overlay: &Overlay, passed: Option<&[u8]>| overlay.last(family.number(), passed.or(before));
        self.with(|db, overlay| {
            let walk = db.iterator_cf_opt(handle(db, family), ReadOptions::default(), mode);
            let walk =
                walk.map(|item| item.map_err(|error| failure(&self.root, &error))).skip_while(|item| {
                    item.as_ref().is_ok_and(|(key, _)| before.is_some_and(|before| **key >= *before))
                });
            merged(overlay, walk, |key, changed| key > changed, changed, each)
        })
    }

    fn scan_with(
        &self,
        family: Family,
        from: &[u8],
        options: ReadOptions,
        each: Each<'_>,
    ) -> Result<(), StoreError> {
        self.with(|db, overlay| self.scan_of(db, overlay, family, from, options, each))
    }

    pub(super) fn scan_of(
        &self,
        db: &DB,
        overlay: Option<&Overlay>,
        family: Family,
        from: &[u8],
        options: ReadOptions,
        each: Each<'_>,
    ) -> Result<(), StoreError> {
        let Some(overlay) = overlay.filter(|overlay| overlay.changes(family.number())) else {
            // What the files hold is given where it lies: copying each key and value on the way was a fifth of what
            // walking over many blobs and references costs.
            let mut walk = db.raw_iterator_cf_opt(handle(db, family), options);
            walk.seek(from);
            while let Some((key, value)) = walk.item() {
                if !each(key, value)? {
                    return Ok(());
                }
                walk.next();
            }
            // It ends because there is nothing more, or because that could not be read.
            return walk.status().map_err(|error| failure(&self.root, &error));
        };
        let from_here = IteratorMode::From(from, Direction::Forward);
        let walk = db.iterator_cf_opt(handle(db, family), options, from_here);
        let walk = walk.map(|item| item.map_err(|error| failure(&self.root, &error)));
        let changed = |overlay: &Overlay, passed: Option<&[u8]>| {
            overlay.first(family.number(), passed.map_or(Bound::Included(from), Bound::Excluded))
        };
        merged(Some(overlay), walk, |key, changed| key < changed, changed, each)
    }
}

/// Walks over what is on disk and what was changed over it as over one. `walk` gives the former, `changed` the
/// first change behind the key that was passed last, both in the order that `precedes` tells.
fn merged(
    overlay: Option<&Overlay>,
    mut walk: impl Iterator<Item = Result<(Box<[u8]>, Box<[u8]>), StoreError>>,
    precedes: impl Fn(&[u8], &[u8]) -> bool,
    changed: impl Fn(&Overlay, Option<&[u8]>) -> Option<(Vec<u8>, Option<Vec<u8>>)>,
    each: Each<'_>,
) -> Result<(), StoreError> {
    let mut held = walk.next().transpose()?;
    let mut passed: Option<Vec<u8>> = None;
    loop {
        let next = overlay.and_then(|overlay| changed(overlay, passed.as_deref()));
        match (held.take(), next) {
            (None, None) => return Ok(()),
            (Some((key, value)), next)
                if next.as_ref().is_none_or(|(changed, _)| precedes(&key, changed)) =>
            {
                if !each(&key, &value)? {
                    return Ok(());
                }
                held = walk.next().transpose()?;
            }
            (old, Some((key, value))) => {
                held = match old {
                    Some((old, _)) if *old == *key => walk.next().transpose()?,
                    old => old,
                };
                if let Some(value) = value
                    && !each(&key, &value)?
                {
                    return Ok(());
                }
                passed = Some(key);
            }
            (Some(_), None) => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::Expect;

    fn walked(index: &Index, family: Family, from: &[u8], most: usize) -> Vec<Vec<u8>> {
        let mut seen = Vec::new();
        let each = &mut |key: &[u8], value: &[u8]| {
            seen.push([key, value].concat());
            Ok(seen.len() < most)
        };
        index.scan(family, from, each).expect("it reads");
        seen
    }

    /// A family over which nothing was written is walked over in the files alone, one over which something was in both.
    #[test]
    fn a_walk_is_the_same_over_files_alone_and_with_changes_over_them() {
        let dir = tempfile::tempdir().expect("a folder");
        let folder = dir.path().join("index");
        let index = Index::open(dir.path(), &folder, Expect::Nothing).expect("it opens");
        let mut batch = index.batch();
        for (family, key) in [(Family::Rows, b"a"), (Family::Rows, b"c"), (Family::Refs, b"d")] {
            batch.put(family, key, b"1");
        }
        index.write(batch).expect("it writes");
        index.flush().expect("it is on disk");
        drop(index);

        let index = Index::open_frozen(dir.path(), &folder).expect("it opens");
        assert_eq!(walked(&index, Family::Rows, b"", 9), [b"a1", b"c1"]);
        assert_eq!(walked(&index, Family::Rows, b"b", 9), [b"c1"]);
        assert_eq!(walked(&index, Family::Rows, b"", 1), [b"a1"]);
        let mut batch = index.batch();
        batch.put(Family::Rows, b"b", b"2");
        batch.delete(Family::Rows, b"c");
        index.write(batch).expect("it writes");
        assert_eq!(walked(&index, Family::Rows, b"", 9), [b"a1", b"b2"]);
        assert_eq!(walked(&index, Family::Refs, b"", 9), [b"d1"]);
        assert!(walked(&index, Family::Results, b"", 9).is_empty());
    }
}
