//! Which places that a pipeline publishes to lie where it would find them again, once something is put there: below a
//! declared folder, or where a declared glob matches. Looks at ignore files and follows links, and looks at nothing else
//! of what is there: a place is the same one whichever link leads to it.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use super::ignored::Leave;
use super::walk::{Base, Walker};
use crate::graph::Graph;
use crate::pattern::{Component, Pattern};
use crate::publish;

/// A declaration that finds what lies below a folder.
struct Finds {
    alternatives: Vec<Vec<Component>>,
    leave: Leave,
    /// As messages call it.
    what: String,
}

/// What is known of the places that a pipeline publishes to.
#[derive(Default)]
pub(super) struct Reach {
    /// For each place that would be found again: what would find it.
    pub(super) reached: BTreeMap<String, String>,
    /// For each place at or below which something is declared: what that is.
    pub(super) holds: BTreeMap<String, String>,
    /// For each place whose folder is reached through a link: where it is without, in the project if it lies there.
    pub(super) through: BTreeMap<String, PathBuf>,
    /// For each place on whose way a link leads to nothing: that link.
    pub(super) nowhere: BTreeMap<String, PathBuf>,
}

/// Finds what would be found again, and what lies behind links.
pub(super) fn reached(graph: &Graph, walker: &mut Walker) -> Reach {
    let placed = publish::placed(graph);
    let mut reach = Reach::default();
    if placed.is_empty() {
        return reach;
    }
    let mut declared = Declared::of(graph);
    for placed in placed {
        let output = &graph.solid(placed.output.step).outputs[usize::from(placed.output.output)];
        let is_folder = output.at.ends_with('/');
        let target = declared.target(&placed.target);
        if let Some(link) = target.parent().and_then(|folder| declared.links.nowhere(folder)) {
            reach.nowhere.insert(placed.target, link);
            continue;
        }
        let real = declared.links.at(&target);
        if let Some(what) = declared.finds(walker, &target, &real, is_folder) {
            reach.reached.insert(placed.target.clone(), what);
        }
        if let Some(what) = declared.below(&target).or_else(|| declared.below(&real)) {
            reach.holds.insert(placed.target.clone(), what);
        }
        if real != target {
            reach.through.insert(placed.target, real);
        }
    }
    reach
}

/// Of what is about to be put at places, now that its names are known: the first file of each that a declaration would
/// find, and what that is. Each is a place and, of a folder, the paths in it.
pub(super) fn found_again(
    graph: &Graph,
    walker: &mut Walker,
    puts: &[(String, Option<Vec<String>>)],
) -> Vec<Option<(String, String)>> {
    let mut declared = Declared::of(graph);
    let mut of = |(at, inside): &(String, Option<Vec<String>>)| {
        let whole = [at.clone()];
        let files = inside.iter().flatten().map(|path| format!("{at}/{path}"));
        let files: Vec<String> = if inside.is_some() { files.collect() } else { whole.to_vec() };
        files.into_iter().find_map(|file| {
            let target = declared.target(&file);
            let real = declared.links.at(&target);
            Some((file, declared.finds(walker, &target, &real, false)?))
        })
    };
    puts.iter().map(&mut of).collect()
}

/// What a pipeline declares, by where it is looked for: also what only steps use that are not planned now, because what is
/// put there is there when they are.
struct Declared {
    project: PathBuf,
    /// By the folder below which it looks, so that a place is held against few of them.
    finds: BTreeMap<PathBuf, Vec<Finds>>,
    /// Files that are named outright.
    files: BTreeMap<PathBuf, String>,
    links: Links,
}

impl Declared {
    fn of(graph: &Graph) -> Self {
        let project = lexical(&graph.pipeline.folder);
        let mut links =
            Links { real: HashMap::new(), project: (project.clone(), project.canonicalize().ok()) };
        let mut finds: BTreeMap<PathBuf, Vec<Finds>> = BTreeMap::new();
        let mut files: BTreeMap<PathBuf, String> = BTreeMap::new();
        let mut add = |text: &str, leave: Leave, what: String| {
            // What is wrong with a pattern was told when it was resolved.
            let Ok(pattern) = Pattern::parse(text) else { return };
            let folder = pattern.base(&graph.pipeline.folder);
            // A file that is named outright is held against the place itself, where links lead to it; else it is found
            // as one of the declared files.
            let alternatives = if pattern.is_glob() {
                pattern.alternatives
            } else if folder.is_dir() {
                vec![vec![Component::AnyDepth]]
            } else {
                files.entry(links.at(&folder)).or_insert(what);
                return;
            };
            let real = links.folder(&folder);
            if real != folder {
                let (alternatives, what) = (alternatives.clone(), what.clone());
                finds.entry(real).or_default().push(Finds { alternatives, leave, what });
            }
            finds.entry(folder).or_default().push(Finds { alternatives, leave, what });
        };
        for invocation in &graph.pipeline.invocations {
            for code in &invocation.solid.code {
                add(&code.text, Leave::Clutter, format!("the code `{}` of `{}`", code.text, invocation.name));
            }
        }
        for definition in graph.resources.iter().map(|resource| &resource.definition) {
            for files in &definition.files {
                let what = format!("the files `{}` of the resource `{}`", files.text, definition.name);
                add(&files.text, Leave::Clutter, what);
            }
        }
        for path in graph.paths.iter().map(|path| &path.path) {
            add(path, Leave::Nothing, format!("the input `{path}`"));
        }
        Self { project, finds, files, links }
    }

    fn target(&self, target: &str) -> PathBuf {
        lexical(&self.project.join(target))
    }

    /// What is looked for at a place or below it, whether or not anything is there.
    fn below(&self, target: &Path) -> Option<String> {
        fn first<'a, T>(of: &'a BTreeMap<PathBuf, T>, target: &Path) -> Option<&'a T> {
            // Sorted by their parts, those below it come directly behind it.
            let (path, first) = of.range(target.to_owned()..).next()?;
            path.starts_with(target).then_some(first)
        }
        let finds = first(&self.finds, target).and_then(|finds| finds.first());
        finds.map(|finds| &finds.what).or_else(|| first(&self.files, target)).cloned()
    }

    /// What would find a place, by its name or where it is without links.
    fn finds(&self, walker: &mut Walker, target: &Path, real: &Path, is_folder: bool) -> Option<String> {
        let mut found = |target: &Path| {
            let by = target.ancestors().skip(1).find_map(|folder| {
                let names: Vec<&str> =
                    target.strip_prefix(folder).ok()?.iter().filter_map(|name| name.to_str()).collect();
                self.finds.get(folder)?.iter().find(|finds| {
                    let base = Base { folder, shown: "", leave: finds.leave };
                    walker.would_find(&base, &finds.alternatives, &names, is_folder)
                })
            });
            by.map(|finds| finds.what.clone())
        };
        let what = found(target).or_else(|| if real == target { None } else { found(real) });
        what.or_else(|| self.files.get(real).cloned())
    }
}

/// Paths without links, each folder looked at once. What lies in the project is called as the project is.
struct Links {
    real: HashMap<PathBuf, PathBuf>,
    /// As it is called, and without links.
    project: (PathBuf, Option<PathBuf>),
}

impl Links {
    /// Where something is that is not followed itself: a link that is published to is replaced.
    fn at(&mut self, path: &Path) -> PathBuf {
        match (path.parent(), path.file_name()) {
            (Some(folder), Some(name)) => self.folder(folder).join(name),
            _ => path.to_owned(),
        }
    }

    /// The link that leads to nothing, or to itself, on the way to a folder in the project, if there is one.
    fn nowhere(&self, folder: &Path) -> Option<PathBuf> {
        let below = folder.ancestors().take_while(|folder| *folder != self.project.0);
        // Looked at from below: what is there is reached, and so is all that is above it.
        for folder in below {
            if folder.metadata().is_ok() {
                return None;
            }
            if folder.is_symlink() {
                return Some(folder.to_owned());
            }
        }
        None
    }

    /// A folder that is there, or the part of it that is.
    fn folder(&mut self, folder: &Path) -> PathBuf {
        if let Some(real) = self.real.get(folder) {
            return real.clone();
        }
        let real = match (folder.canonicalize(), &self.project) {
            (Ok(real), (project, Some(without))) => match real.strip_prefix(without) {
                Ok(below) => lexical(&project.join(below)),
                Err(_) => real,
            },
            (Ok(real), _) => real,
            (Err(_), _) => self.at(folder),
        };
        self.real.insert(folder.to_owned(), real.clone());
        real
    }
}

/// A path without `.`.
fn lexical(path: &Path) -> PathBuf {
    path.components().collect()
}
