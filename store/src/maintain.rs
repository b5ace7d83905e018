//! Looking after a store: collecting, checking, counting. Works while others use it.

use std::sync::atomic::Ordering;

use crate::check::{Depth, Finding, Stats, VerifyReport};
use crate::collect::{CollectReport, Going, Mode, Policy};
use crate::digest::Digest;
use crate::error::StoreError;
use crate::host::Core;
use crate::record::BlobRecord;
use crate::store::{PAGE, Store};
use crate::threads;
use crate::wire::{Request, Response};

/// How long to wait before asking for a turn again.
const TURN: std::time::Duration = std::time::Duration::from_millis(50);

impl Store {
    /// Collects garbage, or says what would go; `each` is told of everything that goes, in order. A policy
    /// that asks for nothing lets only go what nothing names. `now_ms` is what ages are counted to.
    pub fn gc(
        &self,
        policy: &Policy,
        mode: Mode,
        now_ms: u64,
        each: &mut dyn FnMut(Going),
    ) -> Result<CollectReport, StoreError> {
        let mut told = 0;
        // What was collected before a host was lost.
        let mut before: Option<CollectReport> = None;
        'begin: loop {
            let begin = Request::CollectBegin { policy: policy.clone(), now_ms, mode };
            let session = match self.ask(begin)? {
                Response::Number(session) => session,
                // Somebody else is collecting; one after the other.
                Response::Held { .. } => {
                    std::thread::sleep(TURN);
                    continue;
                }
                other => return Err(self.unexpected(&other)),
            };
            let mut last = None;
            let mut at = 0;
            loop {
                match self.ask(Request::CollectNext { session, limit: PAGE })? {
                    Response::Collected { going, done, report } => {
                        for going in going {
                            at += 1;
                            // A dry run that begins anew comes to the same again.
                            if mode == Mode::Collect || at > told {
                                each(going);
                                told = told.max(at);
                            }
                        }
                        if done {
                            return Ok(match before {
                                Some(before) => before.and(report),
                                None => report,
                            });
                        }
                        last = Some(report);
                    }
                    Response::Unknown => {
                        if mode == Mode::Collect {
                            before = match (before, last) {
                                (Some(before), Some(last)) => Some(before.and(last)),
                                (before, last) => before.or(last),
                            };
                        }
                        continue 'begin;
                    }
                    other => return Err(self.unexpected(&other)),
                }
            }
        }
    }

    /// Re-hashes blobs and cross-checks the index; `each` is told of everything that is not as it should
    /// be. Damaged blobs go to quarantine; those and missing ones are misses from then on.
    pub fn verify(&self, depth: Depth, each: &mut dyn FnMut(Finding)) -> Result<VerifyReport, StoreError> {
        let mut report = VerifyReport::default();
        let mut after = None;
        loop {
            let page = match self.ask(Request::BlobPage { after, limit: PAGE })? {
                Response::BlobPage(page) => page,
                other => return Err(self.unexpected(&other)),
            };
            let Some((last, _)) = page.last() else { break };
            after = Some(*last);
            self.verify_blobs(depth, &page, &mut report, each)?;
        }
        let mut cursor = None;
        loop {
            match self.ask(Request::CheckPage { after: cursor, limit: 4 * PAGE })? {
                Response::Checked { findings, checked, next } => {
                    report.entries += checked;
                    report.findings += findings.len() as u64;
                    findings.into_iter().for_each(&mut *each);
                    if next.is_none() {
                        break;
                    }
                    cursor = next;
                }
                other => return Err(self.unexpected(&other)),
            }
        }
        match self.ask(Request::CheckJournal { read: depth != Depth::Quick })? {
            Response::Checked { findings, checked, .. } => {
                report.entries += checked;
                report.findings += findings.len() as u64;
                findings.into_iter().for_each(&mut *each);
            }
            other => return Err(self.unexpected(&other)),
        }
        match self.ask(Request::Unnamed)? {
            Response::Number(unnamed) => report.unnamed = unnamed,
            other => return Err(self.unexpected(&other)),
        }
        Ok(report)
    }

    fn verify_blobs(
        &self,
        depth: Depth,
        page: &[(Digest, BlobRecord)],
        report: &mut VerifyReport,
        each: &mut dyn FnMut(Finding),
    ) -> Result<(), StoreError> {
        let files = self.files();
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(16);
        let next = std::sync::atomic::AtomicUsize::new(0);
        let work = || -> Result<Vec<(usize, Finding)>, StoreError> {
            let mut found = Vec::new();
            // Blobs differ in size: whoever is free takes the next.
            while let Some((digest, record)) = page.get(next.fetch_add(1, Ordering::Relaxed)) {
                if let Some(finding) = Core::examine(files, digest, record, depth.reads(digest))? {
                    let at = page.partition_point(|(other, _)| other < digest);
                    found.push((at, finding));
                }
            }
            Ok(found)
        };
        let mut found = std::thread::scope(|scope| {
            let others: Vec<_> = (1..threads).filter_map(|_| threads::begin(scope, work)).collect();
            let mut all = work()?;
            for other in others {
                all.extend(threads::join(other)?);
            }
            Ok::<_, StoreError>(all)
        })?;
        found.sort_by_key(|(at, _)| *at);
        report.blobs += page.len() as u64;
        for (_, record) in page.iter().filter(|(digest, _)| depth.reads(digest)) {
            report.read += 1;
            report.read_bytes += record.len;
        }
        for (_, finding) in found {
            // What is collected, or made anew, while it is looked at is not what is wrong.
            let stands = match &finding {
                Finding::Damaged { digest, what } => self.quarantine(digest, what)?,
                Finding::Missing { digest } => self.quarantine(digest, "its file is missing")?,
                Finding::Row { .. } | Finding::Journal { .. } | Finding::Index { .. } => true,
            };
            if stands {
                report.findings += 1;
                each(finding);
            }
        }
        Ok(())
    }

    /// Counts and sizes.
    pub fn stats(&self) -> Result<Stats, StoreError> {
        match self.ask(Request::Stats)? {
            Response::Stats(stats) => Ok(stats),
            other => Err(self.unexpected(&other)),
        }
    }

    /// Writes the journal anew, as a snapshot of the index. Collecting does this by itself where it pays.
    pub fn compact(&self) -> Result<(), StoreError> {
        self.done(Request::Compact)
    }

    /// Puts everything that was acknowledged so far on disk.
    ///
    /// # Errors
    ///
    /// When the disk refuses; from then on the store takes no more writes.
    pub fn sync(&self) -> Result<(), StoreError> {
        self.done(Request::Sync)
    }
}

#[cfg(all(test, not(feature = "schedules")))]
mod tests {
    use super::*;
    use crate::commit::Commit;
    use crate::digest::{Trace, Version};
    use crate::record::Output;
    use crate::store::{Create, Hosting, Open};

    fn open(dir: &std::path::Path) -> Store {
        let (wait, owner) = (std::time::Duration::ZERO, "a test".to_owned());
        let how =
            Open { create: Create::IfAbsent, hosting: Hosting::Willing, wait, owner, on_wait: &mut |_| {} };
        Store::open(dir, how).expect("it opens")
    }

    fn put(store: &Store, bytes: &[u8]) -> Digest {
        let staged = store.stage_bytes(bytes).expect("it stages");
        let artifact = staged.artifact("bytes");
        let digest = artifact.digest;
        let outputs = vec![Output { name: "result".to_owned(), artifact: Some(artifact) }];
        let bare = Commit::bare(Trace::from_bytes([1; 32]), outputs, vec![staged]);
        store.commit(Commit { rows: vec![Version::from_bytes([2; 32])], ..bare }).expect("it commits");
        digest
    }

    /// Looks at blobs as they were on record some time ago; how many findings that gives.
    fn look(store: &Store, page: &[(Digest, BlobRecord)]) -> u64 {
        let (mut told, mut report) = (0, VerifyReport::default());
        store.verify_blobs(Depth::Quick, page, &mut report, &mut |_| told += 1).expect("it is looked at");
        assert_eq!(report.findings, told);
        told
    }

    /// `cas verify` beside a collection told of loss where there was none.
    #[test]
    fn what_was_collected_since_its_record_was_read_is_no_finding() {
        let dir = tempfile::tempdir().unwrap();
        let mut bytes = vec![0; 9_000];
        blake3::Hasher::new().finalize_xof().fill(&mut bytes);
        put(&open(dir.path()), &bytes);
        let store = open(dir.path());
        let Response::BlobPage(page) = store.ask(Request::BlobPage { after: None, limit: PAGE }).unwrap()
        else {
            panic!("a page was asked for");
        };
        let policy = Policy { max_size_bytes: Some(0), ..Policy::default() };
        let report = store.gc(&policy, Mode::Collect, 1 << 40, &mut |_| {}).unwrap();
        assert_eq!((page.len(), report.results), (1, 1));
        assert_eq!(look(&store, &page), 0);

        // The same file, gone without a word, is one.
        let digest = put(&store, &bytes);
        assert_eq!(look(&store, &page), 0);
        std::fs::remove_file(store.files().path_of(&digest, &page[0].1)).unwrap();
        // Also where there is no thread to look with.
        assert_eq!(threads::scarce::with(0, || look(&store, &page)), 1);
        assert_eq!(look(&store, &page), 0, "it is told once");
    }
}
