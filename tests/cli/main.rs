//! The command `cas` as people see it: transcripts of stdout, stderr and exit code together.

#[path = "../kit/mod.rs"]
mod kit;

mod answers;
mod help;
mod maintenance;
mod runs;
mod stores;
mod usage;
