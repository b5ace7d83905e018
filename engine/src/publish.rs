//! What is put into the project after a run: which output goes where, and how it gets there.
//!
//! Owns the note of what was put (a small file in the store's folder, one a project): by it, a file that cas
//! wrote is told from one that it did not write, which is left alone. Never hashed, never part of a version.
//! Invariant: nothing is overwritten whose content is not the one that was put there, unless that was asked
//! for; nothing is removed but what was put there and is as it was put; and nothing is written or removed behind a link
//! that leads out of the project, whoever puts one there and when.

mod project;
mod targets;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use cas_store::{Artifact, Digest, Entry, Kind, Node, StoreError, Tree};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use crate::error::{Diagnostic, EngineError, Place};
use crate::event::Event;
use crate::execute::folder::safe_label;
use crate::graph::{Graph, OutputId, StepId};
use crate::memo::Memo;
use crate::pipeline::Pick;
use crate::plan::Plan;
use crate::record::{self, Published};
use crate::source;
use project::{Leads, Project, Spot, Way};
pub use targets::check;
pub(crate) use targets::collisions;

/// An output and its place in the project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// Relative to the project folder.
    pub target: String,
    /// What is put there.
    pub output: OutputId,
    /// Where that is declared.
    pub place: Option<Place>,
}

/// What a pipeline publishes, each output with its place, in the order of the file. Pure.
pub fn placed(graph: &Graph) -> Vec<Placed> {
    let pipeline = &graph.pipeline;
    let mut placed = Vec::new();
    for publish in &pipeline.publish {
        let Some(index) =
            pipeline.invocations.iter().position(|invocation| invocation.name == publish.what.step)
        else {
            continue;
        };
        let solid = &pipeline.invocations[index].solid;
        let named = match &publish.what.output {
            Some(name) => solid.outputs.iter().position(|output| output.name == *name),
            None if solid.outputs.len() == 1 => Some(0),
            None => solid.outputs.iter().position(|output| output.name == "result"),
        };
        let Some(output) = named else { continue };
        let Ok(id) = u16::try_from(output) else { continue };
        for step in graph.steps_of[index].clone().map(StepId) {
            if !picked(graph, step, &publish.what.pick) {
                continue;
            }
            let target = match publish.target.strip_suffix('/') {
                Some(folder) => format!("{folder}/{}", file_name(graph, step, output)),
                None => publish.target.clone(),
            };
            let place = publish.what.place.clone();
            placed.push(Placed { target, output: OutputId { step, output: id }, place });
        }
    }
    placed
}

/// Whether an element is among those that are meant.
fn picked(graph: &Graph, step: StepId, pick: &Pick) -> bool {
    match pick {
        Pick::Same | Pick::All => true,
        Pick::Where(labels) => {
            let points = graph.points(step);
            labels.iter().all(|(name, label)| {
                points.iter().any(|(axis, point)| axis.name == *name && point.label == *label)
            })
        }
    }
}

/// The name of an output's file inside a folder: an element's label, else the name it is declared with; with
/// the extension that it is declared with.
fn file_name(graph: &Graph, step: StepId, output: usize) -> String {
    let place = graph.solid(step).outputs[output].at.trim_end_matches('/');
    let name = place.rsplit('/').next().unwrap_or(place);
    if graph.points(step).is_empty() {
        return name.to_owned();
    }
    let extension = name.find('.').filter(|at| *at > 0).map_or("", |at| &name[at..]);
    safe_label(&graph.label(step)) + extension
}

/// What is to stand in the project after a run.
pub(crate) struct Wanted {
    /// What is there to be put.
    pub(crate) ready: Vec<(Placed, Artifact)>,
    /// Targets whose output is known as not produced.
    pub(crate) absent: BTreeSet<String>,
    /// Files that were not written by an earlier publish may be overwritten.
    pub(crate) overwrite: bool,
}

/// Refuses what the pipeline would find again the next time, now that the names are known which only a run gives: those of
/// elements, and of what is in a folder. Comes before anything is put anywhere.
fn check_names(
    plan: &Plan,
    memo: &Memo,
    wanted: &Wanted,
    notes: &BTreeMap<String, Published>,
    homes: &BTreeMap<String, Leads>,
) -> Result<(), EngineError> {
    let is_there = |(placed, artifact): &&(Placed, Artifact)| {
        let folder = artifact.kind == Kind::Tree;
        let note = notes.get(home(homes, &placed.target));
        !note.is_some_and(|note| note.digest == artifact.digest && note.folder == folder)
    };
    let new: Vec<&(Placed, Artifact)> = wanted.ready.iter().filter(is_there).collect();
    if new.is_empty() {
        return Ok(());
    }
    let store = memo.open()?.dir();
    check(plan, Some(store)).map_err(EngineError::Definition)?;
    let mut puts = Vec::with_capacity(new.len());
    for (placed, artifact) in &new {
        let inside = match artifact.kind {
            // Bytes that are gone are told of when they are to be put there.
            Kind::Tree => memo
                .tree(&artifact.digest)?
                .ok()
                .map(|tree| tree.entries.into_iter().map(|entry| entry.path).collect::<Vec<String>>()),
            Kind::File { .. } => None,
        };
        puts.push((placed.target.clone(), inside));
    }
    let found = source::found_again(&plan.graph, Some(store), &puts);
    let wrong: Vec<Diagnostic> = new
        .iter()
        .zip(found)
        .filter_map(|((placed, _), found)| {
            let (file, what) = found?;
            let message = if file == placed.target {
                format!("`{file}` would be found by {what}: nothing can be published there")
            } else {
                format!(
                    "`{file}`, which `{}` holds, would be found by {what}: it cannot be published there",
                    placed.target
                )
            };
            let hint = "publish it elsewhere, or declare less: it would change what the pipeline is made of";
            Some(Diagnostic::new(message).hint(hint).at(placed.place.as_ref()))
        })
        .collect();
    if wrong.is_empty() { Ok(()) } else { Err(EngineError::Definition(wrong)) }
}

/// Puts outputs at their places in the project, takes away what was put there once and is not made any longer, and
/// tells each. Gives the outputs whose bytes turned out to be gone: their steps have to run again.
///
/// # Errors
/// The store or the project folder cannot be written.
pub(crate) fn publish(
    plan: &Plan,
    memo: &Memo,
    wanted: &Wanted,
    tell: &mut dyn FnMut(&Event),
) -> Result<Vec<(OutputId, String)>, EngineError> {
    let mut lost = Vec::new();
    let pipeline = &plan.graph.pipeline;
    let project = &pipeline.folder;
    let path = note_path(memo, project)?;
    if wanted.ready.is_empty() && !path.exists() {
        return Ok(lost);
    }
    // Several pipelines may lie in one folder: each takes away only what it put there itself.
    let by = match pipeline.file.as_deref().and_then(Path::file_name) {
        // With the way to it, where that is not in the project folder itself.
        Some(file) => {
            let home = pipeline.home.strip_prefix(project).unwrap_or(Path::new(""));
            home.join(file).to_string_lossy().into_owned()
        }
        None => pipeline.name.clone(),
    };
    let mut notes = read(&path);
    let mut project = Project::open(project).map_err(at("open", project))?;
    let mut homes = BTreeMap::new();
    for Placed { target, .. } in placed(&plan.graph) {
        let leads = project.leads(&target).map_err(at("read", &pipeline.folder.join(&target)))?;
        homes.insert(target, leads);
    }
    check_names(plan, memo, wanted, &notes, &homes)?;
    let before = notes.clone();
    let absent: BTreeSet<&str> = wanted.absent.iter().map(|target| home(&homes, target)).collect();
    let live: BTreeSet<&str> = homes.keys().map(|target| home(&homes, target)).collect();
    let stale = |note: &&Published| {
        let at = note.target.as_str();
        note.by == by && (absent.contains(at) || !live.contains(at))
    };
    // First, so that what was a folder can become a file.
    for note in before.values().filter(stale) {
        take_away(&mut project, note, tell)?;
        notes.remove(&note.target);
    }
    let mut put_there = BTreeSet::new();
    for (placed, artifact) in &wanted.ready {
        let target = &placed.target;
        let output = plan.graph.output_name(placed.output);
        let mut left_alone = |why: &str| {
            tell(&Event::Warning { text: format!("`{target}` was not written: {why}") });
        };
        const A_FILE: &str = "one of the folders that it would lie in is a file";
        let home = match homes.get(target) {
            Some(Leads::Home(home)) => home.as_str(),
            Some(Leads::Out(out)) => {
                left_alone(&format!("a link leads out of the project, to `{}`", out.display()));
                continue;
            }
            Some(Leads::Nowhere(link)) => {
                left_alone(&format!("the link `{}` leads to nothing", link.display()));
                continue;
            }
            Some(Leads::File) => {
                left_alone(A_FILE);
                continue;
            }
            None => target,
        };
        // A link that was made since the pipeline was read.
        if !put_there.insert(home) {
            left_alone(&format!("a link leads to `{home}`, which is published already"));
            continue;
        }
        let shown = pipeline.folder.join(home);
        let note = notes.get(home);
        let there = match project.way(home).map_err(at("open", &shown))? {
            Way::Clear(spot) => {
                let standing = standing(&spot, note, artifact)?;
                Some((spot, standing))
            }
            Way::Missing => None,
            Way::Barred => {
                left_alone(A_FILE);
                continue;
            }
        };
        let mut changed = false;
        let spot = match there {
            Some((spot, Standing::Same)) => spot,
            Some((_, Standing::Foreign)) if !wanted.overwrite => {
                let why =
                    if note.is_some() { "was changed since cas wrote it" } else { "was not written by cas" };
                let text = format!(
                    "`{target}` {why} and was left alone (it would hold `{output}`; `--overwrite` replaces it)"
                );
                tell(&Event::Warning { text });
                continue;
            }
            there => {
                let spot = match there {
                    Some((spot, _)) => spot,
                    None => match project.made(home).map_err(at("make", &shown))? {
                        Way::Clear(spot) => spot,
                        Way::Missing | Way::Barred => {
                            left_alone("its folder was exchanged at that moment");
                            continue;
                        }
                    },
                };
                if let Err(error) = put(memo, artifact, &spot)? {
                    lost.push((placed.output, error.to_string()));
                    continue;
                }
                changed = true;
                spot
            }
        };
        let seen = fingerprint(&spot).map_err(at("read", &spot.shown))?;
        tell(&Event::Published { target: target.clone(), output, changed });
        let folder = artifact.kind == Kind::Tree;
        let note =
            Published { by: by.clone(), target: home.to_owned(), digest: artifact.digest, folder, seen };
        notes.insert(note.target.clone(), note);
    }
    if notes != before {
        fs::create_dir_all(path.parent().unwrap_or(Path::new("/"))).map_err(at("make", &path))?;
        write(&path, &notes)?;
    }
    Ok(lost)
}

/// Where a target is without links, as its note calls it; one that leads nowhere in the project is called as it is
/// declared.
fn home<'a>(homes: &'a BTreeMap<String, Leads>, target: &'a str) -> &'a str {
    match homes.get(target) {
        Some(Leads::Home(home)) => home,
        _ => target,
    }
}

/// Removes what was put at a place and is not made any longer, with the folders that are empty without it. What
/// somebody changed is left alone and named, and so is what a link leads to now: it is not where it was put.
fn take_away(
    project: &mut Project,
    note: &Published,
    tell: &mut dyn FnMut(&Event),
) -> Result<(), EngineError> {
    let shown = project.shown(&note.target);
    let mut left_alone = |why: &str| {
        let text = format!("`{}` is no longer published, but {why}: it was left alone", note.target);
        tell(&Event::Warning { text });
        Ok(())
    };
    let spot = match project.way(&note.target).map_err(at("open", &shown))? {
        Way::Clear(spot) => spot,
        Way::Missing => return Ok(()),
        // Gone where a file stands in the way.
        Way::Barred if fs::metadata(&shown).is_err() => return Ok(()),
        Way::Barred => return left_alone("a link leads there now"),
    };
    let path = spot.path();
    match fs::symlink_metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(at("read", &shown)(error)),
        Ok(_) => {}
    }
    let untouched = fingerprint(&spot).map_err(at("read", &shown))? == note.seen
        || content(&path)
            .map_err(at("read", &shown))?
            .is_some_and(|(kind, digest)| digest == note.digest && (kind == Kind::Tree) == note.folder);
    if !untouched {
        return left_alone("was changed since cas wrote it");
    }
    remove(&spot, &path)?;
    project.tidy(&note.target).map_err(at("open", &shown))?;
    tell(&Event::Unpublished { target: note.target.clone() });
    Ok(())
}

/// What stands at a target now.
enum Standing {
    Nothing,
    /// What is to be put there.
    Same,
    /// What an earlier run put there.
    Ours,
    /// Something else.
    Foreign,
}

fn standing(spot: &Spot, note: Option<&Published>, artifact: &Artifact) -> Result<Standing, EngineError> {
    let target = &spot.path();
    match fs::symlink_metadata(target) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Standing::Nothing),
        Err(error) => return Err(at("read", &spot.shown)(error)),
        Ok(_) => {}
    }
    // Untouched since it was put there: what it holds need not be read.
    if let Some(note) = note
        && fingerprint(spot).map_err(at("read", &spot.shown))? == note.seen
    {
        let same = note.digest == artifact.digest && note.folder == (artifact.kind == Kind::Tree);
        return Ok(if same { Standing::Same } else { Standing::Ours });
    }
    Ok(match content(target).map_err(at("read", &spot.shown))? {
        Some((kind, digest)) if kind == artifact.kind && digest == artifact.digest => Standing::Same,
        Some((_, digest)) if note.is_some_and(|note| note.digest == digest) => Standing::Ours,
        _ => Standing::Foreign,
    })
}

/// Lays an output at a place, whole or not at all: beside it first, then in its place.
fn put(memo: &Memo, artifact: &Artifact, spot: &Spot) -> Result<Result<(), StoreError>, EngineError> {
    let target = &spot.path();
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    let beside = |what: &str| spot.beside(format!(".{name}.{what}.{}", std::process::id()));
    let (new, old) = (beside("new"), beside("old"));
    for left_over in [&new, &old] {
        remove(spot, left_over)?;
    }
    if let Err(error) = memo.materialize(artifact, &new).map_err(|error| called(error, spot))? {
        remove(spot, &new)?;
        return Ok(Err(error));
    }
    let is_folder = |path: &Path| fs::symlink_metadata(path).is_ok_and(|stat| stat.is_dir());
    // A rename replaces a file by a file; anything else changes places with it, so that there is always one of the two.
    if is_folder(target) || (is_folder(&new) && fs::symlink_metadata(target).is_ok()) {
        match renameat_with(CWD, &new, CWD, target, RenameFlags::EXCHANGE) {
            Ok(()) => {
                remove(spot, &new)?;
                return Ok(Ok(()));
            }
            // Some file systems cannot.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                fs::rename(target, &old).map_err(at("rename", &spot.shown))?;
            }
            Err(error) => return Err(at("rename", &spot.shown)(error.into())),
        }
    }
    fs::rename(&new, target).map_err(at("rename", &spot.shown))?;
    remove(spot, &old)?;
    Ok(Ok(()))
}

/// An error that names a path as people call it.
fn called(error: EngineError, spot: &Spot) -> EngineError {
    match error {
        EngineError::Store(StoreError::Io { action, path, source }) => {
            EngineError::Store(StoreError::Io { action, path: spot.called(&path), source })
        }
        other => other,
    }
}

fn remove(spot: &Spot, path: &Path) -> Result<(), EngineError> {
    let removed = match fs::symlink_metadata(path) {
        Ok(stat) if stat.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at("remove", &spot.called(path))(error)),
        _ => Ok(()),
    }
}

/// Everything below a path, itself first, sorted by path: what it is called and its stat.
fn walk(path: &Path, each: &mut dyn FnMut(&Path, &fs::Metadata) -> io::Result<()>) -> io::Result<()> {
    let stat = fs::symlink_metadata(path)?;
    each(path, &stat)?;
    if stat.is_dir() {
        let mut inside: Vec<PathBuf> =
            fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
        inside.sort();
        for path in inside {
            walk(&path, each)?;
        }
    }
    Ok(())
}

/// What tells that nobody touched a file or folder since.
fn fingerprint(spot: &Spot) -> io::Result<Digest> {
    let mut facts = Vec::new();
    walk(&spot.path(), &mut |path, stat| {
        let path = spot.called(path);
        let name = path.as_os_str().as_bytes();
        facts.extend_from_slice(&(name.len() as u64).to_le_bytes());
        facts.extend_from_slice(name);
        for number in [stat.ino(), stat.size(), u64::from(stat.mode())] {
            facts.extend_from_slice(&number.to_le_bytes());
        }
        for number in [stat.mtime(), stat.mtime_nsec(), stat.ctime(), stat.ctime_nsec()] {
            facts.extend_from_slice(&number.to_le_bytes());
        }
        Ok(())
    })?;
    Ok(Digest::of(&facts))
}

/// What a file or folder is, in the words of the store; `None` where that cannot be said (a socket, a name that
/// is no text).
fn content(target: &Path) -> io::Result<Option<(Kind, Digest)>> {
    let stat = fs::symlink_metadata(target)?;
    if stat.is_file() {
        let executable = stat.permissions().mode() & 0o100 != 0;
        return Ok(Some((Kind::File { executable }, digest(target)?)));
    }
    if !stat.is_dir() {
        return Ok(None);
    }
    let mut entries = Vec::new();
    let mut odd = false;
    walk(target, &mut |path, stat| {
        let relative = path.strip_prefix(target).unwrap_or(path);
        let Some(name) = relative.to_str() else {
            odd = true;
            return Ok(());
        };
        let node = if stat.is_file() {
            let executable = stat.permissions().mode() & 0o100 != 0;
            Node::File { digest: digest(path)?, len: stat.len(), executable }
        } else if stat.is_symlink() {
            let Some(link) = fs::read_link(path)?.to_str().map(str::to_owned) else {
                odd = true;
                return Ok(());
            };
            Node::Link { target: link }
        } else if stat.is_dir() {
            if name.is_empty() || fs::read_dir(path)?.next().is_some() {
                return Ok(());
            }
            Node::Folder
        } else {
            odd = true;
            return Ok(());
        };
        entries.push(Entry { path: name.to_owned(), node });
        Ok(())
    })?;
    Ok(Tree::new(entries).ok().filter(|_| !odd).map(|tree| (Kind::Tree, tree.digest())))
}

fn digest(path: &Path) -> io::Result<Digest> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(fs::File::open(path)?)?;
    Ok(hasher.finalize().into())
}

/// Where the note of a project lies.
fn note_path(memo: &Memo, project: &Path) -> Result<PathBuf, EngineError> {
    let folder = memo.open()?.dir().join("published");
    Ok(folder.join(&Digest::of(project.as_os_str().as_bytes()).to_hex()[..16]))
}

/// What was put into a project before. A note that is damaged is none: nothing is ours then, so nothing is
/// overwritten.
fn read(path: &Path) -> BTreeMap<String, Published> {
    let bytes = fs::read(path).unwrap_or_default();
    let notes = record::decode_published(&bytes).unwrap_or_default();
    notes.into_iter().map(|note| (note.target.clone(), note)).collect()
}

fn write(path: &Path, notes: &BTreeMap<String, Published>) -> Result<(), EngineError> {
    let notes: Vec<Published> = notes.values().cloned().collect();
    let bytes = record::encode_published(&notes)
        .map_err(|error| at("write", path)(io::Error::other(error.to_string())))?;
    let new = path.with_extension(format!("new.{}", std::process::id()));
    fs::write(&new, bytes).map_err(at("write", &new))?;
    fs::rename(&new, path).map_err(at("rename", path))
}

fn at<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> EngineError + 'a {
    move |source| EngineError::Io { action, path: path.to_owned(), source }
}
