//! What stands next in the order, asked for together.
//!
//! What a collection has to know of a result that goes — its record, when it was used, what it is called, how large its
//! blobs are and what else keeps them — lies all over the index, and finding each of it by itself was most of what a
//! collection cost. So many results that go next are looked at together, in the order of the keys. Nearly every blob is
//! one result's alone: those are added up here. What several things keep is only named, and is looked at when the turn of
//! the result comes.
//!
//! What is found holds for as long as nobody else writes: where somebody did, whoever takes away looks again.

use std::collections::VecDeque;

use super::keepers::last_use;
use super::order::{Rank, Subject};
use super::{Mode, ORDER, Session};
use crate::answers::in_parts;
use crate::apply;
use crate::digest::{Digest, Trace};
use crate::error::StoreError;
use crate::host::Core;
use crate::index::Family;
use crate::journal::Position;
use crate::record::HashKind;
use crate::tables::{BlobRow, refs};

/// What stands next, as far as it was looked at.
#[derive(Default)]
pub(super) struct Ahead {
    next: VecDeque<Next>,
    /// How many were looked at last.
    many: usize,
    /// Where the journal ended when they were looked at, while nothing but this collection has written to it since.
    pub(super) until: Option<Position>,
}

/// What stands next in the order.
pub(super) struct Next {
    pub(super) rank: Rank,
    /// What was found of a result that was there.
    pub(super) known: Option<Known>,
}

/// What was found of a result.
pub(super) struct Known {
    /// Where it stands now; `None` if it keeps its bytes.
    pub(super) now: Option<Rank>,
    pub(super) cost_ms: u64,
    pub(super) used_ms: u64,
    pub(super) labels: Vec<String>,
    /// The blobs that it alone keeps, in the order of their digests.
    pub(super) alone: Vec<(Digest, BlobRow)>,
    /// All that it names besides.
    pub(super) shared: Vec<Digest>,
}

/// So many are looked at first, and each time more: a collection may end with the first of them.
const FIRST: usize = 1024;
const MORE: usize = 4;

/// What is looked at together at most: some 20 MB while it is looked for, and 10 MB of what is found.
const MOST: usize = 32_768;
const MOST_BLOBS: usize = 262_144;

/// So many results are read at once.
const READ: usize = 256;

/// So many of their blobs, which are given to a thread as often as that pays.
const BLOBS: usize = 4096;

/// What keeps a blob.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keeper {
    Nothing,
    /// The result of this trace.
    One([u8; 32]),
    Others,
}

impl Core {
    /// What stands in the order behind a key of scratch.
    pub(super) fn next_in_order(
        &self,
        session: &mut Session,
        after: &[u8],
    ) -> Result<Option<Next>, StoreError> {
        if session.ahead.next.is_empty() {
            let many = (session.ahead.many * MORE).clamp(FIRST, MOST);
            let until = (session.mode == Mode::Collect).then(|| self.journal().end());
            let next = self.look_ahead(session, after, many)?;
            session.ahead = Ahead { next, many, until };
        }
        Ok(session.ahead.next.pop_front())
    }

    fn look_ahead(&self, session: &Session, after: &[u8], many: usize) -> Result<VecDeque<Next>, StoreError> {
        let mut ranks = Vec::new();
        let from = [after, &[0]].concat();
        self.index.scan_once(Family::Scratch, &from, &mut |key, _| {
            if key.first() != Some(&ORDER) {
                return Ok(false);
            }
            let rank = Rank::from_key(key);
            ranks.push(rank.ok_or_else(|| self.index.damaged("scratch", "holds a key of a wrong form"))?);
            Ok(ranks.len() < many)
        })?;
        let results = ranks.iter().filter_map(|rank| match rank.subject {
            Subject::Result(trace) => Some(trace),
            Subject::Run(_) => None,
        });
        let mut known = self.know(session, &results.collect::<Vec<_>>())?.into_iter();
        // Not all results were looked at, if they have many outputs.
        let next = ranks.into_iter().map_while(|rank| match rank.subject {
            Subject::Result(_) => known.next().map(|known| Next { rank, known }),
            Subject::Run(_) => Some(Next { rank, known: None }),
        });
        Ok(next.collect())
    }

    /// What is to be known of the first of these results, at least of one: as many as have not too many blobs.
    pub(super) fn know(&self, session: &Session, traces: &[Trace]) -> Result<Vec<Option<Known>>, StoreError> {
        let mut known = Vec::new();
        let mut named = Vec::new();
        for part in traces.chunks(READ) {
            let before = known.len();
            known.resize_with(before + part.len(), || None);
            let (sorted, places) = in_order(part);
            let used = self.index.used_ms_once(&sorted)?;
            self.index.get_each_once(Family::Results, &sorted, &mut |at, value| {
                let (trace, place) = (&sorted[at], before + places[at]);
                let record = self.index.decode_result(trace.as_bytes(), value)?;
                let used_ms = last_use(used[at], &record);
                named.extend(apply::named_by(&record).into_iter().map(|digest| (digest, number(place))));
                known[place] = Some(Known {
                    now: self.rank_used(session, trace, &record, used_ms)?,
                    cost_ms: record.cost_ms,
                    used_ms,
                    labels: Vec::new(),
                    alone: Vec::new(),
                    shared: Vec::new(),
                });
                Ok(())
            })?;
            if named.len() >= MOST_BLOBS {
                break;
            }
        }
        named.sort_unstable();
        let alone = in_parts(BLOBS, &named, |part| self.alone(part, traces))?;
        for ((digest, at), alone) in named.into_iter().zip(alone) {
            let Some(known) = &mut known[at as usize] else { continue };
            match alone {
                Some(row) => known.alone.push((digest, row)),
                None => known.shared.push(digest),
            }
        }
        let (sorted, places) = in_order(&traces[..known.len()]);
        let labels = in_parts(READ, &sorted, |part| self.labels_of_all(part))?;
        for (place, labels) in places.into_iter().zip(labels) {
            if let Some(known) = &mut known[place] {
                known.labels = labels;
            }
        }
        Ok(known)
    }

    /// For each of these blobs, which are in order and each named by the result of the trace at its number: what is
    /// recorded of it, if that result alone keeps it, and it keeps nothing itself.
    fn alone(&self, named: &[(Digest, u32)], traces: &[Trace]) -> Result<Vec<Option<BlobRow>>, StoreError> {
        let mut alone = Vec::with_capacity(named.len());
        for part in named.chunks(BLOBS) {
            let mut digests: Vec<Digest> = part.iter().map(|(digest, _)| *digest).collect();
            digests.dedup();
            let mut keepers = vec![Keeper::Nothing; digests.len()];
            self.each_keeper(&digests, &mut |at, tag, rest| {
                let trace =
                    <[u8; 32]>::try_from(rest).ok().filter(|_| matches!(tag, refs::OUTPUT | refs::LOG));
                keepers[at] = match (keepers[at], trace) {
                    (Keeper::Nothing, Some(trace)) => Keeper::One(trace),
                    (Keeper::One(other), Some(trace)) if other == trace => Keeper::One(trace),
                    _ => Keeper::Others,
                };
                keepers[at] != Keeper::Others
            })?;
            let rows = self.index.blob_rows_once(&digests)?;
            let mut place = 0;
            alone.extend(part.iter().map(|(digest, at)| {
                place += usize::from(digests[place] != *digest);
                let is_alone = keepers[place] == Keeper::One(*traces[*at as usize].as_bytes());
                rows[place].filter(|row| is_alone && row.hash == HashKind::Plain)
            }));
        }
        Ok(alone)
    }

    /// What history calls each of these results, which are in the order of their traces.
    fn labels_of_all(&self, traces: &[Trace]) -> Result<Vec<Vec<String>>, StoreError> {
        let mut labels = vec![Vec::new(); traces.len()];
        let prefixes: Vec<Vec<u8>> =
            traces.iter().map(|trace| refs::key(trace.as_bytes(), refs::LABEL, &[])).collect();
        self.index.scan_prefixes(Family::Refs, &prefixes, &mut |at, key, _| {
            labels[at].extend(std::str::from_utf8(&key[prefixes[at].len()..]).ok().map(str::to_owned));
            Ok(true)
        })?;
        Ok(labels)
    }
}

/// Traces in their order, and the place that each had before.
fn in_order(traces: &[Trace]) -> (Vec<Trace>, Vec<usize>) {
    let mut sorted: Vec<(Trace, usize)> = traces.iter().copied().zip(0..).collect();
    sorted.sort_unstable();
    sorted.into_iter().unzip()
}

/// A place among as many as are looked at together, and a part more.
fn number(place: usize) -> u32 {
    u32::try_from(place).unwrap_or(u32::MAX)
}
