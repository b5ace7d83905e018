//! RocksDB's errors in our words: it hands on text, of which some says what a caller can do.

use std::io;
use std::path::Path;

use rocksdb::ErrorKind;

use crate::error::StoreError;

/// An error of RocksDB in our words.
pub(super) fn failure(root: &Path, error: &rocksdb::Error) -> StoreError {
    let what = error.as_ref().to_owned();
    match error.kind() {
        ErrorKind::Corruption => StoreError::IndexDamaged { dir: root.to_owned(), what },
        _ if is_full(&what) => StoreError::Io {
            action: "write the index in",
            path: root.to_owned(),
            source: io::Error::new(io::ErrorKind::StorageFull, what),
        },
        ErrorKind::IOError => {
            // RocksDB hands on the words only; some of them a caller can do something about.
            let kind = match () {
                () if what.contains("Permission denied") => io::ErrorKind::PermissionDenied,
                () if what.contains("Read-only file system") => io::ErrorKind::ReadOnlyFilesystem,
                () => io::ErrorKind::Other,
            };
            let source = io::Error::new(kind, what);
            StoreError::Io { action: "use the index in", path: root.to_owned(), source }
        }
        _ => StoreError::Index { dir: root.to_owned(), what },
    }
}

/// Why the index could not be opened.
pub(super) fn not_opened(root: &Path, error: &rocksdb::Error) -> StoreError {
    let text = error.as_ref();
    if text.contains("Too many open") {
        // Its lock file is among those that cannot be opened then: nobody else has it.
        failure(root, error)
    } else if text.contains("lock file") || text.contains("No locks available") {
        StoreError::InUse { dir: root.to_owned(), owner: "a program that is not cas".to_owned() }
    } else if is_full(text) || text.contains("Permission denied") {
        failure(root, error)
    } else {
        StoreError::IndexDamaged { dir: root.to_owned(), what: text.to_owned() }
    }
}

fn is_full(text: &str) -> bool {
    text.contains("No space left") || text.contains("quota exceeded")
}
