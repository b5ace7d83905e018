//! The tree of facts that a version is made of, as it is kept and compared. Plain data.

use cas_store::Version;
use serde::{Deserialize, Serialize};

/// One node of the tree of facts that a version is made of; kept in the store under its version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FactNode {
    /// What it is a version of: `step`, `solid`, `resource`, `config`, `input`.
    pub kind: String,
    /// Its name, where it has one.
    pub name: String,
    /// Its ingredients, in the order in which they are hashed.
    pub facts: Vec<Fact>,
}

/// One named ingredient.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    /// Its name: `code solids/tree.py`, `config.tree_species`, `resource python`.
    pub label: String,
    /// What it is.
    pub value: FactValue,
}

/// The value of a fact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FactValue {
    /// Shown as it is; a config value as JSON.
    Text(String),
    /// A digest of something that is not shown: only whether it changed.
    Digest(String),
    /// Another node, by its version.
    Node(Version),
    /// An output of a step: the step's node, and the output's name.
    Output {
        /// The version of the step.
        step: Version,
        /// The name of its output.
        name: String,
    },
}
