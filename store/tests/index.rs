//! Rows, results and what keeps them: one story a test.

mod kit;

use std::fs;
use std::sync::mpsc;
use std::time::Duration;

use cas_store::{Claim, ClaimGuard, Committed, Output, Pin, Put, Relink, Store, StoreError};
use kit::*;

#[test]
fn what_was_committed_is_found_and_survives_closing() {
    let kit = Kit::new();
    let big = noise(1, 100_000);
    {
        let store = kit.open();
        assert!(matches!(put(&store, 1, b"small"), Committed::New));
        assert!(matches!(put(&store, 2, &big), Committed::New));
    }
    let store = kit.open();
    assert_eq!(get(&store, 1).as_deref(), Some(b"small".as_slice()));
    assert_eq!(get(&store, 2), Some(big));
    assert_eq!(get(&store, 3), None);
    assert_eq!(store.provenance(&trace(1)).expect("provenance"), Some(b"made 1".to_vec()));
    assert_eq!(store.facts(&[version(2), version(9)]).expect("facts"), [Some(b"fact 2".to_vec()), None]);
    let history = store.history("step 1", 10).expect("history");
    assert_eq!(history.len(), 1);
    assert_eq!((history[0].version, history[0].trace, history[0].at_ms), (version(1), trace(1), 1_001));
    assert_eq!(verify(&store), []);
}

/// Many rows are found by walking over the index where they lie close together, few and scattered ones one by one.
#[test]
fn many_rows_are_found_as_each_by_itself_is() {
    let kit = Kit::new();
    let fill = |store: &Store, numbers: &mut dyn Iterator<Item = u32>| {
        numbers.for_each(|number| drop(put(store, number, &number.to_le_bytes())));
    };
    let check = |store: &Store| {
        let asked: [Vec<u32>; 5] = [
            (0..200).collect(),
            (0..200).rev().chain(0..200).collect(),
            (0..6_000).step_by(3).collect(),
            (10_000..10_100).collect(),
            vec![7, 300, 5],
        ];
        for numbers in asked {
            let versions: Vec<_> = numbers.iter().map(|number| version(*number)).collect();
            let each = |version| Some(store.row(version).expect("row")?.1);
            let expected: Vec<_> = versions.iter().map(each).collect();
            assert_eq!(store.lookup(&versions).expect("lookup"), expected);
            let traces: Vec<_> = numbers.iter().map(|number| trace(*number)).collect();
            assert_eq!(store.results(&traces).expect("results"), expected);
        }
    };
    let store = kit.open();
    check(&store);
    fill(&store, &mut (0..120).filter(|number| number % 5 != 0));
    check(&store);
    store.compact().expect("compact");
    drop(store);
    // Some stand in the index's files now, and some in memory over them; one that was changed stands in both.
    let store = kit.open();
    fill(&store, &mut (110..140));
    let mut again = commit_of(&store, 7, b"again");
    again.put = Put::Replace;
    assert!(matches!(store.commit(again).expect("commit"), Committed::Replaced { .. }));
    check(&store);
}

#[test]
fn a_fresh_store_takes_less_than_a_megabyte() {
    let kit = Kit::new();
    drop(kit.open());
    let files = files_below(&kit.dir());
    let blocks: u64 = files
        .iter()
        .map(|(path, _)| std::os::unix::fs::MetadataExt::blocks(&fs::metadata(path).expect("metadata")) * 512)
        .sum();
    assert!(blocks < 1_000_000, "{blocks} bytes: {files:?}");
}

#[test]
fn the_first_result_wins_and_a_difference_is_noted() {
    let kit = Kit::new();
    let store = kit.open();
    put(&store, 1, b"first");
    match put(&store, 1, b"second") {
        Committed::Adopted { found, differs } => {
            assert!(differs);
            assert_eq!(found.record.made_ms, 1_001);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(get(&store, 1).as_deref(), Some(b"first".as_slice()));
    let ledger = store.ledger(&trace(1)).expect("ledger");
    assert_eq!(ledger.len(), 1);
    assert!(ledger[0].differs && ledger[0].lost_race);
    assert!(matches!(put(&store, 1, b"first"), Committed::Adopted { differs: false, .. }));
    assert_eq!(store.ledger(&trace(1)).expect("ledger").len(), 1);
}

#[test]
fn replacing_replaces_all_outputs_and_keeps_the_old_digests() {
    let kit = Kit::new();
    let store = kit.open();
    let halves = |a: &[u8], b: &[u8], put| {
        let (a, b) = (store.stage_bytes(a).expect("stage"), store.stage_bytes(b).expect("stage"));
        let mut commit = commit_of(&store, 1, b"");
        commit.outputs = [("train", &a), ("test", &b)]
            .map(|(name, half)| Output { name: name.to_owned(), artifact: Some(artifact(half)) })
            .to_vec();
        commit.rows = vec![version(1), version(2)];
        commit.staged = vec![a, b];
        commit.put = put;
        store.commit(commit).expect("commit")
    };
    assert!(matches!(halves(b"a1", b"b1", Put::IfAbsent), Committed::New));
    match halves(b"a2", b"b2", Put::Replace) {
        Committed::Replaced { old, differs } => {
            assert!(differs);
            assert_eq!(old.outputs.len(), 2);
        }
        other => panic!("{other:?}"),
    }
    let found = store.row(&version(2)).expect("row").expect("it is there");
    assert_eq!(found.0, 1);
    let digests: Vec<_> = found
        .1
        .record
        .outputs
        .iter()
        .map(|output| output.artifact.as_ref().expect("produced").digest)
        .collect();
    assert_eq!(digests, [cas_store::Digest::of(b"a2"), cas_store::Digest::of(b"b2")]);
    let ledger = store.ledger(&trace(1)).expect("ledger");
    assert_eq!(ledger.len(), 1);
    assert!(!ledger[0].lost_race);
    assert_eq!(ledger[0].digests, [Some(cas_store::Digest::of(b"a1")), Some(cas_store::Digest::of(b"b1"))]);
}

/// A random split is never mixed: where one half's bytes are gone, both halves are taken from the new one.
#[test]
fn where_any_output_is_gone_the_new_result_replaces_all() {
    let kit = Kit::new();
    let store = kit.open();
    let commit = |a: &[u8], b: &[u8]| {
        let (a, b) = (store.stage_bytes(a).expect("stage"), store.stage_bytes(b).expect("stage"));
        let mut commit = commit_of(&store, 1, b"");
        commit.outputs = [&a, &b]
            .map(|half| Output { name: half.digest().short(), artifact: Some(artifact(half)) })
            .to_vec();
        commit.staged = vec![a, b];
        store.commit(commit).expect("commit")
    };
    let (a1, b1) = (noise(1, 9_000), noise(2, 9_000));
    assert!(matches!(commit(&a1, &b1), Committed::New));
    fs::remove_file(file_of(&kit.dir(), &cas_store::Digest::of(&b1))).expect("remove");
    let found = store.lookup(&[version(1)]).expect("lookup").remove(0).expect("the row is there");
    assert_eq!(found.present, [true, false]);
    let (a2, b2) = (noise(3, 9_000), noise(4, 9_000));
    assert!(matches!(commit(&a2, &b2), Committed::Replaced { differs: true, .. }));
    assert_eq!(get(&store, 1), Some(a2));
}

#[test]
fn a_commit_that_names_what_is_not_there_is_refused() {
    let kit = Kit::new();
    let store = kit.open();
    let mut commit = commit_of(&store, 1, b"here");
    let elsewhere = cas_store::Digest::of(b"never stored");
    let mut other = commit.outputs[0].clone();
    other.name = "other".to_owned();
    other.artifact.as_mut().expect("produced").digest = elsewhere;
    commit.outputs.push(other);
    match store.commit(commit) {
        Err(StoreError::Missing { digest }) => assert_eq!(digest, elsewhere),
        other => panic!("{other:?}"),
    }
    assert_eq!(store.lookup(&[version(1)]).expect("lookup"), [None]);
    assert_eq!(store.results(&[trace(1)]).expect("results"), [None]);
}

#[test]
fn an_output_may_be_what_the_store_has_already() {
    let kit = Kit::new();
    let store = kit.open();
    put(&store, 1, b"shared");
    let mut commit = commit_of(&store, 2, b"shared");
    commit.staged.clear();
    assert!(matches!(store.commit(commit).expect("commit"), Committed::New));
    assert_eq!(get(&store, 2).as_deref(), Some(b"shared".as_slice()));
    let mut makers = store.makers(&cas_store::Digest::of(b"shared"), 10).expect("makers");
    let mut expected = vec![trace(1), trace(2)];
    makers.sort();
    expected.sort();
    assert_eq!(makers, expected);
}

#[test]
fn a_row_names_a_trace_and_answers_with_its_present_result() {
    let kit = Kit::new();
    let store = kit.open();
    put(&store, 1, b"one");
    let relink = |number: u32, rows: Vec<_>| {
        let relink = Relink { trace: Some(trace(number)), rows, at_ms: 5, ..Relink::default() };
        store.relink(relink).expect("relink")
    };
    assert!(relink(1, vec![version(7)]));
    assert!(!relink(2, vec![version(8)]), "there is no result to name");
    assert_eq!(get(&store, 7).as_deref(), Some(b"one".as_slice()));
    assert_eq!(store.lookup(&[version(8)]).expect("lookup"), [None]);
    let mut commit = commit_of(&store, 1, b"two");
    commit.put = Put::Replace;
    store.commit(commit).expect("commit");
    assert_eq!(get(&store, 7).as_deref(), Some(b"two".as_slice()));
    // A row that comes to name another result leaves the first one's.
    put(&store, 3, b"three");
    assert!(relink(3, vec![version(7)]));
    assert_eq!(store.rows_of(&trace(1), 10).expect("rows"), [version(1)]);
    assert_eq!(verify(&store), []);
}

#[test]
fn a_result_without_outputs_is_a_result() {
    let kit = Kit::new();
    let store = kit.open();
    let mut commit = commit_of(&store, 1, b"");
    commit.outputs.clear();
    commit.staged.clear();
    assert!(matches!(store.commit(commit).expect("commit"), Committed::New));
    let found = store.lookup(&[version(1)]).expect("lookup").remove(0).expect("found");
    assert!(found.whole());
}

#[test]
fn a_tree_is_committed_with_all_its_files() {
    let kit = Kit::new();
    let store = kit.open();
    let folder = kit.folder.path().join("made");
    fs::create_dir_all(folder.join("sub")).expect("make");
    fs::write(folder.join("a"), noise(1, 20_000)).expect("write");
    fs::write(folder.join("sub/b"), b"small").expect("write");
    fs::write(folder.join("sub/c"), b"small").expect("write");
    let staged = store.stage_tree(&folder, cas_store::Take::Copy).expect("stage");
    let mut commit = commit_of(&store, 1, b"");
    let tree = artifact(&staged);
    assert!(is_tree(&tree));
    commit.outputs[0].artifact = Some(tree.clone());
    commit.staged = vec![staged];
    store.commit(commit).expect("commit");
    assert_eq!(store.tree(&tree.digest).expect("tree").entries.len(), 3);
    assert_eq!(verify(&store), []);
    let to = kit.folder.path().join("given");
    store.materialize(&tree, &to).expect("it is given");
    assert_eq!(fs::read(to.join("a")).expect("read"), noise(1, 20_000));
    assert_eq!(fs::read(to.join("sub/c")).expect("read"), b"small");
}

#[test]
fn labels_rows_and_prefixes_are_walked_in_order() {
    let kit = Kit::new();
    let store = kit.open();
    for number in 0..50 {
        put(&store, number, &number.to_le_bytes());
    }
    let mut labels = Vec::new();
    store
        .labels(&mut |moment| {
            labels.push(moment.label);
            true
        })
        .expect("labels");
    let mut expected: Vec<String> = (0..50).map(|number| format!("step {number}")).collect();
    expected.sort();
    assert_eq!(labels, expected);
    let mut rows = Vec::new();
    store
        .rows(&mut |version, found| {
            assert!(found.whole());
            rows.push(version);
            true
        })
        .expect("rows");
    let mut expected: Vec<_> = (0..50).map(version).collect();
    expected.sort();
    assert_eq!(rows, expected);
    let hex = version(7).to_hex();
    for digits in [4, 5, 63, 64] {
        assert_eq!(store.with_prefix(&hex[..digits], 10).expect("prefix"), [version(7)]);
    }
    assert_eq!(store.with_prefix("zz", 10).expect("prefix"), []);
    assert_eq!(store.with_prefix("", 3).expect("prefix"), expected[..3]);
}

#[test]
fn pins_are_kept_and_taken_away() {
    let kit = Kit::new();
    let pin = |number: u32| Pin {
        version: version(number),
        label: "paper".to_owned(),
        reason: Some("figure 3".to_owned()),
        at_ms: u64::from(number),
        until_ms: None,
    };
    {
        let store = kit.open();
        store.pin(pin(2)).expect("pin");
        store.pin(pin(1)).expect("pin");
    }
    let store = kit.open();
    assert_eq!(store.pins().expect("pins"), [pin(1), pin(2)]);
    assert!(store.unpin(&version(1)).expect("unpin"));
    assert!(!store.unpin(&version(1)).expect("unpin"));
    assert_eq!(store.pins().expect("pins"), [pin(2)]);
}

/// What is left to the end of the process is memory alone: what was written over files that are only read, too, and
/// whoever opens it next does not wait.
#[test]
fn a_store_that_ends_with_its_process_is_closed_like_any_other() {
    let kit = Kit::new();
    put(&kit.open(), 1, b"one");
    for run in 1..=2 {
        let store = kit.open();
        assert_eq!(get(&store, 1).as_deref(), Some(b"one".as_slice()));
        assert_eq!(store.begin_run(10, b"begun".to_vec()).expect("run").id(), run);
        store.ends_with_the_process();
    }
    // One that was written to as well.
    let store = kit.open();
    (2..3_000).for_each(|number| drop(put(&store, number, &noise(number, 400))));
    store.ends_with_the_process();
    drop(store);
    let store = kit.open();
    assert_eq!(store.runs(None, 10).expect("runs").len(), 2);
    assert_eq!(get(&store, 2_999), Some(noise(2_999, 400)));
    assert_eq!(verify(&store), []);
}

#[test]
fn runs_are_numbered_and_keep_their_logs() {
    let kit = Kit::new();
    {
        let store = kit.open();
        assert_eq!(store.begin_run(10, b"begun".to_vec()).expect("run").id(), 1);
        assert_eq!(store.begin_run(20, b"begun".to_vec()).expect("run").id(), 2);
        let log = store.stage_bytes(b"it failed").expect("stage");
        // What was not noted can be given once more.
        let logs = [log];
        assert!(store.note_run(9, Vec::new(), &logs, &[]).is_err());
        store.note_run(1, b"done".to_vec(), &logs, &[]).expect("note");
    }
    let store = kit.open();
    assert_eq!(store.begin_run(30, Vec::new()).expect("run").id(), 3);
    let runs = store.runs(Some(3), 10).expect("runs");
    assert_eq!(runs.iter().map(|run| run.id).collect::<Vec<_>>(), [2, 1]);
    assert_eq!(runs[1].record, b"done");
    let mut log = Vec::new();
    store.read(&runs[1].blobs[0], &mut log).expect("the log is there");
    assert_eq!(log, b"it failed");
}

#[test]
fn a_second_store_in_one_process_shares_the_host() {
    let kit = Kit::new();
    let one = kit.open();
    let two = kit.open();
    put(&one, 1, b"shared");
    assert_eq!(get(&two, 1).as_deref(), Some(b"shared".as_slice()));
    drop(one);
    assert_eq!(get(&two, 1).as_deref(), Some(b"shared".as_slice()));
    drop(two);
    assert_eq!(get(&kit.open(), 1).as_deref(), Some(b"shared".as_slice()));
}

/// Another process is played by another open file of the same lock.
#[test]
fn a_store_that_another_process_has_is_waited_for_and_then_refused() {
    let kit = Kit::new();
    drop(kit.open());
    let lock = fs::File::options().read(true).write(true).open(kit.dir().join("lock")).expect("open");
    lock.lock().expect("lock");
    fs::write(kit.dir().join("lock"), "run 12 of `pipeline.yaml` (pid 4711)").expect("write");
    let mut told = Vec::new();
    let mut note = |owner: &str| told.push(owner.to_owned());
    let refused = cas_store::Store::open(&kit.dir(), how(Duration::from_millis(30), &mut note));
    match refused {
        Err(error @ StoreError::InUse { .. }) => assert!(
            error.to_string().ends_with("is in use by run 12 of `pipeline.yaml` (pid 4711)"),
            "{error}"
        ),
        other => panic!("{other:?}"),
    }
    assert_eq!(told, ["run 12 of `pipeline.yaml` (pid 4711)"]);
    let (send, receive) = mpsc::channel();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let mut note = |_: &str| send.send(()).expect("somebody listens");
            cas_store::Store::open(&kit.dir(), how(Duration::from_secs(600), &mut note)).map(drop)
        });
        receive.recv().expect("it waits");
        lock.unlock().expect("unlock");
        assert!(waiting.join().expect("no panic").is_ok());
    });
}

#[test]
fn a_step_is_computed_once_and_the_other_gets_the_result() {
    let kit = Kit::new();
    let store = kit.open();
    let Claim::Granted(guard) = store.claim(trace(1)).expect("claim") else { panic!("nobody has it") };
    assert!(guard.present().is_none());
    assert!(store.claim_within(trace(1), Duration::ZERO).expect("claim").is_none());
    std::thread::scope(|scope| {
        let other = kit.open();
        let waiting = scope.spawn(move || other.claim(trace(1)));
        put(&store, 1, b"computed");
        drop(guard);
        match waiting.join().expect("no panic").expect("claim") {
            Claim::Stored(found) => assert!(found.whole()),
            // It came only after the claim was given back, and is told what is there.
            Claim::Granted(guard) => assert!(guard.present().expect("present").whole()),
            Claim::Failed(_) => panic!("nothing failed"),
        }
    });
    let Claim::Granted(guard) = store.claim(trace(1)).expect("claim") else { panic!("it is free") };
    assert!(guard.present().is_some_and(cas_store::Found::whole));
}

#[test]
fn a_connection_that_goes_gives_its_claims_back() {
    let kit = Kit::new();
    let store = kit.open();
    let other = kit.open();
    let Claim::Granted(guard) = other.claim(trace(1)).expect("claim") else { panic!("nobody has it") };
    // The guard keeps its store open; a process that is killed never drops it.
    guard.fail(b"exit 1".to_vec());
    drop(other);
    assert!(matches!(store.claim(trace(1)).expect("claim"), Claim::Granted(_)));
}

#[test]
fn of_several_that_are_committed_together_each_is_answered_by_itself() {
    let kit = Kit::new();
    let store = kit.open();
    put(&store, 1, b"was there");
    let mut nowhere = commit_of(&store, 2, b"");
    nowhere.outputs[0].artifact.as_mut().expect("an output").digest = cas_store::Digest::of(b"nowhere");
    nowhere.staged.clear();
    let mut below = commit_of(&store, 6, b"made from another of them");
    below.parents = vec![trace(5)];
    let mut same_row = commit_of(&store, 7, b"of another trace");
    same_row.rows = vec![version(5)];
    let large = noise(3, 50_000);
    let commits = vec![
        commit_of(&store, 1, b"comes late"),
        nowhere,
        commit_of(&store, 3, &large),
        commit_of(&store, 3, b"the same once more"),
        commit_of(&store, 4, &large),
        commit_of(&store, 5, b"five"),
        below,
        same_row,
    ];
    let committed = store.commit_all(commits, &|| true).expect("it commits");
    assert!(
        matches!(&committed[0], Ok(Some(Committed::Adopted { differs: true, .. }))),
        "{:?}",
        committed[0]
    );
    assert!(matches!(&committed[1], Err(StoreError::Missing { .. })), "{:?}", committed[1]);
    assert!(
        matches!(&committed[3], Ok(Some(Committed::Adopted { differs: true, .. }))),
        "{:?}",
        committed[3]
    );
    for at in [2, 4, 5, 6, 7] {
        assert!(matches!(&committed[at], Ok(Some(Committed::New))), "{at}: {:?}", committed[at]);
    }
    let found = [1, 2, 3, 4, 6].map(|number| get(&store, number));
    let expected = [
        Some(b"was there".to_vec()),
        None,
        Some(large.clone()),
        Some(large),
        Some(b"made from another of them".to_vec()),
    ];
    assert_eq!(found, expected);
    // The row that two of them name is that of the last.
    assert_eq!(get(&store, 5), Some(b"of another trace".to_vec()));
    assert_eq!(store.stats().expect("stats").made, 6);
    assert_eq!(verify(&store), []);
    drop(store);
    let store = kit.open();
    assert_eq!(get(&store, 6), Some(b"made from another of them".to_vec()), "after it was opened again");
    assert_eq!(store.commit_all(Vec::new(), &|| true).expect("nothing to do").len(), 0);
}

#[test]
fn of_several_that_are_claimed_together_those_are_granted_that_nobody_has() {
    let kit = Kit::new();
    let (store, other) = (kit.open(), kit.open());
    put(&store, 3, b"there");
    let Claim::Granted(held) = other.claim(trace(1)).expect("claim") else { panic!("nobody has it") };
    let wanted = [trace(1), trace(2), trace(3), trace(2)];
    let claims = store.claim_free(&wanted).expect("claim");
    let present = |claim: &Option<ClaimGuard>| claim.as_ref().map(|claim| claim.present().is_some());
    assert_eq!(claims.iter().map(present).collect::<Vec<_>>(), [None, Some(false), Some(true), None]);
    assert!(other.claim_within(trace(2), Duration::ZERO).expect("claim").is_none());
    store.release(claims.into_iter().flatten().collect());
    assert!(matches!(other.claim_within(trace(2), Duration::ZERO), Ok(Some(Claim::Granted(_)))));
    drop(held);
    assert!(store.claim_free(&wanted[..1]).expect("claim")[0].is_some());
}

#[test]
fn what_is_damaged_is_quarantined_and_a_miss() {
    let kit = Kit::new();
    let store = kit.open();
    let bytes = noise(1, 50_000);
    put(&store, 1, &bytes);
    let digest = cas_store::Digest::of(&bytes);
    let file = file_of(&kit.dir(), &digest);
    let mut wrong = fs::read(&file).expect("read");
    wrong[1000] ^= 1;
    let mut permissions = fs::metadata(&file).expect("metadata").permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o644);
    fs::set_permissions(&file, permissions).expect("open up");
    fs::write(&file, wrong).expect("write");
    assert!(matches!(store.read(&digest, &mut Vec::new()), Err(StoreError::Damaged { .. })));
    assert!(!file.exists());
    assert!(!store.lookup(&[version(1)]).expect("lookup")[0].as_ref().expect("the row stays").whole());
    assert!(matches!(store.read(&digest, &mut Vec::new()), Err(StoreError::Missing { .. })));
    assert!(matches!(put(&store, 1, &bytes), Committed::Replaced { differs: false, .. }));
    assert_eq!(get(&store, 1), Some(bytes));
    assert_eq!(verify(&store), []);
}

#[test]
fn strict_commits_are_on_disk_when_they_are_acknowledged() {
    let kit = Kit::new();
    drop(kit.open());
    fs::write(kit.dir().join("config.toml"), "durability = \"strict\"\n").expect("write");
    let store = kit.open();
    std::thread::scope(|scope| {
        for part in 0..4 {
            let store = &store;
            scope.spawn(move || {
                for number in 0..10 {
                    put(store, part * 100 + number, &noise(part * 100 + number, 5_000));
                }
            });
        }
    });
    for part in 0..4 {
        for number in 0..10 {
            let number = part * 100 + number;
            assert_eq!(get(&store, number), Some(noise(number, 5_000)));
        }
    }
}

#[test]
fn a_setting_that_is_not_understood_is_named_with_its_place() {
    let kit = Kit::new();
    drop(kit.open());
    let path = kit.dir().join("config.toml");
    fs::write(&path, "\n[policy]\nmax_sise = \"1G\"\n").expect("write");
    let error = open(&kit.dir()).expect_err("it is not understood");
    let expected = format!(
        "`{}`, line 3: `max_sise` is not a setting; those are max_size, max_age, min_free, keep_last, \
         max_record_age",
        path.canonicalize().expect("path").display()
    );
    assert_eq!(error.to_string(), expected);
}

#[test]
fn what_was_used_is_counted() {
    let kit = Kit::new();
    let store = kit.open();
    put(&store, 1, b"one");
    put(&store, 2, b"two");
    store.touch(&[trace(1), trace(2)], 50 * 24 * 3600 * 1000).expect("touch");
    store.touch(&[trace(1)], 50 * 24 * 3600 * 1000 + 5).expect("touch");
    let stats = store.stats().expect("stats");
    assert_eq!((stats.made, stats.reused), (2, 3));
    assert_eq!((stats.rows, stats.results, stats.blobs, stats.inline), (2, 2, 2, 2));
    assert_eq!((stats.named_bytes, stats.raw_bytes, stats.stored_bytes), (6, 6, 6));
    assert!((stats.hit_rate() - 0.6).abs() < 1e-9);
}

/// Most processes find that there is nothing to do. To open the index for writing was most of what they did.
#[test]
fn the_index_is_opened_for_writing_only_for_more_than_a_little() {
    let kit = Kit::new();
    put(&kit.open(), 0, b"zero");
    let index = || {
        let names = files_below(&kit.dir().join("index")).into_iter();
        names.map(|(path, _)| path.file_name().expect("a name").to_owned()).collect::<Vec<_>>()
    };
    let made = index();
    {
        let store = kit.open();
        assert_eq!(get(&store, 0).as_deref(), Some(b"zero".as_slice()));
        put(&store, 1, b"one");
        drop(store.begin_run(5, b"a run".to_vec()).expect("run"));
    }
    assert_eq!(index(), made);

    // What two processes left is read by a third, which writes more than is kept in memory, walks over it all the
    // while, and looks back.
    {
        let store = kit.open();
        for number in 2..1500 {
            put(&store, number, &noise(number, 1_000));
            if number % 100 == 0 {
                let mut rows = 0;
                let mut each = |_, _| {
                    rows += 1;
                    true
                };
                store.rows(&mut each).expect("rows");
                assert_eq!(rows, number + 1);
            }
        }
        assert_ne!(index(), made);
        assert_eq!(get(&store, 1).as_deref(), Some(b"one".as_slice()));
        assert_eq!(verify(&store), []);
    }
    let flushed = index();
    let store = kit.open();
    let all: Vec<_> = (0..1500).map(version).collect();
    assert!(store.lookup(&all).expect("lookup").iter().all(Option::is_some));
    assert_eq!(store.runs(None, 10).expect("runs").len(), 1);
    assert_eq!(index(), flushed);
}
