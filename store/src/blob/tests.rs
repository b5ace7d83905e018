//! The blob files end to end, in a real folder: in, named, out again, and every kind of harm in between.

use std::cell::Cell;
use std::collections::HashMap;
use std::fs::Permissions;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use tempfile::TempDir;

use super::*;
use crate::folder::Folder;
use crate::layout::INLINE_LIMIT_BYTES;
use crate::record::{Artifact, Kind};
use crate::stage::Staged;
use crate::store::{Create, Take};
use crate::tree::{Entry, Node};

/// A store's files with a map in the place of its index.
struct Space {
    _dir: TempDir,
    files: Files,
    records: HashMap<Digest, BlobRecord>,
    outside: PathBuf,
}

impl Space {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(&dir.path().join("store"), Create::IfAbsent).unwrap();
        let outside = dir.path().join("outside");
        fs::create_dir(&outside).unwrap();
        let files = Files::new(folder.layout, INLINE_LIMIT_BYTES);
        Self { _dir: dir, files, records: HashMap::new(), outside }
    }

    /// What the host does with a commit.
    fn commit(&mut self, staged: Staged) -> Artifact {
        let artifact = staged.artifact("file");
        for blob in staged.blobs() {
            if !self.records.contains_key(&blob.digest) {
                self.files.install(blob, None).unwrap();
                self.records.insert(blob.digest, blob.record.clone());
            }
        }
        artifact
    }

    fn put(&mut self, bytes: &[u8]) -> Artifact {
        let staged = self.files.stage_bytes(bytes).unwrap();
        self.commit(staged)
    }

    fn record(&self, artifact: &Artifact) -> &BlobRecord {
        &self.records[&artifact.digest]
    }

    fn blob_path(&self, artifact: &Artifact) -> PathBuf {
        self.files.path_of(&artifact.digest, self.record(artifact))
    }

    fn get(&self, artifact: &Artifact) -> Result<Vec<u8>, StoreError> {
        let mut bytes = Vec::new();
        let len = self.files.read(&artifact.digest, self.record(artifact), &mut bytes)?;
        assert_eq!(len, bytes.len() as u64);
        Ok(bytes)
    }

    fn materialize(&self, artifact: &Artifact, path: &Path) -> Result<(), StoreError> {
        self.files.materialize(artifact, path, &|digests| Ok(self.look_up(digests)))
    }

    fn provide(&self, artifact: &Artifact, path: &Path) -> Result<crate::store::Provided, StoreError> {
        self.files.provide(artifact, path, &|digests| Ok(self.look_up(digests)))
    }

    fn look_up(&self, digests: &[Digest]) -> Vec<Option<BlobRecord>> {
        digests.iter().map(|digest| self.records.get(digest).cloned()).collect()
    }

    fn staging(&self) -> Vec<String> {
        names(&self.files.layout.staging())
    }
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Bytes without pattern, the same in every run.
fn noise(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(b"noise").finalize_xof().fill(&mut bytes);
    bytes
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
fn bytes_of_any_size_come_back_inline_raw_or_compressed() {
    let mut space = Space::new();
    for (bytes, place) in [
        (vec![], "inline"),
        (text(4096), "inline"),
        (noise(4097), "raw"),
        (text(4097), "zstd"),
        (noise(3 << 20), "raw"),
        (text(1 << 20), "zstd"),
        (text((9 << 20) + 5), "zstd"),
        (noise((9 << 20) + 5), "raw"),
    ] {
        let artifact = space.put(&bytes);
        assert_eq!(artifact.digest, Digest::of(&bytes));
        assert_eq!(artifact.len, bytes.len() as u64);
        let record = space.record(&artifact);
        let found = match (&record.place, record.encoding) {
            (Place::Inline(_), _) => "inline",
            (Place::File, Encoding::Raw) => "raw",
            (Place::File, Encoding::Zstd) => "zstd",
        };
        assert_eq!(found, place, "{} bytes", bytes.len());
        assert!(space.get(&artifact).unwrap() == bytes);
        assert!(space.files.bytes(&artifact.digest, record).unwrap()[..] == bytes[..]);
        assert!(space.files.present(&artifact.digest, record));
        if place != "inline" {
            let metadata = fs::metadata(space.blob_path(&artifact)).unwrap();
            assert_eq!((metadata.mode() & 0o7777, metadata.mtime()), (0o444, MTIME_S));
            assert_eq!(metadata.len(), record.stored_len);
        }
    }
    assert_eq!(space.staging(), Vec::<String>::new());
}

/// A tree of 100,000 small files once took 463 MB: each value kept the buffer that it was read into.
#[test]
fn a_small_value_takes_no_more_memory_than_its_bytes() {
    let space = Space::new();
    let staged = space.files.stage_bytes(b"small").unwrap();
    let Place::Inline(bytes) = &staged.blobs()[0].record.place else { panic!("it is small") };
    assert!(bytes.capacity() < 64, "{}", bytes.capacity());
}

#[test]
fn what_is_dropped_without_a_commit_leaves_nothing() {
    let space = Space::new();
    let staged = space.files.stage_bytes(&noise(100_000)).unwrap();
    assert_eq!(space.staging().len(), 1);
    drop(staged);
    assert_eq!(space.staging(), Vec::<String>::new());
}

#[test]
fn what_a_killed_process_left_in_staging_is_swept() {
    let space = Space::new();
    std::mem::forget(space.files.stage_bytes(&noise(100_000)).unwrap());
    assert_eq!(space.files.sweep_staging(&|_| false).unwrap(), 100_000);
    assert_eq!(space.staging(), Vec::<String>::new());
}

#[test]
fn installing_again_does_nothing_and_installing_what_is_gone_is_missing() {
    let mut space = Space::new();
    let staged = space.files.stage_bytes(&noise(100_000)).unwrap();
    space.files.install(&staged.blobs()[0], None).unwrap();
    space.files.install(&staged.blobs()[0], None).unwrap();
    let blob = staged.blobs()[0].clone();
    let artifact = space.commit(staged);
    let name = BlobName::of(&artifact.digest, &blob.record);
    assert_eq!(space.files.remove_unnamed(&name).unwrap(), 100_000);
    assert_eq!(space.files.remove_unnamed(&name).unwrap(), 0);
    space.files.remove(&artifact.digest, &blob.record).unwrap();
    let error = space.files.install(&blob, None).unwrap_err();
    assert!(matches!(error, StoreError::Missing { digest } if digest == artifact.digest), "{error}");
}

#[test]
fn a_changed_byte_anywhere_is_damage_however_the_blob_is_read() {
    for bytes in [noise(100_000), text(100_000), noise(9 << 20), text(9 << 20)] {
        let mut space = Space::new();
        let artifact = space.put(&bytes);
        let record = space.record(&artifact).clone();
        let path = space.blob_path(&artifact);
        let good = fs::read(&path).unwrap();
        for at in [0, good.len() / 2, good.len() - 1] {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            overwrite(&path, &bad);
            // Of the right size, so only reading tells.
            assert!(space.files.present(&artifact.digest, &record));
            for error in [
                space.get(&artifact).unwrap_err(),
                space.files.bytes(&artifact.digest, &record).unwrap_err(),
                space.files.verify(&artifact.digest, &record).unwrap_err(),
                space.materialize(&artifact, &space.outside.join("got")).unwrap_err(),
                space.provide(&artifact, &space.outside.join(format!("given-{at}"))).unwrap_err(),
            ] {
                assert!(
                    matches!(error, StoreError::Damaged { digest, .. } if digest == artifact.digest),
                    "{error}"
                );
            }
        }
        assert!(!space.outside.join("got").exists());
    }
}

#[test]
fn a_file_of_another_size_is_damage_at_the_first_look() {
    let mut space = Space::new();
    let artifact = space.put(&noise(100_000));
    let record = space.record(&artifact).clone();
    let path = space.blob_path(&artifact);
    overwrite(&path, &noise(99_999));
    let words = "its file has 99999 bytes instead of 100000";
    assert_eq!(space.files.presence(&artifact.digest, &record).unwrap(), Presence::Damaged(words.to_owned()));
    assert!(space.get(&artifact).unwrap_err().to_string().contains(words));
    fs::remove_file(&path).unwrap();
    assert_eq!(space.files.presence(&artifact.digest, &record).unwrap(), Presence::Missing);
    assert!(matches!(space.get(&artifact), Err(StoreError::Missing { .. })));
    symlink("/etc/passwd", &path).unwrap();
    assert!(matches!(space.files.presence(&artifact.digest, &record).unwrap(), Presence::Damaged(_)));
    assert!(matches!(space.get(&artifact), Err(StoreError::Damaged { .. })));
}

#[test]
fn zstd_data_that_gives_more_or_less_than_it_should_is_damage() {
    let mut space = Space::new();
    let artifact = space.put(&text(100_000));
    let mut record = space.record(&artifact).clone();
    for len in [99_999, 100_001] {
        record.len = len;
        let error = space.files.verify(&artifact.digest, &record).unwrap_err();
        assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    }
}

#[test]
fn damage_goes_to_quarantine_with_a_note_and_can_be_stored_anew() {
    let mut space = Space::new();
    let bytes = noise(100_000);
    let artifact = space.put(&bytes);
    let record = space.record(&artifact).clone();
    overwrite(&space.blob_path(&artifact), &text(100_000));
    let place = space.files.quarantine(&artifact.digest, &record, "it was bad").unwrap().unwrap();
    assert!(place.starts_with(space.files.layout.quarantine()));
    assert!(fs::read(&place).unwrap() == text(100_000));
    assert_eq!(fs::read_to_string(format!("{}.why", place.display())).unwrap(), "it was bad\n");
    assert_eq!(space.files.presence(&artifact.digest, &record).unwrap(), Presence::Missing);
    assert_eq!(space.files.quarantine(&artifact.digest, &record, "again").unwrap(), None);
    space.records.clear();
    let artifact = space.put(&bytes);
    assert!(space.get(&artifact).unwrap() == bytes);
}

#[test]
fn mapped_bytes_are_hashed_again_only_when_the_file_looks_different() {
    let mut space = Space::new();
    let bytes = noise(100_000);
    let artifact = space.put(&bytes);
    let record = space.record(&artifact).clone();
    let path = space.blob_path(&artifact);
    // Known from when it was staged, and after a look from when it was read.
    let stamp = |path: &Path| Stamp::of(&fs::metadata(path).unwrap());
    assert!(space.files.marks.holds(&artifact.digest, &stamp(&path)));
    // Equal bytes in another file: hashed again, found right, and made to look right.
    overwrite(&path, &bytes);
    assert!(!space.files.marks.holds(&artifact.digest, &stamp(&path)));
    space.files.bytes(&artifact.digest, &record).unwrap();
    assert!(space.files.marks.holds(&artifact.digest, &stamp(&path)));
    assert_eq!(fs::metadata(&path).unwrap().mtime(), MTIME_S);
    // What the next process knows.
    space.files.save_marks();
    let next = Files::new(space.files.layout.clone(), INLINE_LIMIT_BYTES);
    assert!(next.marks.holds(&artifact.digest, &stamp(&path)));
}

#[test]
fn a_large_raw_blob_is_hashed_when_it_is_given_unless_it_was_and_looks_as_it_did() {
    let mut space = Space::new();
    let bytes = noise(17 << 20);
    let artifact = space.put(&bytes);
    let path = space.blob_path(&artifact);
    let stamp = |path: &Path| Stamp::of(&fs::metadata(path).unwrap());
    let got = |name: &str| {
        let to = space.outside.join(name);
        space.materialize(&artifact, &to).map(|()| fs::read(&to).unwrap())
    };
    // It was hashed when it was staged.
    assert!(got("first").unwrap() == bytes);
    // Other bytes of which it is said that they were checked as they are: nobody looks at them again. (What a test can
    // do; whoever writes to a file changes how it looks, which the next lines are about.)
    let mut other = bytes.clone();
    other[9 << 20] ^= 1;
    overwrite(&path, &other);
    space.files.marks.note(artifact.digest, stamp(&path));
    assert!(got("second").unwrap() == other);
    // Any look but that one is a doubt, and in doubt it is hashed: here only the change time is another.
    fs::set_permissions(&path, Permissions::from_mode(0o444)).unwrap();
    assert!(
        matches!(got("third").unwrap_err(), StoreError::Damaged { digest, .. } if digest == artifact.digest)
    );
    assert!(!space.outside.join("third").exists());
    assert!(
        !space.files.marks.holds(&artifact.digest, &stamp(&path)),
        "what was found wrong is not believed again"
    );
    // What is right is believed from then on.
    overwrite(&path, &bytes);
    assert!(!space.files.marks.holds(&artifact.digest, &stamp(&path)));
    assert!(got("fourth").unwrap() == bytes);
    assert!(space.files.marks.holds(&artifact.digest, &stamp(&path)));
}

#[test]
fn a_file_keeps_its_executable_bit_and_nothing_else() {
    let mut space = Space::new();
    let path = space.outside.join("program");
    fs::write(&path, "#!/bin/sh\n").unwrap();
    for (mode, executable) in [(0o6755, true), (0o644, false), (0o611, false), (0o700, true)] {
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        let staged = space.files.stage_file(&path, Take::Copy).unwrap();
        assert_eq!(staged.artifact("file").kind, Kind::File { executable }, "{mode:o}");
        drop(staged);
    }
    let staged = space.files.stage_file(&path, Take::Copy).unwrap();
    let artifact = space.commit(staged);
    let got = space.outside.join("got");
    space.materialize(&artifact, &got).unwrap();
    assert_eq!(fs::metadata(&got).unwrap().mode() & 0o100, 0o100);
    let given = space.outside.join("given");
    assert!(space.provide(&artifact, &given).unwrap().links.is_empty());
    assert_eq!(fs::metadata(&given).unwrap().mode() & 0o7777, 0o555);
}

#[test]
fn what_is_no_regular_file_is_refused_by_name_without_waiting() {
    let space = Space::new();
    let check = |path: &Path, words: &str| {
        let error = space.files.stage_file(path, Take::Adopt).unwrap_err();
        assert_eq!(error.to_string(), format!("`{}` cannot be stored: {words}", path.display()));
    };
    let path = space.outside.join("folder");
    fs::create_dir(&path).unwrap();
    check(&path, "it is a folder, not a regular file");
    let path = space.outside.join("pipe");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    check(&path, "it is a named pipe, not a regular file");
    let path = space.outside.join("socket");
    let _socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
    check(&path, "it is a socket or a device, not a regular file");
    check(Path::new("/dev/null"), "it is a device, not a regular file");
    let error = space.files.stage_file(&space.outside.join("none"), Take::Copy).unwrap_err();
    assert!(matches!(error, StoreError::Io { action: "open", .. }), "{error}");
}

#[test]
fn a_file_is_adopted_by_moving_it_only_if_nobody_can_write_to_it() {
    let mut space = Space::new();
    let bytes = noise(3 << 20);
    let path = space.outside.join("output");
    let adopted = |space: &mut Space, taken: Take| {
        let inode = fs::metadata(&path).unwrap().ino();
        let staged = space.files.stage_file(&path, taken).unwrap();
        let same = fs::metadata(space.files.layout.staged(&space.staging()[0])).unwrap().ino() == inode;
        space.records.clear();
        let artifact = space.commit(staged);
        assert!(space.get(&artifact).unwrap() == bytes);
        assert_eq!(space.staging(), Vec::<String>::new());
        same
    };

    fs::write(&path, &bytes).unwrap();
    assert!(!adopted(&mut space, Take::Copy));
    assert!(path.exists());
    assert!(adopted(&mut space, Take::Adopt));
    assert!(!path.exists());

    fs::write(&path, &bytes).unwrap();
    let writer = OpenOptions::new().append(true).open(&path).unwrap();
    assert!(!adopted(&mut space, Take::Adopt), "somebody holds it open for writing");
    drop(writer);

    fs::write(&path, &bytes).unwrap();
    fs::hard_link(&path, space.outside.join("other name")).unwrap();
    assert!(!adopted(&mut space, Take::Adopt), "it has another name");

    fs::remove_file(&path).unwrap();
    fs::rename(space.outside.join("other name"), space.outside.join("target")).unwrap();
    symlink("target", &path).unwrap();
    assert!(!adopted(&mut space, Take::Adopt), "it is a link");
    assert!(space.outside.join("target").exists());
}

#[test]
fn a_writer_that_was_there_does_not_reach_the_stored_bytes() {
    let mut space = Space::new();
    let bytes = noise(3 << 20);
    let path = space.outside.join("output");
    fs::write(&path, &bytes).unwrap();
    let mut writer = OpenOptions::new().write(true).open(&path).unwrap();
    let staged = space.files.stage_file(&path, Take::Adopt).unwrap();
    writer.write_all(b"late").unwrap();
    let artifact = space.commit(staged);
    assert_eq!(artifact.digest, Digest::of(&bytes));
    assert!(space.get(&artifact).unwrap() == bytes);
}

fn tree_folder(space: &Space) -> PathBuf {
    let root = space.outside.join("tree");
    fs::create_dir_all(root.join("a/deep")).unwrap();
    fs::create_dir_all(root.join("empty/er")).unwrap();
    fs::write(root.join("a/small"), "small").unwrap();
    fs::write(root.join("a/same"), "small").unwrap();
    fs::write(root.join("a/deep/raw"), noise(2 << 20)).unwrap();
    fs::write(root.join("a/deep/raw again"), noise(2 << 20)).unwrap();
    fs::write(root.join("text"), text(50_000)).unwrap();
    fs::write(root.join("run"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(root.join("run"), Permissions::from_mode(0o755)).unwrap();
    symlink("../text", root.join("a/link")).unwrap();
    symlink("nowhere", root.join("dangling")).unwrap();
    root
}

#[test]
fn a_folder_comes_back_as_it_was_with_equal_files_stored_once() {
    let mut space = Space::new();
    let root = tree_folder(&space);
    let staged = space.files.stage_tree(&root, Take::Copy).unwrap();
    assert_eq!(staged.blobs().len(), 5, "small, raw, text, run and the tree itself");
    assert_eq!(staged.blobs().last().unwrap().record.hash, HashKind::Tree);
    let artifact = space.commit(staged);
    assert_eq!((artifact.kind, artifact.len), (Kind::Tree, 5 + 5 + 2 * (2 << 20) + 50_000 + 10));
    let tree = space.files.tree(&artifact.digest, space.record(&artifact)).unwrap();
    assert_eq!(tree.digest(), artifact.digest);
    let paths: Vec<&str> = tree.entries.iter().map(|entry| entry.path.as_str()).collect();
    let wanted = [
        "a/deep/raw",
        "a/deep/raw again",
        "a/link",
        "a/same",
        "a/small",
        "dangling",
        "empty/er",
        "run",
        "text",
    ];
    assert_eq!(paths, wanted);

    let got = space.outside.join("got");
    space.materialize(&artifact, &got).unwrap();
    let again = space.files.stage_tree(&got, Take::Copy).unwrap();
    assert_eq!(again.digest(), artifact.digest);
    assert_eq!(fs::read_link(got.join("a/link")).unwrap(), Path::new("../text"));
    // A person's copy is a person's: writable, and nothing of the store is reached through it.
    let raw = got.join("a/deep/raw");
    assert!(fs::symlink_metadata(&raw).unwrap().is_file());
    assert_eq!(fs::metadata(&raw).unwrap().nlink(), 1);
    assert_eq!(fs::metadata(&raw).unwrap().mode() & 0o200, 0o200);
    assert_eq!(names(&space.outside), ["got", "tree"]);
}

#[test]
fn a_step_gets_a_folder_read_only_dated_and_without_copies() {
    let mut space = Space::new();
    let root = tree_folder(&space);
    let staged = space.files.stage_tree(&root, Take::Copy).unwrap();
    let artifact = space.commit(staged);
    let given = space.outside.join("given");
    let provided = space.provide(&artifact, &given).unwrap();
    assert_eq!(provided.path, given);
    for (path, mode) in [("a/small", 0o444), ("a/deep/raw", 0o444), ("text", 0o444), ("run", 0o555)] {
        let metadata = fs::metadata(given.join(path)).unwrap();
        assert_eq!((metadata.mode() & 0o7777, metadata.mtime()), (mode, MTIME_S), "{path}");
        assert!(fs::read(given.join(path)).unwrap() == fs::read(root.join(path)).unwrap(), "{path}");
    }
    for path in ["", "a", "a/deep", "a/link", "empty", "empty/er", "dangling"] {
        assert_eq!(fs::symlink_metadata(given.join(path)).unwrap().mtime(), MTIME_S, "{path}");
    }
    // Where the file system cannot share blocks, what is stored raw is a link into the store.
    if space.files.reflinks.are_refused() {
        assert_eq!(provided.links.len(), 2);
        let target = fs::read_link(given.join("a/deep/raw")).unwrap();
        assert!(target.starts_with(space.files.layout.blobs()));
    } else {
        assert!(provided.links.is_empty());
    }
    assert_eq!(space.files.recheck(&provided.links).unwrap(), []);
}

#[test]
fn what_was_done_to_a_linked_blob_is_noticed() {
    let bytes = noise(100_000);
    let link = |space: &mut Space| {
        let artifact = space.put(&bytes);
        let name = BlobName { digest: artifact.digest, hash: HashKind::Plain, encoding: Encoding::Raw };
        let Stamp { len, mtime_ns, ctime_ns, inode } = space.files.stamp(&name).unwrap().unwrap();
        let link = crate::store::Link { digest: artifact.digest, len, mtime_ns, ctime_ns, inode };
        (space.blob_path(&artifact), link)
    };
    let words = |space: &Space, link: &crate::store::Link| -> Vec<String> {
        // The same link twice, as two inputs of one step have it, is told once.
        let changed = space.files.recheck(&[link.clone(), link.clone()]).unwrap();
        changed.into_iter().map(|(_, what)| what).collect()
    };

    let mut space = Space::new();
    let (path, one) = link(&mut space);
    assert!(words(&space, &one).is_empty());
    overwrite(&path, &bytes);
    assert_eq!(words(&space, &one), ["its file was written to while a step could read it"]);

    let mut space = Space::new();
    let (path, one) = link(&mut space);
    fs::hard_link(&path, space.outside.join("backup")).unwrap();
    assert!(words(&space, &one).is_empty(), "another name changes nothing in it");
    // Somebody who writes and then sets the date back.
    overwrite(&path, &text(100_000));
    set_fixed_mtime(&File::open(&path).unwrap()).unwrap();
    assert_eq!(words(&space, &one), ["its bytes do not match its digest"]);

    let mut space = Space::new();
    let (path, one) = link(&mut space);
    fs::remove_file(&path).unwrap();
    assert_eq!(words(&space, &one), ["its file vanished while a step could read it"]);
}

#[test]
fn what_exists_is_never_written_over() {
    let mut space = Space::new();
    let artifact = space.put(b"new");
    let path = space.outside.join("mine");
    fs::write(&path, "old").unwrap();
    let error = space.materialize(&artifact, &path).unwrap_err();
    assert_eq!(error.to_string(), format!("`{}` exists already", path.display()));
    assert_eq!(fs::read_to_string(&path).unwrap(), "old");
    symlink("nowhere", space.outside.join("dangling")).unwrap();
    assert!(space.materialize(&artifact, &space.outside.join("dangling")).is_err());
    assert!(space.materialize(&artifact, Path::new("/")).is_err());
    assert!(space.provide(&artifact, &path).is_err());
    // Even if it appears at the last moment.
    let (from, to) = (space.outside.join("from"), space.outside.join("to"));
    for folder in [&from, &to] {
        fs::create_dir(folder).unwrap();
    }
    let error = crate::place::rename_to_nothing(&from, &to).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
}

#[test]
fn a_folder_that_cannot_be_given_whole_is_not_given_at_all() {
    let mut space = Space::new();
    let root = tree_folder(&space);
    let staged = space.files.stage_tree(&root, Take::Copy).unwrap();
    let artifact = space.commit(staged);
    let raw = Digest::of(&noise(2 << 20));
    let record = space.records[&raw].clone();
    space.files.remove(&raw, &record).unwrap();
    let got = space.outside.join("got");
    let error = space.materialize(&artifact, &got).unwrap_err();
    assert!(matches!(error, StoreError::Missing { digest } if digest == raw), "{error}");
    space.records.remove(&raw);
    let error = space.materialize(&artifact, &got).unwrap_err();
    assert!(matches!(error, StoreError::Missing { digest } if digest == raw), "{error}");
    assert_eq!(names(&space.outside), ["tree"]);
}

#[test]
fn a_file_is_not_given_as_a_folder_nor_a_folder_as_a_file() {
    let mut space = Space::new();
    let root = tree_folder(&space);
    let staged = space.files.stage_tree(&root, Take::Copy).unwrap();
    let mut tree = space.commit(staged);
    tree.kind = Kind::File { executable: false };
    assert!(space.materialize(&tree, &space.outside.join("got")).is_err());
    let mut file = space.put(&Tree::default().encode());
    file.kind = Kind::Tree;
    assert!(space.materialize(&file, &space.outside.join("got")).is_err());
    assert!(!space.outside.join("got").exists());
}

#[test]
fn what_cannot_be_in_a_tree_is_named() {
    let check = |name: &str, make: &dyn Fn(&Path), words: &str| {
        let space = Space::new();
        let root = space.outside.join("tree");
        fs::create_dir_all(root.join("sub")).unwrap();
        fs::write(root.join("sub/file"), noise(100_000)).unwrap();
        make(&root.join(name));
        let error = space.files.stage_tree(&root, Take::Adopt).unwrap_err();
        let path = root.join(name);
        assert_eq!(error.to_string(), format!("`{}` cannot be stored: {words}", path.display()));
        assert_eq!(space.staging(), Vec::<String>::new(), "a failure leaves nothing");
    };
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    let pipe = |path: &Path| {
        rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    };
    check("sub/pipe", &pipe, "it is a named pipe");
    let socket = |path: &Path| drop(std::os::unix::net::UnixListener::bind(path).unwrap());
    check("socket", &socket, "it is a socket");
    let out = |path: &Path| symlink("../../etc", path).unwrap();
    check("sub/out", &out, "it is a link that leaves the folder: it points at `../../etc`");
    let absolute = |path: &Path| symlink("/etc", path).unwrap();
    check("sub/abs", &absolute, "it is a link that leaves the folder: it points at `/etc`");

    let space = Space::new();
    let name = std::ffi::OsStr::from_bytes(b"sub/\xff");
    let root = space.outside.join("tree");
    fs::create_dir_all(root.join("sub")).unwrap();
    fs::write(root.join(name), "").unwrap();
    let error = space.files.stage_tree(&root, Take::Copy).unwrap_err();
    assert!(error.to_string().ends_with("its name is not UTF-8"), "{error}");
    let file = space.outside.join("file");
    fs::write(&file, "").unwrap();
    let error = space.files.stage_tree(&file, Take::Copy).unwrap_err();
    assert!(error.to_string().ends_with("it is a regular file, not a folder"), "{error}");
}

#[test]
fn a_folder_of_many_small_files_stays_within_its_budget_of_memory() {
    let mut space = Space::new();
    let budget = 50 * 4096;
    space.files.inline_budget_bytes = budget;
    let root = space.outside.join("many");
    fs::create_dir(&root).unwrap();
    for number in 0..100 {
        let mut content = format!("{number:08}").into_bytes();
        content.resize(4096, b'.');
        fs::write(root.join(format!("{number:05}")), content).unwrap();
    }
    let staged = space.files.stage_tree(&root, Take::Copy).unwrap();
    let inline: u64 =
        staged.blobs().iter().filter(|blob| blob.file.is_none()).map(|blob| blob.record.stored_len).sum();
    // Each thread may have begun one more when it ran out.
    assert!((budget..=budget + 8 * 4096).contains(&inline), "{inline}");
    let artifact = space.commit(staged);
    let got = space.outside.join("got");
    space.materialize(&artifact, &got).unwrap();
    assert_eq!(space.files.stage_tree(&got, Take::Copy).unwrap().digest(), artifact.digest);
}

#[test]
fn an_empty_folder_is_a_tree() {
    let mut space = Space::new();
    let root = space.outside.join("empty");
    fs::create_dir(&root).unwrap();
    let staged = space.files.stage_tree(&root, Take::Copy).unwrap();
    let artifact = space.commit(staged);
    assert_eq!(artifact.digest, Tree::default().digest());
    space.materialize(&artifact, &space.outside.join("got")).unwrap();
    assert_eq!(names(&space.outside.join("got")), Vec::<String>::new());
}

#[test]
fn a_tree_that_lies_about_its_entries_reaches_nothing_outside() {
    let space = Space::new();
    let entry = Entry { path: "../escaped".to_owned(), node: Node::Folder };
    let encoded = Tree { entries: vec![entry] }.encode();
    let piece = space.files.stage_encoded_tree(&encoded).unwrap();
    let blob = piece.blob.unwrap();
    let error = space.files.tree(&blob.digest, &blob.record).unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
}

#[test]
fn the_files_alone_tell_what_they_are() {
    let mut space = Space::new();
    let root = tree_folder(&space);
    let staged = space.files.stage_tree(&root, Take::Copy).unwrap();
    space.commit(staged);
    let mut entries: Vec<Entry> = (0..500)
        .map(|number| Entry { path: format!("{number:03}"), node: Node::Link { target: "x".to_owned() } })
        .collect();
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    let piece = space.files.stage_encoded_tree(&Tree { entries }.encode()).unwrap();
    let staged = Staged::new(
        Kind::Tree,
        piece.digest,
        0,
        piece.blob.into_iter().collect(),
        space.files.layout.staging(),
    );
    space.commit(staged);
    fs::write(space.files.layout.blobs().join("00-note"), "not ours").unwrap();

    let mut listed = Vec::new();
    space
        .files
        .list(&mut |name, bytes| {
            listed.push((name, bytes));
            true
        })
        .unwrap();
    let in_files = space.records.iter().filter(|(_, record)| record.place == Place::File);
    let mut wanted: Vec<(BlobName, u64)> =
        in_files.map(|(digest, record)| (BlobName::of(digest, record), record.stored_len)).collect();
    wanted.sort();
    assert_eq!(wanted.len(), 3);
    assert_eq!(listed, wanted);
    for (name, _) in &listed {
        assert_eq!(space.files.identify(name).unwrap(), space.records[&name.digest]);
    }
    let damaged = &listed[0].0;
    overwrite(&space.files.layout.blob(damaged), b"something else");
    assert!(matches!(space.files.identify(damaged), Err(StoreError::Damaged { .. })));

    let seen = Cell::new(0);
    let stop = &mut |_, _| {
        seen.set(seen.get() + 1);
        false
    };
    space.files.list(stop).unwrap();
    assert_eq!(seen.get(), 1);
}

#[test]
fn files_are_synced_singly_and_all_at_once_and_gone_ones_passed_over() {
    let mut space = Space::new();
    let mut all = Vec::new();
    for number in 0..SYNCED_SINGLY + 2 {
        let artifact = space.put(&noise(5000 + number));
        all.push(BlobName::of(&artifact.digest, space.record(&artifact)));
    }
    space.files.remove_unnamed(&all[0]).unwrap();
    space.files.sync(&all[..3]).unwrap();
    space.files.sync(&all).unwrap();
    space.files.sync(&[]).unwrap();
}

#[test]
fn a_full_disk_is_a_clear_error_and_leaves_nothing_behind() {
    let space = Space::new();
    // A folder that takes no files stands for a disk that takes no bytes: the way out is the same.
    fs::remove_dir(space.files.layout.staging()).unwrap();
    fs::write(space.files.layout.staging(), "in the way").unwrap();
    for bytes in [noise(10_000), text(10_000), noise(3 << 20), text(3 << 20)] {
        let error = space.files.stage_bytes(&bytes).unwrap_err();
        assert!(
            matches!(&error, StoreError::Io { path, .. } if path.starts_with(space.files.layout.staging())),
            "{error}"
        );
    }
    assert!(space.files.stage_bytes(b"small").is_ok());
}

#[test]
fn a_reader_that_fails_leaves_nothing_behind() {
    struct Broken(usize);
    impl std::io::Read for Broken {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let some = buffer.len().min(self.0);
            self.0 -= some;
            if some == 0 { Err(io::Error::other("no more")) } else { Ok(some) }
        }
    }
    let space = Space::new();
    for len in [0, 100, 10_000, 5 << 20] {
        let error = space.files.stage_reader(&mut Broken(len)).unwrap_err();
        assert_eq!(error.to_string(), "cannot read `the given reader`");
        assert_eq!(space.staging(), Vec::<String>::new());
    }
}

#[test]
fn work_folders_are_private_and_named_for_what_they_are_for() {
    let space = Space::new();
    let one = space.files.work_folder("../emit dog[x=1]").unwrap();
    let other = space.files.work_folder("../emit dog[x=1]").unwrap();
    assert_ne!(one, other);
    assert_eq!(one.parent(), Some(space.files.layout.work().as_path()));
    let name = one.file_name().unwrap().to_str().unwrap();
    assert_eq!(name, format!("_._emit_dog_x=1_-{}-1", space.files.token()));
    assert_eq!(fs::metadata(&one).unwrap().mode() & 0o777, 0o700);
    fs::remove_dir_all(space.files.layout.work()).unwrap();
    space.files.work_folder("again").unwrap();
}

/// What a message names may be anything: a path that leads elsewhere, a link, a folder, another user's file.
#[test]
fn only_a_file_in_staging_that_its_user_made_gets_a_name() {
    let space = Space::new();
    let staged = space.files.stage_bytes(&[7; 9_000]).unwrap();
    let blob = staged.blobs()[0].clone();
    let name = blob.file.clone().unwrap();
    let secret = space.outside.join("secret");
    fs::write(&secret, [7; 9_000]).unwrap();
    let elsewhere = [secret.to_str().unwrap(), "../outside/secret", "..", ".", "", "a/b", "a\0b"];
    for file in elsewhere {
        let blob = StagedBlob { file: Some(file.to_owned()), ..blob.clone() };
        let error = space.files.install(&blob, None).unwrap_err();
        assert!(matches!(error, StoreError::Unstorable { .. }), "{file}: {error}");
    }
    symlink(&secret, space.files.layout().staged("abc-1")).unwrap();
    fs::create_dir(space.files.layout().staged("abc-2")).unwrap();
    for file in ["abc-1", "abc-2"] {
        let blob = StagedBlob { file: Some(file.to_owned()), ..blob.clone() };
        let error = space.files.install(&blob, None).unwrap_err();
        assert!(error.to_string().ends_with("it is no file that was staged"), "{error}");
    }
    let own = fs::metadata(&secret).unwrap().uid();
    let error = space.files.install(&blob, Some(own + 1)).unwrap_err();
    assert!(error.to_string().contains("it is not a file of"), "{error}");
    assert!(space.files.layout().staged(&name).exists() && secret.exists());
    space.files.install(&blob, Some(own)).unwrap();
    // Again, because the answer was lost.
    space.files.install(&blob, Some(own)).unwrap();
}
