//! A disk that is full, or refuses: a clear error, nothing that was acknowledged is lost, and the store can
//! still be read and collected.
//!
//! Runs with `--features crash-points`, which lets chosen calls fail as the operating system would let them.

#![cfg(feature = "crash-points")]

mod kit;

use std::io::ErrorKind;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cas_store::{Create, Hosting, Mode, Open, Policy, Put, RebuildReport, Store, StoreError, disk};
use kit::*;

const EIO: i32 = 5;
const ENOSPC: i32 = 28;
const EROFS: i32 = 30;

/// What is to fail is the whole process's: one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lets calls fail on what lies at this path of the store.
fn fail(kit: &Kit, call: &str, path: &str, errno: i32, times: u32) {
    let path = kit.dir().canonicalize().expect("the store's folder").join(path);
    disk::fail(call, &path.to_string_lossy(), errno, times);
}

fn is_full(error: &StoreError) -> bool {
    matches!(error, StoreError::Io { source, .. } if source.kind() == ErrorKind::StorageFull)
}

fn open_to_read(dir: &Path) -> Result<Store, StoreError> {
    let owner = "a test".to_owned();
    Store::open(
        dir,
        Open {
            create: Create::Never,
            hosting: Hosting::Willing,
            wait: Duration::ZERO,
            owner,
            on_wait: &mut |_| {},
        },
    )
}

fn rebuild(kit: &Kit) -> Result<RebuildReport, StoreError> {
    Store::rebuild(&kit.dir(), how(Duration::ZERO, &mut |_| {}))
}

/// A store with a small and a large result, closed.
fn filled() -> Kit {
    let kit = Kit::new();
    drop(filled_in(&kit));
    kit
}

fn filled_in(kit: &Kit) -> Store {
    let store = kit.open();
    put(&store, 0, &noise(0, 100));
    put(&store, 1, &noise(1, 7_000));
    store
}

#[test]
fn a_store_on_a_full_disk_opens_reads_and_collects() {
    let _alone = alone();
    let kit = filled();
    // Once for the index, and once more after the reserve was given up.
    fail(&kit, "open", "index", ENOSPC, 2);
    let store = kit.open();
    assert!(store.warnings().iter().any(|warning| warning.contains("is full")), "{:?}", store.warnings());
    assert_eq!(get(&store, 0), Some(noise(0, 100)));
    assert_eq!(get(&store, 1), Some(noise(1, 7_000)));
    assert_eq!(verify(&store), []);
    // What fits into the journal is taken, and is there for the next who looks.
    put(&store, 2, &noise(2, 100));
    assert_eq!(get(&store, 2), Some(noise(2, 100)));
    drop(store);

    fail(&kit, "open", "index", ENOSPC, 2);
    let store = kit.open();
    let file = file_of(&kit.dir(), &cas_store::Digest::of(&noise(1, 7_000)));
    // Even to note what goes there is no room before it went.
    fail(&kit, "write", "journal", ENOSPC, 1);
    let policy = Policy { max_size_bytes: Some(500), ..Policy::default() };
    let (would, _) = gc(&store, &policy, Mode::DryRun, 1 << 40);
    let (went, report) = gc(&store, &policy, Mode::Collect, 1 << 40);
    assert_eq!(went, would);
    assert_eq!((report.results, report.freed_bytes), (1, 7_000));
    assert!(!file.exists());
    drop(store);

    let store = kit.open();
    assert!(store.warnings().is_empty(), "{:?}", store.warnings());
    assert_eq!(get(&store, 0), Some(noise(0, 100)));
    assert_eq!(get(&store, 1), None);
    assert_eq!(get(&store, 2), Some(noise(2, 100)));
    assert_eq!(verify(&store), []);
}

#[test]
fn what_was_open_already_when_the_disk_filled_collects_with_the_reserve() {
    let _alone = alone();
    let kit = filled();
    // Its index is only read as yet.
    let store = kit.open();
    let reserve = kit.dir().join("reserve");
    assert!(reserve.exists());
    fail(&kit, "open", "index", ENOSPC, 1);
    let policy = Policy { max_size_bytes: Some(500), ..Policy::default() };
    let (went, report) = gc(&store, &policy, Mode::Collect, 1 << 40);
    assert_eq!((went.len(), report.freed_bytes), (1, 7_000));
    assert!(!reserve.exists(), "what it kept was needed");
    assert_eq!(get(&store, 0), Some(noise(0, 100)));
    assert_eq!(verify(&store), []);
}

#[test]
fn what_is_walked_over_is_the_same_from_memory() {
    let _alone = alone();
    let kit = Kit::new();
    let store = kit.open();
    for number in 0..20 {
        put(&store, number, &noise(number, 100));
    }
    // The index has these on disk; what follows is only in the journal.
    store.compact().expect("compact");
    for number in 10..30 {
        let mut commit = commit_of(&store, number, &noise(number + 100, 100));
        commit.put = Put::Replace;
        store.commit(commit).expect("commit");
    }
    drop(store);
    let seen = |store: &Store| {
        let mut rows = Vec::new();
        let mut each = |version, found: cas_store::Found| {
            rows.push((version, found.record));
            true
        };
        store.rows(&mut each).expect("rows");
        let mut labels = Vec::new();
        let mut each = |moment| {
            labels.push(moment);
            true
        };
        store.labels(&mut each).expect("labels");
        let history = store.history("step 12", 10).expect("history");
        let runs = store.runs(None, 10).expect("runs");
        (rows, labels, history, runs, store.stats().expect("stats").raw_bytes)
    };
    let from_disk = {
        let store = kit.open();
        drop(store.begin_run(5, b"one".to_vec()).expect("run"));
        drop(store.begin_run(6, b"two".to_vec()).expect("run"));
        seen(&store)
    };
    fail(&kit, "open", "index", ENOSPC, 2);
    let store = kit.open();
    assert_eq!(seen(&store), from_disk);
    assert_eq!(from_disk.0.len(), 30);
    assert_eq!(from_disk.3.len(), 2);
}

#[test]
fn a_store_on_a_network_file_system_is_refused_unless_its_settings_ask_for_it() {
    let _alone = alone();
    let kit = Kit::new();
    // It is asked before anything is made, and of the folder as it was named.
    let pretend = || disk::fail("be local", &kit.dir().to_string_lossy(), EIO, u32::MAX);
    let refused = |opened: Result<(), StoreError>| {
        let error = opened.expect_err("it is not on this machine");
        assert!(matches!(&error, StoreError::Network { dir, kind: "nfs" } if *dir == kit.dir()), "{error:?}");
        let text = error.to_string();
        assert!(text.contains("is on a network file system (nfs)"), "{text}");
    };
    pretend();
    refused(open(&kit.dir()).map(drop));
    assert!(!kit.dir().exists(), "nothing was made there");
    disk::fail_no_more();

    drop(filled_in(&kit));
    pretend();
    refused(open_to_read(&kit.dir()).map(drop));
    refused(rebuild(&kit).map(drop));
    let settings = kit.dir().join("config.toml");
    std::fs::write(&settings, "network_file_system = false\n").expect("it can be written");
    refused(open_to_read(&kit.dir()).map(drop));
    std::fs::write(&settings, "network_file_system = true\n").expect("it can be written");
    let store = kit.open();
    assert_eq!(get(&store, 1), Some(noise(1, 7_000)));
    put(&store, 2, &noise(2, 7_000));
    drop(store);
    rebuild(&kit).expect("it is asked for");
    assert_eq!(get(&kit.open(), 2), Some(noise(2, 7_000)));
    disk::fail_no_more();
}

#[test]
fn a_read_only_store_is_read_and_refuses_to_be_written() {
    let _alone = alone();
    let kit = filled();
    fail(&kit, "open", "lock", EROFS, 1);
    let store = open_to_read(&kit.dir()).expect("it opens");
    assert_eq!(store.warnings(), ["the store is only read: its file system is read-only"]);
    assert_eq!(get(&store, 1), Some(noise(1, 7_000)));
    assert_eq!(verify(&store), []);
    let error = store.commit(commit_of(&store, 2, b"new")).expect_err("it takes nothing");
    assert!(error.to_string().ends_with("takes no more writes: its file system is read-only"), "{error}");
    drop(store);

    // Who wants to write is told at once.
    fail(&kit, "open", "lock", EROFS, 1);
    let error = open(&kit.dir()).expect_err("it cannot be written");
    assert!(
        matches!(&error, StoreError::Io { source, .. } if source.kind() == ErrorKind::ReadOnlyFilesystem)
    );
}

#[test]
fn after_a_failed_sync_a_store_is_read_only_and_the_next_process_finds_everything() {
    let _alone = alone();
    for (place, len) in [("journal", 100), ("blobs", 7_000)] {
        let kit = filled();
        let store = kit.open();
        put(&store, 2, &noise(2, len));
        // One failure; a second sync would seem to succeed, because the kernel reports each loss once.
        fail(&kit, "sync", place, EIO, 1);
        let error = store.sync().expect_err("the disk refuses");
        assert!(error.to_string().starts_with("cannot sync"), "{place}: {error}");
        for error in [
            store.sync().expect_err("it is not tried again"),
            store.commit(commit_of(&store, 3, b"new")).expect_err("it takes nothing more"),
            store.begin_run(1, Vec::new()).map(drop).expect_err("no run either"),
        ] {
            assert!(matches!(error, StoreError::ReadOnly { .. }), "{place}: {error}");
        }
        assert_eq!(get(&store, 1), Some(noise(1, 7_000)), "{place}");
        assert_eq!(get(&store, 2), Some(noise(2, len)), "{place}");
        drop(store);
        let store = kit.open();
        assert_eq!(get(&store, 2), Some(noise(2, len)), "{place}");
        put(&store, 3, b"new");
        store.sync().expect("a new process, a new try");
        assert_eq!(verify(&store), [], "{place}");
    }
}

#[test]
fn a_full_disk_at_any_write_leaves_what_was_there() {
    let _alone = alone();
    for (call, place) in
        [("create", "staging"), ("rename", "blobs"), ("write", "journal"), ("rename", "journal")]
    {
        let kit = filled();
        let store = kit.open();
        fail(&kit, call, place, ENOSPC, 1);
        let outcome = store.stage_bytes(&noise(2, 7_000)).and_then(|staged| {
            let mut commit = commit_of(&store, 2, b"");
            commit.outputs[0].artifact = Some(artifact(&staged));
            commit.staged = vec![staged];
            store.commit(commit)
        });
        match (call, place) {
            // A commit does not pass there; a snapshot does.
            ("rename", "journal") => {
                outcome.expect("it commits");
                assert!(is_full(&store.compact().expect_err("there is no room for a snapshot")));
            }
            _ => {
                let error = outcome.expect_err("there is no room");
                assert!(is_full(&error), "{call} {place}: {error}");
                put(&store, 2, &noise(2, 7_000));
            }
        }
        assert_eq!(get(&store, 2), Some(noise(2, 7_000)), "{call} {place}");
        drop(store);
        let store = kit.open();
        for (number, len) in [(0, 100), (1, 7_000), (2, 7_000)] {
            assert_eq!(get(&store, number), Some(noise(number, len)), "{call} {place}: {number}");
        }
        assert_eq!(verify(&store), [], "{call} {place}");
        assert_eq!(files_below(&kit.dir().join("staging")), [], "{call} {place}");
        drop(store);
        disk::fail_no_more();
    }
}
