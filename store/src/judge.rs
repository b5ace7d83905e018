//! What people said of results: that one was wrong, or that one answers for another trace.
//!
//! A judgement has a reason, says who gave it and when, and can be revoked; it is kept for good, revoked or not.
//! What it means for lookups are *marks* on traces. A result with a standing mark [`Mark::Forgotten`] is on record
//! and counts as absent: no lookup, claim, relink or commit finds it. Forgetting reaches what was made from it, as
//! far as that is on record, and what is committed later by somebody who had it in hand. An accepted result is a
//! copy of another trace's under the trace that it answers for; it is marked so that people are told. Whatever is
//! committed under a marked trace has no marks: it was made by itself.
//!
//! Invariant: the marks in memory are those of the index, whenever a change has been applied.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{PoisonError, RwLock};

use serde::{Deserialize, Serialize};

use crate::apply;
use crate::change::{Change, NewAccepted, NewBlobs, NewForgotten, NewResult};
use crate::digest::{Digest, Trace, Version};
use crate::error::StoreError;
use crate::host::Core;
use crate::index::{Family, Index};
use crate::record::Found;
use crate::store::Store;
use crate::tables::{self, refs};
use crate::wire::{Opaque, Request, Response};

/// What somebody said of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Said {
    /// It was wrong.
    Forget,
    /// It answers for another trace too.
    Accept,
}

/// What a judgement does to one trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Mark {
    /// Its result counts as absent.
    Forgotten,
    /// Its result is the copy of another's.
    Accepted,
}

impl Mark {
    pub(crate) fn byte(self) -> u8 {
        match self {
            Self::Forgotten => 1,
            Self::Accepted => 2,
        }
    }

    fn of_byte(byte: u8) -> Option<Self> {
        [Self::Forgotten, Self::Accepted].into_iter().find(|mark| mark.byte() == byte)
    }
}

/// Who says something, when, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saying {
    /// In the words of whoever asks: `ada on lab3`.
    pub by: String,
    /// When.
    pub at_ms: u64,
    /// Why.
    pub reason: String,
}

/// One judgement, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judgement {
    /// Counted from 1 within a store.
    pub id: u64,
    /// What was said.
    pub said: Said,
    /// Who, when, why.
    pub saying: Saying,
    /// What whoever said it calls the result (opaque).
    pub label: String,
    /// The trace that it is about: of an acceptance, the one that is answered for.
    pub trace: Trace,
    /// Of an acceptance: the trace whose result answers.
    pub from: Option<Trace>,
    /// How many results it reached when it was given.
    pub reached: u64,
    /// Who revoked it, when and why, if somebody did.
    pub revoked: Option<Saying>,
    /// Chosen by whoever gave it, so that a request that is repeated gives no second one.
    pub token: u64,
}

/// What stands under a trace, judged or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judged {
    /// The result, also one that counts as absent.
    pub found: Option<Found>,
    /// What was said of it and stands, oldest first.
    pub marks: Vec<(Mark, Judgement)>,
}

impl Judged {
    /// The judgement because of which it counts as absent, if there is one.
    pub fn forgotten(&self) -> Option<&Judgement> {
        self.marked(Mark::Forgotten)
    }

    /// The judgement because of which it is there, if there is one and it is not forgotten since.
    pub fn accepted(&self) -> Option<&Judgement> {
        self.marked(Mark::Accepted)
    }

    fn marked(&self, wanted: Mark) -> Option<&Judgement> {
        self.marks.iter().find(|(mark, _)| *mark == wanted).map(|(_, judgement)| judgement)
    }
}

/// A result that is to count as absent.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Forget {
    /// Its key.
    pub trace: Trace,
    /// Its outputs, in order, as whoever forgets it saw them.
    pub digests: Vec<Option<Digest>>,
    /// Results that name it as what they were made from, and were made from what stood there before. Counts only while
    /// what stands there is what was seen.
    pub spared: Vec<Trace>,
    /// Results that were made from it, though they do not name it.
    pub also: Vec<Trace>,
}

impl From<Trace> for Forget {
    /// All that was ever made from what stood under this trace goes with it.
    fn from(trace: Trace) -> Self {
        Self { trace, digests: Vec::new(), spared: Vec::new(), also: Vec::new() }
    }
}

/// A result that is to answer for another trace.
#[derive(Debug)]
pub struct Accept {
    /// The trace that is answered for.
    pub trace: Trace,
    /// The trace whose result answers.
    pub from: Trace,
    /// The rows that are to name it.
    pub rows: Vec<Version>,
    /// As in a [`crate::Commit`].
    pub facts: Vec<(Version, Vec<u8>)>,
    /// As in a [`crate::Commit`].
    pub history: Option<(String, Version)>,
}

/// What is asked of the host about judgements.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Ask {
    Forget { forget: Forget, label: String, saying: Saying, token: u64 },
    Accept(Box<AcceptMessage>),
    Revoke { id: u64, saying: Saying },
    Judgements,
    Judged(Vec<Trace>),
    JudgedRow(Version),
}

/// An acceptance as the host is told of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct AcceptMessage {
    pub(crate) trace: Trace,
    pub(crate) from: Trace,
    pub(crate) rows: Vec<Version>,
    pub(crate) facts: Vec<(Version, Opaque)>,
    pub(crate) history: Option<(String, Version)>,
    pub(crate) label: String,
    pub(crate) saying: Saying,
    pub(crate) token: u64,
}

/// What the host answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[expect(clippy::large_enum_variant, reason = "it is an answer, taken apart where it arrives")]
pub(crate) enum Told {
    Judgement(Option<Judgement>),
    Judgements(Vec<Judgement>),
    Judged(Vec<Judged>),
}

impl Store {
    /// Lets a result, and what was made from it as far as that is on record, count as absent; `None` where none
    /// stands under the trace, or it counts as absent already. `label` is what the caller calls it.
    ///
    /// # Errors
    ///
    /// When the store cannot be written.
    pub fn forget(
        &self,
        forget: Forget,
        label: &str,
        saying: Saying,
    ) -> Result<Option<Judgement>, StoreError> {
        let token = self.token();
        self.judgement(Ask::Forget { forget, label: label.to_owned(), saying, token })
    }

    /// Lets the result of one trace answer for another too; `None` where the one has none, or the other has one.
    ///
    /// # Errors
    ///
    /// When the store cannot be written.
    pub fn accept(
        &self,
        accept: Accept,
        label: &str,
        saying: Saying,
    ) -> Result<Option<Judgement>, StoreError> {
        let Accept { trace, from, rows, facts, history } = accept;
        let facts = facts.into_iter().map(|(version, fact)| (version, Opaque(fact))).collect();
        let (label, token) = (label.to_owned(), self.token());
        let message = AcceptMessage { trace, from, rows, facts, history, label, saying, token };
        self.judgement(Ask::Accept(Box::new(message)))
    }

    /// Takes a judgement back; `None` where there is none with this number, or it was taken back before.
    ///
    /// # Errors
    ///
    /// When the store cannot be written.
    pub fn revoke(&self, id: u64, saying: Saying) -> Result<Option<Judgement>, StoreError> {
        self.judgement(Ask::Revoke { id, saying })
    }

    /// All judgements, oldest first, also those that were revoked.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub fn judgements(&self) -> Result<Vec<Judgement>, StoreError> {
        match self.ask(Request::Judge(Ask::Judgements))? {
            Response::Judge(Told::Judgements(judgements)) => Ok(judgements),
            other => Err(self.unexpected(&other)),
        }
    }

    /// For each trace: what stands under it, also what counts as absent, and what was said of it.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub fn judged(&self, traces: &[Trace]) -> Result<Vec<Judged>, StoreError> {
        match self.ask(Request::Judge(Ask::Judged(traces.to_vec())))? {
            Response::Judge(Told::Judged(judged)) => Ok(judged),
            other => Err(self.unexpected(&other)),
        }
    }

    /// What stands under the trace that a row names, also what counts as absent, and what was said of it.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub fn judged_row(&self, version: &Version) -> Result<Option<Judged>, StoreError> {
        match self.ask(Request::Judge(Ask::JudgedRow(*version)))? {
            Response::Judge(Told::Judged(mut judged)) => Ok(judged.pop()),
            other => Err(self.unexpected(&other)),
        }
    }

    fn judgement(&self, ask: Ask) -> Result<Option<Judgement>, StoreError> {
        match self.ask(Request::Judge(ask))? {
            Response::Judge(Told::Judgement(judgement)) => Ok(judgement),
            other => Err(self.unexpected(&other)),
        }
    }
}

/// The marks of all traces that have any: few, so that a lookup of many traces costs nothing more.
#[derive(Debug, Default)]
pub(crate) struct Marks(RwLock<BTreeMap<Trace, Vec<(u64, Mark)>>>);

impl Marks {
    /// Reads them from the index.
    pub(crate) fn load(index: &Index) -> Result<Self, StoreError> {
        Ok(Self(RwLock::new(read(index, &[])?)))
    }

    /// Takes over what a change that was applied did to them.
    pub(crate) fn follow(&self, index: &Index, change: &Change) -> Result<(), StoreError> {
        match change {
            Change::Forgotten(_)
            | Change::Accepted(_)
            | Change::Revoked { .. }
            | Change::Imported(_)
            | Change::Entries { .. } => {
                let marks = read(index, &[])?;
                *self.0.write().unwrap_or_else(PoisonError::into_inner) = marks;
            }
            Change::Result(new) => self.again(index, std::slice::from_ref(&new.trace))?,
            Change::Removed { traces, .. } => self.again(index, traces)?,
            Change::Relink(_)
            | Change::Revived { .. }
            | Change::Pin(_)
            | Change::Unpin(_)
            | Change::Run(_)
            | Change::Evicted { .. }
            | Change::Unnamed { .. }
            | Change::Lost { .. }
            | Change::Touched { .. }
            | Change::Noted { .. }
            | Change::ImportPart(_)
            | Change::ImportDropped { .. }
            | Change::Blobs(_) => {}
        }
        Ok(())
    }

    /// Reads those of a few traces again. Where nothing is marked, nothing becomes marked by a result.
    fn again(&self, index: &Index, traces: &[Trace]) -> Result<(), StoreError> {
        if self.0.read().unwrap_or_else(PoisonError::into_inner).is_empty() {
            return Ok(());
        }
        for trace in traces {
            let mut marks = read(index, trace.as_bytes())?;
            let mut held = self.0.write().unwrap_or_else(PoisonError::into_inner);
            match marks.remove(trace) {
                Some(marks) => held.insert(*trace, marks),
                None => held.remove(trace),
            };
        }
        Ok(())
    }

    /// Whether the result of a trace counts as absent.
    pub(crate) fn forgotten(&self, trace: &Trace) -> bool {
        !self.forgotten_among(std::slice::from_ref(trace)).is_empty()
    }

    /// Whether anything stands that was said of the result of a trace.
    pub(crate) fn judged(&self, trace: &Trace) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).contains_key(trace)
    }

    /// Which of these count as absent now.
    pub(crate) fn forgotten_among(&self, traces: &[Trace]) -> BTreeSet<Trace> {
        let held = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if held.is_empty() {
            return BTreeSet::new();
        }
        let forgotten = |trace: &&Trace| {
            held.get(trace).is_some_and(|marks| marks.iter().any(|(_, mark)| *mark == Mark::Forgotten))
        };
        traces.iter().filter(forgotten).copied().collect()
    }

    fn of(&self, trace: &Trace) -> Vec<(u64, Mark)> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(trace).cloned().unwrap_or_default()
    }
}

/// The marks whose keys begin with `prefix`.
fn read(index: &Index, prefix: &[u8]) -> Result<BTreeMap<Trace, Vec<(u64, Mark)>>, StoreError> {
    let mut marks: BTreeMap<Trace, Vec<(u64, Mark)>> = BTreeMap::new();
    index.scan_prefix(Family::Marks, prefix, &mut |key, value| {
        let (trace, id, mark) = index.mark(key, value)?;
        marks.entry(trace).or_default().push((id, mark));
        Ok(true)
    })?;
    Ok(marks)
}

impl Index {
    /// A mark from its key and value.
    pub(crate) fn mark(&self, key: &[u8], value: &[u8]) -> Result<(Trace, u64, Mark), StoreError> {
        let parsed = key.split_first_chunk::<32>().and_then(|(trace, id)| {
            let id = u64::from_be_bytes(id.try_into().ok()?);
            let [byte] = value else { return None };
            Some((Trace::from_bytes(*trace), id, Mark::of_byte(*byte)?))
        });
        parsed.ok_or_else(|| self.damaged("a mark", "has a wrong form"))
    }

    /// The judgement with this number.
    pub(crate) fn judgement(&self, id: u64) -> Result<Option<Judgement>, StoreError> {
        let key = id.to_be_bytes();
        let value = self.get(Family::Judgements, &key)?;
        value.map(|bytes| self.decode(tables::kind::JUDGEMENT, "judgement", &key, &bytes)).transpose()
    }

    /// The number of the last judgement; 0 before the first.
    pub(crate) fn last_judgement(&self) -> Result<u64, StoreError> {
        Ok(self.judgements()?.last().map_or(0, |judgement| judgement.id))
    }

    /// All judgements, oldest first.
    fn judgements(&self) -> Result<Vec<Judgement>, StoreError> {
        let mut judgements = Vec::new();
        self.scan(Family::Judgements, &[], &mut |key, value| {
            judgements.push(self.decode(tables::kind::JUDGEMENT, "judgement", key, value)?);
            Ok(true)
        })?;
        Ok(judgements)
    }
}

/// The key of a mark.
pub(crate) fn mark_key(trace: &Trace, id: u64) -> Vec<u8> {
    let mut key = trace.as_bytes().to_vec();
    key.extend_from_slice(&id.to_be_bytes());
    key
}

impl Core {
    /// Answers what is asked about judgements.
    pub(crate) fn judge(&self, ask: Ask) -> Result<Told, StoreError> {
        Ok(match ask {
            Ask::Forget { forget, label, saying, token } => {
                Told::Judgement(self.forget(&forget, label, saying, token)?)
            }
            Ask::Accept(message) => Told::Judgement(self.accept(*message)?),
            Ask::Revoke { id, saying } => Told::Judgement(self.revoke(id, saying)?),
            Ask::Judgements => Told::Judgements(self.index.judgements()?),
            Ask::Judged(traces) => Told::Judged(self.judged(&traces)?),
            Ask::JudgedRow(version) => {
                let trace = self.index.row(&version)?;
                Told::Judged(self.judged(trace.as_slice())?)
            }
        })
    }

    /// The judgement because of which the result of a trace is the copy of another's.
    pub(crate) fn accepted(&self, trace: &Trace) -> Result<Option<Judgement>, StoreError> {
        let mark = self.marks.of(trace).into_iter().find(|(_, mark)| *mark == Mark::Accepted);
        mark.map_or(Ok(None), |(id, _)| self.index.judgement(id))
    }

    /// The number of the next judgement, or the one that was given with this token already.
    fn next(&self, token: u64) -> Result<Result<u64, Judgement>, StoreError> {
        let judgements = self.index.judgements()?;
        let last = judgements.last().map_or(0, |judgement| judgement.id);
        Ok(match judgements.into_iter().find(|judgement| judgement.token == token) {
            Some(judgement) => Err(judgement),
            None => Ok(last + 1),
        })
    }

    fn forget(
        &self,
        forget: &Forget,
        label: String,
        saying: Saying,
        token: u64,
    ) -> Result<Option<Judgement>, StoreError> {
        let mut journal = self.journal();
        let id = match self.next(token)? {
            Ok(id) => id,
            Err(given) => return Ok(Some(given)),
        };
        let trace = forget.trace;
        let Some(record) = self.index.result(&trace)?.filter(|_| !self.marks.forgotten(&trace)) else {
            return Ok(None);
        };
        let as_seen = apply::digests(&record) == forget.digests;
        let spared = if as_seen { forget.spared.iter().copied().collect() } else { BTreeSet::new() };
        let mut roots = vec![trace];
        for (also, record) in forget.also.iter().zip(self.index.results(&forget.also)?) {
            roots.extend(record.map(|_| *also));
        }
        let traces = self.made_from(&roots, &spared)?;
        // What no row names is kept of another result, or nothing is found by it any longer: it goes too, and is nothing
        // that anybody would count.
        let mut reached = 1;
        for other in traces.iter().filter(|other| **other != trace) {
            reached += u64::from(!self.index.referred(other.as_bytes(), refs::ROW)?.is_empty());
        }
        let said = Said::Forget;
        let judgement =
            Judgement { id, said, saying, label, trace, from: None, reached, revoked: None, token };
        let change = Change::Forgotten(Box::new(NewForgotten { judgement: judgement.clone(), traces }));
        self.write(&mut journal, &change, Vec::new())?;
        let end = journal.end();
        drop(journal);
        self.acknowledge(end)?;
        Ok(Some(judgement))
    }

    /// Results and all that was made from them, directly or not, but for what is spared of what was made directly from
    /// the first.
    fn made_from(&self, roots: &[Trace], spared: &BTreeSet<Trace>) -> Result<Vec<Trace>, StoreError> {
        let first = roots.first().copied();
        let mut seen: BTreeSet<Trace> = roots.iter().copied().collect();
        let mut open: Vec<Trace> = seen.iter().copied().collect();
        while let Some(trace) = open.pop() {
            for child in self.index.referred_hashes(trace.as_bytes(), refs::CHILD)? {
                let child = Trace::from_bytes(child);
                if (Some(trace) != first || !spared.contains(&child)) && seen.insert(child) {
                    open.push(child);
                }
            }
        }
        Ok(seen.into_iter().collect())
    }

    fn accept(&self, message: AcceptMessage) -> Result<Option<Judgement>, StoreError> {
        // What the old result names must not go while the new one begins to name it.
        let _shared = self.gate.read().unwrap_or_else(PoisonError::into_inner);
        let AcceptMessage { trace, from, rows, facts, history, label, saying, token } = message;
        let mut journal = self.journal();
        let id = match self.next(token)? {
            Ok(id) => id,
            Err(given) => return Ok(Some(given)),
        };
        let old = self.index.result(&trace)?;
        let taken = old.is_some() && !self.marks.forgotten(&trace);
        let Some(record) = self.index.result(&from)?.filter(|_| !taken && !self.marks.forgotten(&from))
        else {
            return Ok(None);
        };
        let provenance: Option<tables::ProvenanceRow> = match self
            .index
            .get(Family::Provenance, from.as_bytes())?
        {
            Some(bytes) => {
                Some(self.index.decode(tables::kind::PROVENANCE, "provenance", from.as_bytes(), &bytes)?)
            }
            None => None,
        };
        // Made from what answers, too: forgetting that forgets this.
        let above = self.index.referred_hashes(from.as_bytes(), refs::PARENT)?;
        let mut parents: Vec<Trace> = above.into_iter().map(Trace::from_bytes).collect();
        parents.push(from);
        parents.retain(|parent| *parent != trace);
        let (said, reached) = (Said::Accept, 1);
        let judgement =
            Judgement { id, said, saying, label, trace, from: Some(from), reached, revoked: None, token };
        let result = NewResult {
            trace,
            record,
            provenance: provenance.map(|row| row.provenance).unwrap_or_default(),
            parents,
            blobs: NewBlobs::default(),
            rows,
            facts: facts.into_iter().map(|(version, fact)| (version, fact.0)).collect(),
            history,
        };
        let change = Change::Accepted(Box::new(NewAccepted { judgement: judgement.clone(), result }));
        self.write(&mut journal, &change, Vec::new())?;
        let end = journal.end();
        drop(journal);
        if let Some(old) = &old {
            self.keep_bytes_of(&trace, old);
        }
        self.acknowledge(end)?;
        Ok(Some(judgement))
    }

    fn revoke(&self, id: u64, saying: Saying) -> Result<Option<Judgement>, StoreError> {
        let mut journal = self.journal();
        match self.index.judgement(id)? {
            // Revoked just so: the answer to that was lost.
            Some(judgement) if judgement.revoked.as_ref() == Some(&saying) => return Ok(Some(judgement)),
            Some(judgement) if judgement.revoked.is_none() => {}
            Some(_) | None => return Ok(None),
        }
        self.write(&mut journal, &Change::Revoked { id, saying }, Vec::new())?;
        let end = journal.end();
        drop(journal);
        self.acknowledge(end)?;
        self.index.judgement(id)
    }

    fn judged(&self, traces: &[Trace]) -> Result<Vec<Judged>, StoreError> {
        let found = self.find(traces)?;
        let mut known: BTreeMap<u64, Judgement> = BTreeMap::new();
        let mut all = Vec::with_capacity(traces.len());
        for (trace, found) in traces.iter().zip(found) {
            let mut marks = Vec::new();
            for (id, mark) in self.marks.of(trace) {
                if let std::collections::btree_map::Entry::Vacant(vacant) = known.entry(id)
                    && let Some(judgement) = self.index.judgement(id)?
                {
                    vacant.insert(judgement);
                }
                marks.extend(known.get(&id).map(|judgement| (mark, judgement.clone())));
            }
            all.push(Judged { found, marks });
        }
        Ok(all)
    }
}
