//! What a pipeline is: invocations of solids, joined by their inputs. Made by `file/` or by the typed builder.

mod check;

pub(crate) use check::SCRATCH_HINT;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::error::Place;
use crate::resource::Resource;
use crate::solid::{Body, Sandbox, Solid, Template};
use crate::value::{Schema, Value};

/// A checked definition. Names, references and schemas hold; cycles and elements are `graph.rs`'s business.
#[derive(Debug, Clone, Default)]
pub struct Pipeline {
    /// Its name; never hashed.
    pub name: String,
    /// For people.
    pub description: Option<String>,
    /// The file it was read from, if any.
    pub file: Option<PathBuf>,
    /// The files that this one includes, in the order in which they were read.
    pub includes: Vec<PathBuf>,
    /// The folder that the file stands in: what is said about the store and run configs is relative to it.
    pub home: PathBuf,
    /// The project folder, absolute: paths of inputs, code and published files are relative to it.
    pub folder: PathBuf,
    /// Run config files that are read before any other, as written.
    pub run_config: Vec<String>,
    /// Where the store is, as written.
    pub store: Option<String>,
    /// The config of the pipeline as a whole.
    pub config: Schema,
    /// The resources, for runs without a mode and for what a mode does not replace.
    pub resources: BTreeMap<String, Resource>,
    /// The modes, in the order of the file.
    pub modes: Vec<Mode>,
    /// The invocations, in the order of the file.
    pub invocations: Vec<Invocation>,
    /// What is put into the project after a run.
    pub publish: Vec<Publish>,
}

impl Pipeline {
    /// The files that are included, as they are found from the folder of the pipeline file.
    pub fn included(&self) -> Vec<PathBuf> {
        let folder = self.file.as_deref().and_then(Path::parent).unwrap_or(Path::new(""));
        // The one that lies above it is found by what the two have in common.
        let from_home = |file: &PathBuf| crate::file::tidy(&self.home.join(relative(folder, file)));
        self.includes.iter().map(from_home).collect()
    }

    /// Has all commands watched, or refused files, or neither, whatever they say themselves.
    pub fn confine(&mut self, sandbox: Sandbox) {
        // Invocations of one solid go on sharing it.
        let mut confined: HashMap<*const Solid, Arc<Solid>> = HashMap::new();
        for invocation in &mut self.invocations {
            let solid = &invocation.solid;
            if matches!(solid.body, Body::Command(_)) && solid.sandbox != sandbox {
                let own = || Arc::new(Solid { sandbox, ..Solid::clone(solid) });
                invocation.solid = Arc::clone(confined.entry(Arc::as_ptr(solid)).or_insert_with(own));
            }
        }
    }
}

/// The way from a folder to a file, both absolute or both relative to the same place.
fn relative(folder: &Path, file: &Path) -> PathBuf {
    let common = folder.components().zip(file.components()).take_while(|(a, b)| a == b).count();
    let up = folder.components().skip(common).map(|_| Path::new(".."));
    up.chain(file.components().skip(common).map(|part| Path::new(part.as_os_str()))).collect()
}

/// A named choice of resources.
#[derive(Debug, Clone, Default)]
pub struct Mode {
    /// Its name.
    pub name: String,
    /// Definitions that replace those of the pipeline, whole, by name.
    pub resources: BTreeMap<String, Resource>,
}

/// One use of a solid in a pipeline.
#[derive(Debug, Clone)]
pub struct Invocation {
    /// The name of its steps; never hashed.
    pub name: String,
    /// What is invoked.
    pub solid: Arc<Solid>,
    /// What it is given, in the order of the file.
    pub inputs: Vec<Input>,
    /// Its axes, in the order of the file; none for a single step.
    pub matrix: Vec<Axis>,
    /// Where it stands.
    pub place: Option<Place>,
}

/// One input of an invocation.
#[derive(Debug, Clone)]
pub struct Input {
    /// Its name: `tree`.
    pub name: String,
    /// Its name as the step sees it: `tree.txt`. Hashed.
    pub file_name: String,
    /// Where it comes from.
    pub source: Source,
    /// Where it is declared.
    pub place: Option<Place>,
}

/// Where an input comes from.
#[derive(Debug, Clone)]
pub enum Source {
    /// One output, or a gather of the elements of one.
    Output(OutputRef),
    /// An element of an output that is a list: there is one step for each (`map`).
    Element(OutputRef),
    /// A gather of the elements of an output that leaves out those that failed.
    Gather {
        /// The output.
        of: OutputRef,
        /// How many may have failed.
        max_failed: Share,
    },
    /// Several, in order.
    FanIn(Vec<OutputRef>),
    /// A file, folder or glob of the project (or anywhere, if external).
    Path {
        /// As written; config and matrix values may stand in it.
        path: Template,
        /// Whether it may be linked and keeps its mtime.
        external: bool,
    },
    /// A literal.
    Value(Value),
    /// A value that the run config may replace.
    Default(Value),
    /// What a command prints.
    Probe {
        /// The command.
        command: Template,
        /// For how long an answer is good.
        every: Option<Duration>,
    },
}

/// A reference to an output of another invocation.
#[derive(Debug, Clone, PartialEq)]
pub struct OutputRef {
    /// The invocation.
    pub step: String,
    /// Which elements of it.
    pub pick: Pick,
    /// Which output; `None` for its only one (or `result`).
    pub output: Option<String>,
    /// Where it is written.
    pub place: Option<Place>,
}

/// Which elements of an invocation with a matrix are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pick {
    /// The one with the same values on every axis.
    Same,
    /// `[*]`: all, over the axes that the reader lacks.
    All,
    /// `[lr=0.1]`: those with these labels; the other axes as `Same`.
    Where(Vec<(String, String)>),
}

/// A part of a whole.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Share {
    /// Any number.
    All,
    /// So many.
    Count(u32),
    /// So many of a hundred.
    Percent(f64),
}

impl Share {
    /// Whether so many of so many are no more than this.
    pub fn allows(self, count: usize, of: usize) -> bool {
        match self {
            Self::All => true,
            Self::Count(most) => count <= most as usize,
            Self::Percent(most) => count as f64 * 100.0 <= most * of as f64,
        }
    }
}

impl std::fmt::Display for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Count(count) => write!(f, "{count}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

impl Invocation {
    /// The list whose elements it is invoked for, with the input that is the element.
    pub fn mapped(&self) -> Option<(&Input, &OutputRef)> {
        self.inputs.iter().find_map(|input| match &input.source {
            Source::Element(list) => Some((input, list)),
            _ => None,
        })
    }
}

/// One axis of a matrix.
#[derive(Debug, Clone, PartialEq)]
pub struct Axis {
    /// Its name, also the config key that holds its value.
    pub name: String,
    /// Its values, in order.
    pub points: Arc<Vec<Point>>,
}

/// One value of an axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// How it is written between brackets: `0.1`, or a row's first column.
    pub label: String,
    /// Its value as config: what is listed, or for a row a map of its columns.
    pub value: Value,
    /// Whether it is a row of a table, so that `{{ matrix.axis }}` is its label.
    pub row: bool,
}

impl Axis {
    /// Whether a look at neighbours shows that no label stands twice: each is longer than the one before it, or as long
    /// and behind it, as numbers are that count up. `false` says nothing.
    pub(crate) fn counts_up(points: &[Point]) -> bool {
        points.is_sorted_by(|a, b| (a.label.len(), &a.label) < (b.label.len(), &b.label))
    }
}

/// Something that is put into the project after a run; never hashed.
#[derive(Debug, Clone, PartialEq)]
pub struct Publish {
    /// Relative to the project folder; ends in `/` where one file an element is put.
    pub target: String,
    /// What.
    pub what: OutputRef,
}
