//! Pipelines in Rust: solids are functions, and handles carry their types.
//!
//! ```
//! use cas_engine::typed::{Builder, file_version};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize)]
//! struct Dog {
//!     dog_breed: String,
//! }
//!
//! fn emit_dog(config: Dog) -> String {
//!     config.dog_breed
//! }
//!
//! fn praise(dog: String) -> String {
//!     format!("What a {dog}!")
//! }
//!
//! let mut p = Builder::new("dogs");
//! let dog = p.solid("emit_dog", "1").config::<Dog>().run(emit_dog); // Out<String>
//! let praise = p.solid("praise", "1").input("dog", dog).run(praise);
//! let pipeline = p.build()?;
//! # let _ = (praise, pipeline);
//! # Ok::<(), cas_engine::error::EngineError>(())
//! ```
//!
//! A solid's version stands beside its name: [`file_version!`] and [`crate_version!`] take it from the source
//! when it is compiled, a text is one given by hand.
//!
//! **What is checked when it compiles.** A body takes exactly what was declared, by value and in that order:
//! the config, the inputs, an [`Arc`](std::sync::Arc) of each resource, the value of each axis, and
//! [`Context`]. It returns what the outputs need. And it holds nothing of its own: an `fn`, or a closure that
//! captures nothing, because what it captured would be no part of any version.
//!
//! ```
//! # let mut p = cas_engine::typed::Builder::new("x");
//! let breed = p.solid("breed", "1").run(|| String::from("pug"));
//! let length = p.solid("length", "1").input("breed", breed).run(|breed: String| breed.len() as u64);
//! # let _ = length;
//! ```
//!
//! An input of another type is no input for this body:
//!
//! ```compile_fail,E0277
//! # let mut p = cas_engine::typed::Builder::new("x");
//! let breed = p.solid("breed", "1").run(|| String::from("pug"));
//! let length = p.solid("length", "1").input("breed", breed).run(|breed: u32| u64::from(breed));
//! # let _ = length;
//! ```
//!
//! Nor is one that was not declared:
//!
//! ```compile_fail,E0277
//! # let mut p = cas_engine::typed::Builder::new("x");
//! let length = p.solid("length", "1").run(|breed: String| breed.len() as u64);
//! # let _ = length;
//! ```
//!
//! A handle has the type of its value, so that what is got back is what was made:
//!
//! ```
//! # let mut p = cas_engine::typed::Builder::new("x");
//! let length: cas_engine::typed::Out<u64> = p.solid("length", "1").run(|| 3_u64);
//! # let _ = length;
//! ```
//!
//! ```compile_fail,E0308
//! # let mut p = cas_engine::typed::Builder::new("x");
//! let length: cas_engine::typed::Out<String> = p.solid("length", "1").run(|| 3_u64);
//! # let _ = length;
//! ```
//!
//! A closure that captures a value does not compile; the same value as a literal input does:
//!
//! ```
//! # let mut p = cas_engine::typed::Builder::new("x");
//! let n = 3_u64;
//! let twice = p.solid("twice", "1").input("n", cas_engine::typed::value(n)).run(|n: u64| n * 2);
//! # let _ = twice;
//! ```
//!
//! ```compile_fail,E0080
//! # let mut p = cas_engine::typed::Builder::new("x");
//! let n = 3_u64;
//! let twice = p.solid("twice", "1").run(move || n * 2);
//! # let _ = twice;
//! ```
//!
//! A pointer to a function is a value too: which function it points to is no part of any version.
//!
//! ```
//! # let mut p = cas_engine::typed::Builder::new("x");
//! fn two() -> u64 { 2 }
//! let number = p.solid("number", "1").run(two);
//! # let _ = number;
//! ```
//!
//! ```compile_fail,E0080
//! # let mut p = cas_engine::typed::Builder::new("x");
//! fn two() -> u64 { 2 }
//! let number = p.solid("number", "1").run(two as fn() -> u64);
//! # let _ = number;
//! ```
//!
//! Several outputs are a tuple of as many values, each fit for its codec:
//!
//! ```
//! use cas_engine::typed::{Json, Text};
//! # let mut p = cas_engine::typed::Builder::new("x");
//! let (words, count) = p
//!     .solid("count", "1")
//!     .output::<Text>("words.txt")
//!     .output::<Json>("count")
//!     .run(|| (String::from("a b c"), 3_u32));
//! # let _ = (words, count);
//! ```
//!
//! ```compile_fail,E0277
//! use cas_engine::typed::{Json, Text};
//! # let mut p = cas_engine::typed::Builder::new("x");
//! let (words, count) = p
//!     .solid("count", "1")
//!     .output::<Text>("words.txt")
//!     .output::<Json>("count")
//!     .run(|| (3_u32, String::from("a b c")));
//! # let _ = (words, count);
//! ```
//!
//! A resource comes as what its opener made:
//!
//! ```
//! use std::sync::Arc;
//! # let mut p = cas_engine::typed::Builder::new("x");
//! let words = p.resource("words").version("1").open(|| vec![String::from("pug")]);
//! let first = p.solid("first", "1").resource(&words).run(|words: Arc<Vec<String>>| words[0].clone());
//! # let _ = first;
//! ```
//!
//! ```compile_fail,E0277
//! use std::sync::Arc;
//! # let mut p = cas_engine::typed::Builder::new("x");
//! let words = p.resource("words").version("1").open(|| vec![String::from("pug")]);
//! let first = p.solid("first", "1").resource(&words).run(|words: Arc<Vec<u32>>| words[0]);
//! # let _ = first;
//! ```
//!
//! What there is to do may be known only when a body has run: it yields a list, and other solids are mapped over it, one
//! step an element. A changed element is worked on again and no other, wherever it stands:
//!
//! ```
//! # let mut p = cas_engine::typed::Builder::new("x");
//! let text = p.solid("text", "1").run(|| String::from("a pug\na poodle"));
//! let lines = p
//!     .solid("lines", "1")
//!     .input("text", text)
//!     .list()
//!     .run(|text: String| text.lines().map(str::to_owned).collect::<Vec<String>>()); // List<String>
//! let length = p.solid("length", "1").map("line", &lines).run(|line: String| line.len() as u64);
//! let all = length.all(); // of every line, with its label, in the order of the list
//! let total = p
//!     .solid("total", "1")
//!     .input("lengths", all)
//!     .run(|lengths: Vec<(String, u64)>| lengths.iter().map(|(_, length)| length).sum::<u64>());
//! # let _ = total;
//! ```
//!
//! A body that is mapped takes what the list is of:
//!
//! ```compile_fail,E0277
//! # let mut p = cas_engine::typed::Builder::new("x");
//! let lines = p.solid("lines", "1").list().run(|| vec![String::from("a pug")]);
//! let length = p.solid("length", "1").map("line", &lines).run(|line: u64| line);
//! # let _ = length;
//! ```
//!
//! **What [`Builder::build`] checks**: names, cycles, missing versions, types whose shape cannot be told, and
//! that a command reads only outputs that have a form as a file.

mod argument;
mod builder;
mod codec;
mod command;
mod config;
mod input;
mod list;
mod output;
mod probe;
mod resource;
mod run;
mod shape;
mod solid;
mod sorted;
mod version;

pub use crate::pipeline::Share;
pub use argument::{
    Argument, Arguments, AxisArgument, Body, ConfigArgument, Context, ContextArgument, InputArgument, Push,
    ResourceArgument,
};
pub use builder::Builder;
pub use cas_macros::{crate_version, file_version};
pub use codec::{Bincode, Bytes, Codec, Json, Text};
pub use command::{CommandBuilder, Step};
pub use config::Secret;
pub use input::{Bound, Input, Literal, PathInput, ProbeInput, default, external_path, path, probe, value};
pub use list::{List, Listed};
pub use output::{
    All, AsDirectory, AsFile, At, Declare, Described, Directory, Encoded, File, Form, Implicit, Made, Maybe,
    Out, Outputs, Slot, Survivors,
};
pub use resource::{Fits, ModeBuilder, New, Res, ResourceBuilder, Same};
pub use run::{GetError, Options, Run, run};
pub use shape::{Form as ShapeForm, Shape, ShapeError};
pub use solid::{Axis, SolidBuilder};
pub use version::CodeVersion;

/// Any error, as bodies return them.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
