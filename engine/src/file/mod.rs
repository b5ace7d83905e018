//! `pipeline.yaml` into definitions. Pure but for the reader that it is given, which reads the files that it names.
//!
//! ```text
//! text ─► node ─► reader with keys ─► solids, inputs, outputs, matrix, resources ─► Pipeline ─► check
//!                                      └ template, shell, reference
//! ```
//!
//! Everything that is wrong is reported at once, in the order of the text, with its line and what to do.

mod excerpt;
mod fields;
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

use std::path::Path;

use crate::error::Diagnostic;
use crate::pipeline::{Pipeline, Publish};

pub use excerpt::{add_excerpts, excerpt};
pub(crate) use reference::written_label;
pub use reference::{Wrong, is_name, reference, variable};
pub use run_config::{run_config, set};
pub use schema::json_schema;
pub use template::{Filled, arguments, quote, shell_line, text, value_text};

/// Gives the text of a file that a pipeline names (a table of rows), by its path.
pub type Read<'a> = dyn FnMut(&Path) -> std::io::Result<String> + 'a;

/// Turns the text of a pipeline file into its definition. The path is the one that messages show; the project
/// folder is the one it stands in, so an absolute path gives an absolute folder.
///
/// # Errors
/// Everything that is wrong with it, in the order of the text, each with place, excerpt and hint.
pub fn pipeline(path: &Path, text: &str, read: &mut Read<'_>) -> Result<Pipeline, Vec<Diagnostic>> {
    let mut reader = reader::Reader::new(&path.to_string_lossy(), text);
    let root = match node::parse(text) {
        Ok(root) => root,
        Err(faults) => {
            reader.faults(faults);
            return Err(reader.finish());
        }
    };
    let Some(root) = root.filter(|root| !root.is_null()) else {
        let hint = "the smallest one is: solids: {hello: {command: echo hello, stdout: result}}";
        reader.fault(node::Mark { line: 1, column: 1 }, "the pipeline file is empty", hint);
        return Err(reader.finish());
    };
    let pipeline = document(&mut reader, &root, path, read);
    if reader.diagnostics.is_empty()
        && let Some(pipeline) = pipeline
    {
        for mut finding in pipeline.findings() {
            if let (Some(before), Some(place)) = (finding.before, &finding.diagnostic.place) {
                let exact = excerpt::placeholder(text, place, before);
                finding.diagnostic.place = exact.or_else(|| finding.diagnostic.place.clone());
            }
            reader.diagnostics.push(finding.diagnostic);
        }
        if reader.diagnostics.is_empty() {
            return Ok(pipeline);
        }
    }
    Err(reader.finish())
}

fn document(
    reader: &mut reader::Reader<'_>,
    root: &node::Node,
    path: &Path,
    read: &mut Read<'_>,
) -> Option<Pipeline> {
    let fields = reader.object(root, &keys::PIPELINE)?;
    let folder = path.parent().map(Path::to_owned).unwrap_or_default();
    let config = fields.get("config").map(|node| fields::schema(reader, node, None)).unwrap_or_default();
    let text = |reader: &mut reader::Reader<'_>, key: &str| {
        fields.get(key).and_then(|node| reader.some_text(node, key))
    };
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    let name = text(reader, "pipeline").or(stem).unwrap_or_default();
    let description = text(reader, "description");
    let store = text(reader, "store");
    let run_config =
        fields.get("run_config").map(|node| reader.texts(node, "run_config")).unwrap_or_default();
    let resources = fields.get("resources").map(|node| resources::resources(reader, node, &config));
    let modes = fields.get("modes").map(|node| resources::modes(reader, node, &config)).unwrap_or_default();
    let defaults =
        fields.get("defaults").map(|node| solids::Defaults::read(reader, node)).unwrap_or_default();
    let sandbox = fields.get("sandbox").and_then(|node| solids::sandbox(reader, node));
    let defaults = defaults.or_sandbox(sandbox);
    let mut matrices = matrix::Matrices::new(&folder, read);
    if let Some(node) = fields.get("matrices") {
        matrices.declare(reader, node);
    }
    let invocations = match fields.get("solids") {
        Some(node) => solids::solids(reader, node, &config, &defaults, &mut matrices),
        None => {
            // A file of another tool has its steps under another word, which was told already.
            if reader.diagnostics.is_empty() {
                let hint = "write solids: {hello: {command: echo hello, stdout: result}}";
                reader.fault(root.at, "the pipeline has no `solids`", hint);
            }
            Vec::new()
        }
    };
    let publish = fields.get("publish").map(|node| publish(reader, node)).unwrap_or_default();
    Some(Pipeline {
        name,
        description,
        file: Some(path.to_owned()),
        folder,
        run_config: run_config.into_iter().map(|(text, _)| text).collect(),
        store,
        config,
        resources: resources.unwrap_or_default(),
        modes,
        invocations,
        publish,
    })
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
