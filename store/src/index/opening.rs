//! Opening the files: what has to be there before RocksDB is let near them, and for how long they are waited for.

use std::path::Path;
use std::time::Duration;

use rocksdb::DB;

use super::Expect;
use super::failure::{failure, not_opened};
use super::options::{For, families, options};
use crate::disk;
use crate::error::{At, StoreError};
use crate::threads;

/// The threads that RocksDB starts when it opens: one to write, one to tidy up, one that keeps time, and the one that opens
/// files.
const THREADS: usize = 4;

/// Opens what another process may still have, and waits for as long as `go_on` says: one that is ending gives the store's
/// lock up before RocksDB's own, as the kernel closes its files one by one.
pub(crate) fn once_let_go<T>(
    go_on: &dyn Fn() -> bool,
    open: impl Fn() -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let mut pause = Duration::from_millis(1);
    loop {
        match open() {
            Err(StoreError::InUse { .. }) if go_on() => {
                std::thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(50));
            }
            opened => return opened,
        }
    }
}

/// Refuses an index that has lost the file that begins it.
pub(super) fn has_beginning(root: &Path, dir: &Path) -> Result<(), StoreError> {
    if dir.join("CURRENT").exists() {
        return Ok(());
    }
    let what = "its file `CURRENT` is missing".to_owned();
    Err(StoreError::IndexDamaged { dir: root.to_owned(), what })
}

/// Sees that RocksDB can start its threads: it ends the process where it cannot.
pub(super) fn has_threads(root: &Path) -> Result<(), StoreError> {
    threads::are_to_be_had(THREADS).map_err(|error| {
        let what =
            format!("no more threads can be started (`ulimit -u`, or the limit of the container): {error}");
        StoreError::Index { dir: root.to_owned(), what }
    })
}

pub(super) fn open_to_write(root: &Path, dir: &Path, expect: Expect) -> Result<DB, StoreError> {
    disk::may("open", dir).at("write the index in", root)?;
    // RocksDB would make both for its user alone, and then no other user of a shared store could open it.
    std::fs::create_dir_all(dir).at("make", dir)?;
    let lock = dir.join("LOCK");
    if !lock.exists() {
        std::fs::File::create(&lock).at("make", &lock)?;
    }
    has_threads(root)?;
    let options = options(expect).map_err(|error| failure(root, &error))?;
    let db = DB::open_cf_descriptors(&options, dir, families(For::Writing))
        .map_err(|error| not_opened(root, &error))?;
    // Made or opened, its first files are on disk.
    disk::flushed(dir);
    Ok(db)
}
