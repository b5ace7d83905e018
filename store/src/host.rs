//! The process that owns the index: it answers every request, its own too.
//!
//! Owns the lock, the index, the journal, claims and leases, and alone renames into or removes from the
//! blob folders. One writer at a time decides, appends to the journal and applies to the index. Commits run
//! beside each other up to that point and share the `gate`; whoever removes blobs takes it alone, in short
//! steps, so that what a commit found present is still there when it is named.
//!
//! Making goes file → journal → index, removing goes index → file.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::apply::{self, Dropped};
use crate::blob::Files;
use crate::change::{Change, NewBlobs, NewResult, NewRows, NewRun};
use crate::claims::{Attempt, Claims};
use crate::collect::Session;
use crate::config::{Config, Durability};
use crate::crash;
use crate::damage;
use crate::digest::{Digest, Trace, Version};
use crate::disk;
use crate::durable::{self, Durable, Next};
use crate::error::{At, StoreError};
use crate::frozen;
use crate::index::{Expect, Family, Index};
use crate::journal::{self, Journal};
use crate::judge::Marks;
use crate::layout::{BlobName, Layout};
use crate::lock::HostLock;
use crate::record::{Found, HashKind, Moment, Place, Replacement, ResultRecord};
use crate::reserve;
use crate::stage::StagedBlob;
use crate::store::{Put, Run};
use crate::tables::{self, refs};
use crate::tidy::Tidy;
use crate::wire::{CommitMessage, Failure, Opaque, RelinkMessage, Request, Response};

/// The open host; closing it is dropping it.
pub(crate) struct Host {
    core: Arc<Core>,
    threads: Vec<JoinHandle<()>>,
    /// Last: the lock goes after everything that it guards. A store that is only read has none.
    lock: Option<HostLock>,
}

/// What the host's threads share.
pub(crate) struct Core {
    pub(crate) layout: Layout,
    pub(crate) files: Files,
    pub(crate) index: Index,
    pub(crate) config: Config,
    pub(crate) store_id: String,
    /// The one writer.
    journal: Mutex<Journal>,
    durable: Durable,
    /// Shared by commits, taken alone by whoever removes blobs.
    pub(crate) gate: RwLock<()>,
    connections: Mutex<BTreeMap<u64, Connection>>,
    last_connection: AtomicU64,
    claims: Claims,
    pub(crate) marks: Marks,
    pub(crate) session: Mutex<Option<Session>>,
    pub(crate) tidy: Tidy,
    /// What was found lost when the store was opened, in words.
    pub(crate) warnings: Vec<String>,
}

/// What a connection holds on to.
#[derive(Default)]
struct Connection {
    owner: String,
    /// Results that it was told are present, or committed.
    traces: HashSet<Trace>,
    /// Bytes of results that were replaced while it held on to them.
    blobs: HashSet<Digest>,
}

/// A blob of this size is on disk before its commit is acknowledged, whatever the durability: the
/// background sync would take longer than its time.
const LARGE_BLOB_BYTES: u64 = 256 * 1024 * 1024;

/// Presence of more files than this is looked up by several threads.
const FILES_PER_THREAD: usize = 2048;

/// The last use of a result is noted once in so many milliseconds.
const DAY_MS: u64 = 24 * 3600 * 1000;

impl Host {
    /// Opens index and journal under a lock that is held already, waiting no longer than `until` for what
    /// another process may still be letting go of.
    ///
    /// # Errors
    ///
    /// [`StoreError::IndexDamaged`] where the index has to be made anew.
    pub(crate) fn open(
        layout: Layout,
        store_id: &str,
        lock: HostLock,
        expect: Expect,
        until: Instant,
    ) -> Result<Self, StoreError> {
        let core = match Self::open_core(&layout, store_id, expect, until) {
            // Not even its journal can be opened: it can still be read.
            Err(StoreError::Io { source, .. }) if is_full(&source) => {
                frozen::open(&layout, store_id, "its disk is full")?
            }
            opened => opened?,
        };
        let core = Arc::new(core);
        let mut threads = vec![begin_thread(&core, "cas-store-sync", Core::keep_durable)?];
        if core.config.policy.max_size_bytes.is_some() {
            threads.push(begin_thread(&core, "cas-store-tidy", Core::keep_tidy)?);
        }
        Ok(Self { core, threads, lock: Some(lock) })
    }

    /// Opens a store that cannot be written, for the reason `why`, to be read.
    pub(crate) fn open_frozen(layout: &Layout, store_id: &str, why: &str) -> Result<Self, StoreError> {
        Ok(Self { core: Arc::new(frozen::open(layout, store_id, why)?), threads: Vec::new(), lock: None })
    }

    fn open_core(
        layout: &Layout,
        store_id: &str,
        expect: Expect,
        until: Instant,
    ) -> Result<Core, StoreError> {
        let config = Config::read(&layout.config())?;
        let files = Files::new(layout.clone(), config.inline_limit_bytes);
        // First, because it makes room.
        files.sweep_staging()?;
        let index = open_index(layout, expect, until)?;
        let applied = index.position()?;
        check_store(&index, store_id)?;
        crash::point("host.index-opened");
        let mut unflushed = applied.map_or(0, |position| position.offset);
        let closed_at = damage::journal_end(&layout.journal_end());
        let opened = Journal::open(
            layout.root(),
            &layout.journal(),
            store_id,
            applied,
            closed_at,
            &mut |change, position| {
                apply::apply(&index, change, position)?;
                crash::point("host.change-replayed");
                if position.offset.saturating_sub(unflushed) > durable::FLUSH_BYTES {
                    index.flush()?;
                    unflushed = position.offset;
                }
                Ok(())
            },
        )?;
        for what in &opened.lost {
            damage::note(layout, what)?;
        }
        if applied.is_none() && index.position()?.is_none() {
            // From here on an index without a journal is one whose journal was lost, not a new one.
            let mut batch = index.batch();
            batch.put(Family::Meta, tables::meta::POSITION, &opened.journal.end().to_bytes());
            index.write(batch)?;
            index.flush()?;
            // The folders of the index and of the journal are new.
            disk::sync_folder(layout.root()).at("sync", layout.root())?;
            damage::set_journal_end(&layout.journal_end(), opened.journal.end());
        }
        let mut warnings = opened.lost;
        if index.is_frozen() {
            let root = layout.root().display();
            warnings.push(format!("the disk of `{root}` is full: `cas gc` or `cas clean` makes room"));
        }
        let core =
            Core::new(layout, files, index, config, store_id, opened.journal, Durable::default(), warnings)?;
        if opened.incomplete {
            core.snapshot()?;
        }
        reserve::keep(&core.layout.reserve(), core.free_bytes()?);
        Ok(core)
    }

    /// What the connections share.
    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.core.durable.close();
        self.core.tidy.close();
        for thread in self.threads.drain(..) {
            // A panic of that thread was printed when it happened; there is nobody left to tell.
            let _ = thread.join();
        }
        // Nothing can be reported here either. What could not be synced is lost with the machine's power,
        // not with this process.
        if self.core.durable.is_dirty() {
            let _ = self.core.sync(None);
        }
        if self.core.durable.unflushed_bytes() > durable::FLUSH_AT_CLOSE_BYTES {
            let _ = self.core.index.flush();
        }
        if self.lock.is_none() {
            return;
        }
        damage::set_journal_end(&self.core.layout.journal_end(), self.core.journal().end());
        self.core.files.save_marks();
    }
}

/// Begins one of the host's threads.
fn begin_thread(core: &Arc<Core>, name: &str, work: fn(&Core)) -> Result<JoinHandle<()>, StoreError> {
    let in_thread = Arc::clone(core);
    std::thread::Builder::new().name(name.to_owned()).spawn(move || work(&in_thread)).map_err(|source| {
        StoreError::Io { action: "begin a thread for", path: core.layout.root().to_owned(), source }
    })
}

/// Opens the index. A process that is ending gives our lock up before RocksDB's, as the kernel closes its
/// files one by one, so that one is waited for too. On a full disk the reserve makes room.
fn open_index(layout: &Layout, expect: Expect, until: Instant) -> Result<Index, StoreError> {
    let mut pause = Duration::from_millis(1);
    loop {
        match Index::open(layout.root(), &layout.index(), expect) {
            Err(StoreError::InUse { .. }) if Instant::now() < until => {
                std::thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(50));
            }
            Err(StoreError::Io { source, .. }) if is_full(&source) && reserve::release(&layout.reserve()) => {
            }
            // The journal needs less room than the index, and what it takes can be kept in memory.
            Err(StoreError::Io { source, .. }) if is_full(&source) => {
                return Index::open_frozen(layout.root(), &layout.index());
            }
            other => return other,
        }
    }
}

/// Whether there is no room, on the disk or in what this user may take of it.
pub(crate) fn is_full(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
}

/// An index that belongs to another store (a folder that was copied together) answers nothing.
pub(crate) fn check_store(index: &Index, store_id: &str) -> Result<(), StoreError> {
    match index.get(Family::Meta, tables::meta::STORE)? {
        Some(id) if id == store_id.as_bytes() => Ok(()),
        Some(_) => Err(index.damaged("its index", "belongs to another store")),
        None => {
            let mut batch = index.batch();
            batch.put(Family::Meta, tables::meta::STORE, store_id.as_bytes());
            index.write(batch)
        }
    }
}

impl Core {
    #[expect(clippy::too_many_arguments, reason = "they are its parts, named at the two calls")]
    pub(crate) fn new(
        layout: &Layout,
        files: Files,
        index: Index,
        config: Config,
        store_id: &str,
        journal: Journal,
        durable: Durable,
        warnings: Vec<String>,
    ) -> Result<Self, StoreError> {
        let marks = Marks::load(&index)?;
        Ok(Self {
            layout: layout.clone(),
            files,
            index,
            config,
            store_id: store_id.to_owned(),
            journal: Mutex::new(journal),
            durable,
            gate: RwLock::new(()),
            connections: Mutex::default(),
            last_connection: AtomicU64::new(0),
            claims: Claims::default(),
            marks,
            session: Mutex::new(None),
            tidy: Tidy::default(),
            warnings,
        })
    }

    /// Answers a request of a connection.
    pub(crate) fn serve(&self, connection: u64, request: Request) -> Response {
        self.answer(connection, request).unwrap_or_else(|error| Response::Failed(Failure::of(&error)))
    }

    /// Lets somebody in; `owner` is what others are told about it.
    pub(crate) fn connect(&self, owner: &str) -> u64 {
        let number = self.last_connection.fetch_add(1, Ordering::Relaxed) + 1;
        let connection = Connection { owner: owner.to_owned(), ..Connection::default() };
        self.connections().insert(number, connection);
        number
    }

    /// Gives up everything that a connection held.
    pub(crate) fn disconnect(&self, connection: u64) {
        self.connections().remove(&connection);
        self.claims.disconnect(connection);
    }

    fn answer(&self, connection: u64, request: Request) -> Result<Response, StoreError> {
        Ok(match request {
            Request::Lookup(versions) => Response::Found(self.lookup(connection, &versions)?),
            Request::Row(version) => Response::Row(self.row(connection, &version)?),
            Request::Results(traces) => Response::Found(self.find_leased(connection, &traces)?),
            Request::Commit(message) => self.commit(connection, *message)?,
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
                let row: Option<tables::ProvenanceRow> = value
                    .map(|bytes| {
                        let kind = tables::kind::PROVENANCE;
                        self.index.decode(kind, "provenance", trace.as_bytes(), &bytes)
                    })
                    .transpose()?;
                Response::Provenance(row.map(|row| Opaque(row.provenance)))
            }
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
            Request::BeginRun { at_ms, record, token } => {
                Response::Number(self.begin_run(at_ms, record.0, token)?)
            }
            Request::NoteRun { id, record, named, staged } => {
                self.note_run(id, record.0, named, &staged)?;
                Response::Done
            }
            Request::Runs { before, limit } => Response::Runs(self.runs(before, limit)?),
            Request::Blobs(digests) => Response::Blobs(self.index.blobs(&digests)?),
            Request::Lost { digest, why } => {
                self.lose(&digest, &why)?;
                Response::Done
            }
            Request::Claim { trace, wait_ms } => self.claim(connection, trace, wait_ms)?,
            Request::Release { trace, claim, failure } => {
                self.claims.release(&trace, claim, failure.map(|failure| failure.0));
                Response::Done
            }
            Request::Stats => Response::Stats(self.stats()?),
            Request::CollectBegin { policy, now_ms, mode } => {
                Response::Number(self.collect_begin(policy, now_ms, mode)?)
            }
            Request::CollectNext { session, limit } => self.collect_next(session, limit)?,
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
        })
    }

    // Reading.

    fn lookup(&self, connection: u64, versions: &[Version]) -> Result<Vec<Option<Found>>, StoreError> {
        let traces = in_parts(versions, |part| self.index.rows(part))?;
        let mut wanted: Vec<Trace> = traces.iter().flatten().copied().collect();
        wanted.sort_unstable();
        wanted.dedup();
        let mut found = self.find_leased(connection, &wanted)?;
        let place = |trace: &Trace| wanted.binary_search(trace).ok();
        let mut left = vec![0u32; wanted.len()];
        for at in traces.iter().flatten().filter_map(place) {
            left[at] += 1;
        }
        let answers = traces.iter().map(|trace| {
            let at = place(trace.as_ref()?)?;
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

    /// As [`Core::standing`], and what is found present stays so for this connection: between the two nobody removes it.
    fn find_leased(&self, connection: u64, traces: &[Trace]) -> Result<Vec<Option<Found>>, StoreError> {
        let _shared = self.gate.read().unwrap_or_else(PoisonError::into_inner);
        let found = self.standing(traces)?;
        self.lease(connection, found.iter().flatten());
        Ok(found)
    }

    /// The present results of traces, without those that count as absent.
    fn standing(&self, traces: &[Trace]) -> Result<Vec<Option<Found>>, StoreError> {
        let mut found = self.find(traces)?;
        self.marks.withhold(&mut found);
        Ok(found)
    }

    /// The present results of traces, those that count as absent too, with what is there of their bytes.
    pub(crate) fn find(&self, traces: &[Trace]) -> Result<Vec<Option<Found>>, StoreError> {
        let records = in_parts(traces, |part| self.index.results(part))?;
        let mut digests: Vec<Digest> = records.iter().flatten().flat_map(apply::digests).flatten().collect();
        digests.sort_unstable();
        digests.dedup();
        let present = self.presence(&digests)?;
        Ok(traces
            .iter()
            .zip(records)
            .map(|(trace, record)| {
                let record = record?;
                let present = apply::digests(&record)
                    .into_iter()
                    .map(|digest| match digest {
                        None => true,
                        Some(digest) => digests.binary_search(&digest).is_ok_and(|at| present[at]),
                    })
                    .collect();
                Some(Found { trace: *trace, record, present })
            })
            .collect())
    }

    /// For each digest: whether its bytes are there.
    fn presence(&self, digests: &[Digest]) -> Result<Vec<bool>, StoreError> {
        let rows = in_parts(digests, |part| self.index.blob_rows(part))?;
        let mut present = vec![false; digests.len()];
        let mut files = Vec::new();
        for (at, row) in rows.iter().enumerate() {
            match row {
                Some(row) if row.inline => present[at] = true,
                Some(row) => files.push((at, row.without_bytes())),
                None => {}
            }
        }
        let threads = match files.len() {
            few if few <= FILES_PER_THREAD => 1,
            _ => std::thread::available_parallelism().map_or(1, usize::from).min(8),
        };
        let share = files.len().div_ceil(threads).max(1);
        let look = |files: &[(usize, crate::record::BlobRecord)]| -> Vec<usize> {
            files
                .iter()
                .filter(|(at, record)| self.files.present(&digests[*at], record))
                .map(|(at, _)| *at)
                .collect()
        };
        let there: Vec<usize> = if threads == 1 {
            look(&files)
        } else {
            std::thread::scope(|scope| {
                let parts: Vec<_> = files.chunks(share).map(|part| scope.spawn(move || look(part))).collect();
                // A thread that panicked found nothing: a miss.
                parts.into_iter().flat_map(|part| part.join().unwrap_or_default()).collect()
            })
        };
        for at in there {
            present[at] = true;
        }
        Ok(present)
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

    fn pins(&self) -> Result<Vec<crate::record::Pin>, StoreError> {
        let mut pins: Vec<crate::record::Pin> = Vec::new();
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

    // Writing.

    fn commit(&self, connection: u64, message: CommitMessage) -> Result<Response, StoreError> {
        self.durable.check(self.layout.root())?;
        let _shared = self.gate.read().unwrap_or_else(PoisonError::into_inner);
        crash::point("commit.begin");
        let trace = message.trace;
        let record = ResultRecord {
            outputs: message.outputs,
            log: message.log,
            made_ms: message.made_ms,
            cost_ms: message.cost_ms,
            evicted: None,
        };
        let rows = NewRows {
            trace,
            at_ms: message.made_ms,
            rows: message.rows,
            facts: opaque(message.facts),
            history: message.history,
        };
        // Who wins may change until the writer is ours: then it is decided again.
        loop {
            let present = self.find(&[trace])?.pop().flatten();
            let forgotten = self.marks.forgotten(&trace);
            let wins = |found: &Found| message.put == Put::IfAbsent && found.whole() && !forgotten;
            if let Some(found) = present.clone().filter(wins) {
                match self.adopt(connection, found, &record, &rows)? {
                    Some(response) => return Ok(response),
                    None => continue,
                }
            }
            let blobs = self.receive(&message.staged, apply::named_by(&record))?;
            crash::point("commit.blobs-installed");
            let names = self.sync_large(&blobs)?;
            let mut journal = self.journal();
            if self.index.result(&trace)? != present.as_ref().map(|found| found.record.clone()) {
                continue;
            }
            let new = NewResult {
                trace,
                record: record.clone(),
                provenance: message.provenance.0.clone(),
                parents: message.parents.clone(),
                blobs,
                rows: rows.rows.clone(),
                facts: rows.facts.clone(),
                history: rows.history.clone(),
            };
            self.write(&mut journal, &Change::Result(Box::new(new)), names)?;
            let end = journal.end();
            drop(journal);
            crash::point("commit.written");
            if let Some(old) = &present {
                self.keep_bytes_of(&trace, &old.record);
            }
            self.lease_trace(connection, trace);
            self.acknowledge(end)?;
            return Ok(match present {
                Some(Found { record: old, .. }) => {
                    // What was said to be wrong is no other answer to the same question.
                    let differs = !forgotten && apply::digests(&old) != apply::digests(&record);
                    Response::Replaced { old, differs }
                }
                None => Response::New,
            });
        }
    }

    /// Lets the rows of a commit that came second name the result that came first; `None` if that has
    /// changed meanwhile.
    fn adopt(
        &self,
        connection: u64,
        found: Found,
        ours: &ResultRecord,
        rows: &NewRows,
    ) -> Result<Option<Response>, StoreError> {
        let trace = found.trace;
        let differs = apply::digests(&found.record) != apply::digests(ours);
        let mut journal = self.journal();
        if self.index.result(&trace)?.as_ref() != Some(&found.record) || self.marks.forgotten(&trace) {
            return Ok(None);
        }
        if found.record.evicted.is_some() {
            self.write(&mut journal, &Change::Revived { trace }, Vec::new())?;
        }
        if differs {
            let replacement = Replacement {
                at_ms: ours.made_ms,
                digests: apply::digests(ours),
                made_ms: ours.made_ms,
                differs,
                lost_race: true,
            };
            self.write(&mut journal, &Change::Noted { trace, replacement }, Vec::new())?;
        }
        self.write(&mut journal, &Change::Relink(rows.clone()), Vec::new())?;
        let end = journal.end();
        drop(journal);
        self.lease_trace(connection, trace);
        self.acknowledge(end)?;
        let record = ResultRecord { evicted: None, ..found.record };
        Ok(Some(Response::Adopted { found: Found { record, ..found }, differs }))
    }

    fn relink(&self, connection: u64, message: RelinkMessage) -> Result<bool, StoreError> {
        self.durable.check(self.layout.root())?;
        let _shared = self.gate.read().unwrap_or_else(PoisonError::into_inner);
        let trace = message.trace;
        let Some(found) = self.find(&[trace])?.pop().flatten() else { return Ok(false) };
        let mut journal = self.journal();
        let standing = self.index.result(&trace)?.filter(|_| !self.marks.forgotten(&trace));
        let Some(record) = standing else { return Ok(false) };
        if record.evicted.is_some() && record == found.record && found.whole() {
            self.write(&mut journal, &Change::Revived { trace }, Vec::new())?;
        }
        let rows = NewRows {
            trace,
            at_ms: message.at_ms,
            rows: message.rows,
            facts: opaque(message.facts),
            history: message.history,
        };
        self.write(&mut journal, &Change::Relink(rows), Vec::new())?;
        let end = journal.end();
        drop(journal);
        self.lease_trace(connection, trace);
        self.acknowledge(end)?;
        Ok(true)
    }

    /// Gives staged blobs that the store lacks their names, and checks that all that is named is there.
    fn receive(&self, staged: &[StagedBlob], named: BTreeSet<Digest>) -> Result<NewBlobs, StoreError> {
        let by_digest: HashMap<Digest, &StagedBlob> = staged.iter().map(|blob| (blob.digest, blob)).collect();
        let mut digests: Vec<Digest> = by_digest.keys().chain(&named).copied().collect();
        digests.sort_unstable();
        digests.dedup();
        let present = self.presence(&digests)?;
        let mut new = NewBlobs::default();
        let mut trees = Vec::new();
        for (digest, present) in digests.iter().zip(&present) {
            let blob = by_digest.get(digest);
            if *present {
                if named.contains(digest) && blob.is_none_or(|blob| blob.record.hash == HashKind::Tree) {
                    trees.push((*digest, None));
                }
                continue;
            }
            let Some(blob) = blob else { return Err(StoreError::Missing { digest: *digest }) };
            // A record that does not fit its file would be believed for ever.
            if (blob.file.is_none()) != matches!(blob.record.place, Place::Inline(_)) {
                let what = format!("blob `{digest}` was announced in one place and lies in another");
                return Err(StoreError::Index { dir: self.layout.root().to_owned(), what });
            }
            if blob.file.is_some() {
                self.files.install(blob)?;
            }
            if blob.record.hash == HashKind::Tree {
                trees.push((*digest, Some(*blob)));
            }
            new.records.push((*digest, blob.record.clone()));
        }
        for (tree, blob) in trees {
            let files: Vec<Digest> = match blob {
                Some(blob) => {
                    let tree = self.files.tree(&tree, &blob.record)?;
                    tree.files()
                }
                None => self.index.tree_files(&tree)?,
            };
            let elsewhere: Vec<Digest> =
                files.iter().filter(|file| !by_digest.contains_key(file)).copied().collect();
            let present = self.presence(&elsewhere)?;
            if let Some((digest, _)) = elsewhere.iter().zip(present).find(|(_, present)| !present) {
                return Err(StoreError::Missing { digest: *digest });
            }
            if blob.is_some() {
                new.trees.push((tree, files));
            }
        }
        Ok(new)
    }

    /// Syncs blobs that are too large to leave to the epoch; gives the names of the others.
    fn sync_large(&self, blobs: &NewBlobs) -> Result<Vec<BlobName>, StoreError> {
        let files = blobs.records.iter().filter(|(_, record)| record.place == Place::File);
        let (large, small): (Vec<_>, Vec<_>) =
            files.partition(|(_, record)| record.stored_len > LARGE_BLOB_BYTES);
        let names = |blobs: Vec<&(Digest, crate::record::BlobRecord)>| -> Vec<BlobName> {
            blobs.into_iter().map(|(digest, record)| BlobName::of(digest, record)).collect()
        };
        let large = names(large);
        if !large.is_empty() {
            self.files.sync(&large)?;
        }
        Ok(names(small))
    }

    fn touch(&self, traces: &[Trace], at_ms: u64) -> Result<Response, StoreError> {
        if self.durable.check(self.layout.root()).is_err() || traces.is_empty() {
            return Ok(Response::Done);
        }
        let used = self.index.used_ms(traces)?;
        let stale = traces
            .iter()
            .zip(used)
            .filter(|(_, used)| used.is_none_or(|used| used / DAY_MS < at_ms / DAY_MS))
            .map(|(trace, _)| *trace)
            .collect();
        let change = Change::Touched { at_ms, traces: stale, reused: traces.len() as u64 };
        let mut journal = self.journal();
        self.write(&mut journal, &change, Vec::new())?;
        Ok(Response::Done)
    }

    fn begin_run(&self, at_ms: u64, record: Vec<u8>, token: u64) -> Result<u64, StoreError> {
        self.durable.check(self.layout.root())?;
        let mut journal = self.journal();
        let last = self.index.last_run()?;
        if token != 0 && self.index.run(last)?.is_some_and(|run| run.token == token) {
            return Ok(last);
        }
        let id = last + 1;
        let new = NewRun { id, at_ms, record, named: Vec::new(), blobs: NewBlobs::default(), token };
        self.write(&mut journal, &Change::Run(new), Vec::new())?;
        let end = journal.end();
        drop(journal);
        self.acknowledge(end)?;
        Ok(id)
    }

    fn note_run(
        &self,
        id: u64,
        record: Vec<u8>,
        named: Vec<Digest>,
        staged: &[StagedBlob],
    ) -> Result<(), StoreError> {
        self.durable.check(self.layout.root())?;
        let _shared = self.gate.read().unwrap_or_else(PoisonError::into_inner);
        let Some(old) = self.index.run(id)? else {
            let what = format!("there is no run {id}");
            return Err(StoreError::Index { dir: self.layout.root().to_owned(), what });
        };
        let blobs = self.receive(staged, named.iter().copied().collect())?;
        let names = self.sync_large(&blobs)?;
        let named: BTreeSet<Digest> = old.blobs.iter().copied().chain(named).collect();
        let new = NewRun {
            id,
            at_ms: old.at_ms,
            record,
            named: named.into_iter().collect(),
            blobs,
            token: old.token,
        };
        let mut journal = self.journal();
        self.write(&mut journal, &Change::Run(new), names)?;
        let end = journal.end();
        drop(journal);
        self.acknowledge(end)
    }

    /// Moves a blob that is not what it should be out of the way, and forgets it.
    pub(crate) fn lose(&self, digest: &Digest, why: &str) -> Result<(), StoreError> {
        let _alone = self.gate.write().unwrap_or_else(PoisonError::into_inner);
        let Some(record) = self.index.blobs(std::slice::from_ref(digest))?.pop().flatten() else {
            // The row, or the bytes of an inline value, are gone already.
            if self.index.blob_row(digest)?.is_some() {
                self.write_one(&Change::Lost { blobs: vec![*digest] })?;
            }
            return Ok(());
        };
        // The record goes first: a file without one is nothing, a record without its file looks like damage.
        crash::point("lose.begin");
        self.write_one(&Change::Lost { blobs: vec![*digest] })?;
        crash::point("lose.forgotten");
        self.files.quarantine(digest, &record, why).map(drop)
    }

    fn claim(&self, connection: u64, trace: Trace, wait_ms: u64) -> Result<Response, StoreError> {
        let until = Instant::now() + Duration::from_millis(wait_ms);
        let owner = self.connections().get(&connection).map(|here| here.owner.clone()).unwrap_or_default();
        let mut waited = false;
        loop {
            match self.claims.attempt(connection, &owner, trace, until) {
                Attempt::Granted(claim) => {
                    let present = match self.find_leased(connection, &[trace]) {
                        Ok(mut found) => found.pop().flatten(),
                        Err(error) => {
                            self.claims.release(&trace, claim, None);
                            return Err(error);
                        }
                    };
                    match present {
                        // What was waited for is there.
                        Some(found) if waited && found.whole() => {
                            self.claims.release(&trace, claim, None);
                            return Ok(Response::Stored(found));
                        }
                        present => return Ok(Response::Granted { claim, present }),
                    }
                }
                Attempt::GivenBack => waited = true,
                Attempt::Failed(failure) => return Ok(Response::ClaimantFailed(Opaque(failure))),
                Attempt::Held(by) => return Ok(Response::Held { by }),
            }
        }
    }

    /// Appends a change to the journal and applies it; the caller is the one writer.
    pub(crate) fn write(
        &self,
        journal: &mut Journal,
        change: &Change,
        blobs: Vec<BlobName>,
    ) -> Result<Dropped, StoreError> {
        self.durable.check(self.layout.root())?;
        if journal.is_full() {
            self.rotate(journal, 0)?;
        }
        let before = journal.end();
        let end = journal.append(&[change])?.pop().unwrap_or(before);
        crash::point("write.journaled");
        let dropped = match apply::apply(&self.index, change, end) {
            Ok(dropped) => dropped,
            Err(error) => {
                // Not applied is not done: what was asked for is answered with an error.
                journal.take_back(before);
                return Err(error);
            }
        };
        crash::point("write.applied");
        self.marks.follow(&self.index, change)?;
        self.tidy.note(change);
        // That something was used again is no reason to wake a disk.
        let matters = !matches!(change, Change::Touched { .. });
        self.durable.wrote(end, end.offset - before.offset, blobs, matters);
        Ok(dropped)
    }

    /// Goes on in a new segment of the journal. That the old one could not be synced is final, as for any sync.
    fn rotate(&self, journal: &mut Journal, gap: u64) -> Result<(), StoreError> {
        journal.rotate(gap).inspect_err(|error| {
            if matches!(error, StoreError::Io { action: "sync", .. }) {
                self.durable.poison(error);
            }
        })
    }

    /// As [`Core::write`], for a change on its own, which is acknowledged.
    pub(crate) fn write_one(&self, change: &Change) -> Result<(), StoreError> {
        let mut journal = self.journal();
        self.write(&mut journal, change, Vec::new())?;
        let end = journal.end();
        drop(journal);
        self.acknowledge(end)
    }

    /// Waits until what ends here may be called done.
    pub(crate) fn acknowledge(&self, end: journal::Position) -> Result<(), StoreError> {
        match self.config.durability {
            Durability::Strict => self.sync(Some(end)),
            Durability::Batch if self.durable.may_acknowledge() => Ok(()),
            Durability::Batch => self.sync(Some(end)),
        }
    }

    /// Puts what was written on disk: files, then the journal, then (now and then) the index.
    pub(crate) fn sync(&self, wanted: Option<journal::Position>) -> Result<(), StoreError> {
        let root = self.layout.root();
        self.durable.sync(root, wanted, &|blobs| {
            crash::point("sync.begin");
            self.files.sync(blobs)?;
            crash::point("sync.files");
            let (file, path) = self.journal().file();
            disk::sync_data(&file, &path).at("sync", &path)?;
            journal::sync_folder(&self.layout.journal())?;
            crash::point("sync.journal");
            Ok(())
        })?;
        let unflushed = self.durable.unflushed_bytes();
        if unflushed > durable::FLUSH_BYTES {
            self.index.flush()?;
            crash::point("sync.index");
            self.durable.flushed(unflushed);
        }
        Ok(())
    }

    /// Writes the index into the journal as a snapshot and gives up the segments before it.
    pub(crate) fn snapshot(&self) -> Result<(), StoreError> {
        if self.index.is_frozen() {
            // It is not on disk, so nothing that the journal has can be given up.
            return Ok(());
        }
        let (number, view) = {
            let mut journal = self.journal();
            self.rotate(&mut journal, 1)?;
            let mut batch = self.index.batch();
            batch.put(Family::Meta, tables::meta::POSITION, &journal.end().to_bytes());
            self.index.write(batch)?;
            (journal.end().segment - 1, self.index.view())
        };
        crash::point("snapshot.rotated");
        // Only an index that is on disk up to the snapshot can do without what came before it.
        self.index.flush()?;
        crash::point("snapshot.flushed");
        journal::write_snapshot(&self.layout.journal(), &self.store_id, number, &view)
    }

    /// The thread that ends epochs.
    fn keep_durable(&self) {
        loop {
            match self.durable.next() {
                Next::Close => return,
                // A failure is kept by `durable`, and the next write is told.
                Next::Sync => drop(self.sync(None)),
            }
        }
    }

    // Leases.

    fn lease<'a>(&self, connection: u64, found: impl Iterator<Item = &'a Found>) {
        if let Some(here) = self.connections().get_mut(&connection) {
            here.traces.extend(found.filter(|found| found.present.contains(&true)).map(|found| found.trace));
        }
    }

    fn lease_trace(&self, connection: u64, trace: Trace) {
        if let Some(here) = self.connections().get_mut(&connection) {
            here.traces.insert(trace);
        }
    }

    /// Whoever was told that a result is present may still read its bytes after it was replaced.
    fn keep_bytes_of(&self, trace: &Trace, old: &ResultRecord) {
        for here in self.connections().values_mut() {
            if here.traces.contains(trace) {
                here.blobs.extend(apply::named_by(old));
            }
        }
    }

    /// Whether a live connection was told that this result is present.
    pub(crate) fn is_leased(&self, trace: &Trace) -> bool {
        self.connections().values().any(|here| here.traces.contains(trace))
    }

    /// Whether a live connection may still read this blob of a result that was replaced.
    pub(crate) fn is_blob_leased(&self, digest: &Digest) -> bool {
        self.connections().values().any(|here| here.blobs.contains(digest))
    }

    fn connections(&self) -> MutexGuard<'_, BTreeMap<u64, Connection>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The right to write.
    pub(crate) fn journal(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The store's folder.
    pub(crate) fn root(&self) -> &Path {
        self.layout.root()
    }

    /// Where RocksDB's files are.
    pub(crate) fn index_dir(&self) -> PathBuf {
        self.layout.index()
    }
}

fn opaque(facts: Vec<(Version, Opaque)>) -> Vec<(Version, Vec<u8>)> {
    facts.into_iter().map(|(version, fact)| (version, fact.0)).collect()
}

/// Does something for many keys, by several threads where there are enough of them.
fn in_parts<K: Sync, T: Send>(
    keys: &[K],
    work: impl Fn(&[K]) -> Result<Vec<T>, StoreError> + Sync,
) -> Result<Vec<T>, StoreError> {
    const PART: usize = 4096;
    let threads = match keys.len() / PART {
        0 | 1 => return work(keys),
        parts => std::thread::available_parallelism().map_or(1, usize::from).min(8).min(parts),
    };
    let share = keys.len().div_ceil(threads);
    std::thread::scope(|scope| {
        let parts: Vec<_> = keys.chunks(share).map(|part| scope.spawn(|| work(part))).collect();
        let mut all = Vec::with_capacity(keys.len());
        for part in parts {
            match part.join() {
                Ok(done) => all.extend(done?),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Ok(all)
    })
}

/// A limit of a message as a length.
pub(crate) fn count(limit: u64) -> usize {
    usize::try_from(limit).unwrap_or(usize::MAX)
}
