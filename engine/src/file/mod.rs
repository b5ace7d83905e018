//! `pipeline.yaml` into definitions. Pure but for the reader that it is given, which reads the files that it names.

use std::path::Path;

use crate::config::RunConfig;
use crate::error::Diagnostic;
use crate::pipeline::Pipeline;

/// Gives the text of a file that a pipeline names (a table of rows, a run config), by its path.
pub type Read<'a> = dyn FnMut(&Path) -> std::io::Result<String> + 'a;

/// Turns the text of a pipeline file into its definition.
///
/// # Errors
/// Everything that is wrong with it, in the order of the text, each with place, excerpt and hint.
pub fn pipeline(path: &Path, text: &str, read: &mut Read<'_>) -> Result<Pipeline, Vec<Diagnostic>> {
    let _ = (path, text, read);
    todo!()
}

/// Reads one run config file and lays it over what was given before it.
///
/// # Errors
/// What is wrong with its text; whether its keys fit the pipeline is checked when a graph is made.
pub fn run_config(path: &Path, text: &str, over: &mut RunConfig) -> Result<(), Vec<Diagnostic>> {
    let _ = (path, text, over);
    todo!()
}

/// Lays one `--set` over what was given before it: `solids.emit_dog.config.dog_breed=pug`, `emit_dog.dog_breed=pug`,
/// `seed=1`.
///
/// # Errors
/// It is none of these forms, or nothing of the pipeline has that name.
pub fn set(pipeline: &Pipeline, text: &str, over: &mut RunConfig) -> Result<(), Diagnostic> {
    let _ = (pipeline, text, over);
    todo!()
}
