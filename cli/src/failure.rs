//! Errors in words: a heading, the causes one per line, what to try, and the exit code.
//!
//! This is the only place that gives an error a number. `docs/guide/commands.md` prints the same table.

use std::fmt;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use cas_engine::error::{Diagnostic, EngineError, Place};
use cas_store::StoreError;
use serde::Serialize;

use crate::report::json;

/// What an exit code says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Code {
    Done,
    Failed,
    Usage,
    Store,
    Ours,
    Interrupted,
    Terminated,
    /// What somebody's shell ended with.
    Shell(u8),
}

/// Every exit code with what it says; the manual shows this table.
pub(crate) const CODES: &[(Code, u8, &str)] = &[
    (Code::Done, 0, "done"),
    (
        Code::Failed,
        1,
        "a step failed, something known is not stored, damage or a difference was found, the answer could not be written, or `--exit-code` asked for it",
    ),
    (Code::Usage, 2, "wrong usage, pipeline, config or unknown name"),
    (Code::Store, 3, "the store cannot be used"),
    (Code::Ours, 4, "a fault of ours"),
    (Code::Interrupted, 130, "interrupted (Ctrl-C)"),
    (Code::Terminated, 143, "terminated, or its terminal was closed"),
];

impl Code {
    /// The number that the process ends with.
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Shell(number) => number,
            ours => CODES.iter().find(|(code, ..)| *code == ours).map_or(4, |(_, number, _)| *number),
        }
    }
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        Self::from(code.number())
    }
}

/// Why a command did not do what was asked.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: Code,
    /// What is wrong: at least one, unless whoever reads stdout has gone (then there is nobody to tell).
    pub(crate) problems: Vec<Problem>,
}

/// One thing that is wrong.
#[derive(Debug, Default)]
pub(crate) struct Problem {
    /// A lower-case fragment without a full stop.
    pub(crate) message: String,
    /// Below it as they are: the excerpt of a file.
    pub(crate) excerpt: Option<String>,
    /// Why, the nearest cause first.
    pub(crate) causes: Vec<String>,
    /// What to try.
    pub(crate) hint: Option<String>,
    /// Where, in a file.
    pub(crate) place: Option<Place>,
}

#[derive(Serialize)]
struct Row<'a> {
    code: u8,
    message: &'a str,
    file: Option<&'a str>,
    line: Option<u32>,
    column: Option<u32>,
    causes: &'a [String],
    hint: Option<&'a str>,
}

impl Failure {
    /// A failure with one problem.
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, problems: vec![Problem { message: message.into(), ..Problem::default() }] }
    }

    /// Wrong usage, or a name that nothing has.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Code::Usage, message)
    }

    /// A file that was given cannot be read.
    pub(crate) fn unread(what: &str, path: &Path, error: &io::Error) -> Self {
        let message = format!("cannot read the {what} `{}`", path.display());
        match is_descriptor_limit(error) {
            true => Self::new(Code::Store, message).because(error).hint(MORE_FILES),
            false => Self::usage(message).because(error),
        }
    }

    /// Something that is known, but not stored.
    pub(crate) fn missing(message: impl Into<String>) -> Self {
        Self::new(Code::Failed, message)
    }

    /// Adds what to try.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        if let Some(problem) = self.problems.last_mut() {
            problem.hint = Some(hint.into());
        }
        self
    }

    /// Adds a remark to the first line.
    pub(crate) fn note(mut self, remark: impl fmt::Display) -> Self {
        if let Some(problem) = self.problems.last_mut() {
            problem.message.push_str(&format!(" ({remark})"));
        }
        self
    }

    /// Adds a cause.
    pub(crate) fn because(mut self, cause: impl fmt::Display) -> Self {
        if let Some(problem) = self.problems.last_mut() {
            problem.causes.push(cause.to_string());
        }
        self
    }

    /// Whoever read stdout has gone: nothing to tell, and no failure.
    fn nobody_listens() -> Self {
        Self { code: Code::Done, problems: Vec::new() }
    }

    /// Writes it for a program: one document, `{"cas":1,"errors":[…]}`; of a sweep, with the combination that it concerns.
    pub(crate) fn write_json(&self, to: &mut dyn Write, combination: Option<&str>) -> io::Result<()> {
        let rows = self.problems.iter().map(|problem| Row {
            code: self.code.number(),
            message: &problem.message,
            file: problem.place.as_ref().map(|place| &*place.file),
            line: problem.place.as_ref().map(|place| place.line),
            column: problem.place.as_ref().map(|place| place.column),
            causes: &problem.causes,
            hint: problem.hint.as_deref(),
        });
        let more = combination.map(|combination| ("combination", combination.into()));
        json::document_with(to, "errors", rows, more.as_slice())
    }

    /// Writes it for a person.
    pub(crate) fn write(&self, to: &mut dyn Write) -> io::Result<()> {
        let (red, dim, bold) = (ERROR.render(), HINT.render(), anstyle::Reset.render());
        for problem in &self.problems {
            writeln!(to, "{red}error:{bold} {}", problem.message)?;
            if let Some(excerpt) = &problem.excerpt {
                for line in excerpt.lines() {
                    writeln!(to, "  {line}")?;
                }
            }
            for cause in &problem.causes {
                writeln!(to, "  because {cause}")?;
            }
            if let Some(hint) = &problem.hint {
                writeln!(to, "{dim}hint:{bold} {hint}")?;
            }
        }
        to.flush()
    }
}

/// How an error's heading looks on a terminal.
pub(crate) const ERROR: anstyle::Style =
    anstyle::Style::new().bold().fg_color(Some(anstyle::Color::Ansi(anstyle::AnsiColor::Red)));
/// How a hint's heading looks on a terminal.
pub(crate) const HINT: anstyle::Style =
    anstyle::Style::new().fg_color(Some(anstyle::Color::Ansi(anstyle::AnsiColor::Cyan)));

impl From<io::Error> for Failure {
    /// For what is written to stdout; every other IO error says what it was about before it comes here.
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::nobody_listens();
        }
        Self::new(Code::Failed, "cannot write the answer").because(error)
    }
}

impl From<Diagnostic> for Problem {
    fn from(diagnostic: Diagnostic) -> Self {
        let message = diagnostic.to_string();
        let Diagnostic { place, excerpt, hint, .. } = diagnostic;
        Self { message, excerpt, causes: Vec::new(), hint, place }
    }
}

impl From<Diagnostic> for Failure {
    fn from(diagnostic: Diagnostic) -> Self {
        Self::from(vec![diagnostic])
    }
}

impl From<Vec<Diagnostic>> for Failure {
    fn from(diagnostics: Vec<Diagnostic>) -> Self {
        Self { code: Code::Usage, problems: diagnostics.into_iter().map(Problem::from).collect() }
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Definition(diagnostics) => Self::from(diagnostics),
            EngineError::Source { diagnostic, source } => {
                let mut problem = Problem::from(diagnostic);
                problem.causes.extend(source.map(|source| source.to_string()));
                Self { code: Code::Usage, problems: vec![problem] }
            }
            EngineError::Probe(diagnostic) => Self::from(diagnostic),
            error @ EngineError::NotOfRun { .. } => Self::chained(Code::Failed, &error).hint(
                "it never had that, had it otherwise, or it was collected or forgotten: `--frozen` alone takes what \
                 there is",
            ),
            EngineError::Store(error) => Self::from(error),
            error @ EngineError::Io { .. } => Self::chained(Code::Store, &error),
            error @ EngineError::Panicked { .. } => Self::chained(Code::Ours, &error),
            EngineError::Interrupted => Self::new(Code::Interrupted, "interrupted"),
        }
    }
}

/// Whether no more files could be opened. (RocksDB hands on the words only.)
fn is_descriptor_limit(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(23 | 24)) || is_descriptor_text(&error.to_string())
}

fn is_descriptor_text(text: &str) -> bool {
    text.contains("Too many open files")
}

/// What to do where no more files can be opened.
pub(crate) const MORE_FILES: &str = "raise the limit of open files: `ulimit -n 1024`";

/// What to do where no more threads can be started.
pub(crate) const MORE_THREADS: &str =
    "end some, or raise the limit of processes and threads (`ulimit -u`, or that of the container)";

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let (code, hint) = match &error {
            StoreError::Absent { .. } => (Code::Store, Some("`cas run` or `cas init` makes one")),
            StoreError::NotAStore { .. } => (Code::Store, Some("give another folder with --store DIR")),
            StoreError::FormatLost { .. } => {
                (Code::Store, Some("`cas verify --rebuild` writes its `format` file again"))
            }
            StoreError::Format { found, known, .. } if found > known => (
                Code::Store,
                Some("it was made by a newer cas: use that one, or another store with --store DIR"),
            ),
            StoreError::Format { .. } => (
                Code::Store,
                Some("it was made by an older cas: use that one, or another store with --store DIR"),
            ),
            StoreError::InUse { .. } => {
                (Code::Store, Some("wait for it to end, or wait longer with --wait 1h"))
            }
            StoreError::Skew { .. } => {
                (Code::Store, Some("wait for it to end, or use the same version of cas as it does"))
            }
            StoreError::NoHost { .. } => (Code::Store, None),
            StoreError::Refused { .. } => (
                Code::Store,
                Some(
                    "run cas as that user, let a group use it (`cas init --shared`), or name another with --store",
                ),
            ),
            StoreError::Network { .. } => (
                Code::Store,
                Some(
                    "use a folder on a local disk; if only one machine uses this one, write \
                     `network_file_system = true` in its `config.toml`",
                ),
            ),
            StoreError::Missing { .. } => (Code::Failed, Some("`cas run` makes it again")),
            StoreError::Damaged { .. } => (Code::Failed, Some("`cas run` makes it again")),
            StoreError::IndexDamaged { .. } => (
                Code::Store,
                Some("`cas verify --rebuild` makes the index anew from the journal and the files"),
            ),
            StoreError::Unstorable { .. } => (Code::Failed, None),
            StoreError::Archive { .. } => {
                (Code::Failed, Some("nothing was changed; export it again where it comes from"))
            }
            StoreError::ArchiveBase { .. } => {
                (Code::Failed, Some("import that one first, the one of its `--since`; nothing was changed"))
            }
            StoreError::Exists { .. } => (Code::Usage, Some("name another file, or remove that one")),
            StoreError::ReadOnly { .. } => {
                (Code::Store, Some("see to the disk, then run again: what was acknowledged is kept"))
            }
            StoreError::Config { .. } => (Code::Store, Some("correct that line")),
            StoreError::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                (Code::Store, Some("the disk is full: `cas clean` or `cas gc --max-size SIZE` makes room"))
            }
            StoreError::Io { source, .. } if source.kind() == io::ErrorKind::ReadOnlyFilesystem => {
                (Code::Store, Some("it can only be read there: use another store with --store DIR"))
            }
            StoreError::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => (
                Code::Store,
                Some("another user made it, perhaps: ask that user, or use your own store with --store DIR"),
            ),
            StoreError::Io { source, .. } if is_descriptor_limit(source) => (Code::Store, Some(MORE_FILES)),
            // It says itself which limit that is.
            StoreError::Index { what, .. } if what.contains("`ulimit -u`") => {
                (Code::Store, Some(MORE_THREADS))
            }
            StoreError::Index { what, .. } if what.contains("`ulimit -n`") || is_descriptor_text(what) => {
                (Code::Store, Some(MORE_FILES))
            }
            StoreError::Io { source, path, .. }
                if source.kind() == io::ErrorKind::IsADirectory
                    || (source.kind() == io::ErrorKind::AlreadyExists && path.is_dir()) =>
            {
                (Code::Store, Some("a folder stands where cas keeps a file: move it away"))
            }
            StoreError::Io { .. } => (Code::Store, None),
            StoreError::Index { .. } => (Code::Store, None),
        };
        let failure = Self::chained(code, &error);
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

impl Failure {
    /// An error and all that it says was behind it.
    pub(crate) fn chained(code: Code, error: &dyn std::error::Error) -> Self {
        let mut failure = Self::new(code, error.to_string());
        let mut source = error.source();
        while let Some(cause) = source {
            failure = failure.because(cause);
            source = cause.source();
        }
        failure
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_has_one_number_and_each_number_one_code() {
        for (code, number, _) in CODES {
            assert_eq!(code.number(), *number);
        }
        let mut numbers: Vec<u8> = CODES.iter().map(|(_, number, _)| *number).collect();
        numbers.dedup();
        assert_eq!(numbers, [0, 1, 2, 3, 4, 130, 143]);
    }

    #[test]
    fn the_manual_shows_this_table() {
        let manual = include_str!("../../docs/guide/commands.md");
        for (_, number, meaning) in CODES {
            let line = format!("| {number} | {meaning} |");
            assert!(manual.contains(&line), "docs/guide/commands.md lacks: {line}");
        }
    }

    #[test]
    fn a_limit_that_was_reached_is_named_and_no_other() {
        let check = |what: &str, hint: &str| {
            let dir = std::path::PathBuf::from("/s");
            let failure = Failure::from(StoreError::Index { dir, what: what.to_owned() });
            let hints: Vec<_> =
                failure.problems.iter().filter_map(|problem| problem.hint.as_deref()).collect();
            assert_eq!(hints, [hint], "{what}");
        };
        // Which of the two it was cannot be told, nor how much there was: a number in the hint may be less than that.
        check(
            "no more threads can be started (`ulimit -u`, or the limit of the container): Resource temporarily unavailable",
            "end some, or raise the limit of processes and threads (`ulimit -u`, or that of the container)",
        );
        check("its host has as many files open as it may (`ulimit -n`)", MORE_FILES);
        check("IO error: /s/index/CURRENT: Too many open files", MORE_FILES);
    }

    #[test]
    fn errors_are_told_with_place_excerpt_causes_and_hint() {
        let mut diagnostic = Diagnostic::new("unknown key `comand`").hint("did you mean `command`?");
        diagnostic.place =
            Some(cas_engine::error::Place { file: "pipeline.yaml".into(), line: 3, column: 5 });
        diagnostic.excerpt = Some("3 |     comand: ls\n  |     ^^^^^^".to_owned());
        let failure = Failure::from(EngineError::Source {
            diagnostic,
            source: Some(io::Error::from(io::ErrorKind::NotFound)),
        });
        let mut text = Vec::new();
        failure.write(&mut anstream::StripStream::new(&mut text)).expect("memory takes it");
        assert_eq!(
            String::from_utf8_lossy(&text),
            "error: pipeline.yaml:3:5: unknown key `comand`\n  3 |     comand: ls\n    |     ^^^^^^\n  because entity not \
             found\nhint: did you mean `command`?\n"
        );
        assert_eq!(failure.code, Code::Usage);
    }

    #[test]
    fn a_reader_that_has_gone_is_no_failure() {
        let failure = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!((failure.code, failure.problems.len()), (Code::Done, 0));
    }
}
