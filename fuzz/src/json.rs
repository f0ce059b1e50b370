//! Edits to JSON: any place in a document replaced, removed or repeated.

use crate::{number, text};
use arbitrary::{Result, Unstructured};
use serde_json::{Value, json};

/// A value that may stand anywhere; `words` are those that the reader of the document knows.
fn value(u: &mut Unstructured, words: &[&str]) -> Result<Value> {
    Ok(match u.int_in_range(0..=8)? {
        0 => Value::Null,
        1 => u.arbitrary::<bool>()?.into(),
        2 => number(u)?.into(),
        3 => (number(u)? as i64).into(),
        4 => json!(f64::from_bits(u.arbitrary()?)),
        5 => text(u)?.into(),
        6 if !words.is_empty() => (*u.choose(words)?).into(),
        7 => json!([]),
        _ => json!({}),
    })
}

/// Replaces, removes or repeats one place of `document`.
pub fn edit(u: &mut Unstructured, document: &mut Value, words: &[&str]) -> Result<()> {
    match document {
        Value::Array(items) if !items.is_empty() && !u.ratio(1, 6)? => {
            let at = u.choose_index(items.len())?;
            match u.int_in_range(0..=5)? {
                0 => drop(items.remove(at)),
                1 => {
                    let copy = items[at].clone();
                    items.insert(at, copy);
                }
                _ => return edit(u, &mut items[at], words),
            }
        }
        Value::Object(fields) if !fields.is_empty() && !u.ratio(1, 6)? => {
            let at = u.choose_index(fields.len())?;
            let Some(name) = fields.keys().nth(at).cloned() else { return Ok(()) };
            match u.int_in_range(0..=7)? {
                0 => drop(fields.remove(&name)),
                1 => {
                    let name = if u.ratio(1, 2)? { text(u)? } else { (*u.choose(words)?).to_owned() };
                    fields.insert(name, value(u, words)?);
                }
                _ => {
                    if let Some(inner) = fields.get_mut(&name) {
                        return edit(u, inner, words);
                    }
                }
            }
        }
        place => *place = value(u, words)?,
    }
    Ok(())
}
