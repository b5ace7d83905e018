//! Which content a file had when its stat was what it is: so that a file that did not change is not read again
//! in the next run.
//!
//! An entry is kept only if it was made at least two seconds, by the clock of the file's own file system, after
//! the file last changed: within the grain of that clock a file may change again and look the same. The file
//! systems that are trusted are those whose clock is this kernel's; elsewhere (the network, FUSE, what is not
//! known) every file is read. What this cannot see is a write through a shared mapping that was made writable
//! long before: the kernel stamps the first such write, not the later ones.
//!
//! The file is replaced as a whole, is checked as a whole, and counts as empty when anything is wrong with it.
//!
//! ```text
//! magic "cas stat cache 1\n" · generation u32 · entries … · BLAKE3 of all that (32)        little-endian
//! entry: device u64 · inode u64 · size u64 · mtime i64 · ctime i64 · digest (32) · last used u32
//! ```

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cas_store::Digest;
use rustix::time::{ClockId, clock_gettime};

use super::Stat;

const MAGIC: &[u8] = b"cas stat cache 1\n";
const ENTRY: usize = 5 * 8 + 32 + 4;
const CHECKSUM: usize = 32;

/// How long a file must have been left alone.
const SETTLED: Duration = Duration::from_secs(2);

/// The most entries that are kept (15 MB); those not used for longest go.
const LIMIT: usize = 200_000;

/// Digests by stat.
#[derive(Debug, Default)]
pub(super) struct StatCache {
    path: Option<PathBuf>,
    /// Counts the times that it was written.
    generation: u32,
    /// Sorted by device and inode; one for each.
    entries: Vec<Kept>,
    /// Made since.
    new: Vec<Kept>,
    /// By device: whether its file system is trusted.
    trusted: HashMap<u64, bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Kept {
    stat: Stat,
    digest: Digest,
    used: u32,
}

impl Kept {
    fn key(&self) -> (u64, u64) {
        (self.stat.dev, self.stat.ino)
    }
}

impl StatCache {
    /// Reads the cache; without a path, or where it cannot be read, an empty one.
    pub(super) fn load(path: Option<&Path>) -> Self {
        let read = path.and_then(|path| fs::read(path).ok());
        let (generation, entries) = read.as_deref().and_then(decode).unwrap_or_default();
        Self { path: path.map(Path::to_owned), generation, entries, ..Self::default() }
    }

    /// The digest of a file with this stat, if it is known.
    pub(super) fn get(&mut self, stat: &Stat, file: &Path) -> Option<Digest> {
        let at = self.entries.binary_search_by_key(&(stat.dev, stat.ino), Kept::key).ok()?;
        if self.entries[at].stat != *stat || !self.trusts(stat.dev, file) {
            return None;
        }
        self.entries[at].used = self.generation.saturating_add(1);
        Some(self.entries[at].digest)
    }

    /// Keeps a digest. `hashed_ns` is the time, by the kernel's clock, before its file was read.
    pub(super) fn put(&mut self, stat: &Stat, digest: Digest, hashed_ns: i128, file: &Path) {
        if settled(stat, hashed_ns) && self.path.is_some() && self.trusts(stat.dev, file) {
            self.new.push(Kept { stat: *stat, digest, used: self.generation.saturating_add(1) });
        }
    }

    /// Whether stats on this device tell files and their changes apart.
    pub(super) fn trusts(&mut self, device: u64, file: &Path) -> bool {
        *self.trusted.entry(device).or_insert_with(|| lies_on_trusted(file))
    }

    /// Lets a test say whether a device is trusted.
    #[cfg(test)]
    pub(super) fn trust(&mut self, device: u64, trusted: bool) {
        self.trusted.insert(device, trusted);
    }

    /// Writes it, if there is anything new. A cache that cannot be written costs time and nothing else.
    pub(super) fn save(mut self) {
        let Some(path) = self.path.take() else { return };
        if self.new.is_empty() {
            return;
        }
        // Another process may have written it meanwhile; both know something.
        let other = fs::read(&path).ok().as_deref().and_then(decode).unwrap_or_default();
        let generation = self.generation.max(other.0).saturating_add(1);
        let mut all: HashMap<(u64, u64), Kept> = HashMap::new();
        for kept in other.1.into_iter().chain(self.entries) {
            let known = all.entry(kept.key()).or_insert(kept);
            // The same file: the stat of its later change is the one that it has now.
            if (kept.stat.ctime_ns, kept.used) >= (known.stat.ctime_ns, known.used) {
                *known = kept;
            }
        }
        all.extend(self.new.into_iter().map(|kept| (kept.key(), kept)));
        let mut entries: Vec<Kept> = all.into_values().collect();
        if entries.len() > LIMIT {
            entries.sort_by_key(|kept| std::cmp::Reverse((kept.used, kept.key())));
            entries.truncate(LIMIT);
        }
        entries.sort_by_key(Kept::key);
        let _ = replace(&path, &encode(generation, &entries));
    }
}

/// The kernel's clock as file systems use it, in nanoseconds.
pub(super) fn file_clock_ns() -> i128 {
    let now = clock_gettime(ClockId::RealtimeCoarse);
    i128::from(now.tv_sec) * 1_000_000_000 + i128::from(now.tv_nsec)
}

/// Whether a file or folder had been left alone long enough when it was read.
pub(super) fn settled(stat: &Stat, hashed_ns: i128) -> bool {
    let settled = i128::try_from(SETTLED.as_nanos()).unwrap_or(i128::MAX);
    hashed_ns - stat.mtime_ns.max(stat.ctime_ns) >= settled
}

/// Whether a file or folder lies on a file system whose stats tell changes apart.
pub(super) fn lies_on_trusted(file: &Path) -> bool {
    rustix::fs::statfs(file).is_ok_and(|about| is_trusted(i128::from(about.f_type)))
}

/// Whether a file system, by its magic number, keeps its inode numbers and takes its times from this kernel.
fn is_trusted(magic: i128) -> bool {
    // The number has the width and sign of a C long, which differ between machines.
    let magic = (magic & 0xffff_ffff) as u32;
    matches!(
        magic,
        0xEF53          // ext2, ext3, ext4
        | 0x5846_5342   // xfs
        | 0x9123_683E   // btrfs
        | 0xCA45_1A4E   // bcachefs
        | 0xF2F5_2010   // f2fs
        | 0x2FC1_2FC1   // zfs
        | 0x0102_1994   // tmpfs
        | 0x8584_58F6   // ramfs
        | 0x794C_7630   // overlayfs
        | 0x3153_464A   // jfs
        | 0x5265_4973 // reiserfs
    )
}

fn encode(generation: u32, entries: &[Kept]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(MAGIC.len() + 4 + entries.len() * ENTRY + CHECKSUM);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&generation.to_le_bytes());
    for kept in entries {
        // Times beyond the year 2262 are not kept: they do not fit, and no file has them honestly.
        let (Ok(mtime), Ok(ctime)) = (i64::try_from(kept.stat.mtime_ns), i64::try_from(kept.stat.ctime_ns))
        else {
            continue;
        };
        bytes.extend_from_slice(&kept.stat.dev.to_le_bytes());
        bytes.extend_from_slice(&kept.stat.ino.to_le_bytes());
        bytes.extend_from_slice(&kept.stat.size.to_le_bytes());
        bytes.extend_from_slice(&mtime.to_le_bytes());
        bytes.extend_from_slice(&ctime.to_le_bytes());
        bytes.extend_from_slice(kept.digest.as_bytes());
        bytes.extend_from_slice(&kept.used.to_le_bytes());
    }
    let checksum = blake3::hash(&bytes);
    bytes.extend_from_slice(checksum.as_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Option<(u32, Vec<Kept>)> {
    let (body, checksum) = bytes.split_at_checked(bytes.len().checked_sub(CHECKSUM)?)?;
    let mut rest = body.strip_prefix(MAGIC)?;
    if blake3::hash(body).as_bytes() != checksum {
        return None;
    }
    let generation = u32::from_le_bytes(take(&mut rest)?);
    if rest.len() % ENTRY != 0 {
        return None;
    }
    let mut entries = Vec::with_capacity(rest.len() / ENTRY);
    while !rest.is_empty() {
        let stat = Stat {
            dev: u64::from_le_bytes(take(&mut rest)?),
            ino: u64::from_le_bytes(take(&mut rest)?),
            size: u64::from_le_bytes(take(&mut rest)?),
            mtime_ns: i64::from_le_bytes(take(&mut rest)?).into(),
            ctime_ns: i64::from_le_bytes(take(&mut rest)?).into(),
        };
        let digest = Digest::from_bytes(take(&mut rest)?);
        entries.push(Kept { stat, digest, used: u32::from_le_bytes(take(&mut rest)?) });
    }
    // It is searched as what it is claimed to be.
    entries.is_sorted_by_key(Kept::key).then_some((generation, entries))
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = bytes.split_first_chunk()?;
    *bytes = tail;
    Some(*head)
}

/// Replaces a file as a whole. It is not synced: after a power loss its checksum tells.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let name = format!("{name}.{}.{}.new", std::process::id(), file_clock_ns());
    let new = path.with_file_name(name);
    let written = fs::write(&new, bytes).and_then(|()| fs::rename(&new, path));
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn kept(ino: u64, used: u32) -> Kept {
        let stat = Stat { dev: 1, ino, size: 3, mtime_ns: 5, ctime_ns: -7 };
        Kept { stat, digest: Digest::of(&ino.to_le_bytes()), used }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let entries = vec![kept(1, 0), kept(2, 9)];
        assert_eq!(decode(&encode(4, &entries)), Some((4, entries)));
        assert_eq!(decode(&encode(0, &[])), Some((0, Vec::new())));
    }

    #[test]
    fn damage_anywhere_makes_it_empty() {
        let bytes = encode(4, &[kept(1, 0), kept(2, 9)]);
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert_eq!(decode(&damaged), None, "byte {at}");
            assert_eq!(decode(&bytes[..at]), None, "cut at {at}");
        }
        assert_eq!(decode(&encode(4, &[kept(2, 0), kept(1, 0)])), None, "out of order");
    }

    #[test]
    fn only_what_was_left_alone_is_kept() {
        let stat = Stat { dev: 1, ino: 1, size: 0, mtime_ns: 1_000_000_000, ctime_ns: 3_000_000_000 };
        assert!(!settled(&stat, 4_999_999_999));
        assert!(settled(&stat, 5_000_000_000));
        // A change in the future is a clock that was set.
        assert!(!settled(&stat, 0));
    }

    #[test]
    fn the_network_is_not_trusted() {
        assert!(is_trusted(0xEF53));
        assert!(is_trusted(0x9123_683E));
        // The same number where a C long has 32 bits.
        assert!(is_trusted(i128::from(0x9123_683E_u32 as i32)));
        for magic in [0x6969, 0xFF53_4D42, 0xFE53_4D42, 0x517B, 0x6573_5546, 0x0102_1997, 0x00C3_6400, 0] {
            assert!(!is_trusted(magic), "{magic:x}");
        }
    }

    #[test]
    fn two_that_write_it_both_have_their_say() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("stat");
        let file = folder.path().join("file");
        fs::write(&file, "x").unwrap();
        let trusting = || {
            let mut cache = StatCache::load(Some(&path));
            cache.trusted.insert(1, true);
            cache
        };
        let (mut one, mut two) = (trusting(), trusting());
        let (a, b) = (kept(1, 0), kept(2, 0));
        one.put(&a.stat, a.digest, 1 << 40, &file);
        two.put(&b.stat, b.digest, 1 << 40, &file);
        one.save();
        two.save();
        let mut both = trusting();
        assert_eq!(both.get(&a.stat, &file), Some(a.digest));
        assert_eq!(both.get(&b.stat, &file), Some(b.digest));
        assert_eq!(both.get(&Stat { size: 4, ..a.stat }, &file), None);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            prop_assert_eq!(decode(&bytes), None);
        }
    }
}
