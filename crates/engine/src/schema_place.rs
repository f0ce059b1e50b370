//! Where in a JSON schema a problem lies.

use serde_json::{Map, Value};

/// Keywords whose value is a schema, or a list of them.
const SCHEMAS: [&str; 9] = [
    "items",
    "prefixItems",
    "additionalProperties",
    "additionalItems",
    "anyOf",
    "oneOf",
    "allOf",
    "not",
    "contains",
];
/// Keywords whose value names schemas.
const NAMED: [&str; 4] = ["properties", "patternProperties", "$defs", "definitions"];

/// The JSON pointer of the deepest part of a schema that fails by itself; `#` is the whole.
pub(crate) fn place_of_problem(schema: &Value, fails: &dyn Fn(&Value) -> bool) -> String {
    let definitions = |name: &str| schema.get(name).map(|value| (name.to_owned(), value.clone()));
    let shared: Map<String, Value> = NAMED[2..].iter().filter_map(|name| definitions(name)).collect();
    let mut place = String::from("#");
    let mut whole = schema;
    // Each part lies within the one before it, so this ends.
    while let Some((step, part)) = parts(whole).into_iter().find(|(_, part)| fails(&with(part, &shared))) {
        place += &step;
        whole = part;
    }
    place
}

/// A part, with the definitions that it may refer to.
fn with(part: &Value, shared: &Map<String, Value>) -> Value {
    let mut part = part.clone();
    // A definition that itself fails would blame each part that stands beside it.
    let refers = part.to_string().contains("\"$ref\"");
    if let Some(object) = part.as_object_mut().filter(|_| refers) {
        shared.iter().for_each(|(name, value)| {
            object.entry(name.clone()).or_insert_with(|| value.clone());
        });
    }
    part
}

/// The schemas directly within one, and the steps to them.
fn parts(schema: &Value) -> Vec<(String, &Value)> {
    let mut found = Vec::new();
    for name in NAMED {
        for (key, part) in schema.get(name).and_then(Value::as_object).into_iter().flatten() {
            found.push((format!("/{name}/{}", key.replace('~', "~0").replace('/', "~1")), part));
        }
    }
    for name in SCHEMAS {
        match schema.get(name) {
            Some(Value::Array(list)) => {
                found.extend(list.iter().enumerate().map(|(i, part)| (format!("/{name}/{i}"), part)));
            }
            Some(part @ Value::Object(_)) => found.push((format!("/{name}"), part)),
            _ => {}
        }
    }
    found
}
