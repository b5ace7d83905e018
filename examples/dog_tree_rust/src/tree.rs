//! A tree.

use cas_engine::typed::{Builder, Out, Text, file_version};
use serde::{Deserialize, Serialize};

/// Which tree.
#[derive(Debug, Serialize, Deserialize)]
pub struct Tree {
    /// Its species.
    pub tree_species: String,
}

pub(crate) fn emit_tree(p: &mut Builder) -> Out<String> {
    p.solid("emit_tree", file_version!())
        .config::<Tree>()
        .codec::<Text>()
        .run(|config: Tree| config.tree_species)
}
