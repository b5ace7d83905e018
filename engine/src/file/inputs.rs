//! Reads `inputs:`: references, fan-ins, paths, literals, defaults and probes.
//!
//! Pure. Whether what is referred to exists is checked with the whole pipeline.

use crate::pipeline::{Input, OutputRef, Source};
use crate::solid::{Part, Template};

use super::keys;
use super::node::{Entry, Kind, Mark, Node};
use super::reader::Reader;
use super::reference::{name_of, reference};
use super::shell::Dialect;

/// Reads the inputs of an invocation, in the order of the file.
pub(crate) fn inputs(reader: &mut Reader<'_>, node: &Node) -> Vec<Input> {
    if let Kind::List(_) = node.kind {
        let hint = "an input has a name: write inputs: {dog: emit_dog, notes: {path: data/notes.txt}}";
        reader.expected(node, "inputs", "a map", hint);
        return Vec::new();
    }
    let mut inputs: Vec<Input> = Vec::new();
    for entry in reader.entries(node, "inputs", "inputs: {dog: emit_dog}") {
        let name = name_of(&entry.key);
        if entry.key.contains('/') || !reader.name(name, entry.at) {
            if entry.key.contains('/') {
                let hint = format!("name it: {{notes: {{path: {}}}}}", entry.key);
                reader.fault(entry.at, format!("`{}` is a path, and an input has a name", entry.key), hint);
            }
            continue;
        }
        if let Some(source) = source(reader, entry) {
            let place = Some(reader.place(entry.at));
            inputs.push(Input { name: name.to_owned(), file_name: entry.key.clone(), source, place });
        }
    }
    inputs
}

fn source(reader: &mut Reader<'_>, entry: &Entry) -> Option<Source> {
    let node = &*entry.value;
    match &node.kind {
        Kind::Scalar(_) if node.is_null() => {
            let hint = format!("say where it comes from: {}: some_step, or {{value: null}}", entry.key);
            reader.fault(entry.at, format!("the input `{}` comes from nowhere", entry.key), hint);
            None
        }
        Kind::Scalar(scalar) => match super::scalar::resolve(scalar) {
            Ok(crate::value::Value::Str(text)) => output_ref(reader, &text, node.at).map(Source::Output),
            _ => {
                let hint = format!("for a literal write {}: {{value: {}}}", entry.key, scalar.text);
                reader.expected(node, &entry.key, "the name of a step", hint);
                None
            }
        },
        Kind::List(items) => {
            if items.is_empty() {
                let hint = "name the steps, or leave the input out";
                reader.fault(node.at, format!("the input `{}` is a fan-in of nothing", entry.key), hint);
                return None;
            }
            let mut refs = Vec::with_capacity(items.len());
            for item in items {
                let Some(text) = reader.some_text(item, &entry.key) else { continue };
                refs.extend(output_ref(reader, &text, item.at));
            }
            Some(Source::FanIn(refs))
        }
        Kind::Map(_) => long(reader, entry),
    }
}

/// A reference with its place.
pub(crate) fn output_ref(reader: &mut Reader<'_>, text: &str, at: Mark) -> Option<OutputRef> {
    match reference(text) {
        Ok(reference) => Some(OutputRef { place: Some(reader.place(at)), ..reference }),
        Err(wrong) => {
            reader.wrong(at, wrong);
            None
        }
    }
}

/// `{path: …}`, `{value: …}`, `{default: …}`, `{probe: …}`.
fn long(reader: &mut Reader<'_>, entry: &Entry) -> Option<Source> {
    let fields = reader.object(&entry.value, &keys::INPUT)?;
    let kinds = ["path", "value", "default", "probe"];
    let given: Vec<_> = kinds.into_iter().filter(|kind| fields.any(kind).is_some()).collect();
    let [kind] = given.as_slice() else {
        if given.is_empty() && fields.unknown {
            return None;
        }
        let message = match given.as_slice() {
            [] => format!("the input `{}` says neither path, value, default nor probe", entry.key),
            _ => format!("the input `{}` says {}: it is one of these", entry.key, given.join(" and ")),
        };
        let hint = if given.is_empty() {
            "write {path: data/x.txt} or {value: 3}; an output is written as it is: step.output"
        } else {
            ""
        };
        reader.fault(entry.at, message, hint);
        return None;
    };
    for (key, of) in [("external", "path"), ("every", "probe")] {
        if let (Some(extra), true) = (fields.entry(key), *kind != of) {
            reader.fault(extra.at, format!("`{key}` goes with `{of}`, and this input has a `{kind}`"), "");
        }
    }
    let node = fields.any(kind)?;
    match *kind {
        "value" => reader.value(node).map(Source::Value),
        "default" => reader.value(node).map(Source::Default),
        "path" => {
            let text = reader.some_text(node, "path")?;
            let path = reader.template(&text, node.at);
            values_only(reader, &path, node.at, "a path");
            let external = fields.get("external").and_then(|node| reader.bool(node, "external"));
            Some(Source::Path { path, external: external.unwrap_or(false) })
        }
        _ => {
            let text = reader.some_text(node, "probe")?;
            let command = reader.shell_template(&text, node.at, &Dialect::Sh);
            values_only(reader, &command, node.at, "a probe");
            let every = fields.get("every").and_then(|node| reader.duration(node, "every"));
            Some(Source::Probe { command, every })
        }
    }
}

/// Notes a fault where a template asks for what is only known when a step runs.
pub(crate) fn values_only(reader: &mut Reader<'_>, template: &Template, at: Mark, what: &str) {
    let known = |part: &Part| matches!(part, Part::Config(_) | Part::Matrix { .. });
    reader.allow(template, at, known, what, "only {{ config.x }} and {{ matrix.x }} are known here");
}
