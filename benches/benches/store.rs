//! The parts of the store: put, get, lookup, commit, tree. `cargo bench -p cas-benches --bench store`.
#![expect(clippy::unwrap_used, reason = "a bench fails by panicking")]

use std::fs;

use cas_benches::{commit, noise, open, version};
use cas_store::{Hosting, Store, Take};
use divan::counter::{BytesCount, ItemsCount};
use divan::{AllocProfiler, Bencher};
use tempfile::TempDir;

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

fn store() -> (TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir.path().join("store"), Hosting::Willing).unwrap();
    (dir, store)
}

const SIZES: [usize; 4] = [1 << 10, 16 << 10, 1 << 20, 16 << 20];

#[divan::bench(args = SIZES)]
fn put_of_noise(bencher: Bencher<'_, '_>, size: usize) {
    let (_dir, store) = store();
    let bytes = noise(0, size);
    bencher.counter(BytesCount::new(size)).bench_local(|| store.stage_bytes(&bytes).unwrap());
}

#[divan::bench(args = SIZES)]
fn put_of_text(bencher: Bencher<'_, '_>, size: usize) {
    let (_dir, store) = store();
    let bytes: Vec<u8> =
        b"the quick brown fox jumps over the lazy dog; ".iter().copied().cycle().take(size).collect();
    bencher.counter(BytesCount::new(size)).bench_local(|| store.stage_bytes(&bytes).unwrap());
}

#[divan::bench(args = SIZES)]
fn get(bencher: Bencher<'_, '_>, size: usize) {
    let (_dir, store) = store();
    let staged = store.stage_bytes(&noise(0, size)).unwrap();
    let mut commit = commit(&store, 0, 1).unwrap();
    commit.outputs[0].artifact = Some(staged.artifact("bytes"));
    let digest = staged.digest();
    commit.staged = vec![staged];
    store.commit(commit).unwrap();
    let mut bytes = Vec::with_capacity(size);
    bencher.counter(BytesCount::new(size)).bench_local(|| {
        bytes.clear();
        store.read(&digest, &mut bytes).unwrap()
    });
}

#[divan::bench(args = [1, 10])]
fn commit_of_outputs(bencher: Bencher<'_, '_>, outputs: u64) {
    let (_dir, store) = store();
    let mut number = 0;
    bencher.counter(ItemsCount::new(1_usize)).bench_local(|| {
        number += 1;
        store.commit(commit(&store, number, outputs).unwrap()).unwrap()
    });
}

#[divan::bench(args = [1, 100, 10_000])]
fn lookup(bencher: Bencher<'_, '_>, count: u64) {
    let (_dir, store) = store();
    for number in 0..10_000 {
        store.commit(commit(&store, number, 1).unwrap()).unwrap();
    }
    let versions: Vec<_> = (0..count).map(version).collect();
    bencher.counter(ItemsCount::new(count)).bench_local(|| {
        let found = store.lookup(&versions).unwrap();
        assert!(found.iter().all(Option::is_some));
        found
    });
}

#[divan::bench(args = [100, 1_000])]
fn put_of_a_tree(bencher: Bencher<'_, '_>, files: u64) {
    let (dir, store) = store();
    let root = dir.path().join("tree");
    fs::create_dir(&root).unwrap();
    for number in 0..files {
        let bytes = noise(number, 1024 + usize::try_from(number * 7919 % 15_360).unwrap());
        fs::write(root.join(number.to_string()), bytes).unwrap();
    }
    bencher.counter(ItemsCount::new(files)).bench_local(|| store.stage_tree(&root, Take::Copy).unwrap());
}
