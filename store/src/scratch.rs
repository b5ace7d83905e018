//! Folders that outlive whoever uses them, for one user at a time: what a build leaves for the next one.
//!
//! ```text
//! scratch/<name>/lock      held locked by whoever uses the folder, and by what it starts
//! scratch/<name>/…         is the user's
//! ```
//!
//! Nothing here is named by the index, hashed or shared, and all of it may be removed while nobody uses it. The lock is
//! the kernel's (`flock`): it is free when the last process is gone that inherited it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{FlockOperation, flock};

use crate::error::{At, StoreError};
use crate::layout::Layout;
use crate::work::{self, WorkFolder};

/// The file that is locked.
const LOCK: &str = "lock";

/// A scratch folder, for as long as this is held.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    lock: File,
}

impl Scratch {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What holds it: whoever inherits it holds it too.
    pub fn lock(&self) -> BorrowedFd<'_> {
        self.lock.as_fd()
    }
}

/// Takes a scratch folder, which is made if it is not there; `None` while somebody else has it.
pub(crate) fn take(layout: &Layout, name: &str) -> Result<Option<Scratch>, StoreError> {
    let path = layout.scratch().join(name);
    loop {
        match fs::create_dir_all(&path) {
            // It was there, and was removed in this very moment.
            Err(error)
                if error.kind() == io::ErrorKind::AlreadyExists && fs::symlink_metadata(&path).is_err() => {}
            made => made.at("make", &path)?,
        }
        let lock = match lock(&path) {
            Ok(Some(lock)) => lock,
            Ok(None) => return Ok(None),
            // It was removed in this very moment.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error).at("lock", &path),
        };
        // When it was used last is what its age is.
        let now = SystemTime::now();
        let _ = lock.set_times(fs::FileTimes::new().set_accessed(now).set_modified(now));
        return Ok(Some(Scratch { path, lock }));
    }
}

/// Locks a folder; `None` where somebody has it. What is locked is what stands there.
fn lock(folder: &Path) -> io::Result<Option<File>> {
    let path = folder.join(LOCK);
    let lock = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path)?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    // Whoever removes a folder does so under its lock: it may have gone between the two calls.
    let (ours, there) = (lock.metadata()?, fs::symlink_metadata(&path)?);
    if (ours.ino(), ours.dev()) == (there.ino(), there.dev()) {
        Ok(Some(lock))
    } else {
        Err(io::ErrorKind::NotFound.into())
    }
}

/// The scratch folders, with when they were used last.
pub(crate) fn list(layout: &Layout, folders: &mut Vec<WorkFolder>) -> Result<(), StoreError> {
    let dir = layout.scratch();
    let entries = match fs::read_dir(&dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.at("list", &dir)?,
    };
    for entry in entries {
        let path = entry.at("list", &dir)?.path();
        let used = fs::symlink_metadata(path.join(LOCK)).and_then(|metadata| metadata.modified()).ok();
        let used = used.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        folders.push(WorkFolder {
            modified_ms: used.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX)),
            kept: false,
            in_use: in_use(&path),
            path,
        });
    }
    Ok(())
}

fn in_use(folder: &Path) -> bool {
    let Ok(lock) = File::open(folder.join(LOCK)) else { return false };
    // Asked for together with others who ask: it is given back at once.
    matches!(flock(&lock, FlockOperation::NonBlockingLockShared), Err(rustix::io::Errno::WOULDBLOCK))
}

/// Removes a scratch folder, unless somebody has it; gives how many bytes that freed.
pub(crate) fn remove(folder: &Path) -> Result<u64, StoreError> {
    let held = match lock(folder) {
        Ok(held) => held,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error).at("lock", folder),
    };
    if held.is_none() {
        let source = io::Error::other("it is in use");
        return Err(StoreError::Io { action: "remove", path: folder.to_owned(), source });
    }
    let bytes = work::open_up(folder)?;
    // The lock goes last: once it is gone, whoever comes makes a new one there and has the folder. It is then left alone,
    // because it is not empty.
    for entry in fs::read_dir(folder).at("list", folder)? {
        let entry = entry.at("list", folder)?;
        if entry.file_name() != LOCK {
            let path = entry.path();
            let is_folder = entry.file_type().at("look at", &path)?.is_dir();
            let removed = if is_folder { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.at("remove", &path)?;
        }
    }
    fs::remove_file(folder.join(LOCK)).at("remove", folder)?;
    match fs::remove_dir(folder) {
        Err(error) if !matches!(error.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::NotFound) => {
            Err(error).at("remove", folder)
        }
        Ok(()) | Err(_) => Ok(bytes),
    }
}

/// How many folders there are, and how many bytes are in them.
pub(crate) fn size(layout: &Layout) -> (u64, u64) {
    let mut open = vec![layout.scratch()];
    let (mut folders, mut bytes) = (0, 0);
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_dir() {
                folders += u64::from(dir == layout.scratch());
                open.push(entry.path());
            } else {
                bytes += metadata.len();
            }
        }
    }
    (folders, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_one_users_at_a_time_and_there_again_for_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path().to_owned());
        let first = take(&layout, "a").unwrap().unwrap();
        fs::write(first.path().join("x"), "left").unwrap();
        assert!(take(&layout, "a").unwrap().is_none());
        assert!(take(&layout, "b").unwrap().is_some());
        assert!(remove(first.path()).is_err());
        drop(first);
        let second = take(&layout, "a").unwrap().unwrap();
        assert_eq!(fs::read_to_string(second.path().join("x")).unwrap(), "left");
    }

    #[test]
    fn one_that_was_removed_is_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path().to_owned());
        drop(take(&layout, "a").unwrap());
        let mut folders = Vec::new();
        list(&layout, &mut folders).unwrap();
        assert_eq!(folders.iter().map(|folder| folder.in_use).collect::<Vec<_>>(), [false]);
        remove(&folders[0].path).unwrap();
        let held = take(&layout, "a").unwrap().unwrap();
        fs::write(held.path().join("x"), "12345").unwrap();
        assert_eq!(size(&layout), (1, 5));
        folders.clear();
        list(&layout, &mut folders).unwrap();
        assert!(folders[0].in_use);
    }
    /// Removing began with whatever came first, and where that was the lock, somebody else took the folder and lost what
    /// was in it while having it.
    #[test]
    fn who_takes_one_while_it_is_removed_keeps_what_is_put_there() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path().to_owned());
        let mark = |scratch: &Scratch| scratch.path().join("dirs/mark");
        for _ in 0..3 {
            let first = take(&layout, "a").unwrap().unwrap();
            for number in 0..300 {
                fs::create_dir_all(first.path().join(format!("dirs/{number}"))).unwrap();
                fs::write(first.path().join(format!("left{number}")), "left").unwrap();
            }
            let path = first.path().to_owned();
            drop(first);
            let begun = std::sync::Barrier::new(2);
            let next = std::thread::scope(|scope| {
                scope.spawn(|| {
                    begun.wait();
                    loop {
                        match remove(&path) {
                            // The other one was first, and found what was to be removed.
                            Err(_) if path.join("left0").exists() => std::thread::yield_now(),
                            _ => return,
                        }
                    }
                });
                begun.wait();
                loop {
                    match take(&layout, "a").unwrap() {
                        // Before it was removed.
                        Some(taken) if taken.path().join("left0").exists() => drop(taken),
                        Some(taken) => {
                            fs::create_dir_all(mark(&taken).parent().unwrap()).unwrap();
                            fs::write(mark(&taken), "mine").unwrap();
                            return taken;
                        }
                        None => {}
                    }
                }
            });
            assert_eq!(fs::read_to_string(mark(&next)).unwrap(), "mine");
            assert!(take(&layout, "a").unwrap().is_none(), "it is taken");
            drop(next);
            remove(&path).unwrap();
        }
    }
}
