//! What a command line means: which pipeline, with which run config, against which store. The parts of the engine are
//! put together here, and only here.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cas_engine::config::RunConfig;
use cas_engine::error::EngineError;
use cas_engine::execute::{self, Cancel};
use cas_engine::file::{self, Typed};
use cas_engine::frozen::Frozen;
use cas_engine::graph::{Graph, StepId};
use cas_engine::memo::{Memo, Resolved, Wanted};
use cas_engine::pipeline::Pipeline;
use cas_engine::plan::Plan;
use cas_engine::publish;
use cas_engine::run::now_ms;
use cas_engine::source::{self, Environment, Measure};
use cas_store::{Create, Hosting, Open, Store, StoreError};

use crate::args::{Common, Format, Program, Which};
use crate::commands::runs;
use crate::failure::{Code, Failure, HINT};
use crate::given_file;
use crate::report::lines::Detail;
use crate::signals::Interrupts;

/// The name of a pipeline file that is looked for.
const PIPELINE_FILE: &str = "pipeline.yaml";
/// The name of a store where nothing else is said.
const STORE: &str = ".cas";
/// Where digests of project files are kept between runs, in the store's folder.
const STAT_CACHE: &str = "stat-cache";
/// How long a store is waited for where nothing else is said.
const WAIT: Duration = Duration::from_secs(600);

/// What the process was started with.
pub(crate) struct World {
    pub(crate) program: Program,
    /// What it is called in messages: `cas`.
    pub(crate) name: String,
    pub(crate) common: Common,
    pub(crate) command_line: Vec<String>,
    pub(crate) environment: Environment,
    /// What Ctrl-C does while probes are asked.
    pub(crate) interrupts: Interrupts,
    compiled: Option<Result<Pipeline, EngineError>>,
}

/// A pipeline with the run config that was given for it.
pub(crate) struct Definition {
    pub(crate) pipeline: Arc<Pipeline>,
    pub(crate) config: RunConfig,
    pub(crate) texts: Texts,
}

impl Definition {
    /// The same pipeline with another run config.
    pub(crate) fn with(&self, config: RunConfig) -> Self {
        Self { pipeline: Arc::clone(&self.pipeline), config, texts: self.texts.clone() }
    }
}

/// The files that were read, as they are shown, with their texts: for the excerpts in messages about them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Texts(Vec<(String, String)>);

impl Texts {
    /// These, and one more.
    pub(crate) fn and(&self, file: &str, text: String) -> Self {
        let mut texts = self.clone();
        texts.0.push((file.to_owned(), text));
        texts
    }

    /// A failure whose diagnostics show the lines that they are about.
    pub(crate) fn explain(&self, error: impl Into<EngineError>) -> Failure {
        let mut error = error.into();
        let diagnostics = match &mut error {
            EngineError::Definition(diagnostics) => diagnostics.as_mut_slice(),
            EngineError::Source { diagnostic, .. } | EngineError::Probe(diagnostic) => {
                std::slice::from_mut(diagnostic)
            }
            EngineError::Store(_)
            | EngineError::Io { .. }
            | EngineError::NotOfRun { .. }
            | EngineError::Panicked { .. }
            | EngineError::Interrupted => &mut [],
        };
        for (file, text) in &self.0 {
            file::add_excerpts(diagnostics, file, text);
        }
        error.into()
    }
}

/// Which store, and what chose it.
#[derive(Debug, Clone)]
pub(crate) struct Choice {
    pub(crate) dir: PathBuf,
    pub(crate) by: Chooser,
}

/// What can choose a store, the strongest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Chooser {
    Flag,
    Variable,
    BaseDir,
    PipelineFile,
    Default,
}

impl fmt::Display for Chooser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Flag => "--store",
            Self::Variable => "CAS_STORE",
            Self::BaseDir => "base_dir of the run config",
            Self::PipelineFile => "`store:` of the pipeline",
            Self::Default => "the default, beside the pipeline",
        })
    }
}

/// A pipeline taken apart, with its store.
pub(crate) struct Session {
    pub(crate) graph: Arc<Graph>,
    pub(crate) choice: Choice,
    pub(crate) memo: Memo,
    /// Whether what is good for a while only is taken as it was left.
    pub(crate) frozen: Frozen,
    texts: Texts,
}

impl World {
    /// Takes in the process's environment and the command line.
    pub(crate) fn new(
        program: Program,
        name: String,
        compiled: Option<Result<Pipeline, EngineError>>,
        common: Common,
        words: Vec<OsString>,
    ) -> Result<Self, Failure> {
        if let Some(directory) = &common.directory {
            std::env::set_current_dir(directory).map_err(|error| {
                Failure::usage(format!("cannot go to the folder `{}`", directory.display())).because(error)
            })?;
        }
        // A variable that is no UTF-8 can neither be named in a pipeline file nor hashed as text, so no step sees it.
        let mut vars: BTreeMap<String, String> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        // Before anything is asked: probes are commands, too. No step can ask for it: it differs in each run.
        execute::watch_over(vars.remove(execute::GUARD_VARIABLE).as_deref());
        // Probes, steps and a person's own shell are all that is started here; the functions and resources of a Rust
        // pipeline may start more. Where the system cannot, what leaves a group may stay.
        if program == Program::Files {
            let _ = execute::orphans::adopt();
        }
        let command_line = words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
        Ok(Self {
            program,
            name,
            common,
            command_line,
            environment: Environment { vars },
            interrupts: Interrupts::new(),
            compiled,
        })
    }

    /// How much is told on stderr.
    pub(crate) fn detail(&self) -> Detail {
        match (self.common.quiet, self.common.verbose) {
            (true, _) => Detail::Quiet,
            (false, true) => Detail::Verbose,
            (false, false) => Detail::Normal,
        }
    }

    /// Whether the answer is wanted as JSON.
    pub(crate) fn json(&self) -> bool {
        self.common.format == Format::Json
    }

    /// Says something on stderr that is not the answer, unless it is not wanted.
    pub(crate) fn tell(&self, text: impl fmt::Display) {
        if self.detail() > Detail::Quiet {
            self.interrupts.say()(text.to_string());
        }
    }

    /// Warns on stderr.
    pub(crate) fn warn(&self, text: impl fmt::Display) {
        self.tell(format_args!("{HINT}warning:{HINT:#} {text}"));
    }

    /// Reads the pipeline, if there is one, and its run config.
    pub(crate) fn definition(&mut self, which: &Which) -> Result<Option<Definition>, Failure> {
        let mut texts = Texts::default();
        // It may be asked for again: a run that watches plans anew after each change.
        if let Some(Err(_)) = &self.compiled
            && let Some(Err(error)) = self.compiled.take()
        {
            return Err(error.into());
        }
        let mut pipeline = match &self.compiled {
            Some(Ok(pipeline)) => pipeline.clone(),
            Some(Err(_)) => return Ok(None),
            None => match pipeline_file(which)? {
                Some(path) => read_pipeline(&path, &mut texts)?,
                None => return Ok(None),
            },
        };
        if let Some(sandbox) = which.sandbox {
            pipeline.confine(sandbox);
        }
        let mut config = RunConfig::default();
        let first = pipeline.run_config.iter().map(|path| pipeline.home.join(path));
        for path in first.chain(which.config.iter().cloned()) {
            let text =
                given_file::text(&path).map_err(|error| Failure::unread("run config", &path, &error))?;
            let path = shown(&path);
            file::run_config(&path, &text, &mut config)?;
            texts.0.push((path.to_string_lossy().into_owned(), text));
        }
        for text in &which.set {
            file::set(&pipeline, &Typed::set(text), &mut config)?;
        }
        for warning in &config.warnings {
            self.warn(warning);
        }
        Ok(Some(Definition { pipeline: Arc::new(pipeline), config, texts }))
    }

    /// Which store is meant. What the command line and the environment say counts from the current folder, all else
    /// from the pipeline's.
    pub(crate) fn choice(&self, which: &Which, definition: Option<&Definition>) -> Result<Choice, Failure> {
        let here = std::env::current_dir()
            .map_err(|error| Failure::usage("there is no current folder").because(error))?;
        if let Some(choice) = self.choice_from_outside(which, &here) {
            return Ok(choice);
        }
        let Some(Definition { pipeline, config, .. }) = definition else {
            return Err(no_pipeline().hint("give --store DIR to say which store is meant, or -f FILE"));
        };
        let (by, dir) = match (&config.base_dir, &pipeline.store) {
            (Some(dir), _) => (Chooser::BaseDir, dir.as_str()),
            (None, Some(dir)) => (Chooser::PipelineFile, dir.as_str()),
            (None, None) => (Chooser::Default, STORE),
        };
        Ok(Choice { dir: tidy(&here.join(&pipeline.home).join(dir)), by })
    }

    fn choice_from_outside(&self, which: &Which, here: &Path) -> Option<Choice> {
        let flag = which.store.as_ref().map(|dir| (Chooser::Flag, dir.clone()));
        let variable = || {
            let dir = self.environment.vars.get("CAS_STORE").filter(|dir| !dir.is_empty())?;
            Some((Chooser::Variable, PathBuf::from(dir)))
        };
        flag.or_else(variable).map(|(by, dir)| Choice { dir: tidy(&here.join(dir)), by })
    }

    /// Opens a store; `None` where there is none and none is to be made.
    pub(crate) fn open(
        &self,
        choice: &Choice,
        which: &Which,
        create: Create,
    ) -> Result<Option<Store>, Failure> {
        match self.with_open(which, create, |open| Store::open(&choice.dir, open)) {
            Ok(store) => {
                for warning in store.warnings() {
                    self.warn(warning);
                }
                let (detail, say) = (self.detail(), self.interrupts.say());
                store.on_wait(move |host| {
                    if detail > Detail::Quiet {
                        say(waiting(host));
                    }
                });
                self.interrupts.hand_over_when_stopped(&store);
                Ok(Some(store))
            }
            Err(StoreError::Absent { .. }) if create == Create::Never => Ok(None),
            Err(error) => Err(Failure::from(error).note(format!("the store was chosen by {}", choice.by))),
        }
    }

    /// Does something that opens a store, and says so where another process has to be waited for.
    pub(crate) fn with_open<T>(
        &self,
        which: &Which,
        create: Create,
        body: impl FnOnce(Open<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut on_wait = |host: &str| self.tell(waiting(host));
        let wait = which.wait.unwrap_or(WAIT);
        body(Open { create, hosting: Hosting::Willing, wait, owner: self.owner(), on_wait: &mut on_wait })
    }

    /// Opens a store to read; says so where there is none.
    pub(crate) fn open_to_read(
        &self,
        choice: &Choice,
        which: &Which,
        definition: Option<&Definition>,
    ) -> Result<Option<Store>, Failure> {
        let store = self.open(choice, which, Create::Never)?;
        if store.is_none() {
            self.tell_no_store(choice, definition.map(|definition| definition.pipeline.home.as_path()));
        }
        Ok(store)
    }

    /// Which store is meant, for what needs no pipeline: one is read only where it says which store that is.
    pub(crate) fn store_choice(&mut self, which: &Which) -> Result<(Choice, Option<Definition>), Failure> {
        if let Ok(here) = std::env::current_dir()
            && let Some(choice) = self.choice_from_outside(which, &here)
        {
            return Ok((choice, None));
        }
        let definition = self.definition(which)?;
        Ok((self.choice(which, definition.as_ref())?, definition))
    }

    /// The store alone, for what needs no pipeline.
    pub(crate) fn store_to_read(&mut self, which: &Which) -> Result<(Choice, Option<Store>), Failure> {
        let (choice, definition) = self.store_choice(which)?;
        let store = self.open_to_read(&choice, which, definition.as_ref())?;
        Ok((choice, store))
    }

    fn tell_no_store(&self, choice: &Choice, folder: Option<&Path>) {
        self.tell(format_args!(
            "there is no store at `{}` yet (chosen by {}): nothing is stored",
            shown(&choice.dir).display(),
            choice.by
        ));
        let beside = folder.map(stores_in).unwrap_or_default();
        if !beside.is_empty() {
            let names: Vec<String> = beside.iter().map(|dir| format!("`{}`", shown(dir).display())).collect();
            self.tell(format_args!(
                "{HINT}hint:{HINT:#} beside the pipeline there is {}: --store DIR uses it",
                names.join(", ")
            ));
        }
    }

    /// What other processes are told about this one.
    fn owner(&self) -> String {
        // The first words say which command it is; paths and values that follow are nobody's business.
        let verb = self.command_line.iter().skip(1).find(|word| !word.starts_with('-'));
        format!("`{} {}` (pid {})", self.name, verb.map_or("", String::as_str), std::process::id())
    }

    /// Everything that a command about a pipeline needs.
    pub(crate) fn session(&mut self, which: &Which, create: Create) -> Result<Session, Failure> {
        let definition = self.definition(which)?.ok_or_else(no_pipeline)?;
        self.session_of(definition, which, create)
    }

    /// A pipeline without its store, which is not opened: for what only looks into its folder.
    pub(crate) fn graph(&mut self, which: &Which) -> Result<Session, Failure> {
        let definition = self.definition(which)?.ok_or_else(no_pipeline)?;
        let choice = self.choice(which, Some(&definition))?;
        let graph = Graph::new(Arc::clone(&definition.pipeline), which.mode.as_deref(), &definition.config)
            .map_err(|diagnostics| definition.texts.explain(EngineError::Definition(diagnostics)))?;
        Ok(Session {
            graph: Arc::new(graph),
            choice,
            memo: Memo::empty(),
            frozen: Frozen::No,
            texts: definition.texts,
        })
    }

    /// The same, for a definition at hand.
    pub(crate) fn session_of(
        &self,
        definition: Definition,
        which: &Which,
        create: Create,
    ) -> Result<Session, Failure> {
        let choice = self.choice(which, Some(&definition))?;
        let graph = Graph::new(Arc::clone(&definition.pipeline), which.mode.as_deref(), &definition.config)
            .map_err(|diagnostics| definition.texts.explain(EngineError::Definition(diagnostics)))?;
        let store = match create {
            Create::IfAbsent => self.open(&choice, which, create)?,
            Create::Never => self.open_to_read(&choice, which, Some(&definition))?,
        };
        let memo = store.map_or_else(Memo::empty, Memo::new);
        self.session_with(definition, which, choice, graph, memo)
    }

    /// The same, on a store that is open.
    pub(crate) fn session_on(
        &self,
        definition: Definition,
        which: &Which,
        memo: Memo,
    ) -> Result<Session, Failure> {
        let choice = self.choice(which, Some(&definition))?;
        let graph = Graph::new(Arc::clone(&definition.pipeline), which.mode.as_deref(), &definition.config)
            .map_err(|diagnostics| definition.texts.explain(EngineError::Definition(diagnostics)))?;
        self.session_with(definition, which, choice, graph, memo)
    }

    fn session_with(
        &self,
        definition: Definition,
        which: &Which,
        choice: Choice,
        graph: Graph,
        memo: Memo,
    ) -> Result<Session, Failure> {
        let frozen = frozen(which, &memo, &graph)?;
        let mut session = Session { graph: Arc::new(graph), choice, memo, frozen, texts: definition.texts };
        session.name_elements(self);
        Ok(session)
    }

    /// The home folder of whoever runs this.
    pub(crate) fn home(&self) -> Option<PathBuf> {
        self.environment.vars.get("HOME").filter(|home| !home.is_empty()).map(PathBuf::from)
    }
}

impl Session {
    /// Measures what these steps depend on, and gives everything its version.
    pub(crate) fn plan(&self, world: &World, steps: Vec<StepId>) -> Result<Plan, Failure> {
        let measured = world
            .interrupts
            .while_asking(&|asking| source::measure(&self.graph, &steps, &self.how(world, asking)));
        if let Some(code) = world.interrupts.code() {
            return Err(Failure::new(code, "stopped while probes were asked"));
        }
        let measures = measured.map_err(|error| self.texts.explain(error))?;
        let plan = Plan::new(Arc::clone(&self.graph), Arc::new(measures), steps);
        publish::check(&plan, Some(&self.choice.dir))
            .map_err(|wrong| self.texts.explain(EngineError::Definition(wrong)))?;
        Ok(plan)
    }

    fn how<'a>(&'a self, world: &'a World, asking: &'a (dyn Fn() -> Arc<Cancel> + Sync)) -> Measure<'a> {
        Measure {
            environment: &world.environment,
            store: Some(self.choice.dir.clone()),
            cache: self.memo.store().map(|store| store.dir().join(STAT_CACHE)),
            memo: Some(&self.memo),
            at_ms: now_ms(),
            frozen: self.frozen,
            asking: Some(asking),
        }
    }

    /// Takes elements of lists that are on record into the graph, so that they can be named.
    fn name_elements(&mut self, world: &World) {
        self.name_elements_frozen(world, self.frozen);
    }

    /// The same with lists as they were left last, where it is not known yet what the next run makes of them.
    pub(crate) fn name_elements_as_left(&mut self, world: &World) {
        if self.frozen == Frozen::No {
            self.name_elements_frozen(world, Frozen::Last);
        }
    }

    fn name_elements_frozen(&mut self, world: &World, frozen: Frozen) {
        if self.memo.store().is_none() {
            return;
        }
        let wanted = Wanted { at_ms: now_ms(), frozen, ..Wanted::default() };
        let graph = self.memo.graph_grown(Arc::clone(&self.graph), &wanted, &mut |graph, steps| {
            world
                .interrupts
                .while_asking(&|asking| source::measure(graph, steps, &self.how(world, asking)).ok())
        });
        self.graph = graph;
    }

    /// The plan of the whole pipeline, held against the store as `run` would without a name.
    pub(crate) fn whole(&self, world: &World) -> Result<(Plan, Resolved), Failure> {
        let steps = cas_engine::select::Selection::default().of(&self.graph)?.plan;
        let plan = self.plan(world, steps)?;
        let wanted = Wanted { at_ms: now_ms(), frozen: self.frozen, ..Wanted::default() };
        let resolved = self.memo.resolve(&plan, &wanted)?;
        Ok((plan, resolved))
    }

    /// The same for whoever tells why something would run: which steps are certain to is asked of the store too.
    pub(crate) fn whole_with_causes(&self, world: &World) -> Result<(Plan, Resolved), Failure> {
        let (plan, mut resolved) = self.whole(world)?;
        self.memo.mark_certain(&plan, &mut resolved)?;
        Ok((plan, resolved))
    }

    /// Makes the store that is not there yet.
    pub(crate) fn create(&mut self, world: &World, which: &Which) -> Result<(), Failure> {
        self.memo = world.open(&self.choice, which, Create::IfAbsent)?.map_or_else(Memo::empty, Memo::new);
        Ok(())
    }

    /// The files that the definition was read from, with their texts.
    pub(crate) fn texts(&self) -> &[(String, String)] {
        &self.texts.0
    }

    /// The store, where there is one.
    pub(crate) fn store(&self) -> Option<&Store> {
        self.memo.store()
    }
}

/// What `--frozen` says, of a run that is there and of this pipeline.
fn frozen(which: &Which, memo: &Memo, graph: &Graph) -> Result<Frozen, Failure> {
    let run = match which.frozen {
        None => return Ok(Frozen::No),
        Some(None) => return Ok(Frozen::Last),
        Some(Some(run)) => run,
    };
    let (_, record) = runs::run(memo, run)?;
    if record.pipeline != graph.pipeline.name {
        let (of, here) = (&record.pipeline, &graph.pipeline.name);
        return Err(Failure::usage(format!("run {run} is one of `{of}`, and this is `{here}`"))
            .hint("`cas runs` lists the runs"));
    }
    Ok(Frozen::Run(run))
}

/// Who is waited for.
fn waiting(host: &str) -> String {
    format!("waiting for the store: it is in use by {host}")
}

/// The pipeline file: the one that was named, else the nearest one upwards.
fn pipeline_file(which: &Which) -> Result<Option<PathBuf>, Failure> {
    if let Some(file) = &which.file {
        return Ok(Some(if file.is_dir() { file.join(PIPELINE_FILE) } else { file.clone() }));
    }
    let here = std::env::current_dir()
        .map_err(|error| Failure::usage("there is no current folder").because(error))?;
    Ok(here.ancestors().map(|dir| dir.join(PIPELINE_FILE)).find(|file| file.is_file()))
}

fn read_pipeline(path: &Path, texts: &mut Texts) -> Result<Pipeline, Failure> {
    let path = shown(path);
    let text = given_file::text(&path).map_err(|error| Failure::unread("pipeline", &path, &error))?;
    // Those of included files too: what is wrong with them may be found later.
    let mut read = |path: &Path| {
        let text = given_file::text(path)?;
        texts.0.push((path.to_string_lossy().into_owned(), text.clone()));
        Ok(text)
    };
    let mut pipeline = file::pipeline(&path, &text, &mut read)?;
    // Messages show the path as it was found; the folders are where everything is looked for, from wherever.
    let here = std::env::current_dir()
        .map_err(|error| Failure::usage("there is no current folder").because(error))?;
    pipeline.folder = tidy(&here.join(&pipeline.folder));
    pipeline.home = tidy(&here.join(&pipeline.home));
    texts.0.push((path.to_string_lossy().into_owned(), text));
    Ok(pipeline)
}

pub(crate) fn no_pipeline() -> Failure {
    Failure::usage(format!("there is no {PIPELINE_FILE} here or in a folder above"))
        .hint("`cas init` writes one, -f FILE names one")
}

/// A path as it is shown: relative to the current folder where it lies below it.
pub(crate) fn shown(path: &Path) -> PathBuf {
    let below =
        std::env::current_dir().ok().and_then(|here| path.strip_prefix(here).ok().map(Path::to_owned));
    match below {
        Some(below) if below.as_os_str().is_empty() => PathBuf::from("."),
        Some(below) => below,
        None => path.to_owned(),
    }
}

/// A path without `.` and, where that changes nothing, without `..`: no link is looked at, so `..` goes only after
/// what is an ordinary folder.
fn tidy(path: &Path) -> PathBuf {
    let mut tidy = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::CurDir => {}
            std::path::Component::ParentDir if tidy.is_dir() && !tidy.is_symlink() => {
                tidy.pop();
            }
            part => tidy.push(part),
        }
    }
    tidy
}

/// The stores that lie in a folder, by name.
fn stores_in(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut stores: Vec<PathBuf> =
        entries.filter_map(Result::ok).map(|entry| entry.path()).filter(|dir| Store::is_at(dir)).collect();
    stores.sort();
    stores
}

/// What a command that answers ends with.
pub(crate) const DONE: Result<Code, Failure> = Ok(Code::Done);
