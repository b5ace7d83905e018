//! A hermetic folder, and programs run in it: cleared environment, no terminal, everything captured. Depends on none of
//! our crates, so that tests of any of them can use it.
//!
//! Use it with `#[path = "../kit/mod.rs"] mod kit;` from a test of the package that has the binary.

#![allow(dead_code, reason = "each test crate that uses the kit uses another part of it")]
#![allow(clippy::allow_attributes, reason = "an `expect` would fail in the crate that uses all of it")]

mod dispositions;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A folder of a test's own, removed when it is dropped.
pub(crate) struct Folder {
    root: tempfile::TempDir,
    variables: BTreeMap<String, String>,
}

/// What a program left.
#[must_use]
#[derive(Debug, Clone)]
pub(crate) struct Ran {
    /// The words it was called with.
    pub(crate) line: String,
    /// What it wrote to stdout, as it is.
    pub(crate) stdout: String,
    /// What it wrote to stderr, as it is.
    pub(crate) stderr: String,
    /// Its exit code; 128 and the signal's number where a signal ended it.
    pub(crate) code: i32,
    root: PathBuf,
}

impl Folder {
    /// An empty folder.
    pub(crate) fn new() -> Self {
        let root = tempfile::Builder::new().prefix("cas-test-").tempdir().expect("a folder for the test");
        let folder = Self { root, variables: BTreeMap::new() };
        fs::create_dir_all(folder.home()).expect("a home in it");
        fs::create_dir_all(folder.path("")).expect("a project in it");
        folder
    }

    /// A folder with these files.
    pub(crate) fn with(files: &[(&str, &str)]) -> Self {
        let folder = Self::new();
        for (path, text) in files {
            folder.write(path, text);
        }
        folder
    }

    /// Sets a variable for every program that is run from now on.
    pub(crate) fn variable(&mut self, name: &str, value: &str) {
        self.variables.insert(name.to_owned(), value.to_owned());
    }

    /// A path in the project.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.root.path().join("project").join(path)
    }

    fn home(&self) -> PathBuf {
        self.root.path().join("home")
    }

    /// Writes a file, and the folders that it stands in.
    pub(crate) fn write(&self, path: &str, text: impl AsRef<[u8]>) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().expect("a file stands in a folder")).expect("folders can be made");
        fs::write(path, text).expect("files can be written");
    }

    /// Writes an executable file.
    pub(crate) fn write_executable(&self, path: &str, text: &str) {
        self.write(path, text);
        fs::set_permissions(self.path(path), fs::Permissions::from_mode(0o755)).expect("its mode can be set");
    }

    /// The text of a file.
    pub(crate) fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap_or_else(|error| panic!("`{path}`: {error}"))
    }

    /// Whether something stands there.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.path(path).symlink_metadata().is_ok()
    }

    /// The names in a folder, sorted.
    pub(crate) fn names(&self, path: &str) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.path(path))
            .unwrap_or_else(|error| panic!("`{path}`: {error}"))
            .map(|entry| entry.expect("entries can be read").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    /// Runs `cas` with the words of a line.
    pub(crate) fn cas(&self, line: &str) -> Ran {
        self.cas_in("", line)
    }

    /// The same, in a folder of the project.
    pub(crate) fn cas_in(&self, dir: &str, line: &str) -> Ran {
        let words = words(line);
        // Known only to tests of the package that has the binary; those of others run programs of their own.
        let Some(program) = option_env!("CARGO_BIN_EXE_cas") else { panic!("`cas` is another package's") };
        let mut command = self.command(Path::new(program));
        command.current_dir(self.path(dir)).args(&words);
        self.ran(format!("cas {line}"), &command.output().expect("cas can be started"))
    }

    /// A program to run in the project, with the folder's environment and nothing else of this process's; the signals that
    /// this one ignores or blocks are none of it either.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(self.path(""))
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.home())
            .env("TMPDIR", self.root.path())
            .env("LANG", "C.UTF-8")
            .env("TZ", "UTC")
            .envs(&self.variables)
            .stdin(Stdio::null());
        dispositions::reset(&mut command);
        command
    }

    /// What such a program left.
    pub(crate) fn ran(&self, line: String, output: &Output) -> Ran {
        let code = output.status.code().or_else(|| output.status.signal().map(|signal| 128 + signal));
        Ran {
            line,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            code: code.expect("it ended"),
            root: self.root.path().to_owned(),
        }
    }
}

impl Ran {
    /// Asserts that it was done, and gives it back.
    pub(crate) fn ok(self) -> Self {
        self.code(0)
    }

    /// Asserts its exit code, and gives it back.
    pub(crate) fn code(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}", self.transcript());
        self
    }

    /// The last line of stdout.
    pub(crate) fn last_line(&self) -> &str {
        self.stdout.lines().last().unwrap_or("")
    }

    /// The last line of stdout without the time that it ends in: `3 reused, 0 ran`.
    pub(crate) fn counts(&self) -> &str {
        self.last_line().rsplit_once(", ").map_or("", |(counts, _)| counts)
    }

    /// The steps that ran, by the lines that say so, in order.
    pub(crate) fn steps(&self) -> Vec<&str> {
        let ran = self.stderr.lines().filter_map(|line| line.strip_prefix("ran "));
        ran.filter_map(|line| line.split_whitespace().next()).collect()
    }

    /// What a person would see: the line, stdout, stderr (marked), and the code if it is not 0. What differs from run
    /// to run is redacted.
    pub(crate) fn transcript(&self) -> String {
        let mut text = format!("$ {}\n", self.line);
        text.push_str(&self.stdout);
        for line in self.stderr.lines() {
            let _ = writeln!(text, "! {line}");
        }
        if self.code != 0 {
            let _ = writeln!(text, "[{}]", self.code);
        }
        redacted(&text, &self.root)
    }

    /// Asserts what a person would see.
    #[track_caller]
    pub(crate) fn shows(self, expected: &str) {
        let found = self.transcript();
        let expected = expected.trim_start_matches('\n');
        // How long a time is decides how wide its column is, and with it the line of headings above.
        let timed = found.contains("[time]");
        let same = if timed { narrow(&found) == narrow(expected) } else { found == expected };
        assert!(same, "expected:\n{expected}\nfound:\n{found}\n{}", first_difference(expected, &found));
    }
}

/// The text with two blanks wherever two words of a line are further apart.
pub(crate) fn narrow(text: &str) -> String {
    let mut out = String::new();
    for line in text.lines() {
        let words = line.trim_start();
        out.push_str(&line[..line.len() - words.len()]);
        let mut blanks = 0;
        for c in words.chars() {
            blanks = if c == ' ' { blanks + 1 } else { 0 };
            if blanks <= 2 {
                out.push(c);
            }
        }
        out.push('\n');
    }
    out
}

fn first_difference(expected: &str, found: &str) -> String {
    for (number, (a, b)) in expected.lines().zip(found.lines()).enumerate() {
        if a != b {
            return format!("first difference, line {}:\n  expected: {a:?}\n  found:    {b:?}", number + 1);
        }
    }
    "one is longer than the other".to_owned()
}

/// The words of a line: apart by spaces, a word in single quotes may hold some.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![];
    let mut word = None::<String>;
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '\'' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            ' ' if !quoted => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// Takes out what differs from run to run: the folder, hex, times, dates, process ids. A version keeps its width, so
/// that tables stay tables.
pub(crate) fn redacted(text: &str, root: &Path) -> String {
    let text = text.replace(&root.display().to_string(), "[root]");
    let mut out = String::new();
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        let inside_word = at > 0 && bytes[at - 1].is_ascii_alphanumeric();
        if !inside_word {
            let hex = rest.len()
                - rest.trim_start_matches(|c: char| c.is_ascii_digit() || ('a'..='f').contains(&c)).len();
            let ends = !rest[hex..].starts_with(|c: char| c.is_ascii_alphanumeric());
            if ends && (hex == 64 || (hex == 12 && rest[..hex].bytes().any(|b| b.is_ascii_digit()))) {
                out.push_str(&format!("{:<hex$}", "[hex]"));
                at += hex;
                continue;
            }
            if let Some(length) = date(rest) {
                out.push_str("[date]");
                at += length;
                continue;
            }
            if let Some(length) = time(rest) {
                out.push_str("[time]");
                at += length;
                // A shorter time is followed by more blanks in a table.
                let blanks = text[at..].bytes().take_while(|byte| *byte == b' ').count();
                at += blanks.saturating_sub(2);
                continue;
            }
            if let Some(number) = rest.strip_prefix("pid ") {
                let digits = number.len() - number.trim_start_matches(|c: char| c.is_ascii_digit()).len();
                out.push_str("pid [n]");
                at += 4 + digits;
                continue;
            }
        }
        let c = rest.chars().next().expect("there is a rest");
        out.push(c);
        at += c.len_utf8();
    }
    out
}

/// The length of `2026-03-01 14:05:09` at the start of a text, or of the day alone.
fn date(text: &str) -> Option<usize> {
    let fits = |pattern: &str| {
        text.len() >= pattern.len()
            && pattern
                .bytes()
                .zip(text.bytes())
                .all(|(p, t)| if p == b'0' { t.is_ascii_digit() } else { p == t })
    };
    ["0000-00-00 00:00:00", "0000-00-00"].iter().find(|pattern| fits(pattern)).map(|pattern| pattern.len())
}

/// The length of `12.3 s`, `40 ms`, `2 min 5 s` at the start of a text.
fn time(text: &str) -> Option<usize> {
    let mut length = 0;
    loop {
        let rest = &text[length..];
        let rest = if length > 0 { rest.strip_prefix(' ').unwrap_or("") } else { rest };
        let number = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.').len();
        let unit = ["ms", "min", "s", "h", "d"].into_iter().find(|unit| {
            rest[number..]
                .strip_prefix(' ')
                .and_then(|rest| rest.strip_prefix(unit))
                .is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_alphanumeric()))
        });
        match unit {
            Some(unit) if number > 0 && rest.as_bytes()[0].is_ascii_digit() => {
                length = text.len() - rest.len() + number + 1 + unit.len();
            }
            _ => return (length > 0).then_some(length),
        }
    }
}

#[test]
fn what_differs_from_run_to_run_is_redacted_and_nothing_else() {
    let check = |text: &str, expected: &str| assert_eq!(redacted(text, Path::new("/tmp/x")), expected);
    check("/tmp/x/project/a 12.3 s, 4 ms, 2 min 5 s left", "[root]/project/a [time], [time], [time] left");
    check("on 2026-03-01 14:05:09 (pid 123)", "on [date] (pid [n])");
    check("3 steps: 1 stored", "3 steps: 1 stored");
    check("a1b2c3d4e5f6 face", "[hex]        face");
    check("12 reused, 3 ran, 0.8 s", "12 reused, 3 ran, [time]");
    check("8 ms    cas run", "[time]  cas run");
}

#[test]
fn columns_are_as_wide_as_they_like_and_no_word_is_lost() {
    assert_eq!(narrow("  a    b  c d\ne   f"), "  a  b  c d\ne  f\n");
}

#[test]
fn words_are_apart_by_spaces_unless_quoted() {
    assert_eq!(words("run 'train[*]' --set  'a=b c' ''"), ["run", "train[*]", "--set", "a=b c", ""]);
}
