//! The status area at the bottom of a terminal. [`frame`] is pure: it says what the area shows; [`Live`] puts it there
//! and takes it away.
//!
//! Between two frames the cursor stands at the beginning of the area, not behind it. A terminal whose size changes
//! may break its lines anew, or cut them: which of the two it does cannot be asked, and so nobody can tell how many
//! rows the area has become. But the cursor stays with the text it stands at, and everything below it is ours.

use std::io::Write;
use std::time::Instant;

use rustix::process::getpgrp;
use rustix::termios::tcgetpgrp;
use unicode_width::UnicodeWidthStr;

use super::progress::Progress;
use super::words::{self, cut};

/// From here on, what does not fit into a line is cut; and the usual again.
const NO_WRAP: &str = "\x1b[?7l";
const WRAP: &str = "\x1b[?7h";
/// Clears from the beginning of the line to the end of the screen.
const CLEAR: &str = "\r\x1b[J";

/// The columns and the rows of a screen.
type Size = (usize, usize);

/// The area as it was drawn last.
#[derive(Debug, Default)]
pub(crate) struct Live {
    drawn: Option<(Vec<String>, Size)>,
}

impl Live {
    /// Takes the area away, so that lines can be printed where it was.
    pub(crate) fn clear(&mut self) {
        if self.drawn.take().is_some() {
            write(CLEAR);
        }
    }

    /// Draws the area, over what was there; what is new to be read goes above it.
    pub(crate) fn draw(&mut self, new: &str, progress: &Progress, now: Instant) {
        if is_in_background() {
            // Whoever works at the terminal is not to find an area drawn over what they type.
            self.clear();
            write(new);
            return;
        }
        let size = size();
        if let Some(text) = self.over(new, frame(progress, now, size.0, size.1), size) {
            write(&text);
        }
    }

    /// What is written so that the frame stands there, below what is new; nothing, where all stands there already.
    fn over(&mut self, new: &str, frame: Vec<String>, size: Size) -> Option<String> {
        let next = Some((frame, size));
        if new.is_empty() && self.drawn == next {
            return None;
        }
        let mut text = if self.drawn.is_some() { CLEAR.to_owned() } else { String::new() };
        self.drawn = next;
        let (frame, _) = self.drawn.as_ref()?;
        text.push_str(new);
        // A multiplexer may tell of another width before its screen has it, or after: a line that is too long for the
        // moment is cut by the terminal, and never becomes two.
        text.push_str(NO_WRAP);
        text.push_str(&frame.join("\n"));
        text.push_str(WRAP);
        text.push('\r');
        if frame.len() > 1 {
            text.push_str(&format!("\x1b[{}A", frame.len() - 1));
        }
        Some(text)
    }
}

/// One write: a terminal that draws between two would flicker.
fn write(text: &str) {
    let mut to = std::io::stderr().lock();
    let _ = to.write_all(text.as_bytes());
    let _ = to.flush();
}

fn size() -> Size {
    terminal_size::terminal_size_of(std::io::stderr()).map_or((80, 24), |(columns, rows)| {
        // A terminal that nobody has told its size says 0.
        match (usize::from(columns.0), usize::from(rows.0)) {
            (0, _) | (_, 0) => (80, 24),
            (columns, rows) => (columns.max(10), rows),
        }
    })
}

/// Whether somebody else has the terminal now: `cas run &`, or `bg` after Ctrl-Z. One that is not ours to ask about is
/// written to as ever.
fn is_in_background() -> bool {
    tcgetpgrp(std::io::stderr()).is_ok_and(|group| group != getpgrp())
}

/// The lines of the area: what runs and for how long, then a line of counts. Never wider than the terminal less one
/// column (a full line would wrap in some), and a third of its height at most.
pub(crate) fn frame(progress: &Progress, now: Instant, columns: usize, rows: usize) -> Vec<String> {
    let columns = columns.saturating_sub(1);
    let shown = (rows / 3).saturating_sub(2).clamp(1, 12);
    let mut lines = Vec::new();
    let time = |since: &Instant| words::ticking(now.saturating_duration_since(*since));
    let times: Vec<String> = progress.running.iter().take(shown).map(|(_, since)| time(since)).collect();
    let latest = times.iter().map(|time| time.width()).max().unwrap_or(0);
    let name = |step: &str| cut(&words::on_a_line(step), columns.saturating_sub(latest + 4)).into_owned();
    let names: Vec<String> = progress.running.iter().take(shown).map(|(step, _)| name(step)).collect();
    // The times stand below each other, and no further to the right than the names need: a line that is as wide as the
    // screen is broken by most terminals when they become narrower, and a short one is not.
    let longest = names.iter().map(|name| name.width()).max().unwrap_or(0);
    for (name, time) in names.iter().zip(&times) {
        let gap = longest + latest + 2 - name.width() - time.width();
        lines.push(fitting(format!("  {name}{}{time}", " ".repeat(gap)), columns));
    }
    if progress.running.len() > shown {
        let more = words::thousands(progress.running.len() - shown);
        lines.push(fitting(format!("  … and {more} more"), columns));
    }
    if let Some((step, what)) = progress.waiting.first().filter(|_| lines.len() < shown) {
        let others = match progress.waiting.len() - 1 {
            0 => String::new(),
            others => format!(" and {others} more"),
        };
        let line = format!("  {}{others}  waits for {what}", words::on_a_line(step));
        lines.push(fitting(line, columns));
    }
    let mut parts = vec![format!("{} reused", words::thousands(progress.reused))];
    parts.push(format!("{} ran", words::thousands(progress.ran)));
    if !progress.failed.is_empty() {
        parts.push(format!("{} failed", progress.failed.len()));
    }
    if !progress.running.is_empty() {
        parts.push(format!("{} running", progress.running.len()));
    }
    if progress.left() > 0 {
        parts.push(format!("{} left", words::thousands(progress.left())));
    }
    if progress.runs_left > 0 {
        parts.push(format!("{} to come", words::count(progress.runs_left, "combination")));
    }
    parts.push(words::ticking(progress.elapsed(now)));
    if let Some(time) = progress.time_left(now) {
        parts.push(format!("about {} to go", words::ticking(time)));
    }
    // Where not all fits, the last things go first, whole.
    while parts.len() > 2 && parts.join(", ").width() > columns {
        parts.pop();
    }
    lines.push(fitting(parts.join(", "), columns));
    lines
}

fn fitting(line: String, columns: usize) -> String {
    cut(&line, columns).into_owned()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use cas_engine::event::Event;

    use super::*;

    fn running(steps: usize, zero: Instant) -> Progress {
        let mut progress = Progress::new(zero);
        progress.absorb(
            &Event::RunStarted {
                run: 1,
                pipeline: "p".to_owned(),
                mode: None,
                steps: 100,
                to_run: 20,
                jobs: 8,
                at_ms: 0,
            },
            zero,
        );
        for step in 0..steps {
            progress.absorb(
                &Event::StepStarted {
                    step: format!("train[seed={step}]"),
                    attempt: 1,
                    worker: 0,
                    why: None,
                    at_ms: 0,
                },
                zero,
            );
        }
        progress
    }

    #[test]
    fn the_area_shows_what_runs_and_what_is_left() {
        let zero = Instant::now();
        let lines = frame(&running(2, zero), zero + Duration::from_secs(12), 80, 24);
        assert_eq!(
            lines,
            ["  train[seed=0]  12 s", "  train[seed=1]  12 s", "0 reused, 0 ran, 2 running, 18 left, 12 s",]
        );
    }

    #[test]
    fn what_waits_says_for_what_it_was_told_of_last() {
        let zero = Instant::now();
        let mut progress = running(0, zero);
        let mut waits = |step: &str, limits: &[&str], by: &str| {
            let limits = limits.iter().map(|limit| (*limit).to_owned()).collect();
            let (step, by) = (step.to_owned(), by.to_owned());
            progress.absorb(&Event::StepWaits { step, limits, by, at_ms: 0 }, zero);
            frame(&progress, zero, 80, 24).swap_remove(0)
        };
        assert_eq!(
            waits("train", &[], "`cas run` (pid 7)"),
            "  train  waits for `cas run` (pid 7), which makes it"
        );
        let stopped = "  train  waits for the stopped `cas run` (pid 7), which makes it";
        assert_eq!(waits("train", &[], "the stopped `cas run` (pid 7)"), stopped);
        assert_eq!(
            waits("train", &["gpu", "net"], "`cas run` (pid 8)"),
            "  train  waits for gpu and net of `cas run` (pid 8)"
        );
        assert_eq!(
            waits("test", &[], "`cas run` (pid 8)"),
            "  train and 1 more  waits for gpu and net of `cas run` (pid 8)"
        );
        // After a minute in which nothing happened, where there is no terminal.
        let said = progress.sign_of_life(zero);
        assert_eq!(said.as_deref(), Some("waiting   train  for gpu and net of `cas run` (pid 8)"));
    }

    #[test]
    fn times_stand_below_each_other_and_names_give_way() {
        let zero = Instant::now();
        let mut progress = running(1, zero);
        let long = Event::StepStarted {
            step: "a_step_with_a_name".to_owned(),
            attempt: 1,
            worker: 0,
            why: None,
            at_ms: 0,
        };
        progress.absorb(&long, zero + Duration::from_secs(60));
        let lines = frame(&progress, zero + Duration::from_secs(65), 40, 24);
        assert_eq!(lines[..2], ["  train[seed=0]       1 min 5 s", "  a_step_with_a_name        5 s"]);
        let lines = frame(&progress, zero + Duration::from_secs(65), 27, 24);
        assert_eq!(lines[..2], ["  train[seed=0]  1 min 5 s", "  a_step…a_name        5 s"]);
    }

    #[test]
    fn no_line_is_as_wide_as_the_terminal_and_the_area_stays_low() {
        let zero = Instant::now();
        for columns in [10, 20, 79, 80, 200] {
            for rows in [3, 10, 24, 100] {
                let lines = frame(&running(20, zero), zero + Duration::from_secs(4000), columns, rows);
                assert!(lines.len() <= (rows / 3).max(3), "{rows} rows: {lines:?}");
                for line in lines {
                    assert!(line.width() < columns, "{columns} columns: {line}");
                }
            }
        }
    }

    /// A terminal, and what becomes of it when its width changes.
    struct Terminal {
        screen: vt100::Parser,
        /// Whether it breaks its lines anew, as most do, or cuts them.
        reflows: bool,
        size: Size,
        /// Everything that went above the area, in lines.
        told: Vec<String>,
    }

    const DEPTH: usize = 10_000;

    fn parser((columns, rows): Size) -> vt100::Parser {
        let cells =
            |count: usize| u16::try_from(count).ok().and_then(std::num::NonZero::new).expect("a size");
        vt100::Parser::new(cells(rows), cells(columns), DEPTH)
    }

    impl Terminal {
        fn new(size: Size, reflows: bool) -> Self {
            Self { screen: parser(size), reflows, size, told: Vec::new() }
        }

        fn write(&mut self, text: &str) {
            self.screen.process(text.replace('\n', "\r\n").as_bytes());
        }

        /// Every line from the top of what was scrolled away on, broken ones whole, and where the cursor is in them.
        fn lines(&mut self) -> (Vec<String>, (usize, usize)) {
            let (columns, rows) = self.size;
            let screen = self.screen.screen_mut();
            let (row, column) = screen.cursor_position();
            screen.set_scrollback(DEPTH);
            let above = screen.scrollback();
            let mut all: Vec<(String, bool)> = Vec::new();
            for at in 0..above + rows {
                // So far is it scrolled back that the row which is asked for is the first of the screen, or all the way
                // down.
                let back = above.saturating_sub(at);
                screen.set_scrollback(back);
                let within = at - (above - back);
                let text = screen.rows(0, u16::try_from(columns).expect("a size")).nth(within);
                let wrapped = screen.row_wrapped(u16::try_from(within).expect("a size"));
                all.push((text.unwrap_or_default(), wrapped));
            }
            screen.set_scrollback(0);
            let mut lines: Vec<String> = vec![String::new()];
            let mut cursor = (0, 0);
            for (at, (text, wrapped)) in all.iter().enumerate() {
                let last = lines.len() - 1;
                if at == above + usize::from(row) {
                    cursor = (last, lines[last].width() + usize::from(column));
                }
                lines[last].push_str(text);
                if !wrapped {
                    lines.push(String::new());
                }
            }
            (lines, cursor)
        }

        /// Gives it another width: what was broken becomes whole, what is too long breaks, and the cursor stays at what
        /// it stood at. Or what is too long is lost.
        fn resize(&mut self, columns: usize) {
            let (lines, (line, column)) = self.lines();
            self.size.0 = columns;
            if !self.reflows {
                let cells = |count: usize| {
                    u16::try_from(count).ok().and_then(std::num::NonZero::new).expect("a size")
                };
                self.screen.screen_mut().set_size(cells(self.size.1), cells(columns));
                return;
            }
            let last = lines.iter().rposition(|line| !line.trim_end().is_empty()).map_or(0, |last| last + 1);
            let last = last.max(line + 1);
            self.screen = parser(self.size);
            let text: Vec<&str> = lines[..last].iter().map(|line| line.trim_end()).collect();
            self.write(&text.join("\n"));
            // From the line that the cursor is in on, as many rows as its text now has.
            let rows = |line: &str| line.width().div_ceil(columns).max(1);
            let below: usize = text[line + 1..].iter().map(|line| rows(line)).sum();
            let up = below + rows(text[line]) - 1 - column / columns;
            let up = if up > 0 { format!("\x1b[{up}A") } else { String::new() };
            let right =
                if column % columns > 0 { format!("\x1b[{}C", column % columns) } else { String::new() };
            self.write(&format!("\r{up}{right}"));
        }

        fn shown(&mut self) -> Vec<String> {
            let (lines, _) = self.lines();
            let mut lines: Vec<String> = lines.iter().map(|line| line.trim_end().to_owned()).collect();
            lines.truncate(lines.iter().rposition(|line| !line.is_empty()).map_or(0, |last| last + 1));
            lines
        }
    }

    /// Whatever becomes of the width between two frames, and whichever of the two a terminal does then: what was told
    /// stands there, each line once, and below it the frame; in the end nothing else than what was told.
    #[test]
    fn a_terminal_of_any_size_shows_what_was_told_and_one_frame_below_it() {
        use proptest::prelude::*;
        let change = prop_oneof![
            3 => (0usize..6).prop_map(|told| (told, None)),
            2 => (20usize..120).prop_map(|columns| (0, Some(columns))),
        ];
        let changes = prop::collection::vec(change, 1..24);
        let sizes = (20usize..120, 12usize..40);
        proptest!(ProptestConfig::with_cases(256), |(size in sizes, reflows: bool, changes in changes)| {
            let zero = Instant::now();
            let (mut live, mut terminal) = (Live::default(), Terminal::new(size, reflows));
            for (moment, (told, columns)) in changes.into_iter().enumerate() {
                if let Some(columns) = columns {
                    terminal.resize(columns);
                }
                let new: Vec<String> = (0..told).map(|line| format!("ran {moment}.{line} for")).collect();
                let now = zero + Duration::from_secs(moment as u64);
                let frame = frame(&running(moment % 5, zero), now, terminal.size.0, terminal.size.1);
                let text = new.iter().map(|line| format!("{line}\n")).collect::<String>();
                let written = live.over(&text, frame.clone(), terminal.size);
                terminal.write(&written.unwrap_or_default());
                terminal.told.extend(new);
                let expected: Vec<String> = terminal.told.iter().chain(&frame).cloned().collect();
                prop_assert_eq!(terminal.shown(), expected);
            }
            if live.drawn.is_some() {
                terminal.write(CLEAR);
            }
            prop_assert_eq!(terminal.shown(), terminal.told);
        });
    }

    #[test]
    fn what_stands_there_already_is_not_written_again() {
        let zero = Instant::now();
        let mut live = Live::default();
        let mut drawn = |tenths: u64, new: &str, size: Size| {
            let progress = running(2, zero);
            let frame = frame(&progress, zero + Duration::from_millis(100 * tenths), size.0, size.1);
            live.over(new, frame, size).map_or(0, |text| text.len())
        };
        // Nothing happens for ten seconds of a hundred frames: so many are written as the clock ticks.
        let written: Vec<usize> = (0..100).map(|tenths| drawn(tenths, "", (80, 24))).collect();
        assert_eq!(written.iter().filter(|bytes| **bytes > 0).count(), 10);
        assert!(written.iter().sum::<usize>() < 10 * 300, "{written:?}");
        // What is new, and another size, are.
        assert!(drawn(99, "ran\n", (80, 24)) > 0);
        assert_eq!(drawn(99, "", (80, 24)), 0);
        assert!(drawn(99, "", (79, 24)) > 0);
    }
}
