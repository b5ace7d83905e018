//! A folder into staging, as a tree.
//!
//! One thread lists the folder; the files are then read, hashed and staged by several. Whatever cannot be
//! in a tree is an error that names it: sockets, devices, links that leave, names that are not UTF-8. Everything is
//! reached from the folder's descriptor (`inside.rs`), so that nothing from elsewhere is stored or moved.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::iter;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, openat, readlinkat, statat};

use crate::blob::Files;
use crate::digest::Digest;
use crate::error::{At, StoreError};
use crate::inside;
use crate::record::{Kind, Place};
use crate::stage::{BECAME_A_LINK, Bounds, Links, Staged, StagedBlob, kind_of};
use crate::store::Take;
use crate::threads;
use crate::tree::{Entry, Node, Tree, TreeError};

/// Folders with more files than this are read by several threads.
const ONE_THREAD_UP_TO: usize = 32;

/// Threads that read one folder. Small files are mostly waiting for the disk, the first time.
const THREADS_MAX: usize = 8;

impl Files {
    /// Hashes and keeps a folder: files, executable bits, links that stay inside, empty folders.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unstorable`] names what cannot be in a tree.
    pub(crate) fn stage_tree(&self, path: &Path, take: Take) -> Result<Staged, StoreError> {
        self.stage_listed(path, take).map_err(too_deep)
    }

    fn stage_listed(&self, path: &Path, take: Take) -> Result<Staged, StoreError> {
        let Listed { folder, mut entries, files } = list(path)?;
        let root = Root { path, folder: folder.as_fd() };
        let gathered = self.stage_files(root, &files, take)?;
        // From here on, what was staged goes away with this value.
        let mut staged =
            Staged::new(Kind::Tree, Tree::default().digest(), 0, gathered.blobs, self.layout().staging());
        entries.extend(gathered.entries);
        let tree = Tree::new(entries).map_err(|error| unstorable(path, error))?;
        let encoded = self.stage_encoded_tree(&tree.encode())?;
        staged.become_tree(encoded, tree);
        Ok(staged)
    }

    fn stage_files(&self, root: Root<'_>, files: &[String], take: Take) -> Result<Gathered, StoreError> {
        let progress = Progress {
            next: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            inline_left: AtomicU64::new(self.inline_budget_bytes),
            seen: Mutex::new(HashSet::new()),
        };
        let threads = match files.len() {
            0..=ONE_THREAD_UP_TO => 1,
            _ => thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX),
        };
        let parts: Vec<Result<Gathered, StoreError>> = if threads == 1 {
            vec![self.stage_some(root, files, take, &progress)]
        } else {
            thread::scope(|scope| {
                let some = || self.stage_some(root, files, take, &progress);
                let others: Vec<_> = (1..threads).filter_map(|_| threads::begin(scope, some)).collect();
                let own = some();
                iter::once(own).chain(others.into_iter().map(threads::join)).collect()
            })
        };
        let mut all = Gathered { entries: Vec::with_capacity(files.len()), blobs: Vec::new() };
        let mut failed = None;
        for part in parts {
            match part {
                Ok(part) => {
                    all.entries.extend(part.entries);
                    all.blobs.extend(part.blobs);
                }
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        match failed {
            None => Ok(all),
            Some(error) => {
                drop(self.leave(all.blobs));
                Err(error)
            }
        }
    }

    /// Stages files until there are no more, or somebody has failed.
    fn stage_some(
        &self,
        root: Root<'_>,
        files: &[String],
        take: Take,
        progress: &Progress,
    ) -> Result<Gathered, StoreError> {
        let mut gathered = Gathered { entries: Vec::new(), blobs: Vec::new() };
        while !progress.stop.load(Ordering::Relaxed) {
            let Some(path) = files.get(progress.next.fetch_add(1, Ordering::Relaxed)) else { break };
            if let Err(error) = self.stage_one(root, path, take, progress, &mut gathered) {
                progress.stop.store(true, Ordering::Relaxed);
                drop(self.leave(gathered.blobs));
                return Err(error);
            }
        }
        Ok(gathered)
    }

    fn stage_one(
        &self,
        root: Root<'_>,
        path: &str,
        take: Take,
        progress: &Progress,
        gathered: &mut Gathered,
    ) -> Result<(), StoreError> {
        let full = root.path.join(path);
        // When the budget is used up, what comes then goes to files. Which files those are may differ from
        // time to time; the tree does not.
        let left = progress.inline_left.load(Ordering::Relaxed) > 0;
        let bounds = Bounds {
            inline_limit_bytes: if left { self.inline_limit_bytes() } else { 0 },
            known: &|digest| progress.seen().contains(digest),
            links: Links::Refuse { from: root.folder, below: Path::new(path) },
        };
        let (piece, executable) = self.stage_path(&full, take, &bounds)?;
        if let Some(blob) = piece.blob {
            if progress.seen().insert(piece.digest) {
                if let Place::Inline(bytes) = &blob.record.place {
                    let taken = bytes.len() as u64;
                    let less = |left: u64| Some(left.saturating_sub(taken));
                    let _ = progress.inline_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
                }
                gathered.blobs.push(blob);
            } else {
                // An equal file was staged meanwhile; one of the two is enough.
                drop(self.leave(vec![blob]));
            }
        }
        let node = Node::File { digest: piece.digest, len: piece.len, executable };
        gathered.entries.push(Entry { path: path.to_owned(), node });
        Ok(())
    }

    /// Something to drop, so that the staging files of these blobs go away.
    fn leave(&self, blobs: Vec<StagedBlob>) -> Staged {
        Staged::new(Kind::Tree, Tree::default().digest(), 0, blobs, self.layout().staging())
    }
}

/// What threads share while they stage one folder.
struct Progress {
    next: AtomicUsize,
    stop: AtomicBool,
    inline_left: AtomicU64,
    seen: Mutex<HashSet<Digest>>,
}

impl Progress {
    fn seen(&self) -> std::sync::MutexGuard<'_, HashSet<Digest>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The folder that is staged.
#[derive(Clone, Copy)]
struct Root<'a> {
    path: &'a Path,
    /// What is in it is reached from here, through no link.
    folder: BorrowedFd<'a>,
}

struct Gathered {
    entries: Vec<Entry>,
    blobs: Vec<StagedBlob>,
}

/// What a folder has: everything but files as entries, and the paths of its files.
struct Listed {
    folder: OwnedFd,
    entries: Vec<Entry>,
    files: Vec<String>,
}

fn list(root: &Path) -> Result<Listed, StoreError> {
    let kind = fs::metadata(root).at("look at", root)?.file_type();
    if !kind.is_dir() {
        let what = format!("it is {}, not a folder", kind_of(kind));
        return Err(StoreError::Unstorable { path: root.to_owned(), what });
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = openat(CWD, root, flags, Mode::empty()).at("list", root)?;
    let mut listed = Listed { folder, entries: Vec::new(), files: Vec::new() };
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        let place = || if folder.is_empty() { root.to_owned() } else { root.join(&folder) };
        let opened = match inside::open(&listed.folder, Path::new(&folder), flags) {
            Err(error) if inside::is_link(error) => {
                return Err(StoreError::Unstorable { path: place(), what: BECAME_A_LINK.to_owned() });
            }
            opened => opened.at("list", &place())?,
        };
        let mut empty = true;
        for entry in Dir::read_from(&opened).at("list", &place())? {
            let entry = entry.at("list", &place())?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name == "." || name == ".." {
                continue;
            }
            empty = false;
            let whole = || place().join(name);
            let Some(name) = name.to_str() else {
                let what = "its name is not UTF-8".to_owned();
                return Err(StoreError::Unstorable { path: whole(), what });
            };
            let path = if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
            let kind = match entry.file_type() {
                // Some file systems do not say it in their lists.
                FileType::Unknown => {
                    let stat = statat(&opened, name, AtFlags::SYMLINK_NOFOLLOW);
                    FileType::from_raw_mode(stat.at("look at", &whole())?.st_mode)
                }
                kind => kind,
            };
            match kind {
                FileType::RegularFile => listed.files.push(path),
                FileType::Directory => folders.push(path),
                FileType::Symlink => {
                    let target = readlinkat(&opened, name, Vec::new()).at("read", &whole())?;
                    let Ok(target) = target.into_string() else {
                        let what = "it is a link to a name that is not UTF-8".to_owned();
                        return Err(StoreError::Unstorable { path: whole(), what });
                    };
                    listed.entries.push(Entry { path, node: Node::Link { target } });
                }
                _ => {
                    let kind = fs::symlink_metadata(whole()).at("look at", &whole())?.file_type();
                    let what = format!("it is {}", kind_of(kind));
                    return Err(StoreError::Unstorable { path: whole(), what });
                }
            }
        }
        if empty && !folder.is_empty() {
            listed.entries.push(Entry { path: folder, node: Node::Folder });
        }
    }
    Ok(listed)
}

/// A path that the system does not take is what was to be stored: no failure of the store's.
fn too_deep(error: StoreError) -> StoreError {
    match error {
        StoreError::Io { path, source, .. }
            if source.raw_os_error() == Some(rustix::io::Errno::NAMETOOLONG.raw_os_error()) =>
        {
            let what = "its path is longer than the 4095 bytes that the system takes".to_owned();
            StoreError::Unstorable { path: shortened(&path), what }
        }
        StoreError::Unstorable { path, what } => StoreError::Unstorable { path: shortened(&path), what },
        error => error,
    }
}

/// A path as it can be shown: the middle of a very long one is left out.
fn shortened(path: &Path) -> PathBuf {
    const SHOWN: usize = 120;
    let text = path.to_string_lossy();
    let count = text.chars().count();
    if count <= 2 * SHOWN {
        return path.to_owned();
    }
    let head: String = text.chars().take(SHOWN).collect();
    let tail: String = text.chars().skip(count - SHOWN).collect();
    PathBuf::from(format!("{head}…{tail}"))
}

/// A tree's error with the whole path of what it is about.
fn unstorable(root: &Path, error: TreeError) -> StoreError {
    match error {
        TreeError::Entry { path, what } => StoreError::Unstorable {
            path: root.join(path),
            what: if what.starts_with("is ") { format!("it {what}") } else { what },
        },
        TreeError::Encoding { what } => StoreError::Unstorable { path: PathBuf::from(root), what },
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::layout::Layout;
    use crate::pipe::FRAME_BYTES;

    /// What does not compress, so that it would be moved rather than copied.
    fn noise(seed: u8) -> Vec<u8> {
        let mut bytes = vec![0; FRAME_BYTES + 1000];
        blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut bytes);
        bytes
    }

    #[test]
    fn a_folder_is_kept_by_however_many_threads_there_are() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path().join("store"));
        fs::create_dir_all(layout.staging()).unwrap();
        let files = Files::new(layout, 4096);
        let folder = dir.path().join("many");
        fs::create_dir(&folder).unwrap();
        for number in 0..3 * ONE_THREAD_UP_TO {
            fs::write(folder.join(number.to_string()), number.to_string()).unwrap();
        }
        let kept = |threads| {
            let staged = threads::scarce::with(threads, || files.stage_tree(&folder, Take::Copy));
            staged.unwrap().artifact("tree").digest
        };
        let all = kept(THREADS_MAX);
        assert_eq!((kept(0), kept(1)), (all, all));
    }

    /// What a step left running exchanges a folder for a link to one that is not its own, and back.
    #[test]
    fn nothing_behind_a_folder_that_becomes_a_link_is_stored_or_moved() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path().join("store"));
        fs::create_dir_all(layout.staging()).unwrap();
        let files = Files::new(layout, 4096);
        let (own, foreign) = (noise(1), noise(2));
        let outside = dir.path().join("out");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("file"), &foreign).unwrap();
        let mut stored = 0;
        for round in 0..60 {
            let inside = dir.path().join(format!("in{round}"));
            let (folder, link) = (inside.join("a"), dir.path().join(format!("link{round}")));
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("file"), &own).unwrap();
            symlink(&outside, &link).unwrap();
            let staged = thread::scope(|scope| {
                scope.spawn(|| {
                    for _ in 0..100 {
                        let exchange = rustix::fs::RenameFlags::EXCHANGE;
                        rustix::fs::renameat_with(CWD, &folder, CWD, &link, exchange).unwrap();
                    }
                });
                files.stage_tree(&inside, Take::Adopt)
            });
            assert!(outside.join("file").exists(), "it was moved away, in round {round}");
            let Ok(staged) = staged else { continue };
            stored += 1;
            let digests: Vec<Digest> = staged.blobs().iter().map(|blob| blob.digest).collect();
            assert!(digests.contains(&Digest::of(&own)) && !digests.contains(&Digest::of(&foreign)));
        }
        // The others found the link, which leads out of the folder.
        assert!(stored > 0, "none was stored");
    }
}
