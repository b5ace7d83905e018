//! The host's lock: one process at a time owns the index.
//!
//! A kernel lock on the file `lock`, which holds in words who has it. The kernel lets go when the process
//! ends, however it ends, so there is nothing to clean up and no process id is ever believed. It is taken
//! before RocksDB's own lock, which is lost as soon as any descriptor of its file is closed.

use std::fs::{File, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::disk;
use crate::error::{At, StoreError};

/// The longest time between two looks at a lock that another process has. Waiting for the kernel itself
/// would be a thread that cannot be called back when time is up.
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// The lock, held for as long as this lives.
#[derive(Debug)]
pub(crate) struct HostLock {
    file: File,
}

impl HostLock {
    /// Takes the lock, waiting for it if it must; `on_wait` is told once who has it.
    ///
    /// # Errors
    ///
    /// [`StoreError::InUse`] when another process keeps it for longer than `wait`.
    pub(crate) fn take(
        root: &Path,
        path: &Path,
        owner: &str,
        wait: Duration,
        on_wait: &mut dyn FnMut(&str),
    ) -> Result<Self, StoreError> {
        disk::may("open", path).at("open", path)?;
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .at("open", path)?;
        let begin = Instant::now();
        let mut pause = Duration::from_millis(1);
        let mut told = false;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::Error(source)) => {
                    return Err(StoreError::Io { action: "lock", path: path.to_owned(), source });
                }
                Err(TryLockError::WouldBlock) => {}
            }
            let owner = read_owner(&mut file);
            let left = wait.saturating_sub(begin.elapsed());
            if left.is_zero() {
                return Err(StoreError::InUse { dir: root.to_owned(), owner });
            }
            if !told {
                on_wait(&owner);
                told = true;
            }
            std::thread::sleep(pause.min(left));
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        let lock = Self { file };
        lock.write_owner(path, owner)?;
        Ok(lock)
    }

    fn write_owner(&self, path: &Path, owner: &str) -> Result<(), StoreError> {
        let mut file = &self.file;
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
        // What is written there is about whoever has the lock, and nobody has it now.
        let _ = self.file.set_len(0);
        let _ = self.file.unlock();
    }
}

fn read_owner(file: &mut File) -> String {
    let mut text = String::new();
    let read = file.seek(SeekFrom::Start(0)).and_then(|_| file.take(512).read_to_string(&mut text));
    match read {
        Ok(_) if !text.trim().is_empty() => text.trim().to_owned(),
        _ => "another process".to_owned(),
    }
}
