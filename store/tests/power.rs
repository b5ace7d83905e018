//! Power is lost after every change of every file: what the machine may then have on disk is built, the
//! store is opened there, and what it promised is looked for.
//!
//! Runs with `--features crash-points`, which records what the store does to its files. Of each prefix of
//! that record several states are built: nothing that was not synced is there; all of it is; the names are
//! there and their content is zeros; each file, name and block by the throw of a die. RocksDB's files are as
//! they were when it last said that they are on disk (`docs/format.md` argues why that is right).

#![cfg(feature = "crash-points")]

mod kit;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cas_store::disk::{self, Op};
use cas_store::{Committed, Export, Finding, Mode, Policy, Put};
use kit::*;

/// Results from here on may be collected or replaced.
const LOOSE: u32 = 1000;

/// Results that come from another store, in a file, after those that are made here.
const IMPORTED: [u32; 3] = [20, 21, 22];

/// What is written to a disk goes there in blocks of this size.
const BLOCK: usize = 512;

/// A file: what was written, and what of it is on disk for certain.
#[derive(Default)]
struct File {
    now: Vec<u8>,
    safe: Vec<u8>,
}

/// Files and names as processes see them, and as they are on disk for certain.
#[derive(Default)]
struct Disk {
    files: Vec<File>,
    names: BTreeMap<PathBuf, usize>,
    safe_names: BTreeMap<PathBuf, usize>,
    /// Folders whose own names are on disk.
    safe_folders: BTreeSet<PathBuf>,
    index: Option<Vec<(OsString, Vec<u8>)>>,
}

impl Disk {
    fn file(&mut self, path: &Path) -> &mut File {
        let id = *self.names.entry(path.to_owned()).or_insert_with(|| {
            self.files.push(File::default());
            self.files.len() - 1
        });
        &mut self.files[id]
    }

    fn apply(&mut self, root: &Path, op: &Op) {
        match op {
            Op::Write { path, bytes, offset } => {
                let now = &mut self.file(path).now;
                let offset = usize::try_from(*offset).expect("small");
                now.resize(now.len().max(offset + bytes.len()), 0);
                now[offset..offset + bytes.len()].copy_from_slice(bytes);
            }
            Op::Cut { path, len } => self.file(path).now.truncate(usize::try_from(*len).expect("small")),
            Op::Rename { from, to, bytes } => {
                let id = self.names.remove(from).unwrap_or_else(|| {
                    self.files.push(File { now: bytes.clone(), safe: Vec::new() });
                    self.files.len() - 1
                });
                self.names.insert(to.clone(), id);
            }
            Op::Remove { path } => drop(self.names.remove(path)),
            Op::Sync { path } => {
                let file = self.file(path);
                file.safe = file.now.clone();
            }
            Op::SyncFolder { path } => {
                let is_in = |name: &PathBuf| name.parent() == Some(path);
                self.safe_names.retain(|name, _| !is_in(name));
                let names = self.names.iter().filter(|(name, _)| is_in(name));
                self.safe_names.extend(names.map(|(name, id)| (name.clone(), *id)));
                let folders = self.names.keys().flat_map(|name| name.ancestors().skip(1));
                let folders = folders.filter(|folder| folder.parent() == Some(path));
                self.safe_folders.extend(folders.map(Path::to_owned));
                if path == root && self.index.is_some() {
                    self.safe_folders.insert(root.join("index"));
                }
            }
            Op::SyncFileSystem { .. } => {
                self.files.iter_mut().for_each(|file| file.safe = file.now.clone());
                self.safe_names = self.names.clone();
                let folders = self.names.keys().flat_map(|name| name.ancestors().skip(1));
                self.safe_folders.extend(folders.map(Path::to_owned));
            }
            Op::Flushed { files, .. } => self.index = Some(files.clone()),
        }
    }

    /// Builds what may be there after the power was lost.
    fn build(&self, root: &Path, at: &Path, how: How) {
        let mut die = Die(how.seed());
        let mut names: BTreeMap<PathBuf, usize> = BTreeMap::new();
        let all: BTreeSet<&PathBuf> = self.names.keys().chain(self.safe_names.keys()).collect();
        for name in all {
            let now = match how {
                How::Safe => false,
                How::All | How::Zeros => true,
                How::Thrown(_) => die.throw(2) == 0,
            };
            let id = if now { self.names.get(name) } else { self.safe_names.get(name) };
            let is_reached = how != How::Safe || {
                let folders = name.ancestors().skip(1);
                let below = folders.take_while(|folder| *folder != root);
                below.into_iter().all(|folder| self.safe_folders.contains(folder))
            };
            if let Some(id) = id.filter(|_| is_reached) {
                names.insert(name.clone(), *id);
            }
        }
        for (name, id) in names {
            let File { now, safe } = &self.files[id];
            let bytes = match how {
                How::Safe => safe.clone(),
                How::All => now.clone(),
                How::Zeros => zeroed(now, safe),
                How::Thrown(_) => match die.throw(4) {
                    0 => safe.clone(),
                    1 => now.clone(),
                    2 => zeroed(now, safe),
                    _ => {
                        let mut bytes = zeroed(now, safe);
                        for (block, now) in bytes.chunks_mut(BLOCK).zip(now.chunks(BLOCK)) {
                            if die.throw(2) == 0 {
                                block.copy_from_slice(now);
                            }
                        }
                        bytes
                    }
                },
            };
            let path = at.join(name.strip_prefix(root).expect("below the store"));
            fs::create_dir_all(path.parent().expect("a folder")).expect("make");
            fs::write(&path, bytes).expect("write");
        }
        let has_index = how != How::Safe || self.safe_folders.contains(&root.join("index"));
        if let Some(files) = self.index.as_ref().filter(|_| has_index) {
            let index = at.join("index");
            fs::create_dir_all(&index).expect("make");
            for (name, bytes) in files {
                fs::write(index.join(name), bytes).expect("write");
            }
        }
    }
}

/// As long as it is now, and zeros where it is not as it was synced.
fn zeroed(now: &[u8], safe: &[u8]) -> Vec<u8> {
    let same = now.iter().zip(safe).take_while(|(now, safe)| now == safe).count();
    let mut bytes = now[..same].to_vec();
    bytes.resize(now.len(), 0);
    bytes
}

/// What is there of what was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    Safe,
    All,
    Zeros,
    Thrown(u64),
}

impl How {
    fn seed(self) -> u64 {
        if let Self::Thrown(seed) = self { seed } else { 1 }
    }
}

/// Numbers that look random and are the same each time.
struct Die(u64);

impl Die {
    fn throw(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

fn len_of(number: u32) -> usize {
    if number.is_multiple_of(2) { 100 } else { 7_000 }
}

/// What was done, and after how many changes of files each result was promised to stay.
struct Done {
    root: PathBuf,
    ops: Vec<Op>,
    promised: Vec<(u32, usize)>,
    base: Vec<(PathBuf, Vec<u8>)>,
}

/// Fills a store; `strict` promises each result at once, otherwise a sync does.
fn work(strict: bool) -> Done {
    let kit = Kit::new();
    drop(kit.open());
    let root = kit.dir().canonicalize().expect("the store's folder");
    for name in ["index", "journal"] {
        fs::remove_dir_all(root.join(name)).expect("remove");
    }
    fs::remove_file(root.join("journal.end")).expect("remove");
    let durability = if strict { "durability = \"strict\"\n" } else { "" };
    fs::write(root.join("config.toml"), durability).expect("write");
    let base = ["format", "config.toml", ".gitignore", "CACHEDIR.TAG"]
        .map(|name| (PathBuf::from(name), fs::read(root.join(name)).expect("read")));
    disk::record(&root);
    let mut promised = Vec::new();
    let mut open = Vec::new();
    let store = kit.open();
    let promise = |open: &mut Vec<u32>, promised: &mut Vec<(u32, usize)>| {
        let now = disk::taken().len();
        promised.extend(open.drain(..).map(|number| (number, now)));
    };
    for number in 0..10 {
        match number {
            // Three together.
            7 => {
                let commit = |number| commit_of(&store, number, &noise(number, len_of(number)));
                let committed = store.commit_all((7..10).map(commit).collect(), &|| true).expect("commit");
                assert!(committed.iter().all(|committed| matches!(committed, Ok(Some(Committed::New)))));
                open.extend(7..10);
            }
            8 | 9 => {}
            _ => {
                put(&store, number, &noise(number, len_of(number)));
                open.push(number);
            }
        }
        match number {
            _ if strict => promise(&mut open, &mut promised),
            3 | 6 => {
                store.sync().expect("sync");
                promise(&mut open, &mut promised);
            }
            4 => store.compact().expect("compact"),
            5 => {
                put(&store, LOOSE, &noise(LOOSE, 9_000));
                let mut again = commit_of(&store, LOOSE, &noise(LOOSE + 1, 9_000));
                again.put = Put::Replace;
                store.commit(again).expect("commit");
            }
            _ => {}
        }
        if strict && number == 4 {
            put(&store, LOOSE, &noise(LOOSE, 9_000));
            store.compact().expect("compact");
        }
    }
    drop(store);
    let store = kit.open();
    let keep: Vec<_> = (0..10).map(version).collect();
    store.lookup(&keep).expect("lookup");
    let policy =
        Policy { max_age: Some(Duration::ZERO), max_record_age: Some(Duration::ZERO), ..Policy::default() };
    gc(&store, &policy, Mode::Collect, 1 << 40);
    put(&store, 10, &noise(10, len_of(10)));
    store.sync().expect("sync");
    open.push(10);
    promise(&mut open, &mut promised);
    let elsewhere = Kit::new();
    store.import(&archive(&elsewhere), 6_000).expect("it imports");
    if !strict {
        store.sync().expect("sync");
    }
    open.extend(IMPORTED);
    promise(&mut open, &mut promised);
    drop(store);
    let ops = disk::taken();
    Done { root, ops, promised, base: base.to_vec() }
}

/// What another store has, in a file.
fn archive(elsewhere: &Kit) -> PathBuf {
    let from = elsewhere.open();
    for number in IMPORTED {
        put(&from, number, &noise(number, len_of(number)));
    }
    let path = elsewhere.folder.path().join("results.cas");
    let results = IMPORTED.map(|number| (trace(number), true));
    let export = Export {
        path: &path,
        results: &results,
        since: None,
        kept: &std::collections::BTreeMap::new(),
        program: "a test",
        at_ms: 1,
    };
    from.export(&export).expect("it exports");
    path
}

/// All whose bytes are known beforehand.
fn known() -> impl Iterator<Item = u32> {
    (0..11).chain(IMPORTED)
}

fn check(done: &Done, disk: &Disk, after: usize, how: How) {
    let at = format!("after {after} of {} changes, {how:?}", done.ops.len());
    let kit = Kit::new();
    let dir = kit.dir();
    fs::create_dir_all(&dir).expect("make");
    for folder in ["blobs", "staging", "work"] {
        fs::create_dir(dir.join(folder)).expect("make");
    }
    for (name, bytes) in &done.base {
        fs::write(dir.join(name), bytes).expect("write");
    }
    disk.build(&done.root, &dir, how);
    let store = open(&dir).unwrap_or_else(|error| panic!("{at}: {error}"));
    for number in known() {
        let there = get(&store, number);
        let is_promised =
            done.promised.iter().any(|(promised, since)| *promised == number && *since <= after);
        if is_promised || there.is_some() {
            assert_eq!(there, Some(noise(number, len_of(number))), "{at}: {number}");
        }
    }
    for finding in verify(&store) {
        let promised = |number: &u32| {
            let digest = cas_store::Digest::of(&noise(*number, len_of(*number)));
            matches!(&finding, Finding::Missing { digest: of } | Finding::Damaged { digest: of, .. } if *of == digest)
                && done.promised.iter().any(|(promised, since)| promised == number && *since <= after)
        };
        assert!(!known().any(|number| promised(&number)), "{at}: {finding}");
        assert!(!matches!(finding, Finding::Row { .. } | Finding::Index { .. }), "{at}: {finding}");
    }
    // And it goes on.
    put(&store, 11, &noise(11, len_of(11)));
    assert_eq!(get(&store, 11), Some(noise(11, len_of(11))), "{at}");
}

#[test]
fn power_may_be_lost_after_every_change() {
    let mut states = 0;
    for strict in [true, false] {
        let done = work(strict);
        assert!(done.promised.len() == known().count(), "{:?}", done.promised);
        let mut disk = Disk::default();
        let blobs = done.root.join("blobs");
        disk.safe_folders.extend([blobs, done.root.join("staging")]);
        for (after, op) in done.ops.iter().enumerate() {
            disk.apply(&done.root, op);
            let seed = after as u64;
            for how in [How::Safe, How::All, How::Zeros, How::Thrown(seed), How::Thrown(seed + 10_000)] {
                check(&done, &disk, after + 1, how);
                states += 1;
            }
        }
    }
    println!("{states} states");
    assert!(states > 200);
}
