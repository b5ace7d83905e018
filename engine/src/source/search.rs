//! Resolves declarations to files: a pattern to what it names now, a list of them to one sorted list, and all of
//! them to the files that have to be hashed, each once. What is wrong with a declaration is told with its place.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::{Component as PathComponent, Path, PathBuf};
use std::sync::Arc;

use super::ignored::Leave;
use super::looked::{Looked, Seen};
use super::reach::{self, Reach};
use super::walk::{self, Base, Found, FoundWhat, Unfound, Walker};
use crate::error::{Diagnostic, EngineError, Place};
use crate::graph::Graph;
use crate::pattern::Pattern;
use crate::pipeline::SCRATCH_HINT;
use crate::solid::Solid;
use crate::value::nearest;

/// What is looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sought {
    /// The declared path, as written.
    pub(super) text: String,
    pub(super) leave: Leave,
    /// Whether it may lead out of the project.
    pub(super) external: bool,
}

/// A declaration, resolved to files; each is an index into [`Search::files`].
#[derive(Debug, Clone, Default)]
pub(super) struct Listed {
    pub(super) files: Vec<ListedFile>,
    /// The folders and globs that they were found by.
    pub(super) looked: Vec<Arc<Looked>>,
}

#[derive(Debug, Clone)]
pub(super) struct ListedFile {
    pub(super) path: String,
    pub(super) from: PathBuf,
    pub(super) what: ListedWhat,
    pub(super) place: Option<Place>,
}

#[derive(Debug, Clone)]
pub(super) enum ListedWhat {
    File(usize),
    Link(String),
    Folder,
}

/// A `path:` input, resolved to files.
#[derive(Debug, Clone)]
pub(super) struct ListedPath {
    pub(super) shape: Shape,
    pub(super) listed: Listed,
    pub(super) place: Option<Place>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    File,
    Folder,
    Glob,
}

/// Resolves declarations, and collects the files that are to be hashed.
pub(super) struct Search<'a> {
    project: &'a Path,
    store: Option<&'a Path>,
    walker: Walker,
    /// All files that were found, each once.
    pub(super) files: Vec<PathBuf>,
    index: HashMap<PathBuf, usize>,
    /// What a pattern was resolved to, by its text.
    patterns: HashMap<String, Arc<Listed>>,
    /// What lists of patterns were resolved to: equal solids share.
    lists: HashMap<Vec<String>, Arc<Listed>>,
}

impl<'a> Search<'a> {
    pub(super) fn new(project: &'a Path, store: Option<&'a Path>) -> Self {
        Self {
            project,
            store,
            walker: Walker::new(project, store),
            files: Vec::new(),
            index: HashMap::new(),
            patterns: HashMap::new(),
            lists: HashMap::new(),
        }
    }

    /// The files of code or of a resource, sorted, each once.
    pub(super) fn code<'p>(
        &mut self,
        patterns: impl Iterator<Item = (&'p str, Option<&'p Place>)>,
    ) -> Result<Arc<Listed>, EngineError> {
        let patterns: Vec<(&str, Option<&Place>)> = patterns.collect();
        let key: Vec<String> = patterns.iter().map(|(text, _)| (*text).to_owned()).collect();
        if let Some(listed) = self.lists.get(&key) {
            return Ok(Arc::clone(listed));
        }
        let mut all: BTreeMap<String, ListedFile> = BTreeMap::new();
        let mut looked = Vec::new();
        for (text, place) in patterns {
            let listed = match self.patterns.get(text) {
                Some(listed) => Arc::clone(listed),
                None => {
                    let listed = self.code_pattern(text, place).map_err(|wrong| at(wrong, place))?;
                    let listed = Arc::new(listed);
                    self.patterns.insert(text.to_owned(), Arc::clone(&listed));
                    listed
                }
            };
            looked.extend(listed.looked.iter().cloned());
            for file in &listed.files {
                // A link in a folder that was also declared outright is followed.
                let file = file.clone();
                match all.get(&file.path) {
                    Some(known) if !matches!(known.what, ListedWhat::Link(_)) => {}
                    _ => {
                        all.insert(file.path.clone(), file);
                    }
                }
            }
        }
        // An empty folder that something else was declared in is not empty.
        let paths: Vec<String> = all.keys().cloned().collect();
        let files = all.into_values().filter(|file| {
            let inside = format!("{}/", file.path);
            let after = paths.partition_point(|path| *path < inside);
            !(matches!(file.what, ListedWhat::Folder)
                && paths.get(after).is_some_and(|path| path.starts_with(&inside)))
        });
        let listed = Arc::new(Listed { files: files.collect(), looked });
        self.lists.insert(key, Arc::clone(&listed));
        Ok(listed)
    }

    fn code_pattern(&mut self, text: &str, place: Option<&Place>) -> Result<Listed, Unfound> {
        let sought = Sought { text: text.to_owned(), leave: Leave::Clutter, external: false };
        let (pattern, shape, found) = self.find(&sought)?;
        let looked = self.looked(sought, &pattern, shape, &found);
        let (base, from) = (pattern.fixed_text(), pattern.base(self.project));
        if shape == Shape::File {
            let what = ListedWhat::File(self.file(&from));
            let files = vec![ListedFile { path: base, from, what, place: place.cloned() }];
            return Ok(Listed { files, looked });
        }
        if found.is_empty() && shape == Shape::Folder && !base.is_empty() {
            let what = ListedWhat::Folder;
            let files = vec![ListedFile { path: base, from, what, place: place.cloned() }];
            return Ok(Listed { files, looked });
        }
        let prefix = if base.is_empty() { base } else { base + "/" };
        Ok(Listed { files: self.listed(found, &prefix, &from, place), looked })
    }

    /// What is kept of a search, so that it can be seen later whether it would find the same. Nothing for a file, which
    /// is looked at itself.
    fn looked(
        &mut self,
        sought: Sought,
        pattern: &Pattern,
        shape: Shape,
        found: &[Found],
    ) -> Vec<Arc<Looked>> {
        let seen = self.seen(sought.leave);
        if shape == Shape::File {
            return Vec::new();
        }
        let base = shown(pattern);
        let looked = Looked::new(sought, self.project, self.store, base, found.to_vec(), seen);
        vec![Arc::new(looked)]
    }

    /// What was looked at since this was called last, as it was before that.
    pub(super) fn seen(&mut self, leave: Leave) -> Vec<Seen> {
        self.walker.seen(leave)
    }

    pub(super) fn path(
        &mut self,
        text: &str,
        external: bool,
        place: Option<&Place>,
    ) -> Result<ListedPath, EngineError> {
        let sought = Sought { text: text.to_owned(), leave: Leave::Nothing, external };
        let (pattern, shape, found) = self.find(&sought).map_err(|wrong| at(wrong, place))?;
        let looked = self.looked(sought, &pattern, shape, &found);
        let from = pattern.base(self.project);
        let files = match shape {
            Shape::File => {
                let what = ListedWhat::File(self.file(&from));
                vec![ListedFile { path: text.to_owned(), from, what, place: place.cloned() }]
            }
            Shape::Folder | Shape::Glob => self.listed(found, "", &from, place),
        };
        Ok(ListedPath { shape, listed: Listed { files, looked }, place: place.cloned() })
    }

    /// Which places that are published to would be found by what is declared.
    pub(super) fn reached(&mut self, graph: &Graph) -> Reach {
        reach::reached(graph, &mut self.walker)
    }

    /// What of that which is about to be put into the project would be found by what is declared.
    pub(super) fn found_again(
        &mut self,
        graph: &Graph,
        puts: &[(String, Option<Vec<String>>)],
    ) -> Vec<Option<(String, String)>> {
        reach::found_again(graph, &mut self.walker, puts)
    }

    /// Finds what a declared path means. Nothing is listed for a file: it is its fixed part. The definition was
    /// checked for what leaves the project; but values may have been filled in since.
    pub(super) fn find(&mut self, sought: &Sought) -> Result<(Pattern, Shape, Vec<Found>), Unfound> {
        let Sought { text, leave, external } = sought;
        let pattern =
            Pattern::parse(text).map_err(|what| Unfound::new(format!("the path `{text}` {what}")))?;
        if !*external && !pattern.is_inside() {
            let message = format!("the path `{text}` leads out of the project");
            return Err(
                Unfound::new(message).hint("what lies elsewhere is an input: {path: …, external: true}")
            );
        }
        let folder = pattern.base(self.project);
        let metadata = match folder.metadata() {
            Ok(metadata) => metadata,
            Err(error) if is_missing(&error) => return Err(missing(self.project, &pattern)),
            Err(error) => {
                let message = format!("cannot look at `{text}`");
                return Err(Unfound { message, hint: None, source: Some(error) });
            }
        };
        if folder.canonicalize().is_ok_and(|real| self.walker.in_store(&real)) {
            let message = format!("`{text}` is in the store");
            return Err(Unfound::new(message).hint("use the step output itself as an input"));
        }
        let shown = shown(&pattern);
        let base = Base { folder: &folder, shown: &shown, leave: *leave };
        if pattern.is_glob() {
            if !metadata.is_dir() {
                return Err(Unfound::new(format!("`{shown}` in `{text}` is not a folder")));
            }
            let found = self.walker.glob(&base, &pattern.alternatives)?;
            if found.is_empty() {
                let hint = match leave {
                    Leave::Clutter => {
                        "it matches files only; dot names, caches, editor backups and what .gitignore or \
                         .casignore exclude are left out unless named outright"
                    }
                    Leave::Nothing => "it matches files only, below the folder of the pipeline file",
                };
                return Err(Unfound::new(format!("`{text}` matches nothing")).hint(hint));
            }
            return Ok((pattern, Shape::Glob, found));
        }
        if metadata.is_dir() {
            let found = self.walker.folder(&base)?;
            return Ok((pattern, Shape::Folder, found));
        }
        if !metadata.is_file() {
            let message = format!("`{text}` is {}", walk::special(metadata.file_type()));
            return Err(Unfound::new(message).hint("only files and folders can be given to a step"));
        }
        if pattern.folder {
            return Err(Unfound::new(format!("`{text}` is a file")).hint("write it without the final `/`"));
        }
        Ok((pattern, Shape::File, Vec::new()))
    }

    fn listed(
        &mut self,
        found: Vec<Found>,
        prefix: &str,
        from: &Path,
        place: Option<&Place>,
    ) -> Vec<ListedFile> {
        let mut listed = Vec::with_capacity(found.len());
        for found in found {
            let from = from.join(&found.path);
            let what = match found.what {
                FoundWhat::File => ListedWhat::File(self.file(&from)),
                FoundWhat::Link(target) => ListedWhat::Link(target),
                FoundWhat::Folder => ListedWhat::Folder,
            };
            listed.push(ListedFile {
                path: format!("{prefix}{}", found.path),
                from,
                what,
                place: place.cloned(),
            });
        }
        listed
    }

    /// The index of a file that is to be hashed.
    fn file(&mut self, path: &Path) -> usize {
        if let Some(index) = self.index.get(path) {
            return *index;
        }
        let index = self.files.len();
        self.files.push(path.to_owned());
        self.index.insert(path.to_owned(), index);
        index
    }
}

/// What a folder of the project gives as code: the paths in it of files, links and empty folders. Nothing where it cannot
/// be declared.
pub(crate) fn as_code(project: &Path, store: Option<&Path>, folder: &Path) -> Option<BTreeSet<PathBuf>> {
    let base = Base { folder, shown: "", leave: Leave::Clutter };
    let found = Walker::new(project, store).folder(&base).ok()?;
    Some(found.into_iter().map(|found| PathBuf::from(found.path)).collect())
}

/// The fixed part of a pattern as it is written.
fn shown(pattern: &Pattern) -> String {
    let fixed = pattern.fixed_text();
    if pattern.absolute { format!("/{fixed}") } else { "../".repeat(pattern.up) + &fixed }
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Puts the place of a declaration to what is wrong with it.
pub(super) fn at(wrong: Unfound, place: Option<&Place>) -> EngineError {
    let diagnostic =
        Diagnostic { message: wrong.message, place: place.cloned(), excerpt: None, hint: wrong.hint };
    EngineError::Source { diagnostic, source: wrong.source }
}

/// Says what of a path is not there, and what it may have been meant to be.
fn missing(project: &Path, pattern: &Pattern) -> Unfound {
    let mut there = pattern.root(project);
    let mut shown = if pattern.absolute { "/".to_owned() } else { "../".repeat(pattern.up) };
    for part in &pattern.fixed {
        let next = there.join(part);
        if next.metadata().is_ok() {
            there = next;
            shown.push_str(part);
            shown.push('/');
            continue;
        }
        if let Ok(target) = next.read_link() {
            return Unfound::new(format!(
                "`{shown}{part}` is a link to `{}`, which is not there",
                target.display()
            ));
        }
        let names: Vec<String> = there
            .read_dir()
            .map(|names| names.flatten().filter_map(|name| name.file_name().into_string().ok()).collect())
            .unwrap_or_default();
        let missing = Unfound::new(format!("there is no `{shown}{part}`"));
        let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
        names.sort_unstable();
        return match nearest(part, names) {
            Some(near) => missing.hint(&format!("did you mean `{shown}{near}`?")),
            None if !pattern.is_inside() => missing,
            None => {
                missing.hint(&format!("paths are relative to the project folder, `{}`", project.display()))
            }
        };
    }
    Unfound::new(format!("there is no `{shown}`"))
}

/// What a command's folder has places of its own for.
pub(super) fn refuse_reserved(listed: &Listed) -> Result<(), EngineError> {
    for file in &listed.files {
        let first = file.path.split('/').next().unwrap_or_default();
        if matches!(first, "inputs" | "outputs") || file.path == "config.json" {
            let own = if first == "config.json" { first.to_owned() } else { format!("{first}/") };
            let wrong = Unfound::new(format!("`{}` would lie where a step has its own `{own}`", file.path));
            let wrong =
                wrong.hint("move it, narrow the pattern, name it in .casignore, or give it as an input");
            return Err(at(wrong, file.place.as_ref()));
        }
    }
    Ok(())
}

/// A scratch folder is there again at the next attempt, and what a step is given is laid anew: they cannot be one.
pub(super) fn refuse_in_scratch(solid: &Solid, listed: &Listed) -> Result<(), EngineError> {
    for folder in &solid.policy.scratch {
        let own = Path::new(&folder.at).components().filter(|part| matches!(part, PathComponent::Normal(_)));
        let own: PathBuf = own.collect();
        let in_the_way = |file: &&ListedFile| {
            let path = Path::new(&file.path);
            let is_folder = matches!(file.what, ListedWhat::Folder);
            // An empty folder is none of its files, and it may lie in one.
            !is_folder && (path.starts_with(&own) || own.starts_with(path))
        };
        if let Some(file) = listed.files.iter().find(in_the_way) {
            let wrong = Unfound::new(format!(
                "`{}` cannot be a scratch folder: the declared file `{}` lies there",
                folder.at, file.path
            ));
            return Err(at(wrong.hint(SCRATCH_HINT), folder.place.as_ref().or(file.place.as_ref())));
        }
    }
    Ok(())
}
