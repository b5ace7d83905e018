//! A terminal that a program can be started on, and what stands on its screen. Beside the kit, because not every test
//! that uses the kit has what this needs.

#![allow(dead_code, reason = "each test crate that uses it uses another part of it")]
#![allow(clippy::allow_attributes, reason = "an `expect` would fail in the crate that uses all of it")]

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::process::{Child, Command, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

/// How many rows that went off the screen are kept.
const DEPTH: usize = 20_000;

/// A program on a terminal of so many rows and columns.
pub(crate) struct Terminal {
    child: Child,
    pub(crate) screen: vt100::Parser,
    master: File,
    /// All that was written to it.
    pub(crate) bytes: Vec<u8>,
}

impl Terminal {
    /// Starts a program of the folder, with this screen as what it writes to.
    pub(crate) fn start(mut command: Command, (rows, columns): (u16, u16)) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&master).and_then(|()| unlockpt(&master)).expect("it is ours");
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&master, size).expect("it has a size");
        let name = ptsname(&master, Vec::new()).expect("it has a name").into_string().expect("text");
        const O_NOCTTY: i32 = 0o400;
        let end = File::options().read(true).write(true).custom_flags(O_NOCTTY).open(name).expect("its end");
        command
            .stdin(end.try_clone().expect("another"))
            .stdout(end.try_clone().expect("another"))
            .stderr(Stdio::from(end));
        let child = command.spawn().expect("cas can be started");
        // Ours goes: then the terminal ends with the child.
        drop(command);
        let screen = vt100::Parser::new(cells(rows), cells(columns), DEPTH);
        Self { child, screen, master: File::from(master), bytes: Vec::new() }
    }

    /// The process that was started.
    pub(crate) fn child(&self) -> rustix::process::Pid {
        rustix::process::Pid::from_child(&self.child)
    }

    /// Takes in what is written next; false at the end.
    pub(crate) fn read(&mut self) -> bool {
        /// Whoever waits for what never comes is told, and what stood there instead.
        const PATIENCE: Timespec = Timespec { tv_sec: 100, tv_nsec: 0 };
        let mut polled = [PollFd::new(&self.master, PollFlags::IN)];
        let ready = poll(&mut polled, Some(&PATIENCE)).expect("it can be waited for");
        assert!(ready > 0, "nothing more is written:\n{}", self.screen.screen().contents());
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
    pub(crate) fn until(&mut self, text: &str) -> Vec<String> {
        self.when(|screen| screen.contains(text))
    }

    /// Reads until the screen is like this; gives its rows.
    pub(crate) fn when(&mut self, is: impl Fn(&str) -> bool) -> Vec<String> {
        // A program that draws forever what it should not is ended as well.
        let began = std::time::Instant::now();
        while !is(&self.screen.screen().contents()) {
            let goes_on = self.read() && began.elapsed().as_secs() < 100;
            assert!(goes_on, "it never came:\n{}", self.screen.screen().contents());
        }
        self.rows()
    }

    /// Reads to the end; gives the rows, and how it ended.
    pub(crate) fn end(mut self) -> (Vec<String>, Vec<u8>, bool) {
        while self.read() {}
        let ended = self.child.wait().expect("it ends").success();
        (self.rows(), std::mem::take(&mut self.bytes), ended)
    }

    /// The rows that something stands in.
    pub(crate) fn rows(&self) -> Vec<String> {
        let (_, columns) = self.screen.screen().size();
        let rows = self.screen.screen().rows(0, columns.get()).map(|row| row.trim_end().to_owned());
        rows.filter(|row| !row.is_empty()).map(|row| timeless(&row)).collect()
    }

    pub(crate) fn resize(&mut self, rows: u16, columns: u16) {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&self.master, size).expect("it has a size");
        self.screen.screen_mut().set_size(cells(rows), cells(columns));
    }

    /// Types something.
    pub(crate) fn type_in(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).expect("somebody listens");
    }

    /// The rows that went off the screen at its top, then those on it; those that something stands in.
    pub(crate) fn all_rows(&mut self) -> Vec<String> {
        let (height, columns) = self.screen.screen().size();
        let screen = self.screen.screen_mut();
        screen.set_scrollback(DEPTH);
        let mut above = screen.scrollback();
        let mut rows = Vec::new();
        // A page at a time, from the top.
        while above > 0 {
            screen.set_scrollback(above);
            let page = above.min(usize::from(height.get()));
            rows.extend(screen.rows(0, columns.get()).take(page));
            above -= page;
        }
        screen.set_scrollback(0);
        rows.extend(screen.rows(0, columns.get()));
        let rows = rows.iter().map(|row| row.trim_end()).filter(|row| !row.is_empty());
        rows.map(timeless).collect()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn cells(count: u16) -> std::num::NonZero<u16> {
    std::num::NonZero::new(count).expect("a screen has some")
}

/// A row without its times, and with two blanks at most in a row.
pub(crate) fn timeless(row: &str) -> String {
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
