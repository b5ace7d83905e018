//! Shows a place in a text: its line and a marker below. And finds a placeholder there, however it was written.
//!
//! Pure.

use crate::error::{Diagnostic, Place};

const WIDTH: usize = 100; // columns of a line that are shown; a longer line is cut around the place

/// The line at a place of a text and a `^` below it; `None` where the text has no such line.
pub fn excerpt(text: &str, line: u32, column: u32) -> Option<String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    render(text.lines().nth(line.checked_sub(1)? as usize)?, line, column)
}

/// The same of a text that is one line, and has this number among others.
pub(super) fn of_line(text: &str, number: u32, column: u32) -> Option<String> {
    render(text, number, column)
}

/// Adds the excerpt to each of these diagnostics that stands in this file and has none.
pub fn add_excerpts(diagnostics: &mut [Diagnostic], file: &str, text: &str) {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut lines = None;
    for diagnostic in diagnostics {
        let Some(place) = diagnostic.place.as_ref().filter(|place| &*place.file == file) else { continue };
        if diagnostic.excerpt.is_none() {
            // Split once, however many there are to show.
            let lines = lines.get_or_insert_with(|| text.lines().collect::<Vec<_>>());
            let line = lines.get((place.line as usize).wrapping_sub(1));
            diagnostic.excerpt = line.and_then(|line| render(line, place.line, place.column));
        }
    }
}

fn render(line: &str, number: u32, column: u32) -> Option<String> {
    let at = column.checked_sub(1)? as usize;
    let length = line.chars().count();
    let (mut from, mut to) = (0, length);
    if length > WIDTH {
        from = at.saturating_sub(WIDTH * 2 / 3).min(length - WIDTH);
        to = from + WIDTH;
    }
    // A control character would move the cursor, or worse.
    let shown = |c: char| if c.is_control() { ' ' } else { c };
    let before: String = line.chars().skip(from).take(at.min(to) - from).map(shown).collect();
    let after: String = line.chars().take(to).skip(at.max(from)).map(shown).collect();
    let gutter = number.to_string();
    let blank = " ".repeat(gutter.len());
    let (more, indent) = if from > 0 { ("…", " ") } else { ("", "") };
    let cut = if to < length { "…" } else { "" };
    let pad = " ".repeat(before.chars().map(width).sum());
    Some(format!("{gutter} | {more}{before}{after}{cut}\n{blank} | {indent}{pad}^"))
}

/// How many columns of a terminal a character takes: East Asian and emoji ones take two.
fn width(c: char) -> usize {
    match u32::from(c) {
        0x300..=0x36f | 0x200b..=0x200f | 0xfe00..=0xfe0f => 0,
        0x1100..=0x115f
        | 0x2e80..=0xa4cf
        | 0xac00..=0xd7a3
        | 0xf900..=0xfaff
        | 0xfe30..=0xfe6f
        | 0xff00..=0xff60
        | 0xffe0..=0xffe6
        | 0x1f300..=0x1f64f
        | 0x1f900..=0x1f9ff
        | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}

/// The place of the placeholder that `before` others precede in the scalar that starts at `start`. Counting `{{`
/// in the source works for every way of writing a scalar, since none writes a brace differently.
pub(crate) fn placeholder(text: &str, start: &Place, before: usize) -> Option<Place> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut seen = 0;
    for (index, line) in text.lines().enumerate().skip(start.line.checked_sub(1)? as usize) {
        let number = u32::try_from(index).ok()?.checked_add(1)?;
        let skip = if number == start.line { start.column.checked_sub(1)? as usize } else { 0 };
        let from = line.char_indices().nth(skip).map_or(line.len(), |(at, _)| at);
        for (at, _) in line[from..].match_indices("{{") {
            if seen == before {
                let column = u32::try_from(line[..from + at].chars().count()).ok()?.checked_add(1)?;
                return Some(Place { file: start.file.clone(), line: number, column });
            }
            seen += 1;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_stands_below_the_column() {
        assert_eq!(excerpt("a: 1\nbb: 2\n", 2, 5).as_deref(), Some("2 | bb: 2\n  |     ^"));
        assert_eq!(excerpt("名前: 2\n", 1, 5).as_deref(), Some("1 | 名前: 2\n  |       ^"));
        assert_eq!(excerpt("\ta: \x1b[31m", 1, 2).as_deref(), Some("1 |  a:  [31m\n  |  ^"));
        assert_eq!(excerpt("a", 1, 9).as_deref(), Some("1 | a\n  |  ^"));
        assert_eq!(excerpt("a", 2, 1), None);
        assert_eq!(excerpt("a", 0, 0), None);
    }

    #[test]
    fn a_long_line_is_cut_around_the_place() {
        let text = "x".repeat(300);
        let shown = excerpt(&text, 1, 200).expect("a line");
        let lines: Vec<_> = shown.lines().collect();
        assert_eq!(lines[0].chars().count(), 4 + 1 + 100 + 1);
        assert_eq!(lines[1].chars().count(), 4 + 1 + 66 + 1);
    }
}
