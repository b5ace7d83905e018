//! Hashes files, each once, with several threads.

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cas_store::Digest;

use super::Stat;
use super::stat_cache::{StatCache, file_clock_ns};
use crate::fork;

/// How much is read at once.
const CHUNK: usize = 1024 * 1024;

/// From this size on a file is hashed by several threads, a piece of this size at a time.
const LARGE: usize = 16 * 1024 * 1024;

/// Below this many files a thread costs more than it saves.
const FILES_PER_THREAD: usize = 32;

/// How often a file that changes while it is read is read again.
const TRIES: usize = 3;

/// How far apart two writes are at least whose times differ: the tick of the kernel's clock (10 ms at most), twice.
const TICK: Duration = Duration::from_millis(20);

/// The same where times are kept in seconds; some file systems keep even ones only.
const COARSE_TICK: Duration = Duration::from_secs(2);

/// A file as it was hashed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hashed {
    /// Of its content.
    pub(super) digest: Digest,
    /// What its stat said before, and after.
    pub(super) stat: Stat,
    /// Whether its owner may execute it.
    pub(super) executable: bool,
}

/// How much was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// How many files were read to be hashed.
    pub read: u64,
    /// How many were not, because the cache knew their digest.
    pub cached: u64,
    /// How many probes were run.
    pub probes: u64,
}

/// What a stat says of a file's content.
pub(super) fn stat_of(metadata: &Metadata) -> Stat {
    let ns = |seconds: i64, nanos: i64| i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
    Stat {
        dev: metadata.dev(),
        ino: metadata.ino(),
        size: metadata.size(),
        mtime_ns: ns(metadata.mtime(), metadata.mtime_nsec()),
        ctime_ns: ns(metadata.ctime(), metadata.ctime_nsec()),
    }
}

fn is_executable(metadata: &Metadata) -> bool {
    metadata.mode() & 0o100 != 0
}

/// Hashes files by their paths (links are followed), in order. Files that are one on disk are read once.
pub(super) fn hash_all(
    files: &[PathBuf],
    cache: &mut StatCache,
    counters: &mut Counters,
) -> Vec<io::Result<Hashed>> {
    let stats = parallel(files, |file| file.metadata());
    let mut results: Vec<Option<io::Result<Hashed>>> = Vec::with_capacity(files.len());
    // What has to be read, and the first place in `files` where it stands.
    let mut unread: Vec<usize> = Vec::new();
    let mut first: HashMap<Stat, usize> = HashMap::new();
    let mut same: Vec<(usize, usize)> = Vec::new();
    for (at, stat) in stats.into_iter().enumerate() {
        let known = match stat {
            Err(error) => Some(Err(error)),
            Ok(metadata) if !metadata.is_file() => Some(Err(io::Error::other("it is no regular file"))),
            Ok(metadata) => {
                let stat = stat_of(&metadata);
                // Where inode numbers are made up, two files may have one. (Elsewhere too the whole stat has to be
                // the same: a file may be replaced between two looks at it.)
                let earlier = first.get(&stat).copied().filter(|_| cache.trusts(stat.dev, &files[at]));
                if let Some(earlier) = earlier {
                    same.push((at, earlier));
                    None
                } else {
                    first.entry(stat).or_insert(at);
                    let executable = is_executable(&metadata);
                    let digest = cache.get(&stat, &files[at]);
                    if digest.is_none() {
                        unread.push(at);
                    }
                    digest.map(|digest| Ok(Hashed { digest, stat, executable }))
                }
            }
        };
        counters.cached += u64::from(matches!(known, Some(Ok(_))));
        results.push(known);
    }
    counters.read += unread.len() as u64;
    let began = file_clock_ns();
    for (at, hashed) in unread.iter().zip(parallel(&unread, |at| hash(&files[*at]))) {
        if let Ok(hashed) = &hashed {
            cache.put(&hashed.stat, hashed.digest, began, &files[*at]);
        }
        results[*at] = Some(hashed);
    }
    for (at, earlier) in same {
        results[at] = results[earlier].as_ref().map(|result| match result {
            Ok(hashed) => Ok(*hashed),
            Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
        });
    }
    let unreached = || Err(io::Error::other("it was not hashed"));
    results.into_iter().map(|result| result.unwrap_or_else(unreached)).collect()
}

/// Maps a slice with as many threads as are worth it, keeping the order.
fn parallel<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from).min(16);
    let threads = cores.min(items.len() / FILES_PER_THREAD + 1).min(items.len());
    if threads <= 1 {
        return items.iter().map(work).collect();
    }
    let next = AtomicUsize::new(0);
    let mut all: Vec<(usize, R)> = Vec::with_capacity(items.len());
    std::thread::scope(|scope| {
        let run = || {
            let mut done = Vec::new();
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let Some(item) = items.get(at) else { return done };
                done.push((at, work(item)));
            }
        };
        let others: Vec<_> = (1..threads).filter_map(|_| fork::begin(scope, run)).collect();
        all.extend(run());
        for other in others {
            all.extend(fork::join(other));
        }
    });
    all.sort_unstable_by_key(|(at, _)| *at);
    all.into_iter().map(|(_, result)| result).collect()
}

/// Hashes one file that does not change meanwhile, and whose stat will differ when it changes afterwards: within the
/// tick of the clock in which it was written, it could change again and look the same, for ever.
fn hash(path: &Path) -> io::Result<Hashed> {
    for _ in 0..TRIES {
        let mut file = File::open(path)?;
        let mut before = file.metadata()?;
        if let Some(wait) = unsettled(&stat_of(&before), file_clock_ns()) {
            std::thread::sleep(wait);
            before = file.metadata()?;
        }
        let digest = read_and_hash(&mut file, before.size())?;
        let after = file.metadata()?;
        let stat = stat_of(&before);
        if stat == stat_of(&after) {
            return Ok(Hashed { digest, stat, executable: is_executable(&after) });
        }
    }
    Err(io::Error::other("it keeps changing while it is read"))
}

/// How long it takes until the tick is over in which a file was changed; `None` if it is.
fn unsettled(stat: &Stat, now_ns: i128) -> Option<Duration> {
    // A time in the future was set by hand, or by another machine's clock: nothing can be told from it.
    let changed = [stat.mtime_ns, stat.ctime_ns].into_iter().filter(|time| *time <= now_ns).max()?;
    let whole = |time: i128| time % 1_000_000_000 == 0;
    let tick = if whole(stat.mtime_ns) && whole(stat.ctime_ns) { COARSE_TICK } else { TICK };
    let since = Duration::from_nanos(u64::try_from(now_ns - changed).ok()?);
    tick.checked_sub(since).filter(|left| !left.is_zero())
}

/// Reads, and does not map: a mapped file that is cut short ends the process.
fn read_and_hash(file: &mut File, size: u64) -> io::Result<Digest> {
    let mut hasher = blake3::Hasher::new();
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    let mut piece = vec![0; if size >= LARGE { LARGE } else { size.saturating_add(1).min(CHUNK) }];
    loop {
        let read = fill(file, &mut piece)?;
        if read == LARGE {
            cas_store::hash_together(&mut hasher, &piece);
        } else {
            hasher.update(&piece[..read]);
        }
        if read < piece.len() {
            return Ok(hasher.finalize().into());
        }
    }
}

/// Reads until the piece is full or the file is at its end.
fn fill(file: &mut File, piece: &mut [u8]) -> io::Result<usize> {
    let mut at = 0;
    while at < piece.len() {
        match file.read(&mut piece[at..]) {
            Ok(0) => break,
            Ok(read) => at += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_any_size_have_the_plain_hash() {
        let folder = tempfile::tempdir().unwrap();
        for size in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, LARGE - 1, LARGE, LARGE + 1, 2 * LARGE + 5] {
            let bytes: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
            let path = folder.path().join("file");
            std::fs::write(&path, &bytes).unwrap();
            assert_eq!(hash(&path).unwrap().digest, Digest::of(&bytes), "{size}");
        }
    }

    #[test]
    fn without_a_thread_to_be_had_the_one_that_is_there_does_all() {
        let items: Vec<usize> = (0..5 * FILES_PER_THREAD).collect();
        let doubled: Vec<usize> = items.iter().map(|item| 2 * item).collect();
        assert_eq!(fork::tests::without_threads(|| parallel(&items, |item| 2 * item)), doubled);
        assert_eq!(parallel(&items, |item| 2 * item), doubled);
    }

    /// A file that was written, hashed and written again within one tick of the clock looked unchanged, and what was
    /// made of its second content was kept under the version of its first.
    #[test]
    fn a_change_right_after_it_was_hashed_shows_in_its_stat() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        for _ in 0..20 {
            std::fs::write(&path, "one").unwrap();
            let hashed = hash(&path).unwrap();
            std::fs::write(&path, "two").unwrap();
            assert_ne!(stat_of(&path.metadata().unwrap()), hashed.stat);
        }
    }

    #[test]
    fn a_file_is_left_alone_until_its_tick_is_over() {
        const SECOND: i128 = 1_000_000_000;
        let check = |mtime_ns, ctime_ns, now_ns, millis: Option<u64>| {
            let stat = Stat { dev: 1, ino: 1, size: 3, mtime_ns, ctime_ns };
            assert_eq!(unsettled(&stat, now_ns), millis.map(Duration::from_millis));
        };
        let now = 100 * SECOND + 5_000_000;
        check(SECOND + 1, now - 1_000_000, now, Some(19));
        check(SECOND + 1, now - 20_000_000, now, None);
        // Times in whole seconds.
        check(100 * SECOND, 100 * SECOND, now, Some(1995));
        check(90 * SECOND, 90 * SECOND, now, None);
        // Set into the future by hand; when it was set is known.
        check(200 * SECOND, now - 1_000_000, now, Some(19));
        check(200 * SECOND, 200 * SECOND, now, None);
    }

    /// Inode numbers that are made up were taken for the identity of a file.
    #[test]
    fn two_files_are_one_only_where_that_can_be_trusted() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (folder.path().join("one"), folder.path().join("two"));
        std::fs::write(&one, "a").unwrap();
        std::fs::hard_link(&one, &two).unwrap();
        let read = |trusted| {
            let mut cache = StatCache::default();
            cache.trust(one.metadata().unwrap().dev(), trusted);
            let mut counters = Counters::default();
            let hashed = hash_all(&[one.clone(), two.clone()], &mut cache, &mut counters);
            assert!(hashed.iter().all(|hashed| hashed.as_ref().unwrap().digest == Digest::of(b"a")));
            counters.read
        };
        assert_eq!(read(true), 1);
        assert_eq!(read(false), 2);
    }

    #[test]
    fn one_file_under_several_names_is_read_once() {
        let folder = tempfile::tempdir().unwrap();
        let paths: Vec<PathBuf> = (0..200).map(|at| folder.path().join(format!("{at:03}"))).collect();
        std::fs::write(&paths[0], "a").unwrap();
        for path in &paths[1..100] {
            std::fs::hard_link(&paths[0], path).unwrap();
        }
        for (at, path) in paths.iter().enumerate().skip(100) {
            std::fs::write(path, at.to_string()).unwrap();
        }
        let mut counters = Counters::default();
        let mut cache = StatCache::default();
        cache.trust(folder.path().metadata().unwrap().dev(), true);
        let hashed = hash_all(&paths, &mut cache, &mut counters);
        assert_eq!(counters.read, 101);
        for (at, hashed) in hashed.into_iter().enumerate() {
            let text = if at < 100 { "a".to_owned() } else { at.to_string() };
            assert_eq!(hashed.unwrap().digest, Digest::of(text.as_bytes()));
        }
    }

    #[test]
    fn what_is_not_there_or_no_file_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let paths = [folder.path().join("none"), folder.path().to_owned()];
        let mut counters = Counters::default();
        let hashed = hash_all(&paths, &mut StatCache::default(), &mut counters);
        assert_eq!(hashed[0].as_ref().unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(hashed[1].as_ref().unwrap_err().to_string(), "it is no regular file");
        assert_eq!(counters, Counters::default());
    }
}
