//! What a version and a digest leave behind: the values that are kept in the index, as plain data.
//!
//! The store does not know what a label, a codec's name or a note means; it keeps them. Times are
//! milliseconds since 1970 (UTC), durations and sizes say their unit.

use serde::{Deserialize, Serialize};

use crate::digest::{Digest, Trace, Version};

/// What shape stored content has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// One sequence of bytes.
    File {
        /// Whether it is given back with the executable bit.
        executable: bool,
    },
    /// A directory: its digest is that of its canonical encoding.
    Tree,
}

/// Content that a result names.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Artifact {
    /// A file or a tree.
    pub kind: Kind,
    /// How a value became these bytes, in the words of whoever stored it (`file`, `json`, …).
    pub codec: String,
    /// The identity of the content.
    pub digest: Digest,
    /// Raw bytes: of the file, or of all files of the tree together.
    pub len: u64,
}

/// One named output of a result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// Its name among the outputs of one result.
    pub name: String,
    /// What it is; `None` for one that was recorded as not produced.
    pub artifact: Option<Artifact>,
}

/// What one execution left. All of its outputs are replaced together or not at all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResultRecord {
    /// The outputs, in the order they were declared.
    pub outputs: Vec<Output>,
    /// What the execution printed, if it was kept.
    pub log: Option<Digest>,
    /// When it was committed.
    pub made_ms: u64,
    /// How long the execution took; what rebuilding it would cost.
    pub cost_ms: u64,
    /// Set when its bytes were given up on purpose; the record stays.
    pub evicted: Option<Evicted>,
}

/// When and why a result's bytes were given up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evicted {
    /// When.
    pub at_ms: u64,
    /// By what rule, in words: `--max-size 10G`.
    pub why: String,
}

/// A result as a lookup gives it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// The key it stands under.
    pub trace: Trace,
    /// The record.
    pub record: ResultRecord,
    /// For each output in order: whether its bytes are in the store now (an absent output counts as present).
    /// Of a tree only its own encoding is looked for; a file of it that is gone is noticed when it is read.
    pub present: Vec<bool>,
}

impl Found {
    /// Whether the bytes of all outputs are there.
    pub fn whole(&self) -> bool {
        self.present.iter().all(|present| *present)
    }
}

/// One line of history: under a label (opaque: what made it calls itself so), a version existed at a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// The label.
    pub label: String,
    /// When.
    pub at_ms: u64,
    /// The version.
    pub version: Version,
    /// The result it had then.
    pub trace: Trace,
}

/// A pin: what it names is never collected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// The row that is kept, and so the result it names.
    pub version: Version,
    /// What whoever pinned it calls it.
    pub label: String,
    /// Why, if a reason was given.
    pub reason: Option<String>,
    /// Since when.
    pub at_ms: u64,
    /// Until when; `None` for good.
    pub until_ms: Option<u64>,
}

/// How a blob's bytes are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Encoding {
    /// As they are.
    Raw,
    /// As a sequence of zstd frames.
    Zstd,
}

/// Which hash of its raw bytes names a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum HashKind {
    /// Plain BLAKE3.
    Plain,
    /// BLAKE3 in the context of trees: the bytes are the canonical encoding of a folder.
    Tree,
}

/// Where a blob's bytes are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Place {
    /// In the index: these bytes, always raw.
    Inline(#[serde(with = "crate::codec::bytes")] Vec<u8>),
    /// In a file of their own, whose name follows from the digest and the record.
    File,
}

/// What the index keeps about a blob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobRecord {
    /// Raw bytes.
    pub len: u64,
    /// Bytes it takes where it is.
    pub stored_len: u64,
    /// How it is kept.
    pub encoding: Encoding,
    /// Which hash names it.
    pub hash: HashKind,
    /// Where it is.
    pub place: Place,
}

/// One time that a result took the place of another under its trace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replacement {
    /// When.
    pub at_ms: u64,
    /// The digests of the outputs that gave way, in their order; `None` for one that was absent.
    pub digests: Vec<Option<Digest>>,
    /// When those had been made.
    pub made_ms: u64,
    /// Whether the new content is another. (Where the old one was said to be wrong, it is not asked.)
    pub differs: bool,
    /// Whether what is noted here was stored once (it gave way), or never was (it came second and lost).
    pub lost_race: bool,
}
