//! The arguments of a body: its config, inputs and resources, in the order in which they were declared.
//!
//! A builder carries what it was given as a tuple of [`Argument`]s, and a body must be a function of just
//! their values. That is what makes a mismatch a compile error.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Instant;

use serde::de::DeserializeOwned;

use super::BoxError;
use super::output::Reader;
use crate::execute::{self, Call, Cancel, Content, Stop, folder};
use crate::value::Config;

/// Something that a body is given.
pub trait Argument: Send + Sync + 'static {
    /// What the body sees.
    type Value;

    /// Takes it from a call.
    ///
    /// # Errors
    /// It is not what it should be.
    fn take(&self, call: &Call<'_>) -> Result<Self::Value, BoxError>;
}

/// The config of a solid as one struct.
pub struct ConfigArgument<T> {
    pub(super) fields: Vec<String>,
    pub(super) marker: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned + 'static> Argument for ConfigArgument<T> {
    type Value = T;

    fn take(&self, call: &Call<'_>) -> Result<T, BoxError> {
        super::config::decode(call.config, &self.fields)
    }
}

/// One value of the config: that of an axis.
pub struct AxisArgument<T> {
    pub(super) name: String,
    pub(super) marker: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned + 'static> Argument for AxisArgument<T> {
    type Value = T;

    fn take(&self, call: &Call<'_>) -> Result<T, BoxError> {
        let value =
            call.config.values.get(&self.name).ok_or_else(|| format!("axis `{}` has no value", self.name))?;
        super::config::decode_value(value)
    }
}

/// One input.
pub struct InputArgument<T> {
    pub(super) name: String,
    pub(super) read: Arc<Reader<T>>,
}

impl<T: 'static> Argument for InputArgument<T> {
    type Value = T;

    fn take(&self, call: &Call<'_>) -> Result<T, BoxError> {
        let given = call.inputs.iter().find(|given| given.name == self.name);
        let given = given.ok_or_else(|| format!("input `{}` was not given", self.name))?;
        (self.read)(&given.content, call.folder)
            .map_err(|source| format!("input `{}` cannot be read: {source}", self.name).into())
    }
}

/// An opened resource.
pub struct ResourceArgument<T> {
    pub(super) name: String,
    pub(super) marker: PhantomData<fn() -> T>,
}

impl<T: Send + Sync + 'static> Argument for ResourceArgument<T> {
    type Value = Arc<T>;

    fn take(&self, call: &Call<'_>) -> Result<Arc<T>, BoxError> {
        let opened = call
            .resources
            .get(&self.name)
            .ok_or_else(|| format!("resource `{}` was not opened", self.name))?;
        Arc::clone(opened)
            .downcast::<T>()
            .map_err(|_| format!("resource `{}` is not a `{}`", self.name, std::any::type_name::<T>()).into())
    }
}

/// The attempt itself: a folder for files, and whether it should stop.
pub struct ContextArgument;

impl Argument for ContextArgument {
    type Value = Context;

    fn take(&self, call: &Call<'_>) -> Result<Context, BoxError> {
        // Most functions have no use for their folder: it is made for those that can see it.
        folder::make_private(call.folder)?;
        Ok(Context {
            folder: call.folder.to_owned(),
            cancel: Arc::clone(call.cancel),
            deadline: call.deadline,
        })
    }
}

/// What a body may know of the attempt that it is: nothing that its result could depend on.
#[derive(Debug, Clone)]
pub struct Context {
    folder: std::path::PathBuf,
    cancel: Arc<Cancel>,
    deadline: Option<Instant>,
}

impl Context {
    /// A fresh folder for files that the body makes; gone after the attempt.
    pub fn folder(&self) -> &std::path::Path {
        &self.folder
    }

    /// Whether the run is being stopped, or the attempt has had its time. A function cannot be ended from
    /// outside: a long one looks here now and then, and returns an error.
    pub fn stopped(&self) -> bool {
        self.cancel.now() != Stop::No || self.deadline.is_some_and(|deadline| execute::now() >= deadline)
    }
}

/// A literal, a default or a probe's answer as a value of a type.
pub(super) fn literal<T: DeserializeOwned>(content: &Content) -> Result<T, BoxError> {
    match content {
        Content::Value(value) => super::config::decode_value(value),
        _ => Err("it is no value".into()),
    }
}

/// The arguments as a tuple.
pub trait Arguments: Send + Sync + 'static {}

/// Arguments with one more behind them.
pub trait Push<A>: Arguments {
    /// The longer tuple.
    type Pushed: Arguments;

    /// Adds it.
    fn push(self, argument: A) -> Self::Pushed;
}

/// A function of just these arguments: an `fn`, or a closure that captures nothing.
#[diagnostic::on_unimplemented(
    message = "this is not a body for the arguments that were declared",
    label = "its parameters are not the declared config, inputs and resources, in that order",
    note = "a body takes, by value and in the order of declaration: the type of `.config::<T>()`, the type of each `.input(..)`, an `Arc<T>` for each `.resource(..)`, the type of each `.over(..)`, and `Context` for `.context()`",
    note = "the parameters of a closure need their types written out"
)]
pub trait Body<A, R>: Copy + Send + Sync + 'static {
    /// Takes the arguments from a call and calls it.
    ///
    /// # Errors
    /// An argument is not what it should be.
    fn call(self, arguments: &A, call: &Call<'_>) -> Result<R, BoxError>;
}

macro_rules! arities {
    ($(($($name:ident $index:tt),*);)*) => {
        $(
            impl<$($name: Argument),*> Arguments for ($($name,)*) {}

            impl<F, R, $($name: Argument),*> Body<($($name,)*), R> for F
            where
                F: Fn($($name::Value),*) -> R + Copy + Send + Sync + 'static,
            {
                fn call(self, arguments: &($($name,)*), call: &Call<'_>) -> Result<R, BoxError> {
                    let _ = (arguments, call); // A body without arguments needs neither.
                    Ok(self($(arguments.$index.take(call)?),*))
                }
            }
        )*
    };
}

macro_rules! pushes {
    ($(($($name:ident $index:tt),*);)*) => {
        $(
            impl<$($name: Argument,)* Next: Argument> Push<Next> for ($($name,)*) {
                type Pushed = ($($name,)* Next,);

                fn push(self, next: Next) -> Self::Pushed {
                    ($(self.$index,)* next,)
                }
            }
        )*
    };
}

arities! {
    ();
    (A1 0);
    (A1 0, A2 1);
    (A1 0, A2 1, A3 2);
    (A1 0, A2 1, A3 2, A4 3);
    (A1 0, A2 1, A3 2, A4 3, A5 4);
    (A1 0, A2 1, A3 2, A4 3, A5 4, A6 5);
    (A1 0, A2 1, A3 2, A4 3, A5 4, A6 5, A7 6);
    (A1 0, A2 1, A3 2, A4 3, A5 4, A6 5, A7 6, A8 7);
    (A1 0, A2 1, A3 2, A4 3, A5 4, A6 5, A7 6, A8 7, A9 8);
    (A1 0, A2 1, A3 2, A4 3, A5 4, A6 5, A7 6, A8 7, A9 8, A10 9);
    (A1 0, A2 1, A3 2, A4 3, A5 4, A6 5, A7 6, A8 7, A9 8, A10 9, A11 10);
    (A1 0, A2 1, A3 2, A4 3, A5 4, A6 5, A7 6, A8 7, A9 8, A10 9, A11 10, A12 11);
}

pushes! {
    ();
    (A1 0);
    (A1 0, A2 1);
    (A1 0, A2 1, A3 2);
    (A1 0, A2 1, A3 2, A4 3);
    (A1 0, A2 1, A3 2, A4 3, A5 4);
    (A1 0, A2 1, A3 2, A4 3, A5 4, A6 5);
    (A1 0, A2 1, A3 2, A4 3, A5 4, A6 5, A7 6);
    (A1 0, A2 1, A3 2, A4 3, A5 4, A6 5, A7 6, A8 7);
    (A1 0, A2 1, A3 2, A4 3, A5 4, A6 5, A7 6, A8 7, A9 8);
    (A1 0, A2 1, A3 2, A4 3, A5 4, A6 5, A7 6, A8 7, A9 8, A10 9);
    (A1 0, A2 1, A3 2, A4 3, A5 4, A6 5, A7 6, A8 7, A9 8, A10 9, A11 10);
}

/// What a resource's opener is called with, as far as its arguments need it.
pub(super) fn opener_call<'a>(
    config: &'a Config,
    needs: &'a std::collections::BTreeMap<String, crate::execute::Opened>,
    cancel: &'a Arc<Cancel>,
) -> Call<'a> {
    Call {
        config,
        inputs: &[],
        resources: needs,
        folder: std::path::Path::new(""),
        outputs: &[],
        cancel,
        deadline: None,
    }
}
