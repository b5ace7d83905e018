//! A clock that is set back by two days while a store is used: nothing is lost, and nothing goes before its time.

mod kit;

use std::time::Duration;

use cas_store::{Mode, Policy, Store};
use kit::*;

const DAY_MS: u64 = 24 * 3600 * 1000;
const NOW_MS: u64 = 20_000 * DAY_MS;

fn put_at(store: &Store, number: u32, made_ms: u64) {
    let mut commit = commit_of(store, number, &noise(number, 5_000));
    commit.made_ms = made_ms;
    store.commit(commit).expect("it commits");
}

/// How many results go that were not used for a day.
fn collected(kit: &Kit, now_ms: u64) -> u64 {
    // Opened for this alone, so that nobody was told that anything is there.
    let policy = Policy { max_age: Some(Duration::from_secs(24 * 3600)), ..Policy::default() };
    gc(&kit.open(), &policy, Mode::Collect, now_ms).1.results
}

#[test]
fn when_the_clock_goes_back_two_days_nothing_is_lost_and_nothing_goes_too_early() {
    let kit = Kit::new();
    let earlier = NOW_MS - 2 * DAY_MS;
    {
        let store = kit.open();
        put_at(&store, 1, NOW_MS);
        assert_eq!(store.begin_run(NOW_MS, b"before".to_vec()).expect("it begins").id(), 1);
        put_at(&store, 2, earlier);
        assert_eq!(store.begin_run(earlier, b"after".to_vec()).expect("it begins").id(), 2);
        store.touch(&[trace(1), trace(2)], earlier).expect("it is noted");
    }
    // By that clock the first one will be made in two days: it is not older than a day.
    assert_eq!(collected(&kit, earlier), 0);
    {
        let store = kit.open();
        for number in [1, 2] {
            assert_eq!(get(&store, number), Some(noise(number, 5_000)), "{number}");
        }
        let runs: Vec<u64> = store.runs(None, 10).expect("runs").iter().map(|run| run.id).collect();
        assert_eq!(runs, [2, 1], "in the order in which they began, whatever the clock said");
        assert_eq!(verify(&store), []);
    }
    Store::rebuild(&kit.dir(), how(Duration::ZERO, &mut |_| {})).expect("rebuild");
    for number in [1, 2] {
        assert_eq!(get(&kit.open(), number), Some(noise(number, 5_000)), "{number}");
    }
    // Set right again, ages are what they are.
    assert_eq!(collected(&kit, NOW_MS - DAY_MS / 2), 1);
    let store = kit.open();
    assert_eq!([get(&store, 1).is_some(), get(&store, 2).is_some()], [true, false]);
}
