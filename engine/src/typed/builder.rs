//! The builder of a pipeline in Rust: what the parser of `pipeline.yaml` is for files.

use std::any::TypeId;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::Location;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::command::{CommandBuilder, Text};
use super::input::Promise;
use super::output::Out;
use super::resource::{ModeBuilder, New, ResourceBuilder};
use super::solid::{Draft, SolidBuilder};
use super::version::CodeVersion;
use crate::error::{Diagnostic, EngineError, Place};
use crate::pipeline::{Invocation, Mode, OutputRef, Pick, Pipeline, Publish};
use crate::resource::Resource;
use crate::solid::Body;

/// A pipeline that is being defined. What is wrong is collected, and told by [`Builder::build`].
pub struct Builder {
    pub(super) pipeline: Pipeline,
    pub(super) errors: Vec<Diagnostic>,
    /// What inputs and published files refer to.
    pub(super) promises: Vec<Promised>,
    /// Which function stands behind the name of a Rust solid, or the name and version of a resource.
    pub(super) bodies: BTreeMap<String, TypeId>,
}

/// A promise and who relies on it.
pub(super) struct Promised {
    pub(super) promise: Promise,
    /// `input `dog` of `sentence``.
    pub(super) by: String,
    /// Whether that is a command, which reads files only.
    pub(super) as_file: bool,
    pub(super) place: Place,
}

/// The place of a call in the source.
pub(super) fn place(location: &Location<'_>) -> Place {
    Place { file: location.file().into(), line: location.line(), column: location.column() }
}

impl Builder {
    /// A pipeline of this name, without a step yet. The name is not part of any version.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            pipeline: Pipeline { name: name.into(), ..Pipeline::default() },
            errors: Vec::new(),
            promises: Vec::new(),
            bodies: BTreeMap::new(),
        }
    }

    /// The project folder, which paths of inputs, code and published files are relative to; without one, the
    /// folder that the program runs in.
    #[must_use]
    pub fn folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.pipeline.folder = folder.into();
        self.pipeline.home.clone_from(&self.pipeline.folder);
        self
    }

    /// What the pipeline makes, for people.
    #[must_use]
    pub fn description(mut self, text: impl Into<String>) -> Self {
        self.pipeline.description = Some(text.into());
        self
    }

    /// Where its store is, relative to the project folder, if nothing else says so.
    #[must_use]
    pub fn store(mut self, path: impl Into<String>) -> Self {
        self.pipeline.store = Some(path.into());
        self
    }

    /// Config of the pipeline as a whole, which solids share ([`SolidBuilder::shares`]).
    #[track_caller]
    pub fn config<T: Serialize + DeserializeOwned>(&mut self) {
        let place = place(Location::caller());
        match super::config::describe::<T>() {
            Ok(described) => self.pipeline.config = described.schema,
            Err(message) => self.errors.push(Diagnostic::new(message).at(Some(&place))),
        }
    }

    /// A solid whose body is a Rust function, and the step that invokes it.
    #[track_caller]
    pub fn solid(
        &mut self,
        name: &str,
        version: impl Into<CodeVersion>,
    ) -> SolidBuilder<'_, (), super::output::Implicit<super::output::Encoded<super::codec::Bincode>>> {
        let draft = Draft::new(name, version.into(), place(Location::caller()));
        SolidBuilder::new(self, draft)
    }

    /// A solid whose body is a line for a shell, and the step that invokes it. What it reads and writes is as
    /// in a pipeline file: `sort {{ inputs.words }} > {{ outputs.result }}`.
    #[track_caller]
    pub fn shell(&mut self, name: &str, line: &str) -> CommandBuilder<'_> {
        CommandBuilder::new(self, name, Text::Shell(line.to_owned()), place(Location::caller()))
    }

    /// A solid whose body is a program with arguments, and the step that invokes it.
    #[track_caller]
    pub fn program(&mut self, name: &str, words: &[&str]) -> CommandBuilder<'_> {
        let words = words.iter().map(|word| (*word).to_owned()).collect();
        CommandBuilder::new(self, name, Text::List(words), place(Location::caller()))
    }

    /// A resource.
    #[track_caller]
    pub fn resource(&mut self, name: &str) -> ResourceBuilder<'_, (), New> {
        ResourceBuilder::new(self, name, None, place(Location::caller()))
    }

    /// A mode: a named choice of definitions for the resources.
    #[track_caller]
    pub fn mode(&mut self, name: &str) -> ModeBuilder<'_> {
        if !self.pipeline.modes.iter().any(|mode| mode.name == name) {
            self.pipeline.modes.push(Mode { name: name.to_owned(), ..Mode::default() });
        }
        ModeBuilder::new(self, name)
    }

    /// Puts an output into the project after each run: as the file or folder of this name, or inside of it,
    /// one file an element, where it ends in `/`.
    #[track_caller]
    pub fn publish<T>(&mut self, target: impl Into<String>, out: &Out<T>) {
        let target = target.into();
        self.promises.push(Promised {
            promise: out.promise(),
            by: format!("`{target}`, which is published,"),
            as_file: true,
            place: place(Location::caller()),
        });
        let pick = if target.ends_with('/') { Pick::All } else { Pick::Same };
        let what = OutputRef {
            step: out.step.to_string(),
            pick,
            output: Some(out.output.to_string()),
            place: Some(place(Location::caller())),
        };
        self.pipeline.publish.push(Publish { target, what });
    }

    /// The finished definition, which is run like one from a file.
    ///
    /// # Errors
    /// Everything that is wrong with it: names, cycles, missing versions, and what a type does not tell.
    pub fn build(mut self) -> Result<Pipeline, EngineError> {
        self.check_names();
        self.check_versions();
        self.check_promises();
        self.check_resources();
        if self.pipeline.folder.as_os_str().is_empty() {
            self.pipeline.folder = PathBuf::from(".");
        }
        match std::path::absolute(&self.pipeline.folder) {
            Ok(folder) => self.pipeline.folder = folder,
            Err(source) => {
                return Err(EngineError::Io { action: "find", path: self.pipeline.folder, source });
            }
        }
        // What definitions from files are checked for too, in the same words; where something was found here,
        // that says more.
        if self.errors.is_empty() {
            self.errors = self.pipeline.check();
        }
        if self.errors.is_empty() { Ok(self.pipeline) } else { Err(EngineError::Definition(self.errors)) }
    }

    fn check_names(&mut self) {
        let mut seen = BTreeSet::new();
        for invocation in &self.pipeline.invocations {
            if !seen.insert(&invocation.name) {
                let text = format!("there are two steps `{}`", invocation.name);
                self.errors.push(
                    Diagnostic::new(text)
                        .hint("give one of them a name of its own: `.alias(\"…\")`")
                        .at(invocation.place.as_ref()),
                );
            }
        }
    }

    fn check_versions(&mut self) {
        for invocation in &self.pipeline.invocations {
            let solid = &invocation.solid;
            if matches!(solid.body, Body::Function(_)) && solid.version.is_none() {
                self.errors.push(
                    Diagnostic::new(format!("solid `{}` has no version", solid.name))
                        .hint("give `file_version!()`, `crate_version!()` or a text beside its name")
                        .at(invocation.place.as_ref()),
                );
            }
        }
        let of_modes = self.pipeline.modes.iter().flat_map(|mode| mode.resources.values());
        for resource in self.pipeline.resources.values().chain(of_modes) {
            if resource.version.is_none() && resource.probe.is_none() && resource.files.is_empty() {
                self.errors.push(
                    Diagnostic::new(format!("resource `{}` has no version", resource.name))
                        .hint("give at least one of `.version(…)`, `.probe(…)` and `.files(…)`")
                        .at(resource.place.as_ref()),
                );
            }
        }
    }

    /// Handles hold by their types within one builder. One that came from another builder is found here.
    fn check_promises(&mut self) {
        let steps: BTreeMap<&str, &Invocation> =
            self.pipeline.invocations.iter().map(|step| (step.name.as_str(), step)).collect();
        for Promised { promise, by, as_file, place } in &self.promises {
            let (step, output) = (&*promise.step, &*promise.output);
            let declared = steps
                .get(step)
                .map(|step| step.solid.outputs.iter().find(|declared| declared.name == output));
            let message = match declared {
                None => format!("{by} refers to step `{step}`, which is not in this pipeline"),
                Some(None) => format!("{by} refers to `{step}.{output}`, which that step does not declare"),
                Some(Some(declared))
                    if declared.codec != promise.form.codec
                        || declared.shape.as_deref().unwrap_or_default() != &*promise.form.shape =>
                {
                    format!(
                        "{by} refers to `{step}.{output}` as something that it is not: is the handle from another pipeline?"
                    )
                }
                Some(Some(_)) if *as_file && !promise.form.file_form => {
                    let diagnostic = Diagnostic::new(format!(
                        "{by} needs `{step}.{output}` as a file, and `{}` has no form as one",
                        promise.form.codec
                    ));
                    let hint = "give that output a codec that has: `.codec::<Json>()`, `Text`, `Bytes`, or `.file(…)`";
                    self.errors.push(diagnostic.hint(hint).at(Some(place)));
                    continue;
                }
                Some(Some(_)) => continue,
            };
            self.errors.push(Diagnostic::new(message).at(Some(place)));
        }
    }

    /// What resources need must be there, in each mode, and no resource may need itself.
    fn check_resources(&mut self) {
        let mut found = BTreeSet::new();
        let modes = std::iter::once(None).chain(self.pipeline.modes.iter().map(Some));
        for mode in modes {
            let resource = |name: &str| -> Option<&Resource> {
                mode.and_then(|mode| mode.resources.get(name)).or_else(|| self.pipeline.resources.get(name))
            };
            for name in self.pipeline.resources.keys() {
                let mut path = vec![name.as_str()];
                if let Some(cycle) = cycle(&resource, &mut path) {
                    found.insert(cycle);
                }
            }
        }
        for (names, place) in found {
            let text = format!("resource `{}` needs itself: {}", names[0], names.join(" → "));
            self.errors.push(Diagnostic::new(text).at(
                place.map(|(file, line, column)| Place { file: Arc::from(file), line, column }).as_ref(),
            ));
        }
    }
}

/// A cycle of resources, from its least name round to it again, and where that one is defined.
type Cycle = (Vec<String>, Option<(String, u32, u32)>);

fn cycle<'a>(resource: &impl Fn(&str) -> Option<&'a Resource>, path: &mut Vec<&'a str>) -> Option<Cycle> {
    let last = *path.last()?;
    for need in &resource(last)?.resources {
        if let Some(begin) = path.iter().position(|name| name == need) {
            let mut names: Vec<String> = path[begin..].iter().map(|name| (*name).to_owned()).collect();
            let least =
                names.iter().enumerate().min_by_key(|(_, name)| (*name).clone()).map_or(0, |(at, _)| at);
            names.rotate_left(least);
            names.push(names[0].clone());
            let place = resource(&names[0])
                .and_then(|resource| resource.place.as_ref())
                .map(|place| (place.file.to_string(), place.line, place.column));
            return Some((names, place));
        }
        path.push(need);
        let found = cycle(resource, path);
        path.pop();
        if found.is_some() {
            return found;
        }
    }
    None
}
