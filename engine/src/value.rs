//! Config values and the schemas that they are checked against.
//!
//! A value keeps its type: `1`, `1.0`, `"1"`, `true`, `null`, `{}` and absent all differ.

use std::collections::BTreeMap;

use crate::error::Place;

/// A config value, as YAML 1.2's core schema and JSON know them.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `null`.
    Null,
    /// `true`, `false`.
    Bool(bool),
    /// A whole number from -2^63 to 2^64-1.
    Int(i128),
    /// A number with a fraction or an exponent, never NaN.
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
    pub secret: std::collections::BTreeSet<String>,
}
