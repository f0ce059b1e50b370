//! `POST /v1/responses`: OpenAI's newer interface for conversations, without a memory of earlier ones.

use crate::api::dialogue::{Answer, Begun, Content, Dialogue, Turn};
use crate::api::params::Params;
use crate::api::stream::{Events, events};
use crate::api::tools::{Part, Reader};
use crate::api::{Usage, answer, finish_reason, new_id, now, read};
use crate::app::{App, Caller};
use crate::error::ApiError;
use crate::guard::Filter;
use crate::worker::Update;
use axum::Extension;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use tokio::sync::mpsc::UnboundedReceiver;

/// The body.
#[derive(Debug, Deserialize)]
struct Asked {
    input: Input,
    instructions: Option<String>,
    max_output_tokens: Option<usize>,
    previous_response_id: Option<String>,
    text: Option<TextSettings>,
    #[serde(default)]
    tools: Vec<Value>,
    tool_choice: Option<Value>,
    #[serde(flatten)]
    params: Params,
}

#[derive(Debug, Deserialize)]
struct TextSettings {
    format: Option<Value>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected a text, or a list of items")]
enum Input {
    Text(String),
    Items(Vec<Item>),
}

/// A message, a call of a function, or what came of one.
#[derive(Debug, Deserialize)]
struct Item {
    #[serde(rename = "type")]
    kind: Option<String>,
    role: Option<String>,
    content: Option<Content>,
    call_id: Option<String>,
    name: Option<String>,
    arguments: Option<String>,
    output: Option<Content>,
}

impl Item {
    fn turn(self, place: usize) -> Result<Turn, ApiError> {
        let field = |what: &str| format!("input[{place}].{what}");
        match self.kind.as_deref().unwrap_or("message") {
            "message" => {
                let role = self.role.ok_or_else(|| ApiError::field(field("role"), "expected a role"))?;
                Ok(Turn { role, content: self.content, tool_calls: None })
            }
            "function_call" => {
                let name = self.name.ok_or_else(|| ApiError::field(field("name"), "expected a name"))?;
                let function = json!({ "name": name, "arguments": self.arguments.unwrap_or_default() });
                let call = json!({ "id": self.call_id, "type": "function", "function": function });
                let calls = vec![call.as_object().cloned().unwrap_or_default()];
                Ok(Turn { role: "assistant".into(), content: None, tool_calls: Some(calls) })
            }
            "function_call_output" => {
                Ok(Turn { role: "tool".into(), content: self.output, tool_calls: None })
            }
            kind => {
                let message = format!("{kind:?}, expected message, function_call or function_call_output");
                Err(ApiError::field(field("type"), message))
            }
        }
    }
}

/// Functions stand in an object of their own elsewhere.
fn nested(tool: Value) -> Value {
    match tool {
        Value::Object(mut fields) if fields.contains_key("name") => {
            let kind = fields.remove("type").unwrap_or_default();
            json!({ "type": kind, "function": fields })
        }
        other => other,
    }
}

impl Asked {
    /// The conversation, and all of an answer that only repeats what was asked for.
    fn dialogue(self) -> Result<(Dialogue, Map<String, Value>), ApiError> {
        if self.previous_response_id.is_some() {
            let message = "answers aren't kept here: send the conversation in input";
            return Err(ApiError::field("previous_response_id", message));
        }
        let mut params = self.params;
        if params.n() != 1 {
            return Err(ApiError::field("n", "there is one answer"));
        }
        params.max_tokens = self.max_output_tokens.or(params.max_tokens);
        let format = self.text.and_then(|text| text.format).filter(|format| !format.is_null());
        params.response_format = format.clone().map(|format| match format["type"].as_str() {
            Some("json_schema") => json!({ "type": "json_schema", "json_schema": format }),
            _ => format,
        });
        let told = json!({
            "instructions": self.instructions,
            "max_output_tokens": params.max_tokens,
            "temperature": params.temperature.unwrap_or(1.0),
            "top_p": params.top_p.unwrap_or(1.0),
            "text": { "format": format.unwrap_or_else(|| json!({ "type": "text" })) },
            "tools": self.tools,
            "tool_choice": self.tool_choice.clone().unwrap_or_else(|| "auto".into()),
        });
        let mut messages = Vec::new();
        let says = |role: &str, text| Turn {
            role: role.to_owned(),
            content: Some(Content::Text(text)),
            tool_calls: None,
        };
        messages.extend(self.instructions.map(|text| says("system", text)));
        match self.input {
            Input::Text(text) => messages.push(says("user", text)),
            Input::Items(items) => {
                for (place, item) in items.into_iter().enumerate() {
                    messages.push(item.turn(place)?);
                }
            }
        }
        let dialogue = Dialogue {
            messages,
            tools: self.tools.into_iter().map(nested).collect(),
            tool_choice: self.tool_choice.map(nested),
            logprobs: None,
            top_logprobs: None,
            params,
        };
        Ok((dialogue, told.as_object().cloned().unwrap_or_default()))
    }
}

/// What stays the same of an answer while it comes.
struct Frame {
    id: String,
    created: u64,
    model: String,
    told: Map<String, Value>,
}

impl Frame {
    /// `end`: why it ended, and what it took.
    fn json(&self, output: &[Value], end: Option<(&str, &Usage)>) -> Value {
        let cut = end.is_some_and(|(finish, _)| finish == "length");
        let mut json = json!({
            "id": self.id,
            "object": "response",
            "created_at": self.created,
            "model": self.model,
            "status": match end { None => "in_progress", Some(_) if cut => "incomplete", Some(_) => "completed" },
            "incomplete_details": cut.then(|| json!({ "reason": "max_output_tokens" })),
            "error": null,
            "output": output,
            "parallel_tool_calls": true,
            "previous_response_id": null,
            "store": false,
            "truncation": "disabled",
            "metadata": {},
            "usage": end.map(|(_, usage)| {
                let usage = usage.json();
                json!({
                    "input_tokens": usage["prompt_tokens"],
                    "input_tokens_details": usage["prompt_tokens_details"],
                    "output_tokens": usage["completion_tokens"],
                    "output_tokens_details": { "reasoning_tokens": 0 },
                    "total_tokens": usage["total_tokens"],
                })
            }),
        });
        if let Some(fields) = json.as_object_mut() {
            fields.extend(self.told.clone());
        }
        json
    }
}

fn text_part(text: &str) -> Value {
    json!({ "type": "output_text", "text": text, "annotations": [], "logprobs": [] })
}

fn message_item(id: &str, status: &str, content: &[Value]) -> Value {
    json!({ "type": "message", "id": id, "status": status, "role": "assistant", "content": content })
}

fn call_item(id: &str, status: &str, call: &Value) -> Value {
    let function = &call["function"];
    json!({
        "type": "function_call",
        "id": id,
        "call_id": call["id"],
        "name": function["name"],
        "arguments": function["arguments"],
        "status": status,
    })
}

/// Answers a conversation.
///
/// # Errors
/// If the request can't be carried out.
pub async fn responses(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    body: Bytes,
) -> Result<Response, ApiError> {
    let (dialogue, told) = read::<Asked>(&body)?.dialogue()?;
    let streams = dialogue.params.streams();
    let mut begun = dialogue.begin(&app, caller).await?;
    let frame = Frame { id: new_id("resp"), created: now(), model: begun.name.clone(), told };
    if !streams {
        let (mut answers, usage) = begun.whole(&app).await?;
        let Some(Answer { text, calls, finish, .. }) = answers.pop() else {
            return Err(ApiError::internal("the model gave no answer"));
        };
        let mut output = Vec::new();
        if calls.is_empty() || !text.is_empty() {
            output.push(message_item(&new_id("msg"), "completed", &[text_part(&text)]));
        }
        output.extend(calls.iter().map(|call| call_item(&new_id("fc"), "completed", call)));
        return Ok(answer(&frame.json(&output, Some((finish, &usage)))));
    }
    let first = begun.first().await?;
    let (events, response) = events();
    let Begun { tools, work, .. } = begun;
    let (filter, reader) = (app.guard.output(), Reader::new(&tools));
    let stream = Streaming { app, frame, events, filter, reader, output: Vec::new(), open: None, sent: 0 };
    tokio::spawn(stream.run(first, work));
    Ok(response)
}

/// An answer on its way, event by event.
struct Streaming {
    app: Arc<App>,
    frame: Frame,
    events: Events,
    filter: Filter,
    reader: Reader,
    /// Items that are whole.
    output: Vec<Value>,
    /// The message that is being written: its name, and what it says so far.
    open: Option<(String, String)>,
    sent: usize,
}

impl Streaming {
    async fn run(mut self, first: Update, mut work: UnboundedReceiver<Update>) {
        let begin = self.frame.json(&[], None);
        self.send("response.created", json!({ "response": begin }));
        self.send("response.in_progress", json!({ "response": begin }));
        let mut next = Some(first);
        while let Some(update) = next {
            let done = match update {
                Update::Text { text, .. } => {
                    let parts = self.reader.push(&text);
                    self.parts(parts)
                }
                Update::Finished(finished) => {
                    let mut usage = Usage::default();
                    usage.add(&finished, true);
                    self.app.metrics.tokens(usage.tokens());
                    let Ok(completion) = finished.completion else { return };
                    match self.end(finish_reason(completion.finish), &usage) {
                        Ok(()) => return,
                        Err(error) => Err(error),
                    }
                }
                Update::Failed(error) => Err(ApiError::from(error)),
                Update::TimedOut => Err(ApiError::timed_out()),
            };
            if let Err(error) = done {
                // Dropping the channel cancels the request.
                let error = json!({ "code": error.code, "message": error.message, "param": error.param });
                return self.send("error", error);
            }
            next = tokio::select! {
                update = work.recv() => update,
                () = self.events.is_gone() => return,
            };
        }
    }

    fn send(&mut self, kind: &str, mut json: Value) {
        json["type"] = kind.into();
        json["sequence_number"] = self.sent.into();
        self.sent += 1;
        self.events.named(kind, &json);
    }

    /// An event of the item that is not yet whole.
    fn send_of_item(&mut self, kind: &str, id: &str, mut json: Value) {
        json["output_index"] = self.output.len().into();
        json["item_id"] = id.into();
        self.send(kind, json);
    }

    fn parts(&mut self, parts: Vec<Part>) -> Result<(), ApiError> {
        for part in parts {
            match part {
                Part::Text(text) => {
                    let text = self.filter.push(&text)?;
                    self.text(&text);
                }
                Part::Call(call) => {
                    let rest = self.filter.finish()?;
                    self.text(&rest);
                    self.call(&call);
                }
            }
        }
        Ok(())
    }

    fn text(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        let id = match &self.open {
            Some((id, _)) => id.clone(),
            None => self.begin_message(),
        };
        self.send_of_item(
            "response.output_text.delta",
            &id,
            json!({ "content_index": 0, "delta": text, "logprobs": [] }),
        );
        if let Some((_, said)) = &mut self.open {
            *said += text;
        }
    }

    fn begin_message(&mut self) -> String {
        let id = new_id("msg");
        let item = message_item(&id, "in_progress", &[]);
        self.send_of_item("response.output_item.added", &id, json!({ "item": item }));
        self.send_of_item(
            "response.content_part.added",
            &id,
            json!({ "content_index": 0, "part": text_part("") }),
        );
        self.open = Some((id.clone(), String::new()));
        id
    }

    fn end_message(&mut self) {
        let Some((id, said)) = self.open.take() else { return };
        let part = text_part(&said);
        self.send_of_item(
            "response.output_text.done",
            &id,
            json!({ "content_index": 0, "text": said, "logprobs": [] }),
        );
        self.send_of_item("response.content_part.done", &id, json!({ "content_index": 0, "part": part }));
        let item = message_item(&id, "completed", &[part]);
        self.send_of_item("response.output_item.done", &id, json!({ "item": item }));
        self.output.push(item);
    }

    fn call(&mut self, call: &Value) {
        self.end_message();
        let id = new_id("fc");
        let (arguments, name) = (&call["function"]["arguments"], &call["function"]["name"]);
        let mut item = call_item(&id, "in_progress", call);
        item["arguments"] = "".into();
        self.send_of_item("response.output_item.added", &id, json!({ "item": item }));
        self.send_of_item("response.function_call_arguments.delta", &id, json!({ "delta": arguments }));
        let whole = json!({ "arguments": arguments, "name": name });
        self.send_of_item("response.function_call_arguments.done", &id, whole);
        let item = call_item(&id, "completed", call);
        self.send_of_item("response.output_item.done", &id, json!({ "item": item }));
        self.output.push(item);
    }

    fn end(&mut self, finish: &str, usage: &Usage) -> Result<(), ApiError> {
        let parts = self.reader.finish();
        self.parts(parts)?;
        let rest = self.filter.finish()?;
        self.text(&rest);
        if self.open.is_none() && self.output.is_empty() {
            self.begin_message();
        }
        self.end_message();
        let kind = if finish == "length" { "response.incomplete" } else { "response.completed" };
        let whole = self.frame.json(&self.output, Some((finish, usage)));
        self.send(kind, json!({ "response": whole }));
        Ok(())
    }
}
