//! The clean folder of a command: what lies where in it, and how it gets there.
//!
//! ```text
//! <attempt>/                  the attempt's own folder
//!   step/                     the current folder of the command
//!     config.json             the resolved config, canonical
//!     inputs/<name><ext>      one input, a file or folder
//!     inputs/<name>/0, 1, …   a fan-in
//!     inputs/<name>/<label><ext>, inputs/<name>.json   a gather
//!     outputs/                empty
//!     …                       declared code and resource files, at their relative paths
//!   home/  tmp/               HOME and TMPDIR, empty
//!   log                       what it printed, if anything
//!   line                      a shell line that is too long to be an argument
//!   run.sh                    written when the attempt fails: repeats it
//! ```
//!
//! Code is copied (reflinked), never linked: interpreters follow links, and would find what nobody declared.
//! Everything that is given has one fixed modification time; only what is external keeps its own. The store's
//! files are placed by `memo.rs`, at the paths that the functions here name; the rest is placed here.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

use cas_store::{Digest, StoreError};
use rustix::fs::{
    AtFlags, CWD, Mode, OFlags, Timespec, Timestamps, fchmod, futimens, ioctl_ficlone, openat, unlinkat,
    utimensat,
};

use super::{Attempt, Cause, Content, Failure, GivenWhat};
use crate::solid::OutputDecl;
use crate::source::{MeasuredPath, MeasuredWhat, PathKind};

/// Below this many bytes a reflink saves nothing: a file is read and written in one call each.
const SMALL: u64 = 64 * 1024;

/// Where a command runs.
pub fn step(folder: &Path) -> PathBuf {
    folder.join("step")
}

/// Its HOME.
pub(crate) fn home(folder: &Path) -> PathBuf {
    folder.join("home")
}

/// Its TMPDIR.
pub(crate) fn tmp(folder: &Path) -> PathBuf {
    folder.join("tmp")
}

/// Where an input lies, absolute; `file_name` is its name as a file.
pub fn input(folder: &Path, file_name: &str) -> PathBuf {
    step(folder).join("inputs").join(file_name)
}

/// Where one part of a fan-in lies, absolute.
pub fn fan_in(folder: &Path, name: &str, index: usize) -> PathBuf {
    input(folder, name).join(index.to_string())
}

/// Where one part of a gather lies, absolute; `extension` begins with its dot, or is empty.
pub fn gathered(folder: &Path, name: &str, label: &str, extension: &str) -> PathBuf {
    input(folder, name).join(safe_label(label) + extension)
}

/// The extension of an input, with its dot: what its file name has after its name.
pub fn extension<'a>(name: &str, file_name: &'a str) -> &'a str {
    file_name.strip_prefix(name).unwrap_or_default()
}

/// How many bytes of a label stand in a file name before it is cut.
const LABEL_LIMIT: usize = 180; // a name may have 255 bytes, and an extension follows

/// The label of the work folder that says of a step, by its own label, that it may be attempted again.
pub fn retry_label(label: &str) -> String {
    format!("retried-{label}")
}

/// Whether a folder says so still: the process that made it lives, and has not done with the step.
pub fn is_retried(folder: &Path) -> bool {
    let lock = fs::File::open(folder.join(RETRIED));
    lock.is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(fs::TryLockError::WouldBlock)))
}

/// Makes a folder say so until what this gives is dropped.
pub(crate) fn hold_retried(folder: &Path) -> io::Result<fs::File> {
    let lock = fs::File::create_new(folder.join(RETRIED))?;
    lock.try_lock()?;
    Ok(lock)
}

/// What is locked in it.
const RETRIED: &str = "lock";

/// A label as a file name; different labels give different names. `/`, `%` and control characters become `%`
/// and two hex digits, as does a dot at the beginning; the empty label is `%`. One of more than 180 bytes is
/// cut, and `%~` and 16 digits of its hash follow.
pub fn safe_label(label: &str) -> String {
    if label.is_empty() {
        return "%".to_owned();
    }
    let mut name = String::with_capacity(label.len());
    for (at, char) in label.char_indices() {
        if matches!(char, '/' | '%') || char.is_ascii_control() || (char == '.' && at == 0) {
            name.push_str(&format!("%{:02X}", u32::from(char)));
        } else {
            name.push(char);
        }
    }
    if name.len() > LABEL_LIMIT {
        let mut end = LABEL_LIMIT - 40;
        while !name.is_char_boundary(end) {
            end -= 1;
        }
        name.truncate(end);
        name.push_str("%~");
        name.push_str(&Digest::of(label.as_bytes()).to_hex()[..16]);
    }
    name
}

/// Lays out a `path:` input: a file, or a folder with what was measured of it, read-only and with the fixed
/// modification time. An external one is linked. `at` must not exist; its parent must.
///
/// # Errors
/// Something could not be read or written; a source that is gone is [`io::ErrorKind::NotFound`].
pub fn lay_path(measured: &MeasuredPath, external: bool, at: &Path) -> Result<(), Unlaid> {
    if let PathKind::File { .. } = measured.kind {
        for file in &measured.files.files {
            lay_measured(&file.from, &file.what, external, at)?;
        }
        return Ok(());
    }
    let mut folders = Folders::default();
    folders.make(at, Path::new(""))?;
    for file in &measured.files.files {
        folders.make_parents(at, &file.path)?;
        if file.what == MeasuredWhat::Folder {
            folders.make(at, Path::new(&file.path))?;
        } else {
            lay_measured(&file.from, &file.what, external, &at.join(&file.path))?;
        }
    }
    // A step may write beside what it was given, as it may anywhere in its folder; so folders stay writable.
    folders.finish(at)
}

fn lay_measured(from: &Path, what: &MeasuredWhat, external: bool, at: &Path) -> Result<(), Unlaid> {
    match what {
        MeasuredWhat::File { .. } if external => symlink(from, at).map_err(|error| Unlaid::new(at, error)),
        MeasuredWhat::File { executable, .. } => copy(from, at, if *executable { 0o555 } else { 0o444 }),
        MeasuredWhat::Link(target) => link(target, at),
        MeasuredWhat::Folder => Ok(()),
    }
}

/// Something that could not be laid in a folder.
#[derive(Debug, thiserror::Error)]
#[error("cannot lay out `{}`", path.display())]
pub struct Unlaid {
    /// What it was about: a source, or a place in the folder.
    pub path: PathBuf,
    /// What the operating system said.
    #[source]
    pub source: io::Error,
}

impl Unlaid {
    fn new(path: &Path, source: impl Into<io::Error>) -> Self {
        Self { path: path.to_owned(), source: source.into() }
    }
}

/// The folders that were made, so that each is made, and given its time, once.
#[derive(Default)]
struct Folders {
    made: BTreeSet<PathBuf>,
}

impl Folders {
    /// Makes the folders between `root` and a file below it.
    fn make_parents(&mut self, root: &Path, path: &str) -> Result<(), Unlaid> {
        match Path::new(path).parent() {
            Some(parent) if parent != Path::new("") => self.make(root, parent),
            _ => Ok(()),
        }
    }

    /// Makes a folder below `root` (or, where it is empty, that) and those above it. It may be there already.
    fn make(&mut self, root: &Path, path: &Path) -> Result<(), Unlaid> {
        if self.made.contains(path) {
            return Ok(());
        }
        if let Some(parent) = path.parent().filter(|parent| *parent != Path::new("")) {
            self.make(root, parent)?;
        }
        make_folder(&root.join(path))?;
        self.made.insert(path.to_owned());
        Ok(())
    }

    /// Gives all of them the fixed time, now that nothing more is laid in them.
    fn finish(&self, root: &Path) -> Result<(), Unlaid> {
        for folder in &self.made {
            let path = root.join(folder);
            utimensat(CWD, &path, &fixed_time(), AtFlags::empty())
                .map_err(|error| Unlaid::new(&path, error))?;
        }
        Ok(())
    }
}

/// Gives a folder the time that everything given has.
pub(crate) fn date(folder: &Path) -> io::Result<()> {
    Ok(utimensat(CWD, folder, &fixed_time(), AtFlags::empty())?)
}

/// Makes a folder, which may be there already.
fn make_folder(path: &Path) -> Result<(), Unlaid> {
    match rustix::fs::mkdir(path, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
        Err(error) => Err(Unlaid::new(path, error)),
    }
}

/// The times of everything that a step is given.
fn fixed_time() -> Timestamps {
    let time = Timespec { tv_sec: cas_store::MTIME_S, tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

/// Copies a file, by reflink where that can be.
fn copy(from: &Path, at: &Path, mode: u32) -> Result<(), Unlaid> {
    let mut source = File::open(from).map_err(|error| Unlaid::new(from, error))?;
    let len = source.metadata().map_err(|error| Unlaid::new(from, error))?.len();
    let mut copy = create(at, mode)?;
    let copied = if len < SMALL {
        // One byte more than there should be, so that one read tells the end.
        let mut bytes = Vec::with_capacity(usize::try_from(len).unwrap_or_default() + 1);
        source.read_to_end(&mut bytes).and_then(|_| copy.write_all(&bytes))
    } else if ioctl_ficlone(&copy, &source).is_ok() {
        Ok(())
    } else {
        io::copy(&mut source, &mut copy).map(|_| ())
    };
    copied.map_err(|error| Unlaid::new(at, error))?;
    finish(&copy, at, mode)
}

/// Writes a file that a step is given.
fn write(bytes: &[u8], at: &Path) -> Result<(), Unlaid> {
    let mut file = create(at, 0o444)?;
    file.write_all(bytes).map_err(|error| Unlaid::new(at, error))?;
    finish(&file, at, 0o444)
}

fn create(at: &Path, mode: u32) -> Result<File, Unlaid> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(mode);
    options.open(at).map_err(|error| Unlaid::new(at, error))
}

/// Sets the mode, whatever our umask made of it, and the fixed time.
fn finish(file: &File, at: &Path, mode: u32) -> Result<(), Unlaid> {
    fchmod(file, Mode::from_raw_mode(mode)).map_err(|error| Unlaid::new(at, error))?;
    futimens(file, &fixed_time()).map_err(|error| Unlaid::new(at, error))
}

fn link(target: &str, at: &Path) -> Result<(), Unlaid> {
    symlink(target, at).map_err(|error| Unlaid::new(at, error))?;
    utimensat(CWD, at, &fixed_time(), AtFlags::SYMLINK_NOFOLLOW).map_err(|error| Unlaid::new(at, error))
}

/// Lays everything in the attempt's folder that is not there yet; what `memo.rs` placed is.
pub(crate) fn prepare(attempt: &Attempt<'_>, config_json: &str) -> Result<(), Unlaid> {
    frame(attempt.folder)?;
    let step = step(attempt.folder);
    write(config_json.as_bytes(), &step.join("config.json"))?;
    prepare_code(attempt, &step)?;
    if attempt.inputs.is_empty() {
        return Ok(());
    }
    let inputs = step.join("inputs");
    make_folder(&inputs)?;
    for given in attempt.inputs {
        let at = inputs.join(&given.file_name);
        match &given.content {
            Content::Project { measured, external } => lay_path(measured, *external, &at)?,
            Content::Value(value) => write(value.text().as_bytes(), &at)?,
            Content::Gather(labels) => {
                make_folder(&inputs.join(&given.name))?;
                let extension = extension(&given.name, &given.file_name);
                let index = gather_index(&given.name, extension, labels);
                write(index.as_bytes(), &inputs.join(format!("{}.json", given.name)))?;
                set_time(&inputs.join(&given.name))?;
            }
            Content::FanIn(_) => {
                make_folder(&inputs.join(&given.name))?;
                set_time(&inputs.join(&given.name))?;
            }
            Content::File | Content::Absent | Content::Bytes(_) | Content::Many(_) | Content::Path(_) => {}
        }
    }
    set_time(&inputs)
}

/// Makes the folders that every command has, where they are not there yet.
pub(crate) fn frame(folder: &Path) -> Result<(), Unlaid> {
    let step = step(folder);
    [&step, &home(folder), &tmp(folder), &step.join("outputs")]
        .into_iter()
        .try_for_each(|path| make_folder(path))
}

fn set_time(path: &Path) -> Result<(), Unlaid> {
    utimensat(CWD, path, &fixed_time(), AtFlags::empty()).map_err(|error| Unlaid::new(path, error))
}

fn prepare_code(attempt: &Attempt<'_>, step: &Path) -> Result<(), Unlaid> {
    let mut laid = BTreeSet::new();
    let mut folders = Folders::default();
    for file in attempt.files {
        // A file may be declared as code and by several resources.
        if !laid.insert(file.to.as_str()) {
            continue;
        }
        folders.make_parents(step, &file.to)?;
        let at = step.join(&file.to);
        match &file.what {
            GivenWhat::File { executable } => {
                copy(&file.from, &at, if *executable { 0o755 } else { 0o644 })?;
            }
            GivenWhat::Link(target) => link(target, &at)?,
            GivenWhat::Folder => folders.make(step, Path::new(&file.to))?,
        }
    }
    folders.finish(step)
}

/// `inputs/<name>.json`: label to file (relative to the step's folder), in order, nothing else.
pub(crate) fn gather_index(name: &str, extension: &str, labels: &[String]) -> String {
    let files: serde_json::Map<String, serde_json::Value> = labels
        .iter()
        .map(|label| (label.clone(), format!("inputs/{name}/{}{extension}", safe_label(label)).into()))
        .collect();
    serde_json::Value::Object(files).to_string()
}

/// What a store's refusal to take an output means for the step that wrote it; `None` where it is the store's
/// own failure.
pub fn bad_output(output: &OutputDecl, error: &StoreError) -> Option<Failure> {
    let StoreError::Unstorable { path, what } = error else { return None };
    let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    let message = if output.at.trim_end_matches('/').ends_with(name.as_ref()) {
        format!("its output `{}` cannot be stored: {what}", output.at)
    } else {
        format!("its output `{}` cannot be stored, because of `{name}` in it: {what}", output.at)
    };
    Some(Failure {
        cause: Cause::BadOutput,
        message,
        hint: Some("an output holds files, folders, and links that stay inside it".to_owned()),
    })
}

/// Makes the folder of an attempt of a function, as the store makes those of others: nobody else looks into it.
pub(crate) fn make_private(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;

    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Removes an attempt's folder. What a plain command leaves is named (`outputs`: its files in the folder of that
/// name), because removing it by name takes a third of the calls that listing five folders does; whatever else
/// there is, is then found.
///
/// # Errors
/// Something cannot be removed.
pub(crate) fn remove(folder: &Path, outputs: &[String]) -> io::Result<()> {
    match remove_named(folder, outputs) {
        Ok(()) => return Ok(()),
        // One that nothing was laid out in yet, for the same reason.
        Err(rustix::io::Errno::MFILE | rustix::io::Errno::NFILE) if remove_empty(folder).is_ok() => {
            return Ok(());
        }
        Err(_) => {}
    }
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Removes the folders that an attempt begins with, where no descriptor is left to go down by, if all are empty.
fn remove_empty(folder: &Path) -> io::Result<()> {
    let step = folder.join("step");
    // Not through a link: nothing but an empty folder of that name could be lost by it, and that is not cas's either.
    if fs::symlink_metadata(&step).is_ok_and(|stat| stat.is_dir()) {
        let _ = fs::remove_dir(step.join("outputs"));
    }
    for inside in ["step", "home", "tmp"] {
        let _ = fs::remove_dir(folder.join(inside));
    }
    fs::remove_dir(folder)
}

/// Goes down by descriptors, never through a link: a command may have put one in the place of each folder.
fn remove_named(folder: &Path, outputs: &[String]) -> rustix::io::Result<()> {
    let down = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let attempt = openat(CWD, folder, down, Mode::empty())?;
    if let Ok(step) = openat(&attempt, "step", down, Mode::empty()) {
        if let Ok(inside) = openat(&step, "outputs", down, Mode::empty()) {
            for output in outputs {
                // It may have been moved into the store; a longer path is found later.
                let _ = unlinkat(&inside, output.as_str(), AtFlags::empty());
            }
        }
        let _ = unlinkat(&step, "config.json", AtFlags::empty());
        let _ = unlinkat(&step, "outputs", AtFlags::REMOVEDIR);
    }
    for inside in ["step", "home", "tmp"] {
        let _ = unlinkat(&attempt, inside, AtFlags::REMOVEDIR);
    }
    unlinkat(CWD, folder, AtFlags::REMOVEDIR)
}

/// Replaces the text of a file in a folder that is kept.
pub(crate) fn overwrite(at: &Path, text: &str) -> io::Result<()> {
    fs::remove_file(at)?;
    fs::write(at, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_become_safe_and_stay_different() {
        let check = |label: &str, name: &str| assert_eq!(safe_label(label), name);
        check("a", "a");
        check("0.1", "0.1");
        check("lr=0.1,depth=4", "lr=0.1,depth=4");
        check("", "%");
        check(".", "%2E");
        check("..", "%2E.");
        check(".hidden", "%2Ehidden");
        check("a/b", "a%2Fb");
        check("../../etc", "%2E.%2F..%2Fetc");
        check("100%", "100%25");
        check("a%2Fb", "a%252Fb");
        check("a\nb\0", "a%0Ab%00");
        check("Ärger", "Ärger");
        let long = "x".repeat(300);
        let name = safe_label(&long);
        assert!(name.len() <= LABEL_LIMIT, "{name}");
        assert_ne!(name, safe_label(&"x".repeat(301)));
        assert!(safe_label(&"ä".repeat(200)).len() <= LABEL_LIMIT);
    }

    #[test]
    fn a_folder_is_removed_whole_and_nothing_that_a_link_in_it_leads_to() {
        let base = tempfile::tempdir().unwrap();
        let kept = base.path().join("kept");
        fs::create_dir(&kept).unwrap();
        fs::write(kept.join("result"), "mine").unwrap();
        let outputs = ["result".to_owned(), "deep/er".to_owned(), "../config.json".to_owned()];
        let check = |spoil: &dyn Fn(&Path)| {
            let folder = base.path().join("attempt");
            fs::create_dir(&folder).unwrap();
            frame(&folder).unwrap();
            fs::write(step(&folder).join("config.json"), "{}").unwrap();
            fs::write(step(&folder).join("outputs/result"), "").unwrap();
            spoil(&folder);
            remove(&folder, &outputs).unwrap();
            assert!(!folder.exists());
            assert_eq!(fs::read_to_string(kept.join("result")).unwrap(), "mine");
        };
        check(&|_| {});
        check(&|folder| fs::write(home(folder).join("left"), "").unwrap());
        check(&|folder| fs::create_dir_all(step(folder).join("inputs/a")).unwrap());
        check(&|folder| fs::remove_dir_all(step(folder)).unwrap());
        check(&|folder| {
            fs::remove_dir_all(step(folder).join("outputs")).unwrap();
            symlink(&kept, step(folder).join("outputs")).unwrap();
        });
        check(&|folder| {
            fs::remove_dir_all(step(folder)).unwrap();
            symlink(&kept, step(folder)).unwrap();
        });
        remove(&base.path().join("gone"), &outputs).unwrap();
    }

    #[test]
    fn places_are_below_the_attempts_folder() {
        let folder = Path::new("/w/1");
        assert_eq!(input(folder, "tree.txt"), Path::new("/w/1/step/inputs/tree.txt"));
        assert_eq!(fan_in(folder, "parts", 0), Path::new("/w/1/step/inputs/parts/0"));
        let path = gathered(folder, "all", "seed=1/2", ".csv");
        assert_eq!(path, Path::new("/w/1/step/inputs/all/seed=1%2F2.csv"));
        assert_eq!(extension("tree", "tree.txt"), ".txt");
        assert_eq!(extension("tree", "tree"), "");
    }

    #[test]
    fn a_gathers_index_keeps_its_order() {
        let labels = ["b".to_owned(), "a/c".to_owned()];
        assert_eq!(
            gather_index("all", ".txt", &labels),
            r#"{"b":"inputs/all/b.txt","a/c":"inputs/all/a%2Fc.txt"}"#
        );
    }
}
