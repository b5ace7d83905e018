//! What an input may come from: another step's output, several of them, the project, or a literal.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::BoxError;
use super::argument::literal;
use super::output::{All, At, Described, Out, Reader, Survivors};
use crate::execute::Content;
use crate::pipeline::{OutputRef, Pick, Source};
use crate::solid::Template;
use crate::value::Value;

/// Something that an input may come from; what the body sees of it is a `Value`.
pub trait Input {
    /// What the body sees.
    type Value: 'static;

    /// The source, and how it is read.
    fn bind(self) -> Bound<Self::Value>;
}

/// An input with its type still known.
pub struct Bound<T> {
    pub(super) source: Result<Source, String>,
    pub(super) read: Arc<Reader<T>>,
    /// The outputs that it refers to, with the form that was promised.
    pub(super) promised: Vec<Promise>,
}

/// That an output exists and is written so.
#[derive(Debug, Clone)]
pub(super) struct Promise {
    pub(super) step: Arc<str>,
    pub(super) output: Arc<str>,
    pub(super) form: Described,
}

impl<T> Out<T> {
    pub(super) fn reference(&self, pick: Pick) -> OutputRef {
        OutputRef { step: self.step.to_string(), pick, output: Some(self.output.to_string()), place: None }
    }

    pub(super) fn promise(&self) -> Promise {
        Promise { step: Arc::clone(&self.step), output: Arc::clone(&self.output), form: self.form.clone() }
    }
}

impl<T: 'static> Input for Out<T> {
    type Value = T;

    fn bind(self) -> Bound<T> {
        Bound {
            source: Ok(Source::Output(self.reference(Pick::Same))),
            promised: vec![self.promise()],
            read: Arc::new(self.read),
        }
    }
}

impl<T: 'static> Input for &Out<T> {
    type Value = T;

    fn bind(self) -> Bound<T> {
        self.clone().bind()
    }
}

impl<T: 'static> Input for At<T> {
    type Value = T;

    fn bind(self) -> Bound<T> {
        Bound {
            source: Ok(Source::Output(self.out.reference(Pick::Where(self.labels)))),
            promised: vec![self.out.promise()],
            read: Arc::new(self.out.read),
        }
    }
}

/// A gather: the label and the value of each element, in order.
impl<T: 'static> Input for All<T> {
    type Value = Vec<(String, T)>;

    fn bind(self) -> Bound<Self::Value> {
        gather(&self.out, Source::Output(self.out.reference(Pick::All)))
    }
}

/// A gather that leaves out the elements that failed.
impl<T: 'static> Input for Survivors<T> {
    type Value = Vec<(String, T)>;

    fn bind(self) -> Bound<Self::Value> {
        let (of, max_failed) = (self.out.reference(Pick::All), self.max_failed);
        gather(&self.out, Source::Gather { of, max_failed })
    }
}

fn gather<T: 'static>(out: &Out<T>, source: Source) -> Bound<Vec<(String, T)>> {
    let read = out.read;
    Bound {
        source: Ok(source),
        promised: vec![out.promise()],
        read: Arc::new(move |content: &Content, folder: &Path| match content {
            Content::Many(items) => {
                items.iter().map(|(label, item)| Ok((label.clone(), read(item, folder)?))).collect()
            }
            _ => Err("it is not a gather".into()),
        }),
    }
}

/// A fan-in: the value of each, in order.
impl<T: 'static> Input for Vec<Out<T>> {
    type Value = Vec<T>;

    fn bind(self) -> Bound<Vec<T>> {
        let readers: Vec<_> = self.iter().map(|out| out.read).collect();
        Bound {
            source: Ok(Source::FanIn(self.iter().map(|out| out.reference(Pick::Same)).collect())),
            promised: self.iter().map(Out::promise).collect(),
            read: Arc::new(move |content: &Content, folder: &Path| match content {
                // Never fewer than were declared: a body must not mistake a loss for an empty list.
                Content::Many(items) if items.len() == readers.len() => {
                    items.iter().zip(&readers).map(|((_, item), read)| read(item, folder)).collect()
                }
                Content::Many(items) => {
                    Err(format!("{} of its {} values are there", items.len(), readers.len()).into())
                }
                _ => Err("it is not a fan-in".into()),
            }),
        }
    }
}

impl<T: 'static, const N: usize> Input for [Out<T>; N] {
    type Value = Vec<T>;

    fn bind(self) -> Bound<Vec<T>> {
        Vec::from(self).bind()
    }
}

/// A file, folder or glob of the project: the body sees where it was laid, read-only.
#[derive(Debug, Clone)]
pub struct PathInput {
    text: String,
    external: bool,
}

/// A file, folder or glob of the project, relative to its folder: hashed, not stored.
pub fn path(text: impl Into<String>) -> PathInput {
    PathInput { text: text.into(), external: false }
}

/// As [`path`], anywhere: it may be linked instead of copied.
pub fn external_path(text: impl Into<String>) -> PathInput {
    PathInput { text: text.into(), external: true }
}

impl Input for PathInput {
    type Value = PathBuf;

    fn bind(self) -> Bound<PathBuf> {
        Bound {
            source: template(&self.text).map(|path| Source::Path { path, external: self.external }),
            promised: Vec::new(),
            read: Arc::new(|content: &Content, _: &Path| match content {
                Content::Path(path) => Ok(path.clone()),
                _ => Err("it is not a path".into()),
            }),
        }
    }
}

/// A literal.
#[derive(Debug, Clone)]
pub struct Literal<T> {
    value: T,
    replaceable: bool,
}

/// A literal value.
pub fn value<T: Serialize + DeserializeOwned>(value: T) -> Literal<T> {
    Literal { value, replaceable: false }
}

/// A value that the run config may replace, under `solids.<step>.inputs.<name>`.
pub fn default<T: Serialize + DeserializeOwned>(value: T) -> Literal<T> {
    Literal { value, replaceable: true }
}

impl<T: Serialize + DeserializeOwned + 'static> Input for Literal<T> {
    type Value = T;

    fn bind(self) -> Bound<T> {
        let source = super::config::encode_value(&self.value).map_err(|error| error.to_string());
        let read: fn(&Content, &Path) -> Result<T, BoxError> = |content, _| literal(content);
        Bound {
            source: source
                .map(|value| if self.replaceable { Source::Default(value) } else { Source::Value(value) }),
            promised: Vec::new(),
            read: Arc::new(read),
        }
    }
}

/// What a command prints.
#[derive(Debug, Clone)]
pub struct ProbeInput {
    command: String,
    every: Option<Duration>,
}

/// What this shell line prints is the input: outside data, freshness.
pub fn probe(command: impl Into<String>) -> ProbeInput {
    ProbeInput { command: command.into(), every: None }
}

impl ProbeInput {
    /// For how long an answer is good.
    #[must_use]
    pub fn every(mut self, time: Duration) -> Self {
        self.every = Some(time);
        self
    }
}

impl Input for ProbeInput {
    type Value = String;

    fn bind(self) -> Bound<String> {
        Bound {
            source: template(&self.command).map(|command| Source::Probe { command, every: self.every }),
            promised: Vec::new(),
            read: Arc::new(|content: &Content, _: &Path| match content {
                Content::Value(Value::Str(text)) => Ok(text.clone()),
                _ => Err("it is not what a probe printed".into()),
            }),
        }
    }
}

/// A text with placeholders, outside of any shell's quoting.
pub(super) fn template(text: &str) -> Result<Template, String> {
    Template::parse(text, None)
        .map_err(|wrong| wrong.into_iter().map(|wrong| wrong.message).collect::<Vec<_>>().join("; "))
}
