//! A store in a folder of its own, and short ways to fill it.

#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(clippy::allow_attributes, reason = "an `expect` would fail in the test that uses all of it")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use cas_store::{
    Artifact, CollectReport, Commit, Committed, Create, Digest, Finding, Going, Hosting, Kind, Mode, Open,
    Output, Policy, Put, Staged, Store, StoreError, Trace, Version,
};

/// A store that goes when it is dropped.
pub(crate) struct Kit {
    pub(crate) folder: tempfile::TempDir,
}

impl Kit {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder") }
    }

    pub(crate) fn dir(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    pub(crate) fn open(&self) -> Store {
        open(&self.dir()).expect("the store opens")
    }
}

pub(crate) fn open(dir: &Path) -> Result<Store, StoreError> {
    open_waiting(dir, Duration::ZERO)
}

pub(crate) fn open_waiting(dir: &Path, wait: Duration) -> Result<Store, StoreError> {
    Store::open(dir, how(wait, &mut |_| {}))
}

pub(crate) fn how(wait: Duration, on_wait: &mut dyn FnMut(&str)) -> Open<'_> {
    let owner = "a test".to_owned();
    Open { create: Create::IfAbsent, hosting: Hosting::Willing, wait, owner, on_wait }
}

/// Ids from small numbers.
pub(crate) fn version(number: u32) -> Version {
    Version::from_bytes(*blake3::hash(format!("version {number}").as_bytes()).as_bytes())
}

pub(crate) fn trace(number: u32) -> Trace {
    Trace::from_bytes(*blake3::hash(format!("trace {number}").as_bytes()).as_bytes())
}

/// Bytes that do not compress, of this length, different for each seed.
pub(crate) fn noise(seed: u32, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}

pub(crate) fn artifact(staged: &Staged) -> Artifact {
    staged.artifact("bytes")
}

/// A commit of one result with one output, whose trace and version have the same number.
pub(crate) fn commit_of(store: &Store, number: u32, bytes: &[u8]) -> Commit {
    let staged = store.stage_bytes(bytes).expect("it stages");
    Commit {
        trace: trace(number),
        rows: vec![version(number)],
        outputs: vec![Output { name: "result".to_owned(), artifact: Some(artifact(&staged)) }],
        staged: vec![staged],
        log: None,
        made_ms: 1_000 + u64::from(number),
        cost_ms: 10,
        provenance: format!("made {number}").into_bytes(),
        parents: Vec::new(),
        facts: vec![(version(number), format!("fact {number}").into_bytes())],
        history: Some((format!("step {number}"), version(number))),
        put: Put::IfAbsent,
    }
}

pub(crate) fn put(store: &Store, number: u32, bytes: &[u8]) -> Committed {
    store.commit(commit_of(store, number, bytes)).expect("it commits")
}

/// The bytes that a version's first output has, if it is there and whole.
pub(crate) fn get(store: &Store, number: u32) -> Option<Vec<u8>> {
    let found = store.lookup(&[version(number)]).expect("it looks up").pop().flatten()?;
    if !found.whole() {
        return None;
    }
    let digest = found.record.outputs.first()?.artifact.as_ref()?.digest;
    let mut bytes = Vec::new();
    match store.read(&digest, &mut bytes) {
        Ok(_) => Some(bytes),
        Err(error) if error.is_miss() => None,
        Err(error) => panic!("reading fails: {error}"),
    }
}

pub(crate) fn gc(store: &Store, policy: &Policy, mode: Mode, now_ms: u64) -> (Vec<Going>, CollectReport) {
    let mut going = Vec::new();
    let report = store.gc(policy, mode, now_ms, &mut |item| going.push(item)).expect("it collects");
    (going, report)
}

pub(crate) fn verify(store: &Store) -> Vec<Finding> {
    let mut findings = Vec::new();
    store.verify(cas_store::Depth::Full, &mut |finding| findings.push(finding)).expect("it verifies");
    findings
}

/// All files below a folder, with their sizes.
pub(crate) fn files_below(dir: &Path) -> Vec<(PathBuf, u64)> {
    let mut files = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        let Ok(entries) = std::fs::read_dir(&dir) else { continue };
        for entry in entries {
            let entry = entry.expect("an entry");
            // A store that is open removes files of its own, and has a socket, which is none.
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_dir() {
                open.push(entry.path());
            } else if metadata.is_file() {
                files.push((entry.path(), metadata.len()));
            }
        }
    }
    files.sort();
    files
}

/// The file of a blob, which must have one.
pub(crate) fn file_of(dir: &Path, digest: &Digest) -> PathBuf {
    let hex = digest.to_hex();
    let files = files_below(&dir.join("blobs"));
    let found = files
        .into_iter()
        .map(|(path, _)| path)
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&hex)));
    found.expect("the blob has a file")
}

/// The kind of an artifact that a tree is.
pub(crate) fn is_tree(artifact: &Artifact) -> bool {
    artifact.kind == Kind::Tree
}
