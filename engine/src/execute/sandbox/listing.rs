//! Which declared folders of code a step may read the names of: those in which each name is declared, or is one that says by
//! itself that it is no code.
//!
//! What `.gitignore` or `.casignore` leaves out is in no version, and neither is its name: a step that lists a folder with it
//! would be given a stale result when it is gone. Names with a dot, and those that interpreters and editors leave, come and go
//! beside any code: who had to declare them could list nothing. Looks at folders; opens no file.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::source;

/// What one folder is held against.
pub(super) struct Declared<'a> {
    /// The files, links and empty folders that are declared in it, relative to it.
    pub(super) names: BTreeSet<PathBuf>,
    /// The store's folder without links: it is left out wherever it is.
    pub(super) store: Option<&'a Path>,
}

impl Declared<'_> {
    /// The parts of a folder (without links) that may be listed with all that is in them, as few as that can be said with:
    /// the folder itself, if it may be.
    pub(super) fn parts(&self, folder: &Path) -> Vec<PathBuf> {
        let mut parts = Vec::new();
        if self.is_whole(folder, Path::new(""), &mut parts) {
            return vec![folder.to_owned()];
        }
        parts
    }

    /// Whether all names in a folder and below are declared. Where they are not, adds the parts of it in which they are.
    fn is_whole(&self, folder: &Path, inside: &Path, parts: &mut Vec<PathBuf>) -> bool {
        let Ok(entries) = folder.join(inside).read_dir() else { return false };
        let mut whole = true;
        let mut below = Vec::new();
        for entry in entries {
            let Ok((name, kind)) = entry.and_then(|entry| Ok((entry.file_name(), entry.file_type()?))) else {
                whole = false;
                continue;
            };
            let path = inside.join(&name);
            let full = folder.join(&path);
            if self.names.contains(&path) && !kind.is_dir() {
                continue;
            }
            // One of which nothing is declared has a name that nobody declared, whatever is in it.
            if kind.is_dir() && self.holds(&path) {
                if self.is_whole(folder, &path, parts) {
                    below.push(full);
                } else {
                    whole = false;
                }
            } else if self.store != Some(&full) && !source::is_no_code_by_name(&name.to_string_lossy()) {
                whole = false;
            }
        }
        if !whole {
            parts.append(&mut below);
        }
        whole
    }

    /// Whether a folder is declared, or something in it.
    fn holds(&self, folder: &Path) -> bool {
        let next = self.names.range(folder.to_owned()..).next();
        next.is_some_and(|path| path.starts_with(folder))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_folder_may_be_listed_where_each_of_its_names_is_declared_or_tells_that_it_is_no_code() {
        let base = tempfile::tempdir().unwrap();
        let root = base.path().canonicalize().unwrap();
        let check = |there: &[&str], declared: &[&str], expected: &[&str]| {
            let folder = root.join("lib");
            fs::create_dir_all(&folder).unwrap();
            for path in there {
                let path = folder.join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                if path.extension().is_some() {
                    fs::write(path, "").unwrap();
                } else {
                    fs::create_dir_all(path).unwrap();
                }
            }
            let names = declared.iter().map(PathBuf::from).collect();
            let mut parts = Declared { names, store: Some(&folder.join("store")) }.parts(&folder);
            parts.sort();
            let expected: Vec<PathBuf> = expected.iter().map(|part| root.join(part)).collect();
            assert_eq!(parts, expected, "{there:?} {declared:?}");
            fs::remove_dir_all(&folder).unwrap();
        };
        check(&["a.py", "b/c.py"], &["a.py", "b/c.py"], &["lib"]);
        check(&["a.py", "b/c.py", "b/d/e.py"], &["b/c.py", "b/d/e.py"], &["lib/b"]);
        check(&["a.py", "b/c.py", "b/d.log", "b/e/f.py"], &["a.py", "b/c.py", "b/e/f.py"], &["lib/b/e"]);
        // A folder of which nothing is declared is a name that nobody declared.
        check(&["a.py", "build/x.o"], &["a.py"], &[]);
        check(&["a.py", "empty"], &["a.py"], &[]);
        check(&["a.py", "empty"], &["a.py", "empty"], &["lib"]);
        // One that was empty when it was declared.
        check(&["a.py", "empty/x.log"], &["a.py", "empty"], &[]);
        check(
            &["a.py", "a.py~", ".git/x.y", ".env.x", "__pycache__/a.pyc", "store/x.y"],
            &["a.py"],
            &["lib"],
        );
    }
}
