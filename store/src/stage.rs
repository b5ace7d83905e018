//! Content on its way into the store: hashed, and either in memory or in a file of the staging folder.
//!
//! Owns the staging folder. Knows nothing of the index: what is staged becomes part of the store when the
//! host has given its files their names ([`Files::install`]) and written their records. A staging file is
//! whole, read-only and has the fixed mtime before anybody is told of it.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::BorrowedFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, Timespec, Timestamps, openat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::blob::Files;
use crate::crash;
use crate::digest::Digest;
use crate::disk;
use crate::error::{At, StoreError};
use crate::inside;
use crate::layout::{BLOB_MODE, MTIME_S};
use crate::pipe::{self, FRAME_BYTES, PipeError};
use crate::record::{Artifact, BlobRecord, Encoding, HashKind, Kind, Place};
use crate::store::Take;
use crate::sys;
use crate::tree::{self, Tree};

/// Content that is hashed and lies in staging (or in memory), until a commit names it.
/// Dropped without a commit, it leaves nothing behind.
#[derive(Debug)]
pub struct Staged {
    kind: Kind,
    digest: Digest,
    len: u64,
    blobs: Vec<StagedBlob>,
    tree: Option<Tree>,
    staging: PathBuf,
}

/// One staged blob, as the host is told of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StagedBlob {
    /// The identity of the raw bytes.
    pub(crate) digest: Digest,
    /// What is to be recorded of it; it holds the bytes of one that is to live in the index.
    pub(crate) record: BlobRecord,
    /// The name of its file in the staging folder; `None` for one that is to live in the index.
    pub(crate) file: Option<String>,
}

impl Staged {
    /// Takes over the staging files of these blobs.
    pub(crate) fn new(
        kind: Kind,
        digest: Digest,
        len: u64,
        blobs: Vec<StagedBlob>,
        staging: PathBuf,
    ) -> Self {
        Self { kind, digest, len, blobs, tree: None, staging }
    }

    /// The artifact that this is under the given codec name.
    pub fn artifact(&self, codec: &str) -> Artifact {
        Artifact { kind: self.kind, codec: codec.to_owned(), digest: self.digest, len: self.len }
    }

    /// The identity of the content.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Raw bytes: of the file, or of all files of the tree together.
    pub fn bytes(&self) -> u64 {
        self.len
    }

    /// What lies in it, if it is a folder.
    pub fn tree(&self) -> Option<&Tree> {
        self.tree.as_ref()
    }

    /// Makes this the tree with this encoding, whose files it has already.
    pub(crate) fn become_tree(&mut self, encoded: Piece, tree: Tree) {
        self.digest = encoded.digest;
        self.len = tree.len();
        self.blobs.extend(encoded.blob);
        self.tree = Some(tree);
    }

    /// The blobs that it consists of, each once: of a tree, its files and its own encoding, which is last.
    pub(crate) fn blobs(&self) -> &[StagedBlob] {
        &self.blobs
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        for blob in &self.blobs {
            if let Some(name) = &blob.file {
                // A file that is gone was handed over; one that stays is swept when the store is opened.
                let _ = std::fs::remove_file(self.staging.join(name));
            }
        }
    }
}

/// Bounds on what one pass may do, beyond the bytes themselves.
pub(crate) struct Bounds<'a> {
    /// Values up to here stay in memory.
    pub(crate) inline_limit_bytes: u64,
    /// Content that need not be written, because it is staged already: asked where the digest is known
    /// before anything was written.
    pub(crate) known: &'a dyn Fn(&Digest) -> bool,
    /// What to do with a link at the path itself.
    pub(crate) links: Links<'a>,
}

/// Whether a link stands for what it points at.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Links<'a> {
    Follow,
    /// No link is gone through on the way from a folder that is open.
    Refuse {
        from: BorrowedFd<'a>,
        below: &'a Path,
    },
}

/// What staging one piece of content gave.
pub(crate) struct Piece {
    /// Its identity.
    pub(crate) digest: Digest,
    /// Raw bytes.
    pub(crate) len: u64,
    /// The blob; `None` where it was known.
    pub(crate) blob: Option<StagedBlob>,
}

impl Files {
    /// Hashes and keeps bytes that are in memory.
    pub(crate) fn stage_bytes(&self, bytes: &[u8]) -> Result<Staged, StoreError> {
        self.stage_reader(&mut &*bytes)
    }

    /// Hashes and keeps what a reader gives; memory does not grow with it.
    pub(crate) fn stage_reader(&self, reader: &mut dyn Read) -> Result<Staged, StoreError> {
        let piece =
            self.stage_stream(reader, Path::new("the given reader"), HashKind::Plain, &self.no_bounds())?;
        Ok(self.staged_file(piece, false))
    }

    /// Hashes and keeps a regular file, with its executable bit. A link at the path is followed.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unstorable`] for what is not a regular file.
    pub(crate) fn stage_file(&self, path: &Path, take: Take) -> Result<Staged, StoreError> {
        let (piece, executable) = self.stage_path(path, take, &self.no_bounds())?;
        Ok(self.staged_file(piece, executable))
    }

    fn no_bounds(&self) -> Bounds<'static> {
        Bounds { inline_limit_bytes: self.inline_limit_bytes(), known: &|_| false, links: Links::Follow }
    }

    fn staged_file(&self, piece: Piece, executable: bool) -> Staged {
        let blobs = piece.blob.into_iter().collect();
        Staged::new(Kind::File { executable }, piece.digest, piece.len, blobs, self.layout().staging())
    }

    /// Stages the canonical encoding of a tree.
    pub(crate) fn stage_encoded_tree(&self, encoded: &[u8]) -> Result<Piece, StoreError> {
        self.stage_stream(&mut &*encoded, Path::new("the tree"), HashKind::Tree, &self.no_bounds())
    }

    /// Stages a file by its path, and says whether it is executable.
    pub(crate) fn stage_path(
        &self,
        path: &Path,
        take: Take,
        bounds: &Bounds<'_>,
    ) -> Result<(Piece, bool), StoreError> {
        let (mut file, take) = open_source(path, take, bounds.links)?;
        let metadata = file.metadata().at("look at", path)?;
        if !metadata.is_file() {
            let what = format!("it is {}, not a regular file", kind_of(metadata.file_type()));
            return Err(StoreError::Unstorable { path: path.to_owned(), what });
        }
        let executable = metadata.mode() & 0o100 != 0;
        let len = metadata.len();
        if len > FRAME_BYTES as u64 && !self.compressors.file_samples_pay(&file, len).at("read", path)? {
            let piece = match take {
                Take::Adopt if metadata.nlink() == 1 => self.adopt(path, &file, bounds.links)?,
                Take::Adopt | Take::Copy => None,
            };
            let piece = match piece {
                Some(piece) => Some(piece),
                None => self.clone_of(&file)?,
            };
            if let Some(piece) = piece {
                return Ok((piece, executable));
            }
        }
        self.stage_stream(&mut file, path, HashKind::Plain, bounds).map(|piece| (piece, executable))
    }

    /// Moves a file into staging, if it can be moved and nobody can still write to it. (It is worth it only
    /// for what is to be stored raw: what is compressed is read and written in any case.)
    fn adopt(&self, path: &Path, file: &File, links: Links<'_>) -> Result<Option<Piece>, StoreError> {
        let name = self.new_name();
        let staged = StagingFile::at(self.layout().staged(&name));
        // On another file system, or from a folder that may not be written to: it is copied instead.
        let moved = match links {
            Links::Follow => std::fs::rename(path, &staged.path).is_ok(),
            Links::Refuse { from, below } => inside::rename(from, below, &staged.path).is_ok(),
        };
        if !moved {
            return Ok(None);
        }
        crash::point("stage.adopted");
        // From here nobody finds it by its path. Only then does the question of who has it open mean
        // anything; if anybody has, `file` still reads it, and it goes away with `staged`.
        let same = staged.path.symlink_metadata().at("look at", &staged.path)?;
        let ours = file.metadata().at("look at", path)?;
        if (same.dev(), same.ino()) != (ours.dev(), ours.ino()) || sys::held_open_for_writing(file) {
            return Ok(None);
        }
        self.finish(file, &staged.path)?;
        self.hash_staged(file, name, staged).map(Some)
    }

    /// Makes a copy in staging that shares the file's blocks, where the file system can.
    fn clone_of(&self, file: &File) -> Result<Option<Piece>, StoreError> {
        if self.reflinks.are_refused() {
            return Ok(None);
        }
        let name = self.new_name();
        let (staged, copy) = self.create(&name)?;
        if !self.reflinks.clone_file(file, &copy) {
            return Ok(None);
        }
        self.finish(&copy, &staged.path)?;
        // Its own descriptor is for writing only.
        let copy = File::open(&staged.path).at("open", &staged.path)?;
        self.hash_staged(&copy, name, staged).map(Some)
    }

    /// Hashes a file that is in staging already and will not change.
    fn hash_staged(&self, file: &File, name: String, staged: StagingFile) -> Result<Piece, StoreError> {
        let mut hasher = blake3::Hasher::new();
        let len = pipe::hash(file, &mut hasher).at("read", &staged.path)?;
        crash::point("stage.finished");
        staged.keep();
        let record = BlobRecord {
            len,
            stored_len: len,
            encoding: Encoding::Raw,
            hash: HashKind::Plain,
            place: Place::File,
        };
        let digest = hasher.finalize().into();
        Ok(Piece { digest, len, blob: Some(StagedBlob { digest, record, file: Some(name) }) })
    }

    /// Stages what a source gives, in one pass. `path` is for errors.
    pub(crate) fn stage_stream(
        &self,
        source: &mut dyn Read,
        path: &Path,
        hash: HashKind,
        bounds: &Bounds<'_>,
    ) -> Result<Piece, StoreError> {
        let mut head = Vec::new();
        // One byte more than may stay in memory tells whether it may.
        let small = usize::try_from(bounds.inline_limit_bytes).unwrap_or(FRAME_BYTES).min(FRAME_BYTES - 1);
        pipe::fill(source, &mut head, small + 1).at("read", path)?;
        let inline = head.len() <= small;
        if !inline {
            pipe::fill(source, &mut head, FRAME_BYTES).at("read", path)?;
        }
        let mut hasher = hasher(hash);
        if head.len() < FRAME_BYTES {
            hasher.update(&head);
            let digest: Digest = hasher.finalize().into();
            let len = head.len() as u64;
            if (bounds.known)(&digest) {
                return Ok(Piece { digest, len, blob: None });
            }
            let blob = if inline {
                // It was read with room to spare; a tree has a hundred thousand of these.
                head.shrink_to_fit();
                let place = Place::Inline(head);
                let record = BlobRecord { len, stored_len: len, encoding: Encoding::Raw, hash, place };
                StagedBlob { digest, record, file: None }
            } else {
                self.stage_whole(digest, hash, &head)?
            };
            return Ok(Piece { digest, len, blob: Some(blob) });
        }
        let pays = self.compressors.samples_pay(&head).at("compress", path)?;
        let encoding = if pays { Encoding::Zstd } else { Encoding::Raw };
        let name = self.new_name();
        let (staged, file) = self.create(&name)?;
        let passed = pipe::pass(head, source, hasher, encoding, &self.compressors, &file).map_err(
            |error| match error {
                PipeError::Read(source) => StoreError::Io { action: "read", path: path.to_owned(), source },
                PipeError::Write(source) => {
                    StoreError::Io { action: "write", path: staged.path.clone(), source }
                }
            },
        )?;
        crash::point("stage.written");
        self.finish(&file, &staged.path)?;
        crash::point("stage.finished");
        staged.keep();
        let pipe::Passed { digest, len, stored_len } = passed;
        let record = BlobRecord { len, stored_len, encoding, hash, place: Place::File };
        Ok(Piece { digest, len, blob: Some(StagedBlob { digest, record, file: Some(name) }) })
    }

    /// Stages what is in memory as a file of at most one frame.
    fn stage_whole(&self, digest: Digest, hash: HashKind, raw: &[u8]) -> Result<StagedBlob, StoreError> {
        let name = self.new_name();
        let (staged, mut file) = self.create(&name)?;
        let frame = self.compressors.frame_if_it_pays(raw).at("compress", &staged.path)?;
        let (stored, encoding) = match &frame {
            Some(frame) => (frame.as_slice(), Encoding::Zstd),
            None => (raw, Encoding::Raw),
        };
        file.write_all(stored).at("write", &staged.path)?;
        crash::point("stage.written");
        self.finish(&file, &staged.path)?;
        crash::point("stage.finished");
        staged.keep();
        let stored_len = stored.len() as u64;
        let record = BlobRecord { len: raw.len() as u64, stored_len, encoding, hash, place: Place::File };
        Ok(StagedBlob { digest, record, file: Some(name) })
    }

    /// A new file in staging, for writing.
    fn create(&self, name: &str) -> Result<(StagingFile, File), StoreError> {
        let path = self.layout().staged(name);
        disk::may("create", &path).at("create", &path)?;
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(BLOB_MODE);
        let file = match options.open(&path) {
            // Somebody tidied up by hand.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let staging = self.layout().staging();
                std::fs::create_dir_all(&staging).at("make", &staging)?;
                options.open(&path)
            }
            other => other,
        };
        let file = file.at("create", &path)?;
        crash::point("stage.created");
        Ok((StagingFile::at(path), file))
    }

    /// Gives a written file the looks of a blob. Its mtime comes last: writing would move it.
    fn finish(&self, file: &File, path: &Path) -> Result<(), StoreError> {
        file.set_permissions(std::fs::Permissions::from_mode(BLOB_MODE)).at("protect", path)?;
        set_fixed_mtime(file).at("date", path)
    }
}

/// Sets access and modification time to the fixed one.
pub(crate) fn set_fixed_mtime(file: &File) -> io::Result<()> {
    Ok(rustix::fs::futimens(file, &fixed_times())?)
}

/// The fixed times, for calls that take them.
pub(crate) fn fixed_times() -> Timestamps {
    let time = Timespec { tv_sec: MTIME_S, tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

/// The hasher whose result names blobs of this kind.
pub(crate) fn hasher(hash: HashKind) -> blake3::Hasher {
    match hash {
        HashKind::Plain => blake3::Hasher::new(),
        HashKind::Tree => tree::hasher(),
    }
}

/// Opens a file to be staged. What stands behind a link is never adopted: moving would move the link.
fn open_source(path: &Path, take: Take, links: Links<'_>) -> Result<(File, Take), StoreError> {
    // Without O_NONBLOCK, opening a named pipe would wait for somebody to write into it.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = match links {
        Links::Refuse { from, below } => inside::open(from, below, flags),
        Links::Follow => openat(CWD, path, flags | OFlags::NOFOLLOW, Mode::empty()),
    };
    let unstorable = |what: &str| StoreError::Unstorable { path: path.to_owned(), what: what.to_owned() };
    match (opened, links) {
        (Err(error), Links::Refuse { .. }) if inside::is_link(error) => Err(unstorable(BECAME_A_LINK)),
        (Err(Errno::LOOP), Links::Follow) => {
            let file = openat(CWD, path, flags, Mode::empty()).at("open", path)?;
            Ok((File::from(file), Take::Copy))
        }
        (Err(Errno::NXIO), _) => Err(unstorable("it is a socket or a device, not a regular file")),
        (opened, _) => Ok((File::from(opened.at("open", path)?), take)),
    }
}

/// What is said of what was no link when it was listed.
pub(crate) const BECAME_A_LINK: &str = "it became a link while it was looked at";

/// What something is, in words that fit after "it is".
pub(crate) fn kind_of(kind: std::fs::FileType) -> &'static str {
    use std::os::unix::fs::FileTypeExt;

    if kind.is_dir() {
        "a folder"
    } else if kind.is_symlink() {
        "a symbolic link"
    } else if kind.is_fifo() {
        "a named pipe"
    } else if kind.is_socket() {
        "a socket"
    } else if kind.is_block_device() || kind.is_char_device() {
        "a device"
    } else {
        "a regular file"
    }
}

/// A file that goes away unless it is kept.
struct StagingFile {
    path: PathBuf,
    kept: bool,
}

impl StagingFile {
    fn at(path: PathBuf) -> Self {
        Self { path, kept: false }
    }

    fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for StagingFile {
    fn drop(&mut self) {
        if !self.kept {
            // What stays is swept when the store is opened next.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
