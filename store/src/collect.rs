//! Garbage collection: what goes, in what order, and why.
//!
//! Nothing that is pinned, or that a live connection was told is present, goes. What a policy asks for goes
//! in an order that depends on the results alone: first what is too old, then what is cheapest to rebuild
//! per byte and longest unused. The order is sorted in the index's scratch family, so memory does not grow
//! with the store. A dry run walks the same order with the same rules and changes nothing.
//!
//! Work is done in short steps, each whole: rows first, then files (on a full disk, files first, because
//! even taking something away needs room in the journal). Killed at any point, it leaves at worst files
//! that nothing names, and the next collection finds those.

use std::collections::{BTreeSet, HashMap};
use std::sync::PoisonError;
use std::time::Duration;

use crate::apply::{self, Dropped};
use crate::change::Change;
use crate::crash;
use crate::digest::{Digest, Trace};
use crate::error::StoreError;
use crate::host::{Core, count, free_bytes, is_full};
use crate::index::Family;
use crate::layout::BlobName;
use crate::record::{Evicted, ResultRecord};
use crate::tables::{self, refs};
use crate::wire::Response;

pub use crate::garbage::{CollectReport, Garbage, Going, Mode, Policy, Why};

/// A collection that is under way.
pub(crate) struct Session {
    number: u64,
    policy: Policy,
    now_ms: u64,
    mode: Mode,
    phase: Phase,
    free_bytes: u64,
    report: CollectReport,
    /// Ranks that were worked out already; emptied when it has many.
    ranks: HashMap<Subject, Option<Rank>>,
}

enum Phase {
    /// Bytes, in the order of scratch, behind this key.
    Bytes(Vec<u8>),
    /// Records, in the order of scratch, behind this key.
    Records(Vec<u8>),
    /// Runs, behind this number.
    Runs(u64),
    /// Blobs without a name, behind this digest.
    Blobs(Option<Digest>),
    /// Files without a blob, behind this name.
    Files(Option<BlobName>),
    Done,
}

/// What can lose its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Subject {
    Result(Trace),
    Run(u64),
}

/// A place in the order in which things go: class, score, subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    class: u8,
    score: u128,
    subject: Subject,
}

/// What is too old goes whatever the size is; what is in this class goes first.
const CLASS_DUE: u8 = 0;
/// Goes only as far as there is too little room.
const CLASS_ROOM: u8 = 1;

/// How many ranks are remembered.
const RANKS: usize = 100_000;

// Prefixes of keys in scratch.
const ORDER: u8 = b'o';
const RECORD_ORDER: u8 = b'r';
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
            phase: Phase::Bytes(vec![ORDER]),
            free_bytes: self.free_bytes()?,
            report: CollectReport::default(),
            ranks: HashMap::new(),
        };
        self.index.scan(Family::Blobs, &[], &mut |key, value| {
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
                Phase::Bytes(after) => self.collect_bytes(session, &after, &mut going)?,
                Phase::Records(after) => self.collect_records(session, &after, &mut going)?,
                Phase::Runs(after) => self.collect_runs(session, after, &mut going)?,
                Phase::Blobs(after) => self.collect_blobs(session, after, &mut going)?,
                Phase::Files(after) => self.collect_files(session, after, limit, &mut going)?,
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

    /// Sorts what may go into scratch.
    fn put_in_order(&self, session: &mut Session) -> Result<(), StoreError> {
        let mut batch = self.index.batch();
        self.index.scan(Family::Results, &[], &mut |key, value| {
            let Ok(bytes) = <[u8; 32]>::try_from(key) else { return Ok(true) };
            let trace = Trace::from_bytes(bytes);
            let record = self.index.decode_result(key, value)?;
            if let Some(rank) = self.rank_result(session, &trace, &record)? {
                batch.put(Family::Scratch, &rank.key(), &[]);
            } else if self.may_lose_record(session, &trace, &record)? {
                let mut key = vec![RECORD_ORDER];
                // What was made last goes first: it is made from what was there before.
                key.extend_from_slice(&(!record.made_ms).to_be_bytes());
                key.extend_from_slice(trace.as_bytes());
                batch.put(Family::Scratch, &key, &[]);
            }
            if record.evicted.is_none() {
                session.report.kept_pinned += u64::from(self.is_pinned(&trace, session.now_ms)?);
                session.report.kept_in_use += u64::from(self.is_leased(&trace));
            }
            if batch.size() > 1 << 20 {
                self.index.write(std::mem::replace(&mut batch, self.index.batch()))?;
            }
            Ok(true)
        })?;
        self.index.scan(Family::Runs, &[], &mut |key, value| {
            let id = self.index.number("the number of a run", key)?;
            let row: tables::RunRow = self.index.decode(tables::kind::RUN, "run", key, value)?;
            if let Some(rank) = self.rank_run(session, id, &row) {
                batch.put(Family::Scratch, &rank.key(), &[]);
            }
            Ok(true)
        })?;
        self.index.write(batch)
    }

    /// One step of the phase in which results and runs lose their bytes.
    fn collect_bytes(
        &self,
        session: &mut Session,
        after: &[u8],
        going: &mut Vec<Going>,
    ) -> Result<Phase, StoreError> {
        let Some(key) = self.next_in_scratch(after, ORDER)? else {
            return Ok(Phase::Records(vec![RECORD_ORDER]));
        };
        let Some(rank) = Rank::from_key(&key) else {
            return Err(self.index.damaged("scratch", "holds a key of a wrong form"));
        };
        let why = match rank.class {
            CLASS_DUE => match (session.policy.max_age, session.policy.keep_last) {
                (Some(age), _) => Why::MaxAge(age),
                (None, keep) => Why::KeepLast(keep.unwrap_or_default()),
            },
            _ => match session.pressed() {
                Some(why) => why,
                // There is room: all that is behind in the order stays.
                None => return Ok(Phase::Records(vec![RECORD_ORDER])),
            },
        };
        let next = Phase::Bytes(key);
        // It may have been used, pinned or replaced since it was put in order.
        session.ranks.remove(&rank.subject);
        let Some(now) = self.rank(session, rank.subject)? else { return Ok(next) };
        if now.class > rank.class {
            return Ok(next);
        }
        let blobs = self.named_by_subject(rank.subject)?;
        let planned = self.freed_at(session, &rank, &blobs)?;
        if rank.class == CLASS_ROOM && planned.is_none() {
            // Everything it names stays for somebody else's sake: giving it up would free nothing.
            return Ok(next);
        }
        let (cost_ms, used_ms, what) = match rank.subject {
            Subject::Result(trace) => {
                let Some(record) = self.index.result(&trace)? else { return Ok(next) };
                let used_ms = self.last_use(&trace, &record)?;
                (record.cost_ms, used_ms, Garbage::Bytes { trace, labels: self.labels_of(&trace)? })
            }
            Subject::Run(id) => (0, 0, Garbage::RunLogs { id }),
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
                match self.take_away(&change, &blobs, |core| match rank.subject {
                    Subject::Result(trace) => core.may_go(&trace, now_ms),
                    Subject::Run(_) => Ok(true),
                })? {
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
            Subject::Run(_) => session.report.runs += 1,
        }
        session.report.freed_bytes += bytes;
        going.push(Going { what, why, bytes, cost_ms, used_ms });
        Ok(next)
    }

    /// One step of the phase in which records go whose bytes are gone.
    fn collect_records(
        &self,
        session: &mut Session,
        after: &[u8],
        going: &mut Vec<Going>,
    ) -> Result<Phase, StoreError> {
        let Some(age) = session.policy.record_age() else { return Ok(Phase::Blobs(None)) };
        let Some(key) = self.next_in_scratch(after, RECORD_ORDER)? else { return Ok(Phase::Runs(0)) };
        let trace = key.get(9..).and_then(|bytes| <[u8; 32]>::try_from(bytes).ok()).map(Trace::from_bytes);
        let next = Phase::Records(key);
        let Some(trace) = trace else { return Ok(next) };
        let Some(record) = self.index.result(&trace)? else { return Ok(next) };
        if !self.may_lose_record(session, &trace, &record)? || self.has_live_children(&trace)? {
            return Ok(next);
        }
        let labels = self.labels_of(&trace)?;
        let used_ms = self.last_use(&trace, &record)?;
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
        let Some(age) = session.policy.record_age() else { return Ok(Phase::Blobs(None)) };
        let mut found = None;
        self.index.scan(Family::Runs, &(after + 1).to_be_bytes(), &mut |key, value| {
            let id = self.index.number("the number of a run", key)?;
            let row: tables::RunRow = self.index.decode(tables::kind::RUN, "run", key, value)?;
            found = Some((id, row));
            Ok(false)
        })?;
        let Some((id, row)) = found else { return Ok(Phase::Blobs(None)) };
        if session.age_of(row.at_ms) <= age {
            // Runs are numbered in the order of their times: those behind are younger.
            return Ok(Phase::Blobs(None));
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

    /// One step of the phase in which recorded blobs go that nothing names.
    fn collect_blobs(
        &self,
        session: &mut Session,
        after: Option<Digest>,
        going: &mut Vec<Going>,
    ) -> Result<Phase, StoreError> {
        let page = self.blob_page(after, 256)?;
        let Some((last, _)) = page.last() else { return Ok(Phase::Files(None)) };
        let next = Phase::Blobs(Some(*last));
        for (digest, record) in &page {
            if self.is_named(digest)? || self.is_any_leased(&[*digest]) {
                continue;
            }
            let bytes =
                match session.mode {
                    Mode::DryRun => {
                        self.mark_gone(digest.as_bytes())?;
                        let mut bytes = record.stored_len;
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
                        match self.take_away(&change, &[*digest], |_| Ok(true))? {
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
            return Ok(Phase::Done);
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
        Ok(if whole { Phase::Done } else { Phase::Files(last) })
    }

    /// Whether a pin that has not run out names a row of this result.
    fn is_pinned(&self, trace: &Trace, now_ms: u64) -> Result<bool, StoreError> {
        for row in self.index.referred_hashes(trace.as_bytes(), refs::ROW)? {
            let pin = self.index.pin(&crate::digest::Version::from_bytes(row))?;
            if pin.is_some_and(|pin| pin.until_ms.is_none_or(|until| until > now_ms)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether nobody wants a result now, asked while nobody else can come to want it: it may have been pinned
    /// or promised to somebody since the order was made.
    fn may_go(&self, trace: &Trace, now_ms: u64) -> Result<bool, StoreError> {
        Ok(!self.is_leased(trace) && !self.is_pinned(trace, now_ms)?)
    }

    /// Removes recorded blobs, as far as nothing names them and nobody reads them.
    pub(crate) fn remove_unnamed_blobs(&self, blobs: &[Digest]) -> Result<(), StoreError> {
        for digest in blobs {
            if !self.is_named(digest)? {
                let change = Change::Unnamed { blobs: vec![*digest] };
                self.take_away(&change, &[*digest], |_| Ok(true))?;
            }
        }
        Ok(())
    }

    /// Whether somebody reads one of these blobs, or a file of one that is a tree.
    fn is_read(&self, blobs: &[Digest]) -> Result<bool, StoreError> {
        for digest in blobs {
            if self.is_any_leased(&[*digest]) || self.is_any_leased(&self.index.tree_files(digest)?) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Writes a change that takes something away, which names `blobs`, then removes the files that it let go
    /// of. `None` if `still` says that it must not be taken away any longer, or somebody reads any of them:
    /// bytes that were promised to whoever reads a replaced result may have no other keeper.
    fn take_away(
        &self,
        change: &Change,
        blobs: &[Digest],
        still: impl Fn(&Self) -> Result<bool, StoreError>,
    ) -> Result<Option<u64>, StoreError> {
        let _alone = self.gate.write().unwrap_or_else(PoisonError::into_inner);
        if !still(self)? || self.is_read(blobs)? {
            return Ok(None);
        }
        let mut journal = self.journal();
        crash::point("collect.before-rows");
        let dropped = match self.write(&mut journal, change, Vec::new()) {
            Err(StoreError::Io { source, .. }) if is_full(&source) => {
                // Not even taking away fits: first make room. A row without its file is a miss.
                self.remove_files_first(change, blobs)?;
                self.write(&mut journal, change, Vec::new())?
            }
            other => other?,
        };
        drop(journal);
        crash::point("collect.after-rows");
        self.remove_files(&dropped).map(Some)
    }

    fn remove_files(&self, dropped: &Dropped) -> Result<u64, StoreError> {
        let mut bytes = 0;
        for (digest, record) in &dropped.blobs {
            self.files.remove(digest, record)?;
            bytes += record.stored_len;
            crash::point("collect.file-removed");
        }
        Ok(bytes)
    }

    /// Removes the files of blobs that only what `change` takes away names.
    fn remove_files_first(&self, change: &Change, blobs: &[Digest]) -> Result<(), StoreError> {
        let goes = |keeper: &(u8, Vec<u8>)| match change {
            Change::Evicted { traces, runs, .. } | Change::Removed { traces, runs } => match keeper.0 {
                refs::OUTPUT | refs::LOG => {
                    traces.iter().any(|trace| trace.as_bytes() == keeper.1.as_slice())
                }
                refs::RUN => runs.iter().any(|run| run.to_be_bytes() == keeper.1.as_slice()),
                refs::TREE => blobs.iter().any(|tree| tree.as_bytes() == keeper.1.as_slice()),
                _ => false,
            },
            Change::Unnamed { .. } => true,
            _ => false,
        };
        for digest in blobs {
            let mut all = vec![*digest];
            all.extend(self.index.tree_files(digest)?);
            for digest in all {
                if self.keepers(&digest)?.iter().all(goes)
                    && let Some(row) = self.index.blob_row(&digest)?
                    && !row.inline
                {
                    self.files.remove(&digest, &row.without_bytes())?;
                }
            }
        }
        Ok(())
    }

    fn compact_journal(&self) -> Result<(), StoreError> {
        let (all, snapshot) = self.journal().sizes()?;
        // A snapshot is worth its writing when it takes the place of more than twice as much.
        if all > 64 * 1024 * 1024 && all > snapshot.saturating_mul(3) {
            self.snapshot()?;
        }
        Ok(())
    }

    // The order.

    fn rank(&self, session: &mut Session, subject: Subject) -> Result<Option<Rank>, StoreError> {
        if let Some(rank) = session.ranks.get(&subject) {
            return Ok(*rank);
        }
        let rank = match subject {
            Subject::Result(trace) => match self.index.result(&trace)? {
                Some(record) => self.rank_result(session, &trace, &record)?,
                None => None,
            },
            Subject::Run(id) => self.index.run(id)?.and_then(|row| self.rank_run(session, id, &row)),
        };
        if session.ranks.len() >= RANKS {
            session.ranks.clear();
        }
        session.ranks.insert(subject, rank);
        Ok(rank)
    }

    /// Where a result stands in the order; `None` if it keeps its bytes.
    fn rank_result(
        &self,
        session: &Session,
        trace: &Trace,
        record: &ResultRecord,
    ) -> Result<Option<Rank>, StoreError> {
        if record.evicted.is_some()
            || apply::named_by(record).is_empty()
            || self.is_pinned(trace, session.now_ms)?
            || self.is_leased(trace)
        {
            return Ok(None);
        }
        let policy = &session.policy;
        let age = session.age_of(self.last_use(trace, record)?);
        let is_old = policy.max_age.is_some_and(|max| age > max);
        let by_size = policy.max_size_bytes.is_some() || policy.min_free_bytes.is_some();
        if !is_old && !by_size && !policy.only_keeps_last() {
            return Ok(None);
        }
        if let Some(number) = policy.keep_last {
            let labels = self.labels_of(trace)?;
            if labels.is_empty() && policy.only_keeps_last() {
                return Ok(None);
            }
            for label in &labels {
                if self.is_among_last(label, trace, number)? {
                    return Ok(None);
                }
            }
        }
        let class = if is_old || policy.only_keeps_last() { CLASS_DUE } else { CLASS_ROOM };
        let len: u64 = record
            .outputs
            .iter()
            .filter_map(|output| output.artifact.as_ref())
            .fold(0, |sum: u64, artifact| sum.saturating_add(artifact.len));
        let score = score(record.cost_ms, len, age);
        Ok(Some(Rank { class, score, subject: Subject::Result(*trace) }))
    }

    /// Where a run's logs stand in the order; `None` if they stay.
    fn rank_run(&self, session: &Session, id: u64, row: &tables::RunRow) -> Option<Rank> {
        let policy = &session.policy;
        if row.blobs.is_empty() {
            return None;
        }
        let age = session.age_of(row.at_ms);
        let is_old =
            policy.max_age.is_some_and(|max| age > max) || policy.record_age().is_some_and(|max| age > max);
        let by_size = policy.max_size_bytes.is_some() || policy.min_free_bytes.is_some();
        let class = match (is_old, by_size) {
            (true, _) => CLASS_DUE,
            // The run that is going on writes its logs now.
            (false, true) if age > Duration::from_secs(24 * 3600) => CLASS_ROOM,
            (false, _) => return None,
        };
        // Logs of failures cannot be made again: they are taken as an hour's work.
        Some(Rank { class, score: score(3_600_000, 0, age), subject: Subject::Run(id) })
    }

    fn may_lose_record(
        &self,
        session: &Session,
        trace: &Trace,
        record: &ResultRecord,
    ) -> Result<bool, StoreError> {
        let Some(max) = session.policy.record_age() else { return Ok(false) };
        if self.is_pinned(trace, session.now_ms)?
            || self.is_leased(trace)
            || session.age_of(self.last_use(trace, record)?) <= max
        {
            return Ok(false);
        }
        let named: Vec<Digest> = apply::named_by(record).into_iter().collect();
        let has_bytes = self.index.blob_rows(&named)?.iter().any(Option::is_some);
        Ok(record.evicted.is_some() || !has_bytes)
    }

    /// How many bytes go when the last in the order that names any of `blobs` is this one; `None` if all of
    /// them stay for the sake of something that keeps its bytes.
    fn freed_at(
        &self,
        session: &mut Session,
        at: &Rank,
        blobs: &[Digest],
    ) -> Result<Option<u64>, StoreError> {
        let mut bytes = 0;
        let mut any_goes = blobs.is_empty();
        for digest in blobs {
            let Some(last) = self.last_keeper(session, digest)? else { continue };
            any_goes = true;
            if last > *at {
                continue;
            }
            bytes += self.index.blob_row(digest)?.map_or(0, |row| row.stored_len);
            for file in self.index.tree_files(digest)? {
                if self.last_keeper(session, &file)?.is_some_and(|last| last <= *at) && !blobs.contains(&file)
                {
                    bytes += self.index.blob_row(&file)?.map_or(0, |row| row.stored_len);
                }
            }
        }
        Ok(any_goes.then_some(bytes))
    }

    /// The last in the order of all that name a blob; `None` if one of them is not in the order.
    fn last_keeper(&self, session: &mut Session, digest: &Digest) -> Result<Option<Rank>, StoreError> {
        let mut last = None;
        for (tag, key) in self.keepers(digest)? {
            let rank = match tag {
                refs::OUTPUT | refs::LOG => match <[u8; 32]>::try_from(key.as_slice()) {
                    Ok(bytes) => self.rank(session, Subject::Result(Trace::from_bytes(bytes)))?,
                    Err(_) => None,
                },
                refs::RUN => match <[u8; 8]>::try_from(key.as_slice()) {
                    Ok(bytes) => self.rank(session, Subject::Run(u64::from_be_bytes(bytes)))?,
                    Err(_) => None,
                },
                refs::TREE => match <[u8; 32]>::try_from(key.as_slice()) {
                    // A tree holds files, never trees: this goes no deeper.
                    Ok(bytes) => self.last_keeper(session, &Digest::from_bytes(bytes))?,
                    Err(_) => None,
                },
                _ => None,
            };
            match rank {
                None => return Ok(None),
                rank => last = last.max(rank),
            }
        }
        Ok(last)
    }

    // What names what.

    /// Everything that keeps a blob: tags and the rests of the keys.
    fn keepers(&self, digest: &Digest) -> Result<Vec<(u8, Vec<u8>)>, StoreError> {
        let mut keepers = Vec::new();
        self.index.scan_prefix(Family::Refs, digest.as_bytes(), &mut |key, _| {
            let Some((tag, rest)) = key.get(32..).and_then(<[u8]>::split_first) else { return Ok(true) };
            if *tag > refs::LAST_KEEPER {
                return Ok(false);
            }
            keepers.push((*tag, rest.to_vec()));
            Ok(true)
        })?;
        Ok(keepers)
    }

    /// Whether anything keeps a blob.
    pub(crate) fn is_named(&self, digest: &Digest) -> Result<bool, StoreError> {
        let mut named = false;
        self.index.scan_prefix(Family::Refs, digest.as_bytes(), &mut |key, _| {
            named = key.get(32).is_some_and(|tag| *tag <= refs::LAST_KEEPER);
            Ok(false)
        })?;
        Ok(named)
    }

    /// Whether a blob is recorded that lies in the file of this name.
    pub(crate) fn is_recorded(&self, name: &BlobName) -> Result<bool, StoreError> {
        let row = self.index.blob_row(&name.digest)?;
        Ok(row.is_some_and(|row| !row.inline && BlobName::of(&name.digest, &row.without_bytes()) == *name))
    }

    fn named_by_subject(&self, subject: Subject) -> Result<Vec<Digest>, StoreError> {
        Ok(match subject {
            Subject::Result(trace) => self
                .index
                .result(&trace)?
                .map(|record| apply::named_by(&record).into_iter().collect())
                .unwrap_or_default(),
            Subject::Run(id) => self.index.run(id)?.map(|row| row.blobs).unwrap_or_default(),
        })
    }

    fn labels_of(&self, trace: &Trace) -> Result<Vec<String>, StoreError> {
        let labels = self.index.referred(trace.as_bytes(), refs::LABEL)?;
        Ok(labels.into_iter().filter_map(|label| String::from_utf8(label).ok()).collect())
    }

    /// Whether a result is among the newest `number` different ones under a label.
    fn is_among_last(&self, label: &str, trace: &Trace, number: u64) -> Result<bool, StoreError> {
        let mut newer = BTreeSet::new();
        let mut found = false;
        self.index.scan_prefix(Family::History, &tables::label_prefix(label), &mut |_, value| {
            if value == trace.as_bytes() {
                found = true;
                return Ok(false);
            }
            newer.insert(value.to_vec());
            Ok((newer.len() as u64) < number)
        })?;
        Ok(found)
    }

    fn has_live_children(&self, trace: &Trace) -> Result<bool, StoreError> {
        for child in self.index.referred_hashes(trace.as_bytes(), refs::CHILD)? {
            if !self.is_gone(&child)? && self.index.result(&Trace::from_bytes(child))?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn last_use(&self, trace: &Trace, record: &ResultRecord) -> Result<u64, StoreError> {
        let used = self.index.used_ms(std::slice::from_ref(trace))?.pop().flatten();
        Ok(used.unwrap_or(record.made_ms).max(record.made_ms))
    }

    // Scratch.

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

    /// A clock that was set back makes nothing old.
    fn age_of(&self, at_ms: u64) -> Duration {
        Duration::from_millis(self.now_ms.saturating_sub(at_ms))
    }
}

impl Rank {
    fn key(&self) -> Vec<u8> {
        let mut key = vec![ORDER, self.class];
        key.extend_from_slice(&self.score.to_be_bytes());
        match self.subject {
            Subject::Result(trace) => {
                key.push(0);
                key.extend_from_slice(trace.as_bytes());
            }
            Subject::Run(id) => {
                key.push(1);
                key.extend_from_slice(&id.to_be_bytes());
            }
        }
        key
    }

    fn from_key(key: &[u8]) -> Option<Self> {
        let (&[_, class], rest) = key.split_first_chunk::<2>()?;
        let (score, rest) = rest.split_first_chunk::<16>()?;
        let (kind, id) = rest.split_first()?;
        let subject = match kind {
            0 => Subject::Result(Trace::from_bytes(id.try_into().ok()?)),
            1 => Subject::Run(u64::from_be_bytes(id.try_into().ok()?)),
            _ => return None,
        };
        Some(Self { class, score: u128::from_be_bytes(*score), subject })
    }
}

/// What a result is worth: its cost per byte and per second of disuse. The smallest goes first.
fn score(cost_ms: u64, bytes: u64, unused: Duration) -> u128 {
    let worth = (u128::from(cost_ms) + 1).min(1 << 44) << 80;
    let weight = (u128::from(bytes) + 1).saturating_mul(u128::from(unused.as_secs()) + 1);
    worth / weight
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    #[test]
    fn what_is_cheap_large_or_long_unused_goes_first() {
        assert!(score(10, 1000, DAY) < score(1000, 1000, DAY));
        assert!(score(10, 1_000_000, DAY) < score(10, 1000, DAY));
        assert!(score(10, 1000, 7 * DAY) < score(10, 1000, DAY));
        assert!(score(u64::MAX, 0, Duration::ZERO) > score(u64::MAX, u64::MAX, 1000 * DAY));
    }

    #[test]
    fn the_order_of_keys_is_the_order_of_ranks() {
        let rank = |class, score, byte| Rank {
            class,
            score,
            subject: Subject::Result(Trace::from_bytes([byte; 32])),
        };
        let mut ranks = vec![rank(1, 5, 1), rank(0, 9, 2), rank(1, 5, 0), rank(1, 4, 9)];
        ranks.push(Rank { class: 1, score: 5, subject: Subject::Run(3) });
        let mut keys: Vec<Vec<u8>> = ranks.iter().map(Rank::key).collect();
        ranks.sort();
        keys.sort();
        assert_eq!(
            keys.iter().map(|key| Rank::from_key(key)).collect::<Vec<_>>(),
            ranks.into_iter().map(Some).collect::<Vec<_>>()
        );
    }
}
