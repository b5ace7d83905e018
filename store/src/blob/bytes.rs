//! The raw bytes of a blob, in memory: read, or mapped.

use std::ops::Deref;

/// Raw bytes of a blob in memory: mapped where it is stored raw, else read. They were checked.
pub struct Bytes(pub(super) Held);

pub(super) enum Held {
    Owned(Vec<u8>),
    Mapped(memmap2::Mmap),
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Held::Owned(bytes) => bytes,
            Held::Mapped(map) => map,
        }
    }
}

impl std::fmt::Debug for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Bytes({} bytes)", self.len())
    }
}
