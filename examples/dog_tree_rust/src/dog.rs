//! A dog.

use cas_engine::typed::{Builder, Out, Text, file_version};
use serde::{Deserialize, Serialize};

/// Which dog.
#[derive(Debug, Serialize, Deserialize)]
pub struct Dog {
    /// Its breed.
    pub dog_breed: String,
}

pub(crate) fn emit_dog(p: &mut Builder) -> Out<String> {
    p.solid("emit_dog", file_version!()).config::<Dog>().codec::<Text>().run(|config: Dog| config.dog_breed)
}
