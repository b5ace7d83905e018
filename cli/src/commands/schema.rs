//! `cas schema`: the JSON Schema of the pipeline file, for editors.

use std::io::Write;

use cas_engine::file;

use super::{done, out};
use crate::failure::{Code, Failure};
use crate::session::World;

/// Print the JSON Schema of the pipeline file
///
/// An editor that knows it completes keys and shows mistakes while you type.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Example:
  $ cas schema > pipeline.schema.json
  and as the first line of pipeline.yaml:
  # yaml-language-server: $schema=pipeline.schema.json")]
pub(crate) struct SchemaArgs {}

pub(crate) fn schema(_: &mut World, _: &SchemaArgs) -> Result<Code, Failure> {
    let schema = file::json_schema();
    let mut out = out();
    serde_json::to_writer_pretty(&mut out, &schema).map_err(std::io::Error::from)?;
    writeln!(out)?;
    done(out)
}
