//! What is on record: asked for in one message each, however many are asked for, and pinned, used and noted.
//!
//! What is answered to be present is leased: it is kept from collection as long as the store is open here.

use super::{PAGE, Run, Store, announced};
use crate::begun::{Begun, Noted};
use crate::digest::{Digest, Trace, Version};
use crate::error::StoreError;
use crate::record::{Found, Moment, Pin, Replacement};
use crate::stage::Staged;
use crate::wire::{Opaque, Request, Response};

/// So many makings are asked for at once: what is left of them is named again with each part of the answer.
const MAKINGS: usize = 16 * 1024;

impl Store {
    /// For each version: the result that its row names, if there is one. What is found present is kept
    /// from collection as long as this store is open.
    pub fn lookup(&self, versions: &[Version]) -> Result<Vec<Option<Found>>, StoreError> {
        self.found(versions, &|part| Request::Lookup(part.to_vec()))
    }

    /// The result that a row names, and which of its outputs (by index) the row stands for; 0 for the row of a
    /// result without outputs.
    pub fn row(&self, version: &Version) -> Result<Option<(u16, Found)>, StoreError> {
        match self.ask(Request::Row(*version))? {
            Response::Row(row) => {
                self.note_found(row.iter().map(|(_, found)| found));
                Ok(row)
            }
            other => Err(self.unexpected(&other)),
        }
    }

    /// For each trace: its present result, if there is one.
    pub fn results(&self, traces: &[Trace]) -> Result<Vec<Option<Found>>, StoreError> {
        self.found(traces, &|part| Request::Results(part.to_vec()))
    }

    fn found<K>(
        &self,
        keys: &[K],
        request: &dyn Fn(&[K]) -> Request,
    ) -> Result<Vec<Option<Found>>, StoreError> {
        in_halves(keys, &|part| match self.ask(request(part))? {
            Response::Found(found) => {
                self.note_found(found.iter().flatten());
                Ok(Some(found))
            }
            Response::TooLong if part.len() > 1 => Ok(None),
            other => Err(self.unexpected(&other)),
        })
    }

    /// Notes that these results were used now; what is used is collected last.
    pub fn touch(&self, traces: &[Trace], at_ms: u64) -> Result<(), StoreError> {
        self.done(Request::Touch { traces: traces.to_vec(), at_ms })
    }

    /// The facts under these keys.
    pub fn facts(&self, versions: &[Version]) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
        in_halves(versions, &|part| match self.ask(Request::Facts(part.to_vec()))? {
            Response::Facts(facts) => {
                Ok(Some(facts.into_iter().map(|fact| fact.map(|fact| fact.0)).collect()))
            }
            Response::TooLong if part.len() > 1 => Ok(None),
            other => Err(self.unexpected(&other)),
        })
    }

    /// The provenance of a result.
    pub fn provenance(&self, trace: &Trace) -> Result<Option<Vec<u8>>, StoreError> {
        match self.ask(Request::Provenance(*trace))? {
            Response::Provenance(provenance) => Ok(provenance.map(|provenance| provenance.0)),
            other => Err(self.unexpected(&other)),
        }
    }

    /// Where these makings came from, each the trace of a result and when that was made: asked for together. `None` for one
    /// that gave way, and for one of which what is on record is damaged.
    pub fn provenances(&self, makings: &[(Trace, u64)]) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
        let mut all = Vec::with_capacity(makings.len());
        for part in makings.chunks(MAKINGS) {
            let mut left = part;
            while !left.is_empty() {
                match self.ask(Request::Provenances(left.to_vec()))? {
                    Response::Provenances(told) if (1..=left.len()).contains(&told.len()) => {
                        left = &left[told.len()..];
                        all.extend(told.into_iter().map(|provenance| provenance.map(|bytes| bytes.0)));
                    }
                    other => return Err(self.unexpected(&other)),
                }
            }
        }
        Ok(all)
    }

    /// Other contents that the same trace had or gave, oldest first: what shows that it is not deterministic.
    pub fn ledger(&self, trace: &Trace) -> Result<Vec<Replacement>, StoreError> {
        match self.ask(Request::Ledger(*trace))? {
            Response::Ledger(ledger) => Ok(ledger),
            other => Err(self.unexpected(&other)),
        }
    }

    /// The latest moments under a label, newest first.
    pub fn history(&self, label: &str, limit: usize) -> Result<Vec<Moment>, StoreError> {
        match self.ask(Request::History { label: label.to_owned(), limit: limit as u64 })? {
            Response::Moments(moments) => Ok(moments),
            other => Err(self.unexpected(&other)),
        }
    }

    /// Walks over the latest moment of every label, in the order of the labels.
    pub fn labels(&self, each: &mut dyn FnMut(Moment) -> bool) -> Result<(), StoreError> {
        self.labels_after(None, PAGE, each)
    }

    /// As [`Store::labels`], from behind this one on, which need not be there.
    pub fn labels_behind(&self, label: &str, each: &mut dyn FnMut(Moment) -> bool) -> Result<(), StoreError> {
        // Whoever begins in the middle mostly looks for the next.
        self.labels_after(Some(label.to_owned()), 1, each)
    }

    fn labels_after(
        &self,
        mut after: Option<String>,
        limit: u64,
        each: &mut dyn FnMut(Moment) -> bool,
    ) -> Result<(), StoreError> {
        loop {
            let moments = match self.ask(Request::Labels { after, limit })? {
                Response::Moments(moments) => moments,
                other => return Err(self.unexpected(&other)),
            };
            let Some(last) = moments.last() else { return Ok(()) };
            after = Some(last.label.clone());
            for moment in moments {
                if !each(moment) {
                    return Ok(());
                }
            }
        }
    }

    /// Walks over all rows in key order, each with its result; stops when `each` returns false.
    pub fn rows(&self, each: &mut dyn FnMut(Version, Found) -> bool) -> Result<(), StoreError> {
        let mut after = None;
        loop {
            let (rows, last) = match self.ask(Request::Rows { after, limit: PAGE })? {
                Response::Rows { rows, last } => (rows, last),
                other => return Err(self.unexpected(&other)),
            };
            for (version, found) in rows {
                if !each(version, found) {
                    return Ok(());
                }
            }
            if last.is_none() {
                return Ok(());
            }
            after = last;
        }
    }

    /// The rows that name a result, at most `limit`.
    pub fn rows_of(&self, trace: &Trace, limit: usize) -> Result<Vec<Version>, StoreError> {
        self.versions(Request::RowsOf { trace: *trace, limit: limit as u64 })
    }

    /// All versions of rows whose hex begins with this prefix (four digits or more), at most `limit`.
    pub fn with_prefix(&self, hex: &str, limit: usize) -> Result<Vec<Version>, StoreError> {
        self.versions(Request::WithPrefix { hex: hex.to_owned(), limit: limit as u64 })
    }

    /// The results that have this digest as an output, or in a folder that is one, at most `limit`; those whose
    /// bytes were given up last.
    pub fn makers(&self, digest: &Digest, limit: usize) -> Result<Vec<Trace>, StoreError> {
        self.traces(Request::Makers { digest: *digest, limit: limit as u64 })
    }

    /// The results that were made from this one, at most `limit`.
    pub fn children(&self, trace: &Trace, limit: usize) -> Result<Vec<Trace>, StoreError> {
        self.traces(Request::Children { trace: *trace, limit: limit as u64 })
    }

    /// Pins a row. A pin of the same version is replaced.
    pub fn pin(&self, pin: Pin) -> Result<(), StoreError> {
        self.done(Request::Pin(pin))
    }

    /// Takes a pin away; false if there was none.
    pub fn unpin(&self, version: &Version) -> Result<bool, StoreError> {
        // Told twice because a host was lost, the second answer would be that there is none.
        let pinned = self.pins()?.iter().any(|pin| pin.version == *version);
        Ok(self.flag(Request::Unpin(*version))? || pinned)
    }

    /// All pins, oldest first.
    pub fn pins(&self) -> Result<Vec<Pin>, StoreError> {
        match self.ask(Request::Pins)? {
            Response::Pins(pins) => Ok(pins),
            other => Err(self.unexpected(&other)),
        }
    }

    /// Takes the next run's number and notes the run, which goes on until what is returned is dropped.
    pub fn begin_run(&self, at_ms: u64, record: Vec<u8>) -> Result<Begun, StoreError> {
        let token = self.token();
        let noted = Noted::new(self.client().member(), token);
        let begin = Request::BeginRun { at_ms, record: Opaque(record), token, again: false };
        match self.ask(begin)? {
            Response::Number(id) => Ok(Begun::new(id, noted)),
            other => Err(self.unexpected(&other)),
        }
    }

    /// Replaces the record of a run; `staged` are blobs that it names, besides those that it named before, and `there`
    /// others, of which it is not known that they are there: [`StoreError::Missing`] where one is not.
    pub fn note_run(
        &self,
        id: u64,
        record: Vec<u8>,
        staged: &[Staged],
        there: &[Digest],
    ) -> Result<(), StoreError> {
        let named = staged.iter().map(Staged::digest).chain(there.iter().copied()).collect();
        self.done(Request::NoteRun { id, record: Opaque(record), named, staged: announced(staged) })
    }

    /// Runs, newest first, older than `before` if given.
    pub fn runs(&self, before: Option<u64>, limit: usize) -> Result<Vec<Run>, StoreError> {
        match self.ask(Request::Runs { before, limit: limit as u64 })? {
            Response::Runs(runs) => Ok(runs),
            other => Err(self.unexpected(&other)),
        }
    }
}

/// What is told of each of many things: asked about all at once, or about half of them where that gives nothing, because the answer
/// would be longer than a message may be.
fn in_halves<K, T>(
    keys: &[K],
    ask: &impl Fn(&[K]) -> Result<Option<Vec<T>>, StoreError>,
) -> Result<Vec<T>, StoreError> {
    if let Some(told) = ask(keys)? {
        return Ok(told);
    }
    let (first, rest) = keys.split_at(keys.len() / 2);
    let mut told = in_halves(first, ask)?;
    told.extend(in_halves(rest, ask)?);
    Ok(told)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    /// Of more than 1,700,000 results a process that was not the host was told nothing but that the answer is too long.
    #[test]
    fn what_is_too_long_an_answer_is_asked_for_in_halves_and_in_order() {
        let asked = RefCell::new(Vec::new());
        let ask = |part: &[u32]| -> Result<Option<Vec<u32>>, StoreError> {
            asked.borrow_mut().push(part.len());
            Ok((part.len() <= 3).then(|| part.iter().map(|key| key * 2).collect()))
        };
        let keys: Vec<u32> = (0..10).collect();
        assert_eq!(in_halves(&keys, &ask).unwrap(), keys.iter().map(|key| key * 2).collect::<Vec<_>>());
        assert_eq!(asked.take(), [10, 5, 2, 3, 5, 2, 3]);
        assert_eq!(in_halves(&[], &ask).unwrap(), []);
        assert_eq!(asked.take(), [0]);
    }
}
