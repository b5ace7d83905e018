//! The live view of a run, on a terminal that is one: what stands on its screen, at any moment and in the end.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::kit::Folder;

/// `cas` on a terminal of so many rows and columns.
struct Terminal {
    child: Child,
    screen: vt100::Parser,
    master: File,
    /// All that was written to it.
    bytes: Vec<u8>,
}

impl Terminal {
    fn start(folder: &Folder, (rows, columns): (u16, u16), words: &[&str], vars: &[(&str, &str)]) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&master).and_then(|()| unlockpt(&master)).expect("it is ours");
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&master, size).expect("it has a size");
        let name = ptsname(&master, Vec::new()).expect("it has a name").into_string().expect("text");
        const O_NOCTTY: i32 = 0o400;
        let end = File::options().read(true).write(true).custom_flags(O_NOCTTY).open(name).expect("its end");
        let mut command = folder.command(env!("CARGO_BIN_EXE_cas").as_ref());
        command.args(words).env("TERM", "xterm-256color").envs(vars.iter().copied());
        command.stdout(end.try_clone().expect("another")).stderr(Stdio::from(end));
        let child = command.spawn().expect("cas can be started");
        // Ours goes: then the terminal ends with the child.
        drop(command);
        let screen = vt100::Parser::new(cells(rows), cells(columns), 200);
        Self { child, screen, master: File::from(master), bytes: Vec::new() }
    }

    /// Takes in what is written next; false at the end.
    fn read(&mut self) -> bool {
        let mut bytes = [0; 4096];
        match self.master.read(&mut bytes) {
            // A terminal whose other end is closed gives an error.
            Ok(0) | Err(_) => false,
            Ok(count) => {
                self.screen.process(&bytes[..count]);
                self.bytes.extend_from_slice(&bytes[..count]);
                true
            }
        }
    }

    /// Reads until the screen shows this; gives its rows.
    fn until(&mut self, text: &str) -> Vec<String> {
        while !self.screen.screen().contents().contains(text) {
            assert!(self.read(), "it ended without `{text}`:\n{}", self.screen.screen().contents());
        }
        self.rows()
    }

    /// Reads to the end; gives the rows, and how it ended.
    fn end(mut self) -> (Vec<String>, Vec<u8>, bool) {
        while self.read() {}
        let ended = self.child.wait().expect("it ends").success();
        (self.rows(), std::mem::take(&mut self.bytes), ended)
    }

    /// The rows that something stands in.
    fn rows(&self) -> Vec<String> {
        let (_, columns) = self.screen.screen().size();
        let rows = self.screen.screen().rows(0, columns.get()).map(|row| row.trim_end().to_owned());
        rows.filter(|row| !row.is_empty()).map(|row| timeless(&row)).collect()
    }

    fn resize(&mut self, rows: u16, columns: u16) {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&self.master, size).expect("it has a size");
        self.screen.screen_mut().set_size(cells(rows), cells(columns));
    }
}

fn cells(count: u16) -> std::num::NonZero<u16> {
    std::num::NonZero::new(count).expect("a screen has some")
}

/// A row without its times, and with two blanks at most in a row.
fn timeless(row: &str) -> String {
    let words: Vec<&str> = row.split(' ').collect();
    let mut out: Vec<String> = Vec::new();
    for (at, word) in words.iter().enumerate() {
        let unit = words.get(at + 1).map(|unit| unit.trim_end_matches(','));
        let number = word.parse::<f64>().is_ok() && matches!(unit, Some("ms" | "s" | "min"));
        out.push(if number { "T".to_owned() } else { (*word).to_owned() });
    }
    let mut row = out.join(" ");
    while row.contains("   ") {
        row = row.replace("   ", "  ");
    }
    row.replace("T ms", "T s").replace("T min", "T s")
}

/// Steps that wait at a pipe each.
fn waiting(names: &[&str], extra: &str) -> Folder {
    let folder = Folder::new();
    let mut yaml = "pipeline: p\nsolids:\n".to_owned();
    for name in names {
        let pipe = folder.path(&format!("pipe_{name}"));
        assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo is there").success());
        yaml += &format!("  {name}: {{command: 'read x < {}', outputs: []}}\n", pipe.display());
    }
    folder.write("pipeline.yaml", yaml + extra);
    folder
}

fn go_on(folder: &Folder, name: &str) {
    let pipe = folder.path(&format!("pipe_{name}"));
    writeln!(File::options().write(true).open(pipe).expect("a pipe"), "go on").expect("somebody reads it");
}

#[test]
fn the_screen_shows_what_runs_and_in_the_end_only_what_ran() {
    let folder = waiting(&["a", "b"], "  c: {command: 'true', outputs: []}\n");
    let mut terminal = Terminal::start(&folder, (24, 80), &["run", "-j", "2"], &[]);
    let rows = terminal.until("2 running");
    assert_eq!(
        rows,
        ["run 1 of p: 3 steps to run", "  a  T s", "  b  T s", "0 reused, 0 ran, 2 running, 1 left, T s"]
    );
    go_on(&folder, "a");
    terminal.until("1 running");
    go_on(&folder, "b");
    let (rows, _, ended) = terminal.end();
    let mut ran: Vec<&str> = rows[1..4].iter().map(String::as_str).collect();
    ran.sort_unstable();
    assert_eq!(ran, ["a", "b", "c"].map(|step| format!("ran  {step}  T s  for the first time")));
    assert_eq!((rows[0].as_str(), rows[4].as_str()), ("run 1 of p: 3 steps to run", "0 reused, 3 ran, T s"));
    assert!(ended && rows.len() == 5, "{rows:?}");
}

#[test]
fn long_and_wide_names_fit_a_narrow_screen_and_keep_both_ends() {
    let (long, wide) = ("a_name_that_is_longer_than_the_screen_is_wide_end1", "日本語".repeat(10));
    // A pipe for each: of two readers of one, one could take both lines.
    let folder = waiting(&[long, "w"], "");
    let text = folder.read("pipeline.yaml").replace("  w: {", &format!("  w: {{matrix: {{n: [{wide}]}}, "));
    folder.write("pipeline.yaml", text);
    let mut terminal = Terminal::start(&folder, (10, 40), &["run", "-j", "2"], &[]);
    let rows = terminal.until("2 running");
    // As many rows as a third of so low a screen has room for.
    assert!(
        rows[1].starts_with("  a_name_that_") && rows[1].contains("…") && rows[1].contains("_end1  T s"),
        "{rows:?}"
    );
    assert!(rows.iter().any(|row| row.contains("and 1 more")), "{rows:?}");
    assert!(rows.last().is_some_and(|row| row.starts_with("0 reused, 0 ran, 2 running")), "{rows:?}");
    go_on(&folder, long);
    go_on(&folder, "w");
    let (rows, _, _) = terminal.end();
    assert!(rows.iter().all(|row| !row.contains("running")), "{rows:?}");
}

#[test]
fn a_screen_that_is_resized_while_steps_run_shows_each_thing_once() {
    let folder = waiting(&["a", "b"], "");
    let mut terminal = Terminal::start(&folder, (24, 80), &["run", "-j", "2"], &[]);
    terminal.until("2 running");
    terminal.resize(30, 120);
    go_on(&folder, "a");
    terminal.until("1 running");
    terminal.resize(20, 100);
    go_on(&folder, "b");
    let (rows, _, ended) = terminal.end();
    assert!(ended);
    let mut ran = rows[1..3].to_vec();
    ran.sort_unstable();
    assert_eq!(ran, ["a", "b"].map(|step| format!("ran  {step}  T s  for the first time")));
    assert_eq!((rows.len(), rows[3].as_str()), (4, "0 reused, 2 ran, T s"), "{rows:?}");
}

#[test]
fn in_ci_and_on_a_dumb_terminal_lines_are_all_there_is() {
    for vars in [("CI", "true"), ("TERM", "dumb")] {
        let folder =
            Folder::with(&[("pipeline.yaml", "pipeline: p\nsolids:\n  a: {command: 'true', outputs: []}\n")]);
        let (rows, bytes, _) = Terminal::start(&folder, (24, 80), &["run"], &[vars]).end();
        assert_eq!(rows.len(), 3, "{rows:?}");
        let text = String::from_utf8_lossy(&bytes);
        // Nothing moves the cursor or clears anything.
        assert!(!text.contains("\x1b[J"), "{text:?}");
    }
}

#[test]
fn no_color_means_none() {
    let folder =
        Folder::with(&[("pipeline.yaml", "pipeline: p\nsolids:\n  a: {command: 'exit 1', outputs: []}\n")]);
    let coloured = |vars: &[(&str, &str)]| {
        let (_, bytes, _) = Terminal::start(&folder, (24, 80), &["run"], vars).end();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        text.split("\x1b[").skip(1).any(|code| {
            code.split(|c: char| c.is_ascii_alphabetic())
                .next()
                .is_some_and(|n| code[n.len()..].starts_with('m'))
        })
    };
    assert!(coloured(&[]));
    assert!(!coloured(&[("NO_COLOR", "1")]));
}

#[test]
fn hundreds_of_steps_are_drawn_no_more_often_than_ten_times_a_second() {
    let numbers: Vec<String> = (0..400).map(|n| n.to_string()).collect();
    let yaml = format!(
        "pipeline: p\nsolids:\n  each: {{matrix: {{n: [{}]}}, command: 'true', outputs: []}}\n",
        numbers.join(", ")
    );
    let folder = Folder::with(&[("pipeline.yaml", &yaml)]);
    let began = Instant::now();
    let (rows, bytes, ended) = Terminal::start(&folder, (24, 80), &["run"], &[]).end();
    let took = began.elapsed();
    assert!(ended);
    assert_eq!(rows.last().map(String::as_str), Some("0 reused, 400 ran, T s"));
    assert!(rows.iter().any(|row| row.starts_with("why  each[*]  400 of 400")), "{rows:?}");
    let text = String::from_utf8_lossy(&bytes);
    let frames = text.matches("\x1b[J").count() as u128;
    assert!(frames <= took.as_millis() / Duration::from_millis(100).as_millis() + 3, "{frames} in {took:?}");
    // Ten of them are told one by one.
    assert_eq!(
        text.matches("ran\u{1b}[0m").count().max(text.matches("ran      ").count()),
        10,
        "{}",
        text.len()
    );
}
