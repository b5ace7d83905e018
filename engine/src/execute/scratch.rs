//! `scratch`: folders of a step that are there again at its next attempt on this machine.
//!
//! ```text
//! <scratch folder of the store>/
//!   dirs/<path, made safe>    a scratch folder between two attempts
//!   laid                      what was laid in the step's folder last: path, digest and time of each file
//!   at                        the step's folder that they were moved into, while an attempt has them
//! ```
//!
//! They are moved into the step's folder and back, not linked: `..` in them is the step's folder, as `cmake ..` in a build
//! folder expects. Who was killed in between leaves `at`, and whoever comes next fetches them from there; until the last
//! process of that attempt is gone it holds the lock, and the folders are nobody else's.
//!
//! Tools that keep what they built look at the times of files. Everything given has one fixed time, so that a changed
//! file would look older than what was built of it. A step with scratch folders is therefore given copies, whose time is
//! that of the first attempt that was given this content: now for what changed, and the time of before for what did not.
//!
//! An output that lies in a scratch folder is removed before the attempt: what is stored was made by it. None holds one:
//! the check of the pipeline sees to that.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::fd::BorrowedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use cas_store::Digest;
use serde::{Deserialize, Serialize};

use super::folder::{self, safe_label};
use crate::solid::{OutputDecl, ScratchFolder};

/// The scratch folders of one attempt. Given back when it is dropped.
#[derive(Debug)]
pub struct Scratch {
    store: cas_store::Scratch,
    /// Their paths in the step's folder.
    paths: Vec<String>,
    /// The step's folder.
    step: PathBuf,
}

/// A file as it was laid: its content and mode, and its time in nanoseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Laid {
    digest: String,
    at_ns: u64,
}

impl Scratch {
    /// Takes them for the attempt of this folder. What an attempt that was killed left in its folder is fetched from
    /// there.
    pub(crate) fn take(
        store: cas_store::Scratch,
        folders: &[ScratchFolder],
        attempt: &Path,
    ) -> io::Result<Self> {
        let paths = folders.iter().map(|folder| folder.at.clone()).collect();
        let scratch = Self { store, paths, step: folder::step(attempt) };
        match fs::read(scratch.at()) {
            Ok(left) => {
                let left = String::from_utf8_lossy(&left).into_owned();
                scratch.fetch(Path::new(&left))?;
                fs::remove_file(scratch.at())?;
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        Ok(scratch)
    }

    /// Their paths in the step's folder.
    pub(crate) fn paths(&self) -> &[String] {
        &self.paths
    }

    /// What holds them: the processes of the step inherit it.
    pub(crate) fn lock(&self) -> BorrowedFd<'_> {
        self.store.lock()
    }

    /// Moves them into the step's folder, which is prepared, and gives the files in it the times that their contents
    /// have.
    pub(crate) fn bring(&self, outputs: &[OutputDecl]) -> io::Result<()> {
        self.date_files()?;
        fs::create_dir_all(self.dirs())?;
        // Before the first of them moves: whoever comes after a kill looks there.
        fs::write(self.at(), self.step.as_os_str().as_encoded_bytes())?;
        for path in &self.paths {
            let place = self.step.join(path);
            match fs::rename(self.dir(path), &place) {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                other => other?,
            }
            // However it is written: `./target/app` lies in `target`.
            for at in outputs.iter().map(|output| plain(&output.at)).filter(|at| at.starts_with(path)) {
                remove(&self.step.join(at))?;
            }
        }
        Ok(())
    }

    /// Moves what is there in a step's folder to between the attempts. What is no folder any more is no scratch folder.
    fn fetch(&self, step: &Path) -> io::Result<()> {
        for path in &self.paths {
            let (place, dir) = (step.join(path), self.dir(path));
            // A link in its place, or on the way, is the step's own doing, and leads anywhere.
            let inside = place.canonicalize().ok().zip(step.canonicalize().ok());
            let real = inside.is_some_and(|(place, step)| place == step.join(path));
            if real && place.is_dir() && fs::symlink_metadata(&dir).is_err() {
                fs::rename(place, dir)?;
            }
        }
        Ok(())
    }

    fn dirs(&self) -> PathBuf {
        self.store.path().join("dirs")
    }

    fn dir(&self, path: &str) -> PathBuf {
        self.dirs().join(safe_label(path))
    }

    fn at(&self) -> PathBuf {
        self.store.path().join("at")
    }

    /// Gives each file the time at which its content was laid first.
    fn date_files(&self) -> io::Result<()> {
        let record = self.store.path().join("laid");
        // What cannot be read says nothing: then all is new.
        let before: BTreeMap<String, Laid> =
            fs::read(&record).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        // By the clock of the file system, which lags behind ours: what is built of these files is not to look older.
        let new = self.store.path().join("laid.new");
        fs::write(&new, b"")?;
        let now = fs::metadata(&new)?.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
        let now_ns = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let mut laid = BTreeMap::new();
        let mut open = vec![self.step.clone()];
        while let Some(dir) = open.pop() {
            for entry in fs::read_dir(&dir)? {
                let path = entry?.path();
                let metadata = fs::symlink_metadata(&path)?;
                if metadata.is_dir() {
                    open.push(path);
                } else if metadata.is_file() {
                    let mut file = File::open(&path)?;
                    let digest = Digest::of_reader(&mut file)?;
                    let digest = format!("{digest} {:o}", metadata.permissions().mode() & 0o777);
                    let name = path.strip_prefix(&self.step).unwrap_or(&path).to_string_lossy().into_owned();
                    let at_ns = match before.get(&name) {
                        Some(known) if known.digest == digest => known.at_ns,
                        _ => now_ns,
                    };
                    let time = UNIX_EPOCH + Duration::from_nanos(at_ns);
                    file.set_times(fs::FileTimes::new().set_accessed(time).set_modified(time))?;
                    laid.insert(name, Laid { digest, at_ns });
                }
            }
        }
        // By renaming: a half of it would be read as nothing, but a moment without it is not needed.
        fs::write(&new, serde_json::to_vec(&laid).map_err(io::Error::other)?)?;
        fs::rename(new, record)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be moved back stays where `at` says, for whoever comes next, or goes with the attempt's folder.
        if self.fetch(&self.step).is_ok() {
            let _ = fs::remove_file(self.at());
        }
    }
}

/// A path in the step's folder without the parts that say nothing.
fn plain(at: &str) -> PathBuf {
    Path::new(at).components().filter(|part| matches!(part, Component::Normal(_))).collect()
}

fn remove(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
