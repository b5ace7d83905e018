//! What goes, in what order, why, and what stays.

mod kit;

use std::collections::HashMap;
use std::fs;
use std::time::Duration;

use cas_store::{
    Accept, Commit, Digest, Garbage, Going, Mode, Output, Pin, Policy, Put, Saying, Store, Trace, Why,
};
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
fn unnamed_blobs_that_somebody_reads_make_no_room() {
    let kit = Kit::new();
    let store = kit.open();
    put(&store, 1, &noise(1, 10_000));
    put(&store, 2, &noise(2, 10_000));
    let store = reopened(&kit, store);
    let reader = kit.open();
    reader.lookup(&[version(1)]).expect("it looks up");
    store.commit(Commit { put: Put::Replace, ..commit_of(&store, 1, &noise(3, 10_000)) }).expect("commit");
    let policy = Policy { max_size_bytes: Some(20_000), ..Policy::default() };
    let (would, _) = gc(&store, &policy, Mode::DryRun, NOW);
    assert_eq!(traces(&would), [trace(2)]);
    assert_eq!(gc(&store, &policy, Mode::Collect, NOW).0, would);
    let mut bytes = Vec::new();
    reader.read(&Digest::of(&noise(1, 10_000)), &mut bytes).expect("it is there");
    drop(reader);
    assert_eq!(gc(&store, &policy, Mode::Collect, NOW).1.unnamed, 1);
    assert_eq!(get(&store, 1), Some(noise(3, 10_000)));
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

/// What is found of the results that go next holds while nobody else writes: here somebody comes to name what they alone
/// had, while they are being collected.
#[test]
fn what_somebody_comes_to_name_while_it_is_collected_stays() {
    const MANY: u32 = 2_300;
    let kit = Kit::new();
    let store = kit.open();
    for number in 0..MANY {
        let mut commit = commit_of(&store, number, &noise(number, 20));
        // What was made first is dear, and goes last.
        commit.cost_ms = 10 + u64::from(MANY - number);
        store.commit(commit).expect("commit");
    }
    let store = reopened(&kit, store);
    let other = kit.open();
    let all = Policy { max_size_bytes: Some(0), ..Policy::default() };
    let (mut seen, mut again) = (0, Vec::new());
    let each = &mut |going: Going| {
        seen += 1;
        // The second thousand has gone, and what is behind it was looked at with it.
        if seen == 2_040 {
            for number in [0, 1, 2, 7, 100] {
                put(&other, MANY + number, &noise(number, 20));
            }
        }
        if let Garbage::Bytes { trace, .. } = going.what {
            again.push(trace);
        }
    };
    let report = store.gc(&all, Mode::Collect, NOW, each).expect("it collects");
    // What they share with a result of now stays, so that giving them up frees nothing.
    assert_eq!((report.results, report.freed_bytes), (u64::from(MANY) - 5, u64::from(MANY - 5) * 20));
    for number in [0, 1, 2, 7, 100] {
        assert!(!again.contains(&trace(number)));
        assert_eq!(get(&other, MANY + number), Some(noise(number, 20)));
    }
    assert_eq!(get(&store, 3), None);
    assert_eq!(verify(&store), []);
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
fn what_is_pinned_stays_until_the_pin_ends() {
    let kit = Kit::new();
    let store = kit.open();
    for number in 1..=2 {
        put_at(&store, number, 10_000, 1, 10);
    }
    let pin = |number, until_ms| Pin {
        version: version(number),
        label: "p".to_owned(),
        reason: None,
        at_ms: 1,
        until_ms,
    };
    store.pin(pin(1, None)).expect("pin");
    store.pin(pin(2, Some(NOW - 1))).expect("pin");
    let store = reopened(&kit, store);
    let policy = Policy { max_age: Some(DAY), ..Policy::default() };
    let (went, report) = gc(&store, &policy, Mode::Collect, NOW);
    assert_eq!(traces(&went), [trace(2)]);
    assert_eq!(report.kept_pinned, 1);
    assert!(get(&store, 1).is_some());
}

#[test]
fn what_a_live_connection_was_told_is_present_stays() {
    let kit = Kit::new();
    let store = kit.open();
    for number in 1..=3 {
        put_at(&store, number, 10_000, 1, 10);
    }
    let store = reopened(&kit, store);
    let run = kit.open();
    run.lookup(&[version(1)]).expect("lookup");
    put_at(&run, 4, 10_000, 1, 10);
    let policy = Policy { max_age: Some(DAY), ..Policy::default() };
    let (went, report) = gc(&store, &policy, Mode::Collect, NOW);
    let mut went = traces(&went);
    went.sort();
    let mut expected = vec![trace(2), trace(3)];
    expected.sort();
    assert_eq!(went, expected);
    assert_eq!(report.kept_in_use, 2);
    drop(run);
    let (mut went, _) = gc(&store, &policy, Mode::Collect, NOW);
    went.sort_by_key(|item| item.used_ms);
    assert_eq!(traces(&went).len(), 2);
}

/// A run goes on with the result that it was told of, even if another process replaces it meanwhile.
#[test]
fn bytes_that_were_replaced_stay_for_those_who_were_told_of_them() {
    let kit = Kit::new();
    let store = kit.open();
    put(&store, 1, &noise(1, 10_000));
    let store = reopened(&kit, store);
    let run = kit.open();
    run.lookup(&[version(1)]).expect("lookup");
    let mut commit = commit_of(&store, 1, &noise(2, 10_000));
    commit.put = Put::Replace;
    store.commit(commit).expect("commit");
    assert_eq!(gc(&store, &Policy::default(), Mode::Collect, NOW).0, []);
    let mut bytes = Vec::new();
    run.read(&Digest::of(&noise(1, 10_000)), &mut bytes).expect("it is there still");
    drop(run);
    assert_eq!(gc(&store, &Policy::default(), Mode::Collect, NOW).1.unnamed, 1);
}

/// A result that shares bytes with one that was replaced under a reader is evicted: the reader was promised these
/// bytes, and nothing else keeps them any longer.
#[test]
fn bytes_that_a_reader_was_promised_stay_when_the_last_that_names_them_is_evicted() {
    let kit = Kit::new();
    let store = kit.open();
    let shared = noise(1, 9_000);
    put(&store, 1, &shared);
    put(&store, 2, &shared);
    let store = reopened(&kit, store);
    let reader = kit.open();
    reader.lookup(&[version(1)]).expect("it looks up");
    store.commit(Commit { put: Put::Replace, ..commit_of(&store, 1, b"other") }).expect("it commits");
    let all = Policy { max_size_bytes: Some(0), ..Policy::default() };
    let (going, _) = gc(&store, &all, Mode::Collect, NOW);
    assert_eq!(traces(&going), []);
    let mut bytes = Vec::new();
    reader.read(&Digest::of(&shared), &mut bytes).expect("it is there");
    assert_eq!(bytes, shared);
    drop(reader);
    let (going, _) = gc(&store, &all, Mode::Collect, NOW);
    assert_eq!(traces(&going), [trace(2)]);
}

/// Accepting another result under a trace whose own one was forgotten takes the old bytes' last name away, while
/// somebody may be reading them.
#[test]
fn what_an_accepted_result_takes_the_place_of_stays_for_those_who_read_it() {
    let kit = Kit::new();
    let store = kit.open();
    let old = noise(1, 9_000);
    put(&store, 1, &old);
    put(&store, 2, b"two");
    let store = reopened(&kit, store);
    let reader = kit.open();
    reader.lookup(&[version(1)]).expect("it looks up");
    let saying = || Saying { by: "ada".to_owned(), at_ms: 5_000, reason: "wrong".to_owned() };
    store.forget(trace(1).into(), "step", saying()).expect("it forgets");
    let rows = vec![version(1)];
    let accept = Accept { trace: trace(1), from: trace(2), rows, facts: Vec::new(), history: None };
    store.accept(accept, "step", saying()).expect("it accepts").expect("there was nothing in its place");
    gc(&store, &Policy::default(), Mode::Collect, NOW);
    let mut bytes = Vec::new();
    reader.read(&Digest::of(&old), &mut bytes).expect("it is there");
    drop(reader);
    let (going, _) = gc(&store, &Policy::default(), Mode::Collect, NOW);
    assert_eq!(going.len(), 1);
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
    let folder = kit.folder.path().join("made");
    fs::create_dir_all(&folder).expect("make");
    fs::write(folder.join("own"), noise(1, 20_000)).expect("write");
    fs::write(folder.join("shared"), noise(2, 30_000)).expect("write");
    let staged = store.stage_tree(&folder, cas_store::Take::Copy).expect("stage");
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
        let folder = kit.folder.path().join(own.to_string());
        fs::create_dir_all(&folder).expect("make");
        fs::write(folder.join("own"), noise(own, 20_000)).expect("write");
        fs::write(folder.join("shared"), noise(9, 30_000)).expect("write");
        let staged = store.stage_tree(&folder, cas_store::Take::Copy).expect("stage");
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
    let folder = kit.folder.path().join("made");
    fs::create_dir_all(&folder).expect("make");
    fs::write(folder.join("own"), noise(1, 20_000)).expect("write");
    fs::write(folder.join("shared"), noise(2, 30_000)).expect("write");
    let staged = store.stage_tree(&folder, cas_store::Take::Copy).expect("stage");
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
    let (went, _) = gc(&store, &policy, Mode::Collect, NOW);
    assert_eq!(went, would);
    assert_eq!(went[0].what, Garbage::RunLogs { id: 1 });
    assert_eq!(went[0].bytes, 10_000);
    let policy = Policy { max_record_age: Some(100 * DAY), ..Policy::default() };
    let (went, _) = gc(&store, &policy, Mode::Collect, NOW);
    assert_eq!(went[0].what, Garbage::Run { id: 1 });
    assert_eq!(store.runs(None, 5).expect("runs").len(), 1);
    assert_eq!(store.begin_run(NOW, Vec::new()).expect("run").id(), 3);
    assert_eq!(verify(&store), []);
}

/// `gc --max-record-age 0s` beside a run took its record away, and the run could not be noted at its end.
#[test]
fn a_run_that_goes_on_keeps_its_logs_and_its_record() {
    let kit = Kit::new();
    let store = kit.open();
    let begun: Vec<_> = (1..=3).map(|at| store.begin_run(at, b"run".to_vec()).expect("run")).collect();
    for run in &begun {
        let log = store.stage_bytes(&noise(1, 10_000)).expect("stage");
        store.note_run(run.id(), b"run".to_vec(), &[log], &[]).expect("note");
    }
    let all = Policy { max_age: Some(DAY), max_record_age: Some(DAY), ..Policy::default() };
    let going = |mode| gc(&store, &all, mode, NOW).0.into_iter().map(|going| going.what).collect::<Vec<_>>();
    assert_eq!(going(Mode::DryRun), []);
    assert_eq!(going(Mode::Collect), []);
    let mut begun = begun.into_iter();
    let (first, second) = (begun.next().expect("one"), begun.next().expect("another"));
    drop(second);
    // Its neighbours have the same log.
    assert_eq!(going(Mode::Collect), [Garbage::RunLogs { id: 2 }, Garbage::Run { id: 2 }]);
    store.note_run(first.id(), b"done".to_vec(), &[], &[]).expect("it is there");
    // The next has the place of the one that ended in the file of this process.
    let fourth = store.begin_run(4, b"run".to_vec()).expect("run");
    drop(first);
    assert_eq!(going(Mode::Collect), [Garbage::RunLogs { id: 1 }, Garbage::Run { id: 1 }]);
    let left = || store.runs(None, 5).expect("runs").iter().map(|run| run.id).collect::<Vec<_>>();
    assert_eq!(left(), [4, 3]);
    drop((fourth, begun));
    assert_eq!(going(Mode::Collect).len(), 3);
    assert_eq!(left(), []);
    assert_eq!(verify(&store), []);
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
