//! `pipeline.yaml` into definitions. Pure but for the reader that it is given, which reads the files that it names.
//!
//! ```text
//! text ─► node ─► include ─► reader with keys ─► solids, inputs, outputs, matrix, resources ─► Pipeline ─► check
//!                                                └ template, shell, reference
//! ```
//!
//! A pipeline may stand in several files. Each is read by a reader of its own, so that everything knows its place;
//! what they say is put together by name, and no name twice.
//!
//! Everything that is wrong is reported at once, in the order of the text, with its line and what to do.

mod excerpt;
mod fields;
mod include;
mod inputs;
pub mod keys;
mod matrix;
mod node;
mod outputs;
mod reader;
mod reference;
mod resources;
mod run_config;
mod scalar;
mod schema;
mod shell;
mod solids;
mod template;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::error::{Diagnostic, Place};
use crate::pipeline::{Pipeline, Publish};
use crate::value::Schema;

use include::Document;
use reader::{Fields, Reader};

pub use excerpt::{add_excerpts, excerpt};
pub(crate) use include::tidy;
pub use reference::{Wrong, is_name, reference, variable};
pub(crate) use reference::{name_of, written_label};
pub use run_config::{
    Typed, run_config, set, sets_a_secret, sets_the_same, settable, value_as_typed, without_quotes,
};
pub use schema::json_schema;
pub use template::{Filled, arguments, quote, shell_line, text, value_text};

/// Gives the text of a file that a pipeline names (a table of rows), by its path.
pub type Read<'a> = dyn FnMut(&Path) -> std::io::Result<String> + 'a;

/// Turns the text of a pipeline file, and of those that it includes, into its definition. The path is the one that
/// messages show; the project folder is the one it stands in, or that its `root` names, so an absolute path gives an
/// absolute folder.
///
/// # Errors
/// Everything that is wrong with it, in the order of the text, each with place, excerpt and hint.
pub fn pipeline(path: &Path, text: &str, read: &mut Read<'_>) -> Result<Pipeline, Vec<Diagnostic>> {
    let documents = include::documents(path, text, read);
    let mut readers: Vec<Reader<'_>> = documents
        .iter()
        .map(|document| Reader::new(&document.path.to_string_lossy(), &document.text))
        .collect();
    for (reader, document) in readers.iter_mut().zip(&documents) {
        reader.faults(document.faults.clone());
    }
    let pipeline = whole(&mut readers, &documents, read);
    let mut wrong: Vec<Diagnostic> = readers.into_iter().flat_map(|reader| reader.diagnostics).collect();
    if wrong.is_empty()
        && let Some(pipeline) = pipeline
    {
        for mut finding in pipeline.findings() {
            if let (Some(before), Some(place)) = (finding.before, &finding.diagnostic.place) {
                let of = documents.iter().find(|document| *document.path.to_string_lossy() == *place.file);
                let exact = of.and_then(|document| excerpt::placeholder(&document.text, place, before));
                finding.diagnostic.place = exact.or_else(|| finding.diagnostic.place.clone());
            }
            wrong.push(finding.diagnostic);
        }
        if wrong.is_empty() {
            return Ok(pipeline);
        }
    }
    Err(in_order(wrong, &documents))
}

/// In the order of the files and their texts, each with its line shown.
fn in_order(mut wrong: Vec<Diagnostic>, documents: &[Document]) -> Vec<Diagnostic> {
    let files: Vec<String> =
        documents.iter().map(|document| document.path.to_string_lossy().into_owned()).collect();
    for (file, document) in files.iter().zip(documents) {
        excerpt::add_excerpts(&mut wrong, file, &document.text);
    }
    wrong.sort_by_key(|diagnostic| {
        diagnostic.place.as_ref().map_or((usize::MAX, 0, 0), |place| {
            let file = files.iter().position(|file| **file == *place.file);
            // What stands in a table comes behind the files.
            (file.unwrap_or(files.len()), place.line, place.column)
        })
    });
    wrong.dedup();
    wrong
}

/// Reads what the files say together; the last one is the one that includes the others.
fn whole(readers: &mut [Reader<'_>], documents: &[Document], read: &mut Read<'_>) -> Option<Pipeline> {
    let main = documents.len().checked_sub(1)?;
    let Some(root) = documents[main].root.as_deref() else {
        if documents[main].faults.is_empty() {
            let hint = "the smallest one is: solids: {hello: {command: echo hello, stdout: result}}";
            readers[main].fault(node::Mark { line: 1, column: 1 }, "the pipeline file is empty", hint);
        }
        return None;
    };
    let mut files: Vec<(usize, Fields<'_>)> = Vec::new();
    for (index, (reader, document)) in readers.iter_mut().zip(documents).enumerate() {
        let fields = document.root.as_deref().and_then(|root| reader.object(root, &keys::PIPELINE));
        files.extend(fields.map(|fields| (index, fields)));
    }
    let (_, fields) = *files.iter().find(|(index, _)| *index == main)?;
    for &(index, fields) in &files {
        if let Some(node) = fields.get(keys::INCLUDE) {
            readers[index].texts(node, keys::INCLUDE);
        }
    }
    let path = &documents[main].path;
    let home = path.parent().map(Path::to_owned).unwrap_or_default();
    let folder = folder(readers, documents, &files)?;
    once_each(readers, &files);
    let mut config = Schema::default();
    for &(index, fields) in &files {
        if let Some(node) = fields.get("config") {
            config.fields.extend(fields::schema(&mut readers[index], node, None).fields);
        }
    }
    let reader = &mut readers[main];
    let text =
        |reader: &mut Reader<'_>, key: &str| fields.get(key).and_then(|node| reader.some_text(node, key));
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    let name = text(reader, "pipeline").or(stem).unwrap_or_default();
    let description = text(reader, "description");
    let store = text(reader, "store");
    let run_config =
        fields.get("run_config").map(|node| reader.texts(node, "run_config")).unwrap_or_default();
    let mut pipeline = Pipeline {
        name,
        description,
        file: Some(path.clone()),
        includes: documents[..main].iter().map(|document| document.path.clone()).collect(),
        home,
        run_config: run_config.into_iter().map(|(text, _)| text).collect(),
        store,
        ..Pipeline::default()
    };
    let mut matrices = matrix::Matrices::new(&folder, read);
    let mut all_defaults: Vec<solids::Defaults> = Vec::new();
    for &(index, fields) in &files {
        let reader = &mut readers[index];
        if let Some(node) = fields.get("resources") {
            pipeline.resources.extend(resources::resources(reader, node, &config));
        }
        if let Some(node) = fields.get("modes") {
            pipeline.modes.extend(resources::modes(reader, node, &config));
        }
        let own = fields.get("defaults").map(|node| solids::Defaults::read(reader, node)).unwrap_or_default();
        let sandbox = fields.get("sandbox").and_then(|node| solids::sandbox(reader, node));
        all_defaults.push(own.or_sandbox(sandbox));
        if let Some(node) = fields.get("matrices") {
            matrices.declare(reader, node);
        }
        if let Some(node) = fields.get("publish") {
            pipeline.publish.extend(publish(reader, node));
        }
    }
    let mut drafts = Vec::new();
    for (at, &(index, fields)) in files.iter().enumerate() {
        // What an included file says holds for those that include it, as far as they do not say it themselves.
        let above = documents[index].includes.iter().filter_map(|included| {
            let at = files.iter().position(|(index, _)| index == included)?;
            all_defaults.get(at)
        });
        let defaults = above.fold(solids::Defaults::default(), |under, over| over.clone().over(&under));
        let defaults = all_defaults[at].clone().over(&defaults);
        if let Some(node) = fields.get("solids") {
            drafts.extend(solids::drafts(&mut readers[index], node, &config, &defaults, &mut matrices));
        }
    }
    if files.iter().all(|(_, fields)| fields.get("solids").is_none()) && readers.iter().all(Reader::is_fine) {
        // A file of another tool has its steps under another word, which was told already.
        let hint = "write solids: {hello: {command: echo hello, stdout: result}}";
        readers[main].fault(root.at, "the pipeline has no `solids`", hint);
    }
    pipeline.invocations = solids::resolve(&mut readers[main], drafts);
    Some(Pipeline { config, folder, ..pipeline })
}

/// The project folder: what paths begin from, in whichever file they stand.
fn folder(
    readers: &mut [Reader<'_>],
    documents: &[Document],
    files: &[(usize, Fields<'_>)],
) -> Option<PathBuf> {
    let main = documents.len() - 1;
    let mut found = vec![None; documents.len()];
    for &(index, fields) in files {
        let home = documents[index].path.parent().map(Path::to_owned).unwrap_or_default();
        let Some(node) = fields.get("root") else { continue };
        let Some(text) = readers[index].some_text(node, "root") else { continue };
        found[index] = include::project_folder(&home, &text);
        if found[index].is_none() {
            let hint = "it is a folder above this file, the repository's for example: root: ..";
            readers[index].fault(node.at, format!("`{text}` is no folder above this file"), hint);
        }
    }
    let home = documents[main].path.parent().map(Path::to_owned).unwrap_or_default();
    let folder = found[main].clone().unwrap_or(home);
    for &(index, fields) in files {
        if let (Some(other), Some(node)) = (&found[index], fields.get("root"))
            && *other != folder
        {
            let shown = |folder: &Path| match folder.to_string_lossy().into_owned() {
                here if here.is_empty() => ".".to_owned(),
                folder => folder,
            };
            let message = format!(
                "its paths begin in `{}`, and those of `{}`, which includes it, in `{}`",
                shown(other),
                documents[main].path.display(),
                shown(&folder)
            );
            readers[index].fault(node.at, message, "give both the same `root`, or leave it out here");
        }
    }
    Some(folder)
}

/// Notes a fault where two files define the same.
fn once_each(readers: &mut [Reader<'_>], files: &[(usize, Fields<'_>)]) {
    for (key, what) in [
        ("config", "config value"),
        ("resources", "resource"),
        ("modes", "mode"),
        ("matrices", "matrix"),
        ("solids", "solid"),
        ("publish", "target"),
    ] {
        let mut known: HashMap<&str, Place> = HashMap::new();
        for &(index, fields) in files {
            let entries = fields.get(key).map(|node| node.entries()).unwrap_or_default();
            for entry in entries.iter().filter(|entry| !entry.key.starts_with("x-")) {
                let place = readers[index].place(entry.at);
                match known.get(entry.key.as_str()) {
                    Some(first) if first.file != place.file => {
                        let message =
                            format!("the {what} `{}` is defined twice: here and at {first}", entry.key);
                        readers[index].fault(
                            entry.at,
                            message,
                            "give one of them another name, or take one out",
                        );
                    }
                    // Within one file, it was told when that was read.
                    _ => drop(known.insert(&entry.key, place)),
                }
            }
        }
    }
}

fn publish(reader: &mut reader::Reader<'_>, node: &node::Node) -> Vec<Publish> {
    let mut all = Vec::new();
    for entry in reader.entries(node, "publish", "publish: {results/chart.png: plot.chart}") {
        let Some(text) = reader.some_text(&entry.value, &entry.key) else { continue };
        if let Some(what) = inputs::output_ref(reader, &text, entry.value.at) {
            all.push(Publish { target: entry.key.clone(), what });
        }
    }
    all
}
