//! The elements of a list that a step yields: what each is, how it is called, and where in the list it lies. Pure.
//!
//! ```text
//! a folder      ─► one element an entry, labelled by its name; a folder in it is an element as a whole
//! a JSON list   ─► one element an item: a string as its text, anything else as it is written
//! ```
//!
//! Elements have content of their own (kind, codec, digest), and that alone enters the versions below: neither the
//! label nor the place among the others does. So labels need only be stable: an element that is inserted, moved or
//! taken away leaves those of all others as they are, unless it is equal to one of them.
//!
//! Invariant: labels of one list differ.

use std::collections::{BTreeMap, HashMap, HashSet};

use cas_store::{Artifact, Digest, Entry, Kind, Node, Tree};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// The longest text of an item that is its label; longer ones are labelled by their digest.
const LABEL_LIMIT_BYTES: usize = 40;

/// How many digits of a digest are a label: enough that two of a million do not meet.
const LABEL_DIGITS: usize = 12;

/// A list that a step yielded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct List {
    /// The content of the output that is the list.
    pub digest: Digest,
    /// Its elements, in order.
    pub elements: Vec<Element>,
}

/// One element of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Element {
    /// How it is called among the others.
    pub label: String,
    /// What it is.
    pub artifact: Artifact,
    /// Where it lies in the list.
    pub within: Within,
}

/// Where an element lies in its list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Within {
    /// The entry of this name of a folder.
    Entry(String),
    /// The item at this place of a JSON list.
    Item(u32),
}

impl List {
    /// The list that an optional output is that was not produced.
    pub fn absent() -> Self {
        Self { digest: Digest::from_bytes([0; 32]), elements: Vec::new() }
    }

    /// Whether this is the list that an output holds.
    pub fn is(&self, artifact: Option<&Artifact>) -> bool {
        artifact.map_or(Digest::from_bytes([0; 32]), |artifact| artifact.digest) == self.digest
    }

    /// The entries of a folder as elements, sorted by name as the folder is.
    ///
    /// # Errors
    /// An entry that cannot be an element, as a fragment that follows the name of the output.
    pub fn of_tree(tree: &Tree, codec: &str) -> Result<Self, String> {
        let mut elements: BTreeMap<&str, Vec<&Entry>> = BTreeMap::new();
        for entry in &tree.entries {
            let name = entry.path.split_once('/').map_or(entry.path.as_str(), |(first, _)| first);
            elements.entry(name).or_default().push(entry);
        }
        let elements = elements.into_iter().map(|(name, entries)| {
            let (kind, digest, len) = match entries.as_slice() {
                [Entry { path, node: Node::File { digest, len, executable } }] if path == name => {
                    (Kind::File { executable: *executable }, *digest, *len)
                }
                [Entry { path, node: Node::Link { target } }] if path == name => {
                    return Err(format!(
                        "holds `{name}`, a link to `{target}`, and a link cannot be an element"
                    ));
                }
                _ => {
                    let tree = inside(entries.iter().copied(), name)
                        .map_err(|error| format!("holds `{name}`, which cannot be an element: {error}"))?;
                    (Kind::Tree, tree.digest(), tree.len())
                }
            };
            let artifact = Artifact { kind, codec: codec.to_owned(), digest, len };
            Ok(Element { label: name.to_owned(), artifact, within: Within::Entry(name.to_owned()) })
        });
        Ok(Self { digest: tree.digest(), elements: elements.collect::<Result<_, _>>()? })
    }

    /// The items of a JSON list as elements.
    ///
    /// # Errors
    /// The bytes are no JSON list: a fragment that follows the name of the output.
    pub fn of_json(bytes: &[u8], codec: &str) -> Result<Self, String> {
        let items = items(bytes)?;
        let mut taken: HashSet<String> = HashSet::with_capacity(items.len());
        let mut equal: HashMap<Digest, u32> = HashMap::new();
        let mut elements = Vec::with_capacity(items.len());
        for (at, item) in (0_u32..).zip(&items) {
            let digest = Digest::of(item.as_bytes());
            let count = equal.entry(digest).or_insert(0);
            *count += 1;
            // An item that is there twice is told from its equal by its rank among them.
            let base = label(item, &digest);
            let mut rank = *count;
            let mut label = if rank == 1 { base.clone() } else { format!("{base}~{rank}") };
            while !taken.insert(label.clone()) {
                rank += 1;
                label = format!("{base}~{rank}");
            }
            let kind = Kind::File { executable: false };
            let artifact = Artifact { kind, codec: codec.to_owned(), digest, len: item.len() as u64 };
            elements.push(Element { label, artifact, within: Within::Item(at) });
        }
        Ok(Self { digest: Digest::of(bytes), elements })
    }
}

/// The items of a JSON list as a step is given them.
///
/// # Errors
/// The bytes are no JSON list: a fragment that follows the name of the output.
pub fn items(bytes: &[u8]) -> Result<Vec<String>, String> {
    let no_list = |what: String| format!("is to be a list, and {what}");
    let text = std::str::from_utf8(bytes).map_err(|_| no_list("is neither a folder nor text".to_owned()))?;
    let items: Vec<&RawValue> = serde_json::from_str(text)
        .map_err(|error| no_list(format!("is neither a folder nor a JSON list: {error}")))?;
    if u32::try_from(items.len()).is_err() {
        return Err(no_list(format!("has {} items", items.len())));
    }
    let texts = items.iter().map(|item| match item.get() {
        text if text.starts_with('"') => serde_json::from_str::<String>(text)
            .map_err(|error| no_list(format!("an item of it is no text: {error}"))),
        other => Ok(other.to_owned()),
    });
    texts.collect()
}

/// What lies in a folder of a tree.
///
/// # Errors
/// It cannot stand alone: a link in it leads out of it.
pub fn below(tree: &Tree, name: &str) -> Result<Tree, String> {
    inside(tree.entries.iter(), name)
}

fn inside<'e>(entries: impl Iterator<Item = &'e Entry>, name: &str) -> Result<Tree, String> {
    let inside = entries.filter_map(|entry| {
        // A folder that is empty stands for itself.
        let path = entry.path.strip_prefix(name)?.strip_prefix('/')?.to_owned();
        Some(Entry { path, node: entry.node.clone() })
    });
    Tree::new(inside.collect()).map_err(|error| error.to_string())
}

/// What an item is called: its text where that is short and plain, else the beginning of its digest.
fn label(item: &str, digest: &Digest) -> String {
    let plain = |c: char| c.is_alphanumeric() || "_-.+:/@".contains(c);
    if !item.is_empty() && item.len() <= LABEL_LIMIT_BYTES && item.chars().all(plain) {
        item.to_owned()
    } else {
        digest.to_hex()[..LABEL_DIGITS].to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(json: &str) -> Vec<String> {
        match List::of_json(json.as_bytes(), "file") {
            Ok(list) => list.elements.into_iter().map(|element| element.label).collect(),
            Err(wrong) => vec![wrong],
        }
    }

    #[test]
    fn an_item_is_called_what_it_says_where_that_is_short() {
        assert_eq!(
            labels(r#"["de", "at/vie", 3, -1.50, true, null]"#),
            ["de", "at/vie", "3", "-1.50", "true", "null"]
        );
        assert_eq!(labels("[]"), [""; 0]);
        let digest = |text: &str| Digest::of(text.as_bytes()).to_hex()[..12].to_owned();
        assert_eq!(labels(r#"["a b", {"x": 1}, ""]"#), [digest("a b"), digest(r#"{"x": 1}"#), digest("")]);
        assert_eq!(labels(r#"["*", "a=b", "x]"]"#), [digest("*"), digest("a=b"), digest("x]")]);
    }

    #[test]
    fn equal_items_are_told_apart_by_rank_and_an_inserted_one_moves_no_other() {
        assert_eq!(labels(r#"["a", "b", "a", "a"]"#), ["a", "b", "a~2", "a~3"]);
        assert_eq!(labels(r#"["new", "a", "b", "a", "a"]"#), ["new", "a", "b", "a~2", "a~3"]);
        // What is text in one and a number in the other is the same to whoever reads the file.
        assert_eq!(labels(r#"["1", 1]"#), ["1", "1~2"]);
    }

    #[test]
    fn what_is_no_list_is_told() {
        let check = |json: &str, expected: &str| assert_eq!(labels(json), [expected]);
        check(
            r#"{"a": 1}"#,
            "is to be a list, and is neither a folder nor a JSON list: invalid type: map, expected a sequence at line 1 column 0",
        );
        check(
            "[1, 2",
            "is to be a list, and is neither a folder nor a JSON list: EOF while parsing a list at line 1 column 5",
        );
        check(
            "[1] 2",
            "is to be a list, and is neither a folder nor a JSON list: trailing characters at line 1 column 5",
        );
    }

    #[test]
    fn the_entries_of_a_folder_are_elements_and_a_folder_in_it_is_one() {
        let file = |path: &str, text: &str, executable| Entry {
            path: path.to_owned(),
            node: Node::File { digest: Digest::of(text.as_bytes()), len: text.len() as u64, executable },
        };
        let tree = Tree::new(vec![
            file("b.txt", "b", false),
            file("run.sh", "#", true),
            file("a/x", "1", false),
            file("a/y/z", "2", false),
            Entry { path: "empty".to_owned(), node: Node::Folder },
        ])
        .unwrap_or_default();
        let list = List::of_tree(&tree, "file").map(|list| list.elements).unwrap_or_default();
        let shown = |element: &Element| (element.label.clone(), element.artifact.kind, element.artifact.len);
        assert_eq!(
            list.iter().map(shown).collect::<Vec<_>>(),
            [
                ("a".to_owned(), Kind::Tree, 2),
                ("b.txt".to_owned(), Kind::File { executable: false }, 1),
                ("empty".to_owned(), Kind::Tree, 0),
                ("run.sh".to_owned(), Kind::File { executable: true }, 1),
            ]
        );
        let alone = Tree::new(vec![file("x", "1", false), file("y/z", "2", false)]).unwrap_or_default();
        assert_eq!(list[0].artifact.digest, alone.digest());
        assert_eq!(list[2].artifact.digest, Tree::default().digest());
    }

    #[test]
    fn a_link_is_no_element() {
        let link = |path: &str, target: &str| Entry {
            path: path.to_owned(),
            node: Node::Link { target: target.to_owned() },
        };
        let check = |entries: Vec<Entry>, expected: &str| {
            let tree = Tree::new(entries).unwrap_or_default();
            assert_eq!(List::of_tree(&tree, "file").err().as_deref(), Some(expected));
        };
        check(vec![link("a", "b")], "holds `a`, a link to `b`, and a link cannot be an element");
        check(
            vec![link("a/x", "../b")],
            "holds `a`, which cannot be an element: `x` is a link that leaves the folder: it points at `../b`",
        );
    }
}
