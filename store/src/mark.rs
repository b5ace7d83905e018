//! Which blobs were hashed since the machine started, and what their files looked like then.
//!
//! A mark spares hashing what is mapped or linked again and again. It holds only for a file with the same
//! size, modification time, change time and inode, and only until the machine restarts: what the disk gives
//! after that is looked at anew. Marks are a convenience. They are kept in one file, which anybody may
//! delete; one that cannot be read is none.

use std::collections::HashSet;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::codec;
use crate::digest::Digest;
use crate::ids::IdMap;
use crate::layout::Layout;

/// The record's kind and version in [`codec`].
const KIND: u8 = b'm';
const VERSION: u8 = 1;

/// So many marks are kept at most: what is above is hashed again.
const KEPT_MAX: usize = 100_000;

/// What a file looks like without being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stamp {
    pub(crate) len: u64,
    pub(crate) mtime_ns: i128,
    pub(crate) ctime_ns: i128,
    pub(crate) inode: u64,
}

impl Stamp {
    pub(crate) fn of(metadata: &Metadata) -> Self {
        let ns = |seconds: i64, ns: i64| i128::from(seconds) * 1_000_000_000 + i128::from(ns);
        Self {
            len: metadata.len(),
            mtime_ns: ns(metadata.mtime(), metadata.mtime_nsec()),
            ctime_ns: ns(metadata.ctime(), metadata.ctime_nsec()),
            inode: metadata.ino(),
        }
    }

    /// A blob that is handed out without a copy while its file looks like this.
    pub(crate) fn link(self, digest: Digest) -> crate::store::Link {
        let Self { len, mtime_ns, ctime_ns, inode } = self;
        crate::store::Link { digest, len, mtime_ns, ctime_ns, inode }
    }
}

/// The marks that hold.
#[derive(Default)]
pub(crate) struct Marks(Mutex<Held>);

#[derive(Default)]
struct Held {
    marks: IdMap<Digest, Stamp>,
    /// What the file may still have and is not to be believed.
    forgotten: HashSet<Digest>,
    /// Whether there are marks that the file does not have.
    unsaved: bool,
}

#[derive(Serialize, Deserialize)]
struct Saved {
    boot: String,
    marks: Vec<(Digest, Stamp)>,
}

impl Marks {
    /// Reads the marks of earlier processes, if the machine has not restarted since.
    pub(crate) fn load(layout: &Layout) -> Self {
        let marks = (|| {
            let bytes = fs::read(layout.checked()).ok()?;
            let saved: Saved = codec::decode(KIND, VERSION, &bytes).ok()?;
            (saved.boot == boot_id()?).then(|| saved.marks.into_iter().collect())
        })();
        Self(Mutex::new(Held { marks: marks.unwrap_or_default(), ..Held::default() }))
    }

    /// Writes the marks, if there are new ones and it is known when the machine started.
    pub(crate) fn save(&self, layout: &Layout) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !held.unsaved {
            return;
        }
        let Some(boot) = boot_id() else { return };
        // Another process may have written it meanwhile: both know something.
        let others = Self::load(layout).0.into_inner().unwrap_or_else(PoisonError::into_inner).marks;
        let others = others.into_iter().filter(|(digest, _)| !held.marks.contains_key(digest));
        let others = others.filter(|(digest, _)| !held.forgotten.contains(digest));
        let marks = held.marks.iter().map(|(digest, stamp)| (*digest, *stamp));
        let marks = marks.chain(others).take(KEPT_MAX).collect();
        let Ok(bytes) = codec::encode(KIND, VERSION, &Saved { boot, marks }) else { return };
        let path = layout.checked();
        // Two processes that end at once must not write into one file.
        let new = layout.staged(&crate::blob::token());
        // Losing marks costs time, never truth: so nothing here is worth an error.
        if fs::write(&new, bytes).and_then(|()| fs::rename(&new, &path)).is_ok() {
            held.unsaved = false;
        } else {
            let _ = fs::remove_file(&new);
        }
    }

    /// Whether this blob's file was hashed and looked like this.
    pub(crate) fn holds(&self, digest: &Digest, stamp: &Stamp) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).marks.get(digest) == Some(stamp)
    }

    /// Notes that this blob's file was hashed and found right.
    pub(crate) fn note(&self, digest: Digest, stamp: Stamp) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if held.marks.insert(digest, stamp) != Some(stamp) {
            held.unsaved = true;
        }
    }

    /// Forgets what was noted of a blob.
    pub(crate) fn forget(&self, digest: &Digest) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.forgotten.insert(*digest);
        if held.marks.remove(digest).is_some() {
            held.unsaved = true;
        }
    }
}

/// Whether bytes are saved marks.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn decode(bytes: &[u8]) -> bool {
    codec::decode::<Saved>(KIND, VERSION, bytes).is_ok() || codec::from_bytes::<Saved>(bytes).is_ok()
}

/// What the kernel calls the time since it was started; `None` where it does not tell.
fn boot_id() -> Option<String> {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").ok().map(|id| id.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(len: u64) -> Stamp {
        Stamp { len, mtime_ns: -5, ctime_ns: 1 << 70, inode: 3 }
    }

    #[test]
    fn marks_hold_for_the_next_process_until_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path().to_owned());
        fs::create_dir(layout.staging()).unwrap();
        let digest = Digest::of(b"a");
        let marks = Marks::load(&layout);
        marks.note(digest, stamp(1));
        assert!(marks.holds(&digest, &stamp(1)));
        assert!(!marks.holds(&digest, &stamp(2)));
        marks.save(&layout);
        assert!(Marks::load(&layout).holds(&digest, &stamp(1)));

        let other = Saved { boot: "another".to_owned(), marks: vec![(digest, stamp(1))] };
        fs::write(layout.checked(), codec::encode(KIND, VERSION, &other).unwrap()).unwrap();
        assert!(!Marks::load(&layout).holds(&digest, &stamp(1)));
    }

    #[test]
    fn broken_marks_are_no_marks() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path().to_owned());
        fs::write(layout.checked(), b"nonsense").unwrap();
        assert!(!Marks::load(&layout).holds(&Digest::of(b"a"), &stamp(1)));
    }

    #[test]
    fn what_is_forgotten_does_not_come_back() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path().to_owned());
        let digest = Digest::of(b"a");
        let marks = Marks::load(&layout);
        marks.note(digest, stamp(1));
        marks.save(&layout);
        let marks = Marks::load(&layout);
        marks.forget(&digest);
        marks.save(&layout);
        assert!(!Marks::load(&layout).holds(&digest, &stamp(1)));
    }
}
