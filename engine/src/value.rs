//! Config values and the schemas that they are checked against.
//!
//! A value keeps its type: `1`, `1.0`, `"1"`, `true`, `null`, `{}` and absent all differ. A schema converts
//! nothing but a whole number where a float is asked for. Nothing here touches a file.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};

use crate::config::Placed;
use crate::error::{Diagnostic, Place};

/// A config value, as YAML 1.2's core schema and JSON know them.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `null`.
    Null,
    /// `true`, `false`.
    Bool(bool),
    /// A whole number from -2^63 to 2^64-1.
    Int(i128),
    /// A number with a fraction or an exponent, never NaN or infinite: JSON could not hold it.
    Float(f64),
    /// Text.
    Str(String),
    /// A list; its order counts.
    List(Vec<Value>),
    /// A map; its order does not count.
    Map(BTreeMap<String, Value>),
}

/// The type of a config field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// Text.
    Str,
    /// A whole number.
    Int,
    /// A number; a whole one becomes a float.
    Float,
    /// `true` or `false`.
    Bool,
    /// A list of anything.
    List,
    /// A map of anything.
    Map,
    /// Anything.
    Any,
}

/// One field of a schema.
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    /// What its values must be.
    pub ty: Type,
    /// Its value where none is given; without one, a value must be given.
    pub default: Option<Value>,
    /// If not empty, the only values allowed.
    pub choices: Vec<Value>,
    /// Whether its value is kept only as a keyed digest, and never printed.
    pub secret: bool,
    /// Set where the field takes the pipeline's value of this name (`seed: $seed`).
    pub from_pipeline: Option<String>,
    /// Where it was declared.
    pub place: Option<Place>,
}

/// The config that a solid, a resource or a pipeline takes: fields by name.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Schema {
    /// The fields.
    pub fields: BTreeMap<String, Field>,
}

/// Resolved config: schema checked, defaults filled in, only what its owner takes, matrix values included.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Config {
    /// The values.
    pub values: BTreeMap<String, Value>,
    /// The names of those that are secret.
    pub secret: BTreeSet<String>,
}

impl Config {
    /// The texts that show a secret value, to be blotted out wherever something is shown. Of a list or map that is
    /// each text and number in it, and the whole as JSON. Of `true`, `false` and `null` nothing: blotting out every
    /// one of them would hide nothing and spoil everything.
    pub fn secrets(&self) -> Vec<String> {
        let mut secrets = Vec::new();
        for value in self.secret.iter().filter_map(|name| self.values.get(name)) {
            if let Value::List(_) | Value::Map(_) = value {
                secrets.push(value.to_string());
            }
            value.texts(&mut secrets);
        }
        secrets.retain(|secret| !secret.is_empty());
        secrets
    }
}

impl Value {
    fn texts(&self, into: &mut Vec<String>) {
        match self {
            Self::Null | Self::Bool(_) => {}
            Self::Int(_) | Self::Float(_) => into.push(self.to_string()),
            Self::Str(text) => into.push(text.clone()),
            Self::List(values) => values.iter().for_each(|value| value.texts(into)),
            Self::Map(values) => values.values().for_each(|value| value.texts(into)),
        }
    }

    /// A string as it is, anything else as canonical JSON: what a placeholder or a literal's file holds.
    pub fn text(&self) -> String {
        match self {
            Self::Str(text) => text.clone(),
            other => other.to_string(),
        }
    }

    /// As JSON. A number that JSON cannot hold becomes `null`; [`Value::check_numbers`] finds it before.
    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Null => serde_json::Value::Null,
            Self::Bool(value) => (*value).into(),
            Self::Int(value) => match (u64::try_from(*value), i64::try_from(*value)) {
                (Ok(value), _) => value.into(),
                (_, Ok(value)) => value.into(),
                _ => serde_json::Value::Null,
            },
            Self::Float(value) => (*value).into(),
            Self::Str(value) => value.as_str().into(),
            Self::List(values) => values.iter().map(Self::to_json).collect(),
            Self::Map(values) => values.iter().map(|(key, value)| (key.clone(), value.to_json())).collect(),
        }
    }

    /// From JSON: a number with a fraction or an exponent is a float, any other an int.
    pub fn from_json(json: &serde_json::Value) -> Self {
        match json {
            serde_json::Value::Null => Self::Null,
            serde_json::Value::Bool(value) => Self::Bool(*value),
            serde_json::Value::Number(number) => match (number.as_u64(), number.as_i64()) {
                (Some(value), _) => Self::Int(value.into()),
                (_, Some(value)) => Self::Int(value.into()),
                _ => number.as_f64().map_or(Self::Null, Self::Float),
            },
            serde_json::Value::String(value) => Self::Str(value.clone()),
            serde_json::Value::Array(values) => Self::List(values.iter().map(Self::from_json).collect()),
            serde_json::Value::Object(values) => {
                Self::Map(values.iter().map(|(key, value)| (key.clone(), Self::from_json(value))).collect())
            }
        }
    }

    /// The name of its type, as a schema calls it; `null` has one too.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => Type::Bool.name(),
            Self::Int(_) => Type::Int.name(),
            Self::Float(_) => Type::Float.name(),
            Self::Str(_) => Type::Str.name(),
            Self::List(_) => Type::List.name(),
            Self::Map(_) => Type::Map.name(),
        }
    }

    /// Follows keys and indices into the value: `["layers", "0"]`.
    pub fn at(&self, path: &[String]) -> Option<&Self> {
        path.iter().try_fold(self, |value, key| match value {
            Self::Map(values) => values.get(key),
            Self::List(values) => key.parse::<usize>().ok().and_then(|index| values.get(index)),
            Self::Null | Self::Bool(_) | Self::Int(_) | Self::Float(_) | Self::Str(_) => None,
        })
    }

    /// Says which number in it JSON cannot hold, if there is one: NaN equals not even itself, and an infinite
    /// number has no text that another program reads.
    ///
    /// # Errors
    /// What is wrong, as a fragment that follows the name of the value.
    pub fn check_numbers(&self) -> Result<(), String> {
        match self {
            Self::Float(value) if value.is_nan() => {
                Err("is not a number (NaN), which equals not even itself".to_owned())
            }
            Self::Float(value) if value.is_infinite() => {
                Err("is infinite, which JSON cannot hold".to_owned())
            }
            Self::Int(value) if !INT_RANGE.contains(value) => {
                Err(format!("is {value}, which is outside of -2^63 to 2^64-1"))
            }
            Self::List(values) => values.iter().try_for_each(Self::check_numbers),
            Self::Map(values) => values.values().try_for_each(Self::check_numbers),
            Self::Null | Self::Bool(_) | Self::Int(_) | Self::Float(_) | Self::Str(_) => Ok(()),
        }
    }
}

/// What 64 bits hold, signed or unsigned: what YAML and JSON readers agree on.
const INT_RANGE: std::ops::RangeInclusive<i128> = (i64::MIN as i128)..=(u64::MAX as i128);

/// Canonical JSON: sorted keys, no spaces, exact types (`1.0` stays `1.0`).
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Int(value) => write!(f, "{value}"),
            // The debug form is the shortest one that reads back the same, and always shows a float.
            Self::Float(value) => write!(f, "{value:?}"),
            Self::Str(value) => quoted(f, value),
            Self::List(values) => {
                f.write_char('[')?;
                for (index, value) in values.iter().enumerate() {
                    if index > 0 {
                        f.write_char(',')?;
                    }
                    write!(f, "{value}")?;
                }
                f.write_char(']')
            }
            Self::Map(values) => {
                f.write_char('{')?;
                for (index, (key, value)) in values.iter().enumerate() {
                    if index > 0 {
                        f.write_char(',')?;
                    }
                    quoted(f, key)?;
                    write!(f, ":{value}")?;
                }
                f.write_char('}')
            }
        }
    }
}

/// Writes a JSON string: only what JSON forbids inside one is escaped.
fn quoted(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    f.write_char('"')?;
    for character in text.chars() {
        match character {
            '"' => f.write_str("\\\"")?,
            '\\' => f.write_str("\\\\")?,
            '\n' => f.write_str("\\n")?,
            '\r' => f.write_str("\\r")?,
            '\t' => f.write_str("\\t")?,
            control if u32::from(control) < 0x20 => write!(f, "\\u{:04x}", u32::from(control))?,
            other => f.write_char(other)?,
        }
    }
    f.write_char('"')
}

/// Whether a character does something to a line instead of standing in it: control characters, separators of lines and
/// paragraphs, and those that turn the direction of what follows.
pub fn is_unprintable(char: char) -> bool {
    char.is_control()
        || matches!(char, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

impl Type {
    /// How a schema names it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Str => "str",
            Self::Int => "int",
            Self::Float => "float",
            Self::Bool => "bool",
            Self::List => "list",
            Self::Map => "map",
            Self::Any => "any",
        }
    }
}

impl Field {
    /// A field of this type, without a default.
    pub fn of(ty: Type) -> Self {
        Self { ty, default: None, choices: Vec::new(), secret: false, from_pipeline: None, place: None }
    }

    /// Holds a value against the field: gives it as it will be seen. A whole number becomes a float where a float is
    /// asked for; nothing else is converted. `null` passes where it is the default.
    ///
    /// # Errors
    /// What is wrong, as a message that begins with `what`. The value of a secret is not in it, and the line where it
    /// stands is not shown.
    pub fn check(&self, what: &str, value: &Value) -> Result<Value, Diagnostic> {
        let checked = self.checked(what, value);
        if self.secret { checked.map_err(Diagnostic::without_excerpt) } else { checked }
    }

    fn checked(&self, what: &str, value: &Value) -> Result<Value, Diagnostic> {
        let value = self.convert(what, value)?;
        let allowed = self.choices.is_empty()
            || self
                .choices
                .iter()
                .any(|choice| self.convert(what, choice).is_ok_and(|choice| choice == value));
        if allowed {
            return Ok(value);
        }
        let choices = self.choices.iter().map(Value::text).collect::<Vec<_>>();
        let mut diagnostic = if self.secret {
            Diagnostic::new(format!("{what} is none of the values that are allowed"))
        } else {
            Diagnostic::new(format!("{what} is {value}, which is none of {}", listed(&choices)))
        };
        if let (false, Value::Str(text)) = (self.secret, &value) {
            diagnostic.hint = nearest(text, choices.iter().map(String::as_str))
                .map(|choice| format!("did you mean `{choice}`?"));
        }
        Err(diagnostic)
    }

    fn convert(&self, what: &str, value: &Value) -> Result<Value, Diagnostic> {
        value.check_numbers().map_err(|fragment| Diagnostic::new(format!("{what} {fragment}")))?;
        let shown = || if self.secret { "the value given".to_owned() } else { format!("{value}") };
        match (self.ty, value) {
            (Type::Any, _)
            | (Type::Str, Value::Str(_))
            | (Type::Int, Value::Int(_))
            | (Type::Float, Value::Float(_))
            | (Type::Bool, Value::Bool(_))
            | (Type::List, Value::List(_))
            | (Type::Map, Value::Map(_)) => Ok(value.clone()),
            (_, Value::Null) if self.default == Some(Value::Null) => Ok(Value::Null),
            (Type::Float, Value::Int(whole)) => {
                #[expect(
                    clippy::cast_precision_loss,
                    clippy::cast_possible_truncation,
                    reason = "checked by going back"
                )]
                let (float, back) = (*whole as f64, *whole as f64 as i128);
                if back == *whole {
                    Ok(Value::Float(float))
                } else {
                    Err(Diagnostic::new(format!("{what} is {}, which no float holds exactly", shown())))
                }
            }
            (ty, _) => {
                let diagnostic = Diagnostic::new(format!(
                    "{what} must be {}, and {} is {}",
                    ty.name(),
                    shown(),
                    value.type_name()
                ));
                Err(match (ty, value) {
                    (Type::Str, Value::List(_) | Value::Map(_)) => diagnostic,
                    (Type::Str, _) if !self.secret => {
                        diagnostic.hint(format!("write it in quotes: \"{}\"", value.text()))
                    }
                    (Type::Int, Value::Str(text)) if !self.secret => {
                        let quoted = text.parse::<i128>().is_ok();
                        diagnostic.hint(if quoted { UNQUOTED } else { "give a whole number" })
                    }
                    (Type::Float, Value::Str(text)) if !self.secret => {
                        let quoted = text.parse::<f64>().is_ok_and(f64::is_finite);
                        diagnostic.hint(if quoted { UNQUOTED } else { "give a number" })
                    }
                    (Type::Bool, Value::Str(text)) if !self.secret => {
                        let quoted = matches!(text.as_str(), "true" | "false");
                        diagnostic.hint(if quoted { UNQUOTED } else { "give `true` or `false`" })
                    }
                    _ => diagnostic,
                })
            }
        }
    }
}

/// What to do about a value of another type that only its quotes make a text.
const UNQUOTED: &str = "write it without quotes";

/// Whose config is resolved: the words for its messages.
#[derive(Debug, Clone, Copy)]
pub enum Owner<'a> {
    /// The pipeline as a whole.
    Pipeline,
    /// The invocation of this name.
    Step(&'a str),
    /// The resource of this name.
    Resource(&'a str),
}

impl Owner<'_> {
    /// How a key of it is called in a message: ``config `seed` of `train` ``.
    fn field(self, key: &str) -> String {
        match self {
            Self::Pipeline => format!("config `{key}` of the pipeline"),
            Self::Step(step) => format!("config `{key}` of `{step}`"),
            Self::Resource(resource) => format!("config `{key}` of resource `{resource}`"),
        }
    }

    /// Where a key of it stands in a run config.
    fn path(self, key: &str) -> String {
        match self {
            Self::Pipeline => format!("config.{key}"),
            Self::Step(step) => format!("solids.{step}.config.{key}"),
            Self::Resource(resource) => format!("resources.{resource}.config.{key}"),
        }
    }

    /// The short form of it for `--set`.
    fn set(self, key: &str) -> String {
        match self {
            Self::Pipeline => key.to_owned(),
            Self::Step(step) => format!("{step}.{key}"),
            Self::Resource(_) => self.path(key),
        }
    }
}

impl Schema {
    /// Resolves what was given against the fields: checked, defaults filled in, nothing else taken. `pipeline` is
    /// the schema and the resolved config of the pipeline, for fields that take a value of it.
    pub fn resolve(
        &self,
        owner: Owner<'_>,
        given: &BTreeMap<String, Placed>,
        pipeline: Option<(&Schema, &Config)>,
        errors: &mut Vec<Diagnostic>,
    ) -> Config {
        for (key, placed) in given {
            if !self.fields.contains_key(key) {
                let mut diagnostic = Diagnostic::new(format!("{} is not declared", owner.field(key)))
                    .at(placed.place.as_ref());
                diagnostic.hint = Some(match nearest(key, self.fields.keys().map(String::as_str)) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None if self.fields.is_empty() => "it takes no config".to_owned(),
                    None => format!("it takes {}", listed(&self.fields.keys().cloned().collect::<Vec<_>>())),
                });
                errors.push(diagnostic);
            }
        }
        let mut config = Config::default();
        for (key, field) in &self.fields {
            let shared = field.from_pipeline.as_ref().and_then(|name| {
                let (schema, values) = pipeline?;
                Some((schema.fields.get(name)?, values.values.get(name)))
            });
            if field.secret || shared.is_some_and(|(field, _)| field.secret) {
                config.secret.insert(key.clone());
            }
            // A field that takes the pipeline's value says no type of its own: the pipeline's counts.
            let secret = config.secret.contains(key);
            let typed = Field { secret, ..shared.map_or(field, |(field, _)| field).clone() };
            let what = owner.field(key);
            let checked = match (given.get(key), shared, &field.from_pipeline, &field.default) {
                (Some(placed), _, _, _) => {
                    let as_text = match (&placed.text, typed.ty) {
                        (Some(text), Type::Str) => Some(Value::Str(text.clone())),
                        _ => None,
                    };
                    typed
                        .check(&what, as_text.as_ref().unwrap_or(&placed.value))
                        // On a command line there are no quotes of YAML to add or leave out.
                        .map_err(|error| Diagnostic {
                            hint: error.hint.filter(|hint| placed.text.is_none() || !hint.contains("quotes")),
                            ..error
                        })
                        .map_err(|error| error.at(placed.place.as_ref().or(field.place.as_ref())))
                }
                // Where the pipeline's own value is missing or wrong, that was said already.
                (None, Some((_, value)), _, _) => match value {
                    Some(value) => Ok(value.clone()),
                    None => continue,
                },
                (None, None, Some(name), _) => {
                    let mut diagnostic = Diagnostic::new(format!(
                        "{what} takes `${name}`, which the pipeline's config does not have"
                    ));
                    diagnostic.hint = pipeline
                        .and_then(|(schema, _)| nearest(name, schema.fields.keys().map(String::as_str)))
                        .map(|near| format!("did you mean `${near}`?"))
                        .or_else(|| Some(format!("declare `{name}` under `config` of the pipeline")));
                    Err(diagnostic.at(field.place.as_ref()))
                }
                (None, None, None, Some(default)) => {
                    typed.check(&what, default).map_err(|error| error.at(field.place.as_ref()))
                }
                (None, None, None, None) => Err(Diagnostic::new(format!("{what} must be given"))
                    .hint(format!(
                        "add `{}` to the run config, or `--set {}=…`",
                        owner.path(key),
                        owner.set(key)
                    ))
                    .at(field.place.as_ref())),
            };
            match checked {
                Ok(value) => {
                    config.values.insert(key.clone(), value);
                }
                Err(error) => errors.push(error),
            }
        }
        config
    }
}

impl Config {
    /// As one map, secrets included: its canonical JSON is what `config.json` holds.
    pub fn to_value(&self) -> Value {
        Value::Map(self.values.clone())
    }
}

/// The candidate that a name was most likely meant to be, if any is near.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Damerau-Levenshtein counts a swapped pair as one slip; more than a third of the letters is another word.
    // A name of one letter is near to nothing: any other letter would be.
    let length = name.chars().count();
    let limit = (length / 3).max(1).min(length.saturating_sub(1));
    let folded = name.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&folded, &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Names for a sentence: `` `a`, `b` or `c` ``; only the first ten of many.
pub fn listed(names: &[String]) -> String {
    const SHOWN: usize = 10; // A longer list is not read.
    let quoted = names.iter().take(SHOWN).map(|name| format!("`{name}`")).collect::<Vec<_>>();
    match quoted.as_slice() {
        [] => "nothing".to_owned(),
        _ if names.len() > SHOWN => format!("{} and {} more", quoted.join(", "), names.len() - SHOWN),
        [one] => one.clone(),
        [most @ .., last] => format!("{} or {last}", most.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(values: &[(&str, Value)]) -> Value {
        Value::Map(values.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect())
    }

    #[test]
    fn values_print_as_canonical_json_and_read_back_the_same() {
        let cases = [
            (Value::Null, "null"),
            (Value::Bool(true), "true"),
            (Value::Int(-7), "-7"),
            (Value::Int(u64::MAX.into()), "18446744073709551615"),
            (Value::Float(1.0), "1.0"),
            (Value::Float(0.1), "0.1"),
            (Value::Float(-0.0), "-0.0"),
            (Value::Float(1e300), "1e300"),
            (Value::Str("a\"b\\c\n\u{1}é".to_owned()), "\"a\\\"b\\\\c\\n\\u0001é\""),
            (Value::List(vec![Value::Int(1), Value::Str(String::new())]), "[1,\"\"]"),
            (map(&[("b", Value::Int(1)), ("a", map(&[]))]), "{\"a\":{},\"b\":1}"),
        ];
        for (value, text) in cases {
            assert_eq!(value.to_string(), text);
            let json: serde_json::Value =
                serde_json::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(Value::from_json(&json), value, "{text}");
            assert_eq!(Value::from_json(&value.to_json()), value, "{text}");
        }
    }

    #[test]
    fn a_field_converts_whole_numbers_to_floats_and_nothing_else() {
        let check = |ty: Type, value: Value| {
            Field::of(ty).check("config `x`", &value).map_err(|error| match error.hint {
                Some(hint) => format!("{}; {hint}", error.message),
                None => error.message,
            })
        };
        assert_eq!(check(Type::Float, Value::Int(2)), Ok(Value::Float(2.0)));
        assert_eq!(check(Type::Any, Value::Null), Ok(Value::Null));
        let wrong = |ty, value, message: &str| assert_eq!(check(ty, value), Err(message.to_owned()));
        wrong(Type::Str, Value::Int(3), "config `x` must be str, and 3 is int; write it in quotes: \"3\"");
        wrong(Type::Int, Value::Float(1.0), "config `x` must be int, and 1.0 is float");
        let text = Value::Str("1".to_owned());
        wrong(Type::Int, text, "config `x` must be int, and \"1\" is str; write it without quotes");
        let text = |text: &str| Value::Str(text.to_owned());
        wrong(Type::Int, text("x"), "config `x` must be int, and \"x\" is str; give a whole number");
        wrong(Type::Float, text("$f"), "config `x` must be float, and \"$f\" is str; give a number");
        wrong(Type::Bool, text("yes"), "config `x` must be bool, and \"yes\" is str; give `true` or `false`");
        wrong(
            Type::Str,
            Value::Null,
            "config `x` must be str, and null is null; write it in quotes: \"null\"",
        );
        wrong(
            Type::Float,
            Value::Int((1 << 53) + 1),
            "config `x` is 9007199254740993, which no float holds exactly",
        );
        wrong(
            Type::Float,
            Value::Float(f64::NAN),
            "config `x` is not a number (NaN), which equals not even itself",
        );
        wrong(
            Type::Any,
            Value::List(vec![Value::Float(f64::INFINITY)]),
            "config `x` is infinite, which JSON cannot hold",
        );
    }

    #[test]
    fn a_secret_is_in_no_message() {
        let secret = |ty: Type, choices: &[&str]| Field {
            secret: true,
            choices: choices.iter().map(|choice| Value::Str((*choice).to_owned())).collect(),
            ..Field::of(ty)
        };
        for field in [secret(Type::Int, &[]), secret(Type::Str, &["hunter1", "hunter3"])] {
            let error = field.check("config `x`", &Value::Str("hunter2".to_owned())).err();
            let shown = format!("{error:?}");
            assert!(error.is_some() && !shown.contains("hunter"), "{shown}");
            // Nor in the line of the run config that it stands in.
            let mut errors = [error.unwrap().at(Some(&Place { file: "c.yaml".into(), line: 1, column: 4 }))];
            crate::file::add_excerpts(&mut errors, "c.yaml", "x: hunter2\n");
            assert!(!format!("{errors:?}").contains("hunter"), "{errors:?}");
        }
    }

    #[test]
    fn near_names() {
        let known = ["seed", "tree_species", "lr"];
        for (name, near) in
            [("sede", Some("seed")), ("SEED", Some("seed")), ("tree-species", Some("tree_species"))]
        {
            assert_eq!(nearest(name, known), near);
        }
        assert_eq!(nearest("xyz", known), None);
    }
}
