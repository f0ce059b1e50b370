//! The text of a record: a JSON value, or a row of a table.

use std::path::Path;

use serde_json::Value;

use crate::error::{DataError, Result};

/// The field or column that is read when none is named.
pub(crate) const DEFAULT_FIELD: &str = "text";
/// Column names that are taken for the text when a table has no column `text`, in this order.
const LIKELY_COLUMNS: &[&str] = &["text", "content", "body", "review", "sentence", "document", "message"];

/// The text of a JSON value: the value itself if it is a string, else the field of the object.
pub(crate) fn text_of_json(value: Value, field: Option<&str>, file: &Path, line: u64) -> Result<String> {
    let name = field.unwrap_or(DEFAULT_FIELD);
    let mut fields = match value {
        Value::String(text) if field.is_none() => return Ok(text),
        Value::Object(fields) => fields,
        other => {
            let problem = format!("expected a JSON object with the field {name:?}, got {}", kind_of(&other));
            return Err(DataError::record(file, line, problem));
        }
    };
    match fields.remove(name) {
        Some(Value::String(text)) => Ok(text),
        Some(other) => {
            let problem = format!("field {name:?} holds {}, expected a string", kind_of(&other));
            Err(DataError::record(file, line, problem))
        }
        None => Err(missing(name, fields.keys().map(String::as_str), file, line)),
    }
}

/// The index of the text column: the one named, or the likeliest, or the only one.
pub(crate) fn text_column(headers: &csv::StringRecord, field: Option<&str>, file: &Path) -> Result<usize> {
    let position = |name: &str| headers.iter().position(|header| header.trim().eq_ignore_ascii_case(name));
    let found = match field {
        Some(name) => position(name),
        None if headers.len() == 1 => Some(0),
        None => LIKELY_COLUMNS.iter().find_map(|name| position(name)),
    };
    found.ok_or_else(|| missing(field.unwrap_or(DEFAULT_FIELD), headers.iter(), file, 1))
}

fn missing<'a>(name: &str, fields: impl Iterator<Item = &'a str>, file: &Path, line: u64) -> DataError {
    let fields: Vec<String> = fields.map(|field| format!("{field:?}")).collect();
    let fields = if fields.is_empty() { "none".to_string() } else { fields.join(", ") };
    DataError::MissingField { file: file.to_path_buf(), line, field: name.to_string(), fields }
}

pub(crate) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}
