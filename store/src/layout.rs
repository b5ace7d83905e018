//! Where everything lies in a store's folder, what it is called, and the sizes that were chosen.
//!
//! Owns every path, file name and format number; `docs/format.md` says the same in prose. Touches no
//! file itself. The name of a blob's file alone tells its digest, how its bytes are encoded and which
//! hash names them, because an index is rebuilt from files alone.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::digest::Digest;
use crate::record::{BlobRecord, Encoding, HashKind};

/// The number of the format on disk that this program writes, and the only one that it reads.
pub(crate) const FORMAT: u32 = 1;

/// Values up to this many bytes live in the index: below it, a file costs more than its bytes (an inode,
/// a block, four system calls). The store's `config.toml` may say otherwise, up to
/// [`INLINE_LIMIT_MAX_BYTES`].
pub(crate) const INLINE_LIMIT_BYTES: u64 = 4 * 1024;

/// The largest inline limit: larger values would make the index, its journal and its messages heavy.
pub(crate) const INLINE_LIMIT_MAX_BYTES: u64 = 16 * 1024;

/// How many bytes of inline values one staged tree may carry in memory (and so in one message and one
/// journal entry). What comes after lies in files, however small it is.
pub(crate) const INLINE_BUDGET_BYTES: u64 = 16 * 1024 * 1024;

/// The modification time of every blob file, and of every file that a step is given: 2000-01-01 UTC, in
/// seconds. It is fixed because archives and build tools put it into what they write; it is not 0 or
/// 1980-01-01, because zip files cannot hold times before 1980, in the local time of whoever packs.
pub const MTIME_S: i64 = 946_684_800;

/// Permissions of a blob file: nobody writes to it again.
pub(crate) const BLOB_MODE: u32 = 0o444;

/// What `CACHEDIR.TAG` holds. Backup programs that know the convention (bford.info/cachedir) look for
/// exactly its first line.
pub(crate) const CACHEDIR_TAG: &str = "Signature: 8a477f597d28d172789f06886806bc55\n\
# This folder is a cas store: what it holds can be computed again, at a cost.\n";

/// What `.gitignore` holds: a store is never part of a repository.
pub(crate) const GITIGNORE: &str = "*\n";

/// The paths of one store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layout {
    root: PathBuf,
}

impl Layout {
    /// The layout below this folder, which should be absolute: it ends up in symbolic links.
    pub(crate) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// The store's folder.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The format file: its presence is what makes the folder a store.
    pub(crate) fn format(&self) -> PathBuf {
        self.root.join("format")
    }

    /// `.gitignore`.
    pub(crate) fn gitignore(&self) -> PathBuf {
        self.root.join(".gitignore")
    }

    /// `CACHEDIR.TAG`.
    pub(crate) fn cachedir_tag(&self) -> PathBuf {
        self.root.join("CACHEDIR.TAG")
    }

    /// The store's settings.
    pub(crate) fn config(&self) -> PathBuf {
        self.root.join("config.toml")
    }

    /// The file that the host holds locked.
    pub(crate) fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }

    /// Where the host is spoken to.
    pub(crate) fn socket(&self) -> PathBuf {
        self.root.join("socket")
    }

    /// The folder of the files that say which processes use the store.
    pub(crate) fn processes(&self) -> PathBuf {
        self.root.join("processes")
    }

    /// The index (RocksDB's folder).
    pub(crate) fn index(&self) -> PathBuf {
        self.root.join("index")
    }

    /// The folder of the journal's segments.
    pub(crate) fn journal(&self) -> PathBuf {
        self.root.join("journal")
    }

    /// Where the journal ended when the store was last closed.
    pub(crate) fn journal_end(&self) -> PathBuf {
        self.root.join("journal.end")
    }

    /// Room that is given up to open the store on a full disk.
    pub(crate) fn reserve(&self) -> PathBuf {
        self.root.join("reserve")
    }

    /// The folder of the blob files' fan-out folders.
    pub(crate) fn blobs(&self) -> PathBuf {
        self.root.join("blobs")
    }

    /// The fan-out folder of a digest: named by its first two hex digits.
    pub(crate) fn fan_out(&self, digest: &Digest) -> PathBuf {
        let mut path = self.blobs();
        path.push(&digest.to_hex()[..2]);
        path
    }

    /// The file of a blob.
    pub(crate) fn blob(&self, name: &BlobName) -> PathBuf {
        let text = name.to_string();
        let mut path = self.blobs();
        path.push(&text[..2]);
        path.push(&text);
        path
    }

    /// The folder of the folders that outlive whoever uses them.
    pub(crate) fn scratch(&self) -> PathBuf {
        self.root.join("scratch")
    }

    /// The folder for what is being written.
    pub(crate) fn staging(&self) -> PathBuf {
        self.root.join("staging")
    }

    /// A file in staging.
    pub(crate) fn staged(&self, name: &str) -> PathBuf {
        let mut path = self.staging();
        path.push(name);
        path
    }

    /// The folder of the private folders that are handed out.
    pub(crate) fn work(&self) -> PathBuf {
        self.root.join("work")
    }

    /// The folder for what turned out to be wrong.
    pub(crate) fn quarantine(&self) -> PathBuf {
        self.root.join("quarantine")
    }

    /// The folders directly below the store's.
    pub(crate) fn folders(&self) -> [PathBuf; 8] {
        let (own, index, journal, blobs) = (self.processes(), self.index(), self.journal(), self.blobs());
        [own, index, journal, blobs, self.scratch(), self.staging(), self.work(), self.quarantine()]
    }

    /// The marks of what was hashed since the machine started.
    pub(crate) fn checked(&self) -> PathBuf {
        self.root.join("checked")
    }
}

/// What the name of a blob's file says: `<64 hex digits>[.tree][.zst]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct BlobName {
    /// The identity of the raw bytes.
    pub(crate) digest: Digest,
    /// Which hash that is.
    pub(crate) hash: HashKind,
    /// How the file holds the raw bytes.
    pub(crate) encoding: Encoding,
}

impl BlobName {
    /// The name of the file of a blob with this record.
    pub(crate) fn of(digest: &Digest, record: &BlobRecord) -> Self {
        Self { digest: *digest, hash: record.hash, encoding: record.encoding }
    }
}

impl fmt::Display for BlobName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hash = match self.hash {
            HashKind::Plain => "",
            HashKind::Tree => ".tree",
        };
        let encoding = match self.encoding {
            Encoding::Raw => "",
            Encoding::Zstd => ".zst",
        };
        write!(f, "{}{hash}{encoding}", self.digest)
    }
}

impl FromStr for BlobName {
    type Err = NotABlobName;

    fn from_str(text: &str) -> Result<Self, NotABlobName> {
        let (rest, encoding) = match text.strip_suffix(".zst") {
            Some(rest) => (rest, Encoding::Zstd),
            None => (text, Encoding::Raw),
        };
        let (hex, hash) = match rest.strip_suffix(".tree") {
            Some(hex) => (hex, HashKind::Tree),
            None => (rest, HashKind::Plain),
        };
        // Upper-case digits would make a second name for one digest.
        if hex.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(NotABlobName);
        }
        let digest = hex.parse().map_err(|_| NotABlobName)?;
        Ok(Self { digest, hash, encoding })
    }
}

/// A file name that is not a blob's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotABlobName;

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: BlobName, text: &str) {
        assert_eq!(name.to_string(), text);
        assert_eq!(text.parse(), Ok(name));
    }

    #[test]
    fn a_blobs_name_tells_its_hash_and_encoding() {
        let digest = Digest::of(b"");
        let hex = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
        check(BlobName { digest, hash: HashKind::Plain, encoding: Encoding::Raw }, hex);
        check(BlobName { digest, hash: HashKind::Plain, encoding: Encoding::Zstd }, &format!("{hex}.zst"));
        check(BlobName { digest, hash: HashKind::Tree, encoding: Encoding::Raw }, &format!("{hex}.tree"));
        check(
            BlobName { digest, hash: HashKind::Tree, encoding: Encoding::Zstd },
            &format!("{hex}.tree.zst"),
        );
    }

    #[test]
    fn other_names_are_not_blobs() {
        let hex = Digest::of(b"").to_hex();
        for text in
            ["", "af13", ".zst", &hex.to_uppercase(), &format!("{hex}.zst.tree"), &format!("{hex}.tmp")]
        {
            assert_eq!(text.parse::<BlobName>(), Err(NotABlobName), "{text}");
        }
    }

    #[test]
    fn a_blob_lies_in_the_folder_of_its_first_two_digits() {
        let layout = Layout::new(PathBuf::from("/s"));
        let digest = Digest::of(b"");
        let name = BlobName { digest, hash: HashKind::Plain, encoding: Encoding::Raw };
        assert_eq!(layout.blob(&name), PathBuf::from(format!("/s/blobs/af/{digest}")));
        assert_eq!(layout.fan_out(&digest), PathBuf::from("/s/blobs/af"));
    }
}
