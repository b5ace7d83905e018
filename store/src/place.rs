//! Stored content to paths: for people ([`Files::materialize`]) and for steps ([`Files::provide`]).
//!
//! A person gets a file of their own, writable, whole or not at all. A step gets something to read: of a
//! blob that is stored raw a reflink, or a symbolic link into the store, so that size does not matter; of
//! any other a private file. No path ever gets a hard link to a blob file: writing to it would be writing
//! to the store. Root writes even to a linked blob, so those are looked at again afterwards
//! ([`Files::recheck`]).

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use rustix::fs::{AtFlags, CWD, RenameFlags};
use rustix::io::Errno;

use crate::blob::Files;
use crate::copied;
use crate::crash;
use crate::digest::Digest;
use crate::error::{At, StoreError};
use crate::layout::BlobName;
use crate::mark::Stamp;
use crate::record::{Artifact, BlobRecord, Encoding, HashKind, Kind, Place};
use crate::stage::{fixed_times, set_fixed_mtime};
use crate::store::{Link, Provided};
use crate::threads;
use crate::tree::{Entry, Node, Tree};

/// Asks the index for the records of some digests, in order. It is asked for a bounded number at a time.
pub(crate) type Records<'a> = &'a (dyn Fn(&[Digest]) -> Result<Vec<Option<BlobRecord>>, StoreError> + Sync);

/// Entries of a tree whose records are asked for at once: enough that asking does not count, few enough
/// that their inline values do not either.
const BATCH: usize = 512;

/// Trees with more files than this are written by several threads.
const ONE_THREAD_UP_TO: usize = 64;

/// Threads that write one tree: creating files scales no further.
const THREADS_MAX: usize = 8;

/// From here sharing blocks is worth a try; what is smaller is copied sooner.
const REFLINK_FROM_BYTES: u64 = 64 * 1024;

/// Whom something is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum For {
    Person,
    Step,
    /// A step that gets its own copy of everything, because what it was lent did not stay as it was.
    StepAlone,
}

impl Files {
    /// Gives an artifact to a person: writable, never a hard link, whole or not at all.
    ///
    /// # Errors
    ///
    /// [`StoreError::Exists`] if something is at `path`; [`StoreError::Missing`], [`StoreError::Damaged`]
    /// name the blob, which the caller is to quarantine.
    pub(crate) fn materialize(
        &self,
        artifact: &Artifact,
        path: &Path,
        records: Records<'_>,
    ) -> Result<(), StoreError> {
        let exists = || StoreError::Exists { path: path.to_owned() };
        if path.file_name().is_none() || path.symlink_metadata().is_ok() {
            return Err(exists());
        }
        let beside = path.parent().unwrap_or(Path::new("")).join(format!(".cas-{}", self.new_name()));
        let begun = Begun(&beside);
        self.put_artifact(artifact, &beside, For::Person, records)?;
        crash::point("materialize.before-rename");
        match rename_to_nothing(&beside, path) {
            Ok(()) => {
                begun.finished();
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(exists()),
            Err(error) => Err(error).at("write", path),
        }
    }

    /// Gives an artifact to a step: read-only, one fixed mtime, without a copy where that can be. `path` is
    /// in a private folder, which is thrown away after an error.
    pub(crate) fn provide(
        &self,
        artifact: &Artifact,
        path: &Path,
        records: Records<'_>,
    ) -> Result<Provided, StoreError> {
        let links = self.put_artifact(artifact, path, For::Step, records)?;
        Ok(Provided { path: path.to_owned(), links })
    }

    /// As [`Files::provide`], but never a link into the store.
    pub(crate) fn provide_copy(
        &self,
        artifact: &Artifact,
        path: &Path,
        records: Records<'_>,
    ) -> Result<(), StoreError> {
        self.put_artifact(artifact, path, For::StepAlone, records).map(drop)
    }

    /// Which of the blobs that were handed out are not what they were, with what is wrong. The caller
    /// quarantines them.
    pub(crate) fn recheck(&self, links: &[Link]) -> Result<Vec<(Digest, String)>, StoreError> {
        let mut changed = Vec::new();
        for link in links {
            if let Some(what) = self.change(link)? {
                changed.push((link.digest, what));
            }
        }
        changed.sort_unstable();
        changed.dedup_by(|a, b| a.0 == b.0);
        Ok(changed)
    }

    fn change(&self, link: &Link) -> Result<Option<String>, StoreError> {
        let Link { digest, len, mtime_ns, ctime_ns, inode } = *link;
        let then = Stamp { len, mtime_ns, ctime_ns, inode };
        let name = BlobName { digest, hash: HashKind::Plain, encoding: Encoding::Raw };
        let Some(now) = self.stamp(&name)? else {
            return Ok(Some("its file vanished while a step could read it".to_owned()));
        };
        if now == then {
            return Ok(None);
        }
        if (now.len, now.mtime_ns) != (then.len, then.mtime_ns) {
            // Even if it is right now, nobody knows what the step has read.
            return Ok(Some("its file was written to while a step could read it".to_owned()));
        }
        // Something touched it without a trace in size and date: a backup program's link, or worse.
        let record = BlobRecord {
            len,
            stored_len: len,
            encoding: Encoding::Raw,
            hash: HashKind::Plain,
            place: Place::File,
        };
        match self.verify(&digest, &record) {
            Ok(()) => Ok(None),
            Err(StoreError::Damaged { what, .. }) => Ok(Some(what)),
            Err(StoreError::Missing { .. }) => Ok(Some("its file vanished".to_owned())),
            Err(error) => Err(error),
        }
    }

    fn put_artifact(
        &self,
        artifact: &Artifact,
        path: &Path,
        whom: For,
        records: Records<'_>,
    ) -> Result<Vec<Link>, StoreError> {
        let digest = artifact.digest;
        let record = one(&digest, records)?;
        match artifact.kind {
            Kind::File { executable } => {
                Ok(self.put_file(&digest, &record, path, executable, whom)?.into_iter().collect())
            }
            Kind::Tree => self.put_tree(&self.tree(&digest, &record)?, path, whom, records),
        }
    }

    /// Puts one file, and gives the link if it is one.
    fn put_file(
        &self,
        digest: &Digest,
        record: &BlobRecord,
        path: &Path,
        executable: bool,
        whom: For,
    ) -> Result<Option<Link>, StoreError> {
        if record.hash != HashKind::Plain {
            return Err(StoreError::Damaged { digest: *digest, what: "it is no file".to_owned() });
        }
        let raw_file = record.place == Place::File && record.encoding == Encoding::Raw;
        // A blob's file is not executable, so neither is a link to it.
        let may_link = raw_file && whom == For::Step && !executable;
        if may_link && self.reflinks.are_refused() {
            return self.put_link(digest, record, path).map(Some);
        }
        let mode = if executable { 0o777 } else { 0o666 };
        let mut file = match OpenOptions::new().read(true).write(true).create_new(true).mode(mode).open(path)
        {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(StoreError::Exists { path: path.to_owned() });
            }
            opened => opened.at("create", path)?,
        };
        let worth_a_try = raw_file && (may_link || record.len >= REFLINK_FROM_BYTES);
        if worth_a_try && self.put_clone(digest, record, &file)? {
            // It shares the blob's bytes, which were checked.
        } else if may_link {
            fs::remove_file(path).at("remove", path)?;
            return self.put_link(digest, record, path).map(Some);
        } else if raw_file
            && record.len >= copied::FROM_BYTES
            && self.copy_raw(digest, record, &file, path)?
        {
            // It was checked before, or hashed as it arrived.
        } else {
            let mut write = |bytes: &[u8]| file.write_all(bytes).at("write", path);
            self.stream(digest, record, Some(&mut write))?;
        }
        if whom != For::Person {
            let mode = if executable { 0o555 } else { 0o444 };
            file.set_permissions(fs::Permissions::from_mode(mode)).at("protect", path)?;
            set_fixed_mtime(&file).at("date", path)?;
        }
        Ok(None)
    }

    /// Lets a new file share a raw blob's bytes, if the file systems can; they are checked afterwards, so
    /// that what was shared is what was checked.
    fn put_clone(&self, digest: &Digest, record: &BlobRecord, file: &File) -> Result<bool, StoreError> {
        if self.reflinks.are_refused() {
            return Ok(false);
        }
        let source = self.path_of(digest, record);
        let cloned = match File::open(&source) {
            Ok(source) => self.reflinks.clone_file(&source, file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(StoreError::Missing { digest: *digest });
            }
            Err(error) => return Err(error).at("open", &source),
        };
        if cloned {
            self.checked(digest, record)?;
        }
        Ok(cloned)
    }

    fn put_link(&self, digest: &Digest, record: &BlobRecord, path: &Path) -> Result<Link, StoreError> {
        let (_, stamp) = self.checked(digest, record)?;
        put_symlink(&self.path_of(digest, record), path, For::Step)?;
        Ok(stamp.link(*digest))
    }

    fn put_tree(
        &self,
        tree: &Tree,
        root: &Path,
        whom: For,
        records: Records<'_>,
    ) -> Result<Vec<Link>, StoreError> {
        match fs::create_dir(root) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(StoreError::Exists { path: root.to_owned() });
            }
            made => made.at("make", root)?,
        }
        let folders = folders_of(tree);
        for folder in &folders {
            let path = root.join(folder);
            fs::create_dir(&path).at("make", &path)?;
        }
        let links = self.put_files(tree, root, whom, records)?;
        // Links come after files, so that no file can ever be written through one.
        for Entry { path, node } in &tree.entries {
            if let Node::Link { target } = node {
                put_symlink(Path::new(target), &root.join(path), whom)?;
            }
        }
        if whom != For::Person {
            for folder in folders.iter().map(|folder| root.join(folder)).chain([root.to_owned()]) {
                // Its own folder is a step's to spoil; only its looks are fixed.
                fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).at("protect", &folder)?;
                set_fixed_mtime_of(&folder)?;
            }
        }
        Ok(links)
    }

    /// Writes the files of a tree, by several threads if there are many.
    fn put_files(
        &self,
        tree: &Tree,
        root: &Path,
        whom: For,
        records: Records<'_>,
    ) -> Result<Vec<Link>, StoreError> {
        let files: Vec<(&str, Digest, bool)> = tree
            .entries
            .iter()
            .filter_map(|entry| match &entry.node {
                Node::File { digest, executable, .. } => Some((entry.path.as_str(), *digest, *executable)),
                Node::Link { .. } | Node::Folder => None,
            })
            .collect();
        let links = Mutex::new(Vec::new());
        let put = |batch: &[(&str, Digest, bool)]| {
            let digests: Vec<Digest> = batch.iter().map(|(_, digest, _)| *digest).collect();
            for ((path, digest, executable), record) in batch.iter().zip(records(&digests)?) {
                let record = record.ok_or(StoreError::Missing { digest: *digest })?;
                let link = self.put_file(digest, &record, &root.join(path), *executable, whom)?;
                links.lock().unwrap_or_else(PoisonError::into_inner).extend(link);
            }
            Ok(())
        };
        if files.len() <= ONE_THREAD_UP_TO {
            put(&files)?;
        } else {
            in_batches(&files, &put)?;
        }
        Ok(links.into_inner().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Hands batches to threads until all are done or one has failed.
fn in_batches<T: Sync>(
    items: &[T],
    work: &(dyn Fn(&[T]) -> Result<(), StoreError> + Sync),
) -> Result<(), StoreError> {
    let threads = thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
    let size = items.len().div_ceil(threads).clamp(1, BATCH);
    let next = AtomicUsize::new(0);
    let failed = Mutex::new(None);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let some = || {
            while !stop.load(Ordering::Relaxed) {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let Some(batch) = items.chunks(size).nth(number) else { return };
                if let Err(error) = work(batch) {
                    stop.store(true, Ordering::Relaxed);
                    failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                }
            }
        };
        for _ in 1..threads {
            threads::begin(scope, some);
        }
        some();
    });
    match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

fn one(digest: &Digest, records: Records<'_>) -> Result<BlobRecord, StoreError> {
    records(&[*digest])?.pop().flatten().ok_or(StoreError::Missing { digest: *digest })
}

/// All folders of a tree, each after the one that it is in.
fn folders_of(tree: &Tree) -> BTreeSet<&str> {
    let mut folders = BTreeSet::new();
    for Entry { path, node } in &tree.entries {
        if *node == Node::Folder {
            folders.insert(path.as_str());
        }
        // From the inside out: where one is known, so are those around it.
        let mut inner = path.as_str();
        while let Some((outer, _)) = inner.rsplit_once('/') {
            if !folders.insert(outer) {
                break;
            }
            inner = outer;
        }
    }
    folders
}

fn put_symlink(target: &Path, path: &Path, whom: For) -> Result<(), StoreError> {
    symlink(target, path).at("link", path)?;
    match whom {
        For::Step | For::StepAlone => set_fixed_mtime_of(path),
        For::Person => Ok(()),
    }
}

/// Sets the times of what stands at a path, of a link itself.
fn set_fixed_mtime_of(path: &Path) -> Result<(), StoreError> {
    rustix::fs::utimensat(CWD, path, &fixed_times(), AtFlags::SYMLINK_NOFOLLOW).at("date", path)
}

/// Renames, but never over something that is there.
pub(crate) fn rename_to_nothing(from: &Path, to: &Path) -> io::Result<()> {
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(()),
        // Some network file systems cannot do this. For a file there is another way; for a folder there is
        // only a look, and that renaming does not replace a folder that has anything in it.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            if from.symlink_metadata()?.is_dir() {
                if to.symlink_metadata().is_ok() {
                    return Err(io::ErrorKind::AlreadyExists.into());
                }
                fs::rename(from, to)
            } else {
                fs::hard_link(from, to)?;
                fs::remove_file(from)
            }
        }
        Err(errno) => Err(errno.into()),
    }
}

/// Whether the store's file system lets files share blocks, as far as is known.
#[derive(Debug, Default)]
pub(crate) struct Reflinks {
    refused: AtomicBool,
}

impl Reflinks {
    /// Whether it has said that it cannot.
    pub(crate) fn are_refused(&self) -> bool {
        self.refused.load(Ordering::Relaxed)
    }

    /// Makes an empty file share all blocks of another, if that can be.
    pub(crate) fn clone_file(&self, from: &File, to: &File) -> bool {
        match rustix::fs::ioctl_ficlone(to, from) {
            Ok(()) => true,
            Err(Errno::OPNOTSUPP | Errno::NOTTY | Errno::NOSYS | Errno::INVAL) => {
                self.refused.store(true, Ordering::Relaxed);
                false
            }
            // Another file system, a full disk, …: true of these two files, not of all.
            Err(_) => false,
        }
    }
}

/// Something half written, which goes away unless it is finished.
struct Begun<'a>(&'a PathBuf);

impl Begun<'_> {
    fn finished(self) {
        std::mem::forget(self);
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        // What cannot be removed either is left: its name says whose it is.
        let _ = match self.0.symlink_metadata() {
            Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(self.0),
            Ok(_) => fs::remove_file(self.0),
            Err(error) => Err(error),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_all_done_by_however_many_threads_there_are() {
        let items: Vec<usize> = (0..3 * BATCH + 1).collect();
        for threads in 0..3 {
            let done = Mutex::new(BTreeSet::<usize>::new());
            let work = |batch: &[usize]| {
                done.lock().unwrap().extend(batch);
                Ok(())
            };
            threads::scarce::with(threads, || in_batches(&items, &work)).unwrap();
            assert!(done.into_inner().unwrap().into_iter().eq(0..items.len()), "{threads}");
            let refuse = |_: &[usize]| Err(StoreError::Missing { digest: Digest::of(b"") });
            threads::scarce::with(threads, || in_batches(&items, &refuse)).unwrap_err();
        }
    }
}
