//! `cas` for one pipeline.

use std::process::ExitCode;

fn main() -> ExitCode {
    cas_cli::main(dog_tree::pipeline())
}
