//! Walking over what begins with each of many keys, in one go.
//!
//! Beginning a walk is a look into every sorted run of a family, and where the keys lie close together the next one is
//! mostly in the block that was just read.

use super::failure::failure;
use super::options::once;
use super::{Family, Index, Read, handle};
use crate::error::StoreError;

/// Is given the place of a key among those that were asked for, a key that begins with it, and the value there; says whether
/// more that begin with the same are wanted.
pub(crate) type EachOf<'a> = &'a mut dyn FnMut(usize, &[u8], &[u8]) -> Result<bool, StoreError>;

/// So many steps are taken towards the next prefix before it is looked for.
const STEPS: usize = 64;

/// So many prefixes at most are looked for at once where walking to one of them was in vain.
const MOST_SOUGHT: usize = 64;

impl Index {
    /// Walks over the keys that begin with each of `prefixes`, which are in their order and none of which begins with another.
    /// What is read is not kept in memory.
    pub(crate) fn scan_prefixes<K: AsRef<[u8]>>(
        &self,
        family: Family,
        prefixes: &[K],
        each: EachOf<'_>,
    ) -> Result<(), StoreError> {
        self.with(|db, overlay| {
            if let Some(overlay) = overlay.filter(|overlay| overlay.changes(family.number())) {
                for (at, prefix) in prefixes.iter().enumerate() {
                    let prefix = prefix.as_ref();
                    let each = &mut |key: &[u8], value: &[u8]| {
                        if key.starts_with(prefix) { each(at, key, value) } else { Ok(false) }
                    };
                    self.scan_of(db, Some(overlay), family, prefix, once(), each)?;
                }
                return Ok(());
            }
            let mut walk = db.raw_iterator_cf_opt(handle(db, family), once());
            // How many are looked for before it is tried again to walk to one, and how many of them are left.
            let (mut sought, mut left) = (1, 1);
            for (at, prefix) in prefixes.iter().enumerate() {
                let prefix = prefix.as_ref();
                let mut steps = if left == 0 { STEPS } else { 0 };
                while steps > 0 && walk.key().is_some_and(|key| key < prefix) {
                    walk.next();
                    steps -= 1;
                }
                if at == 0 || walk.key().is_some_and(|key| key < prefix) {
                    walk.seek(prefix);
                    if left == 0 {
                        sought = (sought * 2).min(MOST_SOUGHT);
                        left = sought;
                    }
                    left -= 1;
                } else {
                    (sought, left) = (1, 0);
                }
                while let Some((key, value)) = walk.item() {
                    if !key.starts_with(prefix) || !each(at, key, value)? {
                        break;
                    }
                    walk.next();
                }
                if !walk.valid() {
                    // It ends because there is nothing more, or because that could not be read.
                    return walk.status().map_err(|error| failure(self.root(), &error));
                }
            }
            Ok(())
        })
    }

    /// As [`Index::get_each`], for keys in their order and each once. What is read is not kept in memory, which is for those
    /// who ask for so many that nothing else would be kept.
    pub(crate) fn get_each_once<K: AsRef<[u8]>, T>(
        &self,
        family: Family,
        keys: &[K],
        read: Read<'_, T>,
    ) -> Result<Vec<Option<T>>, StoreError> {
        let mut values: Vec<Option<T>> = Vec::new();
        values.resize_with(keys.len(), || None);
        self.scan_prefixes(family, keys, &mut |at, key, value| {
            if key == keys[at].as_ref() {
                values[at] = Some(read(at, value)?);
            }
            Ok(false)
        })?;
        Ok(values)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::index::Expect;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        /// Some lie next to each other, and between others there are more keys than it walks over.
        #[test]
        fn what_begins_with_many_keys_is_what_a_walk_over_each_finds(
            held in proptest::collection::vec((0..200_u8, 0..40_u8), 0..600),
            changed in proptest::collection::vec((0..200_u8, 0..40_u8, any::<bool>()), 0..6),
            asked in proptest::collection::btree_set(0..220_u8, 0..200),
            most in 1..4_usize,
        ) {
            let dir = tempfile::tempdir().expect("a folder");
            let folder = dir.path().join("index");
            let index = Index::open(dir.path(), &folder, Expect::Nothing).expect("it opens");
            let mut batch = index.batch();
            for (from, to) in held {
                batch.put(Family::Refs, &[from, to], &[to]);
            }
            index.write(batch).expect("it writes");
            index.flush().expect("it is on disk");
            drop(index);
            // Over files alone where nothing was changed.
            let index = Index::open_frozen(dir.path(), &folder).expect("it opens");
            let mut batch = index.batch();
            for (from, to, put) in changed {
                match put {
                    true => batch.put(Family::Refs, &[from, to], b"new"),
                    false => batch.delete(Family::Refs, &[from, to]),
                }
            }
            index.write(batch).expect("it writes");

            let prefixes: Vec<[u8; 1]> = asked.into_iter().map(|byte| [byte]).collect();
            let mut expected = Vec::new();
            for (at, prefix) in prefixes.iter().enumerate() {
                let mut seen = 0;
                let each = &mut |key: &[u8], value: &[u8]| {
                    expected.push((at, key.to_vec(), value.to_vec()));
                    seen += 1;
                    Ok(seen < most)
                };
                index.scan_prefix(Family::Refs, prefix, each).expect("it reads");
            }
            let mut found: Vec<(usize, Vec<u8>, Vec<u8>)> = Vec::new();
            let each = &mut |at: usize, key: &[u8], value: &[u8]| {
                found.push((at, key.to_vec(), value.to_vec()));
                Ok(found.iter().filter(|(other, ..)| *other == at).count() < most)
            };
            index.scan_prefixes(Family::Refs, &prefixes, each).expect("it reads");
            prop_assert_eq!(found, expected);

            let keys: Vec<[u8; 2]> = prefixes.iter().map(|prefix| [prefix[0], 7]).collect();
            let each = index.get_each(Family::Refs, &keys, &mut |at, value| Ok((at, value.to_vec())));
            let once = index.get_each_once(Family::Refs, &keys, &mut |at, value| Ok((at, value.to_vec())));
            prop_assert_eq!(once.expect("it reads"), each.expect("it reads"));
        }
    }
}
