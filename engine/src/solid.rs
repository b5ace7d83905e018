//! What a solid is: a named unit of computation, defined once and invoked any number of times.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::error::Place;
use crate::execute::Function;
use crate::value::Schema;

/// A definition of a unit of computation.
#[derive(Debug, Clone)]
pub struct Solid {
    /// Its name, which is hashed. A Rust solid's is `crate::name`.
    pub name: String,
    /// For people.
    pub description: Option<String>,
    /// The version given by hand.
    pub version: Option<Declared>,
    /// Files, globs and folders of the project that are its code.
    pub code: Vec<Pattern>,
    /// The config it takes.
    pub config: Schema,
    /// The resources it needs, by name.
    pub resources: Vec<String>,
    /// What it makes, in declared order.
    pub outputs: Vec<OutputDecl>,
    /// What it does.
    pub body: Body,
    /// Environment variables that it sees and that are hashed.
    pub env: Vec<EnvVar>,
    /// Names of environment variables that it sees, and that are neither hashed nor recorded.
    pub pass_env: Vec<String>,
    /// Names of environment variables that it must have, and that are never hashed nor stored.
    pub secrets: Vec<String>,
    /// Whether the platform is part of its version.
    pub platform: Platform,
    /// Whether what it was not given is refused, or told of. Refusing is hashed.
    pub sandbox: Sandbox,
    /// How it is run; never hashed.
    pub policy: Policy,
    /// Where it is defined.
    pub place: Option<Place>,
}

/// A version given by hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Declared {
    /// A text.
    Text(String),
    /// The step runs in every run.
    Volatile,
    /// The step's result is good for so long.
    Every(Duration),
}

/// A file, glob or folder of the project, as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    /// As written, `/` between parts.
    pub text: String,
    /// Where.
    pub place: Option<Place>,
}

/// What a solid does.
#[derive(Debug, Clone)]
pub enum Body {
    /// A command in a clean folder.
    Command(Command),
    /// A Rust function.
    Function(Arc<dyn Function>),
}

/// A command, as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// What is run.
    pub line: Line,
    /// The output that its standard output becomes.
    pub stdout: Option<String>,
    /// Where it is written.
    pub place: Option<Place>,
}

/// The two forms of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// A line (or several) for a shell.
    Shell {
        /// The text with its placeholders; each was found to stand outside quotes, heredocs and substitutions.
        text: Template,
        /// Which shell.
        shell: Shell,
    },
    /// A program and its arguments, one template each.
    List(Vec<Template>),
}

/// What runs a shell line; hashed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shell {
    /// `sh -e -c`.
    Sh,
    /// `bash -e -o pipefail -c`.
    Bash,
    /// This program and these arguments, then the line.
    List(Vec<String>),
}

/// A text with placeholders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// As written; this is what is hashed.
    pub text: String,
    /// What it consists of.
    pub parts: Vec<Part>,
    /// Where it is written.
    pub place: Option<Place>,
}

/// A piece of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Text as it is (`{{{{` has become `{{`).
    Text(String),
    /// `{{ inputs.x }}`: the input's path or paths.
    Input(String),
    /// `{{ outputs.x }}`: the output's path.
    Output(String),
    /// `{{ config.x.y }}`: a value of the config, and keys or indices into it.
    Config(Vec<String>),
    /// `{{ matrix.sample }}` or `{{ matrix.sample.fastq }}`.
    Matrix {
        /// The axis.
        axis: String,
        /// A column of its row.
        column: Option<String>,
    },
    /// `{{ resources.python.threads }}`: a resource, a key of its config, and keys into it.
    Resource {
        /// The resource.
        name: String,
        /// The key and what follows.
        path: Vec<String>,
    },
    /// `{{ cpus }}`.
    Cpus,
}

/// One output that a solid declares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputDecl {
    /// Its name (`chart` for `chart.png`).
    pub name: String,
    /// Where the command writes it, relative to the step's folder: `outputs/chart.png`, `site/`. Hashed.
    pub at: String,
    /// Whether it need not be made.
    pub optional: bool,
    /// Whether it is a list, of which other solids are invoked for each element. Hashed.
    pub list: bool,
    /// How a value becomes bytes: `file` for what a command writes (a folder is a tree). Hashed.
    pub codec: String,
    /// For a Rust solid, the shape of its type. Hashed.
    pub shape: Option<String>,
    /// Where it is declared.
    pub place: Option<Place>,
}

/// An environment variable that is hashed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EnvVar {
    /// Passed on from the environment of the run; unset counts too.
    Pass(String),
    /// Set.
    Set(String, Template),
}

/// Whether the platform is part of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Platform {
    /// It is: `linux/x86_64`.
    #[default]
    Here,
    /// The result is the same anywhere.
    Any,
}

/// What becomes of a command's look at what it was not given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sandbox {
    /// Nothing: it is neither heard of nor refused.
    #[default]
    Off,
    /// It is told, with the lines that declare it.
    Warn,
    /// It is refused.
    Deny,
}

impl Sandbox {
    /// The words that name them.
    pub const WORDS: &'static [&'static str] = &["off", "warn", "deny"];

    /// The one of this name.
    pub fn named(word: &str) -> Option<Self> {
        match word {
            "off" => Some(Self::Off),
            "warn" => Some(Self::Warn),
            "deny" => Some(Self::Deny),
            _ => None,
        }
    }
}

/// A folder that a step finds again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScratchFolder {
    /// Its path in the step's folder, `/` between parts.
    pub at: String,
    /// Where it was declared.
    pub place: Option<Place>,
}

impl ScratchFolder {
    /// A folder as it was written. What cannot be one stays as it is, for the check of the pipeline to tell.
    pub fn new(written: &str, place: Option<Place>) -> Self {
        let parts: Vec<&str> = written.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
        let at =
            if written.starts_with('/') || parts.is_empty() { written.to_owned() } else { parts.join("/") };
        Self { at, place }
    }
}

/// How a solid is run. None of it is hashed.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// Whether, when and how often it is tried again after a failure.
    pub retries: Retries,
    /// After how long an attempt is ended.
    pub timeout: Option<Duration>,
    /// How long an attempt that is asked to end may take, before it is killed; `None`: ten seconds.
    pub grace: Option<Duration>,
    /// Whether the run is as good as if it had not been there when it fails; what is below it is skipped all the same.
    pub allow_failure: bool,
    /// How many cores one step of it uses.
    pub cpus: u32,
    /// How much memory one step of it uses, in bytes.
    pub memory: Option<u64>,
    /// How much of each named limit one step of it uses.
    pub limits: BTreeMap<String, u32>,
    /// Folders, in the step's folder, that are there again at its next attempt on this machine.
    pub scratch: Vec<ScratchFolder>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            retries: Retries::default(),
            timeout: None,
            grace: None,
            allow_failure: false,
            cpus: 1,
            memory: None,
            limits: BTreeMap::new(),
            scratch: Vec::new(),
        }
    }
}

/// How a step is tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retries {
    /// How many times.
    pub times: u32,
    /// After which failures; empty: after any.
    pub on: Vec<RetryOn>,
    /// The wait before the second attempt; it doubles with each further one.
    pub back_off: Duration,
    /// The longest wait.
    pub max: Duration,
    /// By how many percent a wait is longer or shorter.
    pub jitter: u32,
}

impl Default for Retries {
    fn default() -> Self {
        Self {
            times: 0,
            on: Vec::new(),
            back_off: Duration::from_millis(200),
            max: Duration::from_secs(30),
            jitter: 20,
        }
    }
}

/// A failure after which a step is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryOn {
    /// It ended with this status.
    Exit(i32),
    /// A signal ended it.
    Signal,
    /// It took too long.
    Timeout,
}
