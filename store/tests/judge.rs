//! Forgetting and accepting: one story a test.

mod kit;

use std::time::Duration;

use cas_store::{Accept, Claim, Commit, Committed, Mode, Policy, Put, Relink, Said, Saying, Store};
use kit::*;

fn saying(at_ms: u64) -> Saying {
    Saying { by: "ada on lab3".to_owned(), at_ms, reason: "the scale was wrong".to_owned() }
}

fn forget(store: &Store, number: u32) -> Option<cas_store::Judgement> {
    store.forget(trace(number).into(), &format!("step {number}"), saying(5_000)).expect("it forgets")
}

fn accept(store: &Store, new: u32, old: u32) -> Option<cas_store::Judgement> {
    let accept = Accept {
        trace: trace(new),
        from: trace(old),
        rows: vec![version(new)],
        facts: vec![(version(new), b"fact".to_vec())],
        history: Some(("step".to_owned(), version(new))),
    };
    store.accept(accept, "step", saying(6_000)).expect("it accepts")
}

/// 2 is made from 1, and 3 from 2; 4 stands alone.
fn chain(store: &Store) {
    put(store, 1, b"one");
    for (number, parent) in [(2, 1), (3, 2)] {
        let bytes = format!("made {number}").into_bytes();
        let commit = Commit { parents: vec![trace(parent)], ..commit_of(store, number, &bytes) };
        store.commit(commit).expect("it commits");
    }
    put(store, 4, b"four");
}

fn there(store: &Store) -> Vec<u32> {
    (1..=4).filter(|number| get(store, *number).is_some()).collect()
}

#[test]
fn what_is_forgotten_counts_as_absent_with_all_that_was_made_from_it_until_that_is_revoked() {
    let kit = Kit::new();
    let store = kit.open();
    chain(&store);
    let judgement = forget(&store, 1).expect("there is something to forget");
    assert_eq!((judgement.id, judgement.said, judgement.reached), (1, Said::Forget, 3));
    assert_eq!(there(&store), [4]);
    assert_eq!(store.results(&[trace(2)]).expect("results"), [None]);
    assert_eq!(store.row(&version(3)).expect("row"), None);
    let relink = Relink { trace: Some(trace(2)), rows: vec![version(9)], ..Relink::default() };
    assert!(!store.relink(relink).expect("it answers"));
    match store.claim_within(trace(1), Duration::ZERO).expect("it answers") {
        Some(Claim::Granted(guard)) => assert!(guard.present().is_none()),
        other => panic!("{other:?}"),
    }
    // Whoever asks for it is told what it was and who said what.
    let judged = store.judged(&[trace(3)]).expect("judged").remove(0);
    assert!(judged.found.is_some_and(|found| found.whole()));
    assert_eq!(judged.marks.first().map(|(_, judgement)| judgement.saying.by.as_str()), Some("ada on lab3"));
    assert_eq!(forget(&store, 1), None);
    assert_eq!(verify(&store), []);

    let revoked = store.revoke(1, saying(7_000)).expect("it revokes").expect("it stood");
    assert_eq!(revoked.revoked, Some(saying(7_000)));
    assert_eq!(there(&store), [1, 2, 3, 4]);
    // It stays in the list, revoked, and is not revoked twice.
    assert_eq!(store.judgements().expect("judgements"), [revoked]);
    assert_eq!(store.revoke(1, saying(8_000)).expect("it answers"), None);
}

#[test]
fn what_is_made_again_stands_and_what_was_made_from_the_forgotten_one_does_not() {
    let kit = Kit::new();
    let store = kit.open();
    chain(&store);
    forget(&store, 1);
    match put(&store, 1, b"one, again") {
        Committed::Replaced { differs, .. } => assert!(!differs, "it was said to be wrong"),
        other => panic!("{other:?}"),
    }
    assert_eq!(get(&store, 1).as_deref(), Some(b"one, again".as_slice()));
    assert_eq!(there(&store), [1, 4]);
    // What was made from the one that counts as absent, by somebody who had it in hand, does not stand either.
    let late = Commit { parents: vec![trace(2)], ..commit_of(&store, 5, b"late") };
    store.commit(late).expect("it commits");
    assert_eq!(get(&store, 5), None);
    let again = Commit { parents: vec![trace(1)], ..commit_of(&store, 2, b"two, again") };
    store.commit(again).expect("it commits");
    assert_eq!(get(&store, 2).as_deref(), Some(b"two, again".as_slice()));
    // Revoked, only what was not made again comes back; what was stays what it is now.
    store.revoke(1, saying(9_000)).expect("it revokes");
    assert_eq!(get(&store, 1).as_deref(), Some(b"one, again".as_slice()));
    assert_eq!(get(&store, 3).as_deref(), Some(b"made 3".as_slice()));
    assert_eq!(get(&store, 5).as_deref(), Some(b"late".as_slice()));
    assert_eq!(verify(&store), []);
}

#[test]
fn an_accepted_result_answers_until_it_is_revoked_made_or_its_source_forgotten() {
    let kit = Kit::new();
    let store = kit.open();
    put(&store, 1, b"one");
    assert_eq!(accept(&store, 3, 2), None, "2 has no result");
    let judgement = accept(&store, 2, 1).expect("there is something to accept");
    assert_eq!((judgement.said, judgement.from), (Said::Accept, Some(trace(1))));
    assert_eq!(get(&store, 2).as_deref(), Some(b"one".as_slice()));
    assert_eq!(store.lookup(&[version(2)]).expect("lookup")[0].as_ref().map(|f| f.trace), Some(trace(2)));
    assert_eq!(accept(&store, 2, 1), None, "2 has a result now");
    assert!(store.judged(&[trace(2)]).expect("judged")[0].accepted().is_some());

    // The source is forgotten: so is the copy.
    let forgotten = forget(&store, 1).expect("there is something to forget");
    assert_eq!((forgotten.reached, get(&store, 2)), (2, None));
    store.revoke(forgotten.id, saying(7_000)).expect("it revokes");
    assert!(get(&store, 2).is_some());

    // Revoked: absent, the source is not; accepted again: there.
    store.revoke(judgement.id, saying(7_500)).expect("it revokes");
    assert_eq!((get(&store, 1).is_some(), get(&store, 2)), (true, None));
    accept(&store, 2, 1).expect("it can be accepted again");
    assert!(get(&store, 2).is_some());

    // Made by itself: nobody has to be told any longer, and what stood there was made by other code.
    let made = store.commit(Commit { put: Put::Replace, ..commit_of(&store, 2, b"two") });
    assert!(matches!(made, Ok(Committed::Replaced { differs: false, .. })), "{made:?}");
    assert!(store.ledger(&trace(2)).expect("ledger").iter().all(|was| !was.differs));
    assert_eq!(get(&store, 2).as_deref(), Some(b"two".as_slice()));
    assert!(store.judged(&[trace(2)]).expect("judged")[0].marks.is_empty());
    assert_eq!(verify(&store), []);
}

#[test]
fn judgements_survive_closing_rebuilding_and_compacting() {
    let kit = Kit::new();
    let check = |store: &Store| {
        assert_eq!(there(store), [4], "forgotten");
        assert_eq!(get(store, 6).as_deref(), Some(b"four".as_slice()), "accepted");
        assert_eq!(store.judgements().expect("judgements").len(), 3);
        assert_eq!(get(store, 7), None, "revoked");
        assert_eq!(verify(store), []);
    };
    {
        let store = kit.open();
        chain(&store);
        forget(&store, 1);
        accept(&store, 6, 4);
        let wrong = accept(&store, 7, 4).expect("it accepts");
        store.revoke(wrong.id, saying(7_000)).expect("it revokes");
        check(&store);
    }
    check(&kit.open());
    Store::rebuild(&kit.dir(), how(Duration::ZERO, &mut |_| {})).expect("it rebuilds");
    {
        let store = kit.open();
        check(&store);
        store.compact().expect("it compacts");
    }
    Store::rebuild(&kit.dir(), how(Duration::ZERO, &mut |_| {})).expect("it rebuilds");
    check(&kit.open());
}

#[test]
fn collecting_takes_marks_with_the_results_and_keeps_what_an_accepted_one_names() {
    let kit = Kit::new();
    let store = kit.open();
    let big = noise(1, 100_000);
    put(&store, 1, &big);
    forget(&store, 1);
    // With no policy nothing goes that has a name: what is forgotten can be revoked.
    gc(&store, &Policy::default(), Mode::Collect, 10_000);
    store.revoke(1, saying(9_000)).expect("it revokes");
    assert_eq!(get(&store, 1), Some(big.clone()));
    accept(&store, 2, 1).expect("it accepts");
    // The source alone is replaced: its bytes are the copy's too.
    store.commit(Commit { put: Put::Replace, ..commit_of(&store, 1, b"other") }).expect("it commits");
    gc(&store, &Policy::default(), Mode::Collect, 10_000);
    assert_eq!(get(&store, 2), Some(big));
    assert_eq!(verify(&store), []);
}
