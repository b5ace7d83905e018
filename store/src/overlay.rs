//! Changes of an index whose files are not open for writing: kept in memory, over what the files hold.
//!
//! Most processes write so little that opening the files for writing would be most of their work. On a full
//! disk the journal takes what little room there is, and the index none; on a read-only one the journal's end
//! is read over it. What is here is lost with the process: the journal has it all, and whoever opens the store
//! next applies it.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Told of an entry: its family, its key, and its value unless it is removed.
pub(crate) type Each<'a> = dyn FnMut(u8, &[u8], Option<&[u8]>) + 'a;

/// The keys of a family that were put or taken away.
type Changed = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// One change of one key.
pub(crate) struct Change {
    pub(crate) family: u8,
    pub(crate) key: Vec<u8>,
    /// `None` takes the key away.
    pub(crate) value: Option<Vec<u8>>,
}

/// What was changed, by the number of the family.
#[derive(Default)]
pub(crate) struct Overlay(RwLock<BTreeMap<u8, Changed>>);

impl Overlay {
    /// Applies changes together.
    pub(crate) fn write(&self, changes: Vec<Change>) {
        let mut families = self.families_mut();
        for Change { family, key, value } in changes {
            families.entry(family).or_default().insert(key, value);
        }
    }

    /// Whether anything of a family was changed.
    pub(crate) fn changes(&self, family: u8) -> bool {
        self.families().get(&family).is_some_and(|changed| !changed.is_empty())
    }

    /// What a key was changed to (`Some(None)`: taken away); `None` where it was not changed.
    pub(crate) fn get(&self, family: u8, key: &[u8]) -> Option<Option<Vec<u8>>> {
        self.families().get(&family)?.get(key).cloned()
    }

    /// The first changed key from a bound on.
    pub(crate) fn first(&self, family: u8, from: Bound<&[u8]>) -> Option<(Vec<u8>, Option<Vec<u8>>)> {
        let families = self.families();
        let (key, value) = families.get(&family)?.range::<[u8], _>((from, Bound::Unbounded)).next()?;
        Some((key.clone(), value.clone()))
    }

    /// The last changed key before another, or of all.
    pub(crate) fn last(&self, family: u8, before: Option<&[u8]>) -> Option<(Vec<u8>, Option<Vec<u8>>)> {
        let families = self.families();
        let end = before.map_or(Bound::Unbounded, Bound::Excluded);
        let (key, value) = families.get(&family)?.range::<[u8], _>((Bound::Unbounded, end)).next_back()?;
        Some((key.clone(), value.clone()))
    }

    /// Walks over all changes.
    pub(crate) fn each(&self, each: &mut Each<'_>) {
        for (family, changed) in &*self.families() {
            for (key, value) in changed {
                each(*family, key, value.as_deref());
            }
        }
    }

    /// Forgets all changes of a family.
    pub(crate) fn clear(&self, family: u8) {
        self.families_mut().remove(&family);
    }

    fn families(&self) -> RwLockReadGuard<'_, BTreeMap<u8, Changed>> {
        self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn families_mut(&self) -> RwLockWriteGuard<'_, BTreeMap<u8, Changed>> {
        self.0.write().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
