//! How outputs of other steps are named: `emit_dog`, `emit_dog.chart`, `train[*]`, `train[lr=0.1,depth=4].model`.
//!
//! Pure. Whether what is named exists is checked where the whole pipeline is known.

use std::borrow::Cow;

use crate::pipeline::{OutputRef, Pick};
use crate::value::is_unprintable;

/// What is wrong with a reference, a template or a name: what, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// A lower-case fragment.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Wrong {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// Whether this is a name: a letter or `_`, then letters, digits, `_` and `-`.
pub fn is_name(text: &str) -> bool {
    let mut chars = text.chars();
    chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
}

/// Parses a reference as it stands in a pipeline file.
///
/// # Errors
/// It is none: what is wrong, and what was probably meant.
pub fn reference(text: &str) -> Result<OutputRef, Wrong> {
    let text = text.trim();
    let end = text.find(['[', '.']).unwrap_or(text.len());
    let (step, rest) = text.split_at(end);
    if !is_name(step) {
        let wrong = Wrong::new(format!("`{text}` is no name of a step"));
        return Err(if text.contains(['/', '*']) || text.starts_with('.') {
            wrong.hint(format!("for a file of the project write {{path: {text}}}"))
        } else if text.contains("{{") {
            wrong.hint("an input names a step: placeholders stand in `path`, `probe`, `env` and `command`")
        } else if text.contains(char::is_whitespace) {
            wrong.hint(format!(
                "for a literal write {{value: \"{text}\"}}, for what a command prints {{probe: {text}}}"
            ))
        } else {
            wrong.hint("a name is letters, digits, `_` and `-`, and begins with a letter or `_`")
        });
    }
    let (pick, rest) = match rest.strip_prefix('[') {
        Some(inner) => pick(text, inner)?,
        None => (Pick::Same, rest),
    };
    let output = match rest.strip_prefix('.') {
        None if rest.is_empty() => None,
        None => {
            return Err(Wrong::new(format!("`{rest}` follows `]` in `{text}`"))
                .hint("an output is written behind a dot: train[*].model"));
        }
        Some(output) if is_name(output) => Some(output.to_owned()),
        Some(output) => {
            let wrong = Wrong::new(format!("`{output}` is no name of an output"));
            return Err(match (output.split_once('.'), output.split_once('[')) {
                (_, Some((name, inner))) => {
                    wrong.hint(format!("the elements stand before the output: {step}[{inner}.{name}"))
                }
                (Some((name, _)), None) if is_name(name) => wrong.hint(format!(
                    "an extension belongs to the file, not to the name: write `{step}.{name}`; for a file of the \
                     project {{path: {text}}}"
                )),
                _ => wrong,
            });
        }
    };
    Ok(OutputRef { step: step.to_owned(), pick, output, place: None })
}

/// What stands between `[` and `]`, and what follows.
fn pick<'t>(text: &str, inner: &'t str) -> Result<(Pick, &'t str), Wrong> {
    let unclosed = || Wrong::new(format!("the `[` of `{text}` is never closed"));
    if let Some(rest) = inner.strip_prefix("*]") {
        return Ok((Pick::All, rest));
    }
    let shape = || {
        Wrong::new(format!("between the brackets of `{text}` stands neither `*` nor `axis=value`"))
            .hint("train[*] is all elements, train[lr=0.1] those with that value, train[lr=0.1,depth=4] one")
    };
    let mut labels: Vec<(String, String)> = Vec::new();
    let mut rest = inner;
    loop {
        let Some(equals) = rest.find(['=', ',', ']']) else { return Err(unclosed()) };
        let axis = rest[..equals].trim();
        if !rest[equals..].starts_with('=') || !is_name(axis) {
            return Err(shape());
        }
        let (label, after) = label(&rest[equals + 1..]).ok_or_else(unclosed)?;
        if labels.iter().any(|(known, _)| known == axis) {
            return Err(Wrong::new(format!("the axis `{axis}` is given twice in `{text}`")));
        }
        labels.push((axis.to_owned(), label));
        if let Some(after) = after.strip_prefix(']') {
            return Ok((Pick::Where(labels), after));
        }
        rest = after.strip_prefix(',').ok_or_else(shape)?;
    }
}

/// A label up to `,` or `]`. One that holds these itself goes between double quotes, as in JSON; brackets and
/// braces that are balanced (a list as value) need none.
fn label(text: &str) -> Option<(String, &str)> {
    let text = text.trim_start();
    if text.starts_with('"') {
        let mut read = serde_json::Deserializer::from_str(text).into_iter::<String>();
        let label = read.next()?.ok()?;
        return Some((label, text[read.byte_offset()..].trim_start()));
    }
    let mut depth = 0_u32;
    for (at, c) in text.char_indices() {
        match c {
            ',' | ']' if depth == 0 => return Some((text[..at].trim_end().to_owned(), &text[at..])),
            '[' | '{' => depth += 1,
            ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    None
}

/// A label as it stands between brackets, so that it is read back as what it is: in quotes where it has to be.
pub(crate) fn written_label(text: &str) -> Cow<'_, str> {
    // What is plain, as nearly all are, is seen without trying: every step is named by its labels, several times a run.
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    if !text.is_empty() && text.bytes().all(plain) {
        return Cow::Borrowed(text);
    }
    let printable = !text.contains(is_unprintable);
    if printable && label(&format!("{text}]")) == Some((text.to_owned(), "]")) {
        return Cow::Borrowed(text);
    }
    // JSON's, without what serializing could make wrong: a text always is. What would break a line or move a cursor
    // is escaped, so that a name can stand wherever names do.
    let mut written = String::new();
    for char in serde_json::Value::String(text.to_owned()).to_string().chars() {
        if is_unprintable(char) {
            let mut units = [0; 2];
            char.encode_utf16(&mut units).iter().for_each(|unit| written += &format!("\\u{unit:04x}"));
        } else {
            written.push(char);
        }
    }
    Cow::Owned(written)
}

/// A declared name with an extension, as inputs and outputs have it: `tree.txt` is named `tree`.
pub(crate) fn name_of(file_name: &str) -> &str {
    file_name.split_once('.').map_or(file_name, |(name, _)| name)
}

/// The environment variable that tells where an input or output is: `CAS_INPUT_DOG_BREED`.
pub fn variable(prefix: &str, name: &str) -> String {
    let mut variable = String::with_capacity(prefix.len() + name.len());
    variable.push_str(prefix);
    variable.extend(name.chars().map(|c| if c == '-' { '_' } else { c.to_ascii_uppercase() }));
    variable
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_label_that_would_move_the_cursor_is_written_so_that_it_is_read_back() {
        use super::{label, written_label};
        for text in ["a\nb", "red \u{1b}[31m", "\u{7f}", "x\u{9b}31m", "a\u{202e}b", "\u{2028}", "tab\there"]
        {
            let written = written_label(text);
            assert!(!written.contains(crate::value::is_unprintable), "{written}");
            assert_eq!(label(&format!("{written}]")), Some((text.to_owned(), "]")), "{written}");
        }
        assert_eq!(written_label("a\nb"), "\"a\\nb\"");
        assert_eq!(written_label("x\u{9b}"), "\"x\\u009b\"");
        assert_eq!(written_label("日本"), "日本");
    }

    use super::*;

    fn check(text: &str, expected: &str) {
        let shown = match reference(text) {
            Ok(OutputRef { step, pick, output, .. }) => format!("{step} {pick:?} {output:?}"),
            Err(Wrong { message, hint }) => format!("{message} / {}", hint.unwrap_or_default()),
        };
        assert_eq!(shown, expected, "{text}");
    }

    #[test]
    fn references_name_a_step_elements_and_an_output() {
        check("emit_dog", "emit_dog Same None");
        check(" emit-dog.chart ", "emit-dog Same Some(\"chart\")");
        check("train[*]", "train All None");
        check("train[*].model", "train All Some(\"model\")");
        check("train[lr=0.1]", r#"train Where([("lr", "0.1")]) None"#);
        check("train[lr=0.1, depth=4].m", r#"train Where([("lr", "0.1"), ("depth", "4")]) Some("m")"#);
        check(r#"t[a="x,]y"]"#, r#"t Where([("a", "x,]y")]) None"#);
        check("t[a=[1,2],b=x]", r#"t Where([("a", "[1,2]"), ("b", "x")]) None"#);
        check("t[a=]", r#"t Where([("a", "")]) None"#);
    }

    #[test]
    fn a_label_is_written_as_it_is_read() {
        for label in ["0.1", "", "[1,2]", "x,b=y", "a]", "\"", " x", "x ", "{", "a=b", "\n", "\"x\""] {
            let text = format!("t[a={},b=1]", written_label(label));
            let labels = vec![("a".to_owned(), label.to_owned()), ("b".to_owned(), "1".to_owned())];
            assert_eq!(reference(&text).map(|read| read.pick), Ok(Pick::Where(labels)), "{text}");
        }
        assert_eq!(written_label("a=b"), "a=b");
        assert_eq!(written_label("x,b=y"), "\"x,b=y\"");
    }

    #[test]
    fn what_is_no_reference_says_what_was_meant() {
        check(
            "data/notes.txt",
            "`data/notes.txt` is no name of a step / for a file of the project write {path: data/notes.txt}",
        );
        check(
            "notes.tar.gz",
            "`tar.gz` is no name of an output / an extension belongs to the file, not to the name: write `notes.tar`; for a file of the project {path: notes.tar.gz}",
        );
        check(
            "3",
            "`3` is no name of a step / a name is letters, digits, `_` and `-`, and begins with a letter or `_`",
        );
        check(
            "date +%F",
            "`date +%F` is no name of a step / for a literal write {value: \"date +%F\"}, for what a command prints {probe: date +%F}",
        );
        check("train[", "the `[` of `train[` is never closed / ");
        check(
            "train[x]",
            "between the brackets of `train[x]` stands neither `*` nor `axis=value` / train[*] is all elements, train[lr=0.1] those with that value, train[lr=0.1,depth=4] one",
        );
        check("train[a=1,a=2]", "the axis `a` is given twice in `train[a=1,a=2]` / ");
        check(
            "train[a=1]x",
            "`x` follows `]` in `train[a=1]x` / an output is written behind a dot: train[*].model",
        );
        check(
            "train.model[*]",
            "`model[*]` is no name of an output / the elements stand before the output: train[*].model",
        );
        check(
            "",
            "`` is no name of a step / a name is letters, digits, `_` and `-`, and begins with a letter or `_`",
        );
    }
}
