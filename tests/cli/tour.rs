//! A way through a chapter of the guide: the commands that it shows are run in the order in which they stand there, and
//! what they print is what is written below them.
//!
//! Times, dates, sizes and hex may be others. A line `…` stands for any lines, `…` in a line for any text. Steps that ran
//! side by side may stand in another order.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};

use crate::kit::{Folder, narrow, redacted};

/// A command that a chapter shows.
#[derive(Debug)]
pub(crate) struct Shown {
    /// What stands before the `$`: whose machine, or nothing.
    place: String,
    line: String,
    prints: Vec<String>,
}

/// A way through a chapter, in a folder of its own.
pub(crate) struct Tour {
    pub(crate) folder: Folder,
    shown: VecDeque<Shown>,
    pub(crate) yaml: Vec<String>,
}

pub(crate) fn chapter(name: &str) -> String {
    let folder = if name == "README" { ".." } else { "../docs/guide" };
    let path = format!("{}/{folder}/{name}.md", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The text of each block of some kind.
pub(crate) fn blocks(text: &str, kinds: &[&str]) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some(kind) = line.strip_prefix("```") else { continue };
        let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        if kinds.contains(&kind) {
            blocks.push(block.join("\n") + "\n");
        }
    }
    blocks
}

/// A line that begins with a prompt: whose, and what is typed.
fn typed(line: &str) -> Option<(&str, &str)> {
    let (place, line) = line.split_once("$ ")?;
    place.bytes().all(|byte| byte.is_ascii_lowercase()).then_some((place, line))
}

pub(crate) fn shown(text: &str) -> VecDeque<Shown> {
    let mut shown: VecDeque<Shown> = VecDeque::new();
    for block in blocks(text, &["text", "console", "sh"]) {
        let mut inside = false;
        for line in block.lines() {
            if let Some((place, line)) = typed(line) {
                inside = true;
                let (place, line) = (place.to_owned(), line.to_owned());
                shown.push_back(Shown { place, line, prints: Vec::new() });
            } else if let Some(last) = shown.back_mut().filter(|_| inside && !line.is_empty()) {
                last.prints.push(line.to_owned());
            }
        }
    }
    shown
}

/// What may be another from run to run is taken out of a text, of the guide or of a program.
fn plain(text: &str, folder: &Folder) -> Vec<String> {
    let mut words = String::new();
    for line in text.lines() {
        for word in line.split_inclusive(' ') {
            let hex = word.trim_end_matches([' ', ')', ',']).strip_suffix('…').unwrap_or_default();
            if hex.len() >= 4 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                words.push_str(&word.replacen(&format!("{hex}…"), "[hex]", 1));
            } else {
                words.push_str(word);
            }
        }
        words.push('\n');
    }
    let root = folder.path("");
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let text = redacted(&words, root.parent().expect("it lies in a folder"))
        .replace("[root]/srv", "/srv")
        .replace(&format!(" on {host}"), " on lab3");
    // A version keeps its width where it is taken out.
    let text = narrow(&text).replace("[hex]  ", "[hex] ");
    let mut lines: Vec<String> = text.lines().map(|line| sizes(line).trim_end().to_owned()).collect();
    for side_by_side in lines.chunk_by_mut(|one, next| one.starts_with("ran ") && next.starts_with("ran ")) {
        side_by_side.sort();
    }
    lines
}

/// A line without the sizes in it: `12 kB`.
fn sizes(line: &str) -> String {
    let mut words: Vec<&str> = line.split(' ').collect();
    for at in 1..words.len() {
        let number = words[at - 1].trim_start_matches('(');
        let unit = words[at].trim_end_matches([')', ',']);
        if ["B", "kB", "MB", "GB"].contains(&unit) && number.parse::<f64>().is_ok() {
            words[at - 1] = "[size]";
        }
    }
    words.join(" ")
}

/// Whether a line is what the guide says, in which `…` is any text.
fn is_like(line: &str, guide: &str) -> bool {
    let parts: Vec<&str> = guide.split('…').collect();
    let [first, between @ .., last] = parts.as_slice() else { return line == guide };
    let Some(mut rest) = line.strip_prefix(first) else { return false };
    for part in between {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// Whether lines are what the guide says, in which a line `…` is any lines.
fn are_like(lines: &[String], guide: &[String]) -> bool {
    match guide.split_first() {
        None => lines.is_empty(),
        Some((any, guide)) if any == "…" => (0..=lines.len()).any(|skip| are_like(&lines[skip..], guide)),
        Some((first, guide)) => {
            lines.split_first().is_some_and(|(line, lines)| is_like(line, first) && are_like(lines, guide))
        }
    }
}

impl Tour {
    pub(crate) fn of(name: &str) -> Self {
        let text = chapter(name);
        let mut folder = Folder::new();
        let cas = std::path::Path::new(env!("CARGO_BIN_EXE_cas")).parent().expect("it lies in a folder");
        let path = std::env::var("PATH").expect("there is a PATH");
        folder.variable("PATH", &format!("{}:{path}", cas.display()));
        folder.variable("USER", "ada");
        Self { folder, shown: shown(&text), yaml: blocks(&text, &["yaml"]) }
    }

    /// Writes what the guide says of a place outside into the folder of the tour.
    fn outside(&self, text: &str) -> String {
        text.replace("/srv/", &format!("{}/srv/", self.folder.path("").parent().expect("a folder").display()))
    }

    /// With files beside each other.
    pub(crate) fn with(self, files: &[(&str, &str)]) -> Self {
        for (path, text) in files {
            self.folder.write(path, self.outside(text));
        }
        self
    }

    /// With the files of an example of the repository.
    pub(crate) fn example(self, name: &str) -> Self {
        let from = format!("{}/../examples/{name}/.", env!("CARGO_MANIFEST_DIR"));
        let copied = Command::new("cp").args(["-r", &from]).arg(self.folder.path("")).status();
        assert!(copied.expect("cp is there").success());
        for store in ["results", ".cas"] {
            // What somebody ran there is none of this.
            let _ = std::fs::remove_dir_all(self.folder.path(store));
        }
        self
    }

    /// Changes a file.
    pub(crate) fn edits(&self, path: &str, from: &str, to: &str) {
        let text = self.folder.read(path);
        assert!(text.contains(from), "{path}: {text}");
        self.folder.write(path, text.replace(from, to));
    }

    fn next(&mut self, line: &str) -> Shown {
        let shown = self.shown.pop_front().unwrap_or_else(|| panic!("the chapter shows no `{line}`"));
        assert_eq!(shown.line.split("  #").next().unwrap_or_default().trim_end(), line);
        shown
    }

    fn shell(&self, place: &str, line: &str) -> Command {
        let mut command = self.folder.command("/bin/sh".as_ref());
        command.current_dir(self.folder.path(place)).args(["-c", &format!("exec 2>&1\n{line}")]);
        command
    }

    #[track_caller]
    fn compare(&self, shown: &Shown, printed: &str) {
        let found = plain(printed, &self.folder);
        let expected = plain(&shown.prints.join("\n"), &self.folder);
        assert!(
            are_like(&found, &expected),
            "$ {}\nthe guide:\n{}\nfound:\n{}\n",
            shown.line,
            expected.join("\n"),
            found.join("\n")
        );
    }

    /// Runs the next command, which prints what the chapter says.
    #[track_caller]
    pub(crate) fn runs(&mut self, line: &str) {
        let shown = self.next(line);
        let output = self.shell(&shown.place, &shown.line).output().expect("a shell can be started");
        self.compare(&shown, &String::from_utf8_lossy(&output.stdout));
    }

    /// The same, where what stands for a version in the chapter is another here.
    #[track_caller]
    pub(crate) fn runs_with(&mut self, line: &str, version: &str, is: &str) {
        let shown = self.next(line);
        let output = self.shell(&shown.place, &shown.line.replace(version, is)).output();
        self.compare(&shown, &String::from_utf8_lossy(&output.expect("a shell can be started").stdout));
    }

    /// Runs the next command, which goes on until it is interrupted: that is done once it says this.
    #[track_caller]
    pub(crate) fn runs_until(&mut self, line: &str, says: &str) {
        let shown = self.next(line);
        let mut command = self.shell(&shown.place, &format!("exec {}", shown.line));
        let mut child = command.stdout(Stdio::piped()).spawn().expect("a shell can be started");
        let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let mut printed = String::new();
        while !printed.contains(says) {
            printed += &lines.next().expect("it says more").expect("it is text");
            printed.push('\n');
        }
        let sent = Command::new("kill").args(["-s", "INT", &child.id().to_string()]).status();
        assert!(sent.expect("kill is there").success());
        assert_eq!(child.wait().expect("it ends").code(), Some(0));
        self.compare(&shown, &printed);
    }

    /// Runs the next command, and types what the chapter shows behind it at another prompt.
    #[track_caller]
    pub(crate) fn runs_typing(&mut self, line: &str, then: &[&str]) {
        let mut shown = self.next(line);
        let mut child = self
            .shell(&shown.place, &shown.line)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell can be started");
        let mut input = child.stdin.take().expect("it is piped");
        for line in then {
            let mut next = self.next(line);
            writeln!(input, "{line}").expect("it takes it");
            shown.prints.append(&mut next.prints);
        }
        drop(input);
        let output = child.wait_with_output().expect("it ends");
        self.compare(&shown, &String::from_utf8_lossy(&output.stdout));
    }

    /// Leaves out the next command, which is not for a test.
    pub(crate) fn leaves_out(&mut self, line: &str) {
        let _ = self.next(line);
    }
}

impl Drop for Tour {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert!(self.shown.is_empty(), "not tried: {:?}", self.shown);
        }
    }
}

#[test]
fn what_is_left_out_in_the_guide_is_any_text_and_nothing_else_is() {
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let check = |found: &str, guide: &str, like: bool| {
        assert_eq!(are_like(&lines(found), &lines(guide)), like, "{found:?} {guide:?}");
    };
    check("a\nb\nc", "a\n…\nc", true);
    check("a\nc", "a\n…\nc", true);
    check("a\nb\nc", "a\n…\nd", false);
    check("made 12 of 13", "made … of 13", true);
    check("made 12 of 13", "made … of 1", false);
    check("made 12 of 13", "made …", true);
    check("x", "", false);
    let typed = shown("```text\nada$ cas ls  # all\nx\n\nbob$ cas ls\n```\n```yaml\n$ cas no\n```\n");
    let typed: Vec<_> = typed.iter().map(|one| (&*one.place, &*one.line, one.prints.len())).collect();
    assert_eq!(typed, [("ada", "cas ls  # all", 1), ("bob", "cas ls", 0)]);
    assert_eq!(
        sizes("results with 1 blob (19 B), 2.5 MB more"),
        "results with 1 blob [size] B), [size] MB more"
    );
}
