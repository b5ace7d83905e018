//! What globs and folders leave out: the store and `.git` always; for code and resource files also dot names,
//! `__pycache__`, `*.pyc`, editor backups, and what `.gitignore` and `.casignore` exclude.
//!
//! Ignore files are read from the folder of the repository (the nearest one upwards that holds `.git`), else
//! from the project folder, down to where something is looked for. `.casignore` wins over `.gitignore`; within
//! each kind a deeper file wins over a higher one, and a later line over an earlier one. What a user's own git
//! settings exclude is not looked at: it would give two people two versions.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};
use rustix::fs::OFlags;

use super::looked::Seen;

/// The names of ignore files, the one that wins first.
const FILES: [&str; 2] = [".casignore", ".gitignore"];

/// What is left out of a declaration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leave {
    /// Of code and resource files: everything that a person would not call code.
    Clutter,
    /// Of `path:` inputs: nothing but the store and `.git`.
    Nothing,
}

/// The ignore files of a folder and of those above it.
#[derive(Debug, Default)]
pub(super) struct Rules {
    above: Option<Arc<Rules>>,
    /// In the order of [`FILES`].
    files: [Option<Gitignore>; 2],
}

impl Rules {
    /// Whether something in the folder of these rules (or below, where no folder between has rules of its own)
    /// is excluded.
    pub(super) fn exclude(&self, path: &Path, folder: bool) -> bool {
        for kind in 0..FILES.len() {
            let mut rules = Some(self);
            while let Some(here) = rules {
                match here.files[kind].as_ref().map(|file| file.matched(path, folder)) {
                    Some(Match::Ignore(_)) => return true,
                    Some(Match::Whitelist(_)) => return false,
                    Some(Match::None) | None => rules = here.above.as_deref(),
                }
            }
        }
        false
    }
}

/// Reads ignore files, each once.
#[derive(Debug)]
pub(super) struct RulesReader {
    top: PathBuf,
    known: HashMap<PathBuf, Arc<Rules>>,
    /// By folder: its ignore files, as they were before they were read.
    read: HashMap<PathBuf, [Seen; 2]>,
}

impl RulesReader {
    pub(super) fn new(project: &Path) -> Self {
        let repository = project.ancestors().find(|folder| folder.join(".git").exists());
        Self { top: repository.unwrap_or(project).to_owned(), known: HashMap::new(), read: HashMap::new() }
    }

    /// The rules for what stands in this folder.
    pub(super) fn of(&mut self, folder: &Path) -> Arc<Rules> {
        if let Some(rules) = self.known.get(folder) {
            return Arc::clone(rules);
        }
        let inside = folder != self.top && folder.starts_with(&self.top);
        let above = folder.parent().filter(|_| inside).map(|parent| self.of(parent));
        let files = if folder.starts_with(&self.top) {
            self.read.insert(folder.to_owned(), FILES.map(|name| Seen::at(&folder.join(name))));
            FILES.map(|name| read(folder, name))
        } else {
            // Somewhere else, where a declared link led: nobody's rules hold there.
            [None, None]
        };
        let rules = match above {
            // Most folders have none of their own.
            Some(above) if files.iter().all(Option::is_none) => above,
            above => Arc::new(Rules { above, files }),
        };
        self.known.insert(folder.to_owned(), Arc::clone(&rules));
        rules
    }

    /// The ignore files that say what is left out in these folders, whether there or not, as they were before they were read.
    pub(super) fn read_for(&self, folders: &[PathBuf]) -> Vec<Seen> {
        let mut passed = HashSet::new();
        let mut seen = Vec::new();
        for folder in folders {
            // Above one that was passed, all were.
            let anew = folder.ancestors().take_while(|above| passed.insert(above.to_path_buf()));
            seen.extend(anew.filter_map(|above| self.read.get(above)).flatten().cloned());
        }
        seen
    }
}

/// Reads one ignore file. A line that git would not understand excludes nothing, as with git, and so does what is no file:
/// a pipe would be waited for.
fn read(folder: &Path, name: &str) -> Option<Gitignore> {
    let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
    let mut file = File::options().read(true).custom_flags(nonblocking).open(folder.join(name)).ok()?;
    let is_file = file.metadata().is_ok_and(|about| about.is_file());
    let mut text = Vec::new();
    is_file.then(|| file.read_to_end(&mut text))?.ok()?;
    let mut builder = GitignoreBuilder::new(folder);
    for line in String::from_utf8_lossy(&text).lines() {
        let _ = builder.add_line(None, line);
    }
    builder.build().ok().filter(|rules| !rules.is_empty())
}

/// Whether a name says by itself that it is left out of folders of code.
pub(crate) fn is_no_code_by_name(name: &str) -> bool {
    name.starts_with('.') || is_clutter(name)
}

/// Whether nobody would call a name code: what interpreters and editors leave beside it.
pub(super) fn is_clutter(name: &str) -> bool {
    name == "__pycache__"
        || name.ends_with(".pyc")
        || name.ends_with('~')
        || name.ends_with(".swp")
        || name.ends_with(".swo")
        || (name.len() > 1 && name.starts_with('#') && name.ends_with('#'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clutter_is_what_interpreters_and_editors_leave() {
        for name in ["__pycache__", "a.pyc", "a.py~", "a.py.swp", ".a.swo", "#a.py#"] {
            assert!(is_clutter(name), "{name}");
        }
        for name in ["a.py", "pycache", "#", "a#", "swp", "Makefile"] {
            assert!(!is_clutter(name), "{name}");
        }
    }

    #[test]
    fn a_deeper_file_wins_and_casignore_wins_over_gitignore() {
        let folder = tempfile::tempdir().unwrap();
        let project = folder.path().join("project");
        let sub = project.join("sub");
        std::fs::create_dir_all(&sub).unwrap();
        std::fs::create_dir(folder.path().join(".git")).unwrap();
        let write = |at: &Path, name: &str, text: &str| std::fs::write(at.join(name), text).unwrap();
        write(folder.path(), ".gitignore", "*.log\nbuild/\n*.tmp\n");
        write(&sub, ".gitignore", "!keep.log\n");
        write(&project, ".casignore", "!a.tmp\nnotes.md\n");
        let mut reader = RulesReader::new(&project);
        let mut check = |at: &Path, name: &str, dir: bool, excluded: bool| {
            let rules = reader.of(at);
            assert_eq!(rules.exclude(&at.join(name), dir), excluded, "{name}");
        };
        check(&project, "x.log", false, true);
        check(&sub, "x.log", false, true);
        check(&sub, "keep.log", false, false);
        check(&project, "build", true, true);
        check(&project, "build", false, false);
        check(&sub, "a.tmp", false, false);
        check(&sub, "b.tmp", false, true);
        check(&sub, "notes.md", false, true);
    }
}
