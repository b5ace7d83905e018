//! Reads run configs and `--set`, and lays them over what was given before.
//!
//! Pure. Only the shape is checked here; whether the names and values fit the pipeline, when a graph is made.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use crate::config::{Placed, RunConfig};
use crate::error::{Diagnostic, Place};
use crate::pipeline::{Pipeline, Source};
use crate::value::{Schema, Type, Value, listed, nearest};

use super::keys;
use super::node::{self, Entry, Kind, Node};
use super::reader::Reader;

/// The resource whose config says where the store is.
const STORE: &str = "io_manager";

/// Reads one run config file and lays it over what was given before it, key by key.
///
/// # Errors
/// What is wrong with its text, in which case nothing is laid over; whether its keys fit the pipeline is checked
/// when a graph is made.
pub fn run_config(path: &Path, text: &str, over: &mut RunConfig) -> Result<(), Vec<Diagnostic>> {
    let mut reader = Reader::new(&path.to_string_lossy(), text);
    let mut given = RunConfig::default();
    match node::parse(text) {
        Ok(None) => {}
        Ok(Some(root)) => document(&mut reader, &root, &mut given),
        Err(faults) => reader.faults(faults),
    }
    if reader.diagnostics.is_empty() {
        over.overlay(given);
        Ok(())
    } else {
        Err(reader.finish())
    }
}

fn document(reader: &mut Reader<'_>, root: &Node, given: &mut RunConfig) {
    let ignored: Vec<&str> = root
        .entries()
        .iter()
        .map(|entry| entry.key.as_str())
        .filter(|key| keys::IGNORED.contains(key))
        .collect();
    if !ignored.is_empty() {
        let names: Vec<String> = ignored.iter().map(|name| (*name).to_owned()).collect();
        given.warnings.push(format!("{}: nothing here reads {}: ignored", reader.file, listed(&names)));
    }
    if let Kind::Map(entries) = &root.kind {
        for entry in entries {
            let name = entry.key.as_str();
            if keys::RUN_CONFIG.key(name).is_none() && !ignored.contains(&name) && !name.starts_with("x-") {
                let (message, hint) = keys::RUN_CONFIG.unknown(name);
                reader.fault(entry.at, message, hint);
            }
        }
    } else if !root.is_null() {
        reader.expected(
            root,
            "a run config",
            "a map",
            "write it like this: solids: {train: {config: {lr: 0.1}}}",
        );
    }
    for entry in root.entries() {
        match entry.key.as_str() {
            "solids" => {
                for step in reader.names(&entry.value, "solids", "solids: {train: {config: {lr: 0.1}}}") {
                    solid(reader, step, given);
                }
            }
            "resources" => {
                for resource in
                    reader.names(&entry.value, "resources", "resources: {python: {config: {threads: 4}}}")
                {
                    self::resource(reader, resource, given);
                }
            }
            "config" => given.pipeline.extend(values(reader, &entry.value, "config")),
            _ => {}
        }
    }
}

fn solid(reader: &mut Reader<'_>, step: &Entry, given: &mut RunConfig) {
    let Some(fields) = reader.object(&step.value, &keys::RUN_SOLID) else { return };
    if let Some(node) = fields.get("config") {
        let config = values(reader, node, "config");
        given.config.entry(step.key.clone()).or_default().extend(config);
    }
    let Some(node) = fields.get("inputs") else { return };
    for entry in reader.entries(node, "inputs", "inputs: {n: 3}") {
        // The long form is the ancestor's; a map with other keys is a literal.
        let value = match entry.value.entries() {
            [inner] if inner.key == "value" => &inner.value,
            _ => &entry.value,
        };
        if let Some(placed) = placed(reader, entry, value) {
            let name = super::reference::name_of(&entry.key).to_owned();
            given.inputs.entry(step.key.clone()).or_default().insert(name, placed);
        }
    }
}

fn resource(reader: &mut Reader<'_>, resource: &Entry, given: &mut RunConfig) {
    let Some(fields) = reader.object(&resource.value, &keys::RUN_RESOURCE) else { return };
    let Some(node) = fields.get("config") else { return };
    if resource.key != STORE {
        let config = values(reader, node, "config");
        given.resources.entry(resource.key.clone()).or_default().extend(config);
        return;
    }
    for entry in reader.entries(node, "config", "config: {base_dir: ./results}") {
        if entry.key == "base_dir" {
            given.base_dir = reader.some_text(&entry.value, "base_dir").or(given.base_dir.take());
        } else {
            let hint = "its only key is `base_dir`: where the store is";
            reader.fault(entry.at, format!("`{STORE}` has no config `{}`", entry.key), hint);
        }
    }
}

fn values(reader: &mut Reader<'_>, node: &Node, key: &str) -> BTreeMap<String, Placed> {
    let mut values = BTreeMap::new();
    for entry in reader.entries(node, key, "config: {lr: 0.1}") {
        if let Some(placed) = placed(reader, entry, &entry.value) {
            values.insert(entry.key.clone(), placed);
        }
    }
    values
}

fn placed(reader: &mut Reader<'_>, entry: &Entry, value: &Node) -> Option<Placed> {
    // The value's place shows what is wrong with it; where nothing is written, that is the key's.
    let at = if value.is_null() { entry.at } else { value.at };
    Some(Placed { value: reader.value(value)?, text: None, place: Some(reader.place(at)) })
}

/// Lays one `--set` over what was given before it: `solids.emit_dog.config.dog_breed=pug`, `emit_dog.dog_breed=pug`,
/// `seed=1`.
///
/// # Errors
/// It is none of these forms, or nothing of the pipeline has that name.
pub fn set(pipeline: &Pipeline, text: &str, over: &mut RunConfig) -> Result<(), Diagnostic> {
    // What was to be set is shown, its value is not: it may be a secret.
    let written = text.split_once('=').map_or_else(|| text.to_owned(), |(path, _)| format!("{path}=…"));
    let wrong = |message: String| Diagnostic {
        excerpt: super::excerpt(&written, 1, 1),
        ..Diagnostic::new(message).at(Some(&Place { file: "--set".into(), line: 1, column: 1 }))
    };
    let forms = "write step.key=value, or in full solids.step.config.key=value, solids.step.inputs.name=value, \
                 resources.name.config.key=value, config.key=value";
    let Some((path, raw)) = text.split_once('=') else {
        return Err(wrong(format!("`{text}` sets nothing: it has no `=`")).hint(forms));
    };
    let path = parts_of(path);
    let target = target(pipeline, &path).map_err(|(message, hint)| {
        wrong(message).hint(if hint.is_empty() { forms.to_owned() } else { hint })
    })?;
    if let Target::Store = target {
        over.base_dir = Some(raw.to_owned());
        return Ok(());
    }
    let column =
        u32::try_from(text.chars().count() - raw.chars().count()).unwrap_or(u32::MAX).saturating_add(1);
    let place = Place { file: "--set".into(), line: 1, column };
    let value = if target.ty(pipeline) == Some(Type::Str) {
        Value::Str(raw.to_owned())
    } else {
        yaml(raw).map_err(|(message, hint)| {
            let diagnostic = Diagnostic {
                excerpt: super::excerpt(text, 1, column),
                ..Diagnostic::new(message).at(Some(&place))
            };
            let diagnostic = if target.secret(pipeline) { diagnostic.without_excerpt() } else { diagnostic };
            diagnostic
                .hint(hint.unwrap_or_else(|| "the value is read as YAML, as in a run config".to_owned()))
        })?
    };
    let placed = Placed { value, text: Some(raw.to_owned()), place: Some(place) };
    let (map, key) = match target {
        Target::Config(step, key) => (over.config.entry(step.to_owned()).or_default(), key),
        Target::Input(step, name) => (over.inputs.entry(step.to_owned()).or_default(), name),
        Target::Resource(name, key) => (over.resources.entry(name.to_owned()).or_default(), key),
        Target::Pipeline(key) => (&mut over.pipeline, key),
        Target::Store => return Ok(()),
    };
    map.insert(key.to_owned(), placed);
    Ok(())
}

/// Whether two keys, as `--set` takes them, set the same thing.
pub fn sets_the_same(pipeline: &Pipeline, one: &str, other: &str) -> bool {
    let (one, other) = (parts_of(one), parts_of(other));
    one == other
        || target(pipeline, &one).is_ok_and(|one| target(pipeline, &other).is_ok_and(|other| one == other))
}

/// Whether what a key, as `--set` takes it, sets is a secret.
pub fn sets_a_secret(pipeline: &Pipeline, key: &str) -> bool {
    target(pipeline, &parts_of(key)).is_ok_and(|target| target.secret(pipeline))
}

/// A value out of a list of several for a key, as [`set`] takes it: where the key takes a text and quotes stand around all
/// of the value, they only keep what is within together, as in YAML.
pub fn without_quotes<'v>(pipeline: &Pipeline, key: &str, value: &'v str) -> Cow<'v, str> {
    let is_quoted = value.len() >= 2
        && ['"', '\''].iter().any(|quote| value.starts_with(*quote) && value.ends_with(*quote));
    let is_text = target(pipeline, &parts_of(key))
        .is_ok_and(|target| target == Target::Store || target.ty(pipeline) == Some(Type::Str));
    match (is_quoted && is_text).then(|| yaml(value)) {
        Some(Ok(Value::Str(text))) => Cow::Owned(text),
        // `'a' and 'b'` is a text like any other.
        _ => Cow::Borrowed(value),
    }
}

fn parts_of(key: &str) -> Vec<&str> {
    key.trim().split('.').collect()
}

fn yaml(raw: &str) -> Result<Value, (String, Option<String>)> {
    let first = |faults: Vec<node::Fault>| {
        faults.into_iter().next().map_or_else(Default::default, |fault| (fault.message, fault.hint))
    };
    match node::parse(raw).map_err(first)? {
        Some(node) => super::scalar::value(&node).map_err(first),
        None => Ok(Value::Null),
    }
}

/// What a `--set` is about.
#[derive(Debug, PartialEq, Eq)]
enum Target<'t> {
    Config(&'t str, &'t str),
    Input(&'t str, &'t str),
    Resource(&'t str, &'t str),
    Pipeline(&'t str),
    Store,
}

impl Target<'_> {
    /// Whether its value is secret, in whatever mode.
    fn secret(&self, pipeline: &Pipeline) -> bool {
        let of = |schema: &Schema, key: &str| schema.fields.get(key).is_some_and(|field| field.secret);
        match self {
            Self::Config(step, key) => pipeline
                .invocations
                .iter()
                .find(|invocation| invocation.name == *step)
                .is_some_and(|invocation| of(&invocation.solid.config, key)),
            Self::Resource(name, key) => {
                let modes = pipeline.modes.iter().map(|mode| &mode.resources);
                std::iter::once(&pipeline.resources)
                    .chain(modes)
                    .filter_map(|resources| resources.get(*name))
                    .any(|resource| of(&resource.config, key))
            }
            Self::Pipeline(key) => of(&pipeline.config, key),
            Self::Input(..) | Self::Store => false,
        }
    }

    /// The declared type, where there is one and it is the same in every mode.
    fn ty(&self, pipeline: &Pipeline) -> Option<Type> {
        let of = |schema: &Schema, key: &str| schema.fields.get(key).map(|field| field.ty);
        match self {
            Self::Config(step, key) => {
                let invocation = pipeline.invocations.iter().find(|invocation| invocation.name == *step)?;
                of(&invocation.solid.config, key)
            }
            Self::Resource(name, key) => {
                let modes = pipeline.modes.iter().map(|mode| &mode.resources);
                let mut types = std::iter::once(&pipeline.resources)
                    .chain(modes)
                    .filter_map(|resources| of(&resources.get(*name)?.config, key));
                let first = types.next()?;
                types.all(|other| other == first).then_some(first)
            }
            Self::Pipeline(key) => of(&pipeline.config, key),
            Self::Input(..) => None,
            Self::Store => Some(Type::Str),
        }
    }
}

/// Message and hint.
type Unknown = (String, String);

fn target<'t>(pipeline: &Pipeline, path: &[&'t str]) -> Result<Target<'t>, Unknown> {
    let invocation = |step: &str| pipeline.invocations.iter().find(|invocation| invocation.name == step);
    let is_resource = |name: &str| {
        pipeline.resources.contains_key(name)
            || pipeline.modes.iter().any(|mode| mode.resources.contains_key(name))
    };
    match path {
        ["solids", step, "config", key] | ["ops", step, "config", key] => {
            known_step(pipeline, step)?;
            Ok(Target::Config(step, key))
        }
        ["solids", step, "inputs", name] | ["ops", step, "inputs", name] => {
            known_step(pipeline, step)?;
            Ok(Target::Input(step, name))
        }
        ["resources", STORE, "config", "base_dir"] => Ok(Target::Store),
        ["resources", name, "config", key] if is_resource(name) => Ok(Target::Resource(name, key)),
        ["resources", name, "config", _] => {
            let names: Vec<&String> = pipeline.resources.keys().collect();
            Err((
                format!("there is no resource `{name}`"),
                near(name, names.iter().map(|name| name.as_str())),
            ))
        }
        ["config", key] if invocation("config").is_none() => Ok(Target::Pipeline(key)),
        [step, key] => {
            if let Some(invocation) = invocation(step) {
                let inputs =
                    invocation.inputs.iter().filter(|input| matches!(input.source, Source::Default(_)));
                let mut inputs = inputs.map(|input| input.name.as_str());
                if invocation.solid.config.fields.contains_key(*key) {
                    return Ok(Target::Config(step, key));
                }
                if inputs.clone().any(|name| name == *key) {
                    return Ok(Target::Input(step, key));
                }
                let fields = invocation.solid.config.fields.keys().map(String::as_str);
                let known: Vec<&str> = fields.chain(&mut inputs).collect();
                let hint =
                    if known.is_empty() { "it takes none".to_owned() } else { near(key, known.into_iter()) };
                return Err((format!("`{step}` takes no config `{key}`"), hint));
            }
            if is_resource(step) {
                return Ok(Target::Resource(step, key));
            }
            known_step(pipeline, step)?;
            Err((format!("there is no step `{step}`"), String::new()))
        }
        [key] if pipeline.config.fields.contains_key(*key) => Ok(Target::Pipeline(key)),
        [key] => {
            let known = pipeline.config.fields.keys().map(String::as_str);
            let hint = if pipeline.config.fields.is_empty() { String::new() } else { near(key, known) };
            Err((format!("the pipeline's config has no `{key}`"), hint))
        }
        _ => Err((format!("`{}` names nothing that can be set", path.join(".")), String::new())),
    }
}

fn known_step(pipeline: &Pipeline, step: &str) -> Result<(), Unknown> {
    if pipeline.invocations.iter().any(|invocation| invocation.name == step) {
        return Ok(());
    }
    let names = pipeline.invocations.iter().map(|invocation| invocation.name.as_str());
    Err((format!("there is no step `{step}`"), near(step, names)))
}

fn near<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.collect();
    match nearest(name, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => {
            format!("there is {}", listed(&known.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()))
        }
    }
}
