//! The JSON Schema of a pipeline file, for editors: made from the table of keys.
//!
//! Pure.

use serde_json::{Map, Value, json};

use super::keys::{self, Hashed, Object, Shape};

/// The JSON Schema of a pipeline file.
pub fn json_schema() -> Value {
    let mut schema = object(&keys::PIPELINE);
    if let Value::Object(map) = &mut schema {
        let mut head = Map::new();
        head.insert("$schema".into(), "https://json-schema.org/draft/2020-12/schema".into());
        head.insert("title".into(), "cas pipeline file".into());
        head.append(map);
        let definitions = keys::OBJECTS
            .iter()
            .filter(|known| {
                !std::ptr::eq(**known, &raw const keys::PIPELINE) && !known.name.contains("run config")
            })
            .map(|known| (definition(known), object(known)))
            .collect();
        head.insert("$defs".into(), Value::Object(definitions));
        *map = head;
    }
    schema
}

/// The name of an object among the definitions: `config_field` for "a config field".
fn definition(object: &Object) -> String {
    let name =
        object.name.strip_prefix("a ").or_else(|| object.name.strip_prefix("an ")).unwrap_or(object.name);
    name.trim_matches('`').replace(' ', "_")
}

fn object(object: &Object) -> Value {
    let mut properties = Map::new();
    for key in object.keys {
        let hashed = match key.hashed {
            Hashed::Yes(how) => format!(" Part of the version: {how}."),
            Hashed::No(why) => format!(" Not part of the version: {why}."),
            Hashed::Inside => String::new(),
        };
        let mut value = shape(&key.shape);
        if let Value::Object(map) = &mut value {
            map.insert("description".into(), format!("{}{hashed}", key.doc).into());
        }
        properties.insert(key.name.into(), value);
    }
    json!({
        "type": "object",
        "properties": properties,
        "patternProperties": {"^x-": {}},
        "additionalProperties": false,
    })
}

fn shape(of: &Shape) -> Value {
    match of {
        Shape::Text | Shape::Amount => json!({"type": "string"}),
        Shape::Word => json!({"type": ["string", "number", "boolean"]}),
        Shape::Bool => json!({"type": "boolean"}),
        Shape::Count(least) => json!({"type": "integer", "minimum": least}),
        Shape::Choice(words) => json!({"enum": words}),
        Shape::Any => json!({}),
        Shape::List(item) => json!({"type": "array", "items": shape(item)}),
        Shape::Some(item) => json!({"anyOf": [shape(item), {"type": "array", "items": shape(item)}]}),
        Shape::Map(object) => json!({"$ref": format!("#/$defs/{}", definition(object))}),
        Shape::Named(value) => {
            json!({"type": "object", "patternProperties": {"^x-": {}}, "additionalProperties": shape(value)})
        }
        Shape::Either(shapes) => json!({"anyOf": shapes.iter().map(shape).collect::<Vec<_>>()}),
        Shape::OrNothing(value) => json!({"anyOf": [shape(value), {"type": "null"}]}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reference_of_the_schema_is_defined() {
        fn walk(value: &Value, seen: &mut Vec<String>) {
            match value {
                Value::Object(map) => {
                    seen.extend(map.get("$ref").and_then(Value::as_str).map(str::to_owned));
                    map.values().for_each(|value| walk(value, seen));
                }
                Value::Array(items) => items.iter().for_each(|item| walk(item, seen)),
                _ => {}
            }
        }
        let schema = json_schema();
        let mut seen = Vec::new();
        walk(&schema, &mut seen);
        assert!(seen.iter().any(|reference| reference == "#/$defs/solid"), "{seen:?}");
        for reference in seen {
            let name = reference.strip_prefix("#/$defs/").expect("a reference to a definition");
            assert!(schema["$defs"][name].is_object(), "{reference}");
        }
        assert_eq!(schema["properties"]["solids"]["additionalProperties"]["$ref"], "#/$defs/solid");
        assert!(
            schema["$defs"]["solid"]["properties"]["command"]["description"]
                .as_str()
                .is_some_and(|d| d.contains("Part of the version"))
        );
    }
}
