//! What the host answers, request by request, and all that only reads.

use std::sync::PoisonError;

use crate::change::Change;
use crate::commit::PART_BYTES;
use crate::digest::{Digest, Trace, Version};
use crate::error::StoreError;
use crate::host::Core;
use crate::index::Family;
use crate::record::{Found, Moment, Output, Pin};
use crate::store::Run;
use crate::tables::{self, refs};
use crate::threads;
use crate::wire::{Failure, Opaque, Request, Response};

/// Presence of more files than this is looked up by several threads.
const FILES_PER_THREAD: usize = 2048;

/// More results and rows than this are read by several threads.
pub(crate) const PART: usize = 4096;

impl Core {
    /// Answers a request of a connection.
    pub(crate) fn serve(&self, connection: u64, request: Request) -> Response {
        self.answer(connection, request).unwrap_or_else(|error| Response::Failed(Failure::of(&error)))
    }

    fn answer(&self, connection: u64, request: Request) -> Result<Response, StoreError> {
        Ok(match request {
            Request::Lookup(versions) => Response::Found(self.lookup(connection, &versions)?),
            Request::Row(version) => Response::Row(self.row(connection, &version)?),
            Request::Results(traces) => Response::Found(self.find_leased(connection, &traces)?),
            Request::Commit(message) => self.commit(connection, &message)?,
            Request::CommitAll(messages) => Response::All(self.commit_all(connection, &messages)?),
            Request::Relink(message) => Response::Flag(self.relink(connection, *message)?),
            Request::Touch { traces, at_ms } => self.touch(&traces, at_ms)?,
            Request::Facts(versions) => {
                let values = self.index.get_many(Family::Facts, &versions)?;
                let facts = versions.iter().zip(values).map(|(version, value)| {
                    value
                        .map(|bytes| {
                            let tables::OpaqueRow(fact) =
                                self.index.decode(tables::kind::FACT, "fact", version.as_bytes(), &bytes)?;
                            Ok(Opaque(fact))
                        })
                        .transpose()
                });
                Response::Facts(facts.collect::<Result<_, StoreError>>()?)
            }
            Request::Provenance(trace) => {
                let value = self.index.get(Family::Provenance, trace.as_bytes())?;
                let provenance = value.map(|bytes| self.decode_provenance(&trace, &bytes)).transpose()?;
                Response::Provenance(provenance.map(Opaque))
            }
            Request::Provenances(makings) => Response::Provenances(self.provenances(&makings)?),
            Request::Ledger(trace) => Response::Ledger(self.index.ledger(&trace)?),
            Request::History { label, limit } => Response::Moments(self.history(&label, limit)?),
            Request::Labels { after, limit } => Response::Moments(self.labels(after.as_deref(), limit)?),
            Request::Rows { after, limit } => self.rows(after.as_ref(), limit)?,
            Request::WithPrefix { hex, limit } => Response::Versions(self.with_prefix(&hex, limit)?),
            Request::RowsOf { trace, limit } => {
                let rows = self.index.referred_hashes(trace.as_bytes(), refs::ROW)?;
                Response::Versions(rows.into_iter().take(count(limit)).map(Version::from_bytes).collect())
            }
            Request::Makers { digest, limit } => {
                let mut makers = self.index.referred_hashes(digest.as_bytes(), refs::OUTPUT)?;
                for tree in self.index.referred_hashes(digest.as_bytes(), refs::TREE)? {
                    makers.extend(self.index.referred_hashes(&tree, refs::OUTPUT)?);
                }
                makers.extend(self.index.referred_hashes(digest.as_bytes(), refs::EVICTED)?);
                Response::Traces(makers.into_iter().take(count(limit)).map(Trace::from_bytes).collect())
            }
            Request::Children { trace, limit } => {
                let children = self.index.referred_hashes(trace.as_bytes(), refs::CHILD)?;
                Response::Traces(children.into_iter().take(count(limit)).map(Trace::from_bytes).collect())
            }
            Request::Pin(pin) => {
                self.write_one(&Change::Pin(pin))?;
                Response::Done
            }
            Request::Unpin(version) => {
                let pinned = self.index.pin(&version)?.is_some();
                if pinned {
                    self.write_one(&Change::Unpin(version))?;
                }
                Response::Flag(pinned)
            }
            Request::Pins => Response::Pins(self.pins()?),
            Request::BeginRun { at_ms, record, token, again } => {
                let told_before = again.then_some(token);
                Response::Number(self.begin_run(at_ms, record.0, token, told_before)?)
            }
            Request::NoteRun { id, record, named, staged } => {
                self.note_run(connection, id, record.0, named, &staged)?;
                Response::Done
            }
            Request::Runs { before, limit } => Response::Runs(self.runs(before, limit)?),
            Request::Blobs(digests) => Response::Blobs(self.index.blobs(&digests)?),
            Request::Lost { digest, why } => Response::Flag(self.lose(&digest, &why)?),
            Request::Enter { .. } | Request::Attach { .. } | Request::Renew => {
                return Err(self.index_error("this is only said when a connection begins"));
            }
            Request::Claim { trace, ticket, waited } => self.claim(connection, trace, ticket, waited)?,
            Request::Release { trace, ticket, failure } => {
                self.release(connection, &trace, ticket, failure);
                Response::Done
            }
            Request::ClaimAll(claims) => Response::Claims(self.claim_all(connection, &claims)?),
            Request::ReleaseAll(claims) => {
                for (trace, ticket) in &claims {
                    self.release(connection, trace, *ticket, None);
                }
                Response::Done
            }
            Request::Take { ticket, portions } => self.take_share(connection, ticket, portions)?,
            Request::GiveBack { ticket } => {
                self.give_share_back(connection, ticket);
                Response::Done
            }
            Request::Stats => Response::Stats(self.stats()?),
            Request::CollectBegin { policy, now_ms, mode } => match self.begin_collection(connection) {
                Some(by) => Response::Held { by },
                None => match self.collect_begin(policy, now_ms, mode) {
                    Ok(number) => Response::Number(number),
                    Err(error) => {
                        self.abandon_collection(connection);
                        return Err(error);
                    }
                },
            },
            Request::CollectNext { session, limit } => {
                if !self.collects(connection) {
                    return Ok(Response::Unknown);
                }
                let answer = self.collect_next(session, limit);
                if !matches!(answer, Ok(Response::Collected { done: false, .. })) {
                    self.abandon_collection(connection);
                }
                answer?
            }
            Request::BlobPage { after, limit } => Response::BlobPage(self.blob_page(after, limit)?),
            Request::CheckPage { after, limit } => self.check_page(after, limit)?,
            Request::CheckJournal { read } => self.check_journal(read)?,
            Request::Unnamed => Response::Number(self.unnamed_files()?),
            Request::Compact => {
                self.snapshot()?;
                Response::Done
            }
            Request::Sync => {
                self.sync(None)?;
                Response::Done
            }
            Request::Judge(ask) => Response::Judge(self.judge(ask)?),
            Request::Archive(ask) => Response::Archive(self.archive(connection, ask)?),
        })
    }

    // Reading.

    fn lookup(&self, connection: u64, versions: &[Version]) -> Result<Vec<Option<Found>>, StoreError> {
        // In their order, so that each thread has a region of its own.
        let (once, places) = distinct(versions);
        let rows = in_parts(PART, &once, |part| self.index.rows(part))?;
        let traces: Vec<Option<Trace>> = places.into_iter().map(|place| rows[place as usize]).collect();
        let named: Vec<Trace> = traces.iter().flatten().copied().collect();
        let (wanted, places) = distinct(&named);
        let mut found = self.find_leased(connection, &wanted)?;
        let mut left = vec![0u32; wanted.len()];
        for place in &places {
            left[*place as usize] += 1;
        }
        let mut places = places.into_iter();
        let answers = traces.iter().map(|trace| {
            trace.as_ref()?;
            let at = places.next()? as usize;
            // Most results are named by one row: the last one gets it without a copy.
            left[at] -= 1;
            if left[at] == 0 { found[at].take() } else { found[at].clone() }
        });
        Ok(answers.collect())
    }

    fn row(&self, connection: u64, version: &Version) -> Result<Option<(u16, Found)>, StoreError> {
        let Some((trace, place)) = self.index.row_place(version)? else { return Ok(None) };
        let found = self.find_leased(connection, &[trace])?.pop().flatten();
        Ok(found.map(|found| (place, found)))
    }

    /// As [`Core::standing`], and what is found present stays so for this connection: between the two nobody
    /// removes it.
    pub(crate) fn find_leased(
        &self,
        connection: u64,
        traces: &[Trace],
    ) -> Result<Vec<Option<Found>>, StoreError> {
        let _shared = self.gate.read().unwrap_or_else(PoisonError::into_inner);
        let found = self.standing(traces)?;
        self.lease(connection, found.iter().flatten());
        Ok(found)
    }

    fn decode_provenance(&self, trace: &Trace, bytes: &[u8]) -> Result<Vec<u8>, StoreError> {
        let kind = tables::kind::PROVENANCE;
        let row: tables::ProvenanceRow = self.index.decode(kind, "provenance", trace.as_bytes(), bytes)?;
        Ok(row.provenance)
    }

    /// Where the first of these makings came from, as many as make a message. What gave way by now is not known, and neither
    /// is a row that is damaged: whoever asks for many tells of them by the way.
    fn provenances(&self, makings: &[(Trace, u64)]) -> Result<Vec<Option<Opaque>>, StoreError> {
        let mut told = Vec::new();
        let mut bytes = 0;
        for (trace, made_ms) in makings {
            let value = self.index.get(Family::Provenance, trace.as_bytes())?;
            let provenance = value.and_then(|value| self.decode_provenance(trace, &value).ok());
            // Behind it, because both are written at once: what was made anew in between is none of that time.
            let result = self.index.get(Family::Results, trace.as_bytes())?;
            let result = result.and_then(|value| self.index.decode_result(trace.as_bytes(), &value).ok());
            let stands = result.is_some_and(|result| result.made_ms == *made_ms);
            let provenance = provenance.filter(|_| stands);
            bytes += provenance.as_ref().map_or(0, Vec::len);
            told.push(provenance.map(Opaque));
            if bytes > PART_BYTES {
                break;
            }
        }
        Ok(told)
    }

    /// The present results of traces, without those that count as absent.
    pub(crate) fn standing(&self, traces: &[Trace]) -> Result<Vec<Option<Found>>, StoreError> {
        // Asked before and after: a result that is made anew meanwhile loses its mark, and what was read may still
        // be the one that was forgotten. In doubt it is a miss.
        let mut forgotten = self.marks.forgotten_among(traces);
        let mut found = self.find(traces)?;
        forgotten.extend(self.marks.forgotten_among(traces));
        if !forgotten.is_empty() {
            for answer in &mut found {
                answer.take_if(|found| forgotten.contains(&found.trace));
            }
        }
        Ok(found)
    }

    /// The present results of traces, those that count as absent too, with what is there of their bytes.
    pub(crate) fn find(&self, traces: &[Trace]) -> Result<Vec<Option<Found>>, StoreError> {
        let records = in_parts(PART, traces, |part| self.index.results(part))?;
        let outputs = records.iter().flatten().flat_map(|record| &record.outputs);
        let digests: Vec<Digest> =
            outputs.filter_map(|output| Some(output.artifact.as_ref()?.digest)).collect();
        // All of them in their order, so that each thread has a region of its own: where results have ten outputs, finding
        // each thread's by itself took a quarter more.
        let (once, places) = distinct(&digests);
        let present = self.presence(&once)?;
        let mut places = places.into_iter();
        // What was not given is as good as there.
        let mut there = |output: &Output| match output.artifact.as_ref().and_then(|_| places.next()) {
            Some(place) => present[place as usize],
            None => true,
        };
        let found = traces.iter().zip(records).map(|(trace, record)| {
            let record = record?;
            let present = record.outputs.iter().map(&mut there).collect();
            Some(Found { trace: *trace, record, present })
        });
        Ok(found.collect())
    }

    /// For each digest: whether its bytes are there.
    pub(crate) fn presence(&self, digests: &[Digest]) -> Result<Vec<bool>, StoreError> {
        in_parts(FILES_PER_THREAD, digests, |part| {
            let there = |(digest, row): (&Digest, Option<tables::BlobRow>)| {
                row.is_some_and(|row| row.inline || self.files.present(digest, &row.without_bytes()))
            };
            Ok(part.iter().zip(self.index.blob_rows(part)?).map(there).collect())
        })
    }

    fn history(&self, label: &str, limit: u64) -> Result<Vec<Moment>, StoreError> {
        let mut moments = Vec::new();
        self.index.scan_prefix(Family::History, &tables::label_prefix(label), &mut |key, value| {
            if moments.len() >= count(limit) {
                return Ok(false);
            }
            moments.push(self.index.moment(key, value)?);
            Ok(true)
        })?;
        Ok(moments)
    }

    fn labels(&self, after: Option<&str>, limit: u64) -> Result<Vec<Moment>, StoreError> {
        // Behind the last possible key of a label: its prefix, and more bytes of 255 than its keys have.
        let behind = |label: &str| {
            let mut key = tables::label_prefix(label);
            key.extend_from_slice(&[0xff; 48]);
            key
        };
        let mut from = after.map(behind).unwrap_or_default();
        let mut moments: Vec<Moment> = Vec::new();
        while moments.len() < count(limit) {
            let mut next = None;
            self.index.scan(Family::History, &from, &mut |key, value| {
                next = Some(self.index.moment(key, value)?);
                Ok(false)
            })?;
            let Some(moment) = next else { break };
            from = behind(&moment.label);
            moments.push(moment);
        }
        Ok(moments)
    }

    fn rows(&self, after: Option<&Version>, limit: u64) -> Result<Response, StoreError> {
        let mut from = after.map(|version| version.as_bytes().to_vec()).unwrap_or_default();
        if after.is_some() {
            from.push(0);
        }
        let mut page = Vec::new();
        self.index.scan(Family::Rows, &from, &mut |key, value| {
            if page.len() >= count(limit) {
                return Ok(false);
            }
            let version = key.try_into().map_err(|_| self.index.damaged("a row", "has a wrong length"))?;
            let version = Version::from_bytes(version);
            page.push((version, self.index.decode_row(key, value)?.0));
            Ok(true)
        })?;
        let last = page.last().map(|(version, _)| *version);
        let traces: Vec<Trace> = page.iter().map(|(_, trace)| *trace).collect();
        let found = self.find(&traces)?;
        let rows =
            page.into_iter().zip(found).filter_map(|((version, _), found)| Some((version, found?))).collect();
        Ok(Response::Rows { rows, last })
    }

    fn with_prefix(&self, hex: &str, limit: u64) -> Result<Vec<Version>, StoreError> {
        let hex = hex.to_ascii_lowercase();
        let mut from = Vec::new();
        for pair in hex.as_bytes().chunks(2) {
            let digit = |byte: u8| char::from(byte).to_digit(16);
            let high = digit(pair[0]);
            let low = pair.get(1).map_or(Some(0), |byte| digit(*byte));
            let (Some(high), Some(low)) = (high, low) else { return Ok(Vec::new()) };
            from.push(u8::try_from(high * 16 + low).unwrap_or(u8::MAX));
        }
        let mut found = Vec::new();
        self.index.scan(Family::Rows, &from, &mut |key, _| {
            let Ok(key) = <[u8; 32]>::try_from(key) else { return Ok(true) };
            let version = Version::from_bytes(key);
            if found.len() >= count(limit) || !version.to_hex().starts_with(&hex) {
                return Ok(false);
            }
            found.push(version);
            Ok(true)
        })?;
        Ok(found)
    }

    fn pins(&self) -> Result<Vec<Pin>, StoreError> {
        let mut pins: Vec<Pin> = Vec::new();
        self.index.scan(Family::Pins, &[], &mut |key, value| {
            pins.push(self.index.decode(tables::kind::PIN, "pin", key, value)?);
            Ok(true)
        })?;
        pins.sort_by_key(|pin| (pin.at_ms, pin.version));
        Ok(pins)
    }

    fn runs(&self, before: Option<u64>, limit: u64) -> Result<Vec<Run>, StoreError> {
        let mut runs = Vec::new();
        let before = before.map(u64::to_be_bytes);
        self.index.scan_back(
            Family::Runs,
            before.as_ref().map(|key| key.as_slice()),
            &mut |key, value| {
                if runs.len() >= count(limit) {
                    return Ok(false);
                }
                let id = self.index.number("the number of a run", key)?;
                let row: tables::RunRow = self.index.decode(tables::kind::RUN, "run", key, value)?;
                runs.push(Run { id, at_ms: row.at_ms, record: row.record, blobs: row.blobs });
                Ok(true)
            },
        )?;
        Ok(runs)
    }
}

/// The items in their order, each once, and the place of each among these: one sort, where looking each up took a search
/// through all of them.
pub(crate) fn distinct<T: Ord + Copy + AsRef<[u8]>>(items: &[T]) -> (Vec<T>, Vec<u32>) {
    // Hashes are told apart by how they begin: what is moved about is a third of them.
    let begins = |item: &T| item.as_ref().first_chunk().map_or(0, |first| u64::from_be_bytes(*first));
    let mut all: Vec<(u64, u32)> = items.iter().map(begins).zip(0..).collect();
    all.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| items[a.1 as usize].cmp(&items[b.1 as usize])));
    let mut places = vec![0; all.len()];
    let mut once: Vec<T> = Vec::with_capacity(all.len());
    for (_, from) in all {
        let item = items[from as usize];
        if once.last() != Some(&item) {
            once.push(item);
        }
        places[from as usize] = u32::try_from(once.len() - 1).expect("a message is smaller than that");
    }
    (once, places)
}

/// Does something for many keys, by several threads where there are enough of them: for each at least so many.
pub(crate) fn in_parts<K: Sync, T: Send>(
    part: usize,
    keys: &[K],
    work: impl Fn(&[K]) -> Result<Vec<T>, StoreError> + Sync,
) -> Result<Vec<T>, StoreError> {
    let threads = match keys.len() / part {
        0 | 1 => return work(keys),
        parts => std::thread::available_parallelism().map_or(1, usize::from).min(8).min(parts),
    };
    let share = keys.len().div_ceil(threads);
    std::thread::scope(|scope| {
        let mut parts = keys.chunks(share);
        let own = parts.next().unwrap_or_default();
        let work = &work;
        let begin = |part| threads::begin(scope, move || work(part));
        let others: Vec<_> = parts.map(|part| (part, begin(part))).collect();
        let mut all = work(own)?;
        all.reserve(keys.len().saturating_sub(all.len()));
        for (part, other) in others {
            all.extend(match other {
                Some(other) => threads::join(other)?,
                None => work(part)?,
            });
        }
        Ok(all)
    })
}

/// A limit of a message as a length.
pub(crate) fn count(limit: u64) -> usize {
    usize::try_from(limit).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::blob::Files;
    use crate::folder::Folder;
    use crate::host::Host;
    use crate::index::Expect;
    use crate::record::ResultRecord;
    use crate::store::Create;

    /// A row that cannot be read, of an input of a step that had run for hours, ended the run. And what was made anew
    /// meanwhile is another making, whatever a clock that was set back says of when it began.
    #[test]
    fn what_cannot_be_read_of_one_of_many_makings_is_not_known_of_it() {
        let dir = tempfile::tempdir().expect("a folder");
        let folder = Folder::open(&dir.path().join("store"), Create::IfAbsent).expect("a store");
        let files = Arc::new(Files::new(folder.layout.clone(), 4096));
        let core = Host::open_core(&folder.layout, &folder.id, Expect::Nothing, &|| false, files);
        let core = core.expect("it opens");
        let trace = |number: u8| Trace::from_bytes([number; 32]);
        let put = |number: u8, made_ms: u64, row: &dyn Fn(Vec<u8>) -> Vec<u8>| {
            let record = ResultRecord { outputs: Vec::new(), log: None, made_ms, cost_ms: 0, evicted: None };
            let result = core.index.encode(tables::kind::RESULT, &record).expect("it is small");
            let provenance = tables::ProvenanceRow { provenance: vec![number; 20] };
            let provenance = core.index.encode(tables::kind::PROVENANCE, &provenance).expect("it is small");
            let mut batch = core.index.batch();
            batch.put(Family::Results, trace(number).as_bytes(), &result);
            batch.put(Family::Provenance, trace(number).as_bytes(), &row(provenance));
            core.index.write(batch).expect("it is written");
        };
        let whole = |row: Vec<u8>| row;
        put(1, 100, &whole);
        put(2, 100, &|mut row| {
            *row.last_mut().expect("it has bytes") ^= 1;
            row
        });
        put(3, 100, &whole);
        put(4, 100, &|_| Vec::new());
        let asked: Vec<(Trace, u64)> = [(1, 100), (2, 100), (3, 101), (4, 100), (5, 100), (3, 100)]
            .map(|(number, made_ms)| (trace(number), made_ms))
            .to_vec();
        let Response::Provenances(told) = core.serve(0, Request::Provenances(asked)) else {
            panic!("it is answered")
        };
        let kept = |number: u8| Some(Opaque(vec![number; 20]));
        assert_eq!(told, [kept(1), None, None, None, None, kept(3)]);
        // Whoever asks for that one is told what is wrong with it.
        let alone = core.serve(0, Request::Provenance(trace(2)));
        assert!(
            matches!(&alone, Response::Failed(Failure::IndexDamaged(what)) if what.contains("0202")),
            "{alone:?}"
        );
    }

    #[test]
    fn each_item_stands_once_and_is_found_at_its_place() {
        let check = |items: &[&'static str], once: &[&'static str]| {
            let (found, places) = distinct(items);
            assert_eq!(found, once);
            let back: Vec<&str> = places.iter().map(|place| found[*place as usize]).collect();
            assert_eq!(back, items);
        };
        check(&[], &[]);
        check(&["7"], &["7"]);
        check(&["3", "1", "2"], &["1", "2", "3"]);
        check(&["5", "5", "1", "5", "0", "1"], &["0", "1", "5"]);
        // Those that begin alike are told apart by the rest.
        let alike = ["the same beginning, 2", "another", "the same beginning, 1", "the same beginning, 2"];
        check(&alike, &["another", "the same beginning, 1", "the same beginning, 2"]);
    }
}
