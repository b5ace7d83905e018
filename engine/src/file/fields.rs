//! Reads `config:`: the fields that a solid, a resource or the pipeline takes.
//!
//! Pure.

use crate::value::{Field, Schema, Type};

use super::keys;
use super::node::{Entry, Kind, Mark, Node};
use super::reader::{Reader, suggestion};

/// Reads a schema. `pipeline` holds the fields that `$name` can take; `None` for the pipeline's own config.
pub(crate) fn schema(reader: &mut Reader<'_>, node: &Node, pipeline: Option<&Schema>) -> Schema {
    let mut schema = Schema::default();
    for entry in reader.names(node, "config", "config: {seed: int, name: {type: str, default: x}}") {
        if let Some(field) = field(reader, entry, pipeline) {
            schema.fields.insert(entry.key.clone(), field);
        }
    }
    schema
}

fn field(reader: &mut Reader<'_>, entry: &Entry, pipeline: Option<&Schema>) -> Option<Field> {
    let place = Some(reader.place(entry.at));
    match &entry.value.kind {
        Kind::Scalar(_) => {
            let text = reader.word(&entry.value, &entry.key).unwrap_or_default();
            if let Some(name) = text.strip_prefix('$') {
                let taken = taken(reader, entry.value.at, name, pipeline)?;
                return Some(Field { place, ..taken });
            }
            let ty = ty(reader, &entry.value, &entry.key)?;
            Some(Field { place, ..Field::of(ty) })
        }
        Kind::Map(_) => long(reader, entry).map(|field| Field { place, ..field }),
        Kind::List(_) => {
            let hint = format!("for a choice write {}: {{type: str, enum: […]}}", entry.key);
            reader.expected(&entry.value, &entry.key, "a type", hint);
            None
        }
    }
}

/// A field that takes the pipeline's value of this name: its type and secrecy are the pipeline's too.
fn taken(reader: &mut Reader<'_>, at: Mark, name: &str, pipeline: Option<&Schema>) -> Option<Field> {
    let Some(pipeline) = pipeline else {
        reader.fault(
            at,
            format!("`${name}` takes a value of the pipeline's config, and this is that config"),
            "",
        );
        return None;
    };
    let Some(field) = pipeline.fields.get(name) else {
        let known = pipeline.fields.keys().map(String::as_str);
        let none =
            format!("declare it at the top of the file: config: {{{name}: {{type: int, default: 0}}}}");
        let hint = suggestion(name, known, &none);
        reader.fault(at, format!("the pipeline's config has no `{name}`"), hint);
        return None;
    };
    Some(Field { default: None, from_pipeline: Some(name.to_owned()), ..field.clone() })
}

fn long(reader: &mut Reader<'_>, entry: &Entry) -> Option<Field> {
    let fields = reader.object(&entry.value, &keys::FIELD)?;
    let Some(node) = fields.get("type") else {
        let hint =
            format!("say what its values are: {}: {{type: {}, …}}", entry.key, keys::TYPES.join(" | "));
        reader.fault(entry.at, format!("the config field `{}` has no `type`", entry.key), hint);
        return None;
    };
    let mut field = Field::of(ty(reader, node, "type")?);
    field.secret = fields.get("secret").and_then(|node| reader.bool(node, "secret")).unwrap_or(false);
    if let Some(node) = fields.get("enum") {
        let Kind::List(items) = &node.kind else {
            reader.expected(node, "enum", "a list", "write it like this: enum: [a, b]");
            return None;
        };
        if items.is_empty() {
            reader.fault(node.at, "`enum` allows no value at all", "leave it out, or name the values");
        }
        for item in items {
            let Some(value) = reader.value(item) else { continue };
            match Field::of(field.ty).check("a value of `enum`", &value) {
                Ok(value) => field.choices.push(value),
                Err(wrong) => reader.fault(item.at, wrong.message, wrong.hint.unwrap_or_default()),
            }
        }
    }
    if let Some(node) = fields.any("default")
        && let Some(value) = reader.value(node)
    {
        // A default of `null` is always allowed: it says that there is none of the type.
        if value == crate::value::Value::Null {
            field.default = Some(value);
        } else {
            match field.check("the default", &value) {
                Ok(value) => field.default = Some(value),
                Err(wrong) => reader.fault(node.at, wrong.message, wrong.hint.unwrap_or_default()),
            }
        }
    }
    Some(field)
}

fn ty(reader: &mut Reader<'_>, node: &Node, key: &str) -> Option<Type> {
    let word = match &node.kind {
        Kind::Scalar(scalar) => scalar.text.as_str(),
        Kind::List(_) | Kind::Map(_) => "",
    };
    let ty = match word {
        "str" => Type::Str,
        "int" => Type::Int,
        "float" => Type::Float,
        "bool" => Type::Bool,
        "list" => Type::List,
        "map" => Type::Map,
        "any" => Type::Any,
        _ => {
            let meant = match word.to_lowercase().as_str() {
                "string" | "text" | "char" => Some("str"),
                "integer" | "long" | "uint" | "i64" | "u64" => Some("int"),
                "number" | "double" | "real" | "f64" | "decimal" => Some("float"),
                "boolean" | "flag" => Some("bool"),
                "array" | "sequence" | "seq" | "tuple" => Some("list"),
                "object" | "dict" | "mapping" | "hash" | "permissive" => Some("map"),
                _ => crate::value::nearest(word, keys::TYPES.iter().copied()),
            };
            let hint = match meant {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!(
                    "the types are {}; for a value that is used where none is given write \
                     {{type: {}, default: {word}}}",
                    keys::TYPES.join(", "),
                    guess(node),
                ),
            };
            reader.fault(node.at, format!("`{word}` is no type for `{key}`"), hint);
            return None;
        }
    };
    Some(ty)
}

/// The type that a literal in the place of a type has.
fn guess(node: &Node) -> &'static str {
    super::scalar::value(node).map_or("any", |value| match value.type_name() {
        "null" => "any",
        name => name,
    })
}
