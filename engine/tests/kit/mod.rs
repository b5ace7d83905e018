//! What tests do to a store by hand.

use std::fs;
use std::path::Path;

use cas_store::{Digest, Store};

/// Has a store that is about to be made keep every value in a file, so that it can be spoilt.
pub(crate) fn keep_all_in_files(dir: &Path) {
    fs::create_dir_all(dir).expect("a folder");
    fs::write(dir.join("config.toml"), "inline_limit = \"0\"\n").expect("its settings");
}

/// Takes the bytes of a blob away: somebody overwrites their file, and somebody else notices.
pub(crate) fn spoil(store: &Store, digest: &Digest) {
    let hex = digest.to_hex();
    let folder = store.dir().join("blobs").join(&hex[..2]);
    for entry in fs::read_dir(&folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&hex)) {
            fs::remove_file(&path).expect("it can be removed");
            fs::write(&path, "not this").expect("it can be written");
        }
    }
    store.quarantine(digest, "a test").expect("the store takes note");
}
