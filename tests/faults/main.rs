//! Where the ancestor was wrong (measured on its real releases): one test a fault, named after it, through the
//! command, and through the library where the fault was about code. Each would fail on the ancestor.
//!
//! And what they could not do at all: `beside.rs`.

#[path = "../kit/mod.rs"]
mod kit;

mod beside;
mod full;
mod identity;
mod results;
mod runs;
mod shared;
