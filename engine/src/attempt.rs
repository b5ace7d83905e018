//! What a worker does with one step: claims its trace, lays out what it is given, has it executed (again, where
//! its policy says so), checks that nothing changed underneath, and has what it made committed.
//!
//! A worker gets a [`Task`] with everything in it and gives a [`Done`]; it shares nothing with other workers but
//! what is opened or measured once. Invariants: an attempt counts only after the source of everything that it
//! was given was found unchanged; each attempt has a folder of its own; a claim is held until the result is
//! committed or the failure told.

mod element;
mod facts;
mod folders;
mod lay;
mod makers;
pub mod prepare;
mod retry;
mod settle;
mod several;
mod share;
mod task;

use std::cell::OnceCell;
use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use cas_store::{Claim, ClaimGuard, Found, Put, Share, Staged, StoreError, Take, Trace, Version};

pub(crate) use self::folders::Folders;
use self::lay::{LaidOut, Unready};
use self::makers::Makers;
pub(crate) use self::several::{Several, TOLD_AFTER};
use self::share::Shared;
pub(crate) use self::task::{Done, End, Stored, Task, Tell, Told};
use self::task::{Ended, Held, fault, panicked};
use crate::error::EngineError;
use crate::event::{FailureReport, Outcome};
use crate::execute::paused::Beginning;
use crate::execute::produced::bytes_in_words;
use crate::execute::sandbox::Confinement;
use crate::execute::scratch::Scratch;
use crate::execute::{Attempt, Attempted, Cancel, Cause, Execute, Failure, GivenFile, Stop, folder};
use crate::frozen::Frozen;
use crate::graph::StepId;
use crate::limits::Limits;
use crate::memo::{Made, Memo, Names, NotKept};
use crate::plan::Plan;
use crate::pool::Turn;
use crate::record::{self, AttemptRecord};
use crate::resolve::{self, Why};
use crate::run::now_ms;
use crate::solid::{Body, Declared, OutputDecl, Sandbox, Solid};
use crate::source::{self, Environment};
use crate::version::FactNode;

/// A claim that was granted so long ago is asked for again before a step begins under it: far less than the silence after
/// which it is handed on, and more than steps wait that wait for nothing.
const LONG_AGO: Duration = Duration::from_secs(5);

/// How much of the end of a log is told with a failure.
const TAIL_BYTES: u64 = 4 * 1024;

/// How many lines of it.
const TAIL_LINES: usize = 20;

/// The most that is told of what a step printed; the whole stands in its log.
pub(crate) const PRINTED_BYTES: usize = 1024 * 1024;

/// A step that fails where less than this is left is told to have failed for want of room.
const NO_ROOM_BYTES: u64 = 1024 * 1024;

/// How much of a step's name stands in that of its scratch folder; the rest of that is a hash.
const SCRATCH_LABEL: usize = 60;

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
    /// What there is for this run of what all share; `None` where nothing is shared.
    pub(crate) limits: Option<&'a Limits>,
    /// Its place among the runs that it shares workers with.
    pub(crate) turn: Option<&'a Turn>,
    /// By invocation: what is laid in the folder of each of its steps.
    files: Vec<OnceLock<Arc<Vec<GivenFile>>>>,
    /// By invocation: see [`Bench::is_unknown`].
    unknown: Vec<OnceLock<bool>>,
    /// Nodes of facts that stand in the store since some commit of this run.
    written: Mutex<HashSet<Version>>,
    folders: Arc<Folders<'a>>,
    makers: Makers,
    last_list: element::LastList,
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
        limits: Option<&'a Limits>,
        turn: Option<&'a Turn>,
        folders: Arc<Folders<'a>>,
    ) -> Self {
        let files = plan.graph.pipeline.invocations.iter().map(|_| OnceLock::new()).collect();
        let unknown = plan.graph.pipeline.invocations.iter().map(|_| OnceLock::new()).collect();
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
            limits,
            turn,
            files,
            unknown,
            written,
            folders,
            makers: Makers::new(memo),
            last_list: element::LastList::default(),
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

    /// Whether no step of an invocation had a result when the first of them was begun: asked once for all of them.
    fn is_unknown(&self, step: StepId) -> bool {
        let invocation = self.plan.graph.steps[step.0 as usize].invocation as usize;
        let graph = &self.plan.graph;
        *self.unknown[invocation].get_or_init(|| {
            let name = &graph.pipeline.invocations[invocation].name;
            self.memo.is_unknown(&graph.pipeline.name, name).unwrap_or(false)
        })
    }

    /// Notes facts that were committed: not before, because a step may fail and keep nothing.
    pub(crate) fn wrote(&self, facts: impl IntoIterator<Item = Version>) {
        self.written.lock().unwrap_or_else(PoisonError::into_inner).extend(facts);
    }

    /// Works on a task to its end.
    pub(crate) fn work(&self, worker: usize, mut task: Task, tell: Tell<'_>) -> Done {
        let mut done = Done::new(worker, 0);
        let _at_work = self.turn.map(Turn::at_work);
        match self.guarded(&mut task, &mut done, &mut |task, done| self.claimed(task, done, tell)) {
            None => done,
            Some(held) => {
                let mut settled = self.settle(vec![(done, held)]);
                settled.pop().expect("as many come out as went in")
            }
        }
    }

    /// Does something that may panic for a task; gives what is to be committed of it.
    fn guarded(
        &self,
        task: &mut Task,
        done: &mut Done,
        work: &mut dyn FnMut(&mut Task, &mut Done) -> Result<Ended, EngineError>,
    ) -> Option<Box<Held>> {
        // What a panic leaves is this task's alone; its claim is given back by being dropped.
        done.end = match catch_unwind(AssertUnwindSafe(|| work(task, done))) {
            Ok(Ok(Ended::Made(held))) => return Some(held),
            Ok(Ok(Ended::Over(end))) => end,
            Ok(Err(error)) => End::Broken(error),
            // Without its `Done`, the coordinator would wait for ever.
            Err(panic) => panicked(&*panic, &task.name),
        };
        None
    }

    /// Claims the trace, unless the step runs in every run, and runs the step under the claim.
    fn claimed(&self, task: &mut Task, done: &mut Done, tell: Tell<'_>) -> Result<Ended, EngineError> {
        let solid = self.plan.graph.solid(task.step);
        let volatile = matches!(solid.version, Some(Declared::Volatile));
        // Where it is forced, too: what runs in every run takes nothing that another run fetched.
        if task.why == Why::Volatile || (volatile && task.why == Why::Forced) {
            return self.attempts(task, done, None, None, tell);
        }
        loop {
            if self.cancel.now() > Stop::No {
                return Ok(Ended::Over(End::Cancelled));
            }
            // It is asked only where somebody else is at it.
            let held_up = OnceCell::new();
            let go_on = || {
                held_up.get_or_init(|| self.turn.map(Turn::held_up));
                self.goes_on()
            };
            let mut waits = |by: &str| tell(Told::waits(task, &[], by));
            let Some(claim) = self.memo.claim(task.trace, &mut waits, &go_on)? else {
                return Ok(Ended::Over(End::Cancelled));
            };
            drop(held_up);
            let guard = match claim {
                Claim::Granted(guard) => guard,
                Claim::Stored(found) => {
                    if let Some(end) = self.joined(task, &found)? {
                        return Ok(Ended::Over(end));
                    }
                    continue;
                }
                Claim::Failed(failure) if task.reusable => {
                    let failure = record::decode_failure(&failure).unwrap_or_else(|_| Failure {
                        cause: Cause::Error,
                        message: "it failed".to_owned(),
                        hint: None,
                    });
                    return Ok(Ended::Over(End::Failed(of_another(task, failure))));
                }
                Claim::Failed(_) => continue,
            };
            return self.under_claim(task, done, guard, None, tell);
        }
    }

    /// Runs the step under a claim that was granted, unless its result is there by now. `share`: what it uses of what
    /// all runs share, where that is had already.
    fn under_claim(
        &self,
        task: &mut Task,
        done: &mut Done,
        mut guard: ClaimGuard,
        share: Option<&Share>,
        tell: Tell<'_>,
    ) -> Result<Ended, EngineError> {
        let solid = self.plan.graph.solid(task.step);
        task.misfit = guard.present().is_some_and(|found| !resolve::fits(solid, found));
        if let Some(found) = guard.present().cloned()
            && let Some(end) = self.joined(task, &found)?
        {
            return Ok(Ended::Over(end));
        }
        if let Some(failure) = self.turn.and_then(|turn| turn.failure(task.trace)) {
            return Ok(Ended::Over(End::Failed(of_another(task, failure))));
        }
        match self.attempts(task, done, Some(&mut guard), share, tell)? {
            Ended::Made(mut held) => {
                held.claim = Some(guard);
                Ok(Ended::Made(held))
            }
            Ended::Over(end) => {
                // Others are told what would happen to them too. Otherwise the claim goes to the next of them.
                if let End::Failed(report) = &end
                    && report.failure.cause.follows_from_what_it_was_given()
                {
                    if let Some(turn) = self.turn {
                        turn.failed(task.trace, report.failure.clone());
                    }
                    guard.fail(record::encode_failure(&report.failure).unwrap_or_default());
                }
                Ok(Ended::Over(end))
            }
        }
    }

    /// Whether whoever waits for somebody else is to go on waiting.
    fn goes_on(&self) -> bool {
        self.cancel.now() == Stop::No && !self.turn.is_some_and(Turn::is_over)
    }

    /// Takes a result that is there by now, where that is as good as one of our own.
    fn joined(&self, task: &Task, found: &Found) -> Result<Option<End>, EngineError> {
        let solid = self.plan.graph.solid(task.step);
        // In the place of a result that was too old, only one that was made meanwhile is good.
        let renewed = task.why != Why::Expired || resolve::fresh(solid, found, now_ms(), Frozen::No);
        let good = resolve::fits(solid, found) && renewed;
        // What is forced, or run to be compared, is so once in a sweep, and not again by each of its runs that needs the
        // very same.
        let forced_before =
            task.why == Why::Forced && self.turn.is_some_and(|turn| turn.was_made(task.trace));
        if !(task.reusable || forced_before) || !found.whole() || !good {
            return Ok(None);
        }
        if self.memo.relink(task.trace, task.names.clone(), now_ms())? {
            self.wrote(task.names.nodes());
            return Ok(Some(End::Made { found: found.clone(), outcome: Outcome::Joined, differs: None }));
        }
        // It went again in this very moment.
        Ok(None)
    }

    /// What becomes of a step that was claimed then and is to be begun only now, unless that is that it begins: a run that
    /// was stopped meanwhile may have lost the claim, and somebody else may have made it.
    fn overtaken(
        &self,
        task: &Task,
        guard: &mut ClaimGuard,
        claimed: Instant,
    ) -> Result<Option<End>, EngineError> {
        if claimed.elapsed() < LONG_AGO {
            return Ok(None);
        }
        if !guard.renew()? {
            return Ok(Some(End::GivenBack { alone: true }));
        }
        match guard.present().cloned() {
            Some(found) => self.joined(task, &found),
            None => Ok(None),
        }
    }

    /// Attempts the step as often as its policy allows.
    fn attempts(
        &self,
        task: &mut Task,
        done: &mut Done,
        mut claim: Option<&mut ClaimGuard>,
        had: Option<&Share>,
        tell: Tell<'_>,
    ) -> Result<Ended, EngineError> {
        let claimed = Instant::now();
        let solid = self.plan.graph.solid(task.step);
        let is_command = matches!(solid.body, Body::Command(_));
        done.why = self.memo.cause_in_words(self.plan, task, &|| self.is_unknown(task.step));
        // What the store cannot tell of them is an error before anything was done, and not after hours of it.
        let makers = self.makers_of(&task.consumes)?;
        // Until it has ended one way or the other.
        let _retried = match solid.policy.retries.times {
            0 => None,
            _ => self.folders.retried(&folder::safe_label(&task.name)),
        };
        for attempt in 1.. {
            if self.cancel.now() > Stop::No {
                return Ok(Ended::Over(End::Cancelled));
            }
            let mut share = match had {
                Some(_) => None,
                None => match self.share(task, solid, tell)? {
                    Shared::Given(share, slot) => Some((share, slot)),
                    Shared::Stopped => return Ok(Ended::Over(End::Cancelled)),
                },
            };
            if let Some(guard) = claim.as_deref_mut()
                && let Some(end) = self.overtaken(task, guard, claimed)?
            {
                return Ok(Ended::Over(end));
            }
            let label = folder::safe_label(&task.name);
            let folder = match is_command {
                true => self.folders.of_command(&label)?,
                false if solid.policy.scratch.is_empty() && self.is_given_values(task) => {
                    self.folders.unmade(&label)?
                }
                false => self.folders.of_function(&label)?,
            };
            let log = folder.join("log");
            // What ends the run here leaves no folder behind.
            let left = |_: &EngineError| self.discard(folder.clone(), solid, Duration::ZERO);
            let scratch = self.scratch(task, solid, &folder).inspect_err(left)?;
            // Its files get times of their own, so none of them is a link.
            task.private |= scratch.is_some();
            let mut laid = match self.lay_out(task, solid, &folder) {
                Ok(mut laid) => {
                    laid.scratch = scratch;
                    laid
                }
                Err(unready) => {
                    self.discard(folder, solid, Duration::ZERO);
                    return match unready {
                        Unready::Lost(output, what) => Ok(Ended::Over(End::Lost { output, what })),
                        Unready::Failed(failure) => {
                            let attempts = attempt - 1;
                            let report = FailureReport { attempts, ..FailureReport::new(failure) };
                            Ok(Ended::Over(End::Failed(report)))
                        }
                        Unready::Broken(error) => Err(error),
                    };
                }
            };
            let begun = self.begin(task, solid, had, &mut share, tell).inspect_err(left)?;
            // Others may have computed it while this process was stopped.
            let overtaken = match (&begun, claim.as_deref_mut()) {
                (None, _) => Some(End::Cancelled),
                (_, Some(guard)) => self.overtaken(task, guard, claimed).inspect_err(left)?,
                _ => None,
            };
            let (Some(beginning), None) = (begun, &overtaken) else {
                laid.scratch = None;
                self.discard(folder, solid, Duration::ZERO);
                return Ok(Ended::Over(overtaken.unwrap_or(End::Cancelled)));
            };
            let at_ms = now_ms();
            if attempt == 1 {
                done.started_ms = at_ms;
            }
            let why = done.why.clone();
            let (step, worker) = (task.name.clone(), done.worker);
            tell(Told::Started { step, attempt, worker, why, at_ms });
            let Attempted { outcome, elapsed, undeclared } =
                self.attempt(task, solid, &laid, &folder, &log, &beginning).inspect_err(left)?;
            // One that could not be started never ran.
            drop(beginning);
            // What it made is kept without.
            drop(share);
            let elapsed_ms = millis(elapsed);
            done.took += elapsed;
            if self.show_output
                && let Some(text) = end_of(&log, PRINTED_BYTES as u64)
            {
                tell(Told::Printed { step: task.name.clone(), text });
            }
            if outcome.is_err() {
                // What is kept of a failure is not what the next attempt begins with.
                laid.scratch = None;
            }
            if let Some(what) = undeclared {
                tell(Told::Undeclared { step: task.name.clone(), solid: solid.name.clone(), what });
            }
            // Before the outcome counts: was what it was given what was hashed?
            if let Some((output, what)) = self.spoilt(&laid).inspect_err(left)? {
                laid.scratch = None;
                self.discard(folder, solid, elapsed);
                return Ok(Ended::Over(End::Lost { output, what }));
            }
            let outcome = match self.changed_source(task) {
                Some(failure) => Err(failure),
                None => outcome,
            };
            let mut failure = match outcome {
                Ok(produced) => {
                    let provenance =
                        self.provenance(task, solid, &laid, &makers, (at_ms, elapsed_ms), attempt);
                    let made_ms = now_ms();
                    let nodes = task.names.nodes().collect();
                    let names = match solid.policy.retries.times {
                        0 => std::mem::take(&mut task.names),
                        // Another attempt may follow, if what was made cannot be kept.
                        _ => task.names.clone(),
                    };
                    let made = Made {
                        trace: task.trace,
                        solid,
                        produced,
                        log: is_command.then_some(&*log),
                        names: self.names_now(task, names)?,
                        parents: task.parents.clone(),
                        provenance: &provenance,
                        made_ms,
                        cost_ms: elapsed_ms,
                        put: if (task.why == Why::New && !task.misfit) || task.reproduces {
                            Put::IfAbsent
                        } else {
                            Put::Replace
                        },
                        again: task.why != Why::New,
                    };
                    let staged = self.memo.stage(made);
                    // Outputs may lie in it until now; from here on the folder goes.
                    laid.scratch = None;
                    match staged {
                        Ok(staging) => {
                            self.made(task.step, task.trace, made_ms);
                            return Ok(Ended::Made(Box::new(Held {
                                step: task.step,
                                forced: (task.why == Why::Forced).then_some(task.trace),
                                staging,
                                nodes,
                                folder,
                                elapsed,
                                at_ms,
                                claim: None,
                            })));
                        }
                        Err(NotKept::Bad(failure)) => failure,
                        Err(NotKept::Store(error)) => {
                            // Nobody will look at it, and it may be what fills the disk.
                            self.discard(folder, solid, elapsed);
                            return Err(error);
                        }
                    }
                }
                Err(failure) => failure,
            };
            laid.scratch = None;
            // What a function leaves when it fails is kept as that of a command, and looked for there.
            let _ = folder::make_private(&folder);
            let no_room = folders::room_left(&folder).filter(|left| *left < NO_ROOM_BYTES);
            if let Some(left) = no_room {
                // What it wrote may be all that fills the disk, and even its log needs room to be kept.
                folders::remove_all_but(&folder, "log");
                failure.message =
                    format!("{}; the disk is full ({} left)", failure.message, bytes_in_words(left));
                failure.hint = Some("make room on the disk that holds the store, and run again".to_owned());
            }
            let staged = match self.memo.stage_log(&log, Take::Copy) {
                Err(EngineError::Store(StoreError::Io { .. })) if no_room.is_some() => None,
                staged => staged.inspect_err(left)?,
            };
            let digest = staged.as_ref().map(Staged::digest);
            done.logs.extend(staged);
            let mut ended = AttemptRecord {
                failure: Some(failure.clone()),
                log: digest,
                started_ms: at_ms,
                elapsed_ms,
                folder: None,
            };
            if failure.cause == Cause::Cancelled {
                self.discard(folder, solid, elapsed);
                done.attempts.push(ended);
                return Ok(Ended::Over(End::Cancelled));
            }
            let again = retry::again(&solid.policy.retries, attempt, &failure);
            if again && self.cancel.now() == Stop::No {
                self.discard(folder, solid, elapsed);
                done.attempts.push(ended);
                tell(Told::Retried { step: task.name.clone(), attempt, failure });
                let seed = format!("{} {}", self.run, task.name);
                let wait = retry::pause(&solid.policy.retries, attempt, seed.as_bytes());
                self.executor.pause(self.cancel, wait);
                continue;
            }
            let log_tail = tail(&log);
            // What may hold secrets is not kept.
            let kept = if no_room.is_some() || !self.repeatable(task, solid, &laid, &folder, &log) {
                self.discard(folder, solid, elapsed);
                None
            } else {
                folders::keep(&folder, self.run, &task.name)
            };
            ended.folder = kept.as_ref().map(|folder| folder.to_string_lossy().into_owned());
            done.attempts.push(ended);
            let report = FailureReport { failure, log_tail, folder: kept, attempts: attempt, allowed: false };
            return Ok(Ended::Over(End::Failed(report)));
        }
        Ok(Ended::Over(End::Cancelled))
    }

    /// Has the folder of an attempt removed.
    fn discard(&self, folder: PathBuf, solid: &Solid, took: Duration) {
        // A function that made no use of its folder has none.
        if !matches!(solid.body, Body::Command(_)) && folder.symlink_metadata().is_err() {
            return;
        }
        let name = |output: &OutputDecl| output.at.strip_prefix("outputs/").map(str::to_owned);
        self.folders.discard(folder, solid.outputs.iter().filter_map(name).collect(), took);
    }

    /// Runs one attempt. What fails before it begins is its failure.
    fn attempt(
        &self,
        task: &Task,
        solid: &Solid,
        laid: &LaidOut,
        folder: &Path,
        log: &Path,
        beginning: &Beginning,
    ) -> Result<Attempted, EngineError> {
        let execute = |attempt: &Attempt<'_>| {
            if !matches!(solid.body, Body::Command(_)) {
                // A function is this process itself.
                beginning.over();
            }
            let meanwhile = || {
                beginning.over();
                (attempt.meanwhile)();
            };
            self.executor.execute(&Attempt { meanwhile: &meanwhile, ..*attempt })
        };
        let attempted = match self.with_attempt(task, solid, laid, folder, log, execute) {
            Ok(attempted) => attempted,
            Err(failure) => return Ok(Attempted::new(Err(failure), Duration::ZERO)),
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
        Ok(Attempted { outcome, ..attempted })
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
        let needed = graph.resources_of(invocation);
        let path = source::path_before(graph, &needed);
        let confinement = self.confinement(solid, &needed);
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
            grace: solid.policy.grace,
            cpus: solid.policy.cpus,
            cancel: self.cancel,
            scratch: laid.scratch.as_ref(),
            sandbox: confinement.as_ref(),
            meanwhile: &|| self.folders.prepare(),
        }))
    }

    /// The scratch folders of a step, as they were left on this machine. One that is run to be compared has none, and
    /// so has one of which another attempt has them now: it begins with empty ones, and what it leaves goes.
    fn scratch(&self, task: &Task, solid: &Solid, folder: &Path) -> Result<Option<Scratch>, EngineError> {
        let paths = &solid.policy.scratch;
        if paths.is_empty() || task.reproduces || !matches!(solid.body, Body::Command(_)) {
            return Ok(None);
        }
        let project = self.plan.graph.pipeline.folder.to_string_lossy();
        let mut key = blake3::Hasher::new_derive_key("cas 2026 scratch folder 1");
        for part in [self.host, &*project, &task.name] {
            // A length before each, so that no two lists of texts are one.
            key.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
        }
        let label: String = folder::safe_label(&task.name).chars().take(SCRATCH_LABEL).collect();
        let name = format!("{label}-{}", &key.finalize().to_hex()[..16]);
        let Some(taken) = self.memo.scratch(&name)? else { return Ok(None) };
        let path = taken.path().to_owned();
        let scratch = Scratch::take(taken, paths, folder);
        Ok(Some(scratch.map_err(|source| EngineError::Io { action: "take", path, source })?))
    }

    /// How a step is confined. Nobody who works in its folder by hand is.
    fn confinement(&self, solid: &Solid, resources: &[usize]) -> Option<Confinement<'_>> {
        let refuses = match solid.sandbox {
            Sandbox::Off => return None,
            Sandbox::Warn => false,
            // As `off`, where the kernel cannot: the version of the step says so.
            Sandbox::Deny if !self.plan.measures.confines => return None,
            Sandbox::Deny => true,
        };
        let graph = &self.plan.graph;
        let probe =
            |resource: &usize| Some(graph.resources[*resource].definition.probe.as_ref()?.text.clone());
        Some(Confinement {
            refuses,
            project: &graph.pipeline.folder,
            store: self.memo.open().ok().map(cas_store::Store::dir),
            probes: resources.iter().filter_map(probe).collect(),
        })
    }

    /// The rows and facts to be written now: no rows, where a result that was used was replaced meanwhile.
    fn names_now(&self, task: &Task, mut names: Names) -> Result<Names, EngineError> {
        let superseded = if task.consumes.iter().any(|stored| stored.trace.is_some()) {
            let present = self.memo.results(&task.parents)?;
            let by_trace: BTreeMap<Trace, &Found> =
                present.iter().flatten().map(|found| (found.trace, found)).collect();
            task.consumes.iter().any(|stored| {
                // Of what was not made, or failed and was left out, nothing was used.
                let Some(trace) = stored.trace else { return false };
                let Some(found) = by_trace.get(&trace) else { return true };
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
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Nodes of facts under their versions.
pub(crate) type Facted = Vec<(Version, FactNode)>;

/// The failure of a step as it is told in a run that did not attempt it itself.
fn of_another(task: &Task, failure: Failure) -> FailureReport {
    let message = format!("{}, in another run", failure.message);
    let hint =
        failure.hint.or_else(|| Some(format!("`cas logs {}` shows what it printed", shell_word(&task.name))));
    FailureReport::new(Failure { message, hint, ..failure })
}

/// A name as it is typed in a shell.
fn shell_word(name: &str) -> String {
    let is_plain = |char: char| char.is_ascii_alphanumeric() || matches!(char, '_' | '-' | '.');
    if name.chars().all(is_plain) { name.to_owned() } else { crate::file::quote(name) }
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
