//! Raw blobs to files of their own: copied within the kernel, and hashed as they arrive.
//!
//! ```text
//!   blob ══ copy_file_range ══► file ──► read back, hash      (in another thread, a piece behind)
//! ```
//!
//! What is read back is what the reader of the file will get, so that the copy is verified rather than its source; it
//! comes from memory, as it was written a moment ago. To read the source, hash it and write it took
//! another pass over the bytes. Where the kernel cannot, or anything fails, the caller streams instead, which can tell
//! what is wrong.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::mpsc::sync_channel;
use std::thread;

use rustix::fs::copy_file_range;
use rustix::io::Errno;

use crate::blob::Files;
use crate::digest::Digest;
use crate::error::{At, StoreError};
use crate::record::BlobRecord;
use crate::stage::hasher;

/// Copied at a time: little enough to be in the processor's cache still when it is read back.
const PIECE_BYTES: usize = 4 * 1024 * 1024;

/// Read back at a time.
const BUFFER_BYTES: usize = 256 * 1024;

/// From here a second thread is worth its start.
pub(crate) const FROM_BYTES: u64 = 4 * PIECE_BYTES as u64;

impl Files {
    /// Copies a raw blob into an empty file, and says whether that could be done in this way; the file is
    /// empty still where it could not.
    ///
    /// # Errors
    ///
    /// [`StoreError::Missing`], [`StoreError::Damaged`], which the caller quarantines.
    pub(crate) fn copy_raw(
        &self,
        digest: &Digest,
        record: &BlobRecord,
        to: &File,
        path: &Path,
    ) -> Result<bool, StoreError> {
        let (from, stamp) = self.open_right_size(digest, record)?;
        let Ok(found) = copy_and_hash(&from, to, record.len, hasher(record.hash)) else {
            to.set_len(0).at("write", path)?;
            return Ok(false);
        };
        self.seen(digest, record, &stamp, found)?;
        Ok(true)
    }
}

/// Copies this much, and gives the hash of what arrived.
fn copy_and_hash(from: &File, to: &File, len: u64, mut hasher: blake3::Hasher) -> io::Result<Digest> {
    thread::scope(|scope| {
        let (copied, to_hash) = sync_channel::<(u64, usize)>(1);
        let hashing = scope.spawn(move || -> io::Result<Digest> {
            let mut buffer = vec![0; BUFFER_BYTES];
            for (mut at, mut bytes) in to_hash {
                while bytes > 0 {
                    let some = &mut buffer[..bytes.min(BUFFER_BYTES)];
                    to.read_exact_at(some, at)?;
                    hasher.update(some);
                    at += some.len() as u64;
                    bytes -= some.len();
                }
            }
            Ok(hasher.finalize().into())
        });
        // Moved here, it is dropped before the scope waits: so the thread ends in every case.
        let copied = copied;
        let mut at = 0;
        while at < len {
            let (mut source, mut target) = (at, at);
            let piece = usize::try_from(len - at).map_or(PIECE_BYTES, |left| left.min(PIECE_BYTES));
            let bytes = match copy_file_range(from, Some(&mut source), to, Some(&mut target), piece) {
                Err(Errno::INTR) => continue,
                other => other?,
            };
            if bytes == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if copied.send((at, bytes)).is_err() {
                break; // It could not be read back; joining tells why.
            }
            at += bytes as u64;
        }
        drop(copied);
        hashing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_copied_is_what_was_hashed_whatever_its_length() {
        let dir = tempfile::tempdir().unwrap();
        for len in [0, 1, PIECE_BYTES - 1, PIECE_BYTES, 2 * PIECE_BYTES + 17] {
            let bytes: Vec<u8> = (0..len).map(|at| (at * 31 % 251) as u8).collect();
            let (from, to) = (dir.path().join("from"), dir.path().join("to"));
            std::fs::write(&from, &bytes).unwrap();
            let file = File::options().read(true).write(true).create(true).truncate(true).open(&to).unwrap();
            let from = File::open(&from).unwrap();
            let digest = copy_and_hash(&from, &file, len as u64, blake3::Hasher::new()).unwrap();
            assert_eq!(digest, Digest::of(&bytes), "{len}");
            assert!(std::fs::read(&to).unwrap() == bytes, "{len}");
            // A source that ends too early is no copy.
            assert!(copy_and_hash(&from, &file, len as u64 + 1, blake3::Hasher::new()).is_err(), "{len}");
        }
    }
}
