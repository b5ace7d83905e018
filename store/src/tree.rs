//! A directory as a canonical value.

use crate::digest::Digest;

/// A stored directory: its entries, sorted by name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tree {
    /// Sorted by the bytes of their paths; folders stand for themselves only where they are empty.
    pub entries: Vec<Entry>,
}

/// One thing in a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Relative, `/` between parts, never absolute, no `.`, no `..`.
    pub path: String,
    /// What stands there.
    pub node: Node,
}

/// What can stand in a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// A regular file.
    File {
        /// Its content.
        digest: Digest,
        /// Raw bytes.
        len: u64,
        /// Whether it is executable.
        executable: bool,
    },
    /// A symbolic link, with its target as written; it stays inside the tree.
    Link {
        /// The target.
        target: String,
    },
    /// An empty folder.
    Folder,
}
