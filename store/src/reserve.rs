//! A little room that is kept for the day when the disk is full.
//!
//! Opening the index writes some 100 kB before anything can be collected. On a full disk that room is
//! taken from the reserve, so that `gc` can open the store and make more.

use std::fs::{self, File};
use std::path::Path;

/// Enough for RocksDB's files on opening, a few journal entries, and the blocks around them.
const RESERVE_BYTES: u64 = 384 * 1024;

/// The reserve is made again when this much is free.
pub(crate) const PLENTY_BYTES: u64 = 64 * 1024 * 1024;

/// Gives the reserve up; false if there was none.
pub(crate) fn release(path: &Path) -> bool {
    fs::remove_file(path).is_ok()
}

/// Makes the reserve if there is none and room is plenty. That it could not be made harms nothing now.
pub(crate) fn keep(path: &Path, free_bytes: u64) {
    if free_bytes < PLENTY_BYTES || fs::symlink_metadata(path).is_ok() {
        return;
    }
    let Ok(file) = File::create_new(path) else { return };
    // Real blocks: a file with a hole keeps no room.
    let made = rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, RESERVE_BYTES);
    if made.is_err() {
        release(path);
    }
}
