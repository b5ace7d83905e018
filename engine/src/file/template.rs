//! Texts with placeholders: `{{ inputs.x }}`, `{{ outputs.x }}`, `{{ config.x }}`, `{{ matrix.x }}`,
//! `{{ resources.x.y }}`, `{{ cpus }}`. Parsed once; filled in for each step.
//!
//! Pure. `{{{{` stands for `{{`. Whether what a placeholder names exists is checked with the whole pipeline;
//! whether it stands where a shell sees one word, by `shell.rs`.

use crate::error::{Diagnostic, Place};
use crate::solid::{Line, Part, Shell, Template};
use crate::value::{Config, Value};

use super::reference::{Wrong, is_name};
use super::shell::{self, Dialect};

/// A fault at a placeholder: how many `{{` precede it, and what is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) before: usize,
    pub(crate) wrong: Wrong,
}

/// What stands in the place of a placeholder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filled {
    /// One text.
    One(String),
    /// Several: a fan-in, one path each. (A gather is one: its folder.)
    Many(Vec<String>),
}

impl Template {
    /// Parses a text with placeholders.
    ///
    /// # Errors
    /// Each placeholder that is none.
    pub fn parse(text: &str, place: Option<&Place>) -> Result<Self, Vec<Diagnostic>> {
        let (template, faults) = parse(text, place);
        if faults.is_empty() { Ok(template) } else { Err(diagnostics(faults, place)) }
    }

    /// A template without placeholders: every `{{` in it is text.
    pub fn literal(text: &str) -> Self {
        Self { text: text.replace("{{", "{{{{"), parts: vec![Part::Text(text.to_owned())], place: None }
    }

    /// The texts and placeholders with, for each placeholder, how many `{{` precede it in the text as written.
    pub(crate) fn holes(&self) -> impl Iterator<Item = (usize, &Part)> {
        let mut before = 0;
        self.parts.iter().filter_map(move |part| match part {
            Part::Text(text) => {
                before += 2 * text.matches("{{").count(); // each was written as two
                None
            }
            _ => {
                before += 1;
                Some((before - 1, part))
            }
        })
    }
}

impl Line {
    /// A line for a shell, its placeholders parsed and found where a shell sees each as one word.
    ///
    /// # Errors
    /// Each placeholder that is none, or stands in quotes, a heredoc, a comment or a substitution.
    pub fn shell(text: &str, shell: Shell, place: Option<&Place>) -> Result<Self, Vec<Diagnostic>> {
        let (template, mut faults) = parse(text, place);
        faults.extend(shell::check(&template, &Dialect::of(&shell)));
        if faults.is_empty() {
            Ok(Self::Shell { text: template, shell })
        } else {
            Err(diagnostics(faults, place))
        }
    }

    /// A program and its arguments.
    ///
    /// # Errors
    /// Each placeholder that is none; an empty list.
    pub fn list(words: &[&str], place: Option<&Place>) -> Result<Self, Vec<Diagnostic>> {
        if words.is_empty() {
            return Err(vec![Diagnostic::new("a command of no words").at(place)]);
        }
        let mut wrong = Vec::new();
        let mut templates = Vec::with_capacity(words.len());
        for word in words {
            match Template::parse(word, place) {
                Ok(template) => templates.push(template),
                Err(diagnostics) => wrong.extend(diagnostics),
            }
        }
        if wrong.is_empty() { Ok(Self::List(templates)) } else { Err(wrong) }
    }

    /// The templates that it consists of.
    pub fn templates(&self) -> &[Template] {
        match self {
            Self::Shell { text, .. } => std::slice::from_ref(text),
            Self::List(words) => words,
        }
    }
}

impl Part {
    /// As it is written, for messages: `{{ config.x }}`.
    pub fn written(&self) -> String {
        let inner = match self {
            Self::Text(text) => return text.clone(),
            Self::Input(name) => format!("inputs.{name}"),
            Self::Output(name) => format!("outputs.{name}"),
            Self::Config(path) => format!("config.{}", path.join(".")),
            Self::Matrix { axis, column: None } => format!("matrix.{axis}"),
            Self::Matrix { axis, column: Some(column) } => format!("matrix.{axis}.{column}"),
            Self::Resource { name, path } => format!("resources.{name}.{}", path.join(".")),
            Self::Cpus => "cpus".to_owned(),
        };
        format!("{{{{ {inner} }}}}")
    }
}

fn diagnostics(faults: Vec<Fault>, place: Option<&Place>) -> Vec<Diagnostic> {
    faults
        .into_iter()
        .map(|fault| Diagnostic { hint: fault.wrong.hint, ..Diagnostic::new(fault.wrong.message).at(place) })
        .collect()
}

/// Parses a text with placeholders; what is wrong stands beside, and is left out of the parts.
pub(crate) fn parse(text: &str, place: Option<&Place>) -> (Template, Vec<Fault>) {
    let mut parts = Vec::new();
    let mut faults = Vec::new();
    let mut literal = String::new();
    let mut before = 0; // how many `{{` were passed
    let mut rest = text;
    while let Some(at) = rest.find("{{") {
        literal.push_str(&rest[..at]);
        let inner = &rest[at + 2..];
        if let Some(after) = inner.strip_prefix("{{") {
            literal.push_str("{{");
            before += 2;
            rest = after;
            continue;
        }
        let Some(end) = inner.find("}}") else {
            let wrong = Wrong::new("this `{{` is never closed")
                .hint("a placeholder is written {{ config.x }}; for the text `{{` itself write `{{{{`");
            faults.push(Fault { before, wrong });
            rest = "";
            break;
        };
        let (inside, after) = (&inner[..end], &inner[end + 2..]);
        match placeholder(inside.trim()) {
            Ok(part) => {
                if !literal.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut literal)));
                }
                parts.push(part);
            }
            Err(wrong) => faults.push(Fault { before, wrong }),
        }
        before += 1 + inside.matches("{{").count();
        rest = after;
    }
    literal.push_str(rest);
    if !literal.is_empty() {
        parts.push(Part::Text(literal));
    }
    (Template { text: text.to_owned(), parts, place: place.cloned() }, faults)
}

/// What can stand between the braces, for messages.
const ROOTS: &str = "inputs.x, outputs.x, config.x, matrix.x, resources.x.y and cpus can stand between the braces; \
                     for the text `{{` itself write `{{{{`";

fn placeholder(inside: &str) -> Result<Part, Wrong> {
    let unknown = || Wrong::new(format!("`{{{{ {inside} }}}}` is no placeholder"));
    let mut path = inside.split('.').map(str::trim);
    let root = path.next().unwrap_or_default();
    let path: Vec<String> = path.map(str::to_owned).collect();
    if path.iter().any(String::is_empty) {
        return Err(unknown().hint(ROOTS));
    }
    let named = |what: &str| match path.as_slice() {
        [name] if is_name(name) => Ok(name.clone()),
        [name, ..] if is_name(name) && path.len() > 1 => Err(unknown().hint(format!(
            "an extension belongs to the file, not to the name: write `{{{{ {what}.{name} }}}}`"
        ))),
        _ => Err(unknown().hint(format!("write {{{{ {what}.x }}}}, where x is a declared name"))),
    };
    match root {
        "inputs" => Ok(Part::Input(named("inputs")?)),
        "outputs" => Ok(Part::Output(named("outputs")?)),
        "config" if path.is_empty() => {
            Err(unknown().hint("name a key: {{ config.x }}; the whole config is in the file $CAS_CONFIG"))
        }
        "config" => Ok(Part::Config(path)),
        "matrix" => {
            match path.as_slice() {
                [axis] => Ok(Part::Matrix { axis: axis.clone(), column: None }),
                [axis, column] => Ok(Part::Matrix { axis: axis.clone(), column: Some(column.clone()) }),
                _ => Err(unknown()
                    .hint("write {{ matrix.axis }}, or {{ matrix.axis.column }} for a column of a row")),
            }
        }
        "resources" => match path.split_first() {
            Some((name, path)) if !path.is_empty() => {
                Ok(Part::Resource { name: name.clone(), path: path.to_vec() })
            }
            _ => Err(unknown().hint("write {{ resources.name.key }}, a key of the resource's config")),
        },
        "cpus" if path.is_empty() => Ok(Part::Cpus),
        _ => {
            let meant = match root {
                "input" | "in" | "deps" | "dep" => Some("inputs"),
                "output" | "out" | "outs" => Some("outputs"),
                "params" | "param" | "parameters" | "vars" | "args" => Some("config"),
                "wildcards" | "wildcard" | "item" | "foreach" => Some("matrix"),
                "threads" | "cpu" | "cores" | "jobs" => Some("cpus"),
                "resource" => Some("resources"),
                _ => crate::value::nearest(
                    root,
                    ["inputs", "outputs", "config", "matrix", "resources", "cpus"],
                ),
            };
            Err(match meant {
                Some("cpus") => unknown().hint("did you mean {{ cpus }}?"),
                Some(meant) => {
                    let rest = path.iter().fold(String::new(), |rest, key| rest + "." + key);
                    let rest = if rest.is_empty() { ".x".to_owned() } else { rest };
                    unknown().hint(format!("did you mean {{{{ {meant}{rest} }}}}?"))
                }
                None => unknown().hint(ROOTS),
            })
        }
    }
}

/// Quotes a text so that a shell sees exactly one word, whatever is in it and wherever a word can stand. It is
/// quoted even where it need not be: bare, `if` could be a keyword, `a=b` an assignment and `2` before `>` a number
/// of a file.
pub fn quote(word: &str) -> String {
    let mut quoted = String::with_capacity(word.len() + 2);
    quoted.push('\'');
    for c in word.chars() {
        if c == '\'' { quoted.push_str("'\\''") } else { quoted.push(c) }
    }
    quoted.push('\'');
    quoted
}

/// A shell line with each placeholder filled in as one quoted word (several: one each, a blank between).
pub fn shell_line(template: &Template, fill: &mut dyn FnMut(&Part) -> Filled) -> String {
    filled(template, fill, quote)
}

/// A text with each placeholder filled in as it is.
pub fn text(template: &Template, fill: &mut dyn FnMut(&Part) -> Filled) -> String {
    filled(template, fill, |text| text.to_owned())
}

fn filled(
    template: &Template,
    fill: &mut dyn FnMut(&Part) -> Filled,
    written: impl Fn(&str) -> String,
) -> String {
    let mut line = String::with_capacity(template.text.len());
    for part in &template.parts {
        match part {
            Part::Text(text) => line.push_str(text),
            hole => match fill(hole) {
                Filled::One(value) => line.push_str(&written(&value)),
                Filled::Many(values) => {
                    let words: Vec<_> = values.iter().map(|value| written(value)).collect();
                    line.push_str(&words.join(" "));
                }
            },
        }
    }
    line
}

/// The words of a list: one each, but for an item that is nothing but a fan-in or gather: one per path.
pub fn arguments(templates: &[Template], fill: &mut dyn FnMut(&Part) -> Filled) -> Vec<String> {
    let mut words = Vec::with_capacity(templates.len());
    for template in templates {
        match template.parts.as_slice() {
            [hole] if !matches!(hole, Part::Text(_)) => match fill(hole) {
                Filled::One(value) => words.push(value),
                Filled::Many(values) => words.extend(values),
            },
            _ => words.push(text(template, fill)),
        }
    }
    words
}

/// What `config`, `matrix` and `resources` placeholders stand for: a string as it is, anything else as JSON. `None`
/// for any other placeholder, and where there is no such value.
pub fn value_text<'c>(
    part: &Part,
    config: &Config,
    resource: &dyn Fn(&str) -> Option<&'c Config>,
) -> Option<String> {
    let at = |config: &Config, path: &[String]| {
        let (key, path) = path.split_first()?;
        config.values.get(key)?.at(path).map(Value::text)
    };
    match part {
        Part::Config(path) => at(config, path),
        Part::Matrix { axis, column } => {
            let value = config.values.get(axis)?;
            let column = column.as_ref().unwrap_or(axis);
            match value {
                // A row of a table holds its label under the name of its axis (see `matrix.rs`).
                Value::Map(columns) if columns.contains_key(column) => columns.get(column).map(Value::text),
                whole if column == axis => Some(whole.text()),
                _ => None,
            }
        }
        Part::Resource { name, path } => at(resource(name)?, path),
        Part::Text(_) | Part::Input(_) | Part::Output(_) | Part::Cpus => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> Vec<Part> {
        Template::parse(text, None).expect("a template").parts
    }

    fn wrong(text: &str) -> String {
        let diagnostics = Template::parse(text, None).expect_err("no template");
        let shown: Vec<_> = diagnostics
            .into_iter()
            .map(|d| format!("{} / {}", d.message, d.hint.unwrap_or_default()))
            .collect();
        shown.join("\n")
    }

    #[test]
    fn placeholders_are_parsed() {
        let text = |text: &str| Part::Text(text.to_owned());
        assert_eq!(parts("plain }} text"), [text("plain }} text")]);
        assert_eq!(parts(""), []);
        assert_eq!(
            parts("a {{inputs.x}}{{  outputs.y-z  }} b"),
            [text("a "), Part::Input("x".into()), Part::Output("y-z".into()), text(" b")]
        );
        assert_eq!(parts("{{ config.a.b.0 }}"), [Part::Config(vec!["a".into(), "b".into(), "0".into()])]);
        assert_eq!(
            parts("{{ matrix.s.read 1 }}"),
            [Part::Matrix { axis: "s".into(), column: Some("read 1".into()) }]
        );
        assert_eq!(parts("{{ cpus }}"), [Part::Cpus]);
        assert_eq!(
            parts("{{ resources.python.threads }}"),
            [Part::Resource { name: "python".into(), path: vec!["threads".into()] }]
        );
        assert_eq!(parts("awk '{{{{print}}'"), [text("awk '{{print}}'")]);
        assert_eq!(parts("{{{{{{ cpus }}"), [text("{{"), Part::Cpus]);
    }

    #[test]
    fn what_is_no_placeholder_says_what_was_meant() {
        assert_eq!(
            wrong("{{ input.x }}"),
            "`{{ input.x }}` is no placeholder / did you mean {{ inputs.x }}?"
        );
        assert_eq!(
            wrong("{{ params.lr }}"),
            "`{{ params.lr }}` is no placeholder / did you mean {{ config.lr }}?"
        );
        assert_eq!(wrong("{{ threads }}"), "`{{ threads }}` is no placeholder / did you mean {{ cpus }}?");
        assert_eq!(
            wrong("{{ inputs.tree.txt }}"),
            "`{{ inputs.tree.txt }}` is no placeholder / an extension belongs to the file, not to the name: write `{{ inputs.tree }}`"
        );
        assert_eq!(
            wrong("a {{ b"),
            "this `{{` is never closed / a placeholder is written {{ config.x }}; for the text `{{` itself write `{{{{`"
        );
        assert!(wrong("{{ config }}").contains("name a key"));
        assert!(wrong("{{ }}").contains("can stand between the braces"));
        assert!(wrong("{{ config. }}").contains("can stand between the braces"));
        assert!(wrong("{{ matrix.a.b.c }}").contains("column"));
        assert_eq!(wrong("{{ x }} {{ y }}").lines().count(), 2);
    }

    #[test]
    fn a_filled_line_quotes_each_value() {
        let template = Template::parse("echo {{ config.a }} {{ inputs.p }} {{{{", None).expect("a template");
        let mut fill = |part: &Part| match part {
            Part::Input(_) => Filled::Many(vec!["inputs/p/0".into(), "inputs/p/1".into()]),
            _ => Filled::One("it's; rm -rf $HOME".into()),
        };
        assert_eq!(
            shell_line(&template, &mut fill),
            r"echo 'it'\''s; rm -rf $HOME' 'inputs/p/0' 'inputs/p/1' {{"
        );
        let words = ["cat", "{{ inputs.p }}", "--x={{ config.a }}"]
            .map(|word| Template::parse(word, None).expect("a template"));
        assert_eq!(
            arguments(&words, &mut fill),
            ["cat", "inputs/p/0", "inputs/p/1", "--x=it's; rm -rf $HOME"]
        );
    }

    #[test]
    fn holes_count_the_braces_before_them() {
        let template =
            Template::parse("{{{{ {{ cpus }} x {{{{{{{{ {{ config.a }}", None).expect("a template");
        assert_eq!(template.holes().map(|(before, _)| before).collect::<Vec<_>>(), [2, 7]);
    }

    #[test]
    fn values_are_texts_or_json_and_a_row_is_its_label() {
        let row = Value::Map(
            [("sample".to_owned(), Value::Str("s1".into())), ("fq".to_owned(), Value::Str("a.fq".into()))]
                .into(),
        );
        let config = Config {
            values: [
                ("sample".to_owned(), row),
                ("lr".to_owned(), Value::Float(1.0)),
                ("deep".to_owned(), Value::List(vec![Value::Str("x".into())])),
            ]
            .into(),
            ..Config::default()
        };
        let none = |_: &str| None;
        let shown = |text: &str| value_text(&parts(text)[0], &config, &none);
        assert_eq!(shown("{{ matrix.sample }}").as_deref(), Some("s1"));
        assert_eq!(shown("{{ matrix.sample.fq }}").as_deref(), Some("a.fq"));
        assert_eq!(shown("{{ matrix.sample.x }}"), None);
        assert_eq!(shown("{{ matrix.lr }}").as_deref(), Some("1.0"));
        assert_eq!(shown("{{ config.deep }}").as_deref(), Some(r#"["x"]"#));
        assert_eq!(shown("{{ config.deep.0 }}").as_deref(), Some("x"));
        assert_eq!(shown("{{ config.none }}"), None);
    }
}
