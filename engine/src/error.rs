//! What can go wrong before and around a run, by what a caller can do about it. A step that fails is no
//! error: it is a result of the run.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use cas_store::StoreError;

/// A place in a text: file, line, column (both from 1).
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Place {
    /// The file as it is shown to people.
    pub file: Arc<str>,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// What is wrong with a definition, a run config or a name that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// A lower-case fragment without a full stop.
    pub message: String,
    /// Where.
    pub place: Option<Place>,
    /// The line of text at that place, and a marker below it. Empty: none is to be shown, because of what is in it.
    pub excerpt: Option<String>,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Diagnostic {
    /// A diagnostic without a place.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), place: None, excerpt: None, hint: None }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds where it is.
    #[must_use]
    pub fn at(mut self, place: Option<&Place>) -> Self {
        self.place = place.cloned();
        self
    }
}

impl Diagnostic {
    /// Shows no line of text: a secret stands in it.
    #[must_use]
    pub fn without_excerpt(mut self) -> Self {
        self.excerpt = Some(String::new());
        self
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for Diagnostic {}

/// A failure of the engine.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The pipeline, the run config or a name is wrong. All that was found, in the order of the text.
    #[error("{}", .0.first().map(ToString::to_string).unwrap_or_default())]
    Definition(Vec<Diagnostic>),
    /// A declared file cannot be measured.
    #[error("{diagnostic}")]
    Source {
        /// What is wrong and where it is declared.
        diagnostic: Diagnostic,
        /// What the operating system said.
        #[source]
        source: Option<io::Error>,
    },
    /// A probe failed.
    #[error("{0}")]
    Probe(Diagnostic),
    /// What was to be taken of a given run is not known of it (any longer).
    #[error("run {run} does not know {}", listed(.what))]
    NotOfRun {
        /// The run.
        run: u64,
        /// What it does not know: ``the result of `fetch` ``.
        what: Vec<String>,
    },
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The operating system refused something that is not about a declared file.
    #[error("cannot {action} `{}`", path.display())]
    Io {
        /// A verb.
        action: &'static str,
        /// What it was about.
        path: PathBuf,
        /// What it said.
        #[source]
        source: io::Error,
    },
    /// What works on a step panicked: a fault of this program, or of an executor of the caller's.
    #[error("a panic while working on `{step}`: {what}")]
    Panicked {
        /// The step.
        step: String,
        /// What the panic said.
        what: String,
    },
    /// The run was interrupted; what had finished is kept.
    #[error("interrupted")]
    Interrupted,
}

/// Several things in one sentence; of many, the first few.
fn listed(what: &[String]) -> String {
    const NAMED: usize = 5;
    let mut named: Vec<&str> = what.iter().take(NAMED).map(String::as_str).collect();
    let more = format!("{} more", what.len().saturating_sub(NAMED));
    if what.len() > NAMED {
        named.push(&more);
    }
    named.join(", ")
}

impl From<Diagnostic> for EngineError {
    fn from(diagnostic: Diagnostic) -> Self {
        Self::Definition(vec![diagnostic])
    }
}
