//! Here-documents: where one is named, and its body behind the end of the line. Pure.

use super::{Item, Reason, Scan};

/// A here-document whose body begins after the end of the line.
pub(super) struct Heredoc {
    end: String,
    strip_tabs: bool,
    expands: bool,
    pub(super) depth: usize,
}

impl Scan<'_> {
    /// `<<` or `<<-` and the word that ends the document; its body begins on the next line.
    pub(super) fn heredoc(&mut self) {
        self.at += 2;
        let strip_tabs = self.peek(0) == Some('-');
        self.at += usize::from(strip_tabs);
        while matches!(self.peek(0), Some(' ' | '\t')) {
            self.at += 1;
        }
        let (mut end, mut quoted, mut named) = (String::new(), false, false);
        while let Some(item) = self.items.get(self.at).copied() {
            let c = match item {
                Item::Char(c) => c,
                Item::Hole(hole) => {
                    self.refuse(hole, Reason::HeredocEnd);
                    self.at += 1;
                    continue;
                }
            };
            match c {
                ' ' | '\t' | '\r' | '\n' | ';' | '&' | '|' | '<' | '>' | '(' | ')' => break,
                '\\' => {
                    (quoted, named) = (true, true);
                    end.extend(self.peek(1));
                    // A placeholder is left for the next turn, which refuses it.
                    self.at += 1 + usize::from(self.peek(1).is_some());
                }
                '\'' | '"' => {
                    (quoted, named) = (true, true);
                    self.at += 1;
                    while let Some(inner) = self.items.get(self.at).copied() {
                        self.at += 1;
                        match inner {
                            Item::Char(inner) if inner == c => break,
                            Item::Char(inner) => end.push(inner),
                            Item::Hole(hole) => self.refuse(hole, Reason::HeredocEnd),
                        }
                    }
                }
                c => {
                    named = true;
                    end.push(c);
                    self.at += 1;
                }
            }
        }
        if named {
            let depth = self.frames.len();
            self.heredocs.push(Heredoc { end, strip_tabs, expands: !quoted, depth });
        }
    }

    /// After the end of a line: the bodies of the here-documents that began on it.
    pub(super) fn bodies(&mut self) {
        let depth = self.frames.len();
        for heredoc in std::mem::take(&mut self.heredocs) {
            if heredoc.depth != depth {
                self.lost = Some("a here-document that begins outside of a substitution");
            }
            self.body(&heredoc);
        }
    }

    fn body(&mut self, heredoc: &Heredoc) {
        let mut continued = false;
        while self.at < self.items.len() {
            let mut line = String::new();
            let mut plain = true;
            while let Some(item) = self.items.get(self.at).copied() {
                self.at += 1;
                match item {
                    Item::Char('\n') => break,
                    Item::Char(c) => line.push(c),
                    Item::Hole(hole) => {
                        plain = false;
                        self.refuse(hole, Reason::Heredoc);
                    }
                }
            }
            let shown = if heredoc.strip_tabs { line.trim_start_matches('\t') } else { &line };
            if plain && !continued && shown == heredoc.end {
                return;
            }
            // Where the body expands, a backslash joins the next line to this one.
            let backslashes = line.bytes().rev().take_while(|b| *b == b'\\').count();
            continued = heredoc.expands && backslashes % 2 == 1;
        }
    }
}
