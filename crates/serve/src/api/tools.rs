//! Functions that a model may call: told in its prompt, and read out of what it writes.
//!
//! Calls stand between `<tool_call>` and `</tool_call>`, as Hermes, Qwen and SmolLM write them: an object with `name`
//! and `arguments`. Where a call is demanded, the output is held to such an object.

use crate::api::new_id;
use crate::error::ApiError;
use serde_json::{Value, json};

const OPEN: &str = "<tool_call>";
const CLOSE: &str = "</tool_call>";

/// What a request says about functions.
#[derive(Clone, Debug, Default)]
pub struct Tools {
    /// As OpenAI's API lists them.
    pub list: Vec<Value>,
    /// The model has to call one of these.
    pub demanded: Vec<Value>,
}

impl Tools {
    /// Reads `tools` and `tool_choice`.
    ///
    /// # Errors
    /// If a function has no name, or the choice is none of them.
    pub fn of(tools: Vec<Value>, choice: Option<&Value>) -> Result<Self, ApiError> {
        for (i, tool) in tools.iter().enumerate() {
            if tool["type"] != "function" || !tool["function"]["name"].is_string() {
                let message = "expected a function with a name";
                return Err(ApiError::field(format!("tools[{i}]"), message));
            }
        }
        let bad = |message: &str| Err(ApiError::field("tool_choice", message));
        let demanded = match choice {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::String(word)) => match word.as_str() {
                "none" => return Ok(Tools::default()),
                "auto" => Vec::new(),
                "required" if tools.is_empty() => return bad("a call is required, but there is no function"),
                "required" => tools.clone(),
                _ => return bad("expected none, auto, required or a function"),
            },
            Some(choice) => {
                let name = &choice["function"]["name"];
                match tools.iter().find(|tool| tool["function"]["name"] == *name) {
                    Some(tool) => vec![tool.clone()],
                    None => return bad("there is no function of this name"),
                }
            }
        };
        Ok(Tools { list: tools, demanded })
    }

    /// What the output is held to, if a call is demanded.
    pub fn schema(&self) -> Option<Value> {
        let one = |tool: &Value| {
            let function = &tool["function"];
            let arguments = match &function["parameters"] {
                Value::Object(schema) => Value::Object(schema.clone()),
                _ => json!({ "type": "object" }),
            };
            json!({
                "type": "object",
                "properties": { "name": { "const": function["name"] }, "arguments": arguments },
                "required": ["name", "arguments"],
                "additionalProperties": false,
            })
        };
        match &self.demanded[..] {
            [] => None,
            [tool] => Some(one(tool)),
            tools => Some(json!({ "anyOf": tools.iter().map(one).collect::<Vec<_>>() })),
        }
    }

    /// What a model is told whose template has no place for functions.
    pub fn in_words(&self) -> String {
        let lines: Vec<String> = self.list.iter().map(Value::to_string).collect();
        format!(
            "You may call functions to help with what is asked. They are, as JSON schemas, one a line:\n<tools>\n{}\n\
             </tools>\nTo call one, write an object with its name and arguments within {OPEN}{CLOSE} tags:\n{OPEN}\n\
             {{\"name\": \"the name\", \"arguments\": {{}}}}\n{CLOSE}",
            lines.join("\n")
        )
    }
}

/// Divides what a model writes into text and calls, as it comes.
#[derive(Debug, Default)]
pub struct Reader {
    /// Text that may be the beginning of a call, or is within one.
    held: String,
    /// The whole output is one call.
    demanded: bool,
    off: bool,
    found: usize,
}

/// A piece of what a model writes.
#[derive(Debug, PartialEq)]
pub enum Part {
    /// Text.
    Text(String),
    /// A call, as OpenAI's API has it, with its index.
    Call(Value),
}

impl Reader {
    /// For a request with these functions.
    pub fn new(tools: &Tools) -> Self {
        Reader { demanded: !tools.demanded.is_empty(), off: tools.list.is_empty(), ..Reader::default() }
    }

    /// Whether a call has come.
    pub fn has_called(&self) -> bool {
        self.found > 0
    }

    /// Takes more text in.
    pub fn push(&mut self, text: &str) -> Vec<Part> {
        if self.off {
            return vec![Part::Text(text.to_owned())];
        }
        self.held.push_str(text);
        let mut parts = Vec::new();
        while !self.demanded {
            let Some(open) = self.held.find(OPEN) else {
                // What may be the beginning of a tag waits.
                let keep = (1..OPEN.len()).rev().find(|&n| self.held.ends_with(&OPEN[..n])).unwrap_or(0);
                let rest = self.held.split_off(self.held.len() - keep);
                push_text(&mut parts, std::mem::replace(&mut self.held, rest));
                break;
            };
            let Some(close) = self.held[open..].find(CLOSE) else {
                let rest = self.held.split_off(open);
                push_text(&mut parts, std::mem::replace(&mut self.held, rest));
                break;
            };
            let end = open + close + CLOSE.len();
            let rest = self.held.split_off(end);
            let block = std::mem::replace(&mut self.held, rest);
            match self.call(&block[open + OPEN.len()..open + close]) {
                Some(call) => {
                    push_text(&mut parts, block[..open].to_owned());
                    parts.push(Part::Call(call));
                }
                // Not a call after all.
                None => push_text(&mut parts, block),
            }
        }
        parts
    }

    /// Ends the output.
    pub fn finish(&mut self) -> Vec<Part> {
        let rest = std::mem::take(&mut self.held);
        let inside = rest.strip_prefix(OPEN).unwrap_or(&rest);
        let is_call = self.demanded || rest.starts_with(OPEN);
        match is_call.then(|| self.call(inside)).flatten() {
            Some(call) => vec![Part::Call(call)],
            None if rest.is_empty() => Vec::new(),
            None => vec![Part::Text(rest)],
        }
    }

    fn call(&mut self, text: &str) -> Option<Value> {
        let json: Value = serde_json::from_str(text.trim()).ok()?;
        let name = json["name"].as_str()?;
        let arguments = match json.get("arguments").or_else(|| json.get("parameters")) {
            Some(Value::String(text)) => text.clone(),
            Some(arguments) => arguments.to_string(),
            None => "{}".to_owned(),
        };
        let index = self.found;
        self.found += 1;
        Some(json!({
            "index": index,
            "id": new_id("call"),
            "type": "function",
            "function": { "name": name, "arguments": arguments },
        }))
    }
}

fn push_text(parts: &mut Vec<Part>, text: String) {
    if !text.is_empty() {
        parts.push(Part::Text(text));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weather() -> Value {
        json!({ "type": "function", "function": { "name": "weather", "parameters": { "type": "object" } } })
    }

    fn read(reader: &mut Reader, pieces: &[&str]) -> (String, Vec<String>) {
        let mut parts: Vec<Part> = pieces.iter().flat_map(|piece| reader.push(piece)).collect();
        parts.extend(reader.finish());
        let (mut text, mut calls) = (String::new(), Vec::new());
        for part in parts {
            match part {
                Part::Text(more) => text += &more,
                Part::Call(call) => calls.push(format!("{} {}", call["index"], call["function"])),
            }
        }
        (text, calls)
    }

    #[test]
    fn calls_are_found_however_the_text_is_cut() {
        let tools = Tools::of(vec![weather()], None).expect("a function");
        let said = "I see. <tool_call>\n{\"name\": \"weather\", \"arguments\": {\"place\": \"Jena\"}}\n</tool_call>\
                    <tool_call>{\"name\":\"weather\",\"arguments\":{}}</tool_call> So < that <tool_call>no</tool_call>";
        let text = "I see.  So < that <tool_call>no</tool_call>";
        for size in 1..said.len() {
            let pieces: Vec<&str> = said
                .as_bytes()
                .chunks(size)
                .map(|piece| std::str::from_utf8(piece).expect("ASCII"))
                .collect();
            let (got, calls) = read(&mut Reader::new(&tools), &pieces);
            assert_eq!(got, text, "pieces of {size}");
            let [first, second] = &calls[..] else { panic!("{calls:?}") };
            assert!(
                first.starts_with("0 ") && first.contains("Jena") && first.contains("weather"),
                "{first}"
            );
            assert!(second.starts_with("1 ") && second.contains(r#""{}""#), "{second}");
        }
    }

    #[test]
    fn a_call_that_is_demanded_is_the_whole_output() {
        let tools = Tools::of(vec![weather()], Some(&json!("required"))).expect("a function");
        assert_eq!(tools.schema().expect("a schema")["properties"]["name"]["const"], "weather");
        let (text, calls) =
            read(&mut Reader::new(&tools), &["{\"name\": \"wea", "ther\", \"arguments\": {}}"]);
        assert_eq!((text.as_str(), calls.len()), ("", 1));
        for choice in [json!("sometimes"), json!({ "function": { "name": "other" } })] {
            assert!(Tools::of(vec![weather()], Some(&choice)).is_err(), "{choice}");
        }
        assert!(Tools::of(vec![], Some(&json!("required"))).is_err());
        assert!(Tools::of(vec![json!({ "type": "function" })], None).is_err());
        let none = Tools::of(vec![weather()], Some(&json!("none"))).expect("none");
        assert!(none.list.is_empty());
    }

    #[test]
    fn without_functions_a_tag_is_text() {
        let said = "<tool_call>{\"name\": \"x\"}</tool_call>";
        let (text, calls) = read(&mut Reader::new(&Tools::default()), &[said]);
        assert_eq!((text.as_str(), calls.len()), (said, 0));
    }
}
