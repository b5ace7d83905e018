//! What can be wrong with a pipeline that needs no mode and no run config to be seen: names, references, places and
//! placeholders. The same words for pipelines from a file and from Rust.
//!
//! Pure, and linear in the size of the pipeline: names that are near are only looked for where one is wrong.

mod placeholders;
mod places;

pub(crate) use places::SCRATCH_HINT;

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::error::{Diagnostic, Place};
use crate::file::{is_name, variable};
use crate::limits;
use crate::pipeline::{Axis, Input, Invocation, OutputRef, Pick, Pipeline, Source};
use crate::resource::Resource;
use crate::solid::{Body, Part, Pattern, Solid};
use crate::value::{listed, nearest};

/// The resource whose config says where the store is; it needs no definition.
const RESERVED: &str = "io_manager";

/// How many outputs a solid may have: their positions are 16-bit numbers.
const MOST_OUTPUTS: usize = u16::MAX as usize;

/// Something that is wrong; `before`: it is about the placeholder of its text that so many `{{` precede.
pub(crate) struct Finding {
    pub(crate) diagnostic: Diagnostic,
    pub(crate) before: Option<usize>,
}

impl Pipeline {
    /// Everything that is wrong with names, references, places and placeholders.
    pub fn check(&self) -> Vec<Diagnostic> {
        self.findings().into_iter().map(|finding| finding.diagnostic).collect()
    }

    pub(crate) fn findings(&self) -> Vec<Finding> {
        let mut check = Check::new(self);
        if self.name.chars().any(char::is_control) {
            let hint = "its name is shown in a line: leave out what breaks it";
            check.say(None, "the name of the pipeline holds a control character", hint);
        }
        check.resources();
        check.schema_names("config", &self.config);
        for invocation in &self.invocations {
            check.invocation(invocation);
        }
        check.publish();
        check.findings
    }
}

struct Check<'p> {
    pipeline: &'p Pipeline,
    by_name: HashMap<&'p str, &'p Invocation>,
    /// Each definition of each resource, in whatever mode.
    definitions: BTreeMap<&'p str, Vec<&'p Resource>>,
    /// Solids that were checked, by where they are: several invocations share one.
    solids: HashSet<*const Solid>,
    findings: Vec<Finding>,
}

impl<'p> Check<'p> {
    fn new(pipeline: &'p Pipeline) -> Self {
        let mut by_name = HashMap::with_capacity(pipeline.invocations.len());
        let mut findings = Vec::new();
        for invocation in &pipeline.invocations {
            if by_name.insert(invocation.name.as_str(), invocation).is_some() {
                let message = format!("two invocations are named `{}`", invocation.name);
                let diagnostic = Diagnostic::new(message).at(invocation.place.as_ref());
                findings.push(Finding { diagnostic: diagnostic.hint("give one another name"), before: None });
            }
        }
        let mut definitions: BTreeMap<&str, Vec<&Resource>> = BTreeMap::new();
        let modes = pipeline.modes.iter().flat_map(|mode| &mode.resources);
        for (name, resource) in pipeline.resources.iter().chain(modes) {
            definitions.entry(name).or_default().push(resource);
        }
        Self { pipeline, by_name, definitions, solids: HashSet::new(), findings }
    }

    fn say(&mut self, place: Option<&Place>, message: impl Into<String>, hint: impl Into<String>) {
        let hint: String = hint.into();
        let diagnostic = Diagnostic::new(message).at(place);
        let diagnostic = Diagnostic { hint: (!hint.is_empty()).then_some(hint), ..diagnostic };
        self.findings.push(Finding { diagnostic, before: None });
    }

    fn name(&mut self, what: &str, name: &str, place: Option<&Place>) {
        if !is_name(name) {
            let hint = "a name is letters, digits, `_` and `-`, and begins with a letter or `_`";
            self.say(place, format!("`{name}` is no name for {what}"), hint);
        }
    }

    fn schema_names(&mut self, what: &str, schema: &crate::value::Schema) {
        for (key, field) in &schema.fields {
            self.name(what, key, field.place.as_ref());
        }
    }

    fn resources(&mut self) {
        let mut modes = HashSet::new();
        for mode in &self.pipeline.modes {
            if !modes.insert(mode.name.as_str()) {
                self.say(None, format!("two modes are named `{}`", mode.name), "");
            }
        }
        let all: Vec<&Resource> = self.definitions.values().flatten().copied().collect();
        for resource in all {
            let place = resource.place.as_ref();
            self.name("a resource", &resource.name, place);
            if resource.name == RESERVED {
                let hint = "give only its config, in a run config: resources.io_manager.config.base_dir";
                self.say(place, format!("`{RESERVED}` is reserved: it says where the store is"), hint);
            }
            if resource.version.is_none() && resource.probe.is_none() && resource.files.is_empty() {
                let message = format!("the resource `{}` has no version", resource.name);
                let hint = "give a version: \"1\", a probe: tool --version, or files: [tool.cfg]";
                self.say(place, message, hint);
            }
            self.schema_names("a config field", &resource.config);
            self.patterns(&resource.files, "a file of a resource");
            self.needs(&resource.resources, place, &format!("the resource `{}`", resource.name));
            let templates = resource.probe.iter().chain(resource.env.iter().map(|(_, template)| template));
            for template in templates {
                for (before, part) in template.holes() {
                    if let Part::Config(path) = part
                        && let Some(key) = path.first()
                        && !resource.config.fields.contains_key(key)
                    {
                        let known = resource.config.fields.keys();
                        self.placeholder(template, before, part, "the resource has no config", key, known);
                    }
                }
            }
        }
    }

    /// Whether the resources that something needs exist, in whatever mode.
    fn needs(&mut self, names: &[String], place: Option<&Place>, who: &str) {
        for name in names {
            if self.definitions.contains_key(name.as_str()) {
                continue;
            }
            let known: Vec<&str> = self.definitions.keys().copied().collect();
            let hint = if name == RESERVED {
                "it says where the store is, and no step can need it".to_owned()
            } else {
                let define = format!("define it: resources: {{{name}: {{probe: {name} --version}}}}");
                near(name, known, &define)
            };
            self.say(place, format!("{who} needs the resource `{name}`, which is not defined"), hint);
        }
    }

    /// Paths that are declared as the project's own.
    fn patterns(&mut self, patterns: &[Pattern], what: &str) {
        for pattern in patterns {
            let place = pattern.place.as_ref();
            if pattern.text.contains("{{") {
                let hint = "its version has to be known before any value is: name the file, or use a glob";
                self.say(place, format!("{what} takes no placeholders"), hint);
            } else if let Some(wrong) = leaves(&pattern.text) {
                let hint = "what lies elsewhere can be an input: {path: …, external: true}";
                self.say(place, format!("`{}` {wrong}, and {what} is the project's own", pattern.text), hint);
            }
        }
    }

    fn invocation(&mut self, invocation: &'p Invocation) {
        let solid = &*invocation.solid;
        self.name("a step", &invocation.name, invocation.place.as_ref());
        if self.solids.insert(std::ptr::from_ref(solid)) {
            self.solid(solid);
        }
        for axis in &invocation.matrix {
            self.axis(axis, invocation);
        }
        self.inputs(invocation);
        self.templates(invocation);
    }

    fn axis(&mut self, axis: &Axis, invocation: &Invocation) {
        let place = invocation.place.as_ref();
        self.name("an axis", &axis.name, place);
        if let Some(field) = invocation.solid.config.fields.get(&axis.name) {
            let message =
                format!("`{}` is a config key of `{}` and an axis of its matrix", axis.name, invocation.name);
            let hint = "matrix values are config: take it out of `config`, or name the axis otherwise";
            let place = field.place.as_ref().or(place).cloned();
            self.say(place.as_ref(), message, hint);
        }
        if axis.name == "resources" {
            self.say(
                place,
                "`resources` cannot be an axis",
                "config.json holds the config of resources under it",
            );
        }
        if axis.points.is_empty() {
            self.say(place, format!("the axis `{}` has no values", axis.name), "name at least one");
        }
    }

    fn solid(&mut self, solid: &Solid) {
        let place = solid.place.as_ref();
        let who = format!("the solid `{}`", solid.name);
        self.needs(&solid.resources, place, &who);
        self.schema_names("a config field", &solid.config);
        self.patterns(&solid.code, "code");
        if let Some(field) = solid.config.fields.get("resources") {
            let place = field.place.clone();
            let hint = "config.json holds the config of resources under it: name the field otherwise";
            self.say(place.as_ref(), "a config field cannot be named `resources`", hint);
        }
        for (key, field) in &solid.config.fields {
            let Some(name) = &field.from_pipeline else { continue };
            if !self.pipeline.config.fields.contains_key(name) {
                let known = self.pipeline.config.fields.keys().map(String::as_str).collect();
                let hint = near(name, known, "declare it in the config of the pipeline");
                let place = field.place.clone();
                self.say(
                    place.as_ref(),
                    format!("`{key}` takes `${name}`, which the pipeline's config lacks"),
                    hint,
                );
            }
        }
        if matches!(solid.body, Body::Function(_)) && solid.version.is_none() && solid.code.is_empty() {
            let hint = "give file_version!(), crate_version!(), a text, or `volatile`";
            self.say(place, format!("{who} has no version"), hint);
        }
        if solid.outputs.len() > MOST_OUTPUTS {
            let hint = "declare a folder, which holds as many files as you like";
            self.say(
                place,
                format!("{who} has {} outputs, and {MOST_OUTPUTS} is the most", solid.outputs.len()),
                hint,
            );
        }
        self.outputs(solid);
        self.scratch(solid);
        self.limits(solid);
        self.environment(solid);
    }

    /// What a step takes of what there is. A file is told so where each number stands; here it is said of builders.
    fn limits(&mut self, solid: &Solid) {
        let place = solid.place.as_ref();
        let policy = &solid.policy;
        let unusable = |what: &str| format!("the solid `{}` uses 0 of {what}", solid.name);
        if policy.cpus == 0 {
            self.say(place, unusable("the cores"), "a step uses one at least");
        }
        if policy.memory == Some(0) {
            self.say(place, unusable("the memory"), "leave it out, if it is not known");
        }
        for (name, amount) in &policy.limits {
            if limits::is_own(name) {
                let message = format!("`{name}` of `{}` is no limit that one names", solid.name);
                self.say(place, message, format!("it is said by `{name}` itself, beside the limits"));
                continue;
            }
            self.name("a limit", name, place);
            if *amount == 0 {
                self.say(place, unusable(&format!("the limit `{name}`")), "leave it out");
            }
        }
    }

    fn environment(&mut self, solid: &Solid) {
        let mut seen: HashMap<&str, &str> = HashMap::new();
        let hashed = solid.env.iter().map(|variable| (variable.name(), "env"));
        let passed = solid.pass_env.iter().map(|name| (name.as_str(), "pass_env"));
        let secret = solid.secrets.iter().map(|name| (name.as_str(), "secrets"));
        for (name, key) in hashed.chain(passed).chain(secret) {
            if let Some(other) = seen.insert(name, key) {
                let message =
                    format!("the variable `{name}` is in `{other}` and in `{key}` of `{}`", solid.name);
                self.say(solid.place.as_ref(), message, "it is either hashed, passed or secret");
            }
            if name.starts_with("CAS_") {
                let message =
                    format!("the variable `{name}` of `{}` is one of those that steps are given", solid.name);
                self.say(solid.place.as_ref(), message, "names that begin with CAS_ are taken");
            }
        }
    }

    fn inputs(&mut self, invocation: &Invocation) {
        let mut variables: HashMap<String, &Input> = HashMap::new();
        for input in &invocation.inputs {
            let place = input.place.as_ref();
            self.name("an input", &input.name, place);
            if let Some(other) = variables.insert(variable("CAS_INPUT_", &input.name), input) {
                let message = if other.name == input.name {
                    format!("the input `{}` is given twice", input.name)
                } else {
                    format!("the inputs `{}` and `{}` give one variable", other.name, input.name)
                };
                self.say(place, message, "give one another name");
            }
            match &input.source {
                Source::Output(reference) | Source::Gather { of: reference, .. } => {
                    self.reference(reference, place);
                }
                Source::Element(list) => self.list(invocation, list, place),
                Source::FanIn(references) => {
                    for reference in references {
                        self.reference(reference, place);
                    }
                }
                Source::Path { path, external } => {
                    let start = match path.parts.first() {
                        Some(Part::Text(text)) => text.as_str(),
                        _ => "",
                    };
                    let wrong = leaves(start).or_else(|| {
                        let texts = path.parts.iter().filter_map(|part| match part {
                            Part::Text(text) => Some(text),
                            _ => None,
                        });
                        texts.map(|text| leaves(text)).find(|wrong| *wrong == Some(UPWARDS)).flatten()
                    });
                    if let (Some(wrong), false) = (wrong, *external) {
                        let hint = "add `external: true` if it is meant: {path: …, external: true}";
                        let place = path.place.clone().or_else(|| place.cloned());
                        self.say(place.as_ref(), format!("`{}` {wrong}", path.text), hint);
                    }
                }
                Source::Value(_) | Source::Default(_) | Source::Probe { .. } => {}
            }
        }
    }

    /// Whether what an invocation is mapped over is a list.
    fn list(&mut self, invocation: &Invocation, list: &OutputRef, place: Option<&Place>) {
        let before = self.findings.len();
        self.reference(list, place);
        let Some(of) = self.by_name.get(list.step.as_str()).copied() else { return };
        if self.findings.len() > before {
            return;
        }
        let outputs = &of.solid.outputs;
        let declared = match (&list.output, outputs.as_slice()) {
            (Some(name), _) => outputs.iter().find(|output| output.name == *name),
            (None, [only]) => Some(only),
            (None, _) => outputs.iter().find(|output| output.name == "result"),
        };
        let Some(declared) = declared.filter(|declared| !declared.list) else { return };
        let message =
            format!("`{}` is mapped over `{}.{}`, which is no list", invocation.name, of.name, declared.name);
        let hint = format!("declare it as one: outputs: [{{{}: {{list: true}}}}]", declared.name);
        self.say(list.place.as_ref().or(place), message, hint);
    }

    /// Whether a reference names a step, an output of it, and axes and values that it has.
    fn reference(&mut self, reference: &OutputRef, place: Option<&Place>) {
        let place = reference.place.as_ref().or(place);
        let Some(of) = self.by_name.get(reference.step.as_str()).copied() else {
            let known = self.by_name.keys().copied().collect();
            let hint = near(
                &reference.step,
                known,
                "a file of the project is written {path: …}, a literal {value: …}",
            );
            return self.say(place, format!("there is no step `{}`", reference.step), hint);
        };
        let outputs = &of.solid.outputs;
        match &reference.output {
            Some(name) if !outputs.iter().any(|output| output.name == *name) => {
                let known = outputs.iter().map(|output| output.name.as_str()).collect();
                let hint = near(name, known, "it has no outputs");
                self.say(place, format!("`{}` has no output `{name}`", of.name), hint);
            }
            None if outputs.is_empty() => {
                self.say(place, format!("`{}` has no outputs", of.name), "nothing of it can be an input");
            }
            None if outputs.len() > 1 && !outputs.iter().any(|output| output.name == "result") => {
                let names: Vec<String> =
                    outputs.iter().map(|output| format!("{}.{}", of.name, output.name)).collect();
                let message = format!("`{}` has several outputs, and none is named `result`", of.name);
                self.say(place, message, format!("write {}", listed(&names)));
            }
            Some(_) | None => {}
        }
        match &reference.pick {
            Pick::Same => {}
            // What elements of a list there are, and how they are called, is known when it is.
            Pick::All | Pick::Where(_) if of.mapped().is_some() => {}
            Pick::All if of.matrix.is_empty() => {
                let hint = format!("write `{}`", reference.step);
                self.say(place, format!("`{}` has no matrix, so there is one of it", of.name), hint);
            }
            Pick::All => {}
            Pick::Where(labels) => {
                for (name, label) in labels {
                    let Some(axis) = of.matrix.iter().find(|axis| axis.name == *name) else {
                        let known = of.matrix.iter().map(|axis| axis.name.as_str()).collect();
                        let hint = near(name, known, "it has no matrix");
                        self.say(place, format!("`{}` has no axis `{name}`", of.name), hint);
                        continue;
                    };
                    if !axis.points.iter().any(|point| point.label == *label) {
                        let known = axis.points.iter().map(|point| point.label.as_str()).collect();
                        let hint = near(label, known, "");
                        self.say(
                            place,
                            format!("the axis `{name}` of `{}` has no value `{label}`", of.name),
                            hint,
                        );
                    }
                }
            }
        }
    }

    fn publish(&mut self) {
        let mut seen = HashSet::new();
        for publish in &self.pipeline.publish {
            let reference = &publish.what;
            let place = reference.place.as_ref();
            self.reference(reference, None);
            if publish.target.contains("{{") {
                let hint = "a target that ends in `/` gets one file for each element, named by its label";
                self.say(place, "the target of `publish` takes no placeholders", hint);
            } else if let Some(wrong) = leaves(&publish.target) {
                self.say(place, format!("`{}` {wrong}", publish.target), "results are put into the project");
            } else if publish.target.split('/').all(|part| matches!(part, "" | ".")) {
                self.say(
                    place,
                    format!("`{}` is the project itself", publish.target),
                    "name a file, or a folder with `/` behind it",
                );
            }
            if !seen.insert(publish.target.trim_end_matches('/')) {
                self.say(place, format!("two outputs are published as `{}`", publish.target), "");
            }
            let Some(of) = self.by_name.get(reference.step.as_str()) else { continue };
            if of.matrix.is_empty() && of.mapped().is_none() {
                continue;
            }
            let output = reference.output.as_ref().map(|output| format!(".{output}")).unwrap_or_default();
            match &reference.pick {
                Pick::Same => {
                    let hint = format!("write \"{}[*]{output}\": for all of them", reference.step);
                    self.say(
                        place,
                        match of.mapped() {
                            Some(_) => format!("`{}` is mapped, so there are several of it", reference.step),
                            None => format!("`{}` has a matrix, so there are several of it", reference.step),
                        },
                        hint,
                    );
                }
                Pick::All if !publish.target.ends_with('/') => {
                    let hint = format!("write `{}/`: one file for each element is put there", publish.target);
                    self.say(place, format!("several outputs are published as `{}`", publish.target), hint);
                }
                Pick::Where(labels)
                    if labels.len() < of.matrix.len() + usize::from(of.mapped().is_some())
                        && !publish.target.ends_with('/') =>
                {
                    let hint = format!("pick a value on each axis, or write `{}/`", publish.target);
                    self.say(place, format!("several outputs are published as `{}`", publish.target), hint);
                }
                Pick::All | Pick::Where(_) => {}
            }
        }
    }
}

const UPWARDS: &str = "leads out of the project";

/// Why a path is not one below the folder, if it is not.
fn leaves(path: &str) -> Option<&'static str> {
    if path.starts_with('/') {
        Some("is absolute")
    } else if path.starts_with("~/") || path == "~" {
        Some("begins with `~`, which is no folder here")
    } else if path.contains('\0') {
        Some("holds a NUL byte, which no path can")
    } else if path.split('/').any(|part| part == "..") {
        Some(UPWARDS)
    } else {
        None
    }
}

/// ``did you mean `x`?``, or the names there are.
fn near(name: &str, known: Vec<&str>, none: &str) -> String {
    if let Some(near) = nearest(name, known.iter().copied()) {
        return format!("did you mean `{near}`?");
    }
    let mut names: Vec<String> = known.into_iter().map(str::to_owned).collect();
    names.sort_unstable();
    if names.is_empty() { none.to_owned() } else { format!("there is {}", listed(&names)) }
}
