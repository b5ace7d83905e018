//! Measures what a plan depends on outside of it: declared files, paths, probes, the environment.
//!
//! ```text
//! declarations ─► pattern.rs ─► walk.rs, ignored.rs ─► hash.rs ◄─► stat_cache.rs ─► Measures
//!                  (pure)        which files            what is in them
//! probes ───────► probe.rs ───────────────────────────────────────────────────────────┘
//! ```
//!
//! Only what the given steps need is looked at; what several need, once. Each file is read once, and not at all
//! when its stat is known and not racy. Reads the project and writes the cache; of a store it knows only the answers
//! of probes that are kept there.

mod asked;
mod hash;
mod ignored;
mod looked;
mod probe;
mod reach;
mod search;
mod stat_cache;
mod walk;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cas_store::{Digest, Entry, Node, Trace, Tree};

pub use asked::path_before;
use asked::{Asked, Questions};
pub use hash::Counters;
pub(crate) use ignored::is_no_code_by_name;
pub use looked::Looked;
pub(crate) use looked::{IGNORED, SHOWN};

use crate::error::{Diagnostic, EngineError, Place};
use crate::execute::{Cancel, sandbox};
use crate::fork;
use crate::frozen::{self, Frozen};
use crate::graph::{Graph, StepId, StepInput};
use crate::memo::{Answer, Memo};
use crate::solid::{Body, EnvVar, Sandbox};
use hash::Hashed;
pub(crate) use search::as_code;
use search::{Listed, ListedPath, ListedWhat, Search, Shape, at, refuse_in_scratch, refuse_reserved};
use stat_cache::StatCache;
use walk::Unfound;

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
    /// For each `probe:` input: what tells what was asked from anything else, on any machine. `None` where the steps
    /// that have it do not ask the same.
    pub questions: Vec<Option<Digest>>,
    /// For each invocation: the values of its `env:` variables, in order (`None`: unset).
    pub env: Vec<Vec<(String, Option<String>)>>,
    /// `linux/x86_64`.
    pub platform: String,
    /// Whether this kernel refuses to a step what it was not given, where one asks for that.
    pub confines: bool,
    /// Places that the pipeline publishes to and that it would find again, once something is put there: for each, the
    /// declaration that would.
    pub reached: BTreeMap<String, String>,
    /// Places that the pipeline publishes to at or below which something is declared: what that is.
    pub holds: BTreeMap<String, String>,
    /// Places that the pipeline publishes to whose folder is reached through a link: where they are without.
    pub through: BTreeMap<String, PathBuf>,
    /// Places that the pipeline publishes to on whose way a link leads to nothing: that link.
    pub nowhere: BTreeMap<String, PathBuf>,
    /// How much was done for it.
    pub counters: Counters,
}

/// Declared files, sorted by the bytes of their paths.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FileSet {
    /// The files, links and empty folders.
    pub files: Vec<MeasuredFile>,
    /// The folders and globs that they were found by.
    pub looked: Vec<Arc<Looked>>,
}

/// One declared file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeasuredFile {
    /// Relative to the project folder, `/` between parts. Of a `path:` input that is a folder or glob, relative
    /// to that; of one that is a file, as declared.
    pub path: String,
    /// Where its content is, absolute; links on the way are followed each time.
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
    /// Where answers of probes are kept; `None`: nowhere, so that each is asked.
    pub memo: Option<&'a Memo>,
    /// Now, in milliseconds since 1970 (`run::now_ms`): answers that are good for a while are judged by it.
    pub at_ms: u64,
    /// Whether inputs have answers that their probes gave before, however old they are (`--frozen`).
    pub frozen: Frozen,
    /// Gives what stops probes; called where some are to be asked. `None`: nothing does.
    pub asking: Option<&'a (dyn Fn() -> Arc<Cancel> + Sync)>,
}

impl<'a> Measure<'a> {
    /// In an environment, for nothing that is kept: no store, cache or former answers, and nothing stops it.
    pub fn new(environment: &'a Environment) -> Self {
        Self { environment, store: None, cache: None, memo: None, at_ms: 0, frozen: Frozen::No, asking: None }
    }
}

impl Measures {
    /// The same for a graph of the same pipeline that has grown: what it needs was measured for its placeholders.
    pub(crate) fn moved(&self, from: &Graph, to: &Graph) -> Self {
        let paths: HashMap<(&str, bool), usize> = from
            .paths
            .iter()
            .enumerate()
            .map(|(at, path)| ((path.path.as_str(), path.external), at))
            .collect();
        let probes: HashMap<&str, usize> =
            from.probes.iter().enumerate().map(|(at, probe)| (probe.key.as_str(), at)).collect();
        let path = |path: &crate::graph::PathInput| {
            self.paths.get(*paths.get(&(path.path.as_str(), path.external))?)?.clone()
        };
        let probe =
            |probe: &crate::graph::ProbeInput| self.probes.get(*probes.get(probe.key.as_str())?)?.clone();
        let question =
            |probe: &crate::graph::ProbeInput| *self.questions.get(*probes.get(probe.key.as_str())?)?;
        Self {
            paths: to.paths.iter().map(path).collect(),
            probes: to.probes.iter().map(probe).collect(),
            questions: to.probes.iter().map(question).collect(),
            ..self.clone()
        }
    }
}

/// Measures what the given steps of a graph need (files that several need, once).
///
/// # Errors
/// A declared file that is not there, a glob that matches nothing, a link that leaves its folder, a probe that fails.
pub fn measure(graph: &Graph, steps: &[StepId], how: &Measure<'_>) -> Result<Measures, EngineError> {
    let needed = Needed::of(graph, steps);
    let mut search = Search::new(&graph.pipeline.folder, how.store.as_deref());

    // Which files; then what is in them, all at once; then who gets what.
    let mut code: Vec<Option<Arc<Listed>>> = vec![None; graph.pipeline.invocations.len()];
    for &index in &needed.invocations {
        let solid = &graph.pipeline.invocations[index].solid;
        let patterns = solid.code.iter().map(|pattern| (pattern.text.as_str(), pattern.place.as_ref()));
        let listed = search.code(patterns)?;
        if matches!(solid.body, Body::Command(_)) {
            refuse_reserved(&listed)?;
        }
        code[index] = Some(listed);
    }
    let mut resources: Vec<Option<Arc<Listed>>> = vec![None; graph.resources.len()];
    for &index in &needed.resources {
        let definition = &graph.resources[index].definition;
        let patterns = definition.files.iter().map(|pattern| (pattern.text.as_str(), pattern.place.as_ref()));
        let listed = search.code(patterns)?;
        refuse_reserved(&listed)?;
        resources[index] = Some(listed);
    }
    for &index in &needed.invocations {
        let of_resources = graph.resources_of(index as u32).into_iter();
        let of_resources = of_resources.filter_map(|resource| resources[resource].as_deref());
        for listed in code[index].as_deref().into_iter().chain(of_resources) {
            refuse_in_scratch(&graph.pipeline.invocations[index].solid, listed)?;
        }
    }
    let mut paths: Vec<Option<ListedPath>> = vec![None; graph.paths.len()];
    for &index in &needed.paths {
        let input = &graph.paths[index];
        paths[index] = Some(search.path(&input.path, input.external, input.place.as_ref())?);
    }

    let Questions { probes, asked } = asked::probes(graph, &needed, how.environment)?;
    let mut cache = StatCache::load(how.cache.as_deref());
    let keys: Vec<Trace> = probes.iter().map(|probe| probe.key(&graph.pipeline.folder)).collect();
    let kept = kept_answers(&probes, &keys, how)?;
    let mut answers: Vec<Option<Result<String, Diagnostic>>> = match how.frozen {
        Frozen::Run(run) => answers_of(run, &probes, &asked, how)?,
        Frozen::No | Frozen::Last => {
            probes.iter().zip(&kept).map(|(probe, kept)| good(probe, kept.as_ref(), how)).collect()
        }
    };
    let open: Vec<&probe::Probe> =
        probes.iter().zip(&answers).filter(|(_, known)| known.is_none()).map(|(probe, _)| probe).collect();
    let mut counters = Counters { probes: open.len() as u64, ..Counters::default() };
    // A probe mostly waits, a hash never does.
    let (asked_now, hashed) = std::thread::scope(|scope| {
        let ask = || {
            let cancel = how.asking.map_or_else(Arc::default, |asking| asking());
            probe::ask_all(&open, &graph.pipeline.folder, probe::TIMEOUT, &cancel)
        };
        let asking = (!open.is_empty()).then(|| fork::begin(scope, ask));
        let hashed = hash::hash_all(&search.files, &mut cache, &mut counters);
        let answers = match asking {
            None => Vec::new(),
            Some(Some(asking)) => fork::join(asking),
            Some(None) => ask(),
        };
        (answers, hashed)
    });
    cache.save();
    let mut asked_now = asked_now.into_iter();
    for (index, answer) in answers.iter_mut().enumerate().filter(|(_, answer)| answer.is_none()) {
        *answer = asked_now.next();
        if let Some(Ok(text)) = answer {
            keep(&probes[index], keys[index], kept[index].as_ref(), text, how);
        }
    }
    let answers = answers.into_iter().flatten().collect();
    let reach = search.reached(graph);
    let content = Content { hashed: &hashed, files: &search.files };

    let mut measures = Measures {
        platform: format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH),
        confines: denies(graph) && sandbox::confines(),
        env: env_of(graph, &needed, how.environment),
        code: content.file_sets(&code)?,
        resources: content.file_sets(&resources)?,
        paths: Vec::with_capacity(paths.len()),
        probes: vec![None; graph.probes.len()],
        questions: questions(graph, &probes, &asked),
        resource_probes: vec![None; graph.resources.len()],
        reached: reach.reached,
        holds: reach.holds,
        through: reach.through,
        nowhere: reach.nowhere,
        counters,
    };
    for path in &paths {
        measures.paths.push(path.as_ref().map(|path| content.path(path)).transpose()?.map(Arc::new));
    }
    asked::answer(graph, &asked, answers, &mut measures)?;
    Ok(measures)
}

/// Whether any solid is to be refused what it was not given.
fn denies(graph: &Graph) -> bool {
    graph.pipeline.invocations.iter().any(|invocation| invocation.solid.sandbox == Sandbox::Deny)
}

/// What probes of inputs answered before, as far as that is kept.
fn kept_answers(
    probes: &[probe::Probe],
    keys: &[Trace],
    how: &Measure<'_>,
) -> Result<Vec<Option<Answer>>, EngineError> {
    let mut kept = vec![None; probes.len()];
    let Some(memo) = how.memo else { return Ok(kept) };
    let of: Vec<usize> = (0..probes.len()).filter(|index| probes[*index].kept).collect();
    let wanted: Vec<Trace> = of.iter().map(|index| keys[*index]).collect();
    for (index, answer) in of.into_iter().zip(memo.answers(&wanted)?) {
        kept[index] = answer;
    }
    Ok(kept)
}

/// What is asked for each `probe:` input.
fn questions(graph: &Graph, probes: &[probe::Probe], asked: &[(Asked, usize)]) -> Vec<Option<Digest>> {
    let mut questions = vec![None; graph.probes.len()];
    let mut several = vec![false; graph.probes.len()];
    for (who, probe) in asked {
        if let Asked::Input(input) = who {
            let question = probes[*probe].question();
            several[*input] |= questions[*input].is_some_and(|other| other != question);
            questions[*input] = Some(question);
        }
    }
    questions.into_iter().zip(several).map(|(question, several)| question.filter(|_| !several)).collect()
}

/// What a given run was answered, by the index of the probe. The probes of resources are asked anew in every run.
fn answers_of(
    run: u64,
    probes: &[probe::Probe],
    asked: &[(Asked, usize)],
    how: &Measure<'_>,
) -> Result<Vec<Option<Result<String, Diagnostic>>>, EngineError> {
    let of_input = |(who, probe): &(Asked, usize)| matches!(who, Asked::Input(_)).then_some(*probe);
    let inputs: Vec<usize> = asked.iter().filter_map(of_input).collect();
    let questions: Vec<Digest> = inputs.iter().map(|probe| probes[*probe].question()).collect();
    let known = match how.memo {
        Some(memo) => memo.answers_of(run, &questions)?,
        None => vec![None; questions.len()],
    };
    let mut answers = vec![None; probes.len()];
    let mut what: Vec<String> = Vec::new();
    for (probe, answer) in inputs.into_iter().zip(known) {
        match answer {
            Some(text) => answers[probe] = Some(Ok(text)),
            None => what.push(format!("what `{}` answered", probes[probe].shown())),
        }
    }
    what.sort_unstable();
    what.dedup();
    if what.is_empty() { Ok(answers) } else { Err(EngineError::NotOfRun { run, what }) }
}

/// An answer that is kept, if it is still good. One from the future is not: a clock went back, and nobody knows how
/// old it is.
fn good(
    probe: &probe::Probe,
    kept: Option<&Answer>,
    how: &Measure<'_>,
) -> Option<Result<String, Diagnostic>> {
    let kept = kept?;
    let age = how.at_ms.checked_sub(kept.at_ms).map(u128::from);
    let young = age.zip(probe.every).is_some_and(|(age, every)| age < every.as_millis());
    (how.frozen == Frozen::Last || young).then(|| Ok(kept.text.clone()))
}

/// Keeps an answer that was just given: with its time where that counts, else only where it is a new one.
fn keep(probe: &probe::Probe, key: Trace, before: Option<&Answer>, text: &str, how: &Measure<'_>) {
    let known = before.is_some_and(|before| before.text == text);
    if let (Some(memo), true) = (how.memo, probe.kept && (probe.every.is_some() || !known)) {
        let history = frozen::asked_label(&probe.command, &key);
        memo.keep_answer(key, &Answer { text: text.to_owned(), at_ms: how.at_ms }, history);
    }
}

/// A declared file that is not what it was when it was measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileChange {
    /// The file; relative to the project folder, if it lies in it.
    pub path: String,
    /// What became of it: `changed`, `was added`, `was removed`; of one that lies where it did, `began to be ignored`,
    /// `ceased to be ignored`.
    pub how: &'static str,
}

impl FileSet {
    /// What of these files is not as it was when they were measured; nothing is read for it but stats, and names where a
    /// folder changed. `project` is the project folder.
    pub fn changed(&self, project: &Path) -> Option<FileChange> {
        let edited = self.files.iter().find(|file| match &file.what {
            MeasuredWhat::File { .. } => {
                file.from.metadata().map_or(true, |now| !now.is_file() || hash::stat_of(&now) != file.stat)
            }
            // A link has no content but its target.
            MeasuredWhat::Link(target) => {
                file.from.read_link().map_or(true, |now| now.as_os_str() != target.as_str())
            }
            // What is put into it later, its declaration finds.
            MeasuredWhat::Folder => false,
        });
        let changed = |file: &MeasuredFile| FileChange {
            path: file.from.strip_prefix(project).unwrap_or(&file.from).display().to_string(),
            how: "changed",
        };
        edited.map(changed).or_else(|| self.looked.iter().find_map(|looked| looked.changed()))
    }
}

impl Measures {
    /// What of all declared files is not as it was when it was measured, by stats as [`FileSet::changed`].
    pub fn changed(&self, project: &Path) -> Option<FileChange> {
        let declared = self.code.iter().chain(&self.resources).flatten().map(|files| &**files);
        let paths = self.paths.iter().flatten().map(|path| &path.files);
        // Equal solids share theirs.
        let mut seen = HashSet::new();
        declared
            .chain(paths)
            .filter(|files| seen.insert(std::ptr::from_ref::<FileSet>(files)))
            .find_map(|files| files.changed(project))
    }

    /// Whether a probe was asked for it.
    pub fn has_probes(&self) -> bool {
        self.probes.iter().chain(&self.resource_probes).any(Option::is_some)
    }
}

/// Of what is about to be put at places of the project: for each, the first file that a declaration would find there the
/// next time, and which declaration that is. Each is a place and, of a folder, the paths in it.
pub(crate) fn found_again(
    graph: &Graph,
    store: Option<&Path>,
    puts: &[(String, Option<Vec<String>>)],
) -> Vec<Option<(String, String)>> {
    Search::new(&graph.pipeline.folder, store).found_again(graph, puts)
}

/// What the steps of a plan need, as indices, each once.
#[derive(Debug, Default)]
struct Needed {
    invocations: Vec<usize>,
    resources: Vec<usize>,
    paths: Vec<usize>,
    /// With the steps that ask, one for each solid.
    probes: BTreeMap<usize, Vec<StepId>>,
    /// One step of each invocation.
    step_of: Vec<Option<StepId>>,
}

impl Needed {
    fn of(graph: &Graph, steps: &[StepId]) -> Self {
        let mut needed = Self { step_of: vec![None; graph.pipeline.invocations.len()], ..Self::default() };
        let mut paths = vec![false; graph.paths.len()];
        for &id in steps {
            let step = &graph.steps[id.0 as usize];
            needed.step_of[step.invocation as usize].get_or_insert(id);
            for input in &step.inputs {
                match input {
                    StepInput::Path(path) => paths[*path as usize] = true,
                    StepInput::Probe(probe) => {
                        let asking = needed.probes.entry(*probe as usize).or_default();
                        let solid = std::ptr::from_ref(graph.solid(id));
                        if !asking.iter().any(|other| std::ptr::eq(graph.solid(*other), solid)) {
                            asking.push(id);
                        }
                    }
                    StepInput::Output(_)
                    | StepInput::Element { .. }
                    | StepInput::Unknown(_)
                    | StepInput::FanIn(_)
                    | StepInput::Gather(_)
                    | StepInput::Value(_) => {}
                }
            }
        }
        let chosen = |chosen: Vec<bool>| (0..chosen.len()).filter(|at| chosen[*at]).collect();
        needed.invocations = (0..needed.step_of.len()).filter(|at| needed.step_of[*at].is_some()).collect();
        let mut resources = vec![false; graph.resources.len()];
        for &invocation in &needed.invocations {
            for resource in graph.resources_of(invocation as u32) {
                resources[resource] = true;
            }
        }
        needed.resources = chosen(resources);
        needed.paths = chosen(paths);
        needed
    }
}

/// What was hashed.
struct Content<'a> {
    hashed: &'a [io::Result<Hashed>],
    files: &'a [PathBuf],
}

impl Content<'_> {
    fn of(&self, index: usize, place: Option<&Place>) -> Result<&Hashed, EngineError> {
        self.hashed[index].as_ref().map_err(|error| EngineError::Source {
            diagnostic: Diagnostic::new(format!("cannot read `{}`", self.files[index].display())).at(place),
            source: Some(io::Error::new(error.kind(), error.to_string())),
        })
    }

    fn file_sets(&self, listed: &[Option<Arc<Listed>>]) -> Result<Vec<Option<Arc<FileSet>>>, EngineError> {
        let mut known: HashMap<*const Listed, Arc<FileSet>> = HashMap::new();
        let mut sets = Vec::with_capacity(listed.len());
        for listed in listed {
            let Some(listed) = listed else {
                sets.push(None);
                continue;
            };
            let set = match known.get(&Arc::as_ptr(listed)) {
                Some(set) => Arc::clone(set),
                None => Arc::new(self.file_set(listed)?),
            };
            known.insert(Arc::as_ptr(listed), Arc::clone(&set));
            sets.push(Some(set));
        }
        Ok(sets)
    }

    fn file_set(&self, listed: &Listed) -> Result<FileSet, EngineError> {
        let mut files = Vec::with_capacity(listed.files.len());
        for file in &listed.files {
            let (what, stat) = match &file.what {
                ListedWhat::File(index) => {
                    let hashed = self.of(*index, file.place.as_ref())?;
                    let what = MeasuredWhat::File { digest: hashed.digest, executable: hashed.executable };
                    (what, hashed.stat)
                }
                ListedWhat::Link(target) => (MeasuredWhat::Link(target.clone()), Stat::default()),
                ListedWhat::Folder => (MeasuredWhat::Folder, Stat::default()),
            };
            files.push(MeasuredFile { path: file.path.clone(), from: file.from.clone(), what, stat });
        }
        Ok(FileSet { files, looked: listed.looked.clone() })
    }

    fn path(&self, path: &ListedPath) -> Result<MeasuredPath, EngineError> {
        let files = self.file_set(&path.listed)?;
        let file = match (path.shape, files.files.as_slice()) {
            (Shape::File, [MeasuredFile { what: MeasuredWhat::File { digest, executable }, stat, .. }]) => {
                Some((*digest, PathKind::File { executable: *executable }, stat.size))
            }
            _ => None,
        };
        let (digest, kind, len) = match file {
            Some(file) => file,
            None => {
                let tree = tree_of(&files).map_err(|what| at(Unfound::new(what), path.place.as_ref()))?;
                let kind = if path.shape == Shape::Glob { PathKind::Glob } else { PathKind::Folder };
                (tree.digest(), kind, tree.len())
            }
        };
        Ok(MeasuredPath { digest, kind, files, len })
    }
}

/// Files as the tree that they would be stored as.
fn tree_of(files: &FileSet) -> Result<Tree, String> {
    let entries = files.files.iter().map(|file| Entry {
        path: file.path.clone(),
        node: match &file.what {
            MeasuredWhat::File { digest, executable } => {
                Node::File { digest: *digest, len: file.stat.size, executable: *executable }
            }
            MeasuredWhat::Link(target) => Node::Link { target: target.clone() },
            MeasuredWhat::Folder => Node::Folder,
        },
    });
    Tree::new(entries.collect()).map_err(|error| error.to_string())
}

/// The hashed variables of each invocation, in declared order.
fn env_of(graph: &Graph, needed: &Needed, environment: &Environment) -> Vec<Vec<(String, Option<String>)>> {
    let of = |index: usize| {
        let variables = graph.pipeline.invocations[index].solid.env.iter();
        let values = variables.map(|variable| match variable {
            EnvVar::Pass(name) => (name.clone(), environment.vars.get(name).cloned()),
            // What it becomes follows from the config, element by element.
            EnvVar::Set(name, template) => (name.clone(), Some(template.text.clone())),
        });
        values.collect()
    };
    let invocations = needed.step_of.iter().enumerate();
    invocations.map(|(index, step)| if step.is_some() { of(index) } else { Vec::new() }).collect()
}
