//! Which places that a pipeline publishes to lie where it would find them again, once something is put there: below a
//! declared folder, or where a declared glob matches. Looks at ignore files, not at what is there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::Needed;
use super::ignored::Leave;
use super::pattern::{Component, Pattern};
use super::walk::{Base, Walker};
use crate::graph::Graph;
use crate::publish;

/// A declaration that finds what lies below a folder.
struct Finds {
    alternatives: Vec<Vec<Component>>,
    leave: Leave,
    /// As messages call it.
    what: String,
}

/// For each place that would be found again: what would find it.
pub(super) fn reached(
    graph: &Graph,
    needed: &Needed,
    walker: &mut Walker,
    root: &dyn Fn(&Pattern) -> PathBuf,
) -> BTreeMap<String, String> {
    let placed = publish::placed(graph);
    let mut reached = BTreeMap::new();
    if placed.is_empty() {
        return reached;
    }
    // By the folder below which it looks, so that a place is held against few of them.
    let mut finds: BTreeMap<PathBuf, Vec<Finds>> = BTreeMap::new();
    let mut add = |text: &str, leave: Leave, what: String| {
        // What is wrong with a pattern was told when it was resolved.
        let Ok(pattern) = Pattern::parse(text) else { return };
        let folder = root(&pattern).join(pattern.fixed_text());
        let alternatives = if pattern.is_glob() {
            pattern.alternatives
        } else if folder.is_dir() {
            vec![vec![Component::AnyDepth]]
        } else {
            return;
        };
        finds.entry(folder).or_default().push(Finds { alternatives, leave, what });
    };
    for &index in &needed.invocations {
        let invocation = &graph.pipeline.invocations[index];
        for code in &invocation.solid.code {
            add(&code.text, Leave::Clutter, format!("the code `{}` of `{}`", code.text, invocation.name));
        }
    }
    for &index in &needed.resources {
        let definition = &graph.resources[index].definition;
        for files in &definition.files {
            let what = format!("the files `{}` of the resource `{}`", files.text, definition.name);
            add(&files.text, Leave::Clutter, what);
        }
    }
    for &index in &needed.paths {
        let path = &graph.paths[index].path;
        add(path, Leave::Nothing, format!("the input `{path}`"));
    }
    for placed in placed {
        let target = lexical(&graph.pipeline.folder.join(&placed.target));
        let output = &graph.solid(placed.output.step).outputs[usize::from(placed.output.output)];
        let is_folder = output.at.ends_with('/');
        let found = target.ancestors().skip(1).find_map(|folder| {
            let names: Vec<&str> =
                target.strip_prefix(folder).ok()?.iter().filter_map(|name| name.to_str()).collect();
            finds.get(folder)?.iter().find(|finds| {
                let base = Base { folder, shown: "", leave: finds.leave };
                walker.would_find(&base, &finds.alternatives, &names, is_folder)
            })
        });
        if let Some(finds) = found {
            reached.insert(placed.target, finds.what.clone());
        }
    }
    reached
}

/// A path without `.`.
fn lexical(path: &Path) -> PathBuf {
    path.components().collect()
}
