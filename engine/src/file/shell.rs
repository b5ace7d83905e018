//! Whether each placeholder of a shell line stands where the shell sees one word: outside quotes, here-documents,
//! comments and substitutions. Elsewhere its value could end the quote and be run.
//!
//! Pure. It follows the shell's own rules for quoting as far as these decide where a quote ends, and no further:
//! it is no parser of shells. Where shells differ, or it cannot tell, it says so at the next placeholder instead of
//! guessing.

mod heredoc;

use crate::solid::{Part, Shell, Template};

use super::reference::Wrong;
use super::template::Fault;
use heredoc::Heredoc;

/// Whose quoting rules a line follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// The shell command language of POSIX.
    Sh,
    /// With `((…))` and `$'…'`: bash, ksh, zsh.
    Bash,
    /// Something whose quoting is not known: this program.
    Unknown(String),
}

impl Dialect {
    /// The dialect of a shell; for a list, of the last program in it that is a shell.
    pub(crate) fn of(shell: &Shell) -> Self {
        let words = match shell {
            Shell::Sh => return Self::Sh,
            Shell::Bash => return Self::Bash,
            Shell::List(words) => words,
        };
        let known = words.iter().rev().find_map(|word| match word.rsplit('/').next().unwrap_or_default() {
            "sh" | "dash" | "ash" => Some(Self::Sh),
            "bash" | "ksh" | "mksh" | "zsh" => Some(Self::Bash),
            _ => None,
        });
        known.unwrap_or_else(|| Self::Unknown(words.first().cloned().unwrap_or_default()))
    }
}

/// Finds the placeholders of a line that do not stand where a shell sees one word.
pub(crate) fn check(template: &Template, dialect: &Dialect) -> Vec<Fault> {
    let mut items = Vec::with_capacity(template.text.len());
    let mut holes = Vec::new();
    let mut named = template.holes();
    for part in &template.parts {
        match part {
            Part::Text(text) => items.extend(text.chars().map(Item::Char)),
            _ => {
                let Some((before, part)) = named.next() else { continue };
                items.push(Item::Hole(holes.len()));
                holes.push((before, part.written()));
            }
        }
    }
    if holes.is_empty() {
        return Vec::new();
    }
    if let Dialect::Unknown(program) = dialect {
        return holes
            .iter()
            .map(|(before, written)| Fault {
                before: *before,
                wrong: Wrong::new(format!(
                    "`{written}` cannot be quoted for `{program}`, which is no known shell"
                ))
                .hint(
                    "give `command` as a list, where each item is one argument, or read the environment: \
                           CAS_INPUT_…, CAS_OUTPUT_… and the file CAS_CONFIG",
                ),
            })
            .collect();
    }
    let mut scan = Scan {
        items: &items,
        at: 0,
        bash: *dialect == Dialect::Bash,
        frames: Vec::new(),
        heredocs: Vec::new(),
        lost: None,
        lists: Vec::new(),
        word: Word::default(),
        refused: Vec::new(),
    };
    scan.run();
    scan.refused
        .into_iter()
        .map(|(hole, reason)| {
            let (before, written) = &holes[hole];
            let hint = match reason {
                Reason::Quotes => {
                    "take the quotes away: it is quoted for you, and joins the text beside it to one word"
                }
                Reason::Comment => {
                    "a value with a line break would leave the comment: write it without the braces"
                }
                Reason::Dollar => "write it without the `$`",
                Reason::Backslash => "take the backslash away: it is quoted for you",
                _ => "put it into a variable first, on a line above, and use that: x={{ config.x }}",
            };
            let whether = match reason {
                Reason::Lost(_) => "which shells read differently: nobody can tell whether it is one word",
                _ => "where it is not one word",
            };
            let message = format!("`{written}` stands {}, {whether}", reason.words());
            Fault { before: *before, wrong: Wrong::new(message).hint(hint) }
        })
        .collect()
}

#[derive(Debug, Clone, Copy)]
enum Item {
    Char(char),
    Hole(usize),
}

/// Why a placeholder is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reason {
    Quotes,
    Heredoc,
    HeredocEnd,
    Comment,
    Substitution,
    Backquotes,
    Braces,
    Arithmetic,
    Dollar,
    Backslash,
    Lost(&'static str),
}

impl Reason {
    fn words(self) -> String {
        match self {
            Self::Quotes => "inside quotes".to_owned(),
            Self::Heredoc => "inside a here-document".to_owned(),
            Self::HeredocEnd => "where a here-document's end is named".to_owned(),
            Self::Comment => "inside a comment".to_owned(),
            Self::Substitution => "inside a substitution `$(…)`".to_owned(),
            Self::Backquotes => "inside a substitution `` `…` ``".to_owned(),
            Self::Braces => "inside `${…}`".to_owned(),
            Self::Arithmetic => "inside arithmetic `((…))`".to_owned(),
            Self::Dollar => "directly after a `$`".to_owned(),
            Self::Backslash => "directly after a backslash".to_owned(),
            Self::Lost(what) => format!("after {what}"),
        }
    }
}

/// What surrounds the position, from the outside in.
#[derive(Debug)]
enum Frame {
    /// `"…"`.
    Double,
    /// `${…}`.
    Braces { in_double: bool },
    /// `$(…)`, `<(…)`, `>(…)`: commands again. `cases` holds, for each open `case`, how many parentheses
    /// were open when it began: a `)` at that depth ends a pattern.
    Substitution { parens: u32, cases: Vec<u32> },
    /// `$((…))`, `((…))`. `shift`: a `<<` was met, which would begin a here-document if this were commands.
    Arithmetic { parens: u32, shift: bool },
}

/// The word at the position, as far as it is known.
struct Word {
    text: String,
    /// Whether nothing of it was quoted or filled in.
    bare: bool,
    /// Whether nothing of it has come yet: a `#` here begins a comment.
    empty: bool,
    /// Whether it stands where a command is named.
    first: bool,
}

impl Default for Word {
    fn default() -> Self {
        Self { text: String::new(), bare: true, empty: true, first: true }
    }
}

struct Scan<'a> {
    items: &'a [Item],
    at: usize,
    bash: bool,
    frames: Vec<Frame>,
    heredocs: Vec<Heredoc>,
    lost: Option<&'static str>,
    /// For each open `x=(…)`: how many frames were open where it began.
    lists: Vec<usize>,
    word: Word,
    refused: Vec<(usize, Reason)>,
}

impl Scan<'_> {
    fn run(&mut self) {
        while self.at < self.items.len() {
            match self.frames.last() {
                None | Some(Frame::Substitution { .. }) => self.command(),
                Some(Frame::Double) => self.double(),
                Some(Frame::Braces { in_double }) => self.braces(*in_double),
                Some(Frame::Arithmetic { .. }) => self.arithmetic(),
            }
        }
    }

    fn peek(&self, ahead: usize) -> Option<char> {
        match self.items.get(self.at + ahead) {
            Some(Item::Char(c)) => Some(*c),
            Some(Item::Hole(_)) | None => None,
        }
    }

    fn starts(&self, text: &str) -> bool {
        text.chars().enumerate().all(|(ahead, c)| self.peek(ahead) == Some(c))
    }

    fn refuse(&mut self, hole: usize, reason: Reason) {
        self.refused.push((hole, reason));
    }

    /// Passes one item that is part of a word, quoted or not.
    fn pass(&mut self, bare: Option<char>) {
        self.word.empty = false;
        match bare {
            Some(c) => self.word.text.push(c),
            None => self.word.bare = false,
        }
        self.at += 1;
    }

    /// Where commands stand: at the top, and inside `$(…)`.
    fn command(&mut self) {
        let Some(item) = self.items.get(self.at).copied() else { return };
        let c = match item {
            Item::Char(c) => c,
            Item::Hole(hole) => {
                if !self.frames.is_empty() {
                    self.refuse(hole, Reason::Substitution);
                } else if let Some(what) = self.lost {
                    self.refuse(hole, Reason::Lost(what));
                }
                return self.pass(None);
            }
        };
        let process = matches!(c, '<' | '>') && self.peek(1) == Some('(');
        if self.lists.last() == Some(&self.frames.len())
            && matches!(c, ';' | '&' | '|' | '<' | '>' | '(')
            && !process
        {
            // bash drops the rest of such a line and reads on at the next, even where that is inside of a quote.
            self.lost = Some("a list `x=(…)` that holds an operator");
        }
        match c {
            '\\' => self.backslash(),
            '\'' => self.single(),
            '"' => self.open(Frame::Double, 1),
            '`' => self.backquotes(),
            '$' => self.dollar(),
            '#' if self.word.empty => self.comment(),
            '<' | '>' if process => {
                self.end_word(false);
                self.open(Frame::Substitution { parens: 0, cases: Vec::new() }, 2);
            }
            '<' if self.starts("<<<") => {
                self.end_word(false);
                self.at += 3;
            }
            '<' if self.starts("<<") => {
                self.end_word(false);
                self.heredoc();
            }
            '(' if self.bash && self.word.empty && self.peek(1) == Some('(') => {
                self.open(Frame::Arithmetic { parens: 0, shift: false }, 2);
            }
            '\n' => {
                self.end_word(true);
                self.at += 1;
                self.bodies();
            }
            ' ' | '\t' | '\r' | '<' | '>' => {
                self.end_word(false);
                self.at += 1;
            }
            ';' | '&' | '|' => {
                self.end_word(true);
                self.at += 1;
            }
            '(' => {
                if self.word.text.ends_with('=') {
                    self.lists.push(self.frames.len());
                }
                self.end_word(true);
                self.at += 1;
                if let Some(Frame::Substitution { parens, .. }) = self.frames.last_mut() {
                    *parens += 1;
                }
            }
            ')' => {
                self.end_word(true);
                self.at += 1;
                self.close();
            }
            c => self.pass(Some(c)),
        }
    }

    /// A `)` where commands stand: it ends a group, a pattern of a `case`, or the substitution.
    fn close(&mut self) {
        if self.lists.last().is_some_and(|depth| *depth >= self.frames.len()) {
            self.lists.pop();
        }
        let Some(Frame::Substitution { parens, cases }) = self.frames.last_mut() else { return };
        let open = cases.last().copied().unwrap_or(0);
        if *parens > open {
            *parens -= 1;
        } else if cases.is_empty() {
            self.frames.pop();
            if self.heredocs.iter().any(|heredoc| heredoc.depth > self.frames.len()) {
                self.lost = Some("a here-document that begins inside a substitution and ends outside of it");
            }
            // It was part of a word, which goes on.
            self.word = Word { bare: false, empty: false, first: false, text: String::new() };
        }
    }

    /// The end of a word; `command`: whether a command is named next.
    fn end_word(&mut self, command: bool) {
        let word = std::mem::take(&mut self.word);
        self.word.first = command || (word.empty && word.first);
        if let (true, Some(Frame::Substitution { parens, cases })) = (word.bare, self.frames.last_mut()) {
            // `case` counts wherever it stands, `esac` only where it surely is one: a mistake keeps the
            // substitution open, and refuses a placeholder too many instead of one too few.
            match word.text.as_str() {
                "case" => cases.push(*parens),
                "esac" if word.first => {
                    cases.pop();
                }
                _ => {}
            }
        }
    }

    fn open(&mut self, frame: Frame, length: usize) {
        self.at += length;
        self.word.empty = false;
        self.word.bare = false;
        if matches!(frame, Frame::Substitution { .. }) {
            self.word = Word::default();
        }
        self.frames.push(frame);
    }

    fn backslash(&mut self) {
        match self.items.get(self.at + 1) {
            // A line that goes on: as if nothing stood here.
            Some(Item::Char('\n')) => {
                self.joined();
                self.at += 2;
            }
            Some(Item::Char(_)) | None => {
                self.pass(None);
                self.at += 1;
            }
            Some(Item::Hole(hole)) => {
                self.refuse(*hole, Reason::Backslash);
                self.pass(None);
                self.at += 1;
            }
        }
    }

    /// At a backslash before a line break, which vanish: what stands on both sides becomes one token.
    fn joined(&mut self) {
        let before = self.at.checked_sub(1).and_then(|before| self.items.get(before));
        if let Some(Item::Char('$' | '<' | '>' | '(' | ')')) = before {
            self.lost = Some("a `\\` and a line break inside of an operator");
        }
    }

    /// `'…'`, where nothing is special.
    fn single(&mut self) {
        self.pass(None);
        while let Some(item) = self.items.get(self.at).copied() {
            self.at += 1;
            match item {
                Item::Char('\'') => return,
                Item::Char(_) => {}
                Item::Hole(hole) => self.refuse(hole, Reason::Quotes),
            }
        }
    }

    /// `$'…'`, where a backslash escapes.
    fn escaped_single(&mut self) {
        self.at += 2;
        self.word.empty = false;
        self.word.bare = false;
        while let Some(item) = self.items.get(self.at).copied() {
            self.at += 1;
            match item {
                Item::Char('\'') => return,
                Item::Char('\\') => {
                    if !self.bash && self.peek(0) == Some('\'') {
                        self.lost = Some("`\\'` inside of `$'…'`");
                    }
                    if let Some(Item::Hole(hole)) = self.items.get(self.at) {
                        self.refuse(*hole, Reason::Quotes);
                    }
                    self.at += 1;
                }
                Item::Char(_) => {}
                Item::Hole(hole) => self.refuse(hole, Reason::Quotes),
            }
        }
    }

    /// `` `…` ``: ends at the next backquote without a backslash, whatever is quoted inside.
    fn backquotes(&mut self) {
        self.word.empty = false;
        self.word.bare = false;
        self.at += 1;
        while let Some(item) = self.items.get(self.at).copied() {
            self.at += 1;
            match item {
                Item::Char('`') => return,
                Item::Char('\\') => {
                    if let Some(Item::Hole(hole)) = self.items.get(self.at) {
                        self.refuse(*hole, Reason::Backquotes);
                    }
                    self.at += 1;
                }
                Item::Char(_) => {}
                Item::Hole(hole) => self.refuse(hole, Reason::Backquotes),
            }
        }
    }

    /// A `$` outside of single quotes: what it begins, if anything.
    fn dollar(&mut self) {
        let in_double = self.in_double();
        let in_command = matches!(self.frames.last(), None | Some(Frame::Substitution { .. }));
        if self.starts("$((") {
            return self.open(Frame::Arithmetic { parens: 0, shift: false }, 3);
        }
        match self.items.get(self.at + 1).copied() {
            Some(Item::Char('(')) => self.open(Frame::Substitution { parens: 0, cases: Vec::new() }, 2),
            Some(Item::Char('{')) => self.open(Frame::Braces { in_double }, 2),
            // A parameter, whatever follows; not all shells read on from its end everywhere.
            Some(Item::Char('$')) => {
                if matches!(self.peek(2), Some('\'' | '(' | '{')) {
                    self.lost = Some("a `$$` before a quote or a bracket");
                }
                self.pass(None);
                self.at += 1;
            }
            Some(Item::Char('\'')) if in_command => self.escaped_single(),
            Some(Item::Hole(hole)) if in_command => {
                self.refuse(hole, Reason::Dollar);
                self.pass(None);
                self.at += 1;
            }
            Some(Item::Char('#')) if in_command => {
                self.pass(None); // `$#` is a parameter, no comment
                self.at += 1;
            }
            _ => self.pass(None),
        }
    }

    /// Whether the innermost quotes that count are double ones.
    fn in_double(&self) -> bool {
        match self.frames.last() {
            Some(Frame::Double) => true,
            Some(Frame::Braces { in_double }) => *in_double,
            None | Some(Frame::Substitution { .. } | Frame::Arithmetic { .. }) => false,
        }
    }

    fn double(&mut self) {
        match self.items.get(self.at).copied() {
            Some(Item::Char('"')) => {
                self.frames.pop();
                self.at += 1;
            }
            Some(Item::Char('\\')) if !matches!(self.items.get(self.at + 1), Some(Item::Hole(_))) => {
                if self.peek(1) == Some('\n') {
                    self.joined();
                }
                self.at += 2;
            }
            Some(Item::Char('`')) => self.backquotes(),
            Some(Item::Char('$')) => self.dollar(),
            Some(Item::Char(_)) | None => self.at += 1,
            Some(Item::Hole(hole)) => {
                self.refuse(hole, Reason::Quotes);
                self.at += 1;
            }
        }
    }

    fn braces(&mut self, in_double: bool) {
        match self.items.get(self.at).copied() {
            Some(Item::Char('}')) => {
                self.frames.pop();
                self.at += 1;
            }
            Some(Item::Char('\\')) if !matches!(self.items.get(self.at + 1), Some(Item::Hole(_))) => {
                if self.peek(1) == Some('\n') {
                    self.joined();
                }
                self.at += 2;
            }
            Some(Item::Char('"')) => {
                self.at += 1;
                self.frames.push(Frame::Double);
            }
            Some(Item::Char('\'')) if !in_double => self.single(),
            Some(Item::Char('\'')) => self.doubtful_single(),
            Some(Item::Char('`')) => self.backquotes(),
            Some(Item::Char('$')) => self.dollar(),
            Some(Item::Char(_)) | None => self.at += 1,
            Some(Item::Hole(hole)) => {
                self.refuse(hole, Reason::Braces);
                self.at += 1;
            }
        }
    }

    /// A `'` in `"${x…}"`: a quote in some expansions and shells, itself in others. A pair with nothing
    /// special between reads the same either way.
    fn doubtful_single(&mut self) {
        self.at += 1;
        let mut length = 0;
        loop {
            match self.peek(length) {
                Some('\'') => {
                    self.at += length + 1;
                    return;
                }
                Some('"' | '}' | '\\' | '$' | '`') | None => break,
                Some(_) => length += 1,
            }
        }
        self.lost = Some("a `'` inside of `\"${…}\"`");
    }

    fn arithmetic(&mut self) {
        let item = self.items.get(self.at).copied();
        let shift_ahead = self.starts("<<");
        let Some(Frame::Arithmetic { parens, shift }) = self.frames.last_mut() else { return };
        match item {
            Some(Item::Char(')')) if *parens > 0 => *parens -= 1,
            Some(Item::Char(')')) => {
                if self.peek(1) != Some(')') {
                    // `$((` began a group of commands in a substitution after all.
                    self.lost = Some("`((` that `))` does not close");
                    self.at += 1;
                    self.frames.pop();
                    self.frames.push(Frame::Substitution { parens: 0, cases: Vec::new() });
                    return;
                }
                self.at += 2;
                self.frames.pop();
                return;
            }
            Some(Item::Char('(')) => *parens += 1,
            Some(Item::Char('<')) if shift_ahead => *shift = true,
            Some(Item::Char('\n')) if *shift => self.lost = Some("`<<` and a line break inside of `((…))`"),
            Some(Item::Char('#'))
                if self.at > 0 && matches!(self.items[self.at - 1], Item::Char(' ' | '\n' | '\t')) =>
            {
                self.lost = Some("`#` inside of `((…))`");
            }
            Some(Item::Char('\\')) => {
                let broken = self.peek(1) == Some('\n');
                let skipped = usize::from(self.peek(1).is_some());
                if broken {
                    self.joined();
                }
                self.at += skipped;
            }
            Some(Item::Char('\'')) => return self.single(),
            Some(Item::Char('"')) => {
                self.at += 1;
                self.frames.push(Frame::Double);
                return;
            }
            Some(Item::Char('`')) => return self.backquotes(),
            Some(Item::Char('$')) => return self.dollar(),
            Some(Item::Char(_)) | None => {}
            Some(Item::Hole(hole)) => self.refuse(hole, Reason::Arithmetic),
        }
        self.at += 1;
    }

    fn comment(&mut self) {
        while let Some(item) = self.items.get(self.at).copied() {
            match item {
                Item::Char('\n') => return,
                Item::Char(_) => {}
                Item::Hole(hole) => self.refuse(hole, Reason::Comment),
            }
            self.at += 1;
        }
    }
}
