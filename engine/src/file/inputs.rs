//! Reads `inputs:` and `map:`: references, fan-ins, gathers, paths, literals, defaults and probes, elements of lists.
//!
//! Pure. Whether what is referred to exists is checked with the whole pipeline.

use crate::pipeline::{Input, OutputRef, Pick, Share, Source};
use crate::solid::{Part, Template};

use super::keys;
use super::node::{Entry, Kind, Mark, Node};
use super::reader::{Fields, Reader};
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

/// Reads `map: {part: split.parts}`: the input that is an element of a list.
pub(crate) fn map(reader: &mut Reader<'_>, node: &Node) -> Option<Input> {
    let example = "map: {part: split.parts}";
    let entries = reader.entries(node, "map", example);
    let [entry] = entries.as_slice() else {
        match entries.get(1) {
            Some(second) => {
                let hint = "one list at a time; for all pairs of two, let a step yield the list of pairs";
                reader.fault(second.at, "`map` names two lists", hint);
            }
            None if matches!(node.kind, Kind::Map(_)) => {
                reader.fault(node.at, "`map` names no list", format!("write it like this: {example}"));
            }
            None => {}
        }
        return None;
    };
    let name = name_of(&entry.key);
    if !reader.name(name, entry.at) {
        return None;
    }
    let text = reader.some_text(&entry.value, &entry.key)?;
    let list = output_ref(reader, &text, entry.value.at)?;
    let place = Some(reader.place(entry.at));
    Some(Input { name: name.to_owned(), file_name: entry.key.clone(), source: Source::Element(list), place })
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

/// `{path: …}`, `{value: …}`, `{default: …}`, `{probe: …}`, `{gather: …}`.
fn long(reader: &mut Reader<'_>, entry: &Entry) -> Option<Source> {
    let fields = reader.object(&entry.value, &keys::INPUT)?;
    let kinds = ["path", "value", "default", "probe", "gather"];
    let given: Vec<_> = kinds.into_iter().filter(|kind| fields.any(kind).is_some()).collect();
    let [kind] = given.as_slice() else {
        if given.is_empty() && fields.unknown {
            return None;
        }
        let message = match given.as_slice() {
            [] => format!("the input `{}` says neither path, value, default, probe nor gather", entry.key),
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
    for (key, of) in
        [("external", "path"), ("every", "probe"), ("failed", "gather"), ("max_failed", "gather")]
    {
        if let (Some(extra), true) = (fields.entry(key), *kind != of) {
            reader.fault(extra.at, format!("`{key}` goes with `{of}`, and this input has a `{kind}`"), "");
        }
    }
    let node = fields.any(kind)?;
    match *kind {
        "value" => reader.value(node).map(Source::Value),
        "default" => reader.value(node).map(Source::Default),
        "gather" => gather(reader, node, &fields),
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

/// `{gather: train, failed: skip, max_failed: 2%}`.
fn gather(reader: &mut Reader<'_>, node: &Node, fields: &Fields<'_>) -> Option<Source> {
    let text = reader.some_text(node, "gather")?;
    let mut of = output_ref(reader, &text, node.at)?;
    match &of.pick {
        Pick::Same => of.pick = Pick::All,
        Pick::All => {}
        Pick::Where(_) => {
            let hint = "leave the brackets out: it gathers over the axes that this step lacks";
            reader.fault(node.at, format!("`{text}` picks elements, and `gather` takes all of them"), hint);
            return None;
        }
    }
    let failed = fields.get("failed").and_then(|node| Some((reader.some_text(node, "failed")?, node.at)));
    let most = fields.get("max_failed");
    match (failed, most) {
        (Some((word, at)), _) if word != "skip" => {
            reader.fault(
                at,
                format!("`failed` is `skip`, and this is `{word}`"),
                "without it, all must succeed",
            );
            None
        }
        (None, Some(most)) => {
            let hint = "write {gather: …, failed: skip, max_failed: 2%}";
            reader.fault(most.at, "`max_failed` goes with `failed: skip`", hint);
            None
        }
        (None, None) => Some(Source::Output(of)),
        (Some(_), None) => Some(Source::Gather { of, max_failed: Share::All }),
        (Some(_), Some(most)) => Some(Source::Gather { of, max_failed: share(reader, most)? }),
    }
}

/// `2%`, `0.5%` or a whole number.
fn share(reader: &mut Reader<'_>, node: &Node) -> Option<Share> {
    let text = match &node.kind {
        Kind::Scalar(scalar) => scalar.text.trim(),
        Kind::List(_) | Kind::Map(_) => "",
    };
    let share = match text.strip_suffix('%') {
        Some(percent) => {
            percent.trim().parse().ok().filter(|p: &f64| (0.0..=100.0).contains(p)).map(Share::Percent)
        }
        None => text.parse().ok().map(Share::Count),
    };
    if share.is_none() {
        reader.fault(node.at, "`max_failed` is no part of a whole", "write 2%, or a number of elements: 3");
    }
    share
}

/// Notes a fault where a template asks for what is only known when a step runs.
pub(crate) fn values_only(reader: &mut Reader<'_>, template: &Template, at: Mark, what: &str) {
    let known = |part: &Part| matches!(part, Part::Config(_) | Part::Matrix { .. });
    reader.allow(template, at, known, what, "only {{ config.x }} and {{ matrix.x }} are known here");
}
