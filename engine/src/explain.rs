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
