//! The dog and the tree, in Rust: three solids, each in a file of its own, which is its version.

mod dog;
mod sentence;
mod tree;

use cas_engine::error::EngineError;
use cas_engine::pipeline::Pipeline;
use cas_engine::typed::{Builder, Out};

pub use dog::Dog;
pub use tree::Tree;

/// The pipeline as it is defined, and its end.
pub fn define(folder: &str) -> (Builder, Out<String>) {
    let mut p = Builder::new("dog_tree")
        .folder(folder)
        .description("The example with which memoized runs were first told, in 2020.");
    let dog = dog::emit_dog(&mut p);
    let tree = tree::emit_tree(&mut p);
    let sentence = sentence::emit_sentence(&mut p, dog, tree);
    (p, sentence)
}

/// The pipeline for the program.
///
/// # Errors
/// None, as long as the definition is right.
pub fn pipeline() -> Result<Pipeline, EngineError> {
    define("").0.build()
}
