//! Config as a struct: the schema that follows from its type, and the values given back as one.
//!
//! The fields, their types and which of them may be left out are found by asking the type (`shape.rs`), so
//! there is nothing to write twice. A default is part of what a step sees: it is taken from the type, stands
//! in the schema, and so in the resolved config that is hashed. What lies deeper in the type (the defaults of
//! a nested struct) goes into the solid's version through [`Described::shape`].

use std::collections::BTreeMap;
use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::BoxError;
use super::probe::{Pass, Probe};
use super::shape::{Body, Form, Named, Node, Shape, ShapeError};
use crate::value::{Config, Field, Schema, Type, Value};

/// A value that is hashed, but never printed and kept only as a keyed digest.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Secret<T>(pub T);

/// What a newtype of this name holds is secret.
const SECRET: &str = "cas_engine::typed::Secret";

impl<T> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl<T: Serialize> Serialize for Secret<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_newtype_struct(SECRET, &self.0)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Secret<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Inner<T>(std::marker::PhantomData<T>);

        impl<'de, T: Deserialize<'de>> serde::de::Visitor<'de> for Inner<T> {
            type Value = Secret<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a secret value")
            }

            fn visit_newtype_struct<D: Deserializer<'de>>(
                self,
                deserializer: D,
            ) -> Result<Secret<T>, D::Error> {
                T::deserialize(deserializer).map(Secret)
            }
        }

        deserializer.deserialize_newtype_struct(SECRET, Inner(std::marker::PhantomData))
    }
}

/// What follows from the type of a config.
#[derive(Debug, Clone)]
pub(super) struct Described {
    /// The fields with their types and defaults.
    pub(super) schema: Schema,
    /// Everything of the type that a step could see, in one text.
    pub(super) shape: String,
}

/// Finds the schema of a config type.
pub(super) fn describe<T: Serialize + DeserializeOwned>() -> Result<Described, String> {
    let type_name = std::any::type_name::<T>();
    let mut defaults: BTreeMap<Vec<String>, serde_json::Value> = BTreeMap::new();
    let mut hidden = None;
    let shape = Shape::trace::<T>(Form::Readable, &mut |_, before, pass| {
        for field in &pass.fields {
            if let Some(default) = default_of::<T>(before, pass, field)? {
                match default {
                    Some(json) => {
                        defaults.insert(field.clone(), json);
                    }
                    None => hidden = Some(field.join(".")),
                }
            }
        }
        Ok(())
    })
    .map_err(|error| error.to_string())?;
    if let Some(field) = hidden {
        return Err(format!(
            "the default of the field `{field}` of `{type_name}` cannot be seen: serialize it always"
        ));
    }
    let Some(fields) = fields(&shape) else {
        return Err(format!("`{type_name}` is no struct with named fields, as a config has to be"));
    };
    let mut schema = Schema::default();
    for (name, node) in fields {
        let mut field = field(&shape, node);
        if let Some(json) = defaults.get(&vec![(*name).to_owned()]) {
            let default = Value::from_json(json);
            if default == Value::Null && !field.choices.is_empty() {
                field.choices.push(Value::Null);
            }
            field.default = Some(default);
        }
        schema.fields.insert((*name).to_owned(), field);
    }
    let mut text = shape.to_string();
    for (path, json) in &defaults {
        text.push_str(&format!(" {:?}={json}", path.join(".")));
    }
    Ok(Described { schema, shape: text })
}

/// The value of a field that is left out: `None` where it may not be, `Some(None)` where it cannot be seen.
fn default_of<T: Serialize + DeserializeOwned>(
    before: &Pass,
    pass: &Pass,
    field: &[String],
) -> Result<Option<Option<serde_json::Value>>, ShapeError> {
    let mut trial = before.again(pass);
    trial.without = Some(field.to_vec());
    let Ok(value) = T::deserialize(Probe(&mut trial)) else { return Ok(None) };
    let Ok(json) = serde_json::to_value(&value) else { return Ok(Some(None)) };
    let mut at = &json;
    for part in field {
        let next = match (part.as_str(), at) {
            ("<value>", serde_json::Value::Object(map)) => map.values().next(),
            (key, serde_json::Value::Object(map)) => map.get(key),
            (index, serde_json::Value::Array(items)) => {
                index.parse::<usize>().ok().and_then(|index| items.get(index))
            }
            _ => None,
        };
        match next {
            Some(next) => at = next,
            None => return Ok(Some(None)),
        }
    }
    Ok(Some(Some(at.clone())))
}

fn fields(shape: &Shape) -> Option<&[(&'static str, Node)]> {
    let Node::Named(index) = &shape.root else { return None };
    match &shape.named[*index].body {
        Body::Struct(fields) => Some(fields),
        _ => None,
    }
}

/// The field of a schema for a part of a shape.
fn field(shape: &Shape, node: &Node) -> Field {
    let mut field = Field::of(Type::Any);
    match node {
        Node::Leaf("bool") => field.ty = Type::Bool,
        Node::Leaf("f32" | "f64") => field.ty = Type::Float,
        Node::Leaf("char" | "str" | "string") => field.ty = Type::Str,
        Node::Leaf("bytes") => field.ty = Type::List,
        Node::Leaf("unit") | Node::Any | Node::Option(None) => {}
        Node::Leaf(_) => field.ty = Type::Int,
        Node::Option(Some(inner)) => return self::field(shape, inner),
        Node::Seq(_) | Node::Tuple(_) => field.ty = Type::List,
        Node::Map(_) => field.ty = Type::Map,
        Node::Named(index) => match &shape.named[*index] {
            Named { name, body: Body::Newtype(inner) } => {
                field = self::field(shape, inner);
                field.secret |= *name == SECRET;
            }
            Named { body: Body::Tuple(_), .. } => field.ty = Type::List,
            Named { body: Body::Struct(_), .. } => field.ty = Type::Map,
            Named { body: Body::Enum(variants), .. } => {
                let plain = variants.iter().all(|(_, held)| *held == Some(super::shape::Variant::Unit));
                if plain {
                    field.ty = Type::Str;
                    field.choices = variants.iter().map(|(name, _)| Value::Str((*name).to_owned())).collect();
                }
            }
            Named { body: Body::Open | Body::Unit, .. } => {}
        },
    }
    field
}

/// The config of a step as its type. Values of axes, which stand beside the fields, are left out.
pub(super) fn decode<T: DeserializeOwned>(config: &Config, fields: &[String]) -> Result<T, BoxError> {
    let values = config
        .values
        .iter()
        .filter(|(key, _)| fields.contains(key))
        .map(|(key, value)| (key.clone(), value.to_json()))
        .collect();
    serde_json::from_value(serde_json::Value::Object(values)).map_err(|error| {
        // The text of the error may quote a value.
        if config.secret.is_empty() {
            format!("its config cannot be read as `{}`: {error}", std::any::type_name::<T>()).into()
        } else {
            format!("its config cannot be read as `{}`", std::any::type_name::<T>()).into()
        }
    })
}

/// One value as its type.
pub(super) fn decode_value<T: DeserializeOwned>(value: &Value) -> Result<T, BoxError> {
    Ok(serde_json::from_value(value.to_json())?)
}

/// A value of Rust's as a config value.
pub(super) fn encode_value<T: Serialize + ?Sized>(value: &T) -> Result<Value, BoxError> {
    Ok(Value::from_json(&serde_json::to_value(value)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Train {
        rate: f64,
        #[serde(default = "ten")]
        rounds: u32,
        loss: Loss,
        name: Option<String>,
        #[serde(default)]
        other: Option<Loss>,
        layers: Vec<u16>,
        inner: Inner,
        key: Secret<String>,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Inner {
        #[serde(default = "ten")]
        depth: u32,
        wide: bool,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Loss {
        LeastSquares,
        Huber,
    }

    fn ten() -> u32 {
        10
    }

    #[test]
    fn a_schema_follows_from_the_type() {
        let described = describe::<Train>().expect("described");
        let fields = &described.schema.fields;
        let field = |ty, default: Option<Value>| Field { default, ..Field::of(ty) };
        let choices = vec![Value::Str("least_squares".into()), Value::Str("huber".into())];
        assert_eq!(fields["rate"], field(Type::Float, None));
        assert_eq!(fields["rounds"], field(Type::Int, Some(Value::Int(10))));
        assert_eq!(fields["loss"], Field { choices: choices.clone(), ..field(Type::Str, None) });
        assert_eq!(fields["name"], field(Type::Str, Some(Value::Null)));
        let with_null = [choices, vec![Value::Null]].concat();
        assert_eq!(fields["other"], Field { choices: with_null, ..field(Type::Str, Some(Value::Null)) });
        assert_eq!(fields["layers"], field(Type::List, None));
        assert_eq!(fields["inner"], field(Type::Map, None));
        assert_eq!(fields["key"], Field { secret: true, ..field(Type::Str, None) });
        assert_eq!(fields.len(), 8);
        // A default that lies deeper is no default of the schema, but changes the shape.
        assert!(described.shape.contains(r#""inner.depth"=10"#), "{}", described.shape);
        assert!(!described.shape.contains("inner.wide\"="), "{}", described.shape);
    }

    #[test]
    fn a_config_is_given_back_as_its_type() {
        let mut config = Config::default();
        for (key, value) in [("depth", Value::Int(3)), ("wide", Value::Bool(true)), ("axis", Value::Int(1))] {
            config.values.insert(key.into(), value);
        }
        let fields = ["depth".to_owned(), "wide".to_owned()];
        assert_eq!(decode::<Inner>(&config, &fields).expect("read"), Inner { depth: 3, wide: true });
    }

    #[test]
    fn what_is_no_struct_or_hides_its_default_is_refused() {
        let error = describe::<u32>().expect_err("no struct");
        assert_eq!(error, "`u32` is no struct with named fields, as a config has to be");

        #[derive(Serialize, Deserialize)]
        struct Hides {
            #[serde(default, skip_serializing_if = "Vec::is_empty")]
            list: Vec<u8>,
        }
        let error = describe::<Hides>().expect_err("hidden");
        assert!(error.contains("the default of the field `list` of"), "{error}");
    }

    #[test]
    fn a_secret_is_not_in_messages() {
        assert_eq!(format!("{:?}", Secret("hush")), "***");
        let mut config = Config::default();
        config.values.insert("depth".into(), Value::Str("hush".into()));
        config.values.insert("wide".into(), Value::Bool(true));
        config.secret.insert("depth".into());
        let fields = ["depth".to_owned(), "wide".to_owned()];
        let error = decode::<Inner>(&config, &fields).expect_err("no number");
        assert!(!error.to_string().contains("hush"), "{error}");
    }
}
