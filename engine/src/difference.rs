//! How two contents differ, in words: JSON by value, text by line, folders by entry, all else by size.
//!
//! Reads what is stored and decides nothing. Content that is too large to be shown is compared by size alone.

use std::collections::{BTreeMap, HashMap};

use cas_store::{Artifact, Kind, Node, Store, StoreError, Tree, Version};
use serde_json::Value;

use crate::error::EngineError;
use crate::explain::{self, Difference};
use crate::memo::Memo;
use crate::plan::Plan;
use crate::resolve::{self, Resolved};
use crate::version::FactNode;

/// Larger content is not read to be compared: nobody reads the difference of it in a terminal.
const READ_BYTES: u64 = 4 * 1024 * 1024;

/// Where more lines than this (before times after) would have to be held against each other, the lines between the
/// first and the last difference are told as one.
const CELLS: usize = 4_000_000;

/// Lines shown around what differs.
const AROUND: usize = 2;

/// How two contents differ.
#[derive(Debug, Clone, PartialEq)]
pub enum ContentDifference {
    /// Not at all.
    Same,
    /// One of them is not there: which are.
    Absent {
        /// Whether the first is.
        before: bool,
        /// Whether the second is.
        after: bool,
    },
    /// They are of different kinds: `file`, `executable file`, `folder`.
    Kind(&'static str, &'static str),
    /// JSON: what differs, by path.
    Json(Vec<ValueDifference>),
    /// Text: lines that begin with ` `, `-`, `+`; `@` where lines are left out.
    Text(Vec<String>),
    /// Folders: what differs, by path.
    Tree(Vec<EntryDifference>),
    /// Anything else: the sizes.
    Bytes(u64, u64),
}

/// A value of a JSON document that differs.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct ValueDifference {
    /// Where: `metrics.auc`, `rows[3].name`; empty for the whole.
    pub path: String,
    /// What it was, as JSON; `None` where there was none.
    pub before: Option<String>,
    /// What it is, as JSON; `None` where there is none.
    pub after: Option<String>,
}

/// An entry of a folder that differs.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct EntryDifference {
    /// Its path in the folder.
    pub path: String,
    /// What it was: `file, 12 bytes`; `None` where it was not there.
    pub before: Option<String>,
    /// What it is; `None` where it is not there.
    pub after: Option<String>,
}

impl ContentDifference {
    /// Whether there is none.
    pub fn is_same(&self) -> bool {
        *self == Self::Same
    }

    /// The difference in lines, at most `limit` of them and one that says how many more there are.
    pub fn lines(&self, limit: usize) -> Vec<String> {
        let one_of = |before: &Option<String>, after: &Option<String>, path: &str| match (before, after) {
            (Some(before), Some(after)) => format!("{path}: {before} → {after}"),
            (None, Some(after)) => format!("{path} added: {after}"),
            (Some(before), None) => format!("{path} removed: {before}"),
            (None, None) => path.to_owned(),
        };
        let mut lines = match self {
            Self::Same => vec!["the same content".to_owned()],
            Self::Absent { before: true, .. } => vec!["produced there, not here".to_owned()],
            Self::Absent { after: true, .. } => vec!["not produced there, but here".to_owned()],
            Self::Absent { .. } => vec!["not produced".to_owned()],
            Self::Kind(before, after) => vec![format!("{before} → {after}")],
            Self::Json(values) => values
                .iter()
                .map(|value| {
                    let path = if value.path.is_empty() { "the value" } else { &value.path };
                    one_of(&value.before, &value.after, path)
                })
                .collect(),
            Self::Text(lines) => lines.clone(),
            Self::Tree(entries) => {
                entries.iter().map(|entry| one_of(&entry.before, &entry.after, &entry.path)).collect()
            }
            Self::Bytes(before, after) => vec![format!("{before} bytes → {after} bytes")],
        };
        if lines.len() > limit {
            let more = lines.len() - limit;
            lines.truncate(limit);
            lines.push(format!("… {more} lines more"));
        }
        lines
    }
}

/// Compares two contents of a store.
///
/// # Errors
/// Bytes that are needed are gone or wrong, or the store cannot be read.
pub fn contents(
    store: &Store,
    before: Option<&Artifact>,
    after: Option<&Artifact>,
) -> Result<ContentDifference, StoreError> {
    let (before, after) = match (before, after) {
        (Some(before), Some(after)) => (before, after),
        (None, None) => return Ok(ContentDifference::Same),
        (before, after) => {
            return Ok(ContentDifference::Absent { before: before.is_some(), after: after.is_some() });
        }
    };
    if before.kind != after.kind {
        return Ok(ContentDifference::Kind(kind(before), kind(after)));
    }
    if before.digest == after.digest {
        return Ok(ContentDifference::Same);
    }
    if before.kind == Kind::Tree {
        return Ok(ContentDifference::Tree(trees(&store.tree(&before.digest)?, &store.tree(&after.digest)?)));
    }
    if before.len > READ_BYTES || after.len > READ_BYTES {
        return Ok(ContentDifference::Bytes(before.len, after.len));
    }
    Ok(bytes(&store.bytes(&before.digest)?, &store.bytes(&after.digest)?))
}

fn kind(artifact: &Artifact) -> &'static str {
    match artifact.kind {
        Kind::File { executable: false } => "file",
        Kind::File { executable: true } => "executable file",
        Kind::Tree => "folder",
    }
}

/// Compares two contents that are in memory.
pub fn bytes(before: &[u8], after: &[u8]) -> ContentDifference {
    if before == after {
        return ContentDifference::Same;
    }
    let text = |bytes| std::str::from_utf8(bytes).ok().filter(|text: &&str| !text.contains('\0'));
    let (Some(was), Some(is)) = (text(before), text(after)) else {
        return ContentDifference::Bytes(before.len() as u64, after.len() as u64);
    };
    let json = |text| serde_json::from_str::<Value>(text).ok();
    if let (Some(was), Some(is)) = (json(was), json(is)) {
        let mut differences = Vec::new();
        values(String::new(), &was, &is, &mut differences);
        // Equal values that are written differently: then the text says how.
        if !differences.is_empty() {
            return ContentDifference::Json(differences);
        }
    }
    ContentDifference::Text(texts(was, is))
}

fn values(path: String, before: &Value, after: &Value, found: &mut Vec<ValueDifference>) {
    match (before, after) {
        (Value::Object(was), Value::Object(is)) => {
            let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
            let keys: std::collections::BTreeSet<&String> = was.keys().chain(is.keys()).collect();
            for key in keys {
                match (was.get(key), is.get(key)) {
                    (Some(was), Some(is)) => values(below(key), was, is, found),
                    (was, is) => found.push(one(below(key), was, is)),
                }
            }
        }
        (Value::Array(was), Value::Array(is)) => {
            for index in 0..was.len().max(is.len()) {
                let below = format!("{path}[{index}]");
                match (was.get(index), is.get(index)) {
                    (Some(was), Some(is)) => values(below, was, is, found),
                    (was, is) => found.push(one(below, was, is)),
                }
            }
        }
        (was, is) if was == is => {}
        (was, is) => found.push(one(path, Some(was), Some(is))),
    }
}

fn one(path: String, before: Option<&Value>, after: Option<&Value>) -> ValueDifference {
    ValueDifference { path, before: before.map(Value::to_string), after: after.map(Value::to_string) }
}

/// Compares the entries of two folders, by path.
pub fn trees(before: &Tree, after: &Tree) -> Vec<EntryDifference> {
    fn by_path(tree: &Tree) -> BTreeMap<&str, &Node> {
        tree.entries.iter().map(|entry| (entry.path.as_str(), &entry.node)).collect()
    }
    let (was, is) = (by_path(before), by_path(after));
    let paths: std::collections::BTreeSet<&str> = was.keys().chain(is.keys()).copied().collect();
    let differing = paths.into_iter().filter(|path| was.get(path) != is.get(path));
    differing
        .map(|path| {
            let (mut before, mut after) = (was.get(path).map(node), is.get(path).map(node));
            if before == after {
                // Other content of the same length.
                if let (Some(Node::File { digest: old, .. }), Some(Node::File { digest: new, .. })) =
                    (was.get(path), is.get(path))
                {
                    before = before.map(|words| format!("{words}, {}", old.short()));
                    after = after.map(|words| format!("{words}, {}", new.short()));
                }
            }
            EntryDifference { path: path.to_owned(), before, after }
        })
        .collect()
}

fn node(node: &&Node) -> String {
    match node {
        Node::File { executable: false, len, .. } => format!("file, {len} bytes"),
        Node::File { executable: true, len, .. } => format!("executable file, {len} bytes"),
        Node::Link { target } => format!("link to {target}"),
        Node::Folder => "empty folder".to_owned(),
    }
}

/// The lines that differ, each marked, with a few around them.
fn texts(before: &str, after: &str) -> Vec<String> {
    let was: Vec<&str> = before.split('\n').collect();
    let is: Vec<&str> = after.split('\n').collect();
    let start = was.iter().zip(&is).take_while(|(was, is)| was == is).count();
    let end =
        was[start..].iter().rev().zip(is[start..].iter().rev()).take_while(|(was, is)| was == is).count();
    let (middle_was, middle_is) = (&was[start..was.len() - end], &is[start..is.len() - end]);
    let mut marked: Vec<(char, &str)> = was[..start].iter().map(|line| (' ', *line)).collect();
    marked.extend(middle(middle_was, middle_is));
    marked.extend(was[was.len() - end..].iter().map(|line| (' ', *line)));
    let near = |index: usize| {
        let from = index.saturating_sub(AROUND);
        marked[from..(index + AROUND + 1).min(marked.len())].iter().any(|(mark, _)| *mark != ' ')
    };
    let mut lines = Vec::new();
    let mut left_out = false;
    for (index, (mark, line)) in marked.iter().enumerate() {
        // What stands behind the last newline is no line.
        let nothing = index + 1 == marked.len() && line.is_empty() && *mark == ' ';
        if near(index) && !nothing {
            if std::mem::take(&mut left_out) {
                lines.push("@".to_owned());
            }
            lines.push(format!("{mark}{line}"));
        } else {
            left_out = !lines.is_empty() || index == 0 || left_out;
        }
    }
    if lines.first().is_some_and(|line| line == "@") {
        lines.remove(0);
    }
    lines
}

/// The longest common subsequence of two lists of lines, as marked lines.
fn middle<'t>(was: &[&'t str], is: &[&'t str]) -> Vec<(char, &'t str)> {
    let all = |mark, lines: &[&'t str]| lines.iter().map(move |line| (mark, *line)).collect::<Vec<_>>();
    if was.len().saturating_mul(is.len()) > CELLS {
        return [all('-', was), all('+', is)].concat();
    }
    let width = is.len() + 1;
    // How much the rest of both has in common, from each pair of places on.
    let mut common = vec![0_u32; (was.len() + 1) * width];
    for old in (0..was.len()).rev() {
        for new in (0..is.len()).rev() {
            common[old * width + new] = if was[old] == is[new] {
                common[(old + 1) * width + new + 1] + 1
            } else {
                common[(old + 1) * width + new].max(common[old * width + new + 1])
            };
        }
    }
    let (mut old, mut new) = (0, 0);
    let mut marked = Vec::new();
    while old < was.len() && new < is.len() {
        if was[old] == is[new] {
            marked.push((' ', was[old]));
            (old, new) = (old + 1, new + 1);
        } else if common[(old + 1) * width + new] >= common[old * width + new + 1] {
            marked.push(('-', was[old]));
            old += 1;
        } else {
            marked.push(('+', is[new]));
            new += 1;
        }
    }
    marked.extend(all('-', &was[old..]));
    marked.extend(all('+', &is[new..]));
    marked
}

/// Facts that are known without the store having them: of steps that have not run.
#[derive(Debug, Default)]
pub struct Known(HashMap<Version, FactNode>);

impl Known {
    /// Takes in what is known besides.
    pub fn extend(&mut self, more: Self) {
        self.0.extend(more.0);
    }
}

impl Memo {
    /// The facts of the steps of a plan, as far as their versions are known.
    pub fn known(&self, plan: &Plan, resolved: &Resolved) -> Known {
        let states = &resolved.states;
        let key = self.secret_key();
        let mut nodes: HashMap<Version, FactNode> = HashMap::new();
        for &step in &plan.steps {
            let facts = plan.facts(
                step,
                &key,
                &mut |above| states[above.0 as usize].version.or(plan.versions[above.0 as usize]),
                &mut |output| resolve::content(states, output),
                &mut |version| !nodes.contains_key(version),
            );
            nodes.extend(facts);
        }
        Known(nodes)
    }

    /// What differs between two versions of steps, by name; `None` where what one of them was made of is not on
    /// record.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn fact_differences(
        &self,
        known: &Known,
        before: &Version,
        after: &Version,
    ) -> Result<Option<Vec<Difference>>, EngineError> {
        let mut broken = None;
        let mut node = |version: &Version| {
            known.0.get(version).cloned().or_else(|| match self.facts(&[*version]) {
                Ok(mut nodes) => nodes.pop().flatten(),
                Err(error) => {
                    broken.get_or_insert(error);
                    None
                }
            })
        };
        let differences = match (node(before), node(after)) {
            (Some(before), Some(after)) => Some(explain::differences(&before, &after, &mut node)),
            _ => None,
        };
        broken.map_or(Ok(differences), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(before: &str, after: &str, expected: &[&str]) {
        assert_eq!(bytes(before.as_bytes(), after.as_bytes()).lines(100), expected, "{before:?} {after:?}");
    }

    #[test]
    fn text_differs_by_line_with_what_stands_around_it() {
        check("a\nb\nc\n", "a\nB\nc\n", &[" a", "-b", "+B", " c"]);
        check("1\n2\n3\n4\n5\nx\n", "1\n2\n3\n4\n5\ny\n", &[" 4", " 5", "-x", "+y"]);
        check(
            "x\n1\n2\n3\n4\n5\nz\n",
            "y\n1\n2\n3\n4\n5\nw\n",
            &["-x", "+y", " 1", " 2", "@", " 4", " 5", "-z", "+w"],
        );
        check("a", "a\nb", &[" a", "+b"]);
        check("same\n", "same\n", &["the same content"]);
    }

    #[test]
    fn json_differs_by_value_and_only_where_it_does() {
        check(
            r#"{"a":1,"b":[1,2],"c":{"d":"x"}}"#,
            r#"{"a":2,"b":[1],"c":{"d":"x","e":null}}"#,
            &["a: 1 → 2", "b[1] removed: 2", "c.e added: null"],
        );
        check("1", "2", &["the value: 1 → 2"]);
        check(r#"{"a": 1}"#, r#"{"a":1}"#, &[r#"-{"a": 1}"#, r#"+{"a":1}"#]);
    }

    #[test]
    fn bytes_that_are_no_text_differ_by_size() {
        assert_eq!(bytes(&[0xff, 1], b"ab"), ContentDifference::Bytes(2, 2));
    }

    #[test]
    fn a_long_difference_says_how_much_is_left_out() {
        let many: String = (0..50).map(|n| format!("{n}\n")).collect();
        let lines = bytes(b"x\n", many.as_bytes()).lines(3);
        assert_eq!(lines.len(), 4);
        assert_eq!(lines[3], "… 48 lines more");
    }

    proptest::proptest! {
        #[test]
        fn what_is_marked_gives_both_texts_back(was in "[ab\n]{0,20}", is in "[ab\n]{0,20}") {
            let (was, is): (Vec<&str>, Vec<&str>) = (was.split('\n').collect(), is.split('\n').collect());
            let marked = middle(&was, &is);
            let side = |left: char| -> Vec<&str> {
                marked.iter().filter(|(mark, _)| *mark != left).map(|(_, line)| *line).collect()
            };
            proptest::prop_assert_eq!(side('+'), was);
            proptest::prop_assert_eq!(side('-'), is);
        }
    }
}
