//! The order in which things go: class, then what is cheapest to rebuild per byte and longest unused; of equals, what was
//! used before the others.
//!
//! It depends on what is on record and on the policy alone, and is sorted in the index's scratch family. What it says may
//! have changed when its turn comes: then it is asked again.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use super::keepers::{LOOKED_AT, Looked, last_use};
use super::{Mode, Session};
use crate::apply;
use crate::digest::{Digest, Trace};
use crate::error::StoreError;
use crate::host::Core;
use crate::index::Family;
use crate::record::ResultRecord;
use crate::tables::{self, refs};

/// What can lose its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Subject {
    Result(Trace),
    Run(u64),
}

/// A place in the order in which things go: class, score, when it was used last, subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    pub(super) class: u8,
    score: u128,
    pub(super) used_ms: u64,
    pub(super) subject: Subject,
}

/// What is too old goes whatever the size is; what is in this class goes first.
const CLASS_DUE: u8 = 0;

/// Goes only as far as there is too little room.
pub(super) const CLASS_ROOM: u8 = 1;

/// How many ranks are remembered.
pub(super) const RANKS: usize = 16_384;

/// So many results are read before they are put in order.
const RESULT_PAGE: usize = 1024;

// Prefixes of keys in scratch.
pub(super) const ORDER: u8 = b'o';
pub(super) const RECORD_ORDER: u8 = b'r';

impl Core {
    /// Sorts what may go into scratch.
    pub(super) fn put_in_order(&self, session: &mut Session) -> Result<(), StoreError> {
        let mut batch = self.index.batch();
        // Results and the times of their last use are in one order: those of many are read together.
        let mut page = Vec::with_capacity(RESULT_PAGE);
        let mut place = |session: &mut Session, page: &mut Vec<(Trace, ResultRecord)>| {
            let traces: Vec<Trace> = page.iter().map(|(trace, _)| *trace).collect();
            let used = self.index.used_ms_once(&traces)?;
            for ((trace, record), used) in page.drain(..).zip(used) {
                let used_ms = last_use(used, &record);
                if let Some(rank) = self.rank_used(session, &trace, &record, used_ms)? {
                    batch.put(Family::Scratch, &rank.key(), &[]);
                } else if self.may_lose_record(session, &trace, &record, used_ms)? {
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
            }
            if batch.size() > 1 << 20 {
                self.index.write(std::mem::replace(&mut batch, self.index.batch()))?;
            }
            Ok::<_, StoreError>(())
        };
        self.index.scan_once(Family::Results, &[], &mut |key, value| {
            let Ok(bytes) = <[u8; 32]>::try_from(key) else { return Ok(true) };
            page.push((Trace::from_bytes(bytes), self.index.decode_result(key, value)?));
            if page.len() == RESULT_PAGE {
                place(session, &mut page)?;
            }
            Ok(true)
        })?;
        place(session, &mut page)?;
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

    pub(super) fn rank(&self, session: &mut Session, subject: Subject) -> Result<Option<Rank>, StoreError> {
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
        session.remember(subject, rank);
        Ok(rank)
    }

    /// Where a result stands in the order; `None` if it keeps its bytes.
    pub(super) fn rank_result(
        &self,
        session: &Session,
        trace: &Trace,
        record: &ResultRecord,
    ) -> Result<Option<Rank>, StoreError> {
        self.rank_used(session, trace, record, self.last_use(trace, record)?)
    }

    /// The same of a result that was used last at `used_ms`.
    pub(super) fn rank_used(
        &self,
        session: &Session,
        trace: &Trace,
        record: &ResultRecord,
        used_ms: u64,
    ) -> Result<Option<Rank>, StoreError> {
        if record.evicted.is_some()
            || apply::named_by(record).is_empty()
            || self.is_pinned(trace, session.now_ms)?
            || self.is_leased(trace)
        {
            return Ok(None);
        }
        let policy = &session.policy;
        let is_due = policy.result_due(session.age_of(used_ms)).is_some();
        let by_size = policy.max_size_bytes.is_some() || policy.min_free_bytes.is_some();
        if !is_due && !by_size {
            return Ok(None);
        }
        if let Some(number) = policy.keep_last {
            let labels = self.labels_of(trace)?;
            if labels.is_empty() && policy.only_keeps_last().is_some() {
                return Ok(None);
            }
            for label in &labels {
                if self.is_among_last(label, trace, number)? {
                    return Ok(None);
                }
            }
        }
        let class = if is_due { CLASS_DUE } else { CLASS_ROOM };
        let len: u64 = record
            .outputs
            .iter()
            .filter_map(|output| output.artifact.as_ref())
            .fold(0, |sum: u64, artifact| sum.saturating_add(artifact.len));
        let score = score(record.cost_ms, len, session.unused_hours(used_ms));
        Ok(Some(Rank { class, score, used_ms, subject: Subject::Result(*trace) }))
    }

    /// Where a run's logs stand in the order; `None` if they stay.
    pub(super) fn rank_run(&self, session: &Session, id: u64, row: &tables::RunRow) -> Option<Rank> {
        let policy = &session.policy;
        if row.blobs.is_empty() || session.going_on.has(id, row) {
            return None;
        }
        let age = session.age_of(row.at_ms);
        let by_size = policy.max_size_bytes.is_some() || policy.min_free_bytes.is_some();
        let class = match (policy.run_logs_due(age).is_some(), by_size) {
            (true, _) => CLASS_DUE,
            // The run that is going on writes its logs now.
            (false, true) if age > Duration::from_secs(24 * 3600) => CLASS_ROOM,
            (false, _) => return None,
        };
        // Logs of failures cannot be made again: they are taken as an hour's work.
        let score = score(3_600_000, 0, session.unused_hours(row.at_ms));
        Some(Rank { class, score, used_ms: row.at_ms, subject: Subject::Run(id) })
    }

    pub(super) fn may_lose_record(
        &self,
        session: &Session,
        trace: &Trace,
        record: &ResultRecord,
        used_ms: u64,
    ) -> Result<bool, StoreError> {
        let Some(max) = session.policy.record_age() else { return Ok(false) };
        if self.is_pinned(trace, session.now_ms)? || self.is_leased(trace) || session.age_of(used_ms) <= max {
            return Ok(false);
        }
        let named: Vec<Digest> = apply::named_by(record).into_iter().collect();
        let has_bytes = self.index.blob_rows(&named)?.iter().any(Option::is_some);
        Ok(record.evicted.is_some() || !has_bytes)
    }

    /// How many bytes go when the last in the order that names any of `blobs` is this one; `None` if all of
    /// them stay for the sake of something that keeps its bytes.
    pub(super) fn freed_at(
        &self,
        session: &mut Session,
        at: &Rank,
        blobs: &[Digest],
    ) -> Result<Option<u64>, StoreError> {
        let mut bytes = 0;
        let mut any_goes = blobs.is_empty();
        // Several trees may have the same file, which goes once.
        let mut files = BTreeSet::new();
        for Looked { digest, row, keepers } in self.look_at(blobs)? {
            let Some(last) = self.last_of(session, keepers, &mut HashMap::new())? else { continue };
            any_goes = true;
            if last > *at {
                continue;
            }
            bytes += row.map_or(0, |row| row.stored_len);
            files.extend(self.index.tree_files(&digest)?);
        }
        for blob in blobs {
            files.remove(blob);
        }
        let files: Vec<Digest> = files.into_iter().collect();
        // Most of them are kept by one tree.
        let mut trees = HashMap::new();
        for part in files.chunks(LOOKED_AT) {
            for Looked { row, keepers, .. } in self.look_at(part)? {
                if self.last_of(session, keepers, &mut trees)?.is_some_and(|last| last <= *at) {
                    bytes += row.map_or(0, |row| row.stored_len);
                }
            }
        }
        Ok(any_goes.then_some(bytes))
    }

    /// The last in the order of all that name a blob; `None` if one of them is not in the order. `trees` is what is known
    /// of trees so far.
    fn last_of(
        &self,
        session: &mut Session,
        keepers: Vec<(u8, Vec<u8>)>,
        trees: &mut HashMap<Digest, Option<Rank>>,
    ) -> Result<Option<Rank>, StoreError> {
        let mut last = None;
        for (tag, key) in keepers {
            let rank = match tag {
                refs::OUTPUT | refs::LOG => match <[u8; 32]>::try_from(key.as_slice()) {
                    Ok(bytes) => self.rank(session, Subject::Result(Trace::from_bytes(bytes)))?,
                    Err(_) => None,
                },
                refs::RUN => match <[u8; 8]>::try_from(key.as_slice()) {
                    Ok(bytes) => self.rank(session, Subject::Run(u64::from_be_bytes(bytes)))?,
                    Err(_) => None,
                },
                // A dry run has left it where it is, and yet it keeps nothing any longer.
                refs::TREE if session.mode == Mode::DryRun && self.is_gone(&key)? => continue,
                refs::TREE => match <[u8; 32]>::try_from(key.as_slice()) {
                    Ok(bytes) => {
                        let tree = Digest::from_bytes(bytes);
                        match trees.get(&tree) {
                            Some(known) => *known,
                            None => {
                                // A tree holds files, never trees: this goes no deeper.
                                let rank = self.last_of(session, self.keepers(&tree)?, trees)?;
                                trees.insert(tree, rank);
                                rank
                            }
                        }
                    }
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
}

impl Session {
    /// For how long something was not used: between the hours of the clock, not its moments. Of two results the dearer goes
    /// first once it is unused for long enough, so that an order by moments is another at each: what a dry run told would be
    /// done otherwise a second later.
    fn unused_hours(&self, used_ms: u64) -> u64 {
        const HOUR_MS: u64 = 3600 * 1000;
        (self.now_ms / HOUR_MS).saturating_sub(used_ms / HOUR_MS)
    }
}

impl Rank {
    pub(super) fn key(&self) -> Vec<u8> {
        let mut key = vec![ORDER, self.class];
        key.extend_from_slice(&self.score.to_be_bytes());
        key.extend_from_slice(&self.used_ms.to_be_bytes());
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

    pub(super) fn from_key(key: &[u8]) -> Option<Self> {
        let (&[_, class], rest) = key.split_first_chunk::<2>()?;
        let (score, rest) = rest.split_first_chunk::<16>()?;
        let (used_ms, rest) = rest.split_first_chunk::<8>()?;
        let (kind, id) = rest.split_first()?;
        let subject = match kind {
            0 => Subject::Result(Trace::from_bytes(id.try_into().ok()?)),
            1 => Subject::Run(u64::from_be_bytes(id.try_into().ok()?)),
            _ => return None,
        };
        let (score, used_ms) = (u128::from_be_bytes(*score), u64::from_be_bytes(*used_ms));
        Some(Self { class, score, used_ms, subject })
    }
}

/// What a result is worth: its cost per byte and per hour of disuse. The smallest goes first.
fn score(cost_ms: u64, bytes: u64, unused_hours: u64) -> u128 {
    let worth = (u128::from(cost_ms) + 1).min(1 << 44) << 80;
    let weight = (u128::from(bytes) + 1).saturating_mul(u128::from(unused_hours) + 1);
    worth / weight
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 24;

    #[test]
    fn what_is_cheap_large_or_long_unused_goes_first() {
        assert!(score(10, 1000, DAY) < score(1000, 1000, DAY));
        assert!(score(10, 1_000_000, DAY) < score(10, 1000, DAY));
        assert!(score(10, 1000, 7 * DAY) < score(10, 1000, DAY));
        assert!(score(u64::MAX, 0, 0) > score(u64::MAX, u64::MAX, u64::MAX));
    }

    #[test]
    fn the_order_of_keys_is_the_order_of_ranks() {
        let rank = |class, score, used_ms, byte| Rank {
            class,
            score,
            used_ms,
            subject: Subject::Result(Trace::from_bytes([byte; 32])),
        };
        let mut ranks = vec![
            rank(1, 5, 7, 1),
            rank(0, 9, 7, 2),
            rank(1, 5, 7, 0),
            rank(1, 4, 300, 9),
            rank(1, 5, 300, 0),
        ];
        ranks.push(Rank { class: 1, score: 5, used_ms: 7, subject: Subject::Run(3) });
        let mut keys: Vec<Vec<u8>> = ranks.iter().map(Rank::key).collect();
        ranks.sort();
        keys.sort();
        assert_eq!(
            keys.iter().map(|key| Rank::from_key(key)).collect::<Vec<_>>(),
            ranks.into_iter().map(Some).collect::<Vec<_>>()
        );
    }
}
