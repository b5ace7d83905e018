//! A process that dies at every named point in turn: what it had acknowledged is there, nothing is torn,
//! and the next process goes on.
//!
//! Runs with `--features crash-points`. The test starts itself as the process that dies.

#![cfg(feature = "crash-points")]

mod kit;

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use cas_store::{Mode, Policy, Put, Store, StoreError, Take};
use kit::*;

const CHILD: &str = "CAS_TEST_CHILD_FOLDER";
/// Results from here on may be collected.
const GARBAGE: u32 = 1000;

/// What happens once in a store's life, or once in this work.
const ONCE: [&str; 23] = [
    "folder.format-rewritten",
    "folder.made",
    "folder.filled",
    "folder.format-written",
    "stage.adopted",
    "quarantine.before-rename",
    "quarantine.after-rename",
    "materialize.before-rename",
    "lose.begin",
    "lose.forgotten",
    "sync.index",
    "journal.segment-made",
    "journal.segment-named",
    "snapshot.rotated",
    "snapshot.flushed",
    "journal.snapshot-written",
    "journal.snapshot-named",
    "collect.ordered",
    "rebuild.begin",
    "rebuild.replayed",
    "rebuild.flushed",
    "rebuild.old-aside",
    "rebuild.new-named",
];

fn len_of(number: u32) -> usize {
    if number.is_multiple_of(3) { 100 } else { 7_000 }
}

/// Everything that writes, once; `acknowledged` gets the number of each result when it is there for good.
fn work(folder: &Path) {
    let dir = folder.join("store");
    let mut acknowledged =
        fs::File::options().create(true).append(true).open(folder.join("acknowledged")).expect("open");
    let mut acknowledge = |number: u32| writeln!(acknowledged, "{number}").expect("write");
    let store = match open(&dir) {
        // A rebuild may have died between taking the old index away and giving the new one its name.
        Err(StoreError::IndexDamaged { .. } | StoreError::FormatLost { .. }) => {
            Store::rebuild(&dir, how(Duration::ZERO, &mut |_| {})).expect("rebuild");
            open(&dir).expect("open")
        }
        other => other.expect("open"),
    };
    for number in 0..12 {
        put(&store, number, &noise(number, len_of(number)));
        acknowledge(number);
    }
    let made = folder.join("made");
    fs::create_dir_all(&made).expect("make");
    fs::write(made.join("file"), noise(90, 9_000)).expect("write");
    let staged = store.stage_tree(&made, Take::Copy).expect("stage");
    let mut tree = commit_of(&store, GARBAGE + 1, b"");
    tree.outputs[0].artifact = Some(artifact(&staged));
    let given = artifact(&staged);
    tree.staged = vec![staged];
    tree.put = Put::Replace;
    store.commit(tree).expect("commit");
    let to = folder.join("given");
    let _ = fs::remove_dir_all(&to);
    store.materialize(&given, &to).expect("materialize");
    fs::write(folder.join("adopted"), noise(91, 3_000_000)).expect("write");
    let staged = store.stage_file(&folder.join("adopted"), Take::Adopt).expect("stage");
    let mut adopted = commit_of(&store, GARBAGE + 2, b"");
    adopted.outputs[0].artifact = Some(artifact(&staged));
    adopted.staged = vec![staged];
    adopted.put = Put::Replace;
    store.commit(adopted).expect("commit");
    // Enough for the index to be flushed, where that is what is looked at.
    let flushes = std::env::var("CAS_CRASH_POINT").is_ok_and(|point| point.starts_with("sync.index"));
    for number in 0..if flushes { 18 } else { 0 } {
        let mut large = commit_of(&store, GARBAGE + 10 + number, b"");
        large.provenance = vec![7; 1 << 20];
        large.put = Put::Replace;
        store.commit(large).expect("commit");
    }
    store.sync().expect("sync");
    let damaged = noise(92, 8_000);
    put(&store, GARBAGE + 3, &damaged);
    store.quarantine(&cas_store::Digest::of(&damaged), "a test says so").expect("quarantine");
    drop(store);
    let store = open(&dir).expect("open");
    let keep: Vec<_> = (0..12).map(version).collect();
    store.lookup(&keep).expect("lookup");
    let policy =
        Policy { max_age: Some(Duration::ZERO), max_record_age: Some(Duration::ZERO), ..Policy::default() };
    gc(&store, &policy, Mode::Collect, 1 << 40);
    store.compact().expect("compact");
    put(&store, 12, &noise(12, len_of(12)));
    acknowledge(12);
    drop(store);
    fs::remove_file(dir.join("format")).expect("remove");
    Store::rebuild(&dir, how(Duration::ZERO, &mut |_| {})).expect("rebuild");
}

/// Not a test: the process that dies.
#[test]
fn child_process() {
    if let Some(folder) = std::env::var_os(CHILD) {
        work(Path::new(&folder));
    }
}

fn run_child(folder: &Path, point: Option<&str>) -> bool {
    let mut command = Command::new(std::env::current_exe().expect("its own path"));
    command.args(["--exact", "child_process", "--test-threads", "1"]).env(CHILD, folder);
    if let Some(point) = point {
        command.env("CAS_CRASH_POINT", point);
    }
    let output = command.output().expect("it starts");
    if !output.status.success() && std::os::unix::process::ExitStatusExt::signal(&output.status).is_none() {
        panic!("{point:?}: {}", String::from_utf8_lossy(&output.stdout));
    }
    output.status.success()
}

fn rebuilt(kit: &Kit) -> Store {
    Store::rebuild(&kit.dir(), how(Duration::ZERO, &mut |_| {})).expect("rebuild");
    kit.open()
}

fn check(kit: &Kit, point: &str) {
    let text = fs::read_to_string(kit.folder.path().join("acknowledged")).unwrap_or_default();
    let acknowledged: BTreeSet<u32> = text.lines().map(|line| line.parse().expect("a number")).collect();
    let store = match open(&kit.dir()) {
        Err(StoreError::IndexDamaged { .. }) if point.starts_with("rebuild.") => rebuilt(kit),
        Err(StoreError::FormatLost { .. }) if point == "folder.format-rewritten" => rebuilt(kit),
        other => other.unwrap_or_else(|error| panic!("{point}: {error}")),
    };
    for number in 0..13 {
        let there = get(&store, number);
        if acknowledged.contains(&number) {
            assert_eq!(there, Some(noise(number, len_of(number))), "{point}: {number}");
        } else if let Some(there) = there {
            assert_eq!(there, noise(number, len_of(number)), "{point}: {number}");
        }
    }
    assert_eq!(verify(&store), [], "{point}");
}

#[test]
fn a_process_may_die_at_every_point() {
    let mut never_passed = Vec::new();
    for point in cas_store::crash::POINTS {
        // At its first time in a new store, and later in one that has something in it.
        for times in [1, 2] {
            if times == 2 && ONCE.contains(point) {
                continue;
            }
            let kit = Kit::new();
            if times == 2 {
                assert!(run_child(kit.folder.path(), None), "{point}");
            }
            let spec = format!("{point}:{times}");
            let survived = run_child(kit.folder.path(), Some(&spec));
            if survived {
                never_passed.push(spec);
                continue;
            }
            check(&kit, point);
            assert!(run_child(kit.folder.path(), None), "{point}: the next process does not go on");
            check(&kit, point);
        }
    }
    assert_eq!(never_passed, Vec::<String>::new(), "these were never passed");
}
