//! Garbage collection: what goes, in what order, and why.
//!
//! Nothing that is pinned, that a live connection was told is present, or that is noted of a run that goes on, goes. What nothing names goes first, so
//! that no result is given up for room that this makes. What a policy asks for goes behind it, in an order that
//! depends on the results alone: first what is too old, then what is cheapest to rebuild per byte and longest
//! unused. The order is sorted in the index's scratch family, so memory does not grow with the store. A dry run
//! walks the same order with the same rules and changes nothing.
//!
//! Work is done in short steps, each whole: rows first, then files (on a full disk, files first, because
//! even taking something away needs room in the journal). Killed at any point, it leaves at worst files
//! that nothing names, and the next collection finds those.

mod ahead;
mod keepers;
mod order;
mod removal;

use std::collections::HashMap;
use std::sync::PoisonError;
use std::time::Duration;

use crate::apply;
use crate::begun::GoingOn;
use crate::change::Change;
use crate::crash;
use crate::digest::{Digest, Trace};
use crate::error::StoreError;
use crate::host::{Core, count, free_bytes};
use crate::index::Family;
use crate::journal::Position;
use crate::layout::BlobName;
use crate::record::Evicted;
use crate::tables::{self, refs};
use crate::wire::Response;
use ahead::{Ahead, Known, Next};
use order::{CLASS_ROOM, ORDER, RANKS, RECORD_ORDER, Rank, Subject};
use removal::Alone;

pub use crate::garbage::{CollectReport, Garbage, Going, Mode, Policy, Why};

/// A collection that is under way.
pub(crate) struct Session {
    number: u64,
    policy: Policy,
    now_ms: u64,
    mode: Mode,
    phase: Phase,
    free_bytes: u64,
    going_on: GoingOn,
    report: CollectReport,
    /// Ranks that were worked out already; emptied when it has many.
    ranks: HashMap<Subject, Option<Rank>>,
    /// What stands next in the order.
    ahead: Ahead,
}

/// A result or run whose turn it is to lose its bytes.
struct Due {
    what: Garbage,
    /// All that it names.
    blobs: Vec<Digest>,
    /// Those of them that nothing else names, as it was found when the journal ended there.
    alone: Vec<(Digest, tables::BlobRow)>,
    until: Option<Position>,
    /// How many bytes that is to free; `None` if all of them stay.
    planned: Option<u64>,
    cost_ms: u64,
    used_ms: u64,
}

/// In the order in which they come. What results, records and runs let go of goes with them, so that nothing is left
/// behind by a later phase for an earlier one.
enum Phase {
    /// Blobs without a name, behind this digest.
    Blobs(Option<Digest>),
    /// Files without a blob, behind this name.
    Files(Option<BlobName>),
    /// Bytes, in the order of scratch, behind this key.
    Bytes(Vec<u8>),
    /// Records, in the order of scratch, behind this key.
    Records(Vec<u8>),
    /// Runs, behind this number.
    Runs(u64),
    Done,
}

/// So many blobs at a time are looked at, whether anything names them.
const BLOB_PAGE: u64 = 4096;

/// Before what a dry run would have taken away, in scratch.
const GONE: u8 = b'g';

impl Core {
    /// Begins a collection; gives its number.
    pub(crate) fn collect_begin(&self, policy: Policy, now_ms: u64, mode: Mode) -> Result<u64, StoreError> {
        let mut slot = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        self.make_room(|| self.index.clear_scratch())?;
        if mode == Mode::Collect {
            self.drop_dead_imports()?;
        }
        let number = slot.as_ref().map_or(0, |session| session.number) + 1;
        let mut session = Session {
            number,
            policy,
            now_ms,
            mode,
            phase: Phase::Blobs(None),
            free_bytes: self.free_bytes()?,
            going_on: GoingOn::now(&self.index, &self.layout)?,
            report: CollectReport::default(),
            ranks: HashMap::new(),
            ahead: Ahead::default(),
        };
        // All of it, before anything goes: what is taken away may be a folder with files that stand anywhere behind it.
        self.index.scan_once(Family::Blobs, &[], &mut |key, value| {
            let row: tables::BlobRow = self.index.decode(tables::kind::BLOB, "blob", key, value)?;
            session.report.size_before_bytes += row.stored_len;
            Ok(true)
        })?;
        if !session.policy.is_empty() {
            self.put_in_order(&mut session)?;
        }
        crash::point("collect.ordered");
        *slot = Some(session);
        Ok(number)
    }

    /// Goes on with a collection, until about `limit` things went.
    pub(crate) fn collect_next(&self, number: u64, limit: u64) -> Result<Response, StoreError> {
        let mut slot = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(session) = slot.as_mut().filter(|session| session.number == number) else {
            return Err(self.index_error("this collection was given up, because another one was begun"));
        };
        let mut going = Vec::new();
        while going.len() < count(limit).max(1) && !matches!(session.phase, Phase::Done) {
            session.phase = match std::mem::replace(&mut session.phase, Phase::Done) {
                Phase::Blobs(after) => self.collect_blobs(session, after, &mut going)?,
                Phase::Files(after) => self.collect_files(session, after, limit, &mut going)?,
                Phase::Bytes(after) => self.collect_bytes(session, &after, &mut going)?,
                Phase::Records(after) => self.collect_records(session, &after, &mut going)?,
                Phase::Runs(after) => self.collect_runs(session, after, &mut going)?,
                Phase::Done => Phase::Done,
            };
        }
        let done = matches!(session.phase, Phase::Done);
        let report = session.report.clone();
        if done {
            let collected = session.mode == Mode::Collect;
            *slot = None;
            self.index.clear_scratch()?;
            if collected {
                self.compact_journal()?;
            }
        }
        Ok(Response::Collected { going, done, report })
    }

    /// One step of the phase in which recorded blobs go that nothing names.
    fn collect_blobs(
        &self,
        session: &mut Session,
        after: Option<Digest>,
        going: &mut Vec<Going>,
    ) -> Result<Phase, StoreError> {
        let page = self.blob_row_page(after, BLOB_PAGE)?;
        let Some((last, _)) = page.last() else { return Ok(Phase::Files(None)) };
        let next = Phase::Blobs(Some(*last));
        let digests: Vec<Digest> = page.iter().map(|(digest, _)| *digest).collect();
        let named = self.named(&digests)?;
        for ((digest, row), is_named) in page.iter().zip(named) {
            if is_named || self.is_read(&[*digest])? {
                continue;
            }
            let bytes =
                match session.mode {
                    Mode::DryRun => {
                        self.mark_gone(digest.as_bytes())?;
                        let mut bytes = row.stored_len;
                        for file in self.index.tree_files(digest)? {
                            if self.keepers(&file)?.iter().all(|keeper| {
                                keeper.0 == refs::TREE && self.is_gone(&keeper.1).unwrap_or(false)
                            }) {
                                bytes += self.index.blob_row(&file)?.map_or(0, |row| row.stored_len);
                            }
                        }
                        bytes
                    }
                    Mode::Collect => {
                        let change = Change::Unnamed { blobs: vec![*digest] };
                        // Something may have come to name it since the page was looked at.
                        match self.take_away(&change, &[*digest], |core| Ok(!core.is_named(digest)?))? {
                            Some(bytes) => bytes,
                            None => continue,
                        }
                    }
                };
            session.report.unnamed += 1;
            session.report.freed_bytes += bytes;
            let what = Garbage::Blob { digest: *digest };
            going.push(Going { what, why: Why::Unnamed, bytes, cost_ms: 0, used_ms: 0 });
        }
        Ok(next)
    }

    /// The phase in which files go that no recorded blob has.
    fn collect_files(
        &self,
        session: &mut Session,
        after: Option<BlobName>,
        limit: u64,
        going: &mut Vec<Going>,
    ) -> Result<Phase, StoreError> {
        // A host that died between naming a file and recording it leaves its client to say the same again.
        if self.awaits_repeats() {
            return Ok(Phase::Bytes(vec![ORDER]));
        }
        let mut found = Vec::new();
        let mut failed = None;
        let mut whole = true;
        self.files.list(&mut |name, len| {
            if after.is_some_and(|after| name <= after) {
                return true;
            }
            match self.is_recorded(&name) {
                Ok(true) => {}
                Ok(false) => found.push((name, len)),
                Err(error) => failed = Some(error),
            }
            whole = found.len() < count(limit).max(1);
            failed.is_none() && whole
        })?;
        if let Some(error) = failed {
            return Err(error);
        }
        let last = found.last().map(|(name, _)| *name);
        for (name, len) in found {
            // A commit may have been between giving the file its name and recording it.
            let _alone = self.gate.write().unwrap_or_else(PoisonError::into_inner);
            if self.is_recorded(&name)? {
                continue;
            }
            let bytes = match session.mode {
                Mode::DryRun => len,
                Mode::Collect => self.files.remove_unnamed(&name)?,
            };
            crash::point("collect.file-removed");
            session.report.unnamed += 1;
            session.report.freed_bytes += bytes;
            session.report.size_before_bytes += bytes;
            let what = Garbage::Blob { digest: name.digest };
            going.push(Going { what, why: Why::Unnamed, bytes, cost_ms: 0, used_ms: 0 });
        }
        Ok(if whole { Phase::Bytes(vec![ORDER]) } else { Phase::Files(last) })
    }

    /// One step of the phase in which results and runs lose their bytes.
    fn collect_bytes(
        &self,
        session: &mut Session,
        after: &[u8],
        going: &mut Vec<Going>,
    ) -> Result<Phase, StoreError> {
        let Some(Next { rank, known }) = self.next_in_order(session, after)? else {
            return Ok(Phase::Records(vec![RECORD_ORDER]));
        };
        let Some(why) = session.due(&rank).or_else(|| session.pressed()) else {
            // There is room: all that is behind in the order stays.
            session.ahead = Ahead::default();
            return Ok(Phase::Records(vec![RECORD_ORDER]));
        };
        let next = Phase::Bytes(rank.key());
        let Some(Due { what, blobs, alone, until, planned, cost_ms, used_ms }) =
            self.due(session, &rank, known)?
        else {
            return Ok(next);
        };
        let bytes = match session.mode {
            Mode::DryRun => planned.unwrap_or(0),
            Mode::Collect => {
                let evicted = Evicted { at_ms: session.now_ms, why: why.to_string() };
                let (traces, runs) = match rank.subject {
                    Subject::Result(trace) => (vec![trace], Vec::new()),
                    Subject::Run(id) => (Vec::new(), vec![id]),
                };
                let change = Change::Evicted { traces, runs, evicted };
                let now_ms = session.now_ms;
                let as_looked_at = session.ahead.until == until;
                let mut alone = Alone { blobs: &alone, until };
                let went = self.take_away_knowing(&change, &blobs, &mut alone, |core| match rank.subject {
                    Subject::Result(trace) => core.may_go(&trace, now_ms),
                    Subject::Run(_) => Ok(true),
                });
                if as_looked_at {
                    session.ahead.until = alone.until;
                }
                match went? {
                    Some(bytes) => bytes,
                    None => return Ok(next),
                }
            }
        };
        match rank.subject {
            Subject::Result(_) => {
                session.report.results += 1;
                session.report.rebuild_ms = session.report.rebuild_ms.saturating_add(cost_ms);
            }
            Subject::Run(_) => session.report.run_logs += 1,
        }
        session.report.freed_bytes += bytes;
        going.push(Going { what, why, bytes, cost_ms, used_ms });
        Ok(next)
    }

    /// What goes with a subject whose turn it is; `None` where nothing does.
    fn due(
        &self,
        session: &mut Session,
        rank: &Rank,
        known: Option<Known>,
    ) -> Result<Option<Due>, StoreError> {
        session.ranks.remove(&rank.subject);
        let (trace, mut known) = match rank.subject {
            Subject::Result(trace) => (trace, known),
            Subject::Run(id) => {
                let Some(now) = self.rank(session, rank.subject)? else { return Ok(None) };
                let Some(row) = self.index.run(id)?.filter(|_| now.class <= rank.class) else {
                    return Ok(None);
                };
                let planned = self.freed_at(session, rank, &row.blobs)?;
                let (what, blobs, alone) = (Garbage::RunLogs { id }, row.blobs, Vec::new());
                let due = Due { what, blobs, alone, until: None, planned, cost_ms: 0, used_ms: 0 };
                return Ok(Some(due).filter(|due| rank.class != CLASS_ROOM || due.planned.is_some()));
            }
        };
        let mut until = None;
        if session.mode == Mode::Collect {
            let end = self.journal().end();
            // Somebody wrote since it was looked at: it may have been used, pinned or replaced.
            if session.ahead.until != Some(end) {
                known = self.know(session, &[trace])?.pop().flatten();
            }
            until = Some(end);
        }
        let Some(known) = known else { return Ok(None) };
        let Some(now) = known.now else { return Ok(None) };
        session.remember(rank.subject, Some(now));
        if now.class > rank.class {
            return Ok(None);
        }
        // What it alone keeps goes with it.
        let alone = known.alone;
        let alone_bytes = (!alone.is_empty()).then(|| match now <= *rank {
            true => alone.iter().map(|(_, row)| row.stored_len).sum::<u64>(),
            false => 0,
        });
        let shared_bytes = match known.shared.as_slice() {
            [] => None,
            shared => self.freed_at(session, rank, shared)?,
        };
        let planned = match (alone_bytes, shared_bytes) {
            (None, None) => None,
            (alone, shared) => Some(alone.unwrap_or(0) + shared.unwrap_or(0)),
        };
        if rank.class == CLASS_ROOM && planned.is_none() {
            // Everything it names stays for somebody else's sake: giving it up would free nothing.
            return Ok(None);
        }
        let what = Garbage::Bytes { trace, labels: known.labels };
        let blobs = alone.iter().map(|(digest, _)| *digest).chain(known.shared).collect();
        Ok(Some(Due { what, blobs, alone, until, planned, cost_ms: known.cost_ms, used_ms: known.used_ms }))
    }

    /// One step of the phase in which records go whose bytes are gone.
    fn collect_records(
        &self,
        session: &mut Session,
        after: &[u8],
        going: &mut Vec<Going>,
    ) -> Result<Phase, StoreError> {
        let Some(age) = session.policy.record_age() else { return Ok(Phase::Done) };
        let Some(key) = self.next_in_scratch(after, RECORD_ORDER)? else { return Ok(Phase::Runs(0)) };
        let trace = key.get(9..).and_then(|bytes| <[u8; 32]>::try_from(bytes).ok()).map(Trace::from_bytes);
        let next = Phase::Records(key);
        let Some(trace) = trace else { return Ok(next) };
        let Some(record) = self.index.result(&trace)? else { return Ok(next) };
        let used_ms = self.last_use(&trace, &record)?;
        if !self.may_lose_record(session, &trace, &record, used_ms)? || self.has_live_children(&trace)? {
            return Ok(next);
        }
        let labels = self.labels_of(&trace)?;
        let bytes = match session.mode {
            Mode::DryRun => {
                self.mark_gone(trace.as_bytes())?;
                0
            }
            Mode::Collect => {
                let change = Change::Removed { traces: vec![trace], runs: Vec::new() };
                let now_ms = session.now_ms;
                let blobs: Vec<Digest> = apply::named_by(&record).into_iter().collect();
                match self.take_away(&change, &blobs, |core| core.may_go(&trace, now_ms))? {
                    Some(bytes) => bytes,
                    None => return Ok(next),
                }
            }
        };
        session.report.records += 1;
        session.report.freed_bytes += bytes;
        let what = Garbage::Record { trace, labels };
        let why = Why::MaxRecordAge(age);
        going.push(Going { what, why, bytes, cost_ms: record.cost_ms, used_ms });
        Ok(next)
    }

    /// One step of the phase in which old runs go.
    fn collect_runs(
        &self,
        session: &mut Session,
        after: u64,
        going: &mut Vec<Going>,
    ) -> Result<Phase, StoreError> {
        let Some(age) = session.policy.record_age() else { return Ok(Phase::Done) };
        let mut found = None;
        self.index.scan(Family::Runs, &(after + 1).to_be_bytes(), &mut |key, value| {
            let id = self.index.number("the number of a run", key)?;
            let row: tables::RunRow = self.index.decode(tables::kind::RUN, "run", key, value)?;
            found = Some((id, row));
            Ok(false)
        })?;
        let Some((id, row)) = found else { return Ok(Phase::Done) };
        if session.age_of(row.at_ms) <= age {
            // Runs are numbered in the order of their times: those behind are younger.
            return Ok(Phase::Done);
        }
        if session.going_on.has(id, &row) {
            return Ok(Phase::Runs(id));
        }
        let bytes = match session.mode {
            // Its logs went in an earlier phase, as far as they go.
            Mode::DryRun => 0,
            Mode::Collect => {
                let change = Change::Removed { traces: Vec::new(), runs: vec![id] };
                self.take_away(&change, &row.blobs, |_| Ok(true))?.unwrap_or(0)
            }
        };
        session.report.runs += 1;
        session.report.freed_bytes += bytes;
        let why = Why::MaxRecordAge(age);
        going.push(Going { what: Garbage::Run { id }, why, bytes, cost_ms: 0, used_ms: row.at_ms });
        Ok(Phase::Runs(id))
    }

    fn compact_journal(&self) -> Result<(), StoreError> {
        let (all, snapshot) = self.journal().sizes()?;
        // A snapshot is worth its writing when it takes the place of more than twice as much.
        if all > 64 * 1024 * 1024 && all > snapshot.saturating_mul(3) {
            self.snapshot()?;
        }
        Ok(())
    }

    fn next_in_scratch(&self, after: &[u8], prefix: u8) -> Result<Option<Vec<u8>>, StoreError> {
        let mut from = after.to_vec();
        from.push(0);
        let mut next = None;
        self.index.scan(Family::Scratch, &from, &mut |key, _| {
            next = (key.first() == Some(&prefix)).then(|| key.to_vec());
            Ok(false)
        })?;
        Ok(next)
    }

    /// Notes what a dry run would have taken away.
    fn mark_gone(&self, id: &[u8]) -> Result<(), StoreError> {
        let mut batch = self.index.batch();
        batch.put(Family::Scratch, &[&[GONE], id].concat(), &[]);
        self.index.write(batch)
    }

    fn is_gone(&self, id: &[u8]) -> Result<bool, StoreError> {
        Ok(self.index.get(Family::Scratch, &[&[GONE], id].concat())?.is_some())
    }

    /// What is free on the store's file system, for this user.
    pub(crate) fn free_bytes(&self) -> Result<u64, StoreError> {
        free_bytes(self.root())
    }
}

impl Session {
    /// By what rule something goes however much room there is.
    fn due(&self, rank: &Rank) -> Option<Why> {
        let age = self.age_of(rank.used_ms);
        match rank.subject {
            Subject::Result(_) => self.policy.result_due(age),
            Subject::Run(_) => self.policy.run_logs_due(age),
        }
    }

    /// The bound that there is too little room for, if any.
    fn pressed(&self) -> Option<Why> {
        if let Some(max) = self.policy.max_size_bytes
            && self.report.size_after_bytes() > max
        {
            return Some(Why::MaxSize(max));
        }
        if let Some(min) = self.policy.min_free_bytes
            && self.free_bytes.saturating_add(self.report.freed_bytes) < min
        {
            return Some(Why::MinFree(min));
        }
        None
    }

    /// Keeps a rank that was worked out, for whatever else names the same blobs.
    fn remember(&mut self, subject: Subject, rank: Option<Rank>) {
        if self.ranks.len() >= RANKS {
            self.ranks.clear();
        }
        self.ranks.insert(subject, rank);
    }

    /// A clock that was set back makes nothing old.
    fn age_of(&self, at_ms: u64) -> Duration {
        Duration::from_millis(self.now_ms.saturating_sub(at_ms))
    }
}
