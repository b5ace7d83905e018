//! What goes, in what order, why, and what stays.

mod kept;
#[path = "../kit/mod.rs"]
mod kit;
mod shared;
mod told;

use std::fs;
use std::time::Duration;

use cas_store::{Commit, Digest, Garbage, Going, Mode, Output, Policy, Put, Store, Trace, Why};
use kit::*;

const DAY: Duration = Duration::from_secs(24 * 3600);
const DAY_MS: u64 = 24 * 3600 * 1000;
/// A moment far behind all that tests commit.
const NOW: u64 = 1000 * DAY_MS;

/// A result of its own file, made and used at this time.
fn put_at(store: &Store, number: u32, len: usize, made_ms: u64, cost_ms: u64) {
    let mut commit = commit_of(store, number, &noise(number, len));
    commit.made_ms = made_ms;
    commit.cost_ms = cost_ms;
    store.commit(commit).expect("commit");
}

fn traces(going: &[Going]) -> Vec<Trace> {
    going
        .iter()
        .filter_map(|item| match &item.what {
            Garbage::Bytes { trace, .. } => Some(*trace),
            _ => None,
        })
        .collect()
}

/// The same, with nothing leased: a new process has looked nothing up yet.
fn reopened(kit: &Kit, store: Store) -> Store {
    drop(store);
    kit.open()
}
#[test]
fn without_a_policy_only_what_nothing_names_goes() {
    let kit = Kit::new();
    let store = kit.open();
    put(&store, 1, &noise(1, 10_000));
    let mut commit = commit_of(&store, 1, &noise(2, 10_000));
    commit.put = Put::Replace;
    store.commit(commit).expect("commit");
    let store = reopened(&kit, store);
    let stray = Digest::of(b"stray");
    let folder = kit.dir().join("blobs").join(&stray.to_hex()[..2]);
    fs::create_dir_all(&folder).expect("make");
    fs::write(folder.join(stray.to_hex()), b"left by a killed process").expect("write");

    let (would, report) = gc(&store, &Policy::default(), Mode::DryRun, NOW);
    assert_eq!(report.unnamed, 2);
    let (went, report) = gc(&store, &Policy::default(), Mode::Collect, NOW);
    assert_eq!(went, would);
    let blobs: Vec<_> = went.iter().map(|item| (item.what.clone(), item.bytes)).collect();
    assert_eq!(
        blobs,
        [
            (Garbage::Blob { digest: Digest::of(&noise(1, 10_000)) }, 10_000),
            (Garbage::Blob { digest: stray }, 24)
        ]
    );
    assert_eq!(report.freed_bytes, 10_024);
    assert_eq!(get(&store, 1), Some(noise(2, 10_000)));
    assert_eq!(gc(&store, &Policy::default(), Mode::Collect, NOW).0, []);
    assert_eq!(verify(&store), []);
}

/// Results were given up for room that the blobs which nothing names made a moment later.
#[test]
fn no_result_is_given_up_for_room_that_unnamed_blobs_make() {
    let kit = Kit::new();
    let store = kit.open();
    put_at(&store, 1, 10_000, 1_000, 10);
    put(&store, 2, &noise(2, 10_000));
    store.commit(Commit { put: Put::Replace, ..commit_of(&store, 2, &noise(3, 11_000)) }).expect("commit");
    let store = reopened(&kit, store);
    let bound = |bytes| Policy { max_size_bytes: Some(bytes), ..Policy::default() };
    let unnamed = (Garbage::Blob { digest: Digest::of(&noise(2, 10_000)) }, Why::Unnamed, 10_000);
    let result = |number: u32, max: u64, bytes: u64| {
        let labels = vec![format!("step {number}")];
        (Garbage::Bytes { trace: trace(number), labels }, Why::MaxSize(max), bytes)
    };
    let story = |policy: &Policy, mode: Mode| -> Vec<(Garbage, Why, u64)> {
        let (going, _) = gc(&store, policy, mode, NOW);
        going.into_iter().map(|item| (item.what, item.why, item.bytes)).collect()
    };
    // Of 31,000 bytes, 21,000 are left without the one that nothing names.
    assert_eq!(story(&bound(21_000), Mode::DryRun), std::slice::from_ref(&unnamed));
    assert_eq!(story(&bound(20_999), Mode::DryRun), [unnamed.clone(), result(2, 20_999, 11_000)]);
    assert_eq!(story(&bound(21_000), Mode::Collect), [unnamed]);
    assert_eq!(story(&bound(21_000), Mode::Collect), []);
    assert_eq!(story(&bound(20_999), Mode::Collect), [result(2, 20_999, 11_000)]);
    assert_eq!(get(&store, 1), Some(noise(1, 10_000)));
    assert_eq!(verify(&store), []);
}

#[test]
fn what_is_cheapest_per_byte_and_longest_unused_goes_first() {
    let kit = Kit::new();
    let store = kit.open();
    put_at(&store, 1, 10_000, NOW - 10 * DAY_MS, 60_000); // dear
    put_at(&store, 2, 10_000, NOW - 10 * DAY_MS, 10); // cheap
    put_at(&store, 3, 50_000, NOW - 10 * DAY_MS, 60_000); // dear, but large
    put_at(&store, 4, 10_000, NOW - 300 * DAY_MS, 60_000); // dear, but long unused
    let store = reopened(&kit, store);
    let all = Policy { max_size_bytes: Some(0), ..Policy::default() };
    let (would, _) = gc(&store, &all, Mode::DryRun, NOW);
    assert_eq!(traces(&would), [trace(2), trace(4), trace(3), trace(1)]);
    // Only as much as it takes.
    let some = Policy { max_size_bytes: Some(65_000), ..Policy::default() };
    let (would, dry) = gc(&store, &some, Mode::DryRun, NOW);
    let (went, report) = gc(&store, &some, Mode::Collect, NOW);
    assert_eq!(went, would);
    assert_eq!(report, dry);
    assert_eq!(traces(&went), [trace(2), trace(4)]);
    assert_eq!(went[0].why.to_string(), "--max-size 65000");
    assert_eq!((report.size_before_bytes, report.size_after_bytes()), (80_000, 60_000));
    assert_eq!(report.rebuild_ms, 60_010);
    assert_eq!(get(&store, 2), None);
    assert_eq!(get(&store, 1), Some(noise(1, 10_000)));
    let evicted = store.results(&[trace(2)]).expect("results").remove(0).expect("its record stays");
    assert_eq!(evicted.record.evicted.expect("it says so").why, "--max-size 65000");
    assert_eq!(store.makers(&Digest::of(&noise(2, 10_000)), 5).expect("makers"), [trace(2)]);
    assert_eq!(verify(&store), []);
}

/// The order was one by moments, and so another a second later: what several results share was freed by another of them, and
/// of two that are worth about the same the other one went.
#[test]
fn what_a_dry_run_tells_is_done_a_while_later() {
    let kit = Kit::new();
    let store = kit.open();
    for (number, unused_ms, cost_ms) in [(1, 8_000, 100), (2, 4_000, 60), (3, 0, 30)] {
        let mut commit = commit_of(&store, number, &noise(number, 10_000));
        let shared = store.stage_bytes(&noise(9, 5_000)).expect("it stages");
        commit.outputs.push(Output { name: "shared".to_owned(), artifact: Some(artifact(&shared)) });
        commit.staged.push(shared);
        (commit.made_ms, commit.cost_ms) = (NOW + 8_000 - unused_ms, cost_ms);
        store.commit(commit).expect("commit");
    }
    let store = reopened(&kit, store);
    let policy = Policy { max_size_bytes: Some(0), ..Policy::default() };
    let rows = |mode, now_ms| {
        let (going, _) = gc(&store, &policy, mode, now_ms);
        going.into_iter().map(|item| (item.what, item.bytes)).collect::<Vec<_>>()
    };
    let row = |number: u32, bytes: u64| {
        (Garbage::Bytes { trace: trace(number), labels: vec![format!("step {number}")] }, bytes)
    };
    let told = [row(3, 10_000), row(2, 10_000), row(1, 15_000)];
    assert_eq!(rows(Mode::DryRun, NOW + 8_000), told);
    assert_eq!(rows(Mode::DryRun, NOW + 30_000), told);
    assert_eq!(rows(Mode::Collect, NOW + 3_000_000), told);
    assert_eq!(verify(&store), []);
}

/// Within an hour nothing is told apart by how long it was not used, but of equals the one that was used last stays.
#[test]
fn of_two_that_are_worth_the_same_the_one_that_was_used_last_stays() {
    let kit = Kit::new();
    let store = kit.open();
    for (number, unused_ms) in [(1, 3_000), (2, 9_000), (3, 1_000), (4, 6_000)] {
        put_at(&store, number, 10_000, NOW + 100_000 - unused_ms, 10);
    }
    let store = reopened(&kit, store);
    let policy = Policy { max_size_bytes: Some(0), ..Policy::default() };
    let (went, _) = gc(&store, &policy, Mode::Collect, NOW + 100_000);
    assert_eq!(traces(&went), [trace(2), trace(4), trace(1), trace(3)]);
}

#[test]
fn what_was_used_lately_is_not_too_old() {
    let kit = Kit::new();
    let store = kit.open();
    for number in 1..=3 {
        put_at(&store, number, 10_000, NOW - 100 * DAY_MS, 10);
    }
    store.touch(&[trace(2)], NOW - DAY_MS).expect("touch");
    let store = reopened(&kit, store);
    let policy = Policy { max_age: Some(30 * DAY), ..Policy::default() };
    let (went, _) = gc(&store, &policy, Mode::Collect, NOW);
    let mut went = traces(&went);
    went.sort();
    let mut expected = vec![trace(1), trace(3)];
    expected.sort();
    assert_eq!(went, expected);
    assert!(get(&store, 2).is_some());
}

/// A clock that jumped back makes nothing old, and one that jumped ahead is the caller's to know.
#[test]
fn a_clock_that_was_set_back_makes_nothing_old() {
    let kit = Kit::new();
    let store = kit.open();
    put_at(&store, 1, 10_000, NOW, 10);
    let store = reopened(&kit, store);
    let policy = Policy { max_age: Some(DAY), ..Policy::default() };
    assert_eq!(gc(&store, &policy, Mode::Collect, NOW - 2 * DAY_MS).0, []);
}

#[test]
fn the_last_results_of_each_label_stay() {
    let kit = Kit::new();
    let store = kit.open();
    for number in 1..=5 {
        let mut commit = commit_of(&store, number, &noise(number, 10_000));
        commit.made_ms = u64::from(number);
        commit.history = Some(("train".to_owned(), version(number)));
        store.commit(commit).expect("commit");
    }
    put_at(&store, 9, 10_000, 1, 10);
    let store = reopened(&kit, store);
    let policy = Policy { keep_last: Some(2), ..Policy::default() };
    let (would, _) = gc(&store, &policy, Mode::DryRun, NOW);
    let (went, _) = gc(&store, &policy, Mode::Collect, NOW);
    assert_eq!(went, would);
    let mut went = traces(&went);
    went.sort();
    let mut expected = vec![trace(1), trace(2), trace(3)];
    expected.sort();
    assert_eq!(went, expected);
    // With another bound it protects from that one.
    let both = Policy { keep_last: Some(1), max_age: Some(DAY), ..Policy::default() };
    assert_eq!(traces(&gc(&store, &both, Mode::Collect, NOW).0), [trace(4)]);
}

#[test]
fn records_go_only_after_those_made_from_them() {
    let kit = Kit::new();
    let store = kit.open();
    put_at(&store, 1, 10_000, 1, 10);
    let mut child = commit_of(&store, 2, &noise(2, 10_000));
    child.parents = vec![trace(1)];
    store.commit(child).expect("commit");
    let mut young = commit_of(&store, 4, &noise(4, 10_000));
    young.parents = vec![trace(3)];
    young.made_ms = NOW - 40 * DAY_MS;
    put_at(&store, 3, 10_000, 1, 10);
    store.commit(young).expect("commit");
    let store = reopened(&kit, store);
    let evict = Policy { max_age: Some(DAY), max_record_age: Some(2000 * DAY), ..Policy::default() };
    assert_eq!(gc(&store, &evict, Mode::Collect, NOW).1.results, 4);
    assert_eq!(store.children(&trace(1), 5).expect("children"), [trace(2)]);
    let forget = Policy { max_record_age: Some(100 * DAY), ..Policy::default() };
    let (would, _) = gc(&store, &forget, Mode::DryRun, NOW);
    let (went, report) = gc(&store, &forget, Mode::Collect, NOW);
    assert_eq!(went, would);
    assert_eq!(report.records, 2, "1 and 2 go; 3 stays, because 4 is too young and was made from it");
    let left = store.results(&[trace(1), trace(2), trace(3), trace(4)]).expect("results");
    assert_eq!(left.iter().map(Option::is_some).collect::<Vec<_>>(), [false, false, true, true]);
    assert_eq!(store.lookup(&[version(1)]).expect("lookup"), [None]);
    assert_eq!(store.facts(&[version(1), version(3)]).expect("facts")[0], None);
    assert!(store.facts(&[version(3)]).expect("facts")[0].is_some());
    assert_eq!(store.history("step 1", 5).expect("history"), []);
    assert_eq!(verify(&store), []);
}

#[test]
fn an_evicted_result_whose_bytes_another_brings_back_is_a_result_again() {
    let kit = Kit::new();
    let store = kit.open();
    put(&store, 1, &noise(7, 10_000));
    let store = reopened(&kit, store);
    let policy = Policy { max_age: Some(DAY), ..Policy::default() };
    assert_eq!(gc(&store, &policy, Mode::Collect, NOW).1.results, 1);
    put(&store, 2, &noise(7, 10_000));
    assert!(get(&store, 1).is_some());
    assert!(matches!(put(&store, 1, &noise(7, 10_000)), cas_store::Committed::Adopted { .. }));
    let found = store.results(&[trace(1)]).expect("results").remove(0).expect("it is there");
    assert_eq!(found.record.evicted, None);
    assert_eq!(verify(&store), []);
}

#[test]
fn old_runs_lose_their_logs_and_then_go() {
    let kit = Kit::new();
    let store = kit.open();
    let id = store.begin_run(1, b"run".to_vec()).expect("run").id();
    let log = store.stage_bytes(&noise(1, 10_000)).expect("stage");
    store.note_run(id, b"run".to_vec(), &[log], &[]).expect("note");
    drop(store.begin_run(NOW, b"run".to_vec()).expect("run"));
    let policy = Policy { max_age: Some(DAY), max_record_age: Some(2000 * DAY), ..Policy::default() };
    let (would, _) = gc(&store, &policy, Mode::DryRun, NOW);
    let (went, report) = gc(&store, &policy, Mode::Collect, NOW);
    assert_eq!(went, would);
    assert_eq!(went[0].what, Garbage::RunLogs { id: 1 });
    assert_eq!(went[0].bytes, 10_000);
    assert_eq!((report.runs, report.run_logs), (0, 1));
    let policy = Policy { max_record_age: Some(100 * DAY), ..Policy::default() };
    let (went, report) = gc(&store, &policy, Mode::Collect, NOW);
    assert_eq!(went[0].what, Garbage::Run { id: 1 });
    assert_eq!((report.runs, report.run_logs), (1, 0));
    assert_eq!(store.runs(None, 5).expect("runs").len(), 1);
    assert_eq!(store.begin_run(NOW, Vec::new()).expect("run").id(), 3);
    assert_eq!(verify(&store), []);
}

/// Logs of runs went by `--keep-last 0`, which nobody had given.
#[test]
fn logs_of_a_run_go_by_the_rule_that_takes_them() {
    let kit = Kit::new();
    let store = kit.open();
    let id = store.begin_run(NOW - 10 * DAY_MS, b"run".to_vec()).expect("run").id();
    let log = store.stage_bytes(&noise(1, 10_000)).expect("stage");
    store.note_run(id, b"run".to_vec(), &[log], &[]).expect("note");
    let why = |policy: &Policy| {
        let (would, _) = gc(&store, policy, Mode::DryRun, NOW);
        would.iter().map(|going| going.why.to_string()).collect::<Vec<_>>()
    };
    let aged = |age: Option<u32>, record_age: Option<u32>| Policy {
        max_age: age.map(|days| DAY * days),
        max_record_age: record_age.map(|days| DAY * days),
        keep_last: Some(3),
        ..Policy::default()
    };
    assert_eq!(why(&aged(None, None)), Vec::<String>::new());
    assert_eq!(why(&aged(None, Some(5))), ["--max-record-age 5d", "--max-record-age 5d"]);
    assert_eq!(why(&aged(Some(20), Some(5))), ["--max-record-age 5d", "--max-record-age 5d"]);
    assert_eq!(why(&aged(Some(5), Some(20))), ["--max-age 5d"]);
    assert_eq!(why(&Policy { max_size_bytes: Some(0), ..Policy::default() }), ["--max-size 0"]);
}

#[test]
fn work_folders_are_listed_and_removed_unless_they_are_in_use() {
    let kit = Kit::new();
    let store = kit.open();
    let mine = store.work_folder("step").expect("a folder");
    let old = kit.dir().join("work").join("left-behind");
    fs::create_dir_all(old.join("read-only")).expect("make");
    fs::write(old.join("read-only/file"), b"12345").expect("write");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o500);
    fs::set_permissions(old.join("read-only"), mode).expect("protect");
    let kept = kit.dir().join("work/failed/3-train");
    fs::create_dir_all(&kept).expect("make");
    let folders = store.work_folders().expect("list");
    let seen: Vec<_> =
        folders.iter().map(|folder| (folder.path.clone(), folder.kept, folder.in_use)).collect();
    let dir = kit.dir().canonicalize().expect("path");
    let mut expected = vec![
        (dir.join("work/failed/3-train"), true, false),
        (dir.join("work/left-behind"), false, false),
        (mine.clone(), false, true),
    ];
    expected.sort();
    assert_eq!(seen, expected);
    for folder in &folders {
        let removed = store.remove_work_folder(folder);
        assert_eq!(removed.is_ok(), !folder.in_use, "{folder:?}");
    }
    assert!(!old.exists() && !kept.exists() && mine.exists());
}

#[test]
fn a_store_that_passes_its_size_is_collected_by_itself() {
    let kit = Kit::new();
    drop(kit.open());
    std::fs::write(kit.dir().join("config.toml"), "[policy]\nmax_size = \"40K\"\n").expect("write");
    let first = kit.open();
    for number in 0..10 {
        put(&first, number, &noise(number, 7_000));
    }
    assert_eq!(first.stats().expect("stats").evicted, 0, "what a live run made stays");
    let second = kit.open();
    drop(first);
    put(&second, 10, &noise(10, 7_000));
    let begun = std::time::Instant::now();
    // It goes down to 40K; a collection that was under way when the first one left may leave a twentieth more.
    loop {
        let stats = second.stats().expect("stats");
        if stats.stored_bytes <= 43_008 {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{stats:?}");
        std::thread::yield_now();
    }
    assert_eq!(get(&second, 10), Some(noise(10, 7_000)), "what is in use stays");
    drop(second);
    assert_eq!(verify(&kit.open()), []);
}

#[test]
fn what_is_collected_by_itself_is_first_what_nothing_names() {
    let kit = Kit::new();
    drop(kit.open());
    std::fs::write(kit.dir().join("config.toml"), "[policy]\nmax_size = \"40K\"\n").expect("write");
    let first = kit.open();
    for number in 0..4 {
        put(&first, number, &noise(number, 7_000));
    }
    let second = kit.open();
    drop(first);
    for number in 0..3 {
        let again = commit_of(&second, number, &noise(10 + number, 7_000));
        second.commit(Commit { put: Put::Replace, ..again }).expect("commit");
    }
    let begun = std::time::Instant::now();
    // Of 49,000 bytes, 21,000 have no name.
    while second.stats().expect("stats").stored_bytes > 28_000 {
        assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", second.stats());
        std::thread::yield_now();
    }
    drop(second);
    let store = kit.open();
    assert_eq!(store.stats().expect("stats").evicted, 0);
    assert_eq!(get(&store, 3), Some(noise(3, 7_000)));
}

/// A node of facts that many results share was the first one's alone: when that went, all lost it.
#[test]
fn facts_stay_as_long_as_any_result_that_names_them() {
    let kit = Kit::new();
    let store = kit.open();
    let shared = version(100);
    let mut first = commit_of(&store, 1, &noise(1, 10_000));
    (first.made_ms, first.facts) = (1, vec![(shared, b"shared".to_vec())]);
    store.commit(first).expect("commit");
    let mut second = commit_of(&store, 2, &noise(2, 10_000));
    // One that was never put is not there by being named.
    (second.made_ms, second.facts) =
        (NOW - 40 * DAY_MS, vec![(shared, Vec::new()), (version(101), Vec::new())]);
    store.commit(second).expect("commit");
    let store = reopened(&kit, store);
    let evict = Policy { max_age: Some(DAY), max_record_age: Some(2000 * DAY), ..Policy::default() };
    assert_eq!(gc(&store, &evict, Mode::Collect, NOW).1.results, 2);
    let forget = |days: u32| Policy { max_record_age: Some(DAY * days), ..Policy::default() };
    assert_eq!(gc(&store, &forget(100), Mode::Collect, NOW).1.records, 1);
    let facts = store.facts(&[shared, version(101)]).expect("facts");
    assert_eq!(facts, [Some(b"shared".to_vec()), None]);
    assert_eq!(verify(&store), []);
    assert_eq!(gc(&store, &forget(10), Mode::Collect, NOW).1.records, 1);
    assert_eq!(store.facts(&[shared]).expect("facts"), [None]);
    assert_eq!(verify(&store), []);
}

/// Collecting sorts on disk what may not fit into memory, in an index that was opened for reading a moment ago.
#[test]
fn an_index_that_was_only_read_can_be_collected_and_compacted() {
    let kit = Kit::new();
    {
        let store = kit.open();
        for number in 0..10 {
            put(&store, number, &noise(number, 10_000));
        }
    }
    let store = kit.open();
    let policy = cas_store::Policy { max_size_bytes: Some(50_000), ..cas_store::Policy::default() };
    let (would, _) = gc(&store, &policy, cas_store::Mode::DryRun, 1 << 40);
    let (went, report) = gc(&store, &policy, cas_store::Mode::Collect, 1 << 40);
    assert_eq!(would, went);
    assert_eq!(report.freed_bytes, 50_000);
    store.compact().expect("compact");
    assert_eq!((0..10).filter(|number| get(&store, *number).is_some()).count(), 5);
    assert_eq!(verify(&store), []);
}
