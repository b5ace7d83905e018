//! Reads `resources:` and `modes:`.
//!
//! Pure.

use std::collections::BTreeMap;

use crate::pipeline::Mode;
use crate::resource::Resource;
use crate::solid::{Part, Template};
use crate::value::Schema;

use super::fields;
use super::keys;
use super::node::{Entry, Kind, Mark, Node};
use super::reader::Reader;
use super::shell::Dialect;
use super::solids;

/// Reads definitions of resources by name.
pub(crate) fn resources(reader: &mut Reader<'_>, node: &Node, config: &Schema) -> BTreeMap<String, Resource> {
    let mut resources = BTreeMap::new();
    for entry in reader.names(node, "resources", "resources: {python: {probe: python3 -VV}}") {
        if let Some(resource) = resource(reader, entry, config) {
            resources.insert(entry.key.clone(), resource);
        }
    }
    resources
}

/// Reads the modes, in the order of the file.
pub(crate) fn modes(reader: &mut Reader<'_>, node: &Node, config: &Schema) -> Vec<Mode> {
    let mut modes = Vec::new();
    for entry in reader.names(node, "modes", "modes: {debug: {resources: {python: {version: \"debug\"}}}}") {
        let Some(fields) = reader.object(&entry.value, &keys::MODE) else { continue };
        let resources =
            fields.get("resources").map(|node| resources(reader, node, config)).unwrap_or_default();
        modes.push(Mode { name: entry.key.clone(), resources });
    }
    modes
}

fn resource(reader: &mut Reader<'_>, entry: &Entry, config: &Schema) -> Option<Resource> {
    let fields = reader.object(&entry.value, &keys::RESOURCE)?;
    let version = fields.get("version").and_then(|node| {
        if let Kind::Map(_) = node.kind {
            let hint = "a resource has a text, or a `probe` that prints what it is now";
            reader.expected(node, "version", "a text", hint);
            return None;
        }
        reader.some_text(node, "version")
    });
    let probe = fields.get("probe").and_then(|node| {
        let text = reader.some_text(node, "probe")?;
        let probe = reader.shell_template(&text, node.at, &Dialect::Sh);
        own_config_only(reader, &probe, node.at);
        Some(probe)
    });
    let mut env = Vec::new();
    if let Some(node) = fields.get("env") {
        for entry in reader.entries(node, "env", "env: {PYTHONPATH: lib}") {
            if !solids::variable(reader, &entry.key, entry.at) {
                continue;
            }
            if let Some(text) = reader.word(&entry.value, &entry.key) {
                let template = reader.template(&text, entry.value.at);
                own_config_only(reader, &template, entry.value.at);
                env.push((entry.key.clone(), template));
            }
        }
    }
    Some(Resource {
        name: entry.key.clone(),
        version,
        probe,
        files: fields.get("files").map(|node| reader.patterns(node, "files")).unwrap_or_default(),
        path: fields
            .get("path")
            .map(|node| reader.texts(node, "path").into_iter().map(|(text, _)| text).collect())
            .unwrap_or_default(),
        env,
        config: fields
            .get("config")
            .map(|node| fields::schema(reader, node, Some(config)))
            .unwrap_or_default(),
        resources: fields
            .get("resources")
            .map(|node| reader.name_list(node, "resources"))
            .unwrap_or_default(),
        open: None,
        place: Some(reader.place(entry.at)),
    })
}

/// Notes a fault where a resource's probe or environment asks for more than the resource's own config: it is one
/// for all steps that need it.
fn own_config_only(reader: &mut Reader<'_>, template: &Template, at: Mark) {
    let hint = "only {{ config.x }}, a value of its own config, is known here";
    reader.allow(template, at, |part| matches!(part, Part::Config(_)), "a resource", hint);
}
