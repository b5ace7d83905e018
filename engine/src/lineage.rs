//! What was made from what, where a step was made several times under one trace.
//!
//! A step that runs in every run, that is good for a while only, or that was forced has one trace and several makings,
//! one after the other; what was made from an earlier one names that trace too. So does a result that was imported, whose
//! own was made in another store. What read a making says which: when it was made, and who made it. That is held against
//! what stands here, what runs keep (`frozen.rs`) and what gave way (the ledger).
//!
//! Records of before that was said, and those that stand in for one that is not here, are held against content: what a
//! result was given is on record with it, and so are the contents that gave way and which run made what.
//!
//! Invariants: who read other content than a making had is not below it; where that cannot be told, it is. A making is
//! never one of a later run than that of who read it, nor, of this store, what another store's run is only guessed to
//! have read: then it is said that it is not known.

mod read;

use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

use cas_store::{Digest, Forget, Found, Judged, Output, Replacement, Trace};

use crate::error::EngineError;
use crate::event::Outcome;
use crate::memo::Memo;
use crate::origin::Origins;
use crate::record::{self, Maker, Provenance, ProvenanceInput};

/// How many results that were made from one are followed.
const CHILDREN: usize = 100_000;

/// So many runs before the one that read something are asked for the one that made it.
const RUNS: usize = 256;

/// What a result that was not produced has for content, as an input of others.
const ABSENT: &str = "absent";

/// One execution of a step, as far as it is on record.
#[derive(Debug, Clone)]
pub struct Making {
    /// The trace of the step: that of all its makings. Of a copy that a run keeps, the key of that.
    pub trace: Trace,
    /// Where it came from; of a making that gave way and left no copy, that of the one which stands now, whose inputs had
    /// the same content.
    pub made: Option<Provenance>,
    /// Who made it, where that is known. Of one that names no store in its record, the name of this one, or of another that
    /// is not known, which is empty.
    pub maker: Option<Maker>,
    /// Whether that was a run of another store.
    pub imported: bool,
    /// When.
    pub made_ms: Option<u64>,
    /// Whether what its step has under this trace now is something else.
    pub replaced: bool,
    /// Of what was made from something: it read another making of that, with the same content.
    pub of_another: bool,
    /// Whether `made` is that of another making of the trace.
    stands_in: bool,
    /// It was there in this run.
    there: Option<Ran>,
    outputs: Vec<Held>,
}

/// A run, and the store that counted it; empty where it is one that is not known.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Ran {
    store: String,
    run: u64,
}

impl From<&Maker> for Ran {
    fn from(maker: &Maker) -> Self {
        Self { store: maker.store.clone(), run: maker.run }
    }
}

/// What an output of a making held.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Held {
    name: String,
    digest: Option<Digest>,
    /// The contents of its elements, where it is a list and they were noted.
    elements: Option<BTreeSet<Digest>>,
}

impl Held {
    fn holds(&self, content: &str) -> bool {
        if content == ABSENT {
            return self.digest.is_none();
        }
        let Ok(content) = content.parse::<Digest>() else { return false };
        self.digest == Some(content)
            || self.elements.as_ref().is_some_and(|elements| elements.contains(&content))
    }
}

impl Making {
    /// Whether an input is something that this making left.
    fn holds(&self, input: &ProvenanceInput) -> bool {
        let output = output_of(input);
        let of = |held: &&Held| output.is_none_or(|output| output == held.name);
        self.outputs.iter().filter(of).any(|held| held.holds(&input.content))
    }

    /// Whether both came from executions of one and the same step: then one of them is a copy.
    fn is_copy(&self, other: &Self) -> bool {
        let of = |made: &Provenance| (made.pipeline.clone(), made.step.clone(), made.version);
        self.made.as_ref().zip(other.made.as_ref()).is_some_and(|(made, other)| of(made) == of(other))
    }

    fn digests(&self) -> Vec<Option<Digest>> {
        self.outputs.iter().map(|held| held.digest).collect()
    }
}

/// The name of the output that an input came from.
fn output_of(input: &ProvenanceInput) -> Option<&str> {
    // Names of outputs have no dot; labels of elements may.
    Some(input.from.as_ref()?.rsplit_once('.')?.1)
}

/// Walks through what was made from what; keeps what it has read.
pub struct Lineage<'a> {
    memo: &'a Memo,
    makings: HashMap<Trace, Rc<Making>>,
    copies: HashMap<Trace, Rc<Vec<Rc<Making>>>>,
    ledgers: HashMap<Trace, Rc<Vec<Replacement>>>,
    origins: Origins<'a>,
}

impl<'a> Lineage<'a> {
    /// Begins with nothing read.
    pub fn new(memo: &'a Memo) -> Self {
        let (makings, copies, ledgers) = (HashMap::new(), HashMap::new(), HashMap::new());
        Self { memo, makings, copies, ledgers, origins: Origins::new(memo) }
    }

    /// The making that stands under a trace, also one that counts as absent. What is a copy that a run keeps of a result
    /// is told as that result.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn of(&mut self, trace: &Trace) -> Result<Making, EngineError> {
        let mut making = Making::clone(&*self.standing(trace)?);
        if let Some(original) = self.original(&making)? {
            let stands = self.standing(&original)?;
            (making.trace, making.replaced) = (original, stands.digests() != making.digests());
        }
        Ok(making)
    }

    /// What a making was given, in the order of its inputs, and the making that each came from, if it is an output.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn above(&mut self, of: &Making) -> Result<Vec<(ProvenanceInput, Option<Making>)>, EngineError> {
        let Some(made) = &of.made else { return Ok(Vec::new()) };
        let mut above = Vec::with_capacity(made.inputs.len());
        for input in &made.inputs {
            let making = match &input.trace {
                Some(trace) => Some(self.read_by(trace, input, of)?),
                None => None,
            };
            above.push((input.clone(), making));
        }
        Ok(above)
    }

    /// What was made from a making.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn below(&mut self, of: &Making) -> Result<Vec<Making>, EngineError> {
        Ok(self.below_and_copies(of)?.0)
    }

    /// What was made from a making, and where runs keep it.
    fn below_and_copies(&mut self, of: &Making) -> Result<(Vec<Making>, Vec<Trace>), EngineError> {
        let mut open = vec![of.trace];
        let (mut below, mut copies) = (Vec::new(), Vec::new());
        while let Some(trace) = open.pop() {
            for key in self.memo.open()?.children(&trace, CHILDREN)? {
                let child = self.standing(&key)?;
                // What a run keeps of a result: nothing is made from itself.
                if child.is_copy(of) {
                    if child.digests() == of.digests() {
                        open.push(key);
                        copies.push(key);
                    }
                    continue;
                }
                let mut read = inputs_from(&child, &trace).peekable();
                let unknown = read.peek().is_none() || of.outputs.is_empty();
                if unknown || read.any(|input| of.holds(input)) {
                    let of_another = self.read_another(&child, &trace, of);
                    below.push(Making { of_another, ..Making::clone(&child) });
                }
            }
        }
        Ok((below, copies))
    }

    /// What is to count as absent where a result is to: that, what is known to have been made of something else under
    /// its trace, and what was made of the same where it is only kept of another result.
    pub(crate) fn forgotten_with(&mut self, found: &Found) -> Result<Forget, EngineError> {
        let making = self.of(&found.trace)?;
        if making.trace == found.trace {
            return Ok(Forget {
                trace: found.trace,
                digests: digests(found),
                spared: self.of_others(found)?,
                also: Vec::new(),
            });
        }
        // It is what a run keeps. Where that stands yet, it is the result that is meant.
        let stands = self.memo.results(&[making.trace])?.pop().flatten();
        if let Some(stands) = stands.filter(|stands| digests(stands) == digests(found)) {
            return self.forgotten_with(&stands);
        }
        let (below, mut also) = self.below_and_copies(&making)?;
        also.extend(below.into_iter().map(|made| made.trace));
        Ok(Forget { trace: found.trace, digests: digests(found), spared: Vec::new(), also })
    }

    /// Of what was made directly from the trace of a result: what is known to have been made of something else than that.
    fn of_others(&mut self, found: &Found) -> Result<Vec<Trace>, EngineError> {
        let trace = &found.trace;
        let stands = self.standing(trace)?;
        let mut others = Vec::new();
        // It was replaced in this very moment.
        if stands.digests() != digests(found) {
            return Ok(others);
        }
        for key in self.memo.open()?.children(trace, CHILDREN)? {
            let child = self.standing(&key)?;
            let other = if child.is_copy(&stands) {
                child.digests() != stands.digests()
            } else {
                let mut all = true;
                let mut some = false;
                for input in inputs_from(&child, trace) {
                    some = true;
                    all &= !stands.holds(input) && self.gave_way(trace, &stands, input)?;
                }
                some && all
            };
            if other {
                others.push(key);
            }
        }
        Ok(others)
    }

    /// Whether it is on record that an input is not of the present result: the contents that gave way are noted, and of a
    /// list all elements. Anything else may be an element of a list whose elements were not noted.
    fn gave_way(
        &mut self,
        trace: &Trace,
        stands: &Making,
        input: &ProvenanceInput,
    ) -> Result<bool, EngineError> {
        let Some(at) = stands.outputs.iter().position(|held| output_of(input) == Some(&held.name)) else {
            return Ok(false);
        };
        if stands.outputs[at].elements.is_some() {
            return Ok(true);
        }
        let Some(content) = content_of(input) else { return Ok(false) };
        Ok(self.ledger(trace)?.iter().any(|was| was.digests.get(at) == Some(&content)))
    }

    /// Whether what `child` read of a trace is known to be another making than this, of the same content.
    fn read_another(&self, child: &Making, trace: &Trace, of: &Making) -> bool {
        let is_other = |input: &ProvenanceInput| match (input.made_ms, of.made_ms) {
            (Some(read), Some(made)) => read != made,
            _ => !self.may_have_read(child, of),
        };
        let mut read = inputs_from(child, trace).filter(|input| of.holds(input)).peekable();
        read.peek().is_some() && read.all(is_other)
    }

    /// Whether nothing speaks against it that a making was read by one which does not say what it read.
    fn may_have_read(&self, by: &Making, making: &Making) -> bool {
        let here = self.origins.store();
        match (&making.there, &by.there) {
            (Some(made), Some(read)) if made.store == read.store && !made.store.is_empty() => {
                made.run <= read.run
            }
            // It may have been taken there; more likely the other store made its own.
            (Some(made), Some(read)) if made.store == here && read.store != here => false,
            (Some(_), Some(_)) => making.made_ms.is_some_and(|made_ms| made_ms <= began(by)),
            _ => true,
        }
    }

    /// The making of a trace that `by` was given.
    fn read_by(
        &mut self,
        trace: &Trace,
        input: &ProvenanceInput,
        by: &Making,
    ) -> Result<Making, EngineError> {
        match input.made_ms.filter(|_| !by.stands_in) {
            Some(made_ms) => self.read_at(trace, made_ms, input),
            None => self.guessed(trace, input, by),
        }
    }

    /// The making of a trace that was read, by when it was made.
    fn read_at(
        &mut self,
        trace: &Trace,
        made_ms: u64,
        input: &ProvenanceInput,
    ) -> Result<Making, EngineError> {
        let stands = self.standing(trace)?;
        if stands.made_ms == Some(made_ms) {
            return Ok(Making::clone(&stands));
        }
        let replaced = !stands.holds(input);
        let copies = self.copies(trace, &stands)?;
        if let Some(copy) = copies.iter().find(|copy| copy.made_ms == Some(made_ms)) {
            return Ok(Making { trace: *trace, replaced, ..Making::clone(copy) });
        }
        let ledger = self.ledger(trace)?;
        let was = ledger.iter().find(|was| !was.lost_race && was.made_ms == made_ms);
        let digests = was.map(|was| was.digests.clone()).unwrap_or_default();
        // One that names no store was written before makings did.
        let is_other = |store: &str| !store.is_empty() && store != self.origins.store();
        let imported = input.maker.as_ref().is_some_and(|maker| is_other(&maker.store));
        Ok(Making {
            made_ms: Some(made_ms),
            maker: input.maker.clone(),
            imported,
            there: input.maker.as_ref().map(Ran::from),
            ..stood_in(&stands, replaced, digests)
        })
    }

    /// The making of a trace that `by` was given, where it is not said which it was: by content and time.
    fn guessed(
        &mut self,
        trace: &Trace,
        input: &ProvenanceInput,
        by: &Making,
    ) -> Result<Making, EngineError> {
        let stands = self.standing(trace)?;
        let there = |making: &Making, replaced| Making {
            replaced,
            there: making.there.clone().or(by.there.clone()),
            ..making.clone()
        };
        if stands.holds(input) && self.may_have_read(by, &stands) {
            return Ok(there(&stands, false));
        }
        let replaced = !stands.holds(input);
        let copies = self.copies(trace, &stands)?;
        let copies = copies.iter().filter(|copy| copy.holds(input) && self.may_have_read(by, copy));
        if let Some(copy) = copies.max_by_key(|copy| copy.made_ms) {
            return Ok(Making { trace: *trace, ..there(copy, replaced) });
        }
        let is_here = by.there.as_ref().is_none_or(|ran| ran.store == self.origins.store());
        if !is_here {
            // What gave way here is not what was read there; what was is not here.
            return Ok(Making { there: by.there.clone(), ..stood_in(&stands, replaced, Vec::new()) });
        }
        let began = began(by);
        let at = stands.outputs.iter().position(|held| output_of(input) == Some(&held.name));
        let ledger = self.ledger(trace)?;
        // Of a list that gave way only the digest is noted: which one it was tells the time alone.
        let listed = at.is_some_and(|at| stands.outputs[at].elements.is_some());
        let held = |was: &&Replacement| {
            let digest = at.and_then(|at| was.digests.get(at));
            let same = digest.is_some() && digest == content_of(input).as_ref();
            !was.lost_race && was.made_ms <= began && (same || listed)
        };
        let was = ledger.iter().filter(held).max_by_key(|was| was.made_ms);
        if let (None, true) = (was, stands.holds(input)) {
            return Ok(there(&stands, false));
        }
        let run = match was {
            Some(was) => self.made_in(trace, was.made_ms, by.there.as_ref().map(|ran| ran.run))?,
            None => None,
        };
        let digests = was.map(|was| was.digests.clone()).unwrap_or_default();
        let maker = run.zip(stands.made.as_ref()).map(|(run, made)| Maker {
            run,
            store: self.origins.store().to_owned(),
            ..made.maker()
        });
        Ok(Making {
            there: maker.as_ref().map(Ran::from).or(by.there.clone()),
            maker,
            made_ms: was.map(|was| was.made_ms),
            ..stood_in(&stands, replaced, digests)
        })
    }

    /// What stands under a trace.
    fn standing(&mut self, trace: &Trace) -> Result<Rc<Making>, EngineError> {
        if let Some(known) = self.makings.get(trace) {
            return Ok(Rc::clone(known));
        }
        let found = self.memo.judged(&[*trace])?.pop().and_then(|judged: Judged| judged.found);
        let bytes = self.memo.open()?.provenance(trace)?;
        let listed = bytes.as_deref().and_then(|bytes| record::decode_listed(bytes).ok());
        let (made, lists) = match listed {
            Some(listed) => (Some(listed.provenance), listed.lists),
            None => (bytes.as_deref().and_then(crate::memo::provenance), Vec::new()),
        };
        let held = |output: &Output| {
            let digest = output.artifact.as_ref().map(|artifact| artifact.digest);
            let list = lists.iter().find(|(name, list)| *name == output.name && Some(list.digest) == digest);
            let elements =
                list.map(|(_, list)| list.elements.iter().map(|element| element.artifact.digest).collect());
            Held { name: output.name.clone(), digest, elements }
        };
        let outputs = |found: &Found| found.record.outputs.iter().map(held).collect();
        let imported = match &made {
            Some(made) => self.origins.is_elsewhere(made)?,
            None => false,
        };
        let mut maker = made.as_ref().map(Provenance::maker);
        if let Some(maker) = maker.as_mut().filter(|maker| maker.store.is_empty() && !imported) {
            self.origins.store().clone_into(&mut maker.store);
        }
        let making = Rc::new(Making {
            trace: *trace,
            there: maker.as_ref().map(Ran::from),
            maker,
            imported,
            made_ms: found.as_ref().map(|found| found.record.made_ms),
            replaced: false,
            of_another: false,
            stands_in: false,
            outputs: found.as_ref().map(outputs).unwrap_or_default(),
            made,
        });
        self.makings.insert(*trace, Rc::clone(&making));
        Ok(making)
    }

    /// What runs keep of a trace.
    fn copies(&mut self, trace: &Trace, stands: &Making) -> Result<Rc<Vec<Rc<Making>>>, EngineError> {
        if let Some(known) = self.copies.get(trace) {
            return Ok(Rc::clone(known));
        }
        let mut copies = Vec::new();
        for key in self.memo.open()?.children(trace, CHILDREN)? {
            let child = self.standing(&key)?;
            if child.is_copy(stands) {
                copies.push(child);
            }
        }
        let copies = Rc::new(copies);
        self.copies.insert(*trace, Rc::clone(&copies));
        Ok(copies)
    }

    fn ledger(&mut self, trace: &Trace) -> Result<Rc<Vec<Replacement>>, EngineError> {
        if let Some(known) = self.ledgers.get(trace) {
            return Ok(Rc::clone(known));
        }
        let ledger = Rc::new(self.memo.open()?.ledger(trace)?);
        self.ledgers.insert(*trace, Rc::clone(&ledger));
        Ok(ledger)
    }

    /// The trace of the result that a making is the copy of, where it is what a run keeps.
    fn original(&mut self, making: &Making) -> Result<Option<Trace>, EngineError> {
        let Some(made) = &making.made else { return Ok(None) };
        let Some((_, record)) = self.memo.runs(Some(made.run.saturating_add(1)), 1)?.pop() else {
            return Ok(None);
        };
        let by = |step: &&record::StepRecord| step.step == made.step && step.version == Some(made.version);
        let trace = record.steps.iter().find(by).and_then(|step| step.trace);
        let Some(trace) = trace.filter(|trace| *trace != making.trace) else { return Ok(None) };
        // What was accepted has that origin too, and is a result of its own.
        if !self.memo.open()?.rows_of(&making.trace, 1)?.is_empty() {
            return Ok(None);
        }
        // A run that was frozen keeps copies of copies.
        let mut open = vec![trace];
        while let Some(above) = open.pop() {
            for key in self.memo.open()?.children(&above, CHILDREN)? {
                if key == making.trace {
                    return Ok(Some(trace));
                }
                if self.standing(&key)?.is_copy(making) {
                    open.push(key);
                }
            }
        }
        Ok(None)
    }

    /// The run that made what stood under a trace since then.
    fn made_in(&self, trace: &Trace, made_ms: u64, by_run: Option<u64>) -> Result<Option<u64>, EngineError> {
        let made = |step: &record::StepRecord| {
            step.trace == Some(*trace)
                && step.outcome == Outcome::Ran
                && (step.started_ms..=step.ended_ms).contains(&made_ms)
        };
        let runs = self.memo.runs(by_run.map(|run| run.saturating_add(1)), RUNS)?;
        Ok(runs.into_iter().find(|(_, record)| record.steps.iter().any(made)).map(|(run, _)| run))
    }
}

/// A making of which nothing is here but what it is of: what is told of how it was made is what is told of the one that
/// stands under its trace now, whose inputs had the same content.
fn stood_in(stands: &Making, replaced: bool, digests: Vec<Option<Digest>>) -> Making {
    let names = stands.outputs.iter().map(|held| held.name.clone());
    let outputs = names.zip(digests).map(|(name, digest)| Held { name, digest, elements: None });
    Making {
        trace: stands.trace,
        made: stands.made.clone(),
        maker: None,
        imported: false,
        made_ms: None,
        replaced,
        of_another: false,
        stands_in: true,
        there: None,
        outputs: outputs.collect(),
    }
}

/// When a making was begun, or at the latest.
fn began(by: &Making) -> u64 {
    let own = by.made.as_ref().filter(|_| !by.stands_in).map(|made| made.started_ms);
    own.or(by.made_ms).unwrap_or(u64::MAX)
}

/// What the outputs of a result hold, in order.
fn digests(found: &Found) -> Vec<Option<Digest>> {
    let digest = |output: &Output| output.artifact.as_ref().map(|artifact| artifact.digest);
    found.record.outputs.iter().map(digest).collect()
}

/// The inputs of a result that came from a trace.
fn inputs_from<'a>(child: &'a Making, trace: &Trace) -> impl Iterator<Item = &'a ProvenanceInput> {
    let inputs = child.made.as_ref().map_or(&[][..], |made| &made.inputs);
    inputs.iter().filter(move |input| input.trace == Some(*trace))
}

/// The content of an input that came from an output: `Some(None)` for one that was not produced, `None` where it is none.
fn content_of(input: &ProvenanceInput) -> Option<Option<Digest>> {
    if input.content == ABSENT { Some(None) } else { input.content.parse().ok().map(Some) }
}
