//! Why versions differ, by name, from their trees of facts. Pure.
//!
//! Two trees are walked down side by side, only where they differ, so the work is that of what differs. A cause that
//! is met on several ways (a hundred elements below one changed step) is told once.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::ops::Range;

use cas_store::Version;

use crate::file;
use crate::value::is_unprintable;
use crate::version::{FactNode, FactValue};

/// One difference between two versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The path of names down to it: `config.tree_species`, `resource python`, `input tree: code tree.py`.
    pub label: String,
    /// What it was; `None` where there was none.
    pub before: Option<String>,
    /// What it is; `None` where there is none.
    pub after: Option<String>,
    /// Whether the two texts say nothing to people (digests), so that only the change is told.
    pub opaque: bool,
    /// Where in the label an element or part of an input is named: the `[0]` of `input all[0]: code tree.py`. Empty where
    /// none is.
    pub element: Range<usize>,
}

/// What is told of elements of one input in the same words, told once: `input all (150 elements) changed`.
pub fn grouped(differences: &[Difference]) -> Vec<Difference> {
    let mut groups: Vec<(usize, Difference)> = Vec::new();
    let mut known: HashMap<String, usize> = HashMap::new();
    for difference in differences {
        let mut whole = difference.clone();
        whole.label.replace_range(difference.element.clone(), "");
        match known.entry(whole.to_string()) {
            _ if difference.element.is_empty() => groups.push((1, difference.clone())),
            Entry::Occupied(of) => groups[*of.get()].0 += 1,
            Entry::Vacant(none) => {
                none.insert(groups.len());
                groups.push((1, difference.clone()));
            }
        }
    }
    let told = |(count, mut difference): (usize, Difference)| {
        if count > 1 {
            let elements = format!(" ({count} elements)");
            let range = difference.element.start..difference.element.start + elements.len();
            difference.label.replace_range(std::mem::replace(&mut difference.element, range), &elements);
        }
        difference
    };
    groups.into_iter().map(told).collect()
}

/// Longer texts are not read in a line: that they changed is told.
const LONGEST_SHOWN: usize = 80;

impl fmt::Display for Difference {
    /// One line: `config.tree_species: douglas_fir → red_maple`, `code solids/tree.py changed`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |text: &&String| text.chars().count() <= LONGEST_SHOWN && !text.contains(is_unprintable);
        let shown = |text: &Option<String>| text.as_ref().filter(|text| !self.opaque && fits(text)).cloned();
        let label = &self.label;
        match (&self.before, &self.after) {
            (Some(before), Some(after)) => match (shown(&self.before), shown(&self.after)) {
                (Some(_), Some(_)) => match (plain(before), plain(after)) {
                    (Some(before), Some(after)) => write!(f, "{label}: {before} → {after}"),
                    _ => write!(f, "{label}: {before} → {after}"),
                },
                _ => write!(f, "{label} changed"),
            },
            (None, Some(_)) => match shown(&self.after) {
                Some(after) => write!(f, "{label} added: {}", plain(&after).unwrap_or(&after)),
                None => write!(f, "{label} added"),
            },
            (Some(_), None) => write!(f, "{label} removed"),
            (None, None) => write!(f, "{label} changed"),
        }
    }
}

/// The text inside a JSON string without escapes. Where both sides are such, no quotes are needed to tell them
/// apart; where one is a number, they are: `1 → "1"`.
fn plain(json: &str) -> Option<&str> {
    let inside = json.strip_prefix('"')?.strip_suffix('"')?;
    (!inside.is_empty() && !inside.contains(['"', '\\'])).then_some(inside)
}

/// Of several earlier versions (newest first), the one with the fewest differences to `after`: its index and what
/// differs. Of equals, the newest.
pub fn nearest(
    candidates: &[FactNode],
    after: &FactNode,
    node: &mut dyn FnMut(&Version) -> Option<FactNode>,
) -> Option<(usize, Vec<Difference>)> {
    candidates
        .iter()
        .enumerate()
        .map(|(index, before)| (index, differences(before, after, node)))
        .min_by_key(|(index, differences)| (differences.len(), *index))
}

/// The facts that differ between two trees, in the order in which they are hashed; `node` gives a node by its version
/// (`None` where it is not kept).
pub fn differences(
    before: &FactNode,
    after: &FactNode,
    node: &mut dyn FnMut(&Version) -> Option<FactNode>,
) -> Vec<Difference> {
    let mut found = Vec::new();
    let (mut pairs, mut causes) = (HashSet::new(), HashSet::new());
    let mut open = vec![Pair { before: before.clone(), after: after.clone(), at: At::default() }];
    while let Some(pair) = open.pop() {
        let mut inner = Vec::new();
        for step in compare(&pair) {
            match step {
                Step::Told(cause, difference) => {
                    if causes.insert((cause, difference.before.clone(), difference.after.clone())) {
                        found.push(difference);
                    }
                }
                Step::Down(before, after, at) => {
                    if before == after || !pairs.insert((before, after)) {
                        continue;
                    }
                    match (node(&before), node(&after)) {
                        (Some(before), Some(after)) => inner.push(Pair { before, after, at }),
                        _ => found.push(Difference {
                            label: at.whole(),
                            before: Some(before.short()),
                            after: Some(after.short()),
                            opaque: true,
                            element: at.element(),
                        }),
                    }
                }
            }
        }
        // What stands first is walked first.
        open.extend(inner.into_iter().rev());
    }
    found
}

/// Two nodes that differ, and where they were met.
struct Pair {
    before: FactNode,
    after: FactNode,
    at: At,
}

/// A path of names. Only its ends are kept: between them may be a thousand steps.
#[derive(Debug, Clone, Default)]
struct At {
    first: String,
    /// How much of the first is its name: what follows says which element of it.
    named: usize,
    last: String,
    depth: usize,
    /// The solid of the step that is compared.
    solid: String,
}

impl At {
    fn down(&self, name: &str) -> Self {
        let (first, named) =
            if self.depth == 0 { (name.to_owned(), name.len()) } else { (self.first.clone(), self.named) };
        Self { first, named, last: name.to_owned(), depth: self.depth + 1, solid: self.solid.clone() }
    }

    /// Where in all labels of this place an element is named.
    fn element(&self) -> Range<usize> {
        if self.depth == 0 { 0..0 } else { self.named..self.first.len() }
    }

    /// The same place, told more exactly: `input all` becomes `input all[0.1]`.
    fn narrowed(&self, to: &str) -> Self {
        let name = format!("{}[{to}]", self.last);
        let first = if self.depth == 1 { name.clone() } else { self.first.clone() };
        Self { first, last: name, ..self.clone() }
    }

    fn whole(&self) -> String {
        match self.depth {
            0 => "version".to_owned(),
            1 => self.first.clone(),
            2 => format!("{}: {}", self.first, self.last),
            _ => format!("{}: … {}", self.first, self.last),
        }
    }

    fn label(&self, name: &str) -> String {
        match (self.depth, name) {
            (0, _) => name.to_owned(),
            (_, "") => self.whole(),
            _ => format!("{}: {name}", self.whole()),
        }
    }
}

/// What comparing two nodes gives: something to tell (with what makes it the same cause elsewhere), or two nodes below.
enum Step {
    Told(String, Difference),
    Down(Version, Version, At),
}

fn compare(pair: &Pair) -> Vec<Step> {
    let Pair { before, after, at } = pair;
    let mut at = at.clone();
    if after.kind == "step" {
        at.solid.clone_from(&after.name);
    }
    let mut steps = Vec::new();
    let told = |label: &str, before: Option<String>, after: Option<String>, opaque: bool| {
        let difference = Difference { label: at.label(label), before, after, opaque, element: at.element() };
        // A fact of a step or solid is the same cause wherever it is met; one of an input or resource has its name.
        let owner = if label.is_empty() { at.last.as_str() } else { "" };
        Step::Told(format!("{}\0{owner}\0{label}", at.solid), difference)
    };
    if before.kind != after.kind {
        steps.push(told("", Some(before.kind.clone()), Some(after.kind.clone()), false));
        return steps;
    }
    if after.kind == "step" && at.depth > 0 && before.name != after.name {
        // It is another thing that is read: how the two differ inside says nothing.
        steps.push(told("", Some(before.name.clone()), Some(after.name.clone()), false));
        return steps;
    }
    if before.name != after.name {
        let label = if after.kind == "step" { "solid" } else { "name" };
        steps.push(told(label, Some(before.name.clone()), Some(after.name.clone()), false));
    }
    let old =
        before.facts.iter().map(|fact| (named(&before.kind, &fact.label), fact)).collect::<BTreeMap<_, _>>();
    let new = after.facts.iter().map(|fact| named(&after.kind, &fact.label)).collect::<HashSet<_>>();
    let count = steps.len();
    for fact in &after.facts {
        let name = named(&after.kind, &fact.label);
        let label = name_in(&after.kind, name);
        let was = old.get(name);
        if let Some(was) = was.filter(|was| was.label != fact.label) {
            // The same input in a file of another name: the extension belongs to the file.
            let file = |label: &str| label.strip_prefix("input ").map(str::to_owned);
            steps.push(told(name, file(&was.label), file(&fact.label), false));
        }
        match was.map(|was| &was.value) {
            Some(value) if *value == fact.value => {}
            Some(value) => match (value, &fact.value) {
                (FactValue::Node(before), FactValue::Node(after)) => {
                    steps.push(Step::Down(*before, *after, below(&at, name)));
                }
                (
                    FactValue::Output { step: before, name: was },
                    FactValue::Output { step: after, name: is },
                ) => {
                    if was != is {
                        steps.push(told(label, Some(was.clone()), Some(is.clone()), false));
                    }
                    if before != after {
                        steps.push(Step::Down(*before, *after, below(&at, name)));
                    }
                }
                (value, now) => {
                    let (was, hidden) = shown(value);
                    let (is, also_hidden) = shown(now);
                    steps.push(told(label, Some(was), Some(is), hidden || also_hidden));
                }
            },
            None => {
                let (is, hidden) = shown(&fact.value);
                steps.push(told(label, None, Some(is), hidden));
            }
        }
    }
    for fact in &before.facts {
        let name = named(&before.kind, &fact.label);
        if !new.contains(name) {
            let (was, hidden) = shown(&fact.value);
            steps.push(told(name_in(&before.kind, name), Some(was), None, hidden));
        }
    }
    let in_order = before.facts.iter().map(|fact| &fact.label).eq(after.facts.iter().map(|fact| &fact.label));
    if steps.len() == count && !in_order {
        steps.push(told("order", Some("before".to_owned()), Some("after".to_owned()), true));
    }
    steps
}

/// What a fact is called by whoever wrote the pipeline: `input tree` for the file `tree.txt`.
fn named<'l>(kind: &str, label: &'l str) -> &'l str {
    match kind {
        "step" if label.starts_with("input ") => file::name_of(label),
        _ => label,
    }
}

/// How a fact is called below the name of its node: the one thing that an input or a tool is, not at all.
fn name_in<'l>(kind: &str, label: &'l str) -> &'l str {
    match (kind, label) {
        ("resource", "version" | "printed") | ("input", "value" | "answer" | "path") => "",
        _ => label,
    }
}

/// Where the node of a fact stands: a solid's and a config's facts are the step's own.
fn below(at: &At, label: &str) -> At {
    match label {
        "solid" | "config" => at.clone(),
        _ => match label.strip_prefix("element ").or_else(|| label.strip_prefix("part ")) {
            Some(which) if at.depth > 0 => at.narrowed(which),
            _ => at.down(label),
        },
    }
}

fn shown(value: &FactValue) -> (String, bool) {
    match value {
        FactValue::Text(text) => (text.clone(), false),
        FactValue::Digest(text) => (text.clone(), true),
        FactValue::Node(version) => (version.short(), true),
        FactValue::Output { name, .. } => (format!("output {name}"), true),
    }
}
