//! Which targets cannot be: two that are one place, one inside of another, and places that hold what the pipeline
//! is made of. Pure: what is declared was measured before.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Placed, placed};
use crate::error::Diagnostic;
use crate::graph::Graph;
use crate::plan::Plan;
use crate::source::MeasuredFile;

/// The names on the way to a target.
fn parts(target: &str) -> Vec<&str> {
    target.split('/').filter(|part| !matches!(*part, "" | ".")).collect()
}

/// Targets that are one place, or of which one lies inside of another: each at its place in the file.
pub(crate) fn collisions(graph: &Graph) -> Vec<Diagnostic> {
    let placed = placed(graph);
    let mut sorted: Vec<(Vec<&str>, &Placed)> =
        placed.iter().map(|placed| (parts(&placed.target), placed)).collect();
    // Of equal ones, the one that stands later in the file is the one too many.
    sorted.sort_by(|(a, _), (b, _)| a.cmp(b));
    let mut found = Vec::new();
    let mut outer: Option<&(Vec<&str>, &Placed)> = None;
    for this in &sorted {
        // Sorted by parts, a place comes directly before all those that are inside of it.
        let Some(over) = outer.filter(|outer| this.0.starts_with(&outer.0)) else {
            outer = Some(this);
            continue;
        };
        let name = |placed: &Placed| graph.output_name(placed.output);
        let diagnostic = if over.0.len() == this.0.len() {
            let message = format!(
                "`{}` and `{}` are both published as `{}`",
                name(over.1),
                name(this.1),
                this.1.target
            );
            Diagnostic::new(message).hint("give each a place of its own")
        } else {
            let message = format!(
                "`{}` would be published inside of `{}`, which is `{}`",
                this.1.target,
                over.1.target,
                name(over.1)
            );
            Diagnostic::new(message).hint("give each a place that is in no other")
        };
        found.push(diagnostic.at(this.1.place.as_ref()));
    }
    found
}

/// Targets that hold, or lie in, what the pipeline is made of: its file, its run config, what its steps are given,
/// and the store.
///
/// # Errors
/// All of them, each at its place in the file.
pub fn check(plan: &Plan, store: Option<&Path>) -> Result<(), Vec<Diagnostic>> {
    let graph = &plan.graph;
    let pipeline = &graph.pipeline;
    let placed = placed(graph);
    if placed.is_empty() {
        return Ok(());
    }
    let project = &pipeline.folder;
    let measures = &plan.measures;
    let mut own: BTreeMap<Vec<&str>, &Placed> =
        placed.iter().map(|placed| (parts(&placed.target), placed)).collect();
    let mut wrong: BTreeMap<&str, Diagnostic> = BTreeMap::new();
    // One that lies behind a link stands at both of its places.
    for placed in &placed {
        if let Some(link) = measures.nowhere.get(&placed.target) {
            let message = format!("`{}` leads to nothing: the link `{}` does", placed.target, link.display());
            let hint = "make the folder that it leads to, or publish elsewhere";
            let diagnostic = Diagnostic::new(message).hint(hint);
            wrong.insert(&placed.target, diagnostic.at(placed.place.as_ref()));
            continue;
        }
        let Some(real) = measures.through.get(&placed.target) else { continue };
        let Ok(inside) = real.strip_prefix(project.components().collect::<PathBuf>()) else {
            let message =
                format!("`{}` leads out of the project: a link leads to `{}`", placed.target, real.display());
            let hint = "publish into the project: what lies elsewhere is not the pipeline's";
            let diagnostic = Diagnostic::new(message).hint(hint);
            wrong.insert(&placed.target, diagnostic.at(placed.place.as_ref()));
            continue;
        };
        let Some(real) = inside.to_str().map(parts) else { continue };
        let other = own.entry(real).or_insert(placed);
        if other.target != placed.target {
            let message =
                format!("`{}` and `{}` are one place: a link leads there", other.target, placed.target);
            let diagnostic = Diagnostic::new(message).hint("give each a place of its own");
            wrong.insert(&placed.target, diagnostic.at(placed.place.as_ref()));
        }
    }
    // Those that no link leads to were held against each other before.
    let mut outer: Option<(&Vec<&str>, &Placed)> = None;
    for (place, placed) in &own {
        let Some((_, over)) = outer.filter(|(outer, _)| place.starts_with(outer)) else {
            outer = Some((place, placed));
            continue;
        };
        let is_behind_a_link = |placed: &Placed| measures.through.contains_key(&placed.target);
        if over.target != placed.target && (is_behind_a_link(over) || is_behind_a_link(placed)) {
            wrong.entry(&placed.target).or_insert_with(|| {
                let message = format!(
                    "`{}` would be published inside of `{}`: a link leads there",
                    placed.target, over.target
                );
                let hint = "give each a place that is in no other";
                Diagnostic::new(message).hint(hint).at(placed.place.as_ref())
            });
        }
    }
    // A declared file is in the way of the target that is it, or that is a folder above it.
    let mut declared = |file: &Path, what: &dyn Fn() -> String| {
        let Ok(below) = file.strip_prefix(project) else { return };
        let Some(below) = below.to_str() else { return };
        let below = parts(below);
        for upto in 1..=below.len() {
            let Some(placed) = own.get(&below[..upto]) else { continue };
            wrong.entry(placed.target.as_str()).or_insert_with(|| {
                let message = if upto == below.len() {
                    format!("`{}` is {}: nothing can be published there", placed.target, what())
                } else {
                    let file = below.join("/");
                    format!("`{}` holds `{file}`, {}: nothing can be published there", placed.target, what())
                };
                let hint = "publish it elsewhere: it would change what the pipeline is made of";
                Diagnostic::new(message).hint(hint).at(placed.place.as_ref())
            });
        }
    };
    if let Some(name) = pipeline.file.as_deref().and_then(Path::file_name) {
        declared(&pipeline.home.join(name), &|| "the pipeline file".to_owned());
    }
    for file in pipeline.included() {
        declared(&file, &|| "a file that the pipeline includes".to_owned());
    }
    for file in &pipeline.run_config {
        declared(&pipeline.home.join(file), &|| "a run config of the pipeline".to_owned());
    }
    let mut seen = Vec::new();
    let mut files = |files: &Arc<crate::source::FileSet>, what: &dyn Fn() -> String| {
        // Solids that declare the same share their list.
        let list = Arc::as_ptr(files);
        if !seen.contains(&list) {
            seen.push(list);
            files.files.iter().for_each(|file: &MeasuredFile| declared(&file.from, what));
        }
    };
    for (invocation, code) in pipeline.invocations.iter().zip(&measures.code) {
        if let Some(code) = code {
            files(code, &|| format!("code of `{}`", invocation.name));
        }
    }
    for (resource, of) in graph.resources.iter().zip(&measures.resources) {
        if let Some(of) = of {
            files(of, &|| format!("a file of the resource `{}`", resource.definition.name));
        }
    }
    for (input, path) in graph.paths.iter().zip(&measures.paths) {
        if let Some(path) = path {
            path.files.files.iter().for_each(|file| {
                declared(&file.from, &|| format!("a file of the input `{}`", input.path));
            });
        }
    }
    for placed in &placed {
        if let Some(what) = measures.reached.get(&placed.target) {
            wrong.entry(&placed.target).or_insert_with(|| {
                let message =
                    format!("`{}` would be found by {what}: nothing can be published there", placed.target);
                let hint =
                    "publish it elsewhere, or declare less: it would change what the pipeline is made of";
                Diagnostic::new(message).hint(hint).at(placed.place.as_ref())
            });
        }
        // Also of steps that are not planned, whose files were not measured: what is put there takes their place.
        if let Some(what) = measures.holds.get(&placed.target) {
            wrong.entry(&placed.target).or_insert_with(|| {
                let message =
                    format!("`{}` is where {what} is: nothing can be published there", placed.target);
                let hint = "publish it elsewhere: it would change what the pipeline is made of";
                Diagnostic::new(message).hint(hint).at(placed.place.as_ref())
            });
        }
        let target = project.join(&placed.target);
        let in_the_way = |store: &Path| {
            [Some(&target), measures.through.get(&placed.target)]
                .into_iter()
                .flatten()
                .any(|target| target.starts_with(store) || store.starts_with(target))
        };
        if let Some(store) = store
            && in_the_way(store)
        {
            let message = format!("`{}` is in the way of the store, `{}`", placed.target, store.display());
            let hint = "publish it elsewhere: what is in the store is nobody's but cas's";
            wrong
                .entry(&placed.target)
                .or_insert_with(|| Diagnostic::new(message).hint(hint).at(placed.place.as_ref()));
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.into_values().collect()) }
}
