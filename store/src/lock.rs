//! The host's lock: one process at a time owns the index.
//!
//! A kernel lock on the file `lock`, which holds in words who has it. The kernel lets go when the process
//! ends, however it ends, so there is nothing to clean up and no process id is ever believed. It is taken
//! before RocksDB's own lock, which is lost as soon as any descriptor of its file is closed; and no child
//! of a fork gets it.

use std::fs::{File, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use crate::disk;
use crate::error::{At, StoreError};
use crate::layout::Layout;
use crate::plain_file;
use crate::sys::{Birth, Kept};

/// The lock, held for as long as this lives.
#[derive(Debug)]
pub(crate) struct HostLock {
    file: Kept<File>,
    birth: Birth,
}

impl HostLock {
    /// Takes the lock; `None` while another process has it.
    pub(crate) fn take(layout: &Layout, owner: &str) -> Result<Option<Self>, StoreError> {
        let path = layout.lock();
        disk::may("open", &path).at("open", &path)?;
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false);
        let file = plain_file::open(&path, &mut options).at("open", &path)?;
        // Before the lock is taken: a child that is forked in between must not have it.
        let file = Kept::new(file);
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(source)) => {
                return Err(StoreError::Io { action: "lock", path, source });
            }
        }
        let lock = Self { file, birth: Birth::now() };
        lock.write_owner(&path, owner)?;
        Ok(Some(lock))
    }

    fn write_owner(&self, path: &Path, owner: &str) -> Result<(), StoreError> {
        let mut file = &*self.file;
        file.set_len(0).at("write", path)?;
        file.seek(SeekFrom::Start(0)).at("write", path)?;
        match file.write_all(owner.as_bytes()) {
            Ok(()) => Ok(()),
            // The words are a kindness; a full disk must not keep anyone from making room.
            Err(error) if error.kind() == std::io::ErrorKind::StorageFull => Ok(()),
            Err(source) => Err(StoreError::Io { action: "write", path: path.to_owned(), source }),
        }
    }
}

impl Drop for HostLock {
    fn drop(&mut self) {
        if self.birth.is_over() {
            return;
        }
        // What is written there is about whoever has the lock, and nobody has it now.
        let _ = self.file.set_len(0);
        let _ = self.file.unlock();
    }
}

/// Whether a process has the lock.
pub(crate) fn is_held(layout: &Layout) -> bool {
    File::open(layout.lock())
        .is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

/// Who has the lock, as far as is known.
pub(crate) fn owner(layout: &Layout) -> String {
    let mut text = String::new();
    let read = File::open(layout.lock()).and_then(|file| file.take(512).read_to_string(&mut text));
    match read {
        Ok(_) if !text.trim().is_empty() => text.trim().to_owned(),
        _ => "another process".to_owned(),
    }
}
