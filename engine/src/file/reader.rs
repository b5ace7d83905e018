//! Reads nodes as the objects of `keys.rs`, and collects everything that is wrong with them.
//!
//! Pure. A reader never stops at a fault: it notes it, and goes on with what makes sense without it, so that one
//! look shows all. What it returns after a fault is thrown away by its caller.

use std::sync::Arc;

use crate::error::{Diagnostic, Place};
use crate::value::{Value, nearest};

use super::excerpt;
use super::keys::Object;
use super::node::{Entry, Fault, Kind, Mark, Node};
use super::reference::{Wrong, is_name};
use super::template;
use super::{scalar, shell};
use crate::solid::{Part, Pattern, Template};

/// The text that is read, and what was found wrong with it.
pub(crate) struct Reader<'t> {
    pub(crate) file: Arc<str>,
    pub(crate) text: &'t str,
    pub(crate) diagnostics: Vec<Diagnostic>,
}

/// The entries of one map whose keys are known.
#[derive(Clone, Copy)]
pub(crate) struct Fields<'n> {
    entries: &'n [Entry],
    /// Whether it holds keys that are not known: what is missing may be what they mean.
    pub(crate) unknown: bool,
}

impl<'n> Fields<'n> {
    /// The entry of this key, unless nothing is written after it.
    pub(crate) fn entry(&self, key: &str) -> Option<&'n Entry> {
        self.entries.iter().find(|entry| entry.key == key).filter(|entry| !entry.value.is_null())
    }

    pub(crate) fn get(&self, key: &str) -> Option<&'n Node> {
        self.entry(key).map(|entry| &*entry.value)
    }

    /// The value of this key even if it is null.
    pub(crate) fn any(&self, key: &str) -> Option<&'n Node> {
        self.entries.iter().find(|entry| entry.key == key).map(|entry| &*entry.value)
    }

    /// The keys, but for those that are ignored.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &'n Entry> {
        self.entries.iter().filter(|entry| !entry.key.starts_with("x-"))
    }
}

impl<'t> Reader<'t> {
    pub(crate) fn new(file: &str, text: &'t str) -> Self {
        Self { file: file.into(), text, diagnostics: Vec::new() }
    }

    /// What was found wrong, in the order of the text, each with its line shown.
    pub(crate) fn finish(self) -> Vec<Diagnostic> {
        let mut diagnostics = self.diagnostics;
        excerpt::add_excerpts(&mut diagnostics, &self.file, self.text);
        let key = |d: &Diagnostic| {
            d.place
                .as_ref()
                .map_or((true, 0, 0), |place| (*place.file != *self.file, place.line, place.column))
        };
        diagnostics.sort_by_key(key);
        diagnostics.dedup();
        diagnostics
    }

    /// Whether nothing was found wrong so far.
    pub(crate) fn is_fine(&self) -> bool {
        self.diagnostics.is_empty()
    }

    pub(crate) fn place(&self, at: Mark) -> Place {
        Place { file: self.file.clone(), line: at.line, column: at.column }
    }

    pub(crate) fn fault(&mut self, at: Mark, message: impl Into<String>, hint: impl Into<String>) {
        let hint: String = hint.into();
        let place = self.place(at);
        let diagnostic = Diagnostic::new(message).at(Some(&place));
        self.diagnostics.push(Diagnostic { hint: (!hint.is_empty()).then_some(hint), ..diagnostic });
    }

    /// A fault at a place that may be in another file of the pipeline.
    pub(crate) fn fault_at(&mut self, place: &Place, message: impl Into<String>, hint: impl Into<String>) {
        let hint: String = hint.into();
        let diagnostic = Diagnostic::new(message).at(Some(place));
        self.diagnostics.push(Diagnostic { hint: (!hint.is_empty()).then_some(hint), ..diagnostic });
    }

    pub(crate) fn wrong(&mut self, at: Mark, wrong: Wrong) {
        self.fault(at, wrong.message, wrong.hint.unwrap_or_default());
    }

    pub(crate) fn faults(&mut self, faults: Vec<Fault>) {
        for Fault { at, message, hint } in faults {
            self.fault(at, message, hint.unwrap_or_default());
        }
    }

    /// Says that a node is not what it should be: `` `inputs` must be a map, and this is a list ``.
    pub(crate) fn expected(&mut self, node: &Node, key: &str, what: &str, hint: impl Into<String>) {
        self.fault(node.at, format!("`{key}` must be {what}, and this is {}", node.what()), hint);
    }

    /// A map with the keys of an object; each unknown key is a fault.
    pub(crate) fn object<'n>(&mut self, node: &'n Node, object: &'static Object) -> Option<Fields<'n>> {
        match &node.kind {
            Kind::Map(entries) => {
                let mut unknown = false;
                for entry in entries {
                    if object.key(&entry.key).is_none() && !entry.key.starts_with("x-") {
                        let (message, hint) = object.unknown(&entry.key);
                        self.fault(entry.at, message, hint);
                        unknown = true;
                    }
                }
                Some(Fields { entries, unknown })
            }
            Kind::Scalar(_) if node.is_null() => Some(Fields { entries: &[], unknown: false }),
            Kind::Scalar(_) | Kind::List(_) => {
                let keys: Vec<_> = object.keys.iter().map(|key| key.name).collect();
                let message = format!("{} must be a map, and this is {}", object.name, node.what());
                self.fault(node.at, message, format!("its keys: {}", keys.join(", ")));
                None
            }
        }
    }

    /// A map from names to something; a name that is none is a fault. `x-…` is left out.
    pub(crate) fn names<'n>(&mut self, node: &'n Node, key: &str, example: &str) -> Vec<&'n Entry> {
        let entries = self.entries(node, key, example);
        entries.into_iter().filter(|entry| self.name(&entry.key, entry.at)).collect()
    }

    /// A map from anything to something. `x-…` is left out, and refused where it would be taken for a name.
    pub(crate) fn entries<'n>(&mut self, node: &'n Node, key: &str, example: &str) -> Vec<&'n Entry> {
        let odd = |entry: &&Entry| entry.key.starts_with("x-");
        let named = matches!(key, "inputs" | "outputs" | "config");
        for entry in node.entries().iter().filter(odd).filter(|_| named) {
            let message = format!("`{}` begins with `x-`, and such keys are left out everywhere", entry.key);
            self.fault(entry.at, message, "name it otherwise");
        }
        match &node.kind {
            Kind::Map(entries) => entries.iter().filter(|entry| !entry.key.starts_with("x-")).collect(),
            Kind::Scalar(_) | Kind::List(_) => {
                if !node.is_null() {
                    self.expected(node, key, "a map", format!("write it like this: {example}"));
                }
                Vec::new()
            }
        }
    }

    /// Notes a fault unless this is a name.
    pub(crate) fn name(&mut self, name: &str, at: Mark) -> bool {
        let fits = is_name(name);
        if !fits {
            let hint = match name.split_once(':') {
                Some((before, after)) => format!("a blank belongs behind the colon: `{before}: {after}`"),
                None => "a name is letters, digits, `_` and `-`, and begins with a letter or `_`".to_owned(),
            };
            self.fault(at, format!("`{name}` is no name"), hint);
        }
        fits
    }

    /// A text. A number or a truth value that stands unquoted is a fault that shows the quotes.
    pub(crate) fn text(&mut self, node: &Node, key: &str) -> Option<String> {
        if let Kind::Scalar(scalar) = &node.kind {
            if let Ok(Value::Str(text)) = scalar::resolve(scalar) {
                return Some(text);
            }
            if !node.is_null() {
                self.expected(
                    node,
                    key,
                    "a text",
                    format!("put it between quotes: {key}: \"{}\"", scalar.text),
                );
                return None;
            }
        }
        self.expected(node, key, "a text", "");
        None
    }

    /// A text that is not empty.
    pub(crate) fn some_text(&mut self, node: &Node, key: &str) -> Option<String> {
        let text = self.text(node, key)?;
        if text.trim().is_empty() {
            self.fault(node.at, format!("`{key}` is empty"), "leave the key out, or say something");
            return None;
        }
        Some(text)
    }

    /// A scalar as its text, numbers and truth values as they are written: for arguments and variables.
    pub(crate) fn word(&mut self, node: &Node, key: &str) -> Option<String> {
        match &node.kind {
            Kind::Scalar(scalar) if !node.is_null() => Some(scalar.text.clone()),
            Kind::Scalar(_) | Kind::List(_) | Kind::Map(_) => {
                let hint = "an item that looks like a list or map, or is empty, goes between quotes";
                self.expected(node, key, "a text", hint);
                None
            }
        }
    }

    /// One text, or a list of them, each with its place.
    pub(crate) fn texts(&mut self, node: &Node, key: &str) -> Vec<(String, Mark)> {
        match &node.kind {
            Kind::List(items) => {
                items.iter().filter_map(|item| Some((self.some_text(item, key)?, item.at))).collect()
            }
            Kind::Scalar(_) if node.is_null() => Vec::new(),
            Kind::Scalar(_) => self.some_text(node, key).map(|text| (text, node.at)).into_iter().collect(),
            Kind::Map(_) => {
                self.expected(node, key, "a list", format!("write it like this: {key}: [a, b]"));
                Vec::new()
            }
        }
    }

    /// Names, one or a list, each once.
    pub(crate) fn name_list(&mut self, node: &Node, key: &str) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for (name, at) in self.texts(node, key) {
            if names.contains(&name) {
                self.fault(at, format!("`{name}` is in `{key}` twice"), "");
            } else if self.name(&name, at) {
                names.push(name);
            }
        }
        names
    }

    /// Files, globs and folders of the project.
    pub(crate) fn patterns(&mut self, node: &Node, key: &str) -> Vec<Pattern> {
        let texts = self.texts(node, key);
        texts.into_iter().map(|(text, at)| Pattern { text, place: Some(self.place(at)) }).collect()
    }

    pub(crate) fn bool(&mut self, node: &Node, key: &str) -> Option<bool> {
        match self.value(node)? {
            Value::Bool(value) => Some(value),
            other => {
                let hint = match &other {
                    Value::Str(text) => match text.to_lowercase().as_str() {
                        "yes" | "on" | "y" | "true" => format!("write {key}: true"),
                        "no" | "off" | "n" | "false" => format!("write {key}: false"),
                        _ => String::new(),
                    },
                    _ => String::new(),
                };
                self.expected(node, key, "true or false", hint);
                None
            }
        }
    }

    /// A whole number that is at least `least`.
    pub(crate) fn count(&mut self, node: &Node, key: &str, least: u32) -> Option<u32> {
        match self.value(node)? {
            Value::Int(value) => match u32::try_from(value) {
                Ok(value) if value >= least => Some(value),
                _ => {
                    self.fault(node.at, format!("`{key}` must be at least {least}, and this is {value}"), "");
                    None
                }
            },
            _ => {
                self.expected(node, key, "a whole number", "");
                None
            }
        }
    }

    pub(crate) fn duration(&mut self, node: &Node, key: &str) -> Option<std::time::Duration> {
        let text = match &node.kind {
            Kind::Scalar(scalar) => scalar.text.as_str(),
            Kind::List(_) | Kind::Map(_) => "",
        };
        let duration = scalar::duration(text).filter(|duration| !duration.is_zero());
        if duration.is_none() {
            let hint = if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
                format!("say the unit: {key}: {text}s")
            } else {
                "write a number and a unit: 90s, 10m, 1h30m, 1d".to_owned()
            };
            self.fault(node.at, format!("`{key}` is no time"), hint);
        }
        duration
    }

    /// A node as a config value.
    pub(crate) fn value(&mut self, node: &Node) -> Option<Value> {
        match scalar::value(node) {
            Ok(value) => Some(value),
            Err(faults) => {
                self.faults(faults);
                None
            }
        }
    }

    /// A text with placeholders.
    pub(crate) fn template(&mut self, text: &str, at: Mark) -> Template {
        let place = self.place(at);
        let (template, faults) = template::parse(text, Some(&place));
        self.template_faults(&place, faults);
        template
    }

    /// A shell line, its placeholders checked.
    pub(crate) fn shell_template(&mut self, text: &str, at: Mark, dialect: &shell::Dialect) -> Template {
        let place = self.place(at);
        let (template, mut faults) = template::parse(text, Some(&place));
        faults.extend(shell::check(&template, dialect));
        self.template_faults(&place, faults);
        template
    }

    /// Notes each placeholder that asks for what is not known where it stands.
    pub(crate) fn allow(
        &mut self,
        template: &Template,
        at: Mark,
        known: impl Fn(&Part) -> bool,
        what: &str,
        hint: &str,
    ) {
        let place = self.place(at);
        for (before, part) in template.holes().filter(|(_, part)| !known(part)) {
            let exact = excerpt::placeholder(self.text, &place, before);
            let diagnostic = Diagnostic::new(format!("`{}` cannot stand in {what}", part.written()));
            self.diagnostics.push(diagnostic.at(exact.as_ref().or(Some(&place))).hint(hint));
        }
    }

    fn template_faults(&mut self, place: &Place, faults: Vec<template::Fault>) {
        for fault in faults {
            let exact = excerpt::placeholder(self.text, place, fault.before);
            let diagnostic = Diagnostic::new(fault.wrong.message).at(exact.as_ref().or(Some(place)));
            self.diagnostics.push(Diagnostic { hint: fault.wrong.hint, ..diagnostic });
        }
    }
}

/// ``did you mean `x`?``, or the names there are.
pub(crate) fn suggestion<'a>(name: &str, known: impl Iterator<Item = &'a str> + Clone, none: &str) -> String {
    if let Some(near) = nearest(name, known.clone()) {
        return format!("did you mean `{near}`?");
    }
    let names: Vec<String> = known.map(str::to_owned).collect();
    if names.is_empty() { none.to_owned() } else { format!("there is {}", crate::value::listed(&names)) }
}
