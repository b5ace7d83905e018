//! Sets and maps of ids that are hashes already: a part of one says where it stands. To hash it once more is most of what
//! it costs to find one among a hundred thousand.
//!
//! Only for [`Trace`](crate::Trace), [`Digest`](crate::Digest) and [`Version`](crate::Version). Whoever wants two of them
//! to meet has to look for them as long as for any two hashes that agree in so many bits, and gains that they are
//! told apart a little later.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

/// A set of ids.
pub(crate) type IdSet<T> = HashSet<T, BuildHasherDefault<First>>;

/// A map from ids.
pub(crate) type IdMap<T, V> = HashMap<T, V, BuildHasherDefault<First>>;

/// Takes the first bytes of what is hashed already.
#[derive(Default)]
pub(crate) struct First(u64);

impl Hasher for First {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        match bytes.first_chunk() {
            Some(first) => self.0 = u64::from_le_bytes(*first),
            None => bytes.iter().for_each(|byte| self.0 = self.0.rotate_left(8) ^ u64::from(*byte)),
        }
    }

    // How many bytes there are is the same for all of them.
    fn write_usize(&mut self, _: usize) {}
}

#[cfg(test)]
mod tests {
    use std::hash::{BuildHasher, BuildHasherDefault};

    use super::*;
    use crate::Trace;

    #[test]
    fn an_id_stands_where_its_first_bytes_say() {
        let hash = |trace: Trace| BuildHasherDefault::<First>::default().hash_one(trace);
        let mut bytes = [9; 32];
        bytes[..8].copy_from_slice(&0x0102_0304_0506_0708_u64.to_le_bytes());
        assert_eq!(hash(Trace::from_bytes(bytes)), 0x0102_0304_0506_0708);
    }

    #[test]
    fn ids_that_begin_alike_are_told_apart() {
        let of = |last: u8| {
            let mut bytes = [7; 32];
            bytes[31] = last;
            Trace::from_bytes(bytes)
        };
        let some: IdSet<Trace> = (0..100).map(of).collect();
        assert_eq!(some.len(), 100);
        assert!(some.contains(&of(99)) && !some.contains(&of(100)));
    }
}
