//! What a dry run tells is what a collection then does, whatever is shared by whom.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use cas_store::{Commit, Mode, Output, Policy, Put, Staged, Store, Take};
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;

use crate::kit::*;
use crate::*;

/// One output: bytes of this seed, or a folder of files of these.
#[derive(Debug, Clone)]
enum Made {
    Bytes(u32),
    Folder(BTreeSet<u32>),
}

#[derive(Debug, Clone)]
struct Step {
    outputs: Vec<Made>,
    unused_days: u64,
    cost_ms: u64,
    /// Whether what it made first, which is this, was replaced.
    replaced: Option<Made>,
}

const LEAST: u32 = 100;

/// Some are small enough to lie in the index.
fn bytes(seed: u32) -> Vec<u8> {
    noise(seed, (LEAST + 1_500 * seed) as usize)
}

fn made() -> impl Strategy<Value = Made> {
    prop_oneof![(0..6_u32).prop_map(Made::Bytes), btree_set(0..6_u32, 1..4).prop_map(Made::Folder)]
}

fn step() -> impl Strategy<Value = Step> {
    (vec(made(), 1..4), 0..20_u64, 0..4_u64, proptest::option::weighted(0.2, made())).prop_map(
        |(outputs, unused_days, cost, replaced)| Step { outputs, unused_days, cost_ms: cost * 10, replaced },
    )
}

fn stage(kit: &Kit, store: &Store, made: &Made) -> Staged {
    match made {
        Made::Bytes(seed) => store.stage_bytes(&bytes(*seed)).expect("it stages"),
        Made::Folder(seeds) => {
            let folder = kit.folder.path().join("made");
            fs::create_dir(&folder).expect("make");
            for seed in seeds {
                fs::write(folder.join(seed.to_string()), bytes(*seed)).expect("write");
            }
            let staged = store.stage_tree(&folder, Take::Copy).expect("it stages");
            fs::remove_dir_all(&folder).expect("remove");
            staged
        }
    }
}

fn commit(kit: &Kit, store: &Store, number: u32, step: &Step, outputs: &[Made]) -> Commit {
    let staged: Vec<Staged> = outputs.iter().map(|made| stage(kit, store, made)).collect();
    let named =
        |(at, staged): (usize, &Staged)| Output { name: format!("o{at}"), artifact: Some(artifact(staged)) };
    Commit {
        outputs: staged.iter().enumerate().map(named).collect(),
        staged,
        made_ms: NOW - step.unused_days * DAY_MS,
        cost_ms: step.cost_ms,
        put: Put::Replace,
        ..commit_of(store, number, b"")
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    /// A file that two folders of a result had was counted twice.
    #[test]
    fn what_a_dry_run_tells_is_what_a_collection_does(
        steps in vec(step(), 1..7),
        max_size_percent in proptest::option::of(0..100_u64),
        max_age_days in proptest::option::of(0..20_u32),
        keep_last in proptest::option::weighted(0.2, Just(1)),
    ) {
        let kit = Kit::new();
        let store = kit.open();
        for (number, step) in (0..).zip(&steps) {
            for outputs in [step.replaced.as_slice(), &step.outputs].into_iter().filter(|made| !made.is_empty()) {
                store.commit(commit(&kit, &store, number, step, outputs)).expect("it commits");
            }
        }
        let store = reopened(&kit, store);
        let stored = store.stats().expect("stats").stored_bytes;
        let policy = Policy {
            max_size_bytes: max_size_percent.map(|percent| stored * percent / 100),
            max_age: max_age_days.map(|days| Duration::from_secs(24 * 3600) * days),
            keep_last,
            ..Policy::default()
        };
        let told = gc(&store, &policy, Mode::DryRun, NOW);
        let (went, report) = gc(&store, &policy, Mode::Collect, NOW);
        let freed = report.freed_bytes;
        prop_assert_eq!((went, report), told);
        prop_assert_eq!(store.stats().expect("stats").stored_bytes, stored - freed);
        prop_assert_eq!(verify(&store), []);
    }
}
