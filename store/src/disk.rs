//! The few ways in which the files that a store must not lose are changed and put on disk.
//!
//! Without the cargo feature `crash-points` these are the calls themselves. With it, a test can let the
//! next ones fail ([`fail`]), and can have them recorded in their order ([`record`]), so that it can build
//! every state in which a loss of power may leave the files: what was not synced is not there.
//! RocksDB's own files do not pass here; what it has flushed is noted as a whole.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

#[cfg(feature = "crash-points")]
pub(crate) use recorded::may;
#[cfg(feature = "crash-points")]
use recorded::note;
#[cfg(feature = "crash-points")]
pub use recorded::{Op, fail, fail_no_more, record, taken};

/// Whether a test lets this fail.
#[cfg(not(feature = "crash-points"))]
#[inline(always)]
#[expect(clippy::unnecessary_wraps, reason = "with the feature it can fail")]
pub(crate) fn may(_what: &str, _path: &Path) -> io::Result<()> {
    Ok(())
}

/// Writes at a place of a file.
pub(crate) fn write_at(file: &File, path: &Path, bytes: &[u8], offset: u64) -> io::Result<()> {
    may("write", path)?;
    file.write_all_at(bytes, offset)?;
    #[cfg(feature = "crash-points")]
    note(path, |path| Op::Write { path, bytes: bytes.to_vec(), offset });
    Ok(())
}

/// Cuts a file.
pub(crate) fn cut(file: &File, path: &Path, len: u64) -> io::Result<()> {
    may("cut", path)?;
    file.set_len(len)?;
    #[cfg(feature = "crash-points")]
    note(path, |path| Op::Cut { path, len });
    Ok(())
}

/// Notes a file that was written under this name in other ways, and is not synced.
pub(crate) fn written(path: &Path) {
    #[cfg(feature = "crash-points")]
    note(path, |path| Op::Write { bytes: fs::read(&path).unwrap_or_default(), path, offset: 0 });
    #[cfg(not(feature = "crash-points"))]
    let _ = path;
}

/// Renames.
pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    may("rename", to)?;
    // A file that is renamed into the store was not written through here.
    #[cfg(feature = "crash-points")]
    let bytes = recorded::is_on().then(|| fs::read(from).unwrap_or_default());
    fs::rename(from, to)?;
    #[cfg(feature = "crash-points")]
    note(from, |from| Op::Rename { from, to: to.to_owned(), bytes: bytes.unwrap_or_default() });
    Ok(())
}

/// Removes a file.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    may("remove", path)?;
    fs::remove_file(path)?;
    #[cfg(feature = "crash-points")]
    note(path, |path| Op::Remove { path });
    Ok(())
}

/// Puts a file's content on disk.
pub(crate) fn sync(file: &File, path: &Path) -> io::Result<()> {
    may("sync", path)?;
    file.sync_all()?;
    #[cfg(feature = "crash-points")]
    note(path, |path| Op::Sync { path });
    Ok(())
}

/// Puts a file's content on disk, and of what describes it only what reading it needs.
pub(crate) fn sync_data(file: &File, path: &Path) -> io::Result<()> {
    may("sync", path)?;
    file.sync_data()?;
    #[cfg(feature = "crash-points")]
    note(path, |path| Op::Sync { path });
    Ok(())
}

/// Puts the names in a folder on disk.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    may("sync", path)?;
    File::open(path)?.sync_all()?;
    #[cfg(feature = "crash-points")]
    note(path, |path| Op::SyncFolder { path });
    Ok(())
}

/// Puts everything on disk that lies on the file system of this folder.
pub(crate) fn sync_file_system(path: &Path) -> io::Result<()> {
    may("sync", path)?;
    let folder = File::open(path)?;
    rustix::fs::syncfs(&folder)?;
    #[cfg(feature = "crash-points")]
    note(path, |path| Op::SyncFileSystem { path });
    Ok(())
}

/// Notes that the index's files, in this folder, are on disk as they are now.
pub(crate) fn flushed(path: &Path) {
    #[cfg(feature = "crash-points")]
    note(path, |path| {
        let entries = fs::read_dir(&path).into_iter().flatten().flatten();
        let files = entries.filter_map(|entry| {
            let name = entry.file_name();
            // The lock says nothing, and what is being written is not flushed.
            let is_content = name != "LOCK" && !name.to_string_lossy().ends_with(".dbtmp");
            is_content.then(|| Some((name, fs::read(entry.path()).ok()?))).flatten()
        });
        Op::Flushed { files: files.collect(), path }
    });
    #[cfg(not(feature = "crash-points"))]
    let _ = path;
}

#[cfg(feature = "crash-points")]
mod recorded {
    use std::ffi::OsString;
    use std::io;
    use std::path::{Path, PathBuf};
    use std::sync::{Mutex, PoisonError};

    /// A change of a file, or the promise that earlier ones stay.
    #[derive(Debug, Clone)]
    #[expect(missing_docs, reason = "each is named for the function that notes it")]
    pub enum Op {
        Write { path: PathBuf, bytes: Vec<u8>, offset: u64 },
        Cut { path: PathBuf, len: u64 },
        Rename { from: PathBuf, to: PathBuf, bytes: Vec<u8> },
        Remove { path: PathBuf },
        Sync { path: PathBuf },
        SyncFolder { path: PathBuf },
        SyncFileSystem { path: PathBuf },
        Flushed { path: PathBuf, files: Vec<(OsString, Vec<u8>)> },
    }

    /// What is recorded, of the store in one folder.
    static RECORD: Mutex<Option<(PathBuf, Vec<Op>)>> = Mutex::new(None);

    /// What is to fail: a call, a part of the path, the error's number, and how often yet.
    static FAILING: Mutex<Vec<(String, String, i32, u32)>> = Mutex::new(Vec::new());

    /// Begins to record what happens to files below a folder, and forgets what was recorded before.
    pub fn record(root: &Path) {
        *RECORD.lock().unwrap_or_else(PoisonError::into_inner) = Some((root.to_owned(), Vec::new()));
    }

    /// Everything that was recorded so far.
    pub fn taken() -> Vec<Op> {
        let record = RECORD.lock().unwrap_or_else(PoisonError::into_inner);
        record.as_ref().map(|(_, ops)| ops.clone()).unwrap_or_default()
    }

    /// Lets the next `times` calls of this name fail whose path contains `part`, with an error of the
    /// operating system.
    pub fn fail(call: &str, part: &str, errno: i32, times: u32) {
        let mut failing = FAILING.lock().unwrap_or_else(PoisonError::into_inner);
        failing.push((call.to_owned(), part.to_owned(), errno, times));
    }

    /// Lets nothing fail any more.
    pub fn fail_no_more() {
        FAILING.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    pub(crate) fn is_on() -> bool {
        RECORD.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    pub(crate) fn may(call: &str, path: &Path) -> io::Result<()> {
        let mut failing = FAILING.lock().unwrap_or_else(PoisonError::into_inner);
        let path = path.to_string_lossy();
        let wanted = failing
            .iter_mut()
            .find(|(name, part, _, times)| name == call && path.contains(part.as_str()) && *times > 0);
        match wanted {
            None => Ok(()),
            Some((_, _, errno, times)) => {
                *times -= 1;
                Err(io::Error::from_raw_os_error(*errno))
            }
        }
    }

    pub(crate) fn note(path: &Path, op: impl FnOnce(PathBuf) -> Op) {
        let mut record = RECORD.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((root, ops)) = record.as_mut().filter(|(root, _)| path.starts_with(root)) {
            let _ = root;
            ops.push(op(path.to_owned()));
        }
    }
}
