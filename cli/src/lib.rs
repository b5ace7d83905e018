//! The command `cas`: words in, words out.
//!
//! ```text
//! args (as typed) ─► session (as meant) ─► commands/<verb> ─► report, table, JSON
//!                                                └─► failure ─► words and an exit code
//! ```
//!
//! It holds no rule of its own: which version something has, and whether it runs, is the engine's business. This is
//! the only crate that reads the environment, handles signals and knows a terminal.
//!
//! A Rust pipeline becomes a finished program with [`main`]:
//!
//! ```no_run
//! # fn pipeline() -> cas_engine::pipeline::Pipeline { cas_engine::pipeline::Pipeline::default() }
//! fn main() -> std::process::ExitCode {
//!     cas_cli::main(pipeline())
//! }
//! ```

mod address;
mod args;
mod closed;
mod commands;
mod failure;
mod fault;
mod given_file;
mod memory;
mod otel;
mod page;
mod report;
mod session;
mod signals;
mod timeline;
mod trace;
mod unborn;

use std::ffi::OsString;
use std::process::ExitCode;

use cas_engine::error::{Diagnostic, EngineError};
use cas_engine::pipeline::Pipeline;

use crate::args::Program;
use crate::failure::{Code, Failure};
use crate::session::World;

/// A pipeline as [`main`] takes it: one that was built, or what was wrong with it.
#[derive(Debug)]
pub struct Definition(Result<Pipeline, EngineError>);

impl From<Pipeline> for Definition {
    fn from(pipeline: Pipeline) -> Self {
        Self(Ok(pipeline))
    }
}

impl<E: Into<EngineError>> From<Result<Pipeline, E>> for Definition {
    fn from(pipeline: Result<Pipeline, E>) -> Self {
        Self(pipeline.map_err(Into::into))
    }
}

impl From<Vec<Diagnostic>> for Definition {
    fn from(diagnostics: Vec<Diagnostic>) -> Self {
        Self(Err(EngineError::Definition(diagnostics)))
    }
}

/// Does what the process's command line asks for, with this pipeline in the place of a pipeline file.
pub fn main(pipeline: impl Into<Definition>) -> ExitCode {
    start(Some(pipeline.into()))
}

/// Does what the process's command line asks for, with the pipeline file that it names or finds.
pub fn cas() -> ExitCode {
    start(None)
}

fn start(compiled: Option<Definition>) -> ExitCode {
    memory::keep();
    let words: Vec<OsString> = std::env::args_os().collect();
    match fault::caught(move || command(compiled, words)) {
        Ok(code) => code.into(),
        Err(fault) => {
            let failure = Failure::new(Code::Ours, fault)
                .hint("this is a fault of the program: please report it with this line and what you did");
            // Nobody is left to tell if this cannot be written.
            let _ = failure.write(&mut anstream::stderr().lock());
            Code::Ours.into()
        }
    }
}

fn command(compiled: Option<Definition>, words: Vec<OsString>) -> Code {
    let (program, name) = match &compiled {
        None => (Program::Files, "cas".to_owned()),
        Some(_) => (Program::Compiled, own_name(&words)),
    };
    let words = args::in_order(words);
    let line = match args::parse(program, &name, words.clone()) {
        Ok(line) => line,
        Err(error) => {
            // A reader that has gone needs no help.
            let _ = error.print();
            if !error.use_stderr() {
                return Code::Done;
            }
            if args::wants_json(&words) {
                let text = error.to_string();
                let (message, hint) = text.split_once("\n\n").unwrap_or((&text, ""));
                let message = message.trim().trim_start_matches("error: ").to_owned();
                let hint = Some(hint.trim().to_owned()).filter(|hint| !hint.is_empty());
                let mut failure = Failure::usage(message);
                failure.problems[0].hint = hint;
                let _ = failure.write_json(&mut std::io::stdout().lock(), None);
            }
            return Code::Usage;
        }
    };
    if closed::stdout() {
        let failure = Failure::new(Code::Failed, "cannot write the answer").because("stdout is closed");
        let _ = failure.write(&mut anstream::stderr().lock());
        return failure.code;
    }
    match line.common.color {
        args::Color::Auto => {}
        args::Color::Always => anstream::ColorChoice::Always.write_global(),
        args::Color::Never => anstream::ColorChoice::Never.write_global(),
    }
    let json = line.common.format == args::Format::Json;
    let done = World::new(program, name, compiled.map(|definition| definition.0), line.common, words)
        .and_then(|mut world| commands::command(&mut world, line.command));
    match done {
        Ok(code) => code,
        Err(failure) => {
            let _ = failure.write(&mut anstream::stderr().lock());
            if json && !failure.problems.is_empty() {
                let _ = failure.write_json(&mut std::io::stdout().lock(), None);
            }
            failure.code
        }
    }
}

/// The name that a compiled pipeline was started by.
fn own_name(words: &[OsString]) -> String {
    words
        .first()
        .and_then(|word| std::path::Path::new(word).file_name())
        .map_or_else(|| "pipeline".to_owned(), |name| name.to_string_lossy().into_owned())
}
