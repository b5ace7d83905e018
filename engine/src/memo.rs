//! The only file of the engine that holds a store: what is stored of a plan, what a step is given, and the
//! commit of what it made.
//!
//! What is decided about answers of the store is decided elsewhere (`resolve.rs` before a run, `run.rs` in it);
//! here is only what has to be asked and told. Invariant: only a success is committed, all outputs of a step in
//! one batch with its result.

mod answers;
mod compared;
mod taken;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use cas_store::{
    Artifact, Begun, Bytes, Claim, ClaimGuard, Commit, Committed, Digest, Found, Kind, Link, Moment, Output,
    Portion, Put, Relink, ResultRecord, Run, Share, Staged, Store, StoreError, Take, Trace, Tree, Version,
};

pub(crate) use answers::Answer;

use serde::Serialize;

use crate::error::EngineError;
use crate::execute::{Cause, Failure, Produced, folder};
use crate::graph::StepId;
use crate::likely::Gone;
use crate::limits::{Limits, Own};
use crate::list::List;
use crate::plan::Plan;
use crate::record;
pub use crate::record::{Maker, Provenance, ProvenanceInput};
use crate::resolve;
pub use crate::resolve::{Resolved, Status, StepState, Wanted, Why};
use crate::solid::{OutputDecl, Solid};
use crate::version::{self, FactNode};

/// A store as the engine uses it; without one, nothing is stored.
#[derive(Clone)]
pub struct Memo {
    store: Option<Store>,
    /// Steps that a pipeline had and does not have; looked for once, when there is a use for them.
    gone: Arc<OnceLock<Arc<Vec<Gone>>>>,
}

/// The label under which the history of a step stands.
pub fn label(pipeline: &str, step: &str) -> String {
    format!("{pipeline}/{step}")
}

/// Says where a result came from; `None` for what this program cannot read.
pub fn provenance(bytes: &[u8]) -> Option<Provenance> {
    let listed = || record::decode_listed(bytes).map(|listed| listed.provenance);
    record::decode_provenance(bytes).or_else(|_| listed()).ok()
}

/// Where a result came from, encoded; one that is too large to keep is only missing from what is told of it.
fn encoded(provenance: &Provenance, lists: Vec<(String, List)>) -> Vec<u8> {
    if lists.is_empty() {
        return record::encode_provenance(provenance).unwrap_or_default();
    }
    let listed = record::Listed { provenance: provenance.clone(), lists };
    record::encode_listed(&listed).unwrap_or_default()
}

/// The largest file that is taken for a JSON list: it is read as a whole.
const LIST_LIMIT_BYTES: u64 = 256 * 1024 * 1024;

/// The list that a file or bytes in memory hold.
fn json_list(declared: &OutputDecl, produced: &Produced) -> Result<Option<List>, Failure> {
    let read = |path: &Path| -> Result<Vec<u8>, String> {
        let stat = std::fs::metadata(path).map_err(|error| format!("cannot be read: {error}"))?;
        if stat.len() > LIST_LIMIT_BYTES {
            return Err(format!(
                "is to be a list, and has {} bytes; {LIST_LIMIT_BYTES} is the most",
                stat.len()
            ));
        }
        std::fs::read(path).map_err(|error| format!("cannot be read: {error}"))
    };
    let list = match produced {
        Produced::File(path) => read(path).and_then(|bytes| List::of_json(&bytes, &declared.codec)),
        Produced::Bytes(bytes) => List::of_json(bytes, &declared.codec),
        Produced::Folder(_) | Produced::Absent => return Ok(None),
    };
    list.map(Some).map_err(|what| bad_list(declared, &what))
}

fn bad_list(declared: &OutputDecl, what: &str) -> Failure {
    Failure {
        cause: Cause::BadOutput,
        message: format!("its output `{}` {what}", declared.at),
        hint: Some("a list is a folder of files and folders, or a file that holds a JSON list".to_owned()),
    }
}

/// What is to be written beside a result: its rows and what they are made of.
#[derive(Debug, Default, Clone)]
pub(crate) struct Names {
    /// The rows: one per output, or the one of a step without outputs.
    pub(crate) rows: Vec<Version>,
    /// The nodes of the tree of facts.
    pub(crate) facts: Vec<(Version, FactNode)>,
    /// Nodes that are in the store already: the result has them too, so that they stay as long as it does.
    pub(crate) shared: Vec<Version>,
    /// The label and the step's row, for `explain`.
    pub(crate) history: Option<(String, Version)>,
}

impl Names {
    /// The nodes that are written.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = Version> + '_ {
        self.facts.iter().map(|(version, _)| *version)
    }

    fn facts(&self) -> Vec<(Version, Vec<u8>)> {
        // A node that is too large to keep is only missing from explanations.
        let encoded =
            |(version, node): &(Version, FactNode)| Some((*version, record::encode_facts(node).ok()?));
        let shared = self.shared.iter().map(|version| (*version, Vec::new()));
        self.facts.iter().filter_map(encoded).chain(shared).collect()
    }
}

/// What a successful attempt made, to be committed.
pub(crate) struct Made<'a> {
    pub(crate) trace: Trace,
    pub(crate) solid: &'a Solid,
    pub(crate) produced: Vec<Produced>,
    /// Where everything that it printed was captured; `None` where nothing is.
    pub(crate) log: Option<&'a Path>,
    pub(crate) names: Names,
    /// The results that its inputs came from.
    pub(crate) parents: Vec<Trace>,
    pub(crate) provenance: &'a Provenance,
    pub(crate) made_ms: u64,
    pub(crate) cost_ms: u64,
    pub(crate) put: Put,
    /// Whether a result of these inputs was on record when it was begun: then the two are compared.
    pub(crate) again: bool,
}

/// The same, staged: it is yet to be committed.
pub(crate) struct Staging {
    commit: Commit,
    /// What differs from what was on record, in lines.
    shown: Vec<String>,
}

/// What became of it.
pub(crate) struct Kept {
    /// The result that stands under the trace now.
    pub(crate) found: Found,
    /// Where another result of the same inputs has, or had, other content: the difference in lines, as far as it can
    /// be shown.
    pub(crate) differs: Option<Vec<String>>,
}

/// Why something was not kept.
pub(crate) enum NotKept {
    /// What was made cannot be stored: the attempt failed.
    Bad(Failure),
    /// The store failed.
    Store(EngineError),
}

impl<E: Into<EngineError>> From<E> for NotKept {
    fn from(error: E) -> Self {
        Self::Store(error.into())
    }
}

impl Memo {
    /// Uses this store.
    pub fn new(store: Store) -> Self {
        Self { store: Some(store), gone: Arc::default() }
    }

    /// Finds nothing stored: where there is no store yet and none is to be made.
    pub fn empty() -> Self {
        Self { store: None, gone: Arc::default() }
    }

    /// The steps that are gone: found the first time that they are asked for.
    pub(crate) fn gone_once(
        &self,
        find: impl FnOnce() -> Result<Vec<Gone>, EngineError>,
    ) -> Result<Arc<Vec<Gone>>, EngineError> {
        if let Some(gone) = self.gone.get() {
            return Ok(Arc::clone(gone));
        }
        let found = Arc::new(find()?);
        Ok(Arc::clone(self.gone.get_or_init(|| found)))
    }

    /// The store, if there is one.
    pub fn store(&self) -> Option<&Store> {
        self.store.as_ref()
    }

    /// Holds a plan against the store: settles coherence forwards, then walks back from what is wanted.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn resolve(&self, plan: &Plan, wanted: &Wanted) -> Result<Resolved, EngineError> {
        let mut keys = Vec::with_capacity(plan.steps.len());
        let mut keyed = Vec::with_capacity(plan.steps.len());
        for &step in &plan.steps {
            if let Some(version) = &plan.versions[step.0 as usize] {
                keys.push(resolve::row_key(plan.graph.solid(step), version));
                keyed.push(step);
            }
        }
        let mut rows = self.rows(&keys)?;
        // What is all of a plan stands at its place already.
        let (first, count) = (0_u32.., plan.graph.steps.len());
        if rows.len() != count || keyed.iter().zip(first).any(|(step, index)| step.0 != index) {
            let found = std::mem::replace(&mut rows, vec![None; count]);
            for (step, row) in keyed.into_iter().zip(found) {
                rows[step.0 as usize] = row;
            }
        }
        let mut states = resolve::settle(plan, wanted, rows, &mut |traces| self.results(traces))?;
        let targets = resolve::targets(plan, wanted);
        resolve::walk_back(plan, wanted, &targets, &mut states);
        taken::all_known(plan, wanted, &states)?;
        Ok(Resolved { states })
    }

    /// For each version of a step, with the name of its first output if it has one: the result that it has now.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn results_by_version(
        &self,
        of: &[(Version, Option<&str>)],
    ) -> Result<Vec<Option<Found>>, EngineError> {
        let key = |(version, output): &(Version, Option<&str>)| match output {
            Some(output) => version::output_version(version, output),
            None => *version,
        };
        self.rows(&of.iter().map(key).collect::<Vec<_>>())
    }

    /// For each row: the present result of the trace that it names.
    pub(crate) fn rows(&self, keys: &[Version]) -> Result<Vec<Option<Found>>, EngineError> {
        match &self.store {
            Some(store) if !keys.is_empty() => Ok(store.lookup(keys)?),
            _ => Ok(vec![None; keys.len()]),
        }
    }

    /// For each trace: its present result.
    pub(crate) fn results(&self, traces: &[Trace]) -> Result<Vec<Option<Found>>, EngineError> {
        match &self.store {
            Some(store) if !traces.is_empty() => Ok(store.results(traces)?),
            _ => Ok(vec![None; traces.len()]),
        }
    }

    /// The store of a run, which cannot do without.
    pub(crate) fn open(&self) -> Result<&Store, EngineError> {
        let absent = || StoreError::Absent { dir: PathBuf::new() };
        Ok(self.store.as_ref().ok_or_else(absent)?)
    }

    /// Takes a scratch folder; `None` while somebody has it.
    pub(crate) fn scratch(&self, name: &str) -> Result<Option<cas_store::Scratch>, EngineError> {
        Ok(self.open()?.scratch(name)?)
    }

    /// Asks to be the one that computes a trace; `None` where `go_on` ends the waiting for somebody else, of whom `waits`
    /// is told.
    pub(crate) fn claim(
        &self,
        trace: Trace,
        waits: &mut dyn FnMut(&str),
        go_on: &dyn Fn() -> bool,
    ) -> Result<Option<Claim>, EngineError> {
        Ok(self.open()?.claim_while(trace, waits, go_on)?)
    }

    /// Claims those of these traces that nobody has.
    pub(crate) fn claim_free(&self, traces: &[Trace]) -> Result<Vec<Option<ClaimGuard>>, EngineError> {
        Ok(self.open()?.claim_free(traces)?)
    }

    /// Gives claims back.
    pub(crate) fn release(&self, claims: Vec<ClaimGuard>) {
        if let Some(store) = &self.store {
            store.release(claims);
        }
    }

    /// Takes so much of what all runs on the store share; `None` where `go_on` ends the waiting for it.
    pub(crate) fn share(
        &self,
        portions: &[Portion],
        waits: &mut dyn FnMut(&[String], &str),
        go_on: &dyn Fn() -> bool,
    ) -> Result<Option<Share>, EngineError> {
        Ok(self.open()?.share_while(portions, waits, go_on)?)
    }

    /// What there is for a run that says this of itself, by the store's settings.
    pub fn limits(&self, own: Own) -> Limits {
        let none = BTreeMap::new();
        Limits::new(own, self.store.as_ref().map_or(&none, |store| &store.config().limits))
    }

    /// A new, empty folder for an attempt.
    pub(crate) fn work_folder(&self, label: &str) -> Result<PathBuf, EngineError> {
        Ok(self.open()?.work_folder(label)?)
    }

    /// Where an attempt's folder may be moved to: a name that no other has.
    pub(crate) fn work_path(&self, label: &str) -> Result<PathBuf, EngineError> {
        Ok(self.open()?.work_path(label))
    }

    /// Lays stored content at a place in a step's folder, and gives what was linked there. `private` asks for
    /// copies only.
    pub(crate) fn give(
        &self,
        artifact: &Artifact,
        at: &Path,
        private: bool,
    ) -> Result<Result<Vec<Link>, StoreError>, EngineError> {
        let store = self.open()?;
        let given = if private {
            store.provide_copy(artifact, at).map(|()| Vec::new())
        } else {
            store.provide(artifact, at).map(|provided| provided.links)
        };
        miss(given)
    }

    /// What lies in a stored folder.
    pub(crate) fn tree(&self, digest: &Digest) -> Result<Result<Tree, StoreError>, EngineError> {
        miss(self.open()?.tree(digest))
    }

    /// The elements of an output that is a list: as they were noted when it was made, else as its bytes tell. `None`
    /// where neither is there any more. A list that was not produced is an empty one.
    pub(crate) fn list(&self, found: &Found, output: u16) -> Result<Option<List>, EngineError> {
        let Some(output) = found.record.outputs.get(usize::from(output)) else { return Ok(None) };
        let Some(artifact) = &output.artifact else { return Ok(Some(List::absent())) };
        let store = self.open()?;
        let making = (found.trace, found.record.made_ms);
        if let Some(bytes) = store.provenances(&[making])?.pop().flatten()
            && let Ok(listed) = record::decode_listed(&bytes)
            && let Some((_, list)) = listed
                .lists
                .into_iter()
                .find(|(name, list)| *name == output.name && list.digest == artifact.digest)
        {
            return Ok(Some(list));
        }
        let list = if is_tree(artifact) {
            self.tree(&artifact.digest)?.ok().map(|tree| List::of_tree(&tree, &artifact.codec))
        } else {
            self.bytes(&artifact.digest)?.ok().map(|bytes| List::of_json(&bytes, &artifact.codec))
        };
        Ok(list.and_then(Result::ok))
    }

    /// The bytes of stored content, for what holds them against a digest once more.
    pub(crate) fn bytes(&self, digest: &Digest) -> Result<Result<Bytes, StoreError>, EngineError> {
        miss(self.open()?.bytes(digest))
    }

    /// The bytes of stored content, with what is to be looked at afterwards where they are no copy.
    pub(crate) fn lend(
        &self,
        digest: &Digest,
    ) -> Result<Result<(Bytes, Option<Link>), StoreError>, EngineError> {
        miss(self.open()?.lend(digest))
    }

    /// Whether one of these links does not hold what was given any longer.
    pub(crate) fn spoilt(&self, links: &[Link]) -> Result<Vec<Digest>, EngineError> {
        if links.is_empty() { Ok(Vec::new()) } else { Ok(self.open()?.recheck(links)?) }
    }

    /// Keeps what was printed, if anything was.
    pub(crate) fn stage_log(&self, log: &Path, take: Take) -> Result<Option<Staged>, EngineError> {
        match std::fs::metadata(log) {
            Ok(stat) if stat.len() > 0 => Ok(Some(self.open()?.stage_file(log, take)?)),
            _ => Ok(None),
        }
    }

    /// Stages what a successful attempt made.
    pub(crate) fn stage(&self, made: Made<'_>) -> Result<Staging, NotKept> {
        let store = self.open()?;
        let recorded = if made.again { self.on_record(made.trace) } else { None };
        let mut shown = Vec::new();
        let mut staged = Vec::with_capacity(made.produced.len() + 1);
        let mut lists = Vec::new();
        let mut outputs = Vec::with_capacity(made.produced.len());
        for (at, (declared, produced)) in made.solid.outputs.iter().zip(made.produced).enumerate() {
            let was = recorded.as_ref().and_then(|record| record.outputs.get(at));
            let mut other = was.and_then(|was| self.other_file(was, &produced));
            let mut list =
                if declared.list { json_list(declared, &produced).map_err(NotKept::Bad)? } else { None };
            let taken = match &produced {
                Produced::File(path) => store.stage_file(path, Take::Adopt).map(Some),
                Produced::Folder(path) => store.stage_tree(path, Take::Adopt).map(Some),
                Produced::Bytes(bytes) => store.stage_bytes(bytes).map(Some),
                Produced::Absent => Ok(None),
            };
            let taken = match taken {
                Ok(taken) => taken,
                Err(error) => {
                    return Err(match folder::bad_output(declared, &error) {
                        Some(failure) => NotKept::Bad(failure),
                        None => NotKept::Store(error.into()),
                    });
                }
            };
            if let (Some(was), Some(tree)) = (was, taken.as_ref().and_then(Staged::tree)) {
                other = self.other_folder(was, tree);
            }
            shown.extend(other.iter().flat_map(|other| compared::lines(&declared.name, other)));
            outputs.push(Output {
                name: declared.name.clone(),
                artifact: taken.as_ref().map(|taken| taken.artifact(&declared.codec)),
            });
            if let (true, Some(tree)) = (declared.list, taken.as_ref().and_then(Staged::tree)) {
                let of_tree = List::of_tree(tree, &declared.codec);
                list = Some(of_tree.map_err(|what| NotKept::Bad(bad_list(declared, &what)))?);
            }
            if let (Some(list), Some(taken)) = (list, &taken) {
                if list.digest != taken.digest() {
                    return Err(NotKept::Bad(bad_list(declared, "changed while it was stored")));
                }
                lists.push((declared.name.clone(), list));
            }
            staged.extend(taken);
        }
        let log = match made.log {
            Some(log) => self.stage_log(log, Take::Adopt)?,
            None => None,
        };
        let digest = log.as_ref().map(Staged::digest);
        staged.extend(log);
        let commit = Commit {
            trace: made.trace,
            facts: made.names.facts(),
            rows: made.names.rows,
            outputs,
            staged,
            log: digest,
            made_ms: made.made_ms,
            cost_ms: made.cost_ms,
            provenance: encoded(made.provenance, lists),
            parents: made.parents,
            history: made.names.history,
            put: made.put,
        };
        Ok(Staging { commit, shown })
    }

    /// Commits what was staged, each with its solid; of several, as many as can be at once. `None` for one of which
    /// somebody else has the claim by now, and for which `go_on` does not wait.
    pub(crate) fn commit(
        &self,
        staged: Vec<(Staging, &Solid)>,
        go_on: &dyn Fn() -> bool,
    ) -> Result<Vec<Result<Option<Kept>, EngineError>>, EngineError> {
        let store = self.open()?;
        let mut commits = Vec::with_capacity(staged.len());
        let mut expected = Vec::with_capacity(staged.len());
        for (Staging { commit, shown }, solid) in staged {
            let record = ResultRecord {
                outputs: commit.outputs.clone(),
                log: commit.log,
                made_ms: commit.made_ms,
                cost_ms: commit.cost_ms,
                evicted: None,
            };
            let present = vec![true; record.outputs.len()];
            expected.push((Found { trace: commit.trace, record, present }, shown, solid));
            commits.push(commit);
        }
        let committed = match commits.len() {
            1 => commits.into_iter().map(|commit| store.commit_while(commit, go_on)).collect(),
            _ => store.commit_all(commits, go_on)?,
        };
        type Settled = Result<Option<Committed>, StoreError>;
        let kept = |(committed, (new, shown, solid)): (Settled, (Found, _, &Solid))| {
            let Some(committed) = committed? else { return Ok(None) };
            Ok(Some(match committed {
                Committed::New => Kept { found: new, differs: None },
                Committed::Replaced { differs, .. } => Kept { found: new, differs: differs.then_some(shown) },
                // What reads a record reads it by position: another solid's would be believed for ever.
                Committed::Adopted { found, .. } if !resolve::fits(solid, &found) => {
                    let dir = store.dir().to_owned();
                    let what = format!("the result under `{}` has other outputs than its step", found.trace);
                    return Err(StoreError::IndexDamaged { dir, what }.into());
                }
                Committed::Adopted { found, differs } => Kept { found, differs: differs.then_some(shown) },
            }))
        };
        Ok(committed.into_iter().zip(expected).map(kept).collect())
    }

    /// Lets a step's rows name a result that is there; false if it is not there any longer.
    pub(crate) fn relink(&self, trace: Trace, names: Names, at_ms: u64) -> Result<bool, EngineError> {
        let facts = names.facts();
        let relink = Relink { trace: Some(trace), rows: names.rows, facts, history: names.history, at_ms };
        Ok(self.open()?.relink(relink)?)
    }

    /// Notes that these results were used.
    pub(crate) fn touch(&self, traces: &[Trace], at_ms: u64) -> Result<(), EngineError> {
        if traces.is_empty() { Ok(()) } else { Ok(self.open()?.touch(traces, at_ms)?) }
    }

    /// The key under which secret values are kept as digests in this store. It is no secret itself: it makes
    /// equal values of two stores differ.
    pub fn secret_key(&self) -> [u8; 32] {
        version::secret_key(self.store.as_ref().map_or("", |store| store.id()).as_bytes())
    }

    /// What this store is called in what is kept of its results: [`Store::name`].
    pub fn store_name(&self) -> String {
        self.store.as_ref().map_or_else(String::new, Store::name)
    }

    /// A node of the tree of facts; `None` where it is not kept or cannot be read.
    pub(crate) fn facts(&self, versions: &[Version]) -> Result<Vec<Option<FactNode>>, EngineError> {
        let Some(store) = &self.store else { return Ok(vec![None; versions.len()]) };
        let decoded = |bytes: Option<Vec<u8>>| record::decode_facts(&bytes?).ok();
        Ok(store.facts(versions)?.into_iter().map(decoded).collect())
    }

    /// The latest moments under a step's label, newest first.
    pub(crate) fn history(&self, label: &str, limit: usize) -> Result<Vec<Moment>, EngineError> {
        match &self.store {
            Some(store) => Ok(store.history(label, limit)?),
            None => Ok(Vec::new()),
        }
    }

    /// Whether no step of an invocation ever had a result.
    pub(crate) fn is_unknown(&self, pipeline: &str, invocation: &str) -> Result<bool, EngineError> {
        let Some(store) = &self.store else { return Ok(true) };
        let own = label(pipeline, invocation);
        let elements = format!("{own}[");
        let mut unknown = store.history(&own, 1)?.is_empty();
        store.labels_behind(&elements, &mut |moment| {
            unknown &= !moment.label.starts_with(&elements);
            false
        })?;
        Ok(unknown)
    }

    /// Where the result under a trace came from, if that is kept.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn provenance(&self, trace: &Trace) -> Result<Option<Provenance>, EngineError> {
        let Some(store) = &self.store else { return Ok(None) };
        Ok(store.provenance(trace)?.as_deref().and_then(provenance))
    }

    /// Who made these, each the trace of a result and when that was made; `None` where that gave way or is not on record.
    pub(crate) fn makers(&self, makings: &[(Trace, u64)]) -> Result<Vec<Option<Maker>>, EngineError> {
        let Some(store) = &self.store else { return Ok(vec![None; makings.len()]) };
        let maker = |bytes: Option<Vec<u8>>| Some(provenance(&bytes?)?.maker());
        Ok(store.provenances(makings)?.into_iter().map(maker).collect())
    }

    /// The results that a result was made from, with what it was given of each, in the order of its inputs.
    /// Walking on from them is walking up its lineage.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn made_from(&self, trace: &Trace) -> Result<Vec<(ProvenanceInput, Option<Found>)>, EngineError> {
        let Some(provenance) = self.provenance(trace)? else { return Ok(Vec::new()) };
        let traces: Vec<Trace> = provenance.inputs.iter().filter_map(|input| input.trace).collect();
        let mut found = self.results(&traces)?.into_iter();
        Ok(provenance
            .inputs
            .into_iter()
            .map(|input| {
                let result = if input.trace.is_some() { found.next().flatten() } else { None };
                (input, result)
            })
            .collect())
    }

    /// The runs, newest first, older than `before` if given; one whose record cannot be read is left out.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn runs(
        &self,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<(u64, record::RunRecord)>, EngineError> {
        let Some(store) = &self.store else { return Ok(Vec::new()) };
        let decoded = |run: Run| Some((run.id, record::decode_run(&run.record).ok()?));
        Ok(store.runs(before, limit)?.into_iter().filter_map(decoded).collect())
    }

    /// The steps that a run reused, which its record only names by a blob; none where that is gone.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn reused(&self, run: &record::RunRecord) -> Result<Vec<record::Reused>, EngineError> {
        let (Some(store), Some(digest)) = (&self.store, &run.reused) else { return Ok(Vec::new()) };
        let bytes = miss(store.bytes(digest))?;
        Ok(bytes.ok().and_then(|bytes| record::decode_reused(&bytes).ok()).unwrap_or_default())
    }

    /// What this process is called among those that have the store open.
    pub(crate) fn process(&self) -> Option<String> {
        self.store.as_ref().map(|store| store.process().to_owned())
    }

    /// Whether a run goes on: it has not ended, and its process lives. `None` where that is not known, of an old record.
    pub fn goes_on(&self, run: &record::RunRecord) -> Option<bool> {
        match (run.ended_ms, &run.process, &self.store) {
            (Some(_), ..) => Some(false),
            (None, Some(process), Some(store)) => Some(store.is_live(process)),
            (None, ..) => None,
        }
    }

    /// Takes a number for a run and notes that it began; it goes on until what is returned is dropped.
    pub(crate) fn begin_run(&self, at_ms: u64, run: &record::RunRecord) -> Result<Begun, EngineError> {
        Ok(self.open()?.begin_run(at_ms, record::encode_run(run).unwrap_or_default())?)
    }

    /// The steps of a run and what they consumed, which its record only names by a blob; `None` where that is gone.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn drawing(&self, run: &record::RunRecord) -> Result<Option<record::Drawing>, EngineError> {
        let (Some(store), Some(digest)) = (&self.store, &run.drawing) else { return Ok(None) };
        Ok(miss(store.bytes(digest))?.ok().and_then(|bytes| record::decode_drawing(&bytes).ok()))
    }

    /// Notes how a run went, or goes, with the logs of what failed: taken where that could be done, left where not.
    pub(crate) fn note_run<Name: Serialize>(
        &self,
        id: u64,
        run: &mut record::RunRecord,
        reused: &Vec<record::Reused<Name>>,
        drawing: &record::Drawing<Name>,
        logs: &mut Vec<Staged>,
    ) -> Result<(), EngineError> {
        let store = self.open()?;
        let reused = if reused.is_empty() { None } else { record::encode_reused(reused).ok() };
        let drawing = record::encode_drawing(drawing).ok();
        run.reused = reused.as_deref().map(Digest::of);
        run.drawing = drawing.as_deref().map(Digest::of);
        let record = record::encode_run(run).unwrap_or_default();
        // Equal runs have equal lists: those of one with nothing to do are there, and are not compressed and written
        // once more to be thrown away.
        if logs.is_empty() {
            let named: Vec<Digest> = run.reused.into_iter().chain(run.drawing).collect();
            match store.note_run(id, record.clone(), &[], &named) {
                Err(StoreError::Missing { .. }) => {}
                noted => return Ok(noted?),
            }
        }
        let lists = reused.into_iter().chain(drawing).map(|list| store.stage_bytes(&list));
        let mut lists = lists.collect::<Result<Vec<Staged>, StoreError>>()?;
        let kept = logs.len();
        logs.append(&mut lists);
        let noted = store.note_run(id, record, logs, &[]);
        // The lists are made anew each time. What the store did not take is still where it was staged.
        logs.truncate(if noted.is_ok() { 0 } else { kept });
        Ok(noted?)
    }

    /// Gives stored content to a person: writable, whole or not at all.
    pub(crate) fn materialize(
        &self,
        artifact: &Artifact,
        at: &Path,
    ) -> Result<Result<(), StoreError>, EngineError> {
        miss(self.open()?.materialize(artifact, at))
    }
}

/// Tells what is only a miss from what is a failure of the store.
fn miss<T>(answer: Result<T, StoreError>) -> Result<Result<T, StoreError>, EngineError> {
    match answer {
        Ok(value) => Ok(Ok(value)),
        Err(error) if error.is_miss() => Ok(Err(error)),
        Err(error) => Err(error.into()),
    }
}

/// Whether content is a folder.
pub(crate) fn is_tree(artifact: &Artifact) -> bool {
    matches!(artifact.kind, Kind::Tree)
}

/// The results that a step was given something of, each once.
pub(crate) fn parents(plan: &Plan, states: &[StepState], step: StepId) -> Vec<Trace> {
    let mut parents = Vec::new();
    plan.graph.each_input(step, &mut |output| {
        let state = &states[output.step.0 as usize];
        parents.extend(state.found.as_ref().map(|found| found.trace));
    });
    parents.sort_unstable();
    parents.dedup();
    parents
}
