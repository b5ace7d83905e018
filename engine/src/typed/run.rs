//! Running a pipeline of Rust's, and getting its results back as values.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cas_store::{Artifact, Create, Hosting, Kind, Open, Store, StoreError};
use serde::Serialize;

use super::BoxError;
use super::output::{FILE_CODEC, Out};
use crate::config::{Placed, RunConfig};
use crate::error::{Diagnostic, EngineError};
use crate::event::{Event, Outcome, Summary};
use crate::execute::{Cancel, Content, Encoded};
use crate::graph::{Graph, StepId};
use crate::grow::{Asked, Asking};
use crate::memo::{Memo, Wanted};
use crate::pipeline::Pipeline;
use crate::plan::Plan;
use crate::run::{RunOptions, RunReport};
use crate::source::{Environment, Measure, measure};
use crate::value::Value;

/// How a pipeline is run.
pub struct Options {
    /// The mode.
    pub mode: Option<String>,
    /// What is given for this run. [`Options::config`] and its kin fill it from values.
    pub run_config: RunConfig,
    /// The steps that are wanted, as names and globs; empty: what no step consumes and what is published.
    pub steps: Vec<String>,
    /// Steps that run whatever is stored, as names and globs.
    pub force: Vec<String>,
    /// Every output is wanted.
    pub all: bool,
    /// How many steps run at once at most.
    pub jobs: usize,
    /// Whether what does not depend on a failure still runs.
    pub keep_going: bool,
    /// The environment that commands may be passed variables from; none unless it is given.
    pub environment: Environment,
    /// The home folder, for probes.
    pub home: Option<PathBuf>,
    /// How the run is stopped, from another thread.
    pub cancel: Arc<Cancel>,
    /// How long to wait for another process that has the store.
    pub wait: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            mode: None,
            run_config: RunConfig::default(),
            steps: Vec::new(),
            force: Vec::new(),
            all: false,
            jobs: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            keep_going: false,
            environment: Environment::default(),
            home: None,
            cancel: Arc::new(Cancel::default()),
            wait: Duration::from_secs(600),
        }
    }
}

impl Options {
    /// Gives a step its config, as a struct with named fields.
    ///
    /// # Errors
    /// It cannot be config: no struct, or a number that is none.
    pub fn config<T: Serialize>(mut self, step: &str, config: &T) -> Result<Self, BoxError> {
        self.run_config.config.entry(step.to_owned()).or_default().extend(fields(config)?);
        Ok(self)
    }

    /// Gives a resource its config.
    ///
    /// # Errors
    /// As [`config`](Self::config).
    pub fn resource_config<T: Serialize>(mut self, resource: &str, config: &T) -> Result<Self, BoxError> {
        self.run_config.resources.entry(resource.to_owned()).or_default().extend(fields(config)?);
        Ok(self)
    }

    /// Gives the pipeline as a whole its config.
    ///
    /// # Errors
    /// As [`config`](Self::config).
    pub fn pipeline_config<T: Serialize>(mut self, config: &T) -> Result<Self, BoxError> {
        self.run_config.pipeline.extend(fields(config)?);
        Ok(self)
    }

    /// Gives an input that has a default another value.
    ///
    /// # Errors
    /// It cannot be config.
    pub fn input<T: Serialize>(mut self, step: &str, input: &str, value: &T) -> Result<Self, BoxError> {
        let value = super::config::encode_value(value)?;
        let placed = Placed { value, text: None, place: None };
        self.run_config.inputs.entry(step.to_owned()).or_default().insert(input.to_owned(), placed);
        Ok(self)
    }

    /// Runs in a mode.
    #[must_use]
    pub fn mode(mut self, mode: &str) -> Self {
        self.mode = Some(mode.to_owned());
        self
    }
}

fn fields<T: Serialize>(config: &T) -> Result<BTreeMap<String, Placed>, BoxError> {
    match super::config::encode_value(config)? {
        Value::Map(values) => Ok(values
            .into_iter()
            .map(|(key, value)| (key, Placed { value, text: None, place: None }))
            .collect()),
        _ => Err(format!("`{}` is no struct with named fields", std::any::type_name::<T>()).into()),
    }
}

/// Runs what is wanted and not stored, with the store in this folder (made if there is none), and tells what
/// happens.
///
/// # Errors
/// The pipeline or what was given for it is wrong, or the store cannot be used. A step that fails is no
/// error: see [`Run::summary`].
pub fn run(
    pipeline: &Pipeline,
    store: &Path,
    options: Options,
    mut tell: impl FnMut(&Event),
) -> Result<Run, EngineError> {
    let graph = Graph::new(Arc::new(pipeline.clone()), options.mode.as_deref(), &options.run_config)
        .map_err(EngineError::Definition)?;
    let graph = Arc::new(graph);
    let targets = wanted_of(&graph, &options.steps)?;
    let force = wanted_of(&graph, &options.force)?;
    let steps = if targets.is_empty() { graph.ids().collect() } else { graph.closure(&targets) };
    let store = Store::open(
        store,
        Open {
            create: Create::IfAbsent,
            hosting: Hosting::Willing,
            wait: options.wait,
            owner: format!("a run of `{}` (pid {})", pipeline.name, std::process::id()),
            on_wait: &mut |who| {
                tell(&Event::Warning { text: format!("waiting for the store: it is in use by {who}") });
            },
        },
    )?;
    for warning in store.warnings() {
        tell(&Event::Warning { text: warning.clone() });
    }
    let memo = Memo::new(store.clone());
    let how = Measure {
        store: Some(store.dir().to_owned()),
        cache: Some(store.dir().join("stat-cache")),
        memo: Some(&memo),
        at_ms: crate::run::now_ms(),
        ..Measure::new(&options.environment)
    };
    let measures = Arc::new(measure(&graph, &steps, &how)?);
    let plan = Plan::new(Arc::clone(&graph), measures, steps);
    let (named, forced) = (options.steps.clone(), options.force.clone());
    let again = Asking::new(move |graph| {
        let steps = wanted_of(graph, &named)?;
        let plan = if steps.is_empty() { graph.ids().collect() } else { graph.closure(&steps) };
        Ok(Asked { force: wanted_of(graph, &forced)?, steps, plan })
    });
    let wanted = Wanted { steps: targets, all: options.all, force, again: Some(again), ..Wanted::default() };
    let options = RunOptions {
        wanted,
        jobs: options.jobs.max(1),
        memory: None,
        limits: BTreeMap::new(),
        shared: true,
        keep_going: options.keep_going,
        show_output: false,
        reproduce: false,
        replay_logs: false,
        each_reused: true,
        each_expected: false,
        overwrite: false,
        environment: options.environment,
        cancel: options.cancel,
        command_line: Vec::new(),
        combination: None,
        home: options.home,
        turn: None,
    };
    let report = crate::run::run(&plan, &memo, &options, &mut tell)?;
    let graph = Arc::clone(&report.graph);
    Ok(Run { graph, store, report, laid: Mutex::new(Vec::new()) })
}

fn wanted_of(graph: &Graph, names: &[String]) -> Result<Vec<StepId>, Diagnostic> {
    let mut steps = Vec::new();
    for name in names {
        steps.extend(graph.wanted(name)?);
    }
    steps.sort_unstable();
    steps.dedup();
    Ok(steps)
}

/// A run that has ended: what became of the steps, and their results as values.
pub struct Run {
    graph: Arc<Graph>,
    store: Store,
    report: RunReport,
    /// The folders in which results are laid out that are files.
    laid: Mutex<Vec<PathBuf>>,
}

impl Drop for Run {
    fn drop(&mut self) {
        for folder in self.laid.get_mut().unwrap_or_else(PoisonError::into_inner).drain(..) {
            // What is left behind lies in the store's work folder, which is emptied when it is cleaned.
            let _ = std::fs::remove_dir_all(folder);
        }
    }
}

/// Why a result cannot be given back.
#[derive(Debug, thiserror::Error)]
pub enum GetError {
    /// There is no such output in the pipeline that ran.
    #[error("there is no output `{output}` of this type in the pipeline that ran")]
    Unknown {
        /// What was asked for.
        output: String,
    },
    /// The step has a matrix: there is one value an element.
    #[error("`{output}` has {elements} elements: ask for all of them")]
    Many {
        /// What was asked for.
        output: String,
        /// How many there are.
        elements: usize,
    },
    /// The step has no result: it failed, or was not wanted.
    #[error("`{output}` has no result in this run")]
    NotMade {
        /// What was asked for.
        output: String,
        /// What became of its step, if it was looked at.
        outcome: Option<Outcome>,
    },
    /// The output is optional, and was not made.
    #[error("`{output}` was not made")]
    Absent {
        /// What was asked for.
        output: String,
    },
    /// The stored bytes are not what the type reads.
    #[error("`{output}` cannot be read: {what}")]
    Undecodable {
        /// What was asked for.
        output: String,
        /// What is wrong.
        what: String,
    },
    /// The store cannot give it. Where that is a miss ([`StoreError::is_miss`]), the next run makes it again.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Run {
    /// How it ended.
    pub fn summary(&self) -> &Summary {
        &self.report.summary
    }

    /// Its number in the store.
    pub fn id(&self) -> u64 {
        self.report.run
    }

    /// What became of each step that was looked at, by name.
    pub fn outcomes(&self) -> BTreeMap<String, Outcome> {
        self.report.outcomes.iter().map(|(step, outcome)| (self.graph.step_name(*step), *outcome)).collect()
    }

    /// The value of an output. A file or folder is laid out for as long as this run lives.
    ///
    /// # Errors
    /// It has no result in this run, or its bytes are not in the store: an output that nothing needed is not
    /// made again.
    pub fn get<T>(&self, out: &Out<T>) -> Result<T, GetError> {
        let mut elements = self.elements(out)?;
        match (elements.next(), elements.len()) {
            (Some(step), 0) => self.value(out, step),
            (first, others) => Err(GetError::Many {
                output: format!("{out:?}"),
                elements: others + usize::from(first.is_some()),
            }),
        }
    }

    /// The values of all elements of a step with a matrix, in order, each with its label.
    ///
    /// # Errors
    /// As [`get`](Self::get), for any of them.
    pub fn get_all<T>(&self, out: &Out<T>) -> Result<Vec<(String, T)>, GetError> {
        self.elements(out)?.map(|step| Ok((self.graph.label(step), self.value(out, step)?))).collect()
    }

    fn elements<T>(&self, out: &Out<T>) -> Result<impl ExactSizeIterator<Item = StepId> + use<T>, GetError> {
        let invocations = &self.graph.pipeline.invocations;
        let known = invocations.iter().position(|invocation| {
            invocation.name == *out.step
                && invocation.solid.outputs.iter().any(|declared| {
                    declared.name == *out.output
                        && declared.codec == out.form.codec
                        && declared.shape.as_deref().unwrap_or_default() == &*out.form.shape
                })
        });
        let known = known.ok_or_else(|| GetError::Unknown { output: format!("{out:?}") })?;
        let steps = self.graph.steps_of[known].clone();
        Ok((steps.start..steps.end).map(StepId))
    }

    fn value<T>(&self, out: &Out<T>, step: StepId) -> Result<T, GetError> {
        let output = format!("{}.{}", self.graph.step_name(step), out.output);
        let made = self
            .report
            .outputs
            .get(&step)
            .and_then(|outputs| outputs.iter().find(|made| made.name == *out.output));
        let Some(made) = made else {
            return Err(GetError::NotMade { output, outcome: self.report.outcomes.get(&step).copied() });
        };
        let Some(artifact) = &made.artifact else { return Err(GetError::Absent { output }) };
        let content = self.content(artifact)?;
        (out.read)(&content, Path::new(""))
            .map_err(|error| GetError::Undecodable { output, what: error.to_string() })
    }

    fn content(&self, artifact: &Artifact) -> Result<Content, StoreError> {
        if artifact.codec != FILE_CODEC && matches!(artifact.kind, Kind::File { .. }) {
            let bytes = self.store.bytes(&artifact.digest)?;
            return Ok(Content::Bytes(Encoded { codec: artifact.codec.clone(), bytes }));
        }
        let folder = self.store.work_folder("get")?;
        let path = folder.join("result");
        self.laid.lock().unwrap_or_else(PoisonError::into_inner).push(folder);
        self.store.materialize(artifact, &path)?;
        Ok(Content::Path(path))
    }
}
