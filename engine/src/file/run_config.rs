//! Reads run configs and `--set`, and lays them over what was given before.
//!
//! Pure. Only the shape is checked here; whether the names and values fit the pipeline, when a graph is made.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use cas_store::Version;

use crate::config::{Placed, RunConfig};
use crate::error::{Diagnostic, Place};
use crate::pipeline::{Pipeline, Source};
use crate::value::{Field, Type, Value, listed, nearest};
use crate::version;

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

/// One setting as it was typed: `solids.emit_dog.config.dog_breed=pug`, `emit_dog.dog_breed=pug`, `seed=1`.
#[derive(Debug, Clone, Copy)]
pub struct Typed<'t> {
    /// The option that it was given to: `--set`.
    pub option: &'t str,
    /// Which of several, from 1 on, where messages are to tell them apart.
    pub line: u32,
    /// Key and value.
    pub text: &'t str,
}

impl<'t> Typed<'t> {
    /// What was given to `--set`.
    pub fn set(text: &'t str) -> Self {
        Self { option: "--set", line: 1, text }
    }

    fn place(&self, column: u32) -> Place {
        Place { file: self.option.into(), line: self.line, column }
    }

    /// What is wrong with its key, or with all of it. What was to be set is shown, its value is not: it may be a secret.
    fn wrong(&self, message: String, hint: String) -> Diagnostic {
        let written =
            self.text.split_once('=').map_or_else(|| self.text.to_owned(), |(key, _)| format!("{key}=…"));
        Diagnostic {
            excerpt: super::excerpt::of_line(&written, self.line, 1),
            ..Diagnostic::new(message).hint(hint).at(Some(&self.place(1)))
        }
    }
}

const FORMS: &str = "write step.key=value, or in full solids.step.config.key=value, solids.step.inputs.name=value, \
                     resources.name.config.key=value, config.key=value";

/// Finds what a setting is about.
///
/// # Errors
/// It is none of the forms, or nothing of the pipeline has that name.
pub fn settable(pipeline: &Pipeline, typed: &Typed<'_>) -> Result<(), Diagnostic> {
    target_of(pipeline, typed).map(|_| ())
}

fn target_of<'t>(pipeline: &Pipeline, typed: &Typed<'t>) -> Result<(Target<'t>, &'t str), Diagnostic> {
    let text = typed.text;
    let Some((key, raw)) = text.split_once('=') else {
        return Err(typed.wrong(format!("`{text}` sets nothing: it has no `=`"), FORMS.to_owned()));
    };
    let target = target(pipeline, &parts_of(key)).map_err(|(message, hint)| {
        typed.wrong(message, if hint.is_empty() { FORMS.to_owned() } else { hint })
    })?;
    Ok((target, raw))
}

/// Lays one setting over what was given before it.
///
/// # Errors
/// As [`settable`], or its value cannot be read.
pub fn set(pipeline: &Pipeline, typed: &Typed<'_>, over: &mut RunConfig) -> Result<(), Diagnostic> {
    let (target, raw) = target_of(pipeline, typed)?;
    if let Target::Store = target {
        over.base_dir = Some(raw.to_owned());
        return Ok(());
    }
    let text = typed.text;
    let column =
        u32::try_from(text.chars().count() - raw.chars().count()).unwrap_or(u32::MAX).saturating_add(1);
    let place = typed.place(column);
    let value = if target.ty(pipeline) == Some(Type::Str) {
        Value::Str(raw.to_owned())
    } else {
        yaml(raw).map_err(|(message, hint)| {
            let diagnostic = Diagnostic {
                excerpt: super::excerpt::of_line(text, typed.line, column),
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

/// What a value is to a key, as [`set`] takes both: texts that give the same are the same value, however they are
/// written (`0.1` and `0.10`; `1` and `1.0` where it is to be a float).
pub fn value_as_typed(pipeline: &Pipeline, key: &str, value: &str) -> Vec<Version> {
    let target = target(pipeline, &parts_of(key)).ok();
    let is_text = |target: &Target<'_>| target.ty(pipeline) == Some(Type::Str);
    let value = match target.as_ref().filter(|target| is_text(target)) {
        Some(_) => Value::Str(value.to_owned()),
        // What cannot be read is only ever the same as itself.
        None => yaml(value).unwrap_or_else(|_| Value::Str(value.to_owned())),
    };
    let fields = target.map(|target| target.fields(pipeline)).unwrap_or_default();
    let seen = |field: &&Field| field.check("it", &value).unwrap_or_else(|_| value.clone());
    let mut values: Vec<Value> = fields.iter().map(seen).collect();
    values.push(if fields.is_empty() { value } else { Value::Null });
    values.iter().map(version::value_version).collect()
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
        self.fields(pipeline).iter().any(|field| field.secret)
    }

    /// The declared type, where there is one and it is the same in every mode.
    fn ty(&self, pipeline: &Pipeline) -> Option<Type> {
        if let Self::Store = self {
            return Some(Type::Str);
        }
        let mut types = self.fields(pipeline).into_iter().map(|field| field.ty);
        let first = types.next()?;
        types.all(|other| other == first).then_some(first)
    }

    /// The fields that it fills: of a resource, one in every mode that has it.
    fn fields<'p>(&self, pipeline: &'p Pipeline) -> Vec<&'p Field> {
        match self {
            Self::Config(step, key) => {
                let mut invocations = pipeline.invocations.iter();
                let invocation = invocations.find(|invocation| invocation.name == *step);
                invocation
                    .and_then(|invocation| invocation.solid.config.fields.get(*key))
                    .into_iter()
                    .collect()
            }
            Self::Resource(name, key) => {
                let modes = pipeline.modes.iter().map(|mode| &mode.resources);
                std::iter::once(&pipeline.resources)
                    .chain(modes)
                    .filter_map(|resources| resources.get(*name)?.config.fields.get(*key))
                    .collect()
            }
            Self::Pipeline(key) => pipeline.config.fields.get(*key).into_iter().collect(),
            Self::Input(..) | Self::Store => Vec::new(),
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
