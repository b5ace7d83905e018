//! `cas completions`: a script that completes commands and flags in a shell.

use std::io::Write;

use clap_complete::Shell;

use super::{done, out};
use crate::args;
use crate::failure::{Code, Failure};
use crate::session::World;

/// Print shell completions
///
/// The script goes to stdout: put it where your shell looks for completions.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Example:
  $ cas completions bash > ~/.local/share/bash-completion/completions/cas")]
pub(crate) struct CompletionsArgs {
    /// Print them for this shell
    #[arg(value_name = "SHELL", value_parser = args::shells())]
    shell: String,
}

pub(crate) fn completions(world: &mut World, args: &CompletionsArgs) -> Result<Code, Failure> {
    let shell: Shell = args.shell.parse().map_err(Failure::usage)?;
    let mut command = args::command(world.program, &world.name);
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, world.name.clone(), &mut script);
    let mut out = out();
    out.write_all(&script)?;
    done(out)
}
