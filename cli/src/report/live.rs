//! The status area at the bottom of a terminal. [`frame`] is pure: it says what the area shows; [`Live`] puts it there
//! and takes it away.

use std::io::Write;
use std::time::Instant;

use unicode_width::UnicodeWidthStr;

use super::progress::Progress;
use super::words::{self, cut};

/// From here on, what does not fit into a line is cut; and the usual again.
const NO_WRAP: &str = "\x1b[?7l";
const WRAP: &str = "\x1b[?7h";

/// The area as it was drawn last.
#[derive(Debug, Default)]
pub(crate) struct Live {
    /// The widths of the lines that stand there.
    lines: Vec<usize>,
}

impl Live {
    /// Takes the area away, so that lines can be printed where it was.
    pub(crate) fn clear(&mut self) {
        if self.lines.is_empty() {
            return;
        }
        let mut to = std::io::stderr().lock();
        let _ = to.write_all(self.erase(columns()).as_bytes());
        let _ = to.flush();
        self.lines.clear();
    }

    /// Draws the area, over what was there; what is new to be read goes above it.
    pub(crate) fn draw(&mut self, new: &str, progress: &Progress, now: Instant) {
        let (columns, rows) = (columns(), rows());
        let frame = frame(progress, now, columns, rows);
        let mut text = self.erase(columns);
        text.push_str(new);
        // A multiplexer may tell of another width before its screen has it, or after: a line that is too long for the
        // moment is cut by the terminal, and never becomes two, so that the next frame finds as many as there are.
        text.push_str(NO_WRAP);
        for line in &frame {
            text.push_str(line);
            text.push('\n');
        }
        text.push_str(WRAP);
        self.lines = frame.iter().map(|line| line.width()).collect();
        // One write: a terminal that draws between two would flicker.
        let mut to = std::io::stderr().lock();
        let _ = to.write_all(text.as_bytes());
        let _ = to.flush();
    }

    /// What moves to the first row of the area and clears from there. A terminal that became narrower has broken the
    /// lines anew, so they are counted as they stand now.
    fn erase(&self, columns: usize) -> String {
        let rows: usize = self.lines.iter().map(|width| width.div_ceil(columns).max(1)).sum();
        match rows {
            0 => String::new(),
            rows => format!("\r\x1b[{rows}A\x1b[J"),
        }
    }
}

fn columns() -> usize {
    terminal_size::terminal_size_of(std::io::stderr()).map_or(80, |(width, _)| usize::from(width.0)).max(10)
}

fn rows() -> usize {
    terminal_size::terminal_size_of(std::io::stderr()).map_or(24, |(_, height)| usize::from(height.0))
}

/// The lines of the area: what runs and for how long, then a line of counts. Never wider than the terminal less one
/// column (a full line would wrap in some), and a third of its height at most.
pub(crate) fn frame(progress: &Progress, now: Instant, columns: usize, rows: usize) -> Vec<String> {
    let columns = columns.saturating_sub(1);
    let shown = (rows / 3).saturating_sub(2).clamp(1, 12);
    let mut lines = Vec::new();
    for (step, since) in progress.running.iter().take(shown) {
        let time = words::ticking(now.saturating_duration_since(*since));
        let name = words::on_a_line(step);
        let name = cut(&name, columns.saturating_sub(time.width() + 4));
        let gap = columns.min(79).saturating_sub(2 + name.width() + time.width()).max(2);
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
            [
                "  train[seed=0]                                                            12 s",
                "  train[seed=1]                                                            12 s",
                "0 reused, 0 ran, 2 running, 18 left, 12 s",
            ]
        );
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

    #[test]
    fn a_terminal_that_became_narrower_is_cleared_whole() {
        let live = Live { lines: vec![79, 41] };
        assert_eq!(live.erase(80), "\r\x1b[2A\x1b[J");
        assert_eq!(live.erase(40), "\r\x1b[4A\x1b[J");
        assert_eq!(Live::default().erase(40), "");
    }
}
