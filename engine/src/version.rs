//! Versions and traces from facts, in one walk that either hashes or explains.

use cas_store::{Artifact, Version};
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
    /// Shown as it is. For a secret, a keyed digest.
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

/// What a step is given by an output, for its trace.
#[derive(Debug, Clone, Copy)]
pub enum InputContent<'a> {
    /// This content.
    Artifact(&'a Artifact),
    /// It was recorded as not produced.
    Absent,
}

/// What of a step is known before its inputs: shared by its version and its trace.
#[derive(Debug, Clone, Default)]
pub struct Base {
    /// For each invocation, the version of its solid; `None` where its files were not measured.
    pub solids: Vec<Option<Version>>,
    /// For each resource, its version; `None` where its files or its probe were not measured.
    pub resources: Vec<Option<Version>>,
    /// For each step, the digest of its config; all zero outside the plan.
    pub configs: Vec<Version>,
}

/// The version of an output of a step of this version.
pub fn output_version(step: &Version, output: &str) -> Version {
    let _ = (step, output);
    todo!()
}
