//! Tables: the one of `cas versions`, with its rules, and plain columns for everything else. Pure.

use std::borrow::Cow;
use std::io::{self, Write};

use unicode_width::UnicodeWidthStr;

use super::words;

/// Rows under a header.
#[derive(Debug)]
pub(crate) struct Table<const N: usize> {
    header: [&'static str; N],
    rows: Vec<[String; N]>,
    widths: [usize; N],
}

impl<const N: usize> Table<N> {
    /// An empty table.
    pub(crate) fn new(header: [&'static str; N]) -> Self {
        Self { header, rows: Vec::new(), widths: header.map(UnicodeWidthStr::width) }
    }

    /// Makes a column at least so wide.
    pub(crate) fn at_least(mut self, column: usize, width: usize) -> Self {
        self.widths[column] = self.widths[column].max(width);
        self
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, row: [String; N]) {
        let row = row.map(|cell| match words::on_a_line(&cell) {
            Cow::Borrowed(_) => cell,
            Cow::Owned(shown) => shown,
        });
        for (width, cell) in self.widths.iter_mut().zip(&row) {
            *width = (*width).max(cell.width());
        }
        self.rows.push(row);
    }

    /// Writes it with rules, as Markdown shows tables.
    pub(crate) fn write_ruled(&self, to: &mut dyn Write) -> io::Result<()> {
        let line = |to: &mut dyn Write, cells: [&str; N]| {
            for (cell, width) in cells.iter().zip(&self.widths) {
                write!(to, "| {} ", padded(cell, *width))?;
            }
            writeln!(to, "|")
        };
        line(to, self.header)?;
        for width in self.widths {
            write!(to, "|{}", "-".repeat(width + 2))?;
        }
        writeln!(to, "|")?;
        for row in &self.rows {
            line(to, row.each_ref().map(String::as_str))?;
        }
        Ok(())
    }

    /// Writes it in plain columns, two spaces apart, nothing after the last.
    pub(crate) fn write_columns(&self, to: &mut dyn Write) -> io::Result<()> {
        let line = |to: &mut dyn Write, cells: [&str; N]| {
            let mut text = String::new();
            for (index, (cell, width)) in cells.iter().zip(&self.widths).enumerate() {
                if index > 0 {
                    text.push_str("  ");
                }
                text.push_str(&padded(cell, *width));
            }
            writeln!(to, "{}", text.trim_end())
        };
        line(to, self.header)?;
        for row in &self.rows {
            line(to, row.each_ref().map(String::as_str))?;
        }
        Ok(())
    }

    /// The same for a screen of so many columns, if it is one: what does not fit in the last column goes on below it.
    pub(crate) fn write_wrapped(&self, to: &mut dyn Write, columns: Option<usize>) -> io::Result<()> {
        let mut text = Vec::new();
        self.write_columns(&mut text)?;
        let before: usize = self.widths.iter().take(N.saturating_sub(1)).map(|width| width + 2).sum();
        for line in String::from_utf8_lossy(&text).lines() {
            writeln!(to, "{}", super::words::wrapped(line, before, columns))?;
        }
        Ok(())
    }

    /// Whether it has no rows.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

/// A text with spaces behind it, up to a width on the screen.
pub(crate) fn padded(text: &str, width: usize) -> String {
    format!("{text}{}", " ".repeat(width.saturating_sub(text.width())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> String {
        let mut bytes = Vec::new();
        write(&mut bytes).expect("memory takes it");
        String::from_utf8(bytes).expect("text was written")
    }

    #[test]
    fn the_ruled_form_is_the_one_that_was_promised() {
        let mut table = Table::new(["Step Output", "Version", "Status of Output"]);
        table.row(["emit_sentence.result".to_owned(), "1f".repeat(32), "stored".to_owned()]);
        let expected = "\
| Step Output          | Version                                                          | Status of Output |
|----------------------|------------------------------------------------------------------|------------------|
| emit_sentence.result | 1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f | stored           |
";
        assert_eq!(text(|to| table.write_ruled(to)), expected);
    }

    #[test]
    fn columns_are_aligned_by_what_is_seen() {
        let mut table = Table::new(["A", "B"]);
        table.row(["日本".to_owned(), "x".to_owned()]);
        table.row(["a".to_owned(), String::new()]);
        assert_eq!(text(|to| table.write_columns(to)), "A     B\n日本  x\na\n");
    }
}
