//! The builder of a solid whose body is a command, among Rust ones. Its keys are those of a pipeline file.

use std::collections::BTreeSet;
use std::fmt;
use std::panic::Location;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::builder::{Builder, place};
use super::input::{Input, template};
use super::list::{Each, List};
use super::output::{AsDirectory, AsFile, Described, Directory, FILE_CODEC, File, Form, Out};
use super::resource::Res;
use super::solid::{Axis, Draft, common, without_extension};
use super::version::CodeVersion;
use crate::error::{Diagnostic, Place};
use crate::execute::Content;
use crate::solid::{
    Body, Command, Declared, EnvVar, Line, OutputDecl, Pattern, Sandbox, ScratchFolder, Shell, Solid,
};

/// A command that is being defined, up to [`add`](CommandBuilder::add).
#[must_use = "a command is put into the pipeline by `.add()`"]
pub struct CommandBuilder<'p> {
    builder: &'p mut Builder,
    draft: Draft,
    text: Text,
    shell: Shell,
    code: Vec<Pattern>,
    outputs: Vec<OutputDecl>,
    no_outputs: bool,
    stdout: Option<String>,
    env: Vec<EnvVar>,
    pass_env: Vec<String>,
    secrets: Vec<String>,
    sandbox: Sandbox,
}

/// A command as it was written.
pub(super) enum Text {
    Shell(String),
    List(Vec<String>),
}

impl<'p> CommandBuilder<'p> {
    common!();

    pub(super) fn new(builder: &'p mut Builder, name: &str, text: Text, place: Place) -> Self {
        Self {
            builder,
            draft: Draft::new(name, CodeVersion::from(""), place),
            text,
            shell: Shell::Sh,
            code: Vec::new(),
            outputs: Vec::new(),
            no_outputs: false,
            stdout: None,
            env: Vec::new(),
            pass_env: Vec::new(),
            secrets: Vec::new(),
            sandbox: Sandbox::Off,
        }
    }

    /// A version by hand, beside or instead of code.
    pub fn version(mut self, version: &str) -> Self {
        self.draft.version = CodeVersion::from(version);
        self
    }

    /// What runs a shell line; without it, `sh -e -c`.
    pub fn with_shell(mut self, shell: Shell) -> Self {
        self.shell = shell;
        self
    }

    /// Files, globs and folders of the project that are its code: part of its version, and laid in its folder.
    pub fn code(mut self, patterns: &[&str]) -> Self {
        let place = &self.draft.place;
        let patterns =
            patterns.iter().map(|text| Pattern { text: (*text).to_owned(), place: Some(place.clone()) });
        self.code.extend(patterns);
        self
    }

    /// The config that it takes, as the fields of this type: `{{ config.dog_breed }}`.
    pub fn config<T: Serialize + DeserializeOwned>(mut self) -> Self {
        self.draft.set_config::<T>();
        self
    }

    /// An input, as for a function; an output that it reads needs a form as a file.
    #[track_caller]
    pub fn input(mut self, name: &str, input: impl Input) -> Self {
        let place = place(Location::caller());
        self.draft.add_input(name, input, &place);
        self
    }

    /// One step per element of a list that another step yields: `{{ inputs.NAME }}` is a file with the element, a text as
    /// it is, anything else as JSON.
    #[track_caller]
    pub fn map<T: Serialize + DeserializeOwned + 'static>(mut self, name: &str, list: &List<T>) -> Self {
        let place = place(Location::caller());
        self.draft.add_input(name, Each(list), &place);
        self
    }

    /// A resource that it needs.
    pub fn resource<T>(mut self, resource: &Res<T>) -> Self {
        self.draft.resources.push(resource.name.to_string());
        self
    }

    /// One step per value of this axis: `{{ matrix.lr }}`.
    pub fn over<T>(mut self, axis: &Axis<T>) -> Self {
        match &axis.axis {
            Ok(axis) => self.draft.matrix.push(axis.clone()),
            Err(message) => self.draft.errors.push(message.clone()),
        }
        self
    }

    /// An output, which it writes at `outputs/<name>`; an extension belongs to the file, not to the name.
    /// Without any, it has the one output that `stdout` names, else `result`.
    pub fn output(self, name: &str) -> Self {
        let at = format!("outputs/{name}");
        self.declare(name, at, false)
    }

    /// As [`output`](Self::output), and it need not be made.
    pub fn optional_output(self, name: &str) -> Self {
        let at = format!("outputs/{name}");
        self.declare(name, at, true)
    }

    /// An output that it writes at another place in its folder.
    pub fn output_at(self, name: &str, at: &str) -> Self {
        self.declare(name, at.to_owned(), false)
    }

    /// It makes nothing that is kept; it runs once per version all the same.
    pub fn no_outputs(mut self) -> Self {
        self.no_outputs = true;
        self
    }

    fn declare(mut self, name: &str, at: String, optional: bool) -> Self {
        self.outputs.push(OutputDecl {
            name: without_extension(name).to_owned(),
            at,
            optional,
            list: false,
            codec: FILE_CODEC.to_owned(),
            shape: None,
            place: Some(self.draft.place.clone()),
        });
        self
    }

    /// Its standard output becomes this output, which that declares.
    pub fn stdout(mut self, name: &str) -> Self {
        self.stdout = Some(without_extension(name).to_owned());
        if self.outputs.iter().any(|output| output.name == without_extension(name)) {
            return self;
        }
        self.output(name)
    }

    /// A variable that it is passed, hashed.
    pub fn env(mut self, name: &str) -> Self {
        self.env.push(EnvVar::Pass(name.to_owned()));
        self
    }

    /// A variable that is set for it, hashed.
    pub fn set_env(mut self, name: &str, value: &str) -> Self {
        match template(value) {
            Ok(value) => self.env.push(EnvVar::Set(name.to_owned(), value)),
            Err(message) => self.draft.errors.push(message),
        }
        self
    }

    /// A variable that it is passed, neither hashed nor recorded.
    pub fn pass_env(mut self, name: &str) -> Self {
        self.pass_env.push(name.to_owned());
        self
    }

    /// A variable that it must have, never hashed nor stored, and blotted out of what it prints.
    pub fn secret(mut self, name: &str) -> Self {
        self.secrets.push(name.to_owned());
        self
    }

    /// A folder, in the step's folder, that is there again at its next attempt on this machine: to save time only.
    /// No output may hold it.
    #[track_caller]
    pub fn scratch(mut self, folder: &str) -> Self {
        let place = place(Location::caller());
        self.draft.policy.scratch.push(ScratchFolder::new(folder, Some(place)));
        self
    }

    /// Whether what it was not given is told of, or refused.
    pub fn sandbox(mut self, sandbox: Sandbox) -> Self {
        self.sandbox = sandbox;
        self
    }

    /// Adds the step to the pipeline, and gives it as a handle to its outputs.
    pub fn add(mut self) -> Step {
        if self.outputs.is_empty() && !self.no_outputs {
            self = self.output("result");
        }
        if self.no_outputs && !self.outputs.is_empty() {
            self.draft.errors.push("it is said to have no outputs, and some are declared".to_owned());
        }
        let mut names = BTreeSet::new();
        for output in &self.outputs {
            if !names.insert(&output.name) {
                self.draft.errors.push(format!("there are two outputs `{}`", output.name));
            }
        }
        let place = self.draft.place.clone();
        let parsed = match &self.text {
            Text::Shell(text) => Line::shell(text, self.shell, Some(&place)),
            Text::List(words) => {
                let words: Vec<&str> = words.iter().map(String::as_str).collect();
                Line::list(&words, Some(&place))
            }
        };
        let step = Step { name: self.draft.step().into(), outputs: self.outputs.clone() };
        let line = match parsed {
            Ok(line) => line,
            Err(diagnostics) => {
                let name = &step.name;
                self.builder.errors.extend(diagnostics.into_iter().map(|diagnostic| Diagnostic {
                    message: format!("the command of `{name}`: {}", diagnostic.message),
                    ..diagnostic
                }));
                Line::List(Vec::new())
            }
        };
        let version = (!self.draft.version.is_missing()).then(|| self.draft.version.text.clone());
        let solid = Solid {
            name: self.draft.name.clone(),
            description: self.draft.description.clone(),
            version: self.draft.declared.clone().or(version.map(Declared::Text)),
            code: self.code,
            config: self.draft.config.clone(),
            resources: self.draft.resources.clone(),
            outputs: self.outputs,
            body: Body::Command(Command { line, stdout: self.stdout, place: Some(place) }),
            env: self.env,
            pass_env: self.pass_env,
            secrets: self.secrets,
            platform: self.draft.platform,
            sandbox: self.sandbox,
            policy: self.draft.policy.clone(),
            place: Some(self.draft.place.clone()),
        };
        self.draft.add(self.builder, solid, true);
        step
    }
}

/// A step of a command: a handle to its outputs, which are files or folders.
#[derive(Clone)]
pub struct Step {
    name: Arc<str>,
    outputs: Vec<OutputDecl>,
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Step {
    /// Its only output, or the one named `result`, as a file.
    pub fn result(&self) -> Out<File> {
        match &self.outputs[..] {
            [only] => self.file(&only.name),
            _ => self.file("result"),
        }
    }

    /// An output that is a file. One that was not declared is an error of
    /// [`Builder::build`](super::Builder::build) where something refers to it.
    pub fn file(&self, output: &str) -> Out<File> {
        self.out(output, <AsFile as Form<File>>::read)
    }

    /// An output that is a folder.
    pub fn directory(&self, output: &str) -> Out<Directory> {
        self.out(output, <AsDirectory as Form<Directory>>::read)
    }

    fn out<T>(
        &self,
        output: &str,
        read: fn(&Content, &std::path::Path) -> Result<T, super::BoxError>,
    ) -> Out<T> {
        let form = Described { codec: FILE_CODEC.to_owned(), shape: "".into(), file_form: true };
        Out { step: Arc::clone(&self.name), output: output.into(), form, read }
    }
}
