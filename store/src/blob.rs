//! Blob files: the only code that opens, names, removes or reads them.
//!
//! A blob's file is written in staging, whole, read-only and with one fixed mtime, and renamed to its name
//! ([`Files::install`]); it never changes after that. What is read is hashed as it is read, or was hashed
//! since the machine started and has not changed since, by its size, times and inode ([`crate::mark`]).
//! Only the host calls what renames or removes. The index is not known here: callers bring the
//! [`BlobRecord`] of a digest. What lies in staging, and the work folders, are `blob/staging.rs`'s.

mod bytes;
mod staging;

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;

use crate::crash;
use crate::digest::Digest;
use crate::disk;
use crate::error::{At, StoreError};
use crate::layout::{BlobName, INLINE_BUDGET_BYTES, Layout, MTIME_S};
use crate::mark::{Marks, Stamp};
use crate::pipe::Compressors;
use crate::place::Reflinks;
use crate::plain_file;
use crate::record::{BlobRecord, Encoding, HashKind, Place};
use crate::stage::{StagedBlob, hasher, set_fixed_mtime};
use crate::stream::{self, Flow, Flowed, Sink};
use crate::sys;
use crate::tree::Tree;
pub use bytes::Bytes;
use bytes::Held;
pub(crate) use staging::token;
use staging::{is_staged_by, is_staging_name};

/// Up to here files are synced one by one; for more, one sync of the whole file system is quicker, though
/// it may write what others left there.
const SYNCED_SINGLY: usize = 64;

/// The blob files of one store.
pub(crate) struct Files {
    layout: Layout,
    inline_limit_bytes: u64,
    pub(crate) inline_budget_bytes: u64,
    /// Tells the names that this process gives from those of every other.
    token: String,
    next_name: AtomicU64,
    pub(crate) compressors: Compressors,
    pub(crate) reflinks: Reflinks,
    marks: Marks,
}

/// What one look at a blob says, without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Presence {
    /// It is there and has the right size.
    Present,
    /// Its file is gone.
    Missing,
    /// Its file cannot be the right one.
    Damaged(String),
}

impl Files {
    /// The blob files below a store's folder. Values up to `inline_limit_bytes` are kept out of files.
    pub(crate) fn new(layout: Layout, inline_limit_bytes: u64) -> Self {
        let marks = Marks::load(&layout);
        Self {
            layout,
            inline_limit_bytes,
            inline_budget_bytes: INLINE_BUDGET_BYTES,
            token: token(),
            next_name: AtomicU64::new(1),
            compressors: Compressors::default(),
            reflinks: Reflinks::default(),
            marks,
        }
    }

    /// The paths.
    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Values up to here are kept out of files.
    pub(crate) fn inline_limit_bytes(&self) -> u64 {
        self.inline_limit_bytes
    }

    /// Which blobs were hashed since the machine started.
    pub(crate) fn marks(&self) -> &Marks {
        &self.marks
    }

    /// What every name ends with that this process gives in staging and among the work folders, before a
    /// final `-` and a number.
    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    // Names.

    /// Gives a staged blob's file its name, after which its record is true. Doing it again does nothing.
    /// `owner` is the user who has to have staged it, where several may. The host's.
    ///
    /// # Errors
    ///
    /// [`StoreError::Missing`] if its staging file is gone and it does not stand under its name either;
    /// [`StoreError::Unstorable`] for what is no file in staging, or another user's.
    pub(crate) fn install(&self, staged: &StagedBlob, owner: Option<u32>) -> Result<(), StoreError> {
        let Some(name) = &staged.file else { return Ok(()) };
        // It came in a message: it may not lead anywhere else.
        if !is_staging_name(name) {
            let what = "this is no name of a file in staging".to_owned();
            return Err(StoreError::Unstorable { path: PathBuf::from(name), what });
        }
        let from = self.layout.staged(name);
        is_staged_by(&from, owner)?;
        let to = self.path_of(&staged.digest, &staged.record);
        crash::point("install.before-rename");
        let mut renamed = disk::rename(&from, &to);
        if matches!(&renamed, Err(error) if error.kind() == io::ErrorKind::NotFound) {
            // Fan-out folders are made when they are needed: 256 of them would take a megabyte.
            let folder = self.layout.fan_out(&staged.digest);
            match DirBuilder::new().recursive(true).create(&folder) {
                Ok(()) => renamed = disk::rename(&from, &to),
                Err(error) => return Err(error).at("make", &folder),
            }
        }
        crash::point("install.after-rename");
        match renamed {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return match self.presence(&staged.digest, &staged.record)? {
                    Presence::Present => Ok(()),
                    Presence::Missing | Presence::Damaged(_) => {
                        Err(StoreError::Missing { digest: staged.digest })
                    }
                };
            }
            Err(error) => return Err(error).at("rename", &from),
        }
        if owner.is_some()
            && let Err(error) = is_staged_by(&to, owner)
        {
            // It was exchanged between the look and the renaming.
            disk::remove(&to).at("remove", &to)?;
            return Err(error);
        }
        // It was hashed while it was written. Only raw files are ever used without being read again.
        if staged.record.encoding == Encoding::Raw
            && let Ok(metadata) = fs::symlink_metadata(&to)
            && metadata.len() == staged.record.stored_len
        {
            self.marks.note(staged.digest, Stamp::of(&metadata));
        }
        Ok(())
    }

    /// Whether a blob is there and has the right size. (What it holds is checked when it is read.)
    pub(crate) fn presence(&self, digest: &Digest, record: &BlobRecord) -> Result<Presence, StoreError> {
        if let Place::Inline(_) = record.place {
            return Ok(Presence::Present);
        }
        let path = self.path_of(digest, record);
        match fs::symlink_metadata(&path) {
            Ok(metadata) if !metadata.is_file() => {
                Ok(Presence::Damaged("something that is not a file has its name".to_owned()))
            }
            Ok(metadata) => Ok(match wrong_size(metadata.len(), record.stored_len) {
                None => Presence::Present,
                Some(what) => Presence::Damaged(what),
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Presence::Missing),
            Err(error) => Err(error).at("look at", &path),
        }
    }

    /// Whether [`Files::presence`] says that it is.
    pub(crate) fn present(&self, digest: &Digest, record: &BlobRecord) -> bool {
        matches!(self.presence(digest, record), Ok(Presence::Present))
    }

    /// Removes the file of a blob, if it has one. The host's.
    pub(crate) fn remove(&self, digest: &Digest, record: &BlobRecord) -> Result<(), StoreError> {
        match record.place {
            Place::Inline(_) => Ok(()),
            Place::File => {
                let name = BlobName::of(digest, record);
                self.unlink(&name, &self.layout.blob(&name)).map(drop)
            }
        }
    }

    /// Removes a file that no record names, and says how many bytes that freed; 0 if there was none. The host's.
    pub(crate) fn remove_unnamed(&self, name: &BlobName) -> Result<u64, StoreError> {
        let path = self.layout.blob(name);
        let bytes = match fs::symlink_metadata(&path) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error).at("look at", &path),
        };
        Ok(if self.unlink(name, &path)? { bytes } else { 0 })
    }

    /// Whether there was a file to remove.
    fn unlink(&self, name: &BlobName, path: &Path) -> Result<bool, StoreError> {
        self.marks.forget(&name.digest);
        crash::point("remove.before-unlink");
        match disk::remove(path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error).at("remove", path),
        }
    }

    /// Moves the file of a blob to quarantine, with a note that says why, and says where it went; `None`
    /// if it had none. The host's.
    pub(crate) fn quarantine(
        &self,
        digest: &Digest,
        record: &BlobRecord,
        why: &str,
    ) -> Result<Option<PathBuf>, StoreError> {
        if let Place::Inline(_) = record.place {
            return Ok(None);
        }
        let name = BlobName::of(digest, record);
        self.marks.forget(digest);
        let folder = self.layout.quarantine();
        fs::create_dir_all(&folder).at("make", &folder)?;
        let from = self.layout.blob(&name);
        let place = format!("{name}-{}", self.new_name());
        let to = folder.join(&place);
        crash::point("quarantine.before-rename");
        match disk::rename(&from, &to) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).at("move to quarantine", &from),
        }
        crash::point("quarantine.after-rename");
        // The note is for people; that it could not be written (a full disk) changes nothing.
        let _ = plain_file::replace(&folder.join(format!("{place}.why")))
            .and_then(|mut file| writeln!(file, "{why}"));
        Ok(Some(to))
    }

    /// Makes files and their names durable. After an error nothing that was written is to be trusted, and
    /// trying again would not help: the kernel reports each loss once. Files that are gone are passed over.
    pub(crate) fn sync(&self, names: &[BlobName]) -> Result<(), StoreError> {
        if names.is_empty() {
            return Ok(());
        }
        crash::point("sync.before-files");
        let blobs = self.layout.blobs();
        if names.len() > SYNCED_SINGLY {
            return disk::sync_file_system(&blobs).at("sync the file system of", &blobs);
        }
        for name in names {
            let path = self.layout.blob(name);
            match File::open(&path) {
                Ok(file) => disk::sync(&file, &path).at("sync", &path)?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error).at("open", &path),
            }
        }
        crash::point("sync.before-folders");
        let mut folders: Vec<PathBuf> = names.iter().map(|name| self.layout.fan_out(&name.digest)).collect();
        folders.sort_unstable();
        folders.dedup();
        // The folder of the fan-out folders last, and always: any of them may be new.
        folders.push(blobs);
        for folder in &folders {
            match disk::sync_folder(folder) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(error).at("sync", folder);
                }
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    /// Walks over all blob files in the order of their digests, with their sizes; stops when `each` says
    /// false. Files with other names are none of ours and passed over. Memory holds the names of one
    /// fan-out folder at a time.
    pub(crate) fn list(&self, each: &mut dyn FnMut(BlobName, u64) -> bool) -> Result<(), StoreError> {
        for byte in 0..=u8::MAX {
            let folder = self.layout.blobs().join(format!("{byte:02x}"));
            let entries = match fs::read_dir(&folder) {
                Ok(entries) => entries,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error).at("list", &folder),
            };
            let mut names = Vec::new();
            for entry in entries {
                let entry = entry.at("list", &folder)?;
                let name = entry.file_name().to_str().and_then(|text| text.parse::<BlobName>().ok());
                let Some(name) = name.filter(|name| name.digest.as_bytes()[0] == byte) else { continue };
                match entry.metadata() {
                    Ok(metadata) if metadata.is_file() => names.push((name, metadata.len())),
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error).at("look at", &entry.path()),
                }
            }
            names.sort_unstable();
            for (name, bytes) in names {
                if !each(name, bytes) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    // Contents.

    /// Writes a blob's raw bytes, checked as they pass; on an error what was written is to be thrown away.
    ///
    /// # Errors
    ///
    /// [`StoreError::Missing`], [`StoreError::Damaged`] (which the caller quarantines), and
    /// [`StoreError::Io`] where `into` takes no more.
    pub(crate) fn read(
        &self,
        digest: &Digest,
        record: &BlobRecord,
        into: &mut dyn Write,
    ) -> Result<u64, StoreError> {
        let mut write = |bytes: &[u8]| into.write_all(bytes).at("write to", Path::new("the given writer"));
        self.stream(digest, record, Some(&mut write))
    }

    /// Reads a blob whole, for nothing but to see whether it is right.
    ///
    /// # Errors
    ///
    /// [`StoreError::Missing`], [`StoreError::Damaged`].
    pub(crate) fn verify(&self, digest: &Digest, record: &BlobRecord) -> Result<(), StoreError> {
        self.stream(digest, record, None).map(|_| ())
    }

    /// The raw bytes of a blob, without a copy where it is stored raw.
    pub(crate) fn bytes(&self, digest: &Digest, record: &BlobRecord) -> Result<Bytes, StoreError> {
        Ok(self.lend(digest, record)?.0)
    }

    /// As `bytes`; of what is mapped, with what its file looked like.
    pub(crate) fn lend(
        &self,
        digest: &Digest,
        record: &BlobRecord,
    ) -> Result<(Bytes, Option<Stamp>), StoreError> {
        if record.place == Place::File && record.encoding == Encoding::Raw && record.len > 0 {
            let (file, stamp) = self.checked(digest, record)?;
            let path = self.path_of(digest, record);
            return Ok((Bytes(Held::Mapped(sys::map(&file).at("map", &path)?)), Some(stamp)));
        }
        let mut bytes = Vec::new();
        let fits = usize::try_from(record.len).is_ok_and(|len| bytes.try_reserve_exact(len).is_ok());
        if !fits {
            let source = io::Error::from(io::ErrorKind::OutOfMemory);
            let path = self.path_of(digest, record);
            return Err(StoreError::Io { action: "hold in memory", path, source });
        }
        let mut keep = |some: &[u8]| {
            bytes.extend_from_slice(some);
            Ok(())
        };
        self.stream(digest, record, Some(&mut keep))?;
        Ok((Bytes(Held::Owned(bytes)), None))
    }

    /// The entries of a stored tree.
    pub(crate) fn tree(&self, digest: &Digest, record: &BlobRecord) -> Result<Tree, StoreError> {
        if record.hash != HashKind::Tree {
            return Err(StoreError::Damaged { digest: *digest, what: "it is no tree".to_owned() });
        }
        let bytes = self.bytes(digest, record)?;
        Tree::decode(&bytes).map_err(|error| StoreError::Damaged { digest: *digest, what: error.to_string() })
    }

    /// Reads a file that no record describes and gives the record that it should have, for a rebuild.
    ///
    /// # Errors
    ///
    /// [`StoreError::Damaged`] if it is not what its name says.
    pub(crate) fn identify(&self, name: &BlobName) -> Result<BlobRecord, StoreError> {
        let file = self.open(name)?;
        let path = self.layout.blob(name);
        let stored_len = file.metadata().at("look at", &path)?.len();
        let flow = Flow { file, stored_len, encoding: name.encoding, len: None };
        let Flowed { len, digest } = stream::run(flow, hasher(name.hash), None)
            .map_err(|error| error.for_blob(&name.digest, &path))?;
        if digest != name.digest {
            return Err(wrong_digest(&name.digest));
        }
        Ok(BlobRecord { len, stored_len, encoding: name.encoding, hash: name.hash, place: Place::File })
    }

    /// Passes a blob's raw bytes to `sink`, if anybody wants them, and says how many they were, if all of
    /// them were right.
    pub(crate) fn stream(
        &self,
        digest: &Digest,
        record: &BlobRecord,
        sink: Option<Sink<'_>>,
    ) -> Result<u64, StoreError> {
        if let Place::Inline(bytes) = &record.place {
            if Digest::from(hasher(record.hash).update(bytes).finalize()) != *digest {
                return Err(wrong_digest(digest));
            }
            if let Some(sink) = sink {
                sink(bytes)?;
            }
            return Ok(bytes.len() as u64);
        }
        let (file, stamp) = self.open_right_size(digest, record)?;
        let found = self.flow(digest, record, file, sink)?;
        self.seen(digest, record, &stamp, found)?;
        Ok(record.len)
    }

    /// Judges what was found in a blob that looked like this before it was read.
    ///
    /// # Errors
    ///
    /// [`StoreError::Damaged`] where it is not what it should be.
    pub(crate) fn seen(
        &self,
        digest: &Digest,
        record: &BlobRecord,
        before: &Stamp,
        found: Digest,
    ) -> Result<(), StoreError> {
        self.expect(digest, found)?;
        // Noted for later, if it is still what it was before it was read.
        let name = BlobName::of(digest, record);
        if record.encoding == Encoding::Raw && self.stamp(&name).is_ok_and(|after| after == Some(*before)) {
            self.marks.note(*digest, *before);
        }
        Ok(())
    }

    /// Refuses what is not what it should be, which is no longer what was checked either.
    fn expect(&self, digest: &Digest, found: Digest) -> Result<(), StoreError> {
        if found == *digest {
            return Ok(());
        }
        self.marks.forget(digest);
        Err(wrong_digest(digest))
    }

    /// Passes the raw bytes of an open blob file to `sink`, and says what they were.
    fn flow(
        &self,
        digest: &Digest,
        record: &BlobRecord,
        file: File,
        sink: Option<Sink<'_>>,
    ) -> Result<Digest, StoreError> {
        let flow =
            Flow { file, stored_len: record.stored_len, encoding: record.encoding, len: Some(record.len) };
        stream::run(flow, hasher(record.hash), sink)
            .map(|flowed| flowed.digest)
            .map_err(|error| error.for_blob(digest, &self.path_of(digest, record)))
    }

    /// Opens a raw blob that was hashed since the machine started and is as it was then; hashes it now if
    /// it was not. What is used without being read passes here.
    pub(crate) fn checked(&self, digest: &Digest, record: &BlobRecord) -> Result<(File, Stamp), StoreError> {
        let (file, stamp) = self.open_right_size(digest, record)?;
        if self.marks.holds(digest, &stamp) {
            return Ok((file, stamp));
        }
        // The same file that is handed out is read, not one that may have its name by now.
        let path = self.path_of(digest, record);
        let again = file.try_clone().at("open", &path)?;
        self.expect(digest, self.flow(digest, record, again, None)?)?;
        if Stamp::of(&file.metadata().at("look at", &path)?) != stamp {
            return Err(wrong_digest(digest)); // Somebody wrote to it while it was read.
        }
        if stamp.mtime_ns != i128::from(MTIME_S) * 1_000_000_000 {
            // Restored from a backup, perhaps. It is right, so it may look right; if not, it does not matter.
            let _ = set_fixed_mtime(&file);
        }
        let stamp = Stamp::of(&file.metadata().at("look at", &path)?);
        self.marks.note(*digest, stamp);
        Ok((file, stamp))
    }

    /// What a blob's file looks like now; `None` if it is gone.
    pub(crate) fn stamp(&self, name: &BlobName) -> Result<Option<Stamp>, StoreError> {
        let path = self.layout.blob(name);
        match fs::symlink_metadata(&path) {
            Ok(metadata) => Ok(Some(Stamp::of(&metadata))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).at("look at", &path),
        }
    }

    /// As `stamp`, of the file that a record says; `None` too where its bytes are not in a file.
    pub(crate) fn stamp_of(&self, digest: &Digest, record: &BlobRecord) -> Result<Option<Stamp>, StoreError> {
        match record.place {
            Place::Inline(_) => Ok(None),
            Place::File => self.stamp(&BlobName::of(digest, record)),
        }
    }

    /// Has a blob hashed again before it is used without being read.
    pub(crate) fn forget_mark(&self, digest: &Digest) {
        self.marks.forget(digest);
    }

    /// The absolute path of a blob's file.
    pub(crate) fn path_of(&self, digest: &Digest, record: &BlobRecord) -> PathBuf {
        self.layout.blob(&BlobName::of(digest, record))
    }

    /// Writes what was noted as checked, for the next process before the machine restarts.
    pub(crate) fn save_marks(&self) {
        self.marks.save(&self.layout);
    }

    /// Opens a blob's file if it can be the right one.
    pub(crate) fn open_right_size(
        &self,
        digest: &Digest,
        record: &BlobRecord,
    ) -> Result<(File, Stamp), StoreError> {
        let name = BlobName::of(digest, record);
        let file = self.open(&name)?;
        let metadata = file.metadata().at("look at", &self.layout.blob(&name))?;
        if let Some(what) = wrong_size(metadata.len(), record.stored_len) {
            return Err(StoreError::Damaged { digest: *digest, what });
        }
        Ok((file, Stamp::of(&metadata)))
    }

    fn open(&self, name: &BlobName) -> Result<File, StoreError> {
        use rustix::fs::OFlags;

        let path = self.layout.blob(name);
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
        match OpenOptions::new().read(true).custom_flags(flags).open(&path) {
            Ok(file) => Ok(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(StoreError::Missing { digest: name.digest })
            }
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => {
                let what = "a symbolic link has its name".to_owned();
                Err(StoreError::Damaged { digest: name.digest, what })
            }
            Err(error) => Err(error).at("open", &path),
        }
    }
}

/// Words for a file that has not the size that is on record.
fn wrong_size(found: u64, wanted: u64) -> Option<String> {
    (found != wanted).then(|| format!("its file has {found} bytes instead of {wanted}"))
}

fn wrong_digest(digest: &Digest) -> StoreError {
    StoreError::Damaged { digest: *digest, what: "its bytes do not match its digest".to_owned() }
}

#[cfg(test)]
mod tests;
