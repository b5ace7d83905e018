//! Measures what a plan depends on outside of it: declared files, paths, probes, the environment. Each file is
//! read once, and not at all when its stat is known and not racy.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use cas_store::Digest;

use crate::error::EngineError;
use crate::graph::{Graph, StepId};

/// The environment that a run was started in, as data: the engine reads none itself.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// Variables.
    pub vars: BTreeMap<String, String>,
}

/// Everything that was measured for a graph. Indices are those of the graph.
#[derive(Debug, Clone, Default)]
pub struct Measures {
    /// For each invocation: the declared code of its solid (equal solids share).
    pub code: Vec<Option<Arc<FileSet>>>,
    /// For each resource: its files.
    pub resources: Vec<Option<Arc<FileSet>>>,
    /// For each resource: what its probe printed.
    pub resource_probes: Vec<Option<String>>,
    /// For each `path:` input.
    pub paths: Vec<Option<Arc<MeasuredPath>>>,
    /// For each `probe:` input: what it printed, without a final newline.
    pub probes: Vec<Option<String>>,
    /// For each invocation: the values of its `env:` variables, in order (`None`: unset).
    pub env: Vec<Vec<(String, Option<String>)>>,
    /// `linux/x86_64`.
    pub platform: String,
}

/// Declared files, sorted by the bytes of their paths.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FileSet {
    /// The files, links and empty folders.
    pub files: Vec<MeasuredFile>,
}

/// One declared file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeasuredFile {
    /// Relative to the project folder, `/` between parts.
    pub path: String,
    /// Where its content is (a declared link is followed).
    pub from: PathBuf,
    /// What it is.
    pub what: MeasuredWhat,
    /// What its stat said when it was hashed.
    pub stat: Stat,
}

/// What a declared file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MeasuredWhat {
    /// A regular file.
    File {
        /// Of its content.
        digest: Digest,
        /// Whether it is executable.
        executable: bool,
    },
    /// A link inside a declared folder, that stays inside.
    Link(String),
    /// An empty folder inside a declared folder.
    Folder,
}

/// What tells that a file is still what was hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Stat {
    /// Device.
    pub dev: u64,
    /// Inode.
    pub ino: u64,
    /// Bytes.
    pub size: u64,
    /// Modification time, nanoseconds.
    pub mtime_ns: i128,
    /// Change time, nanoseconds.
    pub ctime_ns: i128,
}

/// A measured `path:` input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeasuredPath {
    /// Its identity: of a file its digest, of a folder or glob the digest of its tree.
    pub digest: Digest,
    /// What it is.
    pub kind: PathKind,
    /// Its files, with paths as the step sees them (relative to the input).
    pub files: FileSet,
    /// Bytes altogether.
    pub len: u64,
}

/// The kinds of a `path:` input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathKind {
    /// A file.
    File {
        /// Whether it is executable.
        executable: bool,
    },
    /// A folder.
    Folder,
    /// What a glob matched, laid out as a folder.
    Glob,
}

/// Where and how to measure.
pub struct Measure<'a> {
    /// The environment of the run.
    pub environment: &'a Environment,
    /// The store's folder: no glob or folder ever reaches into it.
    pub store: Option<PathBuf>,
    /// Where digests by stat are kept between runs; `None`: nowhere.
    pub cache: Option<PathBuf>,
}

/// Measures what the given steps of a graph need (files that several need, once).
///
/// # Errors
/// A declared file that is not there, a glob that matches nothing, a link that leaves its folder, a probe that fails.
pub fn measure(graph: &Graph, steps: &[StepId], how: &Measure<'_>) -> Result<Measures, EngineError> {
    let _ = (graph, steps, how);
    todo!()
}

/// Which of these files is not what it was when it was hashed: the first, by name.
pub fn changed(files: &[MeasuredFile]) -> Option<&MeasuredFile> {
    let _ = files;
    todo!()
}
