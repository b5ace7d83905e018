//! The page's example, and tables of right and wrong files with what is said about them.

use std::io;
use std::path::Path;

use super::{Typed, pipeline, run_config, set};
use crate::config::RunConfig;
use crate::error::Diagnostic;
use crate::pipeline::{Pick, Pipeline, Source};
use crate::solid::{Body, Declared, EnvVar, Line, Platform, Shell};
use crate::value::{Type, Value};

/// The tables that tests name.
fn read(path: &Path) -> io::Result<String> {
    match path.to_str().unwrap_or_default() {
        "samples.tsv" => Ok("sample\tfastq\nS1\ta.fq\nS2\tb.fq\n".to_owned()),
        "quoted.csv" => Ok("id,note\r\na,\"x, \"\"y\"\"\"\r\nb,\"two\nlines\"\r\n".to_owned()),
        "ragged.tsv" => Ok("a\tb\n1\t2\n3\n1\t4\n".to_owned()),
        "header.tsv" => Ok("a\tb\n".to_owned()),
        "twice.tsv" => Ok("a\ta\n1\t2\n".to_owned()),
        "axis.tsv" => Ok("id\ts\n1\t2\n".to_owned()),
        "open.csv" => Ok("id,s\n1,\"2\n".to_owned()),
        _ => Err(io::Error::new(io::ErrorKind::NotFound, "no such file")),
    }
}

fn parse(text: &str) -> Result<Pipeline, Vec<Diagnostic>> {
    pipeline(Path::new("p.yaml"), text, &mut read)
}

fn parsed(text: &str) -> Pipeline {
    parse(text).unwrap_or_else(|wrong| panic!("{text}\n{}", rendered(&wrong)))
}

/// Diagnostics as a terminal shows them.
fn rendered(diagnostics: &[Diagnostic]) -> String {
    let mut shown = String::new();
    for diagnostic in diagnostics {
        shown.push_str(&format!("{diagnostic}\n"));
        if let Some(excerpt) = &diagnostic.excerpt {
            shown.push_str(excerpt);
            shown.push('\n');
        }
        if let Some(hint) = &diagnostic.hint {
            shown.push_str(&format!("hint: {hint}\n"));
        }
    }
    shown
}

/// Holds what is said about a wrong file against what should be, to the letter.
#[track_caller]
fn check(text: &str, expected: &str) {
    let shown = match parse(text) {
        Ok(_) => "nothing is wrong\n".to_owned(),
        Err(wrong) => rendered(&wrong),
    };
    assert_eq!(shown.trim_end(), expected.trim(), "\n{text}\n--- says:\n{shown}");
}

mod given;
mod included;
mod quoting;
mod right;
mod wrong;
