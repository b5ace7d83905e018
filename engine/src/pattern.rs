//! Declared paths as written: a file, a folder or a glob. Pure.
//!
//! A glob is taken apart at `/`: a fixed part, below which alone anything is ever looked for, and for each
//! alternative of its braces the components that follow. One component is matched against one name, by
//! characters, so `*` never crosses a `/`. A backslash takes the next character as it is.

use std::path::{Path, PathBuf};

/// The most alternatives that braces may give.
const ALTERNATIVES: usize = 1024;

/// A declared path, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    /// Whether it begins at the root of the file system; else in the project folder.
    pub(crate) absolute: bool,
    /// How many folders above the project folder it begins.
    pub(crate) up: usize,
    /// The components before the first with a special character.
    pub(crate) fixed: Vec<String>,
    /// What may follow; nothing where the pattern is a plain path.
    pub(crate) alternatives: Vec<Vec<Component>>,
    /// Whether it ends in `/`, and so must be a folder.
    pub(crate) folder: bool,
}

/// One component of a glob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Component {
    /// This name.
    Literal(String),
    /// `**`: any folders, none too; at the end, everything below.
    AnyDepth,
    /// Names that this matches.
    Wild(Wild),
}

/// A component with special characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wild {
    tokens: Vec<Token>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Char(char),
    /// `?`
    One,
    /// `*`
    Any,
    /// `[a-z]`, `[!a-z]`
    Class {
        not: bool,
        ranges: Vec<(char, char)>,
    },
}

impl Pattern {
    /// Takes a path as written apart.
    ///
    /// # Errors
    /// It is empty, or its brackets do not close: as a fragment that follows its name.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("is empty".to_owned());
        }
        if text.contains('\0') {
            return Err("holds a zero byte".to_owned());
        }
        let absolute = text.starts_with('/');
        let folder = matches!(text.rsplit('/').next(), Some("" | "." | ".."));
        let mut fixed = Vec::new();
        let mut up = 0;
        let mut rest = text.trim_start_matches('/');
        while !rest.is_empty() {
            let (component, after) = rest.split_once('/').unwrap_or((rest, ""));
            if is_special(component) {
                break;
            }
            match component {
                "" | "." => {}
                // Above the root is the root.
                ".." if fixed.pop().is_none() => up += usize::from(!absolute),
                ".." => {}
                _ => fixed.push(unescaped(component)),
            }
            rest = after;
        }
        let mut alternatives = Vec::new();
        if !rest.is_empty() {
            for alternative in expanded(rest)? {
                alternatives.push(components(&alternative)?);
            }
        }
        Ok(Self { absolute, up, fixed, alternatives, folder })
    }

    /// Whether it is a glob, and no plain path.
    pub(crate) fn is_glob(&self) -> bool {
        !self.alternatives.is_empty()
    }

    /// Whether it is below the project folder.
    pub(crate) fn is_inside(&self) -> bool {
        !self.absolute && self.up == 0
    }

    /// Whether all that it finds lies in this folder of the project, which is given by its parts.
    pub(crate) fn lies_in(&self, folder: &[&str]) -> bool {
        self.is_inside()
            && self.fixed.iter().map(String::as_str).take(folder.len()).eq(folder.iter().copied())
    }

    /// Its fixed part, relative to where it begins; empty for that itself.
    pub(crate) fn fixed_text(&self) -> String {
        self.fixed.join("/")
    }

    /// Where it begins, for a project.
    pub(crate) fn root(&self, project: &Path) -> PathBuf {
        if self.absolute {
            return PathBuf::from("/");
        }
        let above = project.ancestors().nth(self.up);
        above.map_or_else(|| PathBuf::from("/"), Path::to_owned)
    }

    /// Where its fixed part leads: what it names, or the folder below which alone it finds anything.
    pub fn base(&self, project: &Path) -> PathBuf {
        self.root(project).join(self.fixed_text())
    }

    /// How many parts below its base the last of what it finds lies; `None` where it is any number. So it is of a plain
    /// path: a folder that is named outright is declared with all that is in it.
    pub fn depth(&self) -> Option<usize> {
        let is_bounded = |components: &Vec<Component>| !components.contains(&Component::AnyDepth);
        let depth = self.alternatives.iter().map(Vec::len).max()?;
        self.alternatives.iter().all(is_bounded).then_some(depth)
    }
}

fn is_special(component: &str) -> bool {
    let mut chars = component.chars();
    while let Some(char) = chars.next() {
        match char {
            '\\' => {
                chars.next();
            }
            '*' | '?' | '[' | '{' => return true,
            _ => {}
        }
    }
    false
}

fn unescaped(component: &str) -> String {
    let mut text = String::with_capacity(component.len());
    let mut chars = component.chars();
    while let Some(char) = chars.next() {
        match char {
            '\\' => text.extend(chars.next()),
            _ => text.push(char),
        }
    }
    text
}

/// All texts that the braces of a pattern stand for, in order, without braces.
fn expanded(text: &str) -> Result<Vec<String>, String> {
    let mut done = Vec::new();
    // The last is worked on next, so what is put there is put in reverse.
    let mut open = vec![text.to_owned()];
    while let Some(text) = open.pop() {
        let Some(Braces { before, choices, after }) = first_braces(&text)? else {
            done.push(text);
            continue;
        };
        if done.len() + open.len() + choices.len() > ALTERNATIVES {
            return Err(format!("has braces that stand for more than {ALTERNATIVES} patterns"));
        }
        open.extend(choices.iter().rev().map(|choice| format!("{before}{choice}{after}")));
    }
    Ok(done)
}

/// Braces in a text.
struct Braces<'a> {
    before: &'a str,
    choices: Vec<&'a str>,
    after: &'a str,
}

/// The first braces of a text.
fn first_braces(text: &str) -> Result<Option<Braces<'_>>, String> {
    let mut start = None;
    let mut depth = 0_usize;
    let mut commas = Vec::new();
    let mut chars = text.char_indices().peekable();
    while let Some((at, char)) = chars.next() {
        match char {
            '\\' => {
                chars.next();
            }
            '{' => {
                depth += 1;
                start.get_or_insert(at);
            }
            ',' if depth == 1 => commas.push(at),
            '}' if depth > 1 => depth -= 1,
            '}' if depth == 1 => {
                let Some(start) = start else { continue };
                let mut choices = Vec::with_capacity(commas.len() + 1);
                let mut from = start + 1;
                for comma in commas.into_iter().chain([at]) {
                    choices.push(&text[from..comma]);
                    from = comma + 1;
                }
                return Ok(Some(Braces { before: &text[..start], choices, after: &text[at + 1..] }));
            }
            _ => {}
        }
    }
    if start.is_some() { Err("has a `{` that is never closed".to_owned()) } else { Ok(None) }
}

fn components(text: &str) -> Result<Vec<Component>, String> {
    let mut components = Vec::new();
    for component in text.split('/') {
        match component {
            "" | "." => {}
            ".." => return Err("has `..` after a special character".to_owned()),
            "**" => {
                // Two in a row are one.
                if components.last() != Some(&Component::AnyDepth) {
                    components.push(Component::AnyDepth);
                }
            }
            _ if is_special(component) => components.push(Component::Wild(Wild::parse(component)?)),
            _ => components.push(Component::Literal(unescaped(component))),
        }
    }
    Ok(components)
}

impl Wild {
    fn parse(component: &str) -> Result<Self, String> {
        let mut tokens = Vec::new();
        let mut chars = component.chars().peekable();
        while let Some(char) = chars.next() {
            tokens.push(match char {
                '\\' => match chars.next() {
                    Some(char) => Token::Char(char),
                    None => break,
                },
                '?' => Token::One,
                '*' if tokens.last() == Some(&Token::Any) => continue,
                '*' => Token::Any,
                '[' => class(&mut chars)?,
                _ => Token::Char(char),
            });
        }
        Ok(Self { tokens })
    }

    /// Whether it names a dot at the beginning, and so means names that begin with one.
    pub(crate) fn names_a_dot(&self) -> bool {
        self.tokens.first() == Some(&Token::Char('.'))
    }

    /// Whether it matches a whole name.
    pub(crate) fn matches(&self, name: &str) -> bool {
        let name: Vec<char> = name.chars().collect();
        let (mut token, mut at) = (0, 0);
        // Where to go on when what follows the last `*` does not match: the star takes one more.
        let mut retry: Option<(usize, usize)> = None;
        while at < name.len() {
            let fits = match self.tokens.get(token) {
                Some(Token::Any) => {
                    retry = Some((token + 1, at));
                    token += 1;
                    continue;
                }
                Some(Token::One) => true,
                Some(Token::Char(char)) => *char == name[at],
                Some(Token::Class { not, ranges }) => {
                    ranges.iter().any(|(from, to)| (*from..=*to).contains(&name[at])) != *not
                }
                None => false,
            };
            if fits {
                token += 1;
                at += 1;
            } else if let Some((after, from)) = retry {
                retry = Some((after, from + 1));
                token = after;
                at = from + 1;
            } else {
                return false;
            }
        }
        self.tokens[token..].iter().all(|token| *token == Token::Any)
    }
}

/// What stands between brackets, the first of which was read.
fn class(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<Token, String> {
    let unclosed = || "has a `[` that is never closed".to_owned();
    let not = chars.next_if(|char| matches!(char, '!' | '^')).is_some();
    let mut ranges = Vec::new();
    loop {
        let mut from = chars.next().ok_or_else(unclosed)?;
        if from == ']' && !ranges.is_empty() {
            return Ok(Token::Class { not, ranges });
        }
        if from == '\\' {
            from = chars.next().ok_or_else(unclosed)?;
        }
        let mut to = from;
        if chars.next_if_eq(&'-').is_some() {
            match chars.next().ok_or_else(unclosed)? {
                // A `-` at the end is one.
                ']' => {
                    ranges.extend([(from, from), ('-', '-')]);
                    return Ok(Token::Class { not, ranges });
                }
                '\\' => to = chars.next().ok_or_else(unclosed)?,
                char => to = char,
            }
            if to < from {
                return Err(format!("has the range `{from}-{to}`, which is empty"));
            }
        }
        ranges.push((from, to));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn matches(pattern: &str, name: &str) -> bool {
        Wild::parse(pattern).unwrap().matches(name)
    }

    #[test]
    fn a_component_matches_whole_names() {
        let check = |pattern: &str, yes: &[&str], no: &[&str]| {
            for name in yes {
                assert!(matches(pattern, name), "{pattern} {name}");
            }
            for name in no {
                assert!(!matches(pattern, name), "{pattern} {name}");
            }
        };
        check("*", &["a", "", "äö"], &[]);
        check("*.py", &["a.py", ".py", "a.b.py"], &["a.pyc", "py"]);
        check("a?c", &["abc", "aäc"], &["ac", "abbc"]);
        check("[abc]x", &["ax", "cx"], &["dx", "x"]);
        check("[a-c0-9]", &["b", "5"], &["d", "-"]);
        check("[!a-c]", &["d"], &["a"]);
        check("[^a]", &["b"], &["a"]);
        check("[]a]", &["]", "a"], &["b"]);
        check("[a-]", &["a", "-"], &["b"]);
        check(r"\*x*", &["*x", "*xy"], &["ax"]);
        check(r"[\]]", &["]"], &["\\"]);
        check("a*b*c", &["abc", "aXbXc", "abbcc"], &["ab", "acb"]);
        check("*a*a*a*b", &["aaab"], &[&"a".repeat(200)]);
    }

    #[test]
    fn a_pattern_is_taken_apart() {
        let check = |text: &str, absolute: bool, fixed: &str, rest: usize, folder: bool| {
            let pattern = Pattern::parse(text).unwrap();
            assert_eq!(pattern.absolute, absolute, "{text}");
            assert_eq!(pattern.fixed_text(), fixed, "{text}");
            assert_eq!(pattern.alternatives.len(), rest, "{text}");
            assert_eq!(pattern.folder, folder, "{text}");
        };
        check("a/b.py", false, "a/b.py", 0, false);
        check("./a//b/../c.py", false, "a/c.py", 0, false);
        check("lib/", false, "lib", 0, true);
        check(".", false, "", 0, true);
        check("/mnt/data", true, "mnt/data", 0, false);
        check("/mnt/*.csv", true, "mnt", 1, false);
        check("data/{a,b}/*.csv", false, "data", 2, false);
        check("data/{a,b{1,2}}.csv", false, "data", 3, false);
        check("**", false, "", 1, false);
        check(r"a\[1\].txt", false, "a[1].txt", 0, false);
        check(r"\{a,b\}", false, "{a,b}", 0, false);
        check("a/../../../x/y", false, "x/y", 0, false);
        assert_eq!(Pattern::parse("a/../../../x/y").unwrap().up, 2);
        assert!(Pattern::parse("a/../x").unwrap().is_inside());
        assert!(!Pattern::parse("/../x").unwrap().is_inside());
    }

    #[test]
    fn what_a_pattern_finds_lies_below_its_base() {
        let check = |text: &str, base: &str, depth: Option<usize>| {
            let pattern = Pattern::parse(text).unwrap();
            assert_eq!(pattern.base(Path::new("/home/me/project")), Path::new(base), "{text}");
            assert_eq!(pattern.depth(), depth, "{text}");
        };
        check("lib", "/home/me/project/lib", None);
        check("./a/../lib/", "/home/me/project/lib", None);
        check("*.py", "/home/me/project", Some(1));
        check("data/{a,b/c}/*.csv", "/home/me/project/data", Some(3));
        check("data/{a,**}/*.csv", "/home/me/project/data", None);
        check("data/a**b", "/home/me/project/data", Some(1));
        check(r"a\[1]/\*.csv", "/home/me/project/a[1]/*.csv", None);
        check("../x/*", "/home/me/x", Some(1));
        check("../../../../x", "/x", None);
        check("/mnt/data/*", "/mnt/data", Some(1));
    }

    #[test]
    fn braces_stand_for_several_patterns_in_order() {
        let check = |text: &str, expected: &[&str]| assert_eq!(expanded(text).unwrap(), expected);
        check("a", &["a"]);
        check("{a,b}", &["a", "b"]);
        check("x{a,b}y{1,2}", &["xay1", "xay2", "xby1", "xby2"]);
        check("{a,{b,c}d}", &["a", "bd", "cd"]);
        check("{a}", &["a"]);
        check("{,x}", &["", "x"]);
        check("a}b", &["a}b"]);
        check(r"{a\,b,c}", &[r"a\,b", "c"]);
    }

    #[test]
    fn what_is_no_pattern_says_why() {
        let check = |text: &str, what: &str| assert_eq!(Pattern::parse(text).unwrap_err(), what);
        check("", "is empty");
        check("*/../x", "has `..` after a special character");
        check("{a,b", "has a `{` that is never closed");
        check("[a", "has a `[` that is never closed");
        check("[z-a]", "has the range `z-a`, which is empty");
        check(&"{a,b}".repeat(11), "has braces that stand for more than 1024 patterns");
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in r"[\[\]{},*?a\\./!-]{0,12}", name in "[a.-]{0,6}") {
            if let Ok(pattern) = Pattern::parse(&text) {
                for component in pattern.alternatives.iter().flatten() {
                    if let Component::Wild(wild) = component {
                        wild.matches(&name);
                    }
                }
            }
        }

        #[test]
        fn an_escaped_name_matches_itself_alone(name in r"[a-z*?\[\]{}\\]{1,8}", other in r"[a-z*?]{1,8}") {
            let escaped: String = name.chars().flat_map(|char| ['\\', char]).collect();
            let wild = Wild::parse(&escaped).unwrap();
            prop_assert!(wild.matches(&name));
            prop_assert_eq!(wild.matches(&other), name == other);
        }
    }
}
