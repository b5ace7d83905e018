//! The builder of a solid whose body is a Rust function.

use std::any::TypeId;
use std::fmt;
use std::marker::PhantomData;
use std::panic::Location;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::BoxError;
use super::argument::{
    Arguments, AxisArgument, Body, ConfigArgument, ContextArgument, InputArgument, Push, ResourceArgument,
};
use super::builder::{Builder, Promised, place};
use super::input::{Input, Promise};
use super::list::{Each, List, Listed};
use super::output::{AsDirectory, AsFile, Declare, Described, Encoded, Implicit, Made, Maybe, Outputs};
use super::resource::Res;
use super::version::CodeVersion;
use crate::error::{Diagnostic, Place};
use crate::execute::{Call, Function, Produced};
use crate::pipeline::{self, Invocation, Point};
use crate::solid::{Declared, OutputDecl, Platform, Policy, Sandbox, Solid};
use crate::value::Schema;

/// A solid that is being defined, up to [`run`](SolidBuilder::run). `A` are the arguments of its body, `O`
/// its outputs.
#[must_use = "a solid is defined by giving it a body: `.run(…)`"]
pub struct SolidBuilder<'p, A, O> {
    builder: &'p mut Builder,
    draft: Draft,
    arguments: A,
    marker: PhantomData<fn() -> O>,
}

/// What is known of a solid and its step, whatever its body is.
pub(super) struct Draft {
    pub(super) name: String,
    pub(super) alias: Option<String>,
    pub(super) description: Option<String>,
    pub(super) version: CodeVersion,
    pub(super) declared: Option<Declared>,
    pub(super) config: Schema,
    pub(super) config_shape: Option<String>,
    pub(super) inputs: Vec<pipeline::Input>,
    pub(super) promises: Vec<(String, Promise)>,
    pub(super) matrix: Vec<pipeline::Axis>,
    pub(super) resources: Vec<String>,
    /// Declared names of outputs, with their extensions; the one `result` where there are none.
    pub(super) outputs: Vec<String>,
    pub(super) platform: Platform,
    pub(super) policy: Policy,
    pub(super) errors: Vec<String>,
    pub(super) place: Place,
}

impl Draft {
    pub(super) fn new(name: &str, version: CodeVersion, place: Place) -> Self {
        Self {
            name: name.to_owned(),
            alias: None,
            description: None,
            version,
            declared: None,
            config: Schema::default(),
            config_shape: None,
            inputs: Vec::new(),
            promises: Vec::new(),
            matrix: Vec::new(),
            resources: Vec::new(),
            outputs: Vec::new(),
            platform: Platform::default(),
            policy: Policy::default(),
            errors: Vec::new(),
            place,
        }
    }

    pub(super) fn step(&self) -> &str {
        self.alias.as_deref().unwrap_or(&self.name)
    }

    pub(super) fn set_config<T: Serialize + DeserializeOwned>(&mut self) -> Vec<String> {
        if self.config_shape.is_some() {
            self.errors.push("its config is given twice".to_owned());
        }
        match super::config::describe::<T>() {
            Ok(described) => {
                let fields = described.schema.fields.keys().cloned().collect();
                self.config = described.schema;
                self.config_shape = Some(described.shape);
                fields
            }
            Err(message) => {
                self.errors.push(message);
                Vec::new()
            }
        }
    }

    /// Adds an input, and gives its name without an extension.
    pub(super) fn add_input<I: Input>(
        &mut self,
        name: &str,
        input: I,
        place: &Place,
    ) -> InputArgument<I::Value> {
        let bound = input.bind();
        let plain = without_extension(name).to_owned();
        match bound.source {
            Ok(source) => self.inputs.push(pipeline::Input {
                name: plain.clone(),
                file_name: name.to_owned(),
                source,
                place: Some(place.clone()),
            }),
            Err(message) => self.errors.push(format!("its input `{name}`: {message}")),
        }
        self.promises.extend(bound.promised.into_iter().map(|promise| (plain.clone(), promise)));
        InputArgument { name: plain, read: bound.read }
    }

    /// Puts the solid and its step into the pipeline.
    pub(super) fn add(self, builder: &mut Builder, solid: Solid, as_file: bool) {
        let step = self.step().to_owned();
        for (input, promise) in self.promises {
            let by = format!("input `{input}` of `{step}`");
            builder.promises.push(Promised { promise, by, as_file, place: self.place.clone() });
        }
        for message in self.errors {
            builder.errors.push(Diagnostic::new(format!("`{step}`: {message}")).at(Some(&self.place)));
        }
        builder.pipeline.invocations.push(Invocation {
            name: step,
            solid: Arc::new(solid),
            inputs: self.inputs,
            matrix: self.matrix,
            place: Some(self.place),
        });
    }
}

/// `tree` for `tree.txt`.
pub(super) fn without_extension(name: &str) -> &str {
    name.split_once('.').map_or(name, |(name, _)| name)
}

/// An axis of a matrix: one step per value, and per combination where there are several axes.
#[derive(Debug, Clone)]
pub struct Axis<T> {
    pub(super) axis: Result<pipeline::Axis, String>,
    marker: PhantomData<fn() -> T>,
}

impl<T: Serialize + DeserializeOwned + 'static> Axis<T> {
    /// The axis of this name with these values, in order. Solids that share it are matched by its values.
    pub fn new(name: &str, values: impl IntoIterator<Item = T>) -> Self {
        let points: Result<Vec<Point>, String> = values
            .into_iter()
            .map(|value| {
                let value = super::config::encode_value(&value)
                    .map_err(|error| format!("a value of axis `{name}` cannot be config: {error}"))?;
                Ok(Point { label: value.text(), value, row: false })
            })
            .collect();
        let axis = points.map(|points| pipeline::Axis { name: name.to_owned(), points: Arc::new(points) });
        Self { axis, marker: PhantomData }
    }
}

/// Setters that solids and commands have in common.
macro_rules! common {
    () => {
        /// The name of the step, where it is not the solid's: another invocation of the same solid. It is not
        /// part of any version.
        pub fn alias(mut self, name: &str) -> Self {
            self.draft.alias = Some(name.to_owned());
            self
        }

        /// What it does, for people.
        pub fn description(mut self, text: &str) -> Self {
            self.draft.description = Some(text.to_owned());
            self
        }

        /// It runs in every run.
        pub fn volatile(mut self) -> Self {
            self.draft.declared = Some($crate::solid::Declared::Volatile);
            self
        }

        /// Its result is good for so long.
        pub fn every(mut self, time: std::time::Duration) -> Self {
            self.draft.declared = Some($crate::solid::Declared::Every(time));
            self
        }

        /// Its result is the same on any platform.
        pub fn any_platform(mut self) -> Self {
            self.draft.platform = $crate::solid::Platform::Any;
            self
        }

        /// How many times it is tried again after a failure.
        pub fn retries(mut self, times: u32) -> Self {
            self.draft.policy.retries.times = times;
            self
        }

        /// After how long an attempt is a failure.
        pub fn timeout(mut self, time: std::time::Duration) -> Self {
            self.draft.policy.timeout = Some(time);
            self
        }

        /// Everything about trying it again.
        pub fn retrying(mut self, retries: $crate::solid::Retries) -> Self {
            self.draft.policy.retries = retries;
            self
        }

        /// When it fails, the run is as good as if it had not been there.
        pub fn allow_failure(mut self) -> Self {
            self.draft.policy.allow_failure = true;
            self
        }

        /// How many cores one step of it uses.
        pub fn cpus(mut self, cpus: u32) -> Self {
            self.draft.policy.cpus = cpus;
            self
        }

        /// How much memory one step of it uses, in bytes.
        pub fn memory(mut self, bytes: u64) -> Self {
            self.draft.policy.memory = Some(bytes);
            self
        }

        /// How much of a named limit one step of it uses.
        pub fn limit(mut self, name: &str, amount: u32) -> Self {
            self.draft.policy.limits.insert(name.to_owned(), amount);
            self
        }

        /// These fields of its config take the pipeline's values of the same names, unless the run config
        /// gives it its own.
        pub fn shares(mut self, fields: &[&str]) -> Self {
            for name in fields {
                match self.draft.config.fields.get_mut(*name) {
                    Some(field) => field.from_pipeline = Some((*name).to_owned()),
                    None => self.draft.errors.push(format!("its config has no field `{name}` to share")),
                }
            }
            self
        }
    };
}
pub(super) use common;

impl<'p> SolidBuilder<'p, (), Implicit<Encoded<super::codec::Bincode>>> {
    pub(super) fn new(builder: &'p mut Builder, draft: Draft) -> Self {
        Self { builder, draft, arguments: (), marker: PhantomData }
    }
}

impl<'p, A: Arguments, O> SolidBuilder<'p, A, O> {
    common!();

    fn argument<N>(self, argument: N) -> SolidBuilder<'p, A::Pushed, O>
    where
        A: Push<N>,
    {
        let Self { builder, draft, arguments, marker } = self;
        SolidBuilder { builder, draft, arguments: arguments.push(argument), marker }
    }

    /// The config that it takes; its body is given it as this type.
    pub fn config<T>(mut self) -> SolidBuilder<'p, A::Pushed, O>
    where
        T: Serialize + DeserializeOwned + 'static,
        A: Push<ConfigArgument<T>>,
    {
        let fields = self.draft.set_config::<T>();
        self.argument(ConfigArgument { fields, marker: PhantomData })
    }

    /// An input: another step's output, several of them, or what the functions
    /// [`path`](super::path), [`value`](super::value), [`default`](super::default) and
    /// [`probe`](super::probe) give.
    #[track_caller]
    pub fn input<I: Input>(mut self, name: &str, input: I) -> SolidBuilder<'p, A::Pushed, O>
    where
        A: Push<InputArgument<I::Value>>,
    {
        let place = place(Location::caller());
        let argument = self.draft.add_input(name, input, &place);
        self.argument(argument)
    }

    /// One step per element of a list that another step yields; its body is given the element. One list at a time:
    /// for all pairs of two, let a step yield the pairs.
    #[track_caller]
    pub fn map<T>(mut self, name: &str, list: &List<T>) -> SolidBuilder<'p, A::Pushed, O>
    where
        T: Serialize + DeserializeOwned + 'static,
        A: Push<InputArgument<T>>,
    {
        let place = place(Location::caller());
        let argument = self.draft.add_input(name, Each(list), &place);
        self.argument(argument)
    }

    /// A resource that it needs; its body is given what was opened, in an `Arc`.
    pub fn resource<T>(mut self, resource: &Res<T>) -> SolidBuilder<'p, A::Pushed, O>
    where
        T: Send + Sync + 'static,
        A: Push<ResourceArgument<T>>,
    {
        self.draft.resources.push(resource.name.to_string());
        self.argument(ResourceArgument { name: resource.name.to_string(), marker: PhantomData })
    }

    /// One step per value of this axis; its body is given the value.
    pub fn over<T>(mut self, axis: &Axis<T>) -> SolidBuilder<'p, A::Pushed, O>
    where
        T: DeserializeOwned + 'static,
        A: Push<AxisArgument<T>>,
    {
        let name = match &axis.axis {
            Ok(axis) => {
                self.draft.matrix.push(axis.clone());
                axis.name.clone()
            }
            Err(message) => {
                self.draft.errors.push(message.clone());
                String::new()
            }
        };
        self.argument(AxisArgument { name, marker: PhantomData })
    }

    /// The attempt itself: its body is given a [`Context`](super::Context).
    pub fn context(self) -> SolidBuilder<'p, A::Pushed, O>
    where
        A: Push<ContextArgument>,
    {
        self.argument(ContextArgument)
    }

    fn declare<N>(self) -> SolidBuilder<'p, A, N> {
        let Self { builder, draft, arguments, .. } = self;
        SolidBuilder { builder, draft, arguments, marker: PhantomData }
    }

    /// An output of this name, written by this codec. With several, the body returns a tuple.
    pub fn output<C>(mut self, name: &str) -> SolidBuilder<'p, A, O::Declared>
    where
        O: Declare<Made<Encoded<C>>>,
    {
        self.draft.outputs.push(name.to_owned());
        self.declare()
    }

    /// As [`output`](Self::output), and the body returns an `Option`: what reads one that was not made is
    /// skipped.
    pub fn optional_output<C>(mut self, name: &str) -> SolidBuilder<'p, A, O::Declared>
    where
        O: Declare<Maybe<Encoded<C>>>,
    {
        self.draft.outputs.push(name.to_owned());
        self.declare()
    }

    /// An output that is a file: the body returns a `File` that it has written.
    pub fn file(mut self, name: &str) -> SolidBuilder<'p, A, O::Declared>
    where
        O: Declare<Made<AsFile>>,
    {
        self.draft.outputs.push(name.to_owned());
        self.declare()
    }

    /// An output that is a folder: the body returns a `Directory` that it has filled.
    pub fn directory(mut self, name: &str) -> SolidBuilder<'p, A, O::Declared>
    where
        O: Declare<Made<AsDirectory>>,
    {
        self.draft.outputs.push(name.to_owned());
        self.declare()
    }

    /// Gives it a body: an `fn`, or a closure that captures nothing. Adds the step, and gives the handles of
    /// its outputs.
    #[track_caller]
    pub fn run<F, R>(mut self, body: F) -> O::Handles
    where
        F: Body<A, R>,
        O: Outputs<R>,
        R: 'static,
    {
        const {
            assert!(
                size_of::<F>() == 0,
                "a body is an `fn` or a closure that captures nothing: give values as config, inputs or resources"
            )
        };
        // A `Result` that serde can write would be stored as a value, its errors with it.
        if std::any::type_name::<R>().starts_with("core::result::Result<") {
            self.draft.errors.push(
                "its body returns a `Result`: give it to `.run_fallible(…)`, so that an error is a failure"
                    .to_owned(),
            );
        }
        let location = Location::caller();
        self.finish::<F, R, R>(body, Ok, location)
    }

    /// As [`run`](Self::run), for a body that returns a `Result`: an error is a failure of the step.
    #[track_caller]
    pub fn run_fallible<F, R, E>(self, body: F) -> O::Handles
    where
        F: Body<A, Result<R, E>>,
        O: Outputs<R>,
        R: 'static,
        E: Into<BoxError> + 'static,
    {
        const {
            assert!(
                size_of::<F>() == 0,
                "a body is an `fn` or a closure that captures nothing: give values as config, inputs or resources"
            )
        };
        let location = Location::caller();
        self.finish::<F, Result<R, E>, R>(body, |returned| returned.map_err(Into::into), location)
    }

    fn finish<F, Raw, R>(
        mut self,
        body: F,
        outcome: fn(Raw) -> Result<R, BoxError>,
        location: &Location<'_>,
    ) -> O::Handles
    where
        F: Body<A, Raw>,
        O: Outputs<R>,
        Raw: 'static,
        R: 'static,
    {
        let described = O::describe();
        let mut names = std::mem::take(&mut self.draft.outputs);
        if names.is_empty() && !described.is_empty() {
            names.push("result".to_owned());
        }
        let mut outputs = Vec::new();
        let mut forms = Vec::new();
        for (name, described) in names.iter().zip(described) {
            let (form, optional) = described.unwrap_or_else(|error| {
                self.draft.errors.push(format!("its output `{name}`: {error}"));
                (Described { codec: String::new(), shape: "".into(), file_form: false }, false)
            });
            outputs.push(OutputDecl {
                name: without_extension(name).to_owned(),
                at: format!("outputs/{name}"),
                optional,
                list: O::LIST,
                codec: form.codec.clone(),
                shape: Some(form.shape.to_string()),
                place: Some(self.draft.place.clone()),
            });
            forms.push(form);
        }
        let krate = self
            .draft
            .version
            .krate
            .unwrap_or_else(|| std::any::type_name::<F>().split("::").next().unwrap_or_default());
        let name = format!("{krate}::{}", self.draft.name);
        self.one_body_per_name::<F>(&name);
        let version = version_text::<F>(&self.draft, location);
        if version.is_none() && matches!(self.draft.declared, Some(Declared::Every(_))) {
            self.draft.errors.push("its result is good for a time, but only of this code: it needs a version beside its name too".to_owned());
        }
        let function = Erased::<F, A, O, Raw, R> {
            name: name.clone(),
            version: version.clone().filter(|_| self.draft.declared.is_some()),
            body,
            arguments: self.arguments,
            outcome,
            marker: PhantomData,
        };
        let solid = Solid {
            name,
            description: self.draft.description.clone(),
            version: self.draft.declared.clone().or(version.map(Declared::Text)),
            code: Vec::new(),
            config: self.draft.config.clone(),
            resources: self.draft.resources.clone(),
            outputs,
            body: crate::solid::Body::Function(Arc::new(function)),
            env: Vec::new(),
            pass_env: Vec::new(),
            secrets: Vec::new(),
            platform: self.draft.platform,
            sandbox: Sandbox::Off,
            policy: self.draft.policy.clone(),
            place: Some(self.draft.place.clone()),
        };
        let step: Arc<str> = self.draft.step().into();
        let declared: Vec<Arc<str>> =
            solid.outputs.iter().map(|output| output.name.as_str().into()).collect();
        self.draft.add(self.builder, solid, false);
        O::handles(&|index| (Arc::clone(&step), Arc::clone(&declared[index]), forms[index].clone()))
    }

    /// The name of a solid stands for its body in every version: two bodies under one name would be taken for
    /// one.
    fn one_body_per_name<F: 'static>(&mut self, name: &str) {
        let known = self.builder.bodies.entry(name.to_owned()).or_insert_with(TypeId::of::<F>);
        if *known != TypeId::of::<F>() {
            self.draft.errors.push(format!(
                "solid `{name}` has another body already: another solid needs another name (`.alias(…)` is for the same one again)"
            ));
        }
    }
}

impl<'p, A: Arguments> SolidBuilder<'p, A, Implicit<Encoded<super::codec::Bincode>>> {
    /// The codec of its one output `result`.
    pub fn codec<C>(self) -> SolidBuilder<'p, A, Implicit<Encoded<C>>> {
        self.declare()
    }

    /// Its one output is a list: the body returns something that can be iterated over, whose items serde can write and
    /// read. Other solids are mapped over it ([`map`](Self::map)).
    pub fn list(self) -> SolidBuilder<'p, A, Listed> {
        self.declare()
    }

    /// It makes nothing that is kept; it runs once per version all the same.
    pub fn no_outputs(self) -> SolidBuilder<'p, A, ()> {
        self.declare()
    }
}

/// The version of a solid as one text: that of its code, which function it is, and the type of its config.
fn version_text<F>(draft: &Draft, location: &Location<'_>) -> Option<String> {
    if draft.version.is_missing() {
        return None;
    }
    let mut text = draft.version.text.clone();
    if draft.version.measured {
        // Several functions of one file share its hash. Which one this is does not change without the file.
        let (line, column) = (location.line(), location.column());
        text.push_str(&format!(" body {} at {line}:{column}", std::any::type_name::<F>()));
    }
    if let Some(shape) = &draft.config_shape {
        text.push_str(&format!(" config {}", cas_store::Digest::of(shape.as_bytes())));
    }
    Some(text)
}

/// A body with the types of its arguments and outputs, behind the trait that knows neither.
struct Erased<F, A, O, Raw, R> {
    name: String,
    version: Option<String>,
    body: F,
    arguments: A,
    outcome: fn(Raw) -> Result<R, BoxError>,
    marker: PhantomData<fn() -> O>,
}

impl<F, A, O, Raw, R> fmt::Debug for Erased<F, A, O, Raw, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Function").field(&self.name).finish()
    }
}

impl<F, A, O, Raw, R> Function for Erased<F, A, O, Raw, R>
where
    F: Body<A, Raw>,
    A: Arguments,
    O: Outputs<R>,
    Raw: 'static,
    R: 'static,
{
    fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    fn call(&self, call: &Call<'_>) -> Result<Vec<Produced>, BoxError> {
        let returned = (self.outcome)(self.body.call(&self.arguments, call)?)?;
        O::produce(returned, call.folder)
    }
}
