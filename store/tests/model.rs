//! The store against a plain map, over random sequences of everything that changes it.

mod kit;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use cas_store::{Committed, Digest, Mode, Pin, Policy, Put, Relink, Store};
use kit::*;
use proptest::prelude::*;

/// What can be done. Numbers are small, so that things meet.
#[derive(Debug, Clone)]
enum Op {
    Commit {
        number: u32,
        content: u8,
        put: bool,
    },
    Relink {
        row: u32,
        number: u32,
    },
    Pin(u32),
    Unpin(u32),
    Reopen,
    /// The process is killed: what it had written to files is there, what it had in memory is not.
    Crash,
    /// All that is not pinned loses its bytes.
    Evict,
    /// What nothing names goes.
    Sweep,
    /// Somebody removes a blob's file.
    Lose(u8),
    Rebuild,
    Compact,
}

fn ops() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0u32..6, 0u8..5, any::<bool>())
            .prop_map(|(number, content, put)| Op::Commit { number, content, put }),
        2 => (0u32..8, 0u32..6).prop_map(|(row, number)| Op::Relink { row, number }),
        1 => (0u32..8).prop_map(Op::Pin),
        1 => (0u32..8).prop_map(Op::Unpin),
        2 => Just(Op::Reopen),
        2 => Just(Op::Crash),
        2 => Just(Op::Evict),
        1 => Just(Op::Sweep),
        1 => (0u8..5).prop_map(Op::Lose),
        1 => Just(Op::Rebuild),
        1 => Just(Op::Compact),
    ]
}

/// Even contents live in the index, odd ones in files.
fn content(number: u8) -> Vec<u8> {
    noise(u32::from(number), if number.is_multiple_of(2) { 50 } else { 6_000 })
}

#[derive(Default)]
struct Model {
    rows: BTreeMap<u32, u32>,
    /// Content and whether it was evicted.
    results: BTreeMap<u32, (u8, bool)>,
    blobs: BTreeSet<u8>,
    pins: BTreeSet<u32>,
}

impl Model {
    fn row(&self, row: u32) -> Option<Vec<u8>> {
        let (number, _) = self.results.get(self.rows.get(&row)?)?;
        self.blobs.contains(number).then(|| content(*number))
    }

    fn sweep(&mut self) {
        self.blobs = self
            .results
            .values()
            .filter(|(number, evicted)| !evicted && self.blobs.contains(number))
            .map(|(number, _)| *number)
            .collect();
    }
}

fn apply(kit: &Kit, store: Store, model: &mut Model, op: &Op) -> Store {
    match op {
        Op::Commit { number, content: new, put } => {
            let mut commit = commit_of(&store, *number, &content(*new));
            commit.put = if *put { Put::Replace } else { Put::IfAbsent };
            let committed = store.commit(commit).expect("commit");
            match model.results.get(number).copied() {
                Some((old, _)) if !put && model.blobs.contains(&old) => {
                    let Committed::Adopted { differs, .. } = committed else { panic!("{committed:?}") };
                    assert_eq!(differs, old != *new);
                    model.results.insert(*number, (old, false));
                }
                Some((old, _)) => {
                    let Committed::Replaced { differs, .. } = committed else { panic!("{committed:?}") };
                    assert_eq!(differs, old != *new);
                    model.results.insert(*number, (*new, false));
                    model.blobs.insert(*new);
                }
                None => {
                    assert!(matches!(committed, Committed::New), "{committed:?}");
                    model.results.insert(*number, (*new, false));
                    model.blobs.insert(*new);
                }
            }
            model.rows.insert(*number, *number);
            store
        }
        Op::Relink { row, number } => {
            let relink = Relink {
                trace: Some(trace(*number)),
                rows: vec![version(*row)],
                at_ms: 1,
                ..Relink::default()
            };
            let done = store.relink(relink).expect("relink");
            assert_eq!(done, model.results.contains_key(number));
            if let Some((content, evicted)) = model.results.get_mut(number) {
                *evicted &= !model.blobs.contains(content);
                model.rows.insert(*row, *number);
            }
            store
        }
        Op::Pin(row) => {
            let label = "p".to_owned();
            let pin = Pin { version: version(*row), label, reason: None, at_ms: 1, until_ms: None };
            store.pin(pin).expect("pin");
            model.pins.insert(*row);
            store
        }
        Op::Unpin(row) => {
            assert_eq!(store.unpin(&version(*row)).expect("unpin"), model.pins.remove(row));
            store
        }
        Op::Reopen => {
            drop(store);
            kit.open()
        }
        Op::Crash => {
            let image = kit.folder.path().join("image");
            copy(&kit.dir(), &image);
            drop(store);
            std::fs::remove_dir_all(kit.dir()).expect("remove");
            std::fs::rename(&image, kit.dir()).expect("rename");
            kit.open()
        }
        Op::Evict => {
            // A new process has leased nothing.
            drop(store);
            let store = kit.open();
            let policy = Policy {
                max_age: Some(Duration::ZERO),
                max_record_age: Some(Duration::from_secs(1 << 40)),
                ..Policy::default()
            };
            let (would, _) = gc(&store, &policy, Mode::DryRun, 1 << 40);
            let (went, _) = gc(&store, &policy, Mode::Collect, 1 << 40);
            assert_eq!(went, would);
            let pinned: BTreeSet<u32> =
                model.pins.iter().filter_map(|row| model.rows.get(row)).copied().collect();
            for (number, (_, evicted)) in &mut model.results {
                *evicted |= !pinned.contains(number);
            }
            model.sweep();
            store
        }
        Op::Sweep => {
            drop(store);
            let store = kit.open();
            let (would, _) = gc(&store, &Policy::default(), Mode::DryRun, 1);
            let (went, _) = gc(&store, &Policy::default(), Mode::Collect, 1);
            assert_eq!(went, would);
            model.sweep();
            store
        }
        Op::Lose(number) => {
            if !number.is_multiple_of(2) && model.blobs.remove(number) {
                std::fs::remove_file(file_of(&kit.dir(), &Digest::of(&content(*number)))).expect("remove");
            }
            store
        }
        Op::Rebuild => {
            drop(store);
            Store::rebuild(&kit.dir(), how(Duration::ZERO, &mut |_| {})).expect("rebuild");
            kit.open()
        }
        Op::Compact => {
            store.compact().expect("compact");
            store
        }
    }
}

/// Copies a store that is open, as it is at one moment: again, if RocksDB tidied up meanwhile.
fn copy(from: &Path, to: &Path) {
    loop {
        let before = files_below(&from.join("index"));
        let mut whole = true;
        for (path, _) in files_below(from) {
            let to = to.join(path.strip_prefix(from).expect("below"));
            std::fs::create_dir_all(to.parent().expect("a folder")).expect("make");
            whole &= std::fs::copy(&path, &to).is_ok();
        }
        if whole && files_below(&from.join("index")) == before {
            return;
        }
        std::fs::remove_dir_all(to).expect("remove");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 60, ..ProptestConfig::default() })]

    #[test]
    fn the_store_does_what_a_map_does(ops in proptest::collection::vec(ops(), 1..25)) {
        let kit = Kit::new();
        let mut model = Model::default();
        let mut store = kit.open();
        for op in &ops {
            store = apply(&kit, store, &mut model, op);
            for row in 0..8 {
                prop_assert_eq!(get(&store, row), model.row(row), "row {} after {:?}", row, op);
            }
        }
        let lost = |finding: &cas_store::Finding| matches!(finding, cas_store::Finding::Missing { .. });
        let findings = verify(&store);
        prop_assert!(findings.iter().all(lost), "{:?}", findings);
        prop_assert_eq!(verify(&store), []);
    }
}
