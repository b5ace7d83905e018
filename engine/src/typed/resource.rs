//! The builder of a resource: what is opened once per run for the bodies that need it.

use std::any::TypeId;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::BoxError;
use super::argument::{Arguments, Body, ConfigArgument, Push, ResourceArgument, opener_call};
use super::builder::Builder;
use super::input::template;
use super::version::CodeVersion;
use crate::error::{Diagnostic, Place};
use crate::execute::{Cancel, OpenResource, Opened};
use crate::resource::Resource;
use crate::solid::{Pattern, Template};
use crate::value::Config;

/// A resource that opens to a `T`.
pub struct Res<T> {
    pub(super) name: Arc<str>,
    marker: PhantomData<fn() -> T>,
}

impl<T> Clone for Res<T> {
    fn clone(&self) -> Self {
        Self { name: Arc::clone(&self.name), marker: PhantomData }
    }
}

impl<T> fmt::Debug for Res<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "resource {}", self.name)
    }
}

/// A resource that is new: it may open to anything.
pub struct New;

/// A resource that takes the place of another one in a mode: it must open to the same.
pub struct Same<T>(PhantomData<fn() -> T>);

/// What a resource may open to.
pub trait Fits<T> {}

impl<T> Fits<T> for New {}

impl<T> Fits<T> for Same<T> {}

/// A mode that is being defined.
pub struct ModeBuilder<'p> {
    builder: &'p mut Builder,
    name: String,
}

impl<'p> ModeBuilder<'p> {
    pub(super) fn new(builder: &'p mut Builder, name: &str) -> Self {
        Self { builder, name: name.to_owned() }
    }

    /// Another definition of a resource, whole, for runs in this mode.
    #[track_caller]
    pub fn replace<T>(self, resource: &Res<T>) -> ResourceBuilder<'p, (), Same<T>> {
        let place = super::builder::place(std::panic::Location::caller());
        ResourceBuilder::new(self.builder, &resource.name, Some(self.name), place)
    }
}

/// A resource that is being defined, up to [`open`](ResourceBuilder::open) or
/// [`define`](ResourceBuilder::define). At least one of version, probe and files has to be given.
#[must_use = "a resource is defined by saying how it is opened: `.open(…)`"]
pub struct ResourceBuilder<'p, A, W> {
    builder: &'p mut Builder,
    mode: Option<String>,
    resource: Resource,
    config_shape: Option<String>,
    code: Option<CodeVersion>,
    errors: Vec<String>,
    arguments: A,
    marker: PhantomData<fn() -> W>,
}

impl<'p, W> ResourceBuilder<'p, (), W> {
    pub(super) fn new(builder: &'p mut Builder, name: &str, mode: Option<String>, place: Place) -> Self {
        let resource = Resource { name: name.to_owned(), place: Some(place), ..Resource::default() };
        Self {
            builder,
            mode,
            resource,
            config_shape: None,
            code: None,
            errors: Vec::new(),
            arguments: (),
            marker: PhantomData,
        }
    }
}

impl<'p, A: Arguments, W> ResourceBuilder<'p, A, W> {
    fn argument<N>(self, argument: N) -> ResourceBuilder<'p, A::Pushed, W>
    where
        A: Push<N>,
    {
        let Self { builder, mode, resource, config_shape, code, errors, arguments, marker } = self;
        let arguments = arguments.push(argument);
        ResourceBuilder { builder, mode, resource, config_shape, code, errors, arguments, marker }
    }

    /// Its version: [`file_version!`](super::file_version), [`crate_version!`](super::crate_version) or a
    /// text by hand.
    pub fn version(mut self, version: impl Into<CodeVersion>) -> Self {
        self.code = Some(version.into());
        self
    }

    /// A shell line whose output is part of its version.
    pub fn probe(mut self, command: &str) -> Self {
        self.resource.probe = self.template(command);
        self
    }

    /// Files, globs and folders of the project that are part of its version, and are laid in the folder of
    /// each command that needs it.
    pub fn files(mut self, patterns: &[&str]) -> Self {
        let place = &self.resource.place;
        let patterns = patterns.iter().map(|text| Pattern { text: (*text).to_owned(), place: place.clone() });
        self.resource.files.extend(patterns);
        self
    }

    /// Folders of the project that are put before PATH for commands; not part of its version.
    pub fn path(mut self, folders: &[&str]) -> Self {
        self.resource.path.extend(folders.iter().map(|folder| (*folder).to_owned()));
        self
    }

    /// A variable that it sets in the environment of commands.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        if let Some(value) = self.template(value) {
            self.resource.env.push((name.to_owned(), value));
        }
        self
    }

    fn template(&mut self, text: &str) -> Option<Template> {
        template(text).map_err(|message| self.errors.push(message)).ok()
    }

    /// The config that it takes; its opener is given it as this type.
    pub fn config<T>(mut self) -> ResourceBuilder<'p, A::Pushed, W>
    where
        T: Serialize + DeserializeOwned + 'static,
        A: Push<ConfigArgument<T>>,
    {
        let mut fields = Vec::new();
        match super::config::describe::<T>() {
            Ok(described) => {
                fields = described.schema.fields.keys().cloned().collect();
                self.resource.config = described.schema;
                self.config_shape = Some(described.shape);
            }
            Err(message) => self.errors.push(message),
        }
        self.argument(ConfigArgument { fields, marker: PhantomData })
    }

    /// A resource that it needs in turn; its opener is given what that one opened to, in an `Arc`.
    pub fn needs<T>(mut self, resource: &Res<T>) -> ResourceBuilder<'p, A::Pushed, W>
    where
        T: Send + Sync + 'static,
        A: Push<ResourceArgument<T>>,
    {
        self.resource.resources.push(resource.name.to_string());
        self.argument(ResourceArgument { name: resource.name.to_string(), marker: PhantomData })
    }

    /// How it is opened: an `fn`, or a closure that captures nothing. Called at most once per run, and only if
    /// a step that needs it runs.
    pub fn open<F, T>(self, opener: F) -> Res<T>
    where
        F: Body<A, T>,
        T: Send + Sync + 'static,
        W: Fits<T>,
    {
        const {
            assert!(
                size_of::<F>() == 0,
                "an opener is an `fn` or a closure that captures nothing: give values as config or resources"
            )
        };
        self.finish::<F, T, T>(opener, Ok)
    }

    /// As [`open`](Self::open), for one that returns a `Result`: with an error, every step that needs it fails.
    pub fn open_fallible<F, T, E>(self, opener: F) -> Res<T>
    where
        F: Body<A, Result<T, E>>,
        T: Send + Sync + 'static,
        E: Into<BoxError> + 'static,
        W: Fits<T>,
    {
        const {
            assert!(
                size_of::<F>() == 0,
                "an opener is an `fn` or a closure that captures nothing: give values as config or resources"
            )
        };
        self.finish::<F, Result<T, E>, T>(opener, |opened| opened.map_err(Into::into))
    }

    fn finish<F, Raw, T>(mut self, opener: F, outcome: fn(Raw) -> Result<T, BoxError>) -> Res<T>
    where
        F: Body<A, Raw>,
        Raw: 'static,
        T: Send + Sync + 'static,
    {
        self.resource.version = self.version_text(Some(std::any::type_name::<F>()));
        if let Some(version) = &self.resource.version {
            // Two openers under one name and version would be taken for one.
            let key = format!("resource {} {version}", self.resource.name);
            if *self.builder.bodies.entry(key).or_insert_with(TypeId::of::<F>) != TypeId::of::<F>() {
                self.errors.push("it has the same version in another mode, and another opener".to_owned());
            }
        }
        self.resource.open = Some(Arc::new(Opener {
            name: self.resource.name.clone(),
            opener,
            arguments: self.arguments,
            outcome,
        }));
        add(self.builder, self.mode, self.resource, self.errors)
    }

    fn version_text(&self, body: Option<&str>) -> Option<String> {
        let code = self.code.as_ref().filter(|code| !code.is_missing())?;
        let mut text = code.text.clone();
        if let (true, Some(body)) = (code.measured, body) {
            text.push_str(&format!(" body {body}"));
        }
        if let Some(shape) = &self.config_shape {
            text.push_str(&format!(" config {}", cas_store::Digest::of(shape.as_bytes())));
        }
        Some(text)
    }
}

impl<A: Arguments, W: Fits<()>> ResourceBuilder<'_, A, W> {
    /// There is nothing to open: it is for commands, or its version is all that matters.
    pub fn define(mut self) -> Res<()> {
        self.resource.version = self.version_text(None);
        add(self.builder, self.mode, self.resource, self.errors)
    }
}

fn add<T>(builder: &mut Builder, mode: Option<String>, resource: Resource, errors: Vec<String>) -> Res<T> {
    let name: Arc<str> = resource.name.as_str().into();
    let place = resource.place.clone();
    for message in errors {
        builder.errors.push(Diagnostic::new(format!("resource `{name}`: {message}")).at(place.as_ref()));
    }
    let resources: Option<&mut BTreeMap<String, Resource>> = match &mode {
        None => Some(&mut builder.pipeline.resources),
        Some(mode) => builder
            .pipeline
            .modes
            .iter_mut()
            .find(|known| known.name == *mode)
            .map(|known| &mut known.resources),
    };
    if let Some(resources) = resources
        && resources.insert(name.to_string(), resource).is_some()
    {
        builder.errors.push(Diagnostic::new(format!("there are two resources `{name}`")).at(place.as_ref()));
    }
    Res { name, marker: PhantomData }
}

/// An opener with the types of its arguments, behind the trait that does not know them.
struct Opener<F, A, Raw, T> {
    name: String,
    opener: F,
    arguments: A,
    outcome: fn(Raw) -> Result<T, BoxError>,
}

impl<F, A, Raw, T> fmt::Debug for Opener<F, A, Raw, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Opener").field(&self.name).finish()
    }
}

impl<F, A, Raw, T> OpenResource for Opener<F, A, Raw, T>
where
    F: Body<A, Raw>,
    A: Arguments,
    Raw: 'static,
    T: Send + Sync + 'static,
{
    fn open(&self, config: &Config, needs: &BTreeMap<String, Opened>) -> Result<Opened, BoxError> {
        let cancel = Arc::new(Cancel::default());
        let call = opener_call(config, needs, &cancel);
        let opened = (self.outcome)(self.opener.call(&self.arguments, &call)?)?;
        Ok(Arc::new(opened))
    }
}
