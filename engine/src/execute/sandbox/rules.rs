//! What a confined step may read and write, and the same as a set of rules for the kernel.
//!
//! The list is that of `docs/guide/sandbox.md`. One value serves both sides: what the kernel refuses by it and what
//! is told by it cannot drift apart.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetCreated,
    RulesetCreatedAttr, RulesetError, path_beneath_rules,
};

use super::super::{Attempt, Content, GivenFile, GivenWhat, folder, program};
use super::Confinement;
use super::listing::Declared;
use crate::source::{MeasuredPath, MeasuredWhat, PathKind};

/// The system's own folders, which every step may read: programs, libraries, settings, and what the kernel says.
pub const SYSTEM: &[&str] = &[
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/etc",
    "/opt",
    "/proc",
    "/sys",
    "/dev",
    "/nix/store",
    "/gnu/store",
    "/snap",
    "/run/current-system",
    "/run/opengl-driver",
    "/run/systemd/resolve",
    "/run/resolvconf",
    "/run/nscd",
    "/var/cache/fontconfig",
];

/// Where every step may write too: devices and the kernel's switches for a process, as far as its user may.
const SYSTEM_WRITABLE: &[&str] = &["/dev", "/proc"];

/// Where the user that the system stops at nothing may write instead, beside the devices that all users may write to:
/// terminals and graphics cards. Not to disks, and not below `/proc`, where the switches of the whole system are.
const ROOT_WRITABLE: &[&str] = &["/dev/pts", "/dev/dri", "/dev/kfd"];

/// Memory that processes share under a name: files are made and removed there.
const SHARED_MEMORY: &str = "/dev/shm";

/// What belongs to a program, beside the folder `bin` that it stands in.
const BESIDE_BIN: &[&str] =
    &["bin", "sbin", "lib", "lib32", "lib64", "libexec", "share", "include", "etc", "ssl", "pyvenv.cfg"];

/// Where a declared file lies in the project, too, that may be read as well: it is hashed, and looked at again
/// afterwards. With more of them, only the copies in the step's folder are to be had.
const SOURCES: usize = 4096;

/// The rights that are handled. What an older kernel does not know of them, it does not refuse.
const KNOWN: ABI = ABI::V5;

/// What a step may use.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    /// Folders that may be read with all that is in them.
    folders: HashSet<PathBuf>,
    /// Files that may be read.
    files: HashSet<PathBuf>,
    /// Folders whose names may be read, and those of the folders in them.
    names: HashSet<PathBuf>,
    /// Folders in which everything may be done.
    own: HashSet<PathBuf>,
    /// Folders in which what is there may be written to.
    writable: HashSet<PathBuf>,
}

impl Rules {
    /// The rules for an attempt whose folder is prepared. `path` is the PATH of the step.
    pub(crate) fn of(attempt: &Attempt<'_>, confinement: &Confinement<'_>, path: &str) -> Self {
        let project = confinement.project;
        let mut rules = Self::default();
        for system in SYSTEM {
            rules.folder(Path::new(system));
        }
        rules.writable.extend(system_writable(rustix::process::geteuid().is_root()));
        rules.own.extend(fs::canonicalize(SHARED_MEMORY));
        rules.own.extend(fs::canonicalize(attempt.folder));
        for folder in attempt.path {
            rules.programs(folder, project);
        }
        for probe in &confinement.probes {
            if let Some(program) = first_word(probe).and_then(|word| found(word, path, project)) {
                rules.program(&program, project);
            }
        }
        rules.links(&folder::step(attempt.folder).join("inputs"));
        let inputs = attempt.inputs.iter().filter_map(|given| match &given.content {
            Content::Project { measured, .. } => Some(measured),
            _ => None,
        });
        let sources: usize =
            attempt.files.len() + inputs.clone().map(|path| path.files.files.len()).sum::<usize>();
        if sources <= SOURCES {
            let files = attempt.files.iter().filter(|file| matches!(file.what, GivenWhat::File { .. }));
            files.for_each(|file| rules.file(&file.from));
            // A folder of code may be listed as one that is an input may.
            for pattern in &attempt.solid.code {
                rules.code(&project.join(&pattern.text), attempt.files, confinement.store);
            }
            inputs.for_each(|measured| rules.measured(measured));
        }
        rules
    }

    /// Whether a path, as it is without links, may be read; `lists`: whether only its names are.
    pub(crate) fn may_read(&self, path: &Path, lists: bool) -> bool {
        self.files.contains(path)
            || path.ancestors().any(|above| {
                self.folders.contains(above)
                    || self.own.contains(above)
                    || (lists && self.names.contains(above))
            })
    }

    /// Whether a path may be written to.
    pub(crate) fn may_write(&self, path: &Path) -> bool {
        path.ancestors().any(|above| self.own.contains(above) || self.writable.contains(above))
    }

    /// Whether an entry may be made or removed, or be another one.
    pub(crate) fn may_change(&self, path: &Path) -> bool {
        path.ancestors().any(|above| self.own.contains(above))
    }

    /// The same for the kernel.
    pub(crate) fn for_kernel(&self) -> Result<RulesetCreated, RulesetError> {
        let read = AccessFs::from_read(KNOWN);
        let into: BitFlags<AccessFs> = AccessFs::WriteFile | AccessFs::Truncate | AccessFs::IoctlDev;
        Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(KNOWN))?
            .create()?
            .add_rules(path_beneath_rules(&self.folders, read))?
            .add_rules(path_beneath_rules(&self.files, read))?
            .add_rules(path_beneath_rules(&self.names, AccessFs::ReadDir))?
            .add_rules(path_beneath_rules(&self.writable, into))?
            .add_rules(path_beneath_rules(&self.own, AccessFs::from_all(KNOWN)))
    }

    fn folder(&mut self, path: &Path) {
        self.folders.extend(fs::canonicalize(path));
    }

    fn file(&mut self, path: &Path) {
        self.files.extend(fs::canonicalize(path));
    }

    /// A declared folder of code where it lies in the project: what of it may be listed.
    fn code(&mut self, folder: &Path, files: &[GivenFile], store: Option<&Path>) {
        let Some(whole) = fs::canonicalize(folder).ok().filter(|whole| whole.is_dir()) else { return };
        let names = files.iter().filter_map(|file| Some(file.from.strip_prefix(folder).ok()?.to_owned()));
        let store = store.and_then(|store| fs::canonicalize(store).ok());
        self.names.extend(Declared { names: names.collect(), store: store.as_deref() }.parts(&whole));
    }

    /// A `path:` input where it lies in the project, or anywhere.
    fn measured(&mut self, measured: &MeasuredPath) {
        let root = measured.files.files.first().and_then(|file| {
            let depth = Path::new(&file.path).components().count();
            file.from.ancestors().nth(depth).map(Path::to_owned)
        });
        if let (PathKind::Folder, Some(root)) = (measured.kind, root) {
            self.names.extend(fs::canonicalize(root));
        }
        let files = measured.files.files.iter();
        files
            .filter(|file| matches!(file.what, MeasuredWhat::File { .. }))
            .for_each(|file| self.file(&file.from));
    }

    /// What the links that were laid in a folder lead to.
    fn links(&mut self, folder: &Path) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => self.links(&entry.path()),
                Ok(kind) if kind.is_symlink() => match fs::canonicalize(entry.path()) {
                    Ok(target) if target.is_dir() => self.folder(&target),
                    Ok(target) => self.file(&target),
                    Err(_) => {}
                },
                _ => {}
            }
        }
    }

    /// A program, as it is named and as its links lead, with what belongs to it.
    fn program(&mut self, program: &Path, project: &Path) {
        for program in beside(program) {
            self.file(&program);
            if let Some(folder) = program.parent() {
                // Another folder may hold anything beside the program.
                if holds_programs(folder) {
                    self.programs(folder, project);
                }
            }
        }
    }

    /// A folder of programs, with what belongs to them.
    fn programs(&mut self, folder: &Path, project: &Path) {
        for part in belonging(folder, project) {
            // As it is named, too: that is how a virtual environment finds itself.
            if part.is_dir() {
                self.folder(&part);
            } else {
                self.file(&part);
            }
        }
    }
}

/// What of the system may be written to.
fn system_writable(is_root: bool) -> Vec<PathBuf> {
    let real = |paths: &[&str]| -> Vec<PathBuf> {
        paths.iter().filter_map(|path| fs::canonicalize(path).ok()).collect()
    };
    if !is_root {
        return real(SYSTEM_WRITABLE);
    }
    let mut writable = real(ROOT_WRITABLE);
    let mut folders = vec![PathBuf::from("/dev")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_dir() && folder == Path::new("/dev") {
                folders.push(entry.path());
            } else if metadata.file_type().is_char_device() && metadata.mode() & 0o002 != 0 {
                writable.push(entry.path());
            }
        }
    }
    writable
}

/// A program as it is named, and as its links lead.
pub(super) fn beside(program: &Path) -> Vec<PathBuf> {
    let mut all = vec![program.to_owned()];
    let mut last = program.to_owned();
    // Step by step, because a folder on the way may be the one that its libraries are in.
    while let Ok(target) = fs::read_link(&last) {
        let next = last.parent().unwrap_or(Path::new("/")).join(target);
        if all.contains(&next) {
            break;
        }
        all.push(next.clone());
        last = next;
    }
    all.extend(fs::canonicalize(program));
    all.dedup();
    all
}

/// Whether a folder is one of programs, by its name: `bin`, or `shims` of those who choose among several versions.
pub(super) fn holds_programs(folder: &Path) -> bool {
    folder.file_name().is_some_and(|name| name == "bin" || name == "sbin" || name == "shims")
}

/// What belongs to the programs of a folder: it, and where it is called `bin`, the folders of libraries beside it;
/// where it is called `shims`, all beside it. Beside one of the project itself stands what is to be declared.
pub(super) fn belonging(folder: &Path, project: &Path) -> Vec<PathBuf> {
    let mut parts = vec![folder.to_owned()];
    let whole = fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
    let prefix = whole.parent().filter(|prefix| holds_programs(&whole) && !project.starts_with(prefix));
    match prefix {
        Some(prefix) if whole.ends_with("shims") => parts.push(prefix.to_owned()),
        Some(prefix) => {
            parts.extend(BESIDE_BIN.iter().map(|name| prefix.join(name)).filter(|path| path.exists()));
        }
        None => {}
    }
    parts
}

/// The program that a shell line begins with.
fn first_word(line: &str) -> Option<&str> {
    let mut words = line.split_whitespace();
    let word =
        words.find(|word| !word.split_once('=').is_some_and(|(name, _)| crate::file::is_name(name)))?;
    Some(word.trim_matches(['"', '\'']))
}

/// Where a probe finds its program: it runs in the project folder.
fn found(word: &str, path: &str, project: &Path) -> Option<PathBuf> {
    program::find_program(word, path, project).ok().map(|found| project.join(found))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_word_of_a_line_is_its_program() {
        let check = |line: &str, word: Option<&str>| assert_eq!(first_word(line), word, "{line}");
        check(".venv/bin/python -VV", Some(".venv/bin/python"));
        check("LANG=C tool --version | head -1", Some("tool"));
        check("\"/opt/x\" -v", Some("/opt/x"));
        check("  ", None);
    }

    /// Whoever the system stops at nothing could write to disks, and to `/proc/sys`, under `deny` too.
    #[test]
    fn root_may_write_to_the_devices_that_all_may_write_to_and_not_to_the_system() {
        let may = |is_root: bool, path: &str| {
            let rules =
                Rules { writable: system_writable(is_root).into_iter().collect(), ..Rules::default() };
            rules.may_write(Path::new(path))
        };
        for path in ["/dev/null", "/dev/zero", "/dev/full", "/dev/urandom"] {
            assert!(may(true, path) && may(false, path), "{path}");
        }
        for path in
            ["/dev/sda", "/dev/mem", "/dev/new", "/proc/sys/kernel/core_pattern", "/proc/1/oom_score_adj"]
        {
            assert!(!may(true, path), "{path}");
            // Others are stopped by the system.
            assert!(may(false, path), "{path}");
        }
    }

    #[test]
    fn what_belongs_to_a_program_stands_beside_its_bin_but_not_in_the_project() {
        let base = tempfile::tempdir().unwrap();
        let root = base.path().canonicalize().unwrap();
        for folder in [
            "tool/bin",
            "tool/lib",
            "tool/data",
            "many/shims",
            "project/bin",
            "project/lib",
            "project/.venv/bin",
        ] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        fs::write(root.join("project/.venv/pyvenv.cfg"), "").unwrap();
        let project = root.join("project");
        let check = |folder: &str, parts: &[&str]| {
            let mut found: Vec<PathBuf> = belonging(&root.join(folder), &project);
            found.sort();
            found.dedup();
            assert_eq!(found, parts.iter().map(|part| root.join(part)).collect::<Vec<_>>(), "{folder}");
        };
        check("tool/bin", &["tool/bin", "tool/lib"]);
        check("tool/data", &["tool/data"]);
        check("many/shims", &["many", "many/shims"]);
        check("project/bin", &["project/bin"]);
        check("project/.venv/bin", &["project/.venv/bin", "project/.venv/pyvenv.cfg"]);
    }
}
