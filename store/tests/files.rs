//! Content through the whole store: in, named by a commit, out again, and what harm to its files comes to.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test, and says where")]

use std::fs::{self, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use cas_store::{
    Artifact, Commit, Committed, Create, Digest, Hosting, Kind, MTIME_S, Node, Open, Output, Staged, Store,
    StoreError, Take, Trace,
};
use tempfile::TempDir;

/// A store in a temporary folder, and a folder beside it.
struct Space {
    dir: TempDir,
    store: Store,
}

impl Space {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        Self { dir, store }
    }

    fn outside(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Commits one output under the trace of its name.
    fn commit(&self, name: &str, staged: Staged) -> (Artifact, Committed) {
        let artifact = staged.artifact("file");
        let committed = self.store.commit(commit(name, &artifact, vec![staged])).unwrap();
        (artifact, committed)
    }

    fn put(&self, bytes: &[u8]) -> Artifact {
        let staged = self.store.stage_bytes(bytes).unwrap();
        self.commit(&staged.digest().to_hex(), staged).0
    }

    fn get(&self, artifact: &Artifact) -> Result<Vec<u8>, StoreError> {
        let mut bytes = Vec::new();
        self.store.read(&artifact.digest, &mut bytes).map(|_| bytes)
    }

    /// The file of a blob, by its name alone.
    fn blob(&self, artifact: &Artifact) -> PathBuf {
        let hex = artifact.digest.to_hex();
        let folder = self.store.dir().join("blobs").join(&hex[..2]);
        let is_its = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with(&hex);
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).find(is_its).unwrap()
    }
}

fn open(dir: &Path) -> Store {
    let open = Open {
        create: Create::IfAbsent,
        hosting: Hosting::Willing,
        wait: Duration::ZERO,
        owner: "a test".to_owned(),
        on_wait: &mut |_| (),
    };
    Store::open(&dir.join("store"), open).unwrap()
}

fn commit(name: &str, artifact: &Artifact, staged: Vec<Staged>) -> Commit {
    let outputs = vec![Output { name: "result".to_owned(), artifact: Some(artifact.clone()) }];
    Commit::bare(trace(name), outputs, staged)
}

fn trace(name: &str) -> Trace {
    Trace::from_bytes(*Digest::of(name.as_bytes()).as_bytes())
}

/// Bytes without pattern, the same in every run.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 1u64;
    let step = |_| {
        // Xorshift: enough that zstd finds nothing.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..len).map(step).collect()
}

fn text(len: usize) -> Vec<u8> {
    b"the quick brown fox jumps over the lazy dog; ".iter().copied().cycle().take(len).collect()
}

/// Writes to a blob's file as root could, and as `chmod` allows anybody.
fn overwrite(path: &Path, bytes: &[u8]) {
    fs::set_permissions(path, Permissions::from_mode(0o644)).unwrap();
    fs::write(path, bytes).unwrap();
}

#[test]
fn content_comes_back_by_every_way_and_after_reopening() {
    let space = Space::new();
    let contents = [vec![], text(100), noise(5_000), text(5_000), noise(6 << 20), text(6 << 20)];
    let artifacts: Vec<Artifact> = contents.iter().map(|bytes| space.put(bytes)).collect();
    let space = Space { store: open(space.dir.path()), dir: space.dir };
    for (bytes, artifact) in contents.iter().zip(&artifacts) {
        assert!(space.get(artifact).unwrap() == *bytes);
        assert!(space.store.bytes(&artifact.digest).unwrap()[..] == bytes[..]);
        let got = space.outside(&artifact.digest.short());
        space.store.materialize(artifact, &got).unwrap();
        assert!(fs::read(&got).unwrap() == *bytes);
        let given = space.outside(&format!("{}.given", artifact.digest.short()));
        let provided = space.store.provide(artifact, &given).unwrap();
        assert!(fs::read(&given).unwrap() == *bytes);
        let metadata = fs::metadata(&given).unwrap();
        assert_eq!((metadata.mode() & 0o7777, metadata.mtime()), (0o444, MTIME_S));
        assert_eq!(space.store.recheck(&provided.links).unwrap(), []);
    }
}

#[test]
fn what_was_staged_and_not_committed_is_not_there() {
    let space = Space::new();
    let staged = space.store.stage_bytes(&noise(100_000)).unwrap();
    let digest = staged.digest();
    drop(staged);
    assert!(matches!(space.store.bytes(&digest), Err(StoreError::Missing { .. })));
    assert_eq!(fs::read_dir(space.store.dir().join("staging")).unwrap().count(), 0);
}

#[test]
fn a_commit_leaves_nothing_in_staging_whether_it_was_needed_or_not() {
    let space = Space::new();
    for name in ["one", "two"] {
        let (_, committed) = space.commit(name, space.store.stage_bytes(&noise(100_000)).unwrap());
        assert!(matches!(committed, Committed::New));
    }
    let (_, committed) = space.commit("two", space.store.stage_bytes(&noise(100_000)).unwrap());
    assert!(matches!(committed, Committed::Adopted { differs: false, .. }), "{committed:?}");
    assert_eq!(fs::read_dir(space.store.dir().join("staging")).unwrap().count(), 0);
}

/// Bit rot, a hand-edited or overwritten file, truncation: noticed, out of the way, a miss, made again.
#[test]
fn a_damaged_blob_is_quarantined_when_it_is_used_and_can_be_made_again() {
    type Use = fn(&Space, &Artifact) -> Result<(), StoreError>;
    let uses: [(&str, Use); 4] = [
        ("read", |space, artifact| space.get(artifact).map(drop)),
        ("bytes", |space, artifact| space.store.bytes(&artifact.digest).map(drop)),
        ("materialize", |space, artifact| space.store.materialize(artifact, &space.outside("got"))),
        ("provide", |space, artifact| space.store.provide(artifact, &space.outside("given")).map(drop)),
    ];
    for (way, used) in uses {
        for bytes in [noise(100_000), text(100_000)] {
            for harm in ["flip", "cut", "grow", "empty"] {
                let space = Space::new();
                let artifact = space.put(&bytes);
                let path = space.blob(&artifact);
                let mut stored = fs::read(&path).unwrap();
                let middle = stored.len() / 2;
                match harm {
                    "flip" => stored[middle] ^= 1,
                    "cut" => stored.truncate(middle),
                    "grow" => stored.push(0),
                    _ => stored.clear(),
                }
                overwrite(&path, &stored);
                let error = used(&space, &artifact).unwrap_err();
                assert!(
                    matches!(error, StoreError::Damaged { digest, .. } if digest == artifact.digest),
                    "{way}, {harm}: {error}"
                );
                assert!(error.is_miss());
                let error = used(&space, &artifact).unwrap_err();
                assert!(matches!(error, StoreError::Missing { .. }), "{way}, {harm}: {error}");
                let quarantine = space.store.dir().join("quarantine");
                assert_eq!(fs::read_dir(quarantine).unwrap().count(), 2, "the file and a note");
                assert!(!space.outside("got").exists());

                let found = space.store.results(&[trace(&artifact.digest.to_hex())]).unwrap();
                assert_eq!(found[0].as_ref().unwrap().present, [false]);
                let staged = space.store.stage_bytes(&bytes).unwrap();
                let (_, committed) = space.commit(&artifact.digest.to_hex(), staged);
                assert!(matches!(committed, Committed::Replaced { differs: false, .. }), "{committed:?}");
                assert!(space.get(&artifact).unwrap() == bytes);
            }
        }
    }
}

#[test]
fn a_step_that_writes_to_its_input_is_found_out() {
    let space = Space::new();
    let artifact = space.put(&noise(100_000));
    let given = space.outside("given");
    let provided = space.store.provide(&artifact, &given).unwrap();
    if provided.links.is_empty() {
        // The file system shares blocks: what the step has is its own, and harms nothing.
        overwrite(&given, b"spoilt");
        assert!(space.get(&artifact).unwrap() == noise(100_000));
        return;
    }
    // Through the link, as root does it.
    overwrite(&given, b"spoilt");
    assert_eq!(space.store.recheck(&provided.links).unwrap(), [artifact.digest]);
    assert!(matches!(space.get(&artifact), Err(StoreError::Missing { .. })));
    assert!(matches!(
        space.store.provide(&artifact, &space.outside("again")),
        Err(StoreError::Missing { .. })
    ));
}

#[test]
fn a_tree_whose_file_is_damaged_names_that_file() {
    let space = Space::new();
    let root = space.outside("tree");
    fs::create_dir_all(root.join("sub/empty")).unwrap();
    fs::write(root.join("sub/raw"), noise(100_000)).unwrap();
    fs::write(root.join("small"), "small").unwrap();
    let (artifact, _) = space.commit("tree", space.store.stage_tree(&root, Take::Copy).unwrap());
    assert_eq!(artifact.kind, Kind::Tree);
    let tree = space.store.tree(&artifact.digest).unwrap();
    let found: Vec<(&str, bool)> = tree
        .entries
        .iter()
        .map(|entry| (entry.path.as_str(), matches!(entry.node, Node::File { .. })))
        .collect();
    assert_eq!(found, [("small", true), ("sub/empty", false), ("sub/raw", true)]);

    let got = space.outside("got");
    space.store.materialize(&artifact, &got).unwrap();
    assert!(got.join("sub/empty").is_dir());
    assert!(fs::read(got.join("sub/raw")).unwrap() == noise(100_000));

    let raw = Artifact { digest: Digest::of(&noise(100_000)), ..artifact.clone() };
    overwrite(&space.blob(&raw), &text(100_000));
    let error = space.store.materialize(&artifact, &space.outside("again")).unwrap_err();
    assert!(matches!(error, StoreError::Damaged { digest, .. } if digest == raw.digest), "{error}");
    assert!(!space.outside("again").exists());
    // The tree itself is right, and making it again mends what it names.
    space.commit("again", space.store.stage_tree(&root, Take::Copy).unwrap());
    space.store.materialize(&artifact, &space.outside("again")).unwrap();
}

/// A large raw blob is copied by the kernel, and what arrived is hashed.
#[test]
fn a_large_file_is_verified_while_it_is_copied() {
    let space = Space::new();
    let bytes = noise((16 << 20) + 17);
    let artifact = space.put(&bytes);
    let got = space.outside("got");
    space.store.materialize(&artifact, &got).unwrap();
    assert!(fs::read(&got).unwrap() == bytes);

    // Of the same length, and different at its very end.
    let mut wrong = bytes.clone();
    *wrong.last_mut().unwrap() ^= 1;
    overwrite(&space.blob(&artifact), &wrong);
    let error = space.store.materialize(&artifact, &space.outside("again")).unwrap_err();
    assert!(matches!(error, StoreError::Damaged { digest, .. } if digest == artifact.digest), "{error}");
    assert!(!space.outside("again").exists());
    // It went to quarantine: putting it again makes it anew.
    space.commit("again", space.store.stage_bytes(&bytes).unwrap());
    space.store.materialize(&artifact, &space.outside("again")).unwrap();
}

#[test]
fn a_writer_that_takes_no_more_is_not_damage() {
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let space = Space::new();
    for bytes in [text(10), noise(10_000), text(9 << 20)] {
        let artifact = space.put(&bytes);
        match space.store.read(&artifact.digest, &mut Full) {
            Err(StoreError::Io { source, .. }) => assert_eq!(source.kind(), io::ErrorKind::BrokenPipe),
            other => panic!("{other:?}"),
        }
        assert!(space.get(&artifact).unwrap() == bytes);
    }
}

#[test]
fn streaming_gives_what_b3sum_prints() {
    let space = Space::new();
    let part = text(1000);
    let staged = space.store.stage_reader(&mut io::repeat(0).take(3_000_000).chain(&part[..])).unwrap();
    let (artifact, _) = space.commit("stream", staged);
    let mut whole = vec![0; 3_000_000];
    whole.extend(part);
    assert_eq!(artifact.digest.to_hex(), blake3::hash(&whole).to_hex().to_string());
    assert_eq!(artifact.len, 3_001_000);
}

#[test]
fn a_fresh_store_is_small_and_stays_out_of_the_way() {
    fn bytes(path: &Path) -> u64 {
        let metadata = fs::symlink_metadata(path).unwrap();
        let inside: u64 = match metadata.is_dir() {
            true => fs::read_dir(path).unwrap().map(|entry| bytes(&entry.unwrap().path())).sum(),
            false => 0,
        };
        metadata.blocks() * 512 + inside
    }
    let space = Space::new();
    space.put(b"something");
    let dir = space.store.dir().to_owned();
    drop(space.store);
    let size = bytes(&dir);
    assert!(size < 1_000_000, "{size}");
    assert_eq!(fs::read_to_string(dir.join(".gitignore")).unwrap(), "*\n");
    let tag = fs::read_to_string(dir.join("CACHEDIR.TAG")).unwrap();
    assert!(tag.starts_with("Signature: 8a477f597d28d172789f06886806bc55\n"));
}
