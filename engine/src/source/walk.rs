//! Finds the files of a folder or glob. Nothing outside the fixed part of a pattern is looked at, links are not
//! walked through, and every folder is listed at most once a pattern.

use std::collections::{BTreeSet, HashSet};
use std::ffi::OsStr;
use std::fs::FileType;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cas_store::{Digest, Entry, Node, Tree, TreeError};

use super::ignored::{Leave, Rules, RulesReader, is_clutter};
use super::looked::Seen;
use crate::pattern::Component;

/// Something that was found, relative to where the search began.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Found {
    /// `/` between parts.
    pub(super) path: String,
    /// What it is.
    pub(super) what: FoundWhat,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum FoundWhat {
    /// A regular file.
    File,
    /// A link, with its target.
    Link(String),
    /// A folder with nothing in it.
    Folder,
}

/// Why a search failed.
#[derive(Debug)]
pub(super) struct Unfound {
    /// A whole fragment; paths in it are as they are written in the pipeline.
    pub(super) message: String,
    /// What to do about it.
    pub(super) hint: Option<String>,
    /// What the operating system said.
    pub(super) source: Option<io::Error>,
}

impl Unfound {
    pub(super) fn new(message: String) -> Self {
        Self { message, hint: None, source: None }
    }

    pub(super) fn hint(self, hint: &str) -> Self {
        Self { hint: Some(hint.to_owned()), ..self }
    }

    fn io(message: String, source: io::Error) -> Self {
        Self { message, hint: None, source: Some(source) }
    }
}

/// A folder that something is looked for in.
pub(super) struct Base<'a> {
    /// Absolute, as it was declared: links in it are followed.
    pub(super) folder: &'a Path,
    /// As messages call it; empty for the project folder.
    pub(super) shown: &'a str,
    /// What is left out.
    pub(super) leave: Leave,
}

impl Base<'_> {
    /// A path below it, as messages call it.
    fn show(&self, path: &str) -> String {
        match (self.shown, path) {
            ("", "") => ".".to_owned(),
            ("", path) => path.to_owned(),
            (shown, "") => shown.to_owned(),
            (shown, path) => format!("{}/{path}", shown.trim_end_matches('/')),
        }
    }
}

/// Finds files; remembers what the ignore files say.
#[derive(Debug)]
pub(super) struct Walker {
    rules: RulesReader,
    /// The store's folder without links, if it is there.
    store: Option<PathBuf>,
    /// The folders that were listed since somebody took them, and how they were before.
    listed: Vec<(PathBuf, Seen)>,
}

/// Why a name is let through though a rule would leave it out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Named {
    /// It is not named.
    No,
    /// Its dot is.
    Dot,
    /// The whole name is.
    Outright,
}

/// What the states of a pattern make of one name.
struct Step {
    /// It is wanted, if it is no folder.
    wanted: Option<Named>,
    /// Where the pattern goes on, if it is a folder.
    below: Vec<((usize, usize), Named)>,
}

impl Walker {
    pub(super) fn new(project: &Path, store: Option<&Path>) -> Self {
        Self {
            rules: RulesReader::new(project),
            store: store.map(|store| store.canonicalize().unwrap_or_else(|_| store.to_owned())),
            listed: Vec::new(),
        }
    }

    /// The folders that were listed since this was called last, as they were before that, and, where something is left out,
    /// the ignore files that say what.
    pub(super) fn seen(&mut self, leave: Leave) -> Vec<Seen> {
        let (folders, mut seen): (Vec<PathBuf>, Vec<Seen>) =
            std::mem::take(&mut self.listed).into_iter().unzip();
        if leave == Leave::Clutter {
            seen.extend(self.rules.read_for(&folders));
        }
        seen
    }

    /// Whether a path (without links) is the store, or in it.
    pub(super) fn in_store(&self, path: &Path) -> bool {
        self.store.as_ref().is_some_and(|store| path.starts_with(store))
    }

    /// Everything below a folder, empty folders too; sorted by bytes.
    pub(super) fn folder(&mut self, base: &Base<'_>) -> Result<Vec<Found>, Unfound> {
        let mut found = self.search(base, &[vec![Component::AnyDepth]], true)?;
        found.sort();
        check_links(base, &found)?;
        Ok(found)
    }

    /// The files that a glob matches below its fixed part; sorted by bytes.
    pub(super) fn glob(
        &mut self,
        base: &Base<'_>,
        alternatives: &[Vec<Component>],
    ) -> Result<Vec<Found>, Unfound> {
        let mut found = self.search(base, alternatives, false)?;
        found.sort();
        check_links(base, &found)?;
        whole_links(base, found)
    }

    /// Whether what is going to stand at a place below a folder would be found: a file, or a folder with whatever in it.
    /// Nothing has to be there yet.
    pub(super) fn would_find(
        &mut self,
        base: &Base<'_>,
        alternatives: &[Vec<Component>],
        names: &[&str],
        is_folder: bool,
    ) -> bool {
        let mut states: Vec<(usize, usize)> =
            (0..alternatives.len()).map(|alternative| (alternative, 0)).collect();
        let mut full = base.folder.to_owned();
        for (at, name) in names.iter().enumerate() {
            let rules = match base.leave {
                Leave::Clutter => self.rules.of(&full),
                Leave::Nothing => Arc::new(Rules::default()),
            };
            full.push(name);
            let last = at + 1 == names.len();
            let lets = |named: Named| {
                named == Named::Outright
                    || *name != ".git"
                        && (base.leave == Leave::Nothing
                            || (named == Named::Dot || !name.starts_with('.'))
                                && !is_clutter(name)
                                && !rules.exclude(&full, !last || is_folder))
            };
            let step = step(alternatives, &closure(alternatives, states), name);
            if last && !is_folder {
                return step.wanted.is_some_and(lets);
            }
            states =
                step.below.into_iter().filter(|(_, named)| lets(*named)).map(|(state, _)| state).collect();
        }
        // What will be in it is not known: it is found for sure only where everything is.
        closure(alternatives, states).into_iter().any(|(alternative, at)| {
            let components = &alternatives[alternative];
            at + 1 == components.len() && components.get(at) == Some(&Component::AnyDepth)
        })
    }

    fn search(
        &mut self,
        base: &Base<'_>,
        alternatives: &[Vec<Component>],
        folders: bool,
    ) -> Result<Vec<Found>, Unfound> {
        let real = base.folder.canonicalize();
        let real =
            real.map_err(|error| Unfound::io(format!("cannot look into `{}`", base.show("")), error))?;
        let mut found = Vec::new();
        let start = (0..alternatives.len()).map(|alternative| (alternative, 0)).collect();
        let mut open: Vec<(String, Vec<(usize, usize)>)> = vec![(String::new(), start)];
        while let Some((folder, states)) = open.pop() {
            let states = closure(alternatives, states);
            let full = base.folder.join(&folder);
            let rules = match base.leave {
                Leave::Clutter => self.rules.of(&full),
                Leave::Nothing => Arc::new(Rules::default()),
            };
            self.listed.push((full.clone(), Seen::at(&full)));
            let names = names(base, &folder, &full, alternatives, &states)?;
            if names.is_empty() && folders && !folder.is_empty() {
                found.push(Found { path: folder, what: FoundWhat::Folder });
                continue;
            }
            for (name, kind) in names {
                // A name that is no text can be matched by what is not spelled out; whether that is wrong
                // turns out when it would be given to somebody.
                let text = name.to_string_lossy();
                let step = step(alternatives, &states, &text);
                let path = if folder.is_empty() { text.to_string() } else { format!("{folder}/{text}") };
                let child = full.join(&name);
                let mut excluded = None;
                let mut lets = |named: Named| {
                    named == Named::Outright
                        || text != ".git"
                            && (base.leave == Leave::Nothing
                                || (named == Named::Dot || !text.starts_with('.'))
                                    && !is_clutter(&text)
                                    && !*excluded.get_or_insert_with(|| rules.exclude(&child, kind.is_dir())))
                };
                if kind.is_dir() {
                    let below: Vec<_> = step
                        .below
                        .into_iter()
                        .filter(|(_, named)| lets(*named))
                        .map(|(state, _)| state)
                        .collect();
                    if !below.is_empty() && !self.in_store(&real.join(&path)) {
                        is_text(base, &name, &path)?;
                        open.push((path, below));
                    }
                } else if step.wanted.is_some_and(&mut lets) {
                    is_text(base, &name, &path)?;
                    let what = what(base, &path, &child, kind)?;
                    found.push(Found { path, what });
                }
            }
        }
        Ok(found)
    }
}

/// The states, and those that `**` for no folder at all leads to.
fn closure(alternatives: &[Vec<Component>], states: Vec<(usize, usize)>) -> Vec<(usize, usize)> {
    let mut all = BTreeSet::new();
    for (alternative, mut at) in states {
        let components = &alternatives[alternative];
        while all.insert((alternative, at))
            && components.get(at) == Some(&Component::AnyDepth)
            && at + 1 < components.len()
        {
            at += 1;
        }
    }
    all.into_iter().collect()
}

/// What stands in a folder; where only names are asked for, only they are looked at.
fn names(
    base: &Base<'_>,
    folder: &str,
    full: &Path,
    alternatives: &[Vec<Component>],
    states: &[(usize, usize)],
) -> Result<Vec<(std::ffi::OsString, FileType)>, Unfound> {
    let cannot = |error| Unfound::io(format!("cannot look into `{}`", base.show(folder)), error);
    let literals: Option<BTreeSet<&str>> = states
        .iter()
        .map(|(alternative, at)| match alternatives[*alternative].get(*at) {
            Some(Component::Literal(name)) => Some(name.as_str()),
            Some(Component::AnyDepth | Component::Wild(_)) | None => None,
        })
        .collect();
    let mut names = Vec::new();
    if let Some(literals) = literals {
        for name in literals {
            match full.join(name).symlink_metadata() {
                Ok(metadata) => names.push((name.into(), metadata.file_type())),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(cannot(error)),
            }
        }
        return Ok(names);
    }
    for entry in full.read_dir().map_err(cannot)? {
        let entry = entry.map_err(cannot)?;
        names.push((entry.file_name(), entry.file_type().map_err(cannot)?));
    }
    Ok(names)
}

/// Takes the states of a pattern over one name.
fn step(alternatives: &[Vec<Component>], states: &[(usize, usize)], name: &str) -> Step {
    let mut step = Step { wanted: None, below: Vec::new() };
    for &(alternative, at) in states {
        let components = &alternatives[alternative];
        let last = at + 1 == components.len();
        let named = match components.get(at) {
            Some(Component::AnyDepth) => {
                step.below.push(((alternative, at), Named::No));
                if last {
                    step.wanted = step.wanted.max(Some(Named::No));
                }
                continue;
            }
            Some(Component::Literal(literal)) if literal == name => Named::Outright,
            Some(Component::Wild(wild)) if wild.matches(name) => {
                if wild.names_a_dot() {
                    Named::Dot
                } else {
                    Named::No
                }
            }
            Some(Component::Literal(_) | Component::Wild(_)) | None => continue,
        };
        if last {
            step.wanted = step.wanted.max(Some(named));
        } else {
            step.below.push(((alternative, at + 1), named));
        }
    }
    step
}

/// Refuses a name that is not text, now that it would be given.
fn is_text(base: &Base<'_>, name: &OsStr, path: &str) -> Result<(), Unfound> {
    if name.to_str().is_some() {
        return Ok(());
    }
    let message = format!("the name of `{}` is not UTF-8", base.show(path));
    Err(Unfound::new(message).hint("rename it, or keep it out with a narrower pattern"))
}

fn what(base: &Base<'_>, path: &str, full: &Path, kind: FileType) -> Result<FoundWhat, Unfound> {
    if kind.is_file() {
        return Ok(FoundWhat::File);
    }
    if kind.is_symlink() {
        let target = full.read_link();
        let target = target
            .map_err(|error| Unfound::io(format!("cannot read the link `{}`", base.show(path)), error))?;
        return match target.into_os_string().into_string() {
            Ok(target) => Ok(FoundWhat::Link(target)),
            Err(_) => Err(Unfound::new(format!("the target of the link `{}` is not UTF-8", base.show(path)))),
        };
    }
    Err(Unfound::new(format!("`{}` is {}", base.show(path), special(kind)))
        .hint("only files, folders and links can be given to a step"))
}

/// The words for what is neither a file, a folder nor a link.
pub(super) fn special(kind: FileType) -> &'static str {
    if kind.is_socket() {
        "a socket"
    } else if kind.is_fifo() {
        "a named pipe"
    } else {
        "a device"
    }
}

/// Refuses links that leave the folder. The rules are those of trees, so that what is measured and what is
/// stored agree; digests do not matter to them.
fn check_links(base: &Base<'_>, found: &[Found]) -> Result<(), Unfound> {
    if !found.iter().any(|found| matches!(found.what, FoundWhat::Link(_))) {
        return Ok(());
    }
    let digest = Digest::from_bytes([0; 32]);
    let entries = found.iter().map(|found| Entry {
        path: found.path.clone(),
        node: match &found.what {
            FoundWhat::File => Node::File { digest, len: 0, executable: false },
            FoundWhat::Link(target) => Node::Link { target: target.clone() },
            FoundWhat::Folder => Node::Folder,
        },
    });
    match Tree::new(entries.collect()) {
        Ok(_) => Ok(()),
        Err(TreeError::Entry { path, what }) => {
            let message = format!("`{}` {what}", base.show(&path));
            Err(Unfound::new(message)
                .hint("make it a copy, or a relative link to something inside the folder"))
        }
        Err(TreeError::Encoding { what }) => Err(Unfound::new(what)),
    }
}

/// The links of a glob must lead to something that it matched as well: the step would be given a link to
/// nothing. Links to folders are left out with those, unless the glob takes something of the folder.
fn whole_links(base: &Base<'_>, found: Vec<Found>) -> Result<Vec<Found>, Unfound> {
    if !found.iter().any(|found| matches!(found.what, FoundWhat::Link(_))) {
        return Ok(found);
    }
    let real = base.folder.canonicalize();
    let real = real.map_err(|error| Unfound::io(format!("cannot look into `{}`", base.show("")), error))?;
    let mut reached = HashSet::new();
    for found in &found {
        reached.insert(found.path.clone());
        for (end, _) in found.path.match_indices('/') {
            reached.insert(found.path[..end].to_owned());
        }
    }
    let mut kept = Vec::with_capacity(found.len());
    for found in found {
        if let FoundWhat::Link(target) = &found.what {
            let link = base.show(&found.path);
            let Ok(leads_to) = base.folder.join(&found.path).canonicalize() else {
                return Err(Unfound::new(format!("`{link}` is a link to `{target}`, which is not there")));
            };
            let inside = leads_to.strip_prefix(&real).ok().and_then(Path::to_str);
            if !inside.is_some_and(|inside| reached.contains(inside)) {
                if leads_to.is_dir() {
                    continue;
                }
                let message = format!("`{link}` is a link to `{target}`, which the pattern does not match");
                return Err(Unfound::new(message).hint("widen the pattern, or make it a copy"));
            }
        }
        kept.push(found);
    }
    Ok(kept)
}
