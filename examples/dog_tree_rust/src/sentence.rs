//! A sentence about both.

use cas_engine::typed::{Builder, Out, Text, file_version};

fn sentence(dog: String, tree: String) -> String {
    format!("A {dog} sleeps under a {}.", tree.replace('_', " "))
}

pub(crate) fn emit_sentence(p: &mut Builder, dog: Out<String>, tree: Out<String>) -> Out<String> {
    p.solid("emit_sentence", file_version!())
        .input("dog_breed", dog)
        .input("tree_species", tree)
        .codec::<Text>()
        .run(sentence)
}
