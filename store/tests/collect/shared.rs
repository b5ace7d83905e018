//! Bytes that several things name: they go with the last of them, and are counted there, once.

use std::collections::HashMap;
use std::fs;

use cas_store::{Commit, Garbage, Mode, Output, Pin, Policy, Put, Staged, Store, Trace};

use crate::kit::*;
use crate::*;

/// A folder with a file of its own, of 20,000 bytes, and one that others may have, of 30,000, each of the noise of its number.
fn tree(kit: &Kit, store: &Store, own: u32, shared: u32) -> Staged {
    let folder = kit.folder.path().join(format!("made {own}"));
    fs::create_dir_all(&folder).expect("make");
    fs::write(folder.join("own"), noise(own, 20_000)).expect("write");
    fs::write(folder.join("shared"), noise(shared, 30_000)).expect("write");
    store.stage_tree(&folder, cas_store::Take::Copy).expect("stage")
}

/// The files of a folder that nothing names go with it, also those that stand far behind it: they were not counted as stored,
/// so that there seemed to be room where there was none.
#[test]
fn what_goes_with_a_folder_that_nothing_names_was_stored() {
    const MANY: u32 = 8_400;
    let kit = Kit::new();
    let store = kit.open();
    let folder = kit.folder.path().join("made");
    fs::create_dir_all(&folder).expect("make");
    for number in 0..200 {
        fs::write(folder.join(number.to_string()), noise(MANY + number, 5_000)).expect("write");
    }
    let staged = store.stage_tree(&folder, cas_store::Take::Copy).expect("stage");
    let mut commit = commit_of(&store, 1, b"");
    commit.outputs[0].artifact = Some(artifact(&staged));
    commit.staged = vec![staged];
    store.commit(commit).expect("commit");
    store.commit(Commit { put: Put::Replace, ..commit_of(&store, 1, b"") }).expect("commit");
    let mut commit = commit_of(&store, 2, b"");
    commit.outputs.clear();
    commit.staged.clear();
    for number in 0..MANY {
        let staged = store.stage_bytes(&noise(number, 20)).expect("it stages");
        commit.outputs.push(Output { name: format!("o{number}"), artifact: Some(artifact(&staged)) });
        commit.staged.push(staged);
    }
    store.commit(commit).expect("commit");
    let store = reopened(&kit, store);
    let stored = store.stats().expect("stats").stored_bytes;
    let policy = Policy { max_size_bytes: Some(u64::from(MANY) * 20 - 1), ..Policy::default() };
    let (would, dry) = gc(&store, &policy, Mode::DryRun, NOW);
    assert_eq!((traces(&would), dry.unnamed, dry.size_before_bytes), (vec![trace(2)], 1, stored));
    let (went, report) = gc(&store, &policy, Mode::Collect, NOW);
    assert_eq!((went, report), (would, dry));
    assert_eq!(store.stats().expect("stats").stored_bytes, 0);
    assert_eq!(verify(&store), []);
}

/// Results that go are looked at many together: more than that first, of which some share what they name with others that go
/// long before or after, and one has two outputs of one content.
#[test]
fn of_very_many_results_each_frees_what_it_is_the_last_to_name() {
    const MANY: u32 = 1_300;
    let kit = Kit::new();
    let store = kit.open();
    let named = |number: u32| {
        let all = MANY + number % 97;
        let own = if number.is_multiple_of(31) { vec![all, all] } else { vec![number, all] };
        own.into_iter().map(|seed| (seed, 20 + seed as usize % 50)).collect::<Vec<_>>()
    };
    let commits = (0..MANY).map(|number| {
        let mut commit = commit_of(&store, number, b"");
        commit.outputs.clear();
        commit.staged.clear();
        for (at, (seed, len)) in named(number).into_iter().enumerate() {
            let staged = store.stage_bytes(&noise(seed, len)).expect("it stages");
            commit.outputs.push(Output { name: format!("o{at}"), artifact: Some(artifact(&staged)) });
            commit.staged.push(staged);
        }
        commit
    });
    for commit in commits.collect::<Vec<_>>() {
        store.commit(commit).expect("commit");
    }
    let store = reopened(&kit, store);
    let all = Policy { max_size_bytes: Some(0), ..Policy::default() };
    let (would, dry) = gc(&store, &all, Mode::DryRun, NOW);
    assert_eq!((would.len(), dry.size_after_bytes()), (MANY as usize, 0));

    let number_of: HashMap<Trace, u32> = (0..MANY).map(|number| (trace(number), number)).collect();
    let order: Vec<u32> = traces(&would).iter().map(|trace| number_of[trace]).collect();
    let last: HashMap<(u32, usize), usize> = order
        .iter()
        .enumerate()
        .flat_map(|(at, number)| named(*number).into_iter().map(move |blob| (blob, at)))
        .collect();
    let mut frees = vec![0; order.len()];
    for ((_, len), at) in &last {
        frees[*at] += *len as u64;
    }
    assert_eq!(would.iter().map(|item| item.bytes).collect::<Vec<_>>(), frees);
    let label = |number: &u32| vec![format!("step {number}")];
    let told = would.iter().map(|item| match &item.what {
        Garbage::Bytes { labels, .. } => labels.clone(),
        other => panic!("{other:?}"),
    });
    assert_eq!(told.collect::<Vec<_>>(), order.iter().map(label).collect::<Vec<_>>());

    // Only as much as it takes, and what is told is done.
    let some = Policy { max_size_bytes: Some(1_000), ..Policy::default() };
    let (would, dry) = gc(&store, &some, Mode::DryRun, NOW);
    assert!(would.len() > 1_024 && would.len() < MANY as usize, "{}", would.len());
    let (went, report) = gc(&store, &some, Mode::Collect, NOW);
    assert_eq!((went, report), (would, dry));
    assert!(store.stats().expect("stats").stored_bytes <= 1_000);
    assert_eq!(verify(&store), []);
}

#[test]
fn shared_bytes_are_freed_with_the_last_that_names_them() {
    let kit = Kit::new();
    let store = kit.open();
    for (number, cost_ms) in [(1, 10), (2, 1000)] {
        let mut commit = commit_of(&store, number, &noise(7, 10_000));
        commit.cost_ms = cost_ms;
        store.commit(commit).expect("commit");
    }
    let store = reopened(&kit, store);
    let policy = Policy { max_size_bytes: Some(0), ..Policy::default() };
    let (would, _) = gc(&store, &policy, Mode::DryRun, NOW);
    let (went, _) = gc(&store, &policy, Mode::Collect, NOW);
    assert_eq!(went, would);
    assert_eq!(went.iter().map(|item| item.bytes).collect::<Vec<_>>(), [0, 10_000]);
    assert_eq!(verify(&store), []);
}

#[test]
fn giving_up_what_a_pinned_result_shares_would_free_nothing_and_is_left() {
    let kit = Kit::new();
    let store = kit.open();
    put(&store, 1, &noise(7, 10_000));
    put(&store, 2, &noise(7, 10_000));
    let pin = Pin { version: version(1), label: "p".to_owned(), reason: None, at_ms: 1, until_ms: None };
    store.pin(pin).expect("pin");
    let store = reopened(&kit, store);
    let policy = Policy { max_size_bytes: Some(0), ..Policy::default() };
    assert_eq!(gc(&store, &policy, Mode::Collect, NOW).0, []);
    assert!(get(&store, 2).is_some());
}

#[test]
fn a_tree_goes_with_the_files_that_only_it_has() {
    let kit = Kit::new();
    let store = kit.open();
    let staged = tree(&kit, &store, 1, 2);
    let mut commit = commit_of(&store, 1, b"");
    commit.outputs[0].artifact = Some(artifact(&staged));
    commit.staged = vec![staged];
    store.commit(commit).expect("commit");
    put_at(&store, 2, 30_000, NOW, 10);
    let store = reopened(&kit, store);
    let policy = Policy { max_age: Some(DAY), ..Policy::default() };
    let (would, _) = gc(&store, &policy, Mode::DryRun, NOW);
    let (went, _) = gc(&store, &policy, Mode::Collect, NOW);
    assert_eq!(went, would);
    assert_eq!(traces(&went), [trace(1)]);
    assert!((20_000..21_000).contains(&went[0].bytes), "{}", went[0].bytes);
    assert_eq!(get(&store, 2), Some(noise(2, 30_000)));
    assert_eq!(verify(&store), []);
    assert_eq!(gc(&store, &Policy::default(), Mode::Collect, NOW).0, []);
}

/// So many that several threads remove their files. Some are outputs of their own beside the tree, before it and behind it in
/// the order of digests: each is freed once.
#[test]
fn a_tree_of_many_files_goes_whole_and_what_is_named_twice_is_freed_once() {
    const MANY: u32 = 1_100;
    let kit = Kit::new();
    let store = kit.open();
    let folder = kit.folder.path().join("made");
    fs::create_dir_all(&folder).expect("make");
    for number in 0..MANY {
        fs::write(folder.join(number.to_string()), noise(number, 5_000)).expect("write");
    }
    let staged = store.stage_tree(&folder, cas_store::Take::Copy).expect("stage");
    let mut commit = commit_of(&store, MANY, b"");
    commit.outputs[0].artifact = Some(artifact(&staged));
    commit.staged = vec![staged];
    for number in 0..8 {
        let staged = store.stage_bytes(&noise(number, 5_000)).expect("it stages");
        let name = format!("o{number}");
        commit.outputs.push(Output { name, artifact: Some(artifact(&staged)) });
        commit.staged.push(staged);
    }
    store.commit(commit).expect("commit");
    let store = reopened(&kit, store);
    let stored = store.stats().expect("stats").stored_bytes;
    let policy = Policy { max_size_bytes: Some(0), ..Policy::default() };
    let (would, dry) = gc(&store, &policy, Mode::DryRun, NOW);
    assert_eq!((traces(&would), dry.freed_bytes), (vec![trace(MANY)], stored));
    let (went, report) = gc(&store, &policy, Mode::Collect, NOW);
    assert_eq!((went, report), (would, dry));
    assert_eq!(store.stats().expect("stats").stored_bytes, 0);
    let fans = fs::read_dir(kit.dir().join("blobs")).expect("list").map(|fan| fan.expect("entry").path());
    let left: usize = fans.map(|fan| fs::read_dir(fan).expect("list").count()).sum();
    assert_eq!(left, 0);
    assert_eq!(verify(&store), []);
}

/// A file that two trees of one result have was counted twice by a dry run, which then held that there was room.
#[test]
fn a_file_that_two_trees_of_a_result_have_is_freed_once() {
    let kit = Kit::new();
    let store = kit.open();
    let mut commit = commit_of(&store, 1, b"");
    commit.outputs.clear();
    commit.staged.clear();
    for own in [2, 3] {
        let staged = tree(&kit, &store, own, 9);
        commit.outputs.push(Output { name: format!("o{own}"), artifact: Some(artifact(&staged)) });
        commit.staged.push(staged);
    }
    commit.cost_ms = 0;
    store.commit(commit).expect("commit");
    put_at(&store, 4, 10_000, NOW - DAY_MS, 60_000);
    let store = reopened(&kit, store);
    let stored = store.stats().expect("stats").stored_bytes;
    let policy = Policy { max_size_bytes: Some(0), ..Policy::default() };
    let (would, dry) = gc(&store, &policy, Mode::DryRun, NOW);
    assert_eq!(traces(&would), [trace(1), trace(4)]);
    assert_eq!(would.iter().map(|item| item.bytes).collect::<Vec<_>>(), [stored - 10_000, 10_000]);
    let (went, report) = gc(&store, &policy, Mode::Collect, NOW);
    assert_eq!((went, report), (would, dry));
    assert_eq!(verify(&store), []);
}

/// A dry run leaves such a tree where it is, and yet it keeps nothing from going behind it.
#[test]
fn a_file_of_a_tree_that_nothing_names_goes_with_the_result_that_has_it_too() {
    let kit = Kit::new();
    let store = kit.open();
    let staged = tree(&kit, &store, 1, 2);
    let tree = staged.digest();
    let mut commit = commit_of(&store, 1, b"");
    commit.outputs[0].artifact = Some(artifact(&staged));
    commit.staged = vec![staged];
    store.commit(commit).expect("commit");
    store.commit(Commit { put: Put::Replace, ..commit_of(&store, 1, b"") }).expect("commit");
    put(&store, 2, &noise(2, 30_000));
    put(&store, 3, &noise(3, 40_000));
    let store = reopened(&kit, store);
    let policy = Policy { max_size_bytes: Some(20_000), ..Policy::default() };
    let (would, _) = gc(&store, &policy, Mode::DryRun, NOW);
    let sizes: Vec<u64> = would.iter().skip(1).map(|item| item.bytes).collect();
    assert_eq!((traces(&would), sizes), (vec![trace(3), trace(2)], vec![40_000, 30_000]));
    for (max, results) in [(70_000, vec![]), (60_000, vec![trace(3)]), (20_000, vec![trace(2)])] {
        let policy = Policy { max_size_bytes: Some(max), ..Policy::default() };
        let (would, dry) = gc(&store, &policy, Mode::DryRun, NOW);
        let (went, report) = gc(&store, &policy, Mode::Collect, NOW);
        assert_eq!((&went, &report), (&would, &dry));
        assert_eq!(traces(&went), results);
        assert_eq!(report.unnamed, u64::from(max == 70_000), "the tree {tree} goes first");
    }
    assert_eq!(verify(&store), []);
}
