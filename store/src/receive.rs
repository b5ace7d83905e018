//! What the host takes in: results, rows, runs, and blobs that turned out to be wrong.
//!
//! Commits run beside each other up to the journal and share the `gate`. Every message may come twice,
//! because the host that answered it first may have died before the answer arrived.

use std::collections::{BTreeSet, HashMap};
use std::sync::PoisonError;

use crate::answers::{PART, distinct, in_parts};
use crate::apply;
use crate::change::{Change, NewBlobs, NewResult, NewRows, NewRun};
use crate::commit::Put;
use crate::config::Sharing;
use crate::crash;
use crate::digest::{Digest, Trace, Version};
use crate::error::StoreError;
use crate::host::Core;
use crate::layout::BlobName;
use crate::mark::Stamp;
use crate::record::{BlobRecord, Found, HashKind, Place, Replacement, ResultRecord};
use crate::stage::StagedBlob;
use crate::wire::{CommitMessage, Opaque, RelinkMessage, Response};

/// A blob of this size is on disk before its commit is acknowledged, whatever the durability: the
/// background sync would take longer than its time.
const LARGE_BLOB_BYTES: u64 = 256 * 1024 * 1024;

/// The last use of a result is noted once in so many milliseconds.
const DAY_MS: u64 = 24 * 3600 * 1000;

/// So often a blob that is said to be wrong is looked at, where others make it anew meanwhile.
const LOOKS: u32 = 5;

/// What a close look at a blob found.
struct Seen {
    record: BlobRecord,
    /// What its file looked like before it was read, if it had one.
    stamp: Option<Stamp>,
    is_right: bool,
}

/// Among so many of the newest runs, one whose beginning is told again is looked for.
const RUNS_BACK: usize = 256;

impl Core {
    pub(crate) fn commit(&self, connection: u64, message: &CommitMessage) -> Result<Response, StoreError> {
        self.durable.check(self.layout.root())?;
        let _shared = self.gate.read().unwrap_or_else(PoisonError::into_inner);
        crash::point("commit.begin");
        let trace = message.trace;
        let mut put = message.put;
        match self.claims.is_lost(connection, &trace, message.ticket) {
            None => {}
            // Whoever took the claim over while this one was silent gives the result, …
            Some(Some(by)) => return Ok(Response::Held { by }),
            // … and this one is only compared with it.
            Some(None) => put = Put::IfAbsent,
        }
        let record = message.record();
        // Who wins may change until the writer is ours: then it is decided again.
        loop {
            let present = self.find(&[trace])?.pop().flatten();
            let forgotten = self.marks.forgotten(&trace);
            let judged = self.marks.judged(&trace);
            let wins = |found: &Found| put == Put::IfAbsent && found.whole() && !forgotten;
            if let Some(found) = present.clone().filter(wins) {
                match self.adopt(connection, found, &record, message.new_rows())? {
                    Some(response) => return Ok(response),
                    None => continue,
                }
            }
            let blobs = self.receive(connection, &message.staged, apply::named_by(&record))?;
            crash::point("commit.blobs-installed");
            let names = self.sync_large(&blobs)?;
            let mut journal = self.journal();
            if self.index.result(&trace)? != present.as_ref().map(|found| found.record.clone()) {
                continue;
            }
            let new = message.new_result(record.clone(), blobs);
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
                    // What was said to be wrong is no other answer to the same question, and what answered for other code
                    // neither.
                    let differs = !judged && apply::digests(&old) != apply::digests(&record);
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
        rows: NewRows,
    ) -> Result<Option<Response>, StoreError> {
        let trace = found.trace;
        // What was accepted was made by other code.
        let differs = !self.marks.judged(&trace) && apply::digests(&found.record) != apply::digests(ours);
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
        self.write(&mut journal, &Change::Relink(rows), Vec::new())?;
        let end = journal.end();
        drop(journal);
        self.lease_trace(connection, trace);
        self.acknowledge(end)?;
        let record = ResultRecord { evicted: None, ..found.record };
        Ok(Some(Response::Adopted { found: Found { record, ..found }, differs }))
    }

    pub(crate) fn relink(&self, connection: u64, message: RelinkMessage) -> Result<bool, StoreError> {
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
            facts: plain(message.facts),
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
    pub(crate) fn receive(
        &self,
        connection: u64,
        staged: &[StagedBlob],
        named: BTreeSet<Digest>,
    ) -> Result<NewBlobs, StoreError> {
        let digests = asked(staged, &named);
        let present = self.presence(&digests)?;
        self.receive_known(connection, staged, &named, &digests, &present)
    }

    /// The same, where it is known which of the digests that are to be [`asked`] for are present.
    pub(crate) fn receive_known(
        &self,
        connection: u64,
        staged: &[StagedBlob],
        named: &BTreeSet<Digest>,
        digests: &[Digest],
        present: &[bool],
    ) -> Result<NewBlobs, StoreError> {
        let by_digest: HashMap<Digest, &StagedBlob> = staged.iter().map(|blob| (blob.digest, blob)).collect();
        let owner = match self.config.sharing {
            Sharing::Private => None,
            Sharing::Group => {
                let own = || rustix::process::geteuid().as_raw();
                Some(self.connections.user(connection).unwrap_or_else(own))
            }
        };
        let mut new = NewBlobs::default();
        let mut trees = Vec::new();
        for (digest, present) in digests.iter().zip(present) {
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
                return Err(self.index_error(&what));
            }
            if blob.file.is_some() {
                self.files.install(blob, owner)?;
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
    pub(crate) fn sync_large(&self, blobs: &NewBlobs) -> Result<Vec<BlobName>, StoreError> {
        let files = blobs.records.iter().filter(|(_, record)| record.place == Place::File);
        let (large, small): (Vec<_>, Vec<_>) =
            files.partition(|(_, record)| record.stored_len > LARGE_BLOB_BYTES);
        let names = |blobs: Vec<&(Digest, BlobRecord)>| -> Vec<BlobName> {
            blobs.into_iter().map(|(digest, record)| BlobName::of(digest, record)).collect()
        };
        let large = names(large);
        if !large.is_empty() {
            self.files.sync(&large)?;
        }
        Ok(names(small))
    }

    pub(crate) fn touch(&self, traces: &[Trace], at_ms: u64) -> Result<Response, StoreError> {
        if self.durable.check(self.layout.root()).is_err() || traces.is_empty() {
            return Ok(Response::Done);
        }
        let (once, _) = distinct(traces);
        let used = in_parts(PART, &once, |part| self.index.used_ms(part))?;
        let stale = once
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

    /// Gives a run its number. `told_before` is its token where it may have one already.
    pub(crate) fn begin_run(
        &self,
        at_ms: u64,
        record: Vec<u8>,
        token: u64,
        told_before: Option<u64>,
    ) -> Result<u64, StoreError> {
        self.durable.check(self.layout.root())?;
        let mut journal = self.journal();
        let last = self.index.last_run()?;
        // Told again after a host was lost, other runs may have begun meanwhile. Looked for only then: the account of
        // one run may be megabytes.
        for id in (1..=last).rev().take(if told_before.is_some() { RUNS_BACK } else { 0 }) {
            if self.index.run(id)?.is_some_and(|run| Some(run.token) == told_before) {
                return Ok(id);
            }
        }
        let id = last + 1;
        let new = NewRun { id, at_ms, record, named: Vec::new(), blobs: NewBlobs::default(), token };
        self.write(&mut journal, &Change::Run(new), Vec::new())?;
        let end = journal.end();
        drop(journal);
        self.acknowledge(end)?;
        Ok(id)
    }

    pub(crate) fn note_run(
        &self,
        connection: u64,
        id: u64,
        record: Vec<u8>,
        named: Vec<Digest>,
        staged: &[StagedBlob],
    ) -> Result<(), StoreError> {
        self.durable.check(self.layout.root())?;
        let _shared = self.gate.read().unwrap_or_else(PoisonError::into_inner);
        let Some(old) = self.index.run(id)? else {
            let what = format!("there is no run {id}");
            return Err(self.index_error(&what));
        };
        let blobs = self.receive(connection, staged, named.iter().copied().collect())?;
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

    /// Moves a blob that is not what it should be out of the way, and forgets it. Whoever says so saw what was there
    /// then: it may have been made anew since, by somebody who was told so, and then it stays. False where it stays, or was
    /// given up meanwhile.
    pub(crate) fn lose(&self, digest: &Digest, why: &str) -> Result<bool, StoreError> {
        for _ in 0..LOOKS {
            let seen = self.look_closely(digest)?;
            if seen.as_ref().is_some_and(|seen| seen.is_right) {
                return Ok(false);
            }
            // Commits need not wait for that look: they only have to find what it was about.
            let alone = self.gate.write().unwrap_or_else(PoisonError::into_inner);
            if self.is_as_seen(digest, seen.as_ref())? {
                return self.lose_alone(digest, why);
            }
            drop(alone);
        }
        // Made anew again and again while it was looked at: it is not what somebody saw some time ago.
        Ok(false)
    }

    /// Reads a blob whole, whatever was noted of it; `None` where it has no bytes in the index or no row.
    fn look_closely(&self, digest: &Digest) -> Result<Option<Seen>, StoreError> {
        let Some(record) = self.index.blobs(std::slice::from_ref(digest))?.pop().flatten() else {
            return Ok(None);
        };
        self.files.forget_mark(digest);
        let stamp = self.files.stamp_of(digest, &record)?;
        let mut is_right = Self::examine(&self.files, digest, &record, true)?.is_none();
        if is_right && record.hash == HashKind::Tree {
            is_right = self.files.tree(digest, &record).is_ok();
        }
        Ok(Some(Seen { record, stamp, is_right }))
    }

    fn is_as_seen(&self, digest: &Digest, seen: Option<&Seen>) -> Result<bool, StoreError> {
        let record = self.index.blobs(std::slice::from_ref(digest))?.pop().flatten();
        match (record, seen) {
            (None, None) => Ok(true),
            (Some(record), Some(seen)) if record == seen.record => {
                Ok(self.files.stamp_of(digest, &record)? == seen.stamp)
            }
            _ => Ok(false),
        }
    }

    /// As [`Core::lose`], for whoever has the gate alone.
    fn lose_alone(&self, digest: &Digest, why: &str) -> Result<bool, StoreError> {
        let Some(record) = self.index.blobs(std::slice::from_ref(digest))?.pop().flatten() else {
            // The row, or the bytes of an inline value, are gone already.
            let has_row = self.index.blob_row(digest)?.is_some();
            if has_row {
                self.write_one(&Change::Lost { blobs: vec![*digest] })?;
            }
            return Ok(has_row);
        };
        // The record goes first: a file without one is nothing, a record without its file looks like damage.
        crash::point("lose.begin");
        self.write_one(&Change::Lost { blobs: vec![*digest] })?;
        crash::point("lose.forgotten");
        self.files.quarantine(digest, &record, why)?;
        Ok(true)
    }
}

impl CommitMessage {
    /// What it puts on record.
    pub(crate) fn record(&self) -> ResultRecord {
        ResultRecord {
            outputs: self.outputs.clone(),
            log: self.log,
            made_ms: self.made_ms,
            cost_ms: self.cost_ms,
            evicted: None,
        }
    }

    /// What becomes of it where it becomes the present result of its trace.
    pub(crate) fn new_result(&self, record: ResultRecord, blobs: NewBlobs) -> NewResult {
        let NewRows { trace, at_ms: _, rows, facts, history } = self.new_rows();
        let (provenance, parents) = (self.provenance.0.clone(), self.parents.clone());
        NewResult { trace, record, provenance, parents, blobs, rows, facts, history }
    }

    /// What becomes of it where another result is there: its rows name that.
    fn new_rows(&self) -> NewRows {
        NewRows {
            trace: self.trace,
            at_ms: self.made_ms,
            rows: self.rows.clone(),
            facts: plain(self.facts.clone()),
            history: self.history.clone(),
        }
    }
}

/// The digests whose presence is asked for before these blobs are taken in, in order.
pub(crate) fn asked(staged: &[StagedBlob], named: &BTreeSet<Digest>) -> Vec<Digest> {
    let mut digests: Vec<Digest> =
        staged.iter().map(|blob| blob.digest).chain(named.iter().copied()).collect();
    digests.sort_unstable();
    digests.dedup();
    digests
}

fn plain(facts: Vec<(Version, Opaque)>) -> Vec<(Version, Vec<u8>)> {
    facts.into_iter().map(|(version, fact)| (version, fact.0)).collect()
}

#[cfg(all(test, not(feature = "schedules")))]
mod tests {
    use std::fs::{self, File};
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::blob::Files;
    use crate::durable::OLDEST_EPOCH;
    use crate::folder::Folder;
    use crate::host::Host;
    use crate::index::Expect;
    use crate::record::Encoding;
    use crate::store::Create;

    /// What answers for a store, without the thread that ends epochs.
    fn core(dir: &tempfile::TempDir) -> Core {
        let folder = Folder::open(&dir.path().join("store"), Create::IfAbsent).expect("a store");
        let files = Arc::new(Files::new(folder.layout.clone(), 4096));
        let opened = Host::open_core(&folder.layout, &folder.id, Expect::Nothing, &|| false, files);
        opened.expect("it opens")
    }

    #[test]
    fn nothing_is_acknowledged_without_the_disk_while_an_epoch_is_too_old() {
        let dir = tempfile::tempdir().expect("a folder");
        let core = core(&dir);
        let change = Change::Unpin(Version::from_bytes([1; 32]));
        core.write_one(&change).expect("it is written");
        assert!(core.durable.is_dirty(), "a young epoch is left to the thread");
        core.durable.age(OLDEST_EPOCH - Duration::from_secs(1));
        core.write_one(&change).expect("it is written");
        assert!(core.durable.is_dirty());
        core.durable.age(Duration::from_secs(1));
        core.write_one(&change).expect("it is written");
        assert!(!core.durable.is_dirty(), "all of it was put on disk before that was said");
    }

    #[test]
    fn a_run_that_is_told_again_has_the_number_that_it_has() {
        let dir = tempfile::tempdir().expect("a folder");
        let core = core(&dir);
        let begin =
            |token, told_before| core.begin_run(5, b"run".to_vec(), token, told_before).expect("it begins");
        assert_eq!((begin(11, None), begin(13, None)), (1, 2));
        assert_eq!((begin(11, Some(11)), begin(13, Some(13))), (1, 2), "they were told before");
        assert_eq!(begin(15, Some(15)), 3, "nobody heard of it the first time");
    }

    #[test]
    fn a_large_blob_is_on_disk_before_its_commit_is_acknowledged() {
        let dir = tempfile::tempdir().expect("a folder");
        let core = core(&dir);
        let record = |stored_len| BlobRecord {
            len: stored_len,
            stored_len,
            encoding: Encoding::Raw,
            hash: HashKind::Plain,
            place: Place::File,
        };
        let (large, small) = (Digest::of(b"large"), Digest::of(b"small"));
        let records = vec![(large, record(LARGE_BLOB_BYTES + 1)), (small, record(LARGE_BLOB_BYTES))];
        let blobs = NewBlobs { records, ..NewBlobs::default() };
        let path = core.files.path_of(&large, &blobs.records[0].1);
        fs::create_dir_all(path.parent().expect("a folder")).expect("it can be made");
        // Of nothing but a hole.
        File::create(&path).and_then(|file| file.set_len(LARGE_BLOB_BYTES + 1)).expect("a file");
        let left = core.sync_large(&blobs).expect("it is synced");
        assert_eq!(left, [BlobName::of(&small, &blobs.records[1].1)], "for the end of the epoch");
        // What cannot be opened cannot be synced: so that is what happens here, and to the large one alone.
        fs::remove_file(&path).expect("it can be removed");
        std::os::unix::fs::symlink(&path, &path).expect("a link to itself");
        let error = core.sync_large(&blobs).expect_err("it is not on disk");
        assert!(error.to_string().contains("open"), "{error}");
    }
}
