//! Durations, sizes, counts and times as people read them. Pure, but for the time zone that a time is shown in.

use std::borrow::Cow;
use std::time::Duration;

use cas_engine::value::is_unprintable;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// A duration: `4 ms`, `0.8 s`, `12.3 s`, `2 min 5 s`, `1 h 4 min`, `3 d 2 h`.
pub(crate) fn duration(time: Duration) -> String {
    let ms = time.as_millis();
    let seconds = time.as_secs();
    if ms < 100 {
        return format!("{ms} ms");
    }
    // Tenths, rounded; what rounds up to a minute is a minute.
    let tenths = (ms + 50) / 100;
    if tenths < 600 {
        return format!("{}.{} s", tenths / 10, tenths % 10);
    }
    let two = |large: u64, large_unit: &str, small: u64, small_unit: &str| {
        if small == 0 {
            format!("{large} {large_unit}")
        } else {
            format!("{large} {large_unit} {small} {small_unit}")
        }
    };
    let seconds = seconds.max(60);
    match seconds {
        0..3600 => two(seconds / 60, "min", seconds % 60, "s"),
        3600..86_400 => two(seconds / 3600, "h", seconds % 3600 / 60, "min"),
        _ => two(seconds / 86_400, "d", seconds % 86_400 / 3600, "h"),
    }
}

/// The same, from milliseconds.
pub(crate) fn duration_ms(ms: u64) -> String {
    duration(Duration::from_millis(ms))
}

/// A clock that ticks: whole seconds below a minute, so that the status area does not flicker.
pub(crate) fn ticking(time: Duration) -> String {
    match time.as_secs() {
        seconds @ ..60 => format!("{seconds} s"),
        _ => duration(Duration::from_secs(time.as_secs())),
    }
}

/// A size: `0 B`, `812 B`, `1.2 kB`, `34 MB`, `1.5 GB` (powers of 1000).
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    #[expect(clippy::cast_precision_loss, reason = "two digits of it are shown")]
    let mut amount = bytes as f64;
    let mut unit = "B";
    for next in UNITS {
        if amount < 999.5 {
            break;
        }
        amount /= 1000.0;
        unit = next;
    }
    if amount < 9.95 { format!("{amount:.1} {unit}") } else { format!("{amount:.0} {unit}") }
}

/// A count with its noun: `1 step`, `3 steps`, `66,002 steps`.
pub(crate) fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{} {noun}s", thousands(number)) }
}

/// Names of one cause: one, two, or the first with how many more there are.
pub(crate) fn several(names: &[String]) -> String {
    match names {
        [] => String::new(),
        [one] => one.clone(),
        [one, two] => format!("{one}, {two}"),
        [first, rest @ ..] => format!("{first} and {} more", thousands(rest.len())),
    }
}

/// A number with its thousands apart: `66,002`.
pub(crate) fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A moment (milliseconds since 1970, UTC) on the clock of whoever reads it: `2026-03-01 14:05:09`.
pub(crate) fn moment(ms: u64) -> String {
    let Some(stamp) = i64::try_from(ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok()) else {
        return "-".to_owned();
    };
    stamp.to_zoned(jiff::tz::TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// A moment for programs: RFC 3339 in UTC.
pub(crate) fn moment_utc(ms: u64) -> Option<String> {
    let stamp = i64::try_from(ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok())?;
    Some(stamp.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string())
}

/// How wide the screen is that stdout is, if it is one.
pub(crate) fn columns() -> Option<usize> {
    terminal_size::terminal_size_of(std::io::stdout()).map(|(width, _)| usize::from(width.0).max(10))
}

/// A text that stands on one line and does nothing to it: control characters and their kin are written, not obeyed.
pub(crate) fn on_a_line(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unprintable) {
        return Cow::Borrowed(text);
    }
    let mut line = String::with_capacity(text.len() + 8);
    for char in text.chars() {
        if is_unprintable(char) { line.extend(char.escape_default()) } else { line.push(char) }
    }
    Cow::Owned(line)
}

/// A line that a program printed: what its last carriage return left of it, without colours.
pub(crate) fn printed(line: &str) -> String {
    let last = line.trim_end_matches('\r').rsplit('\r').next().unwrap_or_default();
    let plain = anstream::adapter::strip_str(last).to_string().replace('\t', "    ");
    on_a_line(&plain).into_owned()
}

/// A text that fits: what is too much of it gives way to `…` in its middle, because names differ at their ends.
pub(crate) fn cut(text: &str, width: usize) -> Cow<'_, str> {
    if text.width() <= width {
        return Cow::Borrowed(text);
    }
    let room = width.saturating_sub(1);
    if width == 0 {
        return Cow::Borrowed("");
    }
    let fitting = |chars: &mut dyn Iterator<Item = char>, room: usize| {
        let mut used = 0;
        let mut part = Vec::new();
        for char in chars {
            used += char.width().unwrap_or(0);
            if used > room {
                break;
            }
            part.push(char);
        }
        part
    };
    let end = fitting(&mut text.chars().rev(), room / 2);
    let end_width: usize = end.iter().filter_map(|char| char.width()).sum();
    let begin = fitting(&mut text.chars(), room - end_width);
    Cow::Owned(begin.into_iter().chain(['…']).chain(end.into_iter().rev()).collect())
}

/// A line for a screen of so many columns, broken between words; what follows the first break is indented. Words
/// that are wider than a line are left to the terminal. Colours take no room.
pub(crate) fn wrapped(line: &str, indent: usize, columns: Option<usize>) -> String {
    let Some(columns) = columns else { return line.to_owned() };
    let width = |text: &str| anstream::adapter::strip_str(text).to_string().width();
    if width(line) <= columns {
        return line.to_owned();
    }
    // Where little room is left behind a long name, the rest begins further to the left.
    let indent = if indent + 24 <= columns { indent } else { 4 };
    let mut text = String::new();
    let mut used = 0;
    let mut fresh = true;
    // Blanks in a row (columns) stay as they are, unless a line is broken at them.
    for piece in line.split_inclusive(' ') {
        let word = piece.trim_end_matches(' ');
        // A word that is wider than a line would not fit on one of its own either.
        let wide = width(word);
        if !fresh && !word.is_empty() && used + wide > columns && indent + wide <= columns {
            text.truncate(text.trim_end_matches(' ').len());
            text.push('\n');
            text.push_str(&" ".repeat(indent));
            used = indent;
        }
        text.push_str(piece);
        used += width(piece);
        fresh &= word.is_empty();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_say_two_units_at_most() {
        let check = |ms, words: &str| assert_eq!(duration_ms(ms), words);
        check(0, "0 ms");
        check(99, "99 ms");
        check(100, "0.1 s");
        check(849, "0.8 s");
        check(12_340, "12.3 s");
        check(59_949, "59.9 s");
        check(59_950, "1 min");
        check(125_000, "2 min 5 s");
        check(3_600_000, "1 h");
        check(3_840_000, "1 h 4 min");
        check(3 * 86_400_000 + 7_200_000, "3 d 2 h");
        assert_eq!(ticking(Duration::from_millis(59_999)), "59 s");
        assert_eq!(ticking(Duration::from_secs(61)), "1 min 1 s");
    }

    #[test]
    fn sizes_show_two_digits() {
        let check = |bytes, words: &str| assert_eq!(size(bytes), words);
        check(0, "0 B");
        check(999, "999 B");
        check(1000, "1.0 kB");
        check(9_949, "9.9 kB");
        check(9_951, "10 kB");
        check(999_499, "999 kB");
        check(999_501, "1.0 MB");
        check(u64::MAX, "18 EB");
    }

    #[test]
    fn counts_have_their_thousands_apart() {
        assert_eq!(count(1, "step"), "1 step");
        assert_eq!(count(0, "step"), "0 steps");
        assert_eq!(count(66_002, "step"), "66,002 steps");
        assert_eq!(thousands(1_000_000), "1,000,000");
    }

    #[test]
    fn lines_are_broken_between_words_and_only_where_they_do_not_fit() {
        let check = |line: &str, indent, columns, expected: &str| {
            assert_eq!(wrapped(line, indent, columns), expected);
        };
        check("a line that fits", 4, Some(16), "a line that fits");
        check("no screen, no end, so it stays one line", 4, None, "no screen, no end, so it stays one line");
        check(
            "train  lr: 0.1 → 0.2, and more of it",
            7,
            Some(31),
            "train  lr: 0.1 → 0.2, and more\n       of it",
        );
        check(
            "a_very_long_name_of_a_step  why it runs",
            28,
            Some(30),
            "a_very_long_name_of_a_step\n    why it runs",
        );
        check("ran  one_word_that_is_wider_than_all", 5, Some(14), "ran  one_word_that_is_wider_than_all");
        check("one_word_that_is_wider_than_all", 2, Some(10), "one_word_that_is_wider_than_all");
        check("\x1b[32mran\x1b[0m  a b", 5, Some(8), "\x1b[32mran\x1b[0m  a b");
    }

    #[test]
    fn what_does_not_fit_gives_way_in_its_middle() {
        assert_eq!(cut("train", 5), "train");
        assert_eq!(cut("train", 4), "tr…n");
        assert_eq!(cut("train[seed=1,lr=0.1]", 12), "train[…=0.1]");
        assert_eq!(cut("日本語日本語", 8), "日本…語");
        assert_eq!(cut("日本語", 1), "…");
        assert_eq!(cut("x", 0), "");
        for width in 0..30 {
            assert!(cut("a日b本c語d日e本f語", width).width() <= width, "{width}");
        }
    }

    #[test]
    fn what_would_move_the_cursor_is_written() {
        assert_eq!(on_a_line("a\nb\u{1b}[31m\u{202e}"), "a\\nb\\u{1b}[31m\\u{202e}");
        assert_eq!(on_a_line("日本"), "日本");
        assert_eq!(printed("10%\r50%\r100%\r"), "100%");
        assert_eq!(printed("\u{1b}[31mred\u{1b}[0m\tx\u{202e}"), "red    x\\u{202e}");
    }

    #[test]
    fn moments_are_told_to_programs_in_utc() {
        assert_eq!(moment_utc(0).as_deref(), Some("1970-01-01T00:00:00.000Z"));
        assert_eq!(moment_utc(u64::MAX), None);
    }
}
