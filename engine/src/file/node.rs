//! YAML text as a tree of nodes, each with its place. Made from the parser's events, so that a scalar keeps what
//! it was: its text, and whether it was quoted. Anchors, aliases and `<<` merges are resolved here.
//!
//! Pure. Invariants: a tree is at most [`DEPTH`] deep, so what walks it may recurse; keys of a map are unique;
//! aliases add at most [`ALIASED`] nodes, so that a small text cannot stand for a huge one.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::rc::Rc;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Tag};

const DEPTH: usize = 64; // deeper than any hand has written; walks over a tree recurse
const ALIASED: usize = 1_000_000; // nodes that aliases may repeat; "a billion laughs" stops here

/// A position in a text; line and column from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Mark {
    pub(crate) line: u32,
    pub(crate) column: u32,
}

/// One node and where it starts.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) at: Mark,
    pub(crate) kind: Kind,
}

/// What a node is.
#[derive(Debug)]
pub(crate) enum Kind {
    Scalar(Scalar),
    List(Vec<Rc<Node>>),
    Map(Vec<Entry>),
}

/// A scalar as it was written.
#[derive(Debug)]
pub(crate) struct Scalar {
    pub(crate) text: String,
    /// Whether it was quoted, or a block: then it is text whatever it looks like.
    pub(crate) quoted: bool,
    /// The name of a core schema tag: `str` for `!!str`.
    pub(crate) tag: Option<String>,
}

/// One key of a map with its value.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) at: Mark,
    pub(crate) value: Rc<Node>,
}

/// What is wrong at a position of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) at: Mark,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

impl Fault {
    pub(crate) fn new(at: Mark, message: impl Into<String>, hint: Option<&str>) -> Self {
        Self { at, message: message.into(), hint: hint.map(str::to_owned) }
    }
}

impl Node {
    /// The entries of a map, none for any other node.
    pub(crate) fn entries(&self) -> &[Entry] {
        match &self.kind {
            Kind::Map(entries) => entries,
            Kind::Scalar(_) | Kind::List(_) => &[],
        }
    }

    /// Whether nothing is written here: `key:`, `~`, `null`.
    pub(crate) fn is_null(&self) -> bool {
        matches!(&self.kind, Kind::Scalar(scalar)
            if !scalar.quoted && scalar.tag.is_none() && super::scalar::is_null(&scalar.text))
    }

    /// The words for what this is, for messages.
    pub(crate) fn what(&self) -> &'static str {
        match &self.kind {
            Kind::Scalar(_) if self.is_null() => "nothing",
            Kind::Scalar(scalar) => super::scalar::what(scalar),
            Kind::List(_) => "a list",
            Kind::Map(_) => "a map",
        }
    }
}

/// Parses a text of one document. `None` where it is empty or holds comments only.
pub(crate) fn parse(text: &str) -> Result<Option<Rc<Node>>, Vec<Fault>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut builder = Builder::default();
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        match event {
            Ok((event, span)) => {
                if let Err(fault) = builder.event(event, mark(&span.start)) {
                    builder.faults.push(fault);
                    return Err(builder.faults);
                }
            }
            Err(error) => {
                let at = mark(error.marker());
                // The parser has a limit of its own, near ours: one word for both.
                let deep = error.info().contains("recursion limit");
                builder.faults.push(if deep { too_deep(at) } else { syntax(text, at, error.info()) });
                return Err(builder.faults);
            }
        }
    }
    if builder.faults.is_empty() { Ok(builder.root) } else { Err(builder.faults) }
}

fn mark(marker: &Marker) -> Mark {
    let bound = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Mark { line: bound(marker.line()).max(1), column: bound(marker.col()).saturating_add(1) }
}

/// A list or map whose end has not come yet.
struct Open {
    at: Mark,
    anchor: usize,
    kind: OpenKind,
    height: usize,
    weight: usize,
}

enum OpenKind {
    List(Vec<Rc<Node>>),
    Map {
        entries: Vec<Entry>,
        at_key: HashMap<String, Mark>,
        merged: Vec<(Mark, Rc<Node>)>,
        key: Option<Key>,
    },
}

struct Key {
    text: String,
    at: Mark,
    merge: bool,
}

/// A finished node with how deep it is and how many nodes it stands for.
#[derive(Clone)]
struct Built {
    node: Rc<Node>,
    height: usize,
    weight: usize,
}

#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    anchors: HashMap<usize, Built>,
    aliased: usize,
    documents: usize,
    root: Option<Rc<Node>>,
    faults: Vec<Fault>,
}

impl Builder {
    fn event(&mut self, event: Event<'_>, at: Mark) -> Result<(), Fault> {
        match event {
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err(Fault::new(
                        at,
                        "a second document begins here",
                        Some("one file holds one document: remove the `---`, or make it a file of its own"),
                    ));
                }
                Ok(())
            }
            Event::Scalar(text, style, anchor, tag) => {
                let tag = core_tag(tag.as_deref(), at)?;
                let scalar = Scalar { text: text.into_owned(), quoted: style != ScalarStyle::Plain, tag };
                let node = Rc::new(Node { at, kind: Kind::Scalar(scalar) });
                self.add(Built { node, height: 1, weight: 1 }, anchor)
            }
            Event::Alias(id) => {
                let built = self.anchors.get(&id).cloned().ok_or_else(|| {
                    Fault::new(at, "an alias stands inside of what it names", Some("it would have no end"))
                })?;
                self.aliased = self.aliased.saturating_add(built.weight);
                if self.aliased > ALIASED {
                    let message = format!("aliases repeat more than {ALIASED} values");
                    return Err(Fault::new(at, message, None));
                }
                self.add(built, 0)
            }
            Event::SequenceStart(anchor, tag) => {
                core_tag(tag.as_deref(), at)?;
                self.start(at, anchor, OpenKind::List(Vec::new()))
            }
            Event::MappingStart(anchor, tag) => {
                core_tag(tag.as_deref(), at)?;
                let kind = OpenKind::Map {
                    entries: Vec::new(),
                    at_key: HashMap::new(),
                    merged: Vec::new(),
                    key: None,
                };
                self.start(at, anchor, kind)
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
        }
    }

    fn start(&mut self, at: Mark, anchor: usize, kind: OpenKind) -> Result<(), Fault> {
        if let Some(Open { kind: OpenKind::Map { key: None, .. }, .. }) = self.open.last() {
            return Err(Fault::new(
                at,
                "a key must be a plain name",
                Some("a text that begins with `{` or `[` goes between quotes: \"{{ config.x }}\""),
            ));
        }
        if self.open.len() >= DEPTH {
            return Err(too_deep(at));
        }
        self.open.push(Open { at, anchor, kind, height: 0, weight: 1 });
        Ok(())
    }

    fn end(&mut self) -> Result<(), Fault> {
        let Some(open) = self.open.pop() else { return Ok(()) };
        let kind = match open.kind {
            OpenKind::List(items) => Kind::List(items),
            OpenKind::Map { mut entries, mut at_key, merged, .. } => {
                for (at, node) in merged {
                    merge(&mut entries, &mut at_key, at, &node)?;
                }
                Kind::Map(entries)
            }
        };
        let node = Rc::new(Node { at: open.at, kind });
        self.add(Built { node, height: open.height + 1, weight: open.weight }, open.anchor)
    }

    /// Puts a finished node where it belongs: the root, an item, a key or a value.
    fn add(&mut self, built: Built, anchor: usize) -> Result<(), Fault> {
        if built.height + self.open.len() > DEPTH {
            return Err(too_deep(built.node.at));
        }
        if anchor != 0 {
            self.anchors.insert(anchor, built.clone());
        }
        let Built { node, height, weight } = built;
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        open.height = open.height.max(height);
        open.weight = open.weight.saturating_add(weight);
        match &mut open.kind {
            OpenKind::List(items) => items.push(node),
            OpenKind::Map { entries, at_key, merged, key } => match key.take() {
                None => {
                    let Kind::Scalar(scalar) = &node.kind else {
                        return Err(Fault::new(node.at, "a key must be a plain name", None));
                    };
                    let merge = !scalar.quoted && scalar.text == "<<";
                    *key = Some(Key { text: scalar.text.clone(), at: node.at, merge });
                }
                Some(key) if key.merge => merged.push((key.at, node)),
                Some(key) => match at_key.entry(key.text.clone()) {
                    Slot::Occupied(first) => {
                        let message = format!("the key `{}` is given twice", key.text);
                        let hint = format!("the first is on line {}", first.get().line);
                        self.faults.push(Fault::new(key.at, message, Some(&hint)));
                    }
                    Slot::Vacant(slot) => {
                        slot.insert(key.at);
                        // Where nothing is written, the parser's place is that of what comes next.
                        let nothing = matches!(&node.kind, Kind::Scalar(s) if !s.quoted && s.text.is_empty());
                        let value = if nothing { moved(&node, key.at) } else { node };
                        entries.push(Entry { key: key.text, at: key.at, value });
                    }
                },
            },
        }
        Ok(())
    }
}

fn moved(node: &Rc<Node>, at: Mark) -> Rc<Node> {
    match &node.kind {
        Kind::Scalar(Scalar { text, quoted, tag }) => {
            let scalar = Scalar { text: text.clone(), quoted: *quoted, tag: tag.clone() };
            Rc::new(Node { at, kind: Kind::Scalar(scalar) })
        }
        Kind::List(_) | Kind::Map(_) => node.clone(),
    }
}

/// Adds the entries of what `<<` names, where the map has none of that name.
fn merge(
    entries: &mut Vec<Entry>,
    at_key: &mut HashMap<String, Mark>,
    at: Mark,
    node: &Rc<Node>,
) -> Result<(), Fault> {
    match &node.kind {
        Kind::Map(from) => {
            for entry in from {
                if let Slot::Vacant(slot) = at_key.entry(entry.key.clone()) {
                    slot.insert(entry.at);
                    entries.push(Entry { key: entry.key.clone(), at: entry.at, value: entry.value.clone() });
                }
            }
            Ok(())
        }
        Kind::List(maps) if maps.iter().all(|map| matches!(map.kind, Kind::Map(_))) => {
            maps.iter().try_for_each(|map| merge(entries, at_key, at, map))
        }
        Kind::List(_) | Kind::Scalar(_) => Err(Fault::new(
            at,
            "`<<` takes the keys of a map, and this is none",
            Some("write `<<: *name`, where `&name` stands before a map"),
        )),
    }
}

fn too_deep(at: Mark) -> Fault {
    Fault::new(at, format!("nested more than {DEPTH} deep"), None)
}

fn core_tag(tag: Option<&Tag>, at: Mark) -> Result<Option<String>, Fault> {
    let Some(tag) = tag else { return Ok(None) };
    if tag.is_yaml_core_schema()
        && matches!(tag.suffix.as_str(), "str" | "int" | "float" | "bool" | "null" | "seq" | "map")
    {
        return Ok(Some(tag.suffix.clone()));
    }
    if tag.handle.is_empty() && tag.suffix == "!" {
        return Ok(Some("str".to_owned())); // `! text`: the non-specific tag, which forbids looking at the text
    }
    Err(Fault::new(
        at,
        format!("the tag `{tag}` is not known"),
        Some("a text that begins with `!` goes between quotes"),
    ))
}

/// Words for what the parser found wrong: its own say what it was doing, these say what to do.
fn syntax(text: &str, at: Mark, info: &str) -> Fault {
    // What is missing at the end of the text is shown behind its last line.
    let at = match text.lines().count() {
        count if (at.line as usize) > count && count > 0 => {
            let last = text.lines().last().unwrap_or_default();
            let bound = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
            Mark { line: bound(count), column: bound(last.chars().count()).saturating_add(1) }
        }
        _ => at,
    };
    let line = text.lines().nth(at.line as usize - 1).unwrap_or_default();
    let indent: &str = &line[..line.len() - line.trim_start().len()];
    if indent.contains('\t') {
        let column = indent.chars().position(|c| c == '\t').unwrap_or_default() as u32 + 1;
        return Fault::new(
            Mark { line: at.line, column },
            "a tab stands in the indentation",
            Some("YAML is indented with spaces"),
        );
    }
    let words = |message: &str, hint: &str| Fault::new(at, message, Some(hint));
    if info.contains("unknown anchor") {
        return words(
            "this alias names no anchor",
            "`*` begins an alias: a text or pattern that begins with it goes between quotes, \"*.csv\"",
        );
    }
    if info.contains("mapping values are not allowed") {
        return words(
            "a `:` stands where no key can be",
            "a text that holds `: ` goes between quotes, or below `|` on lines of its own; else look at the indentation",
        );
    }
    if info.contains("simple key expect") {
        return words(
            "a `:` is missing after this key, or its indentation is wrong",
            "write `key: value`, with a space after the colon",
        );
    }
    if info.contains("unexpected character") {
        return words(
            "no value can begin with this character",
            "a text that begins with one of @ ` % | > & * ! goes between quotes",
        );
    }
    if info.contains("end of stream") && info.contains("quoted") {
        return words("this quote is never closed", "add the closing quote; a quote inside is written twice");
    }
    if info.contains("escape") {
        return words(
            "between double quotes this is no escape",
            "write `\\\\` for a backslash, or use single quotes, where none is special",
        );
    }
    if info.contains("',' or ']'") || info.contains("',' or '}'") {
        return words(
            "a `,` or the closing bracket is missing",
            "check the list or map that begins before this",
        );
    }
    if info.contains("block mapping, did not find expected key")
        || info.contains("block collection")
        || info.contains("invalid indentation")
    {
        return words("this does not line up with what is above it", "check the indentation of this line");
    }
    Fault::new(at, format!("not valid YAML: {info}"), None)
}
