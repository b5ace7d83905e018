//! What stays, because it is pinned, or somebody reads it or has come to want it.

use cas_store::{Accept, Commit, Digest, Garbage, Going, Mode, Pin, Policy, Put, Saying};

use crate::kit::*;
use crate::*;

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
