//! Running one attempt of one step, behind one trait. Nothing above it knows how a step is run, and nothing
//! below it knows the store: bytes come as files or memory and leave as files or memory.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cas_store::Bytes;
use serde::{Deserialize, Serialize};

use crate::solid::{OutputDecl, Solid};
use crate::source::MeasuredPath;
use crate::value::{Config, Value};

mod below;
pub(crate) mod blot;
mod cancel;
pub mod command;
pub mod folder;
pub mod function;
pub(crate) mod guard;
pub mod line;
mod mounts;
pub mod orphans;
pub(crate) mod paused;
mod proc;
pub(crate) mod process;
pub(crate) mod produced;
pub(crate) mod program;
mod repeat;
pub mod sandbox;
pub mod scratch;

pub use blot::{HIDDEN, blotted};
pub use cancel::{Cancel, Stop};
pub use guard::{VARIABLE as GUARD_VARIABLE, watch_over};
pub use paused::{Pause, now, pause, since};

/// Runs attempts.
pub trait Execute: Send + Sync {
    /// Runs one attempt to its end. What it returns is the outcome: an attempt that fails is no error.
    fn execute(&self, attempt: &Attempt<'_>) -> Attempted;

    /// Makes the folder of an attempt that failed, in whatever way, fit to be kept for people: writes what repeats
    /// it, and takes secrets out of what was laid there.
    ///
    /// # Errors
    /// That could not be done: the folder is not kept.
    fn keep(&self, attempt: &Attempt<'_>) -> std::io::Result<()> {
        let _ = attempt;
        Ok(())
    }

    /// Waits between two attempts, unless the run is stopped.
    fn pause(&self, cancel: &Cancel, time: Duration) {
        cancel.wait(Stop::No, time);
    }
}

/// One attempt of one step: everything that it may see.
pub struct Attempt<'a> {
    /// The step's name, with its element, for messages: `train[seed=1]`.
    pub step: &'a str,
    /// What is run.
    pub solid: &'a Solid,
    /// Its resolved config, matrix values included.
    pub config: &'a Config,
    /// Its inputs, in declared order.
    pub inputs: &'a [Given],
    /// The resources that it needs, and those that they need, in the order in which they are opened.
    pub resources: &'a [GivenResource],
    /// The declared code and resource files: (relative path, source), to be laid in the folder.
    pub files: &'a [GivenFile],
    /// Its own, fresh folder, absolute (for a function: a place for files it makes). A command runs in `step`
    /// below it, where its stored inputs lie already (see `folder.rs`).
    pub folder: &'a Path,
    /// The environment that was declared: hashed, passed and secret variables with their values.
    pub env: &'a [(String, String)],
    /// The names of those of them whose values are secret.
    pub secret_env: &'a [String],
    /// The values that are to be blotted out of what is captured.
    pub secrets: &'a [String],
    /// Folders to put before PATH, absolute.
    pub path: &'a [PathBuf],
    /// Where everything that it prints is captured.
    pub log: &'a Path,
    /// After how long it is ended.
    pub timeout: Option<Duration>,
    /// How long it may take to end when it is asked to; `None`: as long as the executor says.
    pub grace: Option<Duration>,
    /// How many cores it may use.
    pub cpus: u32,
    /// Set when the run is being stopped.
    pub cancel: &'a Arc<Cancel>,
    /// Its scratch folders, as the last attempt left them; `None` where it has none, or is to begin with empty ones.
    pub scratch: Option<&'a scratch::Scratch>,
    /// How it is confined to what it is given; `None` where it is not.
    pub sandbox: Option<&'a sandbox::Confinement<'a>>,
    /// What the thread may do while it waits for the attempt to end: it is short, and not about this one.
    pub meanwhile: &'a (dyn Fn() + Sync),
}

/// An input as an attempt is given it.
pub struct Given {
    /// Its name: `tree`.
    pub name: String,
    /// Its name as a file: `tree.txt`.
    pub file_name: String,
    /// What it is.
    pub content: Content,
}

/// The forms of an input.
pub enum Content {
    /// For commands: it lies at `inputs/<file_name>` in the folder already, as a file or folder.
    File,
    /// For commands: a fan-in of so many, at `inputs/<name>/0`, `1`, ….
    FanIn(usize),
    /// For commands: a gather, at `inputs/<name>/<label><ext>`, with `inputs/<name>.json` beside it; in order.
    Gather(Vec<String>),
    /// An optional output that was not made: nothing lies there. (Steps below one are normally skipped.)
    Absent,
    /// For commands: a `path:` input, that is laid out from the project.
    Project {
        /// What was measured of it.
        measured: Arc<MeasuredPath>,
        /// Whether it may be linked and keeps its mtime.
        external: bool,
    },
    /// For functions: one value, encoded.
    Bytes(Encoded),
    /// For functions: several (`Bytes`, `Path` or `Absent`), with their labels (indices for a fan-in), in order.
    Many(Vec<(String, Content)>),
    /// A literal, default or probe's answer; for a command it is written to `inputs/<file_name>`.
    Value(Value),
    /// For functions: a file or folder of the project, or a stored tree, laid out at this path (absolute, read-only).
    Path(PathBuf),
}

/// An encoded value.
pub struct Encoded {
    /// The name of the codec that wrote it.
    pub codec: String,
    /// Its bytes, checked.
    pub bytes: Bytes,
}

/// A resource as an attempt is given it.
pub struct GivenResource {
    /// Its name.
    pub name: String,
    /// Its resolved config.
    pub config: Config,
}

/// An opened resource of a Rust pipeline.
pub type Opened = Arc<dyn Any + Send + Sync>;

/// A declared file that is laid in the step's folder.
#[derive(Debug, Clone)]
pub struct GivenFile {
    /// Relative to the folder.
    pub to: String,
    /// Where its content is.
    pub from: PathBuf,
    /// What it is.
    pub what: GivenWhat,
}

/// What a declared file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GivenWhat {
    /// A regular file, executable or not.
    File {
        /// Whether it is executable.
        executable: bool,
    },
    /// A link that stays inside, with this target.
    Link(String),
    /// An empty folder.
    Folder,
}

/// What came of an attempt.
pub struct Attempted {
    /// What it made, in declared order, or why it failed.
    pub outcome: Result<Vec<Produced>, Failure>,
    /// How long the command or function itself took.
    pub elapsed: Duration,
    /// What it used that it was not given, where that was watched.
    pub undeclared: Option<Undeclared>,
}

impl Attempted {
    /// Of an attempt that was not watched.
    pub fn new(outcome: Result<Vec<Produced>, Failure>, elapsed: Duration) -> Self {
        Self { outcome, elapsed, undeclared: None }
    }
}

/// What an attempt used beyond what it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undeclared {
    /// Whether it was refused.
    pub refused: bool,
    /// How and what, one path each: `read data/x.csv`, `listed /srv`, `ran …`, `wrote …`.
    pub used: Vec<String>,
    /// The lines for the pipeline file that declare it.
    pub lines: Vec<String>,
}

/// One output as an attempt made it.
#[derive(Debug)]
pub enum Produced {
    /// A file at this absolute path; it may be moved away.
    File(PathBuf),
    /// A folder at this absolute path; it may be moved away.
    Folder(PathBuf),
    /// Encoded bytes.
    Bytes(Vec<u8>),
    /// An optional output that was not made.
    Absent,
}

/// Why an attempt failed: a result of the run, told in its own words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What happened.
    pub cause: Cause,
    /// One sentence for people, a lower-case fragment: `exit status 3`, ``it did not write `outputs/result` ``.
    pub message: String,
    /// What to do about it, where that is known.
    pub hint: Option<String>,
}

/// The kinds of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cause {
    /// A non-zero exit status.
    Exit(i32),
    /// Ended by a signal.
    Signal(i32),
    /// It took longer than its timeout.
    Timeout,
    /// A declared output is missing.
    MissingOutput,
    /// There is something in `outputs/` that was not declared.
    UndeclaredOutput,
    /// An output that cannot be stored: a socket, a link that leaves it, ….
    BadOutput,
    /// The command or program could not be started.
    NotStarted,
    /// The function returned an error.
    Error,
    /// The function panicked.
    Panic,
    /// A project file that it was given changed while it ran.
    SourceChanged,
    /// An input could not be given to it.
    Input,
    /// The run was stopped.
    Cancelled,
}

impl Cause {
    /// Whether the same step of another run would fail likewise: not where this run's files, time limit, machine or
    /// end are the cause.
    pub(crate) fn follows_from_what_it_was_given(&self) -> bool {
        match self {
            Self::Exit(_)
            | Self::MissingOutput
            | Self::UndeclaredOutput
            | Self::BadOutput
            | Self::Error
            | Self::Panic => true,
            Self::Signal(_)
            | Self::Timeout
            | Self::NotStarted
            | Self::SourceChanged
            | Self::Input
            | Self::Cancelled => false,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// The body of a Rust solid, its types erased. `function.rs` runs it, `typed/` makes it.
pub trait Function: Send + Sync + fmt::Debug {
    /// The version of its code, where the solid's declared version is none: it is volatile, or good for a time.
    fn version(&self) -> Option<&str> {
        None
    }

    /// Decodes its inputs, runs, encodes its outputs, in declared order.
    ///
    /// # Errors
    /// What the body returned, or what could not be decoded.
    fn call(&self, call: &Call<'_>) -> Result<Vec<Produced>, Box<dyn std::error::Error + Send + Sync>>;
}

/// What a function is called with.
pub struct Call<'a> {
    /// Its config.
    pub config: &'a Config,
    /// Its inputs, in declared order.
    pub inputs: &'a [Given],
    /// Its resources by name.
    pub resources: &'a BTreeMap<String, Opened>,
    /// A folder of its own for files it makes.
    pub folder: &'a Path,
    /// What it declared.
    pub outputs: &'a [OutputDecl],
    /// Set when the run is being stopped; a long computation may look at it.
    pub cancel: &'a Arc<Cancel>,
    /// When the attempt has had its time, by the clock of [`now`]. It cannot be ended from outside.
    pub deadline: Option<Instant>,
}

/// How a resource of a Rust pipeline is opened: once per run, only if a step that needs it runs.
pub trait OpenResource: Send + Sync + fmt::Debug {
    /// Opens it, given its config and the resources that it needs.
    ///
    /// # Errors
    /// What the opener returned: every step that needs it fails with it.
    fn open(
        &self,
        config: &Config,
        needs: &BTreeMap<String, Opened>,
    ) -> Result<Opened, Box<dyn std::error::Error + Send + Sync>>;
}
