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

use cas_store::{Export, Finding, Mode, Policy, Put, Store, StoreError, Take};
use kit::*;

const CHILD: &str = "CAS_TEST_CHILD_FOLDER";
/// Results from here on may be collected.
const GARBAGE: u32 = 1000;

/// Results that come from an archive, both or none.
const IMPORTED: [u32; 2] = [GARBAGE + 4, GARBAGE + 5];

/// What happens once in a store's life, or once in this work.
const ONCE: [&str; 26] = [
    "folder.format-rewritten",
    "folder.made",
    "folder.filled",
    "folder.format-written",
    "stage.adopted",
    "import.before-end",
    "import.ended",
    "import.dropped",
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
    // The first of all that is written is several results together.
    let together = (0..4).map(|number| commit_of(&store, number, &noise(number, len_of(number)))).collect();
    for (number, committed) in (0..4).zip(store.commit_all(together, &|| true).expect("commit")) {
        committed.expect("it is taken in");
        acknowledge(number);
    }
    for number in 4..12 {
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
    for number in [4, 5, 6] {
        let mut imported = commit_of(&store, GARBAGE + number, &noise(GARBAGE + number.min(5), 7_000));
        // Two of them are more than one part of an import.
        imported.provenance = noise(number, 700_000);
        imported.put = Put::Replace;
        store.commit(imported).expect("commit");
    }
    // The second leaves the content out that the first has.
    let archives = ["first", "second"].map(|name| folder.join(name));
    archives.iter().for_each(|path| drop(fs::remove_file(path)));
    let results = [(trace(GARBAGE + 4), true), (trace(GARBAGE + 5), true), (trace(GARBAGE + 6), true)];
    for (path, results, since) in
        [(&archives[0], &results[..2], None), (&archives[1], &results[2..], Some(archives[0].as_path()))]
    {
        store
            .export(&Export {
                path,
                results,
                since,
                kept: &std::collections::BTreeMap::new(),
                program: "",
                at_ms: 1,
            })
            .expect("export");
    }
    store.sync().expect("sync");
    let damaged = noise(92, 8_000);
    put(&store, GARBAGE + 3, &damaged);
    damage(&dir, &damaged);
    store.quarantine(&cas_store::Digest::of(&damaged), "a test says so").expect("quarantine");
    drop(store);
    // So little is left to the journal, which whoever opens the store next reads.
    let store = open(&dir).expect("open");
    for number in [7, 8] {
        put(&store, GARBAGE + number, b"little");
    }
    drop(store);
    let store = open(&dir).expect("open");
    // (In a store that has content, the last is there already.)
    let keep: Vec<_> = (0..13).map(version).collect();
    store.lookup(&keep).expect("lookup");
    let policy =
        Policy { max_age: Some(Duration::ZERO), max_record_age: Some(Duration::ZERO), ..Policy::default() };
    // The bytes, and then the records of what has none.
    for _ in 0..2 {
        gc(&store, &policy, Mode::Collect, 1 << 40);
    }
    assert!(store.import(&archives[1], 1).is_err(), "what it leaves out is not here");
    store.import(&archives[0], 1).expect("import");
    store.compact().expect("compact");
    put(&store, 12, &noise(12, len_of(12)));
    acknowledge(12);
    drop(store);
    fs::remove_file(dir.join("format")).expect("remove");
    Store::rebuild(&dir, how(Duration::ZERO, &mut |_| {})).expect("rebuild");
}

/// Writes something else into the file of a blob.
fn damage(dir: &Path, content: &[u8]) {
    let file = file_of(dir, &cas_store::Digest::of(content));
    let length = fs::metadata(&file).expect("it is there").len();
    fs::remove_file(&file).expect("remove");
    fs::write(&file, vec![0; usize::try_from(length).expect("a few bytes")]).expect("write");
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
    let mut findings = verify(&store);
    if point == "lose.begin" {
        // What it was about to report is as wrong as before.
        let digest = cas_store::Digest::of(&noise(92, 8_000));
        findings.retain(|finding| !matches!(finding, Finding::Damaged { digest: of, .. } if *of == digest));
    }
    assert_eq!(findings, [], "{point}");
    let imported = IMPORTED.map(|number| store.results(&[trace(number)]).expect("results")[0].is_some());
    if point.starts_with("import.") {
        assert_eq!(imported[0], imported[1], "{point}: half of an archive is there");
    }
}

/// What an import that died leaves is kept by it, and goes with the next collection.
#[test]
fn an_import_that_dies_leaves_nothing_behind_the_next_collection() {
    let kit = Kit::new();
    assert!(!run_child(kit.folder.path(), Some("import.before-end")));
    let store = kit.open();
    let digest = cas_store::Digest::of(&noise(IMPORTED[0], 7_000));
    let is_there = |store: &Store| store.read(&digest, &mut std::io::sink()).is_ok();
    assert!(is_there(&store), "its parts were taken over");
    assert_eq!(store.results(&[trace(IMPORTED[0])]).expect("results"), [None], "but nothing names them");
    let (_, report) = gc(&store, &Policy::default(), Mode::Collect, 1 << 40);
    assert_eq!((report.unnamed, is_there(&store)), (2, false));
    assert_eq!(verify(&store), []);
}

#[test]
fn a_process_may_die_at_every_point() {
    let mut never_passed = Vec::new();
    // By hand, only those that begin like this.
    let only = std::env::var("CAS_CRASH_POINTS").unwrap_or_default();
    for point in cas_store::crash::POINTS.iter().filter(|point| point.starts_with(&only)) {
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
