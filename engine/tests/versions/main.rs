//! From the text of a pipeline to versions, and why they differ, without a file being read.

mod explain;
mod golden;
mod graph;
mod ingredients;
mod world;
