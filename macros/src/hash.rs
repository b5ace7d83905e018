//! Which bytes a version of code is made of: names and contents, in order, each with its length before it.
//!
//! Absolute paths are not in the hash, so that the same code has the same version wherever it is compiled.

use std::fs;
use std::path::{Path, PathBuf};

/// One context for all versions of code; a change of what is hashed raises the number.
const CONTEXT: &str = "cas 2026 rust code 2";

/// What shows that a folder holds what a program made and can make again: the mark of cache folders, and cargo's own
/// in a build folder that it did not make itself. A name alone shows nothing: `src/target/mod.rs` is code.
const MADE: [&str; 2] = ["CACHEDIR.TAG", ".rustc_info.json"];

/// The files of a version, being hashed.
pub(crate) struct Sources {
    hasher: blake3::Hasher,
    watched: Vec<String>,
    /// The folders that are being added, so that a link to one of them ends there.
    within: Vec<PathBuf>,
}

impl Sources {
    /// Begins with what kind of version it is.
    pub(crate) fn new(kind: &str) -> Self {
        let hasher = blake3::Hasher::new_derive_key(CONTEXT);
        let mut sources = Self { hasher, watched: Vec::new(), within: Vec::new() };
        sources.put(kind.as_bytes());
        sources
    }

    /// Adds a file or a whole folder under the name that it was given.
    pub(crate) fn add(&mut self, name: &str, path: &Path) -> Result<(), String> {
        let meta =
            fs::metadata(path).map_err(|error| format!("cannot read `{}`: {error}", path.display()))?;
        if meta.is_dir() { self.folder(name, path) } else { self.file(name, path) }
    }

    /// Adds a file.
    pub(crate) fn file(&mut self, name: &str, path: &Path) -> Result<(), String> {
        let bytes = fs::read(path).map_err(|error| format!("cannot read `{}`: {error}", path.display()))?;
        self.put(name.as_bytes());
        self.put(&bytes);
        let path =
            path.canonicalize().map_err(|error| format!("cannot read `{}`: {error}", path.display()))?;
        let text = path.to_str().ok_or_else(|| format!("`{}` is not a name in UTF-8", path.display()))?;
        self.watched.push(text.to_owned());
        Ok(())
    }

    /// Adds the files of a folder, sorted. Hidden ones, and folders of things that were made, are not code.
    fn folder(&mut self, name: &str, path: &Path) -> Result<(), String> {
        let failed = |error| format!("cannot read `{}`: {error}", path.display());
        let real = path.canonicalize().map_err(failed)?;
        if self.within.contains(&real) {
            return Ok(());
        }
        self.within.push(real);
        let mut entries = Vec::new();
        for entry in fs::read_dir(path).map_err(failed)? {
            let entry: PathBuf = entry.map_err(failed)?.path();
            let Some(file) = entry.file_name().and_then(|file| file.to_str()) else {
                return Err(format!("`{}` is not a name in UTF-8", entry.display()));
            };
            if !file.starts_with('.') {
                entries.push(file.to_owned());
            }
        }
        entries.sort_unstable();
        for file in entries {
            let entry = path.join(&file);
            // Nothing can be compiled in from a pipe, or from a link to nowhere.
            let Ok(meta) = fs::metadata(&entry) else { continue };
            if meta.is_file() {
                self.file(&format!("{name}/{file}"), &entry)?;
            } else if meta.is_dir() && !MADE.iter().any(|mark| entry.join(mark).exists()) {
                self.folder(&format!("{name}/{file}"), &entry)?;
            }
        }
        self.within.pop();
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) {
        self.hasher.update(&(bytes.len() as u64).to_le_bytes());
        self.hasher.update(bytes);
    }

    /// The version: 64 hex digits.
    pub(crate) fn version(&self) -> String {
        self.hasher.finalize().to_hex().to_string()
    }

    /// Every file that was read, absolute.
    pub(crate) fn watched(&self) -> &[String] {
        &self.watched
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(files: &[(&str, &str)]) -> String {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let mut sources = Sources::new("file");
        for (index, (name, text)) in files.iter().enumerate() {
            let path = dir.path().join(index.to_string());
            fs::write(&path, text).expect("written");
            sources.file(name, &path).expect("read");
        }
        assert_eq!(sources.watched().len(), files.len());
        sources.version()
    }

    #[test]
    fn names_and_contents_count_and_are_not_run_together() {
        let base = version(&[("a", "bc"), ("d", "e")]);
        assert_eq!(base, version(&[("a", "bc"), ("d", "e")]));
        for other in [
            vec![("ab", "c"), ("d", "e")],
            vec![("a", "bc"), ("de", "")],
            vec![("d", "e"), ("a", "bc")],
            vec![("a", "bd"), ("d", "e")],
            vec![("a", "bc")],
        ] {
            assert_ne!(base, version(&other), "{other:?}");
        }
    }

    #[test]
    fn a_folder_is_its_files_in_order_without_hidden_ones() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        fs::create_dir(dir.path().join("sub")).expect("made");
        for (name, text) in [("b.rs", "1"), ("a.rs", "2"), ("sub/c.rs", "3"), (".swp", "4")] {
            fs::write(dir.path().join(name), text).expect("written");
        }
        let mut sources = Sources::new("file");
        sources.add("src", dir.path()).expect("read");
        let names: Vec<&str> =
            sources.watched().iter().map(|path| path.rsplit('/').next().expect("a name")).collect();
        assert_eq!(names, ["a.rs", "b.rs", "c.rs"]);
        let before = sources.version();
        fs::write(dir.path().join("sub/c.rs"), "changed").expect("written");
        let mut sources = Sources::new("file");
        sources.add("src", dir.path()).expect("read");
        assert_ne!(before, sources.version());
    }

    /// A module in `src/target/` was compiled and not hashed, because cargo's folder has that name too.
    #[test]
    fn a_build_folder_is_known_by_its_marks_and_not_by_its_name() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        for folder in ["src/target", "target", "build", "assets"] {
            fs::create_dir_all(dir.path().join(folder)).expect("made");
        }
        for (name, text) in [
            ("src/lib.rs", "mod target;"),
            ("src/target/mod.rs", "1"),
            ("assets/x.sql", "2"),
            ("target/CACHEDIR.TAG", "Signature: 8a477f597d28d172789f06886806bc55"),
            ("target/made", "3"),
            ("build/.rustc_info.json", "{}"),
            ("build/made", "4"),
        ] {
            fs::write(dir.path().join(name), text).expect("written");
        }
        // A link to a folder above ends where it began.
        std::os::unix::fs::symlink("../..", dir.path().join("src/target/up")).expect("linked");
        let version = || {
            let mut sources = Sources::new("crate");
            sources.add("", dir.path()).expect("read");
            sources.version()
        };
        let before = version();
        fs::write(dir.path().join("target/made"), "changed").expect("written");
        fs::write(dir.path().join("build/made"), "changed").expect("written");
        assert_eq!(version(), before);
        fs::write(dir.path().join("src/target/mod.rs"), "changed").expect("written");
        let module = version();
        assert_ne!(module, before);
        fs::write(dir.path().join("assets/x.sql"), "changed").expect("written");
        assert_ne!(version(), module);
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = Sources::new("file").add("x.rs", Path::new("/nowhere/x.rs")).expect_err("not there");
        assert!(error.contains("cannot read `/nowhere/x.rs`"), "{error}");
    }
}
