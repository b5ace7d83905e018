//! Raw blobs to files of their own: copied within the kernel, and hashed as they arrive where they were not checked before.
//!
//! ```text
//!   blob ══ copy_file_range ══► file ──► read back, hash      (in another thread, a piece behind)
//! ```
//!
//! A blob that was hashed since the machine started and looks as it did then ([`crate::mark`]), before the copy and
//! after it, is copied and no more, as it would be cloned or mapped: looking at the bytes costs as much as copying them.
//! Of any other, what is read back is what the reader of the file will get, so that the copy is verified rather than its
//! source; it comes from memory, as it was written a moment ago. To read the source, hash it and write it took
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
use crate::mark::Stamp;
use crate::record::BlobRecord;
use crate::stage::hasher;
use crate::threads;

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
        let known = self.marks().holds(digest, &stamp);
        let copied = match known {
            true => copy(&from, to, record.len, |_, _| Ok(())).map(|()| None),
            false => copy_and_hash(&from, to, record.len, hasher(record.hash)).map(Some),
        };
        let Ok(found) = copied else {
            to.set_len(0).at("write", path)?;
            return Ok(false);
        };
        match found {
            Some(found) => self.seen(digest, record, &stamp, found)?,
            None => self.believe(digest, record, (&from, &stamp), (to, path))?,
        }
        Ok(true)
    }

    /// Judges the copy of a blob that looked like this before, and was checked then: looks at its bytes only if it was
    /// touched meanwhile. (Perhaps it only lost its name: what arrived tells.)
    fn believe(
        &self,
        digest: &Digest,
        record: &BlobRecord,
        (from, before): (&File, &Stamp),
        (copy, path): (&File, &Path),
    ) -> Result<(), StoreError> {
        if from.metadata().is_ok_and(|now| Stamp::of(&now) == *before) {
            return Ok(());
        }
        let mut hasher = hasher(record.hash);
        hash_range(copy, 0, record.len, &mut hasher, &mut vec![0; BUFFER_BYTES]).at("read", path)?;
        self.seen(digest, record, before, hasher.finalize().into())
    }
}

/// Copies this much, and tells of each piece that has arrived: where it begins, and how long it is.
fn copy(
    from: &File,
    to: &File,
    len: u64,
    mut arrived: impl FnMut(u64, u64) -> io::Result<()>,
) -> io::Result<()> {
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
        arrived(at, bytes as u64)?;
        at += bytes as u64;
    }
    Ok(())
}

/// Copies this much, and gives the hash of what arrived.
fn copy_and_hash(from: &File, to: &File, len: u64, hasher: blake3::Hasher) -> io::Result<Digest> {
    thread::scope(|scope| {
        let (copied, to_hash) = sync_channel::<(u64, u64)>(1);
        let hashing = threads::begin_with(scope, hasher, move |mut hasher| -> io::Result<Digest> {
            let mut buffer = vec![0; BUFFER_BYTES];
            for (at, bytes) in to_hash {
                hash_range(to, at, bytes, &mut hasher, &mut buffer)?;
            }
            Ok(hasher.finalize().into())
        });
        let hashing = match hashing {
            Ok(hashing) => hashing,
            Err(mut hasher) => {
                let mut buffer = vec![0; BUFFER_BYTES];
                copy(from, to, len, |at, bytes| hash_range(to, at, bytes, &mut hasher, &mut buffer))?;
                return Ok(hasher.finalize().into());
            }
        };
        // Moved there, it is dropped before the thread is waited for, so that it ends in every case. Where it could not
        // be sent the thread has ended, and says why.
        let done = copy(from, to, len, move |at, bytes| {
            copied.send((at, bytes)).map_err(|_| io::Error::other("the copy could not be read back"))
        });
        let digest = threads::join(hashing)?;
        done.map(|()| digest)
    })
}

/// Hashes a part of a file, through this buffer.
fn hash_range(
    file: &File,
    mut at: u64,
    mut bytes: u64,
    hasher: &mut blake3::Hasher,
    buffer: &mut [u8],
) -> io::Result<()> {
    while bytes > 0 {
        let room = buffer.len();
        let some = &mut buffer[..usize::try_from(bytes).map_or(room, |left| left.min(room))];
        file.read_exact_at(some, at)?;
        hasher.update(some);
        at += some.len() as u64;
        bytes -= some.len() as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::folder::Folder;
    use crate::layout::INLINE_LIMIT_BYTES;
    use crate::store::Create;

    #[test]
    fn what_was_copied_is_what_was_hashed_whatever_its_length() {
        let dir = tempfile::tempdir().unwrap();
        let lens = [0, 1, PIECE_BYTES - 1, PIECE_BYTES, 2 * PIECE_BYTES + 17];
        for (len, threads) in lens.into_iter().flat_map(|len| [(len, 0), (len, 1)]) {
            let bytes: Vec<u8> = (0..len).map(|at| (at * 31 % 251) as u8).collect();
            let (from, to) = (dir.path().join("from"), dir.path().join("to"));
            std::fs::write(&from, &bytes).unwrap();
            let file = File::options().read(true).write(true).create(true).truncate(true).open(&to).unwrap();
            let from = File::open(&from).unwrap();
            let copied = |len| {
                threads::scarce::with(threads, || copy_and_hash(&from, &file, len, blake3::Hasher::new()))
            };
            let digest = copied(len as u64).unwrap();
            assert_eq!(digest, Digest::of(&bytes), "{len}");
            assert!(std::fs::read(&to).unwrap() == bytes, "{len}");
            // A source that ends too early is no copy.
            assert!(copied(len as u64 + 1).is_err(), "{len}");
        }
    }

    #[test]
    fn a_blob_that_is_touched_while_it_is_copied_is_judged_by_what_arrived() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(&dir.path().join("store"), Create::IfAbsent).unwrap();
        let files = Files::new(folder.layout, INLINE_LIMIT_BYTES);
        let mut bytes = vec![0; 100_000];
        blake3::Hasher::new().finalize_xof().fill(&mut bytes);
        let staged = files.stage_bytes(&bytes).unwrap();
        let blob = &staged.blobs()[0];
        files.install(blob, None).unwrap();
        let (from, before) = files.open_right_size(&blob.digest, &blob.record).unwrap();
        let path = dir.path().join("copy");
        let judged = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            let copy = File::open(&path).unwrap();
            files.believe(&blob.digest, &blob.record, (&from, &before), (&copy, &path))
        };
        let wrong = vec![0; bytes.len()];
        // Nobody touched it: nobody looks.
        judged(&wrong).unwrap();
        // Its name went, which changes its change time.
        files.remove(&blob.digest, &blob.record).unwrap();
        judged(&bytes).unwrap();
        assert!(matches!(judged(&wrong).unwrap_err(), StoreError::Damaged { .. }));
        assert!(matches!(judged(&bytes[1..]).unwrap_err(), StoreError::Io { .. }));
    }
}
