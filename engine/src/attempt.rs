//! What a worker does with one step: claims its trace, lays out what it is given, has it executed (again, where
//! its policy says so), checks that nothing changed underneath, and has what it made committed.
//!
//! A worker gets a [`Task`] with everything in it and gives a [`Done`]; it shares nothing with other workers but
//! what is opened or measured once. Invariants: an attempt counts only after the source of everything that it
//! was given was found unchanged; each attempt has a folder of its own; a claim is held until the result is
//! committed or the failure told.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use cas_store::{Artifact, Claim, Found, Link, Put, Staged, StoreError, Take, Trace, Version};

use crate::cause::Failed;
use crate::error::EngineError;
use crate::event::{FailureReport, Outcome};
use crate::execute::blot;
use crate::execute::line::{Facts, InputFact, InputForm};
use crate::execute::produced::bytes_in_words;
use crate::execute::{
    Attempt, Cancel, Cause, Content, Encoded, Execute, Failure, Given, GivenFile, GivenResource, GivenWhat,
    Produced, Stop, folder,
};
use crate::given;
use crate::graph::{OutputId, StepId, StepInput};
use crate::memo::{self, Made, Memo, Names, NotKept};
use crate::plan::Plan;
use crate::record::{self, AttemptRecord, Provenance};
use crate::resolve::{self, Why};
use crate::run::now_ms;
use crate::solid::{Body, EnvVar, Solid};
use crate::source::{self, Environment, FileSet, MeasuredWhat};
use crate::value::Value;
use crate::version::{self, FactNode};

/// How much of the end of a log is told with a failure.
const TAIL_BYTES: u64 = 4 * 1024;

/// How many lines of it.
const TAIL_LINES: usize = 20;

/// The most that is told of what a step printed; the whole stands in its log.
const PRINTED_BYTES: u64 = 1024 * 1024;

/// How many folders of failed attempts are kept in a store: the newest.
const KEPT_FOLDERS: usize = 5;

/// A step that fails where less than this is left is told to have failed for want of room.
const NO_ROOM_BYTES: u64 = 1024 * 1024;

/// The wait before the second attempt; it doubles with each further one, up to [`BACK_OFF_MAX`].
const BACK_OFF: Duration = Duration::from_millis(200);

/// The longest wait between two attempts.
const BACK_OFF_MAX: Duration = Duration::from_secs(30);

/// One step to be run, with everything that is known of it.
pub(crate) struct Task {
    pub(crate) step: StepId,
    /// Its name with its element.
    pub(crate) name: String,
    pub(crate) trace: Trace,
    pub(crate) version: Version,
    /// What it consumes, with repetitions, in the order of its inputs.
    pub(crate) consumes: Vec<Stored>,
    /// The versions of the steps that it consumes something of.
    pub(crate) above: Vec<(StepId, Version)>,
    /// The results that it consumes something of.
    pub(crate) parents: Vec<Trace>,
    /// The rows and facts to be written with its result.
    pub(crate) names: Names,
    /// Why it runs.
    pub(crate) why: Why,
    /// How it failed last, if it has not had a result since.
    pub(crate) failed: Option<Failed>,
    /// Whether it is to be given copies only, because a link was spoilt before.
    pub(crate) private: bool,
    /// Whether a result that is there by now is as good as one of its own.
    pub(crate) reusable: bool,
    /// What stands under its trace is no result of this solid: a damaged record, which is replaced.
    pub(crate) misfit: bool,
}

/// An output that a step consumes.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub(crate) output: OutputId,
    /// `None` where it was not produced.
    pub(crate) artifact: Option<Artifact>,
    /// The result that it is of.
    pub(crate) trace: Option<Trace>,
}

/// What a worker tells while it works on a step.
pub(crate) enum Told {
    /// An attempt begins.
    Started { step: StepId, attempt: u32, why: Option<String>, at_ms: u64 },
    /// An attempt failed, and another follows.
    Retried { step: StepId, attempt: u32, failure: Failure },
    /// What an attempt printed.
    Printed { step: StepId, text: String },
    /// The worker is done with the step.
    Done(Box<Done>),
}

/// What came of a task.
pub(crate) struct Done {
    pub(crate) worker: usize,
    pub(crate) step: StepId,
    pub(crate) end: End,
    pub(crate) why: Option<String>,
    pub(crate) started_ms: u64,
    pub(crate) attempts: Vec<AttemptRecord>,
    /// The logs of attempts that failed, to be kept with the run.
    pub(crate) logs: Vec<Staged>,
}

/// How it ended.
pub(crate) enum End {
    /// It has a result.
    Made { found: Found, outcome: Outcome, differs: bool },
    /// What it consumes could not be had as it was hashed: its producer has to run again, and then this step.
    Lost { output: OutputId, what: String },
    /// It failed.
    Failed(FailureReport),
    /// The run was stopped.
    Cancelled,
    /// The store or the machine failed.
    Broken(EngineError),
}

/// The folder of an attempt that is done with.
pub(crate) struct Rubbish {
    pub(crate) folder: PathBuf,
    /// How long the attempt took.
    pub(crate) took: Duration,
}

/// What all workers of a run use.
pub(crate) struct Bench<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) memo: &'a Memo,
    pub(crate) executor: &'a dyn Execute,
    pub(crate) environment: &'a Environment,
    pub(crate) cancel: &'a Arc<Cancel>,
    pub(crate) run: u64,
    /// See [`Memo::secret_key`].
    pub(crate) key: [u8; 32],
    pub(crate) host: &'a str,
    pub(crate) show_output: bool,
    /// By invocation: what is laid in the folder of each of its steps.
    files: Vec<OnceLock<Arc<Vec<GivenFile>>>>,
    /// Nodes of facts that stand in the store since some commit of this run.
    written: Mutex<HashSet<Version>>,
    /// Takes the folders that are done with, to be removed by another thread.
    rubbish: Sender<Rubbish>,
}

/// Everything that is laid out for one attempt.
#[derive(Default)]
struct LaidOut {
    given: Vec<Given>,
    /// The links among it, each with the output that it is of.
    links: Vec<(OutputId, Link)>,
}

/// Why an attempt could not be laid out.
enum Unready {
    Lost(OutputId, String),
    Failed(Failure),
    Broken(EngineError),
}

impl<E: Into<EngineError>> From<E> for Unready {
    fn from(error: E) -> Self {
        Self::Broken(error.into())
    }
}

impl<'a> Bench<'a> {
    #[expect(clippy::too_many_arguments, reason = "they are the parts of a run, named at the one call")]
    pub(crate) fn new(
        plan: &'a Plan,
        memo: &'a Memo,
        executor: &'a dyn Execute,
        environment: &'a Environment,
        cancel: &'a Arc<Cancel>,
        run: u64,
        host: &'a str,
        show_output: bool,
        rubbish: Sender<Rubbish>,
    ) -> Self {
        let files = plan.graph.pipeline.invocations.iter().map(|_| OnceLock::new()).collect();
        let written = Mutex::new(HashSet::new());
        Self {
            plan,
            memo,
            executor,
            environment,
            cancel,
            run,
            key: memo.secret_key(),
            host,
            show_output,
            files,
            written,
            rubbish,
        }
    }

    /// The facts of a step that this run has not written yet, and the versions of those that it has.
    pub(crate) fn unwritten(
        &self,
        facts: impl FnOnce(&mut dyn FnMut(&Version) -> bool) -> Facted,
    ) -> (Facted, Vec<Version>) {
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let mut shared = Vec::new();
        let facts = facts(&mut |version| {
            let known = written.contains(version);
            shared.extend(known.then_some(*version));
            !known
        });
        (facts, shared)
    }

    /// Notes facts that were committed: not before, because a step may fail and keep nothing.
    pub(crate) fn wrote(&self, facts: impl IntoIterator<Item = Version>) {
        self.written.lock().unwrap_or_else(PoisonError::into_inner).extend(facts);
    }

    /// Works on a task to its end.
    pub(crate) fn work(&self, worker: usize, mut task: Task, tell: &Sender<Told>) -> Done {
        let mut done = Done {
            worker,
            step: task.step,
            end: End::Cancelled,
            why: None,
            started_ms: 0,
            attempts: Vec::new(),
            logs: Vec::new(),
        };
        // What a panic leaves is this task's alone; its claim is given back by being dropped.
        let worked = catch_unwind(AssertUnwindSafe(|| self.claimed(&mut task, &mut done, tell)));
        done.end = match worked {
            Ok(Ok(end)) => end,
            Ok(Err(error)) => End::Broken(error),
            // Without its `Done`, the coordinator would wait for ever.
            Err(panic) => {
                let text = panic.downcast_ref::<&str>().copied();
                let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
                let what = text.unwrap_or("it says nothing").to_owned();
                End::Broken(EngineError::Panicked { step: task.name, what })
            }
        };
        done
    }

    /// Claims the trace, unless the step runs in every run, and runs the step under the claim.
    fn claimed(&self, task: &mut Task, done: &mut Done, tell: &Sender<Told>) -> Result<End, EngineError> {
        if task.why == Why::Volatile {
            return self.attempts(task, done, tell);
        }
        loop {
            if self.cancel.now() > Stop::No {
                return Ok(End::Cancelled);
            }
            let go_on = || self.cancel.now() == Stop::No;
            let Some(claim) = self.memo.claim(task.trace, &go_on)? else { return Ok(End::Cancelled) };
            let guard = match claim {
                Claim::Granted(guard) => guard,
                Claim::Stored(found) => {
                    if let Some(end) = self.joined(task, &found)? {
                        return Ok(end);
                    }
                    continue;
                }
                Claim::Failed(failure) if task.reusable => {
                    let failure = record::decode_failure(&failure).unwrap_or_else(|_| Failure {
                        cause: Cause::Error,
                        message: "another run that was computing it failed".to_owned(),
                        hint: None,
                    });
                    let report =
                        FailureReport { failure, log_tail: String::new(), folder: None, attempts: 0 };
                    return Ok(End::Failed(report));
                }
                Claim::Failed(_) => continue,
            };
            let solid = self.plan.graph.solid(task.step);
            task.misfit = guard.present().is_some_and(|found| !resolve::fits(solid, found));
            if let Some(found) = guard.present().cloned()
                && let Some(end) = self.joined(task, &found)?
            {
                return Ok(end);
            }
            let end = self.attempts(task, done, tell)?;
            if let End::Failed(report) = &end {
                guard.fail(record::encode_failure(&report.failure).unwrap_or_default());
            }
            return Ok(end);
        }
    }

    /// Takes a result that is there by now, where that is as good as one of our own.
    fn joined(&self, task: &Task, found: &Found) -> Result<Option<End>, EngineError> {
        let solid = self.plan.graph.solid(task.step);
        // In the place of a result that was too old, only one that was made meanwhile is good.
        let renewed = task.why != Why::Expired || resolve::fresh(solid, found, now_ms(), false);
        let good = resolve::fits(solid, found) && renewed;
        if !task.reusable || !found.whole() || !good {
            return Ok(None);
        }
        if self.memo.relink(task.trace, task.names.clone(), now_ms())? {
            self.wrote(task.names.nodes());
            return Ok(Some(End::Made { found: found.clone(), outcome: Outcome::Joined, differs: false }));
        }
        // It went again in this very moment.
        Ok(None)
    }

    /// Attempts the step as often as its policy allows.
    fn attempts(&self, task: &mut Task, done: &mut Done, tell: &Sender<Told>) -> Result<End, EngineError> {
        let solid = self.plan.graph.solid(task.step);
        let log_name = "log";
        done.why = self.memo.cause_in_words(self.plan, task);
        for attempt in 1.. {
            if self.cancel.now() > Stop::No {
                return Ok(End::Cancelled);
            }
            let folder = self.memo.work_folder(&folder::safe_label(&task.name))?;
            let log = folder.join(log_name);
            let laid = match self.lay_out(task, solid, &folder) {
                Ok(laid) => laid,
                Err(unready) => {
                    self.discard(folder, Duration::ZERO);
                    return match unready {
                        Unready::Lost(output, what) => Ok(End::Lost { output, what }),
                        Unready::Failed(failure) => Ok(End::Failed(FailureReport {
                            failure,
                            log_tail: String::new(),
                            folder: None,
                            attempts: attempt - 1,
                        })),
                        Unready::Broken(error) => Err(error),
                    };
                }
            };
            let at_ms = now_ms();
            if attempt == 1 {
                done.started_ms = at_ms;
            }
            let why = done.why.clone();
            // The coordinator outlives its workers: nobody has to hear that it does not listen.
            let _ = tell.send(Told::Started { step: task.step, attempt, why, at_ms });
            let (outcome, elapsed) = self.attempt(task, solid, &laid, &folder, &log)?;
            let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
            if self.show_output
                && let Some(text) = end_of(&log, PRINTED_BYTES)
            {
                let _ = tell.send(Told::Printed { step: task.step, text });
            }
            // Before the outcome counts: was what it was given what was hashed?
            if let Some((output, what)) = self.spoilt(&laid)? {
                self.discard(folder, elapsed);
                return Ok(End::Lost { output, what });
            }
            let outcome = match self.changed_source(task) {
                Some(failure) => Err(failure),
                None => outcome,
            };
            let mut failure = match outcome {
                Ok(produced) => {
                    let provenance = self.provenance(task, solid, &laid, at_ms, elapsed_ms, attempt);
                    let made = Made {
                        trace: task.trace,
                        solid,
                        produced,
                        log: &log,
                        // Another attempt may follow, if what was made cannot be kept.
                        names: self.names_now(task, task.names.clone())?,
                        parents: task.parents.clone(),
                        provenance: &provenance,
                        made_ms: now_ms(),
                        cost_ms: elapsed_ms,
                        put: if task.why == Why::New && !task.misfit { Put::IfAbsent } else { Put::Replace },
                    };
                    match self.memo.keep(made) {
                        Ok(kept) => {
                            self.wrote(task.names.nodes());
                            self.discard(folder, elapsed);
                            let log = kept.found.record.log;
                            done.attempts.push(AttemptRecord {
                                failure: None,
                                log,
                                elapsed_ms,
                                folder: None,
                            });
                            let (found, differs) = (kept.found, kept.differs);
                            return Ok(End::Made { found, outcome: Outcome::Ran, differs });
                        }
                        Err(NotKept::Bad(failure)) => failure,
                        Err(NotKept::Store(error)) => {
                            // Nobody will look at it, and it may be what fills the disk.
                            self.discard(folder, elapsed);
                            return Err(error);
                        }
                    }
                }
                Err(failure) => failure,
            };
            let no_room = room_left(&folder).filter(|left| *left < NO_ROOM_BYTES);
            if let Some(left) = no_room {
                // What it wrote may be all that fills the disk, and even its log needs room to be kept.
                remove_all_but(&folder, log_name);
                failure.message =
                    format!("{}; the disk is full ({} left)", failure.message, bytes_in_words(left));
                failure.hint = Some("make room on the disk that holds the store, and run again".to_owned());
            }
            let staged = match self.memo.stage_log(&log, Take::Copy) {
                Err(EngineError::Store(StoreError::Io { .. })) if no_room.is_some() => None,
                staged => staged?,
            };
            let digest = staged.as_ref().map(Staged::digest);
            done.logs.extend(staged);
            let mut ended =
                AttemptRecord { failure: Some(failure.clone()), log: digest, elapsed_ms, folder: None };
            if failure.cause == Cause::Cancelled {
                self.discard(folder, elapsed);
                done.attempts.push(ended);
                return Ok(End::Cancelled);
            }
            // A changed file makes the plan itself wrong: another attempt would be of something else.
            let again = attempt <= solid.policy.retries && failure.cause != Cause::SourceChanged;
            if again && self.cancel.now() == Stop::No {
                self.discard(folder, elapsed);
                done.attempts.push(ended);
                let _ = tell.send(Told::Retried { step: task.step, attempt, failure });
                self.cancel.wait(Stop::No, back_off(attempt));
                continue;
            }
            let log_tail = tail(&log);
            // What may hold secrets is not kept.
            let kept = if no_room.is_some() || !self.repeatable(task, solid, &laid, &folder, &log) {
                self.discard(folder, elapsed);
                None
            } else {
                keep_folder(&folder, self.run, &task.name)
            };
            ended.folder = kept.as_ref().map(|folder| folder.to_string_lossy().into_owned());
            done.attempts.push(ended);
            return Ok(End::Failed(FailureReport { failure, log_tail, folder: kept, attempts: attempt }));
        }
        Ok(End::Cancelled)
    }

    /// Has the folder of an attempt removed, off the path of whoever waits for the step.
    fn discard(&self, folder: PathBuf, took: Duration) {
        if let Err(unheard) = self.rubbish.send(Rubbish { folder, took }) {
            discard(&unheard.0.folder);
        }
    }

    /// Runs one attempt. What fails before it begins is its failure.
    fn attempt(
        &self,
        task: &Task,
        solid: &Solid,
        laid: &LaidOut,
        folder: &Path,
        log: &Path,
    ) -> Result<(Result<Vec<Produced>, Failure>, Duration), EngineError> {
        let execute = |attempt: &Attempt<'_>| self.executor.execute(attempt);
        let attempted = match self.with_attempt(task, solid, laid, folder, log, execute) {
            Ok(attempted) => attempted,
            Err(failure) => return Ok((Err(failure), Duration::ZERO)),
        };
        let outcome = attempted.outcome.and_then(|produced| {
            if produced.len() == solid.outputs.len() {
                return Ok(produced);
            }
            Err(Failure {
                cause: Cause::MissingOutput,
                message: format!("it gave {} outputs and declares {}", produced.len(), solid.outputs.len()),
                hint: None,
            })
        });
        Ok((outcome, attempted.elapsed))
    }

    /// Makes the folder of a failed attempt fit to be kept, however late it failed; false if that cannot be done.
    fn repeatable(&self, task: &Task, solid: &Solid, laid: &LaidOut, folder: &Path, log: &Path) -> bool {
        let keep = |attempt: &Attempt<'_>| self.executor.keep(attempt);
        match self.with_attempt(task, solid, laid, folder, log, keep) {
            Ok(kept) => kept.is_ok(),
            // It failed before anything but its stored inputs was laid out.
            Err(_) => true,
        }
    }

    /// Everything that an attempt may see, for its executor.
    fn with_attempt<R>(
        &self,
        task: &Task,
        solid: &Solid,
        laid: &LaidOut,
        folder: &Path,
        log: &Path,
        then: impl FnOnce(&Attempt<'_>) -> R,
    ) -> Result<R, Failure> {
        let graph = &self.plan.graph;
        let env = self.env(task.step, solid)?;
        let resources = self.resources(task.step);
        let config = graph.config(task.step);
        let secrets = self.secrets(task.step, &env, &solid.secrets);
        let invocation = graph.steps[task.step.0 as usize].invocation;
        let path = source::path_before(graph, &graph.resources_of(invocation));
        Ok(then(&Attempt {
            step: &task.name,
            solid,
            config: &config,
            inputs: &laid.given,
            resources: &resources,
            files: &self.files(task.step),
            folder,
            env: &env,
            secret_env: &solid.secrets,
            secrets: &secrets,
            path: &path,
            log,
            timeout: solid.policy.timeout,
            cpus: solid.policy.cpus,
            cancel: self.cancel,
        }))
    }

    /// The declared files of a step and of its resources.
    fn files(&self, step: StepId) -> Arc<Vec<GivenFile>> {
        let invocation = self.plan.graph.steps[step.0 as usize].invocation;
        let files = self.files[invocation as usize].get_or_init(|| {
            let files = self.file_sets(invocation);
            Arc::new(files.iter().flat_map(|files| files.files.iter().map(given_file)).collect())
        });
        Arc::clone(files)
    }

    fn file_sets(&self, invocation: u32) -> Vec<&FileSet> {
        let measures = &self.plan.measures;
        let code = measures.code.get(invocation as usize).and_then(Option::as_deref);
        let resources = self.plan.graph.resources_of(invocation);
        let of_resource = |resource: usize| measures.resources.get(resource)?.as_deref();
        code.into_iter().chain(resources.into_iter().filter_map(of_resource)).collect()
    }

    /// A project file that is not what it was when it was hashed, as the failure of the step that was given it.
    fn changed_source(&self, task: &Task) -> Option<Failure> {
        let step = &self.plan.graph.steps[task.step.0 as usize];
        let paths = step.inputs.iter().filter_map(|input| match input {
            StepInput::Path(path) => self.plan.measures.paths.get(*path as usize)?.as_deref(),
            StepInput::Output(_)
            | StepInput::FanIn(_)
            | StepInput::Gather(_)
            | StepInput::Value(_)
            | StepInput::Probe(_) => None,
        });
        let mut sets = self.file_sets(step.invocation);
        sets.extend(paths.map(|path| &path.files));
        let changed = sets.into_iter().find_map(|files| source::changed(&files.files))?;
        Some(Failure {
            cause: Cause::SourceChanged,
            message: format!("`{}` changed while it ran", changed.path),
            hint: Some("nothing was stored; run again to use the file as it is now".to_owned()),
        })
    }

    /// The first output whose bytes were spoilt while the step had them as a link.
    fn spoilt(&self, laid: &LaidOut) -> Result<Option<(OutputId, String)>, EngineError> {
        let links: Vec<Link> = laid.links.iter().map(|(_, link)| link.clone()).collect();
        let spoilt = self.memo.spoilt(&links)?;
        let of = |(_, link): &&(OutputId, Link)| spoilt.contains(&link.digest);
        let what = "its bytes changed while a step had them";
        Ok(laid.links.iter().find(of).map(|(output, _)| (*output, what.to_owned())))
    }

    /// The environment that was declared.
    fn env(&self, step: StepId, solid: &Solid) -> Result<Vec<(String, String)>, Failure> {
        let graph = &self.plan.graph;
        let invocation = graph.steps[step.0 as usize].invocation;
        let unfilled = |diagnostic: crate::error::Diagnostic| Failure {
            cause: Cause::NotStarted,
            message: diagnostic.to_string(),
            hint: diagnostic.hint,
        };
        let mut env = Vec::new();
        for resource in graph.resources_of(invocation) {
            for (name, template) in &graph.resources[resource].definition.env {
                set(&mut env, name, graph.fill_resource(resource, template).map_err(unfilled)?);
            }
        }
        let measured = self.plan.measures.env.get(invocation as usize);
        for variable in &solid.env {
            match variable {
                // What was measured is what was hashed.
                EnvVar::Pass(name) => {
                    let value = measured.and_then(|env| env.iter().find(|(known, _)| known == name));
                    if let Some((_, Some(value))) = value {
                        set(&mut env, name, value.clone());
                    }
                }
                EnvVar::Set(name, template) => {
                    set(&mut env, name, graph.fill(step, template).map_err(unfilled)?);
                }
            }
        }
        for name in &solid.pass_env {
            if let Some(value) = self.environment.vars.get(name) {
                set(&mut env, name, value.clone());
            }
        }
        for name in &solid.secrets {
            let Some(value) = self.environment.vars.get(name) else {
                return Err(Failure {
                    cause: Cause::NotStarted,
                    message: format!("its secret `{name}` is not set"),
                    hint: Some(format!("set the environment variable `{name}`")),
                });
            };
            set(&mut env, name, value.clone());
        }
        Ok(env)
    }

    /// The values that are never shown: those of secret variables and of secret config.
    fn secrets(&self, step: StepId, env: &[(String, String)], secret_env: &[String]) -> Vec<String> {
        let graph = &self.plan.graph;
        let invocation = graph.steps[step.0 as usize].invocation;
        let variables = env.iter().filter(|(name, _)| secret_env.contains(name));
        let mut secrets: Vec<String> = variables.map(|(_, value)| value.clone()).collect();
        let resources = graph.resources_of(invocation);
        secrets.extend(graph.config(step).secrets());
        secrets.extend(resources.iter().flat_map(|resource| graph.resources[*resource].config.secrets()));
        secrets.retain(|secret| !secret.is_empty());
        secrets
    }

    /// The resources of a step with their config; a function's executor opens them.
    fn resources(&self, step: StepId) -> Vec<GivenResource> {
        let graph = &self.plan.graph;
        let needed = graph.resources_of(graph.steps[step.0 as usize].invocation);
        let resolved = needed.into_iter().map(|resource| &graph.resources[resource]);
        resolved
            .map(|resolved| GivenResource {
                name: resolved.definition.name.clone(),
                config: (*resolved.config).clone(),
            })
            .collect()
    }

    /// Lays out what is stored of a step's inputs, and says in what form each is given.
    fn lay_out(&self, task: &Task, solid: &Solid, folder: &Path) -> Result<LaidOut, Unready> {
        let graph = &self.plan.graph;
        let step = &graph.steps[task.step.0 as usize];
        let declared = &graph.invocation(task.step).inputs;
        let command = matches!(solid.body, Body::Command(_));
        let mut laid = LaidOut::default();
        let mut consumes = task.consumes.iter();
        for (input, declared) in step.inputs.iter().zip(declared) {
            let one = |consumes: &mut std::slice::Iter<'_, Stored>| consumes.next().cloned();
            let content = match input {
                StepInput::Output(_) => match one(&mut consumes) {
                    Some(Stored { artifact: Some(artifact), output, .. }) if command => {
                        let at = folder::input(folder, &declared.file_name);
                        self.lay(task, output, &artifact, &at, &mut laid)?;
                        Content::File
                    }
                    Some(Stored { artifact: None, .. }) => Content::Absent,
                    Some(part) => {
                        let at = folder.join("inputs").join(&declared.file_name);
                        self.value(task, &part, &at, &mut laid)?
                    }
                    None => Content::Absent,
                },
                StepInput::FanIn(outputs) => {
                    let parts: Vec<(String, Stored)> = outputs
                        .iter()
                        .enumerate()
                        .filter_map(|(index, _)| Some((index.to_string(), one(&mut consumes)?)))
                        .collect();
                    if command {
                        for (index, (_, part)) in parts.iter().enumerate() {
                            let at = folder::fan_in(folder, &declared.name, index);
                            self.lay_stored(task, part, &at, &mut laid)?;
                        }
                        Content::FanIn(parts.len())
                    } else {
                        Content::Many(self.many(
                            task,
                            &folder.join("inputs").join(&declared.name),
                            parts,
                            &mut laid,
                        )?)
                    }
                }
                StepInput::Gather(elements) => {
                    // An element that was not produced is left out.
                    let parts: Vec<(String, Stored)> = elements
                        .iter()
                        .filter_map(|(label, _)| Some((label.clone(), one(&mut consumes)?)))
                        .filter(|(_, part)| part.artifact.is_some())
                        .collect();
                    if command {
                        let extension = folder::extension(&declared.name, &declared.file_name);
                        for (label, part) in &parts {
                            let at = folder::gathered(folder, &declared.name, label, extension);
                            self.lay_stored(task, part, &at, &mut laid)?;
                        }
                        Content::Gather(parts.into_iter().map(|(label, _)| label).collect())
                    } else {
                        Content::Many(self.many(
                            task,
                            &folder.join("inputs").join(&declared.name),
                            parts,
                            &mut laid,
                        )?)
                    }
                }
                StepInput::Path(path) => self.project(*path, &declared.file_name, command, folder)?,
                StepInput::Value(value) => Content::Value((**value).clone()),
                StepInput::Probe(probe) => {
                    let printed = self.plan.measures.probes.get(*probe as usize).cloned().flatten();
                    Content::Value(Value::Str(printed.unwrap_or_default()))
                }
            };
            let (name, file_name) = (declared.name.clone(), declared.file_name.clone());
            laid.given.push(Given { name, file_name, content });
        }
        Ok(laid)
    }

    /// A `path:` input: a command's executor lays it out itself; for a function it is laid out here.
    fn project(&self, path: u32, file_name: &str, command: bool, at: &Path) -> Result<Content, Unready> {
        let external = self.plan.graph.paths[path as usize].external;
        let Some(measured) = self.plan.measures.paths.get(path as usize).cloned().flatten() else {
            return Err(Unready::Failed(unmeasured(file_name)));
        };
        if command {
            return Ok(Content::Project { measured, external });
        }
        let inputs = at.join("inputs");
        make_folder(&inputs)?;
        let at = inputs.join(file_name);
        folder::lay_path(&measured, external, &at).map_err(|unlaid| EngineError::Io {
            action: "lay out",
            path: unlaid.path,
            source: unlaid.source,
        })?;
        Ok(Content::Path(at))
    }

    fn lay_stored(&self, task: &Task, part: &Stored, at: &Path, laid: &mut LaidOut) -> Result<(), Unready> {
        match &part.artifact {
            Some(artifact) => self.lay(task, part.output, artifact, at, laid),
            None => Ok(()),
        }
    }

    fn lay(
        &self,
        task: &Task,
        output: OutputId,
        artifact: &Artifact,
        at: &Path,
        laid: &mut LaidOut,
    ) -> Result<(), Unready> {
        if let Some(parent) = at.parent() {
            make_folder(parent)?;
        }
        match self.memo.give(artifact, at, task.private)? {
            Ok(links) => {
                laid.links.extend(links.into_iter().map(|link| (output, link)));
                Ok(())
            }
            Err(error) => Err(Unready::Lost(output, lost(&error))),
        }
    }

    /// What a function is given of an output: its bytes, or the path of a folder.
    fn value(&self, task: &Task, part: &Stored, at: &Path, laid: &mut LaidOut) -> Result<Content, Unready> {
        let Some(artifact) = &part.artifact else { return Ok(Content::Absent) };
        if memo::is_tree(artifact) {
            self.lay(task, part.output, artifact, at, laid)?;
            return Ok(Content::Path(at.to_owned()));
        }
        match self.memo.lend(&artifact.digest)? {
            Ok((bytes, link)) => {
                laid.links.extend(link.map(|link| (part.output, link)));
                Ok(Content::Bytes(Encoded { codec: artifact.codec.clone(), bytes }))
            }
            Err(error) => Err(Unready::Lost(part.output, lost(&error))),
        }
    }

    fn many(
        &self,
        task: &Task,
        folder: &Path,
        parts: Vec<(String, Stored)>,
        laid: &mut LaidOut,
    ) -> Result<Vec<(String, Content)>, Unready> {
        let mut many = Vec::with_capacity(parts.len());
        for (label, part) in parts {
            let content = self.value(task, &part, &folder.join(folder::safe_label(&label)), laid)?;
            many.push((label, content));
        }
        Ok(many)
    }

    /// The rows and facts to be written now: no rows, where a result that was used was replaced meanwhile.
    fn names_now(&self, task: &Task, mut names: Names) -> Result<Names, EngineError> {
        let superseded = if task.consumes.iter().any(|stored| stored.trace.is_some()) {
            let present = self.memo.results(&task.parents)?;
            let by_trace: BTreeMap<Trace, &Found> =
                present.iter().flatten().map(|found| (found.trace, found)).collect();
            task.consumes.iter().any(|stored| {
                let Some(found) = stored.trace.and_then(|trace| by_trace.get(&trace)) else { return true };
                let output = found.record.outputs.get(usize::from(stored.output.output));
                output.is_none_or(|output| output.artifact != stored.artifact)
            })
        } else {
            false
        };
        if superseded {
            names.rows.clear();
            names.history = None;
        }
        Ok(names)
    }

    fn provenance(
        &self,
        task: &Task,
        solid: &Solid,
        laid: &LaidOut,
        started_ms: u64,
        elapsed_ms: u64,
        attempt: u32,
    ) -> Provenance {
        let graph = &self.plan.graph;
        let config = graph.config(task.step);
        let invocation = graph.steps[task.step.0 as usize].invocation;
        let resources = graph.resources_of(invocation);
        let facts = Facts {
            solid,
            config: &config,
            inputs: laid
                .given
                .iter()
                .map(|given| InputFact { name: &given.name, file_name: &given.file_name, form: form(given) })
                .collect(),
            resources: resources
                .iter()
                .map(|resource| &graph.resources[*resource])
                .map(|resolved| (resolved.definition.name.as_str(), &*resolved.config))
                .collect(),
            cpus: solid.policy.cpus,
            hide: true,
        };
        let command = match &solid.body {
            Body::Command(_) => facts.command_line().map(|line| line.shown()).unwrap_or_default(),
            Body::Function(_) => String::new(),
        };
        // What is passed without being hashed is not recorded, and secrets least of all.
        let hashed = |name: &String| !solid.pass_env.contains(name) && !solid.secrets.contains(name);
        let env = self.env(task.step, solid).unwrap_or_default();
        // What a variable is set to may hold a secret of the config.
        let secrets = self.secrets(task.step, &env, &solid.secrets);
        let env = env.into_iter().filter(|(name, _)| hashed(name));
        Provenance {
            run: self.run,
            pipeline: graph.pipeline.name.clone(),
            step: task.name.clone(),
            solid: solid.name.clone(),
            version: task.version,
            command,
            env: env.map(|(name, value)| (name, blot::hide(&value, &secrets))).collect(),
            config: version::shown_config(&config, &self.key).to_string(),
            inputs: given::inputs(self.plan, task.step, &task.consumes),
            host: self.host.to_owned(),
            platform: self.plan.measures.platform.clone(),
            program: env!("CARGO_PKG_VERSION").to_owned(),
            started_ms,
            elapsed_ms,
            attempt,
        }
    }
}

/// Nodes of facts under their versions.
pub(crate) type Facted = Vec<(Version, FactNode)>;

fn given_file(file: &source::MeasuredFile) -> GivenFile {
    let what = match &file.what {
        MeasuredWhat::File { executable, .. } => GivenWhat::File { executable: *executable },
        MeasuredWhat::Link(target) => GivenWhat::Link(target.clone()),
        MeasuredWhat::Folder => GivenWhat::Folder,
    };
    GivenFile { to: file.path.clone(), from: file.from.clone(), what }
}

/// Sets a variable, in the place of one that was set before.
fn set(env: &mut Vec<(String, String)>, name: &str, value: String) {
    match env.iter_mut().find(|(known, _)| known == name) {
        Some(known) => known.1 = value,
        None => env.push((name.to_owned(), value)),
    }
}

fn form(given: &Given) -> InputForm {
    match &given.content {
        Content::FanIn(count) => InputForm::FanIn(*count),
        Content::Gather(_) => InputForm::Gather,
        Content::Absent => InputForm::Absent,
        Content::File
        | Content::Project { .. }
        | Content::Bytes(_)
        | Content::Many(_)
        | Content::Value(_)
        | Content::Path(_) => InputForm::One,
    }
}

fn unmeasured(name: &str) -> Failure {
    Failure { cause: Cause::Input, message: format!("its input `{name}` was not measured"), hint: None }
}

/// What was found of bytes that could not be had, in words for people.
fn lost(error: &StoreError) -> String {
    match error {
        StoreError::Damaged { what, .. } => format!("its bytes are damaged ({what})"),
        _ => "its bytes are not in the store".to_owned(),
    }
}

fn make_folder(path: &Path) -> Result<(), EngineError> {
    fs::create_dir_all(path).map_err(|source| EngineError::Io {
        action: "make",
        path: path.to_owned(),
        source,
    })
}

/// Removes the folder of an attempt. One that cannot be removed is left to `cas clean`.
pub(crate) fn discard(folder: &Path) {
    let _ = fs::remove_dir_all(folder);
}

/// How many bytes can still be written where a folder is: none where it may hold no more files.
fn room_left(folder: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(folder).ok()?;
    let no_files = stat.f_files > 0 && stat.f_favail == 0;
    Some(if no_files { 0 } else { stat.f_bavail.saturating_mul(stat.f_frsize) })
}

/// Empties the folder of an attempt.
fn remove_all_but(folder: &Path, name: &str) {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_name() != name) {
        if fs::remove_dir_all(entry.path()).is_err() {
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn back_off(attempt: u32) -> Duration {
    BACK_OFF.saturating_mul(1_u32.checked_shl(attempt - 1).unwrap_or(u32::MAX)).min(BACK_OFF_MAX)
}

/// The end of a file as text, at most so many bytes; `None` where there is nothing.
fn end_of(path: &Path, limit: u64) -> Option<String> {
    let mut file = fs::File::open(path).ok()?;
    let len = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(len.saturating_sub(limit))).ok()?;
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes).ok()?;
    (!bytes.is_empty()).then(|| String::from_utf8_lossy(&bytes).into_owned())
}

/// The last lines of a log.
fn tail(log: &Path) -> String {
    let text = end_of(log, TAIL_BYTES).unwrap_or_default();
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].concat()
}

/// Moves the folder of a failed attempt to where such folders are kept, and lets the oldest go.
fn keep_folder(folder: &Path, run: u64, step: &str) -> Option<PathBuf> {
    let kept = folder.parent()?.join("failed");
    fs::create_dir_all(&kept).ok()?;
    let target = kept.join(format!("{run}-{}", folder::safe_label(step)));
    discard(&target);
    fs::rename(folder, &target).ok()?;
    let mut all: Vec<(std::time::SystemTime, PathBuf)> = fs::read_dir(&kept)
        .ok()?
        .flatten()
        .filter(|entry| entry.path() != target)
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .collect();
    all.sort();
    let surplus = (all.len() + 1).saturating_sub(KEPT_FOLDERS);
    all.iter().take(surplus).for_each(|(_, folder)| discard(folder));
    Some(target)
}
