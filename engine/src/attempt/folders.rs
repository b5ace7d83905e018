//! The folders of a run's attempts: made, some ahead of time, kept of failures, and removed when done with.
//!
//! Invariant: a folder is given to one attempt only. One that was made ahead has been given to nobody.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::error::EngineError;
use crate::execute::folder;
use crate::memo::Memo;

/// How many folders of failed attempts are kept in a store: the newest.
const KEPT_FOLDERS: usize = 5;

/// An attempt that took longer leaves its folder to be removed at once.
const SHORT: Duration = Duration::from_secs(1);

/// How many folders of short attempts wait to be removed together; more than that are not left lying.
const FOLDERS: usize = 4096;

/// How much less may be free on the disk than when the first of them came, until they are removed.
const WAITING_BYTES: u64 = 256 * 1024 * 1024;

/// The folders of one run. Dropped, it has removed all that were done with.
pub(crate) struct Folders<'a> {
    memo: &'a Memo,
    /// Made for commands that have not begun.
    ready: Mutex<Vec<PathBuf>>,
    /// Takes those that are done with, to be removed by another thread; `None` at the end.
    rubbish: Option<Sender<Rubbish>>,
    remover: Option<JoinHandle<()>>,
}

/// The folder of an attempt that is done with.
struct Rubbish {
    folder: PathBuf,
    /// The names of files that it may still hold, below `step/outputs`.
    outputs: Vec<String>,
    /// How long the attempt took.
    took: Duration,
}

impl<'a> Folders<'a> {
    pub(crate) fn new(memo: &'a Memo) -> Self {
        let (rubbish, to_remove) = channel();
        let remover = thread::Builder::new().name("remover".to_owned()).spawn(move || remove_all(&to_remove));
        Self { memo, ready: Mutex::default(), rubbish: Some(rubbish), remover: remover.ok() }
    }

    /// A folder for an attempt of a command.
    pub(super) fn of_command(&self, label: &str) -> Result<PathBuf, EngineError> {
        let ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if let Some(ready) = ready {
            // Its name says whose it is now, for whoever looks at what is running.
            let named = self.memo.work_path(label)?;
            if fs::rename(&ready, &named).is_ok() {
                return Ok(named);
            }
            self.discard(ready, Vec::new(), Duration::ZERO);
        }
        self.memo.work_folder(label)
    }

    /// A folder for an attempt of a function.
    pub(super) fn of_function(&self, label: &str) -> Result<PathBuf, EngineError> {
        self.memo.work_folder(label)
    }

    /// The path of a folder for an attempt of a function that may never need it; it is made when it is asked for.
    pub(super) fn unmade(&self, label: &str) -> Result<PathBuf, EngineError> {
        self.memo.work_path(label)
    }

    /// Says in the work folder that a step may be attempted again, for as long as this lives. Where that cannot be
    /// said, nobody who follows it waits for another attempt.
    pub(super) fn retried(&self, label: &str) -> Option<Retried> {
        let folder = self.memo.work_folder(&folder::retry_label(label)).ok()?;
        let mut retried = Retried { folder, _lock: None };
        retried._lock = Some(folder::hold_retried(&retried.folder).ok()?);
        Some(retried)
    }

    /// Makes a folder for the next attempt of a command. Where that fails, it will be made, and fail, then.
    pub(super) fn prepare(&self) {
        let Ok(ready) = self.memo.work_folder("next") else { return };
        if folder::frame(&ready).is_err() {
            self.discard(ready, Vec::new(), Duration::ZERO);
            return;
        }
        self.ready.lock().unwrap_or_else(PoisonError::into_inner).push(ready);
    }

    /// Has a folder removed, off the path of whoever waits for the step.
    pub(super) fn discard(&self, folder: PathBuf, outputs: Vec<String>, took: Duration) {
        let Some(rubbish) = &self.rubbish else { return };
        if let Err(unheard) = rubbish.send(Rubbish { folder, outputs, took }) {
            discard(&unheard.0);
        }
    }
}

/// A step that may be attempted again.
pub(super) struct Retried {
    folder: PathBuf,
    /// The kernel's, so that it says nothing any longer when the process is gone.
    _lock: Option<fs::File>,
}

impl Drop for Retried {
    fn drop(&mut self) {
        // What stays of it is not locked, and is left to `cas clean`.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Drop for Folders<'_> {
    fn drop(&mut self) {
        let ready = std::mem::take(self.ready.get_mut().unwrap_or_else(PoisonError::into_inner));
        for folder in ready {
            self.discard(folder, Vec::new(), Duration::ZERO);
        }
        self.rubbish = None;
        if let Some(remover) = self.remover.take() {
            // It cannot panic, and what it could not remove is left to `cas clean`.
            let _ = remover.join();
        }
    }
}

/// Folders of short attempts are removed together, not one by one between the steps: on file systems that look
/// for a free inode beside those that were just freed, removing while others are made slows each making down a
/// hundredfold for a minute (measured on ext4 without a journal). Long ones may have left much.
fn remove_all(to_remove: &Receiver<Rubbish>) {
    let mut waiting = Waiting::default();
    for rubbish in to_remove {
        // Asked of the file system: what a command left beside its outputs, only listing its folder would tell.
        let free = room_left(&rubbish.folder);
        waiting.take(rubbish, free);
    }
}

/// Folders that wait to be removed together. Dropped, it has removed them.
#[derive(Default)]
struct Waiting {
    folders: Vec<Rubbish>,
    /// How much was free when the first of them came.
    free: Option<u64>,
}

impl Waiting {
    /// Takes a folder to be removed, now or later; `free` is how many bytes can still be written there.
    fn take(&mut self, rubbish: Rubbish, free: Option<u64>) {
        if rubbish.took > SHORT {
            discard(&rubbish);
            return;
        }
        self.folders.push(rubbish);
        let before = *self.free.get_or_insert(free.unwrap_or(u64::MAX));
        // Whoever filled the disk: what waits here is what can go.
        let filled = free.is_none_or(|free| before.saturating_sub(free) > WAITING_BYTES);
        if filled || self.folders.len() == FOLDERS {
            self.remove();
        }
    }

    fn remove(&mut self) {
        self.folders.drain(..).for_each(|rubbish| discard(&rubbish));
        self.free = None;
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Removes the folder of an attempt. One that cannot be removed is left to `cas clean`.
fn discard(rubbish: &Rubbish) {
    let _ = folder::remove(&rubbish.folder, &rubbish.outputs);
}

/// Moves the folder of a failed attempt to where such folders are kept, and lets the oldest go.
pub(super) fn keep(folder: &Path, run: u64, step: &str) -> Option<PathBuf> {
    let kept = folder.parent()?.join("failed");
    fs::create_dir_all(&kept).ok()?;
    let target = kept.join(format!("{run}-{}", folder::safe_label(step)));
    let _ = fs::remove_dir_all(&target);
    fs::rename(folder, &target).ok()?;
    let mut all: Vec<(std::time::SystemTime, PathBuf)> = fs::read_dir(&kept)
        .ok()?
        .flatten()
        .filter(|entry| entry.path() != target)
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .collect();
    all.sort();
    let surplus = (all.len() + 1).saturating_sub(KEPT_FOLDERS);
    all.iter().take(surplus).for_each(|(_, folder)| drop(fs::remove_dir_all(folder)));
    Some(target)
}

/// How many bytes can still be written where a folder is: none where it may hold no more files.
pub(super) fn room_left(folder: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(folder).ok()?;
    let no_files = stat.f_files > 0 && stat.f_favail == 0;
    Some(if no_files { 0 } else { stat.f_bavail.saturating_mul(stat.f_frsize) })
}

/// Empties the folder of an attempt.
pub(super) fn remove_all_but(folder: &Path, name: &str) {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_name() != name) {
        if fs::remove_dir_all(entry.path()).is_err() {
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_attempts_wait_until_they_are_many_or_the_disk_fills() {
        let base = tempfile::tempdir().unwrap();
        let rubbish = |name: &str, took: Duration| {
            let folder = base.path().join(name);
            fs::create_dir_all(folder.join("step/outputs")).unwrap();
            fs::write(folder.join("step/left"), "left").unwrap();
            Rubbish { folder, outputs: Vec::new(), took }
        };
        let left = || fs::read_dir(base.path()).unwrap().count();
        let mut waiting = Waiting::default();
        let gib = 1024 * 1024 * 1024;
        waiting.take(rubbish("a", Duration::ZERO), Some(10 * gib));
        waiting.take(rubbish("b", Duration::ZERO), Some(10 * gib - 1));
        assert_eq!(left(), 2);
        // A long one goes at once, and no other with it.
        waiting.take(rubbish("c", SHORT * 2), Some(9 * gib));
        assert_eq!(left(), 2);
        waiting.take(rubbish("d", Duration::ZERO), Some(9 * gib));
        assert_eq!(left(), 0);
        // From there on it is counted anew.
        waiting.take(rubbish("e", Duration::ZERO), Some(9 * gib));
        assert_eq!(left(), 1);
        // Where nothing is known of the disk, nothing waits.
        waiting.take(rubbish("f", Duration::ZERO), None);
        assert_eq!(left(), 0);
        waiting.take(rubbish("g", Duration::ZERO), Some(gib));
        drop(waiting);
        assert_eq!(left(), 0);
    }
}
