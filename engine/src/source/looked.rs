//! Whether a declared folder or glob still finds what it found when it was measured: a file that is added or taken away
//! while a step runs is a change like an edit.
//!
//! The folders that were listed and the ignore files that were read are remembered with their stats. While these say that
//! nothing was added, removed or renamed, and nothing else left out, nothing is listed again; else the declaration is
//! resolved anew and compared by names, and no content of what it finds is read.
//! Invariant: a stat says so only if it is older than the listing by what the cache of digests asks for too, because what
//! happens within the grain of a file system's clock leaves the same time.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::hash::stat_of;
use super::search::{Search, Sought};
use super::stat_cache::{file_clock_ns, lies_on_trusted, settled};
use super::walk::{Found, FoundWhat};
use super::{FileChange, Stat};

/// What became of something that lies where it did, and is excluded by an ignore file since.
pub(crate) const IGNORED: &str = "began to be ignored";

/// What became of something that was excluded by an ignore file, and is not since.
pub(crate) const SHOWN: &str = "ceased to be ignored";

/// A folder as it was when it was listed, or an ignore file as it was when it was read.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    path: PathBuf,
    was: Was,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Was {
    There(Stat),
    NotThere,
    /// It may have changed in the moment in which it was looked at; how it was in that.
    Unsure(Option<Stat>),
}

impl Seen {
    /// Looks at a folder that is about to be listed, or at an ignore file that is about to be read.
    pub(super) fn at(path: &Path) -> Self {
        let now = file_clock_ns();
        let was = match was(path) {
            Was::There(stat) if !settled(&stat, now) || !lies_on_trusted(path) => Was::Unsure(Some(stat)),
            was => was,
        };
        Self { path: path.to_owned(), was }
    }

    fn is_same(&self) -> bool {
        !matches!(self.was, Was::Unsure(_)) && was(&self.path) == self.was
    }
}

fn was(path: &Path) -> Was {
    match path.metadata() {
        Ok(metadata) => Was::There(stat_of(&metadata)),
        Err(error) if error.kind() == ErrorKind::NotFound => Was::NotThere,
        Err(_) => Was::Unsure(None),
    }
}

/// What a folder or glob found.
#[derive(Debug)]
pub struct Looked {
    sought: Sought,
    project: PathBuf,
    store: Option<PathBuf>,
    /// Its fixed part, as it is written.
    base: String,
    found: Vec<Found>,
    seen: Mutex<Vec<Seen>>,
}

impl Looked {
    pub(super) fn new(
        sought: Sought,
        project: &Path,
        store: Option<&Path>,
        base: String,
        found: Vec<Found>,
        seen: Vec<Seen>,
    ) -> Self {
        let (project, store) = (project.to_owned(), store.map(Path::to_owned));
        Self { sought, project, store, base, found, seen: Mutex::new(seen) }
    }

    /// What it finds now that it did not, or the other way round.
    pub(super) fn changed(&self) -> Option<FileChange> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.iter().all(Seen::is_same) {
            return None;
        }
        let mut search = Search::new(&self.project, self.store.as_deref());
        let Ok((_, _, found)) = search.find(&self.sought) else {
            // It leads nowhere, or to what cannot be given to a step.
            return Some(FileChange { path: self.sought.text.clone(), how: "changed" });
        };
        if found == self.found {
            *seen = search.seen(self.sought.leave);
            return None;
        }
        let named = |found: &Found| match self.base.as_str() {
            "" => found.path.clone(),
            base => format!("{}/{}", base.trim_end_matches('/'), found.path),
        };
        let new = found.iter().find(|now| !self.found.iter().any(|was| was.path == now.path));
        let gone = || self.found.iter().find(|was| !found.iter().any(|now| now.path == was.path));
        Some(match new {
            Some(new) if self.was_there(new, &seen) => FileChange { path: named(new), how: SHOWN },
            Some(new) => FileChange { path: named(new), how: "was added" },
            None => match gone() {
                Some(gone) if self.is_there(gone) => FileChange { path: named(gone), how: IGNORED },
                Some(gone) => FileChange { path: named(gone), how: "was removed" },
                None => FileChange { path: self.sought.text.clone(), how: "changed" },
            },
        })
    }

    /// Where something lies that was found.
    fn place(&self, found: &Found) -> PathBuf {
        self.project.join(&self.base).join(&found.path)
    }

    /// Whether something that is not found any longer is where it was: then it is left out.
    fn is_there(&self, found: &Found) -> bool {
        let there = self.place(found).symlink_metadata();
        there.is_ok_and(|there| match found.what {
            FoundWhat::File => there.is_file() || there.is_symlink(),
            FoundWhat::Link(_) => there.is_symlink(),
            FoundWhat::Folder => false,
        })
    }

    /// Whether something that is found now was there before, left out: nothing was added to or taken from the folder above
    /// it that was listed then, or it has not changed in any way since the last thing that had been. These are words for
    /// people: what happened in the moment of the listing is not asked.
    fn was_there(&self, found: &Found, seen: &[Seen]) -> bool {
        let place = self.place(found);
        let Some(listed) =
            place.ancestors().skip(1).find_map(|above| seen.iter().find(|seen| seen.path == above))
        else {
            return false;
        };
        let (Was::There(then) | Was::Unsure(Some(then))) = &listed.was else { return false };
        let untouched = || place.symlink_metadata().is_ok_and(|now| stat_of(&now).ctime_ns <= then.mtime_ns);
        was(&listed.path) == Was::There(*then) || untouched()
    }
}

/// Of two, whether they looked for the same and found the same.
impl PartialEq for Looked {
    fn eq(&self, other: &Self) -> bool {
        (&self.sought, &self.found) == (&other.sought, &other.found)
    }
}

impl Eq for Looked {}
