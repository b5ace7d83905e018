//! A directory as a canonical value.
//!
//! A [`Tree`] lists files, links that stay inside and empty folders; other folders are implied by the paths
//! of what they hold. Its digest is the hash of its canonical bytes ([`Tree::encode`]), which
//! `docs/format.md` specifies and a golden test pins: equal trees have equal bytes, different ones different
//! bytes, and [`Tree::decode`] takes nothing that `encode` does not write. Pure: touches no file.
//!
//! Whatever a tree was read from, it cannot reach outside of the folder that it is written to: no path is
//! absolute or has `.` or `..`, nothing stands below a file or a link, and a link resolves, through the
//! other links of the tree, to a place inside.

use std::collections::{HashMap, HashSet};

use crate::digest::Digest;

/// What a tree's bytes begin with; the last byte is the version of the encoding.
const MAGIC: &[u8; 9] = b"cas tree\x01";

/// BLAKE3's `derive_key` context of trees: no file's plain digest can be a tree's.
const CONTEXT: &str = "cas 2026 tree 1";

const FILE: u8 = 1;
const EXECUTABLE: u8 = 2;
const LINK: u8 = 3;
const FOLDER: u8 = 4;

/// The smallest entry: a tag, a length and one byte of path.
const ENTRY_MIN_BYTES: usize = 6;

/// The longest path and target: what Linux takes, less the final zero.
const PATH_MAX_BYTES: usize = 4095;

/// The longest part of a path: what Linux file systems take.
const PART_MAX_BYTES: usize = 255;

/// How many links Linux follows before it gives up.
const HOPS_MAX: usize = 40;

/// A stored directory: its entries, sorted by path.
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

impl Tree {
    /// Puts entries into the one order and checks that they can stand together.
    ///
    /// # Errors
    ///
    /// Names the entry that cannot be, and why.
    pub fn new(mut entries: Vec<Entry>) -> Result<Self, TreeError> {
        entries.sort_unstable_by(|a, b| a.path.as_bytes().cmp(b.path.as_bytes()));
        check(&entries)?;
        Ok(Self { entries })
    }

    /// The contents of all files, each once, in the order of their digests.
    pub fn files(&self) -> Vec<Digest> {
        let mut files: Vec<Digest> = self
            .entries
            .iter()
            .filter_map(|entry| match &entry.node {
                Node::File { digest, .. } => Some(*digest),
                Node::Link { .. } | Node::Folder => None,
            })
            .collect();
        files.sort_unstable();
        files.dedup();
        files
    }

    /// The canonical bytes: equal trees have equal bytes, different ones have different bytes.
    pub fn encode(&self) -> Vec<u8> {
        // Sorting what is sorted costs one comparison an entry, and makes the bytes a matter of content
        // alone, whoever filled the field.
        let mut entries: Vec<&Entry> = self.entries.iter().collect();
        entries.sort_by(|a, b| a.path.as_bytes().cmp(b.path.as_bytes()));
        let mut bytes = Vec::with_capacity(MAGIC.len() + 8 + entries.len() * 96);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&(entries.len() as u64).to_le_bytes());
        for Entry { path, node } in entries {
            bytes.push(match node {
                Node::File { executable: false, .. } => FILE,
                Node::File { executable: true, .. } => EXECUTABLE,
                Node::Link { .. } => LINK,
                Node::Folder => FOLDER,
            });
            put_text(&mut bytes, path);
            match node {
                Node::File { digest, len, .. } => {
                    bytes.extend_from_slice(digest.as_bytes());
                    bytes.extend_from_slice(&len.to_le_bytes());
                }
                Node::Link { target } => put_text(&mut bytes, target),
                Node::Folder => {}
            }
        }
        bytes
    }

    /// Reads canonical bytes back.
    ///
    /// # Errors
    ///
    /// When they are anything that [`Tree::encode`] would not have written for a tree that
    /// [`Tree::new`] takes.
    pub fn decode(bytes: &[u8]) -> Result<Self, TreeError> {
        let mut reader = Reader { bytes, at: 0 };
        if reader.take(MAGIC.len(), "magic and version")? != MAGIC {
            return Err(TreeError::Encoding { what: "they do not begin as one of version 1".to_owned() });
        }
        let count = reader.number("number of entries")?;
        // The count is not believed beyond what the bytes can hold, so it reserves no more than that.
        if count > (bytes.len() / ENTRY_MIN_BYTES) as u64 {
            return Err(TreeError::Encoding { what: format!("they claim {count} entries") });
        }
        let mut entries = Vec::with_capacity(count as usize);
        for _ in 0..count {
            let tag = reader.take(1, "tag")?[0];
            let path = reader.text("path")?;
            let node = match tag {
                FILE | EXECUTABLE => {
                    let digest = Digest::from_bytes(reader.array("digest")?);
                    Node::File { digest, len: reader.number("length")?, executable: tag == EXECUTABLE }
                }
                LINK => Node::Link { target: reader.text("target")? },
                FOLDER => Node::Folder,
                other => {
                    return Err(TreeError::Encoding {
                        what: format!("`{path}` has the unknown tag {other}"),
                    });
                }
            };
            entries.push(Entry { path, node });
        }
        if reader.at != bytes.len() {
            let what = format!("{} bytes follow the last entry", bytes.len() - reader.at);
            return Err(TreeError::Encoding { what });
        }
        if let Some(pair) = entries.windows(2).find(|pair| pair[0].path.as_bytes() > pair[1].path.as_bytes())
        {
            let what = format!("`{}` stands after `{}`", pair[1].path, pair[0].path);
            return Err(TreeError::Encoding { what });
        }
        check(&entries)?;
        Ok(Self { entries })
    }

    /// The identity of the tree: the hash of its canonical bytes, in the context of trees.
    pub fn digest(&self) -> Digest {
        Self::digest_of(&self.encode())
    }

    /// The identity of the tree with these canonical bytes.
    pub fn digest_of(encoded: &[u8]) -> Digest {
        hasher().update(encoded).finalize().into()
    }

    /// Raw bytes of all files together.
    pub fn len(&self) -> u64 {
        self.entries.iter().fold(0, |sum, entry| match entry.node {
            Node::File { len, .. } => u64::saturating_add(sum, len),
            Node::Link { .. } | Node::Folder => sum,
        })
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// The hasher of trees' canonical bytes.
pub(crate) fn hasher() -> blake3::Hasher {
    blake3::Hasher::new_derive_key(CONTEXT)
}

/// Entries that are not a tree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// An entry that cannot be in a tree.
    #[error("`{path}` {what}")]
    Entry {
        /// Which.
        path: String,
        /// Why.
        what: String,
    },
    /// Bytes that are not the canonical encoding of a tree.
    #[error("these bytes are not a tree: {what}")]
    Encoding {
        /// Where and what.
        what: String,
    },
}

impl TreeError {
    fn entry(path: &str, what: impl Into<String>) -> Self {
        Self::Entry { path: path.to_owned(), what: what.into() }
    }
}

/// Checks sorted entries, each for itself and all together.
fn check(entries: &[Entry]) -> Result<(), TreeError> {
    let mut total: u64 = 0;
    for entry in entries {
        check_path(&entry.path)?;
        if let Node::File { len, .. } = entry.node {
            total = total
                .checked_add(len)
                .ok_or_else(|| TreeError::entry(&entry.path, "makes the tree larger than can be counted"))?;
        }
    }
    if let Some(pair) = entries.windows(2).find(|pair| pair[0].path == pair[1].path) {
        return Err(TreeError::entry(&pair[0].path, "is there twice"));
    }
    // Sorted by bytes, `a` and `a/b` need not be neighbours: `a-b` comes between them.
    let paths: HashSet<&str> = entries.iter().map(|entry| entry.path.as_str()).collect();
    for entry in entries {
        for (end, _) in entry.path.match_indices('/') {
            let above = &entry.path[..end];
            if paths.contains(above) {
                let what = format!("stands below `{above}`, which is an entry itself");
                return Err(TreeError::entry(&entry.path, what));
            }
        }
    }
    let links: HashMap<&str, &str> = entries
        .iter()
        .filter_map(|entry| match &entry.node {
            Node::Link { target } => Some((entry.path.as_str(), target.as_str())),
            Node::File { .. } | Node::Folder => None,
        })
        .collect();
    for (path, target) in &links {
        check_target(path, target)?;
    }
    // In the order of the entries, so that one tree always gives one error.
    for entry in entries {
        if let Node::Link { target } = &entry.node
            && leaves(&entry.path, target, &links)
        {
            let what = format!("is a link that leaves the folder: it points at `{target}`");
            return Err(TreeError::entry(&entry.path, what));
        }
    }
    Ok(())
}

fn check_path(path: &str) -> Result<(), TreeError> {
    let what = if path.is_empty() {
        "is an empty path"
    } else if path.len() > PATH_MAX_BYTES {
        "is longer than a path can be"
    } else if path.contains('\0') {
        "has a zero byte"
    } else if path.starts_with('/') {
        "is absolute"
    } else if path.split('/').any(|part| part.is_empty() || part == "." || part == "..") {
        "has an empty part, `.` or `..`"
    } else if path.split('/').any(|part| part.len() > PART_MAX_BYTES) {
        "has a part that is longer than a file name can be"
    } else {
        return Ok(());
    };
    Err(TreeError::entry(path, what))
}

fn check_target(path: &str, target: &str) -> Result<(), TreeError> {
    let what = if target.is_empty() {
        "is a link to nothing"
    } else if target.len() > PATH_MAX_BYTES || target.contains('\0') {
        "is a link to what cannot be a path"
    } else {
        return Ok(());
    };
    Err(TreeError::entry(path, what))
}

/// Whether following a link ends, or passes, outside of the tree. `..` after a link goes up from where
/// that link leads, as the kernel has it, so the text of the target alone does not tell.
fn leaves(path: &str, target: &str, links: &HashMap<&str, &str>) -> bool {
    if target.starts_with('/') {
        return true;
    }
    let mut place: Vec<&str> = path.split('/').collect();
    place.pop();
    let mut ahead: Vec<&str> = target.rsplit('/').collect();
    let mut hops = 0;
    while let Some(part) = ahead.pop() {
        match part {
            "" | "." => {}
            ".." => {
                if place.pop().is_none() {
                    return true;
                }
            }
            part => {
                place.push(part);
                let Some(next) = links.get(place.join("/").as_str()) else { continue };
                hops += 1;
                if hops > HOPS_MAX {
                    // The kernel stops here too: such a link leads nowhere, so not outside.
                    return false;
                }
                if next.starts_with('/') {
                    return true;
                }
                place.pop();
                ahead.extend(next.rsplit('/'));
            }
        }
    }
    false
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    let length = u32::try_from(text.len()).expect("a path or target has at most 4095 bytes");
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(text.as_bytes());
}

/// Reads canonical bytes from the front.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize, what: &str) -> Result<&'a [u8], TreeError> {
        let rest = &self.bytes[self.at..];
        let Some(taken) = rest.get(..length) else {
            return Err(TreeError::Encoding { what: format!("they end within a {what} at {}", self.at) });
        };
        self.at += length;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], TreeError> {
        let taken = self.take(N, what)?;
        Ok(taken.try_into().expect("`take` gives as many as were asked for"))
    }

    fn number(&mut self, what: &str) -> Result<u64, TreeError> {
        self.array(what).map(u64::from_le_bytes)
    }

    fn text(&mut self, what: &str) -> Result<String, TreeError> {
        let length = u32::from_le_bytes(self.array(what)?) as usize;
        let start = self.at;
        let bytes = self.take(length, what)?;
        let text = std::str::from_utf8(bytes)
            .map_err(|_| TreeError::Encoding { what: format!("the {what} at {start} is not UTF-8") })?;
        Ok(text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file(path: &str, content: &[u8]) -> Entry {
        let node = Node::File { digest: Digest::of(content), len: content.len() as u64, executable: false };
        Entry { path: path.to_owned(), node }
    }

    fn program(path: &str, content: &[u8]) -> Entry {
        let node = Node::File { digest: Digest::of(content), len: content.len() as u64, executable: true };
        Entry { path: path.to_owned(), node }
    }

    fn link(path: &str, target: &str) -> Entry {
        Entry { path: path.to_owned(), node: Node::Link { target: target.to_owned() } }
    }

    fn folder(path: &str) -> Entry {
        Entry { path: path.to_owned(), node: Node::Folder }
    }

    fn refused(entries: Vec<Entry>) -> String {
        Tree::new(entries).expect_err("this is no tree").to_string()
    }

    #[test]
    fn the_canonical_bytes_are_these() {
        let tree = Tree::new(vec![
            folder("empty"),
            file("a/b.txt", b""),
            program("run", b"#!/bin/sh\n"),
            link("a/to", "b.txt"),
        ])
        .unwrap();
        let mut golden = Vec::new();
        golden.extend(b"cas tree\x01");
        golden.extend([4, 0, 0, 0, 0, 0, 0, 0]);
        golden.extend(b"\x01\x07\0\0\0a/b.txt");
        golden.extend(Digest::of(b"").as_bytes());
        golden.extend([0; 8]);
        golden.extend(b"\x03\x04\0\0\0a/to\x05\0\0\0b.txt");
        golden.extend(b"\x04\x05\0\0\0empty");
        golden.extend(b"\x02\x03\0\0\0run");
        golden.extend(Digest::of(b"#!/bin/sh\n").as_bytes());
        golden.extend([10, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(tree.encode(), golden);
        assert_eq!(tree.digest(), Tree::digest_of(&golden));
        assert_eq!(
            tree.digest().to_hex(),
            "8bea7655d7cafe3f2b98ebe8af08c8463fbccef43819e3b3c2bddd2b4d88266b"
        );
        assert_eq!(
            Tree::default().digest().to_hex(),
            "9159dbc49deb7a14ad8465d67b02494dc4ce0748ca7ee8ca92f571508a330ebd"
        );
        assert_eq!(Tree::decode(&golden), Ok(tree));
    }

    #[test]
    fn a_trees_digest_is_no_files_digest() {
        let bytes = Tree::default().encode();
        assert_ne!(Tree::digest_of(&bytes), Digest::of(&bytes));
    }

    #[test]
    fn the_order_in_which_entries_came_does_not_matter() {
        let one = Tree::new(vec![file("a", b"1"), file("a-b", b"2"), folder("z")]).unwrap();
        let other = Tree { entries: vec![folder("z"), file("a-b", b"2"), file("a", b"1")] };
        assert_eq!(one.encode(), other.encode());
    }

    #[test]
    fn every_part_of_an_entry_matters() {
        let digest = |entries| Tree::new(entries).unwrap().digest();
        let all = [
            digest(vec![file("a", b"1")]),
            digest(vec![file("b", b"1")]),
            digest(vec![file("a", b"2")]),
            digest(vec![program("a", b"1")]),
            digest(vec![link("a", "1")]),
            digest(vec![link("a", "2")]),
            digest(vec![folder("a")]),
            digest(vec![file("a/b", b"1")]),
            digest(vec![]),
        ];
        let distinct: HashSet<Digest> = all.into_iter().collect();
        assert_eq!(distinct.len(), all.len());
    }

    #[test]
    fn paths_that_are_not_plain_and_relative_are_refused() {
        for path in ["", "/a", "a/", "a//b", ".", "./a", "a/..", "..", "a/./b", "a\0b"] {
            let error = Tree::new(vec![folder(path)]).expect_err(path);
            assert!(matches!(&error, TreeError::Entry { path: named, .. } if named == path), "{error}");
        }
        assert!(refused(vec![folder(&"x".repeat(256))]).contains("longer than a file name"));
        assert!(refused(vec![folder(&"x/".repeat(2100))]).contains("longer than a path"));
    }

    #[test]
    fn nothing_stands_twice_or_below_a_file_a_link_or_an_empty_folder() {
        assert_eq!(refused(vec![file("a", b""), folder("a")]), "`a` is there twice");
        for above in [file("a", b""), link("a", "c"), folder("a")] {
            let error = refused(vec![above, folder("a-b"), file("a/b", b"")]);
            assert_eq!(error, "`a/b` stands below `a`, which is an entry itself");
        }
    }

    #[test]
    fn links_that_stay_inside_are_kept() {
        for target in ["b", "./b", "../b", "../a/b", "missing", "b/..", "..", "l", "../x/../b"] {
            let tree = Tree::new(vec![link("a/l", target), file("a/b", b""), file("b", b"")]);
            assert!(tree.is_ok(), "{target}");
        }
    }

    #[test]
    fn links_that_leave_are_refused_naming_both_ends() {
        assert_eq!(
            refused(vec![link("a/l", "../../b")]),
            "`a/l` is a link that leaves the folder: it points at `../../b`"
        );
        for target in ["/", "/etc", "../..", "../../a/l", "x/../../../y"] {
            assert!(refused(vec![link("a/l", target)]).contains(target));
        }
        // By its text, `d/../secret` is `x/y/secret`; but `d` leads to the top, so it is outside.
        let error = refused(vec![link("x/y/d", "../.."), link("x/y/l", "d/../secret")]);
        assert_eq!(error, "`x/y/l` is a link that leaves the folder: it points at `d/../secret`");
    }

    #[test]
    fn bytes_in_another_order_are_refused() {
        let tree = Tree::new(vec![folder("a"), folder("b")]).unwrap();
        let bytes = tree.encode();
        let (head, entries) = bytes.split_at(17);
        let (one, two) = entries.split_at(6);
        let swapped = [head, two, one].concat();
        assert_eq!(
            Tree::decode(&swapped).unwrap_err().to_string(),
            "these bytes are not a tree: `a` stands after `b`"
        );
        let twice = [head, one, one].concat();
        assert_eq!(Tree::decode(&twice).unwrap_err().to_string(), "`a` is there twice");
        let longer = [&bytes[..], b"x"].concat();
        assert!(Tree::decode(&longer).is_err());
    }

    #[test]
    fn a_length_that_lies_is_refused_without_taking_memory() {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(u64::MAX.to_le_bytes());
        assert!(Tree::decode(&bytes).is_err());
        let mut bytes = MAGIC.to_vec();
        bytes.extend(1u64.to_le_bytes());
        bytes.extend([FOLDER, 255, 255, 255, 255, b'a']);
        assert!(Tree::decode(&bytes).is_err());
    }

    fn part() -> impl Strategy<Value = String> {
        // Few letters, so that paths collide and nest often.
        prop_oneof!["[ab-]{1,2}", "[\\PC&&[^/]]{1,6}"]
    }

    fn entry() -> impl Strategy<Value = Entry> {
        let path = prop::collection::vec(part(), 1..4).prop_map(|parts| parts.join("/"));
        let node = prop_oneof![
            (any::<[u8; 32]>(), any::<u32>(), any::<bool>()).prop_map(|(digest, len, executable)| {
                Node::File { digest: Digest::from_bytes(digest), len: u64::from(len), executable }
            }),
            prop::collection::vec(prop_oneof![part(), Just("..".to_owned())], 1..4)
                .prop_map(|parts| Node::Link { target: parts.join("/") }),
            Just(Node::Folder),
        ];
        (path, node).prop_map(|(path, node)| Entry { path, node })
    }

    proptest! {
        #[test]
        fn what_is_a_tree_comes_back(entries in prop::collection::vec(entry(), 0..12)) {
            if let Ok(tree) = Tree::new(entries) {
                let bytes = tree.encode();
                prop_assert_eq!(Tree::decode(&bytes).unwrap(), tree);
            }
        }

        #[test]
        fn other_bytes_are_another_tree_or_none(
            entries in prop::collection::vec(entry(), 1..6),
            at in any::<prop::sample::Index>(),
            bit in 0u8..8,
        ) {
            if let Ok(tree) = Tree::new(entries) {
                let mut bytes = tree.encode();
                let at = at.index(bytes.len());
                bytes[at] ^= 1 << bit;
                if let Ok(other) = Tree::decode(&bytes) {
                    prop_assert_ne!(&other, &tree);
                    prop_assert_eq!(other.encode(), bytes);
                }
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut all = MAGIC.to_vec();
            all.extend(&bytes);
            let _ = Tree::decode(&bytes);
            let _ = Tree::decode(&all);
        }
    }
}
