//! `include:`: the files of one pipeline, each read once, those that are included before the one that includes them.
//!
//! Pure but for the reader that it is given. What the files say together is `mod.rs`'s business.

use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use super::node::{self, Fault, Kind, Mark, Node};
use super::{Read, keys, scalar};
use crate::value::Value;

/// One file.
pub(crate) struct Document {
    /// As messages show it.
    pub(crate) path: PathBuf,
    pub(crate) text: String,
    /// What it holds; `None` where it is empty or no YAML.
    pub(crate) root: Option<Rc<Node>>,
    /// The documents that it includes, those that they include among them, in order.
    pub(crate) includes: Vec<usize>,
    /// What is wrong with it so far.
    pub(crate) faults: Vec<Fault>,
}

/// Reads a file and all that it includes, in turn.
pub(crate) fn documents(path: &Path, text: &str, read: &mut Read<'_>) -> Vec<Document> {
    let mut loading = Loading { read, done: Vec::new(), at: HashMap::new(), open: Vec::new() };
    loading.load(path.to_owned(), text.to_owned());
    loading.done
}

struct Loading<'r, 'f> {
    read: &'r mut Read<'f>,
    done: Vec<Document>,
    at: HashMap<PathBuf, usize>,
    /// Those that are being read, each included by the one before it.
    open: Vec<PathBuf>,
}

impl Loading<'_, '_> {
    fn load(&mut self, path: PathBuf, text: String) {
        let mut faults = Vec::new();
        let root = match node::parse(&text) {
            Ok(root) => root.filter(|root| !root.is_null()),
            Err(wrong) => {
                faults = wrong;
                None
            }
        };
        self.open.push(path.clone());
        let mut includes: Vec<usize> = Vec::new();
        let folder = path.parent().map(Path::to_owned).unwrap_or_default();
        for (name, at) in root.as_deref().map(included).unwrap_or_default() {
            let file = tidy(&folder.join(&name));
            if self.open.contains(&file) {
                let way: Vec<String> =
                    self.open.iter().chain([&file]).map(|path| format!("`{}`", path.display())).collect();
                let message = format!("`{name}` includes itself in the end: {}", way.join(" includes "));
                faults.push(Fault::new(at, message, Some("put what they share into a file of its own")));
            } else if !self.at.contains_key(&file) {
                match (self.read)(&file) {
                    Ok(text) => self.load(file.clone(), text),
                    Err(error) => {
                        let message = format!("the file `{}` cannot be read: {error}", file.display());
                        let hint =
                            "an included file is looked for from the folder of the file that includes it";
                        faults.push(Fault::new(at, message, Some(hint)));
                    }
                }
            }
            if let Some(index) = self.at.get(&file) {
                let more: Vec<usize> = self.done[*index]
                    .includes
                    .iter()
                    .chain([index])
                    .copied()
                    .filter(|of| !includes.contains(of))
                    .collect();
                includes.extend(more);
            }
        }
        self.open.pop();
        self.at.insert(path.clone(), self.done.len());
        self.done.push(Document { path, text, root, includes, faults });
    }
}

/// What a file includes. What is no text there is told by whoever reads the key.
fn included(root: &Node) -> Vec<(String, Mark)> {
    let Some(entry) = root.entries().iter().find(|entry| entry.key == keys::INCLUDE) else {
        return Vec::new();
    };
    let items: Vec<&Node> = match &entry.value.kind {
        Kind::List(items) => items.iter().map(|item| &**item).collect(),
        Kind::Scalar(_) | Kind::Map(_) => vec![&entry.value],
    };
    let text = |item: &&Node| match &item.kind {
        Kind::Scalar(scalar) => match scalar::resolve(scalar) {
            Ok(Value::Str(text)) if !text.trim().is_empty() => Some((text, item.at)),
            _ => None,
        },
        Kind::List(_) | Kind::Map(_) => None,
    };
    items.iter().filter_map(text).collect()
}

/// A path without `.`, and without each `..` that has something before it.
pub(crate) fn tidy(path: &Path) -> PathBuf {
    let mut tidy = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir if matches!(tidy.components().next_back(), Some(Component::Normal(_))) => {
                tidy.pop();
            }
            Component::ParentDir if tidy.has_root() => {}
            part => tidy.push(part),
        }
    }
    tidy
}

/// The folder that `root` names, from a file's folder: it is made of `..` alone.
pub(crate) fn project_folder(folder: &Path, root: &str) -> Option<PathBuf> {
    let up = |part: Component<'_>| matches!(part, Component::ParentDir | Component::CurDir);
    Path::new(root).components().all(up).then(|| tidy(&folder.join(root)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_lies_above_the_file() {
        let check = |folder: &str, root: &str, expected: Option<&str>| {
            assert_eq!(
                project_folder(Path::new(folder), root),
                expected.map(PathBuf::from),
                "{folder} {root}"
            );
        };
        check("/repo/a/b", "../..", Some("/repo"));
        check("/repo/a", ".", Some("/repo/a"));
        check("a/b", "../..", Some(""));
        check("a", "../..", Some(".."));
        check("", "..", Some(".."));
        check("/a", "../..", Some("/"));
        check("/repo/a", "../b", None);
        check("/repo/a", "/repo", None);
    }
}
