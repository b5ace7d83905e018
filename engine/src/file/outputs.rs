//! Reads `outputs:` and `stdout:`.
//!
//! Pure. Whether two outputs are in each other's way is checked with the whole pipeline.

use crate::solid::OutputDecl;

use super::keys;
use super::node::{Kind, Mark, Node};
use super::reader::{Fields, Reader};
use super::reference::name_of;

/// The outputs of a solid in declared order, and the name of the one that its standard output becomes.
pub(crate) fn outputs(
    reader: &mut Reader<'_>,
    fields: &Fields<'_>,
    at: Mark,
) -> (Vec<OutputDecl>, Option<String>) {
    let stdout = fields.get("stdout").and_then(|node| Some((reader.some_text(node, "stdout")?, node.at)));
    let mut outputs = Vec::new();
    match fields.get("outputs") {
        Some(node) => match &node.kind {
            Kind::List(items) => {
                for item in items {
                    output(reader, item, &mut outputs);
                }
            }
            Kind::Scalar(_) | Kind::Map(_) => output(reader, node, &mut outputs),
        },
        None if stdout.is_none() => outputs.extend(declare(reader, "result", at)),
        None => {}
    }
    let stdout = stdout.map(|(written, at)| {
        let name = name_of(&written);
        // It declares the output, unless `outputs` says more about it.
        if !outputs.iter().any(|output| output.name == name) {
            outputs.extend(declare(reader, &written, at));
        }
        name.to_owned()
    });
    (outputs, stdout)
}

/// One item: `chart.png`, or `{report: {at: site/, optional: true}}` (several in one map are several).
fn output(reader: &mut Reader<'_>, item: &Node, outputs: &mut Vec<OutputDecl>) {
    match &item.kind {
        Kind::Scalar(_) => {
            if let Some(text) = reader.some_text(item, "outputs") {
                outputs.extend(declare(reader, &text, item.at));
            }
        }
        Kind::Map(_) => {
            for entry in reader.entries(item, "outputs", "outputs: [result, {report: {at: site/}}]") {
                let Some(mut output) = declare(reader, &entry.key, entry.at) else { continue };
                let Some(fields) = reader.object(&entry.value, &keys::OUTPUT) else { continue };
                if let Some(node) = fields.get("at")
                    && let Some(text) = reader.some_text(node, "at")
                {
                    output.at = text;
                    output.place = Some(reader.place(node.at));
                }
                if let Some(node) = fields.get("optional") {
                    output.optional = reader.bool(node, "optional").unwrap_or(false);
                }
                if let Some(node) = fields.get("list") {
                    output.list = reader.bool(node, "list").unwrap_or(false);
                }
                outputs.push(output);
            }
        }
        Kind::List(_) => reader.expected(item, "outputs", "a name or {name: {at: …}}", ""),
    }
}

fn declare(reader: &mut Reader<'_>, written: &str, at: Mark) -> Option<OutputDecl> {
    let name = name_of(written);
    if written.contains('/') {
        let last = written.trim_end_matches('/').rsplit('/').next().map(name_of).filter(|n| !n.is_empty());
        let last = last.unwrap_or("result");
        let hint = if written.starts_with('/') {
            format!("an output lies in the step's folder: write it to `outputs/{last}`, and declare `{last}`")
        } else {
            format!("name it, and say where it is: {{{last}: {{at: {written}}}}}")
        };
        reader.fault(at, format!("`{written}` is a path, and an output has a name"), hint);
        return None;
    }
    if !reader.name(name, at) {
        return None;
    }
    Some(OutputDecl {
        name: name.to_owned(),
        at: format!("outputs/{written}"),
        optional: false,
        list: false,
        codec: "file".to_owned(),
        shape: None,
        place: Some(reader.place(at)),
    })
}
