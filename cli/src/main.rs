//! The command `cas`: pipelines from files.

use std::process::ExitCode;

fn main() -> ExitCode {
    cas_cli::cas()
}
