//! The versioning engine: decides what must run, runs it, remembers it.
//!
//! ```text
//! definition ─► graph ─► measure ─► plan ─► resolve ─► schedule / execute ─► commit ─► event
//! (file, typed) (pure)   (source)   (pure)  (memo)     (pure)    (process)   (memo)
//! ```

pub mod archive;
mod attempt;
pub use attempt::prepare;
pub mod cause;
pub mod certain;
pub mod chronicle;
pub mod config;
pub mod difference;
pub mod error;
pub mod event;
pub mod execute;
pub mod explain;
pub mod file;
pub mod forecast;
mod fork;
pub mod frozen;
mod given;
pub mod graph;
pub mod grow;
pub mod judge;
pub mod lack;
mod left_out;
mod likely;
pub mod limits;
pub mod lineage;
pub mod list;
pub mod memo;
pub mod origin;
mod past;
pub use past::{Past, Skipped};
pub mod pattern;
pub mod pipeline;
pub mod plan;
pub mod pool;
pub mod publish;
pub mod record;
pub mod reproduce;
pub mod resolve;
pub mod resource;
pub mod run;
pub mod schedule;
pub mod secrets;
pub mod select;
pub mod solid;
pub mod source;
pub mod typed;
pub mod value;
pub mod version;
