//! Why versions differ, by name, from their trees of facts. Pure.

use crate::version::FactNode;
use cas_store::Version;

/// One difference between two versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The path of names down to it: `config.tree_species`, `resource python: probe`, `input tree`.
    pub label: String,
    /// What it was; `None` where there was none.
    pub before: Option<String>,
    /// What it is.
    pub after: Option<String>,
    /// Whether the two texts say nothing to people (digests), so that only the change is told.
    pub opaque: bool,
}

impl std::fmt::Display for Difference {
    /// One line: `config.tree_species: douglas_fir → red_maple`, `code solids/tree.py changed`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let _ = f;
        todo!()
    }
}

/// Of several earlier versions (newest first), the one with the fewest differences to `after`: its index and what
/// differs.
pub fn nearest(
    candidates: &[FactNode],
    after: &FactNode,
    node: &mut dyn FnMut(&Version) -> Option<FactNode>,
) -> Option<(usize, Vec<Difference>)> {
    let _ = (candidates, after, node);
    todo!()
}

/// The facts that differ between two trees; `node` gives a node by its version (`None` where it is not kept).
pub fn differences(
    before: &FactNode,
    after: &FactNode,
    node: &mut dyn FnMut(&Version) -> Option<FactNode>,
) -> Vec<Difference> {
    let _ = (before, after, node);
    todo!()
}
