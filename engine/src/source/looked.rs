//! Whether a declared folder or glob still finds what it found when it was measured: a file that is added or taken away
//! while a step runs is a change like an edit.
//!
//! The folders that were listed are remembered with their stats. While these say that nothing was added, removed or
//! renamed, nothing is listed again; else the declaration is resolved anew and compared by names, and no content is read.
//! Invariant: a stat says so only if it is older than the listing by what the cache of digests asks for too, because what
//! happens within the grain of a file system's clock leaves the same time.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::hash::stat_of;
use super::search::{Search, Sought};
use super::stat_cache::{file_clock_ns, lies_on_trusted, settled};
use super::walk::Found;
use super::{FileChange, Stat};

/// A folder as it was when it was listed.
#[derive(Debug, Clone)]
pub(super) struct Folder {
    path: PathBuf,
    /// `None` where it may have changed in the moment in which it was listed.
    stat: Option<Stat>,
}

impl Folder {
    /// Looks at a folder that is about to be listed.
    pub(super) fn at(path: &Path) -> Self {
        let now = file_clock_ns();
        let older = |stat: &Stat| settled(stat, now) && lies_on_trusted(path);
        let stat = path.metadata().ok().map(|metadata| stat_of(&metadata)).filter(older);
        Self { path: path.to_owned(), stat }
    }

    fn is_same(&self) -> bool {
        self.stat.is_some() && self.path.metadata().ok().map(|metadata| stat_of(&metadata)) == self.stat
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
    folders: Mutex<Vec<Folder>>,
}

impl Looked {
    pub(super) fn new(
        sought: Sought,
        project: &Path,
        store: Option<&Path>,
        base: String,
        found: Vec<Found>,
        folders: Vec<Folder>,
    ) -> Self {
        let (project, store) = (project.to_owned(), store.map(Path::to_owned));
        Self { sought, project, store, base, found, folders: Mutex::new(folders) }
    }

    /// What it finds now that it did not, or the other way round.
    pub(super) fn changed(&self) -> Option<FileChange> {
        let mut folders = self.folders.lock().unwrap_or_else(PoisonError::into_inner);
        if folders.iter().all(Folder::is_same) {
            return None;
        }
        let mut search = Search::new(&self.project, self.store.as_deref());
        let Ok((_, _, found)) = search.find(&self.sought) else {
            // It leads nowhere, or to what cannot be given to a step.
            return Some(FileChange { path: self.sought.text.clone(), how: "changed" });
        };
        if found == self.found {
            *folders = search.folders();
            return None;
        }
        let named = |found: &Found| match self.base.as_str() {
            "" => found.path.clone(),
            base => format!("{}/{}", base.trim_end_matches('/'), found.path),
        };
        let new = found.iter().find(|now| !self.found.iter().any(|was| was.path == now.path));
        let gone = || self.found.iter().find(|was| !found.iter().any(|now| now.path == was.path));
        Some(match new {
            Some(new) => FileChange { path: named(new), how: "was added" },
            None => match gone() {
                Some(gone) => FileChange { path: named(gone), how: "was removed" },
                None => FileChange { path: self.sought.text.clone(), how: "changed" },
            },
        })
    }
}

/// Of two, whether they looked for the same and found the same.
impl PartialEq for Looked {
    fn eq(&self, other: &Self) -> bool {
        (&self.sought, &self.found) == (&other.sought, &other.found)
    }
}

impl Eq for Looked {}
